//! Laws of the sink over a service that fails at random, without a network: each submission completes exactly once, what is
//! carried out on a document never goes back to an older operation, what a create says of itself is true, and no field of a bulk update is lost.
//!
//! The service of the model refuses bulk requests as a whole for the sake of some documents, or refuses the form for a while; it loses
//! answers; its partitions split; and they are locked one by one.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::{CoreError, Kind, Result};
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::sink::{
    NewOperation, Operation, OperationKind, OperationResult, OutcomeResult, Service, Sink, Stored, Verb,
};
use cosmosflink_core::status::{Asked, Fate, Next};
use futures::future::BoxFuture;
use proptest::prelude::*;
use support::{Outcome, Writer};

/// Operations of a submission of the model.
const SUBMISSION: usize = 11;

/// The place of an operation among all of the model.
fn token(op: &Operation) -> u64 {
    op.submission * SUBMISSION as u64 + u64::from(op.index)
}

/// What was carried out, in order: document and token.
type Log = Arc<Mutex<Vec<(String, u64)>>>;

/// What the account holds.
#[derive(Default)]
struct Account {
    /// Decides by a linear congruential generator, so that a seed gives the same run.
    state: u64,
    /// Documents that are there: how often each was written, and what it holds.
    documents: HashMap<String, (u64, Vec<u8>)>,
    /// How often a partition was split so far.
    splits: u64,
    /// Requests so far.
    requests: u64,
    /// Operations with an attempt of which no answer says what became of it.
    unclear: HashSet<u64>,
}

struct Flaky {
    definition: PartitionKeyDefinition,
    account: Arc<Mutex<Account>>,
    /// Share of answers that are failures, in per cent.
    failing: u64,
    log: Log,
}

/// Bulk requests with this document are refused as a whole.
const SPOILS: &str = "d3";
/// This one is refused alone too.
const BAD: &str = "d7";

impl Flaky {
    fn chance(&self) -> u64 {
        let state = &mut self.account.lock().unwrap().state;
        *state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (*state >> 33) % 100
    }

    fn error(&self, (status, sub): (u16, u32), asked: Asked, before: Fate) -> CoreError {
        CoreError {
            retry_after_ms: Some(1),
            ..CoreError::answered((status, sub), asked, before, "asked for")
        }
    }

    /// Carries an operation out, and says with which status.
    fn carry_out(&self, op: &Operation) -> u16 {
        let id = op.id_text().into_owned();
        let mut account = self.account.lock().unwrap();
        let there = account.documents.get(&id).map(|(writes, _)| *writes);
        let is_it = |writes: u64| writes.to_string().as_bytes() == op.sent_etag();
        match (op.verb(), there) {
            (Verb::Create, Some(_)) => return 409,
            (Verb::Read | Verb::Replace, None) => return 404,
            (Verb::Replace, Some(writes)) if !is_it(writes) => return 412,
            (Verb::Read, Some(_)) => return 200,
            _ => {}
        }
        let writes = there.map_or(0, |writes| writes + 1);
        account
            .documents
            .insert(id.clone(), (writes, op.sent_body().to_vec()));
        self.log.lock().unwrap().push((id, token(op)));
        201
    }

    /// What a read finds.
    fn stored(&self, op: &Operation) -> Option<Box<Stored>> {
        let account = self.account.lock().unwrap();
        let (writes, document) = account.documents.get(&*op.id_text())?;
        Some(Box::new(Stored {
            document: document.clone(),
            etag: writes.to_string(),
        }))
    }

    fn one(&self, op: &Operation) -> OperationResult {
        let failed = |status| OperationResult::failed(self.error((status, 0), op.asked(), op.fate));
        if op.id_text() == BAD {
            return failed(400);
        }
        if self.chance() < self.failing {
            let status = [429, 449, 410, 503, 408][(self.chance() % 5) as usize];
            // A time-out or a 503 may come after the work was done.
            if status >= 500 || status == 408 {
                self.account.lock().unwrap().unclear.insert(token(op));
                if self.chance() < 50 {
                    self.carry_out(op);
                }
            }
            return failed(status);
        }
        match self.carry_out(op) {
            201 => OperationResult::ok(201, 1.0),
            200 => OperationResult {
                stored: self.stored(op),
                ..OperationResult::ok(200, 1.0)
            },
            status => {
                let error = self.error((status, 0), op.asked(), op.fate);
                // As the wire does: the echo of one's own success is no failure.
                match error.next {
                    Next::Done => OperationResult::ok(status, 1.0),
                    _ => OperationResult::failed(error),
                }
            }
        }
    }

