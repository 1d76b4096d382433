package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.Operation;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.metrics.Metric;
import org.apache.flink.runtime.testutils.InMemoryReporter;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** What an autoscaler sees of a job that is too slow, and what Flink is told of its backlog. */
@Timeout(120)
class AutoscalerITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final InMemoryReporter METRICS = InMemoryReporter.create();

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setConfiguration(METRICS.addToConfiguration(new Configuration()))
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(1)
            .build());

    private LocalCosmos cosmos;
    private JobClient job;

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("events-source:/pk:1");
        Slow.ALLOWED.set(0);
        Slow.SEEN.set(0);
    }

    @AfterEach
    void stop() throws Exception {
        Slow.ALLOWED.set(Long.MAX_VALUE);
        job.cancel().get();
        cosmos.close();
    }

    /** Takes as many records as the test allows. */
    private static final class Slow implements MapFunction<String, String> {
        private static final long serialVersionUID = 1L;
        static final AtomicLong ALLOWED = new AtomicLong();
        static final AtomicLong SEEN = new AtomicLong();

        @Override
        public String map(String value) throws InterruptedException {
            while (SEEN.get() >= ALLOWED.get()) {
                Thread.sleep(1);
            }
            SEEN.incrementAndGet();
            return value;
        }
    }

    private void write(String prefix, int count) {
        List<Operation> operations = IntStream.range(0, count)
                .mapToObj(i -> {
                    String id = prefix + i;
                    byte[] document = ("{\"id\":\"" + id + "\",\"pk\":\"k\"}").getBytes(StandardCharsets.UTF_8);
                    return Operation.upsert(id, "[\"k\"]", document);
                })
                .toList();
        cosmos.write("events-source", operations);
    }

    private Map<String, Metric> metrics(String name) {
        return METRICS.findMetrics(job.getJobID(), ".*\\." + name);
    }

    private double sum(String name) {
        return Gauges.sum(METRICS, job, ".*\\." + name);
    }

    private long completedCheckpoints() {
        return (long) sum("numberOfCompletedCheckpoints");
    }

    @Test
    void theLagGrowsAsTheContainerSaysAndFallsAfterAndFlinkHearsOfTheBacklog() throws Exception {
        Configuration settings = new Configuration();
        settings.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(100));
        // No checkpoints in a backlog.
        settings.set(CheckpointingOptions.CHECKPOINTING_INTERVAL_DURING_BACKLOG, Duration.ZERO);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(1);
        CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                .options(cosmos.options("events-source"))
                .option("scan.page-size", "20")
                .option("scan.prefetch-size", "1048576")
                .backlogThreshold(Duration.ofSeconds(2))
                .deserializer(CosmosDBDeserializationSchema.string())
                .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "source")
                .map(new Slow())
                .sinkTo(new DiscardingSink<>());
        job = env.executeAsync("slow");
        LocalCosmos.await("checkpoints of an idle job", LIMIT, () -> completedCheckpoints() > 2);
        write("a", 2000);
        // A few pages are on their way through Flink, until there is room for no more.
        double[] seen = {0, 0};
        LocalCosmos.await("a lag that stands still", LIMIT, () -> {
            double now = sum("pendingRecords");
            seen[1] = now == seen[0] ? seen[1] + 1 : 0;
            seen[0] = now;
            return now > 1800 && seen[1] > 20;
        });
        assertThat(metrics("pendingRecords")).as("each is added up").hasSize(1);
        assertThat(metrics("pendingBytes")).hasSize(1);
        double before = sum("pendingRecords");
        double bytes = sum("pendingBytes");
        assertThat(before).isLessThan(2000);
        assertThat(bytes).isGreaterThan(before * 100);

        write("b", 1000);
        LocalCosmos.await("what was written meanwhile", LIMIT, () -> sum("pendingRecords") == before + 1000);
        assertThat(sum("pendingBytes")).isGreaterThan(bytes * 1.3);
        assertThat(sum("lagRecords")).as("of the one split").isEqualTo(before + 1000);

        // It goes on, slower than it has to, and takes checkpoints until Flink has heard that it is behind.
        LocalCosmos.await("a lag", LIMIT, () -> sum("lagSeconds") > 8);
        long[] last = {-1, 0};
        LocalCosmos.await("a second of progress without checkpoints", LIMIT, () -> {
            Slow.ALLOWED.addAndGet(10);
            if (completedCheckpoints() != last[0]) {
                last[0] = completedCheckpoints();
                last[1] = System.nanoTime();
            }
            return System.nanoTime() - last[1] > TimeUnit.SECONDS.toNanos(1);
        });
        assertThat(Slow.SEEN).hasValueGreaterThan(100);
        LocalCosmos.await("a lag that falls", LIMIT, () -> sum("pendingRecords") < before + 950);

        Slow.ALLOWED.set(Long.MAX_VALUE);
        LocalCosmos.await("the end of the lag", LIMIT, () -> sum("pendingRecords") == 0 && sum("lagSeconds") == 0);
        assertThat(Slow.SEEN).hasValueGreaterThanOrEqualTo(3000);
        long after = completedCheckpoints();
        LocalCosmos.await("checkpoints behind the backlog", LIMIT, () -> completedCheckpoints() > after + 2);
        assertThat(sum("pendingRecords")).as("no lag while idle").isZero();
        assertThat(sum("pendingBytes")).isZero();
    }
}
