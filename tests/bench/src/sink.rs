//! Upserts through the core, as a Flink writer hands them over, without a JVM.

use std::time::{Duration, Instant};

use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::sink::{encode_operations, NewOperation, OperationKind, Sink};

use crate::{core_options, document, Args, Error};

/// Operations of a submission: the default of `sink.buffer-flush.max-rows`.
const BATCH: u64 = 500;

/// Submissions under way: the default of `sink.max-in-flight-requests`.
const IN_FLIGHT: usize = 8;

/// How long a submission may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of documents that are kept ready, at most.
const READY: usize = 32 << 20;

/// A writer that writes the same documents again and again.
pub struct Writer {
    sink: Sink,
    /// Made beforehand: what it takes to encode them is the JVM's.
    frames: Vec<Vec<u8>>,
    submissions: u64,
}

impl Writer {
    /// Connects, and makes the documents. Blocks.
    pub fn open(args: &Args) -> Result<Writer, Error> {
        let sink = Sink::open(Config::parse(Role::Sink, &core_options(&args.container)?)?)?;
        let distinct = args.distinct.unwrap_or(args.count).max(1);
        let most = (READY / args.bytes.max(1)) as u64;
        let frames = distinct.min(most).div_ceil(BATCH);
        Ok(Writer {
            sink,
            frames: (0..frames).map(|n| frame(n * BATCH, args)).collect(),
            submissions: 0,
        })
    }

    /// Writes at least so many documents; returns how many they were. Blocks.
    pub fn write(&mut self, count: u64) -> Result<u64, Error> {
        let (mut submitted, mut open) = (0, 0);
        while submitted < count || open > 0 {
            while submitted < count && open < IN_FLIGHT {
                let frame = &self.frames[self.submissions as usize % self.frames.len()];
                self.sink.submit(self.submissions, frame.clone())?;
                self.submissions += 1;
                submitted += BATCH;
                open += 1;
            }
            let began = Instant::now();
            let mut completions = Vec::new();
            // Also returns when there is room for more.
            while completions.is_empty() {
                if began.elapsed() > PATIENCE {
                    return Err(format!(
                        "nothing has completed for {PATIENCE:?}, and {open} submissions are open"
                    )
                    .into());
                }
                completions = self.sink.poll(PATIENCE)?;
            }
            for completion in completions {
                open -= 1;
                if let Some(failure) = completion.failures.first() {
                    return Err(failure.error.to_string().into());
                }
            }
        }
        Ok(submitted)
    }
}

/// An OPERATIONS frame of the documents from this one on.
fn frame(from: u64, args: &Args) -> Vec<u8> {
    let rows: Vec<_> = (from..from + BATCH)
        .map(|i| {
            let (key, document) = document(i, args);
            (format!("order-{i:012}"), format!("[\"{key}\"]"), document)
        })
        .collect();
    let operations: Vec<_> = rows
        .iter()
        .map(|(id, key, document)| NewOperation {
            kind: OperationKind::Upsert,
            id,
            partition_key: key,
            if_match: "",
            document: document.as_bytes(),
        })
        .collect();
    encode_operations(&operations)
}
