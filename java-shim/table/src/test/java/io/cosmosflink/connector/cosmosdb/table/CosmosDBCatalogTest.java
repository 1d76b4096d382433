package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.ContainerInfo;
import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.NativeCore;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Catalog;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.catalog.ResolvedCatalogTable;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.catalog.UniqueConstraint;
import org.apache.flink.table.factories.FactoryUtil;
import org.junit.jupiter.api.Test;

/** What a catalog and its tables are made of, without an account. */
class CosmosDBCatalogTest {
    private static final ObjectPath PATH = new ObjectPath("orders", "events");
    private static final String SECRET = "c2VjcmV0IHRoYXQgbm9ib2R5IHNlZXM=";

    private static final Map<String, String> ACCOUNT =
            Map.of("endpoint", "https://account.documents.azure.com:443/", "auth.key-file", "/run/secrets/cosmos-key");

    private static Catalog catalog(Map<String, String> options) {
        Map<String, String> all = new TreeMap<>(Map.of(
                "type", "cosmosdb",
                "endpoint", "https://account.documents.azure.com:443/",
                "default-database", "orders",
                "auth.key-file", "/run/secrets/cosmos-key"));
        all.putAll(options);
        return FactoryUtil.createCatalog("shop", all, new Configuration(), CosmosDBCatalogTest.class.getClassLoader());
    }

    // The constructor that every supported Flink has.
    @SuppressWarnings("deprecation")
    private static ResolvedCatalogTable table(List<Column> columns, List<String> key, Map<String, String> options) {
        UniqueConstraint primaryKey = key.isEmpty() ? null : UniqueConstraint.primaryKey("pk", key);
        ResolvedSchema schema = new ResolvedSchema(columns, List.of(), primaryKey);
        CatalogTable table = CatalogTable.newBuilder()
                .schema(Schema.newBuilder().fromResolvedSchema(schema).build())
                .options(options)
                .build();
        return new ResolvedCatalogTable(table, schema);
    }

    private static NewContainer container(List<String> key, Map<String, String> options) {
        return NewContainer.of(PATH, table(Tables.ORDERS, key, options), ACCOUNT);
    }

    private static void isRefused(List<String> key, Map<String, String> options, String why) {
        assertThatThrownBy(() -> container(key, options))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining(why);
    }

    @Test
    void aCatalogHasTheOptionsOfAnAccount() {
        assertThat(catalog(Map.of("preferred-regions", "West Europe", "retry.max-attempts", "3"))
                        .getDefaultDatabase())
                .isEqualTo("orders");
        for (Map<String, String> wrong : List.of(
                Map.of("container", "events"),
                Map.of("scan.mode", "query"),
                Map.of("infer.numbers", "some"),
                Map.of("infer.sample-size", "0"))) {
            assertThatThrownBy(() -> catalog(wrong))
                    .cause()
                    .message()
                    .contains(wrong.keySet().iterator().next())
                    .doesNotContain(SECRET);
        }
    }

