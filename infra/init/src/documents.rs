//! `documents`: what a container holds.

use azure_data_cosmos::{CosmosClient, FeedScope};
use cosmosflink_producer::connect::{ConnectError, Connection, CONNECT_WITHIN};
use futures::TryStreamExt;
use serde_json::Value;

use crate::Error;

/// What the service adds to a document.
const SYSTEM: [&str; 6] = ["_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"];

/// Which container to read.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Container whose documents are printed.
    #[arg(long)]
    container: String,
}

/// Prints each document, without what the service adds to it.
///
/// # Errors
/// A container that cannot be read.
pub async fn documents(args: Args) -> Result<(), Error> {
    let client = args.connection.open().await?;
    for document in read(&args.connection, &client, &args.container).await? {
        println!("{document}");
    }
    Ok(())
}

/// All documents of a container, one feed range after the other.
pub async fn read(c: &Connection, client: &CosmosClient, name: &str) -> Result<Vec<Value>, ConnectError> {
    let container = c.container(client, name).await?;
    let ranges = c
        .within(CONNECT_WITHIN, name, container.read_feed_ranges(None))
        .await?;
    let mut documents = Vec::new();
    for range in ranges {
        let query = container.query_items::<Value>("SELECT * FROM c", FeedScope::range(range), None);
        let mut items = c.within(CONNECT_WITHIN, name, query).await?;
        while let Some(item) = c.within(CONNECT_WITHIN, name, items.try_next()).await? {
            documents.push(own(item));
        }
    }
    Ok(documents)
}

/// A document without what the service adds to it.
pub fn own(mut document: Value) -> Value {
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| !SYSTEM.contains(&name.as_str()));
    }
    document
}
