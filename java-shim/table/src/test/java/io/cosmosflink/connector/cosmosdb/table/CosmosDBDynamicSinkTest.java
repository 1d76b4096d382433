package io.cosmosflink.connector.cosmosdb.table;

import static io.cosmosflink.connector.cosmosdb.table.Tables.KEY;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.expressions.ValueLiteralExpression;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.InstantiationUtil;
import org.junit.jupiter.api.Test;

class CosmosDBDynamicSinkTest {
    /** A metadata column stands before the last physical one, as a statement may have it. */
    private static final List<Column> COLUMNS = List.of(
            Column.physical("id", DataTypes.STRING().notNull()),
            Column.physical("customerId", DataTypes.STRING().notNull()),
            Column.metadata("etag", DataTypes.STRING(), null, false),
            Column.physical("amount", DataTypes.INT()));

    private static GenericRowData row(RowKind kind, Object amount, Object... metadata) {
        List<Object> values = new ArrayList<>(List.of(StringData.fromString("o1"), StringData.fromString("c1")));
        values.add(amount);
        values.addAll(Arrays.asList(metadata));
        return GenericRowData.ofKind(kind, values.toArray());
    }

    private static void writes(
            RowDataConverter converter, GenericRowData row, OperationKind kind, String etag, String document)
            throws Exception {
        // It travels in the job graph.
        RowDataConverter onTask = InstantiationUtil.clone(converter);
        Operation operation = onTask.apply(row, null).operation();
        assertThat(operation.type()).isEqualTo(kind);
        assertThat(operation.id()).isEmpty();
        assertThat(operation.partitionKey()).isEmpty();
        assertThat(operation.ifMatch()).isEqualTo(etag);
        assertThat(new String(operation.document(), StandardCharsets.UTF_8)).isEqualTo(document);
    }

