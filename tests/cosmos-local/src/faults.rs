//! Faults on demand, and the counts of what was served.

use crate::emulator::Reply;
use hyper::header::HeaderMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicU8,
    Ordering::{Acquire, Release},
};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// What a request does, as far as faults and counts tell requests apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not a request: a connection that was just accepted.
    Connection,
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
    /// Whatever is sent to a Gateway 2.0.
    GatewayV2,
    #[default]
    Other,
}

impl Kind {
    const ALL: [Self; 20] = [
        Self::Connection,
        Self::Account,
        Self::Database,
        Self::Container,
        Self::PkRanges,
        Self::Offer,
        Self::Read,
        Self::ReadFeed,
        Self::Query,
        Self::QueryPlan,
        Self::ChangeFeed,
        Self::Create,
        Self::Upsert,
        Self::Replace,
        Self::Patch,
        Self::Delete,
        Self::Batch,
        Self::Bulk,
        Self::GatewayV2,
        Self::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
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
            Self::GatewayV2 => "gatewayV2",
            Self::Other => "other",
        }
    }
}

/// The requests a fault is for: a group of kinds, or one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operations {
    /// Point reads, item lists and queries.
    Read,
    /// Point writes and transactional batches.
    Write,
    /// The change feed.
    Feed,
    /// Account, databases, containers, partition key ranges and offers.
    Metadata,
    /// Every request, but not the connections.
    All,
    One(Kind),
}

/// The name of the kind `read` alone, whose own name is that of the group.
const POINT_READ: &str = "pointRead";

impl Operations {
    fn include(self, kind: Kind) -> bool {
        use Kind::*;
        match self {
            Self::All => kind != Connection,
            Self::Read => matches!(kind, Read | ReadFeed | Query | QueryPlan),
            Self::Write => matches!(kind, Create | Upsert | Replace | Patch | Delete | Batch),
            Self::Feed => kind == ChangeFeed,
            Self::Metadata => matches!(kind, Account | Database | Container | PkRanges | Offer),
            Self::One(one) => kind == one,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
            Self::Write => "write",
            Self::Feed => "feed",
            Self::Metadata => "metadata",
            Self::One(Kind::Read) => POINT_READ,
            Self::One(kind) => kind.name(),
        }
    }
}

impl TryFrom<String> for Operations {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let groups = [Self::Read, Self::Write, Self::Feed, Self::Metadata, Self::All];
        let kinds = Kind::ALL.map(Self::One);
        let mut all = groups.iter().chain(&kinds);
        all.find(|one| one.name() == text).copied().ok_or_else(|| {
            let names: Vec<_> = groups.iter().chain(&kinds).map(|one| one.name()).collect();
            format!("operations is '{text}', expected some of {}", names.join(", "))
        })
    }
}

/// Reads one value or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Operations>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    let names = match Names::deserialize(from)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    };
    let read = names
        .into_iter()
        .map(Operations::try_from)
        .collect::<Result<_, _>>();
    read.map_err(serde::de::Error::custom)
}

fn names<S: Serializer>(operations: &[Operations], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(operations.iter().map(|one| one.name()))
}

/// Reads a partition key range's id, as a number or as text.
fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    Ok(Option::<Id>::deserialize(from)?.map(|id| match id {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    }))
}

