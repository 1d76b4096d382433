package io.cosmosflink.testcontainers;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.Ports;
import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.testcontainers.containers.Container.ExecResult;
import org.testcontainers.containers.Network;
import org.testcontainers.utility.DockerImageName;

/** The connector on a MiniCluster against a local Cosmos in a container. Needs a container engine. */
@Tag("container")
@Timeout(180)
class CosmosLocalContainerITCase {
    private static final String DATABASE = "shop";
    private static final String ORDERS = "orders";
    /** By which whoever runs the tests finds what they leave behind. */
    private static final String LABEL = "io.cosmosflink.test-run";

    private static final int HALF = 3000;

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    @Test
    @SuppressWarnings("try") // Flink's iterators may be interrupted while they close; then the test fails.
    void everyOrderArrivesOnceThroughFaultsAndASplit() throws Exception {
        try (CosmosLocalContainer cosmos = orders()) {
            start(cosmos);
            CosmosLocalAdmin admin = cosmos.admin();
            admin.addFault(Fault.on("bulk").skip(1).count(2).dropResponse());
            admin.addFault(Fault.on("bulk").skip(1).count(3).status(503));
            admin.addFault(Fault.on("bulk").share(0.2).status(429).retryAfter(Duration.ofMillis(20)));
            admin.addFault(Fault.on("bulk").perOperation().share(0.02).status(449));
            write(options(cosmos), 0, HALF);
            assertThat(sum(admin.documents(DATABASE, ORDERS))).isEqualTo(HALF);
            long writeFaults = struck(admin);
            assertThat(writeFaults).isGreaterThanOrEqualTo(5);

            // The reading of one partition stops after ten pages: at the split it is under way, whatever the machine's
            // speed.
            admin.clearFaults();
            admin.addFault(Fault.on("changeFeed").partition("0").skip(10).status(503));
            List<Long> seen = new ArrayList<>();
            try (CloseableIterator<JsonNode> reading = read(options(cosmos))) {
                take(reading, HALF / 6, seen);
                List<String> children = admin.split(DATABASE, ORDERS, "0", Duration.ofMillis(200));
                assertThat(children).hasSize(2);
                assertThat(admin.documents(DATABASE, ORDERS)).containsOnlyKeys("1", children.get(0), children.get(1));
                admin.clearFaults();
                admin.addFault(Fault.on("changeFeed").share(0.1).status(503));
                admin.addFault(Fault.on("bulk").share(0.2).status(429).retryAfter(Duration.ofMillis(20)));
                write(options(cosmos), HALF, 2 * HALF);
                take(reading, 2 * HALF - HALF / 6, seen);
            }
            assertThat(seen)
                    .containsExactlyInAnyOrderElementsOf(
                            LongStream.range(0, 2 * HALF).boxed().toList());
            assertThat(struck(admin)).isGreaterThan(writeFaults);
            admin.clearFaults();
            assertThat(admin.request("GET", "faults", null).path("faults")).isEmpty();
        }
    }

    @Test
    @SuppressWarnings("try") // Flink's iterators may be interrupted while they close; then the test fails.
    void theConnectorReachesItOverTls() throws Exception {
        Path caFile;
        try (CosmosLocalContainer cosmos = orders().withTls()) {
            start(cosmos);
            assertThat(cosmos.endpoint()).startsWith("https://");
            write(options(cosmos), 0, 200);
            List<Long> seen = new ArrayList<>();
            try (CloseableIterator<JsonNode> reading = read(options(cosmos))) {
                take(reading, 200, seen);
            }
            assertThat(seen)
                    .containsExactlyInAnyOrderElementsOf(
                            LongStream.range(0, 200).boxed().toList());
            // The admin requests went by the same authority.
            assertThat(sum(cosmos.admin().documents(DATABASE, ORDERS))).isEqualTo(200);
            // It is trusted for that alone.
            Map<String, String> withoutIt = options(cosmos);
            withoutIt.remove("tls.ca-file");
            withoutIt.put("retry.deadline", "1000");
            assertThatThrownBy(() -> write(withoutIt, 200, 210)).hasStackTraceContaining(cosmos.endpoint());
            assertThat(sum(cosmos.admin().documents(DATABASE, ORDERS))).isEqualTo(200);
            caFile = cosmos.caFile();
            assertThat(caFile).content().isEqualTo(cosmos.caPem());
        }
        assertThat(caFile).doesNotExist();
    }

