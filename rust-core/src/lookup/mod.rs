//! Look-ups: the rows of a container's documents that have a key, for joins of Flink's SQL (docs/adr/0041).
//!
//! `machine.rs` decides which keys are asked for together and when; `key.rs` what the service is asked for a key, and which rows have it;
//! `rows.rs` makes rows of answers, `frames.rs` knows what crosses the boundary, and `wire.rs` asks. What is here is the shell around them.
//!
//! - Each number that is asked for is answered once: with the rows, which may be none, or with a failure.
//! - An answer is whole. What is larger than `lookup.max-result-size` fails, unless it is that of several keys: these are asked for in two.
//! - Memory is bounded by that size for each request under way, and by what waits to be polled: rows that Flink has asked for.

mod frames;
mod key;
mod machine;
mod rows;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::frames::{decode_keys, encode_answers, encode_keys, Answer, Asked, Wanted};
pub use self::key::{Key, KeyShape, Value};
pub use self::machine::{Limits, Lookable, Machine, Request};
use self::rows::{Read, Reading};
use self::wire::{address, Answered, Progress, Wire};
use crate::account::{open_blocking, within, Account};
use crate::config::{Config, OnDecodeError, RetryConfig};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::page::KeyPaths;
use crate::retry::{until_answered_with, Attempts};
use crate::rows::{Compiled, Decoder, Plan};

/// How long [`Lookup::close`] waits for the tasks, which end at their next await point.
const CLOSE: Duration = Duration::from_secs(2);

/// Bytes of keys in one query. The service takes half a MiB of text, and parameters beside it.
const QUERY_BYTES: usize = 128 * 1024;

/// What is being done, for people.
const ASKING: &str = "looking keys up";

/// Bytes of answers with which a poll ends, though there are more.
const POLL_BYTES: usize = 8 * 1024 * 1024;

impl Lookable for Key {
    fn name(&self) -> &[u8] {
        &self.name
    }

    fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    fn bytes(&self) -> usize {
        Key::bytes(self)
    }
}

struct State {
    machine: Machine<Key>,
    /// What waits to be polled.
    answers: VecDeque<Answer>,
    /// Bytes of these.
    bytes: usize,
    woken: bool,
    closed: bool,
    /// Requests that are tried again, and since when.
    held: BTreeMap<u64, Instant>,
    /// Decoders that nobody uses now: they know what documents look like.
    decoders: Vec<Decoder>,
    rng: fastrand::Rng,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes whoever polls.
    answered: Condvar,
    /// Wakes the task that begins requests.
    changed: Notify,
    metrics: Metrics,
    shape: KeyShape,
    plan: Arc<Compiled>,
    paths: KeyPaths,
    wire: Wire,
    retry: RetryConfig,
    on_decode_error: OnDecodeError,
    /// Most bytes of rows that one request may have.
    most: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        for answer in answers {
            state.bytes += answer.bytes();
            state.answers.push_back(answer);
        }
        drop(state);
        self.answered.notify_all();
    }
}

