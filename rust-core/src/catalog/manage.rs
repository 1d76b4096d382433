//! What a catalog wants, asked of the account.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, CosmosRequestHeaders, CosmosResponse, DatabaseReference,
    OfferAutoscaleSettings, ResponseBody,
};
use azure_data_cosmos_driver::options::{ContentResponseOnWrite, OperationOptions};
use azure_data_cosmos_driver::CosmosError;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::infer::{Documents, Inferred, Rules};
use super::wire::{Answer, Container, Request, Throughput};
use crate::account::{block_within, plan_options, read_options, within, Account};
use crate::config::{Config, RetryConfig, Role};
use crate::error::{CoreError, Kind, Result};
use crate::feed::{sample, DriverFeed, Feed};
use crate::metrics::Metrics;
use crate::page::KeyPaths;
use crate::retry::{until_answered, Attempts};
use crate::status::{Asked, Fate, Next};

/// Longest time for which something is asked for again that failed, and that was throttled: whoever waits is a person in front of a client.
const FAILING: Duration = Duration::from_secs(20);
const THROTTLED: Duration = Duration::from_secs(45);

/// How long documents are waited for once there are some: a few say nearly as much as many.
const SAMPLING: Duration = Duration::from_secs(15);

/// Physical partitions that documents are taken from. Of more, some that lie evenly among them.
const PARTITIONS: usize = 32;

/// Bytes of documents that are looked at.
const SAMPLE_BYTES: u64 = 16 * 1024 * 1024;

/// Asks the service to say how many documents there are.
const USAGE: &str = "x-ms-documentdb-populatequotainfo";

/// What an account needs of an option that says which database is meant, where none is.
const NO_DATABASE: &str = "none";

/// Carries out what a catalog wants, from a thread that may block, for at most `limit`.
///
/// # Errors
/// Config for options that are wrong; NotFound for a database or container that is not there, Conflict for one that is there already; Auth;
/// Transient when it takes too long. Of a creation or an end that is Transient nobody knows whether it happened.
pub fn administer(options: &[(String, String)], request: Request, limit: Duration) -> Result<Answer> {
    check_names(&request)?;
    let (database, container) = request.names();
    let ours = ["database", "container", "scan.query"];
    let mut options: Vec<_> = options
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .cloned()
        .collect();
    options.push(("database".into(), database.unwrap_or(NO_DATABASE).into()));
    options.extend(container.map(|name| ("container".into(), name.into())));
    let config = Arc::new(Config::parse(Role::Connection, &options)?);
    block_within(limit, async move {
        let account = again(&config, "connecting", any, || Account::open(&config)).await?;
        Administrator { account, config }.carry_out(request).await
    })
}

/// A name that no database and no container can have would be a way to something else in a URL.
/// Source: <https://learn.microsoft.com/rest/api/cosmos-db/create-a-collection>.
fn check_names(request: &Request) -> Result<()> {
    let (database, container) = request.names();
    let named = [("database", database), ("container", container)];
    for (what, name) in named.into_iter().filter_map(|(what, name)| Some((what, name?))) {
        let dots = name.chars().all(|c| c == '.');
        // A URL drops tabs and line ends, so that it would be about another one.
        let elsewhere = |c: char| c.is_control() || matches!(c, '/' | '\\' | '#' | '?');
        if !dots && name.len() <= 255 && name.trim() == name && !name.contains(elsewhere) {
            continue;
        }
        let kind = match request {
            Request::CreateDatabase { .. } | Request::CreateContainer { .. } => Kind::BadRequest,
            _ => Kind::NotFound,
        };
        return Err(CoreError::new(
            kind,
            format!(
                "'{}' is no name of a {what}: that has 1 to 255 characters, none of them / \\ # ? or a control character, and no blank at its ends",
                name.escape_debug()
            ),
        ));
    }
    Ok(())
}

/// Whether a request may be sent again.
type Repeatable = fn(&CoreError) -> bool;

/// One that reads.
fn any(_: &CoreError) -> bool {
    true
}