    /// The partitions, of which one more is split every so many requests.
    fn ranges(&self) -> Vec<(String, EffectivePartitionKey)> {
        let splits = self.account.lock().unwrap().splits;
        let mut ranges = vec![("0".to_owned(), String::new())];
        for (n, at) in ["10", "28", "08", "20", "30", "04"]
            .iter()
            .take(2 + splits as usize)
            .enumerate()
        {
            let bound = format!("{at}{}", "0".repeat(30));
            let parent = ranges.iter().rposition(|(_, min)| *min < bound).unwrap();
            // Both children have new ids.
            ranges[parent].0 = (2 * n + 1).to_string();
            ranges.insert(parent + 1, ((2 * n + 2).to_string(), bound));
        }
        ranges
            .into_iter()
            .map(|(id, min)| (id, EffectivePartitionKey::try_from(min).unwrap()))
            .collect()
    }
}

impl Service for Flaky {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if refresh && self.chance() < self.failing {
                return Err(self.error((503, 0), Asked::Metadata, Fate::NotCarriedOut));
            }
            Ok(self.ranges())
        })
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let requests = {
                let mut account = self.account.lock().unwrap();
                account.requests += 1;
                if account.requests.is_multiple_of(16) && account.splits < 4 {
                    account.splits += 1;
                }
                account.requests
            };
            let refused = |status, sub| Err(self.error((status, sub), Asked::Bulk, Fate::NotCarriedOut));
            if !self.ranges().iter().any(|(id, _)| id == range) {
                return refused(410, 1002);
            }
            // Each partition is locked at times.
            if self.failing > 0 && (requests / 8) % 11 == range.parse::<u64>().unwrap() {
                return refused(410, 1007);
            }
            if operations.iter().any(|op| matches!(&*op.id_text(), SPOILS | BAD)) {
                return refused(400, 0);
            }
            // The form is not taken for a while.
            if self.failing > 25 && (requests / 20) % 3 == 1 {
                return refused(405, 0);
            }
            if self.chance() < self.failing / 2 {
                let status = [429, 503, 413][(self.chance() % 3) as usize];
                if status == 503 {
                    let mut account = self.account.lock().unwrap();
                    account.unclear.extend(operations.iter().map(token));
                }
                return refused(status, 0);
            }
            Ok(operations.iter().map(|op| self.one(op)).collect())
        })
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(async move { self.one(operation) })
    }

    fn reads(&self) -> bool {
        true
    }
}

/// What is done with a document.
fn kind_of(id: &str) -> OperationKind {
    match id {
        "d1" | "d5" | "d9" => OperationKind::Create,
        "d2" => OperationKind::CreateIgnoreExisting,
        "d4" | "d8" => OperationKind::BulkUpdate,
        _ => OperationKind::Upsert,
    }
}

/// Documents that are created, in place of upserted.
fn creates(id: &str) -> bool {
    kind_of(id) == OperationKind::Create
}

