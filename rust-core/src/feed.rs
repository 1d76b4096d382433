//! One feed range of the change feed, page by page, over the driver; and the discovery of feed ranges.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use azure_core::base64;
use azure_data_cosmos_driver::models::{
    ChangeFeedStartFrom, ContainerReference, ContinuationToken, CosmosOperation, MaxItemCountHint,
    ResponseBody,
};
use azure_data_cosmos_driver::options::{OperationOptions, PlanOptions};
use azure_data_cosmos_driver::{CosmosError, OperationPlan};
use futures::{stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::account::{open_blocking, read_options, within, Account, MendRanges};
use crate::config::{Config, OnDecodeError, Start};
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::page::{build, Items, KeyPaths, PageHead};
use crate::retry::until_answered;
use crate::split::{uncovered, Split, SplitEntry};
use crate::status::{nothing_new, Asked, Fate};

/// A page as it came: its items, and the position after it.
pub struct RawPage {
    pub items: Items,
    /// Bytes received.
    pub bytes: u64,
    pub continuation: String,
    /// The service said that there is nothing new. An empty page without that may have moved the position on.
    pub unchanged: bool,
    /// Number of the last write in the partition that answered, where the service gave it.
    pub lsn: Option<i64>,
    /// Up to which write the range that answered is read, where its ETag says so.
    pub position: Option<i64>,
    /// Feed ranges that the cursor asks in turn, one for each page: several after a partition was split.
    pub ranges: usize,
}

/// In front of a continuation token of the driver's first version.
const TOKEN_PREFIX: &str = "c1.";

/// What is read in the driver's continuation token, behind its prefix JSON in base64url. All else in it is the driver's own affair, and so is
/// the meaning of a token that looks different.
#[derive(Deserialize)]
struct Token {
    /// Resource id of the container.
    rid: String,
    root: TokenRoot,
}

#[derive(Deserialize)]
struct TokenRoot {
    /// The feed ranges that have been asked at least once, in order and without overlap.
    #[serde(default)]
    active_tokens: Vec<TokenRange>,
}

#[derive(Deserialize)]
struct TokenRange {
    min_epk: String,
    max_epk: String,
}

impl Token {
    fn read(text: &str) -> Option<Token> {
        let json = base64::decode_url_safe(text.strip_prefix(TOKEN_PREFIX)?).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// How many ranges the feed range `[min, max)` is read in. A gap that was never asked is at least one.
    fn ranges(&self, min: &str, max: &str) -> usize {
        let (mut at, mut count) = (min, 0);
        for range in &self.root.active_tokens {
            count += 1 + usize::from(range.min_epk.as_str() > at);
            at = at.max(range.max_epk.as_str());
        }
        count + usize::from(at < max)
    }
}

/// Counts a request as in flight as long as it is held, however the request ends.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.requests_in_flight.fetch_add(1, Relaxed);
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.requests_in_flight.fetch_sub(1, Relaxed);
    }
}

/// Reads one feed range from a position on.
///
/// The driver asks the ranges of a partition that was split in turn, one for each page, and stays with a range that failed. So the
/// cursor may be used again after a failed request, and its last [`RawPage::ranges`] pages came from all of its ranges.
pub struct FeedCursor {
    account: Arc<Account>,
    container: ContainerReference,
    options: OperationOptions,
    plan: OperationPlan,
    name: String,
    min: String,
    max: String,
    /// The last position that is known.
    continuation: Option<String>,
    /// The plan stands behind a page that nobody got.
    spent: bool,
}

