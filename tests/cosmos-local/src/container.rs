//! What the server knows about a container beside the emulator: its partition layout and its change feed.
//!
//! The emulator's own change feed clones and sorts all documents of a partition for each page. Every write passes
//! through this server, so it keeps the feed itself: per physical partition, the latest version of each document in
//! the order of the writes. A partition's lock spans the emulator's write, the position that it gets, and the entry here, so the order
//! of the feed is the order of the writes, and a reader that has seen position `n` of a partition has seen all up to `n`.
//! Partitions do not wait for each other, as those of the service do not.

use crate::history::{Change as Kind, History, Version, VersionPage};
use crate::ttl::{Clock, Ttl};
use azure_data_cosmos_driver::in_memory_emulator::Epk;
use azure_data_cosmos_driver::models::{FeedRange, PartitionKey, PartitionKeyDefinition, PartitionKeyValue};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard, RwLock};

/// A page ends near this size unless told otherwise, as the service's pages do.
pub(crate) const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Position in the feed: the write's number and, inside a transaction, the operation's.
pub(crate) type Position = (u64, u32);

/// A container, by name.
pub(crate) struct Container {
    pub db: String,
    pub coll: String,
    pub rid: String,
    pub definition: PartitionKeyDefinition,
    pub rules: Arc<Rules>,
    /// Shared by all that read and write documents; taken alone by what changes the partitions.
    pub layout: RwLock<Layout>,
}

/// What is done beside the emulator's write of a document.
pub(crate) struct Rules {
    pub ttl: Ttl,
    pub clock: Arc<Clock>,
    /// Bytes of history that a partition keeps; none where the account keeps no history.
    pub retention_bytes: Option<usize>,
}

/// The partitions of a container.
pub(crate) struct Layout {
    /// The container was deleted: look it up again by name.
    pub gone: bool,
    rules: Arc<Rules>,
    partitions: Vec<Partition>,
    /// Number of the newest write. Counted up under the lock of the partition that is written.
    last: AtomicU64,
}

struct Partition {
    range: Range,
    feed: Mutex<Feed>,
}

#[derive(Default)]
struct Feed {
    entries: BTreeMap<Position, Entry>,
    by_document: HashMap<(Epk, String), Position>,
    /// Documents that expire, by their time in milliseconds since 1970.
    deadlines: BTreeSet<(u64, Position)>,
    history: History,
}

/// Partitions under their locks, in their order.
pub(crate) struct Feeds<'a> {
    last: &'a AtomicU64,
    rules: &'a Rules,
    /// The write that was begun under these locks.
    begun: Option<u64>,
    held: Vec<(&'a Range, MutexGuard<'a, Feed>)>,
}

struct Entry {
    epk: Epk,
    /// Time of the write, in milliseconds since 1970, by the clock of the server.
    at: u64,
    deadline: Option<u64>,
    body: Bytes,
}

/// A physical partition's id and the hashed keys it holds, `min` included, `max` not.
#[derive(Clone)]
pub(crate) struct Range {
    pub id: String,
    pub min: Epk,
    pub max: Epk,
}

/// One document of a feed page.
pub(crate) struct Change {
    pub lsn: u64,
    pub ts: u64,
    pub body: Bytes,
}

/// One page of the feed.
pub(crate) struct Page {
    pub changes: Vec<Change>,
    /// Where the next page starts.
    pub next: u64,
    /// The newest write of the container.
    pub last: u64,
    /// The partition the page came from, if it was one only.
    pub partition: Option<String>,
}

impl Page {
    /// The page without its documents; the next one starts right before the first of them.
    pub fn emptied(mut self) -> Self {
        if let Some(first) = self.changes.first() {
            self.next = first.lsn - 1;
        }
        self.changes.clear();
        self
    }
}

/// Where a feed read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    Now,
    /// At the first document whose last write is at or after this time, in seconds since 1970.
    Time(u64),
    /// After this position.
    After(u64),
}

