//! Source and sink against a local account, over HTTP.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::sink::{OperationKind, OutcomeResult, Sink};
use cosmosflink_core::source::Source;
use serde_json::json;
use support::*;

fn all_ok(outcomes: &[Outcome]) {
    for o in outcomes {
        assert_eq!(o.result, OutcomeResult::Ok, "{:?}", o.error);
    }
}

#[test]
fn what_is_written_in_bulk_is_read_once() {
    let local = Local::start(&["c:/pk:4"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 2000, 50);
    all_ok(&outcomes(&sink, 2000));
    let m = sink.metrics();
    assert_eq!(
        (
            m.point_requests.load(Relaxed),
            m.bytes_buffered.load(Relaxed),
            m.operations_waiting.load(Relaxed)
        ),
        (0, 0, 0)
    );
    assert!(m.bulk_requests.load(Relaxed) < 100 && m.request_charge_milli.load(Relaxed) > 0);

    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "100")]);
    assert_eq!(splits.len(), 4);
    let read = read(&source, 2000);
    // The emulator writes its documents anew (sorted, 1.10 as 1.1), so only values can be compared here; that the core keeps
    // bytes is shown beside the code that cuts pages.
    let (found, expected) = [read["a-7"].clone(), document("a-7", "k7", 7)]
        .map(|t| serde_json::from_str::<serde_json::Value>(&t).unwrap())
        .into();
    for field in ["id", "pk", "n", "price", "text"] {
        assert_eq!(found[field], expected[field]);
    }
}

#[test]
fn reading_goes_on_from_split_bytes_without_loss_or_repeat() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 1000, 20);
    all_ok(&outcomes(&sink, 1000));
    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "50")]);
    let mut position: BTreeMap<String, _> = splits.iter().map(|e| (e.split.id(), e.split.clone())).collect();
    let mut seen = BTreeMap::new();
    for _ in 0..7 {
        let page = take(&source, WAIT).unwrap();
        position.insert(page.split.id(), page.split);
        seen.extend(page.records);
    }
    source.close();
    assert_eq!(source.next_page(Duration::ZERO).unwrap_err().kind, Kind::Closed);
    assert!(seen.len() > 100 && seen.len() < 1000, "{}", seen.len());

    let source = local.source("c", &[]);
    source.add_splits(position.into_values().collect()).unwrap();
    for (id, document) in read(&source, 1000 - seen.len()) {
        assert!(seen.insert(id.clone(), document).is_none(), "{id} came again");
    }
}

#[test]
fn throttling_of_single_operations_and_of_requests_is_survived() {
    let local = Local::start(&["c:/pk:2"]);
    local.admin("faults", json!({"status": 429, "operations": "bulk", "perOperation": true, "share": 0.3, "count": 400, "retryAfterMillis": 5}));
    local.admin(
        "faults",
        json!({"status": 429, "operations": "bulk", "share": 0.2, "count": 10, "retryAfterMillis": 5}),
    );
    local.admin(
        "faults",
        json!({"status": 429, "operations": "feed", "share": 0.5, "count": 10, "retryAfterMillis": 5}),
    );
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 1500, 30);
    all_ok(&outcomes(&sink, 1500));
    assert!(sink.metrics().throttled.load(Relaxed) > 100);
    let (source, _) = local.source_of_all("c", &[]);
    read(&source, 1500);
}

