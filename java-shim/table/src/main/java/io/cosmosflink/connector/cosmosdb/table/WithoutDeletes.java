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
import org.apache.flink.types.RowKind;

/** A sink that deletes do not reach. */
final class WithoutDeletes implements DataStreamSinkProvider {
    private final CosmosDBSink<RowData> sink;
    private final Integer parallelism;

    /** @param parallelism null for that of what is written */
    WithoutDeletes(CosmosDBSink<RowData> sink, Integer parallelism) {
        this.sink = sink;
        this.parallelism = parallelism;
    }

    @Override
    public DataStreamSink<?> consumeDataStream(ProviderContext context, DataStream<RowData> rows) {
        SingleOutputStreamOperator<RowData> kept = rows.filter(new NoDelete()).name("without deletes");
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

    private static final class NoDelete implements FilterFunction<RowData> {
        private static final long serialVersionUID = 1L;

        @Override
        public boolean filter(RowData row) {
            return row.getRowKind() != RowKind.DELETE;
        }
    }
}
