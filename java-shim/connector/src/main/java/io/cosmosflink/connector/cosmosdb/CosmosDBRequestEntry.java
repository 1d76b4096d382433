package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Operation;
import java.io.Serializable;

/** One write, encoded as the core takes it. Immutable. */
public final class CosmosDBRequestEntry implements Serializable {
    private static final long serialVersionUID = 1L;

    private final byte[] body;

    CosmosDBRequestEntry(byte[] body) {
        this.body = body;
    }

    public static CosmosDBRequestEntry of(Operation operation) {
        return new CosmosDBRequestEntry(operation.encode());
    }

    byte[] body() {
        return body;
    }

    /** The operation itself, for messages and tests. */
    public Operation operation() {
        return Operation.decode(body);
    }

    /** Size in bytes, of which the document is by far the most. */
    public long size() {
        return body.length;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof CosmosDBRequestEntry that && java.util.Arrays.equals(body, that.body);
    }

    @Override
    public int hashCode() {
        return java.util.Arrays.hashCode(body);
    }
}
