//! The file of positions that `scan.startup.mode=tokens` begins from: JSON, one entry for each split, with the split bytes of a savepoint in base64.
//!
//! ```json
//! {"version": 1, "splits": [{"id": "00-FF", "description": "feed range [, FF) of .., continued", "split": "Q0ZT.."}]}
//! ```

use azure_core::base64;
use serde::{Deserialize, Serialize};

use crate::bound::{overlap, Bound};
use crate::error::{CoreError, Result};
use crate::feed::recreated;
use crate::split::{decode_state, uncovered, Split, SplitEntry};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    splits: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    /// For people, like the description: only the bytes are read.
    id: String,
    description: String,
    split: String,
}

/// The file for a checkpoint: the splits that its readers had, and those of the enumerator's state that no reader had yet.
///
/// # Errors
/// State for bytes that are no state, for splits of several containers, and where a part of the key space has no split or two.
pub fn write(of_readers: Vec<Split>, enumerator_state: &[u8]) -> Result<String> {
    let mut splits = of_readers;
    if !enumerator_state.is_empty() {
        let waiting = decode_state(enumerator_state)?
            .into_iter()
            .filter(|e| !e.assigned);
        splits.extend(waiting.map(|e| e.split));
    }
    let splits = checked(splits, "the checkpoint")?;
    let file = File {
        version: VERSION,
        splits: splits
            .iter()
            .map(|split| Entry {
                id: split.id(),
                description: split.describe(),
                split: base64::encode(split.encode()),
            })
            .collect(),
    };
    serde_json::to_string_pretty(&file)
        .map_err(|e| CoreError::internal(format!("positions cannot be written: {e}")))
}

/// Reads such a file, for the container with this name and resource id. Splits are numbered anew.
///
/// # Errors
/// Config for text that is no such file; State when it is another container's, or does not cover the key space.
pub fn read(text: &str, container: &str, rid: &str) -> Result<Vec<Split>> {
    let wrong = |why: String| {
        CoreError::config(format!(
            "scan.startup.tokens-file: {why}; write it with the command that docs/handing-over.md describes"
        ))
    };
    let file: File =
        serde_json::from_str(text).map_err(|e| wrong(format!("it is no file of positions: {e}")))?;
    if file.version != VERSION {
        return Err(wrong(format!(
            "it has version {}, this build reads version {VERSION}",
            file.version
        )));
    }
    let mut splits = Vec::new();
    for entry in &file.splits {
        let bytes = base64::decode(&entry.split)
            .map_err(|e| wrong(format!("the split of '{}' is no base64: {e}", entry.id)))?;
        splits.push(
            Split::decode(&bytes)
                .map_err(|e| e.while_doing(format!("scan.startup.tokens-file: '{}'", entry.id)))?,
        );
    }
    let splits = checked(splits, "scan.startup.tokens-file")?;
    match splits.iter().find(|split| split.container_rid != rid) {
        Some(foreign) => Err(recreated(container, &foreign.container_rid, rid)),
        None => Ok(splits),
    }
}

/// In the order of their ranges, numbered from 0.
fn checked(mut splits: Vec<Split>, what: &str) -> Result<Vec<Split>> {
    splits.sort_by(|a, b| Bound(&a.min).cmp(&Bound(&b.min)));
    for pair in splits.windows(2) {
        if pair[0].container_rid != pair[1].container_rid {
            return Err(CoreError::state(format!(
                "{what} has splits of two containers ({} and {}): name the source by its uid",
                pair[0].container_rid, pair[1].container_rid
            )));
        }
        if overlap(pair[0].range(), pair[1].range()) {
            return Err(CoreError::state(format!(
                "{what} has two splits for one range: {} and {}",
                pair[0].id(),
                pair[1].id()
            )));
        }
    }
    let entries: Vec<SplitEntry> = splits
        .iter()
        .map(|split| SplitEntry {
            split: split.clone(),
            assigned: true,
        })
        .collect();
    if let Some((min, max)) = uncovered(&entries).first() {
        return Err(CoreError::state(format!(
            "{what} has no split for the range [{min}, {max}): it is not the whole state of a source"
        )));
    }
    for (ordinal, split) in (0..).zip(&mut splits) {
        split.ordinal = ordinal;
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;
    use crate::split::{encode_state, Mode, Stop};

    fn split(ordinal: u32, min: &str, max: &str) -> Split {
        Split {
            ordinal,
            container_rid: "r".into(),
            min: min.into(),
            max: max.into(),
            start: Start::Beginning,
            continuation: Some(format!("c1.{min}{max}")),
            mode: Mode::LatestVersion,
            stop: Stop::Never,
            then: None,
            fingerprint: None,
        }
    }

    fn entry(split: Split, assigned: bool) -> SplitEntry {
        SplitEntry { split, assigned }
    }

    #[test]
    fn what_readers_have_and_what_waits_for_one_is_written_and_read_again() {
        let state = encode_state(&[
            // As it was assigned: its position is the reader's.
            entry(
                Split {
                    continuation: None,
                    ..split(3, "80", "FF")
                },
                true,
            ),
            entry(split(4, "", "80"), false),
        ]);
        let text = write(vec![split(3, "80", "FF")], &state).unwrap();
        assert!(text.contains("feed range [80, FF)"), "{text}");
        let read = read(&text, "orders", "r").unwrap();
        assert_eq!(read, [split(0, "", "80"), split(1, "80", "FF")]);
    }

    #[test]
    fn a_savepoint_of_0_1_0_is_written_too() {
        // Bytes of version 1, which are pinned where they are decoded.
        let bytes =
            b"CFS\x01\x07\0\0\0\x01\0\0\0r\0\0\0\0\x02\0\0\0FF\0\x02\xe8\x03\0\0\0\0\0\0\x04\0\0\0c1.x";
        let text = write(vec![Split::decode(bytes).unwrap()], &[]).unwrap();
        let expected = Split {
            start: Start::PointInTime(1000),
            continuation: Some("c1.x".into()),
            ..split(0, "", "FF")
        };
        assert_eq!(read(&text, "orders", "r").unwrap(), [expected]);
    }

    #[test]
    fn half_a_state_and_a_foreign_one_are_refused() {
        let error = write(vec![split(0, "80", "FF")], &[]).unwrap_err();
        assert!(error.message.contains("[, 80)"), "{error}");
        let error = write(vec![split(0, "", "FF"), split(1, "80", "FF")], &[]).unwrap_err();
        assert!(error.message.contains("two splits"), "{error}");
        write(vec![split(1, "80", "FF"), split(0, "", "8000")], &[]).unwrap();
        let other = Split {
            container_rid: "s".into(),
            ..split(1, "80", "FF")
        };
        let error = write(vec![split(0, "", "80"), other], &[]).unwrap_err();
        assert!(error.message.contains("two containers"), "{error}");
        let text = write(vec![split(0, "", "FF")], &[]).unwrap();
        let error = read(&text, "orders", "new").unwrap_err();
        assert!(error.message.contains("recreated"), "{error}");
        for text in [
            "",
            "{}",
            r#"{"version":2,"splits":[]}"#,
            r#"{"version":1,"splits":[{"id":"a","description":"","split":"!"}]}"#,
        ] {
            let error = read(text, "orders", "r").unwrap_err();
            assert!(error.message.contains("scan.startup.tokens-file"), "{error}");
        }
    }
}
