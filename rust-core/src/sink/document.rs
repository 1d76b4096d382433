//! What the sink does to a document before it is written: finding its id and its key, leaving nulls out, merging it into another one.
//!
//! Documents stay the bytes that they are; a new one is made of the parts of old ones.

use std::fmt::Write;

use memchr::memmem;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{CoreError, Kind, Result};
use crate::json::{nested, push_string, segments, Broken, Scan, Scanner};
use crate::page::KeyPaths;

/// What the service writes into each document.
pub const SYSTEM_FIELDS: [&str; 5] = ["_rid", "_self", "_etag", "_attachments", "_ts"];

/// Levels below which nulls stay: the service takes no document that is so deep.
const MAX_DEPTH: usize = 128;

/// How an id is made of a document: the option `sink.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// Texts and the values of fields, one behind the other.
    Template(Vec<Piece>),
    /// A hash of the values of these fields.
    Hash(Vec<Vec<String>>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The value at this path.
    Field(Vec<String>),
}

impl IdRule {
    /// Reads the option: `{field}` and text between, or `hash(field,field)`. A field inside an object has a path, such as
    /// `customer/id`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<IdRule, String> {
        let path = |name: &str| -> std::result::Result<Vec<String>, String> {
            let parts: Vec<String> = name
                .trim()
                .trim_start_matches('/')
                .split('/')
                .map(str::to_owned)
                .collect();
            match parts.iter().any(String::is_empty) {
                true => Err(format!("'{name}' names no field")),
                false => Ok(parts),
            }
        };
        if let Some(inner) = text.strip_prefix("hash(").and_then(|t| t.strip_suffix(')')) {
            return Ok(IdRule::Hash(
                inner
                    .split(',')
                    .map(path)
                    .collect::<std::result::Result<_, _>>()?,
            ));
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find('{') {
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            let Some(close) = rest[open..].find('}') else {
                return Err("a { has no }".to_owned());
            };
            pieces.push(Piece::Field(path(&rest[open + 1..open + close])?));
            rest = &rest[open + close + 1..];
        }
        if rest.contains('}') {
            return Err("a } has no {".to_owned());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if !pieces.iter().any(|p| matches!(p, Piece::Field(_))) {
            return Err("it names no field, so that all documents would have one id".to_owned());
        }
        Ok(IdRule::Template(pieces))
    }

    /// The fields that an id is made of.
    pub fn fields(&self) -> impl Iterator<Item = &[String]> {
        let (pieces, paths): (&[Piece], &[Vec<String>]) = match self {
            IdRule::Template(pieces) => (pieces, &[]),
            IdRule::Hash(paths) => (&[], paths),
        };
        let of_pieces = pieces.iter().filter_map(|piece| match piece {
            Piece::Field(path) => Some(path.as_slice()),
            Piece::Text(_) => None,
        });
        of_pieces.chain(paths.iter().map(Vec::as_slice))
    }

    /// The id of a document.
    ///
    /// # Errors
    /// BadRequest, the record's own, when a field is missing, or has no value that can be a part of an id.
    pub fn id(&self, document: &[u8]) -> Result<String> {
        match self {
            IdRule::Template(pieces) => {
                let mut id = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => id.push_str(text),
                        Piece::Field(path) => match field(document, path)? {
                            Some(Scalar::Text(text)) => id.push_str(&text),
                            Some(Scalar::Other(text)) if text != "null" => id.push_str(text),
                            _ => return no_id(path, "is missing or null"),
                        },
                    }
                }
                Ok(id)
            }
            IdRule::Hash(paths) => {
                let mut hash = Sha256::new();
                for path in paths {
                    match field(document, path)? {
                        Some(Scalar::Text(text)) => add(&mut hash, 's', &text),
                        Some(Scalar::Other(text)) => add(&mut hash, 'v', text),
                        None => return no_id(path, "is missing"),
                    }
                }
                let mut id = String::with_capacity(32);
                for byte in &hash.finalize()[..16] {
                    // Writing into a String cannot fail.
                    let _ = write!(id, "{byte:02x}");
                }
                Ok(id)
            }
        }
    }
}

/// The fields that a deletion gives, each with what lies in it: the option `sink.key-fields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFields(Vec<Vec<String>>);

