//! Golden frames: `tests/cases/frames` has one of each kind, and what they hold as JSON. This test makes the frames from the JSON; both
//! shims read them, and write those that Java writes. `BLESS=1 cargo test --release -p cosmosflink-core --lib golden` writes them anew.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::catalog::{Column, Container, Inferred, Request};
use crate::config::OnDecodeError;
use crate::config::{encode_options, Group, OptionSpec, Role, Type};
use crate::coordinator::{
    self, decode_discovery, decode_event, encode_actions, encode_discovery, encode_event, Action, Event,
    Readers,
};
use crate::error::{CoreError, Kind};
use crate::frame::{decode_map, decode_strings, encode_map, FrameKind, FrameWriter};
use crate::log_ring;
use crate::lookup::{self, Value as KeyValue, Wanted};
use crate::metrics::{self, Metric, SplitLag};
use crate::page::{self, Items, KeyPaths, PageHead};
use crate::rows::{Decoder, DocumentPlan, Plan};
use crate::sink::{self, Completion, Failure, NewOperation, OperationKind, OutcomeResult};
use crate::split::{decode_list, encode_list, Split, SplitEntry};
use crate::status::Blame;

/// Every constant of an enum, with its name in Java. An enum that gets a constant more does not compile here.
macro_rules! constants {
    ($kind:ident : $($constant:ident),* $(,)?) => {{
        let name = |constant: &$kind| match constant {
            $($kind::$constant => java_name(stringify!($constant)),)*
        };
        [$($kind::$constant),*].map(|constant| (name(&constant), constant))
    }};
}

/// `NotFound` is `NOT_FOUND`.
fn java_name(rust: &str) -> String {
    let mut out = String::new();
    for c in rust.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/frames")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(folder().join("frames.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A member that must be there.
fn get<'a>(value: &'a Value, name: &str) -> &'a Value {
    value
        .get(name)
        .unwrap_or_else(|| panic!("no '{name}' in {value}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    get(value, name).as_str().unwrap()
}

fn number(value: &Value, name: &str) -> i64 {
    get(value, name).as_i64().unwrap()
}

fn flag(value: &Value, name: &str) -> bool {
    get(value, name).as_bool().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

/// Tables have texts that live as long as the process.
fn fixed(value: &Value, name: &str) -> &'static str {
    text(value, name).to_owned().leak()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Lines of 32 bytes, so that a difference shows where it is.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|b| write!(out, "{b:02x}").unwrap());
        out.push('\n');
    }
    out
}

fn options(rows: &Value) -> Vec<u8> {
    let row = |row: &Value| OptionSpec {
        name: fixed(row, "name"),
        variable: fixed(row, "variable"),
        kind: match text(row, "type") {
            "text" => Type::Text,
            "duration, 50 ms to 1 h" => Type::Duration(50, 3_600_000),
            "size, 1 kb to 2 mb" => Type::Size(1024, 2 << 20),
            other => panic!("type {other}"),
        },
        default: fixed(row, "default"),
        group: match text(row, "group") {
            "connection" => Group::Connection,
            "source" => Group::Source,
            "sink" => Group::Sink,
            other => panic!("group {other}"),
        },
        secret: flag(row, "secret"),
        required: flag(row, "required"),
        meaning: fixed(row, "meaning"),
    };
    let rows: Vec<_> = list(rows).iter().map(row).collect();
    encode_options(&rows.iter().collect::<Vec<_>>())
}

fn map(entries: &Value) -> Vec<u8> {
    let entries: Vec<_> = list(entries)
        .iter()
        .map(|e| (e[0].as_str().unwrap(), e[1].as_str().unwrap()))
        .collect();
    let frame = encode_map(entries.iter().copied());
    let back = decode_map(&frame).unwrap();
    assert!(back.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(entries));
    frame
}

fn strings(values: &Value) -> Vec<u8> {
    let values: Vec<_> = list(values).iter().map(|v| v.as_str().unwrap()).collect();
    // The core only reads these.
    let mut w = FrameWriter::new(FrameKind::Strings);
    w.u32(values.len() as u32);
    values.iter().for_each(|v| w.str(v));
    assert_eq!(decode_strings(&w.0).unwrap(), values);
    w.0
}

