package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CatalogRequest;
import io.cosmosflink.core.CatalogRequest.Inference;
import io.cosmosflink.core.CatalogRequests;
import io.cosmosflink.core.ContainerInfo;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.ArrayList;
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
import org.apache.flink.table.catalog.exceptions.CatalogException;
import org.apache.flink.table.catalog.exceptions.TableAlreadyExistException;
import org.apache.flink.table.catalog.exceptions.TableNotExistException;
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
        assertThat(TableOptions.SECRETS.keySet()).containsExactlyInAnyOrderElementsOf(secrets);
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

    /** An account of one container, which is there or is created. */
    private static final class Account {
        final List<CatalogRequest> requests = new ArrayList<>();
        final CosmosDBCatalog catalog;
        ContainerInfo container;
        /** What the creation of a container answers. */
        String createdRid = "";

        Account() {
            this(Duration.ofHours(1));
        }

        Account(Duration cacheTtl) {
            Inference inference =
                    new Inference(1000, CatalogRequest.Numbers.AUTO, CatalogRequest.Conflict.STRING, false);
            catalog = new CosmosDBCatalog(
                    "shop",
                    "orders",
                    new CosmosDBCatalog.Settings(ACCOUNT, ACCOUNT, inference, cacheTtl),
                    () -> (Core) Proxy.newProxyInstance(
                            CosmosDBCatalogTest.class.getClassLoader(),
                            new Class<?>[] {Core.class},
                            (proxy, method, arguments) -> answer(method.getName(), (CatalogRequest) arguments[1])));
        }

        /** A container with this partition key, the id and the columns that documents are found to have. */
        static ContainerInfo container(String rid, String key) {
            ContainerInfo.Type text = new ContainerInfo.Type(ContainerInfo.Kind.STRING, false, 0, 0, null, List.of());
            List<ContainerInfo.Column> columns = List.of(
                    new ContainerInfo.Column("id", List.of("id"), text),
                    new ContainerInfo.Column(key, List.of(key), text));
            return new ContainerInfo(rid, 0, -1, -1, 1, List.of(List.of(key)), columns, List.of("id", key));
        }

        private Object answer(String method, CatalogRequest request) {
            requests.add(request);
            if (!method.equals("describe")) {
                return createdRid.isEmpty() ? List.of() : List.of(createdRid);
            }
            if (container == null) {
                throw new CosmosException("no such container", CosmosException.Kind.NOT_FOUND, 404, 0, "");
            }
            return CatalogRequests.sample(request) > 0
                    ? container
                    : new ContainerInfo(
                            container.rid(), container.defaultTtl(), -1, -1, 0, container.keys(), List.of(), List.of());
        }

        List<String> columns() throws Exception {
            return catalog.getTable(PATH).getUnresolvedSchema().getColumns().stream()
                    .map(Schema.UnresolvedColumn::getName)
                    .toList();
        }
    }

    private static final List<String> DECLARED =
            Tables.ORDERS.stream().map(Column::getName).toList();

    /** Without this the options of the statement would not count, and documents be replaced that were to be updated. */
    @Test
    void whatIsDeclaredOfAContainerThatIsThereCounts() throws Exception {
        Account account = new Account();
        account.container = Account.container("a", "customerId");
        ResolvedCatalogTable update = table(Tables.ORDERS, Tables.KEY, Map.of("sink.write-strategy", "bulk-update"));
        account.catalog.createTable(PATH, update, true);
        assertThat(account.columns()).isEqualTo(DECLARED);
        assertThat(account.catalog.getTable(PATH).getOptions()).containsEntry("sink.write-strategy", "bulk-update");
        // What the session has declared stays, as in any catalog.
        account.catalog.createTable(PATH, table(Tables.ORDERS, Tables.KEY, Map.of()), true);
        assertThat(account.catalog.getTable(PATH).getOptions()).containsEntry("sink.write-strategy", "bulk-update");
        assertThatThrownBy(() -> account.catalog.createTable(PATH, update, false))
                .isInstanceOf(TableAlreadyExistException.class);
        assertThat(account.requests).noneMatch(request -> CatalogRequests.action(request) == 7);
    }

    @Test
    void whatAContainerThatIsThereIsNotIsNamed() {
        Account account = new Account();
        account.container = Account.container("a", "tenant");
        ResolvedCatalogTable other = table(Tables.ORDERS, Tables.KEY, Map.of("default-ttl", "1 h"));
        assertThatThrownBy(() -> account.catalog.createTable(PATH, other, true))
                .isInstanceOf(CatalogException.class)
                .hasMessageContaining("its partition key is /tenant, and the one that is declared /customerId")
                .hasMessageContaining("its 'default-ttl' is off, and the one that is declared 3600 s");
    }

    /** The service may know nothing of a container for a while after it has created it. */
    @Test
    void aContainerThatIsNotSeenYetKeepsItsDeclaration() throws Exception {
        for (String rid : List.of("", "a")) {
            Account account = new Account();
            account.createdRid = rid;
            account.catalog.createTable(PATH, table(Tables.ORDERS, Tables.KEY, Map.of("scan.page-size", "7")), false);
            assertThatThrownBy(account::columns).isInstanceOf(TableNotExistException.class);
            account.container = Account.container("a", "customerId");
            assertThat(account.columns()).isEqualTo(DECLARED);
            assertThat(account.catalog.getTable(PATH).getOptions()).containsEntry("scan.page-size", "7");
        }
    }

    /** Once it was seen, another one in its place is another table. */
    @Test
    void whatWasDeclaredIsOfOneContainer() throws Exception {
        Account account = new Account(Duration.ZERO);
        account.catalog.createTable(PATH, table(Tables.ORDERS, Tables.KEY, Map.of()), false);
        account.container = Account.container("a", "customerId");
        assertThat(account.columns()).isEqualTo(DECLARED);
        account.container = Account.container("b", "customerId");
        assertThat(account.columns()).containsExactly("id", "customerId");
    }

    /** For its columns documents are read, and not anew because something else was asked of the container. */
    @Test
    void columnsStayKnownWhateverElseIsAsked() throws Exception {
        Account account = new Account();
        account.container = Account.container("a", "tenant");
        assertThat(account.columns()).containsExactly("id", "tenant");
        assertThatThrownBy(() -> account.catalog.createTable(PATH, table(Tables.ORDERS, Tables.KEY, Map.of()), false))
                .isInstanceOf(TableAlreadyExistException.class);
        account.catalog.getTableStatistics(PATH);
        assertThat(account.columns()).containsExactly("id", "tenant");
        assertThat(account.requests.stream().map(CatalogRequests::sample)).containsExactly(1000, 0);
        // Unless it is another one by now.
        account.container = Account.container("b", "user");
        assertThatThrownBy(() -> account.catalog.createTable(PATH, table(Tables.ORDERS, Tables.KEY, Map.of()), false))
                .isInstanceOf(TableAlreadyExistException.class);
        assertThat(account.columns()).containsExactly("id", "user");
    }
}
