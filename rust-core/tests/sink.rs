//! The sink against a local account, over HTTP: refused bulk requests, partitions that stand still, keys and ids, dead letters.

mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::sink::{NewOperation, OperationKind, OutcomeResult, Sink};
use serde_json::{json, Value};
use support::*;

fn assert_all_ok(outcomes: &[Outcome]) {
    for o in outcomes {
        assert_eq!(o.result, OutcomeResult::Ok, "{:?}", o.error);
    }
}

/// Outcomes until `enough` says so; fails after [`WAIT`].
fn until(sink: &Writer, mut enough: impl FnMut(&[Outcome]) -> bool) -> Vec<Outcome> {
    let deadline = Instant::now() + WAIT;
    let mut all = Vec::new();
    while !enough(&all) {
        assert!(
            Instant::now() < deadline,
            "{} outcomes; {:?}",
            all.len(),
            sink.metrics()
        );
        all.extend(sink.come_back(Duration::from_millis(10)));
    }
    all
}

/// Requests of a kind that the server answered since it started.
fn requests(local: &Local, kind: &str) -> Vec<Value> {
    let answer = ureq::get(format!("{}_local/requests?kind={kind}", local.endpoint))
        .call()
        .unwrap();
    let listed: Value = answer.into_body().read_json().unwrap();
    listed["requests"].as_array().unwrap().clone()
}

fn bulk_refused(sink: &Sink) -> u64 {
    sink.metrics().bulk_refused.load(Relaxed)
}

fn points(sink: &Sink) -> u64 {
    sink.metrics().point_requests.load(Relaxed)
}

/// Upserts of `count` documents in one submission; key and id follow from `name`.
fn upsert_all(sink: &Writer, rows: &[(String, String)]) {
    let documents: Vec<_> = rows.iter().map(|(id, key)| document(id, key, 1)).collect();
    let keys: Vec<_> = rows.iter().map(|(_, key)| json!([key]).to_string()).collect();
    let operations: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(i, (id, _))| NewOperation {
            kind: OperationKind::Upsert,
            id,
            partition_key: &keys[i],
            if_match: "",
            document: documents[i].as_bytes(),
        })
        .collect();
    sink.write(0.., &operations);
}

fn rows(prefix: &str, count: usize, keys: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|i| (format!("{prefix}-{i}"), format!("k{}", i % keys)))
        .collect()
}

#[test]
fn a_sink_whose_deletions_lack_a_part_of_the_key_does_not_open() {
    let local = Local::start(&["c:/tenant,/user:1"]);
    let open = |fields: &str| {
        let options = local.options("c", &[("sink.key-fields", fields)]);
        Sink::open(Config::parse(Role::Sink, &options).unwrap())
    };
    let error = open(r#"["/id","/tenant"]"#).err().expect("it opened");
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("lacks '/user'"), "{error}");
    assert!(open(r#"["/tenant","/id","/user"]"#).is_ok());
}

#[test]
fn a_document_that_spoils_its_bulk_request_is_found_and_the_others_stay_in_bulk() {
    let local = Local::start(&["c:/pk:1"]);
    // Taken alone, refused in company.
    local.admin(
        "faults",
        json!({"status": 400, "operations": "bulk", "documentId": "a-37"}),
    );
    let sink = local.sink("c", &[]);
    upsert_all(&sink, &rows("a", 300, 10));
    assert_all_ok(&outcomes(&sink, 300));
    assert_eq!(points(&sink), 1, "only the culprit goes alone");
    // 100, 50, 25, 13, 7, 4, 2.
    assert!((1..=8).contains(&bulk_refused(&sink)), "{}", bulk_refused(&sink));
    assert_eq!(sink.metrics().bulk_off.load(Relaxed), 0);
    upsert_all(&sink, &rows("b", 300, 10));
    assert_all_ok(&outcomes(&sink, 300));
    assert_eq!(points(&sink), 1, "bulk went off");
    let (source, _) = local.source_of_all("c", &[]);
    assert_eq!(read(&source, 600).len(), 600);
}

#[test]
fn culprits_get_their_own_verdict_and_nobody_else_a_failure() {
    let local = Local::start(&["c:/pk:1"]);
    for id in ["a-3", "a-64", "a-65"] {
        local.admin(
            "faults",
            json!({"status": 400, "operations": ["bulk", "upsert"], "documentId": id, "message": "spoilt"}),
        );
    }
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    upsert_all(&sink, &rows("a", 100, 10));
    let mut done = outcomes(&sink, 100);
    done.sort_by_key(|o| o.token);
    for o in &done {
        if [3, 64, 65].contains(&o.token) {
            let error = o.error.as_ref().unwrap();
            assert_eq!(
                (o.result, error.kind, error.status),
                (OutcomeResult::Skipped, Kind::BadRequest, 400)
            );
        } else {
            assert_eq!(o.result, OutcomeResult::Ok, "{:?}", o.error);
        }
    }
    assert_eq!(points(&sink), 3);
    assert_eq!(sink.metrics().bulk_off.load(Relaxed), 0);
}

#[test]
fn a_request_that_is_too_large_is_halved_and_stays_in_bulk() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        json!({"status": 413, "operations": "bulk", "minBytes": 10_000}),
    );
    let sink = local.sink("c", &[]);
    upsert_all(&sink, &rows("a", 200, 10));
    assert_all_ok(&outcomes(&sink, 200));
    assert_eq!((points(&sink), sink.metrics().bulk_off.load(Relaxed)), (0, 0));
}

