//! What all readers and writers of a process share: one tokio runtime, and one driver with its connections per account.
//!
//! Both are counted by their users and go when the last one closes. Where several class loaders share one copy of the
//! library (see `docs/adr`), "process" is meant literally: the jobs of a TaskManager share them too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use azure_core::credentials::{Secret as AzureSecret, TokenCredential};
use azure_data_cosmos_driver::models::{AccountReference, ContainerReference};
use azure_data_cosmos_driver::options::DriverOptions;
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, ContentResponseOnWrite, EndToEndOperationLatencyPolicy, OperationOptions,
    OperationOptionsBuilder, Region, ThrottlingRetryOptionsBuilder,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime};

use crate::config::{AccountConfig, Auth, Config, Secret};
use crate::error::{CoreError, Kind, Result};
use crate::status::{Asked, Fate};

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
    pub driver: Arc<CosmosDriver>,
    pub runtime: Arc<Runtime>,
}

#[derive(Default)]
struct Shared {
    runtime: Weak<Runtime>,
    accounts: HashMap<AccountKey, Weak<Account>>,
}

/// Two handles share an account when these are equal. The secret is part of it, so that a new key is never served by a
/// connection that was opened with an old one.
#[derive(PartialEq, Eq, Hash)]
struct AccountKey(AccountConfig, Option<Secret>);

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

impl Account {
    /// The account of `config`, opened when nobody has it open. Blocks; not for use on the runtime's own threads.
    ///
    /// # Errors
    /// Config for a key file that cannot be read, Auth for a refused credential, Transient when the endpoint does not
    /// answer within the request time-out.
    pub fn open(config: &Config) -> Result<Arc<Account>> {
        let secret = match &config.account.auth {
            Auth::Key(source) => Some(source.resolve("cosmos.auth.key-file")?),
            Auth::ClientSecret { secret, .. } => Some(secret.resolve("cosmos.auth.client-secret-file")?),
            _ => None,
        };
        let key = AccountKey(config.account.clone(), secret.clone());
        // Held while connecting: a second caller for the same account waits instead of opening a second driver. The
        // wait is bounded by the request time-out.
        let mut guard = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        let shared = guard.get_or_insert_with(Shared::default);
        if let Some(account) = shared.accounts.get(&key).and_then(Weak::upgrade) {
            return Ok(account);
        }
        let runtime = match shared.runtime.upgrade() {
            Some(runtime) => runtime,
            None => {
                let runtime = Arc::new(Runtime::start()?);
                shared.runtime = Arc::downgrade(&runtime);
                runtime
            }
        };
        let reference = reference(&config.account, secret)?;
        let endpoint = config.account.endpoint.to_string();
        let regions = config
            .account
            .preferred_regions
            .iter()
            .map(|r| Region::new(r.clone()))
            .collect();
        let driver = block_on(&runtime, config.request_timeout, connect(reference, regions))
            .map_err(|e| e.while_doing(format!("cannot connect to {endpoint}")))?;
        let account = Arc::new(Account { driver, runtime });
        shared.accounts.retain(|_, weak| weak.strong_count() > 0);
        shared.accounts.insert(key, Arc::downgrade(&account));
        Ok(account)
    }

    /// The account of `config` and its container, looked up, so that a wrong key or name fails at once.
    pub fn open_with_container(config: Config) -> Result<(Arc<Account>, Arc<Config>, ContainerReference)> {
        let account = Account::open(&config)?;
        let (a, config) = (account.clone(), Arc::new(config));
        let c = config.clone();
        let lookup = async move { a.container(&c, &c.container).await };
        let container = account.block_on(config.request_timeout, lookup)?;
        Ok((account, config, container))
    }

    /// Runs `future` on the shared runtime from a thread of Java, for at most `limit`.
    pub fn block_on<T: Send + 'static>(
        &self,
        limit: Duration,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        block_on(&self.runtime, limit, future)
    }

    /// Looks a container up.
    ///
    /// # Errors
    /// NotFound names database and container.
    pub async fn container(&self, config: &Config, container: &str) -> Result<ContainerReference> {
        self.driver
            .resolve_container(&config.database, container, read_options(config))
            .await
            .map_err(|e| {
                CoreError::from_driver(&e, Asked::Metadata, Fate::NotCarriedOut).while_doing(format!(
                    "cannot look up container '{container}' of database '{}'",
                    config.database
                ))
            })
    }
}

