//! The sink: bulk writes by physical partition, in an order that keeps the operations on one document apart.
//!
//! * An operation is routed by the hash of its partition key to the physical partition that owns it, and travels with up to
//!   99 others of that partition in one non-atomic bulk request. While a request of a partition is under way, the next one waits until
//!   it is full or the first is back: an idle sink answers at once, a busy one sends full requests. What is too large for a bulk request
//!   goes alone; such requests are bounded by the writer's concurrency, not by that of the partition.
//! * A bulk request that is refused as a whole is cut into halves until the operation that spoils it is alone; it then goes alone, and
//!   has a verdict of its own. Where every operation of a refused request is taken alone and none in bulk, the form itself is the matter:
//!   the partition's operations go one by one, and the form is tried again after a while.
//! * At most one operation on a document is under way. Later ones wait behind it, also while it is being retried. A partition's
//!   operations wait in the order in which they came, whatever happened to them before.
//! * What the service turns away for the moment is retried with backoff inside a deadline. A 429 holds its partition
//!   back for as long as the service asks, a 410 holds it until its next try is due or a new map of the partitions is there, which is
//!   read meanwhile. The other partitions go on.
//! * Every submission completes exactly once, whatever happens: when its last operation has ended, or at once with the first that failed for
//!   good and was neither skipped nor stored as a dead letter.
//! * No partition takes the last places of the writer's concurrency while another has none, so that one whose requests hang stops itself alone.
//! * Nothing is written to a container that was created anew since the sink was opened, whoever of the account's users finds out.
//! * Refused operations that become dead letters are stored a few at a time. While many wait for that, no new requests are sent.

mod dead_letter;
mod operation;
mod wire;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{FeedRange, PartitionKeyDefinition};
use crossbeam_channel::{Receiver, Sender};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::{look_up_at_opening, open_blocking, within, Account};
use crate::config::{Config, FailureMode};
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameWriter};
use crate::metrics::Metrics;
use crate::retry::Attempts;
use crate::source::panic_text;
use crate::status::{Blame, Fate, Next};

use dead_letter::DeadLetters;
use operation::{canonical_key, Refusal};
use wire::ContainerService;

pub use wire::{bulk_body, bulk_results, OperationResult, Service};

pub use operation::{decode_operations, encode_operations, NewOperation, Operation, OperationKind};

/// Partition keys whose place is remembered. Beyond it the memory begins anew, since a job with that many keys
/// gains nothing from it.
const KEY_CACHE: usize = 65_536;

/// Operations of the request that tries the form again. With two, a document that spoils it does not pass for the form.
const PROBE: usize = 2;

/// The pause between two tries of the form doubles up to this many times the option's value.
const MAX_PROBE_STEPS: u32 = 32;

/// Dead letters that are stored at the same time: more would take the account's throughput from the records that are good.
const LETTERS: usize = 4;

/// Refused operations that may wait for their dead letters before nothing else is sent: what is refused faster than it can be stored must
/// not fill the memory.
const MAX_WAITING_LETTERS: usize = 100;

/// Bytes of partition keys whose place is remembered.
const KEY_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A bulk request that has been under way for so long holds up no operations that do not fill the next one.
const HANGING: Duration = Duration::from_millis(500);

/// Failures of unknown fate after which a bulk request is sent again in halves: a server may answer so to one document among a hundred.
const CUT_AFTER: u32 = 3;

/// How long `close` waits for requests to end.
const CLOSE: Duration = Duration::from_secs(2);

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OutcomeResult {
    Ok = 1,
    Skipped = 2,
    DeadLettered = 3,
    Failed = 4,
}

/// The one answer to a submission.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The number that the caller gave it.
    pub submission: u64,
    /// Request units of the attempts of its operations: of all of them, or of those that had ended before one failed.
    pub request_charge: f64,
    /// Its operations that were not carried out, in the order in which they ended. At most one is [`OutcomeResult::Failed`], the last.
    pub failures: Vec<Failure>,
}

/// An operation that was not carried out.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its place in the submission, from 0. Where the sink itself is the matter and not one operation, 0.
    pub index: u32,
    /// How it was dealt with; never [`OutcomeResult::Ok`].
    pub result: OutcomeResult,
    /// What it failed with.
    pub error: CoreError,
    /// How often it was tried.
    pub attempts: u32,
}

/// One message for each submission, not for each operation: the channel's locks, and the wake-ups of the thread that waits for
/// them, are shared by all its operations.
enum Message {
    Done(Completion),
    WakeUp,
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

/// Whether a partition's operations travel in bulk.
#[derive(Debug)]
enum Form {
    /// They do. A single operation that was refused in bulk and taken alone may have been the matter, a second one in a row proves
    /// that it is the form.
    Bulk { suspicions: u32 },
    /// The service does not take it now.
    OneByOne {
        /// When it is tried again.
        until: Instant,
        pause: Duration,
        /// The try is under way.
        probing: bool,
    },
}

struct Partition {
    /// Tells it apart from an earlier one of the same id: an id may go with one map and come back with the next.
    serial: u64,
    /// The service's id of the range, for the bulk request's header.
    id: Arc<str>,
    min: EffectivePartitionKey,
    /// In the order in which they came.
    queue: VecDeque<Operation>,
    /// Parts of refused bulk requests, which go before the queue.
    parts: VecDeque<Vec<Operation>>,
    /// Bulk requests.
    in_flight: usize,
    /// All requests, those for one operation among them.
    under_way: usize,
    /// Set by a 410: nothing is sent before.
    not_before: Option<Instant>,
    /// Set by a 429: nothing is sent before, and what moves on to another partition takes it along.
    throttled_until: Option<Instant>,
    /// When the last bulk request was sent.
    last_sent: Option<Instant>,
    /// A timer is running for operations that wait behind a request that does not come back.
    timer: bool,
    form: Form,
}

/// What is known of a submission that has not completed.
#[derive(Default)]
struct Submission {
    /// Operations that have not ended.
    open: usize,
    request_charge: f64,
    failures: Vec<Failure>,
}

struct Engine {
    partitions: Vec<Partition>,
    /// Partitions so far, by which they are numbered.
    serials: u64,
    /// Those that have not completed, by number.
    submissions: HashMap<u64, Submission, BuildHasherDefault<Identity>>,
    /// Partition key text to its place.
    places: HashMap<Box<[u8]>, Place>,
    /// Bytes of their texts.
    place_bytes: usize,
    /// Documents with an operation under way, and the operations that wait behind it: seldom any, so that an entry stays small.
    #[expect(
        clippy::box_collection,
        reason = "a pointer in place of four words, in a map that is looked up twice for each operation"
    )]
    busy: HashMap<u64, Option<Box<VecDeque<Operation>>>, BuildHasherDefault<Identity>>,
    /// Documents whose operation under way has failed, and since when.
    held: HashMap<u64, Instant, BuildHasherDefault<Identity>>,
    in_flight: usize,
    /// Operations so far, by which they are put in order.
    turns: u64,
    /// Where the search for the next request begins, so that no partition starves when requests are scarce.
    turn: usize,
    /// The partitions are being read.
    refreshing: bool,
    /// Refused operations that wait for their dead letters.
    letters: VecDeque<(Operation, CoreError, Instant)>,
    /// Dead letters that are being stored, by when their operations were refused.
    storing: Vec<Instant>,
    /// Nothing is taken or sent any more: a bug has left the engine in a state that nobody knows, or the container is another one.
    broken: Option<CoreError>,
}

