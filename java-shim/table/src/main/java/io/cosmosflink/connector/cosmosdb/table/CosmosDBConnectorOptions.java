package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.RowPlan;
import java.time.Duration;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.DescribedEnum;
import org.apache.flink.configuration.description.InlineElement;
import org.apache.flink.configuration.description.TextElement;

/**
 * The options of a table that decide what it is in Flink. All others are handed to the core, which knows their defaults: {@code docs/configuration.md}
 * has them.
 */
@PublicEvolving
public final class CosmosDBConnectorOptions {
    public static final ConfigOption<String> ENDPOINT = ConfigOptions.key("endpoint")
            .stringType()
            .noDefaultValue()
            .withDescription("Account endpoint, such as https://ACCOUNT.documents.azure.com:443/.");

    public static final ConfigOption<String> DATABASE =
            ConfigOptions.key("database").stringType().noDefaultValue().withDescription("Database of the container.");

    public static final ConfigOption<String> CONTAINER = ConfigOptions.key("container")
            .stringType()
            .noDefaultValue()
            .withDescription("The container that is the table.");

    public static final ConfigOption<ScanMode> SCAN_MODE = ConfigOptions.key("scan.mode")
            .enumType(ScanMode.class)
            .defaultValue(ScanMode.AUTO)
            .withDescription("What a scan of the table reads.");

    public static final ConfigOption<ChangeFeedMode> CHANGE_FEED_MODE = ConfigOptions.key("scan.change-feed.mode")
            .enumType(ChangeFeedMode.class)
            .defaultValue(ChangeFeedMode.LATEST_VERSION)
            .withDescription("Which changes the change feed has.");

    public static final ConfigOption<ScanChangelogMode> CHANGELOG_MODE = ConfigOptions.key("scan.changelog-mode")
            .enumType(ScanChangelogMode.class)
            .defaultValue(ScanChangelogMode.AUTO)
            .withDescription("What a change is to the job: a row of its own, or the new version of a row.");

    public static final ConfigOption<StartupMode> STARTUP_MODE = ConfigOptions.key("scan.startup.mode")
            .enumType(StartupMode.class)
            .noDefaultValue()
            .withDescription(
                    "Where a job without a savepoint begins to read the change feed. Unless set, it is earliest; with all versions"
                            + " and deletes it must be set, to initial or latest.");

    public static final ConfigOption<Long> STARTUP_TIMESTAMP = ConfigOptions.key("scan.startup.timestamp-millis")
            .longType()
            .noDefaultValue()
            .withDescription(
                    "Where scan.startup.mode timestamp begins: milliseconds since 1970. The feed counts whole seconds.");

    public static final ConfigOption<BoundedMode> BOUNDED_MODE = ConfigOptions.key("scan.bounded.mode")
            .enumType(BoundedMode.class)
            .defaultValue(BoundedMode.UNBOUNDED)
            .withDescription("Up to where the change feed is read.");

    public static final ConfigOption<Long> BOUNDED_TIMESTAMP = ConfigOptions.key("scan.bounded.timestamp-millis")
            .longType()
            .noDefaultValue()
            .withDescription(
                    "Where scan.bounded.mode timestamp ends: milliseconds since 1970. The feed counts whole seconds.");

    public static final ConfigOption<String> QUERY = ConfigOptions.key("scan.query")
            .stringType()
            .noDefaultValue()
            .withDescription("SQL of the service whose rows are the table, in place of all documents.");

    public static final ConfigOption<JsonErrorPolicy> JSON_ON_ERROR = ConfigOptions.key("json.on-error")
            .enumType(JsonErrorPolicy.class)
            .noDefaultValue()
            .withDescription(
                    "What becomes of a document that does not fit the table's columns. Unless set, the job fails.");

    public static final ConfigOption<Boolean> JSON_FAIL_ON_MISSING_FIELD = ConfigOptions.key(
                    "json.fail-on-missing-field")
            .booleanType()
            .defaultValue(false)
            .withDescription("Whether a document that lacks a column is one that does not fit, in place of a null.");

