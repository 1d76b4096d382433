//! Counters of one handle, and the table of what is shown of them.
//!
//! A metric is a row of the table below and the place that counts it: the row makes the counter, the METRIC_TABLE and METRICS frames, both
//! shims' gauges and `docs/metrics.md`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{CoreError, Kind};
use crate::frame::{FrameKind, FrameWriter};

/// Number of latency buckets; bucket `i` counts requests of less than `2^i` microseconds and at least `2^(i-1)`.
const BUCKETS: usize = 32;

/// Whose metric it is: bits, as in a METRIC_TABLE frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Of sources.
    pub const SOURCE: Roles = Roles(1);
    /// Of sinks.
    pub const SINK: Roles = Roles(2);
    /// Of both.
    pub const BOTH: Roles = Roles(Self::SOURCE.0 | Self::SINK.0);
    /// Of look-ups.
    pub const LOOKUP: Roles = Roles(8);
    /// Of what reads documents.
    pub const READERS: Roles = Roles(Self::SOURCE.0 | Self::LOOKUP.0);
    /// Of all.
    pub const ALL: Roles = Roles(Self::BOTH.0 | Self::LOOKUP.0);
    /// Of sources, under a name that Flink itself has for it: not among the connector's gauges, where a reader of metrics that looks for
    /// the end of a name would count it twice.
    pub const FLINK_SOURCE: Roles = Roles(4);

    /// The bits: 1 source, 2 sink, 4 Flink's own of a source, 8 look-ups.
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// What a metric shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// A number with decimals.
    Decimal(f64),
}

/// How a row finds its value.
#[derive(Clone, Copy)]
enum Read {
    Whole(fn(&Metrics) -> &AtomicU64),
    /// The counter is in thousandths of the unit.
    Thousandths(fn(&Metrics) -> &AtomicU64),
    /// Upper bound, in milliseconds, of the latency that this part of all requests kept.
    Latency(f64),
}

/// How far one split is behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitLag {
    /// The split's id.
    pub id: String,
    /// `lagSeconds` of this split alone, in milliseconds.
    pub lag_millis: u64,
    /// `pendingRecords` of this split alone.
    pub records: u64,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Name of the gauge, in Flink's group `cosmosdb`.
    pub name: &'static str,
    /// In words or as a symbol, for people.
    pub unit: &'static str,
    /// Whose it is.
    pub roles: Roles,
    /// One or two sentences.
    pub meaning: &'static str,
    read: Read,
}

impl Metric {
    /// Whether its value has decimals.
    pub fn is_decimal(&self) -> bool {
        !matches!(self.read, Read::Whole(_))
    }

    /// Its value now.
    pub fn value(&self, metrics: &Metrics) -> Value {
        match self.read {
            Read::Whole(counter) => Value::Whole(counter(metrics).load(Relaxed)),
            Read::Thousandths(counter) => Value::Decimal(counter(metrics).load(Relaxed) as f64 / 1000.0),
            Read::Latency(part) => Value::Decimal(metrics.latency_millis(part)),
        }
    }
}

macro_rules! metrics {
    (
        $($counter:ident: $form:ident, $name:literal, $unit:literal, $roles:ident, $meaning:literal;)*
        --
        $($computed:ident($argument:expr), $computed_name:literal, $computed_unit:literal, $computed_roles:ident, $computed_meaning:literal;)*
    ) => {
        /// The counters of one handle.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $meaning] pub $counter: AtomicU64,)*
            /// Records delivered (source) or operations carried out (sink). Not a row: Flink counts them itself.
            pub records: AtomicU64,
            /// What shows of each split of a source. Not rows: there are as many as there are splits.
            pub splits_read: Mutex<Vec<SplitLag>>,
            latency: [AtomicU64; BUCKETS],
        }

        /// Every metric, in the order in which they cross the boundary.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: $name,
                unit: $unit,
                roles: Roles::$roles,
                meaning: $meaning,
                read: Read::$form(|m| &m.$counter),
            },)*
            $(Metric {
                name: $computed_name,
                unit: $computed_unit,
                roles: Roles::$computed_roles,
                meaning: $computed_meaning,
                read: Read::$computed($argument),
            },)*
        ];
    };
}

