package io.cosmosflink.core;

import java.io.IOException;

/** The one check of the versions that a savepoint holds. */
@Internal
public final class StateVersions {
    private StateVersions() {}

    /**
     * Refuses state that a newer connector wrote.
     *
     * @param what the state, in the plural or with an article
     * @throws IOException when {@code found} is not between 1 and {@code newest}
     */
    public static void check(String what, int found, int newest) throws IOException {
        if (found < 1 || found > newest) {
            throw new IOException(
                    "the savepoint holds " + what + " in version " + found + "; this connector reads 1 to " + newest
                            + "; restore it with the connector that wrote it, or a newer one");
        }
    }
}
