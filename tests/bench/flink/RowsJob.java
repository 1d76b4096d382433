import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.bridge.java.StreamStatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.logical.RowType;

/**
 * Five columns of the orders of a container, in three ways, into nothing, the container as often at once as is said: {@code rows CONTAINER TIMES} as a table of
 * the connector, {@code json ..} with flink-json's streaming parser behind the connector's source of documents, and {@code binary ..} with what it
 * makes brought into the form that the connector's rows have. {@code raw ..} reads the documents alone. The account comes from the environment.
 */
public final class RowsJob {
    private static final String COLUMNS =
            "id STRING, customerId STRING, amount DECIMAL(10, 2), createdAt TIMESTAMP_LTZ(3), `_ts` BIGINT";

    private static final RowType TYPE = (RowType) DataTypes.ROW(
                    DataTypes.FIELD("id", DataTypes.STRING()),
                    DataTypes.FIELD("customerId", DataTypes.STRING()),
                    DataTypes.FIELD("amount", DataTypes.DECIMAL(10, 2)),
                    DataTypes.FIELD("createdAt", DataTypes.TIMESTAMP_LTZ(3)),
                    DataTypes.FIELD("_ts", DataTypes.BIGINT()))
            .getLogicalType();

    private RowsJob() {}

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        Configuration settings = new Configuration();
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        env.configure(settings);
        String what = arguments[0];
        String container = arguments[1];
        int times = Integer.parseInt(arguments[2]);
        if (what.equals("rows")) {
            rows(env, container, times);
        } else {
            for (int i = 0; i < times; i++) {
                documents(env, what, container, "documents " + i);
            }
        }
        env.execute("cosmosflink-bench-" + what);
    }

    private static void rows(StreamExecutionEnvironment env, String container, int times) {
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        tables.executeSql("CREATE TEMPORARY TABLE nothing (" + COLUMNS + ") WITH ('connector' = 'blackhole')");
        StreamStatementSet all = tables.createStatementSet();
        for (int i = 0; i < times; i++) {
            // One table each, or the planner would read it once for all.
            tables.executeSql("CREATE TEMPORARY TABLE documents_" + i + " (" + COLUMNS
                    + ", currency STRING, source STRING) WITH ('connector' = 'cosmosdb', 'scan.mode' = 'change-feed', 'endpoint' = '"
                    + System.getenv("COSMOS_URI") + "', 'database' = '" + System.getenv("COSMOS_DB")
                    + "', 'auth.key-file' = '" + System.getenv("COSMOS_KEY_FILE") + "', 'container' = '" + container + "')");
            all.addInsertSql(
                    "INSERT INTO nothing SELECT id, customerId, amount, createdAt, `_ts` FROM documents_" + i);
        }
        all.attachAsDataStream();
    }

    private static void documents(StreamExecutionEnvironment env, String what, String container, String name) {
        if (what.equals("raw")) {
            read(env, CosmosDBDeserializationSchema.raw(), container, name).sinkTo(new DiscardingSink<>());
            return;
        }
        InternalTypeInfo<RowData> info = InternalTypeInfo.of(TYPE);
        DataStream<RowData> rows = read(
                env,
                CosmosDBDeserializationSchema.of(new JsonParserRowDataDeserializationSchema(
                        TYPE, info, false, false, TimestampFormat.ISO_8601)),
                container,
                name);
        if (what.equals("binary")) {
            rows = rows.map(new Binary()).returns(info);
        }
        rows.sinkTo(new DiscardingSink<>());
    }

    private static <T> DataStream<T> read(
            StreamExecutionEnvironment env, CosmosDBDeserializationSchema<T> schema, String container, String name) {
        CosmosDBOptions options = CosmosDBOptions.fromEnvironmentAndArguments(Map.of(), System.getenv());
        return env.fromSource(
                CosmosDBSource.<T>builder()
                        .options(options)
                        .container(container)
                        .deserializer(schema)
                        .build(),
                WatermarkStrategy.noWatermarks(),
                name);
    }

    private static final class Binary extends RichMapFunction<RowData, RowData> {
        private static final long serialVersionUID = 1L;

        private transient RowDataSerializer serializer;

        @Override
        public void open(OpenContext context) {
            serializer = new RowDataSerializer(TYPE);
        }

        @Override
        public RowData map(RowData row) {
            return serializer.toBinaryRow(row);
        }
    }
}
