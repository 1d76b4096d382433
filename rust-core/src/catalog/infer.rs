//! Columns out of documents.
//!
//! A [`Shape`] is what is known of the values at one place. That of two sets of documents is [`Shape::merge`] of theirs, in whatever order, so that a
//! sample may be read range by range. Types are decided once, at the end, by [`Rules`]: no document decides alone.

use std::collections::{BTreeMap, HashSet};

use crate::json::{self, Broken, Scan, Scanner};
use crate::page::KeyPaths;
use crate::rows::{timestamp, Format, Number, Scalar, Type, TypeKind, Unit};

/// Fields of one object beyond which their names are data, such as ids, and no columns.
const MOST_FIELDS: usize = 500;

/// Fields of all columns together beyond which no object becomes a ROW: a planner walks over them at each step.
const MOST_IN_ALL: usize = 2000;

/// Objects and arrays inside of so many others are taken as they are.
const DEPTH: usize = 16;

/// Digits of the largest DECIMAL.
const DIGITS: u32 = 38;

/// What the service adds to each document. The time of the last change is of use to queries.
const SYSTEM: [&str; 4] = ["_rid", "_self", "_etag", "_attachments"];
const TIME: &str = "_ts";
const ID: &str = "id";

/// The column for the whole document, where its fields are too many.
const WHOLE: &str = "_document";

/// What numbers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Numbers {
    /// BIGINT where all are whole, DECIMAL(38, 0) where one of these has more than 64 bits, else DOUBLE.
    Auto = 1,
    /// DOUBLE, always.
    Double = 2,
    /// BIGINT where all are whole, else a DECIMAL that has all digits; DOUBLE where none has.
    Decimal = 3,
}

/// What values of several types become, and those of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Conflict {
    /// VARIANT.
    Variant = 1,
    /// STRING: a text, or the JSON of anything else.
    Text = 2,
}

/// How types are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What numbers become.
    pub numbers: Numbers,
    /// What values of several types become.
    pub conflict: Conflict,
    /// Whether texts that are all timestamps become such.
    pub timestamps: bool,
}

impl Rules {
    fn conflict(&self) -> Type {
        match self.conflict {
            Conflict::Variant => Scalar::Variant,
            Conflict::Text => Scalar::String,
        }
        .into()
    }
}

/// What is known of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SeenNumbers {
    any: bool,
    /// One was written with a point or an exponent.
    pointed: bool,
    /// A whole one does not fit 64 bits.
    beyond: bool,
    /// Most digits in front of the point.
    before: u32,
    /// Most digits behind it.
    behind: u32,
}

/// What is known of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SeenTexts {
    any: bool,
    /// Most digits behind the second of those that are moments.
    instants: Option<u8>,
    /// The same of those that are timestamps without a zone.
    locals: Option<u8>,
    /// One is no timestamp.
    others: bool,
}

/// What is known of the fields of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fields {
    Known {
        objects: u64,
        fields: BTreeMap<String, Field>,
    },
    /// Too many to be columns.
    TooMany,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// Objects that have it.
    seen: u64,
    shape: Shape,
}

/// What is known of the values at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    nulls: bool,
    booleans: bool,
    numbers: SeenNumbers,
    texts: SeenTexts,
    objects: Option<Fields>,
    /// Their elements.
    arrays: Option<Box<Shape>>,
    /// There was an object or array that lies too deep.
    deep: bool,
}

impl Shape {
    /// The shape of one value. Of two fields with one name the last counts, as when it is read.
    ///
    /// # Errors
    /// [`Broken`] for what is no JSON.
    pub(crate) fn of(json: &[u8]) -> Scan<Shape> {
        Self::on(json, None)
    }

    /// The same of what is at the end of these paths alone, and on the way there.
    fn on(json: &[u8], paths: Option<&[&[String]]>) -> Scan<Shape> {
        let mut scanner = Scanner { bytes: json, at: 0 };
        let shape = Self::scan(&mut scanner, 0, paths)?;
        match scanner.peek() {
            Err(_) => Ok(shape),
            Ok(_) => Err(Broken("there is something behind it")),
        }
    }

