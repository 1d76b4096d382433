//! A VARIANT as JSON: the other side of `variant.rs`, which describes its bytes. The form of values is that of Flink's `Variant.toJson`.

use super::json_out::{self, Hex};
use super::layout::{Damaged, Layout};
use super::text::Format;
use super::variant::{
    ARRAY, DECIMAL16, DECIMAL4, DECIMAL8, DOUBLE, FALSE, INT1, INT2, INT4, INT8, LONG_TEXT, NULL, OBJECT,
    SHORT_TEXT, TRUE, VERSION,
};

/// Primitives that JSON never becomes, but other variants may have.
const DATE: u8 = 11;
const INSTANT: u8 = 12;
const TIMESTAMP: u8 = 13;
const FLOAT: u8 = 14;
const BINARY: u8 = 15;
const TIME: u8 = 17;
const INSTANT_NANOS: u8 = 18;
const TIMESTAMP_NANOS: u8 = 19;

/// Levels that are followed.
const MAX_DEPTH: usize = 256;

const BROKEN: Damaged = Damaged("a variant is broken");

const MICROS: i64 = 1_000_000;
const NANOS: i64 = 1_000_000_000;
const DAY_MICROS: i64 = 86_400 * MICROS;

/// Why there is no JSON of a variant.
#[derive(Debug, PartialEq, Eq)]
pub enum NoJson {
    /// Its bytes are none of a variant.
    Damaged(Damaged),
    /// It has a value that JSON does not have; the sentence goes on behind the name of the column.
    Value(String),
    /// It would be longer than is allowed.
    TooLong,
}

impl From<Damaged> for NoJson {
    fn from(damaged: Damaged) -> Self {
        NoJson::Damaged(damaged)
    }
}

struct Variant<'a> {
    names: &'a [u8],
    /// Bytes of a number in the dictionary.
    width: usize,
    value: &'a [u8],
    /// Where the JSON has to end.
    end: usize,
}

/// Appends the JSON of a variant as it stands in a row, up to this end.
///
/// # Errors
/// When there is none; what was appended until then stays.
pub fn append(bytes: &[u8], out: &mut Vec<u8>, end: usize) -> Result<(), NoJson> {
    let (size, rest) = bytes.split_first_chunk().ok_or(BROKEN)?;
    let size = u32::from_be_bytes(*size) as usize;
    let (names, value) = rest.split_at_checked(size).ok_or(BROKEN)?;
    let head = *names.first().ok_or(BROKEN)?;
    if head & 0x0f != VERSION {
        return Err(Damaged("a variant is of another version").into());
    }
    let variant = Variant {
        names,
        width: usize::from(head >> 6) + 1,
        value,
        end,
    };
    variant.write(0, out, 0)
}

/// An unsigned number of up to four bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Layout<usize> {
    let end = at.checked_add(width).ok_or(BROKEN)?;
    let bytes = bytes.get(at..end).ok_or(BROKEN)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | usize::from(*byte)))
}

