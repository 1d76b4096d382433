package io.cosmosflink.core;

/** What a sink does with a document. */
public enum OperationType {
    UPSERT(1),
    /** Fails when the document exists. */
    CREATE(2),
    /** Fails when it does not exist. */
    REPLACE(3),
    DELETE(4);

    private static final OperationType[] ALL = values();

    final int number;

    OperationType(int number) {
        this.number = number;
    }

    static OperationType of(int number) {
        if (number < 1 || number > ALL.length) {
            throw FrameReader.state("operation " + number + " is not known to this jar");
        }
        return ALL[number - 1];
    }
}
