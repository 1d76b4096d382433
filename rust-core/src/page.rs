//! From the service's bytes of a change feed page to a PAGE frame, in one pass and without a JSON tree.

use azure_core::Bytes;
use memchr::{memchr, memchr2};

use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameWriter};

/// Size of one row of the record table.
pub const RECORD_BYTES: usize = 56;

/// Flag of a page that reached the end of the feed.
pub const FLAG_CAUGHT_UP: u32 = 1;

/// Text for a partition key component that the document does not have, as the service writes it in its own headers.
const UNDEFINED: &[u8] = b"{}";

/// Where the partition key of a container's documents is found.
#[derive(Clone, Debug)]
pub struct KeyPaths(Vec<Vec<String>>);

impl KeyPaths {
    /// From paths such as `/tenant` or `/address/"zip code"`.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Self {
        let part = |p: &str| p.trim_matches('"').to_owned();
        KeyPaths(
            paths
                .iter()
                .map(|p| p.as_ref().trim_start_matches('/').split('/').map(part).collect())
                .collect(),
        )
    }

    /// How many components a key has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most components of a hierarchical partition key.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/hierarchical-partition-keys>.
const MAX_KEY_PATHS: usize = 3;

/// What was found in one feed item. Slices point into the item.
#[derive(Default)]
struct Found<'a> {
    document: &'a [u8],
    /// JSON text of the id, quotes included.
    id: &'a [u8],
    keys: [&'a [u8]; MAX_KEY_PATHS],
    ts: i64,
    lsn: i64,
    crts: i64,
    operation: u8,
    deleted_id: &'a [u8],
    deleted_key: &'a [u8],
}

/// Walks JSON text that a parser has already accepted, or finds out that it is cut off; never reads out of bounds.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What is wrong with the text. Small, unlike the error that it becomes: the scanner returns several results for each field.
struct Broken(&'static str);

type Scan<T> = std::result::Result<T, Broken>;

impl From<Broken> for CoreError {
    fn from(broken: Broken) -> Self {
        CoreError::internal(format!(
            "a change feed item is not the JSON that was expected: {}",
            broken.0
        ))
    }
}

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&mut self) -> Scan<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b) => return Ok(*b),
                None => return Err(Broken("it ends too early")),
            }
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, missing: &'static str) -> Scan<()> {
        if self.peek()? != byte {
            return Err(Broken(missing));
        }
        self.at += 1;
        Ok(())
    }

    /// The string that begins here, quotes included, and whether it holds escapes.
    #[inline]
    fn string(&mut self) -> Scan<(&'a [u8], bool)> {
        self.expect(b'"', "a string is missing")?;
        let start = self.at - 1;
        match self.rest_of_string() {
            Some(escaped) => Ok((&self.bytes[start..self.at], escaped)),
            None => Err(Broken("a string does not end")),
        }
    }

    /// Goes behind the string whose first quote was just passed; whether it holds escapes, or `None` when it does not end.
    #[inline(always)]
    fn rest_of_string(&mut self) -> Option<bool> {
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let i = quote_or_backslash(rest)?;
            if rest[i] == b'"' {
                self.at += i + 1;
                return Some(escaped);
            }
            escaped = true;
            self.at += i + 2;
        }
    }

    /// Goes behind the object or array that begins here; `None` when it does not end.
    #[inline]
    fn nest(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => drop(self.rest_of_string()?),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ => {}
            }
        }
    }

    /// The value that begins here.
    #[inline(always)]
    fn value(&mut self) -> Scan<&'a [u8]> {
        match self.peek()? {
            b'"' => Ok(self.string()?.0),
            b'{' | b'[' => {
                let start = self.at;
                match self.nest() {
                    Some(()) => Ok(&self.bytes[start..self.at]),
                    None => Err(Broken("an object or array does not end")),
                }
            }
            _ => {
                let start = self.at;
                while !matches!(
                    self.bytes.get(self.at),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    self.at += 1;
                }
                Ok(&self.bytes[start..self.at])
            }
        }
    }

    /// Calls `field` with each key of the object that begins here and the scanner before its value, which `field` must read.
    #[inline]
    fn object<E: From<Broken>>(
        &mut self,
        mut field: impl FnMut(Key<'a>, &mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'{', "an object is missing")?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let (quoted, escaped) = self.string()?;
            self.expect(b':', "a colon is missing behind a key")?;
            self.peek()?;
            field(Key { quoted, escaped }, self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken("there is no comma between two fields").into()),
            }
        }
    }
}

/// An integer as a JSON number, or as a string; `None` for another value and for one that does not fit.
fn integer(text: &[u8]) -> Option<i64> {
    let text = match text {
        [b'"', inner @ .., b'"'] => inner,
        _ => text,
    };
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        _ => (1, text),
    };
    let number = digits.iter().try_fold(0i64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        n.checked_mul(10)?.checked_add(sign * digit)
    })?;
    (!digits.is_empty()).then_some(number)
}

