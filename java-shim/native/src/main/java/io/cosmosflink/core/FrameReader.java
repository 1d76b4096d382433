package io.cosmosflink.core;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Reads a frame, with every bound checked: frames may come from a savepoint. */
final class FrameReader {
    private final ByteBuffer buffer;

    private FrameReader(byte[] bytes, int length) {
        buffer = ByteBuffer.wrap(bytes, 0, length).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** A reader behind version and kind, both checked. */
    static FrameReader open(byte[] bytes, FrameKind kind) {
        return open(bytes, bytes.length, kind);
    }

    static FrameReader open(byte[] bytes, int length, FrameKind kind) {
        FrameReader reader = new FrameReader(bytes, length);
        int version = reader.u16();
        int found = reader.u16();
        if (version != FrameWriter.VERSION) {
            throw state("frame version " + version + " is not known (this jar reads " + FrameWriter.VERSION
                    + "); use the version of cosmosflink that wrote it, or a newer one");
        }
        if (found != kind.number) {
            throw state("frame kind " + found + " where " + kind.number + " (" + kind + ") was expected");
        }
        return reader;
    }

    /** A reader of plain fields, without the head of a frame. */
    static FrameReader raw(byte[] bytes) {
        return new FrameReader(bytes, bytes.length);
    }

    int u8() {
        return Byte.toUnsignedInt(need(1).get());
    }

    int u16() {
        return Short.toUnsignedInt(need(2).getShort());
    }

    /** An unsigned 32-bit number that fits an int, as all counts and offsets do. */
    int u32() {
        int v = need(4).getInt();
        if (v < 0) {
            throw state("the number " + Integer.toUnsignedString(v) + " in a frame is larger than 2^31-1");
        }
        return v;
    }

    long u64() {
        return need(8).getLong();
    }

    double f64() {
        return need(8).getDouble();
    }

    byte[] blob() {
        int length = u32();
        need(length);
        byte[] out = new byte[length];
        buffer.get(out);
        return out;
    }

    String str() {
        int length = u32();
        if (length == 0) {
            return "";
        }
        int at = need(length).position();
        buffer.position(at + length);
        return new String(buffer.array(), at, length, StandardCharsets.UTF_8);
    }

    /** A count of items of at least {@code size} bytes each, so that a damaged frame cannot ask for a huge list. */
    int count(int size) {
        int n = u32();
        need(Math.multiplyExact((long) n, size));
        return n;
    }

    void skip(int bytes) {
        need(bytes).position(buffer.position() + bytes);
    }

    int position() {
        return buffer.position();
    }

    int remaining() {
        return buffer.remaining();
    }

    private ByteBuffer need(long bytes) {
        if (bytes > buffer.remaining()) {
            throw (CosmosException) state("frame ends at byte " + buffer.limit() + " where " + bytes
                            + " more bytes were expected at " + buffer.position())
                    .initCause(new BufferUnderflowException());
        }
        return buffer;
    }

    static CosmosException state(String message) {
        return new CosmosException(message, CosmosException.Kind.STATE);
    }
}
