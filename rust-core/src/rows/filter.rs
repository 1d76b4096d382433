//! Which rows a plan lets pass: a predicate over the values of its columns, judged in SQL's logic of true, false and unknown.
//!
//! What is judged is the row as it was written, of the columns that are asked for and of those that only the filter needs, and so what
//! Flink's own code would have in its hands: a value that does not fit its column has taken the way of `json.on-error` before.

use std::cmp::Ordering;

use super::binary;
use super::plan::{Column, Scalar, Type, TypeKind};
use crate::error::{CoreError, Result};
use crate::frame::{FrameReader, FrameWriter};

/// How deep predicates may stand in each other.
const MAX_DEPTH: usize = 64;

/// Most predicates and literals of a filter.
const MAX_PARTS: usize = 1 << 16;

/// How a value is compared with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Comparison {
    /// It is the same.
    Equal = 1,
    /// It is another one.
    NotEqual = 2,
    /// It is smaller.
    Less = 3,
    /// It is not larger.
    LessOrEqual = 4,
    /// It is larger.
    Greater = 5,
    /// It is not smaller.
    GreaterOrEqual = 6,
}

impl Comparison {
    const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    /// That which holds where this one does not, NaN aside.
    pub fn opposite(self) -> Self {
        match self {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
        }
    }

    /// Whether it holds for values in this order; `None` where one is no number.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// What a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// It begins with another one.
    Start = 1,
    /// It ends with it.
    End = 2,
    /// It has it anywhere.
    Anywhere = 3,
}

impl Part {
    const ALL: [Part; 3] = [Part::Start, Part::End, Part::Anywhere];
}

/// A value that a column's is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Of a BOOLEAN.
    Bool(bool),
    /// Of whole and of decimal numbers, of a DATE in days and of a TIME in milliseconds.
    Whole(i64),
    /// Of a FLOAT or DOUBLE, as IEEE 754 compares them: NaN is unlike all, and zeros are equal.
    Double(f64),
    /// Of a FLOAT or DOUBLE, as Java orders them, which Flink does with a DECIMAL: NaN is the largest, and -0 smaller than 0.
    Ordered(f64),
    /// Of whole and of decimal numbers: the digits, and how many of them are behind the point.
    Decimal(i128, u8),
    /// Of a STRING.
    Text(String),
    /// Of a TIMESTAMP: milliseconds since the epoch, and nanoseconds behind them.
    Moment(i64, u32),
}

impl Literal {
    /// Whether values of a type can be compared with it.
    fn is_for(&self, scalar: Scalar) -> bool {
        match self {
            Literal::Bool(_) => scalar == Scalar::Boolean,
            Literal::Whole(_) => {
                is_whole(scalar)
                    || matches!(
                        scalar,
                        Scalar::Decimal { .. } | Scalar::Date | Scalar::Time { .. }
                    )
            }
            Literal::Decimal(..) => is_whole(scalar) || matches!(scalar, Scalar::Decimal { .. }),
            Literal::Double(_) | Literal::Ordered(_) => matches!(scalar, Scalar::Float | Scalar::Double),
            Literal::Text(_) => matches!(scalar, Scalar::String | Scalar::RawJson),
            Literal::Moment(..) => matches!(scalar, Scalar::Timestamp { .. }),
        }
    }

    fn write(&self, w: &mut FrameWriter) {
        match self {
            Literal::Bool(value) => {
                w.u8(1);
                w.u8(u8::from(*value));
            }
            Literal::Whole(value) => {
                w.u8(2);
                w.i64(*value);
            }
            Literal::Double(value) => {
                w.u8(3);
                w.f64(*value);
            }
            Literal::Ordered(value) => {
                w.u8(4);
                w.f64(*value);
            }
            Literal::Decimal(unscaled, scale) => {
                w.u8(5);
                w.u8(*scale);
                w.str(&unscaled.to_string());
            }
            Literal::Text(text) => {
                w.u8(6);
                w.str(text);
            }
            Literal::Moment(millis, nanos) => {
                w.u8(7);
                w.i64(*millis);
                w.u32(*nanos);
            }
        }
    }

