//! From a page of the service to a ROWS frame.

use std::borrow::Cow;

use azure_core::Bytes;

use super::item::{id_of, key_by_path, Found, MAX_KEY_PATHS, UNDEFINED};
use super::{assemble, too_large, Builder, Items, KeyPaths, Page, PageHead, RECORD_EXPIRED};
use crate::config::OnDecodeError;
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameReader};
use crate::json::{lossy, Scan, Scanner};
use crate::rows::{Change, Changelog, Decoder, OnError, Refused, RowKind};

/// Size of one row of the table of a ROWS frame.
pub const ROW_BYTES: usize = 24;

/// The time of a row that has none, as Flink has it.
const NO_TIMESTAMP: i64 = i64::MIN;

/// A document that was created, as [`Found`] has it.
const CREATED: u8 = 1;

/// Builds the ROWS frame of a page from its items.
///
/// # Errors
/// BadRequest for a document that cannot be decoded or does not fit the plan, when that is to fail; Transient when the page itself is
/// broken. In both cases it must not count as read.
pub fn build_rows(
    head: &PageHead<'_>,
    items: &Items,
    paths: &KeyPaths,
    on_decode_error: OnDecodeError,
    decoder: &mut Decoder,
) -> Result<Page> {
    assemble(head, items, paths, on_decode_error, Some(decoder))
}

/// Makes rows of documents that are of no feed and come in a STRINGS frame, in a ROWS frame without a split. The decoder knows of no partition key.
///
/// # Errors
/// As [`build_rows`].
pub fn decode_documents(frame: Vec<u8>, decoder: &mut Decoder) -> Result<Page> {
    let frame = Bytes::from(frame);
    let mut reader = FrameReader::open(&frame, FrameKind::Strings)?;
    let count = reader.u32()?;
    // Parts of the frame, of which nothing is copied.
    let mut documents = Vec::new();
    for _ in 0..count {
        documents.push(frame.slice_ref(reader.str()?.as_bytes()));
    }
    reader.finish()?;
    let head = PageHead {
        split_id: "",
        split: &[],
        children: &[],
        arrived_epoch_millis: 0,
    };
    let items = Items::Rows(vec![Items::Apart(documents)]);
    build_rows(
        &head,
        &items,
        &KeyPaths::new::<&str>(&[]),
        OnDecodeError::Fail,
        decoder,
    )
}

