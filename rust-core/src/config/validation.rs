//! What is given, checked against the table.

use std::collections::BTreeMap;

use url::Url;

use super::options::ALL_VERSIONS;
use super::row::{OptionSpec, Type};
use super::table::{nearest, spec, table};
use super::{auth, Begin, ReadMany, Role, Start, StopAt};
use crate::error::{CoreError, Result};
use crate::keys;
use crate::sink::{IdRule, KeyFields};
use crate::sql::Query;

/// The start with the container as it is, and then with every change of it.
pub(super) const INITIAL: &str = "initial";

/// Shows a value in a message unless it is secret.
fn shown(spec: &OptionSpec, value: &str) -> String {
    if spec.secret {
        "the value given".to_owned()
    } else {
        format!("'{value}'")
    }
}

/// The error for a value that is not what its option takes; `why` is empty, or a reason in brackets behind a space.
fn wrong(spec: &OptionSpec, value: &str, why: &str) -> CoreError {
    CoreError::config(format!(
        "{}: {} is not valid{why}; expected: {}",
        spec.name,
        shown(spec, value),
        spec.kind
    ))
}

fn check_url(spec: &OptionSpec, value: &str) -> Result<()> {
    match Url::parse(value) {
        Err(e) => Err(wrong(spec, value, &format!(" ({e})"))),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err(wrong(spec, value, " (the scheme must be https or http)"))
        }
        Ok(url) if url.host_str().is_none() => Err(wrong(spec, value, " (there is no host)")),
        // A password in a URL would end up in logs.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Err(CoreError::config(format!(
            "{}: a URL must not hold a user or a password",
            spec.name
        ))),
        Ok(_) => Ok(()),
    }
}

pub(super) fn check_value(spec: &OptionSpec, value: &str) -> Result<()> {
    let wrong = |why: &str| Err(wrong(spec, value, why));
    match spec.kind {
        Type::Text | Type::File => {
            if value.is_empty() {
                return wrong(" (it is empty)");
            }
        }
        Type::Url => check_url(spec, value)?,
        Type::Proxy => {
            if !matches!(value, "none" | "environment") {
                check_url(spec, value)?;
            }
        }
        Type::Bool => {
            if !matches!(value, "true" | "false") {
                return wrong("");
            }
        }
        Type::Int(min, max) => match value.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => {}
            _ => return wrong(""),
        },
        Type::Choice(words) => {
            if !words.contains(&value) {
                return wrong("");
            }
        }
        Type::Start => drop(parse_begin(value).map_err(|why| wrong_time(spec, value, &why))?),
        // A lease's reader goes on with one mode.
        Type::Time if value == INITIAL => return wrong(""),
        Type::Time => drop(parse_start(value).map_err(|why| wrong_time(spec, value, &why))?),
        Type::Stop => drop(parse_stop(value).map_err(|why| wrong_time(spec, value, &why))?),
    }
    Ok(())
}

fn wrong_time(spec: &OptionSpec, value: &str, why: &str) -> CoreError {
    wrong(spec, value, &format!(" ({why})"))
}

/// Milliseconds since the epoch.
fn parse_time(text: &str) -> std::result::Result<i64, String> {
    let time = azure_core::time::parse_rfc3339(text).map_err(|e| e.to_string())?;
    Ok((time.unix_timestamp_nanos() / 1_000_000) as i64)
}

pub(super) fn parse_begin(value: &str) -> std::result::Result<Begin, String> {
    match value {
        "tokens" => Ok(Begin::Tokens),
        "leases" => Ok(Begin::Leases),
        text => parse_start(text).map(Begin::At),
    }
}

pub(super) fn parse_start(value: &str) -> std::result::Result<Start, String> {
    match value {
        // A container as it is, is its feed of latest versions from the beginning.
        "beginning" | INITIAL => Ok(Start::Beginning),
        "now" => Ok(Start::Now),
        text => parse_time(text).map(Start::PointInTime),
    }
}

pub(super) fn parse_stop(value: &str) -> std::result::Result<StopAt, String> {
    match value {
        "never" => Ok(StopAt::Never),
        "start" => Ok(StopAt::Start),
        text => parse_time(text).map(StopAt::Time),
    }
}

