//! From a partition key to the physical partition that owns it.

use std::collections::HashMap;
use std::sync::Arc;

use azure_data_cosmos_driver::models::{FeedRange, PartitionKeyDefinition};

use crate::error::Result;

use super::operation::{canonical_key, Operation};
use super::partition::Partition;

/// Partition keys whose place is remembered. Beyond it the memory begins anew, since a job with that many keys
/// gains nothing from it.
const KEY_CACHE: usize = 65_536;

/// Bytes of partition keys whose place is remembered.
const KEY_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Where a partition key belongs.
#[derive(Clone)]
pub struct Place {
    /// Where the partition stands in the map.
    pub partition: usize,
    /// Hash of the key's canonical text, another one in each sink.
    pub hash: u64,
    /// The canonical text, where it differs from the one that was asked for.
    pub canonical: Option<Arc<str>>,
}

pub struct Router {
    definition: PartitionKeyDefinition,
    /// Partition key text to its place. Only ever asked for one key.
    places: HashMap<Box<[u8]>, Place>,
    /// Bytes of their texts.
    bytes: usize,
    /// Keeps the hashes from being known outside of the sink.
    seed: u64,
}

impl Router {
    pub fn new(definition: PartitionKeyDefinition, seed: u64) -> Self {
        Router {
            definition,
            places: HashMap::new(),
            bytes: 0,
            seed,
        }
    }

    /// Where an operation belongs among the partitions, which are in order of their bounds: the place, and the hash of its document.
    ///
    /// # Errors
    /// BadRequest when its partition key is none of this container.
    pub fn place(&mut self, op: &Operation, partitions: &[Partition]) -> Result<(Place, u64)> {
        let place = match self.places.get(op.partition_key()) {
            Some(place) => place.clone(),
            None => {
                let key = canonical_key(op.partition_key(), self.definition.paths())?;
                let range = FeedRange::for_partition(key.key, &self.definition);
                let after = partitions.partition_point(|p| &p.min <= range.min_inclusive());
                let bytes = op.partition_key().len() + key.text.len();
                let canonical = (key.text.as_bytes() != op.partition_key()).then(|| key.text.into());
                let place = Place {
                    partition: after.saturating_sub(1),
                    hash: key.hash ^ self.seed,
                    canonical,
                };
                if self.places.len() >= KEY_CACHE || self.bytes + bytes > KEY_CACHE_BYTES {
                    self.forget();
                }
                self.bytes += bytes;
                // A copy: a part of the frame would keep all of it.
                self.places.insert(op.partition_key().into(), place.clone());
                place
            }
        };
        let document = op.document_hash(place.hash);
        Ok((place, document))
    }

    /// The map is another one.
    pub fn forget(&mut self) {
        self.places.clear();
        self.bytes = 0;
    }
}
