//! What a PLAN frame says: the columns of a table and how documents become its rows.

use std::fmt;

use super::binary::SLOT;
use super::filter::Filter;
use super::text::{Format, Unit};
use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};

/// Most columns of a plan.
pub(super) const MAX_COLUMNS: usize = 4096;

/// How deep a type or a path may be.
pub(super) const MAX_DEPTH: usize = 32;

/// What becomes of a value that does not fit its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OnError {
    /// The job fails.
    Fail = 1,
    /// The innermost value around it that may be null becomes null.
    NullField = 2,
    /// The row is left out.
    SkipRow = 3,
}

/// Which kinds of rows the changes of a document become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Changelog {
    /// Each version is a new row, and a delete none.
    Append = 1,
    /// A version takes the place of the one before, and a delete takes it away.
    Upsert = 2,
    /// Each change is a new row, deletes too.
    Log = 3,
}

/// What the feed knows of a change beside the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Metadata {
    /// When the document was changed, or deleted.
    Timestamp = 1,
    /// Its id.
    Id = 2,
    /// Its partition key, a JSON array.
    PartitionKey = 3,
    /// The number of the write.
    Lsn = 4,
    /// What was done, in a word.
    Operation = 5,
    /// When the change was committed.
    Committed = 6,
    /// Whether its time to live ended it.
    Expired = 7,
    /// When the page arrived.
    Arrived = 8,
    /// The split that the change was read from.
    SplitId = 9,
}

impl Metadata {
    const ALL: [Metadata; 9] = [
        Metadata::Timestamp,
        Metadata::Id,
        Metadata::PartitionKey,
        Metadata::Lsn,
        Metadata::Operation,
        Metadata::Committed,
        Metadata::Expired,
        Metadata::Arrived,
        Metadata::SplitId,
    ];

    /// The number of an origin that is a path, and that of one that is a constant.
    const PATH: u8 = 0;
    const CONSTANT: u8 = 10;

    /// The one type that it may be asked for with. A moment has milliseconds at most.
    fn has_type(self, kind: &TypeKind) -> bool {
        match self {
            Metadata::Timestamp | Metadata::Committed | Metadata::Arrived => matches!(
                kind,
                TypeKind::Scalar(Scalar::Timestamp {
                    zoned: true,
                    precision: 0..=3
                })
            ),
            Metadata::Lsn => *kind == TypeKind::Scalar(Scalar::BigInt),
            Metadata::Expired => *kind == TypeKind::Scalar(Scalar::Boolean),
            Metadata::Id | Metadata::PartitionKey | Metadata::Operation | Metadata::SplitId => {
                *kind == TypeKind::Scalar(Scalar::String)
            }
        }
    }
}

/// Where the values of a column come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The document: names from the outside in; none for the document itself.
    Path(Vec<String>),
    /// What the feed knows beside it.
    Metadata(Metadata),
    /// The same text for each row.
    Constant(String),
}

/// A type that has no others in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// True or false.
    Boolean,
    /// A whole number of 8 bits.
    TinyInt,
    /// One of 16 bits.
    SmallInt,
    /// One of 32 bits.
    Int,
    /// One of 64 bits.
    BigInt,
    /// A floating point number of 32 bits.
    Float,
    /// One of 64 bits.
    Double,
    /// A decimal number.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point, at most as many.
        scale: u8,
    },
    /// Text of any length.
    String,
    /// Bytes of any length.
    Bytes,
    /// A day.
    Date,
    /// A time of the day.
    Time {
        /// Digits behind the second, 0 to 9.
        precision: u8,
    },
    /// A moment.
    Timestamp {
        /// Digits behind the second, 0 to 9.
        precision: u8,
        /// Whether it is one on the time line, and not on some clock.
        zoned: bool,
    },
    /// Any JSON value, parsed.
    Variant,
    /// The text of any JSON value, as it stands.
    RawJson,
}

