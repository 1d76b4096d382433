//! What holds operations up: for the log of a flush that does not end, and for the message of a sink that hears nothing any more.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::error::{CoreError, Kind};

/// A request that has been under way for so long without an answer is worth a word.
const UNANSWERED: Duration = Duration::from_secs(10);

/// Why the operation under way on a document is held up.
pub(super) struct Held {
    /// When it failed first.
    pub since: Instant,
    /// The serial number of the partition that it was sent to last.
    pub partition: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What it failed with last.
    pub error: Box<CoreError>,
}

/// What a partition holds up.
struct Group<'a> {
    operations: usize,
    /// The operation that has been held up longest, by when that began and by its document.
    longest: (Instant, u64),
    held: &'a Held,
}

/// An answer for people.
fn answer(error: &CoreError) -> String {
    let activity = match error.activity_id.as_str() {
        "" => "none",
        id => id,
    };
    let (status, sub_status) = (error.status, error.sub_status);
    format!("{status}/{sub_status}, activity id {activity}: {}", error.message)
}

impl Engine {
    fn groups(&self) -> BTreeMap<u64, Group<'_>> {
        let mut groups = BTreeMap::<u64, Group<'_>>::new();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "what is counted and found does not depend on the order"
        )]
        for (document, held) in &self.held {
            let this = (held.since, *document);
            let group = groups.entry(held.partition).or_insert(Group {
                operations: 0,
                longest: this,
                held,
            });
            group.operations += 1;
            if this < group.longest {
                (group.longest, group.held) = (this, held);
            }
        }
        groups
    }

    /// Partitions with operations that have failed, and wait for another attempt or are being tried again.
    pub(super) fn partitions_held(&self) -> usize {
        self.groups().len()
    }

    /// What holds operations up now, each in a sentence without its full stop, that which has done so longest first.
    pub fn held_up(&self, now: Instant) -> Vec<String> {
        let mut all = Vec::new();
        for (serial, group) in self.groups() {
            let Held { attempts, error, .. } = group.held;
            let since = group.longest.0;
            let name = match self.partitions.iter().position(|p| p.serial == serial) {
                Some(at) => self.partition_name(at),
                None => "a partition that is not there any more".to_owned(),
            };
            let text = format!(
                "{name} holds {} operations up, the first of them for {} s and {attempts} attempts; the last answer was {}",
                group.operations,
                now.saturating_duration_since(since).as_secs(),
                answer(error)
            );
            all.push((since, text));
        }
        for (at, partition) in self.partitions.iter().enumerate() {
            let sent = partition
                .under_way
                .iter()
                .map(|r| r.sent)
                .filter(|sent| *sent <= now);
            let Some(since) = sent.clone().min() else {
                continue;
            };
            let waits = now.saturating_duration_since(since);
            if waits >= UNANSWERED {
                let text = format!(
                    "{} has not answered a request for {} s, of {} under way",
                    self.partition_name(at),
                    waits.as_secs(),
                    sent.count()
                );
                all.push((since, text));
            }
        }
        all.extend(self.own_wait(now));
        if let Some(since) = self.letters.oldest() {
            let mut text = format!(
                "a record that was refused has waited for its dead letter to be stored for {} s",
                now.saturating_duration_since(since).as_secs()
            );
            if let Some((attempts, error)) = self.letters.oldest_failure() {
                // Writing into a String cannot fail.
                let _ = write!(
                    text,
                    " and {attempts} attempts; the last answer of container '{}' was {}",
                    self.config.dead_letter_container,
                    answer(error)
                );
            }
            all.push((since, text));
        }
        all.sort_by_key(|(since, _)| *since);
        all.into_iter().map(|(_, text)| text).collect()
    }

    /// Requests that the sink itself holds back for the sake of its budget, and since when: no partition is to blame for these.
    fn own_wait(&self, now: Instant) -> Option<(Instant, String)> {
        let free = self.partitions.iter().filter(|p| p.held_until(now).is_none());
        let waiting = free.flat_map(|p| &p.under_way).filter(|r| r.sent > now);
        let since = waiting.clone().map(|r| r.taken).min()?;
        let waits = now.saturating_duration_since(since);
        (waits >= UNANSWERED).then(|| {
            let text = format!(
                "{} requests wait for their share of sink.request-units-per-second, the first of them for {} s",
                waiting.count(),
                waits.as_secs()
            );
            (since, text)
        })
    }

    /// Id and bounds of a partition.
    fn partition_name(&self, at: usize) -> String {
        let bound = |at: usize| self.partitions.get(at).map(|p| p.min.to_hex());
        let text = |bound: Option<String>, none: &str| {
            bound.filter(|b| !b.is_empty()).unwrap_or_else(|| none.to_owned())
        };
        format!(
            "partition {} of the hashes from {} up to {}",
            self.partitions[at].id,
            text(bound(at), "the first"),
            text(bound(at + 1), "the last")
        )
    }

    /// Something came back, or could not be expected before then.
    pub fn heard(&mut self, at: Instant) {
        self.heard = self.heard.max(Some(at));
    }

    /// When the sink has stalled, unless something comes back before.
    pub(super) fn stalls_at(&self, now: Instant) -> Option<Instant> {
        let timeout = self.config.stall_timeout?;
        if self.open == 0 {
            return None;
        }
        // Where nothing is sent before a certain time, nothing is to be heard before: what waits for another attempt, for the end of a
        // wait that the service asked for, or for the bulk form.
        let again = self.again.first_key_value().map(|((due, _), _)| *due);
        let looks = self.partitions.iter().filter_map(|p| p.next_look(now));
        let sent = again.into_iter().chain(looks).min();
        self.heard.max(sent).map(|since| since + timeout)
    }

    /// Why the sink has stalled, if it has.
    pub(super) fn stalled(&self, now: Instant) -> Option<CoreError> {
        self.stalls_at(now).filter(|at| *at <= now)?;
        let heard = self
            .heard
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let mut why = self.held_up(now);
        if why.is_empty() {
            why.push("no partition is known to hold them up".to_owned());
        }
        Some(CoreError::new(
            Kind::Transient,
            format!(
                "the service has answered nothing for {} s, while {} operations of container '{}' wait: {}; see sink.stall-timeout",
                heard.as_secs(),
                self.open,
                self.config.container,
                why.join("; ")
            ),
        ))
    }
}
