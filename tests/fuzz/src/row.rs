//! A second reading of Flink's `BinaryRowData`, by the letter of its layout, and a second writing: both ways give the same bytes, so that all of
//! them are accounted for, paddings too.

use cosmosflink_core::rows::{Plan, RowKind, Scalar, Type, TypeKind};

use crate::json::Json;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// What is in a slot, or in an element.
    Fixed(Vec<u8>),
    Text(Vec<u8>),
    Decimal(i128),
    Moment(i64, u32),
    Variant(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<Value>, Vec<Value>),
    Row(Vec<Value>),
}

/// Bytes of a slot.
const SLOT: usize = 8;

/// Most bytes of a text that are in its slot.
const MAX_INLINE: usize = 7;

/// Panics where a row has not the layout of Flink.
pub fn holds(plan: &Plan, row: &[u8], kind: RowKind, utf8: bool) {
    assert_eq!(row[0], kind as u8, "a row is of another kind");
    let types = types(plan);
    let values = read_row(row, &types, utf8);
    assert_eq!(
        write_row(kind as u8, &values, &types),
        row,
        "a row is not what Flink would write of {values:?}"
    );
}

/// The values of a row.
pub fn values(plan: &Plan, row: &[u8]) -> Vec<Value> {
    read_row(row, &types(plan), false)
}

fn types(plan: &Plan) -> Vec<&Type> {
    plan.columns.iter().map(|column| &column.kind).collect()
}

fn bits(arity: usize) -> usize {
    (arity + 63 + 8) / 64 * 8
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn size_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn is_null(bytes: &[u8], from: usize, number: usize) -> bool {
    bytes[from + number / 8] & (1 << (number % 8)) != 0
}

fn read_row(row: &[u8], types: &[&Type], utf8: bool) -> Vec<Value> {
    let head = bits(types.len());
    assert!(row.len() >= head + types.len() * SLOT, "a row is cut off");
    assert_eq!(row.len() % SLOT, 0, "a row does not end with a word");
    let value = |(number, kind): (usize, &&Type)| match is_null(row, 1, number) {
        true => Value::Null,
        false => {
            let at = head + number * SLOT;
            read(row, &row[at..at + SLOT], kind, utf8)
        }
    };
    types.iter().enumerate().map(value).collect()
}

/// Bytes of an element.
fn width(kind: &Type) -> usize {
    match kind.kind {
        TypeKind::Scalar(Scalar::Boolean | Scalar::TinyInt) => 1,
        TypeKind::Scalar(Scalar::SmallInt) => 2,
        TypeKind::Scalar(Scalar::Int | Scalar::Float | Scalar::Date | Scalar::Time { .. }) => 4,
        _ => SLOT,
    }
}

fn read_array(array: &[u8], kind: &Type, utf8: bool) -> Vec<Value> {
    let count = size_at(array, 0);
    let (width, head) = (width(kind), 4 + count.div_ceil(32) * 4);
    assert!(array.len() >= head + count * width, "an array is cut off");
    assert_eq!(array.len() % SLOT, 0, "an array does not end with a word");
    let value = |number| match is_null(array, 4, number) {
        true => Value::Null,
        false => {
            let at = head + number * width;
            read(array, &array[at..at + width], kind, utf8)
        }
    };
    (0..count).map(value).collect()
}

/// What a slot points at.
fn variable<'a>(base: &'a [u8], slot: &[u8]) -> &'a [u8] {
    let word = word(slot);
    let (at, size) = ((word >> 32) as usize, word as u32 as usize);
    assert_eq!(at % SLOT, 0, "a value is not aligned");
    assert!(at + size <= base.len(), "a value is beyond its row");
    &base[at..at + size]
}

fn texts() -> Type {
    Type {
        nullable: false,
        ..Scalar::String.into()
    }
}

