//! The discovery of splits: which feed ranges of a container nobody reads yet.

use std::sync::{Arc, Mutex, MutexGuard};

use futures::{stream, StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::account::{open_blocking, read_aside, within};
use crate::bound::{common, overlap};
use crate::config::{Begin, Config, OnDecodeError, RetryConfig, Start, StopAt};
use crate::coordinator::Found;
use crate::error::{CoreError, Kind, Result};
use crate::feed::{belongs, DriverFeed, Feed};
use crate::leases::acquire::split_of;
use crate::leases::token::join;
use crate::leases::tokens_file;
use crate::metrics::Metrics;
use crate::page::{build, PageHead};
use crate::retry::{until_answered, Attempts};
use crate::split::{uncovered, Mode, Reads, Split, SplitEntry, Stop};

/// New splits of a container: one for each physical partition, as far as `known` does not cover its feed range. After a partition was
/// split or merged nothing is new: the splits that cover it read on across the change. At the beginning there are at least
/// [`Config::min_splits`], where the partitions can be cut.
///
/// A start at Now is fixed here, by asking the service where now is: a failure before the first page then does not move it. So is a stop at
/// the start, and what an initial phase needs: first the position from which all versions and deletes are read, then the one up to which the
/// container is read. A query that is one whole is one split over all of it.
///
/// What is found has the ranges of the partitions with it, but for a job that begins with tokens or leases.
///
/// `seed` decides what chance decides.
///
/// # Errors
/// State when the container is not the one that `known` belongs to; else those of the feed, where asking again did not help.
pub async fn discover(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    known: &[SplitEntry],
    seed: u64,
) -> Result<Found> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut attempts = || Attempts::seeded(&config.retry, rng.u64(..));
    let rid = feed.rid();
    for entry in known {
        belongs(&entry.split, feed, config)?;
    }
    // The driver answers a look-up of ranges that fails from its cache, or with nothing: a refused key or a container that is
    // gone would never show. This request does not pass through a cache.
    until_answered(attempts(), metrics, "looking at the container", || feed.check()).await?;
    if known.is_empty() {
        // Else each reader would find out what is wrong with it.
        until_answered(attempts(), metrics, "looking at the lease container", || {
            feed.check_leases()
        })
        .await?;
        let given = match config.begin {
            Begin::At(_) => None,
            Begin::Tokens => Some(from_tokens(feed, config).await?),
            Begin::Leases => Some(from_leases(feed, config, metrics, seed).await?),
        };
        if let Some(splits) = given {
            let found = cut(feed, splits, config.min_splits);
            let fixed = fix_all(feed, config, metrics, found, &mut rng).await?;
            return Ok(Found {
                splits: stop_all(feed, config, metrics, None, fixed, &mut rng).await?,
                partitions: Vec::new(),
            });
        }
    }
    let gaps = uncovered(known);
    let next = known.iter().map(|e| e.split.ordinal + 1).max().unwrap_or(0);
    let partitions = partitions(feed, config, metrics, &mut rng).await?;
    let ranges = partitions.clone();
    let whole = config.query.as_ref().and_then(|query| query.global);
    // Only at the beginning: later there is a position for each range, and as many splits as there are to be.
    let parts = match known {
        [] => config.min_splits.div_ceil(ranges.len().max(1)),
        _ => 1,
    };
    let ranges: Vec<(Range, Vec<Range>)> = match whole {
        Some(what) if !gaps.is_empty() => {
            tracing::info!(target: "cosmosflink::source", "the query has {what}: one reader reads all of it");
            gaps.iter().map(|gap| (gap.clone(), vec![gap.clone()])).collect()
        }
        _ => ranges
            .into_iter()
            .map(|(min, max)| {
                let parts = feed.divided(&min, &max, parts);
                ((min, max), parts)
            })
            .collect(),
    };
    let fingerprint = feed.fingerprint().await?;
    let (mut next, mut found) = (next, Vec::new());
    for (partition, parts) in ranges {
        let mut splits = Vec::new();
        for (min, max) in &parts {
            for (low, high) in &gaps {
                if let Some((min, max)) = common((min, max), (low, high)) {
                    splits.push(Split {
                        ordinal: next,
                        container_rid: rid.to_owned(),
                        min: min.to_owned(),
                        max: max.to_owned(),
                        mode: config.mode,
                        start: config.start,
                        continuation: None,
                        stop: stop(config),
                        then: None,
                        fingerprint,
                    });
                    next += 1;
                }
            }
        }
        if !splits.is_empty() {
            found.push((partition, splits));
        }
    }
    let fixed = fix_all(feed, config, metrics, found, &mut rng).await?;
    Ok(Found {
        splits: stop_all(feed, config, metrics, Some(&partitions), fixed, &mut rng).await?,
        partitions,
    })
}

