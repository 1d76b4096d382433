package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.catalog.ObjectIdentifier;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.factories.FactoryUtil;
import org.junit.jupiter.api.Test;

class ForwardedOptionsTest {
    @Test
    void eachIsAnOptionOfATable() {
        Set<String> forwarded = new CosmosDBDynamicTableFactory()
                .forwardOptions().stream().map(option -> option.key()).collect(Collectors.toSet());
        assertThat(forwarded).isEqualTo(ForwardedOptions.NAMES);
    }

    /** The plan says what is read, and the table as it is now how. */
    @Test
    void aPlanKeepsWhatItReads() {
        CosmosDBDynamicSource source = (CosmosDBDynamicSource) FactoryUtil.createDynamicTableSource(
                null,
                ObjectIdentifier.of("catalog", "database", "orders"),
                Tables.table(Tables.ORDERS, Tables.KEY, Map.of("scan.page-size", "100", "json.on-error", "fail")),
                Map.of(
                        "connector", "cosmosdb",
                        "endpoint", "https://private.documents.azure.com:443/",
                        "database", "orders",
                        "container", "others",
                        "auth.key-file", "/run/secrets/new-key",
                        "scan.page-size", "7",
                        "scan.changelog-mode", "append",
                        "json.on-error", "null-field"),
                new Configuration(),
                getClass().getClassLoader(),
                false);
        assertThat(source.options())
                .containsEntry("endpoint", "https://private.documents.azure.com:443/")
                .containsEntry("auth.key-file", "/run/secrets/new-key")
                .containsEntry("container", "events")
                .containsEntry("scan.page-size", "7");
        assertThat(source.getChangelogMode()).isNotEqualTo(ChangelogMode.insertOnly());
        assertThat(source.plan())
                .isNotEqualTo(Tables.source(Tables.ORDERS, Tables.KEY, Map.of()).plan())
                .isEqualTo(Tables.source(Tables.ORDERS, Tables.KEY, Map.of("json.on-error", "null-field"))
                        .plan());
    }

    private static Map<String, String> identity(Map<String, String> planned, Map<String, String> now) {
        Map<String, String> all = new TreeMap<>(now);
        all.putAll(Map.of(
                "connector", "cosmosdb",
                "endpoint", "https://account.documents.azure.com:443/",
                "database", "orders",
                "container", "events",
                "scan.page-size", "7"));
        // What stands in the plan, with the file of all tables of the tests in it.
        Map<String, String> options = new TreeMap<>(planned);
        options.put("scan.page-size", "100");
        CosmosDBDynamicSource source = (CosmosDBDynamicSource) FactoryUtil.createDynamicTableSource(
                null,
                ObjectIdentifier.of("catalog", "database", "orders"),
                Tables.table(Tables.ORDERS, Tables.KEY, options),
                all,
                new Configuration(),
                ForwardedOptionsTest.class.getClassLoader(),
                false);
        assertThat(source.options()).containsEntry("scan.page-size", "7").containsEntry("container", "events");
        Map<String, String> found = new TreeMap<>(source.options());
        found.keySet().removeIf(name -> !name.startsWith("auth."));
        return found;
    }

    /** A secret that went into a file, or out of one, must not be there twice. */
    @Test
    void anIdentityIsTakenWhole() {
        Map<String, String> file = Map.of("auth.key-file", "/run/secrets/cosmos-key");
        Map<String, String> secret = Map.of("auth.secret-key", "c2VjcmV0");
        assertThat(identity(Map.of(), secret)).isEqualTo(secret);
        Map<String, String> principal = Map.of(
                "auth.type", "client-secret",
                "auth.tenant-id", "t",
                "auth.client-id", "i",
                "auth.client-secret-file", "/run/secrets/client");
        assertThat(identity(Map.of(), principal)).isEqualTo(principal);
        assertThat(identity(principal, file)).isEqualTo(file);
        // Where the table says nothing of it, the plan's counts.
        assertThat(identity(Map.of(), Map.of())).isEqualTo(file);
    }

    @Test
    void whatRowsAndStateAreIsThePlans() {
        assertThat(ForwardedOptions.NAMES)
                .doesNotContain(
                        "connector",
                        "database",
                        "container",
                        "scan.mode",
                        "scan.change-feed.mode",
                        "scan.changelog-mode",
                        "scan.query",
                        "scan.bounded.mode",
                        "sink.write-strategy",
                        "sink.delete-mode");
    }
}
