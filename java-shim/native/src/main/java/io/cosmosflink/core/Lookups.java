package io.cosmosflink.core;

import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Keys that were handed to the core and are not answered yet, and the thread that hears of them. Each future ends exactly once: with the rows, with what
 * the core says why there are none, or, when nothing more is heard of the core, with that.
 *
 * @param <R> the rows of a key
 */
@Internal
public final class Lookups<R> implements AutoCloseable {
    /** Makes the rows of an answer. */
    @FunctionalInterface
    public interface Reader<R> {
        R read(Answers answers, int answer);
    }

    /** What a shim's runtime is to hear of a key that cannot be answered. */
    @FunctionalInterface
    public interface Failing {
        /** @param outlivesRestart whether the core knows that a restart of the job does not help */
        Throwable of(CosmosException failure, boolean outlivesRestart);
    }

    private static final Logger LOG = LoggerFactory.getLogger(Lookups.class);
    /** Long enough to cost nothing, short enough that the core's log is not late. */
    private static final long POLL_MILLIS = 1000;

    private static final long JOIN_MILLIS = 10_000;

    private final Core core;
    private final Core.LookupHandle handle;
    private final Reader<R> reader;
    private final Failing failing;
    private final String container;
    private final LiveMetrics metrics;
    private final Map<Long, CompletableFuture<R>> underWay = new ConcurrentHashMap<>();
    private final AtomicLong numbers = new AtomicLong();
    private final Thread completion;
    private volatile boolean closed;
    /** Why nothing more is heard, if so. */
    private volatile Throwable ended;

    private Lookups(Core core, Core.LookupHandle handle, String container, Reader<R> reader, Failing failing) {
        this.core = core;
        this.handle = handle;
        this.reader = reader;
        this.failing = failing;
        this.container = container;
        this.metrics = new LiveMetrics(core, Core.Role.LOOKUP);
        this.completion = new Thread(this::complete, "cosmosdb-lookup-" + container);
        this.completion.setDaemon(true);
        metrics.follow(handle);
    }

    /**
     * Opens the core, waits for it however long it takes, and begins to listen.
     *
     * @param options of the core
     * @param plan what {@link RowPlan#frame} gives
     * @param alone whether one key is asked for after the other
     * @param columns those of the plan that keys have values for
     * @param reader called on the completion thread
     * @param failing called there too
     * @throws CosmosException what the opening failed of
     * @throws InterruptedException when the task ends meanwhile; then nothing is open
     */
    public static <R> Lookups<R> open(
            Core core,
            Map<String, String> options,
            byte[] plan,
            boolean alone,
            int[] columns,
            Reader<R> reader,
            Failing failing)
            throws InterruptedException {
        try {
            Core.LookupHandle opening = core.openLookup(options, plan, alone, columns);
            opening.awaitOpen();
            Lookups<R> lookups = new Lookups<>(core, opening, options.getOrDefault("container", "?"), reader, failing);
            try {
                lookups.completion.start();
            } catch (Throwable e) {
                // No thread can be made: nobody else knows the handle.
                lookups.close();
                throw e;
            }
            return lookups;
        } catch (CosmosException e) {
            core.drainLog(true);
            throw e;
        }
    }

    /** What the gauges show. */
    public LiveMetrics metrics() {
        return metrics;
    }

    /**
     * Looks a key up. Never waits. From any thread.
     *
     * @param values writes the values of the key behind its number
     */
    public CompletableFuture<R> lookUp(Consumer<LookupKeys> values) {
        long number = numbers.getAndIncrement();
        LookupKeys keys = new LookupKeys().key(number);
        values.accept(keys);
        CompletableFuture<R> future = new CompletableFuture<>();
        // Before it is asked for: it may be answered before that returns.
        underWay.put(number, future);
        try {
            handle.lookUp(keys);
        } catch (RuntimeException e) {
            lose(number, e);
            return future;
        }
        Throwable silent = ended;
        if (silent != null) {
            lose(number, silence(silent));
        }
        return future;
    }

    private void lose(long number, Throwable why) {
        CompletableFuture<R> lost = underWay.remove(number);
        if (lost != null) {
            lost.completeExceptionally(why);
        }
    }

    /** The completion thread. */
    private void complete() {
        Throwable why = null;
        try {
            while (!closed) {
                Answers answers = handle.pollAnswers(POLL_MILLIS);
                for (int i = 0; i < answers.count(); i++) {
                    complete(answers, i);
                }
                core.drainLog(false);
            }
        } catch (Throwable e) {
            // Also an OutOfMemoryError: without this thread a job would wait until Flink's own time-out.
            why = e;
            if (!closed) {
                LOG.error("the look-ups in container {} are not answered any more", container, e);
            }
        }
        end(why == null ? new CancellationException("the look-ups in container " + container + " were closed") : why);
    }

    private void complete(Answers answers, int answer) {
        long number = answers.number(answer);
        CompletableFuture<R> future = underWay.remove(number);
        if (future == null) {
            throw new IllegalStateException("the core answered key " + number
                    + ", which is not looked up; report this as a bug of cosmosflink");
        }
        CosmosException failure = answers.failure(answer);
        if (failure != null) {
            core.drainLog(true);
            future.completeExceptionally(failing.of(failure, answers.outlivesRestart(answer)));
            return;
        }
        R rows;
        try {
            rows = reader.read(answers, answer);
        } catch (Throwable e) {
            // It is not among those under way any more.
            future.completeExceptionally(e);
            throw e;
        }
        future.complete(rows);
    }

    private void end(Throwable why) {
        ended = why;
        for (Long number : underWay.keySet()) {
            lose(number, silence(why));
        }
    }

    private Throwable silence(Throwable why) {
        return why instanceof CancellationException
                ? why
                : new IllegalStateException(
                        "the look-ups in container " + container + " are not answered any more: " + why.getMessage(),
                        why);
    }

    /** Also in a task that was interrupted, and when the core fails: a task that does not end takes its TaskManager with it. */
    @Override
    public void close() {
        closed = true;
        metrics.forget(handle);
        try {
            handle.wakeUp();
        } catch (CosmosException e) {
            LOG.debug("the look-ups were closed before", e);
        }
        if (Thread.currentThread() != completion) {
            try {
                completion.join(JOIN_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
        handle.close();
        end(new CancellationException("the look-ups in container " + container + " were closed"));
        core.drainLog(true);
    }
}
