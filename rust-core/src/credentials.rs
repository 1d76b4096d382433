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

use crate::account::read_aside;
use crate::config::{AccountConfig, Auth, RetryConfig, Secret, SecretSource};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::retry::Attempts;

use crate::transport::Clients;

/// Longest time for one request for a token. The slowest is a developer's tool, which starts an interpreter first.
const REQUEST: Duration = Duration::from_secs(20);

/// A token is asked for anew this long before it expires, or after half of its life if that is later. Shorter than the 5 minutes from
/// which on the credentials of `azure_identity` do not answer out of their own cache.
const AHEAD: Duration = Duration::from_secs(290);

/// A token is not sent in its last moments: it would expire on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A token that the service refuses is given up if it is at least this old: a new one that is refused at once is not the token's fault.
const REFUSED_AGAIN: Duration = Duration::from_secs(2);

/// Waits between two requests for a token that both fail: a token that is missing stops everything, so that they stay short.
///
/// A refusal of Entra ID is not final either, although a dead secret stays dead: a job that runs has the time of its own retries
/// (`retry.deadline`) in which a new secret may be put into the file, and goes on with it. An opening fails of it at once.
const BACKOFF: RetryConfig = RetryConfig {
    max_attempts: u32::MAX,
    backoff: Duration::from_millis(500),
    max_backoff: Duration::from_secs(15),
    deadline: Duration::MAX,
    throttled_deadline: None,
};

/// The option that names the file of a client secret.
pub(crate) const CLIENT_SECRET_FILE: &str = "auth.client-secret-file";

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
    since: Instant,
}

/// Makes a credential of `azure_identity`, with the secret if its type has one. That of a workload identity reads a file.
type Make = Arc<dyn Fn(Option<&Secret>) -> azure_core::Result<Arc<dyn TokenCredential>> + Send + Sync>;

/// A credential of `azure_identity` that is made anew when its secret has changed, or when what it remembers is no good.
pub struct Source {
    make: Make,
    /// The file of the secret, if it comes from one.
    file: Option<SecretSource>,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    /// `None`: to be made.
    credential: Option<Arc<dyn TokenCredential>>,
    secret: Option<Secret>,
}

impl Source {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Drops what the credential remembers: it keeps a token of its own until shortly before the expiry, and that of a workload identity
    /// the text of its file for ten minutes.
    fn forget(&self) {
        self.current().credential = None;
    }

    /// The credential of now, with the secret that it has.
    ///
    /// # Errors
    /// Config when it cannot be built from the options, Transient when a file that it reads takes too long.
    async fn credential(&self) -> Result<(Arc<dyn TokenCredential>, Option<Secret>)> {
        let Current { credential, secret } = self.current().clone();
        if let Some(credential) = credential {
            return Ok((credential, secret));
        }
        let (make, given) = (self.make.clone(), secret.clone());
        let made = read_aside("auth.token-file", move || {
            make(given.as_ref()).map_err(|e| {
                CoreError::config(format!(
                    "the Entra ID credential cannot be built: {e}; check the auth options"
                ))
            })
        });
        let made = made.await?;
        self.current().credential = Some(made.clone());
        Ok((made, secret))
    }

    async fn get_token(&self, scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let unmade = |e: CoreError| azure_core::Error::with_message(ErrorKind::Credential, e.message);
        let (credential, used) = self.credential().await.map_err(unmade)?;
        let error = match credential.get_token(scopes, None).await {
            Ok(token) => return Ok(token),
            Err(e) => e,
        };
        self.forget();
        let Some(file) = self.file.clone() else {
            return Err(error);
        };
        let secret = match read_aside(CLIENT_SECRET_FILE, move || file.resolve(CLIENT_SECRET_FILE)).await {
            Ok(secret) => Some(secret),
            Err(e) => {
                tracing::warn!(target: "cosmosflink::credentials", "no token, and the secret cannot be read anew: {e}");
                return Err(error);
            }
        };
        if secret == used {
            return Err(error);
        }
        tracing::info!(target: "cosmosflink::credentials", "no token, and the secret has changed ({CLIENT_SECRET_FILE}): asking with the new one");
        *self.current() = Current {
            credential: None,
            secret,
        };
        let (fresh, _) = self.credential().await.map_err(unmade)?;
        fresh.get_token(scopes, None).await
    }
}

