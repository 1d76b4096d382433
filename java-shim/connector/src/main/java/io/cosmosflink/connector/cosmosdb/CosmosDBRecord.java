package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordView;
import java.nio.charset.StandardCharsets;
import org.apache.flink.annotation.PublicEvolving;

/** One change, with everything that the feed says about it. A POJO in Flink's sense. */
@PublicEvolving
public class CosmosDBRecord {
    /** The document as the service sent it, UTF-8; empty for a delete. */
    public byte[] document = {};

    public String id = "";
    /** JSON array of the partition key's components. */
    public String partitionKey = "[]";
    /** The service's {@code _ts}, of a delete the time of the deletion: epoch seconds. */
    public long timestampSeconds;
    /** Log sequence number, -1 if not given. */
    public long lsn = -1;
    /** Name of a {@link RecordView.Change}. */
    public String change = RecordView.Change.UPSERT.name();
    /** The document before the change, UTF-8; empty where the service does not say, which today is always. */
    public byte[] previous = {};
    /** Whether it is a delete because the document's time to live ended. */
    public boolean expired;

    static CosmosDBRecord of(RecordView view) {
        CosmosDBRecord record = new CosmosDBRecord();
        record.document = view.document();
        record.id = view.id();
        record.partitionKey = view.partitionKey();
        record.timestampSeconds = view.timestampSeconds();
        record.lsn = view.lsn();
        record.change = view.change().name();
        RecordView before = view.previous();
        if (before != null) {
            record.previous = before.document();
        }
        record.expired = view.expired();
        return record;
    }

    /** Whether the document is gone. */
    public boolean deleted() {
        return RecordView.Change.DELETE.name().equals(change);
    }

    @Override
    public String toString() {
        return change + " " + id + " " + partitionKey + " " + new String(document, StandardCharsets.UTF_8);
    }
}
