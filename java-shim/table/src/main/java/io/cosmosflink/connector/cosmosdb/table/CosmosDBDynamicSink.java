package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.table.CosmosDBConnectorOptions.DeleteMode;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.OperationKind;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
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
     * @param sqlTimestamps whether timestamps are written as SQL writes them
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
            boolean sqlTimestamps,
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
                    .converter(converter(context.getTargetColumns().orElse(null)))
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

    /** @param targetColumns those that the statement names, by their positions among all columns; null for all */
    RowDataConverter converter(int[][] targetColumns) {
        Set<Integer> written = written(targetColumns);
        DocumentEncoder documents = JsonDocumentEncoder.of(columns(written), Map.of(), settings.sqlTimestamps());
        int etag = position(WritableMetadata.ETAG);
        int timeToLive = position(WritableMetadata.TTL);
        if (settings.primaryKey().isEmpty()) {
            return new RowDataConverter(documents, null, OperationKind.DELETE, etag, timeToLive);
        }
        boolean soft = settings.deleteMode() == DeleteMode.SOFT;
        DocumentEncoder deleted = JsonDocumentEncoder.of(
                columns(settings.primaryKey()), soft ? mark() : Map.of(), settings.sqlTimestamps());
        // It leaves what the document has besides, and finds its key in what is written, which no patch does.
        OperationKind delete = soft ? OperationKind.BULK_UPDATE : OperationKind.DELETE;
        return new RowDataConverter(documents, deleted, delete, etag, timeToLive);
    }

    private Set<Integer> written(int[][] targetColumns) {
        int columns = settings.paths().size();
        Set<Integer> all = IntStream.range(0, columns).boxed().collect(Collectors.toSet());
        if (targetColumns == null || !PARTIAL.contains(settings.options().getOrDefault("sink.write-strategy", ""))) {
            return all;
        }
        Set<Integer> targets =
                Arrays.stream(targetColumns).map(target -> target[0]).collect(Collectors.toSet());
        all.removeIf(column -> !targets.contains(settings.positions().get(column)));
        return all;
    }

    private List<JsonDocumentEncoder.Column> columns(Set<Integer> positions) {
        List<String> names = DataType.getFieldNames(settings.physicalType());
        List<DataType> types = DataType.getFieldDataTypes(settings.physicalType());
        List<JsonDocumentEncoder.Column> columns = new ArrayList<>();
        for (int i = 0; i < names.size(); i++) {
            if (positions.contains(i)) {
                columns.add(new JsonDocumentEncoder.Column(
                        names.get(i), i, settings.paths().get(i), types.get(i).getLogicalType()));
            }
        }
        return columns;
    }

    private Map<String, String> mark() {
        Map<String, String> mark = new TreeMap<>(Map.of(settings.softDeleteField(), "true"));
        if (settings.softDeleteTtl() != null) {
            mark.put("ttl", Long.toString(settings.softDeleteTtl().toSeconds()));
        }
        return mark;
    }

    /** Metadata stands behind the other columns. */
    private int position(WritableMetadata metadata) {
        int at = metadataKeys.indexOf(metadata.key);
        return at < 0 ? RowDataConverter.NONE : settings.paths().size() + at;
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
