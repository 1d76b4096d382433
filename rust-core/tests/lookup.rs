//! Look-ups, over HTTP.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::{CoreError, Kind};
use cosmosflink_core::lookup::{encode_keys, Lookup, Value, Wanted};
use cosmosflink_core::rows::{Changelog, Column, Format, OnError, Origin, Plan, Scalar, Unit};
use cosmosflink_core::sink::OperationKind;
use serde_json::json;

use self::support::{outcomes, submit, until, upserts, Local, Writer, WAIT};

const DECIMAL: Scalar = Scalar::Decimal {
    precision: 20,
    scale: 2,
};
const MOMENT: Scalar = Scalar::Timestamp {
    precision: 3,
    zoned: true,
};

fn plan(columns: &[(&str, Scalar)]) -> Plan {
    let column = |(name, scalar): &(&str, Scalar)| Column {
        name: (*name).to_owned(),
        origin: Origin::Path(vec![(*name).to_owned()]),
        kind: (*scalar).into(),
    };
    Plan {
        missing_is_error: false,
        on_error: OnError::Fail,
        format: Format::Iso,
        unit: Unit::None,
        changelog: Changelog::Upsert,
        columns: columns.iter().map(column).collect(),
        filter: None,
    }
}

/// Ids, keys and numbers, as [`support::document`] has them.
fn documents() -> Plan {
    plan(&[("id", Scalar::String), ("pk", Scalar::String), ("n", Scalar::Int)])
}

struct Reader {
    lookup: Lookup,
    next: u64,
}

fn reader(local: &Local, container: &str, plan: &Plan, columns: &[usize], extra: &[(&str, &str)]) -> Reader {
    let config = Config::parse(Role::Lookup, &local.options(container, extra)).unwrap();
    let wanted = Wanted {
        alone: false,
        columns: columns.to_vec(),
    };
    Reader {
        lookup: Lookup::open(config, plan, &wanted).unwrap(),
        next: 0,
    }
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.into()))
}

fn whole(n: i64) -> Option<Value> {
    Some(Value::Whole(n))
}

/// What became of each key: the first text of each row, in order, or the failure.
type Found = Vec<Result<Vec<String>, CoreError>>;

