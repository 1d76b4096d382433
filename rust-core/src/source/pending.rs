//! How many records the service still holds of a split, by the numbers that it gives its writes (LSNs). Decides by answers alone.
//!
//! An estimate: a number is given per transaction of the physical partition. So several changes of one document count each although the
//! latest version alone is read, deletes count, a transaction of several documents counts once, and where several splits read
//! parts of one partition each of them counts all that is written to it.

use std::collections::VecDeque;

/// What an answer tells of one feed range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    /// The newest write that was heard of.
    newest: i64,
    /// Up to which write it is read.
    read: i64,
}

/// The feed ranges of a split, which are asked in turn.
#[derive(Debug, Default)]
pub struct Pending {
    /// In the order in which they are asked, the next first. Nothing is known of one that is `None`.
    ranges: VecDeque<Option<Range>>,
}

impl Pending {
    /// The range that is next has answered, one of `ranges`.
    ///
    /// `newest`: number of the newest write in its partition; `read`: up to which write it is read now.
    pub fn answered(&mut self, ranges: usize, newest: Option<i64>, read: Option<i64>) {
        if self.ranges.len() != ranges.max(1) {
            // Which was which is not known any more.
            self.ranges = VecDeque::from(vec![None; ranges.max(1)]);
        }
        self.ranges.pop_front();
        let range = newest.zip(read).map(|(newest, read)| Range { newest, read });
        self.ranges.push_back(range);
    }

    /// All ranges are read to their end, whatever the numbers say: they also count what is of no concern here.
    pub fn caught_up(&mut self) {
        for range in self.ranges.iter_mut().flatten() {
            range.newest = range.read;
        }
    }

    /// How many ranges there are to ask.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Writes that are not read; `None` while that is not known of any range.
    pub fn records(&self) -> Option<u64> {
        let known: Vec<&Range> = self.ranges.iter().flatten().collect();
        let behind = |range: &&Range| range.newest.saturating_sub(range.read).max(0) as u64;
        (!known.is_empty()).then(|| known.iter().map(behind).sum())
    }

    /// Writes that are not read, where the newest of each range are these by now, in any order; `None` unless all of it is known.
    pub fn records_with(&self, newest: &[i64]) -> Option<u64> {
        let read: Vec<i64> = self.ranges.iter().flatten().map(|range| range.read).collect();
        let complete = !read.is_empty() && read.len() == self.ranges.len() && read.len() == newest.len();
        let behind = newest.iter().sum::<i64>() - read.iter().sum::<i64>();
        complete.then_some(behind.max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_is_summed_over_the_ranges_and_never_below_zero() {
        let mut p = Pending::default();
        assert_eq!((p.records(), p.records_with(&[9])), (None, None));
        p.answered(1, Some(10), Some(4));
        assert_eq!(p.records(), Some(6));
        assert_eq!(
            (p.records_with(&[100]), p.records_with(&[1])),
            (Some(96), Some(0))
        );
        p.answered(1, Some(3), Some(4));
        assert_eq!(p.records(), Some(0), "never less");
        // The partition was split: what was known of the whole says nothing about the children.
        p.answered(2, Some(10), Some(7));
        assert_eq!((p.records(), p.records_with(&[10, 10])), (Some(3), None));
        p.answered(2, Some(20), Some(10));
        assert_eq!((p.records(), p.records_with(&[20, 11])), (Some(13), Some(14)));
        // The first of both again.
        p.answered(2, Some(10), Some(10));
        assert_eq!(p.records(), Some(10));
        p.caught_up();
        assert_eq!(p.records(), Some(0), "nothing is behind an idle feed");
        p.answered(2, None, Some(20));
        assert_eq!((p.records(), p.records_with(&[10, 20])), (Some(0), None));
    }
}
