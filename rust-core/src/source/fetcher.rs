//! The task of a split: waits for room, fetches a page, and waits until the next look.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::buffer::{start_millis, Admission, Fetched, Page, LATE};
use super::pace::{Answer, Pace, Rounds};
use super::pending::Pending;
use super::sizes::Sizes;
use super::Shared;
use crate::clock::{epoch_millis, Now};
use crate::config::{Config, Start};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::feed::{Feed, Look, Pages, RawPage, Stopping, Verdict};
use crate::page::{self, Items, PageHead};
use crate::retry::Attempts;
use crate::rows::{Compiled, Decoder};
use crate::share::{Booked, Share};
use crate::split::{Mode, Split, Stop};
use crate::status::Next;

/// While a split waits for room it is looked ahead so often: a request unit or so each time, for lags that are still true.
const LOOK_AHEAD: Duration = Duration::from_secs(5);

/// Room in the budget for a page that is being fetched.
struct Reserve<'a> {
    shared: &'a Shared,
    bytes: u64,
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.with(|buffer| buffer.release(self.bytes));
        }
    }
}

/// Fetches the pages of one split.
pub struct Fetcher {
    /// Its number in the buffer.
    pub number: usize,
    pub id: String,
    pub feed: Arc<dyn Feed>,
    pub config: Arc<Config>,
    pub shared: Arc<Shared>,
    pub requests: Arc<Semaphore>,
    pub share: Option<Arc<Share>>,
    /// How documents become rows, where they do.
    pub rows: Option<Arc<Compiled>>,
    /// Its split was paused, resumed or given back, or there may be room.
    pub wake: Arc<Notify>,
    /// Seed of its jitter.
    pub seed: u64,
}

/// How far the reading of a split is.
struct Reading {
    /// Position after the last page that was fetched.
    split: Split,
    /// `None`: to be opened at that position.
    pages: Option<Box<dyn Pages>>,
    attempts: Attempts,
    rng: fastrand::Rng,
    /// A page was broken in itself, and so many pages that came since were not. Reading begins at the first range behind it, so that
    /// only one good page of each range shows that the broken one is whole now.
    whole_since_broken: Option<usize>,
    sizes: Sizes,
    rounds: Rounds,
    stopping: Stopping,
    pending: Pending,
    next_look: Option<Instant>,
    /// Whether the job has heard that the split was read to its end, and nothing came since.
    told: bool,
    /// What makes rows of the documents, where they become rows.
    decoder: Option<Decoder>,
}

/// How the reading of a page ended.
enum Read {
    On,
    /// It was the last one.
    Ended,
}

/// The parts of a feed range that is read in several.
fn several(parts: &[(String, String)]) -> Option<Vec<(String, String)>> {
    (parts.len() > 1).then(|| parts.to_vec())
}

/// The failure of a split that has a stop before it and yet is told that there is nothing more. To begin anew may reach another replica; to
/// end would lose what is written up to the stop.
fn stuck(read: Option<i64>, last: Option<i64>) -> CoreError {
    let number = |n: Option<i64>| n.map_or("unknown".to_owned(), |n| n.to_string());
    CoreError {
        next: Next::End,
        ..CoreError::new(
            Kind::Transient,
            format!(
                "its stop is not reached, but for a minute there was nothing more to read (read up to write {}, the last one is {}): the replica that answers is not up to date; the job begins again from its last checkpoint",
                number(read),
                number(last)
            ),
        )
    }
}

impl Fetcher {
    pub async fn run(self, split: Split) {
        let outcome = std::panic::AssertUnwindSafe(self.read_to_its_end(split))
            .catch_unwind()
            .await;
        let outcome = outcome.unwrap_or_else(|panic| {
            Err(CoreError::internal(format!(
                "panic while reading: {}",
                panic_text(&*panic)
            )))
        });
        let Err(error) = outcome else {
            return;
        };
        tracing::error!(target: "cosmosflink::source", "reading split {} failed: {error}", self.id);
        let error = error.while_doing(format!("reading split {}", self.id));
        self.shared.with(|buffer| buffer.fail(self.number, error));
    }

