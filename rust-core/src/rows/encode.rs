//! Documents out of Flink's rows, by a plan: the JSON is written straight from a row's bytes, without a tree.
//!
//! Nulls are written, so that all documents of a plan have the same fields: what is between two columns is one text, made when the plan is compiled. A row
//! may claim to be much more than its bytes (elements of arrays that lie in one place), so that a document has a size at which writing it is given up.

use super::document_plan::{Deletion, DocumentColumn, DocumentPlan, Place};
use super::json_out::{self, Hex};
use super::layout::{Damaged, Values};
use super::plan::{Scalar, Type, TypeKind};
use super::text::Format;
use super::variant_json::{self, NoJson};
use crate::error::{CoreError, Result as CoreResult};
use crate::json::{segment, Broken, Scan, Scanner};

/// The field of a document that says how long it lives.
const TIME_TO_LIVE: &str = "ttl";

const MILLIS: i64 = 1000;
const NANOS_OF_MILLI: u32 = 1_000_000;
const DAY_MILLIS: i32 = 86_400_000;

/// Kinds of rows, as Flink numbers them.
const UPDATE_BEFORE: u8 = 1;
const DELETE: u8 = 3;

/// Why there is no document of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDocument {
    /// Its bytes are none of a row of these columns: what follows would not be either.
    Damaged(&'static str),
    /// It has a value of which no document can be made; the sentence says which.
    Value(String),
    /// Its document would be larger than is allowed.
    TooLong,
}

impl From<Damaged> for NoDocument {
    fn from(damaged: Damaged) -> Self {
        NoDocument::Damaged(damaged.0)
    }
}

type Made<T> = Result<T, NoDocument>;

/// What a row says beside its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What is done where the row is deleted; `None`: it is written.
    pub deletion: Option<Deletion>,
    /// The ETag that the stored document must have; empty: any.
    pub etag: &'a str,
}

/// What becomes of a value that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// There is no document.
    Refuse,
    /// It is null, as if it were not known, and what is said beside the document is left out: to find out which document it would be.
    Null,
}

/// A plan that documents are written by.
#[derive(Debug)]
pub struct Encoder {
    columns: usize,
    format: Format,
    deletion: Deletion,
    written: Document,
    deleted: Document,
    etag: Option<usize>,
    time_to_live: Option<usize>,
}

/// What a document is made of.
#[derive(Debug)]
enum Document {
    /// One column is all of it.
    Whole(Field),
    /// Columns and the texts in front of them, and the one behind the last.
    Fields(Vec<(Vec<u8>, Field)>, Vec<u8>),
}

/// A column of a row, or a field of a ROW.
#[derive(Debug)]
struct Field {
    /// Where it is in the row.
    number: usize,
    value: Value,
}

/// How a value is written.
#[derive(Debug)]
struct Value {
    /// Its column, for people.
    name: String,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Scalar(Scalar),
    /// Its elements.
    Array(Box<Value>, usize),
    /// Its values.
    Map(Box<Value>, usize),
    /// Its fields, each with the text in front of it.
    Row(Vec<(Vec<u8>, Value)>),
}

/// Bytes of a value's slot in an array.
fn width(kind: &TypeKind) -> usize {
    match kind {
        TypeKind::Scalar(scalar) => scalar.width(),
        _ => super::binary::SLOT,
    }
}

impl Value {
    fn of(name: &str, kind: &Type) -> Value {
        let inner = |kind: &Type| (Box::new(Value::of(name, kind)), width(&kind.kind));
        let form = match &kind.kind {
            TypeKind::Scalar(scalar) => Form::Scalar(*scalar),
            TypeKind::Array(element) => {
                let (element, width) = inner(element);
                Form::Array(element, width)
            }
            TypeKind::Map(value) => {
                let (value, width) = inner(value);
                Form::Map(value, width)
            }
            TypeKind::Row(fields) => {
                let field = |(at, (field, kind)): (usize, &(String, Type))| {
                    let mut text = vec![if at == 0 { b'{' } else { b',' }];
                    push_name(&mut text, field);
                    (text, Value::of(&format!("{name}.{field}"), kind))
                };
                Form::Row(fields.iter().enumerate().map(field).collect())
            }
        };
        Value {
            name: name.to_owned(),
            form,
        }
    }
}

fn push_name(text: &mut Vec<u8>, name: &str) {
    json_out::string(text, name.as_bytes(), Hex::Lower);
    text.push(b':');
}

/// The fields of an object while they are being found, in the order in which they came.
enum Part<'p> {
    Column(usize, &'p DocumentColumn),
    Constant(&'p str),
    Object(Vec<(&'p str, Part<'p>)>),
}

fn clash(column: &DocumentColumn, path: &[String]) -> CoreError {
    let pointer: String = path.iter().map(|name| segment(name)).collect();
    CoreError::config(format!(
        "column '{}' is at {pointer}, and another one is there, around it or inside of it; a field is one column",
        column.name
    ))
}

fn add<'p>(
    fields: &mut Vec<(&'p str, Part<'p>)>,
    number: usize,
    column: &'p DocumentColumn,
    whole: &'p [String],
    path: &'p [String],
) -> CoreResult<()> {
    let Some((name, inner)) = path.split_first() else {
        return Err(clash(column, whole));
    };
    let there = fields.iter().position(|(n, _)| n == name);
    if inner.is_empty() {
        if there.is_some() {
            return Err(clash(column, whole));
        }
        fields.push((name, Part::Column(number, column)));
        return Ok(());
    }
    let at = there.unwrap_or_else(|| {
        fields.push((name, Part::Object(Vec::new())));
        fields.len() - 1
    });
    match &mut fields[at].1 {
        Part::Object(object) => add(object, number, column, whole, inner),
        _ => Err(clash(column, whole)),
    }
}