impl KeyFields {
    /// Reads the option: a JSON array of JSON pointers; the empty one is the whole document.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<KeyFields, String> {
        let pointers: Vec<String> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let path = |pointer: &String| match pointer.strip_prefix('/') {
            Some(names) => Ok(segments(names)),
            None if pointer.is_empty() => Ok(Vec::new()),
            None => Err(format!("'{pointer}' does not begin with a slash")),
        };
        Ok(KeyFields(
            pointers.iter().map(path).collect::<std::result::Result<_, _>>()?,
        ))
    }

    /// Refuses a container whose documents are not told apart by these fields and their ids; or, with `deletes`, of whose deletes not all of
    /// them are known.
    ///
    /// # Errors
    /// Config, with the field that is missing, or is too many.
    pub fn check_rows(&self, keys: &KeyPaths, deletes: bool) -> Result<()> {
        let unknown =
            |field: &&Vec<String>| **field != ["id"] && !keys.iter().any(|path| path == field.as_slice());
        if let Some(field) = self.0.iter().find(|field| deletes && unknown(field)) {
            return Err(CoreError::config(format!(
                "scan.key-fields has '/{}', which is neither the id nor in the container's partition key: nothing else is known of what was deleted, so that its row would stay; leave it out, which in a table means out of the primary key, or set scan.changelog-mode of the table to append and declare no key",
                field.join("/")
            )));
        }
        let missing = |path: &&[String]| !self.0.iter().any(|field| path.starts_with(field));
        match keys.iter().find(missing) {
            None => Ok(()),
            Some(path) => Err(CoreError::config(format!(
                "scan.key-fields lacks '/{}', which is in the container's partition key: rows of different documents would be taken for one; name it too, which in a table means that its column is in the primary key, or set scan.changelog-mode of the table to append",
                path.join("/")
            ))),
        }
    }

    /// Refuses a container whose documents are not named by these fields.
    ///
    /// # Errors
    /// Config, with the field that is missing.
    pub fn check(&self, keys: &KeyPaths) -> Result<()> {
        keys.iter()
            .try_for_each(|path| self.require(path, "which is in the container's partition key"))
    }

    /// Refuses a field that is not among these. `which` says what it is for.
    ///
    /// # Errors
    /// Config.
    pub fn require(&self, path: &[String], which: &str) -> Result<()> {
        match self.0.iter().any(|field| path.starts_with(field)) {
            true => Ok(()),
            false => Err(CoreError::config(format!(
                "sink.key-fields lacks '/{}', {which}: a deletion would not find its document; name it too, which in a table means that its column is in the primary key, or set sink.delete-mode of the table to ignore",
                path.join("/")
            ))),
        }
    }
}

/// A value of one part: its kind, its length in bytes, a colon and itself, so that no two lists of values are hashed alike.
fn add(hash: &mut Sha256, kind: char, text: &str) {
    hash.update(format!("{kind}{}:", text.len()));
    hash.update(text);
}

fn no_id<T>(path: &[String], why: &str) -> Result<T> {
    Err(CoreError::new(
        Kind::BadRequest,
        format!(
            "the document has no id: its field '{}' {why}; give it one, or make the id of other fields (sink.id)",
            path.join("/")
        ),
    ))
}

enum Scalar<'a> {
    Text(String),
    /// A number, a boolean or null, as it stands.
    Other(&'a str),
}

/// The value at a path; `None`: there is none.
fn field<'a>(document: &'a [u8], path: &[String]) -> Result<Option<Scalar<'a>>> {
    let value = nested(document.trim_ascii_start(), path).map_err(|e| broken(&e))?;
    let text = std::str::from_utf8(value).map_err(|_| broken(&Broken("a value is no UTF-8")))?;
    match value.first() {
        None => Ok(None),
        Some(b'{' | b'[') => no_id(path, "is an object or an array"),
        Some(b'"') => match serde_json::from_str(text) {
            Ok(text) => Ok(Some(Scalar::Text(text))),
            Err(_) => no_id(path, "is a text that cannot be decoded"),
        },
        Some(_) => Ok(Some(Scalar::Other(text))),
    }
}

