package io.cosmosflink.connector.cosmosdb.table.plans;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableConfig;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.planner.utils.BatchTableTestUtil;
import org.apache.flink.table.planner.utils.StreamTableTestUtil;
import org.apache.flink.table.planner.utils.TableTestBase;
import org.apache.flink.table.planner.utils.TableTestUtilBase;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import scala.collection.JavaConverters;
import scala.collection.Seq;

/**
 * Whole plans, compared with those of the XML file beside the class's resources: what is pushed into the scan, which changes go from node to node,
 * where there is state. Nothing is read. A test whose plan is another one, or not in the file, fails, and leaves a file of all plans as they are now
 * beside the compiled one: {@code PlannedTablesITCase_actual.xml}, which takes the place of the one of the resources once its differences were looked
 * at.
 */
class PlannedTablesITCase extends TableTestBase {
    private static final String DELETES =
            ", 'scan.change-feed.mode' = 'all-versions-and-deletes', 'scan.startup.mode' = 'initial'";

    private static final String KEY = "id STRING NOT NULL, customerId STRING NOT NULL";
    private static final String KEYED = ", PRIMARY KEY (id, customerId) NOT ENFORCED";
    private static final String COLUMNS = KEY + ", amount DECIMAL(20, 2), address ROW<city STRING, zip INT>";

    private final StreamTableTestUtil util = streamTestUtil(TableConfig.getDefault());

    @BeforeEach
    void tables() {
        TableEnvironment tables = util.getTableEnv();
        create(tables, "versions", COLUMNS + KEYED, "");
        create(tables, "deletes", COLUMNS + KEYED, DELETES);
        create(tables, "appended", COLUMNS, "");
        create(tables, "described", COLUMNS + ", etag STRING METADATA VIRTUAL" + KEYED, DELETES);
        create(tables, "replica", COLUMNS + KEYED, "");
    }

    private static void create(TableEnvironment tables, String name, String columns, String options) {
        tables.executeSql(
                """
                CREATE TABLE %s (%s) WITH ('connector' = 'cosmosdb', 'endpoint' = 'https://account.documents.azure.com:443/',
                'database' = 'shop', 'container' = '%s', 'auth.key-file' = '/run/secrets/cosmos-key'%s)"""
                        .formatted(name, columns, name, options));
    }

    private static Seq<ExplainDetail> withChanges() {
        return JavaConverters.asScalaBuffer(List.of(ExplainDetail.CHANGELOG_MODE))
                .toSeq();
    }

    private static void isPlannedAsBefore(TableTestUtilBase util, String statement) {
        if (statement.startsWith("INSERT")) {
            util.verifyRelPlanInsert(statement, withChanges());
        } else {
            util.verifyRelPlan(statement, withChanges());
        }
    }

    private void isPlannedAsBefore(String statement) {
        isPlannedAsBefore(util, statement);
    }

    // What is pushed into the scan.

    @Test
    void onlyTheColumnsThatAreAskedFor() {
        isPlannedAsBefore("SELECT amount, id FROM appended");
    }

    @Test
    void onlyTheFieldsOfARowThatAreAskedFor() {
        isPlannedAsBefore("SELECT address.city, id FROM appended");
    }

    @Test
    void oneColumnForACount() {
        isPlannedAsBefore("SELECT COUNT(*) FROM appended");
    }

    @Test
    void onlyTheMetadataThatIsAskedFor() {
        create(
                util.getTableEnv(),
                "events",
                "id STRING, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', etag STRING METADATA, ttl INT METADATA",
                "");
        isPlannedAsBefore("SELECT ttl, id FROM events");
    }

    @Test
    void aLimit() {
        documents("");
        isPlannedAsBefore("SELECT id FROM documents LIMIT 3");
    }

    @Test
    void aLimitOfABatchJob() {
        BatchTableTestUtil batch = batchTestUtil(TableConfig.getDefault());
        create(batch.getTableEnv(), "documents", COLUMNS + KEYED, DELETES);
        batch.verifyRelPlan("SELECT id FROM documents LIMIT 3");
    }