#[test]
fn a_form_that_is_not_taken_goes_off_and_comes_back_by_itself() {
    for status in [400, 404, 405, 501] {
        let local = Local::start(&["c:/pk:2"]);
        local.admin("faults", json!({"status": status, "operations": "bulk"}));
        let sink = local.sink("c", &[("sink.bulk-probe-interval", "300")]);
        upsert_all(&sink, &rows("a", 400, 20));
        assert_all_ok(&outcomes(&sink, 400));
        assert_eq!(sink.metrics().bulk_off.load(Relaxed), 2, "{status}");
        assert!(points(&sink) >= 400);
        // Each of the two requests of each partition finds out with some 15, and tries of the form may come between.
        assert!(
            bulk_refused(&sink) <= 2 * 2 * 25,
            "{status}: {}",
            bulk_refused(&sink)
        );
        local.clear_faults();
        let deadline = Instant::now() + WAIT;
        let mut n = 0;
        while sink.metrics().bulk_off.load(Relaxed) > 0 {
            assert!(Instant::now() < deadline, "{status}: bulk stays off");
            n += 1;
            upsert_all(&sink, &rows(&format!("b{n}"), 20, 20));
            assert_all_ok(&outcomes(&sink, 20));
        }
        let alone = points(&sink);
        upsert_all(&sink, &rows("c", 400, 20));
        assert_all_ok(&outcomes(&sink, 400));
        assert_eq!(points(&sink), alone, "{status}: back in bulk");
    }
}

#[test]
fn a_form_that_stays_refused_is_asked_for_seldom() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin("faults", json!({"status": 405, "operations": "bulk"}));
    let sink = local.sink("c", &[("sink.bulk-probe-interval", "600000")]);
    upsert_all(&sink, &rows("a", 300, 20));
    assert_all_ok(&outcomes(&sink, 300));
    let before = requests(&local, "bulk").len();
    upsert_all(&sink, &rows("b", 300, 20));
    assert_all_ok(&outcomes(&sink, 300));
    assert_eq!(requests(&local, "bulk").len(), before);
}

/// The next submission fails, since the container is another one.
fn assert_created_anew(sink: &Writer) {
    for o in outcomes(sink, 1) {
        let error = o.error.expect("written to the new container");
        assert_eq!(o.result, OutcomeResult::Failed, "{error}");
        assert!(error.message.contains("created anew"), "{error}");
    }
}

#[test]
fn a_recreated_container_ends_the_job_with_the_reason() {
    for (status, sub) in [(400, 1024), (410, 1000)] {
        let local = Local::start(&["c:/pk:1"]);
        local.admin(
            "faults",
            json!({"status": status, "subStatus": sub, "operations": ["bulk", "write"]}),
        );
        let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
        upsert_all(&sink, &rows("a", 50, 5));
        assert_created_anew(&sink);
        assert_eq!(sink.metrics().failed.load(Relaxed), 50, "all of them");
        assert_eq!(points(&sink), 0, "{status}/{sub}");
        // The driver looks for itself whether it knows an old container, but nobody halves.
        let sent = requests(&local, "bulk");
        assert!(
            sent.len() <= 5 && sent.iter().all(|r| r["operations"] == 50),
            "{sent:?}"
        );
    }
}

#[test]
fn a_container_that_another_handle_found_recreated_is_not_written_to() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk)]);
        upsert_all(&sink, &rows("a", 10, 5));
        assert_all_ok(&outcomes(&sink, 10));
        local.admin("recreate", json!({"database": "orders", "container": "c"}));
        // It makes the driver of the account know the new one.
        let other = local.sink("c", &[]);
        upsert_all(&sink, &rows("b", 10, 5));
        assert_created_anew(&sink);
        upsert_all(&other, &rows("c", 1, 1));
        assert_all_ok(&outcomes(&other, 1));
        let (source, _) = local.source_of_all("c", &[]);
        assert!(read(&source, 1).contains_key("c-0"), "bulk {bulk}");
    }
}

#[test]
fn a_missing_container_is_no_missing_document() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.failure-mode", "skip"), ("sink.bulk", bulk)]);
        // Some servers say so of a container too.
        local.admin(
            "faults",
            json!({"status": 404, "operations": ["bulk", "upsert", "replace", "delete", "write"]}),
        );
        local.admin("drop", json!({"database": "orders", "container": "c"}));
        for (n, kind) in [OperationKind::Delete, OperationKind::Replace]
            .into_iter()
            .enumerate()
        {
            let document = match kind {
                OperationKind::Delete => String::new(),
                _ => document("a", "k", 1),
            };
            submit(
                &sink,
                n as u64,
                kind,
                &format!("a{n}"),
                "[\"k\"]",
                &document.replace("\"a\"", &format!("\"a{n}\"")),
            );
        }
        for o in outcomes(&sink, 2) {
            assert_eq!(o.result, OutcomeResult::Failed, "bulk {bulk}: {:?}", o.error);
            assert_eq!(o.error.unwrap().kind, Kind::NotFound);
        }
    }
}