/// The query of a source, where it has one.
pub(super) fn query(options: &BTreeMap<String, String>) -> Result<Option<Query>> {
    let text = |name: &str| options.get(name).map_or("", String::as_str);
    let parameters = text("source.query-parameters");
    match (text("source.query"), parameters) {
        ("", "") => Ok(None),
        ("", _) => Err(CoreError::config(
            "source.query-parameters is set but source.query is not; set the query, or leave its parameters out",
        )),
        (query, _) => Query::new(query, parameters).map(Some).map_err(CoreError::config),
    }
}

/// The documents that a source reads by key, where it does.
pub(super) fn read_many(options: &BTreeMap<String, String>) -> Result<Option<ReadMany>> {
    match (
        options.get("source.read-many"),
        options.get("source.read-many-file"),
    ) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(CoreError::config(
            "source.read-many and source.read-many-file are both set; keep one",
        )),
        (None, Some(file)) => Ok(Some(ReadMany::File(file.clone()))),
        (Some(list), None) => match keys::of_list(list) {
            Ok(_) => Ok(Some(ReadMany::List(list.clone()))),
            Err(why) => Err(CoreError::config(format!("source.read-many: {why}"))),
        },
    }
}

/// How a sink makes an id of a document.
pub(super) fn id_rule(options: &BTreeMap<String, String>) -> Result<IdRule> {
    let text = options.get("sink.id").map_or("{id}", String::as_str);
    IdRule::parse(text).map_err(|why| {
        CoreError::config(format!(
            "sink.id: '{text}' is not valid ({why}); expected: a template such as {{customerId}}-{{orderId}}, or hash(customerId,orderId)"
        ))
    })
}

/// Fields that are given as JSON pointers.
fn pointers(options: &BTreeMap<String, String>, name: &str) -> Result<Option<KeyFields>> {
    let Some(text) = options.get(name) else {
        return Ok(None);
    };
    KeyFields::parse(text).map(Some).map_err(|why| {
        CoreError::config(format!(
            "{name}: '{text}' is not valid ({why}); expected: a JSON array of JSON pointers such as [\"/id\"]"
        ))
    })
}

/// The fields by which rows are told apart, where they are.
pub(super) fn row_key_fields(options: &BTreeMap<String, String>) -> Result<Option<KeyFields>> {
    pointers(options, "source.key-fields")
}

/// The fields that a deletion gives, where they are known; what the id is made of is among them.
pub(super) fn key_fields(options: &BTreeMap<String, String>) -> Result<Option<KeyFields>> {
    let Some(fields) = pointers(options, "sink.key-fields")? else {
        return Ok(None);
    };
    for path in id_rule(options)?.fields() {
        fields.require(path, "of which sink.id makes the id")?;
    }
    Ok(Some(fields))
}

/// Options of a source that exclude each other.
fn check_source(options: &BTreeMap<String, String>) -> Result<()> {
    row_key_fields(options)?;
    let text = |name: &str| options.get(name).map_or("", String::as_str);
    let (mode, start, stop) = (text("source.mode"), text("source.start"), text("source.stop"));
    if mode == ALL_VERSIONS && (query(options)?.is_some() || read_many(options)?.is_some()) {
        return Err(CoreError::config(format!(
            "source.mode is '{mode}', of the change feed, but source.query or source.read-many read documents as they are; leave one out"
        )));
    }
    if start == INITIAL && stop != "never" {
        return Err(CoreError::config(format!(
            "source.start '{INITIAL}' reads the container and then its changes without end, but source.stop is '{stop}'; leave one out"
        )));
    }
    if query(options)?.is_some() && (start != "beginning" || !matches!(stop, "never" | "start")) {
        return Err(CoreError::config(format!(
            "source.query reads the documents as they are, not the change feed: source.start ('{start}') and source.stop ('{stop}') do not apply; leave them out, or set source.stop to start where a change feed is to go on behind the query"
        )));
    }
    if read_many(options)?.is_some() && (query(options)?.is_some() || start != "beginning" || stop != "never")
    {
        return Err(CoreError::config(format!(
            "source.read-many reads documents by key: source.query, source.start ('{start}') and source.stop ('{stop}') do not apply; leave them out"
        )));
    }
    let reads_documents = query(options)?.is_some() || read_many(options)?.is_some();
    if reads_documents
        && options.contains_key("source.lease-container")
        && text("source.lease-format") != "none"
    {
        return Err(CoreError::config(
            "source.lease-container: leases hold positions of the change feed, which source.query and source.read-many do not read; leave it out, or set source.lease-format to none",
        ));
    }
    let nothing = match (parse_start(start), parse_stop(stop)) {
        (Ok(Start::Now), Ok(StopAt::Start)) => true,
        (Ok(Start::PointInTime(start)), Ok(StopAt::Time(stop))) => stop <= start,
        _ => false,
    };
    match nothing {
        true => Err(CoreError::config(format!(
            "source.stop ('{stop}') is not behind source.start ('{start}'): there is nothing to read; set an earlier start or a later stop"
        ))),
        false => Ok(()),
    }
}

