package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * A table gives the same rows whoever filters them: random conditions over documents in which fields are missing, null or of another type, of which
 * Flink alone says what is true, and then the connector and the service.
 */
@Timeout(300)
class FiltersITCase {
    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private static final int MIXED = 90;
    private static final int FITTING = 40;
    private static final int CONDITIONS = 20;

    private static final String COLUMNS =
            """
            `id` STRING NOT NULL, `pk` STRING NOT NULL, `s` STRING, `b` BOOLEAN, `i` INT, `l` BIGINT, `f` FLOAT, `d` DOUBLE, `m` DECIMAL(10, 2),
            `h` DECIMAL(38, 10), `day` DATE, `tm` TIME(3), `ts` TIMESTAMP(3), `nano` TIMESTAMP(9), `ltz` TIMESTAMP_LTZ(3), `r` ROW<`x` INT, `y` STRING>,
            `_ts` BIGINT, `at` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', `etag` STRING METADATA""";

    private static final String KEY = ", PRIMARY KEY (`id`, `pk`) NOT ENFORCED";

    /** The columns of conditions, each with JSON that fits as a rule and with literals of SQL. */
    private record Field(String column, List<String> json, List<String> literals) {}

    private static final List<String> WHOLE =
            List.of("0", "1", "-1", "5", "7", "100", "2147483647", "1.0", "1e2", "\"5\"", "\" 7 \"");
    private static final List<String> WHOLES = List.of("0", "1", "-1", "5", "100", "2147483648", "1.5", "5.0");
    private static final List<String> REAL =
            List.of("0", "-0.0", "0.1", "1.5", "-1.5", "5", "3.5e10", "1e-320", "\"1.5\"", "0.1000000001");
    private static final List<String> REALS =
            List.of("0", "0.1", "1.5", "-1.5", "0.0", "CAST(0.1 AS DOUBLE)", "CAST(0.1 AS FLOAT)", "1.5e0", "5");
    private static final List<String> TEXT = List.of(
            "\"\"",
            "\"open\"",
            "\"closed\"",
            "\"op\"",
            "\"5\"",
            "\"true\"",
            "\"[1]\"",
            "\"ä\"",
            "\"z\"",
            "\"😀\"",
            "\"a'b\"",
            "\"%\"",
            "\"Open\"",
            "5",
            "-1.5",
            "true",
            "{\"a\":1}",
            "[1]");
    private static final List<String> TEXTS = List.of(
            "'open'", "'closed'", "'op'", "'5'", "'true'", "'[1]'", "'ä'", "'z'", "'😀'", "'a''b'", "''", "'-1.5'");
    private static final List<String> LOCAL = List.of(
            "\"2026-11-24T10:15\"",
            "\"2026-11-24T10:15:30\"",
            "\"2026-11-24T10:15:30.123\"",
            "\"2026-11-24T10:15:30.123456789\"",
            "\"1969-12-31T23:59:59.9\"");
    private static final List<String> LOCALS = List.of(
            "TIMESTAMP '2026-11-24 10:15:30'", "TIMESTAMP '2026-11-24 10:15:30.123'",
            "TIMESTAMP '2026-11-24 10:15:30.123456'", "TIMESTAMP '1970-01-01 00:00:00'");
    private static final List<String> DECIMALS = List.of("1", "1.01", "1.005", "-2.50", "0", "100", "99999999.99");