impl<'a> Variant<'a> {
    fn bytes(&self, at: usize, size: usize) -> Layout<&'a [u8]> {
        let end = at.checked_add(size).ok_or(BROKEN)?;
        self.value.get(at..end).ok_or(BROKEN)
    }

    fn fixed<const N: usize>(&self, at: usize) -> Layout<[u8; N]> {
        self.bytes(at, N)?.first_chunk().copied().ok_or(BROKEN)
    }

    fn name(&self, id: usize) -> Layout<&'a [u8]> {
        let count = number(self.names, 1, self.width)?;
        if id >= count {
            return Err(BROKEN);
        }
        let offset = |n: usize| number(self.names, 1 + self.width * (1 + n), self.width);
        let text = 1 + self.width * (count + 2);
        let (from, to) = (text + offset(id)?, text + offset(id + 1)?);
        self.names.get(from..to).ok_or(BROKEN)
    }

    fn text(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NoJson> {
        self.room(out, text.len())?;
        match std::str::from_utf8(text) {
            Ok(_) => json_out::string(out, text, Hex::Upper),
            Err(_) => return Err(NoJson::Value("has a text that is no UTF-8".to_owned())),
        }
        Ok(())
    }

    fn room(&self, out: &[u8], more: usize) -> Result<(), NoJson> {
        match out.len().saturating_add(more) <= self.end {
            true => Ok(()),
            false => Err(NoJson::TooLong),
        }
    }

    fn write(&self, at: usize, out: &mut Vec<u8>, depth: usize) -> Result<(), NoJson> {
        if depth > MAX_DEPTH {
            return Err(NoJson::Value("is a variant of more than 256 levels".to_owned()));
        }
        self.room(out, 0)?;
        let [head] = self.fixed(at)?;
        let info = head >> 2;
        match head & 3 {
            SHORT_TEXT => self.text(self.bytes(at + 1, usize::from(info))?, out),
            OBJECT => {
                let (ids, offsets) = (usize::from(info >> 2 & 3) + 1, usize::from(info & 3) + 1);
                let (count, begin) = self.count(at + 1, info & 16 != 0)?;
                let list = begin + count * ids;
                let values = list + (count + 1) * offsets;
                // All of the head, before so many fields are believed.
                self.bytes(begin, values - begin)?;
                out.push(b'{');
                for field in 0..count {
                    if field > 0 {
                        out.push(b',');
                    }
                    let name = self.name(number(self.value, begin + field * ids, ids)?)?;
                    self.text(name, out)?;
                    out.push(b':');
                    let offset = number(self.value, list + field * offsets, offsets)?;
                    self.write(values + offset, out, depth + 1)?;
                }
                out.push(b'}');
                Ok(())
            }
            ARRAY => {
                let offsets = usize::from(info & 3) + 1;
                let (count, list) = self.count(at + 1, info & 4 != 0)?;
                let values = list + (count + 1) * offsets;
                self.bytes(list, values - list)?;
                out.push(b'[');
                for element in 0..count {
                    if element > 0 {
                        out.push(b',');
                    }
                    let offset = number(self.value, list + element * offsets, offsets)?;
                    self.write(values + offset, out, depth + 1)?;
                }
                out.push(b']');
                Ok(())
            }
            _ => self.primitive(info, at + 1, out),
        }
    }

    /// How many elements there are, and what is behind that number.
    fn count(&self, at: usize, large: bool) -> Layout<(usize, usize)> {
        let width = if large { 4 } else { 1 };
        Ok((number(self.value, at, width)?, at + width))
    }

    fn primitive(&self, kind: u8, at: usize, out: &mut Vec<u8>) -> Result<(), NoJson> {
        let long = || self.fixed(at).map(i64::from_le_bytes);
        let moment = |out: &mut Vec<u8>, value: i64, unit: i64, zoned: bool| {
            let nanos = value.rem_euclid(unit) * (NANOS / unit);
            out.push(b'"');
            json_out::timestamp(out, value.div_euclid(unit), nanos as u32, Format::Iso);
            out.extend_from_slice(if zoned { b"Z\"" } else { b"\"" });
        };
        match kind {
            NULL => out.extend_from_slice(b"null"),
            TRUE => out.extend_from_slice(b"true"),
            FALSE => out.extend_from_slice(b"false"),
            INT1 => json_out::integer(out, i8::from_le_bytes(self.fixed(at)?).into()),
            INT2 => json_out::integer(out, i16::from_le_bytes(self.fixed(at)?).into()),
            INT4 => json_out::integer(out, i32::from_le_bytes(self.fixed(at)?).into()),
            INT8 => json_out::integer(out, long()?),
            DOUBLE => {
                let value = f64::from_le_bytes(self.fixed(at)?);
                finite(value.is_finite(), value)?;
                json_out::float(out, value);
            }
            FLOAT => {
                let value = f32::from_le_bytes(self.fixed(at)?);
                finite(value.is_finite(), value.into())?;
                json_out::float(out, value);
            }
            DECIMAL4 | DECIMAL8 | DECIMAL16 => {
                let [scale] = self.fixed(at)?;
                let (unscaled, digits) = match kind {
                    DECIMAL4 => (i32::from_le_bytes(self.fixed(at + 1)?).into(), 9),
                    DECIMAL8 => (i64::from_le_bytes(self.fixed(at + 1)?).into(), 18),
                    _ => (i128::from_le_bytes(self.fixed(at + 1)?), 38),
                };
                let scale = usize::from(scale);
                if scale > digits || unscaled.unsigned_abs() >= 10u128.pow(digits as u32) {
                    return Err(BROKEN.into());
                }
                json_out::stripped_decimal(out, unscaled, scale);
            }
            LONG_TEXT | BINARY => {
                let bytes = self.bytes(at + 4, number(self.value, at, 4)?)?;
                if kind == LONG_TEXT {
                    return self.text(bytes, out);
                }
                self.room(out, bytes.len())?;
                json_out::base64(out, bytes);
            }
            DATE => {
                out.push(b'"');
                json_out::date(out, i32::from_le_bytes(self.fixed(at)?).into());
                out.push(b'"');
            }
            INSTANT | TIMESTAMP => moment(out, long()?, MICROS, kind == INSTANT),
            INSTANT_NANOS | TIMESTAMP_NANOS => moment(out, long()?, NANOS, kind == INSTANT_NANOS),
            TIME => {
                let micros = long()?;
                if !(0..DAY_MICROS).contains(&micros) {
                    return Err(BROKEN.into());
                }
                out.push(b'"');
                json_out::time(out, micros as u64 * 1000);
                out.push(b'"');
            }
            other => {
                return Err(NoJson::Value(format!(
                    "has a variant of the kind {other}, which is not known"
                )))
            }
        }
        Ok(())
    }
}

