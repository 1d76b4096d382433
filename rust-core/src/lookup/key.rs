//! Keys of look-ups: which documents one asks for, and which rows are those.
//!
//! A key is compared by type: a text with texts, a number with numbers (1 is 1.0), a boolean with booleans. Where the service compares in
//! another way than Flink, it is asked for more than the key, and what comes is compared again: the document by the type of its value, and
//! the row by the value that was read. So there is never a wrong row.

use std::sync::Arc;

use azure_data_cosmos_driver::models::{FeedRange, PartitionKey, PartitionKeyDefinition, PartitionKeyValue};

use crate::error::{CoreError, Kind, Result};
use crate::json::{nested, push_string, segment};
use crate::page::KeyPaths;
use crate::rows::{
    unquoted, Changelog, Column, Compiled, Format, Metadata, OnError, Origin, Plan, Scalar, TypeKind, Unit,
};

/// Whole numbers up to this size are doubles without loss.
const EXACT: u64 = 1 << 53;

/// Bytes of an id, of a part of a partition key and of a document, at most: longer texts there are none.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits#per-item-limits>.
const MAX_ID: usize = 1023;
const MAX_PART: usize = 2048;
const MAX_DOCUMENT: usize = 2 * 1024 * 1024;

/// Bytes of a query, at most.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits#sql-query-limits>.
const MAX_QUERY: usize = 512 * 1024;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Bytes of a slot of Flink's rows, and the precisions up to which a decimal and a timestamp fit into one.
const SLOT: usize = 8;
const COMPACT_DECIMAL: u8 = 18;
const COMPACT_TIMESTAMP: u8 = 3;

/// A value of a key column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of BOOLEAN.
    Boolean(bool),
    /// Of the whole numbers; a DATE in days since the epoch, a TIME in milliseconds of the day.
    Whole(i64),
    /// Of FLOAT and DOUBLE.
    Double(f64),
    /// Of DECIMAL: `unscaled` divided by ten to the power of `scale`.
    Decimal {
        /// All digits.
        unscaled: i128,
        /// How many are behind the point.
        scale: u8,
    },
    /// Of STRING.
    Text(String),
    /// Of BYTES.
    Bytes(Vec<u8>),
    /// Of TIMESTAMP and TIMESTAMP_LTZ, since the epoch.
    Moment {
        /// Whole milliseconds.
        millis: i64,
        /// Behind them, below a million.
        nanos: u32,
    },
}

impl Value {
    /// Bytes of the text that it is in a document; 0 for what is none.
    fn text_len(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            // In base64.
            Value::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
            _ => 0,
        }
    }

    /// Appends bytes that are the same for equal values and for no others; nothing for a value that equals none, as NaN.
    fn name(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Value::Boolean(value) => out.push(u8::from(*value)),
            Value::Whole(value) => out.extend_from_slice(&value.to_be_bytes()),
            Value::Double(value) if value.is_nan() => return None,
            // Minus zero is zero.
            Value::Double(value) => out.extend_from_slice(&(value + 0.0).to_bits().to_be_bytes()),
            Value::Decimal { unscaled, scale } => {
                let (mut unscaled, mut scale) = (*unscaled, *scale);
                while scale > 0 && unscaled % 10 == 0 {
                    (unscaled, scale) = (unscaled / 10, scale - 1);
                }
                out.extend_from_slice(&unscaled.to_be_bytes());
                out.push(scale);
            }
            Value::Text(text) => bytes(out, text.as_bytes()),
            Value::Bytes(value) => bytes(out, value),
            Value::Moment { millis, nanos } => {
                out.extend_from_slice(&millis.to_be_bytes());
                out.extend_from_slice(&nanos.to_be_bytes());
            }
        }
        Some(())
    }
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// A column that keys have a value for.
#[derive(Clone, Debug)]
struct KeyColumn {
    /// Its place in the row.
    place: usize,
    /// Where it is in a document.
    path: Vec<String>,
    scalar: Scalar,
    /// What a number counts as a timestamp.
    unit: Unit,
    /// It is the document's own time, which is a number always.
    is_ts: bool,
    /// Bytes of the longest text that a document can have here.
    longest: usize,
}

/// What the keys of a handle look like, and what can be asked with them.
#[derive(Debug)]
pub struct KeyShape {
    columns: Vec<KeyColumn>,
    /// Columns of a row.
    arity: usize,
    format: Format,
    /// Which of the columns is the id.
    id: Option<usize>,
    /// Which of them are the partition key, in the order of its paths.
    partition: Option<Vec<usize>>,
    /// The plan of rows that have these columns, in their order, and no others.
    alone: Arc<Compiled>,
}

/// What the service is asked for one column.
#[derive(Clone, Debug, PartialEq)]
enum Probe {
    /// Any of these, as JSON.
    OneOf(Vec<String>),
    /// Numbers or texts between these two as JSON, both included, or any of the others.
    Between(String, String, Vec<String>),
    /// Any text.
    Texts,
}

/// One key that is asked for.
#[derive(Debug)]
pub struct Key {
    /// The same for equal keys, and for no others.
    pub name: Vec<u8>,
    /// The id, where the whole primary key is known and the id can be part of an address.
    pub id: Option<String>,
    /// The partition key, where it is known.
    pub partition: Option<PartitionKey>,
    /// Where that lies in the key space.
    pub place: Option<String>,
    probes: Vec<Probe>,
    values: Vec<Value>,
}