impl FeedCursor {
    /// Plans the reading of `split` from its position, in pages of at most `limit` documents.
    ///
    /// # Errors
    /// State when the position is that of another container, or damaged.
    pub async fn open(
        account: &Arc<Account>,
        container: &ContainerReference,
        config: &Config,
        split: &Split,
        limit: u32,
    ) -> Result<FeedCursor> {
        let start = match split.start {
            Start::Beginning => ChangeFeedStartFrom::Beginning,
            Start::Now => ChangeFeedStartFrom::Now,
            Start::PointInTime(ms) => ChangeFeedStartFrom::PointInTime(
                azure_core::time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).map_err(|e| {
                    CoreError::state(format!("start {ms} ms of a split is out of range: {e}"))
                })?,
            ),
        };
        if let Some(text) = split
            .continuation
            .as_deref()
            .filter(|text| text.starts_with(TOKEN_PREFIX))
        {
            let token = Token::read(text).ok_or_else(|| {
                CoreError::state(format!(
                    "the position of split {} is damaged; restore from another savepoint or start without state",
                    split.id()
                ))
            })?;
            if token.rid != container.rid() {
                return Err(recreated(&config.container, &token.rid, container.rid()));
            }
        }
        let limit =
            NonZeroU32::new(limit).ok_or_else(|| CoreError::config("source.page-size must not be 0"))?;
        let operation = CosmosOperation::change_feed(container.clone(), Some(split.feed_range()?))
            .with_change_feed_start(start)
            .with_max_item_count(MaxItemCountHint::Limit(limit));
        let options = read_options(config);
        let token = split.continuation.clone().map(ContinuationToken::from_string);
        let mend = MendRanges::unless_ended(account, container);
        let planned = account
            .driver
            .plan_operation(operation, &options, token.as_ref(), &PlanOptions::default())
            .await
            .map_err(failed);
        mend.ended(&planned);
        let plan = planned
            .map_err(|mut error| {
                if token.is_some() && error.kind == Kind::BadRequest {
                    // Nothing was asked but partition ranges: it is the position that the driver refuses.
                    error = CoreError::state(format!(
                        "the position of split {} does not fit container '{}': {error}; restore from another savepoint or start without state",
                        split.id(),
                        config.container
                    ));
                }
                error
            })?;
        Ok(FeedCursor {
            account: account.clone(),
            container: container.clone(),
            options,
            plan,
            name: config.container.clone(),
            min: split.min.clone(),
            max: split.max.clone(),
            continuation: split.continuation.clone(),
            spent: false,
        })
    }

    /// Whether a page was lost behind which the plan stands: then the feed must be read from the position before it, with another cursor.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// The next page; it has no records when there are no changes now.
    ///
    /// # Errors
    /// Those of a request; State when the container is another one than when the split was made.
    pub async fn next(&mut self, metrics: &Metrics) -> Result<RawPage> {
        if self.spent {
            return Err(CoreError::internal(
                "the feed was asked to go on behind a page that was lost",
            ));
        }
        let started = Instant::now();
        let result = {
            let _in_flight = InFlight::new(metrics);
            let mend = MendRanges::unless_ended(&self.account, &self.container);
            let result = self
                .account
                .driver
                .execute_plan(&mut self.plan, Some(self.container.clone()), self.options.clone())
                .await
                .map_err(failed);
            mend.ended(&result);
            result
        };
        let response = match result {
            Ok(Some(response)) => response,
            Ok(None) => return Err(CoreError::internal("the change feed ended, which it never does")),
            Err(error) => {
                let error = self.account.judged(error, started);
                metrics.request(started.elapsed(), error.request_charge);
                return Err(error);
            }
        };
        metrics.request(
            started.elapsed(),
            // With what the driver's own attempts before it cost.
            response.diagnostics_ref().total_request_charge().value(),
        );
        // The plan has moved on: until the position behind the page is known, a failure loses it.
        self.spent = true;
        let mut unchanged = nothing_new(u16::from(response.status().status_code()));
        let lsn = response.headers().lsn.and_then(|lsn| i64::try_from(lsn).ok());
        let etag = response.headers().etag.as_ref().map(ToString::to_string);
        let position = etag.and_then(|etag| etag.trim_matches('"').parse().ok());
        let (items, bytes) = match response.into_body() {
            ResponseBody::NoPayload => (Items::None, 0),
            ResponseBody::Items(items) => {
                let bytes = items.iter().map(|i| i.len() as u64).sum();
                (Items::Apart(items), bytes)
            }
            ResponseBody::Bytes(body) => {
                let bytes = body.len() as u64;
                (Items::Envelope(body), bytes)
            }
        };
        metrics.bytes_received.fetch_add(bytes, Relaxed);
        let continuation = self
            .plan
            .to_continuation_token()
            .map_err(failed)?
            .as_str()
            .to_owned();
        let token = Token::read(&continuation);
        if let Some(token) = token.as_ref().filter(|t| t.rid != self.container.rid()) {
            // A plan that has no position yet is carried over to the new container by the driver.
            return Err(recreated(&self.name, self.container.rid(), &token.rid));
        }
        // A page that leaves the position where it was is another way to say that there is nothing new.
        unchanged |= self.continuation.as_deref() == Some(&continuation);
        self.continuation = Some(continuation.clone());
        self.spent = false;
        Ok(RawPage {
            items,
            bytes,
            continuation,
            unchanged,
            lsn,
            position,
            ranges: token.map_or(1, |t| t.ranges(&self.min, &self.max)),
        })
    }
}

