package io.cosmosflink.core;

import java.util.Arrays;

/** A snapshot of a handle's metrics, in the order of the core's table. */
public final class CoreMetrics {
    /** Before the first snapshot: everything is 0. */
    public static final CoreMetrics NONE = new CoreMetrics(new long[0]);

    /** A long, or the bits of a double where the table says so. */
    private final long[] values;

    private CoreMetrics(long[] values) {
        this.values = values;
    }

    static CoreMetrics decode(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.METRICS);
        long[] values = new long[in.count(8)];
        Arrays.setAll(values, i -> in.u64());
        return new CoreMetrics(values);
    }

    /** A value: a {@link Double} for a decimal metric, else a {@link Long}. */
    public Number get(CoreMetric metric) {
        long value = metric.place() < values.length ? values[metric.place()] : 0;
        if (metric.decimal()) {
            return Double.longBitsToDouble(value);
        }
        return value;
    }
}
