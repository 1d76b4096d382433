package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreMetrics.Field;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.FlushWatch;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.Outcome;
import io.cosmosflink.core.RecordFailures;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriter;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.connector.base.sink.writer.RequestEntryWrapper;
import org.apache.flink.connector.base.sink.writer.ResultHandler;
import org.apache.flink.connector.base.sink.writer.config.AsyncSinkWriterConfiguration;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.util.FlinkRuntimeException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Hands batches to the core on the task's thread and completes them on a thread of its own, which polls for outcomes. Entries never
 * come back for a retry: the core retries, and keeps the order of writes of one document.
 */
final class CosmosDBSinkWriter<IN> extends AsyncSinkWriter<IN, CosmosDBRequestEntry> {
    private static final Logger LOG = LoggerFactory.getLogger(CosmosDBSinkWriter.class);
    /** Low bits of a token that count inside a batch; sink.max-batch-size stays below. */
    private static final int INDEX_BITS = 20;

    private static final int POLL_MAX = 4096;
    private static final long POLL_MILLIS = 1000;
    private static final long JOIN_MILLIS = 10_000;
    /**
     * After this time the base class gives a batch up. The core never forgets one and retries on its own, throttled ones without
     * end, so that it must not be reached: the base class would submit the batch again, behind newer writes of the same documents, or fail
     * a job that only waits. Not the largest number, because the time of day is added to it.
     */
    private static final long NEVER_MILLIS = Duration.ofDays(36_500).toMillis();

    private final Core core;
    private final Core.SinkHandle handle;
    private final String container;
    private final long maxBatchBytes;
    private final Finality finality;
    private final CoreGauges gauges;
    private final Counter sendErrors;
    private final FlushWatch flushes = new FlushWatch();
    private final OperationBatch frame = new OperationBatch();
    private final Map<Long, Batch> inFlight = new ConcurrentHashMap<>();
    private final Thread completion;
    private long batches;
    /** The batch of the last outcome; only the completion thread touches these two. */
    private long lastNumber = -1;

    private Batch lastBatch;
    private volatile boolean closed;
    /** Why the completion thread ended, if it did. */
    private volatile Exception ended;

    /** What is under way of one batch. Only the completion thread counts down. */
    private static final class Batch {
        final List<CosmosDBRequestEntry> entries;
        final ResultHandler<CosmosDBRequestEntry> handler;
        int open;
        boolean failed;

        Batch(List<CosmosDBRequestEntry> entries, ResultHandler<CosmosDBRequestEntry> handler) {
            this.entries = entries;
            this.handler = handler;
            this.open = entries.size();
        }
    }

    static <IN> CosmosDBSinkWriter<IN> open(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            Core core,
            CosmosDBOptions options,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        long limit = options.number("sink.max-record-bytes");
        CosmosDBSinkWriter<IN> writer = new CosmosDBSinkWriter<>(
                new RefusingConverter<>(converter, limit), context, core, options, within(limit, options, states));
        try {
            writer.completion.start();
        } catch (Throwable e) {
            // No thread can be made: nobody else knows the handle.
            writer.close();
            throw e;
        }
        return writer;
    }

    // The only constructor that every supported Flink has.
    @SuppressWarnings("deprecation")
    private CosmosDBSinkWriter(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            Core core,
            CosmosDBOptions options,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        super(converter, context, configuration(options), states);
        this.core = core;
        this.container = options.get("cosmos.container").orElse("?");
        this.maxBatchBytes = maxBatchBytes(options);
        this.finality = Finality.of(options.toMap(), false);
        this.handle = opened(context, options);
        this.sendErrors = context.metricGroup().getNumRecordsSendErrorsCounter();
        this.gauges = new CoreGauges(context.metricGroup()) {
            @Override
            void addTo(MetricGroup group) {
                gauge(group, "operationsWaiting", Field.OPERATIONS_WAITING);
                gauge(group, "failed", Field.FAILED);
                gauge(group, "skipped", Field.SKIPPED);
                gauge(group, "deadLettered", Field.DEAD_LETTERED);
                gauge(group, "bulkRequests", Field.BULK_REQUESTS);
                gauge(group, "pointRequests", Field.POINT_REQUESTS);
                gauge(group, "bulkRefused", Field.BULK_REFUSED);
                gauge(group, "bulkOff", Field.BULK_OFF);
            }
        };
        gauges.follow(handle);
        this.completion = new Thread(
                this::complete,
                "cosmosdb-sink-completion-" + container + "-"
                        + context.getTaskInfo().getIndexOfThisSubtask());
        this.completion.setDaemon(true);
    }

