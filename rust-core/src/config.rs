//! The options: one table, parsed and validated once. Both shims, the jobs and the documentation read this table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use azure_data_cosmos_driver::options::{PriorityLevel, ReadConsistencyStrategy};
use url::Url;

use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameWriter};

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    Text,
    Url,
    Bool,
    /// An integer of this inclusive range.
    Int(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `beginning`, `now` or an RFC 3339 time.
    Start,
    /// Path of a file that the process can read when it opens its first handle.
    File,
    /// `none`, `environment` or the URL of a proxy.
    Proxy,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Text => f.write_str("text"),
            Type::Url => f.write_str("URL"),
            Type::Bool => f.write_str("true or false"),
            Type::Int(min, u64::MAX) => write!(f, "integer, at least {min}"),
            Type::Int(min, max) => write!(f, "integer, {min} to {max}"),
            Type::Choice(words) => f.write_str(&words.join(", ")),
            Type::Start => f.write_str("beginning, now or an RFC 3339 time"),
            Type::File => f.write_str("file path"),
            Type::Proxy => f.write_str("none, environment or URL"),
        }
    }
}

/// Which part of the system an option belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Connection,
    Source,
    Sink,
    Job,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Source => "source",
            Group::Sink => "sink",
            Group::Job => "job",
        }
    }
}

/// One row of the option table.
pub struct OptionSpec {
    pub name: &'static str,
    /// Environment variable; empty when there is none.
    pub variable: &'static str,
    pub kind: Type,
    /// Empty: no default.
    pub default: &'static str,
    pub group: Group,
    pub secret: bool,
    pub required: bool,
    pub meaning: &'static str,
}

const fn opt(
    group: Group,
    name: &'static str,
    variable: &'static str,
    kind: Type,
    default: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        variable,
        kind,
        default,
        group,
        secret: false,
        required: false,
        meaning,
    }
}

const fn required(mut spec: OptionSpec) -> OptionSpec {
    spec.required = true;
    spec
}

const fn secret(mut spec: OptionSpec) -> OptionSpec {
    spec.secret = true;
    spec
}

use Group::{Connection as C, Job as J, Sink as K, Source as S};

const AUTH_TYPES: &[&str] = &[
    "key",
    "client-secret",
    "managed-identity",
    "workload-identity",
    "developer-tools",
];
const CONSISTENCY: &[&str] = &[
    "default",
    "eventual",
    "session",
    "latest-committed",
    "global-strong",
];
const PRIORITY_LEVELS: &[&str] = &["default", "high", "low"];
const FAILURE_MODES: &[&str] = &["fail", "skip", "dead-letter"];
const ON_DECODE_ERROR: &[&str] = &["fail", "skip", "raw"];
const MIB: u64 = 1024 * 1024;