impl Key {
    /// About as many bytes as it has in a request.
    pub fn bytes(&self) -> usize {
        self.name.len() * 2 + self.probes.len() * 80
    }
}

impl KeyShape {
    /// Keys that have a value for these columns of a plan, for a container with these paths of its partition key.
    ///
    /// # Errors
    /// Config when documents cannot be asked for by one of them.
    pub fn new(plan: &Plan, keys: &[usize], paths: &KeyPaths) -> Result<KeyShape> {
        let columns = keys.iter().map(|place| column(plan, *place));
        let mut columns = columns.collect::<Result<Vec<_>>>()?;
        if columns.is_empty() {
            return Err(CoreError::config(
                "a look-up without a key would read the whole container; join it by a column that equals something",
            ));
        }
        if let Some(column) = plan.columns.iter().find(|column| {
            use Metadata::{Expired, Operation, SplitId};
            matches!(column.origin, Origin::Metadata(Operation | SplitId | Expired))
        }) {
            return Err(CoreError::config(format!(
                "the metadata column '{}' is known of the change feed alone, and a look-up does not read it; leave it out of the join",
                column.name
            )));
        }
        for column in &mut columns {
            if paths.iter().any(|path| path == column.path) {
                column.longest = MAX_PART;
            }
            if column.path == ["id"] {
                column.longest = MAX_ID;
            }
        }
        let at = |path: &[String]| columns.iter().position(|column| column.path == path);
        let id = at(&["id".to_owned()]).filter(|id| columns[*id].scalar == Scalar::String);
        let partition: Option<Vec<usize>> = paths.iter().map(at).collect();
        Ok(KeyShape {
            arity: plan.columns.len(),
            format: plan.format,
            id,
            partition: partition.filter(|columns| !columns.is_empty()),
            alone: Arc::new(alone(plan, &columns)),
            columns,
        })
    }

    /// The plan of rows that have the columns of a key and no others: what may be said of a document that makes no row.
    pub fn alone(&self) -> &Arc<Compiled> {
        &self.alone
    }

