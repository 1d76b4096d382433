//! The core of cosmosflink: reads the change feed of Azure Cosmos DB, encodes split state and writes in bulk.
//!
//! The Java and the Scala connector for Apache Flink are thin shims over this library, which they reach through JNI. Only
//! the module `jni` knows of a JVM; everything else is an ordinary library. `docs/boundary.md` describes what crosses.

// A panic in a native becomes an exception with its message, and still ends a job: tests may, the library may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr,
        // What reads the system's clock, sleeps or draws from the system's chance: see clippy.toml.
        clippy::disallowed_methods
    )
)]
#![warn(missing_docs)]

pub mod account;
#[expect(
    unsafe_code,
    reason = "options of the allocator are set through its C interface"
)]
mod allocator;
pub mod bound;
mod budget;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod credentials;
pub mod dead_letters;
pub mod discovery;
pub mod enumerator;
pub mod error;
pub mod feed;
pub mod frame;
#[cfg(test)]
mod golden;
pub mod handles;
#[expect(
    unsafe_code,
    reason = "exported symbols, and memory that a JVM lends for the time of a call"
)]
mod jni;
mod json;
pub mod keys;
mod lanes;
pub mod leases;
pub mod log_ring;
pub mod lookup;
pub mod metrics;
pub mod opening;
pub mod page;
pub mod partitions;
pub mod retry;
pub mod rows;
mod same;
pub mod share;
pub mod sink;
pub mod source;
pub mod split;
pub mod sql;
pub mod status;
mod transport;
