package io.cosmosflink.jobs;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Posts JSON arrays over connections that the client keeps open. */
final class HttpTransport implements Transport {
    private final URI url;
    private final Duration timeout;
    private final ExecutorService threads = Executors.newFixedThreadPool(2, Batcher.daemons("consumer-http"));
    private final HttpClient client;

    HttpTransport(String url, Duration timeout) {
        this.url = URI.create(url);
        this.timeout = timeout;
        this.client = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .connectTimeout(timeout)
                .executor(threads)
                .build();
    }

    @Override
    public CompletableFuture<Void> send(List<byte[]> events) {
        HttpRequest request = HttpRequest.newBuilder(url)
                .timeout(timeout)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(Transport.array(events)))
                .build();
        return client.sendAsync(request, HttpResponse.BodyHandlers.ofString())
                .handle((response, failure) -> {
                    if (failure == null) {
                        return judge(response);
                    }
                    Throwable cause = failure instanceof CompletionException && failure.getCause() != null
                            ? failure.getCause()
                            : failure;
                    // The client's own exceptions do not name the address, and often nothing at all.
                    return CompletableFuture.<Void>failedFuture(
                            new IOException("the consumer at " + url + " cannot be reached: " + cause, cause));
                })
                .thenCompose(sent -> sent);
    }

    private CompletableFuture<Void> judge(HttpResponse<String> response) {
        int status = response.statusCode();
        if (status / 100 == 2) {
            return CompletableFuture.completedFuture(null);
        }
        String body = response.body();
        String what = "the consumer at " + url + " answered " + status + ": "
                + body.substring(0, Math.min(300, body.length()));
        boolean refused = status == 400 || status == 413 || status == 415 || status == 422;
        return CompletableFuture.failedFuture(refused ? new RefusedException(what) : new IOException(what));
    }

    @Override
    public void close() {
        threads.shutdownNow();
    }
}
