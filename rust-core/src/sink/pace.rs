//! How much is asked of one physical partition at the same time: less when it throttles or answers slowly, more while it answers well.
//! Decides alone, and is given the time.
//!
//! One number says it, the window: how many operations may be under way in bulk requests. It is cut by a part of itself where the service
//! turns operations away, and grows by a fixed number with each answer in which none was. The size of the requests and how many there
//! are at the same time follow from it. A partition that was never throttled has the whole of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;

/// Without a cut for so long, the partition is like one that was never throttled.
const QUIET: Duration = Duration::from_secs(30);

/// What was written counts for about so long, and what answers took for twice as long at most.
const MEMORY: Duration = Duration::from_secs(10);

/// An answer in less time is not slow, whatever others took.
const SLOW: Duration = Duration::from_secs(1);

/// And so much longer for each [`MIB`] of the request.
const SLOW_PER_MIB: Duration = Duration::from_secs(1);

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// How often as long as the quickest answers one takes that is slow.
const SLOW_FACTOR: f64 = 4.0;

/// What is cut for a slow answer, as if this share of its operations had been turned away.
const SLOW_SHARE: f64 = 0.5;

/// A request takes time that does not depend on its operations: as much as so many of them.
const OVERHEAD: f64 = 10.0;

/// Request units of a write for each KiB that is written, about. What the service charges says more than the bytes where it reads, or
/// keeps more than it was sent.
const UNITS_PER_KIB: f64 = 6.0;

/// What the options allow one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of one bulk request, at least 1.
    pub operations: usize,
    /// Bulk requests under way, at least 1.
    pub requests: usize,
}

impl Limits {
    pub fn of(config: &Config) -> Limits {
        Limits {
            operations: config.max_operations,
            requests: config.partition_concurrency,
        }
    }

    fn window(self) -> f64 {
        (self.operations * self.requests) as f64
    }

    /// What an answer without a refusal adds to the window.
    fn step(self) -> f64 {
        (self.operations as f64 / 10.0).max(1.0)
    }
}

/// A request that has come back.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When it was sent.
    pub sent: Instant,
    /// Operations in it, at least 1.
    pub operations: usize,
    /// Bytes of their documents.
    pub bytes: usize,
    /// Request units that they cost.
    pub charge: f64,
    /// Those of them that were throttled.
    pub throttled: usize,
    /// Those that failed otherwise, and may come back.
    pub failed: usize,
}

impl Answered {
    /// How much there was to do: time that a quick partition takes for it grows with this. An operation of a KiB counts as two.
    fn work(&self) -> f64 {
        let kib = (self.bytes as f64 / KIB).max(self.charge / UNITS_PER_KIB);
        OVERHEAD + self.operations as f64 + kib
    }

    /// An answer in less time is not slow, whatever others took.
    fn not_slow(&self) -> Duration {
        SLOW + SLOW_PER_MIB.mul_f64(self.bytes as f64 / MIB)
    }
}

/// Seconds that a part of the work took in the quickest answers of late. What was quick long ago says nothing of now: the service may have
/// gone to a region that is further away.
#[derive(Clone, Copy, Debug, Default)]
struct Quickest {
    /// Of the time since then, at most [`MEMORY`].
    now: Option<(Instant, f64)>,
    /// Of as long a time before that.
    before: Option<f64>,
}

impl Quickest {
    fn get(&self, now: Instant) -> Option<f64> {
        let (since, each) = self.now?;
        match now.saturating_duration_since(since) {
            age if age < MEMORY => Some(self.before.map_or(each, |before| each.min(before))),
            age if age < 2 * MEMORY => Some(each),
            _ => None,
        }
    }

    fn learn(&mut self, now: Instant, each: f64) {
        let last = self
            .now
            .map(|(since, each)| (now.saturating_duration_since(since), each));
        match (last, &mut self.now) {
            (Some((age, _)), Some((_, quickest))) if age < MEMORY => *quickest = quickest.min(each),
            (last, _) => {
                self.before = last.filter(|(age, _)| *age < 2 * MEMORY).map(|(_, each)| each);
                self.now = Some((now, each));
            }
        }
    }

    /// What is known of both.
    fn join(&mut self, other: &Quickest, now: Instant) {
        let all = self.get(now).into_iter().chain(other.get(now));
        let quickest = all.reduce(f64::min);
        *self = Quickest {
            now: quickest.map(|each| (now, each)),
            before: None,
        };
    }
}

