//! A container of the service: documents by partition, a change feed, partitions that split, and whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{FeedRange, PartitionKey, PartitionKeyDefinition};
use cosmosflink_core::error::{CoreError, Result};
use cosmosflink_core::status::{Asked, Fate};
use tokio::time::{sleep, Instant};

use crate::plan::{mix, Fault, Request, What};

/// A document's number; its key follows from it.
pub type Doc = u32;

/// A point of the key space. All keys lie below [`TOP`].
pub type Epk = u128;

/// The number from which partitions count that are there from the beginning: one that others are merged into counts from less on.
const FIRST_LSN: u64 = 1000;

/// Above all keys.
pub const TOP: Epk = 0x40 << 120;

/// When every run begins, in milliseconds since the epoch.
pub const EPOCH: i64 = 1_700_000_000_000;

/// As the service writes it.
pub fn hex(epk: Epk) -> String {
    match epk {
        0 => String::new(),
        TOP => "FF".to_owned(),
        epk => format!("{epk:032X}"),
    }
}

/// Reads what [`hex`] wrote.
pub fn from_hex(text: &str) -> Epk {
    match text {
        "" => 0,
        "FF" => TOP,
        text => {
            Epk::from_str_radix(&format!("{text:0<32}"), 16).expect("the core gives bounds as hexadecimal")
        }
    }
}

pub struct Partition {
    pub id: u32,
    pub min: Epk,
    pub max: Epk,
    /// Number of the last write.
    pub lsn: u64,
    /// The last write of each document that is there.
    pub feed: BTreeMap<u64, BTreeSet<Doc>>,
    /// Every write and every deletion, in order.
    pub history: BTreeMap<u64, Vec<Event>>,
    /// It was merged of others, or is a part of one that was: documents are not in the order of their times.
    pub mixed: bool,
    /// It is being split: it takes no requests until then.
    pub locked_until: Instant,
}

/// What goes on in place of a part of a partition.
struct Heir {
    id: u32,
    min: Epk,
    max: Epk,
    /// The numbers that writes have there; `None`: those that they had.
    numbers: Option<BTreeMap<u64, u64>>,
}

/// What was done to a document.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub doc: Doc,
    /// The write; `None`: the document was deleted.
    pub n: Option<u64>,
    /// The document was there before.
    pub replaces: bool,
    pub ts: i64,
}

/// A document that is there.
#[derive(Clone, Debug)]
pub struct Version {
    /// The operation, or the write, that made it.
    pub n: u64,
    pub lsn: u64,
    pub ts: i64,
    /// The write since which it is there, and its time.
    pub born: u64,
    pub born_ts: i64,
}

/// What happened, in order: to compare two runs, and to read.
#[derive(Default)]
pub struct Trace {
    pub lines: Option<Vec<String>>,
}

pub struct World {
    pub seed: u64,
    pub began: Instant,
    faults: Vec<Fault>,
    requests: BTreeMap<(Request, u32), u64>,
    keys: Vec<Epk>,
    /// In the order of their bounds.
    pub partitions: Vec<Partition>,
    /// The map before the last change.
    before: Vec<(u32, Epk, Epk)>,
    next_partition: u32,
    /// What became of partitions that are not there any more.
    heirs: BTreeMap<u32, Vec<Heir>>,
    /// How often it was created; its resource id.
    pub generation: u32,
    pub documents: BTreeMap<Doc, Version>,
    /// Partition and number of the last write.
    last_write: (u32, u64),
    pub trace: Trace,
    /// What must not be, and was.
    pub violations: Vec<String>,
    /// A fault that ends a job has hit a request.
    pub doomed: Vec<String>,
}

/// A world that several parts share.
pub type Shared = Arc<Mutex<World>>;

/// Asks for metadata. `opened`: whether the container is the one that was opened.
pub async fn ask<T>(
    world: &Shared,
    on: Request,
    opened: impl Fn(&World) -> bool,
    answer: impl FnOnce(&World, &Call) -> Result<T>,
) -> Result<T> {
    let call = lock(world).call(on, 0);
    sleep(call.there).await;
    let answer = {
        let world = lock(world);
        match world.refusal(&call, opened(&world), Asked::Metadata) {
            Some(error) => Err(error),
            None => answer(&world, &call),
        }
    };
    sleep(call.back).await;
    lock(world).note(|| match &answer {
        Ok(_) => format!("{on:?}: well"),
        Err(e) => format!("{on:?}: {e}"),
    });
    answer
}

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(|e| e.into_inner())
}

/// What a request meets.
pub struct Call {
    pub on: Request,
    /// 0 where it is none.
    pub partition: u32,
    /// Number among the requests of its kind to its partition.
    pub nth: u64,
    /// To the service, and back.
    pub there: Duration,
    pub back: Duration,
    /// The faults that hit it, in the order of the plan.
    pub faults: Vec<(u32, What)>,
}

