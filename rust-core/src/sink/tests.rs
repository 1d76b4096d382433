//! The engine alone: events of a made-up service in made-up time, and what it wants done about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use proptest::prelude::*;
use tokio::time::Instant;

use super::engine::{Act, Answer, Checked, Engine, Gauges};
use super::letters::Letter;
use super::operation::Rules;
use super::partition::Request;
use super::*;
use crate::config::Role;
use crate::status::{Asked, Fate};

pub fn config(extra: &[(&str, &str)]) -> Config {
    let options = [
        ("endpoint", "http://localhost"),
        ("database", "d"),
        ("container", "c"),
        ("auth.secret-key", "aw=="),
    ];
    let options: Vec<_> = options
        .iter()
        .chain(extra)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Config::parse(Role::Sink, &options).unwrap()
}

/// Upserts that came one after the other.
pub fn operations(count: u64) -> Vec<Operation> {
    let new = |_| NewOperation {
        kind: OperationKind::Upsert,
        id: "d",
        partition_key: "[1]",
        if_match: "",
        document: b"{}",
    };
    let mut all = decode_operations(encode_operations(&(0..count).map(new).collect::<Vec<_>>())).unwrap();
    (0..).zip(&mut all).for_each(|(turn, op)| op.turn = turn);
    all
}

/// Upserts of documents, the key of each following from its id.
fn upserts(documents: impl IntoIterator<Item = u8>) -> Vec<Operation> {
    let texts: Vec<_> = documents
        .into_iter()
        .map(|d| (format!("d{d}"), format!("[\"k{}\"]", d % 7)))
        .collect();
    let new: Vec<_> = texts
        .iter()
        .map(|(id, key)| NewOperation {
            kind: OperationKind::Upsert,
            id,
            partition_key: key,
            if_match: "",
            document: b"{}",
        })
        .collect();
    decode_operations(encode_operations(&new)).unwrap()
}

fn map(ids: &[&str]) -> Vec<(String, EffectivePartitionKey)> {
    let part = 0x40 / ids.len().max(1);
    let bound = |n: usize| match n {
        0 => String::new(),
        n => format!("{:02X}{}", n * part, "0".repeat(30)),
    };
    let bounds = (0..).map(|n| EffectivePartitionKey::try_from(bound(n)).unwrap());
    ids.iter().map(|id| (*id).to_owned()).zip(bounds).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

fn engine(extra: &[(&str, &str)], ids: &[&str], letters: bool, seed: u64) -> Engine {
    let definition = PartitionKeyDefinition::from("/pk");
    Engine::new(
        Arc::new(config(extra)),
        definition,
        map(ids),
        MINUTE,
        letters,
        seed,
    )
    .unwrap()
}

fn refused(status: u16, sub: u32, asked: Asked, retry_after_ms: Option<u64>) -> CoreError {
    CoreError {
        retry_after_ms,
        request_charge: 0.5,
        ..CoreError::answered((status, sub), asked, Fate::NotCarriedOut, "asked for")
    }
}

fn taken(count: usize) -> Answer {
    let one = || OperationResult::ok(201, 1.0);
    Answer::Each(std::iter::repeat_with(one).take(count).collect())
}

/// The acts that one event led to, by kind.
#[derive(Default)]
struct Seen {
    sent: Vec<Request>,
    letters: Vec<Letter>,
    completed: Vec<Completion>,
    refreshes: usize,
    checks: usize,
    wake_at: Option<Instant>,
}

fn seen(engine: &mut Engine) -> Seen {
    let mut seen = Seen::default();
    for act in engine.acts() {
        match act {
            Act::Send(request) => seen.sent.push(request),
            Act::Store(letter) => seen.letters.push(*letter),
            Act::Complete(completion) => seen.completed.push(completion),
            Act::Refresh => seen.refreshes += 1,
            Act::Check => seen.checks += 1,
            Act::WakeAt(at) => seen.wake_at = Some(at),
        }
    }
    seen
}

fn accept(
    engine: &mut Engine,
    now: Instant,
    submission: u64,
    documents: impl IntoIterator<Item = u8>,
) -> Seen {
    let operations = Checked::of(submission, upserts(documents), &Rules::plain(&["/pk"]));
    engine.accept(now, submission, operations).unwrap();
    seen(engine)
}

#[test]
fn an_idle_engine_asks_for_nothing() {
    let (mut engine, now) = (engine(&[], &["0"], false, 1), Instant::now());
    let mut first = accept(&mut engine, now, 0, [1, 2]);
    assert_eq!(
        (first.sent.len(), first.wake_at),
        (1, Some(now + MINUTE)),
        "the next look at the container"
    );
    engine.concluded(now, first.sent.remove(0), taken(2));
    let done = seen(&mut engine);
    assert_eq!((done.completed.len(), done.wake_at), (1, None));
    assert_eq!(engine.gauges(now), Gauges::default());
    engine.woken(now + MINUTE);
    let woken = seen(&mut engine);
    assert_eq!((woken.checks, woken.wake_at), (1, None));
    engine.checked(now + MINUTE, Ok(()));
    assert!(engine.acts().next().is_none(), "nothing was written since");
}

#[test]
fn a_look_at_the_container_that_takes_long_is_not_begun_twice() {
    let (mut engine, now) = (engine(&[], &["0"], false, 1), Instant::now());
    accept(&mut engine, now, 0, [1]);
    engine.woken(now + MINUTE);
    assert_eq!(seen(&mut engine).checks, 1);
    let again = accept(&mut engine, now + MINUTE, 1, [2]);
    assert_eq!(again.wake_at, Some(now + 2 * MINUTE));
    engine.woken(now + 2 * MINUTE);
    let late = seen(&mut engine);
    assert_eq!((late.checks, late.wake_at), (0, Some(now + 3 * MINUTE)));
    let gone = refused(410, 1000, Asked::Metadata, None);
    engine.checked(now + 2 * MINUTE, Err(gone));
    let ended = seen(&mut engine);
    let failed = |c: &Completion| c.failures[0].result == OutcomeResult::Failed;
    assert!(ended.completed.len() == 2 && ended.completed.iter().all(failed));
    assert_eq!(engine.gauges(now), Gauges::default());
    let (counts, refused) = (engine.take_counts(), accept(&mut engine, now, 2, [3, 4]));
    assert_eq!((counts.failed, refused.completed.len()), (2, 1));
    assert_eq!(engine.take_counts().failed, 2);
}

#[test]
fn a_throttled_partition_is_left_alone_and_only_it() {
    let (mut engine, now) = (engine(&[], &["0", "1"], false, 1), Instant::now());
    let mut first = accept(&mut engine, now, 0, 0..7);
    assert_eq!(first.sent.len(), 2, "one for each partition");
    let throttled = first.sent.remove(0);
    let range = throttled.partition;
    let error = refused(429, 3200, Asked::Bulk, Some(400));
    engine.concluded(now, throttled, Answer::Whole(error));
    let held = seen(&mut engine);
    let due = held.wake_at.unwrap();
    let longest = Duration::from_millis(500);
    assert!(held.sent.is_empty() && due >= now + Duration::from_millis(400) && due <= now + longest);
    assert_eq!(engine.gauges(now + MINUTE).held, Some(MINUTE));
    let other = first.sent.remove(0);
    let count = other.operations.len();
    engine.concluded(now, other, taken(count));
    let more = accept(&mut engine, now, 1, 10..17);
    assert!(more.sent.len() == 1 && more.sent[0].partition != range);
    engine.woken(due);
    let resumed = seen(&mut engine);
    assert!(resumed.sent.iter().any(|r| r.partition == range));
}

/// A document of each of two partitions. All whose numbers differ by a multiple of seven have the same key.
fn one_of_each() -> (u8, u8) {
    let (mut engine, now) = (engine(&[], &["0", "1"], false, 1), Instant::now());
    let sent = accept(&mut engine, now, 0, 0..7).sent;
    let first = |partition: u64| {
        let request = sent.iter().find(|r| r.partition == partition).unwrap();
        request.operations[0].id_text()[1..].parse::<u8>().unwrap() % 7
    };
    (first(0), first(1))
}

/// Hands batches of ten over for as long as there is room, one of each for a partition that is throttled; how many. All others are written.
fn fill(options: &[(&str, &str)]) -> (Engine, Instant, u8) {
    let (hot, other) = one_of_each();
    let (mut engine, now) = (engine(options, &["0", "1"], false, 1), Instant::now());
    let mut first = accept(&mut engine, now, 0, [hot]);
    let error = refused(429, 3200, Asked::Bulk, Some(60_000));
    engine.concluded(now, first.sent.remove(0), Answer::Whole(error));
    seen(&mut engine);
    let mut batches = 0;
    while engine.room(now).is_multiple_of(2) && batches < 34 {
        batches += 1;
        let documents = (0..9).map(|n| other + 7 * n).chain([hot + 7 * batches]);
        let mut sent = accept(&mut engine, now, batches.into(), documents).sent;
        assert_eq!(
            (sent.len(), sent[0].operations.len()),
            (1, 9),
            "the other partition's"
        );
        engine.concluded(now, sent.remove(0), taken(9));
        assert!(
            seen(&mut engine).completed.is_empty(),
            "one of each batch is left"
        );
    }
    assert_eq!(engine.take_counts().records, 9 * u64::from(batches));
    (engine, now, batches)
}

#[test]
fn what_a_throttled_partition_holds_up_takes_no_room_from_the_others() {
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-requests", "4"),
    ];
    let (_, _, batches) = fill(&options);
    assert_eq!(batches, 34, "all of them");
}