/// Appends what an object is made of; `text` is what stands in front of the next column.
fn flatten(fields: &[(&str, Part<'_>)], text: &mut Vec<u8>, out: &mut Vec<(Vec<u8>, Field)>) {
    text.push(b'{');
    for (at, (name, part)) in fields.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        push_name(text, name);
        match part {
            Part::Column(number, column) => {
                let field = Field {
                    number: *number,
                    value: Value::of(&column.name, &column.kind),
                };
                out.push((std::mem::take(text), field));
            }
            Part::Constant(json) => text.extend_from_slice(json.as_bytes()),
            Part::Object(inner) => flatten(inner, text, out),
        }
    }
    text.push(b'}');
}

impl Document {
    /// Of these columns and constants.
    fn of(plan: &DocumentPlan, deleted: bool) -> CoreResult<Document> {
        let mut columns = Vec::new();
        for (number, column) in plan.columns.iter().enumerate() {
            match &column.place {
                Place::Path {
                    path,
                    written,
                    deleted: of_deleted,
                } if *(if deleted { of_deleted } else { written }) => columns.push((number, column, path)),
                _ => {}
            }
        }
        let constants: &[_] = if deleted { &plan.constants } else { &[] };
        if let Some((number, column, _)) = columns.iter().find(|(.., path)| path.is_empty()) {
            return match columns.len() + constants.len() {
                1 => Ok(Document::Whole(Field {
                    number: *number,
                    value: Value::of(&column.name, &column.kind),
                })),
                _ => Err(CoreError::config(format!(
                    "column '{}' is the whole document (its path is empty), and there are others; what is written is either one document or columns",
                    column.name
                ))),
            };
        }
        let mut fields = Vec::new();
        for (number, column, path) in columns {
            add(&mut fields, number, column, path, path)?;
        }
        for (name, json) in constants {
            if fields.iter().any(|(n, _)| n == name) {
                return Err(CoreError::config(format!(
                    "'/{name}' is a column already, and is written otherwise; give it another name"
                )));
            }
            fields.push((name, Part::Constant(json)));
        }
        let (mut text, mut out) = (Vec::new(), Vec::new());
        flatten(&fields, &mut text, &mut out);
        Ok(Document::Fields(out, text))
    }
}

impl Encoder {
    /// Compiles a plan.
    ///
    /// # Errors
    /// Config when two columns stand in each other's way, also where one of them is the time to live.
    pub fn new(plan: &DocumentPlan) -> CoreResult<Encoder> {
        let find = |place: Place| plan.columns.iter().position(|column| column.place == place);
        let time_to_live = find(Place::TimeToLive);
        let is_ttl = |place: &Place| matches!(place, Place::Path { path, written: true, .. } if path.first().is_some_and(|name| name == TIME_TO_LIVE));
        let own = plan.columns.iter().find(|column| is_ttl(&column.place));
        if let (Some(metadata), Some(own)) = (time_to_live, own) {
            return Err(CoreError::config(format!(
                "column '{}' is the time to live, which is the field '{TIME_TO_LIVE}' of a document, and column '{}' is there too; leave one of them out",
                plan.columns[metadata].name, own.name
            )));
        }
        Ok(Encoder {
            columns: plan.columns.len(),
            format: plan.format,
            deletion: plan.deletion,
            written: Document::of(plan, false)?,
            deleted: Document::of(plan, true)?,
            etag: find(Place::Etag),
            time_to_live,
        })
    }

    /// Appends the document of a row, which has at most so many bytes.
    ///
    /// # Errors
    /// When there is none; what was appended until then stays.
    pub fn append<'a>(
        &self,
        row: &'a [u8],
        most: usize,
        misfit: Misfit,
        out: &mut Vec<u8>,
    ) -> Made<Change<'a>> {
        let values = Values::row(row, self.columns)?;
        // A row without a byte would have been refused.
        let deletion = match row[0] {
            0 | 2 => None,
            UPDATE_BEFORE | DELETE if self.deletion == Deletion::None && misfit == Misfit::Refuse => {
                return Err(NoDocument::Value(
                    "a table without a primary key takes no deletes".to_owned(),
                ))
            }
            // Flink sends what was before an update where the primary key has more columns than the rows' own key: the update may have
            // another primary key, and then it is another document.
            UPDATE_BEFORE | DELETE => Some(self.deletion),
            _ => return Err(NoDocument::Damaged("a row is of no kind")),
        };
        let start = out.len();
        let mut writer = Writer {
            end: start.saturating_add(most),
            format: self.format,
            misfit,
            out,
        };
        match deletion {
            // Where nothing is deleted, such a row is refused, and is that of the document that it names.
            None | Some(Deletion::None) => writer.document(&self.written, &values)?,
            Some(_) => writer.document(&self.deleted, &values)?,
        }
        let all = misfit == Misfit::Refuse;
        if let (None, Some(column)) = (deletion, self.time_to_live.filter(|_| all)) {
            if !values.is_null(column) {
                let is_whole = matches!(self.written, Document::Whole(_));
                writer.time_to_live(start, i32::from_le_bytes(values.fixed(column)), is_whole)?;
            }
        }
        writer.room(0)?;
        Ok(Change {
            deletion,
            etag: if all { self.etag(&values)? } else { "" },
        })
    }

    fn etag<'a>(&self, values: &Values<'a>) -> Made<&'a str> {
        match self.etag {
            Some(column) if !values.is_null(column) => std::str::from_utf8(values.binary(column)?)
                .map_err(|_| NoDocument::Value("the ETag is no UTF-8".to_owned())),
            _ => Ok(""),
        }
    }
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Where the document has to end.
    end: usize,
    format: Format,
    misfit: Misfit,
}

