//! How the command-line programs reach an account: endpoint, credential and time limits, in one place.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{Secret, TokenCredential};
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::options::{BinaryEncodingOptions, Region};
use azure_data_cosmos::{AccountEndpoint, AccountReference, CosmosClient, CosmosError, RoutingStrategy};
use azure_identity::{
    ClientSecretCredential, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
};
use clap::ValueEnum;

/// Longest time to connect and look at the container. The driver itself would go on for minutes at a dead endpoint.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// How requests are signed; the names are those of the connector's option `COSMOS_AUTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// The account key, from COSMOS_KEY or from the file that COSMOS_KEY_FILE names.
    Key,
    /// Entra ID application: AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or AZURE_CLIENT_SECRET_FILE).
    ClientSecret,
    /// The machine's managed identity; AZURE_CLIENT_ID chooses a user-assigned one.
    ManagedIdentity,
    /// A Kubernetes workload identity, described by the AZURE_ variables that the platform sets.
    WorkloadIdentity,
    /// The developer's own login (Azure CLI, azd).
    #[value(alias = "entra")]
    DeveloperTools,
}

/// Account and database, as command-line options and environment variables. Secrets come from the environment or from a
/// file only, so that they show neither in the process list nor in a debug print.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Account endpoint, such as https://ACCOUNT.documents.azure.com:443/. Plain http only for this host.
    #[arg(long, env = "COSMOS_URI", value_name = "COSMOS_URI")]
    pub uri: String,
    /// Database.
    #[arg(long, env = "COSMOS_DB", value_name = "COSMOS_DB")]
    pub database: String,
    /// How requests are signed.
    #[arg(long, env = "COSMOS_AUTH", value_enum, default_value = "key")]
    pub auth: Auth,
    /// File that holds the account key; otherwise the key is taken from the variable COSMOS_KEY.
    #[arg(long, env = "COSMOS_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Regions in order of preference, separated by commas; empty: the account's own order.
    #[arg(long, env = "COSMOS_PREFERRED_REGIONS", value_delimiter = ',')]
    pub preferred_regions: Vec<String>,
}

/// Why an account or a container cannot be used. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Something in the configuration is missing or wrong.
    #[error("{0}")]
    Config(String),
    /// The service refused the credential.
    #[error("{endpoint} refused the credential ({status}): {hint}")]
    Refused {
        /// The account endpoint.
        endpoint: String,
        /// 401 or 403.
        status: u16,
        /// What to look at.
        hint: &'static str,
    },
    /// The database or the container does not exist.
    #[error(
        "{what} does not exist at {endpoint}: create it first (cosmosflink-init create), or correct the name"
    )]
    NotFound {
        /// The account endpoint.
        endpoint: String,
        /// Database and container.
        what: String,
    },
    /// Nobody answers, or not in time.
    #[error("cannot reach {endpoint}: {last}; is it up, and is COSMOS_URI right?")]
    Unreachable {
        /// The account endpoint.
        endpoint: String,
        /// What went wrong last.
        last: String,
    },
    /// The service answered with something else.
    #[error("{endpoint}: {message}")]
    Service {
        /// The account endpoint.
        endpoint: String,
        /// Status and text of the service.
        message: String,
    },
}

/// Sets what has to be set in the environment before the first thread starts; call it first in `main`.
pub fn prepare_process() {
    // The driver asks the cloud's metadata address for its region; off Azure that only costs seconds at the start.
    if std::env::var_os("COSMOS_DISABLE_IMDS").is_none() {
        std::env::set_var("COSMOS_DISABLE_IMDS", "1");
    }
    // Environment files write "not set" as an empty value; clap would take it for one.
    for (name, value) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if value.is_empty() && (name_text.starts_with("COSMOS_") || name_text.starts_with("PRODUCER_")) {
            std::env::remove_var(name);
        }
    }
}

