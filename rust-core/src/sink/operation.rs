//! Operations: their frames, their checks and their identity.

use std::borrow::Cow;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use azure_data_cosmos_driver::models::{PartitionKey, PartitionKeyValue};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::json::object_id;
use crate::retry::Attempts;
use crate::status::{Asked, Fate};

use super::form::SearchId;

/// Most bytes of a document's id.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (per-item limits).
const MAX_ID_BYTES: usize = 1023;

/// Most bytes of a document, from the same page.
const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;

/// What is to be done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// No write at all: the shim could not make one of a record, and says why in place of the ETag. Ends at once, as the failure mode asks.
    Refused,
    /// Writes the document, whether or not it is there.
    Upsert,
    /// Writes the document unless it is there.
    Create,
    /// Writes the document if it is there.
    Replace,
    /// Takes the document out.
    Delete,
}

impl OperationKind {
    /// The number in an OPERATIONS frame. It never changes.
    pub fn number(self) -> u8 {
        match self {
            OperationKind::Refused => 0,
            OperationKind::Upsert => 1,
            OperationKind::Create => 2,
            OperationKind::Replace => 3,
            OperationKind::Delete => 4,
        }
    }

    /// The kind of this number.
    ///
    /// # Errors
    /// State when there is none.
    pub fn from_number(number: u8) -> Result<OperationKind> {
        Ok(match number {
            0 => OperationKind::Refused,
            1 => OperationKind::Upsert,
            2 => OperationKind::Create,
            3 => OperationKind::Replace,
            4 => OperationKind::Delete,
            other => {
                return Err(CoreError::state(format!(
                    "operation {other} is unknown; 0 refused, 1 upsert, 2 create, 3 replace, 4 delete"
                )))
            }
        })
    }

    /// What is asked of the service.
    pub fn asked(self) -> Asked {
        match self {
            // Never sent.
            OperationKind::Refused | OperationKind::Upsert => Asked::Upsert,
            OperationKind::Create => Asked::Create,
            OperationKind::Replace => Asked::Replace,
            OperationKind::Delete => Asked::Delete,
        }
    }

    /// The name in a bulk request.
    pub fn name(self) -> &'static str {
        match self {
            OperationKind::Refused => "Write",
            OperationKind::Upsert => "Upsert",
            OperationKind::Create => "Create",
            OperationKind::Replace => "Replace",
            OperationKind::Delete => "Delete",
        }
    }
}

/// An operation on its way. Its texts are parts of the submitted frame, which all operations of a submission share.
pub struct Operation {
    /// What is done.
    pub kind: OperationKind,
    frame: Arc<Vec<u8>>,
    /// Where the parts lie in the frame.
    id: (u32, u32),
    partition_key: (u32, u32),
    if_match: (u32, u32),
    body: (u32, u32),
    /// The key as it is sent, where the frame spells it in another way.
    pub canonical_key: Option<Arc<str>>,
    /// The submission that it came with.
    pub submission: u64,
    /// Its place in that submission, from 0.
    pub index: u32,
    /// Where it stands among all operations of the sink, by when they came.
    pub turn: u64,
    /// Hash of partition key and id: what is under way for one document, is found by it. That two documents share
    /// one is harmless: they then wait for each other.
    pub document: u64,
    /// Made at the first failure.
    pub attempts: Option<Box<Attempts>>,
    /// The worst fate of the attempts so far: whether one may have been carried out although it failed.
    pub fate: Fate,
    /// Goes as a request of its own: it does not fit into a bulk request, or one was refused on its account.
    pub alone: bool,
    /// Its id cannot stand in an address: only a bulk request can carry it.
    pub needs_bulk: bool,
    /// When its wait for another attempt is over: what passes from then on until it is sent is none of its own.
    pub ready: Option<Instant>,
    /// The search for the reason why a bulk request was refused that it was part of, until that is known.
    pub search: Option<SearchId>,
    /// Request units of its attempts so far.
    pub request_charge: f64,
}

impl Operation {
    fn part(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.frame[from as usize..to as usize]
    }

    /// Id of the document, UTF-8 once it was checked.
    pub fn id(&self) -> &[u8] {
        self.part(self.id)
    }

    /// JSON array of the key's components, as it was submitted.
    pub fn partition_key(&self) -> &[u8] {
        self.part(self.partition_key)
    }

    /// The key as it is sent: one text for all spellings of it.
    pub fn sent_key(&self) -> &[u8] {
        self.canonical_key
            .as_ref()
            .map_or_else(|| self.partition_key(), |k| k.as_bytes())
    }

