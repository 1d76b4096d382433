//! The bytes of Flink's `BinaryRowData`, `BinaryArrayData` and `BinaryMapData`, as its own writers make them.
//!
//! Rows and arrays have a fixed part, with bits for nulls and a slot for each value, and behind it a variable part, in the order of the slots.
//! Offsets count from the start of the row or array, so that it may be moved as a whole. All of it is little-endian, and every
//! padding is zero: Flink compares and hashes the bytes.
//! Source: `BinaryRowWriter` and `BinaryArrayWriter` of flink-table-runtime, the same in 1.20 and 2.3.

/// Most bytes that fit into a slot itself.
const MAX_INLINE: usize = 7;

/// Largest precision of a decimal that fits into a slot.
pub const MAX_COMPACT_DECIMAL: u8 = 18;

/// Largest precision of a timestamp that fits into a slot.
pub const MAX_COMPACT_TIMESTAMP: u8 = 3;

/// Size of the slot of a value in a row, and of one in an array that has no size of its own.
pub const SLOT: usize = 8;

/// What happened to a row, as Flink numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// It is new.
    Insert = 0,
    /// It is now so.
    UpdateAfter = 2,
    /// It is gone.
    Delete = 3,
}

/// The fixed part of a row or array that is being written: positions in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    base: usize,
    nulls: usize,
    slots: usize,
    width: usize,
}

impl Fixed {
    /// The slot of the value of this number.
    #[inline]
    pub fn slot(&self, number: usize) -> Slot {
        Slot {
            base: self.base,
            at: self.slots + number * self.width,
        }
    }
}

/// Where a value goes.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Start of the row or array, from which offsets count.
    base: usize,
    /// Where its slot is.
    at: usize,
}

/// Up to seven bytes as one number: two halves, or three single ones, that may overlap.
#[inline]
fn small(value: &[u8]) -> u64 {
    let length = value.len();
    if let (Some(first), Some(last)) = (value.first_chunk(), value.last_chunk()) {
        let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        return half(first) | half(last) << ((length - 4) * 8);
    }
    match value {
        [] => 0,
        [first, ..] => {
            let byte = |at: usize| u64::from(value[at]) << (at * 8);
            u64::from(*first) | byte(length / 2) | byte(length - 1)
        }
    }
}

/// Rows in the making, one behind the other.
#[derive(Debug, Default)]
pub struct Buffer {
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Buffer {
    /// Bytes so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn grow(&mut self, by: usize) {
        self.bytes.resize(self.bytes.len() + by, 0);
    }

    /// Begins a row of so many fields at the end of the buffer.
    #[inline]
    pub fn row(&mut self, kind: RowKind, arity: usize) -> Fixed {
        let base = self.len();
        // The first byte of the bits is the kind.
        let bits = (arity + 63 + 8) / 64 * 8;
        self.grow(bits + arity * SLOT);
        self.bytes[base] = kind as u8;
        Fixed {
            base,
            nulls: base + 1,
            slots: base + bits,
            width: SLOT,
        }
    }

    /// Begins an array of so many elements of so many bytes each.
    #[inline]
    pub fn array(&mut self, elements: usize, width: usize) -> Fixed {
        let base = self.len();
        let head = 4 + elements.div_ceil(32) * 4;
        self.grow((head + elements * width).next_multiple_of(SLOT));
        self.put(base, (elements as u32).to_le_bytes());
        Fixed {
            base,
            nulls: base + 4,
            slots: base + head,
            width,
        }
    }

    /// Marks a value as null. Its slot must not have been written.
    #[inline]
    pub fn null(&mut self, fixed: &Fixed, number: usize) {
        self.bytes[fixed.nulls + number / 8] |= 1 << (number % 8);
    }

