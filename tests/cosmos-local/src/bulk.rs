//! The non-atomic bulk form: up to 100 operations on one physical partition, each with an outcome of its own.

use crate::container::{Container, Scope};
use crate::emulator::{Answer, Reply};
use crate::faults::{Kind, Strike, Target};
use crate::patch::{self, Patch};
use crate::server::{header, Inner};
use crate::ttl;
use azure_core::http::headers::HeaderValue;
use azure_core::http::{Method, Request, Url};
use bytes::Bytes;
use hyper::header::HeaderMap;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

/// The service's limits for one request.
const MAX_OPERATIONS: usize = 100;
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Sub-status of a 410: the range is no more, or it is not the one that holds the key.
const RANGE_GONE: u32 = 1002;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation<'a> {
    operation_type: &'a str,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    /// A JSON array, or the same as a string.
    #[serde(borrow)]
    partition_key: Option<&'a RawValue>,
    #[serde(borrow)]
    resource_body: Option<&'a RawValue>,
    #[serde(borrow)]
    if_match: Option<Cow<'a, str>>,
    #[serde(borrow)]
    if_none_match: Option<Cow<'a, str>>,
    /// Leave the document out of the answer. Each operation says so for itself: a header of the request alone does not.
    #[serde(default)]
    minimal_return_preference: bool,
}

/// The outcome of one operation.
struct Outcome {
    status: u16,
    sub_status: u32,
    charge: f64,
    etag: Option<String>,
    retry_after_millis: Option<u64>,
    body: Bytes,
    session: Option<String>,
}

impl Outcome {
    fn error(status: u16, sub_status: u32, message: &str) -> Self {
        let body = serde_json::json!({ "message": message }).to_string().into();
        Self {
            status,
            sub_status,
            charge: 0.0,
            etag: None,
            retry_after_millis: None,
            body,
            session: None,
        }
    }

    fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl From<Strike> for Outcome {
    fn from(strike: Strike) -> Self {
        let mut outcome = Self::error(strike.status.unwrap_or(500), strike.sub_status, strike.message());
        outcome.retry_after_millis = strike.retry_after_millis;
        outcome.charge = strike.charge;
        outcome
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self {
            status: answer.status,
            sub_status: number(&answer, "x-ms-substatus"),
            charge: number(&answer, "x-ms-request-charge"),
            etag: answer.header("etag").map(str::to_owned),
            retry_after_millis: answer.header("x-ms-retry-after-ms").and_then(|v| v.parse().ok()),
            session: answer.header("x-ms-session-token").map(str::to_owned),
            body: answer.body,
        }
    }
}

fn number<T: std::str::FromStr + Default>(answer: &Answer, name: &'static str) -> T {
    answer
        .header(name)
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

/// The operations of a bulk request, or the answer that refuses it.
fn operations<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Vec<T>, Box<Reply>> {
    let operations: Vec<T> = serde_json::from_slice(body).map_err(|error| {
        let message = format!("The bulk request is not an array of operations: {error}");
        Box::new(Reply::error(400, 0, &message))
    })?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "The bulk request has {} operations, at most {MAX_OPERATIONS} are allowed.",
            operations.len()
        );
        return Err(Box::new(Reply::error(400, 0, &message)));
    }
    Ok(operations)
}

/// Carries out a bulk request.
pub(crate) async fn run(server: &Inner, container: &Container, headers: &HeaderMap, body: &[u8]) -> Reply {
    if body.len() > MAX_BYTES {
        let message = format!(
            "The bulk request has {} bytes, at most {MAX_BYTES} are allowed.",
            body.len()
        );
        return Reply::error(413, 0, &message);
    }
    if server.wire_speed {
        return answered(server, headers, body);
    }
    let operations: Vec<Operation> = match operations(body) {
        Ok(operations) => operations,
        Err(refusal) => return *refusal,
    };
    let Some(range) = header(headers, "x-ms-documentdb-partitionkeyrangeid") else {
        return Reply::error(
            400,
            0,
            "The bulk request has no x-ms-documentdb-partitionkeyrangeid header.",
        );
    };
    // Some clients send "<container rid>,<range id>".
    let range = range.rsplit(',').next().unwrap_or(range);
    if container.layout.read().await.range(range).is_none() {
        return Reply::error(
            410,
            RANGE_GONE,
            &format!("The partition key range {range} is no more."),
        );
    }
    let proceed = header(headers, "x-ms-cosmos-batch-continue-on-error")
        .is_none_or(|value| value.eq_ignore_ascii_case("true"));
    let documents = server
        .emulator
        .url(&["dbs", &container.db, "colls", &container.coll, "docs"]);
    let faults = server.faults.for_operations();

    let mut results = Vec::with_capacity(128 * operations.len());
    let (mut charge, mut failed, mut session, mut statuses) = (0.0, false, None, Vec::new());
    for operation in &operations {
        let outcome = if failed && !proceed {
            Outcome::error(424, 0, "An earlier operation of the request failed.")
        } else {
            let strike = match faults {
                true => strike(server, container, range, operation).await,
                false => None,
            };
            let done = match &strike {
                Some(strike) if !strike.after => None,
                _ => Some(
                    execute(server, container, range, &documents, operation)
                        .await
                        .unwrap_or_else(|message| Outcome::error(400, 0, &message)),
                ),
            };
            match (strike, done) {
                (None, Some(done)) => done,
                (strike, _) => strike.unwrap_or_default().into(),
            }
        };
        charge += outcome.charge;
        failed |= !outcome.ok();
        statuses.push(outcome.status);
        results.push(if results.is_empty() { b'[' } else { b',' });
        // A read is always answered with what was read.
        write_result(
            &mut results,
            &outcome,
            operation.minimal_return_preference && operation.operation_type != "Read",
        );
        session = outcome.session.or(session);
    }
    if results.is_empty() {
        results.push(b'[');
    }
    results.push(b']');
    server.counts.with(|stats| {
        for status in statuses {
            *stats.bulk_operations.entry(status).or_default() += 1;
        }
    });
    let reply = Reply::new(if failed { 207 } else { 200 }, results)
        .with("x-ms-request-charge", format!("{charge:.2}"))
        .with("x-ms-item-count", operations.len())
        .with("x-ms-documentdb-partitionkeyrangeid", range);
    match session {
        Some(session) => reply.with("x-ms-session-token", session),
        None => reply,
    }
}