    /// The types of the columns, in their order.
    pub fn scalars(&self) -> impl ExactSizeIterator<Item = Scalar> + '_ {
        self.columns.iter().map(|column| column.scalar)
    }

    /// The key of these values; `None` where no row has it: a null equals nothing, and a value may be none of its column's type.
    pub fn key(&self, values: Vec<Option<Value>>, definition: &PartitionKeyDefinition) -> Option<Key> {
        let values = values.into_iter().collect::<Option<Vec<_>>>()?;
        let (mut name, mut probes) = (Vec::new(), Vec::new());
        for (column, value) in self.columns.iter().zip(&values) {
            if value.text_len() > column.longest {
                return None;
            }
            value.name(&mut name)?;
            probes.push(self.probe(column, value)?);
        }
        let component = |column: &usize| self.columns[*column].component(&values[*column]);
        let partition = self.partition.as_ref();
        let partition: Option<Vec<_>> = partition.and_then(|columns| columns.iter().map(component).collect());
        let partition = partition.and_then(|components| PartitionKey::try_from(components).ok());
        let place = partition.as_ref().map(|key| {
            FeedRange::for_partition(key.clone(), definition)
                .min_inclusive()
                .to_hex()
        });
        let id = match (self.id.map(|column| &values[column]), &partition) {
            (Some(Value::Text(id)), Some(_)) if is_address(id) => Some(id.clone()),
            _ => None,
        };
        Some(Key {
            name,
            id,
            partition,
            place,
            probes,
            values,
        })
    }

    /// Whether the service can be asked for a key.
    ///
    /// # Errors
    /// BadRequest where its values are longer than a query may be.
    pub fn check(&self, key: &Key) -> Result<()> {
        // That of a point read is none, and a shorter one is short enough whatever escapes are in it.
        if key.id.is_some() || key.bytes() <= MAX_QUERY / 4 {
            return Ok(());
        }
        let bytes = Query::of(self, std::iter::once(key)).len();
        if bytes <= MAX_QUERY {
            return Ok(());
        }
        let columns = self.columns.iter().map(|column| column.path.iter());
        let columns = columns.map(|path| path.map(|name| segment(name)).collect::<String>());
        Err(CoreError::new(
            Kind::BadRequest,
            format!(
                "a key of {} cannot be looked up: its query has {bytes} bytes, and the service takes {MAX_QUERY}; join by columns of shorter values, or filter such rows out in front of the join",
                columns.collect::<Vec<_>>().join(" and ")
            ),
        ))
    }

    /// What to ask for; `None` where no document can have it.
    fn probe(&self, column: &KeyColumn, value: &Value) -> Option<Probe> {
        let one = |json: String| Some(Probe::OneOf(vec![json]));
        match (column.scalar, value) {
            (Scalar::Boolean, Value::Boolean(value)) => one(value.to_string()),
            (Scalar::String, Value::Text(text)) => one(quoted(text)),
            (Scalar::Bytes, Value::Bytes(value)) => one(quoted(&base64(value))),
            (Scalar::Date, Value::Whole(days)) => one(quoted(&date(*days))),
            (Scalar::Time { .. }, Value::Whole(millis)) => {
                let seconds = millis / 1000;
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                Some(prefixed(&format!("{hours:02}:{minutes:02}:{seconds:02}")))
            }
            (Scalar::BigInt, Value::Whole(value)) if value.unsigned_abs() > EXACT => {
                // As a number the service may not tell it from its neighbours; who wants it exact has it as a text.
                Some(Probe::OneOf(vec![value.to_string(), quoted(&value.to_string())]))
            }
            (Scalar::TinyInt | Scalar::SmallInt | Scalar::Int | Scalar::BigInt, Value::Whole(value)) => {
                one(value.to_string())
            }
            (Scalar::Double, Value::Double(value)) => value.is_finite().then(|| number(*value)).and_then(one),
            (Scalar::Float, Value::Double(value)) => {
                let value = *value as f32;
                let exact = f64::from(value);
                if !value.is_finite() {
                    return None;
                }
                // All doubles that are nearest to it.
                let half = |next: f32, previous: f32| match next.is_finite() {
                    true => exact + (f64::from(next) - exact) / 2.0,
                    false => exact + (exact - f64::from(previous)) / 2.0,
                };
                let (up, down) = (value.next_up(), value.next_down());
                Some(Probe::Between(
                    number(half(down, up)),
                    number(half(up, down)),
                    Vec::new(),
                ))
            }
            (Scalar::Decimal { scale, .. }, Value::Decimal { unscaled, scale: own }) => {
                let unscaled = rescaled(*unscaled, *own, scale)?;
                // What is rounded to it.
                let bound = |by: i128| Some(decimal(unscaled.checked_mul(10)?.checked_add(by)?, scale + 1));
                let (low, high) = match (bound(-5), bound(5)) {
                    (Some(low), Some(high)) => (low, high),
                    // With 38 digits there is no room for another one; a double has half as many.
                    _ => (
                        format!("{}e-{scale}", unscaled.checked_sub(1)?),
                        format!("{}e-{scale}", unscaled.checked_add(1)?),
                    ),
                };
                let texts = decimal_texts(unscaled, scale);
                Some(Probe::Between(
                    low,
                    high,
                    texts.iter().map(|text| quoted(text)).collect(),
                ))
            }
            (Scalar::Timestamp { precision, zoned }, Value::Moment { millis, nanos }) => {
                Some(self.moment(column, precision, zoned, (*millis, *nanos)))
            }
            _ => None,
        }
    }

    fn moment(&self, column: &KeyColumn, precision: u8, zoned: bool, (millis, nanos): (i64, u32)) -> Probe {
        let mut others = Vec::new();
        let digits = match column.unit {
            Unit::None => None,
            Unit::Seconds => Some(9),
            Unit::Millis => Some(6),
            Unit::Micros => Some(3),
            Unit::Nanos => Some(0),
        };
        let all = i128::from(millis) * 1_000_000 + i128::from(nanos);
        if let Some(digits) = digits {
            // What has more digits than the column is cut off.
            let last = all + 10i128.pow(u32::from(9 - precision.min(9))) - 1;
            if column.is_ts {
                return Probe::Between(decimal(all, digits), decimal(last, digits), Vec::new());
            }
            others = vec![decimal(all, digits), decimal(last, digits)];
        }
        let days = millis.div_euclid(DAY);
        // Years of four digits, in whose order their texts are.
        let ordered = (-719_000..=2_932_000).contains(&days);
        let texts = match (ordered, zoned) {
            (false, _) => Probe::Texts,
            // The clock there may be up to 18 hours apart.
            (true, true) => Probe::Between(quoted(&date(days - 1)), quoted(&date(days + 2)), Vec::new()),
            (true, false) => {
                let minutes = millis.rem_euclid(DAY) / 60_000;
                let between = if self.format == Format::Iso { 'T' } else { ' ' };
                prefixed(&format!(
                    "{}{between}{:02}:{:02}",
                    date(days),
                    minutes / 60,
                    minutes % 60
                ))
            }
        };
        match (texts, others.is_empty()) {
            (Probe::Between(low, high, _), false) => Probe::Between(low, high, others),
            (Probe::Texts, false) => Probe::Between("\"\"".to_owned(), "\"~\"".to_owned(), others),
            (texts, _) => texts,
        }
    }

    /// The condition that a document fulfils which has a key, and maybe some others.
    pub fn condition(&self, key: &Key, query: &mut Query) {
        query.text.push('(');
        for (n, (column, probe)) in self.columns.iter().zip(&key.probes).enumerate() {
            if n > 0 {
                query.text.push_str(" AND ");
            }
            let path = sql_path(&column.path);
            match probe {
                Probe::OneOf(values) => query.one_of(&path, values),
                Probe::Texts => query.text.push_str(&format!("IS_STRING({path})")),
                Probe::Between(low, high, others) => {
                    query.text.push('(');
                    query.between(&path, low, high);
                    if column.has_numbers_in(others) {
                        query.text.push_str(" OR ");
                        query.between(&path, &others[0], &others[1]);
                    } else if !others.is_empty() {
                        query.text.push_str(" OR ");
                        query.one_of(&path, others);
                    }
                    query.text.push(')');
                }
            }
        }
        query.text.push(')');
    }

    /// Whether a document that was read by its address has values of the types that a query would have asked for.
    pub fn may_have(&self, document: &[u8], key: &Key) -> bool {
        let mut columns = self.columns.iter().zip(&key.values);
        columns.all(|(column, value)| {
            nested(document, &column.path).is_ok_and(|json| column.may_be(json, value))
        })
    }

    /// Whether keys have more than an address.
    pub fn has_others(&self) -> bool {
        let addressed =
            |n: &usize| self.id == Some(*n) || self.partition.as_ref().is_some_and(|p| p.contains(n));
        !(0..self.columns.len()).all(|n| addressed(&n))
    }

    /// [`Key::name`] of a row; `None` where a column is null, or equals nothing.
    pub fn name(&self, row: &[u8]) -> Option<Vec<u8>> {
        let places = self.columns.iter().map(|column| column.place);
        self.name_at(row, self.arity, places)
    }

    /// [`KeyShape::name`] of a row by [`KeyShape::alone`].
    pub fn name_alone(&self, row: &[u8]) -> Option<Vec<u8>> {
        self.name_at(row, self.columns.len(), 0..self.columns.len())
    }

    /// The name of a row of so many columns, in which those of the key have these places.
    fn name_at(&self, row: &[u8], arity: usize, places: impl Iterator<Item = usize>) -> Option<Vec<u8>> {
        let bits = (arity + 63 + 8) / 64 * SLOT;
        let mut out = Vec::new();
        for (column, place) in self.columns.iter().zip(places) {
            if row.get(1 + place / 8)? & (1 << (place % 8)) != 0 {
                return None;
            }
            let slot = bits + place * SLOT;
            let slot: [u8; SLOT] = row.get(slot..slot + SLOT)?.try_into().ok()?;
            column.read(row, slot)?.name(&mut out)?;
        }
        Some(out)
    }
}

