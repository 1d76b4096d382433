//! What each write strategy does, alone and when a restore does it again, against a local account over HTTP. docs/writing.md has the table.

mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use cosmosflink_core::error::{CoreError, Kind};
use cosmosflink_core::sink::{NewOperation, OperationKind, OutcomeResult};
use serde_json::{json, Value};
use support::*;

const KEY: &str = "[\"k\"]";

/// The document as it is stored, if it is.
fn stored(local: &Local, id: &str) -> Option<Value> {
    let token = local.account.token(SystemTime::now() + Duration::from_secs(60));
    let answer = ureq::get(format!("{}dbs/orders/colls/c/docs/{id}", local.endpoint))
        .header("authorization", format!("type%3Daad%26ver%3D1.0%26sig%3D{token}"))
        .header("x-ms-date", "Tue, 24 Nov 2026 10:00:00 GMT")
        .header("x-ms-documentdb-partitionkey", KEY)
        .call();
    match answer {
        Ok(mut answer) => Some(answer.body_mut().read_json().unwrap()),
        Err(ureq::Error::StatusCode(404)) => None,
        Err(e) => panic!("{e}"),
    }
}

/// Creates a container.
fn create_container(local: &Local, definition: &Value) {
    let token = local.account.token(SystemTime::now() + Duration::from_secs(60));
    let answer = ureq::post(format!("{}dbs/orders/colls", local.endpoint))
        .header("authorization", format!("type%3Daad%26ver%3D1.0%26sig%3D{token}"))
        .header("x-ms-date", "Tue, 24 Nov 2026 10:00:00 GMT")
        .send(definition.to_string());
    assert!(answer.is_ok(), "{answer:?}");
}

/// The same without what the service writes.
fn fields(local: &Local, id: &str) -> Option<Value> {
    let mut document = stored(local, id)?;
    let all = document.as_object_mut().unwrap();
    all.retain(|name, _| !name.starts_with('_'));
    Some(document)
}

fn etag(local: &Local) -> String {
    stored(local, "a").unwrap()["_etag"].as_str().unwrap().to_owned()
}

/// Does one thing with the document `a`.
fn act(sink: &Writer, kind: OperationKind, if_match: &str, body: &Value) -> Result<(), CoreError> {
    let text = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let operation = NewOperation {
        kind,
        id: "a",
        partition_key: KEY,
        if_match,
        document: text.as_bytes(),
    };
    sink.write([0], &[operation]);
    let outcome = outcomes(sink, 1).remove(0);
    match outcome.error {
        None => {
            assert_eq!(outcome.result, OutcomeResult::Ok);
            Ok(())
        }
        Some(e) => Err(e),
    }
}

/// Carries out a batch of documents with the key [`KEY`].
fn batch(sink: &Writer, operations: &Value) -> Result<(), CoreError> {
    let text = operations.to_string();
    let operation = NewOperation {
        kind: OperationKind::Batch,
        id: "",
        partition_key: KEY,
        if_match: "",
        document: text.as_bytes(),
    };
    sink.write([0], &[operation]);
    outcomes(sink, 1).remove(0).error.map_or(Ok(()), Err)
}

/// An operation of a batch that writes a document.
fn member(verb: &str, id: &str, n: u64) -> Value {
    json!({"operationType": verb, "id": id, "resourceBody": {"id": id, "pk": "k", "n": n}})
}

fn superseded(sink: &Writer) -> u64 {
    sink.metrics().superseded.load(Relaxed)
}

/// A row of the table of replays.
struct Row {
    kind: OperationKind,
    /// What is stored before.
    before: Option<Value>,
    /// The operation has the ETag of that.
    with_etag: bool,
    body: Value,
    /// What is stored after the first time and after the second.
    after: [Option<Value>; 2],
    /// How many of the two changed nothing, by their strategy.
    superseded: u64,
}

