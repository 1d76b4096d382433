//! Transactional batches: operations on documents of one partition key, of which the service carries out all or none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{CoreError, Kind, Result};
use crate::json::push_string;

use super::document;
use super::operation::{check_document, check_id, Rules, Verb};
use super::patch;

/// Most operations that the service takes in one batch, and most bytes of its request.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/transactional-batch> (limitations).
const MAX_OPERATIONS: usize = 100;
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A batch that was looked through.
#[derive(Debug)]
pub struct Batch {
    /// What is sent: its operations in the service's own form.
    pub body: Vec<u8>,
    /// What each operation does, and with which document.
    operations: Vec<(Verb, usize)>,
    /// Its documents, in the order in which they come first.
    documents: Vec<Document>,
    /// Hashes of the documents with their key, each once; set once the key is known.
    pub hashes: Vec<u64>,
}

#[derive(Debug)]
struct Document {
    id: String,
    /// What the batch begins with on it is a create: the batch is refused where it is there already.
    created: bool,
    after: After,
}

/// What a document is once the batch was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    /// What lies here in the body.
    Written(Range<usize>),
    /// It is not there.
    Gone,
    /// A patch does not say.
    Unknown,
}

/// What a refused batch that was carried out before can be told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By any one of the documents that it creates: where one is as the batch leaves it, that batch has made it, and with it, all or none,
    /// everything else. What others have made of its other documents since, says nothing.
    Creation,
    /// By all of its documents together: where each is as the batch leaves it, there is nothing left to do.
    State,
    /// By nothing: it creates nothing that would tell, and what a patch leaves is not known.
    Nothing,
}

/// What a document must be like where the batch was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence<'a> {
    /// It is as it was written.
    Written(&'a [u8]),
    /// It is not there.
    Gone,
}

/// An operation as it is submitted: the form of the service's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    operation_type: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    resource_body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    if_match: Option<Cow<'a, str>>,
}

fn bad<T>(why: impl std::fmt::Display) -> Result<T> {
    Err(CoreError::new(Kind::BadRequest, format!("the batch {why}")))
}

impl Batch {
    /// Bytes that it takes, its hashes among them whether or not they are known yet.
    pub fn bytes(&self) -> usize {
        let of_each = size_of::<Document>() + size_of::<u64>();
        let documents: usize = self.documents.iter().map(|d| of_each + d.id.len()).sum();
        self.body.len() + self.operations.len() * size_of::<(Verb, usize)>() + documents
    }

    /// Looks through an array of operations, each an object of `operationType`, `id`, `resourceBody` and `ifMatch`.
    ///
    /// # Errors
    /// BadRequest or TooLarge, the record's own, which name the operation.
    pub fn read(text: &[u8], rules: &Rules) -> Result<Batch> {
        if let Err(e) = std::str::from_utf8(text) {
            return bad(format!(
                "is no UTF-8 from its byte {} on; write its documents in UTF-8",
                e.valid_up_to()
            ));
        }
        let entries: Vec<Entry<'_>> = match serde_json::from_slice(text) {
            Ok(entries) => entries,
            Err(e) => {
                return bad(format!(
                    "is no array of operations with operationType, id and resourceBody ({e})"
                ))
            }
        };
        let of = entries.len();
        if of == 0 {
            return bad("has no operations; leave the record out, or give it one");
        }
        if of > MAX_OPERATIONS {
            return bad(format!(
                "has {of} operations; the service takes {MAX_OPERATIONS} at once. Make it several, each of which is carried out whole"
            ));
        }
        let mut batch = Batch {
            body: Vec::with_capacity(text.len() + 40 * of),
            operations: Vec::with_capacity(of),
            documents: Vec::new(),
            hashes: Vec::new(),
        };
        let mut places = BTreeMap::<&str, usize>::new();
        for (at, entry) in entries.iter().enumerate() {
            batch.body.push(if at == 0 { b'[' } else { b',' });
            let (verb, after) = add(&mut batch.body, entry, rules).map_err(|e| CoreError {
                message: format!(
                    "operation {} of the batch's {of}, of document '{}': {}",
                    at + 1,
                    entry.id.escape_debug(),
                    e.message
                ),
                ..e
            })?;
            let known = *places.entry(&*entry.id).or_insert_with(|| {
                let id = entry.id.clone().into_owned();
                batch.documents.push(Document {
                    id,
                    created: verb == Verb::Create,
                    after: After::Unknown,
                });
                batch.documents.len() - 1
            });
            batch.operations.push((verb, known));
            batch.documents[known].after = after;
        }
        batch.body.push(b']');
        if batch.body.len() > MAX_BYTES {
            return Err(CoreError::new(
                Kind::TooLarge,
                format!(
                    "the batch has {} bytes; the service takes {MAX_BYTES}",
                    batch.body.len()
                ),
            ));
        }
        Ok(batch)
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// For messages: one of its operations, by its place.
    pub fn describe(&self, at: usize) -> String {
        let found = self.operations.get(at);
        let id = found.map_or("", |(_, document)| self.documents[*document].id.as_str());
        format!(
            "operation {} of {}, {} of document '{}'",
            at + 1,
            self.len(),
            found.map_or("an operation", |(verb, _)| verb.name()),
            id.escape_debug()
        )
    }

