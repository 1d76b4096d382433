package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.connector.testframe.environment.MiniClusterTestEnvironment;
import org.apache.flink.connector.testframe.external.ExternalContextFactory;
import org.apache.flink.connector.testframe.external.ExternalSystemDataReader;
import org.apache.flink.connector.testframe.external.sink.DataStreamSinkV2ExternalContext;
import org.apache.flink.connector.testframe.external.sink.TestingSinkSettings;
import org.apache.flink.connector.testframe.junit.annotations.TestContext;
import org.apache.flink.connector.testframe.junit.annotations.TestEnv;
import org.apache.flink.connector.testframe.junit.annotations.TestExternalSystem;
import org.apache.flink.connector.testframe.junit.annotations.TestSemantics;
import org.apache.flink.connector.testframe.testsuites.SinkTestSuiteBase;
import org.apache.flink.core.execution.CheckpointingMode;

/** Flink's own suite for sinks. Upserts under the record's own id make at-least-once as good as exactly-once. */
class CosmosDBSinkSuiteITCase extends SinkTestSuiteBase<String> {
    @TestSemantics
    CheckpointingMode[] semantics = {CheckpointingMode.EXACTLY_ONCE, CheckpointingMode.AT_LEAST_ONCE};

    @TestEnv
    MiniClusterTestEnvironment cluster = new MiniClusterTestEnvironment();

    @TestExternalSystem
    ManyContainers containers = new ManyContainers();

    @TestContext
    ExternalContextFactory<Context> contexts = name -> new Context(containers);

    static final class Context implements DataStreamSinkV2ExternalContext<String> {
        private final LocalCosmos cosmos;
        private final String container;

        Context(ManyContainers containers) {
            this.cosmos = containers.cosmos();
            this.container = containers.container();
        }

        @Override
        public Sink<String> createSink(TestingSinkSettings settings) {
            return CosmosDBSink.<String>builder()
                    .options(cosmos.options(container))
                    .converter(CosmosDBElementConverter.<String>builder()
                            .id(id -> id)
                            .partitionKey(id -> id)
                            .document(id ->
                                    ("{\"id\":\"" + id + "\",\"pk\":\"" + id + "\"}").getBytes(StandardCharsets.UTF_8))
                            .build())
                    .build();
        }

        @Override
        public ExternalSystemDataReader<String> createSinkDataReader(TestingSinkSettings settings) {
            return new Reader(cosmos, container);
        }

        @Override
        public List<String> generateTestData(TestingSinkSettings settings, long seed) {
            return IntStream.range(0, 300).mapToObj(i -> seed + "-" + i).toList();
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }

        @Override
        public List<URL> getConnectorJarPaths() {
            return List.of();
        }

        @Override
        public void close() {}
    }

    /** Gives each document once. */
    private static final class Reader implements ExternalSystemDataReader<String> {
        private final LocalCosmos cosmos;
        private final String container;
        private final Set<String> seen = new HashSet<>();

        Reader(LocalCosmos cosmos, String container) {
            this.cosmos = cosmos;
            this.container = container;
        }

        @Override
        public List<String> poll(Duration limit) {
            List<String> fresh = new ArrayList<>();
            try {
                for (JsonNode document : cosmos.read(container).values()) {
                    if (seen.add(document.get("id").asText())) {
                        fresh.add(document.get("id").asText());
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return fresh;
        }

        @Override
        public void close() {}
    }
}
