//! The source's pace, its budget and its failures, over HTTP.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::coordinator::{decode_discovery, Action, Coordinator, Event, Readers, Settings};
use cosmosflink_core::enumerator::SplitEnumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::leases::token::Position;
use cosmosflink_core::page::{RECORD_BYTES, RECORD_UNDECODABLE};
use cosmosflink_core::sink::OperationKind;
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{encode_state, Split, SplitEntry};
use serde_json::json;
use support::*;

const FEED: &str = "changeFeed";

fn fill(local: &Local, prefix: &str, count: usize, keys: usize) {
    let sink = local.sink("c", &[]);
    upserts(&sink, prefix, count, keys);
    outcomes(&sink, count);
    sink.close();
}

/// Waits until the source has sent no request for a while.
fn quiet(local: &Local) {
    let (mut seen, mut since) = (usize::MAX, Instant::now());
    until("no request comes", || {
        let now = local.requests(FEED).len();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(300)
    });
}

/// Documents that the server has sent in pages of the feed.
fn documents_sent(local: &Local) -> u64 {
    let sent = |r: &serde_json::Value| r["documents"].as_u64().unwrap();
    local.requests(FEED).iter().map(sent).sum()
}

fn lag(source: &Source) -> u64 {
    source.metrics().lag_millis.load(Relaxed)
}

fn held(source: &Source) -> u64 {
    source.metrics().held_millis.load(Relaxed)
}

/// What ends the source, and how many pages came before.
fn pages_until_failure(source: &Source) -> (Vec<Taken>, cosmosflink_core::error::CoreError) {
    let (deadline, mut pages) = (Instant::now() + WAIT, Vec::new());
    loop {
        assert!(
            Instant::now() < deadline,
            "no failure behind {} pages",
            pages.len()
        );
        match source.next_page(Duration::from_millis(100)) {
            Err(error) => return (pages, error),
            Ok(0) => {}
            Ok(_) => pages.extend(take(source, Duration::ZERO)),
        }
    }
}

#[test]
fn a_split_that_failed_is_heard_of_behind_its_own_pages_however_busy_the_others_are() {
    let local = Local::start(&["c:/pk:4"]);
    fill(&local, "a", 8000, 80);
    local.admin(
        "faults",
        json!({"operations": "feed", "partition": "1", "skip": 3, "status": 400, "message": "no more"}),
    );
    local.admin("faults", json!({"operations": "feed", "delayMillis": 10}));
    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "10")]);
    until("the split has failed", || {
        let failed = |r: &serde_json::Value| r["status"] == 400;
        local.requests(FEED).iter().any(failed)
    });
    quiet(&local);
    let asked = local.requests(FEED).len();
    assert!(asked < 100, "{asked} requests: the others went on to read");
    let (pages, error) = pages_until_failure(&source);
    assert_eq!(error.kind, Kind::BadRequest);
    let failed: Vec<_> = splits
        .iter()
        .map(|e| e.split.id())
        .filter(|id| error.message.contains(id.as_str()))
        .collect();
    assert_eq!(failed.len(), 1, "{error}");
    let own: Vec<_> = pages.iter().map(|p| p.split.id()).collect();
    assert_eq!(own, vec![failed[0].clone(); 3], "its own pages, and no others");
    assert_eq!(source.next_page(WAIT).unwrap_err().kind, Kind::BadRequest);
}

#[test]
fn the_poll_interval_bounds_what_a_trickling_feed_costs() {
    let local = Local::start(&["c:/pk:1"]);
    let (source, _) = local.source_of_all("c", &[("scan.poll-interval", "1000")]);
    let sink = local.sink("c", &[]);
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < Duration::from_secs(4) {
        upserts(&sink, &format!("w{written}"), 1, 1);
        outcomes(&sink, 1);
        written += 1;
        while take(&source, Duration::from_millis(50)).is_some() {}
    }
    let asked = local.requests(FEED).len();
    assert!(
        (3..=7).contains(&asked),
        "{asked} requests in 4 s, {written} writes"
    );
}

#[test]
fn by_default_a_feed_that_moves_is_looked_at_sooner() {
    let local = Local::start(&["c:/pk:1"]);
    let (source, _) = local.source_of_all("c", &[]);
    // Until its pauses are long.
    until("the feed counts as idle", || local.requests(FEED).len() >= 6);
    let sink = local.sink("c", &[]);
    let before = local.requests(FEED).len();
    for i in 0..20 {
        upserts(&sink, &format!("w{i}"), 1, 1);
        outcomes(&sink, 1);
        until("it is read", || {
            take(&source, Duration::from_millis(100)).is_some_and(|p| p.records.len() == 1)
        });
    }
    // A second for the first at most, then some 25 ms for each.
    let asked = local.requests(FEED).len() - before;
    assert!(asked >= 20, "{asked}");
    let millis: Vec<_> = local
        .requests(FEED)
        .iter()
        .map(|r| r["millis"].as_u64().unwrap())
        .collect();
    let shortest = millis.windows(2).skip(2).map(|w| w[1] - w[0]).min().unwrap();
    assert!(shortest >= 22, "{shortest} ms between two looks");
}

