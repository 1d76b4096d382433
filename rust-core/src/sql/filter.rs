//! The query of a table's documents, with what its filter lets pass as far as the service can tell.
//!
//! Each condition here holds for **all** documents whose rows pass, and for as few others as is sure: the decoder judges every row once more,
//! by the value that its column makes of it. The service compares JSON, where a row has the column's type: `"5"` is a number to an INT column
//! and 5 a text to a STRING; comparisons across types, and with what is not there, are undefined. So a condition is about JSON
//! of the type that it can compare, and lets others pass that the column might read. What the service compares differently, or nobody knows
//! how, is left to the decoder: whole numbers beyond 2^53, ranges of text beyond ASCII, values that became null as `json.on-error`
//! `null-field` asks.

use std::collections::BTreeMap;

use azure_core::time::OffsetDateTime;
use serde_json::Value;

use super::Query;
use crate::rows::{
    find, is_whole, Column, Comparison, Filter, Format, Literal, Metadata, OnError, Origin, Part, Plan,
    Predicate, Scalar, Target, Unit,
};

/// The largest whole number below which the service's doubles have all others.
const MAX_EXACT: i64 = (1 << 53) - 1;

/// Below it, a number near zero might become zero.
const SMALLEST: f64 = 1e-300;

/// Most values that one condition lists, and that a query has: the service takes a query of 512 KiB.
const MAX_LISTED: usize = 500;
const MAX_PARAMETERS: usize = 2000;
const MAX_TEXT: usize = 128 << 10;

/// Most bytes of the condition itself: paths stand in it once for each value, and may be of any length.
const MAX_CONDITION: usize = 200 << 10;

/// Milliseconds of what a local time may be away from UTC, and a minute.
const MOST_AHEAD: i64 = (18 * 60 + 1) * 60_000;

/// The query of all documents that may make a row of a plan that passes.
pub fn documents(plan: &Plan) -> Query {
    let mut conditions = Conditions {
        plan,
        parameters: BTreeMap::new(),
        size: 0,
    };
    let condition = plan.filter.as_ref().and_then(|filter| {
        let predicate = filter
            .predicate
            .map(&mut |operand| place(&plan.columns, filter, operand));
        conditions.of(&predicate, true)
    });
    let (text, parameters) = match condition {
        Some(condition) => (
            format!("SELECT * FROM c WHERE {condition}"),
            conditions.parameters,
        ),
        None => ("SELECT * FROM c".to_owned(), BTreeMap::new()),
    };
    Query {
        text,
        parameters,
        global: None,
    }
}

/// A value as the service finds it.
#[derive(Debug)]
struct Place {
    /// Such as `c["a"]["b"]`; `None`: the service does not have it.
    path: Option<String>,
    scalar: Scalar,
    /// What a number counts as a timestamp.
    unit: Unit,
    /// The service itself writes it, or takes nothing else, and it is of the JSON type that the column's is compared with.
    system: bool,
}

fn place(columns: &[Column], filter: &Filter, operand: &crate::rows::Operand) -> Place {
    let nowhere = Place {
        path: None,
        scalar: Scalar::Variant,
        unit: Unit::None,
        system: false,
    };
    let Ok(Target {
        column,
        fields,
        scalar,
    }) = find(columns, filter, operand)
    else {
        return nowhere;
    };
    let names: Vec<&str> = match &column.origin {
        Origin::Path(path) => path
            .iter()
            .map(String::as_str)
            .chain(fields.into_iter().map(|(name, _)| name))
            .collect(),
        Origin::Metadata(Metadata::Id) => vec!["id"],
        Origin::Metadata(Metadata::Timestamp) => vec!["_ts"],
        Origin::Metadata(_) | Origin::Constant(_) => return nowhere,
    };
    let is_ts = names == ["_ts"];
    let is_number = is_whole(scalar) || matches!(scalar, Scalar::Timestamp { .. });
    Place {
        path: path(&names),
        scalar,
        unit: if is_ts { Unit::Seconds } else { Unit::None },
        system: (is_ts && is_number) || (names == ["id"] && scalar == Scalar::String),
    }
}

