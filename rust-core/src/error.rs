//! One error type for everything that leaves the core.

use azure_data_cosmos_driver::CosmosError;

/// What went wrong, as a caller must tell it apart. The numbers cross the boundary and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An option is unknown, missing or out of range.
    Config = 1,
    /// The service refused the credential (401) or the permission (403).
    Auth = 2,
    /// The database, container or document does not exist (404).
    NotFound = 3,
    /// Request units were exhausted (429) until the deadline passed.
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

impl Kind {
    /// Whether the same request may succeed later without any change.
    pub fn is_retryable(self) -> bool {
        matches!(self, Kind::Throttled | Kind::Transient)
    }

    /// Whether the failure belongs to one record, so that skipping or dead-lettering it makes sense. The
    /// others would hit every record alike, and dropping records for them would be losing data.
    pub fn is_record_level(self) -> bool {
        matches!(
            self,
            Kind::NotFound | Kind::BadRequest | Kind::Conflict | Kind::Precondition | Kind::TooLarge
        )
    }

    /// Classifies an HTTP status of the service.
    ///
    /// 404 with sub-status 1002 is a read session that is not available yet, 403 with sub-status 3 a region
    /// that has stopped taking writes: both pass.
    /// Source: <https://learn.microsoft.com/rest/api/cosmos-db/http-status-codes-for-cosmosdb>.
    pub fn from_status(status: u16, sub_status: u32) -> Kind {
        match (status, sub_status) {
            (403, 3) | (404, 1002) => Kind::Transient,
            (401 | 403, _) => Kind::Auth,
            (404, _) => Kind::NotFound,
            (409, _) => Kind::Conflict,
            (412, _) => Kind::Precondition,
            (413, _) => Kind::TooLarge,
            (429, _) => Kind::Throttled,
            (408 | 410 | 449, _) => Kind::Transient,
            (500..=599, _) => Kind::Transient,
            (400..=499, _) => Kind::BadRequest,
            _ => Kind::Internal,
        }
    }
}

/// The error of the core. Its text never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CoreError {
    pub kind: Kind,
    /// HTTP status of the service; 0 when the failure did not come from it.
    pub status: u16,
    /// Sub-status of the service; 0 when there is none.
    pub sub_status: u32,
    /// Activity id of the request, for support requests; empty when there is none.
    pub activity_id: String,
    /// How long the service asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Whether the driver sent the request more than once by itself, as it does after a lost connection: an earlier copy of a
    /// write may have been carried out.
    pub resent: bool,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, CoreError>;

impl CoreError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        CoreError {
            kind,
            status: 0,
            sub_status: 0,
            activity_id: String::new(),
            retry_after_ms: None,
            resent: false,
            message: message.into(),
        }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub fn state(message: impl Into<String>) -> Self {
        Self::new(Kind::State, message)
    }

    pub fn closed() -> Self {
        Self::new(
            Kind::Closed,
            "the handle is closed or was never opened; open a new one",
        )
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Puts what was being done in front of the message.
    pub fn while_doing(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Wraps an error of the driver. A failure that never reached the service (name resolution, connection,
    /// TLS, time-out) is transient unless the driver gave it a client status of its own.
    pub fn from_driver(error: &CosmosError) -> Self {
        let status = error.status();
        let code = u16::from(status.status_code());
        let sub = status.sub_status().map_or(0, |s| u32::from(s.value()));
        let mut kind = Kind::from_status(code, sub);
        let (mut activity_id, mut retry_after_ms) = (String::new(), None);
        if let Some(response) = error.response() {
            let headers = response.headers();
            activity_id = headers
                .activity_id
                .as_ref()
                .map(|a| a.as_str().to_owned())
                .unwrap_or_default();
            retry_after_ms = headers.retry_after_ms;
        } else if status.is_unauthorized() {
            kind = Kind::Auth;
        }
        CoreError {
            kind,
            status: code,
            sub_status: sub,
            activity_id,
            retry_after_ms,
            resent: error.diagnostics().is_some_and(|d| d.request_count() > 1),
            // The driver's short form: one line with status, name and message, no headers and no key.
            message: error.to_string(),
        }
    }
}

impl From<CosmosError> for CoreError {
    fn from(error: CosmosError) -> Self {
        CoreError::from_driver(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_classified_by_number() {
        for (status, sub, kind) in [
            (400, 0, Kind::BadRequest),
            (401, 0, Kind::Auth),
            (403, 0, Kind::Auth),
            (403, 3, Kind::Transient),
            (404, 0, Kind::NotFound),
            (404, 1002, Kind::Transient),
            (408, 0, Kind::Transient),
            (409, 0, Kind::Conflict),
            (410, 1002, Kind::Transient),
            (412, 0, Kind::Precondition),
            (413, 0, Kind::TooLarge),
            (429, 3200, Kind::Throttled),
            (449, 0, Kind::Transient),
            (500, 0, Kind::Transient),
            (503, 0, Kind::Transient),
        ] {
            assert_eq!(Kind::from_status(status, sub), kind, "{status}/{sub}");
        }
    }

    #[test]
    fn only_failures_of_one_record_may_drop_it() {
        for kind in [
            Kind::Auth,
            Kind::Throttled,
            Kind::Transient,
            Kind::Closed,
            Kind::Internal,
        ] {
            assert!(!kind.is_record_level(), "{kind:?}");
        }
        assert!(Kind::TooLarge.is_record_level());
    }
}
