package io.cosmosflink.readme;

import static org.apache.flink.configuration.ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** The job of README.md: what stands there is what lies between the two marks, which {@code cargo xtask test} compares and compiles. */
final class OrdersJob {
    private static final ObjectMapper JSON = new ObjectMapper();

    private OrdersJob() {}

    /** A POJO in Flink's sense. */
    public static class Order {
        public String id;
        public String region;
        public BigDecimal amount;

        byte[] toJson() {
            try {
                return JSON.writeValueAsBytes(this);
            } catch (JsonProcessingException e) {
                throw new IllegalStateException("order '" + id + "' cannot be written", e);
            }
        }
    }

    // readme:begin
    static void define(StreamExecutionEnvironment env) {
        Configuration settings = new Configuration()
                .set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofSeconds(10))
                .set(CheckpointingOptions.TOLERABLE_FAILURE_NUMBER, 10)
                .set(CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION, RETAIN_ON_CANCELLATION);
        env.configure(settings);
        CosmosDBOptions account = CosmosDBOptions.of(Map.of(
                "endpoint", "https://ACCOUNT.documents.azure.com:443/",
                "auth.key-file", "/run/cosmos/key",
                "database", "cosmosflink"));
        CosmosDBSource<Order> source = CosmosDBSource.<Order>builder()
                .options(account).container("events-source").startup("earliest")
                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build();
        CosmosDBSink<Order> sink = CosmosDBSink.<Order>builder()
                .options(account).container("events-processed")
                .converter(CosmosDBElementConverter.<Order>builder()
                        .id(o -> o.id).partitionKey(o -> o.region).document(Order::toJson).build()).build();
        // A feed range without changes must not hold event time back.
        WatermarkStrategy<Order> watermarks =
                WatermarkStrategy.<Order>forMonotonousTimestamps().withIdleness(Duration.ofSeconds(10));
        env.fromSource(source, watermarks, "orders").uid("orders")
                .filter(o -> o.amount.signum() > 0)
                .sinkTo(sink).uid("processed");
    }
    // readme:end
}
