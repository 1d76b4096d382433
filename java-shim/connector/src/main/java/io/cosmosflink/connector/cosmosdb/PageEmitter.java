package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.DecodePolicy;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.RecordFailures;
import io.cosmosflink.core.RecordView;
import io.cosmosflink.core.Seldom;
import java.io.IOException;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.connector.base.source.reader.RecordEmitter;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ExceptionUtils;
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
    private final Seldom skipped = new Seldom();

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
            Throwable refusal = attempt(record, null);
            if (refusal != null) {
                undecodable(record, state.split(), refusal);
            }
        }
        metrics.emitted(page);
        state.moveTo(page.split());
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

    private void undecodable(RecordView record, CosmosDBSplit split, Throwable why) throws IOException {
        if (!RecordFailures.isOfRecord(why)) {
            throw everybodys(record, split, why);
        }
        // What is flagged the core has counted already.
        metrics.undecodable(record.undecodable());
        switch (policy) {
            case SKIP -> {
                long since = skipped.happened();
                if (since > 0) {
                    LOG.warn(
                            "left out {} documents that cannot be read, the last of them: {}",
                            since,
                            message(record, split, why));
                } else if (LOG.isDebugEnabled()) {
                    LOG.debug("left out: {}", message(record, split, why));
                }
            }
            case RAW -> {
                Throwable again = attempt(record, why);
                if (again != null) {
                    throw everybodys(record, split, again);
                }
            }
            case FAIL ->
                throw new IOException(
                        message(record, split, why)
                                + "; source.on-decode-error skip leaves such documents out, raw hands them on as they are",
                        RecordFailures.small(why));
        }
    }

    private static IOException everybodys(RecordView record, CosmosDBSplit split, Throwable why) {
        if (why instanceof Error error && !(why instanceof StackOverflowError)) {
            throw error;
        }
        return new IOException(message(record, split, why), RecordFailures.small(why));
    }

    private static String message(RecordView record, CosmosDBSplit split, Throwable why) {
        return record.unreadable(split.toString()) + ": "
                + RecordFailures.shortened(
                        why.getMessage() == null ? why.getClass().getName() : why.getMessage());
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
