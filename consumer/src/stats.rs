//! What the consumer knows: which ids it has seen, how many events came, and how long they took.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cosmosflink_digest::IdsDigest;
use hdrhistogram::Histogram;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use crate::batch::Event;

/// Seconds of history kept for the live page.
const HISTORY: usize = 600;
/// One day in milliseconds; a longer latency counts as one day, so that the histogram stays small.
const LONGEST_LATENCY: u64 = 86_400_000;

/// The ids seen last, at most `capacity` of them: about 50 bytes each, however long the id is.
#[derive(Debug)]
pub struct Window {
    seen: HashSet<u128>,
    order: VecDeque<u128>,
    capacity: usize,
    forgotten: u64,
}

impl Window {
    /// A window of `capacity` ids, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            seen: HashSet::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
            forgotten: 0,
        }
    }

    /// Whether the id is new; it is remembered, and the oldest is forgotten when there is no room left.
    pub fn insert(&mut self, hash: u128) -> bool {
        if !self.seen.insert(hash) {
            return false;
        }
        if self.order.len() == self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
                self.forgotten += 1;
            }
        }
        self.order.push_back(hash);
        true
    }

    /// How many ids were forgotten. Above zero, a duplicate of one of them would count as new.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// Percentiles of the end-to-end latency of the unique events that carry `createdAt`, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Events measured.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// The answer of `/stats`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Events of all good batches, duplicates included.
    pub received: u64,
    /// Events whose id was new.
    pub unique: u64,
    /// Events whose id had been seen.
    pub duplicates: u64,
    /// Good batches.
    pub batches: u64,
    /// Batches refused for their content.
    pub malformed: u64,
    /// Batches refused for their size.
    pub too_large: u64,
    /// Ids forgotten because the window was full; above zero, `unique` may be too high.
    pub dedup_window_exceeded: u64,
    /// End-to-end latency.
    pub latency_millis: Latency,
    /// Events per second between the first and the last arrival.
    pub rate_per_second: f64,
    /// Events per second over the last five full seconds.
    pub recent_rate_per_second: f64,
    /// RFC 3339; absent before the first event.
    pub first_at: Option<String>,
    /// RFC 3339; absent before the first event.
    pub last_at: Option<String>,
    /// Digest of the unique ids, as `cosmosflink-digest` defines it.
    pub ids_digest: String,
}

/// One second of the live page.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Epoch seconds.
    pub t: u64,
    /// Events received in this second.
    pub received: u64,
    /// Median latency of this second in milliseconds, when something was measured.
    pub p50: Option<u64>,
    /// 99th percentile of this second in milliseconds, when something was measured.
    pub p99: Option<u64>,
}

/// What happened to the events of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Events that were new.
    pub accepted: u64,
    /// Events that had been seen before.
    pub duplicates: u64,
}

struct Inner {
    window: Window,
    digest: IdsDigest,
    unique: u64,
    duplicates: u64,
    batches: u64,
    malformed: u64,
    too_large: u64,
    latency: Histogram<u64>,
    first_at: Option<i64>,
    last_at: Option<i64>,
    second: Histogram<u64>,
    second_received: u64,
    history: VecDeque<Sample>,
}

/// The consumer's counters, shared by all connections.
pub struct Stats(Mutex<Inner>);

