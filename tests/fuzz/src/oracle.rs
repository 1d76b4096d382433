//! What a row should be, by serde_json and the rules of `docs/adr/0039`, as far as these are simple. The rest may be anything.

use cosmosflink_core::rows::{Change, OnError, Origin, Plan, Scalar, Type, TypeKind};
use serde_json::value::RawValue;

use crate::json::{self, Json};
use crate::row::{self, Value};

/// What stands in front of why a document is no JSON.
pub const BROKEN: &str = "no JSON: ";

/// What is expected at a place.
#[derive(Debug)]
enum Expected {
    /// Whatever it is, and also that it does not fit.
    Any,
    Exactly(Value),
    Json(Json),
    Array(Vec<Expected>),
    Map(Vec<(String, Expected)>),
    Row(Vec<Expected>),
}

/// A value that does not fit.
#[derive(Debug)]
struct Misfit;

/// What a value is read with.
struct Rules<'p> {
    plan: &'p Plan,
    partial: bool,
}

/// Panics where a document became something else than it should.
pub fn compare(plan: &Plan, change: &Change<'_>, found: &Result<Vec<u8>, String>) {
    if std::str::from_utf8(change.document).is_err() {
        // A page leaves it out before.
        return;
    }
    let rules = Rules {
        plan,
        partial: change.partial,
    };
    let Some(text) = json::first(change.document) else {
        return refused(plan, change, found);
    };
    if let Err(why) = found {
        let of_its_size = why.contains("more elements than a row");
        assert!(
            !why.starts_with(BROKEN) || of_its_size,
            "{text} is JSON, and is refused: {why}"
        );
    }
    let expected: Result<Vec<_>, Misfit> = plan
        .columns
        .iter()
        .map(|column| match &column.origin {
            Origin::Path(path) => match at(text, path) {
                Some(value) => rules.field(&column.kind, value),
                None => Ok(Expected::Any),
            },
            Origin::Metadata(_) | Origin::Constant(_) => Ok(Expected::Any),
        })
        .collect();
    match (expected, found) {
        (Ok(expected), Ok(row)) => {
            for ((column, expected), value) in plan.columns.iter().zip(&expected).zip(row::values(plan, row))
            {
                assert!(
                    matches(expected, &value),
                    "{} of {text} is {value:?} and not {expected:?}",
                    column.name
                );
            }
        }
        (Ok(expected), Err(why)) => assert!(
            expected.iter().any(is_open),
            "{text} fits, as {expected:?}, and is refused: {why}"
        ),
        (Err(Misfit), Ok(_)) => panic!("{text} does not fit, and became a row"),
        (Err(Misfit), Err(_)) => {}
    }
}

/// What is no JSON is no VARIANT; where it is not looked at it may be skipped.
fn refused(plan: &Plan, change: &Change<'_>, found: &Result<Vec<u8>, String>) {
    let lenient = json::first(&json::without_controls(change.document)).is_some();
    let Ok(row) = found else {
        return;
    };
    for (column, value) in plan.columns.iter().zip(row::values(plan, row)) {
        let whole = column.origin == Origin::Path(Vec::new());
        if whole && column.kind.kind == TypeKind::Scalar(Scalar::Variant) && !lenient {
            assert_eq!(value, Value::Null, "what is no JSON became a VARIANT");
        }
        if let (true, Value::Text(text)) = (column.kind.kind == TypeKind::Scalar(Scalar::RawJson), &value) {
            let scalar = !matches!(text.first(), Some(b'"' | b'{' | b'['));
            let text = String::from_utf8_lossy(text);
            assert!(
                !scalar || serde_json::from_str::<&RawValue>(&text).is_ok(),
                "{text} is no JSON and became a value"
            );
        }
    }
}

/// The value at a path, of which the inner `None` says that it is missing, and the outer one that nobody knows.
fn at<'a>(text: &'a str, path: &[String]) -> Option<Option<&'a str>> {
    let Some((name, rest)) = path.split_first() else {
        return Some(Some(text));
    };
    if !text.starts_with('{') {
        return Some(None);
    }
    let fields = json::fields(text)?;
    match fields.into_iter().rev().find(|(known, _)| known == name) {
        Some((_, value)) => at(value.get(), rest),
        None => Some(None),
    }
}