    /// The value before which the scanner stands; of an object the fields at the beginning of these paths, or all.
    fn scan(scanner: &mut Scanner<'_>, depth: usize, paths: Option<&[&[String]]>) -> Scan<Shape> {
        let mut shape = Shape::default();
        match scanner.peek()? {
            b'{' | b'[' if depth > DEPTH => {
                scanner.value()?;
                shape.deep = true;
            }
            b'{' => {
                let mut fields = BTreeMap::new();
                scanner.object(|key, s| {
                    let name = key.decoded();
                    let below = paths.map(|paths| behind(paths, name.as_deref()));
                    if below.as_ref().is_some_and(Vec::is_empty) {
                        s.value()?;
                        return Ok(());
                    }
                    // A path that ends here is that of all that is here.
                    let below = below.filter(|below| below.iter().all(|path| !path.is_empty()));
                    let field = Field {
                        seen: 1,
                        shape: Self::scan(s, depth + 1, below.as_deref())?,
                    };
                    // A name with half of a surrogate pair is no name of a column.
                    if let Some(name) = name {
                        fields.insert(name, field);
                    }
                    Ok::<_, Broken>(())
                })?;
                shape.objects = Some(Fields::Known { objects: 1, fields }.limited());
            }
            b'[' => {
                let mut elements = Shape::default();
                // No path leads into an array.
                let below = paths.map(|_| &[][..]);
                scanner.array("an array is missing", |s| {
                    elements.merge(Self::scan(s, depth + 1, below)?);
                    Ok::<_, Broken>(())
                })?;
                shape.arrays = Some(Box::new(elements));
            }
            b'"' => shape.texts = SeenTexts::of(scanner.value()?),
            _ => match scanner.value()? {
                b"null" => shape.nulls = true,
                b"true" | b"false" => shape.booleans = true,
                number => shape.numbers = SeenNumbers::of(number)?,
            },
        }
        Ok(shape)
    }

    /// Adds what is known of other values at the same place.
    pub fn merge(&mut self, other: Shape) {
        self.nulls |= other.nulls;
        self.booleans |= other.booleans;
        self.numbers.merge(other.numbers);
        self.texts.merge(other.texts);
        self.deep |= other.deep;
        self.objects = match (self.objects.take(), other.objects) {
            (Some(one), Some(two)) => Some(one.merged(two)),
            (one, two) => one.or(two),
        };
        self.arrays = match (self.arrays.take(), other.arrays) {
            (Some(mut one), Some(two)) => {
                one.merge(*two);
                Some(one)
            }
            (one, two) => one.or(two),
        };
    }

    /// How many types the values have, nulls aside.
    fn types(&self) -> usize {
        [
            self.booleans,
            self.numbers.any,
            self.texts.any,
            self.objects.is_some(),
            self.arrays.is_some(),
            self.deep,
        ]
        .into_iter()
        .filter(|seen| *seen)
        .count()
    }

    /// The type of a column, a field or an element of such values. Any of them may be null: the next document has not been seen yet.
    fn kind(&self, rules: &Rules, nested: bool) -> Type {
        if self.types() != 1 || self.deep {
            return rules.conflict();
        }
        let scalar = match (&self.objects, &self.arrays) {
            (Some(fields), _) => return fields.kind(rules, nested),
            (_, Some(elements)) => {
                return Type {
                    kind: TypeKind::Array(Box::new(elements.kind(rules, nested))),
                    nullable: true,
                }
            }
            _ if self.booleans => Scalar::Boolean,
            _ if self.numbers.any => self.numbers.scalar(rules.numbers),
            _ => self.texts.scalar(rules.timestamps),
        };
        scalar.into()
    }

    /// The fields, where all values are objects.
    fn known_fields(&self) -> Option<(u64, &BTreeMap<String, Field>)> {
        match &self.objects {
            Some(Fields::Known { objects, fields }) => Some((*objects, fields)),
            _ => None,
        }
    }

    /// The shape at a path of names, and whether each document has a value there.
    fn at(&self, path: &[String]) -> (Option<&Shape>, bool) {
        let (mut shape, mut everywhere) = (self, true);
        for name in path {
            everywhere &= shape.types() == 1 && !shape.nulls;
            let Some((objects, fields)) = shape.known_fields() else {
                return (None, false);
            };
            let Some(field) = fields.get(name) else {
                return (None, false);
            };
            everywhere &= field.seen == objects;
            shape = &field.shape;
        }
        (Some(shape), everywhere && !shape.nulls)
    }
}

/// What is left of the paths that begin with this name.
fn behind<'p>(paths: &[&'p [String]], name: Option<&str>) -> Vec<&'p [String]> {
    let split = paths.iter().filter_map(|path| path.split_first());
    let own = split.filter(|(first, _)| Some(first.as_str()) == name);
    own.map(|(_, rest)| rest).collect()
}

/// What is known of some documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    all: Shape,
    /// The same of the partition key alone: whatever the documents have beside it, that is known.
    keys: Shape,
}