#[test]
fn a_provisioned_budget_slows_down_and_loses_nothing() {
    let local = Local::start(&["c:/pk:1:400"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 300, 10);
    all_ok(&outcomes(&sink, 300));
    assert!(sink.metrics().throttled.load(Relaxed) > 0);
}

#[test]
fn operations_on_one_document_never_overtake_each_other() {
    let local = Local::start(&["c:/pk:2"]);
    local.admin(
        "faults",
        json!({"status": 503, "operations": "bulk", "share": 0.2, "count": 30}),
    );
    local.admin(
        "faults",
        json!({"status": 449, "operations": "bulk", "perOperation": true, "share": 0.1, "count": 60}),
    );
    local.admin(
        "faults",
        json!({"operations": "bulk", "share": 0.1, "count": 10, "dropResponse": true}),
    );
    let sink = local.sink("c", &[("retry.backoff", "5")]);
    let (documents, versions) = (40, 25);
    for version in 0..versions {
        for d in 0..documents {
            let (id, key) = (format!("d{d}"), format!("k{}", d % 5));
            submit(
                &sink,
                (version * documents + d) as u64,
                OperationKind::Upsert,
                &id,
                &format!("[\"{key}\"]"),
                &document(&id, &key, version),
            );
        }
    }
    let done = outcomes(&sink, versions * documents);
    all_ok(&done);
    // Outcomes of one document come in the order of its operations.
    let mut last = vec![None; documents];
    for o in &done {
        let (d, version) = (o.token as usize % documents, o.token as usize / documents);
        assert!(
            last[d].is_none_or(|l| l < version),
            "document {d}: {version} after {:?}",
            last[d]
        );
        last[d] = Some(version);
    }
    let (source, _) = local.source_of_all("c", &[]);
    for (id, text) in read(&source, documents) {
        let n = serde_json::from_str::<serde_json::Value>(&text).unwrap()["n"].as_u64();
        assert_eq!(n, Some(versions as u64 - 1), "{id}");
    }
}

#[test]
fn lost_answers_of_creates_and_replayed_deletes_count_as_done() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        json!({"operations": "all", "container": "c", "count": 1, "dropResponse": true, "status": null}),
    );
    local.admin(
        "faults",
        json!({"operations": "bulk", "share": 0.5, "count": 3, "dropResponse": true}),
    );
    let sink = local.sink("c", &[("retry.backoff", "5")]);
    for i in 0..20 {
        let id = format!("d{i}");
        submit(
            &sink,
            i,
            OperationKind::Create,
            &id,
            "[\"k\"]",
            &document(&id, "k", 0),
        );
    }
    all_ok(&outcomes(&sink, 20));
    for i in 0..20 {
        submit(
            &sink,
            i,
            OperationKind::Delete,
            &format!("d{}", i % 10),
            "[\"k\"]",
            "",
        );
    }
    all_ok(&outcomes(&sink, 20));
    let (source, _) = local.source_of_all("c", &[]);
    assert_eq!(read(&source, 10).len(), 10);
    assert!(take(&source, Duration::from_millis(300)).is_none_or(|p| p.records.is_empty()));
}

#[test]
fn a_partition_that_splits_in_the_middle_costs_nothing() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("retry.backoff", "5")]);
    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "100")]);
    upserts(&sink, "a", 1000, 50);
    let mut seen = BTreeMap::new();
    for _ in 0..3 {
        seen.extend(take(&source, WAIT).unwrap().records);
    }
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    upserts(&sink, "b", 1000, 50);
    let deadline = Instant::now() + WAIT;
    let mut done = Vec::new();
    while done.len() < 2000 {
        assert!(Instant::now() < deadline, "{} outcomes", done.len());
        done.extend(sink.come_back(Duration::from_millis(100)));
    }
    all_ok(&done);
    for (id, document) in read(&source, 2000 - seen.len()) {
        assert!(seen.insert(id.clone(), document).is_none(), "{id} came twice");
    }
    // Covered by the split that is there: nothing new to assign.
    assert!(local.enumerator("c", &[]).discover(&splits).unwrap().is_empty());
}

#[test]
fn an_operation_routed_by_stale_ranges_finds_its_partition() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("retry.backoff", "5")]);
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    upserts(&sink, "a", 300, 50);
    let done = outcomes(&sink, 300);
    all_ok(&done);
    assert!(sink.metrics().retries.load(Relaxed) > 0);
}

#[test]
fn a_paused_split_is_silent_and_goes_on_where_it_was() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 1000, 40);
    all_ok(&outcomes(&sink, 1000));
    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "20")]);
    let (held, free) = (splits[0].split.id(), splits[1].split.id());
    let first = take(&source, WAIT).unwrap();
    let mut seen: BTreeMap<_, _> = first.records.into_iter().collect();
    source.pause_or_resume(std::slice::from_ref(&held), &[]).unwrap();
    assert_eq!(source.metrics().splits_paused.load(Relaxed), 1);
    // The page that was announced before may still come; after it only the other split speaks.
    while let Some(page) = take(&source, Duration::from_millis(300)) {
        assert_eq!(page.split.id(), free);
        seen.extend(page.records);
    }
    assert!(seen.len() < 1000);
    source.pause_or_resume(&[], &[held]).unwrap();
    for (id, document) in read(&source, 1000 - seen.len()) {
        assert!(seen.insert(id.clone(), document).is_none(), "{id} came twice");
    }
    assert_eq!(
        source.pause_or_resume(&["x-y".into()], &[]).unwrap_err().kind,
        Kind::State
    );
}

