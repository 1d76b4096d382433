//! One walk over a document, which notes where the columns' values stand, and the row that is written from there.

use std::borrow::Cow;
use std::sync::Arc;

use super::binary::{Buffer, Fixed, RowKind, Slot, SLOT};
use super::compiled::{Compiled, Element, Form, Output, Source};
use super::filter::Rows;
use super::plan::{Metadata, OnError, Plan, Scalar};
use super::text::{self, Read, Reason, Unit};
use super::variant;
use crate::json::{end_of_value, has_length, segment, Broken, Scan, Scanner};

/// Most keys of an object whose order is remembered, and the longest of them.
const MAX_KEYS: usize = 1024;
const MAX_KEY: usize = 128;

/// How large things may become. A document has 2 MiB at most, and needs many times as much only where empty elements become rows of
/// hundreds of fields.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes of a row.
    row: usize,
    /// Places of a document: values of columns, and of elements with their fields.
    places: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            row: 1 << 28,
            places: 1 << 24,
        }
    }
}

/// Places that are kept from one document to the next.
const KEPT_PLACES: usize = 1 << 16;

/// Most characters of a value that a message shows.
const MAX_SHOWN: usize = 80;

const NOT_NULL: Reason = "the column is NOT NULL";
const TOO_LARGE: Reason = "its row would be larger than 256 MiB";
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

impl<'a> Change<'a> {
    /// A document as it is, of which no more is known: an insert that no feed has told of.
    pub fn read(document: &'a [u8]) -> Self {
        Change {
            document,
            kind: RowKind::Insert,
            partial: false,
            id: "",
            partition_key: "",
            timestamp: None,
            lsn: -1,
            committed: -1,
            operation: "",
            expired: false,
            arrived: 0,
            split_id: "",
        }
    }
}

/// What the feed wants to know of a document that was walked through: the text of each, empty where it is missing.
#[derive(Clone, Copy, Debug)]
pub struct Walked<'a> {
    /// The document itself.
    pub document: &'a [u8],
    /// Its id, quotes included.
    pub id: &'a [u8],
    /// When it was changed (`_ts`).
    pub ts: &'a [u8],
    /// The number of the write, where it has one (`_lsn`).
    pub lsn: &'a [u8],
}

/// Why there is no row of a document.
#[derive(Debug)]
pub enum Refused {
    /// It is no JSON.
    Broken(Reason),
    /// A value does not fit its column; the sentence says which, and why.
    Misfit(String),
    /// It fits, and the plan's filter does not let it pass.
    Filtered,
}

/// A value that does not fit.
#[derive(Debug)]
struct Misfit {
    /// Names and numbers on the way to it, from the inside out.
    path: Vec<String>,
    /// Where the value stands; `None` when it is missing.
    value: Option<Span>,
    /// What it should be; empty when that is not the matter.
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
    /// How many elements there are. Without them [`Span::PLAIN`] for a string that is known to have no escapes.
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

    const PLAIN: u32 = 1;

    /// Of a value that was just passed.
    #[inline]
    fn passed(start: usize, end: usize, plain: bool) -> Self {
        Span {
            count: if plain { Span::PLAIN } else { 0 },
            ..Span::new(start, end)
        }
    }

    /// Whether it is a string that is known to have no escapes.
    #[inline]
    fn is_plain(&self) -> bool {
        self.elements == 0 && self.count == Span::PLAIN
    }

    #[inline]
    fn of<'a>(&self, document: &'a [u8]) -> &'a [u8] {
        &document[self.start as usize..self.end as usize]
    }
}

/// What becomes of the value of a key.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It is passed over.
    Pass,
    /// Where it stands is noted in this place.
    Note(u32),
    /// Where it stands is noted in all places that this node has.
    NoteAll(u32),
    /// This node says.
    Look(u32),
}

impl Then {
    fn of(plan: &Compiled, child: Option<u32>) -> Self {
        let Some(child) = child else {
            return Then::Pass;
        };
        let node = &plan.nodes[child as usize];
        if !node.is_leaf() || node.takes.iter().any(|take| take.elements.is_some()) {
            return Then::Look(child);
        }
        match node.takes.as_slice() {
            [only] => Then::Note(only.place),
            _ => Then::NoteAll(child),
        }
    }
}

/// How many values of the same length make it likely that the next one has it.
const STEADY: u32 = 4;

/// Bytes of a key that are compared at once.
const HEAD: usize = 16;

/// A key that came at this place in the last object of its kind, and what is there to look for.
#[derive(Debug)]
struct Expected {
    /// The first bytes of the literal, and which of them count.
    head: u128,
    mask: u128,
    /// From its first quote to the colon behind it, as it stood.
    literal: Vec<u8>,
    then: Then,
    /// The length of the last value, and how many in a row had it, up to [`STEADY`].
    length: u32,
    steady: u32,
}

impl Expected {
    fn new(literal: &[u8], then: Then) -> Self {
        let mut expected = Expected {
            head: 0,
            mask: 0,
            literal: Vec::new(),
            then,
            length: 0,
            steady: 0,
        };
        expected.set(literal, then);
        expected
    }

    fn set(&mut self, literal: &[u8], then: Then) {
        let (mut head, mut mask) = ([0; HEAD], [0; HEAD]);
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(literal) {
            (*head, *mask) = (*byte, 0xff);
        }
        (self.head, self.mask) = (u128::from_le_bytes(head), u128::from_le_bytes(mask));
        self.literal.clear();
        self.literal.extend_from_slice(literal);
        self.then = then;
        self.steady = 0;
    }

