//! The answer to a query over the driver: a feed range of it, page by page, or all of it where it is one whole.

use async_trait::async_trait;
use azure_data_cosmos_driver::models::CosmosOperation;

use super::driver::{at_most, charge, check_position, items, DriverFeed, Plan};
use super::stop::Reached;
use super::{Pages, RawPage};
use crate::error::{CoreError, Result};
use crate::metrics::Metrics;
use crate::page::Items;
use crate::split::Split;

/// The driver's sub-status for a query whose answer it has to hold as a whole, so that there are no positions in it.
const NO_POSITION: u32 = 20_124;

/// Plans the query of the options for a split, from its position on.
pub(super) async fn open(feed: &DriverFeed, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
    let query = feed.config.query.as_ref().ok_or_else(|| {
        CoreError::state(format!(
            "split {} is read by a query, but source.query is not set; set the query that the state was written with",
            split.id()
        ))
    })?;
    check_position(split, &feed.container)?;
    let operation = CosmosOperation::query_items(feed.container.clone(), Some(split.feed_range()?))
        .with_body(query.body())
        .with_max_item_count(at_most(limit)?);
    Ok(Box::new(QueryPages {
        plan: Plan::new(feed, operation, split).await?,
        position: split.continuation.clone(),
        spent: false,
    }))
}

struct QueryPages {
    plan: Plan,
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
            let response = self.plan.next(metrics).await?;
            // The plan has moved on: until the position behind the page is known, a failure loses it.
            self.spent = true;
            let ended = response.is_none();
            if let Some(response) = response {
                cost += charge(&response);
                let (body, size) = items(response, metrics);
                bytes += size;
                bodies.push(body);
            }
            if !ended {
                match self.plan.position() {
                    Ok(position) => self.position = Some(position),
                    // Its answer has no positions: it is one page, so that no checkpoint falls into it.
                    Err(error) if error.sub_status == NO_POSITION => continue,
                    Err(error) => return Err(error),
                }
            }
            self.spent = false;
            return Ok(RawPage {
                items: Items::Rows(bodies),
                bytes,
                continuation: self.position.clone().unwrap_or_default(),
                unchanged: false,
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
