//! What an operation does next: most are one request, some are a row of them.
//!
//! A patch of more operations than the service takes goes as several patches. A bulk update reads its document, and writes what its fields
//! make of it under the ETag that was read. A conflict that may be the answer to a repetition is compared with what is stored. Nothing of
//! this does any I/O: answers go in, and what comes out says whether the operation has ended.

use std::collections::VecDeque;

use crate::error::{CoreError, Kind};
use crate::status::{Blame, Fate, Next};

use super::batch::{Batch, Evidence, Proof};
use super::document;
use super::operation::{Operation, Verb};
use super::patch;

/// Where an operation stands that is more than one request.
#[derive(Debug, Default)]
pub enum Step {
    /// It is sent as it is.
    #[default]
    Write,
    /// A patch in parts, of which the first is sent.
    Patches {
        parts: VecDeque<Vec<u8>>,
        /// Operations of the parts before them.
        carried_out: u32,
    },
    /// The document is read, to be merged with.
    Read,
    /// What was made of the document that was read; without an ETag there was none.
    Merged { document: Vec<u8>, etag: String },
    /// The document is read, to be compared with what was to be written, or to see that it is there: the write failed with this.
    Compare(Box<CoreError>),
    /// A document of a batch is read, by its place among them, to see whether the batch was carried out before: it failed with this.
    Evidence { at: usize, first: Box<CoreError> },
}

impl Step {
    /// Bytes of the texts that it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Step::Write | Step::Read => 0,
            Step::Patches { parts, .. } => parts.iter().map(Vec::len).sum(),
            Step::Merged { document, etag } => document.len() + etag.len(),
            Step::Compare(error) | Step::Evidence { first: error, .. } => {
                size_of::<CoreError>() + error.message.len()
            }
        }
    }
}

/// A document as it was read.
#[derive(Debug)]
pub struct Stored {
    /// As the service gave it.
    pub document: Vec<u8>,
    /// Of this state of it.
    pub etag: String,
}

/// What became of an operation with an answer.
pub enum Course {
    /// It has ended well.
    Done,
    /// It has ended well and changed nothing.
    Superseded,
    /// It goes on with its next request.
    Onward,
    /// It has failed, for good or for now.
    Failed(Box<CoreError>),
}

