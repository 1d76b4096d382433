package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.RowPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.DistinctType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.MultisetType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimeType;
import org.apache.flink.table.types.logical.TimestampType;

/** Flink's types as a plan has them. */
final class PlanTypes {
    /** Whether JSON is made of the values, and not the other way round. */
    private final boolean written;

    private PlanTypes(boolean written) {
        this.written = written;
    }

    /**
     * @param column for the message
     * @throws ValidationException for a type that no JSON can be read as
     */
    static RowPlan.Type of(String column, LogicalType type) {
        return new PlanTypes(false).plan(column, type);
    }

    /**
     * The type of a column that is written.
     *
     * @param column for the message
     * @throws ValidationException for a type that JSON does not have
     */
    static RowPlan.Type written(String column, LogicalType type) {
        return new PlanTypes(true).plan(column, type);
    }

    private RowPlan.Type plan(String column, LogicalType type) {
        boolean nullable = type.isNullable();
        if (isVariant(type)) {
            return RowPlan.Type.variant(nullable);
        }
        return switch (type.getTypeRoot()) {
            case CHAR, VARCHAR -> RowPlan.Type.string(nullable);
            case BOOLEAN -> RowPlan.Type.bool(nullable);
            case BINARY, VARBINARY -> RowPlan.Type.binary(nullable);
            case DECIMAL -> {
                DecimalType decimal = (DecimalType) type;
                yield RowPlan.Type.decimal(decimal.getPrecision(), decimal.getScale(), nullable);
            }
            case TINYINT -> RowPlan.Type.tinyint(nullable);
            case SMALLINT -> RowPlan.Type.smallint(nullable);
            case INTEGER -> RowPlan.Type.integer(nullable);
            case BIGINT -> RowPlan.Type.bigint(nullable);
            case FLOAT -> RowPlan.Type.real(nullable);
            case DOUBLE -> RowPlan.Type.doublePrecision(nullable);
            case DATE -> RowPlan.Type.date(nullable);
            case TIME_WITHOUT_TIME_ZONE -> RowPlan.Type.time(((TimeType) type).getPrecision(), nullable);
            case TIMESTAMP_WITHOUT_TIME_ZONE -> RowPlan.Type.timestamp(((TimestampType) type).getPrecision(), nullable);
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                RowPlan.Type.instant(((LocalZonedTimestampType) type).getPrecision(), nullable);
            case ARRAY -> RowPlan.Type.array(plan(column, ((ArrayType) type).getElementType()), nullable);
            case MAP -> {
                MapType map = (MapType) type;
                yield map(column, type, map.getKeyType(), map.getValueType());
            }
            case MULTISET -> {
                if (!written) {
                    throw impossible(column, type);
                }
                yield map(column, type, ((MultisetType) type).getElementType(), new IntType(false));
            }
            case ROW -> {
                List<RowPlan.Field> fields = new ArrayList<>();
                for (RowType.RowField field : ((RowType) type).getFields()) {
                    fields.add(
                            new RowPlan.Field(field.getName(), plan(column + "." + field.getName(), field.getType())));
                }
                yield RowPlan.Type.row(fields, nullable);
            }
            case DISTINCT_TYPE ->
                plan(column, ((DistinctType) type).getSourceType().copy(nullable));
            default -> throw impossible(column, type);
        };
    }

    private RowPlan.Type map(String column, LogicalType type, LogicalType key, LogicalType value) {
        if (!key.is(LogicalTypeFamily.CHARACTER_STRING)) {
            throw written
                    ? new ValidationException("column '" + column + "' has keys of type " + key.asSummaryString()
                            + "; the keys of a JSON object are strings: cast them")
                    : unreadable(column, type, "the keys of a JSON object are strings; declare MAP<STRING, ..>");
        }
        return RowPlan.Type.map(plan(column, key), plan(column, value), type.isNullable());
    }

    private ValidationException impossible(String column, LogicalType type) {
        return written
                ? new ValidationException("column '" + column + "' is of type " + type.asSummaryString()
                        + ", which JSON does not have; cast it to one that it has, such as STRING")
                : unreadable(column, type, "declare STRING to have its JSON, and cast that in the query");
    }

    /** Whether this version of Flink has the type. */
    static boolean hasVariants() {
        return Arrays.stream(LogicalTypeRoot.values())
                .anyMatch(root -> root.name().equals("VARIANT"));
    }

    /** By its name: Flink 1.20 and 2.0 have no such constant. */
    static boolean isVariant(LogicalType type) {
        return type.getTypeRoot().name().equals("VARIANT");
    }

    private static ValidationException unreadable(String column, LogicalType type, String hint) {
        return new ValidationException(
                "column '" + column + "' is of type " + type.asSummaryString() + ", which no JSON is read as; " + hint);
    }
}