/// What a feed read covers.
#[derive(Default)]
pub(crate) struct Scope {
    pub partition: Option<String>,
    pub min: Option<Epk>,
    /// Not included.
    pub max: Option<Epk>,
    /// One logical partition.
    pub key: Option<Epk>,
}

impl Scope {
    /// One logical partition.
    pub fn of_key(epk: Epk) -> Self {
        Scope {
            key: Some(epk),
            ..Scope::default()
        }
    }

    fn holds(&self, epk: &Epk) -> bool {
        self.key.as_ref().is_none_or(|key| key == epk)
            && self.min.as_ref().is_none_or(|min| epk >= min)
            && self.max.as_ref().is_none_or(|max| epk < max)
    }

    fn overlaps(&self, range: &Range) -> bool {
        self.partition.as_ref().is_none_or(|id| *id == range.id)
            && self.key.as_ref().is_none_or(|key| range.holds(key))
            && self.min.as_ref().is_none_or(|min| range.max > *min)
            && self.max.as_ref().is_none_or(|max| range.min < *max)
    }
}

impl Range {
    pub fn holds(&self, epk: &Epk) -> bool {
        *epk >= self.min && *epk < self.max
    }
}

/// The system properties of a stored document that the feed needs.
#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(rename = "_ts", default)]
    ts: u64,
}

impl Container {
    /// Builds the server's view from the answers of the emulator to the container read and the range read.
    pub fn new(
        db: &str,
        coll: &str,
        container: &Value,
        ranges: &Value,
        clock: &Arc<Clock>,
        retention_bytes: Option<usize>,
    ) -> Option<Self> {
        let definition = PartitionKeyDefinition::deserialize(container.get("partitionKey")?).ok()?;
        let rules = Arc::new(Rules {
            ttl: Ttl::of(container),
            clock: Arc::clone(clock),
            retention_bytes,
        });
        let mut layout = Layout::new(Arc::clone(&rules));
        layout.lay_out(parse_ranges(ranges)?);
        Some(Self {
            db: db.to_owned(),
            coll: coll.to_owned(),
            rid: container.get("_rid")?.as_str()?.to_owned(),
            definition,
            rules,
            layout: RwLock::new(layout),
        })
    }

    /// The hashed key range of a partition key in its JSON form (`["a", 1]`): a point for a complete key, an
    /// interval for the first levels of a hierarchical one.
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn hash(&self, json: &str) -> Result<(Epk, Epk, bool), String> {
        let values: Vec<Value> = serde_json::from_str(json)
            .map_err(|e| format!("the partition key {json} is not a JSON array: {e}"))?;
        self.hash_values(values.iter().map(Some))
    }

    /// The hashed partition key of a document without a key of its own in the request.
    pub fn hash_document(&self, body: &[u8]) -> Result<Epk, String> {
        let document: Value =
            serde_json::from_slice(body).map_err(|e| format!("the document is not JSON: {e}"))?;
        self.hash_values(self.components(&document))
            .map(|(epk, _, _)| epk)
    }

    /// Whether it has the path that the service makes up for containers from the time before partition keys. Their documents without a
    /// key have the empty one.
    pub fn is_from_before_keys(&self) -> bool {
        matches!(self.definition.paths(), [path] if path == "/_partitionKey")
    }

    /// The components of a document's partition key; `None` is undefined.
    fn components<'a>(&'a self, document: &'a Value) -> impl Iterator<Item = Option<&'a Value>> {
        self.definition.paths().iter().map(move |path| {
            let mut names = path
                .trim_start_matches('/')
                .split('/')
                .map(|name| name.trim_matches(['"', '\'']));
            names.try_fold(document, |value, name| value.get(name))
        })
    }

    /// The partition key of a document, as values; an undefined one is an empty object, as on the wire.
    pub fn key_of_document(&self, document: &Value) -> Vec<Value> {
        let values = self.components(document);
        values
            .map(|value| value.cloned().unwrap_or_else(|| serde_json::json!({})))
            .collect()
    }

