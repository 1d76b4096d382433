package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.RowBody;
import io.cosmosflink.core.UnwritableRecordException;
import java.io.Serializable;
import org.apache.flink.annotation.Internal;
import org.apache.flink.annotation.PublicEvolving;

/** One write, encoded as the core takes it, or a record of which no write could be made. Immutable. */
@PublicEvolving
public final class CosmosDBRequestEntry implements Serializable {
    private static final long serialVersionUID = 1L;

    /** How many times larger than its document a row can be: decimals and empty arrays of an array take the most for what they say. */
    private static final int ROW_TIMES = 16;

    private final byte[] body;
    /** How the core makes the write of a row, which the body is then; null for a write. */
    private final byte[] plan;
    /** Why there is no write, for the stack trace of a job that fails; null for a write, and after a restore. */
    private final transient UnwritableRecordException refusal;

    CosmosDBRequestEntry(byte[] body) {
        this(body, null, null);
    }

    private CosmosDBRequestEntry(byte[] body, byte[] plan, UnwritableRecordException refusal) {
        this.body = body;
        this.plan = plan;
        this.refusal = refusal;
    }

    /** @throws IllegalArgumentException when id, key or ETag have no UTF-8 */
    public static CosmosDBRequestEntry of(Operation operation) {
        return new CosmosDBRequestEntry(operation.encode());
    }

    static CosmosDBRequestEntry refused(UnwritableRecordException why) {
        return new CosmosDBRequestEntry(why.encode(), null, why);
    }

    /**
     * A row, of which the core makes the write when it is handed over.
     *
     * @param plan by which it does so; not copied
     * @param array has the row as Flink serialises it; copied
     * @param offset where it begins there
     * @param length its bytes
     */
    @Internal
    public static CosmosDBRequestEntry ofRow(byte[] plan, byte[] array, int offset, int length) {
        return new CosmosDBRequestEntry(RowBody.of(array, offset, length), plan, null);
    }

    /** This, or what stands for it when its document has more bytes than allowed. */
    CosmosDBRequestEntry within(long limit) {
        // Most are smaller as a whole.
        if (body.length <= limit || Operation.isRefused(body)) {
            return this;
        }
        if (plan != null) {
            // The core knows how large the document is. What cannot be small enough need not be kept until then.
            return body.length / ROW_TIMES <= limit
                    ? this
                    : refused(new UnwritableRecordException(
                            "the document is too large: its row has " + body.length
                                    + " bytes, and sink.max-record-size is " + limit,
                            null,
                            "",
                            "",
                            null));
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

    /** The operation itself, for messages and tests. That of a row the core makes. */
    public Operation operation() {
        return plan == null ? Operation.decode(body) : operationOfRow(NativeCore.get());
    }

    /** The write as it is kept in state: that of a row too, so that state knows of no plan. */
    byte[] write(Core.Provider core) {
        return plan == null ? body : operationOfRow(core.get()).encode();
    }

    private Operation operationOfRow(Core core) {
        OperationBatch batch = new OperationBatch();
        batch.add(body);
        return core.encodeRows(plan, batch).get(0);
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