/// Takes the answer to an operation's request. `compares`: whether documents can be read for a comparison; where not, what would be compared is
/// final.
pub fn follow(
    op: &mut Operation,
    stored: Option<Box<Stored>>,
    error: Option<Box<CoreError>>,
    compares: bool,
) -> Course {
    if let Some(error) = &error {
        op.add_fate(error.fate);
    }
    let Some(step) = op.step_mut() else {
        return ended(op, error, compares);
    };
    match (std::mem::take(step), error) {
        (Step::Read, None) => match merge(op, stored) {
            Ok(merged) => {
                op.vanished = 0;
                onward(op, merged)
            }
            Err(e) => Course::Failed(Box::new(e)),
        },
        (Step::Read, Some(e)) if is_not_there(&e) => {
            let new = Step::Merged {
                document: op.body().to_vec(),
                etag: String::new(),
            };
            onward(op, new)
        }
        // Of a document that was there, or that is never there: it is another document that has the value of a unique key.
        (Step::Merged { etag, .. }, Some(e))
            if e.status == 409 && (!etag.is_empty() || has_never_been_there(op)) =>
        {
            Course::Failed(Box::new(CoreError {
                next: Next::End,
                ..*e
            }))
        }
        (Step::Merged { .. }, Some(e)) if e.next == Next::Reread => {
            op.set_step(Step::Read);
            Course::Failed(e)
        }
        (
            Step::Patches {
                mut parts,
                carried_out,
            },
            None,
        ) => {
            parts.pop_front();
            if parts.is_empty() {
                return Course::Done;
            }
            // It has come on: what failed before is behind it.
            op.attempts = None;
            op.fate = Fate::NotCarriedOut;
            let carried_out = carried_out + patch::MAX_OPERATIONS as u32;
            onward(op, Step::Patches { parts, carried_out })
        }
        (Step::Compare(first), None) => {
            let is_same = stored.is_some_and(|s| document::is_same(&s.document, op.body()));
            match first.next {
                // What its strategy leaves as it is was written by nobody else, if it may have been written by an earlier attempt.
                Next::Confirm if is_same && op.fate == Fate::Unknown => Course::Done,
                Next::Confirm => Course::Superseded,
                _ if is_same => Course::Done,
                _ => Course::Failed(first),
            }
        }
        // What was in its way is gone, or it has never been there: then another document has the value of a unique key.
        (Step::Compare(first), Some(e)) if is_not_there(&e) && op.verb() == Verb::Create => {
            let next = match has_never_been_there(op) {
                true => first.next,
                false => Next::Retry,
            };
            Course::Failed(Box::new(CoreError { next, ..*first }))
        }
        (Step::Compare(first), Some(e)) if is_not_there(&e) && first.next == Next::Confirm => {
            Course::Superseded
        }
        (Step::Compare(first), Some(e)) if e.blame == Blame::Record => Course::Failed(first),
        (Step::Evidence { at, first }, answer)
            if answer.as_ref().is_none_or(|e| e.blame == Blame::Record) =>
        {
            let batch = op.batch();
            let is_so = match (batch.and_then(|b| b.evidence(at)), stored, answer) {
                (Some(Evidence::Written(document)), Some(stored), None) => {
                    document::is_same(&stored.document, document)
                }
                (Some(Evidence::Gone), None, Some(e)) => is_not_there(&e),
                _ => false,
            };
            let (proof, next) = batch.map_or((Proof::Nothing, None), |b| (b.proof(), b.evident_from(at + 1)));
            match (proof, is_so, next) {
                // All or none is carried out.
                (Proof::Creation, true, _) | (Proof::State, true, None) => Course::Done,
                (Proof::Creation, false, Some(at)) | (Proof::State, true, Some(at)) => {
                    onward(op, Step::Evidence { at, first })
                }
                _ => Course::Failed(unproven(first, batch, at)),
            }
        }
        (step, error) => {
            op.set_step(step);
            ended(op, error, compares)
        }
    }
}

/// The end of an operation's request, where it decides about the operation.
fn ended(op: &mut Operation, error: Option<Box<CoreError>>, compares: bool) -> Course {
    let Some(error) = error else {
        return Course::Done;
    };
    match error.next {
        Next::Done => Course::Done,
        Next::Superseded => Course::Superseded,
        Next::Compare if compares && op.batch().is_some() => {
            match op.batch().and_then(|batch| batch.evident_from(0)) {
                Some(at) => onward(op, Step::Evidence { at, first: error }),
                None => Course::Failed(unproven(error, op.batch(), 0)),
            }
        }
        Next::Compare | Next::Confirm if compares => onward(op, Step::Compare(error)),
        Next::Confirm => Course::Superseded,
        _ => Course::Failed(error),
    }
}

/// The failure of a batch of which nothing proves that it was carried out before: what was looked at, the last of it at `at`, or what it
/// lacks.
fn unproven(mut error: Box<CoreError>, batch: Option<&Batch>, at: usize) -> Box<CoreError> {
    let why = match batch.map(|batch| (batch.proof(), batch.id(at).escape_debug())) {
        None => return error,
        Some((Proof::Creation, _)) => {
            "it was not carried out before: no document that it creates is there as it would leave it".to_owned()
        }
        Some((Proof::State, id)) => format!("document '{id}' is not as the batch would leave it"),
        Some((Proof::Nothing, _)) => {
            "whether the batch was carried out before cannot be told, since patches leave no trace and it creates no document. Let it create one \
             of its own, such as an entry of an outbox, which proves that it was carried out"
                .to_owned()
        }
    };
    error.message = format!("{}; {why}", error.message);
    error
}

fn onward(op: &mut Operation, step: Step) -> Course {
    op.set_step(step);
    Course::Onward
}