impl Scalar {
    /// Bytes of the slot of such a value in an array.
    pub fn width(self) -> usize {
        match self {
            Scalar::Boolean | Scalar::TinyInt => 1,
            Scalar::SmallInt => 2,
            Scalar::Int | Scalar::Float | Scalar::Date | Scalar::Time { .. } => 4,
            _ => SLOT,
        }
    }
}

/// What a type is, nulls aside.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeKind {
    /// One that has no others in it.
    Scalar(Scalar),
    /// Elements of a type.
    Array(Box<Type>),
    /// Values of a type by texts.
    Map(Box<Type>),
    /// Fields with their names.
    Row(Vec<(String, Type)>),
}

/// A type of Flink's.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// Whether null is a value of it.
    pub nullable: bool,
}

impl From<Scalar> for Type {
    /// One that may be null.
    fn from(scalar: Scalar) -> Self {
        Type {
            kind: TypeKind::Scalar(scalar),
            nullable: true,
        }
    }
}

impl fmt::Display for Scalar {
    /// As in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Scalar::Boolean => "BOOLEAN",
            Scalar::TinyInt => "TINYINT",
            Scalar::SmallInt => "SMALLINT",
            Scalar::Int => "INT",
            Scalar::BigInt => "BIGINT",
            Scalar::Float => "FLOAT",
            Scalar::Double => "DOUBLE",
            Scalar::Decimal { precision, scale } => return write!(f, "DECIMAL({precision}, {scale})"),
            Scalar::String | Scalar::RawJson => "STRING",
            Scalar::Bytes => "BYTES",
            Scalar::Date => "DATE",
            Scalar::Time { precision } => return write!(f, "TIME({precision})"),
            Scalar::Timestamp { precision, zoned } => {
                let zone = if *zoned { "_LTZ" } else { "" };
                return write!(f, "TIMESTAMP{zone}({precision})");
            }
            Scalar::Variant => "VARIANT",
        };
        f.write_str(name)
    }
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, for people.
    pub name: String,
    /// Where its values come from.
    pub origin: Origin,
    /// Its type.
    pub kind: Type,
}

/// How documents become rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whether a field that is missing does not fit.
    pub missing_is_error: bool,
    /// What becomes of what does not fit.
    pub on_error: OnError,
    /// How timestamps are written.
    pub format: Format,
    /// What numbers count where timestamps are expected.
    pub unit: Unit,
    /// What kinds of rows there are.
    pub changelog: Changelog,
    /// The columns, in the order of the row.
    pub columns: Vec<Column>,
    /// What must be true of a row; without it all of them pass.
    pub filter: Option<Filter>,
}

pub(super) fn unknown(what: &str, number: u8) -> CoreError {
    CoreError::state(format!(
        "{what} {number} of a plan is not known; use the same version of jar and library"
    ))
}

impl Plan {
    /// Reads a PLAN frame.
    ///
    /// # Errors
    /// State when the frame is damaged or of another build, Config when no rows can be made by it.
    pub fn decode(frame: &[u8]) -> Result<Self> {
        let mut r = FrameReader::open(frame, FrameKind::Plan)?;
        let missing_is_error = r.u8()? & 1 != 0;
        let on_error = match r.u8()? {
            1 => OnError::Fail,
            2 => OnError::NullField,
            3 => OnError::SkipRow,
            other => return Err(unknown("error policy", other)),
        };
        let format = match r.u8()? {
            1 => Format::Sql,
            2 => Format::Iso,
            other => return Err(unknown("timestamp format", other)),
        };
        let unit = match r.u8()? {
            0 => Unit::None,
            1 => Unit::Seconds,
            2 => Unit::Millis,
            3 => Unit::Micros,
            4 => Unit::Nanos,
            other => return Err(unknown("unit", other)),
        };
        let changelog = match r.u8()? {
            1 => Changelog::Append,
            2 => Changelog::Upsert,
            3 => Changelog::Log,
            other => return Err(unknown("changelog", other)),
        };
        let columns = columns(&mut r)?;
        // A plan of which all rows pass ends here.
        let filter = match r.position() < frame.len() {
            false => None,
            true => {
                let own = self::columns(&mut r)?;
                Some(Filter::read(&mut r, &columns, own)?)
            }
        };
        r.finish()?;
        if missing_is_error && on_error == OnError::NullField {
            return Err(CoreError::config(
                "json.fail-on-missing-field is set, and json.on-error makes null of what fails; set one of them",
            ));
        }
        Ok(Plan {
            missing_is_error,
            on_error,
            format,
            unit,
            changelog,
            columns,
            filter,
        })
    }

