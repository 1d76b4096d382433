//! Refused operations on their way to becoming dead letters.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::error::CoreError;

use super::operation::Operation;

/// Dead letters that are stored at the same time: more would take the account's throughput from the records that are good.
const AT_A_TIME: usize = 4;

/// Refused operations that may wait for their dead letters before nothing else is sent: what is refused faster than it can be stored must
/// not fill the memory.
const MAX_WAITING: usize = 100;

/// A refused operation whose dead letter is to be stored.
pub struct Letter {
    /// Tells it from the others of the sink.
    pub number: u64,
    pub operation: Operation,
    /// What it was refused with.
    pub error: CoreError,
    /// Seed of the waits between attempts to store it.
    pub seed: u64,
}

/// A letter that is being stored.
struct Storing {
    /// When its operation was refused.
    since: Instant,
    /// How often that was tried in vain, and what it failed with last.
    failed: Option<(u32, CoreError)>,
}

#[derive(Default)]
pub struct Letters {
    /// With the moment of their refusal.
    waiting: VecDeque<(Operation, CoreError, Instant)>,
    /// Those that are being stored, by number.
    storing: BTreeMap<u64, Storing>,
    /// Letters that were begun.
    begun: u64,
}

impl Letters {
    pub fn add(&mut self, operation: Operation, error: CoreError, now: Instant) {
        self.waiting.push_back((operation, error, now));
    }

    /// The next one to store, if there is a place.
    pub fn next(&mut self, seed: impl FnOnce() -> u64) -> Option<Letter> {
        if self.storing.len() >= AT_A_TIME {
            return None;
        }
        let (operation, error, since) = self.waiting.pop_front()?;
        let number = self.begun;
        self.begun += 1;
        self.storing.insert(number, Storing { since, failed: None });
        Some(Letter {
            number,
            operation,
            error,
            seed: seed(),
        })
    }

    /// An attempt to store one, the `attempts`th, has failed, and there will be another.
    pub fn failed(&mut self, number: u64, attempts: u32, error: CoreError) {
        if let Some(storing) = self.storing.get_mut(&number) {
            storing.failed = Some((attempts, error));
        }
    }

    /// What storing the oldest of those has failed with that are failing, and how often.
    pub fn oldest_failure(&self) -> Option<(u32, &CoreError)> {
        let failing = self.storing.values().filter(|s| s.failed.is_some());
        let (attempts, error) = failing.min_by_key(|s| s.since)?.failed.as_ref()?;
        Some((*attempts, error))
    }

    /// One is stored, or cannot be.
    pub fn ended(&mut self, letter: &Letter) {
        self.storing.remove(&letter.number);
    }

    /// So many wait that nothing else is to be sent.
    pub fn are_too_many(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// Since when the oldest has been waiting or being stored.
    pub fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|(_, _, since)| *since);
        self.storing.values().map(|s| s.since).chain(waiting).min()
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
        self.storing.clear();
    }
}
