//! JSON as a tree, read by serde_json.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A value, as a VARIANT has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// Its text.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// In the order of the names as Java sorts them; of two equal names the last one.
    Object(Vec<(String, Json)>),
}

/// The fields of an object in their order.
pub struct Fields<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The fields of an object, of which `None` says that serde_json does not take a name.
pub fn fields(text: &str) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str::<Fields<'_>>(text)
        .ok()
        .map(|fields| fields.0)
}

/// The elements of an array.
pub fn elements(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// The JSON at the beginning of a text; `None` when there is none.
pub fn first(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let value = stream.next()?.ok()?.get();
    // Of a scalar all that stands behind it up to a bracket, a comma or a blank is a part, as no reader of JSON must have it.
    let whole = value.starts_with(['"', '{', '[']);
    let behind = text[stream.byte_offset()..].chars().next();
    let ends = matches!(behind, None | Some(',' | ']' | '}' | ' ' | '\t' | '\r' | '\n'));
    (whole || ends).then_some(value)
}

/// The text with what serde_json refuses between quotes, and the core does not look at: control characters.
pub fn without_controls(text: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| match byte {
        b'\t' | b'\r' | b'\n' => b' ',
        0..=0x1f => b'x',
        other => *other,
    };
    text.iter().map(plain).collect()
}

/// The tree of a JSON text, as far as it is not too deep; `None` also for what no text can hold.
pub fn tree(text: &str, depth: usize) -> Option<Json> {
    if depth > 100 {
        return None;
    }
    Some(match text.as_bytes().first()? {
        b'n' => Json::Null,
        b't' => Json::Bool(true),
        b'f' => Json::Bool(false),
        b'"' => Json::Text(serde_json::from_str(text).ok()?),
        b'[' => {
            let all = elements(text)?;
            let all = all.into_iter().map(|element| tree(element.get(), depth + 1));
            Json::Array(all.collect::<Option<_>>()?)
        }
        b'{' => {
            let mut found: Vec<(String, Json)> = Vec::new();
            for (name, value) in fields(text)? {
                let value = tree(value.get(), depth + 1)?;
                match found.iter_mut().find(|(known, _)| *known == name) {
                    Some(known) => known.1 = value,
                    None => found.push((name, value)),
                }
            }
            found.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            Json::Object(found)
        }
        // What is too large for a double is no VARIANT, unless it has few digits.
        _ if text.parse::<f64>().is_ok_and(f64::is_finite) => Json::Number(text.to_owned()),
        _ => return None,
    })
}
