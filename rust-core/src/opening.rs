//! The opening of a handle in the background, so that no call of Java waits for a network longer than it says, and whoever waits can
//! be woken up.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::account::{within, Runtime, OPENING};
use crate::error::{panic_text, CoreError, Kind, Result};
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::sink::Sink;
use crate::source::Source;

/// What a handle stands for once it is open.
pub trait Connector: Send + Sync + 'static {
    /// Its counters.
    fn metrics(&self) -> &Metrics;
    /// Ends the call that waits, if one does.
    fn wake_up(&self);
    /// Idempotent; ends every call that waits.
    fn close(&self);
}

macro_rules! connector {
    ($($type:ty),*) => {$(
        impl Connector for $type {
            fn metrics(&self) -> &Metrics {
                self.metrics()
            }

            fn wake_up(&self) {
                self.wake_up();
            }

            fn close(&self) {
                self.close();
            }
        }
    )*};
}

connector!(Source, Sink, Lookup);

enum Stage<T> {
    Opening,
    Open(Arc<T>),
    Failed(CoreError),
    Closed,
}

struct State<T> {
    stage: Stage<T>,
    woken: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A connector that is being opened, is open, could not be opened or is closed.
pub struct Opening<T> {
    shared: Arc<Shared<T>>,
    task: AbortHandle,
    // Last: the opening ends before its runtime may.
    _runtime: Arc<Runtime>,
}

/// What all handles share, whatever they open.
pub trait Lifecycle {
    /// Waits until the handle is open: true; false when `timeout` has passed or [`Lifecycle::wake_up`] was called.
    ///
    /// # Errors
    /// What the opening failed of, at each call; Closed.
    fn await_open(&self, timeout: Duration) -> Result<bool>;

    /// Ends the call that waits, or, during the opening, the next one that does: it may come just before or after the end of the opening.
    fn wake_up(&self);

    /// Abandons an opening and closes what is open. Idempotent.
    fn close(&self);

    /// A METRICS frame; all 0 before the handle is open.
    fn metrics(&self) -> Vec<u8>;
}

impl<T: Connector> Opening<T> {
    /// Begins to open. Everything together takes at most [`OPENING`].
    ///
    /// # Errors
    /// Internal when the runtime's threads cannot be started; all else comes from [`Lifecycle::await_open`].
    pub fn start(opening: impl Future<Output = Result<T>> + Send + 'static) -> Result<Opening<T>> {
        Self::start_within(OPENING, opening)
    }

    fn start_within(
        limit: Duration,
        opening: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Opening<T>> {
        let runtime = Runtime::shared()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stage: Stage::Opening,
                woken: false,
            }),
            changed: Condvar::new(),
        });
        let result = shared.clone();
        let task = async move {
            let opened = AssertUnwindSafe(within(limit, opening))
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| {
                    Err(CoreError::internal(format!(
                        "panic while opening: {}",
                        panic_text(&*panic)
                    )))
                });
            let mut state = result.lock();
            // Closed meanwhile: what was opened goes, with this task.
            if matches!(state.stage, Stage::Opening) {
                state.stage = match opened {
                    Ok(connector) => Stage::Open(Arc::new(connector)),
                    Err(e) => Stage::Failed(e),
                };
                result.changed.notify_all();
            }
        };
        Ok(Opening {
            task: runtime.handle().spawn(task).abort_handle(),
            shared,
            _runtime: runtime,
        })
    }

    /// What was opened, for a call that waits for more than that; `None` when `timeout` has passed or the wait was ended by
    /// [`Lifecycle::wake_up`], also by one that came during the opening and has ended no other wait.
    ///
    /// # Errors
    /// What the opening failed of, at each call; Closed.
    pub fn get(&self, timeout: Duration) -> Result<Option<Arc<T>>> {
        self.wait(timeout, true)
    }

    /// `wakes`: whether a wake-up that is left from the opening ends this call. The connector itself never heard of it.
    fn wait(&self, timeout: Duration, wakes: bool) -> Result<Option<Arc<T>>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            match &state.stage {
                Stage::Open(_) if wakes && state.woken => {
                    state.woken = false;
                    return Ok(None);
                }
                Stage::Open(connector) => return Ok(Some(connector.clone())),
                Stage::Failed(e) => return Err(e.clone()),
                Stage::Closed => return Err(CoreError::closed()),
                Stage::Opening => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.woken) || left.is_zero() {
                return Ok(None);
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// What was opened, for a call that waits for nothing else: a wake-up that is left is not for it.
    ///
    /// # Errors
    /// Transient when it is not open in time; else those of [`Opening::get`].
    pub fn ready(&self, timeout: Duration) -> Result<Arc<T>> {
        self.wait(timeout, false)?
            .ok_or_else(|| CoreError::new(Kind::Transient, "the handle is not open yet; wait with awaitOpen"))
    }
}