/// The handle of a lookup function.
pub struct Lookup {
    shared: Arc<Shared>,
    runtime: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl Lookup {
    /// [`Lookup::connect`], from a thread that may block.
    ///
    /// # Errors
    /// Those of [`Lookup::connect`].
    pub fn open(config: Config, plan: &Plan, wanted: &Wanted) -> Result<Lookup> {
        let (plan, wanted) = (plan.clone(), wanted.clone());
        open_blocking(async move { Self::connect(config, &plan, &wanted).await })
    }

    /// Connects and looks the container up. Runs on the shared runtime.
    ///
    /// # Errors
    /// Those of an account; Config when documents cannot be looked up by the columns that are wanted.
    pub async fn connect(config: Config, plan: &Plan, wanted: &Wanted) -> Result<Lookup> {
        let (account, config, container) = Account::open_with_container(config).await?;
        let paths = KeyPaths::new(container.partition_key_definition().paths());
        let lookup = &config.lookup;
        let limits = Limits {
            keys: if wanted.alone { 1 } else { lookup.batch },
            bytes: QUERY_BYTES,
            wait: if wanted.alone { Duration::ZERO } else { lookup.wait },
            in_flight: config.max_concurrency,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                machine: Machine::new(limits),
                answers: VecDeque::new(),
                bytes: 0,
                woken: false,
                closed: false,
                held: BTreeMap::new(),
                decoders: Vec::new(),
                rng: fastrand::Rng::new(),
            }),
            answered: Condvar::new(),
            changed: Notify::new(),
            metrics: Metrics::default(),
            shape: KeyShape::new(plan, &wanted.columns, &paths)?,
            plan: Arc::new(Compiled::new(plan, paths.iter())),
            paths,
            wire: Wire::new(account, &config, container),
            retry: RetryConfig {
                max_attempts: lookup
                    .max_retries
                    .map_or(config.retry.max_attempts, |retries| retries.saturating_add(1)),
                ..config.retry
            },
            on_decode_error: config.on_decode_error,
            most: lookup.max_result,
        });
        // Without them the first requests go everywhere.
        let ranges = within(config.request_timeout, shared.wire.look_at_ranges());
        if let Err(error) = ranges.await {
            tracing::debug!(target: "cosmosflink::lookup", "the partitions are not known: {error}");
        }
        let lookup = Lookup {
            shared: shared.clone(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
        };
        let kept = shared.clone();
        let keep = async move { kept.wire.keep_ranges(&kept.retry, &kept.metrics).await };
        let task = lookup.stopped.clone().run_until_cancelled_owned(keep);
        lookup.tasks.spawn_on(task, &lookup.runtime);
        let (tasks, stopped) = (lookup.tasks.clone(), lookup.stopped.clone());
        let task = stopped
            .clone()
            .run_until_cancelled_owned(begin(shared, tasks, stopped));
        lookup.tasks.spawn_on(task, &lookup.runtime);
        Ok(lookup)
    }

    /// Whether the options are those of look-ups.
    ///
    /// # Errors
    /// Config when they are not.
    pub fn check(config: &Config) -> Result<()> {
        crate::source::Source::check_rows(config)
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        let metrics = &self.shared.metrics;
        let state = self.shared.lock();
        metrics.bytes_buffered.store(state.bytes as u64, Relaxed);
        let longest = state
            .held
            .values()
            .min()
            .map_or(0, |since| since.elapsed().as_millis());
        metrics.held_millis.store(longest as u64, Relaxed);
        drop(state);
        metrics
    }

    /// Asks for keys: a KEYS frame. What comes of it, [`Lookup::poll`] says.
    ///
    /// # Errors
    /// State when the frame is damaged; Closed.
    pub fn look_up(&self, frame: &[u8]) -> Result<()> {
        let shared = &self.shared;
        let asked = decode_keys(frame, &shared.shape)?;
        shared.metrics.keys_asked.fetch_add(asked.len() as u64, Relaxed);
        // Where keys lie in the key space is computed outside of the lock.
        let definition = shared.wire.key_definition();
        let keys = asked.into_iter();
        let keys: Vec<_> = keys
            .map(|(number, values)| {
                let key = shared.shape.key(values, definition);
                (number, key.map(|key| shared.shape.check(&key).map(|()| key)))
            })
            .collect();
        let now = Instant::now();
        let (mut nothing, mut answers) = (Vec::new(), Vec::new());
        let mut state = shared.lock();
        if state.closed {
            return Err(CoreError::closed());
        }
        let mut sent = 0;
        for (number, key) in keys {
            match key {
                Some(Ok(key)) => sent += u64::from(state.machine.ask(number, key, now)),
                Some(Err(error)) => answers.push(Answer {
                    numbers: vec![number],
                    outcome: Err(error.while_doing(ASKING)),
                }),
                // No row has it.
                None => nothing.push(number),
            }
        }
        drop(state);
        shared.metrics.keys_sent.fetch_add(sent, Relaxed);
        if sent > 0 {
            shared.changed.notify_one();
        }
        if !nothing.is_empty() {
            answers.push(Answer {
                numbers: nothing,
                outcome: Ok(Vec::new()),
            });
        }
        if !answers.is_empty() {
            shared.answer(answers);
        }
        Ok(())
    }

    /// Answers that have come since the last call: an ANSWERED frame. Waits for the first up to `timeout`, or until [`Lookup::wake_up`].
    ///
    /// # Errors
    /// Closed.
    pub fn poll(&self, timeout: Duration) -> Result<Vec<u8>> {
        encode_answers(&self.answers(timeout)?)
    }

    /// [`Lookup::poll`], before they are a frame.
    ///
    /// # Errors
    /// Closed.
    pub fn answers(&self, timeout: Duration) -> Result<Vec<Answer>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return Err(CoreError::closed());
            }
            if !state.answers.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.woken) || left.is_zero() {
                return Ok(Vec::new());
            }
            state = self
                .shared
                .answered
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        let (mut answers, mut bytes) = (Vec::new(), 0);
        while let Some(answer) = state.answers.front() {
            let size = answer.bytes();
            if !answers.is_empty() && bytes + size > POLL_BYTES {
                break;
            }
            bytes += size;
            answers.extend(state.answers.pop_front());
        }
        state.bytes -= bytes;
        Ok(answers)
    }

    /// Ends a wait of [`Lookup::poll`], or the next one if there is none.
    pub fn wake_up(&self) {
        self.shared.lock().woken = true;
        self.shared.answered.notify_all();
    }

    /// Gives up what is under way: every call from now on ends with Closed. Waits for the tasks up to two seconds; from a thread that may
    /// block. Idempotent.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.machine.end();
        state.answers.clear();
        state.bytes = 0;
        state.held.clear();
        drop(state);
        self.shared.answered.notify_all();
        self.stopped.cancel();
        self.tasks.close();
        // What takes longer is left behind.
        let ended = async { tokio::time::timeout(CLOSE, self.tasks.wait()).await };
        let _ = self.runtime.block_on(ended);
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

