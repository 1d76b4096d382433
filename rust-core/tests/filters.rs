//! Filters: what the decoder lets pass is what SQL's logic makes of the row without a filter, and the query that the service is asked has
//! all of it, over documents with fields that are missing, null or of another type.

mod support;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cosmosflink_core::page::{FLAG_FINISHED, ROW_BYTES};
use cosmosflink_core::rows::{
    Change, Changelog, Column, Comparison, Decoder, Filter, Format, Literal, Metadata, OnError, Operand,
    Origin, Part, Plan, Predicate, Refused, Scalar, Type, TypeKind, Unit,
};
use cosmosflink_core::sink::OperationKind;
use cosmosflink_core::source::Source;
use cosmosflink_core::sql;
use support::*;

/// Chances that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const WHOLE: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "7",
    "100",
    "127",
    "128",
    "-129",
    "2147483647",
    "2147483648",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "1.0",
    "1e2",
    "1.5",
    "\"5\"",
    "\" 7 \"",
    "\"100\"",
];
const REAL: &[&str] = &[
    "0",
    "0.0",
    "-0.0",
    "0.1",
    "1.5",
    "-1.5",
    "5",
    "16777217",
    "3.4e38",
    "1e300",
    "1e-320",
    "0.30000000000000004",
    "\"NaN\"",
    "\"1.5\"",
    "\"Infinity\"",
    "9007199254740993",
    "0.1000000001",
];
const DECIMAL: &[&str] = &[
    "0",
    "1",
    "1.005",
    "1.004",
    "1.01",
    "-1.005",
    "2.5",
    "99999999.99",
    "\"1.01\"",
    "12345678901234567890",
    "0.1",
    "100",
    "5e-324",
];
const TEXT: &[&str] = &[
    r#""""#,
    r#""open""#,
    r#""closed""#,
    r#""op""#,
    r#""5""#,
    r#""true""#,
    r#""[1]""#,
    r#""ä""#,
    r#""z""#,
    r#""😀""#,
    r#""\ufffd""#,
    r#""a\"b\\c""#,
    r#""Open""#,
    "5",
    "-1.5",
    "true",
    "false",
    r#"{"a":1}"#,
    r#"[1]"#,
    r#"["open"]"#,
];
const DAY: &[&str] = &[
    r#""2026-01-01""#,
    r#""2026-11-24""#,
    r#""1969-12-31""#,
    r#""-0001-01-01""#,
    r#""+12026-01-01""#,
    r#""+02026-11-24""#,
    r#""0000-01-01""#,
];
const TIME: &[&str] = &[
    r#""10:15:30""#,
    r#""10:15:30.5""#,
    r#""10:15:30.123456""#,
    r#""00:00:00""#,
    r#""23:59:59.999""#,
    r#""10:15:31""#,
];
const LOCAL: &[&str] = &[
    r#""2026-11-24T10:15""#,
    r#""2026-11-24T10:15:00""#,
    r#""2026-11-24T10:15:30""#,
    r#""2026-11-24T10:15:30.000""#,
    r#""2026-11-24T10:15:30.123456789""#,
    r#""2026-11-24T10:15:30.1234""#,
    r#""1969-12-31T23:59:59.9""#,
    r#""+12026-01-01T00:00""#,
    r#""-2026-01-01T00:00""#,
];
const ZONED: &[&str] = &[
    r#""2026-11-24T10:15Z""#,
    r#""2026-11-24T10:15:00Z""#,
    r#""2026-11-24T11:15:00+01:00""#,
    r#""2026-11-24T28:15:00+18:00""#,
    r#""2026-11-23T16:15:00.5-18:00""#,
    r#""2026-11-25T04:15:00.5+18:00""#,
    r#""2026-11-24T10:15:00.123456Z""#,
];
const BOOL: &[&str] = &["true", "false", "\"true\"", "\"FALSE\""];
const OTHER: &[&str] = &[
    "true",
    "\"x\"",
    "[1]",
    r#"{"a":1}"#,
    "1.5",
    "1e400",
    "\"\"",
    "12",
    "\"9\"",
];