/// A key as it stands in the text, quotes included.
#[derive(Clone, Copy)]
struct Key<'a> {
    quoted: &'a [u8],
    escaped: bool,
}

impl<'a> Key<'a> {
    /// The text between the quotes, escapes as they are.
    fn text(self) -> &'a [u8] {
        &self.quoted[1..self.quoted.len() - 1]
    }

    fn is(self, name: &str) -> bool {
        if self.escaped {
            return serde_json::from_slice::<String>(self.quoted).is_ok_and(|k| k == name);
        }
        self.text() == name.as_bytes()
    }
}

/// Where the first `"` or `\` is. Keys and most values are short: eight bytes at a time find the end before a vector search
/// would have begun.
#[inline(always)]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The lowest set high bit of the result marks the first zero byte of `x`.
    let zeros = |x: u64| x.wrapping_sub(LOW) & !x & HIGH;
    let mut at = 0;
    while at < 48 {
        let Some(chunk) = bytes[at..].first_chunk() else {
            break;
        };
        let word = u64::from_le_bytes(*chunk);
        let hits = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|i| at + i)
}

fn document<'a>(scanner: &mut Scanner<'a>, paths: &KeyPaths, found: &mut Found<'a>) -> Scan<()> {
    scanner.peek()?;
    let start = scanner.at;
    scanner.object(|key, s| {
        // The last of two equal keys counts, as in every JSON parser that keeps one.
        let top = |i: usize| key.is(&paths.0[i][0]);
        match (0..paths.0.len()).find(|i| top(*i)) {
            Some(i) if paths.0[i].len() == 1 => found.keys[i] = s.value()?,
            Some(_) => {
                let value = s.value()?;
                for i in (0..paths.0.len()).filter(|i| top(*i)) {
                    found.keys[i] = nested(value, &paths.0[i][1..])?;
                }
            }
            None => match key.text() {
                b"id" => found.id = s.value()?,
                b"_ts" => found.ts = integer(s.value()?).unwrap_or(0),
                b"_lsn" if found.lsn < 0 => found.lsn = integer(s.value()?).unwrap_or(-1),
                _ => drop(s.value()?),
            },
        }
        // A container may be partitioned by id or by _ts: then the arm above did not see it.
        Ok::<_, Broken>(())
    })?;
    found.document = &scanner.bytes[start..scanner.at];
    for (i, path) in paths.0.iter().enumerate() {
        match path.as_slice() {
            [one] if one == "id" => found.id = found.keys[i],
            [one] if one == "_ts" => found.ts = integer(found.keys[i]).unwrap_or(0),
            _ => {}
        }
    }
    Ok(())
}

/// The value at `path` below an object's text; empty when there is none.
fn nested<'a>(text: &'a [u8], path: &[String]) -> Scan<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(text);
    };
    if text.first() != Some(&b'{') {
        return Ok(b"");
    }
    let mut value: &[u8] = b"";
    Scanner { bytes: text, at: 0 }.object(|key, s| {
        let v = s.value()?;
        if key.is(first) {
            value = v;
        }
        Ok::<_, Broken>(())
    })?;
    if value.is_empty() {
        return Ok(b"");
    }
    nested(value, rest)
}

/// An item is `{"current":{..},"metadata":{..}}`, for a delete without or with an empty `current`. The scanner stands before it
/// and is left behind it.
fn item<'a>(scanner: &mut Scanner<'a>, paths: &KeyPaths) -> Scan<Found<'a>> {
    let mut found = Found {
        lsn: -1,
        crts: -1,
        ..Found::default()
    };
    let mut enveloped = false;
    let start = scanner.at;
    scanner.object(|key, s| match key.text() {
        b"current" if s.peek()? == b'{' => {
            enveloped = true;
            document(s, paths, &mut found)
        }
        b"metadata" if s.peek()? == b'{' => {
            enveloped = true;
            s.object(|key, s| {
                let value = s.value()?;
                match key.text() {
                    b"lsn" => found.lsn = integer(value).unwrap_or(-1),
                    b"crts" => found.crts = integer(value).unwrap_or(-1),
                    b"id" => found.deleted_id = value,
                    b"partitionKey" => found.deleted_key = value,
                    b"operationType" => {
                        found.operation = match value {
                            b"\"create\"" => 1,
                            b"\"replace\"" => 2,
                            b"\"delete\"" => 3,
                            _ => 0,
                        }
                    }
                    _ => {}
                }
                Ok::<_, Broken>(())
            })
        }
        _ => s.value().map(drop),
    })?;
    if !enveloped {
        let mut again = Scanner {
            bytes: scanner.bytes,
            at: start,
        };
        document(&mut again, paths, &mut found)?;
    }
    if found.id.is_empty() && !found.deleted_id.is_empty() {
        // A delete comes with an empty `current`: there is no document.
        found.document = b"";
    }
    Ok(found)
}

