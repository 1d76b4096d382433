package io.cosmosflink.connector.cosmosdb.table.plans;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.TableConfig;
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
 * where there is state. Nothing is read. A plan that is not in the file is added to it by the test: to write one anew, delete it there.
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
        create(util.getTableEnv(), "documents", COLUMNS + KEYED, ", 'scan.mode' = 'query'");
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