/// The plan of rows of these columns of another one. A value that does not fit makes none, whatever becomes of it there: it is no key's.
fn alone(plan: &Plan, columns: &[KeyColumn]) -> Compiled {
    let own = |column: &KeyColumn| Column {
        name: plan.columns[column.place].name.clone(),
        origin: Origin::Path(column.path.clone()),
        kind: plan.columns[column.place].kind.clone(),
    };
    let plan = Plan {
        missing_is_error: false,
        on_error: OnError::Fail,
        format: plan.format,
        unit: plan.unit,
        changelog: Changelog::Append,
        columns: columns.iter().map(own).collect(),
        filter: None,
    };
    Compiled::new(&plan, std::iter::empty())
}

fn column(plan: &Plan, place: usize) -> Result<KeyColumn> {
    let Some(column) = plan.columns.get(place) else {
        return Err(CoreError::state(format!(
            "a look-up by column {place} of {} columns; use the same version of jar and library",
            plan.columns.len()
        )));
    };
    let path = match &column.origin {
        Origin::Path(path) => path.clone(),
        Origin::Metadata(Metadata::Id) => vec!["id".to_owned()],
        Origin::Metadata(Metadata::Timestamp) => vec!["_ts".to_owned()],
        Origin::Metadata(_) | Origin::Constant(_) => {
            return Err(CoreError::config(format!(
                "'{}' stands in no document, so that none can be looked up by it; join by columns of the document, and filter by this one",
                column.name
            )))
        }
    };
    let is_ts = matches!(path.as_slice(), [one] if one == "_ts");
    let unit = if is_ts { Unit::Seconds } else { plan.unit };
    match column.kind.kind {
        TypeKind::Scalar(Scalar::Variant | Scalar::RawJson) => {}
        TypeKind::Scalar(scalar) if !path.is_empty() => {
            return Ok(KeyColumn {
                place,
                path,
                scalar,
                unit,
                is_ts,
                longest: MAX_DOCUMENT,
            })
        }
        _ => {}
    }
    Err(CoreError::config(format!(
        "no document can be looked up by '{}', which is no single value; join by a column of a simple type",
        column.name
    )))
}

impl KeyColumn {
    /// The one value that documents have in their partition key which have this value here; `None` where it may be one of several.
    fn component(&self, value: &Value) -> Option<PartitionKeyValue> {
        match (self.scalar, value) {
            (Scalar::String, Value::Text(text)) => Some(PartitionKeyValue::from(text.clone())),
            (Scalar::Boolean, Value::Boolean(value)) => Some(PartitionKeyValue::from(*value)),
            (Scalar::TinyInt | Scalar::SmallInt | Scalar::Int | Scalar::BigInt, Value::Whole(value))
                if value.unsigned_abs() <= EXACT =>
            {
                PartitionKeyValue::try_from(*value as f64).ok()
            }
            (Scalar::Double, Value::Double(value)) => PartitionKeyValue::try_from(*value + 0.0).ok(),
            (Scalar::Date, Value::Whole(days)) => Some(PartitionKeyValue::from(date(*days))),
            (Scalar::Bytes, Value::Bytes(value)) => Some(PartitionKeyValue::from(base64(value))),
            _ => None,
        }
    }

    /// Whether the others of a [`Probe::Between`] are two numbers, between which more lie.
    fn has_numbers_in(&self, others: &[String]) -> bool {
        matches!(self.scalar, Scalar::Timestamp { .. }) && others.len() == 2
    }

