//! Makes OrderCreated events and upserts them into a container; also the one way in which the repository's command-line
//! programs open an account ([`connect`]).

pub mod connect;
pub mod cosmos;
pub mod order;
pub mod run;
