//! The change feed over the driver.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::base64;
use azure_data_cosmos_driver::models::partition_key_range::PartitionKeyRange;
use azure_data_cosmos_driver::models::{
    ContainerReference, ContinuationToken, CosmosOperation, CosmosResponse, MaxItemCountHint,
    PartitionKeyVersion, ResponseBody,
};
use azure_data_cosmos_driver::options::OperationOptions;
use azure_data_cosmos_driver::{CosmosError, OperationPlan};
use serde::Deserialize;
use tokio::time::Instant;

use super::looks::Looks;
use super::session::{session_lsn, session_partition};
use super::stop::{is_end, Goal, Reached, ReadTo};
use super::{divided, query, read_many, recreated, trimmed, Feed, Pages, RawPage};
use crate::account::{charge, plan_options, read_options, within, Account};
use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::leases::acquire::acquire;
use crate::leases::store::LeaseStore;
use crate::leases::takeover::{Partition, Piece, Wanted};
use crate::leases::token::to_driver;
use crate::metrics::{InFlight, Metrics};
use crate::page::{Items, KeyPaths};
use crate::partitions::{partition_ranges, MendRanges};
use crate::split::{Mode, Split, Stop};
use crate::status::{nothing_new, Asked, Fate};

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
    /// An ETag: the number of a write in quotes.
    #[serde(default)]
    server_continuation: Option<String>,
}

impl Token {
    fn read(text: &str) -> Option<Token> {
        let json = base64::decode_url_safe(text.strip_prefix(TOKEN_PREFIX)?).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Its feed ranges, each with the last write that is read.
    fn read_to(&self) -> Vec<ReadTo> {
        let read = |range: &TokenRange| ReadTo {
            min: range.min_epk.clone(),
            max: range.max_epk.clone(),
            lsn: range.server_continuation.as_deref().and_then(write_number),
        };
        self.root.active_tokens.iter().map(read).collect()
    }

    /// The ranges that the feed range `[min, max)` is read in, in order. A gap that was never asked is one.
    fn parts(&self, min: &str, max: &str) -> Vec<(String, String)> {
        let mut parts = Vec::new();
        let mut part = |low: &str, high: &str| {
            if is_below(low, high) {
                parts.push((low.to_owned(), high.to_owned()));
            }
        };
        let mut at = min;
        for range in &self.root.active_tokens {
            let low = match range.min_epk.as_str().clamp(at, max) {
                low if is_below(at, low) => low,
                _ => at,
            };
            let high = range.max_epk.as_str().clamp(low, max);
            part(at, low);
            part(low, high);
            at = high;
        }
        part(at, max);
        parts
    }
}

/// The number of the write in an ETag of the change feed.
fn write_number(etag: &str) -> Option<i64> {
    etag.trim_matches('"').parse().ok()
}

/// Whether a bound is below another one.
fn is_below(a: &str, b: &str) -> bool {
    trimmed(a) < trimmed(b)
}

/// The feed of a container, over the connections of its account.
#[derive(Clone)]
pub struct DriverFeed {
    account: Arc<Account>,
    pub(super) container: ContainerReference,
    pub(super) config: Arc<Config>,
    paths: KeyPaths,
}

impl DriverFeed {
    /// Connects and looks the container up, so that a wrong key or name fails at once. Runs on the shared runtime.
    ///
    /// # Errors
    /// Those of [`Account::open_with_container`].
    pub async fn connect(config: Config) -> Result<DriverFeed> {
        let (account, config, container) = Account::open_with_container(config).await?;
        Ok(DriverFeed {
            paths: KeyPaths::new(container.partition_key_definition().paths()),
            account,
            container,
            config,
        })
    }

    /// The feed of a container that was looked up.
    pub(crate) fn over(
        account: Arc<Account>,
        config: Arc<Config>,
        container: ContainerReference,
    ) -> DriverFeed {
        DriverFeed {
            paths: KeyPaths::new(container.partition_key_definition().paths()),
            account,
            container,
            config,
        }
    }