    fn read(r: &mut FrameReader<'_>) -> Result<Self> {
        Ok(match r.u8()? {
            1 => Literal::Bool(r.u8()? != 0),
            2 => Literal::Whole(r.i64()?),
            3 => Literal::Double(r.f64()?),
            4 => Literal::Ordered(r.f64()?),
            5 => {
                let scale = r.u8()?;
                let unscaled: i128 = r.str()?.parse().map_err(|_| damaged("a decimal"))?;
                if scale > 38 || unscaled.unsigned_abs() >= 10u128.pow(38) {
                    return Err(damaged("a decimal"));
                }
                Literal::Decimal(unscaled, scale)
            }
            6 => Literal::Text(r.str()?.to_owned()),
            7 => {
                let (millis, nanos) = (r.i64()?, r.u32()?);
                if nanos >= 1_000_000 {
                    return Err(damaged("a moment"));
                }
                Literal::Moment(millis, nanos)
            }
            other => return Err(unknown("literal", other)),
        })
    }
}

/// A value of a row: a column, and the fields on the way inside of it. Those that only the filter needs come behind those of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The number of the column.
    pub column: u32,
    /// The numbers of fields of ROWs, from the outside in.
    pub fields: Vec<u32>,
}

/// A condition; `O` is what it says of the values that it is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate<O = Operand> {
    /// All of them hold.
    All(Vec<Predicate<O>>),
    /// One of them holds.
    Any(Vec<Predicate<O>>),
    /// It does not hold.
    Not(Box<Predicate<O>>),
    /// Whether it is true, or false; never unknown.
    Is(bool, Box<Predicate<O>>),
    /// The value is null; never unknown.
    Null(O),
    /// A BOOLEAN itself.
    True(O),
    /// A comparison.
    Compare(Comparison, O, Literal),
    /// It equals one of them.
    In(O, Vec<Literal>),
    /// A STRING has a text in it.
    Has(Part, O, String),
}

impl<O> Predicate<O> {
    /// The same about other things.
    pub fn map<T>(&self, to: &mut impl FnMut(&O) -> T) -> Predicate<T> {
        match self {
            Predicate::All(all) => Predicate::All(all.iter().map(|one| one.map(to)).collect()),
            Predicate::Any(any) => Predicate::Any(any.iter().map(|one| one.map(to)).collect()),
            Predicate::Not(inner) => Predicate::Not(Box::new(inner.map(to))),
            Predicate::Is(truth, inner) => Predicate::Is(*truth, Box::new(inner.map(to))),
            Predicate::Null(operand) => Predicate::Null(to(operand)),
            Predicate::True(operand) => Predicate::True(to(operand)),
            Predicate::Compare(comparison, operand, literal) => {
                Predicate::Compare(*comparison, to(operand), literal.clone())
            }
            Predicate::In(operand, literals) => Predicate::In(to(operand), literals.clone()),
            Predicate::Has(part, operand, text) => Predicate::Has(*part, to(operand), text.clone()),
        }
    }