#[test]
fn full_pages_and_empty_ones_that_move_on_are_followed_at_once() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 1000, 10);
    local.admin(
        "faults",
        json!({"operations": "feed", "emptyPages": true, "share": 0.5, "count": 20}),
    );
    // Any pause would be longer than the test waits.
    let (source, _) = local.source_of_all("c", &[("scan.poll-interval", "600000"), ("scan.page-size", "50")]);
    assert_eq!(read(&source, 1000).len(), 1000);
}

#[test]
fn pages_that_end_early_do_not_slow_a_backlog_down() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 1000, 10);
    // Pages of some 20 documents where 1000 are asked for.
    local.admin("feed", json!({"pageBytes": 10000}));
    let (source, _) = local.source_of_all("c", &[("scan.poll-interval", "600000")]);
    assert_eq!(read(&source, 1000).len(), 1000);
}

#[test]
fn idle_children_of_a_split_partition_do_not_slow_the_busy_one() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    // One key: all of it in one child.
    upserts(&sink, "a", 100, 1);
    outcomes(&sink, 100);
    let options = [("scan.page-size", "10"), ("scan.poll-interval", "600000")];
    let (source, splits) = local.source_of_all("c", &options);
    let mut position = splits[0].split.clone();
    let mut seen = 0;
    while seen < 50 {
        let page = take(&source, WAIT).unwrap();
        seen += page.records.len();
        position = page.split;
    }
    source.close();
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    upserts(&sink, "b", 900, 1);
    outcomes(&sink, 900);
    let source = local.source("c", &options);
    source.add_splits(vec![position]).unwrap();
    let mut last = None;
    let mut records = BTreeMap::new();
    while records.len() < 950 {
        let page = take(&source, WAIT).unwrap();
        if page.records.is_empty() {
            // The end of the parent, and what the idle child has to say.
            continue;
        }
        assert!(!last.unwrap_or(false), "caught up before the last page");
        last = Some(page.caught_up);
        records.extend(page.records);
    }
    if last == Some(false) {
        // The last page was full: the end is told by an empty one.
        let end = take(&source, WAIT).unwrap();
        assert!(end.caught_up && end.records.is_empty());
    }
    // A look of each child that finds nothing, of the busy one at the end of all, and then silence.
    quiet(&local);
    let asked = local.requests(FEED);
    let unchanged = asked.iter().rev().take_while(|r| r["status"] == 304).count();
    assert!((1..=3).contains(&unchanged), "{unchanged} looks at the end");
}

#[test]
fn lag_grows_while_the_feed_is_throttled_and_is_gone_behind_it() {
    let local = Local::start(&["c:/pk:2"]);
    fill(&local, "a", 100, 10);
    let (source, _) = local.source_of_all("c", &[]);
    read(&source, 100);
    until("it is caught up", || lag(&source) == 0);
    local.admin(
        "faults",
        json!({"operations": "feed", "status": 429, "retryAfterMillis": 50}),
    );
    until("it shows", || lag(&source) >= 3000 && held(&source) >= 2000);
    local.clear_faults();
    until("it is over", || lag(&source) == 0 && held(&source) == 0);
}

#[test]
fn lag_grows_from_the_first_request_on_that_fails() {
    let local = Local::start(&["c:/pk:1"]);
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    local.admin("faults", json!({"operations": "feed", "status": 503}));
    let source = local.source("c", &[]);
    source
        .add_splits(splits.into_iter().map(|e| e.split).collect())
        .unwrap();
    until("it shows", || lag(&source) >= 1500 && held(&source) >= 1000);
}

#[test]
fn lag_is_that_of_the_slowest_child() {
    let local = Local::start(&["c:/pk:1"]);
    let (source, splits) = local.source_of_all("c", &[]);
    let position = take(&source, WAIT).unwrap().split;
    assert_eq!(position.id(), splits[0].split.id());
    source.close();
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    let source = local.source("c", &[]);
    source.add_splits(vec![position]).unwrap();
    until("both children were asked", || {
        take(&source, Duration::from_millis(10));
        let asked = local.requests(FEED);
        let partition = |r: &serde_json::Value| r["partition"].as_str().map(str::to_owned);
        let children: std::collections::BTreeSet<_> = asked
            .iter()
            .filter(|r| r["status"] == 304)
            .filter_map(partition)
            .filter(|p| p != "0")
            .collect();
        children.len() == 2
    });
    until("it is caught up", || lag(&source) == 0);
    let child = local
        .requests(FEED)
        .iter()
        .filter_map(|r| r["partition"].as_str().map(str::to_owned))
        .find(|p| p != "0")
        .unwrap();
    local.admin(
        "faults",
        json!({"operations": "feed", "partition": child, "status": 429, "retryAfterMillis": 20}),
    );
    until("it shows", || lag(&source) >= 3000);
}

