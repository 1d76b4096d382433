//! One physical partition: what waits for it, and what may be sent to it next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use tokio::time::Instant;

use crate::config::Config;

use super::form::{Form, Searches, PROBE};
use super::operation::Operation;
use super::pace::{Limits, Pace};

/// A bulk request that has been under way for so long holds up no operations that do not fill the next one.
const HANGING: Duration = Duration::from_millis(500);

/// What is sent.
pub struct Request {
    pub operations: Vec<Operation>,
    /// The service's id of the range that a bulk request is for; `None`: one operation alone.
    pub bulk_range: Option<Arc<str>>,
    /// The serial number of the partition that it was taken from.
    pub partition: u64,
    /// Its number among those of the partition.
    pub number: u64,
    /// When it was sent, which may be later than it was taken from what waits.
    pub sent: Instant,
}

impl Request {
    /// It is sent now, since something held it back that is nobody's failure.
    pub fn put_off(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.sent);
        for op in &mut self.operations {
            if let Some(attempts) = &mut op.attempts {
                attempts.leave_out(waited);
            }
        }
        self.sent = now;
    }
}

/// A request that has not come back.
pub struct UnderWay {
    number: u64,
    /// When it was taken from what waits.
    pub taken: Instant,
    /// When it was sent, or is to be: the sink itself may hold it back, for the sake of its budget.
    pub sent: Instant,
}

pub struct Partition {
    /// Tells it apart from an earlier one of the same id: an id may go with one map and come back with the next.
    pub serial: u64,
    /// The service's id of the range, for the bulk request's header.
    pub id: Arc<str>,
    pub min: EffectivePartitionKey,
    /// In the order in which they came.
    pub queue: VecDeque<Operation>,
    /// Parts of refused bulk requests, which go before the queue.
    pub parts: VecDeque<Vec<Operation>>,
    /// Bulk requests under way.
    pub in_flight: usize,
    /// The requests under way, those for one operation among them.
    pub under_way: Vec<UnderWay>,
    /// Requests so far, by which they are numbered.
    begun: u64,
    /// Operations that wait behind others of the same documents.
    pub behind: usize,
    /// How much may be asked of it. Its heirs take it over.
    pub pace: Pace,
    /// Set by a 410: nothing is sent before.
    not_before: Option<Instant>,
    /// When the last bulk request was sent, or is to be.
    last_sent: Option<Instant>,
    pub form: Form,
}

impl Partition {
    pub fn new(serial: u64, (id, min): (String, EffectivePartitionKey), limits: Limits) -> Self {
        Partition {
            serial,
            id: id.into(),
            min,
            queue: VecDeque::new(),
            parts: VecDeque::new(),
            in_flight: 0,
            under_way: Vec::new(),
            begun: 0,
            behind: 0,
            pace: Pace::new(limits),
            not_before: None,
            last_sent: None,
            form: Form::Bulk { suspicions: 0 },
        }
    }

    /// Puts an operation where it belongs by the time at which it came.
    pub fn enqueue(&mut self, op: Operation) {
        if self.queue.back().is_none_or(|last| last.turn < op.turn) {
            return self.queue.push_back(op);
        }
        let at = self.queue.partition_point(|other| other.turn < op.turn);
        self.queue.insert(at, op);
    }

    /// Sends nothing before `until`, because of a 429 or of something else.
    pub fn hold(&mut self, until: Instant, throttled: bool) {
        match throttled {
            true => self.pace.hold(until),
            false => self.not_before = self.not_before.max(Some(until)),
        }
    }

