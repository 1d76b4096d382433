//! Splits and the enumerator's state: encoded here and nowhere else, so that both shims restore the same bytes.
//!
//! Split bytes: magic `CFS`, `u8` version, then `u32` ordinal, `str` container rid, `str` min EPK, `str` max EPK, `u8` mode,
//! `u8` start, `i64` start millis, `str` continuation token (empty: none yet), and since version 2 `u8` stop, `i64` stop millis, `str` stop
//! position, `str` token that it goes on with (empty: none), `u64` fingerprint (0: none). Enumerator state: magic `CFE`, `u8` version, `u32` count, then per split
//! `u8` assigned and `blob` split bytes. Strings and blobs are those of the frames.

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::FeedRange;

use crate::bound::{self, Bounds};
use crate::config::{Config, Start, StopAt};
use crate::error::{CoreError, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};

const SPLIT_MAGIC: &[u8; 3] = b"CFS";
const STATE_MAGIC: &[u8; 3] = b"CFE";
const SPLIT_VERSION: u8 = 2;
const STATE_VERSION: u8 = 1;

/// What is read of a feed range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The change feed, with the latest version of each changed document.
    #[default]
    LatestVersion,
    /// The change feed, with every version of each document, and deletes.
    AllVersionsAndDeletes,
    /// The answer to a query.
    Query,
    /// Documents by their ids and partition keys.
    ReadMany,
}

impl Mode {
    /// What `scan.change-feed.mode` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::LatestVersion => "latest-version",
            Mode::AllVersionsAndDeletes => "all-versions-and-deletes",
            Mode::Query => "query",
            Mode::ReadMany => "read-many",
        }
    }
}

/// Where the reading of a split ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nowhere: changes are waited for.
    #[default]
    Never,
    /// At a position: the driver's continuation token of that moment.
    At(String),
    /// Behind the last change up to a time, in milliseconds since the epoch.
    Time(i64),
}

/// A feed range and how far it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Number of the split in the order of discovery. Splits that go on in place of another one have its number.
    pub ordinal: u32,
    /// Resource id of the container, so that a savepoint is not read on against a container that was recreated.
    pub container_rid: String,
    /// Inclusive lower bound in effective partition key space, as hexadecimal text; empty is the lowest.
    pub min: String,
    /// Exclusive upper bound; `FF` is the highest.
    pub max: String,
    /// What is read of the range.
    pub mode: Mode,
    /// Where it begins while there is no continuation.
    pub start: Start,
    /// The driver's continuation token after the last page; `None` before the first.
    pub continuation: Option<String>,
    /// Where it ends.
    pub stop: Stop,
    /// The token with which the split goes on in [`Mode::AllVersionsAndDeletes`] once it has been read as [`Mode::LatestVersion`] up to
    /// [`Split::stop`].
    pub then: Option<String>,
    /// [`fingerprint`] of the query, or of the list of keys, that is read; `None` for the change feed.
    pub fingerprint: Option<u64>,
}

/// Tells one text from another, where each has these parts: FNV-1a, the same in each process and each version. It is in savepoints.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // No text has the last byte.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// What a source reads by its options, as far as a state must agree with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// What is read of a container.
    pub mode: Mode,
    /// Where that ends.
    pub stop: StopAt,
    /// [`fingerprint`] of the query, where one is read.
    pub query: Option<u64>,
}

impl Reads {
    /// What the options say.
    pub fn of(config: &Config) -> Reads {
        Reads {
            mode: config.mode,
            stop: config.stop,
            query: config.query.as_ref().map(|query| query.fingerprint()),
        }
    }

    /// Whether a split is of the mode that is read.
    ///
    /// # Errors
    /// [`crate::error::Kind::State`] when it is not.
    pub fn check_mode(&self, split: &Split) -> Result<()> {
        let mode = match &split.then {
            Some(_) => Mode::AllVersionsAndDeletes,
            None => split.mode,
        };
        if mode != self.mode {
            return Err(CoreError::state(format!(
                "the state of split {} is of scan.change-feed.mode {}, and scan.change-feed.mode is {}; set it back, or start the job without that state",
                split.id(),
                mode.name(),
                self.mode.name()
            )));
        }
        Ok(())
    }