#[test]
fn lag_grows_while_a_split_is_paused_or_the_budget_is_used_up() {
    let local = Local::start(&["c:/pk:1"]);
    let (source, splits) = local.source_of_all("c", &[]);
    let id = splits[0].split.id();
    until("it is caught up", || lag(&source) == 0);
    source.pause_or_resume(std::slice::from_ref(&id), &[]).unwrap();
    until("the pause shows", || lag(&source) >= 1500);
    assert_eq!(held(&source), 0);
    source.pause_or_resume(&[], &[id]).unwrap();
    until("it is over", || lag(&source) == 0);
    source.close();

    fill(&local, "a", 4000, 10);
    let (source, _) = local.source_of_all(
        "c",
        &[("scan.prefetch-size", "1048576"), ("scan.page-size", "200")],
    );
    until("pages wait", || source.metrics().bytes_buffered.load(Relaxed) > 0);
    quiet(&local);
    until("it shows", || lag(&source) >= 3000);
}

#[test]
fn a_pause_keeps_what_was_prefetched() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 2000, 10);
    let (source, splits) = local.source_of_all(
        "c",
        &[("scan.page-size", "100"), ("scan.poll-interval", "600000")],
    );
    until("all is prefetched", || documents_sent(&local) == 2000);
    quiet(&local);
    let buffered = source.metrics().bytes_buffered.load(Relaxed);
    let id = splits[0].split.id();
    source.pause_or_resume(std::slice::from_ref(&id), &[]).unwrap();
    assert!(take(&source, Duration::from_millis(100)).is_none());
    assert_eq!(source.metrics().bytes_buffered.load(Relaxed), buffered);
    source.pause_or_resume(&[], &[id]).unwrap();
    assert_eq!(read(&source, 2000).len(), 2000);
    // The end is told by an empty page, since the last one was full.
    while take(&source, Duration::from_millis(100)).is_some() {}
    assert_eq!(documents_sent(&local), 2000, "pages were fetched again");
    assert_eq!(source.metrics().bytes_buffered.load(Relaxed), 0);
}

#[test]
fn a_paused_split_does_not_starve_the_others() {
    let local = Local::start(&["c:/pk:2"]);
    fill(&local, "a", 4000, 40);
    let options = [("scan.prefetch-size", "1048576"), ("scan.page-size", "100")];
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    let source = local.source("c", &options);
    // The first fills the budget alone, and is paused then.
    let (first, other) = (splits[0].split.clone(), splits[1].split.clone());
    source.add_splits(vec![first.clone()]).unwrap();
    until("pages wait", || source.metrics().bytes_buffered.load(Relaxed) > 0);
    quiet(&local);
    source.pause_or_resume(&[first.id()], &[]).unwrap();
    source.add_splits(vec![other.clone()]).unwrap();
    let mut seen = BTreeMap::new();
    let mut take_new = |page: Taken| {
        for (id, document) in page.records {
            assert!(seen.insert(id.clone(), document).is_none(), "{id} came twice");
        }
        seen.len()
    };
    loop {
        let page = take(&source, WAIT).unwrap();
        assert_eq!(page.split.id(), other.id());
        let end = page.caught_up;
        take_new(page);
        if end {
            break;
        }
    }
    source.pause_or_resume(&[], &[first.id()]).unwrap();
    while take_new(take(&source, WAIT).unwrap()) < 4000 {}
}

