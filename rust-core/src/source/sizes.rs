//! How large the pages of a split are: how many documents are asked for, and how much room a fetch sets aside.

/// The service's own limit of a page.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (maximum response size).
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// What a split's first page with documents is expected to have: a thousand documents of 1.5 KiB. With the service's limit in its place
/// no more than four fetches would fit into the default budget at once, and most pages are smaller. Where they are not, the first page of
/// each split takes too much once.
const FIRST_EXPECTED_BYTES: u64 = MAX_PAGE_BYTES * 3 / 8;

/// A page that is expected to be smaller is taken for one of this size: the default concurrency fits into the default budget, and what a
/// page that is larger than expected takes too much is bounded.
const MIN_EXPECTED_BYTES: u64 = MAX_PAGE_BYTES / 4;

/// A page of at least this size counts as full even when it has fewer documents than asked for: the service ends a page at 4 MiB, and a
/// document that did not fit any more has at most 2 MiB.
const FULL_PAGE_BYTES: u64 = 2 * 1024 * 1024;

/// After so many pages the page size that an answer was too large for is doubled again.
const PAGES_BEFORE_GROWTH: u32 = 16;

/// The sizes of one split's pages.
pub struct Sizes {
    /// Most documents in a page, as the option says.
    most: u32,
    /// Most documents that are asked for: less than that after an answer that was too large.
    limit: u32,
    /// Pages since the limit was changed.
    pages_at_limit: u32,
    /// Largest page that is expected, in bytes: what the last ones with documents tell.
    expected: u64,
}

impl Sizes {
    /// `most`: documents in a page at most.
    pub fn new(most: u32) -> Self {
        Sizes {
            most,
            limit: most,
            pages_at_limit: 0,
            expected: FIRST_EXPECTED_BYTES,
        }
    }

    /// Documents to ask for, at most.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Bytes that a fetch sets aside.
    pub fn reserve(&self) -> u64 {
        reserve(self.expected)
    }

    /// Whether a page with so many documents and bytes ended because it was full.
    pub fn is_full(&self, documents: usize, bytes: u64) -> bool {
        documents >= self.limit as usize || bytes >= FULL_PAGE_BYTES
    }

    /// An answer was too large: half as many documents are asked for. False where that cannot be.
    pub fn halve(&mut self) -> bool {
        if self.limit <= 1 {
            return false;
        }
        self.limit /= 2;
        self.pages_at_limit = 0;
        true
    }

    /// A page came, with so many documents and bytes. True when more documents are asked for from now on.
    pub fn took(&mut self, documents: usize, bytes: u64) -> bool {
        if documents > 0 {
            self.expected = expected_bytes(self.expected, bytes);
        }
        self.pages_at_limit += 1;
        let grows = self.limit < self.most && self.pages_at_limit >= PAGES_BEFORE_GROWTH;
        if grows {
            self.limit = self.limit.saturating_mul(2).min(self.most);
            self.pages_at_limit = 0;
        }
        grows
    }
}

/// What a fetch sets aside, since the size of a page is not known before it is there: at its peak it holds the answer, a quarter more for
/// what is added to it, what the connection has read ahead, and where a query's answer comes in pieces, the frame that they are copied into. What it
/// does not need goes back at once.
const fn reserve(page_bytes: u64) -> u64 {
    2 * page_bytes + page_bytes + page_bytes / 4
}

/// What the next page is expected to have at most, after one of `bytes`: half more than the last ones had. A large page counts for
/// several behind it.
fn expected_bytes(expected: u64, bytes: u64) -> u64 {
    let decayed = expected - expected / 4;
    let most = MIN_EXPECTED_BYTES.max(decayed);
    most.max(bytes.saturating_add(bytes / 2))
        .min(MAX_PAGE_BYTES.max(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_reserves_what_the_last_pages_tell() {
        const MIB: u64 = 1024 * 1024;
        assert!(reserve(FIRST_EXPECTED_BYTES) <= 5 * MIB);
        let large = expected_bytes(FIRST_EXPECTED_BYTES, MAX_PAGE_BYTES);
        assert_eq!(large, MAX_PAGE_BYTES);
        assert_eq!(reserve(large), 13 * MIB);
        // Small pages lower it step by step.
        assert_eq!(expected_bytes(large, 1000), 3 * MIB);
        let small = (0..9).fold(large, |expected, _| expected_bytes(expected, 1000));
        assert_eq!(small, MIN_EXPECTED_BYTES);
        assert!(16 * reserve(small) <= 64 * MIB);
    }

    #[test]
    fn a_limit_that_was_halved_grows_back_to_what_was_asked_for() {
        let mut sizes = Sizes::new(100);
        assert!(sizes.halve() && sizes.halve());
        assert_eq!(sizes.limit(), 25);
        let grown: Vec<_> = (0..3 * PAGES_BEFORE_GROWTH)
            .filter(|_| sizes.took(25, 1000))
            .collect();
        assert_eq!(grown, [PAGES_BEFORE_GROWTH - 1, 2 * PAGES_BEFORE_GROWTH - 1]);
        assert_eq!(sizes.limit(), 100);
        while sizes.halve() {}
        assert_eq!(sizes.limit(), 1);
    }
}
