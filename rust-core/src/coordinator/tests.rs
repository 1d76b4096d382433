use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::{Role, Start, StopAt};
use crate::leases::token::{Position, Ranged};
use crate::split::{uncovered, Mode, Reads, Stop};

fn settings() -> Settings {
    Settings {
        container: "orders".into(),
        reads: Reads {
            mode: Mode::LatestVersion,
            stop: StopAt::Never,
            query: None,
        },
        discovery_interval_ms: 1000,
        bounded: false,
        min_splits: 1,
        backlog_threshold_ms: 0,
        key_in_graph: false,
    }
}

fn at(ordinal: u32, min: &str, max: &str, position: &str) -> Split {
    Split {
        ordinal,
        container_rid: "rid".into(),
        min: min.into(),
        max: max.into(),
        start: Start::Beginning,
        continuation: Some(position.to_owned()).filter(|p| !p.is_empty()),
        mode: Mode::LatestVersion,
        stop: Stop::Never,
        then: None,
        fingerprint: None,
    }
}

/// Bound `n` of a key space of `N` ranges; the first is open, as that of the service is.
fn bound(n: usize) -> String {
    match n {
        0 => String::new(),
        N => "FF".into(),
        n => format!("{n:02X}"),
    }
}

const N: usize = 12;

fn range(ordinal: u32) -> Split {
    let n = ordinal as usize;
    at(ordinal, &bound(n), &bound(n + 1), "")
}

fn readers(parallelism: u32, registered: &[u32]) -> Readers {
    Readers {
        parallelism,
        registered: registered.iter().copied().collect(),
    }
}

fn fresh() -> Coordinator {
    Coordinator::new(settings(), &[], true).unwrap()
}

fn restored(entries: &[(u32, bool)]) -> Coordinator {
    let entries: Vec<_> = entries
        .iter()
        .map(|(ordinal, assigned)| SplitEntry {
            split: range(*ordinal),
            assigned: *assigned,
        })
        .collect();
    Coordinator::new(settings(), &split::encode_state(&entries), true).unwrap()
}

fn discovered(splits: Vec<Split>) -> Event {
    Event::Discovered(Ok(Found {
        splits,
        partitions: Vec::new(),
    }))
}

fn found(ordinals: impl IntoIterator<Item = u32>) -> Event {
    discovered(ordinals.into_iter().map(range).collect())
}

fn register(subtask: u32) -> Event {
    Event::ReaderRegistered {
        subtask,
        reported: Vec::new(),
    }
}

/// Ordinals of what is assigned, by subtask.
fn assigned(actions: &[Action]) -> BTreeMap<u32, Vec<u32>> {
    let mut out = BTreeMap::new();
    for action in actions {
        if let Action::Assign(assignment) = action {
            for (subtask, splits) in assignment {
                out.insert(*subtask, splits.iter().map(|s| s.ordinal).collect());
            }
        }
    }
    out
}

fn flags(coordinator: &Coordinator) -> Vec<bool> {
    coordinator.known().iter().map(|e| e.assigned).collect()
}

#[test]
fn a_source_that_ends_says_nothing_of_a_backlog() {
    let threshold = |more: &[(&str, &str)]| {
        let given: Vec<_> = [
            ("endpoint", "https://localhost:443/"),
            ("database", "d"),
            ("container", "c"),
            ("auth.secret-key", "a2V5"),
            ("scan.backlog-threshold", "60000"),
        ]
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        Settings::of(&Config::parse(Role::Source, &given).unwrap()).backlog_threshold_ms
    };
    assert_eq!(threshold(&[]), 60_000);
    for ends in [("scan.bounded.mode", "latest"), ("scan.query", "SELECT * FROM c")] {
        assert_eq!(threshold(&[ends]), 0, "{ends:?}");
    }
}

#[test]
fn a_backlog_is_told_of_once_and_anew_after_a_failover() {
    let settings = Settings {
        backlog_threshold_ms: 60_000,
        ..settings()
    };
    let readers = Readers {
        parallelism: 2,
        registered: [0, 1].into(),
    };
    let report = |subtask, lag_millis| Event::LagReported { subtask, lag_millis };
    let mut first = Coordinator::new(settings.clone(), &[], true).unwrap();
    let started = first.on(&readers, Event::Started);
    assert_eq!(started[0], Action::Backlog(false), "whatever was said before");
    assert_eq!(first.on(&readers, report(1, 60_000)), [Action::Backlog(true)]);
    assert_eq!(first.on(&readers, report(0, 90_000)), []);
    assert_eq!(first.on(&readers, report(1, 0)), []);
    // The job fails as a whole, in the middle of it.
    let mut second = Coordinator::new(settings.clone(), &[], false).unwrap();
    assert_eq!(second.on(&readers, Event::Started)[0], Action::Backlog(false));
    assert_eq!(second.on(&readers, report(0, 90_000)), [Action::Backlog(true)]);
    assert_eq!(second.on(&readers, report(0, 1000)), [Action::Backlog(false)]);
    // A reader that is behind fails, and begins again without splits: they are another's now, and it has nothing to say.
    assert_eq!(second.on(&readers, report(1, 90_000)), [Action::Backlog(true)]);
    let back = Event::SplitsBack {
        subtask: 1,
        splits: Vec::new(),
    };
    assert_eq!(second.on(&readers, back), [Action::Backlog(false)]);
    // One that is never told of is not mentioned at all.
    let mut silent = Coordinator::new(super::tests::settings(), &[], true).unwrap();
    let started = silent.on(&readers, Event::Started);
    assert!(
        !started.iter().any(|a| matches!(a, Action::Backlog(_))),
        "{started:?}"
    );
    assert_eq!(silent.on(&readers, report(0, u64::MAX)), []);
}

#[test]
fn readers_that_are_there_get_their_share_and_the_rest_waits() {
    let mut c = fresh();
    assert_eq!(c.on(&readers(3, &[0]), register(0)), []);
    let first = c.on(&readers(3, &[0]), found(0..7));
    assert_eq!(assigned(&first), BTreeMap::from([(0, vec![0, 1, 2])]));
    assert_eq!(c.unassigned(), 4);
    let second = c.on(&readers(3, &[0, 2]), register(2));
    assert_eq!(assigned(&second), BTreeMap::from([(2, vec![3, 4])]));
    let third = c.on(&readers(3, &[0, 1, 2]), register(1));
    assert_eq!(assigned(&third), BTreeMap::from([(1, vec![5, 6])]));
    assert_eq!(c.unassigned(), 0);
}

#[test]
fn later_looks_add_only_what_is_new() {
    let mut c = fresh();
    let all = readers(2, &[0, 1]);
    assert_eq!(assigned(&c.on(&all, found([0]))), BTreeMap::from([(0, vec![0])]));
    assert_eq!(
        assigned(&c.on(&all, found([0, 1]))),
        BTreeMap::from([(1, vec![1])])
    );
    assert_eq!(c.on(&all, found([0, 1])), []);
}

#[test]
fn what_comes_back_waits_with_its_position_for_a_reader_that_has_room() {
    let mut c = fresh();
    c.on(&readers(2, &[0, 1]), found([0, 1]));
    let back = |splits| Event::SplitsBack { subtask: 1, splits };
    let moved = at(1, &bound(1), &bound(2), "p7");
    // The reader is gone while its splits come back; empty lists come too, and some come twice.
    let one = readers(2, &[0]);
    let none = Event::SplitsBack {
        subtask: 0,
        splits: Vec::new(),
    };
    assert_eq!(c.on(&one, none), []);
    assert_eq!(c.on(&one, back(vec![moved.clone()])), []);
    assert_eq!(flags(&c), [true, false]);
    assert_eq!(c.on(&one, back(vec![moved.clone()])), []);
    let again = c.on(&readers(2, &[0, 1]), register(1));
    assert_eq!(again, [Action::Assign(BTreeMap::from([(1, vec![moved])]))]);
}

