//! The lease container: what is read and written there.

use std::sync::Arc;

use azure_core::http::Etag;
use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, FeedRange, ItemReference, PartitionKey, Precondition, ResponseBody,
};
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::time::Instant;

use super::format::{marker, Format, Lease, Sdk, PARTITION_KEY};
use super::ledger::{Answer, Request};
use super::takeover::Store;
use crate::account::{
    charge, look_up_at_opening, plan_options, read_options, within, write_options, Account,
};
use crate::config::{Config, LeaseConfig};
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::status::{Asked, Fate};

/// The leases of one container of documents, in their own container.
pub struct LeaseStore {
    account: Arc<Account>,
    container: ContainerReference,
    config: Arc<Config>,
    leases: LeaseConfig,
    /// Whether it is partitioned by `/id`, else by `/partitionKey`.
    by_id: bool,
    /// In front of the ids of all forms but the oldest of Java's.
    prefix: String,
    /// In front of those.
    prefix_by_names: String,
}

impl LeaseStore {
    /// Looks the lease container up.
    ///
    /// # Errors
    /// NotFound when it is not there, Config when its partition key is none that leases can have.
    pub async fn open(
        account: &Arc<Account>,
        config: &Arc<Config>,
        leases: &LeaseConfig,
        documents: &ContainerReference,
    ) -> Result<LeaseStore> {
        let of_leases = Config {
            database: leases.database.clone(),
            ..(**config).clone()
        };
        let look_up = || async {
            account
                .container(&of_leases, &leases.container)
                .await
                .map_err(|e| e.while_doing("scan.lease.container"))
        };
        let container = look_up_at_opening(config, look_up).await?;
        let paths: Vec<String> = container
            .partition_key_definition()
            .paths()
            .iter()
            .map(ToString::to_string)
            .collect();
        let takes = |path: &str| paths.len() == 1 && paths[0] == path;
        if !(takes("/id") || (leases.publish != Some(Sdk::Java) && takes("/partitionKey"))) {
            return Err(CoreError::config(format!(
                "scan.lease.container: '{}' has the partition key path {}; leases need /id{}",
                leases.container,
                paths.join(", "),
                match leases.publish {
                    Some(Sdk::Java) => " (with scan.lease.format 'dotnet' also /partitionKey)",
                    _ => " or /partitionKey",
                }
            )));
        }
        let host = config.account.endpoint.host_str().unwrap_or_default();
        let database = documents.database_name().unwrap_or(&config.database);
        Ok(LeaseStore {
            prefix: format!(
                "{}{host}_{}_{}",
                leases.prefix,
                documents.database_rid(),
                documents.rid()
            ),
            prefix_by_names: format!("{}{host}_{database}_{}", leases.prefix, documents.name()),
            by_id: takes("/id"),
            account: account.clone(),
            container,
            config: config.clone(),
            leases: leases.clone(),
        })
    }

    /// What stands in front of the ids of the leases that are published.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The options of leases.
    pub fn config(&self) -> &LeaseConfig {
        &self.leases
    }

    /// All that lies under both prefixes.
    ///
    /// # Errors
    /// Those of a query; State for a document that is no lease.
    pub async fn read(&self, metrics: &Metrics) -> Result<Store> {
        let mut store = Store::default();
        let mut initialised = Vec::new();
        for prefix in [&self.prefix, &self.prefix_by_names] {
            for document in self.query(prefix, metrics).await? {
                let id = document["id"].as_str().unwrap_or_default().to_owned();
                match id.strip_prefix(prefix.as_str()) {
                    Some(".info") => initialised.push(prefix),
                    Some(".lock") => store.lock = Some(id),
                    Some(rest) if rest.starts_with("..") => store.leases.push(self.lease(document)?),
                    _ => {}
                }
            }
        }
        let of_names = store.leases.iter().any(|l| l.format == Format::J0);
        let needed = if of_names {
            &self.prefix_by_names
        } else {
            &self.prefix
        };
        store.initialised = initialised.contains(&needed);
        Ok(store)
    }