fn split_list(entries: &Value) -> Vec<u8> {
    let mut splits = Vec::new();
    for entry in list(entries) {
        let split = Split::decode(&unhex(text(entry, "split"))).unwrap();
        assert_eq!(split.id(), text(entry, "id"));
        assert_eq!(split.describe(), text(entry, "description"));
        assert_eq!(i64::from(split.ordinal), number(entry, "ordinal"));
        splits.push(SplitEntry {
            split,
            assigned: flag(entry, "assigned"),
        });
    }
    let frame = encode_list(&splits);
    assert_eq!(decode_list(&frame).unwrap(), splits);
    frame
}

fn page(page: &Value) -> Vec<u8> {
    let paths: Vec<_> = list(get(page, "keyPaths"))
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    let children = list(get(page, "children")).iter();
    let children: Vec<_> = children
        .map(|child| Split::decode(&unhex(text(child, "split"))).unwrap())
        .collect();
    let head = PageHead {
        split_id: text(page, "splitId"),
        split: &unhex(text(page, "split")),
        children: &children,
        arrived_epoch_millis: number(page, "arrivedMillis"),
    };
    let envelope = Items::Envelope(text(page, "envelope").to_owned().into());
    let mut built = page::build(&head, &envelope, &KeyPaths::new(&paths), OnDecodeError::Raw).unwrap();
    if flag(page, "caughtUp") {
        built.caught_up();
    }
    if flag(page, "finished") {
        built.finished();
    }
    built.frame.to_vec()
}

/// A plan by the letter of `docs/boundary.md`; the core reads it, and writes it for its own tests.
fn plan(plan: &Value) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Plan);
    w.u8(u8::from(flag(plan, "missingIsError")));
    for name in ["onError", "timestamps", "unit", "changelog"] {
        w.u8(number(plan, name) as u8);
    }
    plan_columns(&mut w, plan);
    if let Some(filter) = plan.get("filter") {
        plan_columns(&mut w, filter);
        plan_predicate(&mut w, get(filter, "predicate"));
    }
    assert_eq!(Plan::decode(&w.0).unwrap().encode(), w.0);
    w.0
}

fn plan_predicate(w: &mut FrameWriter, predicate: &Value) {
    let code = number(predicate, "code") as u8;
    w.u8(code);
    match code {
        1 | 2 => {
            let parts = list(get(predicate, "parts"));
            w.u32(parts.len() as u32);
            parts.iter().for_each(|part| plan_predicate(w, part));
        }
        3..=5 => plan_predicate(w, get(predicate, "inner")),
        _ => {
            if matches!(code, 8 | 10) {
                w.u8(number(predicate, "how") as u8);
            }
            w.u32(number(predicate, "column") as u32);
            let fields = list(get(predicate, "fields"));
            w.u32(fields.len() as u32);
            fields
                .iter()
                .for_each(|field| w.u32(field.as_i64().unwrap() as u32));
            match code {
                8 => plan_literal(w, get(predicate, "literal")),
                9 => {
                    let literals = list(get(predicate, "literals"));
                    w.u32(literals.len() as u32);
                    literals.iter().for_each(|literal| plan_literal(w, literal));
                }
                10 => w.str(text(predicate, "text")),
                _ => {}
            }
        }
    }
}

fn plan_literal(w: &mut FrameWriter, literal: &Value) {
    let code = number(literal, "code") as u8;
    w.u8(code);
    match code {
        1 => w.u8(u8::from(flag(literal, "value"))),
        2 => w.i64(number(literal, "value")),
        3 | 4 => w.f64(get(literal, "value").as_f64().unwrap()),
        5 => {
            w.u8(number(literal, "scale") as u8);
            w.str(text(literal, "digits"));
        }
        6 => w.str(text(literal, "value")),
        _ => {
            w.i64(number(literal, "millis"));
            w.u32(number(literal, "nanos") as u32);
        }
    }
}

