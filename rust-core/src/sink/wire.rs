//! Requests that write: the bulk form and single operations, both through the driver.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::Etag;
use azure_core::Bytes;
use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, CosmosResponse, ItemReference, PartitionKey, PartitionKeyDefinition,
    PartitionKeyValue, Precondition,
};
use azure_data_cosmos_driver::options::ContentResponseOnWrite;

use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::account::{charge, write_options, Account};
use crate::config::Config;
use crate::error::{CoreError, Kind, Result, Trail};
use crate::json::{escaped_len, integer, lossy, push_string, Broken, Scan, Scanner};
use crate::metrics::{InFlight, Metrics};
use crate::partitions::{partition_ranges, MendRanges};
use crate::same::{is_same, same_container, Seen};
use crate::status::{Asked, Blame, Fate, Next};

use super::batch::Batch;
use super::operation::{canonical_key, Operation, OperationKind, Verb};
use super::step::Stored;

/// What carries operations out. There is one for the service; benchmarks and property tests put another in its place, to see the
/// sink without a network.
pub trait Service: Send + Sync + 'static {
    /// How documents of the container are keyed.
    fn key_definition(&self) -> &PartitionKeyDefinition;

    /// The physical partitions: id and inclusive lower bound, in order of the bounds. `refresh` asks the service again.
    fn partitions(&self, refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>>;

    /// Whether the container is the one that was opened.
    ///
    /// # Errors
    /// A final one, everybody's, when it is gone or another one has its name; the look-up's own failure otherwise.
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How often that is asked while there is something to write.
    fn check_interval(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Sends operations of one physical partition as one non-atomic bulk request.
    ///
    /// # Errors
    /// The failure of the request as a whole.
    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>>;

    /// Sends one operation alone.
    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult>;

    /// Whether it answers operations that read. Where not, a conflict that would be compared with the stored document is final.
    fn reads(&self) -> bool {
        false
    }
}

/// A container of the real service, over the driver.
pub struct ContainerService {
    pub account: Arc<Account>,
    pub container: ContainerReference,
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    /// What the service said last of whether the container is there.
    pub seen: Arc<Seen>,
}

/// The answer to one operation.
pub struct OperationResult {
    /// HTTP status, 0: no answer.
    pub status: u16,
    /// Request units of the attempt.
    pub request_charge: f64,
    /// Apart, since most have none.
    pub error: Option<Box<CoreError>>,
    /// What an operation that reads has found.
    pub stored: Option<Box<Stored>>,
}

impl OperationResult {
    /// Of an operation that was carried out.
    pub fn ok(status: u16, request_charge: f64) -> Self {
        OperationResult {
            status,
            request_charge,
            error: None,
            stored: None,
        }
    }

    /// Of an operation that failed.
    pub fn failed(error: CoreError) -> Self {
        OperationResult {
            status: error.status,
            request_charge: error.request_charge,
            error: Some(Box::new(error)),
            stored: None,
        }
    }
}

/// Bytes of an operation in a bulk request, at most (the escapes of the partition key counted as if each byte had one, which is so at
/// worst for JSON).
pub fn bulk_size(op: &Operation) -> usize {
    const FIXED: usize =
        r#"{"operationType":"Replace","partitionKey":"","id":"","resourceBody":,"ifMatch":"","minimalReturnPreference":true},"#
            .len();
    FIXED
        + op.sent_body().len()
        + 2 * op.sent_key().len()
        + escaped_len(op.sent_etag())
        + escaped_len(op.sent_id())
}

/// The body of a bulk request.
///
/// Its form is that of Microsoft's own SDKs in gateway mode (npm `@azure/cosmos`, Java v4), its order of fields Java's; `partitionKey` is the
/// key's JSON as a string. Each operation but a read asks for an answer without the document, beside the header that asks the same of the request.
pub fn bulk_body(operations: &[Operation]) -> Vec<u8> {
    body_of(operations, true)
}

/// `with_keys`: each operation names its key; in a transactional batch the request does.
fn body_of(operations: &[Operation], with_keys: bool) -> Vec<u8> {
    let known = |op: &Operation| match op.bulk_bytes {
        0 => bulk_size(op),
        bytes => bytes as usize,
    };
    let mut out = Vec::with_capacity(2 + operations.iter().map(known).sum::<usize>());
    out.push(b'[');
    for (i, op) in operations.iter().enumerate() {
        out.extend_from_slice(if i == 0 {
            b"{\"operationType\":\""
        } else {
            b",{\"operationType\":\""
        });
        let verb = op.verb();
        out.extend_from_slice(verb.name().as_bytes());
        out.push(b'"');
        if with_keys {
            out.extend_from_slice(b",\"partitionKey\":");
            push_string(&mut out, op.sent_key());
        }
        if verb.is_of_existing() {
            out.extend_from_slice(b",\"id\":");
            push_string(&mut out, op.sent_id());
        }
        let body = op.sent_body();
        if !body.is_empty() {
            out.extend_from_slice(b",\"resourceBody\":");
            out.extend_from_slice(body);
        }
        let etag = op.sent_etag();
        if !etag.is_empty() {
            out.extend_from_slice(b",\"ifMatch\":");
            push_string(&mut out, etag);
        }
        if verb != Verb::Read {
            out.extend_from_slice(b",\"minimalReturnPreference\":true");
        }
        out.push(b'}');
    }
    out.push(b']');
    out
}

/// One result of a bulk answer. The document and the ETag, where they come, are passed over.
#[derive(Default)]
struct WireResult<'a> {
    status: Option<u16>,
    sub_status: u32,
    request_charge: f64,
    /// Whole or not: what is meant is clear.
    retry_after_ms: Option<f64>,
    /// As it stands in the answer.
    message: Option<&'a [u8]>,
}

