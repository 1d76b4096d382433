//! A container that goes and comes back under the same name, and what clients that do not know it yet are told.

use crate::emulator::Reply;
use crate::server::{header, Inner};
use azure_core::http::{Method, Request};
use azure_data_cosmos_driver::in_memory_emulator::ContainerConfig;
use hyper::header::HeaderMap;
use serde_json::{json, Value};

/// Sub-status of a 400: the container that the request means is another one.
const OTHER_CONTAINER: u32 = 1024;
/// Sub-status of a 410: the name stands for another container than the client thinks.
const STALE_NAME: u32 = 1000;

/// Refuses a request that names the resource id of another container than the one with this name.
pub(crate) fn stale(rid: &str, headers: &HeaderMap) -> Option<Reply> {
    if let Some(intended) = header(headers, "x-ms-cosmos-intended-collection-rid") {
        if intended != rid {
            let message = "The container's resource id is another one: it was created anew.";
            return Some(Reply::error(400, OTHER_CONTAINER, message));
        }
    }
    // Some clients send "<container rid>,<range id>".
    let range = header(headers, "x-ms-documentdb-partitionkeyrangeid")?;
    let (of, _) = range.split_once(',')?;
    (of != rid).then(|| {
        let message = format!("The partition key range {range} is one of a container that is no more.");
        Reply::error(410, STALE_NAME, &message)
    })
}

/// Whether a request says which container it means by a resource id.
pub(crate) fn names_rid(headers: &HeaderMap) -> bool {
    headers.contains_key("x-ms-cosmos-intended-collection-rid")
        || header(headers, "x-ms-documentdb-partitionkeyrangeid").is_some_and(|range| range.contains(','))
}

/// Deletes a container. With `again`, creates it anew, empty, with the same settings and another resource id. No
/// request sees what is in between.
///
/// # Errors
/// Says that there is no such container, or what the emulator refused.
pub(crate) async fn replace(server: &Inner, db: &str, coll: &str, again: bool) -> Result<Value, String> {
    let path = ["dbs", db, "colls", coll];
    let missing = || format!("there is no container '{coll}' in database '{db}'");
    let container = server.container_named(db, coll).await.ok_or_else(missing)?;
    // It keeps reads of the feed and writes out until the old entry is forgotten.
    let mut layout = container.layout.write().await;
    let mut settings = server.emulator.read(&path).await.ok_or_else(missing)?;
    let partitions = u32::try_from(layout.counts().await.len()).map_err(|e| e.to_string())?;
    let mut config = ContainerConfig::new().with_partition_count(partitions);
    if let Some(units) = throughput(server, &container.rid).await {
        config = config.with_throughput(units);
    }
    let config = config.build().map_err(|e| e.to_string())?;
    let request = Request::new(server.emulator.url(&path), Method::Delete);
    let answer = server.emulator.call(&request).await;
    if !answer.ok() {
        return Err(format!(
            "the emulator does not delete it: {}",
            String::from_utf8_lossy(&answer.body)
        ));
    }
    layout.gone = true;
    server.containers().remove(&(db.to_owned(), coll.to_owned()));
    if !again {
        return Ok(json!({ "was": container.rid }));
    }
    let store = server.emulator.store();
    store.create_container_with_config(db, coll, container.definition.clone(), config);
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|name, _| !name.starts_with('_'));
    }
    let mut request = Request::new(server.emulator.url(&path), Method::Put);
    request.set_body(settings.to_string());
    let answer = server.emulator.call(&request).await;
    if !answer.ok() {
        return Err(format!(
            "the emulator does not take its settings: {}",
            String::from_utf8_lossy(&answer.body)
        ));
    }
    let created = server.container_named(db, coll).await.ok_or_else(missing)?;
    Ok(json!({ "was": container.rid, "is": created.rid }))
}

/// The request units per second that were provisioned for a container of its own.
async fn throughput(server: &Inner, rid: &str) -> Option<u64> {
    let offers = server.emulator.read(&["offers"]).await?;
    let mut offers = offers.get("Offers")?.as_array()?.iter();
    let offer = offers.find(|offer| offer["offerResourceId"] == rid)?;
    offer["content"]["offerThroughput"].as_u64()
}
