//! The change feed of a container, as the source and the discovery of its splits need it: its partitions, and the pages of a feed
//! range one after another. [`DriverFeed`] is the one of an account; a simulation brings its own.

mod driver;
mod looks;
mod query;
mod read_many;
mod sample;
mod session;
mod stop;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::driver::DriverFeed;
pub(crate) use self::sample::sample;
pub use self::stop::{Goal, Look, Reached, ReadTo, Stopping, Verdict};

use crate::bound::trimmed;
use crate::config::Config;
use crate::error::{CoreError, Result};
use crate::leases::takeover::Piece;
use crate::metrics::Metrics;
use crate::page::{Items, KeyPaths};
use crate::split::{Reads, Split};

/// A container, and what can be asked of it. Everything that waits may be given up at any point.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Resource id of the container: another one with the same name has another id.
    fn rid(&self) -> &str;

    /// Name of the container, for messages.
    fn name(&self) -> &str;

    /// Where the partition key of its documents is found.
    fn key_paths(&self) -> &KeyPaths;

    /// Bounds `[min, max)` of the physical partitions as hexadecimal text, in order: they cover the key space from the empty text to `FF`.
    /// Asked for anew with `refresh`, else as last known.
    ///
    /// # Errors
    /// Transient when they cannot be read now.
    async fn ranges(&self, refresh: bool) -> Result<Vec<(String, String)>>;

    /// A feed range cut into `parts` that have about as many keys each, in order; fewer where it cannot be cut.
    fn divided(&self, min: &str, max: &str, parts: usize) -> Vec<(String, String)> {
        divided(min, max, parts)
    }

    /// [`crate::split::fingerprint`] of the query, or of the list of keys, that is read by the options; `None` for the change feed.
    ///
    /// # Errors
    /// Config when the keys cannot be read.
    async fn fingerprint(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Asks for the container past every cache.
    ///
    /// # Errors
    /// NotFound when it is gone, State when another one has its name now, Auth when the credential is refused.
    async fn check(&self) -> Result<()>;

    /// Plans the reading of `split` from its position, in pages of at most `limit` documents.
    ///
    /// # Errors
    /// State when the position is that of another container, or damaged.
    async fn open(&self, split: &Split, limit: u32) -> Result<Box<dyn Pages>>;

    /// Takes the leases of the change feed processor that the options name, and gives the positions that they stand for. `seed` decides what
    /// chance decides.
    ///
    /// # Errors
    /// State when they must not be taken; Config where there are none to take.
    async fn take_leases(&self, _metrics: &Metrics, _seed: u64) -> Result<Vec<Piece>> {
        Err(CoreError::config(
            "there are no leases here; set scan.startup.mode to something else",
        ))
    }

    /// Looks the lease container up, where the options name one.
    ///
    /// # Errors
    /// NotFound when it is not there, Config when leases cannot be in it.
    async fn check_leases(&self) -> Result<()> {
        Ok(())
    }

    /// The same feed over another connection, where the secret that this one was opened with has been replaced since; `None` where it has not.
    ///
    /// # Errors
    /// Those of an opening.
    async fn renewed(&self) -> Result<Option<Arc<dyn Feed>>> {
        Ok(None)
    }
}

/// One feed range, read from a position on.
///
/// Where it has become several partitions it asks them in turn, one for each page, and stays with one that failed: it may be used
/// again after a failed request, and its last [`RawPage::ranges`] pages came from all of them.
#[async_trait]
pub trait Pages: Send {
    /// The next page; it has no records when there are no changes now. The request is counted in `metrics`.
    ///
    /// # Errors
    /// Those of a request; State when the container is another one than when the split was made.
    async fn next(&mut self, metrics: &Metrics) -> Result<RawPage>;

    /// Bounds `[min, max)` of the feed ranges that the split's own has become, in order and without a gap: one, or none, as long as it is read
    /// as a whole. Known from a position once it is opened, and after each page.
    fn parts(&self) -> &[(String, String)] {
        &[]
    }

    /// Whether the documents of the range come in the order of their times: those of partitions that were merged do not. False as well where
    /// that cannot be told now. What fails is counted in `metrics`.
    async fn in_order(&mut self, _metrics: &Metrics) -> bool {
        true
    }

