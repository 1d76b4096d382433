package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** All versions and deletes on a MiniCluster against a local Cosmos that keeps them, over the real library. */
class AllVersionsITCase {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final int DOCUMENTS = 3000;

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;

    @AfterEach
    void stop() {
        cosmos.close();
    }

    @Test
    void aReplicaWithItsDeletesIsTheContainer() throws Exception {
        cosmos = LocalCosmos.start("--all-versions", "events-source:/customerId:2", "replica:/customerId:2");
        cosmos.write("events-source", orders(0, DOCUMENTS, 0));
        Failing.reset();
        JobClient job = replicate();
        LocalCosmos.await("the first page", LIMIT, () -> cosmos.count("replica") > 0);
        // While the container is read, at the seam, behind it, and across a failure in each.
        List<Operation> changes = new ArrayList<>(orders(0, DOCUMENTS / 4, 1));
        for (int i = DOCUMENTS / 4; i < DOCUMENTS / 2; i++) {
            changes.add(new Operation(OperationKind.DELETE, "o" + i, key(i), "", new byte[0]));
        }
        changes.addAll(orders(DOCUMENTS, DOCUMENTS + 100, 2));
        cosmos.write("events-source", changes);
        replicated(job);
        cosmos.admin("POST", "split", "{\"database\":\"orders\",\"container\":\"events-source\",\"partition\":0}");
        changes.clear();
        for (int i = 0; i < DOCUMENTS; i += 7) {
            changes.add(new Operation(OperationKind.DELETE, "o" + i, key(i), "", new byte[0]));
        }
        changes.addAll(orders(0, 100, 3));
        cosmos.write("events-source", changes);
        replicated(job);
        job.cancel().get();
        assertThat(Failing.FAILURES).hasValue(2);
    }

    @Test
    void anAccountWithoutContinuousBackupEndsTheJobAndSaysWhatToDo() throws Exception {
        cosmos = LocalCosmos.start("events-source:/customerId:2");
        StreamExecutionEnvironment env = environment();
        env.fromSource(source(), WatermarkStrategy.noWatermarks(), "source").print();
        assertThatThrownBy(() ->
                        env.executeAsync("refused").getJobExecutionResult().get())
                .isInstanceOf(ExecutionException.class)
                .hasStackTraceContaining("continuous backup")
                .hasStackTraceContaining("CosmosDBUnrecoverableException");
    }

    @Test
    void whatCannotBeReadIsRefusedWhenTheJobIsDefined() throws Exception {
        cosmos = LocalCosmos.start("--all-versions", "events-source:/customerId:2");
        var builder = CosmosDBSource.<String>builder()
                .options(cosmos.options("events-source"))
                .changeFeedMode("all-versions-and-deletes")
                .startup("latest");
        assertThatThrownBy(() -> builder.deserializer(CosmosDBDeserializationSchema.string())
                        .build())
                .isInstanceOfSatisfying(CosmosException.class, refused -> assertThat(refused.kind())
                        .isEqualTo(CosmosException.Kind.CONFIG))
                .hasMessageContainingAll("delete", "changes(", "withoutDeletes(");
        builder.deserializer(CosmosDBDeserializationSchema.withoutDeletes(CosmosDBDeserializationSchema.string()))
                .build();
        assertThatThrownBy(() -> builder.startup("earliest").build())
                .isInstanceOf(CosmosException.class)
                .hasMessageContainingAll("'earliest'", "initial", "latest");
        assertThatThrownBy(() -> builder.startupAt(Instant.EPOCH).build())
                .isInstanceOf(CosmosException.class)
                .hasMessageContainingAll("'timestamp'", "initial", "latest");
        // Nothing is left of the time.
        builder.startup("initial").build();
    }

    private CosmosDBSource<CosmosDBChange<JsonNode>> source() {
        return CosmosDBSource.<CosmosDBChange<JsonNode>>builder()
                .options(cosmos.options("events-source"))
                .option("scan.page-size", "50")
                .changeFeedMode("all-versions-and-deletes")
                .startup("initial")
                .deserializer(CosmosDBDeserializationSchema.changes(CosmosDBDeserializationSchema.jsonNode()))
                .build();
    }

    private JobClient replicate() throws Exception {
        StreamExecutionEnvironment env = environment();
        env.fromSource(source(), WatermarkStrategy.noWatermarks(), "source")
                .uid("source")
                .map(new Failing())
                .returns(CosmosDBChange.type(JsonNodeTypeInfo.INSTANCE))
                .uid("failing")
                .sinkTo(CosmosDBSink.<CosmosDBChange<JsonNode>>builder()
                        .options(cosmos.options("replica"))
                        .converter(CosmosDBElementConverter.<CosmosDBChange<JsonNode>>builder()
                                .id(change -> change.id)
                                .partitionKey(change -> change.partitionKey.replaceAll("[\\[\\]\"]", ""))
                                .operation(change -> change.deleted() ? OperationKind.DELETE : OperationKind.UPSERT)
                                .document(change -> change.document.toString().getBytes(StandardCharsets.UTF_8))
                                .build())
                        .build())
                .uid("sink");
        return env.executeAsync("replicate");
    }

    /** Waits until the replica has what the container has. */
    private void replicated(JobClient job) throws Exception {
        Map<String, JsonNode> expected = amounts("events-source");
        LocalCosmos.await("the replica", LIMIT, () -> {
            if (job.getJobStatus().join().isGloballyTerminalState()) {
                throw new AssertionError("the job has ended");
            }
            return cosmos.count("replica") == expected.size()
                    && amounts("replica").equals(expected);
        });
    }

    private Map<String, JsonNode> amounts(String container) {
        try {
            Map<String, JsonNode> amounts = new TreeMap<>();
            cosmos.read(container).forEach((document, node) -> amounts.put(document, node.get("amount")));
            return amounts;
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private static StreamExecutionEnvironment environment() {
        Configuration settings = new Configuration();
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, 5);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100));
        settings.set(PipelineOptions.GENERIC_TYPES, false);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        env.setParallelism(2);
        env.enableCheckpointing(100);
        return env;
    }

    private static String key(int i) {
        return "[\"c" + i % 97 + "\"]";
    }

    private static List<Operation> orders(int from, int to, int amount) {
        return IntStream.range(from, to)
                .mapToObj(i -> Operation.upsert(
                        "o" + i,
                        key(i),
                        ("{\"id\":\"o" + i + "\",\"customerId\":\"c" + i % 97 + "\",\"amount\":" + amount + "}")
                                .getBytes(StandardCharsets.UTF_8)))
                .toList();
    }

    /** Fails while the container is read, and with the first deletions behind that. */
    private static final class Failing implements MapFunction<CosmosDBChange<JsonNode>, CosmosDBChange<JsonNode>> {
        private static final long serialVersionUID = 1L;

        static final AtomicInteger FAILURES = new AtomicInteger();
        private static final AtomicInteger READ = new AtomicInteger();
        private static final AtomicInteger DELETED = new AtomicInteger();

        static void reset() {
            FAILURES.set(0);
            READ.set(0);
            DELETED.set(0);
        }

        @Override
        public CosmosDBChange<JsonNode> map(CosmosDBChange<JsonNode> change) {
            boolean fails = READ.incrementAndGet() == DOCUMENTS / 3
                    || (change.deleted() && DELETED.incrementAndGet() == DOCUMENTS / 8);
            if (fails) {
                FAILURES.incrementAndGet();
                throw new IllegalStateException("as the test wants it");
            }
            return change;
        }
    }
}