/// Where a partition key belongs.
#[derive(Clone)]
struct Place {
    partition: usize,
    /// Hash of the key's canonical text.
    hash: u64,
    /// The canonical text, where it differs from the one that was asked for.
    canonical: Option<Arc<str>>,
}

/// What is sent.
struct Request {
    operations: Vec<Operation>,
    /// `None`: one operation alone.
    bulk_range: Option<Arc<str>>,
    /// The serial number of the partition that it was taken from.
    partition: u64,
}

/// What came back.
enum Answer {
    /// One result per operation, in order.
    Each(Results),
    /// The bulk request failed as a whole.
    Whole(CoreError),
}

struct Inner {
    service: Box<dyn Service>,
    runtime: Handle,
    config: Arc<Config>,
    engine: Mutex<Engine>,
    done: Sender<Message>,
    /// Submissions so far.
    submitted: AtomicU64,
    metrics: Arc<Metrics>,
    dead_letters: Option<DeadLetters>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

/// A sink writer's handle.
pub struct Sink {
    inner: Arc<Inner>,
    completions: Receiver<Message>,
}

impl Sink {
    /// [`Sink::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Sink> {
        open_blocking(Self::connect(config))
    }

    /// Connects, looks the containers up and reads the physical partitions. Runs on the shared runtime.
    pub async fn connect(config: Config) -> Result<Sink> {
        let (account, config, container) = Account::open_with_container(config).await?;
        let runtime = account.runtime.handle().clone();
        let metrics = Arc::new(Metrics::default());
        let dead_letters = match config.failure_mode {
            FailureMode::DeadLetter => {
                let open = || DeadLetters::open(&account, &config, &metrics);
                Some(look_up_at_opening(&config, open).await?)
            }
            _ => None,
        };
        let service = ContainerService {
            account,
            container,
            config: config.clone(),
            metrics: metrics.clone(),
            seen: Mutex::default(),
        };
        let partitions = look_up_at_opening(&config, || service.partitions(false)).await?;
        Self::start(
            Box::new(service),
            dead_letters,
            partitions,
            config,
            metrics,
            runtime,
        )
    }

    /// A sink over any service, on a runtime of the caller's: for benchmarks and tests.
    #[doc(hidden)]
    pub fn over(service: Box<dyn Service>, config: Config, runtime: &Handle) -> Result<Sink> {
        let partitions = runtime.block_on(service.partitions(false))?;
        Self::start(
            service,
            None,
            partitions,
            Arc::new(config),
            Arc::default(),
            runtime.clone(),
        )
    }

    fn start(
        service: Box<dyn Service>,
        dead_letters: Option<DeadLetters>,
        partitions: Vec<(String, EffectivePartitionKey)>,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Result<Sink> {
        if partitions.is_empty() {
            return Err(CoreError::new(
                Kind::Transient,
                format!(
                    "the service names no partitions of container '{}'; try again",
                    config.container
                ),
            ));
        }
        // Unbounded, but never fuller than what was submitted, and that the writer bounds with its own buffers.
        let (done, completions) = crossbeam_channel::unbounded();
        let engine = Engine {
            serials: partitions.len() as u64,
            partitions: (0..)
                .zip(partitions)
                .map(|(serial, p)| Partition::new(serial, p))
                .collect(),
            submissions: HashMap::default(),
            places: HashMap::new(),
            place_bytes: 0,
            busy: HashMap::default(),
            held: HashMap::default(),
            in_flight: 0,
            turns: 0,
            turn: 0,
            refreshing: false,
            letters: VecDeque::new(),
            storing: Vec::new(),
            broken: None,
        };
        let inner = Arc::new(Inner {
            service,
            runtime,
            config,
            engine: Mutex::new(engine),
            done,
            submitted: AtomicU64::new(0),
            metrics,
            dead_letters,
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        });
        let me = inner.clone();
        Inner::spawn(&inner, async move { Inner::watch(me).await });
        Ok(Sink { inner, completions })
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.cancelled.is_cancelled() {
            return Err(CoreError::closed());
        }
        Ok(())
    }

    /// The counters, those among them that depend on the time brought up to date.
    pub fn metrics(&self) -> &Metrics {
        let (now, metrics) = (Instant::now(), &self.inner.metrics);
        let engine = self.inner.lock();
        let letters = engine
            .letters
            .iter()
            .map(|(_, _, since)| since)
            .chain(&engine.storing);
        let held = engine.held.values().chain(letters).min();
        let held = held.map(|since| now.duration_since(*since));
        // A failure is held up from its first moment on.
        let held = held.map_or(0, |h| (h.as_millis() as u64).max(1));
        metrics.held_millis.store(held, Relaxed);
        let off = engine
            .partitions
            .iter()
            .filter(|p| matches!(p.form, Form::OneByOne { .. }));
        metrics.bulk_off.store(off.count() as u64, Relaxed);
        if engine.broken.is_some() {
            // All has come back; what was under way counts down once more.
            metrics.bytes_buffered.store(0, Relaxed);
            metrics.operations_waiting.store(0, Relaxed);
        }
        metrics
    }

    /// Takes a frame of operations under a number of the caller's, which names no other submission of this sink. An operation that cannot
    /// be sent at all (no JSON object, bad id or key, too large) ends like any other that fails.
    ///
    /// # Errors
    /// State when the frame is damaged: then nothing of it is taken. Closed.
    pub fn submit(&self, submission: u64, frame: Vec<u8>) -> Result<()> {
        self.check_open()?;
        Inner::accept(&self.inner, submission, decode_operations(frame)?);
        Ok(())
    }

    /// The submissions that have completed, in the order in which they did; waits up to `timeout` for the first. Empty when none came in
    /// time, or when [`Sink::wake_up`] was called. A timeout of zero never waits.
    ///
    /// # Errors
    /// Closed, once there is nothing left to give.
    pub fn poll(&self, timeout: Duration) -> Result<Vec<Completion>> {
        let first = match timeout.is_zero() {
            true => self.completions.try_recv().ok(),
            false => self.completions.recv_timeout(timeout).ok(),
        };
        let mut out = Vec::new();
        let mut next = first;
        while let Some(Message::Done(completion)) = next {
            out.push(completion);
            next = self.completions.try_recv().ok();
        }
        if out.is_empty() {
            self.check_open()?;
        }
        Ok(out)
    }

    /// Makes a waiting [`Sink::poll`] return.
    pub fn wake_up(&self) {
        let _ = self.inner.done.send(Message::WakeUp);
    }

    /// Gives up what is under way and lets the account go. Idempotent. A writer that wants its operations done waits
    /// for its submissions first.
    pub fn close(&self) {
        self.inner.cancelled.cancel();
        self.inner.tasks.close();
        self.wake_up();
        let ended = async { tokio::time::timeout(CLOSE, self.inner.tasks.wait()).await };
        let _ = self.inner.runtime.block_on(ended);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A sink that was forgotten must not leave tasks behind.
        self.inner.cancelled.cancel();
    }
}

/// Encodes a COMPLETIONS frame.
pub fn encode_completions(completions: &[Completion]) -> Vec<u8> {
    let mut w = FrameWriter::with_capacity(FrameKind::Completions, 8 + completions.len() * 20);
    w.u32(completions.len() as u32);
    for completion in completions {
        w.u64(completion.submission);
        w.f64(completion.request_charge);
        w.u32(completion.failures.len() as u32);
        for Failure {
            index,
            result,
            error,
            attempts,
        } in &completion.failures
        {
            w.u32(*index);
            w.u8(*result as u8);
            w.u8(error.kind as u8);
            w.u8(u8::from(error.outlives_restart()));
            w.u16(error.status);
            w.u32(error.sub_status);
            w.u32(*attempts);
            w.str(&error.activity_id);
            w.str(&error.message);
        }
    }
    w.0
}

impl Partition {
    fn new(serial: u64, (id, min): (String, EffectivePartitionKey)) -> Self {
        Partition {
            serial,
            id: id.into(),
            min,
            queue: VecDeque::new(),
            parts: VecDeque::new(),
            in_flight: 0,
            under_way: 0,
            not_before: None,
            throttled_until: None,
            last_sent: None,
            timer: false,
            form: Form::Bulk { suspicions: 0 },
        }
    }

