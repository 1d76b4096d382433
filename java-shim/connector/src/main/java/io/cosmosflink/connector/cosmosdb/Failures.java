package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CosmosException;
import java.util.Locale;
import org.apache.flink.util.FlinkRuntimeException;

/** Failures of the core in the words of Flink. */
final class Failures {
    private Failures() {}

    /**
     * A failure to open something. A missing container or wrong options stop the job for good, and so does a refused key when the
     * job has only begun: later it may be a key that was just rotated, and a restart reads the new one.
     */
    static RuntimeException open(String what, Throwable failure, boolean fresh) {
        String message = what + ": " + failure.getMessage();
        if (failure instanceof CosmosException e) {
            switch (e.kind()) {
                case CONFIG, NOT_FOUND, STATE -> {
                    return new CosmosDBUnrecoverableException(message, failure);
                }
                case AUTH -> {
                    if (fresh) {
                        return new CosmosDBUnrecoverableException(message, failure);
                    }
                }
                default -> {}
            }
        }
        return new FlinkRuntimeException(message, failure);
    }

    /** What to do about a failed write. */
    static String advice(CosmosException.Kind kind) {
        return switch (kind) {
            case AUTH -> "check the account key or the role of the identity";
            case NOT_FOUND -> "create the container, or for a replace or a delete the document";
            case THROTTLED -> "give the container more request units or raise cosmos.retry.deadline-ms";
            case TRANSIENT ->
                "the service could not be reached in time; raise cosmos.retry.deadline-ms if that is expected";
            case TOO_LARGE -> "the service takes documents of up to 2 MiB";
            case CONFLICT -> "the document exists already; use upsert, or sink.failure-mode skip";
            case PRECONDITION -> "the document was changed in between; read its new ETag";
            case BAD_REQUEST -> "check id, partition key and document against the container";
            default -> kind.name().toLowerCase(Locale.ROOT) + "; see the log";
        };
    }
}