/// Each strategy, carried out and carried out once more, as after a restore to a checkpoint from before it.
#[test]
fn a_replay_never_fails_and_leaves_what_the_table_says() {
    let old = || json!({"id": "a", "pk": "k", "n": 1});
    let new = || json!({"id": "a", "pk": "k", "n": 2, "x": [1.5, null]});
    let row = |kind, before, with_etag, body, after: Option<Value>, superseded| Row {
        kind,
        before,
        with_etag,
        body,
        after: [after.clone(), after],
        superseded,
    };
    let patch = |operations: Value, condition: Option<&str>| match condition {
        Some(condition) => json!({"operations": operations, "condition": condition}),
        None => json!({ "operations": operations }),
    };
    use OperationKind::*;
    let rows = || {
        [
            row(Upsert, None, false, new(), Some(new()), 0),
            row(Upsert, Some(old()), false, new(), Some(new()), 0),
            row(Upsert, Some(old()), true, new(), Some(new()), 0),
            row(Create, None, false, new(), Some(new()), 0),
            row(CreateIgnoreExisting, None, false, new(), Some(new()), 1),
            row(CreateIgnoreExisting, Some(old()), false, new(), Some(old()), 2),
            row(Replace, Some(old()), false, new(), Some(new()), 0),
            row(Replace, Some(old()), true, new(), Some(new()), 0),
            row(ReplaceIfExists, Some(old()), false, new(), Some(new()), 0),
            row(ReplaceIfExists, None, false, new(), None, 2),
            row(OverwriteIfNotModified, Some(old()), true, new(), Some(new()), 1),
            row(OverwriteIfNotModified, None, false, new(), Some(new()), 1),
            row(Delete, Some(old()), false, Value::Null, None, 0),
            row(Delete, Some(old()), true, Value::Null, None, 0),
            row(DeleteIfNotModified, Some(old()), true, Value::Null, None, 1),
            row(
                Patch,
                Some(old()),
                false,
                patch(
                    json!([{"op": "set", "path": "/n", "value": 2}, {"op": "add", "path": "/x", "value": [1.5, null]}]),
                    None,
                ),
                Some(new()),
                0,
            ),
            // The advice for what cannot be repeated: a condition that the patch itself ends.
            row(
                Patch,
                Some(old()),
                false,
                patch(
                    json!([{"op": "incr", "path": "/n", "value": 1}, {"op": "set", "path": "/seq", "value": 7}]),
                    Some("FROM c WHERE NOT IS_DEFINED(c.seq) OR c.seq < 7"),
                ),
                Some(json!({"id": "a", "pk": "k", "n": 2, "seq": 7})),
                1,
            ),
            row(
                Patch,
                Some(json!({"id": "a", "pk": "k", "n": 1, "gone": 1})),
                false,
                patch(
                    json!([{"op": "set", "path": "/gone", "value": null}, {"op": "remove", "path": "/gone"}]),
                    None,
                ),
                Some(old()),
                0,
            ),
            row(
                PatchIfExists,
                None,
                false,
                patch(json!([{"op": "set", "path": "/n", "value": 2}]), None),
                None,
                2,
            ),
            row(
                BulkUpdate,
                Some(json!({"id": "a", "pk": "k", "n": 1, "kept": true})),
                false,
                new(),
                Some(json!({"id": "a", "pk": "k", "n": 2, "x": [1.5, null], "kept": true})),
                0,
            ),
            row(BulkUpdate, None, false, new(), Some(new()), 0),
            // An increment is one that counts twice: the documentation says so.
            Row {
                kind: Patch,
                before: Some(old()),
                with_etag: false,
                body: patch(json!([{"op": "incr", "path": "/n", "value": 1}]), None),
                after: [2, 3].map(|n| Some(json!({"id": "a", "pk": "k", "n": n}))),
                superseded: 0,
            },
        ]
    };
    for bulk in ["true", "false"] {
        for (n, row) in rows().into_iter().enumerate() {
            let local = Local::start(&["c:/pk:1"]);
            let sink = local.sink("c", &[("sink.bulk", bulk)]);
            let what = format!("row {n}, {:?}, bulk {bulk}", row.kind);
            if let Some(before) = &row.before {
                act(&sink, Upsert, "", before).unwrap();
            }
            let if_match = if row.with_etag {
                etag(&local)
            } else {
                String::new()
            };
            for after in &row.after {
                act(&sink, row.kind, &if_match, &row.body).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(fields(&local, "a"), *after, "{what}");
            }
            assert_eq!(superseded(&sink), row.superseded, "{what}");
            let m = sink.metrics();
            let at_rest = [&m.operations_waiting, &m.bytes_buffered, &m.held_millis].map(|c| c.load(Relaxed));
            assert_eq!(at_rest, [0; 3], "{what}");
        }
    }
}

/// What is strict stays so where it is no repetition.
#[test]
fn a_document_that_somebody_else_wrote_is_no_repetition() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk), ("sink.failure-mode", "skip")]);
        let theirs = json!({"id": "a", "pk": "k", "n": 1});
        let ours = json!({"id": "a", "pk": "k", "n": 2});
        act(&sink, OperationKind::Upsert, "", &theirs).unwrap();
        let old = etag(&local);
        act(
            &sink,
            OperationKind::Upsert,
            "",
            &json!({"id": "a", "pk": "k", "n": 1, "m": 1}),
        )
        .unwrap();
        let kind =
            |operation, if_match: &str, body: &Value| act(&sink, operation, if_match, body).unwrap_err().kind;
        assert_eq!(kind(OperationKind::Create, "", &ours), Kind::Conflict);
        for operation in [
            OperationKind::Upsert,
            OperationKind::Replace,
            OperationKind::Delete,
        ] {
            let body = match operation {
                OperationKind::Delete => Value::Null,
                _ => ours.clone(),
            };
            assert_eq!(kind(operation, &old, &body), Kind::Precondition, "{operation:?}");
        }
        // The same, where nobody is to fail.
        act(&sink, OperationKind::OverwriteIfNotModified, &old, &ours).unwrap();
        act(&sink, OperationKind::DeleteIfNotModified, &old, &Value::Null).unwrap();
        act(&sink, OperationKind::OverwriteIfNotModified, "", &ours).unwrap();
        assert_eq!(superseded(&sink), 3, "bulk {bulk}");
        assert_eq!(stored(&local, "a").unwrap()["m"], 1);
        act(&sink, OperationKind::Delete, "", &Value::Null).unwrap();
        let set = json!({"operations": [{"op": "set", "path": "/n", "value": 2}]});
        for (operation, body) in [(OperationKind::Replace, &ours), (OperationKind::Patch, &set)] {
            assert_eq!(kind(operation, "", body), Kind::NotFound, "{operation:?}");
        }
        let remove = json!({"operations": [{"op": "remove", "path": "/missing"}]});
        act(&sink, OperationKind::Upsert, "", &theirs).unwrap();
        assert_eq!(kind(OperationKind::Patch, "", &remove), Kind::BadRequest);
    }
}

