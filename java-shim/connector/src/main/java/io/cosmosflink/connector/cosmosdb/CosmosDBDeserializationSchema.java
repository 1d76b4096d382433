package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import java.io.Serializable;
import java.util.Objects;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;
import org.apache.flink.util.Collector;
import org.apache.flink.util.function.SerializableSupplier;

/** Makes elements of a stream out of records of the change feed. */
@PublicEvolving
public interface CosmosDBDeserializationSchema<T> extends Serializable, ResultTypeQueryable<T> {
    /** Called once before the first record. */
    default void open(DeserializationSchema.InitializationContext context) throws Exception {}

    /**
     * Emits none, one or several elements for a record.
     *
     * @param record valid during this call only; its {@code change()} says whether it is a delete, which has no document
     * @throws IOException when the record cannot be used, as any other exception says too; what becomes of the record is the option
     *     {@code json.on-error}. What was emitted before stays emitted.
     * @throws io.cosmosflink.core.NotOfRecordException when every record would fail alike; this fails the job, as an {@link Error} does
     */
    void deserialize(RecordView record, Collector<T> out) throws IOException;

    /**
     * Emits what is to stand for a record that could not be decoded: the core could not read its id or key, or {@link #deserialize} threw.
     * Called with {@code json.on-error} {@code raw} only. Unless a schema overrides it, it fails the job, because nothing of the
     * type {@code T} could stand for such a record; {@link #string} and {@link #raw} hand it on.
     *
     * @param record as for {@link #deserialize}; {@code document()} is what the service sent, byte for byte
     * @param error why it could not be decoded
     * @throws IOException when the record cannot be used this way either; this fails the job
     */
    default void deserializeRaw(RecordView record, Throwable error, Collector<T> out) throws IOException {
        throw new IOException(
                getClass().getName()
                        + " has no deserializeRaw, which json.on-error raw needs; its failure was: "
                        + error.getMessage(),
                error);
    }

    /**
     * Whether it makes something of a {@link RecordView.Change#DELETE}. One that does not is refused with {@code scan.change-feed.mode}
     * {@code all-versions-and-deletes}, where deletes would go unseen: {@link #changes} hands them on, {@link #withoutDeletes} leaves them
     * out knowingly.
     */
    default boolean readsDeletes() {
        return true;
    }

    /** The document as text, a replacement character for what is no UTF-8. Deletes are left out. */
    static CosmosDBDeserializationSchema<String> string() {
        return new Schemas.Text();
    }

    /** The document as a tree. Deletes are left out. The job must bring {@code jackson-databind}, 2.12 or newer. */
    static CosmosDBDeserializationSchema<JsonNode> jsonNode() {
        Schemas.requireJackson("jsonNode()");
        return new Schemas.Tree();
    }

    /**
     * The document as an object that Flink knows as a POJO; fields that it lacks are left out. Deletes are left out. The job must bring
     * {@code jackson-databind}, 2.12 or newer, whose annotations count.
     */
    static <T> CosmosDBDeserializationSchema<T> pojo(Class<T> type) {
        return new Schemas.Pojo<>(type, null);
    }

    /**
     * Like {@link #pojo(Class)}, read by a mapper of one's own, such as one that knows {@code java.time}. The mapper is asked for on each
     * task and must not be changed afterwards.
     */
    static <T> CosmosDBDeserializationSchema<T> pojo(Class<T> type, SerializableSupplier<ObjectMapper> mapper) {
        return new Schemas.Pojo<>(type, Objects.requireNonNull(mapper, "mapper"));
    }

    /**
     * Each change with its kind, the document as this schema reads it, and deletes without one: the form for
     * {@code scan.change-feed.mode} {@code all-versions-and-deletes}.
     *
     * @param documents emits one element for a document, or none to have its change left out
     */
    static <T> CosmosDBDeserializationSchema<CosmosDBChange<T>> changes(CosmosDBDeserializationSchema<T> documents) {
        return new Schemas.Changes<>(Objects.requireNonNull(documents, "documents"));
    }

    /** Only the documents, with {@code scan.change-feed.mode} {@code all-versions-and-deletes} each version of them: deletes are left out. */
    static <T> CosmosDBDeserializationSchema<T> withoutDeletes(CosmosDBDeserializationSchema<T> documents) {
        return new Schemas.WithoutDeletes<>(Objects.requireNonNull(documents, "documents"));
    }

    /**
     * What another schema makes of the document, which is JSON in UTF-8: Flink's own schemas for JSON, or for Avro in its JSON encoding, those
     * of a format library, or one of the job. Deletes are left out. The end that {@link DeserializationSchema#isEndOfStream} may see is not
     * asked for: where a source ends is a matter of its options.
     */
    static <T> CosmosDBDeserializationSchema<T> of(DeserializationSchema<T> schema) {
        return new Schemas.Foreign<>(Objects.requireNonNull(schema, "schema"));
    }

    /** Everything that the feed says about a change, deletes included. */
    static CosmosDBDeserializationSchema<CosmosDBRecord> raw() {
        return new Schemas.Raw();
    }
}
