package io.cosmosflink.connector.cosmosdb.table;

import org.apache.flink.types.variant.Variant;

/** JSON of Flink's VARIANT, of 2.1 and newer. Older versions cannot load this class: only what has a column of that type may call it. */
final class VariantJson {
    private VariantJson() {}

    /** @param variant what Flink's getters gave for a column of that type */
    static String json(Object variant) {
        return ((Variant) variant).toJson();
    }
}
