//! The sink: bulk writes by physical partition, in an order that keeps the operations on one document apart.
//!
//! * An operation is routed by the hash of its partition key to the physical partition that owns it, and travels with up to
//!   99 others of that partition in one non-atomic bulk request; it goes alone when it is too large for one, or where
//!   the service refuses the form. While a request of a partition is under way, the next one waits until it is full or the
//!   first is back: an idle sink answers at once, a busy one sends full requests.
//! * At most one operation on a document is under way. Later ones wait behind it, also while it is being retried.
//! * What the service turns away for the moment is retried with backoff inside a deadline. A 429 holds its partition
//!   back for as long as the service asks. A 410 has the partition's ranges read again and the operation routed anew.
//! * Every submitted operation comes back exactly once, whatever happens, as an [`Outcome`]. The good outcomes of one submission
//!   come together, when its last operation has ended; a failure comes at once.

mod dead_letter;
mod operation;
mod wire;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{FeedRange, PartitionKeyDefinition};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::{look_up_at_opening, open_blocking, Account};
use crate::config::{Config, FailureMode};
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameWriter};
use crate::metrics::Metrics;
use crate::retry::{until_answered, Attempts};
use crate::source::panic_text;
use crate::status::{Blame, Next};

use dead_letter::DeadLetters;
use operation::canonical_key;
use wire::Container;

pub use wire::{bulk_body, bulk_results, OperationResult, Service};

pub use operation::{decode_operations, encode_operations, NewOperation, Operation, OperationKind};

/// Partition keys whose place is remembered. Beyond it the memory begins anew, since a job with that many keys
/// gains nothing from it.
const KEY_CACHE: usize = 65_536;

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

/// The one answer to a submitted operation.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub token: u64,
    pub result: OutcomeResult,
    /// Why it failed; `None` when it did not.
    pub error: Option<Box<CoreError>>,
    /// Status of the service for the last attempt; 0 when there was none.
    pub status: u16,
    pub attempts: u32,
    /// Request units of all attempts.
    pub request_charge: f64,
}

/// One message for each submission, not for each operation: the channel's locks, and the wake-ups of the thread that waits for
/// them, are shared by all its operations.
enum Message {
    Done(Vec<Outcome>),
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

struct Partition {
    /// The service's id of the range, for the bulk request's header.
    id: String,
    min: EffectivePartitionKey,
    queue: VecDeque<Operation>,
    in_flight: usize,
    /// Set by a 429: nothing is sent before.
    not_before: Option<Instant>,
}

/// What has not come back of a submission, and the outcomes that wait for the last of it.
struct Submission {
    open: usize,
    good: Vec<Outcome>,
}

struct Engine {
    partitions: Vec<Partition>,
    /// By number.
    submissions: HashMap<u64, Submission, BuildHasherDefault<Identity>>,
    /// Counts how often `partitions` was made anew; a request that was sent under an older number must not touch them.
    generation: u64,
    /// Partition key text to partition and hash of the key's canonical text.
    places: HashMap<Box<[u8]>, (usize, u64)>,
    /// Documents with an operation under way, and the operations that wait behind it: seldom any, so that an entry stays small.
    #[expect(
        clippy::box_collection,
        reason = "a pointer in place of four words, in a map that is looked up twice for each operation"
    )]
    busy: HashMap<u64, Option<Box<VecDeque<Operation>>>, BuildHasherDefault<Identity>>,
    in_flight: usize,
    /// Where the search for the next request begins, so that no partition starves when requests are scarce.
    turn: usize,
    refreshing: bool,
    /// Operations that wait for the ranges to be read again.
    stranded: Vec<Operation>,
    bulk: bool,
}

struct Inner {
    service: Box<dyn Service>,
    runtime: Handle,
    config: Arc<Config>,
    engine: Mutex<Engine>,
    done: Sender<Message>,
    /// Submissions so far, by which they are numbered.
    submitted: AtomicU64,
    metrics: Arc<Metrics>,
    dead_letters: Option<DeadLetters>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

/// A sink writer's handle.
pub struct Sink {
    inner: Arc<Inner>,
    outcomes: Receiver<Message>,
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
        let service = Container {
            account,
            container,
            config: config.clone(),
            metrics: metrics.clone(),
        };
        let partitions = look_up_at_opening(&config, || service.partitions(false)).await?;
        Ok(Self::start(
            Box::new(service),
            dead_letters,
            partitions,
            config,
            metrics,
            runtime,
        ))
    }

