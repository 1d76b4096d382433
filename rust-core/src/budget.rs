//! What reading or writing may cost: a budget of request units per second, as a bucket of tokens that is given the time. Decides alone.
//!
//! Nobody knows what a request costs before it is answered. So each books what the last ones cost for each of their parts, waits until what
//! was booked before it is paid, and settles the difference afterwards: whoever asks first goes first, and in the long run no more is used
//! than there is. A page is one part; of a bulk request and of a batch each operation is one.

use std::time::Duration;

use tokio::time::Instant;

/// What was saved up while nothing was asked may be used at once, for so long a time.
const BURST: Duration = Duration::from_secs(1);

/// What a part is expected to cost before the first has been paid for, in request units.
const FIRST_EXPECTED: f64 = 1.0;

/// The budget of those that share it. Amounts are request units.
#[derive(Debug)]
pub struct Budget {
    /// Units that come in a second.
    rate: f64,
    /// What is there; below zero: what is owed.
    balance: f64,
    /// When that was so.
    at: Instant,
    /// What a part of a request is expected to cost.
    expected: f64,
}

impl Budget {
    /// A budget into which nothing comes yet.
    pub fn new(now: Instant) -> Budget {
        Budget {
            rate: 0.0,
            balance: 0.0,
            at: now,
            expected: FIRST_EXPECTED,
        }
    }

    /// So many units more come in a second, or less. What was saved up stays within the burst of the new rate.
    pub fn add_rate(&mut self, rate: f64, now: Instant) {
        self.fill(now);
        self.rate = (self.rate + rate).max(0.0);
        self.balance = self.balance.min(self.most());
    }

    fn most(&self) -> f64 {
        self.rate * BURST.as_secs_f64()
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.balance = (self.balance + passed * self.rate).min(self.most());
        self.at = self.at.max(now);
    }