fn plan_columns(w: &mut FrameWriter, of: &Value) {
    let columns = list(get(of, "columns"));
    w.u32(columns.len() as u32);
    for column in columns {
        w.str(text(column, "name"));
        let origin = number(column, "origin") as u8;
        w.u8(origin);
        match origin {
            0 => {
                let path = list(get(column, "path"));
                w.u32(path.len() as u32);
                path.iter().for_each(|name| w.str(name.as_str().unwrap()));
            }
            10 => w.str(text(column, "value")),
            _ => {}
        }
        plan_type(w, get(column, "type"));
    }
}

fn plan_type(w: &mut FrameWriter, kind: &Value) {
    let code = number(kind, "code") as u8;
    w.u8(code);
    w.u8(u8::from(flag(kind, "nullable")));
    match code {
        8 => {
            w.u8(number(kind, "precision") as u8);
            w.u8(number(kind, "scale") as u8);
        }
        12..=14 => w.u8(number(kind, "precision") as u8),
        15 => plan_type(w, get(kind, "element")),
        16 => {
            plan_type(w, get(kind, "key"));
            plan_type(w, get(kind, "value"));
        }
        17 => {
            let fields = list(get(kind, "fields"));
            w.u32(fields.len() as u32);
            for field in fields {
                w.str(text(field, "name"));
                plan_type(w, get(field, "type"));
            }
        }
        _ => {}
    }
}

/// A plan of documents by the letter of `docs/boundary.md`.
fn document_plan(plan: &Value) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::DocumentPlan);
    for name in ["timestamps", "deletion"] {
        w.u8(number(plan, name) as u8);
    }
    let columns = list(get(plan, "columns"));
    w.u32(columns.len() as u32);
    for column in columns {
        w.str(text(column, "name"));
        let place = number(column, "place") as u8;
        w.u8(place);
        if place == 0 {
            w.u8(number(column, "documents") as u8);
            let path = list(get(column, "path"));
            w.u32(path.len() as u32);
            path.iter().for_each(|name| w.str(name.as_str().unwrap()));
        }
        plan_type(&mut w, get(column, "type"));
    }
    let constants = list(get(plan, "constants"));
    w.u32(constants.len() as u32);
    for constant in constants {
        w.str(text(constant, "name"));
        w.str(text(constant, "json"));
    }
    assert_eq!(DocumentPlan::decode(&w.0).unwrap().encode(), w.0);
    w.0
}

/// The creation of a container, by the letter of `docs/boundary.md`.
fn administer(request: &Value) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Administer);
    w.u8(7);
    w.str(text(request, "database"));
    w.str(text(request, "container"));
    let keys = list(get(request, "keys"));
    w.u32(keys.len() as u32);
    keys.iter().for_each(|key| w.str(key.as_str().unwrap()));
    w.i64(number(request, "defaultTtl"));
    w.u32(number(request, "throughput") as u32);
    w.u32(number(request, "autoscale") as u32);
    let Request::CreateContainer { keys: read, .. } = Request::decode(&w.0).unwrap() else {
        panic!("it is something else");
    };
    assert_eq!(keys, &read);
    w.0
}