/// Every option of the connectors and the jobs.
pub const OPTIONS: &[OptionSpec] = &[
    required(opt(C, "cosmos.endpoint", "COSMOS_URI", Type::Url, "", "Account endpoint, such as https://ACCOUNT.documents.azure.com:443/. Plain http only for this host, or the host that AZURE_COSMOS_EMULATOR_HOST names.")),
    required(opt(C, "cosmos.database", "COSMOS_DB", Type::Text, "", "Database.")),
    opt(C, "cosmos.container", "", Type::Text, "", "Container of the source or of the sink. The jobs set it from the job.*-container options."),
    opt(C, "cosmos.auth.type", "COSMOS_AUTH", Type::Choice(AUTH_TYPES), "key", "How to sign requests: with the account key, or with Entra ID as a client secret, managed identity, workload identity or the developer's own tools."),
    secret(opt(C, "cosmos.auth.key", "COSMOS_KEY", Type::Text, "", "Account key. Prefer cosmos.auth.key-file: the value then stays out of the job graph.")),
    opt(C, "cosmos.auth.key-file", "COSMOS_KEY_FILE", Type::File, "", "File that holds the account key, on each process that connects. It is read again whenever a connection is opened, and by the enumerator when the key is refused."),
    opt(C, "cosmos.auth.tenant-id", "AZURE_TENANT_ID", Type::Text, "", "Entra ID tenant, for client-secret and workload-identity."),
    opt(C, "cosmos.auth.client-id", "AZURE_CLIENT_ID", Type::Text, "", "Entra ID application, or the user-assigned managed identity."),
    secret(opt(C, "cosmos.auth.client-secret", "AZURE_CLIENT_SECRET", Type::Text, "", "Secret of the Entra ID application.")),
    opt(C, "cosmos.auth.client-secret-file", "AZURE_CLIENT_SECRET_FILE", Type::File, "", "File that holds the secret of the Entra ID application, on each process that connects. It is read again whenever a connection is opened, and by every reader and writer when no token can be had with the secret."),
    opt(C, "cosmos.auth.token-file", "AZURE_FEDERATED_TOKEN_FILE", Type::File, "", "Federated token of workload-identity."),
    opt(C, "cosmos.auth.audience", "COSMOS_AUDIENCE", Type::Url, "https://cosmos.azure.com", "What Entra ID tokens are asked for. Sovereign clouds have their own, such as https://cosmos.azure.us or https://cosmos.azure.cn."),
    opt(C, "cosmos.auth.authority-host", "AZURE_AUTHORITY_HOST", Type::Url, "", "Entra ID's own host, https only, for client-secret and workload-identity. Sovereign clouds have their own, such as https://login.microsoftonline.us or https://login.chinacloudapi.cn. Empty: what the variable says in the process that connects, else https://login.microsoftonline.com."),
    opt(C, "cosmos.preferred-regions", "COSMOS_PREFERRED_REGIONS", Type::Text, "", "Regions in order of preference, separated by commas. Empty: the account's own order."),
    opt(C, "cosmos.excluded-regions", "COSMOS_EXCLUDED_REGIONS", Type::Text, "", "Regions that no request goes to, separated by commas, unless no other is left."),
    opt(C, "cosmos.consistency", "COSMOS_CONSISTENCY", Type::Choice(CONSISTENCY), "default", "Read consistency strategy. default is the account's own."),
    opt(C, "cosmos.request-timeout-ms", "COSMOS_REQUEST_TIMEOUT_MS", Type::Int(100, 600_000), "30000", "Longest time for one request, in milliseconds."),
    opt(C, "cosmos.connect-timeout-ms", "COSMOS_CONNECT_TIMEOUT_MS", Type::Int(100, 6000), "5000", "Longest time for one connection to be made, in milliseconds."),
    opt(C, "cosmos.proxy", "COSMOS_PROXY", Type::Proxy, "none", "The HTTP proxy for requests to the account, and for those to Entra ID of client-secret and workload-identity: none (also where the process has HTTPS_PROXY), the one that HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the process name (environment), or a URL without user and password. A managed identity is asked past any proxy; developer-tools follow their own settings."),
    opt(C, "cosmos.tls.ca-file", "COSMOS_CA_FILE", Type::File, "", "PEM file of certificate authorities that these connections trust besides those of the system."),
    opt(C, "cosmos.http2", "COSMOS_HTTP2", Type::Bool, "true", "Whether HTTP/2 may be used where the endpoint offers it. The account is always reached in gateway mode."),
    opt(C, "cosmos.failover.max-retries", "COSMOS_FAILOVER_MAX_RETRIES", Type::Int(0, 100), "3", "How often one request is sent to another region after a region failed, before our own retries begin. 0 stays with the region, also while it fails."),
    opt(C, "cosmos.hedging.threshold-ms", "COSMOS_HEDGING_THRESHOLD_MS", Type::Int(0, 60_000), "1000", "Time after which a look-up of metadata is also sent to a second region, in milliseconds; 0 never does. Pages and writes are never sent twice for speed."),
    opt(C, "cosmos.hedging.max-concurrency", "COSMOS_HEDGING_MAX_CONCURRENCY", Type::Int(0, 1024), "32", "Look-ups of metadata that may be with two regions at once."),
    opt(C, "cosmos.priority-level", "COSMOS_PRIORITY_LEVEL", Type::Choice(PRIORITY_LEVELS), "default", "Which requests the service throttles first, where the account has priority-based execution: low goes before high. default sends no level."),
    opt(C, "cosmos.throughput-bucket", "COSMOS_THROUGHPUT_BUCKET", Type::Int(0, 5), "0", "Throughput bucket of the container that the requests count against, 1 to 5; 0 is none."),
    opt(C, "cosmos.max-concurrency", "COSMOS_MAX_CONCURRENCY", Type::Int(1, 1024), "16", "Requests in flight of one reader or one writer."),
    opt(C, "cosmos.retry.max-attempts", "COSMOS_MAX_RETRY_ATTEMPTS", Type::Int(1, 10_000), "100", "Attempts for one operation, the first included, before it counts as failed. Throttled ones do not count."),
    opt(C, "cosmos.retry.backoff-ms", "COSMOS_BACKOFF_MS", Type::Int(1, 60_000), "50", "First wait before a retry, in milliseconds; it doubles with jitter. What the service asks for goes first."),
    opt(C, "cosmos.retry.max-backoff-ms", "COSMOS_MAX_BACKOFF_MS", Type::Int(1, 600_000), "5000", "Longest wait between two attempts, in milliseconds."),
    opt(C, "cosmos.retry.deadline-ms", "COSMOS_RETRY_DEADLINE_MS", Type::Int(100, 86_400_000), "120000", "Time after its first failure at which an operation that still cannot be carried out counts as failed, in milliseconds. Throttling does not count."),
    opt(C, "cosmos.retry.throttled-deadline-ms", "COSMOS_THROTTLED_DEADLINE_MS", Type::Int(0, 86_400_000), "0", "Time after which an operation or a feed range that is throttled all the while counts as failed, in milliseconds; 0 waits for as long as it takes."),
    opt(S, "source.start", "COSMOS_SOURCE_START", Type::Start, "beginning", "Where a job without a savepoint begins to read the change feed."),
    opt(S, "source.page-size", "COSMOS_SOURCE_PAGE_SIZE", Type::Int(1, 100_000), "1000", "Most documents in one page."),
    opt(S, "source.prefetch-bytes", "COSMOS_SOURCE_PREFETCH_BYTES", Type::Int(MIB, 1 << 40), "67108864", "Bytes that one reader allocates for pages ahead of the job. A page that is larger than all of it is read all the same."),
    opt(S, "source.poll-interval-ms", "COSMOS_SOURCE_POLL_INTERVAL_MS", Type::Int(50, 3_600_000), "1000", "Longest pause between two looks at a feed range that has been read to its end, in milliseconds. Where it is set, each pause is as long, unless source.min-poll-interval-ms is set too."),
    opt(S, "source.min-poll-interval-ms", "COSMOS_SOURCE_MIN_POLL_INTERVAL_MS", Type::Int(10, 3_600_000), "50", "Pause after a look that found changes, in milliseconds; it doubles up to source.poll-interval-ms while there are none. Where only source.poll-interval-ms is set, it is that."),
    opt(S, "source.on-decode-error", "COSMOS_SOURCE_ON_DECODE_ERROR", Type::Choice(ON_DECODE_ERROR), "fail", "What becomes of a document that cannot be decoded (bytes that are no UTF-8, an id that is no text, a deserializer that refuses it): fail the job, skip and count it, or hand it over raw."),
    opt(S, "source.discovery-interval-ms", "COSMOS_SOURCE_DISCOVERY_INTERVAL_MS", Type::Int(0, 86_400_000), "60000", "Pause between two looks for new feed ranges, in milliseconds; 0 looks only once."),
    opt(K, "sink.bulk", "COSMOS_SINK_BULK", Type::Bool, "true", "Whether operations travel in bulk requests by physical partition. false sends each alone."),
    opt(K, "sink.max-operations-per-request", "COSMOS_SINK_MAX_OPERATIONS", Type::Int(1, 100), "100", "Most operations in one bulk request; the service takes 100."),
    opt(K, "sink.max-request-bytes", "COSMOS_SINK_MAX_REQUEST_BYTES", Type::Int(1024, 2 * MIB), "220201", "Most bytes in one bulk request. An operation that is larger goes alone."),
    opt(K, "sink.partition-concurrency", "COSMOS_SINK_PARTITION_CONCURRENCY", Type::Int(1, 64), "2", "Bulk requests in flight for one physical partition."),
    opt(K, "sink.bulk-probe-interval-ms", "COSMOS_SINK_BULK_PROBE_INTERVAL_MS", Type::Int(100, 3_600_000), "10000", "Pause before bulk requests are tried again where the service does not take them, in milliseconds; it doubles up to 32 times as long."),
    opt(K, "sink.failure-mode", "COSMOS_SINK_FAILURE_MODE", Type::Choice(FAILURE_MODES), "fail", "What becomes of an operation that the service refuses for good: fail the job, skip and count it, or store it in the dead-letter container."),
    opt(K, "sink.dead-letter-container", "COSMOS_SINK_DEAD_LETTER_CONTAINER", Type::Text, "", "Container for refused operations, in the same database; its partition key path is /container, /id, /operation or /reason."),
    opt(K, "sink.max-batch-size", "COSMOS_SINK_MAX_BATCH_SIZE", Type::Int(1, 100_000), "500", "Most records that the writer hands to the core at once."),
    opt(K, "sink.max-in-flight-requests", "COSMOS_SINK_MAX_IN_FLIGHT", Type::Int(1, 10_000), "8", "Batches of the writer in flight. They should hold a full request for each physical partition."),
    opt(K, "sink.max-buffered-requests", "COSMOS_SINK_MAX_BUFFERED", Type::Int(2, 10_000_000), "10000", "Records that the writer buffers before it holds the job back; more than sink.max-batch-size."),
    opt(K, "sink.max-batch-bytes", "COSMOS_SINK_MAX_BATCH_BYTES", Type::Int(1024, (1 << 31) - 1), "5242880", "Most bytes that the writer hands to the core at once."),
    opt(K, "sink.max-time-in-buffer-ms", "COSMOS_SINK_MAX_TIME_IN_BUFFER_MS", Type::Int(1, 3_600_000), "100", "Longest time that a record waits for its batch to fill, in milliseconds."),
    opt(K, "sink.max-record-bytes", "COSMOS_SINK_MAX_RECORD_BYTES", Type::Int(1, 2 * MIB), "2097152", "Most bytes of one document; the service takes 2 MiB. A larger one takes the way of sink.failure-mode. It must not exceed sink.max-batch-bytes."),
    opt(J, "job.name", "JOB_NAME", Type::Text, "", "Name of the job in Flink. Empty: the class's own."),
    opt(J, "job.parallelism", "JOB_PARALLELISM", Type::Int(0, 32_768), "0", "Parallelism of the job; 0 takes the cluster's default."),
    opt(J, "job.source-container", "COSMOS_SOURCE_CONTAINER", Type::Text, "events-source", "Container that the producer writes and the primary job reads."),
    opt(J, "job.target-container", "COSMOS_TARGET_CONTAINER", Type::Text, "events-processed", "Container that the primary job writes and the secondary job reads."),
    opt(J, "job.output-container", "COSMOS_OUTPUT_CONTAINER", Type::Text, "events-output", "Container in which the secondary job records what it delivered."),
    opt(J, "job.dead-letter-container", "COSMOS_DEAD_LETTER_CONTAINER", Type::Text, "dead-letter", "Container for records that the primary job cannot use."),
    opt(J, "job.checkpoint-interval-ms", "CHECKPOINT_INTERVAL_MS", Type::Int(10, 86_400_000), "30000", "Pause between two checkpoints, in milliseconds."),
    opt(J, "job.checkpoint-dir", "CHECKPOINT_DIR", Type::Text, "", "Folder or URL for checkpoints. Empty: the cluster's own setting."),
    opt(J, "job.transport", "CONSUMER_TRANSPORT", Type::Choice(&["http", "tcp"]), "http", "How the secondary job reaches the consumer."),
    opt(J, "job.consumer-url", "CONSUMER_URL", Type::Url, "http://localhost:8090/events", "Where batches are posted over HTTP."),
    opt(J, "job.consumer-tcp", "CONSUMER_TCP_ADDRESS", Type::Text, "localhost:8091", "host:port for the TCP transport, newline-delimited JSON."),
    opt(J, "job.consumer-batch-size", "CONSUMER_BATCH_SIZE", Type::Int(1, 10_000), "200", "Most events in one batch to the consumer."),
    opt(J, "job.consumer-timeout-ms", "CONSUMER_TIMEOUT_MS", Type::Int(100, 600_000), "10000", "Longest time for one batch to the consumer, in milliseconds."),
    opt(J, "job.consumer-deadline-ms", "CONSUMER_DEADLINE_MS", Type::Int(1000, 86_400_000), "300000", "How long a batch is offered to a consumer that is down before the job fails and restarts, in milliseconds."),
];

