//! Answers of the service made rows, each given to the key that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use azure_core::Bytes;

use super::key::{Key, KeyShape};
use crate::config::OnDecodeError;
use crate::error::{CoreError, Kind, Result};
use crate::json::{integer, lossy, Broken, Scanner};
use crate::page::{Items, KeyPaths, MAX_KEY_PATHS};
use crate::rows::{Change, Decoder, OnError, Refused, Walked};

/// Text for a component of a partition key that a document does not have.
const UNDEFINED: &[u8] = b"{}";

/// Rows of a request's keys.
pub struct Reading<'a> {
    decoder: &'a mut Decoder,
    /// What reads the key alone, once there was a document of which there is no row.
    alone: Option<Decoder>,
    shape: &'a KeyShape,
    paths: &'a KeyPaths,
    on_decode_error: OnDecodeError,
    /// The key that was read by its address, of which a document may have other values than were asked for.
    address: Option<&'a Key>,
    /// Which key it is, by its name.
    keys: BTreeMap<&'a [u8], usize>,
    /// When the answer arrived, in milliseconds since the epoch.
    arrived: i64,
    /// Of each key: rows in the order in which they came.
    rows: Vec<Vec<Vec<u8>>>,
    /// Bytes of all rows, and how many there may be: behind that documents are passed over, since rows may be much larger than they are.
    bytes: usize,
    most: usize,
    /// Documents that were left out.
    undecodable: u64,
    nulled: u64,
}

/// What came of a reading.
pub struct Read {
    /// Of each key: its rows.
    pub rows: Vec<Vec<Vec<u8>>>,
    /// Documents that were left out since they cannot be decoded, or do not fit.
    pub undecodable: u64,
    /// Values that became null since they do not fit.
    pub nulled: u64,
}

impl<'a> Reading<'a> {
    /// The reading of a request's answer, before its first page. Of more than `most` bytes of rows it need not have all.
    pub fn new(
        decoder: &'a mut Decoder,
        shape: &'a KeyShape,
        paths: &'a KeyPaths,
        on_decode_error: OnDecodeError,
        keys: &'a [Arc<Key>],
        by_address: bool,
        most: usize,
    ) -> Self {
        decoder.begin(0);
        let names = keys.iter().enumerate().map(|(n, key)| (key.name.as_slice(), n));
        Reading {
            decoder,
            alone: None,
            shape,
            paths,
            on_decode_error,
            address: keys
                .first()
                .filter(|_| by_address && shape.has_others())
                .map(|key| &**key),
            keys: names.collect(),
            arrived: 0,
            rows: keys.iter().map(|_| Vec::new()).collect(),
            bytes: 0,
            most,
            undecodable: 0,
            nulled: 0,
        }
    }

    /// Forgets what has come.
    pub fn begin_anew(&mut self) {
        self.decoder.begin(0);
        self.rows.iter_mut().for_each(Vec::clear);
        (self.bytes, self.undecodable, self.nulled) = (0, 0, 0);
    }

    /// Bytes of the rows so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A page of a query has come.
    ///
    /// # Errors
    /// BadRequest for a document of a key that cannot be decoded or does not fit the plan, when that is to fail; Transient when the page
    /// itself is broken.
    pub fn page(&mut self, items: &Items, arrived: i64) -> Result<()> {
        self.arrived = arrived;
        match items {
            Items::None => Ok(()),
            Items::Envelope(body) => self.envelope(body),
            Items::Apart(documents) => documents.iter().try_for_each(|document| self.alone(document)),
            Items::Rows(pages) => pages.iter().try_for_each(|page| self.page(page, arrived)),
        }
    }

    /// The document of a point read has come.
    ///
    /// # Errors
    /// Those of [`Reading::page`].
    pub fn document(&mut self, document: &Bytes, arrived: i64) -> Result<()> {
        self.arrived = arrived;
        self.alone(document)
    }

