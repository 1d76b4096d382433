//! What a split enumerator decides, as a pure state machine: an [`Event`] goes in, [`Action`]s come out. It reads no clock, does no I/O
//! and iterates in a fixed order only, so that the same events always give the same actions. The shims translate Flink's calls into
//! events and actions into Flink's calls; `docs/boundary.md` has the frames, `docs/adr/0024` the reasons.
//!
//! A reader that ends a split in favour of several, because its range has become several partitions, tells nobody: they cover the range of
//! the one that is known here, which stays until a reader reports them, or its state has them. So what is reported or comes back is compared by
//! its range, and takes from each split that is known the part that it covers.
//!
//! After a regional failover this machine is not restored, only the readers are. It needs no restoring: splits given out since the last
//! checkpoint come back, the others are in the readers' own state, or are reported when the reader registers again where Flink does that.

mod backlog;
mod merge;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

pub use wire::{decode_discovery, decode_event, encode_actions, encode_discovery, encode_event};

use self::backlog::Backlog;
use crate::bound::{self, Bound, Bounds};
use crate::config::{Auth, Config, SecretSource, Start, StopAt};
use crate::error::{CoreError, Kind, Result};
use crate::split::{self, Mode, Reads, Split, SplitEntry, Stop};

/// 401: the credential itself is refused.
const UNAUTHORIZED: u16 = 401;

/// What the coordinator must know of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the container, for messages.
    pub container: String,
    /// What is read of it: a state of something else is refused.
    pub reads: Reads,
    /// Pause between two looks for feed ranges in milliseconds; 0 looks once, and not at all after a restore.
    pub discovery_interval_ms: u64,
    /// Whether the readers end: then no feed range is looked for once all are known, and readers are told when no split comes any more.
    pub bounded: bool,
    /// As many splits as there are to be at least: no fewer are left where neighbours become one.
    pub min_splits: usize,
    /// Lag of a reader in milliseconds from which on there is a backlog; 0: nothing is said about it.
    pub backlog_threshold_ms: u64,
    /// Whether the account key is among the options themselves, so that every restart brings the same one.
    pub key_in_graph: bool,
}

impl Settings {
    /// Those of a job's options.
    pub fn of(config: &Config) -> Settings {
        Settings {
            container: config.container.clone(),
            reads: Reads::of(config),
            discovery_interval_ms: match config.is_bounded() {
                // What is read ends, and with it the look for more of it.
                true => 0,
                false => u64::try_from(config.discovery_interval.as_millis()).unwrap_or(u64::MAX),
            },
            bounded: config.is_bounded(),
            min_splits: config.min_splits,
            backlog_threshold_ms: config
                .backlog_threshold
                // Of what ends Flink knows itself that it is a backlog: a HybridSource says so for all of its parts but the last.
                .filter(|_| !config.is_bounded())
                .map_or(0, |lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            key_in_graph: matches!(config.account.auth, Auth::Key(SecretSource::Value(_))),
        }
    }
}

/// The readers as they are when an event happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// How many there are to be.
    pub parallelism: u32,
    /// The subtasks that are there, to which splits may be assigned.
    pub registered: BTreeSet<u32>,
}

/// Why something failed, as far as it decides what becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// HTTP status of the service, 0: none.
    pub status: u16,
    /// Sub-status of the service, 0: none.
    pub sub_status: u32,
    /// Whether it is there again after a restart of the job, whenever that is; see [`CoreError::outlives_restart`].
    pub outlives_restart: bool,
    /// Activity id of the request; empty: none.
    pub activity_id: String,
    /// Never holds a secret.
    pub message: String,
}

impl From<&CoreError> for Failure {
    fn from(error: &CoreError) -> Self {
        Failure {
            kind: error.kind,
            status: error.status,
            sub_status: error.sub_status,
            outlives_restart: error.outlives_restart(),
            activity_id: error.activity_id.clone(),
            message: error.message.clone(),
        }
    }
}

