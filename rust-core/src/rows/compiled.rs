//! A plan as one walk over a document needs it: a trie of the names on the way to the columns' values.
//!
//! A walk notes where the values stand, each in a place of its own ([`Output::Document`] and [`Take`] name the same one), and the row is
//! written from those places in the order of its columns. The fields of a ROW have places like columns. The elements of an array or
//! map are as many as there are, so that each kind of element has a shape of its own, with places from zero on.

use super::binary::SLOT;
use super::filter::{judge, Judge};
use super::plan::{Changelog, Column, Metadata, OnError, Origin, Plan, Scalar, Type, TypeKind};
use super::text::{Format, Unit};
use crate::json::segment;

/// A name on the way, and what is there.
#[derive(Debug, Default)]
pub struct Node {
    /// What is below it, by name, sorted.
    children: Vec<(Box<str>, u32)>,
    /// Which places note the value here.
    pub takes: Vec<Take>,
    /// All places that note values below.
    pub below: Vec<u32>,
}

impl Node {
    /// Whether there is something to look for below it.
    #[inline]
    pub fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// What is there below this name.
    pub fn child(&self, name: &[u8]) -> Option<u32> {
        let found = self.children.binary_search_by(|(n, _)| n.as_bytes().cmp(name));
        found.ok().map(|i| self.children[i].1)
    }
}

/// A place that notes a value.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// The place.
    pub place: u32,
    /// The elements, where an array is expected.
    pub elements: Option<u32>,
}

/// How a value is written.
#[derive(Debug)]
pub enum Form {
    /// Out of its text.
    Scalar {
        /// As what.
        scalar: Scalar,
        /// What a number counts as a timestamp.
        unit: Unit,
    },
    /// Fields whose places are beside its own.
    Fields(Vec<Output>),
    /// Fields of an element, with places of their own.
    Row(Shape),
    /// Elements of this number.
    Array(u32),
    /// Values of this number, by name.
    Map(u32),
}

/// A column, or a field of a ROW.
#[derive(Debug)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Where its values come from.
    pub source: Source,
}

/// Where the values of an output come from.
#[derive(Debug)]
pub enum Source {
    /// From the document, by the place that notes it.
    Document(u32, Form),
    /// From the feed.
    Metadata(Metadata),
    /// It is always this.
    Constant(String),
}

/// What is looked for in one object.
#[derive(Debug)]
pub struct Shape {
    /// The node of the object itself.
    pub root: u32,
    /// How many places there are.
    pub places: u32,
    /// What is written.
    pub outputs: Vec<Output>,
}

/// The elements of an array, or the values of a map.
#[derive(Debug)]
pub struct Element {
    /// How one is written.
    pub form: Form,
    /// Whether one may be null.
    pub nullable: bool,
    /// Bytes of its slot.
    pub width: usize,
    /// Places of each: its own, and those of its fields.
    pub stride: usize,
}

/// What a row must be to pass.
#[derive(Debug)]
pub struct Filtering {
    /// What is written for the filter alone.
    pub outputs: Vec<Output>,
    /// The JSON pointer of each.
    pub pointers: Vec<String>,
    /// What is judged.
    pub judge: Judge,
}

/// Places of what the feed itself wants to know of each document.
#[derive(Debug)]
pub struct Known {
    /// Its id.
    pub id: u32,
    /// When it was changed (`_ts`).
    pub ts: u32,
    /// The number of the write, where a document has it (`_lsn`).
    pub lsn: u32,
    /// The components of its partition key.
    pub keys: Vec<u32>,
}

/// A plan that documents can be walked by.
#[derive(Debug)]
pub struct Compiled {
    /// All nodes. Those below one have larger numbers.
    pub nodes: Vec<Node>,
    /// Elements of arrays and maps.
    pub elements: Vec<Element>,
    /// The document itself.
    pub shape: Shape,
    /// What is looked for in it beside the columns.
    pub known: Known,
    /// Which rows pass; `None`: all of them.
    pub filter: Option<Filtering>,
    /// The JSON pointer of each column; empty for metadata and for the document itself.
    pub pointers: Vec<String>,
    /// Whether a column is the id that the feed knows.
    pub wants_id: bool,
    /// Whether one is the partition key.
    pub wants_key: bool,
    /// Whether a field that is missing does not fit.
    pub missing_is_error: bool,
    /// What becomes of what does not fit.
    pub on_error: OnError,
    /// How timestamps are written.
    pub format: Format,
    /// What kinds of rows there are.
    pub changelog: Changelog,
}

