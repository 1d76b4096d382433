//! What becomes of the operations of a request that has come back, and how each of them ends.

use std::collections::btree_map;
use std::collections::hash_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::FailureMode;
use crate::error::{CoreError, Kind};
use crate::retry::Attempts;
use crate::status::{Blame, Fate, Next};

use super::evidence::Held;
use super::{apart, Act, Again, Answer, Behind, Engine};
use crate::sink::form::SearchId;
use crate::sink::operation::Operation;
use crate::sink::pace::Answered;
use crate::sink::partition::{halves, Request};
use crate::sink::step::{self, Course};
use crate::sink::submissions::{Ended, Failure, OutcomeResult};
use crate::sink::wire::{self, OperationResult};

/// A request that has come back, without its operations.
#[derive(Clone, Copy)]
struct Back {
    /// The serial number of its partition.
    partition: u64,
    /// Its number among those of the partition.
    number: u64,
    in_bulk: bool,
    sent: Instant,
}

/// Failures of unknown fate after which a bulk request is sent again in halves: a server may answer so to one document among a hundred.
const CUT_AFTER: u32 = 3;

impl Engine {
    /// A request has come back.
    pub fn concluded(&mut self, now: Instant, request: Request, answer: Answer) {
        if self.broken.is_some() {
            return;
        }
        self.heard(now);
        let Request {
            operations,
            bulk_range,
            partition,
            number,
            sent,
        } = request;
        let in_bulk = bulk_range.is_some();
        let back = Back {
            partition,
            number,
            in_bulk,
            sent,
        };
        let mut results = match answer {
            Answer::Each(results) => results,
            Answer::Whole(e) if e.next == Next::Halve && in_bulk => {
                return self.halve(now, operations, back, e);
            }
            Answer::Whole(mut e) => {
                // Each bears its share.
                e.request_charge /= operations.len().max(1) as f64;
                let each = operations.into_iter().map(|op| {
                    let result = OperationResult::failed(e.clone());
                    (op, result)
                });
                return self.settle(now, each.collect(), back, in_bulk.then_some(false));
            }
        };
        results.resize_with(operations.len(), || {
            OperationResult::failed(CoreError::internal(
                "there are fewer results than operations in the request",
            ))
        });
        let each = operations.into_iter().zip(results).map(|(mut op, result)| {
            if let Some(search) = op.search.take_if(|_| in_bulk) {
                self.searches.taken_in_bulk(search);
            }
            (op, result)
        });
        let each = each.collect();
        self.settle(now, each, back, in_bulk.then_some(true));
    }

    /// A request has come back to its partition.
    fn came_back(&mut self, back: Back) {
        self.in_flight -= 1;
        if let Some(p) = self.partition(back.partition) {
            p.came_back(back.number, back.in_bulk);
        }
        for p in self.gone.iter_mut().filter(|p| p.serial == back.partition) {
            p.came_back(back.number, back.in_bulk);
        }
        self.gone.retain(|p| !p.under_way.is_empty());
    }