#[test]
fn what_another_reader_has_by_now_does_not_come_back() {
    let mut c = restored(&[(0, true), (1, true)]);
    // One reader had both; after the restore there are two.
    c.on(&readers(2, &[0]), report(0, &[range(0), range(1)]));
    let actions = c.on(&readers(2, &[0, 1]), report(1, &[]));
    assert_eq!(assigned(&actions), BTreeMap::from([(0, vec![0]), (1, vec![1])]));
    // It fails before another checkpoint.
    let back = Event::SplitsBack {
        subtask: 0,
        splits: vec![range(0)],
    };
    assert_eq!(c.on(&readers(2, &[1]), back.clone()), []);
    assert_eq!(c.on(&readers(2, &[1]), back), []);
    assert_eq!(flags(&c), [false, true]);
    let again = c.on(&readers(2, &[0, 1]), report(0, &[range(0), range(1)]));
    assert_eq!(assigned(&again), BTreeMap::from([(0, vec![0])]));
}

#[test]
fn what_a_reader_had_waits_for_it_although_another_has_room() {
    let mut c = fresh();
    c.on(&readers(2, &[0, 1]), found([0, 1, 2]));
    let back = Event::SplitsBack {
        subtask: 0,
        splits: vec![range(0), range(2)],
    };
    // Subtask 1 has read on, and would make what is in them late.
    assert_eq!(c.on(&readers(2, &[1]), back), []);
    assert_eq!(flags(&c), [false, true, false]);
    let again = c.on(&readers(2, &[0, 1]), register(0));
    assert_eq!(assigned(&again), BTreeMap::from([(0, vec![0, 2])]));
}

#[test]
fn a_reader_that_failed_gets_all_of_its_children_back() {
    let all = readers(2, &[0, 1]);
    let young = ["", "10", "20", "30", "40"];
    let young: Vec<_> = young.windows(2).map(|b| at(0, b[0], b[1], "5")).collect();
    for bounded_too in [false, true] {
        let settings = if bounded_too { bounded() } else { settings() };
        let mut c = Coordinator::new(settings, &[], true).unwrap();
        let found = vec![at(0, "", "40", ""), at(1, "40", "FF", "")];
        c.on(&all, discovered(found));
        let back = Event::SplitsBack {
            subtask: 0,
            splits: Vec::new(),
        };
        c.on(&readers(2, &[1]), back);
        // More than its share; the other one never failed.
        let actions = c.on(&all, report(0, &young));
        assert_eq!(
            assigned(&actions),
            BTreeMap::from([(0, vec![0; 4])]),
            "{bounded_too}"
        );
        assert_eq!(c.unassigned(), 0);
    }
}

#[test]
fn after_a_restore_nobody_begins_before_all_readers_have_said_what_they_have() {
    // Each of four had one split, which has become four that its reader alone knows of.
    let parents: Vec<_> = ["", "40", "80", "C0", "FF"]
        .windows(2)
        .map(|b| at(0, b[0], b[1], "1"))
        .collect();
    let parents: Vec<_> = (0..)
        .zip(parents)
        .map(|(ordinal, split)| Split { ordinal, ..split })
        .collect();
    let mut c = restored_with(&parents);
    let all: Vec<u32> = (0..4).collect();
    for (subtask, parent) in (0..4).zip(&parents) {
        let first = u8::from_str_radix(&parent.min, 16).unwrap_or(0);
        let bound = |n: u8| match n {
            0 => parent.min.clone(),
            4 => parent.max.clone(),
            n => format!("{:02X}", first + 0x10 * n),
        };
        // The later the reader, the further behind.
        let position = (9 - subtask).to_string();
        let young: Vec<_> = (0..4)
            .map(|n| at(subtask, &bound(n), &bound(n + 1), &position))
            .collect();
        let there = readers(4, &all[..=subtask as usize]);
        let actions = c.on(&there, report(subtask, &young));
        if subtask < 3 {
            assert_eq!(actions, [], "others are still to say what they have");
            continue;
        }
        let given = assigned(&actions);
        assert_eq!(
            given.values().map(Vec::len).collect::<Vec<_>>(),
            [4; 4],
            "{given:?}"
        );
    }
}

#[test]
fn restored_splits_are_not_given_out_twice() {
    let mut c = restored(&[(0, true), (1, false), (2, true)]);
    assert_eq!(c.on(&readers(2, &[1]), register(1)), []);
    // Those whose reader is not known are counted as one each.
    let actions = c.on(&readers(2, &[0, 1]), register(0));
    assert_eq!(assigned(&actions), BTreeMap::from([(0, vec![1])]));
    assert_eq!(flags(&c), [true; 3]);
}

#[test]
fn after_a_restore_at_the_same_parallelism_readers_get_what_they_report() {
    let mut c = restored(&[(0, true), (1, true), (2, true), (3, true)]);
    let report = |subtask, ordinals: [u32; 2]| Event::ReaderRegistered {
        subtask,
        reported: ordinals.map(range).to_vec(),
    };
    assert_eq!(c.on(&readers(2, &[1]), report(1, [1, 3])), []);
    let actions = c.on(&readers(2, &[0, 1]), report(0, [0, 2]));
    let expected = BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3])]);
    assert_eq!(assigned(&actions), expected);
}

