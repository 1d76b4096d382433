package io.cosmosflink.core;

/** An OPERATIONS frame in a reused array. Not thread-safe. */
@Internal
public final class OperationBatch {
    private static final int COUNT_AT = 4;
    /** Above this the array is not kept for the next batch. */
    private static final int KEEP = 16 << 20;

    private FrameWriter out = new FrameWriter(64 << 10);
    private int count;

    public OperationBatch() {
        clear();
    }

    /** Begins a new frame. */
    public void clear() {
        if (out.array().length > KEEP) {
            out = new FrameWriter(64 << 10);
        }
        out.reset(FrameKind.OPERATIONS).u32(0);
        count = 0;
    }

    /** Adds an OPERATION BODY. */
    public void add(byte[] body) {
        out.raw(body);
        count++;
    }

    public int count() {
        return count;
    }

    int length() {
        return out.length();
    }

    /** The frame; only the first {@link #length()} bytes count. */
    byte[] array() {
        byte[] array = out.array();
        for (int i = 0; i < 4; i++) {
            array[COUNT_AT + i] = (byte) (count >>> (8 * i));
        }
        return array;
    }
}
