package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateRecoveryOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.CompiledPlan;
import org.apache.flink.table.api.PlanReference;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Statements that were compiled, carried out by an environment that knows the plan alone, and from a savepoint. */
@Timeout(180)
class CompiledPlansITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final int CUSTOMERS = 5;

    private static final String KEY = "id STRING NOT NULL, customerId STRING NOT NULL";
    private static final String KEYED = "PRIMARY KEY (id, customerId) NOT ENFORCED";

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;

    @TempDir
    private Path folder;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("--all-versions", "events:/customerId:2", "replica:/customerId:2");
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    /** An environment without tables. */
    private static StreamTableEnvironment environment(String savepoint) {
        Configuration settings = new Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        if (savepoint != null) {
            settings.set(StateRecoveryOptions.SAVEPOINT_PATH, savepoint);
        }
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        environment.setParallelism(2);
        environment.enableCheckpointing(100);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.getConfig().set("table.exec.sink.require-on-conflict", "false");
        return tables;
    }

    private void create(TableEnvironment tables, String name, String columns, Path keyFile, String options) {
        tables.executeSql(
                """
                CREATE TABLE %s (%s) WITH ('connector' = 'cosmosdb', 'endpoint' = '%s', 'database' = '%s', 'container' = '%s',
                'auth.key-file' = '%s', 'scan.poll-interval' = '100 ms'%s)"""
                        .formatted(name, columns, cosmos.endpoint(), LocalCosmos.DATABASE, name, keyFile, options));
    }

    private static Operation order(int number, int amount) {
        String json = "{\"id\":\"o" + number + "\",\"customerId\":\"" + customer(number) + "\",\"amount\":" + amount
                + ",\"address\":{\"city\":\"Kiel\",\"zip\":" + number + "}}";
        return Operation.upsert("o" + number, key(number), json.getBytes(StandardCharsets.UTF_8));
    }

    private static String customer(int number) {
        return "c" + number % CUSTOMERS;
    }

    private static String key(int number) {
        return "[\"" + customer(number) + "\"]";
    }

    private Map<String, JsonNode> replica() {
        try {
            return cosmos.read("replica");
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** As it is in a file, which another process reads. */
    private static CompiledPlan loaded(TableEnvironment tables, CompiledPlan compiled) {
        String json = compiled.asJsonString();
        CompiledPlan loaded = tables.loadPlan(PlanReference.fromJsonString(json));
        assertThat(loaded.explain()).isEqualTo(compiled.explain());
        return loaded;
    }

    @Test
    void whatIsPushedIntoAScanSurvivesItsPlan() throws Exception {
        cosmos.write(
                "events",
                IntStream.range(0, 20).mapToObj(number -> order(number, number)).toList());
        StreamTableEnvironment tables = environment(null);
        create(
                tables,
                "events",
                KEY
                        + """
                        , amount INT, address ROW<city STRING, zip INT>, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
                        kind STRING METADATA FROM 'operation' VIRTUAL, WATERMARK FOR written AS SOURCE_WATERMARK()""",
                cosmos.keyFile(),
                ", 'scan.bounded.mode' = 'latest', 'scan.changelog-mode' = 'append', 'fields.amount.path' = '/amount'");
        create(
                tables,
                "replica",
                KEY + ", zip INT, kind STRING, written TIMESTAMP_LTZ(3), " + KEYED,
                cosmos.keyFile(),
                "");
        CompiledPlan compiled = tables.compilePlanSql(
                "INSERT INTO replica SELECT id, customerId, address.zip, kind, written FROM events");
        assertThat(compiled.asJsonString())
                .contains("\"ProjectPushDown\"", "\"ReadingMetadata\"", "\"SourceWatermark\"")
                .doesNotContain("\"ChangelogNormalize");
        loaded(environment(null), compiled).execute().await(60, TimeUnit.SECONDS);
        Map<String, JsonNode> found = replica();
        assertThat(found).hasSize(20);
        found.forEach((key, document) -> {
            assertThat("o" + document.get("zip").asInt())
                    .isEqualTo(document.get("id").asText());
            assertThat(document.get("kind").asText()).isEqualTo("upsert");
            assertThat(document.get("written").asText()).startsWith("20");
        });
    }

    @Test
    void aWatermarkOfAColumnSurvivesItsPlan() throws Exception {
        List<Operation> orders = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            String json = "{\"id\":\"o%d\",\"customerId\":\"%s\",\"at\":\"2026-01-01T00:00:%02dZ\"}"
                    .formatted(number, customer(number), number);
            orders.add(Operation.upsert("o" + number, key(number), json.getBytes(StandardCharsets.UTF_8)));
        }
        cosmos.write("events", orders);
        StreamTableEnvironment tables = environment(null);
        create(
                tables,
                "events",
                KEY + ", `at` TIMESTAMP_LTZ(3), WATERMARK FOR `at` AS `at` - INTERVAL '1' SECOND",
                cosmos.keyFile(),
                ", 'scan.bounded.mode' = 'latest'");
        create(tables, "replica", KEY + ", orders BIGINT, " + KEYED, cosmos.keyFile(), "");
        CompiledPlan compiled = tables.compilePlanSql(
                """
                INSERT INTO replica SELECT CAST(window_end AS STRING), customerId, COUNT(*)
                FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(`at`), INTERVAL '10' SECOND))
                GROUP BY customerId, window_start, window_end""");
        assertThat(compiled.asJsonString()).contains("\"WatermarkPushDown\"");
        loaded(environment(null), compiled).execute().await(60, TimeUnit.SECONDS);
        assertThat(replica().values())
                .hasSize(2 * CUSTOMERS)
                .allSatisfy(window -> assertThat(window.get("orders").asInt()).isEqualTo(2));
    }

    @Test
    void aLimitSurvivesItsPlan() throws Exception {
        cosmos.write(
                "events",
                IntStream.range(0, 20).mapToObj(number -> order(number, number)).toList());
        StreamTableEnvironment tables = environment(null);
        create(tables, "events", KEY + ", amount INT", cosmos.keyFile(), ", 'scan.mode' = 'query'");
        create(tables, "replica", KEY + ", amount INT, " + KEYED, cosmos.keyFile(), "");
        CompiledPlan compiled = tables.compilePlanSql("INSERT INTO replica SELECT * FROM events LIMIT 3");
        assertThat(compiled.asJsonString()).contains("\"LimitPushDown\"");
        CompiledPlan loaded = loaded(environment(null), compiled);
        assertThat(loaded.explain()).contains("limit=[3]");
        loaded.execute().await(60, TimeUnit.SECONDS);
        assertThat(cosmos.count("replica")).isEqualTo(3);
    }

    /** Orders and their sum, by customer. */
    private static Map<String, List<Integer>> sums(Map<Integer, Integer> orders) {
        Map<String, List<Integer>> sums = new TreeMap<>();
        orders.forEach((number, amount) -> sums.merge(
                customer(number), List.of(1, amount), (a, b) -> List.of(a.get(0) + b.get(0), a.get(1) + b.get(1))));
        return sums;
    }

    private void written(Map<Integer, Integer> orders) throws InterruptedException {
        Map<String, List<Integer>> expected = sums(orders);
        Map<String, List<Integer>> found = new TreeMap<>();
        try {
            LocalCosmos.await("the sums", LIMIT, () -> {
                found.clear();
                replica()
                        .values()
                        .forEach(sum -> found.put(
                                sum.get("id").asText(),
                                List.of(
                                        sum.get("orders").asInt(),
                                        sum.get("amount").asInt())));
                return found.equals(expected);
            });
        } catch (AssertionError late) {
            assertThat(found).as(late.getMessage()).isEqualTo(expected);
            throw late;
        }
    }

    /** The state is that of a normalisation and of an aggregate: what came twice or not at all would be in a sum for ever. */
    @Test
    void aJobGoesOnFromASavepointByItsPlan() throws Exception {
        Path first = Files.copy(cosmos.keyFile(), folder.resolve("first-key"));
        Path second = Files.copy(cosmos.keyFile(), folder.resolve("second-key"));
        String columns = KEY + ", amount INT, " + KEYED;
        String deletes = ", 'scan.change-feed.mode' = 'all-versions-and-deletes', 'scan.startup.mode' = 'initial'";
        String totals = KEY + ", orders BIGINT, amount INT, " + KEYED;
        Map<Integer, Integer> orders = new TreeMap<>();
        change(orders, 0, 200, 1);

        StreamTableEnvironment tables = environment(null);
        create(tables, "events", columns, first, deletes);
        create(tables, "replica", totals, first, "");
        CompiledPlan compiled = tables.compilePlanSql(
                "INSERT INTO replica SELECT customerId, customerId, COUNT(*), SUM(amount) FROM events GROUP BY customerId");
        assertThat(compiled.explain()).contains("ChangelogNormalize", "GroupAggregate");
        JobClient job = compiled.execute().getJobClient().orElseThrow();
        written(orders);
        change(orders, 100, 250, 2);
        written(orders);
        String savepoint = job.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        job.getJobExecutionResult().get(60, TimeUnit.SECONDS);

        change(orders, 200, 300, 3);
        delete(orders, 0, 40);
        // The plan names a key that is gone, and the tables are there with another one, and read in other portions.
        Files.delete(first);
        StreamTableEnvironment later = environment(savepoint);
        create(later, "events", columns, second, deletes + ", 'scan.page-size' = '7', 'scan.parallelism' = '1'");
        create(later, "replica", totals, second, ", 'sink.buffer-flush.max-rows' = '3'");
        JobClient restored = loaded(later, compiled).execute().getJobClient().orElseThrow();
        try {
            written(orders);
            delete(orders, 240, 260);
            change(orders, 90, 110, 4);
            written(orders);
        } finally {
            restored.cancel().get(60, TimeUnit.SECONDS);
        }
    }

    private void change(Map<Integer, Integer> orders, int from, int to, int amount) {
        List<Operation> changes = new ArrayList<>();
        for (int number = from; number < to; number++) {
            orders.put(number, amount);
            changes.add(order(number, amount));
        }
        cosmos.write("events", changes);
    }

    private void delete(Map<Integer, Integer> orders, int from, int to) {
        List<Operation> changes = new ArrayList<>();
        for (int number = from; number < to; number++) {
            orders.remove(number);
            changes.add(Operation.delete("o" + number, key(number)));
        }
        cosmos.write("events", changes);
    }
}