fn run(seed: u64, failing: u64, documents: &[u8], concurrency: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let log = Log::default();
    let account = Arc::new(Mutex::new(Account {
        state: seed,
        ..Account::default()
    }));
    let service = Flaky {
        definition: PartitionKeyDefinition::from("/pk"),
        account: account.clone(),
        failing,
        log: log.clone(),
    };
    let options = [
        ("endpoint", "http://localhost"),
        ("database", "d"),
        ("container", "c"),
        ("auth.secret-key", "aw=="),
        ("retry.backoff", "1"),
        ("retry.max-backoff", "2"),
        ("max-concurrency", concurrency),
        ("retry.max-attempts", "10000"),
        ("sink.max-operations-per-request", "7"),
        ("sink.bulk-probe-interval", "100"),
        ("sink.failure-mode", "skip"),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let config = Config::parse(Role::Sink, &options).unwrap();
    let sink = Sink::over(Box::new(service), None, config, runtime.handle(), seed);
    let sink = Writer::new(runtime.block_on(sink).unwrap());
    let rows: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(n, d)| {
            // Each has a field of its own.
            let document = format!("{{\"id\":\"d{d}\",\"f{n}\":1}}");
            (format!("d{d}"), format!("[\"k{}\"]", d % 5), document)
        })
        .collect();
    for (chunk, rows) in rows.chunks(SUBMISSION).enumerate() {
        let operations: Vec<_> = rows
            .iter()
            .map(|(id, key, document)| NewOperation {
                kind: kind_of(id),
                id,
                partition_key: key,
                if_match: "",
                document: document.as_bytes(),
            })
            .collect();
        sink.write((chunk * SUBMISSION) as u64.., &operations);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut tokens, mut created) = (Vec::new(), BTreeMap::<String, Vec<u64>>::new());
    while tokens.len() < documents.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} outcomes; {:?}",
            tokens.len(),
            documents.len(),
            sink.metrics()
        );
        for outcome in sink.come_back(Duration::from_millis(50)) {
            let id = &rows[outcome.token as usize].0;
            let kind = outcome.error.as_ref().map(|e| e.kind);
            match outcome.result {
                OutcomeResult::Ok if creates(id) => {
                    created.entry(id.clone()).or_default().push(outcome.token);
                }
                OutcomeResult::Ok => {}
                OutcomeResult::Skipped if id == BAD => assert_eq!(kind, Some(Kind::BadRequest)),
                OutcomeResult::Skipped if creates(id) => assert_eq!(kind, Some(Kind::Conflict)),
                other => panic!("{id}: {other:?} {:?}", outcome.error),
            }
            tokens.push(outcome.token);
        }
    }
    assert!(
        sink.poll(Duration::ZERO).unwrap().is_empty(),
        "more outcomes than operations"
    );
    let metrics = sink.metrics();
    for (what, counter) in [
        ("waiting", &metrics.operations_waiting),
        ("bytes", &metrics.bytes_buffered),
        ("held", &metrics.held_millis),
    ] {
        assert_eq!(counter.load(Relaxed), 0, "{what} at the end");
    }
    tokens.sort_unstable();
    assert!(
        tokens.iter().copied().eq(0..documents.len() as u64),
        "a token is missing or came twice"
    );
    let mut newest: HashMap<&str, u64> = HashMap::new();
    let log = log.lock().unwrap();
    for (id, token) in log.iter() {
        let before = newest.insert(id, *token);
        assert!(
            before.is_none_or(|b| b <= *token),
            "{id}: {token} was carried out after {before:?}"
        );
    }
    for (token, d) in documents.iter().enumerate() {
        let (id, token) = (format!("d{d}"), token as u64);
        let once = matches!(
            kind_of(&id),
            OperationKind::Create | OperationKind::CreateIgnoreExisting
        );
        let expected =
            id != BAD && (!once || log.iter().find(|(i, _)| *i == id) == Some(&(id.clone(), token)));
        assert_eq!(log.contains(&(id, token)), expected, "operation {token}");
    }
    for (n, d) in documents.iter().enumerate() {
        let id = format!("d{d}");
        if kind_of(&id) == OperationKind::BulkUpdate {
            let document = &account.lock().unwrap().documents[&id].1;
            let document: serde_json::Value = serde_json::from_slice(document).unwrap();
            assert_eq!(document[format!("f{n}")], 1, "{id} has lost a field: {document}");
        }
    }
    // A create that says that it was done did it: a conflict is the echo of one's own success only after an attempt of unknown fate.
    let unclear = std::mem::take(&mut account.lock().unwrap().unclear);
    for (id, tokens) in created {
        for token in tokens {
            assert!(
                log.contains(&(id.clone(), token)) || unclear.contains(&token),
                "{id}: the create {token} says that it was done"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_operation_comes_back_once_and_none_overtakes(
        seed: u64,
        failing in 0u64..50,
        documents in proptest::collection::vec(0u8..12, 1..120),
        concurrency in 1usize..6,
    ) {
        run(seed, failing, &documents, &concurrency.to_string());
    }
}

/// What a service of a test answers, given the operations, the range (empty: one operation alone) and how many requests came before.
type Answers = Box<
    dyn for<'a> Fn(&'a [Operation], &'a str, usize) -> BoxFuture<'a, Result<Vec<OperationResult>>>
        + Send
        + Sync,
>;

/// A service that follows a script.
struct Scripted {
    definition: PartitionKeyDefinition,
    /// The partitions at each look-up: the ids of equal parts. The last stays; without ids the look-up hangs.
    maps: Mutex<Vec<Vec<&'static str>>>,
    requests: AtomicUsize,
    answers: Answers,
    /// Whether the container is.
    gone: Arc<AtomicBool>,
}

impl Service for Scripted {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(match self.gone.load(Relaxed) {
            true => Err(CoreError::answered(
                (410, 1000),
                Asked::Metadata,
                Fate::NotCarriedOut,
                "gone",
            )),
            false => Ok(()),
        }))
    }

    fn check_interval(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, _: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        Box::pin(async move {
            let ids = {
                let mut maps = self.maps.lock().unwrap();
                match maps.len() {
                    1 => maps[0].clone(),
                    _ => maps.remove(0),
                }
            };
            if ids == ["hangs"] {
                std::future::pending::<()>().await;
            }
            let part = 0x40 / ids.len().max(1);
            let bound = |n: usize| match n {
                0 => String::new(),
                n => format!("{:02X}{}", n * part, "0".repeat(30)),
            };
            let ranges = ids.iter().enumerate();
            Ok(ranges
                .map(|(n, id)| {
                    (
                        (*id).to_owned(),
                        EffectivePartitionKey::try_from(bound(n)).unwrap(),
                    )
                })
                .collect())
        })
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        (self.answers)(operations, range, self.requests.fetch_add(1, Relaxed))
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        let n = self.requests.fetch_add(1, Relaxed);
        let answer = (self.answers)(std::slice::from_ref(operation), "", n);
        Box::pin(async move {
            match answer.await {
                Ok(mut results) => results.remove(0),
                Err(e) => OperationResult::failed(e),
            }
        })
    }
}

