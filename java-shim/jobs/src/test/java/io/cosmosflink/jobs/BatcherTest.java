package io.cosmosflink.jobs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.Operation;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class BatcherTest {
    private final List<List<String>> sent = new CopyOnWriteArrayList<>();
    private volatile Function<List<String>, CompletableFuture<Void>> answer =
            batch -> CompletableFuture.completedFuture(null);

    private final Transport transport = new Transport() {
        @Override
        public CompletableFuture<Void> send(List<byte[]> events) {
            List<String> batch = events.stream()
                    .map(e -> new String(e, StandardCharsets.UTF_8))
                    .toList();
            sent.add(batch);
            return answer.apply(batch);
        }

        @Override
        public void close() {}
    };

    private Batcher batcher(int deadlineMillis) {
        return new Batcher(transport, 3, 2, Duration.ofMillis(deadlineMillis));
    }

    private static List<CompletableFuture<Void>> offer(Batcher batcher, int events) {
        return IntStream.range(0, events)
                .mapToObj(i ->
                        batcher.offer(Operation.upsert("" + i, "[\"k\"]", ("e" + i).getBytes(StandardCharsets.UTF_8))))
                .toList();
    }

    private static void all(List<CompletableFuture<Void>> futures) throws Exception {
        CompletableFuture.allOf(futures.toArray(new CompletableFuture<?>[0])).get(20, TimeUnit.SECONDS);
    }

    @Test
    void fullBatchesGoAtOnceAndTheRestAfterAWhile() throws Exception {
        try (Batcher batcher = batcher(1000)) {
            all(offer(batcher, 7));
        }
        // The order of batches that are under way together is not certain.
        assertThat(sent.stream().flatMap(List::stream))
                .containsExactlyInAnyOrder("e0", "e1", "e2", "e3", "e4", "e5", "e6");
        assertThat(sent).allSatisfy(batch -> assertThat(batch.size()).isLessThanOrEqualTo(3));
    }

    @Test
    void onlySoManyBatchesAreUnderWay() throws Exception {
        List<CompletableFuture<Void>> open = new CopyOnWriteArrayList<>();
        answer = batch -> {
            open.add(new CompletableFuture<>());
            return open.get(open.size() - 1);
        };
        try (Batcher batcher = batcher(1000)) {
            List<CompletableFuture<Void>> futures = offer(batcher, 9);
            // What the timer does with a batch that is not full.
            batcher.lingered();
            assertThat(sent).hasSize(2);
            assertThat(futures).noneMatch(CompletableFuture::isDone);
            open.get(0).complete(null);
            assertThat(sent).hasSize(3);
            open.forEach(f -> f.complete(null));
            all(futures);
        }
    }

    @Test
    void whatFailsIsSentAgainUntilItPasses() throws Exception {
        long up = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(600);
        answer = batch -> System.nanoTime() < up
                ? CompletableFuture.failedFuture(new IOException("down"))
                : CompletableFuture.completedFuture(null);
        try (Batcher batcher = batcher(20_000)) {
            all(offer(batcher, 3));
            assertThat(batcher.retries()).isPositive();
        }
        assertThat(sent).allMatch(batch -> batch.equals(List.of("e0", "e1", "e2")));
    }

    @Test
    void afterTheDeadlineTheFailureSaysWhat() {
        answer = batch -> CompletableFuture.failedFuture(new IOException("connection refused"));
        try (Batcher batcher = batcher(300)) {
            assertThatThrownBy(() -> all(offer(batcher, 1)))
                    .hasMessageContainingAll("job.consumer-deadline-ms (300)", "connection refused");
        }
    }

    /** Also on the timer's thread, where nobody looks at what is thrown. */
    @Test
    void anErrorOfTheTransportEndsLikeAnyFailure() {
        answer = batch -> {
            throw new NoClassDefFoundError("a/Lost");
        };
        try (Batcher batcher = batcher(300)) {
            assertThatThrownBy(() -> all(offer(batcher, 3)))
                    .hasMessageContainingAll("job.consumer-deadline-ms (300)", "a/Lost");
            assertThat(batcher.retries()).isPositive();
        }
    }

    @Test
    void aRefusedBatchIsHalvedUntilTheBadEventNamesItself() throws Exception {
        answer = batch -> batch.contains("e1")
                ? CompletableFuture.failedFuture(new Transport.RefusedException("400 bad"))
                : CompletableFuture.completedFuture(null);
        try (Batcher batcher = batcher(1000)) {
            List<CompletableFuture<Void>> futures = offer(batcher, 3);
            futures.get(0).get(5, TimeUnit.SECONDS);
            futures.get(2).get(5, TimeUnit.SECONDS);
            assertThatThrownBy(() -> futures.get(1).get(5, TimeUnit.SECONDS)).hasMessageContainingAll("'1'", "400 bad");
            answer = batch -> CompletableFuture.completedFuture(null);
            // The places of the halves are free again.
            List<CompletableFuture<Void>> more = new ArrayList<>(offer(batcher, 12));
            all(more);
        }
    }

    @Test
    void anArrayIsOneJsonArray() {
        assertThat(Transport.array(List.of())).asString().isEqualTo("[]");
        assertThat(Transport.array(List.of("{}".getBytes(), "{\"a\":1}".getBytes())))
                .asString()
                .isEqualTo("[{},{\"a\":1}]");
    }
}