impl<'a> WireResult<'a> {
    /// Reads the one that begins here.
    fn read(scanner: &mut Scanner<'a>) -> Scan<(u16, WireResult<'a>)> {
        let mut result = WireResult::default();
        scanner.object(|key, s| {
            let value = s.value()?;
            if value == b"null" {
                return Ok(());
            }
            match key.text() {
                b"statusCode" => result.status = Some(whole(value)?),
                b"subStatusCode" => result.sub_status = whole(value)?,
                b"requestCharge" => result.request_charge = number(value)?,
                b"retryAfterMilliseconds" => result.retry_after_ms = Some(number(value)?),
                b"message" => result.message = Some(value),
                _ => {}
            }
            Ok::<_, Broken>(())
        })?;
        let status = result.status.ok_or(Broken("a result has no statusCode"))?;
        Ok((status, result))
    }
}

fn whole<T: TryFrom<i64>>(json: &[u8]) -> Scan<T> {
    let number = integer(json).and_then(|n| T::try_from(n).ok());
    number.ok_or(Broken("a status is no number"))
}

fn number(json: &[u8]) -> Scan<f64> {
    let text = std::str::from_utf8(json).ok();
    let number = text.and_then(|text| text.parse::<f64>().ok());
    number
        .filter(|n| n.is_finite())
        .ok_or(Broken("what should be a number is none"))
}

/// Calls `each` with the results of a bulk answer, in its order.
fn each_result<'a>(body: &'a [u8], mut each: impl FnMut(u16, WireResult<'a>)) -> Scan<()> {
    let mut scanner = Scanner { bytes: body, at: 0 };
    scanner.array("it is no array", |s| {
        let (status, result) = WireResult::read(s)?;
        each(status, result);
        Ok::<_, Broken>(())
    })?;
    match scanner.peek() {
        Err(_) => Ok(()),
        Ok(_) => Err(Broken("something stands behind the results")),
    }
}

