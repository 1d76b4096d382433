//! One walk over a document, which notes where the columns' values stand, and the row that is written from there.

use std::borrow::Cow;
use std::sync::Arc;

use super::binary::{Buffer, Fixed, RowKind, Slot, SLOT};
use super::compiled::{segment, Compiled, Element, Form, Output, Source};
use super::plan::{Metadata, OnError, Plan, Scalar};
use super::text::{self, Read, Reason, Unit};
use super::variant;
use crate::json::{Broken, Scan, Scanner};

/// Most keys of an object whose order is remembered, and the longest of them.
const MAX_KEYS: usize = 1024;
const MAX_KEY: usize = 128;

/// Most characters of a value that a message shows.
const MAX_SHOWN: usize = 80;

const NOT_NULL: Reason = "the column is NOT NULL";
const MISSING_IS_ERROR: Reason = "json.fail-on-missing-field is set";

/// A change of a document, as the feed has it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The document; of a delete, what it was before, or nothing.
    pub document: &'a [u8],
    /// What happens to the row.
    pub kind: RowKind,
    /// Whether fields may be missing, whatever the plan says: of what was deleted only id and key are known as a rule.
    pub partial: bool,
    /// Its id; empty when it is not known.
    pub id: &'a str,
    /// JSON array of its partition key's components.
    pub partition_key: &'a str,
    /// When it was changed, in milliseconds since the epoch.
    pub timestamp: Option<i64>,
    /// The number of the write; negative: not given.
    pub lsn: i64,
    /// When it was committed, in seconds since the epoch; negative: not given.
    pub committed: i64,
    /// What was done, in a word.
    pub operation: &'static str,
    /// Whether its time to live ended it.
    pub expired: bool,
    /// When the page arrived, in milliseconds since the epoch.
    pub arrived: i64,
    /// The split that it was read from.
    pub split_id: &'a str,
}

/// Why there is no row of a document.
#[derive(Debug)]
pub enum Refused {
    /// It is no JSON.
    Broken(Reason),
    /// A value does not fit its column; the sentence says which, and why.
    Misfit(String),
}

/// A value that does not fit.
#[derive(Debug)]
struct Misfit {
    /// Names and numbers on the way to it, from the inside out.
    path: Vec<String>,
    /// Where the value stands; `None` when it is missing.
    value: Option<Span>,
    expected: String,
    reason: Reason,
}

/// Boxed, since it is rare and the other side of the result is small.
type Fit<T> = Result<T, Box<Misfit>>;

fn misfit(value: Option<Span>, expected: impl Into<String>, reason: Reason) -> Box<Misfit> {
    Box::new(Misfit {
        path: Vec::new(),
        value,
        expected: expected.into(),
        reason,
    })
}

/// Where a value stands in the document, and its elements in the list of places.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    /// 0: there is none.
    end: u32,
    /// Place of the first element, where they were looked for; else 0, which is no element's.
    elements: u32,
    count: u32,
}

impl Span {
    const MISSING: Span = Span {
        start: 0,
        end: 0,
        elements: 0,
        count: 0,
    };

    #[inline]
    fn new(start: usize, end: usize) -> Self {
        Span {
            start: start as u32,
            end: end as u32,
            ..Self::MISSING
        }
    }

    #[inline]
    fn of<'a>(&self, document: &'a [u8]) -> &'a [u8] {
        &document[self.start as usize..self.end as usize]
    }
}

/// A key that came at this place in the last object of its kind, and what is there to look for.
#[derive(Debug)]
struct Expected {
    /// From its first quote to the colon behind it, as it stood.
    literal: Vec<u8>,
    child: Option<u32>,
}

/// Makes rows of documents, one behind the other. It remembers what documents look like, so that each feed should have one of its own.
#[derive(Debug)]
pub struct Decoder {
    plan: Arc<Compiled>,
    work: Work,
}

#[derive(Debug, Default)]
struct Work {
    out: Buffer,
    /// Where values stand: those of the document's shape, and behind them those of elements for the time of their array.
    places: Vec<Span>,
    /// The keys of each node's last object, in their order.
    keys: Vec<Vec<Expected>>,
    /// Characters of a text with escapes.
    scratch: Vec<u8>,
    variant: variant::Builder,
    nulled: u64,
}

