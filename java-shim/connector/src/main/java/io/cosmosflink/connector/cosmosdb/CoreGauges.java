package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CoreMetric;
import io.cosmosflink.core.LiveMetrics;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;

/** The core's metrics as gauges. */
final class CoreGauges {
    private CoreGauges() {}

    /**
     * Registers what is known of one split in the group {@code cosmosdb.split.ID} of an operator. No name ends like one of Flink's own:
     * what sums those up would count it twice.
     */
    static void register(MetricGroup operator, String splitId, LiveMetrics metrics) {
        MetricGroup group = operator.addGroup("cosmosdb").addGroup("split", splitId);
        group.<Double, Gauge<Double>>gauge(
                "lagSeconds", () -> metrics.ofSplit(splitId).lagMillis() / 1000.0);
        group.<Long, Gauge<Long>>gauge(
                "lagRecords", () -> metrics.ofSplit(splitId).records());
    }

    /** Registers them in the group {@code cosmosdb} of an operator. */
    static void register(MetricGroup operator, LiveMetrics metrics) {
        MetricGroup group = operator.addGroup("cosmosdb");
        for (CoreMetric metric : metrics.gauges()) {
            group.<Number, Gauge<Number>>gauge(metric.name(), () -> metrics.value(metric));
        }
    }
}