/// The row of an option.
pub fn spec(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|o| o.name == name)
}

/// A value that never shows itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the one place that signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret that is given, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSource {
    Value(Secret),
    File(String),
}

impl SecretSource {
    /// The secret, read from its file now. White space around it is dropped.
    pub fn resolve(&self, option: &str) -> Result<Secret> {
        match self {
            SecretSource::Value(secret) => Ok(secret.clone()),
            SecretSource::File(path) => {
                let text = std::fs::read_to_string(Path::new(path)).map_err(|e| {
                    CoreError::config(format!(
                        "{option}: cannot read '{path}': {e}; give a file that this process can read"
                    ))
                })?;
                match text.trim() {
                    "" => Err(CoreError::config(format!(
                        "{option}: '{path}' is empty; it must hold the secret alone"
                    ))),
                    value => Ok(Secret::new(value)),
                }
            }
        }
    }
}

/// How requests are signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Auth {
    Key(SecretSource),
    ClientSecret {
        tenant_id: String,
        client_id: String,
        secret: SecretSource,
    },
    ManagedIdentity {
        client_id: Option<String>,
    },
    WorkloadIdentity {
        tenant_id: Option<String>,
        client_id: Option<String>,
        token_file: Option<String>,
    },
    DeveloperTools,
}

