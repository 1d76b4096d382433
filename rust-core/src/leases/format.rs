//! Lease documents of change feed processors, in the four forms that there are: read, and written.
//!
//! | | J0: Java `handleChanges` | J1: Java `handleLatestVersionChanges`, `handleAllVersionsAndDeletesChanges` | N0: .NET, at first | N1: .NET, after a merge |
//! |---|---|---|---|---|
//! | `version` | absent | 1 | 0 | 1 |
//! | `LeaseToken` | partition range id | `min-max` | range id | `min-max` |
//! | range | | `feedRange` | `FeedRange`, not in older ones | `FeedRange` |
//! | `ContinuationToken` | raw ETag | JSON in base64 | raw ETag | raw ETag |
//! | names in the prefix | ids | resource ids | resource ids | resource ids |

use azure_core::base64;
use azure_core::time::{parse_rfc3339, OffsetDateTime};
use serde_json::{json, Map, Value};

use super::token::Ranged;
use crate::config::Start;
use crate::error::{CoreError, Result};

/// The form of a lease document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Java, by partition range id.
    J0,
    /// Java, by feed range.
    J1,
    /// .NET, by partition range id.
    N0,
    /// .NET, by feed range.
    N1,
}

impl Format {
    /// Whose it is.
    pub fn sdk(self) -> Sdk {
        match self {
            Format::J0 | Format::J1 => Sdk::Java,
            Format::N0 | Format::N1 => Sdk::DotNet,
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::J0 => "that of the Java SDK's handleChanges",
            Format::J1 => {
                "that of the Java SDK's handleLatestVersionChanges and handleAllVersionsAndDeletesChanges"
            }
            Format::N0 => "that of the .NET SDK, by partition range",
            Format::N1 => "that of the .NET SDK, by feed range",
        }
    }
}

/// What this connector adds to a lease that it writes. A processor of a vendor's SDK writes whole documents and leaves it out, so that a
/// lease without it is somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Flink's ids of the job and of the source's operator.
    pub job: String,
    /// The checkpoint whose position it holds; 0 before the first.
    pub checkpoint: u64,
}

/// How far a lease says that its range is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The service's ETag, quotes included; `None` before the first page.
    pub etag: Option<String>,
    /// Where it begins without one, as far as the lease knows; a point in time counts with an ETag too.
    pub start: Option<Start>,
}

/// A lease document.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Id of the document.
    pub id: String,
    /// ETag of the document.
    pub etag: String,
    /// `partitionKey` of the document, where it has one: .NET's older ones have another than the id.
    pub key: Option<String>,
    /// Its form.
    pub format: Format,
    /// `LeaseToken`: a range id, or `min-max`.
    pub token: String,
    /// The feed range; `None` where only a range id says it.
    pub range: Option<(String, String)>,
    /// How far it is read.
    pub reached: Reached,
    /// Whether it is of the mode AllVersionsAndDeletes; `None` where it does not say.
    pub full_fidelity: Option<bool>,
    /// Resource id, or a link, of the container, where it says so.
    pub container: Option<String>,
    /// Who has it; `None`: nobody.
    pub owner: Option<String>,
    /// When it was last written, epoch milliseconds.
    pub renewed: i64,
    /// Ours, where this connector wrote it last.
    pub mark: Option<Mark>,
    document: Map<String, Value>,
}

/// The field that is the partition key in .NET's other kind of lease container.
pub(super) const PARTITION_KEY: &str = "partitionKey";
/// The field of a [`Mark`].
const MARK: &str = "cosmosflink";
const INCREMENTAL: &str = "Incremental Feed";
const FULL_FIDELITY: &str = "Full-Fidelity Feed";

