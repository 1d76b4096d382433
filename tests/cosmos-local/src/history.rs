//! The history that the change feed mode AllVersionsAndDeletes hands out: each version of each document, and the
//! deletions, in the order of the writes.

use crate::container::{Container, Position};
use azure_data_cosmos_driver::in_memory_emulator::Epk;
use bytes::Bytes;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// The form of `metadata.partitionKey` in the change feed mode AllVersionsAndDeletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataKey {
    /// The values, as the service sends them: `["a", 1]`.
    #[default]
    Array,
    /// The values by the paths of the key: `{"tenant": "a", "user": 1}`.
    Object,
}

/// How the change feed mode AllVersionsAndDeletes is served.
#[derive(Clone, Debug)]
pub struct AllVersions {
    /// Bytes of documents that a partition keeps in its history; the oldest versions go first.
    pub retention_bytes: usize,
    /// Whether pages carry the document as it was before, in `previous`.
    pub previous_images: bool,
    pub metadata_key: MetadataKey,
}

impl Default for AllVersions {
    /// 64 MiB a partition, no previous images, keys as arrays.
    fn default() -> Self {
        Self {
            retention_bytes: 64 << 20,
            previous_images: false,
            metadata_key: MetadataKey::Array,
        }
    }
}

/// What a write did to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Replace,
    Delete { expired: bool },
}

/// One write of one document.
#[derive(Clone)]
pub(crate) struct Version {
    pub epk: Epk,
    pub change: Change,
    /// Time of the write, in milliseconds since 1970.
    pub at: u64,
    /// Empty after a deletion.
    pub current: Bytes,
    /// The document before, and its position; none before a creation.
    pub previous: Option<(u64, Bytes)>,
}

impl Version {
    fn bytes(&self) -> usize {
        self.current.len() + self.previous.as_ref().map_or(0, |(_, body)| body.len())
    }
}

/// The versions of a partition's documents.
#[derive(Default)]
pub(crate) struct History {
    versions: BTreeMap<Position, Version>,
    bytes: usize,
    /// Position of the newest version that was let go.
    gone: u64,
}

impl History {
    pub fn add(&mut self, position: Position, version: Version, retention_bytes: usize) {
        self.bytes += version.bytes();
        self.versions.insert(position, version);
        // The newest stays, however large it is.
        while self.bytes > retention_bytes && self.versions.len() > 1 {
            let Some((position, version)) = self.versions.pop_first() else {
                break;
            };
            self.bytes -= version.bytes();
            self.gone = position.0;
        }
    }

    /// The next free place in a transaction.
    pub fn next_in(&self, write: u64) -> u32 {
        let mut of_write = self.versions.range((write, 0)..=(write, u32::MAX));
        of_write
            .next_back()
            .map_or(0, |((_, operation), _)| operation + 1)
    }

    pub fn after(&self, position: u64) -> impl Iterator<Item = (&Position, &Version)> {
        self.versions.range((position + 1, 0)..)
    }

    /// Position of the newest version that was let go.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// Notes that versions up to this position are not here.
    pub fn starts_after(&mut self, position: u64) {
        self.gone = self.gone.max(position);
    }

    /// Its versions, for the partitions that take over.
    pub fn into_versions(self) -> BTreeMap<Position, Version> {
        self.versions
    }
}

/// A page of history.
pub(crate) struct VersionPage {
    pub versions: Vec<(u64, Version)>,
    /// Where the next page starts.
    pub next: u64,
    /// The newest write of the container.
    pub last: u64,
    /// The partition the page came from, if it was one only.
    pub partition: Option<String>,
}

/// The body of a page.
pub(crate) fn body(
    container: &Container,
    page: &VersionPage,
    previous_images: bool,
    key: MetadataKey,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.versions.iter().map(|(_, v)| v.bytes() + 160).sum());
    // Writing to a vector cannot fail.
    let _ = write!(out, r#"{{"_rid":"{}","Documents":["#, container.rid);
    for (n, (lsn, version)) in page.versions.iter().enumerate() {
        out.extend_from_slice(if n > 0 {
            b",{\"current\":"
        } else {
            b"{\"current\":"
        });
        match version.change {
            Change::Delete { .. } => out.extend_from_slice(b"{}"),
            _ => out.extend_from_slice(&version.current),
        }
        if let (true, Some((_, previous))) = (previous_images, &version.previous) {
            out.extend_from_slice(b",\"previous\":");
            out.extend_from_slice(previous);
        }
        let _ = write!(
            out,
            r#","metadata":{}}}"#,
            metadata(container, *lsn, version, key)
        );
    }
    let _ = write!(out, r#"],"_count":{}}}"#, page.versions.len());
    out
}

fn metadata(container: &Container, lsn: u64, version: &Version, key: MetadataKey) -> Value {
    let operation = match version.change {
        Change::Create => "create",
        Change::Replace => "replace",
        Change::Delete { .. } => "delete",
    };
    let mut metadata = json!({ "operationType": operation, "lsn": lsn, "crts": version.at / 1000 });
    let Some((previous_lsn, previous)) = &version.previous else {
        return metadata;
    };
    metadata["previousImageLSN"] = (*previous_lsn).into();
    if let Change::Delete { expired } = version.change {
        // A deletion has no document to tell which one it was.
        metadata["timeToLiveExpired"] = expired.into();
        let document: Value = serde_json::from_slice(previous).unwrap_or_default();
        metadata["id"] = document["id"].clone();
        let values = container.key_of_document(&document);
        metadata["partitionKey"] = match key {
            MetadataKey::Array => values.into(),
            MetadataKey::Object => {
                let names = container.definition.paths().iter();
                let names = names.map(|path| path.trim_start_matches('/').to_owned());
                names.zip(values).collect::<serde_json::Map<_, _>>().into()
            }
        };
    }
    metadata
}