/// Which proxy requests go through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proxy {
    None,
    /// What HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the process say.
    Environment,
    Url(Url),
}

/// What identifies an account: handles with the same identity share one driver and its connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountConfig {
    pub endpoint: Url,
    pub auth: Auth,
    /// What Entra ID tokens are asked for, such as `https://cosmos.azure.com`, without a slash at the end.
    pub audience: String,
    /// Entra ID's own host; `None` leaves it to `AZURE_AUTHORITY_HOST` of the process, which a cluster may set for its workloads.
    pub authority_host: Option<Url>,
    pub preferred_regions: Vec<String>,
    pub excluded_regions: Vec<String>,
    /// Bounds each attempt that the driver makes, as it bounds a request as a whole.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    pub proxy: Proxy,
    /// PEM file of authorities that are trusted besides the system's.
    pub ca_file: Option<String>,
    pub http2: bool,
    pub failover_retries: u32,
    /// When a look-up of metadata is sent to a second region too; `None` never.
    pub hedging_threshold: Option<Duration>,
    pub hedging_concurrency: usize,
}

/// Where a new split begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    Now,
    /// Epoch milliseconds; the service counts whole seconds.
    PointInTime(i64),
}

/// What becomes of a document that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDecodeError {
    Fail,
    /// Count it and leave it out.
    Skip,
    /// Count it and hand it over, marked.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    Fail,
    Skip,
    DeadLetter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    pub max_attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
    pub deadline: Duration,
    /// `None`: throttling is waited out.
    pub throttled_deadline: Option<Duration>,
}

/// All options of one handle, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub account: AccountConfig,
    pub database: String,
    pub container: String,
    pub consistency: ReadConsistencyStrategy,
    pub request_timeout: Duration,
    /// `None` sends no level.
    pub priority: Option<PriorityLevel>,
    /// `None` sends no bucket.
    pub throughput_bucket: Option<u32>,
    pub max_concurrency: usize,
    pub retry: RetryConfig,
    pub start: Start,
    pub page_size: u32,
    pub prefetch_bytes: u64,
    /// Longest pause between two looks at a feed range that has been read to its end.
    pub poll_interval: Duration,
    /// Pause after a look that found changes.
    pub min_poll_interval: Duration,
    pub on_decode_error: OnDecodeError,
    pub bulk: bool,
    pub max_operations: usize,
    pub max_request_bytes: usize,
    pub partition_concurrency: usize,
    pub bulk_probe_interval: Duration,
    pub failure_mode: FailureMode,
    pub dead_letter_container: String,
}

/// What the options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Connection,
    Source,
    Sink,
    Job,
}

impl Role {
    pub fn from_number(n: i32) -> Result<Role> {
        Ok(match n {
            0 => Role::Connection,
            1 => Role::Source,
            2 => Role::Sink,
            3 => Role::Job,
            _ => {
                return Err(CoreError::config(format!(
                    "role {n} is unknown; 0 connection, 1 source, 2 sink, 3 job"
                )))
            }
        })
    }
}

/// Shows a value in a message unless it is secret.
fn shown(spec: &OptionSpec, value: &str) -> String {
    if spec.secret {
        "the value given".to_owned()
    } else {
        format!("'{value}'")
    }
}

/// The error for a value that is not what its option takes; `why` is empty, or a reason in brackets behind a space.
fn wrong(spec: &OptionSpec, value: &str, why: &str) -> CoreError {
    CoreError::config(format!(
        "{}: {} is not valid{why}; expected: {}",
        spec.name,
        shown(spec, value),
        spec.kind
    ))
}

