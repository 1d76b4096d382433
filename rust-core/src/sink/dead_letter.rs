//! What the service refuses for good, kept with its reason in a container of its own. `docs/dead-letters.md` describes a letter.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::clock;
use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::retry::{until_answered_telling, Attempts};
use crate::status::Blame;

use super::operation::Operation;
use super::wire::{ContainerService, Service};
use super::{decode_operations, encode_operations, NewOperation, OperationKind};

/// Most bytes that a refused document takes in its letter: what is beside it must fit into the 2 MiB of a document too.
const MAX_KEPT: usize = 2 * 1024 * 1024 - 64 * 1024;

/// Fewest bytes of a document that are tried when the container finds the letter too large.
const MIN_KEPT: usize = 1024;

/// Most bytes of the other texts that a record brings along, their escapes included: its id, its key and the reason.
const MAX_TEXT: usize = 8 * 1024;

/// Levels of nesting that the service takes in a document, of which the letter is one.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (per-item limits).
const MAX_DEPTH: usize = 128;

/// Fields of a letter that its container may be partitioned by.
const KEY_FIELDS: [&str; 4] = ["/container", "/id", "/operation", "/reason"];

/// The dead-letter container.
pub struct DeadLetters {
    letters: Box<dyn Service>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    key_field: &'static str,
    /// Tells the writer whose letters these are from all others.
    writer: String,
}

impl DeadLetters {
    pub async fn open(
        account: &Arc<Account>,
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        seed: u64,
    ) -> Result<DeadLetters> {
        let container = account.container(config, &config.dead_letter_container).await?;
        let letters = ContainerService {
            account: account.clone(),
            seen: account.seen(&container),
            container,
            config: config.clone(),
            metrics: metrics.clone(),
        };
        Self::over(Box::new(letters), config, metrics, seed)
    }

    /// Letters that go to any service. `seed` is that of the writer, which tells its letters from those of others.
    ///
    /// # Errors
    /// Config when its partition key is none that a letter has.
    pub fn over(
        letters: Box<dyn Service>,
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        seed: u64,
    ) -> Result<DeadLetters> {
        let paths = letters.key_definition().paths();
        let key_field = match paths {
            [path] => KEY_FIELDS.into_iter().find(|f| f == path),
            _ => None,
        };
        let key_field = key_field.ok_or_else(|| {
            CoreError::config(format!(
                "dead-letter container '{}' has the partition key path {}; it must be one of {}",
                config.dead_letter_container,
                paths.join(", "),
                KEY_FIELDS.join(", ")
            ))
        })?;
        Ok(DeadLetters {
            letters,
            config: config.clone(),
            metrics: metrics.clone(),
            key_field: &key_field[1..],
            writer: format!("{seed:016x}"),
        })
    }

    /// Stores a refused operation; tries again like any other write. Its id follows from its content, so that a replay after
    /// a restore writes the same letter. `seed` is that of the waits between attempts, of each of which `waits` is told: how many attempts
    /// were made, what the last one failed with, and how long the wait is. What the container does not take as JSON is stored as text, what
    /// is no text as base64, and what is too large is cut.
    ///
    /// # Errors
    /// The failure of the last attempt.
    pub async fn store(
        &self,
        op: &Operation,
        error: &CoreError,
        seed: u64,
        waits: impl Fn(u32, &CoreError, Duration),
    ) -> Result<()> {
        let container = &self.config.container;
        let mut kept = match embeds(op.body()) {
            true => Kept::Json,
            false => Kept::Text(MAX_KEPT),
        };
        loop {
            let letter = letter(container, &self.writer, op, error, kept);
            let refusal = match self.write(&letter, seed, &waits).await {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            kept = match kept {
                // The container does not take this JSON: deeper, longer or larger numbers than it knows.
                Kept::Json if refusal.blame == Blame::Record => Kept::Text(MAX_KEPT),
                Kept::Text(most) if refusal.kind == Kind::TooLarge && most > MIN_KEPT => {
                    // Below what it holds by now, or nothing would change.
                    Kept::Text((most.min(op.body().len()) / 2).max(MIN_KEPT))
                }
                _ => return Err(refusal),
            };
        }
    }

    async fn write(
        &self,
        letter: &Letter,
        seed: u64,
        waits: impl Fn(u32, &CoreError, Duration),
    ) -> Result<()> {
        let key = json!([letter.field(self.key_field)]).to_string();
        let new = NewOperation {
            kind: OperationKind::Upsert,
            id: &letter.id,
            partition_key: &key,
            if_match: "",
            document: letter.json.as_bytes(),
        };
        let write = decode_operations(encode_operations(&[new]))?.remove(0);
        let attempts = Attempts::seeded(&self.config.retry, seed);
        let write = || async {
            match self.letters.point(&write).await.error {
                Some(e) => Err(*e),
                None => Ok(()),
            }
        };
        until_answered_telling(attempts, &self.metrics, "storing a dead letter", write, waits).await
    }
}

/// How a letter holds the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Byte for byte, as a value of the letter.
    Json,
    /// As a text of at most so many bytes, its escapes included; in base64 where it is no UTF-8.
    Text(usize),
}

