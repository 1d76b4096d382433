//! When a split that is read up to a stop has reached it. Decides by positions and answers alone, without a clock.
//!
//! A stop that was taken as a position is compared with the split's own by the numbers of writes. Those of the partitions into which a
//! partition is split go on from its own; those of a partition that others were merged into say nothing about them, so that behind a merge
//! only an answer that finds nothing more counts. What a request finds at its end was written before that request, and a stop is never
//! later than the requests that look for it: so such an answer is always enough, where the replica that gave it is up to date.

use crate::split::{Split, Stop};

/// Clocks, and replicas of a partition, differ by less, in milliseconds.
const SETTLED_MS: i64 = 5_000;

/// A range that has nothing new for so long counts as read to its end, whatever its numbers say, in milliseconds.
const SILENT_MS: i64 = 60_000;

/// Where a position stands to the stop of its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Before it, or the split has no position to stop at.
    NotYet,
    /// At it or behind it.
    Yes,
    /// Nobody can say: the numbers are not of one sequence, or there are none.
    Unknown,
}

/// A feed range and up to which write it is read; `None` where its position is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadTo {
    /// Inclusive lower bound, as that of a split.
    pub min: String,
    /// Exclusive upper bound.
    pub max: String,
    /// Number of the last write that is read.
    pub lsn: Option<i64>,
}

fn overlap(a: &ReadTo, min: &str, max: &str) -> bool {
    a.min.as_str() < max && min < a.max.as_str()
}

/// Compares the positions in `[min, max)` with the stop's. Both lists are in order and without overlap.
pub fn compare(min: &str, max: &str, read: &[ReadTo], stop: &[ReadTo]) -> Reached {
    let mut reached = Reached::Yes;
    let mut at = min;
    for range in read.iter().filter(|r| overlap(r, min, max)) {
        if range.min.as_str() > at {
            // It was never asked.
            return Reached::NotYet;
        }
        at = at.max(range.max.as_str());
        let mut covered = range.min.as_str().max(min);
        for goal in stop.iter().filter(|s| overlap(s, &range.min, &range.max)) {
            match (range.lsn, goal.lsn) {
                (Some(read), Some(goal)) if read < goal => return Reached::NotYet,
                (Some(_), Some(_)) if goal.min.as_str() <= covered => covered = covered.max(&goal.max),
                _ => reached = Reached::Unknown,
            }
        }
        if covered < range.max.as_str().min(max) {
            reached = Reached::Unknown;
        }
    }
    match at < max {
        true => Reached::NotYet,
        false => reached,
    }
}

/// Whether a partition that has a part of `[min, max)` is more than a part of one that the stop names: then partitions were merged since.
pub fn merged(min: &str, max: &str, partitions: &[(String, String)], stop: &[ReadTo]) -> bool {
    partitions
        .iter()
        .filter(|(low, high)| low.as_str() < max && min < high.as_str())
        .any(|(low, high)| !stop.iter().any(|s| s.min <= *low && *high <= s.max))
}

/// What an answer says about the stop.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Where the position behind it stands.
    pub reached: Reached,
    /// There is nothing new.
    pub unchanged: bool,
    /// Number of the last write in the partition that answered, where the service gave it.
    pub lsn: Option<i64>,
    /// Up to which write the range that answered is read.
    pub position: Option<i64>,
    /// Time of the newest document, in milliseconds since the epoch, where one has a time.
    pub newest: Option<i64>,
    /// When it was asked for, in milliseconds since the epoch.
    pub asked: i64,
    /// Feed ranges that are asked in turn.
    pub ranges: usize,
}

impl Look {
    /// Whether there was nothing behind the answer when it was given.
    pub fn is_end(&self) -> bool {
        self.unchanged || matches!((self.position, self.lsn), (Some(read), Some(last)) if read >= last)
    }
}

/// Decides when the reading of a split ends.
pub struct Stopping {
    stop: Stop,
    /// What comes behind the stop is read by somebody.
    goes_on: bool,
    /// Answers in a row that are enough for the range that gave them.
    ends: usize,
    /// Since when no number can be relied on, or none moves.
    since: Option<i64>,
    /// Where the end was, and how far away, when the stop or the end before was reached.
    end: Option<(i64, i64)>,
}

impl Stopping {
    /// For a split as it is when its reading begins.
    pub fn new(split: &Split) -> Self {
        Stopping {
            stop: split.stop.clone(),
            goes_on: split.then.is_some(),
            ends: 0,
            since: None,
            end: None,
        }
    }

