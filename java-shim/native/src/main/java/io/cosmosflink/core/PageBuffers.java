package io.cosmosflink.core;

import java.util.concurrent.ArrayBlockingQueue;

/** Page buffers that go round between the fetcher, which fills them, and the task, which empties them. */
@Internal
public final class PageBuffers {
    /** One being filled, two in Flink's queue (its default), one being emitted. */
    private static final int KEEP = 4;
    /** A page is a few MiB at most; what is larger is not kept. */
    private static final int KEEP_BYTES = 8 << 20;

    private static final int STEP = 1 << 16;

    private static final byte[] NONE = {};

    private final ArrayBlockingQueue<byte[]> free = new ArrayBlockingQueue<>(KEEP);

    /** Size of a new buffer: that of the largest page so far that is kept. For the fetcher's thread. */
    private int newBytes = STEP;

    /** Whether what is made of a page points into its array, so that no array is used twice. */
    private final boolean kept;

    public PageBuffers() {
        this(false);
    }

    /** @param kept whether pages are kept for longer than until they are given back: each has an array of its own then, of its very size */
    public PageBuffers(boolean kept) {
        this.kept = kept;
    }

    /**
     * The next page of a source, in a buffer of these. One call into the core as a rule; a page that needs a larger buffer takes a second
     * one, and buffers are of that size from then on. Pages that are kept take two: the first says how large the next one is.
     *
     * @return null when none came in time or the source was woken up
     */
    public Page next(Core.SourceHandle source, long timeoutMillis) {
        byte[] buffer = kept ? NONE : free.poll();
        if (buffer == null) {
            buffer = new byte[newBytes];
        }
        int size = source.nextPage(buffer, timeoutMillis);
        while (size < 0) {
            buffer = new byte[kept ? -size : capacity(-size)];
            newBytes = Math.max(newBytes, Math.min(buffer.length, KEEP_BYTES));
            size = source.nextPage(buffer, timeoutMillis);
        }
        if (size == 0) {
            give(buffer);
            return null;
        }
        return new Page(buffer, size);
    }

    /** The page is not used by the caller any more. From any thread. */
    public void give(Page page) {
        give(page.bytes());
    }

    private void give(byte[] buffer) {
        if (!kept && buffer.length <= KEEP_BYTES) {
            free.offer(buffer);
        }
    }

    /** Rounded up, so that pages of about the same size share a buffer. */
    private static int capacity(int size) {
        return size > Integer.MAX_VALUE - 2 * STEP ? size : (size + STEP - 1) / STEP * STEP;
    }
}
