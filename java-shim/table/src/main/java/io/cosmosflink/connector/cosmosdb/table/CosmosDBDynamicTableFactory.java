package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.DeleteMode;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.FilterHandlingPolicy;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.JsonErrorPolicy;
import io.cosmosflink.core.RowPlan;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.flink.annotation.Internal;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.lookup.LookupOptions;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;

/** The connector {@code cosmosdb} of Flink SQL: a container as a table. */
@Internal
public final class CosmosDBDynamicTableFactory implements DynamicTableSourceFactory, DynamicTableSinkFactory {
    public static final String IDENTIFIER = "cosmosdb";

    /** Flink's own, which is of a job and not of a table. */
    private static final ConfigOption<Duration> IDLE_TIMEOUT =
            ConfigOptions.key("table.exec.source.idle-timeout").durationType().defaultValue(Duration.ZERO);

    private static final List<String> DELETING = List.of("delete", "delete-if-not-modified");

    @Override
    public String factoryIdentifier() {
        return IDENTIFIER;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(
                CosmosDBConnectorOptions.ENDPOINT,
                CosmosDBConnectorOptions.DATABASE,
                CosmosDBConnectorOptions.CONTAINER);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        Set<ConfigOption<?>> options = new HashSet<>(Set.of(
                CosmosDBConnectorOptions.SCAN_MODE,
                CosmosDBConnectorOptions.CHANGELOG_MODE,
                CosmosDBConnectorOptions.JSON_FAIL_ON_MISSING_FIELD,
                CosmosDBConnectorOptions.JSON_TIMESTAMP_FORMAT,
                CosmosDBConnectorOptions.JSON_TIMESTAMP_UNIT,
                CosmosDBConnectorOptions.FILTER_HANDLING_POLICY,
                CosmosDBConnectorOptions.DELETE_MODE,
                CosmosDBConnectorOptions.SOFT_DELETE_FIELD,
                CosmosDBConnectorOptions.SOFT_DELETE_TTL,
                FactoryUtil.SOURCE_PARALLELISM,
                FactoryUtil.SINK_PARALLELISM));
        options.addAll(Set.of(
                CosmosDBConnectorOptions.LOOKUP_ASYNC,
                LookupOptions.CACHE_TYPE,
                LookupOptions.PARTIAL_CACHE_EXPIRE_AFTER_ACCESS,
                LookupOptions.PARTIAL_CACHE_EXPIRE_AFTER_WRITE,
                LookupOptions.PARTIAL_CACHE_CACHE_MISSING_KEY,
                LookupOptions.PARTIAL_CACHE_MAX_ROWS));
        // Flink 1.20 asks for them here, 2.x takes them anyway.
        options.addAll(Set.of(
                FactoryUtil.WATERMARK_EMIT_STRATEGY,
                FactoryUtil.WATERMARK_ALIGNMENT_GROUP,
                FactoryUtil.WATERMARK_ALIGNMENT_MAX_DRIFT,
                FactoryUtil.WATERMARK_ALIGNMENT_UPDATE_INTERVAL,
                FactoryUtil.SOURCE_IDLE_TIMEOUT));
        TableOptions.all().forEach(options::add);
        options.removeAll(requiredOptions());
        return options;
    }