    fn lease(&self, document: Value) -> Result<Lease> {
        let lease = Lease::decode(document)?;
        match self.by_id {
            true => Ok(lease),
            false => with_key(lease, &self.leases.container),
        }
    }

    async fn query(&self, prefix: &str, metrics: &Metrics) -> Result<Vec<Value>> {
        let body = json!({
            "query": "SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)",
            "parameters": [{"name": "@prefix", "value": prefix}],
        });
        let operation = CosmosOperation::query_items(self.container.clone(), Some(FeedRange::full()))
            .with_body(body.to_string().into_bytes());
        let (driver, options) = (&self.account.driver, read_options(&self.config));
        let started = Instant::now();
        let all = async {
            let mut plan = driver
                .plan_operation(operation, &options, None, &plan_options())
                .await
                .map_err(failed)?;
            let mut found = Vec::new();
            while let Some(page) = driver
                .execute_plan(&mut plan, Some(self.container.clone()), options.clone())
                .await
                .map_err(failed)?
            {
                metrics.request(started.elapsed(), charge(&page));
                found.extend(documents(page.into_body())?);
            }
            Ok(found)
        };
        // Begun anew as a whole where the token of its first request was refused.
        within(self.config.request_timeout, all)
            .await
            .map_err(|e| self.account.judged(e, started).while_doing("reading leases"))
    }

    /// Carries out what a ledger wants.
    ///
    /// # Errors
    /// What neither of its answers stands for.
    pub async fn carry_out(&self, request: &Request, metrics: &Metrics) -> Result<Answer> {
        let sdk = self.leases.publish.unwrap_or(Sdk::Java);
        let written = match request {
            Request::List => {
                let mut leases = Vec::new();
                let mut complete = false;
                for document in self.query(&self.prefix, metrics).await? {
                    let id = document["id"].as_str().unwrap_or_default();
                    match id.strip_prefix(self.prefix.as_str()) {
                        Some(".info") => complete = true,
                        Some(rest) if rest.starts_with("..") => leases.push(self.lease(document)?),
                        _ => {}
                    }
                }
                return Ok(Answer::Listed { leases, complete });
            }
            Request::Create { id, document } => self.create(id, document, metrics).await,
            Request::Replace {
                id,
                key,
                document,
                etag,
            } => self.replace((id, key.as_deref()), document, etag, metrics).await,
            Request::Delete { id, key, etag } => {
                let operation = CosmosOperation::delete_item(self.item(id, key.as_deref()))
                    .with_precondition(Precondition::if_match(Etag::from(etag.clone())));
                match self.write(operation, Asked::Delete, metrics).await {
                    Ok(_) => return Ok(Answer::Done),
                    Err(e) if e.kind == Kind::NotFound && gone_or_changed(&e) => return Ok(Answer::Done),
                    Err(e) => Err(e),
                }
            }
            Request::Complete => {
                let id = format!("{}.info", self.prefix);
                match self.create(&id, &marker(sdk, &id), metrics).await {
                    Ok(_) => return Ok(Answer::Done),
                    Err(e) if e.kind == Kind::Conflict => return Ok(Answer::Done),
                    Err(e) => Err(e),
                }
            }
        };
        match written {
            Ok(etag) => Ok(Answer::Written(etag)),
            Err(e) if gone_or_changed(&e) => Ok(Answer::Conflict),
            Err(e) => Err(e),
        }
    }

    async fn create(&self, id: &str, document: &Value, metrics: &Metrics) -> Result<String> {
        let operation =
            CosmosOperation::create_item(self.item(id, None)).with_body(document.to_string().into_bytes());
        self.write(operation, Asked::Create, metrics).await
    }

