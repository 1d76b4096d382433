package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.PlanReference;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.catalog.Catalog;
import org.apache.flink.table.catalog.CatalogBaseTable;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.catalog.exceptions.TableNotPartitionedException;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** The catalog on a MiniCluster against a local Cosmos, over the real library. */
@Timeout(180)
class CosmosDBCatalogITCase {
    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;
    private String secret;
    private TableEnvironment tables;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("--all-versions", "events:/customer/id:2", "bare:/customerId:1");
        secret = Files.readString(cosmos.keyFile()).trim();
        tables = tables("");
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    /** A session in which the catalog is in use. */
    private TableEnvironment tables(String options) {
        TableEnvironment created = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        created.getConfig().set("parallelism.default", "2");
        created.getConfig().set("table.exec.sink.require-on-conflict", "false");
        created.executeSql(
                "CREATE CATALOG shop WITH ('type' = 'cosmosdb', 'endpoint' = '%s', 'default-database' = '%s', 'auth.key-file' = '%s'%s)"
                        .formatted(cosmos.endpoint(), LocalCosmos.DATABASE, cosmos.keyFile(), options));
        created.useCatalog("shop");
        return created;
    }

    private static Operation document(String id, String customer, String more) {
        String json = "{\"id\":\"" + id + "\",\"customer\":{\"id\":\"" + customer + "\",\"name\":\"Ada\"}" + more + "}";
        return Operation.upsert(id, "[\"" + customer + "\"]", json.getBytes(StandardCharsets.UTF_8));
    }