    /// Books a request of so many parts: what it is expected to cost, and how long it waits until it may be sent.
    pub fn book(&mut self, now: Instant, parts: f64) -> (f64, Duration) {
        self.fill(now);
        let owed = (-self.balance).max(0.0);
        let booked = self.expected * parts;
        self.balance -= booked;
        let wait = if owed > 0.0 { owed / self.rate } else { 0.0 };
        // Nothing comes in once the last of them is gone, and then nobody waits.
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::ZERO);
        (booked, wait)
    }

    /// Books a request that others need not wait for: none while something is owed.
    pub fn book_spare(&mut self, now: Instant) -> Option<f64> {
        self.fill(now);
        if self.balance < 0.0 {
            return None;
        }
        self.balance -= self.expected;
        Some(self.expected)
    }

    /// A request of so many parts that was booked with `booked` has cost `cost`.
    pub fn settle(&mut self, booked: f64, cost: f64, parts: f64, now: Instant) {
        self.fill(now);
        self.balance = (self.balance + booked - cost).min(self.most());
        self.expected += (cost / parts.max(1.0) - self.expected) / 8.0;
    }

    /// A request that was booked with `booked` is not sent.
    pub fn give_back(&mut self, booked: f64, now: Instant) {
        self.fill(now);
        self.balance = (self.balance + booked).min(self.most());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(rate: f64) -> (Budget, Instant) {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        budget.add_rate(rate, start);
        (budget, start)
    }

    #[test]
    fn who_asks_first_goes_first_and_pays_what_it_cost() {
        let (mut b, start) = budget(10.0);
        let second = Duration::from_secs(1);
        // Nothing was saved up, and nothing is owed.
        let (booked, wait) = b.book(start, 1.0);
        assert_eq!((booked, wait), (FIRST_EXPECTED, Duration::ZERO));
        b.settle(booked, 21.0, 1.0, start);
        // Two seconds' worth is owed beyond this one's tenth.
        let (_, first) = b.book(start, 1.0);
        let (booked, then) = b.book(start, 1.0);
        assert!((first.as_secs_f64() - 2.1).abs() < 1e-6, "{first:?}");
        assert!(then > first, "behind the first");
        b.give_back(booked, start);
        let (booked, again) = b.book(start, 1.0);
        assert_eq!(again, then, "what is given back is nobody's");
        b.settle(booked, booked, 1.0, start);
        // An idle hour saves up no more than a second's worth.
        let later = start + 3600 * second;
        let booked: f64 = (0..)
            .map(|_| b.book(later, 1.0))
            .take_while(|(_, wait)| wait.is_zero())
            .map(|(booked, _)| booked)
            .sum();
        assert!((10.0..20.0).contains(&booked), "{booked}");
    }

    #[test]
    fn what_can_be_done_without_goes_behind_what_is_owed() {
        let (mut b, start) = budget(10.0);
        let (booked, _) = b.book(start, 1.0);
        b.settle(booked, 21.0, 1.0, start);
        assert_eq!(b.book_spare(start), None, "21 units are owed");
        let (_, wait) = b.book(start, 1.0);
        assert_eq!(
            b.book_spare(start + Duration::from_secs(2)),
            None,
            "and one more request"
        );
        assert!(
            (wait.as_secs_f64() - 2.1).abs() < 1e-6,
            "{wait:?} without what was not booked"
        );
        let later = start + Duration::from_secs(10);
        let booked = b.book_spare(later).expect("nothing is owed");
        b.settle(booked, 0.5, 1.0, later);
        assert_eq!(b.book(later, 1.0).1, Duration::ZERO);
    }

    #[test]
    fn a_reader_that_leaves_takes_its_share_along() {
        let (mut b, start) = budget(10.0);
        b.add_rate(10.0, start);
        let (booked, _) = b.book(start, 1.0);
        b.settle(booked, 20.0, 1.0, start);
        let (_, both) = b.book(start, 1.0);
        b.give_back(booked, start);
        b.add_rate(-10.0, start);
        let (_, alone) = b.book(start, 1.0);
        assert!(alone > both.mul_f64(1.5), "{alone:?} after {both:?}");
        b.add_rate(-10.0, start);
        assert_eq!(b.book(start, 1.0).1, Duration::ZERO, "nobody is left to wait");
    }

    #[test]
    fn a_request_books_what_its_parts_cost_of_late() {
        let (mut b, start) = budget(100.0);
        // Operations of six units each, as many at a time as it comes.
        for count in [100.0, 1.0, 30.0, 100.0, 100.0, 2.0, 100.0, 50.0].repeat(8) {
            let (booked, _) = b.book(start, count);
            b.settle(booked, 6.0 * count, count, start);
        }
        let (booked, _) = b.book(start, 100.0);
        assert!((599.0..=601.0).contains(&booked), "{booked}");
        let (booked, _) = b.book(start, 1.0);
        assert!((5.9..=6.1).contains(&booked), "{booked}");
    }

    proptest! {
        /// Whatever pages cost, what is used in a time is what comes in that time, the burst, and what was under way at once.
        #[test]
        fn no_more_is_used_than_there_is(
            rate in 1.0f64..1000.0,
            costs in proptest::collection::vec(0.0f64..50.0, 50..300),
            readers in 1usize..8,
        ) {
            let (mut b, start) = budget(rate);
            let (mut used, mut now) = (0.0, start);
            for costs in costs.chunks(readers) {
                let booked: Vec<_> = costs.iter().map(|_| b.book(now, 1.0)).collect();
                now += booked.iter().map(|(_, wait)| *wait).max().unwrap_or_default();
                for (cost, (booked, _)) in costs.iter().zip(booked) {
                    b.settle(booked, *cost, 1.0, now);
                    used += cost;
                }
            }
            let passed = now.saturating_duration_since(start).as_secs_f64();
            prop_assert!(used <= rate * (passed + 1.0) + 50.0 * readers as f64, "{} in {} s of {}", used, passed, rate);
        }
    }
}
