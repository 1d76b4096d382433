//! What all readers and writers of a process share: one tokio runtime, and one driver with its connections per account.
//!
//! Both are counted by their users and go when the last one closes. Where several class loaders share one copy of the
//! library (see `docs/adr`), "process" is meant literally: the jobs of a TaskManager share them too.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, CosmosResponse, DatabaseReference,
};
use azure_data_cosmos_driver::options::{
    AvailabilityStrategy, BinaryEncodingOptions, ConnectionPoolOptions, ConnectionPoolOptionsBuilder,
    ContentResponseOnWrite, DriverOptions, EndToEndOperationLatencyPolicy, ExcludedRegions, HedgeThreshold,
    HedgingOptionsBuilder, HedgingStrategy, OperationOptions, OperationOptionsBuilder, PlanOptions,
    ReadConsistencyStrategy, Region, ThrottlingRetryOptionsBuilder, ThroughputControlOptionsBuilder,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime, CosmosError};
use futures::future::{BoxFuture, WeakShared};
use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::{AccountConfig, Auth, Config, Proxy, RetryConfig, Secret, SecretSource};
use crate::credentials::{self, Tokens};
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::retry::{until_answered, Attempts};
use crate::same::Seen;
use crate::status::{hides_its_cause, is_credential_refused, Asked, Fate, Next};
use crate::transport::{self, tls_advice, Clients};

/// How long the runtime may take to stop when the last handle closes. Tasks are aborted at their next await point, so
/// this is only reached when the operating system holds a thread up (name resolution).
const SHUTDOWN: Duration = Duration::from_secs(2);

/// The tokio runtime of the process.
pub struct Runtime {
    tokio: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    fn start() -> Result<Runtime> {
        crate::allocator::configure();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers(
                std::thread::available_parallelism().map_or(1, usize::from),
            ))
            .thread_name("cosmosflink")
            .enable_all()
            .build()
            .map_err(|e| CoreError::internal(format!("cannot start the runtime's threads: {e}")))?;
        Ok(Runtime { tokio: Some(tokio) })
    }

    /// The runtime of the process, started when nobody uses it yet.
    ///
    /// # Errors
    /// Internal when its threads cannot be started.
    pub fn shared() -> Result<Arc<Runtime>> {
        with_process(|process| {
            if let Some(runtime) = process.runtime.upgrade() {
                return Ok(runtime);
            }
            let runtime = Arc::new(Runtime::start()?);
            process.runtime = Arc::downgrade(&runtime);
            Ok(runtime)
        })
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.tokio.as_ref().expect("taken only by drop").handle()
    }
}

/// Threads of the runtime: one for every four cores. One writes or reads some 200,000 documents a second, and threads that hand
/// tasks to each other cost more than they carry: with two in place of one a bulk write took a quarter more CPU.
fn workers(cores: usize) -> usize {
    (cores / 4).max(1)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(tokio) = self.tokio.take() {
            if tokio::runtime::Handle::try_current().is_ok() {
                // The last user was dropped by one of our own tasks, where waiting is not allowed.
                tokio.shutdown_background();
            } else {
                tokio.shutdown_timeout(SHUTDOWN);
            }
        }
    }
}

/// An account: its driver, its connections, and the runtime that they live on.
pub struct Account {
    // In this order: the driver's tasks end before their runtime.
    /// The vendor's driver, with its connections and caches.
    pub driver: Arc<CosmosDriver>,
    /// What the driver's tasks run on.
    pub runtime: Arc<Runtime>,
    /// What it was opened with.
    secret: Option<Secret>,
    /// What signs its requests, unless a key does.
    tokens: Option<Arc<Tokens>>,
    /// Containers (database and name) that were looked up before: the driver answers for them from its cache.
    looked_up: Mutex<HashSet<(String, String)>>,
    /// What the service said last of whether containers are there, by their resource ids.
    seen: Mutex<HashMap<String, Arc<Seen>>>,
}

/// The driver takes no longer time for one request for metadata.
const MAX_METADATA_TIMEOUT: Duration = Duration::from_secs(65);

/// Longest time that the opening of a handle may take in all, whatever the options are: well within the 180 s after which Flink gives
/// up a TaskManager whose task does not end (`task.cancellation.timeout`).
pub const OPENING: Duration = Duration::from_secs(90);

/// Longest time for which an opening waits throttling out: within [`OPENING`], so that it ends with what the service said.
const THROTTLED_OPENING: Duration = Duration::from_secs(75);

/// Longest time for which an opening asks again after another failure that says when to.
const FAILING_OPENING: Duration = Duration::from_secs(60);