impl Rules<'_> {
    fn nulls(&self) -> bool {
        self.plan.on_error == OnError::NullField
    }

    /// A column, or a field of a ROW.
    fn field(&self, kind: &Type, text: Option<&str>) -> Result<Expected, Misfit> {
        let nullable = kind.nullable || self.partial;
        let null = || match nullable {
            true => Ok(Expected::Exactly(Value::Null)),
            false => Err(Misfit),
        };
        match text {
            None if self.plan.missing_is_error && !self.partial => self.settle(nullable, Err(Misfit)),
            None | Some("null") => null(),
            Some(text) => self.settle(nullable, self.value(&kind.kind, text)),
        }
    }

    fn settle(&self, nullable: bool, found: Result<Expected, Misfit>) -> Result<Expected, Misfit> {
        match found {
            Err(Misfit) if nullable && self.nulls() => Ok(Expected::Exactly(Value::Null)),
            other => other,
        }
    }

    fn element(&self, kind: &Type, text: &str) -> Result<Expected, Misfit> {
        match (text, kind.nullable) {
            ("null", true) => Ok(Expected::Exactly(Value::Null)),
            ("null", false) => Err(Misfit),
            _ => self.settle(kind.nullable, self.value(&kind.kind, text)),
        }
    }

    /// What is around values that must not be null: where one of them does not fit, it is null in their place.
    fn around(&self, made: Expected, must: bool) -> Expected {
        match self.nulls() && must && is_open(&made) {
            true => Expected::Any,
            false => made,
        }
    }

    fn value(&self, kind: &TypeKind, text: &str) -> Result<Expected, Misfit> {
        let first = text.as_bytes()[0];
        match kind {
            TypeKind::Scalar(scalar) => scalar_of(*scalar, text),
            TypeKind::Array(element) => {
                if first != b'[' {
                    return Err(Misfit);
                }
                let Some(all) = json::elements(text) else {
                    return Ok(Expected::Any);
                };
                let all: Result<Vec<_>, _> = all.iter().map(|e| self.element(element, e.get())).collect();
                Ok(self.around(Expected::Array(all?), !element.nullable))
            }
            TypeKind::Map(value) => {
                if first != b'{' {
                    return Err(Misfit);
                }
                let Some(fields) = json::fields(text) else {
                    return Ok(Expected::Any);
                };
                let mut last: Vec<(String, &RawValue)> = Vec::new();
                for (name, value) in fields {
                    match last.iter_mut().find(|(known, _)| *known == name) {
                        Some(known) => known.1 = value,
                        None => last.push((name, value)),
                    }
                }
                let mut all = Vec::new();
                for (name, text) in last {
                    all.push((name, self.element(value, text.get())?));
                }
                Ok(self.around(Expected::Map(all), !value.nullable))
            }
            TypeKind::Row(fields) => {
                if first != b'{' {
                    return Err(Misfit);
                }
                let mut all = Vec::new();
                for (name, kind) in fields {
                    let Some(text) = at(text, std::slice::from_ref(name)) else {
                        return Ok(Expected::Any);
                    };
                    all.push(self.field(kind, text)?);
                }
                let must = fields.iter().any(|(_, kind)| !kind.nullable && !self.partial);
                Ok(self.around(Expected::Row(all), must))
            }
        }
    }
}

/// Whether a misfit may be in it.
fn is_open(expected: &Expected) -> bool {
    match expected {
        Expected::Any => true,
        Expected::Exactly(_) | Expected::Json(_) => false,
        Expected::Array(all) | Expected::Row(all) => all.iter().any(is_open),
        Expected::Map(all) => all.iter().any(|(_, value)| is_open(value)),
    }
}