    /// Writes the PLAN frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = FrameWriter::new(FrameKind::Plan);
        w.u8(u8::from(self.missing_is_error));
        w.u8(self.on_error as u8);
        w.u8(match self.format {
            Format::Sql => 1,
            Format::Iso => 2,
        });
        w.u8(match self.unit {
            Unit::None => 0,
            Unit::Seconds => 1,
            Unit::Millis => 2,
            Unit::Micros => 3,
            Unit::Nanos => 4,
        });
        w.u8(self.changelog as u8);
        write_columns(&mut w, &self.columns);
        if let Some(filter) = &self.filter {
            write_columns(&mut w, &filter.columns);
            filter.write(&mut w);
        }
        w.0
    }
}

fn write_columns(w: &mut FrameWriter, columns: &[Column]) {
    w.u32(columns.len() as u32);
    for column in columns {
        w.str(&column.name);
        match &column.origin {
            Origin::Path(path) => {
                w.u8(Metadata::PATH);
                w.u32(path.len() as u32);
                path.iter().for_each(|name| w.str(name));
            }
            Origin::Metadata(metadata) => w.u8(*metadata as u8),
            Origin::Constant(value) => {
                w.u8(Metadata::CONSTANT);
                w.str(value);
            }
        }
        write_type(w, &column.kind);
    }
}

fn columns(r: &mut FrameReader<'_>) -> Result<Vec<Column>> {
    let count = r.u32()? as usize;
    if count > MAX_COLUMNS {
        return Err(CoreError::config(format!(
            "a table of {count} columns; at most {MAX_COLUMNS} can be read"
        )));
    }
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(column(r)?);
    }
    Ok(columns)
}

fn column(r: &mut FrameReader<'_>) -> Result<Column> {
    let name = r.str()?.to_owned();
    let origin = match r.u8()? {
        Metadata::PATH => {
            let parts = r.u32()? as usize;
            if parts > MAX_DEPTH {
                return Err(CoreError::config(format!(
                    "the path of column '{name}' has {parts} names; at most {MAX_DEPTH} are read"
                )));
            }
            let mut path = Vec::new();
            for _ in 0..parts {
                path.push(r.str()?.to_owned());
            }
            Origin::Path(path)
        }
        Metadata::CONSTANT => Origin::Constant(r.str()?.to_owned()),
        number => match Metadata::ALL.into_iter().find(|m| *m as u8 == number) {
            Some(metadata) => Origin::Metadata(metadata),
            None => return Err(unknown("origin", number)),
        },
    };
    let kind = read_type(r, &name, 0)?;
    let fits = match &origin {
        Origin::Path(_) => true,
        Origin::Metadata(metadata) => metadata.has_type(&kind.kind),
        Origin::Constant(_) => kind.kind == TypeKind::Scalar(Scalar::String),
    };
    if !fits {
        return Err(CoreError::config(format!(
            "the metadata column '{name}' is declared with another type than the metadata has"
        )));
    }
    Ok(Column { name, origin, kind })
}

