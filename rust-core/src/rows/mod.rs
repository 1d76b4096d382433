//! Rows for Flink's SQL: documents become `BinaryRowData` by a plan, without a tree and without an object in the JVM (docs/adr/0039).
//!
//! `plan.rs` reads what a shim asks for, `compiled.rs` makes a trie of it, `decode.rs` walks a document once and writes its row, `text.rs`
//! judges values, `filter.rs` says which rows pass, and `binary.rs` and `variant.rs` know Flink's bytes.
//!
//! The other way, rows become documents (docs/adr/0043): `document_plan.rs` is what a shim asks for, `encode.rs` compiles it and writes JSON,
//! `layout.rs` and `variant_json.rs` read Flink's bytes, and `json_out.rs` has the forms of values.

mod binary;
mod compiled;
mod decode;
mod document_plan;
mod encode;
mod filter;
mod json_out;
mod layout;
mod plan;
mod text;
mod variant;
mod variant_json;

pub use self::binary::RowKind;
pub use self::compiled::Compiled;
pub use self::decode::{Change, Decoder, Refused, Walked};
pub use self::document_plan::{Deletion, DocumentColumn, DocumentPlan, Place};
pub use self::encode::{Change as RowChange, Encoder, Misfit, NoDocument};
pub use self::filter::{find, is_whole, Comparison, Filter, Literal, Operand, Part, Predicate, Target};
pub(crate) use self::plan::write_type;
pub use self::plan::{Changelog, Column, Metadata, OnError, Origin, Plan, Scalar, Type, TypeKind};
pub(crate) use self::text::unquoted;
pub(crate) use self::text::{timestamp, Number};
pub use self::text::{Format, Unit};