    /// Puts an operation where it belongs by the time at which it came.
    fn enqueue(&mut self, op: Operation) {
        if self.queue.back().is_none_or(|last| last.turn < op.turn) {
            return self.queue.push_back(op);
        }
        let at = self.queue.partition_point(|other| other.turn < op.turn);
        self.queue.insert(at, op);
    }

    /// Sends nothing for a while, because of a 429 or of something else.
    fn hold(&mut self, wait: Duration, throttled: bool) {
        let until = match throttled {
            true => &mut self.throttled_until,
            false => &mut self.not_before,
        };
        *until = (*until).max(Some(Instant::now() + wait));
    }

    /// The next request, if there is one that may be sent now.
    fn next(&mut self, now: Instant, config: &Config) -> Option<Request> {
        if self.not_before.max(self.throttled_until).is_some_and(|t| t > now) {
            return None;
        }
        let partition = self.serial;
        let request = |operations, bulk: Option<&Arc<str>>| {
            Some(Request {
                operations,
                bulk_range: bulk.cloned(),
                partition,
            })
        };
        let free = self.in_flight < config.partition_concurrency;
        if let Some(mut part) = self.parts.pop_front() {
            let exhausted =
                |op: &Operation| op.refusal.as_ref().is_some_and(|r| r.note(|_| ()).is_exhausted());
            if part.first().is_some_and(exhausted) {
                part.iter_mut().for_each(|op| op.alone = !op.needs_bulk);
                for op in part.drain(1..).rev() {
                    self.parts.push_front(vec![op]);
                }
            }
            if part[0].alone {
                return request(part, None);
            }
            if free {
                self.in_flight += 1;
                self.last_sent = Some(now);
                return request(part, Some(&self.id));
            }
            self.parts.push_front(part);
        }
        let first = self.queue.front()?;
        let probe = match &mut self.form {
            Form::Bulk { .. } => false,
            Form::OneByOne { until, probing, .. } if *until <= now && !*probing && !first.alone => {
                *probing = true;
                true
            }
            Form::OneByOne { .. } => {
                // What only a bulk request can carry waits for the form to come back.
                let at = self.queue.iter().position(|op| !op.needs_bulk)?;
                return request(vec![self.queue.remove(at)?], None);
            }
        };
        if first.alone || !config.bulk {
            return request(vec![self.queue.pop_front()?], None);
        }
        let most = if probe { PROBE } else { config.max_operations };
        let hangs = self.last_sent.is_none_or(|sent| sent + HANGING <= now);
        if !probe && self.in_flight > 0 && !(free && (hangs || fills_request(&self.queue, config))) {
            return None;
        }
        let operations = take_batch(&mut self.queue, most, config.max_request_bytes);
        self.in_flight += 1;
        self.last_sent = Some(now);
        request(operations, Some(&self.id))
    }

    /// How long until something may be sent that no answer will set going: the form is due to be tried, or a request hangs.
    fn unasked_wait(&self, now: Instant) -> Option<Duration> {
        self.queue.front()?;
        match self.form {
            Form::OneByOne {
                until,
                probing: false,
                ..
            } => Some(until.saturating_duration_since(now).max(Duration::from_millis(1))),
            Form::Bulk { .. } if self.in_flight > 0 => Some(HANGING),
            _ => None,
        }
    }

    /// The form was refused and every operation of the request taken alone.
    fn form_is_refused(&mut self, operations: usize, first_pause: Duration) {
        let pause = match &mut self.form {
            // One operation proves nothing: it may be the one that cannot travel in bulk.
            Form::Bulk { suspicions } if operations == 1 && *suspicions == 0 => {
                *suspicions += 1;
                return;
            }
            Form::Bulk { .. } => {
                tracing::warn!(target: "cosmosflink::sink",
                    "the service refuses bulk requests for partition {}; its operations go one by one, and bulk is tried again in {first_pause:?}",
                    self.id);
                first_pause
            }
            Form::OneByOne {
                pause, probing: true, ..
            } => (*pause * 2).min(first_pause * MAX_PROBE_STEPS),
            // Another request that was refused at the same time.
            Form::OneByOne { .. } => return,
        };
        self.form = Form::OneByOne {
            until: Instant::now() + pause,
            pause,
            probing: false,
        };
    }

