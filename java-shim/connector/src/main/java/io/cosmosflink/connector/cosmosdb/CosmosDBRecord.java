package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordView;
import java.nio.charset.StandardCharsets;

/** One change, with everything that the feed says about it. A POJO in Flink's sense. */
public class CosmosDBRecord {
    /** The document as the service sent it, UTF-8; empty for a delete. */
    public byte[] document = {};

    public String id = "";
    /** JSON array of the partition key's components. */
    public String partitionKey = "[]";
    /** The service's {@code _ts}, epoch seconds. */
    public long timestampSeconds;
    /** Log sequence number, -1 if not given. */
    public long lsn = -1;
    /** Name of a {@link RecordView.Change}. */
    public String change = RecordView.Change.UPSERT.name();

    static CosmosDBRecord of(RecordView view) {
        CosmosDBRecord record = new CosmosDBRecord();
        record.document = view.document();
        record.id = view.id();
        record.partitionKey = view.partitionKey();
        record.timestampSeconds = view.timestampSeconds();
        record.lsn = view.lsn();
        record.change = view.change().name();
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
