//! What must hold of rows that are made of documents, whatever plan and documents are.
//!
//! An input is text, so that seeds can be read and written by hand. Its first line is a plan ([`input::plan`]), each further one a
//! document; one behind a `~` is of a delete. With a `P` in front of the plan the second line damages the PLAN frame.

pub mod input;
pub mod json;
pub mod mutate;
pub mod oracle;
pub mod row;

use azure_core::Bytes;
use cosmosflink_core::config::OnDecodeError;
use cosmosflink_core::error::Kind;
use cosmosflink_core::page::{build_rows, Items, KeyPaths, PageHead, ROW_BYTES};
use cosmosflink_core::rows::{Change, Changelog, Decoder, OnError, Plan, Refused, RowKind};

/// Most documents of an input that are looked at.
const MAX_DOCUMENTS: usize = 12;

/// Runs an input; panics where something does not hold.
pub fn run(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let plan = match first.split_first() {
        Some((b'P', rest)) => {
            let mut frame = input::plan(rest).encode();
            input::damage(&mut frame, lines.next().unwrap_or_default());
            opened(&frame)
        }
        _ => opened(&input::plan(first).encode()),
    };
    let Some(plan) = plan else {
        return;
    };
    let documents: Vec<_> = lines.take(MAX_DOCUMENTS).collect();
    each_alone(&plan, &documents);
    as_a_page(&plan, &documents);
}

/// The plan of a frame, which says the same when it is written again; `None` where it is refused in order.
fn opened(frame: &[u8]) -> Option<Plan> {
    match Plan::decode(frame) {
        Ok(plan) => {
            assert_eq!(
                Plan::decode(&plan.encode()).as_ref().ok(),
                Some(&plan),
                "a plan is another one when it is read again"
            );
            Some(plan)
        }
        Err(error) => {
            assert!(
                matches!(error.kind, Kind::State | Kind::Config),
                "a plan is refused as {error:?}"
            );
            None
        }
    }
}

/// What is known of a change, but for its document.
fn change<'a>(document: &'a [u8], plan: &Plan, deleted: bool) -> Change<'a> {
    let known = std::str::from_utf8(document).is_ok();
    Change {
        document,
        kind: match (plan.changelog, deleted) {
            (Changelog::Upsert, true) => RowKind::Delete,
            (Changelog::Upsert, false) => RowKind::UpdateAfter,
            _ => RowKind::Insert,
        },
        partial: deleted,
        id: if known { "an id of some length" } else { "" },
        partition_key: "[1]",
        timestamp: known.then_some(1_767_225_600_000),
        lsn: document.len() as i64 - 4,
        committed: document.len() as i64 - 8,
        operation: if deleted { "delete" } else { "upsert" },
        expired: deleted,
        arrived: 1_767_225_600_001,
        split_id: "00-FF",
    }
}

/// A document, and whether it is one of a delete.
fn document(line: &[u8]) -> (&[u8], bool) {
    match line {
        [b'~', rest @ ..] => (rest, true),
        line => (line, false),
    }
}

/// Each document by a decoder of its own, and by one that has seen those before.
fn each_alone(plan: &Plan, lines: &[&[u8]]) {
    let mut together = Decoder::new(plan, []);
    for line in lines {
        let (document, deleted) = document(line);
        let change = change(document, plan, deleted);
        let mut alone = Decoder::new(plan, []);
        let found = made(&mut alone, &change);
        for again in [made(&mut alone, &change), made(&mut together, &change)] {
            assert_eq!(again, found, "a row depends on what was decoded before");
        }
        match &found {
            Ok(row) => row::holds(plan, row, change.kind, std::str::from_utf8(document).is_ok()),
            Err(why) => assert!(!why.is_empty(), "a row is refused without a word"),
        }
        oracle::compare(plan, &change, &found);
    }
}

/// The row of a change, or why there is none; nothing is left behind then.
fn made(decoder: &mut Decoder, change: &Change<'_>) -> Result<Vec<u8>, String> {
    let before = decoder.len();
    let made = decoder.row(change);
    if made.is_err() {
        assert_eq!(decoder.len(), before, "a row that is refused leaves bytes behind");
    }
    decoder.take_nulled();
    match made {
        Ok(()) => Ok(decoder.take()),
        Err(Refused::Broken(why)) => Err(format!("{}{why}", oracle::BROKEN)),
        Err(Refused::Misfit(why)) => Err(why),
        Err(Refused::Filtered) => panic!("a plan without a filter leaves a row out"),
    }
}

/// All documents as one page of a query, without what cannot be decoded; each row is within the frame and is the one that its document has
/// alone.
fn as_a_page(plan: &Plan, lines: &[&[u8]]) {
    let plan = &Plan {
        on_error: match plan.missing_is_error {
            true => OnError::SkipRow,
            false => plan.on_error,
        },
        changelog: Changelog::Append,
        ..plan.clone()
    };
    let documents: Vec<_> = lines
        .iter()
        .map(|line| document(line).0)
        .filter(|document| !document.is_empty())
        .collect();
    let bytes = |document: &&[u8]| Bytes::copy_from_slice(document);
    let items = Items::Rows(vec![Items::Apart(documents.iter().map(bytes).collect())]);
    let head = PageHead {
        split_id: "00-FF",
        split: b"split",
        children: &[],
        arrived_epoch_millis: 1,
    };
    let paths = KeyPaths::new(&["/a", "/b/c"]);
    let mut decoder = Decoder::new(plan, paths.iter());
    let Ok(page) = build_rows(&head, &items, &paths, OnDecodeError::Skip, &mut decoder) else {
        return;
    };
    assert_eq!(page.documents, documents.len(), "documents are counted wrong");
    let frame = page.frame.to_vec();
    let u32_at = |at: usize| {
        let bytes = frame[at..at + 4].try_into();
        u32::from_le_bytes(bytes.expect("four bytes")) as usize
    };
    let (count, table) = (u32_at(4), u32_at(8));
    assert_eq!(count, page.records, "rows are counted wrong");
    assert_eq!(table % 8, 0, "the table is not aligned");
    assert_eq!(
        frame.len(),
        table + count * ROW_BYTES,
        "the frame has another length"
    );
    let mut end = 0;
    for number in 0..count {
        let entry = table + number * ROW_BYTES;
        let (at, length) = (u32_at(entry), u32_at(entry + 4));
        assert_eq!((at % 8, length % 8), (0, 0), "a row is not aligned");
        assert!(at >= end && at + length <= table, "a row is beyond its frame");
        assert_eq!(
            frame[entry + 16],
            RowKind::Insert as u8,
            "a row is of another kind"
        );
        row::holds(plan, &frame[at..at + length], RowKind::Insert, true);
        end = at + length;
    }
}