impl Lease {
    /// Reads a document.
    ///
    /// # Errors
    /// State for one that is no lease of a known form.
    pub fn decode(document: Value) -> Result<Lease> {
        let Value::Object(document) = document else {
            return Err(CoreError::state("a lease is not a JSON object"));
        };
        let text = |name: &str| {
            document
                .get(name)
                .and_then(Value::as_str)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
        };
        let id = text("id").unwrap_or_default();
        let wrong = |why: &str| {
            CoreError::state(format!(
                "lease '{id}' cannot be understood: {why}; name the leases of a change feed processor of the Java or the .NET SDK"
            ))
        };
        let format = match (document.get("version").and_then(Value::as_i64), &document) {
            (None, d) if d.get("version").is_none_or(Value::is_null) => Format::J0,
            (Some(0), _) => Format::N0,
            (Some(1), d) if d.contains_key("feedRange") => Format::J1,
            (Some(1), d) if d.contains_key("FeedRange") => Format::N1,
            (Some(1), _) => return Err(wrong("it has no feed range")),
            _ => return Err(wrong("its version is not known")),
        };
        let token = text("LeaseToken")
            .or_else(|| text("PartitionId"))
            .ok_or_else(|| wrong("it has no LeaseToken"))?;
        let range = match format {
            Format::J0 => None,
            Format::J1 => {
                Some(range(document.get("feedRange")).ok_or_else(|| wrong("its feedRange is no range"))?)
            }
            Format::N0 => range(document.get("FeedRange")),
            Format::N1 => {
                Some(range(document.get("FeedRange")).ok_or_else(|| wrong("its FeedRange is no range"))?)
            }
        };
        let mut lease = Lease {
            etag: text("_etag").unwrap_or_default(),
            key: text(PARTITION_KEY),
            owner: text("Owner"),
            renewed: renewed(&document),
            mark: mark(&document),
            reached: Reached::default(),
            full_fidelity: match format {
                Format::J0 => Some(false),
                Format::J1 => None,
                Format::N0 | Format::N1 => Some(text("Mode").as_deref() == Some(FULL_FIDELITY)),
            },
            container: None,
            id: id.clone(),
            format,
            token,
            range,
            document: Map::new(),
        };
        if let Some(continuation) = text("ContinuationToken") {
            match format {
                Format::J1 => lease
                    .read_state(&continuation)
                    .ok_or_else(|| wrong("its ContinuationToken is no state"))?,
                _ => lease.reached.etag = Some(continuation),
            }
        }
        lease.document = document;
        Ok(lease)
    }

    /// What J1 keeps in base64.
    fn read_state(&mut self, continuation: &str) -> Option<()> {
        // With padding or without it, in either alphabet.
        let text = continuation
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        let bytes = base64::decode_url_safe(text).ok()?;
        let state: Value = serde_json::from_slice(&bytes).ok()?;
        self.container = state["Rid"].as_str().map(str::to_owned);
        self.full_fidelity = Some(state["Mode"].as_str()?.eq_ignore_ascii_case("FULL_FIDELITY"));
        let from = &state["StartFrom"];
        match from["Type"].as_str()? {
            "BEGINNING" => self.reached.start = Some(Start::Beginning),
            "NOW" => self.reached.start = Some(Start::Now),
            "POINT_IN_TIME" => self.reached.start = Some(Start::PointInTime(from["PointInTimeMs"].as_i64()?)),
            "LEASE" => self.reached.etag = Some(from["Etag"].as_str()?.to_owned()),
            _ => {}
        }
        if let Some(parts) = state["Continuation"]["Continuation"].as_array() {
            let [part] = parts.as_slice() else {
                return None;
            };
            if let Some(etag) = part["token"].as_str() {
                self.reached.etag = Some(etag.to_owned());
            }
        }
        Some(())
    }

    /// The same document with another owner, or none, written at `now` (epoch milliseconds) under our mark. What else it holds stays.
    pub fn with_owner(&self, owner: Option<&str>, mark: &Mark, now: i64) -> Value {
        let mut document = self.document.clone();
        for own in ["_rid", "_self", "_attachments", "_ts", "_etag"] {
            document.remove(own);
        }
        document.insert("Owner".into(), owner.into());
        document.insert("timestamp".into(), timestamp(now).into());
        document.insert(
            MARK.into(),
            json!({"job": mark.job, "checkpoint": mark.checkpoint}),
        );
        if let (Format::N0, Some((min, max))) = (self.format, &self.range) {
            document.insert("FeedRange".into(), json!({"Range": {"min": min, "max": max}}));
        }
        Value::Object(document)
    }
}