#[test]
fn an_answer_that_is_too_large_is_asked_for_in_smaller_pages() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 2000, 10);
    local.admin("requests", json!({"headers": ["x-ms-max-item-count"]}));
    local.admin(
        "faults",
        json!({"operations": "feed", "status": 413, "subStatus": 3402, "count": 3}),
    );
    let (source, _) = local.source_of_all("c", &[("scan.page-size", "160")]);
    assert_eq!(read(&source, 2000).len(), 2000);
    let sizes: Vec<u64> = local
        .requests(FEED)
        .iter()
        .map(|r| {
            r["headers"]["x-ms-max-item-count"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(sizes[..4], [160, 80, 40, 20]);
    assert_eq!(sizes.iter().max(), Some(&160));
    assert!(sizes[4..].contains(&40) && sizes[4..].contains(&80), "{sizes:?}");
}

#[test]
fn a_recreated_container_ends_the_source_for_good() {
    for unread in [false, true] {
        let local = Local::start(&["c:/pk:1"]);
        fill(&local, "a", 10, 1);
        let recreate = || local.admin("recreate", json!({"database": "orders", "container": "c"}));
        let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
        let source = local.source("c", &[]);
        let mut position = splits[0].split.clone();
        if unread {
            // The first request already meets the new container.
            recreate();
            source.add_splits(vec![position.clone()]).unwrap();
        } else {
            source.add_splits(vec![position.clone()]).unwrap();
            position = take(&source, WAIT).unwrap().split;
            recreate();
        }
        fill(&local, "b", 10, 1);
        let (pages, error) = pages_until_failure(&source);
        assert!(
            pages.iter().all(|p| p.records.is_empty()),
            "documents of the new container"
        );
        assert_eq!(error.kind, Kind::State, "{error}");
        assert!(
            error.message.contains("without"),
            "what to do is missing: {error}"
        );
        source.close();

        // The restart: the position is refused at once or at the first request, again with the reason.
        let source = local.source("c", &[]);
        let error = match source.add_splits(vec![position]) {
            Err(error) => error,
            Ok(()) => pages_until_failure(&source).1,
        };
        assert_eq!(error.kind, Kind::State, "{error}");
    }
}

#[test]
fn a_damaged_position_is_final() {
    let local = Local::start(&["c:/pk:1"]);
    let mut split = local.enumerator("c", &[]).discover(&[]).unwrap()[0].split.clone();
    for token in ["c1.!!", "c1.e30", "c9.e30", "\"7\""] {
        split.continuation = Some(token.to_owned());
        let source = local.source("c", &[("retry.deadline", "1000")]);
        source.add_splits(vec![split.clone()]).unwrap();
        let (_, error) = pages_until_failure(&source);
        assert_eq!(error.kind, Kind::State, "{token}: {error}");
    }
}

#[test]
fn idling_does_not_count_towards_the_deadline() {
    let local = Local::start(&["c:/pk:1"]);
    let options = [
        ("retry.deadline", "500"),
        ("retry.backoff", "10"),
        ("retry.max-backoff", "50"),
    ];
    let (source, _) = local.source_of_all("c", &options);
    until("it has idled for longer than the deadline", || {
        let millis = |r: &serde_json::Value| r["millis"].as_u64().unwrap();
        let asked = local.requests(FEED);
        asked.len() > 2 && millis(asked.last().unwrap()) - millis(&asked[0]) > 1000
    });
    local.admin("faults", json!({"operations": "feed", "status": 503, "count": 3}));
    until("it failed", || local.faults() == 0);
    fill(&local, "a", 10, 1);
    assert_eq!(read(&source, 10).len(), 10);
}

#[test]
fn a_pause_between_two_failures_does_not_count_towards_the_deadline() {
    let local = Local::start(&["c:/pk:1"]);
    let options = [
        ("retry.deadline", "1000"),
        ("retry.backoff", "100"),
        ("retry.max-backoff", "200"),
    ];
    let (source, splits) = local.source_of_all("c", &options);
    let id = splits[0].split.id();
    until("it runs", || !local.requests(FEED).is_empty());
    local.admin("faults", json!({"operations": "feed", "status": 503}));
    let retries = || source.metrics().retries.load(Relaxed);
    until("it failed", || retries() > 0);
    source.pause_or_resume(std::slice::from_ref(&id), &[]).unwrap();
    until("the pause is longer than the deadline", || lag(&source) > 3000);
    let before = retries();
    source.pause_or_resume(&[], &[id]).unwrap();
    until("it failed again", || retries() > before);
    local.clear_faults();
    fill(&local, "a", 10, 1);
    assert_eq!(read(&source, 10).len(), 10);
}

#[test]
fn a_source_whose_requests_hang_is_woken_and_closed_in_time() {
    let local = Local::start(&["c:/pk:2"]);
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    local.admin("faults", json!({"operations": "feed", "hang": true}));
    let source = local.source("c", &[]);
    source
        .add_splits(splits.into_iter().map(|e| e.split).collect())
        .unwrap();
    until("requests hang", || {
        source.metrics().requests_in_flight.load(Relaxed) == 2
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| source.next_page(WAIT));
        source.wake_up();
        assert_eq!(waiting.join().unwrap().unwrap(), 0);
        let waiting = scope.spawn(|| source.next_page(WAIT));
        let started = Instant::now();
        source.close();
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(waiting.join().unwrap().unwrap_err().kind, Kind::Closed);
    });
    assert_eq!(source.metrics().requests_in_flight.load(Relaxed), 0);
    assert_eq!(source.add_splits(Vec::new()).unwrap_err().kind, Kind::Closed);
}

#[test]
fn an_answer_that_is_cut_off_is_asked_for_again() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 500, 10);
    local.admin(
        "faults",
        json!({"operations": "feed", "cutAfterBytes": 5000, "count": 3}),
    );
    let (source, _) = local.source_of_all("c", &[("scan.page-size", "100")]);
    assert_eq!(read(&source, 500).len(), 500);
}

#[test]
fn a_document_that_cannot_be_decoded_follows_the_option() {
    // Half a surrogate pair, and bytes that are no UTF-8.
    for (with, shown) in [
        (r"half \ud800", "half \u{fffd}"),
        ("half \u{ff}", "half \u{fffd}"),
    ] {
        let local = Local::start(&["c:/pk:1"]);
        fill(&local, "good", 3, 1);
        let sink = local.sink("c", &[]);
        submit(
            &sink,
            1,
            OperationKind::Upsert,
            "whole",
            "[\"k\"]",
            r#"{"id":"whole","pk":"k"}"#,
        );
        outcomes(&sink, 1);
        local.admin(
            "faults",
            json!({"operations": "feed", "replace": {"text": "whole", "with": with}}),
        );
        let open = |policy| local.source_of_all("c", &[("json.on-error", policy)]).0;

        let error = pages_until_failure(&open("fail")).1;
        assert_eq!(error.kind, Kind::BadRequest);
        for part in [shown, "[\"k\"]", "split 00-FF", "write "] {
            assert!(error.message.contains(part), "{part} is missing: {error}");
        }

        let source = open("skip-row");
        assert_eq!(read(&source, 3).len(), 3);
        assert_eq!(source.metrics().undecodable.load(Relaxed), 1);

        let source = open("raw");
        assert!(source.next_page(WAIT).unwrap() > 0);
        assert_eq!(source.metrics().undecodable.load(Relaxed), 0, "nobody has it yet");
        let frame = source.take_page().unwrap();
        let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
        let flags: Vec<_> = (0..word(4))
            .map(|i| frame[word(8) + i * RECORD_BYTES + 49])
            .collect();
        assert_eq!(flags, [0, 0, 0, RECORD_UNDECODABLE]);
        let bytes: Vec<u8> = with.chars().map(|c| c as u32 as u8).collect();
        assert!(frame.windows(bytes.len()).any(|w| w == bytes), "its own bytes");
        assert_eq!(source.metrics().undecodable.load(Relaxed), 1);
    }
}

