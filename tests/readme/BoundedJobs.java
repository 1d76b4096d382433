package io.cosmosflink.readme;

import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import io.cosmosflink.readme.OrdersJob.Order;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.connector.base.source.hybrid.HybridSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** The code of docs/bounded.md: each block there stands here, which {@code cargo xtask test} compares and compiles. */
final class BoundedJobs {
    private BoundedJobs() {}

    static void upToTheStart(StreamExecutionEnvironment env, CosmosDBOptions account) throws Exception {
        env.setRuntimeMode(RuntimeExecutionMode.BATCH);
        CosmosDBSource<Order> source = CosmosDBSource.<Order>builder()
                .options(account).container("events-source").bounded("latest")
                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders").print();
        env.execute("catch up and stop");
    }

    static CosmosDBSource<Order> openOrders(CosmosDBOptions account) {
        CosmosDBSource<Order> source = CosmosDBSource.<Order>builder()
                .options(account).container("events-source")
                .query("SELECT c.id, c.region, c.amount FROM c WHERE c.amount > @least")
                .queryParameters("{\"@least\": 100}")
                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build();
        return source;
    }

    static CosmosDBSource<Order> byKey(CosmosDBOptions account) {
        CosmosDBSource<Order> source = CosmosDBSource.<Order>builder()
                .options(account).container("events-source")
                .readMany("[{\"id\":\"order-7\",\"partitionKey\":[\"eu\"]},{\"id\":\"order-8\",\"partitionKey\":[\"us\"]}]")
                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build();
        return source;
    }

    // Flink names its enumerators without their types.
    @SuppressWarnings("rawtypes")
    static void tableThenChanges(StreamExecutionEnvironment env, CosmosDBOptions account) {
        CosmosDBSource<Order> table = CosmosDBSource.<Order>builder()
                .options(account).container("events-source")
                .query("SELECT * FROM c").bounded("latest")
                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build();
        Source<Order, ?, ?> source = HybridSource.builder(table)
                .addSource(
                        context -> CosmosDBSource.<Order>builder()
                                .options(account).container("events-source")
                                .startBehind(context.getPreviousEnumerator())
                                .deserializer(CosmosDBDeserializationSchema.pojo(Order.class)).build(),
                        Boundedness.CONTINUOUS_UNBOUNDED)
                .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "orders", table.getProducedType()).uid("orders");
    }
}
