package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import io.cosmosflink.connector.cosmosdb.table.Conditions.Condition;
import io.cosmosflink.connector.cosmosdb.table.Conditions.Reference;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.RowPredicate;
import io.cosmosflink.core.RowPredicate.Operand;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsFilterPushDown;
import org.apache.flink.table.connector.source.abilities.SupportsLimitPushDown;
import org.apache.flink.table.connector.source.abilities.SupportsProjectionPushDown;
import org.apache.flink.table.connector.source.abilities.SupportsReadingMetadata;
import org.apache.flink.table.connector.source.abilities.SupportsSourceWatermark;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.expressions.ResolvedExpression;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/** A container as a table that is read: by its change feed, by a query or by keys, with rows that the core makes. */
class CosmosDBDynamicSource
        implements ScanTableSource,
                LookupTableSource,
                SupportsProjectionPushDown,
                SupportsReadingMetadata,
                SupportsWatermarkPushDown,
                SupportsSourceWatermark,
                SupportsLimitPushDown,
                SupportsFilterPushDown {
    /** The service's {@code _ts} counts whole seconds, and its clocks are not exactly one. */
    private static final Duration OUT_OF_ORDERNESS = Duration.ofSeconds(1);
    /** Beyond it, all readers together are faster than one that stops in time. */
    private static final long MOST_LIMITED = 10_000;

    private final Settings settings;
    /** The columns to produce, by their positions in the table and inside of its rows. */
    private int[][] projection;

    private List<String> metadataKeys = List.of();
    /** Of all that is produced. */
    private DataType producedType;

    private WatermarkStrategy<RowData> watermarks;
    private boolean sourceWatermarks;
    /** Rows that are enough, or -1. */
    private long limit = -1;
    /** What must be true of the rows. */
    private List<Condition> conditions = List.of();
    /** The keys of the lookup joins that were planned with this source, each with those that say where a document is. */
    private Map<List<Integer>, RowData.FieldGetter[]> lookedUpBy = Map.of();

    CosmosDBDynamicSource(Settings settings) {
        this.settings = settings;
        this.projection = IntStream.range(0, DataType.getFieldCount(settings.physicalType()))
                .mapToObj(column -> new int[] {column})
                .toArray(int[][]::new);
        this.producedType = settings.physicalType();
    }

    /**
     * What the statement that made the table says.
     *
     * @param name of the table, for the operator
     * @param options of the core
     * @param streaming whether a savepoint may be gone on from, to whose state the query is bound
     * @param physicalType of the columns that are no metadata
     * @param paths of those
     * @param ownWatermarks how they are made where they are the source's own
     * @param parallelism null for that of the job
     * @param primaryKey positions of its columns among the physical ones
     * @param filters whether they are taken
     * @param key by which rows are told apart
     * @param lookup how documents are looked up
     */
    record Settings(
            String name,
            Map<String, String> options,
            boolean streaming,
            Scan scan,
            PlanSettings plan,
            DataType physicalType,
            List<List<String>> paths,
            SourceWatermarks ownWatermarks,
            Integer parallelism,
            Set<Integer> primaryKey,
            boolean filters,
            RowKey key,
            LookupSettings lookup) {}

    /**
     * What tells rows apart.
     *
     * @param fields paths of the primary key's columns; none where each version is a row of its own
     * @param hasId whether documents with these fields have one id
     * @param isRepeated whether each version is a row of its own, although the table has a primary key
     */
    record RowKey(List<List<String>> fields, boolean hasId, boolean isRepeated) {
        /** A table that only others look into need not have it. */
        void check() {
            if (isRepeated) {
                throw new ValidationException(
                        "each version of a document is a row, and the table has a primary key, by which Flink"
                                + " takes rows for unique: sums and joins would be wrong. Declare the table without it (LIKE .. (EXCLUDING"
                                + " CONSTRAINTS)), or set '" + CosmosDBConnectorOptions.CHANGELOG_MODE.key()
                                + "' to 'upsert'");
            }
            if (!fields.isEmpty() && !hasId) {
                throw new ValidationException(
                        "the primary key lacks the id, without which rows of different documents would be taken for one; it must be the"
                                + " id and all columns of the container's partition key. Or set '"
                                + CosmosDBConnectorOptions.CHANGELOG_MODE.key()
                                + "' to 'append', where each version is a row of its own");
            }
        }
    }

    /**
     * Watermarks of {@code SOURCE_WATERMARK()}, for which Flink leaves its own options to the source.
     *
     * @param idleTimeout of a split, zero for none
     * @param group of sources that wait for each other, or null
     * @param maxDrift by which one of them may be ahead
     * @param interval in which that is looked at
     */
    record SourceWatermarks(Duration idleTimeout, String group, Duration maxDrift, Duration interval) {}

    /** How the core reads documents. */
    record PlanSettings(
            boolean failOnMissing,
            RowPlan.OnError onError,
            RowPlan.TimestampFormat format,
            RowPlan.TimestampUnit unit) {}

    @Override
    public ChangelogMode getChangelogMode() {
        return settings.scan().changelogMode();
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
        settings.key().check();
        TypeInformation<RowData> type = context.createTypeInformation(producedType);
        RowLayout layout = new RowLayout(context.createTypeInformation(RowLayout.TYPE));
        CosmosDBSource<RowData> source;
        try {
            source = CosmosDBSource.<RowData>builder()
                    .options(CosmosDBOptions.of(options()))
                    .rows(new RowDataFormat(plan(), columns(), type, layout, asked()))
                    .build();
        } catch (CosmosException e) {
            throw TableOptions.refused(e);
        }
        return new ScanProvider(source, strategy(), settings.name(), settings.parallelism());
    }

    /**
     * What cannot be looked up is refused where a function is made of it, and not here: Flink also asks when it plans a join of another sort, to see
     * whether it could look up, and takes an exception for the end of the statement.
     */
    @Override
    public LookupRuntimeProvider getLookupRuntimeProvider(LookupContext context) {
        try {
            return provider(context);
        } catch (ValidationException e) {
            return LookupSettings.refusing(e);
        }
    }

    private LookupRuntimeProvider provider(LookupContext context) {
        int[] keys = keys(context.getKeys());
        List<LogicalType> types = DataType.getFieldDataTypes(producedType).stream()
                .map(DataType::getLogicalType)
                .toList();
        RowLayout layout = new RowLayout(context.createTypeInformation(RowLayout.TYPE));
        Map<List<Integer>, RowData.FieldGetter[]> joins = new HashMap<>(lookedUpBy);
        joins.put(
                Arrays.stream(keys).boxed().toList(),
                Arrays.stream(partition(keys))
                        .mapToObj(i -> RowData.createFieldGetter(types.get(keys[i]), i))
                        .toArray(RowData.FieldGetter[]::new));
        lookedUpBy = joins;
        LookupSettings lookup = settings.lookup();
        return lookup.provider(new LookupCore(
                lookup.options(),
                plan(),
                columns(),
                keys,
                Arrays.stream(keys).mapToObj(types::get).toList(),
                layout,
                !lookup.async(),
                lookup.cache() != null));
    }

    /**
     * The columns that documents are looked up by, of those that are produced.
     *
     * @throws ValidationException when one cannot be looked up by
     */
    private int[] keys(int[][] keys) {
        for (String key : metadataKeys) {
            if (ReadableMetadata.of(key).isOfChange()) {
                throw new ValidationException(
                        "the metadata '" + key + "' of table " + settings.name()
                                + " is known of a change alone, and a lookup join reads no changes; leave that column out of the join");
            }
        }
        int[] columns = new int[keys.length];
        for (int i = 0; i < keys.length; i++) {
            if (keys[i].length != 1) {
                throw new ValidationException("table " + settings.name()
                        + " is joined by a field inside of a row, by which Flink hands no key to a table; declare the field as a column of"
                        + " its own, with its place in '" + ColumnPaths.PREFIX + "<column>.path'");
            }
            int column = keys[i][0];
            columns[i] = column;
            if (column >= projection.length) {
                String key = metadataKeys.get(column - projection.length);
                if (!ReadableMetadata.of(key).isKey()) {
                    throw new ValidationException("table " + settings.name() + " is joined by its metadata '" + key
                            + "', which stands in no document, so that none can be looked up by it; join by columns of the document, and"
                            + " compare this one in a WHERE clause");
                }
            } else {
                LogicalType type =
                        DataType.getFieldDataTypes(producedType).get(column).getLogicalType();
                if (!LookupCore.isKey(type) || path(projection[column]).isEmpty()) {
                    throw new ValidationException("table " + settings.name() + " is joined by its column '"
                            + DataType.getFieldNames(producedType).get(column) + "' of type " + type.asSummaryString()
                            + ", by which no document can be looked up; join by a column of a simple type");
                }
            }
        }
        return columns;
    }

    /** Which of the keys say where a document is: all but its id, by their places among the keys; the id where there is no other. */
    private int[] partition(int[] keys) {
        int[] others = IntStream.range(0, keys.length)
                .filter(i -> keys[i] >= projection.length
                        || !path(projection[keys[i]]).equals(List.of("id")))
                .toArray();
        return others.length == 0 ? IntStream.range(0, keys.length).toArray() : others;
    }

    private WatermarkStrategy<RowData> strategy() {
        if (watermarks != null) {
            return watermarks;
        }
        if (!sourceWatermarks) {
            return WatermarkStrategy.noWatermarks();
        }
        // The timestamps are those that the source gives its rows.
        WatermarkStrategy<RowData> own = WatermarkStrategy.forBoundedOutOfOrderness(OUT_OF_ORDERNESS);
        SourceWatermarks how = settings.ownWatermarks();
        if (!how.idleTimeout().isZero()) {
            own = own.withIdleness(how.idleTimeout());
        }
        return how.group() == null ? own : own.withWatermarkAlignment(how.group(), how.maxDrift(), how.interval());
    }

    /** The core's options, with the key that it compares with the container's, and the limit where the query is our own. */
    Map<String, String> options() {
        Map<String, String> options = new TreeMap<>(settings.options());
        if (!settings.key().fields().isEmpty()) {
            options.put("scan.key-fields", TableOptions.pointers(settings.key().fields()));
        }
        // A row that is left out would be one too few: here, or once json.on-error is another.
        boolean whole = settings.plan().onError() != RowPlan.OnError.SKIP_ROW && conditions.isEmpty();
        if (isOurs() && whole && !settings.streaming() && limit > 0 && limit <= MOST_LIMITED) {
            options.put("scan.query", "SELECT TOP " + limit + " * FROM c");
        }
        return options;
    }

    /** Whether the query is one of all documents, and not what the table says. */
    private boolean isOurs() {
        return TableOptions.ALL_DOCUMENTS.equals(settings.options().get("scan.query"));
    }

    /**
     * The plan whose filter the service is asked with, or null. Of what the service sends some may be left out here, so that no number of documents is
     * enough for a limit.
     *
     * <p>Where state is bound to the query, it is the one of {@code null-field}, which no document escapes whose row may pass by another policy: a job
     * that goes on may have another one.
     */
    byte[] asked() {
        if (!isOurs() || conditions.isEmpty()) {
            return null;
        }
        return plan(
                settings.streaming()
                        ? RowPlan.OnError.NULL_FIELD
                        : settings.plan().onError());
    }

    private int columns() {
        return projection.length + metadataKeys.size();
    }

    /** The PLAN frame. */
    byte[] plan() {
        return plan(settings.plan().onError());
    }

    private byte[] plan(RowPlan.OnError onError) {
        PlanSettings how = settings.plan();
        RowPlan plan = new RowPlan(how.failOnMissing(), onError, how.format(), how.unit(), settings.scan().rows);
        List<DataType> types = DataType.getFieldDataTypes(producedType);
        for (int i = 0; i < projection.length; i++) {
            List<String> path = path(projection[i]);
            plan.path(
                    ColumnPaths.pointer(path),
                    path,
                    PlanTypes.of(name(projection[i]), types.get(i).getLogicalType()));
        }
        metadataKeys.forEach(key -> ReadableMetadata.of(key).add(plan, settings.options()));
        if (!conditions.isEmpty()) {
            Map<Integer, Integer> hidden = new HashMap<>();
            plan.hidden();
            plan.filter(RowPredicate.all(conditions.stream()
                    .map(condition -> condition.of(reference -> operand(plan, reference, hidden)))
                    .toList()));
        }
        return plan.frame();
    }

    /**
     * A value of the row; where the row has its column not, or a part of it, one of a column that only the filter has. That is read as a whole, as it is where
     * Flink filters.
     *
     * @param hidden the numbers of those columns, by their positions in the table
     */
    private Operand operand(RowPlan plan, Reference reference, Map<Integer, Integer> hidden) {
        int column = reference.position().get(0);
        List<Integer> fields =
                reference.position().subList(1, reference.position().size());
        for (int i = 0; i < projection.length; i++) {
            if (projection[i].length == 1 && projection[i][0] == column) {
                return new Operand(i, fields);
            }
        }
        int number = hidden.computeIfAbsent(column, position -> {
            int next = plan.count();
            List<String> path = settings.paths().get(position);
            LogicalType type = DataType.getFieldDataTypes(settings.physicalType())
                    .get(position)
                    .getLogicalType();
            plan.path(ColumnPaths.pointer(path), path, PlanTypes.of(name(new int[] {position}), type));
            return next;
        });
        return new Operand(number, fields);
    }

    /** What a field of the rows is that the source makes now: its number, and those of fields inside of it. */
    private Optional<Reference> reference(int[] field) {
        int first = field[0];
        // Metadata comes behind it. Flink restores no compiled plan with a filter over that.
        if (first >= projection.length) {
            return Optional.empty();
        }
        List<Integer> position = new ArrayList<>();
        Arrays.stream(projection[first]).forEach(position::add);
        Arrays.stream(field).skip(1).forEach(position::add);
        LogicalType type = DataType.getFieldDataTypes(settings.physicalType())
                .get(position.get(0))
                .getLogicalType();
        boolean nullable = type.isNullable();
        for (int inner : position.subList(1, position.size())) {
            if (!(type instanceof RowType row)) {
                return Optional.empty();
            }
            type = row.getTypeAt(inner);
            nullable |= type.isNullable();
        }
        return Optional.of(new Reference(List.copyOf(position), type.copy(nullable)));
    }

    /** Where a column, or a field inside of one, is in the document. */
    private List<String> path(int[] position) {
        List<String> path = new ArrayList<>(settings.paths().get(position[0]));
        LogicalType type = DataType.getFieldDataTypes(settings.physicalType())
                .get(position[0])
                .getLogicalType();
        for (int depth = 1; depth < position.length; depth++) {
            RowType.RowField field = ((RowType) type).getFields().get(position[depth]);
            path.add(field.getName());
            type = field.getType();
        }
        return path;
    }

    private String name(int[] position) {
        return DataType.getFieldNames(settings.physicalType()).get(position[0]);
    }

    @Override
    public boolean supportsNestedProjection() {
        return true;
    }

    @Override
    public void applyProjection(int[][] projectedFields, DataType producedDataType) {
        projection = projectedFields;
        producedType = producedDataType;
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
        return ReadableMetadata.types();
    }

    @Override
    public void applyReadableMetadata(List<String> keys, DataType producedDataType) {
        metadataKeys = List.copyOf(keys);
        producedType = producedDataType;
    }

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> strategy) {
        watermarks = strategy;
    }

    @Override
    public void applySourceWatermark() {
        sourceWatermarks = true;
    }

    /**
     * What the core is sure to judge as Flink does is taken. Nothing is, where rows that are left out would count: a watermark moves on with them, and
     * in a changelog a version that passes no more takes the place of the one that has.
     *
     * <p>Flink judges all of it once more. Without its conditions a lookup join looks to the planner like any other into the same table, so that two with
     * different ones would be one; and it finds the constants there by which a document is looked up.
     */
    @Override
    public Result applyFilters(List<ResolvedExpression> filters) {
        // Scans with different conditions are two, and one set of leases has one source.
        boolean isPublished = settings.options().containsKey("scan.lease.container");
        if (!settings.filters() || isPublished || watermarks != null || sourceWatermarks) {
            return Result.of(List.of(), filters);
        }
        Conditions found = new Conditions(this::reference);
        List<Condition> taken = new ArrayList<>(conditions);
        List<ResolvedExpression> accepted = new ArrayList<>();
        for (ResolvedExpression filter : filters) {
            Optional<Condition> condition = found.of(filter, this::mayLeaveOut);
            condition.ifPresent(one -> {
                taken.add(one);
                accepted.add(filter);
            });
        }
        conditions = List.copyOf(taken);
        return Result.of(accepted, filters);
    }

    /** Whether all rows with the same primary key are left out, or none. */
    private boolean mayLeaveOut(Condition condition) {
        if (settings.scan().rows != RowPlan.Changelog.UPSERT) {
            return true;
        }
        List<Reference> references = new ArrayList<>();
        condition.of(reference -> {
            references.add(reference);
            return new Operand(0, List.of());
        });
        return references.stream().allMatch(reference -> settings.primaryKey()
                .contains(reference.position().get(0)));
    }

    /** A hint: the planner limits the rows once more. */
    @Override
    public void applyLimit(long rows) {
        limit = rows;
    }

    @Override
    public DynamicTableSource copy() {
        CosmosDBDynamicSource copy = same(settings);
        copy.projection = projection;
        copy.metadataKeys = metadataKeys;
        copy.producedType = producedType;
        copy.watermarks = watermarks;
        copy.sourceWatermarks = sourceWatermarks;
        copy.limit = limit;
        copy.conditions = conditions;
        copy.lookedUpBy = lookedUpBy;
        return copy;
    }

    /** Another source of this class. */
    CosmosDBDynamicSource same(Settings settings) {
        return new CosmosDBDynamicSource(settings);
    }

    /**
     * Of the keys of the lookup joins: those that say where a document is. Empty where there was no join, or were some by different keys: Flink plans all
     * joins of one source before it asks for their shuffles.
     */
    Optional<RowData.FieldGetter[]> lookedUpBy() {
        return lookedUpBy.size() == 1 ? lookedUpBy.values().stream().findFirst() : Optional.empty();
    }

    @Override
    public String asSummaryString() {
        return "Cosmos DB";
    }
}