/// What a look for feed ranges finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Splits of the ranges that none covered when the look began.
    pub splits: Vec<Split>,
    /// The ranges of the physical partitions, in order; empty where the look did not ask for them.
    pub partitions: Vec<(String, String)>,
}

/// What happens to an enumerator.
#[expect(missing_docs, reason = "a variant says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Flink has started it.
    Started,
    /// A look for feed ranges has ended. It may have begun any number of events ago.
    Discovered(std::result::Result<Found, Failure>),
    /// A reader is there, and will take splits. Where Flink reports them (2.2 and later), it says which it was restored with; it has none
    /// of them until they are assigned again.
    ReaderRegistered { subtask: u32, reported: Vec<Split> },
    /// A reader has failed and begins again from a checkpoint that does not hold these splits. Comes for every reader that begins again,
    /// also without splits.
    SplitsBack { subtask: u32, splits: Vec<Split> },
    /// A reader asks for a split. Splits are pushed, so that it gets what waits for it anyway.
    SplitRequested { subtask: u32 },
    /// A reader is so far behind now. It says so when it begins and whenever that may change something.
    LagReported { subtask: u32, lag_millis: u64 },
    /// A checkpoint asks for the state.
    CheckpointTaken { id: u64 },
    /// Nothing depends on it.
    CheckpointCompleted { id: u64 },
    /// Nothing depends on it.
    CheckpointAborted { id: u64 },
    /// Nothing is done from now on.
    Closed,
    /// Another source may go on behind this one: what would be the state to begin with? Nobody need ever use it, so that a
    /// [`Action::Fail`] is the answer to whoever does, and nothing that happened to this source.
    Followed,
}

/// What is to be done.
#[expect(missing_docs, reason = "a variant says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look for feed ranges at once, and again each `period_ms` milliseconds; 0: only once.
    Discover { period_ms: u64 },
    /// Give splits to registered readers, by subtask. Never empty.
    Assign(BTreeMap<u32, Vec<Split>>),
    /// Fail the job; `ends` it for good when a restart does not help.
    Fail { failure: Failure, ends: bool },
    /// Tell these registered readers that no split comes any more, so that they end once they have read theirs. Never empty.
    NoMoreSplits(BTreeSet<u32>),
    /// The answer to [`Event::CheckpointTaken`] and [`Event::Followed`]: durable bytes.
    State(Vec<u8>),
    /// Say that the source processes a backlog from now on, or that it does not.
    Backlog(bool),
    /// For the log only: the readers go on without what failed.
    Warn(Failure),
}

/// Who has a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody: it waits for a reader.
    None,
    Subtask(u32),
    /// A reader, which one is not known: it was assigned when the restored checkpoint was taken.
    Unknown,
}

struct Entry {
    split: Split,
    owner: Owner,
    /// Who had it last, while nobody has it.
    before: Option<u32>,
}

/// The decisions of one split enumerator.
pub struct Coordinator {
    settings: Settings,
    /// Whether the job was just submitted: it has neither run nor tried to, nor has it state.
    first_start: bool,
    /// By ordinal, which those have in common that go on in place of one split, and by the lower bound of the range. No two overlap.
    splits: BTreeMap<(u32, String), Entry>,
    /// Readers whose registration has been seen since their last reset: what they reported is taken once.
    registered: BTreeSet<u32>,
    /// Whether a reader has reported splits, so that no registered one has any that it did not report.
    reports: bool,
    /// Readers that were told since their last reset that no split comes any more: nothing may be given to them.
    told: BTreeSet<u32>,
    /// Whether there was state to go on from. Then a reader may have ended before, which never comes again, and nothing is kept for it.
    restored: bool,
    /// Whether the splits of a state are still to be given out, once all readers are there.
    to_be_spread: bool,
    /// Whether the look that the start has asked for has not ended.
    looking: bool,
    /// The physical partitions as of the last look; empty: not known.
    partitions: Ranges,
    backlog: Backlog,
    closed: bool,
}

