package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.table.CosmosDBCatalogOptions.InferredConflict;
import io.cosmosflink.core.CatalogRequest;
import io.cosmosflink.core.NativeCore;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.flink.annotation.Internal;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.Catalog;
import org.apache.flink.table.factories.CatalogFactory;
import org.apache.flink.table.factories.FactoryUtil;

/** The catalog {@code cosmosdb} of Flink SQL: the databases and containers of an account. */
@Internal
public final class CosmosDBCatalogFactory implements CatalogFactory {
    /** A sample of more would be a scan. */
    private static final int MOST_SAMPLED = 100_000;

    @Override
    public String factoryIdentifier() {
        return CosmosDBDynamicTableFactory.IDENTIFIER;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(CosmosDBConnectorOptions.ENDPOINT, CosmosDBCatalogOptions.DEFAULT_DATABASE);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        Set<ConfigOption<?>> options = new HashSet<>(Set.of(
                CosmosDBCatalogOptions.SAMPLE_SIZE,
                CosmosDBCatalogOptions.NUMBERS,
                CosmosDBCatalogOptions.CONFLICT,
                CosmosDBCatalogOptions.TIMESTAMPS,
                CosmosDBCatalogOptions.CACHE_TTL));
        TableOptions.account().forEach(options::add);
        options.removeAll(requiredOptions());
        return options;
    }

    @Override
    public Catalog createCatalog(Context context) {
        TableOptions.SECRETS.forEach((secret, file) -> {
            if (context.getOptions().containsKey(secret)) {
                throw new ValidationException("a catalog takes no '" + secret
                        + "': Flink shows the options of catalogs and tables, and writes them into plans; put the secret into a file, and name that in '"
                        + file + "'");
            }
        });
        FactoryUtil.CatalogFactoryHelper helper = FactoryUtil.createCatalogFactoryHelper(this, context);
        helper.validate();
        ReadableConfig options = helper.getOptions();
        Map<String, String> account = new TreeMap<>(context.getOptions());
        Set<String> keys = new HashSet<>();
        TableOptions.account().forEach(option -> keys.add(option.key()));
        account.keySet().retainAll(keys);
        return new CosmosDBCatalog(
                context.getName(),
                options.get(CosmosDBCatalogOptions.DEFAULT_DATABASE),
                new CosmosDBCatalog.Settings(
                        account,
                        TableOptions.account(options),
                        inference(options),
                        options.get(CosmosDBCatalogOptions.CACHE_TTL)),
                NativeCore::get);
    }

    private static CatalogRequest.Inference inference(ReadableConfig options) {
        int sample = options.get(CosmosDBCatalogOptions.SAMPLE_SIZE);
        if (sample < 1 || sample > MOST_SAMPLED) {
            throw new ValidationException("'" + CosmosDBCatalogOptions.SAMPLE_SIZE.key() + "' is " + sample
                    + "; columns are made of 1 to " + MOST_SAMPLED + " documents");
        }
        boolean variants = PlanTypes.hasVariants();
        InferredConflict conflict = options.get(CosmosDBCatalogOptions.CONFLICT);
        if (conflict == InferredConflict.VARIANT && !variants) {
            throw new ValidationException(
                    "'" + CosmosDBCatalogOptions.CONFLICT.key()
                            + "' is 'variant', a type that this version of Flink does not have; leave it out, or set it to 'string'");
        }
        boolean text = conflict == InferredConflict.STRING || !variants;
        return new CatalogRequest.Inference(
                sample,
                options.get(CosmosDBCatalogOptions.NUMBERS).core,
                text ? CatalogRequest.Conflict.STRING : CatalogRequest.Conflict.VARIANT,
                options.get(CosmosDBCatalogOptions.TIMESTAMPS));
    }
}
