package io.cosmosflink.connector.cosmosdb.table;

import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.flink.configuration.ConfigOption;

/**
 * The options of which a job that goes on from a compiled plan takes those of the table as it is now, and not of the plan: how an account is
 * reached, how much is asked for at once, how fast, and what becomes of what fails. None of them changes which rows there are, what they are,
 * or what is in a savepoint. All others are the plan's, an option that is not named here too.
 */
final class ForwardedOptions {
    static final Set<String> NAMES = Set.of(
            // How the account is reached: a key is changed, an endpoint becomes private.
            "endpoint",
            "auth.type",
            "auth.secret-key",
            "auth.key-file",
            "auth.tenant-id",
            "auth.client-id",
            "auth.client-secret",
            "auth.client-secret-file",
            "auth.token-file",
            "auth.audience",
            "auth.authority-host",
            "preferred-regions",
            "excluded-regions",
            "consistency",
            "request-timeout",
            "connect-timeout",
            "proxy",
            "tls.ca-file",
            "http2",
            "failover.max-retries",
            "hedging.threshold",
            "hedging.max-concurrency",
            "priority-level",
            "throughput-bucket",
            "max-concurrency",
            "retry.max-attempts",
            "retry.backoff",
            "retry.max-backoff",
            "retry.deadline",
            "retry.throttled-deadline",
            // How a source reads.
            "scan.lease.expiration",
            "scan.lease.renew-interval",
            "scan.page-size",
            "scan.prefetch-size",
            "scan.poll-interval",
            "scan.min-poll-interval",
            "scan.discovery-interval",
            "scan.request-units-per-second",
            "scan.backlog-threshold",
            "scan.parallelism",
            // How documents are looked up.
            "lookup.batch.max-size",
            "lookup.batch.max-wait",
            "lookup.max-retries",
            "lookup.max-result-size",
            // A document that no column takes would stop the job for ever.
            "json.on-error",
            "json.fail-on-missing-field",
            // How a sink writes.
            "sink.bulk",
            "sink.max-operations-per-request",
            "sink.max-request-size",
            "sink.partition-concurrency",
            "sink.bulk-probe-interval",
            "sink.failure-mode",
            "sink.dead-letter-container",
            "sink.buffer-flush.max-rows",
            "sink.buffer-flush.max-size",
            "sink.buffer-flush.interval",
            "sink.max-in-flight-requests",
            "sink.max-in-flight-size",
            "sink.max-buffered-requests",
            "sink.max-record-size",
            "sink.request-units-per-second",
            "sink.stall-timeout",
            "sink.parallelism");

    /** Who asks the account: one of these options counts with the others alone. */
    private static final String IDENTITY = "auth.";

    private ForwardedOptions() {}

    /**
     * Whether the plan's option does not count, since the table says now who asks the account: a secret that went into a file would be there twice, and one of
     * another identity beside it.
     *
     * @param now options of the table as it is; none where it is not defined any more
     */
    static boolean isReplaced(String planned, Map<String, String> now) {
        return planned.startsWith(IDENTITY)
                && !now.containsKey(planned)
                && now.keySet().stream().anyMatch(name -> name.startsWith(IDENTITY));
    }

    static Set<ConfigOption<?>> of(Set<ConfigOption<?>> all) {
        return all.stream().filter(option -> NAMES.contains(option.key())).collect(Collectors.toSet());
    }
}
