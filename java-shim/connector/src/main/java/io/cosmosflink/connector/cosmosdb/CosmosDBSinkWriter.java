package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Completion;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.Submissions;
import io.cosmosflink.core.UnwritableRecordException;
import io.cosmosflink.core.WriteFailure;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.TaskInfo;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriter;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.connector.base.sink.writer.RequestEntryWrapper;
import org.apache.flink.connector.base.sink.writer.ResultHandler;
import org.apache.flink.connector.base.sink.writer.config.AsyncSinkWriterConfiguration;
import org.apache.flink.metrics.Counter;
import org.apache.flink.util.FlinkRuntimeException;

/**
 * Hands batches to the core, which writes them on its own threads. Entries never come back for a retry: the core retries, and keeps the
 * order of writes of one document.
 */
final class CosmosDBSinkWriter<IN> extends AsyncSinkWriter<IN, CosmosDBRequestEntry> {
    /**
     * After this time the base class gives a batch up. The core never forgets one and retries on its own, throttled ones without
     * end, so that it must not be reached: the base class would submit the batch again, behind newer writes of the same documents, or fail
     * a job that only waits. Not the largest number, because the time of day is added to it.
     */
    private static final long NEVER_MILLIS = Duration.ofDays(36_500).toMillis();

    private final String container;
    private final long maxBatchBytes;
    private final Finality finality;
    private final Counter sendErrors;
    private final Submissions submissions;
    /** What to mend where no write could be made of a record. */
    private final String remedy;

    static <IN> CosmosDBSinkWriter<IN> open(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            Core core,
            CosmosDBOptions options,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        long limit = options.number("sink.max-record-size");
        byte[] plan = null;
        if (converter instanceof CosmosDBRowConverter<IN> rows) {
            String refusal = rows.refusal(core);
            if (refusal != null) {
                throw new CosmosDBUnrecoverableException(refusal, null);
            }
            plan = rows.plan();
        }
        ConverterOpening.open(converter, context);
        if (converter instanceof CosmosDBElementConverter<IN> ours) {
            ours.started(context);
        }
        // The task waits for a mail, and looks again at each.
        Submissions.Room room = new Submissions.Room(() ->
                context.getMailboxExecutor().execute(() -> {}, "Go on, since the core has room for a batch again"));
        return new CosmosDBSinkWriter<>(
                new RefusingConverter<>(converter, limit),
                context,
                core,
                options,
                room,
                plan,
                within(limit, options, states));
    }

    // The only constructor that every supported Flink has.
    @SuppressWarnings("deprecation")
    private CosmosDBSinkWriter(
            ElementConverter<IN, CosmosDBRequestEntry> converter,
            WriterInitContext context,
            Core core,
            CosmosDBOptions options,
            Submissions.Room room,
            byte[] plan,
            Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        super(converter, context, configuration(options, room), states);
        this.container = options.get("container").orElse("?");
        this.maxBatchBytes = maxBatchBytes(options);
        this.remedy = plan == null ? "its converter" : "the rows that are written";
        this.finality = Finality.of(options.toMap(), false);
        this.submissions = opened(context, core, options, room, plan);
        this.sendErrors = context.metricGroup().getNumRecordsSendErrorsCounter();
        CoreGauges.register(context.metricGroup(), submissions.metrics());
    }

    private Submissions opened(
            WriterInitContext context, Core core, CosmosDBOptions options, Submissions.Room room, byte[] plan) {
        try {
            TaskInfo task = context.getTaskInfo();
            Core.Peers peers = Core.Peers.of(
                    task.getNumberOfParallelSubtasks(), context.metricGroup().getAllVariables());
            return Submissions.open(core, options.toMap(), task.getIndexOfThisSubtask(), peers, room, plan);
        } catch (CosmosException e) {
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

    private static AsyncSinkWriterConfiguration configuration(CosmosDBOptions options, Submissions.Room room) {
        int batch = Math.toIntExact(options.number("sink.buffer-flush.max-rows"));
        int inFlight = Math.toIntExact(options.number("sink.max-in-flight-requests"));
        long batchBytes = maxBatchBytes(options);
        return AsyncSinkWriterConfiguration.builder()
                .setMaxBatchSize(batch)
                .setMaxBatchSizeInBytes(batchBytes)
                .setMaxInFlightRequests(inFlight)
                .setMaxBufferedRequests(Math.toIntExact(options.number("sink.max-buffered-requests")))
                .setMaxTimeInBufferMS(options.number("sink.buffer-flush.interval"))
                // Its limit throws at every replay of the record, and in a restore; ours is the converter's.
                .setMaxRecordSizeInBytes(batchBytes)
                .setRateLimitingStrategy(new CoreDecides(batch, room))
                .setRequestTimeoutMS(NEVER_MILLIS)
                .setFailOnTimeout(true)
                .build();
    }

    /** A batch is one array, and an array has a few elements less than the largest number. */
    private static long maxBatchBytes(CosmosDBOptions options) {
        return Math.min(options.number("sink.buffer-flush.max-size"), Integer.MAX_VALUE - 64);
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
        submissions.flushBegan();
        try {
            super.flush(true);
        } finally {
            submissions.flushEnded();
        }
    }

    @Override
    protected void submitRequestEntries(
            List<CosmosDBRequestEntry> entries, ResultHandler<CosmosDBRequestEntry> handler) {
        Map<Integer, UnwritableRecordException> refusals = new HashMap<>();
        for (int i = 0; i < entries.size(); i++) {
            UnwritableRecordException refusal = entries.get(i).refusal();
            if (refusal != null) {
                refusals.put(i, refusal);
            }
        }
        submissions.submit(entries, CosmosDBRequestEntry::body, new Submissions.Listener() {
            @Override
            public void completed(Completion completion) {
                sendErrors.inc(completion.failures().size());
                completion
                        .fatal()
                        .ifPresentOrElse(
                                failure ->
                                        handler.completeExceptionally(failed(failure, refusals.get(failure.index()))),
                                handler::complete);
            }

            @Override
            public void lost(String message, Throwable cause) {
                handler.completeExceptionally(new FlinkRuntimeException(message, cause));
            }
        });
        // The base class holds the list until all of the batch is written, for a time-out that never comes. The core
        // has the records, and
        // bounds what it holds; a batch that waits for one of them must not hold the others here.
        entries.clear();
    }

    private Exception failed(WriteFailure failure, UnwritableRecordException refusal) {
        CosmosException cause = failure.exception(container, refusal, remedy);
        return failure.isFinal(finality)
                ? new CosmosDBUnrecoverableException(cause.getMessage(), cause)
                : new FlinkRuntimeException(cause.getMessage(), cause);
    }

    @Override
    public void close() {
        submissions.close();
        super.close();
    }
}
