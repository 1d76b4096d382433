//! An item of the change feed: its document, and what is known of it.

use crate::json::{has_backslash, integer, is_text, nested, Broken, Scan, Scanner};
use crate::rows::Decoder;

/// Text for a partition key component that the document does not have, as the service writes it in its own headers.
pub const UNDEFINED: &[u8] = b"{}";

/// Where the partition key of a container's documents is found.
#[derive(Clone, Debug)]
pub struct KeyPaths(pub(super) Vec<Vec<String>>);

impl KeyPaths {
    /// From paths such as `/tenant` or `/address/"zip code"`.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Self {
        let part = |p: &str| p.trim_matches('"').to_owned();
        KeyPaths(
            paths
                .iter()
                .map(|p| p.as_ref().trim_start_matches('/').split('/').map(part).collect())
                .collect(),
        )
    }

    /// The paths, each as the names on the way to a component.
    pub fn iter(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// How many components a key has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether keys have no components: of containers from before keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most components of a hierarchical partition key.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/hierarchical-partition-keys>.
pub const MAX_KEY_PATHS: usize = 3;

/// What was found in one feed item. Slices point into the item.
#[derive(Default)]
pub struct Found<'a> {
    pub document: &'a [u8],
    /// JSON text of the id, quotes included.
    pub id: &'a [u8],
    pub keys: [&'a [u8]; MAX_KEY_PATHS],
    pub ts: i64,
    pub lsn: i64,
    pub crts: i64,
    pub operation: u8,
    /// The deletion is that of a document whose time to live ended.
    pub expired: bool,
    /// The document as it was before, where the service says.
    pub previous: &'a [u8],
    pub deleted_id: &'a [u8],
    /// The partition key in the metadata: an array of values, or an object of them by their paths.
    pub deleted_key: &'a [u8],
}

/// A change that says that there is no document any more.
pub const DELETE: u8 = 3;

/// Reads the document of an item, or a row of a query: what is known of it goes into `found`.
pub trait Walk {
    /// The scanner stands before the document, and is left behind it.
    fn document<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        paths: &KeyPaths,
        found: &mut Found<'a>,
    ) -> Scan<()>;
}

/// For documents that are handed over as they are.
pub struct AsTheyAre;

impl Walk for AsTheyAre {
    fn document<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        paths: &KeyPaths,
        found: &mut Found<'a>,
    ) -> Scan<()> {
        document(scanner, paths, found)
    }
}

/// For documents that become rows: the same walk notes where their values stand.
impl Walk for Decoder {
    fn document<'a>(&mut self, scanner: &mut Scanner<'a>, _: &KeyPaths, found: &mut Found<'a>) -> Scan<()> {
        let walked = self.walk(scanner, &mut found.keys)?;
        (found.document, found.id) = (walked.document, walked.id);
        found.ts = integer(walked.ts).unwrap_or(0);
        if found.lsn < 0 {
            found.lsn = integer(walked.lsn).unwrap_or(-1);
        }
        Ok(())
    }
}

fn document<'a>(scanner: &mut Scanner<'a>, paths: &KeyPaths, found: &mut Found<'a>) -> Scan<()> {
    if scanner.peek()? != b'{' {
        found.document = scanner.value()?;
        return Ok(());
    }
    let start = scanner.at;
    scanner.object(|key, s| {
        // The last of two equal keys counts, as in every JSON parser that keeps one.
        let top = |i: usize| key.is(&paths.0[i][0]);
        match (0..paths.0.len()).find(|i| top(*i)) {
            Some(i) if paths.0[i].len() == 1 => found.keys[i] = s.value()?,
            Some(_) => {
                let value = s.value()?;
                for i in (0..paths.0.len()).filter(|i| top(*i)) {
                    found.keys[i] = nested(value, &paths.0[i][1..])?;
                }
            }
            None => match key.text() {
                b"id" => found.id = s.value()?,
                b"_ts" => found.ts = integer(s.value()?).unwrap_or(0),
                b"_lsn" if found.lsn < 0 => found.lsn = integer(s.value()?).unwrap_or(-1),
                _ => drop(s.value()?),
            },
        }
        // A container may be partitioned by id or by _ts: then the arm above did not see it.
        Ok::<_, Broken>(())
    })?;
    found.document = &scanner.bytes[start..scanner.at];
    for (i, path) in paths.0.iter().enumerate() {
        match path.as_slice() {
            [one] if one == "id" => found.id = found.keys[i],
            [one] if one == "_ts" => found.ts = integer(found.keys[i]).unwrap_or(0),
            _ => {}
        }
    }
    Ok(())
}

/// An item is `{"current":{..},"previous":{..},"metadata":{..}}`: `previous` where the service keeps what was before, and for a delete
/// without or with an empty `current`. The scanner stands before it and is left behind it.
pub fn item<'a>(
    scanner: &mut Scanner<'a>,
    paths: &KeyPaths,
    found: &mut Found<'a>,
    walk: &mut impl Walk,
) -> Scan<()> {
    let mut enveloped = false;
    let start = scanner.at;
    scanner.object(|key, s| match key.text() {
        b"current" if s.peek()? == b'{' => {
            enveloped = true;
            walk.document(s, paths, found)
        }
        b"metadata" if s.peek()? == b'{' => {
            enveloped = true;
            metadata(s, found)
        }
        b"previous" if s.peek()? == b'{' => {
            found.previous = s.value()?;
            Ok(())
        }
        _ => s.value().map(drop),
    })?;
    if !enveloped {
        let mut again = Scanner {
            bytes: scanner.bytes,
            at: start,
        };
        walk.document(&mut again, paths, found)?;
    }
    if !enveloped {
        // A document may have a field of that name.
        found.previous = b"";
    }
    deletion(paths, found)
}

