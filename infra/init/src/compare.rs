//! `compare`: does one container hold what another one does?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use azure_data_cosmos::CosmosClient;
use cosmosflink_producer::connect::Connection;
use serde_json::{json, Value};

use crate::documents;
use crate::Error;

/// Documents that are named where many differ.
const NAMED: usize = 5;

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Container whose documents are the right ones.
    #[arg(long)]
    source: String,
    /// Container that must hold the same, by id and field by field.
    #[arg(long)]
    target: String,
    /// Field that only the documents of the target have; may be given several times.
    #[arg(long, value_name = "FIELD")]
    without: Vec<String>,
    /// Seconds to wait for the two to become equal.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u64,
}

/// Documents by id. One id can stand under several keys.
type Documents = BTreeMap<String, Vec<Value>>;

/// Compares until everything is equal or the time is over, prints the last comparison, and says whether it is equal.
///
/// # Errors
/// A container that cannot be read.
pub async fn compare(args: Args) -> Result<bool, Error> {
    let client = args.connection.open().await?;
    let until = Instant::now() + Duration::from_secs(args.within);
    loop {
        let target = read(&args.connection, &client, &args.target, &args.without).await?;
        let source = read(&args.connection, &client, &args.source, &[]).await?;
        let different = differences(&source, &target);
        if different.is_empty() || Instant::now() >= until {
            let shown: Vec<_> = different.iter().take(NAMED).collect();
            println!(
                "{}",
                json!({
                    "documents": source.values().map(Vec::len).sum::<usize>(),
                    "equal": different.is_empty(),
                    "different": different.len(),
                    "ids": shown,
                })
            );
            return Ok(different.is_empty());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn read(
    c: &Connection,
    client: &CosmosClient,
    name: &str,
    without: &[String],
) -> Result<Documents, Error> {
    let mut all = Documents::new();
    for document in documents::read(c, client, name).await? {
        add(&mut all, document, without);
    }
    Ok(all)
}

fn add(documents: &mut Documents, mut document: Value, without: &[String]) {
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| !without.contains(name));
    }
    let id = document["id"].as_str().unwrap_or_default().to_owned();
    documents.entry(id).or_default().push(by_value(document));
}

/// Numbers of one value in one spelling: 25.00 is stored as 25.
fn by_value(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(by_value).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| (name, by_value(field)))
            .collect(),
        other => other,
    }
}

/// Ids whose documents are not the same ones in both, in whatever order.
fn differences<'a>(source: &'a Documents, target: &'a Documents) -> Vec<&'a str> {
    let texts = |documents: Option<&Vec<Value>>| {
        let mut all: Vec<_> = documents.into_iter().flatten().map(Value::to_string).collect();
        all.sort_unstable();
        all
    };
    let more = target.keys().filter(|id| !source.contains_key(*id));
    let ids = source.keys().chain(more);
    ids.filter(|id| texts(source.get(*id)) != texts(target.get(*id)))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::own;

    fn of(documents: &[Value]) -> Documents {
        let mut all = Documents::new();
        for document in documents {
            add(&mut all, own(document.clone()), &["region".to_owned()]);
        }
        all
    }

    #[test]
    fn what_the_service_or_the_job_adds_makes_no_difference() {
        let source = of(&[json!({"id": "a", "n": 25.0, "_etag": "1"})]);
        let target = of(&[json!({"id": "a", "n": 25, "_etag": "2", "region": "eu-west"})]);
        assert_eq!(differences(&source, &target), Vec::<&str>::new());
    }

    #[test]
    fn a_document_that_is_missing_old_new_or_twice_is_a_difference() {
        let source = of(&[
            json!({"id": "missing"}),
            json!({"id": "old", "n": 2}),
            json!({"id": "same", "n": 1}),
            json!({"id": "twice"}),
        ]);
        let target = of(&[
            json!({"id": "new"}),
            json!({"id": "old", "n": 1}),
            json!({"id": "same", "n": 1}),
            json!({"id": "twice"}),
            json!({"id": "twice"}),
        ]);
        assert_eq!(differences(&source, &target), ["missing", "old", "twice", "new"]);
    }
}