/// A rule that makes requests fail, wait, or lose their answer. All conditions that are given must hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    // When it strikes.
    /// Groups or kinds of requests; `connection` stands for connections that are accepted.
    #[serde(default = "all", deserialize_with = "one_or_many", serialize_with = "names")]
    operations: Vec<Operations>,
    /// Only requests for this container.
    container: Option<String>,
    /// Only requests to this region.
    region: Option<String>,
    /// Only requests to this partition key range, by its id in a header, or by the partition key.
    #[serde(default, deserialize_with = "id")]
    partition: Option<String>,
    /// Only requests about this document; a bulk request or batch with it among others is struck as a whole.
    document_id: Option<String>,
    /// Only requests with this header, in lower case.
    with_header: Option<String>,
    /// Only bulk requests and batches with at least so many operations.
    min_operations: Option<usize>,
    /// Only requests with a body of at least so many bytes.
    min_bytes: Option<usize>,
    /// Strike single operations inside a bulk request, not the request.
    #[serde(default)]
    per_operation: bool,
    /// The opposite of `per_operation`, for those who want to say it.
    #[serde(default)]
    whole_request: bool,
    /// How many requests pass before the first is struck.
    #[serde(default)]
    skip: u64,
    /// Probability per request, 0 to 1.
    #[serde(default = "always")]
    share: f64,
    /// How many times the rule strikes before it is spent; without it, until it is deleted.
    count: Option<u64>,

    // What it does.
    /// HTTP status to answer with; without one the request is carried out (after the delay).
    status: Option<u16>,
    #[serde(default)]
    sub_status: u32,
    /// Text of the error answer.
    message: Option<String>,
    /// Request units that the error answer says it cost.
    request_charge: Option<f64>,
    retry_after_millis: Option<u64>,
    #[serde(default)]
    delay_millis: u64,
    /// Carry the request out before the error answer, or before it hangs.
    #[serde(default)]
    after: bool,
    /// Carry the request out, then close the connection instead of answering.
    #[serde(default)]
    drop_response: bool,
    /// Never answer, nor close the connection.
    #[serde(default)]
    hang: bool,
    /// Close the connection without carrying the request out.
    #[serde(default)]
    refuse: bool,
    /// Carry the request out, announce the whole answer, and close the connection after so many bytes of its body.
    cut_after_bytes: Option<usize>,
    /// Answer a request of the change feed with an empty page whose ETag has moved on, past nothing.
    #[serde(default)]
    empty_pages: bool,
    /// Answer a request of the change feed with an empty page whose ETag is the one that was asked with, whatever is behind it.
    #[serde(default)]
    still_pages: bool,
    /// Carry the request out, and put other bytes in place of a text of the answer.
    replace: Option<Replace>,
}

/// What the answer says in place of a text, wherever it stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Replace {
    text: String,
    /// Each character up to U+00FF stands for the byte of its number, so that bytes can be given which are no text.
    with: String,
}

impl Replace {
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let (text, mut rest) = (self.text.as_bytes(), body);
        let with: Vec<u8> = self.with.chars().map(|c| c as u32 as u8).collect();
        let mut out = Vec::with_capacity(body.len());
        while let Some(at) = rest.windows(text.len()).position(|window| window == text) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(&with);
            rest = &rest[at + text.len()..];
        }
        out.extend_from_slice(rest);
        out
    }
}

fn always() -> f64 {
    1.0
}