    /// Whether a value of a document has the type that keys of this column are compared with. A text that stands for another type is compared as
    /// it is written.
    fn may_be(&self, json: &[u8], value: &Value) -> bool {
        let is_number = matches!(json.first(), Some(b'-' | b'0'..=b'9'));
        let mut scratch = Vec::new();
        let text = unquoted(json, &mut scratch).ok();
        let is = |texts: &[String]| text.is_some_and(|text| texts.iter().any(|t| t.as_bytes() == text));
        match (self.scalar, value) {
            (Scalar::String | Scalar::Time { .. }, _) => text.is_some(),
            (Scalar::Boolean, _) => matches!(json, b"true" | b"false"),
            (Scalar::BigInt, Value::Whole(value)) if value.unsigned_abs() > EXACT => {
                is_number || is(&[value.to_string()])
            }
            (Scalar::Decimal { scale, .. }, Value::Decimal { unscaled, scale: own }) => {
                let unscaled = rescaled(*unscaled, *own, scale);
                is_number || unscaled.is_some_and(|unscaled| is(&decimal_texts(unscaled, scale)))
            }
            (Scalar::Date, Value::Whole(days)) => is(&[date(*days)]),
            (Scalar::Bytes, Value::Bytes(value)) => is(&[base64(value)]),
            (Scalar::Timestamp { .. }, _) => match text {
                Some(_) => !self.is_ts,
                None => is_number && self.unit != Unit::None,
            },
            _ => is_number,
        }
    }

    /// The value of this column in a row of Flink's.
    fn read(&self, row: &[u8], slot: [u8; SLOT]) -> Option<Value> {
        let low = |bytes: usize| {
            let mut word = [0; SLOT];
            word[..bytes].copy_from_slice(&slot[..bytes]);
            let shift = 64 - 8 * bytes as u32;
            (i64::from_le_bytes(word) << shift) >> shift
        };
        let word = u64::from_le_bytes(slot);
        let variable = |size: usize| {
            let at = (word >> 32) as usize;
            row.get(at..at.checked_add(size)?)
        };
        let binary = || match slot[SLOT - 1] & 0x80 {
            0 => variable(word as u32 as usize),
            _ => slot.get(..usize::from(slot[SLOT - 1] & 0x7f)),
        };
        Some(match self.scalar {
            Scalar::Boolean => Value::Boolean(slot[0] != 0),
            Scalar::TinyInt => Value::Whole(low(1)),
            Scalar::SmallInt => Value::Whole(low(2)),
            Scalar::Int | Scalar::Date | Scalar::Time { .. } => Value::Whole(low(4)),
            Scalar::BigInt => Value::Whole(low(8)),
            Scalar::Float => Value::Double(f64::from(f32::from_bits(word as u32))),
            Scalar::Double => Value::Double(f64::from_bits(word)),
            Scalar::Decimal { precision, scale } => Value::Decimal {
                unscaled: match precision <= COMPACT_DECIMAL {
                    true => i128::from(low(8)),
                    false => big_endian(variable(word as u32 as usize)?)?,
                },
                scale,
            },
            Scalar::String => Value::Text(std::str::from_utf8(binary()?).ok()?.to_owned()),
            Scalar::Bytes => Value::Bytes(binary()?.to_vec()),
            Scalar::Timestamp { precision, .. } if precision <= COMPACT_TIMESTAMP => Value::Moment {
                millis: low(8),
                nanos: 0,
            },
            Scalar::Timestamp { .. } => Value::Moment {
                millis: i64::from_le_bytes(variable(8)?.try_into().ok()?),
                nanos: word as u32,
            },
            Scalar::Variant | Scalar::RawJson => return None,
        })
    }
}

/// A number in two's complement, of at most 16 bytes.
pub fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first().filter(|_| bytes.len() <= 16)?;
    let mut out = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    out[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(out))
}

/// The body of a query.
#[derive(Debug, Default)]
pub struct Query {
    text: String,
    parameters: Vec<u8>,
    count: usize,
}

impl Query {
    fn parameter(&mut self, json: &str) -> String {
        if self.count > 0 {
            self.parameters.push(b',');
        }
        let name = format!("@p{}", self.count);
        self.count += 1;
        self.parameters
            .extend_from_slice(format!("{{\"name\":\"{name}\",\"value\":{json}}}").as_bytes());
        name
    }

    fn one_of(&mut self, path: &str, values: &[String]) {
        let several = values.len() > 1;
        if several {
            self.text.push('(');
        }
        for (n, value) in values.iter().enumerate() {
            let or = if n > 0 { " OR " } else { "" };
            let parameter = self.parameter(value);
            self.text.push_str(&format!("{or}{path} = {parameter}"));
        }
        if several {
            self.text.push(')');
        }
    }

    fn between(&mut self, path: &str, low: &str, high: &str) {
        let (low, high) = (self.parameter(low), self.parameter(high));
        self.text
            .push_str(&format!("({path} >= {low} AND {path} <= {high})"));
    }

    /// The query for documents that have one of these keys.
    pub fn of<'k>(shape: &KeyShape, keys: impl Iterator<Item = &'k Key>) -> Vec<u8> {
        let mut query = Query::default();
        query.text.push_str("SELECT * FROM c WHERE ");
        for (n, key) in keys.enumerate() {
            if n > 0 {
                query.text.push_str(" OR ");
            }
            shape.condition(key, &mut query);
        }
        let mut body = b"{\"query\":".to_vec();
        push_string(&mut body, query.text.as_bytes());
        body.extend_from_slice(b",\"parameters\":[");
        body.extend_from_slice(&query.parameters);
        body.extend_from_slice(b"]}");
        body
    }
}

fn sql_path(path: &[String]) -> String {
    path.iter()
        .fold("c".to_owned(), |out, name| format!("{out}[{}]", quoted(name)))
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_string(&mut out, text.as_bytes());
    // It was text before, and only ASCII was added.
    String::from_utf8(out).unwrap_or_default()
}

/// A finite number as JSON, which is read back as the same.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    // With an exponent: others would have hundreds of digits.
    format!("{value:e}")
}

