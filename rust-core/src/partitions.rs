//! The physical partitions of a container, as the driver keeps them, for what reads and what writes.

use azure_data_cosmos_driver::models::partition_key_range::PartitionKeyRange;
use azure_data_cosmos_driver::models::ContainerReference;

use crate::account::{ask_again, failed, Account};
use crate::error::{CoreError, Kind, Result};

/// The physical partitions of a container, in the order of their ranges; asked for anew with `refresh`, else as last known.
///
/// May be given up at any point. The look-up itself then goes on: dropped halfway it would leave an empty entry in
/// the driver's cache, on which the look-ups after it spin.
///
/// # Errors
/// Transient when they cannot be read now: the driver keeps the reason to itself.
pub async fn partition_ranges(
    account: &Account,
    container: &ContainerReference,
    refresh: bool,
) -> Result<Vec<PartitionKeyRange>> {
    // The driver alone: a task that held the account would keep its own runtime from ending.
    let (driver, container) = (account.driver.clone(), container.clone());
    let name = container.name().to_owned();
    let look_up = async move { driver.resolve_all_partition_key_ranges(&container, refresh).await };
    let ranges = account
        .runtime
        .handle()
        .spawn(look_up)
        .await
        .map_err(|e| CoreError::internal(format!("the look-up of partitions failed: {e}")))?
        .map_err(failed)?;
    ranges.ok_or_else(|| {
        ask_again(CoreError::new(
            Kind::Transient,
            format!("the physical partitions of container '{name}' cannot be read now"),
        ))
    })
}

/// Mends the driver's cache of partition ranges behind a call that did not end well.
///
/// Plans, their pages and writes look ranges up, with force after a partition was split. A look-up that is dropped halfway, by whoever closes or
/// wakes us or by a time-out of the driver's own, leaves an empty entry on which the forced look-ups of all jobs of the account spin. A
/// plain look-up fills such an entry, and asks nothing where there is none. That is cheaper than to let each request that is given up
/// run on in a task of its own, and covers the driver's time-outs as well. The task holds the driver alone: one that held the account
/// would keep its own runtime from ending.
pub struct MendRanges<'a> {
    account: &'a Account,
    container: &'a ContainerReference,
    needed: bool,
}

impl<'a> MendRanges<'a> {
    /// Must be made before the call, so that it is dropped behind it.
    pub fn unless_ended(account: &'a Account, container: &'a ContainerReference) -> Self {
        MendRanges {
            account,
            container,
            needed: true,
        }
    }

    /// The call ended. A failure that is not final may be a time-out of the driver's own; any other is an answer.
    pub fn ended<T>(mut self, result: &Result<T>) {
        self.needed = matches!(result, Err(e) if e.kind == Kind::Transient);
    }
}

impl Drop for MendRanges<'_> {
    fn drop(&mut self) {
        if !self.needed {
            return;
        }
        let (driver, container) = (self.account.driver.clone(), self.container.clone());
        self.account.runtime.handle().spawn(async move {
            // Who needs the ranges next hears of a failure.
            let _ = driver.resolve_all_partition_key_ranges(&container, false).await;
        });
    }
}
