//! The source: reads several splits at once, ahead of the job, and hands pages over one at a time.
//!
//! Each split has a task that fetches its pages in order. Pages wait in a queue per split and are handed out round robin.
//!
//! What all of them hold is bounded in bytes. A fetch reserves room for a page like the split's last ones before it asks, the tasks get room in the order in
//! which they asked for it, and a page then counts with what is allocated for it. The pages of a paused split stay and count; they
//! are given back, newest first, when another split waits for room and they hold more than half of the budget, or all that is held.
//! So no split can starve the others, and pages that were paid for are fetched again only where the budget is really short.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::open_blocking;
use crate::clock::epoch_millis;
use crate::config::{Config, Start};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::feed::{recreated, DriverFeed, Feed, Pages};
use crate::metrics::Metrics;
use crate::page::{self, PageHead};
use crate::retry::Attempts;
use crate::split::Split;
use crate::status::Next;

/// The service's own limit of a page.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (maximum response size).
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// What a fetch sets aside, since the size of a page is not known before it is there: at its peak it holds the answer, the driver's copy
/// of it, and the frame with a quarter more for what is added to the documents. What it does not need goes back at once.
const fn reserve(page_bytes: u64) -> u64 {
    2 * page_bytes + page_bytes + page_bytes / 4
}

/// What a split's first page with documents is expected to have: a thousand documents of 1.5 KiB. With the service's limit in its place
/// no more than four fetches would fit into the default budget at once, and most pages are smaller. Where they are not, the first page of
/// each split takes too much once.
const FIRST_EXPECTED_BYTES: u64 = MAX_PAGE_BYTES * 3 / 8;

/// A page that is expected to be smaller is taken for one of this size: the default concurrency fits into the default budget, and what a
/// page that is larger than expected takes too much is bounded.
const MIN_EXPECTED_BYTES: u64 = MAX_PAGE_BYTES / 4;

/// A page of at least this size counts as full even when it has fewer documents than asked for: the service ends a page at 4 MiB, and a
/// document that did not fit any more has at most 2 MiB.
const FULL_PAGE_BYTES: u64 = 2 * 1024 * 1024;

/// A page that is not full but whose newest document is older than this, and than the poll interval, is not taken for the end of the
/// feed: the service may end a page earlier than asked for.
const RECENT: Duration = Duration::from_secs(5);

/// So many pages that are not full are taken for the end after one look more that found nothing.
const TRUSTED_PAGES: u32 = 16;

/// After so many empty pages in a row that show no progress, the next look waits as if they were the end.
const EMPTY_PAGES: u32 = 16;

/// After so many pages the page size that an answer was too large for is doubled again.
const PAGES_BEFORE_GROWTH: u32 = 16;

/// A look that is late by less does not show as lag.
const LATE: Duration = Duration::from_secs(1);

/// How long `close` waits for the tasks, which end at their next await point.
const CLOSE: Duration = Duration::from_secs(2);

struct ReadyPage {
    frame: Vec<u8>,
    records: u64,
    /// Documents that could not be decoded.
    undecodable: u64,
    after: Split,
    /// Up to when the split was read before this page, in milliseconds since the epoch; no later than the page's newest document.
    behind: i64,
    queued: Instant,
}

impl ReadyPage {
    /// What is allocated for it.
    fn bytes(&self) -> u64 {
        let position = self.after.continuation.as_ref().map_or(0, String::capacity);
        (self.frame.capacity() + position) as u64
    }

    /// How old what it tells is, once it has waited for so long that it shows. An empty page tells nothing.
    fn lag_millis(&self, now: Instant, epoch_now: i64) -> Option<u64> {
        let late = now.saturating_duration_since(self.queued) >= LATE;
        (self.records > 0 && late).then(|| millis_since(self.behind, epoch_now))
    }
}

struct SplitState {
    /// Position after the last page that was handed over.
    delivered: Split,
    queue: VecDeque<ReadyPage>,
    paused: bool,
    /// Pages were given back: reading goes on behind the last one that is left.
    rewound: bool,
    /// Wakes the split's task: it was resumed, or there may be room.
    wake: Arc<Notify>,
    /// Up to when the split is known to be read, in milliseconds since the epoch. Its state does not say; as long as nothing has been
    /// read, that is when it was added, or an earlier point in time that it starts from.
    reached: i64,
    /// It has been read to its end, and the next look is not overdue before then.
    at_rest_until: Option<Instant>,
    /// Since when its requests fail or are throttled.
    held_since: Option<Instant>,
}

impl SplitState {
    fn new(split: &Split) -> Self {
        SplitState {
            delivered: split.clone(),
            queue: VecDeque::new(),
            paused: false,
            rewound: false,
            wake: Arc::default(),
            reached: start_millis(split),
            at_rest_until: None,
            held_since: None,
        }
    }

    /// Takes the newest page out of the queue, to be read again later.
    fn take_back(&mut self) -> Option<ReadyPage> {
        let page = self.queue.pop_back()?;
        self.rewound = true;
        self.reached = self.reached.min(page.behind);
        self.at_rest_until = None;
        Some(page)
    }

    fn queued_bytes(&self) -> u64 {
        self.queue.iter().map(ReadyPage::bytes).sum()
    }

