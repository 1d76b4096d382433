//! A local Cosmos DB account for development and tests: Microsoft's in-memory emulator behind HTTP.
//!
//! The emulator is an internal part of the vendor's Rust driver and answers most requests as it is. In front of it
//! this crate checks signatures, carries out the non-atomic bulk form, serves the change feed from an index of its
//! own (with history and deletions, if asked to: [`AllVersions`]), lets documents expire, and injects faults, splits
//! and merges on request. It serves https ([`Tls`]) and several regions ([`Config::regions`]). Nothing is stored on
//! disk. The README lists the options of the command and the admin requests.

mod admin;
mod answer;
mod bulk;
mod container;
mod definitions;
mod emulator;
mod faults;
mod gateway_v2;
mod history;
mod key;
mod listener;
mod offers;
mod patch;
mod query;
mod recreate;
mod regions;
mod requests;
mod server;
mod sql;
mod tls;
mod ttl;

pub use history::{AllVersions, MetadataKey};
pub use key::AccountKey;
pub use server::{Config, ContainerSpec, Server};
pub use tls::Tls;

/// What the server does not do; requests for most of it are answered with 501 and the reason.
pub const NOT_EMULATED: &str = "\
not emulated: persistence, replication between regions, Entra ID, resource tokens, stored procedures, triggers and
functions, autoscale, aggregates with ORDER BY, DISTINCT or an expression around them over several partitions, binary
JSON in answers to writes, indexing policies, and the service's real request charges and latencies";

/// Keeps `RUST_BACKTRACE=1` in the environment from slowing the server down five times: the emulator looks absent
/// headers up through errors, each of which would carry a backtrace. Panics keep theirs. A `RUST_LIB_BACKTRACE` that
/// is set is respected.
///
/// Call it first in `main`: it changes the environment, which other threads must not read at the same time.
pub fn without_backtraces() {
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        std::env::set_var("RUST_LIB_BACKTRACE", "0");
    }
}