/// Answers a bulk request as if each of its operations had been carried out.
fn answered(server: &Inner, headers: &HeaderMap, body: &[u8]) -> Reply {
    // All that the answer depends on: partition keys, ids and conditions are not looked at.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        operation_type: &'a str,
        #[serde(borrow)]
        resource_body: Option<&'a RawValue>,
        #[serde(default)]
        minimal_return_preference: bool,
    }
    let operations: Vec<Shape> = match operations(body) {
        Ok(operations) => operations,
        Err(refusal) => return *refusal,
    };
    let (mut results, mut failed) = (Vec::with_capacity(96 * operations.len()), false);
    let mut statuses = BTreeMap::<u16, u64>::new();
    for operation in &operations {
        let status = match operation.operation_type {
            "Create" => 201,
            "Upsert" | "Replace" | "Patch" => 200,
            "Delete" => 204,
            // Nothing is there.
            "Read" => 404,
            _ => 400,
        };
        *statuses.entry(status).or_default() += 1;
        failed |= status >= 400;
        results.push(if results.is_empty() { b'[' } else { b',' });
        // Writing to a vector cannot fail.
        let _ = write!(
            results,
            r#"{{"statusCode":{status},"subStatusCode":0,"requestCharge":10.29,"eTag":"\"00000000-0000-0000-0000-000000000000\"""#
        );
        if let (200 | 201, false, Some(body)) = (
            status,
            operation.minimal_return_preference,
            operation.resource_body,
        ) {
            results.extend_from_slice(br#","resourceBody":"#);
            results.extend_from_slice(body.get().as_bytes());
        }
        results.push(b'}');
    }
    if results.is_empty() {
        results.push(b'[');
    }
    results.push(b']');
    server.counts.with(|stats| {
        for (status, count) in statuses {
            *stats.bulk_operations.entry(status).or_default() += count;
        }
    });
    let range = header(headers, "x-ms-documentdb-partitionkeyrangeid").unwrap_or("0");
    Reply::new(if failed { 207 } else { 200 }, results)
        .with(
            "x-ms-request-charge",
            format!("{:.2}", 10.29 * operations.len() as f64),
        )
        .with("x-ms-item-count", operations.len())
        .with("x-ms-session-token", "0:-1#1")
        .with("x-ms-documentdb-partitionkeyrangeid", range)
}

/// The fault that strikes this operation, after the delay that it asks for.
async fn strike(
    server: &Inner,
    container: &Container,
    range: &str,
    operation: &Operation<'_>,
) -> Option<Strike> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<String>,
    }
    let named = || {
        let body = operation.resource_body?;
        serde_json::from_str::<Named>(body.get()).ok()?.id
    };
    let (_, by_content) = server.faults.look_inside();
    let document = match by_content {
        true => operation.id.as_deref().map(str::to_owned).or_else(named),
        false => None,
    };
    let strike = server.faults.strike(&Target {
        kind: Kind::Bulk,
        container: Some(&container.coll),
        partition: Some(range),
        documents: document.into_iter().collect(),
        operation: true,
        ..Target::default()
    })?;
    server.counts.with(|stats| stats.faults_injected += 1);
    if !strike.delay.is_zero() {
        tokio::time::sleep(strike.delay).await;
    }
    Some(strike)
}