metrics! {
    requests: Whole, "requests", "requests", ALL,
        "Requests that were answered or have failed. A bulk request is one.";
    request_charge_milli: Thousandths, "requestUnits", "RU", ALL,
        "Request units that the service charged.";
    throttled: Whole, "throttled", "answers", ALL,
        "Answers with status 429, of requests and of single operations in a bulk request. A request that is throttled as a whole counts once.";
    retries: Whole, "retries", "attempts", ALL,
        "Attempts beyond the first. A request that is sent again as a whole counts once.";
    bytes_received: Whole, "bytesReceived", "bytes", ALL,
        "Bytes of the service's answers.";
    bytes_sent: Whole, "bytesSent", "bytes", ALL,
        "Bytes of the requests.";
    bytes_buffered: Whole, "bufferedBytes", "bytes", ALL,
        "Bytes that the core holds now: pages that were read ahead, or operations that have not ended.";
    requests_in_flight: Whole, "requestsInFlight", "requests", ALL,
        "Requests under way now.";
    held_millis: Whole, "heldMillis", "ms", ALL,
        "How long the split or operation that has been throttled or failing longest has been held up; 0 when none is. Records that wait for their dead letters count from their refusal on.";
    lag_millis: Thousandths, "lagSeconds", "s", SOURCE,
        "How far the split that is furthest behind is behind the feed: now minus the time up to which it is known to be read. Pages that wait for the job are not read yet. Before the first page it counts from when the split was added, or from the point in time that it starts from. 0 while all have been read to their end, none is late for its next look and no page has waited for a second.";
    pending_records: Whole, "pendingRecords", "records", FLINK_SOURCE,
        "Estimate of the documents that the job has not got yet: the writes that the service has behind the reader's position, by the numbers (LSNs) of its last answers, and the documents that wait in the core. 0 while the feed is read to its end. A number stands for a transaction of the physical partition: changes that are replaced before they are read count, and where several splits read parts of one partition, as they do before and behind a merge, each counts all that is written to it.";
    pending_bytes: Whole, "pendingBytes", "bytes", FLINK_SOURCE,
        "Estimate of the bytes of those documents: the service's share by the mean size of the documents read so far, with what the core adds to each, as in `numBytesIn`; 0 of it before the first document.";
    budget_millis: Whole, "budgetMillis", "ms", BOTH,
        "Time that requests have waited for `scan.request-units-per-second` or `sink.request-units-per-second`, all together.";
    splits: Whole, "splits", "splits", SOURCE,
        "Splits that the reader has.";
    splits_paused: Whole, "splitsPaused", "splits", SOURCE,
        "Splits that watermark alignment holds back now.";
    undecodable: Whole, "undecodable", "documents", READERS,
        "Documents that could not be decoded, by the core or by the job's deserializer, and were left out or handed over raw.";
    nulled: Whole, "nulledFields", "values", READERS,
        "Values that did not fit the type of their column and became null, as `json.on-error` `null-field` asks. Rows that `skip-row` leaves out are among `undecodable`.";
    filtered: Whole, "filteredDocuments", "documents", SOURCE,
        "Documents that were read, and whose rows the filter of a table did not let pass. They are not among the records.";
    leases_held: Whole, "leasesHeld", "leases", SOURCE,
        "Leases that the reader holds, as which its progress is published (`scan.lease.container`).";
    lease_requests: Whole, "leaseRequests", "requests", SOURCE,
        "Requests to the lease container; they are not among `requests`.";
    lease_failures: Whole, "leaseFailures", "rounds", SOURCE,
        "Rounds of requests to the lease container that ended with an error, and were begun again. Progress is published late meanwhile, and the job goes on.";
    operations_waiting: Whole, "operationsWaiting", "operations", SINK,
        "Operations that wait now: for their turn or for their next attempt.";
    failed: Whole, "failed", "operations", SINK,
        "Operations that have failed the job.";
    skipped: Whole, "skipped", "operations", SINK,
        "Operations that have failed and were left out, as `sink.failure-mode` `skip` asks.";
    dead_lettered: Whole, "deadLettered", "operations", SINK,
        "Operations that have failed and are in the dead-letter container.";
    superseded: Whole, "superseded", "operations", SINK,
        "Operations that count as done and changed nothing, since their strategy leaves the document as it is: it exists already, was changed since its ETag, is gone, or a patch's condition does not hold.";
    bulk_requests: Whole, "bulkRequests", "requests", SINK,
        "Bulk requests.";
    point_requests: Whole, "pointRequests", "requests", SINK,
        "Requests for one operation alone, those for dead letters among them.";
    bulk_refused: Whole, "bulkRefused", "requests", SINK,
        "Bulk requests that the service refused as a whole.";
    bulk_off: Whole, "bulkOff", "partitions", SINK,
        "Physical partitions whose operations go one by one now, since the service does not take the bulk form.";
    partitions_slowed: Whole, "partitionsSlowed", "partitions", SINK,
        "Physical partitions that are asked for less now than the options allow, since they throttle, or answer far slower than before.";
    partitions_held: Whole, "partitionsHeld", "partitions", SINK,
        "Physical partitions with operations that have failed and are tried again, throttled ones among them. The log of a flush that takes long names them.";
    keys_asked: Whole, "keysAsked", "keys", LOOKUP,
        "Keys that rows of the job were looked up by. A cache of Flink's asks for those that it does not have.";
    keys_sent: Whole, "keysSent", "keys", LOOKUP,
        "Keys that the service was asked for: one that several rows wait for counts once, and one that is null or equals nothing not at all.";
    point_reads: Whole, "pointReads", "requests", LOOKUP,
        "Requests for one document by its id and partition key. All others are queries, for one key or for several.";
    rows_found: Whole, "rowsFound", "rows", LOOKUP,
        "Rows that have a key that was asked for.";
    --
    Latency(0.5), "requestLatencyP50Ms", "ms", ALL,
        "Latency that half of the requests kept: an upper bound, of which the true value is at least half. 0 before the first request.";
    Latency(0.99), "requestLatencyP99Ms", "ms", ALL,
        "Latency that 99 of 100 requests kept, like `requestLatencyP50Ms`.";
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

    /// Upper bound of the latency that `part` (0 to 1) of all requests kept; 0 before the first.
    fn latency_millis(&self, part: f64) -> f64 {
        let counts = self.latency.each_ref().map(|b| b.load(Relaxed));
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * part).ceil() as u64;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        match bucket {
            Some(i) if total > 0 => (1u64 << i) as f64 / 1000.0,
            _ => 0.0,
        }
    }

    /// The values now, as a METRICS frame. Each counter is read once.
    pub fn encode(&self) -> Vec<u8> {
        let values: Vec<_> = METRICS.iter().map(|row| row.value(self)).collect();
        encode_values(
            &values,
            &self.splits_read.lock().unwrap_or_else(|e| e.into_inner()),
        )
    }
}

