package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.RowsView;
import java.io.Serializable;
import java.util.Map;
import org.apache.flink.annotation.Internal;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;

/** Rows that the core makes of documents, in place of a {@link CosmosDBDeserializationSchema}: for the table connector. */
@Internal
public interface CosmosDBRowFormat<T> extends Serializable, ResultTypeQueryable<T> {
    /** The plan by which the core makes them; see {@link io.cosmosflink.core.RowPlan}. */
    byte[] plan();

    /** Why this Flink cannot use the rows of the core, or null. Called once for each reader. */
    String refusal(Core core);

    /**
     * Options that the core makes of the plan, on top of those of the source. They are asked for where the job runs: state may be bound to them, and it
     * must not matter where a job was planned, and whether there was a core.
     *
     * @throws io.cosmosflink.core.CosmosException when the core can make none of it
     */
    default Map<String, String> options(Core core) {
        return Map.of();
    }

    /**
     * The rows of one page. Called once for each page.
     *
     * @param view stays as it is for as long as a row of it is used
     */
    Rows<T> rows(RowsView view);

    /** The rows of one page. */
    @FunctionalInterface
    interface Rows<T> {
        /** The row with this number, counted from 0: a new object, since rows outlive the page. */
        T row(int index);
    }
}