    /// The partition key of a stored document, as the JSON array of the wire.
    pub fn key_of(&self, body: &[u8]) -> Result<Value, String> {
        let document = serde_json::from_slice(body).map_err(|e| format!("the document is not JSON: {e}"))?;
        Ok(self.key_of_document(&document).into())
    }

    fn hash_values<'a>(
        &self,
        values: impl Iterator<Item = Option<&'a Value>>,
    ) -> Result<(Epk, Epk, bool), String> {
        let values: Vec<_> = values.map(component).collect::<Result<_, _>>()?;
        let key = PartitionKey::try_from(values).map_err(|e| e.to_string())?;
        let levels = self.definition.paths().len();
        if key.is_empty() || key.len() > levels {
            return Err(format!(
                "a partition key of {} values, the container has {levels} levels",
                key.len()
            ));
        }
        let complete = key.len() == levels;
        let range = FeedRange::for_partition(key, &self.definition);
        Ok((
            range.min_inclusive().clone(),
            range.max_exclusive().clone(),
            complete,
        ))
    }
}

fn component(value: Option<&Value>) -> Result<PartitionKeyValue, String> {
    Ok(match value {
        None => PartitionKeyValue::UNDEFINED,
        Some(Value::Null) => Option::<bool>::None.into(),
        Some(Value::Bool(value)) => (*value).into(),
        Some(Value::String(value)) => value.into(),
        Some(Value::Number(number)) => {
            let number = number
                .as_f64()
                .ok_or_else(|| format!("the partition key {number} is too large"))?;
            PartitionKeyValue::try_from(number).map_err(|e| e.to_string())?
        }
        Some(Value::Object(object)) if object.is_empty() => PartitionKeyValue::UNDEFINED,
        Some(other) => return Err(format!("{other} is not a partition key: it must be a scalar")),
    })
}

/// Reads the emulator's list of partition key ranges.
pub(crate) fn parse_ranges(list: &Value) -> Option<Vec<Range>> {
    let text = |range: &Value, name: &str| range.get(name)?.as_str().map(str::to_owned);
    let mut ranges = Vec::new();
    for range in list.get("PartitionKeyRanges")?.as_array()? {
        ranges.push(Range {
            id: text(range, "id")?,
            min: Epk::try_from(text(range, "minInclusive")?).ok()?,
            max: Epk::try_from(text(range, "maxExclusive")?).ok()?,
        });
    }
    Some(ranges)
}

