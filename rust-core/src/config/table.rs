//! The table of options: what a row says, and what is written from the rows.

use std::fmt;

use super::job_options::JOBS;
use super::options::CONNECTOR;
use crate::frame::{FrameKind, FrameWriter};

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Any text that is not empty.
    Text,
    /// An http or https URL with a host, without user and password.
    Url,
    /// `true` or `false`.
    Bool,
    /// An integer of this inclusive range.
    Int(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `beginning`, `now` or an RFC 3339 time.
    Start,
    /// Path of a file that the process can read when it opens its first handle.
    File,
    /// `none`, `environment` or the URL of a proxy.
    Proxy,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Text => f.write_str("text"),
            Type::Url => f.write_str("URL"),
            Type::Bool => f.write_str("true or false"),
            Type::Int(min, u64::MAX) => write!(f, "integer, at least {min}"),
            Type::Int(min, max) => write!(f, "integer, {min} to {max}"),
            Type::Choice(words) => f.write_str(&words.join(", ")),
            Type::Start => f.write_str("beginning, now or an RFC 3339 time"),
            Type::File => f.write_str("file path"),
            Type::Proxy => f.write_str("none, environment or URL"),
        }
    }
}

/// Which part of the system an option belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Of source and sink alike: the account, requests, retries.
    Connection,
    /// Of the source alone.
    Source,
    /// Of the sink alone.
    Sink,
    /// Of the demo's jobs.
    Job,
}

impl Group {
    /// As it stands in the OPTIONS frame and over a table of the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Source => "source",
            Group::Sink => "sink",
            Group::Job => "job",
        }
    }
}

/// One row of the option table.
pub struct OptionSpec {
    /// Such as `source.page-size`.
    pub name: &'static str,
    /// Environment variable; empty when there is none.
    pub variable: &'static str,
    /// What a value must look like.
    pub kind: Type,
    /// Empty: no default.
    pub default: &'static str,
    /// Whom it is for.
    pub group: Group,
    /// Whether its value must show in no message, log or state.
    pub secret: bool,
    /// Whether there must be a value; it has no default then.
    pub required: bool,
    /// What it does, its unit included: a sentence or more for people.
    pub meaning: &'static str,
}

pub(super) const fn opt(
    group: Group,
    name: &'static str,
    variable: &'static str,
    kind: Type,
    default: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        variable,
        kind,
        default,
        group,
        secret: false,
        required: false,
        meaning,
    }
}

pub(super) const fn required(mut spec: OptionSpec) -> OptionSpec {
    spec.required = true;
    spec
}

pub(super) const fn secret(mut spec: OptionSpec) -> OptionSpec {
    spec.secret = true;
    spec
}

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
            (usize::from(tail(o.name) != tail(name)) * 4 + o.name.len().abs_diff(name.len()))
                .saturating_sub(2 * common)
        })
        .map_or("", |o| o.name)
}

/// The table as an OPTIONS frame.
pub fn encode_table() -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Options);
    w.u32(table().count() as u32);
    for o in table() {
        w.str(o.name);
        w.str(o.variable);
        w.str(&o.kind.to_string());
        w.str(o.default);
        w.str(o.group.name());
        w.str(o.meaning);
        w.u8(u8::from(o.secret));
        w.u8(u8::from(o.required));
    }
    w.0
}

/// `docs/configuration.md`, written from the table.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nEvery option can be given as `--name value`, as `--VARIABLE value`, or as an environment variable; arguments go before the\n\
         environment. An empty variable counts as not set. This page is written from the core's own option table\n\
         (`cargo run --release -p cosmosflink-core --example configuration > docs/configuration.md`) and a test compares both.\n",
    );
    for group in [Group::Connection, Group::Source, Group::Sink, Group::Job] {
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
