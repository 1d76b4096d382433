//! The sink's decisions, alone: events in, acts out.
//!
//! [`Engine`] does no I/O, takes no lock, looks at no clock and starts no task. Each event comes with the time at which it happened; what is
//! to be done about it is in [`Engine::acts`] afterwards. What chance decides comes from one generator, whose seed is given, and nothing
//! depends on the order of a hash table: the same events at the same times lead to the same acts.
//!
//! The rules that it keeps stand in the description of [the module above](super).

mod evidence;
mod settle;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::status::Next;

use super::form::{Form, Searches};
use super::letters::{Letter, Letters};
use super::operation::{Operation, Rules, Verb};
use super::pace::Limits;
use super::partition::{halves, Partition, Request};
use super::routing::Router;
use super::submissions::{Completion, OutcomeResult, Submissions};
use super::wire::{self, OperationResult};

use evidence::Held;

/// What the engine wants done.
pub enum Act {
    /// Send a request, and tell [`Engine::concluded`] what came back.
    Send(Request),
    /// Read the physical partitions, and tell [`Engine::refreshed`].
    Refresh,
    /// Look whether the container is the one that was opened, and tell [`Engine::checked`].
    Check,
    /// Store a dead letter, and tell [`Engine::stored`].
    Store(Box<Letter>),
    /// Tell the caller.
    Complete(Completion),
    /// Call [`Engine::woken`] then, and forget the time that was named before. It may be called earlier.
    WakeAt(Instant),
}

/// What came back.
pub enum Answer {
    /// One result per operation, in order.
    Each(Vec<OperationResult>),
    /// The request failed as a whole.
    Whole(CoreError),
}

impl Answer {
    /// Request units that it cost.
    pub fn request_charge(&self) -> f64 {
        match self {
            Answer::Each(results) => results.iter().map(|result| result.request_charge).sum(),
            Answer::Whole(error) => error.request_charge,
        }
    }
}

/// The operations of a submission, looked through.
pub struct Checked {
    fit: Vec<Operation>,
    /// They cannot be sent at all.
    refused: Vec<(Operation, CoreError)>,
    bytes: u64,
    /// What the core holds for them.
    footprint: u64,
    /// What they hold beside what was submitted.
    beside: u64,
}

impl Checked {
    /// Looks them through: what costs most of taking a submission, and needs no engine for it.
    pub fn of(submission: u64, operations: Vec<Operation>, rules: &Rules) -> Checked {
        let mut checked = Checked {
            fit: Vec::with_capacity(operations.len()),
            refused: Vec::new(),
            bytes: 0,
            footprint: 0,
            beside: 0,
        };
        for (index, mut op) in (0..).zip(operations) {
            op.submission = submission;
            op.index = index;
            checked.bytes += op.size() as u64;
            checked.footprint += op.footprint();
            let prepared = op.prepare(rules);
            checked.beside += op.bytes_beside();
            match prepared {
                Ok(()) => checked.fit.push(op),
                Err(e) => checked.refused.push((op, e)),
            }
        }
        checked
    }
}

/// What was counted since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations carried out.
    pub records: u64,
    pub failed: u64,
    pub skipped: u64,
    pub dead_lettered: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Bulk requests that were refused as a whole.
    pub bulk_refused: u64,
    /// Answers with status 429.
    pub throttled: u64,
    /// Operations that changed nothing, as their strategy asks.
    pub superseded: u64,
}

/// What is so now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Operations that wait for their turn or for another attempt.
    pub operations_waiting: u64,
    /// Bytes of the operations that have not ended.
    pub bytes_buffered: u64,
    /// How long the operation that has been failing longest is held up.
    pub held: Option<Duration>,
    /// Partitions whose operations go one by one, since the service does not take the bulk form.
    pub bulk_off: u64,
    /// Partitions that hold operations up which have failed.
    pub partitions_held: u64,
    /// Partitions that are asked for less than the options allow.
    pub partitions_slowed: u64,
}

/// Hashes that are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are used with this hasher")
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = v;
    }
}

/// By the hash of a document.
type Documents<T> = HashMap<u64, T, BuildHasherDefault<Identity>>;

