package io.cosmosflink.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** What stands in a batch in place of an OPERATION BODY where the core makes the operation of a row, by the {@link DocumentPlan} of its writer. */
@Internal
public final class RowBody {
    static final int NUMBER = 128;
    /** In front of the row. */
    private static final int HEAD_BYTES = 5;

    private RowBody() {}

    /**
     * @param array has the bytes of a {@code BinaryRowData}; copied
     * @param offset where they begin
     * @param length how many they are
     */
    public static byte[] of(byte[] array, int offset, int length) {
        return ByteBuffer.allocate(Math.addExact(HEAD_BYTES, length))
                .order(ByteOrder.LITTLE_ENDIAN)
                .put((byte) NUMBER)
                .putInt(length)
                .put(array, offset, length)
                .array();
    }
}
