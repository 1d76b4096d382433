//! Rows for Flink's SQL: documents become `BinaryRowData` by a plan, without a tree and without an object in the JVM (docs/adr/0039).
//!
//! `plan.rs` reads what a shim asks for, `compiled.rs` makes a trie of it, `decode.rs` walks a document once and writes its row, `text.rs`
//! judges values, and `binary.rs` and `variant.rs` know Flink's bytes.

mod binary;
mod compiled;
mod decode;
mod plan;
mod text;
mod variant;

pub use self::binary::RowKind;
pub use self::compiled::Compiled;
pub use self::decode::{Change, Decoder, Refused, Walked};
pub(crate) use self::plan::write_type;
pub use self::plan::{Changelog, Column, Metadata, OnError, Origin, Plan, Scalar, Type, TypeKind};
pub(crate) use self::text::{timestamp, Number};
pub use self::text::{Format, Unit};