    fn alone(&mut self, document: &[u8]) -> Result<()> {
        let mut scanner = Scanner {
            bytes: document,
            at: 0,
        };
        self.next(&mut scanner)?;
        match scanner.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(Broken("there is something behind a document").into()),
        }
    }

    fn envelope(&mut self, body: &[u8]) -> Result<()> {
        let mut seen = false;
        Scanner { bytes: body, at: 0 }.object(|key, s| -> Result<()> {
            if key.text() != b"Documents" {
                return Ok(s.value().map(drop)?);
            }
            seen = true;
            s.array("the array of documents is missing", |s| self.next(s))
        })?;
        match seen {
            true => Ok(()),
            false => Err(Broken("the page has no Documents array").into()),
        }
    }

    /// The document before which the scanner stands; it is left behind it.
    fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        scanner.peek()?;
        if self.bytes > self.most {
            return Ok(scanner.value().map(drop)?);
        }
        let start = scanner.at;
        let mut keys: [&[u8]; MAX_KEY_PATHS] = Default::default();
        let walked = match self.decoder.walk(scanner, &mut keys) {
            Ok(walked) => walked,
            Err(Broken(why)) => {
                // Its own fault alone if the page goes on behind its last bracket.
                scanner.at = start;
                let raw = scanner.value()?;
                if !matches!(scanner.peek(), Ok(b',' | b']') | Err(_)) {
                    return Err(Broken(why).into());
                }
                return self.undecodable(raw, b"", why);
            }
        };
        if std::str::from_utf8(walked.document).is_err() {
            return self.undecodable(walked.document, walked.id, "it is not UTF-8");
        }
        self.row(&walked, &keys)
    }

    fn row(&mut self, walked: &Walked<'_>, keys: &[&[u8]; MAX_KEY_PATHS]) -> Result<()> {
        if self
            .address
            .is_some_and(|key| !self.shape.may_have(walked.document, key))
        {
            return Ok(());
        }
        let id = match walked.id.first() {
            Some(b'"') => lossy(walked.id),
            _ => String::new(),
        };
        let partition_key = match self.decoder.plan().wants_key {
            true => self.partition_key(keys),
            false => String::new(),
        };
        let timestamp = integer(walked.ts).filter(|seconds| *seconds > 0);
        let change = Change {
            id: &id,
            partition_key: &partition_key,
            timestamp: timestamp.map(|seconds| seconds.saturating_mul(1000)),
            lsn: integer(walked.lsn).unwrap_or(-1),
            arrived: self.arrived,
            ..Change::read(walked.document)
        };
        let made = self.decoder.walked_row(&change);
        let (row, nulled) = (self.decoder.take(), self.decoder.take_nulled());
        match made {
            Ok(()) => {}
            // The planner's condition on the table: it is as if the document were not there.
            Err(Refused::Filtered) => return Ok(()),
            Err(Refused::Broken(why)) => return self.undecodable(walked.document, walked.id, why),
            // The service was asked for more than the keys: what is wrong with a document of none of them is no matter here.
            Err(Refused::Misfit(_)) if !self.may_be_wanted(walked.document) => return Ok(()),
            Err(Refused::Misfit(_)) if self.decoder.plan().on_error == OnError::SkipRow => {
                self.undecodable += 1;
                return Ok(());
            }
            Err(Refused::Misfit(why)) => {
                return Err(CoreError::new(
                    Kind::BadRequest,
                    format!(
                        "the document with id '{id}' and partition key {}, which was looked up, makes no row: {why}; correct the document or the column's type, or set json.on-error to null-field or skip-row",
                        self.partition_key(keys)
                    ),
                ))
            }
        }
        // Of a row that the plan leaves out there are no bytes, and of one that is not quite what was asked for, nobody waits.
        if let Some(key) = self
            .shape
            .name(&row)
            .and_then(|name| self.keys.get(name.as_slice()).copied())
        {
            self.nulled += nulled;
            self.bytes += row.len();
            self.rows[key].push(row);
        }
        Ok(())
    }

    /// Whether a document of which there is no row has one of the keys, or nobody can tell.
    fn may_be_wanted(&mut self, document: &[u8]) -> bool {
        let plan = self.shape.alone();
        let alone = self.alone.get_or_insert_with(|| Decoder::of(plan.clone()));
        alone.begin(0);
        let made = alone.row(&Change {
            arrived: self.arrived,
            ..Change::read(document)
        });
        let row = alone.take();
        match made {
            Ok(()) => self
                .shape
                .name_alone(&row)
                .is_some_and(|name| self.keys.contains_key(name.as_slice())),
            // A value that its column cannot have is that of no key.
            Err(Refused::Misfit(_) | Refused::Filtered) => false,
            Err(Refused::Broken(_)) => true,
        }
    }

    fn undecodable(&mut self, document: &[u8], id: &[u8], why: &str) -> Result<()> {
        if !self.may_be_wanted(document) {
            return Ok(());
        }
        if self.on_decode_error == OnDecodeError::Skip {
            self.undecodable += 1;
            return Ok(());
        }
        let name = match id {
            b"" => format!("of {} bytes", document.len()),
            id => format!("with id '{}'", lossy(id)),
        };
        Err(CoreError::new(
            Kind::BadRequest,
            format!("a document {name} that was looked up cannot be decoded: {why}; correct or delete it, or set json.on-error to skip-row"),
        ))
    }

    /// A JSON array.
    fn partition_key(&self, keys: &[&[u8]; MAX_KEY_PATHS]) -> String {
        let keys = keys[..self.paths.len().min(MAX_KEY_PATHS)].iter();
        let text =
            |key: &&[u8]| String::from_utf8_lossy(if key.is_empty() { UNDEFINED } else { key }).into_owned();
        format!("[{}]", keys.map(text).collect::<Vec<_>>().join(","))
    }

    /// All that came.
    pub fn end(self) -> Read {
        Read {
            rows: self.rows,
            undecodable: self.undecodable,
            nulled: self.nulled,
        }
    }
}
