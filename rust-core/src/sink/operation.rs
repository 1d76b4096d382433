//! Operations: their frames, their checks and their identity.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use azure_data_cosmos_driver::models::{PartitionKey, PartitionKeyValue};
use serde_json::Value;

use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::page::is_object;
use crate::retry::Attempts;
use crate::status::{Asked, Fate};

/// Most bytes of a document's id.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (per-item limits).
const MAX_ID_BYTES: usize = 1023;

/// Most bytes of a document, from the same page.
const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OperationKind {
    Upsert = 1,
    Create = 2,
    Replace = 3,
    Delete = 4,
}

impl OperationKind {
    /// What is asked of the service.
    pub fn asked(self) -> Asked {
        match self {
            OperationKind::Upsert => Asked::Upsert,
            OperationKind::Create => Asked::Create,
            OperationKind::Replace => Asked::Replace,
            OperationKind::Delete => Asked::Delete,
        }
    }

    /// The name in a bulk request.
    pub fn name(self) -> &'static str {
        match self {
            OperationKind::Upsert => "Upsert",
            OperationKind::Create => "Create",
            OperationKind::Replace => "Replace",
            OperationKind::Delete => "Delete",
        }
    }
}

/// An operation on its way. Its texts are parts of the submitted frame, which all operations of a submission share.
pub struct Operation {
    pub token: u64,
    pub kind: OperationKind,
    frame: Arc<Vec<u8>>,
    /// Where the parts lie in the frame.
    id: (u32, u32),
    partition_key: (u32, u32),
    if_match: (u32, u32),
    body: (u32, u32),
    /// The submission that it came with.
    pub submission: u64,
    /// Hash of partition key and id: what is under way for one document, is found by it. That two documents share
    /// one is harmless: they then wait for each other.
    pub document: u64,
    /// Made at the first failure.
    pub attempts: Option<Box<Attempts>>,
    /// The worst fate of the attempts so far: whether one may have been carried out although it failed.
    pub fate: Fate,
    /// Does not fit into a bulk request.
    pub alone: bool,
    pub request_charge: f64,
}

impl Operation {
    fn part(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.frame[from as usize..to as usize]
    }

    pub fn id(&self) -> &[u8] {
        self.part(self.id)
    }

    /// JSON array of the key's components.
    pub fn partition_key(&self) -> &[u8] {
        self.part(self.partition_key)
    }

    /// ETag, or empty.
    pub fn if_match(&self) -> &[u8] {
        self.part(self.if_match)
    }

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
    pub fn check(&self) -> Result<()> {
        let bad = |why: String| Err(CoreError::new(Kind::BadRequest, why));
        let (id, body) = (self.id(), self.body());
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return bad(format!(
                "the id has {} bytes; it must have 1 to {MAX_ID_BYTES}",
                id.len()
            ));
        }
        if id.iter().any(|b| matches!(b, b'/' | b'\\' | b'?' | b'#')) {
            return bad("the id holds one of / \\ ? #, which the service does not take".to_owned());
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
        if !is_object(body) {
            return bad("the document is not a JSON object".to_owned());
        }
        Ok(())
    }

    pub fn document_hash(&self, key_hash: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        key_hash.hash(&mut hasher);
        self.id().hash(&mut hasher);
        hasher.finish()
    }
}

