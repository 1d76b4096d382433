//! Dead letters as they lie in their container: how they are found, read back into the operations that were refused, and marked once
//! these were written again. All of it is decision and form; whoever asks and writes, does so with a source and a sink.
//! `docs/dead-letters.md` describes a letter, [`crate::sink`] stores them.

use std::collections::BTreeMap;

use azure_core::time::parse_rfc3339;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};

use crate::clock;
use crate::error::{CoreError, Kind};
use crate::sink::{NewOperation, OperationKind};

/// What a record that no operation could be made of has as its operation.
const UNKNOWN: &str = "write";

/// What the letters of a job have as their operation.
const OF_A_JOB: &str = "process";

/// The result of a letter whose operation was carried out.
const DONE: &str = "done";

/// The result of one whose operation counts as done and changed nothing, as its strategy asks: a newer version of the document is there, or
/// none.
const SUPERSEDED: &str = "superseded";

/// The result of one whose operation was refused again.
const FAILED: &str = "failed";

/// Why a letter cannot be replayed that was refused for an ETag and does not hold it.
const LOST_ETAG: &str =
    "it was refused for the document's ETag, which a letter of an earlier version does not hold; write it whatever version is there with --ignore-etags";

/// The field that marks a letter.
const MARK: &str = "replayed";

/// The field that says how much of a patch was carried out, in a letter and in its mark.
const CARRIED_OUT: &str = "carriedOut";

/// The field of a mark that says the same of other containers than the mark's.
const CARRIED_OUT_ELSEWHERE: &str = "carriedOutElsewhere";

/// The ETag of an operation of a batch.
const IF_MATCH: &str = "ifMatch";

/// Most characters of a message in a mark: a letter may be almost as large as the service takes.
const MAX_MESSAGE: usize = 1000;

/// What the service adds to a document. It is written anew with each version.
const SYSTEM: [&str; 6] = ["_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"];

/// The fields of a letter that a list needs: all but the document, which may be large.
const LISTED: [&str; 19] = [
    "id",
    "container",
    "operation",
    "reason",
    "status",
    "subStatus",
    "message",
    "activityId",
    "time",
    "writer",
    "sequence",
    "documentId",
    "partitionKey",
    "documentBytes",
    "truncated",
    "documentEncoding",
    "ifMatch",
    CARRIED_OUT,
    MARK,
];

/// A letter, with its document where all of it was read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Letter {
    /// Follows from what was refused.
    pub id: String,
    /// Where the operation should have gone; of a job's letter, where the record came from.
    pub container: String,
    /// What was to be done, in lower case.
    pub operation: String,
    /// Kind of the failure.
    pub reason: String,
    /// The service's status; 0 when it was not asked.
    pub status: u16,
    /// The service's sub-status; 0 when there is none.
    pub sub_status: u32,
    /// What was wrong.
    pub message: String,
    /// Activity id of the request; empty when there was none.
    pub activity_id: String,
    /// When it was refused, RFC 3339.
    pub time: String,
    /// Tells the writer of the sink that stored it from others; empty in a letter of a job, or of an earlier release.
    pub writer: String,
    /// When the operation came to that writer: one of two with a lower number came before the other.
    pub sequence: u64,
    /// How many operations of the patch were carried out before one was refused, from the first on.
    pub carried_out: usize,
    /// Id of the document; empty when it is not known.
    pub document_id: String,
    /// Its partition key, a JSON array; empty when it is not known.
    pub partition_key: String,
    /// Size of the document, before anything was cut.
    pub document_bytes: u64,
    /// Whether a part of the document, of its id or of its key was cut off.
    pub truncated: bool,
    /// `base64` where the document is bytes.
    pub document_encoding: String,
    /// The ETag that the operation named; empty when it named none, or the letter is of a release that did not keep it.
    pub if_match: String,
    /// What became of it when it was replayed last.
    pub replayed: Option<Replayed>,
    /// The document as it lies in the letter; `None` where it was not read.
    document: Option<Box<RawValue>>,
    /// The letter's version.
    #[serde(rename = "_etag")]
    pub etag: String,
}