    /// What it was opened with.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The leases that the options name, looked up; `None` where they name none.
    ///
    /// # Errors
    /// Those of [`LeaseStore::open`].
    pub async fn leases(&self) -> Result<Option<LeaseStore>> {
        match &self.config.leases {
            None => Ok(None),
            Some(leases) => LeaseStore::open(&self.account, &self.config, leases, &self.container)
                .await
                .map(Some),
        }
    }
}

/// # Errors
/// State for a position that is damaged, or that of another container.
pub(super) fn check_position(split: &Split, container: &ContainerReference) -> Result<()> {
    let text = split.continuation.as_deref();
    let Some(text) = text.filter(|text| text.starts_with(TOKEN_PREFIX)) else {
        return Ok(());
    };
    let token = Token::read(text).ok_or_else(|| {
        CoreError::state(format!(
            "the position of split {} is damaged; restore from another savepoint or start without state",
            split.id()
        ))
    })?;
    match token.rid == container.rid() {
        true => Ok(()),
        false => Err(recreated(container.name(), &token.rid, container.rid())),
    }
}

/// How many documents a page is to have at most.
pub(super) fn at_most(limit: u32) -> Result<MaxItemCountHint> {
    let limit = NonZeroU32::new(limit).ok_or_else(|| CoreError::config("scan.page-size must not be 0"))?;
    Ok(MaxItemCountHint::Limit(limit))
}

#[async_trait]
impl Feed for DriverFeed {
    fn rid(&self) -> &str {
        self.container.rid()
    }

    fn name(&self) -> &str {
        self.container.name()
    }

    fn key_paths(&self) -> &KeyPaths {
        &self.paths
    }

    async fn ranges(&self, refresh: bool) -> Result<Vec<(String, String)>> {
        Ok(bounds(
            &partition_ranges(&self.account, &self.container, refresh).await?,
        ))
    }

    fn divided(&self, min: &str, max: &str, parts: usize) -> Vec<(String, String)> {
        let definition = self.container.partition_key_definition();
        if parts > 1 && definition.version() == PartitionKeyVersion::V1 {
            tracing::warn!(
                target: "cosmosflink::source",
                "container '{}' has partition keys of version 1, whose hashes cannot be cut: it is read with a split for each physical partition, whatever scan.min-splits says",
                self.container.name()
            );
            return vec![(min.to_owned(), max.to_owned())];
        }
        divided(min, max, parts)
    }

    async fn fingerprint(&self) -> Result<Option<u64>> {
        match (&self.config.query, &self.config.read_many) {
            (Some(query), _) => Ok(Some(query.fingerprint())),
            (None, Some(from)) => read_many::fingerprint(self, from).await.map(Some),
            (None, None) => Ok(None),
        }
    }

    async fn check(&self) -> Result<()> {
        self.account.check_container(&self.config, &self.container).await
    }

    async fn open(&self, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
        match split.mode {
            Mode::Query => return query::open(self, split, limit).await,
            Mode::ReadMany => return read_many::open(self, split, limit).await,
            Mode::LatestVersion | Mode::AllVersionsAndDeletes => {}
        }
        let container = &self.container;
        let start = to_driver(split.start)?;
        check_position(split, container)?;
        let parts = split.continuation.as_deref().and_then(Token::read);
        let parts = parts.map_or_else(Vec::new, |token| token.parts(&split.min, &split.max));
        let range = Some(split.feed_range()?);
        let operation = match split.mode {
            Mode::AllVersionsAndDeletes => {
                CosmosOperation::change_feed_all_versions_and_deletes(container.clone(), range)
            }
            _ => CosmosOperation::change_feed(container.clone(), range),
        };
        let operation = operation
            .with_change_feed_start(start)
            .with_max_item_count(at_most(limit)?);
        let plan = Plan::new(self, operation, split).await?;
        Ok(Box::new(DriverPages {
            plan,
            min: split.min.clone(),
            max: split.max.clone(),
            continuation: split.continuation.clone(),
            parts,
            spent: false,
            goal: match &split.stop {
                Stop::At(text) => {
                    let stop = Token::read(text).map(|t| t.read_to()).unwrap_or_default();
                    Some(Goal::new(&split.min, &split.max, stop))
                }
                Stop::Never | Stop::Time(_) => None,
            },
            looks: Looks::new(&self.config.retry),
            mixed: false,
        }))
    }

