//! The connector's options: a row each. A new option is a row here, a field of [`super::Config`] and the place that uses it; the shims'
//! builders, the messages about mistakes and `docs/configuration.md` follow from the row.

use super::row::Group::{Connection as C, Lookup as L, Sink as K, Source as S};
use super::row::{opt, required, secret, OptionSpec, Type};

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
const WRITE_STRATEGIES: &[&str] = &[
    "upsert",
    "create",
    "create-ignore-existing",
    "replace",
    "replace-if-exists",
    "overwrite-if-not-modified",
    "delete",
    "delete-if-not-modified",
    "patch",
    "patch-if-exists",
    "bulk-update",
];
const NULL_POLICIES: &[&str] = &["keep", "drop"];
const MODES: &[&str] = &["latest-version", ALL_VERSIONS];
/// The mode with deletes.
pub(super) const ALL_VERSIONS: &str = "all-versions-and-deletes";
const LEASE_FORMATS: &[&str] = &["java", "dotnet", "none"];
const STARTUP_MODES: &[&str] = &[EARLIEST, "latest", INITIAL, TIMESTAMP, "tokens", "leases"];
/// The start with all that the change feed has.
pub(super) const EARLIEST: &str = "earliest";
/// The start with the container as it is, and then with every change of it.
pub(super) const INITIAL: &str = "initial";
/// The start or the end at a time that another option gives.
pub(super) const TIMESTAMP: &str = "timestamp";
const BOUNDED_MODES: &[&str] = &[UNBOUNDED, "latest", TIMESTAMP];
/// No end.
pub(super) const UNBOUNDED: &str = "unbounded";
/// The last millisecond of the year 9999.
const LAST_MILLI: u64 = 253_402_300_799_999;
const ON_ERROR: &[&str] = &["fail", "null-field", "skip-row", "raw"];
/// Bytes.
pub(super) const MIB: u64 = 1024 * 1024;

