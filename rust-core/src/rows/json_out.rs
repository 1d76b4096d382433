//! Values as JSON, in the forms that Java and Flink's JSON give them.

use std::fmt::{self, Display, LowerExp, Write};
use std::str::FromStr;

use super::text::Format;

/// Most bytes of the shortest digits of a double with sign, point and exponent.
const MAX_NUMBER: usize = 40;

/// Text on the stack.
struct Digits {
    bytes: [u8; MAX_NUMBER],
    len: usize,
}

impl Digits {
    fn of(value: impl Display) -> Self {
        Self::written(format_args!("{value}"))
    }

    fn written(text: fmt::Arguments<'_>) -> Self {
        let mut digits = Digits {
            bytes: [0; MAX_NUMBER],
            len: 0,
        };
        // As much as has room, which is all of it.
        let _ = digits.write_fmt(text);
        digits
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// A whole number.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

fn unsigned(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(digits(value, &mut [0; 20]));
}

fn digits(mut value: u64, into: &mut [u8; 20]) -> &[u8] {
    let mut at = into.len();
    loop {
        at -= 1;
        into[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &into[at..];
        }
    }
}

/// A whole number with zeros in front, up to this width.
fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let smallest = 10u64.pow(width as u32 - 1);
    let mut limit = smallest;
    while limit > 1 && value < limit {
        out.push(b'0');
        limit /= 10;
    }
    unsigned(out, value);
}

/// The digits of a decimal number, with so many behind its point.
pub fn decimal(out: &mut Vec<u8>, unscaled: i128, scale: usize) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut short = [0; 20];
    let long;
    let digits = match u64::try_from(unscaled.unsigned_abs()) {
        Ok(value) => digits(value, &mut short),
        Err(_) => {
            long = Digits::of(unscaled.unsigned_abs());
            long.get()
        }
    };
    let whole = digits.len().saturating_sub(scale);
    match whole {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&digits[..whole]),
    }
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits[whole..]);
    }
}

/// The same without zeros at the end of what is behind the point.
pub fn stripped_decimal(out: &mut Vec<u8>, unscaled: i128, scale: usize) {
    decimal(out, unscaled, scale);
    if scale > 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
}

/// A floating point number.
pub trait Float: LowerExp + FromStr + PartialEq + Copy {
    /// From so many digits on, two shortest texts may be as near.
    const TIES: usize;
}

impl Float for f64 {
    const TIES: usize = 15;
}

impl Float for f32 {
    const TIES: usize = 6;
}

/// A finite floating point number with the fewest digits that tell it apart from its neighbours, in the form of Java's `Double.toString` and
/// `Float.toString`: at least one digit behind the point, and an exponent below 10^-3 and from 10^7 on.
pub fn float<F: Float>(out: &mut Vec<u8>, value: F) {
    let shortest = Digits::written(format_args!("{value:e}"));
    let mut text = shortest.get();
    let count = text.iter().take_while(|b| **b != b'e');
    let count = count.filter(|b| b.is_ascii_digit()).count();
    let nearest;
    if count == 1 {
        // Of the texts of two digits that Java chooses from, the one that is nearest.
        nearest = Digits::written(format_args!("{value:.1e}"));
        text = nearest.get();
    } else if count >= F::TIES {
        // Of two that are as near, the even one.
        nearest = Digits::written(format_args!("{value:.*e}", count - 1));
        let even = std::str::from_utf8(nearest.get()).ok();
        if nearest.get() != text && even.and_then(|even| even.parse().ok()) == Some(value) {
            text = nearest.get();
        }
    }
    if let [b'-', rest @ ..] = text {
        out.push(b'-');
        text = rest;
    }
    let e = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let exponent: i32 = match text.get(e + 1..) {
        Some(exponent) => std::str::from_utf8(exponent)
            .ok()
            .and_then(|exponent| exponent.parse().ok())
            .unwrap_or_default(),
        None => 0,
    };
    let mantissa = &text[..e];
    let mut digits = [0; MAX_NUMBER];
    let mut count = 0;
    for digit in mantissa.iter().filter(|b| **b != b'.') {
        digits[count] = *digit;
        count += 1;
    }
    let mut digits = &digits[..count];
    while let [rest @ .., b'0'] = digits {
        if rest.is_empty() {
            break;
        }
        digits = rest;
    }
    let fraction = |out: &mut Vec<u8>, digits: &[u8]| {
        out.push(b'.');
        match digits {
            [] => out.push(b'0'),
            digits => out.extend_from_slice(digits),
        }
    };
    let zero = digits == b"0";
    match exponent {
        _ if zero => out.extend_from_slice(b"0.0"),
        0..7 => {
            let whole = exponent as usize + 1;
            out.extend_from_slice(&digits[..whole.min(digits.len())]);
            out.resize(out.len() + whole.saturating_sub(digits.len()), b'0');
            fraction(out, digits.get(whole..).unwrap_or_default());
        }
        -3..0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-exponent - 1) as usize, b'0');
            out.extend_from_slice(digits);
        }
        _ => {
            out.extend_from_slice(&digits[..1]);
            fraction(out, &digits[1..]);
            out.push(b'E');
            integer(out, i64::from(exponent));
        }
    }
}

