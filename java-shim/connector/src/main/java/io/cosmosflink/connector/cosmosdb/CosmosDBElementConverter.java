package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Batch;
import io.cosmosflink.core.Documents;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.PartitionKeys;
import io.cosmosflink.core.Patch;
import io.cosmosflink.core.UnwritableRecordException;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.util.FlinkRuntimeException;

/**
 * Makes a write out of an element: which document, where, what, and how. What an element does not say, the options do: {@code
 * sink.write-strategy} what is done, {@code sink.id} how an id is made of the document; its key the core finds at the container's paths.
 */
@PublicEvolving
public final class CosmosDBElementConverter<IN> implements ElementConverter<IN, CosmosDBRequestEntry> {
    private static final long serialVersionUID = 1L;
    private static final byte[] NOTHING = {};

    /** A function that travels in the job graph. */
    @PublicEvolving
    @FunctionalInterface
    public interface Extractor<IN, R> extends Function<IN, R>, Serializable {}

    /** Null: the core takes it from the document. */
    private final Extractor<IN, String> id;
    /** Null: the core takes it from the document. */
    private final ArrayList<Extractor<IN, ?>> partitionKey;

    private final Extractor<IN, byte[]> document;
    private final SerializationSchema<IN> schema;
    private final Extractor<IN, Integer> timeToLive;
    private final Extractor<IN, Patch> patch;
    private final Extractor<IN, Batch> batch;
    private final Extractor<IN, OperationKind> operation;
    private final Extractor<IN, String> ifMatch;

    private CosmosDBElementConverter(Builder<IN> builder) {
        this.id = builder.id;
        this.partitionKey = builder.keyInDocument() ? null : new ArrayList<>(builder.partitionKey);
        this.document = builder.document;
        this.schema = builder.schema;
        this.timeToLive = builder.timeToLive;
        this.patch = builder.patch;
        this.batch = builder.batch;
        this.operation = builder.operation;
        this.ifMatch = builder.ifMatch == null ? element -> "" : builder.ifMatch;
    }

    public static <IN> Builder<IN> builder() {
        return new Builder<>();
    }

    /** Opens the schema, if it has one. Not {@code open} of the interface, whose argument is of another class in Flink 1.20 than since 2.0. */
    void started(WriterInitContext context) {
        if (schema == null) {
            return;
        }
        try {
            schema.open(context.asSerializationSchemaInitializationContext());
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new FlinkRuntimeException(
                    "the serialization schema of the sink cannot be opened: " + e.getMessage(), e);
        }
    }

    /**
     * @throws UnwritableRecordException when an extractor throws, or gives what no write can be made of; it holds what the others give
     */
    @Override
    public CosmosDBRequestEntry apply(IN element, SinkWriter.Context context) {
        try {
            OperationKind type = operation.apply(element);
            if (type == null || type == OperationKind.REFUSED) {
                throw new IllegalArgumentException("the operation extractor gave " + type
                        + "; it must be one of OperationKind, but REFUSED: leave the record out before the sink");
            }
            // The documents of a batch have ids of their own.
            String name = type == OperationKind.BATCH ? "" : id(element);
            byte[] bytes = body(element, type);
            String etag = ifMatch.apply(element);
            return CosmosDBRequestEntry.of(new Operation(type, name, key(element), etag == null ? "" : etag, bytes));
        } catch (RuntimeException | StackOverflowError e) {
            throw UnwritableRecordException.of(e, () -> id(element), () -> key(element), () -> known(element));
        }
    }

    /** What is known of what was to be written of an element, of which no write could be made. */
    private byte[] known(IN element) {
        OperationKind type;
        try {
            type = operation.apply(element);
        } catch (RuntimeException e) {
            // That is why there is no write.
            type = OperationKind.DEFAULT;
        }
        if (type == OperationKind.BATCH && batch != null) {
            return batch.apply(element).bytes();
        }
        if (type != null && type.isPatch() && patch != null) {
            return patch.apply(element).bytes();
        }
        return document(element);
    }