impl Decoder {
    /// A decoder by a plan.
    pub fn new(plan: &Plan) -> Self {
        Self::of(Arc::new(Compiled::from(plan)))
    }

    /// A decoder by a plan that others may have too.
    pub fn of(plan: Arc<Compiled>) -> Self {
        let keys = plan.nodes.iter().map(|_| Vec::new()).collect();
        Decoder {
            plan,
            work: Work {
                keys,
                ..Work::default()
            },
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Compiled {
        &self.plan
    }

    /// The rows so far, which begins the next page.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.work.out.bytes)
    }

    /// Bytes of the rows so far.
    pub fn len(&self) -> usize {
        self.work.out.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values became null because they did not fit, since the last call.
    pub fn take_nulled(&mut self) -> u64 {
        std::mem::take(&mut self.work.nulled)
    }

    /// Appends the row of a change; it stands behind those that were there.
    ///
    /// # Errors
    /// When there is none; then nothing is appended.
    pub fn row(&mut self, change: &Change<'_>) -> Result<(), Refused> {
        let (plan, work) = (&*self.plan, &mut self.work);
        work.begin(plan);
        let mut scanner = Scanner {
            bytes: change.document,
            at: 0,
        };
        work.field(plan, plan.shape.root, &mut scanner, 0)
            .map_err(|Broken(why)| Refused::Broken(why))?;
        work.finish(plan, change)
    }

    /// Appends the row of a delete of which no more is known than its id and key: each the JSON of what stands at a path.
    ///
    /// # Errors
    /// When there is none; then nothing is appended.
    pub fn key_row(&mut self, change: &Change<'_>, known: &[(&[String], &[u8])]) -> Result<(), Refused> {
        let (plan, work) = (&*self.plan, &mut self.work);
        work.begin(plan);
        let mut document = Vec::new();
        for (path, json) in known {
            let span = Span::new(document.len(), document.len() + json.len());
            document.extend_from_slice(json);
            if let Some(node) = plan.at(path) {
                for take in &node.takes {
                    work.places[take.place as usize] = span;
                }
            }
        }
        work.finish(
            plan,
            &Change {
                document: &document,
                ..*change
            },
        )
    }
}

impl Work {
    fn begin(&mut self, plan: &Compiled) {
        self.places.clear();
        self.places.resize(plan.shape.places as usize, Span::MISSING);
    }

    /// Writes the row whose values were found.
    fn finish(&mut self, plan: &Compiled, change: &Change<'_>) -> Result<(), Refused> {
        let start = self.out.len();
        self.fields(plan, &plan.shape.outputs, change, 0, change.kind)
            .map_err(|misfit| {
                self.out.bytes.truncate(start);
                Refused::Misfit(misfit.describe(plan, change.document))
            })
    }

    /// Reads the value that begins here, and notes it where the node says.
    #[inline]
    fn field(&mut self, plan: &Compiled, node: u32, s: &mut Scanner<'_>, base: usize) -> Scan<()> {
        let number = node;
        let node = &plan.nodes[number as usize];
        let first = s.peek()?;
        let start = s.at;
        let mut elements = None;
        if !node.is_leaf() {
            // The last of two equal keys counts, with all that is below it.
            for place in &node.below {
                self.places[base + *place as usize] = Span::MISSING;
            }
        }
        match (first, node.takes.as_slice()) {
            (b'{', _) if !node.is_leaf() => self.object(plan, number, s, base)?,
            // Elements of elements are looked for later: these must be side by side.
            (b'[', [only]) if base == 0 && only.elements.is_some() => {
                elements = match only.elements {
                    Some(element) => Some(self.elements(&plan.elements[element as usize], plan, s)?),
                    None => None,
                };
            }
            _ => drop(s.value()?),
        }
        for take in &node.takes {
            let mut span = Span::new(start, s.at);
            if let Some((elements, count)) = elements {
                (span.elements, span.count) = (elements as u32, count as u32);
            }
            self.places[base + take.place as usize] = span;
        }
        Ok(())
    }

    /// Walks through the object that begins here.
    fn object(&mut self, plan: &Compiled, node: u32, s: &mut Scanner<'_>, base: usize) -> Scan<()> {
        s.expect(b'{', "an object is missing")?;
        if s.peek()? == b'}' {
            s.at += 1;
            return Ok(());
        }
        let mut place = 0;
        loop {
            match self.key(plan, node, s, &mut place)? {
                Some(child) => self.field(plan, child, s, base)?,
                None => drop(s.value()?),
            }
            match s.peek()? {
                b',' => s.at += 1,
                b'}' => {
                    s.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken("there is no comma between two fields")),
            }
        }
    }

    /// Reads a key with its colon; the node below it, if any. Documents of a container look alike: the key that came at this place in the
    /// last one is compared first, and the one behind it, in case that one is left out here.
    #[inline]
    fn key(
        &mut self,
        plan: &Compiled,
        node: u32,
        s: &mut Scanner<'_>,
        place: &mut usize,
    ) -> Scan<Option<u32>> {
        s.peek()?;
        let rest = &s.bytes[s.at..];
        let keys = &mut self.keys[node as usize];
        for skipped in 0..2 {
            if let Some(expected) = keys.get(*place + skipped) {
                if rest.starts_with(&expected.literal) {
                    s.at += expected.literal.len();
                    *place += skipped + 1;
                    return Ok(expected.child);
                }
            }
        }
        let start = s.at;
        let key = s.key()?;
        let literal = &s.bytes[start..s.at];
        let node = &plan.nodes[node as usize];
        let child = match key.is_escaped() {
            false => node.child(key.text()),
            true => key.decoded().and_then(|name| node.child(name.as_bytes())),
        };
        if literal.len() <= MAX_KEY {
            if let Some(expected) = keys.get_mut(*place) {
                expected.literal.clear();
                expected.literal.extend_from_slice(literal);
                expected.child = child;
            } else if keys.len() < MAX_KEYS {
                keys.push(Expected {
                    literal: literal.to_vec(),
                    child,
                });
            }
        }
        *place += 1;
        Ok(child)
    }

    /// Reads the elements of the array that begins here: the place of the first, and how many there are.
    fn elements(
        &mut self,
        element: &Element,
        plan: &Compiled,
        s: &mut Scanner<'_>,
    ) -> Scan<(usize, usize)> {
        let first = self.places.len();
        s.expect(b'[', "an array is missing")?;
        if s.peek()? == b']' {
            s.at += 1;
            return Ok((first, 0));
        }
        let mut count = 0;
        loop {
            self.element(element, plan, s)?;
            count += 1;
            match s.peek()? {
                b',' => s.at += 1,
                b']' => {
                    s.at += 1;
                    return Ok((first, count));
                }
                _ => return Err(Broken("there is no comma between two elements")),
            }
        }
    }

    /// Reads the element or value that begins here into places behind all others.
    fn element(&mut self, element: &Element, plan: &Compiled, s: &mut Scanner<'_>) -> Scan<()> {
        let place = self.places.len();
        self.places.resize(place + element.stride, Span::MISSING);
        let first = s.peek()?;
        let start = s.at;
        match &element.form {
            Form::Row(shape) if first == b'{' => self.object(plan, shape.root, s, place + 1)?,
            _ => drop(s.value()?),
        }
        self.places[place] = Span::new(start, s.at);
        Ok(())
    }

    /// Writes a row of these fields at the end of the buffer.
    fn fields(
        &mut self,
        plan: &Compiled,
        outputs: &[Output],
        change: &Change<'_>,
        base: usize,
        kind: RowKind,
    ) -> Fit<()> {
        let fixed = self.out.row(kind, outputs.len());
        for (number, output) in outputs.iter().enumerate() {
            let before = self.out.len();
            let nullable = output.nullable || change.partial;
            let written = self.output(plan, output, change, base, fixed.slot(number));
            let written = match written {
                Ok(false) if !nullable => {
                    let value = match &output.source {
                        Source::Document(place, _) => Some(self.places[base + *place as usize]),
                        _ => None,
                    };
                    Err(misfit(value.filter(|span| span.end > 0), "value", NOT_NULL))
                }
                written => written,
            };
            self.settle(plan, &fixed, number, before, nullable, written)
                .map_err(|mut misfit| {
                    misfit.path.push(output.name.clone());
                    misfit
                })?;
        }
        Ok(())
    }

    /// What becomes of a value that was written, is null, or does not fit.
    fn settle(
        &mut self,
        plan: &Compiled,
        fixed: &Fixed,
        number: usize,
        before: usize,
        nullable: bool,
        written: Fit<bool>,
    ) -> Fit<()> {
        match written {
            Ok(true) => {}
            Ok(false) => self.out.null(fixed, number),
            Err(_) if nullable && plan.on_error == OnError::NullField => {
                // Its slot is written last, and so still empty.
                self.out.bytes.truncate(before);
                self.out.null(fixed, number);
                self.nulled += 1;
            }
            Err(misfit) => return Err(misfit),
        }
        Ok(())
    }

    /// Writes a field; false when it is null.
    fn output(
        &mut self,
        plan: &Compiled,
        output: &Output,
        change: &Change<'_>,
        base: usize,
        slot: Slot,
    ) -> Fit<bool> {
        match &output.source {
            Source::Document(place, form) => {
                let place = base + *place as usize;
                let span = self.places[place];
                if span.end == 0 {
                    return match plan.missing_is_error && !change.partial {
                        true => Err(misfit(None, "", MISSING_IS_ERROR)),
                        false => Ok(false),
                    };
                }
                if span.of(change.document) == b"null" {
                    return Ok(false);
                }
                self.value(plan, form, change, span, base, slot).map(|()| true)
            }
            Source::Metadata(metadata) => Ok(self.metadata(*metadata, change, slot)),
            Source::Constant(value) => {
                self.out.binary(slot, value.as_bytes());
                Ok(true)
            }
        }
    }

    /// Writes what the feed knows; false when it does not.
    fn metadata(&mut self, metadata: Metadata, change: &Change<'_>, slot: Slot) -> bool {
        let out = &mut self.out;
        let (text, millis) = match metadata {
            Metadata::Id => (change.id, None),
            Metadata::PartitionKey => (change.partition_key, None),
            Metadata::Operation => (change.operation, None),
            Metadata::SplitId => (change.split_id, None),
            Metadata::Timestamp => ("", change.timestamp),
            Metadata::Committed => {
                let known = Some(change.committed).filter(|seconds| *seconds >= 0);
                ("", known.map(|seconds| seconds.saturating_mul(1000)))
            }
            Metadata::Arrived => ("", Some(change.arrived)),
            Metadata::Lsn => {
                if change.lsn >= 0 {
                    out.fixed(slot, change.lsn.to_le_bytes());
                }
                return change.lsn >= 0;
            }
            Metadata::Expired => {
                out.fixed(slot, [u8::from(change.expired)]);
                return true;
            }
        };
        if let Some(millis) = millis {
            // The same bytes as with a precision of 3 or less.
            out.fixed(slot, millis.to_le_bytes());
            return true;
        }
        if !text.is_empty() {
            out.binary(slot, text.as_bytes());
        }
        !text.is_empty()
    }

    /// Writes a value that is there and not null. `inner` is where the places of its fields begin.
    fn value(
        &mut self,
        plan: &Compiled,
        form: &Form,
        change: &Change<'_>,
        span: Span,
        inner: usize,
        slot: Slot,
    ) -> Fit<()> {
        let json = span.of(change.document);
        match form {
            Form::Scalar { scalar, unit } => self
                .scalar(plan, *scalar, *unit, json, slot)
                .map_err(|reason| misfit(Some(span), scalar.to_string(), reason)),
            Form::Fields(outputs) => self.nested(plan, outputs, change, span, inner, slot),
            Form::Row(shape) => self.nested(plan, &shape.outputs, change, span, inner, slot),
            Form::Array(number) => self.array(plan, &plan.elements[*number as usize], change, span, slot),
            Form::Map(number) => self.map(plan, &plan.elements[*number as usize], change, span, slot),
        }
    }

    fn nested(
        &mut self,
        plan: &Compiled,
        outputs: &[Output],
        change: &Change<'_>,
        span: Span,
        inner: usize,
        slot: Slot,
    ) -> Fit<()> {
        if span.of(change.document).first() != Some(&b'{') {
            return Err(misfit(Some(span), "ROW", "it is not an object"));
        }
        let start = self.out.len();
        self.fields(plan, outputs, change, inner, RowKind::Insert)?;
        self.out.variable(slot, start);
        Ok(())
    }

    fn array(
        &mut self,
        plan: &Compiled,
        element: &Element,
        change: &Change<'_>,
        span: Span,
        slot: Slot,
    ) -> Fit<()> {
        if span.of(change.document).first() != Some(&b'[') {
            return Err(misfit(Some(span), "ARRAY", "it is not an array"));
        }
        let before = self.places.len();
        let (first, count) = match span.elements {
            0 => {
                let mut scanner = Scanner {
                    bytes: &change.document[..span.end as usize],
                    at: span.start as usize,
                };
                self.elements(element, plan, &mut scanner)
                    .map_err(|Broken(why)| misfit(Some(span), "ARRAY", why))?
            }
            first => (first as usize, span.count as usize),
        };
        let start = self.out.len();
        let fixed = self.out.array(count, element.width);
        for number in 0..count {
            let place = first + number * element.stride;
            self.one(plan, element, change, place, &fixed, number)
                .map_err(|mut misfit| {
                    misfit.path.push(number.to_string());
                    misfit
                })?;
        }
        self.places.truncate(before);
        self.out.variable(slot, start);
        Ok(())
    }

    /// Writes one element, or one value of a map.
    fn one(
        &mut self,
        plan: &Compiled,
        element: &Element,
        change: &Change<'_>,
        place: usize,
        fixed: &Fixed,
        number: usize,
    ) -> Fit<()> {
        let span = self.places[place];
        let before = self.out.len();
        let written = match (span.of(change.document), element.nullable) {
            (b"null", true) => Ok(false),
            (b"null", false) => Err(misfit(Some(span), "value", "the elements are NOT NULL")),
            _ => self
                .value(plan, &element.form, change, span, place + 1, fixed.slot(number))
                .map(|()| true),
        };
        self.settle(plan, fixed, number, before, element.nullable, written)
    }

    fn map(
        &mut self,
        plan: &Compiled,
        element: &Element,
        change: &Change<'_>,
        span: Span,
        slot: Slot,
    ) -> Fit<()> {
        if span.of(change.document).first() != Some(&b'{') {
            return Err(misfit(Some(span), "MAP", "it is not an object"));
        }
        let before = self.places.len();
        let mut scanner = Scanner {
            bytes: &change.document[..span.end as usize],
            at: span.start as usize,
        };
        let names = self
            .entries(element, plan, &mut scanner)
            .map_err(|Broken(why)| misfit(Some(span), "MAP", why))?;
        let mut keys = Vec::with_capacity(names.len());
        for name in &names {
            let text = text::unquoted(name.of(change.document), &mut self.scratch)
                .map_err(|reason| misfit(Some(*name), "key of a MAP", reason))?;
            keys.push(match text.len() + 2 == name.of(change.document).len() {
                // Without escapes, which are longer than what they stand for.
                true => Cow::Borrowed(&change.document[name.start as usize + 1..name.end as usize - 1]),
                false => Cow::Owned(text.to_vec()),
            });
        }
        let entries = distinct(&keys);
        let start = self.out.len();
        self.out.bytes.extend_from_slice(&[0; 4]);
        let fixed = self.out.array(entries.len(), SLOT);
        for (number, (first, _)) in entries.iter().enumerate() {
            self.out.binary(fixed.slot(number), &keys[*first]);
        }
        let size = self.out.len() - start - 4;
        self.out.put(start, (size as u32).to_le_bytes());
        let fixed = self.out.array(entries.len(), element.width);
        for (number, (_, last)) in entries.iter().enumerate() {
            let place = before + *last * element.stride;
            self.one(plan, element, change, place, &fixed, number)
                .map_err(|mut misfit| {
                    misfit.path.push(String::from_utf8_lossy(&keys[*last]).into_owned());
                    misfit
                })?;
        }
        self.places.truncate(before);
        self.out.variable(slot, start);
        Ok(())
    }

    /// Reads the object that begins here, its values into places behind all others; where its keys stand.
    fn entries(&mut self, element: &Element, plan: &Compiled, s: &mut Scanner<'_>) -> Scan<Vec<Span>> {
        let mut keys = Vec::new();
        s.expect(b'{', "an object is missing")?;
        if s.peek()? == b'}' {
            s.at += 1;
            return Ok(keys);
        }
        loop {
            s.peek()?;
            let start = s.at;
            let key = s.key()?;
            keys.push(Span::new(start, start + key.quoted().len()));
            self.element(element, plan, s)?;
            match s.peek()? {
                b',' => s.at += 1,
                b'}' => {
                    s.at += 1;
                    return Ok(keys);
                }
                _ => return Err(Broken("there is no comma between two fields")),
            }
        }
    }

    fn scalar(
        &mut self,
        plan: &Compiled,
        scalar: Scalar,
        unit: Unit,
        json: &[u8],
        slot: Slot,
    ) -> Read<()> {
        let (out, scratch) = (&mut self.out, &mut self.scratch);
        match scalar {
            Scalar::Boolean => out.fixed(slot, [u8::from(text::boolean(json, scratch)?)]),
            Scalar::TinyInt => out.fixed(slot, text::small::<i8>(json, scratch)?.to_le_bytes()),
            Scalar::SmallInt => out.fixed(slot, text::small::<i16>(json, scratch)?.to_le_bytes()),
            Scalar::Int => out.fixed(slot, text::small::<i32>(json, scratch)?.to_le_bytes()),
            Scalar::BigInt => out.fixed(slot, text::integer(json, scratch)?.to_le_bytes()),
            Scalar::Float => {
                let value = text::float::<f32>(json, scratch, |f| f.is_finite())?;
                out.fixed(slot, value.to_le_bytes());
            }
            Scalar::Double => {
                let value = text::float::<f64>(json, scratch, |f| f.is_finite())?;
                out.fixed(slot, value.to_le_bytes());
            }
            Scalar::Decimal { precision, scale } => {
                let unscaled = text::decimal(json, precision, scale, scratch)?;
                out.decimal(slot, precision, unscaled);
            }
            Scalar::String => out.binary(slot, text::text(json, scratch)?),
            Scalar::RawJson => out.binary(slot, text::raw(json)?),
            Scalar::Bytes => {
                let start = out.len();
                text::base64(json, scratch, &mut out.bytes)?;
                out.appended(slot, start);
            }
            Scalar::Date => out.fixed(slot, text::date(json, scratch)?.to_le_bytes()),
            Scalar::Time { .. } => out.fixed(slot, text::time(json, scratch)?.to_le_bytes()),
            Scalar::Timestamp { precision, zoned } => {
                let (millis, nanos) = text::timestamp(json, zoned, plan.format, unit, scratch)?;
                out.timestamp(slot, precision, millis, nanos);
            }
            Scalar::Variant => {
                let start = out.len();
                self.variant.append(json, &mut out.bytes)?;
                out.variable(slot, start);
            }
        }
        Ok(())
    }
}

/// The places of keys that are first of their kind, each with that of the last one of its kind, whose value counts.
fn distinct(keys: &[Cow<'_, [u8]>]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    // Stable, so that equal ones stay in their order.
    order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    let mut found: Vec<_> = order
        .chunk_by(|a, b| keys[*a] == keys[*b])
        .filter_map(|equal| Some((*equal.first()?, *equal.last()?)))
        .collect();
    found.sort_unstable();
    found
}

impl Misfit {
    /// Which value it is, and why it does not fit.
    fn describe(mut self: Box<Self>, plan: &Compiled, document: &[u8]) -> String {
        let column = self.path.pop().unwrap_or_default();
        let number = plan.shape.outputs.iter().position(|output| output.name == column);
        let pointer = number.map_or("", |number| &plan.pointers[number]);
        let inside: String = self.path.iter().rev().map(|name| segment(name)).collect();
        let what = match self.value {
            None => "is missing, and".to_owned(),
            Some(span) => match span.of(document) {
                b"null" => "is null, and".to_owned(),
                value => {
                    let text = String::from_utf8_lossy(value);
                    let shown: String = text.chars().take(MAX_SHOWN).collect();
                    let more = if shown.len() < text.len() { ".." } else { "" };
                    format!("is {shown}{more}, which is no {}:", self.expected)
                }
            },
        };
        format!(
            "the value of column '{column}' at '{pointer}{inside}' {what} {}",
            self.reason
        )
    }
}