    fn lag_millis(&self, now: Instant, epoch_now: i64) -> u64 {
        let at_rest = !self.paused && self.at_rest_until.is_some_and(|until| now < until);
        // What was read and waits for the job is not behind the job yet.
        let waiting = self.queue.iter().find_map(|page| page.lag_millis(now, epoch_now));
        if at_rest {
            return waiting.unwrap_or(0);
        }
        waiting
            .unwrap_or_default()
            .max(millis_since(self.reached, epoch_now))
    }
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
    /// What ended a split's reading, and which: no split is read on after it.
    failed: Option<(String, CoreError)>,
    /// Bytes of pages and of reserves.
    held: u64,
    /// The splits that wait for room, in order.
    waiting: VecDeque<String>,
}

impl State {
    fn split(&mut self, id: &str) -> Option<&mut SplitState> {
        self.splits.iter_mut().find(|(i, _)| i == id).map(|(_, s)| s)
    }

    /// Wakes the split that is next to get room.
    fn wake_next(&mut self) {
        if let Some(id) = self.waiting.front().cloned() {
            if let Some(split) = self.split(&id) {
                split.wake.notify_one();
            }
        }
    }

    fn release(&mut self, bytes: u64) {
        self.held -= bytes;
        self.wake_next();
    }

    /// Whether a split may fetch now; then `reserve` bytes are held for it.
    fn admit(&mut self, id: &str, reserve: u64, budget: u64) -> bool {
        if self.closed || self.failed.is_some() || self.split(id).is_none_or(|s| s.paused) {
            self.waiting.retain(|waiting| waiting != id);
            self.wake_next();
            return false;
        }
        if !self.waiting.iter().any(|waiting| waiting == id) {
            self.waiting.push_back(id.to_owned());
        }
        if self.waiting.front().is_none_or(|first| first != id) {
            return false;
        }
        if !self.make_room(reserve, budget) {
            return false;
        }
        self.held += reserve;
        self.waiting.pop_front();
        self.wake_next();
        true
    }

    /// Makes room for `reserve` bytes, if need be by dropping pages of paused splits that hold more than their share: the newest page of
    /// the one that holds most, again and again. Drops nothing when all that may be dropped is not enough.
    fn make_room(&mut self, reserve: u64, budget: u64) -> bool {
        let mut queues: Vec<(usize, Vec<u64>)> = self
            .splits
            .iter()
            .enumerate()
            .filter(|(_, (_, s))| s.paused)
            .map(|(at, (_, s))| (at, s.queue.iter().map(ReadyPage::bytes).collect()))
            .collect();
        let mut kept: u64 = queues.iter().flat_map(|(_, pages)| pages).sum();
        let (mut held, mut dropped) = (self.held, Vec::new());
        while held + reserve > budget {
            // When all that is held is theirs, nothing else will make room.
            if kept <= budget / 2 && kept != held {
                return false;
            }
            let most = queues
                .iter_mut()
                .max_by_key(|(_, pages)| pages.iter().sum::<u64>());
            let Some((at, bytes)) = most.and_then(|(at, pages)| Some((*at, pages.pop()?))) else {
                return false;
            };
            kept -= bytes;
            held -= bytes;
            dropped.push(at);
        }
        for at in dropped {
            self.splits[at].1.take_back();
        }
        self.held = held;
        true
    }

    /// What whoever reads gets now.
    fn next(&mut self) -> Result<Turn> {
        if self.closed {
            return Err(CoreError::closed());
        }
        if let Some(page) = &self.announced {
            return Ok(Turn::Page(page.frame.len()));
        }
        if std::mem::take(&mut self.woken) {
            return Ok(Turn::Woken);
        }
        if let Some((id, error)) = self.failed.clone() {
            let at = self.splits.iter().position(|(i, _)| *i == id);
            let rest = at.and_then(|at| self.announce(at));
            return rest.map(Turn::Page).ok_or(error);
        }
        let n = self.splits.len();
        for i in 0..n {
            let at = (self.turn + i) % n;
            if let Some(size) = self.announce(at) {
                self.turn = at + 1;
                return Ok(Turn::Page(size));
            }
        }
        Ok(Turn::Nothing)
    }

    /// Takes the oldest page of a split out of its queue and announces it.
    fn announce(&mut self, at: usize) -> Option<usize> {
        let split = &mut self.splits[at].1;
        if split.paused {
            return None;
        }
        let page = split.queue.pop_front()?;
        split.delivered = page.after.clone();
        let size = page.frame.len();
        self.announced = Some(page);
        Some(size)
    }
}

/// What comes next for whoever reads.
enum Turn {
    /// A page of this size in bytes is announced.
    Page(usize),
    Woken,
    Nothing,
}

struct Shared {
    state: Mutex<State>,
    changed: Changed,
    metrics: Metrics,
}

/// Wakes whoever waits for a page, on a thread or in a task.
#[derive(Default)]
struct Changed {
    threads: Condvar,
    tasks: Notify,
}

impl Changed {
    fn notify(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Room in the budget for a page that is being fetched.
struct Reserve<'a> {
    shared: &'a Shared,
    bytes: u64,
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.lock().release(self.bytes);
        }
    }
}

/// A source reader's handle.
pub struct Source {
    feed: Arc<dyn Feed>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    runtime: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl Source {
    /// [`Source::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Source> {
        open_blocking(Self::connect(config))
    }

    /// Connects and looks the container up. Runs on the shared runtime.
    pub async fn connect(config: Config) -> Result<Source> {
        let feed = DriverFeed::connect(config).await?;
        let config = feed.config().clone();
        Ok(Self::over(Arc::new(feed), config, &Handle::current(), seed()))
    }