    /// Where the value ends that begins here, and whether it is a string without escapes. Where the last ones had all the same length, this
    /// one has it too as a rule.
    #[inline(always)]
    fn end_of_value(&mut self, bytes: &[u8], at: usize) -> Scan<(usize, bool)> {
        let length = self.length as usize;
        if self.steady == STEADY {
            if let Some(plain) = has_length(bytes, at, length) {
                return Ok((at + length, plain));
            }
            self.steady = 0;
        }
        let (end, plain) = end_of_value(bytes, at)?;
        if end - at == length {
            self.steady += 1;
        } else {
            self.length = (end - at) as u32;
            self.steady = 0;
        }
        Ok((end, plain))
    }

    /// Whether the text begins with it. `head` is the text's, where it has as many bytes.
    #[inline(always)]
    fn begins(&self, text: &[u8], head: Option<u128>) -> bool {
        match head {
            Some(head) if (head ^ self.head) & self.mask != 0 => false,
            Some(_) => self.literal.len() <= HEAD || text[HEAD..].starts_with(&self.literal[HEAD..]),
            None => text.starts_with(&self.literal),
        }
    }
}

/// Makes rows of documents, one behind the other. It remembers what documents look like, so that each feed should have one of its own.
#[derive(Debug)]
pub struct Decoder {
    plan: Arc<Compiled>,
    work: Work,
    /// Bytes of the rows of the last page.
    last: usize,
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
    /// Where the row that is being written begins.
    start: usize,
    nulled: u64,
    limits: Limits,
}

