//! `tracing` events wait here, in a bounded ring, until Java drains them into its own log.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::Layer;

use crate::clock::epoch_millis;
use crate::frame::{FrameKind, FrameWriter};

/// Most events that wait. At one drain a second this is far above what the levels up to info give; beyond it
/// the oldest go and are counted.
const CAPACITY: usize = 4096;

/// Longest message kept, in bytes.
const MAX_MESSAGE: usize = 4096;

pub(crate) struct Line {
    pub level: u8,
    pub epoch_millis: u64,
    pub target: &'static str,
    pub message: String,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<Line>,
    dropped: u64,
}

static RING: Mutex<Ring> = Mutex::new(Ring {
    lines: VecDeque::new(),
    dropped: 0,
});
/// 0 off, 1 error .. 5 trace. Starts at info.
static LEVEL: AtomicU8 = AtomicU8::new(3);
static INSTALL: Once = Once::new();

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The layer: everything of the core's own targets up to the level; of the libraries below one level less, since
/// their info is about their own insides.
struct RingLayer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RingLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let own = metadata.target().starts_with("cosmosflink");
        let limit = LEVEL.load(Ordering::Relaxed).saturating_sub(u8::from(!own));
        !metadata.is_span() && number(metadata.level()) <= limit
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if self.0.len() < MAX_MESSAGE {
                    let _ = match field.name() {
                        "message" => write!(self.0, "{value:?}"),
                        name => write!(self.0, " {name}={value:?}"),
                    };
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut message = text.0;
        if message.len() > MAX_MESSAGE {
            let cut = (0..=MAX_MESSAGE)
                .rev()
                .find(|i| message.is_char_boundary(*i))
                .unwrap_or(0);
            message.truncate(cut);
        }
        let line = Line {
            level: number(event.metadata().level()),
            epoch_millis: u64::try_from(epoch_millis()).unwrap_or(0),
            target: event.metadata().target(),
            message,
        };
        let mut ring = RING.lock().unwrap_or_else(|e| e.into_inner());
        if ring.lines.len() == CAPACITY {
            ring.lines.pop_front();
            ring.dropped += 1;
        }
        ring.lines.push_back(line);
    }
}

/// Routes this process's events into the ring, once. Where another subscriber is installed already (a program that
/// links the core as a crate), that one stays.
pub fn install() {
    INSTALL.call_once(|| {
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(RingLayer));
    });
}

/// Sets the level: 0 off, 1 error, 2 warn, 3 info, 4 debug, 5 trace.
pub fn set_level(level: u8) {
    LEVEL.store(level.min(5), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Takes up to `max` events as a LOG frame.
pub fn drain(max: usize) -> Vec<u8> {
    let (dropped, lines): (u64, Vec<Line>) = {
        let mut ring = RING.lock().unwrap_or_else(|e| e.into_inner());
        let n = ring.lines.len().min(max);
        (std::mem::take(&mut ring.dropped), ring.lines.drain(..n).collect())
    };
    encode(dropped, &lines)
}

/// A LOG frame.
pub(crate) fn encode(dropped: u64, lines: &[Line]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Log);
    w.u64(dropped);
    w.u32(lines.len() as u32);
    for line in lines {
        w.u8(line.level);
        w.u64(line.epoch_millis);
        w.str(line.target);
        w.str(&line.message);
    }
    w.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameReader;

    fn read() -> (u64, Vec<(u8, String, String)>) {
        let bytes = drain(usize::MAX);
        let mut r = FrameReader::open(&bytes, FrameKind::Log).unwrap();
        let dropped = r.u64().unwrap();
        let n = r.u32().unwrap();
        let lines = (0..n)
            .map(|_| {
                let level = r.u8().unwrap();
                r.u64().unwrap();
                (level, r.str().unwrap().to_owned(), r.str().unwrap().to_owned())
            })
            .collect();
        (dropped, lines)
    }

    // One test, since the ring is one per process.
    #[test]
    fn events_wait_with_level_target_and_fields_and_overflow_is_counted() {
        let subscriber = tracing_subscriber::registry().with(RingLayer);
        tracing::subscriber::with_default(subscriber, || {
            read();
            tracing::warn!(target: "cosmosflink::test", status = 429, "throttled");
            tracing::info!(target: "azure_something", "inside");
            let (dropped, lines) = read();
            assert_eq!(dropped, 0);
            assert_eq!(
                lines,
                [(
                    2,
                    "cosmosflink::test".to_owned(),
                    "throttled status=429".to_owned()
                )]
            );
            for i in 0..CAPACITY + 10 {
                tracing::info!(target: "cosmosflink::test", "{i}");
            }
            let (dropped, lines) = read();
            assert!(
                dropped >= 10 && lines.len() == CAPACITY,
                "{dropped} {}",
                lines.len()
            );
            tracing::info!(target: "cosmosflink::test", "{}", "ä".repeat(MAX_MESSAGE));
            assert_eq!(read().1[0].2.len(), MAX_MESSAGE);
        });
    }
}
