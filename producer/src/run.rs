//! The run: orders at a rate, a bounded number of writes in flight, retries, and the counts that come of it.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cosmosflink_digest::{hash_id, IdsDigest};
use governor::{Quota, RateLimiter};
use hdrhistogram::Histogram;
use rand::RngExt;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{watch, Semaphore};

use crate::order::{Order, Orders};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How long writes in flight get to finish after the signal to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How much to produce, how fast, and how stubbornly.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Orders a second; `None`: as fast as possible.
    pub rate: Option<NonZeroU32>,
    /// Orders altogether; `None`: no limit.
    pub count: Option<u64>,
    /// Longest time to make new orders; `None`: no limit.
    pub duration: Option<Duration>,
    /// Writes in flight at most.
    pub concurrency: usize,
    /// Time after which an order that still cannot be written counts as failed.
    pub retry_deadline: Duration,
}

/// How a write failed, as far as it decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 429: the container has no request units left for now.
    Throttled,
    /// Another try may help.
    Transient,
    /// This order will never be taken.
    Rejected,
    /// No order will be taken: the credential or the container is not there any more.
    Fatal,
}

/// A failed write.
#[derive(Clone, Debug)]
pub struct WriteError {
    /// What to do about it.
    pub failure: Failure,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
    /// One line of text.
    pub message: String,
}

/// Where orders go.
pub trait Writer: Send + Sync + 'static {
    /// Writes one order, without retries of its own, and gives the request charge in RU.
    fn write(&self, order: &Order) -> impl Future<Output = Result<f64, WriteError>> + Send;
}

/// Latency of acknowledged orders in milliseconds, from the first try to the acknowledgement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What came of a run, so far or at its end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Orders that the service acknowledged.
    pub acknowledged: u64,
    /// Of these, the ones that were made wrong on purpose.
    pub invalid: u64,
    /// Orders given up, or still unacknowledged at the end.
    pub failed: u64,
    /// Answers of status 429.
    pub throttled: u64,
    /// Tries after a first one.
    pub retries: u64,
    /// Request units of the acknowledged writes.
    pub request_charge: f64,
    /// Bytes of the acknowledged documents.
    pub bytes: u64,
    /// Seconds since the start.
    pub elapsed_seconds: f64,
    /// Acknowledged orders per second.
    pub rate_per_second: f64,
    /// Latency of acknowledged orders.
    pub latency_millis: Latency,
    /// Whether a signal ended the run before it was through.
    pub interrupted: bool,
    /// Digest of the ids of all acknowledged orders.
    pub ids_digest: String,
    /// Digest of the ids of the acknowledged orders that are valid: those that should come out of the pipeline.
    pub valid_ids_digest: String,
    /// The last failure that ended a try, if there was one.
    pub last_error: Option<String>,
}

struct Done {
    latency: Histogram<u64>,
    request_charge: f64,
    bytes: u64,
    invalid: u64,
    all: IdsDigest,
    valid: IdsDigest,
    last_error: Option<String>,
}

/// Counters of a run; cheap to read while it goes on.
pub struct Progress {
    began: Instant,
    made: AtomicU64,
    failed: AtomicU64,
    throttled: AtomicU64,
    retries: AtomicU64,
    fatal: AtomicBool,
    done: Mutex<Done>,
}

impl Progress {
    /// Counters at zero; the clock starts now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            fatal: AtomicBool::new(false),
            done: Mutex::new(Done {
                // Microseconds up to ten minutes; longer ones count as ten minutes.
                latency: Histogram::new_with_bounds(1, 600_000_000, 3).expect("constant bounds are valid"),
                request_charge: 0.0,
                bytes: 0,
                invalid: 0,
                all: IdsDigest::default(),
                valid: IdsDigest::default(),
                last_error: None,
            }),
        })
    }

    /// Whether the run ended because nothing can be written any more.
    pub fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Done> {
        // Counters stay usable after a panic elsewhere.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self, order: &Order, charge: f64, took: Duration) {
        let hash = hash_id(&order.id);
        let mut done = self.lock();
        done.latency
            .saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        done.request_charge += charge;
        done.bytes += order.body.get().len() as u64;
        done.all.add(hash);
        if order.valid {
            done.valid.add(hash);
        } else {
            done.invalid += 1;
        }
    }

    /// The numbers of this moment.
    pub fn summary(&self) -> Summary {
        let done = self.lock();
        let millis = |quantile| done.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let (acknowledged, elapsed) = (done.latency.len(), self.began.elapsed().as_secs_f64());
        Summary {
            acknowledged,
            invalid: done.invalid,
            failed: self.failed.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            request_charge: done.request_charge,
            bytes: done.bytes,
            elapsed_seconds: elapsed,
            rate_per_second: if elapsed > 0.0 {
                acknowledged as f64 / elapsed
            } else {
                0.0
            },
            latency_millis: Latency {
                p50: millis(0.5),
                p90: millis(0.9),
                p99: millis(0.99),
                max: done.latency.max() as f64 / 1000.0,
            },
            interrupted: false,
            ids_digest: done.all.to_string(),
            valid_ids_digest: done.valid.to_string(),
            last_error: done.last_error.clone(),
        }
    }
}

