//! What a reader publishes of its progress, as a state machine: positions, answers and the time go in, requests come out. It does no I/O.
//!
//! Rules that it keeps:
//! - Every write of a lease that is there names the ETag that was seen last. What is there is read before it is written for the first time.
//! - A lease that was not written by this connector last is somebody else's, and ends the job: only `scan.startup.mode=leases` takes such.
//! - A lease of another job of ours is taken once its owner is dead, or somebody has removed it; an owner that is alive ends this job.
//! - A later checkpoint of the same job goes before an earlier one: a reader that was left behind gives way. Where nobody keeps such a lease
//!   alive, the job was started anew under its old id, which counts its checkpoints from 1 again.
//! - What a split leaves behind when it goes on as its children is deleted once theirs are there, as long as nobody has touched it.
//! - A reader that ends keeps its leases: the job may only be starting again. They are free once they have expired.

use std::collections::BTreeMap;

use serde_json::Value;

use super::format::{encode, Lease, Mark, Progress, Sdk, PARTITION_KEY};
use super::takeover::{watch, Times};
use super::Identity;
use crate::bound::{covers, overlap, same};
use crate::error::{CoreError, Result};

/// What is to be asked of the lease container.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// All leases of the prefix.
    List,
    /// A document that must not be there.
    Create {
        /// Its id.
        id: String,
        /// The document.
        document: Value,
    },
    /// A document that must still have this ETag.
    Replace {
        /// Its id.
        id: String,
        /// `partitionKey` of the document, where it has one.
        key: Option<String>,
        /// The document.
        document: Value,
        /// The ETag.
        etag: String,
    },
    /// A document that must still have this ETag.
    Delete {
        /// Its id.
        id: String,
        /// `partitionKey` of the document, where it has one.
        key: Option<String>,
        /// The ETag.
        etag: String,
    },
    /// Says that all leases are there.
    Complete,
}

/// What came of a [`Request`]. One that failed otherwise is not told: it is asked for again in the next round.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The leases, and whether they were said to be complete.
    Listed {
        /// All of the prefix.
        leases: Vec<Lease>,
        /// Whether `.info` is there.
        complete: bool,
    },
    /// Written: the new ETag.
    Written(String),
    /// It is there (409), has another ETag (412) or is gone (404).
    Conflict,
    /// Deleted, or completed.
    Done,
}

/// What is fixed for as long as a reader runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who writes.
    pub identity: Identity,
    /// In which form.
    pub sdk: Sdk,
    /// In front of all ids.
    pub prefix: String,
    /// Name of the container, for messages.
    pub container: String,
    /// Resource id of the container.
    pub rid: String,
    /// When an owner counts as dead.
    pub times: Times,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It is not known what is there, or another job of ours has it, which may be dead.
    Unknown,
    /// Nothing is there.
    Absent,
    /// It is ours.
    Held { etag: String, key: Option<String> },
    /// Nothing is written any more: a later reader has it.
    Over,
}

impl State {
    fn is_held(&self) -> bool {
        matches!(self, State::Held { .. })
    }
}

struct Entry {
    progress: Progress,
    state: State,
    /// Whether it was written before.
    was_held: bool,
    /// Whether the last publication named it.
    wanted: bool,
    /// Whether what is stored is older than `progress`.
    dirty: bool,
    /// When it was last written, epoch milliseconds.
    written: i64,
    checkpoint: u64,
}

impl Entry {
    fn range(&self) -> (&str, &str) {
        (&self.progress.at.min, &self.progress.at.max)
    }
}

struct Stale {
    id: String,
    key: Option<String>,
    etag: String,
}

/// The leases of one reader.
pub struct Ledger {
    settings: Settings,
    entries: BTreeMap<String, Entry>,
    /// Leases of ours that finer or coarser ones stand in for by now.
    stale: Vec<Stale>,
    /// Leases that somebody else of ours owns: their ETag, and when that one counts as dead.
    watched: BTreeMap<String, (String, i64)>,
    /// When the leases are read again; `None`: not before there is something to publish.
    list_at: Option<i64>,
    complete: bool,
    /// Some lease is to go once others stand in for it.
    untidy: bool,
    /// All leases are there, and nobody has said so.
    to_complete: bool,
    /// Writes in a row that met something else than was known.
    conflicts: u32,
    closing: bool,
}

impl Ledger {
    /// Nothing is published yet.
    pub fn new(settings: Settings) -> Ledger {
        Ledger {
            settings,
            entries: BTreeMap::new(),
            stale: Vec::new(),
            watched: BTreeMap::new(),
            list_at: None,
            complete: false,
            untidy: false,
            to_complete: false,
            conflicts: 0,
            closing: false,
        }
    }

    /// Leases that are held now.
    pub fn held(&self) -> usize {
        self.entries.values().filter(|e| e.state.is_held()).count()
    }

    /// Leases that a later reader of the job has.
    pub fn given_way(&self) -> usize {
        self.entries.values().filter(|e| e.state == State::Over).count()
    }

