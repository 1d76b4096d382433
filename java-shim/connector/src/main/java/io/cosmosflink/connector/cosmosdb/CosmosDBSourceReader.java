package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.DecodePolicy;
import io.cosmosflink.core.LagReports;
import io.cosmosflink.core.LeaseProgress;
import io.cosmosflink.core.Page;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.connector.base.source.reader.RecordEmitter;
import org.apache.flink.connector.base.source.reader.SingleThreadMultiplexSourceReaderBase;
import org.apache.flink.core.io.InputStatus;

/** Reads all its splits with one fetcher: the concurrency is inside the core. */
@SuppressWarnings("try") // close() of the base class may throw what it likes
final class CosmosDBSourceReader<T>
        extends SingleThreadMultiplexSourceReaderBase<Page, T, CosmosDBSplit, CosmosDBSplitState> {
    private final SourceMetrics metrics;
    private final LeaseProgress leases;
    /** The splits that are read, by id. */
    private final Map<String, CosmosDBSplitState> states = new HashMap<>();
    /** Flink's, as of the last poll: whatever ends a split is within one. */
    private ReaderOutput<T> output;
    /** Whether the enumerator was told that all splits are read. */
    private boolean finished;

    /** @param options validated */
    CosmosDBSourceReader(
            SourceReaderContext context,
            Core core,
            CosmosDBOptions options,
            CosmosDBDeserializationSchema<T> schema,
            CosmosDBTimestampExtractor<T> timestamps) {
        this(
                context,
                core,
                options,
                metrics -> new PageEmitter<>(schema, timestamps, DecodePolicy.of(options.toMap()), metrics),
                null,
                SourceMetrics.of(core, context.metricGroup()),
                new LeaseProgress(options.toMap()));
    }

    /** @param options validated */
    CosmosDBSourceReader(SourceReaderContext context, Core core, CosmosDBOptions options, CosmosDBRowFormat<T> rows) {
        this(
                context,
                core,
                options,
                metrics -> new RowsEmitter<>(rows, metrics),
                rows.plan(),
                SourceMetrics.of(core, context.metricGroup()),
                new LeaseProgress(options.toMap()));
    }

    private CosmosDBSourceReader(
            SourceReaderContext context,
            Core core,
            CosmosDBOptions options,
            Function<SourceMetrics, RecordEmitter<Page, T, CosmosDBSplitState>> emitter,
            byte[] plan,
            SourceMetrics metrics,
            LeaseProgress leases) {
        super(
                () -> new CosmosDBSplitReader(
                        core, options, metrics.ofCore(), peers(context), lag(context, options), leases, plan),
                emitter.apply(metrics),
                context.getConfiguration(),
                context);
        this.metrics = metrics;
        this.leases = leases;
    }

    private static Core.Peers peers(SourceReaderContext context) {
        return Core.Peers.of(context.currentParallelism(), context.metricGroup().getAllVariables());
    }

    private static LagReports lag(SourceReaderContext context, CosmosDBOptions options) {
        return new LagReports(options.toMap(), lag -> context.sendSourceEventToCoordinator(new LagEvent(lag)));
    }

    /**
     * Between the last page of a split and its end, which takes another poll, there is time for a checkpoint: it must not hold a split of
     * which everything is out.
     */
    @Override
    public List<CosmosDBSplit> snapshotState(long checkpoint) {
        List<CosmosDBSplit> splits = super.snapshotState(checkpoint).stream()
                .flatMap(split -> states.get(split.splitId()).rest().stream())
                .toList();
        leases.taken(checkpoint, splits.stream().map(CosmosDBSplit::entry).toList());
        return splits;
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) throws Exception {
        super.notifyCheckpointComplete(checkpoint);
        leases.completed(checkpoint);
    }

    @Override
    public InputStatus pollNext(ReaderOutput<T> output) throws Exception {
        this.output = output;
        InputStatus status = super.pollNext(output);
        if (status == InputStatus.END_OF_INPUT && !finished) {
            finished = true;
            context.sendSourceEventToCoordinator(new FinishedEvent());
        }
        return status;
    }

    /**
     * The children of a split go on at once. Each has an output of its own from now on, not from its first record on: until then the
     * watermark of this reader would pass by what it has not read yet.
     */
    @Override
    protected void onSplitFinished(Map<String, CosmosDBSplitState> finished) {
        states.keySet().removeAll(finished.keySet());
        List<CosmosDBSplit> children = finished.values().stream()
                .flatMap(state -> state.children().stream())
                .toList();
        children.forEach(child -> output.createOutputForSplit(child.splitId()));
        if (!children.isEmpty()) {
            addSplits(children);
        }
    }

    @Override
    protected CosmosDBSplitState initializedState(CosmosDBSplit split) {
        metrics.reads(split.splitId());
        CosmosDBSplitState state = new CosmosDBSplitState(split);
        states.put(split.splitId(), state);
        return state;
    }

    @Override
    protected CosmosDBSplit toSplitType(String splitId, CosmosDBSplitState state) {
        return state.split();
    }
}