impl Coordinator {
    /// A coordinator that goes on from the durable state of another, or begins when `state` is empty.
    ///
    /// `first_start` says that no enumerator of this job was there before.
    ///
    /// # Errors
    /// [`Kind::State`] for foreign, damaged or newer bytes, and for those of a source that reads something else, or up to elsewhere.
    pub fn new(settings: Settings, state: &[u8], first_start: bool) -> Result<Coordinator> {
        let restored = match state {
            [] => Vec::new(),
            bytes => split::decode_state(bytes)?,
        };
        let mut coordinator = Coordinator {
            restored: !restored.is_empty(),
            to_be_spread: !restored.is_empty() && !settings.bounded,
            looking: false,
            partitions: Vec::new(),
            told: BTreeSet::new(),
            first_start: first_start && restored.is_empty(),
            settings,
            splits: BTreeMap::new(),
            registered: BTreeSet::new(),
            reports: false,
            backlog: Backlog::default(),
            closed: false,
        };
        for entry in restored {
            coordinator.settings.reads.check(&entry.split)?;
            let owner = if entry.assigned {
                Owner::Unknown
            } else {
                Owner::None
            };
            coordinator
                .insert(entry.split, owner, None)
                .map_err(|e| CoreError::state(format!("the enumerator's state is damaged: {e}")))?;
        }
        Ok(coordinator)
    }

    /// Decides. After [`Event::Closed`] nothing is done whatever happens.
    pub fn on(&mut self, readers: &Readers, event: Event) -> Vec<Action> {
        if self.closed {
            return Vec::new();
        }
        let mut actions = Vec::new();
        let result = match event {
            Event::Started => {
                // What was said before a failover stays until something else is said.
                if self.settings.backlog_threshold_ms > 0 {
                    actions.push(Action::Backlog(false));
                }
                let period_ms = self.settings.discovery_interval_ms;
                if period_ms > 0 || !self.gaps().is_empty() {
                    self.looking = true;
                    actions.push(Action::Discover { period_ms });
                }
                return actions;
            }
            Event::Discovered(found) => {
                self.looking = false;
                match found {
                    Ok(found) => {
                        self.partitions = found.partitions;
                        self.add_found(found.splits, &mut actions)
                    }
                    Err(failure) => {
                        let judged = self.judge(failure);
                        let goes_on = matches!(judged, Action::Warn(_));
                        actions.push(judged);
                        if !goes_on {
                            return actions;
                        }
                        // Readers may wait for what it would have found.
                        Ok(())
                    }
                }
            }
            Event::ReaderRegistered { subtask, reported } => self.take_reported(subtask, reported),
            Event::SplitsBack { subtask, splits } => {
                let change = self.backlog.forget(self.settings.backlog_threshold_ms, subtask);
                actions.extend(change.map(Action::Backlog));
                self.take_back(subtask, splits)
            }
            Event::SplitRequested { .. } => Ok(()),
            Event::Followed => match self.following() {
                Ok(state) => return vec![Action::State(state)],
                Err(error) => Err(error),
            },
            Event::LagReported { subtask, lag_millis } => {
                let threshold = self.settings.backlog_threshold_ms;
                let change = self
                    .backlog
                    .reported(threshold, subtask, lag_millis, readers.parallelism);
                actions.extend(change.map(Action::Backlog));
                return actions;
            }
            Event::CheckpointTaken { .. } => return vec![Action::State(split::encode_state(&self.known()))],
            Event::CheckpointCompleted { .. } | Event::CheckpointAborted { .. } => return actions,
            Event::Closed => {
                self.closed = true;
                return actions;
            }
        };
        match result {
            Ok(()) => {
                actions.extend(self.assign(readers));
                actions.extend(self.tell(readers));
            }
            Err(error) => actions.push(Action::Fail {
                failure: Failure::from(&error),
                ends: error.outlives_restart(),
            }),
        }
        actions
    }