fn check_url(spec: &OptionSpec, value: &str) -> Result<()> {
    match Url::parse(value) {
        Err(e) => Err(wrong(spec, value, &format!(" ({e})"))),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err(wrong(spec, value, " (the scheme must be https or http)"))
        }
        Ok(url) if url.host_str().is_none() => Err(wrong(spec, value, " (there is no host)")),
        // A password in a URL would end up in logs.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Err(CoreError::config(format!(
            "{}: a URL must not hold a user or a password",
            spec.name
        ))),
        Ok(_) => Ok(()),
    }
}

fn check_value(spec: &OptionSpec, value: &str) -> Result<()> {
    let wrong = |why: &str| Err(wrong(spec, value, why));
    match spec.kind {
        Type::Text | Type::File => {
            if value.is_empty() {
                return wrong(" (it is empty)");
            }
        }
        Type::Url => check_url(spec, value)?,
        Type::Proxy => {
            if !matches!(value, "none" | "environment") {
                check_url(spec, value)?;
            }
        }
        Type::Bool => {
            if !matches!(value, "true" | "false") {
                return wrong("");
            }
        }
        Type::Int(min, max) => match value.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => {}
            _ => return wrong(""),
        },
        Type::Choice(words) => {
            if !words.contains(&value) {
                return wrong("");
            }
        }
        Type::Start => {
            parse_start(value).map_err(|why| {
                CoreError::config(format!(
                    "{}: '{value}' is not valid ({why}); expected: {}",
                    spec.name, spec.kind
                ))
            })?;
        }
    }
    Ok(())
}

fn parse_start(value: &str) -> std::result::Result<Start, String> {
    match value {
        "beginning" => Ok(Start::Beginning),
        "now" => Ok(Start::Now),
        text => {
            let time = azure_core::time::parse_rfc3339(text).map_err(|e| e.to_string())?;
            Ok(Start::PointInTime(
                (time.unix_timestamp_nanos() / 1_000_000) as i64,
            ))
        }
    }
}

/// The nearest known name, for a message about an unknown one.
fn nearest(name: &str) -> &'static str {
    let tail = |s: &str| s.rsplit(['.', '_']).next().unwrap_or(s).to_ascii_lowercase();
    OPTIONS
        .iter()
        .min_by_key(|o| {
            let common = o
                .name
                .bytes()
                .zip(name.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            (usize::from(tail(o.name) != tail(name)) * 4 + o.name.len().abs_diff(name.len()))
                .saturating_sub(2 * common)
        })
        .map_or("", |o| o.name)
}

/// Options from a job's arguments and environment.
///
/// An argument's name is an option's name or its variable's; arguments go before the environment. Variables that
/// belong to no option are left alone, arguments that belong to none are an error, so that a typing mistake shows.
pub fn resolve(
    arguments: &[(String, String)],
    environment: &[(String, String)],
) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in environment {
        // An empty variable is how compose files say "not set".
        if let Some(o) = OPTIONS
            .iter()
            .find(|o| !o.variable.is_empty() && o.variable == name && !value.is_empty())
        {
            out.insert(o.name.to_owned(), value.clone());
        }
    }
    // A key given as a file in the arguments replaces a key from the environment, and the other way round.
    for pair in [
        ["cosmos.auth.key", "cosmos.auth.key-file"],
        ["cosmos.auth.client-secret", "cosmos.auth.client-secret-file"],
    ] {
        if arguments.iter().any(|(n, _)| {
            pair.iter()
                .any(|p| n == p || spec(p).is_some_and(|o| o.variable == n))
        }) {
            pair.iter().for_each(|p| drop(out.remove(*p)));
        }
    }
    for (name, value) in arguments {
        let o = OPTIONS
            .iter()
            .find(|o| o.name == name || (!o.variable.is_empty() && o.variable == name))
            .ok_or_else(|| {
                CoreError::config(format!(
                    "option '{name}' is unknown; did you mean '{}'? docs/configuration.md lists all",
                    nearest(name)
                ))
            })?;
        out.insert(o.name.to_owned(), value.clone());
    }
    for (name, value) in &out {
        check_value(spec(name).expect("only names of the table were inserted"), value)?;
    }
    Ok(out)
}

