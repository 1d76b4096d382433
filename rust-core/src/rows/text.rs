//! From the text of a JSON value to a value of SQL: exact, or not at all.

/// Why a text is no value of a type; for people, behind "is no DATE: ".
pub type Reason = &'static str;

/// What a value is read as, or why it cannot be.
pub type Read<T> = Result<T, Reason>;

const NOT_JSON: Reason = "it is no JSON value";
const NOT_A_NUMBER: Reason = "it is not a number";
const TOO_LARGE: Reason = "it is too large for the type";
const A_FRACTION: Reason = "it is not a whole number";
const NOT_A_TEXT: Reason = "it is not a text";

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Most digits of which an i64 has all numbers.
const DIGITS: usize = 18;

/// Ten to the power of the index.
const TENS: [i64; DIGITS + 1] = {
    let (mut tens, mut i) = ([1; DIGITS + 1], 1);
    while i <= DIGITS {
        tens[i] = tens[i - 1] * 10;
        i += 1;
    }
    tens
};

/// The characters of a JSON string, given with its quotes. `scratch` holds them where there are escapes.
///
/// # Errors
/// For a broken escape, and for half of a surrogate pair, which no UTF-8 is for.
#[inline]
pub fn unquoted<'a>(quoted: &'a [u8], scratch: &'a mut Vec<u8>) -> Read<&'a [u8]> {
    let [b'"', inner @ .., b'"'] = quoted else {
        return Err(NOT_A_TEXT);
    };
    match memchr::memchr(b'\\', inner) {
        None => Ok(inner),
        Some(first) => unescaped(inner, first, scratch),
    }
}

fn unescaped<'a>(inner: &[u8], first: usize, scratch: &'a mut Vec<u8>) -> Read<&'a [u8]> {
    scratch.clear();
    let mut from = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        scratch.extend_from_slice(&inner[from..at]);
        let escape = *inner.get(at + 1).ok_or("an escape is broken")?;
        from = at + 2;
        match escape {
            b'"' | b'\\' | b'/' => scratch.push(escape),
            b'b' => scratch.push(8),
            b'f' => scratch.push(12),
            b'n' => scratch.push(b'\n'),
            b'r' => scratch.push(b'\r'),
            b't' => scratch.push(b'\t'),
            b'u' => {
                let unit = unit(inner, from)?;
                from += 4;
                let code = match unit {
                    0xD800..=0xDBFF if inner[from..].starts_with(b"\\u") => {
                        let low = self::unit(inner, from + 2)?;
                        from += 6;
                        match low {
                            0xDC00..=0xDFFF => 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00),
                            // No character has the number of a half.
                            _ => unit,
                        }
                    }
                    _ => unit,
                };
                let character = char::from_u32(code).ok_or("half of a surrogate pair is no text")?;
                scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err("an escape is broken"),
        }
        next = memchr::memchr(b'\\', &inner[from..]).map(|i| from + i);
    }
    scratch.extend_from_slice(&inner[from..]);
    Ok(scratch.as_slice())
}

/// The four hexadecimal digits that begin here.
fn unit(text: &[u8], at: usize) -> Read<u32> {
    let digits = text.get(at..at + 4).ok_or("an escape is broken")?;
    digits.iter().try_fold(0, |n, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or("an escape is broken")?;
        Ok((n << 4) | digit)
    })
}

/// A decimal number, as it stands: `whole.fraction` times ten to the power of `exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Digits at the beginning, and what is behind them.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    text.split_at(count)
}

impl<'a> Number<'a> {
    /// By the letter of JSON.
    pub fn json(text: &'a [u8]) -> Read<Self> {
        let number = Self::loose(text).map_err(|_| NOT_JSON)?;
        let padded = number.whole.len() > 1 && number.whole[0] == b'0';
        let pointless = number.fraction.is_empty() && text.contains(&b'.');
        if text[0] == b'+' || number.whole.is_empty() || padded || pointless {
            return Err(NOT_JSON);
        }
        Ok(number)
    }

