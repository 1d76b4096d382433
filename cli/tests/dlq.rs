//! The program against a local account, over HTTP: letters of the real sink, and letters as other releases and jobs write them.

#[path = "../../rust-core/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use cosmosflink_core::sink::{NewOperation, OperationKind, OutcomeResult};
use serde_json::{json, Value};
use support::*;

const LETTERS: [(&str, &str); 2] = [
    ("sink.failure-mode", "dead-letter"),
    ("sink.dead-letter-container", "dead"),
];

/// What a run of the program came to.
struct Ran {
    code: i32,
    printed: String,
    errors: String,
}

impl Ran {
    /// The lines of JSON that it printed.
    fn lines(&self) -> Vec<Value> {
        let lines = self.printed.lines();
        lines
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// Results by the ids of the documents, of a replay with `--json`.
    fn results(&self) -> BTreeMap<String, String> {
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let lines = self.lines();
        let of_letters = lines.iter().filter(|line| line["id"].is_string());
        of_letters
            .map(|line| (text(line, "documentId"), text(line, "result")))
            .collect()
    }

    /// A count of the summary of a replay with `--json`.
    fn count(&self, name: &str) -> u64 {
        let lines = self.lines();
        lines.last().unwrap()["summary"][name].as_u64().unwrap()
    }
}

fn command(local: &Local, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cosmosflink"));
    // What the caller's shell has set must not reach the test.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if ["COSMOS_", "JOB_", "AZURE_", "CHECKPOINT_", "CONSUMER_", "CFP_"]
            .iter()
            .any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
        .arg("dlq")
        .args(args)
        .env("COSMOS_URI", &local.endpoint)
        .env("COSMOS_DB", "orders")
        .env("COSMOS_KEY", &local.key)
        .env("COSMOS_SINK_DEAD_LETTER_CONTAINER", "dead")
        // Options of a job that read something else, as its environment has them.
        .env("COSMOS_SOURCE_START", "now")
        .env("COSMOS_LEASE_CONTAINER", "leases")
        .env("COSMOS_SINK_FAILURE_MODE", "dead-letter")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(local: &Local, args: &[&str]) -> Ran {
    ended(command(local, args).spawn().unwrap())
}

fn ended(child: Child) -> Ran {
    let out = child.wait_with_output().unwrap();
    Ran {
        code: out.status.code().unwrap_or(-1),
        printed: String::from_utf8(out.stdout).unwrap(),
        errors: String::from_utf8(out.stderr).unwrap(),
    }
}

/// The documents of a container by their ids.
fn documents(local: &Local, container: &str, count: usize) -> BTreeMap<String, Value> {
    let (source, _) = local.source_of_all(container, &[]);
    let all = read(&source, count);
    all.into_iter()
        .map(|(id, text)| (id, serde_json::from_str(&text).unwrap()))
        .collect()
}

/// The letters by the ids of what was refused.
fn letters(local: &Local, count: usize) -> BTreeMap<String, Value> {
    let by_document = |letter: Value| (letter["documentId"].as_str().unwrap().to_owned(), letter);
    documents(local, "dead", count)
        .into_values()
        .map(by_document)
        .collect()
}

/// Refuses writes of a document, alone and in bulk.
fn refuse(local: &Local, id: &str) {
    local.admin(
        "faults",
        json!({"status": 400, "operations": ["bulk", "upsert", "create", "replace"], "documentId": id, "message": "spoilt"}),
    );
}

fn write(sink: &Writer, token: u64, kind: OperationKind, id: &str, if_match: &str, document: &str) {
    let op = NewOperation {
        kind,
        id,
        partition_key: "[\"k\"]",
        if_match,
        document: document.as_bytes(),
    };
    sink.write([token], &[op]);
}

fn assert_results(sink: &Writer, count: usize, result: OutcomeResult) {
    for outcome in outcomes(sink, count) {
        assert_eq!(outcome.result, result, "{:?}", outcome.error);
    }
}

/// Puts the document `a` there, at 0.
fn counter(local: &Local, container: &str) {
    let good = local.sink(container, &[]);
    write(&good, 0, OperationKind::Upsert, "a", "", &document("a", "k", 0));
    assert_results(&good, 1, OutcomeResult::Ok);
}

/// Operations of a patch that each add 1.
fn increments(count: usize) -> Vec<Value> {
    vec![json!({"op": "incr", "path": "/n", "value": 1}); count]
}

/// Refuses a part of a patch behind so many others, and again where it is tried alone.
fn refuse_parts(local: &Local, container: &str, skip: u64) {
    local.admin(
        "faults",
        json!({"status": 400, "operations": ["bulk", "batch"], "container": container, "skip": skip, "count": 2, "message": "spoilt"}),
    );
}

/// A letter as another release, or a job, may have written it.
fn letter(id: &str, document_id: &str, change: &[(&str, Value)]) -> Value {
    let mut letter = json!({
        "id": id, "container": "events", "operation": "upsert", "reason": "BadRequest", "status": 400, "subStatus": 0, "message": "no",
        "activityId": "", "time": "2026-11-26T10:00:00Z", "documentId": document_id, "partitionKey": "[\"k\"]", "documentBytes": 20,
        "truncated": false, "document": {"id": document_id, "pk": "k", "n": 1},
    });
    for (name, value) in change {
        letter[*name] = value.clone();
    }
    letter
}

/// Stores letters as they are; the container's key path is `/container`.
fn store(local: &Local, letters: &[Value]) {
    let sink = local.sink("dead", &[]);
    let texts: Vec<_> = letters
        .iter()
        .map(|letter| {
            let key = json!([letter["container"]]).to_string();
            (letter["id"].as_str().unwrap(), key, letter.to_string())
        })
        .collect();
    for texts in texts.chunks(500) {
        let operations: Vec<_> = texts
            .iter()
            .map(|(id, key, text)| NewOperation {
                kind: OperationKind::Upsert,
                id,
                partition_key: key,
                if_match: "",
                document: text.as_bytes(),
            })
            .collect();
        sink.write(0.., &operations);
        assert_results(&sink, operations.len(), OutcomeResult::Ok);
    }
    sink.close();
}

/// Letters of each operation, which the sink stores: of an upsert that the service refuses, a create of what is there, a replace of what
/// is not, and a delete of another version.
fn refused_by_the_service(local: &Local) {
    let good = local.sink("events", &[]);
    for (token, id) in (0..).zip(["c", "d"]) {
        write(&good, token, OperationKind::Create, id, "", &document(id, "k", 1));
        assert_results(&good, 1, OutcomeResult::Ok);
    }
    refuse(local, "u");
    let sink = local.sink("events", &LETTERS);
    write(
        &sink,
        0,
        OperationKind::Upsert,
        "u",
        "",
        r#"{"id":"u","pk":"k","n":1.10}"#,
    );
    write(&sink, 1, OperationKind::Create, "c", "", &document("c", "k", 2));
    write(&sink, 2, OperationKind::Replace, "r", "", &document("r", "k", 2));
    write(&sink, 3, OperationKind::Delete, "d", "\"no such version\"", "");
    assert_results(&sink, 4, OutcomeResult::DeadLettered);
    local.clear_faults();
}

#[test]
fn each_operation_is_written_again_and_its_letter_marked() {
    let local = Local::start(&["events:/pk:2", "dead:/container:2"]);
    refused_by_the_service(&local);
    let before = letters(&local, 4);
    assert_eq!(before["d"]["ifMatch"], "\"no such version\"");

    // Only the upsert finds another world: the others are refused again, and say so.
    let first = run(&local, &["replay", "--json"]);
    assert_eq!(first.code, 1, "{}{}", first.printed, first.errors);
    let expected = [("c", "failed"), ("d", "failed"), ("r", "failed"), ("u", "done")];
    assert_eq!(
        first.results(),
        expected
            .map(|(id, result)| (id.to_owned(), result.to_owned()))
            .into()
    );
    let after = letters(&local, 4);
    for (id, result, reason) in [
        ("u", "done", Value::Null),
        ("c", "failed", "Conflict".into()),
        ("r", "failed", "NotFound".into()),
        ("d", "failed", "Precondition".into()),
    ] {
        let mark = &after[id]["replayed"];
        assert_eq!(
            (&mark["result"], &mark["reason"]),
            (&json!(result), &reason),
            "{id}: {mark}"
        );
        assert_eq!(mark["container"], "events");
        assert!(mark["time"].as_str().unwrap().ends_with('Z'));
        // All else stays.
        for field in [
            "id",
            "time",
            "message",
            "document",
            "documentBytes",
            "operation",
            "ifMatch",
        ] {
            assert_eq!(after[id][field], before[id][field], "{id} {field}");
        }
    }
    let stored = documents(&local, "events", 3);
    assert_eq!((&stored["u"]["n"], &stored["c"]["n"]), (&json!(1.1), &json!(1)));

    // What they failed of is mended.
    let good = local.sink("events", &[]);
    write(&good, 0, OperationKind::Delete, "c", "", "");
    write(&good, 1, OperationKind::Upsert, "r", "", &document("r", "k", 1));
    assert_results(&good, 2, OutcomeResult::Ok);
    let second = run(&local, &["replay", "--json", "--ignore-etags"]);
    assert_eq!(second.code, 0, "{}{}", second.printed, second.errors);
    assert_eq!((second.count("done"), second.count("left-out")), (3, 0));
    assert!(!second.results().contains_key("u"), "it was replayed before");
    let stored = documents(&local, "events", 3);
    assert_eq!((&stored["c"]["n"], &stored["r"]["n"]), (&json!(2), &json!(2)));
    assert!(!stored.contains_key("d"));
    assert!(letters(&local, 4)
        .values()
        .all(|letter| letter["replayed"]["result"] == "done"));

    let third = run(&local, &["replay"]);
    assert_eq!(
        (third.code, third.printed.as_str()),
        (0, "0 replayed\n"),
        "{}",
        third.errors
    );
}

#[test]
fn a_letter_that_is_named_is_left_out_unless_it_is_to_be_replayed_again() {
    let local = Local::start(&["events:/pk:1", "other:/pk:1", "dead:/container:1"]);
    store(&local, &[letter("0a", "a", &[]), letter("0b", "b", &[])]);
    let replayed = run(&local, &["replay", "0a"]);
    assert_eq!(
        (replayed.code, replayed.printed.as_str()),
        (0, "1 replayed\n"),
        "{}",
        replayed.errors
    );
    let again = run(&local, &["replay", "0a", "--json"]);
    assert_eq!((again.code, again.count("left-out")), (0, 1));
    assert!(again.printed.contains("--again"), "{}", again.printed);
    let missing = run(&local, &["replay", "0a", "0c"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.printed.contains("0c") && missing.printed.contains("no such letter"),
        "{}",
        missing.printed
    );

    let elsewhere = run(&local, &["replay", "--again", "--to", "other", "--json"]);
    assert_eq!(
        (elsewhere.code, elsewhere.count("done")),
        (0, 2),
        "{}",
        elsewhere.errors
    );
    assert_eq!(documents(&local, "other", 2).len(), 2);
    assert_eq!(letters(&local, 2)["a"]["replayed"]["container"], "other");

    let nowhere = run(&local, &["replay", "--again", "--to", "nowhere"]);
    assert_eq!(nowhere.code, 1, "{}", nowhere.errors);
    assert!(
        nowhere.printed.contains("nowhere") && nowhere.printed.contains("2 failed"),
        "{}",
        nowhere.printed
    );
    assert_eq!(
        letters(&local, 2)["a"]["replayed"]["container"],
        "other",
        "nothing was tried"
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let sink = local.sink("events", &LETTERS);
    let large = format!(r#"{{"id":"large","pk":"k","text":"{}"}}"#, "x".repeat(2_200_000));
    write(&sink, 0, OperationKind::Upsert, "large", "", &large);
    write(
        &sink,
        1,
        OperationKind::Refused,
        "raw",
        "the converter threw",
        "raw",
    );
    assert_results(&sink, 2, OutcomeResult::DeadLettered);
    store(
        &local,
        &[
            letter(
                "1a",
                "job",
                &[("operation", "process".into()), ("container", "source".into())],
            ),
            letter("1b", "", &[]),
            letter("1c", "keyless", &[("partitionKey", "".into())]),
            letter("1d", "empty", &[("document", "".into())]),
            letter("1e", "earlier", &[("reason", "Precondition".into())]),
        ],
    );
    let ran = run(&local, &["replay", "--json"]);
    assert_eq!(
        (ran.code, ran.count("refused"), ran.count("done")),
        (1, 7, 0),
        "{}",
        ran.errors
    );
    let why: BTreeMap<_, _> = ran
        .lines()
        .into_iter()
        .map(|line| (line["documentId"].to_string(), line["message"].to_string()))
        .collect();
    for (document, part) in [
        ("large", "truncated"),
        ("raw", "no operation"),
        ("job", "of a job"),
        ("", "no id"),
        ("keyless", "no partition key"),
        ("empty", "no document"),
        ("earlier", "--ignore-etags"),
    ] {
        let said = &why[&format!("\"{document}\"")];
        assert!(said.contains(part), "{document}: {said}");
    }
    assert!(letters(&local, 7)
        .values()
        .all(|letter| letter["replayed"].is_null()));
    assert!(local
        .requests("bulk")
        .iter()
        .all(|request| request["container"] != "events"));
}

#[test]
fn bytes_and_texts_are_replayed_as_what_was_submitted() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    // {"id":"b","pk":"k","n":7} in base64, and JSON that was kept as a text.
    let encoded = [
        ("document", json!("eyJpZCI6ImIiLCJwayI6ImsiLCJuIjo3fQ==")),
        ("documentEncoding", json!("base64")),
    ];
    let text = [("document", json!(r#"{"id":"t","pk":"k","n":8}"#))];
    store(&local, &[letter("2b", "b", &encoded), letter("2t", "t", &text)]);
    let ran = run(&local, &["replay", "--json"]);
    assert_eq!(
        (ran.code, ran.count("done")),
        (0, 2),
        "{}{}",
        ran.printed,
        ran.errors
    );
    let stored = documents(&local, "events", 2);
    assert_eq!((&stored["b"]["n"], &stored["t"]["n"]), (&json!(7), &json!(8)));
}

#[test]
fn of_several_writes_of_one_document_the_last_one_stays() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let at = |time: &str, n: i32| {
        [
            ("time", json!(time)),
            ("document", json!({"id": "a", "pk": "k", "n": n})),
        ]
    };
    // As texts, the whole second would come last.
    store(
        &local,
        &[
            letter("3c", "a", &at("2026-11-26T10:00:00.5Z", 2)),
            letter("3a", "a", &at("2026-11-26T10:00:00.75Z", 3)),
            letter("3b", "a", &at("2026-11-26T10:00:00Z", 1)),
        ],
    );
    assert_eq!(run(&local, &["replay"]).code, 0);
    assert_eq!(documents(&local, "events", 1)["a"]["n"], 3);
}

/// Letters of the real sink come in the order of their records, however fast they were refused and stored.
#[test]
fn letters_of_one_document_keep_the_order_of_its_records() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    refuse(&local, "a");
    let sink = local.sink("events", &LETTERS);
    let documents_of_a: Vec<_> = (0..30)
        .map(|n| format!(r#"{{"id":"a","pk":"k","n":{n}}}"#))
        .collect();
    let operations: Vec<_> = documents_of_a
        .iter()
        .map(|text| NewOperation {
            kind: OperationKind::Upsert,
            id: "a",
            partition_key: "[\"k\"]",
            if_match: "",
            document: text.as_bytes(),
        })
        .collect();
    sink.write(0.., &operations);
    assert_results(&sink, operations.len(), OutcomeResult::DeadLettered);
    local.clear_faults();
    let listed = run(&local, &["list", "--json"]);
    let sequences: Vec<_> = listed
        .lines()
        .iter()
        .map(|line| line["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (0..30).collect::<Vec<_>>());
    // All in one millisecond.
    let mut same: Vec<_> = documents(&local, "dead", 30).into_values().collect();
    for letter in &mut same {
        letter["time"] = "2026-11-26T10:00:00.123Z".into();
        letter
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with('_'));
    }
    store(&local, &same);
    assert_eq!(run(&local, &["replay"]).code, 0);
    assert_eq!(documents(&local, "events", 1)["a"]["n"], 29);
}

#[test]
fn what_is_superseded_is_marked_as_that() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let good = local.sink("events", &[]);
    write(&good, 0, OperationKind::Upsert, "a", "", &document("a", "k", 7));
    assert_results(&good, 1, OutcomeResult::Ok);
    let conditional = [
        ("operation", json!("overwrite-if-not-modified")),
        ("ifMatch", json!("\"old\"")),
    ];
    store(&local, &[letter("0a", "a", &conditional), letter("0b", "b", &[])]);
    let ran = run(&local, &["replay", "--json"]);
    assert_eq!(
        (
            ran.code,
            ran.count("superseded"),
            ran.count("done"),
            ran.count("failed")
        ),
        (0, 1, 1, 0),
        "{}{}",
        ran.printed,
        ran.errors
    );
    assert_eq!(ran.results()["a"], "superseded");
    let after = letters(&local, 2);
    assert_eq!(after["a"]["replayed"]["result"], "superseded");
    assert_eq!(after["b"]["replayed"]["result"], "done");
    assert_eq!(documents(&local, "events", 2)["a"]["n"], 7);
    let table = run(&local, &["list"]).printed;
    assert!(table.contains("superseded"), "{table}");
    assert!(run(&local, &["show", "0a"]).printed.contains("superseded"));
    // Nothing is left to do, until somebody says so.
    assert_eq!(listed(&local, &["--pending"]), [""; 0]);
    assert_eq!(run(&local, &["replay"]).printed, "0 replayed\n");
    let people = run(&local, &["replay", "0a", "--again"]);
    assert!(
        people.code == 0
            && people.printed.contains("0a superseded")
            && people.printed.contains("1 superseded"),
        "{}",
        people.printed
    );
    let forced = run(&local, &["replay", "0a", "--again", "--ignore-etags"]);
    assert_eq!((forced.code, forced.printed.as_str()), (0, "1 replayed\n"));
    assert_eq!(documents(&local, "events", 2)["a"]["n"], 1);
}

/// A patch of 25 operations goes in three requests, of which the second is refused: once for the sink, once for the first replay.
#[test]
fn of_a_patch_in_parts_a_replay_writes_what_is_missing() {
    let local = Local::start(&["events:/pk:1", "other:/pk:1", "dead:/container:1"]);
    counter(&local, "events");
    let refuse_the_second = || refuse_parts(&local, "events", 1);
    let operations = increments(25);
    let patch = json!({ "operations": operations }).to_string();
    refuse_the_second();
    let sink = local.sink("events", &LETTERS);
    write(&sink, 0, OperationKind::Patch, "a", "", &patch);
    assert_results(&sink, 1, OutcomeResult::DeadLettered);
    local.clear_faults();
    let letter = &letters(&local, 1)["a"];
    assert_eq!(
        (&letter["carriedOut"], &letter["document"]["operations"]),
        (&json!(10), &json!(operations))
    );
    assert!(
        letter["message"]
            .as_str()
            .unwrap()
            .contains("first 10 operations"),
        "{letter}"
    );
    let n = |count: u64| assert_eq!(documents(&local, "events", 1)["a"]["n"], count);
    n(10);
    refuse_the_second();
    let first = run(&local, &["replay", "--json"]);
    assert_eq!((first.code, first.count("failed")), (1, 1), "{}", first.printed);
    local.clear_faults();
    let letter = &letters(&local, 1)["a"];
    assert_eq!(
        (&letter["carriedOut"], &letter["replayed"]["carriedOut"]),
        (&json!(10), &json!(20))
    );
    n(20);
    let second = run(&local, &["replay", "--json"]);
    assert_eq!((second.code, second.count("done")), (0, 1), "{}", second.printed);
    n(25);
}

/// A batch has no id of its own, and is replayed whole.
#[test]
fn a_batch_is_replayed_whole() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let good = local.sink("events", &[]);
    write(&good, 0, OperationKind::Upsert, "b", "", &document("b", "k", 7));
    assert_results(&good, 1, OutcomeResult::Ok);
    let member = |id: &str| json!({"operationType": "Create", "id": id, "resourceBody": {"id": id, "pk": "k", "n": 1}});
    let batch = json!([member("a"), member("b")]);
    let sink = local.sink("events", &LETTERS);
    write(&sink, 0, OperationKind::Batch, "", "", &batch.to_string());
    assert_results(&sink, 1, OutcomeResult::DeadLettered);
    let letter = &letters(&local, 1)[""];
    assert_eq!(
        (&letter["operation"], &letter["document"]),
        (&json!("batch"), &batch)
    );
    write(&good, 1, OperationKind::Delete, "b", "", "");
    assert_results(&good, 1, OutcomeResult::Ok);
    let ran = run(&local, &["replay"]);
    assert_eq!(
        (ran.code, ran.printed.as_str()),
        (0, "1 replayed\n"),
        "{}",
        ran.errors
    );
    assert_eq!(documents(&local, "events", 2).len(), 2);
}

/// A batch has its ETags among its operations: they are asked for again, unless they are to be ignored.
#[test]
fn a_batch_is_replayed_with_its_etags_or_without() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let good = local.sink("events", &[]);
    for (token, id) in (0..).zip(["b", "c"]) {
        write(&good, token, OperationKind::Upsert, id, "", &document(id, "k", 7));
    }
    assert_results(&good, 2, OutcomeResult::Ok);
    let replaced = |n: usize| json!({"operationType": "Replace", "id": "b", "ifMatch": "\"no such version\"", "resourceBody": {"id": "b", "pk": "k", "n": n}});
    let created =
        json!({"operationType": "Create", "id": "a", "resourceBody": {"id": "a", "pk": "k", "n": 1}});
    let guarded = json!({"operationType": "Patch", "id": "c", "resourceBody": {
        "operations": [{"op": "incr", "path": "/n", "value": 1}], "condition": "FROM c WHERE c.n = 99"}});
    let sink = local.sink("events", &LETTERS);
    for (token, batch) in [json!([created, replaced(1)]), json!([replaced(2), guarded])]
        .iter()
        .enumerate()
    {
        write(
            &sink,
            token as u64,
            OperationKind::Batch,
            "",
            "",
            &batch.to_string(),
        );
        assert_results(&sink, 1, OutcomeResult::DeadLettered);
    }
    let reasons = |ran: &Ran| -> Vec<String> {
        let lines = ran.lines();
        let failed = lines.iter().filter(|line| line["result"] == "failed");
        failed
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
    };
    // Nothing has changed: the service says so, and the tool does not say that the ETags were lost.
    let dry = run(&local, &["replay", "--dry-run", "--json"]);
    assert_eq!((dry.code, dry.count("would-replay")), (0, 2), "{}", dry.printed);
    let kept = run(&local, &["replay", "--json"]);
    assert_eq!(
        (kept.code, kept.count("failed"), kept.count("refused")),
        (1, 2, 0),
        "{}",
        kept.printed
    );
    assert!(
        reasons(&kept).iter().all(|why| why.contains("of document 'b'")),
        "{}",
        kept.printed
    );
    assert_eq!(documents(&local, "events", 2)["b"]["n"], 7);
    // The condition of a patch stays, and the batch with it is not carried out.
    let ignored = run(&local, &["replay", "--json", "--ignore-etags"]);
    assert_eq!(
        (ignored.code, ignored.count("done"), ignored.count("failed")),
        (1, 1, 1),
        "{}",
        ignored.printed
    );
    assert!(
        reasons(&ignored)[0].contains("of document 'c'"),
        "{}",
        ignored.printed
    );
    let stored = documents(&local, "events", 3);
    assert_eq!(
        ["a", "b", "c"].map(|id| stored[id]["n"].as_u64()),
        [1, 1, 7].map(Some)
    );
    // What the letters hold stays as it was.
    let letters = documents(&local, "dead", 2);
    assert!(letters
        .values()
        .all(|letter| letter["document"].to_string().contains("no such version")));
}

/// A letter of an earlier release does not hold its ETag, but a patch holds its condition.
#[test]
fn a_patch_that_was_refused_for_its_condition_is_replayed() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let good = local.sink("events", &[]);
    for (token, id) in (0..).zip(["a", "b", "c"]) {
        write(&good, token, OperationKind::Upsert, id, "", &document(id, "k", 7));
    }
    assert_results(&good, 3, OutcomeResult::Ok);
    let patch = |id: &str, condition: Option<&str>| {
        let mut patch = json!({"operations": [{"op": "incr", "path": "/n", "value": 1}]});
        if let Some(condition) = condition {
            patch["condition"] = condition.into();
        }
        let change = [
            ("operation", "patch".into()),
            ("reason", "Precondition".into()),
            ("document", patch),
        ];
        letter(&format!("0{id}"), id, &change)
    };
    store(
        &local,
        &[
            patch("a", Some("FROM c WHERE c.n = 7")),
            patch("b", Some("FROM c WHERE c.n = 8")),
            patch("c", None),
        ],
    );
    let expected = |results: [(&str, &str); 3]| -> BTreeMap<String, String> {
        results
            .map(|(id, result)| (id.to_owned(), result.to_owned()))
            .into()
    };
    let ran = run(&local, &["replay", "--json"]);
    assert_eq!(
        ran.results(),
        expected([("a", "done"), ("b", "superseded"), ("c", "refused")]),
        "{}",
        ran.printed
    );
    assert!(ran.printed.contains("--ignore-etags"), "{}", ran.printed);
    let ignored = run(
        &local,
        &["replay", "--json", "--ignore-etags", "0a", "0b", "0c", "--again"],
    );
    assert_eq!(
        ignored.results(),
        expected([("a", "superseded"), ("b", "superseded"), ("c", "done")]),
        "{}",
        ignored.printed
    );
    let stored = documents(&local, "events", 3);
    assert_eq!(
        ["a", "b", "c"].map(|id| stored[id]["n"].as_u64()),
        [8, 7, 8].map(Some)
    );
}

/// What a strategy leaves for another reason than an ETag it leaves again, until the letter says another operation.
#[test]
fn what_is_superseded_without_an_etag_takes_another_operation() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let good = local.sink("events", &[]);
    write(&good, 0, OperationKind::Upsert, "a", "", &document("a", "k", 7));
    write(&good, 1, OperationKind::Upsert, "c", "", &document("c", "k", 7));
    assert_results(&good, 2, OutcomeResult::Ok);
    let of = |operation: &'static str| [("operation", json!(operation))];
    let patch = [
        of("patch-if-exists")[0].clone(),
        (
            "document",
            json!({"operations": [{"op": "set", "path": "/n", "value": 1}]}),
        ),
    ];
    store(
        &local,
        &[
            letter("0a", "a", &of("create-ignore-existing")),
            letter("0b", "b", &of("replace-if-exists")),
            letter("0c", "c", &of("overwrite-if-not-modified")),
            letter("0d", "d", &patch),
        ],
    );
    let forced = ["replay", "--json", "--again", "--ignore-etags"];
    for args in [&forced[..2], &forced] {
        let ran = run(&local, args);
        assert_eq!((ran.code, ran.count("superseded")), (0, 4), "{}", ran.printed);
    }
    let stored = documents(&local, "events", 2);
    assert_eq!(["a", "c"].map(|id| stored[id]["n"].as_u64()), [7, 7].map(Some));
    store(
        &local,
        &["a", "b", "c"].map(|id| letter(&format!("0{id}"), id, &of("upsert"))),
    );
    assert_eq!(run(&local, &["replay"]).printed, "3 replayed\n");
    let stored = documents(&local, "events", 3);
    assert_eq!(
        ["a", "b", "c"].map(|id| stored[id]["n"].as_u64()),
        [1, 1, 1].map(Some)
    );
}

/// Writes into another container in between do not make a replay forget how far a patch is.
#[test]
fn of_a_patch_in_parts_each_container_gets_what_it_misses() {
    let local = Local::start(&["events:/pk:1", "other:/pk:1", "dead:/container:1"]);
    for container in ["events", "other"] {
        counter(&local, container);
    }
    let operations = increments(30);
    refuse_parts(&local, "events", 1);
    let sink = local.sink("events", &LETTERS);
    write(
        &sink,
        0,
        OperationKind::Patch,
        "a",
        "",
        &json!({ "operations": operations }).to_string(),
    );
    assert_results(&sink, 1, OutcomeResult::DeadLettered);
    local.clear_faults();
    let replay = |args: &[&str], done: u64, refuse: Option<(&str, u64)>| {
        if let Some((container, skip)) = refuse {
            refuse_parts(&local, container, skip);
        }
        let ran = run(&local, &[&["replay", "--json"], args].concat());
        local.clear_faults();
        assert_eq!(
            (ran.count("done"), ran.count("failed")),
            (done, 1 - done),
            "{args:?}: {}",
            ran.printed
        );
        let n = |container| documents(&local, container, 1)["a"]["n"].as_u64().unwrap();
        let mark = letters(&local, 1)["a"]["replayed"].clone();
        (
            [n("events"), n("other")],
            mark["carriedOut"].clone(),
            mark["carriedOutElsewhere"].clone(),
        )
    };
    let nothing = Value::Null;
    assert_eq!(
        replay(&[], 0, Some(("events", 1))),
        ([20, 0], json!(20), nothing.clone())
    );
    assert_eq!(
        replay(&["--to", "other"], 0, Some(("other", 1))),
        ([20, 10], json!(10), json!({"events": 20}))
    );
    // Not a single part.
    assert_eq!(
        replay(&[], 0, Some(("events", 0))),
        ([20, 10], json!(20), json!({"other": 10}))
    );
    assert_eq!(
        replay(&["--to", "other"], 1, None),
        ([20, 30], nothing.clone(), json!({"events": 20}))
    );
    assert_eq!(
        replay(&["--again"], 1, None),
        ([30, 30], nothing.clone(), nothing)
    );
}

/// Also where it is not refused: the service does not answer any more.
#[test]
fn of_a_patch_that_is_given_up_a_replay_writes_what_is_missing() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    counter(&local, "events");
    let operations = increments(25);
    let patch = [
        ("operation", json!("patch")),
        ("document", json!({ "operations": operations })),
    ];
    store(&local, &[letter("0a", "a", &patch)]);
    local.admin(
        "faults",
        json!({"status": 503, "operations": ["bulk", "batch", "patch"], "container": "events", "skip": 1}),
    );
    let short = ["--option", "retry.deadline=1000"];
    let ran = run(&local, &[&["replay", "--json"], &short[..]].concat());
    local.clear_faults();
    assert_eq!((ran.code, ran.count("failed")), (1, 1), "{}", ran.printed);
    let mark = &letters(&local, 1)["a"]["replayed"];
    assert_eq!(
        (&mark["result"], &mark["carriedOut"]),
        (&json!("failed"), &json!(10)),
        "{mark}"
    );
    assert_eq!(documents(&local, "events", 1)["a"]["n"], 10);
    assert_eq!(run(&local, &["replay"]).printed, "1 replayed\n");
    assert_eq!(documents(&local, "events", 1)["a"]["n"], 25);
}

/// The order of the records decides which letters a limit takes, not the times of the refusals nor the ids.
#[test]
fn a_limit_leaves_no_earlier_write_of_a_document_behind() {
    const COUNT: u64 = 9;
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let of_a: Vec<_> = (0..COUNT)
        .map(|n| {
            // The later the record, the earlier its refusal.
            let second = COUNT - n;
            let change = [
                ("writer", json!("w")),
                ("sequence", json!(n)),
                ("time", json!(format!("2026-11-26T10:00:0{second}Z"))),
                ("document", json!({"id": "a", "pk": "k", "n": n})),
            ];
            letter(&format!("{:02}", COUNT - n), "a", &change)
        })
        .collect();
    store(&local, &of_a);
    let expected: Vec<_> = (0..COUNT).map(|n| format!("{:02}", COUNT - n)).collect();
    assert_eq!(listed(&local, &[]), expected);
    assert_eq!(listed(&local, &["--limit", "2"]), expected[..2]);
    for n in [1, 3, 5, 7, 8] {
        let ran = run(&local, &["replay", "--limit", "2"]);
        assert_eq!(ran.code, 0, "{}", ran.printed);
        assert_eq!(documents(&local, "events", 1)["a"]["n"], n);
    }
    assert_eq!(run(&local, &["replay"]).printed, "0 replayed\n");
}

/// Ids that a list with these filters has, in its order.
fn listed(local: &Local, filters: &[&str]) -> Vec<String> {
    let ran = run(local, &[&["list", "--json"], filters].concat());
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let lines = ran.lines();
    assert!(
        lines.iter().all(|line| line["document"].is_null()),
        "{}",
        ran.printed
    );
    lines
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn lists_have_what_the_filters_take_the_oldest_first() {
    let local = Local::start(&["events:/pk:1", "dead:/container:4"]);
    let at = |time: &str| ("time", json!(time));
    store(
        &local,
        &[
            letter(
                "4a",
                "a",
                &[at("2026-11-26T10:00:02Z"), ("operation", "create".into())],
            ),
            letter(
                "4b",
                "b",
                &[at("2026-11-26T10:00:00.5Z"), ("reason", "Conflict".into())],
            ),
            letter(
                "4c",
                "c\u{1b}[2J",
                &[at("2026-11-26T10:00:00Z"), ("container", "other".into())],
            ),
            letter(
                "4d",
                "d",
                &[
                    at("2026-11-26T10:00:01.25Z"),
                    ("replayed", json!({"result": "done"})),
                ],
            ),
            letter(
                "4e",
                "e",
                &[
                    at("2026-11-26T10:00:01Z"),
                    ("replayed", json!({"result": "failed"})),
                ],
            ),
        ],
    );
    assert_eq!(listed(&local, &[]), ["4c", "4b", "4e", "4d", "4a"]);
    for (filters, ids) in [
        (&["--container", "other"][..], &["4c"][..]),
        (
            &["--container", "other", "--container", "events", "--limit", "2"],
            &["4c", "4b"],
        ),
        (&["--reason", "conflict"], &["4b"]),
        (&["--operation", "create"], &["4a"]),
        (&["--operation", "create", "--reason", "Conflict"], &[]),
        (
            &[
                "--since",
                "2026-11-26T10:00:00.5Z",
                "--until",
                "2026-11-26T10:00:01.25Z",
            ],
            &["4b", "4e"],
        ),
        (&["--since", "2026-11-26T11:00:02+01:00"], &["4a"]),
        (&["--pending"], &["4c", "4b", "4e", "4a"]),
        (&["--limit", "1"], &["4c"]),
    ] {
        assert_eq!(listed(&local, filters), ids, "{filters:?}");
    }
    let table = run(&local, &["list"]);
    let lines: Vec<_> = table.printed.lines().collect();
    assert_eq!((table.code, lines.len()), (0, 6), "{}", table.printed);
    assert!(lines[0].starts_with("TIME"), "{}", lines[0]);
    for part in [
        "2026-11-26T10:00:00Z",
        "4c",
        "other",
        "upsert",
        "BadRequest",
        "400",
        "no",
    ] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    assert!(
        !table.printed.contains('\u{1b}'),
        "a letter commands the terminal"
    );
    assert!(
        lines[3].contains("failed") && lines[4].contains("done"),
        "{}",
        table.printed
    );
}

#[test]
fn a_letter_is_shown_with_its_document_byte_for_byte() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    store(
        &local,
        &[letter(
            "5a",
            "a",
            &[("document", json!({"id": "a", "text": "{\"x\":[1, 2]}"}))],
        )],
    );
    let shown = run(&local, &["show", "5a"]);
    assert_eq!(shown.code, 0, "{}", shown.errors);
    assert!(
        shown.printed.contains("  \"documentId\": \"a\""),
        "{}",
        shown.printed
    );
    let whole: Value = serde_json::from_str(&shown.printed).unwrap();
    assert_eq!(whole["document"]["text"], "{\"x\":[1, 2]}");
    let missing = run(&local, &["show", "--json", "5a", "5b"]);
    assert_eq!((missing.code, missing.lines().len()), (1, 1));
    assert!(missing.errors.contains("5b"), "{}", missing.errors);
}

#[test]
fn a_dry_run_writes_nothing() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    store(
        &local,
        &[
            letter("6a", "a", &[]),
            letter("6b", "b", &[("truncated", true.into())]),
        ],
    );
    local.forget_requests();
    let dry = run(&local, &["replay", "--dry-run"]);
    assert_eq!(dry.code, 1, "{}", dry.printed);
    assert!(
        dry.printed.contains("6a would replay, upsert of document 'a'"),
        "{}",
        dry.printed
    );
    assert!(
        dry.printed.contains("1 would be replayed, 1 cannot be replayed"),
        "{}",
        dry.printed
    );
    for kind in ["bulk", "upsert", "replace", "create", "patch", "batch"] {
        assert!(local.requests(kind).is_empty(), "{kind}");
    }
}

#[test]
fn a_letter_that_changed_meanwhile_is_not_marked_over() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    store(&local, &[letter("7a", "a", &[])]);
    // While its document is written, somebody else writes the letter.
    local.admin(
        "faults",
        json!({"container": "events", "operations": "bulk", "delayMillis": 1500, "count": 1}),
    );
    let child = command(&local, &["replay", "--json"]).spawn().unwrap();
    until("the fault has struck", || {
        local.stats()["faultsInjected"].as_u64() > Some(0)
    });
    store(&local, &[letter("7a", "a", &[("message", "another".into())])]);
    let ran = ended(child);
    assert_eq!((ran.code, ran.count("failed")), (1, 1), "{}", ran.printed);
    assert!(ran.printed.contains("could not be marked"), "{}", ran.printed);
    let letter = &letters(&local, 1)["a"];
    assert_eq!(
        (&letter["message"], &letter["replayed"]),
        (&json!("another"), &Value::Null)
    );
}

