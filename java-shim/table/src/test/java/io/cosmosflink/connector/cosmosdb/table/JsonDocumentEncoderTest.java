package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.DataType;
import org.apache.flink.types.variant.Variant;
import org.junit.jupiter.api.Test;

class JsonDocumentEncoderTest {
    private static JsonDocumentEncoder.Column column(int position, String path, DataType type) {
        List<String> names = path.isEmpty() ? List.of() : List.of(path.split("/"));
        return new JsonDocumentEncoder.Column("c" + position, position, names, type.getLogicalType());
    }

    /** The JSON of one value. */
    private static String json(DataType type, Object value, boolean sql) {
        JsonDocumentEncoder encoder = JsonDocumentEncoder.of(List.of(column(0, "v", type)), Map.of(), sql);
        String document = new String(encoder.encode(GenericRowData.of(value)), StandardCharsets.UTF_8);
        assertThat(document).startsWith("{\"v\":").endsWith("}");
        return document.substring(5, document.length() - 1);
    }

    private static String json(DataType type, Object value) {
        return json(type, value, false);
    }

    @Test
    void everyTypeHasItsJson() {
        assertThat(json(DataTypes.STRING(), StringData.fromString("a\"\\\n\u0001\u00e9\ud83d\ude00")))
                .isEqualTo("\"a\\\"\\\\\\n\\u0001\u00e9\ud83d\ude00\"");
        assertThat(json(DataTypes.CHAR(1), null)).isEqualTo("null");
        assertThat(json(DataTypes.BOOLEAN(), true)).isEqualTo("true");
        assertThat(json(DataTypes.TINYINT(), (byte) -1)).isEqualTo("-1");
        assertThat(json(DataTypes.SMALLINT(), (short) 300)).isEqualTo("300");
        assertThat(json(DataTypes.INT(), Integer.MIN_VALUE)).isEqualTo("-2147483648");
        assertThat(json(DataTypes.BIGINT(), Long.MAX_VALUE)).isEqualTo("9223372036854775807");
        assertThat(json(DataTypes.FLOAT(), 0.1f)).isEqualTo("0.1");
        assertThat(json(DataTypes.DOUBLE(), 1e300)).isEqualTo("1.0E300");
        assertThat(json(DataTypes.BYTES(), new byte[] {0, -1})).isEqualTo("\"AP8=\"");
        assertThat(json(DataTypes.DATE(), (int) LocalDate.of(2026, 2, 28).toEpochDay()))
                .isEqualTo("\"2026-02-28\"");
        assertThat(json(DataTypes.TIME(3), 10 * 3_600_000)).isEqualTo("\"10:00:00\"");
        assertThat(json(DataTypes.TIME(3), 1)).isEqualTo("\"00:00:00.001\"");
        assertThat(json(DataTypes.VARIANT(), Variant.newBuilder().of(7))).isEqualTo("7");
    }

    @Test
    void decimalsKeepTheirDigits() {
        BigDecimal value = new BigDecimal("12345678901234567890123456789012345.678");
        assertThat(json(DataTypes.DECIMAL(38, 3), DecimalData.fromBigDecimal(value, 38, 3)))
                .isEqualTo("12345678901234567890123456789012345.678");
        assertThat(json(DataTypes.DECIMAL(10, 9), DecimalData.fromBigDecimal(new BigDecimal("1E-9"), 10, 9)))
                .isEqualTo("0.000000001");
    }

    @Test
    void timestampsAreIsoOrSql() {
        TimestampData moment = TimestampData.fromLocalDateTime(LocalDateTime.of(2026, 11, 24, 10, 15, 30, 123_456_789));
        assertThat(json(DataTypes.TIMESTAMP(9), moment)).isEqualTo("\"2026-11-24T10:15:30.123456789\"");
        assertThat(json(DataTypes.TIMESTAMP(9), moment, true)).isEqualTo("\"2026-11-24 10:15:30.123456789\"");
        TimestampData instant = TimestampData.fromInstant(Instant.parse("2026-11-24T10:15:00Z"));
        assertThat(json(DataTypes.TIMESTAMP_LTZ(3), instant)).isEqualTo("\"2026-11-24T10:15:00Z\"");
        assertThat(json(DataTypes.TIMESTAMP_LTZ(3), instant, true)).isEqualTo("\"2026-11-24 10:15:00Z\"");
        TimestampData before = TimestampData.fromInstant(Instant.parse("1969-12-31T23:59:59.999Z"));
        assertThat(json(DataTypes.TIMESTAMP_LTZ(3), before)).isEqualTo("\"1969-12-31T23:59:59.999Z\"");
    }