/// Checks options against the table and fills in defaults. The role says which must be there.
pub fn validate(role: Role, given: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in given {
        let spec = spec(name).ok_or_else(|| {
            CoreError::config(format!(
                "option '{name}' is unknown; did you mean '{}'? docs/configuration.md lists all",
                nearest(name)
            ))
        })?;
        check_value(spec, value)?;
        out.insert(name.clone(), value.clone());
    }
    if !out.contains_key("source.min-poll-interval-ms") {
        // An interval that was asked for is meant as it stands; only the default starts below it.
        if let Some(interval) = out.get("source.poll-interval-ms").cloned() {
            out.insert("source.min-poll-interval-ms".to_owned(), interval);
        }
    }
    for o in OPTIONS {
        if !o.default.is_empty() {
            out.entry(o.name.to_owned())
                .or_insert_with(|| o.default.to_owned());
        } else if o.required && !out.contains_key(o.name) {
            return Err(missing(o.name));
        }
    }
    if matches!(role, Role::Source | Role::Sink) && !out.contains_key("cosmos.container") {
        return Err(missing("cosmos.container"));
    }
    let number = |name: &str| -> u64 { out.get(name).and_then(|v| v.parse().ok()).unwrap_or(0) };
    let at_most = |small: &str, large: &str| {
        if number(small) > number(large) {
            return Err(CoreError::config(format!(
                "{small} ({}) must not exceed {large} ({})",
                number(small),
                number(large)
            )));
        }
        Ok(())
    };
    at_most("cosmos.retry.backoff-ms", "cosmos.retry.max-backoff-ms")?;
    at_most("source.min-poll-interval-ms", "source.poll-interval-ms")?;
    if role == Role::Sink {
        at_most("sink.max-record-bytes", "sink.max-batch-bytes")?;
        if number("sink.max-buffered-requests") <= number("sink.max-batch-size") {
            return Err(CoreError::config(format!(
                "sink.max-buffered-requests ({}) must exceed sink.max-batch-size ({})",
                number("sink.max-buffered-requests"),
                number("sink.max-batch-size")
            )));
        }
        if out["sink.failure-mode"] == "dead-letter" && !out.contains_key("sink.dead-letter-container") {
            return Err(CoreError::config("sink.failure-mode is 'dead-letter' but sink.dead-letter-container is missing; name the container"));
        }
    }
    auth(&out)?;
    authority_host(&out)?;
    Ok(out)
}

/// Secrets travel to this host, so that plain http is refused.
fn authority_host(options: &BTreeMap<String, String>) -> Result<Option<Url>> {
    let name = "cosmos.auth.authority-host";
    let Some(text) = options.get(name) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Ok(Some(url)),
        _ => Err(CoreError::config(format!(
            "{name}: '{text}' is not valid; expected: a URL with https"
        ))),
    }
}

fn missing(name: &str) -> CoreError {
    let variable = spec(name).map_or("", |o| o.variable);
    let or = if variable.is_empty() {
        String::new()
    } else {
        format!(" or the variable {variable}")
    };
    CoreError::config(format!("option '{name}' is missing; set it{or}"))
}

fn auth(options: &BTreeMap<String, String>) -> Result<Auth> {
    let text = |name: &str| options.get(name).cloned();
    let need = |name: &str| text(name).ok_or_else(|| missing(name));
    let secret = |value: &str, file: &str| match (text(value), text(file)) {
        (Some(_), Some(_)) => Err(CoreError::config(format!(
            "{value} and {file} are both set; keep one"
        ))),
        (Some(v), None) => Ok(SecretSource::Value(Secret::new(v))),
        (None, Some(f)) => Ok(SecretSource::File(f)),
        (None, None) => Err(CoreError::config(format!(
            "neither {value} ({}) nor {file} ({}) is set; set one, or choose another cosmos.auth.type",
            spec(value).map_or("", |o| o.variable),
            spec(file).map_or("", |o| o.variable)
        ))),
    };
    Ok(
        match options.get("cosmos.auth.type").map_or("key", String::as_str) {
            "client-secret" => Auth::ClientSecret {
                tenant_id: need("cosmos.auth.tenant-id")?,
                client_id: need("cosmos.auth.client-id")?,
                secret: secret("cosmos.auth.client-secret", "cosmos.auth.client-secret-file")?,
            },
            "managed-identity" => Auth::ManagedIdentity {
                client_id: text("cosmos.auth.client-id"),
            },
            "workload-identity" => Auth::WorkloadIdentity {
                tenant_id: text("cosmos.auth.tenant-id"),
                client_id: text("cosmos.auth.client-id"),
                token_file: text("cosmos.auth.token-file"),
            },
            "developer-tools" => Auth::DeveloperTools,
            _ => Auth::Key(secret("cosmos.auth.key", "cosmos.auth.key-file")?),
        },
    )
}

