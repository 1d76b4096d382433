package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Page;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.connector.base.source.reader.RecordEmitter;
import org.apache.flink.util.Collector;

/**
 * Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next
 * time.
 */
final class PageEmitter<T> implements RecordEmitter<Page, T, CosmosDBSplitState> {
    private final CosmosDBDeserializationSchema<T> schema;
    private final SourceMetrics metrics;
    private final Target<T> target;

    PageEmitter(
            CosmosDBDeserializationSchema<T> schema, CosmosDBTimestampExtractor<T> timestamps, SourceMetrics metrics) {
        this.schema = schema;
        this.metrics = metrics;
        this.target = new Target<>(timestamps);
    }

    @Override
    public void emitRecord(Page page, SourceOutput<T> output, CosmosDBSplitState state) throws IOException {
        RecordView record = page.records();
        target.output = output;
        target.record = record;
        for (int i = 0; i < page.count(); i++) {
            record.at(i);
            try {
                schema.deserialize(record, target);
            } catch (IOException | RuntimeException e) {
                if (e == target.downstream) {
                    // Not of this document, but of an operator behind the source.
                    throw e;
                }
                metrics.failed();
                throw new IOException(
                        "cannot read the document with id '" + record.id() + "' and partition key "
                                + record.partitionKey() + ": " + e.getMessage(),
                        e);
            }
        }
        metrics.emitted(page);
        state.moveTo(page.split());
    }

    private static final class Target<T> implements Collector<T> {
        private final CosmosDBTimestampExtractor<T> timestamps;
        private SourceOutput<T> output;
        private RecordView record;
        /** What an operator behind the source has thrown. */
        private RuntimeException downstream;

        Target(CosmosDBTimestampExtractor<T> timestamps) {
            this.timestamps = timestamps;
        }

        @Override
        public void collect(T value) {
            long timestamp = timestamps.extract(value, record);
            try {
                output.collect(value, timestamp);
            } catch (RuntimeException e) {
                downstream = e;
                throw e;
            }
        }

        @Override
        public void close() {}
    }
}
