package io.cosmosflink.core;

import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/** Keeps something that may happen for every record from flooding a log. For one thread. */
@Internal
public final class Seldom {
    private static final long PAUSE_NANOS = TimeUnit.SECONDS.toNanos(10);

    private final LongSupplier nanoTime;
    private boolean said;
    private long last;
    private long count;

    public Seldom() {
        this(System::nanoTime);
    }

    Seldom(LongSupplier nanoTime) {
        this.nanoTime = nanoTime;
    }

    /** How often it has happened since it was last said, when it is time to say so, which is every ten seconds at most; else 0. */
    public long happened() {
        count++;
        long now = nanoTime.getAsLong();
        if (said && now - last < PAUSE_NANOS) {
            return 0;
        }
        said = true;
        last = now;
        long since = count;
        count = 0;
        return since;
    }
}
