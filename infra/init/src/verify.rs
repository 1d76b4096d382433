//! `verify`: did everything that was produced come out?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cosmosflink_producer::connect::Connection;
use serde::Deserialize;
use serde_json::json;

use crate::count::count_one;
use crate::Error;

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Summary that the producer wrote (--summary-file).
    #[arg(long, value_name = "FILE")]
    summary: PathBuf,
    /// Container that must hold exactly the valid orders; may be given several times.
    #[arg(long, required = true)]
    container: Vec<String>,
    /// Base URL of the consumer, which must have got exactly the valid orders.
    #[arg(long, value_name = "URL")]
    consumer: Option<String>,
    /// Seconds to wait for the two to become equal.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Produced {
    acknowledged: u64,
    invalid: u64,
    valid_ids_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Got {
    unique: u64,
    duplicates: u64,
    ids_digest: String,
}

/// Compares until everything is equal or the time is over, prints the last comparison, and says whether it is equal.
///
/// # Errors
/// A summary, a container or a consumer that cannot be read.
pub async fn verify(args: Args) -> Result<bool, Error> {
    let text = std::fs::read_to_string(&args.summary)
        .map_err(|e| format!("cannot read {}: {e}", args.summary.display()))?;
    let produced: Produced = serde_json::from_str(&text)
        .map_err(|e| format!("{} is no summary of the producer: {e}", args.summary.display()))?;
    let expected = produced.acknowledged - produced.invalid.min(produced.acknowledged);
    let client = args.connection.open().await?;
    let until = Instant::now() + Duration::from_secs(args.within);
    loop {
        let mut equal = true;
        let mut holders = Vec::new();
        for name in &args.container {
            let count = count_one(&args.connection, &client, name).await?;
            // As many documents as ids: an order that was stored twice would be a duplicate in the container.
            let same = count.documents == expected && count.ids_digest == produced.valid_ids_digest;
            equal &= same;
            holders.push(json!({"container": name, "documents": count.documents, "equal": same}));
        }
        if let Some(url) = &args.consumer {
            let got = consumer_stats(url)?;
            let same = got.unique == expected && got.ids_digest == produced.valid_ids_digest;
            equal &= same;
            holders.push(
                json!({"consumer": url, "unique": got.unique, "duplicates": got.duplicates, "equal": same}),
            );
        }
        if equal || Instant::now() >= until {
            println!(
                "{}",
                json!({"expected": expected, "equal": equal, "holders": holders})
            );
            return Ok(equal);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn consumer_stats(url: &str) -> Result<Got, Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let stats = format!("{}/stats", url.trim_end_matches('/'));
    let read = || agent.get(&stats).call()?.body_mut().read_json();
    read().map_err(|e| format!("cannot read {stats}: {e}; is the consumer up?").into())
}
