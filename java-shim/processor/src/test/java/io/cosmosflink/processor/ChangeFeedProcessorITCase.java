package io.cosmosflink.processor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.azure.cosmos.ChangeFeedProcessor;
import com.azure.cosmos.ChangeFeedProcessorBuilder;
import com.azure.cosmos.ConsistencyLevel;
import com.azure.cosmos.CosmosAsyncClient;
import com.azure.cosmos.CosmosAsyncDatabase;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.models.ChangeFeedProcessorOptions;
import com.azure.cosmos.models.ChangeFeedProcessorState;
import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.PartitionKeys;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** A change feed processor of the Java SDK and a job of the connector, over the same leases. */
@Timeout(180)
class ChangeFeedProcessorITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final String PREFIX = "shop";

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private final Queue<String> processed = new ConcurrentLinkedQueue<>();
    private final List<JobClient> jobs = new ArrayList<>();
    private LocalCosmos cosmos;
    private CosmosAsyncClient client;

    @TempDir
    private Path folder;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("events-source:/customerId:3", "leases:/id:1");
        // The SDK speaks to plain http only when it is told so.
        System.setProperty("COSMOS.HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true");
        client = new CosmosClientBuilder()
                .endpoint(cosmos.endpoint())
                .key(Files.readString(cosmos.keyFile()).trim())
                .gatewayMode()
                .consistencyLevel(ConsistencyLevel.SESSION)
                .contentResponseOnWriteEnabled(true)
                .buildAsyncClient();
        Seen.IDS.clear();
    }

    @AfterEach
    void stop() throws Exception {
        for (JobClient job : jobs) {
            if (!job.getJobStatus().get().isGloballyTerminalState()) {
                job.cancel().get();
            }
        }
        client.close();
        cosmos.close();
    }

    /** Remembers what came by in the job. */
    private static final class Seen implements MapFunction<CosmosDBRecord, String> {
        private static final long serialVersionUID = 1L;
        static final Queue<String> IDS = new ConcurrentLinkedQueue<>();

        @Override
        public String map(CosmosDBRecord record) {
            IDS.add(record.id);
            return record.id;
        }
    }

    private JobClient run(String start) throws Exception {
        return run(start, 1);
    }

    private JobClient run(String start, int splits) throws Exception {
        Configuration settings = new Configuration();
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 1000);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100));
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(2);
        env.enableCheckpointing(200);
        CosmosDBSource<CosmosDBRecord> source = CosmosDBSource.<CosmosDBRecord>builder()
                .options(cosmos.options("events-source"))
                .startup(start)
                .leases("leases", PREFIX)
                .option("scan.lease.renew-interval", "500")
                .option("scan.min-splits", String.valueOf(splits))
                .deserializer(CosmosDBDeserializationSchema.raw())
                .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "source")
                .map(new Seen())
                .returns(String.class)
                .sinkTo(new DiscardingSink<>());
        JobClient job = env.executeAsync("processor");
        jobs.add(job);
        return job;
    }

    private void stop(JobClient job) throws Exception {
        job.stopWithSavepoint(false, folder.toUri().toString(), SavepointFormatType.CANONICAL)
                .get(60, TimeUnit.SECONDS);
        job.getJobExecutionResult().get(60, TimeUnit.SECONDS);
    }

    private ChangeFeedProcessor processor() {
        CosmosAsyncDatabase database = client.getDatabase(LocalCosmos.DATABASE);
        ChangeFeedProcessorOptions options = new ChangeFeedProcessorOptions()
                .setLeasePrefix(PREFIX)
                .setLeaseAcquireInterval(Duration.ofSeconds(1))
                .setLeaseRenewInterval(Duration.ofSeconds(1))
                .setLeaseExpirationInterval(Duration.ofSeconds(10))
                .setFeedPollDelay(Duration.ofMillis(100));
        return new ChangeFeedProcessorBuilder()
                .hostName("processor")
                .feedContainer(database.getContainer("events-source"))
                .leaseContainer(database.getContainer("leases"))
                .options(options)
                .handleLatestVersionChanges(items -> items.forEach(
                        item -> processed.add(item.getCurrent().get("id").asText())))
                .buildChangeFeedProcessor();
    }

    private static List<ChangeFeedProcessorState> state(ChangeFeedProcessor processor) {
        return processor.getCurrentState().block(LIMIT);
    }

    /** What the processor's own estimator says, over all leases. */
    private static int lag(ChangeFeedProcessor processor) {
        return state(processor).stream()
                .mapToInt(ChangeFeedProcessorState::getEstimatedLag)
                .sum();
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

    private static List<String> ids(int from, int to) {
        return IntStream.range(from, to).mapToObj(i -> "o" + i).toList();
    }

    /** Waits for documents, and checks that each came once. */
    private static void seen(Queue<String> ids, int from, int to) throws InterruptedException {
        LocalCosmos.await((to - from) + " documents", LIMIT, () -> ids.size() >= to - from);
        assertThat(ids).containsExactlyInAnyOrderElementsOf(ids(from, to));
        ids.clear();
    }

    @Test
    void theyTakeOverFromEachOtherAndTheEstimatorKnowsTheLag() throws Exception {
        ChangeFeedProcessor processor = processor();
        write(0, 200);
        JobClient first = run("earliest");
        seen(Seen.IDS, 0, 200);
        String owner = "cosmosflink-" + first.getJobID();
        LocalCosmos.await(
                "the estimator to know that the job is at the end of its three ranges",
                LIMIT,
                () -> state(processor).size() == 3 && lag(processor) == 0);
        assertThat(state(processor)).allMatch(lease -> owner.equals(lease.getHostName()));
        LocalCosmos.await("the leases to be complete", LIMIT, () -> cosmos.count("leases") == 4);
        stop(first);
        assertThat(state(processor)).hasSize(3).allMatch(lease -> owner.equals(lease.getHostName()));
        write(200, 260);
        // The local account numbers writes over the whole container, so that each range is behind by all of them.
        assertThat(state(processor))
                .extracting(ChangeFeedProcessorState::getEstimatedLag)
                .containsExactly(60, 60, 60);

        processor.start().block(LIMIT);
        seen(processed, 200, 260);
        write(260, 300);
        seen(processed, 260, 300);
        assertThat(state(processor)).allMatch(lease -> "processor".equals(lease.getHostName()));
        processor.stop().block(LIMIT);
        LocalCosmos.await("the leases to be free", LIMIT, () -> state(processor).stream()
                .allMatch(lease -> lease.getHostName() == null));

        write(300, 330);
        JobClient second = run("leases");
        // What the processor had read and not yet written into its leases comes again.
        LocalCosmos.await("the last documents", LIMIT, () -> Seen.IDS.containsAll(ids(300, 330)));
        assertThat(ids(200, 330)).containsAll(Seen.IDS);
        LocalCosmos.await(
                "the leases to be the second job's",
                LIMIT,
                () -> lag(processor) == 0
                        && state(processor).stream()
                                .allMatch(lease -> ("cosmosflink-" + second.getJobID()).equals(lease.getHostName())));
    }

    /** Leases of feed ranges that are finer than partitions. */
    @Test
    void aProcessorGoesOnFromAJobWithMoreSplitsThanPartitions() throws Exception {
        ChangeFeedProcessor processor = processor();
        write(0, 200);
        JobClient job = run("earliest", 6);
        seen(Seen.IDS, 0, 200);
        LocalCosmos.await(
                "the estimator to know that the job is at the end of its six ranges",
                LIMIT,
                () -> state(processor).size() == 6 && lag(processor) == 0);
        stop(job);
        write(200, 260);
        processor.start().block(LIMIT);
        seen(processed, 200, 260);
        processor.stop().block(LIMIT);
    }

    /** It steals leases from the job, as from another instance of itself; the job sees it and says what to do. */
    @Test
    void aProcessorThatIsStartedBesideAJobEndsTheJob() throws Exception {
        JobClient job = run("earliest");
        LocalCosmos.await("the leases to be complete", LIMIT, () -> cosmos.count("leases") == 4);
        ChangeFeedProcessor processor = processor();
        processor.start().block(LIMIT);
        assertThatThrownBy(() -> job.getJobExecutionResult().get(60, TimeUnit.SECONDS))
                .hasStackTraceContaining("'processor', a change feed processor, has taken it")
                .hasStackTraceContaining("scan.startup.mode=leases");
        processor.stop().block(LIMIT);
    }

    @Test
    void aJobDoesNotTakeLeasesFromAProcessorThatRuns() throws Exception {
        ChangeFeedProcessor processor = processor();
        processor.start().block(LIMIT);
        LocalCosmos.await(
                "the processor to have its leases",
                LIMIT,
                () -> state(processor).size() == 3
                        && state(processor).stream().allMatch(lease -> "processor".equals(lease.getHostName())));
        // So that each lease has a position.
        write(0, 100);
        seen(processed, 0, 100);
        JobClient job = run("leases");
        assertThatThrownBy(() -> job.getJobExecutionResult().get(60, TimeUnit.SECONDS))
                .hasStackTraceContaining("'processor', which is alive");
        write(100, 120);
        seen(processed, 100, 120);
        processor.stop().block(LIMIT);
    }
}