/// The day of the Gregorian calendar, which goes on in both directions: year, month, day.
/// Source: <https://howardhinnant.github.io/date_algorithms.html>.
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    // Years begin with March, so that the leap day is the last.
    let (month, next) = match shifted_month {
        0..10 => (shifted_month + 3, 0),
        _ => (shifted_month - 9, 1),
    };
    (year + era * 400 + next, month as u64, day as u64)
}

/// A day by its number since the epoch, such as `2026-11-24`: a year of four digits at least, with a sign before the year 0 and behind 9999.
pub fn date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    match year {
        ..0 => out.push(b'-'),
        10_000.. => out.push(b'+'),
        _ => {}
    }
    padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
}

/// A time of the day, with as many digits behind the second as it needs.
pub fn time(out: &mut Vec<u8>, nanos_of_day: u64) {
    let seconds = nanos_of_day / 1_000_000_000;
    padded(out, seconds / 3600, 2);
    out.push(b':');
    padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    padded(out, seconds % 60, 2);
    let nanos = nanos_of_day % 1_000_000_000;
    if nanos > 0 {
        out.push(b'.');
        padded(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// A moment by its seconds since the epoch, and nanoseconds behind them.
pub fn timestamp(out: &mut Vec<u8>, seconds: i64, nanos: u32, format: Format) {
    date(out, seconds.div_euclid(86_400));
    out.push(match format {
        Format::Iso => b'T',
        Format::Sql => b' ',
    });
    let of_day = seconds.rem_euclid(86_400) as u64;
    time(out, of_day * 1_000_000_000 + u64::from(nanos));
}

/// Bytes as text in base64, with its padding and quotes.
pub fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4 + 2);
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(match place <= chunk.len() {
                true => LETTERS[(word >> (18 - 6 * place) & 63) as usize],
                false => b'=',
            });
        }
    }
    out.push(b'"');
}

/// Letters of the hexadecimal digits of escapes.
#[derive(Clone, Copy, Debug)]
pub enum Hex {
    /// As the connector has them.
    Lower,
    /// As the JSON of Flink's variants has them.
    Upper,
}

