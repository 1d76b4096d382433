package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.table.api.ValidationException;
import org.junit.jupiter.api.Test;

class TableOptionsTest {
    @Test
    void everyOptionOfTheCoreIsOneOfATable() {
        Set<String> core = NativeCore.get().optionTable().stream()
                .filter(option -> !option.group().equals("job"))
                .map(CoreOption::name)
                .collect(Collectors.toCollection(TreeSet::new));
        core.removeAll(TableOptions.SET_HERE);
        assertThat(TableOptions.all().map(ConfigOption::key)).containsExactlyInAnyOrderElementsOf(core);
    }

    @Test
    void whatHasAUnitInTheCoreHasOneInATable() {
        Set<String> units = NativeCore.get().optionTable().stream()
                .filter(option ->
                        option.type().startsWith("duration, ") || option.type().startsWith("size, "))
                .map(CoreOption::name)
                .collect(Collectors.toCollection(TreeSet::new));
        assertThat(units).isNotEmpty();
        TableOptions.all().forEach(option -> {
            Configuration table = Configuration.fromMap(Map.of(option.key(), "1 s"));
            Configuration sizes = Configuration.fromMap(Map.of(option.key(), "1 kb"));
            boolean hasUnit = isNumber(table, option) || isNumber(sizes, option);
            assertThat(hasUnit).as(option.key()).isEqualTo(units.contains(option.key()));
        });
    }

    private static boolean isNumber(Configuration table, ConfigOption<?> option) {
        try {
            Object value = table.get(option);
            return value instanceof Duration || value instanceof MemorySize;
        } catch (IllegalArgumentException e) {
            return false;
        }
    }

    @Test
    void aPartOfAMillisecondIsRefusedAndNotDropped() {
        Configuration table = Configuration.fromMap(Map.of("retry.throttled-deadline", "1500 µs"));
        assertThatThrownBy(() -> TableOptions.lookup(table))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("retry.throttled-deadline: '1500000 ns' has a fraction");
    }

    @Test
    void whatIsSecretFlinkDoesNotShow() {
        List<String> secrets = NativeCore.get().optionTable().stream()
                .filter(CoreOption::secret)
                .map(CoreOption::name)
                .toList();
        assertThat(secrets).isNotEmpty().allMatch(GlobalConfiguration::isSensitive);
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
                        "endpoint", "https://account.documents.azure.com:443/",
                        "request-timeout", "2000",
                        "scan.prefetch-size", "8388608",
                        "scan.page-size", "50",
                        "http2", "false",
                        "scan.startup.mode", "timestamp",
                        "scan.startup.timestamp-millis", "1767225600000",
                        "scan.bounded.mode", "latest"));
    }

    @Test
    void aQueryHasNoUseForWhatIsAboutTheFeed() {
        Configuration table = Configuration.fromMap(Map.of("scan.mode", "query", "scan.startup.mode", "latest"));
        assertThatThrownBy(() -> TableOptions.scan(table, true))
                .isInstanceOf(ValidationException.class)
                .hasMessageContaining("'scan.startup.mode'");

        Configuration ofBoth = Configuration.fromMap(
                Map.of("scan.startup.mode", "initial", "scan.change-feed.mode", "all-versions-and-deletes"));
        assertThat(TableOptions.scan(ofBoth, true)).isEqualTo(Map.of("scan.query", "SELECT * FROM c"));
    }

    @Test
    void noStatementHasTheOptionOfTheKey() {
        CosmosException core =
                new CosmosException("sink.key-fields lacks '/id'", CosmosException.Kind.CONFIG, 0, 0, "");
        assertThat(TableOptions.refused(core)).hasMessage("the primary key lacks '/id'");
    }

    @Test
    void earlierNamesAreRefusedWithThoseOfToday() {
        for (Map.Entry<String, String> name : Map.of(
                        "source.poll-interval-ms", "scan.poll-interval",
                        "cosmos.auth.key", "auth.secret-key",
                        "sink.max-batch-size", "sink.buffer-flush.max-rows",
                        "source.start", "scan.startup.mode")
                .entrySet()) {
            assertThatThrownBy(() -> TableOptions.refuseFormerNames(Set.of("connector", name.getKey())))
                    .isInstanceOf(ValidationException.class)
                    .hasMessageContaining("'" + name.getKey() + "' is now '" + name.getValue() + "'");
        }
        TableOptions.refuseFormerNames(TableOptions.all().map(ConfigOption::key).toList());
    }

    @Test
    void noOptionIsThereTwice() {
        assertThat(TableOptions.all().map(ConfigOption::key)).doesNotHaveDuplicates();
    }
}
