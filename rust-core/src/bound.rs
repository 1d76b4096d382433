//! Bounds of feed ranges: the hashes of partition keys as hexadecimal text, two digits for each byte, from the empty text up to `FF`.
//!
//! The service, the vendor's SDKs and the driver write one bound in more than one way: with zeros behind it, up to some length, or without. So
//! bounds are compared here and nowhere else. What is kept, sent and shown stays as it was written.

use std::cmp::Ordering;

/// A range `[.0, .1)`.
pub type Bounds<'a> = (&'a str, &'a str);

/// A bound, in the order of the keys.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a>(pub &'a str);

impl PartialEq for Bound<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Bound<'_> {}

impl PartialOrd for Bound<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        trimmed(self.0).cmp(trimmed(other.0))
    }
}

/// A bound without the zeros behind it, which make no difference.
pub fn trimmed(bound: &str) -> &str {
    let mut rest = bound;
    while let Some(shorter) = rest.strip_suffix("00") {
        rest = shorter;
    }
    rest
}

/// Whether two ranges are the same.
pub fn same(a: Bounds<'_>, b: Bounds<'_>) -> bool {
    (Bound(a.0), Bound(a.1)) == (Bound(b.0), Bound(b.1))
}

/// What two ranges have in common; `None` where that is nothing. Where they share a bound it is written as `a` has it.
pub fn common<'a>(a: Bounds<'a>, b: Bounds<'a>) -> Option<Bounds<'a>> {
    // Of two that are equal `max` gives the second, `min` the first.
    let min = Bound(b.0).max(Bound(a.0));
    let max = Bound(a.1).min(Bound(b.1));
    (min < max).then_some((min.0, max.0))
}

/// Whether two ranges have keys in common.
pub fn overlap(a: Bounds<'_>, b: Bounds<'_>) -> bool {
    common(a, b).is_some()
}

/// The parts of a range that none of `ranges` covers, in order.
pub fn gaps<'a>(ranges: impl IntoIterator<Item = Bounds<'a>>, (min, max): Bounds<'a>) -> Vec<Bounds<'a>> {
    let mut inside: Vec<_> = ranges
        .into_iter()
        .filter_map(|range| common(range, (min, max)))
        .collect();
    inside.sort_unstable_by_key(|range| Bound(range.0));
    let mut gaps = Vec::new();
    let mut reached = Bound(min);
    for (low, high) in inside {
        if Bound(low) > reached {
            gaps.push((reached.0, low));
        }
        reached = reached.max(Bound(high));
    }
    if reached < Bound(max) {
        gaps.push((reached.0, max));
    }
    gaps
}

/// Whether ranges cover another one together.
pub fn covers<'a>(ranges: impl IntoIterator<Item = Bounds<'a>>, range: Bounds<'a>) -> bool {
    gaps(ranges, range).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_behind_a_bound_make_no_difference() {
        for (a, b) in [("", "00"), ("10", "1000"), ("10000000", "1000"), ("FF", "FF00")] {
            assert_eq!(Bound(a), Bound(b));
        }
        for (a, b) in [
            ("", "01"),
            ("10", "100001"),
            ("1000", "1001"),
            ("3F", "FF"),
            ("0F", "10"),
        ] {
            assert!(Bound(a) < Bound(b), "{a} {b}");
        }
        assert!(same(("", "1000"), ("00", "10")));
        assert!(!same(("", "10"), ("", "11")));
    }

    #[test]
    fn what_two_ranges_share_is_written_as_the_first_has_it() {
        assert_eq!(common(("10", "4000"), ("1000", "40")), Some(("10", "4000")));
        assert_eq!(common(("10", "40"), ("20", "80")), Some(("20", "40")));
        assert_eq!(common(("10", "20"), ("2000", "40")), None, "they touch");
        assert!(!overlap(("10", "1000"), ("", "FF")), "there is nothing in it");
    }

    #[test]
    fn gaps_are_found_however_bounds_are_written() {
        assert_eq!(gaps([], ("", "FF")), [("", "FF")]);
        assert_eq!(gaps([("8000", "FF"), ("", "40")], ("", "FF")), [("40", "8000")]);
        assert_eq!(gaps([("20", "30")], ("10", "40")), [("10", "20"), ("30", "40")]);
        assert_eq!(gaps([("20", "2000")], ("10", "40")), [("10", "40")]);
        assert!(covers([("40", "FF"), ("", "80")], ("", "FF")));
        assert!(covers([("00", "4000"), ("40", "FF")], ("", "FF")));
        assert!(!covers([("", "40"), ("4001", "FF")], ("", "FF")));
    }

    /// Cells of which the ranges of a case consist, with zeros behind them.
    fn text(cell: u8, zeros: usize) -> String {
        match cell {
            0 => "00".repeat(zeros),
            8 => "FF".to_owned(),
            n => format!("{:02X}{}", n * 16, "00".repeat(zeros)),
        }
    }

    proptest! {
        #[test]
        fn ranges_and_their_gaps_fill_a_range_without_overlap(
            ranges in proptest::collection::vec((0u8..9, 0u8..9, 0usize..3, 0usize..3), 0..6),
            (low, high) in (0u8..9, 0u8..9),
        ) {
            let within = (text(low, 1), text(high, 0));
            let written: Vec<_> = ranges.iter().map(|(a, b, x, y)| (text(*a, *x), text(*b, *y))).collect();
            let found = gaps(
                written.iter().map(|(a, b)| (a.as_str(), b.as_str())),
                (&within.0, &within.1),
            );
            for cell in 0..8 {
                let at = (text(cell, 2), text(cell + 1, 2));
                let inside = low <= cell && cell < high;
                let covered = ranges.iter().any(|(a, b, ..)| *a <= cell && cell < *b);
                let in_gaps = found.iter().filter(|gap| overlap(**gap, (&at.0, &at.1))).count();
                prop_assert_eq!(in_gaps, usize::from(inside && !covered));
            }
        }
    }
}