    /// Writes a document that must still have this ETag, and gives its new one.
    ///
    /// # Errors
    /// Precondition when it has another one, NotFound when it is gone.
    pub async fn replace(
        &self,
        (id, key): (&str, Option<&str>),
        document: &Value,
        etag: &str,
        metrics: &Metrics,
    ) -> Result<String> {
        let operation = CosmosOperation::replace_item(self.item(id, key))
            .with_body(document.to_string().into_bytes())
            .with_precondition(Precondition::if_match(Etag::from(etag.to_owned())));
        self.write(operation, Asked::Replace, metrics).await
    }

    /// A lease by its id, which is its partition key as well, unless the container is partitioned by `/partitionKey` and the document says
    /// another one.
    fn item(&self, id: &str, key: Option<&str>) -> ItemReference {
        let key = key.filter(|_| !self.by_id).unwrap_or(id).to_owned();
        ItemReference::from_name(&self.container, PartitionKey::from(key), id.to_owned())
    }

    async fn write(&self, operation: CosmosOperation, asked: Asked, metrics: &Metrics) -> Result<String> {
        let started = Instant::now();
        let options = write_options(&self.config).build();
        let driver = &self.account.driver;
        let answer = driver.execute_singleton_operation(operation, options).await;
        let answer = answer.map_err(|e| {
            let failure = CoreError::from_driver(&e, asked, Fate::NotCarriedOut);
            self.account
                .judged(failure, started)
                .while_doing("writing a lease")
        });
        let charge = match &answer {
            Ok(response) => charge(response),
            Err(e) => e.request_charge,
        };
        metrics.request(started.elapsed(), charge);
        let etag = answer?.headers().etag.as_ref().map(ToString::to_string);
        Ok(etag.unwrap_or_default())
    }
}

/// A lease of a container that is partitioned by [`PARTITION_KEY`].
///
/// # Errors
/// State when it has none: it could be read, and never be written.
fn with_key(lease: Lease, container: &str) -> Result<Lease> {
    match lease.key {
        Some(_) => Ok(lease),
        None => Err(CoreError::state(format!(
            "lease '{}' has no '{PARTITION_KEY}', by which its container '{container}' is partitioned, so that it cannot be written; write it again with the \
             one that it was created with, or delete it and let its processor start once",
            lease.id
        ))),
    }
}

/// Whether a write was refused because of what is there, or is not.
pub fn gone_or_changed(error: &CoreError) -> bool {
    matches!(error.kind, Kind::Conflict | Kind::Precondition)
        || (error.kind == Kind::NotFound && !error.outlives_restart())
}

fn failed(error: azure_data_cosmos_driver::CosmosError) -> CoreError {
    CoreError::from_driver(&error, Asked::Metadata, Fate::NotCarriedOut)
}

fn documents(body: ResponseBody) -> Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(rename = "Documents")]
        documents: Vec<Value>,
    }
    let unclear = |e: serde_json::Error| {
        CoreError::internal(format!(
            "the answer to a query of leases cannot be understood: {e}"
        ))
    };
    match body {
        ResponseBody::NoPayload => Ok(Vec::new()),
        ResponseBody::Items(items) => items
            .iter()
            .map(|item| serde_json::from_slice(item).map_err(unclear))
            .collect(),
        ResponseBody::Bytes(bytes) => serde_json::from_slice::<Page>(&bytes)
            .map(|page| page.documents)
            .map_err(unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_without_the_key_of_its_container_is_refused() {
        let with = |key: Option<&str>| {
            let lease = json!({"id": "p..0", "LeaseToken": "0", "version": 0, "partitionKey": key});
            with_key(Lease::decode(lease).unwrap(), "leases")
        };
        assert_eq!(with(Some("5f0c")).unwrap().key.as_deref(), Some("5f0c"));
        let error = with(None).unwrap_err();
        assert!(
            error.message.contains("'p..0' has no 'partitionKey'") && error.message.contains("'leases'"),
            "{error}"
        );
        assert!(error.outlives_restart());
    }
}
