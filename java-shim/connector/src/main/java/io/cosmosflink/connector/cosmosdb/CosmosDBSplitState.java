package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.SplitEntry;
import java.util.List;

/** A split that a reader is reading, and how far it is. */
final class CosmosDBSplitState {
    private CosmosDBSplit split;
    private List<CosmosDBSplit> children = List.of();

    CosmosDBSplitState(CosmosDBSplit split) {
        this.split = split;
    }

    /** Moves to the position after a page. Only once every record of the page is emitted. */
    void moveTo(byte[] position) {
        split = new CosmosDBSplit(split.entry().withSplit(position));
    }

    /** The split has ended: these go on in its place. */
    void endWith(List<SplitEntry> goOn) {
        children = goOn.stream().map(CosmosDBSplit::new).toList();
    }

    /** The splits that go on in place of one that has ended. */
    List<CosmosDBSplit> children() {
        return children;
    }

    CosmosDBSplit split() {
        return split;
    }
}
