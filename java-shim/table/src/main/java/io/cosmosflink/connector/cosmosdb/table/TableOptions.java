package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.ScanMode;
import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.source.lookup.LookupOptions;

/** The options of a table that are the core's own. The core knows their defaults and bounds. */
final class TableOptions {
    private static final List<ConfigOption<?>> CONNECTION = List.of(
            CosmosDBConnectorOptions.ENDPOINT,
            CosmosDBConnectorOptions.DATABASE,
            CosmosDBConnectorOptions.CONTAINER,
            text("auth.type"),
            // Flink shows stars for a key that contains "secret".
            text("auth.secret-key"),
            text("auth.key-file"),
            text("auth.tenant-id"),
            text("auth.client-id"),
            text("auth.client-secret"),
            text("auth.client-secret-file"),
            text("auth.token-file"),
            text("auth.audience"),
            text("auth.authority-host"),
            text("preferred-regions"),
            text("excluded-regions"),
            text("consistency"),
            duration("request-timeout"),
            duration("connect-timeout"),
            text("proxy"),
            text("tls.ca-file"),
            flag("http2"),
            number("failover.max-retries"),
            duration("hedging.threshold"),
            number("hedging.max-concurrency"),
            text("priority-level"),
            number("throughput-bucket"),
            number("max-concurrency"),
            number("retry.max-attempts"),
            duration("retry.backoff"),
            duration("retry.max-backoff"),
            duration("retry.deadline"),
            duration("retry.throttled-deadline"));

    private static final List<ConfigOption<?>> SOURCE = List.of(
            CosmosDBConnectorOptions.CHANGE_FEED_MODE,
            CosmosDBConnectorOptions.STARTUP_MODE,
            CosmosDBConnectorOptions.STARTUP_TIMESTAMP,
            text("scan.startup.tokens-file"),
            CosmosDBConnectorOptions.BOUNDED_MODE,
            CosmosDBConnectorOptions.BOUNDED_TIMESTAMP,
            CosmosDBConnectorOptions.QUERY,
            text("scan.query-parameters"),
            text("scan.read-many"),
            text("scan.read-many-file"),
            text("scan.lease.container"),
            text("scan.lease.database"),
            text("scan.lease.prefix"),
            text("scan.lease.host"),
            text("scan.lease.format"),
            text("scan.lease.start"),
            duration("scan.lease.expiration"),
            duration("scan.lease.renew-interval"),
            number("scan.page-size"),
            size("scan.prefetch-size"),
            duration("scan.poll-interval"),
            duration("scan.min-poll-interval"),
            number("scan.min-splits"),
            duration("scan.discovery-interval"),
            number("scan.request-units-per-second"),
            duration("scan.backlog-threshold"),
            CosmosDBConnectorOptions.JSON_ON_ERROR);

    private static final List<ConfigOption<?>> SINK = List.of(
            CosmosDBConnectorOptions.WRITE_STRATEGY,
            CosmosDBConnectorOptions.SINK_ID,
            text("sink.null-policy"),
            flag("sink.bulk"),
            number("sink.max-operations-per-request"),
            size("sink.max-request-size"),
            number("sink.partition-concurrency"),
            duration("sink.bulk-probe-interval"),
            text("sink.failure-mode"),
            text("sink.dead-letter-container"),
            number("sink.buffer-flush.max-rows"),
            size("sink.buffer-flush.max-size"),
            duration("sink.buffer-flush.interval"),
            number("sink.max-in-flight-requests"),
            size("sink.max-in-flight-size"),
            number("sink.max-buffered-requests"),
            size("sink.max-record-size"),
            number("sink.request-units-per-second"),
            duration("sink.stall-timeout"));

    private static final List<ConfigOption<?>> LOOKUP = List.of(
            number("lookup.batch.max-size"),
            duration("lookup.batch.max-wait"),
            LookupOptions.MAX_RETRIES,
            size("lookup.max-result-size"));

    /** What the core has and no table: the connector sets it. */
    static final Set<String> SET_HERE = Set.of("scan.lease.job", "sink.key-fields", "scan.key-fields");

    /** Of a table that streaming jobs read by its change feed: of no use to a query. */
    private static final List<String> OF_THE_FEED =
            List.of("scan.change-feed.", "scan.startup.", "scan.bounded.", "scan.lease.");

    /** Options that are secret themselves, each with the one that names a file with the secret. */
    static final Map<String, String> SECRETS =
            Map.of("auth.secret-key", "auth.key-file", "auth.client-secret", "auth.client-secret-file");

    /** What no catalog has, since each table has its own. */
    private static final Set<ConfigOption<?>> OF_A_TABLE =
            Set.of(CosmosDBConnectorOptions.DATABASE, CosmosDBConnectorOptions.CONTAINER);

    /** The query of a scan that has none of its own. */
    static final String ALL_DOCUMENTS = "SELECT * FROM c";

    private TableOptions() {}

    /** All of them, as Flink knows them. */
    static Stream<ConfigOption<?>> all() {
        return Stream.of(CONNECTION, SOURCE, SINK, LOOKUP).flatMap(List::stream);
    }

    /** Those of an account, which a catalog has for its tables. */
    static Stream<ConfigOption<?>> account() {
        return CONNECTION.stream().filter(option -> !OF_A_TABLE.contains(option));
    }