    private static final List<Field> FIELDS = List.of(
            new Field("t.`s`", TEXT, TEXTS),
            new Field("t.`b`", List.of("true", "false", "\"true\"", "\"FALSE\""), List.of("TRUE", "FALSE")),
            new Field("t.`i`", WHOLE, WHOLES),
            new Field(
                    "t.`l`",
                    List.of("0", "5", "9007199254740993", "9007199254740992", "-9007199254740993", "\"5\""),
                    List.of("5", "0", "9007199254740992", "9007199254740993", "-1")),
            new Field("t.`f`", REAL, REALS),
            new Field("t.`d`", REAL, REALS),
            new Field("t.`m`", List.of("0", "1", "1.005", "1.004", "-2.5", "100", "\"1.01\"", "99999999.99"), DECIMALS),
            new Field("t.`h`", List.of("0", "1.005", "12345678901234567890", "\"1.01\"", "-2.5"), DECIMALS),
            new Field(
                    "t.`day`",
                    List.of("\"2026-01-01\"", "\"2026-11-24\"", "\"1969-12-31\"", "\"0001-01-01\""),
                    List.of("DATE '2026-01-01'", "DATE '2026-11-24'", "DATE '1970-01-01'")),
            new Field(
                    "t.`tm`",
                    List.of("\"10:15:30\"", "\"10:15:30.5\"", "\"00:00:00\"", "\"23:59:59.999\""),
                    List.of("TIME '10:15:30'", "TIME '00:00:00'", "TIME '23:59:59'")),
            new Field("t.`ts`", LOCAL, LOCALS),
            new Field("t.`nano`", LOCAL, LOCALS),
            new Field(
                    "t.`ltz`",
                    List.of(
                            "\"2026-11-24T10:15Z\"",
                            "\"2026-11-24T11:15:00+01:00\"",
                            "\"2026-11-23T16:15:00.5-18:00\""),
                    List.of(
                            "TO_TIMESTAMP_LTZ(1795515300000, 3)",
                            "CAST(TIMESTAMP '2026-11-24 10:15:00' AS TIMESTAMP_LTZ(3))")),
            new Field("t.`r`.`x`", WHOLE, WHOLES),
            new Field("t.`r`.`y`", TEXT, TEXTS));

    private static final Field ID = new Field("t.`id`", List.of(), List.of("'o7'", "'o15'", "'o1'", "'p'", "'o'"));
    private static final Field PARTITION = new Field("t.`pk`", List.of(), List.of("'k1'", "'k2'", "'k9'"));
    private static final Field SECONDS = new Field("t.`_ts`", List.of(), List.of("0", "1700000000", "4000000000"));

    private static final List<String> OTHER =
            List.of("true", "\"x\"", "[1]", "{\"a\":1}", "1.5", "1e300", "\"\"", "12", "\"9\"");

    private static LocalCosmos cosmos;

    @BeforeAll
    static void start() throws Exception {
        cosmos = LocalCosmos.start("mixed:/pk:2", "fitting:/pk:2");
        Random random = new Random(41);
        cosmos.write(
                "mixed",
                IntStream.range(0, MIXED)
                        .mapToObj(n -> document(random, n, true))
                        .toList());
        cosmos.write(
                "fitting",
                IntStream.range(0, FITTING)
                        .mapToObj(n -> document(random, n, false))
                        .toList());
    }

    @AfterAll
    static void stop() {
        cosmos.close();
    }

    private static <T> T pick(Random random, List<T> of) {
        return of.get(random.nextInt(of.size()));
    }

    private static Operation document(Random random, int number, boolean mixed) {
        StringBuilder json = new StringBuilder("{\"id\":\"o" + number + "\",\"pk\":\"k" + number % 5 + "\"");
        Map<String, String> row = new TreeMap<>();
        for (Field field : FIELDS) {
            String[] names = field.column().replace("t.", "").replace("`", "").split("\\.");
            String value = value(random, field.json(), mixed);
            if (value != null && names.length == 1) {
                json.append(",\"").append(names[0]).append("\":").append(value);
            } else if (value != null) {
                row.put(names[1], value);
            }
        }
        switch (random.nextInt(8)) {
            case 0 -> json.append(",\"r\":null");
            case 1 -> json.append(mixed ? ",\"r\":" + pick(random, OTHER) : "");
            default ->
                json.append(row.entrySet().stream()
                        .map(entry -> "\"" + entry.getKey() + "\":" + entry.getValue())
                        .collect(Collectors.joining(",", ",\"r\":{", "}")));
        }
        return Operation.upsert(
                "o" + number,
                "[\"k" + number % 5 + "\"]",
                json.append('}').toString().getBytes(StandardCharsets.UTF_8));
    }

    private static String value(Random random, List<String> usual, boolean mixed) {
        return switch (random.nextInt(20)) {
            case 0, 1 -> null;
            case 2 -> "null";
            case 3, 4 -> mixed ? pick(random, OTHER) : null;
            default -> pick(random, usual);
        };
    }

