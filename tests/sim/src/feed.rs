//! What the source reads from: the world's change feed behind the core's own interface.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use azure_core::Bytes;
use cosmosflink_core::config::Start;
use cosmosflink_core::error::{CoreError, Result};
use cosmosflink_core::feed::{recreated, Feed, Goal, Pages, RawPage, Reached, ReadTo};
use cosmosflink_core::leases::token::{Position, Ranged};
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::page::{Items, KeyPaths};
use cosmosflink_core::split::{Mode, Split, Stop};
use cosmosflink_core::status::{Asked, Fate};
use tokio::time::{sleep, Instant};

use crate::plan::{Request, What};
use crate::world::{ask, failure, from_hex, hex, key_name, lock, Call, Doc, Epk, Event, Shared, World};

/// The service ends a page behind so many bytes.
const MOST_BYTES: usize = 3 * 1024 * 1024;

/// What all readers of a job share.
pub struct ModelFeed {
    pub world: Shared,
    /// The container that was opened.
    pub rid: String,
    pub paths: KeyPaths,
    /// Bytes that a document has besides its own few.
    pub padding: usize,
    /// Pages under way.
    pub under_way: Arc<Mutex<usize>>,
    pub most: usize,
    /// What pages may cost, where that is bounded.
    pub budget: Option<Budget>,
}

/// Request units that the pages of a reader may cost in a second; each costs one.
#[derive(Clone)]
pub struct Budget {
    pub rate: u64,
    pub since: Instant,
    pub used: Arc<Mutex<u64>>,
}

impl ModelFeed {
    pub fn new(world: &Shared, padding: usize, most: usize) -> ModelFeed {
        ModelFeed {
            world: world.clone(),
            rid: rid(lock(world).generation),
            paths: KeyPaths::new(&["/pk"]),
            padding,
            under_way: Arc::default(),
            most,
            budget: None,
        }
    }

    /// Asks for something that is no page.
    async fn ask<T>(&self, on: Request, answer: impl FnOnce(&World, &Call) -> Result<T>) -> Result<T> {
        ask(&self.world, on, |world| rid(world.generation) == self.rid, answer).await
    }
}

/// The resource id of a container that was created so many times.
fn rid(generation: u32) -> String {
    format!("rid{generation}")
}

/// A part of a split's range, and up to which write it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    min: Epk,
    max: Epk,
    /// `None`: where the split starts.
    read: Option<u64>,
    /// The partition of that number.
    of: u32,
}

/// The driver's token: a number is one of a partition, and is passed on as it is. A position of one mode is none of the other.
fn encode(rid: &str, parts: &[Part], mode: Mode) -> String {
    let ranges = parts.iter().filter_map(|part| {
        Some(Ranged {
            min: hex(part.min),
            max: hex(part.max),
            etag: format!("\"{}.{}\"", part.read?, part.of),
        })
    });
    let position = Position {
        rid: rid.to_owned(),
        full_fidelity: mode == Mode::AllVersionsAndDeletes,
        ranges: ranges.collect(),
        start: None,
    };
    position.encode().expect("a position without a start")
}

fn decode(text: &str, mode: Mode) -> Option<(String, Vec<Part>)> {
    let position = Position::decode(text)?;
    if position.full_fidelity != (mode == Mode::AllVersionsAndDeletes) {
        return None;
    }
    let parts = position.ranges.iter().map(|range| {
        let (read, of) = range.etag.trim_matches('"').split_once('.')?;
        Some(Part {
            min: from_hex(&range.min),
            max: from_hex(&range.max),
            read: Some(read.parse().ok()?),
            of: of.parse().ok()?,
        })
    });
    Some((position.rid, parts.collect::<Option<Vec<_>>>()?))
}

fn bounds(parts: &[Part]) -> Vec<(String, String)> {
    parts.iter().map(|p| (hex(p.min), hex(p.max))).collect()
}

/// What is known of the range `[min, max)` in a position, which may be that of a larger range. What is not known starts where the split does.
fn inside(parts: &[Part], min: Epk, max: Epk) -> Vec<Part> {
    let mut found = Vec::new();
    let mut at = min;
    let gap = |min, max| Part {
        min,
        max,
        read: None,
        of: 0,
    };
    for part in parts.iter().filter(|p| p.min < max && min < p.max) {
        let (low, high) = (part.min.max(min), part.max.min(max));
        if at < low {
            found.push(gap(at, low));
        }
        found.push(Part {
            min: low,
            max: high,
            ..*part
        });
        at = high;
    }
    if at < max {
        found.push(gap(at, max));
    }
    found
}

