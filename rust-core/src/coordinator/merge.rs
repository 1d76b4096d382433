//! Which neighbouring splits become one again: those whose partitions were merged, or that one partition was cut into, and whose positions
//! are the same.
//!
//! What a partition answers is what comes behind a number, less what is outside of the range that is asked for. So two ranges of one partition
//! that were read up to the same number can be read on as one, and nothing is left out or comes twice. Two that were not cannot: the lower
//! number would repeat what the one has read, the higher would leave out what the other has not.

use crate::bound::{covers, Bound, Bounds};
use crate::leases::token::{Position, Ranged};
use crate::split::{Split, Stop};

/// Both as one split, in the place of the first, which lies right below the second; `None` where they must be read apart. Whether one
/// partition has both is another question: see [`within_one`].
pub(super) fn as_one(low: &Split, high: &Split) -> Option<Split> {
    if Bound(&low.max) != Bound(&high.min) || !low.reads_feed() {
        return None;
    }
    // One that ends, or goes on as something else, has a position for that, too.
    if [low, high]
        .iter()
        .any(|split| split.stop != Stop::Never || split.then.is_some())
    {
        return None;
    }
    let continuation = match (&low.continuation, &high.continuation) {
        (None, None) => None,
        (Some(a), Some(b)) => Some(position_of_both((a, low.range()), (b, high.range()))?),
        _ => return None,
    };
    let both = Split {
        max: high.max.clone(),
        continuation,
        ..low.clone()
    };
    let apart = Split {
        ordinal: low.ordinal,
        min: low.min.clone(),
        continuation: both.continuation.clone(),
        ..high.clone()
    };
    (both == apart).then_some(both)
}

/// The token of both ranges, where each was read up to the same number.
fn position_of_both((a, low): (&str, Bounds<'_>), (b, high): (&str, Bounds<'_>)) -> Option<String> {
    let (a, b) = (Position::decode(a)?, Position::decode(b)?);
    let number = |position: &Position, (min, max): Bounds<'_>| {
        let mut read = position.covering(min, max)?.into_iter();
        let first = read.next()?.etag;
        read.all(|range| range.etag == first).then_some(first)
    };
    let etag = number(&a, low)?;
    if number(&b, high)? != etag {
        return None;
    }
    let both = |position: Position| Position {
        ranges: vec![Ranged {
            min: low.0.to_owned(),
            max: high.1.to_owned(),
            etag: etag.clone(),
        }],
        ..position
    };
    let (a, b) = (both(a), both(b));
    // Of another container, of another mode, or begun elsewhere: not to be joined.
    (a == b).then(|| a.encode().ok()).flatten()
}