    /// Whether a split of a state may be read on.
    ///
    /// # Errors
    /// [`crate::error::Kind::State`] when it is of another mode or of another query, or ends elsewhere: read on, it would be something else than what the
    /// options say, or would end too early, or never.
    pub fn check(&self, split: &Split) -> Result<()> {
        self.check_mode(split)?;
        let mode = self.mode;
        if mode == Mode::Query && split.fingerprint != self.query {
            return Err(CoreError::state(format!(
                "the state of split {} is of another scan.query, or of other scan.query-parameters; set them back, or start the job without that state",
                split.id()
            )));
        }
        // Where another mode follows, the stop is only where that begins.
        if !split.reads_feed() || split.then.is_some() {
            return Ok(());
        }
        let fits = match (&split.stop, self.stop) {
            (Stop::Never, StopAt::Never) | (Stop::At(_), StopAt::Start) => true,
            (Stop::Time(state), StopAt::Time(option)) => *state == option,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let time = |ms: i64| format!("timestamp {ms}");
        let state = match &split.stop {
            Stop::Never => "unbounded".to_owned(),
            Stop::At(_) => "latest".to_owned(),
            Stop::Time(ms) => time(*ms),
        };
        let option = match self.stop {
            StopAt::Never => "unbounded".to_owned(),
            StopAt::Start => "latest".to_owned(),
            StopAt::Time(ms) => time(ms),
        };
        Err(CoreError::state(format!(
            "split {} of the state is read with scan.bounded.mode {state}, and scan.bounded.mode is {option} now: where a split ends is fixed when it is found, and what goes on behind another source has no end; set it back, or start the job without that state",
            split.id()
        )))
    }
}

impl Split {
    /// Identifies the split within its source: the bounds of its feed range.
    pub fn id(&self) -> String {
        format!(
            "{}-{}",
            if self.min.is_empty() { "00" } else { &self.min },
            self.max
        )
    }

    /// Whether it is one of the change feed, in which something may come behind what was read.
    pub fn reads_feed(&self) -> bool {
        matches!(self.mode, Mode::LatestVersion | Mode::AllVersionsAndDeletes)
    }

    /// Its bounds.
    pub fn range(&self) -> Bounds<'_> {
        (&self.min, &self.max)
    }

    /// The same range as it is read on behind its stop: with all versions and deletes, where it was read as it is first.
    pub fn behind_its_stop(&self) -> Option<Split> {
        self.then.as_ref().map(|then| Split {
            mode: Mode::AllVersionsAndDeletes,
            start: Start::Now,
            continuation: Some(then.clone()),
            stop: Stop::Never,
            then: None,
            ..self.clone()
        })
    }

    /// The driver's form of the range.
    pub fn feed_range(&self) -> Result<FeedRange> {
        let epk = |text: &str| {
            EffectivePartitionKey::try_from(text)
                .map_err(|e| CoreError::state(format!("'{text}' is not an effective partition key: {e}")))
        };
        FeedRange::new(epk(&self.min)?, epk(&self.max)?)
            .map_err(|e| CoreError::state(format!("feed range {}: {e}", self.id())))
    }

    /// For people: range, start and whether it has been read from.
    pub fn describe(&self) -> String {
        let position = match (&self.continuation, self.start) {
            (Some(_), _) => "continued".to_owned(),
            (None, Start::Beginning) => "from the beginning".to_owned(),
            (None, Start::Now) => "from now".to_owned(),
            (None, Start::PointInTime(ms)) => format!("from {ms} ms"),
        };
        let what = match self.mode {
            Mode::LatestVersion => "",
            Mode::AllVersionsAndDeletes => ", all versions and deletes",
            Mode::Query => ", a query",
            Mode::ReadMany => ", documents by id",
        };
        let stop = match &self.stop {
            Stop::Never => String::new(),
            Stop::At(_) => ", up to a position".to_owned(),
            Stop::Time(ms) => format!(", up to {ms} ms"),
        };
        format!(
            "feed range [{}, {}) of {}{what}, {position}{stop}",
            self.min, self.max, self.container_rid
        )
    }

