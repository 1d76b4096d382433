//! A server with a runtime of its own, and a client that sends requests as they are written, signed and nothing more.
#![allow(dead_code, reason = "no test uses all of it")]

use base64::{engine::general_purpose::STANDARD, Engine as _};
use cosmos_local::{AccountKey, Config, Server};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{json, Value};
use std::time::Duration;

/// Nothing in these tests takes longer, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Local {
    // Dropped before the runtime that it runs on.
    server: std::sync::Mutex<Option<Server>>,
    runtime: tokio::runtime::Runtime,
    pub address: std::net::SocketAddr,
    pub key: String,
    pub endpoint: String,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn sub_status(&self) -> u32 {
        self.header("x-ms-substatus")
            .map_or(0, |code| code.parse().unwrap())
    }

    /// Status and sub-status.
    pub fn outcome(&self) -> (u16, u32) {
        (self.status, self.sub_status())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// What a request to the documents of `db/c` says about the partition key.
pub fn keyed(key: &str) -> (&'static str, String) {
    ("x-ms-documentdb-partitionkey", json!([key]).to_string())
}

/// The headers of a bulk request to a range.
pub fn bulk_headers(range: &str) -> Vec<(&'static str, String)> {
    vec![
        ("x-ms-cosmos-is-batch-request", "true".to_owned()),
        ("x-ms-cosmos-batch-atomic", "false".to_owned()),
        ("x-ms-cosmos-batch-continue-on-error", "true".to_owned()),
        ("x-ms-documentdb-partitionkeyrangeid", range.to_owned()),
    ]
}

/// An upsert inside a bulk request.
pub fn upsert(id: &str, key: &str) -> Value {
    json!({
        "operationType": "Upsert",
        "partitionKey": json!([key]).to_string(),
        "resourceBody": { "id": id, "pk": key },
    })
}

impl Local {
    /// A server with database `db` and these containers.
    pub fn start(containers: &[&str]) -> Self {
        Self::with(containers, |_| {})
    }

    pub fn with(containers: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        std::env::set_var("COSMOS_DISABLE_IMDS", "1");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let key = AccountKey::random();
        let secret = key.secret().to_owned();
        let mut config = Config::new(key);
        config.databases = vec!["db".to_owned()];
        config.containers = containers.iter().map(|spec| spec.parse().unwrap()).collect();
        change(&mut config);
        let server = runtime.block_on(Server::start(config)).unwrap();
        Self {
            endpoint: server.endpoint(),
            address: server.address(),
            key: secret,
            server: std::sync::Mutex::new(Some(server)),
            runtime,
        }
    }

    /// Stops the server, and waits for its end.
    pub fn stop(&self) {
        let server = self.server.lock().unwrap().take();
        self.runtime.block_on(server.expect("a running server").stop());
    }

    /// The name and the endpoint of each region.
    pub fn regions(&self) -> Vec<(String, String)> {
        self.server
            .lock()
            .unwrap()
            .as_ref()
            .expect("a running server")
            .regions()
    }

    /// Sends a signed request to the account's endpoint.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        self.send_to(&self.endpoint, method, path, headers, body)
    }

    /// Sends a signed request on a connection of its own, so that no request is sent again by the client.
    pub fn send_to(
        &self,
        endpoint: &str,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .allow_non_standard_methods(true)
            .build()
            .into();
        let date = "Tue, 24 Nov 2026 10:00:00 GMT";
        let link = path.trim_matches('/');
        let segments: Vec<&str> = link.split('/').filter(|part| !part.is_empty()).collect();
        let (kind, link) = match segments.as_slice() {
            [] => ("", ""),
            // An offer is signed over its bare id.
            ["offers", id] => ("offers", *id),
            [.., last] if segments.len() % 2 == 1 => {
                (*last, link.rsplit_once('/').map_or("", |(parent, _)| parent))
            }
            [.., kind, _] => (*kind, link),
            _ => unreachable!(),
        };
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(&self.key).unwrap()).unwrap();
        let payload = format!(
            "{}\n{kind}\n{link}\n{}\n\n",
            method.to_lowercase(),
            date.to_lowercase()
        );
        mac.update(payload.as_bytes());
        let token = format!(
            "type=master&ver=1.0&sig={}",
            STANDARD.encode(mac.finalize().into_bytes())
        );
        let token = percent_encoding::utf8_percent_encode(&token, percent_encoding::NON_ALPHANUMERIC);
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!(
                "{}/{}",
                endpoint.trim_end_matches('/'),
                path.trim_start_matches('/')
            ))
            .header("x-ms-date", date)
            .header("authorization", token.to_string())
            .header("connection", "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = if matches!(method, "GET" | "DELETE") {
            agent.run(request.body(()).unwrap())?
        } else {
            agent.run(request.body(body).unwrap())?
        };
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.body_mut().read_to_vec()?,
        })
    }

    /// Upserts a document into `db/c`.
    pub fn upsert(&self, document: &Value) -> Result<Answer, ureq::Error> {
        let headers = [
            keyed(document["pk"].as_str().unwrap()),
            ("x-ms-documentdb-is-upsert", "true".to_owned()),
        ];
        self.send(
            "POST",
            "dbs/db/colls/c/docs",
            &headers,
            document.to_string().as_bytes(),
        )
    }

    /// Reads a document of `db/c`.
    pub fn read(&self, id: &str, key: &str) -> Answer {
        let path = format!("dbs/db/colls/c/docs/{id}");
        self.send("GET", &path, &[keyed(key)], b"").unwrap()
    }

    /// Sends upserts in the bulk form to a range of `db/c`.
    pub fn bulk(&self, range: &str, operations: &[Value]) -> Result<Answer, ureq::Error> {
        let body = json!(operations).to_string();
        self.send(
            "POST",
            "dbs/db/colls/c/docs",
            &bulk_headers(range),
            body.as_bytes(),
        )
    }

    /// A page of the change feed of `db/c` after this ETag, from the beginning without one.
    pub fn feed(&self, range: &str, etag: Option<&str>, more: &[(&str, String)]) -> Answer {
        let mut headers = vec![
            ("a-im", "Incremental feed".to_owned()),
            ("x-ms-documentdb-partitionkeyrangeid", range.to_owned()),
        ];
        headers.extend(etag.map(|etag| ("if-none-match", etag.to_owned())));
        headers.extend(more.iter().cloned());
        self.send("GET", "dbs/db/colls/c/docs", &headers, b"").unwrap()
    }

    /// The range of `db/c` that a key belongs to.
    pub fn range_of(&self, key: &str) -> String {
        let answer = self.upsert(&json!({ "id": "probe", "pk": key })).unwrap();
        assert!(answer.status < 300, "{answer:?}");
        let answer = self
            .send("DELETE", "dbs/db/colls/c/docs/probe", &[keyed(key)], b"")
            .unwrap();
        assert_eq!(answer.status, 204);
        let range = answer.header("x-ms-documentdb-partitionkeyrangeid");
        range.expect("the range in the answer").to_owned()
    }

    /// An admin request; fails on any status but 200.
    pub fn admin(&self, method: &str, action: &str, body: Value) -> Value {
        let (status, answer) = self.try_admin(method, action, body);
        assert_eq!(status, 200, "{action}: {answer}");
        answer
    }

    pub fn try_admin(&self, method: &str, action: &str, body: Value) -> (u16, Value) {
        let path = format!("_local/{action}");
        let answer = self
            .send(method, &path, &[], body.to_string().as_bytes())
            .unwrap();
        (answer.status, answer.json())
    }

    pub fn fault(&self, fault: Value) {
        self.admin("POST", "faults", fault);
    }

    pub fn no_faults(&self) {
        self.admin("DELETE", "faults", json!({}));
    }

    pub fn stats(&self) -> Value {
        self.admin("GET", "stats", json!({}))
    }

    /// The requests of a kind so far.
    pub fn requests(&self, kind: &str) -> Vec<Value> {
        let answer = self.admin("GET", &format!("requests?kind={kind}"), json!({}));
        answer["requests"].as_array().unwrap().clone()
    }
}