    async fn take_leases(&self, metrics: &Metrics, seed: u64) -> Result<Vec<Piece>> {
        let store = self.leases().await?;
        let store = store.ok_or_else(|| CoreError::config("scan.lease.container is missing; name it"))?;
        let partitions = partition_ranges(&self.account, &self.container, true).await?;
        let partitions: Vec<Partition> = partitions
            .into_iter()
            .map(|range| Partition {
                min: range.min_inclusive.to_hex(),
                max: range.max_exclusive.to_hex(),
                parents: range.parents.unwrap_or_default(),
                id: range.id,
            })
            .collect();
        let leases = store.config();
        let wanted = Wanted {
            identity: leases.identity.clone(),
            container: self.container.name().to_owned(),
            rid: self.container.rid().to_owned(),
            prefix: leases.prefix.clone(),
            full_fidelity: self.config.mode == Mode::AllVersionsAndDeletes,
            null_start: leases.null_start,
            publish: leases.publish,
        };
        acquire(&store, &wanted, &partitions, &self.config.retry, seed, metrics).await
    }

    async fn check_leases(&self) -> Result<()> {
        self.leases().await.map(drop)
    }

    async fn renewed(&self) -> Result<Option<Arc<dyn Feed>>> {
        if !self.account.is_outdated(&self.config).await? {
            return Ok(None);
        }
        tracing::info!(target: "cosmosflink::source", "the secret of the account was refused and has changed: connecting with the new one");
        Ok(Some(Arc::new(Self::connect((*self.config).clone()).await?)))
    }
}

/// What the driver is to do for an operation, page by page.
pub(super) struct Plan {
    account: Arc<Account>,
    pub container: ContainerReference,
    options: OperationOptions,
    plan: OperationPlan,
    asked: Asked,
    /// Bounds a request for something else than pages.
    timeout: Duration,
}

impl Plan {
    /// Plans an operation from the position of its split on.
    ///
    /// # Errors
    /// State when the position does not fit.
    pub async fn new(feed: &DriverFeed, operation: CosmosOperation, split: &Split) -> Result<Plan> {
        let (account, container, config) = (&feed.account, &feed.container, &*feed.config);
        let options = read_options(config);
        let asked = asked(split);
        let token = split.continuation.clone().map(ContinuationToken::from_string);
        let mend = MendRanges::unless_ended(account, container);
        let planned = account
            .driver
            .plan_operation(operation, &options, token.as_ref(), &plan_options())
            .await
            .map_err(|e| failed(&e, asked));
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
        Ok(Plan {
            account: account.clone(),
            container: container.clone(),
            options,
            plan,
            asked,
            timeout: config.request_timeout,
        })
    }

    /// The next page; `None` behind the last one. The request is counted.
    pub async fn next(&mut self, metrics: &Metrics) -> Result<Option<CosmosResponse>> {
        let started = Instant::now();
        let result = {
            let _in_flight = InFlight::new(metrics);
            let mend = MendRanges::unless_ended(&self.account, &self.container);
            let result = self
                .account
                .driver
                .execute_plan(&mut self.plan, Some(self.container.clone()), self.options.clone())
                .await
                .map_err(|e| failed(&e, self.asked));
            mend.ended(&result);
            result
        };
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

    /// The position behind the last page.
    pub fn position(&self) -> Result<String> {
        Ok(self
            .plan
            .to_continuation_token()
            .map_err(|e| failed(&e, self.asked))?
            .as_str()
            .to_owned())
    }

    /// The physical partitions as they are now.
    pub fn partitions(&self) -> impl Future<Output = Result<Vec<PartitionKeyRange>>> + Send + 'static {
        let (account, container, timeout) = (self.account.clone(), self.container.clone(), self.timeout);
        async move { within(timeout, partition_ranges(&account, &container, true)).await }
    }
}

fn bounds(ranges: &[PartitionKeyRange]) -> Vec<(String, String)> {
    ranges
        .iter()
        .map(|range| (range.min_inclusive.to_hex(), range.max_exclusive.to_hex()))
        .collect()
}

/// Whether partitions may have been merged into one of these that has a part of `[min, max)`. A partition names all that it came from: one for
/// each time that it was split, and at least two where it was merged.
fn may_be_merged(min: &str, max: &str, ranges: &[PartitionKeyRange]) -> bool {
    let parts = ranges.iter().filter(|range| {
        is_below(&range.min_inclusive.to_hex(), max) && is_below(min, &range.max_exclusive.to_hex())
    });
    parts
        .filter_map(|range| range.parents.as_ref())
        .any(|parents| parents.len() > 1)
}

/// The items of a page and their bytes, which are counted.
pub(super) fn items(response: CosmosResponse, metrics: &Metrics) -> (Items, u64) {
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
    (items, bytes)
}

/// Reads one feed range over a plan of the driver, which asks the ranges of a partition that was split in turn.
struct DriverPages {
    plan: Plan,
    min: String,
    max: String,
    /// The last position that is known.
    continuation: Option<String>,
    /// What `[min, max)` is read in there.
    parts: Vec<(String, String)>,
    /// The plan stands behind a page that nobody got.
    spent: bool,
    /// The position at which the split ends.
    goal: Option<Goal>,
    looks: Looks,
    /// Partitions may have been merged, so that documents do not come in the order of their times.
    mixed: bool,
}

#[async_trait]
impl Pages for DriverPages {
    fn is_spent(&self) -> bool {
        self.spent
    }

