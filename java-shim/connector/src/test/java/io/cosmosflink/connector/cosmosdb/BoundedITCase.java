package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.RecordView;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.connector.base.source.hybrid.HybridSource;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.runtime.testutils.InMemoryReporter;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.util.CloseableIterator;
import org.apache.flink.util.Collector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Sources that end, in streaming and in batch mode, and what goes on behind them. */
class BoundedITCase {
    private static final int DOCUMENTS = 2000;
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final InMemoryReporter METRICS = InMemoryReporter.create();

    /** Fewer slots than the jobs have readers. */
    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setConfiguration(METRICS.addToConfiguration(new Configuration()))
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    private LocalCosmos cosmos;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("c:/customerId:4");
        FailingOnce.reset();
        Kept.ids = List.of();
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
                builder().bounded("latest").build());
        assertThat(ids).hasSize(DOCUMENTS).doesNotHaveDuplicates();
    }

    @Test
    void readersWithoutSplitsEnd() throws Exception {
        cosmos.create("one", "/customerId");
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        assertThat(run(env, builder().container("one").bounded("latest").build()))
                .isEmpty();
    }

    /** The checkpoint that it goes on from knows that three of the four splits have ended. */
    @Test
    void afterAFailureTheRestIsReadAndNothingTwice() throws Exception {
        int tail = 3000;
        cosmos.write("c", orders(0, DOCUMENTS));
        // Of one key, and so of one split, behind all else that it has.
        cosmos.write("c", documents("t", 0, tail, i -> "c0"));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        env.enableCheckpointing(50);
        FailingOnce.FAILS.set(true);
        List<String> ids = run(
                env, builder().bounded("latest").option("scan.page-size", "20").build());
        assertThat(FailingOnce.FAILED).isTrue();
        assertThat(FailingOnce.ORDERS)
                .as("not begun anew, and no split read that had ended")
                .hasValue(DOCUMENTS);
        assertThat(ids).hasSize(DOCUMENTS + tail).doesNotHaveDuplicates();
    }

    /** Its answer is one page: a checkpoint that is asked for meanwhile is taken behind it, and before the split ends. */
    @Test
    void anAnswerWithoutPositionsComesOnceAlsoAfterAFailure() throws Exception {
        // The most that the driver holds of such an answer.
        int most = 1000;
        cosmos.write("c", orders(0, most));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 1);
        env.enableCheckpointing(50);
        FailingOnce.FAILS_AT_THE_END.set(true);
        FailingOnce.BEHIND_ORDERS.set(most);
        List<String> ids =
                run(env, builder().query("SELECT DISTINCT TOP 1000 c.id FROM c").build());
        assertThat(FailingOnce.FAILED).isTrue();
        assertThat(ids).containsExactlyInAnyOrderElementsOf(ids(0, most));
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
    // Flink's iterators close as they like.
    @SuppressWarnings("try")
    void theChangeFeedGoesOnBehindAQueryWithoutAGap() throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        env.enableCheckpointing(100);
        Set<String> seen = new HashSet<>();
        DataStream<String> stream = feedBehind(
                env, builder().query("SELECT * FROM c").bounded("latest").build());
        try (CloseableIterator<String> ids = stream.collectAsync()) {
            JobClient job = env.executeAsync("hybrid");
            while (seen.size() < DOCUMENTS) {
                seen.add(ids.next());
            }
            cosmos.write("c", orders(DOCUMENTS, DOCUMENTS + 300));
            while (seen.size() < DOCUMENTS + 300) {
                seen.add(ids.next());
            }
            // The readers of the query are gone, and had the gauges first.
            LocalCosmos.await("the gauges of the feed's readers", LIMIT, () -> sum(job, "splits") == 4);
            double requests = sum(job, "requests");
            LocalCosmos.await("requests for changes", LIMIT, () -> sum(job, "requests") > requests + 4);
        }
        assertThat(seen).containsExactlyInAnyOrderElementsOf(ids(0, DOCUMENTS + 300));
    }

    /** Within the query, and within the feed behind it, which nobody is there to tell where to begin. */
    @ParameterizedTest
    @ValueSource(ints = {DOCUMENTS / 2, DOCUMENTS})
    void aTableAndItsChangesComeOnceAlsoAfterAFailure(int behindOrders) throws Exception {
        FailingOnce.FAILS.set(true);
        FailingOnce.BEHIND_ORDERS.set(behindOrders);
        JobClient job = changesBehindATable(new FailingOnce());
        try {
            LocalCosmos.await(
                    "the table",
                    LIMIT,
                    () -> FailingOnce.BEFORE.get() < Long.MAX_VALUE && Kept.ids.size() >= DOCUMENTS);
            // In the feed the next change fails.
            LocalCosmos.await("checkpoints", LIMIT, () -> FailingOnce.COMPLETE.get() >= FailingOnce.BEFORE.get() + 2);
            cosmos.write("c", orders(DOCUMENTS, DOCUMENTS + 300));
            LocalCosmos.await("the failure", LIMIT, FailingOnce.FAILED::get);
            LocalCosmos.await("the changes", LIMIT, () -> new HashSet<>(Kept.ids).size() >= DOCUMENTS + 300);
        } finally {
            job.cancel().get();
        }
        List<String> table = ids(0, DOCUMENTS);
        assertThat(Kept.ids).filteredOn(table::contains).containsExactlyInAnyOrderElementsOf(table);
        // A query that begins anew reads some of what is written meanwhile, which comes as a change all the same.
        Collection<String> came = behindOrders < DOCUMENTS ? new HashSet<>(Kept.ids) : Kept.ids;
        assertThat(came).containsExactlyInAnyOrderElementsOf(ids(0, DOCUMENTS + 300));
    }

    /** One reader ends behind the last checkpoint; when both are restored from it, the other one ends first. */
    @Test
    void theChangeFeedWaitsForAReaderThatWasRestored() throws Exception {
        EndingFirst.reset();
        JobClient job = changesBehindATable(new EndingFirst());
        try {
            LocalCosmos.await("the failure", LIMIT, EndingFirst.FAILED::get);
            LocalCosmos.await("the table", LIMIT, () -> Kept.ids.size() >= DOCUMENTS);
        } finally {
            job.cancel().get();
        }
        assertThat(Kept.ids).containsExactlyInAnyOrderElementsOf(ids(0, DOCUMENTS));
    }

    /** Runs a query in small pages and the change feed behind it: what comes of them goes through {@code failing}, and is kept. */
    private JobClient changesBehindATable(MapFunction<String, String> failing) throws Exception {
        cosmos.write("c", orders(0, DOCUMENTS));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        env.enableCheckpointing(50);
        CosmosDBSource<String> query = builder()
                .query("SELECT * FROM c")
                .bounded("latest")
                .option("scan.page-size", "20")
                .build();
        feedBehind(env, query)
                .map(failing)
                .returns(Types.STRING)
                .map(new Kept())
                .returns(Types.STRING)
                .setParallelism(1)
                .sinkTo(new DiscardingSink<>());
        return env.executeAsync("hybrid");
    }

    private static double sum(JobClient job, String gauge) {
        return Gauges.sum(METRICS, job, ".*\\.cosmosdb\\." + gauge);
    }

    @Test
    void nothingGoesOnBehindASourceWithoutPositions() {
        cosmos.write("c", orders(0, 10));
        StreamExecutionEnvironment env = environment(RuntimeExecutionMode.STREAMING, 2);
        assertThatThrownBy(
                        () -> feedBehind(env, builder().query("SELECT * FROM c").build())
                                .executeAndCollect(100))
                .hasStackTraceContaining("CosmosDBUnrecoverableException: nothing can go on behind this source")
                .hasStackTraceContaining("set its scan.bounded.mode to latest");
        assertThatThrownBy(() -> builder().startBehind(new ForeignEnumerator()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("CosmosDBSource");
    }

    /** A bounded source, and the change feed from where it stops. */
    // Flink names its enumerators without their types.
    @SuppressWarnings("rawtypes")
    private DataStream<String> feedBehind(StreamExecutionEnvironment env, CosmosDBSource<String> first) {
        CosmosDBOptions options = cosmos.options("c");
        Source<String, ?, ?> source = HybridSource.builder(first)
                .addSource(
                        context -> builder(options)
                                .startBehind(context.getPreviousEnumerator())
                                .build(),
                        Boundedness.CONTINUOUS_UNBOUNDED)
                .build();
        return env.fromSource(source, WatermarkStrategy.noWatermarks(), "hybrid", Types.STRING);
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
        return documents("o", from, to, i -> "c" + i % 97);
    }

    private static List<Operation> documents(String prefix, int from, int to, IntFunction<String> customer) {
        return IntStream.range(from, to)
                .mapToObj(i -> Operation.upsert(
                        prefix + i,
                        "[\"" + customer.apply(i) + "\"]",
                        ("{\"id\":\"" + prefix + i + "\",\"customerId\":\"" + customer.apply(i) + "\",\"amount\":" + i
                                        + "}")
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

    /** Fails once, if it shall: when a checkpoint is complete that was taken after so many orders. */
    private static final class FailingOnce
            implements MapFunction<String, String>, CheckpointListener, CheckpointedFunction {
        private static final long serialVersionUID = 1L;

        static final AtomicBoolean FAILS = new AtomicBoolean();
        /** Whether it is to fail, in place of that, when the first checkpoint is complete that has all orders. */
        static final AtomicBoolean FAILS_AT_THE_END = new AtomicBoolean();

        static final AtomicBoolean FAILED = new AtomicBoolean();
        /** How many orders come before that; all of them unless set. */
        static final AtomicInteger BEHIND_ORDERS = new AtomicInteger();
        /** How many orders came, those that came again too. */
        static final AtomicInteger ORDERS = new AtomicInteger();
        /** The last checkpoint that is complete, and the one that was when the last order came. */
        static final AtomicLong COMPLETE = new AtomicLong();

        static final AtomicLong BEFORE = new AtomicLong();
        /** The first checkpoint that has all orders. */
        static final AtomicLong BEHIND = new AtomicLong();

        static void reset() {
            FAILS.set(false);
            FAILS_AT_THE_END.set(false);
            FAILED.set(false);
            BEHIND_ORDERS.set(DOCUMENTS);
            ORDERS.set(0);
            COMPLETE.set(0);
            BEFORE.set(Long.MAX_VALUE);
            BEHIND.set(Long.MAX_VALUE);
        }

        @Override
        public String map(String id) throws InterruptedException {
            if (id.startsWith("o") && ORDERS.incrementAndGet() == BEHIND_ORDERS.get()) {
                BEFORE.set(COMPLETE.get());
            }
            if (FAILS.get() && BEFORE.get() < Long.MAX_VALUE && !FAILED.get()) {
                // The one after the next was not under way yet.
                if (COMPLETE.get() >= BEFORE.get() + 2 && FAILED.compareAndSet(false, true)) {
                    throw new IllegalStateException("as the test wants it");
                }
                // What is left is to last until then: between pages there is time for a checkpoint.
                Thread.sleep(2);
            }
            if (FAILS_AT_THE_END.get() && !FAILED.get()) {
                // Long enough that a checkpoint is asked for within the page.
                Thread.sleep(1);
            }
            return id;
        }

        @Override
        public void initializeState(FunctionInitializationContext context) {}

        @Override
        public void snapshotState(FunctionSnapshotContext context) {
            if (ORDERS.get() >= BEHIND_ORDERS.get()) {
                BEHIND.accumulateAndGet(context.getCheckpointId(), Math::min);
            }
        }

        @Override
        public void notifyCheckpointComplete(long id) {
            COMPLETE.accumulateAndGet(id, Math::max);
            if (FAILS_AT_THE_END.get() && id >= BEHIND.get() && FAILED.compareAndSet(false, true)) {
                throw new IllegalStateException("as the test wants it");
            }
        }
    }

    /** The second reader fails once the first one has ended, which no checkpoint has; from then on the first one is the slower one. */
    private static final class EndingFirst extends RichMapFunction<String, String> implements CheckpointListener {
        private static final long serialVersionUID = 1L;

        static final AtomicBoolean HELD = new AtomicBoolean();
        static final AtomicBoolean FAILED = new AtomicBoolean();
        static final AtomicLong COMPLETE = new AtomicLong();
        static final AtomicLong FIRST = new AtomicLong();

        static void reset() {
            HELD.set(false);
            FAILED.set(false);
            COMPLETE.set(0);
            FIRST.set(0);
        }

        @Override
        public String map(String id) throws InterruptedException {
            boolean first = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask() == 0;
            if (first) {
                FIRST.incrementAndGet();
                if (FAILED.get() || !HELD.get()) {
                    Thread.sleep(2);
                }
            } else if (!FAILED.get()) {
                if (COMPLETE.get() < 2) {
                    Thread.sleep(2);
                    return id;
                }
                // No checkpoint is complete from here on.
                HELD.set(true);
                for (long before = -1; before < FIRST.get(); ) {
                    before = FIRST.get();
                    Thread.sleep(500);
                }
                FAILED.set(true);
                throw new IllegalStateException("as the test wants it");
            }
            return id;
        }

        @Override
        public void notifyCheckpointComplete(long id) {
            COMPLETE.accumulateAndGet(id, Math::max);
        }
    }

    /** Keeps what came in its state: after a failure what the state has, and what came since. */
    private static final class Kept implements MapFunction<String, String>, CheckpointedFunction {
        private static final long serialVersionUID = 1L;

        /** What the last attempt has. */
        static volatile List<String> ids = List.of();

        private transient List<String> own;
        private transient ListState<String> state;

        @Override
        public String map(String id) {
            own.add(id);
            return id;
        }

        @Override
        public void initializeState(FunctionInitializationContext context) throws Exception {
            state = context.getOperatorStateStore().getListState(new ListStateDescriptor<>("ids", Types.STRING));
            own = new CopyOnWriteArrayList<>();
            state.get().forEach(own::add);
            ids = own;
        }

        @Override
        public void snapshotState(FunctionSnapshotContext context) throws Exception {
            state.update(own);
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