    /// ETag, or empty; of a refused one, the reason.
    pub fn if_match(&self) -> &[u8] {
        self.part(self.if_match)
    }

    /// The document, or empty.
    pub fn body(&self) -> &[u8] {
        self.part(self.body)
    }

    /// Bytes that the operation holds.
    pub fn size(&self) -> usize {
        [self.id, self.partition_key, self.if_match, self.body]
            .iter()
            .map(|(from, to)| (to - from) as usize)
            .sum()
    }

    /// The id, for messages.
    pub fn id_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.id())
    }

    /// For messages: what on which document.
    pub fn describe(&self) -> String {
        format!(
            "{} of document '{}' with partition key {}",
            self.kind.name(),
            self.id_text(),
            String::from_utf8_lossy(self.partition_key())
        )
    }

    /// What can be told to be wrong without asking the service.
    ///
    /// # Errors
    /// BadRequest or TooLarge: the record's own failure.
    pub fn check(&self) -> Result<()> {
        let bad = |why: String| Err(CoreError::new(Kind::BadRequest, why));
        let (id, body) = (self.id(), self.body());
        if self.kind == OperationKind::Refused {
            let reason = String::from_utf8_lossy(self.if_match());
            let too_large =
                body.len() > MAX_DOCUMENT_BYTES || reason.to_ascii_lowercase().contains("too large");
            return Err(CoreError::new(
                if too_large {
                    Kind::TooLarge
                } else {
                    Kind::BadRequest
                },
                match reason.trim() {
                    "" => "no write could be made of the record; no reason was given",
                    reason => reason,
                },
            ));
        }
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return bad(format!(
                "the id has {} bytes; it must have 1 to {MAX_ID_BYTES}",
                id.len()
            ));
        }
        if id.iter().any(|b| matches!(b, b'/' | b'\\')) {
            return bad(format!(
                "the id '{}' holds / or \\, which the service does not take in one",
                self.id_text().escape_debug()
            ));
        }
        if self.kind == OperationKind::Delete {
            return Ok(());
        }
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(CoreError::new(
                Kind::TooLarge,
                format!(
                    "the document has {} bytes; the service takes {MAX_DOCUMENT_BYTES}",
                    body.len()
                ),
            ));
        }
        // Whatever is put between others in a bulk request must be one object from its first to its last byte.
        let Some(in_document) = object_id(body) else {
            return bad("the document is not a JSON object".to_owned());
        };
        // The service goes by the document's id, the order of the operations by the one that was given. A replace names both, and is
        // refused by the service.
        let another = match in_document {
            [b'"', text @ .., b'"'] if text.contains(&b'\\') => {
                serde_json::from_slice::<String>(in_document).is_ok_and(|text| text.as_bytes() != id)
            }
            [b'"', text @ .., b'"'] => text != id,
            _ => false,
        };
        if another && self.kind != OperationKind::Replace {
            return bad(format!(
                "the document's id is {}, that of the operation '{}'; they must be the same",
                String::from_utf8_lossy(in_document).escape_debug(),
                self.id_text().escape_debug()
            ));
        }
        Ok(())
    }

    /// Hash of partition key and id.
    pub fn document_hash(&self, key_hash: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        key_hash.hash(&mut hasher);
        self.id().hash(&mut hasher);
        hasher.finish()
    }
}

/// A partition key in all the forms that are needed of it. They are the same for every way of writing the same key.
#[derive(Debug)]
pub struct CanonicalKey {
    /// The driver's form.
    pub key: PartitionKey,
    /// The JSON text that is sent.
    pub text: String,
    pub hash: u64,
}

/// Path of the key that the service makes up for containers from the time before partition keys; their documents have none.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/migrate-containers-partitioned-to-nonpartitioned>
const NO_KEY_PATH: &str = "/_partitionKey";

