//! The sink: bulk writes by physical partition, in an order that keeps the operations on one document apart.
//!
//! * An operation is routed by the hash of its partition key to the physical partition that owns it, and travels with up to
//!   99 others of that partition in one non-atomic bulk request. While a request of a partition is under way, the next one waits until
//!   it is full or the first is back: an idle sink answers at once, a busy one sends full requests. What is too large for a bulk request
//!   goes alone; such requests are bounded by the writer's concurrency, not by that of the partition.
//! * A bulk request that is refused as a whole is cut into halves until the operation that spoils it is alone; it then goes alone, and
//!   has a verdict of its own. Where every operation of a refused request is taken alone and none in bulk, the form itself is the matter:
//!   the partition's operations go one by one, and the form is tried again after a while.
//! * A transactional batch goes alone, once none of its documents has another operation under way, and holds all of them meanwhile.
//! * What a strategy makes of an answer, `status.rs` decides. Some operations are several requests, of which one is under way: a patch that is
//!   longer than the service takes, a bulk update, a conflict that is compared with what is stored.
//! * At most one operation on a document is under way. Later ones wait behind it, also while it is being retried. A partition's
//!   operations wait in the order in which they came, whatever happened to them before.
//! * How large the requests to a partition are, and how many there are at the same time, follows its 429s and its latency
//!   (`pace.rs`): a part is cut off for what was turned away, and a fixed number of operations comes back with each answer without one. A
//!   partition that was not throttled is asked for all that the options allow.
//! * What is held for the writer is bounded by records and by bytes. What waits for the sake of a partition that is held back or slowed does
//!   not count as records, as much as it gets through soon, so that it takes no room from the other partitions.
//! * What the service turns away for the moment is retried with backoff inside a deadline. A 429 holds its partition
//!   back for as long as the service asks, a 410 holds it until its next try is due or a new map of the partitions is there, which is
//!   read meanwhile. The other partitions go on.
//! * Every submission completes exactly once, whatever happens: when its last operation has ended, or at once with the first that failed for
//!   good and was neither skipped nor stored as a dead letter.
//! * A sink that waits for something and hears nothing at all for long fails, and says what it waits for.
//! * No partition takes the last places of the writer's concurrency while another has none, so that one whose requests hang stops itself alone.
//! * Nothing is written to a container that was created anew since the sink was opened, whoever of the account's users finds out.
//! * Refused operations that become dead letters are stored a few at a time. While many wait for that, no new requests are sent.
//!
//! The engine (`engine.rs`) decides all of this without I/O, lock or clock; what is here carries out what it wants done, and tells it what came of it.

mod batch;
mod dead_letter;
mod document;
mod engine;
mod form;
mod letters;
mod operation;
mod pace;
mod partition;
mod patch;
mod routing;
mod rows;
mod step;
mod submissions;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use crossbeam_channel::{Receiver, Sender};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::{look_up_at_opening, open_blocking, within, Account};
use crate::config::{Config, FailureMode, Role};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::rows::{DocumentPlan, Encoder};
use crate::share::{wait_for, Booked, Peers, Share};
use crate::status::Next;

use dead_letter::DeadLetters;
use engine::{Act, Answer, Checked, Engine};
use letters::Letter;
use partition::Request;
use wire::ContainerService;

pub use document::{IdRule, KeyFields};
use operation::Rules;

pub(crate) use operation::canonical_key;
pub use operation::{decode_operations, encode_operations, NewOperation, Operation, OperationKind, Verb};
pub use rows::encode_rows;
pub use step::Stored;
pub use submissions::{encode_completions, Completion, Failure, OutcomeResult};
pub use wire::{bulk_body, bulk_results, OperationResult, Service};

/// How long `close` waits for requests to end.
const CLOSE: Duration = Duration::from_secs(2);

/// One message for each submission, not for each operation: the channel's locks, and the wake-ups of the thread that waits for
/// them, are shared by all its operations.
enum Message {
    Done(Completion),
    WakeUp,
}

