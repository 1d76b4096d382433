//! The driver's continuation token, taken apart and put together: what a lease keeps is the ETag of one range in it.

use azure_core::base64;
use azure_core::time::OffsetDateTime;
use azure_data_cosmos_driver::models::ChangeFeedStartFrom;
use serde::{Deserialize, Serialize};

use crate::bound::{self, Bound};
use crate::config::Start;
use crate::error::{CoreError, Result};

/// In front of a continuation token of the driver's first version.
const PREFIX: &str = "c1.";

/// A position of the change feed in a feed range, as the driver's token holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Resource id of the container.
    pub rid: String,
    /// Whether it is one of the mode AllVersionsAndDeletes.
    pub full_fidelity: bool,
    /// The ranges that have been asked, in order and without overlap, each with the service's own ETag, quotes included.
    pub ranges: Vec<Ranged>,
    /// Where a range begins that has not been asked.
    pub start: Option<Start>,
}

/// A range and the ETag up to which it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranged {
    /// Inclusive lower bound, hexadecimal text.
    #[serde(rename = "min_epk")]
    pub min: String,
    /// Exclusive upper bound.
    #[serde(rename = "max_epk")]
    pub max: String,
    /// As the service sent it.
    #[serde(rename = "server_continuation")]
    pub etag: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    op: String,
    rid: String,
    root: Root,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cfm: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct Root {
    kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    active_tokens: Vec<Ranged>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_from: Option<ChangeFeedStartFrom>,
}

const OPERATION: &str = "ChangeFeed";
const KIND: &str = "unordered_merge";

impl Position {
    /// The position that a token of the driver stands for; `None` when it is none of the change feed, or of another version.
    pub fn decode(token: &str) -> Option<Position> {
        let json = base64::decode_url_safe(token.strip_prefix(PREFIX)?).ok()?;
        let token: Token = serde_json::from_slice(&json).ok()?;
        (token.op == OPERATION && token.root.kind == KIND).then(|| Position {
            rid: token.rid,
            full_fidelity: token.cfm == Some(true),
            ranges: token.root.active_tokens,
            start: token.root.start_from.as_ref().and_then(start_of),
        })
    }

    /// The driver's token for it.
    ///
    /// # Errors
    /// State when its start is a time that no calendar has.
    pub fn encode(&self) -> Result<String> {
        let token = Token {
            op: OPERATION.to_owned(),
            rid: self.rid.clone(),
            root: Root {
                kind: KIND.to_owned(),
                active_tokens: self.ranges.clone(),
                start_from: self.start.map(to_driver).transpose()?,
            },
            cfm: self.full_fidelity.then_some(true),
        };
        let json = serde_json::to_vec(&token)
            .map_err(|e| CoreError::internal(format!("a position cannot be written: {e}")))?;
        Ok(format!("{PREFIX}{}", base64::encode_url_safe(json)))
    }

    /// The ranges of `[min, max)` with their ETags; `None` while a part of it has not been asked.
    pub fn covering(&self, min: &str, max: &str) -> Option<Vec<Ranged>> {
        let mut at = Bound(min);
        let mut out = Vec::new();
        for range in &self.ranges {
            let Some((low, high)) = bound::common((min, max), (&range.min, &range.max)) else {
                continue;
            };
            if Bound(low) > at {
                return None;
            }
            out.push(Ranged {
                min: low.to_owned(),
                max: high.to_owned(),
                etag: range.etag.clone(),
            });
            at = Bound(high);
        }
        (at >= Bound(max)).then_some(out)
    }
}

/// One position out of those of ranges that do not overlap, as tokens of the driver for one container and one mode.
///
/// # Errors
/// Internal when there are several, and one is no position of the change feed.
pub fn join(tokens: &[&str]) -> Result<String> {
    if let [only] = tokens {
        return Ok((*only).to_owned());
    }
    let mut all: Option<Position> = None;
    for token in tokens {
        let next = Position::decode(token)
            .ok_or_else(|| CoreError::internal(format!("'{token}' is no position of a change feed")))?;
        match &mut all {
            Some(all) => all.ranges.extend(next.ranges),
            None => all = Some(next),
        }
    }
    let mut all = all.ok_or_else(|| CoreError::internal("there is no position to join"))?;
    all.ranges.sort_by(|a, b| Bound(&a.min).cmp(&Bound(&b.min)));
    all.encode()
}

