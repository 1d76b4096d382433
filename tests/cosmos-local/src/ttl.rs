//! Documents that expire, and the clock by which they do.
//!
//! Nothing runs in the background: whoever reads or writes a container takes out first what has expired, so that
//! nobody sees it, as on the service. The clock can be moved on, so that a test need not wait.

use crate::bulk::ascii;
use crate::container::{Container, Feeds, Scope};
use crate::server::Inner;
use azure_core::http::headers::HeaderValue;
use azure_core::http::{Method, Request};
use serde::Deserialize;
use serde_json::Value;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// The service's largest time to live, in seconds.
const MAX: i64 = i32::MAX as i64;
/// Stands for "documents do not expire".
const OFF: i64 = i64::MIN;

/// The time of the machine, plus what an admin request moved it on by.
#[derive(Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// Milliseconds since 1970.
    pub fn now(&self) -> u64 {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        since.as_millis() as u64 + self.offset()
    }

    /// By how many milliseconds it was moved on.
    pub fn offset(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Moves it on.
    ///
    /// # Errors
    /// Says that it would leave the range of dates.
    pub fn advance(&self, millis: u64) -> Result<(), String> {
        // 1,000 years: sums with it cannot overflow.
        let most = 1000 * 366 * 24 * 3_600_000_u64;
        let moved = self.0.fetch_update(Relaxed, Relaxed, |offset| {
            offset.checked_add(millis).filter(|offset| *offset <= most)
        });
        moved
            .map(|_| ())
            .map_err(|_| format!("advanceMillis is {millis}, that is beyond the range of dates"))
    }
}

/// A container's time to live (`defaultTtl`), in seconds.
pub(crate) struct Ttl(AtomicI64);

impl Ttl {
    pub fn of(container: &Value) -> Self {
        let ttl = container["defaultTtl"].as_i64();
        Self(AtomicI64::new(ttl.unwrap_or(OFF)))
    }

    pub fn set(&self, other: &Self) {
        self.0.store(other.0.load(Relaxed), Relaxed);
    }

    /// `None` where documents do not expire, whatever they say themselves; -1 where only those expire that say so.
    pub fn default(&self) -> Option<i64> {
        Some(self.0.load(Relaxed)).filter(|ttl| *ttl != OFF)
    }

    /// When a document expires that was written `at` a time, both in milliseconds since 1970.
    pub fn deadline(&self, body: &[u8], at: u64) -> Option<u64> {
        let default = self.default()?;
        let ttl = own(body).and_then(|ttl| ttl.as_i64()).unwrap_or(default);
        let seconds = u64::try_from(ttl).ok()?;
        Some(at + seconds * 1000)
    }
}

/// What a document says about its time to live.
fn own(body: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Own {
        ttl: Option<Value>,
    }
    serde_json::from_slice::<Own>(body).ok()?.ttl
}

fn valid(ttl: &Value) -> bool {
    ttl.as_i64()
        .is_some_and(|ttl| ttl == -1 || (1..=MAX).contains(&ttl))
}

/// Why the service would not take a container, as far as the time to live goes.
pub(crate) fn refuse_container(body: &[u8]) -> Option<String> {
    let container: Value = serde_json::from_slice(body).ok()?;
    let ttl = container.get("defaultTtl").filter(|ttl| !ttl.is_null())?;
    (!valid(ttl)).then(|| format!("defaultTtl is {ttl}, it must be -1 or 1 to {MAX} seconds."))
}

/// Why the service would not take a document, as far as the time to live goes.
pub(crate) fn refuse_document(container: &Container, body: &[u8]) -> Option<String> {
    container.rules.ttl.default()?;
    let ttl = own(body)?;
    (!valid(&ttl)).then(|| format!("The document's ttl is {ttl}, it must be -1 or 1 to {MAX} seconds."))
}

/// Takes out what has expired in partitions that are locked.
pub(crate) async fn expire(server: &Inner, container: &Container, feeds: &mut Feeds<'_>) {
    if container.rules.ttl.default().is_none() {
        return;
    }
    for (epk, id, body) in feeds.expired(container.rules.clock.now()) {
        let key = match container.key_of(&body) {
            Ok(key) => key,
            Err(message) => {
                tracing::warn!(%id, %message, "a document that expired has no partition key");
                continue;
            }
        };
        let path = ["dbs", &container.db, "colls", &container.coll, "docs", &id];
        let mut request = Request::new(server.emulator.url(&path), Method::Delete);
        let key = ascii(key.to_string().into());
        request.insert_header("x-ms-documentdb-partitionkey", HeaderValue::from(key));
        let answer = server.emulator.call(&request).await;
        if answer.ok() || answer.status == 404 {
            feeds.expire(epk, &id);
        } else {
            // Most likely a throttled one: the next request tries again.
            tracing::debug!(%id, status = answer.status, "a document that expired is still there");
        }
    }
}

/// Takes out what has expired before a request that only reads.
pub(crate) async fn expire_before_read(server: &Inner, container: &Container) {
    if container.rules.ttl.default().is_none() {
        return;
    }
    let layout = container.layout.read().await;
    let mut feeds = layout.feeds(&Scope::default()).await;
    expire(server, container, &mut feeds).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_s_own_time_goes_before_the_container_s() {
        let deadline = |container: Value, document: Value| {
            Ttl::of(&container).deadline(document.to_string().as_bytes(), 5000)
        };
        let (none, some) = (json!({}), json!({ "ttl": 3 }));
        assert_eq!(deadline(json!({}), some.clone()), None);
        assert_eq!(deadline(json!({ "defaultTtl": -1 }), none.clone()), None);
        assert_eq!(deadline(json!({ "defaultTtl": -1 }), some.clone()), Some(8000));
        assert_eq!(deadline(json!({ "defaultTtl": 60 }), none), Some(65_000));
        assert_eq!(deadline(json!({ "defaultTtl": 60 }), some), Some(8000));
        assert_eq!(deadline(json!({ "defaultTtl": 60 }), json!({ "ttl": -1 })), None);
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for bad in [json!(0), json!(-2), json!("5"), json!(1.5), json!(1_i64 << 31)] {
            let container = json!({ "defaultTtl": bad }).to_string();
            let message = refuse_container(container.as_bytes()).unwrap();
            assert!(message.contains(&bad.to_string()), "{message}");
        }
        for good in [json!(-1), json!(1), json!(i32::MAX), Value::Null] {
            assert_eq!(
                refuse_container(json!({ "defaultTtl": good }).to_string().as_bytes()),
                None
            );
        }
        assert!(Clock::default().advance(u64::MAX).is_err());
    }
}
