package io.cosmosflink.core;

import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * Notices a flush that takes long, which holds the checkpoint back. The task's thread begins and ends flushes, another one asks.
 */
@Internal
public final class FlushWatch {
    private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(10);
    private static final long AGAIN_NANOS = TimeUnit.SECONDS.toNanos(60);

    private final LongSupplier nanoTime;
    private boolean flushing;
    private long began;
    private long sayAt;

    public FlushWatch() {
        this(System::nanoTime);
    }

    FlushWatch(LongSupplier nanoTime) {
        this.nanoTime = nanoTime;
    }

    public synchronized void began() {
        flushing = true;
        began = nanoTime.getAsLong();
        sayAt = began + PATIENCE_NANOS;
    }

    public synchronized void ended() {
        flushing = false;
    }

    /** Seconds that the flush under way has taken, when it is time to say so, which is after ten seconds and then once a minute; else 0. */
    public synchronized long overdueSeconds() {
        long now = nanoTime.getAsLong();
        if (!flushing || now - sayAt < 0) {
            return 0;
        }
        sayAt = now + AGAIN_NANOS;
        return TimeUnit.NANOSECONDS.toSeconds(now - began);
    }
}
