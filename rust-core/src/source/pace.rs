//! The pace of a split: whether it is read to its end, and when to look again. Decides by answers alone, without a clock.

use std::collections::VecDeque;
use std::time::Duration;

/// A page that is not full but whose newest document is older than this, and than the poll interval, is not taken for the end of the
/// feed: the service may end a page earlier than asked for.
const RECENT: Duration = Duration::from_secs(5);

/// So many pages that are not full are taken for the end after one look more that found nothing.
const TRUSTED_PAGES: u32 = 16;

/// After so many empty pages in a row that show no progress, the next look waits as if they were the end.
const EMPTY_PAGES: u32 = 16;

/// An answer, as far as the pace depends on it.
pub struct Answer {
    pub documents: usize,
    /// The page ended because it was full.
    pub full: bool,
    /// There is nothing new.
    pub unchanged: bool,
    /// It left the position where it was without saying so.
    pub stands: bool,
    /// Tells the partition that answered from others, where that is known.
    pub partition: Option<u64>,
    /// Time of the newest document in milliseconds since the epoch, where one has a time.
    pub newest: Option<i64>,
    /// Number of the newest write in the page; -1 without documents.
    pub newest_lsn: i64,
    /// Number of the last write in the partition, where the service gave it.
    pub lsn: Option<i64>,
    /// Up to which write the range is read now, where that is known.
    pub position: Option<i64>,
    /// Feed ranges that are asked in turn.
    pub ranges: usize,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The pause before the next look; `None`: at once.
    pub pause: Option<Duration>,
    /// All ranges are read to their end.
    pub caught_up: bool,
}

/// What is known of one feed range.
#[derive(Clone, Copy)]
struct Range {
    /// Up to when it is read, in milliseconds since the epoch.
    reached: i64,
    /// How many more pages that are not full are taken for the end as they are.
    trusted: u32,
    /// Its last answer looked like the end and was not taken for it.
    doubted: bool,
    /// Number of the last write that is read for sure; -1 when unknown.
    read: i64,
    /// The partition of that number.
    partition: Option<u64>,
    /// Empty pages in a row that showed no progress.
    empty: u32,
}

impl Range {
    fn new(reached: i64) -> Self {
        Range {
            reached,
            trusted: 0,
            doubted: false,
            read: -1,
            partition: None,
            empty: 0,
        }
    }
}

/// How an answer is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// There is more behind it.
    More,
    /// The range is read to its end.
    End,
    /// Nobody can say, and to ask at once has been in vain for a while.
    Nothing,
}

/// Decides when a split is read to its end and how long to pause then. A split has several feed ranges after its partition was split; they
/// are asked in turn, so that it is at its end when as many answers in a row say so as there are ranges. What one range answers says
/// nothing about another.
pub struct Rounds {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// Answers in a row that do not ask to go on at once.
    ends: usize,
    /// Whether one of those brought documents.
    found: bool,
    /// Whether all of them are the end.
    sure: bool,
    /// When the request that is under way was sent, in milliseconds since the epoch.
    pub asked: i64,
    /// In the order in which they are asked, the next first; never empty.
    ranges: VecDeque<Range>,
}

impl Rounds {
    /// `reached`: up to when the split is read, as far as that is known.
    pub fn new(min: Duration, max: Duration, reached: i64) -> Self {
        Rounds {
            min,
            max,
            pause: min,
            ends: 0,
            found: false,
            sure: true,
            asked: reached,
            ranges: VecDeque::from([Range::new(reached)]),
        }
    }

    /// The ranges are asked from the first one on again.
    pub fn begin_anew(&mut self) {
        self.ends = 0;
        // Which was which is not known any more.
        if self.ranges.len() > 1 {
            let all = Range::new(self.reached());
            self.ranges.iter_mut().for_each(|range| *range = all);
        }
    }

    /// What was read since then is read again.
    pub fn go_back_to(&mut self, reached: i64) {
        for range in &mut self.ranges {
            *range = Range::new(reached.min(range.reached));
        }
    }

    /// Up to when the split is read: as far as the range that is furthest behind.
    pub fn reached(&self) -> i64 {
        let all = self.ranges.iter().map(|range| range.reached);
        all.min().unwrap_or(self.asked)
    }

