package io.cosmosflink.core;

import java.net.URI;
import java.util.Locale;
import java.util.Map;

/**
 * What tools that follow data from job to job call a container. Never holds a secret.
 *
 * @param namespace the account's endpoint, such as {@code https://account.documents.azure.com:443}
 * @param name database and container, such as {@code orders/events}
 */
@Internal
public record DatasetName(String namespace, String name) {
    /**
     * The container of a source or a sink.
     *
     * @param options validated, or as they are where this process has no core: what is missing or wrong has an empty name
     */
    public static DatasetName of(Map<String, String> options) {
        String database = options.getOrDefault("database", "");
        return new DatasetName(
                endpoint(options.getOrDefault("endpoint", "")), database + "/" + options.getOrDefault("container", ""));
    }

    /** The endpoint without what may be a secret in it: nothing but scheme, host and port. */
    private static String endpoint(String endpoint) {
        try {
            URI uri = URI.create(endpoint);
            if (uri.getScheme() == null || uri.getHost() == null) {
                return "";
            }
            String scheme = uri.getScheme().toLowerCase(Locale.ROOT);
            // One account has one name, whether its port is written or not.
            int port = uri.getPort() >= 0 ? uri.getPort() : scheme.equals("http") ? 80 : 443;
            return scheme + "://" + uri.getHost().toLowerCase(Locale.ROOT) + ":" + port;
        } catch (IllegalArgumentException e) {
            return "";
        }
    }
}
