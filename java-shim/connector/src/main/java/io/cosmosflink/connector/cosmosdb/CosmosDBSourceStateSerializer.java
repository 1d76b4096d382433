package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import java.io.IOException;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** The enumerator's state in the core's durable form. */
final class CosmosDBSourceStateSerializer implements SimpleVersionedSerializer<CosmosDBSourceState> {
    static final int VERSION = 1;
    private final Core.Provider core;

    CosmosDBSourceStateSerializer(Core.Provider core) {
        this.core = core;
    }

    @Override
    public int getVersion() {
        return VERSION;
    }

    @Override
    public byte[] serialize(CosmosDBSourceState state) {
        return Failures.core(core).encodeEnumeratorState(state.splits());
    }

    @Override
    public CosmosDBSourceState deserialize(int version, byte[] bytes) throws IOException {
        Failures.checkVersion("the enumerator's state", version, VERSION);
        try {
            return new CosmosDBSourceState(Failures.core(core).decodeEnumeratorState(bytes));
        } catch (CosmosException e) {
            throw Failures.restore("cannot restore the enumerator: " + e.getMessage(), e);
        }
    }
}