/// Whether these bytes are one JSON object by its brackets and strings, from the first byte to the last. What stands between
/// commas is not looked at.
pub fn is_object(bytes: &[u8]) -> bool {
    let mut scanner = Scanner { bytes, at: 0 };
    matches!(scanner.peek(), Ok(b'{'))
        && scanner.nest().is_some()
        && bytes[scanner.at..]
            .iter()
            .all(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t'))
}

/// What a page is, beside its records.
pub struct PageHead<'a> {
    pub split_id: &'a str,
    /// Split bytes after the page.
    pub split: &'a [u8],
    pub arrived_epoch_millis: i64,
}

/// A PAGE frame and what is in it.
pub struct Page {
    pub frame: Vec<u8>,
    pub records: usize,
    /// Newest `_ts`, epoch seconds; 0 without records.
    pub newest_ts: i64,
}

impl Page {
    /// Marks the page as the last one for now.
    pub fn caught_up(&mut self) {
        self.frame[12..16].copy_from_slice(&FLAG_CAUGHT_UP.to_le_bytes());
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
}

/// Builds the frame of a page from its items, in one pass.
///
/// # Errors
/// Internal when the bytes are not the service's; the page must then not count as read.
pub fn build(head: &PageHead<'_>, items: &Items, paths: &KeyPaths) -> Result<Page> {
    if paths.len() > MAX_KEY_PATHS {
        return Err(CoreError::internal(format!(
            "{} partition key paths; at most {MAX_KEY_PATHS} are known",
            paths.len()
        )));
    }
    let size = match items {
        Items::None => 0,
        Items::Envelope(body) => body.len(),
        Items::Apart(items) => items.iter().map(Bytes::len).sum(),
    };
    // What is added to documents of 200 bytes and more fits into the half.
    let capacity = 48 + head.split_id.len() + head.split.len() + size + size / 2;
    let mut out = FrameWriter::with_capacity(FrameKind::Page, capacity);
    out.u32(0);
    out.u32(0);
    out.u32(0);
    out.i64(head.arrived_epoch_millis);
    out.i64(0);
    out.str(head.split_id);
    out.blob(head.split);
    let mut builder = Builder {
        out: out.0,
        table: Vec::with_capacity(size / 8),
        newest_ts: 0,
        paths,
    };
    match items {
        Items::None => {}
        Items::Envelope(body) => builder.envelope(body)?,
        Items::Apart(items) => {
            for bytes in items {
                builder.record(&item(&mut Scanner { bytes, at: 0 }, paths)?)?;
            }
        }
    }
    let records = builder.table.len() / RECORD_BYTES;
    let mut out = FrameWriter(builder.out);
    let table = u32::try_from(out.0.len()).map_err(|_| too_large())?;
    out.patch_u32(4, records as u32);
    out.patch_u32(8, table);
    out.0[24..32].copy_from_slice(&builder.newest_ts.to_le_bytes());
    out.0.extend_from_slice(&builder.table);
    Ok(Page {
        frame: out.0,
        records,
        newest_ts: builder.newest_ts,
    })
}

fn too_large() -> CoreError {
    CoreError::internal("the page is larger than 4 GiB; lower source.page-size")
}

/// A frame in the making: documents and what is added to them first, the table of records behind.
struct Builder<'p> {
    out: Vec<u8>,
    table: Vec<u8>,
    newest_ts: i64,
    paths: &'p KeyPaths,
}

