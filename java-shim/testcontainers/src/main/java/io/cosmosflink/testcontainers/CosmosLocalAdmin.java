package io.cosmosflink.testcontainers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * The admin requests of a local account: faults, splits and merges of partitions, and counts of what it was asked.
 *
 * <p>A request that the account refuses is an {@link IllegalArgumentException} with the account's reason; one that does not
 * reach it is an {@link UncheckedIOException}. May be used by several threads.
 */
public final class CosmosLocalAdmin {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** A split may hold its partition for a minute at most. */
    private static final Duration LIMIT = Duration.ofSeconds(90);

    private final URI base;
    private final HttpClient http;

    /**
     * @param endpoint the account's endpoint
     * @param caPem the authority of an https endpoint as PEM, else null
     */
    CosmosLocalAdmin(String endpoint, String caPem) {
        base = URI.create(endpoint).resolve("/_local/");
        HttpClient.Builder builder = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10));
        http = (caPem == null ? builder : builder.sslContext(trusting(caPem))).build();
    }

    /** A context that trusts one authority, whatever else this process trusts. */
    private static SSLContext trusting(String pem) {
        try {
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            store.setCertificateEntry(
                    "cosmos-local",
                    CertificateFactory.getInstance("X.509")
                            .generateCertificate(new ByteArrayInputStream(pem.getBytes(StandardCharsets.US_ASCII))));
            TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, trust.getTrustManagers(), null);
            return context;
        } catch (GeneralSecurityException | IOException e) {
            throw new IllegalStateException("the account's authority cannot be used: " + e.getMessage(), e);
        }
    }

    /**
     * Adds a fault to those that are there.
     *
     * @param fault when it strikes and what it does
     */
    public void addFault(Fault fault) {
        request("POST", "faults", fault.json());
    }

    /** Removes all faults. */
    public void clearFaults() {
        request("DELETE", "faults", null);
    }

    /**
     * Splits a physical partition in the middle, and returns when it is done.
     *
     * @param database its database
     * @param container its container
     * @param partition id of its partition key range, as {@link #documents(String, String)} names them
     * @return the ids of the two new ones
     */
    public List<String> split(String database, String container, String partition) {
        return split(database, container, partition, Duration.ZERO);
    }

    /**
     * Splits a physical partition in the middle, and holds it first: meanwhile writes and point reads of it get 410/1007, as
     * during a split on the service.
     *
     * @param database its database
     * @param container its container
     * @param partition id of its partition key range
     * @param lock how long to hold it, a minute at most
     * @return the ids of the two new ones
     */
    public List<String> split(String database, String container, String partition, Duration lock) {
        ObjectNode body = named(database, container);
        body.put("partition", partition).put("lockMillis", lock.toMillis());
        return ids(request("POST", "split", body));
    }

    /**
     * Merges two neighbouring physical partitions, and returns when it is done.
     *
     * @param database their database
     * @param container their container
     * @param one id of one's partition key range
     * @param two id of the other's
     * @return the id of the new one
     */
    public String merge(String database, String container, String one, String two) {
        ObjectNode body = named(database, container);
        body.putArray("partitions").add(one).add(two);
        return ids(request("POST", "merge", body)).get(0);
    }

    /**
     * Documents in each physical partition of a container now.
     *
     * @param database its database
     * @param container its container
     * @return the counts by the ids of the partition key ranges
     * @throws IllegalArgumentException when there is no such container
     */
    public Map<String, Long> documents(String database, String container) {
        for (JsonNode one : stats().path("containers")) {
            if (one.path("database").asText().equals(database)
                    && one.path("container").asText().equals(container)) {
                Map<String, Long> counts = new TreeMap<>();
                for (JsonNode partition : one.path("partitions")) {
                    counts.put(
                            partition.path("id").asText(),
                            partition.path("documents").asLong());
                }
                return counts;
            }
        }
        throw new IllegalArgumentException("there is no container '" + container + "' in database '" + database + "'");
    }

    /**
     * Counts since the start: requests by kind and status, operations within bulk requests by status, faults that struck, documents
     * by partition.
     *
     * @return the account's answer as it is
     */
    public JsonNode stats() {
        return request("GET", "stats", null);
    }

    /**
     * Any other admin request.
     *
     * @param method such as {@code GET}
     * @param action the path below {@code /_local/}, such as {@code requests?kind=bulk}
     * @param body its body, or null for none
     * @return the answer
     */
    public JsonNode request(String method, String action, JsonNode body) {
        HttpRequest request = HttpRequest.newBuilder(base.resolve(action))
                .timeout(LIMIT)
                .method(
                        method,
                        body == null
                                ? HttpRequest.BodyPublishers.noBody()
                                : HttpRequest.BodyPublishers.ofString(body.toString()))
                .build();
        try {
            HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) {
                throw new IllegalArgumentException(
                        method + " " + request.uri() + ": " + answer.statusCode() + " " + answer.body());
            }
            return JSON.readTree(answer.body());
        } catch (IOException e) {
            throw new UncheckedIOException(method + " " + request.uri() + ": " + e.getMessage(), e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UncheckedIOException(
                    new InterruptedIOException(method + " " + request.uri() + " was interrupted"));
        }
    }

    private static ObjectNode named(String database, String container) {
        return JSON.createObjectNode().put("database", database).put("container", container);
    }

    private static List<String> ids(JsonNode answer) {
        List<String> ids = new ArrayList<>();
        answer.path("partitions").forEach(id -> ids.add(id.asText()));
        return ids;
    }
}
