package io.cosmosflink.core;

import java.util.Map;
import java.util.function.LongConsumer;
import java.util.function.LongSupplier;

/**
 * Tells the split enumerator how far a reader is behind, seldom: at its first look, and when the lag has passed the threshold of
 * {@code scan.backlog-threshold}, or half of it. The core's coordinator decides what that means. Nothing is told of a source that ends.
 *
 * <p>One thread looks.
 */
@Internal
public final class LagReports {
    private static final String THRESHOLD = "scan.backlog-threshold";

    private final long threshold;
    private final LongConsumer send;
    /** Where the lag was when it was last told: 0 below half of the threshold, 1 below it, 2 beyond; -1 before the first report. */
    private int told = -1;

    /**
     * @param options validated
     * @param send tells the enumerator the lag in milliseconds
     */
    public LagReports(Map<String, String> options, LongConsumer send) {
        this.threshold = Reading.isBounded(options) ? 0 : Long.parseLong(options.getOrDefault(THRESHOLD, "0"));
        this.send = send;
    }

    /**
     * Looks how far the reader is behind.
     *
     * @param lagMillis that of the splits that are not held back; not asked for where nobody wants to know
     */
    void look(LongSupplier lagMillis) {
        if (threshold > 0) {
            long lag = lagMillis.getAsLong();
            int place = lag >= threshold ? 2 : lag >= (threshold + 1) / 2 ? 1 : 0;
            if (place != told) {
                send.accept(lag);
                told = place;
            }
        }
    }
}