/// Reads a partition key. Numbers are doubles, as for the service: 1, 1.0 and 1e0 are one key, and so are -0 and 0. `{}` is a value that is
/// missing, which is not null. A container without key paths takes `[]`, and so does one from the time before partition keys for its documents without
/// a key: the vendor's clients send the empty key for these, and a missing value for all others.
///
/// # Errors
/// BadRequest when it is not a JSON array with one component per path of the container.
pub fn canonical_key(text: &[u8], paths: &[Cow<'static, str>]) -> Result<CanonicalKey> {
    let bad = |why: String| {
        CoreError::new(
            Kind::BadRequest,
            format!("partition key {} {why}", String::from_utf8_lossy(text)),
        )
    };
    let components: Vec<&RawValue> = serde_json::from_slice(text).map_err(|e| {
        bad(format!(
            "is not a JSON array ({e}); give one component per path, such as [\"eu\"]"
        ))
    })?;
    let components: Vec<&str> = match (components.as_slice(), paths) {
        // The service keeps what has no key there under the empty one; a value that is missing is the same.
        ([one], [path]) if path == NO_KEY_PATH && is_missing(one.get()) => Vec::new(),
        (some, _) => some.iter().map(|c| c.get()).collect(),
    };
    let may_be_empty = matches!(paths, [path] if path == NO_KEY_PATH);
    if components.len() != paths.len() && !(components.is_empty() && may_be_empty) {
        return Err(bad(format!(
            "has {} components; the container has the paths {}",
            components.len(),
            paths.join(", ")
        )));
    }
    let mut canonical = String::with_capacity(text.len());
    let mut values = Vec::with_capacity(components.len());
    for component in components {
        canonical.push(if canonical.is_empty() { '[' } else { ',' });
        values.push(match component.as_bytes()[0] {
            b'n' => {
                canonical.push_str("null");
                PartitionKeyValue::NULL
            }
            b't' | b'f' => {
                canonical.push_str(component);
                PartitionKeyValue::from(component == "true")
            }
            b'"' => {
                let value: String = serde_json::from_str(component)
                    .map_err(|e| bad(format!("has text that cannot be decoded: {e}")))?;
                push_json_string(&mut canonical, &value);
                PartitionKeyValue::from(value)
            }
            b'{' if is_missing(component) => {
                canonical.push_str("{}");
                PartitionKeyValue::UNDEFINED
            }
            b'{' | b'[' => {
                return Err(bad(
                    "has a component that is neither text, number, boolean nor null".to_owned(),
                ))
            }
            // Not by serde_json, which may be off by the last bit.
            _ => match component.parse::<f64>() {
                Ok(number) if number.is_finite() => {
                    // Minus zero and zero are one key.
                    let number = number + 0.0;
                    push_number(&mut canonical, number);
                    PartitionKeyValue::try_from(number)
                        .map_err(|e| bad(format!("has a number out of range: {e}")))?
                }
                _ => {
                    return Err(bad(format!(
                        "has the number {component}, which no double can hold"
                    )))
                }
            },
        });
    }
    if canonical.is_empty() {
        canonical.push('[');
    }
    canonical.push(']');
    let key = PartitionKey::try_from(values).map_err(|e| bad(e.to_string()))?;
    let mut hasher = DefaultHasher::new();
    canonical.hash(&mut hasher);
    Ok(CanonicalKey {
        key,
        hash: hasher.finish(),
        text: canonical,
    })
}

/// Whether a component is an object without fields, with which a value that is missing is written.
fn is_missing(component: &str) -> bool {
    component
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start() == "}")
}

/// Appends a finite number in as many digits as tell it apart from its neighbours, with an exponent where JavaScript uses one.
fn push_number(out: &mut String, number: f64) {
    // Writing into a String cannot fail.
    let _ = match number.abs() {
        0.0 | 1e-6..1e21 => write!(out, "{number}"),
        _ => write!(out, "{number:e}"),
    };
}

/// Appends `text` as a JSON string.
fn push_json_string(out: &mut String, text: &str) {
    // A text has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Decodes an OPERATIONS frame.
///
/// # Errors
/// State, for the whole frame.
pub fn decode_operations(frame: Vec<u8>) -> Result<Vec<Operation>> {
    let frame = Arc::new(frame);
    let mut r = FrameReader::open(&frame, FrameKind::Operations)?;
    let n = r.u32()? as usize;
    let mut out = Vec::with_capacity(n.min(frame.len() / 32));
    for _ in 0..n {
        let kind = OperationKind::from_number(r.u8()?)?;
        // A frame comes from a Java array, so that its offsets fit.
        let mut part = |text: bool| -> Result<(u32, u32)> {
            let length = if text { r.str()?.len() } else { r.blob()?.len() };
            let end = r.position();
            Ok(((end - length) as u32, end as u32))
        };
        let (id, partition_key, if_match, body) = (part(true)?, part(true)?, part(true)?, part(false)?);
        out.push(Operation {
            kind,
            frame: frame.clone(),
            id,
            partition_key,
            if_match,
            body,
            canonical_key: None,
            submission: 0,
            index: 0,
            turn: 0,
            document: 0,
            attempts: None,
            fate: Fate::NotCarriedOut,
            alone: false,
            needs_bulk: false,
            ready: None,
            search: None,
            request_charge: 0.0,
        });
    }
    r.finish()?;
    Ok(out)
}

/// An operation to submit from Rust, as Java would write it into a frame.
pub struct NewOperation<'a> {
    /// What is to be done.
    pub kind: OperationKind,
    /// Id of the document.
    pub id: &'a str,
    /// JSON array of the key's components.
    pub partition_key: &'a str,
    /// An ETag, or empty.
    pub if_match: &'a str,
    /// A JSON object; empty for a deletion.
    pub document: &'a [u8],
}