/// The driver's form of a partition key, and a hash that is the same for every way of writing the same key.
///
/// # Errors
/// BadRequest when it is not a JSON array with one component per path of the container.
pub fn canonical_key(text: &[u8], paths: &[Cow<'static, str>]) -> Result<(PartitionKey, u64)> {
    let bad = |why: String| {
        CoreError::new(
            Kind::BadRequest,
            format!("partition key {} {why}", String::from_utf8_lossy(text)),
        )
    };
    let components: Vec<Value> = serde_json::from_slice(text).map_err(|e| {
        bad(format!(
            "is not a JSON array ({e}); give one component per path, such as [\"eu\"]"
        ))
    })?;
    if components.len() != paths.len() {
        return Err(bad(format!(
            "has {} components; the container has the paths {}",
            components.len(),
            paths.join(", ")
        )));
    }
    let mut hasher = DefaultHasher::new();
    let mut values = Vec::with_capacity(components.len());
    for component in components {
        component.to_string().hash(&mut hasher);
        values.push(match component {
            Value::Null => PartitionKeyValue::NULL,
            Value::Bool(b) => PartitionKeyValue::from(b),
            Value::String(s) => PartitionKeyValue::from(s),
            Value::Object(o) if o.is_empty() => PartitionKeyValue::UNDEFINED,
            Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(i), _) => PartitionKeyValue::from(i),
                (None, Some(f)) => PartitionKeyValue::try_from(f)
                    .map_err(|e| bad(format!("has a number out of range: {e}")))?,
                (None, None) => return Err(bad("has a number out of range".to_owned())),
            },
            Value::Object(_) | Value::Array(_) => {
                return Err(bad(
                    "has a component that is neither text, number, boolean nor null".to_owned(),
                ))
            }
        });
    }
    let key = PartitionKey::try_from(values).map_err(|e| bad(e.to_string()))?;
    Ok((key, hasher.finish()))
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
        let token = r.u64()?;
        let kind = match r.u8()? {
            1 => OperationKind::Upsert,
            2 => OperationKind::Create,
            3 => OperationKind::Replace,
            4 => OperationKind::Delete,
            other => {
                return Err(CoreError::state(format!(
                    "operation {other} is unknown; 1 upsert, 2 create, 3 replace, 4 delete"
                )))
            }
        };
        // A frame comes from a Java array, so that its offsets fit.
        let mut part = |text: bool| -> Result<(u32, u32)> {
            let length = if text { r.str()?.len() } else { r.blob()?.len() };
            let end = r.position();
            Ok(((end - length) as u32, end as u32))
        };
        let (id, partition_key, if_match, body) = (part(true)?, part(true)?, part(true)?, part(false)?);
        out.push(Operation {
            token,
            kind,
            frame: frame.clone(),
            id,
            partition_key,
            if_match,
            body,
            submission: 0,
            document: 0,
            attempts: None,
            fate: Fate::NotCarriedOut,
            alone: false,
            request_charge: 0.0,
        });
    }
    r.finish()?;
    Ok(out)
}

/// An operation to submit from Rust, as Java would write it into a frame.
pub struct NewOperation<'a> {
    pub token: u64,
    pub kind: OperationKind,
    pub id: &'a str,
    /// JSON array of the key's components.
    pub partition_key: &'a str,
    pub if_match: &'a str,
    pub document: &'a [u8],
}

/// Encodes an OPERATIONS frame.
pub fn encode_operations(operations: &[NewOperation<'_>]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Operations);
    w.u32(operations.len() as u32);
    for o in operations {
        w.u64(o.token);
        w.u8(o.kind as u8);
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
            token: 1,
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
        fn frames_round_trip(ops in proptest::collection::vec((any::<u64>(), "\\PC{0,9}", "\\PC{0,9}", "\\PC{0,5}", any::<Vec<u8>>()), 0..9)) {
            let new: Vec<_> = ops.iter().map(|(token, id, key, etag, doc)| NewOperation {
                token: *token, kind: OperationKind::Replace, id, partition_key: key, if_match: etag, document: doc,
            }).collect();
            let back = decode_operations(encode_operations(&new)).unwrap();
            prop_assert_eq!(back.len(), ops.len());
            for (o, (token, id, key, etag, doc)) in back.iter().zip(&ops) {
                prop_assert_eq!(o.token, *token);
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
        assert_eq!(check("a", b"{\"id\":\"a\"}"), Ok(()));
        for (id, doc) in [
            ("", &b"{}"[..]),
            ("a/b", b"{}"),
            ("a", b"[]"),
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
            |text: &str, paths: &[Cow<'static, str>]| canonical_key(text.as_bytes(), paths).map(|(_, h)| h);
        let one: &[Cow<'static, str>] = &["/pk".into()];
        let two: &[Cow<'static, str>] = &["/a".into(), "/b".into()];
        assert_eq!(
            hash("[\"\\u0065u\"]", one).unwrap(),
            hash("[ \"eu\" ]", one).unwrap()
        );
        assert_ne!(hash("[\"1\"]", one).unwrap(), hash("[1]", one).unwrap());
        assert!(hash("[\"a\",7]", two).is_ok());
        for (text, paths) in [("[\"a\"]", two), ("\"a\"", one), ("[[1]]", one), ("[", one)] {
            assert_eq!(hash(text, paths).unwrap_err().kind, Kind::BadRequest, "{text}");
        }
        assert!(hash("[{}]", one).is_ok() && hash("[null]", one).is_ok() && hash("[1.5]", one).is_ok());
    }
}
