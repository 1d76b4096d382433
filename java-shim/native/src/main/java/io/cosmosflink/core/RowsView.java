package io.cosmosflink.core;

/**
 * The rows of a {@link Page} that was read by a {@link RowPlan}. Each is a {@code BinaryRowData} of Flink's, which points into itself only; the array
 * that they lie in is the page's own and never used again.
 */
@Internal
public final class RowsView {
    private static final int LENGTH = 4;
    private static final int TIMESTAMP = 8;
    private static final int ALIGNMENT = 8;

    private final Page page;

    RowsView(Page page) {
        this.page = page;
    }

    /** The array that {@link #offset} counts in. Read only. */
    public byte[] bytes() {
        return page.bytes();
    }

    public int count() {
        return page.count();
    }

    /** Where a row begins, counted from 0: a multiple of 8. */
    public int offset(int row) {
        return page.buffer().getInt(page.recordAt(row));
    }

    /**
     * The size of a row in bytes, a multiple of 8.
     *
     * @throws CosmosException of kind STATE when it does not lie in the page
     */
    public int length(int row) {
        int entry = page.recordAt(row);
        int offset = page.buffer().getInt(entry);
        int length = page.buffer().getInt(entry + LENGTH);
        boolean within = offset >= 0 && length > 0 && (long) offset + length <= page.length();
        if (!within || offset % ALIGNMENT != 0 || length % ALIGNMENT != 0) {
            throw FrameReader.state(
                    "row " + row + " is " + length + " bytes at " + offset + " in a page of " + page.length());
        }
        return length;
    }

    /** The service's {@code _ts} in epoch milliseconds; {@link Long#MIN_VALUE}, which is Flink's sign for none, where the document has none. */
    public long timestampMillis(int row) {
        return page.buffer().getLong(page.recordAt(row) + TIMESTAMP);
    }
}