    @Test
    void aWatermark() {
        create(
                util.getTableEnv(),
                "events",
                "id STRING, `at` TIMESTAMP_LTZ(3), WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND",
                ", 'scan.watermark.idle-timeout' = '2 s'");
        isPlannedAsBefore("SELECT * FROM events");
    }

    @Test
    void aWatermarkOfTheSourceItself() {
        create(
                util.getTableEnv(),
                "events",
                "id STRING, written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR written AS SOURCE_WATERMARK()",
                "");
        isPlannedAsBefore("SELECT * FROM events");
    }

    /** It moves on with all rows, also with those that pass no condition. */
    @Test
    void noConditionBesideAWatermark() {
        create(
                util.getTableEnv(),
                "events",
                "id STRING, `at` TIMESTAMP_LTZ(3), WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND",
                "");
        isPlannedAsBefore("SELECT * FROM events WHERE id = 'o1'");
    }

    // Conditions: those that are taken stay in the plan as well.

    private void documents(String options) {
        create(util.getTableEnv(), "documents", COLUMNS + KEYED, ", 'scan.mode' = 'query'" + options);
    }

    @Test
    void conditionsOfAQueryAndOneThatFlinkAloneKnows() {
        documents("");
        isPlannedAsBefore(
                "SELECT id FROM documents WHERE customerId IN ('c1', 'c2') AND amount > 1.5 AND UPPER(id) = 'O1'");
    }

    @Test
    void aConditionOnAFieldOfARow() {
        documents("");
        isPlannedAsBefore("SELECT d.id, d.address.zip FROM documents AS d WHERE d.address.city LIKE 'K%'");
    }

    /** Flink asks for fields of a row where nothing stands between them and the scan. */
    @Test
    void aConditionBesideAFieldOfARow() {
        documents("");
        isPlannedAsBefore("SELECT d.id, d.address.zip FROM documents AS d WHERE d.customerId = 'c1'");
    }

    /** More rows than the limit may be needed where some do not pass. */
    @Test
    void noLimitBesideACondition() {
        documents("");
        isPlannedAsBefore("SELECT id FROM documents WHERE customerId = 'c1' LIMIT 3");
    }

    @Test
    void noConditionWhereFlinkIsToFilter() {
        documents(", 'filter.handling.policy' = 'never'");
        isPlannedAsBefore("SELECT id FROM documents WHERE customerId = 'c1'");
    }

    @Test
    void conditionsOfWhatIsAppended() {
        isPlannedAsBefore("SELECT id FROM appended WHERE customerId = 'c1' AND amount > 5");
    }

    /** A version that passes no more must still take the place of the one that did. */
    @Test
    void onlyConditionsOnTheKeyWhereRowsChange() {
        isPlannedAsBefore("SELECT id FROM deletes WHERE customerId = 'c1' AND amount > 5");
    }

    @Test
    void conditionsOfABatchJob() {
        BatchTableTestUtil batch = batchTestUtil(TableConfig.getDefault());
        create(batch.getTableEnv(), "documents", COLUMNS + KEYED, DELETES);
        batch.verifyRelPlan("SELECT customerId, COUNT(*) FROM documents WHERE amount > 5 GROUP BY customerId");
    }

    // What is looked up.

    private static final String LOOKED_UP =
            " FROM payments AS p %s JOIN versions FOR SYSTEM_TIME AS OF p.seen AS o ON o.id = p.id AND ";

    private static String lookedUp(String columns, String condition) {
        return "SELECT " + columns + LOOKED_UP.formatted("") + condition;
    }

    private static void payments(TableEnvironment tables) {
        create(tables, "payments", "id STRING, customerId STRING, amount DECIMAL(20, 2), seen AS PROCTIME()", "");
    }

    @Test
    void aLookUpByTheWholeKeyReadsWhatIsAskedFor() {
        payments(util.getTableEnv());
        isPlannedAsBefore(lookedUp("p.id, o.amount, o.address.city", "o.customerId = p.customerId"));
    }

    @Test
    void aLookUpOfALeftJoin() {
        payments(util.getTableEnv());
        isPlannedAsBefore(
                "SELECT p.id, o.amount" + LOOKED_UP.formatted("LEFT") + "o.customerId = p.customerId AND o.amount > 5");
    }