#[async_trait::async_trait]
impl Feed for ModelFeed {
    fn rid(&self) -> &str {
        &self.rid
    }

    fn name(&self) -> &str {
        "c"
    }

    fn key_paths(&self) -> &KeyPaths {
        &self.paths
    }

    async fn ranges(&self, _: bool) -> Result<Vec<(String, String)>> {
        self.ask(Request::Ranges, |world, call| {
            let stale = call.fault(|(_, what)| (*what == What::Stale).then_some(()));
            let map = world.map_as_seen(stale.is_some());
            Ok(map
                .into_iter()
                .map(|(_, min, max)| (hex(min), hex(max)))
                .collect())
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        self.ask(Request::Check, |_, _| Ok(())).await
    }

    async fn open(&self, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
        self.ask(Request::Open, |_, _| Ok(())).await?;
        let parts = match &split.continuation {
            None => vec![Part {
                min: from_hex(&split.min),
                max: from_hex(&split.max),
                read: None,
                of: 0,
            }],
            Some(text) => {
                let (rid, parts) =
                    decode(text, split.mode).ok_or_else(|| CoreError::state("a damaged position"))?;
                if rid != self.rid {
                    return Err(recreated("c", &rid, &self.rid));
                }
                inside(&parts, from_hex(&split.min), from_hex(&split.max))
            }
        };
        Ok(Box::new(ModelPages {
            world: self.world.clone(),
            rid: self.rid.clone(),
            start: split.start,
            mode: split.mode,
            goal: match &split.stop {
                Stop::At(text) => decode(text, split.mode)
                    .map(|(_, parts)| Goal::new(&split.min, &split.max, read_to(&parts))),
                Stop::Never | Stop::Time(_) => None,
            },
            seam: split.then.is_some(),
            ends: split.stop != Stop::Never && split.then.is_none(),
            padding: self.padding,
            limit: limit as usize,
            position: split.continuation.clone(),
            bounds: bounds(&parts),
            parts,
            turn: 0,
            spent: false,
            under_way: self.under_way.clone(),
            most: self.most,
            budget: self.budget.clone(),
        }))
    }
}

/// The parts that were asked at least once, as the driver's position has them.
fn read_to(parts: &[Part]) -> Vec<ReadTo> {
    let asked = parts.iter().filter(|part| part.read.is_some());
    asked
        .map(|part| ReadTo {
            min: hex(part.min),
            max: hex(part.max),
            lsn: part.read.map(|read| read as i64),
        })
        .collect()
}

struct ModelPages {
    world: Shared,
    rid: String,
    start: Start,
    mode: Mode,
    /// Where it ends.
    goal: Option<Goal>,
    /// Whether it does, there or at a time.
    ends: bool,
    /// Changes are read behind it, from the seam on.
    seam: bool,
    padding: usize,
    limit: usize,
    position: Option<String>,
    parts: Vec<Part>,
    /// Of the parts, as of the last page.
    bounds: Vec<(String, String)>,
    /// Which part is asked next.
    turn: usize,
    spent: bool,
    under_way: Arc<Mutex<usize>>,
    most: usize,
    budget: Option<Budget>,
}

/// Counts pages under way.
struct Counted(Arc<Mutex<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) -= 1;
    }
}

/// A page as the service made it.
struct Served {
    documents: Vec<(Event, u64)>,
    part: Part,
    partition: u32,
    unchanged: bool,
    lsn: u64,
}

impl ModelPages {
    /// Where the next page comes from: parts that lie in several partitions by now are parted first, as the driver does by itself.
    fn part(&mut self, world: &World) -> u32 {
        let part = self.parts[self.turn];
        let inside: Vec<Part> = world
            .partitions
            .iter()
            .filter(|p| p.min < part.max && part.min < p.max)
            .map(|p| Part {
                min: p.min.max(part.min),
                max: p.max.min(part.max),
                read: part
                    .read
                    .map(|read| world.number_now(part.of, read, p.min.max(part.min), p.max.min(part.max))),
                of: p.id,
            })
            .collect();
        self.parts.splice(self.turn..=self.turn, inside);
        let min = self.parts[self.turn].min;
        world.partitions[world.partitions.partition_point(|p| p.min <= min) - 1].id
    }