/// What the service answered to an attempt that got no answer is not known. A conflict behind it may be the echo of one's own write, and
/// may be somebody else's document: the document says which.
#[test]
fn a_lost_answer_makes_nobody_elses_document_ones_own() {
    use OperationKind::*;
    let ours = json!({"id": "a", "pk": "k", "n": 2});
    let writes = ["bulk", "create", "replace", "upsert"];
    let unanswered = [
        json!({"status": 503, "operations": writes, "count": 1}),
        // An answer that would be too large: what was carried out of the request is not known either.
        json!({"status": 413, "subStatus": 3402, "operations": writes, "count": 1}),
    ];
    for (bulk, fault) in ["true", "false"]
        .into_iter()
        .flat_map(|b| unanswered.iter().map(move |f| (b, f)))
    {
        let local = Local::start(&["c:/pk:1"]);
        let options = [
            ("sink.bulk", bulk),
            ("sink.failure-mode", "skip"),
            ("retry.backoff", "5"),
        ];
        let sink = local.sink("c", &options);
        let what = format!("bulk {bulk}, {fault}");
        act(&sink, Upsert, "", &json!({"id": "a", "pk": "k", "n": 0})).unwrap();
        let old = etag(&local);
        let theirs = json!({"id": "a", "pk": "k", "n": 1});
        act(&sink, Upsert, "", &theirs).unwrap();
        for (kind, if_match, refused) in [
            (Create, "", Kind::Conflict),
            (Replace, &*old, Kind::Precondition),
            (ReplaceIfExists, &old, Kind::Precondition),
            (Upsert, &old, Kind::Precondition),
        ] {
            local.admin("faults", fault.clone());
            let error = act(&sink, kind, if_match, &ours).unwrap_err();
            assert_eq!(error.kind, refused, "{kind:?}, {what}: {error}");
            let told = "an earlier attempt got no answer, and may have been carried out";
            assert!(error.message.contains(told), "{kind:?}, {what}: {error}");
            local.clear_faults();
        }
        // Those that leave what is there count that they did.
        for (n, (kind, if_match)) in (1..).zip([
            (CreateIgnoreExisting, ""),
            (OverwriteIfNotModified, ""),
            (OverwriteIfNotModified, &*old),
        ]) {
            local.admin("faults", fault.clone());
            act(&sink, kind, if_match, &ours).unwrap();
            assert_eq!(superseded(&sink), n, "{kind:?}, {what}");
            local.clear_faults();
        }
        assert_eq!(fields(&local, "a"), Some(theirs), "{what}");
    }
}

/// The same where it was carried out: it is done, and counts as that.
#[test]
fn a_lost_answer_to_what_was_carried_out_is_done() {
    use OperationKind::*;
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk), ("retry.backoff", "5")]);
        for (n, (kind, with_etag)) in [
            (Create, false),
            (CreateIgnoreExisting, false),
            (OverwriteIfNotModified, false),
            (OverwriteIfNotModified, true),
            (Replace, true),
        ]
        .into_iter()
        .enumerate()
        {
            act(&sink, Delete, "", &Value::Null).unwrap();
            let mut if_match = String::new();
            if with_etag {
                act(&sink, Upsert, "", &json!({"id": "a", "pk": "k", "n": "old"})).unwrap();
                if_match = etag(&local);
            }
            local.admin(
                "faults",
                json!({"operations": ["bulk", "write"], "count": 1, "dropResponse": true}),
            );
            let document = json!({"id": "a", "pk": "k", "n": n});
            act(&sink, kind, &if_match, &document).unwrap_or_else(|e| panic!("{kind:?}, bulk {bulk}: {e}"));
            assert_eq!(fields(&local, "a"), Some(document), "{kind:?}, bulk {bulk}");
        }
        assert_eq!(superseded(&sink), 0, "bulk {bulk}");
    }
}

/// A document that hurts a unique key of the container is not there already, and must not be lost in silence.
#[test]
fn a_unique_key_is_no_document_that_is_there() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["other:/pk:1"]);
        create_container(
            &local,
            &json!({
                "id": "c",
                "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2},
                "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/mail"]}]},
            }),
        );
        let options = [
            ("sink.bulk", bulk),
            ("sink.failure-mode", "skip"),
            ("retry.backoff", "2"),
        ];
        let sink = local.sink("c", &options);
        let theirs = r#"{"id":"b","pk":"k","mail":"m"}"#;
        let operation = NewOperation {
            kind: OperationKind::Upsert,
            id: "b",
            partition_key: KEY,
            if_match: "",
            document: theirs.as_bytes(),
        };
        sink.write([0], &[operation]);
        assert_eq!(outcomes(&sink, 1).remove(0).result, OutcomeResult::Ok);
        let ours = json!({"id": "a", "pk": "k", "mail": "m"});
        for kind in [
            OperationKind::CreateIgnoreExisting,
            OperationKind::OverwriteIfNotModified,
            OperationKind::Create,
        ] {
            let error = act(&sink, kind, "", &ours).unwrap_err();
            assert_eq!(error.kind, Kind::Conflict, "{kind:?}, bulk {bulk}: {error}");
        }
        assert_eq!(superseded(&sink), 0, "bulk {bulk}");
        assert_eq!(fields(&local, "a"), None);
    }
}

