package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Page;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.connector.base.source.reader.RecordEmitter;
import org.apache.flink.util.Collector;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next
 * time.
 */
final class PageEmitter<T> implements RecordEmitter<Page, T, CosmosDBSplitState> {
    private static final Logger LOG = LoggerFactory.getLogger(PageEmitter.class);

    private final CosmosDBDeserializationSchema<T> schema;
    private final DecodePolicy policy;
    private final SourceMetrics metrics;
    private final Target<T> target;

    PageEmitter(
            CosmosDBDeserializationSchema<T> schema,
            CosmosDBTimestampExtractor<T> timestamps,
            DecodePolicy policy,
            SourceMetrics metrics) {
        this.schema = schema;
        this.policy = policy;
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
                if (record.undecodable()) {
                    throw new UndecodableException("its id or partition key is no JSON in UTF-8");
                }
                schema.deserialize(record, target);
            } catch (IOException | RuntimeException | StackOverflowError e) {
                if (e == target.downstream) {
                    // Not of this document, but of an operator behind the source.
                    throw e;
                }
                undecodable(page, i, record, state.split(), e);
            }
        }
        metrics.emitted(page);
        state.moveTo(page.split());
    }

    private void undecodable(Page page, int index, RecordView record, CosmosDBSplit split, Throwable why)
            throws IOException {
        // What is flagged the core has counted already.
        metrics.undecodable(record.undecodable());
        switch (policy) {
            case SKIP -> LOG.debug("left out: {}", message(page, index, record, split, why));
            case RAW -> {
                try {
                    schema.deserializeRaw(record, why, target);
                } catch (IOException | RuntimeException e) {
                    if (e == target.downstream) {
                        throw e;
                    }
                    throw new IOException(message(page, index, record, split, e), e);
                }
            }
            case FAIL ->
                throw new IOException(
                        message(page, index, record, split, why)
                                + "; source.on-decode-error skip leaves such documents out, raw hands them on as they are",
                        why);
        }
    }

    private static String message(Page page, int index, RecordView record, CosmosDBSplit split, Throwable why) {
        return "cannot read the document with id '" + record.id() + "' and partition key " + record.partitionKey()
                + " in " + split + " (id " + split.splitId() + "), record " + (index + 1) + " of "
                + page.count() + " of its page, log sequence number " + record.lsn() + ": "
                + (why.getMessage() == null ? why.getClass().getName() : why.getMessage());
    }

    private static final class Target<T> implements Collector<T> {
        private final CosmosDBTimestampExtractor<T> timestamps;
        private SourceOutput<T> output;
        private RecordView record;
        /** What an operator behind the source has thrown. */
        private Throwable downstream;

        Target(CosmosDBTimestampExtractor<T> timestamps) {
            this.timestamps = timestamps;
        }

        @Override
        public void collect(T value) {
            long timestamp = timestamps.extract(value, record);
            try {
                output.collect(value, timestamp);
            } catch (RuntimeException | StackOverflowError e) {
                downstream = e;
                throw e;
            }
        }

        @Override
        public void close() {}
    }
}