struct Inner {
    service: Box<dyn Service>,
    dead_letters: Option<DeadLetters>,
    runtime: Handle,
    config: Arc<Config>,
    rules: Rules,
    /// What makes documents of the rows that are submitted; none: there are no rows.
    rows: Option<Encoder>,
    engine: Mutex<Engine>,
    done: Sender<Message>,
    /// When the engine is to be woken next.
    wake_at: watch::Sender<Option<Instant>>,
    /// [`Engine::room`] after the last event.
    room: AtomicU64,
    /// Its share in the budget of the sink.
    share: Option<Share>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

/// A sink writer's handle.
pub struct Sink {
    inner: Arc<Inner>,
    completions: Receiver<Message>,
}

impl Sink {
    /// [`Sink::connect_rows`] of a writer that is alone, from a thread that may block.
    pub fn open_rows(config: Config, plan: DocumentPlan) -> Result<Sink> {
        open_blocking(async move { Self::connect_rows(config, Peers::default(), &plan).await })
    }

    /// [`Sink::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Sink> {
        open_blocking(Self::connect(config))
    }

    /// [`Sink::connect_among`] of a writer that is alone.
    pub async fn connect(config: Config) -> Result<Sink> {
        Self::connect_among(config, Peers::default()).await
    }

    /// Connects, looks the containers up and reads the physical partitions. Runs on the shared runtime. `peers` are the writers with which it
    /// shares `sink.request-units-per-second`.
    pub async fn connect_among(config: Config, peers: Peers) -> Result<Sink> {
        Self::connect_with(config, peers, None).await
    }

    /// [`Sink::connect_among`] of a writer that hands rows over, of which documents are made by a plan.
    ///
    /// # Errors
    /// Config when none can be made by it.
    pub async fn connect_rows(config: Config, peers: Peers, plan: &DocumentPlan) -> Result<Sink> {
        let rows = Encoder::new(plan)?;
        Self::connect_with(config, peers, Some(rows)).await
    }

    async fn connect_with(config: Config, peers: Peers, rows: Option<Encoder>) -> Result<Sink> {
        let share = share(&config, &peers);
        let (account, config, container) = Account::open_with_container(config).await?;
        let runtime = account.runtime.handle().clone();
        let metrics = Arc::new(Metrics::default());
        let seed = fastrand::u64(..);
        let dead_letters = match config.failure_mode {
            FailureMode::DeadLetter => {
                let open = || DeadLetters::open(&account, &config, &metrics, seed);
                Some(look_up_at_opening(&config, open).await?)
            }
            _ => None,
        };
        let service = ContainerService {
            seen: account.seen(&container),
            account,
            container,
            config: config.clone(),
            metrics: metrics.clone(),
        };
        let partitions = look_up_at_opening(&config, || service.partitions(false)).await?;
        Self::start(
            Box::new(service),
            dead_letters,
            partitions,
            config,
            metrics,
            runtime,
            share,
            rows,
            seed,
        )
    }