#[test]
fn a_page_that_is_broken_itself_is_asked_for_again_and_fails_at_the_deadline() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 10, 1);
    let fault = |count: u64| {
        local.admin(
            "faults",
            json!({"operations": "feed", "count": count, "replace": {"text": "\"Documents\"", "with": "Documents"}}),
        );
    };
    let options = [("json.on-error", "skip-row"), ("retry.deadline", "1500")];
    fault(2);
    let (source, _) = local.source_of_all("c", &options);
    assert_eq!(read(&source, 10).len(), 10);
    fault(1_000_000);
    let (source, _) = local.source_of_all("c", &options);
    let (pages, error) = pages_until_failure(&source);
    assert!(pages.is_empty());
    assert_eq!(error.kind, Kind::Transient, "{error}");
}

/// Splits a partition in the middle; its children.
fn split_partition(local: &Local, partition: &str) -> Vec<String> {
    let answer = local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": partition}),
    );
    let ids = answer["partitions"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
        .collect()
}

#[test]
fn pages_that_stay_broken_end_at_the_deadline_whatever_the_other_ranges_answer() {
    let spoilt = json!({"operations": "feed", "replace": {"text": "\"Documents\"", "with": "Documents"}});
    let cut = json!({"operations": "feed", "cutAfterBytes": 50});
    for (fault, split) in [(&spoilt, true), (&spoilt, false), (&cut, false)] {
        let local = Local::start(&["c:/pk:1"]);
        let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
        if split {
            split_partition(&local, "0");
        }
        // One key: the other range has nothing, and answers well.
        fill(&local, "a", 10, 1);
        local.admin("faults", fault.clone());
        let options = [("retry.deadline", "3000"), ("retry.backoff", "50")];
        let source = local.source("c", &options);
        source
            .add_splits(splits.into_iter().map(|e| e.split).collect())
            .unwrap();
        until("it shows", || {
            take(&source, Duration::from_millis(10));
            held(&source) >= 1000
        });
        let (pages, error) = pages_until_failure(&source);
        assert!(pages.iter().all(|p| p.records.is_empty()));
        assert_eq!(error.kind, Kind::Transient, "{error}");
        let retries = source.metrics().retries.load(Relaxed);
        assert!((3..20).contains(&retries), "{retries} retries in 3 s");
    }
}

#[test]
fn a_reader_that_is_closed_during_a_look_for_partitions_leaves_no_trap_for_others() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 10, 1);
    let options = [("request-timeout", "5000"), ("scan.poll-interval", "100")];
    // Shares the account with the reader, and outlives it.
    let enumerator = local.enumerator("c", &options);
    let splits = enumerator.discover(&[]).unwrap();
    let source = local.source("c", &options);
    source.add_splits(vec![splits[0].split.clone()]).unwrap();
    read(&source, 10);
    local.admin(
        "faults",
        json!({"operations": "pkranges", "hang": true, "count": 1}),
    );
    split_partition(&local, "0");
    until("the reader looks for the partitions", || local.faults() == 0);
    source.close();
    let started = Instant::now();
    assert!(enumerator.discover(&splits).unwrap().is_empty());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn now_is_fixed_for_each_range_of_a_partition_that_splits_meanwhile() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "old", 10, 10);
    let enumerator = local.enumerator("c", &[("scan.startup.mode", "latest")]);
    local.admin("faults", json!({"operations": "feed", "status": 503}));
    let splits = std::thread::scope(|scope| {
        let discovery = scope.spawn(|| enumerator.discover(&[]).unwrap());
        until("now is asked for", || !local.requests(FEED).is_empty());
        split_partition(&local, "0");
        local.clear_faults();
        discovery.join().unwrap()
    });
    fill(&local, "new", 100, 20);
    let source = local.source("c", &[]);
    source
        .add_splits(splits.into_iter().map(|e| e.split).collect())
        .unwrap();
    let all = read(&source, 100);
    assert!(all.keys().all(|id| id.starts_with("new")));
}

