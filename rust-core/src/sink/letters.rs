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
    number: u64,
    pub operation: Operation,
    /// What it was refused with.
    pub error: CoreError,
    /// Seed of the waits between attempts to store it.
    pub seed: u64,
}

#[derive(Default)]
pub struct Letters {
    /// With the moment of their refusal.
    waiting: VecDeque<(Operation, CoreError, Instant)>,
    /// Those that are being stored, by number: when their operations were refused.
    storing: BTreeMap<u64, Instant>,
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
        self.storing.insert(number, since);
        Some(Letter {
            number,
            operation,
            error,
            seed: seed(),
        })
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
        self.storing.values().copied().chain(waiting).min()
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
        self.storing.clear();
    }
}
