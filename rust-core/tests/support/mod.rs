//! A local account for tests of the core, over a real HTTP wire.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cosmos_local::{AccountKey, ContainerSpec, Server};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::CoreError;
use cosmosflink_core::page::{FLAG_CAUGHT_UP, FLAG_FINISHED, RECORD_BYTES};
use cosmosflink_core::sink::{
    encode_operations, Completion, NewOperation, OperationKind, OutcomeResult, Sink,
};
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{decode_list, Split, SplitEntry};

pub const WAIT: Duration = Duration::from_secs(60);

/// A running server with its own runtime.
pub struct Local {
    // Dropped before the runtime that it runs on.
    _server: Server,
    _runtime: tokio::runtime::Runtime,
    pub endpoint: String,
    /// The authority of a server with TLS.
    pub ca_pem: Option<String>,
    pub key: String,
    /// The key as the server holds it: to regenerate it, or to issue tokens.
    pub account: AccountKey,
}

impl Local {
    /// Starts a server with these containers (`NAME:/path:PARTITIONS[:RU]`).
    pub fn start(containers: &[&str]) -> Local {
        Self::start_with(containers, |_| {})
    }

    /// The same with what `change` makes of the server's configuration.
    pub fn start_with(containers: &[&str], change: impl FnOnce(&mut cosmos_local::Config)) -> Local {
        std::env::set_var("COSMOS_DISABLE_IMDS", "1");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let key = AccountKey::random();
        let secret = key.secret().to_owned();
        let specs: Vec<ContainerSpec> = containers.iter().map(|c| c.parse().unwrap()).collect();
        let mut config = cosmos_local::Config {
            databases: vec!["orders".into()],
            throttling: containers.iter().any(|c| c.matches(':').count() == 3),
            containers: specs,
            ..cosmos_local::Config::new(key.clone())
        };
        change(&mut config);
        let server = runtime.block_on(Server::start(config)).unwrap();
        Local {
            endpoint: server.endpoint(),
            ca_pem: server.ca_pem().map(str::to_owned),
            key: secret,
            account: key,
            _server: server,
            _runtime: runtime,
        }
    }

    pub fn options(&self, container: &str, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut map: BTreeMap<&str, &str> = BTreeMap::from([
            ("endpoint", self.endpoint.as_str()),
            ("database", "orders"),
            ("container", container),
            ("auth.secret-key", self.key.as_str()),
        ]);
        map.extend(extra.iter().copied());
        map.into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    pub fn sink(&self, container: &str, extra: &[(&str, &str)]) -> Writer {
        Writer::new(Sink::open(Config::parse(Role::Sink, &self.options(container, extra)).unwrap()).unwrap())
    }

    pub fn enumerator(&self, container: &str, extra: &[(&str, &str)]) -> Arc<Enumerator> {
        Enumerator::open(Config::parse(Role::Source, &self.options(container, extra)).unwrap()).unwrap()
    }

    pub fn source(&self, container: &str, extra: &[(&str, &str)]) -> Source {
        Source::open(Config::parse(Role::Source, &self.options(container, extra)).unwrap()).unwrap()
    }

    /// A source that reads all splits of a container from the beginning.
    pub fn source_of_all(&self, container: &str, extra: &[(&str, &str)]) -> (Source, Vec<SplitEntry>) {
        let splits = self.enumerator(container, extra).discover(&[]).unwrap();
        let source = self.source(container, extra);
        source
            .add_splits(splits.iter().map(|e| e.split.clone()).collect())
            .unwrap();
        (source, splits)
    }

    /// Posts to an admin endpoint of the server.
    /// Answers what the server does.
    pub fn admin(&self, what: &str, body: serde_json::Value) -> serde_json::Value {
        let mut answer = ureq::post(format!("{}_local/{what}", self.endpoint))
            .header("content-type", "application/json")
            .send(body.to_string().as_bytes())
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap_or_default()
    }
}

impl Local {
    /// Lets the documents of a container with the key path `/pk` expire, those without a time to live of their own after so many seconds.
    pub fn expire_after(&self, container: &str, seconds: i64) {
        let definition = serde_json::json!({
            "id": container, "defaultTtl": seconds,
            "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 },
        });
        let token = self
            .account
            .token(std::time::SystemTime::now() + Duration::from_secs(60));
        ureq::put(format!("{}dbs/orders/colls/{container}", self.endpoint))
            .header("authorization", format!("type%3Daad%26ver%3D1.0%26sig%3D{token}"))
            .header("x-ms-date", "Tue, 24 Nov 2026 10:00:00 GMT")
            .send(definition.to_string().as_bytes())
            .unwrap();
    }

