package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * One record of a {@link Page}, moved along by {@link #at}. What it returns is copied out; the view itself, and
 * {@link #buffer()}, must not be kept.
 */
@PublicEvolving
public final class RecordView {
    /** What happened to the document. */
    public enum Change {
        /** Created or replaced; the latest-version feed cannot tell which. */
        UPSERT(0),
        CREATE(1),
        REPLACE(2),
        DELETE(3);

        private static final Numbers<Change> NUMBERS = new Numbers<>(values(), change -> change.number);

        final int number;

        Change(int number) {
            this.number = number;
        }
    }

    private static final int DOC = 0;
    private static final int ID = 8;
    private static final int KEY = 16;
    private static final int TS = 24;
    private static final int LSN = 32;
    private static final int CRTS = 40;
    private static final int OPERATION = 48;
    private static final int FLAGS = 49;
    private static final int PREVIOUS = 56;
    private static final int UNDECODABLE = 1;
    private static final int EXPIRED = 2;

    private final Page page;
    /** Where the record has its document: there, or where it has the one before. */
    private final int document;

    private RecordView previous;
    private int index;
    private int at;

    RecordView(Page page) {
        this(page, DOC);
    }

    private RecordView(Page page, int document) {
        this.page = page;
        this.document = document;
    }

    /** Moves to a record, counted from 0. */
    public RecordView at(int index) {
        at = page.recordAt(index);
        this.index = index;
        return this;
    }

    /**
     * Which document cannot be read, for a message.
     *
     * @param split the split that its page is of, such as {@code split 3 (all of the container)}
     */
    public String unreadable(String split) {
        return "cannot read the document with id '" + id() + "' and partition key " + partitionKey() + " in " + split
                + " (id " + page.splitId() + "), record " + (index + 1) + " of " + page.count()
                + " of its page, log sequence number " + lsn();
    }

    /** The document, byte for byte as the service sent it; empty for a {@link Change#DELETE}. A copy. */
    public byte[] document() {
        int from = documentOffset();
        return Arrays.copyOfRange(page.bytes(), from, from + documentLength());
    }

    /** The array that {@link #documentOffset} counts in. Read only, and only until the next record. */
    public byte[] buffer() {
        return page.bytes();
    }

    public int documentOffset() {
        return offset(document);
    }

    public int documentLength() {
        return length(document);
    }

    /** The document as text. */
    public String text() {
        return string(document);
    }

    /**
     * The record as it was before the change: {@link #document} is the document before, {@link #change} {@link Change#UPSERT}; what else
     * it says is of the change. Valid until this one moves on.
     *
     * @return null where the service does not say, as it does for no {@link Change#CREATE}; today it does for no change
     */
    public RecordView previous() {
        if (document == PREVIOUS || length(PREVIOUS) == 0) {
            return null;
        }
        if (previous == null) {
            previous = new RecordView(page, PREVIOUS);
        }
        return previous.at(index);
    }

    public String id() {
        return string(ID);
    }

    /** JSON array of the partition key's components. */
    public String partitionKey() {
        return string(KEY);
    }

    /**
     * The service's {@code _ts}, of a {@link Change#DELETE} the time of the deletion: epoch seconds; 0 for a row of a query that does not
     * select it.
     */
    public long timestampSeconds() {
        return page.buffer().getLong(at + TS);
    }

    /** Log sequence number, -1 if the service did not give it. */
    public long lsn() {
        return page.buffer().getLong(at + LSN);
    }

    /** Time of the change in epoch seconds, -1 if the service did not give it. */
    public long changedSeconds() {
        return page.buffer().getLong(at + CRTS);
    }

    public Change change() {
        if (document == PREVIOUS) {
            return Change.UPSERT;
        }
        return Change.NUMBERS.require(page.buffer().get(at + OPERATION), "change");
    }

    /** Whether it is a {@link Change#DELETE} because the document's time to live ended. */
    public boolean expired() {
        return document != PREVIOUS && (page.buffer().get(at + FLAGS) & EXPIRED) != 0;
    }

    /**
     * Whether the core could not decode the document's id or key: it is no JSON or no UTF-8. Then {@link #id()} and
     * {@link #partitionKey()} hold what could be read, or nothing; {@link #document()} is what the service sent all the same.
     */
    public boolean undecodable() {
        return document != PREVIOUS && (page.buffer().get(at + FLAGS) & UNDECODABLE) != 0;
    }

    private String string(int field) {
        return new String(page.bytes(), offset(field), length(field), StandardCharsets.UTF_8);
    }

    private int offset(int field) {
        return page.buffer().getInt(at + field);
    }

    /** Checked against the frame, because what is behind its end in a reused buffer is another page. */
    private int length(int field) {
        int from = offset(field);
        int length = page.buffer().getInt(at + field + 4);
        if (from < 0 || length < 0 || (long) from + length > page.length()) {
            throw FrameReader.state(
                    "a record points at " + length + " bytes at " + from + " in a page of " + page.length());
        }
        return length;
    }
}
