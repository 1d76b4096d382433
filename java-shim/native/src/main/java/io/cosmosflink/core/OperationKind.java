package io.cosmosflink.core;

/** What a sink does with a document. */
@PublicEvolving
public enum OperationKind {
    UPSERT(1),
    /** Fails when the document exists. */
    CREATE(2),
    /** Fails when it does not exist. */
    REPLACE(3),
    DELETE(4),
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
}
