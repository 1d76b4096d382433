//! Pages of rows, over HTTP.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::{CoreError, Kind};
use cosmosflink_core::page::ROW_BYTES;
use cosmosflink_core::rows::{Changelog, Column, Format, OnError, Origin, Plan, Scalar, Type, Unit};
use cosmosflink_core::sink::OperationKind;
use cosmosflink_core::source::Source;
use cosmosflink_core::split::Split;
use support::*;

fn plan(on_error: OnError) -> Plan {
    let column = |name: &str, scalar: Scalar| Column {
        name: name.into(),
        origin: Origin::Path(vec![name.into()]),
        kind: Type::from(scalar),
    };
    let decimal = Scalar::Decimal {
        precision: 10,
        scale: 2,
    };
    Plan {
        missing_is_error: false,
        on_error,
        format: Format::Iso,
        unit: Unit::None,
        changelog: Changelog::Append,
        columns: vec![
            column("id", Scalar::String),
            column("n", Scalar::Int),
            column("price", decimal),
        ],
        filter: None,
    }
}

/// A source that reads all splits of a container as rows.
fn source_of_rows(local: &Local, plan: &Plan, from: Option<Vec<Split>>) -> Source {
    let all = || {
        let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
        splits.into_iter().map(|entry| entry.split).collect()
    };
    let source = local.source("c", &[]).with_rows(plan);
    source.add_splits(from.unwrap_or_else(all)).unwrap();
    source
}

/// Numbers and cents by id.
type Rows = BTreeMap<String, (i32, i64)>;

/// The rows of a frame, by the letter of `docs/boundary.md`, and the split behind it.
fn rows(frame: &[u8]) -> (Rows, Split) {
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(frame[..4], [1, 0, 16, 0]);
    let (n, table) = (u32_at(4), u32_at(8));
    let split_at = 36 + u32_at(32);
    let split = Split::decode(&frame[split_at + 4..split_at + 4 + u32_at(split_at)]).unwrap();
    let row = |entry: usize| {
        let (at, kind) = (u32_at(entry), frame[entry + 16]);
        assert_eq!((at % 8, kind), (0, 0));
        assert!(i64::from_le_bytes(frame[entry + 8..entry + 16].try_into().unwrap()) > 0);
        let row = &frame[at..at + u32_at(entry + 4)];
        assert_eq!(row[..8], [0; 8], "nothing is null");
        let id = &row[8..8 + usize::from(row[15] & 0x7f)];
        let number = i32::from_le_bytes(row[16..20].try_into().unwrap());
        let cents = i64::from_le_bytes(row[24..32].try_into().unwrap());
        (String::from_utf8(id.to_vec()).unwrap(), (number, cents))
    };
    ((0..n).map(|i| row(table + i * ROW_BYTES)).collect(), split)
}

/// Reads until so many rows are there, or the source fails: the rows, and each split behind its last page.
fn read_rows(source: &Source, count: usize) -> Result<(Rows, BTreeMap<String, Split>), CoreError> {
    let (mut all, mut splits) = (BTreeMap::new(), BTreeMap::new());
    let deadline = Instant::now() + WAIT;
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} rows", all.len());
        if source.next_page(Duration::from_millis(100))? > 0 {
            let (rows, split) = rows(&source.take_page()?);
            all.extend(rows);
            splits.insert(split.id(), split);
        }
    }
    Ok((all, splits))
}

fn put(sink: &Writer, id: &str, document: &str) {
    submit(sink, 0, OperationKind::Upsert, id, "[\"k\"]", document);
    outcomes(sink, 1);
}

#[test]
fn a_source_with_a_plan_reads_rows_and_goes_on_behind_them() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 300, 10);
    outcomes(&sink, 300);
    let plan = plan(OnError::Fail);
    let source = source_of_rows(&local, &plan, None);
    let (found, splits) = read_rows(&source, 300).unwrap();
    source.close();
    let expected = (0..300).map(|i| (format!("a-{i}"), (i, 110)));
    assert_eq!(found, expected.collect::<Rows>());
    put(&sink, "b-1", r#"{"id":"b-1","pk":"k","n":7.0,"price":"2.345"}"#);
    let source = source_of_rows(&local, &plan, Some(splits.into_values().collect()));
    let (found, _) = read_rows(&source, 1).unwrap();
    assert_eq!(found, BTreeMap::from([("b-1".into(), (7, 235))]));
    source.close();
    sink.close();
}

#[test]
fn a_document_that_does_not_fit_fails_by_name_or_is_left_out_or_mended_and_counted() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    put(&sink, "bad", r#"{"id":"bad","pk":"k","n":1.5,"price":1}"#);
    put(&sink, "good", r#"{"id":"good","pk":"k","n":1,"price":1}"#);
    sink.close();
    let source = source_of_rows(&local, &plan(OnError::Fail), None);
    let error = read_rows(&source, 1).unwrap_err();
    assert_eq!(error.kind, Kind::BadRequest, "{error}");
    for part in ["id 'bad'", "column 'n' at '/n' is 1.5", "json.on-error"] {
        assert!(error.message.contains(part), "{error}");
    }
    source.close();
    let source = source_of_rows(&local, &plan(OnError::SkipRow), None);
    let (found, _) = read_rows(&source, 1).unwrap();
    assert_eq!(found, BTreeMap::from([("good".into(), (1, 100))]));
    let count = |source: &Source| {
        let metrics = source.metrics();
        (metrics.undecodable.load(Relaxed), metrics.nulled.load(Relaxed))
    };
    assert_eq!(count(&source), (1, 0));
    source.close();
    let source = source_of_rows(&local, &plan(OnError::NullField), None);
    until("a value has become null", || {
        if source.next_page(Duration::from_millis(10)).unwrap() > 0 {
            source.take_page().unwrap();
        }
        count(&source).1 > 0
    });
    assert_eq!(count(&source), (0, 1));
    source.close();
}

#[test]
fn raw_bytes_are_asked_for_and_refused_with_rows() {
    let local = Local::start(&["c:/pk:1"]);
    let config = |how| Config::parse(Role::Source, &local.options("c", &[("json.on-error", how)])).unwrap();
    let error = Source::check_rows(&config("raw")).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("json.on-error=raw"), "{error}");
    for how in ["fail", "null-field", "skip-row"] {
        Source::check_rows(&config(how)).unwrap();
    }
}