    /// Shows each operand, and what is done with it.
    fn each(&self, see: &mut impl FnMut(&O, Use<'_>) -> Result<()>) -> Result<()> {
        match self {
            Predicate::All(all) | Predicate::Any(all) => all.iter().try_for_each(|one| one.each(see)),
            Predicate::Not(inner) | Predicate::Is(_, inner) => inner.each(see),
            Predicate::Null(operand) => see(operand, Use::Null),
            Predicate::True(operand) => see(operand, Use::Bool),
            Predicate::Compare(_, operand, literal) => {
                see(operand, Use::Literals(std::slice::from_ref(literal)))
            }
            Predicate::In(operand, literals) => see(operand, Use::Literals(literals)),
            Predicate::Has(_, operand, _) => see(operand, Use::Text),
        }
    }
}

/// What a predicate does with a value.
#[derive(Clone, Copy, Debug)]
enum Use<'a> {
    /// It asks whether it is null.
    Null,
    /// It takes it as true or false.
    Bool,
    /// It looks into a text.
    Text,
    /// It compares it.
    Literals(&'a [Literal]),
}

impl Use<'_> {
    fn takes(self, scalar: Scalar) -> bool {
        match self {
            Use::Null => true,
            Use::Bool => scalar == Scalar::Boolean,
            Use::Text => matches!(scalar, Scalar::String | Scalar::RawJson),
            Use::Literals(literals) => literals.iter().all(|literal| literal.is_for(scalar)),
        }
    }
}

/// What a plan lets pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Columns that it needs beside those of the row.
    pub columns: Vec<Column>,
    /// What must be true of a row.
    pub predicate: Predicate,
}

fn damaged(what: &str) -> CoreError {
    CoreError::state(format!(
        "the filter of a plan has {what} that is none; use the same version of jar and library"
    ))
}

fn unknown(what: &str, number: u8) -> CoreError {
    CoreError::state(format!(
        "{what} {number} of a plan's filter is not known; use the same version of jar and library"
    ))
}

/// Whether a type is one of whole numbers.
pub fn is_whole(scalar: Scalar) -> bool {
    matches!(
        scalar,
        Scalar::TinyInt | Scalar::SmallInt | Scalar::Int | Scalar::BigInt
    )
}

/// What an operand is.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its column.
    pub column: &'a Column,
    /// The fields on the way inside of it: the name of each, and how many the ROW around it has.
    pub fields: Vec<(&'a str, usize)>,
    /// The type at the end of the way.
    pub scalar: Scalar,
}

/// What an operand is.
///
/// # Errors
/// State when there is nothing, or no scalar.
pub fn find<'a>(columns: &'a [Column], filter: &'a Filter, operand: &Operand) -> Result<Target<'a>> {
    let number = operand.column as usize;
    let column = columns
        .get(number)
        .or_else(|| filter.columns.get(number.checked_sub(columns.len())?))
        .ok_or_else(|| damaged("a column"))?;
    let mut fields = Vec::new();
    let mut kind: &Type = &column.kind;
    for field in &operand.fields {
        let TypeKind::Row(all) = &kind.kind else {
            return Err(damaged("a field"));
        };
        let (name, inner) = all.get(*field as usize).ok_or_else(|| damaged("a field"))?;
        fields.push((name.as_str(), all.len()));
        kind = inner;
    }
    match &kind.kind {
        TypeKind::Scalar(scalar) => Ok(Target {
            column,
            fields,
            scalar: *scalar,
        }),
        _ => Err(damaged("a value")),
    }
}

impl Filter {
    /// Reads the predicate of a filter with these columns, and holds it against them and against those of the row.
    pub(super) fn read(r: &mut FrameReader<'_>, row: &[Column], columns: Vec<Column>) -> Result<Self> {
        let mut left = MAX_PARTS;
        let filter = Filter {
            columns,
            predicate: read(r, 0, &mut left)?,
        };
        filter.predicate.each(
            &mut |operand, usage| match usage.takes(find(row, &filter, operand)?.scalar) {
                true => Ok(()),
                false => Err(damaged("a literal")),
            },
        )?;
        Ok(filter)
    }

    /// Writes the predicate.
    pub(super) fn write(&self, w: &mut FrameWriter) {
        write(&self.predicate, w);
    }
}