/// Whether a document can be replaced. A delete says nothing of that: of a document that is not there it is done too.
fn is_there(sink: &Writer, id: &str, key: &str, fields: &str) -> bool {
    let document = format!("{{\"id\":{}{fields}}}", json!(id));
    submit(sink, 0, OperationKind::Replace, id, key, &document);
    match &outcomes(sink, 1)[0].error {
        None => true,
        Some(e) => {
            assert_eq!(e.kind, Kind::NotFound, "{e}");
            false
        }
    }
}

#[test]
fn what_only_a_bulk_request_can_carry_waits_for_the_form() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink(
        "c",
        &[
            ("sink.failure-mode", "skip"),
            ("sink.bulk-probe-interval", "200"),
            ("retry.backoff", "10"),
        ],
    );
    let id = "a\tb";
    submit(
        &sink,
        0,
        OperationKind::Create,
        id,
        "[\"k\"]",
        &json!({"id": id, "pk": "k"}).to_string(),
    );
    assert_all_ok(&outcomes(&sink, 1));
    local.admin("faults", json!({"status": 405, "operations": "bulk"}));
    upsert_all(&sink, &rows("a", 40, 4));
    assert_all_ok(&outcomes(&sink, 40));
    assert_eq!(sink.metrics().bulk_off.load(Relaxed), 1);
    submit(&sink, 0, OperationKind::Delete, id, "[\"k\"]", "");
    // The others go on meanwhile.
    upsert_all(&sink, &rows("b", 40, 4));
    assert_all_ok(&outcomes(&sink, 40));
    local.clear_faults();
    assert_all_ok(&outcomes(&sink, 1));
    assert!(!is_there(&sink, id, "[\"k\"]", ",\"pk\":\"k\""));
}

#[test]
fn a_403_for_the_bulk_form_says_what_to_try() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin("faults", json!({"status": 403, "operations": "bulk"}));
    let sink = local.sink("c", &[]);
    upsert_all(&sink, &rows("a", 3, 1));
    for o in outcomes(&sink, 1) {
        let error = o.error.unwrap();
        assert_eq!(error.kind, Kind::Auth);
        assert!(error.message.contains("sink.bulk"), "{error}");
    }
}

