package io.cosmosflink.core;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/** A snapshot of a handle's metrics, in the order of the core's table. */
@Internal
public final class CoreMetrics {
    /** Before the first snapshot: everything is 0. */
    public static final CoreMetrics NONE = new CoreMetrics(new long[0], Map.of());

    /** A long, or the bits of a double where the table says so. */
    private final long[] values;

    private final Map<String, SplitLag> splits;

    private CoreMetrics(long[] values, Map<String, SplitLag> splits) {
        this.values = values;
        this.splits = splits;
    }

    /**
     * How far one split is behind.
     *
     * @param lagMillis how old what it has reached is, in milliseconds; 0 at its end
     * @param records estimate of the documents that the job has not got yet
     */
    public record SplitLag(long lagMillis, long records) {
        /** Of a split that is not read here, or not yet. */
        public static final SplitLag NONE = new SplitLag(0, 0);
    }

    static CoreMetrics decode(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.METRICS);
        long[] values = new long[in.count(8)];
        Arrays.setAll(values, i -> in.u64());
        int n = in.count(20);
        Map<String, SplitLag> splits = new HashMap<>(2 * n);
        for (int i = 0; i < n; i++) {
            splits.put(in.str(), new SplitLag(in.u64(), in.u64()));
        }
        return new CoreMetrics(values, splits);
    }

    /** What is known of a split, by its id. */
    public SplitLag ofSplit(String splitId) {
        return splits.getOrDefault(splitId, SplitLag.NONE);
    }

    /** The splits of the reader, by id. */
    Map<String, SplitLag> splits() {
        return splits;
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
