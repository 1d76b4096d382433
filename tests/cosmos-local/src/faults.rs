//! Faults on demand, and the counts of what was served.

use crate::emulator::Reply;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// What a request does, as far as faults and counts tell requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Account,
    Database,
    Container,
    PkRanges,
    Offer,
    Read,
    ReadFeed,
    Query,
    QueryPlan,
    ChangeFeed,
    Create,
    Upsert,
    Replace,
    Patch,
    Delete,
    Batch,
    Bulk,
    Other,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Database => "database",
            Self::Container => "container",
            Self::PkRanges => "pkranges",
            Self::Offer => "offer",
            Self::Read => "read",
            Self::ReadFeed => "readFeed",
            Self::Query => "query",
            Self::QueryPlan => "queryPlan",
            Self::ChangeFeed => "changeFeed",
            Self::Create => "create",
            Self::Upsert => "upsert",
            Self::Replace => "replace",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Batch => "batch",
            Self::Bulk => "bulk",
            Self::Other => "other",
        }
    }
}

/// The group of requests a fault is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Operations {
    /// Point reads, item lists and queries.
    Read,
    /// Point writes and transactional batches.
    Write,
    /// The change feed.
    Feed,
    /// The non-atomic bulk form.
    Bulk,
    /// Account, databases, containers, partition key ranges and offers.
    Metadata,
    #[default]
    All,
}

impl Operations {
    fn include(self, kind: Kind) -> bool {
        use Kind::*;
        match self {
            Self::All => true,
            Self::Read => matches!(kind, Read | ReadFeed | Query | QueryPlan),
            Self::Write => matches!(kind, Create | Upsert | Replace | Patch | Delete | Batch),
            Self::Feed => kind == ChangeFeed,
            Self::Bulk => kind == Kind::Bulk,
            Self::Metadata => matches!(kind, Account | Database | Container | PkRanges | Offer),
        }
    }
}

/// A rule that makes requests fail, wait, or lose their answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    /// HTTP status to answer with; without one the request is carried out (after the delay).
    status: Option<u16>,
    #[serde(default)]
    sub_status: u32,
    #[serde(default)]
    operations: Operations,
    /// Only requests for this container.
    container: Option<String>,
    /// Probability per request, 0 to 1.
    #[serde(default = "always")]
    share: f64,
    /// How many times the rule strikes before it is spent; without it, until it is deleted.
    count: Option<u64>,
    #[serde(default)]
    delay_millis: u64,
    retry_after_millis: Option<u64>,
    /// Carry the request out, then close the connection instead of answering.
    #[serde(default)]
    drop_response: bool,
    /// Strike single operations inside a bulk request, not the request.
    #[serde(default)]
    per_operation: bool,
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// # Errors
    /// Names the value that makes no sense.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err(format!("share is {}, it must lie between 0 and 1", self.share));
        }
        if let Some(status) = self.status.filter(|status| !(400..600).contains(status)) {
            return Err(format!("status is {status}, it must be an error (400 to 599)"));
        }
        if self.per_operation && (self.status.is_none() || self.drop_response) {
            return Err("perOperation needs a status, and dropResponse does not go with it".to_owned());
        }
        if self.status.is_none() && self.delay_millis == 0 && !self.drop_response {
            return Err("the fault does nothing: give status, delayMillis or dropResponse".to_owned());
        }
        if self.delay_millis > 600_000 {
            return Err(format!(
                "delayMillis is {}, at most 600000 are allowed",
                self.delay_millis
            ));
        }
        Ok(())
    }

    /// What a rule that struck makes of a request.
    fn strike(&self) -> Strike {
        Strike {
            status: self.status,
            sub_status: self.sub_status,
            retry_after_millis: self
                .retry_after_millis
                .or((self.status == Some(429)).then_some(10)),
            delay: Duration::from_millis(self.delay_millis),
            drop_response: self.drop_response,
        }
    }
}

/// A fault that hits one request or one operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strike {
    pub status: Option<u16>,
    pub sub_status: u32,
    pub retry_after_millis: Option<u64>,
    pub delay: Duration,
    pub drop_response: bool,
}

impl Strike {
    /// The error answer of this fault, if it is one with a status.
    pub fn reply(&self) -> Option<Reply> {
        let reply = Reply::error(self.status?, self.sub_status, "A fault that was asked for.");
        Some(match self.retry_after_millis {
            Some(millis) => reply.with("x-ms-retry-after-ms", millis),
            None => reply,
        })
    }
}

