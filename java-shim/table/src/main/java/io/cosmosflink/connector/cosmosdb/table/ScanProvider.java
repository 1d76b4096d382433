package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.util.Optional;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.data.RowData;

/** A source with its watermarks, which are made by split: Flink's provider of a source alone has none. */
final class ScanProvider implements DataStreamScanProvider {
    private static final String UID = "cosmosdb";

    private final CosmosDBSource<RowData> source;
    private final WatermarkStrategy<RowData> watermarks;
    private final String name;
    private final Integer parallelism;

    /** @param parallelism null for that of the job */
    ScanProvider(
            CosmosDBSource<RowData> source, WatermarkStrategy<RowData> watermarks, String name, Integer parallelism) {
        this.source = source;
        this.watermarks = watermarks;
        this.name = name;
        this.parallelism = parallelism;
    }

    @Override
    public DataStream<RowData> produceDataStream(ProviderContext context, StreamExecutionEnvironment environment) {
        DataStreamSource<RowData> stream = environment.fromSource(source, watermarks, name);
        context.generateUid(UID).ifPresent(stream::uid);
        return stream;
    }

    @Override
    public boolean isBounded() {
        return source.getBoundedness() == Boundedness.BOUNDED;
    }

    @Override
    public Optional<Integer> getParallelism() {
        return Optional.ofNullable(parallelism);
    }
}
