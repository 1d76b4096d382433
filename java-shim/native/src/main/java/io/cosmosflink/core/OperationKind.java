package io.cosmosflink.core;

/**
 * What a sink does with a document, and what counts as done where the service finds it otherwise than expected. {@code docs/writing.md} says of each
 * what a replay after a restore does.
 */
@PublicEvolving
public enum OperationKind {
    /** Writes the document, whether or not it is there. */
    UPSERT(1),
    /** Fails when another document is there; the same one counts as written. */
    CREATE(2),
    /** Fails when there is no document. */
    REPLACE(3),
    DELETE(4),
    /** Writes the document unless one is there. */
    CREATE_IGNORE_EXISTING(5),
    /** Writes the document if one is there. */
    REPLACE_IF_EXISTS(6),
    /** Writes the document unless the stored one was changed since its ETag or is gone; without an ETag, unless one is there. */
    OVERWRITE_IF_NOT_MODIFIED(7),
    /** Takes the document out unless it was changed since its ETag. */
    DELETE_IF_NOT_MODIFIED(8),
    /** Changes parts of a document, as a {@link Patch} says; fails when there is none. A condition that does not hold leaves it as it is. */
    PATCH(9),
    /** The same, but leaves it when there is none. */
    PATCH_IF_EXISTS(10),
    /** Writes the document's fields over those of the stored one, or creates it. */
    BULK_UPDATE(11),
    /** What the option {@code sink.write-strategy} says. With {@code patch} the document's fields are set. */
    DEFAULT(12),
    /** Carries out the operations of a {@link Batch} on documents of one partition key, all of them or none. */
    BATCH(13),
    /**
     * No write could be made of the record. It is never sent: the core settles it at once, as {@code sink.failure-mode} asks. Made by
     * {@link UnwritableRecordException} alone.
     */
    REFUSED(0);

    private static final Numbers<OperationKind> NUMBERS = new Numbers<>(values(), kind -> kind.number);

    final int number;

    OperationKind(int number) {
        this.number = number;
    }

    static OperationKind of(int number) {
        return NUMBERS.require(number, "operation");
    }

    /** Whether an operation of this kind carries a patch in place of a document. */
    public boolean isPatch() {
        return this == PATCH || this == PATCH_IF_EXISTS;
    }

    /** Whether an operation of this kind carries no document. */
    public boolean isDelete() {
        return this == DELETE || this == DELETE_IF_NOT_MODIFIED;
    }
}