#[test]
fn keys_in_different_spelling_are_one_document() {
    let local = Local::start(&["c:/pk:1"]);
    for (spellings, in_document) in [
        (&["[1]", "[1.0]", "[1e0]", "[ 10e-1 ]"][..], "1"),
        (
            &["[9007199254740993]", "[9007199254740992]", "[9007199254740992.0]"],
            "9007199254740992",
        ),
        (&["[-0]", "[0]", "[-0.0]", "[0e5]"], "0"),
        (
            &["[\"\\u00e9\\/\"]", "[\"é/\"]", "[\"\\u00E9\\u002f\"]"],
            "\"é/\"",
        ),
        (&["[1e300]", "[10e299]"], "1e300"),
        (
            &["[0.1]", "[1e-1]", "[0.1000000000000000055511151231257827]"],
            "0.1",
        ),
    ] {
        for bulk in ["true", "false"] {
            let sink = local.sink(
                "c",
                &[("sink.max-operations-per-request", "1"), ("sink.bulk", bulk)],
            );
            let id = format!("d{bulk}");
            // The first is slow: what overtakes it is carried out before.
            local.admin(
                "faults",
                json!({"operations": ["bulk", "upsert"], "delayMillis": 300, "count": 1}),
            );
            let last = spellings.len() * 2 - 1;
            for (n, key) in spellings.iter().chain(spellings).enumerate() {
                let document = format!(r#"{{"id":"{id}","pk":{in_document},"n":{n}}}"#);
                submit(&sink, n as u64, OperationKind::Upsert, &id, key, &document);
            }
            let done = outcomes(&sink, last + 1);
            assert_all_ok(&done);
            let order: Vec<_> = done.iter().map(|o| o.token as usize).collect();
            assert!(
                order.iter().copied().eq(0..=last),
                "{spellings:?} in bulk {bulk}: {order:?}"
            );
            // One document, which is there once.
            let fields = format!(",\"pk\":{in_document}");
            assert!(is_there(&sink, &id, spellings[1], &fields), "{}", spellings[1]);
            submit(&sink, 0, OperationKind::Delete, &id, spellings[1], "");
            assert_all_ok(&outcomes(&sink, 1));
            assert!(!is_there(&sink, &id, spellings[0], &fields), "{}", spellings[0]);
        }
    }
}

#[test]
fn null_and_undefined_are_different_keys() {
    let local = Local::start(&["c:/pk:2"]);
    for bulk in ["true", "false"] {
        let sink = local.sink("c", &[("sink.bulk", bulk)]);
        for (n, (key, part)) in [("[null]", r#","pk":null"#), ("[{}]", "")]
            .into_iter()
            .enumerate()
        {
            let document = format!(r#"{{"id":"d{bulk}"{part},"n":{n}}}"#);
            submit(
                &sink,
                n as u64,
                OperationKind::Create,
                &format!("d{bulk}"),
                key,
                &document,
            );
        }
        assert_all_ok(&outcomes(&sink, 2));
        submit(
            &sink,
            0,
            OperationKind::Delete,
            &format!("d{bulk}"),
            "[ { } ]",
            "",
        );
        assert_all_ok(&outcomes(&sink, 1));
        submit(
            &sink,
            0,
            OperationKind::Replace,
            &format!("d{bulk}"),
            "[null]",
            &format!(r#"{{"id":"d{bulk}","pk":null}}"#),
        );
        assert_all_ok(&outcomes(&sink, 1));
    }
}

#[test]
fn a_container_from_the_time_before_keys_takes_documents_without_one() {
    let local = Local::start(&["c:/_partitionKey:1"]);
    for bulk in ["true", "false"] {
        let sink = local.sink("c", &[("sink.bulk", bulk)]);
        let body = json!({"id": "d", "pk": 1}).to_string();
        for (kind, key) in [
            (OperationKind::Create, "[]"),
            (OperationKind::Replace, "[ ]"),
            (OperationKind::Delete, "[{}]"),
        ] {
            let body = if kind == OperationKind::Delete { "" } else { &body };
            submit(&sink, 0, kind, "d", key, body);
            assert_all_ok(&outcomes(&sink, 1));
        }
        assert!(!is_there(&sink, "d", "[]", ",\"pk\":1"));
    }
}

#[test]
fn point_writes_use_the_whole_concurrency() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin("faults", json!({"operations": "write", "delayMillis": 20}));
    let sink = local.sink("c", &[("sink.bulk", "false")]);
    let started = Instant::now();
    upsert_all(&sink, &rows("a", 320, 320));
    assert_all_ok(&outcomes(&sink, 320));
    // 20 rounds of 16 requests of 20 ms, with much room for a busy machine; two at a time take 3.2 s.
    assert!(
        started.elapsed() < Duration::from_millis(1600),
        "{:?}",
        started.elapsed()
    );
}

/// Documents by the partition that they lie in, as the local account routes them.
fn by_partition(local: &Local, count: usize) -> Vec<Vec<(String, String)>> {
    let sink = local.sink("c", &[("sink.max-operations-per-request", "1")]);
    let rows = rows("probe", count, count);
    let mut out = vec![Vec::new(); 4];
    for row in rows {
        upsert_all(&sink, std::slice::from_ref(&row));
        assert_all_ok(&outcomes(&sink, 1));
        let partition = requests(local, "bulk").last().unwrap()["partition"]
            .as_str()
            .unwrap()
            .parse::<usize>();
        out[partition.unwrap()].push(row);
    }
    out
}

#[test]
fn a_locked_partition_stops_itself_alone() {
    let local = Local::start(&["c:/pk:4"]);
    let parts = by_partition(&local, 40);
    local.admin(
        "faults",
        json!({"status": 410, "subStatus": 1007, "operations": "bulk", "partition": "0", "retryAfterMillis": 2000}),
    );
    let sink = local.sink("c", &[]);
    let locked = parts[0].len();
    assert!(locked > 0 && locked < 40);
    let started = Instant::now();
    upsert_all(&sink, &parts.concat());
    // The rest of the submission waits for its last operation, so that the counts tell.
    while sink.metrics().records.load(Relaxed) < 40 - locked as u64 {
        assert!(started.elapsed() < WAIT);
        std::thread::yield_now();
    }
    // A second submission for the others alone, while the first hangs.
    for _ in 0..5 {
        upsert_all(&sink, &parts[1..].concat());
        let done = until(&sink, |o| o.len() == 40 - locked);
        assert_all_ok(&done);
    }
    assert!(
        started.elapsed() < Duration::from_millis(1400),
        "{:?}",
        started.elapsed()
    );
    local.clear_faults();
    assert_all_ok(&until(&sink, |o| o.len() == 40));
}

#[test]
fn a_partition_that_was_split_is_written_as_soon_as_its_map_is_there() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("retry.backoff", "2000"), ("retry.max-backoff", "30000")]);
    upsert_all(&sink, &rows("a", 10, 10));
    assert_all_ok(&outcomes(&sink, 10));
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    let started = Instant::now();
    upsert_all(&sink, &rows("b", 100, 10));
    assert_all_ok(&outcomes(&sink, 100));
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_throttled_partition_is_waited_for_and_holds_nobody_else_up() {
    let local = Local::start(&["c:/pk:4"]);
    let parts = by_partition(&local, 40);
    local.admin(
        "faults",
        json!({"status": 429, "subStatus": 3200, "operations": "bulk", "partition": "0", "retryAfterMillis": 50}),
    );
    let sink = local.sink("c", &[("retry.deadline", "300"), ("retry.max-attempts", "3")]);
    upsert_all(&sink, &parts[0]);
    let held = Instant::now();
    while sink.metrics().held_millis.load(Relaxed) < 1000 {
        upsert_all(&sink, &parts[1..].concat());
        assert_all_ok(&outcomes(&sink, 40 - parts[0].len()));
        assert!(held.elapsed() < WAIT, "nothing is said to be held up");
    }
    local.clear_faults();
    assert_all_ok(&outcomes(&sink, parts[0].len()));
    assert_eq!(sink.metrics().held_millis.load(Relaxed), 0);
}

/// Batches of the two runs below.
const BATCHES: usize = 40;

/// Hands batches of 45 records for three partitions over, each once the one before is written, and beside them five for a key whose
/// partition takes none: the writer, those five of each, and how many requests the other partitions had.
fn write_beside(local: &Local, hot: bool) -> (Writer, usize, usize) {
    let parts = by_partition(local, 40);
    let (key, others) = (&parts[0][0].1, parts[1..].concat());
    local.admin(
        "faults",
        json!({"status": 429, "subStatus": 3200, "operations": "bulk", "partition": "0", "retryAfterMillis": 20}),
    );
    // As batches are counted, four would be all that is in flight.
    let options = [
        ("sink.buffer-flush.max-rows", "50"),
        ("sink.max-in-flight-requests", "4"),
    ];
    let sink = local.sink("c", &options);
    let to_others = || {
        let all = requests(local, "bulk");
        all.iter().filter(|r| r["partition"] != "0").count()
    };
    let before = to_others();
    let mut hot_ones = 0;
    for batch in 0..BATCHES {
        let row = |i: usize| (format!("{batch}-{i}"), others[i % others.len()].1.clone());
        let mut rows: Vec<_> = (0..45).map(row).collect();
        if hot {
            rows.extend((45..50).map(|i| (format!("{batch}-{i}"), key.clone())));
            hot_ones += 5;
        }
        upsert_all(&sink, &rows);
        let written = 45 * (batch + 1) as u64;
        support::until("the others are written", || {
            sink.metrics().records.load(Relaxed) == written
        });
        assert_eq!(sink.room() % 2, 0, "there is room behind batch {batch}");
    }
    let sent = to_others() - before;
    (sink, hot_ones, sent)
}

/// One record in ten is for a key whose partition takes none: the others of the same batches are written as if it were not there, in as many
/// requests, and the writer may hand over more for as long as what is held up is little.
#[test]
fn records_of_a_hot_key_hold_back_no_others() {
    let (alone, local) = (Local::start(&["c:/pk:4"]), Local::start(&["c:/pk:4"]));
    let (without, _, sent_alone) = write_beside(&alone, false);
    assert_all_ok(&until(&without, |o| o.len() == 45 * BATCHES));
    let (sink, hot_ones, sent) = write_beside(&local, true);
    assert_eq!(sent, sent_alone, "requests to the other partitions");
    let metrics = sink.metrics();
    assert_eq!(metrics.partitions_held.load(Relaxed), 1);
    assert_eq!(metrics.partitions_slowed.load(Relaxed), 1);
    let held = sink.held_up();
    assert!(
        held[0].starts_with("partition 0 of the hashes") && held[0].contains("429/3200"),
        "{held:?}"
    );
    assert!(
        sink.poll(Duration::ZERO).unwrap().is_empty(),
        "each batch waits for its own"
    );
    local.clear_faults();
    let done = until(&sink, |o| o.len() == 45 * BATCHES + hot_ones);
    assert_all_ok(&done);
    assert_eq!(
        (sink.metrics().bytes_buffered.load(Relaxed), sink.room() % 2),
        (0, 0)
    );
}

#[test]
fn a_writer_that_holds_as_much_as_it_may_says_so_and_when_it_has_room_again() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        json!({"status": 429, "subStatus": 3200, "operations": "bulk", "retryAfterMillis": 20}),
    );
    let sink = local.sink("c", &[("sink.max-in-flight-size", "20000")]);
    let mut batches = 0;
    while sink.room().is_multiple_of(2) {
        assert!(batches < 10, "{batches} batches of 10 documents of 350 bytes");
        upsert_all(&sink, &rows(&format!("b{batches}"), 10, 10));
        batches += 1;
    }
    assert!(sink.metrics().bytes_buffered.load(Relaxed) < 20_000 + 10 * 400);
    local.clear_faults();
    support::until("there is room", || sink.room().is_multiple_of(2));
    assert_all_ok(&until(&sink, |o| o.len() == 10 * batches));
}

