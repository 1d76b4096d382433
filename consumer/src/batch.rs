//! What a batch looks like, and what is wrong with one that does not look like it.

use cosmosflink_digest::hash_id;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// How the events of a batch are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON array of objects, `{"events": [..]}`, or one single event.
    Json,
    /// One JSON object per line; empty lines are skipped.
    NdJson,
}

/// One event of a batch, as far as the consumer looks into it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// [`hash_id`] of the event's id.
    pub hash: u128,
    /// Epoch milliseconds at which the event was created, when it says so in a form that can be read.
    pub created_at: Option<i64>,
    /// The event as it came.
    pub raw: &'a str,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "createdAt")]
    created_at: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    events: Option<Vec<&'a RawValue>>,
}

/// Reads a batch. Either every event of it can be read, or none of it counts.
///
/// # Errors
/// One line that names the event (counted from 0) or, in [`Format::NdJson`], the line (counted from 1), and what is wrong.
pub fn parse(body: &[u8], format: Format) -> Result<Vec<Event<'_>>, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("the batch is not UTF-8: {e}"))?;
    match format {
        Format::NdJson => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| event(line).map_err(|e| format!("line {}: {e}", i + 1)))
            .collect(),
        Format::Json => {
            let start = text.trim_start();
            let values: Vec<&RawValue> = if start.starts_with('{') {
                match serde_json::from_str::<Envelope>(text).map_err(not_json)?.events {
                    Some(events) => events,
                    None => return event(text).map(|e| vec![e]).map_err(|e| format!("event 0: {e}")),
                }
            } else if start.starts_with('[') {
                serde_json::from_str(text).map_err(not_json)?
            } else {
                return Err("the batch is neither a JSON array of events nor an object with events".into());
            };
            values
                .into_iter()
                .enumerate()
                .map(|(i, value)| event(value.get()).map_err(|e| format!("event {i}: {e}")))
                .collect()
        }
    }
}

fn not_json(error: serde_json::Error) -> String {
    format!("the batch is not JSON of the expected shape: {error}")
}

fn event(raw: &str) -> Result<Event<'_>, String> {
    let raw = raw.trim();
    if !raw.starts_with('{') {
        return Err(format!("not a JSON object: {}", shortened(raw)));
    }
    let head: Head = serde_json::from_str(raw).map_err(|e| e.to_string())?;
    let id = head.id.ok_or("id is missing")?;
    let id: String =
        serde_json::from_str(id.get()).map_err(|_| format!("id is not a string: {}", shortened(id.get())))?;
    if id.is_empty() {
        return Err("id is empty".into());
    }
    Ok(Event {
        hash: hash_id(&id),
        created_at: head.created_at.and_then(epoch_millis),
        raw,
    })
}

/// RFC 3339 text or a number of epoch milliseconds; anything else measures no latency.
fn epoch_millis(value: &RawValue) -> Option<i64> {
    if let Ok(millis) = serde_json::from_str::<i64>(value.get()) {
        return Some(millis);
    }
    let text: String = serde_json::from_str(value.get()).ok()?;
    let at = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str, format: Format) -> String {
        parse(body.as_bytes(), format).expect_err(body)
    }

    #[test]
    fn the_forms_of_a_batch_give_the_same_events() {
        let (a, b) = (r#"{"id":"a","x":1}"#, r#"{"id":"b"}"#);
        let forms = [
            (format!("[{a},{b}]"), Format::Json),
            (
                format!(" {{\"source\":\"x\",\"events\":[{a}, {b}]}}"),
                Format::Json,
            ),
            (format!("{a}\n\n{b}\r\n"), Format::NdJson),
        ];
        for (body, format) in &forms {
            let events = parse(body.as_bytes(), *format).unwrap();
            assert_eq!(
                events.iter().map(|e| e.hash).collect::<Vec<_>>(),
                [hash_id("a"), hash_id("b")],
                "{body}"
            );
            assert_eq!(events[0].raw, a);
        }
        assert_eq!(parse(a.as_bytes(), Format::Json).unwrap().len(), 1);
        assert!(parse(b"[]", Format::Json).unwrap().is_empty());
        assert!(parse(b"", Format::NdJson).unwrap().is_empty());
    }

    #[test]
    fn an_escaped_id_is_the_same_id() {
        let events = parse(br#"[{"id":"\u0061\/b"}]"#, Format::Json).unwrap();
        assert_eq!(events[0].hash, hash_id("a/b"));
    }

    #[test]
    fn the_event_that_is_wrong_is_named() {
        assert_eq!(
            error(r#"[{"id":"a"},{"x":1}]"#, Format::Json),
            "event 1: id is missing"
        );
        assert_eq!(
            error(r#"{"events":[{"id":7}]}"#, Format::Json),
            "event 0: id is not a string: 7"
        );
        assert_eq!(error(r#"[{"id":""}]"#, Format::Json), "event 0: id is empty");
        assert_eq!(error(r#"[{"id":null}]"#, Format::Json), "event 0: id is missing");
        assert_eq!(error("[1]", Format::Json), "event 0: not a JSON object: 1");
        assert_eq!(
            error("{\"id\":\"a\"}\n{\"x\":1}", Format::NdJson),
            "line 2: id is missing"
        );
        assert!(error(r#"[{"id":"a"}"#, Format::Json).starts_with("the batch is not JSON"));
        assert!(error(r#"{"events":7}"#, Format::Json).starts_with("the batch is not JSON"));
        assert!(error("hello", Format::Json).starts_with("the batch is neither"));
        assert!(error("", Format::Json).starts_with("the batch is neither"));
        assert!(parse(b"[\"\xff\"]", Format::Json)
            .unwrap_err()
            .starts_with("the batch is not UTF-8"));
        assert!(error(r#"[{"id":"a","id":"b"}]"#, Format::Json).contains("duplicate field"));
    }

    #[test]
    fn the_time_of_creation_is_read_in_both_forms() {
        let at = |value: &str| {
            let body = format!(r#"[{{"id":"a","createdAt":{value}}}]"#);
            parse(body.as_bytes(), Format::Json).unwrap()[0].created_at
        };
        assert_eq!(at(r#""2026-11-24T10:00:00.250Z""#), Some(1_795_514_400_250));
        assert_eq!(at(r#""2026-11-24T11:00:00.250+01:00""#), Some(1_795_514_400_250));
        assert_eq!(at("1795514400250"), Some(1_795_514_400_250));
        assert_eq!(at(r#""yesterday""#), None);
        assert_eq!(at("null"), None);
    }
}
