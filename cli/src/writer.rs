//! A sink of the core whose operations are waited for.

use std::time::{Duration, Instant};

use cosmosflink_core::config::Role;
use cosmosflink_core::error::CoreError;
use cosmosflink_core::sink::{encode_operations, Completion, NewOperation, OutcomeResult, Sink};

use crate::account::Account;
use crate::stop;

/// How long is waited for completions before it is looked whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(100);

/// How long what is under way may take to end once the user wants to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Writes into one container.
pub struct Writer {
    sink: Sink,
    submissions: u64,
}

/// What became of an operation.
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It counts as done and changed nothing, as its strategy asks.
    Superseded,
    /// It was refused, and another one may not be; or it was given up, and a part of its patch was carried out.
    Refused {
        /// What with.
        error: CoreError,
        /// How many operations of a patch in parts were carried out all the same.
        carried_out: u32,
    },
    /// Whether it was carried out is not known.
    Unknown(String),
}

impl Writer {
    /// Opens a sink that leaves out what is refused: a letter about a letter's operation would be the same letter.
    ///
    /// # Errors
    /// Those of the options and of the connection.
    pub fn open(account: &Account, container: &str) -> Result<Writer, CoreError> {
        // What a letter holds is written as it is: the job's own nulls are gone already.
        let as_it_is = [("sink.failure-mode", "skip"), ("sink.null-policy", "keep")];
        let config = account.config(Role::Sink, container, &as_it_is)?;
        Ok(Writer {
            sink: Sink::open(config)?,
            submissions: 0,
        })
    }

    /// Hands operations over; those on one document are carried out in their order.
    ///
    /// # Errors
    /// Those of the sink: then nothing of it is written.
    pub fn submit(&mut self, operations: &[NewOperation<'_>]) -> Result<(), CoreError> {
        self.submissions += 1;
        let submitted = self.sink.submit(self.submissions, encode_operations(operations));
        submitted.map(drop)
    }

    /// Waits for what was submitted last, so many operations. `tick` is called now and then. What does not end in a while after the user
    /// wants to stop is given up. With the failure that makes all that follow futile, if there is one.
    pub fn outcomes(
        &mut self,
        operations: usize,
        mut tick: impl FnMut(),
    ) -> (Vec<Outcome>, Option<CoreError>) {
        let mut give_up = None;
        loop {
            tick();
            match self.sink.poll(LOOK) {
                Ok(completions) => {
                    let last = completions.into_iter().find(|c| c.submission == self.submissions);
                    if let Some(completion) = last {
                        return told(operations, completion);
                    }
                }
                Err(error) => return (unknown(operations, &error.to_string()), Some(error)),
            }
            if stop::asked() && *give_up.get_or_insert_with(|| Instant::now() + GRACE) < Instant::now() {
                let why = "it was interrupted before the service had answered";
                return (unknown(operations, why), None);
            }
        }
    }

    /// Closes the sink.
    pub fn close(self) {
        self.sink.close();
    }
}

fn unknown(operations: usize, why: &str) -> Vec<Outcome> {
    (0..operations)
        .map(|_| Outcome::Unknown(why.to_owned()))
        .collect()
}

/// What a completion says of each operation.
fn told(operations: usize, completion: Completion) -> (Vec<Outcome>, Option<CoreError>) {
    let fatal = completion
        .failures
        .iter()
        .find(|failure| failure.result == OutcomeResult::Failed)
        .map(|failure| failure.error.clone());
    // Behind a failure of all nothing is said of those that had not ended.
    let mut outcomes = match &fatal {
        Some(error) => unknown(operations, &error.to_string()),
        None => (0..operations).map(|_| Outcome::Done).collect(),
    };
    if fatal.is_none() {
        for index in completion.superseded {
            if let Some(outcome) = outcomes.get_mut(index as usize) {
                *outcome = Outcome::Superseded;
            }
        }
    }
    for failure in completion.failures {
        if let Some(outcome) = outcomes.get_mut(failure.index as usize) {
            // What was carried out of a patch must be marked, whatever ended the rest.
            if failure.result != OutcomeResult::Failed || failure.carried_out > 0 {
                *outcome = Outcome::Refused {
                    error: failure.error,
                    carried_out: failure.carried_out,
                };
            }
        }
    }
    (outcomes, fatal)
}
