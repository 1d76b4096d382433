package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.table.api.ValidationException;
import org.junit.jupiter.api.Test;

class TableOptionsTest {
    @Test
    void everyOptionOfTheCoreIsOneOfATable() {
        Set<String> core = NativeCore.get().optionTable().stream()
                .filter(option -> !option.group().equals("job"))
                .map(CoreOption::name)
                .collect(Collectors.toCollection(TreeSet::new));
        core.removeAll(TableOptions.OTHERWISE);
        assertThat(TableOptions.names().values()).containsExactlyInAnyOrderElementsOf(core);
    }

    @Test
    void whatIsSecretFlinkDoesNotShow() {
        Map<String, String> names = TableOptions.names();
        List<String> secrets = NativeCore.get().optionTable().stream()
                .filter(CoreOption::secret)
                .map(CoreOption::name)
                .toList();
        assertThat(secrets).isNotEmpty();
        names.forEach((table, core) -> {
            if (secrets.contains(core)) {
                assertThat(GlobalConfiguration.isSensitive(table)).as(table).isTrue();
            }
        });
    }

    @Test
    void durationsAndSizesHaveUnits() {
        Configuration table = Configuration.fromMap(Map.of(
                "endpoint", "https://account.documents.azure.com:443/",
                "request-timeout", "2 s",
                "scan.prefetch-size", "8 mb",
                "scan.page-size", "50",
                "http2", "false",
                "scan.startup.mode", "Timestamp",
                "scan.startup.timestamp-millis", "1767225600000",
                "scan.bounded.mode", "latest"));
        assertThat(TableOptions.scan(table, false))
                .containsExactlyInAnyOrderEntriesOf(Map.of(
                        "cosmos.endpoint", "https://account.documents.azure.com:443/",
                        "cosmos.request-timeout-ms", "2000",
                        "source.prefetch-bytes", "8388608",
                        "source.page-size", "50",
                        "cosmos.http2", "false",
                        "source.start", "2026-01-01T00:00:00Z",
                        "source.stop", "start"));
    }

    @Test
    void aTimestampThatIsMissingIsAskedFor() {
        Configuration table = Configuration.fromMap(Map.of("scan.bounded.mode", "timestamp"));
        assertThatThrownBy(() -> TableOptions.scan(table, false))
                .isInstanceOf(ValidationException.class)
                .hasMessageContainingAll("'scan.bounded.mode'", "'scan.bounded.timestamp-millis'");
    }

    @Test
    void aQueryHasNoUseForWhatIsAboutTheFeed() {
        Configuration table = Configuration.fromMap(Map.of("scan.mode", "query", "scan.startup.mode", "latest"));
        assertThatThrownBy(() -> TableOptions.scan(table, true))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("'scan.startup.mode'");

        Configuration ofBoth = Configuration.fromMap(
                Map.of("scan.startup.mode", "initial", "scan.change-feed.mode", "all-versions-and-deletes"));
        assertThat(TableOptions.scan(ofBoth, true)).isEqualTo(Map.of("source.query", "SELECT * FROM c"));
    }

    @Test
    void theCoreSpeaksOfTheOptionsOfTheTable() {
        CosmosException core = new CosmosException(
                "source.min-poll-interval-ms exceeds source.poll-interval-ms; sink.id, cosmos.auth.key",
                CosmosException.Kind.CONFIG,
                0,
                0,
                "");
        assertThat(TableOptions.refused(core))
                .hasMessage("scan.min-poll-interval exceeds scan.poll-interval; sink.id, auth.secret-key");
    }

    @Test
    void noOptionIsThereTwice() {
        assertThat(TableOptions.all().map(ConfigOption::key)).doesNotHaveDuplicates();
    }
}
