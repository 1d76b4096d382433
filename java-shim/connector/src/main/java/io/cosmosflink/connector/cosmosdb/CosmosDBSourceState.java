package io.cosmosflink.connector.cosmosdb;

import java.util.Arrays;
import org.apache.flink.annotation.Internal;

/** What an enumerator knows, as the core's own durable bytes: every split ever found, each with whether a reader has it. Immutable. */
@Internal
public final class CosmosDBSourceState {
    private final byte[] bytes;

    CosmosDBSourceState(byte[] bytes) {
        this.bytes = bytes;
    }

    byte[] bytes() {
        return bytes;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof CosmosDBSourceState that && Arrays.equals(bytes, that.bytes);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(bytes);
    }

    @Override
    public String toString() {
        return "state of " + bytes.length + " bytes";
    }
}