fn read(base: &[u8], slot: &[u8], kind: &Type, utf8: bool) -> Value {
    let scalar = match &kind.kind {
        TypeKind::Array(element) => {
            return Value::Array(read_array(variable(base, slot), element, utf8));
        }
        TypeKind::Map(value) => {
            let map = variable(base, slot);
            let keys = size_at(map, 0);
            let (keys, values) = map[4..].split_at(keys);
            return Value::Map(read_array(keys, &texts(), utf8), read_array(values, value, utf8));
        }
        TypeKind::Row(fields) => {
            let types: Vec<_> = fields.iter().map(|(_, kind)| kind).collect();
            let row = variable(base, slot);
            assert_eq!(row[0], RowKind::Insert as u8, "a row in a row is of another kind");
            return Value::Row(read_row(row, &types, utf8));
        }
        TypeKind::Scalar(scalar) => *scalar,
    };
    let fixed = || slot[..width(kind)].to_vec();
    match scalar {
        Scalar::Boolean => {
            assert!(slot[0] <= 1, "a truth is {}", slot[0]);
            Value::Fixed(fixed())
        }
        Scalar::Time { .. } => {
            let millis = i32::from_le_bytes(slot[..4].try_into().expect("four bytes"));
            assert!((0..86_400_000).contains(&millis), "a time is {millis}");
            Value::Fixed(fixed())
        }
        Scalar::TinyInt
        | Scalar::SmallInt
        | Scalar::Int
        | Scalar::BigInt
        | Scalar::Float
        | Scalar::Double
        | Scalar::Date => Value::Fixed(fixed()),
        Scalar::String | Scalar::RawJson | Scalar::Bytes => {
            let text = match slot[MAX_INLINE] & 0x80 {
                0 => {
                    let text = variable(base, slot);
                    assert!(text.len() > MAX_INLINE, "a short text is not in its slot");
                    text
                }
                _ => &slot[..usize::from(slot[MAX_INLINE] & 0x7f)],
            };
            let is_text = scalar == Scalar::Bytes || std::str::from_utf8(text).is_ok();
            assert!(is_text || !utf8, "a text is no UTF-8: {text:?}");
            Value::Text(text.to_vec())
        }
        Scalar::Decimal { precision, .. } => {
            let unscaled = match precision {
                0..=18 => i128::from(word(slot) as i64),
                _ => {
                    let bytes = variable(base, slot);
                    let negative = bytes[0] & 0x80 != 0;
                    let mut all = [if negative { 0xff } else { 0 }; 16];
                    all[16 - bytes.len()..].copy_from_slice(bytes);
                    i128::from_be_bytes(all)
                }
            };
            let most = 10u128.pow(u32::from(precision));
            assert!(unscaled.unsigned_abs() < most, "a decimal is {unscaled}");
            Value::Decimal(unscaled)
        }
        Scalar::Timestamp { precision: 0..=3, .. } => Value::Moment(word(slot) as i64, 0),
        Scalar::Timestamp { .. } => {
            let word = self::word(slot);
            let (at, nanos) = ((word >> 32) as usize, word as u32);
            assert!(nanos < 1_000_000, "{nanos} nanoseconds of a millisecond");
            Value::Moment(self::word(&base[at..at + SLOT]) as i64, nanos)
        }
        Scalar::Variant => {
            let bytes = variable(base, slot);
            if utf8 {
                variant(bytes);
            }
            Value::Variant(bytes.to_vec())
        }
    }
}

/// A fixed part and a variable one in the making.
struct Parts {
    fixed: Vec<u8>,
    variable: Vec<u8>,
}