    /// The source of a feed, which needs no network of its own. Its tasks run on `runtime`, and its jitter follows from `seed`.
    pub fn over(feed: Arc<dyn Feed>, config: impl Into<Arc<Config>>, runtime: &Handle, _seed: u64) -> Source {
        let config = config.into();
        Source {
            requests: Arc::new(Semaphore::new(config.max_concurrency)),
            feed,
            config,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Changed::default(),
                metrics: Metrics::default(),
            }),
            runtime: runtime.clone(),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// The counters; those that depend on the time are computed now.
    pub fn metrics(&self) -> &Metrics {
        let metrics = &self.shared.metrics;
        let state = self.shared.lock();
        let (now, epoch_now) = (Instant::now(), epoch_millis());
        let splits = || state.splits.iter().map(|(_, s)| s);
        let lag = splits().map(|s| s.lag_millis(now, epoch_now));
        let announced = state.announced.iter();
        let waiting = announced.filter_map(|page| page.lag_millis(now, epoch_now));
        let lag = lag.chain(waiting).max();
        metrics.lag_millis.store(lag.unwrap_or(0), Relaxed);
        let held = splits().filter_map(|s| s.held_since).map(|since| since.elapsed());
        let held = held.max().unwrap_or_default();
        metrics.held_millis.store(held.as_millis() as u64, Relaxed);
        let announced = state.announced.as_ref().map_or(0, ReadyPage::bytes);
        let buffered = announced + splits().map(SplitState::queued_bytes).sum::<u64>();
        metrics.bytes_buffered.store(buffered, Relaxed);
        metrics.splits.store(state.splits.len() as u64, Relaxed);
        let paused = splits().filter(|s| s.paused).count();
        metrics.splits_paused.store(paused as u64, Relaxed);
        metrics
    }

    /// Begins to read more splits.
    ///
    /// # Errors
    /// State when a split belongs to another container or is read already; then none of them is added.
    pub fn add_splits(&self, splits: Vec<Split>) -> Result<()> {
        let rid = self.feed.rid();
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(CoreError::closed());
            }
            let mut ids = Vec::with_capacity(splits.len());
            for split in &splits {
                if split.container_rid != rid {
                    return Err(recreated(self.feed.name(), &split.container_rid, rid));
                }
                let id = split.id();
                if ids.contains(&id) || state.split(&id).is_some() {
                    return Err(CoreError::state(format!(
                        "split {id} is read by this reader already"
                    )));
                }
                ids.push(id);
            }
            for (id, split) in ids.into_iter().zip(&splits) {
                state.splits.push((id, SplitState::new(split)));
            }
        }
        for split in splits {
            tracing::info!(target: "cosmosflink::source", "reading {}", split.describe());
            let fetcher = Fetcher {
                id: split.id(),
                feed: self.feed.clone(),
                config: self.config.clone(),
                shared: self.shared.clone(),
                requests: self.requests.clone(),
            };
            // One that is spawned while the source is closed ends at once.
            let stopped = self.stopped.clone();
            let task = async move { stopped.run_until_cancelled_owned(fetcher.run(split)).await };
            self.tasks.spawn_on(task, &self.runtime);
        }
        Ok(())
    }

    /// Holds splits back, and lets others go on. What waits for a paused split stays, as far as the budget allows, and is handed over
    /// once it is resumed.
    ///
    /// # Errors
    /// State for a split that is not read here.
    pub fn pause_or_resume(&self, pause: &[String], resume: &[String]) -> Result<()> {
        let mut state = self.shared.lock();
        for (id, split) in &mut state.splits {
            if pause.contains(id) && !split.paused {
                split.paused = true;
                // It may stand in the line for room, where it must not stand in the way.
                split.wake.notify_one();
            } else if resume.contains(id) && split.paused {
                split.paused = false;
                split.wake.notify_one();
            }
        }
        let unknown = pause.iter().chain(resume).find(|id| state.split(id).is_none());
        state.wake_next();
        drop(state);
        // Pages of a resumed split may be there.
        self.shared.changed.notify();
        match unknown {
            None => Ok(()),
            Some(id) => Err(CoreError::state(format!(
                "split '{id}' is not read by this reader"
            ))),
        }
    }

    /// The frame of the next page, which is taken with that; `None` when [`Source::wake_up`] was called. May be given up at any point:
    /// no page is lost.
    ///
    /// # Errors
    /// What ended a split's reading, behind the pages of that split that were read before, again at each call; Closed.
    pub async fn next(&self) -> Result<Option<Vec<u8>>> {
        loop {
            // Made before the look, so that nothing is missed in between.
            let changed = self.shared.changed.tasks.notified();
            let turn = self.shared.lock().next()?;
            match turn {
                Turn::Page(_) => return self.take_page().map(Some),
                Turn::Woken => return Ok(None),
                Turn::Nothing => changed.await,
            }
        }
    }

    /// Size in bytes of the next page's frame; 0 when there is none within `timeout`, or [`Source::wake_up`] was called. The page stays
    /// until it is taken. Blocks the thread, unless `timeout` is zero.
    ///
    /// # Errors
    /// Those of [`Source::next`].
    pub fn next_page(&self, timeout: Duration) -> Result<usize> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            match state.next()? {
                Turn::Page(size) => return Ok(size),
                Turn::Woken => return Ok(0),
                Turn::Nothing => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            state = self
                .shared
                .changed
                .threads
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
        let mut state = self.shared.lock();
        if state.closed {
            return Err(CoreError::closed());
        }
        let page = state
            .announced
            .take()
            .ok_or_else(|| CoreError::new(Kind::BadRequest, "no page is announced; call nextPage first"))?;
        state.release(page.bytes());
        drop(state);
        let metrics = &self.shared.metrics;
        metrics.records.fetch_add(page.records, Relaxed);
        // Not before: a page that is given back is read again.
        metrics.undecodable.fetch_add(page.undecodable, Relaxed);
        Ok(page.frame)
    }

    /// Makes a waiting [`Source::next_page`] return, or the next one if none waits.
    pub fn wake_up(&self) {
        self.shared.lock().woken = true;
        self.shared.changed.notify();
    }

    /// Gives up what is under way, and what was read with it: every call from now on ends with Closed. Idempotent; waits for nothing.
    pub fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.closed = true;
            let announced = state.announced.take();
            let queued = state.splits.drain(..).flat_map(|(_, s)| s.queue);
            let freed: u64 = announced.into_iter().chain(queued).map(|p| p.bytes()).sum();
            state.held -= freed;
        }
        self.shared.changed.notify();
        self.stopped.cancel();
        self.tasks.close();
    }

    /// Waits until the tasks of a source that was stopped have ended, up to [`CLOSE`].
    pub async fn ended(&self) {
        // What takes longer is left behind.
        let _ = tokio::time::timeout(CLOSE, self.tasks.wait()).await;
    }

    /// Ends the tasks and lets the account go, from a thread that may block. Idempotent.
    pub fn close(&self) {
        self.stop();
        self.runtime.block_on(self.ended());
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Closed by its owner as a rule; a source that a test or a failed start forgets must not leave tasks behind.
        self.stopped.cancel();
    }
}

