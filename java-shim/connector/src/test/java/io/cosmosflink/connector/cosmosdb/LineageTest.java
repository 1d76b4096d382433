package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.streaming.api.lineage.LineageVertex;
import org.apache.flink.streaming.api.lineage.SourceLineageVertex;
import org.junit.jupiter.api.Test;

class LineageTest {
    private static final CosmosDBOptions OPTIONS = CosmosDBOptions.empty()
            .with("endpoint", "https://Account.documents.azure.com:443/")
            .with("database", "orders")
            .with("container", "events")
            .with("auth.secret-key", "c2VjcmV0");

    private static void assertIsTheContainer(LineageVertex vertex) {
        assertThat(vertex.datasets()).singleElement().satisfies(dataset -> {
            assertThat(dataset.namespace()).isEqualTo("https://account.documents.azure.com:443");
            assertThat(dataset.name()).isEqualTo("orders/events");
            assertThat(dataset.facets()).isEmpty();
        });
        assertThat(vertex.toString()).doesNotContain("c2VjcmV0");
    }

    @Test
    void aSourceNamesItsContainer() {
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .options(OPTIONS)
                .deserializer(CosmosDBDeserializationSchema.string())
                .build();
        assertThat(source.getLineageVertex())
                .isInstanceOfSatisfying(SourceLineageVertex.class, vertex -> assertThat(vertex.boundedness())
                        .isEqualTo(Boundedness.CONTINUOUS_UNBOUNDED));
        assertIsTheContainer(source.getLineageVertex());
    }

    @Test
    void aSinkNamesItsContainer() {
        CosmosDBSink<String> sink = CosmosDBSink.<String>builder()
                .options(OPTIONS)
                .converter(CosmosDBElementConverter.<String>builder()
                        .id(id -> id)
                        .partitionKey(id -> id)
                        .document(id -> id.getBytes(StandardCharsets.UTF_8))
                        .build())
                .build();
        assertIsTheContainer(sink.getLineageVertex());
    }
}
