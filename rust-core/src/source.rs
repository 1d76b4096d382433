//! The source: reads several splits at once, ahead of the job, and hands pages over one at a time.
//!
//! Each split has a task that fetches its pages in order. Pages wait in a queue per split and are handed out round robin.
//!
//! What all of them hold is bounded in bytes. A fetch reserves room for the largest page before it asks, the tasks get room in the order in
//! which they asked for it, and a page then counts with what is allocated for it. The pages of a paused split stay and count; they
//! are given back, newest first, when another split waits for room and they hold more than half of the budget, or all that is held.
//! So no split can starve the others, and pages that were paid for are fetched again only where the budget is really short.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_data_cosmos_driver::models::ContainerReference;
use futures::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::account::{open_blocking, Account};
use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::feed::{recreated, FeedCursor};
use crate::metrics::Metrics;
use crate::page::{self, KeyPaths, PageHead};
use crate::retry::Attempts;
use crate::split::Split;
use crate::status::Next;

/// The service's own limit of a page.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (maximum response size).
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// What a fetch sets aside, since the size of a page is not known before it is there: a frame of the largest page, with the quarter that
/// is allocated for what is added to the documents. What it does not need goes back at once.
const RESERVE: u64 = MAX_PAGE_BYTES + MAX_PAGE_BYTES / 4;

/// A page of at least this size counts as full even when it has fewer documents than asked for: the service ends a page at 4 MiB, and a
/// document that did not fit any more has at most 2 MiB.
const FULL_PAGE_BYTES: u64 = 2 * 1024 * 1024;

/// A page that is not full but whose newest document is older than this, and than the poll interval, is not taken for the end of the
/// feed: the service may end a page earlier than asked for.
const RECENT: Duration = Duration::from_secs(5);

/// So many pages that are not full are taken for the end after one look more that found nothing.
const TRUSTED_PAGES: u32 = 16;

/// After so many pages the page size that an answer was too large for is doubled again.
const PAGES_BEFORE_GROWTH: u32 = 16;

/// A look that is late by less does not show as lag.
const LATE: Duration = Duration::from_secs(1);

/// How long `close` waits for the tasks, which end at their next await point.
const CLOSE: Duration = Duration::from_secs(2);

struct ReadyPage {
    frame: Vec<u8>,
    records: u64,
    after: Split,
}

impl ReadyPage {
    /// What is allocated for it.
    fn bytes(&self) -> u64 {
        let position = self.after.continuation.as_ref().map_or(0, String::capacity);
        (self.frame.capacity() + position) as u64
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
    /// Up to when the split is known to be read, in milliseconds since the epoch.
    reached: i64,
    /// It has been read to its end, and the next look is not overdue before then.
    at_rest_until: Option<Instant>,
    /// Since when its requests fail or are throttled.
    held_since: Option<tokio::time::Instant>,
}

impl SplitState {
    fn new(split: &Split) -> Self {
        SplitState {
            delivered: split.clone(),
            queue: VecDeque::new(),
            paused: false,
            rewound: false,
            wake: Arc::default(),
            reached: epoch_millis(),
            at_rest_until: None,
            held_since: None,
        }
    }

    fn queued_bytes(&self) -> u64 {
        self.queue.iter().map(ReadyPage::bytes).sum()
    }

    fn lag_millis(&self, now: Instant, epoch_now: i64) -> u64 {
        if self.at_rest_until.is_some_and(|until| now < until) {
            return 0;
        }
        u64::try_from(epoch_now - self.reached).unwrap_or(0)
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
        while self.held + reserve > budget {
            if !self.give_back(budget) {
                return false;
            }
        }
        self.held += reserve;
        self.waiting.pop_front();
        self.wake_next();
        true
    }

