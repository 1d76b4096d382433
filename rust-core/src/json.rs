//! JSON as bytes: what is found in it, taken apart or put together without a tree.
//!
//! Documents go through as the bytes that they are. Where a value is needed, serde_json reads it.

use std::io::Write;

use memchr::{memchr, memchr2};

/// Walks JSON text, or finds out that it is broken; never reads out of bounds.
pub struct Scanner<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

/// What is wrong with the text. Small, unlike the error that it becomes: the scanner returns several results for each field.
pub struct Broken(pub &'static str);

pub type Scan<T> = std::result::Result<T, Broken>;

impl<'a> Scanner<'a> {
    #[inline]
    pub fn peek(&mut self) -> Scan<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b) => return Ok(*b),
                None => return Err(Broken("it ends too early")),
            }
        }
    }

    #[inline]
    pub fn expect(&mut self, byte: u8, missing: &'static str) -> Scan<()> {
        if self.peek()? != byte {
            return Err(Broken(missing));
        }
        self.at += 1;
        Ok(())
    }

    /// The string that begins here, quotes included, and whether it holds escapes.
    #[inline]
    fn string(&mut self) -> Scan<(&'a [u8], bool)> {
        self.expect(b'"', "a string is missing")?;
        let start = self.at - 1;
        match self.rest_of_string() {
            Some(escaped) => Ok((&self.bytes[start..self.at], escaped)),
            None => Err(Broken("a string does not end")),
        }
    }

    /// Goes behind the string whose first quote was just passed; whether it holds escapes, or `None` when it does not end.
    #[inline(always)]
    fn rest_of_string(&mut self) -> Option<bool> {
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let i = quote_or_backslash(rest)?;
            if rest[i] == b'"' {
                self.at += i + 1;
                return Some(escaped);
            }
            escaped = true;
            self.at += i + 2;
        }
    }

    /// Goes behind the object or array that begins here; `None` when it does not end.
    #[inline]
    fn nest(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => drop(self.rest_of_string()?),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ => {}
            }
        }
    }

    /// The value that begins here.
    #[inline(always)]
    pub fn value(&mut self) -> Scan<&'a [u8]> {
        match self.peek()? {
            b'"' => Ok(self.string()?.0),
            b'{' | b'[' => {
                let start = self.at;
                match self.nest() {
                    Some(()) => Ok(&self.bytes[start..self.at]),
                    None => Err(Broken("an object or array does not end")),
                }
            }
            _ => {
                let start = self.at;
                while !matches!(
                    self.bytes.get(self.at),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    self.at += 1;
                }
                Ok(&self.bytes[start..self.at])
            }
        }
    }

    /// The key that begins here; the scanner is left behind its colon.
    #[inline]
    pub fn key(&mut self) -> Scan<Key<'a>> {
        let (quoted, escaped) = self.string()?;
        self.expect(b':', "a colon is missing behind a key")?;
        Ok(Key { quoted, escaped })
    }

    /// Calls `field` with each key of the object that begins here and the scanner before its value, which `field` must read.
    #[inline]
    pub fn object<E: From<Broken>>(
        &mut self,
        mut field: impl FnMut(Key<'a>, &mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'{', "an object is missing")?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            self.peek()?;
            field(key, self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken("there is no comma between two fields").into()),
            }
        }
    }

    /// Calls `item` with the scanner before each item of the array that begins here, which `item` must read; `missing` says that none does.
    #[inline]
    pub fn array<E: From<Broken>>(
        &mut self,
        missing: &'static str,
        mut item: impl FnMut(&mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'[', missing)?;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken("there is no comma between two items").into()),
            }
        }
    }
}

/// An integer as a JSON number, or as a string; `None` for another value and for one that does not fit.
#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let text = match text {
        [b'"', inner @ .., b'"'] => inner,
        _ => text,
    };
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        _ => (1, text),
    };
    let number = digits.iter().try_fold(0i64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        n.checked_mul(10)?.checked_add(sign * digit)
    })?;
    (!digits.is_empty()).then_some(number)
}