    fn serve(&self, world: &World, call: &Call) -> Served {
        let part = self.parts[self.turn];
        let partition = &world.partitions[world.partitions.partition_point(|p| p.min <= part.min) - 1];
        let lag = call.fault(|(_, what)| match what {
            // Where now is, only one that is up to date knows.
            What::Lag { writes } if part.read.is_some() => Some(*writes),
            _ => None,
        });
        let visible = partition.lsn.saturating_sub(lag.unwrap_or(0));
        let mut read = part.read.unwrap_or(match self.start {
            Start::Beginning | Start::PointInTime(_) => 0,
            Start::Now => visible,
        });
        let _before = read;
        let mut documents = Vec::new();
        let mine = |event: &Event| (part.min..part.max).contains(&world.epk(event.doc));
        let latest = |doc: &Doc| {
            let version = &world.documents[doc];
            Event {
                doc: *doc,
                n: Some(version.n),
                replaces: false,
                ts: version.ts,
            }
        };
        let behind: Vec<(u64, Vec<Event>)> = match self.mode {
            Mode::AllVersionsAndDeletes => {
                let behind = partition.history.range(read + 1..);
                behind.map(|(lsn, events)| (*lsn, events.clone())).collect()
            }
            // Of a document that was changed since it still has the version before, in its place. What was deleted before the seam nobody tells of.
            _ if lag.is_some() && !self.seam => {
                let mut last: BTreeMap<Doc, (u64, Event)> = BTreeMap::new();
                for (lsn, events) in partition.history.range(..=visible) {
                    last.extend(events.iter().map(|event| (event.doc, (*lsn, *event))));
                }
                let mut behind: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
                for (lsn, event) in last.into_values() {
                    if lsn > read && event.n.is_some() {
                        behind.entry(lsn).or_default().push(event);
                    }
                }
                behind.into_iter().collect()
            }
            _ => {
                let behind = partition.feed.range(read + 1..);
                behind
                    .map(|(lsn, docs)| (*lsn, docs.iter().map(latest).collect()))
                    .collect()
            }
        };
        let mut groups = behind
            .into_iter()
            .take_while(|(lsn, _)| *lsn <= visible)
            .map(|(lsn, events)| (lsn, events.into_iter().filter(mine).collect::<Vec<_>>()))
            .filter(|(_, events)| !events.is_empty());
        let empty = call
            .fault(|(_, what)| (*what == What::Empty).then_some(()))
            .is_some();
        let mut ended = true;
        for (lsn, docs) in &mut groups {
            if empty {
                // It moves on as far as it leaves nothing out.
                read = read.max(lsn - 1);
                ended = false;
                break;
            }
            // What was written together comes together, also across the limit.
            documents.extend(docs.into_iter().map(|event| (event, lsn)));
            read = lsn;
            if documents.len() >= self.limit || documents.len() * self.padding >= MOST_BYTES {
                ended = false;
                break;
            }
        }
        if ended {
            read = read.max(visible);
        }
        let unchanged = documents.is_empty() && ended;
        Served {
            documents,
            part: Part {
                read: Some(read),
                ..part
            },
            partition: partition.id,
            unchanged,
            lsn: visible,
        }
    }

    /// A page is there, which has its price.
    fn pay(&self) {
        let Some(budget) = &self.budget else { return };
        let used = {
            let mut used = budget.used.lock().unwrap_or_else(|e| e.into_inner());
            *used += 1;
            *used
        };
        // A second's worth at once, and what is under way.
        let most = (budget.since.elapsed().as_secs_f64() + 1.0) * budget.rate as f64 + self.most as f64 + 1.0;
        if used as f64 > most {
            let what = format!("{used} request units, {most:.1} may be used by now");
            lock(&self.world).violation("reading stays within its budget", what);
        }
    }

    /// Where the position stands to the stop.
    fn reached(&mut self, at_end: bool) -> Reached {
        let Some(goal) = &mut self.goal else {
            return Reached::NotYet;
        };
        let read = read_to(&self.parts);
        goal.reached(&read, at_end).unwrap_or_else(|| {
            let partitions = lock(&self.world).map().into_iter();
            let bounds: Vec<_> = partitions.map(|(_, min, max)| (hex(min), hex(max))).collect();
            goal.reached_in(&read, &bounds)
        })
    }

