package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.NativeCore;
import java.util.List;
import java.util.Map;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.lookup.AsyncLookupFunctionProvider;
import org.apache.flink.table.connector.source.lookup.LookupFunctionProvider;
import org.apache.flink.table.connector.source.lookup.LookupOptions;
import org.apache.flink.table.connector.source.lookup.PartialCachingAsyncLookupProvider;
import org.apache.flink.table.connector.source.lookup.PartialCachingLookupProvider;
import org.apache.flink.table.connector.source.lookup.cache.DefaultLookupCache;
import org.apache.flink.table.connector.source.lookup.cache.LookupCache;
import org.apache.flink.table.functions.LookupFunction;

/**
 * How documents are looked up.
 *
 * @param options of the core
 * @param async whether other rows go on meanwhile
 * @param cache null for none
 * @param refusal why they are not; null where they are
 */
record LookupSettings(Map<String, String> options, boolean async, LookupCache cache, String refusal) {
    private static final List<String> OTHER_ROWS =
            List.of(CosmosDBConnectorOptions.QUERY.key(), "scan.read-many", "scan.read-many-file");

    /** Why nothing can be looked up in a table whose rows are not the documents of its container; null where they are. */
    static String refusal(ReadableConfig table) {
        return OTHER_ROWS.stream()
                .filter(name -> table.getOptional(
                                ConfigOptions.key(name).stringType().noDefaultValue())
                        .isPresent())
                .findFirst()
                .map(
                        name -> "the rows of a table with '" + name
                                + "' are not the documents of its container, and only documents can be looked up; join with a table without it")
                .orElse(null);
    }

    /**
     * The cache that the options of a table ask for, or null.
     *
     * @throws ValidationException for one that a container cannot be kept in
     */
    static LookupCache cache(ReadableConfig table) {
        return switch (table.get(LookupOptions.CACHE_TYPE)) {
            case NONE -> null;
            case PARTIAL -> DefaultLookupCache.fromConfig(table);
            case FULL ->
                throw new ValidationException("'" + LookupOptions.CACHE_TYPE.key()
                        + "' is 'FULL', and a container is too large to be read into memory again and again; set it to 'PARTIAL', or read the"
                        + " container's change feed and join with that");
        };
    }

    /** One without a function. It is not asynchronous, so that no delta join is planned with it. */
    static LookupTableSource.LookupRuntimeProvider refusing(ValidationException why) {
        return new LookupFunctionProvider() {
            @Override
            public LookupFunction createLookupFunction() {
                throw why;
            }
        };
    }

    /** @throws ValidationException when the core does not take the options, or nothing can be looked up in the table */
    LookupTableSource.LookupRuntimeProvider provider(LookupCore core) {
        return provider(core, NativeCore::get);
    }

    LookupTableSource.LookupRuntimeProvider provider(LookupCore core, Core.Provider here) {
        if (refusal != null) {
            throw new ValidationException(refusal);
        }
        check(here);
        if (async) {
            CosmosDBAsyncLookupFunction function = new CosmosDBAsyncLookupFunction(core);
            return cache == null
                    ? AsyncLookupFunctionProvider.of(function)
                    : PartialCachingAsyncLookupProvider.of(function, cache);
        }
        CosmosDBLookupFunction function = new CosmosDBLookupFunction(core);
        return cache == null ? LookupFunctionProvider.of(function) : PartialCachingLookupProvider.of(function, cache);
    }

    /** Where this process has no core, a client on another platform than the cluster, the cluster checks the options. */
    private void check(Core.Provider here) {
        Core core;
        try {
            core = here.get();
        } catch (UnsatisfiedLinkError e) {
            return;
        }
        try {
            core.validateOptions(Core.Role.LOOKUP, options);
        } catch (CosmosException e) {
            throw TableOptions.refused(e);
        }
    }
}