    private static String condition(Random random, List<Field> fields, int depth) {
        switch (random.nextInt(depth == 0 ? 8 : 14)) {
            case 8, 9 -> {
                return "(" + condition(random, fields, depth - 1) + " AND " + condition(random, fields, depth - 1)
                        + ")";
            }
            case 10, 11 -> {
                return "(" + condition(random, fields, depth - 1) + " OR " + condition(random, fields, depth - 1) + ")";
            }
            case 12 -> {
                return "NOT (" + condition(random, fields, depth - 1) + ")";
            }
            case 13 -> {
                return "(" + condition(random, fields, depth - 1) + ") IS "
                        + pick(random, List.of("TRUE", "FALSE", "NOT TRUE", "NOT FALSE"));
            }
            default -> {
                return leaf(random, pick(random, fields));
            }
        }
    }

    private static String leaf(Random random, Field field) {
        String column = field.column();
        String literal = pick(random, field.literals());
        boolean text = literal.startsWith("'");
        if (field.literals().contains("TRUE")) {
            return pick(
                    random,
                    List.of(
                            column,
                            "NOT " + column,
                            column + " IS NULL",
                            column + " IS NOT NULL",
                            column + " IS NOT TRUE",
                            column + " = " + literal,
                            column + " <> " + literal));
        }
        return switch (random.nextInt(10)) {
            case 0 -> column + " IS NULL";
            case 1 -> column + " IS NOT NULL";
            case 2 -> column + " IN (" + literal + ", " + pick(random, field.literals()) + ")";
            case 3 -> column + " NOT IN (" + literal + ", " + pick(random, field.literals()) + ")";
            case 4 -> column + " BETWEEN " + literal + " AND " + pick(random, field.literals());
            case 5 -> literal + pick(random, List.of(" = ", " < ", " >= ", " <> ")) + column;
            case 6 ->
                text
                        ? column
                                + pick(random, List.of(" LIKE ", " NOT LIKE "))
                                + pick(
                                        random,
                                        List.of(
                                                "'op%'",
                                                "'%pen'", "'%e%'", "'open'", "'o_en'", "'5%'", "'%1%'", "'%'", "'%]'"))
                        : column + " > " + literal;
            default -> column + pick(random, List.of(" = ", " <> ", " < ", " <= ", " > ", " >= ")) + literal;
        };
    }

