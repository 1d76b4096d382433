//! The one place that decides whether to try again, and how long to wait: what the service asks for goes first, else
//! exponential backoff with jitter.
//!
//! [`Attempts`] is the decision alone, without clock or sleep. [`until_answered`] is the loop around it, for whatever is asked for as
//! one request; the source's fetchers and the sink's operations carry their own [`Attempts`] along.

use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::config::RetryConfig;
use crate::error::{CoreError, Result};
use crate::metrics::Metrics;
use crate::status::Next;

/// The attempts of one request or operation since it last went well.
///
/// Throttling is waited out for as long as it takes, or until its own limit. It also proves that the service is there: the clock and the
/// count of what failed otherwise begin anew behind it.
pub struct Attempts {
    config: RetryConfig,
    /// Of the jitter.
    seed: u64,
    /// Made at the first failure: most requests have none.
    backoff: Option<ExponentialBackoff>,
    made: u32,
    /// Failures that were not throttling, since the last that was.
    failed: u32,
    /// When the first of those came.
    failing_since: Option<Instant>,
    throttled_since: Option<Instant>,
    held_since: Option<Instant>,
}

impl Attempts {
    /// The first attempt is under way. No clock runs before it fails. The jitter is another one in each process.
    pub fn new(config: &RetryConfig) -> Self {
        Self::seeded(config, fastrand::u64(..))
    }

    /// The same with a seed for the jitter: what came out once can be had again.
    pub fn seeded(config: &RetryConfig, seed: u64) -> Self {
        Attempts {
            config: *config,
            seed,
            backoff: None,
            made: 1,
            failed: 0,
            failing_since: None,
            throttled_since: None,
            held_since: None,
        }
    }

    /// Attempts made so far, the first included.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// When the first failure came.
    pub fn held_since(&self) -> Option<Instant> {
        self.held_since
    }

    /// Leaves time out of the clocks in which nothing was asked, since the caller was held back.
    pub fn leave_out(&mut self, time: Duration) {
        for since in [&mut self.failing_since, &mut self.throttled_since] {
            *since = since.map(|since| since + time);
        }
    }

    /// How long to wait before the next attempt, after one that failed at `now`; `None` when the failure is final, the attempts are
    /// used up or the wait would pass the deadline.
    pub fn next(&mut self, error: &CoreError, now: Instant) -> Option<Duration> {
        self.held_since.get_or_insert(now);
        let (since, limit) = match error.next {
            Next::Done | Next::Superseded | Next::Compare | Next::Confirm | Next::End => return None,
            Next::Wait => {
                (self.failed, self.failing_since) = (0, None);
                let since = *self.throttled_since.get_or_insert(now);
                (since, self.config.throttled_deadline)
            }
            Next::Retry | Next::Reread | Next::Reroute | Next::Halve => {
                self.failed += 1;
                let since = *self.failing_since.get_or_insert(now);
                (since, Some(self.config.deadline))
            }
        };
        if self.failed >= self.config.max_attempts {
            return None;
        }
        let asked = error
            .retry_after_ms
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis);
        // The service's own wait is not counted as a step of ours.
        let wait = asked.unwrap_or_else(|| self.step());
        if limit.is_some_and(|limit| now.duration_since(since) + wait > limit) {
            return None;
        }
        self.made += 1;
        Some(wait)
    }

    fn step(&mut self) -> Duration {
        let (config, seed) = (self.config, self.seed);
        let backoff = self.backoff.get_or_insert_with(|| backoff(&config, seed));
        backoff.next().unwrap_or(config.max_backoff)
    }
}

/// Endless doubling steps from `backoff` on, each with jitter of up to its own length. With it none is longer than `max_backoff`, and at
/// the ceiling there is jitter still.
fn backoff(config: &RetryConfig, seed: u64) -> ExponentialBackoff {
    let ceiling = config.max_backoff / 2;
    ExponentialBuilder::default()
        .with_min_delay(config.backoff.min(ceiling))
        .with_max_delay(ceiling)
        .with_jitter()
        .with_jitter_seed(seed)
        .without_max_times()
        .build()
}

/// Asks until there is an answer or a final failure. `attempt` must be safe to repeat.
///
/// # Errors
/// The last failure, when it is final, the attempts are used up or the deadline has passed.
pub async fn until_answered<T, F>(
    attempts: Attempts,
    metrics: &Metrics,
    what: &str,
    attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    until_answered_telling(attempts, metrics, what, attempt, |_, _, _| ()).await
}

/// The same. Before each wait, `waits` is told how many attempts have been made, what the last one failed with, and how long the wait is.
///
/// # Errors
/// Those of [`until_answered`].
pub async fn until_answered_telling<T, F>(
    mut attempts: Attempts,
    metrics: &Metrics,
    what: &str,
    attempt: impl FnMut() -> F,
    waits: impl Fn(u32, &CoreError, Duration),
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    until_answered_with(&mut attempts, metrics, what, attempt, waits).await
}