/// Whether one of the partitions has all of the range.
pub(super) fn within_one(partitions: &[(String, String)], range: Bounds<'_>) -> bool {
    partitions
        .iter()
        .any(|(min, max)| covers([(min.as_str(), max.as_str())], range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;
    use crate::split::Mode;

    fn token(ranges: &[(&str, &str, &str)]) -> String {
        let ranges = ranges.iter().map(|(min, max, etag)| Ranged {
            min: (*min).into(),
            max: (*max).into(),
            etag: (*etag).into(),
        });
        let position = Position {
            rid: "rid".into(),
            full_fidelity: false,
            ranges: ranges.collect(),
            start: Some(Start::Beginning),
        };
        position.encode().unwrap()
    }

    fn split(ordinal: u32, min: &str, max: &str, continuation: Option<String>) -> Split {
        Split {
            ordinal,
            container_rid: "rid".into(),
            min: min.into(),
            max: max.into(),
            mode: Mode::LatestVersion,
            start: Start::Beginning,
            continuation,
            stop: Stop::Never,
            then: None,
            fingerprint: None,
        }
    }

    fn pair(low: &str, high: &str) -> (Split, Split) {
        (
            split(4, "", "40", Some(token(&[("", "40", low)]))),
            split(2, "40", "80", Some(token(&[("40", "80", high)]))),
        )
    }

    #[test]
    fn neighbours_at_one_number_become_one() {
        let (low, high) = pair("\"7\"", "\"7\"");
        let expected = split(4, "", "80", Some(token(&[("", "80", "\"7\"")])));
        assert_eq!(as_one(&low, &high), Some(expected));
        // As another has written the bound.
        let high = Split {
            min: "4000".into(),
            ..high
        };
        assert_eq!(as_one(&low, &high).unwrap().range(), ("", "80"));
        // The position of a parent counts for each of its children, and one of several ranges where all are at that number.
        let parent = token(&[("", "20", "\"7\""), ("20", "80", "\"7\"")]);
        let (low, high) = (
            split(1, "", "40", Some(parent.clone())),
            split(1, "40", "80", Some(parent)),
        );
        let expected = split(1, "", "80", Some(token(&[("", "80", "\"7\"")])));
        assert_eq!(as_one(&low, &high), Some(expected));
        // Nothing was read of either.
        let (low, high) = (split(0, "", "40", None), split(1, "40", "80", None));
        assert_eq!(as_one(&low, &high), Some(split(0, "", "80", None)));
    }

    #[test]
    fn what_is_not_at_one_number_is_read_apart() {
        let (low, high) = pair("\"7\"", "\"8\"");
        assert_eq!(as_one(&low, &high), None);
        let (low, high) = pair("\"7\"", "\"7\"");
        let unread = |split: &Split| Split {
            continuation: None,
            ..split.clone()
        };
        assert_eq!(as_one(&unread(&low), &high), None);
        assert_eq!(as_one(&low, &unread(&high)), None);
        for position in [
            // A part was never asked, or is elsewhere.
            token(&[("40", "60", "\"7\"")]),
            token(&[("40", "60", "\"7\""), ("60", "80", "\"8\"")]),
            token(&[]),
            "7".to_owned(),
        ] {
            let high = Split {
                continuation: Some(position),
                ..high.clone()
            };
            assert_eq!(as_one(&low, &high), None, "{high:?}");
        }
    }

    #[test]
    fn what_differs_in_anything_else_is_read_apart() {
        let (low, high) = pair("\"7\"", "\"7\"");
        let with = |change: &dyn Fn(&mut Split)| {
            let mut changed = high.clone();
            change(&mut changed);
            changed
        };
        let other = |rid: &str, full_fidelity: bool, start: Start| {
            let mut position = Position::decode(high.continuation.as_deref().unwrap()).unwrap();
            position.rid = rid.to_owned();
            position.full_fidelity = full_fidelity;
            position.start = Some(start);
            Some(position.encode().unwrap())
        };
        for changed in [
            with(&|s| s.min = "41".into()),
            with(&|s| s.container_rid = "other".into()),
            with(&|s| s.mode = Mode::AllVersionsAndDeletes),
            with(&|s| s.start = Start::Now),
            with(&|s| s.fingerprint = Some(1)),
            with(&|s| s.continuation = other("other", false, Start::Beginning)),
            with(&|s| s.continuation = other("rid", true, Start::Beginning)),
            with(&|s| s.continuation = other("rid", false, Start::Now)),
        ] {
            assert_eq!(as_one(&low, &changed), None, "{changed:?}");
        }
        let both = |change: &dyn Fn(&mut Split)| {
            let (mut low, mut high) = (low.clone(), high.clone());
            change(&mut low);
            change(&mut high);
            as_one(&low, &high)
        };
        assert_eq!(both(&|s| s.stop = Stop::Time(1)), None);
        assert_eq!(both(&|s| s.then = Some("token".into())), None);
        assert_eq!(both(&|s| s.mode = Mode::Query), None);
        assert!(both(&|s| s.fingerprint = None).is_some());
    }

    #[test]
    fn a_range_is_within_one_partition_or_it_is_not() {
        let partitions = [("", "40"), ("40", "FF")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        for range in [("", "40"), ("00", "4000"), ("10", "20"), ("4000", "FF")] {
            assert!(within_one(&partitions, range), "{range:?}");
        }
        for range in [("", "41"), ("3F", "80"), ("", "FF")] {
            assert!(!within_one(&partitions, range), "{range:?}");
        }
        assert!(!within_one(&[], ("", "40")), "nobody has looked");
    }
}