    fn attempts(&self, rng: &mut fastrand::Rng) -> Attempts {
        Attempts::seeded(&self.config.retry, rng.u64(..))
    }

    /// Ends once the last page of the split was taken, or with what ended its reading before that.
    async fn read_to_its_end(&self, split: Split) -> Result<()> {
        let start = self.shared.with(|buffer| buffer.reached(self.number));
        let start = start.unwrap_or_else(|| start_millis(&split, Now::read()));
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut reading = Reading {
            stopping: Stopping::new(&split),
            split,
            pages: None,
            attempts: self.attempts(&mut rng),
            rng,
            whole_since_broken: None,
            sizes: Sizes::new(self.config.page_size),
            rounds: Rounds::new(self.config.min_poll_interval, self.config.poll_interval, start),
            pending: Pending::default(),
            next_look: None,
            told: false,
            decoder: self.decoder(),
        };
        loop {
            if let Some(at) = reading.next_look.take() {
                self.rest(at).await;
            }
            match self.read_page(&mut reading).await {
                Ok(Read::On) => {}
                Ok(Read::Ended) => {
                    if self.is_gone().await {
                        return Ok(());
                    }
                }
                Err(error) => {
                    if let Some(error) = self.wait_after(error, &mut reading).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Waits until the last page of the split was taken; false when it was given back, so that it must be read again.
    async fn is_gone(&self) -> bool {
        loop {
            let (gone, rewound) = self
                .shared
                .with(|buffer| (buffer.is_gone(self.number), buffer.is_rewound(self.number)));
            if gone || rewound {
                return gone;
            }
            self.wake.notified().await;
        }
    }

    /// Waits until the next look, or until pages were given back that must be fetched again.
    async fn rest(&self, until: Instant) {
        while !self.shared.with(|buffer| buffer.is_rewound(self.number)) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.wake.notified() => {}
            }
        }
    }

    /// Waits after a failure, or asks for less; gives the failure back when it is final.
    async fn wait_after(&self, error: CoreError, reading: &mut Reading) -> Option<CoreError> {
        let metrics = &self.shared.metrics;
        metrics.failure(&error);
        if error.next == Next::Halve && reading.sizes.halve() {
            // Another request, not the same again.
            reading.pages = None;
            metrics.retries.fetch_add(1, Relaxed);
            tracing::debug!(target: "cosmosflink::source", "split {}: pages of {} documents after: {error}", self.id, reading.sizes.limit());
            return None;
        }
        let Some(wait) = reading.attempts.next(&error, Instant::now()) else {
            return Some(error);
        };
        metrics.retries.fetch_add(1, Relaxed);
        let held_since = reading.attempts.held_since();
        self.shared.with(|buffer| buffer.holds(self.number, held_since));
        tracing::debug!(target: "cosmosflink::source", "split {}: waiting {wait:?} after: {error}", self.id);
        tokio::time::sleep(wait).await;
        None
    }

    /// Waits until the split may fetch a page.
    async fn room(&self, reading: &mut Reading) -> Reserve<'_> {
        let bytes = reading.sizes.reserve().min(self.config.prefetch_bytes);
        loop {
            match self.shared.with(|buffer| buffer.admit(self.number, bytes)) {
                Admission::Wait => self.wait_for_room(reading).await,
                Admission::Go(rewound) => {
                    if let Some(rewound) = rewound {
                        reading.split = rewound.split;
                        reading.stopping = Stopping::new(&reading.split);
                        reading.pages = None;
                        reading.told = false;
                        reading.rounds.go_back_to(rewound.reached);
                    }
                    return Reserve {
                        shared: &self.shared,
                        bytes,
                    };
                }
            }
        }
    }

    /// Waits until there may be room. Nothing is read meanwhile, while others write on: from time to time it asks how far behind the split is.
    async fn wait_for_room(&self, reading: &mut Reading) {
        let looks = async {
            loop {
                tokio::time::sleep(LOOK_AHEAD).await;
                match self.look_ahead(reading).await {
                    Ok(Some(pending)) => self.shared.with(|buffer| buffer.holds_back(self.number, pending)),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(target: "cosmosflink::source", "split {}: how far it is behind is not known: {error}", self.id);
                    }
                }
            }
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = looks => {}
        }
    }

