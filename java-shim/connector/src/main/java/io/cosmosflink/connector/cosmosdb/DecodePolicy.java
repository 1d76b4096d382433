package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CosmosException;

/** What becomes of a document that cannot be decoded: the option {@code source.on-decode-error}. */
enum DecodePolicy {
    /** Fails the job and names the document. */
    FAIL,
    /** Leaves it out and counts it. */
    SKIP,
    /** Hands it to {@link CosmosDBDeserializationSchema#deserializeRaw} and counts it. */
    RAW;

    static DecodePolicy of(CosmosDBOptions options) {
        String name = options.require("source.on-decode-error");
        for (DecodePolicy policy : values()) {
            if (policy.name().equalsIgnoreCase(name)) {
                return policy;
            }
        }
        throw new CosmosException(
                "option 'source.on-decode-error' is '" + name + "'; this connector knows fail, skip and raw",
                CosmosException.Kind.CONFIG,
                0,
                0,
                "");
    }
}
