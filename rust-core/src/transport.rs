//! HTTP clients of an account that has a certificate authority or a proxy of its own. The driver's own clients know only those of the
//! process (`SSL_CERT_FILE`, `HTTPS_PROXY`), which the jobs of a TaskManager share.
//!
//! The driver takes another factory only by a seam that it keeps for tests (feature `__internal_mocking`), and tells it less than its own
//! factory knows. What is missing follows from how this core sets the driver up: both request time-outs are the same, and over TLS
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

/// Makes the clients of one account.
#[derive(Debug)]
pub struct Clients {
    authorities: Vec<Certificate>,
    proxy: Option<reqwest::Proxy>,
    environment: bool,
    http2: bool,
}

impl Clients {
    /// `None` where the driver's own clients do.
    ///
    /// # Errors
    /// Config for a file of authorities that cannot be read or used, or a proxy that cannot.
    pub async fn of(config: &AccountConfig) -> Result<Option<Clients>> {
        let proxy = match &config.proxy {
            Proxy::Url(url) => Some(reqwest::Proxy::all(url.clone()).map_err(|e| {
                CoreError::config(format!(
                    "cosmos.proxy: '{url}' cannot be used: {e}; give the URL of an HTTP proxy"
                ))
            })?),
            Proxy::None | Proxy::Environment => None,
        };
        if proxy.is_none() && config.ca_file.is_none() {
            return Ok(None);
        }
        let authorities = match config.ca_file.clone() {
            None => Vec::new(),
            // Not on the runtime's own thread, which a file system that hangs would stop.
            Some(path) => tokio::task::spawn_blocking(move || authorities(&path))
                .await
                .map_err(|e| {
                    CoreError::internal(format!("the certificate authorities were not read: {e}"))
                })??,
        };
        Ok(Some(Clients {
            authorities,
            proxy,
            environment: config.proxy == Proxy::Environment,
            http2: config.http2,
        }))
    }

    /// For requests for tokens, which take the same way out as those to the account.
    ///
    /// # Errors
    /// Config when it cannot be made.
    pub fn for_tokens(&self, connect_timeout: Duration) -> Result<Client> {
        let builder = self
            .builder()
            .connect_timeout(connect_timeout)
            .redirect(Policy::none());
        builder.build().map_err(|e| {
            CoreError::config(format!(
                "the HTTP client for tokens cannot be made: {}",
                chain(&e)
            ))
        })
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

    fn client(&self, pool: &ConnectionPoolOptions) -> reqwest::Result<Client> {
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
        builder.build()
    }
}

fn authorities(path: &str) -> Result<Vec<Certificate>> {
    let wrong = |why: String| {
        CoreError::config(format!(
            "cosmos.tls.ca-file: '{path}' {why}; give a PEM file of certificates that this process can read"
        ))
    };
    let pem = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let authorities = Certificate::from_pem_bundle(&pem)
        .map_err(|e| wrong(format!("holds no certificates: {}", chain(&e))))?;
    match authorities.is_empty() {
        true => Err(wrong("holds no certificates".to_owned())),
        false => Ok(authorities),
    }
}

impl HttpClientFactory for Clients {
    fn build(
        &self,
        pool: &ConnectionPoolOptions,
        _: HttpClientConfig,
    ) -> azure_data_cosmos_driver::Result<Arc<dyn TransportClient>> {
        let client = self.client(pool).map_err(|e| {
            let message = format!("the HTTP client cannot be made: {}", chain(&e));
            CosmosError::builder()
                .with_status(status_codes::CLIENT_HTTP_CLIENT_CONSTRUCTION_FAILED)
                .with_message(message)
                .with_source(e)
                .build()
        })?;
        Ok(Arc::new(Transport(client)))
    }
}

#[derive(Debug)]
struct Transport(Client);

#[async_trait::async_trait]
impl TransportClient for Transport {
    async fn send(&self, request: &HttpRequest) -> std::result::Result<HttpResponse, TransportError> {
        let method = reqwest::Method::from_bytes(request.method.as_str().as_bytes())
            .map_err(|e| lost(status_codes::TRANSPORT_IO_FAILED, RequestSentStatus::NotSent, e))?;
        let mut builder = self.0.request(method, request.url.clone());
        for (name, value) in request.headers.iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        if let Some(limit) = request.timeout {
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
        let body = response.bytes().await.map_err(|e| {
            lost(
                status_codes::TRANSPORT_BODY_READ_FAILED,
                RequestSentStatus::Sent,
                e,
            )
        })?;
        Ok(HttpResponse {
            status,
            headers,
            body: body.into(),
        })
    }
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
        None => {
            "if a private authority issued it, name that authority's file in cosmos.tls.ca-file".to_owned()
        }
        Some(path) => format!("check that '{path}' (cosmos.tls.ca-file) holds the authority that issued it"),
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
