//! Reads the bytes of `BinaryRowData`, `BinaryArrayData` and `BinaryMapData`: the other side of `binary.rs`, which describes them. Nothing in them is
//! believed: each offset and size is held against the bytes that are there.

use super::binary::{MAX_COMPACT_DECIMAL, MAX_COMPACT_TIMESTAMP, SLOT};

/// Bytes that no writer of Flink's would have made; what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

/// What was read, or that it cannot be.
pub type Layout<T> = Result<T, Damaged>;

/// Set in the last byte of a slot whose text or binary is in the slot itself.
const INLINE: u8 = 0x80;

const OUTSIDE: Damaged = Damaged("a value lies outside of its row or array");

/// The values of a row or an array.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// All of the row or array, from whose start offsets count.
    bytes: &'a [u8],
    /// Where the bits for nulls begin.
    nulls: usize,
    slots: usize,
    width: usize,
    /// How many there are.
    pub count: usize,
}

impl<'a> Values<'a> {
    /// Those of a row of so many fields.
    ///
    /// # Errors
    /// When there are too few bytes for them.
    pub fn row(bytes: &'a [u8], fields: usize) -> Layout<Self> {
        let slots = (fields + 63 + 8) / 64 * 8;
        // The first byte of the bits is the kind.
        Self::checked(bytes, 1, slots, SLOT, fields)
    }

    /// Those of an array, whose elements have slots of so many bytes.
    ///
    /// # Errors
    /// When there are too few bytes for as many as it says.
    pub fn array(bytes: &'a [u8], width: usize) -> Layout<Self> {
        let count = bytes.first_chunk().ok_or(OUTSIDE)?;
        let count = usize::try_from(i32::from_le_bytes(*count))
            .map_err(|_| Damaged("an array has a negative number of elements"))?;
        Self::checked(bytes, 4, 4 + count.div_ceil(32) * 4, width, count)
    }

    /// Keys and values of a map, whose values have slots of so many bytes.
    ///
    /// # Errors
    /// When there are too few bytes, or not as many values as keys.
    pub fn map(bytes: &'a [u8], width: usize) -> Layout<(Self, Self)> {
        let (size, arrays) = bytes.split_first_chunk().ok_or(OUTSIDE)?;
        let size = usize::try_from(i32::from_le_bytes(*size)).map_err(|_| OUTSIDE)?;
        let (keys, values) = arrays.split_at_checked(size).ok_or(OUTSIDE)?;
        let (keys, values) = (Self::array(keys, SLOT)?, Self::array(values, width)?);
        match keys.count == values.count {
            true => Ok((keys, values)),
            false => Err(Damaged("a map has another number of values than of keys")),
        }
    }

    fn checked(bytes: &'a [u8], nulls: usize, slots: usize, width: usize, count: usize) -> Layout<Self> {
        let end = count.checked_mul(width).and_then(|size| size.checked_add(slots));
        match end.is_some_and(|end| end <= bytes.len()) {
            true => Ok(Values {
                bytes,
                nulls,
                slots,
                width,
                count,
            }),
            false => Err(OUTSIDE),
        }
    }

    /// Whether a value is null.
    ///
    /// # Panics
    /// Like all that follow, for a number that is not below the count.
    #[inline]
    pub fn is_null(&self, number: usize) -> bool {
        self.bytes[self.nulls + number / 8] & (1 << (number % 8)) != 0
    }