fn taken(operations: &[Operation]) -> Vec<OperationResult> {
    let one = |_: &Operation| OperationResult::ok(201, 1.0);
    operations.iter().map(one).collect()
}

fn refused(status: u16, asked: Asked, retry_after_ms: Option<u64>) -> CoreError {
    CoreError {
        retry_after_ms,
        ..CoreError::answered((status, 0), asked, Fate::NotCarriedOut, "asked for")
    }
}

fn ready<'a>(answer: Result<Vec<OperationResult>>) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
    Box::pin(std::future::ready(answer))
}

struct Stage {
    // Dropped before the runtime that it runs on.
    sink: Writer,
    gone: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn start(
        maps: &[&[&'static str]],
        extra: &[(&str, &str)],
        answers: impl for<'a> Fn(&'a [Operation], &'a str, usize) -> BoxFuture<'a, Result<Vec<OperationResult>>>
            + Send
            + Sync
            + 'static,
    ) -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let gone = Arc::<AtomicBool>::default();
        let service = Scripted {
            definition: PartitionKeyDefinition::from("/pk"),
            maps: Mutex::new(maps.iter().map(|m| m.to_vec()).collect()),
            requests: AtomicUsize::new(0),
            answers: Box::new(answers),
            gone: gone.clone(),
        };
        let mut options: HashMap<&str, &str> = HashMap::from([
            ("endpoint", "http://localhost"),
            ("database", "d"),
            ("container", "c"),
            ("auth.secret-key", "aw=="),
            ("retry.backoff", "1"),
            ("retry.max-backoff", "2"),
        ]);
        options.extend(extra.iter().copied());
        let options: Vec<_> = options
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let config = Config::parse(Role::Sink, &options).unwrap();
        let sink = Sink::over(Box::new(service), None, config, runtime.handle(), 1);
        let sink = Writer::new(runtime.block_on(sink).unwrap());
        Stage {
            sink,
            gone,
            _runtime: runtime,
        }
    }

    /// One submission of upserts: a token and a key for each.
    fn submit(&self, tokens: std::ops::Range<u64>, keys: u64) {
        let texts: Vec<_> = tokens
            .map(|t| (t, format!("d{t}"), format!("[\"k{}\"]", t % keys)))
            .collect();
        let operations: Vec<_> = texts
            .iter()
            .map(|(_, id, key)| NewOperation {
                kind: OperationKind::Upsert,
                id,
                partition_key: key,
                if_match: "",
                document: b"{}",
            })
            .collect();
        self.sink
            .write(texts.iter().map(|(token, _, _)| *token), &operations);
    }

    fn outcomes(&self, count: usize) -> Vec<Outcome> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut out = Vec::new();
        while out.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} outcomes; {:?}",
                out.len(),
                self.sink.metrics()
            );
            out.extend(self.sink.come_back(Duration::from_millis(20)));
        }
        assert_eq!(out.len(), count);
        out
    }

    fn all_ok(&self, count: usize) {
        for o in self.outcomes(count) {
            assert_eq!(o.result, OutcomeResult::Ok, "{:?}", o.error);
        }
    }

    fn until(&self, what: &str, so: impl Fn(&Metrics) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !so(self.sink.metrics()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.sink.metrics());
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_partition_whose_id_comes_back_is_another_one() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (opened, arrived) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = arrived.clone();
    let stage = Stage::start(
        &[&["0"], &["1", "2"], &["0"]],
        &[("sink.max-operations-per-request", "1")],
        move |operations, range, n| {
            seen.fetch_add(1, Relaxed);
            match (n, range) {
                // Under way while the partition goes and comes back.
                (0, _) => {
                    let gate = gate.clone();
                    Box::pin(async move {
                        gate.acquire().await.unwrap().forget();
                        Ok(taken(operations))
                    })
                }
                (1, _) | (_, "1" | "2") => ready(Err(refused(410, Asked::Bulk, None))),
                _ => ready(Ok(taken(operations))),
            }
        },
    );
    stage.submit(0..1, 1);
    stage.until("the first request", |_| arrived.load(Relaxed) == 1);
    stage.submit(1..20, 7);
    stage.all_ok(19);
    opened.add_permits(1);
    stage.all_ok(1);
    stage.submit(20..60, 7);
    stage.all_ok(40);
}