impl Documents {
    /// Adds a document, in a container with this partition key.
    ///
    /// # Errors
    /// [`Broken`] for what is no JSON; then nothing is added.
    pub(crate) fn add(&mut self, document: &[u8], keys: &KeyPaths) -> Scan<()> {
        let paths: Vec<&[String]> = keys.iter().collect();
        let (all, keys) = (Shape::of(document)?, Shape::on(document, Some(&paths))?);
        self.all.merge(all);
        self.keys.merge(keys);
        Ok(())
    }
}

impl SeenNumbers {
    fn of(text: &[u8]) -> Scan<SeenNumbers> {
        let number = Number::json(text).map_err(|_| Broken("there is no value where one is due"))?;
        let (before, behind) = number.digits();
        let pointed = text.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
        Ok(SeenNumbers {
            any: true,
            pointed,
            beyond: !pointed && json::integer(text).is_none(),
            before,
            behind,
        })
    }

    fn merge(&mut self, other: SeenNumbers) {
        self.any |= other.any;
        self.pointed |= other.pointed;
        self.beyond |= other.beyond;
        self.before = self.before.max(other.before);
        self.behind = self.behind.max(other.behind);
    }

    fn scalar(&self, numbers: Numbers) -> Scalar {
        let decimal = Scalar::Decimal {
            precision: DIGITS as u8,
            // Only used where it fits.
            scale: self.behind.min(DIGITS) as u8,
        };
        let fits = self.before.saturating_add(self.behind) <= DIGITS;
        match numbers {
            Numbers::Auto | Numbers::Decimal if !self.pointed && !self.beyond => Scalar::BigInt,
            Numbers::Auto if !self.pointed && fits => decimal,
            Numbers::Decimal if fits => decimal,
            _ => Scalar::Double,
        }
    }
}

impl SeenTexts {
    fn of(quoted: &[u8]) -> SeenTexts {
        let mut texts = SeenTexts {
            any: true,
            ..SeenTexts::default()
        };
        // Most texts are none, and say so with their first character.
        if quoted.get(1).is_some_and(u8::is_ascii_digit) {
            let mut scratch = Vec::new();
            let mut is = |zoned| timestamp(quoted, zoned, Format::Iso, Unit::None, &mut scratch).is_ok();
            let (instant, local) = (is(true), is(false));
            let point = quoted.iter().position(|b| *b == b'.');
            let digits = point.map_or(0, |at| {
                quoted[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count()
            });
            // Nine are the most that are read.
            let digits = digits.min(9) as u8;
            texts.instants = instant.then_some(digits);
            texts.locals = local.then_some(digits);
        }
        texts.others = texts.instants.is_none() && texts.locals.is_none();
        texts
    }

    fn merge(&mut self, other: SeenTexts) {
        self.any |= other.any;
        self.others |= other.others;
        self.instants = self.instants.max(other.instants);
        self.locals = self.locals.max(other.locals);
    }

    fn scalar(&self, timestamps: bool) -> Scalar {
        match (self.instants, self.locals) {
            (Some(digits), None) if timestamps && !self.others => Scalar::Timestamp {
                precision: digits.max(3),
                zoned: true,
            },
            (None, Some(digits)) if timestamps && !self.others => Scalar::Timestamp {
                precision: digits.max(3),
                zoned: false,
            },
            _ => Scalar::String,
        }
    }
}

impl Fields {
    fn limited(self) -> Fields {
        match self {
            Fields::Known { fields, .. } if fields.len() > MOST_FIELDS => Fields::TooMany,
            fields => fields,
        }
    }

    fn merged(self, other: Fields) -> Fields {
        let (
            Fields::Known { objects, mut fields },
            Fields::Known {
                objects: more,
                fields: others,
            },
        ) = (self, other)
        else {
            return Fields::TooMany;
        };
        for (name, other) in others {
            match fields.get_mut(&name) {
                Some(field) => {
                    field.seen += other.seen;
                    field.shape.merge(other.shape);
                }
                None => drop(fields.insert(name, other)),
            }
        }
        Fields::Known {
            objects: objects + more,
            fields,
        }
        .limited()
    }

    fn kind(&self, rules: &Rules, nested: bool) -> Type {
        let Fields::Known { fields, .. } = self else {
            return rules.conflict();
        };
        let fields: Vec<_> = fields
            .iter()
            .filter(|(name, _)| is_name(name))
            .map(|(name, field)| (name.clone(), field.shape.kind(rules, nested)))
            .collect();
        // A ROW without fields is no type.
        if fields.is_empty() || !nested {
            return rules.conflict();
        }
        Type {
            kind: TypeKind::Row(fields),
            nullable: true,
        }
    }
}

/// Whether Flink takes it for the name of a column or field.
fn is_name(name: &str) -> bool {
    !name.trim().is_empty()
}

/// Fields in a type, itself included.
fn size(kind: &Type) -> usize {
    match &kind.kind {
        TypeKind::Scalar(_) => 1,
        TypeKind::Array(element) | TypeKind::Map(element) => 1 + size(element),
        TypeKind::Row(fields) => 1 + fields.iter().map(|(_, kind)| size(kind)).sum::<usize>(),
    }
}

/// A column of the table that a container is.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where its values are: names from the outside in.
    pub path: Vec<String>,
    /// Its type.
    pub kind: Type,
}