    fn parts(&self) -> &[(String, String)] {
        &self.parts
    }

    async fn in_order(&mut self, metrics: &Metrics) -> bool {
        if self.mixed || !self.looks.are_due(true, Instant::now()) {
            return false;
        }
        match self.plan.partitions().await {
            Ok(partitions) => {
                self.looks.answered(Instant::now());
                self.mixed = may_be_merged(&self.min, &self.max, &partitions);
                !self.mixed
            }
            Err(error) => {
                metrics.failure(&error);
                self.looks.failed_for_now(&error, Instant::now());
                false
            }
        }
    }

    async fn next(&mut self, metrics: &Metrics) -> Result<RawPage> {
        if self.spent {
            return Err(CoreError::internal(
                "the feed was asked to go on behind a page that was lost",
            ));
        }
        let response = self
            .plan
            .next(metrics)
            .await?
            .ok_or_else(|| CoreError::internal("the change feed ended, which it never does"))?;
        // The plan has moved on: until the position behind the page is known, a failure loses it.
        self.spent = true;
        let unchanged = nothing_new(u16::from(response.status().status_code()));
        let lsn = response.headers().lsn.and_then(|lsn| i64::try_from(lsn).ok());
        let session = response.headers().session_token.as_ref();
        let session_lsn = session.and_then(|token| session_lsn(token.as_str()));
        let partition = session.and_then(|token| session_partition(token.as_str()));
        let charge = charge(&response);
        let etag = response.headers().etag.as_ref().map(ToString::to_string);
        let position = etag.as_deref().and_then(write_number);
        let (items, bytes) = items(response, metrics);
        let continuation = self.plan.position().map_err(|e| e.behind(charge))?;
        let token = Token::read(&continuation);
        if let Some(token) = token.as_ref().filter(|t| t.rid != self.plan.container.rid()) {
            // A plan that has no position yet is carried over to the new container by the driver.
            let (name, rid) = (self.plan.container.name(), self.plan.container.rid());
            return Err(recreated(name, rid, &token.rid).behind(charge));
        }
        let stands = !unchanged && self.continuation.as_deref() == Some(&continuation);
        self.continuation = Some(continuation.clone());
        self.parts = token
            .as_ref()
            .map_or_else(Vec::new, |token| token.parts(&self.min, &self.max));
        let mut read = token.as_ref().map(Token::read_to).unwrap_or_default();
        if let ([only], true) = (&mut read[..], unchanged) {
            // What is behind the last write that this server knows is not among what it was asked for.
            only.lsn = only.lsn.max(lsn);
        }
        let at_end = is_end(unchanged, position, lsn);
        let reached = self.reached(&read, at_end, metrics).await;
        let reached = reached.map_err(|e| e.behind(charge))?;
        self.spent = false;
        Ok(RawPage {
            items,
            bytes,
            continuation,
            unchanged,
            stands,
            partition,
            lsn,
            session_lsn,
            charge,
            position,
            ranges: self.parts.len().max(1),
            reached,
            ended: false,
        })
    }
}

/// What is asked for a split at its position.
fn asked(split: &Split) -> Asked {
    match (split.mode, &split.continuation) {
        (Mode::AllVersionsAndDeletes, None) => Asked::VersionsFromNow,
        (Mode::AllVersionsAndDeletes, Some(_)) => Asked::VersionsBehind,
        _ => Asked::Feed,
    }
}

impl DriverPages {
    /// Where the position stands to the stop. The partitions are looked up only where that decides something, and what is read meanwhile is not
    /// held up by a look-up that fails.
    async fn reached(&mut self, read: &[ReadTo], at_end: bool, metrics: &Metrics) -> Result<Reached> {
        let Some(goal) = &mut self.goal else {
            return Ok(Reached::NotYet);
        };
        if let Some(reached) = goal.reached(read, at_end) {
            return Ok(reached);
        }
        // Else it stands before the stop, and only a merge would make another thing of that.
        let ends = goal.reached(read, false).is_none();
        if !self.looks.are_due(ends, Instant::now()) {
            return Ok(match ends || self.looks.last_failed() {
                true => Reached::Unanswered,
                false => Reached::NotYet,
            });
        }
        match self.plan.partitions().await {
            Ok(partitions) => {
                self.looks.answered(Instant::now());
                Ok(goal.reached_in(read, &bounds(&partitions)))
            }
            Err(error) => {
                metrics.failure(&error);
                match self.looks.failed(error, Instant::now()) {
                    None => Ok(Reached::Unanswered),
                    Some(error) => Err(error),
                }
            }
        }
    }
}

/// A failure of a feed request. Reading again is always safe.
fn failed(error: &CosmosError, asked: Asked) -> CoreError {
    CoreError::from_driver(error, asked, Fate::NotCarriedOut)
}

#[cfg(test)]
mod tests {
    use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;

