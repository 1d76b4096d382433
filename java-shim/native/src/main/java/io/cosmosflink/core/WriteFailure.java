package io.cosmosflink.core;

/**
 * An operation that was not carried out.
 *
 * @param index its place in the submission, from 0
 * @param result how it was dealt with
 * @param kind what sort of failure it is
 * @param outlivesRestart whether the core knows that a restart of the job does not help, such as where the container is gone
 * @param status HTTP status of the service for the last attempt, 0 if it never answered
 * @param subStatus the service's sub-status, 0 for none
 * @param attempts how often it was tried
 * @param activityId the service's name for the last attempt; empty if there is none
 * @param message what is known of it
 * @param target what it was to be done to, of one that fails the job; {@link Target#NONE} of others
 */
@Internal
public record WriteFailure(
        int index,
        Result result,
        CosmosException.Kind kind,
        boolean outlivesRestart,
        int status,
        int subStatus,
        int attempts,
        String activityId,
        String message,
        Target target) {

    /**
     * An operation without its document.
     *
     * @param type what it does; null when that is not said
     * @param id of the document; empty when unknown
     * @param partitionKey JSON array of its components; empty when unknown
     */
    public record Target(OperationKind type, String id, String partitionKey) {
        /** It is not said, or the sink itself is the matter. */
        public static final Target NONE = new Target(null, "", "");

        /**
         * That of an operation.
         *
         * @param body its OPERATION BODY; the document may be left out, and all of it
         */
        public static Target of(byte[] body) {
            if (body.length == 0) {
                return NONE;
            }
            Operation operation = Operation.decode(body);
            return new Target(operation.type(), operation.id(), operation.partitionKey());
        }
    }

    /** A failure of which it is not said what it was to be done to. */
    public WriteFailure(
            int index,
            Result result,
            CosmosException.Kind kind,
            boolean outlivesRestart,
            int status,
            int subStatus,
            int attempts,
            String activityId,
            String message) {
        this(index, result, kind, outlivesRestart, status, subStatus, attempts, activityId, message, Target.NONE);
    }

    /** The same of this target. */
    public WriteFailure of(Target other) {
        return new WriteFailure(
                index, result, kind, outlivesRestart, status, subStatus, attempts, activityId, message, other);
    }

    /** How a failure was dealt with. */
    public enum Result {
        /** Counted; the job goes on. */
        SKIPPED(2),
        /** Stored in the dead-letter container; the job goes on. */
        DEAD_LETTERED(3),
        /** Fails the job. */
        FAILED(4);

        private static final Numbers<Result> NUMBERS = new Numbers<>(values(), result -> result.number);

        final int number;

        Result(int number) {
            this.number = number;
        }

        static Result of(int number) {
            return NUMBERS.require(number, "result of an operation");
        }
    }

    /**
     * The failure in words, for the job that it fails.
     *
     * @param container where the operation should have gone
     * @param refusal what the record failed with of which no write could be made; null for a write, and after a restore
     * @param remedy what to mend where no write could be made of a record, such as {@code its converter}
     */
    public CosmosException exception(String container, UnwritableRecordException refusal, String remedy) {
        if (target.type() == null) {
            return new CosmosException(
                    "container " + container + ": writing has failed: " + message, kind, status, subStatus, activityId);
        }
        String id = "id '" + RecordFailures.shortened(target.id()) + "'";
        String key = "partition key " + RecordFailures.shortened(target.partitionKey());
        String text = target.type() == OperationKind.REFUSED
                ? "no write could be made of the record with " + id + " and " + key + ": " + message + "; mend "
                        + remedy + ", or let the job go on with sink.failure-mode skip or dead-letter"
                : target.type() + (target.type() == OperationKind.BATCH ? "" : " of " + id) + " with " + key
                        + " failed after " + attempts + " attempts with status "
                        + status + "/" + subStatus + " (activity " + activityId + "): " + message + "; "
                        + kind.advice();
        CosmosException exception =
                new CosmosException("container " + container + ": " + text, kind, status, subStatus, activityId);
        if (refusal != null) {
            exception.initCause(refusal.ofJob());
        }
        return exception;
    }

    /**
     * Whether a restart does not help. A refused key is one of the job's options, which the core does not know.
     *
     * @param finality that of a job that has run
     */
    public boolean isFinal(Finality finality) {
        return outlivesRestart || (kind == CosmosException.Kind.AUTH && finality.isFinal(kind, status));
    }
}