/// One that changes something, of which it is not known whether it was carried out: a second answer would be about the first.
fn refused(error: &CoreError) -> bool {
    error.fate == Fate::NotCarriedOut
}

/// How often and how long something is asked for again, and for no longer than `most`.
fn patience(config: &Config, most: Duration) -> RetryConfig {
    let throttled = config
        .retry
        .throttled_deadline
        .map_or(THROTTLED, |limit| limit.min(THROTTLED));
    RetryConfig {
        deadline: FAILING.min(config.retry.deadline).min(most),
        throttled_deadline: Some(throttled.min(most)),
        ..config.retry
    }
}

/// Asks until there is an answer.
async fn again<T, F: Future<Output = Result<T>>>(
    config: &Config,
    what: &str,
    repeatable: Repeatable,
    ask: impl Fn() -> F,
) -> Result<T> {
    let retry = patience(config, Duration::MAX);
    let attempt = || async {
        ask().await.map_err(|e| match e.next {
            Next::Done | Next::Compare => e,
            _ if repeatable(&e) => e,
            _ => CoreError { next: Next::End, ..e },
        })
    };
    until_answered(Attempts::new(&retry), &Metrics::default(), what, attempt).await
}

fn failed(error: &CosmosError) -> CoreError {
    CoreError::from_driver(error, Asked::Manage, Fate::NotCarriedOut)
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// A page of names.
#[derive(Deserialize)]
struct Page {
    #[serde(alias = "Databases", alias = "DocumentCollections")]
    items: Vec<Named>,
}

/// A container's definition, as far as a table has to do with it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    #[serde(rename = "_rid")]
    rid: String,
    #[serde(default)]
    partition_key: Keys,
    #[serde(default)]
    default_ttl: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Keys {
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Serialize)]
struct NewDatabase<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewContainer<'a> {
    id: &'a str,
    partition_key: NewKeys<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_ttl: Option<i64>,
}

#[derive(Serialize)]
struct NewKeys<'a> {
    paths: &'a [String],
    kind: &'a str,
    version: u8,
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> CoreError {
    CoreError::internal(format!("{what} cannot be understood: {why}"))
}

/// The definition that the service answers with what it has created.
fn defined(response: CosmosResponse) -> Option<Definition> {
    let body = response.into_body().single().ok()?;
    serde_json::from_slice(&body).ok()
}

/// A number of the service's list of numbers, such as `documentsCount=12;collectionSize=3`.
fn number(usage: &str, name: &str) -> Option<i64> {
    let mut pairs = usage.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    value.trim().parse().ok().filter(|n| *n >= 0)
}

struct Administrator {
    account: Arc<Account>,
    config: Arc<Config>,
}