impl Writer<'_> {
    fn room(&self, more: usize) -> Made<()> {
        match self.out.len().saturating_add(more) <= self.end {
            true => Ok(()),
            false => Err(NoDocument::TooLong),
        }
    }

    fn document(&mut self, document: &Document, row: &Values<'_>) -> Made<()> {
        match document {
            Document::Fields(fields, rest) => {
                for (text, Field { number, value }) in fields {
                    self.out.extend_from_slice(text);
                    self.value(value, row, *number)?;
                }
                self.out.extend_from_slice(rest);
                Ok(())
            }
            Document::Whole(Field { number, value }) if row.is_null(*number) => {
                Err(NoDocument::Value(format!(
                    "column '{}', the whole document, is null; a document is a JSON object",
                    value.name
                )))
            }
            Document::Whole(Field { number, value }) => match value.form {
                // The sink sees whether it is an object.
                Form::Scalar(Scalar::String | Scalar::RawJson) => {
                    let text = row.binary(*number)?;
                    self.room(text.len())?;
                    self.out.extend_from_slice(utf8(value, text)?);
                    Ok(())
                }
                _ => self.value(value, row, *number),
            },
        }
    }

    /// Writes a value, or null in its place.
    fn value(&mut self, value: &Value, values: &Values<'_>, number: usize) -> Made<()> {
        if values.is_null(number) {
            self.out.extend_from_slice(b"null");
            return self.room(0);
        }
        let start = self.out.len();
        match self.some(value, values, number) {
            Err(NoDocument::Value(_)) if self.misfit == Misfit::Null => {
                self.out.truncate(start);
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            made => made,
        }
    }

    fn some(&mut self, value: &Value, values: &Values<'_>, number: usize) -> Made<()> {
        match &value.form {
            Form::Scalar(scalar) => self.scalar(*scalar, value, values, number)?,
            Form::Array(element, width) => {
                let elements = Values::array(values.variable(number)?, *width)?;
                self.out.push(b'[');
                for at in 0..elements.count {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.value(element, &elements, at)?;
                }
                self.out.push(b']');
            }
            Form::Map(inner, width) => {
                let (keys, values) = Values::map(values.variable(number)?, *width)?;
                self.out.push(b'{');
                for at in 0..keys.count {
                    if keys.is_null(at) {
                        return Err(NoDocument::Value(format!(
                            "column '{}' has a key that is null, which a JSON object has not",
                            value.name
                        )));
                    }
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.text(value, keys.binary(at)?)?;
                    self.out.push(b':');
                    self.value(inner, &values, at)?;
                }
                self.out.push(b'}');
            }
            Form::Row(fields) => {
                let row = Values::row(values.variable(number)?, fields.len())?;
                for (at, (text, field)) in fields.iter().enumerate() {
                    self.out.extend_from_slice(text);
                    self.value(field, &row, at)?;
                }
                self.out
                    .extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
            }
        }
        self.room(0)
    }

    fn text(&mut self, value: &Value, text: &[u8]) -> Made<()> {
        self.room(text.len())?;
        json_out::string(self.out, utf8(value, text)?, Hex::Lower);
        Ok(())
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value, values: &Values<'_>, number: usize) -> Made<()> {
        let out = &mut *self.out;
        match scalar {
            Scalar::Boolean => out.extend_from_slice(match values.fixed(number) {
                [0] => b"false",
                _ => b"true",
            }),
            Scalar::TinyInt => json_out::integer(out, i8::from_le_bytes(values.fixed(number)).into()),
            Scalar::SmallInt => json_out::integer(out, i16::from_le_bytes(values.fixed(number)).into()),
            Scalar::Int => json_out::integer(out, i32::from_le_bytes(values.fixed(number)).into()),
            Scalar::BigInt => json_out::integer(out, i64::from_le_bytes(values.fixed(number))),
            Scalar::Float => {
                let float = f32::from_le_bytes(values.fixed(number));
                variant_json::finite(float.is_finite(), float.into()).map_err(|why| of(value, why))?;
                json_out::float(out, float);
            }
            Scalar::Double => {
                let double = f64::from_le_bytes(values.fixed(number));
                variant_json::finite(double.is_finite(), double).map_err(|why| of(value, why))?;
                json_out::float(out, double);
            }
            Scalar::Decimal { precision, scale } => {
                json_out::decimal(out, values.decimal(number, precision)?, scale.into());
            }
            Scalar::String => self.text(value, values.binary(number)?)?,
            Scalar::Bytes => {
                let bytes = values.binary(number)?;
                self.room(bytes.len())?;
                json_out::base64(self.out, bytes);
            }
            Scalar::Date => {
                let days = i32::from_le_bytes(values.fixed(number));
                self.quoted(|out| json_out::date(out, days.into()));
            }
            Scalar::Time { .. } => {
                let millis = i32::from_le_bytes(values.fixed(number));
                if !(0..DAY_MILLIS).contains(&millis) {
                    return Err(NoDocument::Value(format!(
                        "column '{}' is {millis} ms, which is no time of a day",
                        value.name
                    )));
                }
                let nanos = u64::from(millis.unsigned_abs()) * u64::from(NANOS_OF_MILLI);
                self.quoted(|out| json_out::time(out, nanos));
            }
            Scalar::Timestamp { precision, zoned } => {
                let (millis, nanos) = values.timestamp(number, precision)?;
                let nanos = millis.rem_euclid(MILLIS) as u32 * NANOS_OF_MILLI + nanos;
                let format = self.format;
                self.quoted(|out| {
                    json_out::timestamp(out, millis.div_euclid(MILLIS), nanos, format);
                    if zoned {
                        out.push(b'Z');
                    }
                });
            }
            Scalar::Variant => {
                let bytes = values.variable(number)?;
                variant_json::append(bytes, self.out, self.end).map_err(|why| of(value, why))?;
            }
            Scalar::RawJson => {
                let text = values.binary(number)?;
                self.room(text.len())?;
                // What is between others must be one value from its first to its last byte.
                match serde_json::from_slice::<&serde_json::value::RawValue>(text) {
                    Ok(json) => self.out.extend_from_slice(json.get().as_bytes()),
                    Err(e) => {
                        return Err(NoDocument::Value(format!(
                            "column '{}' is no JSON: {e}",
                            value.name
                        )))
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts the time to live behind the last field of the document that begins here.
    /// Appends the time to live. A document that came as a whole may have one of its own, in whose place it is.
    fn time_to_live(&mut self, start: usize, seconds: i32, is_whole: bool) -> Made<()> {
        if seconds < 1 && seconds != -1 {
            return Err(NoDocument::Value(format!(
                "the time to live is {seconds} s; it must be at least 1, or -1 for never"
            )));
        }
        let Some(inner) = self.out[start..].trim_ascii_end().strip_suffix(b"}") else {
            return Err(NoDocument::Value(
                "a document with a time to live must be a JSON object".to_owned(),
            ));
        };
        let is_empty = inner.trim_ascii_end().ends_with(b"{");
        let end = start + inner.len();
        if is_whole {
            // What is no JSON the sink sees.
            let own = values_of(&self.out[start..], TIME_TO_LIVE).unwrap_or_default();
            let text = seconds.to_string();
            for value in own.iter().rev() {
                let place = start + value.start..start + value.end;
                drop(self.out.splice(place, text.bytes()));
            }
            if !own.is_empty() {
                return Ok(());
            }
        }
        self.out.truncate(end);
        if !is_empty {
            self.out.push(b',');
        }
        self.out.extend_from_slice(b"\"ttl\":");
        json_out::integer(self.out, seconds.into());
        self.out.push(b'}');
        Ok(())
    }
}

/// Where the values of an object's fields of this name stand.
fn values_of(object: &[u8], name: &str) -> Scan<Vec<std::ops::Range<usize>>> {
    let mut values = Vec::new();
    let mut scanner = Scanner { bytes: object, at: 0 };
    scanner.object(|key, s| {
        let start = s.at;
        s.value()?;
        if key.is(name) {
            values.push(start..s.at);
        }
        Ok::<_, Broken>(())
    })?;
    Ok(values)
}

/// The text, which has to be one.
fn utf8<'t>(value: &Value, text: &'t [u8]) -> Made<&'t [u8]> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(NoDocument::Value(format!(
            "column '{}' is no text: its bytes are no UTF-8",
            value.name
        ))),
    }
}

