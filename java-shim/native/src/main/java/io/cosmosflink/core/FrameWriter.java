package io.cosmosflink.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Appends little-endian fields to a growing, reusable array. Not thread-safe. */
final class FrameWriter {
    static final int VERSION = 1;

    private ByteBuffer buffer;

    FrameWriter(int capacity) {
        buffer = ByteBuffer.allocate(capacity).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** A frame of this kind, its head written. */
    static FrameWriter frame(FrameKind kind) {
        return new FrameWriter(256).reset(kind);
    }

    /** Forgets the content, keeps the array, and writes the head of a new frame. */
    FrameWriter reset(FrameKind kind) {
        buffer.clear();
        return u16(VERSION).u16(kind.number);
    }

    FrameWriter u8(int v) {
        room(1).put((byte) v);
        return this;
    }

    FrameWriter u16(int v) {
        room(2).putShort((short) v);
        return this;
    }

    FrameWriter u32(int v) {
        room(4).putInt(v);
        return this;
    }

    FrameWriter u64(long v) {
        room(8).putLong(v);
        return this;
    }

    FrameWriter str(String v) {
        return blob(v.getBytes(StandardCharsets.UTF_8));
    }

    FrameWriter blob(byte[] v) {
        return u32(v.length).raw(v);
    }

    FrameWriter raw(byte[] v) {
        room(v.length).put(v);
        return this;
    }

    int length() {
        return buffer.position();
    }

    /** The array behind; only the first {@link #length()} bytes count. */
    byte[] array() {
        return buffer.array();
    }

    byte[] toBytes() {
        return Arrays.copyOf(buffer.array(), buffer.position());
    }

    private ByteBuffer room(int more) {
        if (buffer.remaining() < more) {
            int needed = Math.addExact(buffer.position(), more);
            // Doubling, but never past what an array can hold.
            int capacity = (int) Math.min(Integer.MAX_VALUE - 16, Math.max(needed, 2L * buffer.capacity()));
            buffer = ByteBuffer.wrap(Arrays.copyOf(buffer.array(), capacity))
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .position(buffer.position());
        }
        return buffer;
    }
}