impl Layout {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            gone: false,
            rules,
            partitions: Vec::new(),
            last: AtomicU64::new(0),
        }
    }

    /// Takes over a new partition layout after a split or merge, and moves the entries to where they belong now.
    pub fn lay_out(&mut self, ranges: Vec<Range>) {
        let old = std::mem::take(&mut self.partitions);
        self.partitions = ranges
            .into_iter()
            .map(|range| Partition {
                range,
                feed: Mutex::default(),
            })
            .collect();
        for before in old {
            let feed = before.feed.into_inner();
            for (position, entry) in feed.entries {
                if let Some(feed) = self.feed_of(&entry.epk) {
                    if let Some(deadline) = entry.deadline {
                        feed.deadlines.insert((deadline, position));
                    }
                    feed.entries.insert(position, entry);
                }
            }
            #[expect(clippy::iter_over_hash_type, reason = "from one map into another")]
            for (document, position) in feed.by_document {
                if let Some(feed) = self.feed_of(&document.0) {
                    feed.by_document.insert(document, position);
                }
            }
            for child in &mut self.partitions {
                if child.range.min < before.range.max && before.range.min < child.range.max {
                    child.feed.get_mut().history.starts_after(feed.history.gone());
                }
            }
            for (position, version) in feed.history.into_versions() {
                if let Some(feed) = self.feed_of(&version.epk) {
                    // No more than there was: nothing has to go.
                    feed.history.add(position, version, usize::MAX);
                }
            }
        }
    }

    /// Works out anew when each document expires.
    pub fn reckon_deadlines(&mut self) {
        let rules = Arc::clone(&self.rules);
        for partition in &mut self.partitions {
            let feed = partition.feed.get_mut();
            feed.deadlines.clear();
            for (position, entry) in &mut feed.entries {
                entry.deadline = rules.ttl.deadline(&entry.body, entry.at);
                feed.deadlines
                    .extend(entry.deadline.map(|deadline| (deadline, *position)));
            }
        }
    }

    fn feed_of(&mut self, epk: &Epk) -> Option<&mut Feed> {
        let holder = self.partitions.iter_mut().find(|p| p.range.holds(epk));
        holder.map(|p| p.feed.get_mut())
    }

    /// The range with this id.
    pub fn range(&self, id: &str) -> Option<&Range> {
        self.partitions
            .iter()
            .map(|p| &p.range)
            .find(|range| range.id == id)
    }

    /// The range that holds this hashed key.
    pub fn holder(&self, epk: &Epk) -> Option<&Range> {
        let mut ranges = self.partitions.iter().map(|p| &p.range);
        ranges.find(|range| range.holds(epk))
    }

    /// How many documents each partition holds, by its id.
    pub async fn counts(&self) -> Vec<(&str, usize)> {
        let mut counts = Vec::new();
        for partition in &self.partitions {
            let documents = partition.feed.lock().await.entries.len();
            counts.push((partition.range.id.as_str(), documents));
        }
        counts
    }

    /// The partitions that `scope` overlaps, locked. Always in the same order, so that nobody waits for each other.
    pub async fn feeds(&self, scope: &Scope) -> Feeds<'_> {
        let mut held = Vec::new();
        for partition in self.partitions.iter().filter(|p| scope.overlaps(&p.range)) {
            held.push((&partition.range, partition.feed.lock().await));
        }
        Feeds {
            last: &self.last,
            rules: &self.rules,
            begun: None,
            held,
        }
    }
}

impl Feed {
    /// Takes an entry out: its position's number and its document.
    fn take(&mut self, position: Position) -> Option<(u64, Bytes)> {
        let entry = self.entries.remove(&position)?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, position));
        }
        Some((position.0, entry.body))
    }
}

