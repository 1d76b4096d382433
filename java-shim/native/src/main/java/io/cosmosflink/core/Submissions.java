package io.cosmosflink.core;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Function;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What a writer has handed to the core and has not heard of yet, and the thread that hears of it. Each submission ends exactly once: the
 * core never forgets one, retries on its own, and keeps the order of writes of one document.
 *
 * <p>One thread submits. The handle belongs to this object and is closed with it.
 */
@Internal
public final class Submissions implements AutoCloseable {
    /** Hears of the end of one submission. What it throws ends all others. */
    public interface Listener {
        /**
         * On the completion thread.
         *
         * @throws RejectedExecutionException when whoever is told has ended and takes nothing more
         */
        void completed(Completion completion);

        /** It could not be submitted, or nothing more is heard of the core. From either thread. */
        void lost(String message, Throwable cause);
    }

    private static final Logger LOG = LoggerFactory.getLogger(Submissions.class);
    /** Long enough to cost nothing, short enough that the core's log is not late. */
    private static final long POLL_MILLIS = 1000;

    private static final long JOIN_MILLIS = 10_000;

    private final Core core;
    private final Core.SinkHandle sink;
    private final String container;
    private final FlushWatch flushes = new FlushWatch();
    private final OperationBatch frame = new OperationBatch();
    private final Map<Long, Submission> underWay = new ConcurrentHashMap<>();
    private final LiveMetrics metrics;
    private final Room room;
    private final Thread completion;
    private long submissions;
    private volatile boolean closed;
    /** Why the completion thread ended, if it did. */
    private volatile Throwable ended;

    /**
     * Whether a writer may hand over another batch. It is there before the core is, which a writer opens last; from then on the core decides.
     */
    public static final class Room {
        private final Runnable free;
        private volatile Core.SinkHandle sink;
        private volatile boolean waiting;

        /** @param free called on the completion thread when there is room again for a writer that has found none */
        public Room(Runnable free) {
            this.free = free;
        }

        /** Whether the core holds as much as the options allow. */
        public boolean isFull() {
            Core.SinkHandle open = sink;
            if (open == null || !open.isFull()) {
                return false;
            }
            // Said before it is looked at again: what becomes free from here on is told.
            waiting = true;
            return open.isFull();
        }

        private void look() {
            if (waiting && !sink.isFull()) {
                waiting = false;
                free.run();
            }
        }
    }

    private record Submission(int operations, Listener listener) {}

    private Submissions(Core core, Core.SinkHandle sink, String container, int subtask, Room room) {
        this.core = core;
        this.sink = sink;
        this.container = container;
        this.metrics = new LiveMetrics(core, Core.Role.SINK);
        this.room = room;
        room.sink = sink;
        this.completion = new Thread(this::complete, "cosmosdb-sink-completion-" + container + "-" + subtask);
        this.completion.setDaemon(true);
        metrics.follow(sink);
    }

    /**
     * Opens the core, waits for it however long it takes, and begins to listen.
     *
     * @param options validated
     * @param subtask number of the writer, for the name of the thread
     * @param peers the writers of the sink
     * @param room what tells the writer to wait
     * @throws CosmosException what the opening failed of
     * @throws InterruptedException when the task ends meanwhile; then nothing is open
     */
    public static Submissions open(Core core, Map<String, String> options, int subtask, Core.Peers peers, Room room)
            throws InterruptedException {
        return open(core, options, subtask, peers, room, null);
    }

    /**
     * The same of a writer that hands rows over.
     *
     * @param plan how the core makes documents of them; null where there are none
     */
    public static Submissions open(
            Core core, Map<String, String> options, int subtask, Core.Peers peers, Room room, byte[] plan)
            throws InterruptedException {
        try {
            Core.SinkHandle opening =
                    plan == null ? core.openSink(options, peers) : core.openRowSink(options, peers, plan);
            opening.awaitOpen();
            Submissions submissions =
                    new Submissions(core, opening, options.getOrDefault("container", "?"), subtask, room);
            submissions.start();
            return submissions;
        } catch (CosmosException e) {
            core.drainLog(true);
            throw e;
        }
    }