#[test]
fn a_poll_that_waits_hears_of_room_although_nothing_has_completed() {
    let local = Local::start(&["c:/pk:2"]);
    let parts = by_partition(&local, 40);
    local.admin(
        "faults",
        json!({"status": 429, "subStatus": 3200, "operations": "bulk", "partition": "0", "retryAfterMillis": 20}),
    );
    let sink = local.sink("c", &[("sink.max-in-flight-size", "10000")]);
    // Twenty thousand bytes, of which one record is for the partition that takes none.
    let rows = parts[1].iter().cycle().take(40).chain(&parts[0][..1]);
    let rows: Vec<_> = rows
        .enumerate()
        .map(|(i, row)| (format!("r{i}"), row.1.clone()))
        .collect();
    upsert_all(&sink, &rows);
    let (limit, started) = (Duration::from_secs(60), Instant::now());
    assert!(
        sink.poll(limit).unwrap().is_empty(),
        "the batch waits for its last record"
    );
    assert!(started.elapsed() < limit, "nobody has told of the room");
    assert_eq!(sink.room(), 2, "there was none, and there is some again");
    local.clear_faults();
    assert_all_ok(&outcomes(&sink, 41));
}

#[test]
fn writing_has_a_budget_of_request_units() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[("sink.request-units-per-second", "1000")]);
    let started = Instant::now();
    for batch in 0..3 {
        upsert_all(&sink, &rows(&format!("b{batch}"), 200, 20));
    }
    assert_all_ok(&until(&sink, |o| o.len() == 600));
    let metrics = sink.metrics();
    let units = metrics.request_charge_milli.load(Relaxed) as f64 / 1000.0;
    // What comes in meanwhile, a second's worth, and the requests under way before their price was known.
    let most = 1000.0 * (started.elapsed().as_secs_f64() + 1.0) + 4.0 * 100.0 * units / 600.0;
    assert!(units <= most, "{units} RU, {most} at most");
    assert!(
        metrics.budget_millis.load(Relaxed) > 0,
        "{units} RU without a wait"
    );
}

