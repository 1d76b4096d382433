package io.cosmosflink.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * What was looked up: the ANSWERED frame of {@code docs/boundary.md}. Rows are {@code BinaryRowData} of Flink's, which point into the frame's array; it is
 * never used again.
 */
@Internal
public final class Answers {
    private static final int HEAD_BYTES = 24;
    private static final int ANSWER_BYTES = 24;
    private static final int ROW_BYTES = 8;
    private static final int ALIGNMENT = 8;

    private final byte[] bytes;
    private final ByteBuffer buffer;
    private final int count;
    private final int answers;
    private final int rows;
    private final int rowTable;

    /** @throws CosmosException of kind STATE when the frame is of another version or its tables do not fit */
    public Answers(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.ANSWERED);
        bytes = frame;
        buffer = ByteBuffer.wrap(frame).order(ByteOrder.LITTLE_ENDIAN);
        count = in.u32();
        answers = in.u32();
        rows = in.u32();
        rowTable = in.u32();
        boolean fits = frame.length >= HEAD_BYTES
                && (long) answers + (long) count * ANSWER_BYTES <= frame.length
                && (long) rowTable + (long) rows * ROW_BYTES <= frame.length;
        if (!fits) {
            throw FrameReader.state("the tables of " + count + " answers and " + rows + " rows leave a frame of "
                    + frame.length + " bytes");
        }
    }

    /** How many keys were answered. */
    public int count() {
        return count;
    }

    /** The number that a key was asked for with. */
    public long number(int answer) {
        return buffer.getLong(at(answer));
    }

    /** How many rows have the key; 0 also where it failed. */
    public int rows(int answer) {
        return buffer.getInt(at(answer) + 12);
    }

    /** Why there is no answer, or null. */
    public CosmosException failure(int answer) {
        int at = buffer.getInt(at(answer) + 16);
        if (at == 0) {
            return null;
        }
        FrameReader in = FrameReader.open(bytes, FrameKind.ANSWERED);
        in.skip(at - in.position());
        int kind = in.u8();
        in.u8();
        int status = in.u16();
        int subStatus = in.u32();
        String activityId = in.str();
        return new CosmosException(in.str(), kind, status, subStatus, activityId);
    }

    /** Whether a restart of the job does not help against the failure. */
    public boolean outlivesRestart(int answer) {
        int at = buffer.getInt(at(answer) + 16);
        return at != 0 && (bytes[at + 1] & 1) != 0;
    }

    /** The array that {@link #offset} counts in. Read only. */
    public byte[] bytes() {
        return bytes;
    }

    /** Where a row of an answer begins, counted from 0: a multiple of 8. */
    public int offset(int answer, int row) {
        return buffer.getInt(rowAt(answer, row));
    }

    /**
     * The size of a row in bytes, a multiple of 8.
     *
     * @throws CosmosException of kind STATE when it does not lie in the frame
     */
    public int length(int answer, int row) {
        int at = rowAt(answer, row);
        int offset = buffer.getInt(at);
        int length = buffer.getInt(at + 4);
        boolean within = offset >= HEAD_BYTES && length > 0 && (long) offset + length <= bytes.length;
        if (!within || offset % ALIGNMENT != 0 || length % ALIGNMENT != 0) {
            throw FrameReader.state("row " + row + " of an answer is " + length + " bytes at " + offset
                    + " in a frame of " + bytes.length);
        }
        return length;
    }

    private int at(int answer) {
        if (answer < 0 || answer >= count) {
            throw new IndexOutOfBoundsException("answer " + answer + " of " + count);
        }
        return answers + answer * ANSWER_BYTES;
    }

    private int rowAt(int answer, int row) {
        int number = buffer.getInt(at(answer) + 8) + row;
        if (row < 0 || row >= rows(answer) || number < 0 || number >= rows) {
            throw new IndexOutOfBoundsException("row " + row + " of an answer of " + rows(answer));
        }
        return rowTable + number * ROW_BYTES;
    }
}