    /// The state of a source that reads the change feed from where the splits of this one stop, without end.
    fn following(&self) -> Result<Vec<u8>> {
        if let Some((min, max)) = self.gaps().first() {
            return Err(CoreError::new(
                Kind::Transient,
                format!("nothing can go on behind this source yet: nobody has looked for the feed range [{min}, {max})"),
            ));
        }
        let entries = self.splits.values().map(|entry| {
            let Stop::At(position) = &entry.split.stop else {
                return Err(CoreError::config(format!(
                    "nothing can go on behind this source: split {} has no position to stop at{}",
                    entry.split.id(),
                    match self.settings.reads.stop == StopAt::Start {
                        // A stop is fixed when splits are found.
                        true => ", since its state was written without scan.bounded.mode latest; start the job without that state",
                        false => "; set its scan.bounded.mode to latest",
                    }
                )));
            };
            Ok(SplitEntry {
                split: Split {
                    mode: Mode::LatestVersion,
                    start: Start::Now,
                    continuation: Some(position.clone()),
                    stop: Stop::Never,
                    then: None,
                    fingerprint: None,
                    ..entry.split.clone()
                },
                assigned: false,
            })
        });
        Ok(split::encode_state(&entries.collect::<Result<Vec<_>>>()?))
    }

    /// Splits that no reader has.
    pub fn unassigned(&self) -> usize {
        self.splits.values().filter(|e| e.owner == Owner::None).count()
    }

    /// All splits in the order of their ordinals: what a look for feed ranges starts from.
    pub fn known(&self) -> Vec<SplitEntry> {
        self.splits
            .values()
            .map(|e| SplitEntry {
                split: e.split.clone(),
                assigned: e.owner != Owner::None,
            })
            .collect()
    }

    fn insert(&mut self, split: Split, owner: Owner, before: Option<u32>) -> Result<()> {
        if let Some(other) = self.splits.values().find(|e| overlap(&e.split, &split)) {
            return Err(CoreError::internal(format!(
                "splits {} and {} overlap; report this as a bug of cosmosflink",
                other.split.id(),
                split.id()
            )));
        }
        let key = (split.ordinal, split.min.clone());
        self.splits.insert(key, Entry { split, owner, before });
        Ok(())
    }

    /// The parts of the key space that no split covers.
    fn gaps(&self) -> Ranges {
        split::gaps(self.splits.values().map(|entry| &entry.split))
    }

    /// Adds what is not covered by now: the splits were found when less may have been known.
    fn add_found(&mut self, found: Vec<Split>, actions: &mut Vec<Action>) -> Result<()> {
        let mut gaps = self.gaps();
        for split in found {
            let (free, rest) = cut(&gaps, &split);
            gaps = rest;
            let ordinal = self.splits.keys().next_back().map_or(0, |(last, _)| last + 1);
            if free == [(split.min.clone(), split.max.clone())] {
                // The number that it was found with may be taken by now.
                self.insert(Split { ordinal, ..split }, Owner::None, None)?;
                continue;
            }
            if split.continuation.is_some() && !free.is_empty() {
                // Its position is one of the whole range: the next look finds the part with a position of its own.
                if self.settings.discovery_interval_ms == 0 {
                    actions.push(Action::Discover { period_ms: 0 });
                }
                continue;
            }
            for (ordinal, (min, max)) in (ordinal..).zip(free) {
                let part = Split {
                    ordinal,
                    min,
                    max,
                    ..split.clone()
                };
                self.insert(part, Owner::None, None)?;
            }
        }
        Ok(())
    }

