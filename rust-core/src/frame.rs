//! The flat frames of `docs/boundary.md`: little-endian integers, strings and blobs with a `u32` length.

use crate::error::{CoreError, Result};

/// Version of every frame. A reader refuses any other.
pub const FRAME_VERSION: u16 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FrameKind {
    /// The table of options.
    Options = 1,
    /// Keys and values.
    Map = 2,
    /// Texts.
    Strings = 3,
    /// Splits, each with whether a reader has it.
    SplitList = 4,
    /// Records of one split.
    Page = 5,
    /// Operations of one submission.
    Operations = 6,
    /// How submissions ended.
    Completions = 7,
    /// Values of a handle's metrics.
    Metrics = 8,
    /// Events of the core's log.
    Log = 9,
    /// What a writer keeps of an operation in its state; the core never sees it.
    OperationState = 10,
    /// What happened to an enumerator.
    Event = 11,
    /// What an enumerator is to do.
    Actions = 12,
    /// What a look for feed ranges found.
    Discovery = 13,
    /// The table of metrics.
    MetricTable = 14,
    /// How documents become rows.
    Plan = 15,
    /// Rows of one split.
    Rows = 16,
    /// How rows become documents.
    DocumentPlan = 17,
    /// What a catalog wants of an account.
    Administer = 18,
    /// What a container is.
    Container = 19,
    /// What documents are looked up by.
    Lookup = 20,
    /// Keys that are looked up.
    Keys = 21,
    /// The rows of keys that were looked up.
    Answered = 22,
}

/// Appends to a frame.
pub struct FrameWriter(pub Vec<u8>);

impl FrameWriter {
    /// An empty frame.
    pub fn new(kind: FrameKind) -> Self {
        Self::with_capacity(kind, 64)
    }

    /// An empty frame with room for `bytes` behind its head.
    pub fn with_capacity(kind: FrameKind, bytes: usize) -> Self {
        let mut writer = FrameWriter(Vec::with_capacity(bytes));
        writer.u16(FRAME_VERSION);
        writer.u16(kind as u16);
        writer
    }

    /// Appends one byte.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    /// Appends two bytes.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends eight bytes, in two's complement.
    pub fn i64(&mut self, v: i64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// Appends eight bytes, as IEEE 754 has them.
    pub fn f64(&mut self, v: f64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    /// A `u32` length and the bytes. Frames are far below 4 GiB: a page is a few MiB.
    pub fn blob(&mut self, v: &[u8]) {
        self.u32(v.len() as u32);
        self.0.extend_from_slice(v);
    }

    /// Appends a text behind its length.
    pub fn str(&mut self, v: &str) {
        self.blob(v.as_bytes());
    }

    /// Overwrites the `u32` at `at`, which was written before.
    pub fn patch_u32(&mut self, at: usize, v: u32) {
        self.0[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }
}

/// Reads a frame, with every bound checked: frames may come from a savepoint.
pub struct FrameReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> FrameReader<'a> {
    /// A reader behind version and kind, both checked.
    pub fn open(bytes: &'a [u8], kind: FrameKind) -> Result<Self> {
        let mut reader = FrameReader { bytes, at: 0 };
        let (version, found) = (reader.u16()?, reader.u16()?);
        if version != FRAME_VERSION {
            return Err(CoreError::state(format!(
                "frame version {version} is not known (this build reads {FRAME_VERSION}); use the same version of jar and library"
            )));
        }
        if found != kind as u16 {
            return Err(CoreError::state(format!(
                "frame kind {found} where {} ({kind:?}) was expected",
                kind as u16
            )));
        }
        Ok(reader)
    }

    /// A reader of plain fields, without the frame's head.
    pub fn raw(bytes: &'a [u8]) -> Self {
        FrameReader { bytes, at: 0 }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len())
            .ok_or_else(|| {
                CoreError::state(format!(
                    "frame ends at byte {} where {n} more bytes were expected at {}",
                    self.bytes.len(),
                    self.at
                ))
            })?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next eight bytes, in two's complement.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The next eight bytes, as IEEE 754 has them.
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// The next bytes, behind their length.
    pub fn blob(&mut self) -> Result<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    /// The next text, behind its length.
    pub fn str(&mut self) -> Result<&'a str> {
        let at = self.at;
        std::str::from_utf8(self.blob()?)
            .map_err(|e| CoreError::state(format!("string at byte {at} of a frame is not UTF-8: {e}")))
    }

    /// Where the reader stands, in bytes from the start.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<()> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(CoreError::state(format!(
                "{} bytes are left behind the end of a frame",
                self.bytes.len() - self.at
            )))
        }
    }
}

/// Encodes a MAP frame.
pub fn encode_map<'a>(entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Map);
    w.u32(entries.len() as u32);
    for (k, v) in entries {
        w.str(k);
        w.str(v);
    }
    w.0
}

/// Decodes a MAP frame in its order.
pub fn decode_map(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let mut r = FrameReader::open(bytes, FrameKind::Map)?;
    let n = r.u32()?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push((r.str()?.to_owned(), r.str()?.to_owned()));
    }
    r.finish()?;
    Ok(out)
}

/// Encodes a STRINGS frame.
pub fn encode_strings(strings: &[String]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Strings);
    w.u32(strings.len() as u32);
    for text in strings {
        w.str(text);
    }
    w.0
}

/// Decodes a STRINGS frame.
pub fn decode_strings(bytes: &[u8]) -> Result<Vec<String>> {
    let mut r = FrameReader::open(bytes, FrameKind::Strings)?;
    let n = r.u32()?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(r.str()?.to_owned());
    }
    r.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn maps_round_trip(entries in proptest::collection::vec((".*", ".*"), 0..20)) {
            let bytes = encode_map(entries.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert_eq!(decode_map(&bytes).unwrap(), entries);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_map(&bytes);
            let _ = decode_strings(&bytes);
        }

        #[test]
        fn cut_frames_are_refused(cut in 1usize..40) {
            let bytes = encode_map([("endpoint", "http://localhost"), ("a", "b")].into_iter());
            let kept = bytes.len().saturating_sub(cut);
            prop_assert_eq!(decode_map(&bytes[..kept]).unwrap_err().kind, Kind::State);
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = encode_map(std::iter::empty());
        bytes[0] = 9;
        let error = decode_map(&bytes).unwrap_err();
        assert!(error.message.contains("version 9"), "{error}");
    }
}
