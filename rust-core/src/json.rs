//! JSON as bytes: what is found in it, taken apart or put together without a tree.
//!
//! Documents go through as the bytes that they are. Where a value is needed, serde_json reads it.

use std::io::Write;

use memchr::{memchr, memchr2};

use crate::lanes::{any_of, LANES};

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
        let (end, escaped) = end_of_string(self.bytes, self.at)?;
        self.at = end;
        Some(escaped)
    }

    /// Goes behind the value that begins here; whether it is a string without escapes.
    #[inline(always)]
    pub fn pass(&mut self) -> Scan<bool> {
        self.peek()?;
        let (end, plain) = end_of_value(self.bytes, self.at)?;
        self.at = end;
        Ok(plain)
    }

    /// The value that begins here.
    #[inline(always)]
    pub fn value(&mut self) -> Scan<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.pass()?;
        Ok(&self.bytes[start..self.at])
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
    if (1..=18).contains(&digits.len()) {
        // So many fit whatever they are.
        let number = digits.iter().try_fold(0i64, |n, digit| {
            let digit = digit.wrapping_sub(b'0');
            (digit <= 9).then(|| n.wrapping_mul(10).wrapping_add(i64::from(digit)))
        });
        return number.map(|number| sign * number);
    }
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

/// Where the value ends that begins at this very byte, and whether it is a string without escapes. Positions go in and out by value, so that a
/// loop over many values can keep its own in a register.
#[inline(always)]
pub fn end_of_value(bytes: &[u8], at: usize) -> Scan<(usize, bool)> {
    match bytes.get(at) {
        Some(b'"') => match end_of_string(bytes, at + 1) {
            Some((end, escaped)) => Ok((end, !escaped)),
            None => Err(Broken("a string does not end")),
        },
        Some(b'{' | b'[') => match end_of_nest(bytes, at) {
            Some(end) => Ok((end, false)),
            None => Err(Broken("an object or array does not end")),
        },
        _ => Ok((end_of_word(bytes, at), false)),
    }
}

/// Longest value whose length may be guessed: a vector search takes no time for what is longer.
const MAX_GUESSED: usize = 5 * LANES;

/// Whether a value of exactly this length begins at this very byte, and is a string without escapes. `None` where it has another length, and for what
/// nobody guesses. Beside [`end_of_value`] it saves the time, and not the work: the processor goes on behind the value before it has found out that it ends there.
#[inline(always)]
pub fn has_length(bytes: &[u8], at: usize, length: usize) -> Option<bool> {
    match bytes.get(at)? {
        b'"' => {
            // A string of one quote has no last one.
            let mut last = length.checked_sub(2).filter(|_| length <= MAX_GUESSED)?;
            let mut at = at + 1;
            while last >= LANES {
                if any_of(chunk(bytes, at)?, [b'"', b'\\']) != 0 {
                    return None;
                }
                (at, last) = (at + LANES, last - LANES);
            }
            let chunk = chunk(bytes, at)?;
            let quote = 1u32 << last;
            let wrong = (any_of(chunk, [b'"']) ^ quote) | any_of(chunk, [b'\\']);
            (wrong & (2 * quote - 1) == 0).then_some(true)
        }
        b'{' | b'[' => None,
        _ if length < LANES => {
            let end = 1u32 << length;
            let hits = any_of(chunk(bytes, at)?, BEHIND_A_VALUE);
            (hits & (2 * end - 1) == end).then_some(false)
        }
        _ => None,
    }
}

/// The sixteen bytes that begin here.
#[inline(always)]
fn chunk(bytes: &[u8], at: usize) -> Option<&[u8; LANES]> {
    bytes.get(at..)?.first_chunk()
}

/// Where the string ends whose first quote stands before `at`, and whether it holds escapes. `None` when it does not end.
#[inline(always)]
fn end_of_string(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    // Keys and most values are short.
    if let Some(chunk) = chunk(bytes, at) {
        let (quotes, escapes) = (any_of(chunk, [b'"']), any_of(chunk, [b'\\']));
        let up_to_quote = quotes ^ quotes.wrapping_sub(1);
        if quotes != 0 && escapes & up_to_quote == 0 {
            return Some((at + quotes.trailing_zeros() as usize + 1, false));
        }
    }
    end_of_long_string(bytes, at)
}

