//! What a run is made of: options, timed steps and faults. A plan runs the same way each time, and is what is shrunk and kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sink::SinkPlan;
use crate::source::SourcePlan;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides whatever the plan leaves open: latencies, which requests a fault hits, the core's own jitter.
    pub seed: u64,
    /// What the plan is there for, when it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    pub side: Side,
}

/// Which half of the core is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    Sink(SinkPlan),
    Source(SourcePlan),
}

/// Options of the core that differ from the defaults.
pub type Options = BTreeMap<String, String>;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Operations of one partition.
    Bulk,
    /// One operation.
    Point,
    /// A dead letter.
    Letter,
    /// The partitions.
    Ranges,
    /// Whether the container is there.
    Check,
    /// A position is opened.
    Open,
    /// A page of the feed.
    Page,
}

/// What goes wrong with some requests for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Names the fault, so that which requests it hits does not depend on the other faults of the plan.
    pub id: u32,
    pub on: Request,
    pub from_ms: u64,
    pub to_ms: u64,
    /// Of a thousand requests that it may hit.
    pub per_mille: u64,
    /// Only requests to this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    pub what: What,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// The answer takes so much longer.
    Slow { ms: u64 },
    /// Refused before anything was done.
    Refused {
        status: u16,
        sub: u32,
        retry_after_ms: Option<u64>,
    },
    /// Carried out, and answered as if it had failed.
    Lost { status: u16, sub: u32 },
    /// The first operations of a bulk request are carried out, and the answer is a failure.
    Prefix { status: u16, sub: u32 },
    /// The answer has fewer results than the request had operations, or is cut off.
    Short,
    /// Single operations of a bulk request are refused.
    Each {
        status: u16,
        sub: u32,
        retry_after_ms: Option<u64>,
    },
    /// Single operations of a bulk request are carried out, and answered as if they had failed.
    EachLost { status: u16, sub: u32 },
    /// The map of the partitions is the one from before the last split.
    Stale,
    /// A page without documents; its position has moved on as far as the documents that are left out allow.
    Empty,
    /// A replica that has not seen the last writes answers.
    Lag { writes: u64 },
    /// A page that is not what it should be.
    Broken,
}

impl What {
    /// Whether it ends a job by itself: no later attempt can be expected to go better.
    pub fn is_final(self) -> bool {
        match self {
            What::Refused { status, sub, .. } | What::Each { status, sub, .. } => {
                status == 401 && ![20401, 20402, 5006].contains(&sub)
                    || status == 403 && ![3, 1008].contains(&sub)
            }
            _ => false,
        }
    }
}

/// Numbers that follow from a seed.
pub type Random = fastrand::Rng;

/// One number from several: whether a fault hits a request, by which it does not matter what else is in the plan.
pub fn mix(parts: &[u64]) -> u64 {
    // The finalizer of SplitMix64, over a running sum.
    parts.iter().fold(0x9E37_79B9_7F4A_7C15, |state: u64, part| {
        let mut z = state
            .wrapping_add(*part)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Picks one.
pub fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.usize(0..from.len())]
}
