//! What a row of the table of options says.

use std::fmt;

use super::units;

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
    /// A time with a unit; without one in milliseconds, as are the bounds of this inclusive range.
    Duration(u64, u64),
    /// A size with a unit; without one in bytes, as are the bounds of this inclusive range.
    Size(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `earliest`, `latest` or an RFC 3339 time.
    Time,
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
            Type::Duration(min, max) => {
                write!(
                    f,
                    "duration, {} to {}",
                    units::duration(*min),
                    units::duration(*max)
                )
            }
            Type::Size(min, max) => write!(f, "size, {} to {}", units::size(*min), units::size(*max)),
            Type::Choice(words) => f.write_str(&words.join(", ")),
            Type::Time => f.write_str("earliest, latest or an RFC 3339 time"),
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
    /// Of look-ups alone.
    Lookup,
}

impl Group {
    /// As it stands in the OPTIONS frame and over a table of the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Source => "source",
            Group::Sink => "sink",
            Group::Job => "job",
            Group::Lookup => "lookup",
        }
    }
}

/// One row of the option table.
pub struct OptionSpec {
    /// Such as `scan.page-size`.
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
