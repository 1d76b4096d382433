//! What the core sends, beside what the SDKs send for the same operations: header by header, and field by field of the body.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::sink::{encode_operations, NewOperation, OperationKind, Sink};
use cosmosflink_core::source::Source;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::{Options, LIMIT};

/// A difference that is meant.
struct Explained {
    /// Names of cases, or what they begin with.
    cases: &'static str,
    /// Whose request it is: `java`, `javascript`, or both with `*`.
    who: &'static str,
    /// `request` (method, path), `http`, `requests` (how many), a header, or `body:` and a path in the body, `[]` for each element; [`ANY`] for
    /// whatever differs.
    name: &'static str,
    /// What they send: a value, [`ABSENT`], [`ANY`] for whatever it is.
    theirs: &'static str,
    /// What the core sends.
    ours: &'static str,
    why: &'static str,
}

const ABSENT: &str = "-";
const ANY: &str = "*";

const fn row(
    cases: &'static str,
    who: &'static str,
    name: &'static str,
    theirs: &'static str,
    ours: &'static str,
    why: &'static str,
) -> Explained {
    Explained {
        cases,
        who,
        name,
        theirs,
        ours,
        why,
    }
}

/// Every difference, and why it is one. What is not here fails the test, and so does a row that no request needs any more.
#[rustfmt::skip]
const EXPLAINED: &[Explained] = &[
    row("*", "*", "user-agent", ANY, ANY, "each names itself"),
    row("*", "*", "http", "1.1", "2", "the core speaks HTTP/2 where the endpoint takes it (http2)"),
    row("*", "*", "host", ANY, ABSENT, "in HTTP/2 it is :authority"),
    row("*", "*", "accept-encoding", ABSENT, ANY, "answers to the core may come compressed"),
    row("*", "*", "x-ms-date", ANY, ANY, "the time of the request"),
    row("*", "*", "x-ms-activity-id", ABSENT, ANY, "the driver numbers its requests itself, so that one without an answer can be found too"),
    row("*", "*", "x-ms-client-id", ABSENT, ANY, "tells the driver's instances apart"),
    row("*", "*", "content-length", ANY, ANY, "follows from the body, whose fields are compared"),
    row("bulk", "*", "body:[].minimalReturnPreference", ABSENT, "true", "leaves the document out of the answer of each operation, beside the header that asks the same of the request"),
    row("bulk patch", "java", "body:[].resourceBody.operations[].value", "null", ABSENT, "the SDK writes a value for a removal too, which has none"),
    row("patch alone", "*", "request", ANY, "POST /dbs/ours/colls/wire/docs", "goes as a transactional batch of one: the driver's own patch takes no condition, and reads and replaces by itself what it thinks unsafe"),
    row("patch alone", "java", "content-type", "application/json-patch+json", "application/json", "the same"),
    row("patch alone", "javascript", "content-type", ABSENT, "application/json", "the same"),
    row("patch alone", "javascript", "prefer", ABSENT, "return=minimal", "the SDK takes the option in bulk and batches alone"),
    row("patch alone", "*", "x-ms-cosmos-is-batch-request", ABSENT, "True", "says that it is one; 'batch of one patch' compares it with theirs"),
    row("patch alone", "*", "x-ms-cosmos-batch-atomic", ABSENT, "True", "the same"),
    row("patch alone", "java", "body:.operations[].value", "null", ABSENT, "the SDK writes a value for a removal too, which has none"),
    row("patch alone", "*", "x-ms-cosmos-batch-continue-on-error", ABSENT, "False", "the same"),
    row("batch of one", "*", "x-ms-cosmos-is-batch-request", "true", "True", "is read without regard to case"),
    row("batch of one", "*", "x-ms-cosmos-batch-atomic", "true", "True", "the same"),
    row("batch of one", "java", "x-ms-cosmos-batch-continue-on-error", "false", "False", "the same"),
    row("batch of one", "javascript", "x-ms-cosmos-batch-continue-on-error", ABSENT, "False", "an atomic batch ends with the first that fails; Java says so too"),
    row("bulk upsert with ETag", "*", "requests", "1", "2", "a refusal may be the answer to a repetition of what was carried out: the core reads the document and compares"),
    row("bulk replace with ETag", "*", "requests", "1", "2", "the same"),
    row("batch of one", "*", "body:[].minimalReturnPreference", ABSENT, "true", "the same as in bulk"),
    row("*", "java", "x-ms-session-token", ANY, ABSENT, "nobody reads in the session of a write, and reads take none unless consistency is session"),
    row("read many", "java", "x-ms-thinclient-pkrange-min", ABSENT, "", "the driver names the range for a Gateway 2.0 too"),
    row("read many", "java", "x-ms-thinclient-pkrange-max", ABSENT, "FF", "the same"),
    row("read many", "java", "x-ms-max-item-count", "-1", ABSENT, "absent leaves the size of a page to the service too"),
    row("read many", "java", "x-ms-documentdb-query-parallelizecrosspartitionquery", "true", ABSENT, "each request is for one range"),
    row("read many", "java", "x-ms-documentdb-populatequerymetrics", "true", ABSENT, "nobody reads them"),
    row("read many", "java", "x-ms-documentdb-isquery", "true", "True", "is read without regard to case"),
    row("read many", "java", "x-ms-cosmos-supported-query-features", ABSENT, ANY, "is for query plans; the driver sends it with each query"),
    row("read many", "java", "x-ms-cosmos-query-version", ABSENT, "1.0", "the same"),
    row("read many", "java", "x-ms-continuation", "", ABSENT, "there is none on a first page"),
    row("read many", "java", "body:.query", ANY, ANY, "the same conditions in another spelling"),
    row("read many", "java", "body:.parameters[].name", ANY, ANY, "the same values under other names"),
    row("read many", "java", "body:.parameters[].value", ANY, ANY, "the id comes before the key"),
    row("*", "javascript", "x-ms-useragent", ANY, ABSENT, "a user agent for browsers, which keep their own"),
    row("*", "javascript", "connection", "keep-alive", ABSENT, "HTTP/2 has no such header"),
    row("*", "javascript", "x-ms-noretry-449", ABSENT, "true", "a 449 comes back at once, and the core waits; Java does the same"),
    row("*", "javascript", "x-ms-documentdb-responsecontinuationtokenlimitinkb", "1", ABSENT, "is for queries; the SDK sends it with each request"),
    row("*", "javascript", "x-ms-documentdb-query-enablecrosspartition", "true", ABSENT, "the same"),
    row("*", "javascript", "x-ms-cosmos-sdk-supportedcapabilities", "1", "11", "what the driver understands beyond the SDK; Java sends the same as the core"),
    row("*", "javascript", "x-ms-cosmos-intended-collection-rid", ABSENT, ANY, "a container that was created anew is not written to; Java does the same"),
    row("*", "javascript", "x-ms-cosmos-allow-tentative-writes", "true", ABSENT, "is for accounts with several write regions; Java leaves it out for others too"),
    row("read many", "javascript", ANY, ANY, ANY, "the SDK has no call for it but reads in bulk"),
];

