package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.StateVersions;
import java.io.IOException;
import org.apache.flink.annotation.Internal;
import org.apache.flink.util.FlinkRuntimeException;

/** Failures of the core in the words of Flink. */
@Internal
public final class Failures {
    private Failures() {}

    /** A failure to open something. */
    public static RuntimeException open(String what, Throwable failure, Finality finality) {
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

    /**
     * A failure of one of many requests. A refused key is one of the job's options, which the core does not know.
     *
     * @param outlivesRestart whether the core knows that a restart does not help
     * @param finality that of a job that has run
     */
    public static RuntimeException request(CosmosException failure, boolean outlivesRestart, Finality finality) {
        boolean refused = failure.kind() == CosmosException.Kind.AUTH && finality.isFinal(failure);
        return outlivesRestart || refused ? new CosmosDBUnrecoverableException(failure.getMessage(), failure) : failure;
    }

    /** What is the same after every restart, such as a Flink that the connector does not support. */
    public static RuntimeException unsupported(String message) {
        return new CosmosDBUnrecoverableException(message, null);
    }

    /** The core, where a task or the enumerator runs: one that does not fit this machine will not after a restart. */
    public static Core core(Core.Provider core) {
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
