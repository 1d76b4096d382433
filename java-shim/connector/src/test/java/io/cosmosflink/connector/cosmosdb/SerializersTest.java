package io.cosmosflink.connector.cosmosdb;

import static io.cosmosflink.connector.cosmosdb.FakeCore.split;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.flink.api.common.serialization.SerializerConfigImpl;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.util.InstantiationUtil;
import org.junit.jupiter.api.Test;

class SerializersTest {
    private final FakeCore core = new FakeCore();

    @Test
    void splitsAreTheCoresOwnBytes() throws IOException {
        var serializer = new CosmosDBSplitSerializer(() -> core);
        CosmosDBSplit split = new CosmosDBSplit(split(3, 42));
        assertThat(serializer.serialize(split)).asString().isEqualTo("3:42");
        assertThat(serializer.deserialize(1, serializer.serialize(split))).isEqualTo(split);
        assertThatThrownBy(() -> serializer.deserialize(2, new byte[0]))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("version 2");
        assertThatThrownBy(() -> serializer.deserialize(1, new byte[] {1}))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("foreign");
    }

    @Test
    void theEnumeratorsStateIsTheCoresOwnBytes() throws IOException {
        var serializer = new CosmosDBSourceStateSerializer();
        var state = new CosmosDBSourceState(new byte[] {1, 2, 3});
        assertThat(serializer.serialize(state)).containsExactly(1, 2, 3);
        assertThat(serializer.deserialize(1, serializer.serialize(state))).isEqualTo(state);
        assertThatThrownBy(() -> serializer.deserialize(9, new byte[0])).hasMessageContaining("version 9");
        assertThatThrownBy(() -> serializer.deserialize(1, new byte[0]))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("empty");
    }

    @Test
    void aTreeCrossesAnEdge() throws IOException {
        TypeSerializer<JsonNode> serializer = JsonNodeTypeInfo.INSTANCE.createSerializer(new SerializerConfigImpl());
        JsonNode node = Schemas.Json.MAPPER.readTree("{\"a\":1.10,\"b\":[null,12345678901234567890]}");
        DataOutputSerializer out = new DataOutputSerializer(16);
        serializer.serialize(node, out);
        assertThat(serializer.deserialize(new DataInputDeserializer(out.getCopyOfBuffer())))
                .isEqualTo(node);
    }

    @Test
    void aChangeCrossesAnEdgeWithAndWithoutItsDocument() throws IOException {
        TypeSerializer<CosmosDBChange<JsonNode>> serializer =
                CosmosDBChange.type(JsonNodeTypeInfo.INSTANCE).createSerializer(new SerializerConfigImpl());
        CosmosDBChange<JsonNode> change = new CosmosDBChange<>();
        change.kind = RecordView.Change.DELETE;
        change.id = "a";
        change.expired = true;
        change.previous = Schemas.Json.MAPPER.readTree("{\"a\":1.10}");
        DataOutputSerializer out = new DataOutputSerializer(16);
        serializer.serialize(change, out);
        assertThat(serializer.deserialize(new DataInputDeserializer(out.getCopyOfBuffer())))
                .usingRecursiveComparison()
                .isEqualTo(change);
    }

    /** Flink logs the source of a {@code HybridSource} as text. */
    @Test
    void whatAJobLooksForIsNotShown() {
        assertThat(CosmosDBOptions.empty()
                        .with("scan.query", "SELECT * FROM c WHERE c.customer = @who")
                        .with("scan.query-parameters", "{\"@who\":\"ann\"}")
                        .with("scan.read-many", "[{\"id\":\"ann\"}]"))
                .hasToString("CosmosDBOptions{scan.query=SELECT * FROM c WHERE c.customer = @who,"
                        + " scan.query-parameters=[14 characters], scan.read-many=[14 characters]}");
    }

    @Test
    void sourceAndSinkTravelInTheJobGraphAndShowNoSecret() throws Exception {
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .endpoint("https://a.example/")
                .key("c2VjcmV0")
                .deserializer(CosmosDBDeserializationSchema.string())
                .core(FakeCore::new)
                .build();
        assertThat(source.toString())
                .contains("https://a.example/")
                .contains("[redacted]")
                .doesNotContain("c2VjcmV0");
        CosmosDBSource<String> copy = InstantiationUtil.clone(source);
        assertThat(copy).hasToString(source.toString());
        CosmosDBSink<String> sink = CosmosDBSink.<String>builder()
                .key("c2VjcmV0")
                .bufferFlushMaxRows(7)
                .bufferFlushMaxSize(MemorySize.ofMebiBytes(3))
                .bufferFlushInterval(Duration.ofSeconds(2))
                .converter(CosmosDBElementConverter.<String>builder()
                        .id(s -> s)
                        .partitionKey(s -> s)
                        .document(s -> new byte[0])
                        .build())
                .core(FakeCore::new)
                .build();
        assertThat(InstantiationUtil.clone(sink).toString())
                .contains(
                        "sink.buffer-flush.max-rows=7",
                        "sink.buffer-flush.max-size=3145728",
                        "sink.buffer-flush.interval=2000")
                .doesNotContain("c2VjcmV0");
    }

    @Test
    void restoredSplitsAreSpreadAnewWhereFlinkDoesThat() throws Exception {
        String marker = "org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery";
        boolean there;
        try {
            Class.forName(marker);
            there = true;
        } catch (ClassNotFoundException e) {
            // Flink before 2.2.
            there = false;
        }
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .endpoint("https://a.example/")
                .deserializer(CosmosDBDeserializationSchema.string())
                .core(FakeCore::new)
                .build();
        for (CosmosDBSource<String> each : List.of(source, InstantiationUtil.clone(source))) {
            boolean marked = Stream.of(each.getClass().getInterfaces())
                    .anyMatch(type -> type.getName().equals(marker));
            assertThat(marked).isEqualTo(there);
        }
    }

    @Test
    void withoutALibraryAtTheClientOptionsAreCheckedOnTheCluster() {
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .endpoint("https://a.example/")
                .deserializer(CosmosDBDeserializationSchema.string())
                .core(() -> {
                    throw new UnsatisfiedLinkError("not here");
                })
                .build();
        assertThat(source.toString()).contains("https://a.example/").doesNotContain("sink.");
    }

    @Test
    void incompleteBuildersSayWhatIsMissing() {
        assertThatThrownBy(() -> CosmosDBSource.builder().core(FakeCore::new).build())
                .hasMessageContaining("deserializer");
        assertThatThrownBy(() -> CosmosDBSink.builder().core(FakeCore::new).build())
                .hasMessageContaining("converter");
        assertThatThrownBy(() -> CosmosDBOptions.of(Map.of("a", "x")).number("a"))
                .hasMessageContaining("'x'");
    }
}