/// The columns, with the JSON that fits them as a rule.
fn columns() -> Vec<(Column, &'static [&'static str])> {
    let scalar = |name: &str, scalar: Scalar| Column {
        name: name.to_owned(),
        origin: Origin::Path(vec![name.to_owned()]),
        kind: Type::from(scalar),
    };
    let moment = |precision, zoned| Scalar::Timestamp { precision, zoned };
    let decimal = |precision, scale| Scalar::Decimal { precision, scale };
    let mut deep = scalar("deep", Scalar::Int);
    deep.origin = Origin::Path(vec!["r".into(), "z".into()]);
    let row = Column {
        kind: Type {
            kind: TypeKind::Row(vec![
                ("x".into(), Scalar::Int.into()),
                ("y".into(), Scalar::String.into()),
            ]),
            nullable: true,
        },
        ..scalar("r", Scalar::Int)
    };
    vec![
        (scalar("id", Scalar::String), TEXT),
        (scalar("s", Scalar::String), TEXT),
        (scalar("b", Scalar::Boolean), BOOL),
        (scalar("t", Scalar::TinyInt), WHOLE),
        (scalar("i", Scalar::Int), WHOLE),
        (scalar("l", Scalar::BigInt), WHOLE),
        (scalar("f", Scalar::Float), REAL),
        (scalar("d", Scalar::Double), REAL),
        (scalar("m", decimal(10, 2)), DECIMAL),
        (scalar("h", decimal(38, 10)), DECIMAL),
        (scalar("day", Scalar::Date), DAY),
        (scalar("time", Scalar::Time { precision: 3 }), TIME),
        (scalar("ts", moment(3, false)), LOCAL),
        (scalar("nano", moment(9, false)), LOCAL),
        (scalar("ltz", moment(3, true)), ZONED),
        (deep, WHOLE),
        (row, &[]),
    ]
}

fn value(random: &mut Random, usual: &[&str]) -> Option<String> {
    match random.below(20) {
        0 | 1 => None,
        2 => Some("null".into()),
        3 | 4 => Some((*random.pick(OTHER)).into()),
        _ => Some((*random.pick(usual)).into()),
    }
}