#[test]
fn ids_that_the_service_takes_are_taken() {
    let local = Local::start(&["c:/pk:1"]);
    let ids = [
        "a?b",
        "a#b",
        "a%2Fb",
        "a b",
        "%20",
        "ö€😀",
        "a&b=c",
        "a+b",
        "%",
        "..a",
        "a;b",
        "\"'",
        "~",
        "[x]",
        "{x}",
        "|",
    ];
    for bulk in ["true", "false"] {
        let sink = local.sink("c", &[("sink.bulk", bulk)]);
        for kind in [
            OperationKind::Create,
            OperationKind::Replace,
            OperationKind::Delete,
        ] {
            for id in ids {
                let document = json!({"id": id, "pk": "k"}).to_string();
                let document = if kind == OperationKind::Delete {
                    ""
                } else {
                    &document
                };
                submit(&sink, 0, kind, id, "[\"k\"]", document);
                let done = outcomes(&sink, 1);
                assert_eq!(
                    done[0].result,
                    OutcomeResult::Ok,
                    "{kind:?} of {id} in bulk {bulk}: {:?}",
                    done[0].error
                );
            }
        }
        for id in ids {
            assert!(
                !is_there(&sink, id, "[\"k\"]", ",\"pk\":\"k\""),
                "{id} in bulk {bulk}"
            );
        }
    }
    let sink = local.sink("c", &[]);
    for id in ["a/b", "a\\b", ""] {
        submit(&sink, 0, OperationKind::Upsert, id, "[\"k\"]", "{}");
        assert_eq!(
            outcomes(&sink, 1)[0].error.as_ref().unwrap().kind,
            Kind::BadRequest,
            "{id}"
        );
    }
}

#[test]
fn an_id_that_an_address_would_change_never_reaches_another_document() {
    let local = Local::start(&["c:/pk:1"]);
    let bulk = local.sink("c", &[]);
    for id in ["ab", "a"] {
        submit(
            &bulk,
            0,
            OperationKind::Create,
            id,
            "[\"k\"]",
            &document(id, "k", 0),
        );
        assert_all_ok(&outcomes(&bulk, 1));
    }
    let point = local.sink("c", &[("sink.bulk", "false")]);
    // Refused as a bulk request, so that the operation goes alone in the end.
    let refused = local.sink(
        "c",
        &[
            ("sink.failure-mode", "skip"),
            ("sink.bulk-probe-interval", "100"),
            ("retry.max-attempts", "3"),
            ("retry.backoff", "1"),
        ],
    );
    local.admin("faults", json!({"status": 400, "operations": "bulk"}));
    let all = [
        "a\tb", "a\nb", "a\rb", "\ta", "a\u{0}", "a\u{7f}", ".", "..", "a ",
    ];
    // Each waits for some tries of the form.
    for (sink, ids) in [(&point, &all[..]), (&refused, &["a\tb", "."])] {
        for id in ids {
            for kind in [OperationKind::Delete, OperationKind::Replace] {
                let document = if kind == OperationKind::Delete {
                    String::new()
                } else {
                    json!({"id": id, "pk": "k"}).to_string()
                };
                submit(sink, 0, kind, id, "[\"k\"]", &document);
                let done = outcomes(sink, 1);
                let error = done[0]
                    .error
                    .as_ref()
                    .unwrap_or_else(|| panic!("{kind:?} of {id:?} went through"));
                assert_eq!(error.kind, Kind::BadRequest, "{error}");
                // What a form that is off for now cannot carry is not skipped.
                assert_eq!(done[0].result, OutcomeResult::Failed, "{error}");
                assert!(error.message.contains("sink.bulk"), "{error}");
            }
        }
    }
    local.clear_faults();
    // In bulk the id is data, and the document is found.
    for id in ["a\tb", "a\nb", "a\u{1}", "a "] {
        submit(
            &bulk,
            0,
            OperationKind::Create,
            id,
            "[\"k\"]",
            &json!({"id": id, "pk": "k"}).to_string(),
        );
        assert_all_ok(&outcomes(&bulk, 1));
        submit(&bulk, 0, OperationKind::Delete, id, "[\"k\"]", "");
        assert_all_ok(&outcomes(&bulk, 1));
        assert!(!is_there(&bulk, id, "[\"k\"]", ",\"pk\":\"k\""), "{id:?}");
    }
    for id in ["ab", "a"] {
        submit(
            &bulk,
            0,
            OperationKind::Replace,
            id,
            "[\"k\"]",
            &document(id, "k", 1),
        );
        assert_all_ok(&outcomes(&bulk, 1));
    }
}

