//! What a source holds, who may fetch and which page comes next.
//!
//! Decides alone: each event is a call, which is given the time where it matters, and what is to be done about it is in
//! [`Buffer::effects`] afterwards. There is no clock in here, no lock and nothing that waits.
//!
//! What the splits hold is bounded in bytes. A fetch reserves room for a page like the split's last ones before it asks, the splits get
//! room in the order in which they asked for it, and a page then counts with what is allocated for it. The pages of a paused split stay
//! and count; they are given back, newest first, when another split waits for room and they hold more than half of the budget, or all
//! that is held. So no split can starve the others, and pages that were paid for are fetched again only where the budget is really short.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Now;
use crate::config::Start;
use crate::error::{CoreError, Kind, Result};
use crate::metrics::SplitLag;
use crate::page::PageFrame;
use crate::split::Split;

/// A look that is late by less does not show as lag.
pub const LATE: Duration = Duration::from_secs(1);

/// Behind so many records a mean size forgets half of what it knows.
const RECORDS_OF_A_MEAN: u64 = 10_000;

/// A page that was read and is to be handed over.
pub struct Page {
    pub frame: PageFrame,
    pub records: u64,
    /// Documents that could not be decoded.
    pub undecodable: u64,
    /// Values that became null since they did not fit their columns.
    pub nulled: u64,
    /// Documents whose rows the plan's filter did not let pass.
    pub filtered: u64,
    pub after: Split,
    /// Up to when the split was read before this page, in milliseconds since the epoch; no later than the page's newest document.
    pub behind: i64,
    pub queued: Instant,
    /// The split ends with this page, and these go on in its place, by id.
    pub end: Option<Vec<String>>,
}

impl Page {
    /// What is allocated for it.
    fn bytes(&self) -> u64 {
        let position = self.after.continuation.as_ref().map_or(0, String::capacity);
        (self.frame.held() + position) as u64
    }

    /// How old what it tells is, once it has waited for so long that it shows. An empty page tells nothing.
    fn lag_millis(&self, now: Now) -> Option<u64> {
        let late = now.instant.saturating_duration_since(self.queued) >= LATE;
        (self.records > 0 && late).then(|| millis_since(self.behind, now))
    }
}

/// How a fetch ended.
pub struct Fetched {
    /// What is to be handed over, if anything is.
    pub page: Option<Page>,
    /// Up to when the split is read now, in milliseconds since the epoch.
    pub reached: i64,
    /// The split is read to its end, and the next look is not overdue before then.
    pub at_rest_until: Option<Instant>,
    /// Since when its requests fail or are throttled.
    pub held_since: Option<Instant>,
    /// Records that the service still holds of it, as far as that is known.
    pub pending: Option<u64>,
}

/// What comes next for whoever reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// A page of this size in bytes is announced.
    Page(usize),
    Woken,
    Nothing,
}

/// Whether a split may fetch now.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It looks again once it is woken.
    Wait,
    /// What it reserved is held for it. Where pages were given back it goes on at another position than it is at.
    Go(Option<Rewound>),
}

/// Where a split goes on after pages of it were given back.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewound {
    pub split: Split,
    /// Up to when it is read there, in milliseconds since the epoch.
    pub reached: i64,
}

/// What is to be done after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Numbers of the splits whose fetchers look again.
    pub wake: Vec<usize>,
    /// Whoever waits for a page looks again.
    pub changed: bool,
}

/// What shows of a buffer in the metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub lag_millis: u64,
    pub held_millis: u64,
    pub bytes_buffered: u64,
    pub splits: u64,
    pub splits_paused: u64,
    /// Records that the service still holds and those that wait here.
    pub pending_records: u64,
    /// The bytes of those, as far as the size of records is known.
    pub pending_bytes: u64,
    pub each: Vec<SplitLag>,
}

