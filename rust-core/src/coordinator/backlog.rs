//! Whether the source processes a backlog: by the lags that its readers report.

use std::collections::BTreeMap;

/// What is known of the readers' lags.
#[derive(Debug, Default)]
pub struct Backlog {
    /// The last report of each subtask, in milliseconds. Of one that begins again nothing is known until it reports.
    lags: BTreeMap<u32, u64>,
    there: bool,
}

impl Backlog {
    /// Takes a report. `Some` when a backlog begins, because a reader is behind by the threshold, or ends, because all of them are behind by less than
    /// half of it: so a lag about the threshold does not switch to and fro.
    pub fn reported(&mut self, threshold: u64, subtask: u32, lag: u64, parallelism: u32) -> Option<bool> {
        if threshold == 0 {
            return None;
        }
        self.lags.insert(subtask, lag);
        // Of more readers than there are now.
        self.lags.retain(|subtask, _| *subtask < parallelism);
        self.judge(threshold)
    }

    /// A reader begins again: what it reads then it says, and without splits it has no lag and says nothing. `Some` when the backlog was its.
    pub fn forget(&mut self, threshold: u64, subtask: u32) -> Option<bool> {
        self.lags.remove(&subtask)?;
        self.judge(threshold)
    }

    fn judge(&mut self, threshold: u64) -> Option<bool> {
        let most = self.lags.values().max().copied().unwrap_or(0);
        let there = match self.there {
            false => most >= threshold,
            true => most >= threshold.div_ceil(2),
        };
        (std::mem::replace(&mut self.there, there) != there).then_some(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_begins_with_the_first_reader_and_ends_with_the_last() {
        let mut b = Backlog::default();
        assert_eq!(b.reported(1000, 0, 999, 2), None);
        assert_eq!(b.reported(1000, 1, 1000, 2), Some(true));
        assert_eq!(b.reported(1000, 0, 5000, 2), None);
        assert_eq!(b.reported(1000, 1, 0, 2), None, "the other is behind");
        assert_eq!(b.reported(1000, 0, 500, 2), None, "not far enough");
        assert_eq!(b.reported(1000, 0, 499, 2), Some(false));
        assert_eq!(b.reported(1000, 0, 999, 2), None);
    }

    #[test]
    fn a_reader_that_begins_again_has_no_lag_until_it_says_so() {
        let mut b = Backlog::default();
        assert_eq!(b.forget(1000, 0), None, "it never said anything");
        b.reported(1000, 0, 2000, 2);
        b.reported(1000, 1, 800, 2);
        assert_eq!(b.forget(1000, 0), None, "the other has not caught up");
        assert_eq!(b.forget(1000, 1), Some(false));
        assert_eq!(b.reported(1000, 0, 2000, 2), Some(true));
    }

    #[test]
    fn readers_that_are_no_more_do_not_count_and_without_a_threshold_nothing_is_said() {
        let mut b = Backlog::default();
        assert_eq!(b.reported(1000, 3, 2000, 4), Some(true));
        assert_eq!(
            b.reported(1000, 0, 0, 2),
            Some(false),
            "there are two readers now"
        );
        assert_eq!(b.reported(0, 0, u64::MAX, 2), None);
    }
}