    /// Cuts a bulk request that was refused as a whole.
    fn halve(&mut self, now: Instant, mut operations: Vec<Operation>, back: Back, error: CoreError) {
        let partition = back.partition;
        self.counts.bulk_refused += 1;
        self.counts.retries += 1;
        tracing::debug!(target: "cosmosflink::sink", "a bulk request of {} operations was refused: {error}", operations.len());
        let count = operations.len();
        let share = error.request_charge / count.max(1) as f64;
        let search = self.search_of(&operations);
        // Too many bytes say nothing about the form.
        let form_is_taken = self.searches.refused(search, error.kind == Kind::TooLarge);
        for op in &mut operations {
            op.request_charge += share;
            op.add_fate(error.fate);
            op.search = Some(search);
        }
        if matches!(&operations[..], [op] if op.needs_bulk && !form_is_taken) {
            // It cannot go alone, and the form may come back: it waits for that, and counts as one that would have been taken alone.
            operations[0].search = None;
            self.ended_alone(now, search, partition, None);
            let why = wire::check_address(&operations[0]).err().map(|e| e.message);
            let later = CoreError {
                next: Next::Retry,
                blame: Blame::Everybody,
                request_charge: 0.0,
                message: format!(
                    "{}; and the service refuses bulk requests: {}",
                    why.unwrap_or_default(),
                    error.message
                ),
                ..error
            };
            let each = operations
                .into_iter()
                .map(|op| (op, OperationResult::failed(later.clone())));
            return self.settle(now, each.collect(), back, Some(false));
        }
        let mut parts = halves(operations);
        if let [culprit] = &mut parts[..] {
            culprit.iter_mut().for_each(|op| op.alone = true);
        }
        self.came_back(back);
        self.operations_waiting += count as u64;
        self.waiting_apart += parts.iter().map(|part| apart(part)).sum::<u64>();
        match self.partition(partition) {
            Some(p) => p.parts.extend(parts),
            // It was split meanwhile.
            None => parts.into_iter().flatten().for_each(|op| {
                self.enqueue_again(op);
            }),
        }
        self.go_on(now);
    }

    /// The search that all of a refused request's operations are members of. Operations of another one that were retried meanwhile may be
    /// among them: then this one begins anew.
    fn search_of(&mut self, operations: &[Operation]) -> SearchId {
        let first = operations.first().and_then(|op| op.search);
        let common = first.filter(|id| operations.iter().all(|op| op.search == Some(*id)));
        common.unwrap_or_else(|| {
            for old in operations.iter().filter_map(|op| op.search) {
                self.searches.leave(old);
            }
            self.searches.begin(operations.len())
        })
    }

    /// Notes that an operation of a refused bulk request has ended, and draws the conclusion when it was the last.
    fn ended_alone(&mut self, now: Instant, search: SearchId, partition: u64, failure: Option<&CoreError>) {
        // A conflict and the like is an answer that it would have had in bulk too.
        let culprit =
            failure.is_some_and(|e| !matches!(e.kind, Kind::Conflict | Kind::NotFound | Kind::Precondition));
        let Some(shown) = self.searches.ended_alone(search, culprit) else {
            return;
        };
        let pause = self.config.bulk_probe_interval;
        if let Some(p) = self.partition(partition) {
            match shown.is_about_the_form() {
                true => p.form.is_refused(&p.id, shown.of, pause, now),
                false => p.form.probe_is_over(),
            }
        }
    }

