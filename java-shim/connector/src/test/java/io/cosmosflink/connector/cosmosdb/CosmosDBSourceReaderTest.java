package io.cosmosflink.connector.cosmosdb;

import static io.cosmosflink.connector.cosmosdb.FakeRuntime.bytes;
import static io.cosmosflink.connector.cosmosdb.FakeRuntime.split;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.TestPages;
import io.cosmosflink.core.TestPages.Item;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.testutils.source.reader.TestingReaderContext;
import org.apache.flink.connector.testutils.source.reader.TestingReaderOutput;
import org.apache.flink.runtime.metrics.groups.InternalSourceReaderMetricGroup;
import org.apache.flink.runtime.metrics.groups.UnregisteredMetricGroups;
import org.apache.flink.util.Collector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class CosmosDBSourceReaderTest {
    private static final Duration LIMIT = Duration.ofSeconds(10);
    private final FakeRuntime core = new FakeRuntime();
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
        return new CosmosDBSourceReader<>(
                context, core, FakeRuntime.options(), schema, CosmosDBTimestampExtractor.serviceTime());
    }

    @AfterEach
    void close() throws Exception {
        reader.close();
    }

    private static byte[] page(int ordinal, int after, Item... items) {
        return TestPages.page("s" + ordinal, bytes(ordinal, after), 0, 5_000_000, List.of(items));
    }

    private void poll(int records) throws Exception {
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (output.getEmittedRecords().size() < records) {
            assertThat(System.nanoTime())
                    .as("emitted %s", output.getEmittedRecords())
                    .isLessThan(deadline);
            reader.pollNext(output);
            reader.isAvailable().get(10, TimeUnit.SECONDS);
        }
    }

    @Test
    void aPageIsEmittedInOneGoAndThenMovesItsSplit() throws Exception {
        core.source.pages.add(page(0, 3, Item.of("a", 100), Item.of("b", 101), Item.of("c", 102)));
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
    void aPageWithoutRecordsMovesItsSplitToo() throws Exception {
        core.source.pages.add(page(0, 5));
        core.source.pages.add(page(1, 1, Item.of("x", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        poll(1);
        assertThat(reader.snapshotState(1)).contains(new CosmosDBSplit(split(0, 5)));
        assertThat(context.metricGroup()
                        .getIOMetricGroup()
                        .getNumRecordsInCounter()
                        .getCount())
                .isEqualTo(1);
    }

    @Test
    void pagesInFlightDoNotShareABuffer() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            core.source.pages.add(page(0, i, Item.of("first" + i, 1), Item.of("second" + i, 1)));
            expected.add("{\"id\":\"first" + i + "\"}");
            expected.add("{\"id\":\"second" + i + "\"}");
        }
        poll(400);
        assertThat(output.getEmittedRecords()).isEqualTo(expected);
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 199)));
    }

    @Test
    void deletesAreLeftOutOfText() throws Exception {
        core.source.pages.add(page(0, 1, new Item("gone", "[\"k\"]", 1, 3, ""), Item.of("here", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        poll(1);
        assertThat(output.getEmittedRecords()).containsExactly("{\"id\":\"here\"}");
    }

    @Test
    void aDocumentThatCannotBeReadIsNamed() throws Exception {
        reader.close();
        reader = reader(new CosmosDBDeserializationSchema<>() {
            private static final long serialVersionUID = 1L;

            @Override
            public void deserialize(io.cosmosflink.core.RecordView record, Collector<String> out) throws IOException {
                throw new IOException("no good");
            }

            @Override
            public TypeInformation<String> getProducedType() {
                return Types.STRING;
            }
        });
        core.source.pages.add(page(0, 1, Item.of("bad", 1)));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        assertThatThrownBy(() -> poll(1)).hasMessageContainingAll("'bad'", "[\"k\"]", "no good");
        assertThat(reader.snapshotState(1)).containsExactly(new CosmosDBSplit(split(0, 0)));
        assertThat(context.metricGroup().getNumRecordsInErrorsCounter().getCount())
                .isOne();
    }

    @Test
    void aFailureBehindTheSourceIsNotTheDocuments() {
        core.source.pages.add(page(0, 1, Item.of("good", 1)));
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

    @Test
    void splitsArePausedAndResumedInTheCore() throws Exception {
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0)), new CosmosDBSplit(split(1, 0))));
        // The fetcher knows its splits for sure once a page came.
        core.source.pages.add(page(0, 1, Item.of("a", 1)));
        poll(1);
        reader.pauseOrResumeSplits(List.of("s1"), List.of());
        LocalCosmos.await("the pause", LIMIT, () -> core.source.paused.contains("s1"));
        reader.pauseOrResumeSplits(List.of(), List.of("s1"));
        LocalCosmos.await("the end of the pause", LIMIT, () -> core.source.paused.isEmpty());
    }

    @Test
    void aFailureOfTheCoreFailsTheReader() throws Exception {
        core.source.fail(FakeRuntime.failure(2, "the key is refused"));
        reader.addSplits(List.of(new CosmosDBSplit(split(0, 0))));
        assertThatThrownBy(() -> poll(1))
                .hasStackTraceContaining("the key is refused")
                .hasStackTraceContaining("orders");
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
