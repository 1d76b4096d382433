//! `create`: the database and its containers.

use std::time::{Duration, Instant};

use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition, ThroughputProperties};
use azure_data_cosmos::options::CreateContainerOptions;
use azure_data_cosmos::CosmosClient;
use cosmosflink_producer::connect::{ConnectError, Connection, CONNECT_WITHIN};
use serde_json::json;

use crate::Error;

/// Names and partition key paths of the containers, and how long to wait for the account.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// What the producer writes and the first job reads.
    #[arg(long, env = "COSMOS_SOURCE_CONTAINER", default_value = "events-source")]
    source_container: String,
    /// Its partition key paths, separated by commas.
    #[arg(long, env = "COSMOS_SOURCE_PKEY_PATH", default_value = "/customerId")]
    source_pkey_path: String,
    /// What the first job writes and the second reads.
    #[arg(long, env = "COSMOS_TARGET_CONTAINER", default_value = "events-processed")]
    target_container: String,
    /// Its partition key paths.
    #[arg(long, env = "COSMOS_TARGET_PKEY_PATH", default_value = "/region")]
    target_pkey_path: String,
    /// Where the second job records what it delivered.
    #[arg(long, env = "COSMOS_OUTPUT_CONTAINER", default_value = "events-output")]
    output_container: String,
    /// Its partition key paths.
    #[arg(long, env = "COSMOS_OUTPUT_PKEY_PATH", default_value = "/region")]
    output_pkey_path: String,
    /// Where bad records go.
    #[arg(long, env = "COSMOS_DEAD_LETTER_CONTAINER", default_value = "dead-letter")]
    dead_letter_container: String,
    /// Its partition key paths.
    #[arg(long, env = "COSMOS_DEAD_LETTER_PKEY_PATH", default_value = "/container")]
    dead_letter_pkey_path: String,
    /// Leases, as which the jobs publish their progress.
    #[arg(long, env = "COSMOS_LEASE_CONTAINER", default_value = "cosmos-leases")]
    lease_container: String,
    /// Its partition key paths.
    #[arg(long, env = "COSMOS_LEASE_PKEY_PATH", default_value = "/id")]
    lease_pkey_path: String,
    /// A container in place of those of the pipeline, with its partition key paths, such as orders:/customerId; may be given several times.
    #[arg(long, value_name = "NAME:PATHS")]
    container: Vec<String>,
    /// Request units per second of each container that is created; without it, what the account gives.
    #[arg(long, env = "COSMOS_THROUGHPUT", conflicts_with = "autoscale_max")]
    throughput: Option<u64>,
    /// Most request units per second of each container that is created, scaled by the service.
    #[arg(long, env = "COSMOS_AUTOSCALE_MAX")]
    autoscale_max: Option<u64>,
    /// Seconds to wait for the account to answer.
    #[arg(long, env = "COSMOS_WAIT", value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Args {
    fn containers(&self) -> Result<Vec<(&str, &str)>, String> {
        if self.container.is_empty() {
            return Ok(vec![
                (&self.source_container, &self.source_pkey_path),
                (&self.target_container, &self.target_pkey_path),
                (&self.output_container, &self.output_pkey_path),
                (&self.dead_letter_container, &self.dead_letter_pkey_path),
                (&self.lease_container, &self.lease_pkey_path),
            ]);
        }
        self.container
            .iter()
            .map(|named| {
                named.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                    format!("{named:?} is no container with its partition key: write NAME:/path, such as orders:/customerId")
                })
            })
            .collect()
    }

    fn throughput(&self) -> Option<ThroughputProperties> {
        self.throughput.map(ThroughputProperties::manual).or_else(|| {
            self.autoscale_max
                .map(|max| ThroughputProperties::autoscale(max, None))
        })
    }
}

/// Creates what is missing. What exists is kept as it is, also its throughput, unless its partition key differs.
///
/// # Errors
/// An account that does not answer in time or refuses, and a container with another partition key.
pub async fn create(args: Args) -> Result<(), Error> {
    let containers = args.containers()?;
    for (name, path) in &containers {
        paths(path).map_err(|e| format!("container {name}: {e}"))?;
    }
    let connection = &args.connection;
    let until = Instant::now() + Duration::from_secs(args.wait);
    let client = patiently(until, || connection.open()).await?;
    let mut database_exists = false;
    for (name, path) in containers {
        let wanted = paths(path)?;
        let mut created = false;
        // Looking first keeps the task usable with Entra ID, which may read but not create containers.
        let found = match patiently(until, || existing_paths(connection, &client, name)).await {
            Ok(found) => found,
            Err(ConnectError::NotFound { .. }) => {
                if !database_exists {
                    patiently(until, || create_database(connection, &client)).await?;
                    database_exists = true;
                }
                let throughput = args.throughput();
                patiently(until, || {
                    create_container(connection, &client, name, &wanted, throughput.clone())
                })
                .await?;
                created = true;
                patiently(until, || existing_paths(connection, &client, name)).await?
            }
            Err(error) => return Err(error.into()),
        };
        if found != wanted {
            return Err(format!(
                "container {name} exists with the partition key {}, not {}: choose another container, or set its path",
                found.join(","),
                wanted.join(",")
            )
            .into());
        }
        println!(
            "{}",
            json!({"container": name, "partitionKey": found, "created": created})
        );
    }
    Ok(())
}

