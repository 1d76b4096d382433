package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Operation;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriterStateSerializer;

/** Buffered writes in a savepoint, each behind the core's frame head. Of a row it is the write that the core makes of it: a savepoint has no plan. */
final class CosmosDBWriterStateSerializer extends AsyncSinkWriterStateSerializer<CosmosDBRequestEntry> {
    static final int VERSION = 1;

    private final Core.Provider core;

    /** @param core makes the writes of rows */
    CosmosDBWriterStateSerializer(Core.Provider core) {
        this.core = core;
    }

    @Override
    public int getVersion() {
        return VERSION;
    }

    @Override
    protected void serializeRequestToStream(CosmosDBRequestEntry entry, DataOutputStream out) throws IOException {
        byte[] state = Operation.stateOf(entry.write(core));
        out.writeInt(state.length);
        out.write(state);
    }

    @Override
    protected CosmosDBRequestEntry deserializeRequestFromStream(long size, DataInputStream in) throws IOException {
        int length = in.readInt();
        byte[] state = length < 0 ? new byte[0] : in.readNBytes(length);
        if (state.length != length) {
            throw new EOFException("a buffered write of " + length + " bytes ends after " + state.length);
        }
        try {
            return new CosmosDBRequestEntry(Operation.bodyOf(state));
        } catch (CosmosException e) {
            throw Failures.restore("cannot restore a buffered write: " + e.getMessage(), e);
        }
    }
}
