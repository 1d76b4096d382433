package io.cosmosflink.testcontainers;

// readme:begin
import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

@Tag("container")
class OrdersITCase {
    @RegisterExtension
    static final MiniClusterExtension FLINK = new MiniClusterExtension();

    @Test
    @Timeout(60)
    void ordersArriveAlthoughTheAccountIsBusy() throws Exception {
        try (CosmosLocalContainer cosmos = new CosmosLocalContainer()
                .withDatabase("shop")
                .withCosmosContainer("orders:/customerId:2")
                .withTls()) {
            cosmos.start();
            cosmos.admin().addFault(Fault.on("bulk").count(3).status(429).retryAfter(Duration.ofMillis(50)));

            CosmosDBOptions options = CosmosDBOptions.of(cosmos.options());
            StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
            env.fromData("a", "b", "c")
                    .sinkTo(CosmosDBSink.<String>builder()
                            .options(options)
                            .database("shop")
                            .container("orders")
                            .converter(CosmosDBElementConverter.<String>builder()
                                    .id(id -> id)
                                    .partitionKey(id -> "c1")
                                    .document(id -> ("{\"id\":\"" + id + "\",\"customerId\":\"c1\"}")
                                            .getBytes(StandardCharsets.UTF_8))
                                    .build())
                            .build());
            env.execute();
            assertThat(cosmos.admin().documents("shop", "orders").values()).containsExactlyInAnyOrder(3L, 0L);

            CosmosDBSource<String> source = CosmosDBSource.<String>builder()
                    .options(options)
                    .database("shop")
                    .container("orders")
                    .startup("earliest")
                    .deserializer(CosmosDBDeserializationSchema.string())
                    .build();
            // The source never ends: take what is expected.
            assertThat(env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders")
                            .executeAndCollect(3))
                    .hasSize(3)
                    .allMatch(order -> order.contains("\"customerId\":\"c1\""));
        }
    }
}
// readme:end