    @Test
    void aLookUpThatWaitsForEachRow() {
        payments(util.getTableEnv());
        create(util.getTableEnv(), "single", COLUMNS + KEYED, ", 'lookup.async' = 'false'");
        isPlannedAsBefore(
                lookedUp("p.id, o.amount", "o.customerId = p.customerId").replace("versions", "single"));
    }

    @Test
    void aLookUpThatIsShuffled() {
        payments(util.getTableEnv());
        isPlannedAsBefore(
                lookedUp("/*+ LOOKUP('table'='o', 'shuffle'='true') */ p.id, o.amount", "o.customerId = p.customerId"));
    }

    @Test
    void aLookUpOfABatchJob() {
        BatchTableTestUtil batch = batchTestUtil(TableConfig.getDefault());
        payments(batch.getTableEnv());
        create(batch.getTableEnv(), "versions", COLUMNS + KEYED, "");
        batch.verifyRelPlan(lookedUp("p.id, o.amount", "o.customerId = p.customerId"));
    }

    @Test
    void aLookUpByAConstant() {
        payments(util.getTableEnv());
        isPlannedAsBefore(lookedUp("p.id, o.amount", "o.customerId = 'c1'"));
    }

    // As they are executed, where Flink has made one node of those that are the same to it.

    /** Each asks by its own constant: were they one for the planner, half of the rows would be the other's. */
    @Test
    void twoLookUpsByConstants() {
        payments(util.getTableEnv());
        util.verifyExecPlan(lookedUp("p.id, o.amount", "o.customerId = 'c1'") + " UNION ALL "
                + lookedUp("p.id, o.amount", "o.customerId = 'c2'"));
    }

    /** A condition that is taken is no part of the join's name for the planner. */
    @Test
    void twoLookUpsWithConditions() {
        documents("");
        payments(util.getTableEnv());
        String key = "o.customerId = p.customerId";
        String both = lookedUp("p.id", key + " WHERE o.amount > 5") + " UNION ALL "
                + lookedUp("p.id", key + " WHERE o.amount < 3");
        util.verifyExecPlan(both.replace("versions", "documents"));
    }

    @Test
    void oneLookUpWhereBothAreTheSame() {
        payments(util.getTableEnv());
        String one = lookedUp("p.id, o.amount", "o.customerId = 'c1'");
        util.verifyExecPlan(one + " UNION ALL " + one);
    }

    /** A table as a catalog gives it, with an index. */
    private void indexed(String name, String query) {
        TableDescriptor.Builder table = TableDescriptor.forConnector("cosmosdb")
                .schema(Schema.newBuilder()
                        .column("id", DataTypes.STRING().notNull())
                        .column("customerId", DataTypes.STRING().notNull())
                        .column("amount", DataTypes.DECIMAL(20, 2))
                        .primaryKey("id", "customerId")
                        .index("customerId")
                        .build())
                .option("endpoint", "https://account.documents.azure.com:443/")
                .option("database", "shop")
                .option("container", name)
                .option("auth.key-file", "/run/secrets/cosmos-key")
                .option("scan.mode", "query");
        if (!query.isEmpty()) {
            table.option("scan.query", query);
        }
        util.getTableEnv().createTemporaryTable(name, table.build());
    }

    private void areJoined(String left, String right) {
        create(
                util.getTableEnv(),
                "pairs",
                """
                id STRING NOT NULL, customerId STRING NOT NULL, other STRING NOT NULL, otherCustomer STRING NOT NULL, amount DECIMAL(20, 2),
                PRIMARY KEY (id, customerId, other, otherCustomer) NOT ENFORCED""",
                "");
        util.getTableEnv().getConfig().set("table.exec.sink.require-on-conflict", "false");
        util.getTableEnv().getConfig().set("table.exec.sink.upsert-materialize", "NONE");
        isPlannedAsBefore(
                "INSERT INTO pairs SELECT l.id, l.customerId, r.id, r.customerId, r.amount FROM %s AS l JOIN %s AS r ON l.customerId = r.customerId"
                        .formatted(left, right));
    }

    /** No state: each side is looked up in the other's container. */
    @Test
    void aJoinOfIndexedTablesLooksUp() {
        indexed("orders", "");
        indexed("refunds", "");
        areJoined("orders", "refunds");
    }