/// Tries again, until the time is over, what failed because nobody answered or because of the service's own trouble.
async fn patiently<T, F: std::future::Future<Output = Result<T, ConnectError>>>(
    until: Instant,
    mut attempt: impl FnMut() -> F,
) -> Result<T, ConnectError> {
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let may_pass = matches!(
            error,
            ConnectError::Unreachable { .. } | ConnectError::Service { .. }
        );
        if !may_pass || Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn existing_paths(
    c: &Connection,
    client: &CosmosClient,
    name: &str,
) -> Result<Vec<String>, ConnectError> {
    let container = c.container(client, name).await?;
    let answer = c.within(CONNECT_WITHIN, name, container.read(None)).await?;
    let properties = answer.into_model().map_err(|e| c.explain(&e, name))?;
    Ok(properties
        .partition_key
        .paths()
        .iter()
        .map(|p| p.to_string())
        .collect())
}

async fn create_database(c: &Connection, client: &CosmosClient) -> Result<(), ConnectError> {
    unless_it_exists(c, "", client.create_database(&c.database, None)).await
}

async fn create_container(
    c: &Connection,
    client: &CosmosClient,
    name: &str,
    paths: &[String],
    throughput: Option<ThroughputProperties>,
) -> Result<(), ConnectError> {
    let key = PartitionKeyDefinition::new(paths.iter().cloned().map(Into::into).collect::<Vec<_>>());
    let mut options = CreateContainerOptions::default();
    if let Some(throughput) = throughput {
        options = options.with_throughput(throughput);
    }
    let properties = ContainerProperties::new(name.to_owned(), key);
    unless_it_exists(
        c,
        name,
        client
            .database_client(&c.database)
            .create_container(properties, Some(options)),
    )
    .await
}

/// 409 means that somebody else was faster, which is as good.
async fn unless_it_exists<T>(
    c: &Connection,
    name: &str,
    request: impl std::future::Future<Output = azure_data_cosmos::Result<T>>,
) -> Result<(), ConnectError> {
    let request = async {
        match request.await {
            Err(error) if error.status().is_conflict() => Ok(()),
            other => other.map(drop),
        }
    };
    c.within(CONNECT_WITHIN, name, request).await
}

/// One to three paths that begin with a slash.
fn paths(text: &str) -> Result<Vec<String>, String> {
    let paths: Vec<String> = text.split(',').map(|p| p.trim().to_owned()).collect();
    if paths.len() > 3 || paths.iter().any(|p| !p.starts_with('/') || p.len() < 2) {
        return Err(format!(
            "{text:?} is no partition key path: write one to three of the form /name, with commas"
        ));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_key_paths_are_checked() {
        assert_eq!(paths("/region").unwrap(), ["/region"]);
        assert_eq!(paths("/tenant, /user").unwrap(), ["/tenant", "/user"]);
        for wrong in ["", "region", "/", "/a,b", "/a,/b,/c,/d"] {
            assert!(paths(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        let unreachable = || ConnectError::Unreachable {
            endpoint: "e".into(),
            last: "l".into(),
        };
        let mut tries = 0;
        let soon = Instant::now() + Duration::from_secs(5);
        let third = patiently(soon, || {
            tries += 1;
            let answer = if tries < 3 { Err(unreachable()) } else { Ok(tries) };
            async move { answer }
        });
        assert_eq!(third.await.unwrap(), 3);
        let mut tries = 0;
        let config = patiently(soon, || {
            tries += 1;
            async { Err::<(), _>(ConnectError::Config("x".into())) }
        });
        assert!(matches!(config.await, Err(ConnectError::Config(_))));
        assert_eq!(tries, 1);
        assert!(
            patiently(Instant::now(), || async { Err::<(), _>(unreachable()) })
                .await
                .is_err()
        );
    }
}
