//! Laws of the sink's engine over a service that fails at random, without a network: each operation comes back exactly once, and
//! what is carried out on a document never goes back to an older operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::{CoreError, Result};
use cosmosflink_core::sink::{
    encode_operations, NewOperation, Operation, OperationKind, OperationResult, OutcomeResult, Service, Sink,
};
use cosmosflink_core::status::{Asked, Fate};
use futures::future::BoxFuture;
use proptest::prelude::*;

/// What was carried out, in order: document and token.
type Log = Arc<Mutex<Vec<(String, u64)>>>;

/// Decides by a linear congruential generator, so that a seed gives the same run.
struct Flaky {
    definition: PartitionKeyDefinition,
    state: Mutex<u64>,
    /// Share of answers that are failures, in per cent.
    failing: u64,
    log: Log,
}

impl Flaky {
    fn chance(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        *state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (*state >> 33) % 100
    }

    fn error(&self, status: u16) -> CoreError {
        CoreError {
            retry_after_ms: Some(1),
            ..CoreError::answered((status, 0), Asked::Upsert, Fate::NotCarriedOut, "asked for")
        }
    }

    fn carry_out(&self, op: &Operation) {
        self.log
            .lock()
            .unwrap()
            .push((op.id_text().into_owned(), op.token));
    }

    fn one(&self, op: &Operation) -> OperationResult {
        if self.chance() < self.failing {
            let status = [429, 449, 410, 503, 408][(self.chance() % 5) as usize];
            // A time-out or a 503 may come after the work was done.
            if status >= 500 || status == 408 {
                self.carry_out(op);
            }
            return OperationResult::failed(self.error(status));
        }
        self.carry_out(op);
        OperationResult {
            status: 200,
            request_charge: 1.0,
            error: None,
        }
    }
}

impl Service for Flaky {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, _refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        let bounds = [
            "",
            "10000000000000000000000000000000",
            "28000000000000000000000000000000",
        ];
        let ranges = bounds
            .iter()
            .enumerate()
            .map(|(i, min)| (i.to_string(), EffectivePartitionKey::try_from(*min).unwrap()));
        let ranges = ranges.collect();
        Box::pin(async move { Ok(ranges) })
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        _range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.chance() < self.failing / 2 {
                return Err(self.error([429, 503][(self.chance() % 2) as usize]));
            }
            Ok(operations.iter().map(|op| self.one(op)).collect())
        })
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(async move { self.one(operation) })
    }
}

fn run(seed: u64, failing: u64, documents: &[u8], concurrency: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let log = Log::default();
    let service = Flaky {
        definition: PartitionKeyDefinition::from("/pk"),
        state: Mutex::new(seed),
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
        ("sink.max-operations-per-request", "7"),
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
                kind: OperationKind::Upsert,
                id,
                partition_key: key,
                if_match: "",
                document: b"{}",
            })
            .collect();
        sink.submit(encode_operations(&operations)).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut tokens = Vec::new();
    while tokens.len() < documents.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} outcomes",
            tokens.len(),
            documents.len()
        );
        for outcome in sink.poll(100, Duration::from_millis(50)).unwrap() {
            assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
            tokens.push(outcome.token);
        }
    }
    assert!(
        sink.poll(1, Duration::ZERO).unwrap().is_empty(),
        "more outcomes than operations"
    );
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
        let id = format!("d{d}");
        assert!(
            log.contains(&(id, token as u64)),
            "operation {token} was never carried out"
        );
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