    /// Ids of its documents, each once.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.documents.iter().map(|document| document.id.as_str())
    }

    /// The id of one of its documents.
    pub fn id(&self, at: usize) -> &str {
        self.documents.get(at).map_or("", |document| document.id.as_str())
    }

    /// What one of its documents must be like where it was carried out.
    pub fn evidence(&self, at: usize) -> Option<Evidence<'_>> {
        match &self.documents.get(at)?.after {
            After::Written(range) => Some(Evidence::Written(&self.body[range.clone()])),
            After::Gone => Some(Evidence::Gone),
            After::Unknown => None,
        }
    }

    /// By what it can be told that it was carried out before.
    pub fn proof(&self) -> Proof {
        let mut documents = self.documents.iter();
        if self.documents.iter().any(Document::proves) {
            Proof::Creation
        } else if documents.all(|document| document.after != After::Unknown) {
            Proof::State
        } else {
            Proof::Nothing
        }
    }

    /// The first of its documents, from one on, that is read to see whether it was carried out before.
    pub fn evident_from(&self, at: usize) -> Option<usize> {
        let proof = self.proof();
        (at..self.documents.len()).find(|at| match proof {
            Proof::Creation => self.documents[*at].proves(),
            Proof::State => true,
            Proof::Nothing => false,
        })
    }
}

impl Document {
    /// Whether this document alone proves that the batch was carried out, where it is as the batch leaves it.
    fn proves(&self) -> bool {
        self.created && matches!(self.after, After::Written(_))
    }
}