    /// A failure to find feed ranges fails the job while there are none; later the readers go on without, unless it is final, or no other look
    /// follows.
    fn judge(&self, failure: Failure) -> Action {
        let begun = !self.splits.is_empty();
        let ends = self.is_final(&failure, self.first_start && !begun);
        if begun && !ends && self.settings.discovery_interval_ms > 0 {
            return Action::Warn(Failure {
                message: format!(
                    "cannot look for new feed ranges, will try again: {}",
                    failure.message
                ),
                ..failure
            });
        }
        Action::Fail {
            failure: Failure {
                message: format!(
                    "cannot find the feed ranges of container {}: {}",
                    self.settings.container, failure.message
                ),
                ..failure
            },
            ends,
        }
    }

    /// Whether a restart does not help. A missing container or wrong options do not go away. A refused key does not when it is in the job
    /// graph, since every attempt brings the same one; a key in a file may have been rotated and an identity's role may still be on its
    /// way, so that they end a job at its very first start only, where a mistake is likely.
    fn is_final(&self, failure: &Failure, first_start: bool) -> bool {
        // 403 may be a firewall that is about to be opened, whatever the key.
        let same_key = self.settings.key_in_graph && failure.status == UNAUTHORIZED;
        failure.outlives_restart || (failure.kind == Kind::Auth && (first_start || same_key))
    }

    /// What a reader was restored with is to be assigned anew, unless it is elsewhere by now: until the next completed checkpoint a split
    /// can be reported by a reader that had it, while it was given to another one or waits for one.
    fn take_reported(&mut self, subtask: u32, reported: Vec<Split>) -> Result<()> {
        // It may have ended and begun anew, without a word in between where it had nothing to give back.
        self.told.remove(&subtask);
        if !self.registered.insert(subtask) {
            // The same registration once more: it has its splits.
            return Ok(());
        }
        self.reports |= !reported.is_empty();
        for split in reported {
            self.release(subtask, split, |owner| match owner {
                Owner::Subtask(other) => other == subtask,
                Owner::Unknown => true,
                Owner::None => false,
            })?;
        }
        Ok(())
    }

    /// Splits wait for a reader again, at the position that they come with, unless another reader has them by now.
    fn take_back(&mut self, subtask: u32, splits: Vec<Split>) -> Result<()> {
        self.registered.remove(&subtask);
        self.told.remove(&subtask);
        for split in splits {
            self.release(subtask, split, |owner| match owner {
                Owner::Subtask(other) => other == subtask,
                Owner::Unknown | Owner::None => true,
            })?;
        }
        Ok(())
    }

    /// The split, which `subtask` had, waits for a reader, as far as its range is nobody's or that of an owner that it is taken `from`. What of
    /// the owner's splits is outside of its range stays with the owner. A position is valid for each part of its range.
    fn release(&mut self, subtask: u32, split: Split, from: impl Fn(Owner) -> bool) -> Result<()> {
        let mut free = cut(&self.gaps(), &split).0;
        let taken = self.splits.iter();
        let taken: Vec<_> = taken
            .filter(|(_, e)| overlap(&e.split, &split) && from(e.owner))
            .map(|(key, _)| key.clone())
            .collect();
        for key in taken {
            let Some(entry) = self.splits.remove(&key) else {
                continue;
            };
            let whole = (entry.split.min.clone(), entry.split.max.clone());
            let (inside, outside) = cut(&[whole], &split);
            free.extend(inside);
            for (min, max) in outside {
                let left = Split {
                    min,
                    max,
                    ..entry.split.clone()
                };
                self.insert(left, entry.owner, entry.before)?;
            }
        }
        for (min, max) in joined(free) {
            let part = Split {
                min,
                max,
                ..split.clone()
            };
            self.insert(part, Owner::None, Some(subtask))?;
        }
        Ok(())
    }