#[test]
fn patches_do_all_that_the_service_can() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk)]);
        let document = json!({"id": "a", "pk": "k", "n": 1, "old": "x", "list": [1], "gone": 1});
        act(&sink, OperationKind::Upsert, "", &document).unwrap();
        let patch = json!({"operations": [
            {"op": "incr", "path": "/n", "value": 2.5},
            {"op": "move", "from": "/old", "path": "/new"},
            {"op": "add", "path": "/list/-", "value": 2},
            {"op": "remove", "path": "/gone"},
            {"op": "replace", "path": "/list/0", "value": 0},
            {"op": "set", "path": "/at", "value": {"x": "ä\"\\"}},
        ], "condition": "FROM c WHERE c.n = 1"});
        act(&sink, OperationKind::Patch, "", &patch).unwrap();
        assert_eq!(
            fields(&local, "a").unwrap(),
            json!({"id": "a", "pk": "k", "n": 3.5, "new": "x", "list": [0, 2], "at": {"x": "ä\"\\"}}),
            "bulk {bulk}"
        );
    }
}

/// More operations than the service takes in one patch, in order, also while single requests fail.
#[test]
fn a_long_patch_arrives_whole() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk), ("retry.backoff", "5")]);
        act(&sink, OperationKind::Upsert, "", &json!({"id": "a", "pk": "k"})).unwrap();
        local.admin(
            "faults",
            json!({"status": 449, "operations": ["bulk", "batch"], "count": 2}),
        );
        let operations: Vec<_> = (0..25)
            .map(|n| json!({"op": "set", "path": format!("/f{}", n % 20), "value": n}))
            .collect();
        act(
            &sink,
            OperationKind::Patch,
            "",
            &json!({ "operations": operations }),
        )
        .unwrap();
        let written = fields(&local, "a").unwrap();
        for n in 5..25 {
            assert_eq!(written[format!("f{}", n % 20)], n, "bulk {bulk}: {written}");
        }
        // One part of it is refused: what was carried out stays, and is said.
        local.admin(
            "faults",
            json!({"status": 400, "operations": ["bulk", "batch"], "skip": 1, "count": 2, "message": "spoilt"}),
        );
        let error = act(
            &sink,
            OperationKind::Patch,
            "",
            &json!({ "operations": operations }),
        )
        .unwrap_err();
        assert!(
            error.message.contains("its first 10 operations were carried out"),
            "bulk {bulk}: {error}"
        );
        local.clear_faults();
        let conditional = json!({"operations": operations, "condition": "FROM c WHERE c.f0 = 20"});
        let error = act(&sink, OperationKind::Patch, "", &conditional).unwrap_err();
        assert_eq!(error.kind, Kind::BadRequest);
        assert!(error.message.contains("condition"), "{error}");
    }
}

#[test]
fn what_is_not_a_patch_never_leaves() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    for body in [
        json!({"operations": []}),
        json!({"operations": [{"op": "set", "path": "/pk", "value": "other"}]}),
        json!({"operations": [{"op": "set", "path": "/id", "value": "other"}]}),
        json!({"id": "a", "pk": "k"}),
    ] {
        let error = act(&sink, OperationKind::Patch, "", &body).unwrap_err();
        assert_eq!(
            (error.kind, error.status),
            (Kind::BadRequest, 0),
            "{body}: {error}"
        );
    }
    assert_eq!(sink.metrics().requests.load(Relaxed), 0);
}