/// Names the column.
fn of(value: &Value, why: NoJson) -> NoDocument {
    match why {
        NoJson::Value(why) => NoDocument::Value(format!("column '{}' {why}", value.name)),
        // A variant may come from anywhere, and the row around it is fine.
        NoJson::Damaged(Damaged(why)) => {
            NoDocument::Value(format!("column '{}' has no value of its type: {why}", value.name))
        }
        NoJson::TooLong => NoDocument::TooLong,
    }
}

#[cfg(test)]
mod tests {
    use super::super::binary::tests::hex;
    use super::super::binary::{Buffer, RowKind};
    use super::super::decode::{Change as Fed, Decoder};
    use super::super::plan::{Changelog, Column, OnError, Origin, Plan};
    use super::super::text::Unit;
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;

    fn place(path: &str) -> Place {
        Place::Path {
            path: path
                .split('/')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            written: true,
            deleted: false,
        }
    }

    fn column(name: &str, place: Place, kind: impl Into<Type>) -> DocumentColumn {
        DocumentColumn {
            name: name.into(),
            place,
            kind: kind.into(),
        }
    }

    fn plan(columns: Vec<DocumentColumn>) -> DocumentPlan {
        DocumentPlan {
            format: Format::Iso,
            deletion: Deletion::None,
            columns,
            constants: Vec::new(),
        }
    }

    fn encoded(plan: &DocumentPlan, row: &[u8]) -> Result<String, NoDocument> {
        let mut out = b"before".to_vec();
        let encoder = Encoder::new(plan).unwrap();
        encoder.append(row, 1 << 20, Misfit::Refuse, &mut out)?;
        Ok(String::from_utf8(out.split_off(6)).unwrap())
    }

    /// The JSON of the one column of a row.
    fn json(kind: impl Into<Type>, write: impl FnOnce(&mut Buffer, super::super::binary::Slot)) -> String {
        let mut buffer = Buffer::default();
        let row = buffer.row(RowKind::Insert, 1);
        write(&mut buffer, row.slot(0));
        let document = encoded(&plan(vec![column("c", place("v"), kind)]), &buffer.bytes).unwrap();
        let value = document.strip_prefix("{\"v\":").and_then(|v| v.strip_suffix('}'));
        value.unwrap().to_owned()
    }

