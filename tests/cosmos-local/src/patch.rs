//! Patches with a condition, and patches inside a transactional batch: the emulator knows neither.
//!
//! Both need the emulator's own evaluator on a document that is not stored as it is: the state in the middle of a batch.
//! A second, empty emulator serves as scratch paper: a document is put there, asked or patched, and removed again.

use crate::container::Container;
use crate::emulator::{Answer, Emulator, Reply};
use crate::query;
use azure_core::http::headers::HeaderValue;
use azure_core::http::{Method, Request};
use azure_data_cosmos_driver::in_memory_emulator::ContainerConfig;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use bytes::Bytes;
use hyper::header::HeaderMap;
use serde_json::{json, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SCRATCH: &str = "scratch";
/// The scratch container's partition key, a name that no client's document has.
const SCRATCH_KEY: &str = "_scratchKey";

/// Status and reason of a patch that is not carried out.
pub(crate) type Refusal = (u16, String);

/// A patch in the emulator's form, its condition beside it.
#[derive(Debug, PartialEq)]
pub(crate) struct Patch {
    /// `{"operations": [..]}`.
    pub body: Bytes,
    pub condition: Option<String>,
}

impl Patch {
    /// Reads a patch: `{"operations": [..], "condition": ".."}`, or the bare list of operations that some clients send.
    ///
    /// # Errors
    /// 400 and what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let patch: Value =
            serde_json::from_slice(body).map_err(|error| (400, format!("The patch is not JSON: {error}")))?;
        let (operations, condition) = match patch {
            Value::Array(operations) => (Value::Array(operations), None),
            mut patch => {
                let condition = match patch.get("condition") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(other) => {
                        return Err((400, format!("The patch's condition is {other}, not text.")));
                    }
                };
                (
                    patch.get_mut("operations").map(Value::take).unwrap_or_default(),
                    condition,
                )
            }
        };
        if !operations.is_array() {
            return Err((400, "The patch has no list of operations.".to_owned()));
        }
        if let Some(condition) = &condition {
            query::condition(condition).map_err(|message| (400, message))?;
        }
        Ok(Self {
            body: json!({ "operations": operations }).to_string().into(),
            condition,
        })
    }
}

/// The scratch emulator.
pub(crate) struct Scratch {
    emulator: Emulator,
    next: AtomicU64,
}

impl Scratch {
    pub fn new() -> Result<Self, String> {
        let emulator = Emulator::new(false)?;
        let store = emulator.store();
        store.create_database(SCRATCH);
        let settings = ContainerConfig::new()
            .with_partition_count(1)
            .build()
            .map_err(|e| e.to_string())?;
        let key = PartitionKeyDefinition::new(vec![Cow::from(format!("/{SCRATCH_KEY}"))]);
        store.create_container_with_config(SCRATCH, SCRATCH, key, settings);
        Ok(Self {
            emulator,
            next: AtomicU64::new(0),
        })
    }

    fn request(&self, method: Method, id: Option<&str>, key: &str) -> Request {
        let path = ["dbs", SCRATCH, "colls", SCRATCH, "docs"];
        let url = self.emulator.url(&[&path[..], id.as_slice()].concat());
        let mut request = Request::new(url, method);
        request.insert_header("x-ms-documentdb-partitionkey", json!([key]).to_string());
        request
    }

    /// Puts a document on the paper, has one request done on it, and takes it away.
    async fn with(&self, mut document: Value, id: &str, request: impl FnOnce(&str) -> Request) -> Answer {
        let key = self.next.fetch_add(1, Relaxed).to_string();
        document[SCRATCH_KEY] = key.as_str().into();
        let mut create = self.request(Method::Post, None, &key);
        create.set_body(document.to_string());
        let created = self.emulator.call(&create).await;
        if !created.ok() {
            return created;
        }
        let answer = self.emulator.call(&request(&key)).await;
        self.emulator
            .call(&self.request(Method::Delete, Some(id), &key))
            .await;
        answer
    }

    /// Whether a patch's condition holds for a document.
    ///
    /// # Errors
    /// 400 for a condition that cannot be read or evaluated.
    async fn holds(&self, condition: &str, document: &Value) -> Result<bool, Refusal> {
        let (alias, filter) = query::condition(condition).map_err(|message| (400, message))?;
        // The document lies one level down, with the system properties that it has: the scratch gives its own on top.
        let sql = format!("SELECT VALUE 1 FROM root.document AS {alias} WHERE ({filter})");
        let sql = crate::sql::single_quoted(&sql).unwrap_or(sql);
        let around = json!({ "id": "1", "document": document });
        let answer = self
            .with(around, "1", |key| {
                let mut request = self.request(Method::Post, None, key);
                request.insert_header("x-ms-documentdb-isquery", "True");
                request.set_body(json!({ "query": sql, "parameters": [] }).to_string());
                request
            })
            .await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match body["Documents"].as_array() {
            Some(found) if answer.ok() => Ok(!found.is_empty()),
            _ => {
                let reason = body["message"].as_str().unwrap_or("it cannot be evaluated");
                Err((400, format!("The condition '{condition}' is wrong: {reason}")))
            }
        }
    }