/// Produces until the plan is fulfilled, `stop` turns true, or nothing can be written any more. Every order made ends as
/// acknowledged or as failed.
pub async fn run<W: Writer>(
    writer: Arc<W>,
    mut orders: Orders,
    plan: &Plan,
    progress: Arc<Progress>,
    mut stop: watch::Receiver<bool>,
) -> Summary {
    // A tenth of a second's worth may go at once: enough to keep the rate when the timer is late, too little to burst.
    let limiter = plan.rate.map(|rate| {
        let burst = NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN);
        RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
    });
    let places = Arc::new(Semaphore::new(plan.concurrency));
    let end = plan.duration.map(|d| progress.began + d);
    let mut interrupted = false;
    while plan
        .count
        .is_none_or(|n| progress.made.load(Ordering::Relaxed) < n)
        && !progress.is_fatal()
    {
        let turn = async {
            let place = places.clone().acquire_owned().await;
            if let Some(limiter) = &limiter {
                limiter.until_ready().await;
            }
            place
        };
        let place = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {
                interrupted = true;
                break;
            }
            () = sleep_until(end) => break,
            place = turn => place,
        };
        let Ok(place) = place else { break }; // The semaphore is never closed.
        let order = orders.next_order(OffsetDateTime::now_utc());
        progress.made.fetch_add(1, Ordering::Relaxed);
        let (writer, progress, deadline) = (writer.clone(), progress.clone(), plan.retry_deadline);
        tokio::spawn(async move {
            write(&*writer, &order, &progress, deadline).await;
            drop(place);
        });
    }
    // All places free again means that every write has ended.
    let drain = places.acquire_many(u32::try_from(plan.concurrency).unwrap_or(u32::MAX));
    if progress.is_fatal() {
        let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    } else {
        // Until the signal, each write has its own deadline; after it, all have only a few seconds.
        tokio::select! {
            _ = drain => {}
            () = async {
                if !interrupted && stop.wait_for(|stop| *stop).await.is_err() {
                    std::future::pending::<()>().await;
                }
                interrupted = true;
                tokio::time::sleep(DRAIN_WITHIN).await;
            } => {}
        }
    }
    let mut summary = progress.summary();
    // What was not acknowledged until now may or may not have been written: it counts as failed.
    summary.failed = progress.made.load(Ordering::Relaxed) - summary.acknowledged;
    summary.interrupted = interrupted;
    summary
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

