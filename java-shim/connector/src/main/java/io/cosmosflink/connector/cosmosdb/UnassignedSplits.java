package io.cosmosflink.connector.cosmosdb;

import java.util.function.LongSupplier;
import org.apache.flink.metrics.Gauge;

/**
 * The gauge of splits that no reader has. After a global failover there is a new enumerator, but the job's metric group keeps the gauge
 * that it has: so one gauge serves all enumerators of a source, and holds none that is closed.
 */
final class UnassignedSplits implements Gauge<Long> {
    private LongSupplier living;
    private boolean followed;

    /**
     * From now on the gauge shows this enumerator's number.
     *
     * @return whether it is the first enumerator of the source, so that the job has not been restarted here
     */
    synchronized boolean follow(LongSupplier number) {
        boolean first = !followed;
        followed = true;
        living = number;
        return first;
    }

    /** The enumerator is closed; its successor may be there already. */
    synchronized void forget(LongSupplier number) {
        if (living == number) {
            living = null;
        }
    }

    @Override
    public synchronized Long getValue() {
        return living == null ? 0L : living.getAsLong();
    }
}
