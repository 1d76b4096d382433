//! The options: one table, parsed and validated once. Both shims, the jobs and the documentation read this table.

mod former;
mod job_options;
mod options;
mod row;
mod table;
mod units;
mod validation;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use azure_data_cosmos_driver::options::{PriorityLevel, ReadConsistencyStrategy};
use url::Url;

use self::options::{ALL_VERSIONS, INITIAL};
use self::validation::{
    authority_host, begin, id_rule, key_fields, missing, parse_start, query, read_many, row_key_fields, stop,
};
use crate::error::{CoreError, Result};
use crate::leases::format::Sdk;
use crate::leases::Identity;
use crate::sink::{IdRule, KeyFields, OperationKind};
use crate::split::Mode;
use crate::sql::Query;

pub use self::row::{Group, OptionSpec, Type};
#[cfg(test)]
pub(crate) use self::table::encode as encode_options;
pub use self::table::{encode_table, markdown, spec, table};
pub use self::validation::{resolve, validate};

/// A value that never shows itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes the value as it is.
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
    /// Given in the options.
    Value(Secret),
    /// The path of its file, on the process that connects.
    File(String),
}

impl SecretSource {
    /// The secret, read from its file now. White space around it is dropped.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`], with `option`, where the file cannot be read or is empty.
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
    /// With the account key.
    Key(SecretSource),
    /// With tokens for an application of Entra ID that has a secret.
    ClientSecret {
        /// The application's tenant.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        secret: SecretSource,
    },
    /// With tokens for the machine's identity.
    ManagedIdentity {
        /// A user-assigned one; `None`: the system's.
        client_id: Option<String>,
    },
    /// With tokens for the workload's identity; what is `None`, the process's variables say.
    WorkloadIdentity {
        /// The application's tenant.
        tenant_id: Option<String>,
        /// The application.
        client_id: Option<String>,
        /// File of the federated token.
        token_file: Option<String>,
    },
    /// With tokens of the developer's own command-line tools.
    DeveloperTools,
}

/// Which proxy requests go through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// None, also where the process names one.
    None,
    /// What HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the process say.
    Environment,
    /// This one.
    Url(Url),
}

/// What identifies an account: handles with the same identity share one driver and its connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountConfig {
    /// The account's own address; its regions are found through it.
    pub endpoint: Url,
    /// How requests are signed.
    pub auth: Auth,
    /// What Entra ID tokens are asked for, such as `https://cosmos.azure.com`, without a slash at the end.
    pub audience: String,
    /// Entra ID's own host; `None` leaves it to `AZURE_AUTHORITY_HOST` of the process, which a cluster may set for its workloads.
    pub authority_host: Option<Url>,
    /// In order; empty: the account's own order.
    pub preferred_regions: Vec<String>,
    /// Regions that no request goes to unless no other is left.
    pub excluded_regions: Vec<String>,
    /// Bounds each attempt that the driver makes, as it bounds a request as a whole.
    pub request_timeout: Duration,
    /// Bounds the making of one connection.
    pub connect_timeout: Duration,
    /// Which proxy requests go through.
    pub proxy: Proxy,
    /// PEM file of authorities that are trusted besides the system's.
    pub ca_file: Option<String>,
    /// Whether HTTP/2 may be used.
    pub http2: bool,
    /// How often the driver sends a request to another region after a region failed.
    pub failover_retries: u32,
    /// When a look-up of metadata is sent to a second region too; `None` never.
    pub hedging_threshold: Option<Duration>,
    /// Look-ups of metadata that may be with two regions at once.
    pub hedging_concurrency: usize,
}

/// Where a new split begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest change that the container still has.
    Beginning,
    /// With the changes after the first look.
    Now,
    /// Epoch milliseconds; the service counts whole seconds.
    PointInTime(i64),
}

/// Up to where the change feed is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// Without end.
    Never,
    /// Up to what is there when the splits are found.
    Start,
    /// Epoch milliseconds.
    Time(i64),
}

/// Documents by id and partition key, as `keys.rs` reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadMany {
    /// A JSON array.
    List(String),
    /// The path of a file with an object on each line.
    File(String),
}

/// From where a job without a state gets its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// All splits begin here.
    At(Start),
    /// A file says where each split begins.
    Tokens,
    /// The leases of a change feed processor do.
    Leases,
}

