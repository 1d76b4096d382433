//! What the service's answers lead to, over HTTP: which failures are waited out, which are final, and which belong to one record.

mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::error::Kind;
use cosmosflink_core::sink::{NewOperation, OperationKind, OutcomeResult};
use serde_json::{json, Value};
use support::*;

const KEY: &str = "[\"k\"]";

fn one(sink: &Writer, kind: OperationKind, id: &str) -> Outcome {
    with_etag(sink, kind, id, "")
}

fn with_etag(sink: &Writer, kind: OperationKind, id: &str, if_match: &str) -> Outcome {
    // Another one for each kind: that a create finds its own is no conflict.
    let document = document(id, "k", usize::from(kind.number()));
    let op = NewOperation {
        kind,
        id,
        partition_key: KEY,
        if_match,
        document: if kind == OperationKind::Delete {
            b""
        } else {
            document.as_bytes()
        },
    };
    sink.write([1], &[op]);
    outcomes(sink, 1).remove(0)
}

fn assert_ok(outcome: &Outcome) {
    assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
}

/// The ETag of a stored document, as the feed shows it.
fn etag(local: &Local, id: &str) -> String {
    let (source, _) = local.source_of_all("c", &[]);
    let text = read(&source, 1)[id].clone();
    let document: Value = serde_json::from_str(&text).unwrap();
    document["_etag"].as_str().unwrap().to_owned()
}

#[test]
fn a_container_that_was_deleted_costs_no_record_in_any_mode() {
    for mode in ["fail", "skip", "dead-letter"] {
        for bulk in ["true", "false"] {
            let local = Local::start(&["c:/pk:2", "dead:/container:1"]);
            let sink = local.sink(
                "c",
                &[
                    ("sink.failure-mode", mode),
                    ("sink.dead-letter-container", "dead"),
                    ("sink.bulk", bulk),
                ],
            );
            local.admin(
                "faults",
                json!({"status": 404, "subStatus": 1003, "container": "c"}),
            );
            for kind in [
                OperationKind::Upsert,
                OperationKind::Create,
                OperationKind::Replace,
                OperationKind::Delete,
            ] {
                let outcome = one(&sink, kind, "a");
                let error = outcome.error.unwrap();
                assert_eq!(
                    (outcome.result, error.kind),
                    (OutcomeResult::Failed, Kind::NotFound),
                    "{mode}, {kind:?}: {error}"
                );
                assert!(error.message.contains("does not exist"), "{error}");
            }
            let m = sink.metrics();
            assert_eq!((m.skipped.load(Relaxed), m.dead_lettered.load(Relaxed)), (0, 0));
        }
    }
}

#[test]
fn an_operation_on_a_missing_document_is_the_records_own_failure() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    let outcome = one(&sink, OperationKind::Replace, "a");
    assert_eq!(outcome.result, OutcomeResult::Skipped, "{:?}", outcome.error);
    assert_eq!(outcome.error.unwrap().kind, Kind::NotFound);
    assert_ok(&one(&sink, OperationKind::Delete, "a"));
}

#[test]
fn what_passes_by_itself_is_tried_again() {
    let cases = [
        // An upsert that meets a document which expires at that moment.
        (404, 0),
        (404, 1002),
        (404, 1013),
        (403, 3),
        (403, 1008),
        (408, 0),
        (410, 1008),
        (413, 3402),
        (449, 0),
        (500, 0),
        (503, 0),
    ];
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("retry.backoff", "5"), ("sink.bulk", bulk)]);
        for (status, sub) in cases {
            let fault = json!({"status": status, "subStatus": sub, "container": "c", "count": 2,
                "operations": if bulk == "true" { "bulk" } else { "write" }, "perOperation": bulk == "true"});
            local.admin("faults", fault);
            let outcome = one(&sink, OperationKind::Upsert, "a");
            assert_eq!(
                outcome.result,
                OutcomeResult::Ok,
                "{status}/{sub}, bulk {bulk}: {:?}",
                outcome.error
            );
            assert_eq!(local.faults(), 0, "{status}/{sub}: the fault did not strike");
        }
    }
}

#[test]
fn a_full_partition_key_is_not_called_a_wrong_credential() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        json!({"status": 403, "subStatus": 1014, "operations": "bulk", "perOperation": true}),
    );
    let outcome = one(
        &local.sink("c", &[("sink.failure-mode", "skip")]),
        OperationKind::Upsert,
        "a",
    );
    let error = outcome.error.unwrap();
    assert_eq!(
        (outcome.result, error.kind),
        (OutcomeResult::Skipped, Kind::BadRequest)
    );
    assert!(error.message.contains("20 GB"), "{error}");
}

