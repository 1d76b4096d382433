//! From the service's bytes of a change feed page to a PAGE frame, in one pass and without a JSON tree.

mod item;
mod reader;
mod rows;

use azure_core::Bytes;
use memchr::memchr;

use crate::config::OnDecodeError;
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameWriter};
use crate::json::{integer, is_utf8, lossy, Broken, Scan, Scanner};
use crate::rows::Decoder;
use crate::split::{encode_list, Split, SplitEntry};

use self::item::{flaw, id_of, item, key_by_path, row, salvage, AsTheyAre, Found, Walk, UNDEFINED};
pub use self::item::{KeyPaths, MAX_KEY_PATHS};
pub use self::reader::{PageReader, PageRecord};
pub use self::rows::{build_rows, decode_documents, ROW_BYTES};

/// Size of one row of the record table.
pub const RECORD_BYTES: usize = 64;

/// Flag of a page that reached the end of the feed.
pub const FLAG_CAUGHT_UP: u32 = 1;

/// Flag of the last page of a split.
pub const FLAG_FINISHED: u32 = 2;

/// Flag of a record whose document could not be decoded.
pub const RECORD_UNDECODABLE: u8 = 1;

/// Flag of a deletion at the end of a document's time to live.
pub const RECORD_EXPIRED: u8 = 2;

/// A page whose own structure is broken. No document can do that, since the service puts the page together: it is an answer that was
/// cut off or spoilt on its way, and the next one is whole.
impl From<Broken> for CoreError {
    fn from(broken: Broken) -> Self {
        CoreError::new(
            Kind::Transient,
            format!(
                "a page of the change feed is not the JSON that was expected: {}",
                broken.0
            ),
        )
    }
}

/// What a page is, beside its records.
pub struct PageHead<'a> {
    /// Id of the split.
    pub split_id: &'a str,
    /// Split bytes after the page.
    pub split: &'a [u8],
    /// The splits that go on in its place, behind its last page.
    pub children: &'a [Split],
    /// When the page arrived, in milliseconds since the epoch.
    pub arrived_epoch_millis: i64,
}

/// The bytes of a PAGE frame, in parts that follow one another: what the service sent stays where it is, and is copied once, when the frame
/// is handed over.
#[derive(Default)]
pub struct PageFrame {
    head: Vec<u8>,
    /// The service's answer as it came, empty where the documents came apart, or none did; or the rows that were made of it.
    body: Bytes,
    /// What is added to it, and the table of records.
    rest: Vec<u8>,
}

impl PageFrame {
    /// The parts, in order.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.head, &self.body, &self.rest]
    }

    /// Bytes of the frame.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Never: it has a head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are allocated for it.
    pub fn held(&self) -> usize {
        self.head.capacity() + self.body.len() + self.rest.capacity()
    }

    /// The frame in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

impl From<Vec<u8>> for PageFrame {
    fn from(head: Vec<u8>) -> Self {
        PageFrame {
            head,
            ..PageFrame::default()
        }
    }
}

/// A PAGE frame and what is in it.
pub struct Page {
    /// The frame.
    pub frame: PageFrame,
    /// Records in it.
    pub records: usize,
    /// Documents that came, those that were skipped included.
    pub documents: usize,
    /// Documents that could not be decoded, skipped or handed over raw.
    pub undecodable: u64,
    /// Values that became null since they did not fit their columns.
    pub nulled: u64,
    /// Documents whose rows the plan's filter did not let pass.
    pub filtered: u64,
    /// Number of the newest write in the page; -1 without records.
    pub newest_lsn: i64,
    /// Newest `_ts`, epoch seconds; 0 without records.
    pub newest_ts: i64,
}

impl Page {
    /// Marks the page as the last one for now.
    pub fn caught_up(&mut self) {
        self.flag(FLAG_CAUGHT_UP);
    }

    /// Marks the page as the last one of its split.
    pub fn finished(&mut self) {
        self.flag(FLAG_FINISHED);
    }

    fn flag(&mut self, flag: u32) {
        // All of them are in the lowest byte.
        self.frame.head[12] |= flag as u8;
    }
}

/// The items of a page as the driver hands them over.
pub enum Items {
    /// None: there are no changes now.
    None,
    /// The service's own envelope, `{"Documents":[..]}`.
    Envelope(Bytes),
    /// Cut apart already.
    Apart(Vec<Bytes>),
    /// Rows of a query, which may be any JSON value, one body behind the other.
    Rows(Vec<Items>),
}