fn all() -> Vec<Operations> {
    vec![Operations::All]
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
        if let Some(charge) = self
            .request_charge
            .filter(|charge| !charge.is_finite() || *charge < 0.0)
        {
            return Err(format!("requestCharge is {charge}, it must be 0 or more"));
        }
        if let Some(Replace { text, with }) = &self.replace {
            if text.is_empty() {
                return Err("replace.text is empty: say which text of the answer to replace".to_owned());
            }
            if let Some(other) = with.chars().find(|c| *c > '\u{ff}') {
                return Err(format!(
                    "replace.with has '{other}': its characters stand for bytes, up to U+00FF"
                ));
            }
        }
        if self.delay_millis > 600_000 {
            return Err(format!(
                "delayMillis is {}, at most 600000 are allowed",
                self.delay_millis
            ));
        }
        let ends: Vec<&str> = [
            (self.drop_response, "dropResponse"),
            (self.hang, "hang"),
            (self.refuse, "refuse"),
            (self.cut_after_bytes.is_some(), "cutAfterBytes"),
            (self.empty_pages, "emptyPages"),
            (self.still_pages, "stillPages"),
            (self.replace.is_some(), "replace"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
        if ends.len() > 1 {
            return Err(format!("{} exclude each other", ends.join(" and ")));
        }
        if self.per_operation && (self.status.is_none() || !ends.is_empty()) {
            let ends = ends.first().unwrap_or(&"dropResponse");
            return Err(format!(
                "perOperation needs a status, and {ends} does not go with it"
            ));
        }
        let of_request = self.region.is_some()
            || self.with_header.is_some()
            || self.min_operations.is_some()
            || self.min_bytes.is_some();
        if self.per_operation && of_request {
            return Err(
                "perOperation does not go with region, withHeader, minOperations and minBytes: those look at the \
                 request"
                    .to_owned(),
            );
        }
        if self.per_operation && self.whole_request {
            return Err("perOperation and wholeRequest exclude each other".to_owned());
        }
        if self.status.is_none() {
            for (given, name) in [
                (self.sub_status != 0, "subStatus"),
                (self.message.is_some(), "message"),
                (self.request_charge.is_some(), "requestCharge"),
                (self.retry_after_millis.is_some(), "retryAfterMillis"),
                (self.after && !self.hang, "after"),
            ] {
                if given {
                    return Err(format!("{name} needs a status"));
                }
            }
            if self.delay_millis == 0 && ends.is_empty() {
                return Err(
                    "the fault does nothing: give status, delayMillis, dropResponse, hang, refuse, cutAfterBytes, \
                     emptyPages, stillPages or replace"
                        .to_owned(),
                );
            }
        } else if self.refuse || self.hang || self.empty_pages || self.still_pages || self.replace.is_some() {
            return Err(format!("a status does not go with {}", ends.join("")));
        }
        let connection = Operations::One(Kind::Connection);
        if self.operations.contains(&connection)
            && (self.operations != [connection]
                || self.status.is_some()
                || self.after
                || self.drop_response
                || self.cut_after_bytes.is_some()
                || self.empty_pages
                || self.still_pages
                || self.replace.is_some()
                || self.container.is_some()
                || self.partition.is_some()
                || self.document_id.is_some()
                || self.with_header.is_some()
                || self.min_operations.is_some()
                || self.min_bytes.is_some())
        {
            return Err(
                "a fault of connections stands alone: hang, refuse or delayMillis, with region, skip, share and \
                 count"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn is_for(&self, target: &Target<'_>) -> bool {
        let is = |wanted: &Option<String>, given: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == given)
        };
        self.per_operation == target.operation
            && self.operations.iter().any(|one| one.include(target.kind))
            && is(&self.container, target.container)
            && is(&self.region, target.region)
            && is(&self.partition, target.partition)
            && self
                .document_id
                .as_ref()
                .is_none_or(|id| target.documents.contains(id))
            && self
                .with_header
                .as_ref()
                .is_none_or(|name| target.headers.is_some_and(|headers| headers.contains_key(name)))
            && self.min_operations.is_none_or(|least| target.operations >= least)
            && self.min_bytes.is_none_or(|least| target.bytes >= least)
    }

    /// What a rule that struck makes of a request.
    fn strike(&self) -> Strike {
        Strike {
            status: self.status,
            sub_status: self.sub_status,
            message: self.message.clone(),
            charge: self.request_charge.unwrap_or_default(),
            retry_after_millis: self
                .retry_after_millis
                .or((self.status == Some(429)).then_some(10)),
            delay: Duration::from_millis(self.delay_millis),
            after: self.after,
            drop_response: self.drop_response,
            hang: self.hang,
            refuse: self.refuse,
            cut: self.cut_after_bytes,
            empty_page: self.empty_pages || self.still_pages,
            still_page: self.still_pages,
            replace: self.replace.clone(),
        }
    }
}

/// A request, an operation of one, or a connection, as far as the conditions of faults look at it.
#[derive(Default)]
pub(crate) struct Target<'a> {
    pub kind: Kind,
    pub container: Option<&'a str>,
    pub region: Option<&'a str>,
    /// Id of the partition key range, where [`Faults::look_inside`] asks for it.
    pub partition: Option<&'a str>,
    /// Ids of the documents, where [`Faults::look_inside`] asks for them.
    pub documents: Vec<String>,
    /// Operations of a bulk request or batch, where [`Faults::look_inside`] asks for them.
    pub operations: usize,
    pub headers: Option<&'a HeaderMap>,
    pub bytes: usize,
    /// An operation of a bulk request, not a request.
    pub operation: bool,
}

/// A fault that hits one request or one operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strike {
    pub status: Option<u16>,
    pub sub_status: u32,
    message: Option<String>,
    pub charge: f64,
    pub retry_after_millis: Option<u64>,
    pub delay: Duration,
    pub after: bool,
    pub drop_response: bool,
    pub hang: bool,
    pub refuse: bool,
    pub cut: Option<usize>,
    pub empty_page: bool,
    pub still_page: bool,
    pub replace: Option<Replace>,
}

