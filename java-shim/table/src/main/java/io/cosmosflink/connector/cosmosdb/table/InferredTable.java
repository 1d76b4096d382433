package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.ContainerInfo;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;

/** A container as a table, with the columns that the core has found in its documents. */
final class InferredTable {
    private InferredTable() {}

    static CatalogTable of(ObjectPath path, ContainerInfo container, Map<String, String> account) {
        Map<String, String> options = options(path, account);
        Schema.Builder schema = Schema.newBuilder();
        for (ContainerInfo.Column column : container.columns()) {
            schema.column(column.name(), type(column.type()));
            if (!column.path().equals(List.of(column.name()))) {
                options.put(ColumnPaths.option(column.name()), ColumnPaths.pointer(column.path()));
            }
        }
        List<String> primaryKey = container.primaryKey();
        if (!primaryKey.isEmpty()) {
            schema.primaryKey(primaryKey);
            if (Indexes.areKnown()) {
                index(schema, container);
            }
        }
        return CatalogTable.newBuilder().schema(schema.build()).options(options).build();
    }

    /** By its whole key a document is read alone, and by its partition key from one partition. */
    private static void index(Schema.Builder schema, ContainerInfo container) {
        List<String> partitionKey = container.columns().stream()
                .filter(column -> container.keys().contains(column.path()))
                .map(ContainerInfo.Column::name)
                .toList();
        if (!partitionKey.isEmpty() && !partitionKey.equals(container.primaryKey())) {
            Indexes.add(schema, partitionKey);
        }
        Indexes.add(schema, container.primaryKey());
    }

    /** What each table of the catalog has: so a table that is {@code LIKE} it needs nothing else, in whatever catalog. */
    static Map<String, String> options(ObjectPath path, Map<String, String> account) {
        Map<String, String> options = new TreeMap<>(account);
        options.put(FactoryUtil.CONNECTOR.key(), CosmosDBDynamicTableFactory.IDENTIFIER);
        options.put(CosmosDBConnectorOptions.DATABASE.key(), path.getDatabaseName());
        options.put(CosmosDBConnectorOptions.CONTAINER.key(), path.getObjectName());
        return options;
    }

    private static DataType type(ContainerInfo.Type type) {
        DataType found =
                switch (type.kind()) {
                    case BOOLEAN -> DataTypes.BOOLEAN();
                    case BIGINT -> DataTypes.BIGINT();
                    case DOUBLE -> DataTypes.DOUBLE();
                    case DECIMAL -> DataTypes.DECIMAL(type.precision(), type.scale());
                    case STRING -> DataTypes.STRING();
                    case TIMESTAMP -> DataTypes.TIMESTAMP(type.precision());
                    case TIMESTAMP_LTZ -> DataTypes.TIMESTAMP_LTZ(type.precision());
                    case ARRAY -> DataTypes.ARRAY(type(type.element()));
                    case ROW ->
                        DataTypes.ROW(type.fields().stream()
                                .map(field -> DataTypes.FIELD(field.name(), type(field.type())))
                                .toList());
                    case VARIANT -> Variants.type();
                };
        return type.nullable() ? found.nullable() : found.notNull();
    }
}