/// The failure of a document that is no JSON object.
pub fn broken(why: &Broken) -> CoreError {
    CoreError::new(
        Kind::BadRequest,
        format!("the document is not a JSON object: {}", why.0),
    )
}

/// The partition key that a document has at the paths of its container, as JSON: `{}` stands for a value that is missing.
///
/// # Errors
/// BadRequest, the record's own, when a value can be no part of a key.
pub fn key_of(document: &[u8], paths: &KeyPaths) -> Result<String> {
    let mut key = String::from("[");
    for path in paths.iter() {
        let value = nested(document.trim_ascii_start(), path).map_err(|e| broken(&e))?;
        let value = match (value.first(), std::str::from_utf8(value)) {
            (None, _) => "{}",
            (Some(b'{' | b'['), _) | (_, Err(_)) => {
                return Err(CoreError::new(
                    Kind::BadRequest,
                    format!(
                        "the document's partition key at '/{}' is an object, an array or no text; it must be text, a number, a boolean or null",
                        path.join("/")
                    ),
                ))
            }
            (_, Ok(value)) => value,
        };
        if key.len() > 1 {
            key.push(',');
        }
        key.push_str(value);
    }
    key.push(']');
    Ok(key)
}

/// The document with this id as its first field. It has none.
pub fn with_id(document: &[u8], id: &str) -> Vec<u8> {
    let inner = document.trim_ascii_start();
    let inner = inner.strip_prefix(b"{").unwrap_or(inner);
    let mut out = Vec::with_capacity(document.len() + id.len() + 10);
    out.extend_from_slice(b"{\"id\":");
    push_string(&mut out, id.as_bytes());
    if inner.trim_ascii_start().first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(inner);
    out
}

/// The document without its fields whose value is null, also inside of objects; `None` where there are none. The items of an array stay, and so
/// does a null that is a part of the key.
///
/// # Errors
/// What is wrong with the text.
pub fn without_nulls(document: &[u8], paths: &KeyPaths) -> Scan<Option<Vec<u8>>> {
    if memmem::find(document, b"null").is_none() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(document.len());
    let mut scanner = Scanner {
        bytes: document,
        at: 0,
    };
    scanner.peek()?;
    let keys: Vec<&[String]> = paths.iter().collect();
    copy(&mut scanner, &mut out, &keys, 0)?;
    Ok(Some(out))
}

/// Copies the value that begins here.
fn copy(s: &mut Scanner<'_>, out: &mut Vec<u8>, keys: &[&[String]], depth: usize) -> Scan<()> {
    match s.peek()? {
        b'{' if depth < MAX_DEPTH => {
            out.push(b'{');
            let begin = out.len();
            s.object(|key, s| {
                let mark = out.len();
                if mark > begin {
                    out.push(b',');
                }
                out.extend_from_slice(key.quoted());
                out.push(b':');
                let inside: Vec<&[String]> = keys
                    .iter()
                    .filter(|path| path.first().is_some_and(|name| key.is(name)))
                    .map(|path| &path[1..])
                    .collect();
                let value = out.len();
                copy(s, out, &inside, depth + 1)?;
                if &out[value..] == b"null" && !inside.iter().any(|path| path.is_empty()) {
                    out.truncate(mark);
                }
                Ok::<_, Broken>(())
            })?;
            out.push(b'}');
        }
        b'[' if depth < MAX_DEPTH => {
            out.push(b'[');
            let mut first = true;
            s.array("an array is missing", |s| {
                // Broken ones stay broken: an item may have no bytes.
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                copy(s, out, &[], depth + 1)
            })?;
            out.push(b']');
        }
        _ => out.extend_from_slice(s.value()?),
    }
    Ok(())
}