impl Config {
    /// Validates `given` for `role` and types it.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`], with the option and its value.
    pub fn parse(role: Role, given: &[(String, String)]) -> Result<Config> {
        let options = validate(role, given)?;
        let text = |name: &str| options.get(name).cloned().unwrap_or_default();
        let number = |name: &str| -> u64 { text(name).parse().unwrap_or(0) };
        let millis = |name: &str| Duration::from_millis(number(name));
        let list = |name: &str| -> Vec<String> {
            let names = text(name);
            let names = names.split(',').map(str::trim).filter(|r| !r.is_empty());
            names.map(str::to_owned).collect()
        };
        let endpoint = Url::parse(&text("cosmos.endpoint"))
            .map_err(|e| CoreError::config(format!("cosmos.endpoint: {e}")))?;
        Ok(Config {
            account: AccountConfig {
                endpoint,
                auth: auth(&options)?,
                audience: text("cosmos.auth.audience").trim_end_matches('/').to_owned(),
                authority_host: authority_host(&options)?,
                preferred_regions: list("cosmos.preferred-regions"),
                excluded_regions: list("cosmos.excluded-regions"),
                request_timeout: millis("cosmos.request-timeout-ms"),
                connect_timeout: millis("cosmos.connect-timeout-ms"),
                proxy: match text("cosmos.proxy").as_str() {
                    "none" => Proxy::None,
                    "environment" => Proxy::Environment,
                    url => Proxy::Url(
                        Url::parse(url).map_err(|e| CoreError::config(format!("cosmos.proxy: {e}")))?,
                    ),
                },
                ca_file: options.get("cosmos.tls.ca-file").cloned(),
                http2: text("cosmos.http2") == "true",
                failover_retries: number("cosmos.failover.max-retries") as u32,
                hedging_threshold: Some(millis("cosmos.hedging.threshold-ms")).filter(|t| !t.is_zero()),
                hedging_concurrency: number("cosmos.hedging.max-concurrency") as usize,
            },
            priority: match text("cosmos.priority-level").as_str() {
                "high" => Some(PriorityLevel::High),
                "low" => Some(PriorityLevel::Low),
                _ => None,
            },
            throughput_bucket: Some(number("cosmos.throughput-bucket") as u32).filter(|b| *b > 0),
            database: text("cosmos.database"),
            container: text("cosmos.container"),
            consistency: match text("cosmos.consistency").as_str() {
                "eventual" => ReadConsistencyStrategy::Eventual,
                "session" => ReadConsistencyStrategy::Session,
                "latest-committed" => ReadConsistencyStrategy::LatestCommitted,
                "global-strong" => ReadConsistencyStrategy::GlobalStrong,
                _ => ReadConsistencyStrategy::Default,
            },
            request_timeout: millis("cosmos.request-timeout-ms"),
            max_concurrency: number("cosmos.max-concurrency") as usize,
            retry: RetryConfig {
                max_attempts: number("cosmos.retry.max-attempts") as u32,
                backoff: millis("cosmos.retry.backoff-ms"),
                max_backoff: millis("cosmos.retry.max-backoff-ms"),
                deadline: millis("cosmos.retry.deadline-ms"),
                throttled_deadline: Some(millis("cosmos.retry.throttled-deadline-ms"))
                    .filter(|d| !d.is_zero()),
            },
            start: parse_start(&text("source.start")).map_err(CoreError::config)?,
            page_size: number("source.page-size") as u32,
            prefetch_bytes: number("source.prefetch-bytes"),
            poll_interval: millis("source.poll-interval-ms"),
            min_poll_interval: millis("source.min-poll-interval-ms"),
            on_decode_error: match text("source.on-decode-error").as_str() {
                "skip" => OnDecodeError::Skip,
                "raw" => OnDecodeError::Raw,
                _ => OnDecodeError::Fail,
            },
            bulk: text("sink.bulk") == "true",
            max_operations: number("sink.max-operations-per-request") as usize,
            max_request_bytes: number("sink.max-request-bytes") as usize,
            partition_concurrency: number("sink.partition-concurrency") as usize,
            bulk_probe_interval: Duration::from_millis(number("sink.bulk-probe-interval-ms")),
            failure_mode: match text("sink.failure-mode").as_str() {
                "skip" => FailureMode::Skip,
                "dead-letter" => FailureMode::DeadLetter,
                _ => FailureMode::Fail,
            },
            dead_letter_container: text("sink.dead-letter-container"),
        })
    }
}

/// The table as an OPTIONS frame.
pub fn encode_table() -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Options);
    w.u32(OPTIONS.len() as u32);
    for o in OPTIONS {
        w.str(o.name);
        w.str(o.variable);
        w.str(&o.kind.to_string());
        w.str(o.default);
        w.str(o.group.name());
        w.str(o.meaning);
        w.u8(u8::from(o.secret));
        w.u8(u8::from(o.required));
    }
    w.0
}

