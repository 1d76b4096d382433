package io.cosmosflink.jobs;

import io.cosmosflink.core.Operation;
import io.cosmosflink.core.PartitionKeys;

/** A document on its way to a container or to the consumer. A POJO in Flink's sense. */
public class OutgoingDocument {
    public String id = "";
    /** The one component of the partition key. */
    public String partitionKey = "";
    /** A JSON object in UTF-8, id and partition key included. */
    public byte[] document = {};

    public OutgoingDocument() {}

    OutgoingDocument(String id, String partitionKey, byte[] document) {
        this.id = id;
        this.partitionKey = partitionKey;
        this.document = document;
    }

    /** As an upsert in the core's durable form, for operators that keep it in their state. */
    byte[] state() {
        return Operation.stateOf(
                Operation.upsert(id, PartitionKeys.json(partitionKey), document).encode());
    }
}