impl Builder<'_> {
    /// Adds the row of a change, if there is one.
    pub(super) fn row(&mut self, decoder: &mut Decoder, found: &Found<'_>) -> Result<()> {
        let deleted = found.document.is_empty();
        let kind = match (decoder.plan().changelog, deleted) {
            (Changelog::Append, true) => {
                self.leave_out(found);
                return Ok(());
            }
            (Changelog::Append | Changelog::Log, _) => RowKind::Insert,
            (Changelog::Upsert, true) => RowKind::Delete,
            (Changelog::Upsert, false) if found.operation == CREATED => RowKind::Insert,
            (Changelog::Upsert, false) => RowKind::UpdateAfter,
        };
        let id = match decoder.plan().wants_id {
            true => text(id_of(found)),
            false => Cow::Borrowed(""),
        };
        let mut key = Vec::new();
        if decoder.plan().wants_key {
            self.key(found, &mut key);
        }
        let key = String::from_utf8_lossy(&key);
        let timestamp = Some(found.ts)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| seconds.saturating_mul(1000));
        let change = Change {
            document: if deleted { found.previous } else { found.document },
            kind,
            partial: deleted,
            id: &id,
            partition_key: &key,
            timestamp,
            lsn: found.lsn,
            committed: found.crts,
            operation: match found.operation {
                _ if deleted => "delete",
                CREATED => "create",
                2 => "replace",
                _ => "upsert",
            },
            expired: found.expired,
            arrived: self.arrived,
            split_id: self.split_id,
        };
        let start = decoder.len();
        let made = match (deleted, change.document.is_empty()) {
            // The item was walked through by the plan.
            (false, _) => decoder.walked_row(&change),
            (true, false) => decoder.row(&change),
            (true, true) => {
                let keys = components(found, self.paths)?;
                let names = ["id".to_owned()];
                let mut known = vec![(names.as_slice(), id_of(found))];
                known.extend(self.paths.iter().zip(keys));
                known.retain(|(_, json)| !json.is_empty() && *json != UNDEFINED);
                decoder.key_row(&change, &known)
            }
        };
        match made {
            Ok(()) => {}
            Err(Refused::Broken(why)) => return self.undecodable(found, why),
            Err(Refused::Filtered) => {
                self.filtered += 1;
                self.leave_out(found);
                return Ok(());
            }
            Err(Refused::Misfit(_)) if decoder.plan().on_error == OnError::SkipRow => {
                self.undecodable += 1;
                self.leave_out(found);
                return Ok(());
            }
            Err(Refused::Misfit(why)) => {
                return Err(CoreError::new(
                    Kind::BadRequest,
                    format!(
                        "{}, makes no row: {why}; correct the document or the column's type, or set json.on-error to null-field or skip-row",
                        self.named(found)
                    ),
                ))
            }
        }
        let length = decoder.len() - start;
        let at = u32::try_from(self.head.len() + start).map_err(|_| too_large())?;
        u32::try_from(self.head.len() + decoder.len()).map_err(|_| too_large())?;
        let mut row = [0u8; ROW_BYTES];
        row[..4].copy_from_slice(&at.to_le_bytes());
        row[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        row[8..16].copy_from_slice(&timestamp.unwrap_or(NO_TIMESTAMP).to_le_bytes());
        row[16] = kind as u8;
        row[17] = if found.expired { RECORD_EXPIRED } else { 0 };
        self.table.extend_from_slice(&row);
        self.newest_ts = self.newest_ts.max(found.ts);
        self.newest_lsn = self.newest_lsn.max(found.lsn);
        Ok(())
    }
}

/// The characters of an id, given with its quotes.
fn text(id: &[u8]) -> Cow<'_, str> {
    match id {
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => String::from_utf8_lossy(inner),
        b"" => Cow::Borrowed(""),
        escaped => Cow::Owned(lossy(escaped)),
    }
}

