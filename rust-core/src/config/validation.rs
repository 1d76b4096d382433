//! What is given, checked against the table.

use std::collections::BTreeMap;

use url::Url;

use super::former::{renamed, reworded};
use super::options::{ALL_VERSIONS, EARLIEST, INITIAL, TIMESTAMP, UNBOUNDED};
use super::row::{OptionSpec, Type};
use super::table::{nearest, spec, table};
use super::units::{self, parse_duration, parse_size};
use super::{auth, Begin, ReadMany, Role, Start, StopAt};
use crate::error::{CoreError, Result};
use crate::keys;
use crate::sink::{IdRule, KeyFields};
use crate::sql::Query;

const STARTUP: &str = "scan.startup.mode";
const STARTUP_TIME: &str = "scan.startup.timestamp-millis";
const BOUNDED: &str = "scan.bounded.mode";
const BOUNDED_TIME: &str = "scan.bounded.timestamp-millis";

/// Shows a value in a message unless it is secret, or is no address where one should be: then it may hold a password, or be the whole
/// connection string of an account.
fn shown(spec: &OptionSpec, value: &str) -> String {
    let address = matches!(spec.kind, Type::Url | Type::Proxy);
    if spec.secret || address && value.contains(['@', ';', '=', '?', '#', '&', '%', ' ']) {
        "the value given".to_owned()
    } else {
        format!("'{value}'")
    }
}

/// The error for a value that is not what its option takes; `why` is empty, or a reason in brackets behind a space.
fn wrong(spec: &OptionSpec, value: &str, why: &str) -> CoreError {
    let now = reworded(spec.name, value).map_or_else(String::new, |word| format!("; it is '{word}' now"));
    CoreError::config(format!(
        "{}: {} is not valid{why}{now}; expected: {}",
        spec.name,
        shown(spec, value),
        spec.kind
    ))
}

/// The error for a name that no option has.
fn unknown(name: &str) -> CoreError {
    CoreError::config(match renamed(name) {
        Some(new) => format!("option '{name}' is now '{new}'; docs/configuration.md lists all"),
        None => format!(
            "option '{name}' is unknown; did you mean '{}'? docs/configuration.md lists all",
            nearest(name)
        ),
    })
}

fn check_url(spec: &OptionSpec, value: &str) -> Result<()> {
    if value.to_ascii_lowercase().contains("accountkey=") {
        return Err(CoreError::config(format!(
            "{}: this is a connection string, and a URL is expected; give its AccountEndpoint here, and its AccountKey as auth.secret-key or in the file of auth.key-file",
            spec.name
        )));
    }
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
        Type::Duration(min, max) | Type::Size(min, max) => match measured(spec, value) {
            Ok(n) if (min..=max).contains(&n) => {}
            Ok(_) => return wrong(""),
            Err(why) => return wrong(&format!(" ({why})")),
        },
        Type::Choice(words) => {
            if !words.contains(&value) {
                return wrong("");
            }
        }
        Type::Time => {
            if let Err(why) = parse_start(value) {
                return wrong(&format!(" ({why})"));
            }
        }
    }
    Ok(())
}

/// Milliseconds or bytes of an option that is one of the two.
fn measured(spec: &OptionSpec, value: &str) -> std::result::Result<u64, String> {
    match spec.kind {
        Type::Duration(..) => parse_duration(value),
        _ => parse_size(value),
    }
}

/// A value that was checked as whoever asks for it finds it: durations in milliseconds, sizes in bytes.
fn plain(spec: &OptionSpec, value: &str) -> String {
    match spec.kind {
        Type::Duration(..) | Type::Size(..) => {
            measured(spec, value).map_or_else(|_| value.to_owned(), |number| number.to_string())
        }
        _ => value.to_owned(),
    }
}

/// A number of [`plain`] as people write it.
fn with_unit(name: &str, number: u64) -> String {
    match spec(name).map(|o| o.kind) {
        Some(Type::Duration(..)) => units::duration(number),
        Some(Type::Size(..)) => units::size(number),
        _ => number.to_string(),
    }
}

/// Milliseconds since the epoch.
fn parse_time(text: &str) -> std::result::Result<i64, String> {
    let time = azure_core::time::parse_rfc3339(text).map_err(|e| e.to_string())?;
    Ok((time.unix_timestamp_nanos() / 1_000_000) as i64)
}