#[test]
fn a_conflict_after_a_refused_attempt_is_real() {
    let refusals = [
        json!({"status": 449, "perOperation": true, "operations": "bulk", "count": 1}),
        json!({"status": 429, "perOperation": true, "operations": "bulk", "count": 1, "retryAfterMillis": 1}),
        json!({"status": 429, "operations": "bulk", "count": 1, "retryAfterMillis": 1}),
        json!({"status": 410, "subStatus": 1007, "operations": "bulk", "count": 1}),
        json!({"status": 403, "subStatus": 3, "operations": "bulk", "count": 1}),
    ];
    for refusal in refusals {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("retry.backoff", "5")]);
        // Somebody else's document.
        assert_ok(&one(&sink, OperationKind::Upsert, "a"));
        local.admin("faults", refusal.clone());
        let outcome = one(&sink, OperationKind::Create, "a");
        assert_eq!(outcome.result, OutcomeResult::Failed, "create after {refusal}");
        assert_eq!(outcome.error.unwrap().kind, Kind::Conflict);
        assert_eq!(local.faults(), 0, "{refusal} did not strike");
        local.admin("faults", refusal.clone());
        let outcome = with_etag(&sink, OperationKind::Replace, "a", "\"not-this-one\"");
        assert_eq!(outcome.result, OutcomeResult::Failed, "replace after {refusal}");
        assert_eq!(outcome.error.unwrap().kind, Kind::Precondition);
    }
}

#[test]
fn a_conflict_after_a_lost_answer_is_success() {
    let losses = [
        json!({"operations": "bulk", "count": 1, "dropResponse": true}),
        json!({"operations": "bulk", "count": 1, "status": 503, "after": true}),
        json!({"operations": "bulk", "count": 1, "status": 408, "after": true}),
    ];
    for loss in losses {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("retry.backoff", "5")]);
        local.admin("faults", loss.clone());
        assert_ok(&one(&sink, OperationKind::Create, "a"));
        let etag = etag(&local, "a");
        local.admin("faults", loss.clone());
        let outcome = with_etag(&sink, OperationKind::Replace, "a", &etag);
        assert_eq!(
            outcome.result,
            OutcomeResult::Ok,
            "replace after {loss}: {:?}",
            outcome.error
        );
        local.admin("faults", loss);
        assert_ok(&one(&sink, OperationKind::Delete, "a"));
        assert_eq!(local.faults(), 0, "a fault did not strike");
    }
}

#[test]
fn throttling_outlasts_every_deadline() {
    let short = [("retry.deadline", "300"), ("retry.max-attempts", "3")];
    for operations in ["bulk", "write"] {
        let local = Local::start(&["c:/pk:1"]);
        let bulk = if operations == "bulk" { "true" } else { "false" };
        let sink = local.sink("c", &[&short[..], &[("sink.bulk", bulk)]].concat());
        local.admin(
            "faults",
            json!({"status": 429, "subStatus": 3200, "operations": operations, "count": 20, "retryAfterMillis": 50}),
        );
        let started = Instant::now();
        assert_ok(&one(&sink, OperationKind::Upsert, "a"));
        assert!(started.elapsed() > Duration::from_millis(900));
        assert!(sink.metrics().throttled.load(Relaxed) >= 20);
        local.admin(
            "faults",
            json!({"status": 429, "operations": "feed", "count": 20, "retryAfterMillis": 50}),
        );
        let (source, _) = local.source_of_all("c", &short);
        assert_eq!(read(&source, 1).len(), 1);
        assert!(source.metrics().throttled.load(Relaxed) >= 20);
    }
}

