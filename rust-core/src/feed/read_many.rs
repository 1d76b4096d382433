//! Documents by id and partition key over the driver: those of a feed range, some hundred with each page. One that is not there is passed
//! over.

use std::collections::BTreeSet;

use async_trait::async_trait;
use azure_data_cosmos_driver::models::{CosmosOperation, FeedRange, PartitionKey, PartitionKeyDefinition};
use serde_json::{json, Map, Value};

use super::driver::{items, DriverFeed, Plan};
use super::stop::Reached;
use super::{Pages, RawPage};
use crate::account::charge;
use crate::bound::Bound;
use crate::config::ReadMany;
use crate::error::{CoreError, Result};
use crate::keys::{of_lines, of_list, DocumentKey};
use crate::metrics::Metrics;
use crate::page::Items;
use crate::sink::canonical_key;
use crate::split::Split;

/// Keys that one request asks for at most.
const KEYS: usize = 100;

/// Bytes of documents with which a page ends that is for several keys: it is asked for again with fewer.
const MAX_PAGE_BYTES: u64 = 8 * 1024 * 1024;

/// In front of a position.
const PREFIX: &str = "rm1.";

/// Begins with the keys of a split behind its position.
pub(super) async fn open(feed: &DriverFeed, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
    let from = feed.config.read_many.clone().ok_or_else(|| {
        CoreError::state(format!(
            "split {} is read by keys, but neither scan.read-many nor scan.read-many-file is set; set what the state was written with",
            split.id()
        ))
    })?;
    let of = split.clone();
    let Keys { list, own } = keys(feed, from, move |place| place.is_in(&of)).await?;
    let at = match &split.continuation {
        None => Some(0),
        Some(text) => position(text).filter(|at| *at <= own.len()),
    };
    let at = at.filter(|_| split.fingerprint == Some(list)).ok_or_else(|| {
        CoreError::state(format!(
            "the state of split {} is of another list of keys; give the list that the state was written with, or start without state",
            split.id()
        ))
    })?;
    Ok(Box::new(KeyPages {
        feed: feed.clone(),
        split: Split {
            continuation: None,
            ..split.clone()
        },
        keys: own.into_iter().collect(),
        at,
        size: KEYS.min(limit as usize).max(1),
    }))
}

/// Tells the list of keys from others, in whatever order they are given.
pub(super) async fn fingerprint(feed: &DriverFeed, from: &ReadMany) -> Result<u64> {
    Ok(keys(feed, from.clone(), |_| false).await?.list)
}

/// A list of keys.
#[derive(Default)]
struct Keys {
    /// Its fingerprint.
    list: u64,
    /// Those that were wanted, each once and in order. Two ways to write one partition key are one key.
    own: BTreeSet<DocumentKey>,
}

impl Keys {
    fn add(
        &mut self,
        key: DocumentKey,
        definition: &PartitionKeyDefinition,
        wanted: impl Fn(&Place) -> bool,
    ) -> Result<()> {
        let canonical = canonical_key(key.partition_key.as_bytes(), definition.paths()).map_err(|e| {
            CoreError::config(format!("scan.read-many: document '{}': {}", key.id, e.message))
        })?;
        let key = DocumentKey {
            id: key.id,
            partition_key: canonical.text,
        };
        let one = crate::split::fingerprint([key.id.as_str(), key.partition_key.as_str()]);
        self.list = self.list.wrapping_add(one);
        if wanted(&Place::of(canonical.key, definition)) {
            self.own.insert(key);
        }
        Ok(())
    }
}

/// Reads the list, of which only those keys are kept that are wanted. A file is read line by line, on a thread that may wait for it.
async fn keys(
    feed: &DriverFeed,
    from: ReadMany,
    wanted: impl Fn(&Place) -> bool + Send + 'static,
) -> Result<Keys> {
    let definition = feed.container.partition_key_definition().clone();
    let read = move || {
        let mut keys = Keys::default();
        match from {
            ReadMany::List(text) => of_list(&text)
                .map_err(|why| CoreError::config(format!("scan.read-many: {why}")))?
                .into_iter()
                .try_for_each(|key| keys.add(key, &definition, &wanted))?,
            ReadMany::File(path) => {
                let unreadable = |e| {
                    CoreError::config(format!(
                        "scan.read-many-file: cannot read '{path}': {e}; give a file that every process of the job can read"
                    ))
                };
                let file = std::fs::File::open(&path).map_err(unreadable)?;
                for key in of_lines(std::io::BufReader::new(file)) {
                    let key =
                        key.map_err(|why| CoreError::config(format!("scan.read-many-file '{path}': {why}")))?;
                    keys.add(key, &definition, &wanted)?;
                }
            }
        }
        Ok(keys)
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| CoreError::internal(format!("reading the list of keys failed: {e}")))?
}

/// How many keys are read at a position.
fn position(text: &str) -> Option<usize> {
    text.strip_prefix(PREFIX)?.parse().ok()
}

/// Where a key lies in the key space.
struct Place(String);

impl Place {
    fn of(key: PartitionKey, definition: &PartitionKeyDefinition) -> Place {
        Place(FeedRange::for_partition(key, definition).min_inclusive().to_hex())
    }

    fn is_in(&self, split: &Split) -> bool {
        Bound(&split.min) <= Bound(&self.0) && Bound(&self.0) < Bound(&split.max)
    }
}