/// Where a field is, if its names need no escapes, about which nobody is sure.
fn path(names: &[&str]) -> Option<String> {
    let plain = |name: &&str| {
        !name.is_empty() && !name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '\''))
    };
    if names.is_empty() || !names.iter().all(plain) {
        return None;
    }
    let steps: String = names.iter().map(|name| format!("[\"{name}\"]")).collect();
    Some(format!("c{steps}"))
}

struct Conditions<'p> {
    plan: &'p Plan,
    parameters: BTreeMap<String, Value>,
    /// Bytes of texts among the parameters.
    size: usize,
}

/// Several of them, all of which hold.
fn all(conditions: Vec<String>) -> Option<String> {
    joined(conditions, " AND ")
}

/// Several of them, one of which holds.
fn any(conditions: Vec<String>) -> Option<String> {
    joined(conditions, " OR ")
}

fn joined(mut conditions: Vec<String>, by: &str) -> Option<String> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(format!("({})", conditions.join(by))),
    }
}

fn is_there(path: &str) -> String {
    format!("(IS_DEFINED({path}) AND NOT IS_NULL({path}))")
}

impl Conditions<'_> {
    /// A condition that holds wherever the predicate is true, or false where that is `wanted`; `None`: it may be so of any document.
    fn of(&mut self, predicate: &Predicate<Place>, wanted: bool) -> Option<String> {
        self.within(MAX_CONDITION, predicate, wanted)
    }

    /// The same, `None` also where it would be longer than that.
    fn within(&mut self, most: usize, predicate: &Predicate<Place>, wanted: bool) -> Option<String> {
        let (before, size) = (self.parameters.len(), self.size);
        let found = self.one(predicate, wanted).filter(|text| text.len() <= most);
        if found.is_none() {
            // Those of a part that came to nothing.
            while self.parameters.len() > before {
                self.parameters.pop_last();
            }
            self.size = size;
        }
        found
    }

    fn one(&mut self, predicate: &Predicate<Place>, wanted: bool) -> Option<String> {
        match (predicate, wanted) {
            (Predicate::All(parts), true) | (Predicate::Any(parts), false) => {
                // What has no room is left out: the others hold as well without it.
                let (mut found, mut room) = (Vec::new(), MAX_CONDITION - "()".len());
                for part in parts {
                    if let Some(text) = self.within(room, part, wanted) {
                        room = room.saturating_sub(text.len() + " AND ".len());
                        found.push(text);
                    }
                }
                all(found)
            }
            (Predicate::Any(parts), true) | (Predicate::All(parts), false) => {
                let found: Option<Vec<_>> = parts.iter().map(|part| self.of(part, wanted)).collect();
                any(found?)
            }
            (Predicate::Not(inner), _) => self.of(inner, !wanted),
            (Predicate::Is(truth, inner), true) => self.of(inner, *truth),
            // It is the other one, or nobody knows.
            (Predicate::Is(..), false) => None,
            (Predicate::Null(place), true) => {
                let path = place.path.as_ref()?;
                // Else a value of any kind may have become null.
                let sure = self.plan.on_error != OnError::NullField;
                sure.then(|| format!("(NOT IS_DEFINED({path}) OR IS_NULL({path}))"))
            }
            (Predicate::Null(place), false) => place.path.as_deref().map(is_there),
            (Predicate::True(place), _) => self.compare(Comparison::Equal, place, &Literal::Bool(wanted)),
            (Predicate::Compare(comparison, place, literal), _) => {
                let comparison = if wanted {
                    *comparison
                } else {
                    comparison.opposite()
                };
                self.compare(comparison, place, literal)
            }
            (Predicate::In(place, literals), _) if literals.len() <= MAX_LISTED => match wanted {
                true => self.listed(place, literals),
                false => self.unlisted(place, literals),
            },
            (Predicate::In(..), _) => None,
            (Predicate::Has(part, place, text), _) => self.has(*part, place, text, wanted),
        }
    }

    /// The name of a parameter with this value; `None` when there are too many.
    fn parameter(&mut self, value: Value) -> Option<String> {
        let size = value.as_str().map_or(8, str::len);
        if self.parameters.len() >= MAX_PARAMETERS || self.size + size > MAX_TEXT {
            return None;
        }
        self.size += size;
        // So that their order is that of the query.
        let name = format!("@p{:04}", self.parameters.len());
        self.parameters.insert(name.clone(), value);
        Some(name)
    }

    fn number(&mut self, value: f64) -> Option<String> {
        let whole = value as i64;
        let exact = whole as f64 == value && whole.unsigned_abs() <= MAX_EXACT as u64;
        let number = if exact {
            Value::from(whole)
        } else {
            Value::from(value)
        };
        self.parameter(number)
    }

    /// It is one of the values, or of a type that is not compared.
    fn listed(&mut self, place: &Place, literals: &[Literal]) -> Option<String> {
        let path = place.path.clone()?;
        let mut values = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for literal in literals {
            match (literal, place.scalar) {
                (Literal::Text(text), Scalar::String) if is_plain(text) => {
                    values.push(self.parameter(Value::from(text.as_str()))?);
                    for other in texts_of_others(place, &path, |sample| sample.may_be(text)) {
                        if !others.contains(&other) {
                            others.push(other);
                        }
                    }
                }
                (Literal::Whole(whole), scalar)
                    if is_whole(scalar) && whole.unsigned_abs() <= MAX_EXACT as u64 =>
                {
                    values.push(self.parameter(Value::from(*whole))?);
                    let text = format!("IS_STRING({path})");
                    if !place.system && !others.contains(&text) {
                        others.push(text);
                    }
                }
                _ => {
                    let each: Option<Vec<_>> = literals
                        .iter()
                        .map(|literal| self.compare(Comparison::Equal, place, literal))
                        .collect();
                    return any(each?);
                }
            }
        }
        let listed = match values.as_slice() {
            [] => return None,
            [one] => format!("{path} = {one}"),
            _ => format!("{path} IN ({})", values.join(", ")),
        };
        any(std::iter::once(listed).chain(others).collect())
    }

    /// It is there, and none of the values.
    fn unlisted(&mut self, place: &Place, literals: &[Literal]) -> Option<String> {
        let path = place.path.as_deref()?;
        let (mut found, mut texts): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for literal in literals {
            match (literal, place.scalar) {
                (Literal::Text(text), Scalar::String) if is_plain(text) && !place.system => {
                    let value = self.parameter(Value::from(text.as_str()));
                    texts.extend(value.map(|value| format!("{path} != {value}")));
                }
                _ => {
                    let condition = self.compare(Comparison::NotEqual, place, literal);
                    found.extend(condition.filter(|condition| !found.contains(condition)));
                }
            }
        }
        // What holds of all texts is said once.
        if let Some(none) = all(texts) {
            found.push(is_there(path));
            found.push(format!("(NOT IS_STRING({path}) OR {none})"));
        }
        all(found)
    }

    fn compare(&mut self, comparison: Comparison, place: &Place, literal: &Literal) -> Option<String> {
        let path = place.path.as_deref()?;
        let text = (!place.system).then(|| format!("IS_STRING({path})"));
        match (literal, place.scalar) {
            (Literal::Bool(value), Scalar::Boolean) => {
                let value = match comparison {
                    Comparison::Equal => *value,
                    Comparison::NotEqual => !value,
                    _ => return None,
                };
                any(std::iter::once(format!("{path} = {value}")).chain(text).collect())
            }
            (Literal::Text(value), Scalar::String) => self.compare_text(comparison, place, value),
            (Literal::Whole(days), Scalar::Date) => {
                let day = Moment::of(days.checked_mul(86_400_000)?)?.date;
                self.compare_spelling(comparison, path, &day, &day, true)
            }
            (Literal::Whole(millis), Scalar::Time { .. }) => {
                let second = Moment::of(*millis)?.second;
                self.compare_spelling(comparison, path, &second, &format!("{second}~"), false)
            }
            (Literal::Moment(millis, _), Scalar::Timestamp { zoned, .. }) => {
                let numbers = self.compare_count(comparison, place, *millis);
                if place.system {
                    return numbers;
                }
                let around = if zoned { MOST_AHEAD } else { 0 };
                let (from, to) = (
                    Moment::of(millis.checked_sub(around)?)?,
                    Moment::of(millis.checked_add(around)?)?,
                );
                let between = if self.plan.format == Format::Iso { 'T' } else { ' ' };
                let low = format!("{}{between}{}", from.date, from.minute);
                let high = format!("{}{between}{}~", to.date, to.minute);
                let spelled = self.compare_spelling(comparison, path, &low, &high, true)?;
                match self.plan.unit {
                    Unit::None => Some(spelled),
                    _ => any(vec![spelled, format!("IS_NUMBER({path})")]),
                }
            }
            (Literal::Whole(value), scalar)
                if is_whole(scalar) && value.unsigned_abs() <= MAX_EXACT as u64 =>
            {
                let value = self.parameter(Value::from(*value))?;
                let sign = sign(comparison);
                any(std::iter::once(format!("{path} {sign} {value}"))
                    .chain(text)
                    .collect())
            }
            (_, scalar) => {
                let (low, high) = around(literal, scalar)?;
                let number = match comparison {
                    Comparison::NotEqual => return Some(is_there(path)),
                    Comparison::Equal => {
                        let (low, high) = (self.number(low)?, self.number(high)?);
                        format!("({path} >= {low} AND {path} <= {high})")
                    }
                    Comparison::Less | Comparison::LessOrEqual => format!("{path} <= {}", self.number(high)?),
                    Comparison::Greater | Comparison::GreaterOrEqual => {
                        format!("{path} >= {}", self.number(low)?)
                    }
                };
                any(std::iter::once(number).chain(text).collect())
            }
        }
    }

    /// A document's time stamp, in whole seconds.
    fn compare_count(&mut self, comparison: Comparison, place: &Place, millis: i64) -> Option<String> {
        let path = place.path.as_deref()?;
        if place.unit != Unit::Seconds {
            return None;
        }
        let (low, high) = (
            millis.div_euclid(1000) as f64,
            millis.div_euclid(1000) as f64 + 1.0,
        );
        Some(match comparison {
            Comparison::NotEqual => return None,
            Comparison::Equal => {
                let (low, high) = (self.number(low)?, self.number(high)?);
                format!("({path} >= {low} AND {path} <= {high})")
            }
            Comparison::Less | Comparison::LessOrEqual => format!("{path} <= {}", self.number(high)?),
            Comparison::Greater | Comparison::GreaterOrEqual => format!("{path} >= {}", self.number(low)?),
        })
    }

    /// A text that begins with a year of four digits, or with a time of the day: what is not smaller is spelled at or behind `low`, and what
    /// is not larger at or before `high`. Years with a sign are in front of all others.
    fn compare_spelling(
        &mut self,
        comparison: Comparison,
        path: &str,
        low: &str,
        high: &str,
        years: bool,
    ) -> Option<String> {
        let signed = years.then(|| format!("{path} < '0'"));
        let mut bound =
            |sign: &str, value: &str| Some(format!("{path} {sign} {}", self.parameter(Value::from(value))?));
        let condition = match comparison {
            Comparison::NotEqual => return Some(is_there(path)),
            Comparison::Equal if low == high => bound("=", low)?,
            Comparison::Equal => {
                let (low, high) = (bound(">=", low)?, bound("<=", high)?);
                format!("({low} AND {high})")
            }
            // Those with a sign are among them.
            Comparison::Less | Comparison::LessOrEqual => return bound("<=", high),
            Comparison::Greater | Comparison::GreaterOrEqual => bound(">=", low)?,
        };
        any(std::iter::once(condition).chain(signed).collect())
    }

    fn compare_text(&mut self, comparison: Comparison, place: &Place, text: &str) -> Option<String> {
        let path = place.path.clone()?;
        if !is_plain(text) {
            return None;
        }
        if comparison == Comparison::NotEqual {
            let value = self.parameter(Value::from(text))?;
            return match place.system {
                true => Some(format!("{path} != {value}")),
                false => all(vec![
                    is_there(&path),
                    format!("(NOT IS_STRING({path}) OR {path} != {value})"),
                ]),
            };
        }
        let others = match comparison {
            Comparison::Equal => texts_of_others(place, &path, |sample| sample.may_be(text)),
            _ if !text.is_ascii() => return None,
            _ => texts_of_others(place, &path, |_| true),
        };
        let value = self.parameter(Value::from(text))?;
        any(std::iter::once(format!("{path} {} {value}", sign(comparison)))
            .chain(others)
            .collect())
    }

    fn has(&mut self, part: Part, place: &Place, text: &str, wanted: bool) -> Option<String> {
        let path = place.path.clone()?;
        if !is_plain(text) || !text.is_ascii() || place.scalar != Scalar::String {
            return None;
        }
        let function = match part {
            Part::Start => "STARTSWITH",
            Part::End => "ENDSWITH",
            Part::Anywhere => "CONTAINS",
        };
        let value = self.parameter(Value::from(text))?;
        if !wanted {
            return all(vec![
                is_there(&path),
                format!("(NOT IS_STRING({path}) OR NOT {function}({path}, {value}))"),
            ]);
        }
        let others = texts_of_others(place, &path, |sample| sample.may_have(part, text));
        any(std::iter::once(format!("{function}({path}, {value})"))
            .chain(others)
            .collect())
    }
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

