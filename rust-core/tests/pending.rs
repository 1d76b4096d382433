//! What a reader has behind it, as an autoscaler sees it, and what it may use to catch up, over HTTP.

mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::metrics::SplitLag;
use cosmosflink_core::source::Source;
use serde_json::json;
use support::*;

const FEED: &str = "changeFeed";

fn fill(local: &Local, prefix: &str, count: usize) {
    let sink = local.sink("c", &[]);
    upserts(&sink, prefix, count, 10);
    outcomes(&sink, count);
    sink.close();
}

fn pending(source: &Source) -> usize {
    source.metrics().pending_records.load(Relaxed) as usize
}

fn pending_bytes(source: &Source) -> u64 {
    source.metrics().pending_bytes.load(Relaxed)
}

fn each(source: &Source) -> Vec<SplitLag> {
    source.metrics().splits_read.lock().unwrap().clone()
}

/// Takes pages until so many documents have come.
fn taken(source: &Source, count: usize) -> usize {
    let mut seen = 0;
    while seen < count {
        seen += take(source, WAIT).expect("a page").records.len();
    }
    seen
}

/// A page fits into the budget, and no second one.
const ONE_PAGE: [(&str, &str); 2] = [("scan.prefetch-size", "1048576"), ("scan.page-size", "100")];

#[test]
fn under_a_slow_job_the_lag_grows_as_the_container_says_and_falls_after() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 2000);
    let (source, splits) = local.source_of_all("c", &ONE_PAGE);
    until("all that is written is pending", || pending(&source) == 2000);
    let whole = pending_bytes(&source);
    let mut left = 2000;
    while left > 1500 {
        left -= taken(&source, 1);
        until("what was taken is not pending", || pending(&source) == left);
    }
    let ratio = pending_bytes(&source) as f64 / whole as f64;
    assert!(
        (0.7..0.8).contains(&ratio),
        "{ratio} of the bytes for {left} of 2000"
    );
    // The job stands still while others write: nothing is read, and the lag is heard of all the same.
    let documents = |r: &serde_json::Value| r["documents"].as_u64().unwrap();
    let sent = || local.requests(FEED).iter().map(documents).sum::<u64>() as usize;
    until("it has read ahead", || sent() == 2000 - left + 100);
    fill(&local, "b", 3000);
    left += 3000;
    until("what is written meanwhile is pending", || {
        pending(&source) == left
    });
    assert_eq!(sent(), 5000 - left + 100, "no document is sent for that");
    // Looked at once: the lag grows with the clock.
    let behind = each(&source);
    let lag_millis = behind[0].lag_millis;
    let split = SplitLag {
        lag_millis,
        id: splits[0].split.id(),
        records: left as u64,
    };
    assert_eq!(behind, [split]);
    assert!(lag_millis > 1000, "{lag_millis}");
    taken(&source, left);
    until("nothing is pending", || {
        (pending(&source), pending_bytes(&source)) == (0, 0)
    });
    // Idle, and looked at again and again.
    let asked = local.requests(FEED).len();
    until("it looks again", || {
        // The page that says so waits for the job as others do.
        take(&source, Duration::ZERO);
        assert_eq!((pending(&source), each(&source)[0].records), (0, 0));
        local.requests(FEED).len() > asked + 3
    });
    assert_eq!(each(&source)[0].lag_millis, 0);
}

#[test]
fn what_is_pending_is_right_behind_pages_that_were_given_back_and_behind_a_split() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 1000);
    let (source, splits) = local.source_of_all("c", &ONE_PAGE);
    until("all is pending", || pending(&source) == 1000);
    let id = splits[0].split.id();
    source.pause_or_resume(std::slice::from_ref(&id), &[]).unwrap();
    assert_eq!(pending(&source), 1000);
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    fill(&local, "b", 500);
    source.pause_or_resume(&[], &[id]).unwrap();
    taken(&source, 1500);
    until("nothing is pending", || pending(&source) == 0);
}

#[test]
fn pages_that_lead_nowhere_do_not_look_like_the_end() {
    let local = Local::start(&["c:/pk:1"]);
    fill(&local, "a", 300);
    local.admin(
        "faults",
        json!({"operations": "feed", "stillPages": true, "skip": 1, "count": 100_000}),
    );
    let (source, _) = local.source_of_all("c", &[("scan.page-size", "100")]);
    taken(&source, 100);
    let asked = local.requests(FEED).len();
    until("it asks in vain", || local.requests(FEED).len() > asked + 3);
    assert_eq!(pending(&source), 200);
    assert_eq!(each(&source)[0].records, 200);
    assert!(
        take(&source, Duration::ZERO).is_none(),
        "it is not read to its end"
    );
    local.clear_faults();
    taken(&source, 200);
    until("nothing is pending", || pending(&source) == 0);
}

#[test]
fn reading_uses_no_more_than_its_budget() {
    let local = Local::start(&["c:/pk:4"]);
    fill(&local, "a", 2000);
    let budget = [("scan.request-units-per-second", "40"), ("scan.page-size", "10")];
    let started = Instant::now();
    let (source, _) = local.source_of_all("c", &budget);
    assert_eq!(read(&source, 2000).len(), 2000);
    let metrics = source.metrics();
    let used = metrics.request_charge_milli.load(Relaxed) as f64 / 1000.0;
    let took = started.elapsed();
    assert!(used >= 200.0, "{used} request units for two hundred pages");
    // A second's worth at once, and what four splits have under way.
    assert!(
        used <= 40.0 * (took.as_secs_f64() + 1.0) + 8.0,
        "{used} request units in {took:?}"
    );
    assert!(metrics.budget_millis.load(Relaxed) > 1000);
    assert_eq!(metrics.throttled.load(Relaxed), 0);
    // Without one it takes no such time.
    let started = Instant::now();
    let (source, _) = local.source_of_all("c", &[("scan.page-size", "10")]);
    read(&source, 2000);
    assert!(
        started.elapsed() < took,
        "{:?} without a budget",
        started.elapsed()
    );
    assert_eq!(source.metrics().budget_millis.load(Relaxed), 0);
    assert!(took > Duration::from_secs(3));
}
