//! JSON as Flink's `BinaryVariant`: the dictionary of its keys, and a value that names them by number.
//!
//! The bytes are those of `BinaryVariantInternalBuilder.parseJson` of Flink 2.1 and newer, which took them from Spark. Of two equal keys the
//! last one counts.

use std::collections::HashMap;

use super::text::{unquoted, Number, Read, Reason};
use crate::json::{Broken, Scan, Scanner};

/// Most bytes of the dictionary, and of the value.
const SIZE_LIMIT: usize = 1 << 24;

/// How deep a value may be. The service takes 128 levels.
const MAX_DEPTH: usize = 256;

/// Longest text whose length is in its header.
const MAX_SHORT_TEXT: usize = 63;

/// Most digits of a decimal, and most of them behind its point.
const MAX_DIGITS: usize = 38;

const TOO_LARGE: Reason = "a VARIANT has at most 16 MiB";

/// What the header of a value says in its lowest two bits; 0: a primitive.
pub(super) const SHORT_TEXT: u8 = 1;
pub(super) const OBJECT: u8 = 2;
pub(super) const ARRAY: u8 = 3;

/// Primitives, as the upper six bits of the header have them.
pub(super) const NULL: u8 = 0;
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const INT1: u8 = 3;
pub(super) const INT2: u8 = 4;
pub(super) const INT4: u8 = 5;
pub(super) const INT8: u8 = 6;
pub(super) const DOUBLE: u8 = 7;
pub(super) const DECIMAL4: u8 = 8;
pub(super) const DECIMAL8: u8 = 9;
pub(super) const DECIMAL16: u8 = 10;
pub(super) const LONG_TEXT: u8 = 16;

pub(super) const VERSION: u8 = 1;

/// A field of an object that is being written.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Its key in the dictionary.
    id: u32,
    /// Where its value stands, from the start of the first, and where it ends.
    start: usize,
    end: usize,
}

/// Builds variants, one after the other.
#[derive(Debug, Default)]
pub struct Builder {
    /// Numbers of the keys; only asked, never walked through.
    ids: HashMap<Box<str>, u32>,
    keys: Vec<Box<str>>,
    value: Vec<u8>,
    scratch: Vec<u8>,
    /// The value of an object while duplicates are taken out.
    spare: Vec<u8>,
}

/// Bytes of the smallest unsigned integer that has the value, three at most.
fn width(value: usize) -> usize {
    match value {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 3,
    }
}

fn push(out: &mut Vec<u8>, value: usize, width: usize) {
    out.extend_from_slice(&value.to_le_bytes()[..width]);
}

fn primitive(kind: u8) -> u8 {
    kind << 2
}

impl Builder {
    /// Appends the variant of a JSON value as it stands in a row: the length of the dictionary in big-endian, the dictionary, the value.
    ///
    /// # Errors
    /// For what is no JSON, and for what a variant cannot hold.
    pub fn append(&mut self, json: &[u8], out: &mut Vec<u8>) -> Read<()> {
        self.ids.clear();
        self.keys.clear();
        self.value.clear();
        let mut scanner = Scanner { bytes: json, at: 0 };
        self.any(&mut scanner, 0).map_err(|Broken(why)| why)?;
        let text: usize = self.keys.iter().map(|key| key.len()).sum();
        let width = width(text.max(self.keys.len()));
        let dictionary = 1 + width * (self.keys.len() + 2) + text;
        if dictionary > SIZE_LIMIT || self.value.len() > SIZE_LIMIT {
            return Err(TOO_LARGE);
        }
        out.extend_from_slice(&(dictionary as u32).to_be_bytes());
        out.push(VERSION | ((width - 1) << 6) as u8);
        push(out, self.keys.len(), width);
        let mut offset = 0;
        for key in &self.keys {
            push(out, offset, width);
            offset += key.len();
        }
        push(out, offset, width);
        for key in &self.keys {
            out.extend_from_slice(key.as_bytes());
        }
        out.extend_from_slice(&self.value);
        Ok(())
    }

