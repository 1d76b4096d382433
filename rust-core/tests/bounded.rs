//! Reading that ends: the change feed up to a stop, and queries, over HTTP.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cosmosflink_core::account::open_blocking;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::feed::{DriverFeed, Feed};
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::sink::OperationKind;
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{Mode, Split, Stop};
use serde_json::json;
use support::*;

const STOP: (&str, &str) = ("scan.bounded.mode", "latest");

fn fill(local: &Local, prefix: &str, count: usize, keys: usize) {
    let sink = local.sink("c", &[]);
    upserts(&sink, prefix, count, keys);
    outcomes(&sink, count);
    sink.close();
}

fn splits(local: &Local, extra: &[(&str, &str)]) -> Vec<Split> {
    let found = local.enumerator("c", extra).discover(&[]).unwrap();
    found.into_iter().map(|entry| entry.split).collect()
}

/// Reads splits to their end; returns how often each id came. Fails when a split does not end.
fn read_to_the_end(source: &Source, splits: &[Split]) -> BTreeMap<String, usize> {
    let mut open: BTreeSet<String> = splits.iter().map(Split::id).collect();
    let (mut ids, deadline) = (BTreeMap::new(), Instant::now() + WAIT);
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "these do not end: {open:?}");
        let Some(page) = take(source, Duration::from_millis(200)) else {
            continue;
        };
        for (id, _) in page.records {
            *ids.entry(id).or_default() += 1;
        }
        if let Some(children) = page.finished {
            assert!(open.remove(&page.split.id()), "it ended twice");
            open.extend(children.iter().map(Split::id));
        }
    }
    assert!(
        take(source, Duration::from_millis(100)).is_none(),
        "a page behind the last"
    );
    ids
}

fn all(local: &Local, extra: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let (splits, source) = (splits(local, extra), local.source("c", extra));
    source.add_splits(splits.clone()).unwrap();
    read_to_the_end(&source, &splits)
}

fn has_all(ids: &BTreeMap<String, usize>, prefix: &str, count: usize) {
    let missing: Vec<_> = (0..count)
        .map(|i| format!("{prefix}-{i}"))
        .filter(|id| !ids.contains_key(id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Writes on and on until it is dropped: new documents, and those with `prefix` again.
struct Writing {
    on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writing {
    fn begin(local: &Local, prefix: &'static str, count: usize, keys: usize) -> Writing {
        let on = Arc::new(AtomicBool::new(true));
        let (writes, sink) = (on.clone(), local.sink("c", &[]));
        let (begun, has_begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut round = 0;
            while writes.load(Ordering::Relaxed) {
                upserts(&sink, &format!("new{round}"), 20, keys);
                outcomes(&sink, 20);
                upserts(&sink, prefix, count.min(20), keys);
                outcomes(&sink, count.min(20));
                round += 1;
                let _ = begun.send(());
            }
            sink.close();
        });
        has_begun.recv().unwrap();
        Writing {
            on,
            thread: Some(thread),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|e| e.is_ok()));
    }
}

#[test]
fn it_ends_with_all_that_was_there_although_writers_go_on() {
    let local = Local::start(&["c:/pk:4"]);
    fill(&local, "a", 2000, 40);
    let writing = Writing::begin(&local, "a", 2000, 40);
    let ids = all(&local, &[STOP, ("scan.page-size", "50")]);
    drop(writing);
    has_all(&ids, "a", 2000);
}

#[test]
fn without_writers_each_document_comes_once_and_idle_ranges_end() {
    let local = Local::start(&["c:/pk:4"]);
    let empty = all(&local, &[STOP]);
    assert!(empty.is_empty());
    // One key: three partitions have nothing.
    fill(&local, "a", 300, 1);
    let ids = all(&local, &[STOP, ("scan.page-size", "50")]);
    has_all(&ids, "a", 300);
    assert!(ids.values().all(|n| *n == 1));
}

#[test]
fn it_ends_across_a_split_and_a_merge_of_partitions() {
    for (action, merges) in [("split", false), ("merge", true)] {
        let local = Local::start(&["c:/pk:2"]);
        fill(&local, "a", 1000, 40);
        let options = [STOP, ("scan.page-size", "20"), ("scan.prefetch-size", "1048576")];
        let (splits, source) = (splits(&local, &options), local.source("c", &options));
        let writing = Writing::begin(&local, "b", 100, 40);
        local.admin("faults", json!({"operations": "feed", "delayMillis": 10}));
        source.add_splits(splits.clone()).unwrap();
        let mut ids = BTreeMap::new();
        while ids.len() < 100 {
            for (id, _) in take(&source, WAIT).unwrap().records {
                *ids.entry(id).or_insert(0) += 1;
            }
        }
        let body = match merges {
            true => json!({"database": "orders", "container": "c", "partitions": ["0", "1"]}),
            false => json!({"database": "orders", "container": "c", "partition": "0"}),
        };
        local.admin(action, body);
        local.clear_faults();
        ids.extend(read_to_the_end(&source, &splits));
        drop(writing);
        has_all(&ids, "a", 1000);
    }
}

#[test]
fn a_restored_split_goes_on_to_the_same_stop() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 500, 20);
    let options = [STOP, ("scan.page-size", "50")];
    let found = splits(&local, &options);
    let Stop::At(stop) = &found[0].stop else {
        panic!("{:?}", found[0].stop)
    };
    let source = local.source("c", &options);
    source.add_splits(found.clone()).unwrap();
    let (mut position, mut seen) = (found[0].clone(), BTreeSet::new());
    for _ in 0..3 {
        let page = take(&source, WAIT).unwrap();
        seen.extend(page.records.into_iter().map(|(id, _)| id));
        position = Split::decode(&page.split.encode()).unwrap();
    }
    source.close();
    assert_eq!(position.stop, Stop::At(stop.clone()));
    fill(&local, "later", 200, 20);
    let source = local.source("c", &options);
    source.add_splits(vec![position.clone()]).unwrap();
    let rest = read_to_the_end(&source, &[position]);
    assert!(
        seen.iter().all(|id| !rest.contains_key(id)),
        "nothing comes again"
    );
    seen.extend(rest.into_keys());
    assert!((0..500).all(|i| seen.contains(&format!("a-{i}"))));
}