/// A key as it stands in the text, quotes included.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    quoted: &'a [u8],
    escaped: bool,
}

impl<'a> Key<'a> {
    /// The text between the quotes, escapes as they are.
    #[inline]
    pub fn text(self) -> &'a [u8] {
        &self.quoted[1..self.quoted.len() - 1]
    }

    /// As it stands, with the quotes.
    #[inline]
    pub fn quoted(self) -> &'a [u8] {
        self.quoted
    }

    /// Whether the name is written with escapes.
    #[inline]
    pub fn is_escaped(self) -> bool {
        self.escaped
    }

    /// The name that it is; `None` when it has no UTF-8 or a broken escape.
    pub fn decoded(self) -> Option<String> {
        serde_json::from_slice(self.quoted).ok()
    }

    #[inline]
    pub fn is(self, name: &str) -> bool {
        if self.escaped {
            return serde_json::from_slice::<String>(self.quoted).is_ok_and(|k| k == name);
        }
        self.text() == name.as_bytes()
    }
}

/// Where the first `"` or `\` is. Keys and most values are short: eight bytes at a time find the end before a vector search
/// would have begun.
#[inline(always)]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The lowest set high bit of the result marks the first zero byte of `x`.
    let zeros = |x: u64| x.wrapping_sub(LOW) & !x & HIGH;
    let mut at = 0;
    while at < 48 {
        let Some(chunk) = bytes[at..].first_chunk() else {
            break;
        };
        let word = u64::from_le_bytes(*chunk);
        let hits = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|i| at + i)
}

/// The value at `path` below an object's text; empty when there is none.
pub fn nested<'a>(text: &'a [u8], path: &[String]) -> Scan<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(text);
    };
    if text.first() != Some(&b'{') {
        return Ok(b"");
    }
    let mut value: &[u8] = b"";
    Scanner { bytes: text, at: 0 }.object(|key, s| {
        let v = s.value()?;
        if key.is(first) {
            value = v;
        }
        Ok::<_, Broken>(())
    })?;
    if value.is_empty() {
        return Ok(b"");
    }
    nested(value, rest)
}

/// Whether this is a string, and its escapes are those of whole characters. Outside of them it may be of any bytes.
pub fn is_text(json: &[u8]) -> bool {
    match json {
        [b'"', inner @ .., b'"'] => {
            memchr(b'\\', inner).is_none() || serde_json::from_slice::<String>(json).is_ok()
        }
        _ => false,
    }
}

/// The text of a JSON string of whatever bytes, with U+FFFD in place of what is no text; anything else as it stands.
pub fn lossy(json: &[u8]) -> String {
    const REPLACEMENT: &str = "\\ufffd";
    let text = String::from_utf8_lossy(json);
    let unit = |at: usize| {
        let hex = text.get(at + 2..at + 6)?;
        let escape = text.as_bytes()[at..].starts_with(b"\\u");
        let hex = escape.then_some(hex)?;
        u16::from_str_radix(hex, 16).ok()
    };
    let (mut out, mut rest) = (String::with_capacity(text.len()), 0);
    while let Some(at) = memchr(b'\\', &text.as_bytes()[rest..]).map(|i| rest + i) {
        out.push_str(&text[rest..at]);
        let (kept, next) = match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => {
                (&text[at..at + 12], at + 12)
            }
            Some(0xD800..=0xDFFF) => (REPLACEMENT, at + 6),
            Some(_) => (&text[at..at + 6], at + 6),
            None => {
                let next = at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8);
                (&text[at..next], next)
            }
        };
        out.push_str(kept);
        rest = next;
    }
    out.push_str(&text[rest..]);
    serde_json::from_str(&out).unwrap_or_else(|_| out.trim_matches('"').to_owned())
}

