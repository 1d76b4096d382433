//! Waiting between attempts: what the service asks for goes first, else exponential backoff with jitter.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::config::RetryConfig;
use crate::error::CoreError;

/// The attempts of one request or operation.
pub struct Attempts {
    config: RetryConfig,
    backoff: ExponentialBackoff,
    made: u32,
    started: Instant,
}

impl Attempts {
    /// The first attempt begins now.
    pub fn new(config: &RetryConfig) -> Self {
        Attempts {
            config: *config,
            backoff: backoff(config),
            made: 1,
            started: Instant::now(),
        }
    }

    /// Attempts made so far, the first included.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// How long to wait before the next attempt; `None` when the error is final, the attempts are used up or the wait
    /// would pass the deadline.
    pub fn next(&mut self, error: &CoreError) -> Option<Duration> {
        if !error.kind.is_retryable() || self.made >= self.config.max_attempts {
            return None;
        }
        let asked = error
            .retry_after_ms
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis);
        // The service's own wait is not counted as a step of ours.
        let wait = asked.unwrap_or_else(|| self.backoff.next().unwrap_or(self.config.max_backoff));
        if self.started.elapsed() + wait > self.config.deadline {
            return None;
        }
        self.made += 1;
        Some(wait)
    }
}

/// Endless steps from `backoff` up to `max_backoff`, doubling, with jitter (which at most doubles a step).
fn backoff(config: &RetryConfig) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(config.backoff)
        .with_max_delay(config.max_backoff)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn config() -> RetryConfig {
        RetryConfig {
            max_attempts: 4,
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(40),
            deadline: Duration::from_secs(60),
        }
    }

    fn error(kind: Kind, retry_after_ms: Option<u64>) -> CoreError {
        CoreError {
            retry_after_ms,
            ..CoreError::new(kind, "x")
        }
    }

    #[test]
    fn waits_grow_within_bounds_and_end() {
        let mut attempts = Attempts::new(&config());
        let waits: Vec<_> = std::iter::from_fn(|| attempts.next(&error(Kind::Transient, None))).collect();
        assert_eq!((waits.len(), attempts.made()), (3, 4));
        assert!(
            waits
                .iter()
                .all(|w| *w >= Duration::from_millis(10) && *w <= Duration::from_millis(80)),
            "{waits:?}"
        );
    }

    #[test]
    fn the_service_decides_when_it_asks() {
        let wait = Attempts::new(&config()).next(&error(Kind::Throttled, Some(1234)));
        assert_eq!(wait, Some(Duration::from_millis(1234)));
        assert_eq!(
            Attempts::new(&config()).next(&error(Kind::Throttled, Some(61_000))),
            None
        );
    }

    #[test]
    fn final_errors_are_not_repeated() {
        assert_eq!(Attempts::new(&config()).next(&error(Kind::Conflict, None)), None);
    }
}