/// A dead letter: what was refused, why, by which operation and when.
struct Letter {
    id: String,
    container: String,
    operation: String,
    reason: String,
    json: String,
}

impl Letter {
    /// One of [`KEY_FIELDS`].
    fn field(&self, name: &str) -> &str {
        match name {
            "id" => &self.id,
            "container" => &self.container,
            "operation" => &self.operation,
            _ => &self.reason,
        }
    }
}

/// Whether the document can be a value of its letter: JSON of whole characters, not too large and not too deep. serde_json looks through
/// it without recursion, and without a number's value.
fn embeds(document: &[u8]) -> bool {
    document.len() <= MAX_KEPT
        && serde_json::from_slice::<&RawValue>(document)
            .is_ok_and(|json| crate::json::fits(json.get().as_bytes(), MAX_DEPTH))
}

/// As much of a text as takes at most `most` bytes in JSON, and whether that is all of it.
fn cut(text: &str, most: usize) -> (&str, bool) {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if c < ' ' => 6,
            c => c.len_utf8(),
        };
        if bytes > most {
            return (&text[..at], false);
        }
    }
    (text, true)
}

/// The id of a letter: the first 16 bytes of the SHA-256 of container, partition key, document id, operation and document, each behind its
/// length in bytes and a colon, in lower-case hexadecimal.
fn letter_id(parts: [&[u8]; 5]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(format!("{}:", part.len()));
        hash.update(part);
    }
    hash.finalize()[..16]
        .iter()
        .fold(String::with_capacity(32), |mut id, b| {
            // Writing into a String cannot fail.
            let _ = write!(id, "{b:02x}");
            id
        })
}

