package io.cosmosflink.sql;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.junit.jupiter.api.Test;

/** The jar as a cluster gets it. */
class SqlJarITCase {
    @Test
    void itHasAllOfOursAndNothingElse() throws IOException {
        try (JarFile jar = new JarFile(System.getProperty("cosmosflink.sql-jar"))) {
            List<String> names = jar.stream().map(JarEntry::getName).toList();
            assertThat(names)
                    .contains(
                            "io/cosmosflink/connector/cosmosdb/table/CosmosDBDynamicTableFactory.class",
                            "io/cosmosflink/connector/cosmosdb/CosmosDBSource.class",
                            "io/cosmosflink/core/Natives.class")
                    .anyMatch(name -> name.startsWith("META-INF/native/") && name.contains("cosmosflink_core"));
            // Flink has its own, and a second one of the same class would not be the same.
            assertThat(names)
                    .filteredOn(name -> name.endsWith(".class"))
                    .allMatch(name -> name.startsWith("io/cosmosflink/"));
            JarEntry services = jar.getJarEntry("META-INF/services/org.apache.flink.table.factories.Factory");
            assertThat(new String(jar.getInputStream(services).readAllBytes(), StandardCharsets.UTF_8))
                    .contains("io.cosmosflink.connector.cosmosdb.table.CosmosDBDynamicTableFactory");
        }
    }
}