/// What waits for the operation under way on a document.
enum Behind {
    One(Operation),
    /// A batch that waits for this document, and may wait for others too: its turn.
    Batch(u64),
}

/// A batch some of whose documents have another operation under way. It holds those that have none.
struct Gathering {
    batch: Operation,
    /// Documents that it waits for.
    missing: usize,
}

/// Operations that wait for themselves before another attempt.
struct Again {
    operations: Vec<Operation>,
    /// Where they come from.
    partition: u64,
    /// As two requests.
    cut: bool,
}

/// When to look whether the container is still the one that was opened: not every server refuses a request that means another one.
struct Check {
    interval: Duration,
    /// An interval after the first submission since the last look; `None` when nothing came.
    due: Option<Instant>,
    under_way: bool,
}

pub struct Engine {
    config: Arc<Config>,
    /// Whether there is a container for dead letters.
    stores_letters: bool,
    /// Whether documents can be read.
    reads: bool,
    rng: fastrand::Rng,
    router: Router,
    partitions: Vec<Partition>,
    /// Those that are not in the map any more, with requests under way: they may come back with the next map, when one was out of date.
    gone: Vec<Partition>,
    /// Partitions so far, by which they are numbered.
    serials: u64,
    submissions: Submissions,
    /// Documents with an operation under way, and the operations that wait behind it: seldom any, so that an entry stays small.
    #[expect(
        clippy::box_collection,
        reason = "a pointer in place of four words, in a map that is looked up twice for each operation"
    )]
    busy: Documents<Option<Box<VecDeque<Behind>>>>,
    /// Batches that wait for documents, by their turns. Each stands behind all that came before it on any of them, so that no two wait for one
    /// another.
    gathering: BTreeMap<u64, Gathering>,
    /// Documents whose operation under way has failed.
    held: Documents<Held>,
    in_flight: usize,
    /// Operations that have not ended.
    open: usize,
    /// How often there was no room any more for another batch of the writer, or was again: odd while there is none.
    room: u64,
    /// When something came back last, or is to be expected to.
    heard: Option<Instant>,
    /// Operations so far, by which they are put in order.
    turns: u64,
    /// Where the search for the next request begins, so that no partition starves when requests are scarce.
    turn: usize,
    /// The partitions are being read.
    refreshing: bool,
    letters: Letters,
    searches: Searches,
    /// By when they are due, and in the order in which they came.
    again: BTreeMap<(Instant, u64), Again>,
    agains: u64,
    check: Check,
    /// Nothing is taken or sent any more: a bug has left the engine in a state that nobody knows, or the container is another one.
    broken: Option<CoreError>,
    counts: Counts,
    operations_waiting: u64,
    /// Those of them that share their frame with no other.
    waiting_apart: u64,
    bytes_buffered: u64,
    /// Bytes that operations which have not ended hold beside what was submitted.
    bytes_beside: u64,
    /// Those of them that are to be written in place of what was read.
    bytes_merged: u64,
    /// The last time that was named in an act.
    wake_at: Option<Instant>,
    acts: Vec<Act>,
}

impl Engine {
    /// An engine over these partitions, which are in order of their bounds; `seed` decides what chance decides.
    ///
    /// # Errors
    /// Transient when there are no partitions.
    pub fn new(
        config: Arc<Config>,
        definition: PartitionKeyDefinition,
        partitions: Vec<(String, EffectivePartitionKey)>,
        check_interval: Duration,
        stores_letters: bool,
        seed: u64,
    ) -> Result<Engine> {
        if partitions.is_empty() {
            return Err(CoreError::new(
                Kind::Transient,
                format!(
                    "the service names no partitions of container '{}'; try again",
                    config.container
                ),
            ));
        }
        let limits = Limits::of(&config);
        Ok(Engine {
            config,
            stores_letters,
            reads: false,
            rng: fastrand::Rng::with_seed(seed),
            router: Router::new(definition, seed),
            serials: partitions.len() as u64,
            partitions: (0..)
                .zip(partitions)
                .map(|(serial, p)| Partition::new(serial, p, limits))
                .collect(),
            gone: Vec::new(),
            submissions: Submissions::default(),
            busy: Documents::default(),
            gathering: BTreeMap::new(),
            held: Documents::default(),
            in_flight: 0,
            open: 0,
            room: 0,
            heard: None,
            turns: 0,
            turn: 0,
            refreshing: false,
            letters: Letters::default(),
            searches: Searches::default(),
            again: BTreeMap::new(),
            agains: 0,
            check: Check {
                interval: check_interval,
                due: None,
                under_way: false,
            },
            broken: None,
            counts: Counts::default(),
            operations_waiting: 0,
            waiting_apart: 0,
            bytes_buffered: 0,
            bytes_beside: 0,
            bytes_merged: 0,
            wake_at: None,
            acts: Vec::new(),
        })
    }