/// The same with attempts that go on behind an answer: for one that is only a part, of which it is not known yet whether anything came of it.
///
/// # Errors
/// Those of [`until_answered`].
pub async fn until_answered_with<T, F>(
    attempts: &mut Attempts,
    metrics: &Metrics,
    what: &str,
    mut attempt: impl FnMut() -> F,
    waits: impl Fn(u32, &CoreError, Duration),
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    loop {
        let error = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        metrics.failure(&error);
        let Some(wait) = attempts.next(&error, Instant::now()) else {
            return Err(error);
        };
        metrics.retries.fetch_add(1, Relaxed);
        let made = attempts.made() - 1;
        tracing::debug!(target: "cosmosflink::retry", "{what}: waiting {wait:?} after attempt {made}: {error}");
        waits(made, &error, wait);
        tokio::time::sleep(wait).await;
    }
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
            throttled_deadline: None,
        }
    }

    fn error(kind: Kind, retry_after_ms: Option<u64>) -> CoreError {
        CoreError {
            retry_after_ms,
            ..CoreError::new(kind, "x")
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_within_bounds_and_end() {
        let (mut attempts, now) = (Attempts::new(&config()), Instant::now());
        let waits: Vec<_> =
            std::iter::from_fn(|| attempts.next(&error(Kind::Transient, None), now)).collect();
        assert_eq!((waits.len(), attempts.made()), (3, 4));
        assert!(
            waits
                .iter()
                .all(|w| *w >= Duration::from_millis(10) && *w <= Duration::from_millis(40)),
            "{waits:?}"
        );
    }

    #[test]
    fn the_service_decides_when_it_asks() {
        let next = |kind, ms| Attempts::new(&config()).next(&error(kind, Some(ms)), Instant::now());
        assert_eq!(next(Kind::Throttled, 1234), Some(Duration::from_millis(1234)));
        assert_eq!(next(Kind::Transient, 61_000), None);
        assert_eq!(next(Kind::Throttled, 61_000), Some(61 * SECOND));
    }

    #[test]
    fn final_errors_are_not_repeated() {
        let next = Attempts::new(&config()).next(&error(Kind::Conflict, None), Instant::now());
        assert_eq!(next, None);
    }

    #[test]
    fn throttling_never_ends_unless_an_option_limits_it() {
        let (mut attempts, start) = (Attempts::new(&config()), Instant::now());
        for hour in 0..1000 {
            let now = start + hour * 3600 * SECOND;
            assert!(attempts.next(&error(Kind::Throttled, None), now).is_some());
        }
        assert_eq!(attempts.held_since(), Some(start));
        let limited = RetryConfig {
            throttled_deadline: Some(10 * SECOND),
            ..config()
        };
        let mut attempts = Attempts::new(&limited);
        assert!(attempts.next(&error(Kind::Throttled, None), start).is_some());
        assert!(attempts
            .next(&error(Kind::Throttled, None), start + 9 * SECOND)
            .is_some());
        assert!(attempts
            .next(&error(Kind::Throttled, None), start + 10 * SECOND)
            .is_none());
    }

    #[test]
    fn the_clock_starts_at_the_first_failure_and_anew_behind_throttling() {
        let (mut attempts, start) = (Attempts::new(&config()), Instant::now());
        // An idle hour before the first failure does not count.
        let failed = start + 3600 * SECOND;
        assert!(attempts.next(&error(Kind::Transient, None), failed).is_some());
        assert!(attempts
            .next(&error(Kind::Throttled, None), failed + 600 * SECOND)
            .is_some());
        let again = failed + 1200 * SECOND;
        assert!(attempts.next(&error(Kind::Transient, None), again).is_some());
        assert!(attempts
            .next(&error(Kind::Transient, None), again + 59 * SECOND)
            .is_some());
        assert!(attempts
            .next(&error(Kind::Transient, None), again + 61 * SECOND)
            .is_none());
    }

    #[test]
    fn time_in_which_nothing_was_asked_does_not_count() {
        let (mut attempts, start) = (Attempts::new(&config()), Instant::now());
        assert!(attempts.next(&error(Kind::Transient, None), start).is_some());
        attempts.leave_out(3600 * SECOND);
        let resumed = start + 3600 * SECOND;
        assert!(attempts
            .next(&error(Kind::Transient, None), resumed + 59 * SECOND)
            .is_some());
        assert!(attempts
            .next(&error(Kind::Transient, None), resumed + 60 * SECOND)
            .is_none());
    }

    #[test]
    fn two_tasks_do_not_retry_in_step() {
        let config = RetryConfig {
            max_attempts: 100,
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_secs(100),
            ..config()
        };
        let waits = || -> Vec<_> {
            let (mut attempts, now) = (Attempts::new(&config), Instant::now());
            (0..10)
                .map(|_| attempts.next(&error(Kind::Transient, None), now))
                .collect()
        };
        let all: std::collections::HashSet<_> = (0..20).map(|_| waits()).collect();
        assert_eq!(all.len(), 20, "tasks wait alike");
    }
}
