package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.DocumentPlan;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** The metadata columns that a table can be written with. */
enum WritableMetadata {
    /** The ETag that the stored document must have; null for any. */
    ETAG("etag", DataTypes.STRING().nullable()),
    /** The time to live of the document in seconds; null leaves it to the container. */
    TTL("ttl", DataTypes.INT().nullable());

    final String key;
    final DataType type;

    WritableMetadata(String key, DataType type) {
        this.key = key;
        this.type = type;
    }

    static WritableMetadata of(String key) {
        for (WritableMetadata metadata : values()) {
            if (metadata.key.equals(key)) {
                return metadata;
            }
        }
        throw new IllegalArgumentException("there is no metadata '" + key + "' to write");
    }

    /** Adds the column of it, the next one of the rows. */
    void add(DocumentPlan plan) {
        switch (this) {
            case ETAG -> plan.etag(key);
            case TTL -> plan.timeToLive(key);
        }
    }

    static Map<String, DataType> types() {
        Map<String, DataType> types = new LinkedHashMap<>();
        for (WritableMetadata metadata : values()) {
            types.put(metadata.key, metadata.type);
        }
        return types;
    }
}