impl Decoder {
    /// A decoder by a plan, for documents whose partition key is at these paths.
    pub fn new<'k>(plan: &Plan, keys: impl IntoIterator<Item = &'k [String]>) -> Self {
        Self::of(Arc::new(Compiled::new(plan, keys)))
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
            last: 0,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Compiled {
        &self.plan
    }

    /// Begins a page, of about as many rows as the last one had, and at most so many bytes. What a page that failed has left is dropped.
    pub fn begin(&mut self, most: usize) {
        self.work.nulled = 0;
        self.work.out.bytes.clear();
        self.work.out.bytes.reserve((self.last + self.last / 8).min(most));
    }

    /// The rows so far.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.work.out.bytes);
        if !bytes.is_empty() {
            self.last = bytes.len();
        }
        // They wait until the job takes them, and count by their length.
        if bytes.capacity() > bytes.len() + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        bytes
    }

    /// Bytes of the rows so far.
    pub fn len(&self) -> usize {
        self.work.out.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values of the page became null because they did not fit.
    pub fn take_nulled(&mut self) -> u64 {
        std::mem::take(&mut self.work.nulled)
    }

    /// Walks through the document that begins here, and notes where the values of its row stand. The scanner is left behind it, and the
    /// components of its partition key are in `keys`, which has at least as many places: empty where one is missing.
    ///
    /// # Errors
    /// When it is no JSON, as far as it was looked at.
    pub fn walk<'a>(&mut self, s: &mut Scanner<'a>, keys: &mut [&'a [u8]]) -> Scan<Walked<'a>> {
        let (plan, work) = (&*self.plan, &mut self.work);
        s.peek()?;
        let text = &s.bytes[s.at..];
        // Places count from the start of the document.
        let mut scanner = Scanner { bytes: text, at: 0 };
        work.begin(plan);
        work.field(plan, plan.shape.root, &mut scanner, 0)?;
        if u32::try_from(scanner.at).is_err() {
            return Err(Broken("it is larger than 4 GiB"));
        }
        s.at += scanner.at;
        let known = |place: &u32| work.places[*place as usize].of(text);
        for (key, place) in keys.iter_mut().zip(&plan.known.keys) {
            *key = known(place);
        }
        Ok(Walked {
            document: &text[..scanner.at],
            id: known(&plan.known.id),
            ts: known(&plan.known.ts),
            lsn: known(&plan.known.lsn),
        })
    }

    /// Appends the row of a change whose document was walked through last; it stands behind those that were there.
    ///
    /// # Errors
    /// When there is none; then nothing is appended.
    pub fn walked_row(&mut self, change: &Change<'_>) -> Result<(), Refused> {
        self.work.finish(&self.plan, change)
    }

    /// Appends the row of a change whose document stands alone.
    ///
    /// # Errors
    /// When there is none; then nothing is appended.
    pub fn row(&mut self, change: &Change<'_>) -> Result<(), Refused> {
        let mut scanner = Scanner {
            bytes: change.document,
            at: 0,
        };
        let walked = self
            .walk(&mut scanner, &mut [])
            .map_err(|Broken(why)| Refused::Broken(why))?;
        // Without blanks in front of it: places count from its first byte.
        self.walked_row(&Change {
            document: walked.document,
            ..*change
        })
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
        if self.places.capacity() > 2 * KEPT_PLACES {
            self.places.shrink_to(KEPT_PLACES);
        }
        self.places.resize(plan.shape.places as usize, Span::MISSING);
    }

    /// Writes the row whose values were found.
    fn finish(&mut self, plan: &Compiled, change: &Change<'_>) -> Result<(), Refused> {
        let (start, nulled) = (self.out.len(), self.nulled);
        self.start = start;
        let made = self.fields(plan, &plan.shape.outputs, change, 0, change.kind);
        if let Err(misfit) = made {
            self.out.bytes.truncate(start);
            self.nulled = nulled;
            let why = misfit.describe(&plan.shape.outputs, &plan.pointers, change.document);
            return Err(Refused::Misfit(why));
        }
        let Some(filter) = &plan.filter else {
            return Ok(());
        };
        // Every column is read before the row is judged, so that what does not fit takes its way whether or not the row would pass.
        let end = self.out.len();
        self.start = end;
        if let Err(misfit) = self.fields(plan, &filter.outputs, change, 0, RowKind::Insert) {
            self.out.bytes.truncate(start);
            self.nulled = nulled;
            let why = misfit.describe(&filter.outputs, &filter.pointers, change.document);
            return Err(Refused::Misfit(why));
        }
        let rows = Rows {
            row: &self.out.bytes[start..end],
            own: &self.out.bytes[end..],
        };
        let passes = rows.judge(&filter.judge) == Some(true);
        self.out.bytes.truncate(if passes { end } else { start });
        match passes {
            true => Ok(()),
            false => Err(Refused::Filtered),
        }
    }

    /// Reads the value that begins here, and notes it where the node says.
    #[inline]
    fn field(&mut self, plan: &Compiled, node: u32, s: &mut Scanner<'_>, base: usize) -> Scan<()> {
        let number = node;
        let node = &plan.nodes[number as usize];
        let first = s.peek()?;
        let start = s.at;
        let (mut elements, mut plain) = (None, false);
        if !node.is_leaf() && number != plan.shape.root {
            // The last of two equal keys counts, with all that is below it. Nothing comes before the document itself.
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
            _ => plain = s.pass()?,
        }
        for take in &node.takes {
            let mut span = Span::passed(start, s.at, plain);
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
        // A node is not below itself.
        let mut keys = std::mem::take(&mut self.keys[node as usize]);
        let walked = self.members(plan, node, s, base, &mut keys);
        self.keys[node as usize] = keys;
        walked
    }

    /// Walks through the fields of an object, of which there is one at least, up to its end. This is where most of the time goes.
    fn members(
        &mut self,
        plan: &Compiled,
        node: u32,
        s: &mut Scanner<'_>,
        base: usize,
        keys: &mut Vec<Expected>,
    ) -> Scan<()> {
        let bytes = s.bytes;
        let (mut at, mut place) = (s.at, 0);
        loop {
            // Without a blank between two fields, and with the key that was there last time, as it is nearly always.
            let rest = bytes.get(at..).unwrap_or_default();
            let head = rest.first_chunk().map(|head| u128::from_le_bytes(*head));
            let expected = keys
                .get(place)
                .filter(|expected| head.is_some() && expected.begins(rest, head));
            let (then, known) = match expected {
                Some(expected) => {
                    at += expected.literal.len();
                    place += 1;
                    (expected.then, keys.get_mut(place - 1))
                }
                None => {
                    s.at = at;
                    let then = key(plan, node, s, &mut place, keys)?;
                    at = s.at;
                    (then, None)
                }
            };
            if let Then::Look(child) = then {
                s.at = at;
                self.field(plan, child, s, base)?;
                at = s.at;
            } else {
                if !matches!(bytes.get(at), Some(b'!'..)) {
                    s.at = at;
                    s.peek()?;
                    at = s.at;
                }
                let (end, plain) = match known {
                    Some(expected) => expected.end_of_value(bytes, at)?,
                    None => end_of_value(bytes, at)?,
                };
                let span = Span::passed(at, end, plain);
                at = end;
                match then {
                    Then::Note(place) => self.places[base + place as usize] = span,
                    Then::NoteAll(child) => {
                        for take in &plan.nodes[child as usize].takes {
                            self.places[base + take.place as usize] = span;
                        }
                    }
                    Then::Pass | Then::Look(_) => {}
                }
            }
            if bytes.get(at) == Some(&b',') {
                at += 1;
                continue;
            }
            s.at = at;
            match s.peek()? {
                b',' => at = s.at + 1,
                b'}' => {
                    s.at += 1;
                    return Ok(());
                }
                _ => return Err(Broken("there is no comma between two fields")),
            }
        }
    }

    /// Reads the elements of the array that begins here: the place of the first, and how many there are.
    fn elements(&mut self, element: &Element, plan: &Compiled, s: &mut Scanner<'_>) -> Scan<(usize, usize)> {
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
        if place + element.stride > self.limits.places {
            return Err(Broken("its arrays have more elements than a row is made of"));
        }
        self.places.resize(place + element.stride, Span::MISSING);
        let first = s.peek()?;
        let start = s.at;
        let mut plain = false;
        match &element.form {
            Form::Row(shape) if first == b'{' => self.object(plan, shape.root, s, place + 1)?,
            _ => plain = s.pass()?,
        }
        self.places[place] = Span::passed(start, s.at, plain);
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
            if let Some(text) = self.plain_text(output, change, base) {
                self.out.binary(fixed.slot(number), text);
                continue;
            }
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

    /// The characters of a text column whose value is a string without escapes, as most are: nothing can be wrong with it.
    #[inline(always)]
    fn plain_text<'a>(&self, output: &Output, change: &Change<'a>, base: usize) -> Option<&'a [u8]> {
        let Source::Document(
            place,
            Form::Scalar {
                scalar: Scalar::String,
                ..
            },
        ) = &output.source
        else {
            return None;
        };
        let span = self.places[base + *place as usize];
        let size = self.out.len() - self.start + change.document.len();
        (span.is_plain() && size < self.limits.row)
            .then(|| &change.document[span.start as usize + 1..span.end as usize - 1])
    }

    /// What becomes of a value that was written, is null, or does not fit.
    #[inline]
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
                if span.end - span.start == 4 && span.of(change.document) == b"null" {
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
            Form::Scalar {
                scalar: Scalar::String,
                ..
            } if span.is_plain() => {
                self.out.binary(slot, &json[1..json.len() - 1]);
                Ok(())
            }
            Form::Scalar { scalar, unit } => self
                .scalar(plan, *scalar, *unit, json, slot)
                .map_err(|reason| misfit(Some(span), scalar.to_string(), reason)),
            Form::Fields(outputs) => self.nested(plan, outputs, change, span, inner, slot),
            Form::Row(shape) => self.nested(plan, &shape.outputs, change, span, inner, slot),
            Form::Array(number) => self.array(plan, &plan.elements[*number as usize], change, span, slot),
            Form::Map(number) => self.map(plan, &plan.elements[*number as usize], change, span, slot),
        }?;
        match self.out.len() - self.start > self.limits.row {
            true => Err(misfit(Some(span), "", TOO_LARGE)),
            false => Ok(()),
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
                    misfit
                        .path
                        .push(String::from_utf8_lossy(&keys[*last]).into_owned());
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

    fn scalar(&mut self, plan: &Compiled, scalar: Scalar, unit: Unit, json: &[u8], slot: Slot) -> Read<()> {
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

/// Reads a key with its colon; what becomes of its value. Documents of a container look alike: the key that came at this place in the
/// last one is compared first, and the one behind it, in case that one is left out here.
#[inline(never)]
fn key(
    plan: &Compiled,
    node: u32,
    s: &mut Scanner<'_>,
    place: &mut usize,
    keys: &mut Vec<Expected>,
) -> Scan<Then> {
    s.peek()?;
    let rest = &s.bytes[s.at..];
    let head = rest.first_chunk().map(|head| u128::from_le_bytes(*head));
    for skipped in 0..2 {
        if let Some(expected) = keys.get(*place + skipped) {
            if expected.begins(rest, head) {
                s.at += expected.literal.len();
                *place += skipped + 1;
                return Ok(expected.then);
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
    let then = Then::of(plan, child);
    if literal.len() <= MAX_KEY {
        if let Some(expected) = keys.get_mut(*place) {
            expected.set(literal, then);
        } else if keys.len() < MAX_KEYS {
            keys.push(Expected::new(literal, then));
        }
    }
    *place += 1;
    Ok(then)
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
    fn describe(mut self, outputs: &[Output], pointers: &[String], document: &[u8]) -> String {
        let column = self.path.pop().unwrap_or_default();
        let number = outputs.iter().position(|output| output.name == column);
        let pointer = number.map_or("", |number| pointers[number].as_str());
        let inside: String = self.path.iter().rev().map(|name| segment(name)).collect();
        let what = match self.value {
            None => "is missing, and".to_owned(),
            Some(span) => match span.of(document) {
                b"null" => "is null, and".to_owned(),
                value => {
                    let text = String::from_utf8_lossy(value);
                    let shown: String = text.chars().take(MAX_SHOWN).collect();
                    let more = if shown.len() < text.len() { ".." } else { "" };
                    match self.expected.as_str() {
                        "" => format!("is {shown}{more}, and"),
                        expected => format!("is {shown}{more}, which is no {expected}:"),
                    }
                }
            },
        };
        format!(
            "the value of column '{column}' at '{pointer}{inside}' {what} {}",
            self.reason
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::binary::tests::hex;
    use crate::rows::plan::{Changelog, Column, Origin, Type, TypeKind};
    use crate::rows::text::Format;
    use proptest::prelude::*;

    fn column(name: &str, path: &[&str], kind: impl Into<Type>) -> Column {
        Column {
            name: name.into(),
            origin: Origin::Path(path.iter().map(|p| (*p).to_owned()).collect()),
            kind: kind.into(),
        }
    }

    fn nullable(kind: TypeKind) -> Type {
        Type { kind, nullable: true }
    }

    fn array(element: impl Into<Type>) -> Type {
        nullable(TypeKind::Array(Box::new(element.into())))
    }

    fn map(value: impl Into<Type>) -> Type {
        nullable(TypeKind::Map(Box::new(value.into())))
    }

    fn row(fields: &[(&str, Type)]) -> Type {
        let fields = fields
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), kind.clone()));
        nullable(TypeKind::Row(fields.collect()))
    }

    fn not_null(kind: impl Into<Type>) -> Type {
        Type {
            nullable: false,
            ..kind.into()
        }
    }

    fn plan(columns: Vec<Column>) -> Plan {
        Plan {
            missing_is_error: false,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit: Unit::None,
            changelog: Changelog::Append,
            columns,
            filter: None,
        }
    }

    fn change(document: &[u8]) -> Change<'_> {
        Change {
            document,
            kind: RowKind::Insert,
            partial: false,
            id: "i",
            partition_key: "[\"k\"]",
            timestamp: Some(5000),
            lsn: 7,
            committed: -1,
            operation: "create",
            expired: true,
            arrived: 9,
            split_id: "00-FF",
        }
    }

    fn rows_of(plan: &Plan, documents: &[&str]) -> Result<Vec<Vec<u8>>, Refused> {
        let mut decoder = Decoder::new(plan, []);
        let rows = documents.iter().map(|document| {
            decoder.row(&change(document.as_bytes()))?;
            Ok(decoder.take())
        });
        rows.collect()
    }

    fn bytes_of(columns: Vec<Column>, document: &str) -> Vec<u8> {
        rows_of(&plan(columns), &[document]).unwrap().remove(0)
    }

    fn refused(plan: &Plan, document: &str) -> String {
        match rows_of(plan, &[document]) {
            Err(Refused::Misfit(why)) => why,
            other => panic!("{document}: {other:?}"),
        }
    }

    #[test]
    fn every_scalar_is_in_its_slot() {
        let types = [
            Scalar::Boolean,
            Scalar::TinyInt,
            Scalar::SmallInt,
            Scalar::Int,
            Scalar::BigInt,
            Scalar::Float,
            Scalar::Double,
            Scalar::Decimal {
                precision: 10,
                scale: 2,
            },
            Scalar::String,
            Scalar::Bytes,
            Scalar::Date,
            Scalar::Time { precision: 0 },
            Scalar::Timestamp {
                precision: 3,
                zoned: true,
            },
            Scalar::RawJson,
        ];
        let columns = types.iter().enumerate();
        let columns = columns.map(|(i, kind)| column(&format!("c{i}"), &[&format!("c{i}")], *kind));
        let document = r#"{"c0":true,"c1":-1,"c2":258,"c3":-2,"c4":4294967296,"c5":1.5,"c6":-0.5,"c7":12.345,"c8":"a\u00e4","c9":"AQI=","c10":"1970-01-02","c11":"00:00:01","c12":"1970-01-01T00:00:00.001Z","c13":"x"}"#;
        let expected = [
            "0000000000000000",
            "0100000000000000",
            "ff00000000000000",
            "0201000000000000",
            "feffffff00000000",
            "0000000001000000",
            "0000c03f00000000",
            "000000000000e0bf",
            "d304000000000000",
            "61c3a40000000083",
            "0102000000000082",
            "0100000000000000",
            "e803000000000000",
            "0100000000000000",
            "2278220000000083",
        ];
        assert_eq!(bytes_of(columns.collect(), document), hex(&expected.concat()));
    }

    #[test]
    fn a_row_without_columns_is_its_kind() {
        let rows = rows_of(&plan(vec![]), &[r#"{"id":"a"}"#, "7"]).unwrap();
        assert_eq!(rows, [[0; 8], [0; 8]]);
    }

    #[test]
    fn variable_values_follow_in_the_order_of_the_columns() {
        let large = Scalar::Decimal {
            precision: 19,
            scale: 1,
        };
        let moment = Scalar::Timestamp {
            precision: 6,
            zoned: false,
        };
        let columns = vec![
            column("s", &["s"], Scalar::String),
            column("d", &["d"], large),
            column("t", &["t"], moment),
            column("n", &["n"], Scalar::String),
        ];
        let document = r#"{"t":"1970-01-01T00:00:01.000002","d":-12.8,"n":null,"s":"123456789"}"#;
        let expected = [
            "0008000000000000",
            "0900000028000000",
            "0100000038000000",
            "d007000048000000",
            "0000000000000000",
            "3132333435363738",
            "3900000000000000",
            "8000000000000000",
            "0000000000000000",
            "e803000000000000",
        ];
        assert_eq!(bytes_of(columns, document), hex(&expected.concat()));
    }

    #[test]
    fn rows_in_rows_have_offsets_of_their_own() {
        let inner = row(&[("x", Scalar::String.into()), ("y", Scalar::Int.into())]);
        let columns = vec![
            column("a", &["a"], inner),
            column("x", &["a", "x"], Scalar::String),
        ];
        let found = bytes_of(columns, r#"{"a":{"y":7,"z":[{"x":1}],"x":"12345678"}}"#);
        let expected = [
            "0000000000000000",
            // 32 bytes at 24, and 8 behind them.
            "2000000018000000",
            "0800000038000000",
            "0000000000000000",
            "0800000018000000",
            "0700000000000000",
            "3132333435363738",
            "3132333435363738",
        ];
        assert_eq!(found, hex(&expected.concat()));
    }

    #[test]
    fn arrays_hold_scalars_rows_and_arrays() {
        let found = bytes_of(
            vec![column("a", &["a"], array(Scalar::Int))],
            r#"{"a":[1, null ,3]}"#,
        );
        let expected = [
            "0000000000000000",
            "1800000010000000",
            "0300000002000000",
            "0100000000000000",
            "0300000000000000",
        ];
        assert_eq!(found, hex(&expected.concat()));
        let element = row(&[("n", Scalar::Int.into())]);
        let found = bytes_of(vec![column("a", &["a"], array(element))], r#"{"a":[{"n":1},{}]}"#);
        let expected = [
            "0000000000000000",
            "3800000010000000",
            "0200000000000000",
            "1000000018000000",
            "1000000028000000",
            "0000000000000000",
            "0100000000000000",
            "0001000000000000",
            "0000000000000000",
        ];
        assert_eq!(found, hex(&expected.concat()));
        let found = bytes_of(
            vec![column("a", &["a"], array(array(Scalar::Boolean)))],
            r#"{"a":[[true],[]]}"#,
        );
        let expected = [
            "0000000000000000",
            "3000000010000000",
            "0200000000000000",
            "1000000018000000",
            "0800000028000000",
            // One element: its size, its nulls, and the element rounded to 8.
            "0100000000000000",
            "0100000000000000",
            // None: its size, and no word of nulls.
            "0000000000000000",
        ];
        assert_eq!(found, hex(&expected.concat()));
    }

    #[test]
    fn maps_are_two_arrays_behind_a_size() {
        let columns = vec![column("m", &["m"], map(Scalar::Int))];
        let found = bytes_of(columns, r#"{"m":{"b":1,"a":2,"\u0062":null}}"#);
        let expected = [
            "0000000000000000",
            // 4 + 24 + 16 bytes.
            "2c00000010000000",
            "18000000",
            "0200000000000000",
            "6200000000000081",
            "6100000000000081",
            // Of two equal keys the last value counts: null.
            "0200000001000000",
            "0000000002000000",
            "00000000",
        ];
        assert_eq!(found, hex(&expected.concat()));
    }

    #[test]
    fn variants_stand_with_the_length_of_their_dictionary() {
        let found = bytes_of(vec![column("v", &[], Scalar::Variant)], r#"{"a":1}"#);
        let expected = [
            "0000000000000000",
            "1000000010000000",
            // Dictionary of 5 bytes, and the object behind it.
            "00000005 01010001 61 02010000020c01",
        ];
        assert_eq!(found, hex(&expected.concat()));
    }

    #[test]
    fn metadata_are_columns_too() {
        let moment = Scalar::Timestamp {
            precision: 3,
            zoned: true,
        };
        let columns = [
            (Origin::Metadata(Metadata::Timestamp), moment),
            (Origin::Metadata(Metadata::Lsn), Scalar::BigInt),
            (Origin::Metadata(Metadata::Committed), moment),
            (Origin::Metadata(Metadata::Expired), Scalar::Boolean),
            (Origin::Metadata(Metadata::Arrived), moment),
            (Origin::Metadata(Metadata::Id), Scalar::String),
            (Origin::Metadata(Metadata::PartitionKey), Scalar::String),
            (Origin::Metadata(Metadata::Operation), Scalar::String),
            (Origin::Metadata(Metadata::SplitId), Scalar::String),
            (Origin::Constant("db".into()), Scalar::String),
        ];
        let columns = columns.into_iter().map(|(origin, kind)| Column {
            name: "m".into(),
            origin,
            kind: kind.into(),
        });
        let expected = [
            "0004000000000000",
            "8813000000000000",
            "0700000000000000",
            "0000000000000000",
            "0100000000000000",
            "0900000000000000",
            "6900000000000081",
            "5b226b225d000085",
            "6372656174650086",
            "30302d4646000085",
            "6462000000000082",
        ];
        assert_eq!(bytes_of(columns.collect(), "{}"), hex(&expected.concat()));
    }

    #[test]
    fn the_last_of_two_equal_fields_counts_with_all_below_it() {
        let inner = row(&[("x", Scalar::Int.into()), ("y", Scalar::Int.into())]);
        let columns = || {
            vec![
                column("n", &["n"], Scalar::Int),
                column("a", &["a"], inner.clone()),
                column("y", &["a", "y"], Scalar::Int),
            ]
        };
        for (twice, once) in [
            (r#"{"n":"bad","n":2}"#, r#"{"n":2}"#),
            (r#"{"n":1,"\u006e":2}"#, r#"{"n":2}"#),
            (r#"{"a":{"x":1,"y":2},"a":{"x":3}}"#, r#"{"a":{"x":3}}"#),
            (r#"{"a":{"x":1,"y":2},"a":null}"#, r#"{"a":null}"#),
            (r#"{"a":{"x":1,"y":2},"a":null}"#, "{}"),
        ] {
            assert_eq!(bytes_of(columns(), twice), bytes_of(columns(), once), "{twice}");
        }
    }

    #[test]
    fn the_order_of_keys_is_no_matter() {
        let columns = vec![
            column("a", &["a"], Scalar::Int),
            column("b", &["b", "c"], Scalar::Int),
            column("d", &["d"], array(row(&[("e", Scalar::Int.into())]))),
        ];
        let documents = [
            r#"{"a":1,"x":0,"b":{"c":2},"d":[{"e":3},{"e":4}]}"#,
            r#"{"a":1,"x":0,"b":{"c":2},"d":[{"e":3},{"e":4}]}"#,
            r#"{"a":1,"b":{"c":2},"d":[{"f":0,"e":3},{"e":4}]}"#,
            r#"{ "d" : [ {"e":3} , {"e":4,"f":0} ] , "b" : { "y" : { "c" : 9 } , "c" : 2 } , "a" : 1 }"#,
            r#"{"x":0,"ab":7,"a":1,"y":{},"b":{"c":2},"d":[{"e":3},{"e":4}],"z":"}"}"#,
            r#"{"a":1,"x":0,"b":{"c":2},"d":[{"e":3},{"e":4}]}"#,
        ];
        let rows = rows_of(&plan(columns), &documents).unwrap();
        for (row, document) in rows.iter().zip(documents) {
            assert_eq!(row, &rows[0], "{document}");
        }
    }

    #[test]
    fn blanks_around_a_document_are_no_matter() {
        let columns = || {
            vec![
                column("a", &["a"], Scalar::String),
                column("v", &[], Scalar::Variant),
            ]
        };
        let document = r#"{"a":"long enough"}"#;
        let blanks = format!(" \t\r\n{document} ");
        assert_eq!(bytes_of(columns(), &blanks), bytes_of(columns(), document));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let element = row(&[("price", Scalar::Int.into())]);
        let columns = vec![
            column("lines", &["lines"], array(element)),
            column("tags", &["x/y", "tags"], map(array(Scalar::Boolean))),
            column("must", &["must"], not_null(Scalar::Int)),
        ];
        let plan = plan(columns);
        for (document, expected) in [
            (
                r#"{"lines":[{},{"price":"dear"}],"must":1}"#,
                "the value of column 'lines' at '/lines/1/price' is \"dear\", which is no INT: it is not a number",
            ),
            (
                r#"{"lines":{},"must":1}"#,
                "the value of column 'lines' at '/lines' is {}, which is no ARRAY: it is not an array",
            ),
            (
                r#"{"lines":[7],"must":1}"#,
                "the value of column 'lines' at '/lines/0' is 7, which is no ROW: it is not an object",
            ),
            (
                r#"{"x/y":{"tags":{"k":[true,0]}},"must":1}"#,
                "the value of column 'tags' at '/x~1y/tags/k/1' is 0, which is no BOOLEAN: it is neither true nor false",
            ),
            (
                "{}",
                "the value of column 'must' at '/must' is missing, and the column is NOT NULL",
            ),
            (
                r#"{"must":null}"#,
                "the value of column 'must' at '/must' is null, and the column is NOT NULL",
            ),
        ] {
            assert_eq!(refused(&plan, document), expected);
        }
        let strict = Plan {
            missing_is_error: true,
            ..plan
        };
        assert!(refused(&strict, r#"{"must":1}"#).contains("json.fail-on-missing-field is set"));
        let long = format!(r#"{{"must":"{}"}}"#, "x".repeat(1000));
        let plan = super::tests::plan(vec![column("must", &["must"], Scalar::Int)]);
        assert!(refused(&plan, &long).len() < 250);
    }

    #[test]
    fn the_innermost_value_that_may_be_null_becomes_null() {
        let columns = |element: Type| {
            vec![
                column("s", &["s"], Scalar::String),
                column("a", &["a"], array(element)),
                column("z", &["z"], Scalar::String),
            ]
        };
        let nulled = |element: Type, document: &str| {
            let plan = Plan {
                on_error: OnError::NullField,
                ..plan(columns(element))
            };
            let mut decoder = Decoder::new(&plan, []);
            decoder.row(&change(document.as_bytes())).unwrap();
            (decoder.take(), decoder.take_nulled())
        };
        let fine = |element: Type, document: &str| bytes_of(columns(element), document);
        let deep = r#"{"s":"long enough","a":["long enough too","\ud800"],"z":"and the last one"}"#;
        let (found, count) = nulled(Scalar::String.into(), deep);
        let expected = r#"{"s":"long enough","a":["long enough too",null],"z":"and the last one"}"#;
        assert_eq!((found, count), (fine(Scalar::String.into(), expected), 1));
        let (found, count) = nulled(not_null(Scalar::String), deep);
        let expected = r#"{"s":"long enough","z":"and the last one"}"#;
        assert_eq!((found, count), (fine(Scalar::String.into(), expected), 1));
        let must = Plan {
            on_error: OnError::NullField,
            ..plan(vec![column("n", &["n"], not_null(Scalar::Int))])
        };
        assert!(refused(&must, r#"{"n":"x"}"#).contains("no INT"));
    }

    #[test]
    fn a_row_that_is_refused_leaves_nothing_behind() {
        let plan = plan(vec![
            column("s", &["s"], Scalar::String),
            column("n", &["n"], Scalar::Int),
        ]);
        let mut decoder = Decoder::new(&plan, []);
        decoder.row(&change(br#"{"s":"long enough","n":1}"#)).unwrap();
        let before = decoder.len();
        assert!(decoder.row(&change(br#"{"s":"long enough","n":"x"}"#)).is_err());
        assert!(decoder.row(&change(br#"{"s":"long enough" "n":1}"#)).is_err());
        assert_eq!(decoder.len(), before);
        decoder.row(&change(br#"{"s":"long enough","n":1}"#)).unwrap();
        let rows = decoder.take();
        assert_eq!(rows[..before], rows[before..]);
    }

    #[test]
    fn a_row_has_its_bounds() {
        let wide = row(&[("x", Scalar::Int.into()), ("y", Scalar::Int.into())]);
        let columns = vec![
            column("a", &["a"], array(array(wide.clone()))),
            column("b", &["b"], array(wide)),
        ];
        let mut decoder = Decoder::new(&plan(columns), []);
        decoder.work.limits = Limits {
            row: 1100,
            places: 80,
        };
        let empty = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        let document = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
        // Rows of 24 bytes in slots of 8: two arrays with ten of them are small enough, and with four they are not.
        let fits = document(format!("[{0},{0}]", empty(10)), empty(10));
        decoder.row(&change(fits.as_bytes())).unwrap();
        let large = document(format!("[{0},{0},{0},{0}]", empty(10)), empty(1));
        match decoder.row(&change(large.as_bytes())) {
            Err(Refused::Misfit(why)) => assert!(
                why.ends_with(", and its row would be larger than 256 MiB"),
                "{why}"
            ),
            other => panic!("{other:?}"),
        }
        let many = document("[]".into(), empty(30));
        match decoder.row(&change(many.as_bytes())) {
            Err(Refused::Broken(why)) => assert!(why.contains("more elements"), "{why}"),
            other => panic!("{other:?}"),
        }
        decoder.row(&change(fits.as_bytes())).unwrap();
        let rows = decoder.take();
        assert_eq!(rows[..rows.len() / 2], rows[rows.len() / 2..]);
    }

    #[test]
    fn a_number_is_a_moment_by_the_plans_unit_and_ts_by_its_own() {
        let moment = Scalar::Timestamp {
            precision: 3,
            zoned: true,
        };
        let by_millis = Plan {
            unit: Unit::Millis,
            ..plan(vec![
                column("t", &["t"], moment),
                column("_ts", &["_ts"], moment),
                column("inner", &["a", "_ts"], moment),
            ])
        };
        let found = rows_of(&by_millis, &[r#"{"t":1000,"_ts":1,"a":{"_ts":1000}}"#]).unwrap();
        let slots: Vec<_> = found[0].chunks(8).skip(1).collect();
        assert_eq!(slots, [1000i64.to_le_bytes(); 3]);
    }

    #[test]
    fn a_walk_says_what_the_feed_wants_to_know() {
        let paths = [vec!["a".to_owned(), "pk".to_owned()], vec!["id".to_owned()]];
        let columns = || vec![column("id", &["id"], Scalar::String)];
        let mut decoder = Decoder::new(&plan(columns()), paths.iter().map(Vec::as_slice));
        let first = r#"{"_ts":5,"a":{"pk":1},"id":"x","a":{"pk":[7]}}"#;
        let text = format!(r#" [ {first} , {{"a":[{{"pk":2}}]}} ] "#);
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            at: 2,
        };
        let mut keys: [&[u8]; 3] = [b"old"; 3];
        let walked = decoder.walk(&mut scanner, &mut keys).ok().unwrap();
        assert_eq!(walked.document, first.as_bytes());
        assert_eq!(
            [walked.id, walked.ts, walked.lsn],
            [&br#""x""#[..], &b"5"[..], &b""[..]]
        );
        assert_eq!(keys, [&b"[7]"[..], &br#""x""#[..], &b"old"[..]]);
        decoder.walked_row(&change(walked.document)).unwrap();
        assert_eq!(decoder.take(), bytes_of(columns(), r#"{"id":"x"}"#));
        scanner.at += 2;
        decoder.walk(&mut scanner, &mut keys).ok().unwrap();
        assert_eq!(keys, [&b""[..], &b""[..], &b"old"[..]]);
        assert_eq!(&text[scanner.at..], " ] ");
    }

    fn any_type() -> impl Strategy<Value = Type> {
        let scalar = prop_oneof![
            Just(Scalar::Boolean),
            Just(Scalar::TinyInt),
            Just(Scalar::BigInt),
            Just(Scalar::Float),
            Just(Scalar::Double),
            (1u8..=38, 0u8..=38).prop_map(|(precision, scale)| Scalar::Decimal {
                precision,
                scale: scale.min(precision)
            }),
            Just(Scalar::String),
            Just(Scalar::Bytes),
            Just(Scalar::Date),
            Just(Scalar::Time { precision: 3 }),
            (0u8..=9, any::<bool>()).prop_map(|(precision, zoned)| Scalar::Timestamp { precision, zoned }),
            Just(Scalar::Variant),
            Just(Scalar::RawJson),
        ];
        let leaf = (scalar, any::<bool>()).prop_map(|(scalar, nullable)| Type {
            nullable,
            ..scalar.into()
        });
        leaf.prop_recursive(3, 12, 4, |inner| {
            let kind = prop_oneof![
                inner.clone().prop_map(|t| TypeKind::Array(Box::new(t))),
                inner.clone().prop_map(|t| TypeKind::Map(Box::new(t))),
                proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(TypeKind::Row),
            ];
            (kind, any::<bool>()).prop_map(|(kind, nullable)| Type { kind, nullable })
        })
    }

    fn any_plan() -> impl Strategy<Value = Plan> {
        let column = (proptest::collection::vec("[a-c]", 0..3), any_type());
        let columns = proptest::collection::vec(column, 1..5);
        (columns, any::<bool>()).prop_map(|(columns, fails)| Plan {
            on_error: if fails { OnError::Fail } else { OnError::NullField },
            ..plan(
                columns
                    .into_iter()
                    .map(|(path, kind)| Column {
                        name: path.join("."),
                        origin: Origin::Path(path),
                        kind,
                    })
                    .collect(),
            )
        })
    }

    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<i32>().prop_map(|n| n.to_string()),
            "-?[0-9]{1,3}\\.[0-9]{1,3}(e-?[0-9])?",
            "\"[a-zA-Z0-9=\\\\u ]{0,12}\"",
            Just("\"2026-11-24T10:15:30.123456Z\"".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(|all| format!("[{}]", all.join(" , "))),
                proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|all| {
                    let all: Vec<_> = all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    /// Values whose end is found in several ways.
    fn value_of_some_length() -> impl Strategy<Value = String> {
        prop_oneof![
            "[1-9][0-9]{0,15}",
            "\"[a-z,}]{0,90}\"",
            "\"[a-z,]{0,9}\\\\\"[a-z,]{0,9}\"",
            "\\{\"x\":[0-9],\"y\":\"[\\]}]{0,70}\"\\}",
            Just("null".to_owned()),
        ]
    }

    proptest! {
        /// What was seen before never changes a row, and each stands in whole words behind the one before.
        #[test]
        fn a_row_depends_on_its_document_alone(plan in any_plan(), documents in proptest::collection::vec(any_json(), 1..5)) {
            let mut together = Decoder::new(&plan, []);
            for document in &documents {
                let start = together.len();
                let first = together.row(&change(document.as_bytes())).is_ok();
                let mut alone = Decoder::new(&plan, []);
                prop_assert_eq!(alone.row(&change(document.as_bytes())).is_ok(), first);
                prop_assert_eq!(alone.len() % 8, 0);
                let all = together.take();
                prop_assert_eq!(&all[start..], &alone.take()[..]);
                together.work.out.bytes = all;
            }
        }

        /// So many alike that lengths are guessed, and then others.
        #[test]
        fn a_guess_changes_no_row(values in proptest::collection::vec((value_of_some_length(), 1usize..8), 1..12)) {
            let plan = plan(vec![
                column("a", &["a"], Scalar::RawJson),
                column("b", &["b", "c"], Scalar::RawJson),
                column("list", &["list"], nullable(TypeKind::Array(Box::new(Scalar::RawJson.into())))),
            ]);
            let mut together = Decoder::new(&plan, []);
            for (value, times) in &values {
                for _ in 0..*times {
                    let document = format!(r#"{{"passed":{value},"a":{value},"b":{{"c":{value}}},"list":[{value},{value}],"end":"of the document"}}"#);
                    let mut alone = Decoder::new(&plan, []);
                    alone.row(&change(document.as_bytes())).unwrap();
                    together.begin(0);
                    together.row(&change(document.as_bytes())).unwrap();
                    prop_assert_eq!(together.take(), alone.take());
                }
            }
        }

        #[test]
        fn any_bytes_are_a_row_or_none(plan in any_plan(), text in "[{}\\[\\]\":,a-c\\\\0-9.e-]{0,60}", cut in 0usize..60, whole in any_json()) {
            let mut decoder = Decoder::new(&plan, []);
            let _ = decoder.row(&change(text.as_bytes()));
            let _ = decoder.row(&change(whole.as_bytes()));
            let _ = decoder.row(&change(&whole.as_bytes()[..cut.min(whole.len())]));
        }
    }
}