impl Connection {
    /// Opens the account within [`CONNECT_WITHIN`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(&self) -> Result<CosmosClient, ConnectError> {
        let endpoint: AccountEndpoint = self.uri.parse().map_err(|_| {
            ConnectError::Config(format!(
                "COSMOS_URI is not a URL: {:?}; write https://ACCOUNT.documents.azure.com:443/",
                self.uri
            ))
        })?;
        let account = match self.auth {
            Auth::Key => AccountReference::with_authentication_key(
                endpoint,
                self.key(std::env::var("COSMOS_KEY").ok())?,
            ),
            _ => AccountReference::with_credential(endpoint, self.token_credential()?),
        };
        let regions = self
            .preferred_regions
            .iter()
            .map(|r| r.trim())
            .filter(|r| !r.is_empty());
        let routing =
            RoutingStrategy::PreferredRegions(regions.map(|r| Region::from(r.to_owned())).collect());
        // Text JSON is what every emulator understands as well.
        let builder = CosmosClient::builder()
            .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false));
        self.within(CONNECT_WITHIN, "", builder.build(account, routing))
            .await
    }

    /// Opens a container, which proves that endpoint, credential and names are right.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn container(
        &self,
        client: &CosmosClient,
        name: &str,
    ) -> Result<ContainerClient, ConnectError> {
        self.within(
            CONNECT_WITHIN,
            name,
            client
                .database_client(&self.database)
                .container_client(name.to_owned(), None),
        )
        .await
    }

    /// Runs a request against `container` (empty: the account or database) under a time limit, and explains a failure.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn within<T>(
        &self,
        limit: Duration,
        container: &str,
        request: impl Future<Output = azure_data_cosmos::Result<T>>,
    ) -> Result<T, ConnectError> {
        match tokio::time::timeout(limit, request).await {
            Ok(result) => result.map_err(|error| self.explain(&error, container)),
            Err(_) => Err(ConnectError::Unreachable {
                endpoint: self.uri.clone(),
                last: format!("no answer within {} s", limit.as_secs()),
            }),
        }
    }

    /// What a failure of the service means for the one who set up the program.
    pub fn explain(&self, error: &CosmosError, container: &str) -> ConnectError {
        let (endpoint, status) = (self.uri.clone(), u16::from(error.status().status_code()));
        match status {
            401 | 403 => ConnectError::Refused {
                endpoint,
                status,
                hint: match self.auth {
                    Auth::Key => {
                        "check COSMOS_KEY or COSMOS_KEY_FILE, that the account allows keys, and the clock"
                    }
                    _ => "check that the identity has a data-plane role on the account (COSMOS_AUTH)",
                },
            },
            404 if container.is_empty() => ConnectError::NotFound {
                endpoint,
                what: format!("database {:?}", self.database),
            },
            404 => ConnectError::NotFound {
                endpoint,
                what: format!("database {:?} or its container {container:?}", self.database),
            },
            _ if !error.is_from_wire() && matches!(status, 408 | 503) => ConnectError::Unreachable {
                endpoint,
                last: innermost(error),
            },
            _ => ConnectError::Service {
                endpoint,
                message: one_line(error),
            },
        }
    }

    fn key(&self, from_environment: Option<String>) -> Result<Secret, ConnectError> {
        let (text, origin) = match (from_environment, &self.key_file) {
            (Some(key), _) => (key, "COSMOS_KEY".to_owned()),
            (None, Some(path)) => (read_secret(path)?, path.display().to_string()),
            (None, None) => return Err(ConnectError::Config(
                "no account key: set COSMOS_KEY, or COSMOS_KEY_FILE to a file that holds it, or COSMOS_AUTH"
                    .into(),
            )),
        };
        let key = text.trim();
        if key.is_empty() {
            return Err(ConnectError::Config(format!(
                "the account key in {origin} is empty"
            )));
        }
        Ok(Secret::from(key.to_owned()))
    }

    fn token_credential(&self) -> Result<Arc<dyn TokenCredential>, ConnectError> {
        let wrong = |e: azure_core::Error| {
            ConnectError::Config(format!("COSMOS_AUTH={:?} cannot be set up: {e}", self.auth))
        };
        Ok(match self.auth {
            Auth::ManagedIdentity => {
                let user_assigned_id = variable("AZURE_CLIENT_ID").ok().map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    ..Default::default()
                };
                ManagedIdentityCredential::new(Some(options)).map_err(wrong)?
            }
            Auth::WorkloadIdentity => WorkloadIdentityCredential::new(None).map_err(wrong)?,
            Auth::ClientSecret => {
                let secret = match variable("AZURE_CLIENT_SECRET_FILE") {
                    Ok(path) => read_secret(&PathBuf::from(path))?,
                    Err(_) => variable("AZURE_CLIENT_SECRET")?,
                };
                let (tenant, client) = (variable("AZURE_TENANT_ID")?, variable("AZURE_CLIENT_ID")?);
                ClientSecretCredential::new(&tenant, client, Secret::from(secret.trim().to_owned()), None)
                    .map_err(wrong)?
            }
            Auth::DeveloperTools | Auth::Key => DeveloperToolsCredential::new(None).map_err(wrong)?,
        })
    }
}