/// The text in the first column of a row.
fn first(row: &[u8]) -> String {
    assert_eq!((row[0], row.len() % 8), (0, 0), "inserted, and aligned");
    let bytes = match row[15] & 0x80 {
        0 => {
            let word = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().unwrap()) as usize;
            &row[word(12)..word(12) + word(8)]
        }
        inline => &row[8..8 + usize::from(row[15] ^ inline)],
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Reader {
    fn ask(&mut self, keys: Vec<Vec<Option<Value>>>) {
        let keys = keys.into_iter().map(|values| {
            self.next += 1;
            (self.next - 1, values)
        });
        let frame = encode_keys(&keys.collect::<Vec<_>>());
        self.lookup.look_up(&frame).unwrap();
    }

    fn answers(&mut self) -> Found {
        let mut found = BTreeMap::new();
        let deadline = Instant::now() + WAIT;
        while found.len() < self.next as usize {
            assert!(Instant::now() < deadline, "{} of {}", found.len(), self.next);
            for answer in self.lookup.answers(Duration::from_millis(200)).unwrap() {
                let rows = answer.outcome.map(|rows| {
                    let mut rows: Vec<_> = rows.iter().map(|row| first(row)).collect();
                    rows.sort();
                    rows
                });
                for number in answer.numbers {
                    assert!(
                        found.insert(number, rows.clone()).is_none(),
                        "{number} came twice"
                    );
                }
            }
        }
        self.next = 0;
        found.into_values().collect()
    }

    fn find(&mut self, keys: Vec<Vec<Option<Value>>>) -> Vec<Vec<String>> {
        self.ask(keys);
        self.answers().into_iter().map(Result::unwrap).collect()
    }

    fn count(&self, counter: impl Fn(&cosmosflink_core::metrics::Metrics) -> u64) -> u64 {
        counter(self.lookup.metrics())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.lookup.close();
    }
}

fn put(sink: &Writer, id: &str, key: &str, document: &str) {
    submit(sink, 0, OperationKind::Upsert, id, key, document);
    outcomes(sink, 1);
}

fn filled(local: &Local, count: usize, keys: usize) {
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", count, keys);
    outcomes(&sink, count);
    sink.close();
    local.forget_requests();
}

#[test]
fn one_document_is_a_point_read_and_one_that_is_not_there_no_row() {
    let local = Local::start(&["c:/pk:2"]);
    filled(&local, 20, 5);
    let mut reader = reader(&local, "c", &documents(), &[1, 0], &[]);
    assert_eq!(reader.find(vec![vec![text("k3"), text("a-3")]]), [["a-3"]]);
    assert_eq!(reader.find(vec![vec![text("k4"), text("a-3")]]), [[""; 0]]);
    assert_eq!(
        (local.requests("read").len(), local.requests("query").len()),
        (2, 0)
    );
    assert_eq!(reader.count(|m| m.point_reads.load(Relaxed)), 2);
    assert_eq!(reader.count(|m| m.rows_found.load(Relaxed)), 1);
}

#[test]
fn many_documents_take_a_request_for_each_partition_and_each_is_asked_for_once() {
    let local = Local::start(&["c:/pk:2"]);
    filled(&local, 200, 10);
    let mut reader = reader(
        &local,
        "c",
        &documents(),
        &[0, 1],
        &[("lookup.batch.max-wait", "100")],
    );
    let key = |i: usize| vec![text(&format!("a-{i}")), text(&format!("k{}", i % 10))];
    // Some of them twice, and some that are not there.
    let numbers: Vec<usize> = (150..250).chain(180..200).collect();
    let found = reader.find(numbers.iter().map(|i| key(*i)).collect());
    for (i, rows) in numbers.iter().zip(found) {
        let expected: Vec<_> = (*i < 200).then(|| format!("a-{i}")).into_iter().collect();
        assert_eq!(rows, expected);
    }
    let requests = local.requests("query").len() + local.requests("read").len();
    assert_eq!((requests, local.requests("queryPlan").len()), (2, 0));
    assert_eq!(reader.count(|m| m.keys_asked.load(Relaxed)), 120);
    assert_eq!(reader.count(|m| m.keys_sent.load(Relaxed)), 100);
}

#[test]
fn a_key_that_several_wait_for_is_asked_for_once_also_while_it_is_under_way() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1, 1);
    local.admin(
        "faults",
        json!({"operations": "pointRead", "delayMillis": 500, "count": 1}),
    );
    let mut reader = reader(&local, "c", &documents(), &[0, 1], &[]);
    let key = || vec![text("a-0"), text("k0")];
    reader.ask(vec![key(), key()]);
    until("the request is under way", || {
        reader.count(|m| m.requests_in_flight.load(Relaxed)) == 1
    });
    reader.ask(vec![key()]);
    let found: Vec<_> = reader.answers().into_iter().map(Result::unwrap).collect();
    assert_eq!(found, [["a-0"], ["a-0"], ["a-0"]]);
    assert_eq!(local.requests("read").len(), 1);
}

#[test]
fn a_partition_key_alone_asks_one_partition() {
    let local = Local::start(&["c:/pk:4"]);
    filled(&local, 40, 4);
    let mut reader = reader(&local, "c", &documents(), &[1], &[]);
    let found = reader.find(vec![vec![text("k1")]]);
    let expected: BTreeSet<_> = (0..40).filter(|i| i % 4 == 1).map(|i| format!("a-{i}")).collect();
    assert_eq!(found[0].iter().cloned().collect::<BTreeSet<_>>(), expected);
    let queries = local.requests("query");
    assert_eq!((queries.len(), local.requests("queryPlan").len()), (1, 0));
    assert_eq!(reader.find(vec![vec![text("none")]]), [[""; 0]]);
}