/// The table that a container is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inferred {
    /// The id, what the partition key is made of, the other fields by their names, and the time of the last change.
    pub columns: Vec<Column>,
    /// Names of the columns that the primary key is made of; empty where a document has no value for one of them, or values of several types.
    pub primary_key: Vec<String>,
}

impl Inferred {
    /// The table of these documents, in a container with this partition key. Of fields that are more than a table is to have columns it
    /// has the key alone, and one column for the whole document.
    pub fn new(documents: &Documents, keys: &KeyPaths, rules: &Rules) -> Inferred {
        let inferred = Self::nesting(documents, keys, rules, true);
        let fields: usize = inferred.columns.iter().map(|column| size(&column.kind)).sum();
        match fields > MOST_IN_ALL {
            true => Self::nesting(documents, keys, rules, false),
            false => inferred,
        }
    }

    /// `nested` says whether objects become rows.
    fn nesting(documents: &Documents, keys: &KeyPaths, rules: &Rules, nested: bool) -> Inferred {
        let none = BTreeMap::new();
        let top = documents.all.known_fields().map_or(&none, |(_, fields)| fields);
        // Containers from before keys have a path that no document has.
        let keys: Vec<&[String]> = keys.iter().filter(|path| *path != ["_partitionKey"]).collect();
        let others: Vec<&[String]> = keys.iter().copied().filter(|path| *path != [ID]).collect();
        let mut names = Names::new(top.keys().map(String::as_str));
        let mut columns = vec![Column {
            name: ID.into(),
            path: vec![ID.into()],
            kind: Type {
                nullable: false,
                ..Scalar::String.into()
            },
        }];
        // What a key is in the document it must stay: a timestamp could be written otherwise than it was read.
        let of_keys = Rules {
            timestamps: false,
            ..*rules
        };
        let mut is_key = true;
        for path in &others {
            let (shape, everywhere) = documents.keys.at(path);
            let unseen = documents.all.types() == 0;
            let (kind, one) = match shape {
                Some(shape) if shape.types() > 0 => {
                    let kind = shape.kind(&of_keys, nested);
                    let one = shape.types() == 1 && matches!(kind.kind, TypeKind::Scalar(_)) && !shape.deep;
                    (kind, one)
                }
                _ => (Scalar::String.into(), unseen),
            };
            let certain = one && (everywhere || unseen);
            is_key &= certain;
            columns.push(Column {
                name: names.of(path),
                path: path.to_vec(),
                kind: Type {
                    nullable: !certain,
                    ..kind
                },
            });
        }
        if !is_key {
            columns
                .iter_mut()
                .skip(1)
                .for_each(|column| column.kind.nullable = true);
        }
        let primary_key = columns
            .iter()
            .filter(|_| is_key)
            .map(|column| column.name.clone())
            .collect();
        let mut rest = Rest {
            keys: &others,
            rules,
            nested,
            names: &mut names,
            columns: &mut columns,
        };
        rest.add(top, &mut Vec::new());
        if documents.all.objects == Some(Fields::TooMany) {
            columns.push(Column {
                name: WHOLE.into(),
                path: Vec::new(),
                kind: rules.conflict(),
            });
        }
        // Nobody has it for a key, but who knows.
        if !others.contains(&&[TIME.to_owned()][..]) {
            columns.push(Column {
                name: TIME.into(),
                path: vec![TIME.into()],
                kind: Scalar::BigInt.into(),
            });
        }
        Inferred { columns, primary_key }
    }
}

/// The columns beside the key.
struct Rest<'a> {
    /// Without the id.
    keys: &'a [&'a [String]],
    rules: &'a Rules,
    nested: bool,
    names: &'a mut Names,
    columns: &'a mut Vec<Column>,
}

