//! The source: reads several splits at once, ahead of the job, and hands pages over one at a time.
//!
//! Each split has a task that fetches its pages in order. What all of them hold is bounded in bytes by one semaphore, which
//! is fair: the tasks get their turn in the order in which they asked. Pages wait in a queue per split and
//! are handed out round robin.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_data_cosmos_driver::models::ContainerReference;
use futures::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::account::{open_blocking, Account};
use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::feed::{recreated, FeedCursor};
use crate::metrics::Metrics;
use crate::page::{self, KeyPaths, PageHead};
use crate::retry::Attempts;
use crate::split::Split;

/// The service's own limit of a page. A fetch sets this much of the budget aside, since the size of a page is not known
/// before it is there; what it does not need goes back at once.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (maximum response size).
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// A page of at least this size counts as full even when it has fewer documents than asked for: the service has
/// cut it by bytes.
const FULL_PAGE_BYTES: u64 = 3 * 1024 * 1024;

/// First pause when a feed range is idle, and the pause after a page that was not full: polling at once would spend
/// request units on pages of a few documents each.
const FIRST_POLL: Duration = Duration::from_millis(50);

/// Budget is counted in KiB, so that a semaphore's 32-bit permits can count terabytes.
const UNIT: u64 = 1024;

/// How long `close` waits for the tasks, which end at their next await point.
const CLOSE: Duration = Duration::from_secs(2);

struct ReadyPage {
    frame: Vec<u8>,
    records: u64,
    after: Split,
    /// Gives the page's share of the budget back when dropped.
    _budget: Budget,
}

struct Budget {
    _permit: OwnedSemaphorePermit,
    bytes: u64,
    shared: Arc<Shared>,
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.shared.metrics.bytes_buffered.fetch_sub(self.bytes, Relaxed);
    }
}

struct SplitState {
    /// Position after the last page that was handed over: where reading goes on after a pause.
    delivered: Split,
    queue: VecDeque<ReadyPage>,
    paused: bool,
    /// Counts pauses: a page that was fetched under an older number is thrown away.
    epoch: u64,
    lag_millis: u64,
    resumed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// In the order in which they were added; the readers of one task own few splits.
    splits: Vec<(String, SplitState)>,
    /// Where the next round begins.
    turn: usize,
    /// The page that `next_page` announced and `take_page` has not taken yet.
    announced: Option<ReadyPage>,
    woken: bool,
    closed: bool,
    error: Option<CoreError>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    metrics: Metrics,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A source reader's handle.
pub struct Source {
    account: Arc<Account>,
    container: ContainerReference,
    config: Arc<Config>,
    paths: Arc<KeyPaths>,
    shared: Arc<Shared>,
    budget: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Source {
    /// [`Source::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Source> {
        open_blocking(Self::connect(config))
    }