/// What a source, a sink and their connection take.
#[rustfmt::skip]
pub(super) const CONNECTOR: &[OptionSpec] = &[
    required(opt(C, "endpoint", "COSMOS_URI", Type::Url, "", "Account endpoint, such as https://ACCOUNT.documents.azure.com:443/. Plain http only for this host, or the host that AZURE_COSMOS_EMULATOR_HOST names.")),
    required(opt(C, "database", "COSMOS_DB", Type::Text, "", "Database.")),
    opt(C, "container", "", Type::Text, "", "Container of the source or of the sink. The jobs set it from the job.*-container options."),
    opt(C, "auth.type", "COSMOS_AUTH", Type::Choice(AUTH_TYPES), "key", "How to sign requests: with the account key, or with Entra ID as a client secret, managed identity, workload identity or the developer's own tools."),
    secret(opt(C, "auth.secret-key", "COSMOS_KEY", Type::Text, "", "Account key. Prefer auth.key-file: the value then stays out of the job graph.")),
    opt(C, "auth.key-file", "COSMOS_KEY_FILE", Type::File, "", "File that holds the account key, on each process that connects. It is read again whenever a connection is opened, and by the enumerator when the key is refused."),
    opt(C, "auth.tenant-id", "AZURE_TENANT_ID", Type::Text, "", "Entra ID tenant, for client-secret and workload-identity."),
    opt(C, "auth.client-id", "AZURE_CLIENT_ID", Type::Text, "", "Entra ID application, or the user-assigned managed identity."),
    secret(opt(C, "auth.client-secret", "AZURE_CLIENT_SECRET", Type::Text, "", "Secret of the Entra ID application.")),
    opt(C, "auth.client-secret-file", "AZURE_CLIENT_SECRET_FILE", Type::File, "", "File that holds the secret of the Entra ID application, on each process that connects. It is read again whenever a connection is opened, and by every reader and writer when no token can be had with the secret."),
    opt(C, "auth.token-file", "AZURE_FEDERATED_TOKEN_FILE", Type::File, "", "Federated token of workload-identity."),
    opt(C, "auth.audience", "COSMOS_AUDIENCE", Type::Url, "https://cosmos.azure.com", "What Entra ID tokens are asked for. Sovereign clouds have their own, such as https://cosmos.azure.us or https://cosmos.azure.cn."),
    opt(C, "auth.authority-host", "AZURE_AUTHORITY_HOST", Type::Url, "", "Entra ID's own host, https only, for client-secret and workload-identity. Sovereign clouds have their own, such as https://login.microsoftonline.us or https://login.chinacloudapi.cn. Empty: what the variable says in the process that connects, else https://login.microsoftonline.com."),
    opt(C, "preferred-regions", "COSMOS_PREFERRED_REGIONS", Type::Text, "", "Regions in order of preference, separated by commas. Empty: the account's own order."),
    opt(C, "excluded-regions", "COSMOS_EXCLUDED_REGIONS", Type::Text, "", "Regions that no request goes to, separated by commas, unless no other is left."),
    opt(C, "consistency", "COSMOS_CONSISTENCY", Type::Choice(CONSISTENCY), "default", "Read consistency strategy. default is the account's own."),
    opt(C, "request-timeout", "COSMOS_REQUEST_TIMEOUT_MS", Type::Duration(100, 600_000), "30 s", "Longest time for one request."),
    opt(C, "connect-timeout", "COSMOS_CONNECT_TIMEOUT_MS", Type::Duration(100, 6000), "5 s", "Longest time for one connection to be made."),
    opt(C, "proxy", "COSMOS_PROXY", Type::Proxy, "none", "The HTTP proxy for requests to the account, and for those to Entra ID of client-secret and workload-identity: none (also where the process has HTTPS_PROXY), the one that HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the process name (environment), or a URL without user and password. A managed identity is asked past any proxy; developer-tools follow their own settings."),
    opt(C, "tls.ca-file", "COSMOS_CA_FILE", Type::File, "", "PEM file of certificate authorities that these connections trust besides those of the system."),
    opt(C, "http2", "COSMOS_HTTP2", Type::Bool, "true", "Whether HTTP/2 may be used where the endpoint offers it. The account is always reached in gateway mode."),
    opt(C, "failover.max-retries", "COSMOS_FAILOVER_MAX_RETRIES", Type::Int(0, 100), "3", "How often one request is sent to another region after a region failed, before our own retries begin. 0 stays with the region, also while it fails."),
    opt(C, "hedging.threshold", "COSMOS_HEDGING_THRESHOLD_MS", Type::Duration(0, 60_000), "1 s", "Time after which a look-up of metadata is also sent to a second region; 0 never does. Pages and writes are never sent twice for speed."),
    opt(C, "hedging.max-concurrency", "COSMOS_HEDGING_MAX_CONCURRENCY", Type::Int(0, 1024), "32", "Look-ups of metadata that may be with two regions at once."),
    opt(C, "priority-level", "COSMOS_PRIORITY_LEVEL", Type::Choice(PRIORITY_LEVELS), "default", "Which requests the service throttles first, where the account has priority-based execution: low goes before high. default sends no level."),
    opt(C, "throughput-bucket", "COSMOS_THROUGHPUT_BUCKET", Type::Int(0, 5), "0", "Throughput bucket of the container that the requests count against, 1 to 5; 0 is none."),
    opt(C, "max-concurrency", "COSMOS_MAX_CONCURRENCY", Type::Int(1, 1024), "16", "Requests in flight of one reader or one writer."),
    opt(C, "retry.max-attempts", "COSMOS_MAX_RETRY_ATTEMPTS", Type::Int(1, 10_000), "100", "Attempts for one operation, the first included, before it counts as failed. Throttled ones do not count."),
    opt(C, "retry.backoff", "COSMOS_BACKOFF_MS", Type::Duration(1, 60_000), "50 ms", "First wait before a retry; it doubles with jitter. What the service asks for goes first."),
    opt(C, "retry.max-backoff", "COSMOS_MAX_BACKOFF_MS", Type::Duration(1, 600_000), "5 s", "Longest wait between two attempts."),
    opt(C, "retry.deadline", "COSMOS_RETRY_DEADLINE_MS", Type::Duration(100, 86_400_000), "2 min", "Time after its first failure at which an operation that still cannot be carried out counts as failed. Throttling does not count."),
    opt(C, "retry.throttled-deadline", "COSMOS_THROTTLED_DEADLINE_MS", Type::Duration(0, 86_400_000), "0 ms", "Time after which an operation or a feed range that is throttled all the while counts as failed; 0 waits for as long as it takes."),
    opt(S, "scan.change-feed.mode", "COSMOS_SOURCE_MODE", Type::Choice(MODES), "latest-version", "What is read: the latest version of each document that changed, or each version of each document and deletes. The latter needs an account with continuous backup, reads back no further than its retention, and takes scan.startup.mode latest or initial."),
    opt(S, "scan.startup.mode", "COSMOS_SOURCE_START", Type::Choice(STARTUP_MODES), "earliest", "Where a job without a savepoint begins to read the change feed: with the oldest change that it still has (earliest), with what is written from now on (latest), at scan.startup.timestamp-millis (timestamp), at the positions of scan.startup.tokens-file (tokens), or from those of leases in scan.lease.container (leases). initial, with all versions and deletes: the container as it is, then every change of it from that moment on. The variable takes beginning, now and an RFC 3339 time as well."),
    opt(S, "scan.startup.timestamp-millis", "", Type::Int(0, LAST_MILLI), "", "Where scan.startup.mode timestamp begins, in milliseconds since 1970. The feed counts whole seconds."),
    opt(S, "scan.bounded.mode", "COSMOS_SOURCE_STOP", Type::Choice(BOUNDED_MODES), "unbounded", "Up to where the change feed is read: without end (unbounded), up to what was written when the job looked for its feed ranges first (latest), or up to scan.bounded.timestamp-millis (timestamp). With latest or timestamp the source is bounded: the job ends although writers go on. The variable takes never, start and an RFC 3339 time as well."),
    opt(S, "scan.bounded.timestamp-millis", "", Type::Int(0, LAST_MILLI), "", "Where scan.bounded.mode timestamp ends, in milliseconds since 1970."),
    opt(S, "scan.query", "COSMOS_SOURCE_QUERY", Type::Text, "", "SQL query whose rows are read in place of the change feed; the source is bounded then. Each feed range answers for itself, with ORDER BY, DISTINCT, TOP or OFFSET LIMIT one reader reads it all. Aggregates and GROUP BY are refused. With scan.bounded.mode latest the positions of the start are kept, from which a change feed can go on behind it."),
    opt(S, "scan.query-parameters", "COSMOS_SOURCE_QUERY_PARAMETERS", Type::Text, "", "Values of the query's parameters: a JSON object such as {\"@status\":\"open\"}."),
    opt(S, "scan.read-many", "", Type::Text, "", "Documents that are read by id and partition key in place of the change feed: a JSON array of objects such as {\"id\":\"order-7\",\"partitionKey\":[\"eu\"]}. One that is not there is passed over. The source is bounded then."),
    opt(S, "scan.read-many-file", "COSMOS_SOURCE_READ_MANY_FILE", Type::File, "", "The same, as a file with one such object on each line, on every process of the job. It must stay as it is while the job runs."),
    opt(S, "scan.startup.tokens-file", "COSMOS_SOURCE_START_TOKENS_FILE", Type::File, "", "File with the positions from which scan.startup.mode tokens begins, on the JobManager. docs/handing-over.md says how it is written."),
    opt(S, "scan.lease.container", "COSMOS_LEASE_CONTAINER", Type::Text, "", "Container of the leases of change feed processors: scan.startup.mode leases begins from them, and after each completed checkpoint the job's progress is published as leases (scan.lease.format). Empty: no leases. Its partition key path is /id; for .NET it may be /partitionKey."),
    opt(S, "scan.lease.database", "COSMOS_LEASE_DATABASE", Type::Text, "", "Database of scan.lease.container, in the same account. Empty: that of database."),
    opt(S, "scan.lease.prefix", "CFP_LEASE_PREFIX", Type::Text, "", "Prefix of the leases: that of the processor's options in Java, the processor's name in .NET. Jobs and processors that read independently of each other need one each."),
    opt(S, "scan.lease.host", "CFP_HOST_NAME", Type::Text, "", "Owner that the job's leases name. Empty: cosmosflink- and the id of the job."),
    opt(S, "scan.lease.format", "COSMOS_SOURCE_LEASE_FORMAT", Type::Choice(LEASE_FORMATS), "java", "Form in which progress is published: that of the Java SDK (handleLatestVersionChanges and handleAllVersionsAndDeletesChanges), that of the .NET SDK, or none. No lease serves both."),
    opt(S, "scan.lease.start", "COSMOS_SOURCE_LEASE_START", Type::Time, "", "Where scan.startup.mode leases begins in a range whose lease has no position yet: earliest, latest or an RFC 3339 time. The leases do not say what the processor would do. The variable takes beginning and now as well."),
    opt(S, "scan.lease.expiration", "COSMOS_SOURCE_LEASE_EXPIRATION_MS", Type::Duration(1000, 86_400_000), "1 min", "Time without a renewal after which a lease is free: as in the options of the processors."),
    opt(S, "scan.lease.renew-interval", "COSMOS_SOURCE_LEASE_RENEW_INTERVAL_MS", Type::Duration(100, 3_600_000), "17 s", "Pause between two renewals of a lease; at most half of scan.lease.expiration."),
    opt(S, "scan.lease.job", "", Type::Text, "", "Ids of the job and of the source's operator in their leases. The connector sets it to Flink's own."),
    opt(S, "scan.page-size", "COSMOS_SOURCE_PAGE_SIZE", Type::Int(1, 100_000), "1000", "Most documents in one page."),
    opt(S, "scan.prefetch-size", "COSMOS_SOURCE_PREFETCH_BYTES", Type::Size(MIB, 1 << 40), "64 mb", "Bytes that one reader allocates for pages ahead of the job. A page that is larger than all of it is read all the same."),
    opt(S, "scan.poll-interval", "COSMOS_SOURCE_POLL_INTERVAL_MS", Type::Duration(50, 3_600_000), "1 s", "Longest pause between two looks at a feed range that has been read to its end. Where it is set, each pause is as long, unless scan.min-poll-interval is set too."),
    opt(S, "scan.min-poll-interval", "COSMOS_SOURCE_MIN_POLL_INTERVAL_MS", Type::Duration(10, 3_600_000), "25 ms", "Pause after a look that found changes; it doubles up to scan.poll-interval while there are none. Where only scan.poll-interval is set, it is that."),
    opt(S, "json.on-error", "COSMOS_SOURCE_ON_DECODE_ERROR", Type::Choice(ON_ERROR), "fail", "What becomes of a document that cannot be decoded (bytes that are no UTF-8, an id that is no text, a deserializer that refuses it) or does not fit the columns of a table: fail the job, leave it out and count it (skip-row), or hand it over as it is (raw, which a table does not take). null-field makes a column that does not fit null; all else fails the job. The variable takes skip as well."),
    opt(S, "scan.min-splits", "COSMOS_SOURCE_MIN_SPLITS", Type::Int(1, 10_000), "1", "Fewest splits that a job without a savepoint begins with. Where the container has fewer physical partitions, each is read in parts: requests of their own, which many cores can share. No fewer are left where neighbours that lie in one partition become one again at a restore."),
    opt(S, "scan.discovery-interval", "COSMOS_SOURCE_DISCOVERY_INTERVAL_MS", Type::Duration(0, 86_400_000), "1 min", "Pause between two looks for new feed ranges; 0 looks only once, and not at all after a restore, so that no neighbours become one again."),
    opt(S, "scan.request-units-per-second", "COSMOS_SOURCE_REQUEST_UNITS_PER_SECOND", Type::Int(0, 1_000_000_000), "0", "Request units per second that all readers of the source may use together for pages, in the long run; 0 does not limit them. Each reader has an equal share, and those in one process use what others there leave. Only what is left to the job's own choice waits: the service's throttling comes on top."),
    opt(S, "scan.backlog-threshold", "COSMOS_SOURCE_BACKLOG_THRESHOLD_MS", Type::Duration(0, 86_400_000), "0 ms", "Lag of a reader from which on Flink is told that the source processes a backlog (isProcessingBacklog), which lets it take checkpoints as execution.checkpointing.interval-during-backlog says; the backlog ends once all readers are behind by less than half of it. A split that watermark alignment holds back does not count, one whose requests are throttled does. 0 never tells, nor does a source that ends."),
    opt(S, "scan.key-fields", "", Type::Text, "", "The fields by which rows are told apart, as a JSON array of JSON pointers such as [\"/id\",\"/customerId\"]: those of a table's primary key, which the table connector sets. A source does not open where the container's partition key has another field, since rows of different documents would be taken for one. Empty: they are not."),
    opt(K, "sink.write-strategy", "COSMOS_SINK_WRITE_STRATEGY", Type::Choice(WRITE_STRATEGIES), "upsert", "What is done with a record that does not say so itself; docs/writing.md describes each, and what a replay of it does. patch sets the fields of the document, bulk-update merges them into the stored one."),
    opt(K, "sink.id", "COSMOS_SINK_ID", Type::Text, "{id}", "How the id of a document is made where a record gives none: a template in which {field} stands for the value of a field, such as {customerId}-{orderId}, or hash(customerId,orderId), the first 32 hexadecimal digits of a SHA-256 of their values. A field inside an object has a path, such as {customer/id}."),
    opt(K, "sink.key-fields", "", Type::Text, "", "The fields that a deletion gives, as a JSON array of JSON pointers such as [\"/id\",\"/customerId\"]: those of a table's primary key, which the table connector sets. A sink does not open where the container's partition key has another field, since a deletion would then go to another key. Empty: not known."),
    opt(K, "sink.null-policy", "COSMOS_SINK_NULL_POLICY", Type::Choice(NULL_POLICIES), "keep", "Whether fields of a document whose value is null are written (keep) or left out (drop), those of objects inside it too. The items of an array stay, and so does a null in the partition key."),
    opt(K, "sink.bulk", "COSMOS_SINK_BULK", Type::Bool, "true", "Whether operations travel in bulk requests by physical partition. false sends each alone."),
    opt(K, "sink.max-operations-per-request", "COSMOS_SINK_MAX_OPERATIONS", Type::Int(1, 100), "100", "Most operations in one bulk request; the service takes 100."),
    opt(K, "sink.max-request-size", "COSMOS_SINK_MAX_REQUEST_BYTES", Type::Size(1024, 2 * MIB), "220201 b", "Most bytes in one bulk request. An operation that is larger goes alone."),
    opt(K, "sink.partition-concurrency", "COSMOS_SINK_PARTITION_CONCURRENCY", Type::Int(1, 64), "2", "Most bulk requests in flight for one physical partition. Of one that throttles, or answers far slower than before, fewer and smaller requests are made until it does not."),
    opt(K, "sink.bulk-probe-interval", "COSMOS_SINK_BULK_PROBE_INTERVAL_MS", Type::Duration(100, 3_600_000), "10 s", "Pause before bulk requests are tried again where the service does not take them; it doubles up to 32 times as long."),
    opt(K, "sink.failure-mode", "COSMOS_SINK_FAILURE_MODE", Type::Choice(FAILURE_MODES), "fail", "What becomes of an operation that the service refuses for good: fail the job, skip and count it, or store it in the dead-letter container."),
    opt(K, "sink.dead-letter-container", "COSMOS_SINK_DEAD_LETTER_CONTAINER", Type::Text, "", "Container for refused operations, in the same database; its partition key path is /container, /id, /operation or /reason."),
    opt(K, "sink.buffer-flush.max-rows", "COSMOS_SINK_MAX_BATCH_SIZE", Type::Int(1, 100_000), "500", "Most records that the writer hands to the core at once."),
    opt(K, "sink.max-in-flight-requests", "COSMOS_SINK_MAX_IN_FLIGHT", Type::Int(1, 10_000), "8", "Batches of the writer in flight, counted as so many times sink.buffer-flush.max-rows records that have not ended. They should hold a full request for each physical partition. Records that a throttled partition holds up do not count, as many as it writes in about ten seconds: a few of them must not hold back those of other partitions. There are never more of these than of the others."),
    opt(K, "sink.max-in-flight-size", "COSMOS_SINK_MAX_IN_FLIGHT_BYTES", Type::Size(1024, 1 << 40), "32 mb", "Bytes that the core holds for one writer, whatever they wait for, before the job is held back: what was submitted, and what was made of it or read for it. The last batch may exceed it, and so may what is being read. A checkpoint waits until all of it is written."),
    opt(K, "sink.max-buffered-requests", "COSMOS_SINK_MAX_BUFFERED", Type::Int(2, 10_000_000), "10000", "Records that the writer buffers before it holds the job back; more than sink.buffer-flush.max-rows."),
    opt(K, "sink.buffer-flush.max-size", "COSMOS_SINK_MAX_BATCH_BYTES", Type::Size(1024, (1 << 31) - 1), "5 mb", "Most bytes that the writer hands to the core at once."),
    opt(K, "sink.buffer-flush.interval", "COSMOS_SINK_MAX_TIME_IN_BUFFER_MS", Type::Duration(1, 3_600_000), "50 ms", "Longest time that a record waits for its batch to fill."),
    opt(K, "sink.max-record-size", "COSMOS_SINK_MAX_RECORD_BYTES", Type::Size(1, 2 * MIB), "2 mb", "Most bytes of one record: of its document, or of all operations of a transactional batch together. The service takes 2 MiB of either. A larger one takes the way of sink.failure-mode. It must not exceed sink.buffer-flush.max-size."),
    opt(K, "sink.request-units-per-second", "COSMOS_SINK_REQUEST_UNITS_PER_SECOND", Type::Int(0, 1_000_000_000), "0", "Request units per second that all writers of the sink may use together, in the long run; 0 does not limit them. Each writer has an equal share, and those in one process use what others there leave. Dead letters do not count. The service's throttling comes on top."),
    opt(K, "sink.stall-timeout", "COSMOS_SINK_STALL_TIMEOUT_MS", Type::Duration(0, 86_400_000), "10 min", "Time without any answer of the service after which a writer that waits for one fails the job; the message says which partition holds what. An answer that asks to wait is one, so that throttling fails no job here, that of the dead-letter container neither. Waits of the sink's own do not count: for another attempt, for the bulk form, for its budget. It must exceed request-timeout; 0 waits for ever."),
    opt(L, "lookup.batch.max-size", "", Type::Int(1, 1000), "100", "Most keys that one request is for. Keys of one physical partition go together."),
    opt(L, "lookup.batch.max-wait", "", Type::Duration(0, 60_000), "2 ms", "Longest time that a key waits for others. While max-concurrency requests are under way, keys wait longer, and the next requests are the fuller."),
    opt(L, "lookup.max-retries", "", Type::Int(0, 10_000), "", "How often a request is tried again that has failed. Throttling does not count: it is waited out, as retry.throttled-deadline says. Empty: what retry.max-attempts says."),
    opt(L, "lookup.max-result-size", "", Type::Size(1024, 1 << 30), "64 mb", "Most bytes of the rows of one key, which the job gets together. More of them fail it. Several keys whose rows have more together are asked for in smaller requests."),
];