    /// A sink over any service, on a runtime of the caller's, which may be one of a single thread in paused time: for simulations, benchmarks
    /// and tests. Where time is paused, the sink is used from within the runtime, by [`Sink::poll`] with a timeout of zero and by [`Sink::end`].
    /// Refused operations go to `letters` in the failure mode `dead-letter`; `seed` decides what chance decides.
    ///
    /// # Errors
    /// Those of the service's [`Service::partitions`]. Transient when it names none; Config when the letters cannot be kept by
    /// its partition key.
    #[doc(hidden)]
    pub async fn over(
        service: Box<dyn Service>,
        letters: Option<Box<dyn Service>>,
        config: Config,
        runtime: &Handle,
        seed: u64,
    ) -> Result<Sink> {
        let (config, metrics) = (Arc::new(config), Arc::<Metrics>::default());
        let letters = letters
            .map(|letters| DeadLetters::over(letters, &config, &metrics, seed))
            .transpose()?;
        let partitions = service.partitions(false).await?;
        let runtime = runtime.clone();
        let share = share(&config, &Peers::default());
        Self::start(
            service, letters, partitions, config, metrics, runtime, share, None, seed,
        )
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of what is made here, each from another place"
    )]
    fn start(
        service: Box<dyn Service>,
        dead_letters: Option<DeadLetters>,
        partitions: Vec<(String, EffectivePartitionKey)>,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        runtime: Handle,
        share: Option<Share>,
        rows: Option<Encoder>,
        seed: u64,
    ) -> Result<Sink> {
        let engine = Engine::new(
            config.clone(),
            service.key_definition().clone(),
            partitions,
            service.check_interval(),
            dead_letters.is_some(),
            seed,
        )?
        .with_reads(service.reads());
        let rules = Rules::of(&config, service.key_definition());
        if let Some(fields) = &config.key_fields {
            fields.check(&rules.paths)?;
        }
        // Unbounded, but never fuller than what was submitted, and that the writer bounds with its own buffers.
        let (done, completions) = crossbeam_channel::unbounded();
        let (wake_at, alarm) = watch::channel(None);
        let inner = Arc::new(Inner {
            service,
            dead_letters,
            runtime,
            config,
            rules,
            rows,
            engine: Mutex::new(engine),
            done,
            wake_at,
            room: AtomicU64::new(0),
            share,
            metrics,
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        });
        Inner::spawn(&inner, Inner::keep_time(inner.clone(), alarm));
        Ok(Sink { inner, completions })
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.cancelled.is_cancelled() {
            return Err(CoreError::closed());
        }
        Ok(())
    }

    /// The counters, those of the engine brought up to date.
    pub fn metrics(&self) -> &Metrics {
        let metrics = &*self.inner.metrics;
        let mut engine = self.inner.lock();
        let (counts, gauges) = (engine.take_counts(), engine.gauges(Instant::now()));
        // Some of these count what the service's requests come to as well, so that they are added to.
        for (counter, more) in [
            (&metrics.records, counts.records),
            (&metrics.failed, counts.failed),
            (&metrics.skipped, counts.skipped),
            (&metrics.dead_lettered, counts.dead_lettered),
            (&metrics.retries, counts.retries),
            (&metrics.bulk_refused, counts.bulk_refused),
            (&metrics.throttled, counts.throttled),
            (&metrics.superseded, counts.superseded),
        ] {
            counter.fetch_add(more, Relaxed);
        }
        // A failure is held up from its first moment on.
        let held = gauges.held.map_or(0, |h| (h.as_millis() as u64).max(1));
        for (gauge, now) in [
            (&metrics.operations_waiting, gauges.operations_waiting),
            (&metrics.bytes_buffered, gauges.bytes_buffered),
            (&metrics.held_millis, held),
            (&metrics.bulk_off, gauges.bulk_off),
            (&metrics.partitions_slowed, gauges.partitions_slowed),
            (&metrics.partitions_held, gauges.partitions_held),
        ] {
            gauge.store(now, Relaxed);
        }
        metrics
    }

    /// Takes a frame of operations, or of rows that become operations, under a number of the caller's, which names no other submission of this sink. An operation that cannot
    /// be sent at all (no JSON object, bad id or key, too large) ends like any other that fails.
    ///
    /// # Errors
    /// State when the frame is damaged, BadRequest when the number is that of a submission that has not completed: then nothing of it is
    /// taken. Closed.
    ///
    /// Returns [`Sink::room`] as it is then.
    pub fn submit(&self, submission: u64, frame: Vec<u8>) -> Result<u64> {
        self.check_open()?;
        // Before the lock is taken: documents are looked through, while the runtime's threads go on with what is under way.
        let inner = &*self.inner;
        let operations = match &inner.rows {
            Some(encoder) => rows::decode(&frame, encoder, inner.config.max_record_bytes, &inner.rules)?,
            None => decode_operations(frame)?,
        };
        let operations = Checked::of(submission, operations, &inner.rules);
        let mut refused = Ok(());
        // Where it panics the submission has begun, and completes with all others.
        Inner::tell(&self.inner, |engine, now| {
            refused = engine.accept(now, submission, operations);
        });
        refused.map(|()| self.room())
    }

    /// Whether the caller may submit another batch: not while the number is odd. It grows by one each time that this changes, so that of two
    /// answers the larger is the newer. When there is room again, a waiting [`Sink::poll`] returns.
    pub fn room(&self) -> u64 {
        self.inner.room.load(Acquire)
    }

    /// What holds operations up now, each in a sentence without its full stop: which partition, since when, and what it answered last.
    pub fn held_up(&self) -> Vec<String> {
        self.inner.lock().held_up(Instant::now())
    }

    /// The submissions that have completed, in the order in which they did; waits up to `timeout` for the first. Empty when none came in
    /// time, when there is room again, or when [`Sink::wake_up`] was called. A timeout of zero never waits.
    ///
    /// # Errors
    /// Closed, once there is nothing left to give.
    pub fn poll(&self, timeout: Duration) -> Result<Vec<Completion>> {
        let mut next = match timeout.is_zero() {
            true => self.completions.try_recv().ok(),
            false => self.completions.recv_timeout(timeout).ok(),
        };
        let mut out = Vec::new();
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

    /// [`Sink::end`] from a thread that may block.
    pub fn close(&self) {
        self.inner.runtime.block_on(self.end());
    }

    /// Gives up what is under way and lets the account go. Idempotent. A writer that wants its operations done waits
    /// for its submissions first.
    pub async fn end(&self) {
        self.inner.cancelled.cancel();
        self.inner.tasks.close();
        self.wake_up();
        let _ = tokio::time::timeout(CLOSE, self.inner.tasks.wait()).await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A sink that was forgotten must not leave tasks behind.
        self.inner.cancelled.cancel();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Tells the engine of an event, and has done what it wants done. When it panics, what it held and what it left behind is unknown:
    /// every submission that has not completed then fails.
    fn tell(this: &Arc<Self>, what: impl FnOnce(&mut Engine, Instant)) {
        let mut engine = this.lock();
        let now = Instant::now();
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| {
            what(&mut engine, now);
            engine.room(now)
        }));
        let room = told.unwrap_or_else(|panic| {
            let why = format!("panic in the sink: {}; restart the job", panic_text(&*panic));
            engine.fail(&CoreError::internal(why));
            engine.room_after_failure()
        });
        let before = this.room.swap(room, AcqRel);
        let mut wakes = room != before && room.is_multiple_of(2);
        // Under the lock, so that the completions of two events keep their order.
        for act in engine.acts() {
            wakes &= !matches!(act, Act::Complete(_));
            Self::carry_out(this, act);
        }
        if wakes {
            // Whoever waits for room hears of it with the next completion, else now.
            let _ = this.done.send(Message::WakeUp);
        }
    }

    fn carry_out(this: &Arc<Self>, act: Act) {
        let me = this.clone();
        match act {
            Act::Send(mut request) => Self::spawn(this, async move {
                let booked = Self::pay(&me, &mut request).await;
                // The operations stay outside of what may panic: each must come back whatever happens.
                let answer = guarded("writing", Self::perform(&me, &request)).await;
                let answer = answer.unwrap_or_else(Answer::Whole);
                if let Some(booked) = booked {
                    booked.settle(answer.request_charge());
                }
                Self::tell(&me, |engine, now| engine.concluded(now, request, answer));
            }),
            Act::Refresh => Self::spawn(this, async move {
                // Shorter than the deadline of the operations, which ask again when it has come to nothing. The look-up that is given up
                // goes on.
                let limit = me.config.request_timeout.min(me.config.retry.deadline / 4);
                let read = within(limit, me.service.partitions(true));
                let read = guarded("reading the partitions", read)
                    .await
                    .and_then(|read| read);
                Self::tell(&me, |engine, now| engine.refreshed(now, read));
            }),
            Act::Check => Self::spawn(this, async move {
                let check = guarded("looking at the container", me.service.check()).await;
                let result = check.and_then(|result| result);
                Self::tell(&me, |engine, now| engine.checked(now, result));
            }),
            Act::Store(letter) => Self::spawn(this, async move {
                let stored = guarded("storing a dead letter", Self::store(&me, &letter)).await;
                let result = stored.and_then(|result| result);
                Self::tell(&me, |engine, now| engine.stored(now, letter, result));
            }),
            Act::Complete(completion) => {
                // Nobody listens after close.
                let _ = this.done.send(Message::Done(completion));
            }
            Act::WakeAt(at) => {
                this.wake_at.send_replace(Some(at));
            }
        }
    }

    /// Runs a task until the sink is closed.
    fn spawn(this: &Arc<Self>, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let cancelled = this.cancelled.clone();
        let task = async move {
            cancelled.run_until_cancelled(task).await;
        };
        this.tasks.spawn_on(task, &this.runtime);
    }

    /// Wakes the engine when it wants to be woken: the one timer that it has.
    async fn keep_time(this: Arc<Self>, mut alarm: watch::Receiver<Option<Instant>>) {
        let mut rung = None;
        loop {
            let at = *alarm.borrow_and_update();
            let due = async {
                match at {
                    Some(at) if rung != Some(at) => tokio::time::sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = alarm.changed() => if changed.is_err() {
                    return;
                },
                () = due => {
                    rung = at;
                    Self::tell(&this, |engine, now| engine.woken(now));
                }
            }
        }
    }

    /// Waits until a request is paid for, where writing has a budget.
    async fn pay<'a>(this: &'a Arc<Self>, request: &mut Request) -> Option<Booked<'a>> {
        let share = this.share.as_ref()?;
        let (booked, wait) = share.book(request.operations.iter().map(Operation::parts).sum());
        if !wait.is_zero() {
            this.lock().put_off(request, Instant::now() + wait);
            wait_for(wait, &this.metrics).await;
            // What the service has asked for meanwhile holds for this request too.
            while let Some(until) = Self::put_off(this, request) {
                tokio::time::sleep_until(until).await;
            }
            request.put_off(Instant::now());
        }
        Some(booked)
    }

    /// Until when a request that has been paid for is held back by its partition, if it is.
    fn put_off(this: &Arc<Self>, request: &Request) -> Option<Instant> {
        let (mut engine, now) = (this.lock(), Instant::now());
        let held = engine.held_until(request, now);
        engine.put_off(request, held.unwrap_or(now));
        held
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
                        // What became of the operations is what the request was told, not the look-up.
                        Some(check) => CoreError {
                            request_charge: e.request_charge,
                            fate: e.fate,
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

    async fn store(this: &Arc<Self>, letter: &Letter) -> Result<()> {
        let waits = |attempts: u32, error: &CoreError, wait| {
            let now = Instant::now();
            this.lock()
                .not_stored_yet(now, letter.number, attempts, error, wait);
        };
        match &this.dead_letters {
            Some(letters) => {
                letters
                    .store(&letter.operation, &letter.error, letter.seed, waits)
                    .await
            }
            None => Err(CoreError::internal("there is no dead-letter container")),
        }
    }
}

/// The share of one more of these writers in the budget of their sink, where it has one.
fn share(config: &Config, peers: &Peers) -> Option<Share> {
    let units = config.sink_request_units_per_second?;
    Some(peers.join(Role::Sink, units))
}

/// What a future gives, or its panic as an error.
async fn guarded<T>(what: &str, future: impl std::future::Future<Output = T>) -> Result<T> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| CoreError::internal(format!("panic while {what}: {}", panic_text(&*panic))))
}

#[cfg(test)]
mod tests;