fn read(r: &mut FrameReader<'_>, depth: usize, left: &mut usize) -> Result<Predicate> {
    let mut spend = |parts: usize| {
        *left = left.checked_sub(parts).ok_or_else(|| {
            CoreError::config(format!(
                "the filter has more than {MAX_PARTS} parts; set 'filter.handling.policy' to 'never'"
            ))
        })?;
        Ok::<_, CoreError>(())
    };
    spend(1)?;
    if depth >= MAX_DEPTH {
        return Err(CoreError::config(format!(
            "the filter is deeper than {MAX_DEPTH} levels; set 'filter.handling.policy' to 'never'"
        )));
    }
    Ok(match r.u8()? {
        code @ (1 | 2) => {
            let count = r.u32()? as usize;
            let mut all = Vec::new();
            for _ in 0..count {
                all.push(read(r, depth + 1, left)?);
            }
            match code {
                1 => Predicate::All(all),
                _ => Predicate::Any(all),
            }
        }
        3 => Predicate::Not(Box::new(read(r, depth + 1, left)?)),
        4 => Predicate::Is(true, Box::new(read(r, depth + 1, left)?)),
        5 => Predicate::Is(false, Box::new(read(r, depth + 1, left)?)),
        6 => Predicate::Null(operand(r)?),
        7 => Predicate::True(operand(r)?),
        8 => {
            let number = r.u8()?;
            let comparison = Comparison::ALL.into_iter().find(|c| *c as u8 == number);
            let comparison = comparison.ok_or_else(|| unknown("comparison", number))?;
            Predicate::Compare(comparison, operand(r)?, Literal::read(r)?)
        }
        9 => {
            let operand = operand(r)?;
            let count = r.u32()? as usize;
            spend(count)?;
            let mut literals = Vec::new();
            for _ in 0..count {
                literals.push(Literal::read(r)?);
            }
            Predicate::In(operand, literals)
        }
        10 => {
            let number = r.u8()?;
            let part = Part::ALL.into_iter().find(|p| *p as u8 == number);
            let part = part.ok_or_else(|| unknown("part", number))?;
            Predicate::Has(part, operand(r)?, r.str()?.to_owned())
        }
        other => return Err(unknown("predicate", other)),
    })
}

fn operand(r: &mut FrameReader<'_>) -> Result<Operand> {
    let (column, depth) = (r.u32()?, r.u32()? as usize);
    if depth > MAX_DEPTH {
        return Err(damaged("a field"));
    }
    let mut fields = Vec::new();
    for _ in 0..depth {
        fields.push(r.u32()?);
    }
    Ok(Operand { column, fields })
}

fn write(predicate: &Predicate, w: &mut FrameWriter) {
    let operand = |w: &mut FrameWriter, operand: &Operand| {
        w.u32(operand.column);
        w.u32(operand.fields.len() as u32);
        operand.fields.iter().for_each(|field| w.u32(*field));
    };
    match predicate {
        Predicate::All(all) | Predicate::Any(all) => {
            w.u8(if matches!(predicate, Predicate::All(_)) {
                1
            } else {
                2
            });
            w.u32(all.len() as u32);
            all.iter().for_each(|one| write(one, w));
        }
        Predicate::Not(inner) => {
            w.u8(3);
            write(inner, w);
        }
        Predicate::Is(truth, inner) => {
            w.u8(if *truth { 4 } else { 5 });
            write(inner, w);
        }
        Predicate::Null(of) => {
            w.u8(6);
            operand(w, of);
        }
        Predicate::True(of) => {
            w.u8(7);
            operand(w, of);
        }
        Predicate::Compare(comparison, of, literal) => {
            w.u8(8);
            w.u8(*comparison as u8);
            operand(w, of);
            literal.write(w);
        }
        Predicate::In(of, literals) => {
            w.u8(9);
            operand(w, of);
            w.u32(literals.len() as u32);
            literals.iter().for_each(|literal| literal.write(w));
        }
        Predicate::Has(part, of, text) => {
            w.u8(10);
            w.u8(*part as u8);
            operand(w, of);
            w.str(text);
        }
    }
}