impl Items {
    /// Hands over each item as it stands.
    ///
    /// # Errors
    /// Transient for a page whose own structure is broken.
    pub(crate) fn each(&self, take: &mut impl FnMut(&[u8])) -> Result<()> {
        match self {
            Items::None => Ok(()),
            Items::Apart(items) => {
                items.iter().for_each(|item| take(item));
                Ok(())
            }
            Items::Rows(bodies) => bodies.iter().try_for_each(|body| body.each(take)),
            Items::Envelope(body) => Scanner { bytes: body, at: 0 }.object(|key, s| -> Result<()> {
                if key.text() != b"Documents" {
                    s.value()?;
                    return Ok(());
                }
                s.array("the array of documents is missing", |s| {
                    take(s.value()?);
                    Ok(())
                })
            }),
        }
    }

    /// The body that all of them are in, where there is one.
    fn body(&self) -> Bytes {
        match self {
            Items::Envelope(body) => body.clone(),
            Items::Rows(bodies) => match bodies.as_slice() {
                [one] => one.body(),
                _ => Bytes::new(),
            },
            Items::None | Items::Apart(_) => Bytes::new(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Items::None => 0,
            Items::Envelope(body) => body.len(),
            Items::Apart(items) => items.iter().map(Bytes::len).sum(),
            Items::Rows(bodies) => bodies.iter().map(Items::size).sum(),
        }
    }
}

/// Builds the frame of a page from its items, in one pass.
///
/// # Errors
/// BadRequest for a document that cannot be decoded, when that is to fail; Transient when the page itself is broken. In both cases it
/// must not count as read.
pub fn build(
    head: &PageHead<'_>,
    items: &Items,
    paths: &KeyPaths,
    on_decode_error: OnDecodeError,
) -> Result<Page> {
    assemble(head, items, paths, on_decode_error, None)
}

/// Builds a frame of records, or with a decoder one of rows.
fn assemble(
    head: &PageHead<'_>,
    items: &Items,
    paths: &KeyPaths,
    on_decode_error: OnDecodeError,
    mut decoder: Option<&mut Decoder>,
) -> Result<Page> {
    if paths.len() > MAX_KEY_PATHS {
        return Err(CoreError::internal(format!(
            "{} partition key paths; at most {MAX_KEY_PATHS} are known",
            paths.len()
        )));
    }
    let (kind, entry) = match &mut decoder {
        None => (FrameKind::Page, RECORD_BYTES),
        Some(decoder) => {
            if decoder.plan().known.keys.len() != paths.len() {
                return Err(CoreError::internal("rows by the plan of another container"));
            }
            decoder.begin(4 * items.size());
            (FrameKind::Rows, ROW_BYTES)
        }
    };
    // Of documents that become rows, nothing is handed over as it came.
    let (size, body) = match decoder {
        None => (items.size(), items.body()),
        Some(_) => (items.size(), Bytes::new()),
    };
    let mut out = FrameWriter::with_capacity(kind, 64 + head.split_id.len() + head.split.len());
    out.u32(0);
    out.u32(0);
    out.u32(0);
    out.i64(head.arrived_epoch_millis);
    out.i64(0);
    out.str(head.split_id);
    out.blob(head.split);
    match head.children {
        [] => out.blob(&[]),
        children => out.blob(&encode_list(
            &children
                .iter()
                .cloned()
                .map(SplitEntry::assigned)
                .collect::<Vec<_>>(),
        )),
    }
    // With the service's own fields an item has 300 bytes and more: what is added to it fits into a quarter.
    let added = match (kind, body.is_empty()) {
        (FrameKind::Rows, _) => 0,
        (_, true) => size + size / 4,
        (_, false) => size / 16,
    };
    if kind == FrameKind::Rows {
        // Rows begin at multiples of 8.
        out.0.resize(out.0.len().next_multiple_of(8), 0);
    }
    let mut builder = Builder {
        head: out.0,
        out: Vec::with_capacity(added),
        table: Vec::with_capacity(size / 8),
        newest_ts: 0,
        newest_lsn: -1,
        undecodable: 0,
        filtered: 0,
        skipped: 0,
        salvaged: false,
        rows: false,
        before: 0,
        body: &body,
        paths,
        split_id: head.split_id,
        arrived: head.arrived_epoch_millis,
        on_decode_error,
        entry,
        decoder,
    };
    builder.items(items)?;
    let Builder {
        head,
        out: mut rest,
        table,
        decoder,
        newest_ts,
        newest_lsn,
        undecodable,
        filtered,
        skipped,
        ..
    } = builder;
    let (body, nulled) = match decoder {
        None => (body, 0),
        Some(decoder) => (Bytes::from(decoder.take()), decoder.take_nulled()),
    };
    let records = table.len() / entry;
    // Nothing points into an answer without a record.
    let (table_at, body) = match records {
        0 => (head.len(), Bytes::new()),
        _ => (head.len() + body.len() + rest.len(), body.clone()),
    };
    let mut out = FrameWriter(head);
    out.patch_u32(4, records as u32);
    out.patch_u32(8, u32::try_from(table_at).map_err(|_| too_large())?);
    out.0[24..32].copy_from_slice(&newest_ts.to_le_bytes());
    rest.extend_from_slice(&table);
    Ok(Page {
        frame: PageFrame {
            head: out.0,
            body,
            rest,
        },
        records,
        documents: records + skipped,
        undecodable,
        nulled,
        filtered,
        newest_lsn,
        newest_ts,
    })
}

fn too_large() -> CoreError {
    CoreError::internal("the page is larger than 4 GiB; lower scan.page-size")
}

/// A frame in the making: the head, the answer, what is added to it, the table of records.
struct Builder<'p> {
    head: Vec<u8>,
    /// What is added behind the answer.
    out: Vec<u8>,
    /// The answer, as a part of the frame.
    body: &'p Bytes,
    table: Vec<u8>,
    newest_ts: i64,
    newest_lsn: i64,
    undecodable: u64,
    filtered: u64,
    skipped: usize,
    /// The end of a document was found by its brackets alone.
    salvaged: bool,
    /// The items are rows of a query.
    rows: bool,
    /// Items of the bodies before this one.
    before: usize,
    paths: &'p KeyPaths,
    split_id: &'p str,
    /// When the page arrived, in milliseconds since the epoch.
    arrived: i64,
    on_decode_error: OnDecodeError,
    /// Bytes of a record or row in the table.
    entry: usize,
    /// What makes rows of the documents, where they become rows.
    decoder: Option<&'p mut Decoder>,
}

