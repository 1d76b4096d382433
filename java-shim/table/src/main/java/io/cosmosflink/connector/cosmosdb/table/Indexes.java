package io.cosmosflink.connector.cosmosdb.table;

import java.util.List;
import org.apache.flink.table.api.Schema;

/** Indexes of a table, by which Flink plans delta joins, of 2.1 and newer. Older versions cannot load this class. */
final class Indexes {
    private Indexes() {}

    /** @param columns those of one index, by which rows are found without a scan */
    static void add(Schema.Builder schema, List<String> columns) {
        schema.index(columns);
    }

    /** Whether Flink has them. Does not load the methods above. */
    static boolean areKnown() {
        try {
            Schema.Builder.class.getMethod("index", List.class);
            return true;
        } catch (NoSuchMethodException e) {
            return false;
        }
    }
}