/// A seed that nobody knows before.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

/// Fetches the pages of one split.
struct Fetcher {
    id: String,
    feed: Arc<dyn Feed>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
}

/// How far the reading of a split is.
struct Reading {
    /// Position after the last page that was fetched.
    split: Split,
    /// `None`: to be opened at that position.
    cursor: Option<Box<dyn Pages>>,
    attempts: Attempts,
    /// A page was broken in itself, and so many pages that came since were not. The cursor begins at the first range behind it, so that
    /// only one good page of each range shows that the broken one is whole now.
    whole_since_broken: Option<usize>,
    /// Largest page that is expected, in bytes: what the last ones with documents tell.
    expected: u64,
    /// Most documents in a page: the option, or less after an answer that was too large.
    limit: u32,
    /// Pages since the limit was changed.
    pages_at_limit: u32,
    rounds: Rounds,
    next_look: Option<Instant>,
    /// Whether the job has heard that the split was read to its end, and nothing came since.
    told: bool,
}

impl Fetcher {
    async fn run(self, split: Split) {
        let outcome = std::panic::AssertUnwindSafe(self.read_forever(split))
            .catch_unwind()
            .await;
        let error = outcome.unwrap_or_else(|panic| {
            CoreError::internal(format!("panic while reading: {}", panic_text(&*panic)))
        });
        tracing::error!(target: "cosmosflink::source", "reading split {} failed: {error}", self.id);
        let error = error.while_doing(format!("reading split {}", self.id));
        self.shared
            .lock()
            .failed
            .get_or_insert_with(|| (self.id.clone(), error));
        self.shared.changed.notify();
    }

    async fn read_forever(&self, split: Split) -> CoreError {
        let start = start_millis(&split);
        let mut reading = Reading {
            split,
            cursor: None,
            attempts: Attempts::new(&self.config.retry),
            whole_since_broken: None,
            expected: FIRST_EXPECTED_BYTES,
            limit: self.config.page_size,
            pages_at_limit: 0,
            rounds: Rounds::new(self.config.min_poll_interval, self.config.poll_interval, start),
            next_look: None,
            told: false,
        };
        loop {
            if let Some(at) = reading.next_look.take() {
                self.rest(at).await;
            }
            if let Err(error) = self.read_page(&mut reading).await {
                if let Some(error) = self.wait_after(error, &mut reading).await {
                    return error;
                }
            }
        }
    }

    /// Waits until the next look, or until pages were given back that must be fetched again.
    async fn rest(&self, until: Instant) {
        let wake = {
            let mut state = self.shared.lock();
            state.split(&self.id).map(|split| split.wake.clone())
        };
        let wake = wake.unwrap_or_default();
        loop {
            if self
                .shared
                .lock()
                .split(&self.id)
                .is_some_and(|split| split.rewound)
            {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = wake.notified() => {}
            }
        }
    }

    /// Waits after a failure, or asks for less; gives the failure back when it is final.
    async fn wait_after(&self, error: CoreError, reading: &mut Reading) -> Option<CoreError> {
        let metrics = &self.shared.metrics;
        metrics.failure(&error);
        if error.next == Next::Halve && reading.limit > 1 {
            // Another request, not the same again.
            reading.limit /= 2;
            reading.pages_at_limit = 0;
            reading.cursor = None;
            metrics.retries.fetch_add(1, Relaxed);
            tracing::debug!(target: "cosmosflink::source", "split {}: pages of {} documents after: {error}", self.id, reading.limit);
            return None;
        }
        let Some(wait) = reading.attempts.next(&error, Instant::now()) else {
            return Some(error);
        };
        metrics.retries.fetch_add(1, Relaxed);
        if let Some(split) = self.shared.lock().split(&self.id) {
            split.at_rest_until = None;
            split.held_since = reading.attempts.held_since();
        }
        tracing::debug!(target: "cosmosflink::source", "split {}: waiting {wait:?} after: {error}", self.id);
        tokio::time::sleep(wait).await;
        None
    }

