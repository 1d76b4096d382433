package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.DocumentPlan;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.RowPlan;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.types.RowKind;
import org.apache.flink.types.variant.BinaryVariantInternalBuilder;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Random tables and rows: the core's documents are byte for byte those of an encoder in Java that asks Flink's rows value by value. */
class DocumentsAgainstJavaITCase {
    private static final int TABLES = 60;
    private static final int ROWS = 20;
    private static final int MAX_DEPTH = 3;

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5})
    void documentsAreThoseOfJava(long seed) throws Exception {
        Random random = new Random(seed);
        List<String> differences = new ArrayList<>();
        for (int table = 0; table < TABLES; table++) {
            Table made = new Table(random);
            RowDataSerializer serializer = new RowDataSerializer((RowType) made.type.getLogicalType());
            for (int i = 0; i < ROWS; i++) {
                GenericRowData row = (GenericRowData) some(random, made.type.getLogicalType());
                row.setRowKind(RowKind.values()[random.nextInt(2) * 2]);
                boolean deleted = random.nextInt(4) == 0;
                if (deleted) {
                    row.setRowKind(RowKind.DELETE);
                }
                byte[] expected = (deleted ? made.deleted : made.written).encode(row);
                // As it comes from a function, and as it comes from a network.
                for (RowData form : List.of(row, serializer.toBinaryRow(row).copy())) {
                    Operation operation = made.converter.apply(form, null).operation();
                    String found = new String(operation.document(), StandardCharsets.UTF_8);
                    String wanted = new String(expected, StandardCharsets.UTF_8);
                    if (operation.type() != (deleted ? OperationKind.BULK_UPDATE : OperationKind.DEFAULT)
                            || !found.equals(wanted)) {
                        differences.add(operation.type() + " " + operation.ifMatch() + " " + found + " in place of "
                                + wanted + " by " + made.type);
                    }
                }
            }
        }
        assertThat(differences).as("seed %s", seed).isEmpty();
    }

    /** A table of random columns, some of them inside of objects, and what makes documents of its rows. */
    private static final class Table {
        final DataType type;
        final JsonDocumentEncoder written;
        final JsonDocumentEncoder deleted;
        final RowDataConverter converter;

        Table(Random random) {
            type = row(random, 1);
            boolean sql = random.nextBoolean();
            Map<String, String> mark = new TreeMap<>(Map.of("deleted", "true", "ttl", "60"));
            List<JsonDocumentEncoder.Column> columns = new ArrayList<>();
            List<JsonDocumentEncoder.Column> key = new ArrayList<>();
            DocumentPlan plan = new DocumentPlan(
                    sql ? RowPlan.TimestampFormat.SQL : RowPlan.TimestampFormat.ISO_8601, DocumentPlan.Deletion.UPDATE);
            List<String> names = DataType.getFieldNames(type);
            for (int i = 0; i < names.size(); i++) {
                List<String> path = new ArrayList<>();
                for (int depth = random.nextInt(6) - 3; depth > 0; depth--) {
                    path.add("in" + depth + "/~" + random.nextInt(2));
                }
                path.add(names.get(i));
                LogicalType column = DataType.getFieldDataTypes(type).get(i).getLogicalType();
                JsonDocumentEncoder.Column made = new JsonDocumentEncoder.Column(names.get(i), i, path, column);
                boolean ofWritten = random.nextInt(10) > 0;
                boolean ofDeleted = random.nextInt(10) == 0;
                plan.path(names.get(i), path, ofWritten, ofDeleted, PlanTypes.written(names.get(i), column));
                if (ofWritten) {
                    columns.add(made);
                }
                if (ofDeleted) {
                    key.add(made);
                }
            }
            mark.forEach(plan::constant);
            written = JsonDocumentEncoder.of(columns, Map.of(), sql);
            deleted = JsonDocumentEncoder.of(key, mark, sql);
            converter = new RowDataConverter(plan.frame(), InternalTypeInfo.of((RowType) type.getLogicalType()), null);
        }
    }

    // Tables.

    private static DataType row(Random random, int depth) {
        List<DataTypes.Field> fields = new ArrayList<>();
        // A row inside of another one may have no fields.
        int columns = depth == 1 ? 1 + random.nextInt(70) : random.nextInt(4);
        for (int i = 0; i < columns; i++) {
            String name =
                    switch (i % 4) {
                        case 0 -> "f" + i + "\"q\n";
                        case 1 -> "größe" + i;
                        default -> "field_" + i;
                    };
            DataType type = type(random, depth + 1);
            fields.add(DataTypes.FIELD(name, random.nextInt(8) == 0 ? type.notNull() : type));
        }
        return DataTypes.ROW(fields.toArray(DataTypes.Field[]::new));
    }

    private static DataType type(Random random, int depth) {
        return switch (random.nextInt(depth > MAX_DEPTH ? 17 : 21)) {
            case 0 -> DataTypes.BOOLEAN();
            case 1 -> DataTypes.TINYINT();
            case 2 -> DataTypes.SMALLINT();
            case 3 -> DataTypes.INT();
            case 4 -> DataTypes.BIGINT();
            case 5 -> DataTypes.FLOAT();
            case 6 -> DataTypes.DOUBLE();
            case 7, 8 -> {
                int precision = 1 + random.nextInt(38);
                yield DataTypes.DECIMAL(precision, random.nextInt(precision + 1));
            }
            case 9 -> DataTypes.BYTES();
            case 10 -> DataTypes.DATE();
            case 11 -> DataTypes.TIME(random.nextInt(10));
            case 12 -> DataTypes.TIMESTAMP(random.nextInt(10));
            case 13 -> DataTypes.TIMESTAMP_LTZ(random.nextInt(10));
            case 14 -> DataTypes.STRING();
            case 15 -> DataTypes.CHAR(3);
            case 16 -> DataTypes.VARIANT();
            case 17 -> DataTypes.ARRAY(type(random, depth + 1));
            case 18 -> DataTypes.MAP(DataTypes.STRING(), type(random, depth + 1));
            case 19 -> DataTypes.MULTISET(DataTypes.STRING());
            default -> row(random, depth);
        };
    }

    // Rows.

    private static Object value(Random random, LogicalType type) {
        return type.isNullable() && random.nextInt(8) == 0 ? null : some(random, type);
    }

    private static Object some(Random random, LogicalType type) {
        return switch (type.getTypeRoot()) {
            case BOOLEAN -> random.nextBoolean();
            case TINYINT -> (byte) random.nextInt();
            case SMALLINT -> (short) random.nextInt();
            case INTEGER -> random.nextInt();
            case BIGINT -> random.nextLong() >> random.nextInt(64);
            case FLOAT -> real(random);
            case DOUBLE -> doublePrecision(random);
            case DECIMAL -> decimal(random, (DecimalType) type);
            case VARBINARY -> {
                byte[] bytes = new byte[random.nextInt(20)];
                random.nextBytes(bytes);
                yield bytes;
            }
            case DATE -> random.nextInt() >> random.nextInt(32);
            case TIME_WITHOUT_TIME_ZONE -> random.nextInt(86_400) * 1000 + random.nextInt(2) * random.nextInt(1000);
            case TIMESTAMP_WITHOUT_TIME_ZONE -> moment(random, ((TimestampType) type).getPrecision());
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE -> moment(random, ((LocalZonedTimestampType) type).getPrecision());
            case CHAR, VARCHAR -> StringData.fromString(words(random));
            case ARRAY -> {
                Object[] elements = new Object[random.nextInt(70) / (1 + random.nextInt(30))];
                for (int i = 0; i < elements.length; i++) {
                    elements[i] = value(random, type.getChildren().get(0));
                }
                yield new GenericArrayData(elements);
            }
            case MAP -> map(random, () -> value(random, type.getChildren().get(1)));
            case MULTISET -> map(random, () -> 1 + random.nextInt(100));
            case ROW -> {
                List<LogicalType> types = type.getChildren();
                GenericRowData row = new GenericRowData(types.size());
                for (int i = 0; i < types.size(); i++) {
                    row.setField(i, value(random, types.get(i)));
                }
                yield row;
            }
            default -> {
                assertThat(type.getTypeRoot()).isEqualTo(LogicalTypeRoot.VARIANT);
                yield variant(random);
            }
        };
    }

    private static GenericMapData map(Random random, Supplier<Object> value) {
        Map<Object, Object> entries = new LinkedHashMap<>();
        for (int i = random.nextInt(5); i > 0; i--) {
            entries.put(StringData.fromString(i + words(random)), value.get());
        }
        return new GenericMapData(entries);
    }

    private static Object variant(Random random) {
        try {
            return BinaryVariantInternalBuilder.parseJson(json(random, 0), false);
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    private static String json(Random random, int depth) {
        return switch (random.nextInt(depth > 3 ? 6 : 8)) {
            case 0 -> "null";
            case 1 -> String.valueOf(random.nextBoolean());
            case 2 -> String.valueOf(random.nextLong() >> random.nextInt(64));
            case 3 -> new BigDecimal(new BigInteger(100, random), random.nextInt(30)).toPlainString();
            case 4 -> String.valueOf(doublePrecision(random));
            case 5 ->
                new String(
                        new JsonBytes()
                                .string(words(random)
                                        .repeat(1 + random.nextInt(2) * 20)
                                        .getBytes(StandardCharsets.UTF_8))
                                .toBytes(),
                        StandardCharsets.UTF_8);
            case 6 -> {
                List<String> elements = new ArrayList<>();
                for (int i = random.nextInt(4); i > 0; i--) {
                    elements.add(json(random, depth + 1));
                }
                yield "[" + String.join(",", elements) + "]";
            }
            default -> {
                List<String> members = new ArrayList<>();
                for (int i = random.nextInt(4); i > 0; i--) {
                    members.add("\"k" + random.nextInt(1000) + i + "é\":" + json(random, depth + 1));
                }
                yield "{" + String.join(",", members) + "}";
            }
        };
    }

    private static DecimalData decimal(Random random, DecimalType type) {
        BigInteger bound = BigInteger.TEN.pow(1 + random.nextInt(type.getPrecision()));
        BigInteger unscaled = new BigInteger(bound.bitLength(), random).mod(bound);
        BigDecimal value = new BigDecimal(random.nextBoolean() ? unscaled : unscaled.negate(), type.getScale());
        return DecimalData.fromBigDecimal(value, type.getPrecision(), type.getScale());
    }

    private static TimestampData moment(Random random, int precision) {
        long millis = random.nextLong() >> (18 + random.nextInt(46));
        int unit = (int) Math.pow(10, Math.max(0, 9 - precision));
        int nanos = precision <= 3 ? 0 : random.nextInt(1_000_000) / unit * unit;
        return TimestampData.fromEpochMillis(millis, nanos);
    }

    private static double doublePrecision(Random random) {
        while (true) {
            double value = random.nextBoolean()
                    ? Double.longBitsToDouble(random.nextLong())
                    : random.nextInt(1_000_000) / Math.pow(10, random.nextInt(9));
            if (Double.isFinite(value)
                    && isBest(new BigDecimal(value), Double.toString(value), value == 0)
                    && isShortest(Double.toString(value), text -> Double.parseDouble(text) == value)) {
                return value;
            }
        }
    }

    private static float real(Random random) {
        while (true) {
            float value = random.nextBoolean()
                    ? Float.intBitsToFloat(random.nextInt())
                    : (float) (random.nextInt(1_000_000) / Math.pow(10, random.nextInt(9)));
            if (Float.isFinite(value)
                    && isBest(new BigDecimal(value), Float.toString(value), value == 0)
                    && isShortest(Float.toString(value), text -> Float.parseFloat(text) == value)) {
                return value;
            }
        }
    }

    /** Java before 19 does not always find the nearest of the shortest texts. */
    private static boolean isBest(BigDecimal exact, String text, boolean zero) {
        BigDecimal written = new BigDecimal(text);
        int digits = Math.max(2, written.stripTrailingZeros().precision());
        return zero
                || exact.round(new MathContext(digits, RoundingMode.HALF_EVEN)).compareTo(written) == 0;
    }

    /** Nor always one of the shortest. */
    private static boolean isShortest(String text, Predicate<String> same) {
        BigDecimal written = new BigDecimal(text).stripTrailingZeros();
        return written.precision() <= 2
                || Set.of(RoundingMode.DOWN, RoundingMode.UP).stream()
                        .noneMatch(mode -> same.test(written.round(new MathContext(written.precision() - 1, mode))
                                .toString()));
    }

    private static String words(Random random) {
        StringBuilder out = new StringBuilder();
        for (int i = random.nextInt(14); i > 0; i--) {
            out.appendCodePoint(
                    switch (random.nextInt(8)) {
                        case 0 -> random.nextInt(0x20);
                        case 1 -> 0x80 + random.nextInt(0x700);
                        case 2 -> 0x1F600 + random.nextInt(50);
                        case 3 -> "\"\\/\u007f".charAt(random.nextInt(4));
                        default -> ' ' + random.nextInt(95);
                    });
        }
        return out.toString();
    }
}
