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
    /** What the core left out so far, and how much of it is counted as errors. */
    private volatile long leftOut;

    private long leftOutCounted;
    /** Documents that the deserializer could not use. */
    private volatile long notDeserialized;

    SourceMetrics(SourceReaderMetricGroup group) {
        super(group);
        recordsIn = group.getIOMetricGroup().getNumRecordsInCounter();
        bytesIn = group.getIOMetricGroup().getNumBytesInCounter();
        errors = group.getNumRecordsInErrorsCounter();
        // No pendingBytes and no pendingRecords: they mean what the service still holds, of which it says neither.
        group.<Long, Gauge<Long>>gauge("currentFetchEventTimeLag", () -> fetchLagMillis);
    }

    @Override
    void addTo(MetricGroup group) {
        group.<Double, Gauge<Double>>gauge("lagSeconds", () -> value(Field.LAG_MILLIS) / 1000.0);
        gauge(group, "splits", Field.SPLITS);
        gauge(group, "splitsPaused", Field.SPLITS_PAUSED);
        group.<Long, Gauge<Long>>gauge("undecodable", () -> value(Field.UNDECODABLE) + notDeserialized);
    }

    /** On the fetcher's thread. */
    void fetched(Page page) {
        if (page.newestSeconds() > 0) {
            fetchLagMillis = Math.max(0, page.arrivedMillis() - page.newestSeconds() * 1000);
        }
    }

    /** On the fetcher's thread, before the page that lacks them is handed over. */
    void leftOut(long documents) {
        leftOut = documents;
    }

    /** On the task's thread. Flink has counted the page as one record already. */
    void emitted(Page page) {
        recordsIn.inc(page.count() - 1L);
        bytesIn.inc(page.length());
        long now = leftOut;
        // A second handle counts from 0 again.
        errors.inc(now < leftOutCounted ? now : now - leftOutCounted);
        leftOutCounted = now;
    }

    /**
     * A document of a page could not be decoded. On the task's thread.
     *
     * @param byCore whether the core has counted it
     */
    void undecodable(boolean byCore) {
        errors.inc();
        if (!byCore) {
            notDeserialized++;
        }
    }
}