/// A text with quotes, and escapes where they are needed.
pub fn string(out: &mut Vec<u8>, text: &[u8], hex: Hex) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(special) = rest.get(plain) else {
            break;
        };
        let short = match special {
            b'\x08' => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            b'\x0c' => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => *special,
            _ => b'u',
        };
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let digits = match hex {
                Hex::Lower => b"0123456789abcdef",
                Hex::Upper => b"0123456789ABCDEF",
            };
            out.extend_from_slice(&[
                b'0',
                b'0',
                digits[usize::from(special >> 4)],
                digits[usize::from(special & 15)],
            ]);
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// How many bytes at the beginning need no escape; eight at a time.
fn plain_prefix(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let mut at = 0;
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        let (quote, slash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let found = below(word, 0x20) | below(quote, 1) | below(slash, 1);
        // What is above a first one may be found wrongly, which does not matter.
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    let rest = &text[at..];
    at + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// What `Double.toString` and `Float.toString` of Java 21 gave.
    #[test]
    fn floating_point_numbers_are_those_of_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (0.00099, "9.9E-4"),
            (1_234_567.0, "1234567.0"),
            (9_999_999.999, "9999999.999"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (1e300, "1.0E300"),
            (1e23, "1.0E23"),
            (2e23, "2.0E23"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::from_bits(1), "4.9E-324"),
            (-123.456, "-123.456"),
            (0.012, "0.012"),
            (9_007_199_254_740_993.0, "9.007199254740992E15"),
            (-908_680_717_281_001.2, "-9.086807172810012E14"),
        ] {
            assert_eq!(written(|out| float(out, value)), text);
        }
        for (value, text) in [
            (0.1f32, "0.1"),
            (16_777_216.0, "1.6777216E7"),
            (f32::MAX, "3.4028235E38"),
            (f32::from_bits(1), "1.4E-45"),
            (0.3, "0.3"),
            (33_554_432.0, "3.3554432E7"),
            (1_140_727.2, "1140727.2"),
        ] {
            assert_eq!(written(|out| float(out, value)), text);
        }
    }

    #[test]
    fn decimals_have_all_their_digits() {
        for (unscaled, scale, text, stripped) in [
            (0, 0, "0", "0"),
            (0, 2, "0.00", "0"),
            (5, 0, "5", "5"),
            (-5, 1, "-0.5", "-0.5"),
            (100, 0, "100", "100"),
            (12_340, 2, "123.40", "123.4"),
            (12_300, 2, "123.00", "123"),
            (-1, 9, "-0.000000001", "-0.000000001"),
            (
                10i128.pow(38) - 1,
                38,
                "0.99999999999999999999999999999999999999",
                "0.99999999999999999999999999999999999999",
            ),
            (
                1 - 10i128.pow(38),
                0,
                "-99999999999999999999999999999999999999",
                "-99999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(written(|out| decimal(out, unscaled, scale)), text);
            assert_eq!(written(|out| stripped_decimal(out, unscaled, scale)), stripped);
        }
    }

    #[test]
    fn days_and_moments_are_those_of_java() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (20_512, "2026-02-28"),
            (20_513, "2026-03-01"),
            (11_016, "2000-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_897, "+10000-01-01"),
            (i64::from(i32::MAX), "+5881580-07-11"),
            (i64::from(i32::MIN), "-5877641-06-23"),
        ] {
            assert_eq!(written(|out| date(out, days)), text);
        }
        for (nanos, text) in [
            (0, "00:00:00"),
            (1_000_000, "00:00:00.001"),
            (86_399_999_999_999, "23:59:59.999999999"),
            (36_000_100_000_000, "10:00:00.1"),
        ] {
            assert_eq!(written(|out| time(out, nanos)), text);
        }
        let moment = |seconds, nanos, format| written(|out| timestamp(out, seconds, nanos, format));
        assert_eq!(moment(-1, 999_000_000, Format::Iso), "1969-12-31T23:59:59.999");
        assert_eq!(
            moment(1_795_515_330, 123_456_789, Format::Sql),
            "2026-11-24 10:15:30.123456789"
        );
    }

    #[test]
    fn bytes_are_base64_and_texts_are_escaped() {
        for (bytes, text) in [
            (&b""[..], "\"\""),
            (b"\0", "\"AA==\""),
            (b"\0\xff", "\"AP8=\""),
            (b"abc", "\"YWJj\""),
            (b"\xfb\xff\xbfabcd", "\"+/+/YWJjZA==\""),
        ] {
            assert_eq!(written(|out| base64(out, bytes)), text);
        }
        let text = "a\"\\\n\u{1}\u{1f}\u{7f}\u{e9}\u{1f600} and more / to come\t\r\u{8}\u{c}";
        assert_eq!(
            written(|out| string(out, text.as_bytes(), Hex::Lower)),
            "\"a\\\"\\\\\\n\\u0001\\u001f\u{7f}\u{e9}\u{1f600} and more / to come\\t\\r\\b\\f\""
        );
        assert_eq!(written(|out| string(out, b"\x1f", Hex::Upper)), "\"\\u001F\"");
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(bits: u64, short: u32, whole: i64) {
            let (double, single) = (f64::from_bits(bits), f32::from_bits(short));
            if double.is_finite() {
                let text = written(|out| float(out, double));
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text);
                // As serde_json reads JSON.
                prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
            }
            if single.is_finite() {
                let text = written(|out| float(out, single));
                prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), short, "{}", text);
            }
            prop_assert_eq!(written(|out| integer(out, whole)), whole.to_string());
        }

        #[test]
        fn texts_are_read_back(text in "(\\PC|[\"\\\\\\x00-\\x1f]|[a-z]{1,9}){0,20}") {
            let json = written(|out| string(out, text.as_bytes(), Hex::Lower));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