/// Leases of change feed processors: where they lie, and what is published as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The database of their container.
    pub database: String,
    /// Their container.
    pub container: String,
    /// What stands in front of a processor's own part of their ids; may be empty.
    pub prefix: String,
    /// Who takes and writes them.
    pub identity: Identity,
    /// In which form progress is published; `None`: it is not.
    pub publish: Option<Sdk>,
    /// Where a lease without position begins.
    pub null_start: Option<Start>,
    /// Time without a renewal after which a lease is free.
    pub expiration: Duration,
    /// Pause between two renewals.
    pub renewal: Duration,
}

/// What becomes of a document that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDecodeError {
    /// The job fails.
    Fail,
    /// Count it and leave it out.
    Skip,
    /// Count it and hand it over, marked.
    Raw,
}

/// What becomes of an operation that the service refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// The job fails.
    Fail,
    /// It is counted and left out.
    Skip,
    /// It is stored in the dead-letter container.
    DeadLetter,
}

/// How long, how often and at what pace something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts for one operation, the first included. Throttled ones do not count.
    pub max_attempts: u32,
    /// The first wait; it doubles with jitter.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// Time after the first failure at which it counts as failed. Throttling does not count.
    pub deadline: Duration,
    /// `None`: throttling is waited out.
    pub throttled_deadline: Option<Duration>,
}

/// How documents are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupConfig {
    /// Most keys of one request.
    pub batch: usize,
    /// How long a key waits for others.
    pub wait: Duration,
    /// Attempts beyond the first; none: as for everything else.
    pub max_retries: Option<u32>,
    /// Most bytes of the rows of one key.
    pub max_result: usize,
}

/// All options of one handle, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account and how it is reached.
    pub account: AccountConfig,
    /// The database.
    pub database: String,
    /// The source's or the sink's container; empty for a handle that has none.
    pub container: String,
    /// Of reads.
    pub consistency: ReadConsistencyStrategy,
    /// Bounds one request, all that the driver does for it included.
    pub request_timeout: Duration,
    /// `None` sends no level.
    pub priority: Option<PriorityLevel>,
    /// `None` sends no bucket.
    pub throughput_bucket: Option<u32>,
    /// Requests in flight of one reader or one writer.
    pub max_concurrency: usize,
    /// How failures are tried again.
    pub retry: RetryConfig,
    /// What is read of a container.
    pub mode: Mode,
    /// From where a job without a state gets its positions.
    pub begin: Begin,
    /// Where a split begins of which nothing else is known.
    pub start: Start,
    /// With all versions and deletes: the container is read as it is, and every change of it from that moment on.
    pub initial: bool,
    /// Where a new split ends.
    pub stop: StopAt,
    /// What is read in place of the change feed.
    pub query: Option<Query>,
    /// Documents that are read by key in place of it.
    pub read_many: Option<ReadMany>,
    /// File of the positions for [`Begin::Tokens`].
    pub start_tokens_file: Option<String>,
    /// Where leases lie; `None`: there are none.
    pub leases: Option<LeaseConfig>,
    /// Most documents in one page.
    pub page_size: u32,
    /// Fewest splits that a job without a savepoint begins with.
    pub min_splits: usize,
    /// Bytes of pages that one reader holds ahead of the job.
    pub prefetch_bytes: u64,
    /// What all readers of a source may use for pages; none: as much as they can.
    pub request_units_per_second: Option<u64>,
    /// Lag from which on a backlog is reported; none: never.
    pub backlog_threshold: Option<Duration>,
    /// Longest pause between two looks at a feed range that has been read to its end.
    pub poll_interval: Duration,
    /// Pause after a look that found changes.
    pub min_poll_interval: Duration,
    /// Pause between two looks for feed ranges; zero looks only once.
    pub discovery_interval: Duration,
    /// What becomes of a document that cannot be decoded.
    pub on_decode_error: OnDecodeError,
    /// What is done with a record that does not say so itself.
    pub write_strategy: OperationKind,
    /// How an id is made of a document where a record gives none.
    pub ids: IdRule,
    /// The fields that a deletion gives, where they are known.
    pub key_fields: Option<KeyFields>,
    /// The fields by which rows that are read are told apart; none: they are not, or not known.
    pub row_key_fields: Option<KeyFields>,
    /// Fields whose value is null are left out.
    pub drop_nulls: bool,
    /// Whether operations travel in bulk requests.
    pub bulk: bool,
    /// Most operations in one bulk request.
    pub max_operations: usize,
    /// Most bytes in one bulk request; an operation that is larger goes alone.
    pub max_request_bytes: usize,
    /// Most bulk requests in flight for one physical partition.
    pub partition_concurrency: usize,
    /// Most records that the writer hands over at once.
    pub max_batch: usize,
    /// Most bytes of a document that is made of a row; others are held against it before they are handed over.
    pub max_record_bytes: usize,
    /// Records of one writer that have not ended, those apart that a partition holds up for its own sake.
    pub max_in_flight_records: usize,
    /// Bytes that are held for one writer.
    pub max_in_flight_bytes: u64,
    /// Time without any answer after which a writer that waits for writes fails; none: it waits for ever.
    pub stall_timeout: Option<Duration>,
    /// What all writers of a sink may use; none: as much as they can.
    pub sink_request_units_per_second: Option<u64>,
    /// First pause before bulk requests are tried again where the service does not take them.
    pub bulk_probe_interval: Duration,
    /// What becomes of an operation that is refused for good.
    pub failure_mode: FailureMode,
    /// Where refused operations are stored with [`FailureMode::DeadLetter`]; else it may be empty.
    pub dead_letter_container: String,
    /// Of look-ups.
    pub lookup: LookupConfig,
}