/// A decimal number as it is written in SQL.
fn decimal(unscaled: i128, scale: u8) -> String {
    let width = usize::from(scale) + 1;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// The texts that stand for a decimal number: with all digits behind the point, and without zeros at their end.
fn decimal_texts(unscaled: i128, scale: u8) -> Vec<String> {
    let full = decimal(unscaled, scale);
    if scale == 0 {
        return vec![full];
    }
    let short = full.trim_end_matches('0').trim_end_matches('.').to_owned();
    match short == full {
        true => vec![full],
        false => vec![full, short],
    }
}

/// With another number of digits behind the point; `None` where a digit would be lost, or there are too many.
fn rescaled(unscaled: i128, from: u8, to: u8) -> Option<i128> {
    let factor = |n: u8| 10i128.checked_pow(u32::from(n));
    match from <= to {
        true => unscaled.checked_mul(factor(to - from)?),
        false => {
            let factor = factor(from - to)?;
            (unscaled % factor == 0).then(|| unscaled / factor)
        }
    }
}

/// Texts that begin with this one, which is ASCII.
fn prefixed(text: &str) -> Probe {
    Probe::Between(quoted(text), quoted(&next(text)), Vec::new())
}

/// The first text that does not begin with this one and comes behind all that do.
fn next(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// A day as text, such as 2026-11-24; a year of more than four digits has its sign.
fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        10_000.. => format!("+{year}-{month:02}-{day:02}"),
        _ => format!("-{:04}-{month:02}-{day:02}", -year),
    }
}

/// Year, month and day of a day since the epoch.
/// Source: <https://howardhinnant.github.io/date_algorithms.html>.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn base64(bytes: &[u8]) -> String {
    azure_core::base64::encode(bytes)
}