#[test]
fn time_in_a_queue_is_no_time_of_failure() {
    let stage = Stage::start(
        &[&["0"]],
        &[
            ("sink.bulk", "false"),
            ("max-concurrency", "1"),
            ("retry.deadline", "400"),
        ],
        |operations, _, n| match n {
            0 | 2 => ready(Err(refused(503, Asked::Upsert, Some(20)))),
            // The neighbour holds the partition for longer than the deadline.
            1 => ready(Err(refused(429, Asked::Upsert, Some(900)))),
            _ => ready(Ok(taken(operations))),
        },
    );
    stage.submit(0..2, 1);
    stage.all_ok(2);
}

#[test]
fn a_partition_whose_requests_hang_leaves_room_for_the_others() {
    let keys = Arc::new(Mutex::new(HashSet::new()));
    let hang = keys.clone();
    let stage = Stage::start(
        &[&["0", "1"]],
        &[("sink.bulk", "false"), ("max-concurrency", "8")],
        move |operations, _, _| {
            // The first key's partition hangs.
            let key = operations[0].partition_key().to_vec();
            let hangs = hang.lock().unwrap().contains(&key);
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(taken(operations))
            })
        },
    );
    // Keys of both partitions: which lies where, the hash of the key says.
    let of = |n: u64| {
        let key = azure_data_cosmos_driver::models::PartitionKey::from(format!("k{n}"));
        let definition = PartitionKeyDefinition::from("/pk");
        let range = azure_data_cosmos_driver::models::FeedRange::for_partition(key, &definition);
        range.min_inclusive() >= &EffectivePartitionKey::try_from(format!("20{}", "0".repeat(30))).unwrap()
    };
    let side: Vec<u64> = (0..100).filter(|n| of(*n)).collect();
    keys.lock()
        .unwrap()
        .extend(side.iter().map(|n| format!("[\"k{n}\"]").into_bytes()));
    assert!((20..80).contains(&side.len()));
    for n in &side {
        stage.submit(*n..*n + 1, 100);
    }
    stage.until("requests that hang", |m| {
        m.operations_waiting.load(Relaxed) == side.len() as u64 - 7
    });
    for n in (0..100).filter(|n| !of(*n)) {
        stage.submit(n..n + 1, 100);
    }
    stage.all_ok(100 - side.len());
}

#[test]
fn a_look_up_of_partitions_that_hangs_is_given_up() {
    let stage = Stage::start(
        &[&["0"], &["hangs"], &["1"]],
        &[("retry.deadline", "2000"), ("retry.max-attempts", "10000")],
        |operations, range, _| match range {
            "1" => ready(Ok(taken(operations))),
            _ => ready(Err(refused(410, Asked::Bulk, Some(20)))),
        },
    );
    stage.submit(0..10, 3);
    stage.all_ok(10);
}

#[test]
fn a_document_that_draws_a_500_is_found_like_any_other_culprit() {
    let stage = Stage::start(&[&["0"]], &[], |operations, range, _| {
        let spoilt = !range.is_empty() && operations.len() > 1 && operations.iter().any(|op| op.index == 37);
        match spoilt {
            true => ready(Err(refused(500, Asked::Bulk, None))),
            false => ready(Ok(taken(operations))),
        }
    });
    stage.submit(0..100, 5);
    stage.all_ok(100);
}