#[test]
fn where_all_partitions_are_throttled_records_are_bounded_all_the_same() {
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-requests", "3"),
    ];
    let ids = ["0", "1", "2", "3"];
    let (mut engine, now) = (engine(&options, &ids, false, 1), Instant::now());
    let first = accept(&mut engine, now, 0, 0..10).sent;
    for request in first {
        let error = refused(429, 3200, Asked::Bulk, Some(60_000));
        engine.concluded(now, request, Answer::Whole(error));
    }
    seen(&mut engine);
    let mut records = 10;
    while engine.room(now).is_multiple_of(2) && records < 250 {
        records += 10;
        let sent = accept(&mut engine, now, records, (0..10).map(|n| records as u8 + n)).sent;
        assert!(sent.is_empty());
    }
    // As many again as without throttling.
    assert_eq!(records, 60);
}

/// Hands batches of ten over for as long as there is room, up to so many in all, one of each for the first partition, and answers what goes
/// to the other one; how many.
fn fill_beside(
    engine: &mut Engine,
    now: Instant,
    most: u8,
    batches: &mut u8,
    hot_ones: &mut Vec<Request>,
) -> u8 {
    let ((hot, other), before) = (one_of_each(), *batches);
    while engine.room(now).is_multiple_of(2) && *batches < most {
        let documents = (0..9).map(|n| other + 7 * n).chain([hot + 7 * (10 + *batches)]);
        *batches += 1;
        let mut sent = accept(engine, now, (*batches).into(), documents).sent;
        while let Some(request) = sent.pop() {
            if request.partition == 0 {
                hot_ones.push(request);
                continue;
            }
            let count = request.operations.len();
            engine.concluded(now, request, taken(count));
            sent.extend(seen(engine).sent);
        }
    }
    *batches - before
}

#[test]
fn what_is_under_way_by_itself_does_not_keep_the_frames_of_what_waits() {
    let most = 60 * upserts([1])[0].footprint();
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-requests", "100"),
        ("sink.max-in-flight-size", &*most.to_string()),
        ("sink.partition-concurrency", "1"),
    ];
    let (mut engine, now) = (engine(&options, &["0", "1"], false, 1), Instant::now());
    let (hot, _) = one_of_each();
    // Ten for the hot partition have failed, and wait for another attempt.
    let mut sent = accept(&mut engine, now, 0, (0..10).map(|n| hot + 7 * n)).sent;
    let error = refused(503, 0, Asked::Bulk, None);
    engine.concluded(now, sent.remove(0), Answer::Whole(error));
    assert!(seen(&mut engine).sent.is_empty());
    let (mut batches, mut hot_ones) = (0, Vec::new());
    let first = fill_beside(&mut engine, now, 6, &mut batches, &mut hot_ones);
    // They and all that came meanwhile go in one request, each with a frame of its own by now.
    let later = now + MINUTE;
    engine.woken(later);
    assert!(seen(&mut engine).sent.is_empty() && hot_ones.len() == 1);
    engine.concluded(later, hot_ones.remove(0), taken(1));
    let hangs = seen(&mut engine).sent;
    assert_eq!(hangs[0].operations.len(), 9 + usize::from(first));
    assert!(hangs[0].operations.iter().filter(|op| op.is_apart()).count() > 10);
    let more = fill_beside(&mut engine, later, 26, &mut batches, &mut hot_ones);
    assert!(more >= 12, "{more} batches behind the first {first}");
}