/// What the options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Neither reads nor writes a container.
    Connection,
    /// A source.
    Source,
    /// A sink.
    Sink,
    /// A job of the demo, before it builds its sources and sinks.
    Job,
    /// Look-ups.
    Lookup,
}

impl Role {
    /// The role of a number that crosses the boundary.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] for a number that is none.
    pub fn from_number(n: i32) -> Result<Role> {
        Ok(match n {
            0 => Role::Connection,
            1 => Role::Source,
            2 => Role::Sink,
            3 => Role::Job,
            4 => Role::Lookup,
            _ => {
                return Err(CoreError::config(format!(
                    "role {n} is unknown; 0 connection, 1 source, 2 sink, 3 job, 4 lookup"
                )))
            }
        })
    }
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
            "neither {value} ({}) nor {file} ({}) is set; set one, or choose another auth.type",
            spec(value).map_or("", |o| o.variable),
            spec(file).map_or("", |o| o.variable)
        ))),
    };
    Ok(match options.get("auth.type").map_or("key", String::as_str) {
        "client-secret" => Auth::ClientSecret {
            tenant_id: need("auth.tenant-id")?,
            client_id: need("auth.client-id")?,
            secret: secret("auth.client-secret", "auth.client-secret-file")?,
        },
        "managed-identity" => Auth::ManagedIdentity {
            client_id: text("auth.client-id"),
        },
        "workload-identity" => Auth::WorkloadIdentity {
            tenant_id: text("auth.tenant-id"),
            client_id: text("auth.client-id"),
            token_file: text("auth.token-file"),
        },
        "developer-tools" => Auth::DeveloperTools,
        _ => Auth::Key(secret("auth.secret-key", "auth.key-file")?),
    })
}

fn leases(options: &BTreeMap<String, String>) -> Result<Option<LeaseConfig>> {
    let Some(container) = options.get("scan.lease.container").cloned() else {
        return Ok(None);
    };
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    let millis = |name: &str| Duration::from_millis(text(name).parse().unwrap_or(0));
    // The job's id, and behind it that of the operator: a job may have several sources.
    let job = text("scan.lease.job");
    let id = job.split('/').next().unwrap_or_default();
    let null_start = options.get("scan.lease.start").map(|text| parse_start(text));
    Ok(Some(LeaseConfig {
        database: options
            .get("scan.lease.database")
            .cloned()
            .unwrap_or_else(|| text("database")),
        container,
        prefix: text("scan.lease.prefix"),
        identity: Identity {
            host: options
                .get("scan.lease.host")
                .cloned()
                .unwrap_or_else(|| format!("cosmosflink-{id}")),
            job,
        },
        publish: match text("scan.lease.format").as_str() {
            "java" => Some(Sdk::Java),
            "dotnet" => Some(Sdk::DotNet),
            _ => None,
        },
        null_start: null_start.transpose().map_err(CoreError::config)?,
        expiration: millis("scan.lease.expiration"),
        renewal: millis("scan.lease.renew-interval"),
    }))
}