/// Reads a bulk answer.
///
/// # Errors
/// Transient when it is not one result per operation: what was carried out is then unknown, and asking again is safe.
///
/// `asked` gives the kind and the fate so far of each operation, in the request's order; `resent` is the fate of what the driver sent
/// before by itself.
pub fn bulk_results(
    body: &[u8],
    asked: impl ExactSizeIterator<Item = (Asked, Fate)>,
    activity_id: &str,
    resent: Fate,
) -> Result<Vec<OperationResult>> {
    let expected = asked.len();
    let unclear = |why: String| CoreError {
        activity_id: activity_id.to_owned(),
        ..CoreError::new(
            Kind::Transient,
            format!("the answer to a bulk request cannot be understood: {why}"),
        )
    };
    let (mut results, mut asked, mut found) = (Vec::with_capacity(expected), asked, 0);
    each_result(body, |status, result| {
        found += 1;
        let Some((asked, before)) = asked.next() else {
            return;
        };
        let error = (!(200..300).contains(&status)).then(|| {
            let detail = result
                .message
                .map(|m| format!(": {}", lossy(m)))
                .unwrap_or_default();
            let sub_status = result.sub_status;
            let message = format!("the service answered {status}/{sub_status}{detail}");
            let mut error = CoreError::answered((status, sub_status), asked, before.max(resent), message);
            error.activity_id = activity_id.to_owned();
            error.retry_after_ms = result.retry_after_ms.map(|ms| ms.ceil() as u64);
            error.fate = error.fate.max(resent);
            error.request_charge = result.request_charge;
            Box::new(error)
        });
        results.push(OperationResult {
            status,
            request_charge: result.request_charge,
            error,
            stored: None,
        });
    })
    .map_err(|broken| unclear(broken.0.to_owned()))?;
    if found != expected {
        return Err(unclear(format!("{found} results for {expected} operations")));
    }
    Ok(results)
}

/// What reads have found, apart: an answer without reads is not looked through for it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRead<'a> {
    #[serde(default)]
    e_tag: Option<String>,
    #[serde(borrow, default)]
    resource_body: Option<&'a RawValue>,
}

/// Adds what the reads among these operations have found to their results.
///
/// # Errors
/// Transient when it cannot be understood.
fn add_stored(body: &[u8], operations: &[Operation], results: &mut [OperationResult]) -> Result<()> {
    if operations.iter().all(|op| op.verb() != Verb::Read) {
        return Ok(());
    }
    let unclear = |why: String| {
        CoreError::new(
            Kind::Transient,
            format!("the answer to a read cannot be understood: {why}"),
        )
    };
    let found: Vec<WireRead<'_>> = serde_json::from_slice(body).map_err(|e| unclear(e.to_string()))?;
    for ((op, result), found) in operations.iter().zip(results).zip(found) {
        if op.verb() != Verb::Read || result.error.is_some() {
            continue;
        }
        match (found.resource_body, found.e_tag) {
            (Some(document), Some(etag)) => {
                let document = document.get().as_bytes().to_vec();
                result.stored = Some(Box::new(Stored { document, etag }));
            }
            _ => {
                let error = unclear("it has no document or no ETag".to_owned());
                result.error = Some(Box::new(error));
            }
        }
    }
    Ok(())
}

/// Whether an id can stand in the address of its document and still mean that document.
///
/// The driver puts it there as it is, with `%` as `%25`. The `url` crate then drops tabs and line ends and takes `.` and `..` for steps in the
/// path, as the URL standard says; servers refuse other control characters in a path, and a space at its end may be cut off on the way. A bulk
/// request has the id in its body, where nothing happens to it.
///
/// # Errors
/// BadRequest, the record's own: the request would be about another document.
pub fn check_address(op: &Operation) -> Result<()> {
    match op.verb() {
        Verb::Replace | Verb::Delete => check_id(&op.id_text()),
        _ => Ok(()),
    }
}