    /// As people write them in a text: with a plus, with zeros in front, without digits on one side of the point.
    pub fn loose(text: &'a [u8]) -> Read<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            _ => (&rest[..0], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest).ok_or(NOT_A_NUMBER)?,
            _ => return Err(NOT_A_NUMBER),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(NOT_A_NUMBER);
        }
        Ok(Number {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// How many digits it has in front of its point and behind it, once it is written without an exponent; zeros in front do not count.
    pub fn digits(&self) -> (u32, u32) {
        let all = self.whole.iter().chain(self.fraction);
        let zeros = all.take_while(|digit| **digit == b'0').count();
        let (whole, fraction) = (self.whole.len(), self.fraction.len());
        let before = match zeros == whole + fraction {
            true => 0,
            false => self.exponent + whole as i64 - zeros as i64,
        };
        let digits = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
        (digits(before), digits(fraction as i64 - self.exponent))
    }

    /// The number times ten to the power of `scale`, as a whole one. What is behind that is rounded half up where `rounding` says
    /// so, by its size as `BigDecimal` does.
    pub fn scaled(&self, scale: u8, rounding: bool) -> Read<i128> {
        let kept = usize::from(scale);
        if self.exponent == 0 && self.fraction.len() <= kept && self.whole.len() + kept <= 18 {
            // As most are: nothing is rounded, and an i64 has the digits.
            let digits = self.whole.iter().chain(self.fraction);
            let value = digits.fold(0i64, |n, digit| n * 10 + i64::from(digit - b'0'));
            let value = value * 10i64.pow((kept - self.fraction.len()) as u32);
            return Ok(i128::from(if self.negative { -value } else { value }));
        }
        // Zeros at both ends say nothing.
        let digits = self.whole.len() + self.fraction.len();
        let digit = |i: usize| match self.whole.get(i) {
            Some(digit) => digit - b'0',
            None => self.fraction[i - self.whole.len()] - b'0',
        };
        let Some(first) = (0..digits).find(|i| digit(*i) != 0) else {
            return Ok(0);
        };
        let last = (first..digits).rev().find(|i| digit(*i) != 0).unwrap_or(first);
        // How many places the digit of that number stands left of the last one that is kept.
        let place = |i: usize| self.exponent + self.whole.len() as i64 - 1 - i as i64 + i64::from(scale);
        if place(last) < 0 && !rounding {
            return Err(A_FRACTION);
        }
        // No type has more than 38 digits; so many fit.
        if place(first) > 37 {
            return Err(TOO_LARGE);
        }
        let mut value = (first..=last)
            .take_while(|i| place(*i) >= 0)
            .fold(0i128, |value, i| value * 10 + i128::from(digit(i)));
        if place(last) > 0 {
            value *= 10i128.pow(place(last) as u32);
        }
        let half = (first..=last).find(|i| place(*i) == -1);
        if half.is_some_and(|i| digit(i) >= 5) {
            value += 1;
        }
        Ok(if self.negative { -value } else { value })
    }
}

/// Adds the digits at the beginning to a number; what is behind them.
#[inline(always)]
fn more<'a>(number: &mut u64, text: &'a [u8]) -> &'a [u8] {
    for (i, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return &text[i..];
        }
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    &[]
}

/// A number of JSON as most are, without exponent and of at most 18 digits: the number that these are, and how many of them stand
/// behind the point. `None` says nothing of any other.
#[inline]
fn short(json: &[u8]) -> Option<(i64, usize)> {
    let (negative, text) = match json {
        [b'-', text @ ..] => (true, text),
        text => (false, text),
    };
    if text.len() > DIGITS {
        return None;
    }
    let mut number = 0;
    let rest = more(&mut number, text);
    let whole = text.len() - rest.len();
    let behind = match rest {
        [] => 0,
        [b'.', rest @ ..] if !rest.is_empty() && more(&mut number, rest).is_empty() => rest.len(),
        _ => return None,
    };
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return None;
    }
    let number = number as i64;
    Some((if negative { -number } else { number }, behind))
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (digits, []) = digits(rest) else {
        return None;
    };
    if digits.is_empty() {
        return None;
    }
    // Far beyond all types, and far from the ends of an i64.
    let most = 1i64 << 40;
    let size = digits
        .iter()
        .fold(0, |n: i64, digit| (n * 10 + i64::from(digit - b'0')).min(most));
    Some(if negative { -size } else { size })
}

/// The number in a value: one of JSON, or a text that is one.
fn number<'a>(json: &'a [u8], scratch: &'a mut Vec<u8>) -> Read<Number<'a>> {
    match json.first() {
        Some(b'"') => Number::loose(unquoted(json, scratch)?.trim_ascii()),
        _ => bare(json),
    }
}

/// The number that a value is.
fn bare(json: &[u8]) -> Read<Number<'_>> {
    match json.first() {
        Some(b'-' | b'0'..=b'9') => Number::json(json),
        Some(b't' | b'f' | b'{' | b'[') => Err(NOT_A_NUMBER),
        _ => Err(NOT_JSON),
    }
}

/// A whole number.
#[inline]
pub fn integer(json: &[u8], scratch: &mut Vec<u8>) -> Read<i64> {
    if let Some((number, 0)) = short(json) {
        return Ok(number);
    }
    let value = number(json, scratch)?.scaled(0, false)?;
    i64::try_from(value).map_err(|_| TOO_LARGE)
}

/// A whole number of a smaller type.
pub fn small<T: TryFrom<i64>>(json: &[u8], scratch: &mut Vec<u8>) -> Read<T> {
    T::try_from(integer(json, scratch)?).map_err(|_| TOO_LARGE)
}