fn range(value: Option<&Value>) -> Option<(String, String)> {
    let range = value?.get("Range")?;
    Some((
        range["min"].as_str()?.to_owned(),
        range["max"].as_str()?.to_owned(),
    ))
}

/// The later of what the writer says and what the service says.
fn renewed(document: &Map<String, Value>) -> i64 {
    let said = document
        .get("timestamp")
        .and_then(Value::as_str)
        .and_then(|text| parse_rfc3339(text).ok())
        .map_or(0, |time| (time.unix_timestamp_nanos() / 1_000_000) as i64);
    let written = document.get("_ts").and_then(Value::as_i64).unwrap_or(0);
    said.max(written.saturating_mul(1000))
}

fn mark(document: &Map<String, Value>) -> Option<Mark> {
    let mark = document.get(MARK)?;
    Some(Mark {
        job: mark["job"].as_str()?.to_owned(),
        checkpoint: mark["checkpoint"].as_u64()?,
    })
}

/// A time of day as leases have it: ISO 8601 in UTC with milliseconds.
pub fn timestamp(millis: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// What is published of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The range and its ETag.
    pub at: Ranged,
    /// Whether it is of the mode AllVersionsAndDeletes.
    pub full_fidelity: bool,
    /// Where the reading began.
    pub start: Start,
}

impl Progress {
    /// `LeaseToken` of its lease.
    pub fn token(&self) -> String {
        format!("{}-{}", self.at.min, self.at.max)
    }
}

/// Whose leases are written, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// J1.
    Java,
    /// N1.
    DotNet,
}

impl Sdk {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Sdk::Java => "Java",
            Sdk::DotNet => ".NET",
        }
    }

    /// Its value in `scan.lease.format`.
    pub fn option(self) -> &'static str {
        match self {
            Sdk::Java => "java",
            Sdk::DotNet => "dotnet",
        }
    }
}

/// Writes a lease of our own.
pub fn encode(
    sdk: Sdk,
    id: &str,
    container_rid: &str,
    progress: &Progress,
    owner: Option<&str>,
    mark: &Mark,
    now: i64,
) -> Value {
    let range = json!({"min": progress.at.min, "max": progress.at.max});
    let mut lease = json!({
        "id": id,
        "LeaseToken": progress.token(),
        "Owner": owner,
        "timestamp": timestamp(now),
        "version": 1,
        MARK: {"job": mark.job, "checkpoint": mark.checkpoint},
    });
    match sdk {
        Sdk::Java => {
            lease["ContinuationToken"] = state(container_rid, progress, &range).into();
            lease["feedRange"] = json!({"Range": range});
        }
        Sdk::DotNet => {
            lease["ContinuationToken"] = progress.at.etag.clone().into();
            lease["FeedRange"] = json!({"Range": range});
            lease["Mode"] = if progress.full_fidelity {
                FULL_FIDELITY
            } else {
                INCREMENTAL
            }
            .into();
            lease["properties"] = json!({});
            lease[PARTITION_KEY] = id.into();
        }
    }
    lease
}

/// The document that says that all leases are there.
pub fn marker(sdk: Sdk, id: &str) -> Value {
    match sdk {
        Sdk::Java => json!({"id": id}),
        Sdk::DotNet => json!({"id": id, "partitionKey": id}),
    }
}

