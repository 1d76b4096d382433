//! Some documents of a feed range, for what others of it look like.

use azure_data_cosmos_driver::models::CosmosOperation;

use super::driver::{at_most, items, DriverFeed, Plan};
use super::Feed;
use crate::config::{RetryConfig, Start};
use crate::error::{Kind, Result};
use crate::metrics::Metrics;
use crate::retry::{until_answered, Attempts};
use crate::split::{Mode, Split, Stop};

/// Most documents of one page: the next is only asked for where there is room for it.
const PAGE: u32 = 100;

/// The newest documents of `[min, max)`: at most `count`, and no more once they have `bytes`. Where the container has no index for that,
/// any. Gives their bytes.
///
/// Each request is tried again by itself, as `retry` says, who is told whether there are documents: what has been read is not read again.
///
/// # Errors
/// Those of a request; what came before it was taken.
pub async fn sample(
    feed: &DriverFeed,
    range: (&str, &str),
    count: u32,
    bytes: u64,
    retry: &(impl Fn(bool) -> RetryConfig + Sync),
    take: &mut (impl FnMut(&[u8]) + Send),
) -> Result<u64> {
    let newest = format!("SELECT TOP {count} * FROM c ORDER BY c._ts DESC");
    let mut taken = false;
    let mut noting = |document: &[u8]| {
        taken = true;
        take(document);
    };
    match answer(feed, range, &newest, bytes, retry, &mut noting).await {
        Err(error) if error.kind == Kind::BadRequest && !taken => {
            let some = format!("SELECT TOP {count} * FROM c");
            answer(feed, range, &some, bytes, retry, take).await
        }
        ended => ended,
    }
}

async fn answer(
    feed: &DriverFeed,
    (min, max): (&str, &str),
    query: &str,
    bytes: u64,
    retry: &(impl Fn(bool) -> RetryConfig + Sync),
    take: &mut (impl FnMut(&[u8]) + Send),
) -> Result<u64> {
    let split = Split {
        ordinal: 0,
        container_rid: feed.rid().to_owned(),
        min: min.to_owned(),
        max: max.to_owned(),
        mode: Mode::Query,
        start: Start::Beginning,
        continuation: None,
        stop: Stop::Never,
        then: None,
        fingerprint: None,
    };
    let operation = CosmosOperation::query_items(feed.container.clone(), Some(split.feed_range()?))
        .with_body(crate::sql::body(query))
        .with_max_item_count(at_most(PAGE)?);
    let (metrics, mut read) = (Metrics::default(), 0);
    let what = "reading a sample";
    let plan = || Plan::new(feed, operation.clone(), &split);
    let plan = until_answered(Attempts::new(&retry(false)), &metrics, what, plan).await?;
    // The driver leaves a plan as it was at a failure.
    let plan = tokio::sync::Mutex::new(plan);
    while read < bytes {
        let next = || async { plan.lock().await.next(&metrics).await };
        let attempts = Attempts::new(&retry(read > 0));
        let Some(response) = until_answered(attempts, &metrics, what, next).await? else {
            break;
        };
        let (page, _) = items(response, &metrics);
        page.each(&mut |document| {
            if read < bytes {
                read += document.len() as u64;
                take(document);
            }
        })?;
    }
    Ok(read)
}