    /// A bulk request was taken.
    fn form_is_taken(&mut self) {
        if matches!(self.form, Form::OneByOne { .. }) {
            tracing::info!(target: "cosmosflink::sink", "the service takes bulk requests for partition {} again", self.id);
        }
        self.form = Form::Bulk { suspicions: 0 };
    }

    /// The try of the form has shown nothing: there may be another one at once.
    fn probe_is_over(&mut self) {
        if let Form::OneByOne { probing, .. } = &mut self.form {
            *probing = false;
        }
    }
}

impl Engine {
    /// Where an operation belongs: the partition, and the hash of its document.
    fn place(&mut self, op: &Operation, definition: &PartitionKeyDefinition) -> Result<(Place, u64)> {
        let place = match self.places.get(op.partition_key()) {
            Some(place) => place.clone(),
            None => {
                let key = canonical_key(op.partition_key(), definition.paths())?;
                let range = FeedRange::for_partition(key.key, definition);
                let after = self
                    .partitions
                    .partition_point(|p| &p.min <= range.min_inclusive());
                let bytes = op.partition_key().len() + key.text.len();
                let canonical = (key.text.as_bytes() != op.partition_key()).then(|| key.text.into());
                let place = Place {
                    partition: after.saturating_sub(1),
                    hash: key.hash,
                    canonical,
                };
                if self.places.len() >= KEY_CACHE || self.place_bytes + bytes > KEY_CACHE_BYTES {
                    self.forget_places();
                }
                self.place_bytes += bytes;
                // A copy: a part of the frame would keep all of it.
                self.places.insert(op.partition_key().into(), place.clone());
                place
            }
        };
        let document = op.document_hash(place.hash);
        Ok((place, document))
    }

    fn forget_places(&mut self) {
        self.places.clear();
        self.place_bytes = 0;
    }

    /// The partition of this serial number, if it is still there.
    fn partition(&mut self, serial: u64) -> Option<&mut Partition> {
        self.partitions.iter_mut().find(|p| p.serial == serial)
    }

    /// A request has come back.
    fn came_back(&mut self, serial: u64) {
        self.in_flight -= 1;
        if let Some(p) = self.partition(serial) {
            p.under_way -= 1;
        }
    }
}

/// What one request gave: one result per operation, in order.
type Results = Vec<OperationResult>;

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn accept(this: &Arc<Self>, submission: u64, operations: Vec<Operation>) {
        let bytes: u64 = operations.iter().map(|o| o.size() as u64).sum();
        this.metrics.bytes_buffered.fetch_add(bytes, Relaxed);
        this.metrics
            .operations_waiting
            .fetch_add(operations.len() as u64, Relaxed);
        if operations.is_empty() {
            return this.complete(submission, Submission::default());
        }
        let open = operations.len();
        this.submitted.fetch_add(1, Relaxed);
        let mut refused = Vec::new();
        // Before the lock is taken: documents are looked through, while the runtime's threads go on with what is under way.
        let mut fit = Vec::with_capacity(open);
        for (index, mut op) in (0..).zip(operations) {
            op.submission = submission;
            op.index = index;
            match op.check() {
                Ok(()) => fit.push(op),
                Err(e) => refused.push((op, e)),
            }
        }
        let mut engine = this.lock();
        let new = Submission {
            open,
            ..Submission::default()
        };
        engine.submissions.insert(submission, new);
        if let Some(error) = engine.broken.clone() {
            return this.fail_all(&mut engine, &error);
        }
        for mut op in fit {
            match engine.place(&op, this.service.key_definition()) {
                Ok((place, document)) => {
                    op.document = document;
                    op.canonical_key = place.canonical;
                    op.alone = 2 + wire::bulk_size(&op) > this.config.max_request_bytes;
                    op.needs_bulk = this.config.bulk && !op.alone && wire::check_address(&op).is_err();
                    op.turn = engine.turns;
                    engine.turns += 1;
                    match engine.busy.entry(document) {
                        Entry::Occupied(mut waiting) => {
                            waiting.get_mut().get_or_insert_default().push_back(op);
                        }
                        Entry::Vacant(free) => {
                            free.insert(None);
                            engine.partitions[place.partition].enqueue(op);
                        }
                    }
                }
                Err(e) => refused.push((op, e)),
            }
        }
        Self::pump(this, &mut engine);
        drop(engine);
        for (op, e) in refused {
            this.metrics.operations_waiting.fetch_sub(1, Relaxed);
            Self::settle_failure(this, op, e);
        }
    }

    /// Puts an operation whose document it already holds, and that counts as waiting, into its partition's queue, at its place in time.
    fn enqueue_again(&self, engine: &mut Engine, op: Operation) {
        let partition = self.place_again(engine, &op);
        engine.partitions[partition].enqueue(op);
    }

    fn place_again(&self, engine: &mut Engine, op: &Operation) -> usize {
        match engine.place(op, self.service.key_definition()) {
            Ok((place, _)) => place.partition,
            // It was placed before, with the same key.
            Err(_) => 0,
        }
    }

    /// Sends what may be sent now.
    fn pump(this: &Arc<Self>, engine: &mut Engine) {
        if engine.letters.len() >= MAX_WAITING_LETTERS || engine.broken.is_some() {
            return;
        }
        let (n, most) = (engine.partitions.len(), this.config.max_concurrency);
        let (mut idle, now) = (0, Instant::now());
        let mut without = engine.partitions.iter().filter(|p| p.under_way == 0).count();
        while idle < n && engine.in_flight < most {
            let at = engine.turn % n;
            engine.turn = engine.turn.wrapping_add(1);
            let partition = &mut engine.partitions[at];
            // The last places are kept for partitions that have none: one whose requests hang must not stop all.
            let kept = without.min(most / 4);
            let request = match partition.under_way > 0 && most - engine.in_flight <= kept {
                true => None,
                false => partition.next(now, &this.config),
            };
            let Some(mut request) = request else {
                idle += 1;
                let wait = partition.unasked_wait(now).filter(|_| !partition.timer);
                if let Some(wait) = wait {
                    partition.timer = true;
                    Self::look_again(this, partition.serial, wait);
                }
                continue;
            };
            idle = 0;
            without -= usize::from(partition.under_way == 0);
            partition.under_way += 1;
            engine.in_flight += 1;
            for op in &mut request.operations {
                // Time in which nothing was asked for it is none in which it failed.
                let waited = op.ready.take().map(|ready| now.saturating_duration_since(ready));
                if let (Some(attempts), Some(waited)) = (&mut op.attempts, waited) {
                    attempts.leave_out(waited);
                }
            }
            this.metrics
                .operations_waiting
                .fetch_sub(request.operations.len() as u64, Relaxed);
            let me = this.clone();
            Self::spawn(this, async move { Self::send(me, request).await });
        }
    }

