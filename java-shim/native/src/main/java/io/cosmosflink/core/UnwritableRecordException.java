package io.cosmosflink.core;

import java.util.Arrays;
import java.util.concurrent.Callable;

/**
 * No write can be made of a record: its converter threw, or what it made is too large. Holds what is known of the record, so that the
 * way of {@code sink.failure-mode} can name it. A converter of one's own may throw it too; for anything else that it throws id, key and
 * document are unknown.
 */
@PublicEvolving
public final class UnwritableRecordException extends IllegalArgumentException {
    private static final long serialVersionUID = 1L;

    /** A dead letter holds less than 1 MiB of a document; of one that is far larger the beginning is enough. */
    private static final int MAX_KEPT = 16 << 20;

    private static final byte[] NOTHING = {};

    private final String id;
    private final String partitionKey;
    /** Stays on its machine: a failure that is larger than a message of the cluster would never reach the JobManager. */
    private final transient byte[] document;

    /**
     * @param reason why there is no write
     * @param cause may be null
     * @param id of the document; empty when unknown
     * @param partitionKey JSON array of its components; empty when unknown
     * @param document as far as known; empty when unknown
     */
    public UnwritableRecordException(String reason, Throwable cause, String id, String partitionKey, byte[] document) {
        super(RecordFailures.shortened(reason), cause);
        this.id = id == null ? "" : id;
        this.partitionKey = partitionKey == null ? "" : partitionKey;
        this.document = document == null ? NOTHING : document;
    }

    /** Of a failure that says nothing about the record, or the failure itself when it does. */
    public static UnwritableRecordException of(Throwable failure) {
        return failure instanceof UnwritableRecordException e
                ? e
                : new UnwritableRecordException(reason(failure), failure, "", "", NOTHING);
    }

    /** Of a failure of one part of a record; what the other parts give is kept, and what they throw is not of interest. */
    public static UnwritableRecordException of(
            Throwable failure, Callable<String> id, Callable<String> partitionKey, Callable<byte[]> document) {
        return failure instanceof UnwritableRecordException e
                ? e
                : new UnwritableRecordException(
                        reason(failure), failure, orNull(id), orNull(partitionKey), orNull(document));
    }

    /**
     * Of a write that is larger than allowed.
     *
     * @param body an OPERATION BODY
     * @param bytes size of its document, or of its batch as a whole
     * @param limit largest size
     */
    public static UnwritableRecordException tooLarge(byte[] body, long bytes, long limit) {
        Operation operation = Operation.decode(body);
        String what = operation.type() == OperationKind.BATCH
                ? "the batch, all of its operations together,"
                : operation.type().isPatch() ? "the patch" : "the document";
        return new UnwritableRecordException(
                what + " is too large: it has " + bytes + " bytes, and sink.max-record-size is " + limit,
                null,
                operation.id(),
                operation.partitionKey(),
                operation.document());
    }

    /** The OPERATION BODY of {@code docs/boundary.md} that stands for the record. */
    public byte[] encode() {
        byte[] kept = document.length > MAX_KEPT ? Arrays.copyOf(document, MAX_KEPT) : document;
        return new FrameWriter(64 + kept.length)
                .u8(OperationKind.REFUSED.number)
                .str(id)
                .str(partitionKey)
                .str(getMessage())
                .blob(kept)
                .toBytes();
    }

    public String id() {
        return id;
    }

    /** JSON array of the components; empty when unknown. */
    public String partitionKey() {
        return partitionKey;
    }

    /** Not a copy. Empty when unknown, and after the exception was sent to another process. */
    public byte[] document() {
        return document == null ? NOTHING : document;
    }

    /** This for a failure of the job: without its document, and with what it says cut to a size that the cluster can send. */
    public UnwritableRecordException ofJob() {
        UnwritableRecordException small = new UnwritableRecordException(
                getMessage(),
                RecordFailures.small(getCause()),
                RecordFailures.shortened(id),
                RecordFailures.shortened(partitionKey),
                NOTHING);
        small.setStackTrace(getStackTrace());
        return small;
    }

    private static String reason(Throwable failure) {
        String name = failure.getClass().getName();
        return failure.getMessage() == null ? name : name + ": " + failure.getMessage();
    }

    private static <T> T orNull(Callable<T> part) {
        try {
            return part.call();
        } catch (Exception | StackOverflowError e) {
            return null;
        }
    }
}