    /// A sink over any service, on a runtime of the caller's: for benchmarks and tests.
    #[doc(hidden)]
    pub fn over(service: Box<dyn Service>, config: Config, runtime: &Handle) -> Result<Sink> {
        let partitions = runtime.block_on(service.partitions(false))?;
        Ok(Self::start(
            service,
            None,
            partitions,
            Arc::new(config),
            Arc::default(),
            runtime.clone(),
        ))
    }

    fn start(
        service: Box<dyn Service>,
        dead_letters: Option<DeadLetters>,
        partitions: Vec<(String, EffectivePartitionKey)>,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Sink {
        // Unbounded, but never fuller than what was submitted, and that the writer bounds with its own buffers.
        let (done, outcomes) = crossbeam_channel::unbounded();
        let engine = Engine {
            partitions: partitions.into_iter().map(Partition::new).collect(),
            submissions: HashMap::default(),
            generation: 0,
            places: HashMap::new(),
            busy: HashMap::default(),
            in_flight: 0,
            turn: 0,
            refreshing: false,
            stranded: Vec::new(),
            bulk: config.bulk,
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
        Sink { inner, outcomes }
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.cancelled.is_cancelled() {
            return Err(CoreError::closed());
        }
        Ok(())
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Takes a frame of operations. An operation that cannot be sent at all (no JSON object, bad id or key, too large)
    /// comes back as an outcome like any other failure.
    ///
    /// # Errors
    /// State when the frame is damaged: then nothing of it is taken. Closed.
    pub fn submit(&self, frame: Vec<u8>) -> Result<()> {
        self.check_open()?;
        Inner::accept(&self.inner, decode_operations(frame)?);
        Ok(())
    }

    /// Outcomes until there are `max` of them, and the rest of the submission that the last came with; waits up to `timeout` for
    /// the first.
    pub fn poll(&self, max: usize, timeout: Duration) -> Result<Vec<Outcome>> {
        let mut out = match self.outcomes.recv_timeout(timeout) {
            Ok(Message::Done(outcomes)) => outcomes,
            Ok(Message::WakeUp) | Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return Err(CoreError::closed()),
        };
        while out.len() < max {
            match self.outcomes.try_recv() {
                Ok(Message::Done(outcomes)) => out.extend(outcomes),
                _ => break,
            }
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
    /// for their outcomes first.
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

/// Encodes an OUTCOMES frame.
pub fn encode_outcomes(outcomes: &[Outcome]) -> Vec<u8> {
    let mut w = FrameWriter::with_capacity(FrameKind::Outcomes, 8 + outcomes.len() * 17);
    w.u32(outcomes.len() as u32);
    for o in outcomes {
        w.u64(o.token);
        w.f64(o.request_charge);
        w.u8(o.result as u8);
        if let Some(error) = &o.error {
            w.u8(error.kind as u8);
            w.u16(o.status);
            w.u32(error.sub_status);
            w.u32(o.attempts);
            w.str(&error.activity_id);
            w.str(&error.message);
        }
    }
    w.0
}

impl Partition {
    fn new((id, min): (String, EffectivePartitionKey)) -> Self {
        Partition {
            id,
            min,
            queue: VecDeque::new(),
            in_flight: 0,
            not_before: None,
        }
    }
}

impl Engine {
    /// Where an operation belongs: the partition, and the hash of its document.
    fn place(&mut self, op: &Operation, definition: &PartitionKeyDefinition) -> Result<(usize, u64)> {
        let (partition, key_hash) = match self.places.get(op.partition_key()) {
            Some(place) => *place,
            None => {
                let (key, key_hash) = canonical_key(op.partition_key(), definition.paths())?;
                let range = FeedRange::for_partition(key, definition);
                let after = self
                    .partitions
                    .partition_point(|p| &p.min <= range.min_inclusive());
                let place = (after.saturating_sub(1), key_hash);
                if self.places.len() >= KEY_CACHE {
                    self.places.clear();
                }
                // A copy: a part of the frame would keep all of it.
                self.places.insert(op.partition_key().into(), place);
                place
            }
        };
        Ok((partition, op.document_hash(key_hash)))
    }
}

/// What one request gave: one result per operation, in order.
type Results = Vec<OperationResult>;

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn accept(this: &Arc<Self>, operations: Vec<Operation>) {
        let bytes: u64 = operations.iter().map(|o| o.size() as u64).sum();
        this.metrics.bytes_buffered.fetch_add(bytes, Relaxed);
        this.metrics
            .operations_waiting
            .fetch_add(operations.len() as u64, Relaxed);
        if operations.is_empty() {
            return;
        }
        let open = operations.len();
        let submission = this.submitted.fetch_add(1, Relaxed);
        let mut refused = Vec::new();
        // Before the lock is taken: documents are looked through, while the runtime's threads go on with what is under way.
        let mut fit = Vec::with_capacity(open);
        for mut op in operations {
            op.submission = submission;
            match op.check() {
                Ok(()) => fit.push(op),
                Err(e) => refused.push((op, e)),
            }
        }
        let mut engine = this.lock();
        let good = Vec::with_capacity(open);
        engine.submissions.insert(submission, Submission { open, good });
        for mut op in fit {
            match engine.place(&op, this.service.key_definition()) {
                Ok((partition, document)) => {
                    op.document = document;
                    match engine.busy.entry(document) {
                        Entry::Occupied(mut waiting) => {
                            waiting.get_mut().get_or_insert_default().push_back(op);
                        }
                        Entry::Vacant(free) => {
                            free.insert(None);
                            engine.partitions[partition].queue.push_back(op);
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

    /// Puts an operation whose document it already holds into its partition's queue, in front.
    fn enqueue_again(&self, engine: &mut Engine, op: Operation) {
        match engine.place(&op, self.service.key_definition()) {
            Ok((partition, _)) => engine.partitions[partition].queue.push_front(op),
            // It was placed before, with the same key.
            Err(_) => engine.partitions[0].queue.push_front(op),
        }
        self.metrics.operations_waiting.fetch_add(1, Relaxed);
    }

    /// Sends what may be sent now.
    fn pump(this: &Arc<Self>, engine: &mut Engine) {
        let n = engine.partitions.len();
        let mut idle = 0;
        while idle < n && engine.in_flight < this.config.max_concurrency && !engine.refreshing {
            let at = engine.turn % n;
            engine.turn = engine.turn.wrapping_add(1);
            let bulk = engine.bulk;
            let partition = &mut engine.partitions[at];
            let held = partition.not_before.is_some_and(|t| t > Instant::now());
            let may = match partition.in_flight {
                0 => !partition.queue.is_empty(),
                n => {
                    n < this.config.partition_concurrency
                        && fills_request(&partition.queue, bulk, &this.config)
                }
            };
            if held || !may {
                idle += 1;
                continue;
            }
            idle = 0;
            let batch = take_batch(&mut partition.queue, bulk, &this.config);
            partition.in_flight += 1;
            engine.in_flight += 1;
            this.metrics
                .operations_waiting
                .fetch_sub(batch.len() as u64, Relaxed);
            let (me, generation, range) = (this.clone(), engine.generation, partition.id.clone());
            Self::spawn(
                this,
                async move { Self::send(me, batch, range, at, generation).await },
            );
        }
    }

    fn spawn(this: &Arc<Self>, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let cancelled = this.cancelled.clone();
        let guarded = async move {
            cancelled.run_until_cancelled(task).await;
        };
        this.tasks.spawn_on(guarded, &this.runtime);
    }

    /// Sends one batch and deals with what comes back.
    async fn send(this: Arc<Self>, batch: Vec<Operation>, range: String, at: usize, generation: u64) {
        // The operations stay outside of what may panic: each must come back whatever happens.
        let attempt = std::panic::AssertUnwindSafe(Self::perform(&this, &batch, &range))
            .catch_unwind()
            .await;
        let results = attempt.unwrap_or_else(|panic| {
            let error = CoreError::internal(format!("panic while writing: {}", panic_text(&*panic)));
            batch
                .iter()
                .map(|_| OperationResult::failed(error.clone()))
                .collect()
        });
        Self::conclude(&this, batch, results, at, generation);
    }

    async fn perform(this: &Arc<Self>, batch: &[Operation], range: &str) -> Results {
        if let [single] = batch {
            if single.alone || !this.config.bulk || !this.lock().bulk {
                return vec![this.service.point(single).await];
            }
        }
        match this.service.bulk(batch, range).await {
            Ok(results) => results,
            // The request as a whole was not understood: either one document spoils it, or the service does not take the form.
            // Sent one by one, each operation gets an answer of its own.
            Err(e) if e.next == Next::Halve => {
                let mut results = Vec::with_capacity(batch.len());
                for op in batch {
                    results.push(this.service.point(op).await);
                }
                if e.kind != Kind::TooLarge && results.iter().all(|r| r.error.is_none()) {
                    tracing::warn!(target: "cosmosflink::sink",
                        "the service refuses bulk requests ({e}); this writer sends its operations one by one from now on");
                    this.lock().bulk = false;
                }
                results
            }
            Err(e) => batch.iter().map(|_| OperationResult::failed(e.clone())).collect(),
        }
    }

    /// Settles, retries or routes anew each operation of a request.
    fn conclude(this: &Arc<Self>, batch: Vec<Operation>, results: Results, at: usize, generation: u64) {
        let mut good = Vec::with_capacity(batch.len());
        let mut failures = Vec::new();
        let (mut again, mut again_after) = (Vec::new(), Duration::ZERO);
        let (mut stale, mut stale_after) = (Vec::new(), Duration::ZERO);
        let mut hold = None;
        for (mut op, result) in batch.into_iter().zip(results) {
            op.request_charge += result.request_charge;
            let Some(error) = result.error.filter(|e| e.next != Next::Done) else {
                good.push((op, result.status));
                continue;
            };
            this.metrics.failure(&error);
            op.fate = op.fate.max(error.fate);
            let attempts = op
                .attempts
                .get_or_insert_with(|| Box::new(Attempts::new(&this.config.retry)));
            match attempts.next(&error, tokio::time::Instant::now()) {
                None => failures.push((op, error)),
                Some(wait) => {
                    this.metrics.retries.fetch_add(1, Relaxed);
                    if error.kind == Kind::Throttled {
                        hold = hold.max(Some(wait));
                    }
                    if error.next == Next::Reroute {
                        stale_after = stale_after.max(wait);
                        stale.push(op);
                    } else {
                        again_after = again_after.max(wait);
                        again.push(op);
                    }
                }
            }
        }
        this.metrics.records.fetch_add(good.len() as u64, Relaxed);
        let mut engine = this.lock();
        engine.in_flight -= 1;
        if generation == engine.generation {
            let partition = &mut engine.partitions[at];
            partition.in_flight -= 1;
            if let Some(wait) = hold {
                partition.not_before = partition.not_before.max(Some(Instant::now() + wait));
            }
        }
        for (op, _) in &good {
            this.release(&mut engine, op.document);
        }
        for (op, _) in &failures {
            this.release(&mut engine, op.document);
        }
        if !stale.is_empty() {
            engine.stranded.append(&mut stale);
            if !std::mem::replace(&mut engine.refreshing, true) {
                let me = this.clone();
                Self::spawn(this, async move { Self::refresh(me, stale_after).await });
            }
        }
        if !again.is_empty() {
            let me = this.clone();
            Self::spawn(this, async move {
                tokio::time::sleep(again_after).await;
                let mut engine = me.lock();
                again
                    .into_iter()
                    .rev()
                    .for_each(|op| me.enqueue_again(&mut engine, op));
                Self::pump(&me, &mut engine);
            });
        } else if let Some(wait) = hold {
            let me = this.clone();
            Self::spawn(this, async move {
                tokio::time::sleep(wait).await;
                Self::pump(&me, &mut me.lock());
            });
        }
        Self::pump(this, &mut engine);
        // Before anybody can hear of the outcomes.
        let freed = good.iter().map(|(op, _)| op.size() as u64).sum();
        this.metrics.bytes_buffered.fetch_sub(freed, Relaxed);
        for (op, status) in good {
            let submission = op.submission;
            this.deliver(
                &mut engine,
                submission,
                outcome(op, OutcomeResult::Ok, None, status),
            );
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
            Some(op) => {
                // It was counted as waiting since it came.
                self.metrics.operations_waiting.fetch_sub(1, Relaxed);
                self.enqueue_again(engine, op);
            }
            None => drop(waiting.remove()),
        }
    }

    /// Reads the physical partitions again and routes everything anew. Nothing is sent meanwhile.
    async fn refresh(this: Arc<Self>, wait: Duration) {
        tracing::info!(target: "cosmosflink::sink", "the partitions of '{}' have changed; reading them again", this.config.container);
        tokio::time::sleep(wait).await;
        let ask = || this.service.partitions(true);
        let partitions = until_answered(&this.config.retry, &this.metrics, "reading the partitions", ask)
            .await
            // The operations go on with what is known; their own attempts end them if that does not help.
            .inspect_err(
                |e| tracing::error!(target: "cosmosflink::sink", "reading the partitions failed: {e}"),
            )
            .ok();
        let mut engine = this.lock();
        engine.refreshing = false;
        if let Some(partitions) = partitions {
            let partitions = partitions.into_iter().map(Partition::new).collect();
            let old = std::mem::replace(&mut engine.partitions, partitions);
            engine.generation += 1;
            engine.places.clear();
            for op in old.into_iter().flat_map(|p| p.queue.into_iter().rev()) {
                this.metrics.operations_waiting.fetch_sub(1, Relaxed);
                this.enqueue_again(&mut engine, op);
            }
        }
        for op in std::mem::take(&mut engine.stranded).into_iter().rev() {
            this.enqueue_again(&mut engine, op);
        }
        Self::pump(&this, &mut engine);
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
                let me = this.clone();
                Self::spawn(this, async move {
                    let letters = me.dead_letters.as_ref().expect("checked above");
                    let stored = std::panic::AssertUnwindSafe(letters.store(&op, &error))
                        .catch_unwind()
                        .await;
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
                });
            }
            _ => this.deliver_one(op, OutcomeResult::Failed, error),
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
        let (submission, status) = (op.submission, error.status);
        let error = Box::new(error.while_doing(op.describe()));
        let outcome = outcome(op, result, Some(error), status);
        self.deliver(&mut self.lock(), submission, outcome);
    }

    /// Sends what may be sent of a submission now that one more of its operations has ended.
    fn deliver(&self, engine: &mut Engine, submission: u64, outcome: Outcome) {
        let Entry::Occupied(mut entry) = engine.submissions.entry(submission) else {
            debug_assert!(false, "submission {submission} has ended before its operations");
            return;
        };
        let waiting = entry.get_mut();
        waiting.open -= 1;
        let last = waiting.open == 0;
        // Nobody listens after close.
        if outcome.error.is_none() {
            waiting.good.push(outcome);
        } else {
            let _ = self.done.send(Message::Done(vec![outcome]));
        }
        if last {
            let good = entry.remove().good;
            if !good.is_empty() {
                let _ = self.done.send(Message::Done(good));
            }
        }
    }
}

fn outcome(op: Operation, result: OutcomeResult, error: Option<Box<CoreError>>, status: u16) -> Outcome {
    Outcome {
        token: op.token,
        result,
        error,
        status,
        attempts: op.attempts.as_ref().map_or(1, |a| a.made()),
        request_charge: op.request_charge,
    }
}

/// Whether the next request would be as large as it may be.
fn fills_request(queue: &VecDeque<Operation>, bulk: bool, config: &Config) -> bool {
    if !bulk {
        return !queue.is_empty();
    }
    let mut bytes = 2;
    queue.len() >= config.max_operations
        || queue.iter().any(|op| {
            bytes += wire::bulk_size(op);
            bytes > config.max_request_bytes
        })
}

/// The next request's operations: as many as the limits allow, and an operation that is too large alone.
fn take_batch(queue: &mut VecDeque<Operation>, bulk: bool, config: &Config) -> Vec<Operation> {
    let mut batch = Vec::new();
    let mut bytes = 2;
    while let Some(op) = queue.front() {
        let size = wire::bulk_size(op);
        let too_large = !bulk || 2 + size > config.max_request_bytes;
        if !batch.is_empty()
            && (too_large || batch.len() >= config.max_operations || bytes + size > config.max_request_bytes)
        {
            break;
        }
        bytes += size;
        let mut op = queue.pop_front().expect("there is a front");
        op.alone = too_large;
        batch.push(op);
        if too_large {
            break;
        }
    }
    batch
}
