//! `count`: how many documents a container holds, and which.

use std::collections::HashSet;

use azure_data_cosmos::{CosmosClient, FeedScope};
use cosmosflink_digest::{hash_id, IdsDigest};
use cosmosflink_producer::connect::{ConnectError, Connection, CONNECT_WITHIN};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Which containers to count.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Container to count; may be given several times, each makes a line.
    #[arg(long, required = true)]
    container: Vec<String>,
}

/// What a container holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Name of the container.
    pub container: String,
    /// All documents.
    pub documents: u64,
    /// Different ids: fewer than documents when an id occurs under several partition keys.
    pub distinct_ids: u64,
    /// Digest of the different ids, as the consumer and the producer compute it.
    pub ids_digest: String,
    /// Feed ranges read.
    pub feed_ranges: usize,
}

#[derive(Deserialize)]
struct OnlyId {
    id: String,
}

/// Prints a [`Count`] for each container.
///
/// # Errors
/// See [`ConnectError`].
pub async fn count(args: Args) -> Result<(), Error> {
    let client = args.connection.open().await?;
    for name in &args.container {
        println!(
            "{}",
            serde_json::to_string(&count_one(&args.connection, &client, name).await?)?
        );
    }
    Ok(())
}

/// Reads all ids, one feed range after the other: the client takes no COUNT across partitions. Sixteen bytes per
/// document stay in memory.
pub async fn count_one(c: &Connection, client: &CosmosClient, name: &str) -> Result<Count, ConnectError> {
    let container = c.container(client, name).await?;
    let ranges = c
        .within(CONNECT_WITHIN, name, container.read_feed_ranges(None))
        .await?;
    let feed_ranges = ranges.len();
    let mut documents = 0;
    let mut ids = HashSet::new();
    for range in ranges {
        let query = container.query_items::<OnlyId>("SELECT c.id FROM c", FeedScope::range(range), None);
        let mut items = c.within(CONNECT_WITHIN, name, query).await?;
        while let Some(item) = c.within(CONNECT_WITHIN, name, items.try_next()).await? {
            documents += 1;
            ids.insert(hash_id(&item.id));
        }
    }
    Ok(Count {
        container: name.into(),
        documents,
        distinct_ids: ids.len() as u64,
        ids_digest: ids.into_iter().collect::<IdsDigest>().to_string(),
        feed_ranges,
    })
}