/// Cases that the core has no operation for. One that it has, and is still named here, fails the test.
const NOT_OURS: &[&str] = &["batch"];

#[derive(Deserialize)]
struct Cases {
    prepare: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    how: String,
    #[serde(default)]
    operations: Vec<Value>,
    #[serde(default)]
    documents: Vec<Value>,
    #[serde(default)]
    partition_key: Value,
    #[serde(default)]
    id: String,
    #[serde(default)]
    resource_body: Value,
}

/// What was sent for a case.
#[derive(Deserialize, Serialize)]
struct Sent {
    name: String,
    requests: Vec<Request>,
}

/// A request as the local account logs it.
#[derive(Clone, Deserialize, Serialize)]
struct Request {
    kind: String,
    http: String,
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: String,
}

/// An operation of the core that a case asks for; `None` where it has none.
struct Operation {
    kind: OperationKind,
    id: String,
    key: String,
    if_match: String,
    document: String,
}

fn operation(case: &Value) -> Option<Operation> {
    let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
    let name = text("operationType");
    // Their numbers follow one another.
    let mut kinds = (1..=u8::MAX).map_while(|number| OperationKind::from_number(number).ok());
    let kind = kinds.find(|kind| kind.name() == name)?;
    let body = &case["resourceBody"];
    let id = match text("id") {
        id if id.is_empty() => body["id"].as_str().unwrap_or_default().to_owned(),
        id => id,
    };
    Some(Operation {
        kind,
        id,
        key: json!([case["partitionKey"]]).to_string(),
        if_match: text("ifMatch"),
        document: match body {
            Value::Null => String::new(),
            body => body.to_string(),
        },
    })
}