    #[test]
    fn every_type_has_its_json() {
        let moment = |precision, zoned| Scalar::Timestamp { precision, zoned };
        let large = Scalar::Decimal {
            precision: 20,
            scale: 2,
        };
        assert_eq!(json(Scalar::Boolean, |b, slot| b.fixed(slot, [1])), "true");
        assert_eq!(json(Scalar::Boolean, |b, slot| b.fixed(slot, [0])), "false");
        assert_eq!(json(Scalar::TinyInt, |b, slot| b.fixed(slot, [0xff])), "-1");
        assert_eq!(
            json(Scalar::SmallInt, |b, slot| b.fixed(slot, 300i16.to_le_bytes())),
            "300"
        );
        assert_eq!(
            json(Scalar::Int, |b, slot| b.fixed(slot, i32::MIN.to_le_bytes())),
            "-2147483648"
        );
        assert_eq!(
            json(Scalar::BigInt, |b, slot| b.fixed(slot, i64::MAX.to_le_bytes())),
            "9223372036854775807"
        );
        assert_eq!(
            json(Scalar::Float, |b, slot| b.fixed(slot, 0.1f32.to_le_bytes())),
            "0.1"
        );
        assert_eq!(
            json(Scalar::Double, |b, slot| b.fixed(slot, 1e300f64.to_le_bytes())),
            "1.0E300"
        );
        assert_eq!(
            json(large, |b, slot| b.decimal(slot, 20, -1_234_567_890_123_456_725)),
            "-12345678901234567.25"
        );
        assert_eq!(
            json(Scalar::String, |b, slot| b.binary(slot, "é\"\u{1}".as_bytes())),
            "\"é\\\"\\u0001\""
        );
        assert_eq!(
            json(Scalar::Bytes, |b, slot| b.binary(slot, &[0, 0xff])),
            "\"AP8=\""
        );
        assert_eq!(
            json(Scalar::Date, |b, slot| b.fixed(slot, 20_512i32.to_le_bytes())),
            "\"2026-02-28\""
        );
        assert_eq!(
            json(Scalar::Time { precision: 3 }, |b, slot| b
                .fixed(slot, 1i32.to_le_bytes())),
            "\"00:00:00.001\""
        );
        assert_eq!(
            json(moment(3, true), |b, slot| b.timestamp(slot, 3, -1, 0)),
            "\"1969-12-31T23:59:59.999Z\""
        );
        assert_eq!(
            json(moment(9, false), |b, slot| b.timestamp(slot, 9, 0, 1)),
            "\"1970-01-01T00:00:00.000000001\""
        );
        assert_eq!(
            json(Scalar::RawJson, |b, slot| b.binary(slot, b" {\"a\": [1]} ")),
            "{\"a\": [1]}"
        );
        let nothing = |b: &mut Buffer, _| b.bytes[1] = 1;
        assert_eq!(json(Scalar::Int, nothing), "null");
        let kind = TypeKind::Row(vec![
            ("sku".into(), Scalar::String.into()),
            ("n".into(), Scalar::Int.into()),
        ]);
        let row = |b: &mut Buffer, slot| {
            let start = b.len();
            let row = b.row(RowKind::Insert, 2);
            b.binary(row.slot(0), b"a");
            b.null(&row, 1);
            b.variable(slot, start);
        };
        let kind = Type { kind, nullable: true };
        assert_eq!(json(kind, row), r#"{"sku":"a","n":null}"#);
    }

    /// The row of `RowLayout` in the table connector, whose bytes its test compares with those that Flink's serializer writes.
    #[test]
    fn rows_of_flink_become_documents() {
        let decimal = Scalar::Decimal {
            precision: 20,
            scale: 2,
        };
        let of = |kind| Type { kind, nullable: true };
        let inner = of(TypeKind::Row(vec![("count".into(), Scalar::BigInt.into())]));
        let row = hex(
            "00 00 01 00 00 00 00 00  01 00 00 00 00 00 00 00  07 00 00 00 00 00 00 00  73 65 76 65 6e 00 00 85
             15 00 00 00 50 00 00 00  08 00 00 00 68 00 00 00  55 f8 06 00 78 00 00 00  18 00 00 00 80 00 00 00
             10 00 00 00 98 00 00 00  00 00 00 00 00 00 00 00  6d 6f 72 65 20 74 68 61  6e 20 73 65 76 65 6e 20
             62 79 74 65 73 00 00 00  11 22 10 f4 7d e9 80 d5  00 00 00 00 00 00 00 00  7b a8 da 76 9b 01 00 00
             03 00 00 00 02 00 00 00  01 00 00 00 00 00 00 00  03 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             05 00 00 00 00 00 00 00",
        );
        let plan = plan(vec![
            column("flag", place("flag"), Scalar::Boolean),
            column("number", place("inside/number"), Scalar::Int),
            column("short", place("short"), Scalar::String),
            column("long", place("inside/long"), Scalar::String),
            column("money", place("money"), decimal),
            column(
                "moment",
                place("moment"),
                Scalar::Timestamp {
                    precision: 9,
                    zoned: false,
                },
            ),
            column(
                "list",
                place("list"),
                of(TypeKind::Array(Box::new(Scalar::Int.into()))),
            ),
            column("inner", place("inner"), inner),
            column("missing", place("missing"), Scalar::Double),
        ]);
        let document = encoded(&plan, &row).unwrap();
        assert_eq!(
            document,
            concat!(
                r#"{"flag":true,"inside":{"number":7,"long":"more than seven bytes"},"short":"seven","#,
                r#""money":12345678901234567.25,"moment":"2026-01-01T00:00:00.123456789","#,
                r#""list":[1,null,3],"inner":{"count":5},"missing":null}"#
            )
        );
    }

    #[test]
    fn what_becomes_of_a_row_is_in_its_first_byte() {
        let key = Place::Path {
            path: vec!["id".into()],
            written: true,
            deleted: true,
        };
        let mut plan = plan(vec![
            column("id", key, Scalar::String),
            column("n", place("n"), Scalar::Int),
            column("etag", Place::Etag, Scalar::String),
            column("ttl", Place::TimeToLive, Scalar::Int),
        ]);
        plan.deletion = Deletion::Update;
        plan.constants = vec![("gone".into(), "true".into()), ("ttl".into(), "5".into())];
        let row = |kind: u8, ttl: Option<i32>, etag: &[u8]| {
            let mut b = Buffer::default();
            let row = b.row(RowKind::Insert, 4);
            b.binary(row.slot(0), b"a");
            b.fixed(row.slot(1), 7i32.to_le_bytes());
            match etag {
                [] => b.null(&row, 2),
                etag => b.binary(row.slot(2), etag),
            }
            match ttl {
                Some(ttl) => b.fixed(row.slot(3), ttl.to_le_bytes()),
                None => b.null(&row, 3),
            }
            b.bytes[0] = kind;
            b.bytes
        };
        let encoder = Encoder::new(&plan).unwrap();
        let append = |row: &[u8]| {
            let mut out = Vec::new();
            let change = encoder.append(row, 100, Misfit::Refuse, &mut out);
            change.map(|c| (c.deletion, c.etag.to_owned(), String::from_utf8(out).unwrap()))
        };
        let written = |etag: &str, document: &str| Ok((None, etag.to_owned(), document.to_owned()));
        assert_eq!(append(&row(0, None, b"")), written("", r#"{"id":"a","n":7}"#));
        assert_eq!(
            append(&row(2, Some(60), b"\"e1\"")),
            written("\"e1\"", r#"{"id":"a","n":7,"ttl":60}"#)
        );
        // What was before an update, and what is deleted.
        for kind in [1, 3] {
            assert_eq!(
                append(&row(kind, Some(60), b"")),
                Ok((
                    Some(Deletion::Update),
                    String::new(),
                    r#"{"id":"a","gone":true,"ttl":5}"#.to_owned()
                ))
            );
        }
        let refused = |row: &[u8], part: &str| match append(row) {
            Err(NoDocument::Value(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{part}: {other:?}"),
        };
        refused(&row(0, Some(0), b""), "the time to live is 0 s");
        refused(&row(0, None, b"\xff"), "ETag");
        // Which document it would be is known all the same.
        let known = |encoder: &Encoder, row: &[u8]| {
            let mut out = Vec::new();
            encoder.append(row, 100, Misfit::Null, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        for row in [row(0, Some(0), b""), row(0, None, b"\xff")] {
            assert_eq!(known(&encoder, &row), r#"{"id":"a","n":7}"#);
        }
        assert!(matches!(append(&row(4, None, b"")), Err(NoDocument::Damaged(_))));
        plan.deletion = Deletion::None;
        let encoder = Encoder::new(&plan).unwrap();
        let deleted = row(3, None, b"");
        let none = encoder.append(&deleted, 100, Misfit::Refuse, &mut Vec::new());
        assert!(matches!(none, Err(NoDocument::Value(why)) if why.contains("without a primary key")));
        assert_eq!(known(&encoder, &deleted), r#"{"id":"a","n":7}"#);
    }

    #[test]
    fn the_time_to_live_is_said_once() {
        for path in [&["ttl"][..], &["ttl", "x"]] {
            let own = Place::Path {
                path: path.iter().map(|name| (*name).to_owned()).collect(),
                written: true,
                deleted: false,
            };
            let mut plan = plan(vec![
                column("own", own, Scalar::Int),
                column("lives", Place::TimeToLive, Scalar::Int),
            ]);
            let error = Encoder::new(&plan).unwrap_err();
            assert!(
                error.message.contains("'lives'") && error.message.contains("'own'"),
                "{error}"
            );
            plan.columns.pop();
            Encoder::new(&plan).unwrap();
        }
    }

    #[test]
    fn a_column_may_be_the_whole_document() {
        let row = |text: &[u8]| {
            let mut b = Buffer::default();
            let row = b.row(RowKind::Insert, 2);
            b.binary(row.slot(0), text);
            b.fixed(row.slot(1), 9i32.to_le_bytes());
            b.bytes
        };
        let plan = plan(vec![
            column("doc", place(""), Scalar::String),
            column("ttl", Place::TimeToLive, Scalar::Int),
        ]);
        for (text, expected) in [
            ("{\"id\":\"é\"}", "{\"id\":\"é\",\"ttl\":9}"),
            (" { } \n", " { \"ttl\":9}"),
            // In place of its own, wherever that stands and however it is written.
            (
                "{\"ttl\": null,\"a\":{\"ttl\":1}}",
                "{\"ttl\": 9,\"a\":{\"ttl\":1}}",
            ),
            ("{\"a\":1,\"t\\u0074l\":600 }", "{\"a\":1,\"t\\u0074l\":9 }"),
        ] {
            assert_eq!(encoded(&plan, &row(text.as_bytes())).unwrap(), expected);
        }
        assert!(encoded(&plan, &row(b"[]")).is_err());
        let mut null = row(b"");
        null[1] = 1;
        let error = encoded(&plan, &null).unwrap_err();
        assert!(
            matches!(error, NoDocument::Value(why) if why.contains("'doc', the whole document, is null"))
        );
    }

    #[test]
    fn what_json_does_not_have_is_refused_with_its_column() {
        let refused = |kind: Type, write: &dyn Fn(&mut Buffer, super::super::binary::Slot), part: &str| {
            let mut buffer = Buffer::default();
            let row = buffer.row(RowKind::Insert, 1);
            write(&mut buffer, row.slot(0));
            let plan = plan(vec![column("c", place("v"), kind)]);
            match encoded(&plan, &buffer.bytes) {
                Err(NoDocument::Value(why)) => assert!(why.contains("'c") && why.contains(part), "{why}"),
                other => panic!("{part}: {other:?}"),
            }
            let mut out = Vec::new();
            let encoder = Encoder::new(&plan).unwrap();
            assert!(encoder
                .append(&buffer.bytes, 1 << 20, Misfit::Null, &mut out)
                .is_ok());
            assert!(String::from_utf8(out).unwrap().contains("null"));
        };
        for (value, part) in [
            (f64::NAN, "is NaN"),
            (f64::INFINITY, "is Infinity"),
            (f64::NEG_INFINITY, "is -Infinity"),
        ] {
            refused(
                Scalar::Double.into(),
                &|b, slot| b.fixed(slot, value.to_le_bytes()),
                part,
            );
            refused(
                Scalar::Float.into(),
                &|b, slot| b.fixed(slot, (value as f32).to_le_bytes()),
                part,
            );
        }
        refused(
            Scalar::String.into(),
            &|b, slot| b.binary(slot, b"\xed\xa0\x80"),
            "no UTF-8",
        );
        refused(
            Scalar::RawJson.into(),
            &|b, slot| b.binary(slot, b"1,\"x\":2"),
            "no JSON",
        );
        refused(
            Scalar::Time { precision: 0 }.into(),
            &|b, slot| b.fixed(slot, (-1i32).to_le_bytes()),
            "is -1 ms",
        );
        let map = Type {
            kind: TypeKind::Map(Box::new(Scalar::Int.into())),
            nullable: true,
        };
        let null_key = |b: &mut Buffer, slot| {
            let start = b.len();
            b.bytes.extend(16i32.to_le_bytes());
            let keys = b.array(1, 8);
            b.null(&keys, 0);
            b.array(1, 4);
            b.variable(slot, start);
        };
        refused(map, &null_key, "key that is null");
    }

    #[test]
    fn columns_that_stand_in_each_others_way_are_refused() {
        let refused = |columns: Vec<DocumentColumn>, part: &str| {
            let error = Encoder::new(&plan(columns)).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        };
        let int = |name: &str, path: &str| column(name, place(path), Scalar::Int);
        for paths in [["a", "a/b"], ["a/b", "a"], ["a/b", "a/b"]] {
            refused(
                vec![int("x", paths[0]), int("y", paths[1])],
                "column 'y' is at /a",
            );
        }
        refused(
            vec![column("x", place(""), Scalar::String), int("y", "a")],
            "the whole document",
        );
    }

    #[test]
    fn a_small_row_of_a_huge_document_is_given_up() {
        // Eight levels of arrays of which each element is one and the same array of sixteen.
        let mut kind = Type::from(Scalar::Boolean);
        for _ in 0..8 {
            kind = Type {
                kind: TypeKind::Array(Box::new(kind)),
                nullable: true,
            };
        }
        let mut b = Buffer::default();
        let row = b.row(RowKind::Insert, 1);
        let mut slots = vec![row.slot(0)];
        for _ in 0..7 {
            let start = b.len();
            let array = b.array(16, 8);
            // From the start of the row for the first, of the array for the others.
            for slot in slots {
                b.variable(slot, start);
            }
            slots = (0..16).map(|n| array.slot(n)).collect();
        }
        let mut out = Vec::new();
        let encoder = Encoder::new(&plan(vec![column("c", place("v"), kind)])).unwrap();
        let given_up = encoder.append(&b.bytes, 1000, Misfit::Refuse, &mut out);
        assert!(given_up.is_err());
        assert!(out.len() < 2000, "{}", out.len());
    }

    /// A type with others in it, down to some depth.
    fn any_type(rng: &mut Rng, depth: usize) -> Type {
        let scalars = [
            Scalar::Boolean,
            Scalar::TinyInt,
            Scalar::SmallInt,
            Scalar::Int,
            Scalar::BigInt,
            Scalar::Float,
            Scalar::Double,
            Scalar::Decimal {
                precision: 18,
                scale: 4,
            },
            Scalar::Decimal {
                precision: 38,
                scale: 10,
            },
            Scalar::String,
            Scalar::Bytes,
            Scalar::Date,
            Scalar::Time { precision: 3 },
            Scalar::Timestamp {
                precision: 3,
                zoned: true,
            },
            Scalar::Timestamp {
                precision: 9,
                zoned: false,
            },
            Scalar::RawJson,
        ];
        let kind = match rng.usize(..if depth > 3 { 16 } else { 20 }) {
            16 | 17 => TypeKind::Array(Box::new(any_type(rng, depth + 1))),
            18 => TypeKind::Map(Box::new(any_type(rng, depth + 1))),
            19 => TypeKind::Row(
                (0..rng.usize(..4))
                    .map(|n| (format!("f{n}"), any_type(rng, depth + 1)))
                    .collect(),
            ),
            n => TypeKind::Scalar(scalars[n]),
        };
        Type { kind, nullable: true }
    }

    fn any_text(rng: &mut Rng) -> String {
        let count = rng.usize(..12);
        let character = |_| match rng.u8(..6) {
            0 => char::from(rng.u8(..0x20)),
            1 => rng.char('\u{80}'..),
            2 => '"',
            _ => rng.alphanumeric(),
        };
        (0..count).map(character).collect()
    }

    /// A value of a type as JSON.
    fn any_json(rng: &mut Rng, kind: &Type) -> String {
        if rng.u8(..8) == 0 {
            return "null".to_owned();
        }
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        match &kind.kind {
            TypeKind::Array(element) => {
                let all: Vec<_> = (0..rng.usize(..4)).map(|_| any_json(rng, element)).collect();
                format!("[{}]", all.join(","))
            }
            TypeKind::Map(value) => {
                let entry = |n| {
                    let key = quoted(&format!("{n}{}", any_text(rng)));
                    format!("{key}:{}", any_json(rng, value))
                };
                let all: Vec<_> = (0..4).map(entry).collect();
                format!("{{{}}}", all.join(","))
            }
            TypeKind::Row(fields) => {
                let all: Vec<_> = fields
                    .iter()
                    .map(|(name, kind)| format!("\"{name}\":{}", any_json(rng, kind)))
                    .collect();
                format!("{{{}}}", all.join(","))
            }
            TypeKind::Scalar(scalar) => match scalar {
                Scalar::Boolean => rng.bool().to_string(),
                Scalar::TinyInt => rng.i8(..).to_string(),
                Scalar::SmallInt => rng.i16(..).to_string(),
                Scalar::Int => rng.i32(..).to_string(),
                Scalar::BigInt => rng.i64(..).to_string(),
                Scalar::Float => format!("{:e}", rng.i32(..) as f32 / 64.0),
                Scalar::Double => format!("{:e}", rng.f64() * 10f64.powi(rng.i32(-20..20))),
                Scalar::Decimal { .. } => format!("{}.{}", rng.i32(..), rng.u16(1000..)),
                Scalar::String => quoted(&any_text(rng)),
                Scalar::Bytes => {
                    let bytes: Vec<u8> = (0..rng.usize(..12)).map(|_| rng.u8(..)).collect();
                    let mut out = Vec::new();
                    json_out::base64(&mut out, &bytes);
                    String::from_utf8(out).unwrap()
                }
                Scalar::Date => format!("\"{:04}-0{}-2{}\"", rng.u16(..9999), rng.u8(1..10), rng.u8(..9)),
                Scalar::Time { .. } => {
                    format!(
                        "\"1{}:0{}:59.{:03}\"",
                        rng.u8(..10),
                        rng.u8(..10),
                        rng.u16(..1000)
                    )
                }
                Scalar::Timestamp { precision, zoned } => format!(
                    "\"{:04}-0{}-2{}T0{}:59:00.{}{}\"",
                    rng.u16(..9999),
                    rng.u8(1..10),
                    rng.u8(..9),
                    rng.u8(..10),
                    if *precision == 3 {
                        format!("{:03}", rng.u16(..1000))
                    } else {
                        format!("{:09}", rng.u32(..1_000_000_000))
                    },
                    if *zoned { "Z" } else { "" }
                ),
                Scalar::Variant | Scalar::RawJson => format!("[{},\"{}\"]", rng.u8(..), rng.u8(..)),
            },
        }
    }

    /// Plans of both ways for the same columns, and a row of them by way of JSON.
    fn any_row(seed: u64) -> (Plan, DocumentPlan, String, Vec<u8>) {
        let mut rng = Rng::with_seed(seed);
        let kinds: Vec<_> = (0..1 + rng.usize(..70)).map(|_| any_type(&mut rng, 0)).collect();
        let columns = kinds.iter().enumerate().map(|(n, kind)| Column {
            name: format!("c{n}"),
            origin: Origin::Path(vec![format!("c{n}")]),
            kind: kind.clone(),
        });
        let read = Plan {
            missing_is_error: true,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit: Unit::None,
            changelog: Changelog::Append,
            columns: columns.collect(),
            filter: None,
        };
        let fields: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(n, kind)| format!("\"c{n}\":{}", any_json(&mut rng, kind)))
            .collect();
        let document = format!("{{{}}}", fields.join(","));
        let written = read
            .columns
            .iter()
            .map(|c| column(&c.name, place(&c.name), c.kind.clone()))
            .collect();
        let row = decoded(&read, &document);
        (read, plan(written), document, row)
    }

    fn decoded(plan: &Plan, document: &str) -> Vec<u8> {
        let mut decoder = Decoder::new(plan, []);
        let fed = Fed {
            operation: "upsert",
            ..Fed::read(document.as_bytes())
        };
        decoder
            .row(&fed)
            .unwrap_or_else(|e| panic!("{e:?} of {document}"));
        decoder.take()
    }

    proptest! {
        /// What a row became is read as the same row.
        #[test]
        fn rows_are_written_and_read_back(seed: u64) {
            let (read, written, document, row) = any_row(seed);
            let found = encoded(&written, &row).unwrap();
            prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&found).is_ok(), "{}", found);
            prop_assert_eq!(decoded(&read, &found), row, "{} became {}", document, found);
        }

        /// Damaged rows have a document or none, and nothing outside of their bytes is looked at.
        #[test]
        fn any_bytes_are_a_document_or_none(
            seed: u64,
            damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..20),
            cut in 0usize..2000,
            noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let (_, mut written, _, mut row) = any_row(seed);
            for column in &mut written.columns {
                if column.kind.kind == TypeKind::Scalar(Scalar::RawJson) {
                    column.kind = Scalar::Variant.into();
                }
            }
            let encoder = Encoder::new(&written).unwrap();
            let mut out = Vec::new();
            let _ = encoder.append(&noise, 1 << 16, Misfit::Refuse, &mut out);
            for (at, byte) in damage {
                let at = at % row.len();
                row[at] = byte;
            }
            let _ = encoder.append(&row, 1 << 16, Misfit::Null, &mut out);
            row.truncate(row.len().max(cut) - cut);
            let _ = encoder.append(&row, 1 << 16, Misfit::Refuse, &mut out);
        }
    }
}