    /// Looks again what may be sent, after a wait.
    fn pump_after(this: &Arc<Self>, wait: Duration) {
        let me = this.clone();
        Self::spawn(this, async move {
            tokio::time::sleep(wait).await;
            Self::pump(&me, &mut me.lock());
        });
    }

    /// Looks again after a while what may be sent for a partition whose operations wait for nothing that comes by itself.
    fn look_again(this: &Arc<Self>, serial: u64, wait: Duration) {
        let me = this.clone();
        Self::spawn(this, async move {
            tokio::time::sleep(wait).await;
            let mut engine = me.lock();
            if let Some(p) = engine.partition(serial) {
                p.timer = false;
            }
            Self::pump(&me, &mut engine);
        });
    }

    /// Asks now and then, while something is written, whether the container is still the one that was opened: not every server refuses a
    /// request that means another one.
    async fn watch(this: Arc<Self>) {
        let interval = this.service.check_interval();
        let mut written = 0;
        loop {
            tokio::time::sleep(interval).await;
            let submitted = this.submitted.load(Relaxed);
            if std::mem::replace(&mut written, submitted) == submitted {
                continue;
            }
            match this.service.check().await {
                Err(e) if e.next == Next::End => {
                    return this.fail_all(&mut this.lock(), &e);
                }
                Err(e) => {
                    tracing::debug!(target: "cosmosflink::sink", "the container cannot be looked up now: {e}");
                }
                Ok(()) => {}
            }
        }
    }

