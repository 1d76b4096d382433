//! Rows among what is submitted: each becomes the operation that the plan of the sink makes of it. From there on it is like any other.

use std::sync::Arc;

use super::document;
use super::operation::{Operation, OperationKind, Parts, Rules, ROW};
use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::rows::{Deletion, DocumentPlan, Encoder, Misfit, NoDocument, RowChange};

/// Most bytes of a document that is made, though it is larger than what is written: a dead letter holds its beginning.
const MAX_KEPT: usize = 16 << 20;

/// Bytes from which on the operations that follow have another buffer, so that their offsets fit.
const MAX_SHARED: usize = 1 << 30;

/// Operations whose texts lie in one buffer, while it is being filled.
struct Shared {
    bytes: Vec<u8>,
    parts: Vec<Parts>,
}

impl Shared {
    fn push(&mut self, text: &[u8]) -> (u32, u32) {
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        (from, self.bytes.len() as u32)
    }

    fn finish(&mut self, out: &mut Vec<Operation>) {
        let mut bytes = std::mem::take(&mut self.bytes);
        // It is held until the last of them has ended, and counts by its length.
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        let frame = Arc::new(bytes);
        out.extend(self.parts.drain(..).map(|parts| Operation::new(&frame, parts)));
    }
}

/// What is made of rows, and of what.
struct Making<'m> {
    encoder: &'m Encoder,
    /// Most bytes of a document.
    most: usize,
    /// What says which document it would be that none was made of.
    rules: Option<&'m Rules>,
}

/// Decodes an OPERATIONS frame in which rows may stand in place of operations. A row of which no operation can be made becomes one that is refused; a
/// document has at most so many bytes.
///
/// # Errors
/// State, for the whole frame: also where a row's bytes are damaged.
pub fn decode(frame: &[u8], encoder: &Encoder, most: usize, rules: &Rules) -> Result<Vec<Operation>> {
    let making = Making {
        encoder,
        most,
        rules: Some(rules),
    };
    making.all(frame)
}

/// An OPERATIONS frame without rows: what such a frame says, and what a plan makes of the rows in it.
///
/// # Errors
/// Config when no documents can be made by the plan, State for a damaged frame.
pub fn encode_rows(plan: &DocumentPlan, frame: &[u8]) -> Result<Vec<u8>> {
    let making = Making {
        encoder: &Encoder::new(plan)?,
        most: MAX_KEPT,
        rules: None,
    };
    let operations = making.all(frame)?;
    let mut w = FrameWriter::with_capacity(FrameKind::Operations, 2 * frame.len());
    w.u32(operations.len() as u32);
    for operation in &operations {
        w.u8(operation.kind.number());
        for part in [
            operation.id(),
            operation.partition_key(),
            operation.if_match(),
            operation.body(),
        ] {
            w.blob(part);
        }
    }
    Ok(w.0)
}