#[test]
fn any_other_column_asks_all_partitions() {
    let local = Local::start(&["c:/pk:2"]);
    filled(&local, 40, 8);
    let mut reader = reader(
        &local,
        "c",
        &documents(),
        &[2],
        &[("lookup.batch.max-wait", "50")],
    );
    let found = reader.find((0..50).map(|n| vec![whole(n)]).collect());
    for (n, rows) in found.into_iter().enumerate() {
        let expected: Vec<_> = (n < 40).then(|| format!("a-{n}")).into_iter().collect();
        assert_eq!(rows, expected);
    }
    assert_eq!(local.requests("query").len(), 2, "one for each partition");
}

#[test]
fn a_container_may_have_any_number_of_partitions() {
    let local = Local::start(&["c:/pk:120"]);
    filled(&local, 10, 10);
    let mut reader = reader(&local, "c", &documents(), &[2], &[]);
    assert_eq!(reader.find(vec![vec![whole(7)]]), [["a-7"]]);
}

#[test]
fn a_key_is_compared_by_type_and_null_equals_nothing() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    for (id, value) in [
        ("whole", "5"),
        ("point", "5.0"),
        ("text", "\"5\""),
        ("other", "6"),
        ("null", "null"),
        ("big", "9007199254740993"),
        ("bigtext", "\"9007199254740993\""),
        ("neighbour", "9007199254740995"),
        ("cents", "12.50"),
        ("centstext", "\"12.50\""),
        ("rounded", "12.4999"),
    ] {
        put(
            &sink,
            id,
            "[\"k\"]",
            &format!(r#"{{"id":"{id}","pk":"k","v":{value}}}"#),
        );
    }
    put(&sink, "missing", "[\"k\"]", r#"{"id":"missing","pk":"k"}"#);
    sink.close();
    let found = |scalar, value: Option<Value>| {
        let mut lenient = plan(&[("id", Scalar::String), ("v", scalar)]);
        lenient.on_error = OnError::SkipRow;
        let mut reader = reader(&local, "c", &lenient, &[1], &[("json.on-error", "skip-row")]);
        reader.find(vec![vec![value]]).remove(0)
    };
    assert_eq!(found(Scalar::Int, whole(5)), ["point", "whole"]);
    assert_eq!(found(Scalar::BigInt, whole(5)), ["point", "whole"]);
    assert_eq!(
        found(Scalar::Double, Some(Value::Double(5.0))),
        ["point", "whole"]
    );
    assert_eq!(found(Scalar::String, text("5")), ["text"]);
    assert_eq!(found(Scalar::Int, None), [""; 0]);
    assert_eq!(
        found(Scalar::BigInt, whole(9_007_199_254_740_993)),
        ["big", "bigtext"]
    );
    let decimal = |unscaled, scale| Some(Value::Decimal { unscaled, scale });
    assert_eq!(
        found(DECIMAL, decimal(1250, 2)),
        ["cents", "centstext", "rounded"]
    );
    assert_eq!(found(DECIMAL, decimal(125, 1)), ["cents", "centstext", "rounded"]);
    assert_eq!(found(DECIMAL, decimal(5, 0)), ["point", "text", "whole"]);
}

#[test]
fn moments_are_found_in_any_zone() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    for (id, at) in [
        ("z", "2026-01-01T10:00:00Z"),
        ("millis", "2026-01-01T10:00:00.000Z"),
        ("east", "2026-01-02T03:00:00+17:00"),
        ("west", "2025-12-31T17:00:00-17:00"),
        ("later", "2026-01-01T10:00:00.001Z"),
        ("hour", "2026-01-01T11:00:00Z"),
    ] {
        put(
            &sink,
            id,
            &format!("[\"{id}\"]"),
            &format!(r#"{{"id":"{id}","pk":"{id}","at":"{at}"}}"#),
        );
    }
    sink.close();
    let plan = plan(&[("id", Scalar::String), ("at", MOMENT)]);
    let mut reader = reader(&local, "c", &plan, &[1], &[]);
    let moment = |millis| vec![Some(Value::Moment { millis, nanos: 0 })];
    let found = reader.find(vec![
        moment(1_767_261_600_000),
        moment(1_767_261_600_001),
        moment(0),
    ]);
    assert_eq!(found[0], ["east", "millis", "west", "z"]);
    assert_eq!((&found[1][..], found[2].len()), (&["later".to_owned()][..], 0));
}

#[test]
fn hierarchical_keys_are_addresses_in_whatever_order_they_are_joined() {
    let local = Local::start(&["c:/tenant,/user:2"]);
    let sink = local.sink("c", &[]);
    for n in 0..6 {
        let document = format!(r#"{{"id":"d{n}","tenant":"t{}","user":{}}}"#, n % 2, n % 3);
        put(
            &sink,
            &format!("d{n}"),
            &format!("[\"t{}\",{}]", n % 2, n % 3),
            &document,
        );
    }
    sink.close();
    local.forget_requests();
    let plan = plan(&[
        ("id", Scalar::String),
        ("tenant", Scalar::String),
        ("user", Scalar::BigInt),
    ]);
    let mut whole_key = reader(&local, "c", &plan, &[2, 0, 1], &[]);
    assert_eq!(
        whole_key.find(vec![vec![whole(1), text("d1"), text("t1")]]),
        [["d1"]]
    );
    assert_eq!(local.requests("read").len(), 1);
    let mut first_level = reader(&local, "c", &plan, &[1], &[]);
    assert_eq!(first_level.find(vec![vec![text("t0")]]), [["d0", "d2", "d4"]]);
}

#[test]
fn what_no_document_can_have_is_no_row_and_what_no_query_can_hold_fails_by_name() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1, 1);
    let long = |n: usize| text(&"x".repeat(n));
    let mut address = reader(&local, "c", &documents(), &[0, 1], &[]);
    let found = address.find(vec![
        vec![long(1024), text("k0")],
        vec![text("a-0"), long(2049)],
        vec![text("a-0"), text("k0")],
    ]);
    assert_eq!(found, [vec![], vec![], vec!["a-0".to_owned()]]);
    let columns = plan(&[("id", Scalar::String), ("text", Scalar::String)]);
    let mut other = reader(&local, "c", &columns, &[1], &[]);
    other.ask(vec![vec![long(600_000)], vec![long(300)], vec![long(3_000_000)]]);
    let found = other.answers();
    let error = found[0].as_ref().unwrap_err();
    assert!(error.message.contains("/text"), "{error}");
    assert_eq!(found[1].as_ref().unwrap()[..], ["a-0"]);
    assert!(found[2].as_ref().unwrap().is_empty());
}

