package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import java.io.IOException;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** The core's split bytes as they are: they carry their own version, which the core checks. */
final class CosmosDBSplitSerializer implements SimpleVersionedSerializer<CosmosDBSplit> {
    static final int VERSION = 1;
    private final Core.Provider core;

    CosmosDBSplitSerializer(Core.Provider core) {
        this.core = core;
    }

    @Override
    public int getVersion() {
        return VERSION;
    }

    @Override
    public byte[] serialize(CosmosDBSplit split) {
        return split.bytes();
    }

    @Override
    public CosmosDBSplit deserialize(int version, byte[] bytes) throws IOException {
        Failures.checkVersion("splits", version, VERSION);
        try {
            return new CosmosDBSplit(Failures.core(core).describeSplit(bytes));
        } catch (CosmosException e) {
            throw Failures.restore("cannot restore a split: " + e.getMessage(), e);
        }
    }
}