/// The query for some keys.
fn query(keys: &[DocumentKey], definition: &PartitionKeyDefinition) -> Vec<u8> {
    let (mut conditions, mut parameters) = (Vec::new(), Vec::new());
    let mut parameter = |value: Value| {
        let name = format!("@p{}", parameters.len());
        parameters.push(json!({"name": name, "value": value}));
        name
    };
    for key in keys {
        let mut all = vec![format!("c.id = {}", parameter(key.id.clone().into()))];
        let components: Vec<Value> = serde_json::from_str(&key.partition_key).unwrap_or_default();
        for (path, component) in definition.paths().iter().zip(components) {
            let path: String = path
                .trim_start_matches('/')
                .split('/')
                .map(|part| format!("[{}]", Value::from(part.trim_matches('"'))))
                .collect();
            all.push(match component {
                // A component that the document does not have.
                Value::Object(_) => format!("NOT IS_DEFINED(c{path})"),
                value => format!("c{path} = {}", parameter(value)),
            });
        }
        conditions.push(format!("({})", all.join(" AND ")));
    }
    let mut body = Map::new();
    body.insert(
        "query".into(),
        format!("SELECT * FROM c WHERE {}", conditions.join(" OR ")).into(),
    );
    body.insert("parameters".into(), parameters.into());
    Value::Object(body).to_string().into_bytes()
}

struct KeyPages {
    feed: DriverFeed,
    /// Without its position, which is not one of the driver's.
    split: Split,
    /// Those of the split.
    keys: Vec<DocumentKey>,
    /// How many of them are read.
    at: usize,
    /// How many one page is for.
    size: usize,
}

#[async_trait]
impl Pages for KeyPages {
    fn is_spent(&self) -> bool {
        false
    }

    /// Moves on only once it has all documents of its keys.
    async fn next(&mut self, metrics: &Metrics) -> Result<RawPage> {
        let mut cost = 0.0;
        let (to, bodies, bytes) = loop {
            let to = self.keys.len().min(self.at + self.size);
            match self.documents(to, &mut cost, metrics).await {
                Ok(Some((bodies, bytes))) => break (to, bodies, bytes),
                // They are large. Rows come in any order, so that a part of them is no position.
                Ok(None) => self.size = (self.size / 2).max(1),
                Err(error) => return Err(error.behind(cost)),
            }
        };
        self.at = to;
        Ok(RawPage {
            items: Items::Rows(bodies),
            bytes,
            continuation: format!("{PREFIX}{}", self.at),
            unchanged: false,
            stands: false,
            partition: None,
            lsn: None,
            session_lsn: None,
            charge: cost,
            position: None,
            ranges: 1,
            reached: Reached::NotYet,
            ended: self.at == self.keys.len(),
        })
    }
}

impl KeyPages {
    /// The documents of the next keys up to number `to`, and their bytes; `None` where these are too many for so many keys.
    async fn documents(
        &self,
        to: usize,
        cost: &mut f64,
        metrics: &Metrics,
    ) -> Result<Option<(Vec<Items>, u64)>> {
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        if self.at == to {
            return Ok(Some((bodies, bytes)));
        }
        let definition = self.feed.container.partition_key_definition();
        let target = Some(self.split.feed_range()?);
        let operation = CosmosOperation::query_items(self.feed.container.clone(), target)
            .with_body(query(&self.keys[self.at..to], definition));
        let mut plan = Plan::new(&self.feed, operation, &self.split).await?;
        while let Some(response) = plan.next(metrics).await? {
            *cost += charge(&response);
            let (body, size) = items(response, metrics);
            bytes += size;
            if bytes > MAX_PAGE_BYTES && to - self.at > 1 {
                return Ok(None);
            }
            bodies.push(body);
        }
        Ok(Some((bodies, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, partition_key: &str) -> DocumentKey {
        DocumentKey {
            id: id.into(),
            partition_key: partition_key.into(),
        }
    }

    fn list(keys: &[(&str, &str)]) -> Keys {
        let definition = PartitionKeyDefinition::from("/pk");
        let mut list = Keys::default();
        for (id, partition_key) in keys {
            list.add(key(id, partition_key), &definition, |_| true).unwrap();
        }
        list
    }

    #[test]
    fn a_list_is_the_same_in_any_order_and_however_keys_are_written() {
        let one = list(&[("a", "[1]"), ("b", r#"["k"]"#)]);
        // In savepoints: it must never change.
        assert_eq!(one.list, 0xfa07_0dc0_aa8c_82eb);
        let other = list(&[("b", r#"[ "\u006b" ]"#), ("a", "[1.0]")]);
        assert_eq!((one.list, &one.own), (other.list, &other.own));
        assert_ne!(one.list, list(&[("a", "[1]")]).list);
        assert_ne!(one.list, list(&[("a", "[2]"), ("b", r#"["k"]"#)]).list);
    }

    #[test]
    fn a_key_that_is_given_twice_is_read_once() {
        let keys = list(&[("a", "[1]"), ("a", "[1e0]"), ("a", "[2]")]);
        assert_eq!(keys.own.len(), 2);
    }

    #[test]
    fn a_position_is_a_number_of_keys() {
        assert_eq!(position("rm1.7"), Some(7));
        for other in ["", "7", "rm1", "rm1.", "rm1.x", "c1.abc"] {
            assert_eq!(position(other), None, "{other}");
        }
    }

    #[test]
    fn keys_are_asked_for_by_parameters() {
        let definition = PartitionKeyDefinition::from(("/a/\"b c\"", "/d"));
        let body = query(&[key("x", r#"["k",{}]"#), key("y", "[null,1]")], &definition);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["query"],
            r#"SELECT * FROM c WHERE (c.id = @p0 AND c["a"]["b c"] = @p1 AND NOT IS_DEFINED(c["d"])) OR (c.id = @p2 AND c["a"]["b c"] = @p3 AND c["d"] = @p4)"#
        );
        let values: Vec<_> = body["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["value"])
            .collect();
        assert_eq!(
            values,
            [&json!("x"), &json!("k"), &json!("y"), &Value::Null, &json!(1)]
        );
    }
}