    /// The document after the patch.
    ///
    /// # Errors
    /// The emulator's refusal of the patch.
    async fn apply(&self, patch: &Patch, document: &Value) -> Result<Value, Refusal> {
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        let answer = self
            .with(document.clone(), &id, |key| {
                let mut request = self.request(Method::Patch, Some(&id), key);
                request.set_body(patch.body.clone());
                request
            })
            .await;
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !answer.ok() {
            let reason = body["message"]
                .as_str()
                .unwrap_or("The patch cannot be carried out.");
            return Err((answer.status, reason.to_owned()));
        }
        if let Some(body) = body.as_object_mut() {
            body.remove(SCRATCH_KEY);
        }
        Ok(body)
    }
}

/// Checks the condition of a patch on a stored document. Called under the lock that the patch itself then holds, so that
/// nothing comes in between.
///
/// # Errors
/// 412 if the condition does not hold, 400 if it is wrong.
pub(crate) async fn check(
    scratch: &Scratch,
    emulator: &Emulator,
    container: &Container,
    patch: &Patch,
    id: &str,
    key: &str,
) -> Result<(), Refusal> {
    let Some(condition) = &patch.condition else {
        return Ok(());
    };
    // The emulator's answer to the patch says why there is no document.
    let Some(document) = stored(emulator, container, id, key).await else {
        return Ok(());
    };
    verdict(scratch.holds(condition, &document).await?)
}

fn verdict(holds: bool) -> Result<(), Refusal> {
    if holds {
        return Ok(());
    }
    Err((412, "The condition of the patch does not hold.".to_owned()))
}

async fn stored(emulator: &Emulator, container: &Container, id: &str, key: &str) -> Option<Value> {
    let path = ["dbs", &container.db, "colls", &container.coll, "docs", id];
    let mut request = Request::new(emulator.url(&path), Method::Get);
    request.insert_header("x-ms-documentdb-partitionkey", HeaderValue::from(key.to_owned()));
    let answer = emulator.call(&request).await;
    answer.ok().then(|| serde_json::from_slice(&answer.body).ok())?
}

/// A transactional batch without patches: each became the replacement of its document by what the patch makes of it.
pub(crate) struct Batch {
    pub operations: Vec<Value>,
    /// A patch that cannot be carried out, by its position: the operations before it are followed by one that fails.
    refused: Option<(usize, Refusal)>,
    /// How many operations the client sent.
    length: usize,
}

impl Batch {
    /// Replaces the patches of a batch. Called under the lock that the batch itself then holds.
    pub async fn plan(
        scratch: &Scratch,
        emulator: &Emulator,
        container: &Container,
        operations: Vec<Value>,
        key: &str,
    ) -> Self {
        let length = operations.len();
        let mut batch = Self {
            operations: Vec::with_capacity(length),
            refused: None,
            length,
        };
        // What earlier operations of the batch leave of a document, `None` where they delete it.
        let mut changed: HashMap<String, Option<Value>> = HashMap::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let body_id = text(&operation["resourceBody"]["id"]);
            let Some(id) = text(&operation["id"]).or(body_id) else {
                batch.operations.push(operation);
                continue;
            };
            match operation["operationType"].as_str() {
                Some("Patch") => {
                    let before = match changed.get(&id) {
                        Some(document) => document.clone(),
                        None => stored(emulator, container, &id, key).await,
                    };
                    match patched(scratch, container, &operation, before, key).await {
                        Ok(document) => {
                            let mut replace = json!({
                                "operationType": "Replace", "id": id, "resourceBody": document,
                            });
                            if let Some(etag) = operation.get("ifMatch") {
                                replace["ifMatch"] = etag.clone();
                            }
                            batch.operations.push(replace);
                            changed.insert(id, Some(document));
                        }
                        Err(refusal) => {
                            // Fails whether the document is there or not, and with it what comes before.
                            batch.operations.push(json!({
                                "operationType": "Delete", "id": id, "ifMatch": "\"no such version\"",
                            }));
                            batch.refused = Some((n, refusal));
                            break;
                        }
                    }
                }
                Some("Delete") => {
                    changed.insert(id, None);
                    batch.operations.push(operation);
                }
                Some("Create" | "Upsert" | "Replace") => {
                    changed.insert(id, Some(operation["resourceBody"].clone()));
                    batch.operations.push(operation);
                }
                _ => batch.operations.push(operation),
            }
        }
        batch
    }

    /// The emulator's answer as the answer to what the client sent.
    pub fn answer(&self, mut reply: Reply) -> Reply {
        let Some((culprit, (status, message))) = &self.refused else {
            return reply;
        };
        let Ok(mut results) = serde_json::from_slice::<Vec<Value>>(&reply.body) else {
            return reply;
        };
        if results
            .get(*culprit)
            .is_some_and(|result| result["statusCode"] != 424)
        {
            results[*culprit] = json!({
                "statusCode": status, "subStatusCode": 0, "requestCharge": 1.0, "resourceBody": { "message": message },
            });
        }
        let rest = json!({ "statusCode": 424, "subStatusCode": 0, "requestCharge": 0.0 });
        results.resize(self.length, rest);
        reply.body = Value::Array(results).to_string().into();
        reply
    }
}

