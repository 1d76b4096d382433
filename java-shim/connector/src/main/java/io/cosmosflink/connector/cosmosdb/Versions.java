package io.cosmosflink.connector.cosmosdb;

import java.io.IOException;

final class Versions {
    private Versions() {}

    /** Refuses state that a newer connector wrote. */
    static void check(String what, int found, int newest) throws IOException {
        if (found < 1 || found > newest) {
            throw new IOException(
                    "the savepoint holds " + what + " in version " + found + "; this connector reads 1 to " + newest
                            + "; restore it with the connector that wrote it, or a newer one");
        }
    }
}
