package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cosmosflink.core.Completion;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.EnumeratorActions;
import io.cosmosflink.core.EnumeratorEvent;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.PageBuffers;
import io.cosmosflink.core.RecordView;
import io.cosmosflink.core.SplitEntry;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** A local Cosmos of a test's own, started and stopped with it, and a small client that writes and reads through the core. */
public final class LocalCosmos implements AutoCloseable {
    public static final String DATABASE = "orders";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Process process;
    private final Path keyFile;
    private final String endpoint;
    private final HttpClient http = HttpClient.newHttpClient();

    /**
     * @param containers as the server's {@code --container} takes them, such as {@code events-source:/customerId:4}; what begins with
     *     {@code --} is an option of the server's, such as {@code --all-versions}
     */
    public static LocalCosmos start(String... containers) throws IOException, InterruptedException {
        Path folder = Files.createTempDirectory("local-cosmos");
        Path binary = Path.of(System.getProperty("cosmosflink.cosmos-local", "../../target/release/cosmos-local"));
        if (!Files.isExecutable(binary)) {
            throw new IOException(
                    binary.toAbsolutePath() + " is missing; build it: cargo build --release -p cosmos-local");
        }
        Path ready = folder.resolve("ready.json");
        Path keyFile = folder.resolve("key");
        List<String> command =
                new ArrayList<>(List.of(binary.toString(), "--listen", "127.0.0.1:0", "--database", DATABASE));
        command.addAll(List.of("--key-file", keyFile.toString(), "--ready-file", ready.toString()));
        for (String container : containers) {
            command.addAll(container.startsWith("--") ? List.of(container) : List.of("--container", container));
        }
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("log").toFile())
                .start();
        try {
            await("the local Cosmos to listen", Duration.ofSeconds(20), () -> {
                if (!process.isAlive()) {
                    throw new IllegalStateException(
                            "the local Cosmos ended with " + process.exitValue() + ": " + log(folder));
                }
                return Files.exists(ready) && text(ready).endsWith("}");
            });
            return new LocalCosmos(
                    process, keyFile, JSON.readTree(text(ready)).get("endpoint").asText());
        } catch (RuntimeException | IOException | Error e) {
            process.destroyForcibly();
            throw e;
        }
    }

    private LocalCosmos(Process process, Path keyFile, String endpoint) {
        this.process = process;
        this.keyFile = keyFile;
        this.endpoint = endpoint;
    }

    /** Waits for a condition, asked every 50 ms. */
    public static void await(String what, Duration limit, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + limit.toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited " + limit + " for " + what);
            }
            Thread.sleep(50);
        }
    }

    private static String text(Path file) {
        try {
            return Files.readString(file).trim();
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private static String log(Path folder) {
        return text(folder.resolve("log"));
    }

    public String endpoint() {
        return endpoint;
    }

    public Path keyFile() {
        return keyFile;
    }

    /** Connection options for one container. */
    public CosmosDBOptions options(String container) {
        return CosmosDBOptions.of(Map.of(
                "endpoint", endpoint,
                "database", DATABASE,
                "container", container,
                "auth.key-file", keyFile.toString(),
                "scan.poll-interval", "100"));
    }

    /** Writes and waits, one request after the other and so in order; every write must be fine. */
    public void write(String container, List<Operation> operations) {
        Core core = NativeCore.get();
        try (Core.SinkHandle sink = core.openSink(options(container).toMap())) {
            awaitOpen(sink);
            OperationBatch batch = new OperationBatch();
            for (int from = 0; from < operations.size(); from += 100) {
                batch.clear();
                operations.subList(from, Math.min(operations.size(), from + 100)).stream()
                        .map(Operation::encode)
                        .forEach(batch::add);
                sink.submit(from, batch);
                List<Completion> ended = List.of();
                while (ended.isEmpty()) {
                    ended = sink.pollCompletions(1000);
                }
                if (!ended.get(0).failures().isEmpty()) {
                    throw new AssertionError(ended.toString());
                }
            }
        }
    }

    private static void awaitOpen(Core.Handle handle) {
        try {
            handle.awaitOpen();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** All splits of a container, as the only reader there is gets them. */
    static List<SplitEntry> splits(Core.EnumeratorHandle enumerator) {
        try {
            var found = new EnumeratorEvent.Discovered(enumerator.discover());
            var actions = enumerator.coordinate(new Core.Readers(1, List.of(0)), found);
            return ((EnumeratorActions.Assign) actions.actions().get(0))
                    .splits()
                    .get(0);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** Every document of a container, by partition key and id. */
    public Map<String, JsonNode> read(String container) throws IOException {
        Core core = NativeCore.get();
        Map<String, String> options = options(container).toMap();
        Map<String, JsonNode> out = new TreeMap<>();
        try (Core.EnumeratorHandle enumerator = core.openEnumerator(options, new byte[0], true);
                Core.SourceHandle source = core.openSource(options)) {
            awaitOpen(source);
            source.addSplits(splits(enumerator));
            PageBuffers buffers = new PageBuffers();
            while (out.size() < count(container)) {
                Page page = buffers.next(source, 5000);
                if (page == null) {
                    throw new AssertionError("no page in 5 s after " + out.size() + " documents");
                }
                RecordView record = page.records();
                for (int i = 0; i < page.count(); i++) {
                    record.at(i);
                    out.put(record.partitionKey() + record.id(), JSON.readTree(record.document()));
                }
                buffers.give(page);
            }
        }
        return out;
    }

    /** Documents in a container now. */
    public long count(String container) {
        long count = 0;
        for (JsonNode partition : partitions(container)) {
            count += partition.get("documents").asLong();
        }
        return count;
    }

    /** What the server says of each partition of a container; nothing when there is no such container. */
    public Iterable<JsonNode> partitions(String container) {
        List<JsonNode> partitions = new ArrayList<>();
        for (JsonNode c : admin("GET", "stats", "").get("containers")) {
            if (c.get("container").asText().equals(container)) {
                c.get("partitions").forEach(partitions::add);
            }
        }
        return partitions;
    }

    /** Deletes a container, as an administrator would do it. */
    public void delete(String container) {
        manage("DELETE", "dbs/" + DATABASE + "/colls/" + container, "dbs/" + DATABASE + "/colls/" + container, "", 204);
    }

    /** Creates a container. */
    public void create(String container, String partitionKeyPath) {
        String body = "{\"id\":\"" + container + "\",\"partitionKey\":{\"paths\":[\"" + partitionKeyPath
                + "\"],\"kind\":\"Hash\",\"version\":2}}";
        manage("POST", "dbs/" + DATABASE + "/colls", "dbs/" + DATABASE, body, 201);
    }

    /** A request of the service's management interface, signed with the account key. */
    private void manage(String method, String path, String link, String body, int expected) {
        try {
            String date = DateTimeFormatter.RFC_1123_DATE_TIME.format(ZonedDateTime.now(ZoneOffset.UTC));
            String text = (method + "\ncolls\n").toLowerCase(Locale.ROOT) + link + "\n" + date.toLowerCase(Locale.ROOT)
                    + "\n\n";
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(Base64.getDecoder().decode(text(keyFile)), "HmacSHA256"));
            String signature = Base64.getEncoder().encodeToString(mac.doFinal(text.getBytes(StandardCharsets.UTF_8)));
            HttpResponse<String> response = http.send(
                    HttpRequest.newBuilder(URI.create(endpoint).resolve("/" + path))
                            .header(
                                    "authorization",
                                    URLEncoder.encode("type=master&ver=1.0&sig=" + signature, StandardCharsets.UTF_8))
                            .header("x-ms-date", date)
                            .header("x-ms-version", "2018-12-31")
                            .method(method, HttpRequest.BodyPublishers.ofString(body))
                            .build(),
                    HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != expected) {
                throw new AssertionError(method + " " + path + ": " + response.statusCode() + " " + response.body());
            }
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        } catch (InterruptedException | GeneralSecurityException e) {
            throw new AssertionError(e);
        }
    }

    /** An admin request of the server. */
    public JsonNode admin(String method, String action, String body) {
        try {
            HttpResponse<String> response = http.send(
                    HttpRequest.newBuilder(URI.create(endpoint).resolve("/_local/" + action))
                            .method(method, HttpRequest.BodyPublishers.ofString(body))
                            .build(),
                    HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new AssertionError(action + ": " + response.statusCode() + " " + response.body());
            }
            return JSON.readTree(response.body());
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    @Override
    public void close() {
        process.destroy();
        try {
            if (process.waitFor(5, TimeUnit.SECONDS)) {
                return;
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        process.destroyForcibly();
    }
}
