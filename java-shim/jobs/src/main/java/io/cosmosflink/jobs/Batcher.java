package io.cosmosflink.jobs;

import io.cosmosflink.core.Operation;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Gathers events into batches, sends a few at a time, and sends again what did not get through, until a deadline. How many events
 * wait is bounded by the caller, who offers only so many before their futures are done.
 */
final class Batcher implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Batcher.class);
    /** How long a batch that is not full waits for more. */
    private static final long LINGER_MILLIS = 20;

    private static final long FIRST_BACKOFF_MILLIS = 100;
    private static final long MAX_BACKOFF_MILLIS = 2000;

    private final Transport transport;
    private final int batchSize;
    private final int concurrency;
    private final long deadlineNanos;
    private final ScheduledThreadPoolExecutor timer = new ScheduledThreadPoolExecutor(1, daemons("consumer-batches"));
    private final AtomicLong retries = new AtomicLong();

    /** Guarded by this, as are the next two. */
    private final ArrayDeque<Pending> waiting = new ArrayDeque<>();

    private int active;
    private boolean lingering;

    private record Pending(Operation event, CompletableFuture<Void> done) {}

    private record Batch(List<Pending> events, long deadline, int attempt) {
        Batch again() {
            return new Batch(events, deadline, attempt + 1);
        }

        void done() {
            events.forEach(p -> p.done.complete(null));
        }

        void failed(Throwable why) {
            events.forEach(p -> p.done.completeExceptionally(why));
        }
    }

    Batcher(Transport transport, int batchSize, int concurrency, Duration deadline) {
        this.transport = transport;
        this.batchSize = batchSize;
        this.concurrency = concurrency;
        this.deadlineNanos = deadline.toNanos();
        timer.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    }

    static ThreadFactory daemons(String name) {
        AtomicInteger number = new AtomicInteger();
        return task -> {
            Thread thread = new Thread(task, name + "-" + number.incrementAndGet());
            thread.setDaemon(true);
            return thread;
        };
    }

    /** Completes when the consumer has acknowledged the event. */
    CompletableFuture<Void> offer(Operation event) {
        Pending pending = new Pending(event, new CompletableFuture<>());
        List<Batch> ready;
        synchronized (this) {
            waiting.add(pending);
            if (waiting.size() < batchSize && !lingering) {
                lingering = true;
                timer.schedule(this::lingered, LINGER_MILLIS, TimeUnit.MILLISECONDS);
            }
            ready = ready(false);
        }
        ready.forEach(this::send);
        return pending.done;
    }

    long retries() {
        return retries.get();
    }

    /** The rest has waited long enough for its batch to fill. */
    void lingered() {
        List<Batch> ready;
        synchronized (this) {
            lingering = false;
            ready = ready(true);
        }
        ready.forEach(this::send);
    }

    /** Batches that may go now; under the lock. */
    private List<Batch> ready(boolean alsoPartial) {
        List<Batch> out = new ArrayList<>();
        while (active < concurrency && (waiting.size() >= batchSize || (alsoPartial && !waiting.isEmpty()))) {
            List<Pending> events = new ArrayList<>(Math.min(batchSize, waiting.size()));
            while (events.size() < batchSize && !waiting.isEmpty()) {
                events.add(waiting.poll());
            }
            active++;
            out.add(new Batch(events, System.nanoTime() + deadlineNanos, 1));
        }
        return out;
    }

    private void send(Batch batch) {
        CompletableFuture<Void> sent;
        try {
            sent = transport.send(
                    batch.events.stream().map(p -> p.event.document()).toList());
        } catch (Throwable e) {
            // Also an Error: nobody looks at what a thread of the timer throws, and the events would wait for ever.
            sent = CompletableFuture.failedFuture(e);
        }
        sent.whenComplete((nothing, failure) -> {
            try {
                if (failure == null) {
                    batch.done();
                    finished();
                } else {
                    failed(
                            batch,
                            failure instanceof CompletionException && failure.getCause() != null
                                    ? failure.getCause()
                                    : failure);
                }
            } catch (Throwable e) {
                batch.failed(e);
            }
        });
    }

    private void failed(Batch batch, Throwable why) {
        if (why instanceof Transport.RefusedException) {
            if (batch.events.size() == 1) {
                give(
                        batch,
                        new IllegalStateException(
                                "event '" + batch.events.get(0).event.id() + "' cannot be delivered: "
                                        + why.getMessage() + "; mend the consumer or filter such events",
                                why));
            } else {
                halve(batch);
            }
            return;
        }
        long left = batch.deadline - System.nanoTime();
        if (left <= 0) {
            give(
                    batch,
                    new IllegalStateException(
                            "a batch of " + batch.events.size() + " events was not taken in " + batch.attempt
                                    + " attempts within job.consumer-deadline-ms ("
                                    + TimeUnit.NANOSECONDS.toMillis(deadlineNanos)
                                    + "): " + why + "; is the consumer up?",
                            why));
            return;
        }
        retries.incrementAndGet();
        long ceiling = Math.min(MAX_BACKOFF_MILLIS, FIRST_BACKOFF_MILLIS << Math.min(10, batch.attempt - 1));
        long wait = ThreadLocalRandom.current().nextLong(ceiling / 2, ceiling + 1);
        if (batch.attempt == 1 || batch.attempt % 10 == 0) {
            LOG.warn(
                    "attempt {} to deliver {} events failed, next in {} ms: {}",
                    batch.attempt,
                    batch.events.size(),
                    wait,
                    why.getMessage());
        }
        try {
            timer.schedule(() -> send(batch.again()), wait, TimeUnit.MILLISECONDS);
        } catch (RejectedExecutionException closed) {
            give(batch, why);
        }
    }

    /** Too large, or one event in it is bad: half a batch may pass, and a single event names itself. */
    private void halve(Batch batch) {
        int half = batch.events.size() / 2;
        synchronized (this) {
            active++;
        }
        send(new Batch(batch.events.subList(0, half), batch.deadline, 1));
        send(new Batch(batch.events.subList(half, batch.events.size()), batch.deadline, 1));
    }

    private void give(Batch batch, Throwable why) {
        batch.failed(why);
        finished();
    }

    private void finished() {
        List<Batch> ready;
        synchronized (this) {
            active--;
            // What waited while all places were taken has waited long enough.
            ready = ready(true);
        }
        ready.forEach(this::send);
    }

    @Override
    public void close() {
        timer.shutdownNow();
        transport.close();
    }
}
