package io.cosmosflink.core;

import java.util.List;

/**
 * How rows become documents: the DOCUMENT_PLAN frame of {@code docs/boundary.md}. Which columns the rows have, of which types they are, and where their
 * values are in the documents. The core checks it when a writer opens.
 */
@Internal
public final class DocumentPlan {
    /** What is done with a row that is deleted. */
    public enum Deletion {
        /** There are none. */
        NONE(0),
        /** Its document is taken out. */
        DELETE(4),
        /** Its document is written over the stored one. */
        UPDATE(11);

        final int number;

        Deletion(int number) {
            this.number = number;
        }
    }

    private static final int PATH = 0;
    private static final int ETAG = 1;
    private static final int TIME_TO_LIVE = 2;
    private static final int WRITTEN = 1;
    private static final int DELETED = 2;

    private final FrameWriter head = FrameWriter.frame(FrameKind.DOCUMENT_PLAN);
    private final FrameWriter columns = new FrameWriter(256);
    private final FrameWriter constants = new FrameWriter(32);
    private int columnCount;
    private int constantCount;

    public DocumentPlan(RowPlan.TimestampFormat format, Deletion deletion) {
        head.u8(format.number).u8(deletion.number);
    }

    /**
     * The next column of the rows, which is a field of documents.
     *
     * @param name for messages
     * @param path names of fields from the outside in; empty for the whole document
     * @param written whether it is in the documents of rows that are written
     * @param deleted whether it is in those of rows that are deleted
     */
    public DocumentPlan path(String name, List<String> path, boolean written, boolean deleted, RowPlan.Type type) {
        int documents = (written ? WRITTEN : 0) | (deleted ? DELETED : 0);
        columns.str(name).u8(PATH).u8(documents).u32(path.size());
        path.forEach(columns::str);
        return column(type);
    }

    /** The next column of the rows, a string: the ETag that the stored document must have; null for any. */
    public DocumentPlan etag(String name) {
        columns.str(name).u8(ETAG);
        return column(RowPlan.Type.string(true));
    }

    /** The next column of the rows, an integer: the seconds to live of a document that is written; null leaves them to the container. */
    public DocumentPlan timeToLive(String name) {
        columns.str(name).u8(TIME_TO_LIVE);
        return column(RowPlan.Type.integer(true));
    }

    /** A field at the top of all documents of deleted rows. */
    public DocumentPlan constant(String name, String json) {
        constants.str(name).str(json);
        constantCount++;
        return this;
    }

    private DocumentPlan column(RowPlan.Type type) {
        columns.raw(type.bytes());
        columnCount++;
        return this;
    }

    /** The DOCUMENT_PLAN frame. */
    public byte[] frame() {
        return new FrameWriter(head.length() + columns.length() + constants.length() + 8)
                .raw(head.toBytes())
                .u32(columnCount)
                .raw(columns.toBytes())
                .u32(constantCount)
                .raw(constants.toBytes())
                .toBytes();
    }
}