#[test]
fn what_a_slowed_partition_has_under_way_does_not_keep_the_frames_of_others() {
    let most = 60 * upserts([1])[0].footprint();
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-requests", "100"),
        ("sink.max-in-flight-size", &*most.to_string()),
        ("sink.bulk", "false"),
        ("max-concurrency", "64"),
    ];
    let (mut engine, now) = (engine(&options, &["0", "1"], false, 1), Instant::now());
    let (hot, _) = one_of_each();
    let mut sent = accept(&mut engine, now, 0, [hot]).sent;
    let throttled = OperationResult::failed(refused(429, 3200, Asked::Upsert, Some(100)));
    engine.concluded(now, sent.remove(0), Answer::Each(vec![throttled]));
    let later = now + Duration::from_secs(1);
    engine.woken(later);
    assert_eq!(seen(&mut engine).sent.len(), 1);
    let (mut batches, mut hot_ones) = (0, Vec::new());
    let all = fill_beside(&mut engine, later, 26, &mut batches, &mut hot_ones);
    assert_eq!(hot_ones.len(), usize::from(all), "all are under way");
    assert!(all >= 20, "{all} batches");
}

#[test]
fn what_is_made_of_a_record_or_read_for_it_counts_as_held() {
    let document = format!("{{\"id\":\"d\",\"a\":null,\"text\":\"{}\"}}", "x".repeat(3000));
    let new = |id: &'static str, kind| NewOperation {
        kind,
        id,
        partition_key: "[\"k\"]",
        if_match: "",
        document: document.as_bytes(),
    };
    let options = [
        ("sink.null-policy", "drop"),
        ("sink.max-in-flight-size", "10000"),
        ("sink.max-operations-per-request", "2"),
    ];
    let rules = Rules {
        drop_nulls: true,
        ..Rules::plain(&["/pk"])
    };
    let (mut engine, now) = (engine(&options, &["0"], false, 1), Instant::now());
    let give = |engine: &mut Engine, number: u64, kind| {
        let frame = encode_operations(&[new("d", kind)]);
        let operations = decode_operations(frame).unwrap();
        engine
            .accept(now, number, Checked::of(number, operations, &rules))
            .unwrap();
        seen(engine).sent
    };
    // The document without its null is a second one.
    let mut sent = give(&mut engine, 0, OperationKind::Upsert);
    assert!(
        (6000..7000).contains(&engine.held_bytes()),
        "{}",
        engine.held_bytes()
    );
    engine.concluded(now, sent.remove(0), taken(1));
    assert_eq!(engine.held_bytes(), 0);
    // What was read and merged is another.
    let mut sent = give(&mut engine, 1, OperationKind::BulkUpdate);
    assert_eq!(engine.room(now) % 2, 0);
    let stored = Stored {
        document: format!("{{\"id\":\"d\",\"before\":\"{}\"}}", "y".repeat(5000)).into_bytes(),
        etag: "e".to_owned(),
    };
    let read = OperationResult {
        stored: Some(Box::new(stored)),
        ..OperationResult::ok(200, 1.0)
    };
    engine.concluded(now, sent.remove(0), Answer::Each(vec![read]));
    let mut sent = seen(&mut engine).sent;
    assert!(engine.held_bytes() > 14_000, "{}", engine.held_bytes());
    assert_eq!(engine.room(now) % 2, 1);
    engine.concluded(now, sent.remove(0), taken(1));
    assert_eq!((engine.room(now) % 2, engine.held_bytes()), (0, 0));
    assert!(engine.is_at_rest());
}

#[test]
fn no_more_is_read_while_what_was_read_fills_the_bytes_that_may_be_held() {
    let update = |n: usize| {
        let new = NewOperation {
            kind: OperationKind::BulkUpdate,
            id: &format!("d{n}"),
            partition_key: "[\"k1\"]",
            if_match: "",
            document: b"{}",
        };
        decode_operations(encode_operations(&[new])).unwrap()
    };
    let options = [
        ("sink.max-in-flight-size", "20000"),
        ("sink.max-operations-per-request", "1"),
        ("sink.partition-concurrency", "4"),
    ];
    let (mut engine, mut now) = (engine(&options, &["0"], false, 1), Instant::now());
    let mut sent = Vec::new();
    for n in 0..10 {
        let checked = Checked::of(n as u64, update(n), &Rules::plain(&["/pk"]));
        engine.accept(now, n as u64, checked).unwrap();
        sent.extend(seen(&mut engine).sent);
    }
    let (mut written, mut refuses) = (0, true);
    while written < 10 {
        // What is read comes at once; writing fails at first, for as long as anything is sent.
        let Some(request) = sent.pop() else {
            assert!(
                written > 0 || engine.held_bytes() < 70_000,
                "{}",
                engine.held_bytes()
            );
            refuses = false;
            sent = next_sent(&mut engine, &mut now);
            continue;
        };
        let answer = match request.operations[0].verb() {
            Verb::Read => {
                let stored = Stored {
                    document: format!("{{\"before\":\"{}\"}}", "y".repeat(9000)).into_bytes(),
                    etag: "e".to_owned(),
                };
                Answer::Each(vec![OperationResult {
                    stored: Some(Box::new(stored)),
                    ..OperationResult::ok(200, 1.0)
                }])
            }
            _ if refuses => Answer::Each(vec![OperationResult::failed(refused(
                503,
                0,
                Asked::Update,
                None,
            ))]),
            _ => {
                written += 1;
                taken(1)
            }
        };
        engine.concluded(now, request, answer);
        sent.extend(seen(&mut engine).sent);
    }
    assert!(engine.is_at_rest());
}

/// Keys by the partition that they belong to, of four.
fn keys_of_four() -> Vec<Vec<String>> {
    let (mut engine, now) = (engine(&[], &["0", "1", "2", "3"], false, 1), Instant::now());
    let keys: Vec<_> = (0..64).map(|n| format!("[\"k{n}\"]")).collect();
    let new = |key| NewOperation {
        kind: OperationKind::Upsert,
        id: "d",
        partition_key: key,
        if_match: "",
        document: b"{}",
    };
    let new: Vec<_> = keys.iter().map(|key| new(key.as_str())).collect();
    let operations = decode_operations(encode_operations(&new)).unwrap();
    engine
        .accept(now, 0, Checked::of(0, operations, &Rules::plain(&["/pk"])))
        .unwrap();
    let mut all = vec![Vec::new(); 4];
    for request in seen(&mut engine).sent {
        let texts = request.operations.iter().map(|op| op.partition_key().to_vec());
        let texts = texts.map(|text| String::from_utf8(text).unwrap());
        all[request.partition as usize].extend(texts);
    }
    all
}

