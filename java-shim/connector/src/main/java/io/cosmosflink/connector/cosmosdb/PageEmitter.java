package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.DecodePolicy;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.RecordFailures;
import io.cosmosflink.core.RecordView;
import io.cosmosflink.core.UndecodableRecords;
import java.io.IOException;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.connector.base.source.reader.RecordEmitter;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ExceptionUtils;

/**
 * Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next
 * time.
 */
final class PageEmitter<T> implements RecordEmitter<Page, T, CosmosDBSplitState> {
    private final CosmosDBDeserializationSchema<T> schema;
    private final UndecodableRecords undecodable;
    private final SourceMetrics metrics;
    private final Target<T> target;

    PageEmitter(
            CosmosDBDeserializationSchema<T> schema,
            CosmosDBTimestampExtractor<T> timestamps,
            DecodePolicy policy,
            SourceMetrics metrics) {
        this.schema = schema;
        this.undecodable = new UndecodableRecords(policy);
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
            Throwable refusal = attempt(record, null);
            if (refusal != null) {
                refused(record, state.split(), refusal);
            }
        }
        metrics.emitted(page);
        state.moveTo(page.split());
        if (page.finished()) {
            state.endWith(page.children());
        }
    }

    /**
     * Why the record cannot be used, or null.
     *
     * @param error why it could not be decoded, to have it emitted as it is; null to have it decoded
     */
    private Throwable attempt(RecordView record, Throwable error) {
        target.refusal = null;
        Throwable thrown = null;
        try {
            if (error != null) {
                schema.deserializeRaw(record, error, target);
            } else if (record.undecodable()) {
                thrown = new UndecodableException("its id or partition key is no JSON in UTF-8");
            } else {
                schema.deserialize(record, target);
            }
        } catch (Throwable e) {
            thrown = e;
        }
        // Not of this document, but of an operator behind the source, whatever the schema has made of it.
        if (target.downstream != null) {
            ExceptionUtils.rethrow(target.downstream);
        }
        return thrown == null ? target.refusal : thrown;
    }

    private void refused(RecordView record, CosmosDBSplit split, Throwable why) throws IOException {
        if (!RecordFailures.isOfRecord(why)) {
            throw failure(record, split, why);
        }
        // What is flagged the core has counted already.
        metrics.undecodable(record.undecodable());
        if (undecodable.settle(record, split, RecordFailures.reason(why), why)) {
            Throwable again = attempt(record, why);
            if (again != null) {
                throw failure(record, split, again);
            }
        }
    }

    private static IOException failure(RecordView record, CosmosDBSplit split, Throwable why) {
        return UndecodableRecords.failure(record, split, RecordFailures.reason(why), why);
    }

    private static final class Target<T> implements Collector<T> {
        private final CosmosDBTimestampExtractor<T> timestamps;
        private SourceOutput<T> output;
        private RecordView record;
        /** What an operator behind the source has thrown. */
        private Throwable downstream;
        /** What the event time of the record could not be told for. */
        private Throwable refusal;

        Target(CosmosDBTimestampExtractor<T> timestamps) {
            this.timestamps = timestamps;
        }

        @Override
        public void collect(T value) {
            long timestamp;
            try {
                timestamp = timestamps.extract(value, record);
            } catch (Throwable e) {
                refusal = e;
                throw e;
            }
            try {
                output.collect(value, timestamp);
            } catch (Throwable e) {
                downstream = e;
                throw e;
            }
        }

        @Override
        public void close() {}
    }
}