impl Stats {
    /// Counters at zero, with room for `max_ids` ids.
    pub fn new(max_ids: usize) -> Self {
        Self(Mutex::new(Inner {
            window: Window::new(max_ids),
            digest: IdsDigest::default(),
            unique: 0,
            duplicates: 0,
            batches: 0,
            malformed: 0,
            too_large: 0,
            latency: histogram(),
            first_at: None,
            last_at: None,
            second: histogram(),
            second_received: 0,
            history: VecDeque::with_capacity(HISTORY),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counters stay usable after a panic elsewhere: each is whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a whole batch that arrived at `now` (epoch milliseconds); `on_new` sees every event whose id is new.
    pub fn accept<'a>(&self, events: &[Event<'a>], now: i64, mut on_new: impl FnMut(&Event<'a>)) -> Accepted {
        let mut inner = self.lock();
        let mut new = 0;
        for event in events {
            if !inner.window.insert(event.hash) {
                continue;
            }
            new += 1;
            inner.digest.add(event.hash);
            if let Some(created) = event.created_at {
                // Clocks differ between machines: an event from the future took no time.
                let took = u64::try_from(now.saturating_sub(created)).unwrap_or(0);
                inner.latency.saturating_record(took);
                inner.second.saturating_record(took);
            }
            on_new(event);
        }
        let received = events.len() as u64;
        inner.unique += new;
        inner.duplicates += received - new;
        inner.batches += 1;
        inner.second_received += received;
        if received > 0 {
            inner.first_at.get_or_insert(now);
            inner.last_at = Some(now);
        }
        Accepted {
            accepted: new,
            duplicates: received - new,
        }
    }

    /// Counts a batch refused for its content.
    pub fn count_malformed(&self) {
        self.lock().malformed += 1;
    }

    /// Counts a batch refused for its size.
    pub fn count_too_large(&self) {
        self.lock().too_large += 1;
    }

    /// Ends a second of the history; to be called once a second.
    pub fn tick(&self, epoch_seconds: u64) {
        let mut inner = self.lock();
        let measured = !inner.second.is_empty();
        let sample = Sample {
            t: epoch_seconds,
            received: std::mem::take(&mut inner.second_received),
            p50: measured.then(|| inner.second.value_at_quantile(0.5)),
            p99: measured.then(|| inner.second.value_at_quantile(0.99)),
        };
        inner.second.reset();
        if inner.history.len() == HISTORY {
            inner.history.pop_front();
        }
        inner.history.push_back(sample);
    }

    /// The last ten minutes, one sample a second, oldest first.
    pub fn history(&self) -> Vec<Sample> {
        self.lock().history.iter().cloned().collect()
    }

    /// How many unique events took how long since the start: milliseconds, to three digits, and events, in the order of the milliseconds. The
    /// difference of two answers is what arrived between them.
    pub fn latencies(&self) -> Vec<(u64, u64)> {
        let inner = self.lock();
        let recorded = inner.latency.iter_recorded();
        recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }

    /// The numbers of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let received = inner.unique + inner.duplicates;
        let seconds = match (inner.first_at, inner.last_at) {
            (Some(first), Some(last)) => (last - first).max(0) as f64 / 1000.0,
            _ => 0.0,
        };
        let recent: Vec<u64> = inner.history.iter().rev().take(5).map(|s| s.received).collect();
        Snapshot {
            received,
            unique: inner.unique,
            duplicates: inner.duplicates,
            batches: inner.batches,
            malformed: inner.malformed,
            too_large: inner.too_large,
            dedup_window_exceeded: inner.window.forgotten(),
            latency_millis: Latency::of(&inner.latency),
            rate_per_second: if seconds > 0.0 {
                received as f64 / seconds
            } else {
                0.0
            },
            recent_rate_per_second: recent.iter().sum::<u64>() as f64 / recent.len().max(1) as f64,
            first_at: inner.first_at.and_then(rfc3339),
            last_at: inner.last_at.and_then(rfc3339),
            ids_digest: inner.digest.to_string(),
        }
    }
}

impl Snapshot {
    /// The snapshot in the text format of Prometheus.
    pub fn prometheus(&self) -> String {
        let mut out = String::with_capacity(2048);
        // Writing to a String cannot fail.
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, f64)]| {
            let _ = writeln!(out, "# HELP cosmosflink_consumer_{name} {help}");
            let _ = writeln!(out, "# TYPE cosmosflink_consumer_{name} {kind}");
            for (suffix, value) in samples {
                let _ = writeln!(out, "cosmosflink_consumer_{name}{suffix} {value}");
            }
        };
        let mut counter =
            |name: &str, help: &str, value: u64| family(name, "counter", help, &[("", value as f64)]);
        counter(
            "events_received_total",
            "Events of all good batches.",
            self.received,
        );
        counter("events_unique_total", "Events whose id was new.", self.unique);
        counter(
            "events_duplicate_total",
            "Events whose id had been seen.",
            self.duplicates,
        );
        counter("batches_total", "Good batches.", self.batches);
        counter(
            "batches_malformed_total",
            "Batches refused for their content.",
            self.malformed,
        );
        counter(
            "batches_too_large_total",
            "Batches refused for their size.",
            self.too_large,
        );
        counter(
            "ids_forgotten_total",
            "Ids that left the de-duplication window.",
            self.dedup_window_exceeded,
        );
        let latency = &self.latency_millis;
        let seconds = |millis: u64| millis as f64 / 1000.0;
        family(
            "latency_seconds",
            "gauge",
            "End-to-end latency since the start, by quantile.",
            &[
                ("{quantile=\"0.5\"}", seconds(latency.p50)),
                ("{quantile=\"0.9\"}", seconds(latency.p90)),
                ("{quantile=\"0.99\"}", seconds(latency.p99)),
                ("{quantile=\"1\"}", seconds(latency.max)),
            ],
        );
        family(
            "rate",
            "gauge",
            "Events per second, last five seconds.",
            &[("", self.recent_rate_per_second)],
        );
        out
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_LATENCY, 3).expect("constant bounds are valid")
}