/// Refuses what JSON does not have.
pub fn finite(is_finite: bool, value: f64) -> Result<(), NoJson> {
    if is_finite {
        return Ok(());
    }
    let name = match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    };
    Err(NoJson::Value(format!(
        "is {name}, a number that JSON does not have"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::variant::Builder;
    use super::*;
    use proptest::prelude::*;

    fn json(bytes: &[u8]) -> Result<String, NoJson> {
        let mut out = Vec::new();
        append(bytes, &mut out, 1 << 20)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// JSON as a variant, and that as JSON.
    fn there_and_back(text: &str) -> String {
        let mut bytes = Vec::new();
        Builder::default().append(text.as_bytes(), &mut bytes).unwrap();
        json(&bytes).unwrap()
    }

    #[test]
    fn json_that_became_a_variant_is_json_again() {
        for (text, expected) in [
            ("null", "null"),
            ("[true, false]", "[true,false]"),
            ("-128", "-128"),
            (
                "[300,70000,9223372036854775807]",
                "[300,70000,9223372036854775807]",
            ),
            ("9223372036854775808", "9223372036854775808"),
            ("1.50", "1.5"),
            ("[2.00,0.0,-0.10]", "[2,0,-0.1]"),
            ("1e2", "100.0"),
            ("1e300", "1.0E300"),
            (r#""a\u00e4\"\u001f""#, "\"aä\\\"\\u001F\""),
            (r#"{"b":1,"a":{"c":[]},"d":{}}"#, r#"{"a":{"c":[]},"b":1,"d":{}}"#),
        ] {
            assert_eq!(there_and_back(text), expected, "{text}");
        }
        let long = format!("\"{}\"", "x".repeat(300));
        assert_eq!(there_and_back(&long), long);
        let many = format!("[{}]", vec!["1"; 300].join(","));
        assert_eq!(there_and_back(&many), many);
        let fields: Vec<_> = (100..400).map(|n| format!("\"f{n}\":{n}")).collect();
        let many = format!("{{{}}}", fields.join(","));
        assert_eq!(there_and_back(&many), many);
    }

    /// A variant without keys.
    fn plain(value: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 3, 1, 0, 0], value].concat()
    }

    /// Values whose JSON Flink's own `toJson` gave.
    #[test]
    fn what_json_does_not_have_is_text() {
        let long = |kind: u8, value: i64| plain(&[&[kind << 2][..], &value.to_le_bytes()].concat());
        for (bytes, expected) in [
            (plain(&[DATE << 2, 0, 0, 0, 0]), "\"1970-01-01\""),
            (long(INSTANT, -1), "\"1969-12-31T23:59:59.999999Z\""),
            (long(TIMESTAMP, 1_000_000), "\"1970-01-01T00:00:01\""),
            (long(INSTANT_NANOS, 1), "\"1970-01-01T00:00:00.000000001Z\""),
            (long(TIMESTAMP_NANOS, -1), "\"1969-12-31T23:59:59.999999999\""),
            (long(TIME, 36_000_000_000), "\"10:00:00\""),
            (plain(&[FLOAT << 2, 0xcd, 0xcc, 0xcc, 0x3d]), "0.1"),
            (plain(&[BINARY << 2, 2, 0, 0, 0, 0, 0xff]), "\"AP8=\""),
        ] {
            assert_eq!(json(&bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_variant_has_no_json() {
        let deep: Vec<u8> = (0..300u16).fold(vec![NULL << 2], |inner, _| {
            let mut outer = vec![ARRAY | 2 << 2, 1, 0, 0, 0];
            outer.extend(&(inner.len() as u32).to_le_bytes()[..3]);
            outer.extend(inner);
            outer
        });
        let nan = [&[DOUBLE << 2][..], &f64::NAN.to_le_bytes()].concat();
        for (bytes, part) in [
            (plain(&deep), "256 levels"),
            (plain(&nan), "is NaN"),
            (plain(&[20 << 2]), "kind 20"),
            (plain(&[0x05, 0xff]), "no UTF-8"),
        ] {
            match json(&bytes) {
                Err(NoJson::Value(why)) => assert!(why.contains(part), "{why}"),
                other => panic!("{part}: {other:?}"),
            }
        }
        for bytes in [
            &[][..],
            &[0, 0, 0, 9, 1],
            &[0, 0, 0, 1, 2, 0],
            &plain(&[]),
            &plain(&[INT8 << 2, 1]),
            &plain(&[ARRAY | 4 << 2, 0xff, 0xff, 0xff, 0xff]),
            &plain(&[OBJECT, 1, 0, 0, 1, 0]),
            &plain(&[DECIMAL4 << 2, 10, 1, 0, 0, 0]),
        ] {
            assert!(matches!(json(bytes), Err(NoJson::Damaged(_))), "{bytes:?}");
        }
        // An array whose elements are all one array, and so on: what is small may become large.
        assert_eq!(append(&plain(&[0x04]), &mut Vec::new(), 3), Ok(()));
        let text = plain(&[0x0d, b'a', b'b', b'c']);
        assert_eq!(append(&text, &mut Vec::new(), 2), Err(NoJson::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_have_json_or_none(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            at in 0usize..200,
            byte: u8,
        ) {
            let _ = json(&bytes);
            bytes.splice(0..0, [0, 0, 0, 3, 1, 0, 0]);
            let _ = json(&bytes);
            let mut variant = Vec::new();
            let text = br#"{"a":[1,2.5,{"b":"text","c":null}],"d":12345678901,"e":{"f":true}}"#;
            Builder::default().append(text, &mut variant).unwrap();
            if let Some(b) = variant.get_mut(at) {
                *b = byte;
            }
            let _ = json(&variant);
        }
    }
}