impl Rest<'_> {
    /// Adds fields of the object at `path`. An object that a part of the key lies in is taken apart: a field is written by one column alone.
    fn add(&mut self, fields: &BTreeMap<String, Field>, path: &mut Vec<String>) {
        for (name, field) in fields {
            let system =
                path.is_empty() && (SYSTEM.contains(&name.as_str()) || [ID, TIME].contains(&name.as_str()));
            if system || !is_name(name) {
                continue;
            }
            path.push(name.clone());
            let is_key = self.keys.contains(&path.as_slice());
            let holds_key = self.keys.iter().any(|key| key.starts_with(path));
            if holds_key && !is_key {
                if let Some((_, inner)) = field.shape.known_fields() {
                    self.add(inner, path);
                }
            } else if !is_key {
                self.columns.push(Column {
                    name: self.names.of(path),
                    path: path.clone(),
                    kind: field.shape.kind(self.rules, self.nested),
                });
            }
            path.pop();
        }
    }
}

/// Names that are taken.
struct Names(HashSet<String>);

impl Names {
    fn new<'a>(top: impl Iterator<Item = &'a str>) -> Names {
        let fixed = [ID, TIME].into_iter().chain(SYSTEM);
        Names(top.chain(fixed).map(str::to_owned).collect())
    }

    /// The name of a column: that of the field, or those on the way to it with `_` between them.
    fn of(&mut self, path: &[String]) -> String {
        if let [name] = path {
            if is_name(name) {
                return name.clone();
            }
        }
        let mut name = path.join("_");
        while self.0.contains(&name) || !is_name(&name) {
            name.push('_');
        }
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{json, Value};

    const RULES: Rules = Rules {
        numbers: Numbers::Auto,
        conflict: Conflict::Variant,
        timestamps: false,
    };

    fn shape(documents: &[&str]) -> Shape {
        let mut all = Shape::default();
        for document in documents {
            let one = Shape::of(document.as_bytes());
            all.merge(one.unwrap_or_else(|broken| panic!("{document}: {}", broken.0)));
        }
        all
    }

    fn known(documents: &[&str], keys: &KeyPaths) -> Documents {
        let mut all = Documents::default();
        for document in documents {
            let added = all.add(document.as_bytes(), keys);
            added.unwrap_or_else(|broken| panic!("{document}: {}", broken.0));
        }
        all
    }

    fn table(documents: &[&str], keys: &[&str], rules: &Rules) -> Inferred {
        let keys = KeyPaths::new(keys);
        Inferred::new(&known(documents, &keys), &keys, rules)
    }

    /// As in SQL.
    fn text(kind: &Type) -> String {
        let text = match &kind.kind {
            TypeKind::Scalar(scalar) => scalar.to_string(),
            TypeKind::Array(element) => format!("ARRAY<{}>", text(element)),
            TypeKind::Map(value) => format!("MAP<STRING, {}>", text(value)),
            TypeKind::Row(fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, kind)| format!("{name} {}", text(kind)))
                    .collect();
                format!("ROW<{}>", fields.join(", "))
            }
        };
        match kind.nullable {
            true => text,
            false => format!("{text} NOT NULL"),
        }
    }

    /// The columns between the id and the time of the last change.
    fn columns(documents: &[&str], keys: &[&str], rules: &Rules) -> String {
        let table = table(documents, keys, rules);
        let all: Vec<_> = table
            .columns
            .iter()
            .map(|c| format!("{} {}", c.name, text(&c.kind)))
            .collect();
        let [first, inner @ .., last] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(
            (first.as_str(), last.as_str()),
            ("id STRING NOT NULL", "_ts BIGINT")
        );
        inner.join(", ")
    }

    /// The type of one field by the documents' values of it.
    fn of_values(values: &[&str], rules: &Rules) -> String {
        let documents: Vec<_> = values.iter().map(|value| format!("{{\"v\":{value}}}")).collect();
        let documents: Vec<_> = documents.iter().map(String::as_str).collect();
        columns(&documents, &["/id"], rules).replace("v ", "")
    }

    #[test]
    fn values_of_one_type_have_that_type() {
        for (values, expected) in [
            (&["\"a\"", "\"2026-01-01T00:00:00Z\""][..], "STRING"),
            (&["true", "null", "false"], "BOOLEAN"),
            (&["1", "-9223372036854775808", "9223372036854775807"], "BIGINT"),
            (&["1", "9223372036854775808"], "DECIMAL(38, 0)"),
            (&["99999999999999999999999999999999999999"], "DECIMAL(38, 0)"),
            (&["999999999999999999999999999999999999999"], "DOUBLE"),
            (&["1", "1.5"], "DOUBLE"),
            (&["1.0"], "DOUBLE"),
            (&["1e3"], "DOUBLE"),
            (&["[1,null]", "[]"], "ARRAY<BIGINT>"),
            (&["[[1],[2.5]]"], "ARRAY<ARRAY<DOUBLE>>"),
            (
                &["{\"b\":1,\"a\":{\"c\":\"x\"}}", "{\"d\":[{\"e\":true}]}"],
                "ROW<a ROW<c STRING>, b BIGINT, d ARRAY<ROW<e BOOLEAN>>>",
            ),
            (&["{\"n\":1,\"N\":\"x\"}"], "ROW<N STRING, n BIGINT>"),
            (&["{\"n\":1,\"n\":\"x\"}"], "ROW<n STRING>"),
        ] {
            assert_eq!(of_values(values, &RULES), expected, "{values:?}");
        }
    }

    #[test]
    fn what_has_no_type_of_its_own_is_a_variant_or_a_text() {
        let as_text = Rules {
            conflict: Conflict::Text,
            ..RULES
        };
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        for (values, expected) in [
            (&["null"][..], "*"),
            (&["1", "\"1\""], "*"),
            (&["true", "{}"], "*"),
            (&["[]", "{}"], "*"),
            (&["{}"], "*"),
            (&["{\"\":1}", "{\" \":1}"], "*"),
            (&["[]"], "ARRAY<*>"),
            (&["[null]"], "ARRAY<*>"),
            (&["[1,\"a\"]"], "ARRAY<*>"),
            (&["{\"a\":null}"], "ROW<a *>"),
        ] {
            assert_eq!(
                of_values(values, &RULES),
                expected.replace('*', "VARIANT"),
                "{values:?}"
            );
            assert_eq!(
                of_values(values, &as_text),
                expected.replace('*', "STRING"),
                "{values:?}"
            );
        }
        let found = of_values(&[&deep], &RULES);
        assert_eq!(
            found,
            format!("{}VARIANT{}", "ARRAY<".repeat(DEPTH), ">".repeat(DEPTH))
        );
    }

    #[test]
    fn numbers_follow_their_rule() {
        let of = |numbers, values: &[&str]| of_values(values, &Rules { numbers, ..RULES });
        assert_eq!(of(Numbers::Double, &["1"]), "DOUBLE");
        for (values, expected) in [
            (&["1", "-2"][..], "BIGINT"),
            (&["1", "2.50", "0.125"], "DECIMAL(38, 3)"),
            (&["1e3"], "DECIMAL(38, 0)"),
            (&["1.5e-3"], "DECIMAL(38, 4)"),
            (&["12345678901234567890"], "DECIMAL(38, 0)"),
            (&["1e30", "1e-10"], "DOUBLE"),
            (&["1e400"], "DOUBLE"),
            (&["0.0"], "DECIMAL(38, 1)"),
        ] {
            assert_eq!(of(Numbers::Decimal, values), expected, "{values:?}");
        }
    }

    #[test]
    fn timestamps_are_such_where_that_is_asked_for_and_all_are() {
        let rules = Rules {
            timestamps: true,
            ..RULES
        };
        for (values, expected) in [
            (
                &[
                    "\"2026-01-01T00:00:00Z\"",
                    "\"2026-01-01T00:00:00.123456+01:00\"",
                    "null",
                ][..],
                "TIMESTAMP_LTZ(6)",
            ),
            (&["\"2026-01-01T00:00:00.1\""], "TIMESTAMP(3)"),
            (&["\"2026-01-01T00:00:00\"", "\"2026-01-01T00:00:00Z\""], "STRING"),
            (&["\"2026-01-01T00:00:00Z\"", "\"soon\""], "STRING"),
            (&["\"2026-02-30T00:00:00Z\""], "STRING"),
            (&["\"2026-01-01\""], "STRING"),
        ] {
            assert_eq!(of_values(values, &rules), expected, "{values:?}");
        }
        // Not in a key, which is what is written.
        let key = columns(&["{\"k\":\"2026-01-01T00:00:00Z\"}"], &["/k"], &rules);
        assert_eq!(key, "k STRING NOT NULL");
    }

    #[test]
    fn the_key_comes_first_and_is_one_where_every_document_has_it() {
        let document = r#"{"id":"1","z":1,"pk":"a","b":true,"_ts":1,"_rid":"r","_self":"s","_etag":"e","_attachments":"a"}"#;
        let found = table(&[document], &["/pk"], &RULES);
        assert_eq!(found.primary_key, ["id", "pk"]);
        assert_eq!(
            columns(&[document], &["/pk"], &RULES),
            "pk STRING NOT NULL, b BOOLEAN, z BIGINT"
        );
        // Nothing is known of an empty container.
        let empty = table(&[], &["/tenant", "/user"], &RULES);
        assert_eq!(empty.primary_key, ["id", "tenant", "user"]);
        assert_eq!(columns(&[], &["/tenant"], &RULES), "tenant STRING NOT NULL");
        assert_eq!(table(&[], &["/id"], &RULES).primary_key, ["id"]);
        assert_eq!(table(&[], &["/_partitionKey"], &RULES).primary_key, ["id"]);
        for (documents, expected) in [
            (&["{\"pk\":\"a\"}", "{}"][..], "pk STRING"),
            (&["{\"pk\":\"a\"}", "{\"pk\":null}"], "pk STRING"),
            (&["{}"], "pk STRING"),
            (&["{\"pk\":1}", "{\"pk\":\"a\"}"], "pk VARIANT"),
            (&["{\"pk\":{\"a\":1}}"], "pk ROW<a BIGINT>"),
        ] {
            assert_eq!(columns(documents, &["/pk"], &RULES), expected, "{documents:?}");
            assert!(
                table(documents, &["/pk"], &RULES).primary_key.is_empty(),
                "{documents:?}"
            );
        }
        let numbers = columns(&["{\"pk\":1,\"b\":true}"], &["/pk", "/b"], &RULES);
        assert_eq!(numbers, "pk BIGINT NOT NULL, b BOOLEAN NOT NULL");
    }

    #[test]
    fn an_object_that_the_key_lies_in_is_taken_apart() {
        let document =
            r#"{"id":"1","address":{"city":"Kiel","zip":1,"geo":{"lat":1.5}},"address_city":"taken"}"#;
        let found = table(&[document], &["/address/city"], &RULES);
        assert_eq!(found.primary_key, ["id", "address_city_"]);
        assert_eq!(found.columns[1].path, ["address", "city"]);
        assert_eq!(
            columns(&[document], &["/address/city"], &RULES),
            "address_city_ STRING NOT NULL, address_geo ROW<lat DOUBLE>, address_zip BIGINT, address_city STRING"
        );
        let missing = table(&[document, r#"{"address":null}"#], &["/address/city"], &RULES);
        assert!(missing.primary_key.is_empty());
        let quoted = table(&[r#"{"a":{"b c":"x"}}"#], &["/a/\"b c\""], &RULES);
        assert_eq!(quoted.primary_key, ["id", "a_b c"]);
    }

    #[test]
    fn objects_with_ids_for_names_are_no_rows() {
        let scores = |from: usize, to: usize| {
            let scores: Vec<_> = (from..to).map(|n| format!("\"u{n}\":{n}")).collect();
            format!("{{\"scores\":{{{}}}}}", scores.join(","))
        };
        let (one, two) = (scores(0, 400), scores(300, 700));
        assert_eq!(columns(&[&one, &two], &["/id"], &RULES), "scores VARIANT");
        assert!(columns(&[&one], &["/id"], &RULES).starts_with("scores ROW<u0 BIGINT"));
        // As are those of the documents themselves: the whole document is a column then.
        let wide = |from, to| scores(from, to).replace("{\"scores\":", "").replace("}}", "}");
        let found = columns(&[&wide(0, 400), &wide(300, 700)], &["/pk"], &RULES);
        assert_eq!(found, "pk STRING, _document VARIANT");
        // The key is known all the same, and so is one in such an object.
        for (key, path) in [("pk", "/pk"), ("at", "/scores/u9")] {
            let with = |document: String, n: i64| document.replacen('{', &format!("{{\"{key}\":{n},"), 1);
            let (one, two) = match key {
                "pk" => (with(wide(0, 400), 1), with(wide(300, 700), 2)),
                _ => (scores(0, 400), scores(9, 700)),
            };
            let found = table(&[&one, &two], &[path], &RULES);
            assert_eq!(found.primary_key.len(), 2, "{path}");
            assert_eq!(text(&found.columns[1].kind), "BIGINT NOT NULL", "{path}");
        }
        let mixed = columns(&[&wide(0, 501), "{\"u7\":\"x\"}"], &["/u7"], &RULES);
        assert_eq!(mixed, "u7 VARIANT, _document VARIANT");
        // Many of them together are too many as well.
        let many: Vec<_> = (0..6).map(|n| one.replace("scores", &format!("s{n}"))).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let found = columns(&many, &["/id"], &RULES);
        assert_eq!(
            found,
            "s0 VARIANT, s1 VARIANT, s2 VARIANT, s3 VARIANT, s4 VARIANT, s5 VARIANT"
        );
    }

    #[test]
    fn what_is_no_json_has_no_shape() {
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":nul}",
            "[1,]",
            "01",
            "{} {}",
        ] {
            assert!(Shape::of(text.as_bytes()).is_err(), "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            "[a-c]?".prop_map(Value::from),
            Just(json!("2026-01-01T00:00:00Z")),
            Just(json!("2026-01-01T00:00:00.1234")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-dA ]?", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn documents() -> impl Strategy<Value = Vec<Value>> {
        proptest::collection::vec(
            proptest::collection::btree_map("[a-d]", value(), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            0..6,
        )
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (
            prop_oneof![Just(Numbers::Auto), Just(Numbers::Double), Just(Numbers::Decimal)],
            prop_oneof![Just(Conflict::Variant), Just(Conflict::Text)],
            any::<bool>(),
        )
            .prop_map(|(numbers, conflict, timestamps)| Rules {
                numbers,
                conflict,
                timestamps,
            })
    }

    fn of(documents: &[Value]) -> Shape {
        let texts: Vec<_> = documents.iter().map(Value::to_string).collect();
        shape(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn known_of(documents: &[Value], keys: &KeyPaths) -> Documents {
        let texts: Vec<_> = documents.iter().map(Value::to_string).collect();
        known(&texts.iter().map(String::as_str).collect::<Vec<_>>(), keys)
    }

    proptest! {
        #[test]
        fn the_order_of_documents_does_not_matter(
            documents in documents().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        ) {
            prop_assert_eq!(of(&documents.0), of(&documents.1));
        }

        #[test]
        fn two_samples_together_are_the_sample_of_both(one in documents(), two in documents(), three in documents()) {
            let all = of(&[&one[..], &two, &three].concat());
            let mut left = of(&one);
            left.merge(of(&two));
            left.merge(of(&three));
            prop_assert_eq!(&left, &all);
            let mut behind = of(&two);
            behind.merge(of(&three));
            let mut right = of(&one);
            right.merge(behind);
            prop_assert_eq!(&right, &all);
            // And no document counts twice for a type.
            let keys = KeyPaths::new(&["/a"]);
            let again = known_of(&[&one[..], &one].concat(), &keys);
            prop_assert_eq!(Inferred::new(&again, &keys, &RULES), Inferred::new(&known_of(&one, &keys), &keys, &RULES));
            // What is known of the key is what is known of it among all.
            let (of_key, of_all, path) = (known_of(&one, &keys).keys, of(&one), ["a".to_owned()]);
            prop_assert_eq!(of_key.at(&path), of_all.at(&path));
        }

        /// The columns take the documents that they are made of, each value of them: nothing is dropped, and nothing does not fit.
        #[test]
        fn a_sample_is_read_by_its_own_columns(documents in documents(), rules in rules(), key in "/[a-e](/[a-d])?") {
            let keys = KeyPaths::new(&[&key]);
            let found = Inferred::new(&known_of(&documents, &keys), &keys, &rules);
            let names: HashSet<_> = found.columns.iter().map(|c| &c.name).collect();
            prop_assert_eq!(names.len(), found.columns.len());
            let paths: HashSet<_> = found.columns.iter().map(|c| &c.path).collect();
            prop_assert_eq!(paths.len(), found.columns.len());
            for (one, other) in found.columns.iter().flat_map(|a| found.columns.iter().map(move |b| (a, b))) {
                prop_assert!(one == other || !one.path.starts_with(&other.path), "{:?} is inside of {:?}", one, other);
            }
            let plan = crate::rows::Plan {
                missing_is_error: false,
                on_error: crate::rows::OnError::Fail,
                format: Format::Iso,
                unit: Unit::None,
                changelog: crate::rows::Changelog::Append,
                columns: found
                    .columns
                    .iter()
                    .map(|column| crate::rows::Column {
                        name: column.name.clone(),
                        origin: crate::rows::Origin::Path(column.path.clone()),
                        kind: column.kind.clone(),
                    })
                    .collect(),
                filter: None,
            };
            // As it comes out of a frame.
            let plan = crate::rows::Plan::decode(&plan.encode()).unwrap();
            let texts = documents.iter().map(|document| {
                let mut document = document.clone();
                document["id"] = "x".into();
                document.to_string()
            });
            let mut decoder = crate::rows::Decoder::new(&plan, []);
            let page = crate::page::decode_documents(crate::frame::encode_strings(&texts.collect::<Vec<_>>()), &mut decoder);
            let page = page.map_err(|e| TestCaseError::fail(e.message))?;
            prop_assert_eq!(page.records, documents.len());
        }

        #[test]
        fn any_bytes_have_a_shape_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:0-9.eE+-]*") {
            let _ = Shape::of(&bytes);
            let _ = Shape::of(text.as_bytes());
        }
    }
}