/// Options from a job's arguments and environment.
///
/// An argument's name is an option's name or its variable's; arguments go before the environment. Variables that
/// belong to no option are left alone, arguments that belong to none are an error, so that a typing mistake shows.
///
/// # Errors
/// [`crate::error::Kind::Config`], with the option and its value.
pub fn resolve(
    arguments: &[(String, String)],
    environment: &[(String, String)],
) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in environment {
        // An empty variable is how compose files say "not set".
        if let Some(o) = table().find(|o| !o.variable.is_empty() && o.variable == name && !value.is_empty()) {
            out.insert(o.name.to_owned(), value.clone());
        }
    }
    // A key given as a file in the arguments replaces a key from the environment, and the other way round.
    for pair in [
        ["cosmos.auth.key", "cosmos.auth.key-file"],
        ["cosmos.auth.client-secret", "cosmos.auth.client-secret-file"],
    ] {
        if arguments.iter().any(|(n, _)| {
            pair.iter()
                .any(|p| n == p || spec(p).is_some_and(|o| o.variable == n))
        }) {
            pair.iter().for_each(|p| drop(out.remove(*p)));
        }
    }
    for (name, value) in arguments {
        let o = table()
            .find(|o| o.name == name || (!o.variable.is_empty() && o.variable == name))
            .ok_or_else(|| {
                CoreError::config(format!(
                    "option '{name}' is unknown; did you mean '{}'? docs/configuration.md lists all",
                    nearest(name)
                ))
            })?;
        out.insert(o.name.to_owned(), value.clone());
    }
    for (name, value) in &out {
        check_value(spec(name).expect("only names of the table were inserted"), value)?;
    }
    Ok(out)
}