#[test]
fn an_empty_page_that_stands_still_is_not_the_end() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 200, 20);
    let options = [STOP, ("scan.page-size", "50")];
    let source = local.source("c", &options);
    source.add_splits(splits(&local, &options)).unwrap();
    let first = take(&source, WAIT).unwrap();
    source.close();
    local.admin(
        "faults",
        json!({"operations": "feed", "stillPages": true, "count": 3}),
    );
    let source = local.source("c", &options);
    source.add_splits(vec![first.split.clone()]).unwrap();
    let mut ids = read_to_the_end(&source, std::slice::from_ref(&first.split));
    assert_eq!(local.faults(), 0);
    ids.extend(first.records.into_iter().map(|(id, _)| (id, 1)));
    has_all(&ids, "a", 200);
}

#[test]
fn parts_of_a_partition_end_where_the_partition_did() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 400, 40);
    // Waiting for an end to be sure of would take longer than the test does.
    let options = [
        STOP,
        ("scan.min-splits", "4"),
        ("scan.poll-interval", "600000"),
        ("scan.min-poll-interval", "600000"),
    ];
    let found = splits(&local, &options);
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|split| split.stop == found[0].stop));
    let source = local.source("c", &options);
    source.add_splits(found.clone()).unwrap();
    let ids = read_to_the_end(&source, &found);
    has_all(&ids, "a", 400);
    assert!(ids.values().all(|n| *n == 1));
}