    private static StreamTableEnvironment tables(RuntimeExecutionMode mode) {
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(
                new Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none"));
        environment.setParallelism(1);
        environment.setRuntimeMode(mode);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.getConfig().set("table.local-time-zone", "UTC");
        // One scan for all conditions would read more columns than each needs, and so find more that does not fit.
        tables.getConfig().set("table.optimizer.reuse-sub-plan-enabled", "false");
        return tables;
    }

    /** The two tables of a container: `always` and `never`. */
    private static void create(
            StreamTableEnvironment tables, String container, String key, Map<String, String> options) {
        for (String policy : List.of("always", "never")) {
            Map<String, String> all = new HashMap<>(options);
            all.put("filter.handling.policy", policy);
            String with = all.entrySet().stream()
                    .map(option -> ", '" + option.getKey() + "' = '" + option.getValue() + "'")
                    .collect(Collectors.joining());
            tables.executeSql(
                    """
                    CREATE TABLE %s (%s%s) WITH ('connector' = 'cosmosdb', 'endpoint' = '%s', 'database' = '%s',
                    'container' = '%s', 'auth.key-file' = '%s', 'scan.poll-interval' = '100 ms'%s)"""
                            .formatted(
                                    policy,
                                    COLUMNS,
                                    key,
                                    cosmos.endpoint(),
                                    LocalCosmos.DATABASE,
                                    container,
                                    cosmos.keyFile(),
                                    with));
        }
    }

    /** The ids that each condition leaves, by its number, of a query whose rows are the two; in a changelog those that are left at its end. */
    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    private static Map<Integer, Set<String>> ids(StreamTableEnvironment tables, String sql) throws Exception {
        Map<Integer, Map<String, Integer>> counted = new TreeMap<>();
        try (CloseableIterator<Row> rows = tables.executeSql(sql).collect()) {
            rows.forEachRemaining(row -> {
                boolean gone = row.getKind() == RowKind.DELETE || row.getKind() == RowKind.UPDATE_BEFORE;
                counted.computeIfAbsent((Integer) row.getField(0), number -> new TreeMap<>())
                        .merge((String) row.getField(1), gone ? -1 : 1, Integer::sum);
            });
        }
        Map<Integer, Set<String>> ids = new TreeMap<>();
        counted.forEach((number, all) -> all.forEach((id, count) -> {
            assertThat(count).as("%s of %s", id, number).isBetween(0, 1);
            if (count == 1) {
                ids.computeIfAbsent(number, n -> new TreeSet<>()).add(id);
            }
        }));
        return ids;
    }

    private static String union(String table, String columns, List<String> conditions) {
        return IntStream.range(0, conditions.size())
                .mapToObj(
                        n -> "SELECT %d, t.id%s FROM %s AS t WHERE %s".formatted(n, columns, table, conditions.get(n)))
                .collect(Collectors.joining(" UNION ALL "));
    }

    /** What Flink says of all conditions, in one pass over the rows. */
    private static String verdicts(List<String> conditions) {
        String all = IntStream.range(0, conditions.size())
                .mapToObj(n -> "CASE WHEN (%s) THEN %d ELSE -1 END".formatted(conditions.get(n), n))
                .collect(Collectors.joining(", "));
        return "SELECT n, id FROM (SELECT t.id, ARRAY[" + all
                + "] AS ns FROM never AS t) CROSS JOIN UNNEST(ns) AS u(n) WHERE n >= 0";
    }

    @ParameterizedTest
    @CsvSource({
        "mixed, query, null-field, 8",
        "mixed, query, skip-row, 2",
        "fitting, query, fail, 3",
        "mixed, append, null-field, 3",
        "fitting, append, fail, 2",
    })
    void theSameRowsPass(String container, String read, String onError, int rounds) throws Exception {
        boolean query = read.equals("query");
        StreamTableEnvironment tables = tables(query ? RuntimeExecutionMode.BATCH : RuntimeExecutionMode.STREAMING);
        Map<String, String> options = new HashMap<>(Map.of("json.on-error", onError));
        if (!query) {
            options.put("scan.bounded.mode", "latest");
        }
        create(tables, container, "", options);
        List<Field> fields = new ArrayList<>(FIELDS);
        fields.addAll(List.of(ID, PARTITION, SECONDS));
        Random random = new Random((container + read + onError).hashCode());
        int pushed = 0;
        int passed = 0;
        for (int round = 0; round < rounds; round++) {
            int depth = round % 3;
            List<String> conditions = IntStream.range(0, CONDITIONS)
                    .mapToObj(n -> condition(random, fields, depth))
                    .toList();
            String sql = union("always", "", conditions);
            pushed += tables.explainSql(sql).split("filter=\\[[^\\]]").length - 1;
            // Whether a row is skipped depends on what is read of it: the same columns, then.
            Map<Integer, Set<String>> expected = new TreeMap<>();
            if (onError.equals("skip-row")) {
                expected.putAll(ids(tables, union("never", "", conditions)));
            } else {
                expected.putAll(ids(tables, verdicts(conditions)));
            }
            Map<Integer, Set<String>> found = ids(tables, sql);
            for (int n = 0; n < CONDITIONS; n++) {
                assertThat(found.get(n)).as(conditions.get(n)).isEqualTo(expected.get(n));
            }
            passed += found.values().stream().mapToInt(Set::size).sum();
        }
        assertThat(pushed).isGreaterThan(rounds * CONDITIONS * 2 / 3);
        assertThat(passed).isGreaterThan(rounds * CONDITIONS);
    }

    /** Of a row with a primary key only conditions on the key are pushed, and all give the same. */
    @Test
    void theSameRowsAreLeftOfAChangelog() throws Exception {
        StreamTableEnvironment tables = tables(RuntimeExecutionMode.STREAMING);
        create(tables, "mixed", KEY, Map.of("json.on-error", "null-field", "scan.bounded.mode", "latest"));
        Random random = new Random(43);
        List<Field> fields = new ArrayList<>(List.of(ID, PARTITION, ID, PARTITION));
        fields.addAll(FIELDS.subList(0, 4));
        List<String> conditions = IntStream.range(0, CONDITIONS)
                .mapToObj(n -> condition(random, fields, n % 3))
                .toList();
        String sql = union("always", "", conditions);
        assertThat(tables.explainSql(sql)).containsPattern("filter=\\[[^\\]]");
        assertThat(ids(tables, sql)).isEqualTo(ids(tables, union("never", "", conditions)));
    }
}
