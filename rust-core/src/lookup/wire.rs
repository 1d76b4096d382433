//! Requests of look-ups over the driver: a document by its address, or a query for several keys.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use azure_core::Bytes;
use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, CosmosResponse, FeedRange, ItemReference, MaxItemCountHint,
    PartitionKeyDefinition, ResponseBody,
};
use azure_data_cosmos_driver::options::OperationOptions;
use azure_data_cosmos_driver::{CosmosError, OperationPlan};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::key::{Key, KeyShape, Query};
use super::machine::Request;
use super::rows::Reading;
use crate::account::{charge, plan_options, read_options, Account};
use crate::clock::epoch_millis;
use crate::config::{Config, RetryConfig};
use crate::error::{CoreError, Kind, Result};
use crate::metrics::{InFlight, Metrics};
use crate::page::Items;
use crate::partitions::{partition_ranges, MendRanges};
use crate::retry::Attempts;
use crate::same::{is_same, same_container, Seen};
use crate::status::{Asked, Blame, Fate, Next};

/// The driver's sub-status for a query of which no part of its range can have a row.
const NO_RANGES: u32 = 20_302;

/// A container that is looked up in.
pub struct Wire {
    pub account: Arc<Account>,
    pub container: ContainerReference,
    config: Arc<Config>,
    options: OperationOptions,
    /// What the service said last of whether the container is there.
    seen: Arc<Seen>,
    /// Bounds of the physical partitions, as last known.
    ranges: Mutex<Arc<[(String, String)]>>,
    /// Wakes who keeps the partitions known.
    look: Notify,
}

/// Most documents in a page of a query.
const PAGE: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// What asking once came to.
pub enum Answered {
    /// A page is read, and there may be more.
    More,
    /// All is read.
    Whole,
    /// It has more rows than may be held.
    TooMuch,
}

/// How far the asking for the keys of a request has come.
pub struct Progress {
    /// The plan of the query, which knows what has been read of it; `None`: its first page comes next.
    plan: Option<OperationPlan>,
    /// How many documents a page may have; fewer are asked for where these were too many.
    page: NonZeroU32,
    /// Pages that are read, since it began or began anew.
    read: u64,
}

impl Progress {
    /// Nothing has been asked yet.
    pub fn new() -> Self {
        Progress {
            plan: None,
            page: PAGE,
            read: 0,
        }
    }

    /// Pages that are read, since it began or began anew.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// What is read is no good.
    fn begin_anew(&mut self, reading: &mut Reading<'_>) {
        (self.plan, self.read) = (None, 0);
        reading.begin_anew();
    }
}

impl Wire {
    pub fn new(account: Arc<Account>, config: &Arc<Config>, container: ContainerReference) -> Self {
        Wire {
            options: read_options(config),
            seen: account.seen(&container),
            account,
            container,
            config: config.clone(),
            ranges: Mutex::new(Arc::from([])),
            look: Notify::new(),
        }
    }

    pub fn key_definition(&self) -> &PartitionKeyDefinition {
        self.container.partition_key_definition()
    }

