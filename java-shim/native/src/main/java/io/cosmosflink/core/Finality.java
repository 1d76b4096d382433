package io.cosmosflink.core;

import java.io.IOException;
import java.util.Map;

/**
 * Whether a failure to open or to read something ends a job for good, because a restart does not help. A missing container or wrong
 * options do. A refused key does when it is in the job graph, since every attempt brings the same one; a key in a file may have been
 * rotated and an identity's role may still be on its way, so that they end a job at its very first start only, where a mistake is likely.
 *
 * @param firstStart whether the job was just submitted and has neither run nor tried to
 * @param keyInGraph whether the account key is among the options themselves
 */
@Internal
public record Finality(boolean firstStart, boolean keyInGraph) {
    private static final int UNAUTHORIZED = 401;

    /** @param options validated or not */
    public static Finality of(Map<String, String> options, boolean firstStart) {
        return new Finality(
                firstStart, !options.getOrDefault("auth.secret-key", "").isEmpty());
    }

    /** Whether a restart does not help. */
    public boolean isFinal(CosmosException failure) {
        return isFinal(failure.kind(), failure.status());
    }

    boolean isFinal(CosmosException.Kind kind, int status) {
        return switch (kind) {
            case CONFIG, NOT_FOUND, STATE -> true;
            // 403 may be a firewall that is about to be opened, whatever the key.
            case AUTH -> firstStart || (keyInGraph && status == UNAUTHORIZED);
            default -> false;
        };
    }

    /**
     * Whether a core that could not be loaded will not be loaded after a restart either: there is none for this platform, or it fits
     * neither the jar nor the machine. A folder that could not be written to may have been mended.
     */
    public static boolean isFinal(UnsatisfiedLinkError failure) {
        return !(failure.getCause() instanceof IOException);
    }
}