/// `docs/configuration.md`, written from the table.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nEvery option can be given as `--name value`, as `--VARIABLE value`, or as an environment variable; arguments go before the\n\
         environment. An empty variable counts as not set. This page is written from the core's own option table\n\
         (`cargo run --release -p cosmosflink-core --example configuration > docs/configuration.md`) and a test compares both.\n",
    );
    for group in [Group::Connection, Group::Source, Group::Sink, Group::Job] {
        let name = group.name();
        out.push_str(&format!(
            "\n## {}{}\n\n| option | variable | type | default | meaning |\n|---|---|---|---|---|\n",
            name[..1].to_uppercase(),
            &name[1..]
        ));
        for o in OPTIONS.iter().filter(|o| o.group == group) {
            let code = |s: &str| {
                if s.is_empty() {
                    String::new()
                } else {
                    format!("`{s}`")
                }
            };
            let default = if o.required {
                "required".to_owned()
            } else {
                code(o.default)
            };
            let note = if o.secret { " Secret." } else { "" };
            out.push_str(&format!(
                "| `{}` | {} | {} | {default} | {}{note} |\n",
                o.name,
                code(o.variable),
                o.kind,
                o.meaning
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn pairs(p: &[(&str, &str)]) -> Vec<(String, String)> {
        p.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    const BASE: &[(&str, &str)] = &[
        ("cosmos.endpoint", "https://a.documents.azure.com:443/"),
        ("cosmos.database", "orders"),
        ("cosmos.container", "c"),
        ("cosmos.auth.key", "c2VjcmV0"),
    ];

    fn with(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = pairs(BASE);
        all.retain(|(k, _)| !extra.iter().any(|(e, _)| e == k));
        all.extend(pairs(extra));
        all
    }

    #[test]
    fn defaults_are_filled_and_typed() {
        let config = Config::parse(Role::Source, &with(&[])).unwrap();
        assert_eq!(config.prefetch_bytes, 64 * MIB);
        assert_eq!(config.start, Start::Beginning);
        assert_eq!(config.retry.backoff, Duration::from_millis(50));
    }

    #[test]
    fn every_default_satisfies_its_own_type_and_names_are_unique() {
        let mut names = std::collections::HashSet::new();
        let mut variables = std::collections::HashSet::new();
        for o in OPTIONS {
            assert!(names.insert(o.name), "{} twice", o.name);
            assert!(
                o.variable.is_empty() || variables.insert(o.variable),
                "{} twice",
                o.variable
            );
            if !o.default.is_empty() {
                check_value(o, o.default).unwrap();
            }
        }
    }

    #[test]
    fn mistakes_name_key_and_value() {
        for (extra, expected) in [
            (("cosmos.endpoint", "ftp://x"), "ftp://x"),
            (("cosmos.endpoint", "https://user:pw@x/"), "password"),
            (("source.page-size", "0"), "'0'"),
            (("source.start", "yesterday"), "'yesterday'"),
            (("sink.bulk", "yes"), "'yes'"),
            (("cosmos.pagesize", "1"), "cosmos.pagesize"),
            (("cosmos.auth.type", "password"), "'password'"),
            (("cosmos.auth.authority-host", "http://login.example"), "https"),
            (("cosmos.proxy", "sometimes"), "'sometimes'"),
            (("cosmos.proxy", "http://user:pw@proxy:3128"), "password"),
            (("cosmos.throughput-bucket", "6"), "'6'"),
            (
                ("cosmos.retry.backoff-ms", "60000"),
                "cosmos.retry.max-backoff-ms",
            ),
        ] {
            let error = Config::parse(Role::Source, &with(&[extra])).unwrap_err();
            assert_eq!(error.kind, Kind::Config);
            assert!(
                error.message.contains(expected) && error.message.contains(extra.0),
                "{extra:?}: {error}"
            );
        }
        let error = Config::parse(Role::Source, &pairs(&BASE[1..])).unwrap_err();
        assert!(
            error.message.contains("cosmos.endpoint") && error.message.contains("COSMOS_URI"),
            "{error}"
        );
        let error = Config::parse(Role::Sink, &with(&[("sink.failure-mode", "dead-letter")])).unwrap_err();
        assert!(error.message.contains("sink.dead-letter-container"), "{error}");
    }

    #[test]
    fn a_key_never_shows() {
        let config = Config::parse(Role::Source, &with(&[("cosmos.auth.key", "VerySecret")])).unwrap();
        assert!(!format!("{config:?}").contains("VerySecret"));
        let error = Config::parse(Role::Source, &with(&[("cosmos.auth.key", "")])).unwrap_err();
        assert!(error.message.contains("cosmos.auth.key"));
    }

    #[test]
    fn arguments_go_before_the_environment_and_unknown_ones_are_refused() {
        let env = pairs(&[
            ("COSMOS_URI", "https://env/"),
            ("HOME", "/h"),
            ("COSMOS_KEY", "k"),
            ("COSMOS_DB", ""),
        ]);
        let out = resolve(
            &pairs(&[("COSMOS_URI", "https://arg/"), ("cosmos.auth.key-file", "/f")]),
            &env,
        )
        .unwrap();
        assert_eq!(out["cosmos.endpoint"], "https://arg/");
        assert_eq!(out["cosmos.auth.key-file"], "/f");
        assert!(!out.contains_key("cosmos.auth.key") && !out.contains_key("cosmos.database"));
        let error = resolve(&pairs(&[("cosmos.endpont", "x")]), &[]).unwrap_err();
        assert!(error.message.contains("cosmos.endpoint"), "{error}");
    }

    #[test]
    fn a_key_file_is_read_trimmed_and_missing_ones_are_named() {
        let path = std::env::temp_dir().join(format!("cosmosflink-key-{}", std::process::id()));
        std::fs::write(&path, " a2V5 \n").unwrap();
        let source = SecretSource::File(path.to_str().unwrap().to_owned());
        assert_eq!(source.resolve("cosmos.auth.key-file").unwrap().expose(), "a2V5");
        std::fs::remove_file(&path).unwrap();
        let error = source.resolve("cosmos.auth.key-file").unwrap_err();
        assert!(error.message.contains("cosmosflink-key-"), "{error}");
    }

    #[test]
    fn a_poll_interval_that_is_set_is_each_pause() {
        let pauses = |extra: &[(&str, &str)]| {
            let filled = validate(Role::Source, &with(extra)).unwrap();
            // What was filled in once is given again by the shims.
            let config = Config::parse(Role::Source, &filled.into_iter().collect::<Vec<_>>()).unwrap();
            (
                config.min_poll_interval.as_millis(),
                config.poll_interval.as_millis(),
            )
        };
        let (poll, min) = ("source.poll-interval-ms", "source.min-poll-interval-ms");
        assert_eq!(pauses(&[]), (50, 1000));
        assert_eq!(pauses(&[(poll, "5000")]), (5000, 5000));
        assert_eq!(pauses(&[(poll, "5000"), (min, "20")]), (20, 5000));
        assert_eq!(pauses(&[(min, "20")]), (20, 1000));
        let error = Config::parse(Role::Source, &with(&[(min, "2000")])).unwrap_err();
        assert!(
            error.message.contains(min) && error.message.contains(poll),
            "{error}"
        );
    }

    #[test]
    fn a_point_in_time_is_read() {
        let config = Config::parse(Role::Source, &with(&[("source.start", "2026-01-02T03:04:05Z")])).unwrap();
        assert_eq!(config.start, Start::PointInTime(1_767_323_045_000));
    }

    #[test]
    fn the_documentation_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            text == markdown(),
            "docs/configuration.md differs from the table; write it anew with the example `configuration`"
        );
    }
}
