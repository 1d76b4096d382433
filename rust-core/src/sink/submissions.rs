//! Submissions and how they complete.

use std::collections::BTreeMap;

use crate::error::CoreError;
use crate::frame::{FrameKind, FrameWriter};

use super::operation::Operation;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OutcomeResult {
    /// It was carried out.
    Ok = 1,
    /// It was refused, counted and left out.
    Skipped = 2,
    /// It was refused, and is in the dead-letter container.
    DeadLettered = 3,
    /// It was refused, and the job fails.
    Failed = 4,
}

/// The one answer to a submission.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The number that the caller gave it.
    pub submission: u64,
    /// Request units of the attempts of its operations: of all of them, or of those that had ended before one failed.
    pub request_charge: f64,
    /// Its operations that were not carried out, in the order in which they ended. At most one is [`OutcomeResult::Failed`], the last.
    pub failures: Vec<Failure>,
    /// Places of those that count as done and changed nothing, as their strategy asks, in the order in which they ended.
    pub superseded: Vec<u32>,
}

/// An operation that was not carried out.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its place in the submission, from 0. Where the sink itself is the matter and not one operation, 0.
    pub index: u32,
    /// How it was dealt with; never [`OutcomeResult::Ok`].
    pub result: OutcomeResult,
    /// What it failed with.
    pub error: CoreError,
    /// How many operations of a patch that takes several requests were carried out all the same, from the first on; else 0.
    pub carried_out: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Of one that is [`OutcomeResult::Failed`], its OPERATION BODY without the document; else empty.
    pub operation: Vec<u8>,
}

/// What is known of a submission that has not completed.
struct Submission {
    /// Operations that have not ended.
    open: usize,
    /// Those of them that share the frame of the submission.
    sharing: usize,
    /// Bytes that are held for these.
    frame: u64,
    /// Bytes that are held for the others.
    apart: u64,
    completion: Completion,
}

/// Those that have not completed, by number, and what is held for them.
#[derive(Default)]
pub struct Submissions {
    open: BTreeMap<u64, Submission>,
    held: u64,
}

/// Operations of one submission that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many.
    pub operations: usize,
    /// Those of them that did not share the frame of the submission, and their bytes.
    pub apart: usize,
    pub apart_bytes: u64,
}

impl Ended {
    pub fn of(operations: &[Operation]) -> Ended {
        let apart = operations.iter().filter(|op| op.is_apart());
        Ended {
            operations: operations.len(),
            apart: apart.clone().count(),
            apart_bytes: apart.map(Operation::apart_bytes).sum(),
        }
    }
}

impl Completion {
    /// Of a submission without operations.
    pub fn empty(submission: u64) -> Self {
        Completion {
            submission,
            request_charge: 0.0,
            failures: Vec::new(),
            superseded: Vec::new(),
        }
    }

    /// The sink itself is the matter, for the reason given.
    pub fn fail(mut self, error: &CoreError) -> Self {
        self.failures.push(Failure {
            index: 0,
            result: OutcomeResult::Failed,
            error: error.clone(),
            carried_out: 0,
            attempts: 1,
            operation: Vec::new(),
        });
        self
    }
}

impl Submissions {
    pub fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// Bytes that are held for all that have not completed.
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// One of so many operations, at least one, for which so many bytes are held.
    pub fn begin(&mut self, number: u64, operations: usize, bytes: u64) {
        self.held += bytes;
        self.open.insert(
            number,
            Submission {
                open: operations,
                sharing: operations,
                frame: bytes,
                apart: 0,
                completion: Completion::empty(number),
            },
        );
    }

    /// An operation of one shares its frame no more, and has so many bytes of its own.
    pub fn set_apart(&mut self, number: u64, bytes: u64) {
        let Some(submission) = self.open.get_mut(&number) else {
            return;
        };
        submission.apart += bytes;
        self.held += bytes;
        self.held -= submission.leave(1);
    }

    /// One of its operations changed nothing, and is about to end well.
    pub fn superseded(&mut self, number: u64, index: u32) {
        if let Some(submission) = self.open.get_mut(&number) {
            submission.completion.superseded.push(index);
        }
    }

    /// So many operations of one have ended, well or with a failure. Gives the completion if they were the last, or if the failure is one
    /// of the job. Of a submission that has failed already nothing more is told.
    pub fn ended(
        &mut self,
        number: u64,
        ended: Ended,
        request_charge: f64,
        failure: Option<Failure>,
    ) -> Option<Completion> {
        let submission = self.open.get_mut(&number)?;
        debug_assert!(
            submission.open >= ended.operations,
            "more operations of submission {number} end than it has"
        );
        submission.open -= ended.operations;
        submission.apart -= ended.apart_bytes;
        let sharing = ended.operations - ended.apart;
        self.held -= ended.apart_bytes + submission.leave(sharing);
        let completion = &mut submission.completion;
        completion.request_charge += request_charge;
        let failed = failure
            .as_ref()
            .is_some_and(|f| f.result == OutcomeResult::Failed);
        completion.failures.extend(failure);
        if submission.open > 0 && !failed {
            return None;
        }
        let submission = self.open.remove(&number)?;
        self.held -= submission.frame + submission.apart;
        Some(submission.completion)
    }

    /// Ends all that are open, in order of their numbers: the sink itself is the matter. With how many operations of each had not ended.
    pub fn fail_all(&mut self, error: &CoreError) -> impl Iterator<Item = (usize, Completion)> {
        let error = error.clone();
        self.held = 0;
        let all = std::mem::take(&mut self.open).into_values();
        all.map(move |s| (s.open, s.completion.fail(&error)))
    }
}