#[test]
fn results_that_are_missing_lose_no_operation() {
    let stage = Stage::start(&[&["0"]], &[], |operations, _, _| {
        let mut results = taken(operations);
        results.truncate(7);
        ready(Ok(results))
    });
    stage.submit(0..10, 3);
    // The three fail, the first of them the submission.
    assert_eq!(stage.outcomes(1)[0].result, OutcomeResult::Failed);
    let metrics = stage.sink.metrics();
    stage.until("all are counted", |m| m.failed.load(Relaxed) == 3);
    assert_eq!(metrics.records.load(Relaxed), 7);
}

#[test]
fn a_request_that_is_not_full_does_not_wait_for_one_that_hangs() {
    let stage = Stage::start(&[&["0"]], &[], |operations, _, n| {
        Box::pin(async move {
            if n == 0 {
                std::future::pending::<()>().await;
            }
            Ok(taken(operations))
        })
    });
    stage.submit(0..1, 1);
    stage.submit(1..4, 1);
    stage.all_ok(3);
}

#[test]
fn a_request_that_fails_as_a_whole_counts_once() {
    let stage = Stage::start(&[&["0"]], &[], |operations, _, n| match n {
        0 => ready(Err(refused(429, Asked::Bulk, Some(1)))),
        1 => ready(Err(refused(503, Asked::Bulk, Some(300)))),
        _ => ready(Ok(taken(operations))),
    });
    stage.submit(0..10, 3);
    // While they sleep before the next attempt too.
    stage.until("the second answer", |m| m.retries.load(Relaxed) == 2);
    assert_eq!(stage.sink.metrics().operations_waiting.load(Relaxed), 10);
    stage.all_ok(10);
    let metrics = stage.sink.metrics();
    assert_eq!(
        (metrics.throttled.load(Relaxed), metrics.retries.load(Relaxed)),
        (1, 2)
    );
    assert_eq!(metrics.operations_waiting.load(Relaxed), 0);
}

#[test]
fn a_container_that_is_another_one_is_found_out_without_a_word_of_its_server() {
    let stage = Stage::start(&[&["0"]], &[("sink.failure-mode", "skip")], |operations, _, _| {
        ready(Ok(taken(operations)))
    });
    stage.submit(0..10, 3);
    stage.all_ok(10);
    stage.gone.store(true, Relaxed);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < deadline, "nobody finds out");
        stage.submit(0..10, 3);
        let mut outcomes = Vec::new();
        while outcomes.is_empty() {
            assert!(Instant::now() < deadline, "the submission does not complete");
            outcomes = stage.sink.come_back(Duration::from_millis(20));
        }
        let Some(failed) = outcomes.iter().find(|o| o.result == OutcomeResult::Failed) else {
            assert_eq!(outcomes.len(), 10);
            continue;
        };
        let error = failed.error.as_ref().unwrap();
        assert!(error.message.contains("created anew"), "{error}");
        assert_eq!(error.kind, Kind::State);
        break;
    }
    assert_eq!(stage.sink.metrics().operations_waiting.load(Relaxed), 0);
}

/// The price of a batch is that of its operations: it must not make others book as much for each of theirs.
#[test]
fn a_batch_books_for_each_of_its_operations() {
    let stage = Stage::start(
        &[&["0", "1"]],
        &[("sink.request-units-per-second", "1000")],
        |operations, _, _| {
            let cost = |op: &Operation| if op.verb() == Verb::Batch { 600.0 } else { 6.0 };
            let results = operations.iter().map(|op| OperationResult::ok(200, cost(op)));
            ready(Ok(results.collect()))
        },
    );
    let deletes: Vec<_> = (0..100)
        .map(|n| format!(r#"{{"operationType":"Delete","id":"m{n}"}}"#))
        .collect();
    let deletes = format!("[{}]", deletes.join(","));
    let batch = NewOperation {
        kind: OperationKind::Batch,
        id: "",
        partition_key: "[\"k\"]",
        if_match: "",
        document: deletes.as_bytes(),
    };
    stage.sink.write([0], &[batch]);
    stage.all_ok(1);
    // A request to each partition. Both wait until the batch is paid for, and one of them for what the other has booked.
    stage.submit(0..200, 7);
    stage.all_ok(200);
    let waited = stage.sink.metrics().budget_millis.load(Relaxed);
    assert!((500..3000).contains(&waited), "{waited} ms");
}