    /// Gives waiting splits to registered readers. What a reader had goes back to it, however much that is: another one, which did not fail,
    /// may have passed the split's records by, and its watermark never goes back. Of the others each goes to the reader that has fewest, the
    /// lowest of those. With all `S` splits on `p` readers, `S mod p` of them have one more than the others: what goes beyond waits for readers
    /// that are not there yet.
    ///
    /// After a restore the splits are spread once, evenly, and go back to the reader that had them only within that. No reader begins before
    /// all have said what they have: one that did would have passed by what others report. Where readers end nothing is kept for one of which
    /// it is not known that it comes: then each begins at once, and there is no share. Where neighbours may become one, a look that is under way says
    /// whether they do: it is waited for, well or not.
    fn assign(&mut self, readers: &Readers) -> Option<Action> {
        let parallelism = readers.parallelism as usize;
        if parallelism == 0 {
            return None;
        }
        let spreads = self.to_be_spread;
        if spreads {
            let is_there = |n| readers.registered.contains(&n) && self.registered.contains(&n);
            if !(0..readers.parallelism).all(is_there) {
                return None;
            }
            if self.looking && self.may_merge() {
                return None;
            }
            self.to_be_spread = false;
            self.merge();
        }
        // Whether what one reader had may go to another one.
        let moves = spreads || (self.settings.bounded && self.restored);
        let mut load = self.load(parallelism, &readers.registered);
        let (share, rest) = match self.settings.bounded && self.restored {
            true => (usize::MAX, 0),
            false => (self.splits.len() / parallelism, self.splits.len() % parallelism),
        };
        let mut above = load.iter().filter(|n| **n > share).count();
        let mut assignment: BTreeMap<u32, Vec<Split>> = BTreeMap::new();
        // Whether the reader takes it.
        let mut offer = |entry: &mut Entry, reader: u32, load: &mut [usize], in_any_case: bool| {
            let has = &mut load[reader as usize];
            if !in_any_case && (*has > share || (*has == share && above >= rest)) {
                return false;
            }
            above += usize::from(*has == share);
            *has += 1;
            (entry.owner, entry.before) = (Owner::Subtask(reader), None);
            assignment.entry(reader).or_default().push(entry.split.clone());
            true
        };
        let there = readers.registered.range(..readers.parallelism).copied();
        let there: Vec<u32> = there.filter(|reader| !self.told.contains(reader)).collect();
        let waiting = |entry: &&mut Entry| entry.owner == Owner::None;
        for entry in self.splits.values_mut().filter(waiting) {
            if let Some(before) = entry.before.filter(|before| there.contains(before)) {
                offer(entry, before, &mut load, !moves);
            }
        }
        let mut idle: BTreeSet<(usize, u32)> = there.iter().map(|r| (load[*r as usize], *r)).collect();
        let free = |entry: &&mut Entry| entry.owner == Owner::None && (moves || entry.before.is_none());
        for entry in self.splits.values_mut().filter(free) {
            let Some((_, reader)) = idle.pop_first() else {
                break;
            };
            if !offer(entry, reader, &mut load, false) {
                break;
            }
            idle.insert((load[reader as usize], reader));
        }
        (!assignment.is_empty()).then_some(Action::Assign(assignment))
    }

    /// The keys of all splits, in the order of their ranges.
    fn in_order(&self) -> Vec<(u32, String)> {
        let mut keys: Vec<_> = self.splits.keys().cloned().collect();
        keys.sort_by(|(_, a), (_, b)| Bound(a).cmp(&Bound(b)));
        keys
    }

    /// Two neighbours as one, where both wait for a reader and their positions allow it.
    fn as_one(&self, low: &(u32, String), high: &(u32, String)) -> Option<Split> {
        let waiting = |key| self.splits.get(key).filter(|entry| entry.owner == Owner::None);
        merge::as_one(&waiting(low)?.split, &waiting(high)?.split)
    }

    /// How many splits may go.
    fn spare(&self) -> usize {
        self.splits.len().saturating_sub(self.settings.min_splits)
    }

