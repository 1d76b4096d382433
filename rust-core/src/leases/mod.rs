//! Leases of change feed processors: the source starts from them, and publishes its progress as such, so that a processor of a vendor's SDK
//! and a job can take over from each other, and estimators and dashboards see the job's lag.
//!
//! What decides stands apart from what acts: [`format`] and [`token`] read and write documents and tokens, [`takeover`] judges whether leases
//! may be taken, [`ledger`] what a reader writes. [`store`] asks the lease container, [`acquire`] takes leases over, [`publisher`] is the task that runs a ledger.

pub mod acquire;
pub mod format;
pub mod ledger;
pub mod publisher;
pub mod store;
pub mod takeover;
pub mod token;
pub mod tokens_file;

/// Who takes and writes leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `Owner` of a lease.
    pub host: String,
    /// Flink's ids of the job and of the source's operator: a name may be given twice, these are not.
    pub job: String,
}
