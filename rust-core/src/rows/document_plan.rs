//! What a DOCUMENT_PLAN frame says: the columns of a table that is written, and what becomes of its rows.

use super::plan::{read_type, unknown, write_type, Scalar, Type, TypeKind, MAX_COLUMNS, MAX_DEPTH};
use super::text::Format;
use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};

/// What is done with a row that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The table has no deletes.
    None,
    /// Its document is taken out.
    Delete,
    /// Its document is written over the stored one: a mark, for a soft delete.
    Update,
}

/// All of them, with the number in the frame: that of the operation.
const DELETIONS: [(Deletion, u8); 3] = [(Deletion::None, 0), (Deletion::Delete, 4), (Deletion::Update, 11)];

/// What a column is of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A field of the document: names from the outside in; none for the document itself.
    Path {
        /// Where it is.
        path: Vec<String>,
        /// Whether it is in the documents of rows that are written.
        written: bool,
        /// Whether it is in those of rows that are deleted.
        deleted: bool,
    },
    /// The ETag that the stored document must have; null: any.
    Etag,
    /// Seconds to live of a document that is written; null: what the container says.
    TimeToLive,
}

const PATH: u8 = 0;
const ETAG: u8 = 1;
const TIME_TO_LIVE: u8 = 2;

/// A column of the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentColumn {
    /// Its name, for people.
    pub name: String,
    /// Where its values go.
    pub place: Place,
    /// Its type.
    pub kind: Type,
}

/// How rows become documents.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentPlan {
    /// How timestamps are written.
    pub format: Format,
    /// What is done with a row that is deleted.
    pub deletion: Deletion,
    /// All columns of the rows, in their order.
    pub columns: Vec<DocumentColumn>,
    /// Fields at the top that all documents of deleted rows have: name and JSON.
    pub constants: Vec<(String, String)>,
}

impl DocumentPlan {
    /// Reads a DOCUMENT_PLAN frame.
    ///
    /// # Errors
    /// State when the frame is damaged or of another build, Config when no documents can be made by it.
    pub fn decode(frame: &[u8]) -> Result<Self> {
        let mut r = FrameReader::open(frame, FrameKind::DocumentPlan)?;
        let format = match r.u8()? {
            1 => Format::Sql,
            2 => Format::Iso,
            other => return Err(unknown("timestamp format", other)),
        };
        let number = r.u8()?;
        let deletion = DELETIONS.iter().find(|(_, n)| *n == number);
        let (deletion, _) = deletion.ok_or_else(|| unknown("deletion", number))?;
        let count = r.u32()? as usize;
        if count > MAX_COLUMNS {
            return Err(CoreError::config(format!(
                "a table of {count} columns; at most {MAX_COLUMNS} can be written"
            )));
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(column(&mut r)?);
        }
        let mut constants = Vec::new();
        for _ in 0..r.u32()? {
            constants.push((r.str()?.to_owned(), r.str()?.to_owned()));
        }
        r.finish()?;
        Ok(DocumentPlan {
            format,
            deletion: *deletion,
            columns,
            constants,
        })
    }

    /// Writes the DOCUMENT_PLAN frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = FrameWriter::new(FrameKind::DocumentPlan);
        w.u8(match self.format {
            Format::Sql => 1,
            Format::Iso => 2,
        });
        let deletion = DELETIONS.iter().find(|(deletion, _)| *deletion == self.deletion);
        w.u8(deletion.map_or(0, |(_, number)| *number));
        w.u32(self.columns.len() as u32);
        for column in &self.columns {
            w.str(&column.name);
            match &column.place {
                Place::Path {
                    path,
                    written,
                    deleted,
                } => {
                    w.u8(PATH);
                    w.u8(u8::from(*written) | (u8::from(*deleted) << 1));
                    w.u32(path.len() as u32);
                    path.iter().for_each(|name| w.str(name));
                }
                Place::Etag => w.u8(ETAG),
                Place::TimeToLive => w.u8(TIME_TO_LIVE),
            }
            write_type(&mut w, &column.kind);
        }
        w.u32(self.constants.len() as u32);
        for (name, json) in &self.constants {
            w.str(name);
            w.str(json);
        }
        w.0
    }
}