/// Has the core carry the cases out, and writes what it sent.
pub fn record(options: &Options, database: &str, container: &str, cases: &Path, file: &Path) -> Result<()> {
    let cases = read_cases(cases)?;
    let plain = |more: &[(&str, &str)]| options.config_with(Role::Sink, database, container, more);
    let prepared: Vec<_> = cases
        .prepare
        .iter()
        .map(|document| json!({"operationType": "Upsert", "partitionKey": document["pk"], "resourceBody": document}))
        .collect();
    write(plain(&[])?, &prepared)?;
    admin(options, |url| {
        ureq::post(url).send_json(json!({"headers": ["*"], "bodies": true}))
    })?;
    let mut lines = String::new();
    for case in &cases.cases {
        admin(options, |url| ureq::delete(url).call())?;
        match case.how.as_str() {
            "bulk" => write(plain(&[("sink.failure-mode", "skip")])?, &case.operations)?,
            "patch" => {
                let patch = json!({
                    "operationType": "Patch", "partitionKey": case.partition_key, "id": case.id, "resourceBody": case.resource_body,
                });
                write(plain(&[("sink.bulk", "false")])?, &[patch])?;
            }
            "read-many" => read_many(options, database, container, &case.documents)?,
            "batch" => {
                // What goes alone may travel as a batch; nothing in the core stands for one of several operations.
                if let [operation] = case.operations.as_slice() {
                    let mut operation = operation.clone();
                    operation["partitionKey"] = case.partition_key.clone();
                    write(plain(&[("sink.bulk", "false")])?, &[operation])?;
                }
            }
            other => bail!("{}: there is no way to carry out '{other}'", case.name),
        }
        let mut told: Value = admin(options, |url| ureq::get(url).call())?;
        let sent = Sent {
            name: case.name.clone(),
            requests: serde_json::from_value(told["requests"].take())?,
        };
        lines.push_str(&serde_json::to_string(&sent)?);
        lines.push('\n');
    }
    std::fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    println!("what the core sends for {} cases is recorded", cases.cases.len());
    Ok(())
}

fn read_cases(file: &Path) -> Result<Cases> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", file.display()))
}