async fn connect(reference: AccountReference, regions: Vec<Region>) -> Result<Arc<CosmosDriver>> {
    let failed = |e| CoreError::from_driver(&e, Asked::Metadata, Fate::NotCarriedOut);
    let runtime = CosmosDriverRuntime::builder()
        .with_wrapping_sdk_identifier(concat!("cosmosflink/", env!("CARGO_PKG_VERSION")))
        .build()
        .await
        .map_err(failed)?;
    let options = DriverOptions::builder(reference)
        .with_preferred_regions(regions)
        .build();
    runtime.create_driver(options).await.map_err(failed)
}

fn block_on<T: Send + 'static>(
    runtime: &Runtime,
    limit: Duration,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = async move {
        tokio::time::timeout(limit, future).await.unwrap_or_else(|_| {
            Err(CoreError::new(
                Kind::Transient,
                format!(
                    "no answer within {} ms; check the endpoint and cosmos.request-timeout-ms",
                    limit.as_millis()
                ),
            ))
        })
    };
    runtime
        .handle()
        .block_on(runtime.handle().spawn(task))
        .map_err(|e| CoreError::internal(format!("a task of the core failed: {e}")))?
}

fn reference(config: &AccountConfig, secret: Option<Secret>) -> Result<AccountReference> {
    let endpoint = config.endpoint.clone();
    let credential = |result: azure_core::Result<Arc<dyn TokenCredential>>| {
        result
            .map(|c| AccountReference::with_credential(endpoint.clone(), c))
            .map_err(|e| {
                CoreError::config(format!(
                    "the Entra ID credential cannot be built: {e}; check the cosmos.auth options"
                ))
            })
    };
    match (&config.auth, secret) {
        (Auth::Key(_), Some(key)) => Ok(AccountReference::with_account_key(
            endpoint,
            AzureSecret::new(key.expose().to_owned()),
        )),
        (
            Auth::ClientSecret {
                tenant_id, client_id, ..
            },
            Some(secret),
        ) => credential(
            azure_identity::ClientSecretCredential::new(
                tenant_id,
                client_id.clone(),
                AzureSecret::new(secret.expose().to_owned()),
                None,
            )
            .map(|c| c as Arc<dyn TokenCredential>),
        ),
        (Auth::ManagedIdentity { client_id }, _) => {
            let options = azure_identity::ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(azure_identity::UserAssignedId::ClientId),
                ..Default::default()
            };
            credential(
                azure_identity::ManagedIdentityCredential::new(Some(options))
                    .map(|c| c as Arc<dyn TokenCredential>),
            )
        }
        (
            Auth::WorkloadIdentity {
                tenant_id,
                client_id,
                token_file,
            },
            _,
        ) => {
            let options = azure_identity::WorkloadIdentityCredentialOptions {
                tenant_id: tenant_id.clone(),
                client_id: client_id.clone(),
                token_file_path: token_file.clone().map(Into::into),
                ..Default::default()
            };
            credential(
                azure_identity::WorkloadIdentityCredential::new(Some(options))
                    .map(|c| c as Arc<dyn TokenCredential>),
            )
        }
        (Auth::DeveloperTools, _) => credential(
            azure_identity::DeveloperToolsCredential::new(None).map(|c| c as Arc<dyn TokenCredential>),
        ),
        (Auth::Key(_) | Auth::ClientSecret { .. }, None) => Err(CoreError::internal(
            "the secret of this auth type was not resolved",
        )),
    }
}

fn base_options(config: &Config) -> OperationOptionsBuilder {
    OperationOptionsBuilder::new()
        .with_end_to_end_latency_policy(EndToEndOperationLatencyPolicy::new(config.request_timeout))
        // A 429 comes back at once with what the service asks for; pacing and retries are then ours alone.
        .with_throttling_retry_options(
            ThrottlingRetryOptionsBuilder::new()
                .with_max_retry_count(0)
                .build(),
        )
        // The record must be the service's own text, byte for byte.
        .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
}

/// Options of every read.
pub fn read_options(config: &Config) -> OperationOptions {
    base_options(config)
        .with_read_consistency_strategy(config.consistency)
        .build()
}

/// Options of every write: the service need not send the document back.
pub fn write_options(config: &Config) -> OperationOptionsBuilder {
    base_options(config).with_content_response_on_write(ContentResponseOnWrite::Disabled)
}