    /// The first bytes of a slot, at most as many as it has.
    #[inline]
    pub fn fixed<const N: usize>(&self, number: usize) -> [u8; N] {
        let at = self.slots + number * self.width;
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[at..at + N]);
        value
    }

    /// Offset and size, or what stands in its place.
    #[inline]
    fn word(&self, number: usize) -> (usize, u32) {
        let word = u64::from_le_bytes(self.fixed(number));
        ((word >> 32) as usize, word as u32)
    }

    fn at(&self, offset: usize, size: usize) -> Layout<&'a [u8]> {
        let end = offset.checked_add(size).ok_or(OUTSIDE)?;
        self.bytes.get(offset..end).ok_or(OUTSIDE)
    }

    /// The bytes of a row, an array or a map in it.
    #[inline]
    pub fn variable(&self, number: usize) -> Layout<&'a [u8]> {
        let (offset, size) = self.word(number);
        self.at(offset, size as usize)
    }

    /// A text or binary.
    #[inline]
    pub fn binary(&self, number: usize) -> Layout<&'a [u8]> {
        let last = self.fixed::<SLOT>(number)[SLOT - 1];
        if last & INLINE == 0 {
            return self.variable(number);
        }
        let size = usize::from(last & !INLINE);
        match size < SLOT {
            true => self.at(self.slots + number * self.width, size),
            false => Err(Damaged("a short text has more than seven bytes")),
        }
    }

    /// The digits of a decimal.
    pub fn decimal(&self, number: usize, precision: u8) -> Layout<i128> {
        if precision <= MAX_COMPACT_DECIMAL {
            return Ok(i128::from(i64::from_le_bytes(self.fixed(number))));
        }
        let digits = self.variable(number)?;
        match digits.first() {
            Some(first) if digits.len() <= 16 => {
                let mut bytes = [if *first < 0x80 { 0 } else { 0xff }; 16];
                bytes[16 - digits.len()..].copy_from_slice(digits);
                Ok(i128::from_be_bytes(bytes))
            }
            _ => Err(Damaged("a decimal has not 1 to 16 bytes")),
        }
    }

    /// A moment: milliseconds since the epoch, and nanoseconds behind them.
    pub fn timestamp(&self, number: usize, precision: u8) -> Layout<(i64, u32)> {
        if precision <= MAX_COMPACT_TIMESTAMP {
            return Ok((i64::from_le_bytes(self.fixed(number)), 0));
        }
        let (offset, nanos) = self.word(number);
        let millis = self.at(offset, 8)?.first_chunk().ok_or(OUTSIDE)?;
        match nanos < 1_000_000 {
            true => Ok((i64::from_le_bytes(*millis), nanos)),
            false => Err(Damaged(
                "a timestamp has a million nanoseconds or more behind its milliseconds",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::binary::tests::hex;
    use super::super::binary::{Buffer, RowKind};
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut buffer = Buffer::default();
        let row = buffer.row(RowKind::Delete, 60);
        buffer.fixed(row.slot(0), 7i32.to_le_bytes());
        buffer.null(&row, 1);
        buffer.binary(row.slot(2), b"seven!!");
        buffer.binary(row.slot(3), b"eight!!!");
        for (n, unscaled) in [(4, -1), (5, 10i128.pow(37)), (6, -129), (7, 0)] {
            buffer.decimal(row.slot(n), 38, unscaled);
        }
        buffer.decimal(row.slot(8), 18, -5);
        buffer.timestamp(row.slot(9), 3, -7, 0);
        buffer.timestamp(row.slot(10), 9, -7, 999_999);
        buffer.null(&row, 59);
        let read = Values::row(&buffer.bytes, 60).unwrap();
        assert_eq!(read.fixed(0), 7i32.to_le_bytes());
        let nulls: Vec<_> = (0..60).filter(|n| read.is_null(*n)).collect();
        assert_eq!(nulls, [1, 59]);
        assert_eq!(read.binary(2), Ok(&b"seven!!"[..]));
        assert_eq!(read.binary(3), Ok(&b"eight!!!"[..]));
        let decimals = [4, 5, 6, 7].map(|n| read.decimal(n, 38).unwrap());
        assert_eq!(decimals, [-1, 10i128.pow(37), -129, 0]);
        assert_eq!(read.decimal(8, 18), Ok(-5));
        assert_eq!(read.timestamp(9, 3), Ok((-7, 0)));
        assert_eq!(read.timestamp(10, 9), Ok((-7, 999_999)));
    }

    #[test]
    fn arrays_say_how_many_they_are() {
        let bytes = hex("03000000 02000000 01 00 01 0000000000");
        let array = Values::array(&bytes, 1).unwrap();
        assert_eq!(array.count, 3);
        assert_eq!([0, 1, 2].map(|n| array.is_null(n)), [false, true, false]);
        assert_eq!([0, 2].map(|n| array.fixed(n)), [[1], [1]]);
        let (keys, values) = (hex("01000000 00000000 6b 000000000000 81"), bytes);
        let map = |size: i32| [&size.to_le_bytes()[..], &keys, &values].concat();
        let error = Values::map(&map(16), 1).map(|_| ()).unwrap_err();
        assert_eq!(error.0, "a map has another number of values than of keys");
        for size in [-1, 0, 15, 33, i32::MAX] {
            assert!(Values::map(&map(size), 1).is_err(), "{size}");
        }
    }

    #[test]
    fn nothing_outside_is_read() {
        assert!(Values::row(&[0; 15], 1).is_err());
        assert!(Values::row(&[], 0).is_err());
        for bytes in ["", "010000", "ffffffff", "01000000 00000000", "ffffff7f 00000000"] {
            assert!(Values::array(&hex(bytes), 8).is_err(), "{bytes}");
        }
        let slot = |slot: &str| [hex("0000000000000000"), hex(slot)].concat();
        for word in ["08000000 09000000", "ffffff7f ffffff7f", "01000000 10000000"] {
            let bytes = slot(word);
            let row = Values::row(&bytes, 1).unwrap();
            assert_eq!(row.variable(0), Err(OUTSIDE), "{word}");
            assert_eq!(row.binary(0), Err(OUTSIDE), "{word}");
        }
        let bytes = slot("00000000 000000 88");
        assert!(Values::row(&bytes, 1).unwrap().binary(0).is_err());
        for word in ["00000000 00000000", "11000000 00000000"] {
            let bytes = [slot(word), vec![0; 32]].concat();
            assert!(Values::row(&bytes, 1).unwrap().decimal(0, 38).is_err(), "{word}");
        }
        let bytes = slot("40420f00 00000000");
        assert!(Values::row(&bytes, 1).unwrap().timestamp(0, 9).is_err());
    }
}
