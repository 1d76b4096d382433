package io.cosmosflink.connector.cosmosdb.table;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** Flink's VARIANT, of 2.1 and newer. Older versions cannot call it: only who has asked {@link PlanTypes#hasVariants} may. */
final class Variants {
    private Variants() {}

    /** The type. */
    static DataType type() {
        return DataTypes.VARIANT();
    }
}
