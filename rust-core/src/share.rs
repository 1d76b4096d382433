//! The share that a reader has of `scan.request-units-per-second`, or a writer of `sink.request-units-per-second`.
//!
//! The readers of one source share its budget, and so do the writers of one sink. Those in one process draw on one bucket, so that what one
//! of them leaves another uses; between processes it is divided by their number, so that nobody has to ask anybody before a request.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::Budget;
use crate::config::Role;
use crate::metrics::Metrics;

type Shared = Arc<Mutex<Budget>>;
type Budgets = BTreeMap<(u8, String), Weak<Mutex<Budget>>>;

/// The budgets of this process that are shared, by what they are for and by [`Peers::group`].
static BUDGETS: Mutex<Budgets> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The readers of one source, or the writers of one sink: all of its subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// How many there are in all processes; at least 1.
    pub count: u32,
    /// What tells them from others of the process, such as the ids of their job and operator; empty: there is no other one here.
    pub group: String,
}

impl Default for Peers {
    /// One alone.
    fn default() -> Self {
        Peers {
            count: 1,
            group: String::new(),
        }
    }
}

impl Peers {
    /// The share of one more of these in a budget of so many request units per second, for reading or for writing.
    pub(crate) fn join(&self, role: Role, units_per_second: u64) -> Share {
        let now = Instant::now();
        let budget = match self.group.as_str() {
            "" => Arc::new(Mutex::new(Budget::new(now))),
            group => {
                let mut budgets = lock(&BUDGETS);
                budgets.retain(|_, budget| budget.strong_count() > 0);
                let name = (role as u8, group.to_owned());
                let there = budgets.get(&name).and_then(Weak::upgrade);
                there.unwrap_or_else(|| {
                    let budget = Arc::new(Mutex::new(Budget::new(now)));
                    budgets.insert(name, Arc::downgrade(&budget));
                    budget
                })
            }
        };
        let rate = units_per_second as f64 / f64::from(self.count.max(1));
        lock(&budget).add_rate(rate, now);
        Share { budget, rate }
    }
}

/// What one of them brings into the budget, for as long as it is there.
pub struct Share {
    budget: Shared,
    rate: f64,
}

impl Share {
    /// Waits until a request is paid for. `parts`: what its price follows, such as its operations; 1 where requests cost alike. What is not
    /// settled is given back.
    pub async fn request(&self, metrics: &Metrics, parts: usize) -> Booked<'_> {
        let (booked, wait) = self.book(parts);
        wait_for(wait, metrics).await;
        booked
    }

    /// Books a request, and says how long to wait before it is sent.
    pub fn book(&self, parts: usize) -> (Booked<'_>, Duration) {
        let (units, wait) = lock(&self.budget).book(Instant::now(), parts as f64);
        let booked = Booked {
            share: self,
            units: Some(units),
            parts: parts as f64,
        };
        (booked, wait)
    }

    /// A request that can be done without: one that may be sent at once, as long as nobody owes anything; none otherwise.
    pub fn spare_request(&self) -> Option<Booked<'_>> {
        let units = lock(&self.budget).book_spare(Instant::now())?;
        Some(Booked {
            share: self,
            units: Some(units),
            parts: 1.0,
        })
    }
}

/// Waits as long as the budget asks for.
pub async fn wait_for(wait: Duration, metrics: &Metrics) {
    if wait.is_zero() {
        return;
    }
    let waited = Waited {
        since: Instant::now(),
        metrics,
    };
    tokio::time::sleep(wait).await;
    drop(waited);
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.budget).add_rate(-self.rate, Instant::now());
    }
}

/// Counts a wait, however it ends.
struct Waited<'a> {
    since: Instant,
    metrics: &'a Metrics,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        let millis = self.since.elapsed().as_millis() as u64;
        self.metrics.budget_millis.fetch_add(millis, Relaxed);
    }
}

/// A request that may be sent.
pub struct Booked<'a> {
    share: &'a Share,
    /// None once it is settled.
    units: Option<f64>,
    parts: f64,
}

impl Booked<'_> {
    /// The request has cost so many units, whether it went well or not.
    pub fn settle(mut self, cost: f64) {
        if let Some(units) = self.units.take() {
            lock(&self.share.budget).settle(units, cost, self.parts, Instant::now());
        }
    }
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        if let Some(units) = self.units {
            lock(&self.share.budget).give_back(units, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(group: &str, count: u32) -> Peers {
        Peers {
            count,
            group: group.to_owned(),
        }
    }

    /// How long a request of this reader waits behind one that has cost 100 units.
    fn wait(share: &Share) -> Duration {
        let now = Instant::now();
        let mut budget = lock(&share.budget);
        let (booked, _) = budget.book(now, 1.0);
        budget.settle(booked, 100.0, 1.0, now);
        let (booked, wait) = budget.book(now, 1.0);
        budget.give_back(booked, now);
        // Both leave the budget as it was.
        budget.settle(0.0, -100.0, 1.0, now);
        wait
    }

    #[test]
    fn readers_of_one_process_use_what_the_others_leave() {
        let alone = wait(&readers("alone", 4).join(Role::Source, 40));
        assert!(
            (8.0..=10.0).contains(&alone.as_secs_f64()),
            "{alone:?} at 10 units a second"
        );
        // Two of the four are here, and one of them has nothing to read.
        let (reads, idle) = (
            readers("two", 4).join(Role::Source, 40),
            readers("two", 4).join(Role::Source, 40),
        );
        let with_another = wait(&reads);
        assert!(
            with_another < alone.mul_f64(0.6),
            "{with_another:?} at 20 units a second"
        );
        drop(idle);
        assert!(wait(&reads) > with_another.mul_f64(1.5));
        // Another source has its own, and so has one whose job is not known.
        for group in ["other", ""] {
            assert!(wait(&readers(group, 4).join(Role::Source, 40)) > with_another.mul_f64(1.5));
        }
        // And so have the writers of a sink.
        assert!(wait(&readers("two", 4).join(Role::Sink, 40)) > with_another.mul_f64(1.5));
        drop(reads);
        assert!(lock(&BUDGETS)
            .get(&(Role::Source as u8, "two".to_owned()))
            .is_none_or(|budget| budget.strong_count() == 0));
    }

    #[tokio::test]
    async fn what_can_be_done_without_waits_for_no_reader_and_holds_none_up() {
        let metrics = Metrics::default();
        let (reads, waits) = (
            readers("spare", 2).join(Role::Source, 2),
            readers("spare", 2).join(Role::Source, 2),
        );
        waits.spare_request().expect("nothing is owed").settle(0.0);
        reads.request(&metrics, 1).await.settle(100.0);
        let before = wait(&reads);
        assert!(waits.spare_request().is_none(), "the other reader owes");
        assert!(wait(&reads) <= before, "{:?} after {before:?}", wait(&reads));
        assert_eq!(metrics.budget_millis.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_given_up_costs_nothing() {
        let metrics = Metrics::default();
        let share = readers("", 1).join(Role::Source, 1);
        share.request(&metrics, 1).await.settle(100.0);
        let before = wait(&share);
        let given_up = tokio::time::timeout(Duration::from_millis(20), share.request(&metrics, 1)).await;
        assert!(given_up.is_err());
        assert!(wait(&share) <= before, "{:?} after {before:?}", wait(&share));
        let waited = metrics.budget_millis.load(Relaxed);
        assert!((20..100_000).contains(&waited), "{waited} ms");
    }
}
