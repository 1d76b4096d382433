//! The change feed through the core, as a Flink reader takes it, without a JVM.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::page::FLAG_FINISHED;
use cosmosflink_core::source::Source;

use crate::{core_options, Error};

/// Passes that read the container to its end, one after the other. All splits are read at once, each from the beginning.
pub struct Passes {
    source: Source,
    splits: Vec<cosmosflink_core::split::Split>,
}

impl Passes {
    /// Connects, and finds the splits. Blocks.
    pub fn open(container: &str) -> Result<Passes, Error> {
        let mut options = core_options(container)?;
        // So that splits end.
        options.push(("scan.bounded.mode".to_owned(), "latest".to_owned()));
        let config = || Config::parse(Role::Source, &options);
        let found = Enumerator::open(config()?)?.discover(&[])?;
        Ok(Passes {
            source: Source::open(config()?)?,
            splits: found.into_iter().map(|entry| entry.split).collect(),
        })
    }

    /// Reads all splits once; returns how many documents came. Blocks.
    pub fn pass(&self) -> Result<u64, Error> {
        let records = || self.source.metrics().records.load(Ordering::Relaxed);
        let before = records();
        self.source.add_splits(self.splits.clone())?;
        let mut open = self.splits.len();
        while open > 0 {
            if self.source.next_page(Duration::from_secs(30))? == 0 {
                return Err(format!("no page for 30 s, and {open} splits are open").into());
            }
            let page = self.source.take_frame()?;
            let flags = page.parts()[0]
                .get(12..16)
                .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            open -= usize::from(flags & FLAG_FINISHED != 0);
        }
        Ok(records() - before)
    }
}