    /// Settles, retries or routes anew each operation of a request. `bulk`: whether it was taken as a bulk request; `None` where it was
    /// one operation alone.
    fn settle(
        &mut self,
        now: Instant,
        each: Vec<(Operation, OperationResult)>,
        back: Back,
        bulk: Option<bool>,
    ) {
        let partition = back.partition;
        let mut answered = Answered {
            sent: back.sent,
            operations: each.len(),
            bytes: each.iter().map(|(op, _)| op.sent_body().len()).sum(),
            charge: each.iter().map(|(_, result)| result.request_charge).sum(),
            throttled: 0,
            failed: 0,
        };
        let mut good = Vec::with_capacity(each.len());
        let (mut failures, mut onward) = (Vec::new(), Vec::new());
        let whole = bulk == Some(false);
        let (mut again, mut again_after) = (Vec::new(), Pause::default());
        let (mut held, mut hold) = (Vec::new(), Pause::default());
        let (mut moved, mut throttled) = (false, false);
        let mut spared = None::<Instant>;
        // A whole request that keeps failing, nobody knows why, may do so for the sake of one operation.
        let mut cut = whole && each.len() > 1;
        if let (true, Some(error)) = (whole, each.first().and_then(|(_, r)| r.error.as_ref())) {
            self.count_failure(error);
        }
        for (mut op, result) in each {
            op.request_charge += result.request_charge;
            self.bytes_beside -= op.bytes_beside();
            self.bytes_merged -= op.bytes_merged();
            let course = step::follow(&mut op, result.stored, result.error, self.reads);
            self.bytes_beside += op.bytes_beside();
            let error = match course {
                Course::Done => {
                    good.push(op);
                    continue;
                }
                Course::Superseded => {
                    self.counts.superseded += 1;
                    self.submissions.superseded(op.submission, op.index);
                    good.push(op);
                    continue;
                }
                Course::Onward => {
                    self.bytes_merged += op.bytes_merged();
                    onward.push(op);
                    continue;
                }
                Course::Failed(error) => error,
            };
            if !whole {
                self.count_failure(&error);
            }
            cut &= error.fate == Fate::Unknown;
            match error.next {
                Next::Wait => answered.throttled += 1,
                Next::Retry | Next::Reread | Next::Reroute | Next::Halve => answered.failed += 1,
                Next::Done | Next::Superseded | Next::Compare | Next::Confirm | Next::End => {}
            }
            let (config, rng) = (&self.config.retry, &mut self.rng);
            let merged = op.bytes_merged();
            let attempts = op
                .attempts
                .get_or_insert_with(|| Box::new(Attempts::seeded(config, rng.u64(..))));
            match attempts.next(&error, now) {
                None => {
                    // It ends, and the partition is left alone all the same.
                    let asked = error.retry_after_ms.filter(|_| error.next == Next::Wait);
                    spared = spared.max(asked.map(|ms| now + Duration::from_millis(ms)));
                    failures.push((op, error));
                }
                Some(wait) => {
                    self.bytes_merged += merged;
                    cut &= attempts.made() > CUT_AFTER;
                    let (made, document) = (attempts.made(), op.document);
                    // What holds the whole partition waits in its queue, for its wait or for a new map; the rest waits for itself.
                    if matches!(error.next, Next::Wait | Next::Reroute) {
                        moved |= error.next == Next::Reroute;
                        throttled |= error.next == Next::Wait;
                        hold.add(&error, made, wait);
                        held.push(op);
                    } else {
                        again_after.add(&error, made, wait);
                        again.push(op);
                    }
                    self.hold_up(document, now, partition, made, error);
                }
            }
        }
        let retried = again.len() + held.len();
        self.counts.retries += if whole { retried.min(1) } else { retried } as u64;
        self.operations_waiting += (retried + onward.len()) as u64;
        self.waiting_apart += [&again, &held, &onward].map(|ops| apart(ops)).iter().sum::<u64>();
        self.counts.records += good.len() as u64;
        let hold = (!held.is_empty()).then(|| now + hold.wait(&mut self.rng));
        let mut again_at = (!again.is_empty()).then(|| now + again_after.wait(&mut self.rng));
        self.came_back(back);
        let still_there = match self.partition(partition) {
            Some(p) => {
                match bulk {
                    Some(true) => p.form.is_taken(&p.id),
                    Some(false) => p.form.probe_is_over(),
                    None => {}
                }
                p.pace.answered(now, answered);
                if let Some(until) = hold {
                    p.hold(until, throttled);
                }
                if let Some(until) = spared {
                    p.hold(until, true);
                }
                true
            }
            None => false,
        };
        let ended = good.iter_mut().map(|op| (op, None));
        for (op, failure) in ended.chain(failures.iter_mut().map(|(op, e)| (op, Some(&**e)))) {
            if let Some(search) = op.search.take() {
                self.ended_alone(now, search, partition, failure);
            }
            self.held.remove(&op.document);
            self.release_all(op);
        }
        // They hold their documents, and go before what came later.
        for mut op in onward {
            if let Some(search) = op.search.take() {
                self.ended_alone(now, search, partition, None);
            }
            self.held.remove(&op.document);
            self.fit(&mut op);
            self.enqueue_again(op);
        }
        if let Some(until) = hold.filter(|_| throttled && !still_there) {
            // The wait that was asked for is that of the partition, which is gone: it waits for itself.
            again_at = again_at.max(Some(until));
            again.append(&mut held);
        }
        for mut op in held {
            op.ready = hold;
            self.enqueue_again(op);
        }
        // What was routed by an older map is routed by the new one already.
        if moved && still_there && !std::mem::replace(&mut self.refreshing, true) {
            tracing::info!(target: "cosmosflink::sink", "partitions of '{}' have moved; reading them again", self.config.container);
            self.acts.push(Act::Refresh);
        }
        if let Some(at) = again_at {
            let waiting = Again {
                operations: again,
                partition,
                cut,
            };
            self.again.insert((at, self.agains), waiting);
            self.agains += 1;
        }
        self.go_on(now);
        self.end_good(&good);
        for (op, error) in failures {
            self.settle_failure(now, op, *error);
        }
    }