#[test]
fn other_columns_beside_the_primary_key_count_too() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 5, 1);
    let mut reader = reader(&local, "c", &documents(), &[0, 1, 2], &[]);
    assert_eq!(
        reader.find(vec![vec![text("a-3"), text("k0"), whole(3)]]),
        [["a-3"]]
    );
    assert_eq!(
        reader.find(vec![vec![text("a-3"), text("k0"), whole(4)]]),
        [[""; 0]]
    );
    assert_eq!(local.requests("read").len(), 2);
}

#[test]
fn throttling_is_waited_out_and_other_failures_are_tried_as_often_as_the_option_says() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1, 1);
    local.admin(
        "faults",
        json!({"operations": ["pointRead", "query"], "status": 429, "subStatus": 3200, "retryAfterMillis": 5, "count": 6}),
    );
    let extra = [
        ("lookup.max-retries", "2"),
        ("retry.backoff", "1"),
        // The driver asks again by itself, until then.
        ("request-timeout", "300"),
    ];
    let mut reader = reader(&local, "c", &documents(), &[0, 1], &extra);
    let key = || vec![text("a-0"), text("k0")];
    assert_eq!(reader.find(vec![key()]), [["a-0"]]);
    assert_eq!(reader.count(|m| m.throttled.load(Relaxed)), 6);
    local.admin(
        "faults",
        json!({"operations": "pointRead", "status": 449, "count": 1}),
    );
    assert_eq!(reader.find(vec![key()]), [["a-0"]]);
    local.admin("faults", json!({"operations": "pointRead", "status": 449}));
    reader.ask(vec![key(), key()]);
    for found in reader.answers() {
        let error = found.unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{error}");
    }
    local.clear_faults();
    assert_eq!(reader.find(vec![key()]), [["a-0"]], "the handle goes on");
}