    private byte[] body(IN element, OperationKind type) {
        if (type == OperationKind.BATCH) {
            return batch(element);
        }
        if (id == null && batchAlone()) {
            throw new IllegalArgumentException("the operation extractor gave " + type
                    + ", and the converter has a batch extractor and no id; the operation must be BATCH");
        }
        if (type.isDelete()) {
            // What it is a delete of, may stand in the document alone.
            return id == null || partitionKey == null ? document(element) : NOTHING;
        }
        if (!type.isPatch()) {
            return document(element);
        }
        Patch changes = patch == null ? null : patch.apply(element);
        if (changes == null) {
            throw new IllegalArgumentException(
                    patch == null
                            ? "the operation extractor gave " + type + ", and the converter has no patch extractor"
                            : "the patch extractor gave null; a " + type + " needs a patch");
        }
        return changes.bytes();
    }

    private byte[] batch(IN element) {
        Batch writes = batch == null ? null : batch.apply(element);
        if (writes == null) {
            throw new IllegalArgumentException(
                    batch == null
                            ? "the operation extractor gave BATCH, and the converter has no batch extractor"
                            : "the batch extractor gave null; a BATCH needs a batch");
        }
        return writes.bytes();
    }

    private boolean batchAlone() {
        return document == null && schema == null && patch == null;
    }

    private byte[] document(IN element) {
        if (document == null && schema == null) {
            throw new IllegalArgumentException(
                    "the converter has no document; the operation must be what it has an extractor for, PATCH, PATCH_IF_EXISTS or BATCH");
        }
        byte[] bytes = schema == null ? document.apply(element) : schema.serialize(element);
        if (bytes == null) {
            throw new IllegalArgumentException("the document serializer gave null; only a delete has no document");
        }
        Integer seconds = timeToLive == null ? null : timeToLive.apply(element);
        return seconds == null ? bytes : Documents.withTimeToLive(bytes, seconds);
    }

    private String id(IN element) {
        if (id == null) {
            return "";
        }
        String name = id.apply(element);
        if (name == null || name.isEmpty()) {
            throw new IllegalArgumentException("the id extractor gave " + (name == null ? "null" : "an empty id")
                    + " for " + element.getClass().getName() + "; every document needs an id");
        }
        return name;
    }

