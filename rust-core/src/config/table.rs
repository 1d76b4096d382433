//! The table of options, and what is written from its rows.

use super::former::former;
use super::job_options::JOBS;
use super::options::CONNECTOR;
use super::row::{Group, OptionSpec};
use crate::frame::{FrameKind, FrameWriter};

/// Every option of the connectors and the jobs, in the order of the documentation.
pub fn table() -> impl Iterator<Item = &'static OptionSpec> {
    CONNECTOR.iter().chain(JOBS)
}

/// The row of an option.
pub fn spec(name: &str) -> Option<&'static OptionSpec> {
    table().find(|o| o.name == name)
}

/// The nearest known name, for a message about an unknown one.
pub(super) fn nearest(name: &str) -> &'static str {
    let tail = |s: &str| s.rsplit(['.', '_']).next().unwrap_or(s).to_ascii_lowercase();
    table()
        .min_by_key(|o| {
            let common = o
                .name
                .bytes()
                .zip(name.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let far = usize::from(tail(o.name) != tail(name)) * 4 + o.name.len().abs_diff(name.len());
            far as i64 - 2 * common as i64
        })
        .map_or("", |o| o.name)
}

/// The table as an OPTIONS frame.
pub fn encode_table() -> Vec<u8> {
    encode(&table().collect::<Vec<_>>())
}

/// Rows as an OPTIONS frame.
pub(crate) fn encode(rows: &[&OptionSpec]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Options);
    w.u32(rows.len() as u32);
    for o in rows {
        w.str(o.name);
        w.str(o.variable);
        w.str(&o.kind.to_string());
        w.str(o.default);
        w.str(o.group.name());
        w.str(o.meaning);
        w.u8(u8::from(o.secret));
        w.u8(u8::from(o.required));
        w.str(former(o.name));
    }
    w.0
}

/// `docs/configuration.md`, written from the table.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nEvery option can be given as `--name value`, as `--VARIABLE value`, or as an environment variable; arguments go before the\n\
         environment. An empty variable counts as not set. A duration or a size has a unit, such as `500 ms`, `2 s`, `5 min` or `64 mb`; a number alone counts\n\
         milliseconds or bytes. In a table of Flink SQL the options stand in its `WITH` clause ([sql.md](sql.md)). This page is written from the core's own option table\n\
         (`cargo run --release -p cosmosflink-core --example configuration > docs/configuration.md`) and a test compares both.\n",
    );
    for group in [
        Group::Connection,
        Group::Source,
        Group::Sink,
        Group::Lookup,
        Group::Job,
    ] {
        let name = group.name();
        out.push_str(&format!(
            "\n## {}{}\n\n| option | variable | type | default | meaning |\n|---|---|---|---|---|\n",
            name[..1].to_uppercase(),
            &name[1..]
        ));
        for o in table().filter(|o| o.group == group) {
            let code = |s: &str| {
                if s.is_empty() {
                    String::new()
                } else {
                    format!("`{s}`")
                }
            };
            let default = if o.required {
                "required".to_owned()
            } else {
                code(o.default)
            };
            let note = if o.secret { " Secret." } else { "" };
            out.push_str(&format!(
                "| `{}` | {} | {} | {default} | {}{note} |\n",
                o.name,
                code(o.variable),
                o.kind,
                o.meaning
            ));
        }
    }
    out
}
