package io.cosmosflink.connector.cosmosdb.table;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.ObjectIdentifier;
import org.apache.flink.table.catalog.ResolvedCatalogTable;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.catalog.UniqueConstraint;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** Tables as the planner gives them to a factory. */
final class Tables {
    static final List<Column> ORDERS = List.of(
            Column.physical("id", DataTypes.STRING().notNull()),
            Column.physical("customerId", DataTypes.STRING().notNull()),
            Column.physical("amount", DataTypes.DECIMAL(20, 2)),
            Column.physical(
                    "address",
                    DataTypes.ROW(
                            DataTypes.FIELD("city", DataTypes.STRING()), DataTypes.FIELD("zip", DataTypes.INT()))));

    static final List<String> KEY = List.of("id", "customerId");

    private Tables() {}

    static CosmosDBDynamicSource source(
            List<Column> columns, List<String> key, Map<String, String> options, Configuration job) {
        return (CosmosDBDynamicSource) FactoryUtil.createDynamicTableSource(
                null,
                ObjectIdentifier.of("catalog", "database", "orders"),
                table(columns, key, options),
                Map.of(),
                job,
                Tables.class.getClassLoader(),
                false);
    }

    static CosmosDBDynamicSource source(List<Column> columns, List<String> key, Map<String, String> options) {
        return source(columns, key, options, new Configuration());
    }

    static CosmosDBDynamicSink sink(List<Column> columns, List<String> key, Map<String, String> options) {
        return (CosmosDBDynamicSink) FactoryUtil.createDynamicTableSink(
                null,
                ObjectIdentifier.of("catalog", "database", "orders"),
                table(columns, key, options),
                Map.of(),
                new Configuration(),
                Tables.class.getClassLoader(),
                false);
    }

    /** What a planner gives for a type. */
    static TypeInformation<RowData> information(DataType type) {
        return InternalTypeInfo.of((RowType) type.getLogicalType());
    }

    // The constructor that every supported Flink has.
    @SuppressWarnings("deprecation")
    static ResolvedCatalogTable table(List<Column> columns, List<String> key, Map<String, String> options) {
        Map<String, String> all = new TreeMap<>(Map.of(
                "connector", "cosmosdb",
                "endpoint", "https://account.documents.azure.com:443/",
                "database", "orders",
                "container", "events",
                "auth.key-file", "/run/secrets/cosmos-key"));
        all.putAll(options);
        UniqueConstraint primaryKey = key.isEmpty() ? null : UniqueConstraint.primaryKey("pk", key);
        ResolvedSchema schema = new ResolvedSchema(columns, List.of(), primaryKey);
        CatalogTable table = CatalogTable.newBuilder()
                .schema(Schema.newBuilder().fromResolvedSchema(schema).build())
                .options(all)
                .build();
        return new ResolvedCatalogTable(table, schema);
    }
}