    /// Waits until the split may fetch a page.
    async fn room(&self, reading: &mut Reading) -> Reserve<'_> {
        let bytes = reserve(reading.expected).min(self.config.prefetch_bytes);
        loop {
            let wake = {
                let mut state = self.shared.lock();
                let admitted = state.admit(&self.id, bytes, self.config.prefetch_bytes);
                match state.split(&self.id) {
                    Some(split) if admitted => {
                        if std::mem::take(&mut split.rewound) {
                            let last = split.queue.back().map_or(&split.delivered, |page| &page.after);
                            reading.split = last.clone();
                            reading.cursor = None;
                            reading.told = false;
                            reading.rounds.go_back_to(split.reached);
                        }
                        return Reserve {
                            shared: &self.shared,
                            bytes,
                        };
                    }
                    Some(split) => split.wake.clone(),
                    // Closed: this task is about to be aborted.
                    None => Arc::default(),
                }
            };
            wake.notified().await;
        }
    }

    async fn read_page(&self, reading: &mut Reading) -> Result<()> {
        let waiting = Instant::now();
        let reserve = self.room(reading).await;
        let page = {
            let _turn = self.requests.acquire().await.map_err(|_| CoreError::closed())?;
            // No clock runs while the split is paused or waits for its turn.
            reading.attempts.leave_out(waiting.elapsed());
            if reading.cursor.is_none() {
                reading.rounds.begin_anew();
            }
            let cursor = match &mut reading.cursor {
                Some(cursor) => cursor,
                none => none.insert(self.feed.open(&reading.split, reading.limit).await?),
            };
            reading.rounds.asked = epoch_millis();
            match cursor.next(&self.shared.metrics).await {
                Ok(page) => page,
                Err(error) => {
                    if cursor.is_spent() {
                        reading.cursor = None;
                    }
                    return Err(error);
                }
            }
        };
        let after = Split {
            continuation: Some(page.continuation),
            ..reading.split.clone()
        };
        let arrived = epoch_millis();
        let head = PageHead {
            split_id: &self.id,
            split: &after.encode(),
            arrived_epoch_millis: arrived,
        };
        let mut built = match page::build(
            &head,
            &page.items,
            self.feed.key_paths(),
            self.config.on_decode_error,
        ) {
            Ok(built) => built,
            Err(error) => {
                // The cursor stands behind this page, which does not count as read.
                reading.cursor = None;
                reading.whole_since_broken = Some(0);
                return Err(error);
            }
        };
        reading.whole_since_broken = reading
            .whole_since_broken
            .map(|pages| pages + 1)
            .filter(|pages| *pages < page.ranges);
        if reading.whole_since_broken.is_none() {
            reading.attempts = Attempts::new(&self.config.retry);
        }
        drop(page.items);
        if built.documents > 0 {
            reading.expected = expected_bytes(reading.expected, page.bytes);
        }
        let answer = Answer {
            documents: built.documents,
            full: built.documents >= reading.limit as usize || page.bytes >= FULL_PAGE_BYTES,
            unchanged: page.unchanged,
            newest: (built.newest_ts > 0).then_some(built.newest_ts.saturating_mul(1000)),
            newest_lsn: built.newest_lsn,
            lsn: page.lsn,
            position: page.position,
            ranges: page.ranges,
        };
        let before = reading.rounds.reached();
        let pace = reading.rounds.take(&answer);
        if pace.caught_up {
            built.caught_up();
        }
        let unread = reading.split.continuation.is_none();
        // An empty page goes over where it says something: the first, so that the job's state holds a position from then on, and the one
        // that says that the end is reached.
        let ready = (built.documents > 0 || unread || (pace.caught_up && !reading.told)).then(|| ReadyPage {
            frame: built.frame,
            records: built.records as u64,
            undecodable: built.undecodable,
            after: after.clone(),
            behind: answer.newest.map_or(before, |newest| newest.min(before)),
            queued: Instant::now(),
        });
        if ready.is_some() {
            reading.told = pace.caught_up;
        }
        reading.split = after;
        reading.next_look = pace.pause.map(|pause| Instant::now() + pause);
        self.settle(reading, reserve, ready, pace.caught_up);
        reading.pages_at_limit += 1;
        if reading.limit < self.config.page_size && reading.pages_at_limit >= PAGES_BEFORE_GROWTH {
            reading.limit = reading.limit.saturating_mul(2).min(self.config.page_size);
            reading.pages_at_limit = 0;
            reading.cursor = None;
        }
        Ok(())
    }

    /// Puts a page into the queue and exchanges the reserve for what it takes.
    fn settle(&self, reading: &Reading, mut reserve: Reserve<'_>, ready: Option<ReadyPage>, caught_up: bool) {
        let mut state = self.shared.lock();
        let reserved = std::mem::take(&mut reserve.bytes);
        if let Some(split) = state.split(&self.id) {
            split.held_since = reading.attempts.held_since();
            // After pages before it were given back there would be a gap: what came is read again.
            if !split.rewound {
                split.reached = reading.rounds.reached();
                let at_rest = reading.next_look.filter(|_| caught_up);
                split.at_rest_until = at_rest.map(|look| look + LATE);
            }
            if let Some(page) = ready.filter(|_| !split.rewound) {
                let bytes = page.bytes();
                split.queue.push_back(page);
                state.held += bytes;
                self.shared.changed.notify();
            }
        }
        state.release(reserved);
    }
}