impl Submission {
    /// So many of its operations share its frame no more. Gives the bytes that are not held any longer: all of it with the last.
    fn leave(&mut self, operations: usize) -> u64 {
        self.sharing -= operations;
        match self.sharing {
            0 => std::mem::take(&mut self.frame),
            _ => 0,
        }
    }
}

/// Encodes a COMPLETIONS frame. `room`: [`super::Sink::room`].
pub fn encode_completions(room: u64, completions: &[Completion]) -> Vec<u8> {
    let mut w = FrameWriter::with_capacity(FrameKind::Completions, 16 + completions.len() * 20);
    w.u64(room);
    w.u32(completions.len() as u32);
    for completion in completions {
        w.u64(completion.submission);
        w.f64(completion.request_charge);
        w.u32(completion.failures.len() as u32);
        for Failure {
            index,
            result,
            error,
            attempts,
            operation,
            // The message says it.
            carried_out: _,
        } in &completion.failures
        {
            w.u32(*index);
            w.u8(*result as u8);
            w.u8(error.kind as u8);
            w.u8(u8::from(error.outlives_restart()));
            w.u16(error.status);
            w.u32(error.sub_status);
            w.u32(*attempts);
            w.str(&error.activity_id);
            w.str(&error.message);
            w.blob(operation);
        }
    }
    w.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn failure(index: u32, result: OutcomeResult) -> Failure {
        Failure {
            index,
            result,
            error: CoreError::new(Kind::Conflict, "exists"),
            carried_out: 0,
            attempts: 2,
            operation: Vec::new(),
        }
    }

    fn sharing(operations: usize) -> Ended {
        Ended {
            operations,
            ..Ended::default()
        }
    }

    #[test]
    fn a_submission_completes_with_its_last_operation() {
        let mut submissions = Submissions::default();
        submissions.begin(7, 3, 300);
        assert!(submissions.ended(7, sharing(1), 1.5, None).is_none());
        let skipped = failure(2, OutcomeResult::Skipped);
        assert!(submissions.ended(7, sharing(1), 2.0, Some(skipped)).is_none());
        assert_eq!(submissions.held_bytes(), 300, "the frame is there");
        let done = submissions.ended(7, sharing(1), 0.25, None).unwrap();
        assert_eq!(submissions.held_bytes(), 0);
        assert_eq!((done.submission, done.request_charge), (7, 3.75));
        assert_eq!(
            (
                done.failures.len(),
                done.failures[0].index,
                done.failures[0].attempts
            ),
            (1, 2, 2)
        );
        assert!(!submissions.is_open(7));
    }

    #[test]
    fn a_failure_of_the_job_completes_at_once_and_once() {
        let mut submissions = Submissions::default();
        submissions.begin(1, 3, 300);
        submissions.set_apart(1, 100);
        let failed = || Some(failure(0, OutcomeResult::Failed));
        assert!(submissions.ended(1, sharing(1), 1.0, failed()).is_some());
        assert_eq!(submissions.held_bytes(), 0);
        assert!(submissions.ended(1, sharing(1), 1.0, failed()).is_none());
        assert!(submissions.ended(1, sharing(1), 1.0, None).is_none());
    }

    #[test]
    fn of_a_submission_whose_rest_stands_apart_only_the_rest_is_held() {
        let mut submissions = Submissions::default();
        submissions.begin(1, 3, 300);
        submissions.begin(2, 1, 50);
        submissions.set_apart(1, 100);
        assert_eq!(submissions.held_bytes(), 450);
        submissions.ended(1, sharing(1), 0.0, None);
        assert_eq!(submissions.held_bytes(), 450, "one of them shares the frame");
        submissions.ended(1, sharing(1), 0.0, None);
        assert_eq!(submissions.held_bytes(), 150);
        let apart = Ended {
            operations: 1,
            apart: 1,
            apart_bytes: 100,
        };
        assert!(submissions.ended(1, apart, 0.0, None).is_some());
        assert_eq!(submissions.held_bytes(), 50);
        assert_eq!(submissions.fail_all(&CoreError::internal("x")).count(), 1);
        assert_eq!(submissions.held_bytes(), 0);
    }

    #[test]
    fn a_frame_holds_what_the_boundary_says() {
        let completion = Completion {
            submission: 5,
            request_charge: 2.5,
            failures: vec![Failure {
                operation: vec![1, 2],
                ..failure(3, OutcomeResult::DeadLettered)
            }],
            superseded: vec![4],
        };
        let frame = encode_completions(9, &[completion]);
        let mut r = crate::frame::FrameReader::open(&frame, FrameKind::Completions).unwrap();
        assert_eq!(r.u64().unwrap(), 9);
        assert_eq!((r.u32().unwrap(), r.u64().unwrap()), (1, 5));
        assert_eq!(f64::from_bits(r.u64().unwrap()), 2.5);
        assert_eq!((r.u32().unwrap(), r.u32().unwrap()), (1, 3));
        let (result, kind, flags) = (r.u8().unwrap(), r.u8().unwrap(), r.u8().unwrap());
        assert_eq!((result, kind, flags), (3, Kind::Conflict as u8, 0));
        assert_eq!((r.u16().unwrap(), r.u32().unwrap(), r.u32().unwrap()), (0, 0, 2));
        assert_eq!((r.str().unwrap(), r.str().unwrap()), ("", "exists"));
        assert_eq!(r.blob().unwrap(), [1, 2]);
        r.finish().unwrap();
    }
}