/// The way to a value in the rows that were written.
#[derive(Debug)]
pub struct Access {
    /// It is in the row of the filter's own columns.
    own: bool,
    /// The field of each row on the way, and how many fields that row has.
    steps: Vec<(usize, usize)>,
    scalar: Scalar,
}

/// A predicate that rows can be judged by.
pub type Judge = Predicate<Access>;

/// Makes a judge of a filter over the rows of a plan. What a filter that was read is about is there; of anything else nobody knows.
pub fn judge(columns: &[Column], filter: &Filter) -> Judge {
    filter.predicate.map(&mut |operand| {
        let number = operand.column as usize;
        let own = number >= columns.len();
        let first = match own {
            true => (number - columns.len(), filter.columns.len()),
            false => (number, columns.len()),
        };
        let Ok(target) = find(columns, filter, operand) else {
            return Access {
                own,
                steps: Vec::new(),
                scalar: Scalar::Variant,
            };
        };
        let inner = operand.fields.iter().zip(target.fields);
        let inner = inner.map(|(field, (_, of))| (*field as usize, of));
        Access {
            own,
            steps: std::iter::once(first).chain(inner).collect(),
            scalar: target.scalar,
        }
    })
}

/// A value as it is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Bool(bool),
    Whole(i64),
    Double(f64),
    Decimal(i128, u8),
    Text(&'a [u8]),
    Moment(i64, u32),
    /// Of a type that nothing is compared with.
    Other,
}

/// The rows that a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Of the columns that are asked for.
    pub row: &'a [u8],
    /// Of those that only the filter needs.
    pub own: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The value there; `None` when it, or a row around it, is null.
    fn value(&self, access: &Access) -> Option<Value<'a>> {
        let mut row = if access.own { self.own } else { self.row };
        let (last, way) = access.steps.split_last()?;
        for (field, of) in way {
            row = binary::variable(row, binary::field(row, *of, *field)?);
        }
        let bits = binary::field(row, last.1, last.0)?;
        Some(match access.scalar {
            Scalar::Boolean => Value::Bool(bits.i8() != 0),
            Scalar::TinyInt => Value::Whole(bits.i8().into()),
            Scalar::SmallInt => Value::Whole(bits.i16().into()),
            Scalar::Int | Scalar::Date | Scalar::Time { .. } => Value::Whole(bits.i32().into()),
            Scalar::BigInt => Value::Whole(bits.i64()),
            Scalar::Float => Value::Double(f32::from_bits(bits.i32() as u32).into()),
            Scalar::Double => Value::Double(f64::from_bits(bits.i64() as u64)),
            Scalar::Decimal { precision, scale } => {
                Value::Decimal(binary::decimal(row, bits, precision), scale)
            }
            Scalar::String | Scalar::RawJson => Value::Text(binary::text(row, last.0, last.1)?),
            Scalar::Timestamp { precision, .. } => {
                let (millis, nanos) = binary::moment(row, bits, precision);
                Value::Moment(millis, nanos)
            }
            Scalar::Bytes | Scalar::Variant => Value::Other,
        })
    }

    /// Whether a predicate is true or false of them; `None` where nobody knows.
    pub fn judge(&self, predicate: &Judge) -> Option<bool> {
        match predicate {
            Predicate::All(all) => {
                let mut known = true;
                for one in all {
                    match self.judge(one) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => known = false,
                    }
                }
                known.then_some(true)
            }
            Predicate::Any(any) => {
                let mut known = true;
                for one in any {
                    match self.judge(one) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => known = false,
                    }
                }
                known.then_some(false)
            }
            Predicate::Not(inner) => self.judge(inner).map(|holds| !holds),
            Predicate::Is(truth, inner) => Some(self.judge(inner) == Some(*truth)),
            Predicate::Null(access) => Some(self.value(access).is_none()),
            Predicate::True(access) => self.value(access).map(|value| value == Value::Bool(true)),
            Predicate::Compare(comparison, access, literal) => {
                let value = self.value(access)?;
                Some(comparison.holds(order(value, literal)))
            }
            Predicate::In(access, literals) => {
                let value = self.value(access)?;
                let mut literals = literals.iter();
                Some(literals.any(|literal| order(value, literal) == Some(Ordering::Equal)))
            }
            Predicate::Has(part, access, text) => match self.value(access)? {
                Value::Text(value) => Some(match part {
                    Part::Start => value.starts_with(text.as_bytes()),
                    Part::End => value.ends_with(text.as_bytes()),
                    Part::Anywhere => memchr::memmem::find(value, text.as_bytes()).is_some(),
                }),
                _ => None,
            },
        }
    }
}