    /// Overwrites bytes that are there already.
    #[inline]
    pub fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&value);
    }

    /// A value that has a fixed size, at the beginning of its slot.
    #[inline]
    pub fn fixed<const N: usize>(&mut self, slot: Slot, value: [u8; N]) {
        self.put(slot.at, value);
    }

    fn word(&mut self, slot: Slot, start: usize, low: usize) {
        let word = (((start - slot.base) as u64) << 32) | low as u64;
        self.put(slot.at, word.to_le_bytes());
    }

    /// Ends a variable value whose bytes were appended from `start` on, and follow all that was there.
    #[inline]
    pub fn variable(&mut self, slot: Slot, start: usize) {
        let size = self.len() - start;
        // More than is needed, at one go, and then less of it.
        self.bytes.extend_from_slice(&[0; SLOT]);
        self.bytes.truncate(start + size.next_multiple_of(SLOT));
        self.word(slot, start, size);
    }

    /// A text or binary.
    #[inline]
    pub fn binary(&mut self, slot: Slot, value: &[u8]) {
        if value.len() > MAX_INLINE {
            let start = self.len();
            self.bytes.extend_from_slice(value);
            return self.variable(slot, start);
        }
        let word = small(value) | (0x80 | value.len() as u64) << 56;
        self.fixed(slot, word.to_le_bytes());
    }

    /// Ends a text or binary whose bytes were appended from `start` on.
    pub fn appended(&mut self, slot: Slot, start: usize) {
        let size = self.len() - start;
        if size > MAX_INLINE {
            return self.variable(slot, start);
        }
        let mut short = [0; MAX_INLINE];
        short[..size].copy_from_slice(&self.bytes[start..]);
        self.bytes.truncate(start);
        self.binary(slot, &short[..size]);
    }

    /// A decimal by its digits, those behind the point included.
    pub fn decimal(&mut self, slot: Slot, precision: u8, unscaled: i128) {
        if precision <= MAX_COMPACT_DECIMAL {
            // Eighteen digits fit.
            return self.fixed(slot, (unscaled as i64).to_le_bytes());
        }
        let bytes = unscaled.to_be_bytes();
        // As short as two's complement can be, as Java's BigInteger has it.
        let sign = if unscaled < 0 { 0xff } else { 0 };
        let redundant = (0..15).take_while(|i| bytes[*i] == sign && (bytes[i + 1] ^ sign) < 0x80);
        let digits = &bytes[redundant.count()..];
        let start = self.len();
        self.grow(16);
        self.bytes[start..start + digits.len()].copy_from_slice(digits);
        self.word(slot, start, digits.len());
    }

    /// A moment: milliseconds since the epoch, and nanoseconds behind them.
    pub fn timestamp(&mut self, slot: Slot, precision: u8, millis: i64, nanos: u32) {
        if precision <= MAX_COMPACT_TIMESTAMP {
            return self.fixed(slot, millis.to_le_bytes());
        }
        let start = self.len();
        self.bytes.extend_from_slice(&millis.to_le_bytes());
        self.word(slot, start, nanos as usize);
    }
}

/// The eight bytes of a field's slot.
#[derive(Clone, Copy, Debug)]
pub struct Bits(pub [u8; SLOT]);

impl Bits {
    /// A value of one byte.
    pub fn i8(self) -> i8 {
        self.0[0] as i8
    }

    /// One of two bytes.
    pub fn i16(self) -> i16 {
        self.i64() as i16
    }

    /// One of four bytes.
    pub fn i32(self) -> i32 {
        self.i64() as i32
    }

    /// One of eight bytes.
    pub fn i64(self) -> i64 {
        i64::from_le_bytes(self.0)
    }
}

/// The slot of a field of a row that was written here, of so many fields; `None` when it is null.
pub fn field(row: &[u8], arity: usize, number: usize) -> Option<Bits> {
    let bit = number + 8;
    if row[bit / 8] & (1 << (bit % 8)) != 0 {
        return None;
    }
    let at = (arity + 63 + 8) / 64 * 8 + number * SLOT;
    let mut bits = [0; SLOT];
    bits.copy_from_slice(&row[at..at + SLOT]);
    Some(Bits(bits))
}

/// The bytes in a row's variable part that a slot stands for.
pub fn variable(row: &[u8], bits: Bits) -> &[u8] {
    let word = bits.i64() as u64;
    let (at, size) = ((word >> 32) as usize, word as u32 as usize);
    &row[at..at + size]
}

/// The bytes of a text, which are in its slot where they are few; `None` when the slot is none of a text.
pub fn text(row: &[u8], number: usize, arity: usize) -> Option<&[u8]> {
    let bits = field(row, arity, number)?;
    if bits.0[MAX_INLINE] & 0x80 == 0 {
        return Some(variable(row, bits));
    }
    let at = (arity + 63 + 8) / 64 * 8 + number * SLOT;
    row.get(at..at + usize::from(bits.0[MAX_INLINE] & 0x7f))
}

/// The digits of a decimal.
pub fn decimal(row: &[u8], bits: Bits, precision: u8) -> i128 {
    if precision <= MAX_COMPACT_DECIMAL {
        return bits.i64().into();
    }
    let digits = variable(row, bits);
    let negative = digits.first().is_some_and(|first| *first >= 0x80);
    let start = if negative { -1 } else { 0 };
    digits.iter().fold(start, |n, byte| (n << 8) | i128::from(*byte))
}