    /** Flink shows what a catalog was created with. */
    @Test
    void aCatalogTakesNoSecret() {
        for (String secret : TableOptions.SECRETS.keySet()) {
            assertThatThrownBy(() -> catalog(Map.of(secret, SECRET))).satisfies(e -> {
                assertThat(e.getCause()).hasMessageContaining("takes no '" + secret + "'");
                for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                    assertThat(String.valueOf(cause.getMessage())).doesNotContain(SECRET);
                }
            });
        }
        List<String> secrets = NativeCore.get().optionTable().stream()
                .filter(CoreOption::secret)
                .map(CoreOption::name)
                .toList();
        assertThat(TableOptions.SECRETS.keySet().stream().map(TableOptions.names()::get))
                .containsExactlyInAnyOrderElementsOf(secrets);
    }

    @Test
    void aContainerHasItsPartitionKeyFromThePrimaryKey() {
        assertThat(container(Tables.KEY, Map.of()).keys()).containsExactly("/customerId");
        assertThat(container(List.of("id"), Map.of()).keys()).containsExactly("/id");
        Map<String, String> nested = Map.of("fields.customerId.path", "/customer/the id");
        assertThat(container(Tables.KEY, nested).keys()).containsExactly("/customer/\"the id\"");
        Map<String, String> given = Map.of("partition-key.paths", "/tenant, /user");
        assertThat(container(List.of(), given).keys()).containsExactly("/tenant", "/user");
        assertThat(container(Tables.KEY, Map.of("partition-key.paths", "/customerId"))
                        .keys())
                .containsExactly("/customerId");
        isRefused(List.of(), Map.of(), "it has no primary key");
        isRefused(List.of("customerId"), Map.of(), "the primary key (customerId) lacks the id");
        isRefused(Tables.KEY, Map.of("sink.id", "{customerId}"), "its id is made of columns");
        isRefused(Tables.KEY, Map.of("partition-key.paths", "/tenant"), "the primary key must be the id and");
        isRefused(List.of("id", "address"), Map.of(), "column 'address' of the primary key is of type");
        isRefused(List.of(), Map.of("partition-key.paths", "tenant"), "paths such as /customerId");
        isRefused(List.of(), Map.of("partition-key.paths", "/a,"), "paths such as /customerId");
        isRefused(List.of(), Map.of("partition-key.paths", "/a,/a"), "1 to 3 different paths");
        isRefused(List.of(), Map.of("partition-key.paths", "/a,/b,/c,/d"), "1 to 3 different paths");
    }

    @Test
    void rowsAreFoundByTheirKeys() {
        ContainerInfo.Type text = new ContainerInfo.Type(ContainerInfo.Kind.STRING, false, 0, 0, null, List.of());
        List<ContainerInfo.Column> columns = List.of(
                new ContainerInfo.Column("id", List.of("id"), text),
                new ContainerInfo.Column("customer_id", List.of("customer", "id"), text));
        ContainerInfo container = new ContainerInfo(
                "rid", 0, -1, -1, 1, List.of(List.of("customer", "id")), columns, List.of("id", "customer_id"));
        CatalogTable table = InferredTable.of(PATH, container, ACCOUNT);
        assertThat(table.getUnresolvedSchema().getIndexes().stream().map(Schema.UnresolvedIndex::getColumnNames))
                .containsExactly(List.of("customer_id"), List.of("id", "customer_id"));
        assertThat(table.getOptions())
                .containsEntry("fields.customer_id.path", "/customer/id")
                .containsEntry("endpoint", ACCOUNT.get("endpoint"));
        ContainerInfo keyless = new ContainerInfo("rid", 0, -1, -1, 1, container.keys(), columns, List.of());
        assertThat(InferredTable.of(PATH, keyless, ACCOUNT)
                        .getUnresolvedSchema()
                        .getIndexes())
                .isEmpty();
    }

    @Test
    void aContainerHasItsTimeToLiveAndThroughput() {
        assertThat(container(Tables.KEY, Map.of()).defaultTtl()).isZero();
        assertThat(container(Tables.KEY, Map.of("default-ttl", "on")).defaultTtl())
                .isEqualTo(-1);
        assertThat(container(Tables.KEY, Map.of("default-ttl", "30 d")).defaultTtl())
                .isEqualTo(30 * 86_400);
        for (String wrong : List.of("never", "0 s", "10 ms", "-1")) {
            isRefused(Tables.KEY, Map.of("default-ttl", wrong), "'default-ttl' is '" + wrong + "'");
        }
        assertThat(container(Tables.KEY, Map.of("throughput.autoscale-max", "4000"))
                        .throughput()
                        .autoscale())
                .isEqualTo(4000);
        isRefused(Tables.KEY, Map.of("throughput", "0"), "'throughput' is 0");
        isRefused(Tables.KEY, Map.of("throughput", "400", "throughput.autoscale-max", "4000"), "are both set");
    }

    @Test
    void aTableKeepsItsOwnOptionsAlone() {
        CatalogTable kept = container(
                        Tables.KEY,
                        Map.of(
                                "connector", "cosmosdb",
                                "container", "another-one",
                                "endpoint", "https://account.documents.azure.com:443/",
                                "scan.mode", "query",
                                "throughput", "400",
                                "partition-key.paths", "/customerId"))
                .table();
        assertThat(kept.getOptions())
                .isEqualTo(Map.of(
                        "connector", "cosmosdb",
                        "endpoint", "https://account.documents.azure.com:443/",
                        "auth.key-file", "/run/secrets/cosmos-key",
                        "database", "orders",
                        "container", "events",
                        "scan.mode", "query"));
        assertThat(kept.getUnresolvedSchema().getColumns()).hasSize(Tables.ORDERS.size());
        isRefused(
                Tables.KEY,
                Map.of("endpoint", "https://other.documents.azure.com:443/", "auth.secret-key", "x"),
                "('auth.secret-key', 'endpoint')");
        isRefused(Tables.KEY, Map.of("scan.modus", "query"), "'scan.modus' are not known");
        isRefused(Tables.KEY, Map.of("fields.none.path", "/a"), "is of no column");
        ResolvedCatalogTable partitioned =
                table(List.of(Column.physical("id", DataTypes.STRING().notNull())), List.of("id"), Map.of());
        CatalogTable by = CatalogTable.newBuilder()
                .schema(partitioned.getUnresolvedSchema())
                .partitionKeys(List.of("id"))
                .build();
        assertThatThrownBy(() ->
                        NewContainer.of(PATH, new ResolvedCatalogTable(by, partitioned.getResolvedSchema()), ACCOUNT))
                .hasMessageContaining("leave PARTITIONED BY");
    }
}