/// The active faults, with their own seeded source of chance.
pub(crate) struct Faults {
    inner: Mutex<(Vec<Fault>, StdRng)>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new((Vec::new(), StdRng::seed_from_u64(seed))),
        }
    }

    pub fn add(&self, fault: Fault) {
        lock(&self.inner).0.push(fault);
    }

    pub fn clear(&self) {
        lock(&self.inner).0.clear();
    }

    pub fn list(&self) -> Vec<Fault> {
        lock(&self.inner).0.clone()
    }

    /// Whether a rule for single operations of bulk requests is active at all.
    pub fn for_operations(&self) -> bool {
        lock(&self.inner).0.iter().any(|fault| fault.per_operation)
    }

    /// The first rule that strikes this request (or, with `operation`, this operation of a bulk request).
    pub fn strike(&self, kind: Kind, container: Option<&str>, operation: bool) -> Option<Strike> {
        let (faults, chance) = &mut *lock(&self.inner);
        let struck = faults.iter().position(|fault| {
            fault.per_operation == operation
                && fault.operations.include(kind)
                && (fault.container.is_none() || fault.container.as_deref() == container)
                && (fault.share >= 1.0 || chance.random::<f64>() < fault.share)
        })?;
        let strike = faults[struck].strike();
        if let Some(count) = faults[struck].count.as_mut() {
            *count = count.saturating_sub(1);
        }
        faults.retain(|fault| fault.count != Some(0));
        Some(strike)
    }
}

/// What was served since the start.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    /// Requests by kind and HTTP status.
    requests: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    /// Operations inside bulk requests by their own status.
    pub bulk_operations: BTreeMap<u16, u64>,
    /// Documents handed out through the change feed.
    pub feed_documents: u64,
    pub faults_injected: u64,
    pub responses_dropped: u64,
    pub request_units: f64,
}

/// The counts behind a lock.
#[derive(Default)]
pub(crate) struct Counts(Mutex<Stats>);

impl Counts {
    pub fn with(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut lock(&self.0));
    }

    pub fn request(&self, kind: Kind, status: u16, charge: f64) {
        self.with(|stats| {
            *stats
                .requests
                .entry(kind.name())
                .or_default()
                .entry(status)
                .or_default() += 1;
            stats.request_units += charge;
        });
    }

    pub fn snapshot(&self) -> Stats {
        lock(&self.0).clone()
    }
}

/// What these locks guard is valid after every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: serde_json::Value) -> Result<Fault, String> {
        let fault: Fault = serde_json::from_value(json).map_err(|e| e.to_string())?;
        fault.check().map(|()| fault)
    }

    #[test]
    fn a_rule_strikes_its_operations_as_often_as_it_says() {
        let faults = Faults::new(1);
        faults.add(fault(serde_json::json!({ "status": 429, "operations": "write", "count": 2 })).unwrap());
        assert!(faults.strike(Kind::Read, None, false).is_none());
        assert!(faults.strike(Kind::Upsert, None, true).is_none());
        let strike = faults.strike(Kind::Upsert, None, false).unwrap();
        assert_eq!((strike.status, strike.retry_after_millis), (Some(429), Some(10)));
        assert!(faults.strike(Kind::Batch, None, false).is_some());
        assert!(faults.strike(Kind::Upsert, None, false).is_none());
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_same_seed_gives_the_same_strikes() {
        let run = |seed| {
            let faults = Faults::new(seed);
            faults.add(fault(serde_json::json!({ "status": 503, "share": 0.3 })).unwrap());
            (0..200)
                .map(|_| faults.strike(Kind::Bulk, None, false).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let share = run(7).iter().filter(|struck| **struck).count();
        assert!((30..90).contains(&share), "{share} of 200 at a share of 0.3");
    }

    #[test]
    fn senseless_rules_are_refused_with_the_value() {
        let refused = |json| fault(json).unwrap_err();
        assert!(refused(serde_json::json!({ "status": 200 })).contains("200"));
        assert!(refused(serde_json::json!({ "status": 500, "share": 1.5 })).contains("1.5"));
        assert!(refused(serde_json::json!({})).contains("does nothing"));
        assert!(refused(serde_json::json!({ "stauts": 500 })).contains("stauts"));
    }
}
