//! The source: reads several splits at once, ahead of the job, and hands pages over one at a time.
//!
//! Each split has a task that fetches its pages in order (`fetcher.rs`); when, and how large, `pace.rs` and `sizes.rs` say. Pages wait in
//! a queue per split and are handed out round robin; whose is next, and who may fetch, `buffer.rs` decides. What is here is the shell
//! around it: the lock, the wake-ups and the calls.

mod buffer;
mod fetcher;
mod pace;
mod pending;
mod sizes;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::buffer::{Buffer, Turn};
use self::fetcher::Fetcher;
use crate::account::open_blocking;
use crate::clock::Now;
use crate::config::{Config, OnDecodeError, Role};
use crate::error::{CoreError, Result};
use crate::feed::{belongs, DriverFeed, Feed};
use crate::leases::publisher::Publisher;
use crate::metrics::Metrics;
use crate::page::PageFrame;
use crate::rows::{Compiled, Plan};
use crate::share::{Peers, Share};
use crate::split::{Mode, Split};

/// How long [`Source::close`] waits for the tasks, which end at their next await point.
const CLOSE: Duration = Duration::from_secs(2);

struct State {
    buffer: Buffer,
    /// What wakes the fetcher of each split, in the order of their numbers.
    wakes: Vec<Arc<Notify>>,
    /// Seeds of the fetchers' jitter.
    rng: fastrand::Rng,
}

/// What the handle and its tasks share.
struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits for a page on a thread of its own.
    threads: Condvar,
    /// Wakes whoever waits for a page in a task.
    tasks: Notify,
    metrics: Metrics,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An event of the buffer, and what is to be done about it.
    fn with<T>(&self, event: impl FnOnce(&mut Buffer) -> T) -> T {
        self.with_state(|state| event(&mut state.buffer))
    }

    fn with_state<T>(&self, event: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = event(&mut state);
        let effects = state.buffer.effects();
        for wake in effects.wake.iter().filter_map(|number| state.wakes.get(*number)) {
            wake.notify_one();
        }
        drop(state);
        if effects.changed {
            self.threads.notify_all();
            self.tasks.notify_waiters();
        }
        result
    }
}

/// A source reader's handle.
pub struct Source {
    feed: Arc<dyn Feed>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    /// None without a limit of what reading may cost.
    share: Option<Arc<Share>>,
    runtime: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
    /// Where progress is published as leases.
    publisher: Option<Publisher>,
    /// How documents become rows, where pages are of rows.
    rows: Option<Arc<Compiled>>,
}

impl Source {
    /// [`Source::connect`] of a reader that is alone, from a thread that may block.
    pub fn open(config: Config) -> Result<Source> {
        open_blocking(Self::connect(config))
    }

    /// [`Source::connect_among`] of a reader that is alone.
    pub async fn connect(config: Config) -> Result<Source> {
        Self::connect_among(config, Peers::default()).await
    }

    /// Connects and looks the container up. Runs on the shared runtime. `peers` are the readers with which it shares
    /// `scan.request-units-per-second`.
    pub async fn connect_among(config: Config, peers: Peers) -> Result<Source> {
        let share = config
            .request_units_per_second
            .map(|units| peers.join(Role::Source, units));
        let feed = DriverFeed::connect(config).await?;
        let config = feed.config().clone();
        if let Some(fields) = &config.row_key_fields {
            fields.check_rows(feed.key_paths(), config.mode == Mode::AllVersionsAndDeletes)?;
        }
        let leases = match config.leases.as_ref().is_some_and(|l| l.publish.is_some()) {
            true => feed.leases().await?,
            false => None,
        };
        let runtime = Handle::current();
        let publisher = leases.and_then(|store| Publisher::start(store, feed.name(), feed.rid(), &runtime));
        let mut source = Self::over(Arc::new(feed), config, &runtime, fastrand::u64(..));
        source.publisher = publisher;
        source.share = share.map(Arc::new);
        Ok(source)
    }