    pub fn take(&mut self, answer: &Answer) -> Pace {
        if answer.ranges != self.ranges.len() {
            let all = Range::new(self.reached());
            self.ranges = VecDeque::from(vec![all; answer.ranges.max(1)]);
            self.ends = 0;
        }
        let mut range = self.ranges.pop_front().unwrap_or_else(|| Range::new(self.asked));
        let found = self.look(&mut range, answer);
        range.reached = match (found, answer.newest) {
            (Found::End, _) => self.asked,
            (_, Some(newest)) => newest,
            (_, None) => range.reached,
        };
        self.ranges.push_back(range);
        if self.ends == 0 {
            (self.found, self.sure) = (false, true);
        }
        if found == Found::More {
            self.ends = 0;
            self.pause = self.min;
            return Pace {
                pause: None,
                caught_up: false,
            };
        }
        self.ends += 1;
        self.found |= answer.documents > 0;
        self.sure &= found == Found::End;
        if self.ends < self.ranges.len() {
            return Pace {
                pause: None,
                caught_up: false,
            };
        }
        if self.found {
            self.pause = self.min;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(self.max);
        self.ends = 0;
        Pace {
            pause: Some(pause),
            caught_up: self.sure,
        }
    }

    fn look(&self, range: &mut Range, answer: &Answer) -> Found {
        let doubted = std::mem::take(&mut range.doubted);
        let empty = std::mem::take(&mut range.empty);
        if answer.partition.is_some() && range.partition != answer.partition {
            // A partition that others were merged into may count from less on.
            (range.read, range.partition) = (-1, answer.partition);
        }
        let before = range.read;
        range.read = before.max(answer.newest_lsn).max(answer.position.unwrap_or(-1));
        if answer.unchanged {
            range.read = range.read.max(answer.lsn.unwrap_or(-1));
            if doubted {
                range.trusted = TRUSTED_PAGES;
            }
            return Found::End;
        }
        if answer.documents == 0 {
            return match answer.lsn {
                // Whatever moves the position, no write does.
                Some(lsn) if range.read >= lsn => Found::End,
                // To ask again at once is in vain, and yet there may be more.
                _ if answer.stands => Found::Nothing,
                Some(_) if range.read > before => Found::More,
                _ => {
                    range.empty = empty.saturating_add(1);
                    if range.empty < EMPTY_PAGES {
                        Found::More
                    } else {
                        Found::Nothing
                    }
                }
            };
        }
        if answer.full {
            return Found::More;
        }
        let recent = self.max.max(RECENT).as_millis() as i64;
        let old = answer.newest.is_some_and(|newest| newest < self.asked - recent);
        let behind = answer.lsn.is_some_and(|lsn| answer.newest_lsn < lsn);
        // Later writes alone may be those of other ranges, and old times a clock that is wrong; both together are a backlog.
        if (old && behind) || ((old || behind) && range.trusted == 0) {
            range.doubted = true;
            return Found::More;
        }
        range.trusted = range.trusted.saturating_sub(1);
        Found::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(documents: usize, ranges: usize) -> Answer {
        Answer {
            documents,
            full: false,
            unchanged: documents == 0,
            stands: false,
            partition: None,
            newest: (documents > 0).then_some(NOW),
            newest_lsn: -1,
            lsn: None,
            position: None,
            ranges,
        }
    }

    const NOW: i64 = 1_800_000_000_000;

    fn rounds(min: u64, max: u64) -> Rounds {
        Rounds::new(Duration::from_millis(min), Duration::from_millis(max), NOW)
    }

    const ON: Pace = Pace {
        pause: None,
        caught_up: false,
    };

    fn end(millis: u64) -> Pace {
        Pace {
            pause: Some(Duration::from_millis(millis)),
            caught_up: true,
        }
    }

    fn millis(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn pauses_grow_while_nothing_comes() {
        let mut r = rounds(50, 300);
        let pauses: Vec<_> = [5, 0, 0, 0, 0, 7, 0]
            .map(|documents| millis(r.take(&answer(documents, 1)).pause))
            .into();
        let expected = [50, 100, 200, 300, 300, 50, 100].map(Some);
        assert_eq!(pauses, expected);
    }

    #[test]
    fn full_pages_and_stretches_without_documents_are_followed_at_once() {
        let mut r = rounds(50, 50);
        let full = Answer {
            full: true,
            ..answer(100, 1)
        };
        let nothing_here = Answer {
            unchanged: false,
            ..answer(0, 1)
        };
        assert_eq!(r.take(&full), ON);
        assert_eq!(r.take(&nothing_here), ON);
        assert_eq!(millis(r.take(&answer(0, 1)).pause), Some(50));
    }

    #[test]
    fn empty_pages_that_lead_nowhere_are_paced() {
        let mut r = rounds(50, 200);
        let moved = Answer {
            unchanged: false,
            ..answer(0, 1)
        };
        for _ in 1..EMPTY_PAGES {
            assert_eq!(r.take(&moved), ON);
        }
        r.asked += 1000;
        for pause in [50, 100, 200, 200] {
            let pace = r.take(&moved);
            assert_eq!((millis(pace.pause), pace.caught_up), (Some(pause), false));
            assert_eq!(r.reached(), NOW, "nobody knows that there is nothing");
        }
        // Documents show that there was something after all.
        let full = Answer {
            full: true,
            ..answer(100, 1)
        };
        assert_eq!((r.take(&full), r.take(&moved)), (ON, ON));
    }

    #[test]
    fn empty_pages_are_followed_as_long_as_they_near_the_last_write() {
        let mut r = rounds(50, 200);
        let at = |position, lsn| Answer {
            unchanged: false,
            lsn: Some(lsn),
            position: Some(position),
            ..answer(0, 1)
        };
        for position in 0..100 {
            assert_eq!(r.take(&at(position, 100)), ON);
        }
        assert_eq!(r.take(&at(100, 100)), end(50));
        // A position that moves behind the last write that is read, and a position that cannot be read.
        assert_eq!(r.take(&at(101, 100)), end(100));
        let moved = Answer {
            position: None,
            ..at(0, 100)
        };
        assert_eq!(r.take(&moved), end(200));
    }

    #[test]
    fn a_page_that_stands_is_waited_behind_and_is_no_end() {
        let mut r = rounds(50, 200);
        let at = |position, stands| Answer {
            unchanged: false,
            stands,
            lsn: Some(100),
            position: Some(position),
            ..answer(0, 1)
        };
        assert_eq!(r.take(&at(10, false)), ON);
        r.asked += 1000;
        for pause in [50, 100, 200] {
            let pace = r.take(&at(10, true));
            assert_eq!((millis(pace.pause), pace.caught_up), (Some(pause), false));
        }
        assert_eq!(r.reached(), NOW, "nobody knows that there is nothing");
        // What stood is not taken for read to its end.
        for position in 11..40 {
            assert_eq!(r.take(&at(position, false)), ON);
        }
        assert!(r.take(&at(100, true)).caught_up, "there is no write behind it");
    }

    #[test]
    fn a_partition_that_counts_from_less_on_is_not_at_its_end() {
        let mut r = rounds(50, 200);
        let at = |partition, position, lsn| Answer {
            unchanged: false,
            partition: Some(partition),
            lsn: Some(lsn),
            position: Some(position),
            ..answer(0, 1)
        };
        assert_eq!(r.take(&at(1, 900, 900)), end(50));
        for position in 1..60 {
            assert_eq!(r.take(&at(2, position, 60)), ON);
        }
        assert!(r.take(&at(2, 60, 60)).caught_up);
    }

    #[test]
    fn all_ranges_must_be_at_their_end() {
        let mut r = rounds(50, 1000);
        assert!(r.take(&answer(0, 1)).caught_up);
        // The partition was split: one child is busy, two are idle.
        let busy = Answer {
            full: true,
            newest: Some(NOW - 60_000),
            ..answer(100, 3)
        };
        for _ in 0..5 {
            r.asked += 1000;
            assert_eq!(r.take(&busy), ON);
            assert_eq!(r.take(&answer(0, 3)), ON);
            assert_eq!(r.take(&answer(0, 3)), ON);
            assert_eq!(r.reached(), NOW - 60_000, "as far as the busy one");
        }
        r.asked += 1000;
        let last = Answer {
            newest: Some(r.asked),
            ..answer(3, 3)
        };
        // The two others were at their end just before.
        assert_eq!(r.take(&last), end(50));
        assert_eq!(r.reached(), r.asked - 1000);
    }

    #[test]
    fn a_page_that_ends_early_is_doubted_until_that_was_in_vain() {
        let mut r = rounds(1000, 1000);
        let early = Answer {
            newest_lsn: 5,
            lsn: Some(9),
            ..answer(5, 1)
        };
        assert_eq!((r.take(&early), r.take(&early)), (ON, ON));
        assert!(r.take(&answer(0, 1)).caught_up);
        for _ in 0..TRUSTED_PAGES {
            assert!(r.take(&early).caught_up);
        }
        assert_eq!(r.take(&early), ON);
        // Old documents with later writes behind them are a backlog, whatever was in vain before.
        assert!(r.take(&answer(0, 1)).caught_up);
        let backlog = Answer {
            newest: Some(NOW - 60_000),
            ..early
        };
        assert_eq!(r.take(&backlog), ON);
    }

    #[test]
    fn a_range_is_not_vouched_for_by_another() {
        let mut r = rounds(1000, 1000);
        let early = Answer {
            newest_lsn: 5,
            lsn: Some(9),
            ..answer(5, 2)
        };
        for _ in 0..5 {
            assert_eq!((r.take(&early), r.take(&answer(0, 2))), (ON, ON));
        }
    }

    #[test]
    fn documents_without_a_time_leave_open_up_to_when_they_are() {
        let mut r = rounds(50, 50);
        let full = Answer {
            full: true,
            newest: None,
            ..answer(100, 1)
        };
        r.asked += 1000;
        assert_eq!((r.take(&full), r.reached()), (ON, NOW));
    }
}