/// Checks options against the table and fills in defaults. The role says which must be there.
///
/// # Errors
/// [`crate::error::Kind::Config`], with the option and its value.
pub fn validate(role: Role, given: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in given {
        let spec = spec(name).ok_or_else(|| {
            CoreError::config(format!(
                "option '{name}' is unknown; did you mean '{}'? docs/configuration.md lists all",
                nearest(name)
            ))
        })?;
        check_value(spec, value)?;
        out.insert(name.clone(), value.clone());
    }
    if !out.contains_key("source.min-poll-interval-ms") {
        // An interval that was asked for is meant as it stands; only the default starts below it.
        if let Some(interval) = out.get("source.poll-interval-ms").cloned() {
            out.insert("source.min-poll-interval-ms".to_owned(), interval);
        }
    }
    for o in table() {
        if !o.default.is_empty() {
            out.entry(o.name.to_owned())
                .or_insert_with(|| o.default.to_owned());
        } else if o.required && !out.contains_key(o.name) {
            return Err(missing(o.name));
        }
    }
    if matches!(role, Role::Source | Role::Sink | Role::Lookup) && !out.contains_key("cosmos.container") {
        return Err(missing("cosmos.container"));
    }
    let number = |name: &str| -> u64 { out.get(name).and_then(|v| v.parse().ok()).unwrap_or(0) };
    let at_most = |small: &str, large: &str| {
        if number(small) > number(large) {
            return Err(CoreError::config(format!(
                "{small} ({}) must not exceed {large} ({})",
                number(small),
                number(large)
            )));
        }
        Ok(())
    };
    at_most("cosmos.retry.backoff-ms", "cosmos.retry.max-backoff-ms")?;
    at_most("source.min-poll-interval-ms", "source.poll-interval-ms")?;
    let renewal = "source.lease-renew-interval-ms";
    if 2 * number(renewal) > number("source.lease-expiration-ms") {
        return Err(CoreError::config(format!(
            "{renewal} ({}) must not exceed half of source.lease-expiration-ms ({}): a lease would expire between two renewals",
            number(renewal),
            number("source.lease-expiration-ms")
        )));
    }
    id_rule(&out)?;
    if matches!(role, Role::Source | Role::Job) {
        mode_and_start(&out["source.mode"], &out["source.start"])?;
        check_source(&out)?;
        if let Some(start) = out.get("source.lease-start") {
            mode_and_start(&out["source.mode"], start).map_err(|e| e.while_doing("source.lease-start"))?;
        }
        for (start, needed) in [
            ("leases", "source.lease-container"),
            ("tokens", "source.start-tokens-file"),
        ] {
            if out["source.start"] == start && !out.contains_key(needed) {
                return Err(CoreError::config(format!(
                    "source.start is '{start}' but {needed} is missing; name it"
                )));
            }
        }
    }
    if role == Role::Job && out["source.mode"] == ALL_VERSIONS && out["job.count-repeats"] == "true" {
        return Err(CoreError::config(format!(
            "job.count-repeats counts documents by their latest versions, and source.mode is '{ALL_VERSIONS}', in which a document may come as it is and then as it was before; leave one out"
        )));
    }
    if role == Role::Sink {
        key_fields(&out)?;
        at_most("sink.max-record-bytes", "sink.max-batch-bytes")?;
        if number("sink.max-buffered-requests") <= number("sink.max-batch-size") {
            return Err(CoreError::config(format!(
                "sink.max-buffered-requests ({}) must exceed sink.max-batch-size ({})",
                number("sink.max-buffered-requests"),
                number("sink.max-batch-size")
            )));
        }
        let (stall, request) = (
            number("sink.stall-timeout-ms"),
            number("cosmos.request-timeout-ms"),
        );
        if stall > 0 && stall <= request {
            return Err(CoreError::config(format!(
                "sink.stall-timeout-ms ({stall}) must exceed cosmos.request-timeout-ms ({request}), or be 0: a request that is still waited for is no stall"
            )));
        }
        if out["sink.failure-mode"] == "dead-letter" && !out.contains_key("sink.dead-letter-container") {
            return Err(CoreError::config("sink.failure-mode is 'dead-letter' but sink.dead-letter-container is missing; name the container"));
        }
    }
    auth(&out)?;
    authority_host(&out)?;
    Ok(out)
}

/// All versions and deletes are not there from everywhere on, and only they have an initial phase.
fn mode_and_start(mode: &str, start: &str) -> Result<()> {
    let why = match (mode == ALL_VERSIONS, start) {
        (false, INITIAL) => {
            return Err(CoreError::config(format!(
                "source.start is '{INITIAL}', the container as it is and then its versions and deletes, but source.mode is '{mode}'; set source.mode to {ALL_VERSIONS}, or source.start to beginning for the latest versions"
            )))
        }
        (true, "beginning") => "the service keeps old versions and deletes for the retention of the account's continuous backup, and not from the beginning",
        (true, start) if !matches!(start, INITIAL | "now" | "tokens" | "leases") => "the service finds no point in time in them",
        _ => return Ok(()),
    };
    Err(CoreError::config(format!(
        "source.mode is '{mode}', which cannot start at '{start}': {why}; set source.start to now, or to {INITIAL} for the container as it is first"
    )))
}

/// Secrets travel to this host, so that plain http is refused.
pub(super) fn authority_host(options: &BTreeMap<String, String>) -> Result<Option<Url>> {
    let name = "cosmos.auth.authority-host";
    let Some(text) = options.get(name) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Ok(Some(url)),
        _ => Err(CoreError::config(format!(
            "{name}: '{text}' is not valid; expected: a URL with https"
        ))),
    }
}

pub(super) fn missing(name: &str) -> CoreError {
    let variable = spec(name).map_or("", |o| o.variable);
    let or = if variable.is_empty() {
        String::new()
    } else {
        format!(" or the variable {variable}")
    };
    CoreError::config(format!("option '{name}' is missing; set it{or}"))
}