#[inline(never)]
fn end_of_long_string(bytes: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        let rest = bytes.get(at..)?;
        let i = quote_or_backslash(rest)?;
        if rest[i] == b'"' {
            return Some((at + i + 1, escaped));
        }
        escaped = true;
        at += i + 2;
    }
}

/// Where the first `"` or `\` is: sixteen bytes at a time find it where it is near, before a vector search would have begun.
#[inline(always)]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < 4 * LANES {
        let Some(chunk) = chunk(bytes, at) else {
            break;
        };
        let hits = any_of(chunk, [b'"', b'\\']);
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize);
        }
        at += LANES;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|i| at + i)
}

/// What may stand behind a number or a name.
const BEHIND_A_VALUE: [u8; 7] = [b',', b'}', b']', b' ', b'\n', b'\r', b'\t'];

/// Where the number or name ends that begins here: at what may stand behind a value.
#[inline(always)]
fn end_of_word(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = chunk(bytes, at) {
        let hits = any_of(chunk, BEHIND_A_VALUE);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += LANES;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest.iter().position(|b| BEHIND_A_VALUE.contains(b));
    at + end.unwrap_or(rest.len())
}

/// Where the object or array ends that begins here; `None` when it does not.
#[inline(never)]
fn end_of_nest(bytes: &[u8], mut at: usize) -> Option<usize> {
    at += 1;
    let mut depth = 1usize;
    // All bits where the last block ended within a string.
    let mut within = 0u64;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        let mask = |bytes| mask(block, bytes);
        if mask([b'\\', b'\\']) != 0 {
            // Escapes are seldom, and what they stand before is not to be seen.
            let end = at + BLOCK;
            if within != 0 {
                (at, _) = end_of_string(bytes, at)?;
                within = 0;
            }
            while at < end {
                at = step(bytes, at, &mut depth)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            continue;
        }
        let strings = inside(mask([b'"', b'"'])) ^ within;
        let (opening, closing) = (mask([b'{', b'[']) & !strings, mask([b'}', b']']) & !strings);
        let mut brackets = opening | closing;
        while brackets != 0 {
            let first = brackets & brackets.wrapping_neg();
            if opening & first != 0 {
                depth += 1;
            } else {
                depth -= 1;
                if depth == 0 {
                    return Some(at + first.trailing_zeros() as usize + 1);
                }
            }
            brackets ^= first;
        }
        within = ((strings as i64) >> 63) as u64;
        at += BLOCK;
    }
    if within != 0 {
        (at, _) = end_of_string(bytes, at)?;
    }
    while depth > 0 {
        at = step(bytes, at, &mut depth)?;
    }
    Some(at)
}

/// Goes behind a byte, or a string, of what is nested. `None` at the end of the text.
#[inline]
fn step(bytes: &[u8], at: usize, depth: &mut usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => return end_of_string(bytes, at + 1).map(|(end, _)| end),
        b'{' | b'[' => *depth += 1,
        b'}' | b']' => *depth -= 1,
        _ => {}
    }
    Some(at + 1)
}

/// Bytes that brackets are looked for in together.
const BLOCK: usize = 64;

/// Which bytes of a block are one of these.
#[inline(always)]
fn mask(block: &[u8; BLOCK], bytes: [u8; 2]) -> u64 {
    let (chunks, _) = block.as_chunks::<LANES>();
    let mut mask = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        mask |= u64::from(any_of(chunk, bytes)) << (i * LANES);
    }
    mask
}

/// From each second quote on, the first included, up to the next one: what is in strings, where none began before.
#[inline(always)]
fn inside(quotes: u64) -> u64 {
    let mut inside = quotes;
    for step in [1, 2, 4, 8, 16, 32] {
        inside ^= inside << step;
    }
    inside
}

/// Whether this is UTF-8. Most documents have nothing but ASCII, which is found out sooner.
pub fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || std::str::from_utf8(text).is_ok()
}