    /// Whether a page was lost behind which this stands: then the feed must be opened again at the position before it.
    fn is_spent(&self) -> bool;
}

/// A page as it came: its items, and the position after it.
pub struct RawPage {
    /// Its documents, as the service sent them.
    pub items: Items,
    /// Bytes received.
    pub bytes: u64,
    /// The position after it.
    pub continuation: String,
    /// The service said that there is nothing new. An empty page without that may have moved the position on.
    pub unchanged: bool,
    /// It left the position where it was without saying so. To ask again at once is in vain, and yet there may be more.
    pub stands: bool,
    /// Tells the physical partition that answered from others, where the answer says which it is: numbers of writes are those of one partition.
    pub partition: Option<u64>,
    /// Number of the last write in the partition that answered, where the service gave it.
    pub lsn: Option<i64>,
    /// The same out of the session token of the answer: what estimators of other clients count with.
    pub session_lsn: Option<i64>,
    /// Request units that it cost, with the attempts before it.
    pub charge: f64,
    /// Up to which write the range that answered is read, where its ETag says so.
    pub position: Option<i64>,
    /// Feed ranges that are asked in turn, one for each page: several after a partition was split.
    pub ranges: usize,
    /// Where the position behind it stands to [`Split::stop`], where that is a position.
    pub reached: Reached,
    /// Nothing comes behind this page, ever.
    pub ended: bool,
}

/// Above all hashes of partition keys: their two highest bits are not used.
const TOP: u128 = 0x40 << 120;

/// A bound as the number that the first 128 bits of the hash make.
fn hash_of(bound: &str) -> Option<u128> {
    let digits: String = bound.chars().take(32).collect();
    u128::from_str_radix(&format!("{digits:0<32}"), 16)
        .ok()
        .map(|hash| hash.min(TOP))
}

/// A range of 128-bit hashes, of which hierarchical keys have one behind the other, cut into parts of the same size.
fn divided(min: &str, max: &str, parts: usize) -> Vec<(String, String)> {
    let whole = || vec![(min.to_owned(), max.to_owned())];
    let (Some(low), Some(high)) = (hash_of(min), hash_of(max)) else {
        return whole();
    };
    let step = high.saturating_sub(low) / parts.max(1) as u128;
    if step == 0 {
        return whole();
    }
    let mut bounds = vec![min.to_owned()];
    bounds.extend((1..parts as u128).map(|n| format!("{:032X}", low + n * step)));
    bounds.push(max.to_owned());
    bounds
        .windows(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

/// The error for state of a container that was deleted and created anew.
pub fn recreated(container: &str, in_state: &str, now: &str) -> CoreError {
    CoreError::state(format!(
        "container '{container}' was recreated (resource id {now}, the state has {in_state}); start the job without that state"
    ))
}

/// Whether a split of a state is one of this source.
///
/// # Errors
/// State when it is of another container, and those of [`Reads::check`].
pub fn belongs(split: &Split, feed: &dyn Feed, config: &Config) -> Result<()> {
    if split.container_rid != feed.rid() {
        return Err(recreated(feed.name(), &split.container_rid, feed.rid()));
    }
    Reads::of(config).check(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_hashes_is_cut_into_parts_of_the_same_size() {
        let bounds = |min: &str, max: &str, parts| {
            let parts = divided(min, max, parts);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].1, pair[1].0);
            }
            assert_eq!(
                (parts[0].0.as_str(), parts[parts.len() - 1].1.as_str()),
                (min, max)
            );
            assert!(parts.iter().all(|(min, max)| min < max), "{parts:?}");
            let inner = parts.iter().skip(1);
            inner
                .map(|(min, _)| min.trim_end_matches('0').to_owned())
                .collect::<Vec<_>>()
        };
        // Nothing is hashed to 40 and above.
        assert_eq!(bounds("", "FF", 4), ["1", "2", "3"]);
        assert_eq!(bounds("", "20000000000000000000000000000000", 2), ["1"]);
        assert_eq!(bounds("20", "FF", 2), ["3"]);
        assert_eq!(bounds("", "FF", 1), [""; 0]);
        // A boundary within one first key of a hierarchical one.
        let first = "0123456789ABCDEF0123456789ABCDEF";
        assert_eq!(bounds(&format!("{first}10"), &format!("{first}20"), 3), [""; 0]);
    }
}