    /** What a job that goes on from a compiled plan takes of the table as it is now. */
    @Override
    public Set<ConfigOption<?>> forwardOptions() {
        Set<ConfigOption<?>> all = new HashSet<>(requiredOptions());
        all.addAll(optionalOptions());
        return ForwardedOptions.of(all);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        ReadableConfig table = validated(context);
        DataType physicalType = context.getPhysicalRowDataType();
        boolean batch = context.getConfiguration().get(ExecutionOptions.RUNTIME_MODE) == RuntimeExecutionMode.BATCH;
        Scan scan = Scan.of(table, batch, context.getPrimaryKeyIndexes().length > 0);
        Map<String, String> options = TableOptions.scan(table, scan == Scan.QUERY);
        JsonErrorPolicy onError =
                table.getOptional(CosmosDBConnectorOptions.JSON_ON_ERROR).orElse(JsonErrorPolicy.FAIL);
        List<List<String>> paths = ColumnPaths.of(
                DataType.getFieldNames(physicalType), context.getCatalogTable().getOptions());
        List<List<String>> key = scan.rows == RowPlan.Changelog.UPSERT
                ? Arrays.stream(context.getPrimaryKeyIndexes())
                        .mapToObj(paths::get)
                        .toList()
                : List.of();
        boolean hasId = key.contains(List.of("id"))
                || table.getOptional(CosmosDBConnectorOptions.SINK_ID)
                        .map(rule -> isMadeOf(rule, key))
                        .orElse(false);
        CosmosDBDynamicSource.PlanSettings plan = new CosmosDBDynamicSource.PlanSettings(
                table.get(CosmosDBConnectorOptions.JSON_FAIL_ON_MISSING_FIELD),
                onError.plan,
                table.get(CosmosDBConnectorOptions.JSON_TIMESTAMP_FORMAT).plan,
                table.get(CosmosDBConnectorOptions.JSON_TIMESTAMP_UNIT).plan);
        Map<String, String> lookup = TableOptions.lookup(table);
        if (onError == JsonErrorPolicy.SKIP_ROW) {
            lookup.put("json.on-error", "skip-row");
        }
        CosmosDBDynamicSource source = Shuffles.source(new CosmosDBDynamicSource.Settings(
                context.getObjectIdentifier().asSummaryString(),
                options,
                !batch,
                scan,
                plan,
                physicalType,
                paths,
                new CosmosDBDynamicSource.SourceWatermarks(
                        table.getOptional(FactoryUtil.SOURCE_IDLE_TIMEOUT)
                                .orElseGet(() -> context.getConfiguration().get(IDLE_TIMEOUT)),
                        table.getOptional(FactoryUtil.WATERMARK_ALIGNMENT_GROUP).orElse(null),
                        table.get(FactoryUtil.WATERMARK_ALIGNMENT_MAX_DRIFT),
                        table.get(FactoryUtil.WATERMARK_ALIGNMENT_UPDATE_INTERVAL)),
                table.getOptional(FactoryUtil.SOURCE_PARALLELISM).orElse(null),
                Arrays.stream(context.getPrimaryKeyIndexes()).boxed().collect(Collectors.toSet()),
                table.get(CosmosDBConnectorOptions.FILTER_HANDLING_POLICY) == FilterHandlingPolicy.ALWAYS,
                new CosmosDBDynamicSource.RowKey(
                        key, hasId, scan.isOfVersions() && context.getPrimaryKeyIndexes().length > 0),
                new LookupSettings(
                        lookup,
                        table.get(CosmosDBConnectorOptions.LOOKUP_ASYNC),
                        LookupSettings.cache(table),
                        LookupSettings.refusal(table))));
        // A type that cannot be read is named with the table, not with the first query of it.
        source.plan();
        return source;
    }

    /** What an id is made of, in {@code sink.id}: a template with fields in braces, or {@code hash(..)} of some. */
    private static final Pattern FIELDS_OF_ID = Pattern.compile("\\{([^}]*)}|hash\\(([^)]*)\\)");

