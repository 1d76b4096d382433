package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import org.apache.flink.annotation.Internal;
import org.apache.flink.connector.base.sink.writer.ElementConverter;

/** Hands rows to the core, which makes the writes, in place of a {@link CosmosDBElementConverter}: for the table connector. */
@Internal
public interface CosmosDBRowConverter<IN> extends ElementConverter<IN, CosmosDBRequestEntry> {
    /** The plan by which the core makes them; see {@link io.cosmosflink.core.DocumentPlan}. */
    byte[] plan();

    /** Why the core cannot read the rows of this Flink, or null. Called once for each writer. */
    String refusal(Core core);
}
