package io.cosmosflink.connector.cosmosdb.table;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.DistinctType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.MultisetType;
import org.apache.flink.table.types.logical.RowType;

/** Flink's values as JSON: numbers with all their digits, times as ISO 8601 or in SQL's form, bytes in base64. */
final class JsonValues {
    private static final byte[] NULL = "null".getBytes(StandardCharsets.US_ASCII);
    private static final long NANOS_OF_MILLI = 1_000_000;

    /** How timestamps are written. */
    private final boolean sqlTimestamps;

    /** @param sqlTimestamps whether a timestamp has a space in place of its {@code T} */
    JsonValues(boolean sqlTimestamps) {
        this.sqlTimestamps = sqlTimestamps;
    }

    /** Writes a value of one type, which may be null. */
    @FunctionalInterface
    interface Writer extends Serializable {
        void write(JsonBytes out, Object value);
    }

    /**
     * @param column for messages
     * @throws ValidationException for a type that JSON does not have
     */
    Writer of(String column, LogicalType type) {
        Writer writer = notNull(column, type);
        return (out, value) -> {
            if (value == null) {
                out.raw(NULL);
            } else {
                writer.write(out, value);
            }
        };
    }

    private Writer notNull(String column, LogicalType type) {
        if (PlanTypes.isVariant(type)) {
            return (out, value) -> out.raw(VariantJson.json(value).getBytes(StandardCharsets.UTF_8));
        }
        boolean sql = sqlTimestamps;
        return switch (type.getTypeRoot()) {
            case CHAR, VARCHAR -> (out, value) -> out.string(((StringData) value).toBytes());
            case BOOLEAN, TINYINT, SMALLINT, INTEGER, BIGINT -> (out, value) -> out.raw(value.toString());
            case FLOAT, DOUBLE -> (out, value) -> out.raw(finite(column, (Number) value));
            case DECIMAL ->
                (out, value) -> out.raw(((DecimalData) value).toBigDecimal().toPlainString());
            case BINARY, VARBINARY ->
                (out, value) -> out.quoted(Base64.getEncoder().encodeToString((byte[]) value));
            case DATE ->
                (out, value) -> out.quoted(LocalDate.ofEpochDay((Integer) value).toString());
            case TIME_WITHOUT_TIME_ZONE -> (out, value) -> out.quoted(time((Integer) value));
            case TIMESTAMP_WITHOUT_TIME_ZONE ->
                (out, value) -> out.quoted(timestamp(((TimestampData) value).toLocalDateTime(), sql));
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                (out, value) -> out.quoted(
                        timestamp(LocalDateTime.ofInstant(((TimestampData) value).toInstant(), ZoneOffset.UTC), sql)
                                + "Z");
            case ARRAY -> array(column, (ArrayType) type);
            case MAP -> map(column, ((MapType) type).getKeyType(), ((MapType) type).getValueType());
            case MULTISET -> map(column, ((MultisetType) type).getElementType(), new IntType(false));
            case ROW -> row(column, (RowType) type);
            case DISTINCT_TYPE -> notNull(column, ((DistinctType) type).getSourceType());
            default ->
                throw new ValidationException("column '" + column + "' is of type " + type.asSummaryString()
                        + ", which JSON does not have; cast it to one that it has, such as STRING");
        };
    }

    private static String finite(String column, Number value) {
        if (!Double.isFinite(value.doubleValue())) {
            throw new IllegalArgumentException(
                    "column '" + column + "' is " + value + ", a number that JSON does not have");
        }
        return value.toString();
    }

    private static String time(int millisOfDay) {
        return DateTimeFormatter.ISO_LOCAL_TIME.format(LocalTime.ofNanoOfDay(millisOfDay * NANOS_OF_MILLI));
    }

    private static String timestamp(LocalDateTime moment, boolean sql) {
        String iso = DateTimeFormatter.ISO_LOCAL_DATE_TIME.format(moment);
        return sql ? iso.replace('T', ' ') : iso;
    }

    private Writer array(String column, ArrayType type) {
        Writer element = of(column, type.getElementType());
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(type.getElementType());
        return (out, value) -> {
            ArrayData array = (ArrayData) value;
            out.raw('[');
            for (int i = 0; i < array.size(); i++) {
                if (i > 0) {
                    out.raw(',');
                }
                element.write(out, getter.getElementOrNull(array, i));
            }
            out.raw(']');
        };
    }

    private Writer map(String column, LogicalType keyType, LogicalType valueType) {
        if (!keyType.is(LogicalTypeFamily.CHARACTER_STRING)) {
            throw new ValidationException("column '" + column + "' has keys of type " + keyType.asSummaryString()
                    + "; the keys of a JSON object are strings: cast them");
        }
        Writer writer = of(column, valueType);
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(valueType);
        return (out, value) -> {
            ArrayData keys = ((MapData) value).keyArray();
            ArrayData values = ((MapData) value).valueArray();
            out.raw('{');
            for (int i = 0; i < keys.size(); i++) {
                if (keys.isNullAt(i)) {
                    throw new IllegalArgumentException(
                            "column '" + column + "' has a key that is null, which a JSON object has not");
                }
                if (i > 0) {
                    out.raw(',');
                }
                out.string(keys.getString(i).toBytes()).raw(':');
                writer.write(out, getter.getElementOrNull(values, i));
            }
            out.raw('}');
        };
    }

    private Writer row(String column, RowType type) {
        int fields = type.getFieldCount();
        byte[][] names = new byte[fields][];
        RowData.FieldGetter[] getters = new RowData.FieldGetter[fields];
        Writer[] writers = new Writer[fields];
        for (int i = 0; i < fields; i++) {
            RowType.RowField field = type.getFields().get(i);
            names[i] = field.getName().getBytes(StandardCharsets.UTF_8);
            writers[i] = of(column + "." + field.getName(), field.getType());
            getters[i] = RowData.createFieldGetter(field.getType(), i);
        }
        return (out, value) -> {
            out.raw('{');
            for (int i = 0; i < fields; i++) {
                if (i > 0) {
                    out.raw(',');
                }
                out.string(names[i]).raw(':');
                writers[i].write(out, getters[i].getFieldOrNull((RowData) value));
            }
            out.raw('}');
        };
    }
}
