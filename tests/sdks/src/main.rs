//! The connector's side of the programs of the vendors' SDKs: writes documents through the core for them to read, reads what they stored
//! through the core, document by document, and reads the change feed that they read.

mod feed;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::{Parser, Subcommand};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::sink::{encode_operations, NewOperation, OperationKind, Sink};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

/// No part may take longer.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a container must be silent to have been read to its end.
const SILENCE: Duration = Duration::from_millis(1500);
/// What the service adds to a document.
const SYSTEM: [&str; 6] = ["_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"];

/// Writes and compares documents beside the vendors' SDKs. The endpoint and the key come from the environment.
#[derive(Parser)]
struct Options {
    #[arg(long, env = "COSMOS_ENDPOINT")]
    endpoint: String,
    #[arg(long, env = "COSMOS_KEY", hide_env_values = true)]
    key: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes documents of many shapes into a container, and lists them in a file, a line each.
    Write {
        #[arg(long)]
        database: String,
        #[arg(long)]
        container: String,
        file: PathBuf,
    },
    /// Reads the containers named in such a file, and compares them with it.
    Compare { file: PathBuf },
    /// Changes documents in rounds, between which partitions split twice and merge once, while the change feed is read; then reads it once
    /// more from the beginning, and lists in a file what it says, a line each, in the order in which it came.
    Feed {
        #[arg(long)]
        database: String,
        #[arg(long)]
        container: String,
        file: PathBuf,
    },
    /// Compares two such files: the same documents, system properties included, and the same order within each partition key.
    Agree { ours: PathBuf, theirs: PathBuf },
    /// Carries the cases of `tests/cases/wire.json` out against a local account, and lists in a file what was sent for each, a line each.
    Record {
        #[arg(long)]
        database: String,
        #[arg(long)]
        container: String,
        cases: PathBuf,
        file: PathBuf,
    },
    /// Compares such a file with that of an SDK: each difference must be explained.
    Wire {
        #[arg(long, value_parser = ["java", "javascript"])]
        who: String,
        ours: PathBuf,
        theirs: PathBuf,
    },
}

/// A document that a container must hold.
#[derive(Deserialize, Serialize)]
struct Line {
    database: String,
    container: String,
    /// The partition key, where the writer says it.
    #[serde(default)]
    key: Value,
    document: Value,
}

fn main() -> ExitCode {
    // First use would ask the cloud's metadata address otherwise, for seconds.
    std::env::set_var("COSMOS_DISABLE_IMDS", "1");
    let options = Options::parse();
    let result = match &options.command {
        Command::Write {
            database,
            container,
            file,
        } => write(&options, database, container, file),
        Command::Compare { file } => compare(&options, file),
        Command::Feed {
            database,
            container,
            file,
        } => feed::run(&options, database, container, file),
        Command::Agree { ours, theirs } => feed::agree(ours, theirs),
        Command::Record {
            database,
            container,
            cases,
            file,
        } => wire::record(&options, database, container, cases, file),
        Command::Wire { who, ours, theirs } => wire::compare(who, ours, theirs),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn config(&self, role: Role, database: &str, container: &str) -> Result<Config> {
        self.config_with(role, database, container, &[])
    }

    fn config_with(
        &self,
        role: Role,
        database: &str,
        container: &str,
        more: &[(&str, &str)],
    ) -> Result<Config> {
        let options = [
            ("endpoint", self.endpoint.as_str()),
            ("database", database),
            ("container", container),
            ("auth.secret-key", self.key.as_str()),
        ];
        let all = options.iter().chain(more);
        let all: Vec<_> = all
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Ok(Config::parse(role, &all)?)
    }
}

/// Documents whose ids, keys and values differ in all that a client could get wrong.
fn documents() -> Vec<(Value, Value)> {
    let ids = [
        "plain",
        "a b",
        "50%",
        "a+b",
        "ü-日本-😀",
        "it's",
        "say \"x\"",
        "a&b=c;d,e",
        "a@b:c|d",
        "~!$^()[]{}<>",
    ];
    let keys = [
        json!(null),
        json!(""),
        json!("k"),
        json!("ünï/code ? # \\ \" '"),
        json!(7),
        json!(-1.5),
        json!(true),
    ];
    let mut all: Vec<(Value, Value)> = ids
        .iter()
        .map(|id| (json!(["ids"]), json!({ "id": id, "pk": "ids" })))
        .collect();
    for (n, key) in keys.into_iter().enumerate() {
        all.push((json!([key]), json!({ "id": format!("key-{n}"), "pk": key })));
    }
    all.push((
        json!(["values"]),
        json!({
            "id": "values", "pk": "values", "big": 9_007_199_254_740_991_i64, "small": -0.000_123, "exponent": 1.5e300,
            "text": "tab\tline\nü\u{0}\u{2028}😀", "nothing": null, "list": [1, "2", [3, [4]], {}], "empty": {},
            "none": [], "truth": true, "deep": { "a": { "b": { "c": { "d": [[[{}]]] } } } },
        }),
    ));
    for n in 0..200 {
        let key = format!("k{}", n % 11);
        let document = json!({ "id": format!("n-{n:03}"), "pk": key, "n": n, "text": "x".repeat(n * 7) });
        all.push((json!([key]), document));
    }
    all
}

/// Carries out an operation on each of these documents, by their keys.
fn submit(sink: &Sink, kind: OperationKind, documents: &[(Value, Value)]) -> Result<()> {
    let texts: Vec<_> = documents
        .iter()
        .map(|(key, document)| (key.to_string(), document.to_string(), document))
        .collect();
    let operations: Vec<_> = texts
        .iter()
        .map(|(key, text, document)| NewOperation {
            kind,
            id: document["id"].as_str().unwrap_or_default(),
            partition_key: key,
            if_match: "",
            document: match kind {
                OperationKind::Delete => &[],
                _ => text.as_bytes(),
            },
        })
        .collect();
    sink.submit(0, encode_operations(&operations))?;
    let Some(completion) = sink.poll(LIMIT)?.pop() else {
        bail!("{} documents were not written in time", documents.len());
    };
    if let Some(failure) = completion.failures.first() {
        bail!("document {} was not written: {}", failure.index, failure.error);
    }
    Ok(())
}

fn write(options: &Options, database: &str, container: &str, file: &Path) -> Result<()> {
    let sink = Sink::open(options.config(Role::Sink, database, container)?)?;
    let documents = documents();
    submit(&sink, OperationKind::Upsert, &documents)?;
    let (mut lines, done) = (String::new(), documents.len());
    for (key, document) in documents {
        let line = Line {
            database: database.to_owned(),
            container: container.to_owned(),
            key,
            document,
        };
        lines.push_str(&serde_json::to_string(&line)?);
        lines.push('\n');
    }
    std::fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{done} documents written to {database}/{container}");
    Ok(())
}

/// Documents by id and the values of their keys, which are in the documents.
type Documents = BTreeMap<String, Vec<Value>>;

fn compare(options: &Options, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut expected: BTreeMap<(String, String), Documents> = BTreeMap::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        add(
            expected.entry((line.database, line.container)).or_default(),
            line.document,
        );
    }
    if expected.is_empty() {
        bail!("{} names no documents", file.display());
    }
    for ((database, container), expected) in expected {
        let expected = sorted(expected);
        let found = sorted(read(options, &database, &container, count(&expected))?);
        let wrong = differences(&expected, &found);
        if !wrong.is_empty() {
            bail!(
                "{} documents of {database}/{container} differ:\n{}",
                wrong.len(),
                wrong.join("\n")
            );
        }
        println!(
            "{} documents of {database}/{container} are equal",
            count(&expected)
        );
    }
    Ok(())
}

