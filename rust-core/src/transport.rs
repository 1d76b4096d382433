//! HTTP clients of an account that has a certificate authority or a proxy of its own. The driver's own clients know only those of the
//! process (`SSL_CERT_FILE`, `HTTPS_PROXY`), which the jobs of a TaskManager share.
//!
//! The driver takes another factory only by a seam that it keeps for tests (feature `__internal_mocking`), and tells it less than its own
//! factory knows. What is missing follows from the request, whose path says which time-out is its own, and from TLS, with which
//! the protocol is negotiated with each connection.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_data_cosmos_driver::diagnostics::RequestSentStatus;
use azure_data_cosmos_driver::error::status_codes;
use azure_data_cosmos_driver::models::CosmosStatus;
use azure_data_cosmos_driver::test::{
    ConnectionPoolOptions, HttpClientConfig, HttpClientFactory, HttpRequest, HttpResponse, TransportClient,
    TransportError,
};
use azure_data_cosmos_driver::CosmosError;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};

use crate::config::{AccountConfig, Proxy};
use crate::error::{CoreError, Result};

/// The option that names the file of authorities.
pub(crate) const CA_FILE: &str = "tls.ca-file";

/// Makes the clients of one account.
#[derive(Debug)]
pub struct Clients {
    authorities: Vec<Certificate>,
    proxy: Option<reqwest::Proxy>,
    environment: bool,
    http2: bool,
}

impl Clients {
    /// `authorities` is what the file of authorities holds, if the account names one.
    ///
    /// # Errors
    /// Config for a file of authorities or a proxy that cannot be used.
    pub fn of(config: &AccountConfig, authorities: Option<&[u8]>) -> Result<Clients> {
        let proxy = match &config.proxy {
            Proxy::Url(url) => Some(reqwest::Proxy::all(url.clone()).map_err(|e| {
                CoreError::config(format!(
                    "proxy: '{url}' cannot be used: {e}; give the URL of an HTTP proxy"
                ))
            })?),
            Proxy::None | Proxy::Environment => None,
        };
        let path = config.ca_file.as_deref().unwrap_or_default();
        Ok(Clients {
            authorities: authorities
                .map(|pem| certificates(path, pem))
                .transpose()?
                .unwrap_or_default(),
            proxy,
            environment: config.proxy == Proxy::Environment,
            http2: config.http2,
        })
    }

    /// Whether the driver's own clients do not do: they know no proxy and no authority but those of the process.
    pub fn are_needed(&self) -> bool {
        self.proxy.is_some() || !self.authorities.is_empty()
    }

    /// For requests for tokens that never leave this machine, whatever proxy there is.
    ///
    /// # Errors
    /// Config when it cannot be made.
    pub fn for_local_tokens(connect_timeout: Duration) -> Result<Client> {
        for_tokens(Client::builder().tls_backend_rustls().no_proxy(), connect_timeout)
    }

    /// For requests for tokens, which take the same way out as those to the account.
    ///
    /// # Errors
    /// Config when it cannot be made.
    pub fn for_tokens(&self, connect_timeout: Duration) -> Result<Client> {
        for_tokens(self.builder(), connect_timeout)
    }