#[test]
fn an_idle_child_does_not_vouch_for_the_pages_of_a_busy_one_that_end_early() {
    let local = Local::start(&["c:/pk:1"]);
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    split_partition(&local, "0");
    fill(&local, "a", 1000, 1);
    local.admin("feed", json!({"pageBytes": 10000}));
    let source = local.source("c", &[("scan.poll-interval", "600000")]);
    source.add_splits(vec![splits[0].split.clone()]).unwrap();
    let mut seen = 0;
    while seen < 1000 {
        let page = take(&source, WAIT).unwrap();
        seen += page.records.len();
        let idle = page.records.is_empty();
        assert!(!page.caught_up || idle || seen == 1000, "caught up after {seen}");
    }
}

#[test]
fn empty_pages_without_end_are_not_asked_for_without_end() {
    for idle_before in [true, false] {
        let local = Local::start(&["c:/pk:1"]);
        fill(&local, "a", 10, 1);
        let fault = || local.admin("faults", json!({"operations": "feed", "emptyPages": true}));
        if !idle_before {
            fault();
        }
        let (source, _) = local.source_of_all("c", &[("scan.poll-interval", "1000")]);
        if idle_before {
            read(&source, 10);
            until("the end is known", || local.requests(FEED).len() >= 2);
            fault();
        }
        let before = local.requests(FEED).len();
        let started = Instant::now();
        until("it was watched", || started.elapsed() >= Duration::from_secs(4));
        let asked = local.requests(FEED).len() - before;
        let most = if idle_before { 6 } else { 24 };
        assert!(asked <= most, "{asked} requests in 4 s");
        if idle_before {
            assert_eq!(lag(&source), 0);
        }
        local.clear_faults();
        fill(&local, "b", 10, 1);
        read(&source, if idle_before { 10 } else { 20 });
    }
}

#[test]
fn pages_that_were_given_back_come_as_soon_as_the_pause_ends() {
    let local = Local::start(&["c:/pk:2"]);
    let count = 8000;
    fill(&local, "a", count, 80);
    let options = [("scan.prefetch-size", "7340032"), ("scan.poll-interval", "60000")];
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    let source = local.source("c", &options);
    let (first, other) = (splits[0].split.clone(), splits[1].split.clone());
    source.add_splits(vec![first.clone()]).unwrap();
    // The last page alone says that it is the end where no write of another partition came behind it.
    let at_end = || {
        let asked = local.requests(FEED);
        let full = |r: &serde_json::Value| r["documents"].as_u64() == Some(1000);
        asked.iter().any(|r| r["status"] == 304 || !full(r))
    };
    until("it rests at its end", || {
        at_end() && source.metrics().requests_in_flight.load(Relaxed) == 0
    });
    source.pause_or_resume(&[first.id()], &[]).unwrap();
    let sent = documents_sent(&local);
    source.add_splits(vec![other.clone()]).unwrap();
    let page = take(&source, WAIT).unwrap();
    assert_eq!(page.split.id(), other.id());
    let mut seen = page.records.len();
    let resumed = Instant::now();
    source.pause_or_resume(&[], &[first.id()]).unwrap();
    while seen < count {
        let page = take(&source, Duration::from_secs(20)).expect("the pages that were given back");
        seen += page.records.len();
    }
    let took = resumed.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let again = documents_sent(&local) - count as u64;
    assert!(
        again > 0 && again < sent,
        "{again} of {sent} documents came twice"
    );
    until("nothing is behind", || lag(&source) == 0);
}

#[test]
fn lag_counts_from_the_oldest_page_that_the_job_has_not_taken() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 10, 1);
    let written = Instant::now();
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    until("the documents are old", || {
        written.elapsed() >= Duration::from_secs(4)
    });
    // In the queue, or announced.
    for announced in [false, true] {
        let source = local.source("c", &[]);
        source.add_splits(vec![splits[0].split.clone()]).unwrap();
        if announced {
            assert!(source.next_page(WAIT).unwrap() > 0);
        }
        let opened = Instant::now();
        until("their age shows", || lag(&source) >= 4000);
        assert!(opened.elapsed() < Duration::from_secs(3));
        until("it grows", || lag(&source) >= 8000);
        read(&source, 10);
        until("nothing is behind", || lag(&source) == 0);
    }
}

#[test]
fn a_writer_that_is_closed_during_a_look_for_partitions_leaves_no_trap_for_others() {
    let local = Local::start(&["c:/pk:1"]);
    let options = [("request-timeout", "5000")];
    let enumerator = local.enumerator("c", &options);
    let splits = enumerator.discover(&[]).unwrap();
    let sink = local.sink("c", &options);
    upserts(&sink, "a", 10, 1);
    outcomes(&sink, 10);
    local.admin(
        "faults",
        json!({"operations": ["write", "bulk"], "status": 410, "subStatus": 1002, "count": 1}),
    );
    local.admin(
        "faults",
        json!({"operations": "pkranges", "hang": true, "count": 1}),
    );
    upserts(&sink, "b", 10, 1);
    until("the writer looks for the partitions", || local.faults() == 0);
    sink.close();
    let started = Instant::now();
    assert!(enumerator.discover(&splits).unwrap().is_empty());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Takes pages until `count` documents came, as `id` to the split that it came with, and the ends of splits with their children.
fn read_with_splits(
    source: &Source,
    count: usize,
) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let (mut records, mut ends) = (BTreeMap::new(), BTreeMap::new());
    let deadline = Instant::now() + WAIT;
    while records.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} documents",
            records.len()
        );
        let Some(page) = take(source, Duration::from_millis(200)) else {
            continue;
        };
        let split = page.split.id();
        assert!(
            !ends.contains_key(&split),
            "a page of {split} behind its last one"
        );
        for (id, _) in page.records {
            let before = records.insert(id.clone(), split.clone());
            assert!(before.is_none(), "{id} came twice, of {before:?} and of {split}");
        }
        if let Some(children) = page.finished {
            ends.insert(split, children.iter().map(Split::id).collect());
        }
    }
    (records, ends)
}