/// A decimal by its digits, those behind the point included.
#[inline]
pub fn decimal(json: &[u8], precision: u8, scale: u8, scratch: &mut Vec<u8>) -> Read<i128> {
    if let Some((number, behind)) = short(json) {
        // Where nothing is rounded.
        let missing = usize::from(scale).checked_sub(behind);
        let scaled = missing.and_then(|missing| number.checked_mul(*TENS.get(missing)?));
        if let (Some(scaled), Some(most)) = (scaled, TENS.get(usize::from(precision))) {
            return match scaled.unsigned_abs() < most.unsigned_abs() {
                true => Ok(i128::from(scaled)),
                false => Err(TOO_LARGE),
            };
        }
    }
    let value = number(json, scratch)?.scaled(scale, true)?;
    match value.unsigned_abs() < 10u128.pow(u32::from(precision)) {
        true => Ok(value),
        false => Err(TOO_LARGE),
    }
}

/// A floating point number, as near as its type has one.
pub fn float<T: std::str::FromStr>(
    json: &[u8],
    scratch: &mut Vec<u8>,
    finite: impl Fn(&T) -> bool,
) -> Read<T> {
    let (text, named) = match json.first() {
        Some(b'"') => {
            let text = unquoted(json, scratch)?.trim_ascii();
            let named = matches!(text, b"NaN" | b"Infinity" | b"-Infinity" | b"+Infinity");
            (text, named)
        }
        _ => (json, false),
    };
    if !named {
        match json.first() {
            Some(b'"') => drop(Number::loose(text)?),
            _ if short(json).is_some() => {}
            _ => drop(bare(json)?),
        }
    }
    let value: T = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(NOT_A_NUMBER)?;
    match named || finite(&value) {
        true => Ok(value),
        false => Err(TOO_LARGE),
    }
}

/// True or false, or a text that says so.
pub fn boolean(json: &[u8], scratch: &mut Vec<u8>) -> Read<bool> {
    const NEITHER: Reason = "it is neither true nor false";
    match json {
        b"true" => Ok(true),
        b"false" => Ok(false),
        [b'"', ..] => {
            let text = unquoted(json, scratch)?.trim_ascii();
            match text {
                _ if text.eq_ignore_ascii_case(b"true") => Ok(true),
                _ if text.eq_ignore_ascii_case(b"false") => Ok(false),
                _ => Err(NEITHER),
            }
        }
        _ => Err(NEITHER),
    }
}

/// The characters of a text; of anything else, its JSON as it stands.
#[inline]
pub fn text<'a>(json: &'a [u8], scratch: &'a mut Vec<u8>) -> Read<&'a [u8]> {
    match json.first() {
        Some(b'"') => unquoted(json, scratch),
        _ => raw(json),
    }
}

/// The JSON of a value as it stands. Of an object or array the brackets were looked at, and no more.
pub fn raw(json: &[u8]) -> Read<&[u8]> {
    match json {
        [b'"' | b'{' | b'[', ..] | b"true" | b"false" | b"null" => Ok(json),
        _ => Number::json(json).map(|_| json),
    }
}

/// Appends the bytes of a text in base64, with its padding; blanks in it are passed over.
pub fn base64(json: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Read<()> {
    const BROKEN: Reason = "it is not base64";
    let text = unquoted(json, scratch)?;
    let (mut word, mut sextets, mut padding) = (0u32, 0, 0);
    for byte in text.iter().filter(|b| **b > b' ') {
        let sextet = match byte {
            b'=' => {
                padding += 1;
                0
            }
            _ if padding > 0 => return Err(BROKEN),
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(BROKEN),
        };
        word = (word << 6) | u32::from(sextet);
        sextets += 1;
        if sextets == 4 {
            if padding > 2 {
                return Err(BROKEN);
            }
            out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
            (word, sextets) = (0, 0);
        }
    }
    match sextets {
        0 => Ok(()),
        _ => Err(BROKEN),
    }
}

/// Reads fields of fixed size from the front of a text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        match self.0 {
            [first, rest @ ..] if *first == byte => {
                self.0 = rest;
                Some(())
            }
            _ => None,
        }
    }

    fn two(&mut self, most: u32) -> Option<u32> {
        let [a @ b'0'..=b'9', b @ b'0'..=b'9', rest @ ..] = self.0 else {
            return None;
        };
        self.0 = rest;
        Some(u32::from(a - b'0') * 10 + u32::from(b - b'0')).filter(|n| *n <= most)
    }

    /// Four digits; more behind a plus, four or more behind a minus, nine at most.
    fn year(&mut self) -> Option<i64> {
        let sign = match self.0 {
            [sign @ (b'+' | b'-'), rest @ ..] => {
                self.0 = rest;
                *sign
            }
            _ => 0,
        };
        let (digits, rest) = digits(self.0);
        let fits = match sign {
            0 => digits.len() == 4,
            b'+' => (5..=9).contains(&digits.len()),
            _ => (4..=9).contains(&digits.len()),
        };
        if !fits {
            return None;
        }
        self.0 = rest;
        let year = digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
        Some(if sign == b'-' { -year } else { year })
    }

    /// Days since the epoch.
    fn date(&mut self) -> Option<i64> {
        let year = self.year()?;
        self.literal(b'-')?;
        let month = self.two(12)?;
        self.literal(b'-')?;
        day_of(year, month, self.two(31)?)
    }

    /// Nanoseconds of the day. Seconds may be missing where `short` says so.
    fn time(&mut self, short: bool) -> Option<i64> {
        let hours = self.two(23)?;
        self.literal(b':')?;
        let minutes = self.two(59)?;
        let mut seconds = 0;
        let mut nanos = 0;
        if !short || self.0.first() == Some(&b':') {
            self.literal(b':')?;
            seconds = self.two(59)?;
            if self.literal(b'.').is_some() {
                let (fraction, rest) = digits(self.0);
                if !(1..=9).contains(&fraction.len()) {
                    return None;
                }
                self.0 = rest;
                nanos = (0..9).fold(0, |n: i64, i| {
                    n * 10 + fraction.get(i).map_or(0, |digit| i64::from(digit - b'0'))
                });
            }
        }
        let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
        Some(seconds * 1_000_000_000 + nanos)
    }

    /// Milliseconds that the clock there is ahead of UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.literal(b'Z').is_some() {
            return Some(0);
        }
        let sign = match self.0 {
            [b'+', rest @ ..] => (1, rest),
            [b'-', rest @ ..] => (-1, rest),
            _ => return None,
        };
        self.0 = sign.1;
        let hours = self.two(18)?;
        self.literal(b':')?;
        let minutes = self.two(59)?;
        let minutes = hours * 60 + minutes;
        (minutes <= 18 * 60).then_some(sign.0 * i64::from(minutes) * 60_000)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Days since the epoch, of a date that there is.
