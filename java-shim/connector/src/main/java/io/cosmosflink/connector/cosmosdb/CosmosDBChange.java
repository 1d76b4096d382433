package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordView;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;

/**
 * One change of one document, with the document as a {@code T}. A POJO in Flink's sense; {@link #type} is its type.
 *
 * <p>By id and partition key, the last change of a document says what has become of it: with a {@link #document} it is that one, without
 * one it is gone.
 */
@PublicEvolving
public class CosmosDBChange<T> {
    /** What happened. {@code UPSERT} where the feed cannot tell a create from a replace. */
    public RecordView.Change kind = RecordView.Change.UPSERT;

    public String id = "";
    /** JSON array of the partition key's components. */
    public String partitionKey = "[]";
    /** The service's {@code _ts}, of a delete the time of the deletion: epoch seconds. */
    public long timestampSeconds;
    /** Log sequence number, -1 if not given. */
    public long lsn = -1;
    /** Whether it is a delete because the document's time to live ended. */
    public boolean expired;
    /** The document after the change; null for a delete. */
    public T document;
    /** The document before the change; null where the service does not say, which today is always. */
    public T previous;

    static <T> CosmosDBChange<T> of(RecordView view) {
        CosmosDBChange<T> change = new CosmosDBChange<>();
        change.kind = view.change();
        change.id = view.id();
        change.partitionKey = view.partitionKey();
        change.timestampSeconds = view.timestampSeconds();
        change.lsn = view.lsn();
        change.expired = view.expired();
        return change;
    }

    /** Whether the document is gone. */
    public boolean deleted() {
        return kind == RecordView.Change.DELETE;
    }

    /** The type of changes of such documents. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    public static <T> TypeInformation<CosmosDBChange<T>> type(TypeInformation<T> document) {
        Map<String, TypeInformation<?>> fields = new TreeMap<>(Map.of(
                "kind", Types.ENUM(RecordView.Change.class),
                "id", Types.STRING,
                "partitionKey", Types.STRING,
                "timestampSeconds", Types.LONG,
                "lsn", Types.LONG,
                "expired", Types.BOOLEAN,
                "document", document,
                "previous", document));
        return (TypeInformation) Types.POJO(CosmosDBChange.class, fields);
    }

    @Override
    public String toString() {
        return kind + " " + id + " " + partitionKey + " " + document;
    }
}