fn check_id(id: &str) -> Result<()> {
    if !id.contains(|c: char| c.is_ascii_control()) && !matches!(id, "." | "..") && !id.ends_with(' ') {
        return Ok(());
    }
    Err(CoreError::new(
        Kind::BadRequest,
        format!(
            "the id '{}' cannot be part of an address, which a replace or a delete that goes alone needs: control characters, '.' and '..' and \
             a space at the end do not survive there; choose another id, or let it travel in bulk (sink.bulk=true, and no more than \
             sink.max-request-size)",
            id.escape_debug()
        ),
    ))
}

impl ContainerService {
    async fn is_same(&self, asked: Asked) -> Result<()> {
        is_same(&self.account, &self.config, &self.container, asked).await
    }

    /// Asks the service whether the container is there, unless it said so a moment ago.
    async fn check_now(&self) -> Result<()> {
        let (account, config, container) = (&self.account, &self.config, &self.container);
        self.seen.check(account, config, container, Asked::Metadata).await
    }

    async fn execute(
        &self,
        operation: CosmosOperation,
        headers: &[(&'static str, String)],
        (asked, before): (Asked, Fate),
        with_documents: bool,
    ) -> Result<CosmosResponse> {
        let metrics = &self.metrics;
        let mut options = write_options(&self.config);
        if with_documents {
            options = options.with_content_response_on_write(ContentResponseOnWrite::Enabled);
        }
        if !headers.is_empty() {
            let map: HashMap<HeaderName, HeaderValue> = headers
                .iter()
                .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from(v.clone())))
                .collect();
            options = options.with_custom_headers(map);
        }
        let sent = operation.body().map_or(0, <[u8]>::len) as u64;
        metrics.bytes_sent.fetch_add(sent, Relaxed);
        self.is_same(asked).await?;
        let in_flight = InFlight::new(metrics);
        let started = Instant::now();
        let mend = MendRanges::unless_ended(&self.account, &self.container);
        let driver = &self.account.driver;
        let result = driver
            .execute_singleton_operation(operation, options.build())
            .await;
        drop(in_flight);
        let result = result.map_err(|e| {
            self.account
                .judged(CoreError::from_driver(&e, asked, before), started)
        });
        mend.ended(&result);
        let mut result = result.and_then(|response| same_container(response, asked));
        if let Ok(response) = &result {
            if let Err(e) = self.is_same(asked).await {
                result = Err(CoreError {
                    request_charge: charge(response),
                    fate: Fate::Unknown,
                    ..e
                });
            }
        }
        let charge = result.as_ref().map_or_else(|e| e.request_charge, charge);
        metrics.request(started.elapsed(), charge);
        result
    }

    async fn point_inner(&self, op: &Operation) -> Result<OperationResult> {
        let key = canonical_key(op.partition_key(), self.key_definition().paths())?.key;
        // The driver sends none for it.
        let empty_key = [("x-ms-documentdb-partitionkey", "[]".to_owned())];
        let headers: &[_] = if key.is_empty() { &empty_key } else { &[] };
        check_address(op)?;
        let item = |key| ItemReference::from_name(&self.container, key, op.id_text().into_owned());
        let mut operation = match op.verb() {
            _ if op.kind == OperationKind::Refused => {
                return Err(CoreError::internal("a refused record is no write"))
            }
            Verb::Upsert => CosmosOperation::upsert_item(item(key)),
            Verb::Create => CosmosOperation::create_item(item(key)),
            Verb::Replace => CosmosOperation::replace_item(item(key)),
            Verb::Delete => CosmosOperation::delete_item(item(key)),
            Verb::Patch | Verb::Read => return self.batch_of_one(op, key, headers).await,
            Verb::Batch => return self.batch(op, key, headers).await,
        };
        let body = op.sent_body();
        if !body.is_empty() {
            operation = operation.with_body(body.to_vec());
        }
        if !op.sent_etag().is_empty() {
            let etag = String::from_utf8_lossy(op.sent_etag()).into_owned();
            operation = operation.with_precondition(Precondition::if_match(Etag::from(etag)));
        }
        let response = self
            .execute(operation, headers, (op.asked(), op.fate), false)
            .await?;
        let status = u16::from(response.status().status_code());
        Ok(OperationResult::ok(status, charge(&response)))
    }

