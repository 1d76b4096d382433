package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class RecordFailuresTest {
    @Test
    void anErrorOfTheTaskOrAnInterruptIsNotTheRecordsHoweverItIsWrapped() {
        assertThat(RecordFailures.isOfRecord(new IOException("bad"))).isTrue();
        assertThat(RecordFailures.isOfRecord(new StackOverflowError())).isTrue();
        assertThat(RecordFailures.isOfRecord(new IllegalStateException(new StackOverflowError())))
                .isTrue();
        for (Throwable everybodys : new Throwable[] {
            new AssertionError(),
            new OutOfMemoryError(),
            new InterruptedException(),
            new NotOfRecordException("x", null)
        }) {
            assertThat(RecordFailures.isOfRecord(everybodys)).isFalse();
            assertThat(RecordFailures.isOfRecord(new IOException(new IllegalStateException(everybodys))))
                    .isFalse();
        }
        Thread.currentThread().interrupt();
        assertThat(RecordFailures.isOfRecord(new IOException("bad"))).isFalse();
        assertThat(Thread.interrupted()).isTrue();
    }

    private static final class Holding extends RuntimeException {
        private static final long serialVersionUID = 1L;

        @SuppressWarnings("unused") // It is what makes the exception large.
        private final byte[] document = new byte[1 << 20];

        Holding(Throwable cause) {
            super("holds its document", cause);
        }
    }

    @Test
    void onlyWhatIsLargeIsReplaced() {
        IOException small = new IOException("small", new IllegalStateException("cause"));
        assertThat(RecordFailures.small(small)).isSameAs(small);
        assertThat(RecordFailures.small(null)).isNull();
        Throwable copy = RecordFailures.small(new Holding(new IllegalStateException("x".repeat(1 << 20))));
        assertThat(copy)
                .isNotInstanceOf(Holding.class)
                .hasMessageContainingAll("Holding", "holds its document")
                .satisfies(e -> assertThat(e.getStackTrace()).isNotEmpty());
        assertThat(copy.getCause().getMessage())
                .startsWith("java.lang.IllegalStateException: xxx")
                .hasSizeLessThan(5000);
    }

    @Test
    void aLogIsToldSeldom() {
        AtomicLong now = new AtomicLong(Long.MAX_VALUE - 5);
        Seldom seldom = new Seldom(now::get);
        assertThat(seldom.happened()).isOne();
        for (int i = 0; i < 99; i++) {
            assertThat(seldom.happened()).isZero();
        }
        now.addAndGet(TimeUnit.SECONDS.toNanos(10));
        assertThat(seldom.happened()).isEqualTo(100);
    }

    @Test
    void aLongFlushIsNoticedOnceAMinute() {
        AtomicLong now = new AtomicLong(Long.MAX_VALUE - 5);
        FlushWatch watch = new FlushWatch(now::get);
        assertThat(watch.overdueSeconds()).isZero();
        watch.began();
        now.addAndGet(TimeUnit.SECONDS.toNanos(9));
        assertThat(watch.overdueSeconds()).isZero();
        now.addAndGet(TimeUnit.SECONDS.toNanos(2));
        assertThat(watch.overdueSeconds()).isEqualTo(11);
        assertThat(watch.overdueSeconds()).isZero();
        now.addAndGet(TimeUnit.SECONDS.toNanos(60));
        assertThat(watch.overdueSeconds()).isEqualTo(71);
        watch.ended();
        now.addAndGet(TimeUnit.SECONDS.toNanos(600));
        assertThat(watch.overdueSeconds()).isZero();
    }
}
