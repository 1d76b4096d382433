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
        return !options.getOrDefault("scan.bounded.mode", "unbounded").equals("unbounded")
                || options.containsKey("scan.query")
                || options.containsKey("scan.read-many")
                || options.containsKey("scan.read-many-file");
    }
}
