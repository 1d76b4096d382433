//! The vendor's in-memory emulator behind one call, and the shapes of requests to it and answers from it.

use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Method, Request, Url};
use azure_data_cosmos_driver::in_memory_emulator::{
    EmulatorStore, InMemoryEmulatorHttpClient, VirtualAccountConfig, VirtualRegion,
};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// The one region's address inside the emulator. It routes by scheme, host and port, so every request is rebuilt on
/// this base, and the account read's answer is rewritten from it to the addresses of this server.
const INNER: &str = "https://cosmos-local/";

/// An answer of the emulator.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Bytes,
}

impl Answer {
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's value.
    pub fn header(&self, name: &'static str) -> Option<&str> {
        // Looked for by hand: the typed getters build an error, and maybe a backtrace, for each header that is absent.
        let mut headers = self.headers.iter();
        headers.find_map(|(n, value)| (n.as_str() == name).then(|| value.as_str()))
    }
}

/// An HTTP answer to a client.
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string())
    }

    /// An error in the service's own form.
    pub fn error(status: u16, sub_status: u32, message: &str) -> Self {
        let code = match status {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            408 => "RequestTimeout",
            409 => "Conflict",
            410 => "Gone",
            412 => "PreconditionFailed",
            413 => "RequestEntityTooLarge",
            429 => "TooManyRequests",
            449 => "RetryWith",
            501 => "NotImplemented",
            503 => "ServiceUnavailable",
            _ => "InternalServerError",
        };
        let body = serde_json::json!({ "code": code, "message": message });
        let reply = Self::json(status, &body).with("x-ms-request-charge", "0");
        if sub_status == 0 {
            reply
        } else {
            reply.with("x-ms-substatus", sub_status)
        }
    }

    /// Sets a header; a value that cannot be one (a control character in it) is left out.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let mut headers = HeaderMap::with_capacity(32);
        for (name, value) in answer.headers.iter() {
            let name = hyper::header::HeaderName::from_bytes(name.as_str().as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.as_str())) {
                headers.insert(name, value);
            }
        }
        Self {
            status: answer.status,
            headers,
            body: answer.body,
        }
    }
}

/// Microsoft's emulator with one write region and no replication.
pub(crate) struct Emulator {
    client: InMemoryEmulatorHttpClient,
    base: Url,
}

impl Emulator {
    pub fn new(throttling: bool) -> Result<Self, String> {
        let base = Url::parse(INNER).map_err(|e| e.to_string())?;
        let account = VirtualAccountConfig::new(vec![VirtualRegion::new("Local", base.clone())])
            .map_err(|e| e.to_string())?
            .with_throttling_enabled(throttling);
        let client = InMemoryEmulatorHttpClient::try_new(account).map_err(|e| e.to_string())?;
        Ok(Self { client, base })
    }

    pub fn store(&self) -> Arc<EmulatorStore> {
        self.client.store()
    }

    /// The inner address of a resource given by its decoded path segments.
    pub fn url<S: AsRef<str>>(&self, segments: &[S]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }

    /// Carries out one request.
    pub async fn call(&self, request: &Request) -> Answer {
        Self::collect(self.client.execute_request(request).await).await
    }

    /// Carries out a request in the binary frame of Gateway 2.0; so is the answer.
    pub async fn gateway_v2(&self, request: &Request) -> Answer {
        Self::collect(self.client.execute_gateway_v2_request(request).await).await
    }

    async fn collect(answer: azure_data_cosmos_driver::Result<AsyncRawResponse>) -> Answer {
        let result = match answer {
            Ok(answer) => {
                let (status, headers, body) = answer.deconstruct();
                body.collect()
                    .await
                    .map(|body| (u16::from(status), headers, body))
                    .map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok((status, headers, body)) => Answer {
                status,
                headers,
                body,
            },
            Err(message) => {
                let body = serde_json::json!({ "code": "InternalServerError", "message": message });
                Answer {
                    status: 500,
                    headers: Headers::new(),
                    body: body.to_string().into(),
                }
            }
        }
    }

    /// Reads a resource as JSON; `None` where the emulator has none.
    pub async fn read<S: AsRef<str>>(&self, segments: &[S]) -> Option<serde_json::Value> {
        let answer = self.call(&Request::new(self.url(segments), Method::Get)).await;
        if answer.ok() {
            serde_json::from_slice(&answer.body).ok()
        } else {
            None
        }
    }
}