    /// A transactional batch: one result for all of it, which is that of the operation for whose sake none was carried out.
    async fn batch(
        &self,
        op: &Operation,
        key: PartitionKey,
        headers: &[(&'static str, String)],
    ) -> Result<OperationResult> {
        let body = op.sent_body().to_vec();
        let operation = CosmosOperation::batch(self.container.clone(), key).with_body(body);
        let asked = (op.asked(), op.fate);
        let response = self.execute(operation, headers, asked, false).await?;
        let count = op.batch().map_or(0, Batch::len);
        let (_, results) = self.answer_of(response, std::iter::repeat_n(asked, count), op.asked())?;
        Ok(of_all(results, |at| {
            op.batch().map_or_else(String::new, |batch| batch.describe(at))
        }))
    }

    /// A patch or a read as a transactional batch. The driver's own patch has no condition, and reads and replaces by itself what it
    /// thinks unsafe; a read of a batch is answered where writes are, and so never with a document from before the last write.
    async fn batch_of_one(
        &self,
        op: &Operation,
        key: PartitionKey,
        headers: &[(&'static str, String)],
    ) -> Result<OperationResult> {
        let one = std::slice::from_ref(op);
        let operation = CosmosOperation::batch(self.container.clone(), key).with_body(body_of(one, false));
        let asked = (op.asked(), op.fate);
        let response = self
            .execute(operation, headers, asked, op.verb() == Verb::Read)
            .await?;
        let mut results = self.results_of(response, one, op.asked())?;
        Ok(results.swap_remove(0))
    }

    /// The driver has no bulk operation. A create with an empty partition key goes to the same path without a partition key
    /// header, and the headers below make it a bulk request; signing, regions and connections stay the driver's.
    async fn bulk_inner(&self, operations: &[Operation], range: &str) -> Result<Vec<OperationResult>> {
        self.metrics.bulk_requests.fetch_add(1, Relaxed);
        let no_key = PartitionKey::try_from(Vec::<PartitionKeyValue>::new())
            .map_err(|e| CoreError::internal(format!("the driver refuses an empty partition key: {e}")))?;
        let operation =
            CosmosOperation::create_item(ItemReference::from_name(&self.container, no_key, "bulk"))
                .with_body(bulk_body(operations));
        let headers = [
            ("x-ms-cosmos-is-batch-request", "true".to_owned()),
            ("x-ms-cosmos-batch-atomic", "false".to_owned()),
            ("x-ms-cosmos-batch-continue-on-error", "true".to_owned()),
            ("x-ms-documentdb-partitionkeyrangeid", range.to_owned()),
        ];
        let reads = operations.iter().any(|op| op.verb() == Verb::Read);
        let response = self
            .execute(operation, &headers, (Asked::Bulk, Fate::NotCarriedOut), reads)
            .await?;
        self.results_of(response, operations, Asked::Bulk)
    }

    /// The answer to a request of several operations, which was asked for as a whole as `whole`: one result each.
    fn results_of(
        &self,
        response: CosmosResponse,
        operations: &[Operation],
        whole: Asked,
    ) -> Result<Vec<OperationResult>> {
        let asked = operations.iter().map(|op| (op.asked(), op.fate));
        let cost = charge(&response);
        let (body, mut results) = self.answer_of(response, asked, whole)?;
        add_stored(&body, operations, &mut results).map_err(|e| e.behind(cost))?;
        Ok(results)
    }

    /// The same with the answer itself; `asked` is the kind of each operation and the fate of its earlier attempts.
    fn answer_of(
        &self,
        response: CosmosResponse,
        asked: impl ExactSizeIterator<Item = (Asked, Fate)>,
        whole: Asked,
    ) -> Result<(Bytes, Vec<OperationResult>)> {
        let activity_id = response
            .headers()
            .activity_id
            .as_ref()
            .map_or("", |a| a.as_str())
            .to_owned();
        let (resent, charge) = (
            Trail::of(&response.diagnostics(), whole).earlier,
            charge(&response),
        );
        let costly = |mut e: CoreError| {
            e.request_charge = charge;
            e
        };
        let body: Bytes = response
            .into_body()
            .single()
            .map_err(|e| costly(CoreError::from_driver(&e, whole, resent)))?;
        self.metrics.bytes_received.fetch_add(body.len() as u64, Relaxed);
        let results = bulk_results(&body, asked, &activity_id, resent).map_err(costly)?;
        Ok((body, results))
    }
}

/// The one result of operations of which all were carried out or none: the failure of the first that failed by itself, which says by `name`
/// which one that is.
fn of_all(results: Vec<OperationResult>, name: impl Fn(usize) -> String) -> OperationResult {
    let request_charge = results.iter().map(|r| r.request_charge).sum();
    let status = results.iter().map(|r| r.status).max().unwrap_or(0);
    // 424 is what the others are answered for its sake.
    let failed = |r: &OperationResult, others: bool| r.error.is_some() && (others || r.status != 424);
    let culprit = results.iter().position(|r| failed(r, false));
    let culprit = culprit.or_else(|| results.iter().position(|r| failed(r, true)));
    let error = culprit.and_then(|at| Some((at, results.into_iter().nth(at)?.error?)));
    match error {
        None => OperationResult::ok(status, request_charge),
        Some((at, error)) => OperationResult::failed(CoreError {
            request_charge,
            ..error.while_doing(name(at))
        }),
    }
}

impl Service for ContainerService {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        self.container.partition_key_definition()
    }

    fn partitions(&self, refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        Box::pin(async move {
            let ranges = partition_ranges(&self.account, &self.container, refresh).await?;
            Ok(ranges.into_iter().map(|r| (r.id, r.min_inclusive)).collect())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.check_now())
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        Box::pin(self.bulk_inner(operations, range))
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(async move {
            self.metrics.point_requests.fetch_add(1, Relaxed);
            let answer = self.point_inner(operation).await;
            let mut answer = answer.unwrap_or_else(OperationResult::failed);
            // Some servers say of a missing container what they say of a missing document.
            let is_missing = |e: &CoreError| e.kind == Kind::NotFound && e.blame == Blame::Record;
            let may_be_missing = operation.verb().is_of_existing() || operation.verb() == Verb::Batch;
            if may_be_missing && answer.error.as_ref().is_some_and(|e| is_missing(e)) {
                if let Err(e) = self.check_now().await {
                    answer = OperationResult::failed(e);
                }
            }
            // Nothing that remains undone: the answer is the echo of an earlier attempt, or there is nothing to do.
            answer.error.take_if(|e| e.next == Next::Done);
            answer
        })
    }

    fn reads(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::{decode_operations, encode_operations, NewOperation};
    use super::*;

    #[test]
    fn a_bulk_body_is_json_with_the_documents_bytes() {
        let new =
            |kind, id: &'static str, key: &'static str, if_match: &'static str, document: &'static [u8]| {
                NewOperation {
                    kind,
                    id,
                    partition_key: key,
                    if_match,
                    document,
                }
            };
        let ops = decode_operations(encode_operations(&[
            new(
                OperationKind::Upsert,
                "a",
                "[\"eu\"]",
                "",
                b"{\"id\":\"a\",\"n\":1.10}",
            ),
            new(
                OperationKind::Replace,
                "b\u{1}\"",
                "[\"q\\\"x\",1]",
                "\"etag\"",
                b"{\"id\":\"b\"}",
            ),
            new(OperationKind::Delete, "c", "[null]", "", b""),
            new(
                OperationKind::PatchIfExists,
                "d",
                "[1]",
                "e",
                b"{\"operations\":[{\"op\":\"incr\",\"path\":\"/n\",\"value\":1}],\"condition\":\"FROM c\"}",
            ),
            new(OperationKind::BulkUpdate, "e", "[1]", "", b"{\"id\":\"e\"}"),
            new(
                OperationKind::OverwriteIfNotModified,
                "f",
                "[1]",
                "",
                b"{\"id\":\"f\"}",
            ),
            new(OperationKind::DeleteIfNotModified, "g", "[1]", "e", b"{}"),
        ]))
        .unwrap();
        let body = bulk_body(&ops);
        assert!(body.len() <= 2 + ops.iter().map(bulk_size).sum::<usize>() + 8);
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(r#""resourceBody":{"id":"a","n":1.10}"#), "{text}");
        // The order of Java's fields.
        assert!(
            text.contains(r#","id":"b\u0001\"","resourceBody":{"id":"b"},"ifMatch":"\"etag\"","minimalReturnPreference":true}"#),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"operationType": "Upsert", "partitionKey": "[\"eu\"]", "resourceBody": {"id": "a", "n": 1.10}, "minimalReturnPreference": true},
                {"operationType": "Replace", "partitionKey": "[\"q\\\"x\",1]", "id": "b\u{1}\"", "ifMatch": "\"etag\"", "resourceBody": {"id": "b"}, "minimalReturnPreference": true},
                {"operationType": "Delete", "partitionKey": "[null]", "id": "c", "minimalReturnPreference": true},
                {"operationType": "Patch", "partitionKey": "[1]", "id": "d", "ifMatch": "e", "minimalReturnPreference": true,
                    "resourceBody": {"operations": [{"op": "incr", "path": "/n", "value": 1}], "condition": "FROM c"}},
                {"operationType": "Read", "partitionKey": "[1]", "id": "e"},
                {"operationType": "Create", "partitionKey": "[1]", "resourceBody": {"id": "f"}, "minimalReturnPreference": true},
                {"operationType": "Delete", "partitionKey": "[1]", "id": "g", "ifMatch": "e", "minimalReturnPreference": true},
            ])
        );
    }

    #[test]
    fn an_id_that_an_address_changes_is_told_apart() {
        for id in ["a", "a b", " a", "a?b", "a#b", "%2F", "..a", "a.", "...", "ö"] {
            assert!(check_id(id).is_ok(), "{id:?}");
            // What the driver and the `url` crate make of it is the same id again.
            let mut url = url::Url::parse("http://localhost/").unwrap();
            url.set_path(&format!("/dbs/d/colls/c/docs/{id}").replace('%', "%25"));
            let sent = url.path().strip_prefix("/dbs/d/colls/c/docs/").unwrap();
            let mut back = Vec::new();
            let mut bytes = sent.bytes();
            while let Some(b) = bytes.next() {
                back.push(match b {
                    b'%' => {
                        let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                    }
                    b => b,
                });
            }
            assert_eq!(String::from_utf8(back).unwrap(), id);
        }
        for id in ["a\tb", "\n", "a\r", "\0", "\u{7f}", ".", "..", "a "] {
            let error = check_id(id).unwrap_err();
            assert_eq!((error.kind, error.next), (Kind::BadRequest, Next::End), "{id:?}");
        }
    }

    #[test]
    fn results_keep_order_charge_and_reason() {
        let body = br#"[{"statusCode":201,"requestCharge":5.5,"eTag":"x","resourceBody":{"id":"a"}},
            {"statusCode":429,"subStatusCode":3200,"requestCharge":0.4,"retryAfterMilliseconds":11.5},
            {"statusCode":409,"requestCharge":1,"message":"exists"}]"#;
        let results = bulk_results(
            body,
            [(Asked::Create, Fate::NotCarriedOut); 3].into_iter(),
            "act",
            Fate::NotCarriedOut,
        )
        .unwrap();
        assert!(results[0].error.is_none() && results[0].request_charge == 5.5);
        let throttled = results[1].error.as_ref().unwrap();
        assert_eq!(
            (throttled.kind, throttled.sub_status, throttled.retry_after_ms),
            (Kind::Throttled, 3200, Some(12))
        );
        let conflict = results[2].error.as_ref().unwrap();
        assert_eq!(
            (conflict.kind, conflict.activity_id.as_str()),
            (Kind::Conflict, "act")
        );
        assert!(conflict.message.contains("exists"));
    }

    #[test]
    fn what_reads_have_found_is_added_to_their_results() {
        let new = |kind, id| NewOperation {
            kind,
            id,
            partition_key: "[1]",
            if_match: "",
            document: b"{}",
        };
        let ops = decode_operations(encode_operations(&[
            new(OperationKind::Upsert, "a"),
            new(OperationKind::BulkUpdate, "b"),
            new(OperationKind::BulkUpdate, "c"),
            new(OperationKind::BulkUpdate, "d"),
        ]))
        .unwrap();
        let body = br#"[{"statusCode":200,"eTag":"\"0\"","resourceBody":{"id":"a"}},
            {"statusCode":200,"eTag":"\"1\"","resourceBody":{"id":"b","n":1.10}},
            {"statusCode":404},{"statusCode":200,"eTag":"x"}]"#;
        let asked = ops.iter().map(|op| (op.asked(), op.fate));
        let mut results = bulk_results(body, asked, "", Fate::NotCarriedOut).unwrap();
        add_stored(body, &ops, &mut results).unwrap();
        assert!(results[0].stored.is_none() && results[2].stored.is_none());
        let stored = results[1].stored.as_ref().unwrap();
        assert_eq!(
            (&stored.document[..], stored.etag.as_str()),
            (&br#"{"id":"b","n":1.10}"#[..], "\"1\"")
        );
        assert_eq!(results[2].error.as_ref().unwrap().kind, Kind::NotFound);
        assert_eq!(results[3].error.as_ref().unwrap().kind, Kind::Transient);
    }

    #[test]
    fn a_batch_has_the_failure_of_its_culprit() {
        let body = br#"[{"statusCode":424,"requestCharge":1},{"statusCode":409,"requestCharge":2.5},{"statusCode":424,"requestCharge":0}]"#;
        let asked = std::iter::repeat_n((Asked::Batch, Fate::NotCarriedOut), 3);
        let results = bulk_results(body, asked, "act", Fate::NotCarriedOut).unwrap();
        let result = of_all(results, |at| format!("operation {}", at + 1));
        let error = result.error.unwrap();
        assert_eq!(
            (error.kind, error.next, error.blame, error.request_charge),
            (Kind::Conflict, Next::Compare, Blame::Record, 3.5)
        );
        assert!(error.message.starts_with("operation 2: "), "{error}");
        let done = of_all(
            vec![OperationResult::ok(201, 1.0), OperationResult::ok(200, 2.0)],
            |_| String::new(),
        );
        assert!(done.error.is_none() && done.request_charge == 3.0);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_asked_for_again() {
        for body in [
            &b"[]"[..],
            b"{}",
            b"",
            b"[{\"statusCode\":\"x\"}]",
            b"[{\"statusCode\":99999}]",
            b"[{\"requestCharge\":1}]",
            b"[{\"statusCode\":200,\"requestCharge\":\"x\"}]",
            b"[{\"statusCode\":200}",
            b"[{\"statusCode\":200},]",
            b"[{\"statusCode\":200}{\"statusCode\":200}]",
            b"[{\"statusCode\":200},{\"statusCode\":200}]",
            b"[{\"statusCode\":200}]]",
        ] {
            assert!(bulk_results(
                body,
                [(Asked::Create, Fate::NotCarriedOut)].into_iter(),
                "",
                Fate::NotCarriedOut
            )
            .is_err_and(|e| e.kind == Kind::Transient));
        }
    }
}
