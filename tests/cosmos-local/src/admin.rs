//! Admin requests under `/_local/`: health, counts, requests, split and merge, faults.

use crate::container::Container;
use crate::emulator::Reply;
use crate::faults::Fault;
use crate::recreate;
use crate::regions::Change;
use crate::server::Inner;
use crate::ttl;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

/// A partition can be held locked this long at most.
const MAX_LOCK: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Split {
    database: String,
    container: String,
    partition: Id,
    /// How long requests to the partition get 410/1007 before the split is done.
    #[serde(default)]
    lock_millis: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Merge {
    database: String,
    container: String,
    /// Two neighbours.
    partitions: [Id; 2],
    #[serde(default)]
    lock_millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    database: String,
    container: String,
}

/// Settings of the change feed; those that are absent stay as they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FeedSettings {
    /// A page ends once it has so many bytes.
    page_bytes: Option<usize>,
    /// Whether pages of AllVersionsAndDeletes carry the document as it was before.
    previous_images: Option<bool>,
    /// The form of the partition key in the metadata of AllVersionsAndDeletes.
    metadata_key: Option<KeyForm>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyForm {
    Array,
    Object,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advance {
    advance_millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Names of the request headers to keep with each request.
    headers: Vec<String>,
    /// Whether to keep their bodies.
    #[serde(default)]
    bodies: bool,
}

/// A partition key range's id, as a number or as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u32),
    Text(String),
}

impl Id {
    fn number(&self) -> Result<u32, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text
                .parse()
                .map_err(|_| format!("'{text}' is not a partition's id")),
        }
    }
}

/// Answers an admin request; `action` is the path below `/_local/`.
pub(crate) async fn answer(
    server: &Inner,
    method: &Method,
    action: &str,
    query: Option<&str>,
    body: &[u8],
) -> Reply {
    let result = match (method.as_str(), action) {
        ("GET", "health") => Ok(json!({ "status": "ok" })),
        ("GET", "stats") => Ok(stats(server).await),
        ("POST", "split") => split(server, body).await,
        ("POST", "merge") => merge(server, body).await,
        ("GET", "faults") => Ok(json!({ "faults": server.faults.list() })),
        ("POST", "faults") => parse::<Fault>(body).and_then(|fault| {
            fault.check()?;
            server.faults.add(fault);
            Ok(json!({ "faults": server.faults.list() }))
        }),
        ("DELETE", "faults") => {
            server.faults.clear();
            Ok(json!({ "faults": [] }))
        }
        ("POST", "feed") => parse::<FeedSettings>(body).and_then(|settings| {
            if let Some(bytes) = settings.page_bytes {
                if bytes == 0 {
                    return Err("pageBytes is 0, it must be 1 or more".to_owned());
                }
                server.page_bytes.store(bytes, Relaxed);
            }
            if let Some(on) = settings.previous_images {
                server.previous_images.store(on, Relaxed);
            }
            if let Some(form) = settings.metadata_key {
                server.key_as_object.store(matches!(form, KeyForm::Object), Relaxed);
            }
            let form = if server.key_as_object.load(Relaxed) { "object" } else { "array" };
            Ok(json!({
                "pageBytes": server.page_bytes.load(Relaxed),
                "previousImages": server.previous_images.load(Relaxed),
                "metadataKey": form,
            }))
        }),
        ("POST", "clock") => parse::<Advance>(body).and_then(|request| {
            server.clock.advance(request.advance_millis)?;
            Ok(json!({ "offsetMillis": server.clock.offset() }))
        }),
        ("POST", "drop") => match parse::<Named>(body) {
            Ok(named) => recreate::replace(server, &named.database, &named.container, false).await,
            Err(message) => Err(message),
        },
        ("POST", "recreate") => match parse::<Named>(body) {
            Ok(named) => recreate::replace(server, &named.database, &named.container, true).await,
            Err(message) => Err(message),
        },
        ("GET", "regions") => Ok(server.regions.list()),
        ("POST", "regions") => match parse::<Change>(body) {
            Ok(change) => server.regions.change(change).await.map(|()| server.regions.list()),
            Err(message) => Err(message),
        },
        ("GET", "requests") => requests(server, query),
        ("POST", "requests") => parse::<Kept>(body).and_then(|request| {
            server.requests.keep(request.headers, request.bodies)?;
            Ok(json!({}))
        }),
        ("DELETE", "requests") => {
            server.requests.clear();
            Ok(json!({}))
        }
        _ => {
            return Reply::error(
                404,
                0,
                &format!(
                "There is no {method} /_local/{action}; there are GET health, stats, faults, requests \
                     and regions, POST split, merge, faults, requests, regions, feed, clock, drop and recreate, DELETE \
                     faults and requests."
            ),
            )
        }
    };
    match result {
        Ok(body) => Reply::json(200, &body),
        Err(message) => Reply::error(400, 0, &message),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("the request cannot be read: {e}"))
}