fn document_of(random: &mut Random, number: usize) -> String {
    let mut fields = vec![format!(r#""id":"o{number}","pk":"k{}""#, number % 3)];
    for (column, usual) in &columns()[1..] {
        let written = match column.name.as_str() {
            "deep" => None,
            "r" => match random.below(8) {
                0 => None,
                1 => Some((*random.pick(OTHER)).to_owned()),
                _ => {
                    let parts = [("x", WHOLE), ("y", TEXT), ("z", WHOLE)];
                    let inner = parts.iter().filter_map(|(name, usual)| {
                        value(random, usual).map(|json| format!("\"{name}\":{json}"))
                    });
                    let inner: Vec<_> = inner.collect();
                    Some(format!("{{{}}}", inner.join(",")))
                }
            },
            _ => value(random, usual),
        };
        if let Some(json) = written {
            fields.push(format!("\"{}\":{json}", column.name));
        }
    }
    format!("{{{}}}", fields.join(","))
}

/// A document in which all values fit.
fn document_that_fits(random: &mut Random, number: usize) -> String {
    loop {
        let document = document_of(random, number);
        let plan = plan(
            OnError::Fail,
            columns().into_iter().map(|(column, _)| column).collect(),
        );
        if row(&mut Decoder::new(&plan, []), &document).is_ok() {
            return document;
        }
    }
}

fn plan(on_error: OnError, columns: Vec<Column>) -> Plan {
    Plan {
        missing_is_error: false,
        on_error,
        format: Format::Iso,
        unit: Unit::None,
        changelog: Changelog::Append,
        columns,
        filter: None,
    }
}

fn row(decoder: &mut Decoder, document: &str) -> Result<Vec<u8>, Refused> {
    decoder.begin(1 << 20);
    decoder.row(&Change {
        operation: "upsert",
        ..Change::read(document.as_bytes())
    })?;
    Ok(decoder.take())
}

/// A value as the tests read it out of a row.
#[derive(Clone, Debug, PartialEq)]
enum Read {
    Null,
    Bool(bool),
    Number(i64),
    Real(f64),
    Decimal(i128),
    Text(String),
    Moment(i64, u32),
}

/// Field `n` of a row of so many fields, by the letter of `docs/boundary.md` and of Flink.
fn read_field(row: &[u8], arity: usize, n: usize, kind: &TypeKind) -> (Read, Vec<u8>) {
    let null = row[1 + n / 8] >> (n % 8) & 1 == 1;
    if null {
        return (Read::Null, Vec::new());
    }
    let at = (arity + 8).div_ceil(64) * 8 + n * 8;
    let slot: [u8; 8] = row[at..at + 8].try_into().unwrap();
    let long = i64::from_le_bytes(slot);
    let bytes = || match slot[7] >> 7 {
        1 => slot[..usize::from(slot[7] & 0x7f)].to_vec(),
        _ => {
            let (at, size) = ((long as u64 >> 32) as usize, (long as u32) as usize);
            row[at..at + size].to_vec()
        }
    };
    let TypeKind::Scalar(scalar) = kind else {
        return (Read::Bool(true), bytes());
    };
    let read = match scalar {
        Scalar::Boolean => Read::Bool(slot[0] == 1),
        Scalar::TinyInt => Read::Number(i64::from(slot[0] as i8)),
        Scalar::Int | Scalar::Date | Scalar::Time { .. } => Read::Number(i64::from(long as i32)),
        Scalar::BigInt => Read::Number(long),
        Scalar::Float => Read::Real(f64::from(f32::from_le_bytes(slot[..4].try_into().unwrap()))),
        Scalar::Double => Read::Real(f64::from_le_bytes(slot)),
        Scalar::Decimal {
            precision: 0..=18, ..
        } => Read::Decimal(long.into()),
        Scalar::Decimal { .. } => {
            let digits = bytes();
            let mut all = [if digits[0] > 127 { 255 } else { 0 }; 16];
            all[16 - digits.len()..].copy_from_slice(&digits);
            Read::Decimal(i128::from_be_bytes(all))
        }
        Scalar::String => Read::Text(String::from_utf8(bytes()).unwrap()),
        Scalar::Timestamp { precision: 0..=3, .. } => Read::Moment(long, 0),
        Scalar::Timestamp { .. } => {
            let at = (long as u64 >> 32) as usize;
            Read::Moment(
                i64::from_le_bytes(row[at..at + 8].try_into().unwrap()),
                long as u32,
            )
        }
        _ => Read::Null,
    };
    (read, Vec::new())
}

fn find<'a>(columns: &'a [Column], operand: &Operand, row: &[u8]) -> (Read, &'a TypeKind) {
    let (n, kind) = (
        operand.column as usize,
        &columns[operand.column as usize].kind.kind,
    );
    let (read, inner) = read_field(row, columns.len(), n, kind);
    match (operand.fields.as_slice(), kind) {
        ([], _) => (read, kind),
        ([field], TypeKind::Row(fields)) => {
            let kind = &fields[*field as usize].1.kind;
            match read {
                Read::Null => (Read::Null, kind),
                _ => (read_field(&inner, fields.len(), *field as usize, kind).0, kind),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// What SQL says of a row: 1 true, 0 false, and a half where nobody knows, with AND the smaller one, OR the larger one, NOT what is left.
fn verdict(predicate: &Predicate, columns: &[Column], row: &[u8]) -> f64 {
    let of = |inner: &Predicate| verdict(inner, columns, row);
    let known = |operand: &Operand, holds: &dyn Fn(Read, &TypeKind) -> bool| match find(columns, operand, row)
    {
        (Read::Null, _) => 0.5,
        (read, kind) => f64::from(u8::from(holds(read, kind))),
    };
    match predicate {
        Predicate::All(all) => all.iter().map(of).fold(1.0, f64::min),
        Predicate::Any(any) => any.iter().map(of).fold(0.0, f64::max),
        Predicate::Not(inner) => 1.0 - of(inner),
        Predicate::Is(truth, inner) => {
            let is = of(inner) == f64::from(u8::from(*truth));
            f64::from(u8::from(is))
        }
        Predicate::Null(operand) => {
            let null = find(columns, operand, row).0 == Read::Null;
            f64::from(u8::from(null))
        }
        Predicate::True(operand) => known(operand, &|read, _| read == Read::Bool(true)),
        Predicate::Compare(comparison, operand, literal) => {
            known(operand, &|read, kind| compares(*comparison, &read, kind, literal))
        }
        Predicate::In(operand, literals) => known(operand, &|read, kind| {
            literals
                .iter()
                .any(|literal| compares(Comparison::Equal, &read, kind, literal))
        }),
        Predicate::Has(part, operand, text) => known(operand, &|read, _| {
            let Read::Text(value) = read else {
                panic!("{read:?}")
            };
            match part {
                Part::Start => value.starts_with(text),
                Part::End => value.ends_with(text),
                Part::Anywhere => value.contains(text),
            }
        }),
    }
}

fn compares(comparison: Comparison, read: &Read, kind: &TypeKind, literal: &Literal) -> bool {
    let by = |order: Ordering| match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    };
    let scale = match kind {
        TypeKind::Scalar(Scalar::Decimal { scale, .. }) => *scale,
        _ => 0,
    };
    // Both with ten digits behind the point: the literals of these tests have no more.
    let tens = |digits: i128, scale: u8| digits * 10i128.pow(u32::from(10 - scale));
    match (read, literal) {
        (Read::Bool(a), Literal::Bool(b)) => by(a.cmp(b)),
        (Read::Number(a), Literal::Whole(b)) => by(a.cmp(b)),
        (Read::Number(a), Literal::Decimal(b, of)) => by(tens((*a).into(), 0).cmp(&tens(*b, *of))),
        (Read::Decimal(a), Literal::Whole(b)) => by(tens(*a, scale).cmp(&tens((*b).into(), 0))),
        (Read::Decimal(a), Literal::Decimal(b, of)) => by(tens(*a, scale).cmp(&tens(*b, *of))),
        (Read::Real(a), Literal::Double(b)) => match comparison {
            Comparison::Equal => a == b,
            Comparison::NotEqual => a != b,
            Comparison::Less => a < b,
            Comparison::LessOrEqual => a <= b,
            Comparison::Greater => a > b,
            Comparison::GreaterOrEqual => a >= b,
        },
        // Java's Double.compare.
        (Read::Real(a), Literal::Ordered(b)) => by(match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if a == b => b.is_sign_negative().cmp(&a.is_sign_negative()),
            _ => a.partial_cmp(b).unwrap(),
        }),
        (Read::Text(a), Literal::Text(b)) => by(a.as_bytes().cmp(b.as_bytes())),
        (Read::Moment(a, nanos), Literal::Moment(b, behind)) => by(a.cmp(b).then(nanos.cmp(behind))),
        other => panic!("{other:?}"),
    }
}

/// A literal that a scalar may be compared with, among them values that the documents have.
fn literal(random: &mut Random, scalar: Scalar) -> Literal {
    let whole = [
        0,
        1,
        -1,
        5,
        7,
        100,
        127,
        2_147_483_648,
        9_007_199_254_740_991,
        9_007_199_254_740_993,
        i64::MAX,
    ];
    let millis = 1_795_515_330_123;
    match scalar {
        Scalar::Boolean => Literal::Bool(random.below(2) == 0),
        Scalar::TinyInt | Scalar::Int | Scalar::BigInt => match random.below(5) {
            0 => Literal::Decimal(*random.pick(&[15, 10, -5, 90_071_992_547_409_930]), 1),
            _ => Literal::Whole(*random.pick(&whole)),
        },
        Scalar::Decimal { .. } => match random.below(3) {
            0 => Literal::Whole(*random.pick(&whole[..8])),
            1 => Literal::Decimal(*random.pick(&[101, 100, 250, -101, 0, 9_999_999_999]), 2),
            _ => Literal::Decimal(*random.pick(&[10_050, 10_040, 1, -1, 25_000]), 4),
        },
        Scalar::Float | Scalar::Double => {
            let value = *random.pick(&[
                0.0,
                -0.0,
                0.1,
                1.5,
                -1.5,
                5.0,
                16_777_216.0,
                1e300,
                f64::from(0.1f32),
            ]);
            match random.below(2) {
                0 => Literal::Double(value),
                _ => Literal::Ordered(value),
            }
        }
        Scalar::Date => Literal::Whole(*random.pick(&[20_454, 20_781, -1, 0, -719_893, -719_528])),
        Scalar::Time { .. } => {
            Literal::Whole(*random.pick(&[36_930_000, 36_930_500, 36_930_123, 0, 86_399_999]))
        }
        Scalar::Timestamp { .. } => {
            let at = *random.pick(&[
                millis,
                millis - 123,
                millis - 30_123,
                -100,
                millis - 36_930_123,
                millis - 123 - 64_800_000,
            ]);
            Literal::Moment(at, *random.pick(&[0, 0, 456_789, 400_000]))
        }
        _ => {
            let texts = [
                "",
                "open",
                "closed",
                "op",
                "5",
                "-1.5",
                "true",
                "{\"a\":1}",
                "[1]",
                "ä",
                "z",
                "😀",
                "a\"b\\c",
                "o7",
                "o11",
            ];
            Literal::Text((*random.pick(&texts)).to_owned())
        }
    }
}

fn predicate(random: &mut Random, columns: &[Column], depth: usize) -> Predicate {
    let inner = |random: &mut Random| predicate(random, columns, depth - 1);
    match random.below(if depth == 0 { 8 } else { 14 }) {
        8 | 9 => Predicate::All((0..2 + random.below(2)).map(|_| inner(random)).collect()),
        10 | 11 => Predicate::Any((0..2 + random.below(2)).map(|_| inner(random)).collect()),
        12 => Predicate::Not(Box::new(inner(random))),
        13 => Predicate::Is(random.below(2) == 0, Box::new(inner(random))),
        leaf => {
            let column = random.below(columns.len());
            let (fields, scalar) = match &columns[column].kind.kind {
                TypeKind::Row(fields) => {
                    let field = random.below(fields.len());
                    match fields[field].1.kind {
                        TypeKind::Scalar(scalar) => (vec![field as u32], scalar),
                        _ => panic!("a field"),
                    }
                }
                TypeKind::Scalar(scalar) => (Vec::new(), *scalar),
                other => panic!("{other:?}"),
            };
            let operand = Operand {
                column: column as u32,
                fields,
            };
            let comparisons = [
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
            ];
            match leaf {
                0 => Predicate::Null(operand),
                1 => Predicate::Not(Box::new(Predicate::Null(operand))),
                2 => {
                    let several = (0..1 + random.below(4)).map(|_| literal(random, scalar));
                    Predicate::In(operand, several.collect())
                }
                3 | 4 if scalar == Scalar::String => {
                    let text = *random.pick(&[
                        "o", "op", "", "5", "pen", "e", "[1", "1]", "\"a\"", "tr", "1", "ä",
                    ]);
                    let part = *random.pick(&[Part::Start, Part::End, Part::Anywhere]);
                    Predicate::Has(part, operand, text.to_owned())
                }
                3 if scalar == Scalar::Boolean => Predicate::True(operand),
                _ => Predicate::Compare(*random.pick(&comparisons), operand, literal(random, scalar)),
            }
        }
    }
}

/// The plan of a filter whose row has some of the columns; the others are those of the filter alone.
fn filtered(random: &mut Random, on_error: OnError, all: &[Column], predicate: &Predicate) -> Plan {
    // A row that has the whole of `r` is one with fields in it.
    let shown: Vec<usize> = (0..all.len())
        .filter(|n| *n == 0 || random.below(3) == 0)
        .collect();
    let hidden: Vec<usize> = (0..all.len()).filter(|n| !shown.contains(n)).collect();
    let places: Vec<usize> = shown.iter().chain(&hidden).copied().collect();
    let of = |numbers: &[usize]| numbers.iter().map(|n| all[*n].clone()).collect::<Vec<_>>();
    let predicate = predicate.map(&mut |operand| Operand {
        column: places.iter().position(|n| *n == operand.column as usize).unwrap() as u32,
        fields: operand.fields.clone(),
    });
    let mut plan = plan(on_error, of(&shown));
    plan.filter = Some(Filter {
        columns: of(&hidden),
        predicate,
    });
    let read = Plan::decode(&plan.encode()).unwrap();
    assert_eq!(read, plan);
    read
}

#[test]
fn the_decoder_lets_pass_what_is_true_of_the_row_without_a_filter() {
    let all: Vec<Column> = columns().into_iter().map(|(column, _)| column).collect();
    for on_error in [OnError::NullField, OnError::SkipRow, OnError::Fail] {
        let mut random = Random(7 + on_error as u64);
        let documents: Vec<String> = (0..300).map(|n| document_of(&mut random, n)).collect();
        let mut whole = Decoder::new(&plan(on_error, all.clone()), []);
        let rows: Vec<Option<Vec<u8>>> = documents.iter().map(|d| row(&mut whole, d).ok()).collect();
        assert!(rows.iter().flatten().count() > if on_error == OnError::NullField { 299 } else { 5 });
        let mut verdicts = BTreeMap::new();
        for _ in 0..1500 {
            let predicate = predicate(&mut random, &all, 3);
            let plan = filtered(&mut random, on_error, &all, &predicate);
            let mut with = Decoder::new(&plan, []);
            let mut without = Decoder::new(
                &Plan {
                    filter: None,
                    ..plan.clone()
                },
                [],
            );
            for (document, whole) in documents.iter().zip(&rows) {
                let found = row(&mut with, document);
                let expected = whole.as_ref().map(|row| verdict(&predicate, &all, row));
                *verdicts.entry(expected.map(|v| (v * 2.0) as u8)).or_insert(0) += 1;
                match (found, expected) {
                    (Ok(found), Some(1.0)) => assert_eq!(found, row(&mut without, document).unwrap()),
                    (Err(Refused::Filtered), Some(_)) if expected != Some(1.0) => {}
                    // One of the columns does not fit.
                    (Err(Refused::Misfit(_)), None) => {}
                    (found, expected) => panic!("{found:?}, {expected:?} of {document}: {predicate:?}"),
                }
            }
        }
        assert!(
            verdicts.len() >= 3 && verdicts.values().all(|n| *n > 500),
            "{verdicts:?}"
        );
    }
}

/// The ids of all rows that a query with this plan has, and how many documents were dropped.
fn ids_of(local: &Local, plan: &Plan, query: &sql::Query) -> (BTreeSet<String>, u64) {
    let parameters = query.parameters_json();
    let mut options = vec![("scan.query", query.text.as_str())];
    if !parameters.is_empty() {
        options.push(("scan.query-parameters", parameters.as_str()));
    }
    let splits = local.enumerator("c", &options).discover(&[]).unwrap();
    let source: Source = local.source("c", &options).with_rows(plan);
    let mut open = splits.len();
    source
        .add_splits(splits.into_iter().map(|entry| entry.split).collect())
        .unwrap();
    let mut ids = BTreeSet::new();
    let deadline = Instant::now() + WAIT;
    while open > 0 {
        assert!(Instant::now() < deadline, "{}", query.text);
        let found = source.next_page(Duration::from_millis(100));
        if found.unwrap_or_else(|e| panic!("{}: {e}", query.text)) == 0 {
            continue;
        }
        let frame = source.take_page().unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
        let (n, table) = (u32_at(4) as usize, u32_at(8) as usize);
        for entry in (0..n).map(|i| table + i * ROW_BYTES) {
            let (at, length) = (u32_at(entry) as usize, u32_at(entry + 4) as usize);
            let kind = TypeKind::Scalar(Scalar::String);
            match read_field(&frame[at..at + length], plan.columns.len(), 0, &kind).0 {
                Read::Text(id) => assert!(ids.insert(id)),
                other => panic!("{other:?}"),
            }
        }
        open -= usize::from(u32_at(12) & FLAG_FINISHED != 0);
    }
    let filtered = source.metrics().filtered.load(Relaxed);
    source.close();
    (ids, filtered)
}

#[test]
fn a_query_has_all_that_passes_and_the_decoder_drops_the_rest() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    let mut random = Random(41);
    let (mixed, fitting) = (120, 60);
    for n in 0..mixed + fitting {
        let document = match n < mixed {
            true => document_of(&mut random, n),
            false => document_that_fits(&mut random, n),
        };
        // No service stores such a number.
        let document = document.replace("1e400", "1e300");
        let key = format!("[\"k{}\"]", n % 3);
        submit(
            &sink,
            n as u64,
            OperationKind::Upsert,
            &format!("o{n}"),
            &key,
            &document,
        );
    }
    outcomes(&sink, mixed + fitting);
    sink.close();
    // As the service has them.
    let documents = read(&local.source_of_all("c", &[]).0, mixed + fitting);
    let all: Vec<Column> = columns().into_iter().map(|(column, _)| column).collect();
    let (mut passed, mut dropped, mut narrowed, mut asked) = (0, 0, 0, 0);
    for round in 0..450 {
        // A value that does not fit fails a job only where the service sends it: these are left to the policies that go on.
        let on_error = if round % 3 == 0 {
            OnError::SkipRow
        } else {
            OnError::NullField
        };
        let predicate = predicate(&mut random, &all, if round % 2 == 0 { 0 } else { 3 });
        let plan = filtered(&mut random, on_error, &all, &predicate);
        let mut decoder = Decoder::new(&plan, []);
        let expected: BTreeSet<String> = documents
            .iter()
            .filter(|(_, document)| row(&mut decoder, document).is_ok())
            .map(|(id, _)| id.clone())
            .collect();
        let query = sql::documents(&plan);
        sql::Query::new(&query.text, &query.parameters_json()).unwrap();
        let (found, filtered) = ids_of(&local, &plan, &query);
        assert_eq!(
            found, expected,
            "{} {:?} for {predicate:?}",
            query.text, query.parameters
        );
        passed += found.len();
        dropped += filtered as usize;
        asked += usize::from(!query.parameters.is_empty());
        narrowed += usize::from(found.len() + (filtered as usize) < documents.len());
    }
    // The queries leave documents out, and of those that come most pass.
    assert!(asked > 250 && narrowed > 250, "{asked} {narrowed}");
    assert!(dropped < 3 * passed, "{dropped} dropped, {passed} passed");
}

#[test]
fn the_keys_of_a_document_and_its_time_are_asked_of_the_service() {
    let column = |name: &str, origin, scalar: Scalar| Column {
        name: name.to_owned(),
        origin,
        kind: scalar.into(),
    };
    let moment = Scalar::Timestamp {
        precision: 3,
        zoned: true,
    };
    let mut plan = plan(
        OnError::Fail,
        vec![
            column("id", Origin::Path(vec!["id".into()]), Scalar::String),
            column("pk", Origin::Path(vec!["pk".into()]), Scalar::String),
            column("at", Origin::Metadata(Metadata::Timestamp), moment),
            column("where", Origin::Constant("c".into()), Scalar::String),
        ],
    );
    let operand = |column| Operand {
        column,
        fields: Vec::new(),
    };
    let text = |text: &str| Literal::Text(text.into());
    plan.filter = Some(Filter {
        columns: Vec::new(),
        predicate: Predicate::All(vec![
            Predicate::Compare(Comparison::Equal, operand(0), text("o7")),
            Predicate::In(operand(1), vec![text("k1"), text("k2")]),
            Predicate::Compare(
                Comparison::Greater,
                operand(2),
                Literal::Moment(1_700_000_000_500, 0),
            ),
            Predicate::Compare(Comparison::Equal, operand(3), text("c")),
        ]),
    });
    let query = sql::documents(&plan);
    assert_eq!(
        query.text,
        "SELECT * FROM c WHERE (c[\"id\"] = @p0000 AND c[\"pk\"] IN (@p0001, @p0002) AND c[\"_ts\"] >= @p0003)"
    );
    assert_eq!(
        query.parameters_json(),
        r#"{"@p0000":"o7","@p0001":"k1","@p0002":"k2","@p0003":1700000000}"#
    );
}

#[test]
fn a_feed_goes_on_where_nothing_passes_and_counts_what_it_drops() {
    let local = Local::start(&["c:/pk:2"]);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 300, 10);
    outcomes(&sink, 300);
    let n = Column {
        name: "n".into(),
        origin: Origin::Path(vec!["n".into()]),
        kind: Scalar::Int.into(),
    };
    let mut plan = plan(OnError::Fail, Vec::new());
    plan.filter = Some(Filter {
        columns: vec![n],
        predicate: Predicate::Compare(
            Comparison::Less,
            Operand {
                column: 0,
                fields: Vec::new(),
            },
            Literal::Whole(0),
        ),
    });
    let splits = local.enumerator("c", &[]).discover(&[]).unwrap();
    let before: BTreeSet<_> = splits.iter().map(|entry| entry.split.encode()).collect();
    let source = local.source("c", &[]).with_rows(&plan);
    source
        .add_splits(splits.into_iter().map(|entry| entry.split).collect())
        .unwrap();
    let mut after = BTreeMap::new();
    until("all documents were read", || {
        if source.next_page(Duration::from_millis(10)).unwrap() > 0 {
            let frame = source.take_page().unwrap();
            let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!(u32_at(4), 0, "no row");
            let split_at = 36 + u32_at(32);
            let split = frame[split_at + 4..split_at + 4 + u32_at(split_at)].to_vec();
            after.insert(frame[36..split_at].to_vec(), split);
        }
        source.metrics().filtered.load(Relaxed) == 300
    });
    assert_eq!(after.len(), 2, "both splits have gone on");
    assert!(after.values().all(|split| !before.contains(split)));
    assert_eq!(source.metrics().records.load(Relaxed), 0);
    source.close();
    sink.close();
}
