package io.cosmosflink.core;

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;

/**
 * Keys to look rows up by: the KEYS frame of {@code docs/boundary.md}. Of each, its number and then a value for each column, in the form that belongs to
 * the column's type.
 */
@Internal
public final class LookupKeys {
    private static final int COUNT_AT = 4;

    private final FrameWriter out = FrameWriter.frame(FrameKind.KEYS).u32(0);
    private int count;

    /** Begins a key. */
    public LookupKeys key(long number) {
        count++;
        out.u64(number);
        return this;
    }

    public LookupKeys none() {
        out.u8(0);
        return this;
    }

    public LookupKeys bool(boolean value) {
        out.u8(1).u8(value ? 1 : 0);
        return this;
    }

    /** Of TINYINT to BIGINT, of a DATE the days since 1970, and of a TIME the milliseconds of the day. */
    public LookupKeys whole(long value) {
        out.u8(1).u64(value);
        return this;
    }

    /** Of FLOAT and DOUBLE. */
    public LookupKeys real(double value) {
        out.u8(1).u64(Double.doubleToRawLongBits(value));
        return this;
    }

    /** @param value with 0 to 38 digits behind the point */
    public LookupKeys decimal(BigDecimal value) {
        out.u8(1).u8(value.scale()).blob(value.unscaledValue().toByteArray());
        return this;
    }

    public LookupKeys text(String value) {
        return text(value.getBytes(StandardCharsets.UTF_8));
    }

    /** @param utf8 a text in UTF-8 */
    public LookupKeys text(byte[] utf8) {
        return binary(utf8);
    }

    public LookupKeys binary(byte[] value) {
        out.u8(1).blob(value);
        return this;
    }

    /** @param nanos behind the milliseconds since 1970, below a million */
    public LookupKeys moment(long millis, int nanos) {
        out.u8(1).u64(millis).u32(nanos);
        return this;
    }

    /** The KEYS frame. */
    byte[] frame() {
        byte[] frame = out.toBytes();
        for (int i = 0; i < Integer.BYTES; i++) {
            frame[COUNT_AT + i] = (byte) (count >>> (Byte.SIZE * i));
        }
        return frame;
    }
}
