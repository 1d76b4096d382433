package io.cosmosflink.connector.cosmosdb;

/** A split that a reader is reading, and how far it is. */
final class CosmosDBSplitState {
    private CosmosDBSplit split;

    CosmosDBSplitState(CosmosDBSplit split) {
        this.split = split;
    }

    /** Moves to the position after a page. Only once every record of the page is emitted. */
    void moveTo(byte[] position) {
        split = new CosmosDBSplit(split.entry().withSplit(position));
    }

    CosmosDBSplit split() {
        return split;
    }
}