impl Feeds<'_> {
    /// Starts the next write: all documents put under the returned number are one transaction.
    pub fn begin(&mut self) -> u64 {
        let write = self.last.fetch_add(1, Relaxed) + 1;
        self.begun = Some(write);
        write
    }

    fn of(&mut self, epk: &Epk) -> Option<&mut Feed> {
        let holder = self.held.iter_mut().find(|(range, _)| range.holds(epk));
        holder.map(|(_, feed)| &mut **feed)
    }

    /// Enters the latest version of a document, as the emulator stored it.
    pub fn put(&mut self, write: u64, operation: u32, epk: Epk, body: Bytes) -> Result<(), String> {
        let stored: Stored = serde_json::from_slice(&body)
            .map_err(|e| format!("the stored document has no id or no time of its write: {e}"))?;
        let position = (write, operation);
        let rules = self.rules;
        let Some(feed) = self.of(&epk) else {
            return Err(format!(
                "no locked partition holds the hashed key {}",
                epk.to_hex()
            ));
        };
        let before = feed.by_document.insert((epk.clone(), stored.id), position);
        let replaced = before.and_then(|before| feed.take(before));
        let at = stored.ts * 1000 + rules.clock.offset();
        if let Some(bytes) = rules.retention_bytes {
            let version = Version {
                epk: epk.clone(),
                change: if replaced.is_some() {
                    Kind::Replace
                } else {
                    Kind::Create
                },
                at,
                current: body.clone(),
                previous: replaced,
            };
            feed.history.add(position, version, bytes);
        }
        let deadline = rules.ttl.deadline(&body, at);
        feed.deadlines
            .extend(deadline.map(|deadline| (deadline, position)));
        feed.entries.insert(
            position,
            Entry {
                epk,
                at,
                deadline,
                body,
            },
        );
        Ok(())
    }

    /// Takes a deleted document out.
    pub fn remove(&mut self, epk: Epk, id: &str) {
        let write = self.begun;
        self.take_out(write, epk, id, false);
    }

    /// Takes a document out that expired.
    pub fn expire(&mut self, epk: Epk, id: &str) {
        self.take_out(None, epk, id, true);
    }

    fn take_out(&mut self, write: Option<u64>, epk: Epk, id: &str, expired: bool) {
        let (rules, last) = (self.rules, self.last);
        let Some(feed) = self.of(&epk) else { return };
        let Some(position) = feed.by_document.remove(&(epk.clone(), id.to_owned())) else {
            return;
        };
        let previous = feed.take(position);
        if let Some(bytes) = rules.retention_bytes {
            let write = write.unwrap_or_else(|| last.fetch_add(1, Relaxed) + 1);
            let version = Version {
                epk,
                change: Kind::Delete { expired },
                at: rules.clock.now(),
                current: Bytes::new(),
                previous,
            };
            let operation = feed.history.next_in(write);
            feed.history.add((write, operation), version, bytes);
        }
    }

    /// What has expired by now, in milliseconds since 1970: hashed key, id and document.
    pub fn expired(&self, now: u64) -> Vec<(Epk, String, Bytes)> {
        let mut expired = Vec::new();
        for (_, feed) in &self.held {
            for (_, position) in feed.deadlines.range(..=(now, (u64::MAX, u32::MAX))) {
                let Some(entry) = feed.entries.get(position) else {
                    continue;
                };
                if let Ok(stored) = serde_json::from_slice::<Stored>(&entry.body) {
                    expired.push((entry.epk.clone(), stored.id, entry.body.clone()));
                }
            }
        }
        expired
    }

    /// Reads a page of at most `limit` versions of `scope` after a position; `None` stands for now.
    ///
    /// # Errors
    /// The position of the oldest version that there is, where the history does not reach so far back.
    pub fn read_versions(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
        most: usize,
    ) -> Result<VersionPage, u64> {
        let last = self.last.load(Relaxed);
        let mut page = VersionPage {
            versions: Vec::new(),
            next: last,
            last,
            partition: match self.held.as_slice() {
                [(range, _)] => Some(range.id.clone()),
                _ => None,
            },
        };
        let Some(after) = after else {
            return Ok(page);
        };
        let gone = self.held.iter().map(|(_, feed)| feed.history.gone()).max();
        if let Some(gone) = gone.filter(|gone| *gone > after) {
            return Err(gone + 1);
        }
        let feeds: Vec<_> = self
            .held
            .iter()
            .map(|(_, feed)| {
                let versions = feed.history.after(after);
                versions
                    .filter(|(_, version)| scope.holds(&version.epk))
                    .peekable()
            })
            .collect();
        let (versions, stopped) = merged(feeds, limit, most, |version| version.current.len());
        let cloned = versions.into_iter().map(|(lsn, version)| (lsn, version.clone()));
        page.versions.extend(cloned);
        page.next = stopped.unwrap_or(last);
        Ok(page)
    }

    /// Reads a page of at most `limit` documents of `scope`, for which the feeds were locked; it ends once it has
    /// `most` bytes. The operations of one transaction are never parted, so a page can be longer by those.
    pub fn read(&self, scope: &Scope, start: Start, limit: usize, most: usize) -> Page {
        let partition = match self.held.as_slice() {
            [(range, _)] => Some(range.id.clone()),
            _ => None,
        };
        // With the locks held: whatever is written to these partitions later, gets a higher number.
        let last = self.last.load(Relaxed);
        let mut page = Page {
            changes: Vec::new(),
            next: last,
            last,
            partition,
        };
        let (after, since) = match start {
            Start::Now => return page,
            Start::Beginning => (0, 0),
            Start::Time(seconds) => (0, seconds.saturating_mul(1000)),
            Start::After(position) => (position, 0),
        };
        let feeds: Vec<_> = self
            .held
            .iter()
            .map(|(_, feed)| {
                feed.entries
                    .range((after + 1, 0)..)
                    .filter(|(_, entry)| entry.at >= since && scope.holds(&entry.epk))
                    .peekable()
            })
            .collect();
        let (entries, stopped) = merged(feeds, limit, most, |entry| entry.body.len());
        page.changes
            .extend(entries.into_iter().map(|(lsn, entry)| Change {
                lsn,
                ts: entry.at / 1000,
                body: entry.body.clone(),
            }));
        page.next = stopped.unwrap_or(last);
        page
    }
}

