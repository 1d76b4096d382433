package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.StateVersions;
import java.io.IOException;
import org.apache.flink.util.FlinkRuntimeException;

/** Failures of the core in the words of Flink. */
final class Failures {
    private Failures() {}

    /** A failure to open something. */
    static RuntimeException open(String what, Throwable failure, Finality finality) {
        String message = what + ": " + failure.getMessage();
        return failure instanceof CosmosException e && finality.isFinal(e)
                ? new CosmosDBUnrecoverableException(message, failure)
                : new FlinkRuntimeException(message, failure);
    }

    /** A failure of something that was open. What a restart may mend is an {@link IOException}, as Flink's readers expect it. */
    static IOException running(String what, CosmosException failure, Finality finality) {
        if (finality.isFinal(failure)) {
            throw open(what, failure, finality);
        }
        return new IOException(what + ": " + failure.getMessage(), failure);
    }

    /** The core, where a task or the enumerator runs: one that does not fit this machine will not after a restart. */
    static Core core(Core.Provider core) {
        try {
            return core.get();
        } catch (UnsatisfiedLinkError e) {
            String message = "cannot load the native core: " + e.getMessage();
            throw Finality.isFinal(e)
                    ? new CosmosDBUnrecoverableException(message, e)
                    : new FlinkRuntimeException(message, e);
        }
    }

    /** Refuses state that a newer connector wrote. */
    static void checkVersion(String what, int found, int newest) throws IOException {
        try {
            StateVersions.check(what, found, newest);
        } catch (IOException e) {
            throw restore(e.getMessage(), e);
        }
    }

    /**
     * A failure to read state that a savepoint holds, which is the same after every restart. An {@link IOException}, as serializers
     * throw it, over the one that stops the job.
     */
    static IOException restore(String message, Throwable failure) {
        return new IOException(message, new CosmosDBUnrecoverableException(message, failure));
    }
}
