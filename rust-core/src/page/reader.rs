//! A PAGE frame as its reader sees it, by the letter of `docs/boundary.md`.

use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader};
use crate::split::{decode_list, Split};

use super::{FLAG_FINISHED, RECORD_BYTES};

/// A PAGE frame whose parts are found.
pub struct PageReader<'a> {
    frame: &'a [u8],
    /// Id of the split that it is a page of.
    pub split_id: &'a str,
    children: &'a [u8],
    flags: u32,
    table: usize,
    records: usize,
}

/// A record of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRecord<'a> {
    /// The document's id; empty where a row of a query has none.
    pub id: &'a str,
    /// JSON array of its key's components.
    pub partition_key: &'a str,
    /// The document as the service sent it.
    pub document: &'a [u8],
}

impl<'a> PageReader<'a> {
    /// Reads the frame of a page.
    ///
    /// # Errors
    /// State when it is damaged.
    pub fn open(frame: &'a [u8]) -> Result<Self> {
        let mut r = FrameReader::open(frame, FrameKind::Page)?;
        let (records, table, flags) = (r.u32()? as usize, r.u32()? as usize, r.u32()?);
        r.i64()?;
        r.i64()?;
        let split_id = r.str()?;
        r.blob()?;
        let children = r.blob()?;
        let end = records
            .checked_mul(RECORD_BYTES)
            .and_then(|n| n.checked_add(table));
        if table < r.position() || end.is_none_or(|end| end > frame.len()) {
            return Err(damaged());
        }
        Ok(PageReader {
            frame,
            split_id,
            children,
            flags,
            table,
            records,
        })
    }

    /// The splits that go on in place of its own, where it is the last page of that.
    ///
    /// # Errors
    /// State when they are damaged.
    pub fn finished(&self) -> Result<Option<Vec<Split>>> {
        match (self.flags & FLAG_FINISHED != 0, self.children) {
            (false, _) => Ok(None),
            (true, []) => Ok(Some(Vec::new())),
            (true, list) => Ok(Some(decode_list(list)?.into_iter().map(|e| e.split).collect())),
        }
    }

    /// Its records, in order.
    ///
    /// # Errors
    /// State for one that is damaged.
    pub fn records(&self) -> impl Iterator<Item = Result<PageRecord<'a>>> + '_ {
        (0..self.records).map(|n| {
            let row = &self.frame[self.table + n * RECORD_BYTES..][..RECORD_BYTES];
            let mut words = FrameReader::raw(row);
            let mut part = || {
                let (at, length) = (words.u32()? as usize, words.u32()? as usize);
                let end = at.checked_add(length).ok_or_else(damaged)?;
                self.frame.get(at..end).ok_or_else(damaged)
            };
            let (document, id, partition_key) = (part()?, part()?, part()?);
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| damaged());
            Ok(PageRecord {
                id: text(id)?,
                partition_key: text(partition_key)?,
                document,
            })
        })
    }
}

fn damaged() -> CoreError {
    CoreError::state("the frame of a page is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnDecodeError;
    use crate::page::{build, Items, KeyPaths, PageHead};

    fn frame() -> Vec<u8> {
        let head = PageHead {
            split_id: "00-FF",
            split: b"bytes",
            children: &[],
            arrived_epoch_millis: 1,
        };
        let items = Items::Apart(vec![
            br#"{"id":"a\u0062","pk":"eu","n":1.10}"#[..].into(),
            br#"{"id":"c","pk":7}"#[..].into(),
        ]);
        let mut page = build(&head, &items, &KeyPaths::new(&["/pk"]), OnDecodeError::Fail).unwrap();
        page.finished();
        page.frame.to_vec()
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let frame = frame();
        let page = PageReader::open(&frame).unwrap();
        assert_eq!(page.split_id, "00-FF");
        assert_eq!(page.finished().unwrap(), Some(Vec::new()));
        let records: Vec<_> = page.records().collect::<Result<_>>().unwrap();
        assert_eq!(
            records
                .iter()
                .map(|r| (r.id, r.partition_key))
                .collect::<Vec<_>>(),
            [("ab", "[\"eu\"]"), ("c", "[7]")]
        );
        assert_eq!(records[0].document, br#"{"id":"a\u0062","pk":"eu","n":1.10}"#);
    }

    #[test]
    fn a_damaged_page_is_an_error() {
        let frame = frame();
        for length in 0..frame.len() {
            let cut = &frame[..length];
            let read =
                PageReader::open(cut).and_then(|page| page.records().collect::<Result<Vec<_>>>().map(drop));
            assert!(read.is_err(), "{length} bytes of {}", frame.len());
        }
    }
}
