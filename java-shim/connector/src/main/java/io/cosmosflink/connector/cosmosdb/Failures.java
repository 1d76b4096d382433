package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CosmosException;
import org.apache.flink.util.FlinkRuntimeException;

/** Failures of the core in the words of Flink. */
final class Failures {
    private Failures() {}

    /**
     * A failure to open something.
     *
     * @param fresh whether the job has only begun
     */
    static RuntimeException open(String what, Throwable failure, boolean fresh) {
        String message = what + ": " + failure.getMessage();
        return failure instanceof CosmosException e && e.kind().isFinal(fresh)
                ? new CosmosDBUnrecoverableException(message, failure)
                : new FlinkRuntimeException(message, failure);
    }
}
