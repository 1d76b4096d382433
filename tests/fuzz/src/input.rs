//! Plans out of bytes: any bytes are some plan, and letters are those that people would take.

use cosmosflink_core::rows::{
    Changelog, Column, Format, Metadata, OnError, Origin, Plan, Scalar, Type, TypeKind, Unit,
};

/// Most columns, and fields of a ROW.
const MAX_FIELDS: usize = 10;

/// How deep types are.
const MAX_DEPTH: usize = 5;

/// Names by their letters.
const NAMES: [(u8, &str); 12] = [
    (b'a', "a"),
    (b'b', "b"),
    (b'c', "c"),
    (b'd', "d"),
    (b'e', "e"),
    (b'i', "id"),
    (b't', "_ts"),
    (b'l', "_lsn"),
    (b'x', "x/y"),
    (b'u', "ü\u{ff5e}"),
    (b'q', "\"~"),
    (b'n', ""),
];

/// What a letter stands for; any other byte for one of them.
fn choice<T: Copy>(byte: u8, all: &[(u8, T)]) -> T {
    let named = all.iter().find(|(letter, _)| *letter == byte);
    named.unwrap_or(&all[usize::from(byte) % all.len()]).1
}

/// A plan: five letters for error policy (`f`, `n`, `s`), format (`i`, `s`), unit (`-`, `s`, `m`, `u`, `n`), changelog (`a`, `u`, `l`) and missing
/// fields (`-`, `m`), then the columns. A column is its path (`/a/b`) or metadata (`#` and a letter), and its type: a letter of
/// [`scalar`], behind `!` where it is NOT NULL; `[` and a type for an array, `{` and a type for a map, `(`, names with types and `)` for a row.
pub fn plan(line: &[u8]) -> Plan {
    let mut bytes = Letters { line, at: 0 };
    let on_error = choice(
        bytes.next(),
        &[
            (b'f', OnError::Fail),
            (b'n', OnError::NullField),
            (b's', OnError::SkipRow),
        ],
    );
    let format = choice(bytes.next(), &[(b'i', Format::Iso), (b's', Format::Sql)]);
    let unit = choice(
        bytes.next(),
        &[
            (b'-', Unit::None),
            (b's', Unit::Seconds),
            (b'm', Unit::Millis),
            (b'u', Unit::Micros),
            (b'n', Unit::Nanos),
        ],
    );
    let changelog = choice(
        bytes.next(),
        &[
            (b'a', Changelog::Append),
            (b'u', Changelog::Upsert),
            (b'l', Changelog::Log),
        ],
    );
    let missing_is_error = choice(bytes.next(), &[(b'-', false), (b'm', true)]);
    let mut columns = Vec::new();
    while bytes.more() && columns.len() < MAX_FIELDS {
        columns.push(column(&mut bytes, columns.len()));
    }
    Plan {
        missing_is_error,
        on_error,
        format,
        unit,
        changelog,
        columns,
        filter: None,
    }
}

fn column(bytes: &mut Letters<'_>, number: usize) -> Column {
    let moment = Scalar::Timestamp {
        precision: 3,
        zoned: true,
    };
    let (origin, kind) = match bytes.take(b'#') {
        true => {
            let (metadata, scalar) = choice(
                bytes.next(),
                &[
                    (b't', (Metadata::Timestamp, moment)),
                    (b'i', (Metadata::Id, Scalar::String)),
                    (b'k', (Metadata::PartitionKey, Scalar::String)),
                    (b'l', (Metadata::Lsn, Scalar::BigInt)),
                    (b'o', (Metadata::Operation, Scalar::String)),
                    (b'c', (Metadata::Committed, moment)),
                    (b'e', (Metadata::Expired, Scalar::Boolean)),
                    (b'a', (Metadata::Arrived, moment)),
                    (b's', (Metadata::SplitId, Scalar::String)),
                ],
            );
            (Origin::Metadata(metadata), scalar.into())
        }
        false if bytes.take(b'=') => (Origin::Constant("constant".into()), Scalar::String.into()),
        false => {
            let mut path = Vec::new();
            while path.len() < MAX_DEPTH && bytes.take(b'/') {
                path.push(choice(bytes.next(), &NAMES).to_owned());
            }
            (Origin::Path(path), kind(bytes, 0))
        }
    };
    Column {
        name: format!("c{number}"),
        origin,
        kind,
    }
}

