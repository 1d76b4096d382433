package io.cosmosflink.connector.cosmosdb.table;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.runtime.util.EnvironmentInformation;

/**
 * What of Flink is younger than the oldest version that the connector runs on, each by its row in docs/sql.md. Whether it is here is a matter of the
 * version alone: were the connector asked, a test of what it fails to find would be left out and not fail.
 */
enum SinceFlink {
    VARIANTS("2.1", "the type `VARIANT`"),
    KEY_ONLY_DELETES("2.1", "deletes that have their key alone"),
    STATELESS_COPIES("2.3", "copies with deletes and without a `ChangelogNormalize`"),
    SHUFFLED_LOOKUPS("2.0", "lookups that are shuffled as the source wants it"),
    DELTA_JOINS("2.1", "delta joins"),
    CONFLICTS("2.3", "`ON CONFLICT`, and that it is asked for");

    private static final Pattern VERSION = Pattern.compile("(\\d+)\\.(\\d+)\\b.*");

    final String version;
    final String what;

    SinceFlink(String version, String what) {
        this.version = version;
        this.what = what;
    }

    boolean isHere() {
        return number(EnvironmentInformation.getVersion()) >= number(version);
    }

    /** Ends the test as one that was left out, with the reason, where Flink does not have it. */
    void assumed() {
        assumeTrue(
                isHere(),
                () -> "Flink " + EnvironmentInformation.getVersion() + " lacks " + what + ", of " + version
                        + " and newer");
    }

    private static int number(String version) {
        Matcher parts = VERSION.matcher(version);
        if (!parts.matches()) {
            throw new IllegalStateException("'" + version + "' is no version of Flink");
        }
        return Integer.parseInt(parts.group(1)) * 1000 + Integer.parseInt(parts.group(2));
    }
}