/// What came of a run.
#[derive(Debug, Default)]
struct Run {
    /// Records that were written to the hot partition, and to the others.
    hot: u64,
    others: u64,
    /// Operations that the hot partition turned away.
    refused: u64,
}

/// Twenty seconds of a stream of 2000 records a second, in batches of 500: nine in ten for three partitions that take all, the tenth, where
/// `hot`, for a key whose partition takes a hundred a second. `batches`: as many may be in flight, whatever the core says.
fn twenty_seconds(hot: bool, batches: Option<usize>) -> Run {
    const MILLI: Duration = Duration::from_millis(1);
    let keys = keys_of_four();
    let others: Vec<_> = keys[1..].iter().flatten().collect();
    let ids = ["0", "1", "2", "3"];
    let (mut engine, mut now) = (engine(&[], &ids, false, 1), Instant::now());
    let mut under_way = Vec::<(Instant, Request)>::new();
    let (mut run, mut taken_now, mut number, mut in_flight) = (Run::default(), 0.0_f64, 0, 0);
    let mut wake_at = None::<Instant>;
    for milli in 0..20_000_u64 {
        now += MILLI;
        taken_now = (taken_now + 0.1).min(10.0);
        let (due, later): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(at, _)| *at <= now);
        under_way = later;
        for (_, request) in due {
            let mut each = |_: &Operation| {
                if request.partition > 0 {
                    run.others += 1;
                    return OperationResult::ok(201, 1.0);
                }
                if taken_now < 1.0 {
                    run.refused += 1;
                    return OperationResult::failed(refused(429, 3200, Asked::Upsert, Some(50)));
                }
                taken_now -= 1.0;
                run.hot += 1;
                OperationResult::ok(201, 1.0)
            };
            let answer = Answer::Each(request.operations.iter().map(&mut each).collect());
            engine.concluded(now, request, answer);
        }
        if wake_at.take_if(|at| *at <= now).is_some() {
            engine.woken(now);
        }
        let may = match batches {
            Some(most) => in_flight < most,
            None => engine.room(now).is_multiple_of(2),
        };
        // A batch for each quarter of a second that has passed.
        if may && number * 250 <= milli {
            let rows = (0..500).map(|i| match i % 10 {
                0 => &keys[0][0],
                _ => others[i % others.len()],
            });
            let rows = rows.enumerate().filter(|(i, _)| hot || i % 10 > 0);
            let texts: Vec<_> = rows.map(|(i, key)| (format!("{number}-{i}"), key)).collect();
            let new = texts.iter().map(|(id, key)| NewOperation {
                kind: OperationKind::Upsert,
                id,
                partition_key: key,
                if_match: "",
                document: b"{}",
            });
            let frame = encode_operations(&new.collect::<Vec<_>>());
            let operations = decode_operations(frame).unwrap();
            engine
                .accept(
                    now,
                    number,
                    Checked::of(number, operations, &Rules::plain(&["/pk"])),
                )
                .unwrap();
            (number, in_flight) = (number + 1, in_flight + 1);
        }
        let seen = seen(&mut engine);
        in_flight -= seen.completed.len();
        wake_at = seen.wake_at.or(wake_at);
        // Five milliseconds, and one more for twenty operations.
        let takes = |request: &Request| MILLI * (5 + request.operations.len() as u32 / 20);
        let sent = seen.sent.into_iter().map(|r| (now + takes(&r), r));
        under_way.extend(sent);
    }
    run
}

#[test]
fn beside_a_hot_key_the_others_are_written_as_if_it_were_not_there() {
    let alone = twenty_seconds(false, None);
    let beside = twenty_seconds(true, None);
    let counted = twenty_seconds(true, Some(8));
    let all = format!("alone {alone:?}, beside {beside:?}, eight batches {counted:?}");
    assert!(alone.others >= 35_500, "{all}");
    assert!(beside.others >= alone.others - alone.others / 100, "{all}");
    // It has what it takes, for about as many operations again that are sent in vain.
    assert!(beside.hot >= 1900 && beside.refused < 2 * beside.hot, "{all}");
    // Where batches are counted, those with a record that waits are soon all that there are.
    assert!(counted.others < alone.others * 7 / 10, "{all}");
}

#[test]
fn without_throttling_the_writers_batches_are_what_is_in_flight() {
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-requests", "2"),
    ];
    let (mut engine, now) = (engine(&options, &["0", "1"], false, 1), Instant::now());
    let mut under_way = accept(&mut engine, now, 0, 0..10).sent;
    assert_eq!(engine.room(now), 0);
    under_way.extend(accept(&mut engine, now, 1, 10..20).sent);
    assert_eq!(engine.room(now), 1, "twenty records of two batches");
    assert_eq!(engine.room(now), 1, "nothing has changed");
    while let Some(request) = under_way.pop() {
        let count = request.operations.len();
        engine.concluded(now, request, taken(count));
        under_way.extend(seen(&mut engine).sent);
    }
    assert_eq!(engine.room(now), 2);
    assert!(engine.is_at_rest());
}

#[test]
fn bytes_bound_what_is_held_and_what_is_left_of_a_batch_holds_little() {
    let ten = 10 * upserts([1])[0].footprint();
    let most = 4 * ten;
    let options = [
        ("sink.buffer-flush.max-rows", "10"),
        ("sink.max-in-flight-size", &*most.to_string()),
    ];
    let (mut engine, now, batches) = fill(&options);
    // Whole batches would fill it with the fourth; their last records alone go on up to half of it.
    assert!((16..34).contains(&batches), "{batches}");
    assert!(
        engine.held_bytes() <= most + ten,
        "{} of {most}",
        engine.held_bytes()
    );
    // Once the partition takes them there is room again, and nothing is left.
    let mut now = now + MINUTE + MINUTE;
    engine.woken(now);
    let mut sent = seen(&mut engine).sent;
    while let Some(request) = sent.pop() {
        let count = request.operations.len();
        now += Duration::from_millis(1);
        engine.concluded(now, request, taken(count));
        sent.extend(seen(&mut engine).sent);
    }
    assert_eq!((engine.room(now) % 2, engine.held_bytes()), (0, 0));
    assert!(engine.is_at_rest());
}

#[test]
fn heirs_of_a_throttled_partition_are_asked_for_no_more_than_it_was() {
    let (mut engine, now) = (engine(&[], &["0", "1"], false, 1), Instant::now());
    for request in accept(&mut engine, now, 0, 0..7).sent {
        let throttled = request.partition == 0;
        let count = request.operations.len();
        let answer = match throttled {
            true => Answer::Whole(refused(429, 3200, Asked::Bulk, Some(100))),
            false => taken(count),
        };
        engine.concluded(now, request, answer);
    }
    assert_eq!(engine.gauges(now).partitions_slowed, 1);
    // Thirds of the range: the first two lie where the throttled half was.
    engine.refreshed(now, Ok(map(&["2", "3", "4"])));
    assert_eq!(engine.gauges(now).partitions_slowed, 2);
    // Two that go together are one that was throttled.
    engine.refreshed(now, Ok(map(&["5"])));
    assert_eq!(engine.gauges(now).partitions_slowed, 1);
}

