package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Map;
import java.util.Set;
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
                .containsEntry("cosmos.endpoint", "https://private.documents.azure.com:443/")
                .containsEntry("cosmos.auth.key-file", "/run/secrets/new-key")
                .containsEntry("cosmos.container", "events")
                .containsEntry("source.page-size", "7");
        assertThat(source.getChangelogMode()).isNotEqualTo(ChangelogMode.insertOnly());
        assertThat(source.plan())
                .isNotEqualTo(Tables.source(Tables.ORDERS, Tables.KEY, Map.of()).plan())
                .isEqualTo(Tables.source(Tables.ORDERS, Tables.KEY, Map.of("json.on-error", "null-field"))
                        .plan());
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