fn scalar_of(scalar: Scalar, text: &str) -> Result<Expected, Misfit> {
    let exactly = |value| Ok(Expected::Exactly(value));
    let fixed = |bytes: &[u8]| exactly(Value::Fixed(bytes.to_vec()));
    let first = text.as_bytes()[0];
    let number = matches!(first, b'-' | b'0'..=b'9');
    let whole: Option<i128> = match number && text.len() < 19 {
        true => text.parse().ok(),
        false => None,
    };
    match scalar {
        Scalar::Boolean => match first {
            b't' | b'f' => fixed(&[u8::from(first == b't')]),
            b'"' => Ok(Expected::Any),
            _ => Err(Misfit),
        },
        Scalar::TinyInt | Scalar::SmallInt | Scalar::Int | Scalar::BigInt | Scalar::Decimal { .. } => {
            let whole = match whole {
                Some(whole) => whole,
                None if number || first == b'"' => return Ok(Expected::Any),
                None => return Err(Misfit),
            };
            let small = |made: Result<Vec<u8>, _>| match made {
                Ok(bytes) => Ok(Expected::Exactly(Value::Fixed(bytes))),
                Err(std::num::TryFromIntError { .. }) => Err(Misfit),
            };
            match scalar {
                Scalar::TinyInt => small(i8::try_from(whole).map(|n| n.to_le_bytes().to_vec())),
                Scalar::SmallInt => small(i16::try_from(whole).map(|n| n.to_le_bytes().to_vec())),
                Scalar::Int => small(i32::try_from(whole).map(|n| n.to_le_bytes().to_vec())),
                Scalar::Decimal { precision, scale } => {
                    let most = 10i128.pow(u32::from(precision - scale));
                    match whole.abs() < most {
                        true => exactly(Value::Decimal(whole * 10i128.pow(u32::from(scale)))),
                        false => Err(Misfit),
                    }
                }
                _ => small(i64::try_from(whole).map(|n| n.to_le_bytes().to_vec())),
            }
        }
        Scalar::Float | Scalar::Double if first == b'"' => Ok(Expected::Any),
        Scalar::Float | Scalar::Double if !number => Err(Misfit),
        Scalar::Float => match text.parse::<f32>() {
            Ok(value) if value.is_finite() => fixed(&value.to_le_bytes()),
            _ => Err(Misfit),
        },
        Scalar::Double => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => fixed(&value.to_le_bytes()),
            _ => Err(Misfit),
        },
        Scalar::String if first == b'"' => match serde_json::from_str::<String>(text) {
            Ok(text) => exactly(Value::Text(text.into_bytes())),
            Err(_) => Err(Misfit),
        },
        Scalar::String | Scalar::RawJson => exactly(Value::Text(text.as_bytes().to_vec())),
        Scalar::Bytes | Scalar::Date | Scalar::Time { .. } => match first {
            b'"' => Ok(Expected::Any),
            _ => Err(Misfit),
        },
        Scalar::Timestamp { .. } => match first {
            b'"' => Ok(Expected::Any),
            _ if number => Ok(Expected::Any),
            _ => Err(Misfit),
        },
        Scalar::Variant => Ok(json::tree(text, 0).map_or(Expected::Any, Expected::Json)),
    }
}

fn matches(expected: &Expected, found: &Value) -> bool {
    match (expected, found) {
        (Expected::Any, _) => true,
        (Expected::Exactly(expected), found) => expected == found,
        (Expected::Json(expected), Value::Variant(found)) => same(expected, &row::variant(found)),
        (Expected::Array(expected), Value::Array(found)) => all_match(expected, found),
        (Expected::Row(expected), Value::Row(found)) => all_match(expected, found),
        (Expected::Map(expected), Value::Map(keys, values)) => {
            expected.len() == keys.len()
                && keys.len() == values.len()
                && expected
                    .iter()
                    .zip(keys.iter().zip(values))
                    .all(|((name, expected), (key, value))| {
                        *key == Value::Text(name.as_bytes().to_vec()) && matches(expected, value)
                    })
        }
        _ => false,
    }
}

fn all_match(expected: &[Expected], found: &[Value]) -> bool {
    expected.len() == found.len() && expected.iter().zip(found).all(|(e, f)| matches(e, f))
}

/// Whether two trees are the same; numbers are so by their value.
fn same(expected: &Json, found: &Json) -> bool {
    match (expected, found) {
        (Json::Number(expected), Json::Number(found)) => {
            let exact = !expected.contains(['e', 'E']) && expected.len() < 19;
            let zero = |text: &str| text.bytes().all(|b| matches!(b, b'-' | b'.' | b'0'));
            if exact && !zero(expected) {
                return expected == found;
            }
            expected.parse::<f64>().ok() == found.parse::<f64>().ok()
        }
        (Json::Array(expected), Json::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(e, f)| same(e, f))
        }
        (Json::Object(expected), Json::Object(found)) => {
            expected.len() == found.len()
                && expected
                    .iter()
                    .zip(found)
                    .all(|((name, e), (other, f))| name == other && same(e, f))
        }
        _ => expected == found,
    }
}
