package io.cosmosflink.jobs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import io.cosmosflink.core.Core.Role;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.PartitionKeys;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.graph.StreamNode;
import org.apache.flink.streaming.api.operators.KeyedProcessOperator;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.streaming.util.ProcessFunctionTestHarnesses;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** The table of cases that both variants run: {@code tests/cases}. */
class CasesTest {
    private static final Path CASES = Path.of("../../tests/cases");
    private static final ObjectMapper JSON = JsonMapper.builder()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
            .build();

    private interface Check {
        void of(JsonNode theCase) throws Exception;
    }

    private interface Making {
        OutgoingDocument of(JsonNode theCase) throws BadRecordException;
    }

    private static Stream<DynamicTest> cases(String file, Check check) throws IOException {
        List<JsonNode> cases = list(JSON.readTree(CASES.resolve(file).toFile()).get("cases"));
        assertThat(cases).as(file).isNotEmpty();
        return cases.stream()
                .map(c -> DynamicTest.dynamicTest(file + ": " + c.get("name").asText(), () -> check.of(c)));
    }

    private static Stream<DynamicTest> documents(String file, Making making) throws IOException {
        return cases(file, c -> {
            if (c.has("refused")) {
                refused(c, () -> making.of(c));
            } else {
                OutgoingDocument made = making.of(c);
                assertThat(JSON.readTree(made.document)).isEqualTo(c.get("result"));
                assertThat(made.id).isEqualTo(text(c, "id"));
                assertThat(made.partitionKey).isEqualTo(text(c, "partitionKey"));
            }
        });
    }

    @TestFactory
    Stream<DynamicTest> optionsOfJobs() throws IOException {
        return cases("options.json", c -> {
            String[] arguments = strings(c.get("arguments")).toArray(new String[0]);
            Map<String, String> environment = map(c.get("environment"));
            if (c.has("refused")) {
                refused(c, () -> JobSettings.of(arguments, environment));
            } else {
                JobSettings settings = JobSettings.of(arguments, environment);
                assertThat(settings.options().toMap()).containsAllEntriesOf(map(c.get("options")));
                assertThat(settings.jobName("own")).isEqualTo(text(c, "jobName"));
            }
        });
    }

    @TestFactory
    Stream<DynamicTest> defaults() throws IOException {
        return cases("defaults.json", c -> {
            Role role = Role.valueOf(text(c, "role").toUpperCase(Locale.ROOT));
            assertThat(CosmosDBOptions.of(map(c.get("given"))).validated(role).toMap())
                    .isEqualTo(map(c.get("options")));
        });
    }

    @TestFactory
    Stream<DynamicTest> orders() throws IOException {
        return documents("orders.json", c -> Orders.process(document(c), now(c)));
    }

    @TestFactory
    Stream<DynamicTest> outgoing() throws IOException {
        return documents("outgoing.json", c -> Orders.outgoing(document(c), now(c)));
    }

    @TestFactory
    Stream<DynamicTest> delivered() throws IOException {
        return documents("delivered.json", c -> Orders.delivered(document(c), now(c)));
    }

    @TestFactory
    Stream<DynamicTest> state() throws IOException {
        return cases("state.json", c -> {
            byte[] state = Base64.getDecoder().decode(text(c, "state"));
            assertThat(new OutgoingDocument(text(c, "id"), text(c, "partitionKey"), document(c)).state())
                    .isEqualTo(state);
            Operation event = Operation.decode(Operation.bodyOf(state));
            assertThat(event.id()).isEqualTo(text(c, "id"));
            assertThat(event.partitionKey()).isEqualTo(text(c, "key"));
            assertThat(event.document()).isEqualTo(document(c));
        });
    }

    @TestFactory
    Stream<DynamicTest> deadLetters() throws IOException {
        return documents(
                "dead-letters.json",
                c -> Orders.deadLetter(
                        text(c, "container"),
                        text(c, "documentId"),
                        text(c, "documentKey"),
                        document(c),
                        "process",
                        text(c, "reason").replace("{half}", "\ud800"),
                        now(c)));
    }