/// The id of a document that is to be written, as its JSON text with the quotes: empty when it has none, or none that is text. `None` when
/// these bytes are not one JSON object by its brackets and strings, from the first byte to the last. What else stands between them
/// is not looked at.
pub fn object_id(bytes: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner { bytes, at: 0 };
    if !matches!(scanner.peek(), Ok(b'{')) {
        return None;
    }
    let (mut depth, mut id) = (0usize, &b""[..]);
    // Of the object itself: a key comes next, and the value that comes next is the id.
    let (mut key, mut is_id) = (false, false);
    loop {
        let byte = *bytes.get(scanner.at)?;
        scanner.at += 1;
        match byte {
            b'"' => {
                let start = scanner.at - 1;
                scanner.rest_of_string()?;
                if depth == 1 {
                    let text = &bytes[start..scanner.at];
                    if is_id {
                        id = text;
                    }
                    is_id = key && text == b"\"id\"";
                    key = false;
                }
            }
            b'{' | b'[' => {
                depth += 1;
                (key, is_id) = (depth == 1, false);
            }
            b',' => (key, is_id) = (depth == 1, false),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            _ => {}
        }
    }
    bytes[scanner.at..]
        .iter()
        .all(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t'))
        .then_some(id)
}

/// Whether valid JSON, as a value of an object, makes that no deeper than `most`, and has no half of a surrogate pair, for which there is no UTF-8.
pub fn fits(json: &[u8], most: usize) -> bool {
    let (mut depth, mut in_text, mut at) = (1, false, 0);
    // The first half of a pair that the next escape must complete.
    let mut half = false;
    while let Some(b) = json.get(at) {
        let escaped = in_text && *b == b'\\';
        if half && !(escaped && json.get(at + 1) == Some(&b'u')) {
            return false;
        }
        match b {
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth -= 1,
            b'\\' if json.get(at + 1) == Some(&b'u') => {
                let digits = json.get(at + 2..at + 6).and_then(|d| std::str::from_utf8(d).ok());
                let unit = digits.and_then(|d| u16::from_str_radix(d, 16).ok());
                match (half, unit) {
                    (true, Some(0xdc00..=0xdfff)) => half = false,
                    (false, Some(0xd800..=0xdbff)) => half = true,
                    (true, _) | (false, Some(0xdc00..=0xdfff) | None) => return false,
                    (false, Some(_)) => {}
                }
                at += 5;
            }
            b'\\' => at += 1,
            _ => {}
        }
        if depth > most {
            return false;
        }
        at += 1;
    }
    true
}

/// Bytes of `text` in a JSON string, without its quotes.
pub fn escaped_len(text: &[u8]) -> usize {
    text.iter()
        .map(|b| match b {
            b'"' | b'\\' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// A name as a part of a JSON pointer, with the slash in front of it.
pub fn segment(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The names of a JSON pointer, of which the first slash is taken off.
pub fn segments(inner: &str) -> Vec<String> {
    inner
        .split('/')
        .map(|name| name.replace("~1", "/").replace("~0", "~"))
        .collect()
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut written = 0;
    for (i, b) in text.iter().enumerate() {
        if !matches!(b, b'"' | b'\\' | 0..0x20) {
            continue;
        }
        out.extend_from_slice(&text[written..i]);
        written = i + 1;
        if *b < 0x20 {
            // Writing into a Vec cannot fail.
            let _ = write!(out, "\\u{b:04x}");
        } else {
            out.extend_from_slice(&[b'\\', *b]);
        }
    }
    out.extend_from_slice(&text[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_whole_or_not_at_all() {
        for n in [0, 7, -12, 1_795_517_269, i64::MAX, i64::MIN] {
            assert_eq!(integer(n.to_string().as_bytes()), Some(n));
            assert_eq!(integer(format!("\"{n}\"").as_bytes()), Some(n));
        }
        for text in [
            "",
            "\"\"",
            "-",
            "1.5",
            "1e3",
            "null",
            "\"",
            "9223372036854775808",
            "1 ",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}