/// Encodes an OPERATIONS frame.
pub fn encode_operations(operations: &[NewOperation<'_>]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Operations);
    w.u32(operations.len() as u32);
    for o in operations {
        w.u8(o.kind.number());
        w.str(o.id);
        w.str(o.partition_key);
        w.str(o.if_match);
        w.blob(o.document);
    }
    w.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operation(kind: OperationKind, id: &str, key: &str, document: &[u8]) -> Operation {
        let new = NewOperation {
            kind,
            id,
            partition_key: key,
            if_match: "",
            document,
        };
        decode_operations(encode_operations(&[new])).unwrap().remove(0)
    }

    proptest! {
        #[test]
        fn frames_round_trip(ops in proptest::collection::vec(("\\PC{0,9}", "\\PC{0,9}", "\\PC{0,5}", any::<Vec<u8>>()), 0..9)) {
            let new: Vec<_> = ops.iter().map(|(id, key, etag, doc)| NewOperation {
                kind: OperationKind::Replace, id, partition_key: key, if_match: etag, document: doc,
            }).collect();
            let back = decode_operations(encode_operations(&new)).unwrap();
            prop_assert_eq!(back.len(), ops.len());
            for (o, (id, key, etag, doc)) in back.iter().zip(&ops) {
                prop_assert_eq!((o.id(), o.partition_key()), (id.as_bytes(), key.as_bytes()));
                prop_assert_eq!((o.if_match(), o.body()), (etag.as_bytes(), &doc[..]));
            }
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_operations(bytes.clone());
            let mut headed = FrameWriter::new(FrameKind::Operations).0;
            headed.append(&mut bytes);
            let _ = decode_operations(headed);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told_apart() {
        let check = |id: &str, doc: &[u8]| {
            operation(OperationKind::Upsert, id, "[\"k\"]", doc)
                .check()
                .map_err(|e| e.kind)
        };
        for id in ["a", "a?b#c", "a\tb", "..", "%2F", &"x".repeat(1023)] {
            assert_eq!(check(id, b"{}"), Ok(()), "{id:?}");
            let document = serde_json::json!({"x": {"id": "other"}, "id": id, "y": "id"}).to_string();
            assert_eq!(check(id, document.as_bytes()), Ok(()), "{document}");
        }
        for (id, doc) in [
            ("", &b"{}"[..]),
            ("a/b", b"{}"),
            ("a\\b", b"{}"),
            ("a", b"[]"),
            ("a", b"{\"id\":\"b\"}"),
            ("a", b"{\"x\":[{\"id\":\"a\"}, 1], \"id\" : \"\\u0061b\"}"),
            ("a", b"{\"id\":\"a\",\"id\":\"b\"}"),
            ("a", b"{}},{\"operationType\":\"Delete\"}"),
            ("a", b"{\"x\":\"}"),
            ("a", b""),
        ] {
            assert_eq!(check(id, doc), Err(Kind::BadRequest), "{id} {doc:?}");
        }
        assert_eq!(check(&"x".repeat(1024), b"{}"), Err(Kind::BadRequest));
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_DOCUMENT_BYTES));
        assert_eq!(check("a", large.as_bytes()), Err(Kind::TooLarge));
    }

    #[test]
    fn equal_keys_hash_alike_however_they_are_written() {
        let hash =
            |text: &str, paths: &[Cow<'static, str>]| canonical_key(text.as_bytes(), paths).map(|k| k.hash);
        let one: &[Cow<'static, str>] = &["/pk".into()];
        let two: &[Cow<'static, str>] = &["/a".into(), "/b".into()];
        for (canonical, spellings) in [
            ("[\"eu\"]", &["[\"\\u0065u\"]", "[ \"eu\" ]"][..]),
            ("[1]", &["[1]", "[1.0]", "[1e0]", "[0.1e1]", "[100e-2]"]),
            ("[0]", &["[0]", "[-0]", "[-0.0]", "[0e9]", "[1e-400]"]),
            (
                "[9007199254740991]",
                &["[9007199254740991]", "[9007199254740991.0]"],
            ),
            (
                "[9007199254740992]",
                &["[9007199254740992]", "[9007199254740993]", "[9007199254740992.9]"],
            ),
            (
                "[-18446744073709552000]",
                &["[-18446744073709551615]", "[-18446744073709551616]"],
            ),
            ("[1e300]", &["[1e300]", "[10E+299]"]),
            (
                "[0.1]",
                &["[0.1]", "[1E-1]", "[0.1000000000000000055511151231257827]"],
            ),
            ("[{}]", &["[{}]", "[ { } ]"]),
            ("[null]", &["[null]"]),
            ("[true]", &["[true]"]),
            (
                "[\"a\\\"\\\\/\\n\"]",
                &["[\"a\\\"\\\\\\/\\n\"]", "[\"a\\u0022\\u005c/\\u000a\"]"],
            ),
        ] {
            for text in spellings {
                let key = canonical_key(text.as_bytes(), one).unwrap();
                assert_eq!(key.text, canonical, "{text}");
                assert_eq!(key.hash, hash(canonical, one).unwrap(), "{text}");
                assert_eq!(
                    key.key,
                    canonical_key(canonical.as_bytes(), one).unwrap().key,
                    "{text}"
                );
            }
        }
        assert_ne!(hash("[\"1\"]", one).unwrap(), hash("[1]", one).unwrap());
        assert_ne!(hash("[null]", one).unwrap(), hash("[{}]", one).unwrap());
        assert!(hash("[\"a\",7]", two).is_ok());
        for (text, paths) in [
            ("[\"a\"]", two),
            ("\"a\"", one),
            ("[[1]]", one),
            ("[", one),
            ("[]", one),
            ("[1e400]", one),
            ("[\"\\ud800\"]", one),
            ("[{\"a\":1}]", one),
            ("[01]", one),
        ] {
            assert_eq!(hash(text, paths).unwrap_err().kind, Kind::BadRequest, "{text}");
        }
    }

    #[test]
    fn containers_without_key_paths_take_an_empty_key() {
        let none = canonical_key(b"[ ]", &[]).unwrap();
        assert_eq!((none.text.as_str(), none.key.len()), ("[]", 0));
        let made_up: &[Cow<'static, str>] = &[NO_KEY_PATH.into()];
        let missing = canonical_key(b"[]", made_up).unwrap();
        assert_eq!((missing.text.as_str(), missing.key.len()), ("[]", 0));
        let spelt = canonical_key(b"[ { } ]", made_up).unwrap();
        assert_eq!((spelt.text.as_str(), spelt.hash), ("[]", missing.hash));
        let keyed = canonical_key(b"[\"a\"]", made_up).unwrap();
        assert_eq!((keyed.text.as_str(), keyed.key.len()), ("[\"a\"]", 1));
    }

    proptest! {
        #[test]
        fn a_number_is_sent_as_the_double_that_it_is(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let one: &[Cow<'static, str>] = &["/pk".into()];
            let key = canonical_key(format!("[{number:?}]").as_bytes(), one).unwrap();
            let sent: f64 = key.text[1..key.text.len() - 1].parse().unwrap();
            prop_assert_eq!(sent.to_bits(), (number + 0.0).to_bits());
            let long = canonical_key(format!("[{number}]").as_bytes(), one).unwrap();
            prop_assert_eq!(long.hash, key.hash);
        }
    }

    #[test]
    fn a_refused_record_carries_its_reason() {
        let refused = |reason: &str, document: &[u8]| {
            let new = NewOperation {
                kind: OperationKind::Refused,
                id: "",
                partition_key: "",
                if_match: reason,
                document,
            };
            let op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
            op.check().unwrap_err()
        };
        let error = refused("the converter threw: no key", b"{");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::BadRequest, "the converter threw: no key")
        );
        assert_eq!(refused("the record is too large", b"").kind, Kind::TooLarge);
        assert_eq!(
            refused("x", &vec![b'x'; MAX_DOCUMENT_BYTES + 1]).kind,
            Kind::TooLarge
        );
        assert!(!refused("", b"").message.is_empty());
    }
}
