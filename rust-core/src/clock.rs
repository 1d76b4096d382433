//! The time of day, as it is written into pages and compared with the times of documents.
//!
//! What is only measured or waited for is a matter of [`tokio::time::Instant`]. This is the one place that asks the system's clock, so
//! that a simulation, in which tokio's time stands still unless something sleeps, has a time of day that goes along with it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::time::{to_rfc3339, OffsetDateTime};
use tokio::time::Instant;

thread_local! {
    /// The time of day at an instant, on the thread of a simulation.
    static SIMULATED: Cell<Option<(i64, Instant)>> = const { Cell::new(None) };
}

/// A moment, for what is measured and for what is compared with the times of documents.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By tokio's clock: for waits and for what is measured.
    pub instant: Instant,
    /// Milliseconds since the epoch.
    pub epoch_millis: i64,
}

impl Now {
    /// This moment.
    pub fn read() -> Now {
        Now {
            instant: Instant::now(),
            epoch_millis: epoch_millis(),
        }
    }
}

/// Now, in milliseconds since the epoch.
pub fn epoch_millis() -> i64 {
    match SIMULATED.get() {
        Some((base, since)) => base.saturating_add(millis(since.elapsed())),
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
    }
}

/// Now, in RFC 3339 and UTC.
pub fn text() -> String {
    text_of(epoch_millis())
}

/// Milliseconds since the epoch in RFC 3339 and UTC.
pub fn text_of(epoch_millis: i64) -> String {
    let nanos = i128::from(epoch_millis) * 1_000_000;
    // No clock shows the year 10,000.
    to_rfc3339(&OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// For simulations: from now on this thread's time of day is `base`, in milliseconds since the epoch, and what passes of tokio's time;
/// with `None` it is the system's again. Called within the runtime whose time is paused.
#[doc(hidden)]
pub fn simulate(base: Option<i64>) {
    SIMULATED.set(base.map(|base| (base, Instant::now())));
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_simulation_has_a_time_of_day_of_its_own_that_goes_along_with_tokios() {
        const BASE: i64 = 1_000;
        assert!(epoch_millis() > 1_700_000_000_000, "the system's");
        simulate(Some(BASE));
        std::thread::sleep(Duration::from_millis(5));
        let now = epoch_millis();
        assert!((BASE + 5..BASE + 600_000).contains(&now), "{now}");
        let elsewhere = std::thread::spawn(epoch_millis).join().unwrap();
        assert!(elsewhere > 1_700_000_000_000, "another thread has the system's");
        simulate(None);
        assert!(epoch_millis() > 1_700_000_000_000);
    }
}
