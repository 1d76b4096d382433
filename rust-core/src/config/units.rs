//! Durations and sizes as text: a whole number and a unit, as Flink reads its `Duration` and `MemorySize`. A number without a unit counts milliseconds,
//! or bytes.

const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1000 * MILLISECOND;
/// Nanoseconds, longest first; the first name of each is the one that is written.
const DURATIONS: &[(&[&str], u128)] = &[
    (&["d", "day", "days"], 86_400 * SECOND),
    (&["h", "hour", "hours"], 3600 * SECOND),
    (&["min", "m", "minute", "minutes"], 60 * SECOND),
    (&["s", "sec", "secs", "second", "seconds"], SECOND),
    (
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
        MILLISECOND,
    ),
    (&["µs", "micro", "micros", "microsecond", "microseconds"], 1000),
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
];
/// Bytes, largest first; the first name of each is the one that is written.
const SIZES: &[(&[&str], u128)] = &[
    (&["tb", "t", "tebibytes"], 1 << 40),
    (&["gb", "g", "gibibytes"], 1 << 30),
    (&["mb", "m", "mebibytes"], 1 << 20),
    (&["kb", "k", "kibibytes"], 1 << 10),
    (&["b", "bytes"], 1),
];

/// Milliseconds.
///
/// # Errors
/// Why the text is no duration, or none of whole milliseconds.
pub(super) fn parse_duration(text: &str) -> Result<u64, String> {
    let nanos = parse(text, DURATIONS, MILLISECOND, "ms, s, min, h or d")?;
    if nanos % MILLISECOND != 0 {
        return Err("it has a fraction of a millisecond".to_owned());
    }
    u64::try_from(nanos / MILLISECOND).map_err(|_| "it is too long".to_owned())
}

/// Bytes.
///
/// # Errors
/// Why the text is no size.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse(text, SIZES, 1, "b, kb, mb, gb or tb")?;
    u64::try_from(bytes).map_err(|_| "it is too large".to_owned())
}

/// With the largest unit of which it is a whole number.
pub(super) fn duration(millis: u64) -> String {
    text(u128::from(millis) * MILLISECOND, DURATIONS, "ms")
}

/// With the largest unit of which it is a whole number.
pub(super) fn size(bytes: u64) -> String {
    text(u128::from(bytes), SIZES, "b")
}

fn parse(text: &str, units: &[(&[&str], u128)], bare: u128, known: &str) -> Result<u128, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it does not begin with a number".to_owned());
    }
    let unit = unit.trim().to_lowercase();
    let factor = match units.iter().find(|(names, _)| names.contains(&unit.as_str())) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => bare,
        None => return Err(format!("'{unit}' is no unit; these are: {known}")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| u128::from(n).checked_mul(factor))
        .ok_or_else(|| "the number is too large".to_owned())
}

fn text(value: u128, units: &[(&[&str], u128)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .map_or_else(
            || format!("0 {zero}"),
            |(names, factor)| format!("{} {}", value / factor, names[0]),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_flink_reads_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("500", 500),
            ("500 ms", 500),
            ("2s", 2000),
            (" 2  S ", 2000),
            ("5 min", 300_000),
            ("5 m", 300_000),
            ("1 hour", 3_600_000),
            ("3 days", 259_200_000),
            ("7 secs", 7000),
            ("2000 µs", 2),
            ("3000000 nanos", 3),
        ] {
            assert_eq!(parse_duration(text), Ok(millis), "{text}");
        }
        for (text, bytes) in [
            ("1024", 1024),
            ("1 b", 1),
            ("64 mb", 64 << 20),
            ("64MB", 64 << 20),
            ("64m", 64 << 20),
            ("3 kibibytes", 3072),
            ("1 tb", 1 << 40),
            ("2 g", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("", "number"),
            ("-5 s", "number"),
            ("s", "number"),
            ("5 parsecs", "'parsecs'"),
            ("1.5 s", "'.5 s'"),
            ("1 µs", "fraction"),
            ("18446744073709551616", "too large"),
            ("18446744073709551615 d", "too long"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (text, why) in [
            ("5 mib", "'mib'"),
            ("1 ms", "'ms'"),
            ("18446744073709551615 tb", "too large"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_largest_whole_unit_is_written() {
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(86_400_000), "1 d");
        assert_eq!(duration(90_000), "90 s");
        assert_eq!(duration(600_000), "10 min");
        assert_eq!(duration(25), "25 ms");
        assert_eq!(size(0), "0 b");
        assert_eq!(size(64 << 20), "64 mb");
        assert_eq!(size(220_201), "220201 b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>()) {
            prop_assert_eq!(parse_duration(&duration(number)), Ok(number));
            prop_assert_eq!(parse_size(&size(number)), Ok(number));
            prop_assert_eq!(parse_duration(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_size(&number.to_string()), Ok(number));
        }
    }
}
