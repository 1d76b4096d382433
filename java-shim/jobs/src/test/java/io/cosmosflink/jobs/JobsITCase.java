package io.cosmosflink.jobs;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import io.cosmosflink.connector.cosmosdb.LocalCosmos;
import io.cosmosflink.core.Operation;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.Metric;
import org.apache.flink.runtime.testutils.InMemoryReporter;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Both jobs, one behind the other, from the producer's container to a consumer. */
class JobsITCase {
    private static final int ORDERS = 2000;
    private static final Duration LIMIT = Duration.ofSeconds(90);
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final InMemoryReporter METRICS = InMemoryReporter.create();

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setConfiguration(METRICS.addToConfiguration(new Configuration()))
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(4)
            .build());

    private LocalCosmos cosmos;
    private final List<JobClient> jobs = new ArrayList<>();
    private final Set<String> received = ConcurrentHashMap.newKeySet();

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start(
                "events-source:/customerId:4",
                "events-processed:/region:2",
                "events-output:/region:2",
                "dead-letter:/container:1");
    }

    @AfterEach
    void stop() throws Exception {
        for (JobClient job : jobs) {
            job.cancel().get();
        }
        cosmos.close();
    }

    @Test
    void ordersReachTheConsumerOverHttpThoughItIsDownAtFirst() throws Exception {
        cosmos.write("events-source", orders());
        cosmos.write("events-source", List.of(bad("no-amount", "{\"id\":\"no-amount\",\"customerId\":\"c1\"}")));
        int port = freePort();
        submit("--job.consumer-url", "http://localhost:" + port + "/events", "--job.count-repeats", "true");
        LocalCosmos.await("processed orders", LIMIT, () -> cosmos.count("events-processed") == ORDERS);
        LocalCosmos.await("attempts to deliver", LIMIT, () -> metric(jobs.get(1), "deliver", "deliveryRetries") > 2);
        assertThat(cosmos.count("events-output"))
                .as("nothing was acknowledged yet")
                .isZero();

        AtomicInteger batches = new AtomicInteger();
        AtomicInteger refusedBatches = new AtomicInteger();
        Set<String> refused = ConcurrentHashMap.newKeySet();
        Set<String> acknowledged = ConcurrentHashMap.newKeySet();
        AtomicLong retriesWhileDown = new AtomicLong(-1);
        HttpServer consumer = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        consumer.createContext("/events", exchange -> {
            byte[] body = exchange.getRequestBody().readAllBytes();
            retriesWhileDown.compareAndSet(-1, metric(jobs.get(1), "deliver", "deliveryRetries"));
            // Every fifth batch is taken but its answer is an error: it comes again.
            List<String> ids = take(body);
            boolean refuse = batches.incrementAndGet() % 5 == 0;
            if (refuse) {
                refusedBatches.incrementAndGet();
            }
            (refuse ? refused : acknowledged).addAll(ids);
            exchange.sendResponseHeaders(refuse ? 503 : 200, -1);
            exchange.close();
        });
        consumer.start();
        try {
            LocalCosmos.await("recorded deliveries", LIMIT, () -> cosmos.count("events-output") == ORDERS);
            assertThat(metric(jobs.get(0), "enrich", "badRecords")).isOne();
            assertThat(metric(jobs.get(1), "enrich", "filteredRecords")).isZero();
            assertThat(metric(jobs.get(0), Repeats.NAME, "documents")).isEqualTo(ORDERS + 1);
            assertThat(metric(jobs.get(0), Repeats.NAME, "repeats")).isZero();
            assertThat(refused).isNotEmpty();
            assertThat(acknowledged).as("what was refused came again").containsAll(refused);
            assertThat(metric(jobs.get(1), "deliver", "deliveryRetries"))
                    .as("each refused batch is a retry, beside those of the outage")
                    .isGreaterThanOrEqualTo(retriesWhileDown.get() + refusedBatches.get());
        } finally {
            consumer.stop(0);
        }
        assertThat(received).hasSize(ORDERS);
        assertThat(cosmos.read("events-output").values()).hasSize(ORDERS).allSatisfy(record -> {
            assertThat(record.get("deliveredAt").asText()).isNotEmpty();
            assertThat(record.get("region").asText()).isEqualTo("eu-west");
            assertThat(record.get("amount").decimalValue().scale()).isLessThanOrEqualTo(2);
        });
        assertThat(cosmos.read("dead-letter").values()).singleElement().satisfies(letter -> {
            assertThat(letter.get("container").asText()).isEqualTo("events-source");
            assertThat(letter.get("message").asText()).contains("source is missing");
            assertThat(letter.get("document").get("id").asText()).isEqualTo("no-amount");
        });
    }

    @Test
    void ordersReachTheConsumerOverTcp() throws Exception {
        cosmos.write("events-source", orders());
        try (ServerSocket consumer = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            Thread accept = new Thread(() -> accept(consumer), "test-consumer");
            accept.setDaemon(true);
            accept.start();
            submit("--job.transport", "tcp", "--CONSUMER_TCP_ADDRESS", "localhost:" + consumer.getLocalPort());
            LocalCosmos.await("recorded deliveries", LIMIT, () -> cosmos.count("events-output") == ORDERS);
        }
        assertThat(received).hasSize(ORDERS);
    }

    /** The sum of a metric over the subtasks of an operator. */
    private static long metric(JobClient job, String operator, String name) {
        Collection<Metric> found = METRICS.findMetrics(job.getJobID(), ".*\\." + operator + "\\..*\\." + name)
                .values();
        assertThat(found).as(operator + " " + name).hasSize(2);
        return found.stream()
                .mapToLong(m -> m instanceof Counter counter ? counter.getCount() : (Long) ((Gauge<?>) m).getValue())
                .sum();
    }

    private void accept(ServerSocket consumer) {
        while (!consumer.isClosed()) {
            try {
                Socket socket = consumer.accept();
                Thread thread = new Thread(() -> answer(socket), "test-connection");
                thread.setDaemon(true);
                thread.start();
            } catch (IOException e) {
                return;
            }
        }
    }

    private void answer(Socket socket) {
        try (socket;
                var in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = in.readLine()) != null; ) {
                take(line.getBytes(StandardCharsets.UTF_8));
                socket.getOutputStream().write("{\"accepted\":1}\n".getBytes(StandardCharsets.UTF_8));
            }
        } catch (IOException e) {
            // The job is gone.
        }
    }

    /** The ids of a batch, which count as received. */
    private List<String> take(byte[] batch) throws IOException {
        List<String> ids = new ArrayList<>();
        for (JsonNode event : JSON.readTree(batch)) {
            ids.add(event.get("id").asText());
        }
        received.addAll(ids);
        return ids;
    }

    private void submit(String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of(
                "--COSMOS_URI",
                cosmos.endpoint(),
                "--COSMOS_DB",
                LocalCosmos.DATABASE,
                "--auth.key-file",
                cosmos.keyFile().toString(),
                "--job.checkpoint-interval-ms",
                "500",
                "--job.parallelism",
                "2"));
        arguments.addAll(List.of(more));
        JobSettings settings = JobSettings.of(arguments.toArray(new String[0]), java.util.Map.of());
        StreamExecutionEnvironment sink = settings.configure(StreamExecutionEnvironment.getExecutionEnvironment());
        OrderProcessing.define(sink, settings);
        jobs.add(sink.executeAsync("sink"));
        StreamExecutionEnvironment source = settings.configure(StreamExecutionEnvironment.getExecutionEnvironment());
        OrderDelivery.define(source, settings);
        jobs.add(source.executeAsync("source"));
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }

    private static Operation bad(String id, String document) {
        return Operation.upsert(id, "[\"c1\"]", document.getBytes(StandardCharsets.UTF_8));
    }

    private static List<Operation> orders() {
        return IntStream.range(0, ORDERS)
                .mapToObj(i -> Operation.upsert(
                        "o" + i,
                        "[\"c" + i % 97 + "\"]",
                        ("{\"id\":\"o" + i + "\",\"customerId\":\"c" + i % 97 + "\",\"amount\":" + i + ".125"
                                        + ",\"currency\":\"eur\",\"createdAt\":\"2026-01-01T00:00:00Z\",\"source\":\"eu-west\"}")
                                .getBytes(StandardCharsets.UTF_8)))
                .toList();
    }
}
