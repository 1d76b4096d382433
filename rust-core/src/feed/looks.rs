//! When the partitions may be looked up for the end of a reading. Decides by times and answers alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RetryConfig;
use crate::error::{CoreError, Kind};
use crate::retry::Attempts;
use crate::status::Next;

/// Look-ups pass through no cache of the driver's, and each reads all partitions of the container: they are at least so far apart, but for one that
/// may end the reading.
const APART: Duration = Duration::from_secs(5);

/// The look-ups of one split.
pub(super) struct Looks {
    retry: RetryConfig,
    /// Those since the last one that was answered.
    attempts: Attempts,
    answered: Option<Instant>,
    /// Nothing is looked up before that, since the last look-up failed.
    not_before: Option<Instant>,
}

impl Looks {
    pub fn new(retry: &RetryConfig) -> Looks {
        Looks {
            retry: *retry,
            attempts: Attempts::new(retry),
            answered: None,
            not_before: None,
        }
    }

    /// Whether a look-up is due. `ends`: it may end the reading.
    pub fn are_due(&self, ends: bool, now: Instant) -> bool {
        let is_recent = |at: Instant| now.duration_since(at) < APART;
        self.not_before.is_none_or(|at| now >= at) && (ends || !self.answered.is_some_and(is_recent))
    }

    /// Whether the last look-up failed.
    pub fn last_failed(&self) -> bool {
        self.not_before.is_some()
    }

    /// A look-up was answered.
    pub fn answered(&mut self, now: Instant) {
        *self = Looks {
            answered: Some(now),
            ..Looks::new(&self.retry)
        };
    }

    /// A look-up failed; the failure to end the reading with, where it is final or they have failed for too long.
    pub fn failed(&mut self, error: CoreError, now: Instant) -> Option<CoreError> {
        let Some(wait) = self.attempts.next(&error, now) else {
            return Some(CoreError {
                next: Next::End,
                ..error.while_doing("looking up the partitions, which decide whether the stop is reached")
            });
        };
        self.not_before = Some(now + wait.max(APART));
        None
    }

    /// A look-up failed that can be done without: there is another one later, however often it fails.
    pub fn failed_for_now(&mut self, error: &CoreError, now: Instant) {
        let wait = match error.kind {
            Kind::Throttled => error.retry_after_ms.map(Duration::from_millis),
            _ => None,
        };
        self.not_before = Some(now + wait.unwrap_or_default().max(APART));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn looks() -> Looks {
        Looks::new(&RetryConfig {
            max_attempts: 100,
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(40),
            deadline: 60 * SECOND,
            throttled_deadline: None,
        })
    }

    #[test]
    fn partitions_are_looked_up_every_few_seconds_or_where_that_may_be_the_end() {
        let (mut looks, start) = (looks(), Instant::now());
        assert!(looks.are_due(false, start));
        looks.answered(start);
        assert!(!looks.are_due(false, start + 4 * SECOND));
        assert!(looks.are_due(true, start + SECOND));
        assert!(looks.are_due(false, start + 5 * SECOND));
    }

    #[test]
    fn one_that_fails_is_tried_again_later_and_fails_the_reading_in_the_end() {
        let (mut looks, start) = (looks(), Instant::now());
        let fails = || CoreError::new(Kind::Transient, "they cannot be read now");
        for step in 0..12 {
            let now = start + step * 5 * SECOND;
            assert!(looks.are_due(true, now));
            assert!(looks.failed(fails(), now).is_none());
            assert!(!looks.are_due(true, now + 4 * SECOND) && looks.last_failed());
        }
        let error = looks.failed(fails(), start + 61 * SECOND).unwrap();
        assert_eq!((error.kind, error.next), (Kind::Transient, Next::End));
        assert!(error.message.contains("they cannot be read now"), "{error}");
        // An answer in between begins anew.
        let mut looks = self::looks();
        assert!(looks.failed(fails(), start).is_none());
        looks.answered(start + 30 * SECOND);
        assert!(looks.are_due(true, start + 30 * SECOND) && !looks.last_failed());
        assert!(looks.failed(fails(), start + 61 * SECOND).is_none());
        // Throttling is waited out.
        let throttled = CoreError {
            retry_after_ms: Some(9_000),
            ..CoreError::new(Kind::Throttled, "slow down")
        };
        assert!(looks.failed(throttled, start + 3600 * SECOND).is_none());
        assert!(!looks.are_due(true, start + 3608 * SECOND));
        assert!(looks.are_due(true, start + 3609 * SECOND));
    }
}