/// The mark of a letter that was replayed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Replayed {
    /// When, RFC 3339.
    pub time: String,
    /// Where its document was written to.
    pub container: String,
    /// `done`, `superseded` or `failed`.
    pub result: String,
    /// How many operations of the letter's patch were carried out by then in that container, from the first on, where one was refused.
    #[serde(rename = "carriedOut")]
    pub carried_out: usize,
    /// The same of containers that it was replayed into before, by their names.
    #[serde(rename = "carriedOutElsewhere")]
    pub carried_out_elsewhere: BTreeMap<String, usize>,
}

impl Replayed {
    /// Whether there is nothing left to do: the operation was carried out, or its strategy leaves what is there.
    pub fn is_settled(&self) -> bool {
        matches!(self.result.as_str(), DONE | SUPERSEDED)
    }

    /// How many operations of the letter's patch were carried out in each container in which a replay has left something to do.
    fn carried_out_in_each(&self) -> BTreeMap<String, usize> {
        let mut all = self.carried_out_elsewhere.clone();
        match self.is_settled() {
            true => all.remove(&self.container),
            false => all.insert(self.container.clone(), self.carried_out),
        };
        all.retain(|_, count| *count > 0);
        all
    }
}

/// An operation that was refused, as it is to be written again.
#[derive(Debug, PartialEq)]
pub struct Replay {
    /// What is done.
    pub kind: OperationKind,
    id: String,
    partition_key: String,
    if_match: String,
    document: Vec<u8>,
    /// Operations of the letter's patch that were carried out before, and are no part of the document.
    pub carried_out: usize,
}

impl Replay {
    /// The operation for a sink.
    pub fn operation(&self) -> NewOperation<'_> {
        NewOperation {
            kind: self.kind,
            id: &self.id,
            partition_key: &self.partition_key,
            if_match: &self.if_match,
            document: &self.document,
        }
    }
}

impl Letter {
    /// Reads a letter, whole or as a list has it.
    ///
    /// # Errors
    /// Why the document is none.
    pub fn read(json: &[u8]) -> Result<Letter, String> {
        let letter: Letter =
            serde_json::from_slice(json).map_err(|e| format!("it is no dead letter: {e}"))?;
        if letter.id.is_empty() || letter.operation.is_empty() || letter.time_nanos().is_none() {
            return Err("it is no dead letter: its id, its operation or its time is missing".to_owned());
        }
        Ok(letter)
    }

    /// When it was refused, in nanoseconds since the epoch. Texts of RFC 3339 cannot be compared as such: `10Z` is before `10.5Z`.
    pub fn time_nanos(&self) -> Option<i128> {
        nanos(&self.time)
    }

    /// Whether a replay left nothing to do.
    pub fn is_settled(&self) -> bool {
        self.replayed.as_ref().is_some_and(Replayed::is_settled)
    }

    /// How many operations of its patch were carried out in a container, from the first on, by the sink or by replays.
    fn carried_out_in(&self, container: &str) -> usize {
        let by_the_sink = if self.container == container {
            self.carried_out
        } else {
            0
        };
        let by_replays = self.replayed.as_ref().map(Replayed::carried_out_in_each);
        by_the_sink.max(
            by_replays
                .and_then(|each| each.get(container).copied())
                .unwrap_or(0),
        )
    }

    /// Whether it was refused for an ETag of its own that it does not hold. Letters that name their writer hold it, a batch has its ETags
    /// among its operations, and of a patch only its document tells whether it was refused for a condition.
    fn has_lost_its_etag(&self) -> bool {
        self.if_match.is_empty()
            && self.writer.is_empty()
            && self.reason == format!("{:?}", Kind::Precondition)
    }

    /// Why it cannot be replayed, as far as that can be told without its document; `None` where it can. With `ignore_etags` the
    /// operation is written whatever version of the document there is by now, and so are those of a batch.
    pub fn hindrance(&self, ignore_etags: bool) -> Option<String> {
        let why = match self.operation.as_str() {
            OF_A_JOB => "it is of a job, which could not use the record: nothing was to be written; mend the job and let it read the record again",
            UNKNOWN => "what was to be written is not known: the connector could make no operation of the record",
            _ if self.truncated => "it is truncated: a part of the document, of its id or of its key is lost",
            name if kind(name).is_none() => {
                return Some(format!(
                    "its operation '{name}' is unknown to this version; known are {}",
                    operations().join(", ")
                ))
            }
            _ if self.container.is_empty() => "it names no container",
            name if self.document_id.is_empty() && kind(name) != Some(OperationKind::Batch) => "it has no id of a document",
            _ if self.partition_key.is_empty() => "it has no partition key",
            name if !ignore_etags && self.has_lost_its_etag() => match kind(name) {
                Some(OperationKind::Batch | OperationKind::Patch | OperationKind::PatchIfExists) => return None,
                _ => LOST_ETAG,
            },
            _ => return None,
        };
        Some(why.to_owned())
    }