    @TestFactory
    Stream<DynamicTest> records() throws IOException {
        return cases("records.json", c -> {
            CosmosDBRecord record = new CosmosDBRecord();
            record.change = text(c, "change");
            record.document = document(c);
            var operator =
                    ProcessFunctionTestHarnesses.forProcessFunction(new OrderProcessing.Process("events-source"));
            operator.processElement(record, 0);
            List<String> became = new ArrayList<>();
            operator.getRecordOutput().forEach(element -> became.add("processed"));
            var bad = operator.getSideOutput(OrderProcessing.BAD);
            if (bad != null) {
                bad.forEach(element -> became.add("dead-letter"));
            }
            operator.close();
            assertThat(became).isEqualTo(strings(c.get("becomes")));
        });
    }

    @TestFactory
    Stream<DynamicTest> repeats() throws IOException {
        return cases("repeats.json", c -> {
            List<JsonNode> changes = list(c.get("changes"));
            int made = c.get("checkpoint").asInt();
            var fails = counting(new Repeats());
            fails.open();
            feed(fails, changes.subList(0, made));
            OperatorSubtaskState checkpoint = fails.snapshot(1, 0);
            feed(fails, changes.subList(made, changes.size()));
            assertThat(fails.extractOutputValues()).hasSameSizeAs(changes);
            fails.close();
            Repeats restored = new Repeats();
            var operator = counting(restored);
            operator.initializeState(checkpoint);
            operator.open();
            feed(operator, changes.subList(c.get("goesOnAt").asInt(), changes.size()));
            operator.close();
            assertThat(restored.counts()).containsExactly(JSON.convertValue(c.get("counts"), long[].class));
        });
    }

    private static KeyedOneInputStreamOperatorTestHarness<String, CosmosDBRecord, CosmosDBRecord> counting(
            Repeats function) throws Exception {
        return new KeyedOneInputStreamOperatorTestHarness<>(
                new KeyedProcessOperator<>(function), change -> change.id, Types.STRING);
    }

    private static void feed(OneInputStreamOperatorTestHarness<CosmosDBRecord, ?> operator, List<JsonNode> changes)
            throws Exception {
        for (JsonNode change : changes) {
            CosmosDBRecord record = new CosmosDBRecord();
            record.id = change.get(0).asText();
            record.lsn = change.get(1).asLong();
            record.timestampSeconds = change.path(2).asLong();
            operator.processElement(record, 0);
        }
    }

    @TestFactory
    Stream<DynamicTest> partitionKeys() throws IOException {
        return cases("keys.json", c -> {
            CosmosDBElementConverter.Builder<String> converter = CosmosDBElementConverter.<String>builder()
                    .id(element -> element)
                    .document(element -> element.getBytes(StandardCharsets.UTF_8));
            for (JsonNode component : c.get("components")) {
                Object value =
                        component.isObject() ? PartitionKeys.UNDEFINED : JSON.convertValue(component, Object.class);
                converter.partitionKey(element -> value);
            }
            if (c.get("components").isEmpty()) {
                converter.withoutPartitionKey();
            }
            assertThat(converter.build().apply("{}", null).operation().partitionKey())
                    .isEqualTo(text(c, "text"));
        });
    }

    @TestFactory
    Stream<DynamicTest> operators() throws IOException {
        return cases("jobs.json", c -> {
            JobSettings settings = JobSettings.of(
                    c.has("arguments") ? strings(c.get("arguments")).toArray(new String[0]) : new String[0],
                    Map.of("COSMOS_URI", "https://a.example/", "COSMOS_DB", "orders", "COSMOS_KEY", "c2VjcmV0"));
            StreamExecutionEnvironment env = settings.configure(new StreamExecutionEnvironment());
            switch (text(c, "job")) {
                case OrderProcessing.NAME -> OrderProcessing.define(env, settings);
                case OrderDelivery.NAME -> OrderDelivery.define(env, settings);
                default -> throw new AssertionError("no job has the name " + text(c, "job"));
            }
            Map<String, String> uids = new TreeMap<>();
            Map<String, String> inputs = new TreeMap<>();
            for (StreamNode node : env.getStreamGraph().getStreamNodes()) {
                // The way of the side output is a node without an operator.
                if (node.getOperatorFactory() != null) {
                    uids.put(node.getTransformationUID(), node.getOperatorName());
                    if (!node.getInEdges().isEmpty()) {
                        inputs.put(
                                node.getTransformationUID(),
                                node.getTypeSerializersIn()[0].getClass().getName());
                    }
                }
            }
            assertThat(uids).isEqualTo(map(c.get("uids")));
            assertThat(inputs).containsAllEntriesOf(map(c.get("state")));
        });
    }