/// Records that say nothing: neither what is done with them, nor their id, nor their key.
#[test]
fn the_options_and_the_document_say_what_a_record_does_not() {
    let local = Local::start(&["c:/pk:1"]);
    let write = |extra: &[(&str, &str)], document: &Value| {
        let sink = local.sink("c", extra);
        let text = document.to_string();
        let operation = NewOperation {
            kind: OperationKind::Default,
            id: "",
            partition_key: "",
            if_match: "",
            document: text.as_bytes(),
        };
        sink.write([0], &[operation]);
        let outcome = outcomes(&sink, 1).remove(0);
        (outcome.error.map(|e| e.kind), superseded(&sink))
    };
    let document = json!({"pk": "k", "customer": {"id": 7}, "order": "o", "none": null, "n": 1});
    let template = ("sink.id", "{customer/id}-{order}");
    assert_eq!(
        write(&[template, ("sink.null-policy", "drop")], &document),
        (None, 0)
    );
    assert_eq!(
        fields(&local, "7-o").unwrap(),
        json!({"id": "7-o", "pk": "k", "customer": {"id": 7}, "order": "o", "n": 1})
    );
    let again = json!({"pk": "k", "customer": {"id": 7}, "order": "o", "n": 2, "m": 3});
    let strategy = |name| [template, ("sink.write-strategy", name)];
    assert_eq!(write(&strategy("create-ignore-existing"), &again), (None, 1));
    assert_eq!(fields(&local, "7-o").unwrap()["n"], 1);
    // The fields of the document are set, and what is beside them stays.
    assert_eq!(
        write(
            &strategy("patch"),
            &json!({"pk": "k", "customer": {"id": 7}, "order": "o", "m": 4})
        ),
        (None, 0)
    );
    assert_eq!(
        fields(&local, "7-o").unwrap(),
        json!({"id": "7-o", "pk": "k", "customer": {"id": 7}, "order": "o", "n": 1, "m": 4})
    );
    assert_eq!(write(&strategy("bulk-update"), &again), (None, 0));
    assert_eq!(fields(&local, "7-o").unwrap()["m"], 3);
    assert_eq!(write(&strategy("delete"), &again), (None, 0));
    assert_eq!(fields(&local, "7-o"), None);
    assert_eq!(
        write(&[("sink.failure-mode", "skip")], &document).0,
        Some(Kind::BadRequest)
    );
}

/// Each writer adds fields of its own to the same documents: none is lost, whoever comes between reading and writing.
#[test]
fn bulk_updates_of_two_writers_lose_nothing() {
    let local = Local::start(&["c:/pk:2"]);
    let options = [("retry.backoff", "5"), ("sink.write-strategy", "bulk-update")];
    let writers = [local.sink("c", &options), local.sink("c", &options)];
    let (documents, rounds) = (5, 6);
    for round in 0..rounds {
        for (w, writer) in writers.iter().enumerate() {
            for d in 0..documents {
                let (id, key) = (format!("d{d}"), format!("k{d}"));
                let document = json!({"id": id, "pk": key, format!("w{w}r{round}"): 1}).to_string();
                let operation = NewOperation {
                    kind: OperationKind::Default,
                    id: &id,
                    partition_key: &json!([key]).to_string(),
                    if_match: "",
                    document: document.as_bytes(),
                };
                writer.write([(round * documents + d) as u64], &[operation]);
            }
        }
    }
    for writer in &writers {
        for outcome in outcomes(writer, documents * rounds) {
            assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
        }
    }
    let (source, _) = local.source_of_all("c", &[]);
    let read = read(&source, documents);
    for (id, document) in read {
        let document: Value = serde_json::from_str(&document).unwrap();
        for (w, round) in (0..2).flat_map(|w| (0..rounds).map(move |r| (w, r))) {
            assert_eq!(document[format!("w{w}r{round}")], 1, "{id}: {document}");
        }
    }
}

/// Answers that are lost, throttling and lost connections between the requests that one operation takes.
#[test]
fn operations_of_several_requests_survive_faults_between_them() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("sink.bulk", bulk), ("retry.backoff", "5")]);
        for fault in [
            json!({"status": 429, "operations": ["bulk", "batch", "write"], "share": 0.3, "count": 6, "retryAfterMillis": 2}),
            json!({"operations": ["bulk", "batch", "write"], "share": 0.3, "count": 4, "dropResponse": true}),
            json!({"status": 503, "operations": ["bulk", "batch", "write"], "share": 0.3, "count": 4}),
        ] {
            local.admin("faults", fault);
        }
        for n in 0..20 {
            act(
                &sink,
                OperationKind::BulkUpdate,
                "",
                &json!({"id": "a", "pk": "k", format!("f{n}"): n}),
            )
            .unwrap();
        }
        let written = fields(&local, "a").unwrap();
        for n in 0..20 {
            assert_eq!(written[format!("f{n}")], n, "bulk {bulk}: {written}");
        }
        // A replay of a create whose comparison is throttled.
        act(&sink, OperationKind::Delete, "", &Value::Null).unwrap();
        let document = json!({"id": "a", "pk": "k", "n": 1});
        act(&sink, OperationKind::Create, "", &document).unwrap();
        local.admin(
            "faults",
            json!({"status": 429, "operations": ["bulk", "batch"], "count": 3, "retryAfterMillis": 2}),
        );
        act(&sink, OperationKind::Create, "", &document).unwrap();
    }
}