/// What the next page is expected to have at most, after one of `bytes`: half more than the last ones had. A large page counts for
/// several behind it.
fn expected_bytes(expected: u64, bytes: u64) -> u64 {
    let decayed = expected - expected / 4;
    let most = MIN_EXPECTED_BYTES.max(decayed);
    most.max(bytes.saturating_add(bytes / 2))
        .min(MAX_PAGE_BYTES.max(bytes))
}

/// An answer, as far as the pace depends on it.
struct Answer {
    documents: usize,
    /// The page ended because it was full.
    full: bool,
    /// There is nothing new.
    unchanged: bool,
    /// Time of the newest document in milliseconds since the epoch, where one has a time.
    newest: Option<i64>,
    /// Number of the newest write in the page; -1 without documents.
    newest_lsn: i64,
    /// Number of the last write in the partition, where the service gave it.
    lsn: Option<i64>,
    /// Up to which write the range is read now, where that is known.
    position: Option<i64>,
    /// Feed ranges that are asked in turn.
    ranges: usize,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// The pause before the next look; `None`: at once.
    pause: Option<Duration>,
    /// All ranges are read to their end.
    caught_up: bool,
}

/// What is known of one feed range.
#[derive(Clone, Copy)]
struct Range {
    /// Up to when it is read, in milliseconds since the epoch.
    reached: i64,
    /// How many more pages that are not full are taken for the end as they are.
    trusted: u32,
    /// Its last answer looked like the end and was not taken for it.
    doubted: bool,
    /// Number of the last write that is read for sure; -1 when unknown.
    read: i64,
    /// Empty pages in a row that showed no progress.
    empty: u32,
}

impl Range {
    fn new(reached: i64) -> Self {
        Range {
            reached,
            trusted: 0,
            doubted: false,
            read: -1,
            empty: 0,
        }
    }
}

/// How an answer is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// There is more behind it.
    More,
    /// The range is read to its end.
    End,
    /// Nobody can say, and to ask at once has been in vain for a while.
    Nothing,
}

/// Decides when a split is read to its end and how long to pause then. A split has several feed ranges after its partition was split; they
/// are asked in turn, so that it is at its end when as many answers in a row say so as there are ranges. What one range answers says
/// nothing about another.
struct Rounds {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// Answers in a row that do not ask to go on at once.
    ends: usize,
    /// Whether one of those brought documents.
    found: bool,
    /// Whether all of them are the end.
    sure: bool,
    /// When the request that is under way was sent, in milliseconds since the epoch.
    asked: i64,
    /// In the order in which they are asked, the next first; never empty.
    ranges: VecDeque<Range>,
}

impl Rounds {
    /// `reached`: up to when the split is read, as far as that is known.
    fn new(min: Duration, max: Duration, reached: i64) -> Self {
        Rounds {
            min,
            max,
            pause: min,
            ends: 0,
            found: false,
            sure: true,
            asked: reached,
            ranges: VecDeque::from([Range::new(reached)]),
        }
    }

    /// The ranges are asked from the first one on again.
    fn begin_anew(&mut self) {
        self.ends = 0;
        // Which was which is not known any more.
        if self.ranges.len() > 1 {
            let all = Range::new(self.reached());
            self.ranges.iter_mut().for_each(|range| *range = all);
        }
    }

    /// What was read since then is read again.
    fn go_back_to(&mut self, reached: i64) {
        for range in &mut self.ranges {
            *range = Range::new(reached.min(range.reached));
        }
    }

    /// Up to when the split is read: as far as the range that is furthest behind.
    fn reached(&self) -> i64 {
        let all = self.ranges.iter().map(|range| range.reached);
        all.min().unwrap_or(self.asked)
    }

