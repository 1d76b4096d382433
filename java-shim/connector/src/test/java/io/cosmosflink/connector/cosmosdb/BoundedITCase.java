package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.RecordView;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.connector.base.source.hybrid.HybridSource;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.util.CloseableIterator;
import org.apache.flink.util.Collector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Sources that end, in streaming and in batch mode, and what goes on behind them. */
class BoundedITCase {
    private static final int DOCUMENTS = 2000;

    /** Fewer slots than the jobs have readers. */
    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    private LocalCosmos cosmos;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("c:/customerId:4");
        FailingOnce.reset();
    }

    @AfterEach
    void stop() throws Exception {
        cosmos.close();
    }

    @Test
    void inBatchModeEachDocumentComesOnceAlsoWithMoreReadersThanSlotsAndSplits() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        List<String> ids = run(
                environment(RuntimeExecutionMode.BATCH, 6),
                builder().stop("start").build());
        assertThat(ids).hasSize(DOCUMENTS).doesNotHaveDuplicates();
    }

    @Test
    void readersWithoutSplitsEnd() throws Exception {
        cosmos.create("one", "/customerId");
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        assertThat(run(env, builder().container("one").stop("start").build())).isEmpty();
    }

    @Test
    void afterAFailureTheRestIsReadAndNothingTwice() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        env.enableCheckpointing(50);
        // Late enough for splits to have ended, and for checkpoints to hold that they have.
        FailingOnce.AT.set(DOCUMENTS * 3 / 4);
        List<String> ids = run(
                env, builder().stop("start").option("source.page-size", "20").build());
        assertThat(FailingOnce.FAILED).isTrue();
        assertThat(ids).hasSize(DOCUMENTS).doesNotHaveDuplicates();
    }

    @Test
    void aQueryIsReadInBatchMode() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        CosmosDBSource<String> source = builder()
                .query("SELECT c.id FROM c WHERE c.amount < @most")
                .queryParameters("{\"@most\": 500}")
                .build();
        assertThat(source.getBoundedness()).isEqualTo(Boundedness.BOUNDED);
        assertThat(run(environment(RuntimeExecutionMode.BATCH, 2), source))
                .containsExactlyInAnyOrderElementsOf(ids(0, 500));
    }

    @Test
    void documentsAreReadByKey() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        String keys = IntStream.of(3, 700, 1999)
                .mapToObj(i -> "{\"id\":\"o" + i + "\",\"partitionKey\":[\"c" + i % 97 + "\"]}")
                .collect(Collectors.joining(",", "[", ",{\"id\":\"none\",\"partitionKey\":[null]}]"));
        assertThat(run(
                        environment(RuntimeExecutionMode.BATCH, 2),
                        builder().readMany(keys).build()))
                .containsExactlyInAnyOrder("o3", "o700", "o1999");
    }

    @Test
    void whatTheDriverRefusesIsRefusedWhenTheJobIsDefined() {
        assertThatThrownBy(() -> builder().query("SELECT COUNT(1) FROM c").build())
                .isInstanceOf(CosmosException.class)
                .hasMessageContainingAll("COUNT", "aggregate in Flink");
    }

    @Test
    // Flink names its enumerators without their types, and its iterators close as they like.
    @SuppressWarnings({"rawtypes", "try"})
    void theChangeFeedGoesOnBehindAQueryWithoutAGap() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        CosmosDBOptions options = cosmos.options("c");
        Source<String, ?, ?> source = HybridSource.builder(
                        builder().query("SELECT * FROM c").stop("start").build())
                .addSource(
                        context -> builder(options)
                                .startBehind(context.getPreviousEnumerator())
                                .build(),
                        Boundedness.CONTINUOUS_UNBOUNDED)
                .build();
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        env.enableCheckpointing(100);
        Set<String> seen = new HashSet<>();
        try (CloseableIterator<String> ids = env.fromSource(
                        source, WatermarkStrategy.noWatermarks(), "hybrid", Types.STRING)
                .executeAndCollect("hybrid")) {
            while (seen.size() < DOCUMENTS) {
                seen.add(ids.next());
            }
            cosmos.write("c", orders(DOCUMENTS, DOCUMENTS + 300));
            while (seen.size() < DOCUMENTS + 300) {
                seen.add(ids.next());
            }
        }
        assertThat(seen).containsExactlyInAnyOrderElementsOf(ids(0, DOCUMENTS + 300));
    }

    @Test
    void nothingGoesOnBehindASourceWithoutPositions() {
        assertThatThrownBy(() -> builder().startBehind(new ForeignEnumerator()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("CosmosDBSource");
    }

    private CosmosDBSource.Builder<String> builder() {
        return builder(cosmos.options("c"));
    }

    private static CosmosDBSource.Builder<String> builder(CosmosDBOptions options) {
        return CosmosDBSource.<String>builder().options(options).deserializer(new Id());
    }

    private static StreamExecutionEnvironment environment(RuntimeExecutionMode mode, int parallelism) {
        Configuration settings = new Configuration();
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 2);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100));
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setRuntimeMode(mode);
        env.setParallelism(parallelism);
        return env;
    }

    /** Runs a job to its end. */
    private static List<String> run(StreamExecutionEnvironment env, Source<String, ?, ?> source) throws Exception {
        return env.fromSource(source, WatermarkStrategy.noWatermarks(), "source")
                .map(new FailingOnce())
                .returns(Types.STRING)
                .executeAndCollect(100_000);
    }

    private static List<String> ids(int from, int to) {
        return IntStream.range(from, to).mapToObj(i -> "o" + i).toList();
    }

    private static List<Operation> orders(int from, int to) {
        return IntStream.range(from, to)
                .mapToObj(i -> Operation.upsert(
                        "o" + i,
                        "[\"c" + i % 97 + "\"]",
                        ("{\"id\":\"o" + i + "\",\"customerId\":\"c" + i % 97 + "\",\"amount\":" + i + "}")
                                .getBytes(StandardCharsets.UTF_8)))
                .toList();
    }

    /** The id of a document. */
    private static final class Id implements CosmosDBDeserializationSchema<String> {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserialize(RecordView record, Collector<String> out) {
            out.collect(record.id());
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    /** Fails once, with the record of a number. */
    private static final class FailingOnce implements MapFunction<String, String> {
        private static final long serialVersionUID = 1L;

        static final AtomicInteger AT = new AtomicInteger();
        static final AtomicInteger SEEN = new AtomicInteger();
        static final AtomicBoolean FAILED = new AtomicBoolean();

        static void reset() {
            AT.set(Integer.MAX_VALUE);
            SEEN.set(0);
            FAILED.set(false);
        }

        @Override
        public String map(String id) {
            if (SEEN.incrementAndGet() >= AT.get() && FAILED.compareAndSet(false, true)) {
                throw new IllegalStateException("as the test wants it");
            }
            return id;
        }
    }

    private static final class ForeignEnumerator implements SplitEnumerator<CosmosDBSplit, Void> {
        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int subtask, String host) {}

        @Override
        public void addSplitsBack(List<CosmosDBSplit> splits, int subtask) {}

        @Override
        public void addReader(int subtask) {}

        @Override
        public Void snapshotState(long checkpoint) {
            return null;
        }

        @Override
        public void close() {}
    }
}
