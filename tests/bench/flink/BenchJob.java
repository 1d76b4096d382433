import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * What the benchmark runs on a TaskManager beside the plain loops: {@code read CONTAINER TIMES} reads a container into nothing, as often
 * at once, {@code write CONTAINER DISTINCT BYTES KEYS} upserts DISTINCT documents of about as many bytes with as many partition keys again and again, until it is
 * cancelled, and {@code make CONTAINER DISTINCT BYTES KEYS} makes the same documents and drops them. The account comes from the environment.
 */
public final class BenchJob {
    /** About the bytes of a document without its lines, as in the plain loop. */
    private static final int BARE = 175;

    /** What is ordered, as in the plain loop. */
    private static final String LINE = "{\"sku\":\"sku-004711\",\"quantity\":2,\"price\":19.99,\"gift\":false}";

    private BenchJob() {}

    public static void main(String[] arguments) throws Exception {
        CosmosDBOptions options = CosmosDBOptions.fromEnvironmentAndArguments(Map.of(), System.getenv());
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        Configuration settings = new Configuration();
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        settings.set(PipelineOptions.GENERIC_TYPES, false);
        env.configure(settings);
        String container = arguments[1];
        if (arguments[0].equals("read")) {
            for (int i = 0; i < Integer.parseInt(arguments[2]); i++) {
                env.fromSource(
                                CosmosDBSource.<CosmosDBRecord>builder()
                                        .options(options)
                                        .container(container)
                                        .deserializer(CosmosDBDeserializationSchema.raw())
                                        .build(),
                                WatermarkStrategy.noWatermarks(),
                                "documents " + i)
                        .sinkTo(new DiscardingSink<>());
            }
        } else {
            long distinct = Long.parseLong(arguments[2]);
            int many = Math.max(0, Integer.parseInt(arguments[3]) - BARE) / (LINE.length() + 1);
            String lines = String.join(",", Collections.nCopies(many, LINE));
            int keys = Integer.parseInt(arguments[4]);
            SingleOutputStreamOperator<byte[]> documents = env.fromSequence(0, Long.MAX_VALUE - 1)
                    .map(i -> document(i % distinct, lines, keys))
                    .returns(PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
            if (arguments[0].equals("make")) {
                documents.sinkTo(new DiscardingSink<>());
            } else {
                documents.sinkTo(CosmosDBSink.<byte[]>builder()
                        .options(options)
                        .container(container)
                        .converter(CosmosDBElementConverter.<byte[]>builder()
                                .id(BenchJob::id)
                                .partitionKey(BenchJob::key)
                                .document(d -> d)
                                .build())
                        .build());
            }
        }
        env.execute("cosmosflink-bench-" + arguments[0]);
    }

    /** The same document that the plain loop makes. */
    private static byte[] document(long i, String lines, int keys) {
        StringBuilder out = new StringBuilder(BARE + lines.length());
        out.append("{\"id\":\"order-");
        padded(out, i, 12);
        out.append("\",\"customerId\":\"customer-");
        padded(out, i % keys, 5);
        out.append("\",\"amount\":").append(i % 900).append('.');
        padded(out, i % 100, 2);
        out.append(",\"currency\":\"EUR\",\"createdAt\":\"2026-11-24T10:15:30.123Z\",\"source\":\"eu-west\",\"lines\":[")
                .append(lines)
                .append("]}");
        return out.toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    private static void padded(StringBuilder out, long value, int width) {
        String digits = Long.toString(value);
        for (int i = digits.length(); i < width; i++) {
            out.append('0');
        }
        out.append(digits);
    }

    private static String id(byte[] document) {
        return new String(document, 7, 18, StandardCharsets.ISO_8859_1);
    }

    private static String key(byte[] document) {
        return new String(document, 41, 14, StandardCharsets.ISO_8859_1);
    }
}
