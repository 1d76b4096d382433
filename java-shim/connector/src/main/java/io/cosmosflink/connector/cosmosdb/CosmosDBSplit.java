package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.SplitEntry;
import java.util.Arrays;
import org.apache.flink.annotation.Internal;
import org.apache.flink.api.connector.source.SourceSplit;

/** A feed range and a position in its change feed, as the core's own opaque bytes. Immutable. */
@Internal
public final class CosmosDBSplit implements SourceSplit {
    private final SplitEntry entry;

    CosmosDBSplit(SplitEntry entry) {
        this.entry = entry;
    }

    @Override
    public String splitId() {
        return entry.id();
    }

    /** Place in the order of discovery; decides which reader owns the split. */
    public int ordinal() {
        return entry.ordinal();
    }

    /** The core's bytes: feed range, start and continuation token. */
    byte[] bytes() {
        return entry.split();
    }

    SplitEntry entry() {
        return entry;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof CosmosDBSplit that
                && splitId().equals(that.splitId())
                && ordinal() == that.ordinal()
                && Arrays.equals(bytes(), that.bytes());
    }

    @Override
    public int hashCode() {
        return splitId().hashCode();
    }

    @Override
    public String toString() {
        return "split " + ordinal() + " (" + entry.description() + ")";
    }
}