impl Builder<'_> {
    fn items(&mut self, items: &Items) -> Result<()> {
        match items {
            Items::None => Ok(()),
            Items::Envelope(body) => self.envelope(body),
            Items::Apart(items) => {
                for bytes in items {
                    let utf8 = is_utf8(bytes);
                    let mut scanner = Scanner { bytes, at: 0 };
                    self.item(&mut scanner, utf8)?;
                    if scanner.peek().is_ok() {
                        return Err(Broken("there is something behind an item").into());
                    }
                }
                Ok(())
            }
            Items::Rows(bodies) => {
                self.rows = true;
                for body in bodies {
                    self.before = self.count();
                    self.items(body)?;
                }
                Ok(())
            }
        }
    }

    /// Items so far.
    fn count(&self) -> usize {
        self.table.len() / self.entry + self.skipped
    }

    fn envelope(&mut self, body: &[u8]) -> Result<()> {
        let utf8 = is_utf8(body);
        let (mut seen, mut count) = (false, None);
        let mut scanner = Scanner { bytes: body, at: 0 };
        scanner.object(|key, s| -> Result<()> {
            if key.text() != b"Documents" {
                let value = s.value()?;
                if key.text() == b"_count" {
                    count = integer(value);
                }
                return Ok(());
            }
            seen = true;
            s.array("the array of documents is missing", |s| self.item(s, utf8))
        })?;
        if !seen {
            return Err(Broken("the page has no Documents array").into());
        }
        let items = self.count() - self.before;
        if self.salvaged && count.is_some_and(|count| count != items as i64) {
            // What was taken for one broken document was more than that.
            return Err(Broken("it has another number of documents than it says").into());
        }
        Ok(())
    }

    /// The item before which the scanner stands; it is left behind it.
    fn item(&mut self, scanner: &mut Scanner<'_>, utf8: bool) -> Result<()> {
        if scanner.peek()? != b'{' && !self.rows {
            return Err(Broken("an item is not an object").into());
        }
        let start = scanner.at;
        let mut found = Found {
            lsn: -1,
            crts: -1,
            ..Found::default()
        };
        let walked = match &mut self.decoder {
            None => walk(scanner, self.paths, &mut found, self.rows, &mut AsTheyAre),
            Some(decoder) => walk(scanner, self.paths, &mut found, self.rows, *decoder),
        };
        match walked {
            Ok(()) => match flaw(&found, self.paths, utf8, self.rows) {
                None => self.record(&found, 0),
                Some(why) => self.undecodable(&found, why),
            },
            Err(Broken(why)) => {
                // Its own fault alone if the page goes on behind its last bracket.
                scanner.at = start;
                let raw = scanner.value()?;
                if !matches!(scanner.peek(), Ok(b',' | b']')) && scanner.at < scanner.bytes.len() {
                    return Err(Broken(why).into());
                }
                self.salvaged = true;
                self.undecodable(&salvage(raw, self.paths), why)
            }
        }
    }

    /// A document that cannot be decoded.
    fn undecodable(&mut self, found: &Found<'_>, why: &str) -> Result<()> {
        self.undecodable += 1;
        match self.on_decode_error {
            // Bytes are no row: that they are asked for is refused when the reader opens.
            OnDecodeError::Raw if self.entry == RECORD_BYTES => self.record(found, RECORD_UNDECODABLE),
            OnDecodeError::Skip => {
                self.leave_out(found);
                Ok(())
            }
            OnDecodeError::Fail | OnDecodeError::Raw => Err(CoreError::new(
                Kind::BadRequest,
                format!(
                    "{}, cannot be decoded: {why}; correct or delete it, or set json.on-error to {}",
                    self.named(found),
                    match self.entry == RECORD_BYTES {
                        true => "skip-row or raw",
                        false => "skip-row",
                    }
                ),
            )),
        }
    }

    /// Leaves a document out, which counts as read.
    fn leave_out(&mut self, found: &Found<'_>) {
        self.skipped += 1;
        self.newest_ts = self.newest_ts.max(found.ts);
        self.newest_lsn = self.newest_lsn.max(found.lsn);
    }

    /// A document, for a message.
    fn named(&self, found: &Found<'_>) -> String {
        let mut key = Vec::new();
        self.key(found, &mut key);
        format!(
            "the document with id '{}' and partition key {}, write {} of split {}",
            lossy(id_of(found)),
            String::from_utf8_lossy(&key),
            found.lsn,
            self.split_id,
        )
    }

    /// Where the next thing that is added will stand in the frame.
    fn end(&self) -> usize {
        self.head.len() + self.body.len() + self.out.len()
    }

    /// Adds something; where it stands in the frame, and its length.
    fn append(&mut self, bytes: &[u8]) -> (usize, usize) {
        let at = self.end();
        self.out.extend_from_slice(bytes);
        (at, bytes.len())
    }

    /// Where something stands in the frame. What is no part of the answer is added.
    fn place(&mut self, bytes: &[u8]) -> usize {
        match offset(self.body, bytes) {
            Some(at) => self.head.len() + at,
            None => self.append(bytes).0,
        }
    }

    /// Writes the partition key as a JSON array.
    fn key(&self, found: &Found<'_>, out: &mut Vec<u8>) {
        let mut keys = found.keys;
        if found.document.is_empty() {
            match found.deleted_key.first() {
                Some(b'[') => return out.extend_from_slice(found.deleted_key),
                Some(b'{') => keys = key_by_path(found.deleted_key, self.paths).unwrap_or_default(),
                _ => {}
            }
        }
        out.push(b'[');
        for (n, key) in keys[..self.paths.len()].iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(if key.is_empty() { UNDEFINED } else { key });
        }
        out.push(b']');
    }

    fn record(&mut self, found: &Found<'_>, flags: u8) -> Result<()> {
        if let Some(decoder) = self.decoder.take() {
            let made = self.row(decoder, found);
            self.decoder = Some(decoder);
            return made;
        }
        let undecodable = flags & RECORD_UNDECODABLE != 0;
        let doc_at = self.place(found.document);
        let (id_at, id_len) = match id_of(found) {
            b"" => (self.end(), 0),
            id if undecodable => self.append(lossy(id).as_bytes()),
            [b'"', inner @ .., b'"'] if memchr(b'\\', inner).is_none() => {
                // It stands in the document as a rule.
                let at = offset(found.document, inner).map(|inside| doc_at + inside);
                (at.unwrap_or_else(|| self.place(inner)), inner.len())
            }
            escaped => {
                let id: String =
                    serde_json::from_slice(escaped).map_err(|_| Broken("the id is not a string"))?;
                self.append(id.as_bytes())
            }
        };
        let (key_at, mut out) = (self.end(), std::mem::take(&mut self.out));
        let before = out.len();
        self.key(found, &mut out);
        if undecodable {
            let text = String::from_utf8_lossy(&out[before..]).into_owned();
            out.truncate(before);
            out.extend_from_slice(text.as_bytes());
        }
        let key_len = out.len() - before;
        self.out = out;
        let previous_at = self.place(found.previous);
        u32::try_from(self.end()).map_err(|_| too_large())?;
        self.newest_ts = self.newest_ts.max(found.ts);
        self.newest_lsn = self.newest_lsn.max(found.lsn);
        let mut row = [0u8; RECORD_BYTES];
        let words = [doc_at, found.document.len(), id_at, id_len, key_at, key_len];
        for (slot, v) in words.into_iter().enumerate() {
            row[slot * 4..slot * 4 + 4].copy_from_slice(&(v as u32).to_le_bytes());
        }
        for (slot, v) in [found.ts, found.lsn, found.crts].into_iter().enumerate() {
            row[24 + slot * 8..32 + slot * 8].copy_from_slice(&v.to_le_bytes());
        }
        row[48] = found.operation;
        row[49] = flags | if found.expired { RECORD_EXPIRED } else { 0 };
        row[56..60].copy_from_slice(&(previous_at as u32).to_le_bytes());
        row[60..].copy_from_slice(&(found.previous.len() as u32).to_le_bytes());
        self.table.extend_from_slice(&row);
        Ok(())
    }
}

