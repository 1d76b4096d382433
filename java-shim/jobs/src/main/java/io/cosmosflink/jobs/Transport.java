package io.cosmosflink.jobs;

import java.io.ByteArrayOutputStream;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** A way to the consumer. */
interface Transport extends AutoCloseable {
    /**
     * Sends one batch. The future fails with {@link RefusedException} when the consumer will not take it however often it is sent, with
     * anything else when it is worth another attempt.
     */
    CompletableFuture<Void> send(List<byte[]> events);

    @Override
    void close();

    /** The events as one JSON array. */
    static byte[] array(List<byte[]> events) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(
                2 + events.stream().mapToInt(event -> event.length + 1).sum());
        out.write('[');
        for (int i = 0; i < events.size(); i++) {
            if (i > 0) {
                out.write(',');
            }
            out.writeBytes(events.get(i));
        }
        out.write(']');
        return out.toByteArray();
    }

    /** The consumer's "no, not this". */
    final class RefusedException extends RuntimeException {
        private static final long serialVersionUID = 1L;

        RefusedException(String message) {
            super(message);
        }
    }
}
