package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CoreMetrics.Field;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.CosmosRuntime;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.Outcome;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriter;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
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

    private final CosmosRuntime runtime;
    private final CosmosRuntime.SinkHandle handle;
    private final String container;
    private final CoreGauges gauges;
    private final Counter sendErrors;
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
        Exception failure;

        Batch(List<CosmosDBRequestEntry> entries, ResultHandler<CosmosDBRequestEntry> handler) {
            this.entries = entries;
            this.handler = handler;
            this.open = entries.size();
        }
    }

    static <IN> CosmosDBSinkWriter<IN> open(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            CosmosRuntime runtime,
            CosmosDBOptions options,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        CosmosDBSinkWriter<IN> writer = new CosmosDBSinkWriter<>(converter, context, runtime, options, states);
        writer.completion.start();
        return writer;
    }

    // The only constructor that every supported Flink has.
    @SuppressWarnings("deprecation")
    private CosmosDBSinkWriter(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            CosmosRuntime runtime,
            CosmosDBOptions options,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        super(converter, context, configuration(options), states);
        this.runtime = runtime;
        this.container = options.get("cosmos.container").orElse("?");
        try {
            this.handle = runtime.openSink(options.toMap());
        } catch (CosmosException e) {
            runtime.drainLog(true);
            throw Failures.open(
                    "cannot open the sink to container " + container,
                    e,
                    context.getRestoredCheckpointId().isEmpty());
        }
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
            }
        };
        gauges.follow(handle);
        this.completion = new Thread(
                this::complete,
                "cosmosdb-sink-completion-" + container + "-"
                        + context.getTaskInfo().getIndexOfThisSubtask());
        this.completion.setDaemon(true);
    }

    private static AsyncSinkWriterConfiguration configuration(CosmosDBOptions options) {
        int batch = Math.toIntExact(options.number("sink.max-batch-size"));
        int inFlight = Math.toIntExact(options.number("sink.max-in-flight-requests"));
        return AsyncSinkWriterConfiguration.builder()
                .setMaxBatchSize(batch)
                .setMaxBatchSizeInBytes(options.number("sink.max-batch-bytes"))
                .setMaxInFlightRequests(inFlight)
                .setMaxBufferedRequests(Math.toIntExact(options.number("sink.max-buffered-requests")))
                .setMaxTimeInBufferMS(options.number("sink.max-time-in-buffer-ms"))
                .setMaxRecordSizeInBytes(options.number("sink.max-record-bytes"))
                .setRateLimitingStrategy(new FixedConcurrency(batch, inFlight))
                .build();
    }

    @Override
    protected long getSizeInBytes(CosmosDBRequestEntry entry) {
        return entry.size();
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
        } catch (CosmosException e) {
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
                runtime.drainLog(false);
            }
        } catch (Throwable e) {
            // Also an OutOfMemoryError: a writer without this thread would wait for ever.
            if (!closed) {
                LOG.error("the sink to container {} gets no more outcomes", container, e);
                end(new FlinkRuntimeException(
                        "the sink to container " + container + " gets no more outcomes: " + e.getMessage(), e));
            }
        }
    }

    private void end(Exception why) {
        ended = why;
        for (Long number : inFlight.keySet()) {
            Batch batch = inFlight.remove(number);
            try {
                if (batch != null) {
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
        if (outcome.result() == Outcome.Result.FAILED && batch.failure == null) {
            batch.failure = failed(outcome, batch.entries.get(index).operation());
            runtime.drainLog(true);
        }
        if (--batch.open == 0) {
            inFlight.remove(number);
            lastNumber = -1;
            lastBatch = null;
            if (batch.failure == null) {
                batch.handler.complete();
            } else {
                batch.handler.completeExceptionally(batch.failure);
            }
        }
    }

    private Exception failed(Outcome outcome, Operation operation) {
        String message = "container " + container + ": " + operation.type() + " of id '" + operation.id()
                + "' with partition key "
                + operation.partitionKey() + " failed after " + outcome.attempts() + " attempts with status "
                + outcome.status() + "/"
                + outcome.subStatus() + " (activity " + outcome.activityId() + "): " + outcome.message() + "; "
                + outcome.kind().advice();
        CosmosException cause = new CosmosException(
                message, outcome.kind().ordinal(), outcome.status(), outcome.subStatus(), outcome.activityId());
        return new FlinkRuntimeException(message, cause);
    }

    @Override
    public void close() {
        closed = true;
        try {
            gauges.forget();
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
        runtime.drainLog(true);
        super.close();
    }
}
