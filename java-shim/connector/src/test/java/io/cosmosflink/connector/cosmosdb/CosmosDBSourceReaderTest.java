package io.cosmosflink.connector.cosmosdb;

import static io.cosmosflink.connector.cosmosdb.FakeCore.bytes;
import static io.cosmosflink.connector.cosmosdb.FakeCore.split;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.deser.std.FromStringDeserializer;
import com.fasterxml.jackson.databind.module.SimpleModule;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.LagReports;
import io.cosmosflink.core.LeaseProgress;
import io.cosmosflink.core.NotOfRecordException;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.ReaderMetrics;
import io.cosmosflink.core.RecordView;
import io.cosmosflink.core.RowsView;
import io.cosmosflink.core.TestPages;
import io.cosmosflink.core.TestPages.Item;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.eventtime.TimestampAssigner;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsAddition;
import org.apache.flink.connector.testutils.source.reader.TestingReaderContext;
import org.apache.flink.connector.testutils.source.reader.TestingReaderOutput;
import org.apache.flink.metrics.Counter;
import org.apache.flink.runtime.metrics.groups.InternalSourceReaderMetricGroup;
import org.apache.flink.runtime.metrics.groups.UnregisteredMetricGroups;
import org.apache.flink.runtime.throwable.ThrowableClassifier;
import org.apache.flink.runtime.throwable.ThrowableType;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ExceptionUtils;
import org.apache.flink.util.InstantiationUtil;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CosmosDBSourceReaderTest {
    private static final Duration LIMIT = Duration.ofSeconds(10);
    private final FakeCore core = new FakeCore();
    private final TestingReaderContext context = new TestingReaderContext(
            new Configuration(),
            InternalSourceReaderMetricGroup.wrap(UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup()));
    private final List<Long> times = new ArrayList<>();
    private TestingReaderOutput<String> output = new TestingReaderOutput<>() {
        @Override
        public void collect(String value, long timestamp) {
            times.add(timestamp);
            super.collect(value, timestamp);
        }
    };
    private CosmosDBSourceReader<String> reader;

    @BeforeEach
    void open() {
        reader = reader(CosmosDBDeserializationSchema.string());
    }

    private CosmosDBSourceReader<String> reader(CosmosDBDeserializationSchema<String> schema) {
        return reader(schema, "fail");
    }

    private CosmosDBSourceReader<String> reader(CosmosDBDeserializationSchema<String> schema, String onDecodeError) {
        return new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("json.on-error", onDecodeError),
                schema,
                CosmosDBTimestampExtractor.serviceTime());
    }

    @AfterEach
    void close() throws Exception {
        reader.close();
    }

    private static byte[] page(int ordinal, int after, Item... items) {
        return TestPages.page("s" + ordinal, bytes(ordinal, after), 0, 5_000_000, List.of(items));
    }

    private void poll(int records) throws Exception {
        poll(reader, output, records);
    }

    private static <T> void poll(CosmosDBSourceReader<T> reader, TestingReaderOutput<T> output, int records)
            throws Exception {
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (output.getEmittedRecords().size() < records) {
            assertThat(System.nanoTime())
                    .as("emitted %s", output.getEmittedRecords())
                    .isLessThan(deadline);
            reader.pollNext(output);
            reader.isAvailable().get(10, TimeUnit.SECONDS);
        }
    }

    /** Splits text at commas, and counts what it makes. */
    private static final class Parts implements DeserializationSchema<String> {
        private static final long serialVersionUID = 1L;
        private transient Counter parts;

        @Override
        public void open(InitializationContext context) {
            parts = context.getMetricGroup().counter("parts");
            assertThat(context.getUserCodeClassLoader().asClassLoader()).isNotNull();
        }

        @Override
        public String deserialize(byte[] message) throws IOException {
            throw new IOException("not asked for");
        }

        @Override
        public void deserialize(byte[] message, Collector<String> out) throws IOException {
            String text = new String(message, StandardCharsets.UTF_8);
            if (text.contains("broken")) {
                throw new IOException("broken");
            }
            for (String part : text.replaceAll("[{}]", "").split(",")) {
                parts.inc();
                out.collect(part);
            }
        }

        @Override
        public boolean isEndOfStream(String next) {
            return true;
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    @Test
    void anotherSchemaMakesWhatItLikesOfADocument() throws Exception {
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .options(FakeCore.options().with("json.on-error", "skip-row"))
                .core(() -> core)
                .deserializer(new Parts())
                .build();
        assertThat(source.getProducedType()).isEqualTo(Types.STRING);
        reader.close();
        reader = (CosmosDBSourceReader<String>) source.createReader(context);
        core.source.page(page(0, 3, Item.of("a", 100), Item.of("broken", 101), Item.of("c", 102)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(2);
        assertThat(output.getEmittedRecords()).containsExactly("\"id\":\"a\"", "\"id\":\"c\"");
    }

    @Test
    void theEnumeratorHearsHowFarBehindAReaderIsWhereItAsksForThat() throws Exception {
        core.source.page(page(0, 3, Item.of("a", 100)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(1);
        assertThat(context.getSentEvents()).isEmpty();
        reader.close();
        reader = new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("scan.backlog-threshold", "1000"),
                CosmosDBDeserializationSchema.string(),
                CosmosDBTimestampExtractor.serviceTime());
        core.source.page(page(1, 3, Item.of("b", 100)));
        reader.addSplits(List.of(new CosmosDBSplit(split(1, 0))));
        poll(2);
        assertThat(context.getSentEvents()).containsExactly(new LagEvent(0));
    }

    @Test
    void aPageIsEmittedInOneGoAndThenMovesItsSplit() throws Exception {
        core.source.page(page(0, 3, Item.of("a", 100), Item.of("b", 101), Item.of("c", 102)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        assertThat(reader.snapshotState(1)).contains(new CosmosDBSplit(split(0, 0)));
        poll(1);
        assertThat(output.getEmittedRecords()).as("one poll, one page").hasSize(3);
        assertThat(times).containsExactly(100_000L, 101_000L, 102_000L);
        assertThat(reader.snapshotState(2))
                .containsExactlyInAnyOrder(new CosmosDBSplit(split(0, 3)), new CosmosDBSplit(split(1, 0)));
        assertThat(core.source.added).extracting(e -> e.id()).containsExactly("s0", "s1");
        assertThat(context.metricGroup()
                        .getIOMetricGroup()
                        .getNumRecordsInCounter()
                        .getCount())
                .isEqualTo(3);
    }

    @Test
    void aRowWithoutATimeHasNoEventTime() throws Exception {
        core.source.page(page(0, 3, Item.of("a", 0), Item.of("b", 101)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(2);
        assertThat(times).containsExactly(TimestampAssigner.NO_TIMESTAMP, 101_000L);
    }

    private static List<CosmosDBChange<String>> changes(Item... items) throws IOException {
        CosmosDBDeserializationSchema<CosmosDBChange<String>> schema =
                CosmosDBDeserializationSchema.changes(CosmosDBDeserializationSchema.string());
        byte[] frame = page(0, 1, items);
        RecordView record = new Page(frame, frame.length).records();
        List<CosmosDBChange<String>> changes = new ArrayList<>();
        for (int i = 0; i < items.length; i++) {
            schema.deserialize(record.at(i), new ListCollector<>(changes));
        }
        return changes;
    }

    @Test
    void changesAreTypedAndDeletesHaveNoDocument() throws Exception {
        List<CosmosDBChange<String>> changes = changes(
                new Item("a", "[\"k\"]", 1, 0, "new"),
                new Item("b", "[\"k\"]", 2, 1, "new"),
                new Item("c", "[\"k\"]", 3, 2, "new", "old", 0),
                Item.deleted("d", 4, "old", false),
                Item.deleted("e", 5, "", true));
        assertThat(changes)
                .extracting(c -> c.kind + " " + c.id + " " + c.document + " " + c.previous + " " + c.expired)
                .containsExactly(
                        "UPSERT a new null false",
                        "CREATE b new null false",
                        "REPLACE c new old false",
                        "DELETE d null old false",
                        "DELETE e null null true");
        assertThat(changes).extracting(c -> c.timestampSeconds).containsExactly(1L, 2L, 3L, 4L, 5L);
        assertThat(changes.get(3).deleted()).isTrue();
        assertThat(changes.get(3).partitionKey).isEqualTo("[\"k\"]");
    }

    /** Marks what it hands on as it is. */
    private static final class Marking extends Picky {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<String> out) {
            out.collect("raw " + record.text() + ": " + error.getMessage());
        }
    }

    @Test
    void ofADocumentAndTheOneBeforeOnlyWhatCannotBeReadIsHandedOnAsItIs() throws Exception {
        CosmosDBSourceReader<CosmosDBChange<String>> changes = new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("json.on-error", "raw"),
                CosmosDBDeserializationSchema.changes(new Marking()),
                CosmosDBTimestampExtractor.serviceTime());
        core.source.page(page(
                0,
                1,
                new Item("a", "[\"k\"]", 1, 2, "new", "bad old", 0),
                new Item("b", "[\"k\"]", 1, 2, "bad new", "old", 0),
                Item.deleted("c", 1, "bad old", false),
                new Item("", "[\"k\"]", 1, 2, "no id", "old", 1)));
        changes.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        TestingReaderOutput<CosmosDBChange<String>> emitted = new TestingReaderOutput<>();
        poll(changes, emitted, 4);
        assertThat(emitted.getEmittedRecords())
                .extracting(change -> change.document + ", " + change.previous)
                .containsExactly(
                        "new, raw bad old: no good",
                        "raw bad new: no good, old",
                        "null, raw bad old: no good",
                        "raw no id: its id or partition key is no JSON in UTF-8, old");
        assertThat(errors()).isEqualTo(4);
        changes.close();
    }

    @Test
    void aChangeHasOneDocument() {
        CosmosDBDeserializationSchema<String> twice = new CosmosDBDeserializationSchema<>() {
            private static final long serialVersionUID = 1L;

            @Override
            public void deserialize(RecordView record, Collector<String> out) {
                out.collect(record.text());
                out.collect(record.text());
            }

            @Override
            public TypeInformation<String> getProducedType() {
                return Types.STRING;
            }
        };
        byte[] frame = page(0, 1, Item.of("a", 1));
        RecordView record = new Page(frame, frame.length).records().at(0);
        assertThatThrownBy(() -> CosmosDBDeserializationSchema.changes(twice)
                        .deserialize(record, new ListCollector<>(new ArrayList<>())))
                .isInstanceOf(NotOfRecordException.class)
                .hasMessageContaining("several elements");
    }

    @Test
    void deletesAreLeftOutOnlyKnowingly() throws Exception {
        byte[] frame = page(0, 1, Item.deleted("gone", 1, "", false), Item.of("here", 1));
        RecordView record = new Page(frame, frame.length).records();
        CosmosDBDeserializationSchema<String> text =
                CosmosDBDeserializationSchema.withoutDeletes(CosmosDBDeserializationSchema.string());
        List<String> read = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            text.deserialize(record.at(i), new ListCollector<>(read));
        }
        assertThat(read).containsExactly("{\"id\":\"here\"}");
        assertThat(text.readsDeletes()).isTrue();
        assertThat(CosmosDBDeserializationSchema.string().readsDeletes()).isFalse();
        assertThat(CosmosDBDeserializationSchema.raw().readsDeletes()).isTrue();
    }

    @Test
    void aCheckpointThatHasCompletedIsPublishedAsItWasTaken() throws Exception {
        reader.close();
        reader = new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("scan.lease.container", "leases"),
                CosmosDBDeserializationSchema.string(),
                CosmosDBTimestampExtractor.serviceTime());
        core.source.page(page(0, 3, Item.of("a", 100)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(1);
        reader.snapshotState(7);
        core.source.page(page(0, 4, Item.of("b", 101)));
        poll(2);
        assertThat(core.source.published).isEmpty();
        reader.notifyCheckpointComplete(7);
        assertThat(core.source.published.get(7L))
                .extracting(CosmosDBSplit::new)
                .containsExactly(new CosmosDBSplit(split(0, 3)));
    }

    @Test
    void aPageWithoutRecordsMovesItsSplitToo() throws Exception {
        core.source.page(page(0, 5));
        core.source.page(page(1, 1, Item.of("x", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        poll(1);
        assertThat(reader.snapshotState(1)).contains(new CosmosDBSplit(split(0, 5)));
        assertThat(context.metricGroup()
                        .getIOMetricGroup()
                        .getNumRecordsInCounter()
                        .getCount())
                .isEqualTo(1);
    }

    /** Until a child has an output, the watermark does not wait for it. */
    @Test
    void childrenGoOnInPlaceOfTheirParentEachWithAnOutputFromTheStart() throws Exception {
        List<String> outputs = new ArrayList<>();
        output = new TestingReaderOutput<>() {
            @Override
            public SourceOutput<String> createOutputForSplit(String splitId) {
                outputs.add("+" + splitId);
                return this;
            }

            @Override
            public void releaseOutputForSplit(String splitId) {
                outputs.add("-" + splitId);
            }
        };
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        core.source.page(page(0, 1, Item.of("a", 100)));
        poll(1);
        core.source.page(TestPages.last("s0", bytes(0, 2), List.of(split(2, 2), split(3, 2))));
        children("s3");
        core.source.page(page(3, 7, Item.of("b", 101)));
        poll(2);
        assertThat(outputs).containsSubsequence("+s0", "-s0", "+s2", "+s3");
        assertThat(outputs.subList(outputs.indexOf("-s0"), outputs.size())).startsWith("-s0", "+s2", "+s3");
        assertThat(reader.snapshotState(1))
                .containsExactlyInAnyOrder(
                        new CosmosDBSplit(split(1, 0)), new CosmosDBSplit(split(2, 2)), new CosmosDBSplit(split(3, 7)));
        assertThat(core.source.added).extracting(e -> e.id()).containsExactly("s0", "s1", "s2", "s3");
        // A child that never had a record may end too.
        core.source.page(TestPages.last("s2", bytes(2, 3), List.of(split(4, 3), split(5, 3))));
        children("s5");
        core.source.page(page(5, 8, Item.of("c", 102)));
        poll(3);
        assertThat(reader.getNumberOfCurrentlyAssignedSplits()).isEqualTo(4);
        // And a split that is done has none.
        core.source.page(TestPages.last("s1", bytes(1, 9), List.of()));
        core.source.page(page(5, 9, Item.of("d", 103)));
        poll(4);
        assertThat(reader.getNumberOfCurrentlyAssignedSplits()).isEqualTo(3);
    }

    /** Its last page is out, and Flink asks for a checkpoint before the next poll, which ends the split. */
    @Test
    void aCheckpointHasWhatGoesOnInPlaceOfASplitThatHasEnded() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        core.source.page(TestPages.page("s0", bytes(0, 9), 2, 0, List.of(Item.of("a", 100))));
        poll(1);
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(1, 0)));
        core.source.page(TestPages.last("s1", bytes(1, 2), List.of(split(2, 2), split(3, 2))));
        List<CosmosDBSplit> taken = List.of();
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (taken.size() < 2) {
            assertThat(System.nanoTime()).as("taken: %s", taken).isLessThan(deadline);
            reader.pollNext(output);
            taken = reader.snapshotState(2);
            assertThat(taken).doesNotContain(new CosmosDBSplit(split(1, 2)));
        }
        assertThat(taken).containsExactlyInAnyOrder(new CosmosDBSplit(split(2, 2)), new CosmosDBSplit(split(3, 2)));
    }

    /** Polls until the core reads the last of some children: before that it has no page of them. */
    private void children(String last) throws Exception {
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (!last.equals(core.source.added.get(core.source.added.size() - 1).id())) {
            assertThat(System.nanoTime()).as("read: %s", core.source.added).isLessThan(deadline);
            reader.pollNext(output);
            Thread.sleep(1);
        }
    }

    @Test
    void pagesInFlightDoNotShareABuffer() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            core.source.page(page(0, i, Item.of("first" + i, 1), Item.of("second" + i, 1)));
            expected.add("{\"id\":\"first" + i + "\"}");
            expected.add("{\"id\":\"second" + i + "\"}");
        }
        poll(400);
        assertThat(output.getEmittedRecords()).isEqualTo(expected);
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 199)));
    }

    @Test
    void deletesAreLeftOutOfText() throws Exception {
        core.source.page(page(0, 1, new Item("gone", "[\"k\"]", 1, 3, ""), Item.of("here", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(1);
        assertThat(output.getEmittedRecords()).containsExactly("{\"id\":\"here\"}");
    }

    /** Refuses documents that contain "bad", and says so of them when it gets them raw. */
    private static class Picky implements CosmosDBDeserializationSchema<String> {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserialize(RecordView record, Collector<String> out) throws IOException {
            if (record.text().contains("bad")) {
                throw new IOException("no good");
            }
            out.collect(record.text());
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    private static final class PickyRaw extends Picky {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<String> out) {
            out.collect(new String(record.document(), StandardCharsets.UTF_8) + " " + error.getMessage());
        }
    }

    private void restart(CosmosDBDeserializationSchema<String> schema, String onDecodeError) throws Exception {
        reader.close();
        reader = reader(schema, onDecodeError);
        core.source.page(page(
                0, 1, Item.of("a", 1), Item.of("bad", 1), Item.undecodable("{\"id\":\"\ufffd\"}", 1), Item.of("b", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
    }

    private long errors() {
        return context.metricGroup().getNumRecordsInErrorsCounter().getCount();
    }

    @Test
    void aDocumentThatCannotBeReadIsNamed() throws Exception {
        restart(new Picky(), "fail");
        assertThatThrownBy(() -> poll(2))
                .hasMessageContainingAll(
                        "'bad'",
                        "[\"k\"]",
                        "split 0 (range 0) (id s0)",
                        "record 2 of 4",
                        "log sequence number -1",
                        "no good",
                        "json.on-error");
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 0)));
        assertThat(errors()).isOne();
    }

    @Test
    void aDocumentThatTheCoreCannotReadIsNamedToo() throws Exception {
        restart(CosmosDBDeserializationSchema.string(), "fail");
        assertThatThrownBy(() -> poll(3)).hasMessageContainingAll("id ''", "record 3 of 4", "no JSON in UTF-8");
        assertThat(errors()).isOne();
    }

    @Test
    void documentsThatCannotBeReadAreLeftOutAndCounted() throws Exception {
        restart(new Picky(), "skip-row");
        poll(2);
        assertThat(output.getEmittedRecords()).containsExactly("{\"id\":\"a\"}", "{\"id\":\"b\"}");
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 1)));
        assertThat(errors()).isEqualTo(2);
    }

    @Test
    void documentsThatCannotBeReadAreHandedOnAsTheyAre() throws Exception {
        restart(new PickyRaw(), "raw");
        poll(4);
        assertThat(output.getEmittedRecords())
                .containsExactly(
                        "{\"id\":\"a\"}",
                        "{\"id\":\"bad\"} no good",
                        "{\"id\":\"\ufffd\"} its id or partition key is no JSON in UTF-8",
                        "{\"id\":\"b\"}");
        assertThat(errors()).isEqualTo(2);
    }

    @Test
    void aSchemaThatHasNoWayForRawRecordsFailsAndSaysSo() throws Exception {
        restart(new Picky(), "raw");
        assertThatThrownBy(() -> poll(2)).hasMessageContainingAll("deserializeRaw", "no good", "'bad'");
    }

    @Test
    void textAndEverythingTakeWhatTheCoreCannotRead() throws Exception {
        restart(CosmosDBDeserializationSchema.string(), "raw");
        poll(4);
        assertThat(output.getEmittedRecords()).hasSize(4).contains("{\"id\":\"\ufffd\"}");
    }

    /** Rows as text: their first byte and their place in the page. */
    private static final class TextRows implements CosmosDBRowFormat<String> {
        private static final long serialVersionUID = 1L;

        @Override
        public byte[] plan() {
            return new byte[] {1, 2, 3};
        }

        @Override
        public String refusal(Core core) {
            return null;
        }

        @Override
        public Map<String, String> options(Core core) {
            return Map.of("scan.query", "SELECT * FROM c WHERE c.ofTheCluster");
        }

        @Override
        public Rows<String> rows(RowsView view) {
            return row -> row + ":" + view.bytes()[view.offset(row)] + ":" + view.length(row);
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    @Test
    void rowsThatTheCoreHasMadeAreEmittedWithTheirTimes() throws Exception {
        reader.close();
        reader = new CosmosDBSourceReader<>(context, core, FakeCore.options(), new TextRows());
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        byte[] updated = new byte[16];
        updated[0] = 2;
        core.source.page(TestPages.rows("s0", bytes(0, 2), 0, List.of(new byte[8], updated), List.of(7L, 8L)));
        poll(2);
        assertThat(output.getEmittedRecords()).containsExactly("0:0:8", "1:2:16");
        assertThat(times).containsExactly(7000L, 8000L);
        assertThat(core.source.plan).containsExactly(1, 2, 3);
        assertThat(reader.snapshotState(1).get(0).entry().split()).isEqualTo(bytes(0, 2));
    }

    /** A job is planned on machines with a core and without, and state is bound to the query. */
    @Test
    void whatTheCoreMakesOfRowsIsMadeOnTheCluster() throws Exception {
        reader.close();
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .options(FakeCore.options().with("scan.query", "SELECT * FROM c"))
                .rows(new TextRows())
                .core(() -> core)
                .build();
        assertThat(source.toString()).doesNotContain("ofTheCluster");
        reader = (CosmosDBSourceReader<String>) source.createReader(context);
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        LocalCosmos.await("the source", LIMIT, () -> core.rowOptions != null);
        assertThat(core.rowOptions).containsEntry("scan.query", "SELECT * FROM c WHERE c.ofTheCluster");
    }

    @Test
    void fetchReturnsWhenItIsWokenUp() throws Exception {
        core.source.patienceMillis = 60_000;
        CosmosDBSplitReader splits = new CosmosDBSplitReader(
                core,
                FakeCore.options(),
                new ReaderMetrics(core),
                Core.Peers.NONE,
                new LagReports(FakeCore.options().toMap(), lag -> {}),
                new LeaseProgress(Map.of()),
                null);
        splits.handleSplitsChanges(new SplitsAddition<>(List.of(new CosmosDBSplit(split(0, 0)))));
        CompletableFuture<String> fetched = CompletableFuture.supplyAsync(() -> {
            try {
                return splits.fetch().nextSplit();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
        LocalCosmos.await("the fetch to wait", LIMIT, () -> core.source.waiting.get() == 1);
        splits.wakeUp();
        assertThat(fetched.get(5, TimeUnit.SECONDS)).isNull();
        // It goes on where it was, and knows its splits once only.
        core.source.page(page(0, 1, Item.of("a", 1)));
        assertThat(splits.fetch().nextSplit()).isEqualTo("s0");
        assertThat(core.source.added).hasSize(1);
        splits.close();
    }

    @Test
    void aReaderWhoseOpeningHangsClosesAtOnce() throws Exception {
        core.openingHangs = true;
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        LocalCosmos.await("the opening", LIMIT, () -> core.source.waiting.get() == 1);
        // Before it is open, and told to it afterwards.
        reader.pauseOrResumeSplits(List.of("s0"), List.of());
        long began = System.nanoTime();
        reader.close();
        assertThat(Duration.ofNanos(System.nanoTime() - began)).isLessThan(Duration.ofSeconds(2));
        LocalCosmos.await("the handle to close", LIMIT, () -> core.source.closed);
        assertThat(core.source.added).isEmpty();
        core.openingHangs = false;
        open();
    }

    @Test
    void whatAnOpeningIsToldEarlyItKnowsLater() throws Exception {
        core.openingHangs = true;
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        LocalCosmos.await("the opening", LIMIT, () -> core.source.waiting.get() == 1);
        reader.pauseOrResumeSplits(List.of("s0", "s1"), List.of());
        reader.pauseOrResumeSplits(List.of(), List.of("s1"));
        core.openingHangs = false;
        core.source.page(page(0, 1, Item.of("a", 1)));
        poll(1);
        assertThat(core.source.added).hasSize(2);
        LocalCosmos.await("the pause", LIMIT, () -> core.source.paused.equals(Set.of("s0")));
    }

    /** A restore onto another container fails the same way each time. */
    @Test
    void whatARestartDoesNotMendIsUnrecoverable() throws Exception {
        core.source.addFailure = FakeCore.failure(11, "the split is of another container");
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        assertThatThrownBy(() -> poll(1))
                .satisfies(e -> assertThat(unrecoverable(e)).hasMessageContaining("the split is of another container"));
        core.source.addFailure = null;
        reader.close();
        open();
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        core.source.fail(FakeCore.failure(3, "the container is gone"));
        assertThatThrownBy(() -> poll(1))
                .satisfies(e -> assertThat(unrecoverable(e)).hasMessageContaining("the container is gone"));
        assertThatThrownBy(() -> new CosmosDBSplitSerializer(() -> core).deserialize(2, new byte[0]))
                .satisfies(e -> assertThat(unrecoverable(e)).hasMessageContaining("version 2"));
    }

    /** What Flink finds in a failure when it decides about a restart. */
    private static Throwable unrecoverable(Throwable failure) {
        return ThrowableClassifier.findThrowableOfThrowableType(failure, ThrowableType.NonRecoverableError)
                .orElseThrow(() -> new AssertionError("it would be tried again", failure));
    }

    @Test
    void aFailureBehindTheSourceIsNotTheDocuments() {
        core.source.page(page(0, 1, Item.of("good", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        output = new TestingReaderOutput<>() {
            @Override
            public void collect(String value, long timestamp) {
                throw new IllegalStateException("behind the source");
            }
        };
        assertThatThrownBy(() -> poll(1))
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("behind the source");
        assertThat(context.metricGroup().getNumRecordsInErrorsCounter().getCount())
                .isZero();
    }

    /** Makes something of its own out of every failure, or nothing at all. */
    private static final class Catching implements CosmosDBDeserializationSchema<String> {
        private static final long serialVersionUID = 1L;

        private final boolean wraps;

        Catching(boolean wraps) {
            this.wraps = wraps;
        }

        @Override
        public void deserialize(RecordView record, Collector<String> out) throws IOException {
            try {
                out.collect(record.text());
            } catch (Throwable e) {
                if (wraps) {
                    throw new IOException("cannot use it", e);
                }
            }
        }

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<String> out) throws IOException {
            deserialize(record, out);
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    @ParameterizedTest
    @CsvSource({"true,skip-row", "false,skip-row", "true,raw", "false,raw", "true,fail", "false,fail"})
    void aSchemaThatCatchesDoesNotHideAFailureBehindTheSource(boolean wraps, String onDecodeError) throws Exception {
        for (Throwable thrown : List.of(new IllegalStateException("behind"), new AssertionError("behind"))) {
            output = new TestingReaderOutput<>() {
                @Override
                public void collect(String value, long timestamp) {
                    if (thrown instanceof Error error) {
                        throw error;
                    }
                    throw (RuntimeException) thrown;
                }
            };
            restart(new Catching(wraps), onDecodeError);
            assertThatThrownBy(() -> poll(1)).isSameAs(thrown);
            assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 0)));
        }
        assertThat(errors()).isZero();
    }

    @Test
    void aRecordWithoutATimeIsRefusedEvenIfItsSchemaCatches() throws Exception {
        reader.close();
        reader = new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("json.on-error", "skip-row"),
                new Catching(false),
                (text, record) -> {
                    if (text.contains("late")) {
                        throw new IllegalStateException("no time");
                    }
                    return 1;
                });
        core.source.page(page(0, 1, Item.of("late", 1), Item.of("b", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(1);
        assertThat(output.getEmittedRecords()).containsExactly("{\"id\":\"b\"}");
        assertThat(errors()).isOne();
    }

    @Test
    void whatEveryRecordWouldMeetIsNotSkipped() throws Exception {
        record Case(Throwable thrown, String message) {}
        for (Case one : List.of(
                new Case(new NotOfRecordException("the registry is down", null), "the registry is down"),
                new Case(new IllegalStateException(new NoClassDefFoundError("a/Lost")), "a/Lost"),
                new Case(new AssertionError("a bug"), "a bug"),
                new Case(new IOException(new InterruptedException("canceled")), "canceled"))) {
            restart(
                    new Picky() {
                        @Override
                        public void deserialize(RecordView record, Collector<String> out) throws IOException {
                            ExceptionUtils.tryRethrowIOException(one.thrown);
                            ExceptionUtils.rethrow(one.thrown);
                        }
                    },
                    "skip-row");
            assertThatThrownBy(() -> poll(1)).as(one.message).hasMessageContaining(one.message);
        }
        assertThat(errors()).isZero();
    }

    @Test
    void aDocumentThatIsTooDeepIsTheRecords() throws Exception {
        restart(
                new Picky() {
                    @Override
                    public void deserialize(RecordView record, Collector<String> out) throws IOException {
                        if (record.text().contains("bad")) {
                            throw new StackOverflowError();
                        }
                        super.deserialize(record, out);
                    }
                },
                "skip-row");
        poll(2);
        assertThat(errors()).isEqualTo(2);
    }

    /** A POJO that a mapper without modules cannot read. */
    public static final class Timed {
        public String id;
        public List<Part> parts;

        /** A part. */
        public static final class Part {
            public java.time.Instant at;
        }
    }

    @Test
    void aTypeThatNoDocumentCanBeReadAsEndsTheJobWhenTheReaderOpens() throws Exception {
        CosmosDBDeserializationSchema<Timed> schema = CosmosDBDeserializationSchema.pojo(Timed.class);
        assertThatThrownBy(() -> schema.open(null))
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContainingAll("Timed.parts[].at", "java.time.Instant", "mapper");
        CosmosDBDeserializationSchema.pojo(Named.class).open(null);
    }

    /** A POJO. */
    public static final class Named {
        public String id;
        public java.math.BigDecimal amount;
        public java.util.Map<String, List<Named>> others;
    }

    private static final class Instants extends FromStringDeserializer<Instant> {
        private static final long serialVersionUID = 1L;

        Instants() {
            super(Instant.class);
        }

        @Override
        protected Instant _deserialize(String value, DeserializationContext context) {
            return Instant.parse(value);
        }
    }

    @Test
    void aPojoIsReadByTheMapperThatIsGiven() throws Exception {
        CosmosDBDeserializationSchema<Timed> schema =
                CosmosDBDeserializationSchema.pojo(Timed.class, () -> new ObjectMapper()
                        .registerModule(new SimpleModule().addDeserializer(Instant.class, new Instants())));
        CosmosDBDeserializationSchema<Timed> travelled = InstantiationUtil.clone(schema);
        travelled.open(null);
        byte[] bytes = TestPages.page(
                "s0",
                bytes(0, 1),
                0,
                1,
                List.of(new Item("a", "[]", 1, 0, "{\"id\":\"a\",\"parts\":[{\"at\":\"2026-01-01T00:00:00Z\"}]}")));
        RecordView record = new Page(bytes, bytes.length).records();
        record.at(0);
        List<Timed> out = new ArrayList<>();
        travelled.deserialize(record, new ListCollector<>(out));
        assertThat(out.get(0).parts.get(0).at).isEqualTo(Instant.parse("2026-01-01T00:00:00Z"));
    }

    /** {@code SELECT VALUE c.details} has one for a document whose details are null. */
    @Test
    void aRowThatIsNullIsNoPojo() throws Exception {
        CosmosDBDeserializationSchema<Named> schema = CosmosDBDeserializationSchema.pojo(Named.class);
        schema.open(null);
        CosmosDBSourceReader<Named> named = new CosmosDBSourceReader<>(
                context,
                core,
                FakeCore.options().with("json.on-error", "skip-row"),
                schema,
                CosmosDBTimestampExtractor.serviceTime());
        core.source.page(page(0, 1, new Item("", "[]", 0, 0, "null"), Item.of("a", 1)));
        named.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        TestingReaderOutput<Named> emitted = new TestingReaderOutput<>();
        poll(named, emitted, 1);
        assertThat(emitted.getEmittedRecords()).extracting(value -> value.id).containsExactly("a");
        assertThat(errors()).isEqualTo(1);
        named.close();
    }

    @Test
    void aCoreThatDoesNotFitThisMachineEndsTheJob() {
        Core.Provider wrong = () -> {
            throw new UnsatisfiedLinkError("this jar holds no native library for linux-s390x");
        };
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .options(FakeCore.options())
                .deserializer(CosmosDBDeserializationSchema.string())
                .core(wrong)
                .build();
        assertThatThrownBy(() -> source.createReader(context))
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("linux-s390x");
        assertThatThrownBy(() -> source.createEnumerator(null)).isInstanceOf(CosmosDBUnrecoverableException.class);
        assertThatThrownBy(() -> Failures.core(() -> {
                    UnsatisfiedLinkError full = new UnsatisfiedLinkError("cannot place the native library");
                    full.initCause(new IOException("No space left on device"));
                    throw full;
                }))
                .isNotInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("cannot place the native library");
    }

    @Test
    void splitsArePausedAndResumedInTheCore() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        // The fetcher knows its splits for sure once a page came.
        core.source.page(page(0, 1, Item.of("a", 1)));
        poll(1);
        reader.pauseOrResumeSplits(List.of("s1"), List.of());
        LocalCosmos.await("the pause", LIMIT, () -> core.source.paused.contains("s1"));
        reader.pauseOrResumeSplits(List.of(), List.of("s1"));
        LocalCosmos.await("the end of the pause", LIMIT, () -> core.source.paused.isEmpty());
    }

    @Test
    void aFailureOfTheCoreFailsTheReader() throws Exception {
        core.source.fail(FakeCore.failure(2, "the key is refused"));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        assertThatThrownBy(() -> poll(1))
                .hasStackTraceContaining("the key is refused")
                .hasStackTraceContaining("orders")
                .satisfies(e -> assertThat(
                                ThrowableClassifier.findThrowableOfThrowableType(e, ThrowableType.NonRecoverableError))
                        .as("a rotated key is read after a restart")
                        .isEmpty());
    }

    @Test
    void closeClosesTheHandle() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        LocalCosmos.await("the splits", LIMIT, () -> !core.source.added.isEmpty());
        reader.close();
        LocalCosmos.await("the handle to close", LIMIT, () -> core.source.closed);
        open();
    }
}