#[test]
fn failed_attempts_are_part_of_a_completions_charge() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        json!({"status": 503, "operations": "bulk", "count": 4, "requestCharge": 100.0}),
    );
    let sink = local.sink("c", &[("retry.backoff", "1")]);
    upsert_all(&sink, &rows("a", 10, 1));
    let completion = sink.completion();
    let spent = completion.request_charge;
    assert_all_ok(&sink.outcomes_of(completion));
    let counted = sink.metrics().request_charge_milli.load(Relaxed) as f64 / 1000.0;
    assert!(
        spent >= 100.0 && (spent - counted).abs() < 1.0,
        "completion {spent}, requests {counted}"
    );
}

/// A record that the shim refused, with what it knew of it.
fn refuse(sink: &Writer, token: u64, reason: &str, document: &[u8]) {
    let op = NewOperation {
        kind: OperationKind::Refused,
        id: &format!("r{token}"),
        partition_key: "[\"k\"]",
        if_match: reason,
        document,
    };
    sink.write([token], &[op]);
}

const LETTERS: [(&str, &str); 2] = [
    ("sink.failure-mode", "dead-letter"),
    ("sink.dead-letter-container", "dead"),
];

/// The letters by the id of what was refused.
fn letters(local: &Local, count: usize) -> std::collections::BTreeMap<String, Value> {
    let (source, _) = local.source_of_all("dead", &[]);
    let parsed = |text: &String| {
        // Without a limit of depth, as far as the local account takes it.
        let letter: Value = serde_json::from_str(text).unwrap();
        (letter["documentId"].as_str().unwrap().to_owned(), letter)
    };
    read(&source, count).values().map(parsed).collect()
}

#[test]
fn a_refused_record_takes_the_way_of_the_failure_mode() {
    let local = Local::start(&["c:/pk:1", "dead:/id:1"]);
    for (mode, expected) in [
        ("fail", OutcomeResult::Failed),
        ("skip", OutcomeResult::Skipped),
        ("dead-letter", OutcomeResult::DeadLettered),
    ] {
        let sink = local.sink(
            "c",
            &[
                ("sink.failure-mode", mode),
                ("sink.dead-letter-container", "dead"),
            ],
        );
        refuse(&sink, 1, "the converter threw: no key", b"{\"raw\":1}");
        refuse(&sink, 2, "the record is too large: 3000000 bytes", b"");
        submit(
            &sink,
            3,
            OperationKind::Upsert,
            "good",
            "[\"k\"]",
            &document("good", "k", 1),
        );
        let mut done = outcomes(&sink, 3);
        done.sort_by_key(|o| o.token);
        assert_eq!(
            (done[0].result, done[1].result, done[2].result),
            (expected, expected, OutcomeResult::Ok)
        );
        let kinds = [0, 1].map(|n| done[n].error.as_ref().unwrap().kind);
        assert_eq!(kinds, [Kind::BadRequest, Kind::TooLarge]);
        assert!(
            done[0].error.as_ref().unwrap().message.contains("no key"),
            "{:?}",
            done[0].error
        );
    }
    let letters = letters(&local, 2);
    assert_eq!(letters["r1"]["document"], json!({"raw": 1}));
    assert_eq!(
        (
            &letters["r2"]["reason"],
            &letters["r2"]["document"],
            &letters["r2"]["operation"]
        ),
        (&json!("TooLarge"), &json!(""), &json!("write"))
    );
}