impl Call {
    /// The first of its faults that is of a kind.
    pub fn fault<T>(&self, kind: impl FnMut(&(u32, What)) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(kind)
    }
}

impl World {
    pub fn new(seed: u64, keys: u32, partitions: u32, faults: &[Fault]) -> World {
        let definition = definition();
        let keys = (0..keys).map(|k| {
            let key = PartitionKey::from(key_name(k));
            from_hex(
                &FeedRange::for_partition(key, &definition)
                    .min_inclusive()
                    .to_hex(),
            )
        });
        let now = Instant::now();
        let mut world = World {
            seed,
            began: now,
            faults: faults.to_vec(),
            requests: BTreeMap::new(),
            keys: keys.collect(),
            partitions: Vec::new(),
            before: Vec::new(),
            next_partition: 0,
            heirs: BTreeMap::new(),
            generation: 1,
            documents: BTreeMap::new(),
            last_write: (0, 0),
            trace: Trace::default(),
            violations: Vec::new(),
            doomed: Vec::new(),
        };
        let part = TOP / Epk::from(partitions);
        for i in 0..partitions {
            let max = if i + 1 == partitions {
                TOP
            } else {
                part * Epk::from(i + 1)
            };
            world.add_partition(part * Epk::from(i), max, FIRST_LSN);
        }
        world.before = world.map();
        world
    }

    fn add_partition(&mut self, min: Epk, max: Epk, lsn: u64) -> usize {
        self.next_partition += 1;
        let at = self.partitions.partition_point(|p| p.min < min);
        self.partitions.insert(
            at,
            Partition {
                id: self.next_partition,
                min,
                max,
                lsn,
                feed: BTreeMap::new(),
                history: BTreeMap::new(),
                mixed: false,
                locked_until: self.began,
            },
        );
        at
    }

    /// Milliseconds since the run began.
    pub fn millis(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Notes what happened. The text is made only where somebody wants to read it.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.began.elapsed();
        if let Some(lines) = &mut self.trace.lines {
            let mut line = format!("{:>9.3} ", at.as_secs_f64() * 1000.0);
            let _ = write!(line, "{}", text());
            lines.push(line);
        }
    }

    /// Notes what must not be.
    pub fn violation(&mut self, invariant: &str, what: String) {
        self.note(|| format!("VIOLATION {invariant}: {what}"));
        if self.violations.len() < 20 {
            self.violations.push(format!("{invariant}: {what}"));
        }
    }

    pub fn epk(&self, doc: Doc) -> Epk {
        self.keys[doc as usize % self.keys.len()]
    }

    pub fn key_count(&self) -> u32 {
        self.keys.len() as u32
    }

    /// Where a document lies.
    pub fn place(&self, doc: Doc) -> usize {
        let epk = self.epk(doc);
        self.partitions.partition_point(|p| p.min <= epk) - 1
    }

    pub fn partition(&self, id: u32) -> Option<usize> {
        self.partitions.iter().position(|p| p.id == id)
    }

    pub fn map(&self) -> Vec<(u32, Epk, Epk)> {
        self.partitions.iter().map(|p| (p.id, p.min, p.max)).collect()
    }

    /// The map, or the one before.
    pub fn map_as_seen(&self, stale: bool) -> Vec<(u32, Epk, Epk)> {
        match stale {
            true => self.before.clone(),
            false => self.map(),
        }
    }

    /// Splits a partition into halves, each with an id of its own. The children go on counting where it stood.
    pub fn split(&mut self, nth: u32) {
        self.before = self.map();
        let at = nth as usize % self.partitions.len();
        let old = self.partitions.remove(at);
        let middle = old.min + (old.max - old.min) / 2;
        let halves = [(old.min, middle), (middle, old.max)];
        let ids = halves.map(|(min, max)| {
            let at = self.add_partition(min, max, old.lsn);
            self.partitions[at].mixed = old.mixed;
            for (lsn, docs) in &old.feed {
                let mine: BTreeSet<Doc> = docs
                    .iter()
                    .copied()
                    .filter(|d| (min..max).contains(&self.epk(*d)))
                    .collect();
                if !mine.is_empty() {
                    self.partitions[at].feed.insert(*lsn, mine);
                }
            }
            for (lsn, events) in &old.history {
                let mine = events.iter().copied();
                let mine: Vec<_> = mine.filter(|e| (min..max).contains(&self.epk(e.doc))).collect();
                if !mine.is_empty() {
                    self.partitions[at].history.insert(*lsn, mine);
                }
            }
            self.partitions[at].id
        });
        let heirs = halves.iter().zip(ids).map(|((min, max), id)| Heir {
            id,
            min: *min,
            max: *max,
            numbers: None,
        });
        self.heirs.insert(old.id, heirs.collect());
        self.note(|| format!("partition {} is split into {ids:?}", old.id));
    }