/// What a delete is without: a document. It comes with an empty `current`, if at all; which document it was stands in the metadata, or
/// else in what was before.
fn deletion<'a>(paths: &KeyPaths, found: &mut Found<'a>) -> Scan<()> {
    if found.previous == b"{}" {
        found.previous = b"";
    }
    if found.operation == DELETE || (found.id.is_empty() && !found.deleted_id.is_empty()) {
        found.document = b"";
        if found.ts == 0 {
            found.ts = found.crts.max(0);
        }
        if found.id.is_empty() && found.deleted_id.is_empty() && !found.previous.is_empty() {
            let mut before = Found::default();
            let mut scanner = Scanner {
                bytes: found.previous,
                at: 0,
            };
            document(&mut scanner, paths, &mut before)?;
            (found.id, found.keys) = (before.id, before.keys);
        }
    }
    Ok(())
}

/// A row of a query is any JSON value. One that is an object may have an id and a key, as far as they were selected.
pub fn row<'a>(
    scanner: &mut Scanner<'a>,
    paths: &KeyPaths,
    found: &mut Found<'a>,
    walk: &mut impl Walk,
) -> Scan<()> {
    walk.document(scanner, paths, found)?;
    if found.id.first() != Some(&b'"') {
        found.id = b"";
    }
    Ok(())
}

fn metadata<'a>(scanner: &mut Scanner<'a>, found: &mut Found<'a>) -> Scan<()> {
    scanner.object(|key, s| {
        let value = s.value()?;
        match key.text() {
            b"lsn" => found.lsn = integer(value).unwrap_or(-1),
            b"crts" => found.crts = integer(value).unwrap_or(-1),
            b"id" => found.deleted_id = value,
            b"partitionKey" => found.deleted_key = value,
            b"timeToLiveExpired" => found.expired = value == b"true",
            b"operationType" => {
                found.operation = match value {
                    b"\"create\"" => 1,
                    b"\"replace\"" => 2,
                    b"\"delete\"" => DELETE,
                    _ => 0,
                }
            }
            _ => {}
        }
        Ok::<_, Broken>(())
    })
}

/// What can be known of an item whose document cannot be read: the document's bytes, what the service says about it, and what was read of
/// it before the fault.
pub fn salvage<'a>(raw: &'a [u8], paths: &KeyPaths) -> Found<'a> {
    let mut found = Found {
        lsn: -1,
        crts: -1,
        ..Found::default()
    };
    let mut current: &[u8] = b"";
    let walked = Scanner { bytes: raw, at: 0 }.object(|key, s| {
        match key.text() {
            b"current" => current = s.value()?,
            b"metadata" if s.peek()? == b'{' => metadata(s, &mut found)?,
            _ => drop(s.value()?),
        }
        Ok::<_, Broken>(())
    });
    if walked.is_err() || current.is_empty() {
        current = raw;
    }
    // Fails at the fault; what came before it is kept.
    let _ = document(
        &mut Scanner {
            bytes: current,
            at: 0,
        },
        paths,
        &mut found,
    );
    found.document = match found.operation {
        DELETE => b"",
        _ => current,
    };
    found
}

/// The partition key that the metadata has as an object, as the text of each component in the order of the container's paths: by the path
/// as a whole, or as nested as in a document. `None` where it names what is no path of the container, or is no object.
pub fn key_by_path<'a>(object: &'a [u8], paths: &KeyPaths) -> Option<[&'a [u8]; MAX_KEY_PATHS]> {
    let mut keys: [&[u8]; MAX_KEY_PATHS] = Default::default();
    let mut scanner = Scanner { bytes: object, at: 0 };
    let walked = scanner.object(|key, s| {
        let value = s.value()?;
        let mut known = false;
        for (i, path) in paths.0.iter().enumerate() {
            let whole = path.join("/");
            if key.is(&whole) || key.is(&format!("/{whole}")) {
                (keys[i], known) = (value, true);
            } else if path.len() > 1 && key.is(&path[0]) {
                (keys[i], known) = (nested(value, &path[1..])?, true);
            }
        }
        match known {
            true => Ok(()),
            false => Err(Broken("the key names another path")),
        }
    });
    walked.ok().map(|()| keys)
}

/// Why an item that was walked through cannot be decoded. `utf8` says that the whole page is known to be UTF-8, `row` that it need not have
/// an id.
pub fn flaw(found: &Found<'_>, paths: &KeyPaths, utf8: bool, row: bool) -> Option<&'static str> {
    let texts = [
        found.document,
        found.previous,
        found.deleted_id,
        found.deleted_key,
    ];
    if !utf8 && texts.into_iter().any(|t| std::str::from_utf8(t).is_err()) {
        return Some("it is not UTF-8");
    }
    match id_of(found) {
        b"" if row => {}
        b"" => return Some("it has no id"),
        id if !is_text(id) => return Some("its id is not text"),
        _ => {}
    }
    let mut keys = found.keys[..paths.len()].iter();
    let deleted_key = found.deleted_key;
    if keys.any(|key| key.first() == Some(&b'"') && !is_text(key))
        || (has_backslash(deleted_key) && serde_json::from_slice::<serde_json::Value>(deleted_key).is_err())
    {
        return Some("its partition key is not text");
    }
    if found.document.is_empty()
        && deleted_key.first() == Some(&b'{')
        && key_by_path(deleted_key, paths).is_none()
    {
        return Some("its partition key has other paths than the container's");
    }
    None
}

/// JSON text of the id; empty when there is none.
pub fn id_of<'a>(found: &Found<'a>) -> &'a [u8] {
    match found.id {
        b"" => found.deleted_id,
        id => id,
    }
}
