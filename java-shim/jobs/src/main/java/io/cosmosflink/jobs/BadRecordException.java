package io.cosmosflink.jobs;

/** Says why a record cannot be used. It goes to the dead-letter container and never fails the job. */
final class BadRecordException extends Exception {
    private static final long serialVersionUID = 1L;

    BadRecordException(String reason) {
        // Thrown for data, maybe often: without a stack trace it costs next to nothing.
        super(reason, null, false, false);
    }
}