/// A METRICS frame.
pub fn encode_values(values: &[Value], splits: &[SplitLag]) -> Vec<u8> {
    let mut w = FrameWriter::with_capacity(FrameKind::Metrics, 8 + 8 * values.len());
    w.u32(values.len() as u32);
    for value in values {
        match *value {
            Value::Whole(v) => w.u64(v),
            Value::Decimal(v) => w.f64(v),
        }
    }
    w.u32(splits.len() as u32);
    for split in splits {
        w.str(&split.id);
        w.u64(split.lag_millis);
        w.u64(split.records);
    }
    w.0
}

/// Rows as a METRIC_TABLE frame.
pub fn encode_table(rows: &[Metric]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::MetricTable);
    w.u32(rows.len() as u32);
    for row in rows {
        w.str(row.name);
        w.str(row.unit);
        w.u8(row.roles.bits());
        w.u8(u8::from(row.is_decimal()));
        w.str(row.meaning);
    }
    w.0
}

/// `docs/metrics.md`, written from the table.
pub fn markdown() -> String {
    let mut out = String::from(include_str!("metrics.md"));
    let groups = [
        ("Source, sink and look-ups", Roles::ALL),
        ("Source and sink", Roles::BOTH),
        ("Source and look-ups", Roles::READERS),
        ("Source", Roles::SOURCE),
        ("Sink", Roles::SINK),
        ("Look-ups", Roles::LOOKUP),
        ("Source, among Flink's own metrics", Roles::FLINK_SOURCE),
    ];
    for (title, roles) in groups {
        out.push_str(&format!(
            "\n### {title}\n\n| gauge | unit | meaning |\n|---|---|---|\n"
        ));
        for row in METRICS.iter().filter(|row| row.roles == roles) {
            out.push_str(&format!("| `{}` | {} | {} |\n", row.name, row.unit, row.meaning));
        }
    }
    out
}

