package io.cosmosflink.connector.cosmosdb;

import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.runtime.throwable.ThrowableAnnotation;
import org.apache.flink.runtime.throwable.ThrowableType;

/** A failure that a restart does not mend: wrong options, a missing container, a refused key at the start of a job. */
@PublicEvolving
@ThrowableAnnotation(ThrowableType.NonRecoverableError)
public final class CosmosDBUnrecoverableException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    CosmosDBUnrecoverableException(String message, Throwable cause) {
        super(message, cause);
    }
}