fn container(container: &Value) -> Vec<u8> {
    let names = |value: &Value| -> Vec<String> {
        list(value)
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let columns = list(get(container, "columns")).iter().map(|column| {
        // Its type as a plan has it.
        let mut column = column.clone();
        column["origin"] = 0.into();
        let plan = plan(&serde_json::json!({
            "missingIsError": false, "onError": 1, "timestamps": 1, "unit": 0, "changelog": 1, "columns": [column],
        }));
        Column {
            name: text(&column, "name").to_owned(),
            path: names(get(&column, "path")),
            kind: Plan::decode(&plan).unwrap().columns.remove(0).kind,
        }
    });
    Container {
        rid: text(container, "rid").to_owned(),
        default_ttl: number(container, "defaultTtl"),
        documents: number(container, "documents"),
        bytes: number(container, "bytes"),
        sampled: number(container, "sampled") as u32,
        keys: list(get(container, "keys")).iter().map(names).collect(),
        table: Inferred {
            columns: columns.collect(),
            primary_key: names(get(container, "primaryKey")),
        },
    }
    .encode()
}

/// A page of rows by the plan of the golden frames.
fn rows(page: &Value, plan: &[u8]) -> Vec<u8> {
    let paths: Vec<_> = list(get(page, "keyPaths"))
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    let head = PageHead {
        split_id: text(page, "splitId"),
        split: &unhex(text(page, "split")),
        children: &[],
        arrived_epoch_millis: number(page, "arrivedMillis"),
    };
    let envelope = Items::Envelope(text(page, "envelope").to_owned().into());
    let paths = KeyPaths::new(&paths);
    let mut decoder = Decoder::new(&Plan::decode(plan).unwrap(), paths.iter());
    let built = page::build_rows(&head, &envelope, &paths, OnDecodeError::Fail, &mut decoder);
    let frame = built.unwrap().frame.to_vec();
    let rows = list(get(page, "rows")).iter();
    let rows: Vec<_> = rows.map(|row| unhex(text(row, "bytes"))).collect();
    let found: Vec<_> = (0..rows.len())
        .map(|n| {
            let entry = &frame[frame.len() - (rows.len() - n) * page::ROW_BYTES..];
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap()) as usize;
            frame[word(0)..word(0) + word(4)].to_vec()
        })
        .collect();
    assert_eq!(found, rows);
    frame
}

/// The core only reads these; Java writes them.
fn wanted(content: &Value) -> Vec<u8> {
    let columns = list(get(content, "columns")).iter();
    let wanted = Wanted {
        alone: flag(content, "alone"),
        columns: columns.map(|column| column.as_u64().unwrap() as usize).collect(),
    };
    assert_eq!(Wanted::decode(&wanted.encode()).unwrap(), wanted);
    wanted.encode()
}

/// Keys of one column of each form.
fn keys(all: &Value) -> Vec<u8> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let form = |(n, value): (usize, &Value)| {
        if value.is_null() {
            return None;
        }
        Some(match n {
            0 => KeyValue::Boolean(value.as_bool().unwrap()),
            1 => KeyValue::Whole(value.as_i64().unwrap()),
            2 => KeyValue::Double(value.as_f64().unwrap()),
            3 => KeyValue::Decimal {
                unscaled: text(value).replace('.', "").parse().unwrap(),
                scale: text(value).split('.').nth(1).map_or(0, str::len) as u8,
            },
            4 => KeyValue::Text(text(value)),
            5 => KeyValue::Bytes(unhex(&text(value))),
            _ => KeyValue::Moment {
                millis: value[0].as_i64().unwrap(),
                nanos: value[1].as_u64().unwrap() as u32,
            },
        })
    };
    let key = |key: &Value| {
        let values = list(get(key, "values")).iter().enumerate().map(form).collect();
        (number(key, "number") as u64, values)
    };
    lookup::encode_keys(&list(all).iter().map(key).collect::<Vec<_>>())
}

fn answered(all: &Value) -> Vec<u8> {
    let answer = |answer: &Value| lookup::Answer {
        numbers: vec![number(answer, "number") as u64],
        outcome: match answer.get("rows") {
            Some(rows) => Ok(list(rows)
                .iter()
                .map(|row| unhex(row.as_str().unwrap()))
                .collect()),
            None => Err(CoreError {
                blame: match flag(answer, "outlivesRestart") {
                    true => Blame::Everybody,
                    false => Blame::Record,
                },
                ..core_error(answer)
            }),
        },
    };
    lookup::encode_answers(&list(all).iter().map(answer).collect::<Vec<_>>()).unwrap()
}

fn operation_kind(name: &str) -> OperationKind {
    let kinds = constants!(OperationKind: Refused, Upsert, Create, Replace, Delete, CreateIgnoreExisting, ReplaceIfExists, OverwriteIfNotModified, DeleteIfNotModified, Patch, PatchIfExists, BulkUpdate, Default, Batch);
    named(kinds.into(), name)
}

