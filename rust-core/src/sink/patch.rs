//! Patches: what they must look like, and how one that is too long for the service is cut.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{CoreError, Kind, Result};
use crate::json::{push_string, segment, segments, Broken, Scanner};
use crate::page::KeyPaths;

use super::document::{broken, SYSTEM_FIELDS};

/// Most operations that the service takes in one patch.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/partial-document-update>.
pub const MAX_OPERATIONS: usize = 10;

/// What a patch may do at a path.
const VERBS: [&str; 6] = ["set", "add", "replace", "remove", "incr", "move"];

/// `{"operations":[..],"condition":".."}`, as the service takes it.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    operations: Vec<&'a RawValue>,
    #[serde(default)]
    condition: Option<String>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(default)]
    from: Option<String>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
}

/// A value that is there, also when it is null.
fn given<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn bad<T>(why: impl std::fmt::Display) -> Result<T> {
    Err(CoreError::new(Kind::BadRequest, format!("the patch {why}")))
}

/// The bodies of the requests that carry a patch out, in order; none where the one that was given does. `with_etag`: the patch is for one
/// state of the document.
///
/// # Errors
/// BadRequest, the record's own, when the service would refuse it, or when it cannot be cut: a condition and an ETag are about the document
/// as it is before the first operation, and each request would look at them anew.
pub fn parts(body: &[u8], paths: &KeyPaths, with_etag: bool) -> Result<Vec<Vec<u8>>> {
    let body: Body<'_> = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(e) => {
            return bad(format!(
                "is not of the form {{\"operations\":[..],\"condition\":\"..\"}} ({e})"
            ))
        }
    };
    if body.operations.is_empty() {
        return bad("has no operations; leave the record out, or give it one");
    }
    for operation in &body.operations {
        check(operation, paths)?;
    }
    if body.operations.len() <= MAX_OPERATIONS {
        return Ok(Vec::new());
    }
    if body.condition.is_some() || with_etag {
        return bad(format!(
            "has {} operations and {}; the service takes {MAX_OPERATIONS}, and what is cut into several requests can have none. Leave it \
             out, or make it several records of up to {MAX_OPERATIONS} operations",
            body.operations.len(),
            if with_etag { "an ETag" } else { "a condition" },
        ));
    }
    let texts = body.operations.iter().map(|o| o.get().as_bytes());
    Ok(bodies(&texts.collect::<Vec<_>>(), MAX_OPERATIONS))
}

fn check(operation: &RawValue, paths: &KeyPaths) -> Result<()> {
    let text = operation.get();
    let entry: Entry<'_> = match serde_json::from_str(text) {
        Ok(entry) => entry,
        Err(e) => {
            let head: String = text.chars().take(200).collect();
            return bad(format!("has the operation {head}, which cannot be read: {e}"));
        }
    };
    if !VERBS.contains(&&*entry.op) {
        return bad(format!(
            "has the operation '{}'; there are {}",
            entry.op.escape_debug(),
            VERBS.join(", ")
        ));
    }
    check_path(&entry.path, paths)?;
    match (&*entry.op, entry.value.map(RawValue::get), &entry.from) {
        ("move", _, Some(from)) => check_path(from, paths),
        ("move", _, None) => bad(format!("moves to '{}' and does not say from where", entry.path)),
        ("remove", _, _) => Ok(()),
        ("incr", Some(value), _) if !value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => bad(
            format!("increments '{}' by {value}, which is no number", entry.path),
        ),
        (_, Some(_), _) => Ok(()),
        (op, None, _) => bad(format!("has no value for {op} at '{}'", entry.path)),
    }
}

/// Refuses what no patch can change: the id, the partition key, and what the service writes itself.
fn check_path(path: &str, paths: &KeyPaths) -> Result<()> {
    let Some(inner) = path.strip_prefix('/').filter(|inner| !inner.is_empty()) else {
        return bad(format!(
            "has the path '{}'; a path is / and the name of a field, such as /status or /address/city",
            path.escape_debug()
        ));
    };
    let segments = segments(inner);
    let first = segments[0].as_str();
    if first == "id" || SYSTEM_FIELDS.contains(&first) {
        return bad(format!("changes '{path}', which no patch can"));
    }
    // What lies above the key holds it, and it holds what lies below it.
    let touches = |key: &[String]| key.iter().zip(&segments).all(|(a, b)| a == b);
    if paths.iter().any(touches) {
        return bad(format!(
            "changes '{path}', which is of the partition key; a document keeps its key: delete it and create another one"
        ));
    }
    Ok(())
}

