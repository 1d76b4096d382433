//! The frames of the coordinator: EVENT, ACTIONS and DISCOVERY.

use std::collections::BTreeSet;

use super::{Action, Event, Failure, Found, Readers};
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::split::{write_entry, Split, SplitEntry};

/// Numbers of the events; they cross the boundary.
mod event {
    pub const STARTED: u8 = 1;
    pub const DISCOVERED: u8 = 2;
    pub const READER_REGISTERED: u8 = 3;
    pub const SPLITS_BACK: u8 = 4;
    pub const SPLIT_REQUESTED: u8 = 5;
    pub const CHECKPOINT_TAKEN: u8 = 6;
    pub const CHECKPOINT_COMPLETED: u8 = 7;
    pub const CHECKPOINT_ABORTED: u8 = 8;
    pub const CLOSED: u8 = 9;
    pub const FOLLOWED: u8 = 10;
    pub const LAG_REPORTED: u8 = 11;
}

/// Numbers of the actions; they cross the boundary.
mod action {
    pub const DISCOVER: u8 = 1;
    pub const ASSIGN: u8 = 2;
    pub const FAIL: u8 = 3;
    pub const STATE: u8 = 4;
    pub const NO_MORE_SPLITS: u8 = 5;
    pub const BACKLOG: u8 = 6;
}

/// The kind of a number on the wire.
fn kind(number: u8) -> Result<Kind> {
    const ALL: [Kind; 12] = [
        Kind::Config,
        Kind::Auth,
        Kind::NotFound,
        Kind::Throttled,
        Kind::Transient,
        Kind::BadRequest,
        Kind::Conflict,
        Kind::Precondition,
        Kind::TooLarge,
        Kind::Closed,
        Kind::State,
        Kind::Internal,
    ];
    ALL.into_iter()
        .find(|kind| *kind as u8 == number)
        .ok_or_else(|| CoreError::state(format!("kind {number} of a failure is not known to this build")))
}

fn write_splits(w: &mut FrameWriter, splits: &[Split]) {
    w.u32(splits.len() as u32);
    for split in splits {
        w.blob(&split.encode());
    }
}

fn read_splits(r: &mut FrameReader<'_>) -> Result<Vec<Split>> {
    let n = r.u32()?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(Split::decode(r.blob()?)?);
    }
    Ok(out)
}

fn write_failure(w: &mut FrameWriter, failure: &Failure, flag: bool) {
    w.u8(failure.kind as u8);
    w.u8(u8::from(flag));
    w.u16(failure.status);
    w.u32(failure.sub_status);
    w.str(&failure.activity_id);
    w.str(&failure.message);
}

/// Encodes an EVENT frame, as the shims do.
pub fn encode_event(readers: &Readers, event: &Event) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Event);
    w.u32(readers.parallelism);
    w.u32(readers.registered.len() as u32);
    for subtask in &readers.registered {
        w.u32(*subtask);
    }
    match event {
        Event::Started => w.u8(event::STARTED),
        Event::Discovered(result) => {
            w.u8(event::DISCOVERED);
            w.blob(&encode_discovery(result));
        }
        Event::ReaderRegistered { subtask, reported } => {
            w.u8(event::READER_REGISTERED);
            w.u32(*subtask);
            write_splits(&mut w, reported);
        }
        Event::SplitsBack { subtask, splits } => {
            w.u8(event::SPLITS_BACK);
            w.u32(*subtask);
            write_splits(&mut w, splits);
        }
        Event::SplitRequested { subtask } => {
            w.u8(event::SPLIT_REQUESTED);
            w.u32(*subtask);
        }
        Event::CheckpointTaken { id } => {
            w.u8(event::CHECKPOINT_TAKEN);
            w.u64(*id);
        }
        Event::CheckpointCompleted { id } => {
            w.u8(event::CHECKPOINT_COMPLETED);
            w.u64(*id);
        }
        Event::CheckpointAborted { id } => {
            w.u8(event::CHECKPOINT_ABORTED);
            w.u64(*id);
        }
        Event::Closed => w.u8(event::CLOSED),
        Event::Followed => w.u8(event::FOLLOWED),
        Event::LagReported { subtask, lag_millis } => {
            w.u8(event::LAG_REPORTED);
            w.u32(*subtask);
            w.u64(*lag_millis);
        }
    }
    w.0
}