    @TestFactory
    Stream<DynamicTest> batches() throws IOException {
        return cases("batches.json", c -> {
            CompletableFuture<Void> held = new CompletableFuture<>();
            List<List<Integer>> sent = new CopyOnWriteArrayList<>();
            List<Integer> refuses = integers(c.get("refuses"));
            AtomicInteger fails = new AtomicInteger(c.get("fails").asInt());
            Transport consumer = new Transport() {
                @Override
                public CompletableFuture<Void> send(List<byte[]> events) {
                    List<Integer> batch = events.stream()
                            .map(e -> Integer.valueOf(new String(e, StandardCharsets.UTF_8)))
                            .toList();
                    sent.add(batch);
                    if (sent.size() == 1) {
                        return held;
                    }
                    if (batch.stream().anyMatch(refuses::contains)) {
                        return CompletableFuture.failedFuture(new RefusedException("no"));
                    }
                    return fails.getAndDecrement() > 0
                            ? CompletableFuture.failedFuture(new IOException("down"))
                            : CompletableFuture.completedFuture(null);
                }

                @Override
                public void close() {}
            };
            List<Integer> undelivered = new ArrayList<>();
            try (Batcher batcher = new Batcher(consumer, c.get("batchSize").asInt(), 1, Duration.ofMinutes(1))) {
                List<CompletableFuture<Void>> events = new ArrayList<>();
                for (int i = 0; i < c.get("offered").asInt(); i++) {
                    events.add(
                            batcher.offer(Operation.upsert("" + i, "[]", ("" + i).getBytes(StandardCharsets.UTF_8))));
                    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
                    while (sent.isEmpty()) {
                        assertThat(System.nanoTime())
                                .as("the first event is sent")
                                .isLessThan(deadline);
                        Thread.onSpinWait();
                    }
                }
                held.complete(null);
                for (int i = 0; i < events.size(); i++) {
                    try {
                        events.get(i).get(30, TimeUnit.SECONDS);
                    } catch (ExecutionException e) {
                        undelivered.add(i);
                    }
                }
            }
            assertThat(sent)
                    .isEqualTo(list(c.get("batches")).stream()
                            .map(CasesTest::integers)
                            .toList());
            assertThat(undelivered).isEqualTo(integers(c.get("undelivered")));
        });
    }

    private static void refused(JsonNode theCase, org.assertj.core.api.ThrowableAssert.ThrowingCallable call) {
        JsonNode expected = theCase.get("refused");
        if (expected.isTextual()) {
            assertThatThrownBy(call).hasMessage(expected.textValue());
        } else {
            assertThatThrownBy(call).hasMessageContainingAll(strings(expected).toArray(new String[0]));
        }
    }

    private static byte[] document(JsonNode theCase) {
        JsonNode document = theCase.get("document");
        return document.isTextual()
                ? document.textValue().getBytes(StandardCharsets.UTF_8)
                : Base64.getDecoder().decode(document.get("base64").textValue());
    }

    private static Instant now(JsonNode theCase) {
        return Instant.parse(text(theCase, "now"));
    }

    private static String text(JsonNode node, String field) {
        return node.get(field).textValue();
    }

    private static List<JsonNode> list(JsonNode array) {
        return StreamSupport.stream(array.spliterator(), false).toList();
    }

    private static List<String> strings(JsonNode array) {
        return list(array).stream().map(JsonNode::textValue).toList();
    }

    private static List<Integer> integers(JsonNode array) {
        return list(array).stream().map(JsonNode::asInt).toList();
    }

    private static Map<String, String> map(JsonNode object) {
        return JSON.convertValue(object, new TypeReference<Map<String, String>>() {});
    }
}
