//! One error type for everything that leaves the core.

use azure_data_cosmos_driver::diagnostics::{DiagnosticsContext, RequestDiagnostics};
use azure_data_cosmos_driver::CosmosError;

use crate::status::{judge, of_kind, Asked, Blame, Fate, Next, Verdict};

/// What went wrong, as a caller must tell it apart. The numbers cross the boundary and never change. What a status of the service
/// means is decided in [`crate::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An option is unknown, missing or out of range.
    Config = 1,
    /// The service refused the credential (401) or the permission (403).
    Auth = 2,
    /// The database, container or document does not exist (404).
    NotFound = 3,
    /// Request units are exhausted (429).
    Throttled = 4,
    /// The network or the service failed in a way that may pass (408, 410, 449, 5xx, connection errors).
    Transient = 5,
    /// The service understood the request and refused it (other 4xx), or the input is malformed.
    BadRequest = 6,
    /// A document of that id exists (409).
    Conflict = 7,
    /// The ETag did not match (412).
    Precondition = 8,
    /// The document or the request is too large (413).
    TooLarge = 9,
    /// The handle was closed, or never given.
    Closed = 10,
    /// Foreign, damaged or newer bytes: split state, enumerator state or a frame.
    State = 11,
    /// A bug: a panic, or an answer that cannot be understood.
    Internal = 12,
}

/// The error of the core. Its text never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CoreError {
    /// What kind of failure it is.
    pub kind: Kind,
    /// HTTP status of the service; 0 when the failure did not come from it.
    pub status: u16,
    /// Sub-status of the service; 0 when there is none.
    pub sub_status: u32,
    /// Activity id of the request, for support requests; empty when there is none.
    pub activity_id: String,
    /// How long the service asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// What to do about it.
    pub next: Next,
    /// Whether it is one record's failure.
    pub blame: Blame,
    /// Whether this attempt may have been carried out, or an earlier one that the driver made by itself.
    pub fate: Fate,
    /// Request units that the failure cost, those of the driver's own attempts included.
    pub request_charge: f64,
    /// What went wrong and what to do about it, for people. Never holds a secret.
    pub message: String,
}

/// What the core's functions return.
pub type Result<T> = std::result::Result<T, CoreError>;

impl CoreError {
    /// A failure that no answer of the service came with.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self::of(of_kind(kind), message.into())
    }

    fn of(verdict: Verdict, message: String) -> Self {
        CoreError {
            kind: verdict.kind,
            status: 0,
            sub_status: 0,
            activity_id: String::new(),
            retry_after_ms: None,
            next: verdict.next,
            blame: verdict.blame,
            fate: verdict.fate,
            request_charge: 0.0,
            message: match verdict.advice {
                "" => message,
                advice => format!("{message}; {advice}"),
            },
        }
    }

    /// A status that the service answered with. `before` is the fate of the earlier attempts of the same operation.
    pub fn answered(
        (status, sub_status): (u16, u32),
        asked: Asked,
        before: Fate,
        message: impl Into<String>,
    ) -> Self {
        CoreError {
            status,
            sub_status,
            ..Self::of(judge(status, sub_status, asked, before), message.into())
        }
    }

    /// Whether the failure is there again after a restart of the job, so that a restart does not help: the container is gone, an option
    /// or a state is wrong. What one record failed with is not of this sort: the next record may pass.
    pub fn outlives_restart(&self) -> bool {
        self.blame == Blame::Everybody && matches!(self.kind, Kind::Config | Kind::NotFound | Kind::State)
    }

    /// An option, or several together, that are wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Bytes of a state or a frame that cannot be read, or are of something else.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(Kind::State, message)
    }

    /// A call with a handle that was closed.
    pub fn closed() -> Self {
        Self::new(
            Kind::Closed,
            "the handle is closed or was never opened; open a new one",
        )
    }

    /// A bug of the core.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Puts what was being done in front of the message.
    pub fn while_doing(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same behind requests that went well and cost so many request units: nothing came of them.
    pub fn behind(mut self, charge: f64) -> Self {
        self.request_charge += charge;
        self
    }

    /// Wraps an error of the driver. `before` is the fate of the earlier attempts of the same operation; the driver's own attempts
    /// are looked at here.
    pub fn from_driver(error: &CosmosError, asked: Asked, before: Fate) -> Self {
        let status = error.status();
        let code = u16::from(status.status_code());
        let sub = status.sub_status().map_or(0, |s| u32::from(s.value()));
        let trail = error.diagnostics().map(|d| Trail::of(&d, asked));
        let earlier = trail.as_ref().map_or(Fate::NotCarriedOut, |t| t.earlier);
        let mut out = Self::answered(
            (code, sub),
            asked,
            before.max(earlier),
            // The driver's short form: one line with status, name and message, no headers and no key.
            error.to_string(),
        );
        if let Some(response) = error.response() {
            let headers = response.headers();
            out.activity_id = headers
                .activity_id
                .as_ref()
                .map(|a| a.as_str().to_owned())
                .unwrap_or_default();
            out.retry_after_ms = headers.retry_after_ms;
        } else if let Some(trail) = &trail {
            // The status is the driver's own summary; what became of the request, only the attempts themselves say.
            out.fate = trail.last;
        }
        if let Some(trail) = trail {
            out.fate = out.fate.max(trail.earlier);
            out.request_charge = trail.request_charge;
        }
        out
    }
}