    @Test
    void aJoinWithWhatCannotBeLookedUpKeepsState() {
        indexed("orders", "");
        indexed("recent", "SELECT * FROM c WHERE c.recent");
        areJoined("orders", "recent");
    }

    // Changes, and where a normalisation keeps rows.

    /** Flink leaves a normalisation out where deletes have their key alone, and not where there are none. */
    @Test
    void aCopyOfLatestVersionsKeepsState() {
        isPlannedAsBefore("INSERT INTO replica SELECT * FROM versions");
    }

    @Test
    void aCopyWithDeletesKeepsNoState() {
        isPlannedAsBefore("INSERT INTO replica SELECT * FROM deletes");
    }

    @Test
    void aCopyWithAMetadataColumnKeepsState() {
        create(util.getTableEnv(), "marked", COLUMNS + ", etag STRING" + KEYED, "");
        isPlannedAsBefore("INSERT INTO marked SELECT id, customerId, amount, address, etag FROM described");
    }

    @Test
    void aSumOfUpsertsKeepsState() {
        isPlannedAsBefore("SELECT customerId, SUM(amount) FROM deletes GROUP BY customerId");
    }

    @Test
    void aSumOfWhatIsAppendedNormalizesNothing() {
        isPlannedAsBefore("SELECT customerId, SUM(amount) FROM appended GROUP BY customerId");
    }

    @Test
    void duplicatesKeepState() {
        util.getTableEnv().getConfig().set("table.exec.source.cdc-events-duplicate", "true");
        isPlannedAsBefore("INSERT INTO replica SELECT * FROM deletes");
    }

    @Test
    void deletesWithoutAKeyAreRefused() {
        create(util.getTableEnv(), "keyless", COLUMNS, DELETES);
        assertThatThrownBy(() -> util.getTableEnv().explainSql("SELECT * FROM keyless"))
                .hasStackTraceContaining(ValidationException.class.getName())
                .hasStackTraceContaining("the table has no primary key by which a delete could find its row");
    }

    // What is written.

    @Test
    void thePartOfARowThatAnInsertNames() {
        create(util.getTableEnv(), "merged", COLUMNS + KEYED, ", 'sink.write-strategy' = 'bulk-update'");
        isPlannedAsBefore("INSERT INTO merged (id, amount, customerId) SELECT id, amount, customerId FROM versions");
    }

    @Test
    void metadataThatAreWritten() {
        create(
                util.getTableEnv(),
                "expected",
                KEY + ", expected STRING METADATA FROM 'etag', lives INT METADATA FROM 'ttl'" + KEYED,
                "");
        isPlannedAsBefore("INSERT INTO expected SELECT id, customerId, etag, 60 FROM described");
    }

    @Test
    void aTableWithoutAKeyTakesInsertsAlone() {
        create(util.getTableEnv(), "log", COLUMNS, "");
        isPlannedAsBefore("INSERT INTO log SELECT * FROM appended");
        assertThatThrownBy(() -> util.getTableEnv().explainSql("INSERT INTO log SELECT * FROM versions"))
                .hasMessageContaining("doesn't support consuming update");
    }

    /** Flink 2.3 asks what is to happen where it cannot prove that each key comes once. */
    @Test
    void aQueryWithoutTheKeyNeedsToSayWhatAConflictIs() {
        String statement = "INSERT INTO replica SELECT id, customerId, amount, address FROM appended";
        assertThatThrownBy(() -> util.getTableEnv().explainSql(statement)).hasMessageContaining("ON CONFLICT");
        util.getTableEnv().getConfig().set("table.exec.sink.require-on-conflict", "false");
        assertThat(util.getTableEnv().explainSql(statement)).contains("upsertMaterialize=[true]");
        util.getTableEnv().getConfig().set("table.exec.sink.upsert-materialize", "NONE");
        assertThat(util.getTableEnv().explainSql(statement)).doesNotContain("upsertMaterialize");
    }

    @Test
    void whatAConflictIsMayBeSaidInTheStatement() {
        isPlannedAsBefore(
                "INSERT INTO replica SELECT id, customerId, amount, address FROM appended ON CONFLICT DO DEDUPLICATE");
    }
}