    /// The split bytes, which a checkpoint stores.
    pub fn encode(&self) -> Vec<u8> {
        let (stop, stop_millis, stop_at) = match &self.stop {
            Stop::Never => (0, 0, ""),
            Stop::At(position) => (1, 0, position.as_str()),
            Stop::Time(ms) => (2, *ms, ""),
        };
        let (continuation, then) = (
            self.continuation.as_deref().unwrap_or(""),
            self.then.as_deref().unwrap_or(""),
        );
        let mut w = FrameWriter(Vec::with_capacity(
            128 + continuation.len() + stop_at.len() + then.len(),
        ));
        self.encode_head(&mut w);
        w.str(continuation);
        w.u8(stop);
        w.i64(stop_millis);
        w.str(stop_at);
        w.str(then);
        w.u64(self.fingerprint.unwrap_or(0));
        w.0
    }

    fn encode_head(&self, w: &mut FrameWriter) {
        w.0.extend_from_slice(SPLIT_MAGIC);
        w.u8(SPLIT_VERSION);
        w.u32(self.ordinal);
        w.str(&self.container_rid);
        w.str(&self.min);
        w.str(&self.max);
        w.u8(match self.mode {
            Mode::LatestVersion => 0,
            Mode::AllVersionsAndDeletes => 1,
            Mode::Query => 2,
            Mode::ReadMany => 3,
        });
        let (start, millis) = match self.start {
            Start::Beginning => (0, 0),
            Start::Now => (1, 0),
            Start::PointInTime(ms) => (2, ms),
        };
        w.u8(start);
        w.i64(millis);
    }

    /// # Errors
    /// [`crate::error::Kind::State`] for foreign, damaged or newer bytes.
    pub fn decode(bytes: &[u8]) -> Result<Split> {
        let (version, mut r) = open(bytes, SPLIT_MAGIC, SPLIT_VERSION, "split")?;
        let ordinal = r.u32()?;
        let (container_rid, min, max) = (r.str()?.to_owned(), r.str()?.to_owned(), r.str()?.to_owned());
        let mode = match r.u8()? {
            0 => Mode::LatestVersion,
            1 => Mode::AllVersionsAndDeletes,
            2 => Mode::Query,
            3 => Mode::ReadMany,
            other => {
                return Err(CoreError::state(format!(
                    "mode {other} of a split is not known to this build; use the newer one that wrote it"
                )))
            }
        };
        let (start, millis) = (r.u8()?, r.i64()?);
        let start = match start {
            0 => Start::Beginning,
            1 => Start::Now,
            2 => Start::PointInTime(millis),
            other => {
                return Err(CoreError::state(format!(
                    "start {other} of a split is not known to this build"
                )))
            }
        };
        let continuation = token(&mut r)?;
        let (mut stop, mut then, mut fingerprint) = (Stop::Never, None, None);
        if version > 1 {
            let (number, millis, position) = (r.u8()?, r.i64()?, r.str()?.to_owned());
            stop = match number {
                0 => Stop::Never,
                1 => Stop::At(position),
                2 => Stop::Time(millis),
                other => {
                    return Err(CoreError::state(format!(
                        "stop {other} of a split is not known to this build; use the newer one that wrote it"
                    )))
                }
            };
            then = token(&mut r)?;
            fingerprint = Some(r.u64()?).filter(|f| *f != 0);
        }
        r.finish()?;
        let split = Split {
            ordinal,
            container_rid,
            min,
            max,
            mode,
            start,
            continuation,
            stop,
            then,
            fingerprint,
        };
        split.feed_range()?;
        Ok(split)
    }
}