    /// Whether neighbours may become one, for all that is known without a look.
    fn may_merge(&self) -> bool {
        let keys = self.in_order();
        self.spare() > 0
            && keys
                .windows(2)
                .any(|pair| self.as_one(&pair[0], &pair[1]).is_some())
    }

    /// Neighbours in one physical partition that were read equally far become one again, as long as enough splits are left.
    fn merge(&mut self) {
        let mut spare = self.spare();
        let mut low: Option<(u32, String)> = None;
        for key in self.in_order() {
            let both = low
                .as_ref()
                .filter(|_| spare > 0)
                .and_then(|low| self.as_one(low, &key));
            match (
                both.filter(|both| merge::within_one(&self.partitions, both.range())),
                &low,
            ) {
                (Some(both), Some(low)) => {
                    spare -= 1;
                    self.splits.remove(&key);
                    if let Some(entry) = self.splits.get_mut(low) {
                        entry.split = both;
                    }
                }
                _ => low = Some(key),
            }
        }
    }

    /// Readers that get no split any more, because all are known, and those that wait are kept for others. Each is told as soon as that is so:
    /// a batch job may have fewer slots than readers, and begins one when another has ended.
    fn tell(&mut self, readers: &Readers) -> Option<Action> {
        if !self.settings.bounded || !self.gaps().is_empty() {
            return None;
        }
        let untold: BTreeSet<u32> = readers.registered.difference(&self.told).copied().collect();
        self.told.extend(&untold);
        (!untold.is_empty()).then_some(Action::NoMoreSplits(untold))
    }

    /// How many splits each reader has. Those of which it is not known who has them are counted evenly, as Flink spreads them: with all
    /// readers, or, where readers report theirs, with those that have not done so yet.
    fn load(&self, parallelism: usize, registered: &BTreeSet<u32>) -> Vec<usize> {
        let mut load = vec![0; parallelism];
        let mut unknown = 0;
        for entry in self.splits.values() {
            match entry.owner {
                Owner::None => {}
                Owner::Subtask(subtask) if (subtask as usize) < parallelism => load[subtask as usize] += 1,
                Owner::Subtask(_) | Owner::Unknown => unknown += 1,
            }
        }
        let is_out = |subtask: &usize| self.reports && registered.contains(&(*subtask as u32));
        let mut holders: Vec<usize> = (0..parallelism).filter(|s| !is_out(s)).collect();
        if holders.is_empty() {
            holders = (0..parallelism).collect();
        }
        for (n, subtask) in holders.iter().enumerate() {
            load[*subtask] += unknown / holders.len() + usize::from(n < unknown % holders.len());
        }
        load
    }
}

fn overlap(a: &Split, b: &Split) -> bool {
    bound::overlap(a.range(), b.range())
}

type Ranges = Vec<(String, String)>;

/// The ranges in order, with those that follow each other as one.
fn joined(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable_by(|a, b| Bound(&a.0).cmp(&Bound(&b.0)));
    let mut out: Ranges = Vec::new();
    for (min, max) in ranges {
        match out.last_mut() {
            Some(last) if Bound(&last.1) == Bound(&min) => last.1 = max,
            _ => out.push((min, max)),
        }
    }
    out
}

/// The parts of `gaps` inside of the split's range, and those outside.
fn cut(gaps: &[(String, String)], split: &Split) -> (Ranges, Ranges) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let keep = |list: &mut Ranges, range: Option<Bounds<'_>>| {
        list.extend(range.map(|(min, max)| (min.to_owned(), max.to_owned())));
    };
    let (min, max) = split.range();
    for (low, high) in gaps {
        let gap = (low.as_str(), high.as_str());
        keep(&mut outside, bound::common(gap, ("", min)));
        keep(&mut inside, bound::common(split.range(), gap));
        keep(&mut outside, bound::common(gap, (max, "FF")));
    }
    (inside, outside)
}
