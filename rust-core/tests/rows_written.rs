//! Rows that a sink makes documents of, and sources that tell rows apart by them, over HTTP.

mod support;

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::rows::{Deletion, DocumentColumn, DocumentPlan, Format, Place, Scalar};
use cosmosflink_core::sink::{OutcomeResult, Sink};
use cosmosflink_core::source::Source;
use serde_json::{json, Value};
use support::*;

/// A table whose columns have other names than the fields of its documents: `id`, the key inside of an object, and a number.
fn plan() -> DocumentPlan {
    let column = |name: &str, path: &[&str], key: bool, scalar: Scalar| DocumentColumn {
        name: name.into(),
        place: Place::Path {
            path: path.iter().map(|name| (*name).to_owned()).collect(),
            written: true,
            deleted: key,
        },
        kind: scalar.into(),
    };
    DocumentPlan {
        format: Format::Iso,
        deletion: Deletion::Delete,
        columns: vec![
            column("name", &["id"], true, Scalar::String),
            column("amount", &["n"], false, Scalar::Double),
            column("tenant", &["in", "pk"], true, Scalar::String),
        ],
        constants: Vec::new(),
    }
}

/// Bytes of a row as Flink lays it out.
fn row(kind: u8, id: &str, n: Option<f64>, key: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut slot = [0; 8];
        slot[..text.len()].copy_from_slice(text.as_bytes());
        slot[7] = 0x80 | text.len() as u8;
        slot
    };
    let nulls = if n.is_none() { 2 } else { 0 };
    let mut row = vec![kind, nulls, 0, 0, 0, 0, 0, 0];
    row.extend(text(id));
    row.extend(n.unwrap_or(0.0).to_le_bytes());
    row.extend(text(key));
    row
}

/// An OPERATIONS frame of rows alone, by the letter of `docs/boundary.md`.
fn frame(rows: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = vec![1, 0, 6, 0];
    frame.extend((rows.len() as u32).to_le_bytes());
    for row in rows {
        frame.push(128);
        frame.extend((row.len() as u32).to_le_bytes());
        frame.extend(row);
    }
    frame
}

fn writer(local: &Local, extra: &[(&str, &str)]) -> Writer {
    let config = Config::parse(Role::Sink, &local.options("c", extra)).unwrap();
    Writer::new(Sink::open_rows(config, plan()).unwrap())
}

fn submit_rows(sink: &Writer, rows: &[Vec<u8>]) -> Vec<Outcome> {
    sink.write_frame((0..rows.len() as u64).collect(), frame(rows));
    let mut done = outcomes(sink, rows.len());
    done.sort_by_key(|o| o.token);
    done
}

fn documents(local: &Local, count: usize) -> Vec<Value> {
    let (source, _) = local.source_of_all("c", &[]);
    let all = read(&source, count);
    let parsed = |text: &String| {
        let mut document: Value = serde_json::from_str(text).unwrap();
        document
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with('_'));
        document
    };
    all.values().map(parsed).collect()
}

#[test]
fn rows_are_written_and_deleted_by_id_and_key_at_their_paths() {
    let local = Local::start(&["c:/in/pk:2"]);
    let sink = writer(&local, &[("sink.null-policy", "drop")]);
    let many: Vec<_> = (0..100)
        .map(|n| row(0, &format!("r{n}"), Some(f64::from(n) + 0.5), "k"))
        .collect();
    for outcome in submit_rows(&sink, &many) {
        assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
    }
    assert_eq!(
        documents(&local, 100)[0],
        json!({"id": "r0", "n": 0.5, "in": {"pk": "k"}})
    );
    let changes = [
        row(2, "r1", None, "k"),
        row(2, "r1", Some(7.5), "other"),
        row(3, "r2", None, "k"),
    ];
    for outcome in submit_rows(&sink, &changes) {
        assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
    }
    // The same id under another key is another document.
    let query = [("scan.query", "SELECT * FROM c WHERE c.id IN ('r1', 'r2')")];
    let (source, _) = local.source_of_all("c", &query);
    let found: Vec<_> = read_all(&source, 2);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.contains(&json!({"id": "r1", "in": {"pk": "k"}})),
        "{found:?}"
    );
    assert!(
        found.contains(&json!({"id": "r1", "n": 7.5, "in": {"pk": "other"}})),
        "{found:?}"
    );
}

/// Documents of a source, which may share an id.
fn read_all(source: &Source, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let deadline = std::time::Instant::now() + WAIT;
    while all.len() < count {
        assert!(std::time::Instant::now() < deadline, "{} of {count}", all.len());
        let Some(taken) = take(source, std::time::Duration::from_millis(100)) else {
            continue;
        };
        for (_, text) in taken.records {
            let mut document: Value = serde_json::from_str(&text).unwrap();
            document
                .as_object_mut()
                .unwrap()
                .retain(|name, _| !name.starts_with('_'));
            all.push(document);
        }
    }
    all
}

#[test]
fn a_row_without_a_document_takes_the_way_of_the_failure_mode_alone() {
    let local = Local::start(&["c:/in/pk:1", "dead:/id:1"]);
    let rows = [
        row(0, "good", Some(1.0), "k"),
        row(0, "bad", Some(f64::NAN), "k"),
        row(0, "fine", Some(2.0), "k"),
    ];
    for (mode, expected) in [
        ("skip", OutcomeResult::Skipped),
        ("dead-letter", OutcomeResult::DeadLettered),
    ] {
        let options = [
            ("sink.failure-mode", mode),
            ("sink.dead-letter-container", "dead"),
        ];
        let done = submit_rows(&writer(&local, &options), &rows);
        let results: Vec<_> = done.iter().map(|o| o.result).collect();
        assert_eq!(results, [OutcomeResult::Ok, expected, OutcomeResult::Ok]);
        let error = done[1].error.as_ref().unwrap();
        assert_eq!(error.kind, Kind::BadRequest);
        assert!(error.message.contains("column 'amount' is NaN"), "{error}");
    }
    let (source, _) = local.source_of_all("dead", &[]);
    let letter: Value = serde_json::from_str(read(&source, 1).values().next().unwrap()).unwrap();
    assert_eq!(
        (&letter["documentId"], &letter["document"], &letter["operation"]),
        (&json!("bad"), &json!(""), &json!("write"))
    );
}

#[test]
fn a_source_whose_rows_are_told_apart_by_less_than_the_key_does_not_open() {
    let local = Local::start(&["c:/tenant,/user:1"]);
    let open = |fields: &str| {
        let options = local.options("c", &[("scan.key-fields", fields)]);
        Source::open(Config::parse(Role::Source, &options).unwrap())
    };
    let error = open(r#"["/id","/tenant"]"#).err().expect("it opened");
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("lacks '/user'"), "{error}");
    assert!(open(r#"["/tenant","/id","/user"]"#).is_ok());
    // Of a delete no more than id and partition key is known.
    let wide = r#"["/tenant","/id","/user","/region"]"#;
    assert!(open(wide).is_ok());
    let deletes = [
        ("scan.key-fields", wide),
        ("scan.change-feed.mode", "all-versions-and-deletes"),
        ("scan.startup.mode", "latest"),
    ];
    let options = local.options("c", &deletes);
    let error = Source::open(Config::parse(Role::Source, &options).unwrap())
        .err()
        .expect("it opened");
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("has '/region'"), "{error}");
    let options = local.options("c", &[("scan.key-fields", "id")]);
    assert!(Config::parse(Role::Source, &options).is_err());
}
