package io.cosmosflink.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/**
 * One page of the change feed of one split, of records or of rows, over a buffer that belongs to someone else: it is valid until that buffer is used
 * again. The position in it must be stored only when every record has been emitted. Not thread-safe.
 */
@Internal
public final class Page {
    private static final int RECORD_BYTES = 64;
    private static final int ROW_BYTES = 24;
    private static final int KIND_AT = 2;
    private static final int SPLIT_AT = 32;

    private final FrameKind kind;
    private final byte[] bytes;
    private final int length;
    private final ByteBuffer buffer;
    private final int count;
    private final int table;
    private final int flags;
    private final long arrivedMillis;
    private final long newestSeconds;
    private final String splitId;
    private final int splitAt;
    private final List<SplitEntry> children;

    /**
     * @param bytes the frame; only the first {@code length} bytes count
     * @throws CosmosException of kind STATE when the frame is of another version or its table does not fit
     */
    public Page(byte[] bytes, int length) {
        kind = kindOf(bytes, length);
        FrameReader in = FrameReader.open(bytes, length, kind);
        this.bytes = bytes;
        this.length = length;
        this.buffer = ByteBuffer.wrap(bytes, 0, length).order(ByteOrder.LITTLE_ENDIAN);
        this.count = in.u32();
        this.table = in.u32();
        this.flags = in.u32();
        this.arrivedMillis = in.u64();
        this.newestSeconds = in.u64();
        if (in.position() != SPLIT_AT) {
            throw FrameReader.state("the head of a page is " + in.position() + " bytes, not " + SPLIT_AT);
        }
        this.splitId = in.str();
        this.splitAt = in.position();
        in.skip(in.u32());
        this.children = children(in.blob());
        if (table + (long) count * entryBytes() > length) {
            throw FrameReader.state(
                    "the table of " + count + " records at " + table + " leaves a page of " + length + " bytes");
        }
    }

    private static FrameKind kindOf(byte[] bytes, int length) {
        boolean rows = length > KIND_AT && bytes[KIND_AT] == FrameKind.ROWS.number;
        return rows ? FrameKind.ROWS : FrameKind.PAGE;
    }

    private int entryBytes() {
        return kind == FrameKind.ROWS ? ROW_BYTES : RECORD_BYTES;
    }

    /** Records in the page; 0 means that only the position moved. */
    public int count() {
        return count;
    }

    /** Size of the frame in bytes. */
    public int length() {
        return length;
    }

    /** Whether the feed had nothing more when the page was read. */
    public boolean caughtUp() {
        return (flags & 1) != 0;
    }

    /** Whether the split ends with this page. Then {@link #children} go on in its place; without them it is done. */
    public boolean finished() {
        return (flags & 2) != 0;
    }

    /** The splits that go on in place of one that ends with this page; they cover its feed range. */
    public List<SplitEntry> children() {
        return children;
    }

    private static List<SplitEntry> children(byte[] frame) {
        return frame.length == 0 ? List.of() : List.copyOf(Frames.splits(frame));
    }

    /** Epoch millis at which the page arrived. */
    public long arrivedMillis() {
        return arrivedMillis;
    }

    /** Newest {@code _ts} in the page in epoch seconds, 0 for none. */
    public long newestSeconds() {
        return newestSeconds;
    }

    public String splitId() {
        return splitId;
    }

    /** A copy of the split's bytes after this page. */
    public byte[] split() {
        FrameReader in = FrameReader.open(bytes, length, kind);
        in.skip(splitAt - in.position());
        return in.blob();
    }

    /** A view that {@link RecordView#at} moves from record to record. */
    public RecordView records() {
        require(FrameKind.PAGE);
        return new RecordView(this);
    }

    /** The rows of a page that was read by a plan. */
    public RowsView rows() {
        require(FrameKind.ROWS);
        return new RowsView(this);
    }

    private void require(FrameKind wanted) {
        if (kind != wanted) {
            throw new IllegalStateException("the page is a frame of " + kind + ", not of " + wanted);
        }
    }

    byte[] bytes() {
        return bytes;
    }

    ByteBuffer buffer() {
        return buffer;
    }

    int recordAt(int index) {
        if (index < 0 || index >= count) {
            throw new IndexOutOfBoundsException("record " + index + " of a page of " + count);
        }
        return table + index * entryBytes();
    }
}
