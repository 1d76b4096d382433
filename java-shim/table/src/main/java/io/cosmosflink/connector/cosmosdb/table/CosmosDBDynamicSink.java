package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.DeleteMode;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.DocumentPlan;
import io.cosmosflink.core.RowPlan;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.connector.sink.abilities.SupportsWritingMetadata;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

/** A container as a table that is written. */
final class CosmosDBDynamicSink implements DynamicTableSink, SupportsWritingMetadata {
    /** Those that leave what a document has besides. */
    private static final Set<String> PARTIAL = Set.of("patch", "patch-if-exists", "bulk-update");

    /** What the service writes into each document itself. A table may have columns for them, to be read. */
    private static final Set<List<String>> OF_THE_SERVICE =
            Set.of(List.of("_rid"), List.of("_self"), List.of("_etag"), List.of("_attachments"), List.of("_ts"));

    private final Settings settings;
    private List<String> metadataKeys = List.of();

    CosmosDBDynamicSink(Settings settings) {
        this.settings = settings;
    }

    /**
     * What the statement that made the table says.
     *
     * @param options of the core
     * @param physicalType of the columns that are no metadata
     * @param paths of those
     * @param positions of those among all columns of the table, the way in which a statement names its target columns
     * @param primaryKey positions in {@code physicalType}; none without a key
     * @param softDeleteField what a soft delete sets to true
     * @param softDeleteTtl how long a document lives on after a soft delete; null for as long as before
     * @param format how timestamps are written
     * @param parallelism null for that of what is written
     */
    record Settings(
            Map<String, String> options,
            DataType physicalType,
            List<List<String>> paths,
            List<Integer> positions,
            Set<Integer> primaryKey,
            DeleteMode deleteMode,
            String softDeleteField,
            Duration softDeleteTtl,
            RowPlan.TimestampFormat format,
            Integer parallelism) {}

    /** With a key everything but what was before an update; of a delete the key alone is needed. */
    @Override
    public ChangelogMode getChangelogMode(ChangelogMode requestedMode) {
        return settings.primaryKey().isEmpty() ? ChangelogMode.insertOnly() : ChangelogMode.upsert();
    }

