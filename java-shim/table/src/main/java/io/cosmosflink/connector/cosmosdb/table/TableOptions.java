package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.BoundedMode;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.ScanMode;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.StartupMode;
import io.cosmosflink.core.CosmosException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Stream;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.source.lookup.LookupOptions;

/** The options of a table that are the core's own, by both names. The core knows their defaults and bounds. */
final class TableOptions {
    private static final List<Row<?>> CONNECTION = List.of(
            new Row<>(CosmosDBConnectorOptions.ENDPOINT, "cosmos.endpoint", text -> text),
            new Row<>(CosmosDBConnectorOptions.DATABASE, "cosmos.database", text -> text),
            new Row<>(CosmosDBConnectorOptions.CONTAINER, "cosmos.container", text -> text),
            text("auth.type", "cosmos.auth.type"),
            // Flink shows stars for a key that contains "secret".
            text("auth.secret-key", "cosmos.auth.key"),
            text("auth.key-file", "cosmos.auth.key-file"),
            text("auth.tenant-id", "cosmos.auth.tenant-id"),
            text("auth.client-id", "cosmos.auth.client-id"),
            text("auth.client-secret", "cosmos.auth.client-secret"),
            text("auth.client-secret-file", "cosmos.auth.client-secret-file"),
            text("auth.token-file", "cosmos.auth.token-file"),
            text("auth.audience", "cosmos.auth.audience"),
            text("auth.authority-host", "cosmos.auth.authority-host"),
            text("preferred-regions", "cosmos.preferred-regions"),
            text("excluded-regions", "cosmos.excluded-regions"),
            text("consistency", "cosmos.consistency"),
            duration("request-timeout", "cosmos.request-timeout-ms"),
            duration("connect-timeout", "cosmos.connect-timeout-ms"),
            text("proxy", "cosmos.proxy"),
            text("tls.ca-file", "cosmos.tls.ca-file"),
            flag("http2", "cosmos.http2"),
            number("failover.max-retries", "cosmos.failover.max-retries"),
            duration("hedging.threshold", "cosmos.hedging.threshold-ms"),
            number("hedging.max-concurrency", "cosmos.hedging.max-concurrency"),
            text("priority-level", "cosmos.priority-level"),
            number("throughput-bucket", "cosmos.throughput-bucket"),
            number("max-concurrency", "cosmos.max-concurrency"),
            number("retry.max-attempts", "cosmos.retry.max-attempts"),
            duration("retry.backoff", "cosmos.retry.backoff-ms"),
            duration("retry.max-backoff", "cosmos.retry.max-backoff-ms"),
            duration("retry.deadline", "cosmos.retry.deadline-ms"),
            duration("retry.throttled-deadline", "cosmos.retry.throttled-deadline-ms"));

    private static final List<Row<?>> SOURCE = List.of(
            new Row<>(CosmosDBConnectorOptions.CHANGE_FEED_MODE, "source.mode", Object::toString),
            new Row<>(CosmosDBConnectorOptions.QUERY, "source.query", text -> text),
            text("scan.query-parameters", "source.query-parameters"),
            text("scan.read-many", "source.read-many"),
            text("scan.read-many-file", "source.read-many-file"),
            text("scan.startup.tokens-file", "source.start-tokens-file"),
            text("scan.lease.container", "source.lease-container"),
            text("scan.lease.database", "source.lease-database"),
            text("scan.lease.prefix", "source.lease-prefix"),
            text("scan.lease.host", "source.lease-host"),
            text("scan.lease.format", "source.lease-format"),
            text("scan.lease.start", "source.lease-start"),
            duration("scan.lease.expiration", "source.lease-expiration-ms"),
            duration("scan.lease.renew-interval", "source.lease-renew-interval-ms"),
            number("scan.page-size", "source.page-size"),
            size("scan.prefetch-size", "source.prefetch-bytes"),
            duration("scan.poll-interval", "source.poll-interval-ms"),
            duration("scan.min-poll-interval", "source.min-poll-interval-ms"),
            number("scan.min-splits", "source.min-splits"),
            duration("scan.discovery-interval", "source.discovery-interval-ms"),
            number("scan.request-units-per-second", "source.request-units-per-second"),
            duration("scan.backlog-threshold", "source.backlog-threshold-ms"));

