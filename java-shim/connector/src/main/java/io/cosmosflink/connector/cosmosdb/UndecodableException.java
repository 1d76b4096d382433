package io.cosmosflink.connector.cosmosdb;

import java.io.IOException;
import org.apache.flink.annotation.PublicEvolving;

/** The core could not decode a document; no schema has seen it. */
@PublicEvolving
public final class UndecodableException extends IOException {
    private static final long serialVersionUID = 1L;

    UndecodableException(String message) {
        super(message);
    }
}