pub(super) fn read_type(r: &mut FrameReader<'_>, column: &str, depth: usize) -> Result<Type> {
    if depth >= MAX_DEPTH {
        return Err(CoreError::config(format!(
            "the type of column '{column}' is deeper than {MAX_DEPTH} levels; read what is below as VARIANT or STRING"
        )));
    }
    let (code, nullable) = (r.u8()?, r.u8()? & 1 != 0);
    let precision = |r: &mut FrameReader<'_>| match r.u8()? {
        precision @ 0..=9 => Ok(precision),
        other => Err(CoreError::config(format!(
            "column '{column}' has times with {other} digits behind the second; at most 9 are possible"
        ))),
    };
    let scalar = match code {
        1 => Scalar::Boolean,
        2 => Scalar::TinyInt,
        3 => Scalar::SmallInt,
        4 => Scalar::Int,
        5 => Scalar::BigInt,
        6 => Scalar::Float,
        7 => Scalar::Double,
        8 => {
            let (precision, scale) = (r.u8()?, r.u8()?);
            if !(1..=38).contains(&precision) || scale > precision {
                return Err(CoreError::config(format!(
                    "column '{column}' has DECIMAL({precision}, {scale}); at most 38 digits are possible, and no more behind the point than in all"
                )));
            }
            Scalar::Decimal { precision, scale }
        }
        9 => Scalar::String,
        10 => Scalar::Bytes,
        11 => Scalar::Date,
        12 => Scalar::Time {
            precision: precision(r)?,
        },
        13 | 14 => Scalar::Timestamp {
            precision: precision(r)?,
            zoned: code == 14,
        },
        18 => Scalar::Variant,
        19 => Scalar::RawJson,
        15 => {
            let element = read_type(r, column, depth + 1)?;
            return Ok(Type {
                kind: TypeKind::Array(Box::new(element)),
                nullable,
            });
        }
        16 => {
            let key = read_type(r, column, depth + 1)?;
            if key.kind != TypeKind::Scalar(Scalar::String) {
                return Err(CoreError::config(format!(
                    "column '{column}' has a MAP whose keys are no texts; names in JSON are"
                )));
            }
            let value = read_type(r, column, depth + 1)?;
            return Ok(Type {
                kind: TypeKind::Map(Box::new(value)),
                nullable,
            });
        }
        17 => {
            let count = r.u32()? as usize;
            if count > MAX_COLUMNS {
                return Err(CoreError::config(format!(
                    "column '{column}' has a ROW of {count} fields; at most {MAX_COLUMNS} can be read"
                )));
            }
            let mut fields = Vec::new();
            for _ in 0..count {
                let name = r.str()?.to_owned();
                fields.push((name, read_type(r, column, depth + 1)?));
            }
            return Ok(Type {
                kind: TypeKind::Row(fields),
                nullable,
            });
        }
        other => return Err(unknown("type", other)),
    };
    Ok(Type {
        kind: TypeKind::Scalar(scalar),
        nullable,
    })
}

