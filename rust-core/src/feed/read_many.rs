//! Documents by id and partition key over the driver: those of a feed range, some hundred with each page. One that is not there is passed
//! over.

use async_trait::async_trait;
use azure_data_cosmos_driver::models::{CosmosOperation, FeedRange, PartitionKeyDefinition};
use serde_json::{json, Map, Value};

use super::driver::{charge, items, DriverFeed, Plan};
use super::stop::Reached;
use super::{Pages, RawPage};
use crate::config::ReadMany;
use crate::error::{CoreError, Result};
use crate::keys::{of_lines, of_list, DocumentKey};
use crate::metrics::Metrics;
use crate::page::Items;
use crate::sink::canonical_key;
use crate::split::Split;

/// Keys that one request asks for.
const KEYS: usize = 100;

/// In front of a position.
const PREFIX: &str = "rm1";

/// Begins with the keys of a split behind its position.
pub(super) fn open(feed: &DriverFeed, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
    let keys = keys(feed.config.read_many.as_ref().ok_or_else(|| {
        CoreError::state(format!(
            "split {} is read by keys, but neither source.read-many nor source.read-many-file is set; set what the state was written with",
            split.id()
        ))
    })?)?;
    let list = fingerprint(&keys);
    let definition = feed.container.partition_key_definition();
    let mut own = Vec::new();
    for key in keys {
        if place(&key, definition)?.is_in(split) {
            own.push(key);
        }
    }
    let at = match &split.continuation {
        None => 0,
        Some(text) => position(text, list).filter(|at| *at <= own.len()).ok_or_else(|| {
            CoreError::state(format!(
                "the position of split {} is of another list of keys; give the list that the state was written with, or start without state",
                split.id()
            ))
        })?,
    };
    Ok(Box::new(KeyPages {
        feed: feed.clone(),
        split: Split {
            continuation: None,
            ..split.clone()
        },
        keys: own,
        list,
        at,
        size: KEYS.min(limit as usize).max(1),
    }))
}

fn keys(from: &ReadMany) -> Result<Vec<DocumentKey>> {
    match from {
        ReadMany::List(text) => {
            of_list(text).map_err(|why| CoreError::config(format!("source.read-many: {why}")))
        }
        ReadMany::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                CoreError::config(format!(
                    "source.read-many-file: cannot read '{path}': {e}; give a file that every process of the job can read"
                ))
            })?;
            of_lines(&text).map_err(|why| CoreError::config(format!("source.read-many-file '{path}': {why}")))
        }
    }
}

/// Tells one list of keys from another: FNV-1a, the same in each process and each version.
fn fingerprint(keys: &[DocumentKey]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in keys.iter().flat_map(|key| [&key.id, &key.partition_key]) {
        // No text has the last byte.
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// How many keys are read at a position.
fn position(text: &str, list: u64) -> Option<usize> {
    let (head, at) = text.rsplit_once('.')?;
    (head == format!("{PREFIX}.{list:016x}")).then(|| at.parse().ok())?
}

/// Where a key lies in the key space.
struct Place(String);

impl Place {
    fn is_in(&self, split: &Split) -> bool {
        split.min <= self.0 && self.0 < split.max
    }
}

fn place(key: &DocumentKey, definition: &PartitionKeyDefinition) -> Result<Place> {
    let canonical = canonical_key(key.partition_key.as_bytes(), definition.paths())
        .map_err(|e| CoreError::config(format!("source.read-many: document '{}': {}", key.id, e.message)))?;
    let range = FeedRange::for_partition(canonical.key, definition);
    Ok(Place(range.min_inclusive().to_hex()))
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
    list: u64,
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
        let to = self.keys.len().min(self.at + self.size);
        let (mut bodies, mut bytes, mut cost) = (Vec::new(), 0, 0.0);
        if self.at < to {
            let definition = self.feed.container.partition_key_definition();
            let target = Some(self.split.feed_range()?);
            let operation = CosmosOperation::query_items(self.feed.container.clone(), target)
                .with_body(query(&self.keys[self.at..to], definition));
            let mut plan = Plan::new(&self.feed, operation, &self.split).await?;
            while let Some(response) = plan.next(metrics).await? {
                cost += charge(&response);
                let (body, size) = items(response, metrics);
                bytes += size;
                bodies.push(body);
            }
        }
        self.at = to;
        Ok(RawPage {
            items: Items::Rows(bodies),
            bytes,
            continuation: format!("{PREFIX}.{:016x}.{}", self.list, self.at),
            unchanged: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, partition_key: &str) -> DocumentKey {
        DocumentKey {
            id: id.into(),
            partition_key: partition_key.into(),
        }
    }

    #[test]
    fn a_position_belongs_to_its_list() {
        let list = fingerprint(&[key("a", "[1]"), key("b", "[2]")]);
        // In savepoints: it must never change.
        assert_eq!(list, 0x873d_0f9b_89ab_0813);
        assert_eq!(position(&format!("rm1.{list:016x}.7"), list), Some(7));
        for other in ["", "7", "rm1.7", "rm1.00.7", "c1.abc"] {
            assert_eq!(position(other, list), None, "{other}");
        }
        assert_ne!(list, fingerprint(&[key("a", "[1]")]));
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