    private static final List<Row<?>> SINK = List.of(
            new Row<>(CosmosDBConnectorOptions.WRITE_STRATEGY, "sink.write-strategy", text -> text),
            new Row<>(CosmosDBConnectorOptions.SINK_ID, "sink.id", text -> text),
            text("sink.null-policy", "sink.null-policy"),
            flag("sink.bulk", "sink.bulk"),
            number("sink.max-operations-per-request", "sink.max-operations-per-request"),
            size("sink.max-request-size", "sink.max-request-bytes"),
            number("sink.partition-concurrency", "sink.partition-concurrency"),
            duration("sink.bulk-probe-interval", "sink.bulk-probe-interval-ms"),
            text("sink.failure-mode", "sink.failure-mode"),
            text("sink.dead-letter-container", "sink.dead-letter-container"),
            number("sink.buffer-flush.max-rows", "sink.max-batch-size"),
            size("sink.buffer-flush.max-size", "sink.max-batch-bytes"),
            duration("sink.buffer-flush.interval", "sink.max-time-in-buffer-ms"),
            number("sink.max-in-flight-requests", "sink.max-in-flight-requests"),
            size("sink.max-in-flight-size", "sink.max-in-flight-bytes"),
            number("sink.max-buffered-requests", "sink.max-buffered-requests"),
            size("sink.max-record-size", "sink.max-record-bytes"),
            number("sink.request-units-per-second", "sink.request-units-per-second"),
            duration("sink.stall-timeout", "sink.stall-timeout-ms"));

    private static final List<Row<?>> LOOKUP = List.of(
            number("lookup.batch.max-size", "lookup.batch.max-size"),
            duration("lookup.batch.max-wait", "lookup.batch.max-wait"),
            new Row<>(LookupOptions.MAX_RETRIES, "lookup.max-retries", String::valueOf),
            size("lookup.max-result-size", "lookup.max-result-size"));