    /// Runs a task until the sink is closed. When it panics, what it held and what it left behind is unknown: everything that has not come
    /// back then does, as failed.
    fn spawn(this: &Arc<Self>, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let (cancelled, me) = (this.cancelled.clone(), this.clone());
        let guarded = async move {
            let task = std::panic::AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(panic)) = cancelled.run_until_cancelled(task).await {
                let why = format!("panic in the sink: {}; restart the job", panic_text(&*panic));
                me.fail_all(&mut me.lock(), &CoreError::internal(why));
            }
        };
        this.tasks.spawn_on(guarded, &this.runtime);
    }

    /// Sends one request and deals with what comes back.
    async fn send(this: Arc<Self>, request: Request) {
        // The operations stay outside of what may panic: each must come back whatever happens.
        let attempt = std::panic::AssertUnwindSafe(Self::perform(&this, &request))
            .catch_unwind()
            .await;
        let answer = attempt.unwrap_or_else(|panic| {
            Answer::Whole(CoreError::internal(format!(
                "panic while writing: {}",
                panic_text(&*panic)
            )))
        });
        Self::conclude(&this, request, answer);
    }

    /// Ends every operation that has not come back, and takes no more.
    fn fail_all(&self, engine: &mut Engine, error: &CoreError) {
        tracing::error!(target: "cosmosflink::sink", "{error}");
        let error = engine.broken.get_or_insert_with(|| error.clone()).clone();
        let mut open: Vec<_> = engine.submissions.drain().collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        for (number, mut submission) in open {
            self.metrics.failed.fetch_add(submission.open as u64, Relaxed);
            submission.failures.push(Failure {
                index: 0,
                result: OutcomeResult::Failed,
                error: error.clone(),
                attempts: 1,
            });
            self.complete(number, submission);
        }
        engine.partitions.iter_mut().for_each(|p| {
            p.queue.clear();
            p.parts.clear();
        });
        engine.busy.clear();
        engine.held.clear();
        engine.letters.clear();
        self.metrics.operations_waiting.store(0, Relaxed);
        self.metrics.bytes_buffered.store(0, Relaxed);
    }

    async fn perform(this: &Arc<Self>, request: &Request) -> Answer {
        match (&request.bulk_range, request.operations.as_slice()) {
            (None, [single]) => Answer::Each(vec![this.service.point(single).await]),
            (Some(range), batch) => match this.service.bulk(batch, range).await {
                Ok(results) => Answer::Each(results),
                // It may be the partition that has moved or the form that is not taken, or the container that is not there.
                Err(e) if e.next == Next::Reroute || e.next == Next::Halve && e.kind == Kind::NotFound => {
                    let check = this.service.check().await.err();
                    let check = check.filter(|c| c.next == Next::End || e.next == Next::Halve);
                    Answer::Whole(match check {
                        Some(check) => CoreError {
                            request_charge: e.request_charge,
                            ..check
                        },
                        None => e,
                    })
                }
                Err(e) => Answer::Whole(e),
            },
            (None, batch) => Answer::Whole(CoreError::internal(format!(
                "{} operations in a request for one",
                batch.len()
            ))),
        }
    }

    /// Settles, retries, halves or routes anew what a request was about.
    fn conclude(this: &Arc<Self>, request: Request, answer: Answer) {
        let Request {
            operations,
            bulk_range,
            partition,
        } = request;
        let in_bulk = bulk_range.is_some();
        let mut results = match answer {
            Answer::Each(results) => results,
            Answer::Whole(e) if e.next == Next::Halve && in_bulk => {
                return Self::halve(this, operations, partition, e);
            }
            Answer::Whole(mut e) => {
                // Each bears its share.
                e.request_charge /= operations.len().max(1) as f64;
                let each = operations.into_iter().map(|op| {
                    let result = OperationResult::failed(e.clone());
                    (op, result)
                });
                return Self::settle(this, each.collect(), partition, in_bulk.then_some(false));
            }
        };
        results.resize_with(operations.len(), || {
            OperationResult::failed(CoreError::internal(
                "there are fewer results than operations in the request",
            ))
        });
        let each = operations.into_iter().zip(results).map(|(mut op, result)| {
            if let Some(refusal) = op.refusal.take_if(|_| in_bulk) {
                refusal.note(|s| s.form_is_taken = true);
            }
            (op, result)
        });
        Self::settle(this, each.collect(), partition, in_bulk.then_some(true));
    }

    /// Cuts a bulk request that was refused as a whole.
    fn halve(this: &Arc<Self>, mut operations: Vec<Operation>, partition: u64, error: CoreError) {
        this.metrics.bulk_refused.fetch_add(1, Relaxed);
        this.metrics.retries.fetch_add(1, Relaxed);
        tracing::debug!(target: "cosmosflink::sink", "a bulk request of {} operations was refused: {error}", operations.len());
        let count = operations.len();
        let share = error.request_charge / count.max(1) as f64;
        // Operations of another search that were retried meanwhile may be among them: then this one begins anew.
        let first = operations.first().and_then(|op| op.refusal.clone());
        let one_search = |r: &Arc<Refusal>| {
            let same = |op: &Operation| op.refusal.as_ref().is_some_and(|other| Arc::ptr_eq(other, r));
            operations.iter().all(same)
        };
        let refusal = first.filter(one_search).unwrap_or_else(|| Refusal::new(count));
        refusal.note(|s| {
            s.refused += 1;
            // Too many bytes say nothing about the form.
            s.form_is_taken |= error.kind == Kind::TooLarge;
        });
        for op in &mut operations {
            op.request_charge += share;
            op.fate = op.fate.max(error.fate);
            op.refusal = Some(refusal.clone());
        }
        let form_is_taken = refusal.note(|_| ()).form_is_taken;
        if matches!(&operations[..], [op] if op.needs_bulk && !form_is_taken) {
            // It cannot go alone, and the form may come back: it waits for that, and counts as one that would have been taken alone.
            operations[0].refusal = None;
            this.ended_alone(&mut this.lock(), &refusal, partition, None);
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
            return Self::settle(this, each.collect(), partition, Some(false));
        }
        let mut parts = halves(operations);
        if let [culprit] = &mut parts[..] {
            culprit.iter_mut().for_each(|op| op.alone = true);
        }
        let mut engine = this.lock();
        engine.came_back(partition);
        this.metrics.operations_waiting.fetch_add(count as u64, Relaxed);
        match engine.partition(partition) {
            Some(p) => {
                p.in_flight -= 1;
                p.parts.extend(parts);
            }
            // It was split meanwhile.
            None => {
                for op in parts.into_iter().flatten() {
                    this.enqueue_again(&mut engine, op);
                }
            }
        }
        Self::pump(this, &mut engine);
    }

    /// Notes that an operation of a refused bulk request has ended, and draws the conclusion when it was the last.
    fn ended_alone(
        &self,
        engine: &mut Engine,
        refusal: &Refusal,
        partition: u64,
        failure: Option<&CoreError>,
    ) {
        // A conflict and the like is an answer that it would have had in bulk too.
        let culprit =
            failure.is_some_and(|e| !matches!(e.kind, Kind::Conflict | Kind::NotFound | Kind::Precondition));
        let search = refusal.note(|s| {
            s.open = s.open.saturating_sub(1);
            *(if culprit { &mut s.culprits } else { &mut s.taken }) += 1;
        });
        if search.open > 0 {
            return;
        }
        let pause = self.config.bulk_probe_interval;
        if let Some(p) = engine.partition(partition) {
            match search.is_about_the_form() {
                true => p.form_is_refused(search.of, pause),
                false => p.probe_is_over(),
            }
        }
    }

    /// Settles, retries or routes anew each operation of a request. `bulk`: whether it was taken as a bulk request; `None` where it was
    /// one operation alone.
    fn settle(this: &Arc<Self>, each: Vec<(Operation, OperationResult)>, partition: u64, bulk: Option<bool>) {
        let mut good = Vec::with_capacity(each.len());
        let mut failures = Vec::new();
        let whole = bulk == Some(false);
        let (mut again, mut again_after) = (Vec::new(), Pause::default());
        let (mut held, mut hold) = (Vec::new(), Pause::default());
        let (mut moved, mut throttled) = (false, false);
        // A whole request that keeps failing, nobody knows why, may do so for the sake of one operation.
        let mut cut = whole && each.len() > 1;
        let now = tokio::time::Instant::now();
        if let (true, Some(error)) = (whole, each.first().and_then(|(_, r)| r.error.as_ref())) {
            this.metrics.failure(error);
        }
        for (mut op, result) in each {
            op.request_charge += result.request_charge;
            let Some(error) = result.error.filter(|e| e.next != Next::Done) else {
                good.push(op);
                continue;
            };
            if !whole {
                this.metrics.failure(&error);
            }
            op.fate = op.fate.max(error.fate);
            cut &= error.fate == Fate::Unknown;
            let attempts = op
                .attempts
                .get_or_insert_with(|| Box::new(Attempts::new(&this.config.retry)));
            match attempts.next(&error, now) {
                None => failures.push((op, error)),
                Some(wait) => {
                    cut &= attempts.made() > CUT_AFTER;
                    let made = attempts.made();
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
                }
            }
        }
        let retried = again.len() + held.len();
        this.metrics
            .retries
            .fetch_add(if whole { retried.min(1) } else { retried } as u64, Relaxed);
        this.metrics.operations_waiting.fetch_add(retried as u64, Relaxed);
        this.metrics.records.fetch_add(good.len() as u64, Relaxed);
        let hold = (!held.is_empty()).then(|| hold.wait());
        let mut again_after = again_after.wait();
        let mut engine = this.lock();
        engine.came_back(partition);
        let still_there = match engine.partition(partition) {
            Some(p) => {
                if let Some(taken) = bulk {
                    p.in_flight -= 1;
                    match taken {
                        true => p.form_is_taken(),
                        false => p.probe_is_over(),
                    }
                }
                if let Some(wait) = hold {
                    p.hold(wait, throttled);
                }
                true
            }
            None => false,
        };
        let ended = good.iter_mut().map(|op| (op, None));
        for (op, failure) in ended.chain(failures.iter_mut().map(|(op, e)| (op, Some(&**e)))) {
            if let Some(refusal) = op.refusal.take() {
                this.ended_alone(&mut engine, &refusal, partition, failure);
            }
            engine.held.remove(&op.document);
            this.release(&mut engine, op.document);
        }
        for op in held.iter().chain(&again) {
            engine.held.entry(op.document).or_insert_with(|| now.into_std());
        }
        if let Some(wait) = hold.filter(|_| throttled && !still_there) {
            // The wait that was asked for is that of the partition, which is gone: it waits for itself.
            again_after = again_after.max(wait);
            again.append(&mut held);
        }
        for mut op in held {
            op.ready = hold.map(|wait| now.into_std() + wait);
            this.enqueue_again(&mut engine, op);
        }
        // What was routed by an older map is routed by the new one already.
        if moved && still_there && !std::mem::replace(&mut engine.refreshing, true) {
            let me = this.clone();
            Self::spawn(this, async move { Self::refresh(me).await });
        }
        if let Some(wait) = hold {
            Self::pump_after(this, wait);
        }
        if !again.is_empty() {
            let me = this.clone();
            Self::spawn(this, async move {
                tokio::time::sleep(again_after).await;
                let (mut engine, ready) = (me.lock(), Instant::now());
                if engine.broken.is_some() {
                    return;
                }
                again.iter_mut().for_each(|op| op.ready = Some(ready));
                match engine.partition(partition) {
                    Some(p) if cut => p.parts.extend(halves(again)),
                    _ => again.into_iter().for_each(|op| me.enqueue_again(&mut engine, op)),
                }
                Self::pump(&me, &mut engine);
            });
        }
        Self::pump(this, &mut engine);
        // Before anybody can hear of it.
        let freed = good.iter().map(|op| op.size() as u64).sum();
        this.metrics.bytes_buffered.fetch_sub(freed, Relaxed);
        for op in good {
            this.deliver(&mut engine, op.submission, op.request_charge, None);
        }
        drop(engine);
        for (op, error) in failures {
            Self::settle_failure(this, op, *error);
        }
    }

    /// Lets the next operation on a document go.
    fn release(&self, engine: &mut Engine, document: u64) {
        let Entry::Occupied(mut waiting) = engine.busy.entry(document) else {
            return;
        };
        match waiting.get_mut().as_mut().and_then(|w| w.pop_front()) {
            // It counts as waiting since it came.
            Some(op) => self.enqueue_again(engine, op),
            None => drop(waiting.remove()),
        }
    }

    /// Reads the physical partitions again, while everybody goes on, and puts the new map in place of the old one. There is one attempt: the
    /// operations that asked for it have their own, and ask again.
    async fn refresh(this: Arc<Self>) {
        tracing::info!(target: "cosmosflink::sink", "partitions of '{}' have moved; reading them again", this.config.container);
        // Shorter than the deadline of the operations, which ask again when it has come to nothing. The look-up that is given up goes on.
        let limit = this.config.request_timeout.min(this.config.retry.deadline / 4);
        let read = std::panic::AssertUnwindSafe(within(limit, this.service.partitions(true)))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(CoreError::internal(panic_text(&*panic))));
        let mut engine = this.lock();
        engine.refreshing = false;
        match read {
            Ok(partitions) if !partitions.is_empty() => this.install(&mut engine, partitions),
            Ok(_) => {
                tracing::warn!(target: "cosmosflink::sink", "the service names no partitions; going on with those that are known");
            }
            Err(e) => {
                tracing::warn!(target: "cosmosflink::sink", "reading the partitions failed, going on with those that are known: {e}");
            }
        }
        Self::pump(&this, &mut engine);
    }

    /// Replaces the map. A partition that is in both keeps what it knows; what waits in one that is gone is routed anew.
    fn install(&self, engine: &mut Engine, partitions: Vec<(String, EffectivePartitionKey)>) {
        let mut old: HashMap<Arc<str>, Partition> = std::mem::take(&mut engine.partitions)
            .into_iter()
            .map(|p| (p.id.clone(), p))
            .collect();
        for (id, min) in partitions {
            let partition = match old.remove(id.as_str()) {
                Some(known) => Partition { min, ..known },
                None => {
                    engine.serials += 1;
                    Partition::new(engine.serials - 1, (id, min))
                }
            };
            engine.partitions.push(partition);
        }
        engine.forget_places();
        for gone in old.into_values() {
            for op in gone.queue.into_iter().chain(gone.parts.into_iter().flatten()) {
                let at = self.place_again(engine, &op);
                let heir = &mut engine.partitions[at];
                heir.throttled_until = heir.throttled_until.max(gone.throttled_until);
                heir.enqueue(op);
            }
        }
    }

    /// Ends an operation that failed for good, in the way that the options ask for.
    fn settle_failure(this: &Arc<Self>, op: Operation, error: CoreError) {
        if error.blame == Blame::Everybody {
            return this.deliver_one(op, OutcomeResult::Failed, error);
        }
        match (&this.config.failure_mode, &this.dead_letters) {
            (FailureMode::Skip, _) => {
                tracing::warn!(target: "cosmosflink::sink", "skipped {}: {error}", op.describe());
                this.deliver_one(op, OutcomeResult::Skipped, error);
            }
            (FailureMode::DeadLetter, Some(_)) => {
                let mut engine = this.lock();
                engine.letters.push_back((op, error, Instant::now()));
                Self::store_letters(this, &mut engine);
            }
            _ => this.deliver_one(op, OutcomeResult::Failed, error),
        }
    }

    /// Stores dead letters that wait, as many at a time as may be.
    fn store_letters(this: &Arc<Self>, engine: &mut Engine) {
        while engine.storing.len() < LETTERS {
            let Some((op, error, since)) = engine.letters.pop_front() else {
                return;
            };
            engine.storing.push(since);
            let me = this.clone();
            Self::spawn(this, async move {
                let store = async {
                    match &me.dead_letters {
                        Some(letters) => letters.store(&op, &error).await,
                        None => Err(CoreError::internal("there is no dead-letter container")),
                    }
                };
                let stored = std::panic::AssertUnwindSafe(store).catch_unwind().await;
                match stored.unwrap_or_else(|p| Err(CoreError::internal(panic_text(&*p)))) {
                    Ok(()) => me.deliver_one(op, OutcomeResult::DeadLettered, error),
                    Err(e) => {
                        let message = format!(
                            "{}; and storing it in the dead-letter container failed: {}",
                            error.message, e.message
                        );
                        me.deliver_one(op, OutcomeResult::Failed, CoreError { message, ..error });
                    }
                }
                let mut engine = me.lock();
                if let Some(at) = engine.storing.iter().position(|s| *s == since) {
                    engine.storing.swap_remove(at);
                }
                Self::store_letters(&me, &mut engine);
                // What was held back by letters that wait.
                Self::pump(&me, &mut engine);
            });
        }
    }

    /// The end of an operation that failed: counts it and gives back what it held.
    fn deliver_one(&self, op: Operation, result: OutcomeResult, error: CoreError) {
        match result {
            OutcomeResult::Ok => &self.metrics.records,
            OutcomeResult::Skipped => &self.metrics.skipped,
            OutcomeResult::DeadLettered => &self.metrics.dead_lettered,
            OutcomeResult::Failed => &self.metrics.failed,
        }
        .fetch_add(1, Relaxed);
        self.metrics.bytes_buffered.fetch_sub(op.size() as u64, Relaxed);
        let failure = Failure {
            index: op.index,
            result,
            error: error.while_doing(op.describe()),
            attempts: op.attempts.as_ref().map_or(1, |a| a.made()),
        };
        self.deliver(&mut self.lock(), op.submission, op.request_charge, Some(failure));
    }

    /// Notes that an operation has ended, and completes its submission if it was the last, or if it failed.
    fn deliver(&self, engine: &mut Engine, number: u64, request_charge: f64, failure: Option<Failure>) {
        let Entry::Occupied(mut entry) = engine.submissions.entry(number) else {
            // It has failed already.
            return;
        };
        let submission = entry.get_mut();
        submission.open -= 1;
        submission.request_charge += request_charge;
        let failed = failure
            .as_ref()
            .is_some_and(|f| f.result == OutcomeResult::Failed);
        submission.failures.extend(failure);
        if submission.open == 0 || failed {
            let ended = entry.remove();
            self.complete(number, ended);
        }
    }

    fn complete(&self, number: u64, submission: Submission) {
        // Nobody listens after close.
        let _ = self.done.send(Message::Done(Completion {
            submission: number,
            request_charge: submission.request_charge,
            failures: submission.failures,
        }));
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
    fn wait(&self) -> Duration {
        let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        self.own.1.max(self.asked + self.asked.mul_f64(chance / 4.0))
    }
}

