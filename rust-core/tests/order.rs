//! Laws of the sink's engine over a service that fails at random, without a network: each operation comes back exactly once, what is
//! carried out on a document never goes back to an older operation, and what a create says of itself is true.
//!
//! The service of the model refuses bulk requests as a whole for the sake of some documents, or refuses the form for a while; it loses
//! answers; its partitions split; and they are locked one by one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::{CoreError, Kind, Result};
use cosmosflink_core::sink::{
    encode_operations, NewOperation, Operation, OperationKind, OperationResult, OutcomeResult, Service, Sink,
};
use cosmosflink_core::status::{Asked, Fate, Next};
use futures::future::BoxFuture;
use proptest::prelude::*;

/// What was carried out, in order: document and token.
type Log = Arc<Mutex<Vec<(String, u64)>>>;

/// What the account holds.
#[derive(Default)]
struct Account {
    /// Decides by a linear congruential generator, so that a seed gives the same run.
    state: u64,
    /// Documents that are there, with the token that made them.
    documents: HashMap<String, u64>,
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
        if op.kind == OperationKind::Create {
            if account.documents.contains_key(&id) {
                return 409;
            }
            account.documents.insert(id.clone(), op.token);
        }
        self.log.lock().unwrap().push((id, op.token));
        201
    }

    fn one(&self, op: &Operation) -> OperationResult {
        let failed = |status| OperationResult::failed(self.error((status, 0), op.kind.asked(), op.fate));
        if op.id_text() == BAD {
            return failed(400);
        }
        if self.chance() < self.failing {
            let status = [429, 449, 410, 503, 408][(self.chance() % 5) as usize];
            // A time-out or a 503 may come after the work was done.
            if status >= 500 || status == 408 {
                self.account.lock().unwrap().unclear.insert(op.token);
                if self.chance() < 50 {
                    self.carry_out(op);
                }
            }
            return failed(status);
        }
        match self.carry_out(op) {
            201 => OperationResult {
                status: 201,
                request_charge: 1.0,
                error: None,
            },
            status => {
                let error = self.error((status, 0), op.kind.asked(), op.fate);
                // As the wire does: the echo of one's own success is no failure.
                match error.next {
                    Next::Done => OperationResult {
                        status,
                        request_charge: 1.0,
                        error: None,
                    },
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
                    account.unclear.extend(operations.iter().map(|op| op.token));
                }
                return refused(status, 0);
            }
            Ok(operations.iter().map(|op| self.one(op)).collect())
        })
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(async move { self.one(operation) })
    }
}

/// Documents that are created, in place of upserted.
fn creates(id: &str) -> bool {
    matches!(id, "d1" | "d5" | "d9")
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
        ("cosmos.endpoint", "http://localhost"),
        ("cosmos.database", "d"),
        ("cosmos.container", "c"),
        ("cosmos.auth.key", "aw=="),
        ("cosmos.retry.backoff-ms", "1"),
        ("cosmos.retry.max-backoff-ms", "2"),
        ("cosmos.max-concurrency", concurrency),
        ("cosmos.retry.max-attempts", "10000"),
        ("sink.max-operations-per-request", "7"),
        ("sink.bulk-probe-interval-ms", "100"),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let sink = Sink::over(
        Box::new(service),
        Config::parse(Role::Sink, &options).unwrap(),
        runtime.handle(),
    )
    .unwrap();
    let rows: Vec<_> = documents
        .iter()
        .map(|d| (format!("d{d}"), format!("[\"k{}\"]", d % 5)))
        .collect();
    for (chunk, rows) in rows.chunks(11).enumerate() {
        let operations: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(i, (id, key))| NewOperation {
                token: (chunk * 11 + i) as u64,
                kind: match creates(id) {
                    true => OperationKind::Create,
                    false => OperationKind::Upsert,
                },
                id,
                partition_key: key,
                if_match: "",
                document: b"{}",
            })
            .collect();
        sink.submit(encode_operations(&operations)).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut tokens, mut created) = (Vec::new(), HashMap::<String, Vec<u64>>::new());
    while tokens.len() < documents.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} outcomes; {:?}",
            tokens.len(),
            documents.len(),
            sink.metrics()
        );
        for outcome in sink.poll(100, Duration::from_millis(50)).unwrap() {
            let id = &rows[outcome.token as usize].0;
            let kind = outcome.error.as_ref().map(|e| e.kind);
            match outcome.result {
                OutcomeResult::Ok if creates(id) => {
                    created.entry(id.clone()).or_default().push(outcome.token)
                }
                OutcomeResult::Ok => {}
                OutcomeResult::Failed if id == BAD => assert_eq!(kind, Some(Kind::BadRequest)),
                OutcomeResult::Failed if creates(id) => assert_eq!(kind, Some(Kind::Conflict)),
                other => panic!("{id}: {other:?} {:?}", outcome.error),
            }
            tokens.push(outcome.token);
        }
    }
    assert!(
        sink.poll(1, Duration::ZERO).unwrap().is_empty(),
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
        let expected =
            id != BAD && (!creates(&id) || log.iter().find(|(i, _)| *i == id) == Some(&(id.clone(), token)));
        assert_eq!(log.contains(&(id, token)), expected, "operation {token}");
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