/// When to ask for partitions again that could not be read. The driver has asked several times by then.
const PARTITIONS_AGAIN: Duration = Duration::from_secs(1);

/// Longest time for which a file of a secret or of authorities is waited for: it may lie on a network that hangs.
const FILE_READ: Duration = Duration::from_secs(5);

/// A connect that is under way; every opening of the account waits for the same one. It ends when the last of them gives up.
type Connecting = BoxFuture<'static, Result<Arc<Account>>>;

#[derive(Default)]
struct Entry {
    open: Weak<Account>,
    connecting: Option<WeakShared<Connecting>>,
}

#[derive(Default)]
struct Process {
    runtime: Weak<Runtime>,
    accounts: HashMap<AccountKey, Entry>,
}

/// Two handles share an account when these are equal. What its files hold is part of it, so that a new key or a new authority is
/// never served by a connection that was opened with an old one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct AccountKey {
    config: AccountConfig,
    secret: Option<Secret>,
    /// SHA-256 of the file of certificate authorities.
    authorities: Option<[u8; 32]>,
}

/// Held for look-ups only, never while something waits for a network or a file.
static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

fn with_process<T>(act: impl FnOnce(&mut Process) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<Process>> = PROCESS.lock().unwrap_or_else(|e| e.into_inner());
    act(guard.get_or_insert_with(Process::default))
}

impl Account {
    /// The account of `config`, opened when nobody has it open. Openings of the same account at the same time share one connect.
    /// Runs on the shared runtime.
    ///
    /// # Errors
    /// Config for a file of a key or of authorities that cannot be read, Auth for a refused credential, Throttled, Transient when the
    /// endpoint does not answer within the request time-out, or the file system does not.
    pub async fn open(config: &Config) -> Result<Arc<Account>> {
        let secret = secret(&config.account.auth).await?;
        let pem = authorities(&config.account).await?;
        let runtime = Runtime::shared()?;
        let key = AccountKey {
            config: config.account.clone(),
            secret,
            authorities: pem.as_deref().map(|pem| Sha256::digest(pem).into()),
        };
        let connecting = with_process(|process| {
            process.accounts.retain(|_, e| {
                e.open.strong_count() > 0 || e.connecting.as_ref().is_some_and(|c| c.upgrade().is_some())
            });
            let entry = process.accounts.entry(key.clone()).or_default();
            if let Some(account) = entry.open.upgrade() {
                return futures::future::ready(Ok(account)).boxed().shared();
            }
            if let Some(connecting) = entry.connecting.as_ref().and_then(WeakShared::upgrade) {
                return connecting;
            }
            let fresh = Self::connect(key, pem, runtime, config.request_timeout)
                .boxed()
                .shared();
            entry.connecting = fresh.downgrade();
            fresh
        });
        connecting.await
    }

    async fn connect(
        key: AccountKey,
        authorities: Option<Vec<u8>>,
        runtime: Arc<Runtime>,
        limit: Duration,
    ) -> Result<Arc<Account>> {
        let endpoint = key.config.endpoint.to_string();
        let connected = connect(&key.config, key.secret.clone(), authorities.as_deref());
        let account = within(limit, connected)
            .await
            .map(|(driver, tokens)| {
                Arc::new(Account {
                    driver,
                    runtime,
                    secret: key.secret.clone(),
                    tokens,
                    looked_up: Mutex::default(),
                    seen: Mutex::default(),
                })
            })
            .map_err(|e| e.while_doing(format!("cannot connect to {endpoint}")));
        with_process(|process| match &account {
            Ok(account) => {
                let entry = Entry {
                    open: Arc::downgrade(account),
                    connecting: None,
                };
                process.accounts.insert(key, entry);
            }
            // The next opening begins anew; those that wait for this one share its failure.
            Err(_) => drop(process.accounts.remove(&key)),
        });
        account
    }

    /// The account of `config` and its container, looked up, so that a wrong key or name fails at once. Throttling is waited out.
    ///
    /// # Errors
    /// Those of [`Account::open`] and [`Account::container`].
    pub async fn open_with_container(
        config: Config,
    ) -> Result<(Arc<Account>, Arc<Config>, ContainerReference)> {
        // A connect has its own limit, that of whoever began it.
        let account = patiently(&config, || Account::open(&config)).await?;
        let look_up = || account.container(&config, &config.container);
        let container = look_up_at_opening(&config, look_up).await?;
        Ok((account, Arc::new(config), container))
    }

