//! The last requests, one by one, so that a test can count them and measure the time between them.

use crate::faults::{lock, Kind};
use hyper::header::HeaderMap;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Instant;

/// So many are kept: some minutes of a busy test, in a few megabytes.
const KEPT: usize = 10_000;
/// So many headers can be asked for.
const MAX_HEADERS: usize = 32;
/// Stands for all headers but the signature.
const ALL_HEADERS: &str = "*";
/// The signature, which is never kept.
const SIGNATURE: &str = "authorization";
/// Bytes of bodies that are kept in all; the oldest go first.
const BODY_BYTES: usize = 64 * 1024 * 1024;

/// A request that was answered, or was not.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Counts up from 0 over the life of the server.
    pub sequence: u64,
    pub kind: &'static str,
    /// Time of arrival, in milliseconds since the start of the server.
    pub millis: u64,
    /// From the arrival to the answer, in microseconds; what the fault's delay took is part of it.
    pub micros: u64,
    /// Status of the answer, even of one that was dropped; null where there was none.
    pub status: Option<u16>,
    pub sub_status: u32,
    /// Why the client got no whole answer: `refused`, `hanging`, `dropped` or `cut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<&'static str>,
    /// The region that answered, where regions were declared or it was a Gateway 2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<str>>,
    /// Id of the partition key range, as the request or the answer named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Box<str>>,
    /// Operations of a bulk request or batch.
    pub operations: usize,
    /// Documents of a feed page or a query's page.
    pub documents: usize,
    /// Of the request's body.
    pub bytes: usize,
    /// Of the answer's body, before it was cut.
    pub answer_bytes: usize,
    /// `1.1` or `2`.
    pub http: &'static str,
    /// The headers that `POST /_local/requests` asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Method and path, where bodies were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<str>>,
    /// The body as text, where bodies were asked for; what is no UTF-8 shows as U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<str>>,
}

/// What is kept of a request where `POST /_local/requests` asks for it.
pub(crate) struct Asked<'a> {
    pub method: &'a hyper::Method,
    pub path: &'a [String],
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// The last requests.
pub(crate) struct Requests {
    started: Instant,
    inner: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    entries: VecDeque<Entry>,
    headers: Vec<String>,
    bodies: bool,
    /// Of all bodies that are kept.
    body_bytes: usize,
}

impl Ring {
    fn drop_oldest(&mut self) {
        let oldest = self.entries.pop_front();
        self.body_bytes -= oldest.and_then(|entry| entry.body).map_or(0, |body| body.len());
    }
}

impl Requests {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            inner: Mutex::default(),
        }
    }

    /// Takes a request in that arrived then.
    pub fn add(&self, mut entry: Entry, arrived: Instant, asked: &Asked<'_>) {
        entry.millis = arrived.duration_since(self.started).as_millis() as u64;
        entry.micros = arrived.elapsed().as_micros() as u64;
        let mut ring = lock(&self.inner);
        let value =
            |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        if ring.headers.iter().any(|name| name == ALL_HEADERS) {
            let all = asked.headers.iter().filter(|(name, _)| *name != SIGNATURE);
            entry
                .headers
                .extend(all.map(|(name, v)| (name.as_str().to_owned(), value(v))));
        } else {
            for name in &ring.headers {
                if let Some(v) = asked.headers.get(name) {
                    entry.headers.insert(name.clone(), value(v));
                }
            }
        }
        if ring.bodies {
            entry.request = Some(format!("{} /{}", asked.method, asked.path.join("/")).into());
            let body = String::from_utf8_lossy(asked.body);
            ring.body_bytes += body.len();
            entry.body = Some(body.into());
        }
        entry.sequence = ring.next;
        ring.next += 1;
        if ring.entries.len() == KEPT {
            ring.drop_oldest();
        }
        ring.entries.push_back(entry);
        while ring.body_bytes > BODY_BYTES {
            ring.drop_oldest();
        }
    }

    /// The requests from this sequence number on, all kinds or one, and the number that the next request will have.
    pub fn list(&self, from: u64, kind: Option<&str>) -> (u64, Vec<Entry>) {
        let ring = lock(&self.inner);
        let wanted = |entry: &&Entry| entry.sequence >= from && kind.is_none_or(|kind| entry.kind == kind);
        (ring.next, ring.entries.iter().filter(wanted).cloned().collect())
    }

    /// Forgets them; sequence numbers go on.
    pub fn clear(&self) {
        let mut ring = lock(&self.inner);
        ring.entries.clear();
        ring.body_bytes = 0;
    }

    /// Keeps these headers of the requests to come, `*` for all of them, and their bodies.
    ///
    /// # Errors
    /// Names the header that cannot be one, or is a secret.
    pub fn keep(&self, names: Vec<String>, bodies: bool) -> Result<(), String> {
        let names: Vec<_> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.len() > MAX_HEADERS {
            return Err(format!("{} headers, at most {MAX_HEADERS} are kept", names.len()));
        }
        for name in &names {
            if name == SIGNATURE || hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(format!("'{name}' is not a header that can be kept"));
            }
        }
        let mut ring = lock(&self.inner);
        (ring.headers, ring.bodies) = (names, bodies);
        Ok(())
    }
}

