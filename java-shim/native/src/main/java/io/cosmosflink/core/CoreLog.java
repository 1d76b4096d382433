package io.cosmosflink.core;

import java.time.Instant;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntFunction;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Carries the core's own log events over to SLF4J, so that they are in Flink's log. */
final class CoreLog {
    private static final Logger ROOT = LoggerFactory.getLogger("io.cosmosflink.core.log");
    private static final long PAUSE_NANOS = 1_000_000_000L;
    /** Events of one drain; the core's ring holds about as many. */
    private static final int MAX = 1024;

    private final IntFunction<byte[]> source;
    private final AtomicLong last = new AtomicLong(System.nanoTime() - PAUSE_NANOS);

    CoreLog(IntFunction<byte[]> source) {
        this.source = source;
    }

    /** The level that SLF4J would show, in the core's numbers. */
    static int level() {
        return ROOT.isTraceEnabled()
                ? 5
                : ROOT.isDebugEnabled() ? 4 : ROOT.isInfoEnabled() ? 3 : ROOT.isWarnEnabled() ? 2 : 1;
    }

    void drain(boolean now) {
        long before = last.get();
        long time = System.nanoTime();
        if ((!now && time - before < PAUSE_NANOS) || !last.compareAndSet(before, time)) {
            return;
        }
        forward(FrameReader.open(source.apply(MAX), FrameKind.LOG));
    }

    private static void forward(FrameReader in) {
        long dropped = in.u64();
        int n = in.count(17);
        for (int i = 0; i < n; i++) {
            int level = in.u8();
            long millis = in.u64();
            Logger log = LoggerFactory.getLogger(
                    "io.cosmosflink.core.log." + in.str().replace("::", "."));
            String message = in.str();
            // The event may be a second older than the line in the log.
            Instant time = Instant.ofEpochMilli(millis);
            switch (level) {
                case 1 -> log.error("{} (at {})", message, time);
                case 2 -> log.warn("{} (at {})", message, time);
                case 3 -> log.info("{} (at {})", message, time);
                case 4 -> log.debug("{} (at {})", message, time);
                default -> log.trace("{} (at {})", message, time);
            }
        }
        if (dropped > 0) {
            ROOT.warn(
                    "{} log events of the core were dropped because they came faster than they were fetched", dropped);
        }
    }
}