struct Inner {
    source: Arc<Source>,
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
    pub fn new(source: Source, audience: &str) -> Self {
        Tokens {
            inner: Arc::new(Inner {
                source: Arc::new(source),
                slots: Mutex::default(),
                request_limit: REQUEST,
            }),
            scope: format!("{audience}/.default"),
        }
    }

    /// To be told when the service refuses the token of a request that was begun at `begun`, although it is good by the local clock: it
    /// is given up, unless it has only just come, and the next request waits for a new one. Whether there is another one now, or will be.
    pub fn refused(&self, begun: Instant) -> bool {
        let mut slots = self.inner.slots();
        let slot = slots.entry(self.scope.clone()).or_default();
        match &slot.token {
            // It was another one that was refused, and has been given up since.
            None => return true,
            Some(held) if begun < held.since => return true,
            Some(held) if held.since.elapsed() < REFUSED_AGAIN => return false,
            Some(_) => {}
        }
        slot.token = None;
        self.inner.source.forget();
        tracing::warn!(target: "cosmosflink::credentials", "the service refused the token for {} before its expiry; check this machine's clock", self.scope);
        true
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
            let asked = AssertUnwindSafe(source.get_token(&scopes)).catch_unwind();
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
                    since: Instant::now(),
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

/// The account with what signs its requests, and the tokens if it is they.
///
/// # Errors
/// Config when a credential cannot be built from the options, Transient when a file that it reads takes too long.
pub(crate) async fn reference(
    config: &AccountConfig,
    secret: Option<Secret>,
    clients: &Clients,
) -> Result<(AccountReference, Option<Arc<Tokens>>)> {
    let endpoint = config.endpoint.clone();
    let source = match (&config.auth, secret) {
        (Auth::Key(_), Some(key)) => {
            let key = AzureSecret::new(key.expose().to_owned());
            // The driver calls it a token that could not be had, which may pass; this does not.
            azure_core::hmac::hmac_sha256("", &key).map_err(|_| {
                CoreError::config(
                    "the account key (auth.secret-key or its file) is not base64; copy it whole, as the account shows it",
                )
            })?;
            return Ok((AccountReference::with_account_key(endpoint, key), None));
        }
        (auth, secret) => source(auth, secret, client_options(config, clients)?),
    };
    // What is wrong with the options shows now.
    source.credential().await?;
    let tokens = Arc::new(Tokens::new(source, &config.audience));
    let reference = AccountReference::with_credential(endpoint, tokens.clone());
    Ok((reference, Some(tokens)))
}

/// Always with a client of ours: the default one takes the proxy that the environment names, also where the option says none.
fn client_options(config: &AccountConfig, clients: &Clients) -> Result<ClientOptions> {
    let cloud = config.authority_host.as_ref().map(|host| {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = host.to_string();
        Arc::new(CloudConfiguration::Custom(cloud))
    });
    let client = match config.auth {
        // Its tokens come from this machine, past any proxy.
        Auth::ManagedIdentity { .. } => Clients::for_local_tokens(config.connect_timeout)?,
        _ => clients.for_tokens(config.connect_timeout)?,
    };
    Ok(ClientOptions {
        cloud,
        transport: Some(Transport::new(Arc::new(client))),
        ..Default::default()
    })
}

fn source(auth: &Auth, secret: Option<Secret>, client_options: ClientOptions) -> Source {
    let file = match auth {
        Auth::ClientSecret {
            secret: file @ SecretSource::File(_),
            ..
        } => Some(file.clone()),
        _ => None,
    };
    let auth = auth.clone();
    Source {
        make: Arc::new(move |secret| credential(&auth, secret, client_options.clone())),
        file,
        current: Mutex::new(Current {
            credential: None,
            secret,
        }),
    }
}

fn credential(
    auth: &Auth,
    secret: Option<&Secret>,
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

#[cfg(test)]
mod tests {
    use azure_core::http::{headers::Headers, AsyncRawResponse, Body, HttpClient, Request, StatusCode};

    use super::*;

    /// Entra ID, for one application: it knows one secret, and each token that it issues is another one.
    #[derive(Debug)]
    struct Entra {
        secret: Mutex<&'static str>,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl HttpClient for Entra {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
            let Body::Bytes(form) = request.body() else {
                panic!("a form");
            };
            let given = url::form_urlencoded::parse(form)
                .find(|(name, _)| name == "client_secret")
                .unwrap();
            let given = given.1.into_owned();
            let (good, number) = {
                let mut asked = self.asked.lock().unwrap();
                asked.push(given.clone());
                (*self.secret.lock().unwrap() == given, asked.len())
            };
            let (status, body) = match good {
                true => (
                    StatusCode::Ok,
                    format!(
                        r#"{{"token_type":"Bearer","expires_in":3600,"ext_expires_in":3600,"access_token":"token {number}"}}"#
                    ),
                ),
                false => (
                    StatusCode::Unauthorized,
                    r#"{"error":"invalid_client","error_description":"no","error_codes":[7000215],"timestamp":"","trace_id":"","correlation_id":""}"#.to_owned(),
                ),
            };
            Ok(AsyncRawResponse::from_bytes(status, Headers::new(), body))
        }
    }

    struct File(std::path::PathBuf);

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Tokens of an application whose secret is in a file of this name, where it is `old`.
    fn tokens(name: &str) -> (Tokens, Arc<Entra>, File) {
        let file = File(std::env::temp_dir().join(format!("cosmosflink-{name}-{}", std::process::id())));
        std::fs::write(&file.0, "old\n").unwrap();
        let entra = Arc::new(Entra {
            secret: Mutex::new("old"),
            asked: Mutex::default(),
        });
        let auth = Auth::ClientSecret {
            tenant_id: "tenant".to_owned(),
            client_id: "client".to_owned(),
            secret: SecretSource::File(file.0.to_str().unwrap().to_owned()),
        };
        let options = ClientOptions {
            transport: Some(Transport::new(entra.clone())),
            ..Default::default()
        };
        let source = source(&auth, Some(Secret::new("old")), options);
        (Tokens::new(source, "https://cosmos.azure.com"), entra, file)
    }

    async fn get(tokens: &Tokens) -> azure_core::Result<String> {
        let token = tokens.get_token(&[], None).await?;
        Ok(token.token.secret().to_owned())
    }

    /// As if the token at hand had been used up, and the last failure were long ago.
    fn expire(tokens: &Tokens) {
        tokens.inner.slots().clear();
        tokens.inner.source.forget();
    }

    #[tokio::test]
    async fn a_rotated_client_secret_is_read_anew_when_it_is_refused() {
        let (tokens, entra, file) = tokens("rotated-secret");
        assert_eq!(get(&tokens).await.unwrap(), "token 1");
        *entra.secret.lock().unwrap() = "new";
        expire(&tokens);
        let error = get(&tokens).await.unwrap_err().to_string();
        assert!(!error.contains("old"), "the secret shows: {error}");
        assert_eq!(
            *entra.asked.lock().unwrap(),
            ["old", "old"],
            "a secret that is the same is not asked with twice"
        );
        std::fs::write(&file.0, "new\n").unwrap();
        expire(&tokens);
        assert_eq!(get(&tokens).await.unwrap(), "token 4");
        assert_eq!(*entra.asked.lock().unwrap(), ["old", "old", "old", "new"]);
        // From now on with the new one alone.
        expire(&tokens);
        assert_eq!(get(&tokens).await.unwrap(), "token 5");
        // A file that has gone changes nothing.
        std::fs::remove_file(&file.0).unwrap();
        expire(&tokens);
        assert_eq!(get(&tokens).await.unwrap(), "token 6");
    }

    #[tokio::test]
    async fn a_token_that_the_service_refuses_is_asked_for_anew_but_not_at_once_again() {
        let (tokens, entra, _file) = tokens("refused-token");
        let before = Instant::now();
        assert_eq!(get(&tokens).await.unwrap(), "token 1");
        let now = Instant::now;
        assert!(!tokens.refused(now()), "it has only just come");
        assert!(tokens.refused(before), "it was another one that was refused");
        // As if it had come so long ago.
        #[expect(clippy::iter_over_hash_type, reason = "the same for each")]
        for slot in tokens.inner.slots().values_mut() {
            slot.token.as_mut().unwrap().since -= REFUSED_AGAIN;
        }
        assert_eq!(get(&tokens).await.unwrap(), "token 1");
        assert!(tokens.refused(now()));
        // Many requests had the same token.
        assert!(tokens.refused(now()));
        assert_eq!(
            get(&tokens).await.unwrap(),
            "token 2",
            "also past the cache of the credential"
        );
        assert!(!tokens.refused(now()));
        assert_eq!(entra.asked.lock().unwrap().len(), 2);
    }
}