    /// Drops the newest page of the paused split that holds most, if paused splits hold more than their share.
    fn give_back(&mut self, budget: u64) -> bool {
        let paused = self.splits.iter_mut().map(|(_, s)| s).filter(|s| s.paused);
        let mut kept = 0;
        let mut largest: Option<(u64, &mut SplitState)> = None;
        for split in paused {
            let bytes = split.queued_bytes();
            kept += bytes;
            if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                largest = Some((bytes, split));
            }
        }
        // When all that is held is theirs, nothing else will make room.
        if kept <= budget / 2 && kept != self.held {
            return false;
        }
        let Some(page) = largest.and_then(|(_, split)| {
            split.rewound |= !split.queue.is_empty();
            split.queue.pop_back()
        }) else {
            return false;
        };
        self.held -= page.bytes();
        true
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
    account: Arc<Account>,
    container: ContainerReference,
    config: Arc<Config>,
    paths: Arc<KeyPaths>,
    shared: Arc<Shared>,
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
        Ok(Source {
            paths: Arc::new(KeyPaths::new(container.partition_key_definition().paths())),
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

    /// The counters; those that depend on the time are computed now.
    pub fn metrics(&self) -> &Metrics {
        let metrics = &self.shared.metrics;
        let state = self.shared.lock();
        let (now, epoch_now) = (Instant::now(), epoch_millis());
        let splits = || state.splits.iter().map(|(_, s)| s);
        let lag = splits().map(|s| s.lag_millis(now, epoch_now)).max();
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
        let rid = self.container.rid();
        // Held until all of them have a task, so that `close` finds every task. Nothing waits while it is held.
        let mut tasks = self.tasks.lock().unwrap_or_else(|e| e.into_inner());
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(CoreError::closed());
            }
            let mut ids = Vec::with_capacity(splits.len());
            for split in &splits {
                if split.container_rid != rid {
                    return Err(recreated(&self.config.container, &split.container_rid, rid));
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
                account: self.account.clone(),
                container: self.container.clone(),
                config: self.config.clone(),
                paths: self.paths.clone(),
                shared: self.shared.clone(),
                requests: self.requests.clone(),
            };
            tasks.push(self.account.runtime.handle().spawn(fetcher.run(split)));
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
                split.at_rest_until = None;
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
        self.shared.changed.notify_all();
        match unknown {
            None => Ok(()),
            Some(id) => Err(CoreError::state(format!(
                "split '{id}' is not read by this reader"
            ))),
        }
    }

    /// Size in bytes of the next page's frame; 0 when there is none within `timeout`, or [`Source::wake_up`] was called.
    ///
    /// # Errors
    /// What ended a split's reading, behind the pages of that split that were read before, again at each call; Closed.
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
            if let Some((id, error)) = state.failed.clone() {
                let at = state.splits.iter().position(|(i, _)| *i == id);
                return at.and_then(|at| state.announce(at)).ok_or(error);
            }
            let n = state.splits.len();
            for i in 0..n {
                let at = (state.turn + i) % n;
                if let Some(size) = state.announce(at) {
                    state.turn = at + 1;
                    return Ok(size);
                }
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
            let announced = state.announced.take();
            let queued = state.splits.drain(..).flat_map(|(_, s)| s.queue);
            let freed: u64 = announced.into_iter().chain(queued).map(|p| p.bytes()).sum();
            state.held -= freed;
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
    requests: Arc<Semaphore>,
}

/// How far the reading of a split is.
struct Reading {
    /// Position after the last page that was fetched.
    split: Split,
    /// `None`: to be opened at that position.
    cursor: Option<FeedCursor>,
    attempts: Attempts,
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
        self.shared.changed.notify_all();
    }

    async fn read_forever(&self, split: Split) -> CoreError {
        let mut reading = Reading {
            split,
            cursor: None,
            attempts: Attempts::new(&self.config.retry),
            limit: self.config.page_size,
            pages_at_limit: 0,
            rounds: Rounds::new(
                self.config.min_poll_interval,
                self.config.poll_interval,
                epoch_millis(),
            ),
            next_look: None,
            told: false,
        };
        loop {
            if let Some(at) = reading.next_look.take() {
                tokio::time::sleep_until(at.into()).await;
            }
            if let Err(error) = self.read_page(&mut reading).await {
                if let Some(error) = self.wait_after(error, &mut reading).await {
                    return error;
                }
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
        let Some(wait) = reading.attempts.next(&error, tokio::time::Instant::now()) else {
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
        let bytes = RESERVE.min(self.config.prefetch_bytes);
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
                none => none.insert(
                    FeedCursor::open(
                        &self.account,
                        &self.container,
                        &self.config,
                        &reading.split,
                        reading.limit,
                    )
                    .await?,
                ),
            };
            reading.rounds.asked = epoch_millis();
            cursor.next(&self.shared.metrics).await?
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
        let mut built = match page::build(&head, &page.items, &self.paths, self.config.on_decode_error) {
            Ok(built) => built,
            Err(error) => {
                // The cursor stands behind this page, which does not count as read.
                reading.cursor = None;
                return Err(error);
            }
        };
        reading.attempts = Attempts::new(&self.config.retry);
        drop(page.items);
        self.shared
            .metrics
            .undecodable
            .fetch_add(built.undecodable, Relaxed);
        let answer = Answer {
            documents: built.documents,
            full: built.documents >= reading.limit as usize || page.bytes >= FULL_PAGE_BYTES,
            unchanged: page.unchanged,
            newest: built.newest_ts * 1000,
            behind: page.lsn.is_some_and(|lsn| built.newest_lsn < lsn),
            ranges: page.ranges,
        };
        let pause = reading.rounds.take(&answer);
        if pause.is_some() {
            built.caught_up();
        }
        let unread = reading.split.continuation.is_none();
        // An empty page goes over where it says something: the first, so that the job's state holds a position from then on, and the one
        // that says that the end is reached.
        let ready =
            (built.documents > 0 || unread || (pause.is_some() && !reading.told)).then(|| ReadyPage {
                frame: built.frame,
                records: built.records as u64,
                after: after.clone(),
            });
        if ready.is_some() {
            reading.told = pause.is_some();
        }
        reading.split = after;
        reading.next_look = pause.map(|pause| Instant::now() + pause);
        self.settle(reading, reserve, ready);
        reading.pages_at_limit += 1;
        if reading.limit < self.config.page_size && reading.pages_at_limit >= PAGES_BEFORE_GROWTH {
            reading.limit = reading.limit.saturating_mul(2).min(self.config.page_size);
            reading.pages_at_limit = 0;
            reading.cursor = None;
        }
        Ok(())
    }

    /// Puts a page into the queue and exchanges the reserve for what it takes.
    fn settle(&self, reading: &Reading, mut reserve: Reserve<'_>, ready: Option<ReadyPage>) {
        let mut state = self.shared.lock();
        let reserved = std::mem::take(&mut reserve.bytes);
        if let Some(split) = state.split(&self.id) {
            split.reached = reading.rounds.reached();
            split.held_since = None;
            let at_rest = reading.next_look.filter(|_| !split.paused);
            split.at_rest_until = at_rest.map(|look| look + LATE);
            // After pages before it were given back there would be a gap.
            if let Some(page) = ready.filter(|_| !split.rewound) {
                let bytes = page.bytes();
                split.queue.push_back(page);
                state.held += bytes;
                self.shared.changed.notify_one();
            }
        }
        state.release(reserved);
    }
}

/// An answer, as far as the pace depends on it.
struct Answer {
    documents: usize,
    /// The page ended because it was full.
    full: bool,
    /// There is nothing new.
    unchanged: bool,
    /// Time of the newest document in milliseconds since the epoch; 0 without documents.
    newest: i64,
    /// The partition has writes behind the last one of the page.
    behind: bool,
    /// Feed ranges that are asked in turn.
    ranges: usize,
}

/// Decides when a split is read to its end and how long to pause then. A split has several feed ranges after its partition was split; they
/// are asked in turn, so that it is at its end when as many answers in a row say so as there are ranges.
struct Rounds {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// Answers in a row that found the end.
    ends: usize,
    /// Whether one of those brought documents.
    found: bool,
    /// How many more pages that are not full are taken for the end as they are.
    trusted: u32,
    /// The last answer looked like the end and was not taken for it.
    doubted: bool,
    /// When the request that is under way was sent, in milliseconds since the epoch.
    asked: i64,
    /// Up to when each of the ranges is read, in the order in which they are asked, the next first.
    reached: VecDeque<i64>,
}

impl Rounds {
    fn new(min: Duration, max: Duration, now: i64) -> Self {
        Rounds {
            min,
            max,
            pause: min,
            ends: 0,
            found: false,
            trusted: 0,
            doubted: false,
            asked: now,
            reached: VecDeque::from([now]),
        }
    }

    /// The ranges are asked from the first one on again.
    fn begin_anew(&mut self) {
        let all = self.reached();
        self.reached.iter_mut().for_each(|reached| *reached = all);
        self.ends = 0;
    }

    /// Up to when the split is read: as far as the range that is furthest behind.
    fn reached(&self) -> i64 {
        self.reached.iter().copied().min().unwrap_or(self.asked)
    }

    /// The pause before the next look; `None`: at once.
    fn take(&mut self, answer: &Answer) -> Option<Duration> {
        if answer.ranges != self.reached.len() {
            self.reached.resize(answer.ranges.max(1), 0);
            let known = self.reached.iter().copied().filter(|reached| *reached > 0).min();
            self.reached
                .iter_mut()
                .for_each(|reached| *reached = known.unwrap_or(0));
            self.ends = 0;
        }
        let end = self.is_end(answer);
        let before = self.reached.pop_front().unwrap_or(self.asked);
        self.reached.push_back(match answer.documents {
            _ if end => self.asked,
            0 => before,
            _ => answer.newest,
        });
        if !end {
            self.ends = 0;
            self.found = false;
            self.pause = self.min;
            return None;
        }
        self.ends += 1;
        self.found |= answer.documents > 0;
        if self.ends < self.reached.len() {
            return None;
        }
        if self.found {
            self.pause = self.min;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(self.max);
        (self.ends, self.found) = (0, false);
        Some(pause)
    }

    fn is_end(&mut self, answer: &Answer) -> bool {
        let doubted = std::mem::take(&mut self.doubted);
        if answer.unchanged {
            if doubted {
                self.trusted = TRUSTED_PAGES;
            }
            return true;
        }
        if answer.full || answer.documents == 0 {
            return false;
        }
        let recent = self.max.max(RECENT).as_millis() as i64;
        if (answer.behind || answer.newest < self.asked - recent) && self.trusted == 0 {
            self.doubted = true;
            return false;
        }
        self.trusted = self.trusted.saturating_sub(1);
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(documents: usize, ranges: usize) -> Answer {
        Answer {
            documents,
            full: false,
            unchanged: documents == 0,
            newest: if documents == 0 { 0 } else { NOW },
            behind: false,
            ranges,
        }
    }

    const NOW: i64 = 1_800_000_000_000;

    fn rounds(min: u64, max: u64) -> Rounds {
        Rounds::new(Duration::from_millis(min), Duration::from_millis(max), NOW)
    }

    fn millis(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn pauses_grow_while_nothing_comes() {
        let mut r = rounds(50, 300);
        let pauses: Vec<_> = [5, 0, 0, 0, 0, 7, 0]
            .map(|documents| millis(r.take(&answer(documents, 1))))
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
        assert_eq!(r.take(&full), None);
        assert_eq!(r.take(&nothing_here), None);
        assert_eq!(millis(r.take(&answer(0, 1))), Some(50));
    }

    #[test]
    fn all_ranges_must_be_at_their_end() {
        let mut r = rounds(50, 1000);
        assert!(r.take(&answer(0, 1)).is_some());
        // The partition was split: one child is busy, two are idle.
        let busy = Answer {
            full: true,
            newest: NOW - 60_000,
            ..answer(100, 3)
        };
        for _ in 0..5 {
            r.asked += 1000;
            assert_eq!(r.take(&busy), None);
            assert_eq!(r.take(&answer(0, 3)), None);
            assert_eq!(r.take(&answer(0, 3)), None);
            assert_eq!(r.reached(), NOW - 60_000, "as far as the busy one");
        }
        r.asked += 1000;
        let last = Answer {
            newest: r.asked,
            ..answer(3, 3)
        };
        // The two others were at their end just before.
        assert_eq!(millis(r.take(&last)), Some(50));
        assert_eq!(r.reached(), r.asked - 1000);
    }

    #[test]
    fn a_page_that_ends_early_is_doubted_until_that_was_in_vain() {
        let mut r = rounds(1000, 1000);
        let early = Answer {
            behind: true,
            ..answer(5, 1)
        };
        assert_eq!((r.take(&early), r.take(&early)), (None, None));
        assert!(r.take(&answer(0, 1)).is_some());
        for _ in 0..TRUSTED_PAGES {
            assert!(r.take(&early).is_some());
        }
        assert_eq!(r.take(&early), None);
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
                    after: split("00"),
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
        assert!(s.admit("b", 900, 1000));
        assert_eq!(s.split("a").unwrap().queue.len(), 1);
    }
}