fn start_of(start: &ChangeFeedStartFrom) -> Option<Start> {
    match start {
        ChangeFeedStartFrom::Beginning => Some(Start::Beginning),
        ChangeFeedStartFrom::Now => Some(Start::Now),
        ChangeFeedStartFrom::PointInTime(time) => Some(Start::PointInTime(
            i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX),
        )),
        _ => None,
    }
}

/// The driver's form of a start.
///
/// # Errors
/// State for a time that no calendar has.
pub fn to_driver(start: Start) -> Result<ChangeFeedStartFrom> {
    Ok(match start {
        Start::Beginning => ChangeFeedStartFrom::Beginning,
        Start::Now => ChangeFeedStartFrom::Now,
        Start::PointInTime(ms) => ChangeFeedStartFrom::PointInTime(
            OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
                .map_err(|e| CoreError::state(format!("start {ms} ms of a split is out of range: {e}")))?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranged(min: &str, max: &str, etag: &str) -> Ranged {
        Ranged {
            min: min.into(),
            max: max.into(),
            etag: etag.into(),
        }
    }

    #[test]
    fn a_token_of_the_driver_comes_apart_and_together_again() {
        let json = r#"{"op":"ChangeFeed","rid":"r==","root":{"kind":"unordered_merge","active_tokens":[{"min_epk":"","max_epk":"1F","server_continuation":"\"42\""}],"start_from":{"kind":"now"}}}"#;
        let token = format!("c1.{}", base64::encode_url_safe(json));
        let position = Position::decode(&token).unwrap();
        assert_eq!(
            position,
            Position {
                rid: "r==".into(),
                full_fidelity: false,
                ranges: vec![ranged("", "1F", "\"42\"")],
                start: Some(Start::Now),
            }
        );
        assert_eq!(position.encode().unwrap(), token);
        let full = Position {
            full_fidelity: true,
            start: Some(Start::PointInTime(1_767_323_045_000)),
            ..position
        };
        assert_eq!(Position::decode(&full.encode().unwrap()), Some(full));
    }

    #[test]
    fn what_is_no_token_of_the_change_feed_is_none() {
        let query = r#"{"op":"Query","rid":"r","root":{"kind":"unordered_merge"}}"#;
        let drain = r#"{"op":"ChangeFeed","rid":"r","root":{"kind":"drained"}}"#;
        for json in [query, drain, "{}", "7"] {
            assert_eq!(
                Position::decode(&format!("c1.{}", base64::encode_url_safe(json))),
                None
            );
        }
        for text in ["", "c1.", "c2.e30", "\"7\""] {
            assert_eq!(Position::decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_is_covered_when_all_of_it_was_asked() {
        let position = Position {
            rid: "r".into(),
            full_fidelity: false,
            ranges: vec![ranged("10", "40", "\"1\""), ranged("40", "80", "\"2\"")],
            start: None,
        };
        assert_eq!(
            position.covering("20", "60").unwrap(),
            [ranged("20", "40", "\"1\""), ranged("40", "60", "\"2\"")]
        );
        assert_eq!(position.covering("10", "80").unwrap().len(), 2);
        assert_eq!(position.covering("", "80"), None);
        assert_eq!(position.covering("10", "FF"), None);
        // Bounds as another has written them.
        assert_eq!(
            position.covering("1000", "8000").unwrap(),
            [ranged("1000", "40", "\"1\""), ranged("40", "8000", "\"2\"")]
        );
        assert_eq!(position.covering("8000", "80"), Some(vec![]));
    }

    #[test]
    fn positions_of_several_ranges_become_one() {
        let position = |ranges: &[Ranged]| Position {
            rid: "r".into(),
            full_fidelity: false,
            ranges: ranges.to_vec(),
            start: Some(Start::Now),
        };
        let of = |ranges: &[Ranged]| position(ranges).encode().unwrap();
        let (low, high) = (
            [ranged("", "40", "\"7\"")],
            [ranged("40", "80", "\"8\""), ranged("80", "FF", "\"9\"")],
        );
        let joined = join(&[&of(&high), &of(&low)]).unwrap();
        let all = [low[0].clone(), high[0].clone(), high[1].clone()];
        assert_eq!(Position::decode(&joined), Some(position(&all)));
        // One stays as it is, whoever wrote it.
        assert_eq!(join(&["7"]).unwrap(), "7");
        for wrong in [&["7", &joined][..], &[]] {
            assert!(join(wrong).is_err());
        }
    }
}