    /// The operation that was refused, as it is to be written into a container: of a patch in parts, what was not carried out there.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn replay(&self, container: &str, ignore_etags: bool) -> Result<Replay, String> {
        if let Some(why) = self.hindrance(ignore_etags) {
            return Err(why);
        }
        // Known, or it would be hindered.
        let kind = kind(&self.operation).ok_or("its operation is unknown")?;
        let document = match kind {
            OperationKind::Delete | OperationKind::DeleteIfNotModified => Vec::new(),
            _ => match self.document()? {
                document if document.is_empty() => return Err("it has no document".to_owned()),
                document => document,
            },
        };
        let (carried_out, document) = match kind {
            OperationKind::Patch | OperationKind::PatchIfExists => {
                if !ignore_etags && self.has_lost_its_etag() && Patch::read(&document)?.condition.is_none() {
                    return Err(LOST_ETAG.to_owned());
                }
                match self.carried_out_in(container) {
                    0 => (0, document),
                    n => (n, patch_behind(&document, n)?),
                }
            }
            OperationKind::Batch if ignore_etags => (0, batch_without_etags(&document)?),
            _ => (0, document),
        };
        let ignores = ignore_etags && !self.if_match.is_empty();
        Ok(Replay {
            // Without their ETag they would make a document, or be refused.
            kind: match kind {
                OperationKind::OverwriteIfNotModified if ignores => OperationKind::Upsert,
                OperationKind::DeleteIfNotModified if ignores => OperationKind::Delete,
                kind => kind,
            },
            id: self.document_id.clone(),
            partition_key: self.partition_key.clone(),
            if_match: match ignore_etags {
                true => String::new(),
                false => self.if_match.clone(),
            },
            document,
            carried_out,
        })
    }

    /// Its mark once its operation was written again, now and to `container`. It takes the place of the mark that the letter has, of which
    /// it keeps how much of the patch was carried out in other containers.
    pub fn mark(&self, container: &str, outcome: &Outcome) -> Value {
        let result = match outcome {
            Outcome::Done => DONE,
            Outcome::Superseded => SUPERSEDED,
            Outcome::Refused { .. } => FAILED,
        };
        let mut mark = json!({"time": clock::text(), "container": container, "result": result});
        if let Outcome::Refused { error, carried_out } = outcome {
            mark["reason"] = format!("{:?}", error.kind).into();
            mark["status"] = error.status.into();
            mark["subStatus"] = error.sub_status.into();
            mark["message"] = error.message.chars().take(MAX_MESSAGE).collect::<String>().into();
            mark["activityId"] = error.activity_id.as_str().into();
            if *carried_out > 0 {
                mark[CARRIED_OUT] = (*carried_out).into();
            }
        }
        let last = self.replayed.as_ref();
        let mut elsewhere = last.map(Replayed::carried_out_in_each).unwrap_or_default();
        elsewhere.remove(container);
        if !elsewhere.is_empty() {
            mark[CARRIED_OUT_ELSEWHERE] = json!(elsewhere);
        }
        mark
    }

    /// The document's own bytes: those of a value as they stand, of a text what it says, of base64 what it stands for.
    fn document(&self) -> Result<Vec<u8>, String> {
        let json = self.document.as_ref().map_or("\"\"", |document| document.get());
        let text =
            || serde_json::from_str::<String>(json).map_err(|e| format!("its document cannot be read: {e}"));
        match (self.document_encoding.as_str(), json.starts_with('"')) {
            ("", false) => Ok(json.as_bytes().to_vec()),
            ("", true) => Ok(text()?.into_bytes()),
            ("base64", _) => {
                azure_core::base64::decode(text()?).map_err(|e| format!("its document is no base64: {e}"))
            }
            (other, _) => Err(format!(
                "its documentEncoding '{other}' is unknown to this version; known is base64"
            )),
        }
    }
}

/// Nanoseconds since the epoch of a time in RFC 3339.
pub fn nanos(time: &str) -> Option<i128> {
    parse_rfc3339(time).ok().map(|time| time.unix_timestamp_nanos())
}