#[test]
fn an_answer_of_several_pages_goes_on_where_it_was_throttled() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 2500, 1);
    // Pages behind the first.
    local.admin(
        "faults",
        json!({
            "operations": "query", "withHeader": "x-ms-continuation", "count": 3,
            "status": 429, "subStatus": 3200, "retryAfterMillis": 5
        }),
    );
    let extra = [("lookup.max-retries", "0")];
    let mut reader = reader(&local, "c", &documents(), &[1], &extra);
    assert_eq!(reader.find(vec![vec![text("k0")]])[0].len(), 2500);
    assert_eq!(local.faults(), 0);
    assert_eq!(reader.count(|m| m.throttled.load(Relaxed)), 3);
    let requests = local.requests("query").into_iter();
    let read = requests.filter(|request| request["status"] == 200).count();
    assert_eq!(read, 3, "each page is read once");
}

#[test]
fn an_answer_that_breaks_behind_its_first_page_fails_in_the_end() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1500, 1);
    local.admin(
        "faults",
        json!({
            "operations": "query", "withHeader": "x-ms-continuation",
            "replace": {"text": "\"Documents\"", "with": "\"Dokumente\""}
        }),
    );
    let extra = [("lookup.max-retries", "2"), ("retry.backoff", "1")];
    let mut reader = reader(&local, "c", &documents(), &[1], &extra);
    reader.ask(vec![vec![text("k0")]]);
    let error = reader.answers().remove(0).unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
}

#[test]
fn pages_that_are_too_large_are_asked_for_smaller_whatever_may_be_tried_again() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 300, 1);
    local.admin(
        "faults",
        json!({"operations": "query", "status": 413, "subStatus": 3402, "count": 3}),
    );
    let extra = [("lookup.max-retries", "0")];
    let mut reader = reader(&local, "c", &documents(), &[1], &extra);
    assert_eq!(reader.find(vec![vec![text("k0")]])[0].len(), 300);
    assert_eq!(local.faults(), 0);
    let read = local.requests("query").into_iter();
    let read = read.filter(|request| request["status"] == 200).count();
    assert_eq!(read, 3, "pages of 125 documents");
    // One document alone is not smaller.
    local.admin(
        "faults",
        json!({"operations": "query", "status": 413, "subStatus": 3402}),
    );
    reader.ask(vec![vec![text("k0")]]);
    let error = reader.answers().remove(0).unwrap_err();
    assert_eq!((error.status, error.sub_status), (413, 3402), "{error}");
}

#[test]
fn a_large_answer_comes_whole_and_one_that_is_too_large_fails_by_the_option() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 2500, 2);
    // A row has 32 bytes.
    let limited = |most| {
        reader(
            &local,
            "c",
            &documents(),
            &[1],
            &[("lookup.max-result-size", most), ("lookup.batch.max-wait", "50")],
        )
    };
    let mut whole = limited("60000");
    let found = whole.find(vec![vec![text("k0")], vec![text("k1")]]);
    assert_eq!((found[0].len(), found[1].len()), (1250, 1250), "asked for in two");
    let mut small = limited("10000");
    small.ask(vec![vec![text("k0")], vec![text("none")]]);
    let found = small.answers();
    let error = found[0].as_ref().unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    assert!(
        error.message.contains("10000 bytes") && error.message.contains("lookup.max-result-size"),
        "{error}"
    );
    assert_eq!(found[1].as_ref().unwrap().len(), 0);
}