#[test]
fn a_long_replay_tells_how_far_it_is() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    store(&local, &[letter("8a", "a", &[]), letter("8b", "b", &[])]);
    local.admin(
        "faults",
        json!({"container": "events", "operations": "bulk", "delayMillis": 2500, "count": 1}),
    );
    let ran = run(&local, &["replay"]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let told: Vec<_> = ran
        .errors
        .lines()
        .filter(|line| line.contains("of 2 letters"))
        .collect();
    assert!((1..=4).contains(&told.len()), "{}", ran.errors);
    assert!(
        told[0].contains("0 failed") && told[0].contains("a second"),
        "{}",
        told[0]
    );
}

#[test]
fn what_was_interrupted_goes_on_and_nothing_is_written_twice() {
    const COUNT: usize = 1300;
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    let all: Vec<_> = (0..COUNT)
        .map(|n| letter(&format!("9{n:04}"), &format!("a{n}"), &[]))
        .collect();
    store(&local, &all);
    local.forget_requests();
    let written = || -> u64 {
        let bulk = local.requests("bulk");
        let events = bulk.iter().filter(|request| request["container"] == "events");
        events
            .map(|request| request["operations"].as_u64().unwrap())
            .sum()
    };
    for round in 1..=2 {
        local.admin(
            "faults",
            json!({"container": "events", "operations": "bulk", "delayMillis": 300, "count": 1}),
        );
        let before = written();
        let mut child = command(&local, &["replay", "--json"]).spawn().unwrap();
        // What it prints must not fill the pipe.
        let mut out = child.stdout.take().unwrap();
        let printed = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        until("documents are written", || local.faults() == 0);
        let pid = child.id().to_string();
        assert!(Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success());
        let code = child.wait().unwrap().code();
        let text = printed.join().unwrap();
        let ran = Ran {
            code: code.unwrap_or(-1),
            printed: text,
            errors: String::new(),
        };
        assert_eq!(ran.code, 1, "round {round}");
        assert_eq!(ran.lines().last().unwrap()["summary"]["interrupted"], true);
        assert_eq!(
            (ran.count("done"), ran.count("unknown")),
            (500, 0),
            "what was begun is ended"
        );
        assert_eq!(written() - before, 500);
    }
    let last = run(&local, &["replay", "--json"]);
    assert_eq!((last.code, last.count("done")), (0, 300), "{}", last.errors);
    assert_eq!(written(), COUNT as u64, "each document is written once");
    assert!(letters(&local, COUNT)
        .values()
        .all(|letter| letter["replayed"]["result"] == "done"));
    assert_eq!(documents(&local, "events", COUNT).len(), COUNT);
}

#[test]
fn wrong_usage_and_a_missing_account_are_told_apart_from_failures() {
    let local = Local::start(&["events:/pk:1", "dead:/container:1"]);
    for (args, said) in [
        (
            &["replay", "0a", "--reason", "Conflict"][..],
            "cannot be used with",
        ),
        (&["list", "--since", "yesterday"], "RFC 3339"),
        (&["list", "--reason", "Oops"], "Conflict"),
        (&["list", "--option", "endpont=x"], "endpoint"),
        (&["list", "--letters", "nowhere"], "nowhere"),
        (&["show"], "<ID>"),
    ] {
        let ran = run(&local, args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.errors);
        assert!(ran.errors.contains(said), "{args:?}: {}", ran.errors);
    }
    let mut without = command(&local, &["list"]);
    without.env_remove("COSMOS_URI");
    let ran = ended(without.spawn().unwrap());
    assert!(
        ran.code == 2 && ran.errors.contains("COSMOS_URI"),
        "{}",
        ran.errors
    );
}
