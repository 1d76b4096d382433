package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.PartitionKeys;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateRecoveryOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.Metric;
import org.apache.flink.runtime.checkpoint.AbstractCheckpointStats;
import org.apache.flink.runtime.checkpoint.CheckpointStatsSnapshot;
import org.apache.flink.runtime.checkpoint.CompletedCheckpointStats;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.testutils.InMemoryReporter;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.InjectMiniCluster;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What goes wrong around a job, and what Flink asks of a connector beyond reading and writing. On a MiniCluster against a local Cosmos. */
@Timeout(120)
class ResilienceITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final InMemoryReporter METRICS = InMemoryReporter.create();

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setConfiguration(METRICS.addToConfiguration(new Configuration()))
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private final List<JobClient> jobs = new ArrayList<>();
    private LocalCosmos cosmos;

    @TempDir
    private Path folder;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start(
                "events-source:/customerId:4", "events-processed:/region:2", "dead-letter:/container:1");
        Seen.IDS.clear();
        Seen.BUFFERED.clear();
        Seen.FAIL.set(false);
        Seen.FAILED.set(false);
    }

    @AfterEach
    void stop() throws Exception {
        for (JobClient job : jobs) {
            if (!job.getJobStatus().get().isGloballyTerminalState()) {
                job.cancel().get();
            }
        }
        cosmos.close();
    }

    /** Restarts often, so that what is unrecoverable ends a job in another way than what is tried again. */
    private static StreamExecutionEnvironment environment(Configuration settings) {
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 20);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100));
        settings.set(PipelineOptions.GENERIC_TYPES, false);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(2);
        env.enableCheckpointing(200);
        return env;
    }

    private JobClient submit(StreamExecutionEnvironment env, String name) throws Exception {
        JobClient job = env.executeAsync(name);
        jobs.add(job);
        return job;
    }

    private CosmosDBSource<CosmosDBRecord> source() {
        return CosmosDBSource.<CosmosDBRecord>builder()
                .options(cosmos.options("events-source"))
                .option("scan.page-size", "50")
                .deserializer(CosmosDBDeserializationSchema.raw())
                .build();
    }

    private static CosmosDBSink<String> sink(CosmosDBOptions options) {
        return CosmosDBSink.<String>builder()
                .options(options)
                .converter(CosmosDBElementConverter.<String>builder()
                        .id(Seen::buffered)
                        .partitionKey(id -> id.startsWith("undefined") ? PartitionKeys.UNDEFINED : "eu")
                        .document(id -> {
                            if (id.startsWith("throws")) {
                                throw new IllegalStateException("no amount");
                            }
                            String region = id.startsWith("undefined") ? "" : ",\"region\":\"eu\"";
                            String filler = id.startsWith("large") ? ",\"f\":\"" + "x".repeat(3 << 20) + "\"" : "";
                            return ("{\"id\":\"" + id + "\"" + region + filler + "}").getBytes(StandardCharsets.UTF_8);
                        })
                        .build())
                .build();
    }

    private JobClient copy(Configuration settings, boolean failOnce) throws Exception {
        return copy(environment(settings), failOnce, cosmos.options("events-processed"));
    }

    private JobClient copy(StreamExecutionEnvironment env, boolean failOnce, CosmosDBOptions into) throws Exception {
        DataStream<String> ids = env.fromSource(source(), WatermarkStrategy.noWatermarks(), "source")
                .uid("source")
                .map(record -> record.id)
                .returns(String.class)
                .map(new Seen(failOnce))
                .uid("seen");
        ids.rebalance().sinkTo(sink(into)).uid("sink");
        return submit(env, "copy");
    }

    private void stored(JobClient job, long documents) throws Exception {
        LocalCosmos.await(documents + " documents", LIMIT, () -> {
            JobStatus status = job.getJobStatus().join();
            if (status.isGloballyTerminalState()) {
                throw new AssertionError("the job is " + status, failure(job));
            }
            return cosmos.count("events-processed") >= documents;
        });
    }

    private static Throwable failure(JobClient job) {
        try {
            job.getJobExecutionResult().get(60, TimeUnit.SECONDS);
            throw new AssertionError("the job did not fail");
        } catch (Exception e) {
            return e;
        }
    }

    private static List<Operation> orders(int from, int to) {
        return IntStream.range(from, to)
                .mapToObj(i -> order("o" + i, "c" + i % 97, i))
                .toList();
    }

    private static Operation order(String id, String customer, long minutes) {
        return Operation.upsert(
                id,
                PartitionKeys.json(customer),
                ("{\"id\":\"" + id + "\",\"customerId\":\"" + customer + "\",\"minutes\":" + minutes + "}")
                        .getBytes(StandardCharsets.UTF_8));
    }

    /** Each request takes two seconds and all records are there in less, so that the drain has something to do. */
    @Test
    void aJobThatStopsWithDrainHasWrittenEverything() throws Exception {
        cosmos.write("events-source", orders(0, 1000));
        cosmos.admin(
                "POST", "faults", "{\"container\":\"events-processed\",\"operations\":\"bulk\",\"delayMillis\":2000}");
        StreamExecutionEnvironment env = environment(new Configuration());
        env.enableCheckpointing(Duration.ofHours(1).toMillis());
        JobClient job = copy(
                env,
                false,
                cosmos.options("events-processed")
                        .with("sink.buffer-flush.max-rows", "2000")
                        .with("sink.buffer-flush.interval", "600000"));
        LocalCosmos.await("all records", LIMIT, () -> Seen.BUFFERED.size() == 1000);
        assertThat(cosmos.count("events-processed")).as("before the drain").isLessThan(1000);
        job.stopWithSavepoint(true, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        job.getJobExecutionResult().get(60, TimeUnit.SECONDS);
        assertThat(job.getJobStatus().get()).isEqualTo(JobStatus.FINISHED);
        assertThat(cosmos.count("events-processed")).isEqualTo(1000);
    }

    /** The checkpoint that is restored has records in it that were on their way, because the sink holds the job back. */
    @Test
    void unalignedCheckpointsLoseNothing(@InjectMiniCluster MiniCluster cluster) throws Exception {
        cosmos.write("events-source", orders(0, 2000));
        cosmos.admin("POST", "faults", "{\"container\":\"events-processed\",\"delayMillis\":100}");
        Configuration settings = new Configuration();
        settings.set(CheckpointingOptions.ENABLE_UNALIGNED, true);
        settings.set(CheckpointingOptions.ALIGNED_CHECKPOINT_TIMEOUT, Duration.ZERO);
        JobClient job = copy(
                environment(settings),
                true,
                cosmos.options("events-processed")
                        .with("sink.buffer-flush.max-rows", "5")
                        .with("sink.max-buffered-requests", "6")
                        .with("sink.max-in-flight-requests", "1"));
        LocalCosmos.await("an unaligned checkpoint with records on their way", LIMIT, () -> {
            CheckpointStatsSnapshot stats = checkpoints(cluster, job);
            return stats != null && inFlight(stats.getHistory().getLatestCompletedCheckpoint());
        });
        Seen.FAIL.set(true);
        // All that there were may have come by already.
        cosmos.write("events-source", orders(2000, 2100));
        LocalCosmos.await("the restore", LIMIT, () -> checkpoints(cluster, job).getLatestRestoredCheckpoint() != null);
        CheckpointStatsSnapshot stats = checkpoints(cluster, job);
        AbstractCheckpointStats restored = stats.getHistory()
                .getCheckpointById(stats.getLatestRestoredCheckpoint().getCheckpointId());
        assertThat(inFlight(restored)).as("restored %s", restored).isTrue();
        cosmos.admin("DELETE", "faults", "");
        stored(job, 2100);
        assertThat(cosmos.read("events-processed")).hasSize(2100);
    }

    private static CheckpointStatsSnapshot checkpoints(MiniCluster cluster, JobClient job) {
        return cluster.getExecutionGraph(job.getJobID()).join().getCheckpointStatsSnapshot();
    }

    private static boolean inFlight(AbstractCheckpointStats stats) {
        return stats instanceof CompletedCheckpointStats completed
                && completed.isUnalignedCheckpoint()
                && completed.getPersistedData() > 0;
    }

    private static List<Operation> behind(long minutes) {
        return IntStream.range(0, 16)
                .mapToObj(i -> order("b" + i + "-" + minutes, "b" + i, minutes))
                .toList();
    }

    /** One split is far ahead of the others of its reader in event time. */
    @Test
    void aSplitThatIsAheadWaitsForTheOthers() throws Exception {
        cosmos.write("events-source", behind(0));
        for (JsonNode partition : cosmos.partitions("events-source")) {
            assertThat(partition.get("documents").asLong())
                    .as("every split has a watermark")
                    .isPositive();
        }
        cosmos.write(
                "events-source",
                IntStream.range(0, 1000).mapToObj(i -> order("a" + i, "a", i)).toList());
        // So that a hundred pages take longer than it takes Flink to compare the splits.
        cosmos.admin("POST", "faults", "{\"operations\":\"changeFeed\",\"delayMillis\":20}");
        StreamExecutionEnvironment env = environment(new Configuration());
        env.setParallelism(1);
        CosmosDBSource<CosmosDBRecord> minutes = CosmosDBSource.<CosmosDBRecord>builder()
                .options(cosmos.options("events-source"))
                .option("scan.page-size", "10")
                .deserializer(CosmosDBDeserializationSchema.raw())
                .timestamps((record, view) -> {
                    String text = view.text();
                    int at = text.indexOf("\"minutes\":") + 10;
                    return 60_000
                            * Long.parseLong(
                                    text.substring(at, text.indexOf('}', at)).split(",")[0]);
                })
                .build();
        env.fromSource(
                        minutes,
                        WatermarkStrategy.<CosmosDBRecord>forMonotonousTimestamps()
                                .withIdleness(Duration.ofMinutes(5))
                                .withWatermarkAlignment("orders", Duration.ofMinutes(100), Duration.ofMillis(50)),
                        "source")
                .map(record -> record.id)
                .returns(String.class)
                .map(new Seen(false))
                .sinkTo(new DiscardingSink<>());
        JobClient job = submit(env, "alignment");
        LocalCosmos.await("a split that is paused", LIMIT, () -> gauge(job, "splitsPaused") > 0);
        // What was fetched before the pause arrives; then there is nothing more until b goes on.
        int ahead = settled();
        assertThat(ahead).isLessThan(900);
        cosmos.write("events-source", behind(2000));
        LocalCosmos.await("all records", LIMIT, () -> Seen.IDS.size() == 1032);
        LocalCosmos.await("the end of the pause", LIMIT, () -> gauge(job, "splitsPaused") == 0);
    }

    /** How many records there are once no more come for a second of checkpoints. */
    private static int settled() throws InterruptedException {
        long[] last = {-1, System.nanoTime()};
        LocalCosmos.await("the records to stop", LIMIT, () -> {
            if (Seen.IDS.size() != last[0]) {
                last[0] = Seen.IDS.size();
                last[1] = System.nanoTime();
            }
            return System.nanoTime() - last[1] > TimeUnit.SECONDS.toNanos(1);
        });
        return Seen.IDS.size();
    }

    private static double gauge(JobClient job, String name) {
        return METRICS.findMetrics(job.getJobID(), ".*\\." + name).values().stream()
                .mapToDouble(ResilienceITCase::value)
                .sum();
    }

    private static double value(Metric metric) {
        return metric instanceof Counter counter
                ? counter.getCount()
                : ((Number) ((Gauge<?>) metric).getValue()).doubleValue();
    }

    /** An endpoint that accepts connections and never answers. */
    private static final class Silent implements AutoCloseable {
        private final ServerSocket socket = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        private final List<Socket> accepted = new CopyOnWriteArrayList<>();

        Silent() throws IOException {
            Thread thread = new Thread(() -> {
                try {
                    while (true) {
                        accepted.add(socket.accept());
                    }
                } catch (IOException e) {
                    // Closed: the test is over.
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        CosmosDBOptions options() {
            return CosmosDBOptions.of(Map.of(
                    "endpoint", "http://127.0.0.1:" + socket.getLocalPort() + "/",
                    "database", "orders",
                    "container", "events",
                    "auth.secret-key", "c2VjcmV0"));
        }

        @Override
        public void close() throws IOException {
            socket.close();
            for (Socket one : accepted) {
                one.close();
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"source", "sink"})
    void aJobWhoseOpeningHangsIsCanceledAtOnce(String side) throws Exception {
        try (Silent silent = new Silent()) {
            StreamExecutionEnvironment env = environment(new Configuration());
            if (side.equals("sink")) {
                env.fromData("a").sinkTo(sink(silent.options()));
            } else {
                env.fromSource(
                                CosmosDBSource.<String>builder()
                                        .options(silent.options())
                                        .deserializer(CosmosDBDeserializationSchema.string())
                                        .build(),
                                WatermarkStrategy.noWatermarks(),
                                "source")
                        .sinkTo(new DiscardingSink<>());
            }
            JobClient job = submit(env, "hanging " + side);
            LocalCosmos.await("a connection", LIMIT, () -> !silent.accepted.isEmpty());
            long began = System.nanoTime();
            job.cancel().get(60, TimeUnit.SECONDS);
            LocalCosmos.await("the end", LIMIT, () -> job.getJobStatus().join() == JobStatus.CANCELED);
            assertThat(Duration.ofNanos(System.nanoTime() - began)).isLessThan(Duration.ofSeconds(10));
        }
    }

    /** Restored, so that there are splits without a discovery, and it is a reader that hangs. */
    @Test
    void aJobWhoseReadersHangIsCanceledAtOnce() throws Exception {
        cosmos.write("events-source", orders(0, 100));
        JobClient first = copy(new Configuration(), false);
        stored(first, 100);
        String savepoint = first.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        int many = 1_000_000;
        cosmos.admin("POST", "faults", "{\"hang\":true,\"container\":\"events-source\",\"count\":" + many + "}");
        Configuration settings = new Configuration();
        settings.set(StateRecoveryOptions.SAVEPOINT_PATH, savepoint);
        StreamExecutionEnvironment env = environment(settings);
        env.fromSource(
                        CosmosDBSource.<CosmosDBRecord>builder()
                                .options(cosmos.options("events-source"))
                                .option("scan.discovery-interval", "0")
                                .deserializer(CosmosDBDeserializationSchema.raw())
                                .build(),
                        WatermarkStrategy.noWatermarks(),
                        "source")
                .uid("source")
                .map(record -> record.id)
                .returns(String.class)
                .map(new Seen(false))
                .uid("seen")
                .rebalance()
                .sinkTo(sink(cosmos.options("events-processed")))
                .uid("sink");
        JobClient job = submit(env, "hanging readers");
        LocalCosmos.await(
                "a request that hangs",
                LIMIT,
                () -> cosmos.admin("GET", "faults", "").findValue("count").asInt() < many);
        long began = System.nanoTime();
        job.cancel().get(60, TimeUnit.SECONDS);
        LocalCosmos.await("the end", LIMIT, () -> job.getJobStatus().join() == JobStatus.CANCELED);
        assertThat(Duration.ofNanos(System.nanoTime() - began)).isLessThan(Duration.ofSeconds(10));
        cosmos.admin("DELETE", "faults", "");
    }

    @Test
    void aContainerThatIsDeletedEndsTheSource() throws Exception {
        cosmos.write("events-source", orders(0, 100));
        JobClient job = copy(new Configuration(), false);
        stored(job, 100);
        cosmos.delete("events-source");
        assertThat(failure(job))
                .hasStackTraceContaining("CosmosDBUnrecoverableException")
                .hasStackTraceContaining("events-source");
    }

    /** Whose document is it that is not found? Nobody's: the container is gone, and no record may be dropped for it. */
    @ParameterizedTest
    @ValueSource(strings = {"fail", "skip", "dead-letter"})
    void aContainerThatIsDeletedEndsTheSinkInEveryMode(String mode) throws Exception {
        cosmos.write("events-source", orders(0, 100));
        StreamExecutionEnvironment env = environment(new Configuration());
        CosmosDBOptions options = cosmos.options("events-processed").with("sink.failure-mode", mode);
        env.fromSource(source(), WatermarkStrategy.noWatermarks(), "source")
                .map(record -> record.id)
                .returns(String.class)
                .sinkTo(sink(
                        mode.equals("dead-letter")
                                ? options.with("sink.dead-letter-container", "dead-letter")
                                : options));
        JobClient job = submit(env, "deleted");
        stored(job, 100);
        cosmos.delete("events-processed");
        cosmos.write("events-source", orders(100, 200));
        assertThat(failure(job))
                .hasStackTraceContaining("CosmosDBUnrecoverableException")
                .hasStackTraceContaining("events-processed");
        assertThat(cosmos.count("dead-letter")).isZero();
    }

    /** A writer has no position in the old container, so that a restart, which opens the new one, helps. */
    @Test
    void aSinkWhoseContainerWasCreatedAnewRestartsAndGoesOn() throws Exception {
        cosmos.write("events-source", orders(0, 100));
        JobClient job = copy(new Configuration(), false);
        stored(job, 100);
        cosmos.delete("events-processed");
        cosmos.create("events-processed", "/region");
        cosmos.write("events-source", orders(100, 200));
        stored(job, 100);
        assertThat(cosmos.read("events-processed").keySet())
                .containsAll(
                        IntStream.range(100, 200).mapToObj(i -> "[\"eu\"]o" + i).toList());
        assertThat(job.getJobStatus().get()).isEqualTo(JobStatus.RUNNING);
    }

    @Test
    void aRestoreOntoAContainerThatWasCreatedAnewFailsForGood() throws Exception {
        cosmos.write("events-source", orders(0, 100));
        JobClient first = copy(new Configuration(), false);
        stored(first, 100);
        String savepoint = first.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        cosmos.delete("events-source");
        cosmos.create("events-source", "/customerId");
        cosmos.write("events-source", orders(100, 200));
        Configuration settings = new Configuration();
        settings.set(StateRecoveryOptions.SAVEPOINT_PATH, savepoint);
        assertThat(failure(copy(settings, false)))
                .hasStackTraceContaining("CosmosDBUnrecoverableException")
                .hasStackTraceContaining("events-source");
    }

    @Test
    void recordsThatCannotBeWrittenFailTheJobAndSayWhy() {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.fromData("throws1").sinkTo(sink(cosmos.options("events-processed")));
        assertThatThrownBy(() -> env.execute("fail"))
                .hasStackTraceContaining("no write could be made of the record with id 'throws1'")
                .hasStackTraceContaining("no amount");
    }

    @Test
    void recordsThatCannotBeWrittenAreSkipped() throws Exception {
        StreamExecutionEnvironment env = environment(new Configuration());
        env.fromData("a", "throws1", "large1", "b")
                .sinkTo(sink(cosmos.options("events-processed").with("sink.failure-mode", "skip")));
        env.execute("skip");
        assertThat(cosmos.read("events-processed").keySet()).containsExactly("[\"eu\"]a", "[\"eu\"]b");
    }

    @Test
    void recordsThatCannotBeWrittenBecomeDeadLetters() throws Exception {
        StreamExecutionEnvironment env = environment(new Configuration());
        env.fromData("a", "throws1", "large1", "b")
                .sinkTo(sink(cosmos.options("events-processed")
                        .with("sink.failure-mode", "dead-letter")
                        .with("sink.dead-letter-container", "dead-letter")));
        env.execute("dead letters");
        assertThat(cosmos.read("events-processed")).hasSize(2);
        Map<String, JsonNode> letters = new ConcurrentHashMap<>();
        cosmos.read("dead-letter")
                .values()
                .forEach(l -> letters.put(l.get("documentId").asText(), l));
        assertThat(letters).containsOnlyKeys("throws1", "large1");
        assertThat(letters.get("throws1").toString()).contains("no amount");
        assertThat(letters.get("large1").toString()).contains("too large").contains("xxx");
    }

    @Test
    void aDocumentWithoutItsPartitionKeyIsWrittenAndDeletedUnderTheUndefinedOne() throws Exception {
        StreamExecutionEnvironment env = environment(new Configuration());
        env.fromData("undefined1", "a").sinkTo(sink(cosmos.options("events-processed")));
        env.execute("undefined");
        assertThat(cosmos.read("events-processed").keySet()).containsExactly("[\"eu\"]a", "[{}]undefined1");
    }

    /** Remembers what came by, and fails once if it shall, when it is told to. */
    private static final class Seen implements MapFunction<String, String> {
        private static final long serialVersionUID = 1L;

        static final Set<String> IDS = ConcurrentHashMap.newKeySet();
        /** What a sink has made an entry of. */
        static final Set<String> BUFFERED = ConcurrentHashMap.newKeySet();

        static final AtomicBoolean FAIL = new AtomicBoolean();
        static final AtomicBoolean FAILED = new AtomicBoolean();
        private final boolean failOnce;

        Seen(boolean failOnce) {
            this.failOnce = failOnce;
        }

        static String buffered(String id) {
            BUFFERED.add(id);
            return id;
        }

        @Override
        public String map(String id) {
            IDS.add(id);
            if (failOnce && FAIL.get() && FAILED.compareAndSet(false, true)) {
                throw new IllegalStateException("as the test wants it");
            }
            return id;
        }
    }
}