#[test]
fn what_holds_operations_up_is_named() {
    let (mut engine, now) = (engine(&[], &["0", "1"], false, 1), Instant::now());
    for request in accept(&mut engine, now, 0, 0..7).sent {
        if request.partition == 1 {
            let error = CoreError {
                activity_id: "act-7".to_owned(),
                ..refused(429, 3200, Asked::Bulk, Some(100))
            };
            engine.concluded(now, request, Answer::Whole(error));
        }
    }
    let bound = map(&["0", "1"])[1].1.to_hex();
    let later = now + Duration::from_secs(9);
    let held = engine.held_up(later);
    assert_eq!(held.len(), 1, "{held:?}");
    for part in [
        format!("partition 1 of the hashes from {bound} up to the last holds ").as_str(),
        "for 9 s and 2 attempts",
        "429/3200",
        "act-7",
    ] {
        assert!(held[0].contains(part), "{} without {part}", held[0]);
    }
    assert_eq!(engine.gauges(later).partitions_held, 1);
    // The other one does not answer.
    let held = engine.held_up(now + Duration::from_secs(10));
    let silent =
        format!("partition 0 of the hashes from the first up to {bound} has not answered a request for 10 s");
    assert!(held.iter().any(|text| text.starts_with(&silent)), "{held:?}");
}

#[test]
fn the_sinks_own_wait_for_its_budget_is_blamed_on_no_partition() {
    let second = Duration::from_secs(1);
    let options = [("sink.stall-timeout", "40000")];
    let (mut engine, now) = (engine(&options, &["0"], false, 1), Instant::now());
    let request = accept(&mut engine, now, 0, [1]).sent.remove(0);
    engine.put_off(&request, now + 100 * second);
    let text = |engine: &Engine, after: u32| engine.held_up(now + after * second);
    assert_eq!(
        text(&engine, 50),
        ["1 requests wait for their share of sink.request-units-per-second, the first of them for 50 s"]
    );
    assert!(text(&engine, 109).is_empty(), "{:?}", text(&engine, 109));
    engine.woken(now + 139 * second);
    assert!(seen(&mut engine).completed.is_empty());
    // Then it was sent, and what is not answered is the partition's.
    let late = text(&engine, 110);
    let silent = "partition 0 of the hashes from the first up to the last has not answered a request for 10 s, of 1 under way";
    assert_eq!(late, [silent]);
    engine.woken(now + 140 * second);
    assert_eq!(seen(&mut engine).completed.len(), 1);
}

#[test]
fn a_sink_that_hears_nothing_at_all_fails_and_says_what_it_waits_for() {
    let second = Duration::from_secs(1);
    let (mut engine, now) = (
        engine(&[("sink.stall-timeout", "40000")], &["0"], false, 1),
        Instant::now(),
    );
    // What is idle does not wait.
    engine.woken(now);
    let begun = now + 3600 * second;
    let first = accept(&mut engine, begun, 0, [1]);
    assert_eq!(first.wake_at, Some(begun + 40 * second));
    engine.woken(begun + 39 * second);
    assert!(seen(&mut engine).completed.is_empty());
    engine.woken(begun + 40 * second);
    let ended = seen(&mut engine).completed;
    let [failure] = &ended[0].failures[..] else {
        panic!("{ended:?}");
    };
    assert_eq!(
        (failure.result, failure.error.kind),
        (OutcomeResult::Failed, Kind::Transient)
    );
    for part in [
        "nothing for 40 s",
        "1 operations",
        "partition 0 ",
        "sink.stall-timeout",
    ] {
        let message = &failure.error.message;
        assert!(message.contains(part), "{message} without {part}");
    }
}

#[test]
fn throttling_that_goes_on_is_no_stall() {
    let options = [("sink.stall-timeout", "40000")];
    let (mut engine, mut now) = (engine(&options, &["0"], false, 1), Instant::now());
    let mut sent = accept(&mut engine, now, 0, [1]).sent;
    // Also where it asks for longer waits than that.
    for (times, asked) in [(100, 30), (10, 400)] {
        for _ in 0..times {
            let error = refused(429, 3200, Asked::Bulk, Some(asked * 1000));
            engine.concluded(now, sent.remove(0), Answer::Whole(error));
            sent = next_sent(&mut engine, &mut now);
        }
    }
}

/// Lets time pass until something is sent, and nothing may end before that.
fn next_sent(engine: &mut Engine, now: &mut Instant) -> Vec<Request> {
    loop {
        let seen = seen(engine);
        assert!(seen.completed.is_empty(), "{:?}", seen.completed);
        if !seen.sent.is_empty() {
            return seen.sent;
        }
        *now = seen.wake_at.unwrap_or(*now + Duration::from_secs(1)).max(*now);
        engine.woken(*now);
    }
}

#[test]
fn letters_that_a_throttled_container_does_not_take_yet_are_no_stall() {
    let second = Duration::from_secs(1);
    let options = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "dead"),
        ("sink.stall-timeout", "40000"),
    ];
    let (mut engine, mut now) = (engine(&options, &["0"], true, 1), Instant::now());
    let mut sent = accept(&mut engine, now, 0, [1]).sent;
    let bad = OperationResult::failed(refused(400, 0, Asked::Upsert, None));
    engine.concluded(now, sent.remove(0), Answer::Each(vec![bad]));
    let letter = seen(&mut engine).letters.remove(0);
    let throttled = refused(429, 3200, Asked::Upsert, None);
    // Also where it asks for longer waits than that.
    for (attempts, wait) in [(1, 30), (2, 30), (3, 30), (4, 100)] {
        engine.not_stored_yet(now, letter.number, attempts, &throttled, wait * second);
        for _ in 0..wait {
            now += second;
            engine.woken(now);
            let ended = seen(&mut engine).completed;
            assert!(ended.is_empty(), "{ended:?}");
        }
    }
    // Then it says nothing any more.
    engine.woken(now + 40 * second);
    let ended = seen(&mut engine).completed;
    let message = &ended[0].failures[0].error.message;
    for part in [
        "for 230 s and 4 attempts",
        "the last answer of container 'dead' was 429/3200",
    ] {
        assert!(message.contains(part), "{message} without {part}");
    }
}

