package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.SplitEntry;
import java.util.List;

/** A split that a reader is reading, and how far it is. */
final class CosmosDBSplitState {
    private CosmosDBSplit split;
    private boolean ended;
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
        ended = true;
        children = goOn.stream().map(CosmosDBSplit::new).toList();
    }

    /** The splits that go on in place of one that has ended. */
    List<CosmosDBSplit> children() {
        return children;
    }

    CosmosDBSplit split() {
        return split;
    }

    /** What is still to be read: the split, or, once it has ended, what goes on in its place, which may be nothing. */
    List<CosmosDBSplit> rest() {
        return ended ? children : List.of(split);
    }
}
