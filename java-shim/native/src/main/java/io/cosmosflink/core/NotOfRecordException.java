package io.cosmosflink.core;

/**
 * Says of a failure in a converter or a schema that it is not the record's: every other record would meet it too, such as when a registry
 * that is asked does not answer. It fails the job, whatever {@code sink.failure-mode} and {@code json.on-error} say.
 */
@PublicEvolving
public class NotOfRecordException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public NotOfRecordException(String message, Throwable cause) {
        super(message, cause);
    }
}