/// A token that need not be there.
fn token(r: &mut FrameReader<'_>) -> Result<Option<String>> {
    Ok(Some(r.str()?.to_owned()).filter(|t| !t.is_empty()))
}

/// The version of state, and what is behind it.
fn open<'a>(bytes: &'a [u8], magic: &[u8; 3], newest: u8, what: &str) -> Result<(u8, FrameReader<'a>)> {
    if bytes.len() < 4 || &bytes[..3] != magic {
        return Err(CoreError::state(format!(
            "these {} bytes are not the state of a cosmosflink {what}; restore from a savepoint of this connector",
            bytes.len()
        )));
    }
    let version = bytes[3];
    if version == 0 || version > newest {
        return Err(CoreError::state(format!(
            "{what} state has version {version}, this build reads up to {newest}; restore with the newer version that wrote it"
        )));
    }
    Ok((version, FrameReader::raw(&bytes[4..])))
}

/// A split as the enumerator keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitEntry {
    /// The split.
    pub split: Split,
    /// Whether a reader has it.
    pub assigned: bool,
}

impl SplitEntry {
    /// The entry of a split that a reader has.
    pub fn assigned(split: Split) -> SplitEntry {
        SplitEntry {
            split,
            assigned: true,
        }
    }
}

/// Encodes a SPLIT_LIST frame.
pub fn encode_list(entries: &[SplitEntry]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::SplitList);
    w.u32(entries.len() as u32);
    for entry in entries {
        write_entry(&mut w, entry);
    }
    w.0
}

/// One entry of a SPLIT_LIST frame, as other frames hold it too.
pub fn write_entry(w: &mut FrameWriter, entry: &SplitEntry) {
    w.str(&entry.split.id());
    w.u32(entry.split.ordinal);
    w.u8(u8::from(entry.assigned));
    w.str(&entry.split.describe());
    w.blob(&entry.split.encode());
}

/// Decodes a SPLIT_LIST frame. Only the flags and the split bytes are believed; the rest is for the reader's eyes.
pub fn decode_list(bytes: &[u8]) -> Result<Vec<SplitEntry>> {
    let mut r = FrameReader::open(bytes, FrameKind::SplitList)?;
    let n = r.u32()?;
    let mut out = Vec::new();
    for _ in 0..n {
        r.str()?;
        r.u32()?;
        let flags = r.u8()?;
        r.str()?;
        out.push(SplitEntry {
            split: Split::decode(r.blob()?)?,
            assigned: flags & 1 != 0,
        });
    }
    r.finish()?;
    Ok(out)
}

/// The enumerator's durable state.
pub fn encode_state(entries: &[SplitEntry]) -> Vec<u8> {
    let mut w = FrameWriter(Vec::new());
    w.0.extend_from_slice(STATE_MAGIC);
    w.u8(STATE_VERSION);
    w.u32(entries.len() as u32);
    for entry in entries {
        w.u8(u8::from(entry.assigned));
        w.blob(&entry.split.encode());
    }
    w.0
}

/// # Errors
/// [`crate::error::Kind::State`] for foreign, damaged or newer bytes.
pub fn decode_state(bytes: &[u8]) -> Result<Vec<SplitEntry>> {
    let (_, mut r) = open(bytes, STATE_MAGIC, STATE_VERSION, "enumerator")?;
    let n = r.u32()?;
    let mut out = Vec::new();
    for _ in 0..n {
        let assigned = r.u8()? != 0;
        out.push(SplitEntry {
            split: Split::decode(r.blob()?)?,
            assigned,
        });
    }
    r.finish()?;
    Ok(out)
}

/// The parts of the key space that none of `known` covers, as `(min, max)` in order.
pub fn uncovered(known: &[SplitEntry]) -> Vec<(String, String)> {
    gaps(known.iter().map(|entry| &entry.split))
}