    /// Whether the secret of `config` is another one than this account was opened with: its file was written anew.
    ///
    /// # Errors
    /// Config for a file that cannot be read, Transient for one that takes too long.
    pub async fn is_outdated(&self, config: &Config) -> Result<bool> {
        Ok(secret(&config.account.auth).await? != self.secret)
    }

    /// The failure of a request that was begun at `begun`. Where the service refused its token, which by the local clock may be good
    /// for long, and the next request is signed with another one, the failure is one that may pass. The driver tells a credential
    /// nothing of what became of its tokens.
    pub fn judged(&self, failure: CoreError, begun: Instant) -> CoreError {
        let replaced = is_credential_refused(failure.status, failure.sub_status)
            && self.tokens.as_ref().is_some_and(|tokens| tokens.refused(begun));
        match replaced {
            true => CoreError {
                kind: Kind::Transient,
                next: Next::Retry,
                ..failure
            },
            false => failure,
        }
    }

    /// `look_up`, once more where its token was refused and there is a better one.
    async fn with_good_token<T, F: Future<Output = Result<T>>>(&self, look_up: impl Fn() -> F) -> Result<T> {
        let begun = Instant::now();
        match look_up().await {
            Err(e) if is_credential_refused(e.status, e.sub_status) => match self.judged(e, begun) {
                e if e.next == Next::Retry => look_up().await,
                e => Err(e),
            },
            other => other,
        }
    }

    /// Asks the service for a container that was looked up before, past every cache.
    ///
    /// # Errors
    /// NotFound when it is gone, State when another one has its name now, Auth when the credential is refused.
    pub async fn check_container(&self, config: &Config, container: &ContainerReference) -> Result<()> {
        let name = container.name();
        let look_up = || async {
            let read = CosmosOperation::read_container_by_name(
                DatabaseReference::from_name(self.driver.account().clone(), config.database.clone()),
                name.to_owned(),
            );
            self.driver
                .execute_singleton_operation(read, read_options(config))
                .await
                .map_err(|e| failed(e).while_doing(format!("cannot look up container '{name}'")))
        };
        let response = self.with_good_token(look_up).await?;
        let body = response.into_body().single().map_err(failed)?;
        let now: ContainerBody = serde_json::from_slice(&body)
            .map_err(|e| CoreError::internal(format!("container '{name}' cannot be understood: {e}")))?;
        if now.rid != container.rid() {
            return Err(crate::feed::recreated(name, container.rid(), &now.rid));
        }
        Ok(())
    }

    /// What the service says of whether a container is there, for all who ask with this account: it is asked for them together.
    pub fn seen(&self, container: &ContainerReference) -> Arc<Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        seen.entry(container.rid().to_owned()).or_default().clone()
    }

    /// Looks a container up, past the driver's cache: a handle that is opened after the container was created anew must
    /// get the new one, also while others hold the account open.
    ///
    /// # Errors
    /// NotFound names database and container.
    pub async fn container(&self, config: &Config, container: &str) -> Result<ContainerReference> {
        let (driver, database) = (&self.driver, config.database.as_str());
        let look_up = || async {
            let found = driver
                .resolve_container(database, container, read_options(config))
                .await?;
            let name = (database.to_owned(), container.to_owned());
            let fresh = self
                .looked_up
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .insert(name);
            if fresh {
                return Ok(found);
            }
            let anew = driver.refresh_container_if_recreated(&found, read_options(config));
            Ok(anew.await?.unwrap_or(found))
        };
        let look_up = || async {
            look_up().await.map_err(|e: CosmosError| {
                let error = failed(e).while_doing(format!(
                    "cannot look up container '{container}' of database '{database}'"
                ));
                match hides_its_cause(error.sub_status) {
                    true => ask_again(error),
                    false => error,
                }
            })
        };
        self.with_good_token(look_up).await
    }
}

/// A failure to read partitions whose cause the driver keeps to itself. It may be throttling: an opening asks again as well.
pub(crate) fn ask_again(error: CoreError) -> CoreError {
    CoreError {
        retry_after_ms: error.retry_after_ms.or(Some(PARTITIONS_AGAIN.as_millis() as u64)),
        ..error
    }
}

/// A failure of a request for metadata. Asking again is always safe.
pub(crate) fn failed(error: CosmosError) -> CoreError {
    CoreError::from_driver(&error, Asked::Metadata, Fate::NotCarriedOut)
}

#[derive(serde::Deserialize)]
struct ContainerBody {
    #[serde(rename = "_rid")]
    rid: String,
}