#[test]
fn it_is_read_up_to_a_time() {
    let local = Local::start(&["c:/pk:2"]);
    fill(&local, "a", 300, 20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
    let time = (now * 1000).to_string();
    let began = Instant::now();
    let writing = Writing::begin(&local, "b", 20, 20);
    let ids = all(
        &local,
        &[
            ("scan.bounded.mode", "timestamp"),
            ("scan.bounded.timestamp-millis", time.as_str()),
            ("scan.poll-interval", "200"),
        ],
    );
    drop(writing);
    has_all(&ids, "a", 300);
    assert!(
        began.elapsed() > Duration::from_secs(4),
        "clocks may differ by some seconds"
    );
}

#[test]
fn what_was_changed_behind_a_time_is_not_left_out() {
    let local = Local::start(&["c:/pk:2"]);
    // Any of these may have been there before the time: the feed has each at the place of its last change.
    fill(&local, "a", 400, 20);
    let options = [
        ("scan.bounded.mode", "timestamp"),
        // 2020-01-01T00:00:00Z.
        ("scan.bounded.timestamp-millis", "1577836800000"),
        ("scan.page-size", "30"),
    ];
    let ids = all(&local, &options);
    has_all(&ids, "a", 400);
    assert!(ids.values().all(|n| *n == 1));
}

#[test]
fn nothing_is_waited_for_within_a_table() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 400, 40);
    let keys = (0..400).map(|i| json!({"id": format!("a-{i}"), "partitionKey": [format!("k{}", i % 40)]}));
    let keys = serde_json::Value::from(keys.collect::<Vec<_>>()).to_string();
    // Behind a page that is not full the change feed would be looked at again in ten minutes.
    for what in [
        ("scan.query", "SELECT * FROM c WHERE c.n >= 0"),
        ("scan.read-many", keys.as_str()),
    ] {
        let options = [what, ("scan.poll-interval", "600000")];
        let (found, source) = (splits(&local, &options), local.source("c", &options));
        let mut open = found.len();
        source.add_splits(found).unwrap();
        let mut ids = BTreeSet::new();
        while open > 0 {
            let page = take(&source, WAIT).expect("a page");
            ids.extend(page.records.into_iter().map(|(id, _)| id));
            open -= usize::from(page.finished.is_some());
            assert_eq!(page.caught_up, page.finished.is_some(), "{}", what.0);
        }
        assert_eq!(ids.len(), 400, "{}", what.0);
    }
}

#[test]
fn a_query_is_answered_range_by_range_and_each_row_comes_once() {
    let local = Local::start(&["c:/pk:4"]);
    fill(&local, "a", 400, 40);
    let options = [
        ("scan.query", "SELECT * FROM c WHERE c.n >= @from"),
        ("scan.query-parameters", r#"{"@from": 100}"#),
        ("scan.page-size", "17"),
    ];
    let found = splits(&local, &options);
    assert_eq!(found.len(), 4);
    assert!(found
        .iter()
        .all(|s| s.mode == Mode::Query && s.stop == Stop::Never));
    let ids = all(&local, &options);
    assert_eq!(ids.len(), 300);
    assert!(ids.values().all(|n| *n == 1));
    assert!(!ids.contains_key("a-99") && ids.contains_key("a-100"));
    // A container without a row that fits.
    let none = [("scan.query", "SELECT * FROM c WHERE c.n < 0")];
    assert!(all(&local, &none).is_empty());
}

#[test]
fn a_query_for_one_partition_key_ends_in_all_ranges() {
    let local = Local::start(&["c:/pk:4"]);
    fill(&local, "a", 400, 40);
    let options = [("scan.query", "SELECT * FROM c WHERE c.pk = 'k7' AND c.n >= 0")];
    assert_eq!(splits(&local, &options).len(), 4);
    let ids = all(&local, &options);
    assert_eq!(ids.len(), 10);
    assert!(ids.values().all(|n| *n == 1));
}

#[test]
fn a_query_that_fails_on_its_way_loses_no_row() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 300, 30);
    for query in ["SELECT * FROM c ORDER BY c.n", "SELECT * FROM c"] {
        let options = [("scan.query", query), ("scan.page-size", "10")];
        local.admin(
            "faults",
            json!({"operations": "query", "status": 429, "retryAfterMillis": 1, "share": 0.3, "skip": 4, "count": 20}),
        );
        let ids = all(&local, &options);
        local.clear_faults();
        assert_eq!(ids.len(), 300, "{query}");
        assert!(ids.values().all(|n| *n == 1), "{query}");
    }
}

#[test]
fn what_was_read_to_its_end_is_not_read_again() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 100, 20);
    for query in [
        "SELECT DISTINCT TOP 50 VALUE c.pk FROM c",
        "SELECT DISTINCT VALUE c.pk FROM c OFFSET 5 LIMIT 50",
        "SELECT * FROM c ORDER BY c.n",
        "SELECT * FROM c WHERE c.n < 0",
    ] {
        let options = [("scan.query", query)];
        let found = splits(&local, &options);
        let source = local.source("c", &options);
        source.add_splits(found[..1].to_vec()).unwrap();
        let (_, end, finished) = documents(&source, usize::MAX);
        assert!(finished);
        source.close();
        // A checkpoint between its last record and its end.
        let source = local.source("c", &options);
        source
            .add_splits(vec![Split::decode(&end.encode()).unwrap()])
            .unwrap();
        assert_eq!(documents(&source, usize::MAX), (Vec::new(), end, true), "{query}");
    }
}

