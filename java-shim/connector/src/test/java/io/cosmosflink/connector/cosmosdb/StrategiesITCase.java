package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.Batch;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.Patch;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Each write strategy through a job, and through the same job once more, as after a restore to before its first record. */
class StrategiesITCase {
    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    private LocalCosmos cosmos;

    /** Fails where it was not opened. */
    private static final class Schema implements SerializationSchema<String> {
        private static final long serialVersionUID = 1L;
        private transient boolean open;

        @Override
        public void open(InitializationContext context) {
            open = context.getMetricGroup() != null && context.getUserCodeClassLoader() != null;
        }

        @Override
        public byte[] serialize(String id) {
            assertThat(open).isTrue();
            return utf8("{\"order\":\"" + id + "\",\"region\":\"eu\",\"n\":2,\"none\":null}");
        }
    }

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("c:/region:2");
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    private static String document(String id, int n) {
        return "{\"id\":\"" + id + "\",\"region\":\"eu\",\"n\":" + n + "}";
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static Operation stored(String id, int n) {
        return Operation.upsert(id, "[\"eu\"]", utf8(document(id, n)));
    }

    private static CosmosDBElementConverter.Builder<String> converter() {
        return CosmosDBElementConverter.<String>builder().id(id -> id).partitionKey(id -> "eu");
    }

    /** Writes the document with n = 2 of each id. */
    private void run(CosmosDBElementConverter<String> converter, Map<String, String> options, String... ids)
            throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(
                new Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none"));
        env.setParallelism(1);
        CosmosDBSink.Builder<String> sink = CosmosDBSink.<String>builder()
                .options(cosmos.options("c").with(options))
                .converter(converter);
        env.fromData(ids).sinkTo(sink.build());
        env.execute("write");
    }

    private void run(OperationKind kind, String... ids) throws Exception {
        run(
                converter()
                        .document(id -> utf8(document(id, 2)))
                        .operation(id -> kind)
                        .build(),
                Map.of(),
                ids);
    }

    private Map<String, JsonNode> read() throws Exception {
        return cosmos.read("c");
    }

    private int n(String id) throws Exception {
        return read().get("[\"eu\"]" + id).get("n").asInt();
    }

    @Test
    void aReplayedCreateIsDoneAndAnotherDocumentIsAConflict() throws Exception {
        run(OperationKind.CREATE, "a", "b");
        run(OperationKind.CREATE, "a", "b");
        assertThat(read()).hasSize(2);
        cosmos.write("c", List.of(stored("a", 7)));
        assertThatThrownBy(() -> run(OperationKind.CREATE, "a"))
                .rootCause()
                .hasMessageContainingAll("CREATE of id 'a'", "409");
        run(OperationKind.CREATE_IGNORE_EXISTING, "a", "d");
        assertThat(n("a")).isEqualTo(7);
        assertThat(n("d")).isEqualTo(2);
    }

    @Test
    void whatIsNotThereIsLeft() throws Exception {
        cosmos.write("c", List.of(stored("a", 1)));
        for (int time = 0; time < 2; time++) {
            run(OperationKind.REPLACE_IF_EXISTS, "a", "b");
            run(OperationKind.BULK_UPDATE, "d");
            run(OperationKind.DELETE, "e");
            assertThat(read()).hasSize(2);
            assertThat(n("a")).isEqualTo(2);
        }
        assertThatThrownBy(() -> run(OperationKind.REPLACE, "b")).rootCause().hasMessageContaining("404");
    }

    @Test
    void anEtagDecides() throws Exception {
        cosmos.write("c", List.of(stored("a", 1), stored("b", 1), stored("d", 1)));
        Map<String, JsonNode> before = read();
        cosmos.write("c", List.of(stored("b", 7), stored("d", 7)));
        Map<String, String> etags = Map.of(
                "a", before.get("[\"eu\"]a").get("_etag").asText(),
                "b", before.get("[\"eu\"]b").get("_etag").asText(),
                "d", before.get("[\"eu\"]d").get("_etag").asText(),
                "new", "");
        CosmosDBElementConverter<String> converter = converter()
                .document(id -> utf8(document(id, 2)))
                .operation(id ->
                        id.equals("d") ? OperationKind.DELETE_IF_NOT_MODIFIED : OperationKind.OVERWRITE_IF_NOT_MODIFIED)
                .ifMatch(etags::get)
                .build();
        for (int time = 0; time < 2; time++) {
            run(converter, Map.of(), "a", "b", "d", "new");
            assertThat(List.of(n("a"), n("b"), n("d"), n("new"))).containsExactly(2, 7, 7, 2);
        }
    }

    @Test
    void patchesChangeWhatTheySay() throws Exception {
        cosmos.write("c", List.of(stored("a", 1)));
        CosmosDBElementConverter<String> strict = converter()
                .patch(id -> new Patch()
                        .increment("/n", 1)
                        .set("/tags", Patch.json("[\"x\"]"))
                        .when("FROM c WHERE c.n < 3"))
                .build();
        for (int time = 0; time < 4; time++) {
            run(strict, Map.of(), "a");
        }
        assertThat(n("a")).isEqualTo(3);
        assertThat(read().get("[\"eu\"]a").get("tags").get(0).asText()).isEqualTo("x");
        assertThatThrownBy(() -> run(strict, Map.of(), "b")).rootCause().hasMessageContainingAll("PATCH", "404");
        CosmosDBElementConverter<String> lenient = converter()
                .patch(id -> new Patch().set("/n", 9))
                .operation(id -> OperationKind.PATCH_IF_EXISTS)
                .build();
        run(lenient, Map.of(), "a", "b");
        assertThat(n("a")).isEqualTo(9);
        assertThat(read()).hasSize(1);
        CosmosDBElementConverter<String> key =
                converter().patch(id -> new Patch().set("/region", "us")).build();
        assertThatThrownBy(() -> run(key, Map.of(), "a"))
                .rootCause()
                .hasMessageContainingAll("/region", "partition key");
    }

    /** Two documents move together or not at all; the document that the batch creates makes its replay known. */
    @Test
    void aBatchIsCarriedOutWholeAndOnce() throws Exception {
        cosmos.write("c", List.of(stored("from", 10), stored("to", 0)));
        CosmosDBElementConverter<String> transfer = CosmosDBElementConverter.<String>builder()
                .partitionKey(id -> "eu")
                .batch(id -> new Batch()
                        .create(id, utf8(document(id, 1)))
                        .patch("from", new Patch().increment("/n", -1))
                        .patch("to", new Patch().increment("/n", 1)))
                .build();
        for (int time = 0; time < 3; time++) {
            run(transfer, Map.of(), "transfer-1", "transfer-2");
            assertThat(List.of(n("from"), n("to"))).containsExactly(8, 2);
        }
        cosmos.write("c", List.of(stored("transfer-3", 7)));
        assertThatThrownBy(() -> run(transfer, Map.of(), "transfer-3"))
                .rootCause()
                .hasMessageContainingAll(
                        "BATCH with partition key", "operation 1 of 3, Create of document 'transfer-3'", "409");
        assertThat(List.of(n("from"), n("to"))).containsExactly(8, 2);
        // Batches that write one document do not end each other's replay.
        CosmosDBElementConverter<String> events = CosmosDBElementConverter.<String>builder()
                .partitionKey(id -> "eu")
                .batch(id -> new Batch()
                        .create(id, utf8(document(id, 1)))
                        .upsert("summary", utf8(document("summary", id.charAt(id.length() - 1) - '0'))))
                .build();
        for (int time = 0; time < 2; time++) {
            run(events, Map.of(), "event-1", "event-2");
            assertThat(n("summary")).isEqualTo(2);
        }
        // Where elements say it themselves, some are batches.
        CosmosDBElementConverter<String> both = converter()
                .document(id -> utf8(document(id, 2)))
                .batch(id -> new Batch().delete("from").upsert("to", utf8(document("to", 5))))
                .operation(id -> id.equals("all") ? OperationKind.BATCH : OperationKind.UPSERT)
                .build();
        run(both, Map.of(), "from", "all", "one");
        assertThat(read()).doesNotContainKey("[\"eu\"]from");
        assertThat(List.of(n("to"), n("one"))).containsExactly(5, 2);
    }

    /** None of it is written in another form, or as something else. */
    @Test
    void aBatchThatIsNoneIsRefusedByTheCore() {
        byte[] broken = utf8(document("a", 1) + "  ");
        broken[broken.length - 1] = (byte) 0xff;
        String smuggled = document("a", 1) + "},{\"operationType\":\"Delete\",\"id\":\"z\"";
        Batch many = new Batch();
        for (int n = 0; n <= Batch.MAX_OPERATIONS; n++) {
            many.delete("d" + n);
        }
        isRefused(new Batch().upsert("a", utf8(smuggled)), "operation 1 of the batch's 1", "'a'", "not a JSON object");
        isRefused(new Batch().upsert("a", utf8("{\"x\":}")), "no array of operations");
        isRefused(new Batch().upsert("a", broken), "not a JSON object");
        byte[] inside = utf8("{\"id\":\"a\",\"region\":\"eu\",\"x\":\"?\"}");
        inside[inside.length - 3] = (byte) 0xff;
        isRefused(new Batch().upsert("a", inside), "no UTF-8");
        isRefused(many, "101 operations");
        isRefused(new Batch(), "no operations");
    }

    private void isRefused(Batch batch, String... why) {
        CosmosDBElementConverter<String> converter = CosmosDBElementConverter.<String>builder()
                .partitionKey(id -> "eu")
                .batch(id -> batch)
                .build();
        assertThatThrownBy(() -> run(converter, Map.of(), "one")).rootCause().hasMessageContainingAll(why);
    }

    /** The option decides about records that do not, and a schema of Flink's says nothing but the document. */
    @Test
    void aSchemaAndTheOptionsSayItAll() throws Exception {
        CosmosDBElementConverter<String> converter = CosmosDBElementConverter.<String>builder()
                .serializer(new Schema())
                .build();
        Map<String, String> options = Map.of("sink.id", "o-{order}", "sink.null-policy", "drop");
        run(converter, options, "a");
        JsonNode written = read().get("[\"eu\"]o-a");
        assertThat(written.get("id").asText()).isEqualTo("o-a");
        assertThat(written.has("none")).isFalse();
        cosmos.write("c", List.of(stored("o-a", 7)));
        run(converter, Map.of("sink.id", "o-{order}", "sink.write-strategy", "create-ignore-existing"), "a", "b");
        assertThat(List.of(n("o-a"), n("o-b"))).containsExactly(7, 2);
        run(converter, Map.of("sink.id", "o-{order}", "sink.write-strategy", "delete"), "a");
        assertThat(read().keySet()).containsExactly("[\"eu\"]o-b");
        // A record that says it itself goes before the option.
        run(
                converter()
                        .document(id -> utf8(document(id, 3)))
                        .operation(id -> OperationKind.UPSERT)
                        .build(),
                Map.of("sink.write-strategy", "delete"),
                "o-b");
        assertThat(n("o-b")).isEqualTo(3);
    }

    @Test
    void aDocumentGetsATimeToLive() throws Exception {
        run(
                converter()
                        .document(id -> utf8(document(id, 2)))
                        .timeToLive(id -> id.equals("a") ? 3600 : null)
                        .build(),
                Map.of(),
                "a",
                "b");
        assertThat(read().get("[\"eu\"]a").get("ttl").asInt()).isEqualTo(3600);
        assertThat(read().get("[\"eu\"]b").has("ttl")).isFalse();
    }

    @Test
    void aConverterThatMissesSomethingSaysWhat() {
        assertThatThrownBy(() -> CosmosDBElementConverter.<String>builder().build())
                .hasMessageContainingAll("id", "partitionKey", "document");
        assertThatThrownBy(() -> converter()
                        .document(StrategiesITCase::utf8)
                        .serializer(StrategiesITCase::utf8)
                        .build())
                .hasMessageContaining("both document and serializer");
        assertThatThrownBy(() -> CosmosDBElementConverter.<String>builder()
                        .patch(id -> new Patch())
                        .idFromDocument()
                        .partitionKeyFromDocument()
                        .build())
                .hasMessageContaining("neither id nor partition key");
        assertThatThrownBy(() -> converter()
                        .document(StrategiesITCase::utf8)
                        .idFromDocument()
                        .build())
                .hasMessageContaining("leave one");
        assertThatThrownBy(() -> CosmosDBSink.<String>builder()
                        .options(cosmos.options("c").with("sink.id", "constant"))
                        .serializer(StrategiesITCase::utf8)
                        .build())
                .hasMessageContainingAll("sink.id", "'constant'");
        assertThatThrownBy(() -> CosmosDBSink.<String>builder()
                        .options(cosmos.options("c"))
                        .serializer(StrategiesITCase::utf8)
                        .writeStrategy("append")
                        .build())
                .hasMessageContainingAll("sink.write-strategy", "'append'", "create-ignore-existing");
    }
}