    fn any(&mut self, s: &mut Scanner<'_>, depth: usize) -> Scan<()> {
        if depth > MAX_DEPTH {
            return Err(Broken("it is deeper than 256 levels"));
        }
        if self.value.len() > SIZE_LIMIT {
            return Err(Broken(TOO_LARGE));
        }
        match s.peek()? {
            b'{' => self.object(s, depth),
            b'[' => self.array(s, depth),
            b'"' => {
                let quoted = s.value()?;
                let text = unquoted(quoted, &mut self.scratch).map_err(Broken)?;
                if text.len() > MAX_SHORT_TEXT {
                    self.value.push(primitive(LONG_TEXT));
                    push(&mut self.value, text.len(), 4);
                } else {
                    self.value.push(((text.len() as u8) << 2) | SHORT_TEXT);
                }
                self.value.extend_from_slice(text);
                Ok(())
            }
            _ => {
                match s.value()? {
                    b"null" => self.value.push(primitive(NULL)),
                    b"true" => self.value.push(primitive(TRUE)),
                    b"false" => self.value.push(primitive(FALSE)),
                    number => self.number(number).map_err(Broken)?,
                }
                Ok(())
            }
        }
    }

    /// An integer as short as can be, else a decimal, or a double where it is written with an exponent or has too many digits.
    fn number(&mut self, json: &[u8]) -> Read<()> {
        let number = Number::json(json)?;
        let whole = json.iter().all(|b| matches!(b, b'-' | b'0'..=b'9'));
        if whole {
            let short = number.scaled(0, false).ok();
            if let Some(value) = short.and_then(|value| i64::try_from(value).ok()) {
                self.integer(value);
                return Ok(());
            }
        }
        let plain = json.iter().all(|b| matches!(b, b'-' | b'.' | b'0'..=b'9'));
        let scale = match json.iter().position(|b| *b == b'.') {
            Some(point) => json.len() - point - 1,
            None => 0,
        };
        if plain && scale <= MAX_DIGITS {
            // Fails where it has more than 38 digits.
            if let Ok(unscaled) = number.scaled(scale as u8, false) {
                self.decimal(unscaled, scale as u8);
                return Ok(());
            }
        }
        let text = std::str::from_utf8(json).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.value.push(primitive(DOUBLE));
                self.value.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            _ => Err("it has a number that is too large for a double"),
        }
    }

    fn integer(&mut self, value: i64) {
        let bytes = value.to_le_bytes();
        let (kind, width) = match value {
            -0x80..=0x7f => (INT1, 1),
            -0x8000..=0x7fff => (INT2, 2),
            -0x8000_0000..=0x7fff_ffff => (INT4, 4),
            _ => (INT8, 8),
        };
        self.value.push(primitive(kind));
        self.value.extend_from_slice(&bytes[..width]);
    }

    fn decimal(&mut self, unscaled: i128, scale: u8) {
        let size = unscaled.unsigned_abs();
        let (kind, width) = if scale <= 9 && size < 10u128.pow(9) {
            (DECIMAL4, 4)
        } else if scale <= 18 && size < 10u128.pow(18) {
            (DECIMAL8, 8)
        } else {
            (DECIMAL16, 16)
        };
        self.value.extend_from_slice(&[primitive(kind), scale]);
        self.value.extend_from_slice(&unscaled.to_le_bytes()[..width]);
    }

    fn array(&mut self, s: &mut Scanner<'_>, depth: usize) -> Scan<()> {
        s.expect(b'[', "an array is missing")?;
        let start = self.value.len();
        let mut offsets = Vec::new();
        if s.peek()? == b']' {
            s.at += 1;
        } else {
            loop {
                offsets.push(self.value.len() - start);
                self.any(s, depth + 1)?;
                match s.peek()? {
                    b',' => s.at += 1,
                    b']' => {
                        s.at += 1;
                        break;
                    }
                    _ => return Err(Broken("there is no comma between two elements")),
                }
            }
        }
        let size = self.value.len() - start;
        let large = offsets.len() > 0xff;
        let width = width(size);
        let mut head = vec![(u8::from(large) << 4) | ((width - 1) << 2) as u8 | ARRAY];
        push(&mut head, offsets.len(), if large { 4 } else { 1 });
        offsets.iter().for_each(|offset| push(&mut head, *offset, width));
        push(&mut head, size, width);
        self.insert(start, &head);
        Ok(())
    }

    fn object(&mut self, s: &mut Scanner<'_>, depth: usize) -> Scan<()> {
        let start = self.value.len();
        let mut fields: Vec<Field> = Vec::new();
        s.object(|key, s| {
            let name = unquoted(key.quoted(), &mut self.scratch).map_err(Broken)?;
            let name = std::str::from_utf8(name).map_err(|_| Broken("it is not UTF-8"))?;
            let id = match self.ids.get(name).copied() {
                Some(id) => id,
                None => {
                    let id = self.keys.len() as u32;
                    self.ids.insert(name.into(), id);
                    self.keys.push(name.into());
                    id
                }
            };
            let begin = self.value.len() - start;
            self.any(s, depth + 1)?;
            fields.push(Field {
                id,
                start: begin,
                end: self.value.len() - start,
            });
            Ok::<_, Broken>(())
        })?;
        let most = fields.iter().map(|field| field.id as usize).max().unwrap_or(0);
        self.last_of_each(start, &mut fields);
        // In the order of Java's strings, which is that of their UTF-16.
        let keys = &self.keys;
        let name = |field: &Field| keys[field.id as usize].encode_utf16();
        fields.sort_by(|a, b| name(a).cmp(name(b)));
        let size = self.value.len() - start;
        let large = fields.len() > 0xff;
        let (ids, offsets) = (width(most), width(size));
        let mut head =
            vec![(u8::from(large) << 6) | ((ids - 1) << 4) as u8 | ((offsets - 1) << 2) as u8 | OBJECT];
        push(&mut head, fields.len(), if large { 4 } else { 1 });
        fields
            .iter()
            .for_each(|field| push(&mut head, field.id as usize, ids));
        fields
            .iter()
            .for_each(|field| push(&mut head, field.start, offsets));
        push(&mut head, size, offsets);
        self.insert(start, &head);
        Ok(())
    }

    /// Takes out of an object, whose values begin at `start`, those whose key comes again.
    fn last_of_each(&mut self, start: usize, fields: &mut Vec<Field>) {
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by_key(|i| fields[*i].id);
        let mut kept: Vec<usize> = order
            .chunk_by(|a, b| fields[*a].id == fields[*b].id)
            .filter_map(|same| same.last().copied())
            .collect();
        if kept.len() == fields.len() {
            return;
        }
        kept.sort_unstable();
        self.spare.clear();
        let mut left = Vec::with_capacity(kept.len());
        for field in kept.into_iter().map(|i| fields[i]) {
            let begin = self.spare.len();
            self.spare
                .extend_from_slice(&self.value[start + field.start..start + field.end]);
            left.push(Field {
                id: field.id,
                start: begin,
                end: self.spare.len(),
            });
        }
        self.value.truncate(start);
        self.value.extend_from_slice(&self.spare);
        *fields = left;
    }

    /// Puts a header in front of what was written from `start` on.
    fn insert(&mut self, start: usize, head: &[u8]) {
        drop(self.value.splice(start..start, head.iter().copied()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variant(json: &str) -> Read<Vec<u8>> {
        let mut out = Vec::new();
        let mut builder = Builder::default();
        // What was built before leaves nothing behind.
        let _ = builder.append(br#"{"old":[1,{"older":2}]}"#, &mut Vec::new());
        builder.append(json.as_bytes(), &mut out).map(|()| out)
    }

    /// A variant without keys.
    fn plain(value: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 3, 1, 0, 0], value].concat()
    }

    #[test]
    fn scalars_are_as_short_as_can_be() {
        let cases: &[(&str, &[u8])] = &[
            ("null", &[0x00]),
            ("true", &[0x04]),
            ("false", &[0x08]),
            ("7", &[0x0c, 7]),
            ("-0", &[0x0c, 0]),
            ("-128", &[0x0c, 0x80]),
            ("128", &[0x10, 0x80, 0]),
            ("32768", &[0x14, 0, 0x80, 0, 0]),
            ("2147483648", &[0x18, 0, 0, 0, 0x80, 0, 0, 0, 0]),
            ("1.50", &[0x20, 2, 150, 0, 0, 0]),
            ("-0.1", &[0x20, 1, 0xff, 0xff, 0xff, 0xff]),
            ("12345678901.5", &[0x24, 1, 0x17, 0x1a, 0x99, 0xbe, 0x1c, 0, 0, 0]),
            ("1e2", &[0x1c, 0, 0, 0, 0, 0, 0, 0x59, 0x40]),
            ("\"\"", &[0x01]),
            ("\"a\\u00e4\"", &[0x0d, b'a', 0xc3, 0xa4]),
            ("[]", &[0x03, 0, 0]),
            ("{}", &[0x02, 0, 0]),
            ("[1, [null]]", &[0x03, 2, 0, 2, 7, 0x0c, 1, 0x03, 1, 0, 1, 0x00]),
        ];
        for (json, value) in cases {
            assert_eq!(variant(json), Ok(plain(value)), "{json}");
        }
        let large = variant("9223372036854775808").unwrap();
        assert_eq!(large[7..9], [0x28, 0]);
        assert_eq!(large[9..], 9_223_372_036_854_775_808i128.to_le_bytes());
        let long = "x".repeat(64);
        let found = variant(&format!("\"{long}\"")).unwrap();
        assert_eq!(found[7..12], [0x40, 64, 0, 0, 0]);
        assert_eq!(&found[12..], long.as_bytes());
        // 39 digits are a double.
        assert_eq!(variant(&"9".repeat(39)).unwrap()[7], 0x1c);
    }

    #[test]
    fn objects_name_their_keys_and_sort_them() {
        let expected = [
            // Dictionary: version and width, two keys, their offsets, their text.
            &[0, 0, 0, 7, 1, 2, 0, 1, 2, b'b', b'a'][..],
            // Object of two: ids and offsets in the order of the names, then the values in that of the document.
            &[0x02, 2, 1, 0, 2, 0, 4, 0x0c, 1, 0x0c, 2],
        ]
        .concat();
        assert_eq!(variant(r#"{"b":1,"a":2}"#), Ok(expected));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let twice = variant(r#"{"a":1,"b":"text","a":{"c":2}}"#).unwrap();
        let expected = [
            &[0, 0, 0, 9, 1, 3, 0, 1, 2, 3, b'a', b'b', b'c'][..],
            &[0x02, 2, 0, 1, 5, 0, 12],
            &[0x11, b't', b'e', b'x', b't'],
            &[0x02, 1, 2, 0, 2, 0x0c, 2],
        ]
        .concat();
        assert_eq!(twice, expected);
    }

    #[test]
    fn names_are_sorted_as_java_sorts_them() {
        // A character beyond U+FFFF is a pair that sorts before U+E000 to U+FFFF.
        let found = variant("{\"\u{ff5e}\":1,\"\u{10000}\":2}").unwrap();
        let value = &found[4 + found[3] as usize..];
        assert_eq!(value, [0x02, 2, 1, 0, 2, 0, 4, 0x0c, 1, 0x0c, 2]);
    }

    #[test]
    fn what_is_no_json_is_no_variant() {
        for json in [
            "", "{", "[1,]", "[1 2]", "{\"a\":}", "nul", "01", "\"\\x\"", "1e999",
        ] {
            assert!(variant(json).is_err(), "{json}");
        }
        let deep = "[".repeat(300) + &"]".repeat(300);
        assert!(variant(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_variant_or_none(json in "[{}\\[\\]\":,a-c\\\\0-9.eE -]{0,60}") {
            let _ = variant(&json);
        }
    }
}