impl Compiled {
    /// A plan for the documents of a container, whose partition key is at these paths.
    pub fn new<'k>(plan: &Plan, keys: impl IntoIterator<Item = &'k [String]>) -> Self {
        let mut compiler = Compiler {
            nodes: Vec::new(),
            elements: Vec::new(),
            unit: plan.unit,
        };
        let root = compiler.node();
        let mut places = 0;
        let outputs = plan.columns.iter();
        let outputs = outputs
            .map(|column| compiler.column(root, column, &mut places))
            .collect();
        let filter = plan.filter.as_ref().map(|filter| Filtering {
            outputs: filter
                .columns
                .iter()
                .map(|column| compiler.column(root, column, &mut places))
                .collect(),
            pointers: filter
                .columns
                .iter()
                .map(|column| pointer(&column.origin))
                .collect(),
            judge: judge(&plan.columns, filter),
        });
        let known = {
            let mut note = |path: &[String]| compiler.note(root, path, &mut places);
            Known {
                id: note(&["id".to_owned()]),
                ts: note(&["_ts".to_owned()]),
                lsn: note(&["_lsn".to_owned()]),
                keys: keys.into_iter().map(note).collect(),
            }
        };
        let Compiler {
            mut nodes, elements, ..
        } = compiler;
        for number in (0..nodes.len()).rev() {
            let mut below = Vec::new();
            for (_, child) in &nodes[number].children {
                let child = &nodes[*child as usize];
                below.extend(child.takes.iter().map(|take| take.place));
                below.extend_from_slice(&child.below);
            }
            nodes[number].below = below;
        }
        let wants = |metadata| {
            let own = plan.filter.iter().flat_map(|filter| &filter.columns);
            let mut columns = plan.columns.iter().chain(own);
            columns.any(|column| column.origin == Origin::Metadata(metadata))
        };
        Compiled {
            wants_id: wants(Metadata::Id),
            wants_key: wants(Metadata::PartitionKey),
            nodes,
            elements,
            shape: Shape {
                root,
                places,
                outputs,
            },
            known,
            filter,
            pointers: plan
                .columns
                .iter()
                .map(|column| pointer(&column.origin))
                .collect(),
            missing_is_error: plan.missing_is_error,
            on_error: plan.on_error,
            format: plan.format,
            changelog: plan.changelog,
        }
    }

    /// The node at the end of a path through objects.
    pub fn at(&self, path: &[String]) -> Option<&Node> {
        let mut node = &self.nodes[self.shape.root as usize];
        for name in path {
            node = &self.nodes[node.child(name.as_bytes())? as usize];
        }
        Some(node)
    }
}

fn pointer(origin: &Origin) -> String {
    match origin {
        Origin::Path(path) => path.iter().map(|name| segment(name)).collect(),
        Origin::Metadata(_) | Origin::Constant(_) => String::new(),
    }
}

struct Compiler {
    nodes: Vec<Node>,
    elements: Vec<Element>,
    unit: Unit,
}

impl Compiler {
    fn node(&mut self) -> u32 {
        self.nodes.push(Node::default());
        self.nodes.len() as u32 - 1
    }

    fn column(&mut self, root: u32, column: &Column, places: &mut u32) -> Output {
        let source = match &column.origin {
            Origin::Path(path) => self.document(root, &mut path.clone(), &column.kind, places),
            Origin::Metadata(metadata) => Source::Metadata(*metadata),
            Origin::Constant(value) => Source::Constant(value.clone()),
        };
        Output {
            name: column.name.clone(),
            nullable: column.kind.nullable,
            source,
        }
    }

    /// The node at the end of a path, made where it is not there yet.
    fn reach(&mut self, root: u32, path: &[String]) -> u32 {
        let mut at = root;
        for name in path {
            let children = &self.nodes[at as usize].children;
            at = match children.binary_search_by(|(n, _)| (**n).cmp(name.as_str())) {
                Ok(i) => children[i].1,
                Err(i) => {
                    let made = self.node();
                    self.nodes[at as usize]
                        .children
                        .insert(i, (name.as_str().into(), made));
                    made
                }
            };
        }
        at
    }

    /// A place that notes what is at the end of a path.
    fn note(&mut self, root: u32, path: &[String], places: &mut u32) -> u32 {
        let place = *places;
        *places += 1;
        let node = self.reach(root, path);
        self.nodes[node as usize].takes.push(Take {
            place,
            elements: None,
        });
        place
    }