#[test]
fn a_document_that_makes_no_row_fails_by_name_or_is_left_out() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    put(&sink, "bad", "[\"k\"]", r#"{"id":"bad","pk":"k","n":1.5}"#);
    put(&sink, "good", "[\"k\"]", r#"{"id":"good","pk":"k","n":1}"#);
    sink.close();
    let mut strict = reader(&local, "c", &documents(), &[1], &[]);
    strict.ask(vec![vec![text("k")]]);
    let error = strict.answers().remove(0).unwrap_err();
    assert_eq!(error.kind, Kind::BadRequest);
    for part in ["id 'bad'", "column 'n' at '/n' is 1.5", "json.on-error"] {
        assert!(error.message.contains(part), "{error}");
    }
    let mut lenient = documents();
    lenient.on_error = OnError::SkipRow;
    let mut lenient = reader(&local, "c", &lenient, &[1], &[]);
    assert_eq!(lenient.find(vec![vec![text("k")]]), [["good"]]);
    assert_eq!(lenient.count(|m| m.undecodable.load(Relaxed)), 1);
}

#[test]
fn a_partition_that_moves_holds_up_no_other_look_up() {
    let local = Local::start(&["c:/pk:2"]);
    filled(&local, 20, 10);
    let extra = [("lookup.max-retries", "0")];
    let mut reader = reader(&local, "c", &documents(), &[0, 1], &extra);
    let key = |i: usize| vec![text(&format!("a-{i}")), text(&format!("k{}", i % 10))];
    local.admin(
        "faults",
        json!({"operations": "pointRead", "documentId": "a-0", "status": 410, "subStatus": 1002}),
    );
    reader.ask(vec![key(0)]);
    let error = reader.answers().remove(0).unwrap_err();
    assert_eq!(error.status, 410, "{error}");
    local.admin("faults", json!({"operations": "pkranges", "delayMillis": 20_000}));
    let began = Instant::now();
    assert_eq!(reader.find(vec![key(1)]), [["a-1"]]);
    assert!(began.elapsed() < Duration::from_secs(10), "waited for partitions");
}

#[test]
fn a_document_of_no_key_is_no_matter_whatever_is_wrong_with_it() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    // The service is asked for all texts of about the day.
    for (id, at, n) in [
        ("good", "2026-01-01T10:00:00Z", "1"),
        ("other", "2026-01-01T11:00:00Z", "1.5"),
        ("none", "2026-01-01 at noon", "1"),
    ] {
        let document = format!(r#"{{"id":"{id}","pk":"k","at":"{at}","n":{n}}}"#);
        put(&sink, id, "[\"k\"]", &document);
    }
    sink.close();
    let mut columns = plan(&[("id", Scalar::String), ("at", MOMENT), ("n", Scalar::Int)]);
    let at = |millis| vec![Some(Value::Moment { millis, nanos: 0 })];
    let ten = 1_767_261_600_000;
    let mut strict = reader(&local, "c", &columns, &[1], &[]);
    assert_eq!(strict.find(vec![at(ten)]), [["good"]]);
    strict.ask(vec![at(ten + 3_600_000)]);
    let error = strict.answers().remove(0).unwrap_err();
    assert!(error.message.contains("id 'other'"), "{error}");
    columns.on_error = OnError::SkipRow;
    let mut lenient = reader(&local, "c", &columns, &[1], &[]);
    assert_eq!(lenient.find(vec![at(ten)]), [["good"]]);
    assert_eq!(lenient.count(|m| m.undecodable.load(Relaxed)), 0);
}

#[test]
fn partitions_that_are_split_meanwhile_are_found() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 40, 8);
    let mut reader = reader(
        &local,
        "c",
        &documents(),
        &[0, 1],
        &[("lookup.batch.max-wait", "50")],
    );
    let keys = || {
        (0..40)
            .map(|i| vec![text(&format!("a-{i}")), text(&format!("k{}", i % 8))])
            .collect::<Vec<_>>()
    };
    let expected: Vec<_> = (0..40).map(|i| vec![format!("a-{i}")]).collect();
    assert_eq!(reader.find(keys()), expected);
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    assert_eq!(reader.find(keys()), expected);
    assert_eq!(reader.find(keys()), expected);
}