/// The parts of the key space that none of `splits` covers, as [`uncovered`] has them.
pub fn gaps<'a>(splits: impl Iterator<Item = &'a Split>) -> Vec<(String, String)> {
    bound::gaps(splits.map(Split::range), ("", "FF"))
        .into_iter()
        .map(|(min, max)| (min.to_owned(), max.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    pub(crate) fn arbitrary_split() -> impl Strategy<Value = Split> {
        let start = prop_oneof![
            Just(Start::Beginning),
            Just(Start::Now),
            any::<i64>().prop_map(Start::PointInTime)
        ];
        (
            any::<u32>(),
            "[a-zA-Z0-9=]{0,12}",
            "(|[0-3][0-9A-F]{31})",
            "(FF|[4-9][0-9A-F]{31})",
            start,
            proptest::option::of("c1\\.[a-zA-Z0-9_-]{1,600}"),
            (
                prop_oneof![
                    Just(Mode::LatestVersion),
                    Just(Mode::AllVersionsAndDeletes),
                    Just(Mode::Query),
                    Just(Mode::ReadMany)
                ],
                prop_oneof![
                    Just(Stop::Never),
                    "c1\\.[a-z]{0,9}".prop_map(Stop::At),
                    any::<i64>().prop_map(Stop::Time)
                ],
                proptest::option::of("c1\\.[a-z]{1,9}"),
                proptest::option::of(1..u64::MAX),
            ),
        )
            .prop_map(
                |(ordinal, container_rid, min, max, start, continuation, (mode, stop, then, fingerprint))| {
                    Split {
                        ordinal,
                        container_rid,
                        min,
                        max,
                        mode,
                        start,
                        continuation,
                        stop,
                        then,
                        fingerprint,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn splits_and_state_round_trip(splits in proptest::collection::vec((arbitrary_split(), any::<bool>()), 0..5)) {
            let entries: Vec<_> = splits.into_iter().map(|(split, assigned)| SplitEntry { split, assigned }).collect();
            for entry in &entries {
                prop_assert_eq!(&Split::decode(&entry.split.encode()).unwrap(), &entry.split);
            }
            prop_assert_eq!(&decode_list(&encode_list(&entries)).unwrap(), &entries);
            prop_assert_eq!(&decode_state(&encode_state(&entries)).unwrap(), &entries);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_list(&bytes);
            for (magic, version) in [(SPLIT_MAGIC, 1), (SPLIT_MAGIC, 2), (STATE_MAGIC, 1)] {
                let mut with_magic = magic.to_vec();
                with_magic.push(version);
                with_magic.extend_from_slice(&bytes);
                let _ = Split::decode(&with_magic);
                let _ = decode_state(&with_magic);
            }
        }
    }

    fn split(min: &str, max: &str) -> Split {
        Split {
            ordinal: 0,
            container_rid: "r".into(),
            min: min.into(),
            max: max.into(),
            mode: Mode::LatestVersion,
            start: Start::Beginning,
            continuation: None,
            stop: Stop::Never,
            then: None,
            fingerprint: None,
        }
    }

    #[test]
    fn a_state_must_be_of_what_the_options_say() {
        let reads = |mode, stop, query| Reads { mode, stop, query };
        let feed = |stop| reads(Mode::LatestVersion, stop, None);
        let stops = [
            (Stop::Never, StopAt::Never),
            (Stop::At("c1.x".into()), StopAt::Start),
            (Stop::Time(7000), StopAt::Time(7000)),
            (Stop::Time(8000), StopAt::Time(8000)),
        ];
        for (n, (in_state, _)) in stops.iter().enumerate() {
            let state = Split {
                stop: in_state.clone(),
                ..split("", "FF")
            };
            for (m, (_, option)) in stops.iter().enumerate() {
                let checked = feed(*option).check(&state);
                assert_eq!(checked.is_ok(), n == m, "{in_state:?} {option:?}");
                if let Err(error) = checked {
                    assert_eq!(error.kind, Kind::State);
                    assert!(error.message.contains("scan.bounded.mode"), "{error}");
                }
            }
        }
        // The stop of a first phase is where the second one begins.
        let phased = Split {
            stop: Stop::At("c1.x".into()),
            then: Some("c1.y".into()),
            ..split("", "FF")
        };
        reads(Mode::AllVersionsAndDeletes, StopAt::Never, None)
            .check(&phased)
            .unwrap();
        assert!(feed(StopAt::Never).check(&phased).is_err());
        let query = |fingerprint| Split {
            mode: Mode::Query,
            fingerprint,
            ..split("", "FF")
        };
        let same = reads(Mode::Query, StopAt::Never, Some(7));
        same.check(&query(Some(7))).unwrap();
        for other in [None, Some(8)] {
            let error = same.check(&query(other)).unwrap_err();
            assert!(error.message.contains("scan.query"), "{error}");
        }
    }

    #[test]
    fn fingerprints_do_not_change() {
        // In savepoints.
        assert_eq!(fingerprint(["a", "[1]"]), 0x5c27_a633_51ee_0d15);
        assert_ne!(fingerprint(["a", "b"]), fingerprint(["ab", ""]));
    }

    #[test]
    fn bytes_of_version_1_stay_readable() {
        // Written once; a change that cannot read this breaks every savepoint.
        let bytes =
            b"CFS\x01\x07\0\0\0\x01\0\0\0r\0\0\0\0\x02\0\0\0FF\0\x02\xe8\x03\0\0\0\0\0\0\x04\0\0\0c1.x";
        let expected = Split {
            ordinal: 7,
            start: Start::PointInTime(1000),
            continuation: Some("c1.x".into()),
            ..split("", "FF")
        };
        assert_eq!(Split::decode(bytes).unwrap(), expected);
    }

    #[test]
    fn bytes_of_version_2_stay_readable() {
        // Written once; a change that cannot read this breaks every savepoint.
        let bytes =
            b"CFS\x02\x07\0\0\0\x01\0\0\0r\0\0\0\0\x02\0\0\0FF\x01\x02\xe8\x03\0\0\0\0\0\0\x04\0\0\0c1.x\
            \x01\0\0\0\0\0\0\0\0\x04\0\0\0c1.y\x04\0\0\0c1.z\x09\0\0\0\0\0\0\x80";
        let expected = Split {
            ordinal: 7,
            mode: Mode::AllVersionsAndDeletes,
            start: Start::PointInTime(1000),
            continuation: Some("c1.x".into()),
            stop: Stop::At("c1.y".into()),
            then: Some("c1.z".into()),
            fingerprint: Some(0x8000_0000_0000_0009),
            ..split("", "FF")
        };
        assert_eq!(Split::decode(bytes).unwrap(), expected);
        assert_eq!(expected.encode(), bytes);
    }

    #[test]
    fn foreign_and_newer_bytes_are_refused_with_a_reason() {
        let error = Split::decode(b"something else").unwrap_err();
        assert_eq!(error.kind, Kind::State);
        assert!(error.message.contains("not the state"), "{error}");
        let mut newer = split("", "FF").encode();
        newer[3] = 3;
        assert!(Split::decode(&newer).unwrap_err().message.contains("version 3"));
        assert!(decode_state(&split("", "FF").encode()).is_err());
    }

    #[test]
    fn gaps_in_the_key_space_are_found() {
        let entry = |min, max| SplitEntry {
            split: split(min, max),
            assigned: true,
        };
        assert_eq!(uncovered(&[]), [(String::new(), "FF".to_owned())]);
        assert!(uncovered(&[entry("", "80"), entry("80", "FF")]).is_empty());
        assert_eq!(
            uncovered(&[entry("", "40"), entry("80", "FF")]),
            [("40".to_owned(), "80".to_owned())]
        );
        assert!(uncovered(&[entry("40", "FF"), entry("", "80")]).is_empty());
        // One bound, as two have written it.
        assert!(uncovered(&[entry("00", "4000"), entry("40", "FF")]).is_empty());
    }
}
