package io.cosmosflink.core;

import java.util.Arrays;

/** A snapshot of a handle's counters, in the order of {@code docs/boundary.md}. */
public final class CoreMetrics {
    /** A counter's or gauge's place in the frame. */
    public enum Field {
        REQUESTS,
        /** In thousandths of a request unit. */
        REQUEST_CHARGE_MILLI,
        THROTTLED,
        RETRIES,
        BYTES_RECEIVED,
        BYTES_SENT,
        BYTES_BUFFERED,
        REQUESTS_IN_FLIGHT,
        RECORDS,
        OPERATIONS_WAITING,
        FAILED,
        SKIPPED,
        DEAD_LETTERED,
        LAG_MILLIS,
        SPLITS,
        SPLITS_PAUSED,
        BULK_REQUESTS,
        POINT_REQUESTS,
        /** Bulk requests that the service refused as a whole. */
        BULK_REFUSED,
        /** Partitions whose operations go one by one now. */
        BULK_OFF,
        /** Documents that could not be decoded and were skipped or handed over raw. */
        UNDECODABLE,
        /** How long what is throttled or failing longest has been held up; 0 when nothing is. */
        HELD_MILLIS
    }

    /** Before the first snapshot. */
    public static final CoreMetrics NONE = new CoreMetrics(new long[0]);

    private static final int FIELDS = Field.values().length;
    private final long[] values;

    CoreMetrics(long[] values) {
        this.values = values;
    }

    static CoreMetrics decode(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.METRICS);
        long[] values = new long[in.count(8)];
        Arrays.setAll(values, i -> in.u64());
        return new CoreMetrics(values);
    }

    /** A value, 0 when an older library does not give it. */
    public long get(Field field) {
        return field.ordinal() < values.length ? values[field.ordinal()] : 0;
    }

    /**
     * Upper bound, in milliseconds, of the request latency that {@code quantile} (0 to 1) of all requests kept; 0 before the first
     * request. Buckets double, so the true value is at least half of it.
     */
    public double latencyMillis(double quantile) {
        long total = 0;
        for (int i = FIELDS; i < values.length; i++) {
            total += values[i];
        }
        long wanted = (long) Math.ceil(total * quantile);
        for (int i = FIELDS; i < values.length; i++) {
            wanted -= values[i];
            if (wanted <= 0 && total > 0) {
                return (1L << (i - FIELDS)) / 1000.0;
            }
        }
        return 0;
    }
}
