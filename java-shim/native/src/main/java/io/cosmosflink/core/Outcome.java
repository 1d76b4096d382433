package io.cosmosflink.core;

/**
 * What became of one operation.
 *
 * @param token the submitter's
 * @param result what became of it
 * @param kind of the failure; {@code UNKNOWN} for {@code OK}
 * @param isFinal whether a restart of the job does not help, because the failure is that of everything and there again: the core's word
 * @param status the service's HTTP status for the failure, 0 for none
 * @param subStatus the service's sub-status, 0 for none
 * @param attempts requests that carried the failed operation; 0 for {@code OK}, where nobody asks
 * @param requestCharge in request units, of all attempts
 * @param activityId the service's name for the last request; empty for {@code OK}
 * @param message why it failed; empty for {@code OK}
 */
public record Outcome(
        long token,
        Result result,
        CosmosException.Kind kind,
        boolean isFinal,
        int status,
        int subStatus,
        int attempts,
        double requestCharge,
        String activityId,
        String message) {

    public static Outcome ok(long token, double requestCharge) {
        return new Outcome(token, Result.OK, CosmosException.Kind.UNKNOWN, false, 0, 0, 0, requestCharge, "", "");
    }

    public enum Result {
        OK,
        /** Failed and counted, the job goes on. */
        SKIPPED,
        /** Failed and stored in the dead-letter container. */
        DEAD_LETTERED,
        FAILED;

        private static final Result[] ALL = values();

        static Result of(int number) {
            if (number < 1 || number > ALL.length) {
                throw FrameReader.state("outcome result " + number + " is not known to this jar");
            }
            return ALL[number - 1];
        }
    }
}
