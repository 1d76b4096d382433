package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import java.util.Optional;
import org.apache.flink.api.common.functions.FilterFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSink;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.sink.DataStreamSinkProvider;
import org.apache.flink.table.data.RowData;

/** A sink that rows as they were before an update do not reach, and deletes neither, unless it wants them. */
final class WithoutDeletes implements DataStreamSinkProvider {
    private final CosmosDBSink<RowData> sink;
    private final boolean deletes;
    private final Integer parallelism;

    /**
     * @param deletes whether deletes reach it
     * @param parallelism null for that of what is written
     */
    WithoutDeletes(CosmosDBSink<RowData> sink, boolean deletes, Integer parallelism) {
        this.sink = sink;
        this.deletes = deletes;
        this.parallelism = parallelism;
    }

    @Override
    public DataStreamSink<?> consumeDataStream(ProviderContext context, DataStream<RowData> rows) {
        SingleOutputStreamOperator<RowData> kept =
                rows.filter(new Kept(deletes)).name(deletes ? "without rows before updates" : "without deletes");
        // In the task of the sink, so that rows of one key keep their order.
        kept.setParallelism(parallelism == null ? rows.getParallelism() : parallelism);
        context.generateUid("cosmosdb-without-deletes").ifPresent(kept::uid);
        DataStreamSink<RowData> written = kept.sinkTo(sink).setParallelism(kept.getParallelism());
        context.generateUid("cosmosdb").ifPresent(written::uid);
        return written;
    }

    @Override
    public Optional<Integer> getParallelism() {
        return Optional.ofNullable(parallelism);
    }

    private record Kept(boolean deletes) implements FilterFunction<RowData> {
        @Override
        public boolean filter(RowData row) {
            return switch (row.getRowKind()) {
                case INSERT, UPDATE_AFTER -> true;
                case UPDATE_BEFORE -> false;
                case DELETE -> deletes;
            };
        }
    }
}