/// Decodes an EVENT frame.
///
/// # Errors
/// [`Kind::State`] for a frame or split bytes that are damaged or newer.
pub fn decode_event(bytes: &[u8]) -> Result<(Readers, Event)> {
    let mut r = FrameReader::open(bytes, FrameKind::Event)?;
    let parallelism = r.u32()?;
    let n = r.u32()?;
    let mut registered = BTreeSet::new();
    for _ in 0..n {
        registered.insert(r.u32()?);
    }
    let event = match r.u8()? {
        event::STARTED => Event::Started,
        event::DISCOVERED => Event::Discovered(decode_discovery(r.blob()?)?),
        event::READER_REGISTERED => Event::ReaderRegistered {
            subtask: r.u32()?,
            reported: read_splits(&mut r)?,
        },
        event::SPLITS_BACK => Event::SplitsBack {
            subtask: r.u32()?,
            splits: read_splits(&mut r)?,
        },
        event::SPLIT_REQUESTED => Event::SplitRequested { subtask: r.u32()? },
        event::CHECKPOINT_TAKEN => Event::CheckpointTaken { id: r.u64()? },
        event::CHECKPOINT_COMPLETED => Event::CheckpointCompleted { id: r.u64()? },
        event::CHECKPOINT_ABORTED => Event::CheckpointAborted { id: r.u64()? },
        event::CLOSED => Event::Closed,
        event::FOLLOWED => Event::Followed,
        event::LAG_REPORTED => Event::LagReported {
            subtask: r.u32()?,
            lag_millis: r.u64()?,
        },
        other => {
            return Err(CoreError::state(format!(
                "event {other} is not known to this build; use the same version of jar and library"
            )))
        }
    };
    r.finish()?;
    let readers = Readers {
        parallelism,
        registered,
    };
    Ok((readers, event))
}

/// Encodes an ACTIONS frame. [`Action::Warn`] stays on this side, for the log.
pub fn encode_actions(unassigned: usize, actions: &[Action]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Actions);
    w.u32(unassigned as u32);
    let crossing = actions.iter().filter(|a| !matches!(a, Action::Warn(_)));
    w.u32(crossing.clone().count() as u32);
    for action in crossing {
        match action {
            Action::Discover { period_ms } => {
                w.u8(action::DISCOVER);
                w.u64(*period_ms);
            }
            Action::Assign(assignment) => {
                w.u8(action::ASSIGN);
                w.u32(assignment.len() as u32);
                for (subtask, splits) in assignment {
                    w.u32(*subtask);
                    w.u32(splits.len() as u32);
                    for split in splits {
                        write_entry(
                            &mut w,
                            &SplitEntry {
                                split: split.clone(),
                                assigned: true,
                            },
                        );
                    }
                }
            }
            Action::Fail { failure, ends } => {
                w.u8(action::FAIL);
                write_failure(&mut w, failure, *ends);
            }
            Action::NoMoreSplits(readers) => {
                w.u8(action::NO_MORE_SPLITS);
                w.u32(readers.len() as u32);
                readers.iter().for_each(|subtask| w.u32(*subtask));
            }
            Action::State(bytes) => {
                w.u8(action::STATE);
                w.blob(bytes);
            }
            Action::Backlog(there) => {
                w.u8(action::BACKLOG);
                w.u8(u8::from(*there));
            }
            Action::Warn(_) => {}
        }
    }
    w.0
}

/// Encodes a DISCOVERY frame: what a look for feed ranges ended with, for [`Event::Discovered`].
pub fn encode_discovery(result: &std::result::Result<Found, Failure>) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Discovery);
    match result {
        Ok(found) => {
            w.u8(0);
            write_splits(&mut w, &found.splits);
            w.u32(found.partitions.len() as u32);
            for (min, max) in &found.partitions {
                w.str(min);
                w.str(max);
            }
        }
        Err(failure) => {
            w.u8(1);
            write_failure(&mut w, failure, failure.outlives_restart);
        }
    }
    w.0
}

/// Decodes a DISCOVERY frame.
///
/// # Errors
/// [`Kind::State`] for a frame that is none, or is damaged.
pub fn decode_discovery(bytes: &[u8]) -> Result<std::result::Result<Found, Failure>> {
    let mut r = FrameReader::open(bytes, FrameKind::Discovery)?;
    let result = match r.u8()? {
        0 => {
            let splits = read_splits(&mut r)?;
            let mut partitions = Vec::new();
            for _ in 0..r.u32()? {
                partitions.push((r.str()?.to_owned(), r.str()?.to_owned()));
            }
            Ok(Found { splits, partitions })
        }
        1 => {
            let number = r.u8()?;
            Err(Failure {
                kind: kind(number)?,
                outlives_restart: r.u8()? & 1 != 0,
                status: r.u16()?,
                sub_status: r.u32()?,
                activity_id: r.str()?.to_owned(),
                message: r.str()?.to_owned(),
            })
        }
        other => {
            return Err(CoreError::state(format!(
                "result {other} of a discovery is not known"
            )))
        }
    };
    r.finish()?;
    Ok(result)
}