    /** Whether all fields of an id are in a key, so that rows with one key are of one document. */
    static boolean isMadeOf(String rule, List<List<String>> key) {
        return FIELDS_OF_ID
                .matcher(rule)
                .results()
                .map(found -> found.group(1) == null ? found.group(2) : found.group(1))
                .flatMap(fields -> Arrays.stream(fields.split(",")))
                .allMatch(field -> key.contains(List.of(field.strip().split("/"))));
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        ReadableConfig table = validated(context);
        DataType physicalType = context.getPhysicalRowDataType();
        List<List<String>> paths = ColumnPaths.of(
                DataType.getFieldNames(physicalType), context.getCatalogTable().getOptions());
        Set<Integer> primaryKey =
                Arrays.stream(context.getPrimaryKeyIndexes()).boxed().collect(Collectors.toSet());
        DeleteMode deleteMode = table.get(CosmosDBConnectorOptions.DELETE_MODE);
        List<List<String>> keyFields = deleteMode == DeleteMode.IGNORE
                ? List.of()
                : primaryKey.stream().sorted().map(paths::get).toList();
        Map<String, String> options = TableOptions.sink(table, keyFields);
        checkStrategy(options.getOrDefault("sink.write-strategy", ""));
        if (!options.containsKey("sink.id")) {
            checkId(paths, primaryKey);
        }
        CosmosDBDynamicSink sink = new CosmosDBDynamicSink(new CosmosDBDynamicSink.Settings(
                options,
                physicalType,
                paths,
                positions(context.getCatalogTable().getResolvedSchema().getColumns()),
                primaryKey,
                deleteMode,
                table.get(CosmosDBConnectorOptions.SOFT_DELETE_FIELD),
                table.getOptional(CosmosDBConnectorOptions.SOFT_DELETE_TTL).orElse(null),
                table.get(CosmosDBConnectorOptions.JSON_TIMESTAMP_FORMAT).plan,
                table.getOptional(FactoryUtil.SINK_PARALLELISM).orElse(null)));
        // What cannot be written is named with the table, not with the first statement that writes to it.
        sink.plan(null);
        return sink;
    }

    private ReadableConfig validated(Context context) {
        TableOptions.refuseFormerNames(context.getCatalogTable().getOptions().keySet());
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validateExcept(ColumnPaths.PREFIX);
        Map<String, String> planned = context.getCatalogTable().getOptions();
        Map<String, String> now = context.getEnrichmentOptions();
        if (planned.keySet().stream().noneMatch(name -> ForwardedOptions.isReplaced(name, now))) {
            return helper.getOptions();
        }
        // Flink only adds options to those of a plan.
        Map<String, String> options = new TreeMap<>(planned);
        options.keySet().removeIf(name -> ForwardedOptions.isReplaced(name, now));
        ForwardedOptions.NAMES.stream().filter(now::containsKey).forEach(name -> options.put(name, now.get(name)));
        return Configuration.fromMap(options);
    }

    private static void checkStrategy(String strategy) {
        if (DELETING.contains(strategy)) {
            throw new ValidationException(
                    "'sink.write-strategy' is '" + strategy
                            + "', which would delete the documents of rows that are inserted; a table deletes the documents of rows that are deleted");
        }
    }

    /** A document needs an id, and a delete, of which the key is known, one that is of the key. */
    private static void checkId(List<List<String>> paths, Set<Integer> primaryKey) {
        boolean whole = paths.contains(List.<String>of());
        int id = paths.indexOf(List.of("id"));
        if (id < 0 && !whole) {
            throw new ValidationException(
                    "the table has no column for the id of a document; declare 'id STRING', give a column the path '/id' with '"
                            + ColumnPaths.PREFIX
                            + "<column>.path', or set 'sink.id', such as to '{customerId}-{orderId}'");
        }
        if (!primaryKey.isEmpty() && !primaryKey.contains(id)) {
            throw new ValidationException(
                    "the primary key lacks the id, without which nobody knows which document a delete is about; it must be the id and all"
                            + " columns of the container's partition key");
        }
    }

    /** Where the physical columns are among all of the table. */
    private static List<Integer> positions(List<Column> columns) {
        List<Integer> positions = new ArrayList<>();
        for (int i = 0; i < columns.size(); i++) {
            if (columns.get(i).isPhysical()) {
                positions.add(i);
            }
        }
        return positions;
    }
}