/// Checks an operation, and appends it in the order of fields that Java's client has.
fn add(out: &mut Vec<u8>, entry: &Entry<'_>, rules: &Rules) -> Result<(Verb, After)> {
    const VERBS: [Verb; 5] = [
        Verb::Create,
        Verb::Upsert,
        Verb::Replace,
        Verb::Delete,
        Verb::Patch,
    ];
    let refused = |why: String| Err(CoreError::new(Kind::BadRequest, why));
    let Some(verb) = VERBS
        .into_iter()
        .find(|v| v.name().eq_ignore_ascii_case(&entry.operation_type))
    else {
        return refused(format!(
            "'{}' cannot be part of a batch; what can is {}",
            entry.operation_type.escape_debug(),
            VERBS.map(Verb::name).join(", ")
        ));
    };
    check_id(&entry.id)?;
    let body = entry.resource_body.map_or("", RawValue::get).as_bytes();
    let mut given = Cow::Borrowed(body);
    match verb {
        Verb::Delete if !body.is_empty() => return refused("a delete has no resourceBody".to_owned()),
        Verb::Delete => {}
        Verb::Patch => {
            if !patch::parts(body, &rules.paths, entry.if_match.is_some())?.is_empty() {
                return refused(format!(
                    "the patch has more than {} operations; in a batch it cannot be cut. Make it several operations of the batch",
                    patch::MAX_OPERATIONS
                ));
            }
        }
        _ => {
            check_document(body, entry.id.as_bytes(), verb)?;
            if rules.drop_nulls {
                let without =
                    document::without_nulls(body, &rules.paths).map_err(|e| document::broken(&e))?;
                given = without.map_or(given, Cow::Owned);
            }
        }
    }
    out.extend_from_slice(b"{\"operationType\":\"");
    out.extend_from_slice(verb.name().as_bytes());
    out.push(b'"');
    if verb.is_of_existing() {
        out.extend_from_slice(b",\"id\":");
        push_string(out, entry.id.as_bytes());
    }
    let mut document = 0..0;
    if !given.is_empty() {
        out.extend_from_slice(b",\"resourceBody\":");
        document = out.len()..out.len() + given.len();
        out.extend_from_slice(&given);
    }
    if let Some(etag) = &entry.if_match {
        out.extend_from_slice(b",\"ifMatch\":");
        push_string(out, etag.as_bytes());
    }
    out.extend_from_slice(b",\"minimalReturnPreference\":true}");
    let after = match verb {
        Verb::Delete => After::Gone,
        Verb::Patch => After::Unknown,
        _ => After::Written(document),
    };
    Ok((verb, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn read(operations: &Value) -> Result<Batch> {
        Batch::read(operations.to_string().as_bytes(), &Rules::plain(&["/pk"]))
    }

    fn refused(operations: &Value, kind: Kind) -> String {
        let error = read(operations).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        error.message
    }

    fn document(id: &str) -> Value {
        json!({"id": id, "pk": "k"})
    }

    #[test]
    fn a_batch_is_sent_in_the_services_own_form() {
        let patch = json!({"operations": [{"op": "incr", "path": "/n", "value": 1}]});
        let batch = read(&json!([
            {"operationType": "create", "id": "a", "resourceBody": document("a")},
            {"operationType": "Replace", "id": "b\"", "resourceBody": {"pk": "k"}, "ifMatch": "\"7\""},
            {"operationType": "Patch", "id": "c", "resourceBody": patch},
            {"operationType": "Upsert", "id": "d", "resourceBody": document("d")},
            {"operationType": "Delete", "id": "d", "ifMatch": "e"},
        ]))
        .unwrap();
        let sent: Value = serde_json::from_slice(&batch.body).unwrap();
        let minimal = json!(true);
        assert_eq!(
            sent,
            json!([
                {"operationType": "Create", "resourceBody": document("a"), "minimalReturnPreference": minimal},
                {"operationType": "Replace", "id": "b\"", "resourceBody": {"pk": "k"}, "ifMatch": "\"7\"", "minimalReturnPreference": minimal},
                {"operationType": "Patch", "id": "c", "resourceBody": patch, "minimalReturnPreference": minimal},
                {"operationType": "Upsert", "resourceBody": document("d"), "minimalReturnPreference": minimal},
                {"operationType": "Delete", "id": "d", "ifMatch": "e", "minimalReturnPreference": minimal},
            ])
        );
        assert_eq!(batch.describe(2), "operation 3 of 5, Patch of document 'c'");
        assert_eq!(batch.ids().collect::<Vec<_>>(), ["a", "b\"", "c", "d"]);
        // What the last operation on a document leaves is what shows that the batch was carried out; a patch shows nothing.
        let found: Vec<_> = (0..4).map(|at| batch.evidence(at)).collect();
        let a = document("a").to_string();
        assert_eq!(found[0], Some(Evidence::Written(a.as_bytes())));
        assert_eq!((found[2], found[3]), (None, Some(Evidence::Gone)));
        assert_eq!(batch.proof(), Proof::Creation);
        assert_eq!((batch.evident_from(0), batch.evident_from(1)), (Some(0), None));
    }

    #[test]
    fn a_document_of_its_own_proves_that_a_batch_was_carried_out() {
        let (create, upsert, delete, patch) = (
            |id: &str| json!({"operationType": "Create", "id": id, "resourceBody": document(id)}),
            |id: &str| json!({"operationType": "Upsert", "id": id, "resourceBody": document(id)}),
            |id: &str| json!({"operationType": "Delete", "id": id}),
            |id: &str| {
                let increment = json!({"operations": [{"op": "incr", "path": "/n", "value": 1}]});
                json!({"operationType": "Patch", "id": id, "resourceBody": increment})
            },
        );
        for (operations, proof, reads) in [
            (
                json!([patch("b"), create("a"), upsert("c"), create("d")]),
                Proof::Creation,
                &[1, 3][..],
            ),
            // Another state of the document, but one that is known.
            (
                json!([create("a"), upsert("a"), patch("b")]),
                Proof::Creation,
                &[0],
            ),
            (json!([upsert("a"), delete("b")]), Proof::State, &[0, 1]),
            // Whatever the patch left, it is gone, or written over.
            (
                json!([patch("a"), delete("a"), patch("b"), upsert("b")]),
                Proof::State,
                &[0, 1],
            ),
            (json!([create("a"), delete("a")]), Proof::State, &[0]),
            (json!([upsert("a"), patch("b")]), Proof::Nothing, &[]),
            (json!([delete("a"), patch("b")]), Proof::Nothing, &[]),
            // What is created here may have been there before, and what is created and changed is not known.
            (json!([delete("a"), create("a"), patch("b")]), Proof::Nothing, &[]),
            (json!([create("a"), patch("a")]), Proof::Nothing, &[]),
        ] {
            let batch = read(&operations).unwrap();
            let read: Vec<_> =
                std::iter::successors(batch.evident_from(0), |at| batch.evident_from(at + 1)).collect();
            assert_eq!((batch.proof(), &read[..]), (proof, reads), "{operations}");
        }
    }

    #[test]
    fn a_document_does_not_leave_its_place() {
        for (body, why) in [
            (
                &b"{\"id\":\"a\",\"name\":\"\xff\"}"[..],
                "no UTF-8 from its byte 69",
            ),
            (
                b"\"{}},{\\\"operationType\\\":\\\"Delete\\\"\"",
                "not a JSON object",
            ),
            (b"[{}]", "not a JSON object"),
            (b"{\"id\":\"a\",}", "no array"),
        ] {
            let text = [
                &b"[{\"operationType\":\"Upsert\",\"id\":\"a\",\"resourceBody\":"[..],
                body,
                b"}]",
            ]
            .concat();
            let error = Batch::read(&text, &Rules::plain(&["/pk"])).unwrap_err();
            assert_eq!(error.kind, Kind::BadRequest);
            assert!(error.message.contains(why), "{error}");
        }
    }

    #[test]
    fn what_no_batch_can_do_is_refused_and_names_the_operation() {
        let one = |operation: Value| json!([{"operationType": "Delete", "id": "z"}, operation]);
        for (operation, why) in [
            (
                json!({"operationType": "Read", "id": "a"}),
                "'Read' cannot be part",
            ),
            (
                json!({"operationType": "Create-ignore-existing", "id": "a"}),
                "cannot be part",
            ),
            (json!({"operationType": "Create", "id": "a"}), "not a JSON object"),
            (
                json!({"operationType": "Upsert", "id": "a", "resourceBody": document("b")}),
                "must be the same",
            ),
            (json!({"operationType": "Delete", "id": "a/b"}), "/ or"),
            (json!({"operationType": "Delete", "id": ""}), "0 bytes"),
            (
                json!({"operationType": "Delete", "id": "a", "resourceBody": {}}),
                "no resourceBody",
            ),
            (
                json!({"operationType": "Patch", "id": "a", "resourceBody": {"operations": []}}),
                "no operations",
            ),
        ] {
            let message = refused(&one(operation.clone()), Kind::BadRequest);
            assert!(
                message.contains("operation 2 of the batch's 2") && message.contains(why),
                "{operation}: {message}"
            );
        }
        let many: Vec<_> = (0..11)
            .map(|n| json!({"op": "set", "path": format!("/f{n}"), "value": n}))
            .collect();
        let patch = json!({"operationType": "Patch", "id": "a", "resourceBody": {"operations": many}});
        assert!(refused(&one(patch), Kind::BadRequest).contains("more than 10"));
        assert!(refused(&json!([]), Kind::BadRequest).contains("no operations"));
        assert!(refused(&json!({"operationType": "Delete"}), Kind::BadRequest).contains("no array"));
        assert!(refused(
            &json!([{"operationType": "Delete", "id": "a", "documet": 1}]),
            Kind::BadRequest
        )
        .contains("documet"));
        let deletes: Vec<_> = (0..101)
            .map(|n| json!({"operationType": "Delete", "id": n.to_string()}))
            .collect();
        assert!(refused(&json!(deletes), Kind::BadRequest).contains("101"));
        let large = json!({"id": "a", "text": "x".repeat(MAX_BYTES)});
        refused(
            &json!([{"operationType": "Upsert", "id": "a", "resourceBody": large}]),
            Kind::TooLarge,
        );
    }
}