async fn stats(server: &Inner) -> serde_json::Value {
    let mut containers = Vec::new();
    for container in all_containers(server).await {
        ttl::expire_before_read(server, &container).await;
        let layout = container.layout.read().await;
        let counts = layout.counts().await.into_iter();
        let partitions: Vec<_> = counts
            .map(|(id, documents)| json!({ "id": id, "documents": documents }))
            .collect();
        containers
            .push(json!({ "database": container.db, "container": container.coll, "partitions": partitions }));
    }
    let mut stats = serde_json::to_value(server.counts.snapshot()).unwrap_or_default();
    stats["containers"] = containers.into();
    stats
}

/// Every container of the account, by database and name, also those that no request has named yet.
async fn all_containers(server: &Inner) -> Vec<Arc<Container>> {
    let emulator = &server.emulator;
    let mut all = Vec::new();
    for db in names(emulator.read(&["dbs"]).await, "Databases") {
        for coll in names(emulator.read(&["dbs", &db, "colls"]).await, "DocumentCollections") {
            // None: it was deleted between the two reads.
            all.extend(server.container_named(&db, &coll).await);
        }
    }
    all
}

/// The ids in a list of the emulator's, in order.
fn names(list: Option<serde_json::Value>, field: &str) -> Vec<String> {
    let items = list
        .as_ref()
        .and_then(|list| list.get(field))
        .and_then(serde_json::Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut names: Vec<_> = items
        .iter()
        .filter_map(|item| item["id"].as_str().map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

/// The last requests, by `from=SEQUENCE` and `kind=KIND` in the query.
fn requests(server: &Inner, query: Option<&str>) -> Result<serde_json::Value, String> {
    let (mut from, mut kind) = (0, None);
    for part in query
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty())
    {
        match part.split_once('=') {
            Some(("from", number)) => {
                from = number
                    .parse()
                    .map_err(|_| format!("from is '{number}', expected a request's sequence number"))?;
            }
            Some(("kind", name)) => kind = Some(name),
            _ => {
                return Err(format!(
                    "'{part}' is not known; expected from=SEQUENCE or kind=KIND"
                ))
            }
        }
    }
    let (next, requests) = server.requests.list(from, kind);
    Ok(json!({ "next": next, "requests": requests }))
}

fn lock_time(millis: u64) -> Result<Duration, String> {
    let time = Duration::from_millis(millis);
    if time > MAX_LOCK {
        return Err(format!(
            "lockMillis is {millis}, at most {} are allowed",
            MAX_LOCK.as_millis()
        ));
    }
    Ok(time)
}

async fn split(server: &Inner, body: &[u8]) -> Result<serde_json::Value, String> {
    let request: Split = parse(body)?;
    let time = lock_time(request.lock_millis)?;
    let partition = request.partition.number()?;
    let store = server.emulator.store();
    let (db, coll) = (&request.database, &request.container);
    relaid(server, db, coll, &[partition], async {
        let middle = store
            .midpoint_split_epk(db, coll, partition)
            .map_err(|e| e.to_string())?;
        store
            .split_partition_and_wait(db, coll, partition, middle, time)
            .await
            .map_err(|e| e.to_string())
    })
    .await
}

async fn merge(server: &Inner, body: &[u8]) -> Result<serde_json::Value, String> {
    let request: Merge = parse(body)?;
    let time = lock_time(request.lock_millis)?;
    let [one, two] = [request.partitions[0].number()?, request.partitions[1].number()?];
    let store = server.emulator.store();
    let (db, coll) = (&request.database, &request.container);
    relaid(server, db, coll, &[one, two], async {
        store
            .merge_partitions_and_wait(db, coll, one, two, time)
            .await
            .map(|child| vec![child])
            .map_err(|e| e.to_string())
    })
    .await
}

/// Changes the layout of a container in the emulator and takes it over. `before` are the partitions that go.
async fn relaid<I: IntoIterator<Item = u32>>(
    server: &Inner,
    db: &str,
    coll: &str,
    before: &[u32],
    change: impl std::future::Future<Output = Result<I, String>>,
) -> Result<serde_json::Value, String> {
    let container = server
        .container_named(db, coll)
        .await
        .ok_or_else(|| format!("there is no container '{coll}' in database '{db}'"))?;
    {
        let layout = container.layout.read().await;
        if let Some(missing) = before.iter().find(|id| layout.range(&id.to_string()).is_none()) {
            return Err(format!("container '{coll}' has no partition {missing}"));
        }
    }
    // The emulator refuses operations on the partition meanwhile; until the layout below is taken over, entries
    // of the new partitions are kept with the old ones, and move with them.
    let children: Vec<u32> = change.await?.into_iter().collect();
    let mut layout = container.layout.write().await;
    let ranges = server
        .ranges(&container)
        .await
        .ok_or("the partition key ranges cannot be read")?;
    layout.lay_out(ranges);
    Ok(json!({ "partitions": children }))
}