    /// Connects and looks the container up. Runs on the shared runtime.
    pub async fn connect(config: Config) -> Result<Source> {
        let (account, config, container) = Account::open_with_container(config).await?;
        let units = u32::try_from(config.prefetch_bytes / UNIT).unwrap_or(u32::MAX);
        Ok(Source {
            paths: Arc::new(KeyPaths::new(container.partition_key_definition().paths())),
            budget: Arc::new(Semaphore::new((units as usize).min(Semaphore::MAX_PERMITS))),
            requests: Arc::new(Semaphore::new(config.max_concurrency)),
            account,
            container,
            config,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                metrics: Metrics::default(),
            }),
            tasks: Mutex::default(),
        })
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Begins to read more splits.
    ///
    /// # Errors
    /// State when a split belongs to another container or is read already; then none of them is added.
    pub fn add_splits(&self, splits: Vec<Split>) -> Result<()> {
        let rid = self.container.rid();
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(CoreError::closed());
            }
            for split in &splits {
                if split.container_rid != rid {
                    return Err(recreated(&self.config.container, &split.container_rid, rid));
                }
                if state.splits.iter().any(|(id, _)| *id == split.id()) {
                    return Err(CoreError::state(format!(
                        "split {} is read by this reader already",
                        split.id()
                    )));
                }
            }
            for split in &splits {
                let fresh = SplitState {
                    delivered: split.clone(),
                    queue: VecDeque::new(),
                    paused: false,
                    epoch: 0,
                    lag_millis: 0,
                    resumed: Arc::default(),
                };
                state.splits.push((split.id(), fresh));
            }
            self.shared
                .metrics
                .splits
                .store(state.splits.len() as u64, Relaxed);
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(|e| e.into_inner());
        for split in splits {
            tracing::info!(target: "cosmosflink::source", "reading {}", split.describe());
            let fetcher = Fetcher {
                id: split.id(),
                account: self.account.clone(),
                container: self.container.clone(),
                config: self.config.clone(),
                paths: self.paths.clone(),
                shared: self.shared.clone(),
                budget: self.budget.clone(),
                requests: self.requests.clone(),
            };
            tasks.push(self.account.runtime.handle().spawn(fetcher.run()));
        }
        Ok(())
    }

    /// Holds splits back, and lets others go on. Pages that wait for a paused split are dropped and read again later, so
    /// that they do not keep the budget from the others.
    pub fn pause_or_resume(&self, pause: &[String], resume: &[String]) -> Result<()> {
        let mut state = self.shared.lock();
        for (id, split) in &mut state.splits {
            if pause.contains(id) && !split.paused {
                split.paused = true;
                split.epoch += 1;
                split.lag_millis = 0;
                split.queue.clear();
            } else if resume.contains(id) && split.paused {
                split.paused = false;
                split.resumed.notify_one();
            }
        }
        let paused = state.splits.iter().filter(|(_, s)| s.paused).count();
        self.shared.metrics.splits_paused.store(paused as u64, Relaxed);
        for id in pause.iter().chain(resume) {
            if !state.splits.iter().any(|(known, _)| known == id) {
                return Err(CoreError::state(format!(
                    "split '{id}' is not read by this reader"
                )));
            }
        }
        Ok(())
    }

    /// Size in bytes of the next page's frame; 0 when there is none within `timeout`, or [`Source::wake_up`] was called.
    ///
    /// # Errors
    /// What ended a split's reading, again at each call; Closed.
    pub fn next_page(&self, timeout: Duration) -> Result<usize> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return Err(CoreError::closed());
            }
            if let Some(page) = &state.announced {
                return Ok(page.frame.len());
            }
            if std::mem::take(&mut state.woken) {
                return Ok(0);
            }
            let n = state.splits.len();
            for i in 0..n {
                let at = (state.turn + i) % n;
                if let Some(page) = state.splits[at].1.queue.pop_front() {
                    state.turn = at + 1;
                    state.splits[at].1.delivered = page.after.clone();
                    let size = page.frame.len();
                    state.announced = Some(page);
                    return Ok(size);
                }
            }
            // After the pages: what was read before the failure is delivered first.
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// Takes the page that [`Source::next_page`] announced and gives its bytes back to the budget.
    ///
    /// # Errors
    /// BadRequest when there is none.
    pub fn take_page(&self) -> Result<Vec<u8>> {
        let page =
            self.shared.lock().announced.take().ok_or_else(|| {
                CoreError::new(Kind::BadRequest, "no page is announced; call nextPage first")
            })?;
        self.shared.metrics.records.fetch_add(page.records, Relaxed);
        Ok(page.frame)
    }

    /// Makes a waiting [`Source::next_page`] return, or the next one if none waits.
    pub fn wake_up(&self) {
        self.shared.lock().woken = true;
        self.shared.changed.notify_all();
    }

    /// Ends the tasks and lets the account go. Idempotent.
    pub fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.closed = true;
            state.announced = None;
            state.splits.clear();
        }
        self.shared.changed.notify_all();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(|e| e.into_inner()));
        tasks.iter().for_each(JoinHandle::abort);
        let _ = self
            .account
            .runtime
            .handle()
            .block_on(async { tokio::time::timeout(CLOSE, futures::future::join_all(tasks)).await });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Closed by its owner as a rule; a source that a test or a failed start forgets must not leave tasks behind.
        self.tasks
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .iter()
            .for_each(JoinHandle::abort);
    }
}

/// Fetches the pages of one split.
struct Fetcher {
    id: String,
    account: Arc<Account>,
    container: ContainerReference,
    config: Arc<Config>,
    paths: Arc<KeyPaths>,
    shared: Arc<Shared>,
    budget: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// Why a fetch ended without a page to go on from.
enum Stop {
    /// The split was paused: read again from the position that was handed over.
    Paused,
    Failed(CoreError),
}

impl From<CoreError> for Stop {
    fn from(e: CoreError) -> Self {
        Stop::Failed(e)
    }
}

impl Fetcher {
    async fn run(self) {
        let outcome = std::panic::AssertUnwindSafe(self.read_forever())
            .catch_unwind()
            .await;
        let error = outcome.unwrap_or_else(|panic| {
            CoreError::internal(format!("panic while reading: {}", panic_text(&*panic)))
        });
        tracing::error!(target: "cosmosflink::source", "reading split {} failed: {error}", self.id);
        self.shared.lock().error = Some(error.while_doing(format!("reading split {}", self.id)));
        self.shared.changed.notify_all();
    }

    async fn read_forever(&self) -> CoreError {
        let mut attempts = Attempts::new(&self.config.retry);
        loop {
            let (mut split, epoch) = self.position_when_not_paused().await;
            match self.read(&mut split, epoch, &mut attempts).await {
                Stop::Paused => {}
                Stop::Failed(e) => match self.wait_after(&e, &mut attempts).await {
                    // The cursor is opened again at the last position that was put into the queue.
                    true => {}
                    false => return e,
                },
            }
        }
    }