async fn patched(
    scratch: &Scratch,
    container: &Container,
    operation: &Value,
    before: Option<Value>,
    key: &str,
) -> Result<Value, Refusal> {
    let patch = Patch::parse(operation["resourceBody"].to_string().as_bytes())?;
    let before = before
        .filter(Value::is_object)
        .ok_or_else(|| (404, "The document of the patch does not exist.".to_owned()))?;
    let tag = &before["_etag"];
    if operation["ifMatch"].is_string() && tag.is_string() && operation["ifMatch"] != *tag {
        return Err((412, "One of the specified pre-conditions is not met.".to_owned()));
    }
    if let Some(condition) = &patch.condition {
        verdict(scratch.holds(condition, &before).await?)?;
    }
    let after = scratch.apply(&patch, &before).await?;
    let hashed = container.hash_document(after.to_string().as_bytes());
    if hashed.ok() != container.hash(key).ok().map(|(epk, _, _)| epk) {
        return Err((400, "A patch cannot change the partition key.".to_owned()));
    }
    Ok(after)
}

/// The partition key of a request as it was sent.
pub(crate) fn key_of(headers: &HeaderMap) -> &str {
    crate::server::header(headers, "x-ms-documentdb-partitionkey").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn holds(scratch: &Scratch, condition: &str, document: &Value) -> Result<bool, u16> {
        scratch
            .holds(condition, document)
            .await
            .map_err(|refusal| refusal.0)
    }

    #[tokio::test]
    async fn conditions_see_the_document_with_its_system_properties() {
        let scratch = Scratch::new().unwrap();
        let document =
            json!({ "id": "a", "n": 5, "_ts": 17, "_etag": "\"x\"", "tags": ["t"], "a": { "b": null } });
        for (condition, expected) in [
            ("from c where c.n = 5", Ok(true)),
            ("FROM c WHERE c.n > 5", Ok(false)),
            ("from root r where r._ts = 17 and r._etag = '\"x\"'", Ok(true)),
            ("from c where c.id = \"a\"", Ok(true)),
            ("from c where c.missing = 1", Ok(false)),
            (
                "from c where NOT IS_DEFINED(c.missing) AND IS_NULL(c.a.b)",
                Ok(true),
            ),
            ("from c where ARRAY_CONTAINS(c.tags, 't')", Ok(true)),
            ("from c where c._scratchKey = '0'", Ok(false)),
            ("from c where c.n = ", Err(400)),
            ("where c.n = 5", Err(400)),
        ] {
            assert_eq!(
                holds(&scratch, condition, &document).await,
                expected,
                "{condition}"
            );
        }
    }

    #[test]
    fn a_bare_list_is_a_patch_and_other_things_are_not() {
        let operations = br#"[{"op":"set","path":"/a","value":1}]"#;
        let bare = Patch::parse(operations).unwrap();
        let whole = [br#"{"condition":null,"operations":"#, &operations[..], b"}"].concat();
        assert_eq!(bare, Patch::parse(&whole).unwrap());
        for wrong in [
            "",
            "1",
            "{}",
            r#"{"operations":{}}"#,
            r#"{"operations":[],"condition":1}"#,
        ] {
            assert_eq!(Patch::parse(wrong.as_bytes()).unwrap_err().0, 400, "{wrong}");
        }
    }
}