impl<T: Connector> Lifecycle for Opening<T> {
    fn await_open(&self, timeout: Duration) -> Result<bool> {
        Ok(self.wait(timeout, false)?.is_some())
    }

    fn wake_up(&self) {
        let mut state = self.shared.lock();
        match &state.stage {
            Stage::Open(connector) => {
                let connector = connector.clone();
                drop(state);
                connector.wake_up();
            }
            Stage::Opening => {
                state.woken = true;
                drop(state);
                self.shared.changed.notify_all();
            }
            Stage::Failed(_) | Stage::Closed => {}
        }
    }

    fn close(&self) {
        let before = std::mem::replace(&mut self.shared.lock().stage, Stage::Closed);
        self.shared.changed.notify_all();
        self.task.abort();
        if let Stage::Open(connector) = before {
            connector.close();
        }
    }

    fn metrics(&self) -> Vec<u8> {
        match &self.shared.lock().stage {
            Stage::Open(connector) => connector.metrics().encode(),
            _ => Metrics::default().encode(),
        }
    }
}

impl<T> Drop for Opening<T> {
    fn drop(&mut self) {
        // A handle that was forgotten must not go on opening.
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_opening_that_never_ends_is_ended() {
        let opening =
            Opening::<Sink>::start_within(Duration::from_millis(50), std::future::pending()).unwrap();
        assert_eq!(opening.await_open(LONG).unwrap_err().kind, Kind::Transient);
        assert!(OPENING < Duration::from_secs(180), "beyond Flink's own limit");
    }

    #[test]
    fn a_panic_is_a_failure_of_the_opening() {
        let opening = Opening::<Sink>::start(async { panic!("at once") }).unwrap();
        let error = opening.await_open(LONG).unwrap_err();
        assert_eq!(error.kind, Kind::Internal);
        assert!(error.message.contains("at once"), "{error}");
    }

    #[test]
    fn what_cannot_be_called_yet_says_so_and_metrics_do_not_wait() {
        let opening = Opening::<Sink>::start(std::future::pending()).unwrap();
        let error = opening.ready(Duration::from_millis(1)).map(drop).unwrap_err();
        assert_eq!(error.kind, Kind::Transient);
        assert_eq!(Lifecycle::metrics(&opening), Metrics::default().encode());
        // Woken before it waits: the next wait ends at once, and only that.
        opening.wake_up();
        assert!(!opening.await_open(LONG).unwrap());
    }

    struct Idle(Metrics);

    impl Connector for Idle {
        fn metrics(&self) -> &Metrics {
            &self.0
        }

        fn wake_up(&self) {
            panic!("woken once it was open");
        }

        fn close(&self) {}
    }

    #[test]
    fn a_wake_up_just_before_the_opening_ends_is_not_lost() {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let opening = Opening::start(async {
            ended.await.unwrap();
            Ok(Idle(Metrics::default()))
        })
        .unwrap();
        opening.wake_up();
        end.send(()).unwrap();
        // As a waiter sees it that gets the lock only after the opening has ended.
        while matches!(opening.shared.lock().stage, Stage::Opening) {
            std::thread::yield_now();
        }
        // These wait for nothing but the opening.
        assert!(opening.await_open(LONG).unwrap());
        opening.ready(LONG).map(drop).unwrap();
        assert!(opening.get(LONG).unwrap().is_none(), "the wake-up was lost");
        assert!(opening.get(LONG).unwrap().is_some(), "it ends one wait");
    }
}