impl Administrator {
    async fn carry_out(&self, request: Request) -> Result<Answer> {
        let done = Answer::Names(Vec::new());
        match request {
            Request::Connect => Ok(done),
            Request::Databases => {
                let account = self.account.driver.account().clone();
                self.names("the databases", || {
                    CosmosOperation::read_all_databases(account.clone())
                })
                .await
                .map(Answer::Names)
            }
            Request::Database { database } => {
                let what = format!("database '{database}'");
                let read = || CosmosOperation::read_database(self.database(&database));
                self.ask(&what, any, read, self.options()).await?;
                Ok(Answer::Names(vec![database]))
            }
            Request::Containers { database } => {
                let what = format!("the containers of database '{database}'");
                let read = || CosmosOperation::read_all_containers(self.database(&database));
                self.names(&what, read).await.map(Answer::Names)
            }
            Request::Container {
                database,
                container,
                sample,
                rules,
            } => self
                .describe(&database, &container, sample, &rules)
                .await
                .map(Answer::Container),
            Request::CreateDatabase { database, throughput } => {
                let body = body(&NewDatabase { id: &database })?;
                let create = || {
                    CosmosOperation::create_database(self.driver_account())
                        .with_body(body.clone())
                        .with_request_headers(headers(throughput))
                };
                let what = format!("database '{database}'");
                match self.ask(&what, refused, create, self.options()).await {
                    // An attempt was lost, and it is there: a database is nothing but its name.
                    Err(e) if e.next != Next::Compare => Err(e),
                    _ => Ok(done),
                }
            }
            Request::CreateContainer {
                database,
                container,
                keys,
                default_ttl,
                throughput,
            } => {
                let body = body(&NewContainer {
                    id: &container,
                    partition_key: NewKeys {
                        paths: &keys,
                        kind: if keys.len() > 1 { "MultiHash" } else { "Hash" },
                        version: 2,
                    },
                    default_ttl: Some(default_ttl).filter(|ttl| *ttl != 0),
                })?;
                let create = || {
                    CosmosOperation::create_container(self.database(&database))
                        .with_body(body.clone())
                        .with_request_headers(headers(throughput))
                };
                let what = format!("container '{container}' of database '{database}'");
                let created = match self.ask(&what, refused, create, self.options()).await {
                    // An attempt was lost, and there is one: ours, if it is the one that was to be created.
                    Err(e) if e.next == Next::Compare => {
                        let (found, _) = self.definition(&database, &container).await?;
                        if found.partition_key.paths != keys || found.default_ttl.unwrap_or(0) != default_ttl
                        {
                            return Err(e);
                        }
                        found
                    }
                    Err(e) => return Err(e),
                    Ok(response) => match defined(response) {
                        Some(created) => created,
                        // It is there, whatever was said of it.
                        None => self.definition(&database, &container).await?.0,
                    },
                };
                Ok(Answer::Names(vec![created.rid]))
            }
            Request::DropDatabase { database } => {
                let delete = || CosmosOperation::delete_database(self.database(&database));
                let what = format!("database '{database}'");
                gone(self.ask(&what, refused, delete, self.options()).await).map(|()| done)
            }
            Request::DropContainer { database, container } => {
                let what = format!("container '{container}' of database '{database}'");
                let found = self.look_up(&what, &container).await?;
                let delete = || CosmosOperation::delete_container(found.clone());
                gone(self.ask(&what, refused, delete, self.options()).await).map(|()| done)
            }
        }
    }

    /// A container as the driver wants it.
    async fn look_up(&self, what: &str, container: &str) -> Result<ContainerReference> {
        let config = &self.config;
        let look_up = || within(config.request_timeout, self.account.container(config, container));
        again(config, what, any, look_up).await.map_err(|e| match e.kind {
            // Without the advice for a job.
            Kind::NotFound => CoreError {
                message: format!("{what} does not exist"),
                ..e
            },
            _ => e,
        })
    }

    fn driver_account(&self) -> azure_data_cosmos_driver::models::AccountReference {
        self.account.driver.account().clone()
    }

    fn database(&self, name: &str) -> DatabaseReference {
        DatabaseReference::from_name(self.driver_account(), name.to_owned())
    }

    /// Of all requests. What was created the service says in its answer.
    fn options(&self) -> OperationOptions {
        let mut options = read_options(&self.config);
        options.content_response_on_write = Some(ContentResponseOnWrite::Enabled);
        options
    }

    /// One request with one answer.
    async fn ask(
        &self,
        what: &str,
        repeatable: Repeatable,
        operation: impl Fn() -> CosmosOperation,
        options: OperationOptions,
    ) -> Result<CosmosResponse> {
        let attempt = || async {
            let begun = Instant::now();
            self.account
                .driver
                .execute_singleton_operation(operation(), options.clone())
                .await
                .map_err(|e| self.account.judged(failed(&e), begun))
        };
        again(&self.config, what, repeatable, attempt)
            .await
            .map_err(|e| e.while_doing(what))
    }