/// Whether an id survives in an address as it is; others are asked for by a query.
fn is_address(id: &str) -> bool {
    !id.is_empty()
        && !id.contains(|c: char| c.is_ascii_control() || matches!(c, '/' | '\\' | '?' | '#'))
        && !matches!(id, "." | "..")
        && !id.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::rows::{Change, Decoder, Type};

    fn plan(unit: Unit, columns: &[(&str, Scalar)]) -> Plan {
        let column = |(name, scalar): &(&str, Scalar)| Column {
            name: (*name).to_owned(),
            origin: Origin::Path(vec![(*name).to_owned()]),
            kind: Type::from(*scalar),
        };
        Plan {
            missing_is_error: false,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit,
            changelog: Changelog::Append,
            columns: columns.iter().map(column).collect(),
            filter: None,
        }
    }

    fn definition() -> PartitionKeyDefinition {
        PartitionKeyDefinition::from("/pk")
    }

    fn shape(plan: &Plan, keys: &[usize]) -> KeyShape {
        KeyShape::new(plan, keys, &KeyPaths::new(&["/pk"])).unwrap()
    }

    /// The row of a document, if it fits.
    fn row(plan: &Plan, document: &str) -> Option<Vec<u8>> {
        let mut decoder = Decoder::new(plan, [["pk".to_owned()].as_slice()]);
        decoder.row(&Change::read(document.as_bytes())).ok()?;
        Some(decoder.take())
    }

    fn query(shape: &KeyShape, keys: &[&Key]) -> (String, Vec<Json>) {
        let body = Query::of(shape, keys.iter().copied());
        let body: Json = serde_json::from_slice(&body).unwrap();
        let parameters = body["parameters"].as_array().unwrap().iter().enumerate();
        let values = parameters.map(|(n, p)| {
            assert_eq!(p["name"], format!("@p{n}"));
            p["value"].clone()
        });
        (body["query"].as_str().unwrap().to_owned(), values.collect())
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.into()))
    }

    const STRINGS: [(&str, Scalar); 3] = [("id", Scalar::String), ("pk", Scalar::String), ("n", Scalar::Int)];

    #[test]
    fn id_and_partition_key_are_an_address_in_any_order() {
        let plan = plan(Unit::None, &STRINGS);
        let shape = shape(&plan, &[1, 0]);
        let key = shape.key(vec![text("k"), text("a")], &definition()).unwrap();
        assert_eq!(key.id.as_deref(), Some("a"));
        assert!(key.partition.is_some() && key.place.is_some());
        assert!(!shape.has_others());
        for id in ["a/b", "a\tb", "..", "a ", "", "a?b"] {
            let key = shape.key(vec![text("k"), text(id)], &definition()).unwrap();
            assert_eq!((key.id, key.place.is_some()), (None, true), "{id}");
        }
        let others = super::tests::shape(&plan, &[0, 1, 2]);
        assert!(others.has_others());
        let key = others.key(vec![text("a"), text("k"), Some(Value::Whole(5))], &definition());
        let key = key.unwrap();
        assert_eq!(key.id.as_deref(), Some("a"));
        assert!(others.may_have(br#"{"n":5.0,"pk":"k","id":"a"}"#, &key));
        assert!(!others.may_have(br#"{"n":"5","pk":"k","id":"a"}"#, &key));
    }

    #[test]
    fn what_is_longer_than_the_service_takes_is_no_documents() {
        let plan = plan(
            Unit::None,
            &[
                ("id", Scalar::String),
                ("pk", Scalar::String),
                ("t", Scalar::String),
            ],
        );
        let of = |column: usize, length: usize| {
            let key = shape(&plan, &[column]).key(vec![text(&"x".repeat(length))], &definition());
            key.map(|key| shape(&plan, &[column]).check(&key))
        };
        for (column, longest) in [(0, MAX_ID), (1, MAX_PART)] {
            assert!(of(column, longest).unwrap().is_ok());
            assert!(of(column, longest + 1).is_none());
        }
        assert!(of(2, MAX_QUERY - 200).unwrap().is_ok());
        let error = of(2, MAX_QUERY).unwrap().unwrap_err();
        assert_eq!(error.kind, Kind::BadRequest);
        assert!(error.message.contains("a key of /t cannot"), "{error}");
        assert!(of(2, MAX_DOCUMENT + 1).is_none());
    }

    #[test]
    fn a_partition_key_alone_is_a_place_and_anything_else_is_not() {
        let plan = plan(Unit::None, &STRINGS);
        let key = shape(&plan, &[1]).key(vec![text("k")], &definition()).unwrap();
        assert!(key.id.is_none() && key.partition.is_some() && key.place.is_some());
        let key = shape(&plan, &[0]).key(vec![text("a")], &definition()).unwrap();
        assert!(key.id.is_none() && key.partition.is_none() && key.place.is_none());
        // In a container that is partitioned by it, the id is all of it.
        let by_id = KeyShape::new(&plan, &[0], &KeyPaths::new(&["/id"])).unwrap();
        let key = by_id
            .key(vec![text("a")], &PartitionKeyDefinition::from("/id"))
            .unwrap();
        assert_eq!(key.id.as_deref(), Some("a"));
    }

    #[test]
    fn numbers_beyond_doubles_are_no_place() {
        let plan = plan(Unit::None, &[("pk", Scalar::BigInt)]);
        let shape = shape(&plan, &[0]);
        let place = |n: i64| {
            shape
                .key(vec![Some(Value::Whole(n))], &definition())
                .unwrap()
                .place
        };
        assert!(place(1 << 53).is_some());
        assert!(place((1 << 53) + 1).is_none());
        assert!(place(i64::MIN).is_none());
    }

    #[test]
    fn keys_are_asked_for_by_parameters() {
        let plan = plan(Unit::None, &STRINGS);
        let shape = shape(&plan, &[1, 2]);
        let a = shape
            .key(vec![text("k\""), Some(Value::Whole(5))], &definition())
            .unwrap();
        let b = shape
            .key(vec![text("l"), Some(Value::Whole(-6))], &definition())
            .unwrap();
        let (sql, values) = query(&shape, &[&a, &b]);
        assert_eq!(
            sql,
            r#"SELECT * FROM c WHERE (c["pk"] = @p0 AND c["n"] = @p1) OR (c["pk"] = @p2 AND c["n"] = @p3)"#
        );
        assert_eq!(values, ["k\"".into(), 5.into(), Json::from("l"), Json::from(-6)]);
    }

    #[test]
    fn what_no_row_has_is_not_asked_for() {
        let key = |scalar, value| {
            let plan = plan(Unit::None, &[("n", scalar)]);
            shape(&plan, &[0]).key(vec![value], &definition())
        };
        let decimal = Scalar::Decimal {
            precision: 10,
            scale: 2,
        };
        assert!(key(Scalar::String, None).is_none(), "null equals nothing");
        assert!(key(Scalar::Double, Some(Value::Double(f64::NAN))).is_none());
        assert!(key(Scalar::Double, Some(Value::Double(f64::INFINITY))).is_none());
        let exact = |unscaled, scale| key(decimal, Some(Value::Decimal { unscaled, scale }));
        assert!(exact(1_255, 3).is_none(), "the column has two digits");
        assert_eq!(exact(12_500, 3).unwrap().name, exact(1250, 2).unwrap().name);
    }

    #[test]
    fn equal_keys_have_one_name() {
        let plan = plan(Unit::None, &[("a", Scalar::Double), ("b", Scalar::String)]);
        let shape = shape(&plan, &[0, 1]);
        let name = |n: f64, t: &str| {
            shape
                .key(vec![Some(Value::Double(n)), text(t)], &definition())
                .unwrap()
                .name
        };
        assert_eq!(name(0.0, "x"), name(-0.0, "x"));
        assert_ne!(name(1.0, "x"), name(1.5, "x"));
        assert_ne!(name(1.0, "x"), name(1.0, "xy"));
    }

    #[test]
    fn what_documents_cannot_be_looked_up_by_is_refused() {
        let refused = |origin, scalar: Scalar| {
            let mut plan = plan(Unit::None, &[("c", scalar)]);
            plan.columns[0].origin = origin;
            KeyShape::new(&plan, &[0], &KeyPaths::new(&["/pk"]))
                .unwrap_err()
                .message
        };
        let path = || Origin::Path(vec!["c".into()]);
        assert!(refused(path(), Scalar::Variant).contains("no single value"));
        assert!(refused(path(), Scalar::RawJson).contains("no single value"));
        assert!(refused(Origin::Path(vec![]), Scalar::String).contains("no single value"));
        assert!(refused(Origin::Constant("x".into()), Scalar::String).contains("no document"));
        assert!(refused(Origin::Metadata(Metadata::PartitionKey), Scalar::String).contains("no document"));
        let plan = plan(Unit::None, &STRINGS);
        let none = KeyShape::new(&plan, &[], &KeyPaths::new(&["/pk"])).unwrap_err();
        assert!(none.message.contains("without a key"), "{none}");
        assert!(KeyShape::new(&plan, &[7], &KeyPaths::new(&["/pk"])).is_err());
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (20_781, "2026-11-24"),
            (-719_468, "0000-03-01"),
            (-719_834, "-0001-03-01"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(date(days), text);
        }
    }

    /// Whether the service would find a value: numbers as doubles, texts by their characters.
    fn finds(column: &KeyColumn, probe: &Probe, json: &str) -> bool {
        let json: Json = serde_json::from_str(json).unwrap();
        let parsed = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        let within = |low: &str, high: &str| match (parsed(low), parsed(high), &json) {
            (Json::Number(low), Json::Number(high), Json::Number(n)) => {
                let [low, high, n] = [&low, &high, n].map(|n| n.as_f64().unwrap());
                low <= n && n <= high
            }
            (Json::String(low), Json::String(high), Json::String(s)) => low <= *s && *s <= high,
            _ => false,
        };
        let is = |value: &String| match (parsed(value), &json) {
            (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
            (a, b) => a == *b,
        };
        match probe {
            Probe::OneOf(values) => values.iter().any(is),
            Probe::Texts => json.is_string(),
            Probe::Between(low, high, others) if column.has_numbers_in(others) => {
                within(low, high) || within(&others[0], &others[1])
            }
            Probe::Between(low, high, others) => within(low, high) || others.iter().any(is),
        }
    }

    fn scalars() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            Just(Scalar::Boolean),
            Just(Scalar::TinyInt),
            Just(Scalar::SmallInt),
            Just(Scalar::Int),
            Just(Scalar::BigInt),
            Just(Scalar::Float),
            Just(Scalar::Double),
            (1u8..=38)
                .prop_flat_map(|precision| (Just(precision), 0..=precision))
                .prop_map(|(precision, scale)| Scalar::Decimal { precision, scale }),
            Just(Scalar::String),
            Just(Scalar::Bytes),
            Just(Scalar::Date),
            (0u8..=9).prop_map(|precision| Scalar::Time { precision }),
            (0u8..=9, any::<bool>()).prop_map(|(precision, zoned)| Scalar::Timestamp { precision, zoned }),
        ]
    }

    fn json_values() -> impl Strategy<Value = String> {
        let clock = "[0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?";
        let day = "(000[0-9]|19[67][0-9]|20[0-9][0-9]|99[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
        let regex = |pattern: &str| proptest::string::string_regex(pattern).unwrap();
        let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?(e-?[0-9])?";
        prop_oneof![
            number.prop_map(|n| n),
            number.prop_map(|n| format!("\"{n}\"")),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<i64>().prop_map(|n| format!("\"{n}\"")),
            (-300i64..300).prop_map(|n| n.to_string()),
            (-300i64..300).prop_map(|n| format!("{n}.0")),
            any::<f32>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(|f| format!("{f:e}")),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(|f| format!("{f:e}")),
            "[a-zA-Z0-9 äé]{0,12}".prop_map(|t| format!("\"{t}\"")),
            "([A-Za-z0-9+/]{4}){0,3}".prop_map(|t| format!("\"{t}\"")),
            day.prop_map(|d| format!("\"{d}\"")),
            clock.prop_map(|c| format!("\"{c}\"")),
            regex(&format!("{day}T{clock}")).prop_map(|m| format!("\"{m}\"")),
            regex(&format!("{day}T{clock}(Z|[+-](0[0-9]|1[0-7]):[0-5][0-9])"))
                .prop_map(|m| format!("\"{m}\"")),
            Just("true".to_owned()),
            Just("\"true\"".to_owned()),
            Just("null".to_owned()),
            Just("[1]".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Never a missing row: where a document has a value of the type that is compared, and its row has the key, the service is asked for it.
        #[test]
        fn what_a_row_has_is_asked_for(scalar in scalars(), json in json_values(), unit in 0usize..5) {
            let unit = [Unit::None, Unit::Seconds, Unit::Millis, Unit::Micros, Unit::Nanos][unit];
            let plan = plan(unit, &[("n", scalar)]);
            let shape = shape(&plan, &[0]);
            let document = format!("{{\"n\":{json}}}");
            let Some(row) = row(&plan, &document) else {
                return Ok(());
            };
            let column = &shape.columns[0];
            let slot: [u8; 8] = row[8..16].try_into().unwrap();
            let Some(value) = (row[1] & 1 == 0).then(|| column.read(&row, slot).unwrap()) else {
                prop_assert_eq!(shape.name(&row), None);
                return Ok(());
            };
            let Some(key) = shape.key(vec![Some(value.clone())], &definition()) else {
                // Such as a text that is NaN.
                prop_assert!(!column.may_be(json.as_bytes(), &value), "{} of {}", json, scalar);
                return Ok(());
            };
            prop_assert_eq!(shape.name(&row), Some(key.name.clone()));
            if column.may_be(json.as_bytes(), &value) {
                prop_assert!(finds(column, &key.probes[0], &json), "{} of {}: {:?}", json, scalar, key.probes);
                let (sql, values) = query(&shape, &[&key]);
                // Any text is asked for without a value, as beyond the years of four digits.
                prop_assert_eq!(values.is_empty(), key.probes == [Probe::Texts], "{}", sql);
            }
        }

        #[test]
        fn any_bytes_are_a_row_or_none(scalar in scalars(), bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let plan = plan(Unit::None, &[("n", scalar)]);
            let _ = shape(&plan, &[0]).name(&bytes);
        }
    }
}