    fn take(&mut self, answer: &Answer) -> Pace {
        if answer.ranges != self.ranges.len() {
            let all = Range::new(self.reached());
            self.ranges = VecDeque::from(vec![all; answer.ranges.max(1)]);
            self.ends = 0;
        }
        let mut range = self.ranges.pop_front().unwrap_or_else(|| Range::new(self.asked));
        let found = self.look(&mut range, answer);
        range.reached = match (found, answer.newest) {
            (Found::End, _) => self.asked,
            (_, Some(newest)) => newest,
            (_, None) => range.reached,
        };
        self.ranges.push_back(range);
        if self.ends == 0 {
            (self.found, self.sure) = (false, true);
        }
        if found == Found::More {
            self.ends = 0;
            self.pause = self.min;
            return Pace {
                pause: None,
                caught_up: false,
            };
        }
        self.ends += 1;
        self.found |= answer.documents > 0;
        self.sure &= found == Found::End;
        if self.ends < self.ranges.len() {
            return Pace {
                pause: None,
                caught_up: false,
            };
        }
        if self.found {
            self.pause = self.min;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(self.max);
        self.ends = 0;
        Pace {
            pause: Some(pause),
            caught_up: self.sure,
        }
    }

    fn look(&self, range: &mut Range, answer: &Answer) -> Found {
        let doubted = std::mem::take(&mut range.doubted);
        let empty = std::mem::take(&mut range.empty);
        let before = range.read;
        range.read = before.max(answer.newest_lsn).max(answer.position.unwrap_or(-1));
        if answer.unchanged {
            range.read = range.read.max(answer.lsn.unwrap_or(-1));
            if doubted {
                range.trusted = TRUSTED_PAGES;
            }
            return Found::End;
        }
        if answer.documents == 0 {
            return match answer.lsn {
                // Whatever moves the position, no write does.
                Some(lsn) if range.read >= lsn => Found::End,
                Some(_) if range.read > before => Found::More,
                _ => {
                    range.empty = empty.saturating_add(1);
                    if range.empty < EMPTY_PAGES {
                        Found::More
                    } else {
                        Found::Nothing
                    }
                }
            };
        }
        if answer.full {
            return Found::More;
        }
        let recent = self.max.max(RECENT).as_millis() as i64;
        let old = answer.newest.is_some_and(|newest| newest < self.asked - recent);
        let behind = answer.lsn.is_some_and(|lsn| answer.newest_lsn < lsn);
        // Later writes alone may be those of other ranges, and old times a clock that is wrong; both together are a backlog.
        if (old && behind) || ((old || behind) && range.trusted == 0) {
            range.doubted = true;
            return Found::More;
        }
        range.trusted = range.trusted.saturating_sub(1);
        Found::End
    }
}

/// Up to when a split is read for all that is known before it was asked for, in milliseconds since the epoch.
fn start_millis(split: &Split) -> i64 {
    let now = epoch_millis();
    match (split.start, &split.continuation) {
        (Start::PointInTime(millis), None) => millis.min(now),
        _ => now,
    }
}

fn millis_since(then: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(then)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(documents: usize, ranges: usize) -> Answer {
        Answer {
            documents,
            full: false,
            unchanged: documents == 0,
            newest: (documents > 0).then_some(NOW),
            newest_lsn: -1,
            lsn: None,
            position: None,
            ranges,
        }
    }

    const NOW: i64 = 1_800_000_000_000;

    fn rounds(min: u64, max: u64) -> Rounds {
        Rounds::new(Duration::from_millis(min), Duration::from_millis(max), NOW)
    }

    const ON: Pace = Pace {
        pause: None,
        caught_up: false,
    };

    fn end(millis: u64) -> Pace {
        Pace {
            pause: Some(Duration::from_millis(millis)),
            caught_up: true,
        }
    }

    fn millis(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn pauses_grow_while_nothing_comes() {
        let mut r = rounds(50, 300);
        let pauses: Vec<_> = [5, 0, 0, 0, 0, 7, 0]
            .map(|documents| millis(r.take(&answer(documents, 1)).pause))
            .into();
        let expected = [50, 100, 200, 300, 300, 50, 100].map(Some);
        assert_eq!(pauses, expected);
    }

    #[test]
    fn full_pages_and_stretches_without_documents_are_followed_at_once() {
        let mut r = rounds(50, 50);
        let full = Answer {
            full: true,
            ..answer(100, 1)
        };
        let nothing_here = Answer {
            unchanged: false,
            ..answer(0, 1)
        };
        assert_eq!(r.take(&full), ON);
        assert_eq!(r.take(&nothing_here), ON);
        assert_eq!(millis(r.take(&answer(0, 1)).pause), Some(50));
    }

    #[test]
    fn empty_pages_that_lead_nowhere_are_paced() {
        let mut r = rounds(50, 200);
        let moved = Answer {
            unchanged: false,
            ..answer(0, 1)
        };
        for _ in 1..EMPTY_PAGES {
            assert_eq!(r.take(&moved), ON);
        }
        r.asked += 1000;
        for pause in [50, 100, 200, 200] {
            let pace = r.take(&moved);
            assert_eq!((millis(pace.pause), pace.caught_up), (Some(pause), false));
            assert_eq!(r.reached(), NOW, "nobody knows that there is nothing");
        }
        // Documents show that there was something after all.
        let full = Answer {
            full: true,
            ..answer(100, 1)
        };
        assert_eq!((r.take(&full), r.take(&moved)), (ON, ON));
    }

    #[test]
    fn empty_pages_are_followed_as_long_as_they_near_the_last_write() {
        let mut r = rounds(50, 200);
        let at = |position, lsn| Answer {
            unchanged: false,
            lsn: Some(lsn),
            position: Some(position),
            ..answer(0, 1)
        };
        for position in 0..100 {
            assert_eq!(r.take(&at(position, 100)), ON);
        }
        assert_eq!(r.take(&at(100, 100)), end(50));
        // A position that moves behind the last write that is read, and a position that cannot be read.
        assert_eq!(r.take(&at(101, 100)), end(100));
        let moved = Answer {
            position: None,
            ..at(0, 100)
        };
        assert_eq!(r.take(&moved), end(200));
    }

    #[test]
    fn all_ranges_must_be_at_their_end() {
        let mut r = rounds(50, 1000);
        assert!(r.take(&answer(0, 1)).caught_up);
        // The partition was split: one child is busy, two are idle.
        let busy = Answer {
            full: true,
            newest: Some(NOW - 60_000),
            ..answer(100, 3)
        };
        for _ in 0..5 {
            r.asked += 1000;
            assert_eq!(r.take(&busy), ON);
            assert_eq!(r.take(&answer(0, 3)), ON);
            assert_eq!(r.take(&answer(0, 3)), ON);
            assert_eq!(r.reached(), NOW - 60_000, "as far as the busy one");
        }
        r.asked += 1000;
        let last = Answer {
            newest: Some(r.asked),
            ..answer(3, 3)
        };
        // The two others were at their end just before.
        assert_eq!(r.take(&last), end(50));
        assert_eq!(r.reached(), r.asked - 1000);
    }

    #[test]
    fn a_page_that_ends_early_is_doubted_until_that_was_in_vain() {
        let mut r = rounds(1000, 1000);
        let early = Answer {
            newest_lsn: 5,
            lsn: Some(9),
            ..answer(5, 1)
        };
        assert_eq!((r.take(&early), r.take(&early)), (ON, ON));
        assert!(r.take(&answer(0, 1)).caught_up);
        for _ in 0..TRUSTED_PAGES {
            assert!(r.take(&early).caught_up);
        }
        assert_eq!(r.take(&early), ON);
        // Old documents with later writes behind them are a backlog, whatever was in vain before.
        assert!(r.take(&answer(0, 1)).caught_up);
        let backlog = Answer {
            newest: Some(NOW - 60_000),
            ..early
        };
        assert_eq!(r.take(&backlog), ON);
    }

    #[test]
    fn a_range_is_not_vouched_for_by_another() {
        let mut r = rounds(1000, 1000);
        let early = Answer {
            newest_lsn: 5,
            lsn: Some(9),
            ..answer(5, 2)
        };
        for _ in 0..5 {
            assert_eq!((r.take(&early), r.take(&answer(0, 2))), (ON, ON));
        }
    }

    #[test]
    fn documents_without_a_time_leave_open_up_to_when_they_are() {
        let mut r = rounds(50, 50);
        let full = Answer {
            full: true,
            newest: None,
            ..answer(100, 1)
        };
        r.asked += 1000;
        assert_eq!((r.take(&full), r.reached()), (ON, NOW));
    }

    #[test]
    fn lag_counts_what_waits_for_the_job() {
        let mut s = state(&[("a", 1)]);
        let (_, a) = &mut s.splits[0];
        let now = Instant::now();
        a.reached = NOW;
        a.at_rest_until = Some(now + LATE * 10);
        a.queue[0].behind = NOW - 7000;
        a.queue[0].queued = now;
        assert_eq!(a.lag_millis(now, NOW), 0, "it came just now");
        assert_eq!(a.lag_millis(now + LATE, NOW + 1000), 8000);
        a.queue.clear();
        assert_eq!(a.lag_millis(now + LATE, NOW + 1000), 0);
        a.paused = true;
        assert_eq!(a.lag_millis(now + LATE, NOW + 1000), 1000);
    }

    #[test]
    fn a_fetch_reserves_what_the_last_pages_tell() {
        const MIB: u64 = 1024 * 1024;
        assert!(reserve(FIRST_EXPECTED_BYTES) <= 5 * MIB);
        let large = expected_bytes(FIRST_EXPECTED_BYTES, MAX_PAGE_BYTES);
        assert_eq!(large, MAX_PAGE_BYTES);
        assert_eq!(reserve(large), 13 * MIB);
        // Small pages lower it step by step.
        assert_eq!(expected_bytes(large, 1000), 3 * MIB);
        let small = (0..9).fold(large, |expected, _| expected_bytes(expected, 1000));
        assert_eq!(small, MIN_EXPECTED_BYTES);
        assert!(16 * reserve(small) <= 64 * MIB);
    }

    fn split(id: &str) -> Split {
        Split {
            ordinal: 0,
            container_rid: "r".to_owned(),
            min: id.to_owned(),
            max: "FF".to_owned(),
            start: crate::config::Start::Beginning,
            continuation: None,
        }
    }

    /// A state with splits `a`, `b`, .. whose queues hold so many pages of 100 bytes.
    fn state(queues: &[(&str, usize)]) -> State {
        let mut state = State::default();
        for (id, pages) in queues {
            let mut s = SplitState::new(&split("00"));
            for _ in 0..*pages {
                s.queue.push_back(ReadyPage {
                    frame: Vec::with_capacity(100),
                    records: 1,
                    undecodable: 0,
                    after: split("00"),
                    behind: NOW,
                    queued: Instant::now(),
                });
            }
            state.held += s.queued_bytes();
            state.splits.push(((*id).to_owned(), s));
        }
        state
    }

    #[test]
    fn room_is_given_in_the_order_in_which_it_was_asked_for() {
        let mut s = state(&[("a", 0), ("b", 0), ("c", 9)]);
        assert!(!s.admit("a", 400, 1000));
        assert!(!s.admit("b", 100, 1000), "it would fit, but is not its turn");
        s.release(300);
        assert!(!s.admit("b", 100, 1000));
        assert!(s.admit("a", 400, 1000));
        assert!(!s.admit("b", 100, 1000));
        // Who is paused does not stand in the way.
        s.split("b").unwrap().paused = true;
        assert!(!s.admit("b", 100, 1000));
        s.release(400);
        assert!(s.admit("c", 100, 1000));
    }

    #[test]
    fn paused_splits_give_back_what_is_over_half_and_only_to_who_waits() {
        let mut s = state(&[("a", 7), ("b", 0), ("c", 1)]);
        s.split("a").unwrap().paused = true;
        assert_eq!(s.held, 800);
        assert!(s.admit("b", 200, 1000), "nothing need be given back");
        assert_eq!(s.split("a").unwrap().queue.len(), 7);
        assert!(s.admit("b", 200, 1000));
        let a = s.split("a").unwrap();
        assert_eq!((a.queue.len(), a.rewound), (5, true));
        // Its half is safe as long as others can go on.
        assert!(!s.admit("b", 200, 1000));
        assert_eq!(s.split("a").unwrap().queue.len(), 5);
        // All that is held is its own: nothing else would ever make room.
        s.splits[2].1.queue.clear();
        s.release(500);
        assert_eq!(s.held, 500);
        // What would not be enough is not given back in vain.
        assert!(!s.admit("b", 1001, 1000));
        assert_eq!(s.split("a").unwrap().queue.len(), 5);
        assert!(s.admit("b", 900, 1000));
        assert_eq!(s.split("a").unwrap().queue.len(), 1);
    }
}