impl Parts {
    fn point(&mut self, at: usize, low: usize, bytes: &[u8]) {
        let offset = (self.fixed.len() + self.variable.len()) as u64;
        self.put(at, &((offset << 32) | low as u64).to_le_bytes());
        self.variable.extend_from_slice(bytes);
        self.variable
            .resize(self.variable.len().next_multiple_of(SLOT), 0);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.fixed[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn write(&mut self, at: usize, value: &Value, kind: &Type) {
        match (value, &kind.kind) {
            (Value::Null, _) => {}
            (Value::Fixed(bytes), _) => self.put(at, bytes),
            (Value::Text(text), _) if text.len() <= MAX_INLINE => {
                self.put(at, text);
                self.put(at + MAX_INLINE, &[0x80 | text.len() as u8]);
            }
            (Value::Text(bytes) | Value::Variant(bytes), _) => self.point(at, bytes.len(), bytes),
            (Value::Decimal(unscaled), TypeKind::Scalar(Scalar::Decimal { precision: 19.., .. })) => {
                let bytes = unscaled.to_be_bytes();
                let needless = |from: &usize| {
                    let rest = &bytes[*from..];
                    rest.len() > 1 && matches!(rest, [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
                };
                let from = (0..16).take_while(needless).count();
                let mut digits = bytes[from..].to_vec();
                let size = digits.len();
                digits.resize(16, 0);
                self.point(at, size, &digits);
            }
            (Value::Decimal(unscaled), _) => self.put(at, &(*unscaled as i64).to_le_bytes()),
            (Value::Moment(millis, nanos), TypeKind::Scalar(Scalar::Timestamp { precision: 4.., .. })) => {
                self.point(at, *nanos as usize, &millis.to_le_bytes());
            }
            (Value::Moment(millis, _), _) => self.put(at, &millis.to_le_bytes()),
            (Value::Array(values), TypeKind::Array(element)) => {
                let bytes = write_array(values, element);
                self.point(at, bytes.len(), &bytes);
            }
            (Value::Map(keys, values), TypeKind::Map(value)) => {
                let keys = write_array(keys, &texts());
                let mut bytes = (keys.len() as u32).to_le_bytes().to_vec();
                bytes.extend(keys);
                bytes.extend(write_array(values, value));
                self.point(at, bytes.len(), &bytes);
            }
            (Value::Row(values), TypeKind::Row(fields)) => {
                let types: Vec<_> = fields.iter().map(|(_, kind)| kind).collect();
                let bytes = write_row(RowKind::Insert as u8, values, &types);
                self.point(at, bytes.len(), &bytes);
            }
            other => unreachable!("{other:?}"),
        }
    }
}

fn write_row(kind: u8, values: &[Value], types: &[&Type]) -> Vec<u8> {
    let head = bits(types.len());
    let mut parts = Parts {
        fixed: vec![0; head + types.len() * SLOT],
        variable: Vec::new(),
    };
    parts.fixed[0] = kind;
    for (number, (value, kind)) in values.iter().zip(types).enumerate() {
        if *value == Value::Null {
            parts.fixed[1 + number / 8] |= 1 << (number % 8);
        }
        parts.write(head + number * SLOT, value, kind);
    }
    [parts.fixed, parts.variable].concat()
}

fn write_array(values: &[Value], kind: &Type) -> Vec<u8> {
    let (width, head) = (width(kind), 4 + values.len().div_ceil(32) * 4);
    let mut parts = Parts {
        fixed: vec![0; (head + values.len() * width).next_multiple_of(SLOT)],
        variable: Vec::new(),
    };
    parts.put(0, &(values.len() as u32).to_le_bytes());
    for (number, value) in values.iter().enumerate() {
        if *value == Value::Null {
            parts.fixed[4 + number / 8] |= 1 << (number % 8);
        }
        parts.write(head + number * width, value, kind);
    }
    [parts.fixed, parts.variable].concat()
}

/// The tree of a variant as it stands in a row; panics where it is none.
pub fn variant(bytes: &[u8]) -> Json {
    let (size, rest) = bytes.split_at(4);
    let size = u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
    let (dictionary, value) = rest.split_at(size);
    assert_eq!(dictionary[0] & 0x0f, 1, "a variant is of another version");
    let width = usize::from(dictionary[0] >> 6) + 1;
    let count = number(dictionary, 1, width);
    let offset = |i: usize| number(dictionary, 1 + width * (1 + i), width);
    let texts = &dictionary[1 + width * (count + 2)..];
    assert_eq!(offset(count), texts.len(), "a dictionary ends elsewhere");
    let name = |i: usize| std::str::from_utf8(&texts[offset(i)..offset(i + 1)]).expect("UTF-8");
    let names: Vec<_> = (0..count).map(name).collect();
    let (tree, end) = any(value, &names);
    assert_eq!(end, value.len(), "there is something behind a variant");
    tree
}

/// An integer of so many bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> usize {
    let mut all = [0; 8];
    all[..width].copy_from_slice(&bytes[at..at + width]);
    u64::from_le_bytes(all) as usize
}

/// The value that begins here, and where it ends.
fn any(bytes: &[u8], names: &[&str]) -> (Json, usize) {
    let head = bytes[0] >> 2;
    let text = |at: usize, size: usize| {
        let text = std::str::from_utf8(&bytes[at..at + size]).expect("UTF-8");
        (Json::Text(text.to_owned()), at + size)
    };
    let signed = |at: usize, width: usize| {
        let negative = bytes[at + width - 1] & 0x80 != 0;
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all[..width].copy_from_slice(&bytes[at..at + width]);
        i128::from_le_bytes(all)
    };
    let integer = |width: usize| (Json::Number(signed(1, width).to_string()), 1 + width);
    let decimal = |width: usize| {
        let (scale, unscaled) = (usize::from(bytes[1]), signed(2, width));
        let digits = format!("{:0>1$}", unscaled.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let point = if scale > 0 { "." } else { "" };
        let sign = if unscaled < 0 { "-" } else { "" };
        (Json::Number(format!("{sign}{whole}{point}{fraction}")), 2 + width)
    };
    match bytes[0] & 3 {
        1 => return text(1, usize::from(head)),
        2 => {
            let (large, ids, offsets) = (
                head >> 4,
                usize::from(head >> 2 & 3) + 1,
                usize::from(head & 3) + 1,
            );
            let wide = if large == 1 { 4 } else { 1 };
            let count = number(bytes, 1, wide);
            let first = 1 + wide + count * ids;
            let start = first + (count + 1) * offsets;
            let mut fields: Vec<(String, Json)> = Vec::new();
            let mut sizes = 0;
            for i in 0..count {
                let name = names[number(bytes, 1 + wide + i * ids, ids)];
                let at = start + number(bytes, first + i * offsets, offsets);
                let (value, size) = any(&bytes[at..], names);
                sizes += size;
                if let Some((last, _)) = fields.last() {
                    assert!(
                        last.encode_utf16().lt(name.encode_utf16()),
                        "names are not sorted"
                    );
                }
                fields.push((name.to_owned(), value));
            }
            let end = number(bytes, first + count * offsets, offsets);
            assert_eq!(sizes, end, "an object has gaps");
            return (Json::Object(fields), start + end);
        }
        3 => {
            let (large, offsets) = (head >> 2, usize::from(head & 3) + 1);
            let wide = if large == 1 { 4 } else { 1 };
            let count = number(bytes, 1, wide);
            let start = 1 + wide + (count + 1) * offsets;
            let (mut elements, mut end) = (Vec::new(), 0);
            for i in 0..count {
                assert_eq!(
                    number(bytes, 1 + wide + i * offsets, offsets),
                    end,
                    "an array has gaps"
                );
                let (value, size) = any(&bytes[start + end..], names);
                elements.push(value);
                end += size;
            }
            let last = number(bytes, 1 + wide + count * offsets, offsets);
            assert_eq!(last, end, "an array ends elsewhere");
            return (Json::Array(elements), start + end);
        }
        _ => {}
    }
    match head {
        0 => (Json::Null, 1),
        1 => (Json::Bool(true), 1),
        2 => (Json::Bool(false), 1),
        3 => integer(1),
        4 => integer(2),
        5 => integer(4),
        6 => integer(8),
        7 => {
            let value = f64::from_le_bytes(bytes[1..9].try_into().expect("eight bytes"));
            (Json::Number(format!("{value:e}")), 9)
        }
        8 => decimal(4),
        9 => decimal(8),
        10 => decimal(16),
        16 => text(5, number(bytes, 1, 4)),
        other => panic!("a variant of the primitive type {other}"),
    }
}