#[test]
fn a_letter_that_is_on_its_way_since_a_moment_is_no_stall() {
    let second = Duration::from_secs(1);
    let options = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "dead"),
        ("sink.stall-timeout", "40000"),
    ];
    let (mut engine, now) = (engine(&options, &["0"], true, 1), Instant::now());
    accept(&mut engine, now, 0, [1]);
    let mut bad = upserts([2]);
    bad[0].kind = OperationKind::Refused;
    let later = now + 39 * second;
    engine
        .accept(later, 1, Checked::of(1, bad, &Rules::plain(&["/pk"])))
        .unwrap();
    assert_eq!(seen(&mut engine).letters.len(), 1);
    engine.woken(later + 39 * second);
    assert!(seen(&mut engine).completed.is_empty());
    engine.woken(later + 40 * second);
    assert_eq!(seen(&mut engine).completed.len(), 2);
}

#[test]
fn the_wait_for_the_bulk_form_is_no_stall() {
    let options = [
        ("sink.stall-timeout", "40000"),
        ("sink.bulk-probe-interval", "300000"),
    ];
    let (mut engine, begun) = (engine(&options, &["0"], false, 1), Instant::now());
    // What no address can hold goes in bulk only.
    let delete = NewOperation {
        kind: OperationKind::Delete,
        id: "..",
        partition_key: "[\"k1\"]",
        if_match: "",
        document: b"",
    };
    let operations = decode_operations(encode_operations(&[delete])).unwrap();
    engine
        .accept(begun, 0, Checked::of(0, operations, &Rules::plain(&["/pk"])))
        .unwrap();
    let mut now = begun;
    for _ in 0..3 {
        let mut sent = next_sent(&mut engine, &mut now);
        assert!(sent[0].bulk_range.is_some());
        engine.concluded(
            now,
            sent.remove(0),
            Answer::Whole(refused(405, 0, Asked::Bulk, None)),
        );
    }
    let mut sent = next_sent(&mut engine, &mut now);
    assert!(now >= begun + 5 * MINUTE, "{:?}", now - begun);
    engine.concluded(now, sent.remove(0), taken(1));
    assert!(seen(&mut engine).completed[0].failures.is_empty());
}

#[test]
fn a_number_that_is_in_use_is_refused() {
    let (mut engine, now) = (engine(&[], &["0"], false, 1), Instant::now());
    let mut first = accept(&mut engine, now, 7, [1]);
    let twice = Checked::of(7, upserts([2]), &Rules::plain(&["/pk"]));
    assert_eq!(engine.accept(now, 7, twice).unwrap_err().kind, Kind::BadRequest);
    assert_eq!(engine.gauges(now).bytes_buffered, upserts([1])[0].size() as u64);
    engine.concluded(now, first.sent.remove(0), taken(1));
    assert_eq!(seen(&mut engine).completed.len(), 1);
    assert_eq!(accept(&mut engine, now, 7, []).completed.len(), 1, "an empty one");
}

#[test]
fn what_is_refused_faster_than_it_can_be_stored_holds_the_rest_back() {
    let options = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "dead"),
    ];
    let (mut engine, now) = (engine(&options, &["0"], true, 1), Instant::now());
    let mut refused = upserts((0..105).map(|n| n as u8));
    refused.iter_mut().for_each(|op| op.kind = OperationKind::Refused);
    engine
        .accept(now, 0, Checked::of(0, refused, &Rules::plain(&["/pk"])))
        .unwrap();
    let mut letters = seen(&mut engine).letters;
    assert_eq!(letters.len(), 4, "a few at a time");
    assert!(
        accept(&mut engine, now, 1, [1]).sent.is_empty(),
        "101 letters wait"
    );
    engine.stored(now, Box::new(letters.remove(0)), Ok(()));
    let next = seen(&mut engine);
    assert_eq!((next.letters.len(), next.sent.len()), (1, 0));
    engine.stored(now, Box::new(letters.remove(0)), Ok(()));
    let next = seen(&mut engine);
    assert_eq!((next.letters.len(), next.sent.len()), (1, 1));
    let counts = engine.take_counts();
    assert_eq!(counts.dead_lettered, 2);
}

/// What a panic leaves behind is dealt with by the dispatcher.
#[test]
fn what_a_panic_leaves_behind_comes_back_as_failed() {
    struct Hangs(PartitionKeyDefinition);

    impl Service for Hangs {
        fn key_definition(&self) -> &PartitionKeyDefinition {
            &self.0
        }

        fn partitions(
            &self,
            _: bool,
        ) -> futures::future::BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
            Box::pin(std::future::ready(Ok(map(&["0", "1"]))))
        }

        fn bulk<'a>(
            &'a self,
            _: &'a [Operation],
            _: &'a str,
        ) -> futures::future::BoxFuture<'a, Result<Vec<OperationResult>>> {
            Box::pin(std::future::pending())
        }

        fn point<'a>(&'a self, _: &'a Operation) -> futures::future::BoxFuture<'a, OperationResult> {
            Box::pin(std::future::pending())
        }
    }

    let frame = |count: u8| {
        let new = |_| NewOperation {
            kind: OperationKind::Upsert,
            id: "d",
            partition_key: "[1]",
            if_match: "",
            document: b"{}",
        };
        encode_operations(&(0..count).map(new).collect::<Vec<_>>())
    };
    type Breaks = fn(&mut Engine, Instant);
    let ways: [(Breaks, &str); 2] = [
        (|_, _| panic!("broken on purpose"), "broken on purpose"),
        (|engine, _| engine.break_room(), "overflow"),
    ];
    for (breaks, why) in ways {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let service = Box::new(Hangs(PartitionKeyDefinition::from("/pk")));
        let config = config(&[("sink.max-in-flight-size", "1024")]);
        let sink = Sink::over(service, None, config, runtime.handle(), 1);
        let sink = runtime.block_on(sink).unwrap();
        assert_eq!(sink.submit(0, frame(100)).unwrap(), 1, "it is full");
        assert!(sink.poll(Duration::ZERO).unwrap().is_empty());
        Inner::tell(&sink.inner, breaks);
        assert_eq!(sink.room(), 2, "nobody waits for what does not come");
        // What is submitted afterwards fails as well.
        sink.submit(1, frame(10)).unwrap();
        let completed = sink.poll(Duration::ZERO).unwrap();
        assert_eq!(completed.len(), 2);
        for completion in completed {
            let [failure] = &completion.failures[..] else {
                panic!("{completion:?}");
            };
            assert_eq!(
                (failure.result, failure.error.kind),
                (OutcomeResult::Failed, Kind::Internal)
            );
            assert!(failure.error.message.contains(why), "{failure:?}");
        }
        let metrics = sink.metrics();
        assert_eq!(metrics.failed.load(Relaxed), 110, "all of them");
        assert_eq!(
            (
                metrics.operations_waiting.load(Relaxed),
                metrics.bytes_buffered.load(Relaxed)
            ),
            (0, 0)
        );
    }
}

