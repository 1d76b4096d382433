package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Tables on a MiniCluster against a local Cosmos, over the real library. */
@Timeout(180)
class CosmosDBTableITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);

    private static final String COLUMNS =
            """
            `id` STRING NOT NULL, `customerId` STRING NOT NULL, `amount` DECIMAL(20, 2), `at` TIMESTAMP_LTZ(3),
            `address` ROW<`city` STRING, `zip` INT>, `tags` ARRAY<STRING>,
            PRIMARY KEY (`id`, `customerId`) NOT ENFORCED""";

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;
    private StreamExecutionEnvironment environment;
    private StreamTableEnvironment tables;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("--all-versions", "events:/customerId:2", "replica:/customerId:2");
        tables = tables(RuntimeExecutionMode.STREAMING);
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    private StreamTableEnvironment tables(RuntimeExecutionMode mode) {
        // A job that fails is over.
        environment = StreamExecutionEnvironment.getExecutionEnvironment(
                new Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none"));
        environment.setParallelism(2);
        environment.setRuntimeMode(mode);
        environment.enableCheckpointing(100);
        StreamTableEnvironment created = StreamTableEnvironment.create(environment);
        // Since 2.3; without it INSERT .. VALUES needs a clause that older versions do not know.
        created.getConfig().set("table.exec.sink.require-on-conflict", "false");
        return created;
    }

    private void create(String container, String columns, Map<String, String> options) {
        create(container, container, columns, options);
    }

    private void create(String table, String container, String columns, Map<String, String> options) {
        StringBuilder with = new StringBuilder();
        options.forEach((name, value) -> with.append(", '")
                .append(name)
                .append("' = '")
                .append(value.replace("'", "''"))
                .append("'"));
        tables.executeSql(
                """
                CREATE TABLE `%s` (%s) WITH ('connector' = 'cosmosdb', 'endpoint' = '%s', 'database' = '%s',
                'container' = '%s', 'auth.key-file' = '%s', 'scan.poll-interval' = '100 ms'%s)"""
                        .formatted(
                                table,
                                columns,
                                cosmos.endpoint(),
                                LocalCosmos.DATABASE,
                                container,
                                cosmos.keyFile(),
                                with));
    }

    private static Operation order(int number, String more) {
        String json = "{\"id\":\"o" + number + "\",\"customerId\":\"c" + number % 7 + "\"" + more + "}";
        return Operation.upsert("o" + number, key(number), json.getBytes(StandardCharsets.UTF_8));
    }

    private static String key(int number) {
        return "[\"c" + number % 7 + "\"]";
    }

    /** A document without what the service writes itself. */
    private JsonNode document(String container, int number) throws IOException {
        JsonNode document = cosmos.read(container).get(key(number) + "o" + number);
        if (document == null) {
            return null;
        }
        return ((ObjectNode) document).remove(List.of("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"));
    }

    private static JsonNode json(String text) throws IOException {
        return new ObjectMapper().readTree(text);
    }

    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    private static List<Row> rows(TableResult result) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (CloseableIterator<Row> all = result.collect()) {
            all.forEachRemaining(rows::add);
        }
        return rows;
    }

    // What is written.

    @Test
    void whatIsInsertedIsADocument() throws Exception {
        create("events", COLUMNS, Map.of());
        tables.executeSql(
                        """
                        INSERT INTO events VALUES
                        ('o1', 'c1', 1234.50, TO_TIMESTAMP_LTZ(1767225600123, 3), ROW('Kiel', 24103), ARRAY['a', 'b"c']),
                        ('o2', 'c2', CAST(NULL AS DECIMAL(20, 2)), CAST(NULL AS TIMESTAMP_LTZ(3)), CAST(NULL AS ROW<`city` STRING, `zip` INT>), CAST(NULL AS ARRAY<STRING>))""")
                .await();
        assertThat(document("events", 1))
                .isEqualTo(json(
                        "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":1234.5,\"at\":\"2026-01-01T00:00:00.123Z\","
                                + "\"address\":{\"city\":\"Kiel\",\"zip\":24103},\"tags\":[\"a\",\"b\\\"c\"]}"));
        assertThat(document("events", 2))
                .isEqualTo(
                        json(
                                "{\"id\":\"o2\",\"customerId\":\"c2\",\"amount\":null,\"at\":null,\"address\":null,\"tags\":null}"));
    }

    @Test
    void aChangelogIsWrittenWithItsDeletes() throws Exception {
        create(
                "events",
                "id STRING NOT NULL, customerId STRING NOT NULL, n INT, PRIMARY KEY (id, customerId) NOT ENFORCED",
                Map.of());
        writeChanges("events");
        assertThat(document("events", 1)).isEqualTo(json("{\"id\":\"o1\",\"customerId\":\"c1\",\"n\":2}"));
        assertThat(document("events", 2)).isNull();
        assertThat(document("events", 3)).isEqualTo(json("{\"id\":\"o3\",\"customerId\":\"c3\",\"n\":3}"));
    }

    @Test
    void deletesMayBeSoftOrIgnored() throws Exception {
        String columns =
                "id STRING NOT NULL, customerId STRING NOT NULL, n INT, PRIMARY KEY (id, customerId) NOT ENFORCED";
        create("soft", "events", columns, Map.of("sink.delete-mode", "soft"));
        writeChanges("soft");
        assertThat(document("events", 2))
                .isEqualTo(json("{\"id\":\"o2\",\"customerId\":\"c2\",\"n\":1,\"deleted\":true}"));
        create("ignoring", "replica", columns, Map.of("sink.delete-mode", "ignore"));
        writeChanges("ignoring");
        assertThat(document("replica", 2)).isEqualTo(json("{\"id\":\"o2\",\"customerId\":\"c2\",\"n\":1}"));
        assertThat(document("replica", 1)).isEqualTo(json("{\"id\":\"o1\",\"customerId\":\"c1\",\"n\":2}"));
    }

    /** Three orders, of which the first is updated and the second deleted. */
    private void writeChanges(String table) throws Exception {
        var changes = environment.fromData(
                Row.ofKind(RowKind.INSERT, "o1", "c1", 1),
                Row.ofKind(RowKind.INSERT, "o2", "c2", 1),
                Row.ofKind(RowKind.UPDATE_AFTER, "o1", "c1", 2),
                Row.ofKind(RowKind.INSERT, "o3", "c3", 3),
                Row.ofKind(RowKind.DELETE, "o2", "c2", 1));
        Schema schema = Schema.newBuilder()
                .column("f0", DataTypes.STRING().notNull())
                .column("f1", DataTypes.STRING().notNull())
                .column("f2", DataTypes.INT())
                .primaryKey("f0", "f1")
                .build();
        tables.fromChangelogStream(changes, schema, ChangelogMode.upsert())
                .executeInsert(table)
                .await();
    }

    @Test
    void namedColumnsAreMerged() throws Exception {
        cosmos.write("events", List.of(order(1, ",\"amount\":5,\"note\":\"kept\"")));
        create("events", COLUMNS, Map.of("sink.write-strategy", "bulk-update"));
        tables.executeSql("INSERT INTO events (id, customerId, tags) VALUES ('o1', 'c1', ARRAY['new'])")
                .await();
        assertThat(document("events", 1))
                .isEqualTo(json(
                        "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":5,\"note\":\"kept\",\"tags\":[\"new\"]}"));
    }

    @Test
    void anEtagThatIsOldChangesNothing() throws Exception {
        cosmos.write("events", List.of(order(1, ",\"n\":1")));
        create(
                "events",
                """
                id STRING NOT NULL, customerId STRING NOT NULL, n INT, expected STRING METADATA FROM 'etag',
                lives INT METADATA FROM 'ttl', PRIMARY KEY (id, customerId) NOT ENFORCED""",
                Map.of("sink.write-strategy", "overwrite-if-not-modified"));
        tables.executeSql(
                        "INSERT INTO events VALUES ('o1', 'c1', 2, '\"old\"', 60), ('o2', 'c2', 2, CAST(NULL AS STRING), 60)")
                .await();
        assertThat(document("events", 1)).isEqualTo(json("{\"id\":\"o1\",\"customerId\":\"c1\",\"n\":1}"));
        assertThat(document("events", 2)).isEqualTo(json("{\"id\":\"o2\",\"customerId\":\"c2\",\"n\":2,\"ttl\":60}"));
    }

    @Test
    void whatTheCoreRefusesIsNamedAsInTheTable() {
        create("events", COLUMNS, Map.of("sink.buffer-flush.max-rows", "0"));
        assertThatThrownBy(() -> tables.executeSql("INSERT INTO events SELECT * FROM events"))
                .hasStackTraceContaining(ValidationException.class.getName())
                .hasStackTraceContaining("sink.buffer-flush.max-rows");
    }

    @Test
    void aPrimaryKeyWithoutThePartitionKeyIsRefusedBeforeAnythingIsWritten() throws Exception {
        String columns = "id STRING NOT NULL, customerId STRING, PRIMARY KEY (id) NOT ENFORCED";
        create("events", columns, Map.of());
        assertThatThrownBy(() -> tables.executeSql("INSERT INTO events VALUES ('o1', 'c1')")
                        .await())
                .hasStackTraceContaining("lacks '/customerId'");
        assertThat(cosmos.count("events")).isZero();
        create("inserted", "events", columns, Map.of("sink.delete-mode", "ignore"));
        tables.executeSql("INSERT INTO inserted VALUES ('o1', 'c1')").await();
        assertThat(document("events", 1)).isEqualTo(json("{\"id\":\"o1\",\"customerId\":\"c1\"}"));
    }

    @Test
    void aRowThatNoDocumentIsMadeOfIsLeftOutAlone() throws Exception {
        create("events", "id STRING, customerId STRING, n DOUBLE", Map.of("sink.failure-mode", "skip"));
        var rows = environment.fromData(
                Row.of("o1", "c1", 1.5), Row.of("o2", "c2", Double.NaN), Row.of("o3", "c3", 1e300));
        tables.fromDataStream(rows).executeInsert("events").await();
        assertThat(document("events", 1)).isEqualTo(json("{\"id\":\"o1\",\"customerId\":\"c1\",\"n\":1.5}"));
        assertThat(document("events", 2)).isNull();
        assertThat(document("events", 3)).isEqualTo(json("{\"id\":\"o3\",\"customerId\":\"c3\",\"n\":1e300}"));
        create("failing", "events", "id STRING, customerId STRING, n DOUBLE", Map.of());
        // By a source without a coordinator, whose event to a failed task would be the cause that Flink names.
        assertThatThrownBy(() -> tables.executeSql("INSERT INTO failing VALUES ('o4', 'c4', CAST('NaN' AS DOUBLE))")
                        .await())
                .hasStackTraceContaining("id 'o4' and partition key [\"c4\"]")
                .hasStackTraceContaining("column 'n' is NaN")
                .hasStackTraceContaining("sink.failure-mode");
    }

    /** Neither the id nor the key is called so, and another column stands before them. */
    @Test
    void columnsMayHaveOtherNamesThanTheirFields() throws Exception {
        String columns =
                """
                note STRING METADATA FROM 'rid' VIRTUAL, n INT, customer STRING NOT NULL, number STRING NOT NULL,
                PRIMARY KEY (number, customer) NOT ENFORCED""";
        Map<String, String> paths = Map.of("fields.number.path", "/id", "fields.customer.path", "/customerId");
        Map<String, String> deletes = new TreeMap<>(paths);
        deletes.put("scan.change-feed.mode", "all-versions-and-deletes");
        deletes.put("scan.startup.mode", "initial");
        create("events", columns, deletes);
        create("replica", columns, paths);
        cosmos.write("events", List.of(order(1, ",\"n\":1"), order(2, ",\"n\":2")));
        var job = tables.executeSql("INSERT INTO replica SELECT n, customer, number FROM events")
                .getJobClient()
                .orElseThrow();
        try {
            LocalCosmos.await("both", LIMIT, () -> cosmos.count("replica") == 2);
            assertThat(document("replica", 2)).isEqualTo(json("{\"n\":2,\"customerId\":\"c2\",\"id\":\"o2\"}"));
            cosmos.write("events", List.of(Operation.delete("o1", key(1))));
            LocalCosmos.await("the delete", LIMIT, () -> cosmos.count("replica") == 1);
            assertThat(document("replica", 1)).isNull();
        } finally {
            job.cancel().get();
        }
    }

    @Test
    void rowsThatAreToldApartByLessThanTheKeyAreNotRead() {
        create("events", "id STRING NOT NULL, customerId STRING, PRIMARY KEY (id) NOT ENFORCED", Map.of());
        assertThatThrownBy(() -> rows(tables.executeSql("SELECT id FROM events")))
                .hasStackTraceContaining("lacks '/customerId'")
                .hasStackTraceContaining("scan.changelog-mode");
    }

    @Test
    void aPrimaryKeyWithoutAPartOfTheIdIsRefusedByThePlanner() {
        create(
                "events",
                "orderId STRING, customerId STRING NOT NULL, PRIMARY KEY (customerId) NOT ENFORCED",
                Map.of("sink.id", "{customerId}-{orderId}"));
        assertThatThrownBy(() -> tables.explainSql("INSERT INTO events VALUES ('o1', 'c1')"))
                .hasStackTraceContaining(ValidationException.class.getName())
                .hasStackTraceContaining("the primary key lacks '/orderId', of which sink.id makes the id");
    }

    // What is read.

    @Test
    void aReplicaWithItsDeletesIsTheContainer() throws Exception {
        int orders = 500;
        cosmos.write(
                "events",
                IntStream.range(0, orders)
                        .mapToObj(n -> order(n, ",\"amount\":1"))
                        .toList());
        create(
                "events",
                COLUMNS,
                Map.of("scan.change-feed.mode", "all-versions-and-deletes", "scan.startup.mode", "initial"));
        create("replica", COLUMNS, Map.of("sink.null-policy", "drop"));
        var job = tables.executeSql("INSERT INTO replica SELECT * FROM events")
                .getJobClient()
                .orElseThrow();
        try {
            LocalCosmos.await("the container as it is", LIMIT, () -> cosmos.count("replica") == orders);
            List<Operation> changes = new ArrayList<>();
            for (int n = 0; n < orders; n += 5) {
                changes.add(Operation.delete("o" + n, key(n)));
            }
            changes.add(order(1, ",\"amount\":2,\"address\":{\"city\":\"Kiel\"}"));
            cosmos.write("events", changes);
            LocalCosmos.await("the deletes", LIMIT, () -> cosmos.count("replica") == orders - orders / 5);
            LocalCosmos.await("the update", LIMIT, () -> text("replica", 1).contains("Kiel"));
            assertThat(document("replica", 1))
                    .isEqualTo(
                            json("{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":2,\"address\":{\"city\":\"Kiel\"}}"));
            assertThat(cosmos.read("replica").keySet())
                    .isEqualTo(cosmos.read("events").keySet());
        } finally {
            job.cancel().get();
        }
    }

    private String text(String container, int number) {
        try {
            return String.valueOf(document(container, number));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void documentsHaveTheirMetadata() throws Exception {
        cosmos.write("events", List.of(order(1, ",\"address\":{\"city\":\"Kiel\",\"zip\":24103},\"ttl\":-1")));
        create(
                "events",
                """
                id STRING, address ROW<city STRING, zip INT>, `timestamp` TIMESTAMP_LTZ(3) METADATA, etag STRING METADATA,
                ttl INT METADATA, document STRING METADATA, pk STRING METADATA FROM 'partition-key', operation STRING METADATA,
                container STRING METADATA, lsn BIGINT METADATA, ended BOOLEAN METADATA FROM 'ttl-expired',
                arrived TIMESTAMP_LTZ(3) METADATA FROM 'arrival-time'""",
                Map.of("scan.bounded.mode", "latest"));
        List<Row> rows = rows(
                tables.executeSql(
                        "SELECT address.city, id, `timestamp`, etag, ttl, document, pk, operation, container, lsn, ended, arrived FROM events"));
        assertThat(rows).hasSize(1);
        Row row = rows.get(0);
        assertThat(row.getField(0)).isEqualTo("Kiel");
        assertThat(row.getField(1)).isEqualTo("o1");
        assertThat((Instant) row.getField(2)).isBetween(Instant.now().minusSeconds(120), Instant.now());
        JsonNode stored = cosmos.read("events").get(key(1) + "o1");
        assertThat(row.getField(3)).isEqualTo(stored.get("_etag").asText());
        assertThat(row.getField(4)).isEqualTo(-1);
        assertThat((String) row.getField(5)).contains("\"zip\":24103").contains("_etag");
        assertThat(row.getField(6)).isEqualTo(key(1));
        assertThat(row.getField(7)).isEqualTo("upsert");
        assertThat(row.getField(8)).isEqualTo("events");
        assertThat((Long) row.getField(9)).isPositive();
        assertThat(row.getField(10)).isEqualTo(false);
        assertThat((Instant) row.getField(11)).isBetween(Instant.now().minusSeconds(120), Instant.now());
    }

    @Test
    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    void aWindowEndsByTheSourcesOwnWatermark() throws Exception {
        cosmos.write(
                "events", IntStream.range(0, 20).mapToObj(n -> order(n, "")).toList());
        create(
                "events",
                "id STRING, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR written AS SOURCE_WATERMARK()",
                Map.of("scan.watermark.idle-timeout", "1 s"));
        TableResult windows = tables.executeSql(
                """
                SELECT window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(written), INTERVAL '1' SECOND))
                GROUP BY window_start, window_end""");
        try (CloseableIterator<Row> ended = windows.collect()) {
            // Newer ones in all partitions, until the first windows are past.
            AtomicBoolean enough = new AtomicBoolean();
            Thread writer = new Thread(() -> {
                for (int n = 100; !enough.get(); n++) {
                    cosmos.write("events", List.of(order(n, "")));
                }
            });
            writer.start();
            try {
                long counted = 0;
                while (counted < 20) {
                    counted += (Long) ended.next().getField(1);
                }
                assertThat(counted).isGreaterThanOrEqualTo(20);
            } finally {
                enough.set(true);
                writer.join();
            }
        }
    }

    @Test
    void aBatchJobReadsTheDocumentsAsTheyAre() throws Exception {
        cosmos.write(
                "events",
                IntStream.range(0, 300)
                        .mapToObj(n -> order(n, ",\"amount\":" + n))
                        .toList());
        tables = tables(RuntimeExecutionMode.BATCH);
        create("events", COLUMNS, Map.of());
        assertThat(rows(tables.executeSql("SELECT COUNT(*) FROM events"))).containsExactly(Row.of(300L));
        assertThat(rows(tables.executeSql("SELECT SUM(amount) FROM events WHERE customerId = 'c1'")))
                .containsExactly(Row.of(new BigDecimal(
                                IntStream.range(0, 300).filter(n -> n % 7 == 1).sum())
                        .setScale(2)));
        assertThat(rows(tables.executeSql("SELECT id FROM events LIMIT 3"))).hasSize(3);
    }

    @Test
    void whatDoesNotFitCanBeKeptAside() throws Exception {
        cosmos.write(
                "events",
                List.of(
                        order(1, ",\"amount\":\"much\""),
                        order(2, ",\"amount\":2"),
                        order(3, ""),
                        order(4, ",\"amount\":null"),
                        order(5, ",\"amount\":{\"euros\":2}")));
        create(
                "events",
                "id STRING, amount DECIMAL(20, 2), document STRING METADATA",
                Map.of("scan.bounded.mode", "latest", "json.on-error", "null-field"));
        List<Row> letters = rows(
                tables.executeSql(
                        """
                        SELECT id, JSON_VALUE(document, '$.amount'), JSON_QUERY(document, '$.amount') FROM events WHERE amount IS NULL
                        AND (JSON_VALUE(document, '$.amount') IS NOT NULL OR JSON_QUERY(document, '$.amount') IS NOT NULL)"""));
        assertThat(letters).containsExactlyInAnyOrder(Row.of("o1", "much", null), Row.of("o5", null, "{\"euros\":2}"));
    }

    @Test
    void aValueThatDoesNotFitTakesTheWayOfItsOption() throws Exception {
        cosmos.write("events", List.of(order(1, ",\"amount\":\"much\""), order(2, ",\"amount\":2")));
        create("failing", "events", COLUMNS, Map.of("scan.bounded.mode", "latest"));
        assertThatThrownBy(() -> rows(tables.executeSql("SELECT id, amount FROM failing")))
                .hasStackTraceContaining("/amount")
                .hasStackTraceContaining("o1")
                .hasStackTraceContaining("much");
        Map<String, Integer> left = Map.of("null-field", 2, "skip-row", 1);
        left.forEach((policy, count) -> {
            create(policy, "events", COLUMNS, Map.of("scan.bounded.mode", "latest", "json.on-error", policy));
            try {
                assertThat(rows(tables.executeSql("SELECT id, amount FROM `" + policy + "`")))
                        .as(policy)
                        .hasSize(count);
            } catch (Exception e) {
                throw new AssertionError(policy, e);
            }
        });
    }
}