    use super::*;

    fn token(json: &str) -> Option<Token> {
        Token::read(&format!("c1.{}", base64::encode_url_safe(json)))
    }

    #[test]
    fn the_parts_of_a_range_are_those_of_its_token_and_what_was_never_asked() {
        let parts = |list: &[(&str, &str)]| {
            let list: Vec<_> = list
                .iter()
                .map(|(a, b)| format!(r#"{{"min_epk":"{a}","max_epk":"{b}","server_continuation":"7"}}"#))
                .collect();
            let root = format!(
                r#"{{"kind":"unordered_merge","active_tokens":[{}]}}"#,
                list.join(",")
            );
            let json = format!(r#"{{"op":"ChangeFeed","rid":"r","root":{root}}}"#);
            let bounds = token(&json).unwrap().parts("10", "80").into_iter();
            bounds
                .map(|(min, max)| format!("{min}-{max}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(&[]), ["10-80"]);
        assert_eq!(parts(&[("10", "80")]), ["10-80"]);
        assert_eq!(parts(&[("10", "40"), ("40", "80")]), ["10-40", "40-80"]);
        assert_eq!(parts(&[("10", "40")]), ["10-40", "40-80"]);
        assert_eq!(
            parts(&[("20", "40"), ("60", "80")]),
            ["10-20", "20-40", "40-60", "60-80"]
        );
        // The token of a parent, for one of its children.
        assert_eq!(parts(&[("", "40"), ("40", "FF")]), ["10-40", "40-80"]);
        assert_eq!(parts(&[("", "10"), ("10", "FF")]), ["10-80"]);
        assert_eq!(parts(&[("90", "FF")]), ["10-80"]);
        // Bounds may be written at full length.
        assert_eq!(parts(&[("1000", "40"), ("4000", "8000")]), ["10-40", "40-80"]);
    }

    #[test]
    fn a_partition_of_more_than_one_may_have_been_merged() {
        let partition = |min: &str, max: &str, parents: &[&str]| {
            let bound = |text: &str| EffectivePartitionKey::try_from(text).unwrap();
            let mut range = PartitionKeyRange::new("7".to_owned(), bound(min), bound(max));
            range.parents = Some(parents.iter().map(|id| (*id).to_owned()).collect());
            range
        };
        let may_be = |parents: &[&str]| {
            let partitions = [partition("", "80", parents), partition("80", "FF", &["1", "2"])];
            may_be_merged("", "40", &partitions)
        };
        assert!(!may_be(&[]));
        assert!(!may_be(&["0"]), "it was split");
        assert!(may_be(&["0", "3", "4"]));
    }

    #[test]
    fn a_token_of_another_shape_is_left_to_the_driver() {
        let token = token(r#"{"op":"ChangeFeed","rid":"r","cfm":true,"root":{"kind":"request"}}"#).unwrap();
        assert_eq!((token.rid.as_str(), token.parts("", "FF").len()), ("r", 1));
        for text in ["", "c1.", "c1.!", "c2.e30", "\"7\"", "c1.e30"] {
            assert!(Token::read(text).is_none(), "{text}");
        }
    }
}
