package io.cosmosflink.core;

import java.util.List;
import java.util.concurrent.TimeUnit;

/** What the gauges of a reader or writer show: the metrics of its handle, of a snapshot that is at most a second old. Thread-safe. */
@Internal
public class LiveMetrics {
    private static final long FRESH_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final List<CoreMetric> gauges;
    private volatile Core.Handle handle;
    private CoreMetrics snapshot = CoreMetrics.NONE;
    private long taken;

    /** @param role source or sink */
    public LiveMetrics(Core core, Core.Role role) {
        gauges = core.metricTable().stream().filter(row -> row.isOf(role)).toList();
    }

    /** What is to be shown. */
    public final List<CoreMetric> gauges() {
        return gauges;
    }

    /** A value as it is now: a {@link Double} for a decimal metric, else a {@link Long}. */
    public Number value(CoreMetric metric) {
        return current().get(metric);
    }

    /** What is known of a split, by its id. */
    public final CoreMetrics.SplitLag ofSplit(String splitId) {
        return current().ofSplit(splitId);
    }

    /** From now on the values are those of this handle. */
    public final void follow(Core.Handle open) {
        handle = open;
    }

    /** The handle is about to be closed; its last values stay, unless those of another one are shown by now. */
    public final void forget(Core.Handle closing) {
        if (handle == closing) {
            // A moment ago there may have been a lag that is none any more.
            look(0);
            handle = null;
        }
    }

    final CoreMetrics current() {
        return look(FRESH_NANOS);
    }

    /** Snapshot that is at most so old. */
    private synchronized CoreMetrics look(long nanos) {
        Core.Handle open = handle;
        long now = System.nanoTime();
        if (open != null && (snapshot == CoreMetrics.NONE || now - taken > nanos)) {
            try {
                snapshot = open.metrics();
                taken = now;
            } catch (CosmosException e) {
                // Closed in between: the last values stay.
                handle = null;
            }
        }
        return snapshot;
    }
}
