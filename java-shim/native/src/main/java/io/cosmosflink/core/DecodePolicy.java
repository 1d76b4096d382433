package io.cosmosflink.core;

import java.util.Map;

/** What becomes of a document that cannot be decoded: the option {@code json.on-error}. */
@Internal
public enum DecodePolicy {
    /** Fails the job and names the document: {@code fail}, and {@code null-field}, which is about the columns of a table. */
    FAIL,
    /** Leaves it out and counts it. */
    SKIP,
    /** Hands it to the job as it is and counts it. */
    RAW;

    private static final String OPTION = "json.on-error";

    /**
     * @param options validated
     * @throws CosmosException of kind CONFIG for another value
     */
    public static DecodePolicy of(Map<String, String> options) {
        String name = options.getOrDefault(OPTION, "");
        return switch (name) {
            case "fail", "null-field" -> FAIL;
            case "skip-row" -> SKIP;
            case "raw" -> RAW;
            default ->
                throw new CosmosException(
                        "option '" + OPTION + "' is '" + name
                                + "'; this connector knows fail, null-field, skip-row and raw",
                        CosmosException.Kind.CONFIG);
        };
    }
}