    fn body(&self, served: &Served, keys: u32) -> Vec<u8> {
        let mut body = br#"{"_rid":"x","Documents":["#.to_vec();
        for (i, (event, lsn)) in served.documents.iter().enumerate() {
            let Event { doc, ts, .. } = event;
            let comma = if i == 0 { "" } else { "," };
            let (key, padding) = (key_name(doc % keys), "x".repeat(self.padding));
            let document = event.n.map(|n| {
                format!(
                    r#"{{"id":"d{doc}","pk":"{key}","n":{n},"padding":"{padding}","_ts":{ts},"_lsn":{lsn}}}"#
                )
            });
            let text = match (self.mode, document) {
                (Mode::AllVersionsAndDeletes, None) => format!(
                    r#"{{"current":{{}},"metadata":{{"operationType":"delete","lsn":{lsn},"crts":{ts},"timeToLiveExpired":false,"id":"d{doc}","partitionKey":["{key}"]}}}}"#
                ),
                (Mode::AllVersionsAndDeletes, Some(document)) => {
                    let operation = if event.replaces { "replace" } else { "create" };
                    format!(
                        r#"{{"current":{document},"metadata":{{"operationType":"{operation}","lsn":{lsn},"crts":{ts}}}}}"#
                    )
                }
                (_, document) => document.unwrap_or_default(),
            };
            body.extend_from_slice(comma.as_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        body.extend_from_slice(format!(r#"],"_count":{}}}"#, served.documents.len()).as_bytes());
        body
    }
}

#[async_trait::async_trait]
impl Pages for ModelPages {
    async fn next(&mut self, _: &Metrics) -> Result<RawPage> {
        let (call, _counted) = {
            let world = self.world.clone();
            let mut world = lock(&world);
            let partition = self.part(&world);
            let call = world.call(Request::Page, partition);
            let under_way = {
                let mut under_way = self.under_way.lock().unwrap_or_else(|e| e.into_inner());
                *under_way += 1;
                *under_way
            };
            if under_way > self.most {
                world.violation("requests are bounded", format!("{under_way} pages are under way"));
            }
            (call, Counted(self.under_way.clone()))
        };
        sleep(call.there).await;
        let served = {
            let world = self.world.clone();
            let mut world = lock(&world);
            // It may have been split on the way.
            self.part(&world);
            match world.refusal(&call, rid(world.generation) == self.rid, Asked::Feed) {
                Some(error) => Err(error),
                None => {
                    let served = self.serve(&world, &call);
                    let part = served.part;
                    world.note(|| {
                        let docs: Vec<_> = served
                            .documents
                            .iter()
                            .map(|(e, _)| format!("d{}={:?}", e.doc, e.n))
                            .collect();
                        format!(
                            "Page {}/{} [{}, {}) to {:?}: {}{}",
                            call.partition,
                            call.nth,
                            hex(part.min),
                            hex(part.max),
                            part.read,
                            docs.join(" "),
                            if served.unchanged { " unchanged" } else { "" },
                        )
                    });
                    Ok(served)
                }
            }
        };
        sleep(call.back).await;
        let served = served.inspect_err(|e| {
            lock(&self.world).note(|| format!("Page {}/{}: {e}", call.partition, call.nth));
        })?;
        // From here on the page is lost if it is not handed over.
        self.parts[self.turn] = served.part;
        self.turn = (self.turn + 1) % self.parts.len();
        let lost = call.fault(|(_, what)| match what {
            What::Lost { status, sub } => Some((*status, *sub)),
            _ => None,
        });
        if let Some(status) = lost {
            self.spent = true;
            lock(&self.world).note(|| format!("Page {}/{} is lost", call.partition, call.nth));
            return Err(failure(status, Asked::Feed, Fate::NotCarriedOut, None));
        }
        let position = encode(&self.rid, &self.parts, self.mode);
        let keys = lock(&self.world).key_count();
        let mut body = self.body(&served, keys);
        if call
            .fault(|(_, what)| (*what == What::Broken).then_some(()))
            .is_some()
            && !served.documents.is_empty()
        {
            body.truncate(body.len() / 2);
        }
        let stands = !served.unchanged && self.position.as_deref() == Some(&position);
        self.position = Some(position.clone());
        self.bounds = bounds(&self.parts);
        self.pay();
        let reached = self.reached(served.unchanged || served.part.read >= Some(served.lsn));
        Ok(RawPage {
            bytes: body.len() as u64,
            items: match served.documents.is_empty() && served.unchanged {
                true => Items::None,
                false => Items::Envelope(Bytes::from(body)),
            },
            continuation: position,
            unchanged: served.unchanged,
            stands,
            partition: Some(u64::from(served.partition)),
            // Not every server gives the number. Where reading ends, who does not know of a write cannot know that it is missing.
            lsn: (self.ends || call.nth % 4 != 0).then_some(served.lsn as i64),
            session_lsn: None,
            charge: 1.0,
            position: served.part.read.map(|n| n as i64),
            ranges: self.parts.len(),
            reached,
            ended: false,
        })
    }

    fn is_spent(&self) -> bool {
        self.spent
    }

    async fn in_order(&mut self, _: &Metrics) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return false;
        };
        let world = lock(&self.world);
        let mut inside = world
            .partitions
            .iter()
            .filter(|p| p.min < last.max && first.min < p.max);
        !inside.any(|p| p.mixed)
    }

    fn parts(&self) -> &[(String, String)] {
        &self.bounds
    }
}