/// How often what was in the way may not be there before it counts as another document: the replica that was asked may be behind. With the
/// default pauses that takes about twelve seconds.
const VANISHES: u8 = 8;

/// Counts that what was in the way of an operation is not there.
fn has_never_been_there(op: &mut Operation) -> bool {
    op.vanished = op.vanished.saturating_add(1);
    op.vanished > VANISHES
}

fn is_not_there(error: &CoreError) -> bool {
    error.kind == Kind::NotFound && error.blame == Blame::Record
}

fn merge(op: &Operation, stored: Option<Box<Stored>>) -> Result<Step, CoreError> {
    let stored = stored.ok_or_else(|| CoreError::internal("a read was answered without its document"))?;
    match document::merged(&stored.document, op.body()) {
        Ok(document) => Ok(Step::Merged {
            document,
            etag: stored.etag,
        }),
        Err(e) => Err(document::broken(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::{decode_operations, encode_operations, NewOperation, OperationKind, Rules};
    use super::*;
    use crate::status::Asked;

    fn operation(kind: OperationKind, document: &str) -> Operation {
        operation_with(kind, "", document)
    }

    fn operation_with(kind: OperationKind, if_match: &str, document: &str) -> Operation {
        let new = NewOperation {
            kind,
            id: "a",
            partition_key: "[\"k\"]",
            if_match,
            document: document.as_bytes(),
        };
        let mut op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
        op.prepare(&Rules::plain(&["/pk"])).unwrap();
        op
    }

    fn answer(op: &Operation, status: u16) -> Option<Box<CoreError>> {
        let error = CoreError::answered((status, 0), op.asked(), op.fate, "asked for");
        (status >= 400).then(|| Box::new(error))
    }

    fn stored(document: &str, etag: &str) -> Option<Box<Stored>> {
        Some(Box::new(Stored {
            document: document.into(),
            etag: etag.to_owned(),
        }))
    }

    /// What a course is, for comparisons.
    fn told(course: &Course) -> &'static str {
        match course {
            Course::Done => "done",
            Course::Superseded => "superseded",
            Course::Onward => "onward",
            Course::Failed(_) => "failed",
        }
    }

    #[test]
    fn a_bulk_update_writes_what_it_makes_of_what_it_read() {
        let mut op = operation(OperationKind::BulkUpdate, r#"{"id":"a","n":2}"#);
        assert_eq!((op.verb(), op.asked()), (Verb::Read, Asked::Read));
        let read = stored(r#"{"id":"a","pk":"k","n":1,"x":[],"_etag":"e1"}"#, "e1");
        assert_eq!(told(&follow(&mut op, read, None, true)), "onward");
        assert_eq!((op.verb(), op.asked()), (Verb::Replace, Asked::Update));
        assert_eq!(
            (op.sent_body(), op.sent_etag()),
            (&br#"{"pk":"k","x":[],"id":"a","n":2}"#[..], &b"e1"[..])
        );
        // Changed meanwhile: it is read again.
        let error = answer(&op, 412);
        assert_eq!(told(&follow(&mut op, None, error, true)), "failed");
        assert_eq!(op.verb(), Verb::Read);
        // Taken out meanwhile: it becomes a create.
        let error = answer(&op, 404);
        assert_eq!(told(&follow(&mut op, None, error, true)), "onward");
        assert_eq!(
            (op.verb(), op.sent_body(), op.sent_etag()),
            (Verb::Create, &br#"{"id":"a","n":2}"#[..], &b""[..])
        );
        assert_eq!(told(&follow(&mut op, None, None, true)), "done");
    }

    #[test]
    fn a_read_that_failed_says_nothing_of_the_write() {
        let mut op = operation(OperationKind::BulkUpdate, r#"{"id":"a"}"#);
        let error = answer(&op, 408);
        assert_eq!(told(&follow(&mut op, None, error, true)), "failed");
        assert_eq!((op.verb(), op.fate), (Verb::Read, Fate::NotCarriedOut));
        let mut op = operation(OperationKind::Create, r#"{"id":"a"}"#);
        let error = answer(&op, 408);
        follow(&mut op, None, error, true);
        assert_eq!(op.fate, Fate::Unknown);
    }

    #[test]
    fn a_create_that_finds_itself_is_done_and_one_that_finds_another_has_failed() {
        for (found, expected) in [
            (r#"{"n":1.0,"id":"a","_ts":1}"#, "done"),
            (r#"{"n":2,"id":"a"}"#, "failed"),
        ] {
            let mut op = operation(OperationKind::Create, r#"{"id":"a","n":1}"#);
            let error = answer(&op, 409);
            assert_eq!(told(&follow(&mut op, None, error, true)), "onward");
            assert_eq!(op.verb(), Verb::Read);
            // The read may have to be asked for again.
            let busy = answer(&op, 429);
            assert_eq!(told(&follow(&mut op, None, busy, true)), "failed");
            assert_eq!(op.verb(), Verb::Read);
            let course = follow(&mut op, stored(found, "e"), None, true);
            assert_eq!(told(&course), expected);
            if let Course::Failed(e) = course {
                assert_eq!((e.kind, e.status, e.blame), (Kind::Conflict, 409, Blame::Record));
            }
        }
        let mut op = operation(OperationKind::Create, r#"{"id":"a"}"#);
        let error = answer(&op, 409);
        follow(&mut op, None, error, true);
        let gone = answer(&op, 404);
        match follow(&mut op, None, gone, true) {
            Course::Failed(e) => assert_eq!((e.next, op.verb()), (Next::Retry, Verb::Create)),
            other => panic!("{}", told(&other)),
        }
        // It is never there: what is in its way is another document.
        for n in 1..=VANISHES {
            let error = answer(&op, 409);
            assert_eq!(told(&follow(&mut op, None, error, true)), "onward");
            let gone = answer(&op, 404);
            let next = if n < VANISHES { Next::Retry } else { Next::Compare };
            match follow(&mut op, None, gone, true) {
                Course::Failed(e) => assert_eq!((e.status, e.next), (409, next), "{n}"),
                other => panic!("{}", told(&other)),
            }
        }
        // Where nothing can be read, a conflict is one.
        let error = answer(&op, 409);
        assert_eq!(told(&follow(&mut op, None, error, false)), "failed");
    }

    /// An answer was lost, and the next one is a conflict: only the document says whose.
    #[test]
    fn a_conflict_after_a_lost_answer_is_compared() {
        use OperationKind::{Create, CreateIgnoreExisting, OverwriteIfNotModified, Replace};
        let (ours, theirs) = (r#"{"id":"a","n":1}"#, r#"{"id":"a","n":2}"#);
        for (kind, etag, status, with_ours, with_theirs) in [
            (Create, "", 409, "done", "failed"),
            (Replace, "e", 412, "done", "failed"),
            (CreateIgnoreExisting, "", 409, "done", "superseded"),
            (OverwriteIfNotModified, "", 409, "done", "superseded"),
            (OverwriteIfNotModified, "e", 412, "done", "superseded"),
        ] {
            for (found, expected) in [(ours, with_ours), (theirs, with_theirs)] {
                let mut op = operation_with(kind, etag, ours);
                let lost = answer(&op, 503);
                assert_eq!(told(&follow(&mut op, None, lost, true)), "failed");
                let conflict = answer(&op, status);
                assert_eq!(
                    told(&follow(&mut op, None, conflict, true)),
                    "onward",
                    "{kind:?} {etag}"
                );
                assert_eq!((op.verb(), op.sent_etag()), (Verb::Read, &b""[..]));
                let course = follow(&mut op, stored(found, "x"), None, true);
                assert_eq!(told(&course), expected, "{kind:?} {etag} finds {found}");
                // A message says so.
                assert_eq!(op.fate, Fate::Unknown);
            }
        }
        // It was taken out since.
        let mut op = operation_with(OverwriteIfNotModified, "e", ours);
        for status in [503, 412] {
            let error = answer(&op, status);
            follow(&mut op, None, error, true);
        }
        let gone = answer(&op, 404);
        assert_eq!(told(&follow(&mut op, None, gone, true)), "superseded");
    }

    /// A unique key of the container is hurt, and no document of this id is there.
    #[test]
    fn nothing_counts_as_there_already_that_is_not_there() {
        for kind in [
            OperationKind::CreateIgnoreExisting,
            OperationKind::OverwriteIfNotModified,
        ] {
            let mut op = operation(kind, r#"{"id":"a"}"#);
            for n in 0..=VANISHES {
                let conflict = answer(&op, 409);
                assert_eq!(told(&follow(&mut op, None, conflict, true)), "onward");
                let gone = answer(&op, 404);
                let next = match n < VANISHES {
                    true => Next::Retry,
                    false => Next::Confirm,
                };
                match follow(&mut op, None, gone, true) {
                    Course::Failed(e) => assert_eq!((e.kind, e.next), (Kind::Conflict, next), "{n}"),
                    other => panic!("{}", told(&other)),
                }
            }
        }
    }

    #[test]
    fn a_bulk_update_in_conflict_with_another_document_fails() {
        let fails_for_good = |op: &mut Operation| {
            let error = answer(op, 409);
            match follow(op, None, error, true) {
                Course::Failed(e) => assert_eq!((e.status, e.next), (409, Next::End)),
                other => panic!("{}", told(&other)),
            }
        };
        let mut op = operation(OperationKind::BulkUpdate, r#"{"id":"a","n":2}"#);
        let read = stored(r#"{"id":"a","pk":"k","n":1,"_etag":"e1"}"#, "e1");
        follow(&mut op, read, None, true);
        fails_for_good(&mut op);
        // Somebody may have been faster, and gone.
        let mut op = operation(OperationKind::BulkUpdate, r#"{"id":"a","n":2}"#);
        for n in 0..=VANISHES {
            assert_eq!(op.verb(), Verb::Read);
            let error = answer(&op, 404);
            assert_eq!(told(&follow(&mut op, None, error, true)), "onward");
            assert_eq!(op.verb(), Verb::Create);
            if n < VANISHES {
                let error = answer(&op, 409);
                assert_eq!(told(&follow(&mut op, None, error, true)), "failed");
            }
        }
        fails_for_good(&mut op);
    }

    #[test]
    fn a_replace_with_an_etag_of_a_document_that_is_gone_has_failed() {
        let mut op = operation(OperationKind::Replace, r#"{"id":"a"}"#);
        let error = answer(&op, 412);
        assert_eq!(told(&follow(&mut op, None, error, true)), "onward");
        let gone = answer(&op, 404);
        match follow(&mut op, None, gone, true) {
            Course::Failed(e) => assert_eq!(e.kind, Kind::Precondition),
            other => panic!("{}", told(&other)),
        }
    }

    #[test]
    fn a_long_patch_ends_with_its_last_part() {
        let operations: Vec<String> = (0..21)
            .map(|n| format!(r#"{{"op":"set","path":"/f{n}","value":{n}}}"#))
            .collect();
        let patch = format!("{{\"operations\":[{}]}}", operations.join(","));
        let mut op = operation(OperationKind::Patch, &patch);
        let mut sent = vec![op.sent_body().to_vec()];
        assert_eq!(told(&follow(&mut op, None, None, true)), "onward");
        sent.push(op.sent_body().to_vec());
        let busy = answer(&op, 503);
        assert_eq!(told(&follow(&mut op, None, busy, true)), "failed");
        assert_eq!((op.sent_body(), op.carried_out()), (&sent[1][..], 10));
        assert_eq!(told(&follow(&mut op, None, None, true)), "onward");
        sent.push(op.sent_body().to_vec());
        assert_eq!(told(&follow(&mut op, None, None, true)), "done");
        for (part, first) in sent.iter().zip([0, 10, 20]) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(part.contains(&operations[first]), "{part}");
        }
        assert_eq!(op.body(), patch.as_bytes(), "a dead letter holds all of it");
    }
}