#[test]
fn a_state_of_another_query_is_refused() {
    let local = Local::start(&["c:/pk:1"]);
    let with = |query, parameters| [("scan.query", query), ("scan.query-parameters", parameters)];
    let (query, parameters) = ("SELECT * FROM c WHERE c.n > @n", r#"{"@n": 1}"#);
    let found = splits(&local, &with(query, parameters));
    let add = |options: &[(&str, &str)]| local.source("c", options).add_splits(found.clone());
    add(&with(query, r#"{ "@n":1 }"#)).unwrap();
    for other in [
        with("SELECT * FROM c WHERE c.n >= @n", parameters),
        with(query, r#"{"@n": 2}"#),
    ] {
        let error = add(&other).unwrap_err();
        assert_eq!(error.kind, Kind::State);
        assert!(error.message.contains("another scan.query"), "{error}");
    }
}

/// Documents in the order in which they come.
fn documents(source: &Source, count: usize) -> (Vec<serde_json::Value>, Split, bool) {
    let mut out = Vec::new();
    loop {
        let page = take(source, WAIT).unwrap();
        let json = |(_, text): (String, String)| serde_json::from_str(&text).unwrap();
        out.extend(page.records.into_iter().map(json));
        let finished = page.finished.is_some();
        if finished || out.len() >= count {
            return (out, page.split, finished);
        }
    }
}

#[test]
fn what_needs_a_global_answer_is_one_split_and_in_order() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 100, 20);
    let read = |query: &str| {
        let options = [("scan.query", query), ("scan.page-size", "10")];
        let found = splits(&local, &options);
        assert_eq!(found.len(), 1, "{query}");
        let source = local.source("c", &options);
        source.add_splits(found).unwrap();
        let (rows, _, finished) = documents(&source, usize::MAX);
        assert!(finished);
        rows
    };
    let ordered = read("SELECT VALUE c.n FROM c ORDER BY c.n DESC");
    let expected: Vec<_> = (0..100).rev().map(|n| json!(n)).collect();
    assert_eq!(ordered, expected);
    assert_eq!(read("SELECT TOP 5 * FROM c").len(), 5);
    assert_eq!(
        read("SELECT * FROM c ORDER BY c.n OFFSET 10 LIMIT 3")
            .iter()
            .map(|d| d["n"].clone())
            .collect::<Vec<_>>(),
        [json!(10), json!(11), json!(12)]
    );
    let keys: BTreeSet<_> = read("SELECT DISTINCT TOP 50 VALUE c.pk FROM c")
        .iter()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 20);
}

#[test]
fn a_global_answer_may_come_from_any_number_of_partitions() {
    let local = Local::start(&["c:/pk:120"]);
    fill(&local, "a", 10, 10);
    for query in [
        "SELECT VALUE c.n FROM c ORDER BY c.n",
        "SELECT VALUE c.n FROM c OFFSET 0 LIMIT 100",
    ] {
        let options = [("scan.query", query)];
        let found = splits(&local, &options);
        assert_eq!(found.len(), 1, "{query}");
        let source = local.source("c", &options);
        source.add_splits(found).unwrap();
        let (rows, ..) = documents(&source, usize::MAX);
        assert_eq!(rows.len(), 10, "{query}");
    }
}

#[test]
fn a_query_goes_on_from_a_position_without_loss_or_repeat() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 200, 30);
    for query in ["SELECT * FROM c", "SELECT * FROM c ORDER BY c.n"] {
        let options = [("scan.query", query), ("scan.page-size", "13")];
        let mut rows = Vec::new();
        for split in splits(&local, &options) {
            let mut position = split;
            loop {
                let source = local.source("c", &options);
                source.add_splits(vec![position.clone()]).unwrap();
                let (some, after, finished) = documents(&source, 30);
                rows.extend(some);
                source.close();
                if finished {
                    break;
                }
                position = Split::decode(&after.encode()).unwrap();
            }
        }
        let mut numbers: Vec<_> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
        if query.contains("ORDER") {
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{query}");
    }
}