/// The physical partitions as they are now.
async fn partitions(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Range>> {
    let attempts = Attempts::seeded(&config.retry, rng.u64(..));
    let ranges = || within(config.request_timeout, feed.ranges(true));
    until_answered(attempts, metrics, "looking for feed ranges", ranges).await
}

/// Where a new split ends, as far as the options alone say.
fn stop(config: &Config) -> Stop {
    match config.stop {
        StopAt::Time(ms) => Stop::Time(ms),
        StopAt::Never | StopAt::Start => Stop::Never,
    }
}

/// Ranges, and the splits that each of them is read in.
type Parts = Vec<(Range, Vec<Split>)>;

/// At least so many splits in place of these, each with the position of the one that it comes from.
fn cut(feed: &dyn Feed, splits: Vec<Split>, at_least: usize) -> Parts {
    let parts = at_least.div_ceil(splits.len().max(1));
    let mut ordinals = 0..;
    let cut = |split: Split| {
        // One that reads the container first has ends and beginnings for all of its range.
        let parts = if split.then.is_some() { 1 } else { parts };
        let ranges = feed.divided(&split.min, &split.max, parts).into_iter();
        let parts = ranges.zip(&mut ordinals).map(|((min, max), ordinal)| Split {
            ordinal,
            min,
            max,
            ..split.clone()
        });
        let parts = parts.collect();
        ((split.min, split.max), parts)
    };
    splits.into_iter().map(cut).collect()
}

/// The splits that go on from the leases of a change feed processor, one for each of their ranges.
async fn from_leases(feed: &dyn Feed, config: &Config, metrics: &Metrics, seed: u64) -> Result<Vec<Split>> {
    let pieces = feed.take_leases(metrics, seed).await?;
    let splits = pieces
        .iter()
        .map(|piece| split_of(piece, feed.rid(), config.mode, stop(config)));
    splits.collect()
}

/// The splits of the file that the options name.
async fn from_tokens(feed: &dyn Feed, config: &Config) -> Result<Vec<Split>> {
    let option = "scan.startup.tokens-file";
    let path = config.start_tokens_file.clone().unwrap_or_default();
    let text = read_aside(option, move || {
        std::fs::read_to_string(&path).map_err(|e| {
            CoreError::config(format!(
                "{option}: cannot read '{path}': {e}; give a file that the JobManager can read"
            ))
        })
    });
    let mut splits = tokens_file::read(&text.await?, feed.name(), feed.rid())?;
    for split in &mut splits {
        Reads::of(config).check_mode(split)?;
        // One that reads the container first ends that where its own state says.
        if split.then.is_none() {
            split.stop = stop(config);
        } else if config.stop != StopAt::Never {
            return Err(CoreError::config(format!(
                "{option}: split {} is of a job that was still reading the container (scan.startup.mode initial), which goes on behind that without end; \
                 leave scan.bounded.mode out, or write the file once that is done",
                split.id()
            )));
        }
    }
    Ok(splits)
}

async fn fix_all(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    found: Parts,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Split>> {
    let fixed: Vec<Vec<Split>> = stream::iter(found)
        .map(|(partition, splits)| (partition, splits, rng.u64(..)))
        .map(|(partition, splits, seed)| fix(feed, config, metrics, partition, splits, seed))
        .buffered(config.max_concurrency)
        .try_collect()
        .await?;
    Ok(fixed.into_iter().flatten().collect())
}

type Range = (String, String);

/// Lets splits end at this moment, where they are to. That is asked for once for each physical partition, as a whole, in whatever ranges it is read:
/// such a position is valid for each part of it, and tells later whether the partition was merged with another one. That of a part would
/// look as if it had been. A split over several partitions has the positions of them all.
async fn stop_all(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    known: Option<&[Range]>,
    mut splits: Vec<Split>,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Split>> {
    if let (StopAt::Start, Some(first)) = (config.stop, splits.first()) {
        let ranges = match known {
            Some(ranges) => ranges.to_vec(),
            None => partitions(feed, config, metrics, rng).await?,
        };
        let at_now: Vec<(Split, u64)> = ranges
            .into_iter()
            .map(|(min, max)| Split {
                min,
                max,
                mode: Mode::LatestVersion,
                start: Start::Now,
                continuation: None,
                stop: Stop::Never,
                then: None,
                ..first.clone()
            })
            .filter(|partition| {
                splits
                    .iter()
                    .any(|split| overlap(partition.range(), split.range()))
            })
            .map(|partition| (partition, rng.u64(..)))
            .collect();
        let ends: Vec<(Split, String)> = stream::iter(at_now)
            .map(|(partition, seed)| async move {
                let now = where_now_is(feed, config, metrics, partition.clone(), seed).await?;
                Ok::<_, CoreError>((partition, now.token))
            })
            .buffered(config.max_concurrency)
            .try_collect()
            .await?;
        for split in &mut splits {
            let over = ends
                .iter()
                .filter(|(partition, _)| overlap(partition.range(), split.range()));
            let tokens: Vec<&str> = over.map(|(_, token)| token.as_str()).collect();
            split.stop = Stop::At(join(&tokens)?);
        }
    }
    Ok(splits)
}

/// Where the splits of a range begin, as far as that is a matter of this moment, and where their initial phase ends. It is asked for once, for
/// the range as a whole: such a position is valid for each part of it.
async fn fix(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    (min, max): Range,
    splits: Vec<Split>,
    seed: u64,
) -> Result<Vec<Split>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut split = match splits.first() {
        Some(first) => Split {
            min,
            max,
            ..first.clone()
        },
        None => return Ok(Vec::new()),
    };
    let range = split.clone();
    let mut now = |mode: Mode| {
        let at_now = Split {
            mode,
            start: Start::Now,
            continuation: None,
            stop: Stop::Never,
            ..range.clone()
        };
        where_now_is(feed, config, metrics, at_now, rng.u64(..))
    };
    if config.initial {
        let mut again = Again::new(config, seed);
        (split.stop, split.then) = loop {
            let versions = now(Mode::AllVersionsAndDeletes).await?;
            let documents = now(Mode::LatestVersion).await?;
            // A replica that is behind would end the reading of the container before that of its changes begins.
            if documents.covers(&versions) {
                break (Stop::At(documents.token), Some(versions.token));
            }
            let why = format!(
                "changes of split {} are read from behind write {} on, and its documents could be read up to write {} only: the replica that answers is not up to date",
                range.id(),
                versions.numbers(),
                documents.numbers()
            );
            tracing::warn!(target: "cosmosflink::source", "{why}; asking again where now is");
            again.wait(why).await?;
        };
        split.mode = Mode::LatestVersion;
    } else if split.start == Start::Now && split.continuation.is_none() {
        split.continuation = Some(now(split.mode).await?.token);
    }
    let parts = splits.into_iter().map(|part| Split {
        ordinal: part.ordinal,
        min: part.min,
        max: part.max,
        ..split.clone()
    });
    Ok(parts.collect())
}

/// A position that is fixed.
struct Position {
    token: String,
    /// Number of the last write before it, of each range that was asked.
    writes: Vec<Option<i64>>,
}

impl Position {
    /// Its numbers, for people.
    fn numbers(&self) -> String {
        let number = |write: &Option<i64>| write.map_or("unknown".to_owned(), |n| n.to_string());
        let numbers: Vec<_> = self.writes.iter().map(number).collect();
        numbers.join(" and ")
    }

    /// Whether no write before `other` is behind this one, for all that their numbers say.
    fn covers(&self, other: &Position) -> bool {
        // A partition was split in between: which number is whose, nobody can say.
        self.writes.len() == other.writes.len()
            && self
                .writes
                .iter()
                .zip(&other.writes)
                .all(|(mine, its)| mine.zip(*its).is_none_or(|(mine, its)| mine >= its))
    }
}

/// Waits between answers that are of no use, ever longer, and gives up at the deadline of failures.
struct Again(Attempts);

impl Again {
    fn new(config: &Config, seed: u64) -> Again {
        let retry = RetryConfig {
            // Each was an answer: time alone decides.
            max_attempts: u32::MAX,
            ..config.retry
        };
        Again(Attempts::seeded(&retry, seed))
    }

    /// # Errors
    /// Transient, with the reason, once the deadline has passed.
    async fn wait(&mut self, why: String) -> Result<()> {
        let error = CoreError::new(Kind::Transient, why);
        match self.0.next(&error, Instant::now()) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
        Ok(())
    }
}

/// The position of a split that starts at [`Start::Now`] and has none.
async fn where_now_is(
    feed: &dyn Feed,
    config: &Config,
    metrics: &Metrics,
    split: Split,
    seed: u64,
) -> Result<Position> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut again = Again::new(config, rng.u64(..));
    let mut attempts = || Attempts::seeded(&config.retry, rng.u64(..));
    let head = PageHead {
        split_id: "",
        split: &[],
        children: &[],
        arrived_epoch_millis: 0,
    };
    loop {
        // The partition may be split meanwhile. All of its ranges must have been asked by the same reading: one that its position does
        // not name would look for now again when the position is read from.
        let ask = || async {
            let mut pages = feed.open(&split, config.page_size).await?;
            let mut writes = Vec::new();
            loop {
                let page = pages.next(metrics).await?;
                // Changes of this very moment come with the page; they are after now, so that it is not skipped but all is asked for
                // again: only an empty page fixes a position. In all versions and deletes the driver has asked where now is before it
                // asks for a page, and a busy range has no empty ones: there now is where the page ends.
                if split.mode == Mode::LatestVersion
                    && !page.unchanged
                    && build(&head, &page.items, feed.key_paths(), OnDecodeError::Raw)?.documents > 0
                {
                    return Ok(None);
                }
                writes.push(page.position.or(page.lsn));
                if writes.len() >= page.ranges {
                    return Ok(Some(Position {
                        token: page.continuation,
                        writes,
                    }));
                }
            }
        };
        if let Some(position) = until_answered(attempts(), metrics, "asking where now is", ask).await? {
            return Ok(position);
        }
        again
            .wait(format!(
                "each time that split {} was asked where now is, changes of that moment came: it is written to without a pause",
                split.id()
            ))
            .await?;
    }
}

/// Finds the feed ranges of a container again and again, for as long as a job runs.
pub struct Enumerator {
    config: Arc<Config>,
    metrics: Metrics,
    /// Exchanged when the account's secret is: the enumerator lives as long as the job, and keys are rotated meanwhile.
    feed: Mutex<Arc<dyn Feed>>,
    runtime: Handle,
    /// Seeds of the looks.
    rng: Mutex<fastrand::Rng>,
    woken: Notify,
    closed: CancellationToken,
}

impl Enumerator {
    /// [`Enumerator::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Arc<Enumerator>> {
        open_blocking(Self::connect(config)).map(Arc::new)
    }

    /// Connects and looks the container up, so that a wrong key or name fails at once. Runs on the shared runtime.
    pub async fn connect(config: Config) -> Result<Enumerator> {
        let feed = DriverFeed::connect(config).await?;
        let config = feed.config().clone();
        Ok(Self::over(
            Arc::new(feed),
            config,
            &Handle::current(),
            fastrand::u64(..),
        ))
    }

    /// The enumerator of a feed, which needs no network of its own. `seed` decides what chance decides.
    pub fn over(
        feed: Arc<dyn Feed>,
        config: impl Into<Arc<Config>>,
        runtime: &Handle,
        seed: u64,
    ) -> Enumerator {
        Enumerator {
            config: config.into(),
            metrics: Metrics::default(),
            feed: Mutex::new(feed),
            runtime: runtime.clone(),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            woken: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Counters of its requests.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes a waiting [`Enumerator::look`] return with an error.
    pub fn wake_up(&self) {
        self.woken.notify_waiters();
    }

    /// Ends a look that is under way. Idempotent.
    ///
    /// The job's leases stay its own, and are free once they have expired: Flink closes an enumerator at the end of a job, and as well where it
    /// makes a new one for the same job, and does not say which it is.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn seed(&self) -> u64 {
        self.rng.lock().unwrap_or_else(|e| e.into_inner()).u64(..)
    }

    /// [`discover`]s new splits. A secret that is refused is read anew from its file, and used if it is another one.
    ///
    /// # Errors
    /// Closed; Transient after [`Enumerator::wake_up`]; those of [`discover`].
    pub async fn look(&self, known: &[SplitEntry]) -> Result<Found> {
        let woken = self.woken.notified();
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(CoreError::closed()),
            () = woken => Err(CoreError::new(
                Kind::Transient,
                "the look for feed ranges was woken up before it had an answer; look again",
            )),
            found = self.run(known) => found,
        }
    }

    /// The new splits of an [`Enumerator::look`], which nobody has, from a thread that may block.
    ///
    /// # Errors
    /// Those of [`Enumerator::look`].
    pub fn discover(self: &Arc<Self>, known: &[SplitEntry]) -> Result<Vec<SplitEntry>> {
        let (this, known) = (self.clone(), known.to_vec());
        // On a thread of the runtime: its stack is known to be deep enough.
        let look = self.runtime.spawn(async move { this.look(&known).await });
        let found = self
            .runtime
            .block_on(look)
            .map_err(|e| CoreError::internal(format!("the look for feed ranges failed: {e}")))??;
        let new = found.splits.into_iter().map(|split| SplitEntry {
            split,
            assigned: false,
        });
        Ok(new.collect())
    }

    fn feed(&self) -> MutexGuard<'_, Arc<dyn Feed>> {
        self.feed.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn run(&self, known: &[SplitEntry]) -> Result<Found> {
        let seed = self.seed();
        let feed = self.feed().clone();
        let error = match discover(&*feed, &self.config, &self.metrics, known, seed).await {
            Err(e) if e.kind == Kind::Auth => e,
            other => return other,
        };
        let Some(fresh) = feed.renewed().await? else {
            return Err(error);
        };
        *self.feed() = fresh.clone();
        discover(&*fresh, &self.config, &self.metrics, known, seed).await
    }
}
