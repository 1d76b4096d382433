//! The change feed of a container whose partitions split and merge, as the core reads it, beside what the SDKs read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{bail, Context, Result};
use cosmosflink_core::config::Role;
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::page::{FLAG_FINISHED, RECORD_BYTES};
use cosmosflink_core::sink::{OperationKind, Sink};
use cosmosflink_core::source::Source;
use cosmosflink_core::split::decode_list;
use serde_json::{json, Value};

use crate::{by_value, submit, Options, LIMIT, SILENCE};

/// Documents of the first round.
const DOCUMENTS: usize = 300;
/// Differences that are named.
const NAMED: usize = 10;

/// A document by its key and id.
type Place = (String, String);

/// What a feed said, in the order in which it came.
#[derive(Default)]
struct Told(Vec<Value>);

fn text(document: &Value, field: &str) -> String {
    document[field].as_str().unwrap_or_default().to_owned()
}

fn place(document: &Value) -> Place {
    (document["pk"].to_string(), text(document, "id"))
}

impl Told {
    /// The last version of each document.
    fn last(&self) -> BTreeMap<Place, &Value> {
        self.0.iter().map(|d| (place(d), d)).collect()
    }

    /// Changes that came before: the ETag of a document is another one with each version.
    fn repeats(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let again = self
            .0
            .iter()
            .filter(|d| !seen.insert((place(d), text(d, "_etag"))));
        again.map(Value::to_string).collect()
    }

    /// Ids and ETags by partition key, in their order.
    fn by_key(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for document in &self.0 {
            let version = (text(document, "id"), text(document, "_etag"));
            all.entry(document["pk"].to_string()).or_default().push(version);
        }
        all
    }
}

/// Takes the next page of a source, the documents of which it returns, each with its number, where the page says it: beside the document, and
/// not in it as with the SDKs. What goes on in place of a split that ends is read from then on.
pub fn take(source: &Source) -> Result<Vec<Value>> {
    let frame = source.take_page()?;
    let number = |at: usize| -> Result<usize> {
        let bytes = frame.get(at..at + 4).context("the page ends early")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    // The split's id, the split, and what goes on in its place.
    let mut at = 32;
    for _ in 0..2 {
        at += 4 + number(at)?;
    }
    let children = frame
        .get(at + 4..at + 4 + number(at)?)
        .context("the page ends early")?;
    if number(12)? as u32 & FLAG_FINISHED != 0 && !children.is_empty() {
        let children = decode_list(children)?;
        source.add_splits(children.into_iter().map(|entry| entry.split).collect())?;
    }
    let (records, table) = (number(4)?, number(8)?);
    let rows = (0..records).map(|n| table + n * RECORD_BYTES);
    rows.map(|row| {
        let (at, length) = (number(row)?, number(row + 4)?);
        let text = frame.get(at..at + length).context("a record ends early")?;
        let lsn = frame
            .get(row + 32..row + 40)
            .context("a record's row ends early")?;
        let mut document: Value = serde_json::from_slice(text)?;
        document["_lsn"] = i64::from_le_bytes(lsn.try_into()?).into();
        Ok(document)
    })
    .collect()
}

/// A source that reads all of a container from its beginning.
pub fn open(options: &Options, database: &str, container: &str) -> Result<Source> {
    let config = || options.config(Role::Source, database, container);
    let splits = Enumerator::open(config()?)?.discover(&[])?;
    let source = Source::open(config()?)?;
    source.add_splits(splits.into_iter().map(|entry| entry.split).collect())?;
    Ok(source)
}

/// Reads on until the last versions are those that were written, and the feed is silent.
fn read(source: &Source, told: &mut Told, written: &BTreeMap<Place, u64>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if source.next_page(SILENCE)? > 0 {
            told.0.extend(take(source)?);
            continue;
        }
        let last = told.last();
        let missing = written
            .iter()
            .find(|(place, round)| last.get(place).and_then(|d| d["round"].as_u64()) != Some(**round));
        let Some((place, round)) = missing else {
            return Ok(());
        };
        if Instant::now() > deadline {
            bail!(
                "the feed did not say in time that {place:?} was written in round {round}; it said {:?}",
                last.get(place)
            );
        }
    }
}

/// Splits or merges; returns the ids of the new partitions, in the order of their ranges.
fn lay_out(options: &Options, what: &str, body: &Value) -> Result<Vec<u64>> {
    let url = format!("{}/_local/{what}", options.endpoint.trim_end_matches('/'));
    let told: Value = ureq::post(url).send_json(body)?.body_mut().read_json()?;
    let ids = told["partitions"].as_array().into_iter().flatten();
    let ids = ids.map(|id| id.as_u64().with_context(|| format!("{id} is no partition")));
    ids.collect()
}