/// The operations in the body of a bulk request or batch; 0 where it is not a list.
pub(crate) fn operations(kind: Kind, body: &[u8]) -> usize {
    match kind {
        Kind::Bulk | Kind::Batch => {
            serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body).map_or(0, |list| list.len())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with a header, its signature and a body of so many bytes.
    fn add(requests: &Requests, kind: &'static str, bytes: usize) {
        let headers = [("x-ms-version", "2020-07-15"), (SIGNATURE, "secret")];
        let headers = headers.map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, hyper::header::HeaderValue::from_static(value))
        });
        let asked = Asked {
            method: &hyper::Method::POST,
            path: &["dbs".to_owned(), "d".to_owned()],
            headers: &headers.into_iter().collect(),
            body: &vec![b'x'; bytes],
        };
        let entry = Entry {
            kind,
            ..Entry::default()
        };
        requests.add(entry, Instant::now(), &asked);
    }

    #[test]
    fn the_newest_are_kept_and_can_be_asked_for_by_number_and_kind() {
        let requests = Requests::new();
        for n in 0..KEPT + 5 {
            let kind = if n % 2 == 0 { "bulk" } else { "read" };
            add(&requests, kind, 0);
        }
        let (next, all) = requests.list(0, None);
        assert_eq!((next, all.len(), all[0].sequence), (KEPT as u64 + 5, KEPT, 5));
        let (_, newest) = requests.list(next - 2, Some("bulk"));
        assert_eq!(newest.iter().map(|e| e.sequence).collect::<Vec<_>>(), [next - 1]);
        requests.clear();
        assert_eq!(requests.list(0, None).0, next);
        assert!(requests.list(0, None).1.is_empty());
    }

    #[test]
    fn a_signature_is_never_kept() {
        let requests = Requests::new();
        let refused = requests.keep(vec!["Authorization".to_owned()], false);
        assert!(refused.unwrap_err().contains("'authorization'"));
        requests.keep(vec!["*".to_owned()], false).unwrap();
        add(&requests, "bulk", 0);
        let (_, kept) = requests.list(0, None);
        assert_eq!(kept[0].headers.len(), 1);
        assert_eq!(kept[0].headers["x-ms-version"], "2020-07-15");
    }

    #[test]
    fn bodies_are_kept_where_they_are_asked_for_and_only_so_many() {
        let requests = Requests::new();
        add(&requests, "bulk", 3);
        requests.keep(Vec::new(), true).unwrap();
        add(&requests, "bulk", 3);
        let (_, kept) = requests.list(0, None);
        assert_eq!(
            (kept[0].body.as_deref(), kept[0].request.as_deref()),
            (None, None)
        );
        assert_eq!(
            (kept[1].body.as_deref(), kept[1].request.as_deref()),
            (Some("xxx"), Some("POST /dbs/d"))
        );
        for _ in 0..9 {
            add(&requests, "bulk", BODY_BYTES / 8);
        }
        let (_, kept) = requests.list(0, None);
        assert_eq!((kept.len(), kept[0].sequence), (8, 3));
        requests.clear();
        add(&requests, "bulk", BODY_BYTES);
        assert_eq!(requests.list(0, None).1.len(), 1);
    }
}