#[test]
fn a_container_that_was_created_anew_is_not_looked_up_in() {
    let key = |columns: &[usize]| match columns {
        [0, 1] => vec![text("a-0"), text("k0")],
        _ => vec![text("k0")],
    };
    for (columns, noticed) in [(&[0, 1][..], true), (&[1], true), (&[0, 1], false), (&[1], false)] {
        let local = Local::start(&["c:/pk:1"]);
        filled(&local, 1, 1);
        let mut reader = reader(&local, "c", &documents(), columns, &[]);
        assert_eq!(reader.find(vec![key(columns)]), [["a-0"]]);
        local.admin("recreate", json!({"database": "orders", "container": "c"}));
        if noticed {
            // It makes the driver of the account know the new one.
            local.sink("c", &[]).close();
        }
        reader.ask(vec![key(columns)]);
        let found = reader.answers().remove(0);
        let error = found.expect_err("looked up in the new one");
        assert!(
            error.message.contains("created anew"),
            "{columns:?}, {noticed}: {error}"
        );
        assert!(!error.outlives_restart(), "a restart opens the new one");
    }
}

#[test]
fn a_container_that_is_gone_is_no_document_that_is_missing() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1, 1);
    let mut reader = reader(&local, "c", &documents(), &[0, 1], &[]);
    assert_eq!(reader.find(vec![vec![text("a-0"), text("k0")]]), [["a-0"]]);
    // Some servers say so of a container too.
    local.admin("faults", json!({"operations": "pointRead", "status": 404}));
    local.admin("drop", json!({"database": "orders", "container": "c"}));
    reader.ask(vec![vec![text("a-0"), text("k0")]]);
    let error = reader.answers().remove(0).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
}

#[test]
fn a_wait_is_ended_by_a_wake_up_and_all_by_the_close() {
    let local = Local::start(&["c:/pk:1"]);
    filled(&local, 1, 1);
    local.admin("faults", json!({"operations": "pointRead", "hang": true}));
    let mut reader = reader(&local, "c", &documents(), &[0, 1], &[]);
    reader.ask(vec![vec![text("a-0"), text("k0")]]);
    reader.lookup.wake_up();
    let began = Instant::now();
    assert!(reader.lookup.answers(WAIT).unwrap().is_empty());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.lookup.answers(WAIT).unwrap_err().kind);
        reader.lookup.close();
        assert_eq!(waiting.join().unwrap(), Kind::Closed);
    });
    assert!(began.elapsed() < WAIT / 2);
    assert_eq!(
        reader.lookup.look_up(&encode_keys(&[])).unwrap_err().kind,
        Kind::Closed
    );
}

#[test]
fn a_handle_that_cannot_look_up_does_not_open() {
    let local = Local::start(&["c:/pk:1"]);
    let open = |plan: &Plan, columns: &[usize]| {
        let config = Config::parse(Role::Lookup, &local.options("c", &[])).unwrap();
        let wanted = Wanted {
            alone: true,
            columns: columns.to_vec(),
        };
        Lookup::open(config, plan, &wanted).map(drop).unwrap_err()
    };
    assert_eq!(open(&documents(), &[]).kind, Kind::Config);
    assert_eq!(open(&plan(&[("v", Scalar::Variant)]), &[0]).kind, Kind::Config);
}
