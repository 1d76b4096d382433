//! Whether a partition's operations travel in bulk, and the search for the reason where a bulk request is refused as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Operations of the request that tries the form again. With two, a document that spoils it does not pass for the form.
pub const PROBE: usize = 2;

/// The pause between two tries of the form doubles up to this many times the option's value.
pub const MAX_PROBE_STEPS: u32 = 32;

/// Refused parts of one bulk request after which, with none that was taken, the rest goes one by one: with this many there are
/// culprits everywhere, or the form is the matter.
const MAX_REFUSED: usize = 15;

/// Whether a partition's operations travel in bulk.
#[derive(Debug)]
pub enum Form {
    /// They do. A single operation that was refused in bulk and taken alone may have been the matter, a second one in a row proves
    /// that it is the form.
    Bulk { suspicions: u32 },
    /// The service does not take it now.
    OneByOne {
        /// When it is tried again.
        until: Instant,
        pause: Duration,
        /// The try is under way.
        probing: bool,
    },
}

impl Form {
    /// The form was refused and every operation of the request taken alone. `partition` is for the log.
    pub fn is_refused(&mut self, partition: &str, operations: usize, first_pause: Duration, now: Instant) {
        let pause = match self {
            // One operation proves nothing: it may be the one that cannot travel in bulk.
            Form::Bulk { suspicions } if operations == 1 && *suspicions == 0 => {
                *suspicions += 1;
                return;
            }
            Form::Bulk { .. } => {
                tracing::warn!(target: "cosmosflink::sink",
                    "the service refuses bulk requests for partition {partition}; its operations go one by one, and bulk is tried again in {first_pause:?}");
                first_pause
            }
            Form::OneByOne {
                pause, probing: true, ..
            } => (*pause * 2).min(first_pause * MAX_PROBE_STEPS),
            // Another request that was refused at the same time.
            Form::OneByOne { .. } => return,
        };
        *self = Form::OneByOne {
            until: now + pause,
            pause,
            probing: false,
        };
    }

    /// A bulk request was taken.
    pub fn is_taken(&mut self, partition: &str) {
        if matches!(self, Form::OneByOne { .. }) {
            tracing::info!(target: "cosmosflink::sink", "the service takes bulk requests for partition {partition} again");
        }
        *self = Form::Bulk { suspicions: 0 };
    }

    /// The try of the form has shown nothing: there may be another one at once.
    pub fn probe_is_over(&mut self) {
        if let Form::OneByOne { probing, .. } = self {
            *probing = false;
        }
    }
}

/// Names a search; never used again.
pub type SearchId = u64;

/// How far the search for the reason of a refusal has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// Operations of the request.
    pub of: usize,
    /// Operations of the request that have not ended alone.
    open: usize,
    /// Operations that are part of the search still.
    members: usize,
    /// Requests that were refused, the first included.
    refused: usize,
    /// A part of it was taken as a bulk request, or it was too large: the form is not the matter.
    form_is_taken: bool,
    /// Operations that were understood when they went alone.
    taken: usize,
    /// Operations that were refused alone too.
    culprits: usize,
}

impl Search {
    /// Nothing more is to be learnt from smaller parts.
    fn is_exhausted(&self) -> bool {
        self.refused >= MAX_REFUSED && !self.form_is_taken
    }

    /// Whether the form itself is the matter, when all operations have ended: something was refused in bulk that has no culprit in it.
    pub fn is_about_the_form(&self) -> bool {
        // The last parts that were refused lie side by side: each has a culprit of its own, or none.
        let parts = MAX_REFUSED.div_ceil(2);
        !self.form_is_taken && self.taken > 0 && (!self.is_exhausted() || self.culprits < parts)
    }
}

/// The searches that are going on. An operation carries the number of its own.
#[derive(Debug, Default)]
pub struct Searches {
    begun: SearchId,
    open: BTreeMap<SearchId, Search>,
}

impl Searches {
    /// A bulk request of so many operations was refused, all of which become members.
    pub fn begin(&mut self, of: usize) -> SearchId {
        let id = self.begun;
        self.begun += 1;
        let search = Search {
            of,
            open: of,
            members: of,
            ..Search::default()
        };
        self.open.insert(id, search);
        id
    }

    /// A bulk request of members was refused; returns whether the form is known not to be the matter. One that was `too_large` says
    /// nothing against it.
    pub fn refused(&mut self, id: SearchId, too_large: bool) -> bool {
        let Some(search) = self.open.get_mut(&id) else {
            return false;
        };
        search.refused += 1;
        search.form_is_taken |= too_large;
        search.form_is_taken
    }

    pub fn is_exhausted(&self, id: SearchId) -> bool {
        self.open.get(&id).is_some_and(Search::is_exhausted)
    }

    /// A member was taken in a bulk request, and belongs to the search no more.
    pub fn taken_in_bulk(&mut self, id: SearchId) {
        if let Some(search) = self.open.get_mut(&id) {
            search.form_is_taken = true;
        }
        self.leave(id);
    }

    /// A member has ended alone. Returns the search when it was the last of all, with what it has shown.
    pub fn ended_alone(&mut self, id: SearchId, culprit: bool) -> Option<Search> {
        let search = self.open.get_mut(&id)?;
        search.open = search.open.saturating_sub(1);
        *(if culprit {
            &mut search.culprits
        } else {
            &mut search.taken
        }) += 1;
        let shown = *search;
        self.leave(id);
        (shown.open == 0).then_some(shown)
    }

    /// A member belongs to the search no more. Without members it is forgotten.
    pub fn leave(&mut self, id: SearchId) {
        if let Some(search) = self.open.get_mut(&id) {
            search.members -= 1;
            if search.members == 0 {
                self.open.remove(&id);
            }
        }
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_with_its_last_member() {
        let mut searches = Searches::default();
        let (first, second) = (searches.begin(3), searches.begin(1));
        assert!(!searches.refused(first, false));
        assert!(searches.ended_alone(first, true).is_none());
        // One was taken in bulk: no verdict on the form, whatever becomes of the last.
        searches.taken_in_bulk(first);
        assert!(searches.ended_alone(first, false).is_none());
        assert_eq!(searches.count(), 1);
        let shown = searches.ended_alone(second, false).unwrap();
        assert!(shown.is_about_the_form() && shown.of == 1);
        assert_eq!(searches.count(), 0);
    }

    #[test]
    fn with_refusals_everywhere_the_rest_goes_alone() {
        let mut searches = Searches::default();
        let id = searches.begin(100);
        for _ in 0..MAX_REFUSED {
            assert!(!searches.is_exhausted(id));
            searches.refused(id, false);
        }
        assert!(searches.is_exhausted(id));
        assert!(
            searches.refused(id, true),
            "too many bytes say nothing of the form"
        );
        assert!(!searches.is_exhausted(id));
    }
}