#[test]
fn a_partition_that_splits_while_it_is_read_goes_on_as_children_of_their_own() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 200, 20);
    let (source, splits) = local.source_of_all("c", &[("scan.page-size", "30")]);
    let (before, ends) = read_with_splits(&source, 200);
    assert!(before.values().all(|split| *split == splits[0].split.id()));
    assert!(ends.is_empty());

    let partitions = split_partition(&local, "0");
    fill(&local, "b", 200, 20);
    let (after, ends) = read_with_splits(&source, 200);
    let children = &ends[&splits[0].split.id()];
    assert_eq!(children.len(), 2, "{ends:?}");
    for child in children {
        assert!(after.values().any(|split| split == child), "nothing of {child}");
    }
    assert!(after.values().all(|split| children.contains(split)), "{after:?}");
    assert_eq!(source.metrics().splits.load(Relaxed), 2);
    // Flink may still hold a split back that has ended meanwhile.
    source.pause_or_resume(&[splits[0].split.id()], &[]).unwrap();

    // And once more: a child splits.
    split_partition(&local, &partitions[1]);
    fill(&local, "c", 200, 20);
    let (youngest, ends) = read_with_splits(&source, 200);
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert!(ends.keys().all(|parent| children.contains(parent)));
    let of: std::collections::BTreeSet<_> = youngest.into_values().collect();
    assert_eq!(of.len(), 3, "{of:?}");
}

/// What a restored enumerator gives to its one reader, which reports these splits.
fn restored(local: &Local, splits: &[Split]) -> Vec<Split> {
    let options = local.options("c", &[]);
    let config = Config::parse(Role::Source, &options).unwrap();
    let state: Vec<_> = splits.iter().cloned().map(SplitEntry::assigned).collect();
    let state = encode_state(&state);
    let enumerator = SplitEnumerator::new(config.clone(), &state, false).unwrap();
    let mut coordinator = Coordinator::new(Settings::of(&config), &state, false).unwrap();
    let readers = Readers {
        parallelism: 1,
        registered: [0].into(),
    };
    let mut given = Vec::new();
    let mut on = |event| {
        for action in coordinator.on(&readers, event) {
            if let Action::Assign(assignment) = action {
                given.extend(assignment.into_values().flatten());
            }
        }
    };
    on(Event::Started);
    on(Event::ReaderRegistered {
        subtask: 0,
        reported: splits.to_vec(),
    });
    let look = enumerator.discover(WAIT).unwrap().expect("it takes too long");
    on(Event::Discovered(decode_discovery(&look).unwrap()));
    given
}

#[test]
fn the_splits_of_merged_partitions_are_read_as_one_behind_a_restore_where_they_are_equally_far() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 200, 20);
    let (source, _) = local.source_of_all("c", &[]);
    read_with_splits(&source, 200);
    let children = split_partition(&local, "0");
    fill(&local, "b", 200, 20);
    read_with_splits(&source, 200);
    local.admin(
        "merge",
        json!({"database": "orders", "container": "c", "partitions": children}),
    );
    // Both read the merged partition, to its end.
    fill(&local, "c", 200, 20);
    let (mut splits, mut seen) = (BTreeMap::new(), 0);
    let number = |split: &Split| {
        let position = Position::decode(split.continuation.as_deref().unwrap()).unwrap();
        let read = position.covering(&split.min, &split.max).unwrap();
        read.into_iter().map(|range| range.etag).collect::<Vec<_>>()
    };
    until("both are at the end", || {
        if let Some(page) = take(&source, Duration::from_millis(100)) {
            seen += page.records.len();
            splits.insert(page.split.id(), page.split);
        }
        let numbers: Vec<_> = splits.values().map(number).collect();
        seen == 200 && numbers.len() == 2 && numbers[0] == numbers[1]
    });
    source.close();
    let splits: Vec<_> = splits.into_values().collect();
    let given = restored(&local, &splits);
    assert_eq!(given.len(), 1, "{given:?}");
    assert_eq!(number(&given[0]), number(&splits[0]));

    // It goes on behind what both have read, with the writes to either half.
    let source = local.source("c", &[]);
    source.add_splits(given.clone()).unwrap();
    fill(&local, "d", 200, 20);
    let (records, ends) = read_with_splits(&source, 200);
    assert!(ends.is_empty(), "{ends:?}");
    assert!(records.keys().all(|id| id.starts_with("d-")), "{records:?}");
    assert!(take(&source, Duration::from_millis(300)).is_none_or(|page| page.records.is_empty()));
    source.close();

    // Where one has read on, each reads its own range.
    let apart = vec![
        splits[0].clone(),
        Split {
            continuation: given[0].continuation.clone(),
            ..splits[1].clone()
        },
    ];
    assert_eq!(
        restored(&local, &apart).len(),
        1,
        "a position of the whole counts for a part"
    );
    let source = local.source("c", &[]);
    source.add_splits(vec![apart[1].clone()]).unwrap();
    let mut ahead = apart[1].clone();
    until("it is at the end", || {
        if let Some(page) = take(&source, Duration::from_millis(100)) {
            ahead = page.split;
        }
        number(&ahead) != number(&splits[0])
    });
    source.close();
    let given = restored(&local, &[splits[0].clone(), ahead.clone()]);
    assert_eq!(given, [splits[0].clone(), ahead]);
}