/// Texts that the service takes as they are.
fn is_plain(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// JSON that is no text, and is one to a STRING column.
#[derive(Clone, Copy)]
enum Other {
    Number,
    Bool,
    Object,
    Array,
}

impl Other {
    const ALL: [(Other, &'static str); 4] = [
        (Other::Number, "IS_NUMBER"),
        (Other::Bool, "IS_BOOL"),
        (Other::Object, "IS_OBJECT"),
        (Other::Array, "IS_ARRAY"),
    ];

    /// Whether JSON of the kind may be this text.
    fn may_be(self, text: &str) -> bool {
        match self {
            Other::Number => text.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
            Other::Bool => matches!(text, "true" | "false"),
            Other::Object => text.starts_with('{'),
            Other::Array => text.starts_with('['),
        }
    }

    /// Whether JSON of the kind may have this text in it.
    fn may_have(self, part: Part, text: &str) -> bool {
        match self {
            Other::Number => text
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E')),
            Other::Bool => ["true", "false"].iter().any(|word| match part {
                Part::Start => word.starts_with(text),
                Part::End => word.ends_with(text),
                Part::Anywhere => word.contains(text),
            }),
            Other::Object | Other::Array if part != Part::Start || text.is_empty() => true,
            Other::Object => text.starts_with('{'),
            Other::Array => text.starts_with('['),
        }
    }
}

/// Conditions for values that are no texts and may be read as one that fits.
fn texts_of_others(place: &Place, path: &str, fits: impl Fn(Other) -> bool) -> Vec<String> {
    if place.system {
        return Vec::new();
    }
    let others = Other::ALL.into_iter().filter(|(other, _)| fits(*other));
    others.map(|(_, is)| format!("{is}({path})")).collect()
}

/// Doubles at and around a literal: a number of the type that equals it is between them, as the service has it.
fn around(literal: &Literal, scalar: Scalar) -> Option<(f64, f64)> {
    let (low, high) = match (literal, scalar) {
        (Literal::Double(value) | Literal::Ordered(value), Scalar::Double) => (*value, *value),
        (Literal::Double(value) | Literal::Ordered(value), Scalar::Float) => {
            let near = *value as f32;
            (
                near.next_down().next_down().into(),
                near.next_up().next_up().into(),
            )
        }
        (Literal::Whole(_) | Literal::Decimal(..), Scalar::Decimal { scale, .. }) => {
            let (digits, of) = match literal {
                Literal::Whole(value) => (i128::from(*value), 0),
                Literal::Decimal(digits, of) => (*digits, *of),
                _ => return None,
            };
            // Digits behind the column's scale were rounded, by at most a half of the last place.
            let to = of.max(scale);
            let digits = digits.checked_mul(10i128.pow(u32::from(to - of)))?;
            let place = 10i128.pow(u32::from(to - scale));
            (
                decimal(digits.checked_sub(place)?, to)?,
                decimal(digits.checked_add(place)?, to)?,
            )
        }
        (Literal::Decimal(digits, scale), scalar) if is_whole(scalar) => {
            let value = decimal(*digits, *scale)?;
            if value.abs() > MAX_EXACT as f64 {
                return None;
            }
            (value, value)
        }
        _ => return None,
    };
    let bound = |value: f64, next: f64, small: f64| if value.abs() < SMALLEST { small } else { next };
    let (low, high) = (
        bound(low, low.next_down(), -SMALLEST),
        bound(high, high.next_up(), SMALLEST),
    );
    (low.is_finite() && high.is_finite()).then_some((low, high))
}

/// The double next to a decimal.
fn decimal(digits: i128, scale: u8) -> Option<f64> {
    format!("{digits}e-{scale}").parse().ok()
}

/// How a moment of the years 0000 to 9999 is spelled.
struct Moment {
    date: String,
    /// Hours and minutes.
    minute: String,
    /// And seconds.
    second: String,
}

impl Moment {
    fn of(millis: i64) -> Option<Self> {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second) = moment.to_hms();
        (0..=9999).contains(&year).then(|| Moment {
            date: format!("{year:04}-{:02}-{day:02}", u8::from(month)),
            minute: format!("{hour:02}:{minute:02}"),
            second: format!("{hour:02}:{minute:02}:{second:02}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Changelog, Operand};

    /// The query of a table with one column at this path, of which that is true.
    fn query(path: &str, predicate: impl Fn(Operand) -> Predicate) -> Query {
        query_of(Scalar::String, path, predicate)
    }

    fn query_of(scalar: Scalar, path: &str, predicate: impl Fn(Operand) -> Predicate) -> Query {
        documents(&Plan {
            missing_is_error: false,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit: Unit::None,
            changelog: Changelog::Append,
            columns: vec![Column {
                name: "t".into(),
                origin: Origin::Path(vec![path.into()]),
                kind: scalar.into(),
            }],
            filter: Some(Filter {
                columns: Vec::new(),
                predicate: predicate(Operand {
                    column: 0,
                    fields: Vec::new(),
                }),
            }),
        })
    }

    fn texts(count: usize) -> Vec<Literal> {
        (0..count).map(|n| Literal::Text(format!("t{n}"))).collect()
    }

    #[test]
    fn what_is_there_is_said_once_of_a_list() {
        let query = query("t", |t| Predicate::Not(Box::new(Predicate::In(t, texts(2)))));
        assert_eq!(
            query.text,
            r#"SELECT * FROM c WHERE ((IS_DEFINED(c["t"]) AND NOT IS_NULL(c["t"])) AND (NOT IS_STRING(c["t"]) OR (c["t"] != @p0000 AND c["t"] != @p0001)))"#
        );
    }

    #[test]
    fn a_bound_at_the_end_of_the_whole_numbers_is_a_number() {
        // The doubles beside it, whose neighbour is asked for.
        for value in [
            -9_223_372_036_854_774_784.0,
            i64::MIN as f64,
            i64::MAX as f64,
            f64::MIN,
            0.0,
        ] {
            for comparison in [Comparison::Greater, Comparison::Less, Comparison::Equal] {
                let query = query_of(Scalar::Double, "d", |d| {
                    Predicate::Compare(comparison, d, Literal::Double(value))
                });
                assert!(
                    query.parameters.values().all(Value::is_number),
                    "{value}: {query:?}"
                );
            }
        }
    }

    #[test]
    fn a_condition_has_its_bounds() {
        // A name that stands once for each value.
        let name = "n".repeat(1000);
        let any = |count: usize| {
            move |t: Operand| {
                let equal = |literal| Predicate::Compare(Comparison::Equal, t.clone(), literal);
                Predicate::Any(texts(count).into_iter().map(equal).collect())
            }
        };
        let few = query(&name, any(50));
        assert!(few.text.len() > 50_000 && few.text.len() < MAX_CONDITION);
        let many = query(&name, any(500));
        assert_eq!(
            (many.text.as_str(), many.parameters.len()),
            ("SELECT * FROM c", 0)
        );
        // Of several that must hold, those that have room.
        let both = query(&name, |t| Predicate::All(vec![any(500)(t.clone()), any(1)(t)]));
        assert!(both.text.len() < 10_000 && both.text.contains("@p0000"));
        assert_eq!(both.parameters.len(), 1);
        let each = query(&name, |t| {
            Predicate::All((0..10).map(|_| any(50)(t.clone())).collect())
        });
        assert!(each.text.len() > MAX_CONDITION / 2 && each.text.len() <= MAX_CONDITION + 30);
    }
}
