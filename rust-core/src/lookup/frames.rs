//! LOOKUP, KEYS and ANSWERED frames.

use super::key::{KeyShape, Value};
use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::rows::Scalar;

/// Bytes of a row, and of an answer, in the tables of an ANSWERED frame.
const ROW: usize = 8;
const ANSWER: usize = 24;

/// Where the rows of an ANSWERED frame begin.
const HEAD: usize = 24;

/// Bit of a LOOKUP frame: one key is asked for after the other.
const ALONE: u8 = 1;

/// What a handle looks up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// One key is asked for after the other, so that it is of no use to wait for more.
    pub alone: bool,
    /// Columns of the plan, in the order in which keys have their values.
    pub columns: Vec<usize>,
}

impl Wanted {
    /// Reads a LOOKUP frame.
    ///
    /// # Errors
    /// State when the frame is damaged or of another build.
    pub fn decode(frame: &[u8]) -> Result<Self> {
        let mut r = FrameReader::open(frame, FrameKind::Lookup)?;
        let alone = r.u8()? & ALONE != 0;
        let count = r.u32()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(r.u32()? as usize);
        }
        r.finish()?;
        Ok(Wanted { alone, columns })
    }

    /// Writes the LOOKUP frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = FrameWriter::new(FrameKind::Lookup);
        w.u8(if self.alone { ALONE } else { 0 });
        w.u32(self.columns.len() as u32);
        self.columns.iter().for_each(|column| w.u32(*column as u32));
        w.0
    }
}

/// Numbers of keys, and the values of each.
pub type Asked = Vec<(u64, Vec<Option<Value>>)>;

/// Reads a KEYS frame of keys with values of these types.
///
/// # Errors
/// State when the frame is damaged or of another build.
pub fn decode_keys(frame: &[u8], shape: &KeyShape) -> Result<Asked> {
    let mut r = FrameReader::open(frame, FrameKind::Keys)?;
    let count = r.u32()?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let number = r.u64()?;
        let values = shape.scalars().map(|scalar| match r.u8()? {
            0 => Ok(None),
            _ => value(&mut r, scalar),
        });
        keys.push((number, values.collect::<Result<_>>()?));
    }
    r.finish()?;
    Ok(keys)
}

/// The next value; `None` for one that no document has, as null.
fn value(r: &mut FrameReader<'_>, scalar: Scalar) -> Result<Option<Value>> {
    Ok(Some(match scalar {
        Scalar::Boolean => Value::Boolean(r.u8()? != 0),
        Scalar::TinyInt
        | Scalar::SmallInt
        | Scalar::Int
        | Scalar::BigInt
        | Scalar::Date
        | Scalar::Time { .. } => Value::Whole(r.i64()?),
        Scalar::Float | Scalar::Double => Value::Double(f64::from_bits(r.u64()?)),
        Scalar::Decimal { .. } => {
            let scale = r.u8()?;
            let bytes = r.blob()?;
            Value::Decimal {
                unscaled: super::key::big_endian(bytes).ok_or_else(|| {
                    CoreError::state(format!("a decimal of {} bytes in a frame", bytes.len()))
                })?,
                scale,
            }
        }
        // Flink's texts may be any bytes, the service's are UTF-8.
        Scalar::String => {
            return Ok(std::str::from_utf8(r.blob()?)
                .ok()
                .map(|text| Value::Text(text.to_owned())))
        }
        Scalar::Bytes => Value::Bytes(r.blob()?.to_vec()),
        Scalar::Timestamp { .. } => Value::Moment {
            millis: r.i64()?,
            nanos: r.u32()?,
        },
        Scalar::Variant | Scalar::RawJson => {
            return Err(CoreError::internal("a key of a type that has none"))
        }
    }))
}

/// Writes a KEYS frame of keys with values of these types.
pub fn encode_keys(keys: &[(u64, Vec<Option<Value>>)]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Keys);
    w.u32(keys.len() as u32);
    for (number, values) in keys {
        w.u64(*number);
        for value in values {
            w.u8(u8::from(value.is_some()));
            match value {
                None => {}
                Some(Value::Boolean(value)) => w.u8(u8::from(*value)),
                Some(Value::Whole(value)) => w.i64(*value),
                Some(Value::Double(value)) => w.f64(*value),
                Some(Value::Decimal { unscaled, scale }) => {
                    w.u8(*scale);
                    // As few bytes as have the number and its sign.
                    let bytes = unscaled.to_be_bytes();
                    let spare = |n: &usize| {
                        let sign = if unscaled.is_negative() { 0xff } else { 0 };
                        bytes[*n] == sign && (bytes[*n + 1] ^ sign) & 0x80 == 0
                    };
                    let first = (0..15).find(|n| !spare(n)).unwrap_or(15);
                    w.blob(&bytes[first..]);
                }
                Some(Value::Text(text)) => w.str(text),
                Some(Value::Bytes(bytes)) => w.blob(bytes),
                Some(Value::Moment { millis, nanos }) => {
                    w.i64(*millis);
                    w.u32(*nanos);
                }
            }
        }
    }
    w.0
}

/// What became of a key, for all who asked for it.
#[derive(Debug)]
pub struct Answer {
    /// Whom it is for.
    pub numbers: Vec<u64>,
    /// Its rows, or why there are none.
    pub outcome: std::result::Result<Vec<Vec<u8>>, CoreError>,
}

impl Answer {
    /// About as many bytes as it has in a frame.
    pub fn bytes(&self) -> usize {
        let rows = match &self.outcome {
            Ok(rows) => rows.iter().map(|row| row.len() + ROW).sum(),
            Err(error) => 64 + error.message.len() + error.activity_id.len(),
        };
        rows + ANSWER * self.numbers.len()
    }
}

