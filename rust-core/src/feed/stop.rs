//! When a split that is read up to a stop has reached it. Decides by positions and answers alone, without a clock.
//!
//! A stop that was taken as a position is compared with the split's own by the numbers of writes. Those of the partitions into which a
//! partition is split go on from its own; those of a partition that others were merged into say nothing about them, so that behind a merge
//! only an answer that finds nothing more counts. What a request finds at its end was written before that request, and a stop is never
//! later than the requests that look for it: so such an answer is always enough, where the replica that gave it is up to date.

use super::trimmed;
use crate::split::{Mode, Split, Stop};

/// Clocks, and replicas of a partition, differ by less, in milliseconds.
const SETTLED_MS: i64 = 5_000;

/// A range that has nothing new for so long although there must be more, in milliseconds: waiting does not help.
const SILENT_MS: i64 = 60_000;

/// So often the way to the end may be no shorter than before, each time that the end was reached which was seen before.
const PATIENCE: u32 = 4;

/// So many pages behind a stop may not tell how far it is to the end.
const BLIND_PAGES: u32 = 10_000;

/// Where a position stands to the stop of its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Before it, or the split has no position to stop at.
    NotYet,
    /// At it or behind it.
    Yes,
    /// Nobody can say: the numbers are not of one sequence, or there are none.
    Unknown,
    /// What the partitions are decides it, and they cannot be looked up now.
    Unanswered,
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

impl ReadTo {
    fn min(&self) -> &str {
        trimmed(&self.min)
    }

    fn max(&self) -> &str {
        trimmed(&self.max)
    }

    fn overlaps(&self, min: &str, max: &str) -> bool {
        self.min() < max && min < self.max()
    }
}