/// A stored document with the fields of another one over its own, without what the service writes into each.
///
/// # Errors
/// What is wrong with either text.
pub fn merged(stored: &[u8], fields: &[u8]) -> Scan<Vec<u8>> {
    let mut ours = Vec::new();
    Scanner { bytes: fields, at: 0 }.object(|key, s| {
        ours.push((key, s.value()?));
        Ok::<_, Broken>(())
    })?;
    let name = |key: crate::json::Key<'_>| key.decoded().ok_or(Broken("a key cannot be decoded"));
    let names: Vec<String> = ours.iter().map(|(key, _)| name(*key)).collect::<Scan<_>>()?;
    let mut out = Vec::with_capacity(stored.len() + fields.len());
    out.push(b'{');
    let mut put = |quoted: &[u8], value: &[u8]| {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(quoted);
        out.push(b':');
        out.extend_from_slice(value);
    };
    Scanner { bytes: stored, at: 0 }.object(|key, s| {
        let (name, value) = (name(key)?, s.value()?);
        if !names.contains(&name) && !SYSTEM_FIELDS.contains(&name.as_str()) {
            put(key.quoted(), value);
        }
        Ok::<_, Broken>(())
    })?;
    for ((key, value), name) in ours.iter().zip(&names) {
        if !SYSTEM_FIELDS.contains(&name.as_str()) {
            put(key.quoted(), value);
        }
    }
    out.push(b'}');
    Ok(out)
}

