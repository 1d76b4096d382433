package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.CatalogRequest;
import java.time.Duration;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.DescribedEnum;
import org.apache.flink.configuration.description.InlineElement;
import org.apache.flink.configuration.description.TextElement;

/** The options of a catalog besides those of its account, which are those of a table, and what {@code CREATE TABLE} in it says of the container. */
@PublicEvolving
public final class CosmosDBCatalogOptions {
    public static final ConfigOption<String> DEFAULT_DATABASE = ConfigOptions.key("default-database")
            .stringType()
            .noDefaultValue()
            .withDescription("The database that is used while none is named.");

    public static final ConfigOption<Integer> SAMPLE_SIZE = ConfigOptions.key("infer.sample-size")
            .intType()
            .defaultValue(1000)
            .withDescription(
                    "How many documents of a container are looked at for its columns, the newest of each physical partition.");

    public static final ConfigOption<InferredNumbers> NUMBERS = ConfigOptions.key("infer.numbers")
            .enumType(InferredNumbers.class)
            .defaultValue(InferredNumbers.AUTO)
            .withDescription("What numbers become.");

    public static final ConfigOption<InferredConflict> CONFLICT = ConfigOptions.key("infer.conflict")
            .enumType(InferredConflict.class)
            .defaultValue(InferredConflict.AUTO)
            .withDescription("What values of several types become, and those of which no type is seen.");

    public static final ConfigOption<Boolean> TIMESTAMPS = ConfigOptions.key("infer.timestamps")
            .booleanType()
            .defaultValue(false)
            .withDescription("Whether texts become timestamps where all of them are such, in ISO 8601.");

    public static final ConfigOption<Duration> CACHE_TTL = ConfigOptions.key("infer.cache-ttl")
            .durationType()
            .defaultValue(Duration.ofSeconds(10))
            .withDescription(
                    "How long columns count as known: a statement asks for them several times. 0 s asks each time.");

    public static final ConfigOption<String> PARTITION_KEY_PATHS = ConfigOptions.key("partition-key.paths")
            .stringType()
            .noDefaultValue()
            .withDescription(
                    "Paths of the partition key of a container that is created, such as /tenant,/user. Unless set, it is the primary key"
                            + " without the id, or the id where that is all.");

    public static final ConfigOption<Integer> THROUGHPUT = ConfigOptions.key("throughput")
            .intType()
            .noDefaultValue()
            .withDescription("Request units per second of what is created.");

    public static final ConfigOption<Integer> AUTOSCALE_THROUGHPUT = ConfigOptions.key("throughput.autoscale-max")
            .intType()
            .noDefaultValue()
            .withDescription("Most request units per second of what is created, scaled by the service.");

    public static final ConfigOption<String> DEFAULT_TTL = ConfigOptions.key("default-ttl")
            .stringType()
            .defaultValue("off")
            .withDescription(
                    "After how long the documents of a container that is created expire: a duration, on for those alone that say so"
                            + " themselves, or off.");

    private CosmosDBCatalogOptions() {}

    /** What numbers become. */
    @PublicEvolving
    public enum InferredNumbers implements DescribedEnum {
        AUTO(
                "auto",
                "BIGINT where all are whole, DECIMAL(38, 0) where that is too small, else DOUBLE",
                CatalogRequest.Numbers.AUTO),
        DOUBLE("double", "DOUBLE", CatalogRequest.Numbers.DOUBLE),
        DECIMAL(
                "decimal",
                "BIGINT where all are whole, else a DECIMAL that has all digits",
                CatalogRequest.Numbers.DECIMAL);

        private final String value;
        private final String description;
        final CatalogRequest.Numbers core;

        InferredNumbers(String value, String description, CatalogRequest.Numbers core) {
            this.value = value;
            this.description = description;
            this.core = core;
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

    /** What values of several types become. */
    @PublicEvolving
    public enum InferredConflict implements DescribedEnum {
        AUTO("auto", "VARIANT where Flink has it (2.1 and newer), else STRING"),
        VARIANT("variant", "VARIANT"),
        STRING("string", "STRING: a text, or the JSON of anything else");

        private final String value;
        private final String description;

        InferredConflict(String value, String description) {
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
