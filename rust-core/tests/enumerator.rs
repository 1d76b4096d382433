//! A split enumerator's handle against a local account: what it looks for, how it ends, and that decisions do not wait for it.

mod support;

use std::sync::{mpsc, Arc};
use std::thread;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::coordinator::{decode_discovery, encode_event, Event, Failure, Found, Readers};
use cosmosflink_core::enumerator::SplitEnumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::frame::{FrameKind, FrameReader};
use cosmosflink_core::opening::Lifecycle;
use cosmosflink_core::split::{encode_state, Split, SplitEntry};
use serde_json::json;
use support::{Local, WAIT};

fn enumerator(options: &[(String, String)]) -> SplitEnumerator {
    SplitEnumerator::new(Config::parse(Role::Source, options).unwrap(), &[], true).unwrap()
}

/// A look, from its beginning to its end.
fn look(enumerator: &SplitEnumerator) -> Result<Found, Failure> {
    let frame = enumerator.discover(WAIT).unwrap().expect("it takes too long");
    decode_discovery(&frame).unwrap()
}

/// Splits that no reader has after the event, and how many things are to be done.
fn coordinate(enumerator: &SplitEnumerator, event: &Event) -> (u32, u32) {
    let nobody = Readers {
        parallelism: 1,
        ..Readers::default()
    };
    let frame = enumerator.coordinate(&encode_event(&nobody, event)).unwrap();
    let mut r = FrameReader::open(&frame, FrameKind::Actions).unwrap();
    (r.u32().unwrap(), r.u32().unwrap())
}

fn metadata_hangs(local: &Local) {
    local.admin(
        "faults",
        json!({"operations": "metadata", "delayMillis": 600_000}),
    );
}

#[test]
fn a_look_starts_from_what_the_coordinator_knows() {
    let local = Local::start(&["c:/pk:3"]);
    let enumerator = enumerator(&local.options("c", &[]));
    assert!(
        enumerator.await_open(Duration::ZERO).unwrap(),
        "nothing is connected before the first look"
    );
    let found = look(&enumerator).unwrap();
    assert_eq!(found.splits.len(), 3);
    let ranges = |splits: &[Split]| -> Vec<_> {
        let range = |s: &Split| (s.min.clone(), s.max.clone());
        splits.iter().map(range).collect()
    };
    assert_eq!(found.partitions, ranges(&found.splits));
    // Nobody has said yet what became of it.
    assert_eq!(look(&enumerator).unwrap(), found);
    assert_eq!(
        coordinate(&enumerator, &Event::Discovered(Ok(found.clone()))),
        (3, 0)
    );
    let again = look(&enumerator).unwrap();
    assert_eq!((again.splits, again.partitions), (vec![], found.partitions));
}

#[test]
fn what_the_first_look_fails_of_is_in_its_frame_and_the_next_connects_anew() {
    let local = Local::start(&["c:/pk:2"]);
    let missing = look(&enumerator(&local.options("nowhere", &[]))).unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound, "{missing:?}");
    assert!(missing.outlives_restart);
    // Until the key is in its file.
    let file = std::env::temp_dir().join(format!("cosmosflink-enumerator-key-{}", std::process::id()));
    std::fs::write(&file, "d3Jvbmc=").unwrap();
    let options: Vec<_> = local
        .options("c", &[("auth.key-file", file.to_str().unwrap())])
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    let enumerator = enumerator(&options);
    let refused = look(&enumerator).unwrap_err();
    assert_eq!((refused.kind, refused.status), (Kind::Auth, 401), "{refused:?}");
    assert!(!refused.outlives_restart);
    std::fs::write(&file, &local.key).unwrap();
    assert_eq!(look(&enumerator).unwrap().splits.len(), 2);
    // It is rotated while the connection is open.
    let fresh = local.account.regenerate();
    assert_eq!(look(&enumerator).unwrap_err().kind, Kind::Auth);
    std::fs::write(&file, &fresh).unwrap();
    assert_eq!(look(&enumerator).unwrap().splits.len(), 2);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_decision_does_not_wait_for_a_look_and_a_look_that_is_not_waited_for_goes_on() {
    let local = Local::start(&["c:/pk:2"]);
    let enumerator = enumerator(&local.options("c", &[]));
    metadata_hangs(&local);
    assert_eq!(enumerator.discover(Duration::from_millis(1)).unwrap(), None);
    let began = Instant::now();
    enumerator.wake_up();
    assert_eq!(enumerator.discover(WAIT).unwrap(), None, "it was woken up");
    assert_eq!(coordinate(&enumerator, &Event::Started), (0, 1));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_first_look_behind_a_restore_is_not_waited_for_without_end() {
    let local = Local::start(&["c:/pk:2"]);
    let found = look(&enumerator(&local.options("c", &[]))).unwrap().splits;
    let state: Vec<_> = found.into_iter().map(SplitEntry::assigned).collect();
    let state = encode_state(&state);
    // Throttling is waited out, for as long as it takes: that is no reason to read nothing.
    local.admin("faults", json!({"operations": "metadata", "status": 429}));
    let options = local.options("c", &[("request-timeout", "500")]);
    let config = Config::parse(Role::Source, &options).unwrap();
    let restored = SplitEnumerator::new(config, &state, false).unwrap();
    let failure = look(&restored).unwrap_err();
    assert_eq!(failure.kind, Kind::Transient, "{failure:?}");
    assert!(!failure.outlives_restart);
    // The next one waits.
    assert_eq!(restored.discover(Duration::from_millis(1500)).unwrap(), None);
    local.clear_faults();
    assert_eq!(look(&restored).unwrap().partitions.len(), 2);
}

#[test]
fn close_ends_a_look_that_hangs_and_is_idempotent() {
    let local = Local::start(&["c:/pk:2"]);
    for open in [false, true] {
        let enumerator = Arc::new(enumerator(&local.options("c", &[])));
        if open {
            assert_eq!(look(&enumerator).unwrap().splits.len(), 2);
        }
        metadata_hangs(&local);
        let (done, ended) = mpsc::channel();
        let looking = enumerator.clone();
        thread::spawn(move || done.send(looking.discover(WAIT)));
        assert!(ended.recv_timeout(Duration::from_millis(200)).is_err(), "{open}");
        enumerator.close();
        enumerator.close();
        let error = ended.recv_timeout(Duration::from_secs(5)).unwrap().unwrap_err();
        assert_eq!(error.kind, Kind::Closed);
        assert_eq!(enumerator.discover(WAIT).unwrap_err().kind, Kind::Closed);
        local.clear_faults();
    }
}