/// Whether a stored document is what `ours` wrote, whatever the order of the fields and the spelling of numbers, and apart from what
/// the service writes into each.
pub fn is_same(stored: &[u8], ours: &[u8]) -> bool {
    let read = |json: &[u8]| {
        let mut value: Value = serde_json::from_slice(json).ok()?;
        let fields = value.as_object_mut()?;
        for name in SYSTEM_FIELDS {
            fields.remove(name);
        }
        Some(value)
    };
    match (read(stored), read(ours)) {
        (Some(a), Some(b)) => equal(&a, &b),
        _ => false,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(all: &[&str]) -> KeyPaths {
        KeyPaths::new(all)
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn ids_are_made_of_fields() {
        let document =
            br#" {"id":"x","customer":{"id":"c\u0031","n":null},"order":7,"ok":true,"tags":["a"]}"#;
        let id = |rule: &str| IdRule::parse(rule).unwrap().id(document);
        assert_eq!(id("{id}").unwrap(), "x");
        assert_eq!(id("{order}").unwrap(), "7");
        assert_eq!(id("o-{customer/id}-{order}!{ok}").unwrap(), "o-c1-7!true");
        // printf 's2:c1v1:7' | sha256sum
        assert_eq!(
            id("hash(customer/id, order)").unwrap(),
            "2e802f298aa168b8cb42369fb22355e7"
        );
        assert_ne!(id("hash(customer/id)").unwrap(), id("hash(order)").unwrap());
        assert!(id("hash(customer/n)").is_ok(), "null is a value");
        for rule in [
            "{missing}",
            "{customer/n}",
            "{customer}",
            "{tags}",
            "hash(missing)",
            "hash(tags)",
        ] {
            let error = id(rule).unwrap_err();
            assert_eq!(error.kind, Kind::BadRequest, "{rule}");
            assert!(error.message.contains("sink.id"), "{error}");
        }
    }

    #[test]
    fn a_rule_that_makes_no_ids_is_refused() {
        for rule in [
            "", "constant", "{", "{a", "a}", "{}", "{a/}", "hash()", "hash(a,)",
        ] {
            assert!(IdRule::parse(rule).is_err(), "{rule:?}");
        }
    }

    #[test]
    fn a_documents_key_is_what_stands_at_the_paths() {
        let key = |document: &str, all: &[&str]| key_of(document.as_bytes(), &paths(all));
        assert_eq!(key(r#"{"pk":"e\"u"}"#, &["/pk"]).unwrap(), r#"["e\"u"]"#);
        assert_eq!(
            key(r#"{"a":{"b":7},"c":null}"#, &["/a/b", "/c", "/d"]).unwrap(),
            "[7,null,{}]"
        );
        assert_eq!(key("{}", &[]).unwrap(), "[]");
        assert_eq!(key(r#"{"pk":[1]}"#, &["/pk"]).unwrap_err().kind, Kind::BadRequest);
        assert_eq!(key("{", &["/pk"]).unwrap_err().kind, Kind::BadRequest);
    }

    #[test]
    fn a_deletion_gives_the_fields_of_the_key_and_what_lies_in_them() {
        let check = |fields: &str, all: &[&str]| KeyFields::parse(fields).unwrap().check(&paths(all));
        let given: [(&str, &[&str]); 4] = [
            (r#"["/id","/a/b"]"#, &["/a/b"]),
            (r#"["/a","/id"]"#, &["/a/b", "/a/c", "/id"]),
            (r#"[""]"#, &["/a/b"]),
            (r#"["/id"]"#, &[]),
        ];
        for (fields, all) in given {
            assert!(check(fields, all).is_ok(), "{fields} {all:?}");
        }
        let escaped = KeyFields::parse(r#"["/x~1y~0"]"#).unwrap();
        assert!(escaped.require(&["x/y~".to_owned()], "").is_ok());
        for fields in [r#"["/c"]"#, r#"["/c","/a/bc"]"#, r#"["/a/b/c","/c"]"#] {
            let error = check(fields, &["/c", "/a/b"]).unwrap_err();
            assert_eq!(error.kind, Kind::Config);
            assert!(error.message.contains("lacks '/a/b'"), "{fields}: {error}");
        }
    }

    #[test]
    fn an_id_becomes_the_first_field() {
        assert_eq!(text(with_id(b"{\"a\":1}", "x\"y")), "{\"id\":\"x\\\"y\",\"a\":1}");
        assert_eq!(text(with_id(b" { }", "x")), "{\"id\":\"x\" }");
    }

    #[test]
    fn nulls_go_and_everything_else_stays() {
        let without = |document: &str, all: &[&str]| {
            without_nulls(document.as_bytes(), &paths(all))
                .map(|out| out.map_or_else(|| document.to_owned(), text))
                .map_err(|e| e.0)
        };
        for (document, expected) in [
            (r#"{"a":1.10}"#, r#"{"a":1.10}"#),
            (r#"{"a":null}"#, "{}"),
            (
                r#"{"a":null,"b":"null","c":null,"d":[]}"#,
                r#"{"b":"null","d":[]}"#,
            ),
            (
                r#"{ "x" : {"a":null,"b":{"c":null}} , "l":[null,{"a":null,"b":1}, 2] }"#,
                r#"{"x":{"b":{}},"l":[null,{"b":1},2]}"#,
            ),
        ] {
            assert_eq!(without(document, &["/pk"]).unwrap(), expected);
        }
        // A key of null is not a key that is missing.
        assert_eq!(
            without(
                r#"{"pk":null,"t":{"id":null,"x":null},"n":null}"#,
                &["/pk", "/t/id"]
            )
            .unwrap(),
            r#"{"pk":null,"t":{"id":null}}"#
        );
        for broken in ["{\"a\":null", "{\"a\":null,}", "{\"a\" null}", "{\"a\":[null 1]}"] {
            assert!(without(broken, &[]).is_err(), "{broken}");
        }
        let deep = format!("{{\"a\":{}null{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(without(&deep, &[]).unwrap(), deep, "no stack is that deep");
    }

    #[test]
    fn fields_are_merged_over_those_of_the_stored_document() {
        let stored = br#"{"id":"a","n":1.10,"keep":[1, 2],"_etag":"\"1\"","_ts":7}"#;
        let ours = br#" {"n":2,"new":null,"_ts":1}"#;
        assert_eq!(
            text(merged(stored, ours).map_err(|e| e.0).unwrap()),
            r#"{"id":"a","keep":[1, 2],"n":2,"new":null}"#
        );
        assert_eq!(text(merged(b"{}", b"{}").map_err(|e| e.0).unwrap()), "{}");
        assert!(merged(b"{}", b"[").is_err());
    }

    #[test]
    fn the_same_document_is_known_again() {
        let stored = br#"{"n":1.1,"id":"a","l":[{"x":1,"y":null}],"_rid":"r","_self":"s","_etag":"e","_attachments":"a","_ts":1}"#;
        assert!(is_same(
            stored,
            br#"{"id":"a","n":1.10,"l":[{"y":null,"x":1.0}]}"#
        ));
        for other in [
            &br#"{"id":"a","n":1.10,"l":[{"x":1}]}"#[..],
            br#"{"id":"a","n":1.2,"l":[{"x":1,"y":null}]}"#,
            br#"{"id":"a","n":1.1,"l":[]}"#,
            b"{",
        ] {
            assert!(!is_same(stored, other), "{}", String::from_utf8_lossy(other));
        }
    }
}
