package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.PartitionKeys;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.core.execution.CheckpointType;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.InjectClusterRESTAddress;
import org.apache.flink.test.junit5.InjectMiniCluster;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** A job begins where another reader has stopped, and leaves leases from which the next one goes on. */
@Timeout(120)
class HandoverITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private final List<JobClient> jobs = new ArrayList<>();
    private LocalCosmos cosmos;

    @TempDir
    private Path folder;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("events-source:/customerId:3", "leases:/id:1");
        Seen.IDS.clear();
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

    /** Remembers what came by. */
    private static final class Seen implements MapFunction<CosmosDBRecord, String> {
        private static final long serialVersionUID = 1L;
        static final Queue<String> IDS = new ConcurrentLinkedQueue<>();
        /** At the next record, once. */
        static final AtomicBoolean FAILS = new AtomicBoolean();
        /** At the next record, once, until its task is cancelled. */
        static final AtomicBoolean HANGS = new AtomicBoolean();

        @Override
        public String map(CosmosDBRecord record) throws InterruptedException {
            if (FAILS.getAndSet(false)) {
                throw new IllegalStateException("fails once");
            }
            if (HANGS.getAndSet(false)) {
                Thread.sleep(LIMIT.toMillis());
            }
            IDS.add(record.id);
            return record.id;
        }
    }

    private JobClient run(UnaryOperator<CosmosDBSource.Builder<CosmosDBRecord>> how) throws Exception {
        return run(how, Duration.ofMillis(100), Duration.ofMinutes(10));
    }

    private JobClient run(
            UnaryOperator<CosmosDBSource.Builder<CosmosDBRecord>> how,
            Duration restartDelay,
            Duration checkpointTimeout)
            throws Exception {
        Configuration settings = new Configuration();
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 1000);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, restartDelay);
        settings.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        settings.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, folder.toUri().toString());
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(2);
        env.enableCheckpointing(200);
        env.getCheckpointConfig().setCheckpointTimeout(checkpointTimeout.toMillis());
        CosmosDBSource<CosmosDBRecord> source = how.apply(CosmosDBSource.<CosmosDBRecord>builder()
                        .options(cosmos.options("events-source"))
                        .option("scan.lease.expiration", "1000")
                        .option("scan.lease.renew-interval", "200")
                        .deserializer(CosmosDBDeserializationSchema.raw()))
                .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "source")
                .uid("source")
                .map(new Seen())
                .returns(String.class)
                .sinkTo(new DiscardingSink<>());
        JobClient job = env.executeAsync("handover");
        jobs.add(job);
        return job;
    }

    private static UnaryOperator<CosmosDBSource.Builder<CosmosDBRecord>> publishing() {
        return source -> source.leases("leases", "shop");
    }

    private void write(int from, int to) {
        cosmos.write(
                "events-source",
                IntStream.range(from, to)
                        .mapToObj(i -> Operation.upsert(
                                "o" + i,
                                PartitionKeys.json("c" + i % 97),
                                ("{\"id\":\"o" + i + "\",\"customerId\":\"c" + i % 97 + "\"}")
                                        .getBytes(StandardCharsets.UTF_8)))
                        .toList());
    }

    private static void seen(int from, int to) throws InterruptedException {
        LocalCosmos.await((to - from) + " records", LIMIT, () -> Seen.IDS.size() >= to - from);
        assertThat(Seen.IDS)
                .containsExactlyInAnyOrderElementsOf(
                        IntStream.range(from, to).mapToObj(i -> "o" + i).toList());
        Seen.IDS.clear();
    }

    /** The owners in the lease container; empty while the leases are not complete. */
    private List<String> owners() {
        try {
            List<String> owners = new ArrayList<>();
            boolean complete = false;
            for (JsonNode document : cosmos.read("leases").values()) {
                complete |= document.get("id").asText().endsWith(".info");
                if (document.has("Owner")) {
                    owners.add(document.get("Owner").asText());
                }
            }
            return complete ? owners : List.of();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private String stop(JobClient job) throws Exception {
        String savepoint = job.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        job.getJobExecutionResult().get(60, TimeUnit.SECONDS);
        return savepoint;
    }

    @Test
    void aJobGoesOnFromTheLeasesThatAnotherOneLeft() throws Exception {
        write(0, 200);
        JobClient first = run(publishing());
        seen(0, 200);
        LocalCosmos.await("the leases", LIMIT, () -> owners().size() == 3);
        assertThat(owners()).containsOnly("cosmosflink-" + first.getJobID());
        stop(first);
        // It might only be starting again: they are free once they have expired.
        assertThat(owners()).hasSize(3).containsOnly("cosmosflink-" + first.getJobID());
        write(200, 260);
        JobClient second = run(source -> publishing().apply(source).startupFromLeases());
        seen(200, 260);
        LocalCosmos.await("the leases to be the second job's", LIMIT, () -> owners().equals(List.of(
                "cosmosflink-" + second.getJobID(),
                "cosmosflink-" + second.getJobID(),
                "cosmosflink-" + second.getJobID())));
    }

    @Test
    void aJobBeginsAtThePositionsOfTheLastCheckpointOfOneThatRuns(
            @InjectMiniCluster MiniCluster cluster, @InjectClusterRESTAddress URI rest) throws Exception {
        write(0, 80);
        JobClient first = run(source -> source);
        seen(0, 80);
        cluster.triggerCheckpoint(first.getJobID(), CheckpointType.FULL).get(60, TimeUnit.SECONDS);
        Path file = folder.resolve("tokens.json");
        StartTokens.main(new String[] {
            "--rest", rest.toString(), "--job", first.getJobID().toString(), "--output", file.toString()
        });
        first.cancel().get(60, TimeUnit.SECONDS);
        write(80, 110);
        Seen.IDS.clear();
        run(source -> source.startupFromTokens(file.toString()));
        seen(80, 110);
    }

    /** Else whoever comes by in that moment ends it. */
    @Test
    void aJobThatFailsOverKeepsItsLeases() throws Exception {
        write(0, 60);
        JobClient job = run(publishing(), Duration.ofSeconds(2), Duration.ofMinutes(10));
        seen(0, 60);
        LocalCosmos.await("the leases", LIMIT, () -> owners().size() == 3);
        List<String> owners = owners();
        Seen.FAILS.set(true);
        write(60, 61);
        LocalCosmos.await(
                "the job to start again", LIMIT, () -> job.getJobStatus().join() == JobStatus.RESTARTING);
        while (job.getJobStatus().get() == JobStatus.RESTARTING) {
            assertThat(owners()).isEqualTo(owners);
        }
        LocalCosmos.await("the document that failed", LIMIT, () -> Seen.IDS.contains("o60"));
        assertThat(owners()).isEqualTo(owners);
    }

    /** Flink closes the enumerator then, and makes a new one. */
    @Test
    void aJobThatIsRestartedAsAWholeKeepsItsLeases() throws Exception {
        write(0, 60);
        JobClient job = run(publishing(), Duration.ofSeconds(2), Duration.ofSeconds(5));
        LocalCosmos.await("the documents", LIMIT, () -> Seen.IDS.size() >= 60);
        LocalCosmos.await("the leases", LIMIT, () -> owners().size() == 3);
        List<String> owners = owners();
        Seen.HANGS.set(true);
        write(60, 61);
        // A checkpoint waits for it and expires, which is a failure of no task.
        LocalCosmos.await(
                "the job to start again", LIMIT, () -> job.getJobStatus().join() == JobStatus.RESTARTING);
        while (!Seen.IDS.contains("o60")) {
            assertThat(owners()).isEqualTo(owners);
        }
        assertThat(owners()).isEqualTo(owners);
    }

    @Test
    void theSecondOfTwoJobsWithOnePrefixEndsForGood() throws Exception {
        // A job that the machine holds up does not lose its leases.
        UnaryOperator<CosmosDBSource.Builder<CosmosDBRecord>> patient =
                source -> publishing().apply(source).option("scan.lease.expiration", "60000");
        JobClient first = run(patient);
        LocalCosmos.await("the leases", LIMIT, () -> owners().size() == 3);
        JobClient second = run(patient);
        assertThatThrownBy(() -> second.getJobExecutionResult().get(60, TimeUnit.SECONDS))
                .hasStackTraceContaining("two jobs must not publish under one prefix");
        assertThat(first.getJobStatus().get()).isEqualTo(JobStatus.RUNNING);
    }

    @Test
    void aJobBeginsAtThePositionsOfASavepointOrOfACheckpoint() throws Exception {
        write(0, 150);
        JobClient first = run(source -> source);
        seen(0, 150);
        String savepoint = stop(first);
        write(150, 190);
        Path file = folder.resolve("tokens.json");
        StartTokens.main(new String[] {"--savepoint", savepoint, "--output", file.toString()});
        assertThat(Files.readString(file)).contains("feed range [");
        JobClient second = run(source -> source.startupFromTokens(file.toString()));
        seen(150, 190);
        stop(second);
        assertThatThrownBy(() -> StartTokens.main(new String[] {"--savepoint", savepoint, "--operator", "7"}))
                .hasMessageContaining("--operator");
        assertThatThrownBy(() -> StartTokens.main(new String[] {"--savepoint", savepoint}))
                .hasMessageContaining("--output");
    }
}
