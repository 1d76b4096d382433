package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.DecodePolicy;
import io.cosmosflink.core.Page;
import java.util.Map;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.connector.base.source.reader.SingleThreadMultiplexSourceReaderBase;

/** Reads all its splits with one fetcher: the concurrency is inside the core. */
@SuppressWarnings("try") // close() of the base class may throw what it likes
final class CosmosDBSourceReader<T>
        extends SingleThreadMultiplexSourceReaderBase<Page, T, CosmosDBSplit, CosmosDBSplitState> {

    /** @param options validated */
    CosmosDBSourceReader(
            SourceReaderContext context,
            Core core,
            CosmosDBOptions options,
            CosmosDBDeserializationSchema<T> schema,
            CosmosDBTimestampExtractor<T> timestamps) {
        this(context, core, options, schema, timestamps, new SourceMetrics(core, context.metricGroup()));
    }

    private CosmosDBSourceReader(
            SourceReaderContext context,
            Core core,
            CosmosDBOptions options,
            CosmosDBDeserializationSchema<T> schema,
            CosmosDBTimestampExtractor<T> timestamps,
            SourceMetrics metrics) {
        super(
                () -> new CosmosDBSplitReader(core, options, metrics.ofCore()),
                new PageEmitter<>(schema, timestamps, DecodePolicy.of(options.toMap()), metrics),
                context.getConfiguration(),
                context);
    }

    @Override
    protected void onSplitFinished(Map<String, CosmosDBSplitState> finished) {
        // A change feed has no end.
    }

    @Override
    protected CosmosDBSplitState initializedState(CosmosDBSplit split) {
        return new CosmosDBSplitState(split);
    }

    @Override
    protected CosmosDBSplit toSplitType(String splitId, CosmosDBSplitState state) {
        return state.split();
    }
}