/// Takes what several feeds hold by position, oldest first, until there are `limit` of them or `most` bytes, or nothing is left. The
/// operations of one transaction are never parted. Also the number of the last one, when there is more behind it.
fn merged<'a, T: 'a>(
    mut feeds: Vec<Peekable<impl Iterator<Item = (&'a Position, &'a T)>>>,
    limit: usize,
    most: usize,
    size: impl Fn(&T) -> usize,
) -> (Vec<(u64, &'a T)>, Option<u64>) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    loop {
        // Almost always there is one feed only.
        let next = feeds
            .iter_mut()
            .enumerate()
            .filter_map(|(n, feed)| Some((*feed.peek()?.0, n)))
            .min();
        let Some((position, n)) = next else {
            return (taken, None);
        };
        let last = taken.last().map(|(lsn, _)| *lsn);
        let full = taken.len() >= limit.max(1) || bytes >= most;
        if full && last.is_some_and(|last| last != position.0) {
            return (taken, last);
        }
        if let Some((_, item)) = feeds[n].next() {
            bytes += size(item);
            taken.push((position.0, item));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn epk(hex: &str) -> Epk {
        Epk::try_from(hex.to_owned()).unwrap()
    }

    fn range(id: &str, min: &str, max: &str) -> Range {
        Range {
            id: id.to_owned(),
            min: epk(min),
            max: epk(max),
        }
    }

    /// The feeds of `scope`, whose locks nobody else holds.
    fn feeds<'a>(layout: &'a Layout, scope: &Scope) -> Feeds<'a> {
        layout.feeds(scope).now_or_never().unwrap()
    }

    fn keyed(hash: &str) -> Scope {
        Scope::of_key(epk(hash))
    }

    fn put(layout: &Layout, hash: &str, id: &str, ts: u64) -> u64 {
        let mut feeds = feeds(layout, &keyed(hash));
        let write = feeds.begin();
        let body = serde_json::json!({ "id": id, "_ts": ts }).to_string();
        feeds.put(write, 0, epk(hash), body.into()).unwrap();
        write
    }

    fn read(layout: &Layout, scope: &Scope, start: Start, limit: usize) -> Page {
        feeds(layout, scope).read(scope, start, limit, PAGE_BYTES)
    }

    fn ids(page: &Page) -> Vec<String> {
        page.changes
            .iter()
            .map(|c| serde_json::from_slice::<Stored>(&c.body).unwrap().id)
            .collect()
    }

    fn whole(layout: &Layout, start: Start, limit: usize) -> Page {
        read(layout, &Scope::default(), start, limit)
    }

    fn two_partitions() -> Layout {
        let rules = Rules {
            ttl: Ttl::of(&Value::Null),
            clock: Arc::default(),
            retention_bytes: None,
        };
        let mut layout = Layout::new(Arc::new(rules));
        layout.lay_out(vec![range("0", "", "80"), range("1", "80", "FF")]);
        layout
    }

    #[test]
    fn an_update_moves_a_document_to_the_end_and_a_delete_takes_it_out() {
        let layout = two_partitions();
        put(&layout, "10", "a", 5);
        put(&layout, "90", "b", 6);
        put(&layout, "10", "c", 7);
        assert_eq!(ids(&whole(&layout, Start::Beginning, 10)), ["a", "b", "c"]);
        put(&layout, "10", "a", 8);
        assert_eq!(ids(&whole(&layout, Start::Beginning, 10)), ["b", "c", "a"]);
        feeds(&layout, &keyed("90")).remove(epk("90"), "b");
        assert_eq!(ids(&whole(&layout, Start::Beginning, 10)), ["c", "a"]);
        assert_eq!(ids(&whole(&layout, Start::Time(8), 10)), ["a"]);
        assert!(whole(&layout, Start::Now, 10).changes.is_empty());
    }

    #[test]
    fn pages_join_without_gap_or_overlap_and_end_at_the_newest_write() {
        let layout = two_partitions();
        let written: Vec<String> = (0..25).map(|n| format!("d{n}")).collect();
        for (n, id) in written.iter().enumerate() {
            put(&layout, if n % 3 == 0 { "10" } else { "90" }, id, n as u64);
        }
        let (mut seen, mut start) = (Vec::new(), Start::Beginning);
        loop {
            let page = whole(&layout, start, 4);
            if page.changes.is_empty() {
                assert_eq!(page.next, 25);
                break;
            }
            seen.extend(ids(&page));
            start = Start::After(page.next);
        }
        assert_eq!(seen, written);
    }

    #[test]
    fn partitions_do_not_wait_for_each_other_but_a_read_over_all_waits_for_each() {
        let layout = two_partitions();
        let mut writing = feeds(&layout, &keyed("10"));
        let earlier = writing.begin();
        let later = put(&layout, "90", "b", 1);
        assert!(later > earlier);
        // It must not see the later write without the earlier one.
        assert!(layout.feeds(&Scope::default()).now_or_never().is_none());
        let body = serde_json::json!({ "id": "a", "_ts": 1 }).to_string();
        writing.put(earlier, 0, epk("10"), body.into()).unwrap();
        drop(writing);
        assert_eq!(ids(&whole(&layout, Start::Beginning, 9)), ["a", "b"]);
    }

    #[test]
    fn a_transaction_is_never_parted() {
        let layout = two_partitions();
        put(&layout, "10", "a", 1);
        let mut batch = feeds(&layout, &keyed("10"));
        let write = batch.begin();
        for n in 0..3 {
            let body = serde_json::json!({ "id": format!("t{n}"), "_ts": 1 }).to_string();
            batch.put(write, n, epk("10"), body.into()).unwrap();
        }
        drop(batch);
        put(&layout, "10", "z", 1);
        let page = whole(&layout, Start::Beginning, 2);
        assert_eq!(ids(&page), ["a", "t0", "t1", "t2"]);
        assert_eq!(ids(&whole(&layout, Start::After(page.next), 2)), ["z"]);
    }

    #[test]
    fn a_split_keeps_positions_and_retires_the_old_range() {
        let mut layout = two_partitions();
        put(&layout, "10", "a", 1);
        let seen = put(&layout, "50", "b", 1);
        put(&layout, "60", "c", 1);
        layout.lay_out(vec![
            range("1", "80", "FF"),
            range("2", "", "40"),
            range("3", "40", "80"),
        ]);
        let scope = |id: &str| Scope {
            partition: Some(id.to_owned()),
            ..Scope::default()
        };
        assert!(layout.range("0").is_none());
        assert_eq!(ids(&read(&layout, &scope("2"), Start::Beginning, 9)), ["a"]);
        assert_eq!(ids(&read(&layout, &scope("3"), Start::After(seen), 9)), ["c"]);
        put(&layout, "50", "b", 2);
        assert_eq!(
            ids(&read(&layout, &scope("3"), Start::After(seen), 9)),
            ["c", "b"]
        );
        layout.lay_out(vec![range("1", "80", "FF"), range("4", "", "80")]);
        assert_eq!(
            ids(&read(&layout, &scope("4"), Start::After(seen), 9)),
            ["c", "b"]
        );
        let part = Scope {
            min: Some(epk("40")),
            max: Some(epk("55")),
            ..Scope::default()
        };
        assert_eq!(ids(&read(&layout, &part, Start::Beginning, 9)), ["b"]);
    }
}