/// The message of a panic.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "without a message".to_owned())
}

/// What the driver tried for one operation by itself, as it does after a lost connection, a failover or a 449.
pub struct Trail {
    /// The worst fate of all attempts but the last, whose answer is the operation's own.
    pub earlier: Fate,
    /// The fate of the last attempt.
    pub last: Fate,
    /// Whether an attempt was told that the container is another one now. The driver then looks the new one up and sends the operation
    /// to it, which is not what the job was started for.
    pub recreated: bool,
    /// Request units of all attempts.
    pub request_charge: f64,
}

impl Trail {
    /// What the driver tells of all attempts of one request.
    pub fn of(diagnostics: &DiagnosticsContext, asked: Asked) -> Trail {
        let requests = diagnostics.requests();
        let (last, earlier) = match requests.split_last() {
            Some((last, earlier)) => (fate(last, asked), worst(earlier.iter().map(|r| fate(r, asked)))),
            // Nothing left this machine.
            None => (Fate::NotCarriedOut, Fate::NotCarriedOut),
        };
        // What went wrong on one connection before the attempt went on over another; and the driver keeps a record of so many only.
        let elsewhere = worst(requests.iter().map(on_other_connections));
        let complete = requests.len() >= diagnostics.request_count();
        Trail {
            earlier: match complete {
                true => earlier.max(elsewhere),
                false => Fate::Unknown,
            },
            last,
            recreated: requests
                .iter()
                .any(|r| matches!(numbers(r), (400, 1024) | (410, 1000))),
            request_charge: diagnostics.total_request_charge().value(),
        }
    }
}

fn worst(fates: impl Iterator<Item = Fate>) -> Fate {
    fates.max().unwrap_or(Fate::NotCarriedOut)
}

fn numbers(request: &RequestDiagnostics) -> (u16, u32) {
    let status = request.status();
    (
        u16::from(status.status_code()),
        status.sub_status().map_or(0, |s| u32::from(s.value())),
    )
}

fn fate(request: &RequestDiagnostics, asked: Asked) -> Fate {
    if request.request_sent().definitely_not_sent() {
        return Fate::NotCarriedOut;
    }
    if request.timed_out() {
        return Fate::Unknown;
    }
    let (status, sub_status) = numbers(request);
    judge(status, sub_status, asked, Fate::NotCarriedOut).fate
}

fn on_other_connections(request: &RequestDiagnostics) -> Fate {
    let shards = request.failed_transport_shards();
    let sent = shards.iter().any(|s| s.request_sent().may_have_been_sent());
    let unrecorded = shards.len() < request.local_shard_retry_count() as usize;
    match sent || unrecorded {
        true => Fate::Unknown,
        false => Fate::NotCarriedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_meets_again_outlives_a_restart() {
        let of =
            |status, asked| CoreError::answered(status, asked, Fate::NotCarriedOut, "x").outlives_restart();
        assert!(of((404, 1003), Asked::Upsert), "the container is gone");
        assert!(
            !of((404, 0), Asked::Replace),
            "the document is gone, and it alone"
        );
        assert!(
            !of((400, 1024), Asked::Upsert),
            "a writer opens the new container"
        );
        assert!(!of((410, 1000), Asked::Bulk));
        assert!(of((400, 1024), Asked::Feed), "a position in the old container");
        assert!(!of((401, 0), Asked::Upsert), "a key may have been rotated");
        assert!(CoreError::config("x").outlives_restart());
    }
}