    /// The same where documents can be read, so that conflicts are compared with what is stored.
    pub fn with_reads(mut self, reads: bool) -> Engine {
        self.reads = reads;
        self
    }

    /// What is to be done, in this order, since it was last asked for.
    pub fn acts(&mut self) -> std::vec::Drain<'_, Act> {
        self.acts.drain(..)
    }

    /// What was counted since it was last asked for.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    pub fn gauges(&self, now: Instant) -> Gauges {
        let since = self.held.values().map(|held| held.since);
        let oldest = since.chain(self.letters.oldest()).min();
        let off = self
            .partitions
            .iter()
            .filter(|p| matches!(p.form, Form::OneByOne { .. }));
        Gauges {
            operations_waiting: self.operations_waiting,
            bytes_buffered: self.bytes_buffered,
            held: oldest.map(|since| now.saturating_duration_since(since)),
            bulk_off: off.count() as u64,
            partitions_held: self.partitions_held() as u64,
            partitions_slowed: self.partitions.iter().filter(|p| p.pace.is_slowed(now)).count() as u64,
        }
    }

    /// Whether the writer may hand over another batch, as a number that grows by one each time that this changes: an odd one says that
    /// it may not. Asked for after each event.
    ///
    /// Records count that have not ended, but those that a partition holds up for its own sake, as many as it gets through soon: so a
    /// partition that is throttled leaves the others their room. Of these there are no more than of the others, however many partitions
    /// hold some up. All bytes that are held count.
    pub fn room(&mut self, now: Instant) -> u64 {
        let most = self.config.max_in_flight_bytes;
        if self.held_bytes() >= most && 2 * self.live_bytes() <= most {
            self.set_apart();
        }
        let most_records = self.config.max_in_flight_records;
        let apart: usize = self.partitions.iter().map(|p| p.backlog(now)).sum();
        let records = self.open.saturating_sub(apart.min(most_records)) + self.config.max_batch;
        let is_full = self.open > 0 && (self.held_bytes() >= most || records > most_records);
        self.room += u64::from(is_full != (self.room % 2 == 1));
        self.room
    }

    /// The same where all has been given up: nothing is held any more, and nobody has to wait to be told so.
    pub fn room_after_failure(&mut self) -> u64 {
        self.room += self.room % 2;
        self.room
    }

    /// Bytes that are held for what has not completed.
    pub fn held_bytes(&self) -> u64 {
        self.submissions.held_bytes() + self.bytes_beside
    }

    /// Bytes that are held for the sake of operations that have not ended.
    fn live_bytes(&self) -> u64 {
        self.bytes_buffered + self.bytes_beside + self.open as u64 * Operation::OVERHEAD
    }

    /// Gives the operations that wait a copy of their own each, so that the frames that they came in go: of a batch that waits for one last
    /// record no more is held than that.
    fn set_apart(&mut self) {
        if self.waiting_apart >= self.operations_waiting {
            return;
        }
        let queued = self
            .partitions
            .iter_mut()
            .flat_map(|p| p.queue.iter_mut().chain(p.parts.iter_mut().flatten()));
        let behind = self
            .busy
            .values_mut()
            .flatten()
            .flat_map(|waiting| waiting.iter_mut())
            .filter_map(|behind| match behind {
                Behind::One(op) => Some(op),
                Behind::Batch(_) => None,
            });
        let gathering = self.gathering.values_mut().map(|gathering| &mut gathering.batch);
        let again = self.again.values_mut().flat_map(|again| &mut again.operations);
        let waiting = queued.chain(behind).chain(gathering).chain(again);
        for op in waiting.filter(|op| !op.is_apart()) {
            op.set_apart();
            self.submissions.set_apart(op.submission, op.apart_bytes());
            self.waiting_apart += 1;
        }
    }

    /// Makes [`Engine::room`] panic.
    #[cfg(test)]
    pub fn break_room(&mut self) {
        let config = Config {
            max_batch: usize::MAX,
            ..(*self.config).clone()
        };
        self.config = Arc::new(config);
    }

    /// Nothing is left of what was submitted.
    #[cfg(test)]
    pub fn is_at_rest(&self) -> bool {
        let empty = |p: &Partition| {
            p.queue.is_empty()
                && p.parts.is_empty()
                && (p.in_flight, p.under_way.len(), p.behind) == (0, 0, 0)
        };
        self.partitions.iter().all(empty)
            && self.in_flight == 0
            && self.gone.is_empty()
            && self.busy.is_empty()
            && self.gathering.is_empty()
            && self.held.is_empty()
            && self.again.is_empty()
            && self.searches.count() == 0
            && (self.operations_waiting, self.waiting_apart) == (0, 0)
            && (self.bytes_buffered, self.bytes_beside, self.bytes_merged) == (0, 0, 0)
            && !self.refreshing
    }

    /// Takes the operations of a submission.
    ///
    /// # Errors
    /// BadRequest when a submission of this number has not completed: then nothing is taken.
    pub fn accept(&mut self, now: Instant, submission: u64, operations: Checked) -> Result<()> {
        if self.submissions.is_open(submission) {
            return Err(CoreError::new(
                Kind::BadRequest,
                format!(
                    "submission {submission} has not completed; give each submission a number of its own"
                ),
            ));
        }
        let Checked {
            fit,
            mut refused,
            bytes,
            footprint,
            beside,
        } = operations;
        let count = fit.len() + refused.len();
        if count == 0 {
            self.acts.push(Act::Complete(Completion::empty(submission)));
            return Ok(());
        }
        if let Some(error) = &self.broken {
            self.counts.failed += count as u64;
            let failed = Completion::empty(submission).fail(error);
            self.acts.push(Act::Complete(failed));
            return Ok(());
        }
        if self.open == 0 {
            self.heard(now);
        }
        self.submissions.begin(submission, count, footprint);
        self.open += count;
        self.bytes_buffered += bytes;
        self.bytes_beside += beside;
        self.operations_waiting += fit.len() as u64;
        self.check.due.get_or_insert(now + self.check.interval);
        // Also those that cannot be sent have a place in time: their letters say it.
        let first = self.turns;
        self.turns += count as u64;
        for (op, _) in &mut refused {
            op.turn = first + u64::from(op.index);
        }
        for mut op in fit {
            op.turn = first + u64::from(op.index);
            let (place, document) = match self.router.place(&op, &self.partitions) {
                Ok(found) => found,
                Err(e) => {
                    self.operations_waiting -= 1;
                    refused.push((op, e));
                    continue;
                }
            };
            op.canonical_key = place.canonical;
            self.fit(&mut op);
            if let Some(first) = op.hash_documents(place.hash) {
                op.document = first;
                self.gather(op, place.partition);
                continue;
            }
            op.document = document;
            match self.busy.entry(document) {
                Entry::Occupied(mut waiting) => {
                    let waiting = waiting.get_mut().get_or_insert_default();
                    waiting.push_back(Behind::One(op));
                    self.partitions[place.partition].behind += 1;
                }
                Entry::Vacant(free) => {
                    free.insert(None);
                    self.partitions[place.partition].enqueue(op);
                }
            }
        }
        self.go_on(now);
        for (op, e) in refused {
            self.settle_failure(now, op, e);
        }
        Ok(())
    }

    /// The partitions were read, or could not be. There is one attempt: the operations that asked for it have their own, and ask again.
    pub fn refreshed(&mut self, now: Instant, read: Result<Vec<(String, EffectivePartitionKey)>>) {
        self.refreshing = false;
        if read.is_ok() {
            self.heard(now);
        }
        match read {
            Ok(partitions) if !partitions.is_empty() => self.install(now, partitions),
            Ok(_) => {
                tracing::warn!(target: "cosmosflink::sink", "the service names no partitions; going on with those that are known");
            }
            Err(e) => {
                tracing::warn!(target: "cosmosflink::sink", "reading the partitions failed, going on with those that are known: {e}");
            }
        }
        self.go_on(now);
    }

    /// The container was looked at.
    pub fn checked(&mut self, now: Instant, result: Result<()>) {
        self.check.under_way = false;
        match result {
            Err(e) if e.next == Next::End => self.fail(&e),
            Err(e) => {
                tracing::debug!(target: "cosmosflink::sink", "the container cannot be looked up now: {e}");
                self.go_on(now);
            }
            Ok(()) => self.go_on(now),
        }
    }

    /// An attempt to store a dead letter, the `attempts`th, has failed, and there is another one after this wait. It is an answer like any
    /// other: a container that throttles is not silent.
    pub fn not_stored_yet(
        &mut self,
        now: Instant,
        letter: u64,
        attempts: u32,
        error: &CoreError,
        wait: Duration,
    ) {
        self.heard(now + wait);
        self.letters.failed(letter, attempts, error.clone());
    }

    /// A dead letter was stored, or could not be.
    pub fn stored(&mut self, now: Instant, letter: Box<Letter>, result: Result<()>) {
        if self.broken.is_some() {
            return;
        }
        self.heard(now);
        self.letters.ended(&letter);
        let Letter { operation, error, .. } = *letter;
        match result {
            Ok(()) => self.end_failed(operation, OutcomeResult::DeadLettered, error),
            Err(e) => {
                let message = format!(
                    "{}; and storing it in the dead-letter container failed: {}",
                    error.message, e.message
                );
                self.end_failed(operation, OutcomeResult::Failed, CoreError { message, ..error });
            }
        }
        self.store_letters(now);
        // What was held back by letters that wait.
        self.go_on(now);
    }

    /// Takes a batch: it goes when it holds all of its documents.
    fn gather(&mut self, batch: Operation, partition: usize) {
        let mut missing = 0;
        for document in batch.documents() {
            match self.busy.entry(*document) {
                Entry::Occupied(mut waiting) => {
                    let waiting = waiting.get_mut().get_or_insert_default();
                    waiting.push_back(Behind::Batch(batch.turn));
                    missing += 1;
                }
                Entry::Vacant(free) => {
                    free.insert(None);
                }
            }
        }
        match missing {
            0 => self.partitions[partition].enqueue(batch),
            _ => {
                self.gathering.insert(batch.turn, Gathering { batch, missing });
            }
        }
    }

    /// Says how the next request of an operation may travel.
    fn fit(&self, op: &mut Operation) {
        let bytes = wire::bulk_size(op);
        op.bulk_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        op.alone = op.verb() == Verb::Batch || 2 + bytes > self.config.max_request_bytes;
        op.needs_bulk = self.config.bulk && !op.alone && wire::check_address(op).is_err();
    }

    /// The time that was named has come.
    pub fn woken(&mut self, now: Instant) {
        self.wake_at = None;
        self.go_on(now);
        if let Some(error) = self.stalled(now) {
            self.fail(&error);
        }
    }

    /// Ends every submission that has not completed, and takes no more. The first reason counts.
    pub fn fail(&mut self, error: &CoreError) {
        tracing::error!(target: "cosmosflink::sink", "{error}");
        let error = self.broken.get_or_insert_with(|| error.clone()).clone();
        // What was to be sent is not.
        self.acts.retain(|act| matches!(act, Act::Complete(_)));
        for (open, completion) in self.submissions.fail_all(&error) {
            self.counts.failed += open as u64;
            self.acts.push(Act::Complete(completion));
        }
        for p in &mut self.partitions {
            p.queue.clear();
            p.parts.clear();
            p.behind = 0;
        }
        self.again.clear();
        self.gathering.clear();
        self.busy.clear();
        self.held.clear();
        self.letters.clear();
        self.searches.clear();
        (self.operations_waiting, self.waiting_apart, self.open) = (0, 0, 0);
        (self.bytes_buffered, self.bytes_beside, self.bytes_merged) = (0, 0, 0);
    }

    /// A request is not sent before then, by the sink's own choice: that is no silence of the service.
    pub fn put_off(&mut self, request: &Request, until: Instant) {
        self.heard(until);
        let in_bulk = request.bulk_range.is_some();
        let all = self.partitions.iter_mut().chain(&mut self.gone);
        for p in all.filter(|p| p.serial == request.partition) {
            p.put_off(request.number, in_bulk, until);
        }
    }

    /// Until when nothing is to be sent to the partition of a request, if that is not over. The partition may have gone since it was taken,
    /// and come back under the same id.
    pub fn held_until(&self, request: &Request, now: Instant) -> Option<Instant> {
        let same = |p: &&Partition| {
            p.serial == request.partition || request.bulk_range.as_ref().is_some_and(|id| *id == p.id)
        };
        let held = self.partitions.iter().filter(same).map(|p| p.held_until(now));
        held.max().flatten()
    }

    /// The partition of this serial number, if it is still there.
    fn partition(&mut self, serial: u64) -> Option<&mut Partition> {
        self.partitions.iter_mut().find(|p| p.serial == serial)
    }

    /// Puts an operation whose document it already holds, and that counts as waiting, into its partition's queue, at its place in time.
    fn enqueue_again(&mut self, op: Operation) -> &mut Partition {
        let at = place_again(&mut self.router, &self.partitions, &op);
        let partition = &mut self.partitions[at];
        partition.enqueue(op);
        partition
    }

    /// Does what the time asks for, sends what may be sent now, and says when to look again.
    fn go_on(&mut self, now: Instant) {
        if self.broken.is_some() {
            return;
        }
        while let Some(due) = self.again.first_entry().filter(|due| due.key().0 <= now) {
            let ((due, _), again) = due.remove_entry();
            self.try_again(due, again);
        }
        if self.check.due.is_some_and(|due| due <= now) {
            self.check.due = self.check.under_way.then_some(now + self.check.interval);
            if !std::mem::replace(&mut self.check.under_way, true) {
                self.acts.push(Act::Check);
            }
        }
        let next_look = match self.letters.are_too_many() {
            true => None,
            false => self.send(now),
        };
        let next_again = self.again.first_key_value().map(|((due, _), _)| *due);
        let next = [next_look, next_again, self.check.due, self.stalls_at(now)]
            .into_iter()
            .flatten()
            .min();
        if let Some(at) = next.filter(|at| self.wake_at.is_none_or(|named| *at < named)) {
            self.wake_at = Some(at);
            self.acts.push(Act::WakeAt(at));
        }
    }

    /// Sends what may be sent now. Gives the next time at which there may be more, where no answer will say so.
    fn send(&mut self, now: Instant) -> Option<Instant> {
        let (n, most) = (self.partitions.len(), self.config.max_concurrency);
        let mut without = self.partitions.iter().filter(|p| p.under_way.is_empty()).count();
        let (mut idle, mut next_look) = (0, None::<Instant>);
        // What is read to be merged with is held until it is written: no more is read while that is too much.
        let reads = self.bytes_merged < self.config.max_in_flight_bytes;
        while idle < n && self.in_flight < most {
            let at = self.turn % n;
            self.turn = self.turn.wrapping_add(1);
            let partition = &mut self.partitions[at];
            // The last places are kept for partitions that have none: one whose requests hang must not stop all.
            let kept = without.min(most / 4);
            let request = match !partition.under_way.is_empty() && most - self.in_flight <= kept {
                true => None,
                false => partition.next(now, &self.config, &self.searches, reads),
            };
            let Some(mut request) = request else {
                idle += 1;
                let look = partition.next_look(now);
                next_look = next_look.into_iter().chain(look).min();
                continue;
            };
            (idle, next_look) = (0, None);
            let slowed = partition.pace.is_slowed(now);
            without -= usize::from(partition.under_way.len() == 1);
            self.in_flight += 1;
            for op in &mut request.operations {
                // Time in which nothing was asked for it is none in which it failed.
                let waited = op.ready.take().map(|ready| now.saturating_duration_since(ready));
                if let (Some(attempts), Some(waited)) = (&mut op.attempts, waited) {
                    attempts.leave_out(waited);
                }
            }
            self.operations_waiting -= request.operations.len() as u64;
            self.waiting_apart -= apart(&request.operations);
            if slowed && self.submissions.held_bytes() >= self.config.max_in_flight_bytes / 2 {
                // What takes long must not hold the frames of others meanwhile.
                for op in request.operations.iter_mut().filter(|op| !op.is_apart()) {
                    op.set_apart();
                    self.submissions.set_apart(op.submission, op.apart_bytes());
                }
            }
            self.acts.push(Act::Send(request));
            // Nothing could be heard of it before.
            self.heard(now);
        }
        next_look
    }

    /// The wait of these operations is over since `due`.
    fn try_again(&mut self, due: Instant, again: Again) {
        let Again {
            mut operations,
            partition,
            cut,
        } = again;
        for op in &mut operations {
            op.ready = Some(due);
        }
        match self.partition(partition) {
            Some(p) if cut => p.parts.extend(halves(operations)),
            _ => operations.into_iter().for_each(|op| {
                self.enqueue_again(op);
            }),
        }
    }

    /// Replaces the map. A partition that is in both keeps what it knows; what waits in one that is gone is routed anew, and its heirs go on
    /// at its pace.
    fn install(&mut self, now: Instant, partitions: Vec<(String, EffectivePartitionKey)>) {
        let old = std::mem::take(&mut self.partitions);
        let ends = old.iter().skip(1).map(|p| Some(p.min.clone())).chain([None]);
        let ends: Vec<_> = ends.collect();
        let mut old: BTreeMap<Arc<str>, (Partition, Option<EffectivePartitionKey>)> = old
            .into_iter()
            .zip(ends)
            .map(|(p, end)| (p.id.clone(), (p, end)))
            .collect();
        let limits = Limits::of(&self.config);
        let mut fresh = Vec::new();
        for (id, min) in partitions {
            let partition = match old.remove(id.as_str()) {
                Some((mut known, _)) => {
                    known.min = min;
                    known
                }
                None => {
                    if let Some(back) = self.gone.iter().position(|p| *p.id == *id) {
                        let mut back = self.gone.swap_remove(back);
                        back.min = min;
                        self.partitions.push(back);
                        continue;
                    }
                    self.serials += 1;
                    fresh.push(self.partitions.len());
                    Partition::new(self.serials - 1, (id, min), limits)
                }
            };
            self.partitions.push(partition);
        }
        for at in fresh {
            let end = self.partitions.get(at + 1).map(|next| next.min.clone());
            let heir = &mut self.partitions[at];
            let overlaps = |(gone, gone_end): &&(Partition, Option<EffectivePartitionKey>)| {
                end.as_ref().is_none_or(|end| gone.min < *end)
                    && gone_end.as_ref().is_none_or(|end| heir.min < *end)
            };
            let before: Vec<_> = old
                .values()
                .filter(overlaps)
                .map(|(gone, _)| &gone.pace)
                .collect();
            for pace in before {
                heir.pace.inherit(pace, now);
            }
        }
        self.router.forget();
        for (mut gone, _) in old.into_values() {
            for op in gone.take_waiting() {
                self.enqueue_again(op);
            }
            if !gone.under_way.is_empty() {
                self.gone.push(gone);
            }
        }
        self.count_behind();
    }

    /// Counts anew what waits behind other operations of the same documents, by the map as it is now.
    fn count_behind(&mut self) {
        self.partitions.iter_mut().for_each(|p| p.behind = 0);
        for waiting in self.busy.values().flatten() {
            let ones = waiting.iter().filter_map(|behind| match behind {
                Behind::One(op) => Some(op),
                Behind::Batch(_) => None,
            });
            if let Some(first) = ones.clone().next() {
                let at = place_again(&mut self.router, &self.partitions, first);
                self.partitions[at].behind += ones.count();
            }
        }
    }
}

/// How many of these share their frame with no other.
fn apart(operations: &[Operation]) -> u64 {
    operations.iter().filter(|op| op.is_apart()).count() as u64
}

/// Where an operation belongs that was placed before.
fn place_again(router: &mut Router, partitions: &[Partition], op: &Operation) -> usize {
    match router.place(op, partitions) {
        Ok((place, _)) => place.partition,
        // It was placed before, with the same key.
        Err(_) => 0,
    }
}