    /// [`Source::connect_among`] of a reader whose pages are of rows: ROWS frames, by a plan.
    pub async fn connect_rows(config: Config, peers: Peers, plan: &Plan) -> Result<Source> {
        Self::connect_among(config, peers)
            .await
            .map(|source| source.with_rows(plan))
    }

    /// Whether the options of a source are those of one whose pages are of rows.
    ///
    /// # Errors
    /// Config when they are not.
    pub fn check_rows(config: &Config) -> Result<()> {
        match config.on_decode_error {
            OnDecodeError::Raw => Err(CoreError::config(
                "json.on-error=raw hands over documents that cannot be decoded, and no row can be made of them; set it to fail, null-field or skip-row",
            )),
            OnDecodeError::Fail | OnDecodeError::Skip => Ok(()),
        }
    }

    /// The source with pages of rows, before it reads a split.
    pub fn with_rows(mut self, plan: &Plan) -> Source {
        self.rows = Some(Arc::new(Compiled::new(plan, self.feed.key_paths().iter())));
        self
    }

    /// The source of a feed, which needs no network of its own. Its tasks run on `runtime`, which may be one of a single thread in paused
    /// time: then it is used from within the runtime, by [`Source::next`], [`Source::next_page`] with a timeout of zero, [`Source::stop`] and
    /// [`Source::ended`]. `seed` decides what chance decides.
    pub fn over(feed: Arc<dyn Feed>, config: impl Into<Arc<Config>>, runtime: &Handle, seed: u64) -> Source {
        let config = config.into();
        Source {
            share: config
                .request_units_per_second
                .map(|units| Arc::new(Peers::default().join(Role::Source, units))),
            requests: Arc::new(Semaphore::new(config.max_concurrency)),
            feed,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    buffer: Buffer::new(config.prefetch_bytes),
                    wakes: Vec::new(),
                    rng: fastrand::Rng::with_seed(seed),
                }),
                threads: Condvar::new(),
                tasks: Notify::new(),
                metrics: Metrics::default(),
            }),
            config,
            runtime: runtime.clone(),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            publisher: None,
            rows: None,
        }
    }

    /// The counters; those that depend on the time are computed now.
    pub fn metrics(&self) -> &Metrics {
        let gauges = self.shared.with(|buffer| buffer.gauges(Now::read()));
        let metrics = &self.shared.metrics;
        metrics.lag_millis.store(gauges.lag_millis, Relaxed);
        metrics.held_millis.store(gauges.held_millis, Relaxed);
        metrics.bytes_buffered.store(gauges.bytes_buffered, Relaxed);
        metrics.splits.store(gauges.splits, Relaxed);
        metrics.splits_paused.store(gauges.splits_paused, Relaxed);
        metrics.pending_records.store(gauges.pending_records, Relaxed);
        metrics.pending_bytes.store(gauges.pending_bytes, Relaxed);
        *metrics.splits_read.lock().unwrap_or_else(|e| e.into_inner()) = gauges.each;
        if let Some(published) = self.publisher.as_ref().map(Publisher::metrics) {
            for (shown, counted) in [
                (&metrics.leases_held, &published.leases_held),
                (&metrics.lease_requests, &published.requests),
                (&metrics.lease_failures, &published.lease_failures),
            ] {
                shown.store(counted.load(Relaxed), Relaxed);
            }
        }
        metrics
    }

    /// Begins to read more splits.
    ///
    /// # Errors
    /// State when a split belongs to another container or is read already; then none of them is added.
    pub fn add_splits(&self, splits: Vec<Split>) -> Result<()> {
        let (feed, now) = (&self.feed, Now::read());
        let added = self.shared.with_state(|state| -> Result<_> {
            state.buffer.open()?;
            for split in &splits {
                belongs(split, &**feed, &self.config)?;
            }
            let first = state.buffer.add(&splits, now)?;
            state.wakes.resize_with(first + splits.len(), Arc::default);
            let wakes = state.wakes[first..].iter().cloned();
            let rng = &mut state.rng;
            Ok((first, wakes.map(|wake| (wake, rng.u64(..))).collect::<Vec<_>>()))
        });
        let (first, tasks) = added?;
        for (at, (split, (wake, seed))) in splits.into_iter().zip(tasks).enumerate() {
            tracing::info!(target: "cosmosflink::source", "reading {}", split.describe());
            let fetcher = Fetcher {
                number: first + at,
                id: split.id(),
                feed: self.feed.clone(),
                config: self.config.clone(),
                shared: self.shared.clone(),
                requests: self.requests.clone(),
                share: self.share.clone(),
                rows: self.rows.clone(),
                wake,
                seed,
            };
            // One that begins while the source is stopped ends at once.
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
        self.shared.with(|buffer| buffer.pause_or_resume(pause, resume))
    }

    /// The frame of the next page, which is taken with that; `None` when [`Source::wake_up`] was called. May be given up at any point:
    /// no page is lost.
    ///
    /// # Errors
    /// What ended a split's reading, behind the pages of that split that were read before, again at each call; Closed.
    pub async fn next(&self) -> Result<Option<Vec<u8>>> {
        self.check_leases()?;
        loop {
            // Made before the look, so that nothing is missed in between.
            let changed = self.shared.tasks.notified();
            let turn = self.shared.with(Buffer::next)?;
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
        self.check_leases()?;
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            match state.buffer.next()? {
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
                .threads
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// Publishes the positions of all splits of the reader, as of a checkpoint that has completed, as leases, where the options name a lease
    /// container. Never waits: what comes of it shows at the next page.
    pub fn publish(&self, checkpoint: u64, splits: &[Split]) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(checkpoint, splits);
        }
    }

    fn check_leases(&self) -> Result<()> {
        self.publisher.as_ref().map_or(Ok(()), Publisher::check)
    }

    /// Takes the page that [`Source::next_page`] announced and gives its bytes back to the budget.
    ///
    /// # Errors
    /// BadRequest when there is none.
    pub fn take_page(&self) -> Result<Vec<u8>> {
        Ok(self.take_frame()?.to_vec())
    }

    /// [`Source::take_page`], in the parts that the frame is held in.
    ///
    /// # Errors
    /// BadRequest when there is none.
    pub fn take_frame(&self) -> Result<PageFrame> {
        let page = self.shared.with(Buffer::take)?;
        let metrics = &self.shared.metrics;
        metrics.records.fetch_add(page.records, Relaxed);
        // Not before: a page that is given back is read again.
        metrics.undecodable.fetch_add(page.undecodable, Relaxed);
        metrics.nulled.fetch_add(page.nulled, Relaxed);
        metrics.filtered.fetch_add(page.filtered, Relaxed);
        Ok(page.frame)
    }

    /// Ends a wait of [`Source::next`] or [`Source::next_page`], or the next one if there is none.
    pub fn wake_up(&self) {
        self.shared.with(Buffer::wake_up);
    }

    /// Gives up what is under way, and what was read with it: every call from now on ends with Closed. Idempotent; waits for nothing.
    pub fn stop(&self) {
        self.shared.with(Buffer::close);
        self.stopped.cancel();
        self.tasks.close();
    }

    /// Waits until the tasks of a source that was stopped have ended, up to two seconds: they end at their next await point.
    pub async fn ended(&self) {
        // What takes longer is left behind.
        let _ = tokio::time::timeout(CLOSE, self.tasks.wait()).await;
    }

    /// [`Source::stop`] and [`Source::ended`], then writes the last positions into the leases, for up to two seconds; from a thread that may block.
    pub fn close(&self) {
        self.stop();
        self.runtime.block_on(async {
            self.ended().await;
            if let Some(publisher) = &self.publisher {
                publisher.close().await;
            }
        });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Closed by its owner as a rule; a source that a test or a failed start forgets must not leave tasks behind.
        self.stopped.cancel();
    }
}