fn column(r: &mut FrameReader<'_>) -> Result<DocumentColumn> {
    let name = r.str()?.to_owned();
    let place = match r.u8()? {
        PATH => {
            let documents = r.u8()?;
            let parts = r.u32()? as usize;
            if parts > MAX_DEPTH {
                return Err(CoreError::config(format!(
                    "the path of column '{name}' has {parts} names; at most {MAX_DEPTH} are written"
                )));
            }
            let mut path = Vec::new();
            for _ in 0..parts {
                path.push(r.str()?.to_owned());
            }
            Place::Path {
                path,
                written: documents & 1 != 0,
                deleted: documents & 2 != 0,
            }
        }
        ETAG => Place::Etag,
        TIME_TO_LIVE => Place::TimeToLive,
        other => return Err(unknown("place", other)),
    };
    let kind = read_type(r, &name, 0)?;
    let scalar = |scalar| kind.kind == TypeKind::Scalar(scalar);
    let fits = match &place {
        Place::Path { path, .. } if path.is_empty() => match &kind.kind {
            TypeKind::Scalar(scalar) => matches!(scalar, Scalar::String | Scalar::RawJson | Scalar::Variant),
            TypeKind::Map(_) | TypeKind::Row(_) => true,
            TypeKind::Array(_) => false,
        },
        Place::Path { .. } => true,
        Place::Etag => scalar(Scalar::String),
        Place::TimeToLive => scalar(Scalar::Int),
    };
    if !fits {
        return Err(CoreError::config(format!(
            "column '{name}' is declared with a type that cannot be what it is of a document; a whole document is STRING, VARIANT, ROW or MAP, an ETag STRING, a time to live INT"
        )));
    }
    Ok(DocumentColumn { name, place, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    fn path(names: &[&str], written: bool, deleted: bool) -> Place {
        Place::Path {
            path: names.iter().map(|name| (*name).to_owned()).collect(),
            written,
            deleted,
        }
    }

    fn plan() -> DocumentPlan {
        let column = |name: &str, place: Place, scalar: Scalar| DocumentColumn {
            name: name.into(),
            place,
            kind: scalar.into(),
        };
        DocumentPlan {
            format: Format::Sql,
            deletion: Deletion::Update,
            columns: vec![
                column("n", path(&["n"], true, true), Scalar::Int),
                column("deep", path(&["a", "b/c"], true, false), Scalar::Variant),
                column("all", path(&[], false, false), Scalar::RawJson),
                column("etag", Place::Etag, Scalar::String),
                column("ttl", Place::TimeToLive, Scalar::Int),
            ],
            constants: vec![("gone".into(), "true".into())],
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        for deletion in [Deletion::None, Deletion::Delete, Deletion::Update] {
            let plan = DocumentPlan { deletion, ..plan() };
            assert_eq!(DocumentPlan::decode(&plan.encode()).unwrap(), plan);
        }
        let simple = DocumentPlan {
            columns: plan().columns[..1].to_vec(),
            constants: Vec::new(),
            ..plan()
        };
        assert_eq!(
            simple.encode(),
            [
                1, 0, 17, 0, 1, 11, 1, 0, 0, 0, 1, 0, 0, 0, b'n', 0, 3, 1, 0, 0, 0, 1, 0, 0, 0, b'n', 4, 1,
                0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn what_no_documents_can_be_made_by_is_refused() {
        let with = |place: Place, scalar: Scalar| {
            let mut plan = plan();
            plan.columns.truncate(1);
            plan.columns[0].place = place;
            plan.columns[0].kind = scalar.into();
            plan
        };
        let mut many = plan();
        many.columns = vec![many.columns[0].clone(); MAX_COLUMNS + 1];
        for (plan, part) in [
            (with(path(&[], true, false), Scalar::Bytes), "'n' is declared"),
            (with(Place::Etag, Scalar::Int), "'n' is declared"),
            (with(Place::TimeToLive, Scalar::BigInt), "'n' is declared"),
            (with(path(&["x"; 33], true, false), Scalar::Int), "33 names"),
            (many, "4097 columns"),
        ] {
            let error = DocumentPlan::decode(&plan.encode()).unwrap_err();
            assert_eq!(error.kind, Kind::Config, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_plan_or_an_error(at in 4usize..200, byte: u8, cut in 0usize..200) {
            let mut frame = plan().encode();
            if let Some(b) = frame.get_mut(at) {
                *b = byte;
            }
            frame.truncate(frame.len().max(cut) - cut);
            let _ = DocumentPlan::decode(&frame);
        }
    }
}