    /// Merges a partition with the one behind it. Writes are numbered anew, from the first on; what was written to one of them stays in its order.
    pub fn merge(&mut self, nth: u32) {
        if self.partitions.len() < 2 {
            return;
        }
        self.before = self.map();
        let at = nth as usize % (self.partitions.len() - 1);
        let (left, right) = (self.partitions.remove(at), self.partitions.remove(at));
        let at = self.add_partition(left.min, right.max, 0);
        let merged = &mut self.partitions[at];
        merged.mixed = true;
        let sides = [&left, &right];
        let writes: BTreeSet<(u64, usize)> = (0..2)
            .flat_map(|side| sides[side].history.keys().map(move |lsn| (*lsn, side)))
            .collect();
        let mut numbers = [BTreeMap::new(), BTreeMap::new()];
        for (lsn, side) in writes {
            merged.lsn += 1;
            numbers[side].insert(lsn, merged.lsn);
            let events = sides[side].history[&lsn].clone();
            merged.history.insert(merged.lsn, events);
            let Some(docs) = sides[side].feed.get(&lsn) else {
                continue;
            };
            for doc in docs {
                if let Some(version) = self.documents.get_mut(doc) {
                    version.lsn = merged.lsn;
                }
            }
            merged.feed.insert(merged.lsn, docs.clone());
        }
        let id = merged.id;
        for (side, numbers) in sides.into_iter().zip(numbers) {
            let heir = Heir {
                id,
                min: side.min,
                max: side.max,
                numbers: Some(numbers),
            };
            self.heirs.insert(side.id, vec![heir]);
        }
        self.note(|| format!("partitions {} and {} are merged into {id}", left.id, right.id));
    }

    /// The number that a position of a partition has now, in a range that one partition has: where several of those in between were merged into that one,
    /// the furthest of theirs, since writes were numbered in the order of their old numbers.
    pub fn number_now(&self, partition: u32, number: u64, min: Epk, max: Epk) -> u64 {
        let Some(heirs) = self.heirs.get(&partition) else {
            return number;
        };
        let inside = heirs.iter().filter(|heir| heir.min < max && min < heir.max);
        let numbers = inside.map(|heir| {
            let number = match &heir.numbers {
                Some(numbers) => numbers.range(..=number).next_back().map_or(0, |(_, n)| *n),
                None => number,
            };
            self.number_now(heir.id, number, min.max(heir.min), max.min(heir.max))
        });
        numbers.max().unwrap_or(number)
    }

    /// A partition takes no requests for a while.
    pub fn lock_partition(&mut self, nth: u32, ms: u64) {
        let at = nth as usize % self.partitions.len();
        self.partitions[at].locked_until = Instant::now() + Duration::from_millis(ms);
        let id = self.partitions[at].id;
        self.note(|| format!("partition {id} is locked for {ms} ms"));
    }

    /// Deletes the container and creates it anew.
    pub fn recreate(&mut self) {
        self.generation += 1;
        self.documents.clear();
        let ranges = self.map();
        self.partitions.clear();
        for (_, min, max) in ranges {
            self.add_partition(min, max, 0);
        }
        self.before = self.map();
        let generation = self.generation;
        self.note(|| format!("the container is created anew, for the {generation}. time"));
    }

    /// Writes a document: it moves to the end of its partition's feed. `with` the last write, where both are one transaction; they are
    /// when they go to one partition.
    pub fn write(&mut self, doc: Doc, n: u64, with: bool) {
        let ts = (EPOCH + self.millis() as i64).div_euclid(1000);
        let before = self
            .documents
            .get(&doc)
            .map(|version| (version.born, version.born_ts));
        let (born, born_ts) = before.unwrap_or((n, ts));
        let replaces = self.remove(doc);
        let at = self.place(doc);
        let partition = &mut self.partitions[at];
        if !with || self.last_write != (partition.id, partition.lsn) {
            partition.lsn += 1;
        }
        self.last_write = (partition.id, partition.lsn);
        let lsn = partition.lsn;
        partition.feed.entry(lsn).or_default().insert(doc);
        partition.history.entry(lsn).or_default().push(Event {
            doc,
            n: Some(n),
            replaces,
            ts,
        });
        let version = Version {
            n,
            lsn,
            ts,
            born,
            born_ts,
        };
        self.documents.insert(doc, version);
    }

    /// What is written from here on is another transaction.
    pub fn commit(&mut self) {
        self.last_write = (0, 0);
    }