    /// What the server counted.
    pub fn stats(&self) -> serde_json::Value {
        ureq::get(format!("{}_local/stats", self.endpoint))
            .call()
            .unwrap()
            .body_mut()
            .read_json()
            .unwrap()
    }

    /// The server's log of requests of this kind.
    pub fn requests(&self, kind: &str) -> Vec<serde_json::Value> {
        let log: serde_json::Value = ureq::get(format!("{}_local/requests?kind={kind}", self.endpoint))
            .call()
            .unwrap()
            .body_mut()
            .read_json()
            .unwrap();
        log["requests"].as_array().unwrap().clone()
    }

    pub fn forget_requests(&self) {
        ureq::delete(format!("{}_local/requests", self.endpoint))
            .call()
            .unwrap();
    }

    pub fn clear_faults(&self) {
        ureq::delete(format!("{}_local/faults", self.endpoint))
            .call()
            .unwrap();
    }

    /// How many faults have not been spent.
    pub fn faults(&self) -> usize {
        let answer = ureq::get(format!("{}_local/faults", self.endpoint))
            .call()
            .unwrap();
        let listed: serde_json::Value = answer.into_body().read_json().unwrap();
        listed["faults"].as_array().unwrap().len()
    }
}

/// A sink, and what was submitted to it: a test names each operation by a token.
pub struct Writer {
    sink: Sink,
    submitted: Mutex<Submitted>,
}

#[derive(Default)]
struct Submitted {
    /// Submissions so far, by which they are numbered.
    count: u64,
    /// The tokens of those that have not completed.
    open: BTreeMap<u64, Vec<u64>>,
}

/// What became of an operation.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub token: u64,
    pub result: OutcomeResult,
    pub error: Option<CoreError>,
}

impl Deref for Writer {
    type Target = Sink;

    fn deref(&self) -> &Sink {
        &self.sink
    }
}

impl Writer {
    pub fn new(sink: Sink) -> Writer {
        Writer {
            sink,
            submitted: Mutex::default(),
        }
    }

    /// One submission.
    pub fn write(&self, tokens: impl IntoIterator<Item = u64>, operations: &[NewOperation<'_>]) {
        let tokens: Vec<u64> = tokens.into_iter().take(operations.len()).collect();
        assert_eq!(tokens.len(), operations.len());
        self.write_frame(tokens, encode_operations(operations));
    }

    /// One submission, as a frame.
    pub fn write_frame(&self, tokens: Vec<u64>, frame: Vec<u8>) {
        let mut submitted = self.submitted.lock().unwrap();
        let number = submitted.count;
        submitted.count += 1;
        submitted.open.insert(number, tokens);
        self.sink.submit(number, frame).unwrap();
    }

    /// What became of the operations of a submission, its failures first. Of one that has failed, the failures alone; that it
    /// completes once is checked.
    pub fn outcomes_of(&self, completion: Completion) -> Vec<Outcome> {
        let tokens = self.submitted.lock().unwrap().open.remove(&completion.submission);
        let tokens = tokens.unwrap_or_else(|| panic!("not a submission that is open: {completion:?}"));
        let failed = completion
            .failures
            .iter()
            .any(|f| f.result == OutcomeResult::Failed);
        let mut good: Vec<Option<u64>> = tokens.iter().copied().map(Some).collect();
        let mut out = Vec::new();
        for failure in completion.failures {
            let token = good[failure.index as usize].take();
            out.push(Outcome {
                token: token.expect("an operation fails once"),
                result: failure.result,
                error: Some(failure.error),
            });
        }
        let good = good.into_iter().flatten().filter(|_| !failed);
        out.extend(good.map(|token| Outcome {
            token,
            result: OutcomeResult::Ok,
            error: None,
        }));
        out
    }

    /// What has come back by now, waited for up to `timeout`.
    pub fn come_back(&self, timeout: Duration) -> Vec<Outcome> {
        let completions = self.sink.poll(timeout).unwrap();
        completions
            .into_iter()
            .flat_map(|c| self.outcomes_of(c))
            .collect()
    }

    /// The next completion; fails after [`WAIT`].
    pub fn completion(&self) -> Completion {
        let mut completions = self.sink.poll(WAIT).unwrap();
        assert_eq!(completions.len(), 1, "{completions:?}; {:?}", self.metrics());
        completions.remove(0)
    }
}

/// A document as the tests write it.
pub fn document(id: &str, key: &str, n: usize) -> String {
    format!(
        r#"{{"id":"{id}","pk":"{key}","n":{n},"price":1.10,"text":"{}"}}"#,
        "x".repeat(300)
    )
}

/// Upserts `count` documents `PREFIX-i` with key `k(i % keys)`; tokens are the indexes.
pub fn upserts(sink: &Writer, prefix: &str, count: usize, keys: usize) {
    let rows: Vec<_> = (0..count)
        .map(|i| {
            let (id, key) = (format!("{prefix}-{i}"), format!("k{}", i % keys));
            (document(&id, &key, i), id, format!("[\"{key}\"]"))
        })
        .collect();
    for (chunk, rows) in rows.chunks(500).enumerate() {
        let ops: Vec<_> = rows
            .iter()
            .map(|(doc, id, key)| NewOperation {
                kind: OperationKind::Upsert,
                id,
                partition_key: key,
                if_match: "",
                document: doc.as_bytes(),
            })
            .collect();
        sink.write(chunk as u64 * 500.., &ops);
    }
}

/// Submits one operation.
pub fn submit(sink: &Writer, token: u64, kind: OperationKind, id: &str, key: &str, document: &str) {
    let op = NewOperation {
        kind,
        id,
        partition_key: key,
        if_match: "",
        document: document.as_bytes(),
    };
    sink.write([token], &[op]);
}

/// Waits for what becomes of `count` operations; fails when a token comes twice.
pub fn outcomes(sink: &Writer, count: usize) -> Vec<Outcome> {
    let deadline = Instant::now() + WAIT;
    let mut out: Vec<Outcome> = Vec::new();
    while out.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} outcomes; metrics {:?}",
            out.len(),
            sink.metrics()
        );
        out.extend(sink.come_back(Duration::from_millis(100)));
    }
    let mut tokens: Vec<_> = out.iter().map(|o| o.token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), count, "a token came back twice");
    assert!(
        sink.poll(Duration::from_millis(20)).unwrap().is_empty(),
        "more outcomes than operations"
    );
    out
}

