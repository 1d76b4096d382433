//! Counters of one handle, as one METRICS frame.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{CoreError, Kind};
use crate::frame::{FrameKind, FrameWriter};

/// Number of latency buckets; bucket `i` counts requests of less than `2^i` microseconds.
pub const BUCKETS: usize = 32;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters, in the order in which they cross the boundary.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: AtomicU64,)*
            latency: [AtomicU64; BUCKETS],
        }

        impl Metrics {
            /// Number of plain counters, in front of the latency buckets.
            pub const COUNTERS: usize = [$(stringify!($name)),*].len();

            /// A consistent-enough snapshot: each counter is read once.
            pub fn snapshot(&self) -> Vec<u64> {
                let mut out = vec![$(self.$name.load(Relaxed)),*];
                out.extend(self.latency.iter().map(|b| b.load(Relaxed)));
                out
            }
        }
    };
}

metrics! {
    /// Requests answered or failed.
    requests,
    /// Request charge in thousandths of a request unit.
    request_charge_milli,
    /// Answers with status 429, of requests and of single operations in a bulk request.
    throttled,
    /// Attempts beyond the first.
    retries,
    bytes_received,
    bytes_sent,
    /// Bytes of pages, or of operations, that the handle holds.
    bytes_buffered,
    requests_in_flight,
    /// Records delivered (source) or operations completed well (sink).
    records,
    /// Operations that wait for their turn or for a retry.
    operations_waiting,
    failed,
    skipped,
    dead_lettered,
    /// Source: how far behind the feed the split that is furthest behind is.
    lag_millis,
    splits,
    splits_paused,
    bulk_requests,
    point_requests,
    /// Bulk requests that the service refused as a whole.
    bulk_refused,
    /// Physical partitions whose operations go one by one now, since the service does not take the bulk form.
    bulk_off,
    /// Documents that could not be decoded and were skipped or handed over raw.
    undecodable,
    /// How long the split, or the operation, that has been throttled or failing longest is held up, in milliseconds; 0 for none.
    held_millis,
}

impl Metrics {
    /// Counts one finished request.
    pub fn request(&self, took: Duration, request_charge: f64) {
        self.requests.fetch_add(1, Relaxed);
        self.charge(request_charge);
        let micros = took.as_micros() as u64;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.latency[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// Adds request units.
    pub fn charge(&self, request_units: f64) {
        self.request_charge_milli
            .fetch_add((request_units.max(0.0) * 1000.0).round() as u64, Relaxed);
    }

    /// Counts a failed attempt, whatever comes of it. What it cost is counted with its request.
    pub fn failure(&self, error: &CoreError) {
        if error.kind == Kind::Throttled {
            self.throttled.fetch_add(1, Relaxed);
        }
    }

    /// The snapshot as a METRICS frame.
    pub fn encode(&self) -> Vec<u8> {
        let values = self.snapshot();
        let mut w = FrameWriter::new(FrameKind::Metrics);
        w.u32(values.len() as u32);
        values.into_iter().for_each(|v| w.u64(v));
        w.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_boundary() {
        let m = Metrics::default();
        m.point_requests.store(7, Relaxed);
        m.request(Duration::from_micros(5), 1.25);
        let s = m.snapshot();
        assert_eq!(Metrics::COUNTERS, 22);
        assert_eq!(s.len(), Metrics::COUNTERS + BUCKETS);
        assert_eq!((s[0], s[1], s[17]), (1, 1250, 7));
        // 5 us: less than 2^3 and at least 2^2.
        assert_eq!(s[Metrics::COUNTERS + 3], 1);
        m.request(Duration::from_secs(1 << 40), 0.0);
        assert_eq!(m.snapshot()[Metrics::COUNTERS + BUCKETS - 1], 1);
    }
}
