package io.cosmosflink.core;

import java.util.concurrent.ArrayBlockingQueue;

/** Page buffers that go round between the fetcher, which fills them, and the task, which empties them. */
public final class PageBuffers {
    /** One being filled, two in Flink's queue (its default), one being emitted. */
    private static final int KEEP = 4;
    /** A page is a few MiB at most; what is larger is not kept. */
    private static final int KEEP_BYTES = 8 << 20;

    private final ArrayBlockingQueue<byte[]> free = new ArrayBlockingQueue<>(KEEP);

    /** A buffer of at least {@code size} bytes. */
    public byte[] take(int size) {
        byte[] buffer = free.poll();
        return buffer != null && buffer.length >= size ? buffer : new byte[capacity(size)];
    }

    /** The buffer is not used by the caller any more. */
    public void give(byte[] buffer) {
        if (buffer.length <= KEEP_BYTES) {
            free.offer(buffer);
        }
    }

    /** Rounded up, so that pages of about the same size share a buffer. */
    private static int capacity(int size) {
        int step = 1 << 16;
        return size > Integer.MAX_VALUE - 2 * step ? size : (size + step - 1) / step * step;
    }
}