    private void start() {
        try {
            completion.start();
        } catch (Throwable e) {
            // No thread can be made: nobody else knows the handle.
            close();
            throw e;
        }
    }

    /** What the sink's gauges show. */
    public LiveMetrics metrics() {
        return metrics;
    }

    /**
     * Hands entries over. Nothing of them is kept here: what is to be told of one that fails, the core tells.
     *
     * @param body the OPERATION BODY of an entry
     */
    public <E> void submit(List<E> entries, Function<? super E, byte[]> body, Listener listener) {
        long number = submissions++;
        frame.clear();
        for (E entry : entries) {
            frame.add(body.apply(entry));
        }
        // Before it is submitted: it may have completed before submit returns.
        underWay.put(number, new Submission(entries.size(), listener));
        try {
            sink.submit(number, frame);
        } catch (RuntimeException e) {
            lose(number, "cannot write to container " + container + ": " + e.getMessage(), e);
            return;
        }
        if (ended != null) {
            lose(number, silence(), ended);
        }
    }

    private void lose(long number, String message, Throwable cause) {
        Submission lost = underWay.remove(number);
        if (lost != null) {
            lost.listener.lost(message, cause);
        }
    }

    /** A flush begins, which holds a checkpoint back; one that takes long is logged. */
    public void flushBegan() {
        flushes.began();
    }

    public void flushEnded() {
        flushes.ended();
    }

    /** The completion thread. */
    private void complete() {
        try {
            while (!closed) {
                sink.pollCompletions(POLL_MILLIS).forEach(this::onCompletion);
                room.look();
                core.drainLog(false);
                warnOfLongFlush();
            }
        } catch (RejectedExecutionException e) {
            // The task has ended and takes nothing more.
            ended = e;
        } catch (Throwable e) {
            // Also an OutOfMemoryError: a writer without this thread would wait for ever.
            if (!closed) {
                LOG.error("the sink to container {} hears of no more writes", container, e);
                end(e);
            }
        }
    }

    private void onCompletion(Completion completion) {
        Submission submission = underWay.get(completion.submission());
        if (submission == null) {
            throw new IllegalStateException("the core completed submission " + completion.submission()
                    + ", which is not in flight; report this as a bug of cosmosflink");
        }
        for (WriteFailure failure : completion.failures()) {
            if (failure.index() >= submission.operations) {
                throw new IllegalStateException("the core gave a failure of operation " + failure.index()
                        + " of a submission of " + submission.operations + "; report this as a bug of cosmosflink");
            }
        }
        underWay.remove(completion.submission());
        if (completion.fatal().isPresent()) {
            core.drainLog(true);
        }
        try {
            submission.listener.completed(completion);
        } catch (RejectedExecutionException e) {
            throw e;
        } catch (Throwable e) {
            // It is not among those that are lost any more: without this its flush would wait for ever.
            submission.listener.lost(silence(e), e);
            throw e;
        }
    }

    private void warnOfLongFlush() {
        long seconds = flushes.overdueSeconds();
        if (seconds > 0) {
            List<String> held = sink.heldUp();
            LOG.warn(
                    "a flush to container {} has taken {} s, and its checkpoint waits for it; {}",
                    container,
                    seconds,
                    held.isEmpty() ? "nothing has failed, and what is left is being written" : String.join("; ", held));
        }
    }

    private void end(Throwable why) {
        ended = why;
        for (Long number : underWay.keySet()) {
            try {
                lose(number, silence(), why);
            } catch (Throwable e) {
                // A task that is ending takes no more, or there is no memory; the others must hear of it all the same.
                LOG.debug("a submission could not be ended", e);
            }
        }
    }

    private String silence() {
        return silence(ended);
    }

    private String silence(Throwable why) {
        return "the sink to container " + container + " hears of no more writes: " + why.getMessage();
    }

    /** Also in a task that was interrupted, and when the core fails: a task that does not end takes its TaskManager with it. */
    @Override
    public void close() {
        closed = true;
        metrics.forget(sink);
        try {
            sink.wakeUp();
        } catch (CosmosException e) {
            LOG.debug("the sink was closed before", e);
        }
        try {
            completion.join(JOIN_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        sink.close();
        core.drainLog(true);
    }
}