#[test]
fn a_query_ends_across_a_split_of_partitions() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 300, 30);
    let options = [("scan.query", "SELECT * FROM c"), ("scan.page-size", "20")];
    let found = splits(&local, &options);
    let source = local.source("c", &options);
    source.add_splits(found).unwrap();
    let (mut rows, position, finished) = documents(&source, 60);
    assert!(!finished);
    source.close();
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    let source = local.source("c", &options);
    source.add_splits(vec![position]).unwrap();
    let (rest, _, finished) = documents(&source, usize::MAX);
    assert!(finished);
    rows.extend(rest);
    let ids: BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), ids.len()), (300, 300));
}

#[test]
fn what_the_driver_refuses_is_refused_before_the_job_runs() {
    let local = Local::start(&["c:/pk:1"]);
    for query in ["SELECT VALUE COUNT(1) FROM c", "SELECT c.pk FROM c GROUP BY c.pk"] {
        let options = local.options("c", &[("scan.query", query)]);
        let error = Config::parse(Role::Source, &options).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.contains("aggregate in Flink"), "{error}");
    }
}

#[test]
fn the_positions_of_the_start_are_kept_where_a_feed_goes_on_behind_a_query() {
    let local = Local::start(&["c:/pk:2"]);
    fill(&local, "a", 50, 10);
    let options = [("scan.query", "SELECT * FROM c"), STOP];
    let found = splits(&local, &options);
    fill(&local, "b", 30, 10);
    let feed: Vec<Split> = found
        .iter()
        .map(|split| Split {
            mode: Mode::LatestVersion,
            continuation: match &split.stop {
                Stop::At(position) => Some(position.clone()),
                other => panic!("{other:?}"),
            },
            stop: Stop::Never,
            ..split.clone()
        })
        .collect();
    let source = local.source("c", &[]);
    source.add_splits(feed).unwrap();
    let ids = read(&source, 30);
    assert!(ids.keys().all(|id| id.starts_with("b-")));
}