impl Config {
    /// Whether the source ends by itself.
    pub fn is_bounded(&self) -> bool {
        self.stop != StopAt::Never || self.query.is_some() || self.read_many.is_some()
    }

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
        let (query, read_many) = (query(&options)?, read_many(&options)?);
        let begin = begin(&options);
        let endpoint =
            Url::parse(&text("endpoint")).map_err(|e| CoreError::config(format!("endpoint: {e}")))?;
        Ok(Config {
            account: AccountConfig {
                endpoint,
                auth: auth(&options)?,
                audience: text("auth.audience").trim_end_matches('/').to_owned(),
                authority_host: authority_host(&options)?,
                preferred_regions: list("preferred-regions"),
                excluded_regions: list("excluded-regions"),
                request_timeout: millis("request-timeout"),
                connect_timeout: millis("connect-timeout"),
                proxy: match text("proxy").as_str() {
                    "none" => Proxy::None,
                    "environment" => Proxy::Environment,
                    url => Proxy::Url(Url::parse(url).map_err(|e| CoreError::config(format!("proxy: {e}")))?),
                },
                ca_file: options.get("tls.ca-file").cloned(),
                http2: text("http2") == "true",
                failover_retries: number("failover.max-retries") as u32,
                hedging_threshold: Some(millis("hedging.threshold")).filter(|t| !t.is_zero()),
                hedging_concurrency: number("hedging.max-concurrency") as usize,
            },
            priority: match text("priority-level").as_str() {
                "high" => Some(PriorityLevel::High),
                "low" => Some(PriorityLevel::Low),
                _ => None,
            },
            throughput_bucket: Some(number("throughput-bucket") as u32).filter(|b| *b > 0),
            database: text("database"),
            container: text("container"),
            consistency: match text("consistency").as_str() {
                "eventual" => ReadConsistencyStrategy::Eventual,
                "session" => ReadConsistencyStrategy::Session,
                "latest-committed" => ReadConsistencyStrategy::LatestCommitted,
                "global-strong" => ReadConsistencyStrategy::GlobalStrong,
                _ => ReadConsistencyStrategy::Default,
            },
            request_timeout: millis("request-timeout"),
            max_concurrency: number("max-concurrency") as usize,
            retry: RetryConfig {
                max_attempts: number("retry.max-attempts") as u32,
                backoff: millis("retry.backoff"),
                max_backoff: millis("retry.max-backoff"),
                deadline: millis("retry.deadline"),
                throttled_deadline: Some(millis("retry.throttled-deadline")).filter(|d| !d.is_zero()),
            },
            mode: match text("scan.change-feed.mode").as_str() {
                _ if query.is_some() => Mode::Query,
                _ if read_many.is_some() => Mode::ReadMany,
                ALL_VERSIONS => Mode::AllVersionsAndDeletes,
                _ => Mode::LatestVersion,
            },
            begin,
            start: match begin {
                Begin::At(start) => start,
                Begin::Tokens | Begin::Leases => Start::Beginning,
            },
            initial: text("scan.startup.mode") == INITIAL,
            stop: stop(&options),
            query,
            read_many,
            start_tokens_file: options.get("scan.startup.tokens-file").cloned(),
            leases: leases(&options)?,
            page_size: number("scan.page-size") as u32,
            min_splits: number("scan.min-splits") as usize,
            prefetch_bytes: number("scan.prefetch-size"),
            request_units_per_second: Some(number("scan.request-units-per-second"))
                .filter(|units| *units > 0),
            backlog_threshold: Some(millis("scan.backlog-threshold")).filter(|lag| !lag.is_zero()),
            poll_interval: millis("scan.poll-interval"),
            min_poll_interval: millis("scan.min-poll-interval"),
            discovery_interval: millis("scan.discovery-interval"),
            on_decode_error: match text("json.on-error").as_str() {
                "skip-row" => OnDecodeError::Skip,
                "raw" => OnDecodeError::Raw,
                _ => OnDecodeError::Fail,
            },
            write_strategy: OperationKind::from_name(&text("sink.write-strategy"))
                .unwrap_or(OperationKind::Upsert),
            ids: id_rule(&options)?,
            key_fields: key_fields(&options)?,
            row_key_fields: row_key_fields(&options)?,
            drop_nulls: text("sink.null-policy") == "drop",
            bulk: text("sink.bulk") == "true",
            max_operations: number("sink.max-operations-per-request") as usize,
            max_request_bytes: number("sink.max-request-size") as usize,
            partition_concurrency: number("sink.partition-concurrency") as usize,
            max_batch: number("sink.buffer-flush.max-rows") as usize,
            max_record_bytes: number("sink.max-record-size") as usize,
            max_in_flight_records: (number("sink.buffer-flush.max-rows")
                * number("sink.max-in-flight-requests")) as usize,
            max_in_flight_bytes: number("sink.max-in-flight-size"),
            stall_timeout: Some(millis("sink.stall-timeout")).filter(|t| !t.is_zero()),
            sink_request_units_per_second: Some(number("sink.request-units-per-second"))
                .filter(|units| *units > 0),
            bulk_probe_interval: Duration::from_millis(number("sink.bulk-probe-interval")),
            failure_mode: match text("sink.failure-mode").as_str() {
                "skip" => FailureMode::Skip,
                "dead-letter" => FailureMode::DeadLetter,
                _ => FailureMode::Fail,
            },
            dead_letter_container: text("sink.dead-letter-container"),
            lookup: LookupConfig {
                batch: number("lookup.batch.max-size") as usize,
                wait: millis("lookup.batch.max-wait"),
                max_retries: options
                    .contains_key("lookup.max-retries")
                    .then(|| number("lookup.max-retries") as u32),
                max_result: number("lookup.max-result-size") as usize,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::options::MIB;
    use super::validation::check_value;
    use super::*;
    use crate::error::Kind;

    fn pairs(p: &[(&str, &str)]) -> Vec<(String, String)> {
        p.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn durations_and_sizes_have_units() {
        let given = with(&[
            ("scan.poll-interval", "2 s"),
            ("scan.prefetch-size", "8 mb"),
            ("retry.deadline", "5min"),
            ("request-timeout", "2500"),
        ]);
        let config = Config::parse(Role::Source, &given).unwrap();
        assert_eq!(config.poll_interval, Duration::from_secs(2));
        assert_eq!(config.prefetch_bytes, 8 * MIB);
        assert_eq!(config.retry.deadline, Duration::from_secs(300));
        assert_eq!(config.request_timeout, Duration::from_millis(2500));
        // The shims count in milliseconds and bytes.
        let checked = validate(Role::Source, &given).unwrap();
        for (name, value) in [
            ("scan.poll-interval", "2000"),
            ("scan.prefetch-size", "8388608"),
            ("request-timeout", "2500"),
            ("connect-timeout", "5000"),
            ("sink.max-request-size", "220201"),
        ] {
            assert_eq!(checked[name], value, "{name}");
        }
        for (name, value, why) in [
            ("scan.poll-interval", "2 parsecs", "'parsecs' is no unit"),
            ("scan.poll-interval", "2 h", "duration, 50 ms to 1 h"),
            ("scan.prefetch-size", "1 s", "'s' is no unit"),
            ("scan.prefetch-size", "1 kb", "size, 1 mb to 1 tb"),
        ] {
            let error = Config::parse(Role::Source, &with(&[(name, value)])).unwrap_err();
            assert!(
                error.message.contains(why) && error.message.contains(&format!("'{value}'")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_earlier_name_says_what_it_is_called_now() {
        let mut seen = std::collections::HashSet::new();
        for (former, new) in super::former::NAMES {
            assert!(spec(former).is_none(), "{former}");
            assert!(spec(new).is_some(), "{new}");
            assert!(seen.insert(former) && seen.insert(new), "{former} or {new} twice");
            let expected = format!("'{former}' is now '{new}'");
            let given = with(&[(former, "VerySecret")]);
            let resolved = resolve(&pairs(&[(former, "VerySecret")]), &[]).unwrap_err();
            for error in [Config::parse(Role::Source, &given).unwrap_err(), resolved] {
                assert_eq!(error.kind, Kind::Config);
                assert!(
                    error.message.contains(&expected) && !error.message.contains("VerySecret"),
                    "{error}"
                );
            }
        }
        let error = Config::parse(Role::Source, &with(&[("scan.startup.mode", "beginning")])).unwrap_err();
        assert!(error.message.contains("it is 'earliest' now"), "{error}");
    }

    #[test]
    fn variables_keep_their_words() {
        let of = |name: &str, value: &str| {
            let variable = pairs(&[(name, value)]);
            // As a variable of the environment, and as an argument of its name.
            let (env, argument) = (resolve(&[], &variable).unwrap(), resolve(&variable, &[]).unwrap());
            assert_eq!(env, argument);
            env.into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let start = "COSMOS_SOURCE_START";
        assert_eq!(of(start, "beginning"), "scan.startup.mode=earliest");
        assert_eq!(of(start, "now"), "scan.startup.mode=latest");
        assert_eq!(of(start, "latest"), "scan.startup.mode=latest");
        assert_eq!(of(start, "leases"), "scan.startup.mode=leases");
        assert_eq!(
            of(start, "2026-01-02T03:04:05Z"),
            "scan.startup.mode=timestamp scan.startup.timestamp-millis=1767323045000"
        );
        let stop = "COSMOS_SOURCE_STOP";
        assert_eq!(of(stop, "never"), "scan.bounded.mode=unbounded");
        assert_eq!(of(stop, "start"), "scan.bounded.mode=latest");
        assert_eq!(
            of(stop, "2026-01-02T03:04:05.5+00:00"),
            "scan.bounded.mode=timestamp scan.bounded.timestamp-millis=1767323045500"
        );
        assert_eq!(of("COSMOS_SOURCE_LEASE_START", "now"), "scan.lease.start=latest");
        assert_eq!(
            of("COSMOS_SOURCE_ON_DECODE_ERROR", "skip"),
            "json.on-error=skip-row"
        );
        assert_eq!(
            of("COSMOS_SOURCE_POLL_INTERVAL_MS", "500"),
            "scan.poll-interval=500"
        );
        let error = resolve(&[], &pairs(&[(start, "yesterday")])).unwrap_err();
        assert!(error.message.contains("'yesterday'"), "{error}");
        // An argument with a mode leaves nothing of the variable's time.
        let time = pairs(&[(start, "2026-01-02T03:04:05Z")]);
        let out = resolve(&pairs(&[("scan.startup.mode", "latest")]), &time).unwrap();
        assert_eq!(out.len(), 1, "{out:?}");
        let later = pairs(&[("scan.startup.timestamp-millis", "7")]);
        let out = resolve(&later, &time).unwrap();
        assert_eq!(out["scan.startup.timestamp-millis"], "7");
        assert_eq!(out["scan.startup.mode"], "timestamp");
    }

    const BASE: &[(&str, &str)] = &[
        ("endpoint", "https://a.documents.azure.com:443/"),
        ("database", "orders"),
        ("container", "c"),
        ("auth.secret-key", "c2VjcmV0"),
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
        for o in table() {
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
            (("endpoint", "ftp://x"), "ftp://x"),
            (("endpoint", "https://user:pw@x/"), "password"),
            (("scan.page-size", "0"), "'0'"),
            (("scan.startup.mode", "yesterday"), "'yesterday'"),
            (("sink.bulk", "yes"), "'yes'"),
            (("scan.bounded.mode", "tomorrow"), "'tomorrow'"),
            (("scan.query", "SELECT COUNT(1) FROM c"), "COUNT"),
            (("scan.query-parameters", "{}"), "scan.query is not"),
            (("pagesize", "1"), "pagesize"),
            (("auth.type", "password"), "'password'"),
            (("auth.authority-host", "http://login.example"), "https"),
            (("proxy", "sometimes"), "'sometimes'"),
            (("proxy", "http://user:pw@proxy:3128"), "password"),
            (("throughput-bucket", "6"), "'6'"),
            (("retry.backoff", "60000"), "retry.max-backoff"),
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
            error.message.contains("endpoint") && error.message.contains("COSMOS_URI"),
            "{error}"
        );
        for (fields, ids, expected) in [
            ("/id", "{id}", "'/id' is not valid"),
            ("[\"id\"]", "{id}", "'id' does not begin with a slash"),
            ("[\"/pk\"]", "{id}", "lacks '/id', of which sink.id makes the id"),
            ("[\"/a/b\"]", "{a/b}-{a/c}", "lacks '/a/c'"),
            ("[\"/a~1b\"]", "hash(pk)", "lacks '/pk'"),
        ] {
            let options = with(&[("sink.key-fields", fields), ("sink.id", ids)]);
            let error = Config::parse(Role::Sink, &options).unwrap_err();
            assert_eq!(error.kind, Kind::Config);
            assert!(
                error.message.contains(expected) && error.message.contains("sink.key-fields"),
                "{fields} {ids}: {error}"
            );
        }
        let error = Config::parse(Role::Sink, &with(&[("sink.failure-mode", "dead-letter")])).unwrap_err();
        assert!(error.message.contains("sink.dead-letter-container"), "{error}");
    }

    #[test]
    fn a_key_never_shows() {
        let config = Config::parse(Role::Source, &with(&[("auth.secret-key", "VerySecret")])).unwrap();
        assert!(!format!("{config:?}").contains("VerySecret"));
        let error = Config::parse(Role::Source, &with(&[("auth.secret-key", "")])).unwrap_err();
        assert!(error.message.contains("auth.secret-key"));
    }

    #[test]
    fn what_is_no_address_and_may_hold_a_secret_never_shows() {
        let string = "AccountEndpoint=https://a.documents.azure.com:443/;AccountKey=VerySecret==;";
        for (name, value) in [
            ("endpoint", string),
            ("endpoint", "user:VerySecret@host"),
            ("endpoint", "VerySecret=="),
            ("proxy", "socks5://user:VerySecret@proxy:1080"),
            ("proxy", "http://user:p/VerySecret@proxy"),
            ("proxy", "http://user:VerySecret@proxy"),
            ("auth.authority-host", "http://user:VerySecret@host"),
            ("auth.audience", "x?sig=VerySecret"),
        ] {
            let error = Config::parse(Role::Source, &with(&[(name, value)])).unwrap_err();
            assert!(error.message.starts_with(name), "{error}");
            assert!(!error.message.contains("VerySecret"), "{error}");
        }
        let error = Config::parse(Role::Source, &with(&[("endpoint", string)])).unwrap_err();
        assert!(error.message.contains("connection string"), "{error}");
        let error = Config::parse(Role::Source, &with(&[("endpoint", "localhost:8081")])).unwrap_err();
        assert!(error.message.contains("'localhost:8081'"), "{error}");
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
            &pairs(&[("COSMOS_URI", "https://arg/"), ("auth.key-file", "/f")]),
            &env,
        )
        .unwrap();
        assert_eq!(out["endpoint"], "https://arg/");
        assert_eq!(out["auth.key-file"], "/f");
        assert!(!out.contains_key("auth.secret-key") && !out.contains_key("database"));
        let error = resolve(&pairs(&[("endpont", "x")]), &[]).unwrap_err();
        assert!(error.message.contains("endpoint"), "{error}");
    }

    #[test]
    fn a_key_file_is_read_trimmed_and_missing_ones_are_named() {
        let path = std::env::temp_dir().join(format!("cosmosflink-key-{}", std::process::id()));
        std::fs::write(&path, " a2V5 \n").unwrap();
        let source = SecretSource::File(path.to_str().unwrap().to_owned());
        assert_eq!(source.resolve("auth.key-file").unwrap().expose(), "a2V5");
        std::fs::remove_file(&path).unwrap();
        let error = source.resolve("auth.key-file").unwrap_err();
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
        let (poll, min) = ("scan.poll-interval", "scan.min-poll-interval");
        assert_eq!(pauses(&[]), (25, 1000));
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
    fn all_versions_and_deletes_start_where_the_service_has_them() {
        let (mode, start) = ("scan.change-feed.mode", "scan.startup.mode");
        let all = (mode, "all-versions-and-deletes");
        let refused = |extra: &[(&str, &str)], with_reasons: &[&str]| {
            for role in [Role::Source, Role::Job] {
                let error = Config::parse(role, &with(extra)).unwrap_err();
                assert_eq!(error.kind, Kind::Config);
                for part in with_reasons {
                    assert!(error.message.contains(part), "{part} is missing: {error}");
                }
            }
        };
        // Also where it is nobody's choice.
        refused(&[all], &["'earliest'", "retention", "latest", "initial"]);
        refused(&[all, (start, "earliest")], &["'earliest'", "retention"]);
        refused(
            &[
                all,
                (start, "timestamp"),
                ("scan.startup.timestamp-millis", "1767323045000"),
            ],
            &["'timestamp'", "point in time"],
        );
        refused(
            &[(start, "initial")],
            &["latest-version", "all-versions-and-deletes"],
        );
        refused(&[(mode, "deletes")], &["'deletes'", "all-versions-and-deletes"]);
        let now = Config::parse(Role::Source, &with(&[all, (start, "latest")])).unwrap();
        assert_eq!(
            (now.mode, now.start, now.initial),
            (Mode::AllVersionsAndDeletes, Start::Now, false)
        );
        let initial = Config::parse(Role::Source, &with(&[all, (start, "initial")])).unwrap();
        assert_eq!(
            (initial.mode, initial.start, initial.initial),
            (Mode::AllVersionsAndDeletes, Start::Beginning, true)
        );
        // A sink, which reads nothing, is not asked.
        Config::parse(Role::Sink, &with(&[all])).unwrap();
        let counts = [all, (start, "latest"), ("job.count-repeats", "true")];
        let error = Config::parse(Role::Job, &with(&counts)).unwrap_err();
        assert!(error.message.contains("job.count-repeats"), "{error}");
    }

    #[test]
    fn a_point_in_time_is_read() {
        let (mode, time) = (
            ("scan.startup.mode", "timestamp"),
            ("scan.startup.timestamp-millis", "1767323045000"),
        );
        let config = Config::parse(Role::Source, &with(&[mode, time])).unwrap();
        assert_eq!(config.start, Start::PointInTime(1_767_323_045_000));
        for wrong in [mode, time] {
            let error = Config::parse(Role::Source, &with(&[wrong])).unwrap_err();
            assert!(
                error.message.contains(mode.0) && error.message.contains(time.0),
                "{error}"
            );
        }
    }

    #[test]
    fn a_stop_makes_a_source_bounded() {
        let of = |extra: &[(&str, &str)]| Config::parse(Role::Source, &with(extra));
        let (start, stop, query) = ("scan.startup.mode", "scan.bounded.mode", "scan.query");
        let from = [
            (start, "timestamp"),
            ("scan.startup.timestamp-millis", "1767323045000"),
        ];
        let to = [
            (stop, "timestamp"),
            ("scan.bounded.timestamp-millis", "1767323045000"),
        ];
        assert!(!of(&[]).unwrap().is_bounded());
        let config = of(&[(stop, "latest")]).unwrap();
        assert_eq!((config.stop, config.is_bounded()), (StopAt::Start, true));
        let config = of(&to).unwrap();
        assert_eq!(config.stop, StopAt::Time(1_767_323_045_000));
        let config = of(&[
            (query, "SELECT * FROM c WHERE c.n = @n"),
            ("scan.query-parameters", r#"{"@n":1}"#),
        ])
        .unwrap();
        assert!(config.is_bounded());
        for (wrong, what) in [
            (&[(start, "latest"), (stop, "latest")][..], "nothing to read"),
            (&[from[0], from[1], to[0], to[1]], "nothing to read"),
            (&[(query, "SELECT * FROM c"), to[0], to[1]], "leave them out"),
            (&[(query, "SELECT * FROM c"), (start, "latest")], "leave them out"),
            (&[(query, "SELECT * FROM c WHERE c.n = @n")], "@n has no value"),
            (&[("scan.read-many", "[7]")], "JSON array of objects"),
            (
                &[("scan.read-many", "[]"), ("scan.read-many-file", "f")],
                "keep one",
            ),
            (&[("scan.read-many", "[]"), (stop, "latest")], "leave them out"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(
                error.kind == Kind::Config && error.message.contains(what),
                "{error}"
            );
        }
    }

    #[test]
    fn leases_are_of_a_change_feed() {
        let of = |extra: &[(&str, &str)]| Config::parse(Role::Source, &with(extra));
        let container = ("scan.lease.container", "leases");
        let leases = of(&[container, ("scan.lease.job", "j/o")])
            .unwrap()
            .leases
            .unwrap();
        assert_eq!(
            (leases.identity.host.as_str(), leases.identity.job.as_str()),
            ("cosmosflink-j", "j/o")
        );
        assert_eq!(leases.database, of(&[]).unwrap().database);
        let query = ("scan.query", "SELECT * FROM c");
        assert!(of(&[container, query, ("scan.lease.format", "none")]).is_ok());
        for (wrong, what) in [
            (&[container, query][..], "scan.lease.format to none"),
            (
                &[container, ("scan.read-many", "[]")],
                "scan.lease.format to none",
            ),
            (
                &[query, container, ("scan.startup.mode", "leases")],
                "do not apply",
            ),
            (
                &[("scan.startup.mode", "leases")],
                "scan.lease.container is missing",
            ),
            (
                &[("scan.startup.mode", "tokens")],
                "scan.startup.tokens-file is missing",
            ),
            (
                &[container, ("scan.lease.renew-interval", "30001")],
                "half of scan.lease.expiration",
            ),
            (
                &[
                    container,
                    ("scan.change-feed.mode", "all-versions-and-deletes"),
                    ("scan.startup.mode", "leases"),
                    ("scan.lease.start", "earliest"),
                ],
                "scan.lease.start",
            ),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(
                error.kind == Kind::Config && error.message.contains(what),
                "{error}"
            );
        }
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
