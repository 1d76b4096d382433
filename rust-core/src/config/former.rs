//! What was called otherwise before the options had the names of Flink's tables (`docs/adr/0040`): for the messages about unknown names, and for the
//! words of environment variables, which stay as they were.

/// The name of today of an option that is called by an earlier one.
pub(super) fn renamed(name: &str) -> Option<&'static str> {
    new_of(NAMES, name)
}

/// The earlier name of an option; empty where it had none other.
pub(super) fn former(name: &str) -> &'static str {
    let entry = NAMES.iter().find(|(_, new)| *new == name);
    entry.map_or("", |(former, _)| former)
}

/// The word of today for an earlier one of an option's values.
pub(super) fn reworded(option: &str, word: &str) -> Option<&'static str> {
    let (_, words) = WORDS.iter().find(|(name, _)| *name == option)?;
    new_of(words, word)
}

fn new_of(list: &'static [(&'static str, &'static str)], former: &str) -> Option<&'static str> {
    list.iter().find(|(name, _)| *name == former).map(|(_, new)| *new)
}

/// Earlier words of the values of an option, which its variable still takes.
const WORDS: &[(&str, &[(&str, &str)])] = &[
    (
        "scan.startup.mode",
        &[("beginning", "earliest"), ("now", "latest")],
    ),
    (
        "scan.bounded.mode",
        &[("never", "unbounded"), ("start", "latest")],
    ),
    (
        "scan.lease.start",
        &[("beginning", "earliest"), ("now", "latest")],
    ),
    ("json.on-error", &[("skip", "skip-row")]),
];

/// Each earlier name, and the one of today.
#[rustfmt::skip]
pub(super) const NAMES: &[(&str, &str)] = &[
    ("cosmos.auth.audience", "auth.audience"),
    ("cosmos.auth.authority-host", "auth.authority-host"),
    ("cosmos.auth.client-id", "auth.client-id"),
    ("cosmos.auth.client-secret", "auth.client-secret"),
    ("cosmos.auth.client-secret-file", "auth.client-secret-file"),
    ("cosmos.auth.key", "auth.secret-key"),
    ("cosmos.auth.key-file", "auth.key-file"),
    ("cosmos.auth.tenant-id", "auth.tenant-id"),
    ("cosmos.auth.token-file", "auth.token-file"),
    ("cosmos.auth.type", "auth.type"),
    ("cosmos.connect-timeout-ms", "connect-timeout"),
    ("cosmos.consistency", "consistency"),
    ("cosmos.container", "container"),
    ("cosmos.database", "database"),
    ("cosmos.endpoint", "endpoint"),
    ("cosmos.excluded-regions", "excluded-regions"),
    ("cosmos.failover.max-retries", "failover.max-retries"),
    ("cosmos.hedging.max-concurrency", "hedging.max-concurrency"),
    ("cosmos.hedging.threshold-ms", "hedging.threshold"),
    ("cosmos.http2", "http2"),
    ("cosmos.max-concurrency", "max-concurrency"),
    ("cosmos.preferred-regions", "preferred-regions"),
    ("cosmos.priority-level", "priority-level"),
    ("cosmos.proxy", "proxy"),
    ("cosmos.request-timeout-ms", "request-timeout"),
    ("cosmos.retry.backoff-ms", "retry.backoff"),
    ("cosmos.retry.deadline-ms", "retry.deadline"),
    ("cosmos.retry.max-attempts", "retry.max-attempts"),
    ("cosmos.retry.max-backoff-ms", "retry.max-backoff"),
    ("cosmos.retry.throttled-deadline-ms", "retry.throttled-deadline"),
    ("cosmos.throughput-bucket", "throughput-bucket"),
    ("cosmos.tls.ca-file", "tls.ca-file"),
    ("sink.bulk-probe-interval-ms", "sink.bulk-probe-interval"),
    ("sink.max-batch-bytes", "sink.buffer-flush.max-size"),
    ("sink.max-batch-size", "sink.buffer-flush.max-rows"),
    ("sink.max-in-flight-bytes", "sink.max-in-flight-size"),
    ("sink.max-record-bytes", "sink.max-record-size"),
    ("sink.max-request-bytes", "sink.max-request-size"),
    ("sink.max-time-in-buffer-ms", "sink.buffer-flush.interval"),
    ("sink.stall-timeout-ms", "sink.stall-timeout"),
    ("source.backlog-threshold-ms", "scan.backlog-threshold"),
    ("source.discovery-interval-ms", "scan.discovery-interval"),
    ("source.lease-container", "scan.lease.container"),
    ("source.lease-database", "scan.lease.database"),
    ("source.lease-expiration-ms", "scan.lease.expiration"),
    ("source.lease-format", "scan.lease.format"),
    ("source.lease-host", "scan.lease.host"),
    ("source.lease-job", "scan.lease.job"),
    ("source.lease-prefix", "scan.lease.prefix"),
    ("source.lease-renew-interval-ms", "scan.lease.renew-interval"),
    ("source.lease-start", "scan.lease.start"),
    ("source.min-poll-interval-ms", "scan.min-poll-interval"),
    ("source.min-splits", "scan.min-splits"),
    ("source.mode", "scan.change-feed.mode"),
    ("source.on-decode-error", "json.on-error"),
    ("source.page-size", "scan.page-size"),
    ("source.poll-interval-ms", "scan.poll-interval"),
    ("source.prefetch-bytes", "scan.prefetch-size"),
    ("source.query", "scan.query"),
    ("source.query-parameters", "scan.query-parameters"),
    ("source.read-many", "scan.read-many"),
    ("source.read-many-file", "scan.read-many-file"),
    ("source.request-units-per-second", "scan.request-units-per-second"),
    ("source.start", "scan.startup.mode"),
    ("source.start-tokens-file", "scan.startup.tokens-file"),
    ("source.stop", "scan.bounded.mode"),
];