/// Counts a request as in flight as long as it is held, however the request ends.
pub struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    /// Counts it from now on.
    pub fn new(metrics: &'a Metrics) -> Self {
        metrics.requests_in_flight.fetch_add(1, Relaxed);
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.requests_in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn value(metrics: &Metrics, name: &str) -> Value {
        let row = METRICS.iter().find(|row| row.name == name);
        row.unwrap_or_else(|| panic!("no metric {name}")).value(metrics)
    }

    #[test]
    fn a_row_shows_its_own_counter_in_its_unit() {
        let m = Metrics::default();
        m.point_requests.store(7, Relaxed);
        m.lag_millis.store(1500, Relaxed);
        m.request(Duration::from_micros(5), 1.25);
        assert_eq!(value(&m, "requests"), Value::Whole(1));
        assert_eq!(value(&m, "requestUnits"), Value::Decimal(1.25));
        assert_eq!(value(&m, "pointRequests"), Value::Whole(7));
        assert_eq!(value(&m, "lagSeconds"), Value::Decimal(1.5));
    }

    #[test]
    fn latency_is_the_upper_bound_of_the_bucket_that_holds_the_quantile() {
        let m = Metrics::default();
        let p = |name| value(&m, name);
        assert_eq!(p("requestLatencyP50Ms"), Value::Decimal(0.0));
        (0..98).for_each(|_| m.request(Duration::from_micros(1000), 0.0));
        m.request(Duration::from_micros(1_000_000), 0.0);
        m.request(Duration::from_micros(1_000_000), 0.0);
        assert_eq!(p("requestLatencyP50Ms"), Value::Decimal(1.024));
        assert_eq!(p("requestLatencyP99Ms"), Value::Decimal(1048.576));
        // What takes longer than any bucket is in the last one.
        (0..1000).for_each(|_| m.request(Duration::from_secs(1 << 40), 0.0));
        assert_eq!(
            p("requestLatencyP50Ms"),
            Value::Decimal((1u64 << 31) as f64 / 1000.0)
        );
    }

    #[test]
    fn names_are_unique_and_every_row_says_what_it_means() {
        let names: BTreeSet<_> = METRICS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for row in METRICS {
            assert!(!row.unit.is_empty() && row.meaning.ends_with('.'), "{}", row.name);
            assert!(!row.meaning.contains('|'), "{} would break its table", row.name);
        }
    }

    #[test]
    fn the_document_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            there,
            markdown(),
            "docs/metrics.md differs from the table; write it anew with the example `metrics`"
        );
    }
}