fn operation(operation: &Value) -> NewOperation<'_> {
    NewOperation {
        kind: operation_kind(text(operation, "operation")),
        id: text(operation, "id"),
        partition_key: text(operation, "partitionKey"),
        if_match: text(operation, "ifMatch"),
        document: text(operation, "document").as_bytes(),
    }
}

fn operations(all: &Value) -> Vec<u8> {
    let all: Vec<_> = list(all).iter().map(operation).collect();
    let frame = sink::encode_operations(&all);
    let back = sink::decode_operations(frame.clone()).unwrap();
    let parts = back
        .iter()
        .map(|o| (o.kind, o.id(), o.partition_key(), o.if_match(), o.body()));
    let same = |o: &NewOperation<'_>| {
        let [id, key, etag] = [o.id, o.partition_key, o.if_match].map(str::as_bytes);
        (
            o.kind,
            id.to_vec(),
            key.to_vec(),
            etag.to_vec(),
            o.document.to_vec(),
        )
    };
    let parts = parts
        .map(|(kind, id, key, etag, body)| (kind, id.to_vec(), key.to_vec(), etag.to_vec(), body.to_vec()));
    assert!(parts.eq(all.iter().map(same)));
    frame
}

/// A head of its own before the body that an OPERATIONS frame has behind its count.
fn operation_state(one: &Value) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::OperationState);
    w.0.extend_from_slice(&sink::encode_operations(&[operation(one)])[8..]);
    w.0
}

fn kinds() -> Vec<(String, Kind)> {
    constants!(
        Kind: Config, Auth, NotFound, Throttled, Transient, BadRequest, Conflict, Precondition, TooLarge, Closed, State, Internal
    )
    .into()
}

fn results() -> Vec<(String, OutcomeResult)> {
    constants!(OutcomeResult: Ok, Skipped, DeadLettered, Failed).into()
}

/// A member of `constants!` by its name.
fn named<T>(all: Vec<(String, T)>, name: &str) -> T {
    let found = all.into_iter().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("no constant {name}")).1
}

fn core_error(failure: &Value) -> CoreError {
    CoreError {
        status: number(failure, "status") as u16,
        sub_status: number(failure, "subStatus") as u32,
        activity_id: text(failure, "activityId").into(),
        message: text(failure, "message").into(),
        ..CoreError::new(named(kinds(), text(failure, "kind")), "")
    }
}

fn failure(failure: &Value) -> Failure {
    let blame = if flag(failure, "outlivesRestart") {
        Blame::Everybody
    } else {
        Blame::Record
    };
    Failure {
        index: number(failure, "index") as u32,
        result: named(results(), text(failure, "result")),
        error: CoreError {
            blame,
            ..core_error(failure)
        },
        carried_out: 0,
        attempts: number(failure, "attempts") as u32,
        operation: target(get(failure, "target")),
    }
}

/// The OPERATION BODY of what has failed, without its document; nothing where it is not said.
fn target(target: &Value) -> Vec<u8> {
    let name = text(target, "operation");
    if name.is_empty() {
        return Vec::new();
    }
    let new = NewOperation {
        kind: operation_kind(name),
        id: text(target, "id"),
        partition_key: text(target, "partitionKey"),
        if_match: "",
        document: b"",
    };
    let mut all = sink::decode_operations(sink::encode_operations(&[new])).unwrap();
    all.remove(0).without_document()
}

fn completions(frame: &Value) -> Vec<u8> {
    let completion = |c: &Value| Completion {
        submission: number(c, "submission") as u64,
        request_charge: get(c, "requestCharge").as_f64().unwrap(),
        failures: list(get(c, "failures")).iter().map(failure).collect(),
        superseded: Vec::new(),
    };
    let all = list(get(frame, "completions"));
    let room = number(frame, "room") as u64;
    sink::encode_completions(room, &all.iter().map(completion).collect::<Vec<_>>())
}

