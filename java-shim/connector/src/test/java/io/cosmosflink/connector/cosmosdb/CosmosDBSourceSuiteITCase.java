package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Operation;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.connector.testframe.environment.MiniClusterTestEnvironment;
import org.apache.flink.connector.testframe.external.ExternalContextFactory;
import org.apache.flink.connector.testframe.external.ExternalSystemSplitDataWriter;
import org.apache.flink.connector.testframe.external.source.DataStreamSourceExternalContext;
import org.apache.flink.connector.testframe.external.source.TestingSourceSettings;
import org.apache.flink.connector.testframe.junit.annotations.TestContext;
import org.apache.flink.connector.testframe.junit.annotations.TestEnv;
import org.apache.flink.connector.testframe.junit.annotations.TestExternalSystem;
import org.apache.flink.connector.testframe.junit.annotations.TestSemantics;
import org.apache.flink.connector.testframe.testsuites.SourceTestSuiteBase;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.util.Collector;

/** Flink's own suite for sources: savepoints, rescaling, metrics, lost TaskManagers; without an end, and up to the start. */
class CosmosDBSourceSuiteITCase extends SourceTestSuiteBase<String> {
    @TestSemantics
    CheckpointingMode[] semantics = {CheckpointingMode.EXACTLY_ONCE};

    @TestEnv
    MiniClusterTestEnvironment cluster = new MiniClusterTestEnvironment();

    @TestExternalSystem
    ManyContainers containers = new ManyContainers();

    @TestContext
    ExternalContextFactory<Context> contexts = name -> new Context(containers);

    /** One container; each writer writes one partition key, within which the feed keeps the order. */
    static final class Context implements DataStreamSourceExternalContext<String> {
        private final LocalCosmos cosmos;
        private final String container;
        private final AtomicInteger writers = new AtomicInteger();

        Context(ManyContainers containers) {
            this.cosmos = containers.cosmos();
            this.container = containers.container();
        }

        @Override
        public Source<String, ?, ?> createSource(TestingSourceSettings settings) {
            boolean bounded = settings.getBoundedness() == Boundedness.BOUNDED;
            return CosmosDBSource.<String>builder()
                    .options(cosmos.options(container))
                    .option("scan.discovery-interval", "200")
                    .bounded(bounded ? "latest" : "unbounded")
                    .deserializer(new Value())
                    .build();
        }

        @Override
        public ExternalSystemSplitDataWriter<String> createSourceSplitDataWriter(TestingSourceSettings settings) {
            return new Writer(cosmos, container, "k" + writers.getAndIncrement());
        }

        @Override
        public List<String> generateTestData(TestingSourceSettings settings, int splitIndex, long seed) {
            return IntStream.range(0, 150)
                    .mapToObj(i -> splitIndex + "-" + seed + "-" + i)
                    .toList();
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

    private static final class Writer implements ExternalSystemSplitDataWriter<String> {
        private final LocalCosmos cosmos;
        private final String container;
        private final String key;
        private int written;

        Writer(LocalCosmos cosmos, String container, String key) {
            this.cosmos = cosmos;
            this.container = container;
            this.key = key;
        }

        @Override
        public void writeRecords(List<String> records) {
            List<Operation> operations = new ArrayList<>();
            for (String record : records) {
                String id = key + "-" + written++;
                String document = "{\"id\":\"" + id + "\",\"pk\":\"" + key + "\",\"value\":\"" + record + "\"}";
                operations.add(Operation.upsert(id, "[\"" + key + "\"]", document.getBytes(StandardCharsets.UTF_8)));
            }
            cosmos.write(container, operations);
        }

        @Override
        public void close() {}
    }

    private static final class Value implements CosmosDBDeserializationSchema<String> {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserialize(RecordView record, Collector<String> out) throws IOException {
            out.collect(
                    Schemas.Json.MAPPER.readTree(record.document()).get("value").asText());
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }
}