    private Core.SinkHandle opened(WriterInitContext context, CosmosDBOptions options) {
        try {
            Core.SinkHandle opening = core.openSink(options.toMap());
            opening.awaitOpen();
            return opening;
        } catch (CosmosException e) {
            core.drainLog(true);
            throw Failures.open(
                    "cannot open the sink to container " + container,
                    e,
                    Finality.of(
                            options.toMap(),
                            context.getRestoredCheckpointId().isEmpty()
                                    && context.getTaskInfo().getAttemptNumber() == 0));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new FlinkRuntimeException(
                    "the task ended while its sink to container " + container + " was opened", e);
        }
    }

    private static AsyncSinkWriterConfiguration configuration(CosmosDBOptions options) {
        int batch = Math.toIntExact(options.number("sink.max-batch-size"));
        int inFlight = Math.toIntExact(options.number("sink.max-in-flight-requests"));
        long batchBytes = maxBatchBytes(options);
        return AsyncSinkWriterConfiguration.builder()
                .setMaxBatchSize(batch)
                .setMaxBatchSizeInBytes(batchBytes)
                .setMaxInFlightRequests(inFlight)
                .setMaxBufferedRequests(Math.toIntExact(options.number("sink.max-buffered-requests")))
                .setMaxTimeInBufferMS(options.number("sink.max-time-in-buffer-ms"))
                // Its limit throws at every replay of the record, and in a restore; ours is the converter's.
                .setMaxRecordSizeInBytes(batchBytes)
                .setRateLimitingStrategy(new FixedConcurrency(batch, inFlight))
                .setRequestTimeoutMS(NEVER_MILLIS)
                .setFailOnTimeout(true)
                .build();
    }

    /** A batch with its tokens is one array. */
    private static long maxBatchBytes(CosmosDBOptions options) {
        long tokens = 64 + 8 * options.number("sink.max-batch-size");
        return Math.min(options.number("sink.max-batch-bytes"), Integer.MAX_VALUE - tokens);
    }

    /** State of a writer that had other limits, so that it can be restored in this one. */
    private static Collection<BufferedRequestState<CosmosDBRequestEntry>> within(
            long limit, CosmosDBOptions options, Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        long maxBatchBytes = maxBatchBytes(options);
        return states.stream()
                .map(state -> new BufferedRequestState<>(state.getBufferedRequestEntries().stream()
                        .map(wrapper -> wrapper.getRequestEntry().within(limit))
                        .map(entry -> new RequestEntryWrapper<>(entry, Math.min(entry.size(), maxBatchBytes)))
                        .toList()))
                .toList();
    }

    /** What is larger than a batch goes alone: the base class would wait for ever for a batch that it fits into. */
    @Override
    protected long getSizeInBytes(CosmosDBRequestEntry entry) {
        return Math.min(entry.size(), maxBatchBytes);
    }

    /**
     * Writes everything, also at a checkpoint: what stayed in the state would come back to any subtask when the job is rescaled, behind
     * newer writes of the same documents.
     */
    @Override
    public void flush(boolean endOfInput) throws InterruptedException {
        flushes.began();
        try {
            super.flush(true);
        } finally {
            flushes.ended();
        }
    }

    @Override
    protected void submitRequestEntries(
            List<CosmosDBRequestEntry> entries, ResultHandler<CosmosDBRequestEntry> handler) {
        if (entries.isEmpty()) {
            handler.complete();
            return;
        }
        long number = batches++;
        frame.clear();
        for (int i = 0; i < entries.size(); i++) {
            frame.add(number << INDEX_BITS | i, entries.get(i).body());
        }
        // Before it is submitted: the outcomes may be there before submit returns.
        inFlight.put(number, new Batch(entries, handler));
        try {
            handle.submit(frame);
        } catch (RuntimeException e) {
            if (inFlight.remove(number) != null) {
                handler.completeExceptionally(
                        new FlinkRuntimeException("cannot write to container " + container + ": " + e.getMessage(), e));
            }
            return;
        }
        Exception over = ended;
        if (over != null && inFlight.remove(number) != null) {
            handler.completeExceptionally(over);
        }
    }

