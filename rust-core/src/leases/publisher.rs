//! The task that publishes the progress of one reader: runs its [`Ledger`] against the lease container, after each publication and
//! whenever something is to be renewed.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::format::Progress;
use super::ledger::{Ledger, Settings};
use super::store::LeaseStore;
use super::takeover::Times;
use super::token::Position;
use crate::clock::epoch_millis;
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::split::Split;

/// Longest time for which a reader that closes waits until its last positions are written. A reader that goes on from the lease instead reads some
/// again.
const CLOSE: Duration = Duration::from_secs(2);

/// Longest pause after a round that failed.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    /// The last publication that the task has not seen.
    next: Option<(u64, Vec<Progress>)>,
    closing: bool,
    /// What ended the publishing, and is to end the job.
    failure: Option<CoreError>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Publishes in the background, from its start until it is dropped or closed.
pub struct Publisher {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Of its own requests, apart from those of the feed.
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Begins to publish for the container of that name and resource id. Nothing is asked before the first publication.
    pub fn start(store: LeaseStore, container: &str, rid: &str, runtime: &Handle) -> Option<Publisher> {
        let metrics = Arc::new(Metrics::default());
        let config = store.config();
        let renewal = config.renewal;
        let settings = Settings {
            identity: config.identity.clone(),
            sdk: config.publish?,
            prefix: store.prefix().to_owned(),
            container: container.to_owned(),
            rid: rid.to_owned(),
            times: times(config),
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let task = runtime.spawn(run(
            shared.clone(),
            Ledger::new(settings),
            store,
            renewal,
            metrics.clone(),
        ));
        Some(Publisher {
            metrics,
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    /// Publishes the splits of the reader as of a checkpoint that has completed. Never waits. A split that has no position yet, or that is
    /// read as something else than a change feed, is left out.
    pub fn publish(&self, checkpoint: u64, splits: &[Split]) {
        let progress = splits.iter().flat_map(progress).collect();
        self.shared.lock().next = Some((checkpoint, progress));
        self.shared.changed.notify_one();
    }

    /// Counters of its own requests, of those that failed, and of the leases that it holds.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Why the job must end, once it must.
    ///
    /// # Errors
    /// State when the leases are another job's or a processor's.
    pub fn check(&self) -> Result<()> {
        match &self.shared.lock().failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Writes what is left to write and ends; waits for it, up to two seconds. The leases stay the job's, which may only be starting again.
    pub async fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        let task = self.task.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(mut task) = task {
            if tokio::time::timeout(CLOSE, &mut task).await.is_err() {
                tracing::warn!(target: "cosmosflink::source", "the last positions were not published as leases in time; who goes on from the leases reads some again");
                task.abort();
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(|e| e.into_inner()).take() {
            task.abort();
        }
    }
}

/// The times of the options.
pub fn times(config: &crate::config::LeaseConfig) -> Times {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Times {
        expiration: millis(config.expiration),
        renewal: millis(config.renewal),
    }
}

/// What is published of a split: one lease for each range of its token. Nothing while a part of it was never asked, nor of one that reads the
/// container before it goes on with the feed of all versions: its position is none that a processor could go on from.
fn progress(split: &Split) -> Vec<Progress> {
    if !split.reads_feed() || split.then.is_some() {
        return Vec::new();
    }
    let position = split.continuation.as_deref().and_then(Position::decode);
    let Some(ranges) = position.as_ref().and_then(|p| p.covering(&split.min, &split.max)) else {
        return Vec::new();
    };
    let full_fidelity = position.is_some_and(|p| p.full_fidelity);
    let progress = |at| Progress {
        at,
        full_fidelity,
        start: split.start,
    };
    ranges.into_iter().map(progress).collect()
}

async fn run(
    shared: Arc<Shared>,
    mut ledger: Ledger,
    store: LeaseStore,
    renewal: Duration,
    metrics: Arc<Metrics>,
) {
    let mut told = false;
    let mut given_way = 0;
    loop {
        let (next, closing) = {
            let mut state = shared.lock();
            (state.next.take(), state.closing)
        };
        let mut done = Ok(());
        if let Some((checkpoint, progress)) = next {
            ledger.publish(checkpoint, progress, epoch_millis());
            done = round(&mut ledger, &store, &metrics).await;
        }
        if closing {
            ledger.close();
        }
        if done.is_ok() {
            done = round(&mut ledger, &store, &metrics).await;
        }
        metrics.leases_held.store(ledger.held() as u64, Relaxed);
        if ledger.given_way() > given_way {
            tracing::warn!(
                target: "cosmosflink::source",
                "{} leases are kept by another reader of this very job, which has a later checkpoint: they are left to it",
                ledger.given_way()
            );
        }
        given_way = ledger.given_way();
        let pause = match done {
            Ok(()) if closing => return,
            // Short enough that none is renewed late.
            Ok(()) => {
                told = false;
                renewal / 4
            }
            Err(Failed::Job(failure)) => {
                shared.lock().failure = Some(failure);
                return;
            }
            Err(Failed::Round(failure)) => {
                metrics.lease_failures.fetch_add(1, Relaxed);
                // Once until it goes on: the next failures say the same.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(target: "cosmosflink::source", "progress is not published as leases now, will try again: {failure}");
                }
                AGAIN.min(renewal / 4)
            }
        };
        let _ = tokio::time::timeout(pause, shared.changed.notified()).await;
    }
}

enum Failed {
    /// The leases are not ours.
    Job(CoreError),
    /// A request, which is made again in the next round.
    Round(CoreError),
}

async fn round(
    ledger: &mut Ledger,
    store: &LeaseStore,
    metrics: &Metrics,
) -> std::result::Result<(), Failed> {
    while let Some(request) = ledger.next(epoch_millis()) {
        let answer = store
            .carry_out(&request, metrics)
            .await
            .map_err(|e| match e.kind {
                // What lies there is no lease, and will be none in the next round.
                Kind::State => Failed::Job(e),
                _ => Failed::Round(e),
            })?;
        ledger
            .answered(&request, answer, epoch_millis())
            .map_err(Failed::Job)?;
    }
    Ok(())
}