    /// The positions of all splits of the reader as of a checkpoint that has completed. An earlier one than the last is passed over.
    pub fn publish(&mut self, checkpoint: u64, positions: Vec<Progress>, now: i64) {
        if self.closing || self.entries.values().any(|e| e.checkpoint > checkpoint) {
            return;
        }
        for entry in self.entries.values_mut() {
            entry.wanted = false;
        }
        for progress in positions {
            let id = format!("{}..{}", self.settings.prefix, progress.token());
            let entry = self.entries.entry(id).or_insert_with(|| {
                self.list_at = Some(now);
                Entry {
                    progress: progress.clone(),
                    state: State::Unknown,
                    was_held: false,
                    wanted: true,
                    dirty: true,
                    written: 0,
                    checkpoint,
                }
            });
            if entry.progress != progress {
                entry.dirty = true;
            }
            entry.progress = progress;
            entry.wanted = true;
            entry.checkpoint = checkpoint;
        }
    }

    /// From now on nothing is done but to write what is held and not written yet.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// The next request at `now`, epoch milliseconds; `None`: nothing is to be done before the next renewal or publication.
    pub fn next(&mut self, now: i64) -> Option<Request> {
        let list = !self.closing && self.list_at.is_some_and(|at| at <= now);
        if list && self.entries.values().any(|e| e.state == State::Unknown) {
            return Some(Request::List);
        }
        let renewal = self.settings.times.renewal;
        for (id, entry) in &self.entries {
            match &entry.state {
                State::Absent if entry.wanted && !self.closing => {
                    return Some(Request::Create {
                        id: id.clone(),
                        document: self.document(id, entry, None, now),
                    })
                }
                State::Held { etag, key }
                    if entry.dirty || (!self.closing && now - entry.written >= renewal) =>
                {
                    return Some(Request::Replace {
                        id: id.clone(),
                        key: key.clone(),
                        document: self.document(id, entry, key.as_deref(), now),
                        etag: etag.clone(),
                    })
                }
                _ => {}
            }
        }
        if self.closing {
            return None;
        }
        if list {
            return Some(Request::List);
        }
        let settled = |e: &Entry| e.wanted && !e.dirty && e.state.is_held();
        let ranges: Vec<_> = self
            .entries
            .values()
            .filter(|e| settled(e))
            .map(Entry::range)
            .collect();
        let replaced = self.entries.iter().find_map(|(id, entry)| match &entry.state {
            State::Held { etag, key } if !entry.wanted && covers(ranges.iter().copied(), entry.range()) => {
                Some((id.clone(), key.clone(), etag.clone()))
            }
            _ => None,
        });
        let stale = || {
            let stale = self.stale.first()?;
            Some((stale.id.clone(), stale.key.clone(), stale.etag.clone()))
        };
        if let Some((id, key, etag)) = replaced.or_else(stale) {
            return Some(Request::Delete { id, key, etag });
        }
        self.to_complete.then_some(Request::Complete)
    }

    fn document(&self, id: &str, entry: &Entry, key: Option<&str>, now: i64) -> Value {
        let Settings {
            identity, sdk, rid, ..
        } = &self.settings;
        let mark = Mark {
            job: identity.job.clone(),
            checkpoint: entry.checkpoint,
        };
        let mut document = encode(*sdk, id, rid, &entry.progress, Some(&identity.host), &mark, now);
        if let Some(key) = key {
            document[PARTITION_KEY] = key.into();
        }
        document
    }

    /// What came of a request.
    ///
    /// # Errors
    /// State when the leases are not this job's, which ends it.
    pub fn answered(&mut self, request: &Request, answer: Answer, now: i64) -> Result<()> {
        match (request, answer) {
            (Request::List, Answer::Listed { leases, complete }) => {
                return self.listed(&leases, complete, now)
            }
            (Request::Complete, _) => {
                self.complete = true;
                self.to_complete = false;
            }
            (Request::Delete { id, .. }, answer) => {
                self.entries.remove(id);
                self.stale.retain(|stale| stale.id != *id);
                if answer == Answer::Conflict {
                    // Somebody has touched it: whose it is now is to be seen.
                    self.look_again(now);
                }
            }
            (Request::Create { id, .. } | Request::Replace { id, .. }, answer) => {
                let Some(entry) = self.entries.get_mut(id) else {
                    return Ok(());
                };
                let key = match request {
                    Request::Replace { key, .. } => key.clone(),
                    _ => None,
                };
                match answer {
                    Answer::Written(etag) => {
                        entry.state = State::Held { etag, key };
                        entry.was_held = true;
                        entry.dirty = false;
                        entry.written = now;
                        self.conflicts = 0;
                        if self.untidy || !self.complete {
                            self.list_at = Some(now);
                        }
                    }
                    // Somebody else has it, who keeps it.
                    _ if self.closing => entry.state = State::Over,
                    _ => {
                        entry.state = State::Unknown;
                        self.look_again(now);
                    }
                }
            }
            (Request::List, _) => {}
        }
        Ok(())
    }

    /// At once after the first surprise; later ones may come of a replica that is behind, which time heals.
    fn look_again(&mut self, now: i64) {
        self.conflicts += 1;
        let pause = match self.conflicts {
            1 => 0,
            _ => self.settings.times.renewal / 4,
        };
        self.list_at = Some(now + pause);
    }

