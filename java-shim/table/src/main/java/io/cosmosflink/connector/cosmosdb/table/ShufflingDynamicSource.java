package io.cosmosflink.connector.cosmosdb.table;

import java.util.Arrays;
import java.util.Optional;
import org.apache.flink.table.connector.source.abilities.SupportsLookupCustomShuffle;
import org.apache.flink.table.data.RowData;

/**
 * A source that says how rows are shuffled before a lookup join, where the hint LOOKUP asks for that: those of one partition key meet, so that their
 * documents are asked for together, and a cache has them once. Flink 1.20 cannot load this class.
 */
final class ShufflingDynamicSource extends CosmosDBDynamicSource implements SupportsLookupCustomShuffle {
    private ShufflingDynamicSource(Settings settings) {
        super(settings);
    }

    static CosmosDBDynamicSource of(Settings settings) {
        return new ShufflingDynamicSource(settings);
    }

    @Override
    CosmosDBDynamicSource same(Settings settings) {
        return of(settings);
    }

    @Override
    public Optional<InputDataPartitioner> getPartitioner() {
        return lookedUpBy().map(ByPartitionKey::new);
    }

    /** By the keys that say where a document is. */
    static final class ByPartitionKey implements InputDataPartitioner {
        private static final long serialVersionUID = 1L;

        private final RowData.FieldGetter[] keys;

        ByPartitionKey(RowData.FieldGetter[] keys) {
            this.keys = keys;
        }

        @Override
        public int partition(RowData joinKeys, int partitions) {
            Object[] values =
                    Arrays.stream(keys).map(key -> key.getFieldOrNull(joinKeys)).toArray();
            return Math.floorMod(Arrays.deepHashCode(values), partitions);
        }
    }
}