async fn connect(
    config: &AccountConfig,
    secret: Option<Secret>,
    authorities: Option<&[u8]>,
) -> Result<(Arc<CosmosDriver>, Option<Arc<Tokens>>)> {
    let clients = Clients::of(config, authorities)?;
    let (reference, tokens) = credentials::reference(config, secret, &clients).await?;
    let mut runtime = CosmosDriverRuntime::builder()
        .with_wrapping_sdk_identifier(concat!("cosmosflink/", env!("CARGO_PKG_VERSION")))
        .with_connection_pool(connections(config).map_err(failed)?);
    if clients.are_needed() {
        runtime = runtime.with_mock_http_client_factory(Arc::new(clients));
    }
    let runtime = runtime.build().await.map_err(failed)?;
    let hedging =
        HedgingOptionsBuilder::new().with_max_concurrent_metadata_attempts(config.hedging_concurrency);
    let options = DriverOptions::builder(reference)
        .with_preferred_regions(
            config
                .preferred_regions
                .iter()
                .cloned()
                .map(Region::new)
                .collect(),
        )
        // For what the driver asks by itself as well, such as the ranges of a container. Throttling it tells before our own limit
        // ends it as a request that is not answered.
        .with_operation_options(
            routing(config, OperationOptionsBuilder::new())
                .with_throttling_retry_options(
                    ThrottlingRetryOptionsBuilder::new()
                        .with_max_retry_wait_time(config.request_timeout / 2)
                        .build(),
                )
                .build(),
        )
        .with_hedging_options(hedging.build())
        .build();
    let driver = runtime.create_driver(options).await;
    let driver = driver.map_err(|e| tls_advice(&e, config, failed(e.clone())))?;
    Ok((driver, tokens))
}

/// How the driver makes connections, and how long it waits on them.
fn connections(config: &AccountConfig) -> azure_data_cosmos_driver::Result<ConnectionPoolOptions> {
    ConnectionPoolOptionsBuilder::new()
        // Gateway 2.0 forwards a list of headers that it knows: a bulk request would arrive as a plain create.
        .with_gateway_v2_disabled(true)
        .with_is_http2_allowed(config.http2)
        .with_proxy_allowed(config.proxy == Proxy::Environment)
        .with_max_connect_timeout(config.connect_timeout)
        // The driver's own limit of 6 s would send a slow bulk request a second time.
        .with_max_dataplane_request_timeout(config.request_timeout)
        .with_max_metadata_request_timeout(config.request_timeout.min(MAX_METADATA_TIMEOUT))
        .build()
}

/// Which regions a request goes to.
fn routing(config: &AccountConfig, options: OperationOptionsBuilder) -> OperationOptionsBuilder {
    let hedging = config.hedging_threshold.and_then(HedgeThreshold::new);
    let hedging = hedging.map_or(AvailabilityStrategy::Disabled, |threshold| {
        AvailabilityStrategy::Hedging(HedgingStrategy::new(threshold))
    });
    let excluded = config.excluded_regions.iter().cloned();
    options
        .with_excluded_regions(excluded.fold(ExcludedRegions::new(), ExcludedRegions::with_region))
        .with_max_failover_retry_count(config.failover_retries)
        .with_availability_strategy(hedging)
}

/// Runs the opening of a handle from a thread that may block.
pub fn open_blocking<T: Send + 'static>(
    opening: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    block_on(&*Runtime::shared()?, OPENING, opening)
}

/// Runs `future` from a thread that may block, for at most `limit`.
pub(crate) fn block_within<T: Send + 'static>(
    limit: Duration,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    block_on(&*Runtime::shared()?, limit, future)
}

fn block_on<T: Send + 'static>(
    runtime: &Runtime,
    limit: Duration,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    runtime
        .handle()
        .block_on(runtime.handle().spawn(within(limit, future)))
        .map_err(|e| CoreError::internal(format!("a task of the core failed: {e}")))?
}

/// A look-up of an opening, which is bounded by [`OPENING`] in all. Throttling is waited out: tens of readers that start at once would
/// else fail of it and start anew together. So is any other failure that says when to ask again. What remains ends it, and the job's
/// restart is the next attempt.
pub async fn look_up_at_opening<T, F: Future<Output = Result<T>>>(
    config: &Config,
    look_up: impl Fn() -> F,
) -> Result<T> {
    patiently(config, || within(config.request_timeout, look_up())).await
}

