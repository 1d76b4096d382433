package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.DatasetName;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.streaming.api.lineage.LineageDataset;
import org.apache.flink.streaming.api.lineage.LineageDatasetFacet;
import org.apache.flink.streaming.api.lineage.LineageVertex;
import org.apache.flink.streaming.api.lineage.SourceLineageVertex;

/** What a source reads and a sink writes, for tools that follow data from job to job. */
final class Lineage {
    private Lineage() {}

    static SourceLineageVertex ofSource(CosmosDBOptions options, Boundedness boundedness) {
        return new Reads(List.of(Container.of(options)), boundedness);
    }

    static LineageVertex ofSink(CosmosDBOptions options) {
        return new Writes(List.of(Container.of(options)));
    }

    private record Reads(List<LineageDataset> datasets, Boundedness boundedness) implements SourceLineageVertex {}

    private record Writes(List<LineageDataset> datasets) implements LineageVertex {}

    private record Container(String namespace, String name) implements LineageDataset {
        static LineageDataset of(CosmosDBOptions options) {
            DatasetName name = DatasetName.of(options.toMap());
            return new Container(name.namespace(), name.name());
        }

        @Override
        public Map<String, LineageDatasetFacet> facets() {
            return Map.of();
        }
    }
}
