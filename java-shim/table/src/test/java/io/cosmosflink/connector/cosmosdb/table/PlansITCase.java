package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.PlanReference;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.SqlParserException;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.api.config.ExecutionConfigOptions;
import org.junit.jupiter.api.Test;

/** What Flink's planner makes of tables. Nothing is read. */
class PlansITCase {
    private static final String NORMALIZE = "ChangelogNormalize";

    private static final String DELETES =
            ", 'scan.change-feed.mode' = 'all-versions-and-deletes', 'scan.startup.mode' = 'initial'";

    private final TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());

    private void create(String name, String columns, String options) {
        tables.executeSql(
                """
                CREATE TABLE %s (%s) WITH ('connector' = 'cosmosdb', 'endpoint' = 'https://account.documents.azure.com:443/',
                'database' = 'shop', 'container' = '%s', 'auth.key-file' = '/run/secrets/cosmos-key'%s)"""
                        .formatted(name, columns, name, options));
    }

    private static final String COLUMNS =
            """
            id STRING NOT NULL, customerId STRING NOT NULL, amount DECIMAL(20, 2), address ROW<city STRING, zip INT>,
            etag STRING METADATA VIRTUAL""";

    private void orders(String options) {
        create("orders", COLUMNS + ", PRIMARY KEY (id, customerId) NOT ENFORCED", options);
        create(
                "replica",
                """
                id STRING NOT NULL, customerId STRING NOT NULL, amount DECIMAL(20, 2),
                PRIMARY KEY (id, customerId) NOT ENFORCED""",
                "");
    }

    /** Each table is made, and each other statement planned; but what is asked of a catalog, which asks an account. */
    @Test
    void theStatementsOfThePageAreTaken() throws IOException {
        String page = Files.readString(Path.of("../../docs/sql.md"));
        List<String> statements = Pattern.compile("```sql\n(.*?)```", Pattern.DOTALL)
                .matcher(page)
                .results()
                .flatMap(block -> Stream.of(block.group(1).strip().split(";\\s*(\n|$)")))
                .toList();
        Pattern setting = Pattern.compile("SET '(table\\..*)' = '(.*)'");
        assertThat(statements).hasSizeGreaterThan(3);
        boolean inCatalog = false;
        for (String statement : statements) {
            Matcher set = setting.matcher(statement);
            if (inCatalog || statement.startsWith("CREATE CATALOG")) {
                inCatalog = !statement.equals("USE CATALOG default_catalog");
            } else if (set.matches()) {
                tables.getConfig().set(set.group(1), set.group(2));
            } else if (statement.startsWith("CREATE")) {
                tables.executeSql(statement);
            } else if (!statement.startsWith("SET") && !statement.startsWith("RESET")) {
                assertThat(tables.explainSql(statement)).as(statement).containsAnyOf("TableSourceScan", "Values(");
            }
        }
        assertThat(tables.explainSql("SELECT * FROM order_versions")).contains("watermark=[SOURCE_WATERMARK()]");
    }

    /** Flink ends what the core would wait out. */
    @Test
    void thePageNamesTheLimitOfALookUp() throws IOException {
        ConfigOption<Duration> limit = ExecutionConfigOptions.TABLE_EXEC_ASYNC_LOOKUP_TIMEOUT;
        assertThat(Files.readString(Path.of("../../docs/sql.md")))
                .contains("`" + limit.key() + "` (" + limit.defaultValue().toMinutes() + " minutes)");
    }

    @Test
    void aCopyKeepsNoState() {
        orders(DELETES);
        String plan = tables.explainSql("INSERT INTO replica SELECT id, customerId, amount FROM orders");
        assertThat(plan).doesNotContain("upsertMaterialize=[true]");
        assertThat(plan.contains(NORMALIZE)).as(plan).isNotEqualTo(SinceFlink.STATELESS_COPIES.isHere());
    }

    @Test
    void whatAConflictIsIsSaidWhereFlinkAsksForIt() {
        orders("");
        create("keyless", "id STRING NOT NULL, customerId STRING NOT NULL, amount DECIMAL(20, 2)", "");
        String insert = "INSERT INTO replica SELECT * FROM keyless";
        String said = insert + " ON CONFLICT DO DEDUPLICATE";
        if (SinceFlink.CONFLICTS.isHere()) {
            assertThatThrownBy(() -> tables.explainSql(insert)).hasMessageContaining("ON CONFLICT");
            assertThat(tables.explainSql(said)).contains("conflictStrategy=[DEDUPLICATE]");
        } else {
            assertThat(tables.explainSql(insert)).contains("Sink(").doesNotContain("upsertMaterialize");
            assertThatThrownBy(() -> tables.explainSql(said)).isInstanceOf(SqlParserException.class);
        }
    }

    @Test
    void whatNeedsTheRowBeforeGetsIt() {
        orders(DELETES);
        assertThat(tables.explainSql("SELECT customerId, SUM(amount) FROM orders GROUP BY customerId"))
                .contains(NORMALIZE);
    }

    @Test
    void whatIsAppendedIsNotNormalized() {
        create("orders", COLUMNS, ", 'scan.changelog-mode' = 'append'");
        assertThat(tables.explainSql("SELECT customerId, SUM(amount) FROM orders GROUP BY customerId"))
                .doesNotContain(NORMALIZE);
    }

    @Test
    void onlyWhatIsAskedForIsDecoded() {
        create("orders", COLUMNS, "");
        assertThat(tables.explainSql("SELECT address.city, etag FROM orders"))
                .contains("project=[address_city]", "metadata=[etag]");
    }

    /** Flink would leave out the grouping by a key that it takes for unique. */
    @Test
    void aKeyOfWhatIsAppendedIsRefused() {
        orders(", 'scan.changelog-mode' = 'append'");
        assertThatThrownBy(() ->
                        tables.explainSql("SELECT id, customerId, SUM(amount) FROM orders GROUP BY id, customerId"))
                .isInstanceOf(ValidationException.class)
                .hasMessageContainingAll("has a primary key", "EXCLUDING CONSTRAINTS");
    }

    @Test
    void whereLeasesArePublishedAScanIsOneForAll() {
        create("orders", COLUMNS, ", 'scan.lease.container' = 'leases', 'scan.lease.prefix' = 'shop'");
        assertThat(tables.explainSql("SELECT id FROM orders WHERE customerId = 'c1'"))
                .doesNotContain("filter=[=");
    }

    @Test
    void aLimitIsPushed() {
        orders(", 'scan.mode' = 'query'");
        assertThat(tables.explainSql("SELECT id FROM orders LIMIT 3")).contains("limit=[3]");
    }

    @Test
    void conditionsArePushedAndWhatNobodyIsSureOfStays() {
        orders(", 'scan.mode' = 'query'");
        assertThat(
                        tables.explainSql(
                                """
                        SELECT id FROM orders AS o WHERE customerId IN ('c1', 'c2') AND amount > 1.5 AND o.address.zip IS NOT NULL
                        AND id LIKE 'a%'"""))
                .containsPattern("filter=\\[.*OR\\(=\\(customerId.*>\\(amount.*LIKE\\(.*\\]")
                .contains("where=[");
        assertThat(tables.explainSql("SELECT id FROM orders WHERE customerId = 'c1' AND UPPER(id) = 'O1'"))
                .containsPattern("filter=\\[=\\(customerId, .*c1.*\\]")
                .containsPattern("where=\\[.*UPPER.*\\]");
        // More rows than the limit may be needed where some do not pass.
        assertThat(tables.explainSql("SELECT id FROM orders WHERE customerId = 'c1' LIMIT 3"))
                .contains("filter=[=(customerId")
                .doesNotContain("limit=[");
    }

    @Test
    void noConditionIsPushedWhereFlinkIsToFilter() {
        orders(", 'scan.mode' = 'query', 'filter.handling.policy' = 'never'");
        assertThat(tables.explainSql("SELECT id FROM orders WHERE customerId = 'c1'"))
                .contains("filter=[]", "where=[");
    }

    @Test
    void onlyConditionsOnTheKeyArePushedWhereRowsChange() {
        orders(DELETES);
        assertThat(tables.explainSql("SELECT id FROM orders WHERE customerId = 'c1' AND amount > 5"))
                .containsPattern("filter=\\[=\\(customerId, [^>]*\\]")
                // Left to Flink, which judges it where it normalizes, or in 1.20 behind that.
                .containsPattern("(where|condition)=\\[.*>\\(amount, 5\\)");
    }

    @Test
    void aRestoredPlanHasItsConditions() {
        create("orders", COLUMNS, "");
        create("ids", "id STRING NOT NULL", "");
        String json = tables.compilePlanSql(
                        "INSERT INTO ids SELECT id FROM orders AS o WHERE etag = 'e' AND o.address.city = 'Kiel' AND customerId = 'c1'")
                .asJsonString();
        assertThat(tables.loadPlan(PlanReference.fromJsonString(json)).explain())
                .containsPattern("filter=\\[.*customerId.*\\]")
                .containsPattern("where=\\[[^\\]]*etag[^\\]]*\\]");
    }

    @Test
    void noConditionIsPushedPastAWatermark() {
        create(
                "events",
                "id STRING, done BOOLEAN, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR written AS SOURCE_WATERMARK()",
                "");
        assertThat(tables.explainSql("SELECT id FROM events WHERE done AND id > 'a'"))
                .doesNotContainPattern("filter=\\[[^\\]]")
                .contains("where=[");
    }

    /** A condition that is taken is no part of the join's name for the planner. */
    @Test
    void lookUpsWithDifferentConditionsAreTwo() {
        orders(", 'scan.mode' = 'query'");
        create("payments", "id STRING, customerId STRING, seen AS PROCTIME()", "");
        String join =
                "SELECT p.id FROM payments AS p JOIN orders FOR SYSTEM_TIME AS OF p.seen AS o ON o.id = p.id AND o.customerId = p.customerId";
        String plan = tables.explainSql(join + " WHERE o.amount > 5 UNION ALL " + join + " WHERE o.amount < 3");
        String executed = plan.substring(plan.indexOf("== Optimized Execution"));
        assertThat(executed.split("LookupJoin\\(", -1)).hasSize(3);
        assertThat(executed).contains("(amount > 5)", "(amount < 3)");
    }

    @Test
    void aConstantIsPartOfTheKeyThatIsLookedUp() {
        orders("");
        create("payments", "id STRING, seen AS PROCTIME()", "");
        String plan = tables.explainSql(
                "SELECT p.id, o.amount FROM payments AS p JOIN orders FOR SYSTEM_TIME AS OF p.seen AS o ON o.id = p.id AND o.customerId = 'c1'");
        assertThat(plan.substring(plan.indexOf("== Optimized Execution")))
                .containsPattern("lookup=\\[customerId=[^\\]]*'c1', id=id\\]");
    }

    @Test
    void aJoinWithTheMomentIsALookUp() {
        orders("");
        create("payments", "id STRING, customerId STRING, city STRING, seen AS PROCTIME()", "");
        String join =
                "SELECT p.id, o.amount, o.etag FROM payments AS p JOIN orders FOR SYSTEM_TIME AS OF p.seen AS o ON ";
        String planned = "LookupJoin(table=[default_catalog.default_database.orders], joinType=[InnerJoin]";
        String plan = tables.explainSql(join + "o.customerId = p.customerId AND o.id = p.id");
        // Only what is asked for: of the order neither its address nor a field of it.
        assertThat(plan.substring(plan.indexOf("== Optimized")))
                .contains(planned, "async=[")
                .doesNotContain("address");
        assertThat(tables.explainSql(join + "o.customerId = p.customerId AND o.amount > 5"))
                .contains(planned);
        assertThat(tables.explainSql(join + "o.address.city = p.city AND o.id = p.id"))
                .contains(planned);
    }

    /** A table of a catalog, which has indexes. */
    private void indexed(String name, String... option) {
        TableDescriptor.Builder table = TableDescriptor.forConnector("cosmosdb")
                .schema(Schema.newBuilder()
                        .column("id", DataTypes.STRING().notNull())
                        .column("customerId", DataTypes.STRING().notNull())
                        .column("address", DataTypes.ROW(DataTypes.FIELD("city", DataTypes.STRING())))
                        .primaryKey("id", "customerId")
                        .index("customerId")
                        .build())
                .option("endpoint", "https://account.documents.azure.com:443/")
                .option("database", "shop")
                .option("container", name)
                .option("auth.key-file", "/run/secrets/cosmos-key")
                .option("scan.mode", "query");
        if (option.length > 0) {
            table.option(option[0], option[1]);
        }
        tables.createTemporaryTable(name, table.build());
    }

    private String joined(String left, String right, String more) {
        String plan = tables.explainSql(
                "INSERT INTO pairs SELECT l.id, l.customerId, r.id, r.customerId FROM %s AS l JOIN %s AS r ON l.customerId = r.customerId%s"
                        .formatted(left, right, more));
        return plan.substring(plan.indexOf("== Optimized Execution"));
    }

    /** Flink asks each table whether it can be looked up, and joins as ever where one cannot. */
    @Test
    void aJoinThatCannotLookUpIsAJoin() {
        SinceFlink.DELTA_JOINS.assumed();
        create(
                "pairs",
                """
                id STRING NOT NULL, customerId STRING NOT NULL, other STRING NOT NULL, otherCustomer STRING NOT NULL,
                PRIMARY KEY (id, customerId, other, otherCustomer) NOT ENFORCED""",
                "");
        tables.getConfig().set("table.exec.sink.require-on-conflict", "false");
        tables.getConfig().set("table.exec.sink.upsert-materialize", "NONE");
        indexed("orders");
        indexed("refunds");
        indexed("recent", "scan.query", "SELECT * FROM c WHERE c.recent");
        assertThat(joined("orders", "refunds", "")).contains("DeltaJoin(");
        assertThat(joined("orders", "recent", "")).contains("Join(").doesNotContain("DeltaJoin(");
        assertThat(joined("orders", "refunds", " AND l.address = r.address"))
                .contains("Join(")
                .doesNotContain("DeltaJoin(");
    }

    @Test
    void watermarksAreMadeInTheSource() {
        create(
                "events",
                "id STRING, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR written AS written - INTERVAL '5' SECOND",
                "");
        create(
                "own",
                "id STRING, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR written AS SOURCE_WATERMARK()",
                "");
        assertThat(tables.explainSql("SELECT * FROM events"))
                .contains("watermark=[")
                .doesNotContainPattern("(?<!Logical)WatermarkAssigner");
        assertThat(tables.explainSql("SELECT * FROM own")).contains("watermark=[SOURCE_WATERMARK()]");
    }
}
