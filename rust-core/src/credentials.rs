//! How an account's requests are signed: with its key, or with tokens of Entra ID.
//!
//! The driver asks for a token on each attempt, outside of the request's time-out, and keeps none. The credentials of `azure_identity`
//! ask anew from 5 minutes before the expiry, while every request waits, and fail where the old token is still good; the one
//! of the developer's tools starts a process each time. [`Tokens`] stands between them.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret as AzureSecret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_data_cosmos_driver::models::AccountReference;
use futures::future::{BoxFuture, Shared};
use futures::FutureExt;
use tokio::time::Instant;

use crate::config::{AccountConfig, Auth, RetryConfig, Secret};
use crate::error::{CoreError, Kind, Result};
use crate::retry::Attempts;
use crate::source::panic_text;
use crate::transport::Clients;

/// Longest time for one request for a token. The slowest is a developer's tool, which starts an interpreter first.
const REQUEST: Duration = Duration::from_secs(20);

/// A token is asked for anew this long before it expires, or after half of its life if that is later. Shorter than the 5 minutes from
/// which on the credentials of `azure_identity` do not answer out of their own cache.
const AHEAD: Duration = Duration::from_secs(290);

/// A token is not sent in its last moments: it would expire on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Waits between two requests for a token that both fail: a token that is missing stops everything, so that they stay short.
const BACKOFF: RetryConfig = RetryConfig {
    max_attempts: u32::MAX,
    backoff: Duration::from_millis(500),
    max_backoff: Duration::from_secs(15),
    deadline: Duration::MAX,
    throttled_deadline: None,
};

/// Why there is no token. Text alone, since many wait for the same request.
type Refused = Arc<str>;
type Request = Shared<BoxFuture<'static, std::result::Result<AccessToken, Refused>>>;

#[derive(Default)]
struct Slot {
    token: Option<Held>,
    /// Under way; there is never more than one.
    request: Option<Request>,
    /// Set by a failure: nothing is asked before.
    not_before: Option<(Instant, Refused)>,
    failures: Option<Attempts>,
}

struct Held {
    token: AccessToken,
    renew_at: OffsetDateTime,
}

struct Inner {
    source: Arc<dyn TokenCredential>,
    slots: Mutex<HashMap<String, Slot>>,
    request_limit: Duration,
}

/// Tokens that are asked for once, renewed in the background and used until they really expire.
pub struct Tokens {
    inner: Arc<Inner>,
    /// What is asked for, whatever the driver asks: it knows only the public cloud.
    scope: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens of `source` for `audience`, such as `https://cosmos.azure.com`.
    pub fn new(source: Arc<dyn TokenCredential>, audience: &str) -> Self {
        Self::with_limit(source, audience, REQUEST)
    }

    /// The same with another time for a request.
    pub fn with_limit(source: Arc<dyn TokenCredential>, audience: &str, request_limit: Duration) -> Self {
        Tokens {
            inner: Arc::new(Inner {
                source,
                slots: Mutex::default(),
                request_limit,
            }),
            scope: format!("{audience}/.default"),
        }
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The request for a token that is under way, or a new one on the runtime, which goes on when its caller does not wait; `Err` while
    /// the last failure is too fresh.
    fn request(self: &Arc<Self>, scope: &str, slot: &mut Slot) -> std::result::Result<Request, Refused> {
        if let Some(request) = &slot.request {
            return Ok(request.clone());
        }
        if let Some((until, why)) = &slot.not_before {
            if Instant::now() < *until {
                return Err(why.clone());
            }
        }
        // Not the tokens themselves, which hold this request.
        let (inner, source) = (Arc::downgrade(self), self.source.clone());
        let (limit, scope) = (self.request_limit, scope.to_owned());
        let request = async move {
            let scopes = [scope.as_str()];
            let asked = AssertUnwindSafe(source.get_token(&scopes, None)).catch_unwind();
            let answer = match tokio::time::timeout(limit, asked).await {
                Ok(Ok(Ok(token))) if token.expires_on > OffsetDateTime::now_utc() => Ok(token),
                Ok(Ok(Ok(token))) => Err(format!(
                    "a token came that has expired at {}; check this machine's clock",
                    token.expires_on
                )),
                Ok(Ok(Err(e))) => Err(e.to_string()),
                Ok(Err(panic)) => Err(format!("panic: {}", panic_text(&*panic))),
                Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
            };
            let answer = answer.map_err(Refused::from);
            if let Some(inner) = inner.upgrade() {
                inner.settle(&scope, &answer);
            }
            answer
        };
        let request = request.boxed().shared();
        slot.request = Some(request.clone());
        tokio::spawn(request.clone());
        Ok(request)
    }

    fn settle(&self, scope: &str, answer: &std::result::Result<AccessToken, Refused>) {
        let mut slots = self.slots();
        let slot = slots.entry(scope.to_owned()).or_default();
        slot.request = None;
        match answer {
            Ok(token) => {
                let now = OffsetDateTime::now_utc();
                // A source that answers out of a cache of its own is asked again in between, not at each request.
                let life = (token.expires_on - now).try_into().unwrap_or(Duration::ZERO);
                slot.token = Some(Held {
                    token: token.clone(),
                    renew_at: now
                        + life
                            .saturating_sub(AHEAD)
                            .max(life / 2)
                            .max(Duration::from_secs(1)),
                });
                (slot.not_before, slot.failures) = (None, None);
            }
            Err(why) => {
                let error = CoreError::new(Kind::Transient, &**why);
                let attempts = slot.failures.get_or_insert_with(|| Attempts::new(&BACKOFF));
                let wait = attempts
                    .next(&error, Instant::now())
                    .unwrap_or(BACKOFF.max_backoff);
                slot.not_before = Some((Instant::now() + wait, why.clone()));
                let held = slot.token.as_ref().map(|t| t.token.expires_on);
                tracing::warn!(target: "cosmosflink::credentials", "no new token for {scope}: {why}; the one at hand expires at {held:?}");
            }
        }
    }

    /// A token that is good, or the request to wait for.
    fn token(self: &Arc<Self>, scope: &str) -> std::result::Result<Ready, Refused> {
        let mut slots = self.slots();
        let slot = slots.entry(scope.to_owned()).or_default();
        let now = OffsetDateTime::now_utc();
        let good = slot
            .token
            .as_ref()
            .filter(|t| now + ON_ITS_WAY < t.token.expires_on);
        let good = good.map(|t| (t.token.clone(), now >= t.renew_at));
        match good {
            Some((token, renew)) => {
                if renew {
                    // In the background; a failure is told when the token at hand has expired.
                    drop(self.request(scope, slot));
                }
                Ok(Ready::Token(token))
            }
            None => self.request(scope, slot).map(Ready::Later),
        }
    }
}

enum Ready {
    Token(AccessToken),
    Later(Request),
}

#[async_trait::async_trait]
impl TokenCredential for Tokens {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let token = match self.inner.token(&self.scope) {
            Ok(Ready::Token(token)) => Ok(token),
            Ok(Ready::Later(request)) => request.await,
            Err(why) => Err(why),
        };
        token.map_err(|why| {
            azure_core::Error::with_message(
                ErrorKind::Credential,
                format!("no Entra ID token for {}: {why}", self.scope),
            )
        })
    }
}