/// Begins requests as the machine says. It waits for nothing else: where the partitions are as they were, or not known, requests go wherever
/// they went before, or everywhere.
async fn begin(shared: Arc<Shared>, tasks: TaskTracker, stopped: CancellationToken) {
    loop {
        let changed = shared.changed.notified();
        let due = shared.lock().machine.due(Instant::now());
        match due {
            None => changed.await,
            Some(due) if due > Instant::now() => {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = changed => {}
                }
            }
            Some(_) => {
                let ranges = shared.wire.ranges();
                let requests = shared.lock().machine.begin(Instant::now(), &ranges);
                for request in requests {
                    let task = carry_out(shared.clone(), request);
                    tasks.spawn(stopped.clone().run_until_cancelled_owned(task));
                }
            }
        }
    }
}

/// Asks for the keys of a request until there is an answer, and hands it to all who wait.
async fn carry_out(shared: Arc<Shared>, request: Request<Key>) {
    let asked = AssertUnwindSafe(ask(&shared, &request)).catch_unwind().await;
    let outcome = asked.unwrap_or_else(|panic| {
        Err(CoreError::internal(format!(
            "panic while keys were looked up: {}",
            panic_text(&*panic)
        )))
    });
    let mut state = shared.lock();
    state.held.remove(&request.number);
    let answers: Vec<Answer> = match outcome {
        Ok(None) if state.machine.halve(request.number) => Vec::new(),
        Ok(None) => fail(state.machine.ended(request.number), too_large(shared.most)),
        Ok(Some(read)) => {
            let metrics = &shared.metrics;
            let count: u64 = read.rows.iter().map(|rows| rows.len() as u64).sum();
            metrics.records.fetch_add(count, Relaxed);
            metrics.rows_found.fetch_add(count, Relaxed);
            metrics.undecodable.fetch_add(read.undecodable, Relaxed);
            metrics.nulled.fetch_add(read.nulled, Relaxed);
            let waiting = state.machine.ended(request.number).into_iter();
            let answers = waiting.zip(read.rows).map(|(numbers, rows)| Answer {
                numbers,
                outcome: Ok(rows),
            });
            answers.collect()
        }
        Err(error) => fail(state.machine.ended(request.number), error),
    };
    drop(state);
    shared.answer(answers.into_iter().filter(|answer| !answer.numbers.is_empty()));
    shared.changed.notify_one();
}

/// One failure for all who wait for the keys of a request.
fn fail(waiting: Vec<Vec<u64>>, error: CoreError) -> Vec<Answer> {
    vec![Answer {
        numbers: waiting.into_iter().flatten().collect(),
        outcome: Err(error),
    }]
}

fn too_large(most: usize) -> CoreError {
    CoreError::new(
        Kind::TooLarge,
        format!(
            "the rows of one key have more than {most} bytes, which is lookup.max-result-size; raise it, or join by a key that fewer documents have"
        ),
    )
}

/// Asks until there is an answer; `None` where it has more rows than may be held.
async fn ask(shared: &Shared, request: &Request<Key>) -> Result<Option<Read>> {
    let (decoder, rng) = {
        let mut state = shared.lock();
        (state.decoders.pop(), state.rng.fork())
    };
    let mut decoder = decoder.unwrap_or_else(|| Decoder::of(shared.plan.clone()));
    let reading = Reading::new(
        &mut decoder,
        &shared.shape,
        &shared.paths,
        shared.on_decode_error,
        &request.keys,
        address(request).is_some(),
        shared.most,
    );
    let answer = pages(shared, request, reading, rng).await;
    shared.lock().decoders.push(decoder);
    answer.map_err(|e| e.while_doing(ASKING))
}

/// All pages of an answer. Each is tried for by itself: what has been read is not asked for again, so that an answer comes to its end however
/// often its pages are throttled.
async fn pages(
    shared: &Shared,
    request: &Request<Key>,
    reading: Reading<'_>,
    mut rng: fastrand::Rng,
) -> Result<Option<Read>> {
    // One attempt at a time: each goes on where the last one stood.
    let mut asking = tokio::sync::Mutex::new((reading, Progress::new()));
    let mut attempts = Attempts::seeded(&shared.retry, rng.u64(..));
    // Most pages that have been read. What begins anew comes no further by reading them again.
    let mut most = 0;
    loop {
        let attempt = || async {
            let mut asking = asking.lock().await;
            let (reading, progress) = &mut *asking;
            let (wire, metrics) = (&shared.wire, &shared.metrics);
            wire.ask(request, &shared.shape, reading, progress, shared.most, metrics)
                .await
        };
        let waits = |_: u32, _: &CoreError, _: Duration| {
            let mut state = shared.lock();
            state.held.entry(request.number).or_insert_with(Instant::now);
        };
        match until_answered_with(&mut attempts, &shared.metrics, ASKING, attempt, waits).await? {
            Answered::More => {
                let read = asking.get_mut().1.read();
                if read > most {
                    most = read;
                    attempts = Attempts::seeded(&shared.retry, rng.u64(..));
                    shared.lock().held.remove(&request.number);
                }
            }
            Answered::Whole => return Ok(Some(asking.into_inner().0.end())),
            Answered::TooMuch => return Ok(None),
        }
    }
}