/// The state that J1 keeps as `ContinuationToken`.
fn state(container_rid: &str, progress: &Progress, range: &Value) -> String {
    let start = match progress.start {
        Start::Beginning => json!({"Type": "BEGINNING"}),
        Start::Now => json!({"Type": "NOW"}),
        Start::PointInTime(ms) => json!({"Type": "POINT_IN_TIME", "PointInTimeMs": ms}),
    };
    let state = json!({
        "V": 1,
        "Rid": container_rid,
        "Mode": if progress.full_fidelity { "FULL_FIDELITY" } else { "INCREMENTAL" },
        "StartFrom": start,
        "Continuation": {
            "V": 1,
            "Rid": container_rid,
            "Continuation": [{"token": progress.at.etag, "range": range}],
            "Range": range,
        },
    });
    // Java decodes it with the decoder for URLs, and once more with the plain one, to show it.
    base64::encode(state.to_string())
        .replace('+', "-")
        .replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            at: Ranged {
                min: String::new(),
                max: "1FFFFFFF".into(),
                etag: "\"42\"".into(),
            },
            full_fidelity: false,
            start: Start::PointInTime(1_767_323_045_000),
        }
    }

    fn ours() -> Mark {
        Mark {
            job: "j".into(),
            checkpoint: 7,
        }
    }

    /// As each SDK writes them; ids and tokens shortened.
    fn theirs() -> [Value; 4] {
        let state = json!({"V":1,"Rid":"r==","Mode":"INCREMENTAL","StartFrom":{"Type":"NOW"},
            "Continuation":{"V":1,"Rid":"r==","Continuation":[{"token":"\"42\"","range":{"min":"","max":"FF"}}],"Range":{"min":"","max":"FF"}}});
        [
            json!({"id":"h_d_c..0","_etag":"\"e\"","LeaseToken":"0","ContinuationToken":"\"42\"","timestamp":"2026-01-02T03:04:05.678Z","Owner":"h","_ts":1}),
            json!({"id":"h_r_s..-FF","_etag":"\"e\"","LeaseToken":"-FF","ContinuationToken":base64::encode_url_safe(state.to_string()),
                "timestamp":"2026-01-02T03:04:05.678901Z","Owner":null,"version":1,"feedRange":{"Range":{"min":"","max":"FF","isMinInclusive":true,"isMaxInclusive":false}},"_ts":1767323046}),
            json!({"id":"h_r_s..0","_etag":"\"e\"","LeaseToken":"0","ContinuationToken":"\"42\"","properties":{},"Mode":"Incremental Feed","version":0,
                "timestamp":"2026-01-02T03:04:05.6789012Z","Owner":"h"}),
            json!({"id":"h_r_s..-FF","_etag":"\"e\"","LeaseToken":"-FF","ContinuationToken":"\"42\"","properties":{},"Mode":"Full-Fidelity Feed","version":1,
                "FeedRange":{"Range":{"min":"","max":"FF"}},"Owner":"h"}),
        ]
    }

    #[test]
    fn the_four_forms_are_read() {
        let read: Vec<Lease> = theirs().map(|d| Lease::decode(d).unwrap()).into();
        let formats: Vec<Format> = read.iter().map(|l| l.format).collect();
        assert_eq!(formats, [Format::J0, Format::J1, Format::N0, Format::N1]);
        for lease in &read {
            assert_eq!(lease.reached.etag.as_deref(), Some("\"42\""), "{lease:?}");
            assert_eq!(lease.mark, None);
        }
        assert_eq!(read[0].renewed, 1_767_323_045_678);
        assert_eq!(read[1].renewed, 1_767_323_046_000, "the service's is later");
        assert_eq!(read[1].owner, None);
        assert_eq!(read[1].range, Some((String::new(), "FF".into())));
        assert_eq!(read[1].reached.start, Some(Start::Now));
        assert_eq!(read[2].range, None);
        let modes: Vec<_> = read.iter().map(|l| l.full_fidelity).collect();
        assert_eq!(modes, [Some(false), Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn a_lease_before_its_first_page_has_no_position() {
        let state = json!({"V":1,"Rid":"r","Mode":"FULL_FIDELITY","StartFrom":{"Type":"BEGINNING"},"Range":{"min":"","max":"FF"}});
        let mut document = theirs()[1].clone();
        document["ContinuationToken"] = base64::encode_url_safe(state.to_string()).into();
        let lease = Lease::decode(document.clone()).unwrap();
        assert_eq!(
            lease.reached,
            Reached {
                etag: None,
                start: Some(Start::Beginning)
            }
        );
        assert_eq!(lease.full_fidelity, Some(true));
        document["ContinuationToken"] = Value::Null;
        let lease = Lease::decode(document).unwrap();
        assert_eq!((lease.reached, lease.full_fidelity), (Reached::default(), None));
    }

    #[test]
    fn what_is_no_lease_is_refused_with_its_id_and_the_reason() {
        for (change, why) in [
            (json!({"version": 2}), "version"),
            (json!({"feedRange": {"PK": ["a"]}}), "feedRange"),
            (json!({"ContinuationToken": "\"42\""}), "ContinuationToken"),
            (json!({"LeaseToken": null}), "LeaseToken"),
        ] {
            let mut document = theirs()[1].clone();
            for (name, value) in change.as_object().unwrap() {
                document[name] = value.clone();
            }
            let error = Lease::decode(document).unwrap_err();
            assert!(
                error.message.contains(why) && error.message.contains("h_r_s..-FF"),
                "{error}"
            );
        }
        assert!(Lease::decode(json!("x")).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (sdk, format) in [(Sdk::Java, Format::J1), (Sdk::DotNet, Format::N1)] {
            let document = encode(
                sdk,
                "p..-1FFFFFFF",
                "r==",
                &progress(),
                Some("o"),
                &ours(),
                1_767_323_045_678,
            );
            assert_eq!(document["timestamp"], "2026-01-02T03:04:05.678Z");
            let lease = Lease::decode(document).unwrap();
            assert_eq!(lease.format, format);
            assert_eq!(lease.token, "-1FFFFFFF");
            assert_eq!(lease.range, Some((String::new(), "1FFFFFFF".into())));
            assert_eq!(lease.reached.etag.as_deref(), Some("\"42\""));
            assert_eq!(lease.owner.as_deref(), Some("o"));
            assert_eq!(lease.renewed, 1_767_323_045_678);
            assert_eq!(lease.mark, Some(ours()));
            assert_eq!(lease.full_fidelity, Some(false));
        }
    }

    #[test]
    fn the_java_state_is_the_one_that_the_sdk_writes() {
        let document = encode(Sdk::Java, "i", "r==", &progress(), None, &ours(), 0);
        let token = document["ContinuationToken"].as_str().unwrap();
        assert_eq!(token.len() % 4, 0, "padded");
        let state: Value = serde_json::from_slice(&base64::decode(token).unwrap()).unwrap();
        assert_eq!(
            state,
            json!({"V":1,"Rid":"r==","Mode":"INCREMENTAL","StartFrom":{"Type":"POINT_IN_TIME","PointInTimeMs":1_767_323_045_000_i64},
                "Continuation":{"V":1,"Rid":"r==","Continuation":[{"token":"\"42\"","range":{"min":"","max":"1FFFFFFF"}}],"Range":{"min":"","max":"1FFFFFFF"}}})
        );
        assert_eq!(document["Owner"], Value::Null);
    }

    #[test]
    fn a_taken_lease_keeps_what_else_it_holds() {
        let mut document = theirs()[2].clone();
        document["FeedRange"] = json!({"Range": {"min": "", "max": "FF"}});
        document["properties"] = json!({"a": "b"});
        let lease = Lease::decode(document).unwrap();
        let taken = lease.with_owner(Some("us"), &ours(), 0);
        assert_eq!(
            (&taken["Owner"], &taken["properties"]["a"]),
            (&json!("us"), &json!("b"))
        );
        assert!(taken.get("_etag").is_none());
        let again = Lease::decode(taken).unwrap();
        assert_eq!((again.format, again.mark), (Format::N0, Some(ours())));
        assert_eq!(again.reached, lease.reached);
    }
}
