//! Submissions and how they complete.

use std::collections::BTreeMap;

use crate::error::CoreError;
use crate::frame::{FrameKind, FrameWriter};

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
    /// How often it was tried.
    pub attempts: u32,
}

/// What is known of a submission that has not completed.
struct Submission {
    /// Operations that have not ended.
    open: usize,
    completion: Completion,
}

/// Those that have not completed, by number.
#[derive(Default)]
pub struct Submissions(BTreeMap<u64, Submission>);

impl Completion {
    /// Of a submission without operations.
    pub fn empty(submission: u64) -> Self {
        Completion {
            submission,
            request_charge: 0.0,
            failures: Vec::new(),
        }
    }

    /// The sink itself is the matter, for the reason given.
    pub fn fail(mut self, error: &CoreError) -> Self {
        self.failures.push(Failure {
            index: 0,
            result: OutcomeResult::Failed,
            error: error.clone(),
            attempts: 1,
        });
        self
    }
}

impl Submissions {
    pub fn is_open(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    /// One of so many operations, at least one.
    pub fn begin(&mut self, number: u64, operations: usize) {
        let completion = Completion::empty(number);
        let open = operations;
        self.0.insert(number, Submission { open, completion });
    }

    /// So many operations of one have ended, well or with a failure. Gives the completion if they were the last, or if the failure is one
    /// of the job. Of a submission that has failed already nothing more is told.
    pub fn ended(
        &mut self,
        number: u64,
        operations: usize,
        request_charge: f64,
        failure: Option<Failure>,
    ) -> Option<Completion> {
        let submission = self.0.get_mut(&number)?;
        debug_assert!(
            submission.open >= operations,
            "more operations of submission {number} end than it has"
        );
        submission.open -= operations;
        let completion = &mut submission.completion;
        completion.request_charge += request_charge;
        let failed = failure
            .as_ref()
            .is_some_and(|f| f.result == OutcomeResult::Failed);
        completion.failures.extend(failure);
        match submission.open == 0 || failed {
            true => self.0.remove(&number).map(|s| s.completion),
            false => None,
        }
    }

    /// Ends all that are open, in order of their numbers: the sink itself is the matter. With how many operations of each had not ended.
    pub fn fail_all(&mut self, error: &CoreError) -> impl Iterator<Item = (usize, Completion)> {
        let error = error.clone();
        let all = std::mem::take(&mut self.0).into_values();
        all.map(move |s| (s.open, s.completion.fail(&error)))
    }
}

/// Encodes a COMPLETIONS frame.
pub fn encode_completions(completions: &[Completion]) -> Vec<u8> {
    let mut w = FrameWriter::with_capacity(FrameKind::Completions, 8 + completions.len() * 20);
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
            attempts: 2,
        }
    }

    #[test]
    fn a_submission_completes_with_its_last_operation() {
        let mut submissions = Submissions::default();
        submissions.begin(7, 3);
        assert!(submissions.ended(7, 1, 1.5, None).is_none());
        let skipped = failure(2, OutcomeResult::Skipped);
        assert!(submissions.ended(7, 1, 2.0, Some(skipped)).is_none());
        let done = submissions.ended(7, 1, 0.25, None).unwrap();
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
        submissions.begin(1, 3);
        let failed = || Some(failure(0, OutcomeResult::Failed));
        assert!(submissions.ended(1, 1, 1.0, failed()).is_some());
        assert!(submissions.ended(1, 1, 1.0, failed()).is_none());
        assert!(submissions.ended(1, 1, 1.0, None).is_none());
    }

    #[test]
    fn a_frame_holds_what_the_boundary_says() {
        let completion = Completion {
            submission: 5,
            request_charge: 2.5,
            failures: vec![failure(3, OutcomeResult::DeadLettered)],
        };
        let frame = encode_completions(&[completion]);
        let mut r = crate::frame::FrameReader::open(&frame, FrameKind::Completions).unwrap();
        assert_eq!((r.u32().unwrap(), r.u64().unwrap()), (1, 5));
        assert_eq!(f64::from_bits(r.u64().unwrap()), 2.5);
        assert_eq!((r.u32().unwrap(), r.u32().unwrap()), (1, 3));
        let (result, kind, flags) = (r.u8().unwrap(), r.u8().unwrap(), r.u8().unwrap());
        assert_eq!((result, kind, flags), (3, Kind::Conflict as u8, 0));
        assert_eq!((r.u16().unwrap(), r.u32().unwrap(), r.u32().unwrap()), (0, 0, 2));
        assert_eq!((r.str().unwrap(), r.str().unwrap()), ("", "exists"));
        r.finish().unwrap();
    }
}
