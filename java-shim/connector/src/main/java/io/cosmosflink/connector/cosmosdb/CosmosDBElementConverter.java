package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.PartitionKeys;
import io.cosmosflink.core.UnwritableRecordException;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.connector.base.sink.writer.ElementConverter;

/** Makes a write out of an element: which document, where, what, and how. */
@PublicEvolving
public final class CosmosDBElementConverter<IN> implements ElementConverter<IN, CosmosDBRequestEntry> {
    private static final long serialVersionUID = 1L;
    private static final byte[] NOTHING = {};

    /** A function that travels in the job graph. */
    @PublicEvolving
    @FunctionalInterface
    public interface Extractor<IN, R> extends Function<IN, R>, Serializable {}

    private final Extractor<IN, String> id;
    private final ArrayList<Extractor<IN, ?>> partitionKey;
    private final Extractor<IN, byte[]> document;
    private final Extractor<IN, OperationKind> operation;
    private final Extractor<IN, String> ifMatch;

    private CosmosDBElementConverter(Builder<IN> builder) {
        this.id = builder.id;
        this.partitionKey = new ArrayList<>(builder.partitionKey);
        this.document = builder.document;
        this.operation = builder.operation;
        this.ifMatch = builder.ifMatch;
    }

    public static <IN> Builder<IN> builder() {
        return new Builder<>();
    }

    /**
     * @throws UnwritableRecordException when an extractor throws, or gives what no write can be made of; it holds what the others give
     */
    @Override
    public CosmosDBRequestEntry apply(IN element, SinkWriter.Context context) {
        try {
            String name = id(element);
            OperationKind type = operation.apply(element);
            if (type == null || type == OperationKind.REFUSED) {
                throw new IllegalArgumentException(
                        "the operation extractor gave " + type + "; it must be UPSERT, CREATE, REPLACE or DELETE");
            }
            byte[] bytes = type == OperationKind.DELETE ? NOTHING : document.apply(element);
            if (bytes == null) {
                throw new IllegalArgumentException("the document serializer gave null; only a delete has no document");
            }
            String etag = ifMatch.apply(element);
            return CosmosDBRequestEntry.of(new Operation(type, name, key(element), etag == null ? "" : etag, bytes));
        } catch (RuntimeException | StackOverflowError e) {
            throw UnwritableRecordException.of(
                    e, () -> id.apply(element), () -> key(element), () -> document.apply(element));
        }
    }

    private String id(IN element) {
        String name = id.apply(element);
        if (name == null || name.isEmpty()) {
            throw new IllegalArgumentException("the id extractor gave " + (name == null ? "null" : "an empty id")
                    + " for " + element.getClass().getName() + "; every document needs an id");
        }
        return name;
    }

    private String key(IN element) {
        Object[] components = new Object[partitionKey.size()];
        for (int i = 0; i < components.length; i++) {
            components[i] = partitionKey.get(i).apply(element);
        }
        return PartitionKeys.json(components);
    }

    /** Collects the extractors. */
    @PublicEvolving
    public static final class Builder<IN> {
        private Extractor<IN, String> id;
        private final List<Extractor<IN, ?>> partitionKey = new ArrayList<>();
        private boolean withoutPartitionKey;
        private Extractor<IN, byte[]> document;
        private Extractor<IN, OperationKind> operation = element -> OperationKind.UPSERT;
        private Extractor<IN, String> ifMatch = element -> "";

        private Builder() {}

        /** The document's id. Required. A deterministic one makes writes repeatable. */
        public Builder<IN> id(Extractor<IN, String> extractor) {
            id = extractor;
            return this;
        }

        /**
         * The partition key, or its next component for a hierarchical one: a string, a number, a boolean, null, or
         * {@link PartitionKeys#UNDEFINED} for a document without a value at this path.
         */
        public Builder<IN> partitionKey(Extractor<IN, ?> extractor) {
            partitionKey.add(extractor);
            return this;
        }

        /** The container has no partition key paths; such were made by old clients and are still served. */
        public Builder<IN> withoutPartitionKey() {
            withoutPartitionKey = true;
            return this;
        }

        /** The document as a JSON object in UTF-8, id and partition key included. Not called for deletes. */
        public Builder<IN> document(Extractor<IN, byte[]> serializer) {
            document = serializer;
            return this;
        }

        /** What to do with the document; upsert unless set. */
        public Builder<IN> operation(Extractor<IN, OperationKind> extractor) {
            operation = extractor;
            return this;
        }

        /** ETag that the stored document must have; none unless set. */
        public Builder<IN> ifMatch(Extractor<IN, String> extractor) {
            ifMatch = extractor;
            return this;
        }

        /**
         * @throws IllegalStateException when id, partition key or document is missing, or a key is given for a container without one
         */
        public CosmosDBElementConverter<IN> build() {
            boolean noKey = partitionKey.isEmpty() && !withoutPartitionKey;
            if (id == null || noKey || document == null) {
                throw new IllegalStateException("an element converter needs id, partitionKey and document; missing: "
                        + (id == null ? "id " : "") + (noKey ? "partitionKey " : "")
                        + (document == null ? "document" : ""));
            }
            if (withoutPartitionKey && !partitionKey.isEmpty()) {
                throw new IllegalStateException(
                        "an element converter has both partitionKey and withoutPartitionKey; leave one");
            }
            return new CosmosDBElementConverter<>(this);
        }
    }
}