/// All of a batch or nothing of it, whatever it holds; and a replay finds that it was carried out, though a part of it could not be
/// repeated.
#[test]
fn a_batch_is_carried_out_whole_and_once() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:2"]);
        let sink = local.sink("c", &[("sink.bulk", bulk), ("sink.failure-mode", "skip")]);
        let n = |id: &str| stored(&local, id).map(|document| document["n"].clone());
        batch(
            &sink,
            &json!([
                member("Upsert", "c", 1),
                member("Upsert", "d", 1),
                member("Upsert", "e", 1)
            ]),
        )
        .unwrap();
        let etag_of_e = stored(&local, "e").unwrap()["_etag"].clone();
        let mut replace = member("Replace", "e", 2);
        replace["ifMatch"] = etag_of_e;
        let increment = json!({"operations": [{"op": "incr", "path": "/n", "value": 1}]});
        let all = json!([
            member("Create", "a", 1),
            member("Upsert", "b", 1),
            {"operationType": "Patch", "id": "c", "resourceBody": increment},
            {"operationType": "Delete", "id": "d"},
            replace,
        ]);
        for time in 0..3 {
            batch(&sink, &all).unwrap_or_else(|e| panic!("bulk {bulk}, time {time}: {e}"));
            let found = ["a", "b", "c", "d", "e"].map(n);
            assert_eq!(
                found,
                [
                    Some(json!(1)),
                    Some(json!(1)),
                    Some(json!(2)),
                    None,
                    Some(json!(2))
                ],
                "bulk {bulk}, time {time}"
            );
        }
        // Its answer is lost.
        local.admin(
            "faults",
            json!({"operations": ["batch"], "count": 1, "dropResponse": true}),
        );
        batch(
            &sink,
            &json!([member("Create", "f", 1), {"operationType": "Delete", "id": "b"}]),
        )
        .unwrap();
        assert_eq!((n("f"), n("b")), (Some(json!(1)), None), "bulk {bulk}");
        local.clear_faults();
        // One of them cannot be carried out.
        for (operations, kind, culprit) in [
            (
                json!([member("Upsert", "g", 1), member("Create", "a", 9)]),
                Kind::Conflict,
                "operation 2 of 2, Create of document 'a'",
            ),
            (
                json!([member("Replace", "missing", 1), member("Upsert", "g", 1)]),
                Kind::NotFound,
                "operation 1 of 2, Replace of document 'missing'",
            ),
            (
                json!([member("Upsert", "g", 1), {"operationType": "Delete", "id": "a", "ifMatch": "\"0\""}]),
                Kind::Precondition,
                "operation 2 of 2, Delete of document 'a'",
            ),
            // There is nothing that would show whether a patch was carried out.
            (
                json!([{"operationType": "Patch", "id": "missing", "resourceBody": increment}]),
                Kind::NotFound,
                "operation 1 of 1, Patch of document 'missing'",
            ),
        ] {
            let error = batch(&sink, &operations).unwrap_err();
            assert_eq!(error.kind, kind, "bulk {bulk}: {error}");
            assert!(error.message.contains(culprit), "bulk {bulk}: {error}");
            assert!(error.message.contains("Batch of "), "{error}");
        }
        assert_eq!((n("g"), n("a")), (None, Some(json!(1))));
        // Somebody has changed what it wrote.
        act(
            &sink,
            OperationKind::Upsert,
            "",
            &json!({"id": "a", "pk": "k", "n": 7}),
        )
        .unwrap();
        assert_eq!(batch(&sink, &all).unwrap_err().kind, Kind::Conflict);
        assert_eq!(n("c"), Some(json!(2)));
        let m = sink.metrics();
        let at_rest = [&m.operations_waiting, &m.bytes_buffered, &m.held_millis].map(|c| c.load(Relaxed));
        assert_eq!(at_rest, [0; 3]);
    }
}

/// A batch that was refused is done only where that can be told. What its documents are like without it, shows nothing.
#[test]
fn a_refused_batch_whose_patches_were_not_carried_out_has_failed() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    let before = json!([member("Upsert", "a", 1), member("Upsert", "b", 1)]);
    batch(&sink, &before).unwrap();
    let patch = |id: &str| json!({"operationType": "Patch", "id": id, "resourceBody": {"operations": [{"op": "incr", "path": "/n", "value": 1}]}});
    let mut conditional = patch("b");
    conditional["resourceBody"]["condition"] = json!("FROM c WHERE c.n = 7");
    let mut with_etag = patch("b");
    with_etag["ifMatch"] = json!("\"0\"");
    let delete = |id: &str| json!({"operationType": "Delete", "id": id});
    for (operations, kind, culprit) in [
        (
            json!([delete("c"), patch("b")]),
            Kind::NotFound,
            "operation 1 of 2, Delete of document 'c'",
        ),
        (
            json!([member("Upsert", "a", 1), conditional]),
            Kind::Precondition,
            "operation 2 of 2, Patch of document 'b'",
        ),
        (
            json!([member("Replace", "a", 1), with_etag]),
            Kind::Precondition,
            "operation 2 of 2, Patch of document 'b'",
        ),
        (
            json!([member("Upsert", "a", 1), patch("c")]),
            Kind::NotFound,
            "operation 2 of 2, Patch of document 'c'",
        ),
        // A create that another document makes room for is no proof.
        (
            json!([delete("a"), member("Create", "a", 1), conditional]),
            Kind::Precondition,
            "operation 3 of 3, Patch of document 'b'",
        ),
    ] {
        let error = batch(&sink, &operations).unwrap_err();
        assert_eq!(error.kind, kind, "{operations}: {error}");
        assert!(error.message.contains(culprit), "{error}");
        assert!(error.message.contains("Let it create one of its own"), "{error}");
        assert_eq!(stored(&local, "b").unwrap()["n"], 1, "{operations}");
    }
    // Without patches there may be nothing left to do.
    batch(&sink, &json!([delete("c"), member("Upsert", "a", 1)])).unwrap();
    batch(&sink, &json!([delete("c")])).unwrap();
    let error = batch(
        &sink,
        &json!([member("Upsert", "a", 2), delete("c"), member("Upsert", "b", 1)]),
    )
    .unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(
        error
            .message
            .contains("document 'a' is not as the batch would leave it"),
        "{error}"
    );
    assert_eq!(stored(&local, "a").unwrap()["n"], 1);
}