    private void write() {
        cosmos.write(
                "events",
                List.of(
                        document(
                                "o1",
                                "c1",
                                ",\"amount\":12.5,\"n\":1,\"odd\":1,\"Odd name\":true,\"lines\":[{\"sku\":\"a\",\"n\":2}],\"none\":null"),
                        document("o2", "c2", ",\"amount\":3,\"n\":2,\"odd\":\"x\",\"at\":\"2026-01-01T00:00:00Z\"")));
    }

    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    private static List<Row> rows(TableResult result) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (CloseableIterator<Row> all = result.collect()) {
            all.forEachRemaining(rows::add);
        }
        return rows;
    }

    private List<String> names(String statement) throws Exception {
        return rows(tables.executeSql(statement)).stream()
                .map(row -> String.valueOf(row.getField(0)))
                .toList();
    }

    private Map<String, JsonNode> documents(String container) throws IOException {
        Map<String, JsonNode> documents = cosmos.read(container);
        documents.replaceAll((key, document) ->
                ((ObjectNode) document).remove(List.of("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn")));
        return documents;
    }

    /** Of all that a failure says. */
    private static String said(Throwable failure) {
        StringBuilder all = new StringBuilder();
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            all.append(cause).append('\n');
        }
        return all.toString();
    }

    private static String conflict() {
        return SinceFlink.VARIANTS.isHere() ? "VARIANT" : "STRING";
    }

    @Test
    void containersAreTables() throws Exception {
        write();
        assertThat(names("SHOW DATABASES")).containsExactly(LocalCosmos.DATABASE);
        assertThat(names("SHOW TABLES")).containsExactly("bare", "events");
        List<Row> columns = rows(tables.executeSql("DESCRIBE events"));
        assertThat(columns.stream().map(row -> row.getField(0) + " " + row.getField(1) + " " + row.getField(2)))
                .containsExactly(
                        "id STRING false",
                        "customer_id STRING false",
                        "Odd name BOOLEAN true",
                        "amount DOUBLE true",
                        "at STRING true",
                        "customer_name STRING true",
                        "lines ARRAY<ROW<`n` BIGINT, `sku` STRING>> true",
                        "n BIGINT true",
                        "none " + conflict() + " true",
                        "odd " + conflict() + " true",
                        "_ts BIGINT true");
        assertThat(columns.get(1).getField(3)).isEqualTo("PRI(id, customer_id)");
        List<Row> found = rows(tables.executeSql(
                "SELECT id, customer_id, customer_name, amount, lines[1].sku, `Odd name` FROM events ORDER BY id"));
        assertThat(found)
                .containsExactly(
                        Row.of("o1", "c1", "Ada", 12.5, "a", true), Row.of("o2", "c2", "Ada", 3.0, null, null));
        List<String> odd = rows(tables.executeSql("SELECT odd FROM events ORDER BY id")).stream()
                .map(row -> SinceFlink.VARIANTS.isHere() ? VariantJson.json(row.getField(0)) : (String) row.getField(0))
                .toList();
        assertThat(odd).containsExactly("1", SinceFlink.VARIANTS.isHere() ? "\"x\"" : "x");
        // An empty one has its key.
        assertThat(names("DESCRIBE bare")).containsExactly("id", "customerId", "_ts");
        assertThat(rows(tables.executeSql("SELECT * FROM bare"))).isEmpty();
    }

    @Test
    void rulesDecideTheTypes() throws Exception {
        write();
        tables = tables(", 'infer.numbers' = 'decimal', 'infer.conflict' = 'string', 'infer.timestamps' = 'true'");
        List<String> columns = rows(tables.executeSql("DESCRIBE events")).stream()
                .map(row -> row.getField(0) + " " + row.getField(1))
                .toList();
        assertThat(columns)
                .contains("amount DECIMAL(38, 1)", "at TIMESTAMP_LTZ(3)", "odd STRING", "none STRING", "n BIGINT");
    }

    @Test
    void whatIsInsertedIsADocument() throws Exception {
        write();
        // Flink 2.3 cannot leave out a column that is a VARIANT.
        tables = tables(", 'infer.conflict' = 'string'");
        tables.executeSql(
                        "INSERT INTO events (id, customer_id, customer_name, amount, n) VALUES ('o3', 'c3', 'Grace', 1.5, 7)")
                .await();
        JsonNode inserted = documents("events").get("[\"c3\"]o3");
        assertThat(inserted)
                .isEqualTo(new ObjectMapper()
                        .readTree(
                                "{\"id\":\"o3\",\"customer\":{\"id\":\"c3\",\"name\":\"Grace\"},\"Odd name\":null,\"amount\":1.5,"
                                        + "\"at\":null,\"lines\":null,\"n\":7,\"none\":null,\"odd\":null}"));
        // What was read is written as it was.
        tables = tables("");
        tables.executeSql("CREATE TABLE copy LIKE events").await();
        tables.executeSql("INSERT INTO copy SELECT * FROM events WHERE id = 'o1'")
                .await();
        JsonNode copied = documents("copy").get("[\"c1\"]o1");
        assertThat(copied.at("/customer/id").asText()).isEqualTo("c1");
        assertThat(copied.at("/lines/0/sku").asText()).isEqualTo("a");
        assertThat(copied.get("odd"))
                .isEqualTo(new ObjectMapper().readTree(SinceFlink.VARIANTS.isHere() ? "1" : "\"1\""));
    }

    @Test
    void tablesAreCreatedAndDropped() throws Exception {
        tables.executeSql(
                """
                CREATE TABLE made (id STRING NOT NULL, tenant STRING NOT NULL, amount DECIMAL(20, 2), `at` TIMESTAMP_LTZ(3),
                PRIMARY KEY (tenant, id) NOT ENFORCED) WITH ('default-ttl' = '1 h')""");
        assertThat(names("SHOW TABLES")).containsExactly("bare", "events", "made");
        tables.executeSql("INSERT INTO made VALUES ('a', 't', 1.25, TIMESTAMP '2026-01-01 00:00:00')")
                .await();
        // In this session it has the columns that were declared, in another one those of its documents.
        assertThat(rows(tables.executeSql("SELECT amount FROM made")).get(0).getField(0))
                .hasToString("1.25");
        TableEnvironment another = tables("");
        List<String> columns = rows(another.executeSql("DESCRIBE made")).stream()
                .map(row -> row.getField(0) + " " + row.getField(1))
                .toList();
        assertThat(columns).containsExactly("id STRING", "tenant STRING", "amount DOUBLE", "at STRING", "_ts BIGINT");
        tables.executeSql("CREATE TABLE IF NOT EXISTS made (id STRING NOT NULL, PRIMARY KEY (id) NOT ENFORCED)");
        assertThatThrownBy(() ->
                        tables.executeSql("CREATE TABLE made (id STRING NOT NULL, PRIMARY KEY (id) NOT ENFORCED)"))
                .satisfies(
                        e -> assertThat(said(e)).contains("made already exists").doesNotContain(secret));
        tables.executeSql("DROP TABLE made");
        assertThat(names("SHOW TABLES")).containsExactly("bare", "events");
        tables.executeSql("DROP TABLE IF EXISTS made");
        tables.executeSql("CREATE DATABASE other WITH ('throughput' = '400')");
        tables.executeSql("CREATE DATABASE IF NOT EXISTS other");
        assertThat(names("SHOW DATABASES")).containsExactly(LocalCosmos.DATABASE, "other");
        tables.executeSql("CREATE TABLE other.made (id STRING NOT NULL, PRIMARY KEY (id) NOT ENFORCED)");
        assertThatThrownBy(() -> tables.executeSql("DROP DATABASE other RESTRICT"))
                .satisfies(e -> assertThat(said(e)).contains("is not empty"));
        tables.executeSql("DROP DATABASE other CASCADE");
        assertThat(names("SHOW DATABASES")).containsExactly(LocalCosmos.DATABASE);
        assertThatThrownBy(() -> tables.executeSql("USE other")).isInstanceOf(Exception.class);
    }

    /** The same script runs in each session, and means the same. */
    @Test
    void anotherSessionDeclaresTheSameTable() throws Exception {
        String script =
                """
                CREATE TABLE IF NOT EXISTS made (id STRING NOT NULL, tenant STRING NOT NULL, amount DECIMAL(20, 2),
                PRIMARY KEY (tenant, id) NOT ENFORCED) WITH ('default-ttl' = '1 h', 'sink.write-strategy' = 'bulk-update')""";
        tables.executeSql(script);
        tables = tables("");
        tables.executeSql(script);
        assertThat(names("DESCRIBE made")).containsExactly("id", "tenant", "amount");
        assertThat(names("SHOW CREATE TABLE made").toString()).contains("'sink.write-strategy' = 'bulk-update'");
        // What another session may not say of it.
        tables = tables("");
        for (String[] refused : new String[][] {
            {script.replace("(tenant, id)", "(id)"), "its partition key is /tenant, and the one that is declared /id"},
            {script.replace("'1 h'", "'2 h'"), "its 'default-ttl' is 3600 s, and the one that is declared 7200 s"},
        }) {
            assertThatThrownBy(() -> tables.executeSql(refused[0]))
                    .satisfies(e -> assertThat(said(e)).contains(refused[1]).doesNotContain(secret));
        }
        assertThat(names("DESCRIBE made")).containsExactly("id", "tenant", "_ts");
    }

    /** A container that another client has created anew is described anew. */
    @Test
    void whatWasDeclaredGoesWithItsContainer() throws Exception {
        tables = tables(", 'infer.cache-ttl' = '0 s'");
        tables.executeSql("CREATE TABLE made (id STRING NOT NULL, n INT, PRIMARY KEY (id) NOT ENFORCED)");
        assertThat(names("DESCRIBE made")).containsExactly("id", "n");
        cosmos.delete("made");
        cosmos.create("made", "/pk");
        assertThat(names("DESCRIBE made")).containsExactly("id", "pk", "_ts");
    }

    @Test
    void otherTablesBelongElsewhere() throws Exception {
        write();
        for (String[] refused : new String[][] {
            {"CREATE TABLE numbers (n INT) WITH ('connector' = 'datagen')", "connector 'datagen'"},
            {"CREATE VIEW ids AS SELECT id FROM events", "temporary"},
            {"ALTER TABLE events RENAME TO renamed", "cannot be renamed"},
            {"ALTER TABLE events SET ('scan.mode' = 'query')", "CREATE TEMPORARY TABLE"},
            {"CREATE TABLE keyless (id STRING)", "no primary key"},
        }) {
            assertThatThrownBy(() -> tables.executeSql(refused[0]))
                    .as(refused[0])
                    .satisfies(e -> assertThat(said(e)).contains(refused[1]).doesNotContain(secret));
        }
        assertThat(names("SHOW TABLES")).containsExactly("bare", "events");
        // Temporary ones have any connector, and those of our own the account of the catalog.
        tables.executeSql(
                "CREATE TEMPORARY TABLE numbers (n INT) WITH ('connector' = 'datagen', 'number-of-rows' = '2')");
        assertThat(rows(tables.executeSql("SELECT * FROM numbers"))).hasSize(2);
        tables.executeSql(
                "CREATE TEMPORARY TABLE recent WITH ('scan.query' = 'SELECT * FROM c WHERE c.n = 2') LIKE events");
        assertThat(rows(tables.executeSql("SELECT id FROM recent"))).containsExactly(Row.of("o2"));
        tables.executeSql("CREATE TEMPORARY VIEW ids AS SELECT id FROM events");
        assertThat(rows(tables.executeSql("SELECT COUNT(*) FROM ids"))).containsExactly(Row.of(2L));
    }

    @Test
    void noSecretIsShown() throws Exception {
        write();
        assertThat(secret).isNotBlank();
        Catalog catalog = tables.getCatalog("shop").orElseThrow();
        CatalogBaseTable table = catalog.getTable(new ObjectPath(LocalCosmos.DATABASE, "events"));
        assertThat(table.getOptions())
                .containsOnlyKeys(
                        "connector",
                        "endpoint",
                        "auth.key-file",
                        "database",
                        "container",
                        "fields.customer_id.path",
                        "fields.customer_name.path");
        assertThat(names("SHOW CREATE TABLE events").toString())
                .contains("'container' = 'events'")
                .doesNotContain(secret);
        String insert = "INSERT INTO events SELECT * FROM events";
        assertThat(tables.explainSql(insert, ExplainDetail.JSON_EXECUTION_PLAN)).doesNotContain(secret);
        assertThatThrownBy(() -> tables.executeSql("SELECT * FROM events /*+ OPTIONS('scan.mode' = 'sometimes') */"))
                .satisfies(e -> assertThat(said(e)).contains("scan.mode").doesNotContain(secret));
        assertThatThrownBy(() -> tables.executeSql("SELECT * FROM none"))
                .satisfies(e -> assertThat(said(e)).doesNotContain(secret));
        assertThat(catalog.toString()).doesNotContain(secret);
        // A plan names the file.
        TableEnvironment streaming = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        streaming.executeSql(
                "CREATE CATALOG shop WITH ('type' = 'cosmosdb', 'endpoint' = '%s', 'default-database' = '%s', 'auth.key-file' = '%s', 'infer.conflict' = 'string')"
                        .formatted(cosmos.endpoint(), LocalCosmos.DATABASE, cosmos.keyFile()));
        streaming.getConfig().set("table.exec.sink.require-on-conflict", "false");
        streaming.useCatalog("shop");
        streaming.executeSql("CREATE TABLE copy LIKE events");
        String compiled = streaming
                .compilePlanSql("INSERT INTO copy SELECT * FROM events")
                .asJsonString();
        assertThat(compiled).contains("\"container\" : \"events\"").doesNotContain(secret);
        TableResult running = streaming.executePlan(PlanReference.fromJsonString(compiled));
        // It reads the change feed without end.
        LocalCosmos.await("the copy", Duration.ofSeconds(60), () -> cosmos.count("copy") == 2);
        running.getJobClient().orElseThrow().cancel().get();
    }

    @Test
    void aWrongSecretIsNamedAndNotShown() throws Exception {
        Path wrong = Files.writeString(Files.createTempFile("wrong", "key"), "d3Jvbmc=");
        TableEnvironment created = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        assertThatThrownBy(() -> created.executeSql(
                        "CREATE CATALOG shop WITH ('type' = 'cosmosdb', 'endpoint' = '%s', 'default-database' = '%s', 'auth.key-file' = '%s')"
                                .formatted(cosmos.endpoint(), LocalCosmos.DATABASE, wrong)))
                .satisfies(e -> assertThat(said(e)).contains("auth.").doesNotContain("d3Jvbmc="));
    }

    @Test
    void theServiceCountsDocuments() throws Exception {
        write();
        Catalog catalog = tables.getCatalog("shop").orElseThrow();
        ObjectPath events = new ObjectPath(LocalCosmos.DATABASE, "events");
        assertThat(catalog.getTableStatistics(events).getRowCount()).isEqualTo(2);
        assertThat(catalog.getTableStatistics(new ObjectPath(LocalCosmos.DATABASE, "bare"))
                        .getRowCount())
                .isZero();
        assertThatThrownBy(() -> catalog.listPartitions(events)).isInstanceOf(TableNotPartitionedException.class);
        assertThat(catalog.listViews(LocalCosmos.DATABASE)).isEmpty();
        assertThat(catalog.listFunctions(LocalCosmos.DATABASE)).isEmpty();
    }
}