    /// Waits after a failure; false when it is final.
    async fn wait_after(&self, error: &CoreError, attempts: &mut Attempts) -> bool {
        let metrics = &self.shared.metrics;
        metrics.failure(error);
        let Some(wait) = attempts.next(error, tokio::time::Instant::now()) else {
            return false;
        };
        metrics.retries.fetch_add(1, Relaxed);
        tracing::debug!(target: "cosmosflink::source", "split {}: waiting {wait:?} after: {error}", self.id);
        tokio::time::sleep(wait).await;
        true
    }

    /// The position to read from: behind the last page that waits, else behind the last one handed over.
    async fn position_when_not_paused(&self) -> (Split, u64) {
        loop {
            let resumed = {
                let state = self.shared.lock();
                match state.splits.iter().find(|(id, _)| *id == self.id) {
                    Some((_, s)) if !s.paused => {
                        return (s.queue.back().map_or(&s.delivered, |p| &p.after).clone(), s.epoch);
                    }
                    Some((_, s)) => s.resumed.clone(),
                    // Closed: this task is about to be aborted.
                    None => Arc::default(),
                }
            };
            resumed.notified().await;
        }
    }

    async fn read(&self, split: &mut Split, epoch: u64, attempts: &mut Attempts) -> Stop {
        match self.read_until_stopped(split, epoch, attempts).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn read_until_stopped(
        &self,
        split: &mut Split,
        epoch: u64,
        attempts: &mut Attempts,
    ) -> std::result::Result<std::convert::Infallible, Stop> {
        let mut cursor = FeedCursor::open(&self.account, &self.container, &self.config, split).await?;
        let mut pause = FIRST_POLL;
        loop {
            let reserve = (self.config.prefetch_bytes.min(MAX_PAGE_BYTES) / UNIT) as u32;
            let mut permit = self
                .budget
                .clone()
                .acquire_many_owned(reserve)
                .await
                .map_err(|_| CoreError::closed())?;
            let page = {
                let _turn = self.requests.acquire().await.map_err(|_| CoreError::closed())?;
                cursor.next(&self.shared.metrics).await?
            };
            *attempts = Attempts::new(&self.config.retry);
            let unread = split.continuation.is_none();
            split.continuation = Some(page.continuation);
            let arrived = epoch_millis();
            let head = PageHead {
                split_id: &self.id,
                split: &split.encode(),
                arrived_epoch_millis: arrived,
            };
            let mut built = page::build(&head, &page.items, &self.paths)?;
            let empty = built.records == 0;
            let full = built.records >= self.config.page_size as usize || page.bytes >= FULL_PAGE_BYTES;
            if !full {
                built.caught_up();
            }
            // An empty page goes over once, so that the job's state holds a position from then on.
            if !empty || unread {
                let bytes = built.frame.len() as u64;
                let spare = (permit.num_permits() as u64).saturating_sub(bytes.div_ceil(UNIT).max(1));
                drop(permit.split(spare as usize));
                let lag = if full {
                    arrived.saturating_sub(built.newest_ts * 1000).max(0) as u64
                } else {
                    0
                };
                self.shared.metrics.bytes_buffered.fetch_add(bytes, Relaxed);
                let budget = Budget {
                    _permit: permit,
                    bytes,
                    shared: self.shared.clone(),
                };
                self.push(
                    ReadyPage {
                        frame: built.frame,
                        records: built.records as u64,
                        after: split.clone(),
                        _budget: budget,
                    },
                    epoch,
                    lag,
                )?;
            } else {
                drop(permit);
                self.set_lag(0, epoch)?;
            }
            if empty {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(self.config.poll_interval.max(FIRST_POLL));
            } else {
                pause = FIRST_POLL;
                if !full {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn with_split<T>(
        &self,
        epoch: u64,
        act: impl FnOnce(&mut SplitState) -> T,
    ) -> std::result::Result<T, Stop> {
        let mut state = self.shared.lock();
        let split = state
            .splits
            .iter_mut()
            .find(|(id, s)| *id == self.id && s.epoch == epoch && !s.paused);
        let done = act(&mut split.ok_or(Stop::Paused)?.1);
        let lag = state.splits.iter().map(|(_, s)| s.lag_millis).max().unwrap_or(0);
        self.shared.metrics.lag_millis.store(lag, Relaxed);
        Ok(done)
    }

    fn set_lag(&self, lag: u64, epoch: u64) -> std::result::Result<(), Stop> {
        self.with_split(epoch, |s| s.lag_millis = lag)
    }

    fn push(&self, page: ReadyPage, epoch: u64, lag: u64) -> std::result::Result<(), Stop> {
        self.with_split(epoch, |s| {
            s.lag_millis = lag;
            s.queue.push_back(page);
        })?;
        self.shared.changed.notify_one();
        Ok(())
    }
}

/// Now, in milliseconds since the epoch.
pub fn epoch_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

/// The message of a panic.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "without a message".to_owned())
}