/// Where a lease without a position begins.
pub(super) fn parse_start(value: &str) -> std::result::Result<Start, String> {
    match value {
        EARLIEST => Ok(Start::Beginning),
        "latest" => Ok(Start::Now),
        text => parse_time(text).map(Start::PointInTime),
    }
}

fn millis(options: &BTreeMap<String, String>, name: &str) -> i64 {
    options.get(name).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// From where a job without a state gets its positions; of options that were checked.
pub(super) fn begin(options: &BTreeMap<String, String>) -> Begin {
    match options.get(STARTUP).map_or("", String::as_str) {
        "tokens" => Begin::Tokens,
        "leases" => Begin::Leases,
        "latest" => Begin::At(Start::Now),
        TIMESTAMP => Begin::At(Start::PointInTime(millis(options, STARTUP_TIME))),
        // A container as it is, is its feed of latest versions from the beginning.
        _ => Begin::At(Start::Beginning),
    }
}

/// Up to where the change feed is read; of options that were checked.
pub(super) fn stop(options: &BTreeMap<String, String>) -> StopAt {
    match options.get(BOUNDED).map_or("", String::as_str) {
        "latest" => StopAt::Start,
        TIMESTAMP => StopAt::Time(millis(options, BOUNDED_TIME)),
        _ => StopAt::Never,
    }
}

/// A mode `timestamp` has its time, and no other one has.
fn timestamps(options: &BTreeMap<String, String>) -> Result<()> {
    for (mode, time) in [(STARTUP, STARTUP_TIME), (BOUNDED, BOUNDED_TIME)] {
        let value = options.get(mode).map_or("", String::as_str);
        match (value == TIMESTAMP, options.contains_key(time)) {
            (true, false) => {
                return Err(CoreError::config(format!(
                    "{mode} is '{value}' but {time} is missing; set it"
                )))
            }
            (false, true) => {
                return Err(CoreError::config(format!(
                    "{time} is set but {mode} is '{value}'; set that to {TIMESTAMP}, or leave the time out"
                )))
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a variable says of its option. Some of them have kept words of their own, and times.
fn of_variable(o: &OptionSpec, value: &str) -> Vec<(&'static str, String)> {
    if let Some(word) = reworded(o.name, value) {
        return vec![(o.name, word.to_owned())];
    }
    let time = match o.name {
        STARTUP => STARTUP_TIME,
        BOUNDED => BOUNDED_TIME,
        _ => return vec![(o.name, value.to_owned())],
    };
    match parse_time(value) {
        Ok(millis) => vec![(o.name, TIMESTAMP.to_owned()), (time, millis.to_string())],
        // Whoever checks the option says that it is no word of it either.
        Err(_) => vec![(o.name, value.to_owned())],
    }
}

/// The query of a source, where it has one.
pub(super) fn query(options: &BTreeMap<String, String>) -> Result<Option<Query>> {
    let text = |name: &str| options.get(name).map_or("", String::as_str);
    let parameters = text("scan.query-parameters");
    match (text("scan.query"), parameters) {
        ("", "") => Ok(None),
        ("", _) => Err(CoreError::config(
            "scan.query-parameters is set but scan.query is not; set the query, or leave its parameters out",
        )),
        (query, _) => Query::new(query, parameters).map(Some).map_err(CoreError::config),
    }
}

/// The documents that a source reads by key, where it does.
pub(super) fn read_many(options: &BTreeMap<String, String>) -> Result<Option<ReadMany>> {
    match (options.get("scan.read-many"), options.get("scan.read-many-file")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(CoreError::config(
            "scan.read-many and scan.read-many-file are both set; keep one",
        )),
        (None, Some(file)) => Ok(Some(ReadMany::File(file.clone()))),
        (Some(list), None) => match keys::of_list(list) {
            Ok(_) => Ok(Some(ReadMany::List(list.clone()))),
            Err(why) => Err(CoreError::config(format!("scan.read-many: {why}"))),
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
    pointers(options, "scan.key-fields")
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
    let (mode, start, stop) = (text("scan.change-feed.mode"), text(STARTUP), text(BOUNDED));
    if mode == ALL_VERSIONS && (query(options)?.is_some() || read_many(options)?.is_some()) {
        return Err(CoreError::config(format!(
            "scan.change-feed.mode is '{mode}', of the change feed, but scan.query or scan.read-many read documents as they are; leave one out"
        )));
    }
    if start == INITIAL && stop != UNBOUNDED {
        return Err(CoreError::config(format!(
            "scan.startup.mode '{INITIAL}' reads the container and then its changes without end, but scan.bounded.mode is '{stop}'; leave one out"
        )));
    }
    if query(options)?.is_some() && (start != EARLIEST || !matches!(stop, UNBOUNDED | "latest")) {
        return Err(CoreError::config(format!(
            "scan.query reads the documents as they are, not the change feed: scan.startup.mode ('{start}') and scan.bounded.mode ('{stop}') do not apply; leave them out, or set scan.bounded.mode to latest where a change feed is to go on behind the query"
        )));
    }
    if read_many(options)?.is_some() && (query(options)?.is_some() || start != EARLIEST || stop != UNBOUNDED)
    {
        return Err(CoreError::config(format!(
            "scan.read-many reads documents by key: scan.query, scan.startup.mode ('{start}') and scan.bounded.mode ('{stop}') do not apply; leave them out"
        )));
    }
    let reads_documents = query(options)?.is_some() || read_many(options)?.is_some();
    if reads_documents && options.contains_key("scan.lease.container") && text("scan.lease.format") != "none"
    {
        return Err(CoreError::config(
            "scan.lease.container: leases hold positions of the change feed, which scan.query and scan.read-many do not read; leave it out, or set scan.lease.format to none",
        ));
    }
    match (begin(options), self::stop(options)) {
        (Begin::At(Start::Now), StopAt::Start) => Err(CoreError::config(format!(
            "{BOUNDED} ('{stop}') is not behind {STARTUP} ('{start}'): there is nothing to read; set an earlier start or a later stop"
        ))),
        (Begin::At(Start::PointInTime(from)), StopAt::Time(to)) if to <= from => Err(CoreError::config(format!(
            "{BOUNDED_TIME} ({to}) is not behind {STARTUP_TIME} ({from}): there is nothing to read; set an earlier start or a later stop"
        ))),
        _ => Ok(()),
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
            out.extend(
                of_variable(o, value)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value)),
            );
        }
    }
    let given = |option: &str| {
        arguments
            .iter()
            .any(|(n, _)| n == option || spec(option).is_some_and(|o| o.variable == n))
    };
    // A key given as a file in the arguments replaces a key from the environment, and the other way round.
    for pair in [
        ["auth.secret-key", "auth.key-file"],
        ["auth.client-secret", "auth.client-secret-file"],
    ] {
        if pair.iter().any(|option| given(option)) {
            pair.iter().for_each(|p| drop(out.remove(*p)));
        }
    }
    // The time of a variable goes with its mode.
    for (mode, time) in [(STARTUP, STARTUP_TIME), (BOUNDED, BOUNDED_TIME)] {
        if given(mode) {
            out.remove(time);
        }
    }
    for (name, value) in arguments {
        if let Some(o) = spec(name) {
            out.insert(o.name.to_owned(), value.clone());
        } else if let Some(o) = table().find(|o| !o.variable.is_empty() && o.variable == name) {
            out.extend(
                of_variable(o, value)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value)),
            );
        } else {
            return Err(unknown(name));
        }
    }
    for (name, value) in &out {
        check_value(spec(name).expect("only names of the table were inserted"), value)?;
    }
    Ok(out)
}

/// Checks options against the table and fills in defaults. The role says which must be there. Durations come back in milliseconds, sizes in bytes.
///
/// # Errors
/// [`crate::error::Kind::Config`], with the option and its value.
pub fn validate(role: Role, given: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in given {
        let spec = spec(name).ok_or_else(|| unknown(name))?;
        check_value(spec, value)?;
        out.insert(name.clone(), plain(spec, value));
    }
    if !out.contains_key("scan.min-poll-interval") {
        // An interval that was asked for is meant as it stands; only the default starts below it.
        if let Some(interval) = out.get("scan.poll-interval").cloned() {
            out.insert("scan.min-poll-interval".to_owned(), interval);
        }
    }
    for o in table() {
        if !o.default.is_empty() {
            out.entry(o.name.to_owned())
                .or_insert_with(|| plain(o, o.default));
        } else if o.required && !out.contains_key(o.name) {
            return Err(missing(o.name));
        }
    }
    if matches!(role, Role::Source | Role::Sink | Role::Lookup) && !out.contains_key("container") {
        return Err(missing("container"));
    }
    let number = |name: &str| -> u64 { out.get(name).and_then(|v| v.parse().ok()).unwrap_or(0) };
    let at_most = |small: &str, large: &str| {
        if number(small) > number(large) {
            return Err(CoreError::config(format!(
                "{small} ({}) must not exceed {large} ({})",
                with_unit(small, number(small)),
                with_unit(large, number(large))
            )));
        }
        Ok(())
    };
    at_most("retry.backoff", "retry.max-backoff")?;
    at_most("scan.min-poll-interval", "scan.poll-interval")?;
    let renewal = "scan.lease.renew-interval";
    if 2 * number(renewal) > number("scan.lease.expiration") {
        return Err(CoreError::config(format!(
            "{renewal} ({}) must not exceed half of scan.lease.expiration ({}): a lease would expire between two renewals",
            with_unit(renewal, number(renewal)),
            with_unit("scan.lease.expiration", number("scan.lease.expiration"))
        )));
    }
    id_rule(&out)?;
    if matches!(role, Role::Source | Role::Job) {
        timestamps(&out)?;
        mode_and_start(&out["scan.change-feed.mode"], &out[STARTUP])?;
        check_source(&out)?;
        if let Some(start) = out.get("scan.lease.start") {
            mode_and_start(&out["scan.change-feed.mode"], start)
                .map_err(|e| e.while_doing("scan.lease.start"))?;
        }
        for (start, needed) in [
            ("leases", "scan.lease.container"),
            ("tokens", "scan.startup.tokens-file"),
        ] {
            if out[STARTUP] == start && !out.contains_key(needed) {
                return Err(CoreError::config(format!(
                    "scan.startup.mode is '{start}' but {needed} is missing; name it"
                )));
            }
        }
    }
    if role == Role::Job && out["scan.change-feed.mode"] == ALL_VERSIONS && out["job.count-repeats"] == "true"
    {
        return Err(CoreError::config(format!(
            "job.count-repeats counts documents by their latest versions, and scan.change-feed.mode is '{ALL_VERSIONS}', in which a document may come as it is and then as it was before; leave one out"
        )));
    }
    if role == Role::Sink {
        key_fields(&out)?;
        at_most("sink.max-record-size", "sink.buffer-flush.max-size")?;
        if number("sink.max-buffered-requests") <= number("sink.buffer-flush.max-rows") {
            return Err(CoreError::config(format!(
                "sink.max-buffered-requests ({}) must exceed sink.buffer-flush.max-rows ({})",
                number("sink.max-buffered-requests"),
                number("sink.buffer-flush.max-rows")
            )));
        }
        let (stall, request) = (number("sink.stall-timeout"), number("request-timeout"));
        if stall > 0 && stall <= request {
            return Err(CoreError::config(format!(
                "sink.stall-timeout ({}) must exceed request-timeout ({}), or be 0: a request that is still waited for is no stall",
                units::duration(stall),
                units::duration(request)
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
                "scan.startup.mode is '{INITIAL}', the container as it is and then its versions and deletes, but scan.change-feed.mode is '{mode}'; set scan.change-feed.mode to {ALL_VERSIONS}, or scan.startup.mode to earliest for the latest versions"
            )))
        }
        (true, EARLIEST) => "the service keeps old versions and deletes for the retention of the account's continuous backup, and not from the beginning",
        (true, start) if !matches!(start, INITIAL | "latest" | "tokens" | "leases") => "the service finds no point in time in them",
        _ => return Ok(()),
    };
    Err(CoreError::config(format!(
        "scan.change-feed.mode is '{mode}', which cannot start at '{start}': {why}; set scan.startup.mode to latest, or to {INITIAL} for the container as it is first"
    )))
}

/// Secrets travel to this host, so that plain http is refused.
pub(super) fn authority_host(options: &BTreeMap<String, String>) -> Result<Option<Url>> {
    let name = "auth.authority-host";
    let Some(text) = options.get(name) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Ok(Some(url)),
        // As above, which has looked at everything else.
        _ => Err(CoreError::config(format!(
            "{name}: {} is not valid; expected: a URL with https",
            spec(name).map_or_else(String::new, |spec| shown(spec, text))
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