/// Appends one result to the answer. The parts are written by hand: the documents are in JSON already.
fn write_result(out: &mut Vec<u8>, outcome: &Outcome, minimal: bool) {
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        r#"{{"statusCode":{},"subStatusCode":{},"requestCharge":{:.2}"#,
        outcome.status, outcome.sub_status, outcome.charge
    );
    if let Some(etag) = &outcome.etag {
        let _ = write!(out, r#","eTag":{}"#, serde_json::Value::from(etag.as_str()));
    }
    if let Some(millis) = outcome.retry_after_millis {
        let _ = write!(out, r#","retryAfterMilliseconds":{millis}"#);
    }
    if !outcome.body.is_empty() && (!minimal || !outcome.ok()) {
        out.extend_from_slice(br#","resourceBody":"#);
        out.extend_from_slice(&outcome.body);
    }
    out.push(b'}');
}

/// Carries out one operation.
///
/// # Errors
/// What is wrong with the operation: its outcome is then a 400.
async fn execute(
    server: &Inner,
    container: &Container,
    range: &str,
    documents: &Url,
    operation: &Operation<'_>,
) -> Result<Outcome, String> {
    let key: Cow<str> = match operation.partition_key.map(RawValue::get) {
        Some(text) if text.starts_with('"') => serde_json::from_str(text).map_err(|e| e.to_string())?,
        Some(text) => text.into(),
        None => return Err("The operation has no partitionKey.".to_owned()),
    };
    let key = match &*key {
        "[]" if container.is_from_before_keys() => "[{}]".into(),
        _ => key,
    };
    let (epk, _, complete) = container.hash(&key)?;
    if !complete {
        return Err(format!(
            "The partition key {key} has fewer values than the container has levels."
        ));
    }
    let (kind, method, with_body, with_id) = match operation.operation_type {
        "Create" => (Kind::Create, Method::Post, true, false),
        "Upsert" => (Kind::Upsert, Method::Post, true, false),
        "Replace" => (Kind::Replace, Method::Put, true, true),
        "Patch" => (Kind::Patch, Method::Patch, true, true),
        "Delete" => (Kind::Delete, Method::Delete, false, true),
        "Read" => (Kind::Read, Method::Get, false, true),
        other => return Err(format!("The operation type '{other}' is not known.")),
    };
    let id = operation.id.as_deref();
    let mut url = documents.clone();
    if with_id {
        let id = id.ok_or_else(|| format!("The {} operation has no id.", operation.operation_type))?;
        if matches!(id, "." | "..") {
            return Err(format!("The emulator has no address for the document '{id}'."));
        }
        // Each character as it is: a URL's own segments lose tabs and line ends.
        let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
        url.set_path(&format!("{}/{id}", documents.path()));
    }
    let mut request = Request::new(url, method);
    let key = ascii(key);
    request.insert_header("x-ms-documentdb-partitionkey", HeaderValue::from(key.clone()));
    let mut patch = None;
    if kind == Kind::Upsert {
        request.insert_header("x-ms-documentdb-is-upsert", "True");
    }
    for (name, value) in [
        ("if-match", &operation.if_match),
        ("if-none-match", &operation.if_none_match),
    ] {
        if let Some(value) = value {
            request.insert_header(name, value.as_ref().to_owned());
        }
    }
    if with_body {
        let body = operation
            .resource_body
            .ok_or_else(|| format!("The {} operation has no resourceBody.", operation.operation_type))?;
        if let (true, Some(message)) = (
            kind != Kind::Patch,
            ttl::refuse_document(container, body.get().as_bytes()),
        ) {
            return Err(message);
        }
        request.set_body(Bytes::copy_from_slice(body.get().as_bytes()));
        if kind == Kind::Patch {
            match Patch::parse(body.get().as_bytes()) {
                Ok(parsed) => {
                    request.set_body(parsed.body.clone());
                    patch = Some(parsed);
                }
                Err((status, message)) => return Ok(Outcome::error(status, 0, &message)),
            }
        }
    }
    // The range is checked under the lock that the write holds: a split cannot come in between.
    let layout = container.layout.read().await;
    if layout.gone || !layout.range(range).is_some_and(|range| range.holds(&epk)) {
        let message = "The partition key does not belong to the partition key range of the request.";
        return Ok(Outcome::error(410, RANGE_GONE, message));
    }
    let mut feeds = layout.feeds(&Scope::of_key(epk.clone())).await;
    ttl::expire(server, container, &mut feeds).await;
    if let (Some(patch), Some(id)) = (&patch, id) {
        let checked = patch::check(&server.scratch, &server.emulator, container, patch, id, &key).await;
        if let Err((status, message)) = checked {
            return Ok(Outcome::error(status, 0, &message));
        }
    }
    let answer = server.emulator.call(&request).await;
    if answer.ok() {
        match kind {
            Kind::Read => {}
            Kind::Delete => feeds.remove(epk, id.unwrap_or_default()),
            _ => {
                let write = feeds.begin();
                feeds.put(write, 0, epk, answer.body.clone())?;
            }
        }
    }
    Ok(answer.into())
}

/// A partition key in a form that is safe in a header: characters beyond ASCII as JSON escapes.
pub(crate) fn ascii(json: Cow<str>) -> String {
    if json.is_ascii() {
        return json.into_owned();
    }
    let mut out = String::with_capacity(json.len() * 2);
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}