impl Making<'_> {
    fn all(&self, frame: &[u8]) -> Result<Vec<Operation>> {
        let mut r = FrameReader::open(frame, FrameKind::Operations)?;
        let n = r.u32()? as usize;
        let mut out = Vec::with_capacity(n.min(frame.len() / 8));
        let mut shared = Shared {
            bytes: Vec::with_capacity(frame.len()),
            parts: Vec::with_capacity(out.capacity()),
        };
        for _ in 0..n {
            if shared.bytes.len() > MAX_SHARED {
                shared.finish(&mut out);
            }
            let number = r.u8()?;
            let parts = match number {
                ROW => self.row(r.blob()?, &mut shared)?,
                _ => Parts {
                    kind: OperationKind::from_number(number)?,
                    id: shared.push(r.str()?.as_bytes()),
                    partition_key: shared.push(r.str()?.as_bytes()),
                    if_match: shared.push(r.str()?.as_bytes()),
                    body: shared.push(r.blob()?),
                },
            };
            shared.parts.push(parts);
        }
        r.finish()?;
        shared.finish(&mut out);
        Ok(out)
    }

    fn row(&self, row: &[u8], shared: &mut Shared) -> Result<Parts> {
        let start = shared.bytes.len();
        let made = self
            .encoder
            .append(row, MAX_KEPT, Misfit::Refuse, &mut shared.bytes);
        let size = shared.bytes.len() - start;
        match made {
            Ok(RowChange { deletion, etag }) if size <= self.most => {
                let body = (start as u32, shared.bytes.len() as u32);
                Ok(Parts {
                    kind: match deletion {
                        None => OperationKind::Default,
                        Some(Deletion::Update) => OperationKind::BulkUpdate,
                        Some(Deletion::Delete | Deletion::None) => OperationKind::Delete,
                    },
                    id: (body.1, body.1),
                    partition_key: (body.1, body.1),
                    if_match: shared.push(etag.as_bytes()),
                    body,
                })
            }
            Ok(_) => {
                let why = format!(
                    "the document is too large: it has {size} bytes, and sink.max-record-size is {}",
                    self.most
                );
                Ok(self.refused(start, size, &why, shared))
            }
            Err(NoDocument::TooLong) => {
                shared.bytes.truncate(start);
                let why = format!(
                    "the document is too large: it has more than {MAX_KEPT} bytes, and sink.max-record-size is {}",
                    self.most
                );
                Ok(self.refused(start, 0, &why, shared))
            }
            Err(NoDocument::Value(why)) => {
                shared.bytes.truncate(start);
                // Which document it would be is said by its other columns.
                let known = self
                    .encoder
                    .append(row, MAX_KEPT, Misfit::Null, &mut shared.bytes);
                let parts = match known {
                    Ok(_) => self.refused(start, shared.bytes.len() - start, &why, shared),
                    Err(_) => {
                        shared.bytes.truncate(start);
                        self.refused(start, 0, &why, shared)
                    }
                };
                Ok(Parts {
                    // With a null in place of what it has, it must not be written by whoever reads the dead letter.
                    body: (parts.body.1, parts.body.1),
                    ..parts
                })
            }
            Err(NoDocument::Damaged(why)) => Err(CoreError::state(format!(
                "a row of a submission is damaged: {why}; use a version of the connector that supports this version of Flink"
            ))),
        }
    }

    /// The record of which no write can be made, with the document of so many bytes that was appended last.
    fn refused(&self, start: usize, size: usize, why: &str, shared: &mut Shared) -> Parts {
        let document = &shared.bytes[start..start + size];
        let (id, key) = match self.rules {
            Some(rules) if size > 0 => (
                rules.ids.id(document).unwrap_or_default(),
                document::key_of(document, &rules.paths).unwrap_or_default(),
            ),
            _ => Default::default(),
        };
        Parts {
            kind: OperationKind::Refused,
            body: (start as u32, (start + size) as u32),
            id: shared.push(id.as_bytes()),
            partition_key: shared.push(key.as_bytes()),
            if_match: shared.push(why.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::rows::{DocumentColumn, Format, Place, Scalar};
    use crate::sink::operation::{decode_operations, encode_operations, NewOperation};

    fn plan() -> DocumentPlan {
        let column = |name: &str, deleted: bool, scalar: Scalar| DocumentColumn {
            name: name.into(),
            place: Place::Path {
                path: vec![name.into()],
                written: true,
                deleted,
            },
            kind: scalar.into(),
        };
        DocumentPlan {
            format: Format::Iso,
            deletion: Deletion::Delete,
            columns: vec![
                column("id", true, Scalar::String),
                column("pk", true, Scalar::String),
                column("n", false, Scalar::Double),
            ],
            constants: Vec::new(),
        }
    }

    /// A row of these columns, as Flink lays it out.
    fn row(kind: u8, id: &str, key: &str, n: f64) -> Vec<u8> {
        let mut row = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        for text in [id, key] {
            let mut slot = [0; 8];
            slot[..text.len()].copy_from_slice(text.as_bytes());
            slot[7] = 0x80 | text.len() as u8;
            row.extend(slot);
        }
        row.extend(n.to_le_bytes());
        row
    }

    /// An OPERATIONS frame of rows, and of a document between them.
    fn frame(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut w = FrameWriter::new(FrameKind::Operations);
        w.u32(rows.len() as u32 + 1);
        let upsert = NewOperation {
            kind: OperationKind::Upsert,
            id: "d",
            partition_key: "[1]",
            if_match: "",
            document: b"{\"id\":\"d\"}",
        };
        w.0.extend_from_slice(&encode_operations(&[upsert])[8..]);
        for row in rows {
            w.u8(ROW);
            w.blob(row);
        }
        w.0
    }

    fn parts(op: &Operation) -> (OperationKind, [String; 4]) {
        let parts = [op.id(), op.partition_key(), op.if_match(), op.body()];
        (
            op.kind,
            parts.map(|part| String::from_utf8(part.to_vec()).unwrap()),
        )
    }

    #[test]
    fn rows_become_operations_and_what_cannot_be_one_is_refused() {
        let encoder = Encoder::new(&plan()).unwrap();
        let rows = [
            row(0, "a", "k", 1.5),
            row(2, "b", "k", f64::NAN),
            row(3, "c", "k", 0.0),
            row(0, "long", "key", 123_456.75),
        ];
        let all = decode(&frame(&rows), &encoder, 34, &Rules::plain(&["/pk"])).unwrap();
        let found: Vec<_> = all.iter().map(parts).collect();
        let op = |kind, parts: [&str; 4]| (kind, parts.map(str::to_owned));
        assert_eq!(
            found,
            [
                op(OperationKind::Upsert, ["d", "[1]", "", "{\"id\":\"d\"}"]),
                op(
                    OperationKind::Default,
                    ["", "", "", "{\"id\":\"a\",\"pk\":\"k\",\"n\":1.5}"]
                ),
                op(
                    OperationKind::Refused,
                    [
                        "b",
                        "[\"k\"]",
                        "column 'n' is NaN, a number that JSON does not have",
                        ""
                    ]
                ),
                op(OperationKind::Delete, ["", "", "", "{\"id\":\"c\",\"pk\":\"k\"}"]),
                op(
                    OperationKind::Refused,
                    [
                        "long",
                        "[\"key\"]",
                        "the document is too large: it has 38 bytes, and sink.max-record-size is 34",
                        "{\"id\":\"long\",\"pk\":\"key\",\"n\":123456.75}"
                    ]
                ),
            ]
        );
        // In state, no id is taken out, and nothing is too large yet.
        let state = encode_rows(&plan(), &frame(&rows)).unwrap();
        let state: Vec<_> = decode_operations(state).unwrap().iter().map(parts).collect();
        assert_eq!(state[..2], found[..2]);
        assert_eq!((state[2].0, state[2].1[0].as_str()), (OperationKind::Refused, ""));
        assert_eq!(state[4].0, OperationKind::Default);
    }

    #[test]
    fn a_row_that_is_refused_for_what_stands_beside_it_is_known_by_id_and_key() {
        let beside = |name: &str, place: Place, scalar: Scalar| DocumentColumn {
            name: name.into(),
            place,
            kind: scalar.into(),
        };
        let mut plan = plan();
        plan.columns.truncate(2);
        plan.columns.push(beside("ttl", Place::TimeToLive, Scalar::Int));
        plan.columns.push(beside("etag", Place::Etag, Scalar::String));
        let row = |ttl: i32, etag: u8| {
            let mut row = row(0, "a", "k", 0.0);
            row.truncate(24);
            row.extend(i64::from(ttl).to_le_bytes());
            row.extend([etag, 0, 0, 0, 0, 0, 0, 0x81]);
            row
        };
        let rules = Rules::plain(&["/pk"]);
        let made = |plan: &DocumentPlan, row: Vec<u8>| {
            let encoder = Encoder::new(plan).unwrap();
            let all = decode(&frame(&[row]), &encoder, 100, &rules).unwrap();
            parts(&all[1])
        };
        assert_eq!(made(&plan, row(5, b'e')).0, OperationKind::Default);
        for (row, part) in [(row(0, b'e'), "time to live"), (row(5, 0xff), "ETag")] {
            let (kind, [id, key, why, document]) = made(&plan, row);
            assert_eq!(kind, OperationKind::Refused);
            assert_eq!(
                [id.as_str(), key.as_str(), document.as_str()],
                ["a", "[\"k\"]", ""]
            );
            assert!(why.contains(part), "{why}");
        }
        plan.deletion = Deletion::None;
        let mut deleted = row(5, b'e');
        deleted[0] = 3;
        let (kind, [id, key, ..]) = made(&plan, deleted);
        assert_eq!(
            (kind, id.as_str(), key.as_str()),
            (OperationKind::Refused, "a", "[\"k\"]")
        );
    }

    #[test]
    fn damaged_rows_fail_their_submission() {
        let encoder = Encoder::new(&plan()).unwrap();
        let rules = Rules::plain(&["/pk"]);
        let mut short = row(0, "a", "k", 1.0);
        short.truncate(31);
        let error = decode(&frame(&[short]), &encoder, 100, &rules).err().unwrap();
        assert_eq!(error.kind, Kind::State);
        assert!(
            error.message.contains("supports this version of Flink"),
            "{error}"
        );
        let whole = frame(&[row(0, "a", "k", 1.0)]);
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut], &encoder, 100, &rules).is_err(), "{cut}");
        }
        // A sink without a plan.
        let error = decode_operations(whole).err().unwrap();
        assert!(error.message.contains("without a plan"), "{error}");
    }
}
