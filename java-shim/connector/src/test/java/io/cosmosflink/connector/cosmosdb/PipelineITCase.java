package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateRecoveryOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.JobListener;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.runtime.testutils.InMemoryReporter;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.util.Collector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Source and sink on a MiniCluster against a local Cosmos, over the real library. */
class PipelineITCase {
    private static final int DOCUMENTS = 5000;
    private static final Duration LIMIT = Duration.ofSeconds(60);

    private static final InMemoryReporter METRICS = InMemoryReporter.create();

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setConfiguration(METRICS.addToConfiguration(new Configuration()))
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    /** One that a failed test leaves behind would hold slots that the next one needs. */
    private static final List<JobClient> JOBS = new ArrayList<>();

    private LocalCosmos cosmos;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start(
                "events-source:/customerId:4",
                "events-single:/customerId:1",
                "events-processed:/region:2",
                "dead-letter:/container:1");
        Counting.reset();
    }

    @AfterEach
    void stop() throws Exception {
        for (JobClient job : JOBS) {
            if (!job.getJobStatus().get().isGloballyTerminalState()) {
                job.cancel().get();
            }
        }
        JOBS.clear();
        cosmos.close();
    }

    @Test
    void everyDocumentArrivesOnce() throws Exception {
        cosmos.write("events-source", orders(0, DOCUMENTS));
        StreamExecutionEnvironment env = environment();
        pipeline(env, Long.MAX_VALUE);
        JobClient job = env.executeAsync("copy");
        arrived(job, DOCUMENTS);
        // What is written while the job runs arrives too.
        cosmos.write("events-source", orders(DOCUMENTS, DOCUMENTS + 500));
        arrived(job, DOCUMENTS + 500);
        job.cancel().get();

        Map<String, JsonNode> copies = cosmos.read("events-processed");
        assertThat(copies).hasSize(DOCUMENTS + 500);
        assertThat(copies.values())
                .allSatisfy(copy -> assertThat(copy.get("amount").asInt())
                        .isEqualTo(Integer.parseInt(copy.get("id").asText().substring(1))));
        assertThat(Counting.RECORDS).hasValue(DOCUMENTS + 500);
    }

    @Test
    void afterAFailureNothingIsLostOrRepeatedInState() throws Exception {
        cosmos.write("events-source", orders(0, DOCUMENTS / 2));
        StreamExecutionEnvironment env = environment();
        pipeline(env, DOCUMENTS * 3L / 4);
        JobClient job = env.executeAsync("fail once");
        arrived(job, DOCUMENTS / 2);
        LocalCosmos.await("a checkpoint", LIMIT, () -> Counting.CHECKPOINTS.get() > 1);
        cosmos.write("events-source", orders(DOCUMENTS / 2, DOCUMENTS));
        arrived(job, DOCUMENTS);
        LocalCosmos.await("the state to count them all", LIMIT, () -> Counting.RECORDS.get() >= DOCUMENTS);
        // A record that came twice would be counted by the next checkpoints.
        int seen = Counting.CHECKPOINTS.get();
        LocalCosmos.await("two checkpoints more", LIMIT, () -> Counting.CHECKPOINTS.get() > seen + 1);
        job.cancel().get();

        assertThat(Counting.FAILED).isTrue();
        assertThat(Counting.RESTORED_AT.get()).isPositive().isLessThan(DOCUMENTS);
        assertThat(Counting.RECORDS).hasValue(DOCUMENTS);
        assertThat(cosmos.read("events-processed")).hasSize(DOCUMENTS);
    }

    @Test
    void aPhysicalSplitLosesNothing() throws Exception {
        cosmos.write("events-source", orders(0, DOCUMENTS));
        StreamExecutionEnvironment env = environment();
        pipeline(env, Long.MAX_VALUE);
        JobClient job = env.executeAsync("split");
        arrived(job, DOCUMENTS);
        split("events-source", 0);
        cosmos.write("events-source", orders(DOCUMENTS, 2 * DOCUMENTS));
        arrived(job, 2 * DOCUMENTS);
        job.cancel().get();
        assertThat(Counting.RECORDS).hasValue(2 * DOCUMENTS);
    }

    /** A savepoint has the children in place of their parent, and they go on wherever they are read then. */
    @Test
    void aJobGoesOnFromASavepointWithTheChildrenOfAPartition(@TempDir Path folder) throws Exception {
        cosmos.write("events-source", orders(0, 1000));
        StreamExecutionEnvironment env = environment();
        pipeline(env, Long.MAX_VALUE);
        JobClient first = env.executeAsync("first");
        arrived(first, 1000);
        split("events-source", 0);
        // What is written now arrives by the children alone.
        cosmos.write("events-source", orders(1000, 2000));
        arrived(first, 2000);
        String savepoint = first.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get();
        // And while no job runs.
        split("events-source", 1);
        cosmos.write("events-source", orders(2000, 3000));
        Counting.reset();
        env = environment(savepoint);
        env.setParallelism(3);
        pipeline(env, Long.MAX_VALUE);
        JobClient second = env.executeAsync("second");
        arrived(second, 3000);
        wentOnFrom2000To3000(second);
    }

    /** While a job reads on, each half of a merged partition is a split of its own. */
    @Test
    void theHalvesOfAMergedPartitionAreReadAsOneFromASavepointOn(@TempDir Path folder) throws Exception {
        cosmos.write("events-source", orders(0, 1000));
        StreamExecutionEnvironment env = environment();
        pipeline(env, Long.MAX_VALUE);
        JobClient first = env.executeAsync("first");
        arrived(first, 1000);
        cosmos.admin(
                "POST",
                "merge",
                "{\"database\":\"orders\",\"container\":\"events-source\",\"partitions\":[\"0\",\"1\"]}");
        cosmos.write("events-source", orders(1000, 2000));
        arrived(first, 2000);
        // Each asks some times more, so that both halves are at the end of their partition.
        double requests = ofTheSource(first, "requests");
        LocalCosmos.await("all to be at the end", LIMIT, () -> ofTheSource(first, "requests") > requests + 24);
        assertThat(ofTheSource(first, "splits")).isEqualTo(4);
        String savepoint = first.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get();
        Counting.reset();
        env = environment(savepoint);
        pipeline(env, Long.MAX_VALUE);
        JobClient second = env.executeAsync("second");
        cosmos.write("events-source", orders(2000, 3000));
        arrived(second, 3000);
        // Before Flink 2.2 readers read on by themselves, and nobody sees the halves beside each other.
        assertThat(ofTheSource(second, "splits")).isEqualTo(CosmosDBSource.reassigns() ? 3 : 4);
        wentOnFrom2000To3000(second);
    }

    /** A record that came twice would be counted by the next checkpoints. */
    private static void wentOnFrom2000To3000(JobClient job) throws Exception {
        int seen = Counting.CHECKPOINTS.get();
        LocalCosmos.await("two checkpoints more", LIMIT, () -> Counting.CHECKPOINTS.get() > seen + 1);
        job.cancel().get();
        assertThat(Counting.RESTORED_AT).hasValue(2000);
        assertThat(Counting.RECORDS).as("each once").hasValue(3000);
    }

    private static double ofTheSource(JobClient job, String gauge) {
        return Gauges.sum(METRICS, job, ".*Source.*\\.cosmosdb\\." + gauge);
    }

    private void split(String container, int partition) {
        cosmos.admin(
                "POST",
                "split",
                "{\"database\":\"orders\",\"container\":\"" + container + "\",\"partition\":" + partition + "}");
    }

    /**
     * The children of a partition are read beside each other. In turn, by one split, the watermark would follow the one that is ahead, and all
     * that the other one has would be late. A hundred orders are written at once: that is an event time.
     */
    @Test
    void noRecordIsLateBecauseAPartitionSplitsWhileAJobReads() throws Exception {
        cosmos.write("events-single", orders(0, 1000));
        Lateness.reset();
        StreamExecutionEnvironment env = environment();
        env.setParallelism(1);
        env.getConfig().setAutoWatermarkInterval(1);
        CosmosDBSource<CosmosDBRecord> source = CosmosDBSource.<CosmosDBRecord>builder()
                .options(cosmos.options("events-single"))
                .option("scan.page-size", "100")
                .deserializer(CosmosDBDeserializationSchema.raw())
                .timestamps((order, record) -> Long.parseLong(order.id.substring(1)) / 100)
                .build();
        env.fromSource(source, WatermarkStrategy.forMonotonousTimestamps(), "source")
                .process(new Lateness())
                .returns(Types.POJO(CosmosDBRecord.class))
                .sinkTo(new DiscardingSink<>());
        JobClient job = env.executeAsync("late");
        LocalCosmos.await("the job to be held back", LIMIT, () -> Lateness.WAITS.get());
        split("events-single", 0);
        cosmos.write("events-single", orders(1000, 2000));
        split("events-single", 1);
        cosmos.write("events-single", orders(2000, 4000));
        Lateness.gate.countDown();
        LocalCosmos.await("all of it", LIMIT, () -> Lateness.SEEN.get() >= 4000);
        // It goes on with all children: what is behind the last records shows with the next ones.
        AtomicInteger next = new AtomicInteger(4000);
        LocalCosmos.await("the watermark", LIMIT, () -> {
            cosmos.write("events-single", orders(next.get(), next.addAndGet(100)));
            return Lateness.WATERMARK.get() >= 38;
        });
        job.cancel().get();
        assertThat(Lateness.LATE)
                .as("of %s, such as %s", Lateness.SEEN, Lateness.example)
                .hasValue(0);
    }

    @Test
    void deletesAreDeletes() throws Exception {
        cosmos.write("events-processed", List.of(stored("a"), stored("b"), stored("c")));
        StreamExecutionEnvironment env = environment();
        env.fromData("a", "c").sinkTo(sink(cosmos.options("events-processed"), OperationKind.DELETE));
        env.execute("delete");
        assertThat(cosmos.read("events-processed").keySet()).containsExactly("[\"eu\"]b");
    }

    @Test
    void aRefusedWriteFailsTheJobAndSaysWhy() throws Exception {
        cosmos.write("events-processed", List.of(stored("a")));
        StreamExecutionEnvironment env = environment();
        env.fromData("a").sinkTo(sink(cosmos.options("events-processed"), OperationKind.CREATE));
        assertThatThrownBy(() -> env.execute("conflict"))
                .rootCause()
                .hasMessageContainingAll("CREATE of id 'a'", "[\"eu\"]", "409", "activity");
    }

    @Test
    void aRefusedWriteGoesToTheDeadLetterContainer() throws Exception {
        cosmos.write("events-processed", List.of(stored("a")));
        StreamExecutionEnvironment env = environment();
        CosmosDBOptions options = cosmos.options("events-processed")
                .with("sink.failure-mode", "dead-letter")
                .with("sink.dead-letter-container", "dead-letter");
        env.fromData("a", "b").sinkTo(sink(options, OperationKind.CREATE));
        env.execute("dead letter");
        assertThat(cosmos.read("events-processed")).hasSize(2);
        assertThat(cosmos.read("dead-letter").values()).singleElement().satisfies(letter -> {
            assertThat(letter.get("container").asText()).isEqualTo("events-processed");
            assertThat(letter.get("operation").asText()).isEqualToIgnoringCase("create");
            assertThat(letter.toString()).contains("\"a\"").contains("409");
        });
    }

    @Test
    void aMissingContainerEndsTheJobAtOnce() {
        StreamExecutionEnvironment env = environment();
        env.fromSource(source(cosmos.options("events-nowhere")), WatermarkStrategy.noWatermarks(), "nowhere")
                .print();
        assertThatThrownBy(() ->
                        env.executeAsync("nowhere").getJobExecutionResult().get())
                .isInstanceOf(ExecutionException.class)
                .hasStackTraceContaining("events-nowhere")
                .hasStackTraceContaining("CosmosDBUnrecoverableException");
    }

    private void arrived(JobClient job, long documents) throws Exception {
        LocalCosmos.await(documents + " documents", LIMIT, () -> {
            JobStatus status = job.getJobStatus().join();
            if (status.isGloballyTerminalState()) {
                throw new AssertionError("the job is " + status, failure(job));
            }
            return cosmos.count("events-processed") >= documents;
        });
        assertThat(cosmos.count("events-processed")).isEqualTo(documents);
    }

    private static Throwable failure(JobClient job) {
        try {
            job.getJobExecutionResult().get();
            return null;
        } catch (Exception e) {
            return e;
        }
    }

    private static StreamExecutionEnvironment environment() {
        return environment("");
    }

    /** With a savepoint to go on from, or an empty name. */
    private static StreamExecutionEnvironment environment(String savepoint) {
        Configuration settings = new Configuration();
        if (!savepoint.isEmpty()) {
            settings.set(StateRecoveryOptions.SAVEPOINT_PATH, savepoint);
        }
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 2);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100));
        settings.set(PipelineOptions.GENERIC_TYPES, false);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(2);
        env.enableCheckpointing(200);
        env.registerJobListener(new JobListener() {
            @Override
            public void onJobSubmitted(JobClient job, Throwable failure) {
                if (job != null) {
                    JOBS.add(job);
                }
            }

            @Override
            public void onJobExecuted(JobExecutionResult result, Throwable failure) {
                // Its client says how it ended.
            }
        });
        return env;
    }

    private static CosmosDBSource<CosmosDBRecord> source(CosmosDBOptions options) {
        return CosmosDBSource.<CosmosDBRecord>builder()
                .options(options)
                .option("scan.page-size", "100")
                .deserializer(CosmosDBDeserializationSchema.raw())
                .build();
    }

    private void pipeline(StreamExecutionEnvironment env, long failAt) {
        DataStream<CosmosDBRecord> counted = env.fromSource(
                        source(cosmos.options("events-source")), WatermarkStrategy.forMonotonousTimestamps(), "source")
                .uid("source")
                .map(new Counting(failAt))
                .returns(Types.POJO(CosmosDBRecord.class))
                .uid("count")
                .setParallelism(1);
        counted.sinkTo(CosmosDBSink.<CosmosDBRecord>builder()
                        .options(cosmos.options("events-processed"))
                        .converter(CosmosDBElementConverter.<CosmosDBRecord>builder()
                                .id(r -> r.id)
                                .partitionKey(r -> "r" + r.id.charAt(r.id.length() - 1))
                                .document(PipelineITCase::withRegion)
                                .build())
                        .build())
                .uid("sink");
    }

    private static byte[] withRegion(CosmosDBRecord record) {
        String text = new String(record.document, StandardCharsets.UTF_8);
        return ("{\"region\":\"r" + record.id.charAt(record.id.length() - 1) + "\"," + text.substring(1))
                .getBytes(StandardCharsets.UTF_8);
    }

    private static CosmosDBSink<String> sink(CosmosDBOptions options, OperationKind type) {
        return CosmosDBSink.<String>builder()
                .options(options)
                .converter(CosmosDBElementConverter.<String>builder()
                        .id(id -> id)
                        .partitionKey(id -> "eu")
                        .operation(id -> type)
                        .document(id -> ("{\"id\":\"" + id + "\",\"region\":\"eu\"}").getBytes(StandardCharsets.UTF_8))
                        .build())
                .build();
    }

    /** Another document than the sink's of this id. */
    private static Operation stored(String id) {
        return Operation.upsert(
                id, "[\"eu\"]", ("{\"id\":\"" + id + "\",\"region\":\"eu\",\"n\":1}").getBytes(StandardCharsets.UTF_8));
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

    /** Counts records that come behind the watermark, and is held back at the thousandth until the gate is open. */
    private static final class Lateness extends ProcessFunction<CosmosDBRecord, CosmosDBRecord> {
        private static final long serialVersionUID = 1L;

        static final AtomicLong SEEN = new AtomicLong();
        static final AtomicLong LATE = new AtomicLong();
        static final AtomicLong WATERMARK = new AtomicLong();
        static final AtomicBoolean WAITS = new AtomicBoolean();
        static volatile String example;
        static volatile CountDownLatch gate = new CountDownLatch(1);

        static void reset() {
            List.of(SEEN, LATE, WATERMARK).forEach(counter -> counter.set(0));
            WAITS.set(false);
            gate = new CountDownLatch(1);
        }

        @Override
        public void processElement(CosmosDBRecord record, Context context, Collector<CosmosDBRecord> out)
                throws Exception {
            long watermark = context.timerService().currentWatermark();
            WATERMARK.set(watermark);
            if (context.timestamp() <= watermark) {
                LATE.incrementAndGet();
                example = record.id + " behind " + watermark;
            }
            if (SEEN.incrementAndGet() == 1000) {
                WAITS.set(true);
                gate.await();
            }
        }
    }

    /** Counts records in checkpointed state, at parallelism 1, and fails once. */
    private static final class Counting extends RichMapFunction<CosmosDBRecord, CosmosDBRecord>
            implements CheckpointedFunction, CheckpointListener {
        private static final long serialVersionUID = 1L;

        static final AtomicLong RECORDS = new AtomicLong();
        static final AtomicLong RESTORED_AT = new AtomicLong();
        static final AtomicInteger CHECKPOINTS = new AtomicInteger();
        static final AtomicBoolean FAILED = new AtomicBoolean();

        private final long failAt;
        private transient ListState<Long> state;
        private transient long count;

        Counting(long failAt) {
            this.failAt = failAt;
        }

        static void reset() {
            RECORDS.set(0);
            RESTORED_AT.set(0);
            CHECKPOINTS.set(0);
            FAILED.set(false);
        }

        @Override
        public CosmosDBRecord map(CosmosDBRecord record) {
            count++;
            RECORDS.set(count);
            if (count == failAt && FAILED.compareAndSet(false, true)) {
                throw new IllegalStateException("as the test wants it");
            }
            return record;
        }

        @Override
        public void snapshotState(FunctionSnapshotContext context) throws Exception {
            state.update(List.of(count));
        }

        @Override
        public void initializeState(FunctionInitializationContext context) throws Exception {
            state = context.getOperatorStateStore().getListState(new ListStateDescriptor<>("count", Types.LONG));
            for (long before : state.get()) {
                count = before;
                RESTORED_AT.set(before);
                RECORDS.set(before);
            }
        }

        @Override
        public void notifyCheckpointComplete(long id) {
            CHECKPOINTS.incrementAndGet();
        }
    }
}
