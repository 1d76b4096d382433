package io.cosmosflink.jobs;

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
        int size = 2 + Math.max(0, events.size() - 1);
        for (byte[] event : events) {
            size += event.length;
        }
        byte[] out = new byte[size];
        int at = 0;
        for (byte[] event : events) {
            out[at++] = (byte) (at == 1 ? '[' : ',');
            System.arraycopy(event, 0, out, at, event.length);
            at += event.length;
        }
        if (events.isEmpty()) {
            out[at++] = '[';
        }
        out[at] = ']';
        return out;
    }

    /** The consumer's "no, not this". */
    final class RefusedException extends RuntimeException {
        private static final long serialVersionUID = 1L;

        RefusedException(String message) {
            super(message);
        }
    }
}
