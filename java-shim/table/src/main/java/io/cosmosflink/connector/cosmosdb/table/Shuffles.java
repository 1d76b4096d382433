package io.cosmosflink.connector.cosmosdb.table;

/** Makes sources, of the class that the Flink at hand can use: since 2.0 one that says how rows are shuffled before a lookup join. */
final class Shuffles {
    private static final String SHUFFLE =
            "org.apache.flink.table.connector.source.abilities.SupportsLookupCustomShuffle";

    private Shuffles() {}

    static CosmosDBDynamicSource source(CosmosDBDynamicSource.Settings settings) {
        return areThere() ? ShufflingDynamicSource.of(settings) : new CosmosDBDynamicSource(settings);
    }

    private static boolean areThere() {
        try {
            Class.forName(SHUFFLE, false, CosmosDBDynamicSource.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }
}