    // What takes the place of getTargetColumns is not there before 2.1.
    @SuppressWarnings("deprecation")
    @Override
    public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
        CosmosDBSink<RowData> sink;
        try {
            sink = CosmosDBSink.<RowData>builder()
                    .options(CosmosDBOptions.of(settings.options()))
                    .converter(converter(context.getTargetColumns().orElse(null), context::createTypeInformation))
                    .build();
        } catch (CosmosException e) {
            throw TableOptions.refused(e);
        }
        if (settings.primaryKey().isEmpty() || replacing()) {
            return SinkV2Provider.of(sink, settings.parallelism());
        }
        return new WithoutDeletes(sink, settings.deleteMode() != DeleteMode.IGNORE, settings.parallelism());
    }

    /** Whether a row that comes behind a delete with its key is the document, with nothing left of the one before. */
    private boolean replacing() {
        return settings.deleteMode() == DeleteMode.DELETE
                && !PARTIAL.contains(settings.options().getOrDefault("sink.write-strategy", ""));
    }

    /**
     * @param targetColumns those that the statement names, by their positions among all columns; null for all
     * @param types Flink's information of a type
     */
    RowDataConverter converter(int[][] targetColumns, Function<DataType, TypeInformation<RowData>> types) {
        RowLayout layout = new RowLayout(types.apply(RowLayout.TYPE));
        return new RowDataConverter(plan(targetColumns), types.apply(consumedType()), layout);
    }

    /**
     * The DOCUMENT_PLAN frame.
     *
     * @param targetColumns as above
     * @throws ValidationException when two columns stand in each other's way, or one has a type that JSON does not have
     */
    byte[] plan(int[][] targetColumns) {
        Set<Integer> written = written(targetColumns);
        boolean keyed = !settings.primaryKey().isEmpty();
        boolean soft = keyed && settings.deleteMode() == DeleteMode.SOFT;
        Map<String, String> mark = soft ? mark() : Map.of();
        ColumnPaths.checkDisjoint(paths(written), Set.of());
        checkTimeToLive(paths(written));
        ColumnPaths.checkDisjoint(paths(settings.primaryKey()), mark.keySet());
        // A soft delete leaves what the document has besides, and finds its key in what is written, which no patch
        // does.
        DocumentPlan.Deletion deletion = soft ? DocumentPlan.Deletion.UPDATE : DocumentPlan.Deletion.DELETE;
        DocumentPlan plan = new DocumentPlan(settings.format(), keyed ? deletion : DocumentPlan.Deletion.NONE);
        List<String> names = DataType.getFieldNames(settings.physicalType());
        List<DataType> types = DataType.getFieldDataTypes(settings.physicalType());
        for (int i = 0; i < names.size(); i++) {
            plan.path(
                    names.get(i),
                    settings.paths().get(i),
                    written.contains(i),
                    settings.primaryKey().contains(i),
                    PlanTypes.written(names.get(i), types.get(i).getLogicalType()));
        }
        metadataKeys.forEach(key -> WritableMetadata.of(key).add(plan));
        mark.forEach(plan::constant);
        return plan.frame();
    }

    /** The metadata is a field of the document, and a document with two fields of one name is none that anybody reads alike. */
    private void checkTimeToLive(Map<String, List<String>> written) {
        if (!metadataKeys.contains(WritableMetadata.TTL.key)) {
            return;
        }
        written.forEach((column, path) -> {
            if (!path.isEmpty() && path.get(0).equals(WritableMetadata.TTL.key)) {
                throw new ValidationException(
                        "column '" + column + "' is at " + ColumnPaths.pointer(path)
                                + ", and the metadata 'ttl' of the table is written there, too; leave one of them out, or declare the metadata as VIRTUAL");
            }
        });
    }

    /** The rows as they come: metadata stands behind the other columns. */
    private DataType consumedType() {
        List<DataType> types = new ArrayList<>(DataType.getFieldDataTypes(settings.physicalType()));
        metadataKeys.forEach(key -> types.add(WritableMetadata.of(key).type));
        // Metadata may have the name of a column.
        return DataTypes.ROW(IntStream.range(0, types.size())
                .mapToObj(column -> DataTypes.FIELD("c" + column, types.get(column)))
                .toArray(DataTypes.Field[]::new));
    }

    private Set<Integer> written(int[][] targetColumns) {
        int columns = settings.paths().size();
        Set<Integer> all = IntStream.range(0, columns)
                .filter(column -> !OF_THE_SERVICE.contains(settings.paths().get(column)))
                .boxed()
                .collect(Collectors.toSet());
        if (targetColumns == null || !PARTIAL.contains(settings.options().getOrDefault("sink.write-strategy", ""))) {
            return all;
        }
        Set<Integer> targets =
                Arrays.stream(targetColumns).map(target -> target[0]).collect(Collectors.toSet());
        all.removeIf(column -> !targets.contains(settings.positions().get(column)));
        return all;
    }

    private Map<String, List<String>> paths(Set<Integer> positions) {
        List<String> names = DataType.getFieldNames(settings.physicalType());
        Map<String, List<String>> paths = new LinkedHashMap<>();
        for (int i = 0; i < names.size(); i++) {
            if (positions.contains(i)) {
                paths.put(names.get(i), settings.paths().get(i));
            }
        }
        return paths;
    }

    private Map<String, String> mark() {
        Map<String, String> mark = new TreeMap<>(Map.of(settings.softDeleteField(), "true"));
        if (settings.softDeleteTtl() != null) {
            mark.put("ttl", Long.toString(settings.softDeleteTtl().toSeconds()));
        }
        return mark;
    }

    @Override
    public Map<String, DataType> listWritableMetadata() {
        return WritableMetadata.types();
    }

    @Override
    public void applyWritableMetadata(List<String> keys, DataType consumedDataType) {
        metadataKeys = List.copyOf(keys);
    }

    @Override
    public DynamicTableSink copy() {
        CosmosDBDynamicSink copy = new CosmosDBDynamicSink(settings);
        copy.metadataKeys = metadataKeys;
        return copy;
    }

    @Override
    public String asSummaryString() {
        return "Cosmos DB";
    }
}