    fn listed(&mut self, leases: &[Lease], complete: bool, now: i64) -> Result<()> {
        let renewal = self.settings.times.renewal;
        let job = self.settings.identity.job.clone();
        self.complete = complete;
        let mut again: Option<i64> = None;
        let mut look_at = |at: i64| again = Some(again.map_or(at, |before| before.min(at)));
        // One that only names a partition is of this container all the same.
        if let Some(theirs) = leases.iter().find(|l| l.range.is_none() && l.mark.is_none()) {
            return Err(foreign(&self.settings, theirs));
        }
        // What lies over a range of ours.
        let over: Vec<Seen> = leases
            .iter()
            .filter_map(|lease| {
                let range = lease.range.as_ref()?;
                Some(Seen {
                    lease,
                    range: (&range.0, &range.1),
                })
            })
            .filter(|seen| {
                let mut ranges = self.entries.values().filter(|e| e.wanted).map(Entry::range);
                ranges.any(|at| overlap(at, seen.range))
            })
            .collect();
        // Ranges that somebody else of ours may be alive in.
        let mut blocked = Vec::new();
        // Ids of our own that a later reader of the job has.
        let mut over_ids = Vec::new();
        for Seen { lease, range } in &over {
            let Some(mark) = &lease.mark else {
                return Err(foreign(&self.settings, lease));
            };
            if lease.owner.is_none() {
                continue;
            }
            let mut ids = Vec::new();
            if mark.job == job {
                let earlier = |e: &Entry| e.wanted && e.checkpoint < mark.checkpoint;
                for (id, entry) in self.entries.iter().filter(|(_, e)| earlier(e)) {
                    if overlap(entry.range(), *range) {
                        ids.push(id.clone());
                    }
                }
                let is_dead = self.watched.get(&lease.id);
                let is_dead = is_dead.is_some_and(|(etag, until)| *etag == lease.etag && *until <= now);
                if ids.is_empty() || is_dead {
                    continue;
                }
                if ids.iter().any(|id| self.entries[id].was_held) {
                    over_ids.extend(ids);
                    continue;
                }
            } else if self.entries.get(&lease.id).is_some_and(|e| e.was_held) {
                return Err(another_job(&self.settings, lease));
            }
            let until = now + watch(lease, now, self.settings.times);
            let (etag, until) = self
                .watched
                .entry(lease.id.clone())
                .or_insert_with(|| (lease.etag.clone(), until));
            if *etag != lease.etag && mark.job == job {
                over_ids.extend(ids);
                continue;
            }
            if *etag != lease.etag {
                return Err(another_job(&self.settings, lease));
            }
            if *until > now {
                look_at((now + renewal).min(*until));
                blocked.push(*range);
            }
        }
        let by_id: BTreeMap<&str, &Lease> = leases.iter().map(|l| (l.id.as_str(), l)).collect();
        for (id, entry) in self.entries.iter_mut().filter(|(_, e)| e.state != State::Over) {
            let is_blocked = blocked.iter().any(|range| overlap(*range, entry.range()));
            entry.state = if over_ids.contains(id) {
                State::Over
            } else if is_blocked {
                State::Unknown
            } else if let Some(lease) = by_id.get(id.as_str()) {
                entry.dirty |= !is_of(lease, &job);
                State::Held {
                    etag: lease.etag.clone(),
                    key: lease.key.clone(),
                }
            } else {
                // One that we had is only gone where somebody deleted it; it is written again.
                State::Absent
            };
        }
        let entries = self.entries.values();
        let mine: Vec<(&str, &str)> = entries
            .filter(|e| e.wanted && e.state.is_held())
            .map(Entry::range)
            .collect();
        // Other readers of this job publish the rest.
        let of_job: Vec<(&str, &str)> = leases
            .iter()
            .filter(|l| !self.entries.contains_key(&l.id))
            .filter(|l| is_of(l, &job) && l.mark.as_ref().is_some_and(|m| m.checkpoint > 0))
            .filter_map(|l| l.range.as_ref())
            .map(|(min, max)| (min.as_str(), max.as_str()))
            .collect();
        let mut stale = Vec::new();
        self.untidy = false;
        for Seen { lease, range } in over {
            if self.entries.contains_key(&lease.id) {
                continue;
            }
            let given_way = self
                .entries
                .values()
                .any(|e| e.state == State::Over && overlap(e.range(), range));
            let rest = of_job.iter().filter(|other| !same(**other, range));
            let others = mine.iter().chain(rest).copied();
            if !given_way && covers(others, range) && !blocked.contains(&range) {
                stale.push(Stale {
                    id: lease.id.clone(),
                    key: lease.key.clone(),
                    etag: lease.etag.clone(),
                });
            } else if !given_way {
                // The reader of the rest has not published it yet.
                self.untidy = true;
                look_at(now + renewal);
            }
        }
        if !complete {
            self.to_complete = covers(mine.iter().chain(&of_job).copied(), ("", "FF"));
            if !self.to_complete {
                look_at(now + renewal);
            }
        }
        self.stale = stale;
        // Seldom without a cause: a request of a reader that was left behind may be carried out late, and leave a lease that nobody keeps.
        self.list_at = again.or(Some(now + self.settings.times.expiration));
        Ok(())
    }
}

/// A lease with its range.
struct Seen<'a> {
    lease: &'a Lease,
    range: (&'a str, &'a str),
}

fn is_of(lease: &Lease, job: &str) -> bool {
    lease.mark.as_ref().is_some_and(|mark| mark.job == job)
}

