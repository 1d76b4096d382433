package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import java.io.Serializable;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;
import org.apache.flink.util.Collector;

/** Makes elements of a stream out of records of the change feed. */
public interface CosmosDBDeserializationSchema<T> extends Serializable, ResultTypeQueryable<T> {
    /** Called once before the first record. */
    default void open(DeserializationSchema.InitializationContext context) throws Exception {}

    /**
     * Emits none, one or several elements for a record.
     *
     * @param record valid during this call only; its {@code change()} says whether it is a delete, which has no document
     * @throws IOException when the record cannot be used; this fails the job
     */
    void deserialize(RecordView record, Collector<T> out) throws IOException;

    /** The document as text. Deletes are left out. */
    static CosmosDBDeserializationSchema<String> string() {
        return new Schemas.Text();
    }

    /** The document as a tree. Deletes are left out. */
    static CosmosDBDeserializationSchema<JsonNode> jsonNode() {
        return new Schemas.Tree();
    }

    /** The document as an object that Flink knows as a POJO; fields that it lacks are left out. Deletes are left out. */
    static <T> CosmosDBDeserializationSchema<T> pojo(Class<T> type) {
        return new Schemas.Pojo<>(type);
    }

    /** Everything that the feed says about a change, deletes included. */
    static CosmosDBDeserializationSchema<CosmosDBRecord> raw() {
        return new Schemas.Raw();
    }
}