/// A document that a batch created proves that it was carried out, whatever became of the others, and whatever its replay is refused for.
#[test]
fn what_a_batch_created_proves_it() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    let n = |id: &str| stored(&local, id).map(|document| document["n"].clone());
    let put = |id: &str, value: u64| batch(&sink, &json!([member("Upsert", id, value)])).unwrap();
    // Several batches write the same document.
    let of = |event: u64| {
        json!([
            member("Create", &format!("event-{event}"), 1),
            member("Upsert", "summary", event)
        ])
    };
    for event in [1, 2, 1, 2, 1] {
        batch(&sink, &of(event)).unwrap_or_else(|e| panic!("event {event}: {e}"));
    }
    assert_eq!(n("summary"), Some(json!(2)), "a replay changes nothing");
    // So do others.
    put("summary", 9);
    batch(&sink, &of(2)).unwrap();
    assert_eq!(n("summary"), Some(json!(9)));

    put("count", 0);
    let patch = |operations: Value| json!({"operationType": "Patch", "id": "count", "resourceBody": {"operations": operations}});
    let increment = || json!({"op": "incr", "path": "/n", "value": 1});
    let mut ends = patch(json!([increment(), {"op": "set", "path": "/seq", "value": 7}]));
    ends["resourceBody"]["condition"] = json!("FROM c WHERE NOT IS_DEFINED(c.seq) OR c.seq < 7");
    // A replay ends at 409, 412, 404 or 400, whichever comes first.
    for (name, first) in [
        ("increments", patch(json!([increment()]))),
        ("ends its condition", ends),
        ("deletes", json!({"operationType": "Delete", "id": "there"})),
        ("takes out", patch(json!([{"op": "remove", "path": "/there"}]))),
    ] {
        batch(
            &sink,
            &json!([
                {"operationType": "Upsert", "id": "there", "resourceBody": {"id": "there", "pk": "k"}},
                {"operationType": "Upsert", "id": "count", "resourceBody": {"id": "count", "pk": "k", "n": 0, "there": 1}},
            ]),
        )
        .unwrap();
        let ids = [format!("{name}-1"), format!("{name}-2")];
        let all = json!([first, member("Create", &ids[0], 1), member("Create", &ids[1], 1)]);
        batch(&sink, &all).unwrap();
        let after = fields(&local, "count");
        batch(&sink, &all).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Somebody changes one of those that it created.
        put(&ids[0], 5);
        batch(&sink, &all).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(fields(&local, "count"), after, "{name}");
        // With the last of them the proof is gone.
        put(&ids[1], 5);
        let error = batch(&sink, &all).unwrap_err();
        assert!(
            error
                .message
                .contains("it was not carried out before: no document that it creates"),
            "{name}: {error}"
        );
    }
    // An outbox that is consumed before the replay: the batch is carried out once more, as docs/writing.md says.
    put("count", 0);
    let all = json!([member("Create", "outbox", 1), patch(json!([increment()]))]);
    batch(&sink, &all).unwrap();
    batch(&sink, &json!([{"operationType": "Delete", "id": "outbox"}])).unwrap();
    batch(&sink, &all).unwrap();
    assert_eq!(n("count"), Some(json!(2)));
}

#[test]
fn what_is_not_a_batch_never_leaves() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[("sink.failure-mode", "skip")]);
    let many: Vec<_> = (0..101).map(|n| member("Upsert", &n.to_string(), 1)).collect();
    for (operations, why) in [
        (json!([]), "no operations"),
        (json!(many), "101"),
        (json!([member("Read", "a", 1)]), "'Read'"),
        (
            json!([{"operationType": "Upsert", "id": "a", "resourceBody": "{}},{\"operationType\":\"Delete\",\"id\":\"z\""}]),
            "operation 1 of the batch's 1, of document 'a': the document is not a JSON object",
        ),
        (
            json!([member("Upsert", "a/b", 1)]),
            "operation 1 of the batch's 1",
        ),
    ] {
        let error = batch(&sink, &operations).unwrap_err();
        assert_eq!((error.kind, error.status), (Kind::BadRequest, 0), "{error}");
        assert!(error.message.contains(why), "{error}");
    }
    let keyless = NewOperation {
        kind: OperationKind::Batch,
        id: "",
        partition_key: "",
        if_match: "",
        document: b"[]",
    };
    sink.write([0], &[keyless]);
    let error = outcomes(&sink, 1).remove(0).error.unwrap();
    assert!(error.message.contains("no partition key"), "{error}");
    assert_eq!(sink.metrics().requests.load(Relaxed), 0);
    // Another key than the batch's: the service looks into each document.
    let other = json!([{"operationType": "Upsert", "id": "a", "resourceBody": {"id": "a", "pk": "other"}}]);
    assert_eq!(batch(&sink, &other).unwrap_err().kind, Kind::BadRequest);
}