#[test]
fn reported_splits_are_spread_anew() {
    let mut c = restored(&[(0, true), (1, true), (2, true), (3, true)]);
    let report = |subtask, ordinals: &[u32]| Event::ReaderRegistered {
        subtask,
        reported: ordinals
            .iter()
            .map(|o| Split {
                continuation: Some(format!("p{o}")),
                ..range(*o)
            })
            .collect(),
    };
    // Two readers had two each; now there are four.
    let mut owned: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let reports: [(u32, &[u32]); 4] = [(0, &[0, 1]), (1, &[2, 3]), (2, &[]), (3, &[])];
    let mut registered = Vec::new();
    for (subtask, ordinals) in reports {
        registered.push(subtask);
        let actions = c.on(&readers(4, &registered), report(subtask, ordinals));
        for action in &actions {
            let Action::Assign(assignment) = action else {
                panic!("{action:?}")
            };
            for split in assignment.values().flatten() {
                let expected = format!("p{}", split.ordinal);
                assert_eq!(split.continuation.as_deref(), Some(expected.as_str()));
            }
        }
        for (subtask, ordinals) in assigned(&actions) {
            owned.entry(subtask).or_default().extend(ordinals);
        }
        // Nothing is lost if a checkpoint is taken now: what was reported and waits is in the state with its position.
        for entry in c.known().iter().filter(|e| !e.assigned) {
            assert!(entry.split.continuation.is_some(), "{entry:?}");
        }
    }
    assert_eq!(owned.values().map(Vec::len).collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn a_report_counts_only_where_the_split_is_with_nobody_else() {
    let mut c = restored(&[(0, true)]);
    let report = |subtask, position: &str| Event::ReaderRegistered {
        subtask,
        reported: vec![at(0, &bound(0), &bound(1), position)],
    };
    let reset = |subtask, splits| Event::SplitsBack { subtask, splits };
    let both = readers(2, &[0, 1]);
    assert_eq!(
        c.on(&both, report(0, "p1")),
        [],
        "the other may have something too"
    );
    assert_eq!(c.on(&both, report(0, "p1")), [], "the same registration again");
    let actions = c.on(&both, report(1, "p0"));
    let first = at(0, &bound(0), &bound(1), "p1");
    assert_eq!(actions, [Action::Assign(BTreeMap::from([(0, vec![first])]))]);
    c.on(&readers(2, &[0]), reset(1, Vec::new()));
    assert_eq!(c.on(&both, report(1, "p0")), [], "another one has it");
    // The reader that has it begins again, from a checkpoint that holds it.
    assert_eq!(c.on(&readers(2, &[1]), reset(0, Vec::new())), []);
    let actions = c.on(&both, report(0, "p2"));
    let expected = at(0, &bound(0), &bound(1), "p2");
    assert_eq!(
        actions,
        [Action::Assign(BTreeMap::from([(0, vec![expected.clone()])]))]
    );
    // It comes back and is reported as well: the position that it was assigned with stands.
    c.on(&readers(2, &[]), reset(1, Vec::new()));
    c.on(&readers(2, &[]), reset(0, vec![expected.clone()]));
    assert_eq!(c.on(&readers(2, &[]), report(0, "p1")), [], "it waits");
    assert_eq!(c.known()[0].split, expected);
}

#[test]
fn it_looks_again_and_again_or_once_and_not_after_a_restore() {
    let once = Settings {
        discovery_interval_ms: 0,
        ..settings()
    };
    let looks = |settings: &Settings, state: &[u8]| {
        let mut c = Coordinator::new(settings.clone(), state, true).unwrap();
        c.on(&readers(1, &[]), Event::Started)
    };
    let all: Vec<_> = (0..N as u32).map(|ordinal| (ordinal, true)).collect();
    let state = split::encode_state(&restored(&all).known());
    assert_eq!(looks(&settings(), &[]), [Action::Discover { period_ms: 1000 }]);
    assert_eq!(looks(&settings(), &state), [Action::Discover { period_ms: 1000 }]);
    assert_eq!(looks(&once, &[]), [Action::Discover { period_ms: 0 }]);
    assert_eq!(looks(&once, &state), []);
    let nothing_yet = split::encode_state(&[]);
    assert_eq!(looks(&once, &nothing_yet), [Action::Discover { period_ms: 0 }]);
}

fn failure(kind: Kind, status: u16) -> Failure {
    Failure {
        status,
        ..Failure::from(&CoreError::new(kind, "why"))
    }
}

/// What becomes of a look that fails: `Some(true)` ends the job for good, `Some(false)` fails it, `None` warns.
fn fate(first_start: bool, key_in_graph: bool, begun: bool, failure: Failure) -> Option<bool> {
    let settings = Settings {
        key_in_graph,
        ..settings()
    };
    let mut c = Coordinator::new(settings, &[], first_start).unwrap();
    if begun {
        c.on(&readers(1, &[]), found([0]));
    }
    let actions = c.on(&readers(1, &[]), Event::Discovered(Err(failure)));
    match &actions[..] {
        [Action::Fail { failure, ends }] => {
            assert_eq!(
                failure.message,
                "cannot find the feed ranges of container orders: why"
            );
            Some(*ends)
        }
        [Action::Warn(failure)] => {
            assert!(failure.message.ends_with("will try again: why"));
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_look_that_fails_ends_fails_or_goes_on() {
    for kind in [Kind::Config, Kind::NotFound, Kind::State] {
        for begun in [false, true] {
            assert_eq!(
                fate(false, false, begun, failure(kind, 0)),
                Some(true),
                "{kind:?}"
            );
        }
    }
    for kind in [Kind::Transient, Kind::Throttled, Kind::Internal, Kind::Closed] {
        assert_eq!(fate(true, true, false, failure(kind, 0)), Some(false), "{kind:?}");
        assert_eq!(fate(true, true, true, failure(kind, 0)), None, "{kind:?}");
    }
    // A refused key: first start, key in the graph, begun.
    for (case, expected) in [
        ((true, false, false), Some(true)),
        ((false, false, false), Some(false)),
        ((false, true, false), Some(true)),
        ((true, false, true), None),
        ((false, true, true), Some(true)),
    ] {
        let (first, graph, begun) = case;
        assert_eq!(
            fate(first, graph, begun, failure(Kind::Auth, 401)),
            expected,
            "{case:?}"
        );
    }
    // A firewall that is about to be opened, whatever the key.
    assert_eq!(fate(false, true, false, failure(Kind::Auth, 403)), Some(false));
}

#[test]
fn a_look_that_fails_fails_the_job_where_no_other_follows_and_a_range_has_no_split() {
    for (interval, goes_on) in [(1000, true), (0, false)] {
        let settings = Settings {
            discovery_interval_ms: interval,
            ..settings()
        };
        let state = split::encode_state(&[SplitEntry::assigned(at(0, "", "40", "7"))]);
        let mut c = Coordinator::new(settings, &state, false).unwrap();
        let actions = c.on(&readers(1, &[]), Event::Started);
        assert_eq!(actions, [Action::Discover { period_ms: interval }]);
        let failed = Event::Discovered(Err(failure(Kind::Transient, 503)));
        let actions = c.on(&readers(1, &[]), failed);
        match &actions[..] {
            [Action::Warn(_)] => assert!(goes_on),
            [Action::Fail { ends, .. }] => assert!(!ends && !goes_on),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_restored_job_is_not_at_its_first_start() {
    let mut c = restored(&[(0, true)]);
    let refused = Event::Discovered(Err(failure(Kind::Auth, 401)));
    assert!(matches!(c.on(&readers(1, &[]), refused)[..], [Action::Warn(_)]));
}

#[test]
fn a_late_result_adds_only_what_is_not_covered_by_now() {
    let mut c = fresh();
    let none = readers(1, &[]);
    c.on(
        &none,
        discovered(vec![at(0, "", "40", ""), at(1, "60", "80", "")]),
    );
    // Found before those were known, with other bounds: the partition was split or merged meanwhile.
    let late = vec![at(0, "", "50", ""), at(1, "50", "FF", "")];
    assert_eq!(c.on(&none, discovered(late)), []);
    let ranges: Vec<_> = c
        .known()
        .into_iter()
        .map(|e| (e.split.ordinal, e.split.min, e.split.max))
        .collect();
    let of = |ordinal, min: &str, max: &str| (ordinal, min.to_owned(), max.to_owned());
    assert_eq!(
        ranges,
        [
            of(0, "", "40"),
            of(1, "60", "80"),
            of(2, "40", "50"),
            of(3, "50", "60"),
            of(4, "80", "FF")
        ]
    );
}

#[test]
fn what_a_late_result_adds_is_numbered_by_what_is_known_by_now() {
    let mut c = fresh();
    let none = readers(1, &[]);
    c.on(&none, discovered(vec![at(0, "", "20", "")]));
    let late = vec![at(0, "", "40", ""), at(1, "40", "FF", "")];
    assert_eq!(c.on(&none, discovered(late)), []);
    let known = c.known().into_iter().map(|e| (e.split.ordinal, e.split.min));
    let expected = [(0, ""), (1, "20"), (2, "40")].map(|(ordinal, min)| (ordinal, min.to_owned()));
    assert_eq!(known.collect::<Vec<_>>(), expected);
}

#[test]
fn a_start_looks_for_what_no_split_covers() {
    let settings = Settings {
        discovery_interval_ms: 0,
        ..settings()
    };
    for (max, expected) in [("FF", vec![]), ("40", vec![Action::Discover { period_ms: 0 }])] {
        let known = [SplitEntry {
            split: at(0, "", max, "7"),
            assigned: true,
        }];
        let state = crate::split::encode_state(&known);
        let mut c = Coordinator::new(settings.clone(), &state, false).unwrap();
        assert_eq!(c.on(&readers(1, &[]), Event::Started), expected, "{max}");
    }
}

#[test]
fn a_part_of_a_range_does_not_get_the_position_of_the_whole() {
    for (interval, expected) in [(0, vec![Action::Discover { period_ms: 0 }]), (1000, vec![])] {
        let settings = Settings {
            discovery_interval_ms: interval,
            ..settings()
        };
        let mut c = Coordinator::new(settings, &[], true).unwrap();
        c.on(&readers(1, &[]), discovered(vec![at(0, "", "40", "now")]));
        let late = vec![at(1, "", "FF", "now")];
        assert_eq!(c.on(&readers(1, &[]), discovered(late)), expected);
        assert_eq!(c.known().len(), 1);
    }
}

/// What the coordinator knows, as ranges with a position, the unassigned ones with a `?` in front.
fn known(c: &Coordinator) -> Vec<String> {
    let text = |e: SplitEntry| {
        let mark = if e.assigned { "" } else { "?" };
        let position = e.split.continuation.unwrap_or_default();
        format!("{mark}{}-{}:{position}", e.split.min, e.split.max)
    };
    c.known().into_iter().map(text).collect()
}

fn report(subtask: u32, reported: &[Split]) -> Event {
    Event::ReaderRegistered {
        subtask,
        reported: reported.to_vec(),
    }
}

fn restored_with(splits: &[Split]) -> Coordinator {
    let entry = |split: &Split| SplitEntry::assigned(split.clone());
    let entries: Vec<_> = splits.iter().map(entry).collect();
    Coordinator::new(settings(), &split::encode_state(&entries), false).unwrap()
}

#[test]
fn children_that_are_reported_take_the_place_of_their_parent() {
    // One reader had the parent, and split it; its children came to two readers.
    let mut c = restored_with(&[at(0, "", "80", "1"), at(1, "80", "FF", "1")]);
    assert_eq!(c.on(&readers(2, &[0]), report(0, &[at(0, "", "40", "5")])), []);
    // What is left of the parent is somewhere, at a position that nobody knows.
    assert_eq!(known(&c), ["?-40:5", "40-80:1", "80-FF:1"]);
    let late = [at(0, "40", "80", "7"), at(1, "80", "FF", "3")];
    let actions = c.on(&readers(2, &[0, 1]), report(1, &late));
    assert_eq!(
        assigned(&actions),
        BTreeMap::from([(0, vec![0]), (1, vec![0, 1])])
    );
    assert_eq!(known(&c), ["-40:5", "40-80:7", "80-FF:3"]);
}

#[test]
fn a_parent_that_was_split_twice_is_replaced_by_what_is_reported() {
    let mut c = restored_with(&[at(0, "", "FF", "1")]);
    let young = [
        at(0, "", "40", "4"),
        at(0, "40", "60", "5"),
        at(0, "60", "FF", "6"),
    ];
    c.on(&readers(1, &[0]), report(0, &young));
    assert_eq!(known(&c), ["-40:4", "40-60:5", "60-FF:6"]);
    // A checkpoint that is taken now has each of them once, with its position.
    let state = c.on(&readers(1, &[0]), Event::CheckpointTaken { id: 1 });
    let [Action::State(state)] = &state[..] else {
        panic!("{state:?}")
    };
    assert_eq!(
        Coordinator::new(settings(), state, false).unwrap().known(),
        c.known()
    );
}

#[test]
fn a_reader_that_split_what_it_was_assigned_may_give_back_either() {
    let all = readers(1, &[0]);
    // Killed before a checkpoint held the children: the parent comes back.
    let mut c = fresh();
    c.on(&all, discovered(vec![at(0, "", "FF", "now")]));
    let back = |splits| Event::SplitsBack { subtask: 0, splits };
    c.on(&readers(1, &[]), back(vec![at(0, "", "FF", "now")]));
    assert_eq!(known(&c), ["?-FF:now"]);
    c.on(&all, register(0));
    // Killed after one that did: they are reported, and the reader that is known to have the parent has them.
    c.on(&readers(1, &[]), back(Vec::new()));
    let actions = c.on(&all, report(0, &[at(0, "", "40", "8"), at(0, "40", "FF", "9")]));
    assert_eq!(assigned(&actions), BTreeMap::from([(0, vec![0, 0])]));
    assert_eq!(known(&c), ["-40:8", "40-FF:9"]);
    // Reported by a reader that had one of them once, and gave it away.
    assert_eq!(
        c.on(&readers(2, &[0, 1]), report(1, &[at(0, "40", "FF", "2")])),
        []
    );
    assert_eq!(known(&c), ["-40:8", "40-FF:9"]);
}

#[test]
fn bounds_that_are_written_otherwise_leave_no_rest() {
    let mut c = restored_with(&[at(0, "", "8000", "1"), at(1, "80", "FF", "1")]);
    let reported = [
        at(0, "00", "40", "5"),
        at(0, "4000", "80", "6"),
        at(1, "8000", "FF", "7"),
    ];
    c.on(&readers(1, &[0]), report(0, &reported));
    assert_eq!(known(&c), ["00-40:5", "4000-80:6", "8000-FF:7"]);
}

#[test]
fn children_are_spread_over_all_readers() {
    let mut c = restored_with(&[at(0, "", "FF", "1")]);
    c.on(&readers(2, &[1]), report(1, &[]));
    let young = ["", "20", "40", "60", "FF"];
    let young: Vec<_> = young.windows(2).map(|b| at(0, b[0], b[1], "7")).collect();
    let actions = c.on(&readers(2, &[0, 1]), report(0, &young));
    let [Action::Assign(assignment)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(assignment.values().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_split_goes_back_to_the_reader_that_had_it_where_that_is_as_even() {
    let mut c = fresh();
    let both = readers(2, &[0, 1]);
    c.on(&readers(2, &[1]), register(1));
    c.on(&readers(2, &[1]), found([0, 1, 2, 3, 4]));
    c.on(&both, register(0));
    let of = |c: &Coordinator, subtask| {
        let owned = c.splits.values().filter(|e| e.owner == Owner::Subtask(subtask));
        owned.map(|e| e.split.ordinal).collect::<Vec<_>>()
    };
    let had = of(&c, 1);
    assert_eq!(had.len(), 3);
    // It alone fails: the other one's watermark has gone on.
    let back = Event::SplitsBack {
        subtask: 1,
        splits: Vec::new(),
    };
    c.on(&readers(2, &[0]), back);
    let reported = had.iter().map(|n| range(*n)).collect();
    let event = Event::ReaderRegistered { subtask: 1, reported };
    c.on(&both, event);
    assert_eq!(of(&c, 1), had);
}

/// A look that finds nothing new, and these partitions.
fn looked(bounds: &[&str]) -> Event {
    let partitions = bounds.windows(2).map(|b| (b[0].to_owned(), b[1].to_owned()));
    Event::Discovered(Ok(Found {
        splits: Vec::new(),
        partitions: partitions.collect(),
    }))
}

/// Restored and started, with four splits, of which the two in the middle were read equally far.
fn with_neighbours(min_splits: usize) -> (Coordinator, Vec<Split>) {
    let bounds = ["", "20", "40", "80", "FF"];
    let splits = bounds.windows(2).zip([(0, 3), (0, 7), (1, 7), (1, 8)]);
    let splits = splits.map(|(b, (ordinal, read))| read_to(read, &at(ordinal, b[0], b[1], "")));
    let splits: Vec<_> = splits.collect();
    let entries: Vec<_> = splits.iter().cloned().map(SplitEntry::assigned).collect();
    let settings = Settings {
        min_splits,
        ..settings()
    };
    let mut c = Coordinator::new(settings, &split::encode_state(&entries), false).unwrap();
    let actions = c.on(&readers(2, &[]), Event::Started);
    assert_eq!(actions, [Action::Discover { period_ms: 1000 }]);
    (c, splits)
}

fn ranges(c: &Coordinator) -> Vec<(u32, String, Option<u64>)> {
    let known = c.known().into_iter().map(|e| e.split);
    known.map(|s| (s.ordinal, s.id(), position(&s))).collect()
}

#[test]
fn neighbours_of_one_partition_that_are_read_equally_far_become_one_at_a_restore() {
    let one = |ordinal, id: &str, read| (ordinal, id.to_owned(), Some(read));
    let apart = [
        one(0, "00-20", 3),
        one(0, "20-40", 7),
        one(1, "40-80", 7),
        one(1, "80-FF", 8),
    ];
    let merged = [one(0, "00-20", 3), one(0, "20-80", 7), one(1, "80-FF", 8)];
    let both = readers(2, &[0, 1]);
    for (partitions, min_splits, expected) in [
        (&["", "FF"][..], 1, &merged[..]),
        (&["", "20", "80", "FF"], 1, &merged),
        (&["", "FF"], 3, &merged),
        // In two partitions; not known; there are to be four.
        (&["", "40", "FF"], 1, &apart),
        (&[], 1, &apart),
        (&["", "FF"], 4, &apart),
    ] {
        // The look ends before the last reader is there, or behind it.
        for early in [true, false] {
            let (mut c, splits) = with_neighbours(min_splits);
            c.on(&readers(2, &[1]), report(1, &splits[2..]));
            let actions = if early {
                assert_eq!(c.on(&readers(2, &[1]), looked(partitions)), []);
                c.on(&both, report(0, &splits[..2]))
            } else {
                let at_once = c.on(&both, report(0, &splits[..2]));
                let waits = min_splits < splits.len();
                assert_eq!(at_once.is_empty(), waits, "{at_once:?}");
                let late = c.on(&both, looked(partitions));
                if waits {
                    late
                } else {
                    at_once
                }
            };
            assert_eq!(ranges(&c), expected, "{partitions:?} {min_splits}");
            let given: usize = assigned(&actions).values().map(Vec::len).sum();
            assert_eq!(given, expected.len(), "{actions:?}");
        }
    }
}

#[test]
fn a_whole_row_of_neighbours_becomes_one() {
    let bounds = ["", "20", "40", "80", "FF"];
    let (mut c, _) = with_neighbours(1);
    let splits: Vec<_> = (0..)
        .zip(bounds.windows(2))
        .map(|(ordinal, b)| read_to(5, &at(ordinal, b[0], b[1], "")))
        .collect();
    let both = readers(2, &[0, 1]);
    c.on(&both, looked(&["", "FF"]));
    c.on(&readers(2, &[0]), report(0, &splits[2..]));
    let actions = c.on(&both, report(1, &splits[..2]));
    assert_eq!(ranges(&c), [(0, "00-FF".to_owned(), Some(5))]);
    // It goes to the reader that had the first of them.
    assert_eq!(assigned(&actions), BTreeMap::from([(1, vec![0])]));
}

#[test]
fn neighbours_stay_apart_where_no_look_answers_and_nobody_waits_for_one_in_vain() {
    let both = readers(2, &[0, 1]);
    let count = |actions: &[Action]| assigned(actions).values().map(Vec::len).sum::<usize>();
    // The look fails.
    let (mut c, splits) = with_neighbours(1);
    c.on(&readers(2, &[0]), report(0, &splits[..2]));
    assert_eq!(c.on(&both, report(1, &splits[2..])), []);
    let actions = c.on(&both, Event::Discovered(Err(failure(Kind::Transient, 503))));
    assert!(
        matches!(actions[..], [Action::Warn(_), Action::Assign(_)]),
        "{actions:?}"
    );
    assert_eq!(count(&actions), 4);
    // There is nothing to merge.
    let (mut c, splits) = with_neighbours(1);
    c.on(&readers(2, &[0]), report(0, &splits[..1]));
    let others = [splits[1].clone(), read_to(9, &splits[2]), splits[3].clone()];
    assert_eq!(count(&c.on(&both, report(1, &others))), 4);
    // Nobody looks.
    let settings = Settings {
        discovery_interval_ms: 0,
        ..settings()
    };
    let entries: Vec<_> = splits.iter().cloned().map(SplitEntry::assigned).collect();
    let mut c = Coordinator::new(settings, &split::encode_state(&entries), false).unwrap();
    assert_eq!(c.on(&readers(2, &[]), Event::Started), []);
    c.on(&readers(2, &[0]), report(0, &splits[..2]));
    assert_eq!(count(&c.on(&both, report(1, &splits[2..]))), 4);
}

#[test]
fn only_a_restore_makes_neighbours_one() {
    let both = readers(2, &[0, 1]);
    let (mut c, splits) = with_neighbours(1);
    c.on(&both, looked(&["", "40", "FF"]));
    c.on(&readers(2, &[0]), report(0, &splits[..2]));
    c.on(&both, report(1, &splits[2..]));
    assert_eq!(ranges(&c).len(), 4);
    // The partitions are merged, and a reader alone fails: the other one has the neighbour of what comes back.
    c.on(&both, looked(&["", "FF"]));
    for subtask in [0, 1] {
        let back = Event::SplitsBack {
            subtask,
            splits: Vec::new(),
        };
        c.on(&both, back);
    }
    c.on(&readers(2, &[0]), report(0, &splits[..2]));
    c.on(&both, report(1, &splits[2..]));
    assert_eq!(ranges(&c).len(), 4, "a watermark is not known of both");
}

#[test]
fn a_reader_that_fails_behind_a_merge_reports_in_vain_what_is_part_of_it() {
    let both = readers(2, &[0, 1]);
    let (mut c, splits) = with_neighbours(1);
    c.on(&both, looked(&["", "FF"]));
    c.on(&readers(2, &[0]), report(0, &splits[..2]));
    let actions = c.on(&both, report(1, &splits[2..]));
    let [Action::Assign(given)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let merged = ranges(&c);
    assert_eq!(merged.len(), 3);
    // Both fail before a checkpoint holds what was made of them, and report what they had before.
    for (subtask, before) in [(0, &splits[..2]), (1, &splits[2..])] {
        let back = Event::SplitsBack {
            subtask,
            splits: given.get(&subtask).cloned().unwrap_or_default(),
        };
        c.on(&readers(2, &[1 - subtask]), back);
        let again = c.on(&both, report(subtask, before));
        assert_eq!(assigned(&again).keys().collect::<Vec<_>>(), [&subtask]);
        assert_eq!(ranges(&c), merged);
    }
    assert_eq!(c.unassigned(), 0);
}

#[test]
fn the_bytes_of_an_entry_are_those_of_the_first_version() {
    let split = range(3).encode();
    let mut bytes = b"CFE\x01".to_vec();
    bytes.extend(2u32.to_le_bytes());
    for (assigned, split) in [(1u8, &split), (0, &range(4).encode())] {
        bytes.push(assigned);
        bytes.extend(u32::try_from(split.len()).unwrap().to_le_bytes());
        bytes.extend(split);
    }
    let mut c = Coordinator::new(settings(), &bytes, false).unwrap();
    let state = c.on(&readers(1, &[]), Event::CheckpointTaken { id: 1 });
    assert_eq!(state, [Action::State(bytes)]);
}

#[test]
fn nothing_acts_after_close() {
    let mut c = restored(&[(0, false)]);
    assert_eq!(c.on(&readers(1, &[0]), Event::Closed), []);
    for event in [
        Event::Started,
        register(0),
        found([0, 1]),
        Event::Discovered(Err(failure(Kind::Config, 0))),
        Event::SplitsBack {
            subtask: 0,
            splits: vec![range(0)],
        },
        Event::SplitRequested { subtask: 0 },
        Event::CheckpointTaken { id: 1 },
        Event::CheckpointCompleted { id: 1 },
        Event::CheckpointAborted { id: 1 },
        Event::Closed,
    ] {
        assert_eq!(c.on(&readers(1, &[0]), event.clone()), [], "{event:?}");
    }
}

#[test]
fn the_state_is_that_of_version_1() {
    let mut c = fresh();
    c.on(&readers(2, &[0]), found([0, 1]));
    let actions = c.on(&readers(2, &[0]), Event::CheckpointTaken { id: 1 });
    let entry = |ordinal, assigned| SplitEntry {
        split: range(ordinal),
        assigned,
    };
    let bytes = split::encode_state(&[entry(0, true), entry(1, false)]);
    assert_eq!(actions, [Action::State(bytes.clone())]);
    assert_eq!(bytes[..4], *b"CFE\x01");
    let again = Coordinator::new(settings(), &bytes, false).unwrap();
    assert_eq!(again.known(), c.known());
}

#[test]
fn state_that_cannot_be_is_refused() {
    let refused = |state: &[u8]| Coordinator::new(settings(), state, false).err().unwrap();
    assert_eq!(refused(b"foreign").kind, Kind::State);
    let entry = |split| SplitEntry {
        split,
        assigned: true,
    };
    let pair = [at(0, "", "40", ""), at(1, "30", "FF", "")];
    let error = refused(&split::encode_state(&pair.map(entry)));
    assert_eq!(error.kind, Kind::State);
    assert!(error.message.contains("damaged"), "{error}");
}

#[test]
fn frames_come_back_as_they_went() {
    let readers = readers(3, &[0, 2]);
    let refused = Failure {
        activity_id: "a".into(),
        sub_status: 7,
        ..failure(Kind::Auth, 401)
    };
    for event in [
        Event::Started,
        found([0, 1]),
        looked(&["", "40", "FF"]),
        Event::Discovered(Err(refused)),
        Event::Discovered(Err(failure(Kind::NotFound, 404))),
        Event::ReaderRegistered {
            subtask: 2,
            reported: vec![range(3)],
        },
        Event::SplitsBack {
            subtask: 1,
            splits: vec![range(1), range(2)],
        },
        Event::SplitRequested { subtask: 1 },
        Event::CheckpointTaken { id: 1 },
        Event::CheckpointCompleted { id: u64::MAX },
        Event::CheckpointAborted { id: 3 },
        Event::Closed,
    ] {
        let frame = encode_event(&readers, &event);
        assert_eq!(decode_event(&frame).unwrap(), (readers.clone(), event));
        assert_eq!(
            decode_event(&frame[..frame.len() - 1]).unwrap_err().kind,
            Kind::State
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60), kind in 11u8..14) {
        let mut frame = vec![1, 0, kind, 0];
        frame.extend_from_slice(&bytes);
        let _ = decode_event(&frame);
        let _ = decode_discovery(&frame);
    }
}

/// What happens to a job, as far as its source is concerned.
#[derive(Clone, Debug)]
enum Step {
    /// A look begins that sees some of the partitions, some of them as they were before they were split.
    Look {
        seen: u16,
        merged: u16,
    },
    /// Its result is delivered.
    Found,
    Register(usize),
    /// A reader gets on.
    Read(usize),
    /// A reader ends a split in favour of two.
    Part {
        reader: usize,
        nth: usize,
    },
    /// Regional failover of some subtasks.
    Fail(u8),
    TakeCheckpoint,
    EndCheckpoint {
        complete: bool,
    },
    /// Global failover, perhaps with another parallelism.
    Restore {
        parallelism: usize,
    },
    /// An event that comes once more.
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<u16>(), any::<u16>()).prop_map(|(seen, merged)| Step::Look { seen, merged }),
        2 => Just(Step::Found),
        8 => (0..5usize).prop_map(Step::Register),
        3 => (0..5usize).prop_map(Step::Read),
        2 => (0..5usize, 0..8usize).prop_map(|(reader, nth)| Step::Part { reader, nth }),
        2 => any::<u8>().prop_map(Step::Fail),
        3 => Just(Step::TakeCheckpoint),
        2 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(|complete| Step::EndCheckpoint { complete }),
        1 => (1..5usize).prop_map(|parallelism| Step::Restore { parallelism }),
        1 => Just(Step::Again),
    ]
}

/// The lower bounds of the smallest ranges that there can be: each of the first ones is split in two at most.
fn cells() -> Vec<String> {
    let half = |n: usize| [bound(n), format!("{n:02X}80")];
    (0..N).flat_map(half).collect()
}

fn holds(split: &Split, cell: &str) -> bool {
    split.min.as_str() <= cell && cell < split.max.as_str()
}

/// A reader: what it has, or, as long as it is not registered, what it is restored with.
#[derive(Clone, Default)]
struct Reader {
    registered: bool,
    splits: BTreeMap<String, Split>,
    /// Up to where it has read all that it had. It never goes back while the reader lives.
    watermark: u64,
}

/// How far a split is read: the number of its token, which may be that of a parent.
fn position(split: &Split) -> Option<u64> {
    let token = Position::decode(split.continuation.as_deref()?).unwrap();
    let read = token.covering(&split.min, &split.max).unwrap();
    assert!(read.iter().all(|range| range.etag == read[0].etag), "{read:?}");
    Some(read[0].etag.parse().unwrap())
}

/// A split that is read up to that number.
fn read_to(number: u64, split: &Split) -> Split {
    let position = Position {
        rid: "rid".into(),
        full_fidelity: false,
        ranges: vec![Ranged {
            min: split.min.clone(),
            max: split.max.clone(),
            etag: number.to_string(),
        }],
        start: None,
    };
    Split {
        continuation: Some(position.encode().unwrap()),
        ..split.clone()
    }
}

struct Checkpoint {
    id: u64,
    state: Vec<u8>,
    readers: Vec<BTreeMap<String, Split>>,
}

/// Flink, as far as it concerns a source.
struct Job {
    /// Whether restored splits are reported instead of being kept.
    reports: bool,
    coordinator: Coordinator,
    readers: Vec<Reader>,
    /// Assignments that no completed checkpoint holds, with the first checkpoint that does.
    tracked: Vec<(u64, u32, Split)>,
    next_checkpoint: u64,
    pending: Option<Checkpoint>,
    completed: Option<Checkpoint>,
    look: Option<Found>,
    /// Whether a look was asked for and has not ended.
    looking: bool,
    last: Option<Event>,
    restored: bool,
    /// Whether readers have failed since, and have back what they had, however much that is.
    failed: bool,
}

impl Job {
    fn new(reports: bool, parallelism: usize) -> Job {
        Job {
            reports,
            coordinator: fresh(),
            readers: vec![Reader::default(); parallelism],
            tracked: Vec::new(),
            next_checkpoint: 1,
            pending: None,
            completed: None,
            look: None,
            looking: false,
            last: None,
            restored: false,
            failed: false,
        }
    }

    fn event(&mut self, event: Event) {
        let readers = Readers {
            parallelism: self.readers.len() as u32,
            registered: (0..self.readers.len() as u32)
                .filter(|i| self.readers[*i as usize].registered)
                .collect::<BTreeSet<_>>(),
        };
        // As it crosses the boundary.
        let (readers, event) = decode_event(&encode_event(&readers, &event)).unwrap();
        self.last = Some(event.clone());
        for action in self.coordinator.on(&readers, event) {
            match action {
                Action::Assign(assignment) => {
                    assert!(!assignment.is_empty());
                    for (subtask, splits) in assignment {
                        let reader = &mut self.readers[subtask as usize];
                        assert!(reader.registered, "{subtask} is not there");
                        for split in splits {
                            // What nobody has read yet may be older: it was not known before.
                            let late = position(&split).is_some_and(|read| read < reader.watermark);
                            assert!(!late, "{subtask} has passed {split:?} by at {}", reader.watermark);
                            self.tracked.push((self.next_checkpoint, subtask, split.clone()));
                            let before = reader.splits.insert(split.id(), split);
                            assert!(before.is_none(), "{subtask} has {before:?} already");
                        }
                    }
                }
                Action::State(state) => {
                    let readers = self.readers.iter().map(|r| r.splits.clone()).collect();
                    self.pending = Some(Checkpoint {
                        id: self.next_checkpoint,
                        state,
                        readers,
                    });
                    self.next_checkpoint += 1;
                }
                Action::Discover { period_ms } => {
                    assert_eq!(period_ms, 1000);
                    self.looking = true;
                }
                Action::Backlog(_) => panic!("without a threshold nothing is told"),
                Action::Fail { failure, .. } | Action::Warn(failure) => panic!("{failure:?}"),
                Action::NoMoreSplits(_) => panic!("an endless source never says that it has no more"),
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Look { seen, merged } if self.look.is_none() => {
                let known = self.coordinator.known();
                let gaps = uncovered(&known);
                let next = known.iter().map(|e| e.split.ordinal + 1).max().unwrap_or(0);
                let (mut found, mut partitions) = (Vec::new(), Vec::new());
                let mut n = 0;
                while n < N {
                    let wide = merged >> n & 1 == 1 && n + 1 < N;
                    let end = n + 1 + usize::from(wide);
                    partitions.push((bound(n), bound(end)));
                    if seen >> n & 1 == 1 {
                        let whole = at(0, &bound(n), &bound(end), "");
                        for (min, max) in cut(&gaps, &whole).0 {
                            found.push(at(next + found.len() as u32, &min, &max, ""));
                        }
                    }
                    n = end;
                }
                self.look = Some(Found {
                    splits: found,
                    partitions,
                });
            }
            Step::Found => {
                if let Some(found) = self.look.take() {
                    self.looking = false;
                    self.event(Event::Discovered(Ok(found)));
                }
            }
            Step::Register(i) if i < self.readers.len() && !self.readers[i].registered => {
                let reader = &mut self.readers[i];
                reader.registered = true;
                let reported = match self.reports {
                    true => std::mem::take(&mut reader.splits).into_values().collect(),
                    false => Vec::new(),
                };
                self.event(Event::ReaderRegistered {
                    subtask: i as u32,
                    reported,
                });
            }
            Step::Read(i) if i < self.readers.len() && self.readers[i].registered => {
                let reader = &mut self.readers[i];
                for split in reader.splits.values_mut() {
                    *split = read_to(position(split).unwrap_or(0) + 1, split);
                }
                let read = reader.splits.values().filter_map(position).min();
                reader.watermark = reader.watermark.max(read.unwrap_or(0));
            }
            Step::Part { reader, nth } if reader < self.readers.len() && self.readers[reader].registered => {
                let splits = &mut self.readers[reader].splits;
                let Some(parent) = splits.values().nth(nth % splits.len().max(1)).cloned() else {
                    return;
                };
                let cells = cells();
                let inside: Vec<_> = cells.iter().filter(|cell| holds(&parent, cell)).collect();
                if inside.len() > 1 {
                    splits.remove(&parent.id());
                    let middle = inside[inside.len() / 2].clone();
                    for (min, max) in [(&parent.min, &middle), (&middle, &parent.max)] {
                        let child = Split {
                            min: min.clone(),
                            max: max.clone(),
                            ..parent.clone()
                        };
                        splits.insert(child.id(), child);
                    }
                }
            }
            Step::Fail(mask) => {
                self.pending = None;
                let failed: Vec<_> = (0..self.readers.len()).filter(|i| mask >> i & 1 == 1).collect();
                self.failed |= !failed.is_empty();
                for i in &failed {
                    self.readers[*i].registered = false;
                    self.readers[*i].watermark = 0;
                }
                for i in failed {
                    let completed = self.completed.as_ref();
                    let id = completed.map_or(0, |c| c.id);
                    self.readers[i].splits = completed.map(|c| c.readers[i].clone()).unwrap_or_default();
                    let subtask = i as u32;
                    let (back, rest) = std::mem::take(&mut self.tracked)
                        .into_iter()
                        .partition(|(first, owner, _)| *owner == subtask && *first > id);
                    self.tracked = rest;
                    let splits = Vec::into_iter(back).map(|(_, _, split)| split).collect();
                    self.event(Event::SplitsBack { subtask, splits });
                }
            }
            Step::TakeCheckpoint if self.pending.is_none() && self.readers.iter().all(|r| r.registered) => {
                self.event(Event::CheckpointTaken {
                    id: self.next_checkpoint,
                });
                self.check_checkpoint();
            }
            Step::EndCheckpoint { complete } => {
                let Some(checkpoint) = self.pending.take() else {
                    return;
                };
                let id = checkpoint.id;
                if complete {
                    self.tracked.retain(|(first, _, _)| *first > id);
                    self.completed = Some(checkpoint);
                    self.event(Event::CheckpointCompleted { id });
                } else {
                    self.event(Event::CheckpointAborted { id });
                }
            }
            Step::Restore { parallelism } => {
                let (state, before) = match &self.completed {
                    Some(c) => (c.state.clone(), c.readers.clone()),
                    None => (Vec::new(), Vec::new()),
                };
                self.coordinator.on(&Readers::default(), Event::Closed);
                self.coordinator = Coordinator::new(settings(), &state, false).unwrap();
                self.readers = vec![Reader::default(); parallelism];
                if before.len() == parallelism {
                    for (reader, splits) in self.readers.iter_mut().zip(before) {
                        reader.splits = splits;
                    }
                } else {
                    for (n, (id, split)) in before.into_iter().flatten().enumerate() {
                        self.readers[n % parallelism].splits.insert(id, split);
                    }
                }
                if let Some(c) = &mut self.completed {
                    c.readers = self.readers.iter().map(|r| r.splits.clone()).collect();
                    self.restored = true;
                }
                self.tracked.clear();
                self.pending = None;
                self.look = None;
                self.failed = false;
                self.event(Event::Started);
            }
            Step::Again => match self.last.clone() {
                Some(event @ Event::ReaderRegistered { .. }) => self.event(event),
                Some(Event::SplitsBack { subtask, splits }) if !self.readers[subtask as usize].registered => {
                    self.event(Event::SplitsBack { subtask, splits });
                }
                _ => {}
            },
            _ => {}
        }
        self.check();
    }

    /// No range is in two places, and none that is known is in none.
    fn check(&self) {
        let known = self.coordinator.known();
        for (n, a) in known.iter().enumerate() {
            for b in &known[n + 1..] {
                assert!(!overlap(&a.split, &b.split), "{a:?} {b:?}");
            }
        }
        for cell in cells() {
            let count = |registered| {
                let readers = self.readers.iter().filter(|r| r.registered == registered);
                let splits = readers.flat_map(|r| r.splits.values());
                splits.filter(|split| holds(split, &cell)).count()
            };
            let (there, restoring) = (count(true), count(false));
            let entry = known.iter().find(|e| holds(&e.split, &cell));
            match (entry.map(|e| e.assigned), self.reports) {
                (None, _) => assert_eq!(there + restoring, 0, "{cell} is not known"),
                (Some(false), _) => assert_eq!(there, 0, "{cell} waits, and a reader has it"),
                // Where they are reported, a reader may be restored with what another has by now.
                (Some(true), true) => assert!(
                    there == 1 || (there == 0 && restoring > 0),
                    "{cell} {there} {restoring}"
                ),
                (Some(true), false) => assert_eq!(there + restoring, 1, "{cell}"),
            }
        }
        let waiting = known.iter().filter(|e| !e.assigned).count();
        assert_eq!(self.coordinator.unassigned(), waiting);
        let most = known.len().div_ceil(self.readers.len());
        // What may become one waits for the look, and all with it.
        if self.readers.iter().all(|r| r.registered) && !self.looking {
            assert_eq!(waiting, 0, "all are there, and some wait");
        }
        if (self.reports || !self.restored) && !self.failed {
            for reader in self.readers.iter().filter(|r| r.registered) {
                // What it has made of them does not count.
                let given = |e: &&SplitEntry| reader.splits.values().any(|s| overlap(s, &e.split));
                let given = known.iter().filter(given).count();
                assert!(given <= most, "{given} of at most {most}");
            }
        }
    }

    /// The checkpoint that was just taken holds each range once.
    fn check_checkpoint(&self) {
        let checkpoint = self.pending.as_ref().unwrap();
        let entries = split::decode_state(&checkpoint.state).unwrap();
        for cell in cells() {
            let splits = checkpoint.readers.iter().flat_map(BTreeMap::values);
            let readers = splits.filter(|split| holds(split, &cell)).count();
            let assigned = entries.iter().filter(|e| e.assigned && holds(&e.split, &cell));
            assert_eq!(readers, assigned.count(), "{cell}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn each_range_is_in_one_place_whatever_happens(
        reports: bool,
        parallelism in 1..5usize,
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut job = Job::new(reports, parallelism);
        job.event(Event::Started);
        for step in steps {
            job.step(step);
        }
        for i in 0..job.readers.len() {
            job.step(Step::Register(i));
        }
        if job.looking {
            job.step(Step::Look { seen: 0, merged: u16::MAX });
            job.step(Step::Found);
        }
        job.step(Step::TakeCheckpoint);
    }
}

fn bounded() -> Settings {
    Settings {
        bounded: true,
        discovery_interval_ms: 0,
        ..settings()
    }
}

/// Readers that are told that no split comes any more.
fn told(actions: &[Action]) -> Vec<u32> {
    let told = actions.iter().filter_map(|action| match action {
        Action::NoMoreSplits(readers) => Some(readers.iter().copied()),
        _ => None,
    });
    told.flatten().collect()
}

#[test]
fn readers_of_what_ends_are_told_when_each_has_its_share() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    assert_eq!(
        c.on(&readers(3, &[]), Event::Started),
        [Action::Discover { period_ms: 0 }]
    );
    assert!(
        told(&c.on(&readers(3, &[0]), register(0))).is_empty(),
        "nothing is known yet"
    );
    // Reader 0 may end before there is room for the others.
    let first = c.on(&readers(3, &[0]), found(0..12));
    assert_eq!((assigned(&first)[&0].len(), told(&first)), (4, vec![0]));
    let others = c.on(&readers(3, &[0, 1, 2]), register(1));
    assert_eq!(
        (assigned(&others).len(), told(&others)),
        (2, vec![1, 2]),
        "nobody is told twice"
    );
    assert_eq!(c.unassigned(), 0);
}

#[test]
fn readers_without_splits_are_told_so_that_they_end() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    let all = readers(4, &[0, 1, 2, 3]);
    for subtask in 0..4 {
        c.on(&all, register(subtask));
    }
    let actions = c.on(&all, discovered(vec![at(0, "", "FF", "")]));
    assert_eq!(assigned(&actions), BTreeMap::from([(0, vec![0])]));
    assert_eq!(told(&actions), [0, 1, 2, 3]);
}

#[test]
fn a_reader_that_failed_gets_its_splits_back_and_is_told_again_and_no_other_gets_them() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    let all = readers(2, &[0, 1]);
    let given = assigned(&c.on(&all, found(0..12)))[&1].clone();
    let back = Event::SplitsBack {
        subtask: 1,
        splits: given.clone().into_iter().map(range).collect(),
    };
    let while_away = c.on(&readers(2, &[0]), back);
    assert_eq!(while_away, [], "reader 0 was told, and may have ended");
    let again = c.on(&all, register(1));
    assert_eq!(
        (assigned(&again), told(&again)),
        (BTreeMap::from([(1, given)]), vec![1])
    );
}

#[test]
fn nothing_is_kept_for_readers_that_were_told() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    let all = readers(3, &[0, 1, 2]);
    for subtask in 0..3 {
        c.on(&all, register(subtask));
    }
    let given = c.on(&all, discovered(vec![at(0, "", "FF", "")]));
    assert_eq!(assigned(&given), BTreeMap::from([(0, vec![0])]));
    let back = Event::SplitsBack {
        subtask: 0,
        splits: Vec::new(),
    };
    c.on(&readers(3, &[1, 2]), back);
    // Its range has become two partitions, and the others may have ended.
    let reported = Event::ReaderRegistered {
        subtask: 0,
        reported: vec![at(0, "", "40", "c1.x"), at(0, "40", "FF", "c1.x")],
    };
    let again = c.on(&all, reported);
    assert_eq!(
        (assigned(&again), told(&again)),
        (BTreeMap::from([(0, vec![0, 0])]), vec![0])
    );
    assert_eq!(c.unassigned(), 0);
}

#[test]
fn after_a_restore_nothing_is_kept_for_readers_that_may_have_ended() {
    let entries: Vec<_> = (0..12)
        .map(|ordinal| SplitEntry {
            split: range(ordinal),
            assigned: ordinal < 10,
        })
        .collect();
    let mut c = Coordinator::new(bounded(), &split::encode_state(&entries), false).unwrap();
    assert_eq!(c.on(&readers(4, &[]), Event::Started), [], "all are known");
    let one = c.on(&readers(4, &[2]), register(2));
    assert_eq!(
        (assigned(&one), told(&one)),
        (BTreeMap::from([(2, vec![10, 11])]), vec![2])
    );
    let reported = Event::ReaderRegistered {
        subtask: 0,
        reported: vec![range(3)],
    };
    let other = c.on(&readers(4, &[0, 2]), reported);
    assert_eq!(
        (assigned(&other), told(&other)),
        (BTreeMap::from([(0, vec![3])]), vec![0])
    );
}

#[test]
fn a_look_that_fails_is_not_followed_by_another_where_reading_ends() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    c.on(&readers(1, &[0]), found(0..3));
    let failure = Failure::from(&CoreError::new(Kind::Transient, "no answer"));
    let actions = c.on(&readers(1, &[0]), Event::Discovered(Err(failure)));
    assert!(
        matches!(actions.as_slice(), [Action::Fail { ends: false, .. }]),
        "{actions:?}"
    );
}

#[test]
fn another_source_goes_on_where_the_splits_of_this_one_stop() {
    let mut c = Coordinator::new(bounded(), &[], true).unwrap();
    let nobody = readers(1, &[]);
    assert!(matches!(
        c.on(&nobody, Event::Followed).as_slice(),
        [Action::Fail { failure, ends: false }] if failure.kind == Kind::Transient
    ));
    let found = Split {
        mode: Mode::Query,
        stop: Stop::At("c1.stop".into()),
        ..at(0, "", "FF", "")
    };
    c.on(&nobody, discovered(vec![found.clone()]));
    let actions = c.on(&nobody, Event::Followed);
    let [Action::State(state)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let entries = split::decode_state(state).unwrap();
    assert_eq!(
        entries,
        [SplitEntry {
            split: Split {
                mode: Mode::LatestVersion,
                start: Start::Now,
                stop: Stop::Never,
                ..at(0, "", "FF", "c1.stop")
            },
            assigned: false,
        }]
    );
    let mut feed = Coordinator::new(settings(), state, true).unwrap();
    assert_eq!(
        assigned(&feed.on(&readers(1, &[0]), register(0))),
        BTreeMap::from([(0, vec![0])])
    );
}

#[test]
fn nothing_goes_on_behind_a_stop_that_is_no_position() {
    let found = Split {
        stop: Stop::Time(5),
        ..at(0, "", "FF", "")
    };
    let found = discovered(vec![found]);
    for (stop, advice) in [
        (StopAt::Time(5), "set its scan.bounded.mode to latest"),
        // A query, whose state may have been written with another one.
        (StopAt::Start, "start the job without that state"),
    ] {
        let settings = Settings {
            reads: Reads {
                stop,
                ..settings().reads
            },
            ..bounded()
        };
        let mut c = Coordinator::new(settings, &[], true).unwrap();
        c.on(&readers(1, &[]), found.clone());
        let actions = c.on(&readers(1, &[]), Event::Followed);
        assert!(
            matches!(actions.as_slice(), [Action::Fail { failure, .. }] if failure.message.ends_with(advice)),
            "{actions:?}"
        );
    }
}

#[test]
fn a_state_that_ends_elsewhere_or_nowhere_is_refused() {
    let state = |stop| {
        let split = Split {
            stop,
            ..at(0, "", "FF", "c1.x")
        };
        split::encode_state(&[SplitEntry::assigned(split)])
    };
    let with = |stop| Settings {
        reads: Reads {
            stop,
            ..settings().reads
        },
        ..bounded()
    };
    let to_a_position = || Stop::At("c1.y".into());
    assert!(Coordinator::new(with(StopAt::Start), &state(to_a_position()), false).is_ok());
    for (option, in_state) in [
        // A savepoint of an endless job, or a source that goes on behind another one.
        (StopAt::Start, Stop::Never),
        (StopAt::Never, to_a_position()),
        (StopAt::Time(7), to_a_position()),
    ] {
        let refused = Coordinator::new(with(option), &state(in_state), true);
        let error = refused.err().unwrap();
        assert_eq!(error.kind, Kind::State);
        assert!(error.message.contains("scan.bounded.mode"), "{error}");
    }
}