    /// Deletes a document: a write of its own, of which only all versions and deletes tell.
    pub fn delete(&mut self, doc: Doc) {
        if !self.remove(doc) {
            return;
        }
        let ts = (EPOCH + self.millis() as i64).div_euclid(1000);
        let at = self.place(doc);
        let partition = &mut self.partitions[at];
        partition.lsn += 1;
        let event = Event {
            doc,
            n: None,
            replaces: true,
            ts,
        };
        partition.history.insert(partition.lsn, vec![event]);
        self.commit();
    }

    /// Takes a document away. The feed of latest versions does not tell.
    pub fn remove(&mut self, doc: Doc) -> bool {
        let Some(old) = self.documents.remove(&doc) else {
            return false;
        };
        let at = self.place(doc);
        let feed = &mut self.partitions[at].feed;
        if let Some(docs) = feed.get_mut(&old.lsn) {
            docs.remove(&doc);
            if docs.is_empty() {
                feed.remove(&old.lsn);
            }
        }
        true
    }

    /// What a request is answered with in place of what it asks for. `opened`: the container is the one that was opened.
    pub fn refusal(&self, call: &Call, opened: bool, asked: Asked) -> Option<CoreError> {
        let refused = |status| Some(failure(status, asked, Fate::NotCarriedOut, None));
        if !opened {
            return refused(if call.nth.is_multiple_of(2) {
                (400, 1024)
            } else {
                (410, 1000)
            });
        }
        if matches!(call.on, Request::Bulk | Request::Page) {
            match self.partition(call.partition) {
                None if call.on == Request::Bulk => return refused((410, 1002)),
                Some(at) if self.partitions[at].locked_until > Instant::now() => {
                    return refused((410, 1007));
                }
                _ => {}
            }
        }
        call.fault(|(_, what)| match what {
            What::Refused {
                status,
                sub,
                retry_after_ms,
            } => Some(failure(
                (*status, *sub),
                asked,
                Fate::NotCarriedOut,
                *retry_after_ms,
            )),
            _ => None,
        })
    }

    /// A request is on its way.
    pub fn call(&mut self, on: Request, partition: u32) -> Call {
        let nth = self.requests.entry((on, partition)).or_default();
        *nth += 1;
        let (nth, now) = (*nth, self.millis());
        let draw = |salt: u64| mix(&[self.seed, on as u64, u64::from(partition), nth, salt]);
        let hits = |f: &&Fault| {
            f.on == on
                && (f.from_ms..f.to_ms).contains(&now)
                && f.partition.is_none_or(|p| p == partition)
                && draw(1000 + u64::from(f.id)) % 1000 < f.per_mille
        };
        let faults: Vec<_> = self.faults.iter().filter(hits).map(|f| (f.id, f.what)).collect();
        let slow: u64 = faults
            .iter()
            .map(|(_, what)| match what {
                What::Slow { ms } => *ms,
                _ => 0,
            })
            .sum();
        let (there, back) = (draw(1) % 6000, draw(2) % 6000 + slow * 1000);
        if let Some((_, what)) = faults.iter().find(|(_, what)| what.is_final()) {
            self.doomed.push(format!("{what:?} hits a request"));
        }
        Call {
            on,
            partition,
            nth,
            there: Duration::from_micros(there),
            back: Duration::from_micros(back),
            faults,
        }
    }

    /// A number for a part of a request.
    pub fn draw(&self, call: &Call, salt: u64) -> u64 {
        mix(&[
            self.seed,
            call.on as u64,
            u64::from(call.partition),
            call.nth,
            salt,
        ])
    }

    /// Whether a fault hits the operation at this place of a request: those that hit a request hit every third of its operations.
    pub fn hits_operation(&self, call: &Call, fault: u32, at: usize) -> bool {
        self.draw(call, (1 << 32) + (u64::from(fault) << 12) + at as u64)
            .is_multiple_of(3)
    }

    /// The last moment at which a fault of the plan begins or lasts, in milliseconds since the beginning.
    pub fn healed_at(&self) -> u64 {
        self.faults.iter().map(|f| f.to_ms).max().unwrap_or(0)
    }
}

/// How documents of the model's containers are keyed.
pub fn definition() -> PartitionKeyDefinition {
    PartitionKeyDefinition::from("/pk")
}

pub fn key_name(key: u32) -> String {
    format!("k{key}")
}

/// A bound in the driver's form.
pub fn bound(epk: Epk) -> EffectivePartitionKey {
    EffectivePartitionKey::try_from(hex(epk)).expect("the model's bounds are hexadecimal")
}

/// A failure as the core's own judge sees it.
pub fn failure(
    (status, sub): (u16, u32),
    asked: Asked,
    before: Fate,
    retry_after_ms: Option<u64>,
) -> CoreError {
    CoreError {
        retry_after_ms,
        ..CoreError::answered(
            (status, sub),
            asked,
            before,
            format!("the model answers {status}/{sub}"),
        )
    }
}
