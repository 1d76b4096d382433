package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** That every future ends, whatever becomes of the core. */
@Timeout(60)
class LookupsTest {
    /** Answers with what a test says: the numbers of keys that are found, a failure for all others. */
    private static final class FakeHandle implements Core.LookupHandle {
        final BlockingQueue<Object> polled = new LinkedBlockingQueue<>();
        RuntimeException refusal;
        volatile boolean closed;

        @Override
        public void lookUp(LookupKeys keys) {
            if (refusal != null) {
                throw refusal;
            }
        }

        @Override
        public Answers pollAnswers(long timeoutMillis) {
            try {
                Object next = polled.poll(timeoutMillis, TimeUnit.MILLISECONDS);
                if (next instanceof RuntimeException failure) {
                    throw failure;
                }
                return next == null ? answers() : (Answers) next;
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        @Override
        public boolean awaitOpen(long timeoutMillis) {
            return true;
        }

        @Override
        public CoreMetrics metrics() {
            return CoreMetrics.NONE;
        }

        @Override
        public void wakeUp() {
            polled.add(answers());
        }

        @Override
        public void close() {
            closed = true;
        }
    }

    private final FakeHandle handle = new FakeHandle();

    private final Core core = (Core) Proxy.newProxyInstance(
            getClass().getClassLoader(),
            new Class<?>[] {Core.class},
            (proxy, method, arguments) -> switch (method.getName()) {
                case "openLookup" -> handle;
                case "metricTable" -> List.of();
                default -> null;
            });

    /** An ANSWERED frame of keys without rows. */
    private static Answers answers(long... numbers) {
        FrameWriter out = FrameWriter.frame(FrameKind.ANSWERED)
                .u32(numbers.length)
                .u32(24)
                .u32(0)
                .u32(24)
                .u32(0);
        for (long number : numbers) {
            out.u64(number).u32(0).u32(0).u32(0).u32(0);
        }
        return new Answers(out.toBytes());
    }

    /** One of the key 0, that its container is gone, or that this document alone failed. */
    private static Answers failed(boolean outlivesRestart) {
        return new Answers(FrameWriter.frame(FrameKind.ANSWERED)
                .u32(1)
                .u32(24)
                .u32(0)
                .u32(24)
                .u32(0)
                .u64(0)
                .u32(0)
                .u32(0)
                .u32(48)
                .u32(0)
                .u8(CosmosException.Kind.NOT_FOUND.number)
                .u8(outlivesRestart ? 1 : 0)
                .u16(404)
                .u32(1003)
                .str("activity")
                .str("gone")
                .toBytes());
    }

    private Lookups<Integer> open(Lookups.Reader<Integer> reader) throws InterruptedException {
        return Lookups.open(
                core,
                Map.of("container", "c"),
                new byte[0],
                false,
                new int[] {0},
                reader,
                (failure, outlivesRestart) ->
                        outlivesRestart ? new IllegalStateException("for good: " + failure.getMessage()) : failure);
    }

    private Lookups<Integer> open() throws InterruptedException {
        return open((answers, answer) -> answers.rows(answer));
    }

    private static CompletableFuture<Integer> ask(Lookups<Integer> lookups) {
        return lookups.lookUp(key -> key.text("k"));
    }

    @Test
    void answersFindTheirKeys() throws Exception {
        try (Lookups<Integer> lookups = open()) {
            CompletableFuture<Integer> first = ask(lookups);
            CompletableFuture<Integer> second = ask(lookups);
            handle.polled.add(answers(1));
            assertThat(second.get()).isZero();
            assertThat(first).isNotDone();
            handle.polled.add(answers(0));
            assertThat(first.get()).isZero();
        }
        assertThat(handle.closed).isTrue();
    }

    @Test
    void whatTheCoreDoesNotTakeFailsAlone() throws Exception {
        try (Lookups<Integer> lookups = open()) {
            handle.refusal = new CosmosException("no frame", CosmosException.Kind.STATE);
            assertThat(ask(lookups)).isCompletedExceptionally();
            handle.refusal = null;
            assertThat(ask(lookups)).isNotDone();
        }
    }

    /** The shim decides what its runtime hears, and the core whether that is for good. */
    @Test
    void aFailureSaysWhetherARestartHelps() throws Exception {
        try (Lookups<Integer> lookups = open()) {
            CompletableFuture<Integer> first = ask(lookups);
            handle.polled.add(failed(true));
            assertThatThrownBy(first::get).cause().hasMessage("for good: gone");
        }
        try (Lookups<Integer> lookups = open()) {
            CompletableFuture<Integer> first = ask(lookups);
            handle.polled.add(failed(false));
            assertThatThrownBy(first::get).cause().isInstanceOfSatisfying(CosmosException.class, e -> assertThat(
                            e.kind())
                    .isEqualTo(CosmosException.Kind.NOT_FOUND));
        }
    }

    @Test
    void aCoreThatFailsEndsAllAndThoseThatComeLater() throws Exception {
        try (Lookups<Integer> lookups = open()) {
            CompletableFuture<Integer> waiting = ask(lookups);
            handle.polled.add(new CosmosException("gone", CosmosException.Kind.INTERNAL));
            assertThatThrownBy(waiting::get)
                    .isInstanceOf(ExecutionException.class)
                    .hasMessageContaining("gone");
            assertThatThrownBy(() -> ask(lookups).get(30, TimeUnit.SECONDS)).hasMessageContaining("gone");
        }
    }

    @Test
    void anAnswerThatNobodyAskedForEndsAll() throws Exception {
        try (Lookups<Integer> lookups = open()) {
            CompletableFuture<Integer> waiting = ask(lookups);
            handle.polled.add(answers(7));
            assertThatThrownBy(waiting::get).hasMessageContaining("key 7");
        }
    }

    @Test
    void rowsThatCannotBeReadEndAll() throws Exception {
        try (Lookups<Integer> lookups = open((answers, answer) -> {
            throw new IllegalArgumentException("no row");
        })) {
            CompletableFuture<Integer> one = ask(lookups);
            CompletableFuture<Integer> other = ask(lookups);
            handle.polled.add(answers(0));
            assertThatThrownBy(one::get).hasMessageContaining("no row");
            assertThatThrownBy(other::get).hasMessageContaining("no row");
        }
    }

    @Test
    void closingEndsAll() throws Exception {
        CompletableFuture<Integer> waiting;
        Lookups<Integer> lookups = open();
        waiting = ask(lookups);
        lookups.close();
        assertThatThrownBy(waiting::get).isInstanceOf(CancellationException.class);
        lookups.close();
        assertThatThrownBy(() -> ask(lookups).get(30, TimeUnit.SECONDS)).isInstanceOf(CancellationException.class);
    }
}
