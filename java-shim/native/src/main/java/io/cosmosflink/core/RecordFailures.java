package io.cosmosflink.core;

import java.io.IOException;
import java.io.ObjectOutputStream;
import java.io.OutputStream;
import java.nio.channels.ClosedByInterruptException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** What is thrown while one record is read, or made into a write: whose failure it is, and what of it may be sent to the JobManager. */
@Internal
public final class RecordFailures {
    /** Of a text, in characters: some libraries put the whole document into their message. */
    private static final int MAX_TEXT = 4096;
    /** A failure as it is sent; Flink sends each of its causes once more with the causes below it. */
    private static final int MAX_BYTES = 64 << 10;

    private static final int MAX_CAUSES = 10;
    private static final int MAX_FRAMES = 50;

    private RecordFailures() {}

    /**
     * Whether a failure is that of the record: any exception is, and that the record is nested too deeply for the stack. Any other error,
     * a {@link NotOfRecordException}, and an interrupt of the task are not, also as the cause of something else: the next record
     * would meet them too.
     */
    public static boolean isOfRecord(Throwable failure) {
        if (Thread.currentThread().isInterrupted()) {
            return false;
        }
        int depth = 0;
        for (Throwable t = failure; t != null && depth < MAX_CAUSES; t = t.getCause(), depth++) {
            boolean everybodys = t instanceof NotOfRecordException
                    || t instanceof InterruptedException
                    || t instanceof ClosedByInterruptException
                    || (!(t instanceof Exception) && !(t instanceof StackOverflowError));
            if (everybodys) {
                return false;
            }
        }
        return true;
    }

    /**
     * The failure itself if it is small, else a copy without what makes it large: a document in a message or a field, a stack of
     * thousands of frames. A failure that is larger than a message of the cluster never reaches the JobManager.
     *
     * @param failure may be null
     */
    public static Throwable small(Throwable failure) {
        return failure == null || isSmall(failure) ? failure : copy(failure, MAX_CAUSES);
    }

    private static boolean isSmall(Throwable failure) {
        for (Throwable t = failure; t != null; t = t.getCause()) {
            if (t.getStackTrace().length > MAX_FRAMES * 4
                    || (t.getMessage() != null && t.getMessage().length() > MAX_TEXT + 2)) {
                return false;
            }
        }
        try (ObjectOutputStream out = new ObjectOutputStream(new Limited())) {
            out.writeObject(failure);
            return true;
        } catch (IOException | RuntimeException e) {
            return false;
        }
    }

    private static Throwable copy(Throwable failure, int causes) {
        if (failure == null || causes == 0) {
            return null;
        }
        Copy copy = new Copy(
                shortened(failure.getClass().getName() + ": " + failure.getMessage()),
                copy(failure.getCause(), causes - 1));
        StackTraceElement[] stack = failure.getStackTrace();
        copy.setStackTrace(Arrays.copyOf(stack, Math.min(stack.length, MAX_FRAMES)));
        return copy;
    }

    /** Stands for an exception that was too large. */
    private static final class Copy extends Exception {
        private static final long serialVersionUID = 1L;

        Copy(String message, Throwable cause) {
            super(message, cause);
        }

        @Override
        public String toString() {
            return getMessage();
        }
    }

    /** A failure in words: its message, or what it is. */
    public static String reason(Throwable failure) {
        return failure.getMessage() == null ? failure.getClass().getName() : failure.getMessage();
    }

    /** The text, or its beginning. */
    public static String shortened(String text) {
        if (text.length() <= MAX_TEXT) {
            return text;
        }
        // Through UTF-8, because the cut may leave half a surrogate pair.
        byte[] utf8 = text.substring(0, MAX_TEXT).getBytes(StandardCharsets.UTF_8);
        return new String(utf8, StandardCharsets.UTF_8) + "..";
    }

    /** Counts, and refuses more bytes than a failure may have. */
    private static final class Limited extends OutputStream {
        private int size;

        @Override
        public void write(int b) throws IOException {
            add(1);
        }

        @Override
        public void write(byte[] bytes, int from, int length) throws IOException {
            add(length);
        }

        private void add(int length) throws IOException {
            size += length;
            if (size > MAX_BYTES) {
                throw new IOException("more than " + MAX_BYTES + " bytes");
            }
        }
    }
}