#[test]
fn a_limit_of_throttling_is_an_option() {
    let local = Local::start(&["c:/pk:1"]);
    let limit = [("retry.throttled-deadline", "200")];
    let sink = local.sink("c", &limit);
    local.admin(
        "faults",
        json!({"status": 429, "retryAfterMillis": 20, "container": "c", "operations": ["bulk", "feed"]}),
    );
    let outcome = one(&sink, OperationKind::Upsert, "a");
    assert_eq!(outcome.error.unwrap().kind, Kind::Throttled);
    let (source, _) = local.source_of_all("c", &limit);
    let error = loop {
        match source.next_page(WAIT) {
            Ok(0) => continue,
            Ok(_) => drop(source.take_page().unwrap()),
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind, Kind::Throttled);
    assert!(error.message.contains("throughput"), "{error}");
}

#[test]
fn the_deadline_starts_at_the_first_failure() {
    let local = Local::start(&["c:/pk:1"]);
    let options = [
        ("retry.deadline", "1000"),
        ("retry.backoff", "5"),
        ("scan.poll-interval", "50"),
    ];
    let (source, _) = local.source_of_all("c", &options);
    let sink = local.sink("c", &options);
    // Idle for longer than the deadline: seen by the requests that were made meanwhile.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1300) {
        source.next_page(Duration::from_millis(50)).unwrap();
        source.take_page().ok();
    }
    let before = source.metrics().requests.load(Relaxed);
    local.admin(
        "faults",
        json!({"status": 503, "container": "c", "operations": "feed", "count": 12}),
    );
    local.admin(
        "faults",
        json!({"status": 503, "container": "c", "operations": "bulk", "count": 12}),
    );
    assert_ok(&one(&sink, OperationKind::Upsert, "a"));
    assert_eq!(read(&source, 1).len(), 1);
    assert!(source.metrics().requests.load(Relaxed) > before);
    assert!(source.metrics().retries.load(Relaxed) > 0 && sink.metrics().retries.load(Relaxed) > 0);
}

#[test]
fn failed_requests_cost_request_units_too() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("retry.backoff", "5")]);
    local.admin(
        "faults",
        json!({"status": 429, "container": "c", "operations": "bulk", "count": 2, "requestCharge": 100.0, "retryAfterMillis": 1}),
    );
    assert_ok(&one(&sink, OperationKind::Upsert, "a"));
    assert!(sink.metrics().request_charge_milli.load(Relaxed) >= 200_000);
    local.admin(
        "faults",
        json!({"status": 503, "container": "c", "operations": "feed", "count": 1, "requestCharge": 50.0}),
    );
    let (source, _) = local.source_of_all("c", &[("retry.backoff", "5")]);
    read(&source, 1);
    assert!(source.metrics().request_charge_milli.load(Relaxed) >= 50_000);
}

#[test]
fn a_refusal_that_the_driver_gives_up_on_is_a_refusal_still() {
    // What the driver makes of it when it has tried for long enough: 503/20311, and 408/20008 by the operation's own time-out.
    let refusals = [
        json!({"status": 403, "subStatus": 3, "operations": ["bulk", "write"]}),
        json!({"status": 449, "operations": ["bulk", "write"]}),
    ];
    for (refusal, bulk) in refusals.iter().flat_map(|r| [(r, "true"), (r, "false")]) {
        let local = Local::start(&["c:/pk:1"]);
        let options = [
            ("retry.backoff", "5"),
            ("request-timeout", "1000"),
            ("sink.bulk", bulk),
        ];
        let sink = local.sink("c", &options);
        assert_ok(&one(&sink, OperationKind::Upsert, "a"));
        local.admin("faults", refusal.clone());
        submit(&sink, 7, OperationKind::Create, "a", KEY, &document("a", "k", 2));
        let deadline = Instant::now() + WAIT;
        while sink.metrics().retries.load(Relaxed) == 0 {
            assert!(Instant::now() < deadline, "the driver never gave up on {refusal}");
            assert!(sink.poll(Duration::from_millis(20)).unwrap().is_empty());
        }
        local.clear_faults();
        let outcome = outcomes(&sink, 1).remove(0);
        assert_eq!(
            outcome.result,
            OutcomeResult::Failed,
            "a create after {refusal} succeeded on somebody else's document, bulk {bulk}"
        );
        assert_eq!(outcome.error.unwrap().kind, Kind::Conflict);
    }
}

#[test]
fn a_container_that_was_created_anew_takes_no_writes() {
    for (mode, bulk) in [("fail", "true"), ("skip", "true"), ("skip", "false")] {
        let local = Local::start(&["c:/pk:2"]);
        let sink = local.sink("c", &[("sink.failure-mode", mode), ("sink.bulk", bulk)]);
        assert_ok(&one(&sink, OperationKind::Upsert, "a"));
        local.admin("recreate", json!({"database": "orders", "container": "c"}));
        let deadline = Instant::now() + WAIT;
        let error = loop {
            assert!(Instant::now() < deadline, "{mode}, bulk {bulk}: nobody noticed");
            let outcome = one(&sink, OperationKind::Upsert, "b");
            if outcome.result == OutcomeResult::Failed {
                break outcome.error.unwrap();
            }
            assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
        };
        assert!(error.message.contains("anew"), "{mode}, bulk {bulk}: {error}");
    }
}