/// The pace of one partition.
#[derive(Clone, Debug)]
pub struct Pace {
    limits: Limits,
    /// Operations that may be under way in bulk requests: from 1 to all that the limits allow.
    window: f64,
    /// When it was cut last.
    cut_at: Option<Instant>,
    /// The service has asked to be left alone until then.
    held_until: Option<Instant>,
    /// What answers take while the partition is well.
    quickest: Quickest,
    /// Operations written, those of long ago counting less, as of the time beside it.
    written: (f64, Option<Instant>),
}

impl Pace {
    pub fn new(limits: Limits) -> Pace {
        Pace {
            limits,
            window: limits.window(),
            cut_at: None,
            held_until: None,
            quickest: Quickest::default(),
            written: (0.0, None),
        }
    }

    fn window(&self, now: Instant) -> f64 {
        match self.cut_at {
            Some(cut) if now < cut + QUIET => self.window,
            _ => self.limits.window(),
        }
    }

    /// Bulk requests that may be under way.
    pub fn requests(&self, now: Instant) -> usize {
        let full = self.window(now) / self.limits.operations as f64;
        (full.round() as usize).clamp(1, self.limits.requests)
    }

    /// Most operations of the next bulk request.
    pub fn operations(&self, now: Instant) -> usize {
        let each = self.window(now) / self.requests(now) as f64;
        (each as usize).clamp(1, self.limits.operations)
    }

    /// Requests for one operation that may be under way, where that is limited.
    pub fn alone(&self, now: Instant) -> Option<usize> {
        self.is_slowed(now).then(|| (self.window(now) as usize).max(1))
    }

    /// Whether less is asked of the partition than the options allow.
    pub fn is_slowed(&self, now: Instant) -> bool {
        self.window(now) < self.limits.window()
    }

    /// A request has come back.
    pub fn answered(&mut self, now: Instant, request: Answered) {
        self.window = self.window(now);
        let done = request
            .operations
            .saturating_sub(request.throttled + request.failed);
        self.written = (self.written(now) + done as f64, Some(now));
        let throttled = request.throttled as f64 / request.operations.max(1) as f64;
        let slow = match self.is_slow(now, &request) {
            true => SLOW_SHARE,
            false => 0.0,
        };
        if throttled.max(slow) > 0.0 {
            // What was sent before the last cut knew nothing of it.
            if self.cut_at.is_none_or(|cut| cut <= request.sent) {
                let cut = |share: f64, least: f64| (self.window * (1.0 - share / 2.0)).max(least);
                // What is slow takes all that it is asked for in the end: a little of it can go on, and show when it is quick again.
                let least = self.limits.step().min(self.window);
                self.window = cut(throttled, 1.0).min(cut(slow, least));
                self.cut_at = Some(now);
            }
        } else if done > 0 {
            // A request that was smaller than it might have been says less. A window of few operations at most doubles.
            let used = (done as f64 / self.operations(now) as f64).min(1.0);
            let more = self.limits.step().min(self.window) * used;
            self.window = (self.window + more).min(self.limits.window());
        }
    }

    /// Whether an answer took far longer than others; learns from it what they take.
    fn is_slow(&mut self, now: Instant, request: &Answered) -> bool {
        let took = now.saturating_duration_since(request.sent);
        let each = took.as_secs_f64() / request.work();
        let quickest = self.quickest.get(now);
        let slow = took >= request.not_slow() && quickest.is_some_and(|least| each > SLOW_FACTOR * least);
        // A refusal is quick, and says nothing of what work takes.
        if request.throttled + request.failed == 0 {
            self.quickest.learn(now, each);
        }
        slow
    }

    /// Operations written of late, about as many as in the last ten seconds.
    fn written(&self, now: Instant) -> f64 {
        let (count, Some(at)) = self.written else {
            return 0.0;
        };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        count * (-passed / MEMORY.as_secs_f64()).exp()
    }

    /// How many operations may wait here without counting against those of other partitions: what the partition gets through in about ten
    /// seconds, so that a checkpoint does not wait much longer for them, and at least two requests.
    pub fn backlog(&self, now: Instant) -> usize {
        (self.written(now) as usize).max(2 * self.limits.operations)
    }