    /// How many records the service holds behind the last page that was fetched. No document is sent for that: the feed is asked what it
    /// has from now on, once for each range. Not known where that would take from what pages are waiting for.
    async fn look_ahead(&self, reading: &mut Reading) -> Result<Option<u64>> {
        if reading.pending.records().is_none() {
            return Ok(None);
        }
        let now = Split {
            mode: Mode::LatestVersion,
            start: Start::Now,
            continuation: None,
            stop: Stop::Never,
            then: None,
            ..reading.split.clone()
        };
        let mut pages = self.feed.open(&now, 1).await?;
        let mut newest = Vec::new();
        for _ in 0..reading.pending.ranges() {
            let booked = match &self.share {
                Some(share) => match share.spare_request() {
                    None => return Ok(None),
                    booked => booked,
                },
                None => None,
            };
            let _turn = self.requests.acquire().await.map_err(|_| CoreError::closed())?;
            let page = self.ask(&mut *pages, booked).await?;
            newest.extend(page.session_lsn.or(page.lsn));
        }
        Ok(reading.pending.records_with(&newest))
    }

    /// Waits until a request is paid for, where reading has a budget.
    async fn paid(&self) -> Option<Booked<'_>> {
        match &self.share {
            Some(share) => Some(share.request(&self.shared.metrics, 1).await),
            None => None,
        }
    }

    /// Asks for a page, which is paid for with what was booked.
    async fn ask(&self, pages: &mut dyn Pages, booked: Option<Booked<'_>>) -> Result<RawPage> {
        let answer = pages.next(&self.shared.metrics).await;
        if let Some(booked) = booked {
            booked.settle(match &answer {
                Ok(page) => page.charge,
                Err(error) => error.request_charge,
            });
        }
        answer
    }

    async fn read_page(&self, reading: &mut Reading) -> Result<Read> {
        let waiting = Instant::now();
        let reserve = self.room(reading).await;
        let page = {
            let booked = self.paid().await;
            let _turn = self.requests.acquire().await.map_err(|_| CoreError::closed())?;
            // No clock runs while the split is paused, is paid for or waits for its turn.
            reading.attempts.leave_out(waiting.elapsed());
            if reading.pages.is_none() {
                reading.rounds.begin_anew();
            }
            let pages = match &mut reading.pages {
                Some(pages) => pages,
                none => none.insert(self.feed.open(&reading.split, reading.sizes.limit()).await?),
            };
            if let Some(parts) = several(pages.parts()) {
                return self.part(reading, reserve, &parts);
            }
            reading.rounds.asked = epoch_millis();
            match self.ask(&mut **pages, booked).await {
                Ok(page) => page,
                Err(error) => {
                    if pages.is_spent() {
                        reading.pages = None;
                    }
                    return Err(error);
                }
            }
        };
        if let Some(parts) = reading.pages.as_ref().and_then(|pages| several(pages.parts())) {
            return self.part(reading, reserve, &parts);
        }
        let after = Split {
            // A query that has no row has no position.
            continuation: Some(page.continuation).filter(|position| !position.is_empty()),
            ..reading.split.clone()
        };
        let head = PageHead {
            split_id: &self.id,
            split: &after.encode(),
            children: &[],
            arrived_epoch_millis: epoch_millis(),
        };
        let built = self.build(&head, &page.items, reading.decoder.as_mut());
        let mut built = match built {
            Ok(built) => built,
            Err(error) => {
                // The feed stands behind this page, which does not count as read.
                reading.pages = None;
                reading.whole_since_broken = Some(0);
                return Err(error);
            }
        };
        reading.whole_since_broken = reading
            .whole_since_broken
            .map(|pages| pages + 1)
            .filter(|pages| *pages < page.ranges);
        if reading.whole_since_broken.is_none() {
            reading.attempts = self.attempts(&mut reading.rng);
        }
        drop(page.items);
        let answer = Answer {
            documents: built.documents,
            full: reading.sizes.is_full(built.documents, page.bytes),
            unchanged: page.unchanged,
            stands: page.stands,
            partition: page.partition,
            newest: (built.newest_ts > 0).then_some(built.newest_ts.saturating_mul(1000)),
            newest_lsn: built.newest_lsn,
            lsn: page.lsn,
            position: page.position,
            ranges: page.ranges,
        };
        let verdict = match page.ended {
            true => Verdict::End,
            false => {
                let asks = reading.stopping.asks_for_order(answer.newest);
                let in_order = match reading.pages.as_mut().filter(|_| asks) {
                    Some(pages) => {
                        let _turn = self.requests.acquire().await.map_err(|_| CoreError::closed())?;
                        pages.in_order(&self.shared.metrics).await
                    }
                    None => false,
                };
                reading.stopping.take(&Look {
                    reached: page.reached,
                    unchanged: page.unchanged,
                    partition: answer.partition,
                    lsn: answer.lsn,
                    position: answer.position,
                    newest: answer.newest,
                    in_order,
                    asked: reading.rounds.asked,
                    ranges: answer.ranges,
                })
            }
        };
        let ended = match verdict {
            Verdict::On => false,
            Verdict::End => true,
            Verdict::Outrun => {
                tracing::warn!(target: "cosmosflink::source", "split {} ends at its stop, but others write at least as fast as it is read: a document that was there before and is written again and again may be missing; read faster, or write less meanwhile", self.id);
                true
            }
            Verdict::Stuck => return Err(stuck(page.position, page.lsn)),
        };
        let before = reading.rounds.reached();
        let is_feed = reading.split.reads_feed();
        let pace = match is_feed {
            true => reading.rounds.take(&answer),
            // What is asked for is there, and a page that is not full says nothing about what is behind it.
            false => Pace {
                pause: None,
                caught_up: page.ended,
            },
        };
        let newest = page.session_lsn.or(page.lsn);
        let read = match (answer.unchanged, built.newest_lsn) {
            // There is nothing behind it, whatever the numbers are.
            (true, _) => newest,
            (false, lsn) => page.position.or(Some(lsn).filter(|lsn| *lsn >= 0)),
        };
        reading.pending.answered(page.ranges, newest, read);
        // Behind the container as it is, its changes since then are still to be read.
        let caught_up = pace.caught_up && after.then.is_none();
        if caught_up {
            built.caught_up();
            reading.pending.caught_up();
        }
        let goes_on = ended.then(|| after.behind_its_stop()).flatten();
        let ended = ended && goes_on.is_none();
        if ended {
            built.finished();
        }
        let unread = reading.split.continuation.is_none();
        let arrived = Instant::now();
        // An empty page goes over where it says something: the first, so that the job's state holds a position from then on, the one
        // that says that the end is reached, and the last one ever.
        let tells = unread || ended || (caught_up && !reading.told);
        let ready = (built.documents > 0 || tells).then(|| Page {
            frame: built.frame,
            records: built.records as u64,
            undecodable: built.undecodable,
            nulled: built.nulled,
            filtered: built.filtered,
            after: after.clone(),
            // Rows of a table are as old as they are.
            behind: answer
                .newest
                .filter(|_| is_feed)
                .map_or(before, |newest| newest.min(before)),
            queued: arrived,
            end: ended.then(Vec::new),
        });
        if ready.is_some() {
            reading.told = caught_up;
        }
        reading.split = after;
        reading.next_look = pace.pause.map(|pause| arrived + pause);
        let fetched = Fetched {
            page: ready,
            reached: reading.rounds.reached(),
            at_rest_until: reading.next_look.filter(|_| caught_up).map(|look| look + LATE),
            held_since: reading.attempts.held_since(),
            pending: reading.pending.records(),
        };
        self.settle(reserve, fetched);
        if reading.sizes.took(answer.documents, page.bytes) {
            reading.pages = None;
        }
        if let Some(split) = goes_on {
            self.go_on(reading, split)?;
            reading.stopping = Stopping::new(&reading.split);
        }
        Ok(match ended {
            true => Read::Ended,
            false => Read::On,
        })
    }

    /// Goes on in another mode: a page without records says so, behind the pages before it.
    fn go_on(&self, reading: &mut Reading, split: Split) -> Result<()> {
        tracing::info!(target: "cosmosflink::source", "split {} was read as it is: reading {}", self.id, split.describe());
        let reached = reading.rounds.reached();
        let fetched = Fetched {
            page: Some(self.page_without_records(&split, None, reached)?),
            reached,
            at_rest_until: None,
            held_since: reading.attempts.held_since(),
            pending: None,
        };
        self.shared.with(|buffer| buffer.fetched(self.number, 0, fetched));
        reading.split = split;
        reading.pages = None;
        reading.pending = Pending::default();
        reading.told = false;
        reading.next_look = None;
        reading.rounds = Rounds::new(self.config.min_poll_interval, self.config.poll_interval, reached);
        Ok(())
    }

    /// Ends the split where it stands: its range has become several, which go on from its position, each as a split of its own. Read in turn they
    /// would have one watermark, and what one of them has read would make the changes of the others late. So a page that came of one of them
    /// does not count as read.
    fn part(&self, reading: &mut Reading, reserve: Reserve<'_>, parts: &[(String, String)]) -> Result<Read> {
        let parted = &reading.split;
        let children: Vec<_> = parts
            .iter()
            .map(|(min, max)| Split {
                min: min.clone(),
                max: max.clone(),
                ..parted.clone()
            })
            .collect();
        let ids: Vec<_> = children.iter().map(Split::id).collect();
        tracing::info!(target: "cosmosflink::source", "split {} is several partitions now: {} go on in its place", self.id, ids.join(", "));
        let reached = reading.rounds.reached();
        let last = self.page_without_records(parted, Some(&children), reached)?;
        reading.pages = None;
        let fetched = Fetched {
            page: Some(last),
            reached,
            at_rest_until: None,
            held_since: None,
            pending: reading.pending.records(),
        };
        self.settle(reserve, fetched);
        Ok(Read::Ended)
    }

    fn decoder(&self) -> Option<Decoder> {
        self.rows.clone().map(Decoder::of)
    }

    /// The frame of a page: of rows where there is a decoder, else of records.
    fn build(&self, head: &PageHead<'_>, items: &Items, decoder: Option<&mut Decoder>) -> Result<page::Page> {
        let (paths, on_error) = (self.feed.key_paths(), self.config.on_decode_error);
        match decoder {
            None => page::build(head, items, paths, on_error),
            Some(decoder) => page::build_rows(head, items, paths, on_error, decoder),
        }
    }

    /// A page that says where the split stands. With children it is the last one, and they go on in its place.
    fn page_without_records(&self, split: &Split, children: Option<&[Split]>, reached: i64) -> Result<Page> {
        let now = Now::read();
        let head = PageHead {
            split_id: &self.id,
            split: &split.encode(),
            children: children.unwrap_or_default(),
            arrived_epoch_millis: now.epoch_millis,
        };
        let mut built = self.build(&head, &Items::None, self.decoder().as_mut())?;
        if children.is_some() {
            built.finished();
        }
        Ok(Page {
            frame: built.frame,
            records: 0,
            undecodable: 0,
            nulled: 0,
            filtered: 0,
            after: split.clone(),
            behind: reached,
            queued: now.instant,
            end: children.map(|children| children.iter().map(Split::id).collect()),
        })
    }

    /// Exchanges a reserve for what came.
    fn settle(&self, mut reserve: Reserve<'_>, fetched: Fetched) {
        let reserved = std::mem::take(&mut reserve.bytes);
        self.shared
            .with(|buffer| buffer.fetched(self.number, reserved, fetched));
    }
}