/// Whether the next bulk request would be as large as it may be.
fn fills_request(queue: &VecDeque<Operation>, config: &Config) -> bool {
    let mut bytes = 2;
    queue.len() >= config.max_operations
        || queue.iter().any(|op| {
            bytes += wire::bulk_size(op);
            op.alone || bytes > config.max_request_bytes
        })
}

/// The halves of what is left of a request; a lone operation is one part, and none is empty.
fn halves(mut operations: Vec<Operation>) -> Vec<Vec<Operation>> {
    let second = operations.split_off(operations.len() / 2);
    [operations, second]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect()
}

/// The next bulk request's operations: as many as the limits allow, up to one that goes alone.
fn take_batch(queue: &mut VecDeque<Operation>, most: usize, max_bytes: usize) -> Vec<Operation> {
    let mut batch = Vec::new();
    let mut bytes = 2;
    while batch.len() < most {
        let fits = |op: &mut Operation| {
            bytes += wire::bulk_size(op);
            !op.alone && (batch.is_empty() || bytes <= max_bytes)
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
    use super::*;
    use crate::config::Role;
    use proptest::prelude::*;

    fn config(extra: &[(&str, &str)]) -> Config {
        let options = [
            ("cosmos.endpoint", "http://localhost"),
            ("cosmos.database", "d"),
            ("cosmos.container", "c"),
            ("cosmos.auth.key", "aw=="),
        ];
        let options: Vec<_> = options
            .iter()
            .chain(extra)
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::parse(Role::Sink, &options).unwrap()
    }

    #[test]
    fn no_half_of_a_request_is_empty() {
        for (count, expected) in [(0, vec![]), (1, vec![1]), (2, vec![1, 1]), (5, vec![2, 3])] {
            let sizes: Vec<_> = halves(operations(count)).iter().map(Vec::len).collect();
            assert_eq!(sizes, expected, "{count} operations");
        }
    }

    fn operations(count: u64) -> Vec<Operation> {
        let new = |_| NewOperation {
            kind: OperationKind::Upsert,
            id: "d",
            partition_key: "[1]",
            if_match: "",
            document: b"{}",
        };
        let mut all = decode_operations(encode_operations(&(0..count).map(new).collect::<Vec<_>>())).unwrap();
        (0..).zip(&mut all).for_each(|(turn, op)| op.turn = turn);
        all
    }

    fn partition(operations: Vec<Operation>) -> Partition {
        let mut partition = Partition::new(0, ("0".into(), EffectivePartitionKey::try_from("").unwrap()));
        operations.into_iter().for_each(|op| partition.enqueue(op));
        partition
    }

    fn take_all(partition: &mut Partition, config: &Config) -> Vec<u64> {
        let mut turns = Vec::new();
        while let Some(request) = partition.next(Instant::now(), config) {
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
            let mut partition = partition(operations(count));
            let mut under_way = Vec::new();
            for _ in 0..sent {
                under_way.extend(partition.next(Instant::now(), &config));
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
        partition.form_is_refused(100, first);
        let pause = |partition: &Partition| match partition.form {
            Form::OneByOne { pause, .. } => pause,
            Form::Bulk { .. } => Duration::ZERO,
        };
        let mut expected = first;
        for _ in 0..8 {
            assert_eq!(pause(&partition), expected);
            let now = Instant::now();
            let alone = partition.next(now, &config).unwrap();
            assert!(alone.bulk_range.is_none(), "before the pause is over");
            // Another request that was refused at the same time changes nothing.
            partition.form_is_refused(100, first);
            assert_eq!(pause(&partition), expected);
            let later = now + expected + Duration::from_secs(1);
            let probe = partition.next(later, &config).unwrap();
            assert_eq!(
                (probe.bulk_range.is_some(), probe.operations.len()),
                (true, PROBE)
            );
            let beside = partition.next(later, &config).unwrap();
            assert!(beside.bulk_range.is_none(), "one try at a time");
            partition.form_is_refused(PROBE, first);
            expected = (expected * 2).min(first * MAX_PROBE_STEPS);
        }
        partition.form_is_taken();
        partition.in_flight = 0;
        assert_eq!(
            partition.next(Instant::now(), &config).unwrap().operations.len(),
            100
        );
    }

    #[test]
    fn a_request_has_one_pause_and_none_that_is_too_short() {
        let config = config(&[]);
        let error = |retry_after_ms| CoreError {
            retry_after_ms,
            ..CoreError::new(Kind::Transient, "x")
        };
        let pause = |asked: Option<u64>| {
            let mut pause = Pause::default();
            for _ in 0..100 {
                let mut attempts = Attempts::new(&config.retry);
                let error = error(asked);
                let wait = attempts.next(&error, tokio::time::Instant::now()).unwrap();
                pause.add(&error, attempts.made(), wait);
            }
            pause.wait()
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

    #[test]
    fn one_operation_alone_does_not_prove_that_the_form_is_the_matter() {
        let config = config(&[]);
        let mut partition = partition(operations(3));
        partition.form_is_refused(1, Duration::from_secs(1));
        assert!(matches!(partition.form, Form::Bulk { suspicions: 1 }));
        partition.form_is_taken();
        partition.form_is_refused(1, Duration::from_secs(1));
        assert!(partition
            .next(Instant::now(), &config)
            .unwrap()
            .bulk_range
            .is_some());
        partition.form_is_refused(1, Duration::from_secs(1));
        assert!(matches!(partition.form, Form::OneByOne { .. }));
    }

    #[test]
    fn what_goes_alone_is_not_bounded_by_the_partitions_concurrency() {
        let config = config(&[("sink.bulk", "false")]);
        let mut partition = partition(operations(50));
        let taken = std::iter::from_fn(|| partition.next(Instant::now(), &config)).count();
        assert_eq!((taken, partition.in_flight), (50, 0));
    }
}
