//! Requests of look-ups over the driver: a document by its address, or a query for several keys.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

use azure_core::Bytes;
use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, CosmosResponse, FeedRange, ItemReference, MaxItemCountHint,
    PartitionKeyDefinition, ResponseBody,
};
use azure_data_cosmos_driver::options::{OperationOptions, PlanOptions};
use azure_data_cosmos_driver::CosmosError;
use tokio::time::Instant;

use super::key::{Key, KeyShape, Query};
use super::machine::Request;
use super::rows::Reading;
use crate::account::{charge, read_options, Account};
use crate::clock::epoch_millis;
use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::metrics::{InFlight, Metrics};
use crate::page::Items;
use crate::partitions::{partition_ranges, MendRanges};
use crate::status::{Asked, Blame, Fate, Next};

/// The driver's sub-status for a query of which no part of its range can have a row.
const NO_RANGES: u32 = 20_302;

/// A container that is looked up in.
pub struct Wire {
    pub account: Arc<Account>,
    pub container: ContainerReference,
    options: OperationOptions,
    /// Partitions have moved since they were read.
    moved: AtomicBool,
}

/// What a request came to.
pub enum Answered {
    /// All is read.
    Whole,
    /// It has more rows than may be held.
    TooMuch,
}

impl Wire {
    pub fn new(account: Arc<Account>, config: &Config, container: ContainerReference) -> Self {
        Wire {
            options: read_options(config),
            account,
            container,
            moved: AtomicBool::new(false),
        }
    }

    pub fn key_definition(&self) -> &PartitionKeyDefinition {
        self.container.partition_key_definition()
    }

    /// Bounds of the physical partitions: as the driver knows them, unless one has moved.
    pub async fn ranges(&self) -> Result<Vec<(String, String)>> {
        let refresh = self.moved.swap(false, Relaxed);
        let ranges = partition_ranges(&self.account, &self.container, refresh).await;
        if ranges.is_err() && refresh {
            self.moved.store(true, Relaxed);
        }
        let bounds = |range: azure_data_cosmos_driver::models::partition_key_range::PartitionKeyRange| {
            (range.min_inclusive.to_hex(), range.max_exclusive.to_hex())
        };
        Ok(ranges?.into_iter().map(bounds).collect())
    }

    /// Asks once. `page` is how many documents a page may have; fewer are asked for where these were too many. `most` bounds the bytes of rows.
    pub async fn ask(
        &self,
        request: &Request<Key>,
        shape: &KeyShape,
        reading: &mut Reading<'_>,
        page: &AtomicU32,
        most: usize,
        metrics: &Metrics,
    ) -> Result<Answered> {
        let answered = match address(request) {
            Some(item) => self.point(item, reading, metrics).await,
            None => self.query(request, shape, reading, page, most, metrics).await,
        };
        if let Err(error) = &answered {
            match error.next {
                Next::Halve => page.store((page.load(Relaxed) / 2).max(1), Relaxed),
                Next::Reroute => self.moved.store(true, Relaxed),
                _ => {}
            }
        }
        answered
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
            // It is not there, and so no row.
            Err(error) if error.kind == Kind::NotFound && error.blame == Blame::Record => {}
            Err(error) => return Err(error),
        }
        Ok(Answered::Whole)
    }

    async fn query(
        &self,
        request: &Request<Key>,
        shape: &KeyShape,
        reading: &mut Reading<'_>,
        page: &AtomicU32,
        most: usize,
        metrics: &Metrics,
    ) -> Result<Answered> {
        let body = Query::of(shape, request.keys.iter().map(|key| &**key));
        metrics.bytes_sent.fetch_add(body.len() as u64, Relaxed);
        let limit = NonZeroU32::new(page.load(Relaxed)).unwrap_or(NonZeroU32::MIN);
        let operation = CosmosOperation::query_items(self.container.clone(), self.target(request)?)
            .with_body(body)
            .with_max_item_count(MaxItemCountHint::Limit(limit));
        let mend = MendRanges::unless_ended(&self.account, &self.container);
        let plan = self
            .account
            .driver
            .plan_operation(operation, &self.options, None, &PlanOptions::default())
            .await
            .map_err(|e| failed(&e, Asked::Feed));
        mend.ended(&plan);
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(error) if error.sub_status == NO_RANGES => return Ok(Answered::Whole),
            Err(error) => return Err(error),
        };
        let mut cost = 0.0;
        loop {
            let driver = &self.account.driver;
            let next = driver.execute_plan(&mut plan, Some(self.container.clone()), self.options.clone());
            let next = self.counted(Asked::Feed, metrics, next).await;
            let Some(response) = next.map_err(|e| e.behind(cost))? else {
                return Ok(Answered::Whole);
            };
            cost += charge(&response);
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
            reading.page(&items, epoch_millis()).map_err(|e| e.behind(cost))?;
            if reading.bytes() > most {
                return Ok(Answered::TooMuch);
            }
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

    /// A request, which is counted.
    async fn counted<F>(&self, asked: Asked, metrics: &Metrics, request: F) -> Result<Option<CosmosResponse>>
    where
        F: std::future::Future<Output = azure_data_cosmos_driver::Result<Option<CosmosResponse>>>,
    {
        let started = Instant::now();
        let in_flight = InFlight::new(metrics);
        let mend = MendRanges::unless_ended(&self.account, &self.container);
        let result = request.await.map_err(|e| failed(&e, asked));
        mend.ended(&result);
        drop(in_flight);
        match result {
            Ok(Some(response)) => {
                metrics.request(started.elapsed(), charge(&response));
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