/// How a value stands to a literal of its type; `None` where one of them is no number.
fn order(value: Value<'_>, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Whole(value), Literal::Whole(literal)) => Some(value.cmp(literal)),
        (Value::Whole(value), Literal::Decimal(literal, scale)) => {
            Some(decimals((value.into(), 0), (*literal, *scale)))
        }
        (Value::Decimal(value, scale), Literal::Whole(literal)) => {
            Some(decimals((value, scale), (i128::from(*literal), 0)))
        }
        (Value::Decimal(value, scale), Literal::Decimal(literal, of)) => {
            Some(decimals((value, scale), (*literal, *of)))
        }
        (Value::Double(value), Literal::Double(literal)) => value.partial_cmp(literal),
        (Value::Double(value), Literal::Ordered(literal)) => Some(value.total_cmp(literal)),
        // As bytes, which Flink compares without their sign.
        (Value::Text(value), Literal::Text(literal)) => Some(value.cmp(literal.as_bytes())),
        (Value::Moment(millis, nanos), Literal::Moment(other, behind)) => {
            Some((millis, nanos).cmp(&(*other, *behind)))
        }
        _ => None,
    }
}

/// The order of two decimals of at most 38 digits, each by its digits and how many are behind the point.
fn decimals((a, a_scale): (i128, u8), (b, b_scale): (i128, u8)) -> Ordering {
    let scaled = |value: i128, by: u8| value.checked_mul(10i128.pow(by.into()));
    // What has too many digits is beyond the other one.
    match a_scale.cmp(&b_scale) {
        Ordering::Less => match scaled(a, b_scale - a_scale) {
            Some(a) => a.cmp(&b),
            None => a.cmp(&0),
        },
        _ => match scaled(b, a_scale - b_scale) {
            Some(b) => a.cmp(&b),
            None => 0.cmp(&b),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_by_all_of_their_digits() {
        let most = 10i128.pow(38) - 1;
        for (a, b, order) in [
            ((150, 2), (15, 1), Ordering::Equal),
            ((-150, 2), (-1, 0), Ordering::Less),
            ((most, 0), (most, 38), Ordering::Greater),
            ((-most, 0), (-most, 38), Ordering::Less),
            ((most, 38), (1, 0), Ordering::Less),
            ((most, 38), (most, 37), Ordering::Less),
            ((0, 38), (-most, 0), Ordering::Greater),
            ((0, 0), (0, 38), Ordering::Equal),
        ] {
            assert_eq!(decimals(a, b), order, "{a:?} {b:?}");
            assert_eq!(decimals(b, a), order.reverse(), "{b:?} {a:?}");
        }
    }

    #[test]
    fn doubles_are_compared_in_two_ways() {
        let order = |value, literal| order(Value::Double(value), &literal);
        assert_eq!(order(-0.0, Literal::Double(0.0)), Some(Ordering::Equal));
        assert_eq!(order(-0.0, Literal::Ordered(0.0)), Some(Ordering::Less));
        assert_eq!(order(f64::NAN, Literal::Double(0.0)), None);
        assert_eq!(
            order(f64::NAN, Literal::Ordered(f64::INFINITY)),
            Some(Ordering::Greater)
        );
        assert!(Comparison::NotEqual.holds(None) && !Comparison::Equal.holds(None));
    }
}
