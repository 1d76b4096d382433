package io.cosmosflink.core;

import java.util.Map;

/** What becomes of a document that cannot be decoded: the option {@code source.on-decode-error}. */
@Internal
public enum DecodePolicy {
    /** Fails the job and names the document. */
    FAIL,
    /** Leaves it out and counts it. */
    SKIP,
    /** Hands it to the job as it is and counts it. */
    RAW;

    private static final String OPTION = "source.on-decode-error";

    /**
     * @param options validated
     * @throws CosmosException of kind CONFIG for another value
     */
    public static DecodePolicy of(Map<String, String> options) {
        String name = options.get(OPTION);
        for (DecodePolicy policy : values()) {
            if (policy.name().equalsIgnoreCase(name)) {
                return policy;
            }
        }
        throw new CosmosException(
                "option '" + OPTION + "' is '" + name + "'; this connector knows fail, skip and raw",
                CosmosException.Kind.CONFIG);
    }
}
