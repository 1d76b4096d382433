package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreMetrics;
import io.cosmosflink.core.CoreMetrics.Field;
import io.cosmosflink.core.CosmosException;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;

/** Gauges of a handle's metrics in the group {@code cosmosdb}; the snapshot behind them is at most a second old. */
class CoreGauges {
    private static final long FRESH_NANOS = 1_000_000_000L;

    private volatile Core.Handle handle;
    private CoreMetrics snapshot = CoreMetrics.NONE;
    private long taken;

    CoreGauges(MetricGroup parent) {
        MetricGroup group = parent.addGroup("cosmosdb");
        gauge(group, "requests", Field.REQUESTS);
        group.<Double, Gauge<Double>>gauge("requestUnits", () -> value(Field.REQUEST_CHARGE_MILLI) / 1000.0);
        gauge(group, "throttled", Field.THROTTLED);
        gauge(group, "retries", Field.RETRIES);
        gauge(group, "bytesReceived", Field.BYTES_RECEIVED);
        gauge(group, "bytesSent", Field.BYTES_SENT);
        gauge(group, "bufferedBytes", Field.BYTES_BUFFERED);
        gauge(group, "requestsInFlight", Field.REQUESTS_IN_FLIGHT);
        gauge(group, "heldMillis", Field.HELD_MILLIS);
        group.<Double, Gauge<Double>>gauge(
                "requestLatencyP50Ms", () -> current().latencyMillis(0.5));
        group.<Double, Gauge<Double>>gauge(
                "requestLatencyP99Ms", () -> current().latencyMillis(0.99));
        addTo(group);
    }

    /** More gauges, of one sort of handle. */
    void addTo(MetricGroup group) {}

    final void gauge(MetricGroup group, String name, Field field) {
        group.<Long, Gauge<Long>>gauge(name, () -> value(field));
    }

    /** From now on the gauges show this handle. */
    final void follow(Core.Handle open) {
        handle = open;
    }

    /** The handle is about to be closed; the gauges keep its last values, unless they show another one by now. */
    final void forget(Core.Handle closing) {
        if (handle == closing) {
            current();
            handle = null;
        }
    }

    final long value(Field field) {
        return current().get(field);
    }

    private synchronized CoreMetrics current() {
        Core.Handle open = handle;
        long now = System.nanoTime();
        if (open != null && (snapshot == CoreMetrics.NONE || now - taken > FRESH_NANOS)) {
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