    /// The service asks to be left alone until then.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// Until when nothing is sent, if that was asked for.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// The partition goes on where this one was, or a part of it: it is asked for no more than that one was, and is left alone for as long.
    /// After a split each half has as much throughput as the whole, and grows into it; a merge has less than its parts together, and goes by
    /// the slowest of them.
    pub fn inherit(&mut self, from: &Pace, now: Instant) {
        self.window = self.window(now).min(from.window(now));
        self.cut_at = self.cut_at.max(from.cut_at);
        self.held_until = self.held_until.max(from.held_until);
        self.quickest.join(&from.quickest, now);
        self.written = (self.written(now).max(from.written(now)), Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        operations: 100,
        requests: 2,
    };

    const MILLI: Duration = Duration::from_millis(1);

    /// A request that was sent so long ago, and came back now.
    fn back(now: Instant, took: Duration, operations: usize, throttled: usize) -> Answered {
        Answered {
            sent: now - took,
            operations,
            bytes: 0,
            charge: 0.0,
            throttled,
            failed: 0,
        }
    }

    fn asks(pace: &Pace, now: Instant) -> (usize, usize) {
        (pace.operations(now), pace.requests(now))
    }

    #[test]
    fn size_and_number_of_the_requests_follow_from_the_window() {
        let now = Instant::now();
        for (window, operations, requests) in [
            (200.0, 100, 2),
            (199.0, 99, 2),
            (150.0, 75, 2),
            (140.0, 100, 1),
            (100.0, 100, 1),
            (99.9, 99, 1),
            (10.0, 10, 1),
            (1.9, 1, 1),
            (1.0, 1, 1),
        ] {
            let mut pace = Pace::new(LIMITS);
            (pace.window, pace.cut_at) = (window, Some(now));
            assert_eq!(asks(&pace, now), (operations, requests), "window {window}");
            assert_eq!(pace.is_slowed(now), window < 200.0);
        }
    }

    #[test]
    fn what_is_turned_away_is_cut_off_by_its_share_and_comes_back_step_by_step() {
        for (throttled, window) in [(100, 100.0), (50, 150.0), (10, 190.0), (1, 199.0), (0, 200.0)] {
            let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
            pace.answered(now, back(now, MILLI, 100, throttled));
            assert!(
                (pace.window - window).abs() < 1e-9,
                "{throttled}: {}",
                pace.window
            );
            for (answers, more) in [(1, 10.0), (1, 20.0), (20, 200.0)] {
                for _ in 0..answers {
                    let full = pace.operations(now);
                    pace.answered(now, back(now, Duration::ZERO, full, 0));
                }
                assert_eq!(pace.window, (window + more).min(200.0), "after {throttled}");
            }
        }
    }

    #[test]
    fn requests_that_were_under_way_together_are_one_sign() {
        let (mut pace, start) = (Pace::new(LIMITS), Instant::now());
        pace.answered(start + MILLI, back(start + MILLI, MILLI, 100, 100));
        pace.answered(start + 2 * MILLI, back(start + 2 * MILLI, 2 * MILLI, 100, 100));
        assert_eq!(asks(&pace, start + 2 * MILLI), (100, 1));
        // The next one is.
        pace.answered(start + 5 * MILLI, back(start + 5 * MILLI, 3 * MILLI, 100, 100));
        assert_eq!(asks(&pace, start + 5 * MILLI), (50, 1));
    }

    #[test]
    fn small_requests_let_a_window_grow_little() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        pace.answered(now, back(now, Duration::ZERO, 100, 100));
        for _ in 0..10 {
            pace.answered(now, back(now, Duration::ZERO, 10, 0));
        }
        assert!((109.0..=110.0).contains(&pace.window), "{}", pace.window);
    }