fn kind(bytes: &mut Letters<'_>, depth: usize) -> Type {
    let nullable = !bytes.take(b'!');
    let kind = match depth < MAX_DEPTH {
        true if bytes.take(b'[') => TypeKind::Array(Box::new(kind(bytes, depth + 1))),
        true if bytes.take(b'{') => TypeKind::Map(Box::new(kind(bytes, depth + 1))),
        true if bytes.take(b'(') => {
            let mut fields: Vec<(String, Type)> = Vec::new();
            while bytes.more() && fields.len() < MAX_FIELDS && !bytes.take(b')') {
                let name = choice(bytes.next(), &NAMES);
                fields.push((name.to_owned(), kind(bytes, depth + 1)));
            }
            TypeKind::Row(fields)
        }
        _ => TypeKind::Scalar(scalar(bytes)),
    };
    Type { kind, nullable }
}

/// `B` BOOLEAN, `1`, `2`, `4`, `8` integers by their bytes, `F` FLOAT, `D` DOUBLE, `N` DECIMAL with precision and scale, `S` STRING, `Y` BYTES, `d` DATE,
/// `t` TIME, `T` TIMESTAMP and `Z` TIMESTAMP_LTZ with precision, `V` VARIANT, `R` the JSON as it stands. A precision is a letter, of which `a` is 0.
fn scalar(bytes: &mut Letters<'_>) -> Scalar {
    let letter = choice(
        bytes.next(),
        &[
            b'B', b'1', b'2', b'4', b'8', b'F', b'D', b'N', b'S', b'Y', b'd', b't', b'T', b'Z', b'V', b'R',
        ]
        .map(|letter| (letter, letter)),
    );
    let mut number = |most: u8| bytes.next().wrapping_sub(b'a') % (most + 1);
    match letter {
        b'B' => Scalar::Boolean,
        b'1' => Scalar::TinyInt,
        b'2' => Scalar::SmallInt,
        b'4' => Scalar::Int,
        b'8' => Scalar::BigInt,
        b'F' => Scalar::Float,
        b'D' => Scalar::Double,
        b'N' => {
            let precision = number(37) + 1;
            Scalar::Decimal {
                precision,
                scale: number(precision),
            }
        }
        b'Y' => Scalar::Bytes,
        b'd' => Scalar::Date,
        b't' => Scalar::Time { precision: number(9) },
        b'T' | b'Z' => Scalar::Timestamp {
            precision: number(9),
            zoned: letter == b'Z',
        },
        b'V' => Scalar::Variant,
        b'R' => Scalar::RawJson,
        _ => Scalar::String,
    }
}

/// Damages a frame: of each three bytes the first two say where, and the third what is there then; beyond the end it cuts the frame.
pub fn damage(frame: &mut Vec<u8>, edits: &[u8]) {
    for edit in edits.chunks_exact(3) {
        let at = usize::from(edit[0] % 4) * 256 + usize::from(edit[1]);
        match frame.get_mut(at) {
            Some(byte) => *byte = edit[2],
            None => frame.truncate(usize::from(edit[2])),
        }
    }
}

/// Bytes, one after the other; zeros behind the last.
struct Letters<'a> {
    line: &'a [u8],
    at: usize,
}

impl Letters<'_> {
    fn more(&self) -> bool {
        self.at < self.line.len()
    }

    fn next(&mut self) -> u8 {
        self.at += 1;
        self.line.get(self.at - 1).copied().unwrap_or(0)
    }

    /// Whether this comes next; then it is taken.
    fn take(&mut self, byte: u8) -> bool {
        let comes = self.line.get(self.at) == Some(&byte);
        self.at += usize::from(comes);
        comes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_a_plan() {
        let plan = plan(b"ni-u-/a/b!N\x73cS/x[(a4b!S)#tV");
        assert_eq!(
            (plan.on_error, plan.changelog),
            (OnError::NullField, Changelog::Upsert)
        );
        let paths: Vec<_> = plan.columns.iter().map(|column| &column.origin).collect();
        assert_eq!(*paths[0], Origin::Path(vec!["a".into(), "b".into()]));
        assert_eq!(plan.columns[1].kind, Scalar::String.into());
        assert_eq!(*paths[2], Origin::Path(vec!["x/y".into()]));
        assert_eq!(*paths[3], Origin::Metadata(Metadata::Timestamp));
        assert_eq!(plan.columns[4].kind, Scalar::Variant.into());
    }
}