fn rfc3339(epoch_millis: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_millis) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}

/// Now, in epoch milliseconds.
pub fn now_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cosmosflink_digest::hash_id;

    fn event(id: &str, created_at: Option<i64>) -> Event<'static> {
        Event {
            hash: hash_id(id),
            created_at,
            raw: "",
        }
    }

    #[test]
    fn the_window_forgets_the_oldest_and_counts_it() {
        let mut window = Window::new(2);
        assert!(window.insert(1) && window.insert(2));
        assert!(!window.insert(1), "still in the window");
        assert_eq!(window.forgotten(), 0);
        assert!(window.insert(3), "pushes 1 out");
        assert_eq!(window.forgotten(), 1);
        assert!(!window.insert(2), "2 is younger than 1");
        assert!(window.insert(1), "forgotten, so new again");
        assert_eq!(window.seen.len(), 2);
        assert_eq!(window.order.len(), 2);
    }

    #[test]
    fn duplicates_count_in_and_across_batches_but_not_in_the_digest() {
        let stats = Stats::new(100);
        let mut new = 0;
        let first = stats.accept(
            &[event("a", None), event("b", None), event("a", None)],
            1_000,
            |_| new += 1,
        );
        assert_eq!(
            first,
            Accepted {
                accepted: 2,
                duplicates: 1
            }
        );
        assert_eq!(new, 2);
        let second = stats.accept(&[event("b", None), event("c", None)], 3_000, |_| ());
        assert_eq!(
            second,
            Accepted {
                accepted: 1,
                duplicates: 1
            }
        );
        let s = stats.snapshot();
        assert_eq!((s.received, s.unique, s.duplicates, s.batches), (5, 3, 2, 2));
        let expected: IdsDigest = ["c", "b", "a"].iter().map(|id| hash_id(id)).collect();
        assert_eq!(s.ids_digest, expected.to_string());
        assert_eq!(s.rate_per_second, 2.5, "five events in two seconds");
        assert_eq!(s.first_at.as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(s.last_at.as_deref(), Some("1970-01-01T00:00:03Z"));
    }

    #[test]
    fn latency_is_that_of_the_first_arrival_and_never_negative() {
        let stats = Stats::new(100);
        stats.accept(
            &[event("a", Some(900)), event("b", Some(2_000)), event("c", None)],
            1_000,
            |_| (),
        );
        stats.accept(&[event("a", Some(900))], 9_000, |_| ());
        let latency = stats.snapshot().latency_millis;
        assert_eq!((latency.count, latency.max), (2, 100));
        stats.accept(&[event("d", Some(i64::MIN))], i64::MAX, |_| ());
        assert!(stats.snapshot().latency_millis.max <= LONGEST_LATENCY * 2);
        assert_eq!(stats.latencies()[..2], [(0, 1), (100, 1)]);
    }

    #[test]
    fn the_history_is_bounded_and_says_what_happened_in_a_second() {
        let stats = Stats::new(100);
        stats.accept(&[event("a", Some(0))], 50, |_| ());
        stats.tick(1);
        stats.tick(2);
        let history = stats.history();
        assert_eq!((history[0].received, history[0].p50), (1, Some(50)));
        assert_eq!((history[1].received, history[1].p50), (0, None));
        (3..2_000).for_each(|t| stats.tick(t));
        let history = stats.history();
        assert_eq!((history.len(), history[HISTORY - 1].t), (HISTORY, 1_999));
    }

    #[test]
    fn prometheus_text_names_every_counter_once() {
        let stats = Stats::new(10);
        stats.accept(&[event("a", Some(0)), event("a", None)], 1_500, |_| ());
        stats.count_malformed();
        let text = stats.snapshot().prometheus();
        assert!(
            text.contains("\ncosmosflink_consumer_events_received_total 2\n"),
            "{text}"
        );
        assert!(
            text.contains("\ncosmosflink_consumer_batches_malformed_total 1\n"),
            "{text}"
        );
        assert!(
            text.contains("cosmosflink_consumer_latency_seconds{quantile=\"1\"} 1.5\n"),
            "{text}"
        );
        let types = text.lines().filter(|l| l.starts_with("# TYPE")).count();
        assert_eq!(types, text.lines().filter(|l| l.starts_with("# HELP")).count());
    }
}