    /** The completion thread. */
    private void complete() {
        try {
            while (!closed) {
                handle.pollOutcomes(POLL_MAX, POLL_MILLIS).forEach(this::onOutcome);
                core.drainLog(false);
                warnOfLongFlush();
            }
        } catch (RejectedExecutionException e) {
            // The task has ended and takes nothing more.
            ended = e;
        } catch (Throwable e) {
            // Also an OutOfMemoryError: a writer without this thread would wait for ever.
            if (!closed) {
                LOG.error("the sink to container {} gets no more outcomes", container, e);
                end(new FlinkRuntimeException(
                        "the sink to container " + container + " gets no more outcomes: " + e.getMessage(), e));
            }
        }
    }

    private void warnOfLongFlush() {
        long seconds = flushes.overdueSeconds();
        if (seconds > 0) {
            LOG.warn(
                    "a flush to container {} has taken {} s, and its checkpoint waits for it; the service has throttled or failed a"
                            + " partition for {} ms",
                    container,
                    seconds,
                    handle.metrics().get(Field.HELD_MILLIS));
        }
    }

    private void end(Exception why) {
        ended = why;
        for (Long number : inFlight.keySet()) {
            Batch batch = inFlight.remove(number);
            try {
                if (batch != null && !batch.failed) {
                    batch.handler.completeExceptionally(why);
                }
            } catch (RuntimeException e) {
                // A task that is ending takes no more; the others must hear of it all the same.
                LOG.debug("a batch could not be completed", e);
            }
        }
    }

    private void onOutcome(Outcome outcome) {
        long number = outcome.token() >>> INDEX_BITS;
        int index = (int) (outcome.token() & (1 << INDEX_BITS) - 1);
        // Outcomes come in runs of one batch.
        Batch batch = number == lastNumber ? lastBatch : inFlight.get(number);
        lastNumber = number;
        lastBatch = batch;
        if (batch == null || index >= batch.entries.size()) {
            throw new IllegalStateException(
                    "the core gave an outcome for token " + outcome.token() + ", which is not in flight");
        }
        if (outcome.result() != Outcome.Result.OK) {
            sendErrors.inc();
        }
        boolean fails = outcome.result() == Outcome.Result.FAILED && !batch.failed;
        if (--batch.open == 0) {
            inFlight.remove(number);
            lastNumber = -1;
            lastBatch = null;
        }
        if (fails) {
            // At once: the others of its batch may be waiting for a service that does not answer.
            batch.failed = true;
            core.drainLog(true);
            batch.handler.completeExceptionally(failed(outcome, batch.entries.get(index)));
        } else if (batch.open == 0 && !batch.failed) {
            batch.handler.complete();
        }
    }

    private Exception failed(Outcome outcome, CosmosDBRequestEntry entry) {
        Operation operation = entry.operation();
        boolean refused = operation.type() == OperationKind.REFUSED;
        String message = "container " + container + ": "
                + (refused ? "no write could be made of the record with" : operation.type() + " of") + " id '"
                + RecordFailures.shortened(operation.id()) + "' " + (refused ? "and" : "with") + " partition key "
                + RecordFailures.shortened(operation.partitionKey())
                + (refused
                        ? ""
                        : " failed after " + outcome.attempts() + " attempts with status " + outcome.status() + "/"
                                + outcome.subStatus() + " (activity " + outcome.activityId() + ")")
                + ": " + outcome.message() + "; "
                + (refused
                        ? "mend its converter, or let the job go on with sink.failure-mode skip or dead-letter"
                        : outcome.kind().advice());
        CosmosException cause = new CosmosException(
                message, outcome.kind().ordinal(), outcome.status(), outcome.subStatus(), outcome.activityId());
        if (entry.refusal() != null) {
            cause.initCause(entry.refusal().ofJob());
        }
        boolean isFinal = outcome.isFinal() || (outcome.kind() == CosmosException.Kind.AUTH && finality.isFinal(cause));
        return isFinal ? new CosmosDBUnrecoverableException(message, cause) : new FlinkRuntimeException(message, cause);
    }

    /** Also in a task that was interrupted, and when the core fails: a task that does not end takes its TaskManager with it. */
    @Override
    public void close() {
        closed = true;
        try {
            gauges.forget(handle);
            handle.wakeUp();
        } catch (CosmosException e) {
            LOG.debug("the sink was closed before", e);
        }
        try {
            completion.join(JOIN_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        handle.close();
        core.drainLog(true);
        super.close();
    }
}