/// Whether there is a backslash.
#[inline]
pub fn has_backslash(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<LANES>() else {
        return text.contains(&b'\\');
    };
    if text.len() > 4 * LANES {
        return memchr(b'\\', text).is_some();
    }
    let (chunks, _) = text.as_chunks::<LANES>();
    let mut hits = any_of(last, [b'\\']);
    for chunk in chunks {
        hits |= any_of(chunk, [b'\\']);
    }
    hits != 0
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
        [b'"', inner @ .., b'"'] => !has_backslash(inner) || serde_json::from_slice::<String>(json).is_ok(),
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
    use proptest::prelude::*;

    /// Where a value ends, read byte by byte, and whether it is a string without escapes.
    fn by_bytes(text: &[u8], at: usize) -> Option<(usize, bool)> {
        let string = |mut at: usize| {
            let mut plain = true;
            loop {
                match text.get(at)? {
                    b'"' => return Some((at + 1, plain)),
                    b'\\' => (at, plain) = (at + 2, false),
                    _ => at += 1,
                }
            }
        };
        match text.get(at)? {
            b'"' => string(at + 1),
            b'{' | b'[' => {
                let (mut at, mut depth) = (at + 1, 1);
                while depth > 0 {
                    match text.get(at)? {
                        b'"' => {
                            at = string(at + 1)?.0;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                }
                Some((at, false))
            }
            _ => {
                let ends = |b: &u8| b",}] \n\r\t".contains(b);
                let end = text[at..].iter().position(ends);
                Some((end.map_or(text.len(), |i| at + i), false))
            }
        }
    }

    /// Texts that are long enough for several blocks, of little but what ends something.
    fn any_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[a-z0-9.:-]{0,20}",
            2 => "[{}\\[\\]\",\\\\ \n]{1,3}",
            2 => "\"[a-z{}\\[\\], ]{0,40}\"",
            1 => "\"[a-z\\\\]{0,70}\\\\\"[}\\]]{0,3}\"",
        ];
        let pieces = proptest::collection::vec(piece, 0..20);
        (prop_oneof![Just("{"), Just("["), Just("\""), Just("")], pieces)
            .prop_map(|(first, pieces)| [first, &pieces.concat()].concat().into_bytes())
    }

    proptest! {
        #[test]
        fn values_end_where_they_end_byte_by_byte(text in any_text(), at in 0usize..40) {
            let at = at.min(text.len());
            let expected = by_bytes(&text, at);
            let found = end_of_value(&text, at).ok();
            // Nobody asks behind the end.
            if at < text.len() {
                prop_assert_eq!(found, expected, "{}", String::from_utf8_lossy(&text));
            }
            for length in (0..100).chain(found.map(|(end, _)| end - at)) {
                let guessed = has_length(&text, at, length);
                let right = expected.filter(|(end, _)| *end == at + length);
                // It may not know, but never be wrong.
                prop_assert!(guessed.is_none() || guessed == right.map(|(_, plain)| plain), "{length}");
            }
        }

        #[test]
        fn backslashes_are_found_anywhere(length in 0usize..90, at in 0usize..90) {
            let mut text = vec![b'x'; length];
            prop_assert!(!has_backslash(&text));
            if at < length {
                text[at] = b'\\';
                prop_assert!(has_backslash(&text));
            }
        }
    }

    #[test]
    fn lengths_of_usual_values_are_known() {
        for value in [
            "1",
            "-12.25",
            "true",
            "\"\"",
            "\"a\"",
            "\"0123456789abcd\"",
            "\"0123456789abcdef0\"",
        ] {
            let text = format!("{value},\"next\":\"a string behind it\"");
            let plain = value.starts_with('"');
            assert_eq!(
                has_length(text.as_bytes(), 0, value.len()),
                Some(plain),
                "{value}"
            );
            assert_eq!(has_length(text.as_bytes(), 0, value.len() + 1), None, "{value}");
        }
        let long = format!("\"{}\",\"next\":\"a string behind it\"", "x".repeat(78));
        assert_eq!(has_length(long.as_bytes(), 0, 80), Some(true));
        assert_eq!(has_length(b"\"a\\\"b\",\"next\":12", 0, 6), None);
    }

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