/// [`look_up_at_opening`] for what bounds its attempts itself.
async fn patiently<T, F: Future<Output = Result<T>>>(config: &Config, look_up: impl Fn() -> F) -> Result<T> {
    let retry = RetryConfig {
        max_attempts: u32::MAX,
        deadline: FAILING_OPENING.min(config.retry.deadline),
        throttled_deadline: Some(
            config
                .retry
                .throttled_deadline
                .map_or(THROTTLED_OPENING, |limit| limit.min(THROTTLED_OPENING)),
        ),
        ..config.retry
    };
    let attempt = || async {
        look_up().await.map_err(|e| match (e.next, e.retry_after_ms) {
            (Next::Wait, _) | (Next::Retry, Some(_)) => e,
            _ => CoreError { next: Next::End, ..e },
        })
    };
    until_answered(Attempts::new(&retry), &Metrics::default(), "opening", attempt).await
}

/// `future`, ended as Transient after `limit`.
pub async fn within<T>(limit: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| {
        Err(CoreError::new(
            Kind::Transient,
            format!(
                "no answer within {} ms; check the endpoint and request-timeout",
                limit.as_millis()
            ),
        ))
    })
}

/// The secret of an auth type that has one, read from its file now.
async fn secret(auth: &Auth) -> Result<Option<Secret>> {
    let (source, option) = match auth {
        Auth::Key(source) => (source.clone(), "auth.key-file"),
        Auth::ClientSecret { secret, .. } => (secret.clone(), credentials::CLIENT_SECRET_FILE),
        _ => return Ok(None),
    };
    if let SecretSource::Value(secret) = source {
        return Ok(Some(secret));
    }
    read_aside(option, move || source.resolve(option)).await.map(Some)
}

/// The file of certificate authorities, read now.
async fn authorities(config: &AccountConfig) -> Result<Option<Vec<u8>>> {
    match config.ca_file.clone() {
        None => Ok(None),
        Some(path) => read_aside(transport::CA_FILE, move || transport::read_authorities(&path))
            .await
            .map(Some),
    }
}

/// Reads a file on a thread that may block, and waits for it up to [`FILE_READ`]: a file system that hangs must stop neither the
/// runtime nor whoever asks. The thread itself can only be left behind.
///
/// # Errors
/// Those of `read`; Transient when it takes too long.
pub(crate) async fn read_aside<T: Send + 'static>(
    option: &str,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(FILE_READ, tokio::task::spawn_blocking(read)).await {
        Ok(read) => read.map_err(|e| CoreError::internal(format!("{option}: the file was not read: {e}")))?,
        Err(_) => Err(CoreError::new(
            Kind::Transient,
            format!(
                "{option}: the file could not be read within {} ms; check the file system that it is on",
                FILE_READ.as_millis()
            ),
        )),
    }
}

fn base_options(config: &Config) -> OperationOptionsBuilder {
    let options = routing(&config.account, OperationOptionsBuilder::new())
        .with_end_to_end_latency_policy(EndToEndOperationLatencyPolicy::new(config.request_timeout))
        // A 429 comes back at once with what the service asks for; pacing and retries are then ours alone.
        .with_throttling_retry_options(
            ThrottlingRetryOptionsBuilder::new()
                .with_max_retry_count(0)
                .build(),
        )
        // The record must be the service's own text, byte for byte.
        .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false));
    let (priority, bucket) = (config.priority, config.throughput_bucket);
    if priority.is_none() && bucket.is_none() {
        return options;
    }
    let mut control = ThroughputControlOptionsBuilder::new();
    if let Some(priority) = priority {
        control = control.with_priority_level(priority);
    }
    if let Some(bucket) = bucket {
        control = control.with_throughput_bucket(bucket);
    }
    options.with_throughput_control(control.build())
}

/// How every plan is made. The driver refuses one that asks more than 100 partitions, for those who do not know what a query costs: here the
/// container is as large as it is, and whoever reads all of it has said so.
pub fn plan_options() -> PlanOptions {
    PlanOptions::default().with_max_fan_out(u32::MAX)
}

/// Request units of an answer, with those of the driver's own attempts before it.
pub fn charge(response: &CosmosResponse) -> f64 {
    response.diagnostics_ref().total_request_charge().value()
}

/// Options of every read. A reader does not read what it wrote: session tokens are kept only where the option asks for a session.
pub fn read_options(config: &Config) -> OperationOptions {
    base_options(config)
        .with_read_consistency_strategy(config.consistency)
        .with_session_capturing_disabled(config.consistency != ReadConsistencyStrategy::Session)
        .build()
}

/// Options of every write: the service need not send the document back, and nobody reads it in the same session.
pub fn write_options(config: &Config) -> OperationOptionsBuilder {
    base_options(config)
        .with_content_response_on_write(ContentResponseOnWrite::Disabled)
        .with_session_capturing_disabled(true)
}