    private String key(IN element) {
        if (partitionKey == null) {
            return "";
        }
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
        private boolean idInDocument;
        private boolean partitionKeyInDocument;
        private Extractor<IN, byte[]> document;
        private SerializationSchema<IN> schema;
        private Extractor<IN, Integer> timeToLive;
        private Extractor<IN, Patch> patch;
        private Extractor<IN, Batch> batch;
        private Extractor<IN, OperationKind> operation;
        private Extractor<IN, String> ifMatch;

        private Builder() {}

        /** The document's id. A deterministic one makes writes repeatable. */
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

        /** The id is made of the document, as the option {@code sink.id} says. */
        public Builder<IN> idFromDocument() {
            idInDocument = true;
            return this;
        }

        /** The partition key is what the document has at the container's paths. */
        public Builder<IN> partitionKeyFromDocument() {
            partitionKeyInDocument = true;
            return this;
        }

        /**
         * The document as a JSON object in UTF-8, id and partition key included. Not called for patches and batches, nor for deletes whose id and
         * partition key have extractors.
         */
        public Builder<IN> document(Extractor<IN, byte[]> serializer) {
            document = serializer;
            return this;
        }

        /**
         * The document from one of Flink's schemas, such as {@code JsonSerializationSchema}: a JSON object in UTF-8. Id and key are taken from it
         * where there is no extractor for them.
         */
        public Builder<IN> serializer(SerializationSchema<IN> serializationSchema) {
            schema = serializationSchema;
            return this;
        }

        /**
         * Seconds after its last change for which the document lives, -1 for ever; null leaves it to the container, which must have time to live
         * turned on. The document gets the field {@code ttl}, which it must not have already. Documents of a batch bring theirs along, and a patch sets
         * it like any field.
         */
        public Builder<IN> timeToLive(Extractor<IN, Integer> seconds) {
            timeToLive = seconds;
            return this;
        }

        /**
         * What changes in the document, for {@code PATCH} and {@code PATCH_IF_EXISTS}. Without document and batch every element is a {@code PATCH} unless
         * it says otherwise; beside one of them {@link #operation} says what it is.
         */
        public Builder<IN> patch(Extractor<IN, Patch> extractor) {
            patch = extractor;
            return this;
        }

        /**
         * Writes of documents of the element's partition key that are carried out together or not at all, for {@code BATCH}. With neither document nor
         * patch every element is one unless it says otherwise, and no id is needed; beside one of them {@link #operation} says what it is. Ids, ETags
         * and times to live are those of its documents.
         */
        public Builder<IN> batch(Extractor<IN, Batch> extractor) {
            batch = extractor;
            return this;
        }

        /** What to do with the document; unless set, what the option {@code sink.write-strategy} says. */
        public Builder<IN> operation(Extractor<IN, OperationKind> extractor) {
            operation = extractor;
            return this;
        }

        /** ETag that the stored document must have; none unless set. */
        public Builder<IN> ifMatch(Extractor<IN, String> extractor) {
            ifMatch = extractor;
            return this;
        }

        private boolean keyInDocument() {
            return partitionKey.isEmpty() && !withoutPartitionKey && (partitionKeyInDocument || schema != null);
        }

        /**
         * @throws IllegalStateException when id, partition key or document is missing, or given twice, a key is given for a container without one, or
         *     something is given that no element would use
         */
        public CosmosDBElementConverter<IN> build() {
            boolean batchAlone = batch != null && document == null && schema == null && patch == null;
            boolean noId = id == null && !idInDocument && schema == null && !batchAlone;
            boolean noKey = partitionKey.isEmpty() && !withoutPartitionKey && !keyInDocument();
            boolean noDocument = document == null && schema == null && patch == null && batch == null;
            if (noId || noKey || noDocument) {
                throw new IllegalStateException("an element converter needs id, partitionKey and document; missing: "
                        + (noId ? "id " : "") + (noKey ? "partitionKey " : "") + (noDocument ? "document" : ""));
            }
            if (withoutPartitionKey && !partitionKey.isEmpty()) {
                throw new IllegalStateException(
                        "an element converter has both partitionKey and withoutPartitionKey; leave one");
            }
            if (document != null && schema != null) {
                throw new IllegalStateException("an element converter has both document and serializer; leave one");
            }
            if (partitionKeyInDocument && !keyInDocument() || idInDocument && id != null) {
                throw new IllegalStateException(
                        "an element converter takes id or partition key from the document and from an extractor; leave one");
            }
            boolean withoutDocument = document == null && schema == null;
            if (withoutDocument && (idInDocument || keyInDocument())) {
                throw new IllegalStateException(
                        "a patch or a batch holds neither id nor partition key; give the element converter id and partitionKey");
            }
            checkUsed(withoutDocument, batchAlone);
            if (operation == null) {
                OperationKind kind = batchAlone
                        ? OperationKind.BATCH
                        : withoutDocument ? OperationKind.PATCH : OperationKind.DEFAULT;
                operation = element -> kind;
            }
            return new CosmosDBElementConverter<>(this);
        }

        /** Refuses what no element would use. */
        private void checkUsed(boolean withoutDocument, boolean batchAlone) {
            if (timeToLive != null && withoutDocument) {
                throw new IllegalStateException(
                        "an element converter has timeToLive and no document to which it applies; a batch's documents bring their field ttl along, and a "
                                + "patch sets it");
            }
            if (operation != null) {
                return;
            }
            String others = (patch == null ? "" : " and patch") + (batch == null ? "" : " and batch");
            if (!withoutDocument && !others.isEmpty() || patch != null && batch != null) {
                throw new IllegalStateException("an element converter has "
                        + (withoutDocument ? others.substring(5) : "document" + others)
                        + "; give it operation, which says what of it an element is");
            }
            if (batchAlone && (id != null || ifMatch != null)) {
                throw new IllegalStateException(
                        "an element converter has " + (id == null ? "ifMatch" : "id")
                                + ", and each of its elements is a batch, whose documents have their own; leave it out, or give it operation");
            }
        }
    }
}