    /**
     * What the core has and the options of a table say otherwise: {@link #scan} makes the first three of several of them, and the others are set by
     * the connector.
     */
    static final Set<String> OTHERWISE = Set.of(
            "source.start",
            "source.stop",
            "source.on-decode-error",
            "source.lease-job",
            "sink.key-fields",
            "source.key-fields");

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
        return rows().<ConfigOption<?>>map(Row::option);
    }

    /** Those of an account, which a catalog has for its tables. */
    static Stream<ConfigOption<?>> account() {
        return CONNECTION.stream().<ConfigOption<?>>map(Row::option).filter(option -> !OF_A_TABLE.contains(option));
    }

    /** The core's options of an account. */
    static Map<String, String> account(ReadableConfig catalog) {
        Map<String, String> options = of(catalog, CONNECTION);
        OF_A_TABLE.forEach(option -> options.remove(names().get(option.key())));
        return options;
    }

    /** The name in the core by the name in a table. */
    static Map<String, String> names() {
        Map<String, String> names = new TreeMap<>();
        rows().forEach(row -> names.put(row.option.key(), row.core));
        return names;
    }

    private static Stream<Row<?>> rows() {
        return Stream.of(CONNECTION, SOURCE, SINK, LOOKUP).flatMap(List::stream);
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
            // Of a table that streaming jobs read by its change feed.
            options.keySet().removeIf(name -> name.equals("source.mode") || name.startsWith("source.lease-"));
            options.remove("source.start-tokens-file");
            boolean byKeys = options.containsKey("source.read-many") || options.containsKey("source.read-many-file");
            if (!byKeys) {
                options.putIfAbsent("source.query", ALL_DOCUMENTS);
            }
            return options;
        }
        table.getOptional(CosmosDBConnectorOptions.STARTUP_MODE)
                .ifPresent(mode -> options.put(
                        "source.start",
                        mode == StartupMode.TIMESTAMP
                                ? time(
                                        table,
                                        CosmosDBConnectorOptions.STARTUP_TIMESTAMP,
                                        CosmosDBConnectorOptions.STARTUP_MODE)
                                : mode.core));
        BoundedMode bounded = table.get(CosmosDBConnectorOptions.BOUNDED_MODE);
        if (bounded != BoundedMode.UNBOUNDED) {
            options.put(
                    "source.stop",
                    bounded == BoundedMode.TIMESTAMP
                            ? time(
                                    table,
                                    CosmosDBConnectorOptions.BOUNDED_TIMESTAMP,
                                    CosmosDBConnectorOptions.BOUNDED_MODE)
                            : bounded.core);
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
    private static Map<String, String> of(ReadableConfig table, List<Row<?>>... groups) {
        Map<String, String> options = new TreeMap<>();
        for (List<Row<?>> group : groups) {
            group.forEach(row -> row.copy(table, options));
        }
        return options;
    }

    private static void refuse(ReadableConfig table, ConfigOption<?> option) {
        if (table.getOptional(option).isPresent()) {
            throw new ValidationException("a table that is read by a query has no use for '" + option.key()
                    + "', which is about the change feed; leave it out, or set '"
                    + CosmosDBConnectorOptions.SCAN_MODE.key() + "' to 'change-feed'");
        }
    }

    /** What the core says of the options, with the names that they have in a table. */
    static ValidationException refused(CosmosException refusal) {
        Map<String, String> names = new TreeMap<>(Comparator.reverseOrder());
        names().forEach((table, core) -> names.put(core, table));
        names.put("source.start", CosmosDBConnectorOptions.STARTUP_MODE.key());
        names.put("source.stop", CosmosDBConnectorOptions.BOUNDED_MODE.key());
        names.put("source.on-decode-error", CosmosDBConnectorOptions.JSON_ON_ERROR.key());
        names.put("sink.key-fields", "the primary key");
        names.put("source.key-fields", "the primary key");
        String message = refusal.getMessage();
        // A name that begins with another one comes first.
        for (Map.Entry<String, String> name : names.entrySet()) {
            message = message.replace(name.getKey(), name.getValue());
        }
        return new ValidationException(message, refusal);
    }

    private static String time(ReadableConfig table, ConfigOption<Long> millis, ConfigOption<?> mode) {
        long moment = table.getOptional(millis)
                .orElseThrow(() -> new ValidationException(
                        "'" + mode.key() + "' is 'timestamp', and there is no '" + millis.key() + "'; set it"));
        return Instant.ofEpochMilli(moment).toString();
    }

    private static Row<String> text(String name, String core) {
        return new Row<>(ConfigOptions.key(name).stringType().noDefaultValue(), core, text -> text);
    }

    private static Row<Boolean> flag(String name, String core) {
        return new Row<>(ConfigOptions.key(name).booleanType().noDefaultValue(), core, String::valueOf);
    }

    private static Row<Long> number(String name, String core) {
        return new Row<>(ConfigOptions.key(name).longType().noDefaultValue(), core, String::valueOf);
    }

    private static Row<Duration> duration(String name, String core) {
        return new Row<>(
                ConfigOptions.key(name).durationType().noDefaultValue(),
                core,
                duration -> Long.toString(duration.toMillis()));
    }

    private static Row<MemorySize> size(String name, String core) {
        return new Row<>(
                ConfigOptions.key(name).memoryType().noDefaultValue(), core, size -> Long.toString(size.getBytes()));
    }

    /**
     * @param core its name in the core
     * @param text the value as the core takes it
     */
    private record Row<T>(ConfigOption<T> option, String core, Function<T, String> text) {
        /** What is not set stays so: the core knows its default. */
        void copy(ReadableConfig table, Map<String, String> options) {
            table.getOptional(option).ifPresent(value -> options.put(core, text.apply(value)));
        }
    }
}