/// What happens next to the engine of the model.
enum Event {
    Concluded(Request, Answer),
    Refreshed(Result<Vec<(String, EffectivePartitionKey)>>),
    Checked(Result<()>),
    Stored(Box<Letter>, Result<()>),
    Submitted(u64, Vec<u8>),
    Woken(Instant),
}

/// A service that fails at random, in made-up time.
struct Model {
    engine: Engine,
    rng: fastrand::Rng,
    now: Instant,
    /// By their time and the order in which they came.
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    /// Share of answers that are failures, in per cent.
    failing: u32,
    /// Documents with an operation under way, and the newest turn of each that was carried out.
    under_way: BTreeSet<String>,
    newest: BTreeMap<String, u64>,
    /// Partitions whose service asked for a wait, and until when.
    held: BTreeMap<u64, Instant>,
    maps: u64,
    /// Of each submission that has not completed, how many operations it has.
    open: BTreeMap<u64, usize>,
    completed: Vec<String>,
    wake_at: Option<Instant>,
    most_requests: usize,
    requests: usize,
    storing: usize,
    /// Request units of all answers, and those of the completions.
    charged: f64,
    told: f64,
}

impl Model {
    fn later(&mut self, most_ms: u64, event: Event) {
        let at = self.now + Duration::from_millis(self.rng.u64(0..=most_ms));
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn fails(&mut self, per_cent: u32) -> bool {
        self.rng.u32(0..100) < per_cent
    }

    fn map(&self) -> Vec<(String, EffectivePartitionKey)> {
        match self.maps % 3 {
            0 => map(&["0", "1"]),
            1 => map(&["0", "2", "3", "4"]),
            _ => map(&["5"]),
        }
    }

    fn failure(&mut self, asked: Asked) -> CoreError {
        let (status, sub) = match asked {
            Asked::Bulk => *self
                .rng
                .choice(&[(429, 3200), (410, 1002), (503, 0), (400, 0), (405, 0), (413, 0)])
                .unwrap(),
            _ => *self
                .rng
                .choice(&[(429, 0), (449, 0), (410, 1007), (503, 0), (400, 0), (408, 0)])
                .unwrap(),
        };
        let asks = self.fails(50).then(|| self.rng.u64(1..200));
        refused(status, sub, asked, asks)
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let asked = match request.bulk_range {
            Some(_) => Asked::Bulk,
            None => Asked::Upsert,
        };
        if asked == Asked::Bulk && self.fails(self.failing / 2) {
            return Answer::Whole(self.failure(asked));
        }
        let each = request.operations.iter().map(|op| {
            if self.fails(self.failing) {
                return OperationResult::failed(self.failure(op.kind.asked()));
            }
            let before = self.newest.insert(op.id_text().into_owned(), op.turn);
            assert!(
                before.is_none_or(|b| b < op.turn),
                "{} was overtaken",
                op.describe()
            );
            OperationResult::ok(201, 1.0)
        });
        Answer::Each(each.collect())
    }

    /// For how long a partition that throttles is left alone, at least.
    fn note_holds(&mut self, request: &Request, answer: &Answer) {
        let errors: Vec<&CoreError> = match answer {
            Answer::Whole(e) => vec![e],
            Answer::Each(results) => results.iter().filter_map(|r| r.error.as_deref()).collect(),
        };
        let throttled = errors.iter().filter(|e| e.next == Next::Wait);
        if let Some(ms) = throttled.filter_map(|e| e.retry_after_ms).max() {
            let until = self.now + Duration::from_millis(ms);
            let held = self.held.entry(request.partition).or_insert(until);
            *held = until.max(*held);
        }
    }

    fn carry_out(&mut self) {
        let acts: Vec<Act> = self.engine.acts().collect();
        for act in acts {
            match act {
                Act::Send(request) => {
                    let held = self.held.get(&request.partition);
                    assert!(
                        held.is_none_or(|until| *until <= self.now),
                        "sent to a partition that is held"
                    );
                    for op in &request.operations {
                        let id = op.id_text().into_owned();
                        assert!(self.under_way.insert(id), "{} is under way twice", op.describe());
                    }
                    self.requests += 1;
                    assert!(self.requests <= self.most_requests);
                    let answer = self.answer(&request);
                    self.charged += match &answer {
                        Answer::Whole(e) => e.request_charge,
                        Answer::Each(results) => results.iter().map(|r| r.request_charge).sum(),
                    };
                    self.later(300, Event::Concluded(request, answer));
                }
                Act::Refresh => {
                    let failed = self.fails(self.failing);
                    self.maps += u64::from(!failed);
                    let read = match failed {
                        true => Err(refused(503, 0, Asked::Metadata, None)),
                        false => Ok(self.map()),
                    };
                    self.later(50, Event::Refreshed(read));
                }
                Act::Check => self.later(50, Event::Checked(Ok(()))),
                Act::Store(letter) => {
                    self.storing += 1;
                    assert!(self.storing <= 4, "letters are stored a few at a time");
                    let result = match self.fails(self.failing / 8) {
                        true => Err(refused(403, 0, Asked::Upsert, None)),
                        false => Ok(()),
                    };
                    self.later(100, Event::Stored(letter, result));
                }
                Act::Complete(completion) => {
                    let count = self.open.remove(&completion.submission).expect("completes once");
                    let mut indexes = BTreeSet::new();
                    for failure in &completion.failures {
                        assert!((failure.index as usize) < count && indexes.insert(failure.index));
                        assert_ne!(failure.result, OutcomeResult::Ok);
                    }
                    self.told += completion.request_charge;
                    self.completed.push(format!("{completion:?}"));
                }
                Act::WakeAt(at) => {
                    assert!(
                        self.wake_at.is_none_or(|named| at < named),
                        "a time is named once"
                    );
                    self.wake_at = Some(at);
                    self.count += 1;
                    self.events.insert((at, self.count), Event::Woken(at));
                }
            }
        }
    }

    fn step(&mut self, at: Instant, event: Event) {
        self.now = at;
        match event {
            Event::Concluded(request, answer) => {
                self.requests -= 1;
                for op in &request.operations {
                    self.under_way.remove(&*op.id_text());
                }
                self.note_holds(&request, &answer);
                self.engine.concluded(at, request, answer);
            }
            Event::Refreshed(read) => self.engine.refreshed(at, read),
            Event::Checked(result) => self.engine.checked(at, result),
            Event::Stored(letter, result) => {
                self.storing -= 1;
                self.engine.stored(at, letter, result);
            }
            Event::Submitted(number, documents) => {
                let operations = upserts(documents);
                self.open.insert(number, operations.len());
                self.engine
                    .accept(
                        at,
                        number,
                        Checked::of(number, operations, &Rules::plain(&["/pk"])),
                    )
                    .unwrap();
            }
            // One that was put off is forgotten.
            Event::Woken(named) if self.wake_at != Some(named) => return,
            Event::Woken(_) => {
                self.wake_at = None;
                self.engine.woken(at);
            }
        }
        self.carry_out();
    }
}

/// Everything that is submitted ends; what came back, the counts and the time that it took.
fn run(
    seed: u64,
    failing: u32,
    submissions: &[Vec<u8>],
    options: &[(&str, &str)],
) -> (Vec<String>, String, Duration) {
    let start = Instant::now();
    let mut model = Model {
        engine: engine(options, &["0", "1"], true, seed),
        rng: fastrand::Rng::with_seed(seed),
        now: start,
        events: BTreeMap::new(),
        count: 0,
        failing,
        under_way: BTreeSet::new(),
        newest: BTreeMap::new(),
        held: BTreeMap::new(),
        maps: 0,
        open: BTreeMap::new(),
        completed: Vec::new(),
        wake_at: None,
        most_requests: config(options).max_concurrency,
        requests: 0,
        storing: 0,
        charged: 0.0,
        told: 0.0,
    };
    for (number, documents) in (0..).zip(submissions) {
        model.later(2000, Event::Submitted(number, documents.clone()));
    }
    let mut steps = 0;
    while let Some(((at, _), event)) = model.events.pop_first() {
        steps += 1;
        assert!(steps < 200_000, "there is no end to it");
        model.step(at, event);
    }
    assert!(model.open.is_empty(), "{:?} never complete", model.open);
    assert_eq!(model.completed.len(), submissions.len());
    assert!(model.under_way.is_empty());
    assert_eq!(
        Gauges {
            bulk_off: 0,
            partitions_slowed: 0,
            ..model.engine.gauges(model.now)
        },
        Gauges::default()
    );
    assert!(model.engine.is_at_rest(), "something is left behind");
    let counts = model.engine.take_counts();
    let all: usize = submissions.iter().map(Vec::len).sum();
    let ended = counts.records + counts.failed + counts.skipped + counts.dead_lettered;
    assert_eq!(ended, all as u64, "{counts:?}");
    if counts.failed == 0 {
        assert!((model.charged - model.told).abs() < 1e-6, "a charge is lost");
    }
    (model.completed, format!("{counts:?}"), model.now - start)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_submission_completes_once_and_the_same_seed_gives_the_same_run(
        seed: u64,
        failing in 0u32..60,
        submissions in proptest::collection::vec(proptest::collection::vec(0u8..16, 0..30), 1..12),
        concurrency in 1usize..6,
        mode in 0usize..3,
        patient: bool,
    ) {
        let concurrency = concurrency.to_string();
        let options = [
            ("max-concurrency", &*concurrency),
            ("sink.max-operations-per-request", "7"),
            ("sink.bulk-probe-interval", "100"),
            ("sink.failure-mode", ["fail", "skip", "dead-letter"][mode]),
            ("sink.dead-letter-container", "dead"),
            ("retry.max-attempts", if patient { "10000" } else { "3" }),
        ];
        let first = run(seed, failing, &submissions, &options);
        let second = run(seed, failing, &submissions, &options);
        prop_assert_eq!(first, second);
    }
}

/// A batch goes alone, once it holds all of its documents; what came after it on any of them waits until it has ended.
#[test]
fn a_batch_waits_for_its_documents_and_holds_them() {
    let member =
        |id: &str| format!(r#"{{"operationType":"Upsert","id":"{id}","resourceBody":{{"id":"{id}"}}}}"#);
    let batch = |ids: [&str; 2]| {
        (
            OperationKind::Batch,
            "",
            format!("[{}]", ids.map(member).join(",")),
        )
    };
    let one = |id| (OperationKind::Upsert, id, "{}".to_owned());
    let rows = [
        one("a"),
        batch(["a", "b"]),
        one("b"),
        // It stands behind the one before on a document, and before the next one on the other.
        batch(["c", "b"]),
        one("c"),
        batch(["c", "a"]),
        one("d"),
    ];
    let new: Vec<_> = rows
        .iter()
        .map(|(kind, id, document)| NewOperation {
            kind: *kind,
            id,
            partition_key: "[\"k\"]",
            if_match: "",
            document: document.as_bytes(),
        })
        .collect();
    for failing in [false, true] {
        let (mut now, mut engine) = (Instant::now(), engine(&[], &["0"], false, 1));
        let operations = decode_operations(encode_operations(&new)).unwrap();
        let operations = Checked::of(1, operations, &Rules::plain(&["/pk"]));
        engine.accept(now, 1, operations).unwrap();
        let (mut order, mut completed, mut fails) = (Vec::new(), 0, failing);
        loop {
            let seen = seen(&mut engine);
            completed += seen.completed.len();
            if seen.sent.is_empty() && completed == 1 {
                break;
            }
            if seen.sent.is_empty() {
                now = seen.wake_at.expect("something is left to be done");
                engine.woken(now);
            }
            for request in seen.sent {
                let turns: Vec<_> = request.operations.iter().map(|op| op.turn).collect();
                let is_batch = request.operations.iter().any(|op| op.verb() == Verb::Batch);
                assert!(!is_batch || request.bulk_range.is_none() && turns.len() == 1);
                let answer = match is_batch && std::mem::take(&mut fails) {
                    true => Answer::Each(vec![OperationResult::failed(refused(449, 0, Asked::Batch, None))]),
                    false => {
                        order.extend(turns.iter().copied());
                        taken(turns.len())
                    }
                };
                engine.concluded(now, request, answer);
            }
        }
        let place = |turn: u64| order.iter().position(|t| *t == turn).unwrap();
        for (before, after) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (1, 5)] {
            assert!(place(before) < place(after), "{order:?}");
        }
        assert_eq!(
            (order.len(), engine.is_at_rest()),
            (rows.len(), true),
            "{order:?}"
        );
        assert!(
            place(6) < place(1),
            "what is of no batch waits for none: {order:?}"
        );
    }
}
