package io.cosmosflink.jobs;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** One line of JSON per batch, one line of JSON back for each; as many connections as batches at one time. */
final class TcpTransport implements Transport {
    private static final ObjectMapper MAPPER = new ObjectMapper();

    private final String host;
    private final int port;
    private final int timeoutMillis;
    private final ExecutorService threads;
    private final ConcurrentLinkedDeque<Connection> idle = new ConcurrentLinkedDeque<>();
    private volatile boolean closed;

    private record Connection(Socket socket, BufferedReader in, OutputStream out) {
        void close() {
            try {
                socket.close();
            } catch (IOException e) {
                // It is given up anyway.
            }
        }
    }

    /** @param address {@code host:port} */
    TcpTransport(String address, Duration timeout, int connections) {
        int colon = address.lastIndexOf(':');
        if (colon <= 0 || !address.substring(colon + 1).matches("[0-9]{1,5}")) {
            throw new IllegalArgumentException("job.consumer-tcp is '" + address + "'; expected host:port");
        }
        this.host = address.substring(0, colon);
        this.port = Integer.parseInt(address.substring(colon + 1));
        this.timeoutMillis = Math.toIntExact(timeout.toMillis());
        this.threads = Executors.newFixedThreadPool(connections, Batcher.daemons("consumer-tcp"));
    }

    @Override
    public CompletableFuture<Void> send(List<byte[]> events) {
        return CompletableFuture.runAsync(() -> exchange(events), threads);
    }

    private void exchange(List<byte[]> events) {
        Connection connection = idle.poll();
        try {
            if (connection == null) {
                connection = connect();
            }
            byte[] batch = Transport.array(events);
            byte[] line = java.util.Arrays.copyOf(batch, batch.length + 1);
            line[batch.length] = '\n';
            connection.out().write(line);
            connection.out().flush();
            String answer = connection.in().readLine();
            if (answer == null) {
                throw new EOFException(
                        "the consumer at " + host + ":" + port + " closed the connection without an answer");
            }
            JsonNode error = MAPPER.readTree(answer).get("error");
            if (error != null) {
                // The consumer may close after an error; a new connection is cheap then.
                throw new RefusedException(
                        "the consumer at " + host + ":" + port + " refused a batch: " + error.asText());
            }
            idle.push(connection);
            if (closed) {
                closeIdle();
            }
        } catch (IOException e) {
            drop(connection);
            throw new UncheckedIOException("the consumer at " + host + ":" + port + " cannot be reached: " + e, e);
        } catch (RuntimeException e) {
            drop(connection);
            throw e;
        }
    }

    private static void drop(Connection connection) {
        if (connection != null) {
            connection.close();
        }
    }

    private Connection connect() throws IOException {
        Socket socket = new Socket();
        try {
            socket.setTcpNoDelay(true);
            socket.setSoTimeout(timeoutMillis);
            socket.connect(new InetSocketAddress(host, port), timeoutMillis);
            return new Connection(
                    socket,
                    new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8)),
                    socket.getOutputStream());
        } catch (IOException e) {
            socket.close();
            throw e;
        }
    }

    private void closeIdle() {
        for (Connection c; (c = idle.poll()) != null; ) {
            c.close();
        }
    }

    @Override
    public void close() {
        closed = true;
        threads.shutdownNow();
        closeIdle();
    }
}