    @Test
    void aRowIsWrittenByTheStrategyAndDeletedByItsKey() throws Exception {
        RowDataConverter converter = Tables.sink(COLUMNS, KEY, Map.of()).converter(null, Tables::information);
        String document = "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":5}";
        writes(converter, row(RowKind.INSERT, 5), OperationKind.DEFAULT, "", document);
        writes(converter, row(RowKind.UPDATE_AFTER, 5), OperationKind.DEFAULT, "", document);
        writes(converter, row(RowKind.DELETE, null), OperationKind.DELETE, "", "{\"id\":\"o1\",\"customerId\":\"c1\"}");
    }

    @Test
    void metadataIsExpectedAndLived() throws Exception {
        CosmosDBDynamicSink sink = Tables.sink(COLUMNS, KEY, Map.of());
        sink.applyWritableMetadata(List.of("etag", "ttl"), DataTypes.STRING());
        RowDataConverter converter = ((CosmosDBDynamicSink) sink.copy()).converter(null, Tables::information);
        writes(
                converter,
                row(RowKind.INSERT, 5, StringData.fromString("\"e1\""), 60),
                OperationKind.DEFAULT,
                "\"e1\"",
                "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":5,\"ttl\":60}");
        writes(
                converter,
                row(RowKind.DELETE, null, StringData.fromString("\"e1\""), null),
                OperationKind.DELETE,
                "\"e1\"",
                "{\"id\":\"o1\",\"customerId\":\"c1\"}");
        writes(
                converter,
                row(RowKind.INSERT, null, null, null),
                OperationKind.DEFAULT,
                "",
                "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":null}");
    }

    @Test
    void aTimeToLiveIsOneOfTheService() throws Exception {
        CosmosDBDynamicSink sink = Tables.sink(COLUMNS, KEY, Map.of());
        sink.applyWritableMetadata(List.of("ttl"), DataTypes.STRING());
        Operation refused = sink.converter(null, Tables::information)
                .apply(row(RowKind.INSERT, 5, 0), null)
                .operation();
        assertThat(refused.type()).isEqualTo(OperationKind.REFUSED);
        assertThat(refused.ifMatch()).startsWith("the time to live is 0 s; it must be at least 1");
    }

    /** Two fields of one name, of which each reader takes another one. */
    @Test
    void aTimeToLiveIsWrittenOnce() {
        for (String path : List.of("/ttl", "/ttl/seconds")) {
            CosmosDBDynamicSink sink = Tables.sink(COLUMNS, KEY, Map.of("fields.amount.path", path));
            assertThat(sink.plan(null)).isNotEmpty();
            sink.applyWritableMetadata(List.of("ttl"), DataTypes.STRING());
            assertThatThrownBy(() -> sink.plan(null))
                    .isInstanceOf(ValidationException.class)
                    .hasMessageContaining("column 'amount' is at " + path);
        }
        // Where the statement does not name it, it is not written.
        CosmosDBDynamicSink patches =
                Tables.sink(COLUMNS, KEY, Map.of("fields.amount.path", "/ttl", "sink.write-strategy", "bulk-update"));
        patches.applyWritableMetadata(List.of("ttl"), DataTypes.STRING());
        assertThat(patches.plan(new int[][] {{0}, {1}})).isNotEmpty();
    }

    /** Metadata that is read only is no column of what is written, wherever it stands. */
    @Test
    void theKeyIsFoundBehindOtherColumns() throws Exception {
        List<Column> columns = List.of(
                Column.metadata("rid", DataTypes.STRING(), null, true),
                Column.physical("amount", DataTypes.INT()),
                Column.computed("twice", new ValueLiteralExpression(2)),
                Column.physical("name", DataTypes.STRING().notNull()),
                Column.physical("customerId", DataTypes.STRING().notNull()));
        CosmosDBDynamicSink sink = Tables.sink(
                columns,
                List.of("name", "customerId"),
                Map.of("fields.name.path", "/id", "fields.customerId.path", "/c/id"));
        GenericRowData row =
                GenericRowData.ofKind(RowKind.DELETE, null, StringData.fromString("o1"), StringData.fromString("c1"));
        writes(
                sink.converter(null, Tables::information),
                row,
                OperationKind.DELETE,
                "",
                "{\"id\":\"o1\",\"c\":{\"id\":\"c1\"}}");
    }

    @Test
    void aSoftDeleteMarksTheDocument() throws Exception {
        RowDataConverter converter = Tables.sink(
                        COLUMNS,
                        KEY,
                        Map.of(
                                "sink.delete-mode", "soft",
                                "sink.soft-delete.field", "gone",
                                "sink.soft-delete.ttl", "1 h"))
                .converter(null, Tables::information);
        writes(
                converter,
                row(RowKind.DELETE, null),
                OperationKind.BULK_UPDATE,
                "",
                "{\"id\":\"o1\",\"customerId\":\"c1\",\"gone\":true,\"ttl\":3600}");
    }

    @Test
    void aPatchWritesTheColumnsThatTheStatementNames() throws Exception {
        int[][] amountAndKey = {{0}, {1}, {3}};
        int[][] key = {{0}, {1}};
        CosmosDBDynamicSink patches = Tables.sink(COLUMNS, KEY, Map.of("sink.write-strategy", "patch"));
        String named = "{\"id\":\"o1\",\"customerId\":\"c1\"}";
        String all = "{\"id\":\"o1\",\"customerId\":\"c1\",\"amount\":null}";
        writes(
                patches.converter(key, Tables::information),
                row(RowKind.INSERT, null),
                OperationKind.DEFAULT,
                "",
                named);
        writes(
                patches.converter(amountAndKey, Tables::information),
                row(RowKind.INSERT, null),
                OperationKind.DEFAULT,
                "",
                all);
        writes(patches.converter(null, Tables::information), row(RowKind.INSERT, null), OperationKind.DEFAULT, "", all);

        CosmosDBDynamicSink upserts = Tables.sink(COLUMNS, KEY, Map.of());
        writes(upserts.converter(key, Tables::information), row(RowKind.INSERT, null), OperationKind.DEFAULT, "", all);
    }

    /** Flink sends it where an update may have another primary key. */
    @Test
    void aRowAsItWasBeforeAnUpdateIsDeleted() throws Exception {
        RowDataConverter converter = Tables.sink(COLUMNS, KEY, Map.of()).converter(null, Tables::information);
        String document = "{\"id\":\"o1\",\"customerId\":\"c1\"}";
        writes(converter, row(RowKind.UPDATE_BEFORE, 4), OperationKind.DELETE, "", document);
    }
}