    /// Names, page by page. A page that failed is asked for again, not those in front of it: the driver leaves a plan as it was.
    async fn names(&self, what: &str, operation: impl Fn() -> CosmosOperation) -> Result<Vec<String>> {
        let reading = tokio::sync::Mutex::new((None, Vec::new()));
        let attempt = || async {
            let mut reading = reading.lock().await;
            let (plan, names) = &mut *reading;
            let begun = Instant::now();
            let judged = |e: CosmosError| self.account.judged(failed(&e), begun);
            let (driver, options) = (&self.account.driver, self.options());
            if plan.is_none() {
                let planned = driver
                    .plan_operation(operation(), &options, None, &plan_options())
                    .await;
                *plan = Some(planned.map_err(judged)?);
            }
            let Some(plan) = plan else {
                return Ok(());
            };
            while let Some(page) = driver
                .execute_plan(plan, None, options.clone())
                .await
                .map_err(judged)?
            {
                let items = match page.into_body() {
                    ResponseBody::NoPayload => continue,
                    ResponseBody::Bytes(body) => serde_json::from_slice::<Page>(&body).map(|page| page.items),
                    ResponseBody::Items(items) => {
                        items.iter().map(|item| serde_json::from_slice(item)).collect()
                    }
                };
                let items: Vec<Named> = items.map_err(|e| unreadable(what, e))?;
                names.extend(items.into_iter().map(|item| item.id));
            }
            Ok(())
        };
        again(&self.config, what, any, attempt)
            .await
            .map_err(|e| e.while_doing(what))?;
        let (_, mut names) = reading.into_inner();
        names.sort();
        Ok(names)
    }

    /// A container's definition, and what the service says of its use.
    async fn definition(&self, database: &str, container: &str) -> Result<(Definition, String)> {
        let what = format!("container '{container}' of database '{database}'");
        let mut options = self.options();
        options.custom_headers = Some(HashMap::from([(
            HeaderName::from_static(USAGE),
            HeaderValue::from_static("true"),
        )]));
        let read = || CosmosOperation::read_container_by_name(self.database(database), container.to_owned());
        let response = self.ask(&what, any, read, options).await?;
        let usage = response.headers().resource_usage.clone().unwrap_or_default();
        let body = response.into_body().single().map_err(|e| failed(&e))?;
        let definition = serde_json::from_slice(&body).map_err(|e| unreadable(&what, e))?;
        Ok((definition, usage))
    }

    async fn describe(
        &self,
        database: &str,
        container: &str,
        sample: u32,
        rules: &Rules,
    ) -> Result<Container> {
        let what = format!("container '{container}' of database '{database}'");
        let (definition, usage) = self.definition(database, container).await?;
        let paths = KeyPaths::new(&definition.partition_key.paths);
        let (mut documents, mut sampled) = (Documents::default(), 0);
        if sample > 0 {
            (documents, sampled) = self
                .sample(&what, container, &paths, sample)
                .await
                .map_err(|e| e.while_doing(&what))?;
        }
        let table = match sample {
            0 => Inferred::default(),
            _ => Inferred::new(&documents, &paths, rules),
        };
        Ok(Container {
            rid: definition.rid,
            default_ttl: definition.default_ttl.unwrap_or(0),
            documents: number(&usage, "documentsCount").unwrap_or(-1),
            // The service counts in KB.
            bytes: number(&usage, "documentsSize").map_or(-1, |size| size.saturating_mul(1024)),
            sampled,
            keys: paths.iter().map(<[String]>::to_vec).collect(),
            table,
        })
    }