    /// What every client has: whom it trusts, and the way out.
    fn builder(&self) -> ClientBuilder {
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .tls_certs_merge(self.authorities.iter().cloned());
        if !self.environment {
            builder = builder.no_proxy();
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder
    }

    fn transport(&self, pool: &ConnectionPoolOptions) -> reqwest::Result<Transport> {
        let mut builder = self
            .builder()
            .pool_max_idle_per_host(pool.max_idle_connections_per_endpoint())
            .connect_timeout(pool.max_connect_timeout())
            .timeout(pool.max_dataplane_request_timeout())
            .http2_keep_alive_interval(pool.http2_keep_alive_interval())
            .http2_keep_alive_timeout(pool.http2_keep_alive_timeout())
            .http2_keep_alive_while_idle(true)
            .tcp_keepalive(pool.tcp_keepalive_time())
            .tcp_keepalive_interval(pool.tcp_keepalive_interval());
        if let Some(idle) = pool.idle_connection_timeout() {
            builder = builder.pool_idle_timeout(idle);
        }
        if !self.http2 {
            builder = builder.http1_only();
        }
        Ok(Transport {
            client: builder.build()?,
            metadata_limit: pool.max_metadata_request_timeout(),
        })
    }
}

fn for_tokens(builder: ClientBuilder, connect_timeout: Duration) -> Result<Client> {
    let builder = builder.connect_timeout(connect_timeout).redirect(Policy::none());
    builder.build().map_err(|e| {
        CoreError::config(format!(
            "the HTTP client for tokens cannot be made: {}",
            chain(&e)
        ))
    })
}

fn wrong_authorities(path: &str, why: &str) -> CoreError {
    CoreError::config(format!(
        "{CA_FILE}: '{path}' {why}; give a PEM file of certificates that this process can read"
    ))
}

/// What a file of authorities holds.
///
/// # Errors
/// Config when it cannot be read.
pub(crate) fn read_authorities(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| wrong_authorities(path, &format!("cannot be read: {e}")))
}

fn certificates(path: &str, pem: &[u8]) -> Result<Vec<Certificate>> {
    let authorities = Certificate::from_pem_bundle(pem)
        .map_err(|e| wrong_authorities(path, &format!("holds no certificates: {}", chain(&e))))?;
    match authorities.is_empty() {
        true => Err(wrong_authorities(path, "holds no certificates")),
        false => Ok(authorities),
    }
}

impl HttpClientFactory for Clients {
    fn build(
        &self,
        pool: &ConnectionPoolOptions,
        _: HttpClientConfig,
    ) -> azure_data_cosmos_driver::Result<Arc<dyn TransportClient>> {
        let transport = self.transport(pool).map_err(|e| {
            let message = format!("the HTTP client cannot be made: {}", chain(&e));
            CosmosError::builder()
                .with_status(status_codes::CLIENT_HTTP_CLIENT_CONSTRUCTION_FAILED)
                .with_message(message)
                .with_source(e)
                .build()
        })?;
        Ok(Arc::new(transport))
    }
}

#[derive(Debug)]
struct Transport {
    client: Client,
    /// For requests for anything but documents. The driver's factory knows which client it makes for them, and does not tell us.
    metadata_limit: Duration,
}

/// Whether a path such as `/dbs/orders/colls/c/docs` is one of documents.
fn is_of_documents(url: &url::Url) -> bool {
    url.path_segments()
        .is_some_and(|mut segments| segments.nth(4) == Some("docs"))
}

#[async_trait::async_trait]
impl TransportClient for Transport {
    async fn send(&self, request: &HttpRequest) -> std::result::Result<HttpResponse, TransportError> {
        let method = reqwest::Method::from_bytes(request.method.as_str().as_bytes())
            .map_err(|e| lost(status_codes::TRANSPORT_IO_FAILED, RequestSentStatus::NotSent, e))?;
        let mut builder = self.client.request(method, request.url.clone());
        for (name, value) in request.headers.iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let limit = match is_of_documents(&request.url) {
            true => None,
            false => Some(self.metadata_limit),
        };
        if let Some(limit) = request.timeout.into_iter().chain(limit).min() {
            builder = builder.timeout(limit);
        }
        let response = builder.send().await.map_err(|e| {
            let (status, sent) = match e.is_connect() {
                true => (
                    status_codes::TRANSPORT_CONNECTION_FAILED,
                    RequestSentStatus::NotSent,
                ),
                false => (status_codes::TRANSPORT_IO_FAILED, RequestSentStatus::Unknown),
            };
            lost(status, sent, e)
        })?;
        let status = response.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(
                    HeaderName::from(name.as_str().to_owned()),
                    HeaderValue::from(value.to_owned()),
                );
            }
        }
        let body = body(response).await.map_err(|e| {
            lost(
                status_codes::TRANSPORT_BODY_READ_FAILED,
                RequestSentStatus::Sent,
                e,
            )
        })?;
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