fn foreign(settings: &Settings, lease: &Lease) -> CoreError {
    let who = match &lease.owner {
        Some(owner) => format!("'{owner}', a change feed processor, has taken it"),
        None => "a change feed processor wrote it last".to_owned(),
    };
    CoreError::state(format!(
        "lease '{}' of container '{}' is not this job's: {who}. A job and a processor must not read side by side under one prefix. To go on from the \
         processor's positions stop it and start the job without state with scan.startup.mode=leases; else choose another prefix (scan.lease.prefix)",
        lease.id, settings.container
    ))
}

fn another_job(settings: &Settings, lease: &Lease) -> CoreError {
    let (owner, job) = (
        lease.owner.as_deref().unwrap_or_default(),
        lease.mark.as_ref().map_or("", |m| m.job.as_str()),
    );
    CoreError::state(format!(
        "lease '{}' of container '{}' belongs to another job that is running ('{owner}', job {job}): two jobs must not publish under one prefix. Stop one of \
         them, or choose another prefix for it (scan.lease.prefix)",
        lease.id, settings.container
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;
    use crate::leases::token::Ranged;
    use proptest::prelude::*;

    const TIMES: Times = Times {
        expiration: 60_000,
        renewal: 17_000,
    };

    /// A lease container.
    #[derive(Default)]
    struct Container {
        documents: BTreeMap<String, (u64, Value)>,
        complete: bool,
        writes: u64,
        /// Requests in the order in which they came, as letters.
        log: String,
    }

    impl Container {
        fn leases(&self) -> Vec<Lease> {
            self.documents
                .values()
                .map(|(etag, document)| {
                    let mut document = document.clone();
                    document["_etag"] = etag.to_string().into();
                    Lease::decode(document).unwrap()
                })
                .collect()
        }

        fn put(&mut self, id: &str, document: Value) -> String {
            self.writes += 1;
            self.documents.insert(id.to_owned(), (self.writes, document));
            self.writes.to_string()
        }

        fn carry_out(&mut self, request: &Request) -> Answer {
            match request {
                Request::List => {
                    self.log.push('l');
                    Answer::Listed {
                        leases: self.leases(),
                        complete: self.complete,
                    }
                }
                Request::Create { id, .. } if self.documents.contains_key(id) => Answer::Conflict,
                Request::Create { id, document } => {
                    self.log.push('c');
                    Answer::Written(self.put(id, document.clone()))
                }
                Request::Replace {
                    id, document, etag, ..
                } => match self.documents.get(id) {
                    Some((now, _)) if now.to_string() == *etag => {
                        self.log.push('r');
                        Answer::Written(self.put(id, document.clone()))
                    }
                    _ => Answer::Conflict,
                },
                Request::Delete { id, etag, .. } => match self.documents.get(id) {
                    Some((now, _)) if now.to_string() != *etag => Answer::Conflict,
                    _ => {
                        self.log.push('d');
                        self.documents.remove(id);
                        Answer::Done
                    }
                },
                Request::Complete => {
                    self.log.push('i');
                    self.complete = true;
                    Answer::Done
                }
            }
        }

        /// As a processor does, which writes the whole document; without a name it gives it back.
        fn take(&mut self, id: &str, owner: &str) {
            let mut theirs = self.documents[id].1.clone();
            theirs["Owner"] = Some(owner).filter(|o| !o.is_empty()).into();
            theirs.as_object_mut().unwrap().remove("cosmosflink");
            self.put(id, theirs);
        }

        /// As somebody does who does not want to wait until they expire.
        fn remove_owners(&mut self) {
            for (id, (_, mut document)) in self.documents.clone() {
                document["Owner"] = Value::Null;
                self.put(&id, document);
            }
        }

        /// Carries out what a ledger wants at this time.
        fn run(&mut self, ledger: &mut Ledger, now: i64) -> Result<()> {
            for _ in 0..100 {
                let Some(request) = ledger.next(now) else {
                    return Ok(());
                };
                let answer = self.carry_out(&request);
                ledger.answered(&request, answer, now)?;
            }
            panic!("it never comes to rest: {}", self.log);
        }

        fn owners(&self) -> Vec<(String, Option<String>, Option<String>)> {
            self.leases()
                .into_iter()
                .map(|l| (l.token, l.owner, l.reached.etag))
                .collect()
        }
    }

    fn ledger(job: &str) -> Ledger {
        Ledger::new(Settings {
            identity: Identity {
                host: format!("host-{job}"),
                job: job.into(),
            },
            sdk: Sdk::DotNet,
            prefix: "p".into(),
            container: "orders".into(),
            rid: "r".into(),
            times: TIMES,
        })
    }

    fn at(min: &str, max: &str, etag: &str) -> Progress {
        Progress {
            at: Ranged {
                min: min.into(),
                max: max.into(),
                etag: etag.into(),
            },
            full_fidelity: false,
            start: Start::Beginning,
        }
    }

    fn owned(token: &str, owner: &str, etag: &str) -> (String, Option<String>, Option<String>) {
        (
            token.into(),
            Some(owner.into()).filter(|o: &String| !o.is_empty()),
            Some(etag.into()),
        )
    }

    #[test]
    fn leases_are_written_before_they_are_said_to_be_complete_then_renewed_and_kept_at_the_end() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "80", "1"), at("80", "FF", "2")], 0);
        container.run(&mut ledger, 0).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "1"), owned("80-FF", "host-j", "2")]
        );
        assert!(container.complete);
        assert!(container.log.ends_with('i') && !container.log[..container.log.len() - 1].contains('i'));
        container.log.clear();
        container.run(&mut ledger, 16_999).unwrap();
        assert_eq!(container.log, "", "nothing is due");
        container.run(&mut ledger, 17_000).unwrap();
        assert_eq!(container.log, "rr");
        ledger.publish(2, vec![at("", "80", "1"), at("80", "FF", "9")], 18_000);
        container.run(&mut ledger, 18_000).unwrap();
        assert_eq!(container.log, "rrr", "only what has moved");
        ledger.publish(3, vec![at("", "80", "5"), at("80", "FF", "9")], 19_000);
        ledger.close();
        container.log.clear();
        container.run(&mut ledger, 40_000).unwrap();
        assert_eq!(container.log, "r", "what has moved, and no renewals");
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "5"), owned("80-FF", "host-j", "9")],
            "the job may only be starting again"
        );
    }

    #[test]
    fn a_job_that_starts_again_finds_its_leases_although_another_one_waits_for_them() {
        let (mut container, mut first, mut other) = (Container::default(), ledger("a"), ledger("b"));
        first.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut first, 0).unwrap();
        first.close();
        container.run(&mut first, 0).unwrap();
        other.publish(1, vec![at("", "FF", "7")], 1000);
        container.run(&mut other, 1000).unwrap();
        let mut again = ledger("a");
        again.publish(2, vec![at("", "FF", "2")], 30_000);
        container.run(&mut again, 30_000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-a", "2")]);
        let error = container.run(&mut other, 35_000).unwrap_err();
        assert!(error.message.contains("two jobs"), "{error}");
    }

    #[test]
    fn a_job_that_was_started_anew_under_its_old_id_goes_on() {
        let (mut container, mut before) = (Container::default(), ledger("j"));
        before.publish(500, vec![at("", "FF", "1")], 0);
        container.run(&mut before, 0).unwrap();
        let mut anew = ledger("j");
        anew.publish(1, vec![at("", "80", "5"), at("80", "FF", "5")], 1000);
        container.run(&mut anew, 1000).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-FF", "host-j", "1")],
            "it may be alive"
        );
        container.run(&mut anew, 61_000).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "5"), owned("80-FF", "host-j", "5")]
        );
        container.remove_owners();
        let mut again = ledger("j");
        again.publish(1, vec![at("", "80", "8"), at("80", "FF", "8")], 62_000);
        container.run(&mut again, 62_000).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "8"), owned("80-FF", "host-j", "8")],
            "nobody's: at once"
        );
    }

    #[test]
    fn a_reader_that_was_left_behind_does_not_bring_a_parent_back() {
        let (mut container, mut zombie, mut ledger) = (Container::default(), ledger("j"), ledger("j"));
        zombie.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut zombie, 0).unwrap();
        ledger.publish(2, vec![at("", "80", "2"), at("80", "FF", "3")], 1000);
        container.run(&mut ledger, 1000).unwrap();
        let children = [owned("-80", "host-j", "2"), owned("80-FF", "host-j", "3")];
        assert_eq!(container.owners(), children);
        container.run(&mut zombie, 20_000).unwrap();
        assert_eq!(container.owners(), children);
        assert_eq!((zombie.held(), zombie.given_way()), (0, 1));
    }

    #[test]
    fn what_cannot_be_written_again_and_again_is_not_tried_without_a_pause() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        // A replica that answers with what it held before.
        let mut asked = 0;
        let mut now = 17_000;
        while now < 17_000 + 60_000 {
            while let Some(request) = ledger.next(now) {
                asked += 1;
                assert!(asked < 100, "it asks without end");
                let answer = match &request {
                    Request::List => container.carry_out(&request),
                    _ => Answer::Conflict,
                };
                ledger.answered(&request, answer, now).unwrap();
            }
            now += 1000;
        }
        assert!(asked > 4, "{asked}");
    }

    #[test]
    fn a_lease_with_a_partition_key_of_its_own_keeps_it() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        let mark = Mark {
            job: "j".into(),
            checkpoint: 0,
        };
        let mut taken = encode(
            Sdk::DotNet,
            "p..-FF",
            "r",
            &at("", "FF", "1"),
            Some("host-j"),
            &mark,
            0,
        );
        taken["partitionKey"] = "5f0c".into();
        container.put("p..-FF", taken);
        ledger.publish(1, vec![at("", "FF", "2")], 0);
        let mut keys = Vec::new();
        while let Some(request) = ledger.next(0) {
            if let Request::Replace { key, document, .. } = &request {
                keys.push((key.clone(), document["partitionKey"].clone()));
            }
            let answer = container.carry_out(&request);
            ledger.answered(&request, answer, 0).unwrap();
        }
        assert_eq!(keys, [(Some("5f0c".to_owned()), Value::from("5f0c"))]);
    }

    #[test]
    fn a_lease_that_somebody_takes_while_it_is_to_go_stays() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        ledger.publish(2, vec![at("", "80", "2"), at("80", "FF", "2")], 1000);
        let error = loop {
            let request = ledger.next(1000).expect("the parent is to be deleted");
            if matches!(request, Request::Delete { .. }) {
                container.take("p..-FF", "processor");
            }
            let answer = container.carry_out(&request);
            if let Err(error) = ledger.answered(&request, answer, 1000) {
                break error;
            }
        };
        assert!(error.message.contains("'processor'"), "{error}");
        assert!(container.documents.contains_key("p..-FF"));
    }

    #[test]
    fn several_readers_complete_the_leases_together() {
        let (mut container, mut first, mut second) = (Container::default(), ledger("j"), ledger("j"));
        first.publish(1, vec![at("", "80", "1")], 0);
        container.run(&mut first, 0).unwrap();
        assert!(!container.complete, "half of the keys has no lease");
        second.publish(1, vec![at("80", "FF", "2")], 0);
        container.run(&mut second, 0).unwrap();
        assert!(container.complete);
        container.run(&mut first, 20_000).unwrap();
        assert_eq!(container.log.matches('i').count(), 1);
    }

    #[test]
    fn children_take_the_place_of_their_parent() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        container.log.clear();
        ledger.publish(2, vec![at("", "80", "1"), at("80", "FF", "1")], 1000);
        container.run(&mut ledger, 1000).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "1"), owned("80-FF", "host-j", "1")]
        );
        assert!(
            container.log.find('d') > container.log.rfind('c'),
            "{}: created first",
            container.log
        );
    }

    #[test]
    fn children_that_went_to_two_readers_take_the_place_of_their_parent_too() {
        let (mut container, mut before) = (Container::default(), ledger("j"));
        before.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut before, 0).unwrap();
        let (mut first, mut second) = (ledger("j"), ledger("j"));
        first.publish(2, vec![at("", "80", "1")], 0);
        container.run(&mut first, 0).unwrap();
        assert_eq!(
            container.documents.len(),
            2,
            "the parent stands for the other half"
        );
        second.publish(2, vec![at("80", "FF", "1")], 0);
        container.run(&mut second, 0).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "1"), owned("80-FF", "host-j", "1")]
        );
    }

    #[test]
    fn what_a_reader_that_was_left_behind_writes_late_goes_again() {
        let (mut container, mut zombie, mut ledger) = (Container::default(), ledger("j"), ledger("j"));
        zombie.publish(1, vec![at("", "FF", "1")], 0);
        let list = zombie.next(0).unwrap();
        let answer = container.carry_out(&list);
        zombie.answered(&list, answer, 0).unwrap();
        let late = zombie.next(0).unwrap();
        ledger.publish(2, vec![at("", "80", "2"), at("80", "FF", "3")], 0);
        container.run(&mut ledger, 0).unwrap();
        container.carry_out(&late);
        assert_eq!(container.documents.len(), 3);
        container.run(&mut ledger, TIMES.expiration).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "2"), owned("80-FF", "host-j", "3")]
        );
    }

    #[test]
    fn the_lease_of_a_split_that_has_ended_stays_where_nothing_takes_its_place() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "80", "1"), at("80", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        ledger.publish(2, vec![at("80", "FF", "2")], 1000);
        container.run(&mut ledger, 1000).unwrap();
        container.run(&mut ledger, 70_000).unwrap();
        assert_eq!(
            container.owners(),
            [owned("-80", "host-j", "1"), owned("80-FF", "host-j", "2")]
        );
    }

    #[test]
    fn a_processor_that_takes_a_lease_ends_the_job() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        for (owner, words) in [
            ("processor", "'processor', a change feed processor, has taken it"),
            ("", "wrote it last"),
        ] {
            container.take("p..-FF", owner);
            ledger.publish(2, vec![at("", "FF", "2")], 1000);
            let error = container.run(&mut ledger, 1000).unwrap_err();
            assert!(
                error.message.contains(words) && error.message.contains("scan.startup.mode=leases"),
                "{error}"
            );
            assert!(error.outlives_restart());
        }
    }

    #[test]
    fn a_job_does_not_write_over_what_a_processor_left() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        let mut theirs = encode(
            Sdk::DotNet,
            "p..-40",
            "r",
            &at("", "40", "9"),
            None,
            &Mark {
                job: String::new(),
                checkpoint: 0,
            },
            0,
        );
        theirs.as_object_mut().unwrap().remove("cosmosflink");
        container.put("p..-40", theirs);
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        let error = container.run(&mut ledger, 0).unwrap_err();
        assert!(error.message.contains("p..-40"), "{error}");
        assert_eq!(container.documents.len(), 1, "nothing was written");
    }

    #[test]
    fn a_processors_lease_that_names_a_partition_alone_is_noticed_too() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        let theirs =
            serde_json::json!({"id": "p..0", "version": 0, "LeaseToken": "0", "ContinuationToken": "9"});
        container.put("p..0", theirs);
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        let error = container.run(&mut ledger, 0).unwrap_err();
        assert!(error.message.contains("p..0"), "{error}");
    }

    #[test]
    fn the_second_of_two_jobs_with_one_prefix_ends() {
        let (mut container, mut first, mut second) = (Container::default(), ledger("a"), ledger("b"));
        first.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut first, 0).unwrap();
        second.publish(1, vec![at("", "FF", "7")], 1000);
        container.run(&mut second, 1000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-a", "1")], "it waits");
        container.run(&mut first, 17_000).unwrap();
        let error = container.run(&mut second, 18_000).unwrap_err();
        assert!(
            error.message.contains("host-a") && error.message.contains("two jobs"),
            "{error}"
        );
    }

    #[test]
    fn what_a_dead_job_left_is_taken_once_it_has_expired() {
        let (mut container, mut dead, mut ledger) = (Container::default(), ledger("a"), ledger("b"));
        dead.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut dead, 0).unwrap();
        ledger.publish(1, vec![at("", "FF", "7")], 1000);
        for now in [1000, 20_000, 40_000] {
            container.run(&mut ledger, now).unwrap();
            assert_eq!(container.owners(), [owned("-FF", "host-a", "1")], "{now}");
        }
        container.run(&mut ledger, 61_000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-b", "7")]);
    }

    #[test]
    fn what_nobody_owns_is_taken_at_once() {
        let (mut container, mut before, mut ledger) = (Container::default(), ledger("a"), ledger("b"));
        before.publish(9, vec![at("", "FF", "1")], 0);
        container.run(&mut before, 0).unwrap();
        container.remove_owners();
        ledger.publish(1, vec![at("", "FF", "2")], 1000);
        container.run(&mut ledger, 1000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-b", "2")]);
    }

    #[test]
    fn a_reader_that_was_left_behind_gives_way() {
        let (mut container, mut zombie, mut ledger) = (Container::default(), ledger("j"), ledger("j"));
        zombie.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut zombie, 0).unwrap();
        ledger.publish(2, vec![at("", "FF", "2")], 1000);
        container.run(&mut ledger, 1000).unwrap();
        container.run(&mut zombie, 20_000).unwrap();
        zombie.close();
        container.run(&mut zombie, 20_000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-j", "2")]);
        container.run(&mut ledger, 20_000).unwrap();
        assert_eq!(ledger.held(), 1);
    }

    #[test]
    fn a_lease_that_somebody_deleted_is_written_again() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        container.documents.clear();
        container.run(&mut ledger, 17_000).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-j", "1")]);
    }

    #[test]
    fn an_earlier_checkpoint_that_is_told_late_moves_nothing_back() {
        let (mut container, mut ledger) = (Container::default(), ledger("j"));
        ledger.publish(2, vec![at("", "FF", "2")], 0);
        ledger.publish(1, vec![at("", "FF", "1")], 0);
        container.run(&mut ledger, 0).unwrap();
        assert_eq!(container.owners(), [owned("-FF", "host-j", "2")]);
    }

    /// Bounds of the cells of which the splits of a run consist.
    const BOUNDS: [&str; 9] = ["", "20", "40", "60", "80", "A0", "C0", "E0", "FF"];
    const CELLS: usize = 8;

    /// Cells `[.0, .1)`.
    type Cells = (usize, usize);

    struct Reader {
        ledger: Ledger,
        splits: Vec<Cells>,
        failed: bool,
    }

    fn reader(job: &str, splits: Vec<Cells>) -> Reader {
        Reader {
            ledger: ledger(job),
            splits,
            failed: false,
        }
    }

    /// A job that publishes, is split, started again and left behind as chance has it, and its container.
    struct World {
        container: Container,
        now: i64,
        checkpoint: u64,
        /// How far each cell is read as of the last checkpoint.
        read: [u64; CELLS],
        readers: Vec<Reader>,
        /// Those that do not know that they were left behind.
        zombies: Vec<Reader>,
    }

    impl World {
        fn new() -> World {
            World {
                container: Container::default(),
                now: 0,
                checkpoint: 0,
                read: [0; CELLS],
                readers: vec![reader("j", vec![(0, 4)]), reader("j", vec![(4, 8)])],
                zombies: Vec::new(),
            }
        }

        fn publish(&mut self, by: u64) {
            self.checkpoint += 1;
            for reader in &mut self.readers {
                let mut positions = Vec::new();
                for (low, high) in &reader.splits {
                    let to = self.read[*low] + by;
                    self.read[*low..*high].fill(to);
                    positions.push(at(BOUNDS[*low], BOUNDS[*high], &to.to_string()));
                }
                reader.ledger.publish(self.checkpoint, positions, self.now);
            }
        }

        /// All readers are made anew, each split goes to one of them, and the old ones may not have heard of it.
        fn restart(&mut self, odd: bool) {
            self.zombies.append(&mut self.readers);
            let splits: Vec<Cells> = self
                .zombies
                .iter()
                .rev()
                .take(2)
                .flat_map(|r| r.splits.clone())
                .collect();
            let (first, second) = splits
                .into_iter()
                .partition(|(low, high)| ((low + high) % 2 == 1) == odd);
            self.readers = vec![reader("j", first), reader("j", second)];
        }

        fn split(&mut self, reader: usize, number: usize) {
            let splits = &mut self.readers[reader % 2].splits;
            if splits.is_empty() {
                return;
            }
            let at = number % splits.len();
            let (low, high) = splits[at];
            if high - low > 1 {
                let middle = low + (high - low) / 2;
                splits.splice(at..=at, [(low, middle), (middle, high)]);
            }
        }

        /// Some requests of a reader, the last of which may be lost, or its answer may.
        fn steps(&mut self, who: usize, count: usize, lost: u8) {
            let zombie = who % 4 >= 2 && !self.zombies.is_empty();
            let mut readers = std::mem::take(match zombie {
                true => &mut self.zombies,
                false => &mut self.readers,
            });
            let at = who % readers.len();
            self.steps_of(&mut readers[at], count, lost);
            match zombie {
                true => self.zombies = readers,
                false => self.readers = readers,
            }
        }

        fn steps_of(&mut self, reader: &mut Reader, count: usize, lost: u8) {
            for step in 0..count {
                let Some(request) = reader.ledger.next(self.now).filter(|_| !reader.failed) else {
                    return;
                };
                if step + 1 == count && lost == 1 {
                    return;
                }
                let theirs = match &request {
                    Request::Replace { id, .. } | Request::Delete { id, .. } => {
                        let there = self.container.documents.get(id);
                        there.is_some_and(|(_, document)| document.get("cosmosflink").is_none())
                    }
                    _ => false,
                };
                let answer = self.container.carry_out(&request);
                assert!(
                    !theirs || answer == Answer::Conflict,
                    "it wrote over a processor's: {request:?}"
                );
                if step + 1 == count && lost == 2 {
                    return;
                }
                reader.failed |= reader.ledger.answered(&request, answer, self.now).is_err();
                self.check();
            }
        }

        /// Whoever goes on from the leases now reads all that the job has not read, wherever they are complete.
        fn check(&self) {
            let leases = self.container.leases();
            for cell in 0..CELLS {
                let over: Vec<&Lease> = leases
                    .iter()
                    .filter(|l| {
                        let (min, max) = l.range.as_ref().unwrap();
                        min.as_str() <= BOUNDS[cell] && max.as_str() >= BOUNDS[cell + 1]
                    })
                    .collect();
                assert!(
                    !self.container.complete || !over.is_empty(),
                    "cell {cell} has no lease: {}",
                    self.container.log
                );
                for lease in over {
                    let at: u64 = lease.reached.etag.as_ref().unwrap().parse().unwrap();
                    assert!(
                        at <= self.read[cell],
                        "{}: {at} is not read in cell {cell}",
                        lease.token
                    );
                }
            }
        }

        /// Lets everything come to rest, with the readers of now alone.
        fn settle(&mut self) {
            self.zombies.clear();
            self.publish(1);
            for _ in 0..12 {
                for reader in &mut self.readers {
                    if !reader.failed {
                        reader.failed = self.container.run(&mut reader.ledger, self.now).is_err();
                    }
                    self.now += 1;
                }
                self.now += TIMES.renewal / 2;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_happens_the_leases_cover_all_keys_and_become_those_of_the_splits(
            events in proptest::collection::vec((0u8..9, 0usize..8, 1usize..6, 0u8..4), 1..60),
        ) {
            let mut world = World::new();
            for (what, a, b, c) in events {
                match what {
                    0 | 1 => world.publish(b as u64),
                    2 => world.split(a, b),
                    3 => world.restart(c % 2 == 0),
                    4 => world.now += 4000 * b as i64,
                    _ => world.steps(a, b, c),
                }
                world.check();
            }
            world.settle();
            assert!(world.readers.iter().all(|r| !r.failed), "there is only one job");
            let mut expected: Vec<_> = world
                .readers
                .iter()
                .flat_map(|r| &r.splits)
                .map(|(low, high)| {
                    let token = format!("{}-{}", BOUNDS[*low], BOUNDS[*high]);
                    owned(&token, "host-j", &world.read[*low].to_string())
                })
                .collect();
            expected.sort();
            let mut found = world.container.owners();
            found.sort();
            assert_eq!(found, expected, "{}", world.container.log);
            assert!(world.container.complete);
        }

        #[test]
        fn a_processor_that_takes_a_lease_is_never_written_over_and_always_noticed(
            events in proptest::collection::vec((0u8..8, 0usize..4, 1usize..6, 0u8..4), 1..40),
            taken in 0usize..2,
        ) {
            let mut world = World::new();
            world.settle();
            let id = world.container.documents.keys().nth(taken).unwrap().clone();
            world.container.take(&id, "processor");
            let theirs = world.container.documents[&id].clone();
            for (what, a, b, c) in events {
                match what {
                    0 => world.publish(b as u64),
                    1 => world.split(a, b),
                    2 => world.restart(c % 2 == 0),
                    3 => world.now += 4000 * b as i64,
                    _ => world.steps(a, b, c),
                }
            }
            world.settle();
            assert!(world.readers.iter().any(|r| r.failed));
            assert_eq!(world.container.documents.get(&id), Some(&theirs));
        }

        #[test]
        fn of_two_jobs_with_one_prefix_at_least_one_ends(
            events in proptest::collection::vec((0usize..2, 1usize..5, 0i64..20_000), 1..40),
        ) {
            let mut container = Container::default();
            let mut jobs = [ledger("a"), ledger("b")];
            let mut ended = [false; 2];
            let mut now = 0;
            let mut go = |jobs: &mut [Ledger; 2], who: usize, count: usize, now: i64| {
                for _ in 0..count {
                    let Some(request) = jobs[who].next(now).filter(|_| !ended[who]) else {
                        break;
                    };
                    let answer = container.carry_out(&request);
                    ended[who] |= jobs[who].answered(&request, answer, now).is_err();
                }
                ended[0] || ended[1]
            };
            for (number, job) in jobs.iter_mut().enumerate() {
                let number = number.to_string();
                job.publish(1, vec![at("", "80", &number), at("80", "FF", &number)], now);
            }
            for (who, count, pause) in events {
                now += pause;
                go(&mut jobs, who, count, now);
            }
            let noticed = (0..200).any(|step| go(&mut jobs, step % 2, 100, now + 1000 * step as i64));
            assert!(noticed);
        }
    }
}
