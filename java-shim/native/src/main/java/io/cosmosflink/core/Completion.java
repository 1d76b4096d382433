package io.cosmosflink.core;

import java.util.List;
import java.util.Optional;

/**
 * The end of a submission: all its operations have ended, or one has failed in a way that fails the job.
 *
 * @param submission the number that it was submitted under
 * @param requestCharge request units of its operations, all attempts counted
 * @param failures its operations that were not carried out, in the order in which they ended
 */
@Internal
public record Completion(long submission, double requestCharge, List<WriteFailure> failures) {
    /** The failure that fails the job; empty when it goes on. */
    public Optional<WriteFailure> fatal() {
        return failures.stream()
                .filter(f -> f.result() == WriteFailure.Result.FAILED)
                .findFirst();
    }
}
