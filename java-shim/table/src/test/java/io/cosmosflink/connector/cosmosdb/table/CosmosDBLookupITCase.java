package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Lookup joins on a MiniCluster against a local Cosmos, over the real library. */
@Timeout(180)
class CosmosDBLookupITCase {
    private static final String CUSTOMERS =
            """
            region STRING NOT NULL, id STRING NOT NULL, name STRING, level INT, address ROW<city STRING, zip INT>,
            PRIMARY KEY (id, region) NOT ENFORCED""";

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;
    private StreamTableEnvironment tables;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("orders:/customer:2", "customers:/region:2");
        cosmos.write(
                "customers",
                IntStream.range(0, 20).mapToObj(CosmosDBLookupITCase::customer).toList());
        tables(RuntimeExecutionMode.STREAMING);
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    private static Operation customer(int n) {
        String json =
                "{\"id\":\"c%d\",\"region\":\"r%d\",\"name\":\"customer %d\",\"level\":%d,\"address\":{\"city\":\"Kiel\",\"zip\":%d}}"
                        .formatted(n, n % 3, n, n % 4, n);
        return Operation.upsert("c" + n, "[\"r" + n % 3 + "\"]", json.getBytes(StandardCharsets.UTF_8));
    }

    private void tables(RuntimeExecutionMode mode) {
        // A job that fails is over.
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(
                new Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none"));
        environment.setParallelism(2);
        environment.setRuntimeMode(mode);
        environment.enableCheckpointing(100);
        tables = StreamTableEnvironment.create(environment);
        // With a time column of its own: one that a query makes is planned as another join, which Flink cannot run.
        create(
                "orders",
                "id STRING NOT NULL, customer STRING NOT NULL, region STRING, n INT, seen AS PROCTIME()",
                Map.of("scan.bounded.mode", "latest"));
    }

    private void create(String table, String columns, Map<String, String> options) {
        create(table, table, columns, options);
    }

    private void create(String table, String container, String columns, Map<String, String> options) {
        StringBuilder with = new StringBuilder();
        options.forEach((name, value) ->
                with.append(", '").append(name).append("' = '").append(value).append("'"));
        tables.executeSql(
                """
                CREATE TABLE `%s` (%s) WITH ('connector' = 'cosmosdb', 'endpoint' = '%s', 'database' = '%s',
                'container' = '%s', 'auth.key-file' = '%s'%s)"""
                        .formatted(
                                table,
                                columns,
                                cosmos.endpoint(),
                                LocalCosmos.DATABASE,
                                container,
                                cosmos.keyFile(),
                                with));
    }

    /** Orders of customers 0 to 9, each twice, of one that is not there, and of none. */
    private void orders() {
        List<Operation> orders = new ArrayList<>();
        for (int n = 0; n < 20; n++) {
            orders.add(order(n, "c" + n % 10, "\"r" + n % 10 % 3 + "\""));
        }
        orders.add(order(20, "c99", "\"r0\""));
        orders.add(order(21, "c1", "null"));
        cosmos.write("orders", orders);
    }

    private static Operation order(int n, String customer, String region) {
        String json = "{\"id\":\"o%d\",\"customer\":\"%s\",\"region\":%s,\"n\":%d}".formatted(n, customer, region, n);
        return Operation.upsert("o" + n, "[\"" + customer + "\"]", json.getBytes(StandardCharsets.UTF_8));
    }

    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    private List<String> rows(String query) throws Exception {
        TableResult result = tables.executeSql(query);
        List<String> rows = new ArrayList<>();
        try (CloseableIterator<Row> found = result.collect()) {
            found.forEachRemaining(row -> rows.add(row.toString()));
        }
        rows.sort(null);
        return rows;
    }

    private static final String JOIN =
            """
            SELECT o.id, c.name, c.address.zip FROM orders AS o
            %s JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.id = o.customer AND o.region = c.region""";

    private static List<String> joined(boolean left) {
        List<String> rows = new ArrayList<>();
        for (int n = 0; n < 20; n++) {
            rows.add("+I[o%d, customer %d, %d]".formatted(n, n % 10, n % 10));
        }
        if (left) {
            rows.addAll(List.of("+I[o20, null, null]", "+I[o21, null, null]"));
        }
        rows.sort(null);
        return rows;
    }

    @Test
    void documentsAreLookedUpByTheirWholeKey() throws Exception {
        orders();
        create("customers", CUSTOMERS, Map.of());
        assertThat(rows(JOIN.formatted(""))).isEqualTo(joined(false));
    }

    @Test
    void rowsWithoutADocumentStayInALeftJoin() throws Exception {
        orders();
        create("customers", CUSTOMERS, Map.of());
        assertThat(rows(JOIN.formatted("LEFT"))).isEqualTo(joined(true));
    }

    @Test
    void oneIsLookedUpAfterTheOther() throws Exception {
        orders();
        create("customers", CUSTOMERS, Map.of("lookup.async", "false"));
        assertThat(tables.explainSql(JOIN.formatted("LEFT")))
                .contains("LookupJoin")
                .doesNotContain("async=[");
        assertThat(rows(JOIN.formatted("LEFT"))).isEqualTo(joined(true));
    }

    @Test
    void aBatchJobLooksUpToo() throws Exception {
        orders();
        tables(RuntimeExecutionMode.BATCH);
        create("customers", CUSTOMERS, Map.of());
        assertThat(rows(JOIN.formatted("LEFT"))).isEqualTo(joined(true));
    }

    @Test
    void whatWasLookedUpIsKept() throws Exception {
        orders();
        Map<String, String> cache = Map.of("lookup.cache", "PARTIAL", "lookup.partial-cache.max-rows", "100");
        create("customers", CUSTOMERS, cache);
        assertThat(rows(JOIN.formatted("LEFT"))).isEqualTo(joined(true));
        create(
                "single",
                "customers",
                CUSTOMERS,
                Map.of("lookup.async", "false", "lookup.cache", "PARTIAL", "lookup.partial-cache.max-rows", "100"));
        assertThat(rows(JOIN.replace("customers", "single").formatted("LEFT"))).isEqualTo(joined(true));
    }

    @Test
    void aPartitionKeyAloneFindsAllOfItsDocuments() throws Exception {
        cosmos.write("orders", List.of(order(1, "x", "\"r1\"")));
        create("customers", CUSTOMERS, Map.of());
        List<String> found = rows(
                "SELECT c.id FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.region = o.region");
        List<String> expected = IntStream.range(0, 20)
                .filter(n -> n % 3 == 1)
                .mapToObj(n -> "+I[c" + n + "]")
                .sorted()
                .toList();
        assertThat(found).isEqualTo(expected);
    }

    @Test
    void anyColumnFindsItsDocumentsAndAConstantToo() throws Exception {
        cosmos.write("orders", List.of(order(3, "x", "\"r1\"")));
        create("customers", CUSTOMERS, Map.of());
        List<String> found = rows(
                """
                SELECT c.id, c.level FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c
                ON c.level = o.n AND c.region = 'r0' WHERE c.address.zip > 3""");
        List<String> expected = IntStream.range(4, 20)
                .filter(n -> n % 3 == 0 && n % 4 == 3)
                .mapToObj(n -> "+I[c" + n + ", 3]")
                .sorted()
                .toList();
        assertThat(found).isNotEmpty().isEqualTo(expected);
    }

    @Test
    void documentsHaveTheirMetadataAndAreLookedUpByIt() throws Exception {
        cosmos.write("orders", List.of(order(1, "c4", "\"r1\"")));
        create(
                "customers",
                """
                name STRING, docid STRING METADATA FROM 'id', pk STRING METADATA FROM 'partition-key', etag STRING METADATA,
                container STRING METADATA, lsn BIGINT METADATA, document STRING METADATA, operation STRING METADATA""",
                Map.of());
        List<String> found = rows(
                """
                SELECT c.name, c.pk, c.container, c.lsn, c.etag IS NOT NULL, JSON_VALUE(c.document, '$.level')
                FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.docid = o.customer""");
        assertThat(found).containsExactly("+I[customer 4, [\"r1\"], customers, null, true, 0]");
        assertThatThrownBy(
                        () -> rows(
                                "SELECT c.operation FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.docid = o.customer"))
                .hasStackTraceContaining("'operation'")
                .hasStackTraceContaining("known of a change alone");
        assertThatThrownBy(
                        () -> rows(
                                "SELECT c.name FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.pk = o.customer"))
                .hasStackTraceContaining("'partition-key'")
                .hasStackTraceContaining("stands in no document");
    }

    @Test
    void whatCannotBeLookedUpByIsRefused() {
        create("customers", CUSTOMERS, Map.of());
        assertThatThrownBy(
                        () -> rows(
                                """
                        SELECT c.name FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c
                        ON c.address = ROW(o.id, o.n)"""))
                .isInstanceOf(Exception.class);
        create("kept", "customers", CUSTOMERS, Map.of("lookup.cache", "FULL"));
        assertThatThrownBy(() -> tables.explainSql("SELECT * FROM kept"))
                .hasStackTraceContaining("'lookup.cache' is 'FULL'");
        create("wrong", "customers", CUSTOMERS, Map.of("lookup.batch.max-size", "0"));
        assertThatThrownBy(() -> rows(JOIN.replace("customers", "wrong").formatted("")))
                .hasStackTraceContaining("lookup.batch.max-size");
        create("some", "customers", CUSTOMERS, Map.of("scan.query", "SELECT * FROM c WHERE c.level = 1"));
        assertThatThrownBy(() -> rows(JOIN.replace("customers", "`some`").formatted("")))
                .hasStackTraceContaining("'scan.query'")
                .hasStackTraceContaining("only documents can be looked up");
    }

    @Test
    void aDocumentThatMakesNoRowFailsTheJobByName() {
        orders();
        create("customers", "id STRING, region STRING, name INT", Map.of());
        assertThatThrownBy(
                        () -> rows(
                                """
                        SELECT c.name FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c
                        ON c.id = o.customer AND c.region = o.region"""))
                .hasStackTraceContaining("'/name' is \"customer")
                .hasStackTraceContaining("json.on-error");
    }

    @Test
    void rowsOfOnePartitionKeyMeetWhereTheyAreShuffled() throws Exception {
        orders();
        create("customers", CUSTOMERS, Map.of("lookup.cache", "PARTIAL", "lookup.partial-cache.max-rows", "100"));
        String join = JOIN.formatted("LEFT").replace("SELECT", "SELECT /*+ LOOKUP('table'='c', 'shuffle'='true') */");
        assertThat(rows(join)).isEqualTo(joined(true));
        String plan = tables.explainSql(join);
        assertThat(plan.contains("shuffle=[true]")).as(plan).isEqualTo(SinceFlink.SHUFFLED_LOOKUPS.isHere());
    }

    @Test
    void aJobThatIsCancelledWhileItWaitsEnds() throws Exception {
        create("endless", "orders", "id STRING, customer STRING, seen AS PROCTIME()", Map.of());
        create("customers", CUSTOMERS, Map.of());
        tables.executeSql("CREATE TABLE nowhere (id STRING, name STRING) WITH ('connector' = 'blackhole')");
        cosmos.write("orders", List.of(order(1, "c1", "\"r1\"")));
        JobClient job = tables.executeSql(
                        """
                        INSERT INTO nowhere SELECT o.id, c.name FROM endless AS o
                        JOIN customers FOR SYSTEM_TIME AS OF o.seen AS c ON c.id = o.customer""")
                .getJobClient()
                .orElseThrow();
        LocalCosmos.await("the job to run", Duration.ofSeconds(60), () -> {
            try {
                return job.getJobStatus().get().name().equals("RUNNING");
            } catch (Exception e) {
                return false;
            }
        });
        job.cancel().get();
        LocalCosmos.await("the job to end", Duration.ofSeconds(30), () -> {
            try {
                return job.getJobStatus().get().isGloballyTerminalState();
            } catch (Exception e) {
                return true;
            }
        });
    }
}