#[inline]
fn day_of(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let exists = (1..=days).contains(&day);
    exists.then(|| days_from_civil(year, i64::from(month), i64::from(day)))
}

/// Days since the epoch of a date of the Gregorian calendar, which goes on in both directions.
/// Source: <https://howardhinnant.github.io/date_algorithms.html>.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin with March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Days since the epoch, of a date such as `2026-11-24`.
pub fn date(json: &[u8], scratch: &mut Vec<u8>) -> Read<i32> {
    let mut cursor = Cursor(unquoted(json, scratch)?);
    let days = cursor.date().filter(|_| cursor.end().is_some());
    let days = days.ok_or("it is no date such as 2026-11-24")?;
    i32::try_from(days).map_err(|_| TOO_LARGE)
}

/// Milliseconds of the day, of a time such as `10:15:30.123`.
pub fn time(json: &[u8], scratch: &mut Vec<u8>) -> Read<i32> {
    let mut cursor = Cursor(unquoted(json, scratch)?);
    let nanos = cursor.time(false).filter(|_| cursor.end().is_some());
    let nanos = nanos.ok_or("it is no time such as 10:15:30.123")?;
    // Those of a day fit.
    Ok((nanos / 1_000_000) as i32)
}

/// How a timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With a blank between date and time.
    Sql,
    /// With a T between them; seconds may be missing.
    Iso,
}

/// What a number counts where a timestamp is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No number is a timestamp.
    None,
    /// Seconds since the epoch.
    Seconds,
    /// Milliseconds since the epoch.
    Millis,
    /// Microseconds since the epoch.
    Micros,
    /// Nanoseconds since the epoch.
    Nanos,
}

/// The moment of a text as most are written: a year of four digits, seconds, and `Z` as the zone. `None` says nothing of any other.
#[inline]
fn usual(json: &[u8], zoned: bool, format: Format) -> Option<(i64, u32)> {
    let [b'"', text @ .., b'"'] = json else {
        return None;
    };
    let (head, tail) = text.split_first_chunk::<19>()?;
    let (date, _) = head.split_first_chunk()?;
    let (middle, _) = head[8..].split_first_chunk()?;
    let time = head.last_chunk()?;
    let middle = match format {
        Format::Sql => digits_in(middle, b"00 00:00"),
        Format::Iso => digits_in(middle, b"00T00:00"),
    }?;
    let (date, time) = (digits_in(date, b"0000-00-")?, digits_in(time, b"00:00:00")?);
    let two = |digits: &[u8; 8], at: usize| u32::from(digits[at]) * 10 + u32::from(digits[at + 1]);
    let (year, month, day) = (
        two(&date, 0) * 100 + two(&date, 2),
        two(&date, 5),
        two(&middle, 0),
    );
    let (hours, minutes, seconds) = (two(&time, 0), two(&time, 3), two(&time, 6));
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let days = day_of(i64::from(year), month, day)?;
    let (fraction, zone) = match tail {
        [b'.', rest @ ..] => {
            let mut fraction = 0;
            let zone = more(&mut fraction, rest);
            let digits = rest.len() - zone.len();
            if !(1..=9).contains(&digits) {
                return None;
            }
            (fraction as i64 * TENS[9 - digits], zone)
        }
        _ => (0, tail),
    };
    if zone != if zoned { b"Z".as_slice() } else { b"" } {
        return None;
    }
    let seconds = i64::from((hours * 60 + minutes) * 60 + seconds);
    let millis = days * DAY + seconds * 1000 + fraction / 1_000_000;
    Some((millis, (fraction % 1_000_000) as u32))
}