/// The components of a deleted document's key, in the order of the container's paths; empty where one is not known.
fn components<'a>(found: &Found<'a>, paths: &KeyPaths) -> Scan<[&'a [u8]; MAX_KEY_PATHS]> {
    match found.deleted_key.first() {
        Some(b'{') => Ok(key_by_path(found.deleted_key, paths).unwrap_or_default()),
        Some(b'[') => {
            let mut keys: [&[u8]; MAX_KEY_PATHS] = Default::default();
            let mut scanner = Scanner {
                bytes: found.deleted_key,
                at: 1,
            };
            for key in &mut keys {
                if scanner.peek()? == b']' {
                    break;
                }
                *key = scanner.value()?;
                if scanner.peek()? != b',' {
                    break;
                }
                scanner.at += 1;
            }
            Ok(keys)
        }
        _ => Ok(found.keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_strings;
    use crate::rows::{
        Column, Comparison, Filter, Format, Literal, Metadata, Operand, Origin, Plan, Predicate, Scalar,
        Type, Unit,
    };

    const HEAD: PageHead<'_> = PageHead {
        split_id: "00-FF",
        split: b"bytes",
        children: &[],
        arrived_epoch_millis: 7,
    };

    fn plan(changelog: Changelog, on_error: OnError) -> Plan {
        let column = |name: &str, origin, kind| Column {
            name: name.into(),
            origin,
            kind,
        };
        let path = |names: &[&str]| Origin::Path(names.iter().map(|n| (*n).to_owned()).collect());
        let not_null = Type {
            nullable: false,
            ..Scalar::String.into()
        };
        Plan {
            missing_is_error: false,
            on_error,
            format: Format::Iso,
            unit: Unit::None,
            changelog,
            columns: vec![
                column("id", path(&["id"]), not_null),
                column("pk", path(&["a", "pk"]), Scalar::String.into()),
                column("n", path(&["n"]), Scalar::Int.into()),
                column("op", Origin::Metadata(Metadata::Operation), Scalar::String.into()),
            ],
            filter: None,
        }
    }

    /// A row as Java would see it: kind, time, flags, and its four fields.
    type Row = (
        u8,
        i64,
        u8,
        Option<String>,
        Option<String>,
        Option<i32>,
        Option<String>,
    );

    /// Reads a ROWS frame by the letter of `docs/boundary.md`.
    fn read(frame: &[u8]) -> Vec<Row> {
        let mut r = FrameReader::open(frame, FrameKind::Rows).unwrap();
        let (n, table) = (r.u32().unwrap() as usize, r.u32().unwrap() as usize);
        assert_eq!(table % 8, 0);
        assert_eq!(frame.len(), table + n * ROW_BYTES);
        let row = |entry: &[u8]| {
            let mut r = FrameReader::raw(entry);
            let (at, length) = (r.u32().unwrap() as usize, r.u32().unwrap() as usize);
            let (time, kind, flags) = (r.i64().unwrap(), r.u8().unwrap(), r.u8().unwrap());
            assert_eq!((at % 8, length % 8), (0, 0));
            let row = &frame[at..at + length];
            assert_eq!(row[0], kind);
            let slot = |i: usize| &row[8 + 8 * i..16 + 8 * i];
            let there = |i: usize| row[1 + i / 8] & (1 << (i % 8)) == 0;
            let text = |i: usize| {
                let slot = slot(i);
                let bytes = match slot[7] & 0x80 {
                    0 => {
                        let size = u32::from_le_bytes(slot[..4].try_into().unwrap()) as usize;
                        let at = u32::from_le_bytes(slot[4..].try_into().unwrap()) as usize;
                        &row[at..at + size]
                    }
                    _ => &slot[..usize::from(slot[7] & 0x7f)],
                };
                there(i).then(|| String::from_utf8(bytes.to_vec()).unwrap())
            };
            let number = there(2).then(|| i32::from_le_bytes(slot(2)[..4].try_into().unwrap()));
            (kind, time, flags, text(0), text(1), number, text(3))
        };
        frame[table..].chunks(ROW_BYTES).map(row).collect()
    }

    fn page(items: &[&str], plan: &Plan) -> Result<Page> {
        let (text, n) = (items.join(","), items.len());
        let body = format!(r#"{{"_rid":"x","Documents":[{text}],"_count":{n}}}"#);
        let paths = KeyPaths::new(&["/a/pk"]);
        let items = Items::Envelope(body.into());
        build_rows(
            &HEAD,
            &items,
            &paths,
            OnDecodeError::Fail,
            &mut Decoder::new(plan, paths.iter()),
        )
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    const CREATE: &str = r#"{"current":{"id":"a","a":{"pk":"k"},"n":1,"_ts":5},"metadata":{"lsn":1,"operationType":"create"}}"#;
    const REPLACE: &str = r#"{"current":{"id":"long enough","a":{"pk":"k"},"n":null,"_ts":6},"metadata":{"lsn":2,"operationType":"replace"}}"#;
    const DELETE: &str = r#"{"current":{},"metadata":{"lsn":3,"crts":8,"operationType":"delete","id":"gone","partitionKey":{"a":{"pk":"k"}},"timeToLiveExpired":true}}"#;

    #[test]
    fn changes_become_rows_of_their_kinds() {
        let rows = |changelog| {
            let page = page(&[CREATE, REPLACE, DELETE], &plan(changelog, OnError::Fail)).unwrap();
            assert_eq!((page.documents, page.newest_lsn), (3, 3));
            let rows = read(&page.frame.to_vec());
            assert_eq!(page.records, rows.len());
            rows
        };
        let created = |kind| -> Row { (kind, 5000, 0, some("a"), some("k"), Some(1), some("create")) };
        let replaced = |kind| -> Row {
            (
                kind,
                6000,
                0,
                some("long enough"),
                some("k"),
                None,
                some("replace"),
            )
        };
        let deleted = |kind| -> Row {
            (
                kind,
                8000,
                RECORD_EXPIRED,
                some("gone"),
                some("k"),
                None,
                some("delete"),
            )
        };
        assert_eq!(rows(Changelog::Append), [created(0), replaced(0)]);
        assert_eq!(rows(Changelog::Upsert), [created(0), replaced(2), deleted(3)]);
        assert_eq!(rows(Changelog::Log), [created(0), replaced(0), deleted(0)]);
    }

    #[test]
    fn a_delete_is_what_it_was_where_the_service_says() {
        let previous = r#"{"current":{},"previous":{"id":"gone","a":{"pk":"k"},"n":4},"metadata":{"lsn":3,"crts":8,"operationType":"delete"}}"#;
        let array = r#"{"current":{},"metadata":{"lsn":3,"crts":8,"operationType":"delete","id":"g\u0061","partitionKey":["k"]}}"#;
        let page = page(&[previous, array], &plan(Changelog::Upsert, OnError::Fail)).unwrap();
        assert_eq!(
            read(&page.frame.to_vec()),
            [
                (3, 8000, 0, some("gone"), some("k"), Some(4), some("delete")),
                (3, 8000, 0, some("ga"), some("k"), None, some("delete"))
            ]
        );
    }

    #[test]
    fn what_does_not_fit_follows_the_plan() {
        let misfit = r#"{"current":{"id":"b","a":{"pk":"k"},"n":1.5},"metadata":{"lsn":2}}"#;
        let made = |on_error| page(&[CREATE, misfit], &plan(Changelog::Append, on_error));
        let error = made(OnError::Fail).err().unwrap();
        assert_eq!(error.kind, Kind::BadRequest);
        for part in [
            "id 'b'",
            "key [\"k\"]",
            "column 'n' at '/n' is 1.5",
            "no INT",
            "json.on-error",
        ] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
        let skipped = made(OnError::SkipRow).unwrap();
        assert_eq!(
            (skipped.records, skipped.documents, skipped.undecodable),
            (1, 2, 1)
        );
        assert_eq!(skipped.newest_lsn, 2);
        assert_eq!(skipped.nulled, 0);
        let nulled = made(OnError::NullField).unwrap();
        assert_eq!((nulled.nulled, nulled.undecodable), (1, 0));
        let rows = read(&nulled.frame.to_vec());
        assert_eq!((rows[1].3.clone(), rows[1].5), (some("b"), None));
    }

    fn filtered(changelog: Changelog, on_error: OnError, columns: Vec<Column>, predicate: Predicate) -> Plan {
        Plan {
            filter: Some(Filter { columns, predicate }),
            ..plan(changelog, on_error)
        }
    }

    fn equal(column: u32, literal: Literal) -> Predicate {
        let operand = Operand {
            column,
            fields: Vec::new(),
        };
        Predicate::Compare(Comparison::Equal, operand, literal)
    }

    #[test]
    fn what_does_not_pass_is_left_out_and_counted_deletes_too() {
        let items = [CREATE, REPLACE, DELETE];
        let key = Column {
            name: "/a/pk".into(),
            origin: Origin::Path(vec!["a".into(), "pk".into()]),
            kind: Scalar::String.into(),
        };
        let text = |text: &str| Literal::Text(text.into());
        let left = |columns: Vec<Column>, predicate| {
            let plan = filtered(Changelog::Upsert, OnError::Fail, columns, predicate);
            let page = page(&items, &plan).unwrap();
            assert_eq!((page.documents, page.newest_lsn, page.newest_ts), (3, 3, 8));
            assert_eq!(page.filtered as usize, 3 - page.records);
            assert_eq!((page.undecodable, page.nulled), (0, 0));
            let rows = read(&page.frame.to_vec());
            rows.into_iter().filter_map(|row| row.3).collect::<Vec<_>>()
        };
        assert_eq!(left(Vec::new(), equal(0, text("gone"))), ["gone"]);
        assert_eq!(
            left(vec![key.clone()], equal(4, text("k"))),
            ["a", "long enough", "gone"]
        );
        assert!(left(vec![key], equal(4, text("x"))).is_empty());
        // Of a delete nothing else is known.
        assert_eq!(left(Vec::new(), equal(2, Literal::Whole(1))), ["a"]);
        let operation = Predicate::Not(Box::new(equal(3, text("delete"))));
        assert_eq!(left(Vec::new(), operation), ["a", "long enough"]);
    }

    #[test]
    fn what_does_not_fit_the_filters_own_columns_or_one_that_does_not_pass_takes_its_way_all_the_same() {
        let flag = Column {
            name: "/n".into(),
            origin: Origin::Path(vec!["n".into()]),
            kind: Scalar::Boolean.into(),
        };
        let by_flag = |on_error| {
            let predicate = equal(4, Literal::Bool(true));
            let plan = filtered(Changelog::Append, on_error, vec![flag.clone()], predicate);
            page(&[CREATE, REPLACE], &plan)
        };
        let error = by_flag(OnError::Fail).err().unwrap();
        assert!(error.message.contains("column '/n' at '/n' is 1"), "{error}");
        let counts = |page: Page| (page.records, page.filtered, page.undecodable, page.nulled);
        assert_eq!(counts(by_flag(OnError::SkipRow).unwrap()), (0, 1, 1, 0));
        assert_eq!(counts(by_flag(OnError::NullField).unwrap()), (0, 2, 0, 1));

        let misfit = r#"{"current":{"id":"b","a":{"pk":"k"},"n":1.5},"metadata":{"lsn":2}}"#;
        let by_id = |on_error| {
            let predicate = equal(0, Literal::Text("x".into()));
            page(
                &[misfit],
                &filtered(Changelog::Append, on_error, Vec::new(), predicate),
            )
        };
        assert!(by_id(OnError::Fail).err().unwrap().message.contains("column 'n'"));
        assert_eq!(counts(by_id(OnError::SkipRow).unwrap()), (0, 0, 1, 0));
        assert_eq!(counts(by_id(OnError::NullField).unwrap()), (0, 1, 0, 1));
    }

    #[test]
    fn a_page_without_rows_still_says_where_the_split_stands() {
        let paths = KeyPaths::new(&["/a/pk"]);
        let mut decoder = Decoder::new(&plan(Changelog::Append, OnError::Fail), paths.iter());
        let mut page = build_rows(&HEAD, &Items::None, &paths, OnDecodeError::Fail, &mut decoder).unwrap();
        page.caught_up();
        let frame = page.frame.to_vec();
        assert_eq!(read(&frame), []);
        let mut r = FrameReader::open(&frame, FrameKind::Rows).unwrap();
        r.u32().unwrap();
        assert_eq!(r.u32().unwrap() as usize, frame.len());
        assert_eq!(r.u32().unwrap(), 1);
        assert_eq!(r.i64().unwrap(), 7);
        r.i64().unwrap();
        assert_eq!((r.str().unwrap(), r.blob().unwrap()), ("00-FF", &b"bytes"[..]));
    }

    #[test]
    fn a_decoder_forgets_a_page_that_failed() {
        let plan = plan(Changelog::Append, OnError::Fail);
        let mut decoder = Decoder::new(&plan, []);
        let documents =
            |n: &str| encode_strings(&[r#"{"id":"a"}"#.to_owned(), format!(r#"{{"id":"b","n":{n}}}"#)]);
        assert!(decode_documents(documents("\"x\""), &mut decoder).is_err());
        let page = decode_documents(documents("3"), &mut decoder).unwrap();
        let rows = read(&page.frame.to_vec());
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].1, rows[1].5), (NO_TIMESTAMP, Some(3)));
    }

    #[test]
    fn a_text_that_is_no_json_is_no_row() {
        let mut decoder = Decoder::new(&plan(Changelog::Append, OnError::SkipRow), []);
        for text in [r#"{"id":"a" "n":1}"#, r#"{"id":"a"}}"#, "{"] {
            assert!(
                decode_documents(encode_strings(&[text.to_owned()]), &mut decoder).is_err(),
                "{text}"
            );
        }
    }
}