/// The kind of a write by its name in a letter.
fn kind(name: &str) -> Option<OperationKind> {
    OperationKind::from_name(name).filter(|kind| *kind != OperationKind::Refused)
}

/// All kinds that are sent: their numbers follow one another.
fn kinds() -> impl Iterator<Item = OperationKind> {
    (1..=u8::MAX).map_while(|number| OperationKind::from_number(number).ok())
}

/// What a letter may have as its operation.
pub fn operations() -> Vec<String> {
    let names = kinds().map(|kind| kind.name().to_lowercase());
    names.chain([UNKNOWN, OF_A_JOB].map(str::to_owned)).collect()
}

/// What a letter may have as its reason.
pub fn reasons() -> Vec<String> {
    const OF_RECORDS: [Kind; 5] = [
        Kind::BadRequest,
        Kind::Conflict,
        Kind::Precondition,
        Kind::NotFound,
        Kind::TooLarge,
    ];
    OF_RECORDS.map(|kind| format!("{kind:?}")).to_vec()
}

/// Which letters are meant: those for which all that is given here holds. Empty lists and `None` take every letter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Ids of letters.
    pub ids: Vec<String>,
    /// Containers that they name.
    pub containers: Vec<String>,
    /// Kinds of failures, as in [`reasons`].
    pub reasons: Vec<String>,
    /// As in [`operations`].
    pub operations: Vec<String>,
    /// Refused at this time or later, RFC 3339.
    pub since: Option<String>,
    /// Refused before this time, RFC 3339.
    pub until: Option<String>,
    /// Only those of which a replay has left something to do.
    pub pending: bool,
}

impl Filter {
    /// A query for the rows of a list, and its parameters as a JSON object. It finds all that [`Filter::takes`] takes, and may find a few
    /// more: times are compared as texts there, which is right for whole seconds alone.
    pub fn query(&self) -> (String, String) {
        let (mut conditions, mut parameters) = (Vec::new(), Map::new());
        let mut parameter = |value: Value| {
            let name = format!("@p{}", parameters.len());
            parameters.insert(name.clone(), value);
            name
        };
        for (field, values) in [
            ("id", &self.ids),
            ("container", &self.containers),
            ("reason", &self.reasons),
            ("operation", &self.operations),
        ] {
            match values.as_slice() {
                [] => {}
                [one] => conditions.push(format!("c.{field} = {}", parameter(one.as_str().into()))),
                many => conditions.push(format!("ARRAY_CONTAINS({}, c.{field})", parameter(json!(many)))),
            }
        }
        if let Some(second) = self.since.as_deref().and_then(|time| second(time, 0)) {
            conditions.push(format!("c.time >= {}", parameter(second.into())));
        }
        if let Some(second) = self.until.as_deref().and_then(|time| second(time, 1)) {
            conditions.push(format!("c.time < {}", parameter(second.into())));
        }
        if self.pending {
            let settled = parameter(json!([DONE, SUPERSEDED]));
            conditions.push(format!(
                "(NOT IS_DEFINED(c.{MARK}) OR NOT IS_DEFINED(c.{MARK}.result) OR NOT ARRAY_CONTAINS({settled}, c.{MARK}.result))"
            ));
        }
        let fields: Vec<_> = LISTED.iter().map(|field| format!("c.{field}")).collect();
        let mut query = format!("SELECT {} FROM c", fields.join(", "));
        if !conditions.is_empty() {
            query.push_str(" WHERE ");
            query.push_str(&conditions.join(" AND "));
        }
        (query, Value::Object(parameters).to_string())
    }

    /// Whether a letter is meant.
    pub fn takes(&self, letter: &Letter) -> bool {
        let among = |values: &[String], value: &String| values.is_empty() || values.contains(value);
        let time = letter.time_nanos();
        let bound = |text: &Option<String>| text.as_deref().and_then(nanos);
        among(&self.ids, &letter.id)
            && among(&self.containers, &letter.container)
            && among(&self.reasons, &letter.reason)
            && among(&self.operations, &letter.operation)
            && bound(&self.since).is_none_or(|since| time.is_some_and(|time| since <= time))
            && bound(&self.until).is_none_or(|until| time.is_some_and(|time| time < until))
            && !(self.pending && letter.is_settled())
    }
}