struct SplitState {
    id: String,
    /// Position after the last page that was handed over.
    delivered: Split,
    queue: VecDeque<Page>,
    paused: bool,
    /// Pages were given back: reading goes on behind the last one that is left.
    rewound: bool,
    /// Up to when the split is known to be read, in milliseconds since the epoch. Its state does not say; as long as nothing has been
    /// read, that is when it was added, or an earlier point in time that it starts from.
    reached: i64,
    /// It has been read to its end, and the next look is not overdue before then.
    at_rest_until: Option<Instant>,
    /// Since when its requests fail or are throttled.
    held_since: Option<Instant>,
    /// Records that the service still holds, as far as that is known.
    pending: u64,
    size: MeanSize,
    /// Its last page was taken: what is left of it is its id.
    gone: bool,
}

/// How large the records of the last pages were, those of the newest count most.
#[derive(Default)]
struct MeanSize {
    records: u64,
    bytes: u64,
}

impl MeanSize {
    fn take(&mut self, records: u64, bytes: u64) {
        if self.records >= RECORDS_OF_A_MEAN {
            self.records /= 2;
            self.bytes /= 2;
        }
        self.records += records;
        self.bytes += bytes;
    }

    /// Bytes of so many records; 0 before the first page.
    fn of(&self, records: u64) -> u64 {
        let bytes = u128::from(records) * u128::from(self.bytes) / u128::from(self.records.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl SplitState {
    fn new(id: String, split: Split, reached: i64) -> Self {
        SplitState {
            id,
            reached,
            delivered: split,
            queue: VecDeque::new(),
            paused: false,
            rewound: false,
            at_rest_until: None,
            held_since: None,
            gone: false,
            pending: 0,
            size: MeanSize::default(),
        }
    }

    /// Takes the newest page out of the queue, to be read again later.
    fn take_back(&mut self) {
        if let Some(page) = self.queue.pop_back() {
            self.rewound = true;
            self.reached = self.reached.min(page.behind);
            self.at_rest_until = None;
            self.pending += page.records;
        }
    }

    fn queued_bytes(&self) -> u64 {
        self.queue.iter().map(Page::bytes).sum()
    }

    /// Records that wait here.
    fn queued_records(&self) -> u64 {
        self.queue.iter().map(|page| page.records).sum()
    }

    fn lag_millis(&self, now: Now) -> u64 {
        let at_rest = !self.paused && self.at_rest_until.is_some_and(|until| now.instant < until);
        // What was read and waits for the job is not behind the job yet.
        let waiting = self.queue.iter().find_map(|page| page.lag_millis(now));
        if at_rest {
            return waiting.unwrap_or(0);
        }
        waiting.unwrap_or_default().max(millis_since(self.reached, now))
    }
}

/// The splits of a source and their pages. A split's number is its place in the order in which they were added; that of one that has ended
/// stays unused.
pub struct Buffer {
    /// Bytes that pages and reserves may have.
    budget: u64,
    /// The readers of one task own few splits. None once it is closed.
    splits: Vec<SplitState>,
    /// Where the next round begins.
    turn: usize,
    /// The page that comes next, and the number of its split, until it is taken.
    announced: Option<(usize, Page)>,
    woken: bool,
    closed: bool,
    /// What ended a split's reading, and which: no split is read on after it.
    failed: Option<(usize, CoreError)>,
    /// Bytes of pages and of reserves.
    held: u64,
    /// The splits that wait for room, in order.
    waiting: VecDeque<usize>,
    /// Up to when splits are read that are to come in place of others, by id.
    inherited: BTreeMap<String, i64>,
    effects: Effects,
}

impl Buffer {
    /// `budget`: bytes that pages and reserves may have in all.
    pub fn new(budget: u64) -> Self {
        Buffer {
            budget,
            splits: Vec::new(),
            turn: 0,
            announced: None,
            woken: false,
            closed: false,
            failed: None,
            held: 0,
            waiting: VecDeque::new(),
            inherited: BTreeMap::new(),
            effects: Effects::default(),
        }
    }

    /// What is to be done about the events since the last call.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// # Errors
    /// Closed, once it is.
    pub fn open(&self) -> Result<()> {
        match self.closed {
            true => Err(CoreError::closed()),
            false => Ok(()),
        }
    }

    /// More splits, which get the numbers from the one on that is returned.
    ///
    /// # Errors
    /// Closed; State when one is there already: then none of them is added.
    pub fn add(&mut self, splits: &[Split], now: Now) -> Result<usize> {
        self.open()?;
        let first = self.splits.len();
        for split in splits {
            let id = split.id();
            if self.splits.iter().any(|s| s.id == id && !s.gone) {
                self.splits.truncate(first);
                return Err(CoreError::state(format!(
                    "split {id} is read by this reader already"
                )));
            }
            let reached = self.inherited.get(&id).copied();
            let reached = reached.unwrap_or_else(|| start_millis(split, now));
            self.splits.push(SplitState::new(id, split.clone(), reached));
        }
        for split in &self.splits[first..] {
            self.inherited.remove(&split.id);
        }
        Ok(first)
    }

    /// Up to when a split is read for all that is known, in milliseconds since the epoch.
    pub fn reached(&self, number: usize) -> Option<i64> {
        self.splits.get(number).map(|split| split.reached)
    }

    /// Whether the last page of a split was taken, or everything is dropped: it is not read on.
    pub fn is_gone(&self, number: usize) -> bool {
        self.splits.get(number).is_none_or(|split| split.gone)
    }

    /// Holds splits back, and lets others go on.
    ///
    /// # Errors
    /// State for a split that was never here; the others are paused and resumed all the same. One that has ended meanwhile is passed over.
    pub fn pause_or_resume(&mut self, pause: &[String], resume: &[String]) -> Result<()> {
        for (number, split) in self.splits.iter_mut().enumerate().filter(|(_, s)| !s.gone) {
            let paused = match (pause.contains(&split.id), resume.contains(&split.id)) {
                (true, _) => true,
                (false, true) => false,
                (false, false) => continue,
            };
            if split.paused != paused {
                split.paused = paused;
                // A split that is paused may stand in the line for room, where it must not stand in the way.
                self.effects.wake.push(number);
            }
        }
        self.wake_next();
        // Pages of a resumed split may be there.
        self.effects.changed = true;
        let here = |id: &&String| self.splits.iter().any(|s| s.id == **id);
        match pause.iter().chain(resume).find(|id| !here(id)) {
            None => Ok(()),
            Some(id) => Err(CoreError::state(format!(
                "split '{id}' is not read by this reader"
            ))),
        }
    }

    /// What whoever reads gets now: the splits have a turn each. A page stays announced until it is taken.
    ///
    /// # Errors
    /// Closed; what ended a split's reading, behind the pages of that split that were read before, again at each call.
    pub fn next(&mut self) -> Result<Turn> {
        self.open()?;
        if let Some((_, page)) = &self.announced {
            return Ok(Turn::Page(page.frame.len()));
        }
        if std::mem::take(&mut self.woken) {
            return Ok(Turn::Woken);
        }
        if let Some((number, error)) = self.failed.clone() {
            return self.announce(number).map(Turn::Page).ok_or(error);
        }
        let n = self.splits.len();
        for i in 0..n {
            let number = (self.turn + i) % n;
            if let Some(size) = self.announce(number) {
                self.turn = number + 1;
                return Ok(Turn::Page(size));
            }
        }
        Ok(Turn::Nothing)
    }

    /// Takes the oldest page of a split out of its queue and announces it.
    fn announce(&mut self, number: usize) -> Option<usize> {
        let split = self.splits.get_mut(number).filter(|split| !split.paused)?;
        let page = split.queue.pop_front()?;
        split.delivered = page.after.clone();
        let size = page.frame.len();
        self.announced = Some((number, page));
        Some(size)
    }

    /// The page that is announced; what it holds is free.
    ///
    /// # Errors
    /// Closed; BadRequest when there is none.
    pub fn take(&mut self) -> Result<Page> {
        self.open()?;
        let (number, page) = self
            .announced
            .take()
            .ok_or_else(|| CoreError::new(Kind::BadRequest, "no page is announced; call nextPage first"))?;
        self.release(page.bytes());
        if let (Some(children), Some(split)) = (&page.end, self.splits.get_mut(number)) {
            split.gone = true;
            let reached = split.reached;
            let children = children.iter().map(|id| (id.clone(), reached));
            self.inherited.extend(children);
            // Its fetcher ends.
            self.effects.wake.push(number);
        }
        Ok(page)
    }

    /// Ends the wait of whoever reads, or the next one.
    pub fn wake_up(&mut self) {
        self.woken = true;
        self.effects.changed = true;
    }

    /// Drops everything.
    pub fn close(&mut self) {
        self.closed = true;
        let announced = self.announced.take();
        let queued = self.splits.drain(..).flat_map(|split| split.queue);
        let announced = announced.into_iter().map(|(_, page)| page);
        let freed: u64 = announced.chain(queued).map(|page| page.bytes()).sum();
        self.held -= freed;
        self.waiting.clear();
        self.effects.changed = true;
    }

    /// The reading of a split ended. Only the first such end counts.
    pub fn fail(&mut self, number: usize, error: CoreError) {
        self.failed.get_or_insert((number, error));
        self.effects.changed = true;
    }

    /// Whether a split may fetch a page for which it sets `reserve` bytes aside. It gives them back in [`Buffer::fetched`] or
    /// [`Buffer::release`].
    pub fn admit(&mut self, number: usize, reserve: u64) -> Admission {
        let reads = self
            .splits
            .get(number)
            .is_some_and(|split| !split.paused && !split.gone);
        if self.failed.is_some() || !reads {
            self.waiting.retain(|waiting| *waiting != number);
            self.wake_next();
            return Admission::Wait;
        }
        if !self.waiting.contains(&number) {
            self.waiting.push_back(number);
        }
        if self.waiting.front() != Some(&number) || !self.make_room(reserve) {
            return Admission::Wait;
        }
        self.held += reserve;
        self.waiting.pop_front();
        self.wake_next();
        let split = &mut self.splits[number];
        Admission::Go(std::mem::take(&mut split.rewound).then(|| {
            Rewound {
                split: split
                    .queue
                    .back()
                    .map_or(&split.delivered, |page| &page.after)
                    .clone(),
                reached: split.reached,
            }
        }))
    }

    /// Whether pages of a split were given back since it last went.
    pub fn is_rewound(&self, number: usize) -> bool {
        self.splits.get(number).is_some_and(|split| split.rewound)
    }

    /// Makes room for `reserve` bytes, if need be by dropping pages of paused splits that hold more than their share: the newest page of
    /// the one that holds most, again and again. Drops nothing when all that may be dropped is not enough.
    fn make_room(&mut self, reserve: u64) -> bool {
        let mut queues: Vec<(usize, Vec<u64>)> = self
            .splits
            .iter()
            .enumerate()
            .filter(|(_, split)| split.paused)
            .map(|(number, split)| (number, split.queue.iter().map(Page::bytes).collect()))
            .collect();
        let mut kept: u64 = queues.iter().flat_map(|(_, pages)| pages).sum();
        let (mut held, mut dropped) = (self.held, Vec::new());
        while held + reserve > self.budget {
            // When all that is held is theirs, nothing else will make room.
            if kept <= self.budget / 2 && kept != held {
                return false;
            }
            let most = queues
                .iter_mut()
                .max_by_key(|(_, pages)| pages.iter().sum::<u64>());
            let Some((number, bytes)) = most.and_then(|(number, pages)| Some((*number, pages.pop()?))) else {
                return false;
            };
            kept -= bytes;
            held -= bytes;
            dropped.push(number);
        }
        for number in dropped {
            self.splits[number].take_back();
        }
        self.held = held;
        true
    }

    /// The requests of a split fail or are throttled.
    pub fn holds(&mut self, number: usize, since: Option<Instant>) {
        if let Some(split) = self.splits.get_mut(number) {
            split.at_rest_until = None;
            split.held_since = since;
        }
    }

    /// A fetch ended well: its page takes the place of the `reserved` bytes.
    pub fn fetched(&mut self, number: usize, reserved: u64, fetched: Fetched) {
        if let Some(split) = self.splits.get_mut(number) {
            split.held_since = fetched.held_since;
            // After pages before it were given back there would be a gap: what came is read again.
            if !split.rewound {
                split.reached = fetched.reached;
                split.at_rest_until = fetched.at_rest_until;
                split.pending = fetched.pending.unwrap_or(split.pending);
                if let Some(page) = fetched.page {
                    if page.end.is_some() {
                        split.pending = 0;
                    }
                    split.size.take(page.records, page.frame.len() as u64);
                    self.held += page.bytes();
                    split.queue.push_back(page);
                    self.effects.changed = true;
                }
            }
        }
        self.release(reserved);
    }

    /// The service holds so many records behind the last page that was fetched of a split. Nothing came of the look but that.
    pub fn holds_back(&mut self, number: usize, pending: u64) {
        if let Some(split) = self.splits.get_mut(number).filter(|split| !split.rewound) {
            split.pending = pending;
        }
    }

    /// Bytes that are not held any more.
    pub fn release(&mut self, bytes: u64) {
        self.held -= bytes;
        self.wake_next();
    }

    /// The split that is next to get room looks again.
    fn wake_next(&mut self) {
        self.effects.wake.extend(self.waiting.front());
    }

    pub fn gauges(&self, now: Now) -> Gauges {
        let announced = self.announced.as_ref().map(|(_, page)| page);
        let splits = || self.splits.iter().filter(|split| !split.gone);
        let waiting = announced.and_then(|page| page.lag_millis(now));
        let lag = splits().map(|split| split.lag_millis(now)).chain(waiting).max();
        let held = splits().filter_map(|split| split.held_since);
        let held = held
            .map(|since| now.instant.saturating_duration_since(since))
            .max();
        let queued: u64 = self.splits.iter().map(SplitState::queued_bytes).sum();
        let each: Vec<_> = splits()
            .map(|split| SplitLag {
                id: split.id.clone(),
                lag_millis: split.lag_millis(now),
                records: split.pending + split.queued_records(),
            })
            .collect();
        let frames = self.splits.iter().flat_map(|split| &split.queue).chain(announced);
        let frames: u64 = frames.map(|page| page.frame.len() as u64).sum();
        let unread: u64 = splits().map(|split| split.size.of(split.pending)).sum();
        let waits = announced.map_or(0, |page| page.records);
        Gauges {
            pending_records: each.iter().map(|split| split.records).sum::<u64>() + waits,
            pending_bytes: unread.saturating_add(frames),
            each,
            lag_millis: lag.unwrap_or(0),
            held_millis: held.unwrap_or_default().as_millis() as u64,
            bytes_buffered: announced.map_or(0, Page::bytes) + queued,
            splits: splits().count() as u64,
            splits_paused: splits().filter(|split| split.paused).count() as u64,
        }
    }
}

/// Up to when a split is read for all that is known before it was asked for, in milliseconds since the epoch.
pub fn start_millis(split: &Split, now: Now) -> i64 {
    match (split.start, &split.continuation) {
        (Start::PointInTime(millis), None) => millis.min(now.epoch_millis),
        _ => now.epoch_millis,
    }
}

fn millis_since(then: i64, now: Now) -> u64 {
    u64::try_from(now.epoch_millis.saturating_sub(then)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{Mode, Stop};
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000;

    fn now(later: Duration) -> Now {
        Now {
            instant: Instant::now() + later,
            epoch_millis: NOW + later.as_millis() as i64,
        }
    }

    fn split(min: &str) -> Split {
        Split {
            ordinal: 0,
            container_rid: "r".to_owned(),
            min: min.to_owned(),
            max: "FF".to_owned(),
            start: Start::Beginning,
            continuation: None,
            mode: Mode::LatestVersion,
            stop: Stop::Never,
            then: None,
            fingerprint: None,
        }
    }

    /// The `n`th page of a split.
    fn page(min: &str, n: usize, bytes: usize) -> Page {
        Page {
            frame: Vec::with_capacity(bytes).into(),
            records: 1,
            undecodable: 0,
            nulled: 0,
            filtered: 0,
            after: Split {
                ordinal: n as u32,
                ..split(min)
            },
            behind: NOW,
            queued: Instant::now(),
            end: None,
        }
    }

    /// A buffer of 1000 bytes with a split for each number, which has so many pages of 100 bytes.
    fn buffer(queues: &[usize]) -> Buffer {
        let mut buffer = Buffer::new(1000);
        let ids: Vec<_> = (0..queues.len()).map(|i| format!("{i:02}")).collect();
        let splits: Vec<_> = ids.iter().map(|id| split(id)).collect();
        buffer.add(&splits, now(Duration::ZERO)).unwrap();
        for (number, pages) in queues.iter().enumerate() {
            for n in 0..*pages {
                buffer.splits[number]
                    .queue
                    .push_back(page(&ids[number], n + 1, 100));
                buffer.held += 100;
            }
        }
        buffer
    }

    fn goes(buffer: &mut Buffer, number: usize, reserve: u64) -> bool {
        buffer.admit(number, reserve) != Admission::Wait
    }

    fn pause(buffer: &mut Buffer, number: usize) {
        let id = buffer.splits[number].id.clone();
        buffer.pause_or_resume(&[id], &[]).unwrap();
    }

    #[test]
    fn room_is_given_in_the_order_in_which_it_was_asked_for() {
        let mut b = buffer(&[0, 0, 9]);
        assert!(!goes(&mut b, 0, 400));
        assert!(!goes(&mut b, 1, 100), "it would fit, but is not its turn");
        b.release(300);
        assert_eq!(b.effects().wake, [0], "whose turn it is");
        assert!(!goes(&mut b, 1, 100));
        assert!(goes(&mut b, 0, 400));
        assert_eq!(b.effects().wake, [1]);
        assert!(!goes(&mut b, 1, 100));
        // Who is paused does not stand in the way.
        pause(&mut b, 1);
        assert!(b.effects().wake.contains(&1), "it leaves the line by itself");
        assert!(!goes(&mut b, 1, 100));
        b.release(400);
        assert!(goes(&mut b, 2, 100));
    }

    #[test]
    fn paused_splits_give_back_what_is_over_half_and_only_to_who_waits() {
        let mut b = buffer(&[7, 0, 1]);
        pause(&mut b, 0);
        assert_eq!(b.held, 800);
        assert!(goes(&mut b, 1, 200), "nothing need be given back");
        assert_eq!(b.splits[0].queue.len(), 7);
        assert!(goes(&mut b, 1, 200));
        assert_eq!((b.splits[0].queue.len(), b.is_rewound(0)), (5, true));
        // Its half is safe as long as others can go on.
        assert!(!goes(&mut b, 1, 200));
        assert_eq!(b.splits[0].queue.len(), 5);
        // All that is held is its own: nothing else would ever make room.
        b.splits[2].queue.clear();
        b.release(500);
        assert_eq!(b.held, 500);
        // What would not be enough is not given back in vain.
        assert!(!goes(&mut b, 1, 1001));
        assert_eq!(b.splits[0].queue.len(), 5);
        assert!(goes(&mut b, 1, 900));
        assert_eq!(b.splits[0].queue.len(), 1);
    }

    #[test]
    fn lag_counts_what_waits_for_the_job() {
        let mut b = buffer(&[1]);
        let a = &mut b.splits[0];
        let start = now(Duration::ZERO);
        a.reached = NOW;
        a.at_rest_until = Some(start.instant + LATE * 10);
        a.queue[0].behind = NOW - 7000;
        a.queue[0].queued = start.instant;
        let later = Now {
            instant: start.instant + LATE,
            epoch_millis: NOW + 1000,
        };
        assert_eq!(b.gauges(start).lag_millis, 0, "it came just now");
        assert_eq!(b.gauges(later).lag_millis, 8000);
        b.splits[0].queue.clear();
        assert_eq!(b.gauges(later).lag_millis, 0);
        b.splits[0].paused = true;
        assert_eq!(b.gauges(later).lag_millis, 1000);
    }

    #[test]
    fn splits_have_a_turn_each_and_a_failure_comes_behind_the_pages_of_its_own() {
        let mut b = buffer(&[3, 0, 2]);
        let next = |b: &mut Buffer| {
            b.next().map(|turn| match turn {
                Turn::Page(_) => b.take().unwrap().after.min,
                other => format!("{other:?}"),
            })
        };
        let taken: Vec<_> = (0..3).map(|_| next(&mut b).unwrap()).collect();
        assert_eq!(taken, ["00", "02", "00"]);
        b.fail(2, CoreError::internal("first"));
        b.fail(0, CoreError::internal("second"));
        assert!(b.effects().changed);
        assert_eq!(next(&mut b).unwrap(), "02");
        assert_eq!(next(&mut b).unwrap_err().message, "first");
        assert_eq!(next(&mut b).unwrap_err().message, "first", "at each call");
        assert!(!goes(&mut b, 1, 1), "nobody reads on");
        b.wake_up();
        assert_eq!(next(&mut b).unwrap(), "Woken");
        b.close();
        assert_eq!(next(&mut b).unwrap_err().kind, Kind::Closed);
        assert_eq!(b.take().map(drop).unwrap_err().kind, Kind::Closed);
        assert_eq!(b.held, 0);
    }

    #[test]
    fn a_split_that_is_there_is_refused_with_all_that_come_with_it() {
        let mut b = buffer(&[0]);
        let error = b
            .add(&[split("01"), split("00")], now(Duration::ZERO))
            .unwrap_err();
        assert_eq!((error.kind, b.splits.len()), (Kind::State, 1));
        assert!(b.add(&[split("01"), split("01")], now(Duration::ZERO)).is_err());
        assert_eq!(b.add(&[split("01")], now(Duration::ZERO)).unwrap(), 1);
    }

    /// A fetcher as the buffer sees it.
    #[derive(Clone, Default)]
    struct Fetcher {
        /// Its last page; the next is one more.
        at: usize,
        reserved: Option<u64>,
        /// It was woken, or looks for the first time or behind a page.
        looks: bool,
    }

    proptest! {
        /// Whatever happens, each split's pages come in order and once, what is held is what is there, and all comes in the end: by
        /// the wake-ups alone.
        #[test]
        fn pages_come_in_order_and_all_come(
            seed: u64,
            splits in 1usize..5,
            steps in 0usize..300,
        ) {
            const RESERVE: u64 = 300;
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut b = buffer(&vec![0; splits]);
            let ids: Vec<_> = b.splits.iter().map(|s| s.id.clone()).collect();
            let mut fetchers = vec![Fetcher { looks: true, ..Fetcher::default() }; splits];
            let (mut delivered, mut paused) = (vec![0; splits], vec![false; splits]);
            let mut before = delivered.clone();
            for step in 0..steps + 4000 {
                // In the end everything goes on, and nobody looks without being woken.
                let end = step >= steps;
                if step == steps {
                    before.clone_from(&delivered);
                    b.pause_or_resume(&[], &ids).unwrap();
                    paused.fill(false);
                }
                let number = rng.usize(..splits);
                match rng.u8(..if end { 3 } else { 6 }) {
                    0 if fetchers[number].looks && fetchers[number].reserved.is_none() => {
                        match b.admit(number, RESERVE) {
                            Admission::Wait => fetchers[number].looks = false,
                            Admission::Go(rewound) => {
                                prop_assert!(!paused[number]);
                                if let Some(rewound) = rewound {
                                    let at = rewound.split.ordinal as usize;
                                    prop_assert!(at < fetchers[number].at && at >= delivered[number]);
                                    fetchers[number].at = at;
                                }
                                fetchers[number].reserved = Some(RESERVE);
                            }
                        }
                    }
                    1 => if let Some(reserved) = fetchers[number].reserved.take() {
                        if rng.u8(..4) == 0 {
                            b.release(reserved);
                        } else {
                            fetchers[number].at += 1;
                            let page = page(&ids[number][..2], fetchers[number].at, rng.usize(1..300));
                            let fetched = Fetched { page: Some(page), reached: NOW, at_rest_until: None, held_since: None, pending: None };
                            b.fetched(number, reserved, fetched);
                        }
                    },
                    2 => if let Turn::Page(_) = b.next().unwrap() {
                        let page = b.take().unwrap();
                        let from = ids.iter().position(|id| id[..2] == page.after.min).unwrap();
                        delivered[from] += 1;
                        prop_assert_eq!(page.after.ordinal as usize, delivered[from]);
                    },
                    3 => {
                        b.pause_or_resume(std::slice::from_ref(&ids[number]), &[]).unwrap();
                        paused[number] = true;
                    }
                    4 => {
                        b.pause_or_resume(&[], std::slice::from_ref(&ids[number])).unwrap();
                        paused[number] = false;
                    }
                    _ => {}
                }
                for woken in b.effects().wake {
                    fetchers[woken].looks = true;
                }
                let reserved: u64 = fetchers.iter().filter_map(|f| f.reserved).sum();
                let pages = b.gauges(now(Duration::ZERO)).bytes_buffered;
                prop_assert_eq!(b.held, reserved + pages);
                // A page takes no more than was set aside for it.
                prop_assert!(b.held <= 1000);
            }
            for (number, delivered) in delivered.iter().enumerate() {
                let came = delivered - before[number];
                prop_assert!(came > 20, "only {} pages of split {} came", came, number);
            }
        }
    }

    /// Takes the next page.
    fn taken(buffer: &mut Buffer) -> Page {
        assert!(matches!(buffer.next().unwrap(), Turn::Page(_)));
        buffer.take().unwrap()
    }

    /// The last page of split `min`, whose children are these.
    fn last(min: &str, children: &[&str]) -> Fetched {
        let ids = children.iter().map(|child| split(child).id()).collect();
        Fetched {
            page: Some(Page {
                records: 0,
                end: Some(ids),
                ..page(min, 9, 10)
            }),
            reached: NOW - 5000,
            at_rest_until: None,
            held_since: None,
            pending: None,
        }
    }

    #[test]
    fn a_split_is_gone_once_its_last_page_is_taken_and_its_children_go_on_where_it_was() {
        let mut buffer = buffer(&[1, 0]);
        buffer.fetched(0, 0, last("00", &["10", "80"]));
        taken(&mut buffer);
        buffer.effects();
        assert!(!buffer.is_gone(0), "its last page waits");
        taken(&mut buffer);
        assert!(buffer.is_gone(0));
        assert_eq!(buffer.effects().wake, [0], "its fetcher ends");
        let later = now(Duration::ZERO);
        assert_eq!(buffer.gauges(later).splits, 1);
        // Its number stays unused, and its id may come again.
        assert_eq!(
            buffer
                .add(&[split("10"), split("80"), split("00")], later)
                .unwrap(),
            2
        );
        assert_eq!(buffer.reached(2), Some(NOW - 5000));
        assert_eq!(buffer.reached(3), Some(NOW - 5000));
        assert_eq!(buffer.reached(4), Some(NOW), "that is another one");
        assert_eq!(buffer.gauges(later).splits, 4);
        assert_eq!(buffer.admit(0, 10), Admission::Wait);
        // What holds it back comes late.
        buffer.pause_or_resume(&[split("10").id()], &[]).unwrap();
        assert_eq!(buffer.gauges(later).splits_paused, 1);
    }

    #[test]
    fn a_pause_of_a_split_that_has_ended_is_passed_over() {
        let mut buffer = buffer(&[0]);
        buffer.fetched(0, 0, last("00", &[]));
        taken(&mut buffer);
        buffer.pause_or_resume(&[split("00").id()], &[]).unwrap();
        buffer.pause_or_resume(&[], &[split("00").id()]).unwrap();
        assert_eq!(buffer.gauges(now(Duration::ZERO)).splits_paused, 0);
        assert!(buffer.pause_or_resume(&["never".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_last_page_that_was_given_back_is_read_again() {
        let mut buffer = buffer(&[6, 0]);
        buffer.fetched(0, 0, last("00", &["10", "80"]));
        buffer.pause_or_resume(&[split("00").id()], &[]).unwrap();
        // The other one needs more than there is beside what the paused one holds.
        assert!(matches!(buffer.admit(1, 395), Admission::Go(None)));
        assert!(buffer.is_rewound(0) && !buffer.is_gone(0));
        buffer.pause_or_resume(&[], &[split("00").id()]).unwrap();
        let Admission::Go(Some(rewound)) = buffer.admit(0, 5) else {
            panic!("it goes on before its last page")
        };
        assert_eq!(rewound.split.ordinal, page("00", 6, 0).after.ordinal);
    }
}