fn letter(container: &str, writer: &str, op: &Operation, error: &CoreError, kept: Kept) -> Letter {
    let operation = op.kind.name().to_lowercase();
    let reason = format!("{:?}", error.kind);
    let id = letter_id([
        container.as_bytes(),
        op.sent_key(),
        op.id(),
        operation.as_bytes(),
        op.body(),
    ]);
    let (key, document_id) = (String::from_utf8_lossy(op.sent_key()), op.id_text());
    let ((key, key_whole), (document_id, id_whole)) = (cut(&key, MAX_TEXT), cut(&document_id, MAX_TEXT));
    let mut base64 = false;
    let (document, whole): (Cow<'_, str>, bool) = match (kept, std::str::from_utf8(op.body())) {
        (Kept::Json, Ok(text)) => (text.into(), true),
        (Kept::Text(most), Ok(text)) => {
            let (text, whole) = cut(text, most);
            (json!(text).to_string().into(), whole)
        }
        (_, Err(_)) => {
            base64 = true;
            let most = match kept {
                Kept::Json => MAX_KEPT,
                Kept::Text(most) => most,
            };
            // Three bytes are four characters, and the part can be decoded as it is.
            let bytes = &op.body()[..op.body().len().min(most / 4 * 3)];
            let text = azure_core::base64::encode(bytes);
            (json!(text).to_string().into(), bytes.len() == op.body().len())
        }
    };
    let mut json = json!({
        "id": id,
        "container": container,
        "operation": operation,
        "reason": reason,
        "status": error.status,
        "subStatus": error.sub_status,
        "message": cut(&error.message, MAX_TEXT).0,
        "activityId": cut(&error.activity_id, MAX_TEXT).0,
        "time": clock::text(),
        "writer": writer,
        "sequence": op.turn,
        "documentId": document_id,
        "partitionKey": key,
        "documentBytes": op.body().len(),
        "truncated": !(whole && key_whole && id_whole),
    })
    .to_string();
    json.pop();
    if base64 {
        json.push_str(",\"documentEncoding\":\"base64\"");
    }
    if op.carried_out() > 0 {
        json.push_str(&format!(",\"carriedOut\":{}", op.carried_out()));
    }
    // In a refused record its place holds the reason.
    if op.kind != OperationKind::Refused && !op.if_match().is_empty() {
        // A cut one names no version: the write would be refused once more, and never do harm.
        let etag = String::from_utf8_lossy(op.if_match());
        json.push_str(",\"ifMatch\":");
        json.push_str(&json!(cut(&etag, MAX_TEXT).0).to_string());
    }
    // The document's own bytes, not a tree of it: numbers keep their digits, and any depth is the service's to judge.
    json.push_str(",\"document\":");
    json.push_str(&document);
    json.push('}');
    Letter {
        id,
        container: container.to_owned(),
        operation,
        reason,
        json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn operation(document: &[u8]) -> Operation {
        let new = NewOperation {
            kind: OperationKind::Create,
            id: "a",
            partition_key: "[\"eu\"]",
            if_match: "",
            document,
        };
        decode_operations(encode_operations(&[new])).unwrap().remove(0)
    }

    fn parsed(letter: &Letter) -> Value {
        serde_json::from_str(&letter.json).unwrap()
    }

    #[test]
    fn a_letter_holds_document_reason_status_operation_and_time() {
        let error = CoreError {
            status: 409,
            ..CoreError::new(Kind::Conflict, "exists")
        };
        let first = letter("events", "w", &operation(b"{\"id\":\"a\"}"), &error, Kept::Json);
        let mut json = parsed(&first);
        let time = json.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'));
        assert_eq!(
            json,
            json!({
                "id": first.id, "container": "events", "operation": "create", "reason": "Conflict", "status": 409, "subStatus": 0,
                "message": "exists", "activityId": "", "writer": "w", "sequence": 0, "documentId": "a", "partitionKey": "[\"eu\"]", "documentBytes": 10,
                "truncated": false, "document": {"id": "a"},
            })
        );
        for (name, value) in [
            ("id", &*first.id),
            ("container", "events"),
            ("operation", "create"),
            ("reason", "Conflict"),
        ] {
            assert_eq!(first.field(name), value);
        }
    }

    /// The ids of all releases: a letter that was stored by an older one is found again.
    #[test]
    fn an_id_is_the_same_in_every_release() {
        let error = CoreError::new(Kind::Conflict, "exists");
        let id = |op: &Operation| letter("events", "w", op, &error, Kept::Json).id;
        // printf '6:events6:["eu"]1:a6:create10:{"id":"a"}' | sha256sum
        assert_eq!(
            id(&operation(b"{\"id\":\"a\"}")),
            "00d0545dbc742abbd1ea04715d1c3242"
        );
        assert_ne!(
            id(&operation(b"{\"id\":\"b\"}")),
            id(&operation(b"{\"id\":\"a\"}"))
        );
        // Other ways of cutting the same bytes into parts are other letters.
        assert_ne!(
            letter_id([b"ab", b"c", b"", b"", b""]),
            letter_id([b"a", b"bc", b"", b"", b""])
        );
        let spelt = |key: &str, canonical: Option<&str>| {
            let new = NewOperation {
                kind: OperationKind::Create,
                id: "a",
                partition_key: key,
                if_match: "",
                document: b"{}",
            };
            let mut op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
            op.canonical_key = canonical.map(Into::into);
            id(&op)
        };
        assert_eq!(spelt("[1.0]", Some("[1]")), spelt("[1]", None));
    }

    #[test]
    fn a_letter_holds_the_etag_that_was_asked_for_and_its_id_does_not() {
        let error = CoreError::new(Kind::Precondition, "changed");
        let of = |kind, if_match| {
            let new = NewOperation {
                kind,
                id: "a",
                partition_key: "[\"eu\"]",
                if_match,
                document: b"{\"id\":\"a\"}",
            };
            let op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
            letter("events", "w", &op, &error, Kept::Json)
        };
        let conditional = of(OperationKind::Replace, "\"5\"");
        assert_eq!(parsed(&conditional)["ifMatch"], "\"5\"");
        let plain = of(OperationKind::Replace, "");
        assert!(parsed(&plain).get("ifMatch").is_none());
        assert_eq!(conditional.id, plain.id, "found again whatever it asked for");
        let refused = of(OperationKind::Refused, "the converter threw");
        assert!(parsed(&refused).get("ifMatch").is_none());
    }

    #[test]
    fn a_document_keeps_its_own_bytes() {
        let error = CoreError::new(Kind::BadRequest, "no");
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for document in [
            "{\"x\":1.10,\"x\":1e400}",
            "{\"long\":123456789012345678901234567890.1234567890}",
            "[ \"\\ud83d\\ude00\", \"\\u0000\\\\u\" ]",
            "null",
            &nested(127),
        ] {
            assert!(embeds(document.as_bytes()), "{document}");
            let letter = letter("c", "w", &operation(document.as_bytes()), &error, Kept::Json);
            assert!(
                letter.json.ends_with(&format!(",\"document\":{document}}}")),
                "{}",
                letter.json
            );
            assert!(serde_json::from_str::<&RawValue>(&letter.json).is_ok());
        }
        for document in [
            &b"{broken"[..],
            b"",
            b"{} {}",
            b"\"\xff\"",
            b"\"\\ud800\"",
            b"\"\\ud800\\u0041\"",
            b"\"\\ud800\\n\"",
            b"\"\\udc00\"",
            b"[01]",
            nested(128).as_bytes(),
            nested(100_000).as_bytes(),
        ] {
            assert!(!embeds(document), "{}", String::from_utf8_lossy(document));
            let letter = letter("c", "w", &operation(document), &error, Kept::Text(MAX_KEPT));
            let kept = parsed(&letter);
            let text = kept["document"].as_str().unwrap();
            match std::str::from_utf8(document) {
                Ok(document) => assert_eq!((text, kept.get("documentEncoding")), (document, None)),
                Err(_) => {
                    assert_eq!(kept["documentEncoding"], "base64");
                    assert_eq!(azure_core::base64::decode(text).unwrap(), document);
                }
            }
            assert_eq!(kept["truncated"], false);
        }
    }

    /// Whatever a record brings along, its letter is one that the service takes.
    #[test]
    fn a_letter_is_bounded_whatever_is_in_it() {
        let binary: Vec<u8> = (0..900_000u32).map(|n| (n % 251) as u8 | 0x80).collect();
        let (long, control) = ("x".repeat(3_000_000), "\u{1}".repeat(3_000_000));
        let bodies = [
            &binary[..],
            &[0xff; 3_000_000],
            long.as_bytes(),
            control.as_bytes(),
        ];
        for text in [&long, &control, &"\u{fffd}".repeat(900_000)] {
            for body in bodies {
                let new = NewOperation {
                    kind: OperationKind::Refused,
                    id: text,
                    partition_key: text,
                    if_match: "",
                    document: body,
                };
                let op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
                let error = CoreError {
                    activity_id: text.clone(),
                    ..CoreError::new(Kind::BadRequest, text.clone())
                };
                let letter = letter("c", "w", &op, &error, Kept::Text(MAX_KEPT));
                assert!(letter.json.len() < 2 * 1024 * 1024, "{}", letter.json.len());
                let kept = parsed(&letter);
                assert_eq!(kept["truncated"], true);
                assert!(text.starts_with(kept["documentId"].as_str().unwrap()));
                let document = kept["document"].as_str().unwrap();
                match kept.get("documentEncoding") {
                    Some(encoding) => {
                        assert_eq!(encoding, "base64");
                        let decoded = azure_core::base64::decode(document).unwrap();
                        assert!(body.starts_with(&decoded));
                        assert_eq!(decoded.len() == body.len(), body.len() == binary.len());
                    }
                    None => assert!(body.starts_with(document.as_bytes())),
                }
                // Control characters take six bytes each.
                assert!(document.len() > 300_000);
            }
        }
    }

    #[test]
    fn what_is_too_large_is_cut_between_characters() {
        let error = CoreError::new(Kind::TooLarge, "m".repeat(100_000));
        let large = "\u{1}\"ö😀".repeat(400_000);
        assert!(!embeds(format!("\"{}\"", "x".repeat(MAX_KEPT)).as_bytes()));
        for most in [MAX_KEPT, MAX_KEPT - 1, MAX_KEPT - 2, MAX_KEPT - 3, 10, 0] {
            let letter = letter("c", "w", &operation(large.as_bytes()), &error, Kept::Text(most));
            let kept = parsed(&letter);
            let text = kept["document"].as_str().unwrap();
            assert!(large.starts_with(text));
            assert!(json!(text).to_string().len() - 2 <= most && letter.json.len() <= 2 * 1024 * 1024);
            assert!(text.len() * 2 + 20 > most, "{} of {most}", text.len());
            assert_eq!(
                (&kept["truncated"], &kept["documentBytes"]),
                (&json!(true), &json!(large.len()))
            );
        }
    }
}
