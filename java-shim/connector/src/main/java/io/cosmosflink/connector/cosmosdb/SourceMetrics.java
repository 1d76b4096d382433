package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CoreMetrics.Field;
import io.cosmosflink.core.Page;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.SourceReaderMetricGroup;

/** The metrics of a reader: FLIP-33's and the core's. */
final class SourceMetrics extends CoreGauges {
    private final Counter recordsIn;
    private final Counter bytesIn;
    private final Counter errors;
    private volatile long fetchLagMillis;

    SourceMetrics(SourceReaderMetricGroup group) {
        super(group);
        recordsIn = group.getIOMetricGroup().getNumRecordsInCounter();
        bytesIn = group.getIOMetricGroup().getNumBytesInCounter();
        errors = group.getNumRecordsInErrorsCounter();
        group.setPendingBytesGauge(() -> value(Field.BYTES_BUFFERED));
        group.<Long, Gauge<Long>>gauge("currentFetchEventTimeLag", () -> fetchLagMillis);
    }

    @Override
    void addTo(MetricGroup group) {
        group.<Double, Gauge<Double>>gauge("lagSeconds", () -> value(Field.LAG_MILLIS) / 1000.0);
        gauge(group, "splits", Field.SPLITS);
        gauge(group, "splitsPaused", Field.SPLITS_PAUSED);
    }

    /** On the fetcher's thread. */
    void fetched(Page page) {
        if (page.newestSeconds() > 0) {
            fetchLagMillis = Math.max(0, page.arrivedMillis() - page.newestSeconds() * 1000);
        }
    }

    /** On the task's thread. Flink has counted the page as one record already. */
    void emitted(Page page) {
        recordsIn.inc(page.count() - 1L);
        bytesIn.inc(page.length());
    }

    void failed() {
        errors.inc();
    }
}