/// Writes an ANSWERED frame.
///
/// # Errors
/// Internal when it would be larger than a frame can be.
pub fn encode_answers(answers: &[Answer]) -> Result<Vec<u8>> {
    let bytes = answers.iter().map(Answer::bytes).sum::<usize>();
    let mut w = FrameWriter::with_capacity(FrameKind::Answered, HEAD + bytes);
    w.0.resize(HEAD, 0);
    // Rows first, which must begin at multiples of 8, and have such lengths.
    let mut rows: Vec<(usize, usize)> = Vec::new();
    let mut table = Vec::new();
    for answer in answers {
        let first = rows.len();
        if let Ok(own) = &answer.outcome {
            for row in own {
                rows.push((w.0.len(), row.len()));
                w.0.extend_from_slice(row);
            }
        }
        for number in &answer.numbers {
            table.push((*number, first, rows.len() - first, &answer.outcome));
        }
    }
    let rows_at = w.0.len();
    for (at, length) in &rows {
        w.u32(*at as u32);
        w.u32(*length as u32);
    }
    let answers_at = w.0.len();
    w.0.resize(answers_at + ANSWER * table.len(), 0);
    let mut last: Option<(&CoreError, usize)> = None;
    for (n, (number, first, count, outcome)) in table.iter().enumerate() {
        let failure = match outcome {
            Ok(_) => 0,
            Err(error) => match last {
                Some((before, at)) if std::ptr::eq(before, error) => at,
                _ => {
                    let at = w.0.len();
                    w.u8(error.kind as u8);
                    w.u8(u8::from(error.outlives_restart()));
                    w.u16(error.status);
                    w.u32(error.sub_status);
                    w.str(&error.activity_id);
                    w.str(&error.message);
                    last = Some((error, at));
                    at
                }
            },
        };
        let mut entry = FrameWriter(Vec::with_capacity(ANSWER));
        entry.u64(*number);
        entry.u32(*first as u32);
        entry.u32(*count as u32);
        entry.u32(failure as u32);
        entry.u32(0);
        let at = answers_at + n * ANSWER;
        w.0[at..at + ANSWER].copy_from_slice(&entry.0);
    }
    if i32::try_from(w.0.len()).is_err() {
        return Err(CoreError::internal(
            "answers of more than 2 GiB; lower lookup.max-result-size",
        ));
    }
    w.patch_u32(4, table.len() as u32);
    w.patch_u32(8, answers_at as u32);
    w.patch_u32(12, rows.len() as u32);
    w.patch_u32(16, rows_at as u32);
    Ok(w.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::page::KeyPaths;
    use crate::rows::{Changelog, Column, Format, OnError, Origin, Plan, Unit};
    use proptest::prelude::*;

    #[test]
    fn a_frame_of_columns_is_read_as_it_was_written() {
        let wanted = Wanted {
            alone: true,
            columns: vec![3, 0],
        };
        assert_eq!(Wanted::decode(&wanted.encode()).unwrap(), wanted);
        assert_eq!(wanted.encode()[4..], [1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn rows_are_aligned_and_shared_and_failures_told_once() {
        let failure = CoreError::new(Kind::Transient, "no answer");
        let answers = [
            Answer {
                numbers: vec![7, 9],
                outcome: Ok(vec![vec![1; 16], vec![2; 24]]),
            },
            Answer {
                numbers: vec![8],
                outcome: Ok(vec![]),
            },
            Answer {
                numbers: vec![5, 6],
                outcome: Err(failure),
            },
        ];
        let frame = encode_answers(&answers).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((u32_at(4), u32_at(12)), (5, 2));
        let (answers_at, rows_at) = (u32_at(8), u32_at(16));
        assert_eq!((u32_at(rows_at), u32_at(rows_at + 4)), (24, 16));
        assert_eq!((u32_at(rows_at + 8), u32_at(rows_at + 12)), (40, 24));
        assert_eq!(frame[24..40], [1; 16]);
        let entry = |n: usize| {
            let at = answers_at + 24 * n;
            (u32_at(at), u32_at(at + 8), u32_at(at + 12), u32_at(at + 16))
        };
        assert_eq!(
            (entry(0), entry(1), entry(2)),
            ((7, 0, 2, 0), (9, 0, 2, 0), (8, 2, 0, 0))
        );
        assert_eq!(entry(3).3, entry(4).3);
        let mut r = FrameReader::raw(&frame[entry(3).3..]);
        assert_eq!((r.u8().unwrap(), r.u8().unwrap()), (Kind::Transient as u8, 0));
        assert_eq!((r.u16().unwrap(), r.u32().unwrap()), (0, 0));
        assert_eq!((r.str().unwrap(), r.str().unwrap()), ("", "no answer"));
        r.finish().unwrap();
    }

    #[test]
    fn a_text_that_is_none_is_what_no_document_has() {
        let plan = Plan {
            missing_is_error: false,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit: Unit::None,
            changelog: Changelog::Append,
            columns: vec![Column {
                name: "t".into(),
                origin: Origin::Path(vec!["t".into()]),
                kind: Scalar::String.into(),
            }],
            filter: None,
        };
        let shape = KeyShape::new(&plan, &[0], &KeyPaths::new(&["/pk"])).unwrap();
        let mut w = FrameWriter::new(FrameKind::Keys);
        w.u32(2);
        for (number, text) in [(7, &b"a\xff"[..]), (8, b"a")] {
            w.u64(number);
            w.u8(1);
            w.blob(text);
        }
        let keys = decode_keys(&w.0, &shape).unwrap();
        assert_eq!(keys[0], (7, vec![None]));
        assert_eq!(keys[1], (8, vec![Some(Value::Text("a".into()))]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Wanted::decode(&bytes);
        }
    }
}
