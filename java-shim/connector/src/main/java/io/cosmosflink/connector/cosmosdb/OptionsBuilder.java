package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.NativeCore;

/** What the builders of source and sink share: the connection. */
abstract class OptionsBuilder<B extends OptionsBuilder<B>> {
    CosmosDBOptions options = CosmosDBOptions.empty();
    Core.Provider core = NativeCore::get;

    /** Account endpoint, such as {@code https://ACCOUNT.documents.azure.com:443/}. */
    public B endpoint(String endpoint) {
        return option("endpoint", endpoint);
    }

    public B database(String database) {
        return option("database", database);
    }

    public B container(String container) {
        return option("container", container);
    }

    /** Account key. It travels in the job graph; prefer {@link #keyFile}. */
    public B key(String key) {
        return option("auth.secret-key", key);
    }

    /** File with the account key, on every machine of the cluster. */
    public B keyFile(String path) {
        return option("auth.key-file", path);
    }

    /** Any option of {@code docs/configuration.md}. */
    public B option(String name, String value) {
        options = options.with(name, value);
        return self();
    }

    /** All of these, over what was set before. */
    public B options(CosmosDBOptions others) {
        options = options.with(others.toMap());
        return self();
    }

    /** Another core, for tests. */
    B core(Core.Provider provider) {
        core = provider;
        return self();
    }

    abstract B self();
}
