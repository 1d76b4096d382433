package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.RowsView;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.data.binary.BinarySegmentUtils;
import org.apache.flink.table.data.conversion.RowRowConverter;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Random tables and documents: the core's rows are byte for byte those of Flink's own format for JSON. */
class RowsAgainstFlinkJsonITCase {
    private static final int TABLES = 60;
    private static final int DOCUMENTS = 20;
    private static final int MAX_DEPTH = 3;

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5})
    void rowsAreThoseOfFlinkJson(long seed) throws Exception {
        Random random = new Random(seed);
        List<String> differences = new ArrayList<>();
        for (int table = 0; table < TABLES; table++) {
            DataType type = row(random, 1);
            List<String> documents = new ArrayList<>();
            for (int i = 0; i < DOCUMENTS; i++) {
                documents.add(document(random, type));
            }
            List<byte[]> expected = ofFlink((RowType) type.getLogicalType(), documents);
            RowsView found;
            try {
                found = NativeCore.get()
                        .decodeRows(RowLayout.plan(type), documents)
                        .rows();
            } catch (CosmosException e) {
                differences.add("table " + table + ": " + e.getMessage());
                continue;
            }
            assertThat(found.count()).isEqualTo(documents.size());
            for (int i = 0; i < documents.size(); i++) {
                byte[] row = Arrays.copyOfRange(found.bytes(), found.offset(i), found.offset(i) + found.length(i));
                if (!Arrays.equals(row, expected.get(i))) {
                    differences.add("table " + table + ": " + HexFormat.of().formatHex(row) + " in place of "
                            + HexFormat.of().formatHex(expected.get(i)) + " of " + documents.get(i) + " by " + type);
                }
            }
        }
        assertThat(differences).as("seed %s", seed).isEmpty();
    }

    /** Two maps are equal whose entries are, in any order; so their bytes are not compared, in which the core keeps the document's order. */
    @Test
    void mapsHaveTheSameEntries() throws Exception {
        Random random = new Random(6);
        DataType type = DataTypes.ROW(
                DataTypes.FIELD("counts", DataTypes.MAP(DataTypes.STRING(), DataTypes.INT())),
                DataTypes.FIELD(
                        "lists",
                        DataTypes.MAP(DataTypes.STRING(), DataTypes.MAP(DataTypes.STRING(), DataTypes.STRING()))));
        List<String> documents = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            documents.add("{\"counts\":" + map(random, () -> String.valueOf(random.nextInt())) + ",\"lists\":"
                    + map(random, () -> map(random, () -> text(random, words(random)))) + "}");
        }
        RowType row = (RowType) type.getLogicalType();
        RowRowConverter converter = RowRowConverter.create(type);
        converter.open(getClass().getClassLoader());
        List<byte[]> expected = ofFlink(row, documents);
        RowsView found =
                NativeCore.get().decodeRows(RowLayout.plan(type), documents).rows();
        for (int i = 0; i < documents.size(); i++) {
            byte[] bytes = Arrays.copyOfRange(found.bytes(), found.offset(i), found.offset(i) + found.length(i));
            assertThat(converter.toExternal(rowOf(row, bytes)))
                    .as(documents.get(i))
                    .isEqualTo(converter.toExternal(rowOf(row, expected.get(i))));
        }
    }

    private static BinaryRowData rowOf(RowType type, byte[] bytes) {
        BinaryRowData row = new BinaryRowData(type.getFieldCount());
        row.pointTo(MemorySegmentFactory.wrap(bytes), 0, bytes.length);
        return row;
    }

    /** An object with up to eight keys. */
    private static String map(Random random, Supplier<String> value) {
        return IntStream.range(0, random.nextInt(9))
                .mapToObj(entry -> text(random, entry + words(random)) + ":" + value.get())
                .collect(Collectors.joining(",", "{", "}"));
    }

    @SuppressWarnings("deprecation") // one document after the other, without a collector
    private static List<byte[]> ofFlink(RowType type, List<String> documents) throws Exception {
        JsonParserRowDataDeserializationSchema json = new JsonParserRowDataDeserializationSchema(
                type, InternalTypeInfo.of(type), false, false, TimestampFormat.ISO_8601);
        json.open(null);
        RowDataSerializer serializer = new RowDataSerializer(type);
        List<byte[]> rows = new ArrayList<>();
        for (String document : documents) {
            RowData row = json.deserialize(document.getBytes(StandardCharsets.UTF_8));
            BinaryRowData binary = serializer.toBinaryRow(row);
            rows.add(BinarySegmentUtils.copyToBytes(binary.getSegments(), binary.getOffset(), binary.getSizeInBytes()));
        }
        return rows;
    }

    // Tables.

    private static DataType row(Random random, int depth) {
        List<DataTypes.Field> fields = new ArrayList<>();
        int columns = 1 + random.nextInt(depth == 1 ? 70 : 4);
        for (int i = 0; i < columns; i++) {
            // Names with a common beginning, one that is escaped, and one that is no ASCII.
            String name =
                    switch (i % 5) {
                        case 0 -> "field" + i;
                        case 1 -> "f" + i + "\"q";
                        case 2 -> "größe" + i;
                        default -> "field_" + i;
                    };
            fields.add(DataTypes.FIELD(name, type(random, depth + 1)));
        }
        return DataTypes.ROW(fields.toArray(DataTypes.Field[]::new));
    }

    private static DataType type(Random random, int depth) {
        return switch (random.nextInt(depth > MAX_DEPTH ? 14 : 17)) {
            case 0 -> DataTypes.BOOLEAN();
            case 1 -> DataTypes.TINYINT();
            case 2 -> DataTypes.SMALLINT();
            case 3 -> DataTypes.INT();
            case 4 -> DataTypes.BIGINT();
            case 5 -> DataTypes.FLOAT();
            case 6 -> DataTypes.DOUBLE();
            case 7 -> {
                int precision = 1 + random.nextInt(38);
                yield DataTypes.DECIMAL(precision, random.nextInt(precision + 1));
            }
            case 8 -> DataTypes.BYTES();
            case 9 -> DataTypes.DATE();
            case 10 -> DataTypes.TIME(0);
            case 11 -> DataTypes.TIMESTAMP(random.nextInt(10));
            case 12 -> DataTypes.TIMESTAMP_LTZ(random.nextInt(10));
            case 13 -> DataTypes.STRING();
            case 14 -> DataTypes.ARRAY(type(random, depth + 1));
            case 15 -> DataTypes.MAP(DataTypes.STRING(), type(random, depth + 1));
            default -> row(random, depth);
        };
    }

    // Documents.

    /** With fields in any order, some missing, and others that no column has. */
    private static String document(Random random, DataType type) {
        List<String> members = new ArrayList<>();
        List<String> names = DataType.getFieldNames(type);
        for (int i = 0; i < names.size(); i++) {
            if (random.nextInt(8) > 0) {
                DataType field = DataType.getFieldDataTypes(type).get(i);
                members.add(text(random, names.get(i)) + space(random) + ":" + space(random) + value(random, field));
            }
        }
        if (random.nextBoolean()) {
            members.add("\"other\":{\"a\":[1,{\"}\":\"]\"},\"\\\"\"],\"field0\":true}");
        }
        if (random.nextInt(3) > 0) {
            Collections.shuffle(members, random);
        }
        return "{" + space(random) + String.join(space(random) + "," + space(random), members) + space(random) + "}";
    }

    private static String space(Random random) {
        return random.nextInt(6) > 0 ? "" : " \n\t".substring(0, 1 + random.nextInt(3));
    }

    private static String value(Random random, DataType type) {
        if (random.nextInt(10) == 0) {
            return "null";
        }
        LogicalType logical = type.getLogicalType();
        return switch (logical.getTypeRoot()) {
            case BOOLEAN -> String.valueOf(random.nextBoolean());
            case TINYINT -> String.valueOf((byte) random.nextInt());
            case SMALLINT -> String.valueOf((short) random.nextInt());
            case INTEGER -> String.valueOf(random.nextInt());
            case BIGINT -> String.valueOf(random.nextLong() >> random.nextInt(64));
            // So few digits that it does not matter whether it is rounded by way of a double.
            case FLOAT -> String.valueOf((random.nextInt(200_000) - 100_000) / 64.0);
            case DOUBLE -> String.valueOf(random.nextGaussian() * Math.pow(10, random.nextInt(40) - 20));
            case DECIMAL -> decimal(random, (DecimalType) logical);
            case VARBINARY -> {
                byte[] bytes = new byte[random.nextInt(20)];
                random.nextBytes(bytes);
                yield "\"" + Base64.getEncoder().encodeToString(bytes) + "\"";
            }
            case DATE -> "\"" + LocalDate.ofEpochDay(random.nextInt(60_000) - 20_000) + "\"";
            case TIME_WITHOUT_TIME_ZONE ->
                "\"" + DateTimeFormatter.ISO_LOCAL_TIME.format(LocalTime.ofSecondOfDay(random.nextInt(86_400))) + "\"";
            case TIMESTAMP_WITHOUT_TIME_ZONE -> "\"" + moment(random, ((TimestampType) logical).getPrecision()) + "\"";
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                "\"" + moment(random, ((LocalZonedTimestampType) logical).getPrecision()) + "Z\"";
            case VARCHAR -> text(random, words(random));
            case ARRAY -> {
                List<String> items = new ArrayList<>();
                for (int i = random.nextInt(5); i > 0; i--) {
                    items.add(value(random, type.getChildren().get(0)));
                }
                yield "[" + space(random) + String.join("," + space(random), items) + "]";
            }
            // One entry at most: the other side has them in the order of a hash table.
            case MAP ->
                random.nextInt(4) == 0
                        ? "{}"
                        : "{" + text(random, words(random)) + ":"
                                + value(random, type.getChildren().get(1)) + "}";
            case ROW -> document(random, type);
            default -> throw new AssertionError(logical);
        };
    }

    /** A number with at most as many digits before its point as fit, and any behind it. */
    private static String decimal(Random random, DecimalType type) {
        int whole = type.getPrecision() - type.getScale();
        BigDecimal bound = BigDecimal.TEN.pow(whole).subtract(BigDecimal.ONE).max(BigDecimal.ZERO);
        BigInteger number = new BigInteger(128, random).mod(bound.toBigInteger().add(BigInteger.ONE));
        // Not rounded up to a digit more: the first one behind the point is no 9.
        String behind = type.getScale() == 0 ? "" : "." + random.nextInt(9) + Math.abs(random.nextInt(1000));
        return (random.nextBoolean() && (number.signum() != 0 || !behind.isEmpty()) ? "-" : "") + number + behind;
    }

    private static String moment(Random random, int precision) {
        long second = random.nextInt() * 2L;
        int nanos = random.nextInt(1_000_000_000);
        int unit = (int) Math.pow(10, 9 - precision);
        LocalDateTime moment = LocalDateTime.ofEpochSecond(second, nanos / unit * unit, ZoneOffset.UTC);
        return DateTimeFormatter.ISO_LOCAL_DATE_TIME.format(moment);
    }

    private static String words(Random random) {
        StringBuilder out = new StringBuilder();
        for (int i = random.nextInt(12); i > 0; i--) {
            out.appendCodePoint(
                    switch (random.nextInt(6)) {
                        case 0 -> random.nextInt(0x20);
                        case 1 -> 0x80 + random.nextInt(0x700);
                        case 2 -> 0x1F600 + random.nextInt(50);
                        default -> ' ' + random.nextInt(95);
                    });
        }
        return out.toString();
    }

    /** A JSON string, with more escapes than it needs. */
    private static String text(Random random, String value) {
        StringBuilder out = new StringBuilder("\"");
        boolean escaping = random.nextInt(3) == 0;
        value.codePoints().forEach(point -> {
            if (point < ' ' || escaping && random.nextInt(4) == 0) {
                for (char c : Character.toChars(point)) {
                    out.append(String.format("\\u%04x", (int) c));
                }
            } else if (point == '"' || point == '\\') {
                out.append('\\').append((char) point);
            } else {
                out.appendCodePoint(point);
            }
        });
        return out.append('"').toString();
    }
}