/// A failure of a feed request. Reading again is always safe.
fn failed(error: CosmosError) -> CoreError {
    CoreError::from_driver(&error, Asked::Feed, Fate::NotCarriedOut)
}

/// Finds the feed ranges of a container.
pub struct Enumerator {
    discovery: Arc<Discovery>,
    woken: Arc<Notify>,
    closed: CancellationToken,
}

struct Discovery {
    config: Arc<Config>,
    metrics: Metrics,
    /// Exchanged when the account's secret is: the enumerator lives as long as the job, and keys are rotated meanwhile.
    connection: Mutex<Connection>,
}

#[derive(Clone)]
struct Connection {
    account: Arc<Account>,
    container: ContainerReference,
}

impl Enumerator {
    /// [`Enumerator::connect`] from a thread that may block.
    pub fn open(config: Config) -> Result<Enumerator> {
        open_blocking(Self::connect(config))
    }

    /// Connects and looks the container up, so that a wrong key or name fails at once. Runs on the shared runtime.
    pub async fn connect(config: Config) -> Result<Enumerator> {
        let (account, config, container) = Account::open_with_container(config).await?;
        Ok(Enumerator {
            discovery: Arc::new(Discovery {
                config,
                metrics: Metrics::default(),
                connection: Mutex::new(Connection { account, container }),
            }),
            woken: Arc::default(),
            closed: CancellationToken::new(),
        })
    }

    pub fn metrics(&self) -> &Metrics {
        &self.discovery.metrics
    }

    /// Makes a waiting [`Enumerator::discover`] return with an error.
    pub fn wake_up(&self) {
        self.woken.notify_waiters();
    }

    /// Ends a discovery that is under way. Idempotent.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// New splits: one for each physical partition, as far as `known` does not cover its feed range. After a partition was
    /// split or merged nothing is new: the splits that cover it read on across the change.
    ///
    /// A start at Now is fixed here, by asking the service where now is: a failure before the first page then
    /// does not move it.
    ///
    /// A secret that is refused is read anew from its file, and used if it is another one.
    ///
    /// # Errors
    /// Closed; Transient after [`Enumerator::wake_up`]; State when the container is not the one that `known` belongs to.
    pub fn discover(&self, known: &[SplitEntry]) -> Result<Vec<SplitEntry>> {
        let (discovery, known) = (self.discovery.clone(), known.to_vec());
        let (closed, woken) = (self.closed.clone(), self.woken.clone().notified_owned());
        let runtime = discovery.connection().account.runtime.clone();
        let work = async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => Err(CoreError::closed()),
                () = woken => Err(CoreError::new(
                    Kind::Transient,
                    "the look for feed ranges was woken up before it had an answer; look again",
                )),
                found = discovery.run(&known) => found,
            }
        };
        // On a thread of the runtime: its stack is known to be deep enough.
        runtime
            .handle()
            .block_on(runtime.handle().spawn(work))
            .map_err(|e| CoreError::internal(format!("the look for feed ranges failed: {e}")))?
    }
}

impl Discovery {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn run(&self, known: &[SplitEntry]) -> Result<Vec<SplitEntry>> {
        let connection = self.connection().clone();
        let error = match self.run_with(&connection, known).await {
            Err(e) if e.kind == Kind::Auth => e,
            other => return other,
        };
        if !connection.account.is_outdated(&self.config).await? {
            return Err(error);
        }
        tracing::info!(target: "cosmosflink::source", "the secret of the account was refused and has changed: connecting with the new one");
        let (account, _, container) = Account::open_with_container((*self.config).clone()).await?;
        let fresh = Connection { account, container };
        *self.connection() = fresh.clone();
        self.run_with(&fresh, known).await
    }