#[test]
fn documents_are_read_by_id_and_partition_key() {
    let local = Local::start(&["c:/pk:3"]);
    fill(&local, "a", 500, 40);
    // Every second one, some twice, and some that are not there.
    let wanted: Vec<_> = (0..500)
        .step_by(2)
        .chain([4, 6])
        .map(|i| json!({"id": format!("a-{i}"), "partitionKey": [format!("k{}", i % 40)]}))
        .chain([
            json!({"id": "a-1", "partitionKey": ["k2"]}),
            json!({"id": "none", "partitionKey": [null]}),
        ])
        .collect();
    let list = serde_json::Value::from(wanted.clone()).to_string();
    let options = [("scan.read-many", list.as_str()), ("scan.page-size", "30")];
    let ids = all(&local, &options);
    assert_eq!(ids.len(), 250);
    assert!(ids.values().all(|n| *n == 1));
    assert!((0..500).step_by(2).all(|i| ids.contains_key(&format!("a-{i}"))));

    let path = std::env::temp_dir().join(format!("cosmosflink-keys-{}", std::process::id()));
    let lines: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let file = [
        ("scan.read-many-file", path.to_str().unwrap()),
        ("scan.page-size", "30"),
    ];
    assert_eq!(all(&local, &file), ids);

    // A position holds for the same list, however it is given.
    let split = splits(&local, &options).remove(0);
    let source = local.source("c", &options);
    source.add_splits(vec![split]).unwrap();
    let first = take(&source, WAIT).unwrap();
    assert!(first.finished.is_none());
    source.close();
    let source = local.source("c", &file);
    source.add_splits(vec![first.split.clone()]).unwrap();
    let rest = read_to_the_end(&source, std::slice::from_ref(&first.split));
    assert!(!rest.is_empty() && first.records.iter().all(|(id, _)| !rest.contains_key(id)));
    source.close();
    std::fs::remove_file(&path).unwrap();
    // Also before anything was read.
    let unread = Split {
        continuation: None,
        ..first.split.clone()
    };
    for split in [first.split, unread] {
        let other = local.source("c", &[("scan.read-many", "[]")]);
        other.add_splits(vec![split]).unwrap();
        let error = loop {
            match other.next_page(WAIT) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(
            error.kind == Kind::State && error.message.contains("another list"),
            "{error}"
        );
    }
}

/// Writes documents of a megabyte, of which each has a key of its own; gives their ids and keys.
fn fill_with_large(local: &Local, count: usize) -> Vec<(String, String)> {
    let sink = local.sink("c", &[]);
    let keys: Vec<_> = (0..count).map(|i| (format!("d{i}"), format!("k{i}"))).collect();
    for (n, (id, key)) in keys.iter().enumerate() {
        let text = "x".repeat(1_000_000);
        let document = format!(r#"{{"id":"{id}","pk":"{key}","text":"{text}"}}"#);
        submit(
            &sink,
            n as u64,
            OperationKind::Upsert,
            id,
            &format!("[\"{key}\"]"),
            &document,
        );
    }
    for outcome in outcomes(&sink, keys.len()) {
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
    }
    sink.close();
    keys
}

#[test]
fn what_a_page_of_several_requests_has_cost_is_known_when_one_fails() {
    let local = Local::start(&["c:/pk:1"]);
    let keys = fill_with_large(&local, 12);
    let keys = keys
        .iter()
        .map(|(id, key)| json!({"id": id, "partitionKey": [key]}));
    let list = serde_json::Value::from(keys.collect::<Vec<_>>()).to_string();
    let options = [("scan.read-many", list.as_str())];
    let split = splits(&local, &options).remove(0);
    let config = Config::parse(Role::Source, &local.options("c", &options)).unwrap();
    // All of them are too much for a page: half of them are asked for next.
    local.admin(
        "faults",
        json!({"operations": "query", "status": 400, "skip": 1, "count": 1}),
    );
    let (error, used) = open_blocking(async move {
        let feed = DriverFeed::connect(config).await?;
        let mut pages = feed.open(&split, 100).await?;
        let metrics = Metrics::default();
        let error = pages.next(&metrics).await.err();
        Ok((error, metrics.request_charge_milli.load(Ordering::Relaxed)))
    })
    .unwrap();
    assert_eq!(local.faults(), 0);
    let error = error.expect("the second request fails");
    assert_eq!(error.kind, Kind::BadRequest, "{error}");
    assert!(used > 0, "the first request cost something");
    let charge = (error.request_charge * 1000.0).round() as u64;
    assert!(charge.abs_diff(used) <= 1, "{charge} of {used}");
}

#[test]
fn large_documents_by_key_come_in_pages_of_few() {
    let local = Local::start(&["c:/pk:1"]);
    let keys = fill_with_large(&local, 30);
    // Each twice, in two ways to write it.
    let list: Vec<_> = keys
        .iter()
        .flat_map(|(id, key)| {
            [format!(r#""{key}""#), format!(r#""\u006b{}""#, &key[1..])]
                .map(|key| format!(r#"{{"id":"{id}","partitionKey":[{key}]}}"#))
        })
        .collect();
    let list = format!("[{}]", list.join(","));
    let options = [("scan.read-many", list.as_str())];
    let found = splits(&local, &options);
    let source = local.source("c", &options);
    source.add_splits(found).unwrap();
    let mut ids = BTreeMap::new();
    loop {
        let page = take(&source, WAIT).unwrap();
        let bytes: usize = page.records.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes <= 8 << 20, "a page of {bytes} bytes");
        for (id, _) in page.records {
            *ids.entry(id).or_insert(0) += 1;
        }
        if page.finished.is_some() {
            break;
        }
    }
    assert_eq!(ids.len(), 30);
    assert!(ids.values().all(|n| *n == 1));
}

#[test]
fn a_state_with_a_stop_and_one_without_are_told_apart() {
    let local = Local::start(&["c:/pk:1"]);
    let time = |millis| {
        [
            ("scan.bounded.mode", "timestamp"),
            ("scan.bounded.timestamp-millis", millis),
        ]
    };
    // The beginning of 2031, and that of 2032.
    let (one, two) = (time("1924992000000"), time("1956528000000"));
    let all: [&[(&str, &str)]; 4] = [&[], &[STOP], &one, &two];
    for (n, with) in all.iter().enumerate() {
        let split = splits(&local, with).remove(0);
        let known = [cosmosflink_core::split::SplitEntry::assigned(split.clone())];
        for (m, now) in all.iter().enumerate() {
            let added = local.source("c", now).add_splits(vec![split.clone()]);
            let looked = local.enumerator("c", now).discover(&known);
            assert_eq!(
                (added.is_ok(), looked.is_ok()),
                (n == m, n == m),
                "{with:?} {now:?}"
            );
            let Err(error) = added else { continue };
            assert_eq!(error.kind, Kind::State);
            assert!(error.message.contains("scan.bounded.mode"), "{error}");
        }
    }
}