/// Room for a body is made at once, but for no more than this, whatever length the answer claims: four times the service's largest page.
const ROOM_FOR_A_BODY: usize = 16 << 20;

/// The whole body. Each chunk is copied while it is in the cache and given back, so that the connection reads into the same memory again;
/// to collect the chunks first takes new memory for each of them, and the same copy.
async fn body(mut response: reqwest::Response) -> reqwest::Result<Vec<u8>> {
    let length = response
        .content_length()
        .and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::with_capacity(length.unwrap_or(0).min(ROOM_FOR_A_BODY));
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn lost(
    status: CosmosStatus,
    sent: RequestSentStatus,
    error: impl Error + Send + Sync + 'static,
) -> TransportError {
    let error = CosmosError::builder()
        .with_status(status)
        .with_message(error.to_string())
        .with_source(error)
        .build();
    TransportError::new(error, sent)
}

/// An error with all its reasons, in one line.
fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        out.push_str(": ");
        out.push_str(&reason.to_string());
        next = reason.source();
    }
    out
}

/// Says what to do where a connection failed of the endpoint's certificate.
pub fn tls_advice(cause: &CosmosError, config: &AccountConfig, error: CoreError) -> CoreError {
    let Some(why) = refused_certificate(cause) else {
        return error;
    };
    let advice = match &config.ca_file {
        None => "if a private authority issued it, name that authority's file in tls.ca-file".to_owned(),
        Some(path) => format!("check that '{path}' (tls.ca-file) holds the authority that issued it"),
    };
    CoreError {
        message: format!(
            "{}: the certificate of the endpoint is not trusted ({why:?}); {advice}",
            error.message
        ),
        ..error
    }
}

fn refused_certificate(cause: &CosmosError) -> Option<&rustls::CertificateError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(cause);
    while let Some(reason) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = reason.downcast_ref() {
            return Some(why);
        }
        // An I/O error that wraps another one passes over it in `source`.
        let wrapped = reason
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => reason.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use azure_data_cosmos_driver::test::ConnectionPoolOptions;

    use super::*;
    use crate::config::{Config, Role};

    #[tokio::test]
    async fn metadata_and_documents_have_their_own_limits() {
        let options = [
            ("endpoint", "https://a.documents.azure.com/"),
            ("database", "orders"),
            ("container", "c"),
            ("auth.secret-key", "c2VjcmV0"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::parse(Role::Source, &options).unwrap();
        let pool = ConnectionPoolOptions::builder()
            .with_max_metadata_request_timeout(Duration::from_millis(100))
            .with_max_dataplane_request_timeout(Duration::from_secs(100))
            .build()
            .unwrap();
        let transport = Clients::of(&config.account, None)
            .unwrap()
            .transport(&pool)
            .unwrap();
        // Accepts connections in its queue, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let request = |path: &str| HttpRequest {
            url: format!("http://{address}{path}").parse().unwrap(),
            method: azure_core::http::Method::Get,
            headers: Headers::new(),
            body: None,
            timeout: None,
        };
        for path in [
            "/",
            "/dbs/orders/colls/c",
            "/dbs/orders/colls/c/pkranges",
            "/dbs/docs/colls/docs",
        ] {
            let request = request(path);
            let answer = tokio::time::timeout(Duration::from_secs(20), transport.send(&request)).await;
            assert!(answer.expect(path).is_err());
        }
        let documents = request("/dbs/orders/colls/c/docs/1");
        let answer = tokio::time::timeout(Duration::from_secs(1), transport.send(&documents)).await;
        assert!(answer.is_err(), "documents have the longer limit");
    }
}