    async fn run_with(&self, connection: &Connection, known: &[SplitEntry]) -> Result<Vec<SplitEntry>> {
        let Connection { account, container } = connection;
        let (config, metrics) = (&*self.config, &self.metrics);
        let rid = container.rid().to_owned();
        if let Some(foreign) = known.iter().find(|e| e.split.container_rid != rid) {
            return Err(recreated(&config.container, &foreign.split.container_rid, &rid));
        }
        // The driver answers a look-up of ranges that fails from its cache, or with nothing: a refused key or a container that is
        // gone would never show. This request does not pass through a cache.
        let check = || account.check_container(config, container);
        until_answered(&config.retry, metrics, "looking at the container", check).await?;
        let gaps = uncovered(known);
        let next = known.iter().map(|e| e.split.ordinal + 1).max().unwrap_or(0);
        let ranges = || within(config.request_timeout, account.partition_ranges(container, true));
        let ranges = until_answered(&config.retry, metrics, "looking for feed ranges", ranges).await?;
        let mut splits = Vec::new();
        for range in ranges {
            let (min, max) = (range.min_inclusive.to_hex(), range.max_exclusive.to_hex());
            for (low, high) in &gaps {
                let (min, max) = (min.as_str().max(low.as_str()), max.as_str().min(high.as_str()));
                if min < max {
                    splits.push(Split {
                        ordinal: next + splits.len() as u32,
                        container_rid: rid.clone(),
                        min: min.to_owned(),
                        max: max.to_owned(),
                        start: config.start,
                        continuation: None,
                    });
                }
            }
        }
        stream::iter(splits)
            .map(|split| fix_now(account, container, config, metrics, split))
            .buffered(config.max_concurrency)
            .try_collect()
            .await
    }
}

async fn fix_now(
    account: &Arc<Account>,
    container: &ContainerReference,
    config: &Config,
    metrics: &Metrics,
    mut split: Split,
) -> Result<SplitEntry> {
    let paths = KeyPaths::new(container.partition_key_definition().paths());
    let head = PageHead {
        split_id: "",
        split: &[],
        arrived_epoch_millis: 0,
    };
    while split.start == Start::Now && split.continuation.is_none() {
        // The partition may be split meanwhile. All of its ranges must have been asked on the same cursor: one that its position does not
        // name would look for now again when the position is read from.
        let ask = || async {
            let mut cursor = FeedCursor::open(account, container, config, &split, config.page_size).await?;
            let mut fixed = 0;
            loop {
                let page = cursor.next(metrics).await?;
                // Changes of this very moment come with the page; they are after now, so that it is not skipped but all is asked for
                // again: only an empty page fixes a position.
                if !page.unchanged && build(&head, &page.items, &paths, OnDecodeError::Raw)?.documents > 0 {
                    return Ok(None);
                }
                fixed += 1;
                if fixed >= page.ranges {
                    return Ok(Some(page.continuation));
                }
            }
        };
        split.continuation = until_answered(&config.retry, metrics, "asking where now is", ask).await?;
    }
    Ok(SplitEntry {
        split,
        assigned: false,
    })
}

/// The error for state of a container that was deleted and created anew.
pub fn recreated(container: &str, in_state: &str, now: &str) -> CoreError {
    CoreError::state(format!(
        "container '{container}' was recreated (resource id {now}, the state has {in_state}); start the job without that state"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(json: &str) -> Option<Token> {
        Token::read(&format!("c1.{}", base64::encode_url_safe(json)))
    }

    #[test]
    fn ranges_are_counted_with_those_that_were_never_asked() {
        let ranges = |list: &[(&str, &str)]| {
            let list: Vec<_> = list
                .iter()
                .map(|(a, b)| format!(r#"{{"min_epk":"{a}","max_epk":"{b}","server_continuation":"7"}}"#))
                .collect();
            let root = format!(
                r#"{{"kind":"unordered_merge","active_tokens":[{}]}}"#,
                list.join(",")
            );
            let json = format!(r#"{{"op":"ChangeFeed","rid":"r","root":{root}}}"#);
            token(&json).unwrap().ranges("10", "80")
        };
        assert_eq!(ranges(&[]), 1);
        assert_eq!(ranges(&[("10", "80")]), 1);
        assert_eq!(ranges(&[("10", "40"), ("40", "80")]), 2);
        assert_eq!(ranges(&[("10", "40")]), 2);
        assert_eq!(ranges(&[("20", "40"), ("60", "80")]), 4);
    }

    #[test]
    fn a_token_of_another_shape_is_left_to_the_driver() {
        let token = token(r#"{"op":"ChangeFeed","rid":"r","cfm":true,"root":{"kind":"request"}}"#).unwrap();
        assert_eq!((token.rid.as_str(), token.ranges("", "FF")), ("r", 1));
        for text in ["", "c1.", "c1.!", "c2.e30", "\"7\"", "c1.e30"] {
            assert!(Token::read(text).is_none(), "{text}");
        }
    }
}