/// A moment: milliseconds since the epoch, and nanoseconds behind them.
pub fn moment(row: &[u8], bits: Bits, precision: u8) -> (i64, u32) {
    if precision <= MAX_COMPACT_TIMESTAMP {
        return (bits.i64(), 0);
    }
    let word = bits.i64() as u64;
    let at = (word >> 32) as usize;
    let mut millis = [0; SLOT];
    millis.copy_from_slice(&row[at..at + SLOT]);
    (i64::from_le_bytes(millis), word as u32)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes of hexadecimal digits; blanks are for the eye.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect()
    }

    /// A row of one field.
    fn row_of(write: impl FnOnce(&mut Buffer, Slot)) -> Vec<u8> {
        let mut buffer = Buffer::default();
        let row = buffer.row(RowKind::Insert, 1);
        write(&mut buffer, row.slot(0));
        buffer.bytes
    }

    #[test]
    fn the_kind_is_the_first_byte_and_null_bits_follow_it() {
        let mut buffer = Buffer::default();
        let row = buffer.row(RowKind::Delete, 10);
        [0, 7, 8].into_iter().for_each(|n| buffer.null(&row, n));
        assert_eq!(buffer.bytes[..8], hex("03 81 01 00 00 00 00 00"));
        assert_eq!(buffer.len(), 8 + 10 * 8);
        // 56 fields are the most that fit beside the kind.
        for (arity, bits) in [(0, 8), (56, 8), (57, 16), (120, 16), (121, 24)] {
            let mut buffer = Buffer::default();
            buffer.row(RowKind::Insert, arity);
            assert_eq!(buffer.len(), bits + arity * 8, "{arity}");
        }
    }

    #[test]
    fn a_text_of_seven_bytes_is_in_its_slot_and_one_of_eight_is_not() {
        assert_eq!(
            row_of(|b, slot| b.binary(slot, b"abc")),
            hex("0000000000000000 616263 00000000 83")
        );
        assert_eq!(
            row_of(|b, slot| b.binary(slot, b"")),
            hex("0000000000000000 0000000000000080")
        );
        assert_eq!(
            row_of(|b, slot| b.binary(slot, b"abcdefg")),
            hex("0000000000000000 61626364656667 87")
        );
        assert_eq!(
            row_of(|b, slot| b.binary(slot, b"abcdefgh")),
            hex("0000000000000000 08000000 10000000 6162636465666768")
        );
        assert_eq!(
            row_of(|b, slot| b.binary(slot, b"abcdefghi")),
            hex("0000000000000000 09000000 10000000 6162636465666768 6900000000000000")
        );
    }

    #[test]
    fn short_texts_are_as_they_are_byte_by_byte() {
        for length in 0..=MAX_INLINE {
            let text: Vec<u8> = (0..length).map(|i| 0x81 + 17 * i as u8).collect();
            let mut expected = [0; SLOT];
            expected[..length].copy_from_slice(&text);
            assert_eq!(small(&text).to_le_bytes(), expected);
        }
    }

    #[test]
    fn decimals_are_longs_or_big_endian() {
        assert_eq!(
            row_of(|b, slot| b.decimal(slot, 18, -1)),
            hex("0000000000000000 ffffffffffffffff")
        );
        let large = |unscaled, digits: &str, size: u8| {
            let mut expected = hex("0000000000000000");
            expected.extend([size, 0, 0, 0, 16, 0, 0, 0]);
            let digits = hex(digits);
            expected.extend(&digits);
            expected.resize(32, 0);
            assert_eq!(
                row_of(|b, slot| b.decimal(slot, 38, unscaled)),
                expected,
                "{unscaled}"
            );
        };
        large(0, "00", 1);
        large(127, "7f", 1);
        large(128, "0080", 2);
        large(-128, "80", 1);
        large(-129, "ff7f", 2);
        large(10i128.pow(38) - 1, "4b3b4ca85a86c47a098a223fffffffff", 16);
        large(1 - 10i128.pow(38), "b4c4b357a5793b85f675ddc000000001", 16);
    }

    #[test]
    fn timestamps_are_millis_with_or_without_nanos() {
        assert_eq!(
            row_of(|b, slot| b.timestamp(slot, 3, 1_000, 7)),
            hex("0000000000000000 e803000000000000")
        );
        assert_eq!(
            row_of(|b, slot| b.timestamp(slot, 9, -1, 999_999)),
            hex("0000000000000000 3f420f00 10000000 ffffffffffffffff")
        );
    }

    #[test]
    fn arrays_are_packed_and_rounded() {
        let mut buffer = Buffer::default();
        let array = buffer.array(3, 1);
        buffer.fixed(array.slot(0), [1]);
        buffer.null(&array, 1);
        buffer.fixed(array.slot(2), [1]);
        assert_eq!(buffer.bytes, hex("03000000 02000000 01 00 01 0000000000"));
        let mut buffer = Buffer::default();
        buffer.array(33, 4);
        assert_eq!(buffer.len(), (4 + 8 + 33 * 4usize).next_multiple_of(8));
        let mut buffer = Buffer::default();
        let array = buffer.array(2, 8);
        buffer.binary(array.slot(0), b"abcdefghi");
        buffer.null(&array, 1);
        assert_eq!(
            buffer.bytes,
            hex("02000000 02000000 09000000 18000000 0000000000000000 6162636465666768 6900000000000000")
        );
    }
}
