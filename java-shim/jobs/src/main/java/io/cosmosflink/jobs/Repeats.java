package io.cosmosflink.jobs;

import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Hands every change on, and counts those that are not newer than what was seen of their document: repeats, which there must be none of.
 *
 * <p>A change is newer by its number, or by its time: behind a merge of partitions numbers may begin anew, lower than before.
 *
 * <p>Number and time of the last change of each document and the counts are in Flink's state. After a failure both go back to the checkpoint, as the source
 * does: what it reads again is no repeat, unless its position is not that of the checkpoint.
 */
final class Repeats extends KeyedProcessFunction<String, CosmosDBRecord, CosmosDBRecord>
        implements CheckpointedFunction {
    private static final long serialVersionUID = 1L;

    /** The operator's name and uid. */
    static final String NAME = "repeats";

    private static final int DOCUMENTS = 0;
    private static final int UPDATES = 1;
    private static final int REPEATS = 2;

    /** Number and time, in seconds, of the last change that was newer. */
    private transient ValueState<long[]> last;

    private transient ListState<long[]> saved;
    private transient long[] counts;

    /** Counts in a stream, which keeps its order by document. */
    static SingleOutputStreamOperator<CosmosDBRecord> count(DataStream<CosmosDBRecord> changes) {
        return changes.keyBy(change -> change.partitionKey + change.id, Types.STRING)
                .process(new Repeats())
                .returns(changes.getType())
                .name(NAME)
                .uid(NAME);
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
        saved = context.getOperatorStateStore()
                .getListState(
                        new ListStateDescriptor<>("counts", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
        counts = new long[3];
        // With another parallelism a subtask gets the counts of several, or of none.
        for (long[] part : saved.get()) {
            Arrays.setAll(counts, n -> counts[n] + part[n]);
        }
    }

    @Override
    public void open(OpenContext context) {
        last = getRuntimeContext()
                .getState(new ValueStateDescriptor<>("last", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
        MetricGroup metrics = getRuntimeContext().getMetricGroup();
        metrics.gauge("documents", (Gauge<Long>) () -> counts[DOCUMENTS]);
        metrics.gauge("updates", (Gauge<Long>) () -> counts[UPDATES]);
        metrics.gauge("repeats", (Gauge<Long>) () -> counts[REPEATS]);
    }

    @Override
    public void processElement(CosmosDBRecord change, Context context, Collector<CosmosDBRecord> out) throws Exception {
        long[] before = last.value();
        boolean newer = before == null || change.lsn > before[0] || change.timestampSeconds > before[1];
        if (before == null) {
            counts[DOCUMENTS]++;
        } else {
            counts[newer ? UPDATES : REPEATS]++;
        }
        if (newer) {
            last.update(new long[] {change.lsn, change.timestampSeconds});
        }
        out.collect(change);
    }

    /** Documents, updates and repeats of this subtask. */
    long[] counts() {
        return counts.clone();
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
        saved.update(List.of(counts()));
    }
}
