package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.ChangeFeedMode;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.ScanChangelogMode;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.ScanMode;
import io.cosmosflink.core.RowPlan;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.types.RowKind;

/** What a scan of a table reads, and what of it the job sees. */
enum Scan {
    /** The documents as they are: each is inserted. */
    QUERY(RowPlan.Changelog.APPEND),
    /** Each latest version is inserted. */
    VERSIONS(RowPlan.Changelog.APPEND),
    /** Each change is inserted, deletes too. */
    LOG(RowPlan.Changelog.LOG),
    /** Each latest version is the row with its key. */
    UPSERTS(RowPlan.Changelog.UPSERT),
    /** Each version is the row with its key, and deletes end it, of which the key alone is known. */
    UPSERTS_AND_DELETES(RowPlan.Changelog.UPSERT);

    final RowPlan.Changelog rows;

    Scan(RowPlan.Changelog rows) {
        this.rows = rows;
    }

    /**
     * @param batch whether the job is a batch job
     * @param keyed whether the table has a primary key
     * @throws ValidationException when the options contradict each other, or want a key that is not there
     */
    static Scan of(ReadableConfig table, boolean batch, boolean keyed) {
        ScanMode mode = table.get(CosmosDBConnectorOptions.SCAN_MODE);
        ScanChangelogMode changelog = table.get(CosmosDBConnectorOptions.CHANGELOG_MODE);
        boolean asked = table.getOptional(CosmosDBConnectorOptions.QUERY).isPresent();
        if (mode == ScanMode.CHANGE_FEED && asked) {
            throw contradiction("'scan.mode' is 'change-feed', and there is 'scan.query'", "leave one out");
        }
        if (mode == ScanMode.QUERY || mode == ScanMode.AUTO && (batch || asked)) {
            if (changelog == ScanChangelogMode.UPSERT) {
                throw contradiction(
                        "'scan.changelog-mode' is 'upsert', and the table is read by a query, whose rows do not change",
                        "leave it out, or set 'scan.mode' to 'change-feed'");
            }
            return QUERY;
        }
        if (changelog == ScanChangelogMode.UPSERT && !keyed) {
            throw contradiction(
                    "'scan.changelog-mode' is 'upsert', and the table has no primary key",
                    "declare one, of the id and all columns of the partition key: PRIMARY KEY (..) NOT ENFORCED");
        }
        boolean deletes =
                table.get(CosmosDBConnectorOptions.CHANGE_FEED_MODE) == ChangeFeedMode.ALL_VERSIONS_AND_DELETES;
        if (changelog == ScanChangelogMode.APPEND) {
            return deletes ? LOG : VERSIONS;
        }
        if (keyed) {
            return deletes ? UPSERTS_AND_DELETES : UPSERTS;
        }
        if (deletes) {
            throw contradiction(
                    "'scan.change-feed.mode' is 'all-versions-and-deletes', and the table has no primary key by which a delete could"
                            + " find its row",
                    "declare one, of the id and all columns of the partition key, or set 'scan.changelog-mode' to 'append', where a"
                            + " delete is a row like others, which the metadata column 'operation' tells apart");
        }
        return VERSIONS;
    }

    private static ValidationException contradiction(String what, String hint) {
        return new ValidationException(what + "; " + hint);
    }

    /** Whether one document may be several rows, with nothing that says so. */
    boolean isOfVersions() {
        return this == VERSIONS || this == LOG;
    }

    /** What Flink is told of the rows. */
    ChangelogMode changelogMode() {
        return switch (this) {
            case QUERY, VERSIONS, LOG -> ChangelogMode.insertOnly();
            case UPSERTS ->
                ChangelogMode.newBuilder()
                        .addContainedKind(RowKind.INSERT)
                        .addContainedKind(RowKind.UPDATE_AFTER)
                        .build();
            // Since 2.1 it says of the deletes that they have the key alone; before, a normalisation makes them whole.
            case UPSERTS_AND_DELETES -> ChangelogMode.upsert();
        };
    }
}