#[test]
fn a_position_of_several_ranges_is_parted_before_anything_is_read() {
    let local = Local::start(&["c:/pk:1"]);
    let enumerator = local.enumerator("c", &[("scan.startup.mode", "latest")]);
    local.admin("faults", json!({"operations": "feed", "status": 503}));
    let splits = std::thread::scope(|scope| {
        let discovery = scope.spawn(|| enumerator.discover(&[]).unwrap());
        until("now is asked for", || !local.requests(FEED).is_empty());
        split_partition(&local, "0");
        local.clear_faults();
        discovery.join().unwrap()
    });
    // As older versions have it in their savepoints: one split, whose position names two ranges.
    assert_eq!(splits.len(), 1);
    fill(&local, "new", 100, 20);
    let parent = splits[0].split.clone();
    let source = local.source("c", &[]);
    source.add_splits(vec![parent.clone()]).unwrap();
    let first = take_alone(&source, WAIT).unwrap();
    assert!(first.records.is_empty() && !first.caught_up);
    assert_eq!(first.split, parent, "the position stays");
    let children = first.finished.unwrap();
    let bounds: Vec<_> = children
        .iter()
        .map(|c| (c.min.as_str(), c.max.as_str()))
        .collect();
    let [(low, middle), (same, high)] = bounds[..] else {
        panic!("{bounds:?}")
    };
    assert_eq!(
        (low, middle, high),
        (parent.min.as_str(), same, parent.max.as_str())
    );
    assert!(children
        .iter()
        .all(|c| c.continuation == parent.continuation && c.ordinal == parent.ordinal));
    // A reader that is killed before a checkpoint has the children begins with the parent again, and ends it in the same way.
    source.close();
    let source = local.source("c", &[]);
    source.add_splits(vec![parent]).unwrap();
    let again = take_alone(&source, WAIT).unwrap();
    assert_eq!(again.finished.as_ref(), Some(&children));
    source.add_splits(children).unwrap();
    let (records, ends) = read_with_splits(&source, 100);
    assert!(ends.is_empty() && records.keys().all(|id| id.starts_with("new")));
}

#[test]
fn a_paused_parent_that_was_split_twice_ends_in_favour_of_three_once_it_goes_on() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 50, 20);
    let (source, splits) = local.source_of_all("c", &[]);
    let id = splits[0].split.id();
    read(&source, 50);
    source.pause_or_resume(std::slice::from_ref(&id), &[]).unwrap();
    let partitions = split_partition(&local, "0");
    split_partition(&local, &partitions[0]);
    fill(&local, "b", 200, 40);
    assert!(
        take(&source, Duration::from_millis(300)).is_none(),
        "it is held back"
    );
    source.pause_or_resume(&[], std::slice::from_ref(&id)).unwrap();
    let (records, ends) = read_with_splits(&source, 200);
    let children: usize = ends.values().map(Vec::len).sum();
    assert_eq!(children - (ends.len() - 1), 3, "{ends:?}");
    let of: std::collections::BTreeSet<_> = records.into_values().collect();
    assert_eq!(of.len(), 3, "{of:?}");
    assert_eq!(source.metrics().splits.load(Relaxed), 3);
    assert_eq!(source.metrics().splits_paused.load(Relaxed), 0);
}

#[test]
fn a_container_has_as_many_splits_as_are_asked_for() {
    for (container, expected) in [("c:/pk:1", 4), ("c:/pk:3", 6)] {
        let local = Local::start(&[container]);
        fill(&local, "a", 400, 80);
        let options = [("scan.min-splits", "4")];
        let (source, splits) = local.source_of_all("c", &options);
        assert_eq!(splits.len(), expected, "{container}");
        let (records, ends) = read_with_splits(&source, 400);
        assert!(ends.is_empty(), "parts of a partition are whole: {ends:?}");
        for split in &splits {
            let id = split.split.id();
            let share = records.values().filter(|of| **of == id).count();
            assert!((10..250).contains(&share), "{share} of 400 are of {id}");
        }
        // Later looks find nothing new, whatever is asked for.
        let more = [("scan.min-splits", "100")];
        assert!(local.enumerator("c", &more).discover(&splits).unwrap().is_empty());
    }
}