    /** The core's options of an account. */
    static Map<String, String> account(ReadableConfig catalog) {
        Map<String, String> options = of(catalog, CONNECTION);
        OF_A_TABLE.forEach(option -> options.remove(option.key()));
        return options;
    }

    /**
     * Refuses options by names that they had before; Flink's own message would list all that there are. Where this process has no core nobody knows
     * them.
     */
    static void refuseFormerNames(Collection<String> names) {
        List<CoreOption> options;
        try {
            options = NativeCore.get().optionTable();
        } catch (UnsatisfiedLinkError e) {
            return;
        }
        for (CoreOption option : options) {
            if (!option.former().isEmpty() && names.contains(option.former())) {
                throw new ValidationException("'" + option.former() + "' is now '" + option.name() + "'; rename it");
            }
        }
    }

    /**
     * The core's options of a scan of the change feed or by a query.
     *
     * @param query whether the documents are read by a query
     * @throws ValidationException when an option has no meaning beside another
     */
    static Map<String, String> scan(ReadableConfig table, boolean query) {
        Map<String, String> options = of(table, CONNECTION, SOURCE);
        if (query) {
            boolean everywhere = table.get(CosmosDBConnectorOptions.SCAN_MODE) == ScanMode.QUERY
                    || table.getOptional(CosmosDBConnectorOptions.QUERY).isPresent();
            if (everywhere) {
                refuse(table, CosmosDBConnectorOptions.STARTUP_MODE);
                refuse(table, CosmosDBConnectorOptions.BOUNDED_MODE);
                refuse(table, CosmosDBConnectorOptions.CHANGE_FEED_MODE);
            }
            options.keySet().removeIf(name -> OF_THE_FEED.stream().anyMatch(name::startsWith));
            boolean byKeys = options.containsKey("scan.read-many") || options.containsKey("scan.read-many-file");
            if (!byKeys) {
                options.putIfAbsent("scan.query", ALL_DOCUMENTS);
            }
        }
        return options;
    }

    /**
     * The core's options of a sink.
     *
     * @param keyFields where a document has what a delete knows of it; empty where nothing is deleted
     */
    static Map<String, String> sink(ReadableConfig table, List<List<String>> keyFields) {
        Map<String, String> options = of(table, CONNECTION, SINK);
        if (!keyFields.isEmpty()) {
            options.put("sink.key-fields", pointers(keyFields));
        }
        return options;
    }

    /** The core's options of look-ups. */
    static Map<String, String> lookup(ReadableConfig table) {
        return of(table, CONNECTION, LOOKUP);
    }

    /** A JSON array of JSON pointers. */
    static String pointers(List<List<String>> paths) {
        JsonBytes json = new JsonBytes();
        for (int i = 0; i < paths.size(); i++) {
            json.raw(i == 0 ? '[' : ',')
                    .string(ColumnPaths.pointer(paths.get(i)).getBytes(StandardCharsets.UTF_8));
        }
        return new String(json.raw(']').toBytes(), StandardCharsets.UTF_8);
    }

    @SafeVarargs
    private static Map<String, String> of(ReadableConfig table, List<ConfigOption<?>>... groups) {
        Map<String, String> options = new TreeMap<>();
        for (List<ConfigOption<?>> group : groups) {
            // What is not set stays so: the core knows its default.
            group.forEach(option ->
                    table.getOptional(option).ifPresent(value -> options.put(option.key(), text(option, value))));
        }
        return options;
    }

    /** A value as the core takes it. */
    private static String text(ConfigOption<?> option, Object value) {
        if (value instanceof Duration duration) {
            // A part of one that became 0 would mean something else, such as never.
            if (duration.toNanosPart() % 1_000_000 != 0) {
                throw new ValidationException(option.key() + ": '" + duration.toNanos()
                        + " ns' has a fraction of a millisecond; give whole ones, such as '1 ms'.");
            }
            return Long.toString(duration.toMillis());
        }
        return value instanceof MemorySize size ? Long.toString(size.getBytes()) : value.toString();
    }

    private static void refuse(ReadableConfig table, ConfigOption<?> option) {
        if (table.getOptional(option).isPresent()) {
            throw new ValidationException("a table that is read by a query has no use for '" + option.key()
                    + "', which is about the change feed; leave it out, or set '"
                    + CosmosDBConnectorOptions.SCAN_MODE.key() + "' to 'change-feed'");
        }
    }

    /** What the core says of the options. */
    static ValidationException refused(CosmosException refusal) {
        // Options that a statement does not have.
        String message = refusal.getMessage()
                .replace("sink.key-fields", "the primary key")
                .replace("scan.key-fields", "the primary key");
        return new ValidationException(message, refusal);
    }

    private static ConfigOption<String> text(String name) {
        return ConfigOptions.key(name).stringType().noDefaultValue();
    }

    private static ConfigOption<Boolean> flag(String name) {
        return ConfigOptions.key(name).booleanType().noDefaultValue();
    }

    private static ConfigOption<Long> number(String name) {
        return ConfigOptions.key(name).longType().noDefaultValue();
    }

    private static ConfigOption<Duration> duration(String name) {
        return ConfigOptions.key(name).durationType().noDefaultValue();
    }

    private static ConfigOption<MemorySize> size(String name) {
        return ConfigOptions.key(name).memoryType().noDefaultValue();
    }
}
