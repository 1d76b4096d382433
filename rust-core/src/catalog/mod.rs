//! Databases and containers as a catalog needs them: what there is, what a container looks like, and their creation and end.
//!
//! `wire.rs` has the frames, `manage.rs` carries requests out, and `infer.rs` makes columns of documents: the pure part, without an account.

mod infer;
mod manage;
mod wire;

pub use self::infer::{Column, Conflict, Documents, Inferred, Numbers, Rules, Shape};
pub use self::manage::administer;
pub use self::wire::{Answer, Container, Request, Throughput};