#[test]
fn letters_hold_what_was_refused_whatever_it_is() {
    let local = Local::start(&["c:/pk:1", "dead:/reason:1"]);
    let sink = local.sink("c", &LETTERS);
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let (deep, shallow) = (nested(130), nested(60));
    let large = "\u{1}ö\"".repeat(500_000);
    let documents: [(&str, &[u8]); 6] = [
        ("deep", deep.as_bytes()),
        ("shallow", shallow.as_bytes()),
        // JSON, but no double: the container may not take it as a value.
        ("huge", b"{\"n\":1e400}"),
        ("broken", b"{\"n\":"),
        ("bytes", b"\xff\xfe"),
        ("large", large.as_bytes()),
    ];
    for (n, (_, document)) in documents.iter().enumerate() {
        refuse(&sink, n as u64, "no", document);
    }
    let done = outcomes(&sink, documents.len());
    assert!(
        done.iter().all(|o| o.result == OutcomeResult::DeadLettered),
        "{done:?}"
    );
    let letters = letters(&local, documents.len());
    let kept = |name: &str| {
        let n = documents.iter().position(|(d, _)| *d == name).unwrap();
        let letter = &letters[&format!("r{n}")];
        assert_eq!(letter["documentBytes"], documents[n].1.len());
        assert_eq!(letter["truncated"], name == "large", "{name}");
        let encoding = (name == "bytes").then_some("base64");
        assert_eq!(letter["documentEncoding"].as_str(), encoding, "{name}");
        letter["document"].clone()
    };
    assert_eq!(kept("deep"), deep);
    assert_eq!(kept("shallow").to_string(), shallow);
    assert_eq!(kept("huge"), "{\"n\":1e400}");
    assert_eq!(kept("broken"), "{\"n\":");
    assert_eq!(kept("bytes"), "//4=");
    let part = kept("large");
    let part = part.as_str().unwrap();
    assert!(part.len() > 500_000 && large.starts_with(part));
}

#[test]
fn a_letter_that_is_too_large_for_its_container_is_cut_further() {
    let local = Local::start(&["c:/pk:1", "dead:/container:1"]);
    local.admin(
        "faults",
        json!({"status": 413, "container": "dead", "operations": "write", "minBytes": 100_000}),
    );
    let sink = local.sink("c", &LETTERS);
    refuse(
        &sink,
        0,
        "no",
        format!("\"{}\"", "x".repeat(1_000_000)).as_bytes(),
    );
    let done = outcomes(&sink, 1);
    assert_eq!(done[0].result, OutcomeResult::DeadLettered, "{:?}", done[0].error);
    let letter = &letters(&local, 1)["r0"];
    assert_eq!(
        (&letter["truncated"], &letter["documentBytes"]),
        (&json!(true), &json!(1_000_002))
    );
    assert!(letter["document"].as_str().unwrap().len() > 40_000);
}

#[test]
fn letters_are_stored_a_few_at_a_time_and_waited_for() {
    let local = Local::start(&["c:/pk:1", "dead:/container:1"]);
    local.admin(
        "faults",
        json!({"container": "dead", "operations": "write", "delayMillis": 10}),
    );
    local.admin(
        "faults",
        json!({"status": 429, "container": "dead", "operations": "write", "share": 0.2, "count": 40, "retryAfterMillis": 5}),
    );
    let sink = local.sink("c", &LETTERS);
    for n in 0..200 {
        refuse(&sink, n, "no", b"{}");
    }
    let done = outcomes(&sink, 200);
    assert!(done.iter().all(|o| o.result == OutcomeResult::DeadLettered));
    let spans: Vec<(u64, u64)> = requests(&local, "upsert")
        .iter()
        .map(|r| {
            let from = r["millis"].as_u64().unwrap() * 1000;
            (from, from + r["micros"].as_u64().unwrap())
        })
        .collect();
    // Arrivals are counted in whole milliseconds: what overlaps by less does not count.
    let most = spans.iter().map(|(at, _)| {
        spans
            .iter()
            .filter(|(from, to)| from <= at && at + 2000 < *to)
            .count()
    });
    let most = most.max().unwrap();
    assert!(
        (1..=8).contains(&most),
        "{most} letters were stored at the same time"
    );
    assert_eq!(letters(&local, 200).len(), 200);
}

#[test]
fn letters_that_are_throttled_for_longer_than_a_stall_are_stored_in_the_end() {
    let local = Local::start(&["c:/pk:1", "dead:/container:1"]);
    local.admin(
        "faults",
        json!({"status": 429, "subStatus": 3200, "container": "dead", "operations": "write", "retryAfterMillis": 100}),
    );
    let options = [("sink.stall-timeout", "1500"), ("request-timeout", "1000")];
    let sink = local.sink("c", &[&LETTERS[..], &options].concat());
    refuse(&sink, 1, "no", b"{}");
    // Each attempt waits for a tenth of a second at least.
    support::until("it has been throttled for long", || {
        sink.metrics().retries.load(Relaxed) > 20
    });
    assert!(sink.poll(Duration::ZERO).unwrap().is_empty());
    let held = sink.held_up();
    assert!(held[0].contains("container 'dead' was 429/3200"), "{held:?}");
    local.clear_faults();
    assert_eq!(outcomes(&sink, 1)[0].result, OutcomeResult::DeadLettered);
}

#[test]
fn bulk_answers_come_without_the_documents() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    upsert_all(&sink, &rows("a", 100, 10));
    assert_all_ok(&outcomes(&sink, 100));
    let sent = requests(&local, "bulk");
    let bytes = |field: &str| sent.iter().map(|r| r[field].as_u64().unwrap()).sum::<u64>();
    // A document alone has more than 300 bytes.
    assert!(bytes("answerBytes") < 100 * 150, "{sent:?}");
    assert!(bytes("bytes") > 100 * 300);
}
