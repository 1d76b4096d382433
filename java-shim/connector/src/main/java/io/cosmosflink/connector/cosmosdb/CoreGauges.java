package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CoreMetric;
import io.cosmosflink.core.LiveMetrics;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;

/** The core's metrics as gauges. */
final class CoreGauges {
    private CoreGauges() {}

    /** Registers them in the group {@code cosmosdb} of an operator. */
    static void register(MetricGroup operator, LiveMetrics metrics) {
        MetricGroup group = operator.addGroup("cosmosdb");
        for (CoreMetric metric : metrics.gauges()) {
            group.<Number, Gauge<Number>>gauge(metric.name(), () -> metrics.value(metric));
        }
    }
}