/// A page taken from a source: the split after it, and `(id, document)` of each record.
pub struct Taken {
    pub split: Split,
    pub caught_up: bool,
    /// The split ends with this page, and these go on in its place.
    pub finished: Option<Vec<Split>>,
    pub records: Vec<(String, String)>,
}

/// The next page, if one comes in time. What goes on in place of a split that ends is read from then on, as in a job.
pub fn take(source: &Source, timeout: Duration) -> Option<Taken> {
    let page = take_alone(source, timeout)?;
    if let Some(children) = &page.finished {
        source.add_splits(children.clone()).unwrap();
    }
    Some(page)
}

/// The next page, if one comes in time, and nothing else.
pub fn take_alone(source: &Source, timeout: Duration) -> Option<Taken> {
    if source.next_page(timeout).unwrap() == 0 {
        return None;
    }
    let frame = source.take_page().unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    let (n, table) = (u32_at(4), u32_at(8));
    let split_at = 36 + u32_at(32);
    let blob = |at: usize| &frame[at + 4..at + 4 + u32_at(at)];
    let split = Split::decode(blob(split_at)).unwrap();
    let children = blob(split_at + 4 + u32_at(split_at));
    let children = match children {
        [] => Vec::new(),
        frame => decode_list(frame).unwrap(),
    };
    let text = |at: usize, len: usize| String::from_utf8(frame[at..at + len].to_vec()).unwrap();
    let records = (0..n)
        .map(|i| {
            let row = table + i * RECORD_BYTES;
            (
                text(u32_at(row + 8), u32_at(row + 12)),
                text(u32_at(row), u32_at(row + 4)),
            )
        })
        .collect();
    let flags = u32_at(12) as u32;
    let children = children.into_iter().map(|entry| entry.split).collect();
    Some(Taken {
        split,
        caught_up: flags & FLAG_CAUGHT_UP != 0,
        finished: (flags & FLAG_FINISHED != 0).then_some(children),
        records,
    })
}

/// Reads until `count` records are there; returns id to document. Fails when an id comes twice.
pub fn read(source: &Source, count: usize) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let deadline = Instant::now() + WAIT;
    while all.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} records; metrics {:?}",
            all.len(),
            source.metrics()
        );
        if let Some(page) = take(source, Duration::from_millis(200)) {
            for (id, document) in page.records {
                assert!(all.insert(id.clone(), document).is_none(), "{id} came twice");
            }
        }
    }
    all
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