async fn write<W: Writer>(writer: &W, order: &Order, progress: &Progress, deadline: Duration) {
    let began = Instant::now();
    let mut backoff = FIRST_BACKOFF;
    loop {
        let error = match writer.write(order).await {
            Ok(charge) => return progress.acknowledge(order, charge, began.elapsed()),
            Err(error) => error,
        };
        let wait = match error.failure {
            Failure::Rejected => None,
            Failure::Fatal => {
                progress.fatal.store(true, Ordering::Relaxed);
                None
            }
            Failure::Throttled => {
                progress.throttled.fetch_add(1, Ordering::Relaxed);
                // Jitter on top of what the service asks for, or all writers would come back at once.
                let asked = error.retry_after.unwrap_or(backoff);
                Some(asked + asked.mul_f64(rand::rng().random_range(0.0..0.5)))
            }
            Failure::Transient => Some(
                error
                    .retry_after
                    .unwrap_or_else(|| backoff.mul_f64(rand::rng().random_range(0.5..1.0))),
            ),
        };
        tracing::debug!(id = %order.id, error = %error.message, retry_in = ?wait, "a write failed");
        progress.lock().last_error = Some(error.message);
        match wait {
            Some(wait) if began.elapsed() + wait < deadline && !progress.is_fatal() => {
                tokio::time::sleep(wait).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                progress.retries.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                progress.failed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Settings;
    use std::collections::HashMap;

    /// Answers by a script: a function of the order's number of arrival and of the try.
    struct Fake<F> {
        answer: F,
        seen: Mutex<HashMap<String, (u64, u32)>>,
    }

    impl<F: Fn(u64, u32) -> Result<f64, WriteError> + Send + Sync + 'static> Writer for Fake<F> {
        async fn write(&self, order: &Order) -> Result<f64, WriteError> {
            let (number, tries) = {
                let mut seen = self.seen.lock().unwrap();
                let next = seen.len() as u64;
                let entry = seen.entry(order.id.clone()).or_insert((next, 0));
                entry.1 += 1;
                *entry
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
            (self.answer)(number, tries)
        }
    }

    fn error(failure: Failure) -> Result<f64, WriteError> {
        Err(WriteError {
            failure,
            retry_after: Some(Duration::from_millis(2)),
            message: format!("{failure:?}"),
        })
    }

    fn plan(count: u64) -> Plan {
        Plan {
            rate: None,
            count: Some(count),
            duration: None,
            concurrency: 8,
            retry_deadline: Duration::from_secs(5),
        }
    }

    type Seen = HashMap<String, (u64, u32)>;

    async fn produce<F>(plan: Plan, invalid_share: f64, answer: F) -> (Summary, Seen, bool)
    where
        F: Fn(u64, u32) -> Result<f64, WriteError> + Send + Sync + 'static,
    {
        let fake = Arc::new(Fake {
            answer,
            seen: Mutex::default(),
        });
        let orders = Orders::new(Settings {
            seed: Some(1),
            payload_bytes: 430,
            invalid_share,
            source: None,
        });
        let (_keep, stop) = watch::channel(false);
        let progress = Progress::new();
        let summary = run(fake.clone(), orders, &plan, progress.clone(), stop).await;
        let seen = fake.seen.lock().unwrap().clone();
        (summary, seen, progress.is_fatal())
    }

    #[tokio::test]
    async fn every_order_is_acknowledged_once_and_the_digests_tell_which() {
        let (summary, seen, _) = produce(plan(200), 0.2, |_, _| Ok(6.5)).await;
        assert_eq!(
            (summary.acknowledged, summary.failed, summary.retries),
            (200, 0, 0)
        );
        assert_eq!(summary.request_charge, 1_300.0);
        assert!(
            summary.invalid > 10 && summary.invalid < 80,
            "{}",
            summary.invalid
        );
        let digest: IdsDigest = seen.keys().map(|id| hash_id(id)).collect();
        assert_eq!(summary.ids_digest, digest.to_string());
        assert_ne!(summary.ids_digest, summary.valid_ids_digest);
        assert!(
            summary.latency_millis.p50 >= 1.0 && summary.latency_millis.max >= summary.latency_millis.p99
        );
        assert!(!summary.interrupted);
    }

    #[tokio::test]
    async fn throttled_and_transient_writes_are_tried_again_until_they_succeed() {
        let (summary, seen, _) = produce(plan(60), 0.0, |number, tries| match (number % 3, tries) {
            (0, 1 | 2) => error(Failure::Throttled),
            (1, 1) => error(Failure::Transient),
            _ => Ok(1.0),
        })
        .await;
        assert_eq!((summary.acknowledged, summary.failed), (60, 0));
        assert_eq!((summary.throttled, summary.retries), (40, 60));
        assert_eq!(
            summary.request_charge, 60.0,
            "only acknowledged writes are charged"
        );
        assert!(seen
            .values()
            .all(|(number, tries)| *tries == [3, 2, 1][(number % 3) as usize]));
    }

    #[tokio::test]
    async fn a_rejected_order_fails_alone_and_at_once() {
        let answer = |number, _| {
            if number % 10 == 0 {
                error(Failure::Rejected)
            } else {
                Ok(1.0)
            }
        };
        let (summary, _, fatal) = produce(plan(50), 0.0, answer).await;
        assert_eq!(
            (summary.acknowledged, summary.failed, summary.retries),
            (45, 5, 0)
        );
        assert_eq!(summary.last_error.as_deref(), Some("Rejected"));
        assert!(!fatal);
    }

    #[tokio::test]
    async fn the_deadline_ends_the_tries() {
        let plan = Plan {
            retry_deadline: Duration::from_millis(100),
            ..plan(3)
        };
        let began = Instant::now();
        let (summary, seen, _) = produce(plan, 0.0, |_, _| error(Failure::Transient)).await;
        assert_eq!((summary.acknowledged, summary.failed), (0, 3));
        assert!(seen.values().all(|(_, tries)| *tries > 2));
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_lost_container_ends_the_run() {
        let answer = |number, _| {
            if number >= 20 {
                error(Failure::Fatal)
            } else {
                Ok(1.0)
            }
        };
        let (summary, seen, fatal) = produce(plan(1_000_000), 0.0, answer).await;
        assert!(fatal && seen.len() < 100, "{} orders were tried", seen.len());
        assert_eq!(summary.acknowledged, 20);
        assert_eq!(summary.acknowledged + summary.failed, seen.len() as u64);
    }

    #[tokio::test]
    async fn the_rate_and_the_duration_are_kept() {
        let plan = Plan {
            rate: NonZeroU32::new(500),
            count: None,
            duration: Some(Duration::from_millis(800)),
            ..plan(0)
        };
        let (summary, _, _) = produce(plan, 0.0, |_, _| Ok(1.0)).await;
        assert!(
            (350..=460).contains(&summary.acknowledged),
            "{} of about 400 + 50",
            summary.acknowledged
        );
        assert!(summary.elapsed_seconds < 2.0 && !summary.interrupted);
    }

    #[tokio::test]
    async fn a_signal_stops_new_orders_and_lets_those_in_flight_finish() {
        let fake = Arc::new(Fake {
            answer: |_, _| Ok(1.0),
            seen: Mutex::default(),
        });
        let orders = Orders::new(Settings {
            seed: None,
            payload_bytes: 0,
            invalid_share: 0.0,
            source: None,
        });
        let (send, stop) = watch::channel(false);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = send.send(true);
        });
        let summary = run(fake.clone(), orders, &plan(u64::MAX), Progress::new(), stop).await;
        assert!(summary.interrupted && summary.acknowledged > 0);
        assert_eq!(
            (summary.acknowledged, summary.failed),
            (fake.seen.lock().unwrap().len() as u64, 0)
        );
    }
}