/// Reads an item: a row of a query where `rows` says so, else one of the feed.
fn walk<'a>(
    scanner: &mut Scanner<'a>,
    paths: &KeyPaths,
    found: &mut Found<'a>,
    rows: bool,
    walk: &mut impl Walk,
) -> Scan<()> {
    match rows {
        true => row(scanner, paths, found, walk),
        false => item(scanner, paths, found, walk),
    }
}

/// Where a part of something stands in it; `None` where it is no part of it.
fn offset(whole: &[u8], part: &[u8]) -> Option<usize> {
    let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    (at < whole.len() && part.len() <= whole.len() - at).then_some(at)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::frame::FrameReader;
    use proptest::prelude::*;

    /// A record as Java would read it.
    #[derive(Debug, PartialEq)]
    pub struct Record {
        pub document: String,
        pub id: String,
        pub key: String,
        pub ts: i64,
        pub lsn: i64,
        pub operation: u8,
        pub flags: u8,
        pub previous: String,
    }

    /// Reads a PAGE frame by the letter of `docs/boundary.md`: split id, split bytes, flags, records. Its children are left out.
    pub fn read(frame: &[u8]) -> (String, Vec<u8>, u32, Vec<Record>) {
        let mut r = FrameReader::open(frame, FrameKind::Page).unwrap();
        let (n, table, flags) = (r.u32().unwrap(), r.u32().unwrap() as usize, r.u32().unwrap());
        r.i64().unwrap();
        r.i64().unwrap();
        let (id, split) = (r.str().unwrap().to_owned(), r.blob().unwrap().to_vec());
        r.blob().unwrap();
        assert!(r.position() <= table);
        let records = (0..n as usize)
            .map(|i| {
                let row = &frame[table + i * RECORD_BYTES..][..RECORD_BYTES];
                let word = |s: usize| u32::from_le_bytes(row[s * 4..s * 4 + 4].try_into().unwrap()) as usize;
                let long = |s: usize| i64::from_le_bytes(row[24 + s * 8..32 + s * 8].try_into().unwrap());
                let bytes = |s: usize| frame[word(s)..word(s) + word(s + 1)].to_vec();
                let text = |s: usize| String::from_utf8(bytes(s)).unwrap();
                Record {
                    document: String::from_utf8_lossy(&bytes(0)).into_owned(),
                    id: text(2),
                    key: text(4),
                    ts: long(0),
                    lsn: long(1),
                    operation: row[48],
                    flags: row[49],
                    previous: text(14),
                }
            })
            .collect();
        (id, split, flags, records)
    }

    const HEAD: PageHead<'_> = PageHead {
        split_id: "00-FF",
        split: b"bytes",
        children: &[],
        arrived_epoch_millis: 1,
    };

    /// The records of a page, which must be the same however the driver hands it over.
    fn page(items: &[&str], paths: &[&str]) -> Result<Vec<Record>> {
        let records = |items: Items| {
            let mut page = build(&HEAD, &items, &KeyPaths::new(paths), OnDecodeError::Fail)?;
            page.caught_up();
            let (id, split, flags, records) = read(&page.frame.to_vec());
            assert_eq!(
                (id.as_str(), split.as_slice(), flags),
                ("00-FF", b"bytes".as_slice(), 1)
            );
            assert_eq!(records.len(), page.records);
            Ok::<_, CoreError>(records)
        };
        let apart = items
            .iter()
            .map(|i| Bytes::copy_from_slice(i.as_bytes()))
            .collect();
        let apart = records(Items::Apart(apart))?;
        let (text, n) = (items.join(" , "), items.len());
        let envelope = format!(r#"{{"_rid":"x", "Documents" : [ {text} ],"_count":{n}}}"#);
        assert_eq!(records(Items::Envelope(envelope.into()))?, apart);
        Ok(apart)
    }

    #[test]
    fn a_document_keeps_its_bytes_and_shows_its_keys() {
        let doc = r#"{"id":"a-1","n":1.10,"big":12345678901234567890,"z":{"id":"no","a":[1,"]}"]},"region":"eu","_ts":1700000000}"#;
        let records = page(
            &[&format!(
                r#"{{"current":{doc},"metadata":{{"lsn":42,"crts":1700000000}}}}"#
            )],
            &["/region"],
        )
        .unwrap();
        assert_eq!(
            records,
            [Record {
                document: doc.into(),
                id: "a-1".into(),
                key: r#"["eu"]"#.into(),
                ts: 1_700_000_000,
                lsn: 42,
                operation: 0,
                flags: 0,
                previous: String::new(),
            }]
        );
    }

    #[test]
    fn escapes_hierarchies_nested_paths_and_absent_keys() {
        let records = page(
            &[
                r#"{ "current" : { "i\u0064":"x", "id" : "q\"\u00e4" , "tenant" : {"user":{"n":7}}, "_ts" : 5 } , "metadata" : { "lsn" : 1 } }"#,
                r#"{"metadata":{"lsn":2},"current":{"id":"b","tenant":"flat","_ts":6}}"#,
            ],
            &["/id", "/tenant/user/n", "/gone"],
        )
        .unwrap();
        assert_eq!(
            (records[0].id.as_str(), records[0].key.as_str()),
            ("q\"ä", r#"["q\"\u00e4",7,{}]"#)
        );
        assert_eq!((records[1].key.as_str(), records[1].lsn), (r#"["b",{},{}]"#, 2));
    }

    #[test]
    fn a_delete_without_document_keeps_id_and_key() {
        let item = r#"{"current":{},"metadata":{"operationType":"delete","lsn":9,"id":"gone","partitionKey":["eu"]}}"#;
        let bare = r#"{"metadata":{"operationType":"delete","lsn":9,"id":"gone","partitionKey":["eu"]}}"#;
        for text in [bare, item] {
            let record = &page(&[text], &["/region"]).unwrap()[0];
            assert_eq!((record.id.as_str(), record.operation), ("gone", 3));
            assert_eq!((record.key.as_str(), record.document.as_str()), (r#"["eu"]"#, ""));
        }
    }

    /// An item of the mode with all versions and deletes.
    fn change(current: &str, previous: &str, metadata: &str) -> String {
        let previous = match previous {
            "" => String::new(),
            previous => format!(r#""previous":{previous},"#),
        };
        format!(r#"{{"current":{current},{previous}"metadata":{{"crts":1700000009,{metadata}}}}}"#)
    }

    #[test]
    fn a_deletion_says_why_which_and_when() {
        let item = |expired: bool, key: &str| {
            let text = format!(
                r#""operationType":"delete","lsn":9,"previousImageLSN":8,"timeToLiveExpired":{expired},"id":"gone","partitionKey":{key}"#
            );
            change("{}", "", &text)
        };
        let paths: &[&str] = &["/tenant", "/address/zip"];
        for key in [
            r#"["a",7]"#,
            r#"{"tenant":"a","address/zip":7}"#,
            r#"{"/address/zip":7,"/tenant":"a"}"#,
            r#"{"tenant":"a","address":{"zip":7}}"#,
        ] {
            for expired in [false, true] {
                let record = &page(&[&item(expired, key)], paths).unwrap()[0];
                assert_eq!(
                    (record.id.as_str(), record.key.as_str()),
                    ("gone", r#"["a",7]"#),
                    "{key}"
                );
                assert_eq!(
                    (record.operation, record.flags),
                    (3, if expired { RECORD_EXPIRED } else { 0 })
                );
                assert_eq!((record.ts, record.document.as_str()), (1_700_000_009, ""));
            }
        }
        let record = &page(&[&item(false, r#"{"tenant":"a"}"#)], paths).unwrap()[0];
        assert_eq!(record.key, r#"["a",{}]"#, "a component that the document had not");
        let error = page(&[&item(false, r#"{"other":"a"}"#)], paths).unwrap_err();
        assert!(error.message.contains("other paths"), "{error}");
    }

    #[test]
    fn what_a_document_was_before_is_handed_over() {
        let (old, new) = (
            r#"{"id":"a","pk":"k","n":1.10,"_ts":5}"#,
            r#"{"id":"a","pk":"k","n":2,"_ts":6}"#,
        );
        let replaced = change(new, old, r#""operationType":"replace","lsn":2"#);
        let deleted = change("{}", old, r#""operationType":"delete","lsn":3"#);
        let created = change(new, "{}", r#""operationType":"create","lsn":1"#);
        let records = page(&[&created, &replaced, &deleted], &["/pk"]).unwrap();
        let told: Vec<_> = records
            .iter()
            .map(|r| (r.operation, r.document.as_str(), r.previous.as_str()))
            .collect();
        assert_eq!(told, [(1, new, ""), (2, new, old), (3, "", old)]);
        // Without an id in the metadata, it is that of what was before.
        for record in &records {
            assert_eq!((record.id.as_str(), record.key.as_str()), ("a", r#"["k"]"#));
        }
        let bare = &page(&[r#"{"id":"a","pk":"k","previous":{"id":"b"}}"#], &["/pk"]).unwrap()[0];
        assert_eq!(bare.previous, "", "a field of the document's own");
    }

    #[test]
    fn a_bare_document_is_taken_too() {
        let record = &page(&[r#"{"id":"a","pk":null,"_ts":1,"_lsn":7}"#], &["/pk"]).unwrap()[0];
        assert_eq!((record.key.as_str(), record.lsn), ("[null]", 7));
    }

    /// Pages of a good document, an item of these bytes and another good document, cut apart and in an envelope.
    fn with_item(item: &[u8], policy: OnDecodeError) -> [Result<Page>; 2] {
        let good = |id: &str, lsn: usize| {
            let text =
                format!(r#"{{"current":{{"id":"{id}","pk":"é","_ts":5}},"metadata":{{"lsn":{lsn}}}}}"#);
            text.into_bytes()
        };
        let items = [good("before", 1), item.to_vec(), good("behind", 3)];
        let mut envelope = br#"{"_rid":"x","Documents":["#.to_vec();
        envelope.extend(items.join(&b","[..]));
        envelope.extend(br#"],"_count":3}"#);
        let apart = items.into_iter().map(Bytes::from).collect();
        [Items::Apart(apart), Items::Envelope(envelope.into())]
            .map(|items| build(&HEAD, &items, &KeyPaths::new(&["/pk"]), policy))
    }

    /// What stands in `current` and cannot be decoded, with the id and key that are known of it and why.
    const UNDECODABLE: &[(&[u8], &str, &str, &str)] = &[
        (
            b"{\"id\":\"a\xff\",\"pk\":\"k\"}",
            "a\u{fffd}",
            r#"["k"]"#,
            "UTF-8",
        ),
        (
            b"{\"id\":\"a\",\"pk\":\"k\",\"x\":\"\xc3\"}",
            "a",
            r#"["k"]"#,
            "UTF-8",
        ),
        (b"{\"id\":\"a\",\"pk\":\"\xff\"}", "a", "[\"\u{fffd}\"]", "UTF-8"),
        (
            br#"{"id":"a\ud800b","pk":"k"}"#,
            "a\u{fffd}b",
            r#"["k"]"#,
            "id is not text",
        ),
        (
            br#"{"id":"\udc00\ud83d\ude00","pk":"k"}"#,
            "\u{fffd}\u{1f600}",
            r#"["k"]"#,
            "id is not text",
        ),
        (
            br#"{"id":"a","pk":"\ud800"}"#,
            "a",
            r#"["\ud800"]"#,
            "partition key is not text",
        ),
        (br#"{"id":7,"pk":"k"}"#, "7", r#"["k"]"#, "id is not text"),
        (br#"{"pk":"k"}"#, "", r#"["k"]"#, "no id"),
        (br#"{"id":"a" "pk":"k"}"#, "a", "[{}]", "no comma"),
        (br#"{"id":"a",7:"k"}"#, "a", "[{}]", "string is missing"),
    ];

    #[test]
    fn a_document_that_cannot_be_decoded_fails_with_all_that_is_known_of_it() {
        for (current, id, key, why) in UNDECODABLE {
            let item = [br#"{"current":"#, *current, br#","metadata":{"lsn":2}}"#].concat();
            for outcome in with_item(&item, OnDecodeError::Fail) {
                let error = outcome.err().unwrap();
                assert_eq!(error.kind, Kind::BadRequest, "{error}");
                let (id, key) = (format!("id '{id}'"), format!("key {key},"));
                for part in [id.as_str(), &key, "write 2", "split 00-FF", why] {
                    assert!(error.message.contains(part), "{part} is missing: {error}");
                }
            }
        }
    }

    #[test]
    fn a_document_that_cannot_be_decoded_is_skipped_and_counted() {
        for (current, ..) in UNDECODABLE {
            let item = [br#"{"current":"#, *current, br#","metadata":{"lsn":2}}"#].concat();
            for outcome in with_item(&item, OnDecodeError::Skip) {
                let page = outcome.unwrap();
                let ids: Vec<_> = read(&page.frame.to_vec()).3.into_iter().map(|r| r.id).collect();
                assert_eq!(ids, ["before", "behind"]);
                assert_eq!((page.documents, page.undecodable), (3, 1));
            }
        }
    }

    #[test]
    fn a_document_that_cannot_be_decoded_is_handed_over_raw_and_marked() {
        for (current, id, key, _) in UNDECODABLE {
            let item = [br#"{"current":"#, *current, br#","metadata":{"lsn":2}}"#].concat();
            for outcome in with_item(&item, OnDecodeError::Raw) {
                let page = outcome.unwrap();
                let records = read(&page.frame.to_vec()).3;
                let record = &records[1];
                assert_eq!(
                    (record.id.as_str(), record.key.as_str(), record.lsn),
                    (*id, *key, 2)
                );
                let flags: Vec<_> = records.iter().map(|r| r.flags).collect();
                assert_eq!(flags, [0, RECORD_UNDECODABLE, 0]);
                let at = page.frame.to_vec().windows(current.len()).any(|w| w == *current);
                assert!(at, "the bytes are not handed over as they are");
                assert_eq!((page.documents, page.undecodable), (3, 1));
            }
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_nobodys_document() {
        let whole = br#"{"_rid":"x","Documents":[{"current":{"id":"a","pk":"k"},"metadata":{"lsn":1}},{"current":{"id":"b","pk":"k"},"metadata":{"lsn":2}}],"_count":2}"#;
        for policy in [OnDecodeError::Fail, OnDecodeError::Skip, OnDecodeError::Raw] {
            for cut in 0..whole.len() {
                let items = Items::Envelope(Bytes::copy_from_slice(&whole[..cut]));
                let outcome = build(&HEAD, &items, &KeyPaths::new(&["/pk"]), policy);
                assert_eq!(outcome.err().map(|e| e.kind), Some(Kind::Transient), "{cut}");
            }
        }
    }

    #[test]
    fn a_broken_document_never_takes_others_with_it() {
        // Quotes are missing, so that the brackets of the first end with the second.
        let body =
            br#"{"Documents":[{"current":{"id":"a}},{"current":{"id":b"}},{"current":{"id":"c"}}],"_count":3}"#;
        for policy in [OnDecodeError::Skip, OnDecodeError::Raw] {
            let items = Items::Envelope(Bytes::from_static(body));
            let outcome = build(&HEAD, &items, &KeyPaths::new(&["/pk"]), policy);
            assert_eq!(outcome.err().map(|e| e.kind), Some(Kind::Transient));
        }
    }

    #[test]
    fn rows_of_a_query_need_no_id_and_may_be_any_value() {
        let bodies = vec![
            Items::Envelope(
                r#"{"_rid":"x","Documents":[{"id":"a","pk":"k","_ts":7},{"n":1.10},5,"t\u00e4",null,[1]],"_count":6}"#.into(),
            ),
            Items::None,
            Items::Apart(vec![r#"{"id":8}"#.into(), " true ".into()]),
        ];
        let items = Items::Rows(bodies);
        let page = build(&HEAD, &items, &KeyPaths::new(&["/pk"]), OnDecodeError::Fail).unwrap();
        let records = read(&page.frame.to_vec()).3;
        let texts: Vec<_> = records.iter().map(|r| r.document.as_str()).collect();
        assert_eq!(
            texts,
            [
                r#"{"id":"a","pk":"k","_ts":7}"#,
                r#"{"n":1.10}"#,
                "5",
                r#""t\u00e4""#,
                "null",
                "[1]",
                r#"{"id":8}"#,
                "true",
            ]
        );
        assert_eq!(
            (records[0].id.as_str(), records[0].key.as_str()),
            ("a", r#"["k"]"#)
        );
        assert!(records[1..].iter().all(|r| r.id.is_empty() && r.key == "[{}]"));
        assert_eq!((page.documents, page.newest_ts), (8, 7));
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let broken = [
            r#"{"Documents":[{]}"#,
            r#"{"Documents":[{}"#,
            r#"{"Documents":[{} {}]}"#,
        ];
        for text in ["[]", "{}", ""].into_iter().chain(broken) {
            let items = Items::Envelope(Bytes::copy_from_slice(text.as_bytes()));
            let outcome = build(&HEAD, &items, &KeyPaths::new(&["/a"]), OnDecodeError::Skip);
            assert_eq!(outcome.err().map(|e| e.kind), Some(Kind::Transient), "{text}");
        }
        assert_eq!(page(&[], &["/a"]).unwrap(), []);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f32>().prop_map(|f| serde_json::json!(f)),
            "\\PC{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::hash_map("(region|id|_ts|x|\\PC{0,4})", inner, 0..5)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever the document, the scanner finds what serde_json finds.
        #[test]
        fn the_scanner_agrees_with_a_parser(extra in json(), id in "\\PC{1,20}", region in json(), ts in 0i64..1 << 40, pretty: bool) {
            let doc = serde_json::json!({"extra": extra, "id": id, "region": region, "a": {"b": region}, "_ts": ts});
            let envelope = serde_json::json!({"current": doc, "metadata": {"lsn": 3}});
            let text = if pretty { serde_json::to_string_pretty(&envelope) } else { serde_json::to_string(&envelope) }.unwrap();
            let record = &page(&[&text], &["/region", "/a/b"]).unwrap()[0];
            prop_assert_eq!(&record.id, &id);
            prop_assert_eq!(record.ts, ts);
            let key: serde_json::Value = serde_json::from_str(&record.key).unwrap();
            prop_assert_eq!(key, serde_json::json!([region, region]));
            let back: serde_json::Value = serde_json::from_str(&record.document).unwrap();
            prop_assert_eq!(back, doc);
            prop_assert!(text.contains(&record.document));
        }

        #[test]
        fn any_bytes_give_a_page_or_an_error(text in "[{}\\[\\]\":,a-c\\\\ 0-9]{0,60}") {
            for items in [Items::Apart(vec![text.clone().into()]), Items::Envelope(text.into())] {
                let paths = KeyPaths::new(&["/a", "/b/c"]);
                for policy in [OnDecodeError::Fail, OnDecodeError::Skip] {
                    let _ = build(&HEAD, &items, &paths, policy);
                }
                if let Ok(page) = build(&HEAD, &items, &paths, OnDecodeError::Raw) {
                    assert_eq!(read(&page.frame.to_vec()).3.len(), page.documents);
                }
            }
        }
    }
}
