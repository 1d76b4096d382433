package io.cosmosflink.connector.cosmosdb;

import java.io.IOException;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** The enumerator's state as it is: the bytes carry their own version, which the core checks when an enumerator begins with them. */
final class CosmosDBSourceStateSerializer implements SimpleVersionedSerializer<CosmosDBSourceState> {
    static final int VERSION = 1;

    @Override
    public int getVersion() {
        return VERSION;
    }

    @Override
    public byte[] serialize(CosmosDBSourceState state) {
        return state.bytes();
    }

    @Override
    public CosmosDBSourceState deserialize(int version, byte[] bytes) throws IOException {
        Failures.checkVersion("the enumerator's state", version, VERSION);
        if (bytes.length == 0) {
            // To the core no bytes are no state: the job would begin anew.
            String message = "cannot restore the enumerator: its state is empty";
            throw Failures.restore(message, new IOException(message));
        }
        return new CosmosDBSourceState(bytes);
    }
}