/// The digits of a text that has them where the pattern has zeros, and elsewhere what the pattern has.
#[inline]
fn digits_in(text: &[u8; 8], pattern: &[u8; 8]) -> Option<[u8; 8]> {
    // What may be added to a byte without a set high bit: to a digit more than to what must be zero.
    let room = pattern.map(|b| if b == b'0' { 0x7f - 9 } else { 0x7f });
    let word = u64::from_le_bytes(*text) ^ u64::from_le_bytes(*pattern);
    // A carry comes from a byte that has its own high bit set, so that it makes nothing wrong right.
    let wrong = (word.wrapping_add(u64::from_le_bytes(room)) | word) & 0x8080_8080_8080_8080;
    (wrong == 0).then(|| word.to_le_bytes())
}

/// The moment that a whole number is, where it counts this.
#[inline]
fn counted(number: i64, unit: Unit) -> Option<(i64, u32)> {
    Some(match unit {
        Unit::None => return None,
        Unit::Seconds => (number.checked_mul(1000)?, 0),
        Unit::Millis => (number, 0),
        Unit::Micros => (number.div_euclid(1000), number.rem_euclid(1000) as u32 * 1000),
        Unit::Nanos => (number.div_euclid(1_000_000), number.rem_euclid(1_000_000) as u32),
    })
}

/// Milliseconds since the epoch and nanoseconds behind them: of a text in the format, with a zone where `zoned` says so and else without
/// one, or of a number.
pub fn timestamp(
    json: &[u8],
    zoned: bool,
    format: Format,
    unit: Unit,
    scratch: &mut Vec<u8>,
) -> Read<(i64, u32)> {
    let known = match short(json) {
        Some((number, 0)) => counted(number, unit),
        _ => usual(json, zoned, format),
    };
    if let Some(moment) = known {
        return Ok(moment);
    }
    any_timestamp(json, zoned, format, unit, scratch)
}