    @Test
    void onlyItsKeySigns() throws Exception {
        String key = Base64.getEncoder().encodeToString("a key that the test chose".getBytes(StandardCharsets.UTF_8));
        String other = Base64.getEncoder().encodeToString("another key".getBytes(StandardCharsets.UTF_8));
        try (CosmosLocalContainer cosmos = orders().withKey(key)) {
            start(cosmos);
            write(options(cosmos), 0, 10);
            Map<String, String> wrong = options(cosmos);
            wrong.put("auth.secret-key", other);
            assertThatThrownBy(() -> write(wrong, 10, 20))
                    .hasStackTraceContaining("401")
                    .satisfies(e -> assertThat(e).hasStackTraceContaining("cosmos"));
            assertThat(sum(cosmos.admin().documents(DATABASE, ORDERS))).isEqualTo(10);
        }
    }

    @Test
    void partitionsSplitAndMergeAndMistakesAreNamed() {
        try (CosmosLocalContainer cosmos = orders().withCosmosContainer("other/things:/a,/b:1")) {
            start(cosmos);
            CosmosLocalAdmin admin = cosmos.admin();
            assertThat(admin.documents("other", "things")).containsOnlyKeys("0");
            List<String> children = admin.split("other", "things", "0");
            String whole = admin.merge("other", "things", children.get(0), children.get(1));
            assertThat(admin.documents("other", "things")).containsOnlyKeys(whole);

            assertThatIllegalArgumentException()
                    .isThrownBy(() -> admin.split(DATABASE, ORDERS, "99"))
                    .withMessageContaining("partition 99");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> admin.documents(DATABASE, "nothing"))
                    .withMessageContaining("'nothing'");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> admin.addFault(Fault.on("bulk").share(2).status(503)))
                    .withMessageContaining("share is 2");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> admin.addFault(Fault.on("writing").status(503)))
                    .withMessageContaining("'writing'");
        }
    }

    @Test
    void onThisMachineItIsOnTheLoopbackAddressAlone() {
        try (CosmosLocalContainer cosmos = orders()) {
            start(cosmos);
            List<String> addresses =
                    cosmos.getContainerInfo().getNetworkSettings().getPorts().getBindings().values().stream()
                            .flatMap(Stream::of)
                            .map(Ports.Binding::getHostIp)
                            .toList();
            if (isLocal(cosmos)) {
                assertThat(addresses).containsExactly("127.0.0.1");
            } else {
                // Its clients are on another machine than the engine, or in a container beside it.
                assertThat(addresses).contains("0.0.0.0");
            }
        }
    }

    @Test
    void otherContainersReachItByItsAlias() throws Exception {
        try (Network network = Network.newNetwork();
                CosmosLocalContainer cosmos = orders().withNetwork(network).withNetworkAliases("cosmos");
                CosmosLocalContainer neighbour = orders().withNetwork(network)) {
            // Plain http, wherever the engine runs: both are in its network.
            cosmos.start();
            neighbour.start();
            assertThat(cosmos.endpointInNetwork("cosmos")).isEqualTo("http://cosmos:8081/");
            ExecResult answer = neighbour.execInContainer(
                    "bash",
                    "-c",
                    "exec 3<>/dev/tcp/cosmos/8081"
                            + " && printf 'GET /_local/health HTTP/1.1\\r\\nhost: cosmos:8081\\r\\nconnection: close\\r\\n\\r\\n' >&3"
                            + " && cat <&3");
            assertThat(answer.getStdout()).startsWith("HTTP/1.1 200").contains("\"ok\"");
        }
    }

    @Test
    void afterTheStopNothingIsLeft() {
        CosmosLocalContainer cosmos = orders();
        try (cosmos) {
            start(cosmos);
        }
        assertThatIllegalStateException().isThrownBy(cosmos::admin).withMessageContaining("start it first");
        // It starts again, empty and with the same key.
        String key = cosmos.key();
        String id;
        try (cosmos) {
            start(cosmos);
            id = cosmos.getContainerId();
            assertThat(cosmos.key()).isEqualTo(key);
            assertThat(sum(cosmos.admin().documents(DATABASE, ORDERS))).isZero();
        }
        assertThatThrownBy(
                        () -> cosmos.getDockerClient().inspectContainerCmd(id).exec())
                .isInstanceOf(NotFoundException.class);
    }

    @Test
    @Timeout(30)
    void anImageThatIsMissingIsNamedAtOnceWithHowToBuildIt() {
        try (CosmosLocalContainer cosmos =
                new CosmosLocalContainer(DockerImageName.parse("cosmosflink-nobody:0.0.0"))) {
            assertThatThrownBy(cosmos::start)
                    .hasMessageContainingAll(
                            "no image cosmosflink-nobody:0.0.0", "docker build -f infra/images/Dockerfile");
        }
    }

    private static CosmosLocalContainer orders() {
        return new CosmosLocalContainer()
                .withDatabase(DATABASE)
                .withCosmosContainer(ORDERS + ":/customerId:2")
                .withLabel(LABEL, Objects.requireNonNullElse(System.getenv("COSMOSFLINK_TEST_RUN"), "by hand"));
    }

    /** Starts it, over TLS where plain http is not for the connector. */
    private static void start(CosmosLocalContainer cosmos) {
        if (!isLocal(cosmos)) {
            cosmos.withTls();
        }
        cosmos.start();
    }

    private static boolean isLocal(CosmosLocalContainer cosmos) {
        return Set.of("localhost", "127.0.0.1").contains(cosmos.getHost());
    }

    private static Map<String, String> options(CosmosLocalContainer cosmos) {
        Map<String, String> options = cosmos.options();
        options.putAll(
                Map.of("database", DATABASE, "container", ORDERS, "scan.page-size", "50", "scan.poll-interval", "100"));
        return options;
    }

    private static StreamExecutionEnvironment environment() {
        Configuration configuration = new Configuration();
        // What is repeated after a restart would hide what was lost before it.
        configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        env.setParallelism(2);
        env.enableCheckpointing(200);
        return env;
    }

    private static void write(Map<String, String> options, int from, int to) throws Exception {
        StreamExecutionEnvironment env = environment();
        env.fromSequence(from, to - 1L)
                .sinkTo(CosmosDBSink.<Long>builder()
                        .options(CosmosDBOptions.of(options))
                        .converter(CosmosDBElementConverter.<Long>builder()
                                .id(n -> "o" + n)
                                .partitionKey(n -> "c" + n % 97)
                                .document(n -> ("{\"id\":\"o" + n + "\",\"customerId\":\"c" + n % 97 + "\",\"amount\":"
                                                + n + "}")
                                        .getBytes(StandardCharsets.UTF_8))
                                .build())
                        .build());
        env.execute("write");
    }

    private static CloseableIterator<JsonNode> read(Map<String, String> options) throws Exception {
        return environment()
                .fromSource(
                        CosmosDBSource.<JsonNode>builder()
                                .options(CosmosDBOptions.of(options))
                                .startup("earliest")
                                .deserializer(CosmosDBDeserializationSchema.jsonNode())
                                .build(),
                        WatermarkStrategy.noWatermarks(),
                        ORDERS)
                .executeAndCollect("read");
    }

    /** Takes the amounts of so many orders, and looks whether the rest of each is its own. */
    private static void take(CloseableIterator<JsonNode> from, int count, List<Long> amounts) {
        for (int i = 0; i < count; i++) {
            JsonNode order = from.next();
            long amount = order.path("amount").asLong(-1);
            assertThat(order.path("id").asText()).isEqualTo("o" + amount);
            assertThat(order.path("customerId").asText()).isEqualTo("c" + amount % 97);
            amounts.add(amount);
        }
    }

    private static long sum(Map<String, Long> documents) {
        return documents.values().stream().mapToLong(Long::longValue).sum();
    }

    /** Requests and operations that faults have struck. */
    private static long struck(CosmosLocalAdmin admin) {
        return admin.stats().path("faultsInjected").asLong(-1);
    }
}