impl Builder<'_> {
    fn envelope(&mut self, body: &[u8]) -> Result<()> {
        let mut seen = false;
        let mut scanner = Scanner { bytes: body, at: 0 };
        scanner.object(|key, s| -> Result<()> {
            if key.text() != b"Documents" {
                s.value()?;
                return Ok(());
            }
            seen = true;
            s.expect(b'[', "the array of documents is missing")?;
            if s.peek()? == b']' {
                s.at += 1;
                return Ok(());
            }
            loop {
                s.peek()?;
                let found = item(s, self.paths)?;
                self.record(&found)?;
                match s.peek()? {
                    b',' => s.at += 1,
                    b']' => {
                        s.at += 1;
                        return Ok(());
                    }
                    _ => return Err(Broken("there is no comma between two items").into()),
                }
            }
        })?;
        if !seen {
            return Err(Broken("the page has no Documents array").into());
        }
        Ok(())
    }

    fn record(&mut self, found: &Found<'_>) -> Result<()> {
        let out = &mut self.out;
        let doc_at = out.len();
        out.extend_from_slice(found.document);
        let id_text = if found.id.is_empty() {
            found.deleted_id
        } else {
            found.id
        };
        let (id_at, id_len) = match id_text {
            [b'"', inner @ .., b'"'] if memchr(b'\\', inner).is_none() => {
                // The id stands in the document: point at it. That of a delete without a document is copied.
                let inside = (inner.as_ptr() as usize).wrapping_sub(found.document.as_ptr() as usize);
                if inside < found.document.len() {
                    (doc_at + inside, inner.len())
                } else {
                    append(out, inner)
                }
            }
            escaped => {
                let id: String =
                    serde_json::from_slice(escaped).map_err(|_| Broken("the id is not a string"))?;
                append(out, id.as_bytes())
            }
        };
        let key_at = out.len();
        if found.document.is_empty() && found.deleted_key.first() == Some(&b'[') {
            out.extend_from_slice(found.deleted_key);
        } else {
            out.push(b'[');
            for (n, key) in found.keys[..self.paths.len()].iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(if key.is_empty() { UNDEFINED } else { key });
            }
            out.push(b']');
        }
        let key_len = out.len() - key_at;
        u32::try_from(out.len()).map_err(|_| too_large())?;
        self.newest_ts = self.newest_ts.max(found.ts);
        let mut row = [0u8; RECORD_BYTES];
        let words = [doc_at, found.document.len(), id_at, id_len, key_at, key_len];
        for (slot, v) in words.into_iter().enumerate() {
            row[slot * 4..slot * 4 + 4].copy_from_slice(&(v as u32).to_le_bytes());
        }
        for (slot, v) in [found.ts, found.lsn, found.crts].into_iter().enumerate() {
            row[24 + slot * 8..32 + slot * 8].copy_from_slice(&v.to_le_bytes());
        }
        row[48] = found.operation;
        self.table.extend_from_slice(&row);
        Ok(())
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> (usize, usize) {
    let at = out.len();
    out.extend_from_slice(bytes);
    (at, bytes.len())
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
    }

    /// Reads a PAGE frame by the letter of `docs/boundary.md`: split id, split bytes, flags, records.
    pub fn read(frame: &[u8]) -> (String, Vec<u8>, u32, Vec<Record>) {
        let mut r = FrameReader::open(frame, FrameKind::Page).unwrap();
        let (n, table, flags) = (r.u32().unwrap(), r.u32().unwrap() as usize, r.u32().unwrap());
        r.i64().unwrap();
        r.i64().unwrap();
        let (id, split) = (r.str().unwrap().to_owned(), r.blob().unwrap().to_vec());
        assert!(r.position() <= table);
        let records = (0..n as usize)
            .map(|i| {
                let row = &frame[table + i * RECORD_BYTES..][..RECORD_BYTES];
                let word = |s: usize| u32::from_le_bytes(row[s * 4..s * 4 + 4].try_into().unwrap()) as usize;
                let long = |s: usize| i64::from_le_bytes(row[24 + s * 8..32 + s * 8].try_into().unwrap());
                let text =
                    |s: usize| String::from_utf8(frame[word(s)..word(s) + word(s + 1)].to_vec()).unwrap();
                Record {
                    document: text(0),
                    id: text(2),
                    key: text(4),
                    ts: long(0),
                    lsn: long(1),
                    operation: row[48],
                }
            })
            .collect();
        (id, split, flags, records)
    }

    const HEAD: PageHead<'_> = PageHead {
        split_id: "00-FF",
        split: b"bytes",
        arrived_epoch_millis: 1,
    };

    /// The records of a page, which must be the same however the driver hands it over.
    fn page(items: &[&str], paths: &[&str]) -> Result<Vec<Record>> {
        let records = |items: Items| {
            let mut page = build(&HEAD, &items, &KeyPaths::new(paths))?;
            page.caught_up();
            let (id, split, flags, records) = read(&page.frame);
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
                operation: 0
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
    fn integers_are_read_whole_or_not_at_all() {
        for n in [0, 7, -12, 1_795_517_269, i64::MAX, i64::MIN] {
            assert_eq!(integer(n.to_string().as_bytes()), Some(n));
            assert_eq!(integer(format!("\"{n}\"").as_bytes()), Some(n));
        }
        for text in [
            "",
            "\"\"",
            "-",
            "1.5",
            "1e3",
            "null",
            "\"",
            "9223372036854775808",
            "1 ",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
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

    #[test]
    fn a_bare_document_is_taken_too() {
        let record = &page(&[r#"{"id":"a","pk":null,"_ts":1,"_lsn":7}"#], &["/pk"]).unwrap()[0];
        assert_eq!((record.key.as_str(), record.lsn), ("[null]", 7));
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
            assert!(build(&HEAD, &items, &KeyPaths::new(&["/a"])).is_err(), "{text}");
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
                let _ = build(&HEAD, &items, &KeyPaths::new(&["/a", "/b/c"]));
            }
        }
    }
}