    /// Bounds of the physical partitions, as last known: empty where they never were.
    pub fn ranges(&self) -> Arc<[(String, String)]> {
        self.look.notify_one();
        self.ranges.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Looks at the partitions as the driver knows them.
    ///
    /// # Errors
    /// Those of a look-up; then it is known what was.
    pub async fn look_at_ranges(&self) -> Result<()> {
        let found = partition_ranges(&self.account, &self.container, false).await?;
        let bounds = found
            .iter()
            .map(|range| (range.min_inclusive.to_hex(), range.max_exclusive.to_hex()));
        *self.ranges.lock().unwrap_or_else(|e| e.into_inner()) = bounds.collect();
        Ok(())
    }

    /// Keeps the partitions known, without end: looks at them once they were used. Nobody waits for it, and the fewer looks there are the more
    /// of them fail. They are never asked for anew: requests of the whole account would wait for that, and the driver does so by itself for a
    /// query that goes to a partition which has moved. Whatever goes by its key alone needs none.
    pub async fn keep_ranges(&self, retry: &RetryConfig, metrics: &Metrics) {
        let mut failing: Option<Attempts> = None;
        loop {
            self.look.notified().await;
            let Err(error) = self.look_at_ranges().await else {
                failing = None;
                continue;
            };
            metrics.failure(&error);
            tracing::debug!(target: "cosmosflink::lookup", "the partitions are those that were known: {error}");
            let attempts = failing.get_or_insert_with(|| Attempts::new(retry));
            let wait = attempts.next(&error, Instant::now());
            tokio::time::sleep(wait.unwrap_or(retry.max_backoff)).await;
        }
    }

    /// Asks once, for a page of a query. `most` bounds the bytes of rows.
    ///
    /// Behind a failure the same can be asked for again with what has been read: the driver leaves a plan as it was. What has no plan any
    /// more begins anew.
    pub async fn ask(
        &self,
        request: &Request<Key>,
        shape: &KeyShape,
        reading: &mut Reading<'_>,
        progress: &mut Progress,
        most: usize,
        metrics: &Metrics,
    ) -> Result<Answered> {
        let answered = match address(request) {
            Some(item) => self.point(item, reading, metrics).await,
            None => self.query(request, shape, reading, progress, most, metrics).await,
        };
        let Err(error) = answered else {
            return answered;
        };
        if error.next == Next::Halve {
            // The size of its pages is part of a plan.
            progress.begin_anew(reading);
            if let Some(smaller) = NonZeroU32::new(progress.page.get() / 2) {
                // Another request, not the same again: none that was tried in vain.
                progress.page = smaller;
                metrics.failure(&error);
                metrics.retries.fetch_add(1, Relaxed);
                tracing::debug!(target: "cosmosflink::lookup", "pages of {smaller} documents after: {error}");
                return Ok(Answered::More);
            }
        }
        Err(error)
    }

    async fn point(&self, key: &Key, reading: &mut Reading<'_>, metrics: &Metrics) -> Result<Answered> {
        let (Some(id), Some(partition)) = (&key.id, &key.partition) else {
            return Err(CoreError::internal("a point read of a key without an address"));
        };
        metrics.point_reads.fetch_add(1, Relaxed);
        let item = ItemReference::from_name(&self.container, partition.clone(), id.clone());
        let operation = CosmosOperation::read_item(item);
        let driver = &self.account.driver;
        let request = async {
            let response = driver
                .execute_singleton_operation(operation, self.options.clone())
                .await;
            response.map(Some)
        };
        match self.counted(Asked::Read, metrics, request).await {
            Ok(response) => {
                let body = response.map(CosmosResponse::into_body);
                let body: Option<Bytes> = body
                    .map(ResponseBody::single)
                    .transpose()
                    .map_err(|e| failed(&e, Asked::Read))?;
                if let Some(body) = body {
                    metrics.bytes_received.fetch_add(body.len() as u64, Relaxed);
                    reading.document(&body, epoch_millis())?;
                }
            }
            // It is not there, and so no row; but some servers say of a missing container what they say of a missing document.
            Err(error) if error.kind == Kind::NotFound && error.blame == Blame::Record => {
                let (account, config) = (&self.account, &self.config);
                self.seen
                    .check(account, config, &self.container, Asked::Read)
                    .await?;
            }
            Err(error) => return Err(error),
        }
        Ok(Answered::Whole)
    }

    async fn query(
        &self,
        request: &Request<Key>,
        shape: &KeyShape,
        reading: &mut Reading<'_>,
        progress: &mut Progress,
        most: usize,
        metrics: &Metrics,
    ) -> Result<Answered> {
        // It is kept again only where it stands in front of the page that is asked for next. Whoever gives the request up, or refuses an
        // answer that has come, would else go on behind a page that nobody has read.
        let mut plan = match progress.plan.take() {
            Some(plan) => plan,
            None => {
                progress.begin_anew(reading);
                match self.plan(request, shape, progress.page, metrics).await? {
                    Some(plan) => plan,
                    None => return Ok(Answered::Whole),
                }
            }
        };
        let driver = &self.account.driver;
        let mut unanswered = true;
        let next = async {
            let options = self.options.clone();
            let next = driver.execute_plan(&mut plan, Some(self.container.clone()), options);
            let result = next.await;
            unanswered = result.is_err();
            result
        };
        let response = match self.counted(Asked::Query, metrics, next).await {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(Answered::Whole),
            Err(error) => {
                if unanswered {
                    progress.plan = Some(plan);
                }
                return Err(error);
            }
        };
        let items = match response.into_body() {
            ResponseBody::NoPayload => Items::None,
            ResponseBody::Items(items) => Items::Apart(items),
            ResponseBody::Bytes(body) => Items::Envelope(body),
        };
        let bytes = match &items {
            Items::Apart(items) => items.iter().map(Bytes::len).sum(),
            Items::Envelope(body) => body.len(),
            _ => 0,
        };
        metrics.bytes_received.fetch_add(bytes as u64, Relaxed);
        reading.page(&items, epoch_millis())?;
        progress.plan = Some(plan);
        progress.read += 1;
        Ok(match reading.bytes() > most {
            true => Answered::TooMuch,
            false => Answered::More,
        })
    }

    /// The plan of the query for the keys of a request; `None` where no document can have one.
    async fn plan(
        &self,
        request: &Request<Key>,
        shape: &KeyShape,
        page: NonZeroU32,
        metrics: &Metrics,
    ) -> Result<Option<OperationPlan>> {
        let body = Query::of(shape, request.keys.iter().map(|key| &**key));
        metrics.bytes_sent.fetch_add(body.len() as u64, Relaxed);
        let operation = CosmosOperation::query_items(self.container.clone(), self.target(request)?)
            .with_body(body)
            .with_max_item_count(MaxItemCountHint::Limit(page));
        let mend = MendRanges::unless_ended(&self.account, &self.container);
        let plan = self
            .account
            .driver
            .plan_operation(operation, &self.options, None, &plan_options())
            .await
            .map_err(|e| failed(&e, Asked::Query));
        mend.ended(&plan);
        match plan {
            Ok(plan) => Ok(Some(plan)),
            Err(error) if error.sub_status == NO_RANGES => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the query goes: to one partition key, to the physical partition of all of them, or to all.
    fn target(&self, request: &Request<Key>) -> Result<Option<FeedRange>> {
        let keys = &request.keys;
        let first = keys.first().and_then(|key| key.partition.as_ref());
        if let Some(partition) =
            first.filter(|first| keys.iter().all(|key| key.partition.as_ref() == Some(*first)))
        {
            return Ok(Some(FeedRange::for_partition(
                partition.clone(),
                self.key_definition(),
            )));
        }
        let Some((min, max)) = &request.range else {
            return Ok(None);
        };
        let bound = |text: &str| {
            EffectivePartitionKey::try_from(text)
                .map_err(|e| CoreError::internal(format!("'{text}' is no bound of a partition: {e}")))
        };
        FeedRange::new(bound(min)?, bound(max)?)
            .map(Some)
            .map_err(|e| CoreError::internal(format!("{min} to {max} is no range: {e}")))
    }

    /// A request, which is counted. What another container answers that has the name now is a failure.
    async fn counted<F>(&self, asked: Asked, metrics: &Metrics, request: F) -> Result<Option<CosmosResponse>>
    where
        F: std::future::Future<Output = azure_data_cosmos_driver::Result<Option<CosmosResponse>>>,
    {
        let same = || is_same(&self.account, &self.config, &self.container, asked);
        same().await?;
        let started = Instant::now();
        let in_flight = InFlight::new(metrics);
        let mend = MendRanges::unless_ended(&self.account, &self.container);
        let result = request.await.map_err(|e| failed(&e, asked));
        mend.ended(&result);
        drop(in_flight);
        match result {
            Ok(Some(response)) => {
                metrics.request(started.elapsed(), charge(&response));
                let response = same_container(response, asked)?;
                same().await?;
                Ok(Some(response))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                let error = self.account.judged(error, started);
                metrics.request(started.elapsed(), error.request_charge);
                Err(error)
            }
        }
    }
}

/// The one key of a request, where it is the address of a document.
pub fn address(request: &Request<Key>) -> Option<&Key> {
    match request.keys.as_slice() {
        [only] if only.id.is_some() => Some(only),
        _ => None,
    }
}

/// A failure of a request. Asking again is always safe.
fn failed(error: &CosmosError, asked: Asked) -> CoreError {
    CoreError::from_driver(error, asked, Fate::NotCarriedOut)
}