/// The account with what signs its requests. `clients` are the account's own, if it has any.
///
/// # Errors
/// Config when a credential cannot be built from the options.
pub(crate) fn reference(
    config: &AccountConfig,
    secret: Option<Secret>,
    clients: Option<&Clients>,
) -> Result<AccountReference> {
    let endpoint = config.endpoint.clone();
    let source = match (&config.auth, secret) {
        (Auth::Key(_), Some(key)) => {
            let key = AzureSecret::new(key.expose().to_owned());
            // The driver calls it a token that could not be had, which may pass; this does not.
            azure_core::hmac::hmac_sha256("", &key).map_err(|_| {
                CoreError::config(
                    "the account key (cosmos.auth.key or its file) is not base64; copy it whole, as the account shows it",
                )
            })?;
            return Ok(AccountReference::with_account_key(endpoint, key));
        }
        (auth, secret) => source(auth, secret, client_options(config, clients)?).map_err(|e| {
            CoreError::config(format!(
                "the Entra ID credential cannot be built: {e}; check the cosmos.auth options"
            ))
        })?,
    };
    let tokens = Arc::new(Tokens::new(source, &config.audience));
    Ok(AccountReference::with_credential(endpoint, tokens))
}

fn client_options(config: &AccountConfig, clients: Option<&Clients>) -> Result<ClientOptions> {
    let cloud = config.authority_host.as_ref().map(|host| {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = host.to_string();
        Arc::new(CloudConfiguration::Custom(cloud))
    });
    // A managed identity's tokens come from this machine, past any proxy.
    let clients = clients.filter(|_| !matches!(config.auth, Auth::ManagedIdentity { .. }));
    let client = clients
        .map(|c| c.for_tokens(config.connect_timeout))
        .transpose()?;
    Ok(ClientOptions {
        cloud,
        transport: client.map(|client| Transport::new(Arc::new(client))),
        ..Default::default()
    })
}

fn source(
    auth: &Auth,
    secret: Option<Secret>,
    client_options: ClientOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    Ok(match (auth, secret) {
        (
            Auth::ClientSecret {
                tenant_id, client_id, ..
            },
            Some(secret),
        ) => azure_identity::ClientSecretCredential::new(
            tenant_id,
            client_id.clone(),
            AzureSecret::new(secret.expose().to_owned()),
            Some(azure_identity::ClientSecretCredentialOptions { client_options }),
        )?,
        (Auth::ManagedIdentity { client_id }, _) => azure_identity::ManagedIdentityCredential::new(Some(
            azure_identity::ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(azure_identity::UserAssignedId::ClientId),
                client_options,
            },
        ))?,
        (
            Auth::WorkloadIdentity {
                tenant_id,
                client_id,
                token_file,
            },
            _,
        ) => azure_identity::WorkloadIdentityCredential::new(Some(
            azure_identity::WorkloadIdentityCredentialOptions {
                credential_options: azure_identity::ClientAssertionCredentialOptions { client_options },
                tenant_id: tenant_id.clone(),
                client_id: client_id.clone(),
                token_file_path: token_file.clone().map(Into::into),
            },
        ))?,
        (Auth::DeveloperTools, _) => azure_identity::DeveloperToolsCredential::new(None)?,
        (Auth::Key(_) | Auth::ClientSecret { .. }, _) => {
            return Err(azure_core::Error::with_message(
                ErrorKind::Credential,
                "the secret of this auth type was not resolved",
            ))
        }
    })
}