fn metrics(frame: &Value) -> Vec<u8> {
    let value = |v: &Value| match v.as_u64() {
        Some(whole) => metrics::Value::Whole(whole),
        None => metrics::Value::Decimal(v.as_f64().unwrap()),
    };
    let split = |s: &Value| SplitLag {
        id: text(s, "id").to_owned(),
        lag_millis: number(s, "lagMillis") as u64,
        records: number(s, "records") as u64,
    };
    let values: Vec<_> = list(get(frame, "values")).iter().map(value).collect();
    let splits: Vec<_> = list(get(frame, "splits")).iter().map(split).collect();
    metrics::encode_values(&values, &splits)
}

/// The rows are the core's own.
fn metric_table(rows: &Value) -> Vec<u8> {
    let mut found: Vec<Metric> = Vec::new();
    for row in list(rows) {
        let real = metrics::METRICS
            .iter()
            .find(|m| m.name == text(row, "name"))
            .unwrap();
        assert_eq!(real.unit, text(row, "unit"));
        assert_eq!(i64::from(real.roles.bits()), number(row, "roles"));
        assert_eq!(real.is_decimal(), flag(row, "decimal"));
        assert_eq!(real.meaning, text(row, "meaning"));
        found.push(*real);
    }
    metrics::encode_table(&found)
}

fn log(log: &Value) -> Vec<u8> {
    let line = |event: &Value| log_ring::Line {
        level: number(event, "level") as u8,
        epoch_millis: number(event, "epochMillis") as u64,
        target: fixed(event, "target"),
        message: text(event, "message").into(),
    };
    let lines: Vec<_> = list(get(log, "events")).iter().map(line).collect();
    log_ring::encode(number(log, "dropped") as u64, &lines)
}

fn splits(all: &Value) -> Vec<Split> {
    let split = |s: &Value| Split::decode(&unhex(s.as_str().unwrap())).unwrap();
    list(all).iter().map(split).collect()
}

fn subtask(value: &Value) -> u32 {
    number(value, "subtask") as u32
}

/// The core only reads these; both shims write them.
fn event(event: &Value) -> Vec<u8> {
    let registered = list(get(event, "registered"))
        .iter()
        .map(|r| r.as_u64().unwrap() as u32);
    let readers = Readers {
        parallelism: number(event, "parallelism") as u32,
        registered: registered.collect(),
    };
    let happened = match text(event, "event") {
        "READER_REGISTERED" => Event::ReaderRegistered {
            subtask: subtask(event),
            reported: splits(get(event, "splits")),
        },
        other => panic!("event {other}"),
    };
    let frame = encode_event(&readers, &happened);
    assert_eq!(decode_event(&frame).unwrap(), (readers, happened));
    frame
}

fn actions(actions: &Value) -> Vec<u8> {
    let entries = |assigned: &Value| {
        let split = |entry: &Value| {
            let split = Split::decode(&unhex(text(entry, "split"))).unwrap();
            assert_eq!(split.id(), text(entry, "id"));
            split
        };
        list(get(assigned, "splits"))
            .iter()
            .map(split)
            .collect::<Vec<_>>()
    };
    let action = |action: &Value| match text(action, "action") {
        "DISCOVER" => Action::Discover {
            period_ms: number(action, "periodMillis") as u64,
        },
        "ASSIGN" => {
            let assignment = list(get(action, "assignment")).iter();
            Action::Assign(assignment.map(|a| (subtask(a), entries(a))).collect())
        }
        "FAIL" => Action::Fail {
            failure: coordinator::Failure::from(&core_error(action)),
            ends: flag(action, "ends"),
        },
        "BACKLOG" => Action::Backlog(flag(action, "backlog")),
        "STATE" => Action::State(unhex(text(action, "state"))),
        "NO_MORE_SPLITS" => {
            let subtasks = list(get(action, "subtasks")).iter();
            Action::NoMoreSplits(subtasks.map(|s| s.as_u64().unwrap() as u32).collect())
        }
        other => panic!("action {other}"),
    };
    let all: Vec<_> = list(get(actions, "actions")).iter().map(action).collect();
    encode_actions(number(actions, "unassigned") as usize, &all)
}