/// A line for each id whose documents are not the expected ones.
fn differences(expected: &Documents, found: &Documents) -> Vec<String> {
    let unexpected = found.keys().filter(|id| !expected.contains_key(*id));
    let ids = expected.keys().chain(unexpected);
    ids.filter(|id| expected.get(*id) != found.get(*id))
        .map(|id| format!("{id}: found {:?}, expected {:?}", found.get(id), expected.get(id)))
        .collect()
}

fn add(documents: &mut Documents, mut document: Value) {
    if let Some(document) = document.as_object_mut() {
        document.retain(|name, _| !SYSTEM.contains(&name.as_str()));
    }
    let id = document["id"].as_str().unwrap_or_default().to_owned();
    documents.entry(id).or_default().push(by_value(document));
}

/// Numbers of one value in one spelling: 25.0 is stored as 25.
fn by_value(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(by_value).collect(),
        Value::Object(items) => items
            .into_iter()
            .map(|(name, item)| (name, by_value(item)))
            .collect(),
        other => other,
    }
}

/// One id can stand under several keys, in any order.
fn sorted(mut documents: Documents) -> Documents {
    for of_id in documents.values_mut() {
        of_id.sort_by_key(Value::to_string);
    }
    documents
}

fn count(documents: &Documents) -> usize {
    documents.values().map(Vec::len).sum()
}

/// Reads a container from its beginning until it has `enough` documents and is silent.
fn read(options: &Options, database: &str, container: &str, enough: usize) -> Result<Documents> {
    let source = feed::open(options, database, container)?;
    let mut documents = Documents::new();
    let deadline = Instant::now() + LIMIT;
    loop {
        if source.next_page(SILENCE)? == 0 {
            if count(&documents) >= enough || Instant::now() > deadline {
                return Ok(documents);
            }
            continue;
        }
        for document in feed::take(&source)? {
            add(&mut documents, document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(documents: &[Value]) -> Documents {
        let mut all = Documents::new();
        documents
            .iter()
            .for_each(|document| add(&mut all, document.clone()));
        sorted(all)
    }

    #[test]
    fn documents_are_equal_by_value_whatever_the_service_adds() {
        let stored = [
            json!({"id": "a", "n": 25.0, "_ts": 1}),
            json!({"id": "a", "pk": 1}),
        ];
        let read = [
            json!({"id": "a", "pk": 1, "_lsn": 7}),
            json!({"id": "a", "n": 25}),
        ];
        assert_eq!(differences(&of(&stored), &of(&read)), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_new_or_changed_is_a_difference() {
        let stored = of(&[
            json!({"id": "a"}),
            json!({"id": "b", "n": 1}),
            json!({"id": "c", "n": null}),
        ]);
        let read = of(&[json!({"id": "b", "n": 2}), json!({"id": "c"}), json!({"id": "d"})]);
        let ids: Vec<_> = differences(&stored, &read)
            .iter()
            .map(|line| line.split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(ids, ["a", "b", "c", "d"]);
    }
}