    @Test
    void whatHoldsOthersIsNested() {
        DataType items = DataTypes.ARRAY(
                DataTypes.ROW(DataTypes.FIELD("sku", DataTypes.STRING()), DataTypes.FIELD("n", DataTypes.INT())));
        GenericArrayData array = new GenericArrayData(
                new Object[] {GenericRowData.of(StringData.fromString("a"), 1), null, GenericRowData.of(null, 2)});
        assertThat(json(items, array)).isEqualTo("[{\"sku\":\"a\",\"n\":1},null,{\"sku\":null,\"n\":2}]");

        Map<Object, Object> counts = new LinkedHashMap<>();
        counts.put(StringData.fromString("x\"y"), 1);
        counts.put(StringData.fromString("z"), null);
        assertThat(json(DataTypes.MAP(DataTypes.STRING(), DataTypes.INT()), new GenericMapData(counts)))
                .isEqualTo("{\"x\\\"y\":1,\"z\":null}");
        assertThat(json(
                        DataTypes.MULTISET(DataTypes.STRING()),
                        new GenericMapData(Map.of(StringData.fromString("x"), 2))))
                .isEqualTo("{\"x\":2}");
    }

    @Test
    void columnsAreAtTheirPaths() {
        JsonDocumentEncoder encoder = JsonDocumentEncoder.of(
                List.of(
                        column(2, "id", DataTypes.STRING()),
                        column(0, "address/city", DataTypes.STRING()),
                        column(3, "n", DataTypes.INT()),
                        column(1, "address/geo/lat", DataTypes.DOUBLE())),
                Map.of("deleted", "true"),
                false);
        GenericRowData row = GenericRowData.of(StringData.fromString("Kiel"), 54.3, StringData.fromString("o1"), null);
        assertThat(new String(encoder.encode(row), StandardCharsets.UTF_8))
                .isEqualTo(
                        "{\"id\":\"o1\",\"address\":{\"city\":\"Kiel\",\"geo\":{\"lat\":54.3}},\"n\":null,\"deleted\":true}");
    }

    @Test
    void oneColumnMayBeTheDocument() {
        JsonDocumentEncoder encoder =
                JsonDocumentEncoder.of(List.of(column(0, "", DataTypes.STRING())), Map.of(), false);
        assertThat(encoder.encode(GenericRowData.of(StringData.fromString("{\"id\":\"\u00e9\"}"))))
                .isEqualTo("{\"id\":\"\u00e9\"}".getBytes(StandardCharsets.UTF_8));
        assertThatThrownBy(() -> encoder.encode(GenericRowData.of((Object) null)))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("'c0'");
        assertThatThrownBy(() -> JsonDocumentEncoder.of(
                        List.of(column(0, "id", DataTypes.STRING()), column(1, "", DataTypes.STRING())),
                        Map.of(),
                        false))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("c0, c1");
    }

    @Test
    void columnsThatStandInEachOthersWayAreRefused() {
        for (List<String> paths : List.of(List.of("a", "a/b"), List.of("a/b", "a"), List.of("a/b", "a/b"))) {
            List<JsonDocumentEncoder.Column> columns =
                    List.of(column(0, paths.get(0), DataTypes.STRING()), column(1, paths.get(1), DataTypes.STRING()));
            assertThatThrownBy(() -> JsonDocumentEncoder.of(columns, Map.of(), false))
                    .isInstanceOf(ValidationException.class)
                    .hasMessageContaining("column 'c1' is at /a");
        }
        assertThatThrownBy(() -> JsonDocumentEncoder.of(
                        List.of(column(0, "deleted", DataTypes.BOOLEAN())), Map.of("deleted", "true"), false))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("'/deleted'");
    }

    @Test
    void whatJsonDoesNotHaveIsRefused() {
        for (double value : new double[] {Double.NaN, Double.POSITIVE_INFINITY}) {
            assertThatThrownBy(() -> json(DataTypes.DOUBLE(), value))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContainingAll("'c0'", String.valueOf(value));
        }
        for (DataType type : Arrays.asList(
                DataTypes.INTERVAL(DataTypes.SECOND()), DataTypes.MAP(DataTypes.INT(), DataTypes.INT()))) {
            assertThatThrownBy(() -> json(type, null))
                    .isInstanceOf(ValidationException.class)
                    .hasMessageContainingAll("'c0'", "cast");
        }
    }
}