impl Strike {
    /// The error answer of this fault, if it is one with a status.
    pub fn reply(&self) -> Option<Reply> {
        let mut reply = Reply::error(self.status?, self.sub_status, self.message());
        if self.charge > 0.0 {
            reply = reply.with("x-ms-request-charge", self.charge);
        }
        Some(match self.retry_after_millis {
            Some(millis) => reply.with("x-ms-retry-after-ms", millis),
            None => reply,
        })
    }

    /// The text of the error answer.
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or("A fault that was asked for.")
    }
}

/// The active faults, with their own seeded source of chance.
pub(crate) struct Faults {
    inner: Mutex<(Vec<Fault>, StdRng)>,
    /// What the active rules look at. Read on each request without the lock.
    looks: AtomicU8,
}

/// There is a rule.
const ANY: u8 = 1;
/// There is one for single operations of bulk requests.
const OPERATIONS: u8 = 2;
/// There is one that needs to know the partition.
const PARTITION: u8 = 4;
/// There is one that needs to know what is in the body.
const BODY: u8 = 8;
/// There is one for connections.
const CONNECTIONS: u8 = 16;

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new((Vec::new(), StdRng::seed_from_u64(seed))),
            looks: AtomicU8::new(0),
        }
    }

    pub fn add(&self, fault: Fault) {
        let mut inner = lock(&self.inner);
        inner.0.push(fault);
        self.look(&inner.0);
    }

    pub fn clear(&self) {
        let mut inner = lock(&self.inner);
        inner.0.clear();
        self.look(&inner.0);
    }

    /// Notes what the rules look at; called with the lock held.
    fn look(&self, faults: &[Fault]) {
        let looks = faults.iter().fold(0, |looks, fault| {
            let bit = |given: bool, bit: u8| if given { bit } else { 0 };
            looks
                | ANY
                | bit(fault.per_operation, OPERATIONS)
                | bit(fault.partition.is_some(), PARTITION)
                | bit(
                    fault.document_id.is_some() || fault.min_operations.is_some(),
                    BODY,
                )
                | bit(
                    fault.operations == [Operations::One(Kind::Connection)],
                    CONNECTIONS,
                )
        });
        self.looks.store(looks, Release);
    }

    fn looks_at(&self, what: u8) -> bool {
        self.looks.load(Acquire) & what != 0
    }

    pub fn list(&self) -> Vec<Fault> {
        lock(&self.inner).0.clone()
    }

    /// Whether there is a rule at all.
    pub fn active(&self) -> bool {
        self.looks_at(ANY)
    }

    /// Whether a rule for single operations of bulk requests is active.
    pub fn for_operations(&self) -> bool {
        self.looks_at(OPERATIONS)
    }

    /// Whether a rule looks at the partition, and whether one looks into the body.
    pub fn look_inside(&self) -> (bool, bool) {
        (self.looks_at(PARTITION), self.looks_at(BODY))
    }

    /// Whether a rule for connections is active.
    pub fn for_connections(&self) -> bool {
        self.looks_at(CONNECTIONS)
    }

    /// The fault of a connection that was just accepted.
    pub fn of_connection(&self, region: Option<&str>) -> Option<Strike> {
        if !self.looks_at(CONNECTIONS) {
            return None;
        }
        self.strike(&Target {
            kind: Kind::Connection,
            region,
            ..Target::default()
        })
    }

    /// The first rule that strikes.
    pub fn strike(&self, target: &Target<'_>) -> Option<Strike> {
        let (faults, chance) = &mut *lock(&self.inner);
        let struck = faults.iter_mut().position(|fault| {
            if !fault.is_for(target) || fault.share < 1.0 && chance.random::<f64>() >= fault.share {
                return false;
            }
            let passes = fault.skip > 0;
            fault.skip = fault.skip.saturating_sub(1);
            !passes
        })?;
        let strike = faults[struck].strike();
        if let Some(count) = faults[struck].count.as_mut() {
            *count = count.saturating_sub(1);
            if *count == 0 {
                faults.remove(struck);
                self.look(faults);
            }
        }
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
    /// Requests that were carried out, and whose connection was closed instead of an answer.
    pub responses_dropped: u64,
    /// Requests that were neither carried out nor answered: refused, or left hanging.
    pub unanswered: u64,
    /// Connections that a fault of connections struck.
    pub connections_struck: u64,
    /// Requests to a Gateway 2.0, where custom headers are lost.
    pub gateway_v2_requests: u64,
    pub request_units: f64,
}