    /// The operation under way on a document has failed, and is tried again.
    fn hold_up(&mut self, document: u64, now: Instant, partition: u64, attempts: u32, error: Box<CoreError>) {
        let before = self.held.get(&document).map(|held| held.since);
        let held = Held {
            since: before.unwrap_or(now),
            partition,
            attempts,
            error,
        };
        self.held.insert(document, held);
    }

    fn count_failure(&mut self, error: &CoreError) {
        self.counts.throttled += u64::from(error.kind == Kind::Throttled);
    }

    /// Lets the next operations on the documents of one go that has ended.
    fn release_all(&mut self, op: &Operation) {
        match op.documents() {
            [] => self.release(op.document),
            all => all.iter().for_each(|document| self.release(*document)),
        }
    }

    /// Lets the next operation on a document go.
    fn release(&mut self, document: u64) {
        let Entry::Occupied(mut waiting) = self.busy.entry(document) else {
            return;
        };
        match waiting.get_mut().as_mut().and_then(|w| w.pop_front()) {
            // It counts as waiting since it came.
            Some(Behind::One(op)) => {
                let partition = self.enqueue_again(op);
                partition.behind = partition.behind.saturating_sub(1);
            }
            Some(Behind::Batch(turn)) => {
                let btree_map::Entry::Occupied(mut gathering) = self.gathering.entry(turn) else {
                    return;
                };
                gathering.get_mut().missing -= 1;
                if gathering.get().missing == 0 {
                    let batch = gathering.remove().batch;
                    self.enqueue_again(batch);
                }
            }
            None => drop(waiting.remove()),
        }
    }

    /// Ends an operation that failed for good, in the way that the options ask for.
    pub(super) fn settle_failure(&mut self, now: Instant, op: Operation, mut error: CoreError) {
        if let Some(aftermath) = op.aftermath(&error) {
            error.message = format!("{}; {aftermath}", error.message);
        }
        if error.blame == Blame::Everybody {
            return self.end_failed(op, OutcomeResult::Failed, error);
        }
        match self.config.failure_mode {
            FailureMode::Skip => {
                tracing::warn!(target: "cosmosflink::sink", "skipped {}: {error}", op.describe());
                self.end_failed(op, OutcomeResult::Skipped, error);
            }
            FailureMode::DeadLetter if self.stores_letters => {
                self.letters.add(op, error, now);
                self.store_letters(now);
            }
            _ => self.end_failed(op, OutcomeResult::Failed, error),
        }
    }

    /// Stores dead letters that wait, as many at a time as may be.
    pub(super) fn store_letters(&mut self, now: Instant) {
        while let Some(letter) = self.letters.next(|| self.rng.u64(..)) {
            self.acts.push(Act::Store(Box::new(letter)));
            // Nothing could be heard of it before.
            self.heard(now);
        }
    }

