package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.PerOperator;
import java.util.function.LongSupplier;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;

/**
 * The gauge of splits that no reader has. After a global failover there is a new enumerator, and under the adaptive scheduler a new
 * source too, but the job's metric group keeps the gauge that it has: so one gauge serves all enumerators of an operator, and holds none
 * that is closed.
 */
final class UnassignedSplits implements Gauge<Long> {
    private static final PerOperator<UnassignedSplits> ALL = new PerOperator<>();

    private LongSupplier living;
    private boolean begun;

    /** That of the operator whose enumerators have this group. */
    static UnassignedSplits of(MetricGroup enumerator) {
        return ALL.of(enumerator.getAllVariables(), UnassignedSplits::new);
    }

    /** Whether this is the first enumerator of the operator to ask, so that the job has not been restarted here. */
    synchronized boolean begin() {
        boolean first = !begun;
        begun = true;
        return first;
    }

    /** From now on the gauge shows this enumerator's number. */
    synchronized void follow(LongSupplier number) {
        living = number;
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
