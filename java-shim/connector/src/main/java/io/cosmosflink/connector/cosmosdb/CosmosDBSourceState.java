package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.SplitEntry;
import java.util.List;

/**
 * What an enumerator knows: every split ever found, each with whether a reader has it.
 *
 * @param splits in the order of their ordinals
 */
public record CosmosDBSourceState(List<SplitEntry> splits) {
    public CosmosDBSourceState {
        splits = List.copyOf(splits);
    }
}
