package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.RowPlan.Metadata;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** The metadata columns that a table can be read with. */
enum ReadableMetadata {
    /** The service's {@code _ts}, of a delete when it happened. */
    TIMESTAMP("timestamp", DataTypes.TIMESTAMP_LTZ(3).nullable(), Metadata.TIMESTAMP),
    ETAG("etag", DataTypes.STRING().nullable(), List.of("_etag"), RowPlan.Type.string(true)),
    /** The document's own time to live, in seconds. */
    TTL("ttl", DataTypes.INT().nullable(), List.of("ttl"), RowPlan.Type.integer(true)),
    RID("rid", DataTypes.STRING().nullable(), List.of("_rid"), RowPlan.Type.string(true)),
    SPLIT("split", DataTypes.STRING().notNull(), Metadata.SPLIT),
    /** The document's JSON as the service sent it; null for a delete. */
    DOCUMENT("document", DataTypes.STRING().nullable(), List.of(), RowPlan.Type.rawJson(true)),
    ID("id", DataTypes.STRING().nullable(), Metadata.ID),
    /** A JSON array of the components. */
    PARTITION_KEY("partition-key", DataTypes.STRING().nullable(), Metadata.PARTITION_KEY),
    /** {@code upsert}, {@code create}, {@code replace} or {@code delete}. */
    OPERATION("operation", DataTypes.STRING().notNull(), Metadata.OPERATION),
    DATABASE("database", DataTypes.STRING().notNull()),
    CONTAINER("container", DataTypes.STRING().notNull()),
    /** The number of the write in its physical partition. */
    LSN("lsn", DataTypes.BIGINT().nullable(), Metadata.LSN),
    COMMIT_TIME("commit-time", DataTypes.TIMESTAMP_LTZ(3).nullable(), Metadata.COMMIT_TIME),
    /** Whether it is a delete because the document's time to live ended. */
    TTL_EXPIRED("ttl-expired", DataTypes.BOOLEAN().notNull(), Metadata.TTL_EXPIRED),
    /** When the page of the document arrived. */
    ARRIVAL_TIME("arrival-time", DataTypes.TIMESTAMP_LTZ(3).notNull(), Metadata.ARRIVAL_TIME);

    final String key;
    final DataType type;
    /** Null for what stands in the document, and for a constant. */
    private final Metadata metadata;
    /** Null for what does not stand in the document. */
    private final List<String> path;

    private final RowPlan.Type pathType;

    ReadableMetadata(String key, DataType type) {
        this(key, type, null, null, null);
    }

    ReadableMetadata(String key, DataType type, Metadata metadata) {
        this(key, type, metadata, null, null);
    }

    ReadableMetadata(String key, DataType type, List<String> path, RowPlan.Type pathType) {
        this(key, type, null, path, pathType);
    }

    ReadableMetadata(String key, DataType type, Metadata metadata, List<String> path, RowPlan.Type pathType) {
        this.key = key;
        this.type = type;
        this.metadata = metadata;
        this.path = path;
        this.pathType = pathType;
    }

    static Map<String, DataType> types() {
        Map<String, DataType> types = new LinkedHashMap<>();
        for (ReadableMetadata metadata : values()) {
            types.put(metadata.key, metadata.type);
        }
        return types;
    }

    static ReadableMetadata of(String key) {
        for (ReadableMetadata metadata : values()) {
            if (metadata.key.equals(key)) {
                return metadata;
            }
        }
        throw new IllegalArgumentException(
                "there is no metadata '" + key + "' of a document; there is " + String.join(", ", types().keySet()));
    }

    /** Whether it is known of a change alone, and not of a document that is looked up. */
    boolean isOfChange() {
        return this == OPERATION || this == SPLIT || this == TTL_EXPIRED;
    }

    /** Whether documents can be looked up by it. */
    boolean isKey() {
        return path != null && !path.isEmpty() || this == ID || this == TIMESTAMP;
    }

    /**
     * Adds the column to a plan.
     *
     * @param options of the core, which name database and container
     */
    void add(RowPlan plan, Map<String, String> options) {
        if (path != null) {
            plan.path(key, path, pathType);
        } else if (metadata != null) {
            plan.metadata(key, metadata, PlanTypes.of(key, type.getLogicalType()));
        } else {
            plan.constant(key, options.getOrDefault(this == DATABASE ? "database" : "container", ""));
        }
    }
}