/// The beginning of the second that a time is in, or of one `later`, as far as all texts of that second have it in common.
fn second(time: &str, later: i128) -> Option<String> {
    let seconds = nanos(time)?.div_euclid(1_000_000_000) + later;
    let text = clock::text_of(i64::try_from(seconds * 1000).ok()?);
    text.strip_suffix('Z').map(str::to_owned)
}

/// What became of an operation that was written again.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It counts as done and changed nothing, as its strategy asks.
    Superseded,
    /// It was refused once more.
    Refused {
        /// What with.
        error: CoreError,
        /// How many operations of the letter's patch were carried out all the same, by this replay and before.
        carried_out: usize,
    },
}

/// A patch as it is written.
#[derive(Deserialize)]
struct Patch<'a> {
    #[serde(borrow)]
    operations: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    condition: Option<&'a RawValue>,
}

impl<'a> Patch<'a> {
    fn read(json: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|e| format!("its document is no patch: {e}"))
    }
}

/// A patch without its first operations.
fn patch_behind(patch: &[u8], carried_out: usize) -> Result<Vec<u8>, String> {
    // One that was sent in parts has no condition.
    let all = Patch::read(patch)?;
    match all.operations.get(carried_out..) {
        None | Some([]) => Err(format!(
            "{carried_out} operations of its patch were carried out, and it has {}: correct the patch, or the letter's {CARRIED_OUT} and the one of its mark",
            all.operations.len()
        )),
        Some(rest) => {
            let rest: Vec<_> = rest.iter().map(|operation| operation.get()).collect();
            Ok(format!("{{\"operations\":[{}]}}", rest.join(",")).into_bytes())
        }
    }
}

/// A batch whose operations name no ETags. All else keeps its bytes, the conditions of its patches too.
fn batch_without_etags(batch: &[u8]) -> Result<Vec<u8>, String> {
    let operations: Vec<Fields<'_>> =
        serde_json::from_slice(batch).map_err(|e| format!("its document is no batch: {e}"))?;
    let each = operations
        .iter()
        .map(|operation| format!("{{{}}}", operation.only(|name| name != IF_MATCH)));
    Ok(format!("[{}]", each.collect::<Vec<_>>().join(",")).into_bytes())
}

/// A letter with a mark in it, in place of the one that it may have. All else keeps its bytes.
///
/// # Errors
/// Why the letter cannot be read.
pub fn marked(letter: &[u8], mark: &Value) -> Result<Vec<u8>, String> {
    let fields: Fields<'_> =
        serde_json::from_slice(letter).map_err(|e| format!("the letter cannot be read: {e}"))?;
    let all_else = fields.only(|name| name != MARK && !SYSTEM.contains(&name));
    let comma = if all_else.is_empty() { "" } else { "," };
    Ok(format!("{{{all_else}{comma}\"{MARK}\":{mark}}}").into_bytes())
}