/// See the command.
pub fn run(options: &Options, database: &str, container: &str, file: &Path) -> Result<()> {
    let sink = Sink::open(options.config(Role::Sink, database, container)?)?;
    let mut written = BTreeMap::new();
    let mut round = 0;
    let mut change = |numbers: std::ops::Range<usize>, step: usize| -> Result<BTreeMap<Place, u64>> {
        round += 1;
        let documents: Vec<_> = numbers
            .step_by(step)
            .map(|n| {
                let key = format!("k{}", n % 23);
                let document =
                    json!({"id": format!("f-{n:03}"), "pk": key, "round": round, "text": "ü".repeat(n % 50)});
                (json!([key]), document)
            })
            .collect();
        submit(&sink, OperationKind::Upsert, &documents)?;
        written.extend(documents.iter().map(|(_, d)| (place(d), round)));
        Ok(written.clone())
    };
    let of = |partition: u64| json!({"database": database, "container": container, "partition": partition});

    let live = open(options, database, container)?;
    let mut told = Told::default();
    read(&live, &mut told, &change(0..DOCUMENTS, 1)?)?;
    let halves = lay_out(options, "split", &of(1))?;
    let [lower, upper] = halves[..] else {
        bail!("the first split made the partitions {halves:?}")
    };
    read(&live, &mut told, &change(0..DOCUMENTS, 3)?)?;
    // This one falls between the write and the read.
    let after = change(50..DOCUMENTS + 50, 2)?;
    let quarters = lay_out(options, "split", &of(lower))?;
    read(&live, &mut told, &after)?;
    let neighbour = *quarters.last().context("the second split made nothing")?;
    let merge = json!({"database": database, "container": container, "partitions": [neighbour, upper]});
    lay_out(options, "merge", &merge)?;
    change(0..DOCUMENTS, 7)?;
    // LatestVersion says nothing of deletes: what was deleted is not there any more for who comes later.
    let gone: Vec<_> = (0..DOCUMENTS)
        .step_by(41)
        .map(|n| {
            let key = format!("k{}", n % 23);
            (json!([key]), json!({"id": format!("f-{n:03}"), "pk": key}))
        })
        .collect();
    let mut left = change(DOCUMENTS..DOCUMENTS + 20, 1)?;
    submit(&sink, OperationKind::Delete, &gone)?;
    for (_, document) in &gone {
        left.remove(&place(document));
    }
    read(&live, &mut told, &left)?;

    let repeats = told.repeats();
    if let Some(first) = repeats.first() {
        bail!(
            "{} changes came twice while partitions split and merged, such as {first}",
            repeats.len()
        );
    }
    let mut fresh = Told::default();
    read(&open(options, database, container)?, &mut fresh, &left)?;
    if fresh.0.len() != left.len() {
        bail!(
            "{} documents are there, but a feed from the beginning says {}",
            left.len(),
            fresh.0.len()
        );
    }
    let last = told.last();
    for (place, document) in fresh.last() {
        if last.get(&place) != Some(&document) {
            bail!(
                "{place:?} is {document}, but whoever reads on was told {:?}",
                last.get(&place)
            );
        }
    }
    let lines: Vec<_> = fresh.0.iter().map(Value::to_string).collect();
    std::fs::write(file, lines.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!(
        "{} changes read while partitions split twice and merged once, {} documents read from the beginning",
        told.0.len(),
        fresh.0.len()
    );
    Ok(())
}

fn load(file: &Path) -> Result<Told> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map(|line| Ok(by_value(serde_json::from_str(line)?)));
    Ok(Told(lines.collect::<Result<_>>()?))
}

/// See the command.
pub fn agree(ours: &Path, theirs: &Path) -> Result<()> {
    let (ours, theirs) = (load(ours)?, load(theirs)?);
    let wrong = disagreements(&ours, &theirs);
    if !wrong.is_empty() {
        let named: Vec<_> = wrong.iter().take(NAMED).map(String::as_str).collect();
        bail!(
            "{} disagreements about the change feed:\n{}",
            wrong.len(),
            named.join("\n")
        );
    }
    println!(
        "{} documents of the change feed are equal, and in the same order by key",
        ours.0.len()
    );
    Ok(())
}

/// A line for each document that is not the same, and for each key whose documents come in another order.
fn disagreements(ours: &Told, theirs: &Told) -> Vec<String> {
    let mut wrong = Vec::new();
    for (who, told) in [("we", ours), ("they", theirs)] {
        wrong.extend(told.repeats().iter().map(|d| format!("{who} read twice {d}")));
    }
    let (our_last, their_last) = (ours.last(), theirs.last());
    let places: BTreeSet<_> = our_last.keys().chain(their_last.keys()).collect();
    for place in places {
        let (our, their) = (our_last.get(place), their_last.get(place));
        if our != their {
            wrong.push(format!("{place:?}: we read {our:?}, they {their:?}"));
        }
    }
    let their_order = theirs.by_key();
    for (key, our) in ours.by_key() {
        if wrong.is_empty() && their_order.get(&key) != Some(&our) {
            wrong.push(format!(
                "{key}: we read {our:?}, they {:?}",
                their_order.get(&key)
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(documents: &[(&str, &str, &str)]) -> Told {
        let all = documents
            .iter()
            .map(|(pk, id, etag)| json!({"pk": pk, "id": id, "_etag": etag}));
        Told(all.collect())
    }

    #[test]
    fn keys_may_come_in_any_order_but_not_what_has_one() {
        let ours = told(&[("k", "a", "1"), ("l", "b", "2"), ("k", "c", "3")]);
        let same = told(&[("l", "b", "2"), ("k", "a", "1"), ("k", "c", "3")]);
        assert_eq!(disagreements(&ours, &same), Vec::<String>::new());
        let other = told(&[("k", "c", "3"), ("k", "a", "1"), ("l", "b", "2")]);
        assert_eq!(disagreements(&ours, &other).len(), 1);
    }

    #[test]
    fn a_document_that_is_missing_more_old_or_twice_is_a_disagreement() {
        let ours = told(&[("k", "a", "1"), ("k", "b", "2")]);
        for theirs in [
            &[("k", "a", "1")][..],
            &[("k", "a", "1"), ("k", "b", "2"), ("k", "c", "3")],
            &[("k", "a", "1"), ("k", "b", "1")],
            &[("k", "a", "1"), ("l", "b", "2")],
            &[("k", "a", "1"), ("k", "b", "2"), ("k", "b", "2")],
        ] {
            assert_ne!(
                disagreements(&ours, &told(theirs)),
                Vec::<String>::new(),
                "{theirs:?}"
            );
        }
    }
}