/// Compares the positions in `[min, max)` with the stop's. Both lists are in order and without overlap.
pub fn compare(min: &str, max: &str, read: &[ReadTo], stop: &[ReadTo]) -> Reached {
    let (min, max) = (trimmed(min), trimmed(max));
    let mut reached = Reached::Yes;
    let mut at = min;
    for range in read.iter().filter(|r| r.overlaps(min, max)) {
        if range.min() > at {
            // It was never asked.
            return Reached::NotYet;
        }
        at = at.max(range.max());
        let mut covered = range.min().max(min);
        for goal in stop.iter().filter(|s| s.overlaps(range.min(), range.max())) {
            match (range.lsn, goal.lsn) {
                (Some(read), Some(goal)) if read < goal => return Reached::NotYet,
                (Some(_), Some(_)) if goal.min() <= covered => covered = covered.max(goal.max()),
                _ => reached = Reached::Unknown,
            }
        }
        if covered < range.max().min(max) {
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
    let (min, max) = (trimmed(min), trimmed(max));
    partitions
        .iter()
        .map(|(low, high)| (trimmed(low), trimmed(high)))
        .filter(|(low, high)| *low < max && min < *high)
        .any(|(low, high)| !stop.iter().any(|s| s.min() <= low && high <= s.max()))
}

/// The position at which the reading of a feed range ends, and what is known of the way there.
pub struct Goal {
    min: String,
    max: String,
    stop: Vec<ReadTo>,
    /// Partitions were merged since the stop was taken: from then on numbers say nothing.
    merged: bool,
    /// The stop was reached, by numbers that were of its sequence. What comes later does not change that.
    reached: bool,
}

impl Goal {
    /// The stop of a split over `[min, max)`.
    pub fn new(min: &str, max: &str, stop: Vec<ReadTo>) -> Goal {
        Goal {
            min: min.to_owned(),
            max: max.to_owned(),
            stop,
            merged: false,
            reached: false,
        }
    }

    /// Where a position stands; `None` where that depends on what the partitions are, which are to be looked up *behind* the answer that the
    /// position came with. `at_end`: the answer found nothing more.
    pub fn reached(&self, read: &[ReadTo], at_end: bool) -> Option<Reached> {
        if self.merged {
            return Some(Reached::Unknown);
        }
        if self.reached {
            return Some(Reached::Yes);
        }
        match compare(&self.min, &self.max, read, &self.stop) {
            Reached::Yes => None,
            // At the end of the feed and yet before the stop: numbers of another sequence, or a server that lags behind.
            Reached::NotYet if at_end => None,
            other => Some(other),
        }
    }

    /// The same, by the partitions as they are now.
    pub fn reached_in(&mut self, read: &[ReadTo], partitions: &[(String, String)]) -> Reached {
        // That there was no merge before says nothing about now.
        if merged(&self.min, &self.max, partitions, &self.stop) {
            self.merged = true;
            return Reached::Unknown;
        }
        let reached = compare(&self.min, &self.max, read, &self.stop);
        self.reached |= reached == Reached::Yes;
        reached
    }
}

/// What an answer says about the stop.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Where the position behind it stands.
    pub reached: Reached,
    /// The service said that there is nothing new.
    pub unchanged: bool,
    /// Tells the partition that answered from others, where the service said which it is.
    pub partition: Option<u64>,
    /// Number of the last write in the partition that answered, where the service gave it.
    pub lsn: Option<i64>,
    /// Up to which write the range that answered is read.
    pub position: Option<i64>,
    /// Time of the newest document, in milliseconds since the epoch, where one has a time.
    pub newest: Option<i64>,
    /// The documents of the range come in the order of their times, as far as clocks agree.
    pub in_order: bool,
    /// When it was asked for, in milliseconds since the epoch.
    pub asked: i64,
    /// Feed ranges that are asked in turn.
    pub ranges: usize,
}

impl Look {
    /// Whether the server that answered had nothing behind the answer when it gave it.
    pub fn is_end(&self) -> bool {
        is_end(self.unchanged, self.position, self.lsn)
    }
}

/// Whether an answer says that there was nothing behind it: with so many words, or by a position that is no less than the last write.
pub fn is_end(unchanged: bool, position: Option<i64>, lsn: Option<i64>) -> bool {
    unchanged || matches!((position, lsn), (Some(read), Some(last)) if read >= last)
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reading goes on.
    On,
    /// Nothing is to be read behind it.
    End,
    /// The same, although the end of the feed was not reached: it moves away at least as fast as it is read.
    Outrun,
    /// The stop must still be to come, and nothing has come for a minute: whoever answers is not up to date.
    Stuck,
}

/// Decides when the reading of a split ends.
pub struct Stopping {
    stop: Stop,
    /// What comes behind the stop is read by somebody.
    goes_on: bool,
    /// A document that is changed moves behind the stop, and has to be looked for there.
    moves: bool,
    /// Answers in a row that are enough for the range that gave them.
    ends: usize,
    /// The newest write that any answer told of: a server that knows of less is not up to date.
    highest: Option<i64>,
    /// The partition that answered last.
    partition: Option<u64>,
    /// Partitions were merged since the stop was taken, as far as positions tell.
    merged: bool,
    /// Of which writes others have told is not known: another partition answers than before, or a reading before this one has heard of it. So an end
    /// has to be confirmed.
    forgotten: bool,
    /// A stop at a time lies before what was read.
    passed: bool,
    /// When the first end was asked for.
    first_end: Option<i64>,
    /// Since when nothing comes, although it is to be waited for.
    silent: Option<i64>,
    /// The way to the end, once the stop was reached.
    chase: Option<Chase>,
    /// Pages behind the stop that did not tell how far it is to the end.
    blind: u32,
}

/// The way from the stop to the end of the feed, which moves away.
#[derive(Clone, Copy)]
struct Chase {
    /// Where the end was when it was looked at last.
    end: i64,
    /// The shortest way to it so far.
    shortest: i64,
    /// How often it was not shorter since.
    longer: u32,
}

impl Stopping {
    /// For a split as it is when its reading begins.
    pub fn new(split: &Split) -> Self {
        Stopping {
            stop: split.stop.clone(),
            goes_on: split.then.is_some(),
            moves: split.mode == Mode::LatestVersion,
            ends: 0,
            highest: None,
            partition: None,
            merged: false,
            forgotten: split.continuation.is_some(),
            passed: false,
            first_end: None,
            silent: None,
            chase: None,
            blind: 0,
        }
    }

    /// Whether [`Look::in_order`] decides something for an answer whose newest document is from then.
    pub fn asks_for_order(&self, newest: Option<i64>) -> bool {
        let is_later = |stop| newest.is_some_and(|newest| newest > settled(stop));
        matches!(self.stop, Stop::Time(stop) if !self.passed && is_later(stop))
    }

    /// Takes the next answer.
    pub fn take(&mut self, look: &Look) -> Verdict {
        self.heed_changes(look);
        let at_end = self.is_end(look);
        let enough = match self.stop {
            Stop::Never => return Verdict::On,
            Stop::At(_) => match look.reached {
                Reached::Yes if self.goes_on || look.ranges > 1 => return Verdict::End,
                Reached::Yes => match self.chase(look, at_end) {
                    Verdict::On => false,
                    other => return other,
                },
                Reached::Unknown => at_end && self.is_settled(look.asked),
                Reached::NotYet | Reached::Unanswered => false,
            },
            Stop::Time(stop) => {
                // In one partition documents come in the order of their times, but for one that others were merged into.
                let later = look.in_order && self.asks_for_order(look.newest);
                if later && self.moves && look.ranges == 1 {
                    self.passed = true;
                }
                match self.passed {
                    true => match self.chase(look, at_end) {
                        Verdict::On => false,
                        other => return other,
                    },
                    false if later && !self.moves => true,
                    false => at_end && look.asked >= settled(stop) && self.is_confirmed(look.asked),
                }
            }
        };
        self.ends = if enough { self.ends + 1 } else { 0 };
        if self.ends >= look.ranges {
            return Verdict::End;
        }
        match self.is_silent(look, at_end) {
            true => Verdict::Stuck,
            false => Verdict::On,
        }
    }

    /// Forgets what was heard of writes where their numbers are of another sequence from now on: a partition that others were merged into may count
    /// from less on, and what was heard before would make each of its ends look like that of a replica that lags behind.
    fn heed_changes(&mut self, look: &Look) {
        // Ranges that are asked in turn are of several partitions anyway.
        let now = look.partition.filter(|_| look.ranges == 1);
        let other = self
            .partition
            .is_some_and(|before| now.is_some_and(|now| now != before));
        self.partition = now.or(self.partition);
        let merged = look.reached == Reached::Unknown && !self.merged;
        if other || merged {
            self.merged |= merged;
            self.forgotten = true;
            (self.highest, self.first_end, self.silent) = (None, None, None);
            (self.chase, self.blind) = (None, 0);
        }
    }

    /// Whether there was nothing behind the answer, and whoever gave it knows of every write that others have told of.
    fn is_end(&mut self, look: &Look) -> bool {
        // Ranges that are asked in turn have numbers of their own each.
        let known = look.lsn.filter(|_| look.ranges == 1);
        let is_behind = known.is_some() && known < self.highest;
        self.highest = self.highest.max(known);
        look.is_end() && !is_behind
    }

    /// Whether an end that was asked for now is to be believed: where it is not known of which writes others have told, only a settled one is.
    fn is_confirmed(&mut self, asked: i64) -> bool {
        !self.forgotten || self.is_settled(asked)
    }

    /// Whether an end that was asked for now comes late enough behind the first one for a replica to have caught up.
    fn is_settled(&mut self, asked: i64) -> bool {
        let first = *self.first_end.get_or_insert(asked);
        asked >= first.saturating_add(SETTLED_MS)
    }

    /// Whether nothing has come for long although something must.
    fn is_silent(&mut self, look: &Look, at_end: bool) -> bool {
        let waits = match self.stop {
            Stop::Time(stop) => !at_end && look.asked >= settled(stop),
            _ if look.reached == Reached::Unanswered => false,
            _ => look.reached == Reached::NotYet || !at_end,
        };
        if !look.unchanged || !waits {
            self.silent = None;
            return false;
        }
        let since = *self.silent.get_or_insert(look.asked);
        look.asked >= since.saturating_add(SILENT_MS)
    }

    /// Behind the stop it is read on to the end of the feed: a document that was there before and has been changed since comes there, and
    /// would be missing. Where the end does not come closer, that is given up.
    fn chase(&mut self, look: &Look, at_end: bool) -> Verdict {
        if at_end && self.is_confirmed(look.asked) {
            return Verdict::End;
        }
        if look.is_end() {
            // There is nothing behind it for now, or its server is behind the others.
            return Verdict::On;
        }
        let (Some(read), Some(last)) = (look.position, look.lsn.max(self.highest)) else {
            self.blind = self.blind.saturating_add(1);
            return match self.blind >= BLIND_PAGES {
                true => Verdict::Outrun,
                false => Verdict::On,
            };
        };
        let distance = last - read;
        let chase = match self.chase {
            Some(chase) if read < chase.end => return Verdict::On,
            Some(chase) if distance >= chase.shortest => Chase {
                end: last,
                longer: chase.longer + 1,
                ..chase
            },
            _ => Chase {
                end: last,
                shortest: distance,
                longer: 0,
            },
        };
        self.chase = Some(chase);
        match chase.longer >= PATIENCE {
            true => Verdict::Outrun,
            false => Verdict::On,
        }
    }
}

/// From when on an answer has all that was written before a time.
fn settled(stop: i64) -> i64 {
    stop.saturating_add(SETTLED_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;

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
            fingerprint: None,
        }
    }

    const NOW: i64 = 1_800_000_000_000;

    fn at(reached: Reached, position: i64, lsn: i64) -> Look {
        Look {
            reached,
            unchanged: false,
            partition: None,
            lsn: Some(lsn),
            position: Some(position),
            newest: None,
            in_order: true,
            asked: NOW,
            ranges: 1,
        }
    }

    fn nothing(reached: Reached, position: i64, lsn: i64) -> Look {
        Look {
            unchanged: true,
            ..at(reached, position, lsn)
        }
    }

    fn later(ms: i64, look: Look) -> Look {
        Look {
            asked: NOW + ms,
            ..look
        }
    }

    fn stopping() -> Stopping {
        Stopping::new(&split(Stop::At("7".into())))
    }

    #[test]
    fn without_a_stop_it_never_ends() {
        let mut never = Stopping::new(&split(Stop::Never));
        for ms in [0, 100_000] {
            let end = later(ms, nothing(Reached::Yes, 7, 7));
            assert_eq!(never.take(&end), Verdict::On);
        }
    }

    #[test]
    fn behind_the_stop_it_is_read_on_to_the_end_once() {
        let mut stop = stopping();
        let looks = [
            (at(Reached::NotYet, 6, 20), Verdict::On),
            // What was changed since is behind it.
            (at(Reached::Yes, 10, 30), Verdict::On),
            (at(Reached::Yes, 20, 40), Verdict::On),
            // The end comes closer.
            (at(Reached::Yes, 35, 50), Verdict::On),
            (at(Reached::Yes, 42, 60), Verdict::On),
            (at(Reached::Yes, 60, 60), Verdict::End),
        ];
        for (look, verdict) in looks {
            assert_eq!(stop.take(&look), verdict, "{look:?}");
        }
        // An idle partition ends with its first answer.
        assert_eq!(stopping().take(&at(Reached::Yes, 7, 7)), Verdict::End);
    }

    #[test]
    fn the_end_of_a_replica_that_lags_behind_is_not_that_of_the_feed() {
        let mut stop = stopping();
        // The document that was written again as number 9 was left out of a page before.
        assert_eq!(stop.take(&at(Reached::NotYet, 5, 9)), Verdict::On);
        assert_eq!(stop.take(&nothing(Reached::Yes, 8, 8)), Verdict::On);
        assert_eq!(stop.take(&nothing(Reached::Yes, 9, 9)), Verdict::End);
        // Where nobody else answers the job is not held up for ever.
        let mut stop = stopping();
        assert_eq!(stop.take(&at(Reached::NotYet, 5, 9)), Verdict::On);
        assert_eq!(stop.take(&nothing(Reached::Yes, 8, 8)), Verdict::On);
        let stuck = later(60_000, nothing(Reached::Yes, 8, 8));
        assert_eq!(stop.take(&stuck), Verdict::Stuck);
    }

    /// Pages of 100 writes, while so many others come for each page.
    fn chased(others: i64) -> (Verdict, usize) {
        let mut stop = stopping();
        let (mut read, mut last) = (0, 2_000);
        for looks in 0..10_000 {
            (last, read) = (last + others, (last + others).min(read + 100));
            match stop.take(&at(Reached::Yes, read, last)) {
                Verdict::On => {}
                verdict => return (verdict, looks),
            }
        }
        panic!("it never ends")
    }

    #[test]
    fn an_end_that_comes_closer_is_reached_and_one_that_does_not_is_left() {
        for slower in [0, 30, 60, 90, 99] {
            assert_eq!(chased(slower).0, Verdict::End, "{slower}");
        }
        for faster in [100, 150] {
            let (verdict, looks) = chased(faster);
            assert_eq!(verdict, Verdict::Outrun);
            assert!(looks < 500, "{looks}");
        }
    }

    #[test]
    fn where_reading_goes_on_in_another_mode_it_ends_at_the_stop() {
        let mut stop = Stopping::new(&Split {
            then: Some("c1.t".into()),
            ..split(Stop::At("7".into()))
        });
        assert_eq!(stop.take(&at(Reached::NotYet, 6, 20)), Verdict::On);
        assert_eq!(stop.take(&at(Reached::Yes, 10, 30)), Verdict::End);
    }

    #[test]
    fn where_numbers_say_nothing_only_the_end_counts() {
        let mut stop = stopping();
        let unknown = |position, lsn| at(Reached::Unknown, position, lsn);
        // Before the merge, in numbers of another sequence.
        assert_eq!(stop.take(&at(Reached::NotYet, 2, 900)), Verdict::On);
        assert_eq!(stop.take(&unknown(3, 50)), Verdict::On);
        // However long the way there was, the replica that says so may be behind.
        assert_eq!(stop.take(&later(90_000, unknown(50, 50))), Verdict::On);
        assert_eq!(stop.take(&later(94_000, unknown(52, 52))), Verdict::On);
        assert_eq!(stop.take(&later(96_000, unknown(55, 60))), Verdict::On);
        let behind = later(97_000, nothing(Reached::Unknown, 58, 58));
        assert_eq!(stop.take(&behind), Verdict::On, "others know of 60");
        assert_eq!(stop.take(&later(98_000, unknown(60, 60))), Verdict::End);
    }

    #[test]
    fn a_range_that_stands_before_its_stop_does_not_end() {
        let mut stop = stopping();
        let silent = |ms| later(ms, nothing(Reached::NotYet, 5, 5));
        assert_eq!(stop.take(&silent(0)), Verdict::On);
        assert_eq!(stop.take(&silent(59_000)), Verdict::On);
        assert_eq!(
            stop.take(&later(60_000, at(Reached::NotYet, 6, 6))),
            Verdict::On,
            "it moves"
        );
        assert_eq!(stop.take(&silent(61_000)), Verdict::On);
        assert_eq!(stop.take(&silent(121_000)), Verdict::Stuck);
    }

    #[test]
    fn a_time_is_reached_by_the_end_behind_it_or_a_later_document() {
        let time = || Stopping::new(&split(Stop::Time(NOW)));
        let end = |asked| Look {
            asked,
            ..nothing(Reached::NotYet, 5, 5)
        };
        let document = |newest| Look {
            newest: Some(newest),
            ..at(Reached::NotYet, 5, 50)
        };
        let mut stop = time();
        assert_eq!(stop.take(&end(NOW - 100_000)), Verdict::On);
        assert_eq!(stop.take(&end(NOW - 1)), Verdict::On);
        assert_eq!(stop.take(&end(NOW + 4_999)), Verdict::On, "clocks differ");
        assert_eq!(stop.take(&document(NOW + 5_000)), Verdict::On);
        assert_eq!(time().take(&end(NOW + 5_000)), Verdict::End);
        // Where each version stays where it was written nothing is behind it.
        let mut versions = Stopping::new(&Split {
            mode: Mode::AllVersionsAndDeletes,
            ..split(Stop::Time(NOW))
        });
        assert_eq!(versions.take(&document(NOW + 5_000)), Verdict::On);
        assert_eq!(versions.take(&document(NOW + 5_001)), Verdict::End);
        // Where partitions were merged, what one of them had comes behind what the other had, and is older.
        let mut stop = time();
        let unordered = Look {
            in_order: false,
            ..document(NOW + 9_000)
        };
        assert!(stop.asks_for_order(unordered.newest));
        assert_eq!(stop.take(&later(10_000, unordered)), Verdict::On);
        assert_eq!(
            stop.take(&later(10_000, at(Reached::NotYet, 50, 50))),
            Verdict::End
        );
    }

    #[test]
    fn what_was_changed_behind_a_time_is_looked_for_up_to_the_end() {
        let mut stop = Stopping::new(&split(Stop::Time(NOW)));
        let page = |newest: i64, position, lsn| Look {
            newest: Some(newest),
            ..at(Reached::NotYet, position, lsn)
        };
        assert_eq!(stop.take(&page(NOW - 9_000, 10, 50)), Verdict::On);
        // A document that was there before the time may have been changed a minute behind it.
        let first = page(NOW + 60_000, 20, 50);
        assert!(stop.asks_for_order(first.newest));
        assert_eq!(stop.take(&first), Verdict::On);
        let second = page(NOW + 61_000, 30, 60);
        assert!(!stop.asks_for_order(second.newest), "that it is passed is known");
        let unordered = Look {
            in_order: false,
            ..second
        };
        assert_eq!(stop.take(&unordered), Verdict::On);
        assert_eq!(stop.take(&page(NOW + 62_000, 60, 60)), Verdict::End);
        // Writers that are as fast as the reader do not keep it from ending.
        let mut stop = Stopping::new(&split(Stop::Time(NOW)));
        let outrun = (1..1_000).find_map(|n| {
            let look = page(NOW + 60_000, n * 100, n * 100 + 2_000);
            Some(stop.take(&look)).filter(|verdict| *verdict != Verdict::On)
        });
        assert_eq!(outrun, Some(Verdict::Outrun));
    }

    #[test]
    fn an_end_whose_number_nobody_gives_is_looked_for_and_that_is_bounded() {
        let blind = Look {
            lsn: None,
            ..at(Reached::Yes, 8, 0)
        };
        let mut stop = stopping();
        for _ in 0..100 {
            assert_eq!(stop.take(&blind), Verdict::On);
        }
        let end = Look {
            unchanged: true,
            ..blind
        };
        assert_eq!(stop.take(&end), Verdict::End);
        let mut stop = stopping();
        let verdicts: Vec<_> = (0..BLIND_PAGES).map(|_| stop.take(&blind)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Outrun));
        assert!(verdicts.iter().rev().skip(1).all(|v| *v == Verdict::On));
    }

    #[test]
    fn a_partition_that_others_were_merged_into_begins_anew() {
        let of = |partition, look| Look {
            partition: Some(partition),
            ..look
        };
        for stop in [Stop::At("7".into()), Stop::Time(NOW - 100_000)] {
            let mut stop = Stopping::new(&split(stop));
            let before = later(0, at(Reached::Yes, 500, 900));
            assert_eq!(stop.take(&of(1, before)), Verdict::On);
            // The merged partition counts from less on. Its first end may be that of a replica that lags behind.
            let end = |ms| of(2, later(ms, nothing(Reached::Yes, 40, 40)));
            assert_eq!(stop.take(&of(2, later(0, at(Reached::Yes, 20, 40)))), Verdict::On);
            assert_eq!(stop.take(&end(1_000)), Verdict::On);
            assert_eq!(stop.take(&end(6_000)), Verdict::End);
        }
    }

    #[test]
    fn a_reading_that_goes_on_confirms_its_end() {
        // What was left out of a page before, since it had been changed, the replica that answers now may not know of.
        for stop in [Stop::At("7".into()), Stop::Time(NOW - 100_000)] {
            let mut stop = Stopping::new(&Split {
                continuation: Some("c1.x".into()),
                ..split(stop)
            });
            let end = |ms| later(ms, nothing(Reached::Yes, 8, 8));
            assert_eq!(stop.take(&end(0)), Verdict::On);
            assert_eq!(stop.take(&later(1_000, at(Reached::Yes, 9, 9))), Verdict::On);
            assert_eq!(stop.take(&end(4_999)), Verdict::On);
            assert_eq!(
                stop.take(&later(5_000, nothing(Reached::Yes, 9, 9))),
                Verdict::End
            );
        }
    }

    #[test]
    fn a_look_up_that_fails_does_not_make_it_stuck() {
        let mut stop = stopping();
        for ms in [0, 59_000, 120_000, 300_000] {
            let look = later(ms, nothing(Reached::Unanswered, 9, 9));
            assert_eq!(stop.take(&look), Verdict::On);
        }
        assert_eq!(
            stop.take(&later(301_000, nothing(Reached::Yes, 9, 9))),
            Verdict::End
        );
    }

    #[test]
    fn each_range_of_a_split_must_reach_its_stop() {
        let mut stop = Stopping::new(&Split {
            mode: Mode::AllVersionsAndDeletes,
            ..split(Stop::Time(NOW))
        });
        let look = |newest: i64| Look {
            newest: Some(newest),
            ranges: 2,
            ..at(Reached::NotYet, 5, 50)
        };
        assert_eq!(stop.take(&look(NOW + 6_000)), Verdict::On);
        assert_eq!(stop.take(&look(NOW)), Verdict::On);
        assert_eq!(stop.take(&look(NOW + 6_000)), Verdict::On);
        assert_eq!(stop.take(&look(NOW + 6_000)), Verdict::End);
    }

    #[test]
    fn bounds_of_other_lengths_are_the_same() {
        let stop = ranges(&[("1000", "8000", 7)]);
        let read = ranges(&[("10000000", "40", 7), ("4000", "80", 7)]);
        assert_eq!(compare("10", "800000", &read, &stop), Reached::Yes);
        let partition = |min: &str, max: &str| [(min.to_owned(), max.to_owned())];
        assert!(!merged("20", "30", &partition("10", "800000"), &stop));
        assert!(merged("20", "30", &partition("0F", "80"), &stop));
        assert!(
            !merged("20", "30", &partition("80", "FF"), &stop),
            "it has no part of it"
        );
    }

    #[test]
    fn a_merge_is_noticed_whenever_it_happens() {
        let part = |min: &str, max: &str| (min.to_owned(), max.to_owned());
        let (own, together) = ([part("10", "80")], [part("", "80")]);
        let (before, behind) = (ranges(&[("10", "80", 6)]), ranges(&[("10", "80", 9)]));
        let goal = || Goal::new("10", "80", ranges(&[("10", "80", 7)]));
        // It was not merged when a server that lags behind made somebody look.
        let mut late = goal();
        assert_eq!(late.reached(&before, false), Some(Reached::NotYet));
        assert_eq!(late.reached(&before, true), None);
        assert_eq!(late.reached_in(&before, &own), Reached::NotYet);
        assert_eq!(late.reached(&behind, false), None, "it is looked at again");
        assert_eq!(late.reached_in(&behind, &together), Reached::Unknown);
        assert_eq!(late.reached(&behind, false), Some(Reached::Unknown));
        // What was reached before stays reached.
        let mut early = goal();
        assert_eq!(early.reached(&behind, false), None);
        assert_eq!(early.reached_in(&behind, &own), Reached::Yes);
        assert_eq!(early.reached(&before, true), Some(Reached::Yes));
    }
}