fn admin(
    options: &Options,
    send: impl FnOnce(String) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value> {
    let url = format!("{}/_local/requests", options.endpoint.trim_end_matches('/'));
    Ok(send(url)?.body_mut().read_json()?)
}

/// Writes through a sink of its own; nothing where the core lacks one of the operations. That one is refused does not matter: it is sent.
fn write(config: Config, operations: &[Value]) -> Result<()> {
    let Some(all) = operations.iter().map(operation).collect::<Option<Vec<_>>>() else {
        return Ok(());
    };
    let sink = Sink::open(config)?;
    let new: Vec<_> = all
        .iter()
        .map(|operation| NewOperation {
            kind: operation.kind,
            id: &operation.id,
            partition_key: &operation.key,
            if_match: &operation.if_match,
            document: operation.document.as_bytes(),
        })
        .collect();
    sink.submit(0, encode_operations(&new))?;
    ensure!(!sink.poll(LIMIT)?.is_empty(), "the sink did not answer in time");
    sink.close();
    Ok(())
}

fn read_many(options: &Options, database: &str, container: &str, documents: &[Value]) -> Result<()> {
    let keys: Vec<_> = documents
        .iter()
        .map(|d| json!({"id": d["id"], "partitionKey": [d["partitionKey"]]}))
        .collect();
    let keys = Value::from(keys).to_string();
    let config = || options.config_with(Role::Source, database, container, &[("scan.read-many", &keys)]);
    let splits = Enumerator::open(config()?)?.discover(&[])?;
    let source = Source::open(config()?)?;
    source.add_splits(splits.into_iter().map(|entry| entry.split).collect())?;
    let mut read = 0;
    while read < documents.len() {
        ensure!(source.next_page(LIMIT)? > 0, "the documents did not come in time");
        read += crate::feed::take(&source)?.len();
    }
    source.close();
    Ok(())
}

/// Compares what the core sent with what an SDK sent.
///
/// # Errors
/// Names each difference that is not explained, and each explanation that explains nothing.
pub fn compare(who: &str, ours: &Path, theirs: &Path) -> Result<()> {
    let (ours, theirs) = (read(ours)?, read(theirs)?);
    ensure!(
        ours.keys().eq(theirs.keys()) && !ours.is_empty(),
        "the core was recorded for {:?}, {who} for {:?}",
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    let (mut used, mut wrong, mut compared) = (BTreeSet::new(), Vec::new(), 0);
    for (case, theirs) in &theirs {
        let (ours, theirs) = (of_interest(case, &ours[case]), of_interest(case, theirs));
        ensure!(!theirs.is_empty(), "{case}: {who} sent nothing");
        match (ours.is_empty(), NOT_OURS.contains(&case.as_str())) {
            (true, true) => continue,
            (true, false) => wrong.push(format!("{case}: the core sent nothing")),
            (false, true) => wrong.push(format!("{case}: the core has it by now; take it out of NOT_OURS")),
            (false, false) => {}
        }
        compared += 1;
        for (name, theirs, ours) in differences(&theirs, &ours) {
            let explains = |row: &Explained| {
                let in_value = || is(row.theirs, theirs.as_deref()) && is(row.ours, ours.as_deref());
                (row.who == ANY || row.who == who)
                    && (row.cases == ANY || case.starts_with(row.cases))
                    && (row.name == ANY || row.name == name && in_value())
            };
            match EXPLAINED.iter().position(explains) {
                Some(row) => drop(used.insert(row)),
                None => wrong.push(format!(
                    "{case}: {name}: {who} sends {}, the core {}",
                    theirs.as_deref().unwrap_or(ABSENT),
                    ours.as_deref().unwrap_or(ABSENT)
                )),
            }
        }
    }
    for (n, row) in EXPLAINED.iter().enumerate() {
        if (row.who == ANY || row.who == who) && !used.contains(&n) {
            wrong.push(format!(
                "{}: {}: no request differs so any more: {}",
                row.cases, row.name, row.why
            ));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "what the core sends differs from what {who} sends:\n{}",
            wrong.join("\n")
        );
    }
    for row in EXPLAINED.iter().filter(|row| row.who == ANY || row.who == who) {
        println!(
            "  {}: {}: {} and {}: {}",
            row.cases, row.name, row.theirs, row.ours, row.why
        );
    }
    println!(
        "{compared} cases are sent as {who} sends them, but for {} differences that are meant",
        used.len()
    );
    Ok(())
}

/// Whether a value is what a row says.
fn is(pattern: &str, value: Option<&str>) -> bool {
    match (pattern, value) {
        (ABSENT, value) => value.is_none(),
        (ANY, value) => value.is_some(),
        (pattern, value) => value == Some(pattern),
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, Vec<Request>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let sent = text.lines().map(|line| {
        let sent: Sent = serde_json::from_str(line)?;
        Ok((sent.name, sent.requests))
    });
    sent.collect()
}

/// The requests that are for the operation itself, not for the account, its containers and their partitions.
fn of_interest(case: &str, requests: &[Request]) -> Vec<Request> {
    let kinds: &[&str] = match case.split(' ').next() {
        Some("bulk") => &["bulk"],
        Some("batch") => &["batch"],
        Some("patch") => &["patch", "batch"],
        _ => &["bulk", "query", "pointRead"],
    };
    let wanted = |request: &&Request| kinds.contains(&request.kind.as_str());
    let mut wanted: Vec<_> = requests.iter().filter(wanted).cloned().collect();
    for request in &mut wanted {
        if case.starts_with("patch") && request.kind == "batch" {
            request.body = only_patch(&request.body).unwrap_or_default();
        }
    }
    wanted
}

/// The patch in a batch of one, which is compared with one that is sent as it is; what is around it, the case of such a batch compares.
fn only_patch(batch: &str) -> Option<String> {
    let operations: Vec<Value> = serde_json::from_str(batch).ok()?;
    match operations.as_slice() {
        [operation] => Some(operation["resourceBody"].to_string()),
        _ => None,
    }
}

/// Each part in which two are not the same: its name, theirs and ours.
fn differences(theirs: &[Request], ours: &[Request]) -> Vec<(String, Option<String>, Option<String>)> {
    let mut all = Vec::new();
    let mut differ = |name: &str, theirs: Option<String>, ours: Option<String>| {
        if theirs != ours {
            all.push((name.to_owned(), theirs, ours));
        }
    };
    differ(
        "requests",
        Some(theirs.len().to_string()),
        Some(ours.len().to_string()),
    );
    let (Some(theirs), Some(ours)) = (theirs.first(), ours.first()) else {
        return all;
    };
    differ(
        "request",
        Some(theirs.request.clone()),
        Some(ours.request.clone()),
    );
    differ("http", Some(theirs.http.clone()), Some(ours.http.clone()));
    let names: BTreeSet<_> = theirs.headers.keys().chain(ours.headers.keys()).collect();
    for name in names {
        differ(
            name,
            theirs.headers.get(name).cloned(),
            ours.headers.get(name).cloned(),
        );
    }
    let (theirs, ours) = (fields(&theirs.body), fields(&ours.body));
    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for path in paths {
        // Elements are compared one by one, and explained together.
        let name: String = path
            .split_inclusive('[')
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
            .collect();
        differ(
            &format!("body:{name}"),
            theirs.get(path).cloned(),
            ours.get(path).cloned(),
        );
    }
    all
}

/// The leaves of a body by their paths; all of it where it is no JSON.
fn fields(body: &str) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
        match value {
            Value::Array(items) if !items.is_empty() => {
                for (n, item) in items.iter().enumerate() {
                    walk(&format!("{path}[{n}]"), item, leaves);
                }
            }
            Value::Object(fields) if !fields.is_empty() => {
                for (name, field) in fields {
                    walk(&format!("{path}.{name}"), field, leaves);
                }
            }
            // 25.0 and 25 are one number.
            Value::Number(number) => {
                drop(leaves.insert(path.to_owned(), number.as_f64().unwrap_or_default().to_string()));
            }
            leaf => drop(leaves.insert(path.to_owned(), leaf.to_string())),
        }
    }
    let mut leaves = BTreeMap::new();
    match serde_json::from_str(body) {
        Ok(value) => walk("", &value, &mut leaves),
        Err(_) => drop(leaves.insert("text".to_owned(), body.to_owned())),
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)], body: Value) -> Request {
        Request {
            kind: "bulk".to_owned(),
            http: "1.1".to_owned(),
            request: "POST /dbs/d/colls/c/docs".to_owned(),
            headers: headers
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            body: body.to_string(),
        }
    }

    #[test]
    fn headers_and_fields_that_differ_are_found_and_others_are_not() {
        let theirs = request(
            &[("x-a", "1"), ("x-b", "1")],
            json!([{"id": "a", "n": 1.0}, {"id": "b", "list": []}]),
        );
        let ours = request(
            &[("x-a", "1"), ("x-c", "2")],
            json!([{"id": "a", "n": 1}, {"id": "c", "list": [1]}]),
        );
        let found = differences(&[theirs], &[ours]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                ("x-b".to_owned(), some("1"), None),
                ("x-c".to_owned(), None, some("2")),
                ("body:[].id".to_owned(), some("\"b\""), some("\"c\"")),
                ("body:[].list".to_owned(), some("[]"), None),
                ("body:[].list[]".to_owned(), None, some("1")),
            ]
        );
    }

    #[test]
    fn a_patch_that_goes_as_a_batch_is_compared_as_the_patch_that_it_is() {
        let patch = json!({"operations": [{"op": "set", "path": "/n", "value": 1}]});
        let body = json!([{"operationType": "Patch", "id": "a", "resourceBody": patch}]);
        let batch = Request {
            kind: "batch".to_owned(),
            ..request(&[], body.clone())
        };
        let of = |case: &str| of_interest(case, std::slice::from_ref(&batch)).remove(0).body;
        assert_eq!(of("patch alone"), patch.to_string());
        assert_eq!(of("batch of one patch"), body.to_string());
    }

    #[test]
    fn a_row_says_what_is_absent_what_may_be_anything_and_what_must_be_so() {
        assert!(is(ABSENT, None) && !is(ABSENT, Some("x")));
        assert!(is(ANY, Some("x")) && !is(ANY, None));
        assert!(is("x", Some("x")) && !is("x", Some("y")) && !is("x", None));
        for row in EXPLAINED {
            assert!(["*", "java", "javascript"].contains(&row.who), "{}", row.name);
            assert!(
                !row.why.is_empty() && row.theirs != row.ours || row.theirs == ANY,
                "{}",
                row.name
            );
        }
    }
}
