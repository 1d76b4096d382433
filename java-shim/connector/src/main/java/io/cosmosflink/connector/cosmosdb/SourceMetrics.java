package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.PerOwner;
import io.cosmosflink.core.ReaderMetrics;
import java.util.HashSet;
import java.util.Set;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.SourceReaderMetricGroup;

/**
 * The metrics of a reader: FLIP-33's and the core's. The task's thread calls the methods.
 *
 * <p>A metric group keeps the first gauge of a name. Where several readers of one task follow one another, as in a {@code HybridSource},
 * they share these, which show the reader that reads.
 */
final class SourceMetrics {
    private static final PerOwner<SourceReaderMetricGroup, SourceMetrics> ALL = new PerOwner<>();

    private final ReaderMetrics metrics;
    private final MetricGroup group;
    private final Set<String> splits = new HashSet<>();
    private final Counter recordsIn;
    private final Counter bytesIn;
    private final Counter errors;

    /** Those of the readers with this group. */
    static SourceMetrics of(Core core, SourceReaderMetricGroup group) {
        return ALL.of(group, () -> new SourceMetrics(core, group));
    }

    private SourceMetrics(Core core, SourceReaderMetricGroup group) {
        metrics = new ReaderMetrics(core);
        this.group = group;
        CoreGauges.register(group, metrics);
        recordsIn = group.getIOMetricGroup().getNumRecordsInCounter();
        bytesIn = group.getIOMetricGroup().getNumBytesInCounter();
        errors = group.getNumRecordsInErrorsCounter();
        // The group holds this object by its gauges.
        group.setPendingRecordsGauge(this::pendingRecords);
        group.setPendingBytesGauge(this::pendingBytes);
        group.<Long, Gauge<Long>>gauge("currentFetchEventTimeLag", this::fetchLagMillis);
    }

    private long pendingRecords() {
        return metrics.pendingRecords();
    }

    private long pendingBytes() {
        return metrics.pendingBytes();
    }

    private long fetchLagMillis() {
        return metrics.fetchLagMillis();
    }

    ReaderMetrics ofCore() {
        return metrics;
    }

    /** The reader has this split from now on. Its gauges stay when it ends, and show 0 from the next look at the core on. */
    void reads(String splitId) {
        if (splits.add(splitId)) {
            CoreGauges.register(group, splitId, metrics);
        }
    }

    /** Flink has counted the page as one record already. */
    void emitted(Page page) {
        recordsIn.inc(page.count() - 1L);
        bytesIn.inc(page.length());
        errors.inc(metrics.newlyLeftOut());
    }

    /**
     * A document of a page could not be decoded.
     *
     * @param byCore whether the core has counted it
     */
    void undecodable(boolean byCore) {
        errors.inc();
        metrics.undecodable(byCore);
    }
}
