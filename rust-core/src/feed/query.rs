//! The answer to a query over the driver: a feed range of it, page by page, or all of it where it is one whole.

use async_trait::async_trait;
use azure_data_cosmos_driver::models::CosmosOperation;

use super::driver::{at_most, check_position, items, DriverFeed, Plan};
use super::stop::Reached;
use super::{Pages, RawPage};
use crate::account::charge;
use crate::error::{CoreError, Result};
use crate::metrics::Metrics;
use crate::page::Items;
use crate::split::Split;

/// The driver's sub-status for a query whose answer it has to hold as a whole, so that there are no positions in it.
const NO_POSITION: u32 = 20_124;

/// The driver's sub-status for a query of which no part of the split's range can have a row, as where it asks for one partition key.
const NO_RANGES: u32 = 20_302;

/// The position behind the last row. The driver has none there: behind the one page of an answer that it holds as a whole, what was read
/// would be read again.
const END: &str = "q1.end";

/// Plans the query of the options for a split, from its position on.
pub(super) async fn open(feed: &DriverFeed, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
    let query = feed.config.query.as_ref().ok_or_else(|| {
        CoreError::state(format!(
            "split {} is read by a query, but scan.query is not set; set the query that the state was written with",
            split.id()
        ))
    })?;
    check_position(split, &feed.container)?;
    let operation = CosmosOperation::query_items(feed.container.clone(), Some(split.feed_range()?))
        .with_body(query.body())
        .with_max_item_count(at_most(limit)?);
    let plan = match split.continuation.as_deref() {
        Some(END) => None,
        position => match Plan::new(feed, operation, split).await {
            Ok(plan) => Some(plan),
            Err(error) if error.sub_status == NO_RANGES && position.is_none() => None,
            Err(error) => return Err(error),
        },
    };
    Ok(Box::new(QueryPages {
        plan,
        position: split.continuation.clone(),
        spent: false,
    }))
}

struct QueryPages {
    /// None where there is nothing to read.
    plan: Option<Plan>,
    /// The last position that is known.
    position: Option<String>,
    /// The plan stands behind a page that nobody got.
    spent: bool,
}

#[async_trait]
impl Pages for QueryPages {
    fn is_spent(&self) -> bool {
        self.spent
    }

    async fn next(&mut self, metrics: &Metrics) -> Result<RawPage> {
        if self.spent {
            return Err(CoreError::internal(
                "the query was asked to go on behind a page that was lost",
            ));
        }
        let (mut bodies, mut bytes, mut cost) = (Vec::new(), 0, 0.0);
        loop {
            // The plan may hold rows of several ranges, and may lose them with a failure: until the position behind the page is known it is
            // good for nothing else.
            self.spent = true;
            let response = match &mut self.plan {
                Some(plan) => plan.next(metrics).await.map_err(|e| e.behind(cost))?,
                None => None,
            };
            let ended = response.is_none();
            if let Some(response) = response {
                cost += charge(&response);
                let (body, size) = items(response, metrics);
                bytes += size;
                bodies.push(body);
            }
            match self.plan.as_ref().filter(|_| !ended).map(Plan::position) {
                None => self.position = Some(END.to_owned()),
                Some(Ok(position)) => self.position = Some(position),
                // Its answer has no positions: it is one page, so that no checkpoint falls into it.
                Some(Err(error)) if error.sub_status == NO_POSITION => continue,
                Some(Err(error)) => return Err(error.behind(cost)),
            }
            self.spent = false;
            return Ok(RawPage {
                items: Items::Rows(bodies),
                bytes,
                continuation: self.position.clone().unwrap_or_default(),
                unchanged: false,
                stands: false,
                partition: None,
                lsn: None,
                session_lsn: None,
                charge: cost,
                position: None,
                ranges: 1,
                reached: Reached::NotYet,
                ended,
            });
        }
    }
}