    #[test]
    fn a_partition_that_was_not_throttled_for_long_is_like_a_new_one() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        for _ in 0..20 {
            pace.answered(now, back(now, Duration::ZERO, 100, 100));
        }
        assert_eq!(asks(&pace, now), (1, 1));
        assert_eq!(pace.alone(now), Some(1));
        let almost = now + QUIET - MILLI;
        assert_eq!(asks(&pace, almost), (1, 1));
        assert_eq!(asks(&pace, now + QUIET), (100, 2));
        assert_eq!(pace.alone(now + QUIET), None);
    }

    #[test]
    fn answers_that_take_far_longer_than_others_count_as_half_throttled() {
        let (mut pace, mut now) = (Pace::new(LIMITS), Instant::now());
        let mut answer = |pace: &mut Pace, took: Duration, operations| {
            now += took;
            pace.answered(now, back(now, took, operations, 0));
            asks(pace, now)
        };
        // The first says what is usual, also where that is long; a lone operation is as quick as many.
        for (took, operations) in [(50, 1), (90, 100), (999, 100)] {
            assert_eq!(answer(&mut pace, took * MILLI, operations), (100, 2), "{took} ms");
        }
        assert_eq!(answer(&mut pace, 4000 * MILLI, 100), (75, 2));
        // Where each takes long, that is how it is.
        let mut far = Pace::new(LIMITS);
        for _ in 0..50 {
            assert_eq!(answer(&mut far, 3000 * MILLI, 100), (100, 2));
        }
    }

    #[test]
    fn large_documents_may_take_longer_than_small_ones() {
        let (mut now, small) = (Instant::now(), 400);
        let mut answer = |pace: &mut Pace, took: Duration, bytes, charge| {
            now += took;
            let request = Answered {
                bytes,
                charge,
                ..back(now, took, 100, 0)
            };
            pace.answered(now, request);
            pace.is_slowed(now)
        };
        let mut pace = Pace::new(LIMITS);
        assert!(!answer(&mut pace, 50 * MILLI, 100 * small, 570.0));
        // A hundred documents of 20 KiB, which is a large part of what a partition takes in a second.
        for _ in 0..20 {
            assert!(!answer(&mut pace, 1500 * MILLI, 100 * 20 * 1024, 12_000.0));
        }
        // Patches of large documents, and what is read of them, show in what they cost.
        for _ in 0..5 {
            assert!(!answer(&mut pace, 1500 * MILLI, 100 * 50, 12_000.0));
        }
        assert!(!answer(&mut pace, 50 * MILLI, 100 * small, 570.0));
        assert!(answer(&mut pace, 1500 * MILLI, 100 * small, 570.0));
    }

    #[test]
    fn what_answers_take_now_is_usual_after_a_while() {
        let (mut pace, mut now) = (Pace::new(LIMITS), Instant::now());
        pace.answered(now, back(now, 10 * MILLI, 100, 0));
        // It has become far away, for good.
        let (moved, took) = (now, 2000 * MILLI);
        let mut least = usize::MAX;
        while asks(&pace, now) != (100, 2) || now < moved + QUIET {
            now += took;
            let count = pace.operations(now);
            pace.answered(now, back(now, took, count, 0));
            least = least.min(pace.operations(now) * pace.requests(now));
            assert!(
                now < moved + Duration::from_secs(60),
                "{} after a minute",
                pace.window
            );
        }
        // What is slow and refuses nothing is never asked for next to nothing.
        assert!((10..100).contains(&least), "{least}");
        for _ in 0..20 {
            now += took;
            pace.answered(now, back(now, took, 100, 0));
            assert!(!pace.is_slowed(now));
        }
    }

    #[test]
    fn slowness_that_lasts_leaves_a_tenth_of_a_request_and_throttling_does_not() {
        let (mut pace, mut now) = (Pace::new(LIMITS), Instant::now());
        for _ in 0..40 {
            now += 5 * MILLI;
            pace.answered(now, back(now, 5 * MILLI, 1, 0));
            now += 1500 * MILLI;
            let count = pace.operations(now);
            pace.answered(now, back(now, 1500 * MILLI, count, 0));
        }
        assert_eq!(asks(&pace, now), (10, 1));
        for _ in 0..10 {
            now += MILLI;
            let count = pace.operations(now);
            pace.answered(now, back(now, MILLI, count, count));
        }
        assert!(pace.window < 2.0, "{}", pace.window);
        // And what is less than that already is no more for being slow.
        let before = pace.window;
        now += 1500 * MILLI;
        pace.answered(now, back(now, 1500 * MILLI, 1, 0));
        assert!(pace.window <= before, "{}", pace.window);
    }

    #[test]
    fn refusals_do_not_pass_for_quick_answers() {
        let (mut pace, start) = (Pace::new(LIMITS), Instant::now());
        pace.answered(start, back(start, MILLI, 100, 100));
        let failed = Answered {
            failed: 100,
            ..back(start, MILLI, 100, 0)
        };
        pace.answered(start, failed);
        assert_eq!(pace.written(start), 0.0, "nothing of them was written");
        let now = start + QUIET;
        pace.answered(now, back(now, 2000 * MILLI, 100, 0));
        assert!(!pace.is_slowed(now));
    }

    #[test]
    fn what_may_wait_is_what_was_written_of_late() {
        let (mut pace, mut now) = (Pace::new(LIMITS), Instant::now());
        assert_eq!(pace.backlog(now), 200, "two requests");
        for _ in 0..6000 {
            now += 10 * MILLI;
            pace.answered(now, back(now, 10 * MILLI, 100, 0));
        }
        let written = pace.backlog(now);
        assert!((95_000..=105_000).contains(&written), "{written}");
        let later = pace.backlog(now + MEMORY);
        assert!((30_000..=40_000).contains(&later), "{later}");
        assert_eq!(pace.backlog(now + 20 * MEMORY), 200);
    }

    #[test]
    fn heirs_go_on_at_the_pace_of_what_they_replace() {
        let now = Instant::now();
        let (mut slow, mut slower) = (Pace::new(LIMITS), Pace::new(LIMITS));
        slow.answered(now, back(now, Duration::ZERO, 100, 100));
        slow.hold(now + MILLI);
        for _ in 0..2 {
            slower.answered(now, back(now, Duration::ZERO, 100, 100));
        }
        // A split.
        let mut half = Pace::new(LIMITS);
        half.inherit(&slow, now);
        assert_eq!(
            (asks(&half, now), half.held_until()),
            ((100, 1), Some(now + MILLI))
        );
        // A merge, in any order.
        for parts in [[&slow, &slower], [&slower, &slow]] {
            let mut whole = Pace::new(LIMITS);
            parts.iter().for_each(|part| whole.inherit(part, now));
            assert_eq!(
                (asks(&whole, now), whole.held_until()),
                ((50, 1), Some(now + MILLI))
            );
        }
        // What was throttled long ago is forgotten by heirs too.
        let mut late = Pace::new(LIMITS);
        late.inherit(&slower, now + QUIET);
        assert!(!late.is_slowed(now + QUIET));
    }

    proptest! {
        #[test]
        fn a_pace_stays_within_the_limits_and_one_that_is_not_throttled_does_not_change(
            operations in 1usize..=100,
            requests in 1usize..=64,
            answers in proptest::collection::vec((1usize..=100, 0usize..=100, 0u64..3000, 0u64..900), 0..200),
            throttles: bool,
        ) {
            let limits = Limits { operations, requests };
            let (mut pace, mut now) = (Pace::new(limits), Instant::now());
            for (sent, refused, pause, took) in answers {
                now += Duration::from_millis(pause);
                let throttled = if throttles { refused.min(sent) } else { 0 };
                pace.answered(now, back(now, Duration::from_millis(took), sent, throttled));
                let (size, number) = asks(&pace, now);
                prop_assert!((1..=operations).contains(&size) && (1..=requests).contains(&number));
                prop_assert!(size as f64 * number as f64 <= pace.window(now).max(number as f64));
                prop_assert!(pace.alone(now).is_none_or(|most| most >= 1));
                prop_assert!(throttles || (size, number) == (operations, requests));
            }
        }

        /// A partition takes so many operations in each round, whatever the options would allow: the pace finds that number, so that no
        /// more than about half of what is sent is turned away, and not much of what might be taken is left unused.
        #[test]
        fn the_pace_finds_what_a_partition_takes(takes in 1usize..400, requests in 1usize..=4) {
            let limits = Limits { operations: 100, requests };
            let (mut pace, mut now) = (Pace::new(limits), Instant::now());
            let (mut written, mut refused, mut room) = (0, 0, 0);
            for round in 0..300 {
                let (sent, mut left) = (now, takes);
                let (size, number) = asks(&pace, now);
                for _ in 0..number {
                    now += MILLI;
                    let done = size.min(left);
                    left -= done;
                    let request = Answered { throttled: size - done, ..back(now, now - sent, size, 0) };
                    pace.answered(now, request);
                    if round >= 100 {
                        written += done;
                        refused += size - done;
                    }
                }
                room += if round >= 100 { takes.min(100 * requests) } else { 0 };
            }
            prop_assert!(refused <= written + written / 4, "{refused} of {written} turned away");
            prop_assert!(2 * written >= room, "{written} written of {room}");
        }
    }
}