    fn document(&mut self, root: u32, path: &mut Vec<String>, kind: &Type, places: &mut u32) -> Source {
        let place = *places;
        *places += 1;
        let node = self.reach(root, path);
        let form = match &kind.kind {
            TypeKind::Row(fields) => {
                let mut outputs = Vec::new();
                for (name, kind) in fields {
                    path.push(name.clone());
                    outputs.push(Output {
                        name: name.clone(),
                        nullable: kind.nullable,
                        source: self.document(root, path, kind, places),
                    });
                    path.pop();
                }
                Form::Fields(outputs)
            }
            // The first node is the document itself.
            other => self.form(other, root == 0 && path.as_slice() == ["_ts"]),
        };
        let elements = match form {
            Form::Array(number) => Some(number),
            _ => None,
        };
        self.nodes[node as usize].takes.push(Take { place, elements });
        Source::Document(place, form)
    }

    /// The form of an element, or of what is no ROW. The service's own time stamp counts seconds.
    fn form(&mut self, kind: &TypeKind, is_ts: bool) -> Form {
        match kind {
            TypeKind::Scalar(scalar) => Form::Scalar {
                scalar: *scalar,
                unit: if is_ts { Unit::Seconds } else { self.unit },
            },
            TypeKind::Array(element) => Form::Array(self.element(element)),
            TypeKind::Map(value) => Form::Map(self.element(value)),
            TypeKind::Row(fields) => {
                let (root, mut places) = (self.node(), 0);
                let mut outputs = Vec::new();
                for (name, kind) in fields {
                    outputs.push(Output {
                        name: name.clone(),
                        nullable: kind.nullable,
                        source: self.document(root, &mut vec![name.clone()], kind, &mut places),
                    });
                }
                Form::Row(Shape {
                    root,
                    places,
                    outputs,
                })
            }
        }
    }

    fn element(&mut self, kind: &Type) -> u32 {
        let form = self.form(&kind.kind, false);
        let width = match &kind.kind {
            TypeKind::Scalar(scalar) => scalar.width(),
            _ => SLOT,
        };
        let fields = match &form {
            Form::Row(shape) => shape.places as usize,
            _ => 0,
        };
        self.elements.push(Element {
            form,
            nullable: kind.nullable,
            width,
            stride: 1 + fields,
        });
        self.elements.len() as u32 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_share_the_way_to_their_values() {
        let column = |name: &str, path: &[&str], kind: Type| Column {
            name: name.into(),
            origin: Origin::Path(path.iter().map(|p| (*p).to_owned()).collect()),
            kind,
        };
        let row = Type {
            kind: TypeKind::Row(vec![
                ("b".into(), Scalar::Int.into()),
                ("c/d~".into(), Scalar::String.into()),
            ]),
            nullable: true,
        };
        let plan = Plan {
            missing_is_error: false,
            on_error: OnError::Fail,
            format: Format::Iso,
            unit: Unit::None,
            changelog: Changelog::Append,
            columns: vec![
                column("all", &[], Scalar::Variant.into()),
                column("a", &["a"], row),
                column("b", &["a", "b"], Scalar::BigInt.into()),
                column("odd", &["c/d~", "e"], Scalar::BigInt.into()),
            ],
            filter: None,
        };
        let path = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let key = path(&["a", "pk"]);
        let compiled = Compiled::new(&plan, [key.as_slice()]);
        let takes = |names: &[&str]| {
            let node = compiled.at(&path(names)).unwrap();
            node.takes.iter().map(|take| take.place).collect::<Vec<_>>()
        };
        assert_eq!(takes(&[]), [0]);
        assert_eq!(takes(&["a"]), [1]);
        assert_eq!(takes(&["a", "b"]), [2, 4]);
        assert_eq!(takes(&["a", "c/d~"]), [3]);
        assert!(compiled.at(&path(&["a", "x"])).is_none());
        let mut below = compiled.at(&[]).unwrap().below.clone();
        below.sort_unstable();
        assert_eq!(below, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let known = &compiled.known;
        assert_eq!((known.id, known.ts, known.lsn), (6, 7, 8));
        assert_eq!(takes(&["a", "pk"]), known.keys);
        assert_eq!(compiled.shape.places, 10);
        assert_eq!(compiled.pointers, ["", "/a", "/a/b", "/c~1d~0/e"]);
    }
}