    /// Whether nothing is to be read behind this answer.
    pub fn take(&mut self, look: &Look) -> bool {
        let enough = match self.stop {
            Stop::Never => return false,
            Stop::At(_) => match look.reached {
                Reached::Yes if self.goes_on || look.ranges > 1 => return true,
                Reached::Yes => return self.is_caught_up(look),
                Reached::Unknown => self.is_end_for(look, SETTLED_MS),
                Reached::NotYet => self.is_end_for(look, SILENT_MS) && look.unchanged,
            },
            Stop::Time(ms) => {
                let settled = ms.saturating_add(SETTLED_MS);
                // In one partition documents come in the order of their times, as far as clocks agree.
                let later = look.newest.is_some_and(|newest| newest > settled);
                later || (look.is_end() && look.asked >= settled)
            }
        };
        self.ends = if enough { self.ends + 1 } else { 0 };
        self.ends >= look.ranges
    }

    /// Whether the range has been at its end for `millis`.
    fn is_end_for(&mut self, look: &Look, millis: i64) -> bool {
        let found = look.is_end() && (look.reached == Reached::Unknown || look.unchanged);
        if look.reached == Reached::NotYet && !found {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(look.asked);
        found && look.asked >= since.saturating_add(millis)
    }

    /// Behind the stop it is read on to the end of the feed: a document that was there before and has been changed since comes there, and
    /// would be missing. Where the end moves away nearly as fast as it is read, that is given up.
    fn is_caught_up(&mut self, look: &Look) -> bool {
        let (Some(read), Some(last), false) = (look.position, look.lsn, look.is_end()) else {
            return true;
        };
        let distance = last - read;
        match self.end {
            Some((end, _)) if read < end => return false,
            Some((_, before)) if distance > before / 2 => return true,
            _ => self.end = Some((last, distance)),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;
    use crate::split::Mode;

    fn ranges(list: &[(&str, &str, i64)]) -> Vec<ReadTo> {
        list.iter()
            .map(|(min, max, lsn)| ReadTo {
                min: (*min).to_owned(),
                max: (*max).to_owned(),
                lsn: Some(*lsn).filter(|lsn| *lsn >= 0),
            })
            .collect()
    }

    fn reached(read: &[(&str, &str, i64)], stop: &[(&str, &str, i64)]) -> Reached {
        compare("10", "80", &ranges(read), &ranges(stop))
    }

    #[test]
    fn a_position_is_compared_range_by_range() {
        let stop: &[_] = &[("10", "80", 7)];
        assert_eq!(reached(&[("10", "80", 6)], stop), Reached::NotYet);
        assert_eq!(reached(&[("10", "80", 7)], stop), Reached::Yes);
        assert_eq!(reached(&[("10", "80", 9)], stop), Reached::Yes);
        assert_eq!(reached(&[], stop), Reached::NotYet);
    }

    #[test]
    fn children_of_a_split_partition_must_all_be_there() {
        let stop: &[_] = &[("10", "80", 7)];
        assert_eq!(
            reached(&[("10", "40", 9), ("40", "80", 6)], stop),
            Reached::NotYet
        );
        assert_eq!(reached(&[("10", "40", 9), ("40", "80", 7)], stop), Reached::Yes);
        assert_eq!(
            reached(&[("10", "40", 9)], stop),
            Reached::NotYet,
            "one was never asked"
        );
        assert_eq!(
            reached(&[("40", "80", 9)], stop),
            Reached::NotYet,
            "one was never asked"
        );
        // The position of a child that reads on by itself.
        assert_eq!(
            compare("10", "40", &ranges(&[("10", "40", 7)]), &ranges(stop)),
            Reached::Yes
        );
    }

    #[test]
    fn a_position_from_before_a_split_is_compared_with_all_children() {
        let stop: &[_] = &[("10", "40", 7), ("40", "80", 9)];
        assert_eq!(reached(&[("10", "80", 8)], stop), Reached::NotYet);
        assert_eq!(reached(&[("10", "80", 9)], stop), Reached::Yes);
    }

    #[test]
    fn what_is_no_number_cannot_be_compared() {
        assert_eq!(reached(&[("10", "80", -1)], &[("10", "80", 7)]), Reached::Unknown);
        assert_eq!(reached(&[("10", "80", 9)], &[("10", "80", -1)]), Reached::Unknown);
        assert_eq!(reached(&[("10", "80", 9)], &[("10", "40", 7)]), Reached::Unknown);
        assert_eq!(reached(&[("10", "80", 9)], &[("40", "80", 7)]), Reached::Unknown);
    }

    #[test]
    fn a_merge_is_seen_by_the_bounds_of_the_partition() {
        let part = |min: &str, max: &str| (min.to_owned(), max.to_owned());
        let stop = ranges(&[("10", "80", 7)]);
        let is = |partitions: &[(String, String)]| merged("10", "80", partitions, &stop);
        assert!(!is(&[part("", "10"), part("10", "80"), part("80", "FF")]));
        assert!(!is(&[part("", "10"), part("10", "40"), part("40", "80")]));
        assert!(is(&[part("", "80"), part("80", "FF")]));
        assert!(is(&[part("", "20"), part("20", "FF")]));
    }

    fn split(stop: Stop) -> Split {
        Split {
            ordinal: 0,
            container_rid: "r".into(),
            min: "10".into(),
            max: "80".into(),
            mode: Mode::LatestVersion,
            start: Start::Beginning,
            continuation: None,
            stop,
            then: None,
        }
    }

    const NOW: i64 = 1_800_000_000_000;

    fn at(reached: Reached, position: i64, lsn: i64) -> Look {
        Look {
            reached,
            unchanged: false,
            lsn: Some(lsn),
            position: Some(position),
            newest: None,
            asked: NOW,
            ranges: 1,
        }
    }

    fn stopping() -> Stopping {
        Stopping::new(&split(Stop::At("7".into())))
    }

    #[test]
    fn without_a_stop_it_never_ends() {
        let mut never = Stopping::new(&split(Stop::Never));
        let end = Look {
            unchanged: true,
            ..at(Reached::Yes, 7, 7)
        };
        assert!(!never.take(&end));
    }

    #[test]
    fn behind_the_stop_it_is_read_on_to_the_end_once() {
        let mut stop = stopping();
        assert!(!stop.take(&at(Reached::NotYet, 6, 20)));
        assert!(
            !stop.take(&at(Reached::Yes, 10, 30)),
            "what was changed since is behind it"
        );
        assert!(!stop.take(&at(Reached::Yes, 20, 40)));
        assert!(!stop.take(&at(Reached::Yes, 35, 40)), "the end comes closer");
        assert!(stop.take(&at(Reached::Yes, 42, 42)));
        // An idle partition ends with its first answer.
        assert!(stopping().take(&at(Reached::Yes, 7, 7)));
    }

    #[test]
    fn an_end_that_moves_away_as_fast_as_it_is_read_is_left() {
        let mut stop = stopping();
        let (mut read, mut looks) = (10, 0);
        // Each page of 10 writes comes with 10 more.
        while !stop.take(&at(Reached::Yes, read, read + 100)) {
            (read, looks) = (read + 10, looks + 1);
            assert!(looks < 100, "it never ends");
        }
        assert_eq!(looks, 10);
    }

    #[test]
    fn where_reading_goes_on_in_another_mode_it_ends_at_the_stop() {
        let mut stop = Stopping::new(&Split {
            then: Some("c1.t".into()),
            ..split(Stop::At("7".into()))
        });
        assert!(!stop.take(&at(Reached::NotYet, 6, 20)));
        assert!(stop.take(&at(Reached::Yes, 10, 30)));
    }

    #[test]
    fn where_numbers_say_nothing_only_the_end_counts_and_not_that_of_a_replica_behind() {
        let mut stop = stopping();
        let later = |ms: i64, look: Look| Look {
            asked: NOW + ms,
            ..look
        };
        assert!(!stop.take(&at(Reached::Unknown, 3, 50)));
        assert!(!stop.take(&at(Reached::Unknown, 50, 50)), "it may lag behind");
        assert!(!stop.take(&later(6000, at(Reached::Unknown, 55, 60))));
        assert!(stop.take(&later(6100, at(Reached::Unknown, 60, 60))));
    }

    #[test]
    fn a_replica_that_lags_behind_does_not_end_it() {
        let mut stop = stopping();
        let nothing = |ms: i64| Look {
            unchanged: true,
            asked: NOW + ms,
            ..at(Reached::NotYet, 5, 5)
        };
        assert!(!stop.take(&nothing(0)));
        assert!(!stop.take(&nothing(59_000)));
        assert!(!stop.take(&at(Reached::NotYet, 6, 6)), "it moves");
        assert!(!stop.take(&nothing(61_000)));
        assert!(stop.take(&nothing(121_000)), "it has nothing more for a minute");
    }

    #[test]
    fn a_time_is_reached_by_the_end_behind_it_or_a_later_document() {
        let mut stop = Stopping::new(&split(Stop::Time(NOW)));
        let end = |asked| Look {
            unchanged: true,
            asked,
            ..at(Reached::NotYet, 5, 5)
        };
        let document = |newest| Look {
            newest: Some(newest),
            ..at(Reached::NotYet, 5, 50)
        };
        assert!(!stop.take(&end(NOW - 1)));
        assert!(!stop.take(&end(NOW + 4_999)), "clocks differ");
        assert!(!stop.take(&document(NOW + 5_000)));
        assert!(Stopping::new(&split(Stop::Time(NOW))).take(&document(NOW + 5_001)));
        assert!(stop.take(&end(NOW + 5_000)));
    }

    #[test]
    fn each_range_of_a_split_must_reach_its_stop() {
        let mut stop = Stopping::new(&split(Stop::Time(NOW)));
        let look = |newest: i64| Look {
            newest: Some(newest),
            ranges: 2,
            ..at(Reached::NotYet, 5, 50)
        };
        assert!(!stop.take(&look(NOW + 6_000)));
        assert!(!stop.take(&look(NOW)));
        assert!(!stop.take(&look(NOW + 6_000)));
        assert!(stop.take(&look(NOW + 6_000)));
    }
}