/// Patches of so many operations each.
fn bodies(operations: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
    let one = |part: &[&[u8]]| {
        let mut out = b"{\"operations\":[".to_vec();
        out.extend_from_slice(&part.join(&b','));
        out.extend_from_slice(b"]}");
        out
    };
    operations.chunks(most.max(1)).map(one).collect()
}

/// The patch that sets each field of a document, but for its id, its partition key and what the service writes itself.
///
/// # Errors
/// BadRequest, the record's own, when nothing is left to set, or when it is no JSON object.
pub fn of_document(document: &[u8], paths: &KeyPaths) -> Result<Vec<u8>> {
    let mut operations = Vec::new();
    let keys: Vec<&[String]> = paths.iter().collect();
    let mut scanner = Scanner {
        bytes: document,
        at: 0,
    };
    sets(&mut scanner, "", &keys, &mut operations).map_err(|e| broken(&e))?;
    if operations.is_empty() {
        return bad("would be empty: the document has no fields but its id and its partition key");
    }
    let all: Vec<&[u8]> = operations.iter().map(Vec::as_slice).collect();
    Ok(bodies(&all, usize::MAX).remove(0))
}

/// One operation for each field of the object that begins here; of an object that holds a part of the key, one for each field beside it.
fn sets(
    scanner: &mut Scanner<'_>,
    above: &str,
    keys: &[&[String]],
    operations: &mut Vec<Vec<u8>>,
) -> std::result::Result<(), Broken> {
    scanner.object(|key, s| {
        let name = key.decoded().ok_or(Broken("a key cannot be decoded"))?;
        let inside: Vec<&[String]> = keys
            .iter()
            .filter(|path| path.first() == Some(&name))
            .map(|path| &path[1..])
            .collect();
        let path = [above, &segment(&name)].concat();
        let kept = above.is_empty() && (name == "id" || SYSTEM_FIELDS.contains(&name.as_str()));
        if kept || inside.iter().any(|path| path.is_empty()) {
            return s.value().map(drop);
        }
        if !inside.is_empty() && s.peek()? == b'{' {
            return sets(s, &path, &inside, operations);
        }
        let mut operation = b"{\"op\":\"set\",\"path\":".to_vec();
        push_string(&mut operation, path.as_bytes());
        operation.extend_from_slice(b",\"value\":");
        operation.extend_from_slice(s.value()?);
        operation.push(b'}');
        operations.push(operation);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(all: &[&str]) -> KeyPaths {
        KeyPaths::new(all)
    }

    fn refused(body: &str, keys: &[&str]) -> String {
        let error = parts(body.as_bytes(), &paths(keys), false).unwrap_err();
        assert_eq!(error.kind, Kind::BadRequest, "{body}");
        error.message
    }

    #[test]
    fn what_the_service_takes_goes_as_it_is() {
        for body in [
            r#"{"operations":[{"op":"set","path":"/a","value":null}]}"#,
            r#"{"operations":[{"op":"add","path":"/list/-","value":{"x":1}}],"condition":"FROM c WHERE c.n = 1"}"#,
            r#"[{"op":"remove","path":"/a"}]"#,
            r#"{"operations":[{"op":"incr","path":"/n","value":-1.5},{"op":"move","from":"/a","path":"/b"},{"op":"replace","path":"/pkx","value":"t"}]}"#,
        ] {
            let result = parts(body.as_bytes(), &paths(&["/pk", "/tenant/id"]), true);
            match body.starts_with('[') {
                true => assert_eq!(result.unwrap_err().kind, Kind::BadRequest),
                false => assert!(result.unwrap().is_empty(), "{body}"),
            }
        }
    }

    #[test]
    fn what_no_patch_can_do_is_refused_with_the_path() {
        let one = |operation: &str| format!("{{\"operations\":[{operation}]}}");
        for (operation, why) in [
            (r#"{"op":"set","path":"/id","value":1}"#, "/id"),
            (r#"{"op":"set","path":"/_ts","value":1}"#, "/_ts"),
            (r#"{"op":"remove","path":"/pk"}"#, "partition key"),
            (r#"{"op":"set","path":"/pk/x","value":1}"#, "partition key"),
            (r#"{"op":"set","path":"/tenant","value":{}}"#, "partition key"),
            (r#"{"op":"set","path":"/tenant/id","value":1}"#, "partition key"),
            (r#"{"op":"move","from":"/pk","path":"/a"}"#, "partition key"),
            (r#"{"op":"move","path":"/a"}"#, "from where"),
            (r#"{"op":"set","path":"/a"}"#, "no value"),
            (r#"{"op":"incr","path":"/a","value":"1"}"#, "no number"),
            (r#"{"op":"incr","path":"/a"}"#, "no value"),
            (r#"{"op":"test","path":"/a","value":1}"#, "'test'"),
            (r#"{"op":"set","path":"a","value":1}"#, "'a'"),
            (r#"{"op":"set","path":"/","value":1}"#, "'/'"),
            (r#"{"path":"/a","value":1}"#, "cannot be read"),
        ] {
            let message = refused(&one(operation), &["/pk", "/tenant/id"]);
            assert!(message.contains(why), "{operation}: {message}");
        }
        assert!(refused(r#"{"operations":[]}"#, &["/pk"]).contains("no operations"));
        assert!(refused("{}", &["/pk"]).contains("operations"));
        assert!(refused("", &["/pk"]).contains("form"));
        // Beside the key of a hierarchy there is room.
        let beside = one(r#"{"op":"set","path":"/tenant/name","value":1}"#);
        assert!(parts(beside.as_bytes(), &paths(&["/tenant/id"]), false).is_ok());
    }

    #[test]
    fn a_long_patch_is_cut_in_order_and_never_with_a_condition() {
        let operations: Vec<String> = (0..23)
            .map(|n| format!(r#"{{"op":"set","path":"/f{n}","value":{n}}}"#))
            .collect();
        let body = format!("{{\"operations\":[{}]}}", operations.join(","));
        let cut = parts(body.as_bytes(), &paths(&["/pk"]), false).unwrap();
        let mut all = Vec::new();
        for part in &cut {
            let part: Body<'_> = serde_json::from_slice(part).unwrap();
            assert!(part.operations.len() <= MAX_OPERATIONS && part.condition.is_none());
            all.extend(part.operations.iter().map(|o| o.get().to_owned()));
        }
        assert_eq!((cut.len(), all), (3, operations.clone()));
        assert!(parts(body.as_bytes(), &paths(&["/pk"]), true)
            .unwrap_err()
            .message
            .contains("an ETag"));
        let conditional = format!(
            "{{\"condition\":\"FROM c\",\"operations\":[{}]}}",
            operations.join(",")
        );
        assert!(refused(&conditional, &["/pk"]).contains("a condition"));
    }

    #[test]
    fn a_document_becomes_a_patch_of_its_fields() {
        let of = |document: &str, keys: &[&str]| {
            let patch = of_document(document.as_bytes(), &paths(keys))?;
            parts(&patch, &paths(keys), false)?;
            Ok(serde_json::from_slice::<serde_json::Value>(&patch).unwrap())
        };
        let document =
            r#" {"id":"a","pk":"k","n":1.10,"_etag":"x","a/b~c":null,"tenant":{"id":7,"name":"t"}}"#;
        assert_eq!(
            of(document, &["/pk", "/tenant/id"]).unwrap(),
            serde_json::json!({"operations": [
                {"op": "set", "path": "/n", "value": 1.10},
                {"op": "set", "path": "/a~1b~0c", "value": null},
                {"op": "set", "path": "/tenant/name", "value": "t"},
            ]})
        );
        let nothing: Result<_> = of(r#"{"id":"a","pk":"k"}"#, &["/pk"]);
        assert!(nothing.unwrap_err().message.contains("empty"));
        let no_object: Result<_> = of("[1]", &["/pk"]);
        assert_eq!(no_object.unwrap_err().kind, Kind::BadRequest);
    }
}