/// The fields of an object in their order, each value as it stands.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl Fields<'_> {
    /// What stands between the braces of the object that has these of its fields.
    fn only(&self, has: impl Fn(&str) -> bool) -> String {
        let fields = self.0.iter().filter(|(name, _)| has(name));
        let texts = fields.map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), value.get()));
        texts.collect::<Vec<_>>().join(",")
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter of an upsert, with other fields than usual.
    fn letter(change: &[(&str, Value)]) -> Letter {
        let mut json = json!({
            "id": "0123", "container": "events", "operation": "upsert", "reason": "BadRequest", "status": 400, "subStatus": 0,
            "message": "no", "activityId": "", "time": "2026-11-26T10:00:00.5Z", "documentId": "a", "partitionKey": "[\"eu\"]",
            "documentBytes": 10, "truncated": false, "document": {"id": "a"}, "_etag": "\"1\"", "_ts": 7,
        });
        for (name, value) in change {
            json[*name] = value.clone();
        }
        Letter::read(json.to_string().as_bytes()).unwrap()
    }

    fn refused(change: &[(&str, Value)]) -> String {
        letter(change).replay("events", false).unwrap_err()
    }

    #[test]
    fn a_letter_becomes_the_operation_that_was_refused() {
        let upsert = letter(&[]).replay("events", false).unwrap();
        let op = upsert.operation();
        assert_eq!(
            (op.kind, op.id, op.partition_key, op.if_match, op.document),
            (OperationKind::Upsert, "a", "[\"eu\"]", "", &b"{\"id\":\"a\"}"[..])
        );
        for kind in kinds() {
            let name = kind.name().to_lowercase();
            assert_eq!(
                letter(&[("operation", name.into())])
                    .replay("events", false)
                    .unwrap()
                    .kind,
                kind
            );
        }
        let delete = letter(&[("operation", "delete".into()), ("document", "".into())]);
        assert_eq!(delete.replay("events", false).unwrap().document, b"");
    }

    #[test]
    fn a_document_is_the_bytes_that_were_submitted() {
        let raw = |document: &str, encoding: &str| {
            let json = format!(
                r#"{{"id":"1","container":"c","operation":"create","time":"2026-11-26T10:00:00Z","documentId":"a","partitionKey":"[1]","documentEncoding":"{encoding}","document":{document}}}"#
            );
            Letter::read(json.as_bytes())
                .unwrap()
                .replay("events", false)
                .map(|r| r.document)
        };
        // Digits that no number type of ours has.
        assert_eq!(
            raw(r#"{"n":1.10,"m":1e400}"#, ""),
            Ok(br#"{"n":1.10,"m":1e400}"#.to_vec())
        );
        // Kept as a text, since the container did not take it as a value.
        assert_eq!(raw(r#""{\"n\":1e400}""#, ""), Ok(br#"{"n":1e400}"#.to_vec()));
        assert_eq!(raw("\"//4=\"", "base64"), Ok(vec![0xff, 0xfe]));
        assert!(raw("\"?\"", "base64").unwrap_err().contains("base64"));
        assert!(raw("\"x\"", "gzip").unwrap_err().contains("gzip"));
        assert!(raw("\"\"", "").unwrap_err().contains("no document"));
    }

    #[test]
    fn what_cannot_be_replayed_says_why() {
        for (change, why) in [
            (("operation", json!("process")), "of a job"),
            (("operation", json!("write")), "no operation"),
            (("operation", json!("merge")), "'merge'"),
            (("truncated", json!(true)), "truncated"),
            (("container", json!("")), "container"),
            (("documentId", json!("")), "id"),
            (("partitionKey", json!("")), "partition key"),
            (("reason", json!("Precondition")), "--ignore-etags"),
        ] {
            let said = refused(std::slice::from_ref(&change));
            assert!(said.contains(why), "{change:?}: {said}");
        }
        for broken in [
            "[]",
            "{}",
            r#"{"id":"a","operation":"upsert","time":"yesterday"}"#,
        ] {
            assert!(Letter::read(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_etag_is_asked_for_again_unless_it_is_to_be_ignored() {
        let change = [
            ("operation", json!("replace")),
            ("reason", json!("Precondition")),
            ("ifMatch", json!("\"5\"")),
        ];
        assert_eq!(letter(&change).replay("events", false).unwrap().if_match, "\"5\"");
        assert_eq!(letter(&change).replay("events", true).unwrap().if_match, "");
        assert_eq!(letter(&change[..2]).replay("events", true).unwrap().if_match, "");
        // Without its ETag it would make a document, and find one.
        let overwrite = letter(&[
            ("operation", json!("overwrite-if-not-modified")),
            change[2].clone(),
        ]);
        let kind = |ignore| overwrite.replay("events", ignore).unwrap().kind;
        assert_eq!(kind(false), OperationKind::OverwriteIfNotModified);
        assert_eq!(kind(true), OperationKind::Upsert);
    }

    #[test]
    fn of_a_patch_in_parts_only_the_rest_is_replayed() {
        let operations: Vec<_> = (0..12)
            .map(|n| json!({"op": "set", "path": format!("/f{n}"), "value": n}))
            .collect();
        let change = [
            ("operation", json!("patch")),
            ("carriedOut", json!(10)),
            ("document", json!({"operations": operations})),
        ];
        let replayed = |letter: &Letter, container: &str| {
            let replay = letter.replay(container, false)?;
            let patch: Value = serde_json::from_slice(replay.operation().document).unwrap();
            Ok::<_, String>((
                replay.carried_out,
                patch["operations"].as_array().unwrap().clone(),
            ))
        };
        let first = letter(&change);
        assert_eq!(replayed(&first, "events"), Ok((10, operations[10..].to_vec())));
        // Elsewhere nothing of it was carried out.
        assert_eq!(replayed(&first, "other"), Ok((0, operations.clone())));
        let error = CoreError::new(Kind::BadRequest, "no");
        let further = Outcome::Refused {
            error,
            carried_out: 11,
        };
        let mut again = change.to_vec();
        again.push(("replayed", first.mark("events", &further)));
        assert_eq!(
            replayed(&letter(&again), "events"),
            Ok((11, operations[11..].to_vec()))
        );
        again[2].1 = json!({"operations": [operations[0].clone()]});
        let why = replayed(&letter(&again), "events").unwrap_err();
        assert!(why.contains("11 operations") && why.contains("it has 1"), "{why}");
    }

    #[test]
    fn a_mark_keeps_what_was_carried_out_in_other_containers() {
        let refused = |carried_out| Outcome::Refused {
            error: CoreError::new(Kind::BadRequest, "no"),
            carried_out,
        };
        let change = [("operation", json!("patch")), ("carriedOut", json!(10))];
        let with = |mark: Value| letter(&[&change[..], &[("replayed", mark)]].concat());
        let counts = |letter: &Letter| ["events", "b", "c"].map(|name| letter.carried_out_in(name));
        let mut one = letter(&change);
        for (container, outcome, expected) in [
            ("events", refused(20), [20, 0, 0]),
            ("b", refused(10), [20, 10, 0]),
            ("c", refused(0), [20, 10, 0]),
            ("c", Outcome::Done, [20, 10, 0]),
            ("b", Outcome::Superseded, [20, 0, 0]),
            ("events", refused(20), [20, 0, 0]),
            // Whoever writes it there once more begins with what the sink had left.
            ("events", Outcome::Done, [10, 0, 0]),
        ] {
            one = with(one.mark(container, &outcome));
            assert_eq!(counts(&one), expected, "{container} {outcome:?}");
        }
        assert!(one
            .mark("events", &Outcome::Done)
            .get(CARRIED_OUT_ELSEWHERE)
            .is_none());
        // A mark of a release that kept one container only.
        let old =
            json!({"time": "2026-11-26T10:00:00Z", "container": "b", "result": "failed", "carriedOut": 20});
        assert_eq!(counts(&with(with(old).mark("c", &Outcome::Done))), [10, 20, 0]);
    }

    #[test]
    fn a_batch_is_written_without_its_etags_where_they_are_to_be_ignored() {
        let batch = r#"[{"operationType":"Replace","id":"a","resourceBody":{"id":"a","n":1.10,"ifMatch":"x"},"ifMatch":"\"1\""},{"operationType":"Patch","id":"b","ifMatch":"2","resourceBody":{"operations":[],"condition":"FROM c"}}]"#;
        let change = [
            ("operation", json!("batch")),
            ("documentId", json!("")),
            ("reason", json!("Precondition")),
            ("document", json!(batch)),
        ];
        let replayed = |ignore| {
            letter(&change)
                .replay("events", ignore)
                .map(|replay| String::from_utf8(replay.document).unwrap())
        };
        assert_eq!(replayed(false).as_deref(), Ok(batch));
        let without = r#"[{"operationType":"Replace","id":"a","resourceBody":{"id":"a","n":1.10,"ifMatch":"x"}},{"operationType":"Patch","id":"b","resourceBody":{"operations":[],"condition":"FROM c"}}]"#;
        assert_eq!(replayed(true).as_deref(), Ok(without));
        let broken = letter(&[&change[..3], &[("document", json!({"id": "a"}))]].concat());
        assert!(broken.replay("events", true).unwrap_err().contains("no batch"));
    }

    #[test]
    fn only_an_etag_that_was_lost_hinders() {
        let patch = |more: &str| {
            json!(format!(
                r#"{{"operations":[{{"op":"set","path":"/a","value":1}}]{more}}}"#
            ))
        };
        let (plain, conditional) = (patch(""), patch(r#","condition":"FROM c WHERE c.n = 1""#));
        let refused = |operation: &str, document: &Value, writer: &str| {
            let letter = letter(&[
                ("operation", json!(operation)),
                ("reason", json!("Precondition")),
                ("document", document.clone()),
                ("writer", json!(writer)),
            ]);
            let why = letter.replay("events", false).err();
            assert!(
                why.as_ref().is_none_or(|why| why.contains("--ignore-etags")),
                "{why:?}"
            );
            assert!(letter.replay("events", true).is_ok(), "{operation}");
            why.is_some()
        };
        let document = json!({"id": "a"});
        assert!(refused("replace", &document, ""));
        assert!(refused("patch", &plain, ""));
        // Its own condition is looked at again.
        assert!(!refused("patch", &conditional, ""));
        assert!(!refused("patch-if-exists", &conditional, ""));
        assert!(!refused("patch", &plain, "w"));
        assert!(!refused("replace", &document, "w"));
    }

    #[test]
    fn a_mark_takes_the_place_of_the_last_one_and_nothing_else_changes() {
        let error = CoreError::new(Kind::Conflict, "exists");
        let stored = br#"{"id":"1","n":1.10,"replayed":{"result":"failed"},"document":{"replayed":1,"x":1e400},"_etag":"e","_ts":1}"#;
        let unmarked = letter(&[]);
        let mark = |container: &str, outcome: &Outcome| unmarked.mark(container, outcome);
        let done = marked(stored, &mark("c", &Outcome::Done)).unwrap();
        let done = String::from_utf8(done).unwrap();
        assert!(
            done.starts_with(r#"{"id":"1","n":1.10,"document":{"replayed":1,"x":1e400},"replayed":{"#),
            "{done}"
        );
        assert!(!done.contains("_etag"));
        let read = |mark: Value| letter(&[("replayed", mark)]);
        assert!(read(mark("c", &Outcome::Done)).is_settled());
        assert!(read(mark("c", &Outcome::Superseded)).is_settled());
        let refused = Outcome::Refused {
            error,
            carried_out: 10,
        };
        let failed = read(mark("c", &refused));
        assert!(!failed.is_settled());
        assert_eq!(
            (failed.carried_out_in("c"), failed.carried_out_in("events")),
            (10, 0)
        );
        assert_eq!(failed.replayed.unwrap().result, FAILED);
        assert!(marked(b"[1]", &json!({})).is_err());
    }

    #[test]
    fn a_filter_takes_what_its_parts_all_take() {
        let with = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter
        };
        let one = letter(&[]);
        let takes: [fn(&mut Filter); 7] = [
            |_| {},
            |f| f.ids = vec!["x".into(), "0123".into()],
            |f| f.reasons = vec!["BadRequest".into()],
            |f| f.since = Some("2026-11-26T10:00:00.5Z".into()),
            |f| f.until = Some("2026-11-26T12:00:00.6+02:00".into()),
            |f| f.pending = true,
            |f| f.operations = vec!["upsert".into()],
        ];
        for change in takes {
            assert!(with(change).takes(&one), "{:?}", with(change));
        }
        let leaves: [fn(&mut Filter); 5] = [
            |f| f.ids = vec!["x".into()],
            |f| f.containers = vec!["other".into()],
            |f| f.since = Some("2026-11-26T10:00:00.6Z".into()),
            |f| f.until = Some("2026-11-26T10:00:00.5Z".into()),
            |f| f.operations = vec!["create".into()],
        ];
        for change in leaves {
            assert!(!with(change).takes(&one), "{:?}", with(change));
        }
        assert!(!with(|f| f.pending = true).takes(&letter(&[("replayed", one.mark("c", &Outcome::Done))])));
    }

    #[test]
    fn a_query_is_for_whole_seconds_that_hold_what_is_meant() {
        let filter = Filter {
            containers: vec!["a".into(), "b".into()],
            since: Some("2026-11-26T10:00:00.5Z".into()),
            until: Some("2026-11-26T10:00:00.7Z".into()),
            pending: true,
            ..Filter::default()
        };
        let (query, parameters) = filter.query();
        let parameters: Value = serde_json::from_str(&parameters).unwrap();
        assert_eq!(
            parameters,
            json!({"@p0": ["a", "b"], "@p1": "2026-11-26T10:00:00", "@p2": "2026-11-26T10:00:01", "@p3": ["done", "superseded"]})
        );
        assert!(
            query.contains("WHERE ARRAY_CONTAINS(@p0, c.container) AND c.time >= @p1 AND c.time < @p2"),
            "{query}"
        );
        assert!(!query.contains("c.document,"), "{query}");
        // The core's own check of queries takes it.
        crate::sql::Query::new(&query, &parameters.to_string()).unwrap();
        assert!(!Filter::default().query().0.contains("WHERE"));
    }
}