    /// The end of an operation that failed: counts it and gives back what it held.
    pub(super) fn end_failed(&mut self, op: Operation, result: OutcomeResult, error: CoreError) {
        *match result {
            OutcomeResult::Ok => &mut self.counts.records,
            OutcomeResult::Skipped => &mut self.counts.skipped,
            OutcomeResult::DeadLettered => &mut self.counts.dead_lettered,
            OutcomeResult::Failed => &mut self.counts.failed,
        } += 1;
        self.bytes_buffered -= op.size() as u64;
        self.bytes_beside -= op.bytes_beside();
        self.open -= 1;
        let failure = Failure {
            index: op.index,
            result,
            error: error.while_doing(op.describe()),
            carried_out: op.carried_out(),
            attempts: op.attempts.as_ref().map_or(1, |a| a.made()),
            // Of the others nobody asks.
            operation: match result {
                OutcomeResult::Failed => op.without_document(),
                _ => Vec::new(),
            },
        };
        let one = Ended::of(std::slice::from_ref(&op));
        let ended = self
            .submissions
            .ended(op.submission, one, op.request_charge, Some(failure));
        self.acts.extend(ended.map(Act::Complete));
    }

    /// The end of operations that were carried out: neighbours are mostly of one submission.
    fn end_good(&mut self, operations: &[Operation]) {
        self.bytes_buffered -= operations.iter().map(|op| op.size() as u64).sum::<u64>();
        self.bytes_beside -= operations.iter().map(Operation::bytes_beside).sum::<u64>();
        self.open -= operations.len();
        for of_one in operations.chunk_by(|a, b| a.submission == b.submission) {
            let charge = of_one.iter().map(|op| op.request_charge).sum();
            let ended = self
                .submissions
                .ended(of_one[0].submission, Ended::of(of_one), charge, None);
            self.acts.extend(ended.map(Act::Complete));
        }
    }
}

/// The pause before a request is sent again: one for all its operations.
#[derive(Default)]
struct Pause {
    /// The backoff of the operation that has been tried most often, and how often that is. One draw only: the longest of a hundred would
    /// be much the same for every writer.
    own: (u32, Duration),
    /// The longest that the service asked for.
    asked: Duration,
}

impl Pause {
    fn add(&mut self, error: &CoreError, made: u32, wait: Duration) {
        if error.retry_after_ms.is_some_and(|ms| ms > 0) {
            self.asked = self.asked.max(wait);
        } else if made > self.own.0 {
            self.own = (made, wait);
        }
    }

    /// Never shorter than asked for, and a little longer by chance: writers that were told the same must not come back at once.
    fn wait(&self, rng: &mut fastrand::Rng) -> Duration {
        self.own.1.max(self.asked + self.asked.mul_f64(rng.f64() / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::config;

    #[test]
    fn a_request_has_one_pause_and_none_that_is_too_short() {
        let config = config(&[]);
        let mut rng = fastrand::Rng::with_seed(1);
        let error = |retry_after_ms| CoreError {
            retry_after_ms,
            ..CoreError::new(Kind::Transient, "x")
        };
        let mut pause = |asked: Option<u64>| {
            let mut pause = Pause::default();
            for _ in 0..100 {
                let mut attempts = Attempts::seeded(&config.retry, rng.u64(..));
                let error = error(asked);
                let wait = attempts.next(&error, Instant::now()).unwrap();
                pause.add(&error, attempts.made(), wait);
            }
            pause.wait(&mut rng)
        };
        // Between one step and two: the longest of a hundred draws is near two each time.
        let step = config.retry.backoff;
        let short = (0..100).filter(|_| pause(None) < step.mul_f64(1.5)).count();
        assert!(
            (20..=80).contains(&short),
            "{short} of 100 are in the shorter half"
        );
        let asked = Duration::from_millis(1000);
        let waits: Vec<_> = (0..20).map(|_| pause(Some(1000))).collect();
        assert!(waits.iter().all(|w| *w >= asked && *w <= asked.mul_f64(1.25)));
        assert!(waits.iter().any(|w| *w != waits[0]), "{waits:?}");
    }
}
