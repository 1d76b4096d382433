package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.cfg.PackageVersion;
import io.cosmosflink.core.Operation;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.test.junit5.MiniClusterExtension;
import org.apache.flink.util.CloseableIterator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Documents through the Jackson that the job brings. Runs twice: with the connector's own version, and with the oldest that it takes. */
class JacksonITCase {
    private static final int DOCUMENTS = 20;

    @RegisterExtension
    static final MiniClusterExtension CLUSTER = new MiniClusterExtension(new MiniClusterResourceConfiguration.Builder()
            .setNumberTaskManagers(1)
            .setNumberSlotsPerTaskManager(2)
            .build());

    private LocalCosmos cosmos;

    /** A POJO in Flink's sense, with an annotation of the job's own Jackson. */
    public static class Order {
        public String id;

        @JsonProperty("sum")
        public BigDecimal amount;
    }

    @BeforeEach
    void start() throws Exception {
        cosmos = LocalCosmos.start("events:/id:2");
        cosmos.write(
                "events",
                IntStream.range(0, DOCUMENTS)
                        .mapToObj(i -> Operation.upsert(
                                "o" + i,
                                "[\"o" + i + "\"]",
                                ("{\"id\":\"o" + i + "\",\"sum\":" + i + ".10,\"more\":[{}]}")
                                        .getBytes(StandardCharsets.UTF_8)))
                        .toList());
    }

    @AfterEach
    void stop() {
        cosmos.close();
    }

    @SuppressWarnings("try") // close() of the iterator may throw what it likes
    private <T> List<T> read(CosmosDBDeserializationSchema<T> schema) throws Exception {
        CosmosDBSource<T> source = CosmosDBSource.<T>builder()
                .options(cosmos.options("events"))
                .deserializer(schema)
                .build();
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        try (CloseableIterator<T> all = env.fromSource(source, WatermarkStrategy.noWatermarks(), "events")
                .rebalance()
                .executeAndCollect("events")) {
            return IntStream.range(0, DOCUMENTS).mapToObj(i -> all.next()).toList();
        }
    }

    @Test
    void theVersionIsTheOneThatThisRunIsFor() {
        String expected = System.getProperty("cosmosflink.expected-jackson", PackageVersion.VERSION.toString());
        assertThat(PackageVersion.VERSION).hasToString(expected);
    }

    @Test
    void treesKeepEveryDigit() throws Exception {
        assertThat(read(CosmosDBDeserializationSchema.jsonNode()))
                .hasSize(DOCUMENTS)
                .allSatisfy(node -> assertThat(node.get("sum").isBigDecimal()).isTrue())
                .extracting(node -> node.get("sum").decimalValue().stripTrailingZeros())
                .contains(new BigDecimal("7.1"));
    }

    @Test
    void pojosFollowTheJobsOwnAnnotations() throws Exception {
        assertThat(read(CosmosDBDeserializationSchema.pojo(Order.class)))
                .filteredOn(o -> o.id.equals("o7"))
                .singleElement()
                .satisfies(o -> assertThat(o.amount).isEqualByComparingTo("7.1"));
    }
}