#[test]
fn prefetch_is_bounded_in_bytes() {
    let local = Local::start(&["c:/pk:4"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 8000, 80);
    all_ok(&outcomes(&sink, 8000));
    let budget = 1024 * 1024;
    let (source, _) = local.source_of_all(
        "c",
        &[("scan.page-size", "200"), ("scan.prefetch-size", "1048576")],
    );
    let deadline = Instant::now() + WAIT;
    while source.metrics().bytes_buffered.load(Relaxed) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..30 {
        assert!(source.metrics().bytes_buffered.load(Relaxed) <= budget);
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut total = 0;
    while total < 8000 {
        total += take(&source, WAIT).unwrap().records.len();
        assert!(source.metrics().bytes_buffered.load(Relaxed) <= budget);
    }
    assert_eq!(total, 8000);
}

#[test]
fn now_is_fixed_at_discovery() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "before", 100, 10);
    all_ok(&outcomes(&sink, 100));
    let splits = local
        .enumerator("c", &[("scan.startup.mode", "latest")])
        .discover(&[])
        .unwrap();
    // What comes between discovery and the first read is not lost.
    upserts(&sink, "after", 100, 10);
    all_ok(&outcomes(&sink, 100));
    let source = local.source("c", &[]);
    source
        .add_splits(splits.into_iter().map(|e| e.split).collect())
        .unwrap();
    assert!(read(&source, 100).keys().all(|id| id.starts_with("after")));
}

#[test]
fn refused_operations_fail_are_skipped_or_become_letters() {
    let local = Local::start(&["c:/pk:2", "dead:/container:1"]);
    // The first document is another one each time: its own would be no conflict.
    let write = |sink: &Writer, n: usize| {
        submit(
            sink,
            1,
            OperationKind::Create,
            "a",
            "[\"k\"]",
            &document("a", "k", n),
        );
        submit(
            sink,
            2,
            OperationKind::Create,
            "a",
            "[\"k\"]",
            &document("a", "k", 2),
        );
        submit(sink, 3, OperationKind::Upsert, "b", "[\"k\"]", "{not json");
        submit(
            sink,
            4,
            OperationKind::Upsert,
            "c",
            "[\"k\",1]",
            &document("c", "k", 4),
        );
        let mut all = outcomes(sink, 4);
        all.sort_by_key(|o| o.token);
        all
    };
    let done = write(&local.sink("c", &[]), 1);
    assert_eq!(done[0].result, OutcomeResult::Ok);
    let conflict = done[1].error.as_ref().unwrap();
    assert_eq!(
        (done[1].result, conflict.kind, conflict.status),
        (OutcomeResult::Failed, Kind::Conflict, 409)
    );
    assert!(conflict.message.contains("'a'"), "{conflict}");
    assert_eq!(done[2].error.as_ref().unwrap().kind, Kind::BadRequest);

    let done = write(&local.sink("c", &[("sink.failure-mode", "skip")]), 10);
    assert!(
        done.iter().all(|o| o.result == OutcomeResult::Skipped),
        "{done:?}"
    );

    let letters = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "dead"),
    ];
    let sink = local.sink("c", &letters);
    let done = write(&sink, 20);
    assert!(
        done.iter().all(|o| o.result == OutcomeResult::DeadLettered),
        "{done:?}"
    );
    assert_eq!(sink.metrics().dead_lettered.load(Relaxed), 4);
    let (source, _) = local.source_of_all("dead", &[]);
    let stored = read(&source, 4);
    assert!(
        stored.values().any(|l| l.contains("{not json"))
            && stored.values().any(|l| l.contains("\"status\":409"))
    );

    let bad = Config::parse(
        Role::Sink,
        &local.options(
            "dead",
            &[
                ("sink.failure-mode", "dead-letter"),
                ("sink.dead-letter-container", "c"),
            ],
        ),
    );
    let error = Sink::open(bad.unwrap()).err().unwrap();
    assert!(
        error.kind == Kind::Config && error.message.contains("/pk"),
        "{error}"
    );
}

