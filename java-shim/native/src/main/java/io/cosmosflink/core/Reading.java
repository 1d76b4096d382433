package io.cosmosflink.core;

import java.util.Map;

/** What the options of a source say about what it reads, also where there is no core. */
@Internal
public final class Reading {
    private Reading() {}

    /**
     * Whether the source ends by itself.
     *
     * @param options with or without their defaults
     */
    public static boolean isBounded(Map<String, String> options) {
        return !options.getOrDefault("source.stop", "never").equals("never")
                || options.containsKey("source.query")
                || options.containsKey("source.read-many")
                || options.containsKey("source.read-many-file");
    }
}