fn variable(name: &str) -> Result<String, ConnectError> {
    std::env::var(name)
        .ok()
        .filter(|v| !v.is_empty())
        .ok_or_else(|| ConnectError::Config(format!("{name} is not set, and COSMOS_AUTH needs it")))
}

fn read_secret(path: &PathBuf) -> Result<String, ConnectError> {
    std::fs::read_to_string(path)
        .map_err(|e| ConnectError::Config(format!("cannot read the secret file {}: {e}", path.display())))
}

/// The text of the first cause: that the connection was refused, for instance.
fn innermost(error: &CosmosError) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error without its line breaks.
pub fn one_line(error: &CosmosError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::StatusCode;
    use azure_data_cosmos::CosmosStatus;

    fn connection(key_file: Option<PathBuf>) -> Connection {
        Connection {
            uri: "https://account.example/".into(),
            database: "orders".into(),
            auth: Auth::Key,
            key_file,
            preferred_regions: Vec::new(),
        }
    }

    fn failure(status: StatusCode) -> CosmosError {
        CosmosError::builder()
            .with_status(CosmosStatus::new(status))
            .with_message("two\nlines")
            .build()
    }

    #[test]
    fn failures_are_explained_in_one_line() {
        let c = connection(None);
        let text = |status, container: &str| c.explain(&failure(status), container).to_string();
        assert!(text(StatusCode::Unauthorized, "").contains("(401): check COSMOS_KEY"));
        let missing = text(StatusCode::NotFound, "events-source");
        assert!(
            missing.contains(r#""orders" or its container "events-source""#),
            "{missing}"
        );
        assert!(text(StatusCode::ServiceUnavailable, "").contains("is it up"));
        assert!(text(StatusCode::BadRequest, "").contains("400"));
        for status in [
            StatusCode::Unauthorized,
            StatusCode::NotFound,
            StatusCode::ServiceUnavailable,
            StatusCode::Conflict,
        ] {
            assert!(!text(status, "x").contains('\n'));
        }
    }

    #[test]
    fn the_key_is_read_from_a_file_and_never_shown() {
        let path = std::env::temp_dir().join(format!("cosmosflink-key-{}", std::process::id()));
        std::fs::write(&path, "c2VjcmV0\n").unwrap();
        let c = connection(Some(path.clone()));
        let key = c.key(None).unwrap();
        assert_eq!(key.secret(), "c2VjcmV0");
        assert!(!format!("{c:?} {key:?}").contains("c2VjcmV0"));
        assert_eq!(
            c.key(Some("b3RoZXI=".into())).unwrap().secret(),
            "b3RoZXI=",
            "the variable goes first"
        );
        std::fs::write(&path, " \n").unwrap();
        assert!(c.key(None).unwrap_err().to_string().ends_with("is empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(c
            .key(None)
            .unwrap_err()
            .to_string()
            .contains("cannot read the secret file"));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_url_is_named() {
        let mut c = connection(None);
        c.uri = "my account".into();
        let error = c.open().await.err().unwrap().to_string();
        assert!(
            error.contains(r#"COSMOS_URI is not a URL: "my account""#),
            "{error}"
        );
    }
}