fn discovery(found: &Value) -> Vec<u8> {
    let bound = |range: &Value, n: usize| range[n].as_str().unwrap().to_owned();
    let partitions = list(get(found, "partitions")).iter();
    let found = Ok(coordinator::Found {
        splits: splits(get(found, "splits")),
        partitions: partitions
            .map(|range| (bound(range, 0), bound(range, 1)))
            .collect(),
    });
    let frame = encode_discovery(&found);
    assert_eq!(decode_discovery(&frame).unwrap(), found);
    frame
}

#[test]
fn golden_frames_are_what_the_core_writes() {
    let expected = expected();
    let bless = std::env::var_os("BLESS").is_some();
    let frames = get(&expected, "frames").as_object().unwrap();
    assert_eq!(
        frames.len(),
        get(get(&expected, "numbers"), "frame").as_object().unwrap().len()
    );
    for (name, content) in frames {
        let frame = match name.as_str() {
            "options" => options(content),
            "map" => map(content),
            "strings" => strings(content),
            "split-list" => split_list(content),
            "page" => page(content),
            "operations" => operations(content),
            "completions" => completions(content),
            "metrics" => metrics(content),
            "log" => log(content),
            "operation-state" => operation_state(content),
            "event" => event(content),
            "actions" => actions(content),
            "discovery" => discovery(content),
            "metric-table" => metric_table(content),
            "plan" => plan(content),
            "document-plan" => document_plan(content),
            "rows" => rows(content, &plan(get(get(&expected, "frames"), "plan"))),
            "lookup" => wanted(content),
            "keys" => keys(content),
            "answered" => answered(content),
            "administer" => administer(content),
            "container" => container(content),
            other => panic!("frame {other} is not known to this test"),
        };
        let path = folder().join(format!("{name}.hex"));
        if bless {
            std::fs::write(&path, hex(&frame)).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, hex(&frame), "{name}.hex; BLESS=1 writes it anew");
    }
}

#[test]
fn numbers_on_the_wire_are_those_of_the_file() {
    let expected = expected();
    let check = |name: &str, found: Vec<(String, i64)>| {
        let file = get(get(&expected, "numbers"), name).as_object().unwrap();
        let file = file.iter().map(|(k, v)| (k.clone(), v.as_i64().unwrap()));
        let by_name = |mut all: Vec<(String, i64)>| {
            all.sort();
            all
        };
        assert_eq!(by_name(found), by_name(file.collect()), "{name}");
    };
    let frames = constants!(
        FrameKind: Options, Map, Strings, SplitList, Page, Operations, Completions, Metrics, Log, OperationState, Event, Actions, Discovery, MetricTable, Plan, Rows, DocumentPlan, Administer, Container, Lookup, Keys, Answered
    );
    check(
        "frame",
        frames.map(|(name, kind)| (name, i64::from(kind as u16))).into(),
    );
    let operations = constants!(OperationKind: Refused, Upsert, Create, Replace, Delete, CreateIgnoreExisting, ReplaceIfExists, OverwriteIfNotModified, DeleteIfNotModified, Patch, PatchIfExists, BulkUpdate, Default, Batch);
    check(
        "operation",
        operations
            .map(|(name, kind)| (name, i64::from(kind.number())))
            .into(),
    );
    check(
        "kind",
        kinds()
            .into_iter()
            .map(|(name, kind)| (name, i64::from(kind as u8)))
            .collect(),
    );
    let failed = results()
        .into_iter()
        .filter(|(_, result)| *result != OutcomeResult::Ok);
    check(
        "result",
        failed
            .map(|(name, result)| (name, i64::from(result as u8)))
            .collect(),
    );
    let roles = constants!(Role: Connection, Source, Sink, Job, Lookup);
    let numbered = |(name, role)| {
        let number = (0..5).find(|n| Role::from_number(*n).is_ok_and(|r| r == role));
        (name, i64::from(number.unwrap()))
    };
    check("role", roles.map(numbered).into());
}
