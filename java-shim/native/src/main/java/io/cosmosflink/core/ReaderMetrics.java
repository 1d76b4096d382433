package io.cosmosflink.core;

import java.util.List;
import java.util.Set;

/** The metrics of a reader: those of its handle, and what is counted on this side of the boundary. */
@Internal
public final class ReaderMetrics extends LiveMetrics {
    private final CoreMetric undecodable;
    private final CoreMetric pendingRecords;
    private final CoreMetric pendingBytes;
    private volatile long fetchLagMillis;
    /** What the core left out so far, with all handles. */
    private volatile long leftOut;
    /** How much of it is counted as errors. */
    private long leftOutCounted;
    /** The handle whose pages come, and what it left out so far. */
    private Core.SourceHandle current;

    private long leftOutByCurrent;
    /** Documents that the job could not use although the core could. */
    private volatile long notUsed;

    public ReaderMetrics(Core core) {
        super(core, Core.Role.SOURCE);
        List<CoreMetric> table = core.metricTable();
        undecodable = CoreMetric.named(table, "undecodable");
        pendingRecords = CoreMetric.named(table, "pendingRecords");
        pendingBytes = CoreMetric.named(table, "pendingBytes");
    }

    @Override
    public Number value(CoreMetric metric) {
        Number value = super.value(metric);
        // Not equals: a record's own is made by the JDK, which keeps the last class that it was made for, and so a
        // job's class loader.
        if (metric.place() == undecodable.place()) {
            return value.longValue() + notUsed;
        }
        return value;
    }

    /** Flink's {@code pendingRecords}: an estimate of what the job has not got yet. Never negative. */
    public long pendingRecords() {
        return value(pendingRecords).longValue();
    }

    /** Flink's {@code pendingBytes}: an estimate of the bytes of those. Never negative. */
    public long pendingBytes() {
        return value(pendingBytes).longValue();
    }

    /**
     * How far the split that is furthest behind is behind, in milliseconds, leaving out those that are held back: they are behind because the
     * job wants them to be.
     *
     * @param heldBack ids of splits
     */
    long lagMillis(Set<String> heldBack) {
        return current().splits().entrySet().stream()
                .filter(split -> !heldBack.contains(split.getKey()))
                .mapToLong(split -> split.getValue().lagMillis())
                .max()
                .orElse(0);
    }

    /** From the newest document of the last page to the page's arrival. */
    public long fetchLagMillis() {
        return fetchLagMillis;
    }

    /**
     * A page has come. On the fetcher's thread, before the page is handed over; fetchers follow one another.
     *
     * @param leavesOut whether the core leaves out what it cannot decode, so that the page may lack documents
     */
    @SuppressWarnings("NonAtomicOperationOnVolatileField") // One thread writes.
    void fetched(Page page, Core.SourceHandle source, boolean leavesOut) {
        if (page.newestSeconds() > 0) {
            fetchLagMillis = Math.max(0, page.arrivedMillis() - page.newestSeconds() * 1000);
        }
        if (leavesOut) {
            long now = source.metrics().get(undecodable).longValue();
            // Each handle counts from 0.
            leftOut += source == current ? now - leftOutByCurrent : now;
            current = source;
            leftOutByCurrent = now;
        }
    }

    /** Documents that the core has left out since the last call. On the task's thread, once for each page that was emitted. */
    public long newlyLeftOut() {
        long now = leftOut;
        long more = now - leftOutCounted;
        leftOutCounted = now;
        return more;
    }

    /**
     * A document of a page could not be decoded. On the task's thread.
     *
     * @param byCore whether the core has counted it
     */
    @SuppressWarnings("NonAtomicOperationOnVolatileField") // One thread writes.
    public void undecodable(boolean byCore) {
        if (!byCore) {
            notUsed++;
        }
    }
}
