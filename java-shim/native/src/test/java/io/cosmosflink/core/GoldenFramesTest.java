package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** What this jar reads out of the core's frames, and what it writes, as {@code tests/cases/frames} has it. */
class GoldenFramesTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static JsonNode expected() throws IOException {
        return JSON.readTree(GoldenFrames.FOLDER.resolve("frames.json").toFile());
    }

    private static List<JsonNode> list(JsonNode array) {
        return StreamSupport.stream(array.spliterator(), false).toList();
    }

    @TestFactory
    Stream<DynamicTest> everyFrameIsRead() throws IOException {
        return expected().get("frames").properties().stream()
                .map(frame -> DynamicTest.dynamicTest(frame.getKey(), () -> {
                    JsonNode wanted = frame.getValue();
                    if (wanted instanceof ObjectNode page) {
                        // What the core makes a page of.
                        page.remove(List.of("envelope", "keyPaths"));
                    }
                    // Through text, so that numbers have the same types.
                    String found = JSON.writeValueAsString(GoldenFrames.read(frame.getKey()));
                    assertThat(JSON.readTree(found)).isEqualTo(wanted);
                }));
    }

    @Test
    void numbersOnTheWireAreThoseOfTheFile() throws IOException {
        String found = JSON.writeValueAsString(GoldenFrames.numbers());
        assertThat(JSON.readTree(found)).isEqualTo(expected().get("numbers"));
    }

    private static void isWritten(String name, byte[] frame) {
        assertThat(HexFormat.of().formatHex(frame)).isEqualTo(HexFormat.of().formatHex(GoldenFrames.bytes(name)));
    }

    private static Operation operation(JsonNode o) {
        return new Operation(
                OperationKind.valueOf(o.get("operation").textValue()),
                o.get("id").textValue(),
                o.get("partitionKey").textValue(),
                o.get("ifMatch").textValue(),
                o.get("document").textValue().getBytes(StandardCharsets.UTF_8));
    }

    @Test
    void whatIsWrittenIsTheSameByteForByte() throws IOException {
        JsonNode frames = expected().get("frames");
        Map<String, String> map = new LinkedHashMap<>();
        list(frames.get("map"))
                .forEach(e -> map.put(e.get(0).textValue(), e.get(1).textValue()));
        isWritten("map", Frames.map(map));
        isWritten(
                "strings",
                Frames.strings(list(frames.get("strings")).stream()
                        .map(JsonNode::textValue)
                        .toList()));
        isWritten(
                "split-list",
                Frames.splits(list(frames.get("split-list")).stream()
                        .map(s -> new SplitEntry(
                                s.get("id").textValue(),
                                s.get("ordinal").intValue(),
                                s.get("assigned").booleanValue(),
                                s.get("description").textValue(),
                                HexFormat.of().parseHex(s.get("split").textValue())))
                        .toList()));
        OperationBatch batch = new OperationBatch();
        list(frames.get("operations")).forEach(o -> batch.add(operation(o).encode()));
        isWritten("operations", Arrays.copyOf(batch.array(), batch.length()));
        isWritten(
                "operation-state",
                Operation.stateOf(operation(frames.get("operation-state")).encode()));
        JsonNode request = frames.get("administer");
        List<String> keys =
                list(request.get("keys")).stream().map(JsonNode::textValue).toList();
        CatalogRequest.Throughput throughput = new CatalogRequest.Throughput(
                request.get("throughput").intValue(), request.get("autoscale").intValue());
        isWritten(
                "administer",
                CatalogRequest.createContainer(
                                request.get("database").textValue(),
                                request.get("container").textValue(),
                                keys,
                                request.get("defaultTtl").longValue(),
                                throughput)
                        .frame());
        JsonNode event = frames.get("event");
        List<SplitEntry> reported = list(event.get("splits")).stream()
                .map(s -> new SplitEntry("", 0, false, "", HexFormat.of().parseHex(s.textValue())))
                .toList();
        Core.Readers readers = new Core.Readers(
                event.get("parallelism").intValue(),
                list(event.get("registered")).stream().map(JsonNode::intValue).toList());
        int subtask = event.get("subtask").intValue();
        isWritten("event", EnumeratorFrames.event(readers, new EnumeratorEvent.ReaderRegistered(subtask, reported)));
        JsonNode lookup = frames.get("lookup");
        int[] columns = list(lookup.get("columns")).stream()
                .mapToInt(JsonNode::intValue)
                .toArray();
        isWritten("lookup", Frames.lookup(lookup.get("alone").booleanValue(), columns));
        LookupKeys lookedUp = new LookupKeys();
        list(frames.get("keys")).forEach(key -> add(lookedUp, key));
        isWritten("keys", lookedUp.frame());
    }

    private static void add(LookupKeys keys, JsonNode key) {
        keys.key(key.get("number").longValue());
        JsonNode values = key.get("values");
        keys.bool(values.get(0).booleanValue())
                .whole(values.get(1).longValue())
                .real(values.get(2).doubleValue())
                .decimal(new BigDecimal(values.get(3).textValue()))
                .text(values.get(4).textValue())
                .binary(HexFormat.of().parseHex(values.get(5).textValue()));
        JsonNode moment = values.get(6);
        if (moment.isNull()) {
            keys.none();
        } else {
            keys.moment(moment.get(0).longValue(), moment.get(1).intValue());
        }
    }
}
