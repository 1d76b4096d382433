package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.flink.table.connector.ChangelogMode;
import org.junit.jupiter.api.Test;

/** On each version of Flink: what it has, and that the connector finds it. */
class SinceFlinkTest {
    @Test
    void thePageNamesWhatIsNewer() throws IOException {
        String page = Files.readString(Path.of("../../docs/sql.md"));
        List<String> rows = Pattern.compile("^\\| (.+) \\| (\\d+\\.\\d+) \\| .+ \\|$", Pattern.MULTILINE)
                .matcher(page.substring(page.indexOf("## Flink 1.20")))
                .results()
                .map(row -> row.group(1) + " since " + row.group(2))
                .toList();
        assertThat(rows)
                .containsExactlyElementsOf(Arrays.stream(SinceFlink.values())
                        .map(newer -> newer.what + " since " + newer.version)
                        .toList());
    }

    @Test
    void theConnectorFindsWhatIsThere() {
        assertThat(PlanTypes.hasVariants()).isEqualTo(SinceFlink.VARIANTS.isHere());
        assertThat(Indexes.areKnown()).isEqualTo(SinceFlink.DELTA_JOINS.isHere());
        // By its name: the class cannot be loaded where it is of no use.
        assertThat(Tables.source(Tables.ORDERS, Tables.KEY, Map.of()).getClass().getSimpleName())
                .isEqualTo(SinceFlink.SHUFFLED_LOOKUPS.isHere() ? "ShufflingDynamicSource" : "CosmosDBDynamicSource");
        // Flink's own, which the connector calls by the name that all versions have.
        assertThat(Arrays.stream(ChangelogMode.class.getMethods())
                        .anyMatch(method -> method.getName().equals("keyOnlyDeletes")))
                .isEqualTo(SinceFlink.KEY_ONLY_DELETES.isHere());
    }
}