    public static final ConfigOption<TimestampFormat> JSON_TIMESTAMP_FORMAT = ConfigOptions.key(
                    "json.timestamp-format.standard")
            .enumType(TimestampFormat.class)
            .defaultValue(TimestampFormat.ISO_8601)
            .withDescription("How timestamps are written in documents, and read.");

    public static final ConfigOption<TimestampUnit> JSON_TIMESTAMP_UNIT = ConfigOptions.key(
                    "json.timestamp-number.unit")
            .enumType(TimestampUnit.class)
            .defaultValue(TimestampUnit.NONE)
            .withDescription(
                    "What a number in a column of timestamps counts since 1970. The field _ts of a document always counts seconds.");

    public static final ConfigOption<FilterHandlingPolicy> FILTER_HANDLING_POLICY = ConfigOptions.key(
                    "filter.handling.policy")
            .enumType(FilterHandlingPolicy.class)
            .defaultValue(FilterHandlingPolicy.ALWAYS)
            .withDescription("Whether the connector filters rows, and the service where it is asked by a query.");

    public static final ConfigOption<String> WRITE_STRATEGY = ConfigOptions.key("sink.write-strategy")
            .stringType()
            .noDefaultValue()
            .withDescription(
                    "What is done with a row that is inserted or updated; upsert unless set. docs/writing.md has them all.");

    public static final ConfigOption<String> SINK_ID = ConfigOptions.key("sink.id")
            .stringType()
            .noDefaultValue()
            .withDescription(
                    "How the id of a document is made where the table has no column for it, such as {customerId}-{orderId}.");

    public static final ConfigOption<DeleteMode> DELETE_MODE = ConfigOptions.key("sink.delete-mode")
            .enumType(DeleteMode.class)
            .defaultValue(DeleteMode.DELETE)
            .withDescription("What becomes of the document of a row that is deleted.");

    public static final ConfigOption<String> SOFT_DELETE_FIELD = ConfigOptions.key("sink.soft-delete.field")
            .stringType()
            .defaultValue("deleted")
            .withDescription("The field of a document that sink.delete-mode soft sets to true.");

    public static final ConfigOption<Duration> SOFT_DELETE_TTL = ConfigOptions.key("sink.soft-delete.ttl")
            .durationType()
            .noDefaultValue()
            .withDescription(
                    "How long a document lives on after a soft delete, where its container has time to live turned on;"
                            + " unless set, its time to live is left as it is.");

    public static final ConfigOption<Boolean> LOOKUP_ASYNC = ConfigOptions.key("lookup.async")
            .booleanType()
            .defaultValue(true)
            .withDescription(
                    "Whether a lookup join goes on with other rows while the documents of one are looked up. Keys that are asked for"
                            + " at the same time go in one request.");

    private CosmosDBConnectorOptions() {}

    /** What a scan reads. */
    @PublicEvolving
    public enum ScanMode implements DescribedEnum {
        AUTO("auto", "a query in batch jobs and where there is scan.query, else the change feed"),
        CHANGE_FEED("change-feed", "the change feed"),
        QUERY("query", "the documents as they are, by a query; it ends");

        private final String value;
        private final String description;

        ScanMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** Which changes the feed has. */
    @PublicEvolving
    public enum ChangeFeedMode implements DescribedEnum {
        LATEST_VERSION("latest-version", "the latest version of each document that changed; no deletes"),
        ALL_VERSIONS_AND_DELETES(
                "all-versions-and-deletes",
                "each version of each document and deletes; the account needs continuous backup");

        private final String value;
        private final String description;

        ChangeFeedMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** What a change is to the job. */
    @PublicEvolving
    public enum ScanChangelogMode implements DescribedEnum {
        AUTO("auto", "upsert where the table has a primary key, else append"),
        APPEND("append", "each change is a row that is inserted, a delete too"),
        UPSERT("upsert", "a change is the new version of the row with its primary key, or the end of that row");

        private final String value;
        private final String description;

        ScanChangelogMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** Where a job without a savepoint begins. */
    @PublicEvolving
    public enum StartupMode implements DescribedEnum {
        EARLIEST("earliest", "with the oldest change that the container still has"),
        LATEST("latest", "with what is written from now on"),
        INITIAL("initial", "with the container as it is, then every change of it, deletes too"),
        TIMESTAMP("timestamp", "at scan.startup.timestamp-millis"),
        TOKENS("tokens", "at the positions of scan.startup.tokens-file"),
        LEASES("leases", "where the change feed processor of scan.lease.container has stopped");

        private final String value;
        private final String description;

        StartupMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** Up to where the change feed is read. */
    @PublicEvolving
    public enum BoundedMode implements DescribedEnum {
        UNBOUNDED("unbounded", "without end"),
        LATEST("latest", "up to what was written when the job began"),
        TIMESTAMP("timestamp", "up to scan.bounded.timestamp-millis");

        private final String value;
        private final String description;

        BoundedMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** What becomes of a document that does not fit. */
    @PublicEvolving
    public enum JsonErrorPolicy implements DescribedEnum {
        FAIL("fail", "the job fails", RowPlan.OnError.FAIL),
        NULL_FIELD(
                "null-field",
                "a column that does not fit is null; a document that is no JSON fails the job",
                RowPlan.OnError.NULL_FIELD),
        SKIP_ROW("skip-row", "the document is left out, and counted", RowPlan.OnError.SKIP_ROW);

        private final String value;
        private final String description;
        final RowPlan.OnError plan;

        JsonErrorPolicy(String value, String description, RowPlan.OnError plan) {
            this.value = value;
            this.description = description;
            this.plan = plan;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** How timestamps are written. */
    @PublicEvolving
    public enum TimestampFormat implements DescribedEnum {
        ISO_8601("ISO-8601", "such as 2026-11-24T10:15:30.123", RowPlan.TimestampFormat.ISO_8601),
        SQL("SQL", "such as 2026-11-24 10:15:30.123", RowPlan.TimestampFormat.SQL);

        private final String value;
        private final String description;
        final RowPlan.TimestampFormat plan;

        TimestampFormat(String value, String description, RowPlan.TimestampFormat plan) {
            this.value = value;
            this.description = description;
            this.plan = plan;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** What a number in a column of timestamps counts. */
    @PublicEvolving
    public enum TimestampUnit implements DescribedEnum {
        NONE("none", "nothing: a number does not fit", RowPlan.TimestampUnit.NONE),
        SECONDS("seconds", "seconds", RowPlan.TimestampUnit.SECONDS),
        MILLISECONDS("milliseconds", "milliseconds", RowPlan.TimestampUnit.MILLISECONDS),
        MICROSECONDS("microseconds", "microseconds", RowPlan.TimestampUnit.MICROSECONDS),
        NANOSECONDS("nanoseconds", "nanoseconds", RowPlan.TimestampUnit.NANOSECONDS);

        private final String value;
        private final String description;
        final RowPlan.TimestampUnit plan;

        TimestampUnit(String value, String description, RowPlan.TimestampUnit plan) {
            this.value = value;
            this.description = description;
            this.plan = plan;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** What becomes of the document of a row that is deleted. */
    @PublicEvolving
    public enum DeleteMode implements DescribedEnum {
        DELETE("delete", "it is deleted"),
        IGNORE("ignore", "it stays as it is"),
        SOFT("soft", "the field sink.soft-delete.field of it is set to true");

        private final String value;
        private final String description;

        DeleteMode(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }

    /** Who filters rows. */
    @PublicEvolving
    public enum FilterHandlingPolicy implements DescribedEnum {
        ALWAYS("always", "the connector, where that is sure to give the same rows"),
        NEVER("never", "Flink alone");

        private final String value;
        private final String description;

        FilterHandlingPolicy(String value, String description) {
            this.value = value;
            this.description = description;
        }

        @Override
        public InlineElement getDescription() {
            return TextElement.text(description);
        }

        @Override
        public String toString() {
            return value;
        }
    }
}