    /// The newest documents of some physical partitions, and how many they are. Once there are some, a partition that does not answer is left
    /// out: that it is busy is no reason to know nothing of the container.
    async fn sample(
        &self,
        what: &str,
        container: &str,
        keys: &KeyPaths,
        size: u32,
    ) -> Result<(Documents, u32)> {
        let config = &self.config;
        let found = self.look_up(what, container).await?;
        let feed = DriverFeed::over(self.account.clone(), config.clone(), found);
        let ranges = again(config, "looking up partitions", any, || {
            within(config.request_timeout, feed.ranges(true))
        })
        .await?;
        let (mut known, mut count, mut bytes) = (Documents::default(), 0, 0);
        let chosen: Vec<_> = chosen(ranges.len()).map(|n| &ranges[n]).collect();
        let begun = Instant::now();
        for (n, (min, max)) in chosen.iter().enumerate() {
            // What one partition does not have is left for the others.
            let left = (chosen.len() - n) as u32;
            let most = (size - count).div_ceil(left);
            let most_bytes = (SAMPLE_BYTES - bytes) / u64::from(left);
            let is_late = count > 0 && begun.elapsed() > SAMPLING;
            if most == 0 || most_bytes == 0 || is_late {
                break;
            }
            let retry = |some: bool| match some || count > 0 {
                true => patience(config, SAMPLING.saturating_sub(begun.elapsed())),
                false => patience(config, Duration::MAX),
            };
            let (mut documents, mut read) = (0u32, 0u64);
            let ended = sample(&feed, (min, max), most, most_bytes, &retry, &mut |document| {
                read += document.len() as u64;
                // One that no JSON is says nothing.
                if known.add(document, keys).is_ok() {
                    documents += 1;
                }
            })
            .await;
            count += documents.min(most);
            bytes += read.min(most_bytes);
            match ended {
                Err(e) if count == 0 || !matches!(e.kind, Kind::Throttled | Kind::Transient) => {
                    return Err(e)
                }
                Err(e) => {
                    tracing::debug!(target: "cosmosflink::catalog", "a sample goes without the rest of a partition of {what}: {e}");
                }
                Ok(_) => {}
            }
        }
        Ok((known, count))
    }
}

/// An end that was answered as to a repetition was one.
fn gone(ended: Result<CosmosResponse>) -> Result<()> {
    match ended {
        Err(e) if e.next != Next::Done => Err(e),
        _ => Ok(()),
    }
}

/// Which of so many partitions documents are taken from.
fn chosen(partitions: usize) -> impl Iterator<Item = usize> {
    let most = partitions.min(PARTITIONS);
    (0..most).map(move |n| n * partitions / most)
}

fn body(definition: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(definition)
        .map_err(|e| CoreError::internal(format!("a definition cannot be written: {e}")))
}

fn headers(throughput: Throughput) -> CosmosRequestHeaders {
    let mut headers = CosmosRequestHeaders::new();
    let asked = |units: u32| Some(u64::from(units)).filter(|units| *units > 0);
    headers.offer_throughput = asked(throughput.manual);
    headers.offer_autopilot_settings = asked(throughput.autoscale).map(OfferAutoscaleSettings::new);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        let database = |name: &str| Request::Database {
            database: name.into(),
        };
        for name in ["a", "a b", "é", "-", "..a", &"x".repeat(255)] {
            check_names(&database(name)).unwrap();
        }
        for name in [
            "",
            " a",
            "a ",
            "a/b",
            "a\\b",
            "a#b",
            "a?b",
            "a\tb",
            "a\rb",
            "a\nb",
            "a\u{0}b",
            "a\u{85}b",
            ".",
            "..",
            &"x".repeat(256),
        ] {
            assert_eq!(
                check_names(&database(name)).unwrap_err().kind,
                Kind::NotFound,
                "{name}"
            );
            let create = Request::CreateDatabase {
                database: name.into(),
                throughput: Throughput::default(),
            };
            assert_eq!(check_names(&create).unwrap_err().kind, Kind::BadRequest, "{name}");
        }
    }

    #[test]
    fn what_is_used_is_found_in_the_services_list() {
        let usage = "functions=0;documentsSize=12; documentsCount=345;collectionSize=13;";
        assert_eq!(number(usage, "documentsCount"), Some(345));
        assert_eq!(number(usage, "documentsSize"), Some(12));
        assert_eq!(number(usage, "triggers"), None);
        assert_eq!(number("documentsCount=-1", "documentsCount"), None);
        assert_eq!(number("", "documentsCount"), None);
    }

    #[test]
    fn partitions_are_chosen_evenly() {
        assert_eq!(chosen(0).count(), 0);
        assert_eq!(chosen(3).collect::<Vec<_>>(), [0, 1, 2]);
        let of_many: Vec<_> = chosen(100).collect();
        assert_eq!((of_many.len(), of_many[0], of_many[31]), (32, 0, 96));
        assert!(of_many.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