/// The counts behind a lock.
#[derive(Default)]
pub(crate) struct Counts(Mutex<Stats>);

impl Counts {
    pub fn with(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut lock(&self.0));
    }

    /// Counts a request that was answered.
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: serde_json::Value) -> Result<Fault, String> {
        let fault: Fault = serde_json::from_value(json).map_err(|e| e.to_string())?;
        fault.check().map(|()| fault)
    }

    fn struck(faults: &Faults, kind: Kind, operation: bool) -> Option<Strike> {
        faults.strike(&Target {
            kind,
            operation,
            ..Target::default()
        })
    }

    #[test]
    fn a_rule_strikes_its_operations_as_often_as_it_says() {
        let faults = Faults::new(1);
        faults.add(fault(serde_json::json!({ "status": 429, "operations": "write", "count": 2 })).unwrap());
        assert!(struck(&faults, Kind::Read, false).is_none());
        assert!(struck(&faults, Kind::Upsert, true).is_none());
        let strike = struck(&faults, Kind::Upsert, false).unwrap();
        assert_eq!((strike.status, strike.retry_after_millis), (Some(429), Some(10)));
        assert!(struck(&faults, Kind::Batch, false).is_some());
        assert!(struck(&faults, Kind::Upsert, false).is_none());
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_same_seed_gives_the_same_strikes() {
        let run = |seed| {
            let faults = Faults::new(seed);
            faults.add(fault(serde_json::json!({ "status": 503, "share": 0.3 })).unwrap());
            (0..200)
                .map(|_| struck(&faults, Kind::Bulk, false).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let share = run(7).iter().filter(|struck| **struck).count();
        assert!((30..90).contains(&share), "{share} of 200 at a share of 0.3");
    }

    #[test]
    fn conditions_must_all_hold_and_the_first_can_be_let_through() {
        let faults = Faults::new(1);
        assert!(!faults.active());
        faults.add(
            fault(serde_json::json!({
                "status": 400, "subStatus": 1024, "operations": ["bulk", "pointRead"], "container": "c", "partition": 2,
                "documentId": "bad", "withHeader": "x-a", "minOperations": 2, "minBytes": 10, "skip": 1, "count": 1,
            }))
            .unwrap(),
        );
        assert_eq!(faults.look_inside(), (true, true));
        let mut headers = HeaderMap::new();
        headers.insert("x-a", hyper::header::HeaderValue::from_static("1"));
        let target = || Target {
            kind: Kind::Bulk,
            container: Some("c"),
            partition: Some("2"),
            documents: vec!["good".to_owned(), "bad".to_owned()],
            headers: Some(&headers),
            operations: 2,
            bytes: 10,
            ..Target::default()
        };
        type Change = fn(&mut Target<'_>);
        let changes: [(&str, Change); 8] = [
            ("kind", |t| t.kind = Kind::Query),
            ("container", |t| t.container = Some("d")),
            ("partition", |t| t.partition = Some("1")),
            ("document", |t| t.documents.truncate(1)),
            ("header", |t| t.headers = None),
            ("operations", |t| t.operations = 1),
            ("bytes", |t| t.bytes = 9),
            ("operation", |t| t.operation = true),
        ];
        for (what, change) in changes {
            let mut other = target();
            change(&mut other);
            assert!(faults.strike(&other).is_none(), "{what}");
        }
        assert!(faults.strike(&target()).is_none(), "the first passes");
        let strike = faults.strike(&target()).unwrap();
        assert_eq!((strike.status, strike.sub_status), (Some(400), 1024));
        assert!(!faults.active(), "it was for one");
    }

    #[test]
    fn senseless_rules_are_refused_with_the_value() {
        let refused = |json| fault(json).unwrap_err();
        assert!(refused(serde_json::json!({ "status": 200 })).contains("200"));
        assert!(refused(serde_json::json!({ "status": 500, "share": 1.5 })).contains("1.5"));
        assert!(refused(serde_json::json!({})).contains("does nothing"));
        assert!(refused(serde_json::json!({ "stauts": 500 })).contains("stauts"));
        assert!(
            refused(serde_json::json!({ "status": 500, "operations": ["bulk", "nap"] })).contains("'nap'")
        );
        assert!(refused(serde_json::json!({ "hang": true, "refuse": true })).contains("hang and refuse"));
        assert!(refused(serde_json::json!({ "hang": true, "status": 500 })).contains("hang"));
        assert!(refused(serde_json::json!({ "emptyPages": true, "status": 500 })).contains("emptyPages"));
        assert!(
            refused(serde_json::json!({ "emptyPages": true, "stillPages": true }))
                .contains("exclude each other")
        );
        assert!(refused(serde_json::json!({ "replace": {"text": "", "with": "x"} })).contains("empty"));
        assert!(refused(serde_json::json!({ "replace": {"text": "a", "with": "€"} })).contains("€"));
        assert!(refused(serde_json::json!({ "delayMillis": 1, "after": true })).contains("after"));
        assert!(
            refused(serde_json::json!({ "delayMillis": 1, "requestCharge": 2 })).contains("requestCharge")
        );
        assert!(refused(serde_json::json!({ "status": 500, "requestCharge": -1 })).contains("-1"));
        assert!(
            refused(serde_json::json!({ "operations": "connection", "status": 500 })).contains("connections")
        );
        assert!(
            refused(serde_json::json!({ "operations": ["connection", "all"], "hang": true }))
                .contains("connections")
        );
        let both = serde_json::json!({ "status": 500, "perOperation": true, "wholeRequest": true });
        assert!(refused(both).contains("wholeRequest"));
    }

    #[test]
    fn bytes_that_are_no_text_can_stand_in_an_answer() {
        let replace = Replace {
            text: "half".to_owned(),
            with: "\u{ff}x".to_owned(),
        };
        assert_eq!(replace.apply(b"a half, half"), b"a \xffx, \xffx");
        assert_eq!(replace.apply(b"hal"), b"hal");
    }
}