/// [`timestamp`], however it is written.
fn any_timestamp(
    json: &[u8],
    zoned: bool,
    format: Format,
    unit: Unit,
    scratch: &mut Vec<u8>,
) -> Read<(i64, u32)> {
    if let Some(b'-' | b'0'..=b'9') = json.first() {
        let scale = match unit {
            Unit::None => {
                return Err("it is a number, of which json.timestamp-number.unit does not say what it counts")
            }
            Unit::Seconds => 9,
            Unit::Millis => 6,
            Unit::Micros => 3,
            Unit::Nanos => 0,
        };
        let nanos = Number::json(json)?.scaled(scale, false)?;
        let millis = i64::try_from(nanos.div_euclid(1_000_000)).map_err(|_| TOO_LARGE)?;
        return Ok((millis, nanos.rem_euclid(1_000_000) as u32));
    }
    let mut cursor = Cursor(unquoted(json, scratch)?);
    let mut local = || {
        let days = cursor.date()?;
        cursor.literal(if format == Format::Iso { b'T' } else { b' ' })?;
        Some((days, cursor.time(format == Format::Iso)?))
    };
    let (days, nanos) = local().ok_or(match format {
        Format::Sql => {
            "it is no timestamp such as 2026-11-24 10:15:30.123, as json.timestamp-format.standard has them"
        }
        Format::Iso => {
            "it is no timestamp such as 2026-11-24T10:15:30.123, as json.timestamp-format.standard has them"
        }
    })?;
    let ahead = match (zoned, cursor.end()) {
        (false, Some(())) => 0,
        (false, None) => {
            return Err("there is more behind it than a time; with a time zone it is a TIMESTAMP_LTZ")
        }
        (true, _) => {
            let ahead = cursor.zone().filter(|_| cursor.end().is_some());
            ahead
                .ok_or("it has no time zone such as Z or +01:00 at its end; without one it is a TIMESTAMP")?
        }
    };
    let millis = days
        .checked_mul(DAY)
        .and_then(|millis| millis.checked_add(nanos / 1_000_000 - ahead))
        .ok_or(TOO_LARGE)?;
    Ok((millis, (nanos % 1_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scratch() -> Vec<u8> {
        b"left over".to_vec()
    }

    #[test]
    fn numbers_are_read_whole_or_not_at_all() {
        for (json, expected) in [
            ("0", 0),
            ("-0", 0),
            ("12", 12),
            ("-12", -12),
            ("1.0", 1),
            ("1e3", 1000),
            ("12.50e1", 125),
            ("1200E-2", 12),
            ("\" 7 \"", 7),
            ("\"+007\"", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("999999999999999999", 999_999_999_999_999_999),
            ("0e999999999999999999999999", 0),
        ] {
            assert_eq!(integer(json.as_bytes(), &mut scratch()), Ok(expected), "{json}");
        }
        for (json, reason) in [
            ("1.5", A_FRACTION),
            ("1e-1", A_FRACTION),
            ("9223372036854775808", TOO_LARGE),
            ("1e400", TOO_LARGE),
            ("1e99999999999999999999", TOO_LARGE),
            ("01", NOT_JSON),
            ("1.", NOT_JSON),
            ("-", NOT_JSON),
            ("", NOT_JSON),
            ("1x", NOT_JSON),
            ("nul", NOT_JSON),
            ("\"\"", NOT_A_NUMBER),
            ("\"x\"", NOT_A_NUMBER),
            ("true", NOT_A_NUMBER),
            ("[1]", NOT_A_NUMBER),
        ] {
            assert_eq!(integer(json.as_bytes(), &mut scratch()), Err(reason), "{json}");
        }
        assert_eq!(small::<i8>(b"-128", &mut scratch()), Ok(-128));
        assert_eq!(small::<i8>(b"128", &mut scratch()), Err(TOO_LARGE));
    }

    #[test]
    fn decimals_are_rounded_half_up_behind_their_scale_and_never_before() {
        for (json, precision, scale, expected) in [
            ("1.005", 10, 2, Ok(101)),
            ("-1.005", 10, 2, Ok(-101)),
            ("1.0049999", 10, 2, Ok(100)),
            ("0.5", 5, 0, Ok(1)),
            ("0.05", 5, 0, Ok(0)),
            ("0.49", 5, 0, Ok(0)),
            ("9.99", 2, 1, Err(TOO_LARGE)),
            ("9.94", 2, 1, Ok(99)),
            ("1e2", 5, 2, Ok(10_000)),
            ("1e3", 5, 2, Err(TOO_LARGE)),
            ("1e-30", 38, 30, Ok(1)),
            ("1e-400", 38, 30, Ok(0)),
            ("\"12.3\"", 4, 2, Ok(1230)),
            ("0.0", 1, 1, Ok(0)),
        ] {
            let found = decimal(json.as_bytes(), precision, scale, &mut scratch());
            assert_eq!(found, expected, "{json}");
        }
        let most = "9".repeat(38);
        let found = decimal(most.as_bytes(), 38, 0, &mut scratch());
        assert_eq!(found, Ok(10i128.pow(38) - 1));
        let more = format!("{most}.5");
        assert_eq!(decimal(more.as_bytes(), 38, 0, &mut scratch()), Err(TOO_LARGE));
        let long = format!("0.{}", "3".repeat(500));
        let found = decimal(long.as_bytes(), 38, 37, &mut scratch());
        assert_eq!(found, Ok("3".repeat(37).parse().unwrap()));
    }

    #[test]
    fn floats_are_the_nearest_and_finite() {
        let double = |json: &str| float::<f64>(json.as_bytes(), &mut scratch(), |f| f.is_finite());
        assert_eq!(double("0.1"), Ok(0.1));
        assert_eq!(double("-0").unwrap().to_bits(), (-0.0f64).to_bits());
        assert_eq!(
            double("123456789012345678901234567890"),
            Ok(1.2345678901234568e29)
        );
        assert_eq!(double("\" 1e3 \""), Ok(1000.0));
        assert_eq!(double("\"NaN\"").unwrap().to_bits(), 0x7ff8_0000_0000_0000);
        assert_eq!(double("\"-Infinity\""), Ok(f64::NEG_INFINITY));
        assert_eq!(double("1e999"), Err(TOO_LARGE));
        assert_eq!(double("\"inf\""), Err(NOT_A_NUMBER));
        assert_eq!(double("NaN"), Err(NOT_JSON));
        // Through a double it would be another one.
        let single = float::<f32>(b"1.00000005960464477539062500001", &mut scratch(), |f| {
            f.is_finite()
        });
        assert_eq!(single, Ok(1.000_000_1));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2026-11-24", 20_781),
            ("0000-03-01", -719_468),
            ("-0001-03-01", -719_834),
            ("+10000-01-01", 2_932_897),
        ] {
            assert_eq!(
                date(format!("\"{text}\"").as_bytes(), &mut scratch()),
                Ok(days),
                "{text}"
            );
        }
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "26-01-01",
            "10000-01-01",
            "+2026-01-01",
            "2026-01-01Z",
            "",
        ] {
            let found = date(format!("\"{text}\"").as_bytes(), &mut scratch());
            assert!(found.is_err(), "{text}");
        }
        assert_eq!(date(b"20261124", &mut scratch()), Err(NOT_A_TEXT));
        assert_eq!(date(b"\"+999999999-01-01\"", &mut scratch()), Err(TOO_LARGE));
    }

    #[test]
    fn times_and_timestamps_are_those_of_their_format() {
        let read = |text: &str, zoned, format| {
            timestamp(
                format!("\"{text}\"").as_bytes(),
                zoned,
                format,
                Unit::None,
                &mut scratch(),
            )
        };
        let millis = 20_781 * DAY + (10 * 3600 + 15 * 60 + 30) * 1000;
        assert_eq!(
            read("2026-11-24T10:15:30.123456789", false, Format::Iso),
            Ok((millis + 123, 456_789))
        );
        assert_eq!(
            read("2026-11-24 10:15:30.1", false, Format::Sql),
            Ok((millis + 100, 0))
        );
        assert_eq!(
            read("2026-11-24T10:15", false, Format::Iso),
            Ok((millis - 30_000, 0))
        );
        assert_eq!(read("2026-11-24T10:15:30Z", true, Format::Iso), Ok((millis, 0)));
        assert_eq!(
            read("2026-11-24T10:15:30-01:30", true, Format::Iso),
            Ok((millis + 90 * 60_000, 0))
        );
        assert_eq!(
            read("1969-12-31T23:59:59.999999999", false, Format::Iso),
            Ok((-1, 999_999))
        );
        for (text, zoned, format) in [
            ("2026-11-24T10:15:30Z", false, Format::Iso),
            ("2026-11-24T10:15:30", true, Format::Iso),
            ("2026-11-24 10:15:30", false, Format::Iso),
            ("2026-11-24T10:15:30", false, Format::Sql),
            ("2026-11-24 10:15", false, Format::Sql),
            ("2026-11-24T24:00:00", false, Format::Iso),
            ("2026-11-24T10:15:60", false, Format::Iso),
            ("2026-11-24T10:15:30.", false, Format::Iso),
            ("2026-11-24T10:15:30.1234567890", false, Format::Iso),
            ("2026-11-24T10:15:30+18:01", true, Format::Iso),
            ("2026-11-24", false, Format::Iso),
        ] {
            assert!(read(text, zoned, format).is_err(), "{text}");
        }
        assert_eq!(time(b"\"10:15:30.1239\"", &mut scratch()), Ok(36_930_123));
        assert!(time(b"\"10:15\"", &mut scratch()).is_err());
    }

    #[test]
    fn numbers_are_timestamps_where_the_unit_is_said() {
        let read = |json: &str, unit| timestamp(json.as_bytes(), true, Format::Iso, unit, &mut scratch());
        assert_eq!(read("1795517269", Unit::Seconds), Ok((1_795_517_269_000, 0)));
        assert_eq!(read("1.0000005", Unit::Seconds), Ok((1000, 500)));
        assert_eq!(read("-1", Unit::Nanos), Ok((-1, 999_999)));
        assert_eq!(read("1795517269123", Unit::Millis), Ok((1_795_517_269_123, 0)));
        assert_eq!(read("1.5", Unit::Nanos), Err(A_FRACTION));
        assert!(read("1795517269", Unit::None).is_err());
    }

    /// Numbers of JSON, and what is nearly one.
    const NUMBERS: &str = "-?(0|[0-9]{1,20})(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?";

    proptest! {
        #[test]
        fn the_short_ways_lead_to_the_same_numbers(json in NUMBERS, precision in 1u8..=38, scale in 0u8..=38) {
            let json = json.as_bytes();
            let scale = scale.min(precision);
            let long = number(json, &mut scratch()).and_then(|n| n.scaled(0, false));
            let long = long.and_then(|n| i64::try_from(n).map_err(|_| TOO_LARGE));
            prop_assert_eq!(integer(json, &mut scratch()), long);
            let long = number(json, &mut scratch()).and_then(|n| n.scaled(scale, true));
            let long = long.and_then(|n| match n.unsigned_abs() < 10u128.pow(u32::from(precision)) {
                true => Ok(n),
                false => Err(TOO_LARGE),
            });
            prop_assert_eq!(decimal(json, precision, scale, &mut scratch()), long);
            prop_assert!(short(json).is_none() || Number::json(json).is_ok());
            for unit in [Unit::None, Unit::Seconds, Unit::Millis, Unit::Micros, Unit::Nanos] {
                prop_assert_eq!(
                    timestamp(json, true, Format::Iso, unit, &mut scratch()),
                    any_timestamp(json, true, Format::Iso, unit, &mut scratch())
                );
            }
        }

        #[test]
        fn the_short_way_leads_to_the_same_moment(
            year in 0u32..=9999, month in 0u32..=13, day in 0u32..=32, hours in 0u32..=24, minutes in 0u32..=60, seconds in 0u32..=60,
            fraction in "(\\.[0-9]{0,10})?", zone in "|Z|Z|z|\\+01:00", between in "[T T]", broken in 0usize..200, with in any::<u8>(),
        ) {
            let text = format!("\"{year:04}-{month:02}-{day:02}{between}{hours:02}:{minutes:02}:{seconds:02}{fraction}{zone}\"");
            let mut json = text.into_bytes();
            if let Some(byte) = json.get_mut(broken) {
                *byte = with;
            }
            for (zoned, format) in [(true, Format::Iso), (false, Format::Iso), (true, Format::Sql), (false, Format::Sql)] {
                let long = any_timestamp(&json, zoned, format, Unit::None, &mut scratch());
                prop_assert_eq!(timestamp(&json, zoned, format, Unit::None, &mut scratch()), long);
            }
        }
    }

    #[test]
    fn usual_moments_go_the_short_way() {
        let usual = |json: &str, zoned, format| usual(json.as_bytes(), zoned, format);
        assert_eq!(
            usual("\"2026-11-24T10:15:30.123456789Z\"", true, Format::Iso),
            Some((1_795_515_330_123, 456_789))
        );
        assert_eq!(
            usual("\"1969-12-31 23:59:59\"", false, Format::Sql),
            Some((-1000, 0))
        );
        assert_eq!(usual("\"2026-11-24T10:15:30+01:00\"", true, Format::Iso), None);
        assert_eq!(usual("\"2026-02-29T10:15:30Z\"", true, Format::Iso), None);
    }

    #[test]
    fn base64_needs_its_padding() {
        let read = |text: &str| {
            let mut out = Vec::new();
            let json = format!("\"{text}\"");
            base64(json.as_bytes(), &mut scratch(), &mut out).map(|()| out)
        };
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("AA=="), Ok(vec![0]));
        assert_eq!(read("aGVsbG8="), Ok(b"hello".to_vec()));
        assert_eq!(read("aGVs bG8\\u003d"), Ok(b"hello".to_vec()));
        assert_eq!(read("/+8A"), Ok(vec![0xff, 0xef, 0]));
        for text in [
            "A", "AA", "AA=", "A===", "====", "AA==AA==", "AA==A", "AA-_", "AA====",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_unescaped_and_other_values_stand_as_they_are() {
        let read = |json: &str| {
            let mut scratch = scratch();
            text(json.as_bytes(), &mut scratch).map(|t| String::from_utf8(t.to_vec()).unwrap())
        };
        assert_eq!(
            read(r#""a\"\\\/\b\f\n\r\tb""#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\tb"
        );
        assert_eq!(read(r#""\u00e4\ud83d\ude00é""#).unwrap(), "ä😀é");
        assert_eq!(read("1.10").unwrap(), "1.10");
        assert_eq!(read("true").unwrap(), "true");
        assert_eq!(read(r#"{"a": [1]}"#).unwrap(), r#"{"a": [1]}"#);
        for broken in [
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\x""#,
            r#""\u12""#,
            "tru",
            "",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_is_what_it_says(size in 0..10i128.pow(38), negative: bool, scale in 0u8..=38) {
            let unscaled = if negative { -size } else { size };
            let digits = unscaled.unsigned_abs().to_string();
            let padded = format!("{digits:0>width$}", width = usize::from(scale) + 1);
            let (whole, fraction) = padded.split_at(padded.len() - usize::from(scale));
            let sign = if unscaled < 0 { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            for json in [
                format!("{sign}{whole}{point}{fraction}"),
                format!("{sign}{digits}e-{scale}"),
                format!("{sign}{whole}.{fraction}000e0"),
            ] {
                prop_assert_eq!(decimal(json.as_bytes(), 38, scale, &mut scratch()), Ok(unscaled), "{}", json);
            }
        }

        #[test]
        fn doubles_are_those_of_the_standard_library(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::SUBNORMAL) {
            let json = format!("{value:e}");
            let found = float::<f64>(json.as_bytes(), &mut scratch(), |f| f.is_finite()).unwrap();
            prop_assert_eq!(found.to_bits(), value.to_bits());
        }

        #[test]
        fn any_bytes_are_a_value_or_none(json in "[-+0-9.eE\"TZ: \\\\ua-f]{0,40}") {
            let mut scratch = scratch();
            let json = json.as_bytes();
            let _ = integer(json, &mut scratch);
            let _ = decimal(json, 38, 10, &mut scratch);
            let _ = float::<f64>(json, &mut scratch, |f| f.is_finite());
            let _ = boolean(json, &mut scratch);
            let _ = date(json, &mut scratch);
            let _ = time(json, &mut scratch);
            let _ = base64(json, &mut scratch, &mut Vec::new());
            let _ = raw(json);
            for format in [Format::Sql, Format::Iso] {
                for zoned in [false, true] {
                    let _ = timestamp(json, zoned, format, Unit::Seconds, &mut scratch);
                }
            }
            let _ = text(json, &mut scratch);
        }
    }
}
