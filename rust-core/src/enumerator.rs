//! What a split enumerator's handle stands for: a [`Coordinator`], which decides at once, and looks for feed ranges in the background,
//! so that no decision ever waits for the network.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::account::{within, Runtime, OPENING};
use crate::config::Config;
use crate::coordinator::{
    decode_event, encode_actions, encode_discovery, Action, Coordinator, Failure, Found, Settings,
};
use crate::discovery::Enumerator;
use crate::error::{panic_text, CoreError, Result};
use crate::metrics::Metrics;
use crate::opening::Lifecycle;
use crate::split::{Split, SplitEntry};

/// The enumerator of a source.
pub struct SplitEnumerator {
    config: Config,
    coordinator: Mutex<Coordinator>,
    looks: Arc<Looks>,
}

/// The one look for feed ranges that may be under way.
#[derive(Default)]
struct Looks {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    look: Look,
    /// What the first look has opened, for those that follow.
    enumerator: Option<Arc<Enumerator>>,
    /// Whether a look has begun.
    looked: bool,
    woken: bool,
    closed: bool,
}

#[derive(Default)]
enum Look {
    #[default]
    None,
    UnderWay {
        task: AbortHandle,
        /// Held, because its last user ends it.
        _runtime: Arc<Runtime>,
    },
    /// A DISCOVERY frame that nobody has taken yet.
    Ended(Vec<u8>),
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Opens what is not open yet and looks. What was opened stays open; a failed opening is begun anew by the next look.
    async fn look(&self, config: Config, known: Vec<SplitEntry>) -> Result<Found> {
        let open = self.lock().enumerator.clone();
        let enumerator = match open {
            Some(enumerator) => enumerator,
            None => {
                let opened = Arc::new(within(OPENING, Enumerator::connect(config)).await?);
                let mut state = self.lock();
                if state.closed {
                    return Err(CoreError::closed());
                }
                state.enumerator = Some(opened.clone());
                opened
            }
        };
        enumerator.look(&known).await
    }

    fn ended(&self, result: Result<Found>) {
        let mut state = self.lock();
        if !state.closed {
            state.look = Look::Ended(encode_discovery(&result.map_err(|e| Failure::from(&e))));
            self.changed.notify_all();
        }
    }
}

impl SplitEnumerator {
    /// An enumerator that goes on from durable `state`, or begins when that is empty. Nothing is connected before the first look.
    ///
    /// `first_start` says that no enumerator of this job was there before.
    ///
    /// # Errors
    /// State for foreign, damaged or newer bytes.
    pub fn new(config: Config, state: &[u8], first_start: bool) -> Result<SplitEnumerator> {
        Ok(SplitEnumerator {
            coordinator: Mutex::new(Coordinator::new(Settings::of(&config), state, first_start)?),
            config,
            looks: Arc::default(),
        })
    }

    fn coordinator(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Decides what follows from an EVENT frame: an ACTIONS frame. Never waits for anything but another decision.
    ///
    /// # Errors
    /// State for a frame, or split bytes in it, that are damaged or newer.
    pub fn coordinate(&self, event: &[u8]) -> Result<Vec<u8>> {
        let (readers, event) = decode_event(event)?;
        let (actions, unassigned) = {
            let mut coordinator = self.coordinator();
            let actions = coordinator.on(&readers, event);
            (actions, coordinator.unassigned())
        };
        for action in &actions {
            match action {
                Action::Warn(failure) => {
                    tracing::warn!(target: "cosmosflink::source", "{}", failure.message);
                }
                Action::Assign(assignment) => {
                    for (subtask, splits) in assignment {
                        let splits: Vec<_> = splits.iter().map(Split::describe).collect();
                        tracing::info!(target: "cosmosflink::source", "to reader {subtask}: {}", splits.join(", "));
                    }
                }
                Action::Backlog(there) => {
                    let change = if *there {
                        "begins"
                    } else {
                        "is over, or none is known"
                    };
                    tracing::info!(target: "cosmosflink::source", "backlog {change}");
                }
                Action::Discover { .. }
                | Action::Fail { .. }
                | Action::State(_)
                | Action::NoMoreSplits(_) => {}
            }
        }
        Ok(encode_actions(unassigned, &actions))
    }

    /// Waits up to `timeout` for the end of a look for feed ranges, and begins one when none is under way: a DISCOVERY frame, which also
    /// says why the look, or the opening before it, failed. `None` when it has not ended by then, or was woken up: it goes on, and the
    /// next call waits for the same one.
    ///
    /// # Errors
    /// Closed.
    pub fn discover(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.looks.lock();
        if matches!(state.look, Look::None) && !state.closed {
            let first = !std::mem::replace(&mut state.looked, true);
            state.look = self.begin(first);
        }
        loop {
            if state.closed {
                return Err(CoreError::closed());
            }
            if let Look::Ended(_) = &state.look {
                if let Look::Ended(frame) = std::mem::take(&mut state.look) {
                    return Ok(Some(frame));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.woken) || left.is_zero() {
                return Ok(None);
            }
            state = self
                .looks
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// Behind a restore readers may wait for the first look, as long as a request may take and no longer: others follow.
    fn begin(&self, first: bool) -> Look {
        let runtime = match Runtime::shared() {
            Ok(runtime) => runtime,
            Err(e) => return Look::Ended(encode_discovery(&Err(Failure::from(&e)))),
        };
        let (looks, config, known) = (
            self.looks.clone(),
            self.config.clone(),
            self.coordinator().known(),
        );
        let others_follow = !config.discovery_interval.is_zero() && !config.is_bounded();
        let limit = match first && !known.is_empty() && others_follow {
            true => config.request_timeout,
            false => Duration::MAX,
        };
        let task = runtime.handle().spawn(async move {
            let result = AssertUnwindSafe(within(limit, looks.look(config, known)))
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| {
                    let text = panic_text(&*panic);
                    Err(CoreError::internal(format!(
                        "panic while looking for feed ranges: {text}"
                    )))
                });
            looks.ended(result);
        });
        Look::UnderWay {
            task: task.abort_handle(),
            _runtime: runtime,
        }
    }
}

impl Lifecycle for SplitEnumerator {
    /// There is nothing to wait for: what has to be connected is so with the first look.
    fn await_open(&self, _timeout: Duration) -> Result<bool> {
        match self.looks.lock().closed {
            true => Err(CoreError::closed()),
            false => Ok(true),
        }
    }

    fn wake_up(&self) {
        self.looks.lock().woken = true;
        self.looks.changed.notify_all();
    }

    fn close(&self) {
        let (look, enumerator) = {
            let mut state = self.looks.lock();
            state.closed = true;
            (std::mem::take(&mut state.look), state.enumerator.take())
        };
        self.looks.changed.notify_all();
        if let Look::UnderWay { task, .. } = &look {
            task.abort();
        }
        if let Some(enumerator) = enumerator {
            enumerator.close();
        }
    }

    fn metrics(&self) -> Vec<u8> {
        match &self.looks.lock().enumerator {
            Some(enumerator) => enumerator.metrics().encode(),
            None => Metrics::default().encode(),
        }
    }
}

impl Drop for SplitEnumerator {
    fn drop(&mut self) {
        // A handle that was forgotten must not go on looking.
        self.close();
    }
}