/// Appends a TYPE.
pub(crate) fn write_type(w: &mut FrameWriter, kind: &Type) {
    let mut head = |code: u8| {
        w.u8(code);
        w.u8(u8::from(kind.nullable));
    };
    match &kind.kind {
        TypeKind::Scalar(scalar) => {
            head(match scalar {
                Scalar::Boolean => 1,
                Scalar::TinyInt => 2,
                Scalar::SmallInt => 3,
                Scalar::Int => 4,
                Scalar::BigInt => 5,
                Scalar::Float => 6,
                Scalar::Double => 7,
                Scalar::Decimal { .. } => 8,
                Scalar::String => 9,
                Scalar::Bytes => 10,
                Scalar::Date => 11,
                Scalar::Time { .. } => 12,
                Scalar::Timestamp { zoned: false, .. } => 13,
                Scalar::Timestamp { zoned: true, .. } => 14,
                Scalar::Variant => 18,
                Scalar::RawJson => 19,
            });
            match scalar {
                Scalar::Decimal { precision, scale } => {
                    w.u8(*precision);
                    w.u8(*scale);
                }
                Scalar::Time { precision } | Scalar::Timestamp { precision, .. } => w.u8(*precision),
                _ => {}
            }
        }
        TypeKind::Array(element) => {
            head(15);
            write_type(w, element);
        }
        TypeKind::Map(value) => {
            head(16);
            let key = Type {
                nullable: false,
                ..Scalar::String.into()
            };
            write_type(w, &key);
            write_type(w, value);
        }
        TypeKind::Row(fields) => {
            head(17);
            w.u32(fields.len() as u32);
            for (name, kind) in fields {
                w.str(name);
                write_type(w, kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::rows::filter::{Comparison, Literal, Operand, Part, Predicate};
    use proptest::prelude::*;

    fn plan(columns: Vec<Column>) -> Plan {
        Plan {
            missing_is_error: false,
            on_error: OnError::SkipRow,
            format: Format::Iso,
            unit: Unit::Millis,
            changelog: Changelog::Upsert,
            columns,
            filter: None,
        }
    }

    fn column(name: &str, origin: Origin, kind: impl Into<Type>) -> Column {
        Column {
            name: name.into(),
            origin,
            kind: kind.into(),
        }
    }

    fn whole() -> Plan {
        let scalars = [
            Scalar::Boolean,
            Scalar::TinyInt,
            Scalar::SmallInt,
            Scalar::Int,
            Scalar::BigInt,
            Scalar::Float,
            Scalar::Double,
            Scalar::Decimal {
                precision: 38,
                scale: 38,
            },
            Scalar::String,
            Scalar::Bytes,
            Scalar::Date,
            Scalar::Time { precision: 0 },
            Scalar::Timestamp {
                precision: 9,
                zoned: false,
            },
            Scalar::Timestamp {
                precision: 3,
                zoned: true,
            },
            Scalar::Variant,
            Scalar::RawJson,
        ];
        let fields = scalars.map(|s| (s.to_string(), Type::from(s)));
        let nested = |kind| Type {
            kind,
            nullable: false,
        };
        let row = nested(TypeKind::Row(fields.into()));
        let map = nested(TypeKind::Map(Box::new(row)));
        let array = nested(TypeKind::Array(Box::new(map)));
        let mut columns = vec![
            column("deep", Origin::Path(vec!["a".into(), "b/c".into()]), array),
            column("all", Origin::Path(vec![]), Scalar::Variant),
            column("where", Origin::Constant("db".into()), Scalar::String),
        ];
        for metadata in Metadata::ALL {
            let kind = match metadata {
                Metadata::Timestamp | Metadata::Committed | Metadata::Arrived => Scalar::Timestamp {
                    precision: 3,
                    zoned: true,
                },
                Metadata::Lsn => Scalar::BigInt,
                Metadata::Expired => Scalar::Boolean,
                _ => Scalar::String,
            };
            columns.push(column("m", Origin::Metadata(metadata), kind));
        }
        let filter = filter(columns.len() as u32);
        Plan {
            filter: Some(filter),
            ..plan(columns)
        }
    }

    /// A filter with one of each predicate and literal, over columns of its own whose numbers begin here.
    fn filter(first: u32) -> Filter {
        let kinds = [
            Scalar::Boolean,
            Scalar::Int,
            Scalar::Double,
            Scalar::Decimal {
                precision: 20,
                scale: 2,
            },
            Scalar::String,
            Scalar::Timestamp {
                precision: 9,
                zoned: true,
            },
        ];
        let inner = kinds.iter().map(|kind| (kind.to_string(), Type::from(*kind)));
        let row = Type {
            kind: TypeKind::Row(inner.collect()),
            nullable: true,
        };
        let of = |number: u32| Operand {
            column: first,
            fields: vec![number],
        };
        let compare = |comparison, number, literal| Predicate::Compare(comparison, of(number), literal);
        let text = |text: &str| Literal::Text(text.into());
        Filter {
            columns: vec![column("r", Origin::Path(vec!["r".into()]), row)],
            predicate: Predicate::Any(vec![
                Predicate::All(vec![
                    Predicate::Null(of(1)),
                    Predicate::True(of(0)),
                    Predicate::Is(false, Box::new(Predicate::Not(Box::new(Predicate::True(of(0)))))),
                    Predicate::Is(true, Box::new(Predicate::Has(Part::End, of(4), "a".into()))),
                ]),
                compare(Comparison::Equal, 0, Literal::Bool(true)),
                compare(Comparison::NotEqual, 1, Literal::Whole(-1)),
                compare(Comparison::Less, 2, Literal::Double(-0.5)),
                compare(Comparison::LessOrEqual, 2, Literal::Ordered(0.5)),
                compare(
                    Comparison::Greater,
                    3,
                    Literal::Decimal(-(10i128.pow(38) - 1), 38),
                ),
                compare(Comparison::GreaterOrEqual, 5, Literal::Moment(-1, 999_999)),
                Predicate::In(of(4), vec![text(""), text("ä")]),
            ]),
        }
    }

    #[test]
    fn a_filter_about_what_is_not_there_or_of_another_type_is_refused() {
        let of = |column| Operand {
            column,
            fields: Vec::new(),
        };
        let plan = |predicate| Plan {
            filter: Some(Filter {
                columns: Vec::new(),
                predicate,
            }),
            ..plan(vec![column("n", Origin::Path(vec!["n".into()]), Scalar::Int)])
        };
        let equal = |operand, literal| Predicate::Compare(Comparison::Equal, operand, literal);
        let mut deep = Predicate::Null(of(0));
        for _ in 0..64 {
            deep = Predicate::Not(Box::new(deep));
        }
        let inside = Operand {
            column: 0,
            fields: vec![0],
        };
        for (predicate, part) in [
            (Predicate::Null(of(1)), "a column"),
            (Predicate::Null(inside), "a field"),
            (Predicate::True(of(0)), "a literal"),
            (Predicate::Has(Part::Start, of(0), "a".into()), "a literal"),
            (equal(of(0), Literal::Double(1.0)), "a literal"),
            (equal(of(0), Literal::Decimal(10i128.pow(38), 0)), "a decimal"),
            (deep, "deeper than 64"),
        ] {
            let error = Plan::decode(&plan(predicate).encode()).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
        Plan::decode(&plan(equal(of(0), Literal::Whole(1))).encode()).unwrap();
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = whole();
        assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
        // Of a table that is only counted, no column is asked for.
        let none = super::tests::plan(vec![]);
        assert_eq!(Plan::decode(&none.encode()).unwrap(), none);
        let simple = super::tests::plan(vec![column("n", Origin::Path(vec!["n".into()]), Scalar::Int)]);
        assert_eq!(
            simple.encode(),
            [
                1, 0, 15, 0, 0, 3, 2, 2, 2, 1, 0, 0, 0, 1, 0, 0, 0, b'n', 0, 1, 0, 0, 0, 1, 0, 0, 0, b'n', 4,
                1
            ]
        );
    }

    #[test]
    fn what_no_rows_can_be_made_by_is_refused() {
        let one = |kind: Type| plan(vec![column("c", Origin::Path(vec!["c".into()]), kind)]);
        let decimal = Scalar::Decimal {
            precision: 39,
            scale: 0,
        };
        let mut deep = Type::from(Scalar::Int);
        for _ in 0..MAX_DEPTH {
            deep = Type {
                kind: TypeKind::Array(Box::new(deep)),
                nullable: true,
            };
        }
        let mistyped = column("c", Origin::Metadata(Metadata::Lsn), Scalar::String);
        let contradiction = Plan {
            missing_is_error: true,
            on_error: OnError::NullField,
            ..one(Scalar::Int.into())
        };
        for (plan, part) in [
            (one(decimal.into()), "DECIMAL(39, 0)"),
            (one(Scalar::Time { precision: 10 }.into()), "10 digits"),
            (one(deep), "deeper than 32"),
            (plan(vec![mistyped.clone(); 4097]), "4097 columns"),
            (plan(vec![mistyped]), "another type"),
            (contradiction, "json.fail-on-missing-field"),
        ] {
            let error = Plan::decode(&plan.encode()).unwrap_err();
            assert_eq!(error.kind, Kind::Config, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_plan_or_an_error(at in 4usize..1000, byte: u8, cut in 0usize..1000) {
            let mut frame = whole().encode();
            if let Some(b) = frame.get_mut(at) {
                *b = byte;
            }
            frame.truncate(frame.len().max(cut) - cut);
            let _ = Plan::decode(&frame);
        }
    }
}