    /// Until when nothing is sent, if that is not over.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.max(self.pace.held_until()).filter(|t| *t > now)
    }

    /// Operations that wait because of the partition itself, which is held back or slowed, as far as they need not count against those
    /// of others.
    pub fn backlog(&self, now: Instant) -> usize {
        match self.pace.is_slowed(now) || self.held_until(now).is_some() {
            true => self.waiting().min(self.pace.backlog(now)),
            false => 0,
        }
    }

    fn waiting(&self) -> usize {
        self.queue.len() + self.parts.iter().map(Vec::len).sum::<usize>() + self.behind
    }

    /// A request that was taken is not sent before then, by the sink's own choice.
    pub fn put_off(&mut self, number: u64, in_bulk: bool, until: Instant) {
        if let Some(request) = self.under_way.iter_mut().find(|r| r.number == number) {
            request.sent = until;
            if in_bulk {
                self.last_sent = self.last_sent.max(Some(until));
            }
        }
    }

    /// A request has come back.
    pub fn came_back(&mut self, number: u64, in_bulk: bool) {
        if let Some(at) = self.under_way.iter().position(|r| r.number == number) {
            self.under_way.swap_remove(at);
        }
        self.in_flight -= usize::from(in_bulk);
    }

    fn request(&mut self, operations: Vec<Operation>, in_bulk: bool, now: Instant) -> Request {
        let number = self.begun;
        self.begun += 1;
        self.under_way.push(UnderWay {
            number,
            taken: now,
            sent: now,
        });
        Request {
            operations,
            bulk_range: in_bulk.then(|| self.id.clone()),
            partition: self.serial,
            number,
            sent: now,
        }
    }

    fn bulk_request(&mut self, operations: Vec<Operation>, now: Instant) -> Request {
        self.in_flight += 1;
        self.last_sent = Some(now);
        self.request(operations, true, now)
    }

    /// Whether a request for one operation may be sent beside those that are under way.
    fn takes_one(&self, now: Instant) -> bool {
        self.pace
            .alone(now)
            .is_none_or(|most| self.under_way.len() < most)
    }

    /// The next request, if there is one that may be sent now. `reads`: whether documents may be read that are to be merged with.
    pub fn next(
        &mut self,
        now: Instant,
        config: &Config,
        searches: &Searches,
        reads: bool,
    ) -> Option<Request> {
        if self.held_until(now).is_some() {
            return None;
        }
        let may_go = |op: &Operation| reads || !op.reads_to_merge();
        if self.parts.front().is_some_and(|part| !part.iter().all(may_go)) {
            return None;
        }
        let (free, takes_one) = (self.in_flight < self.pace.requests(now), self.takes_one(now));
        if let Some(mut part) = self.parts.pop_front() {
            let search = part.first().and_then(|op| op.search);
            if search.is_some_and(|search| searches.is_exhausted(search)) {
                part.iter_mut().for_each(|op| op.alone = !op.needs_bulk);
                for op in part.drain(1..).rev() {
                    self.parts.push_front(vec![op]);
                }
            }
            match part[0].alone {
                true if takes_one => return Some(self.request(part, false, now)),
                false if free => return Some(self.bulk_request(part, now)),
                _ => self.parts.push_front(part),
            }
        }
        let first = self.queue.front().filter(|op| may_go(op))?;
        let probe = match &mut self.form {
            Form::Bulk { .. } => false,
            Form::OneByOne { until, probing, .. } if free && *until <= now && !*probing && !first.alone => {
                *probing = true;
                true
            }
            Form::OneByOne { .. } => {
                if !takes_one {
                    return None;
                }
                // What only a bulk request can carry waits for the form to come back, unless it has turned out that it must go alone.
                let goes = |op: &Operation| may_go(op) && (op.alone || !op.needs_bulk);
                let at = self.queue.iter().position(goes)?;
                let op = self.queue.remove(at)?;
                return Some(self.request(vec![op], false, now));
            }
        };
        if first.alone || !config.bulk {
            if !takes_one {
                return None;
            }
            let op = self.queue.pop_front()?;
            return Some(self.request(vec![op], false, now));
        }
        let most = match (self.pace.operations(now), probe) {
            (most, true) => most.min(PROBE),
            (most, false) => most,
        };
        let hangs = self.last_sent.is_none_or(|sent| sent + HANGING <= now);
        let fills = |p: &Self| fills_request(&p.queue, most, config.max_request_bytes);
        if !probe && self.in_flight > 0 && !(free && (hangs || fills(self))) {
            return None;
        }
        let operations = take_batch(&mut self.queue, most, config.max_request_bytes, may_go);
        Some(self.bulk_request(operations, now))
    }

    /// When something may be sent that no answer will set going, after [`Partition::next`] has given nothing: the wait that was asked
    /// for is over, the form is due to be tried, or a request hangs.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        if self.parts.is_empty() && self.queue.is_empty() {
            return None;
        }
        if let Some(held) = self.held_until(now) {
            return Some(held);
        }
        self.queue.front()?;
        let at = match self.form {
            Form::OneByOne {
                until,
                probing: false,
                ..
            } => Some(until),
            Form::Bulk { .. } if self.in_flight > 0 && self.in_flight < self.pace.requests(now) => {
                self.last_sent.map(|sent| sent + HANGING)
            }
            _ => None,
        };
        // What is due already waits for an answer: there is no place for it now.
        at.filter(|at| *at > now)
    }

    /// All that waits here, for others.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = Operation> {
        let queue = std::mem::take(&mut self.queue).into_iter();
        queue.chain(std::mem::take(&mut self.parts).into_iter().flatten())
    }
}