/// Batches and single writes of the same documents stay in the order in which they came, while requests fail.
#[test]
fn a_batch_keeps_its_place_among_the_writes_of_its_documents() {
    for bulk in ["true", "false"] {
        let local = Local::start(&["c:/pk:1"]);
        let options = [
            ("sink.bulk", bulk),
            ("retry.backoff", "2"),
            ("retry.max-backoff", "4"),
        ];
        let sink = local.sink("c", &options);
        for fault in [
            json!({"status": 429, "operations": ["bulk", "batch", "write"], "share": 0.3, "count": 10, "retryAfterMillis": 2}),
            json!({"status": 449, "operations": ["bulk", "batch", "write"], "share": 0.3, "count": 20}),
        ] {
            local.admin("faults", fault);
        }
        // Of three documents each batch writes two, another pair each time, and between them each is written alone.
        let (mut texts, mut last) = (Vec::new(), [0; 3]);
        for round in 0..20_u64 {
            let skipped = (round % 3) as usize;
            let both: Vec<_> = (0..3)
                .filter(|d| *d != skipped)
                .map(|d| {
                    last[d] = 10 * round + 1;
                    member("Upsert", &format!("d{d}"), last[d])
                })
                .collect();
            texts.push((OperationKind::Batch, String::new(), json!(both).to_string()));
            let alone = (round % 2) as usize;
            last[alone] = 10 * round + 2;
            let id = format!("d{alone}");
            let document = json!({"id": id, "pk": "k", "n": last[alone]}).to_string();
            texts.push((OperationKind::Upsert, id, document));
        }
        let operations: Vec<_> = texts
            .iter()
            .map(|(kind, id, document)| NewOperation {
                kind: *kind,
                id,
                partition_key: KEY,
                if_match: "",
                document: document.as_bytes(),
            })
            .collect();
        for (at, some) in operations.chunks(7).enumerate() {
            sink.write((at * 7) as u64.., some);
        }
        for outcome in outcomes(&sink, operations.len()) {
            assert_eq!(outcome.result, OutcomeResult::Ok, "{:?}", outcome.error);
        }
        for (d, n) in last.iter().enumerate() {
            assert_eq!(
                stored(&local, &format!("d{d}")).unwrap()["n"],
                *n,
                "d{d}, bulk {bulk}"
            );
        }
        let m = sink.metrics();
        assert_eq!(m.operations_waiting.load(Relaxed), 0, "bulk {bulk}");
    }
}

/// What the core refuses of a batch keeps its operations, also where they are no JSON.
#[test]
fn the_letter_of_a_batch_that_is_none_holds_its_operations() {
    let local = Local::start(&["c:/pk:1", "letters:/id:1"]);
    let options = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "letters"),
    ];
    let sink = local.sink("c", &options);
    let many: Vec<_> = (0..101).map(|n| member("Upsert", &n.to_string(), 1)).collect();
    let many = json!(many);
    let broken =
        b"[{\"operationType\":\"Upsert\",\"id\":\"a\",\"resourceBody\":{\"id\":\"a\",\"x\":\"\xff\"}}]";
    let text = many.to_string();
    let of = |document| NewOperation {
        kind: OperationKind::Batch,
        id: "",
        partition_key: KEY,
        if_match: "",
        document,
    };
    sink.write([0, 1], &[of(text.as_bytes()), of(broken)]);
    for outcome in outcomes(&sink, 2) {
        let error = outcome.error.unwrap();
        assert_eq!((error.kind, error.status), (Kind::BadRequest, 0), "{error}");
    }
    let (source, _) = local.source_of_all("letters", &[]);
    let mut found = Vec::new();
    for letter in read(&source, 2).values() {
        let letter: Value = serde_json::from_str(letter).unwrap();
        assert_eq!(letter["operation"], "batch");
        found.push((
            letter["documentBytes"].clone(),
            letter["documentEncoding"].clone(),
            letter["document"].clone(),
        ));
    }
    found.sort_by_key(|(bytes, ..)| bytes.as_u64());
    assert_eq!(
        (&found[0].0, &found[0].1),
        (&json!(broken.len()), &json!("base64"))
    );
    assert_eq!(found[1].2, many);
}

/// What was refused can be written again from its letter: what it was, and under which ETag.
#[test]
fn a_letter_says_what_was_to_be_done() {
    let local = Local::start(&["c:/pk:1", "letters:/id:1"]);
    let options = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "letters"),
    ];
    let sink = local.sink("c", &options);
    let patch = json!({"operations": [{"op": "set", "path": "/n", "value": 2}]});
    let error = act(&sink, OperationKind::Patch, "\"7\"", &patch).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    let (source, _) = local.source_of_all("letters", &[]);
    let letters = read(&source, 1);
    let letter: Value = serde_json::from_str(letters.values().next().unwrap()).unwrap();
    assert_eq!(
        (&letter["operation"], &letter["ifMatch"], &letter["document"]),
        (&json!("patch"), &json!("\"7\""), &patch)
    );
}