#[test]
fn a_service_without_the_bulk_form_gets_single_operations() {
    let local = Local::start(&["c:/pk:2"]);
    local.admin("faults", json!({"status": 400, "operations": "bulk"}));
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 400, 20);
    all_ok(&outcomes(&sink, 400));
    let bulk = sink.metrics().bulk_requests.load(Relaxed);
    upserts(&sink, "b", 100, 20);
    all_ok(&outcomes(&sink, 100));
    assert_eq!(
        sink.metrics().bulk_requests.load(Relaxed),
        bulk,
        "the form was tried again"
    );
    assert!(sink.metrics().point_requests.load(Relaxed) >= 500);
}

#[test]
fn what_does_not_fit_into_a_bulk_request_goes_alone() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    for i in 0..6u64 {
        let id = format!("d{i}");
        let padding = "y".repeat(if i % 2 == 0 { 400_000 } else { 10 });
        submit(
            &sink,
            i,
            OperationKind::Upsert,
            &id,
            "[\"k\"]",
            &format!(r#"{{"id":"{id}","pk":"k","p":"{padding}"}}"#),
        );
    }
    all_ok(&outcomes(&sink, 6));
    assert!(sink.metrics().point_requests.load(Relaxed) >= 3);
}

#[test]
fn hierarchical_keys_are_written_and_read_back() {
    let local = Local::start(&["c:/tenant,/user/id:3"]);
    let sink = local.sink("c", &[]);
    for i in 0..60u64 {
        let (id, tenant) = (format!("d{i}"), format!("t{}", i % 3));
        submit(
            &sink,
            i,
            OperationKind::Upsert,
            &id,
            &format!("[\"{tenant}\",{i}]"),
            &format!(r#"{{"id":"{id}","tenant":"{tenant}","user":{{"id":{i}}}}}"#),
        );
    }
    all_ok(&outcomes(&sink, 60));
    let (source, _) = local.source_of_all("c", &[]);
    assert_eq!(read(&source, 60).len(), 60);
}

#[test]
fn mistakes_of_the_connection_are_told_apart_soon() {
    let local = Local::start(&["c:/pk:1"]);
    let open = |container: &str, extra: &[(&str, &str)]| {
        let config = Config::parse(Role::Source, &local.options(container, extra)).unwrap();
        Source::open(config).err().unwrap()
    };
    let error = open("c", &[("auth.secret-key", "d3Jvbmcga2V5")]);
    assert_eq!((error.kind, error.status), (Kind::Auth, 401), "{error}");
    assert!(!error.message.contains("d3Jvbmcga2V5"));
    let error = open("gone", &[]);
    assert!(
        error.kind == Kind::NotFound && error.message.contains("'gone'"),
        "{error}"
    );
    let started = Instant::now();
    let error = open(
        "c",
        &[("endpoint", "http://127.0.0.1:9/"), ("request-timeout", "3000")],
    );
    assert!(
        error.kind == Kind::Transient && error.message.contains("127.0.0.1:9"),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn state_of_another_container_is_refused() {
    let local = Local::start(&["c:/pk:1", "d:/pk:1"]);
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    let error = local.enumerator("d", &[]).discover(&splits).unwrap_err();
    assert!(
        error.kind == Kind::State && error.message.contains("recreated"),
        "{error}"
    );
    let error = local
        .source("d", &[])
        .add_splits(vec![splits[0].split.clone()])
        .unwrap_err();
    assert_eq!(error.kind, Kind::State);
}

#[test]
fn wake_up_and_close_end_a_wait() {
    let local = Local::start(&["c:/pk:1"]);
    let source = local.source("c", &[]);
    let sink = local.sink("c", &[]);
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            source.wake_up();
            sink.wake_up();
        });
        let started = Instant::now();
        assert_eq!(source.next_page(WAIT).unwrap(), 0);
        assert!(sink.poll(WAIT).unwrap().is_empty());
        assert!(started.elapsed() < Duration::from_secs(10));
    });
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            source.close();
            sink.close();
        });
        assert_eq!(source.next_page(WAIT).unwrap_err().kind, Kind::Closed);
        assert_eq!(sink.poll(WAIT).unwrap_err().kind, Kind::Closed);
    });
    assert_eq!(source.add_splits(Vec::new()).unwrap_err().kind, Kind::Closed);
}
