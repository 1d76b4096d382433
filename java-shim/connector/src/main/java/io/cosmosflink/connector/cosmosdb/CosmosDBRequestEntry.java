package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Operation;
import io.cosmosflink.core.UnwritableRecordException;
import java.io.Serializable;
import org.apache.flink.annotation.PublicEvolving;

/** One write, encoded as the core takes it, or a record of which no write could be made. Immutable. */
@PublicEvolving
public final class CosmosDBRequestEntry implements Serializable {
    private static final long serialVersionUID = 1L;

    private final byte[] body;
    /** Why there is no write, for the stack trace of a job that fails; null for a write, and after a restore. */
    private final transient UnwritableRecordException refusal;

    CosmosDBRequestEntry(byte[] body) {
        this(body, null);
    }

    private CosmosDBRequestEntry(byte[] body, UnwritableRecordException refusal) {
        this.body = body;
        this.refusal = refusal;
    }

    /** @throws IllegalArgumentException when id, key or ETag have no UTF-8 */
    public static CosmosDBRequestEntry of(Operation operation) {
        return new CosmosDBRequestEntry(operation.encode());
    }

    static CosmosDBRequestEntry refused(UnwritableRecordException why) {
        return new CosmosDBRequestEntry(why.encode(), why);
    }

    /** This, or what stands for it when its document has more bytes than allowed. */
    CosmosDBRequestEntry within(long limit) {
        // Most are smaller as a whole.
        if (body.length <= limit || Operation.isRefused(body)) {
            return this;
        }
        int bytes = Operation.documentLength(body);
        return bytes <= limit ? this : refused(UnwritableRecordException.tooLarge(body, bytes, limit));
    }

    byte[] body() {
        return body;
    }

    UnwritableRecordException refusal() {
        return refusal;
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
