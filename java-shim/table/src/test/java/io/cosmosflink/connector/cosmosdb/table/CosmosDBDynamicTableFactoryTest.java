package io.cosmosflink.connector.cosmosdb.table;

import static io.cosmosflink.connector.cosmosdb.table.Tables.KEY;
import static io.cosmosflink.connector.cosmosdb.table.Tables.ORDERS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.RowPlan.Field;
import io.cosmosflink.core.RowPlan.Type;
import java.util.List;
import java.util.Map;
import java.util.ServiceLoader;
import java.util.TreeMap;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.lookup.AsyncLookupFunctionProvider;
import org.apache.flink.table.connector.source.lookup.LookupFunctionProvider;
import org.apache.flink.table.factories.Factory;
import org.apache.flink.table.runtime.connector.source.LookupRuntimeProviderContext;
import org.apache.flink.table.types.DataType;
import org.apache.flink.types.RowKind;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CosmosDBDynamicTableFactoryTest {
    private static final Map<String, String> NOTHING = Map.of();
    private static final Map<String, String> DELETES =
            Map.of("scan.change-feed.mode", "all-versions-and-deletes", "scan.startup.mode", "initial");
    private static final ChangelogMode WITHOUT_DELETES = ChangelogMode.newBuilder()
            .addContainedKind(RowKind.INSERT)
            .addContainedKind(RowKind.UPDATE_AFTER)
            .build();

    @Test
    void flinkFindsIt() {
        assertThat(ServiceLoader.load(Factory.class))
                .filteredOn(factory -> factory.factoryIdentifier().equals("cosmosdb"))
                .hasSize(2)
                .hasOnlyElementsOfTypes(CosmosDBDynamicTableFactory.class, CosmosDBCatalogFactory.class);
    }

    @Test
    void whatIsReadDecidesTheChangelog() {
        assertThat(Tables.source(ORDERS, KEY, NOTHING).getChangelogMode()).isEqualTo(WITHOUT_DELETES);
        assertThat(Tables.source(ORDERS, List.of(), NOTHING).getChangelogMode()).isEqualTo(ChangelogMode.insertOnly());
        assertThat(Tables.source(ORDERS, KEY, Map.of("scan.changelog-mode", "append"))
                        .getChangelogMode())
                .isEqualTo(ChangelogMode.insertOnly());
        assertThat(Tables.source(ORDERS, KEY, Map.of("scan.mode", "query")).getChangelogMode())
                .isEqualTo(ChangelogMode.insertOnly());

        ChangelogMode deletes = Tables.source(ORDERS, KEY, DELETES).getChangelogMode();
        assertThat(deletes).isEqualTo(ChangelogMode.upsert());
        assertThat(deletes.keyOnlyDeletes()).isTrue();
    }

    @Test
    void aBatchJobReadsByAQuery() {
        Configuration batch = new Configuration().set(ExecutionOptions.RUNTIME_MODE, RuntimeExecutionMode.BATCH);
        CosmosDBDynamicSource source = Tables.source(ORDERS, KEY, DELETES, batch);
        assertThat(source.getChangelogMode()).isEqualTo(ChangelogMode.insertOnly());
        assertThat(source.options())
                .containsEntry("scan.query", "SELECT * FROM c")
                .doesNotContainKey("scan.change-feed.mode");
        source.applyLimit(7);
        assertThat(source.options()).containsEntry("scan.query", "SELECT TOP 7 * FROM c");
        assertThat(((CosmosDBDynamicSource) source.copy()).options()).isEqualTo(source.options());
    }

    @Test
    void aLimitLeavesAQueryOfTheTablesOwnAlone() {
        CosmosDBDynamicSource source = Tables.source(ORDERS, KEY, Map.of("scan.query", "SELECT * FROM c WHERE c.open"));
        source.applyLimit(7);
        assertThat(source.options()).containsEntry("scan.query", "SELECT * FROM c WHERE c.open");

        CosmosDBDynamicSource skipping =
                Tables.source(ORDERS, KEY, Map.of("scan.mode", "query", "json.on-error", "skip-row"));
        skipping.applyLimit(7);
        assertThat(skipping.options())
                .containsEntry("scan.query", "SELECT * FROM c")
                .containsEntry("json.on-error", "skip-row");
    }

    @Test
    void anEarlierNameOfAnOptionIsRefusedWithTheOneOfToday() {
        assertThatThrownBy(() -> Tables.source(ORDERS, KEY, Map.of("source.poll-interval-ms", "100")))
                .rootCause()
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("'source.poll-interval-ms' is now 'scan.poll-interval'");
        assertThatThrownBy(() -> Tables.sink(ORDERS, KEY, Map.of("sink.max-batch-size", "100")))
                .rootCause()
                .hasMessageContaining("'sink.max-batch-size' is now 'sink.buffer-flush.max-rows'");
    }

    @Test
    void deletesNeedAKey() {
        assertThatThrownBy(() -> Tables.source(ORDERS, List.of(), DELETES))
                .rootCause()
                .isInstanceOf(ValidationException.class)
                .hasMessageContainingAll("primary key", "'scan.changelog-mode'");
        Map<String, String> log = new TreeMap<>(DELETES);
        log.put("scan.changelog-mode", "append");
        assertThat(Tables.source(ORDERS, List.of(), log).getChangelogMode()).isEqualTo(ChangelogMode.insertOnly());
        assertThatThrownBy(() -> Tables.source(ORDERS, List.of(), Map.of("scan.changelog-mode", "upsert")))
                .rootCause()
                .hasMessageContaining("no primary key");
    }

    @Test
    void thePlanIsOfTheColumns() {
        CosmosDBDynamicSource source = Tables.source(
                ORDERS, KEY, Map.of("fields.amount.path", "/total/a~1b", "json.fail-on-missing-field", "true"));
        Type address =
                Type.row(List.of(new Field("city", Type.string(true)), new Field("zip", Type.integer(true))), true);
        assertThat(source.plan())
                .isEqualTo(upserts(true)
                        .path("/id", List.of("id"), Type.string(false))
                        .path("/customerId", List.of("customerId"), Type.string(false))
                        .path("/total/a~1b", List.of("total", "a/b"), Type.decimal(20, 2, true))
                        .path("/address", List.of("address"), address)
                        .frame());
    }

    @Test
    void thePlanHasWhatTheQueryAsksFor() {
        CosmosDBDynamicSource source = Tables.source(ORDERS, KEY, NOTHING);
        DataType projected = DataTypes.ROW(
                DataTypes.FIELD("zip", DataTypes.INT()),
                DataTypes.FIELD("id", DataTypes.STRING().notNull()));
        source.applyProjection(new int[][] {{3, 1}, {0}}, projected);
        List<String> keys = List.of("etag", "document", "operation", "container", "timestamp");
        DataType produced = DataTypes.ROW(
                DataTypes.FIELD("zip", DataTypes.INT()),
                DataTypes.FIELD("id", DataTypes.STRING().notNull()),
                DataTypes.FIELD("$etag", DataTypes.STRING()),
                DataTypes.FIELD("$document", DataTypes.STRING()),
                DataTypes.FIELD("$operation", DataTypes.STRING().notNull()),
                DataTypes.FIELD("$container", DataTypes.STRING().notNull()),
                DataTypes.FIELD("$timestamp", DataTypes.TIMESTAMP_LTZ(3)));
        source.applyReadableMetadata(keys, produced);
        byte[] expected = upserts(false)
                .path("/address/zip", List.of("address", "zip"), Type.integer(true))
                .path("/id", List.of("id"), Type.string(false))
                .path("etag", List.of("_etag"), Type.string(true))
                .path("document", List.of(), Type.rawJson(true))
                .metadata("operation", RowPlan.Metadata.OPERATION, Type.string(false))
                .constant("container", "events")
                .metadata("timestamp", RowPlan.Metadata.TIMESTAMP, Type.instant(3, true))
                .frame();
        assertThat(source.plan()).isEqualTo(expected);
        assertThat(((CosmosDBDynamicSource) source.copy()).plan()).isEqualTo(expected);
    }

    @Test
    void aCountAsksForNoColumn() {
        CosmosDBDynamicSource source = Tables.source(ORDERS, KEY, NOTHING);
        source.applyProjection(new int[0][], DataTypes.ROW());
        assertThat(source.plan()).isEqualTo(upserts(false).frame());
    }

    private static RowPlan upserts(boolean failOnMissing) {
        return new RowPlan(
                failOnMissing,
                RowPlan.OnError.FAIL,
                RowPlan.TimestampFormat.ISO_8601,
                RowPlan.TimestampUnit.NONE,
                RowPlan.Changelog.UPSERT);
    }

    @ParameterizedTest
    @ValueSource(strings = {"fields.colour.path", "fields.id.form", "fields..path"})
    void aPathOfNoColumnIsRefused(String option) {
        assertThatThrownBy(() -> Tables.source(ORDERS, KEY, Map.of(option, "/a")))
                .rootCause()
                .hasMessageContainingAll("'" + option + "'", "id, customerId, amount, address");
    }

    @ParameterizedTest
    @ValueSource(strings = {"amount", "/a~2", "/a~"})
    void aPathThatIsNoPointerIsRefused(String path) {
        assertThatThrownBy(() -> Tables.source(ORDERS, KEY, Map.of("fields.amount.path", path)))
                .rootCause()
                .hasMessageContainingAll("'fields.amount.path'", "'" + path + "'", "JSON pointer");
    }

    @Test
    void aTypeThatNoJsonIsReadAsIsRefused() {
        List<Column> columns = List.of(
                Column.physical("id", DataTypes.STRING()),
                Column.physical("took", DataTypes.ARRAY(DataTypes.INTERVAL(DataTypes.SECOND()))));
        assertThatThrownBy(() -> Tables.source(columns, List.of(), NOTHING))
                .rootCause()
                .hasMessageContainingAll("'took'", "INTERVAL SECOND");
    }

    @Test
    void unknownOptionsAreRefusedAndFlinksOwnTaken() {
        assertThatThrownBy(() -> Tables.source(ORDERS, KEY, Map.of("scan.pagesize", "5")))
                .rootCause()
                .hasMessageContainingAll("scan.pagesize", "scan.page-size");
        Tables.source(
                ORDERS,
                KEY,
                Map.of(
                        "scan.watermark.idle-timeout", "5 s",
                        "scan.watermark.emit.strategy", "on-event",
                        "scan.parallelism", "2",
                        "sink.parallelism", "2"));
    }

    @Test
    void rowsThatAreUpdatedAreToldApartByIdAndKey() {
        List<Column> columns = List.of(
                Column.metadata("rid", DataTypes.STRING(), null, true),
                Column.physical("amount", DataTypes.INT()),
                Column.physical("orderId", DataTypes.STRING().notNull()),
                Column.physical("customerId", DataTypes.STRING().notNull()));
        Map<String, String> paths = Map.of("fields.orderId.path", "/id", "fields.customerId.path", "/c/id");
        CosmosDBDynamicSource source = Tables.source(columns, List.of("orderId", "customerId"), paths);
        assertThat(source.options()).containsEntry("scan.key-fields", "[\"/id\",\"/c/id\"]");
        assertThatThrownBy(() ->
                        Tables.source(columns, List.of("customerId"), paths).getScanRuntimeProvider(null))
                .isInstanceOf(ValidationException.class)
                .hasMessageContainingAll("primary key lacks the id", "'scan.changelog-mode'");
        CosmosDBDynamicSource appending =
                Tables.source(ORDERS, List.of("customerId"), Map.of("scan.changelog-mode", "append"));
        assertThat(appending.options()).doesNotContainKey("scan.key-fields");
    }

    @Test
    void anIdThatIsMadeOfTheKeyIsInIt() {
        Map<String, String> made = Map.of("sink.id", "{customerId}-{amount}");
        assertThatThrownBy(
                        () -> Tables.source(ORDERS, List.of("customerId"), made).getScanRuntimeProvider(null))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("primary key lacks the id");
        List<List<String>> key = List.of(List.of("a"), List.of("b", "c"));
        assertThat(CosmosDBDynamicTableFactory.isMadeOf("{a}-{b/c}", key)).isTrue();
        assertThat(CosmosDBDynamicTableFactory.isMadeOf("hash(a, b/c)", key)).isTrue();
        assertThat(CosmosDBDynamicTableFactory.isMadeOf("hash(a,b)", key)).isFalse();
        assertThat(CosmosDBDynamicTableFactory.isMadeOf("{a}{d}", key)).isFalse();
    }

    @Test
    void joinsByDifferentKeysAreNotShuffledByOnes() {
        CosmosDBDynamicSource source = Tables.source(ORDERS, KEY, NOTHING);
        assertThat(source.lookedUpBy()).isEmpty();
        source.getLookupRuntimeProvider(byColumn(1));
        source.getLookupRuntimeProvider(byColumn(1));
        assertThat(source.lookedUpBy())
                .hasValueSatisfying(keys -> assertThat(keys).hasSize(1));
        source.getLookupRuntimeProvider(byColumn(0));
        source.getLookupRuntimeProvider(byColumn(0));
        assertThat(source.lookedUpBy()).isEmpty();
        assertThat(((CosmosDBDynamicSource) source.copy()).lookedUpBy()).isEmpty();
    }

    /** Flink also asks when it plans a join that is none: only one that looks up must fail. */
    @Test
    void whatCannotBeLookedUpIsRefusedWhereItIs() {
        CosmosDBDynamicSource documents = Tables.source(ORDERS, KEY, NOTHING);
        assertThat(documents.getLookupRuntimeProvider(byColumn(1))).isInstanceOf(AsyncLookupFunctionProvider.class);
        CosmosDBDynamicSource others = Tables.source(ORDERS, KEY, Map.of("scan.query", "SELECT * FROM c WHERE c.open"));
        isRefused(others.getLookupRuntimeProvider(byColumn(1)), "'scan.query' are not the documents");
        isRefused(documents.getLookupRuntimeProvider(byColumn(3)), "its column 'address' of type");
        CosmosDBDynamicSource wrong = Tables.source(ORDERS, KEY, Map.of("lookup.batch.max-size", "0"));
        isRefused(wrong.getLookupRuntimeProvider(byColumn(1)), "lookup.batch.max-size");
    }

    private static LookupTableSource.LookupContext byColumn(int column) {
        return new LookupRuntimeProviderContext(new int[][] {{column}}, false);
    }

    private static void isRefused(LookupTableSource.LookupRuntimeProvider provider, String why) {
        assertThat(provider).isInstanceOfSatisfying(LookupFunctionProvider.class, refusing -> assertThatThrownBy(
                        refusing::createLookupFunction)
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining(why));
    }

    @Test
    void columnsThatStandInEachOthersWayAreNotWritten() {
        for (List<String> paths : List.of(List.of("/a", "/a/b"), List.of("/a/b", "/a"), List.of("/a/b", "/a/b"))) {
            assertThatThrownBy(() -> Tables.sink(
                            ORDERS,
                            KEY,
                            Map.of("fields.amount.path", paths.get(0), "fields.address.path", paths.get(1))))
                    .rootCause()
                    .hasMessageContainingAll("column 'amount'", "column 'address'", "a field is one column");
        }
        assertThatThrownBy(() -> Tables.sink(ORDERS, KEY, Map.of("fields.amount.path", "")))
                .rootCause()
                .hasMessageContaining("there are others: id, customerId, amount, address");
        assertThatThrownBy(() -> Tables.sink(
                        ORDERS, KEY, Map.of("sink.delete-mode", "soft", "sink.soft-delete.field", "customerId")))
                .rootCause()
                .hasMessageContaining("'/customerId' is a column already");
    }

    @Test
    void whatJsonDoesNotHaveIsNotWritten() {
        for (DataType type :
                List.of(DataTypes.INTERVAL(DataTypes.SECOND()), DataTypes.MAP(DataTypes.INT(), DataTypes.INT()))) {
            List<Column> columns =
                    List.of(Column.physical("id", DataTypes.STRING()), Column.physical("odd", DataTypes.ARRAY(type)));
            assertThatThrownBy(() -> Tables.sink(columns, List.of(), NOTHING))
                    .rootCause()
                    .hasMessageContainingAll("'odd'", "cast");
        }
    }

    @Test
    void aSinkTakesUpdatesByKey() {
        assertThat(Tables.sink(ORDERS, KEY, NOTHING).getChangelogMode(ChangelogMode.all()))
                .isEqualTo(ChangelogMode.upsert());
        assertThat(Tables.sink(ORDERS, List.of(), NOTHING).getChangelogMode(ChangelogMode.all()))
                .isEqualTo(ChangelogMode.insertOnly());
    }

    @Test
    void whatIsWrittenHasAnId() {
        List<Column> columns = List.of(
                Column.physical("orderId", DataTypes.STRING().notNull()),
                Column.physical("customerId", DataTypes.STRING().notNull()));
        assertThatThrownBy(() -> Tables.sink(columns, List.of(), NOTHING))
                .rootCause()
                .hasMessageContainingAll("'sink.id'", "'/id'");
        assertThatThrownBy(() -> Tables.sink(columns, List.of("customerId"), Map.of("fields.orderId.path", "/id")))
                .rootCause()
                .hasMessageContainingAll("primary key", "id");
        Tables.sink(columns, List.of("orderId", "customerId"), Map.of("fields.orderId.path", "/id"));
        Tables.sink(columns, List.of("customerId"), Map.of("sink.id", "{customerId}-{orderId}"));
        assertThatThrownBy(() -> Tables.sink(ORDERS, KEY, Map.of("sink.write-strategy", "delete")))
                .rootCause()
                .hasMessageContaining("'sink.write-strategy'");
    }
}
