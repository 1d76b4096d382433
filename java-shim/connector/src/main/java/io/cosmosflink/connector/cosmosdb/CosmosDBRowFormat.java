package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.RowsView;
import java.io.Serializable;
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