/// Whether the next bulk request would be as large as it may be.
fn fills_request(queue: &VecDeque<Operation>, most: usize, max_bytes: usize) -> bool {
    let mut bytes = 2;
    queue.len() >= most
        || queue.iter().any(|op| {
            bytes += op.bulk_bytes as usize;
            op.alone || bytes > max_bytes
        })
}

/// The halves of what is left of a request; a lone operation is one part, and none is empty.
pub fn halves(mut operations: Vec<Operation>) -> Vec<Vec<Operation>> {
    let second = operations.split_off(operations.len() / 2);
    [operations, second]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect()
}

/// The next bulk request's operations: as many as the limits allow, up to one that goes alone or may not go.
fn take_batch(
    queue: &mut VecDeque<Operation>,
    most: usize,
    max_bytes: usize,
    may_go: impl Fn(&Operation) -> bool,
) -> Vec<Operation> {
    let mut batch = Vec::new();
    let mut bytes = 2;
    while batch.len() < most {
        let fits = |op: &mut Operation| {
            bytes += op.bulk_bytes as usize;
            !op.alone && may_go(op) && (batch.is_empty() || bytes <= max_bytes)
        };
        match queue.pop_front_if(fits) {
            Some(op) => batch.push(op),
            None => break,
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::super::pace::Answered;
    use super::super::tests::{config, operations};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_half_of_a_request_is_empty() {
        for (count, expected) in [(0, vec![]), (1, vec![1]), (2, vec![1, 1]), (5, vec![2, 3])] {
            let sizes: Vec<_> = halves(operations(count)).iter().map(Vec::len).collect();
            assert_eq!(sizes, expected, "{count} operations");
        }
    }

    #[test]
    fn what_must_go_alone_does_not_wait_for_the_form() {
        let config = config(&[]);
        let mut first = operations(2);
        // Refused in bulk, where others were taken; then its partition was split, and the heir's form was refused.
        (first[0].alone, first[0].needs_bulk) = (true, true);
        let mut partition = partition(first);
        let now = Instant::now();
        partition.form.is_refused("0", 100, Duration::from_secs(1), now);
        let taken = next(&mut partition, now, &config).unwrap();
        assert_eq!((taken.operations[0].turn, taken.bulk_range.is_none()), (0, true));
    }

    fn partition(operations: Vec<Operation>) -> Partition {
        partition_within(operations, &config(&[]))
    }

    fn partition_within(operations: Vec<Operation>, config: &Config) -> Partition {
        let whole = ("0".into(), EffectivePartitionKey::try_from("").unwrap());
        let mut partition = Partition::new(0, whole, Limits::of(config));
        operations.into_iter().for_each(|op| partition.enqueue(op));
        partition
    }

    fn next(partition: &mut Partition, now: Instant, config: &Config) -> Option<Request> {
        partition.next(now, config, &Searches::default(), true)
    }

    fn take_all(partition: &mut Partition, config: &Config) -> Vec<u64> {
        let mut turns = Vec::new();
        while let Some(request) = next(partition, Instant::now(), config) {
            partition.in_flight = 0;
            turns.extend(request.operations.iter().map(|op| op.turn));
        }
        turns
    }

    proptest! {
        #[test]
        fn what_comes_back_waits_where_it_waited_before(
            count in 1u64..80,
            size in 1usize..9,
            sent in 0usize..12,
            back in any::<proptest::sample::Index>(),
            shuffle: u64,
        ) {
            let config = config(&[("sink.max-operations-per-request", &size.to_string())]);
            let mut partition = partition_within(operations(count), &config);
            let mut under_way = Vec::new();
            for _ in 0..sent {
                under_way.extend(next(&mut partition, Instant::now(), &config));
                partition.in_flight = 0;
            }
            // Some fail wholly, and come back in any order.
            let failed = under_way.split_off(back.index(under_way.len() + 1));
            let taken: Vec<u64> = under_way.iter().flat_map(|r| r.operations.iter().map(|op| op.turn)).collect();
            let mut failed: Vec<Operation> = failed.into_iter().flat_map(|r| r.operations).collect();
            failed.sort_by_key(|op| (op.turn + 1).wrapping_mul(shuffle | 1).rotate_left(17));
            failed.into_iter().for_each(|op| partition.enqueue(op));
            let rest = take_all(&mut partition, &config);
            prop_assert!(rest.is_sorted(), "{:?}", rest);
            let mut all = [taken, rest].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..count));
        }
    }

    #[test]
    fn a_form_that_stays_refused_is_tried_at_growing_pauses() {
        let config = config(&[]);
        let mut partition = partition(operations(200));
        let first = config.bulk_probe_interval;
        let mut now = Instant::now();
        partition.form.is_refused("0", 100, first, now);
        let pause = |partition: &Partition| match partition.form {
            Form::OneByOne { pause, .. } => pause,
            Form::Bulk { .. } => Duration::ZERO,
        };
        let mut expected = first;
        for _ in 0..8 {
            assert_eq!(pause(&partition), expected);
            let alone = next(&mut partition, now, &config).unwrap();
            assert!(alone.bulk_range.is_none(), "before the pause is over");
            // Another request that was refused at the same time changes nothing.
            partition.form.is_refused("0", 100, first, now);
            assert_eq!(pause(&partition), expected);
            now += expected;
            let probe = next(&mut partition, now, &config).unwrap();
            assert_eq!(
                (probe.bulk_range.is_some(), probe.operations.len()),
                (true, PROBE)
            );
            let beside = next(&mut partition, now, &config).unwrap();
            assert!(beside.bulk_range.is_none(), "one try at a time");
            partition.in_flight = 0;
            partition.form.is_refused("0", PROBE, first, now);
            expected = (expected * 2).min(first * super::super::form::MAX_PROBE_STEPS);
        }
        partition.form.is_taken("0");
        partition.in_flight = 0;
        assert_eq!(next(&mut partition, now, &config).unwrap().operations.len(), 100);
    }

    #[test]
    fn the_form_is_not_tried_beside_as_many_bulk_requests_as_the_option_allows() {
        let config = config(&[("sink.partition-concurrency", "1")]);
        let (mut partition, now) = (partition_within(operations(3), &config), Instant::now());
        partition
            .form
            .is_refused("0", 100, config.bulk_probe_interval, now);
        partition.in_flight = 1;
        let due = now + config.bulk_probe_interval;
        assert!(next(&mut partition, due, &config).unwrap().bulk_range.is_none());
        partition.in_flight = 0;
        assert!(next(&mut partition, due, &config).unwrap().bulk_range.is_some());
    }

    #[test]
    fn the_form_is_not_tried_with_more_operations_than_the_option_allows() {
        let config = config(&[("sink.max-operations-per-request", "1")]);
        let (mut partition, now) = (partition_within(operations(3), &config), Instant::now());
        partition
            .form
            .is_refused("0", 100, config.bulk_probe_interval, now);
        let probe = next(&mut partition, now + config.bulk_probe_interval, &config).unwrap();
        assert_eq!((probe.bulk_range.is_some(), probe.operations.len()), (true, 1));
    }

    #[test]
    fn one_operation_alone_does_not_prove_that_the_form_is_the_matter() {
        let config = config(&[]);
        let (mut partition, now) = (partition(operations(3)), Instant::now());
        partition.form.is_refused("0", 1, Duration::from_secs(1), now);
        assert!(matches!(partition.form, Form::Bulk { suspicions: 1 }));
        partition.form.is_taken("0");
        partition.form.is_refused("0", 1, Duration::from_secs(1), now);
        assert!(next(&mut partition, now, &config).unwrap().bulk_range.is_some());
        partition.form.is_refused("0", 1, Duration::from_secs(1), now);
        assert!(matches!(partition.form, Form::OneByOne { .. }));
    }

    #[test]
    fn what_goes_alone_is_not_bounded_by_the_partitions_concurrency() {
        let config = config(&[("sink.bulk", "false")]);
        let mut partition = partition(operations(50));
        let now = Instant::now();
        let taken = std::iter::from_fn(|| next(&mut partition, now, &config)).count();
        assert_eq!((taken, partition.in_flight), (50, 0));
    }

    /// The next request, answered at once with so many of its operations throttled; how many it had.
    fn answer(partition: &mut Partition, now: Instant, config: &Config, throttled: usize) -> usize {
        let request = next(partition, now, config).unwrap();
        let operations = request.operations.len();
        partition.came_back(request.number, request.bulk_range.is_some());
        let answered = Answered {
            sent: request.sent,
            operations,
            bytes: 0,
            charge: 0.0,
            throttled,
            failed: 0,
        };
        partition.pace.answered(now, answered);
        operations
    }

    #[test]
    fn a_throttled_partition_sends_fewer_and_smaller_requests() {
        let config = config(&[]);
        let (mut partition, now) = (partition(operations(1000)), Instant::now());
        assert_eq!(answer(&mut partition, now, &config, 100), 100);
        let first = next(&mut partition, now, &config).unwrap();
        assert_eq!(first.operations.len(), 100);
        assert!(next(&mut partition, now, &config).is_none(), "one at a time");
        partition.came_back(first.number, true);
        assert_eq!(answer(&mut partition, now, &config, 100), 100);
        for size in [50, 25, 12, 6] {
            assert_eq!(answer(&mut partition, now, &config, size), size);
        }
        // It counts as full although more operations wait, and the next one waits for its answer.
        let small = next(&mut partition, now, &config).unwrap();
        assert_eq!(small.operations.len(), 3);
        assert!(next(&mut partition, now, &config).is_none());
    }

    #[test]
    fn what_goes_alone_to_a_throttled_partition_is_bounded() {
        let config = config(&[("sink.bulk", "false")]);
        let (mut partition, now) = (partition(operations(300)), Instant::now());
        for _ in 0..10 {
            assert_eq!(answer(&mut partition, now, &config, 1), 1);
        }
        let most = partition.pace.alone(now).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| next(&mut partition, now, &config)).collect();
        assert!(most < 10 && taken.len() == most, "{} of {most}", taken.len());
        partition.came_back(taken[0].number, false);
        assert!(next(&mut partition, now, &config).is_some(), "a place is free");
    }

    #[test]
    fn what_waits_for_the_partitions_sake_is_its_own_backlog() {
        let config = config(&[]);
        let (mut partition, now) = (partition(operations(500)), Instant::now());
        assert_eq!(partition.backlog(now), 0, "it waits for its turn");
        partition.hold(now + HANGING, false);
        assert_eq!(partition.backlog(now), 200, "no more than it gets through soon");
        let later = now + HANGING;
        assert_eq!(partition.backlog(later), 0);
        answer(&mut partition, later, &config, 100);
        assert_eq!(partition.backlog(later), 200);
        partition.queue.truncate(50);
        partition.behind = 30;
        assert_eq!(partition.backlog(later), 80);
    }

    #[test]
    fn a_request_that_the_sink_itself_holds_back_does_not_hang() {
        let config = config(&[]);
        let (mut partition, now) = (partition(operations(1)), Instant::now());
        let request = next(&mut partition, now, &config).unwrap();
        let sent = now + 4 * HANGING;
        partition.put_off(request.number, true, sent);
        operations(2).into_iter().for_each(|op| partition.enqueue(op));
        let almost = sent + HANGING - Duration::from_millis(1);
        assert!(
            next(&mut partition, almost, &config).is_none(),
            "it fills no request"
        );
        assert_eq!(partition.next_look(almost), Some(sent + HANGING));
        assert!(next(&mut partition, sent + HANGING, &config).is_some());
    }

    #[test]
    fn what_waits_for_time_alone_says_when_to_look() {
        let config = config(&[]);
        let (mut partition, now) = (partition(operations(1)), Instant::now());
        assert!(next(&mut partition, now, &config).is_some());
        assert_eq!(partition.next_look(now), None, "nothing waits");
        operations(2).into_iter().for_each(|op| partition.enqueue(op));
        assert!(next(&mut partition, now, &config).is_none());
        assert_eq!(partition.next_look(now), Some(now + HANGING));
        partition.in_flight = config.partition_concurrency;
        assert_eq!(partition.next_look(now), None, "an answer is needed");
        let second = Duration::from_secs(1);
        partition.hold(now + second, false);
        partition.hold(now + 2 * second, true);
        partition.hold(now + second, true);
        assert_eq!(partition.next_look(now), Some(now + 2 * second));
        partition.in_flight = 0;
        assert!(next(&mut partition, now + 2 * second, &config).is_some());
    }
}
