//! All versions and deletes, and the container as it is before them, over HTTP.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cosmos_local::{AllVersions, MetadataKey};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::page::{RECORD_BYTES, RECORD_EXPIRED};
use cosmosflink_core::sink::OperationKind;
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{decode_list, Mode, Split, SplitEntry, Stop};
use serde_json::json;
use support::*;

const ALL: (&str, &str) = ("scan.change-feed.mode", "all-versions-and-deletes");
const NOW: [(&str, &str); 2] = [ALL, ("scan.startup.mode", "latest")];
const INITIAL: [(&str, &str); 3] = [
    ALL,
    ("scan.startup.mode", "initial"),
    ("scan.poll-interval", "50"),
];

fn local(containers: &[&str], all_versions: AllVersions) -> Local {
    Local::start_with(containers, |config| config.all_versions = Some(all_versions))
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    operation: u8,
    expired: bool,
    id: String,
    key: String,
    document: String,
    previous: String,
    ts: i64,
}

/// A page as a reader takes it.
struct ChangePage {
    id: String,
    after: Split,
    children: Vec<Split>,
    finished: bool,
    changes: Vec<Change>,
}

fn taken(source: &Source, timeout: Duration) -> Option<ChangePage> {
    if source.next_page(timeout).unwrap() == 0 {
        return None;
    }
    let frame = source.take_page().unwrap();
    let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| String::from_utf8(frame[word(at)..][..word(at + 4)].to_vec()).unwrap();
    let id = String::from_utf8(frame[36..36 + word(32)].to_vec()).unwrap();
    let split_at = 36 + word(32);
    let children_at = split_at + 4 + word(split_at);
    let children = &frame[children_at + 4..][..word(children_at)];
    let changes = (0..word(4)).map(|i| {
        let row = word(8) + i * RECORD_BYTES;
        Change {
            operation: frame[row + 48],
            expired: frame[row + 49] & RECORD_EXPIRED != 0,
            id: text(row + 8),
            key: text(row + 16),
            document: text(row),
            previous: text(row + 56),
            ts: i64::from_le_bytes(frame[row + 24..row + 32].try_into().unwrap()),
        }
    });
    Some(ChangePage {
        id,
        after: Split::decode(&frame[split_at + 4..children_at]).unwrap(),
        children: match children {
            [] => Vec::new(),
            list => decode_list(list).unwrap().into_iter().map(|e| e.split).collect(),
        },
        finished: word(12) & 2 != 0,
        changes: changes.collect(),
    })
}

fn write(sink: &Writer, kind: OperationKind, id: &str, key: &str, n: usize) {
    let document = match kind {
        OperationKind::Delete => String::new(),
        _ => format!(r#"{{"id":"{id}","pk":"{key}","n":{n}}}"#),
    };
    submit(sink, 0, kind, id, &format!("[\"{key}\"]"), &document);
    assert!(outcomes(sink, 1)[0].error.is_none());
}

fn open(local: &Local, options: &[(&str, &str)], splits: &[Split]) -> Source {
    let source = local.source("c", options);
    source.add_splits(splits.to_vec()).unwrap();
    source
}

fn found(local: &Local, options: &[(&str, &str)]) -> Vec<Split> {
    let entries = local.enumerator("c", options).discover(&[]).unwrap();
    entries.into_iter().map(|e| e.split).collect()
}

fn field(document: &str, name: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(document).map_or(json!(null), |d| d[name].clone())
}

#[test]
fn every_version_and_every_deletion_comes_in_order_with_its_kind() {
    for metadata_key in [MetadataKey::Array, MetadataKey::Object] {
        let local = local(
            &["c:/pk:1"],
            AllVersions {
                metadata_key,
                previous_images: metadata_key == MetadataKey::Object,
                ..AllVersions::default()
            },
        );
        local.expire_after("c", 1000);
        let sink = local.sink("c", &[]);
        write(&sink, OperationKind::Upsert, "before", "k", 0);
        let splits = found(&local, &NOW);
        write(&sink, OperationKind::Create, "a", "k", 1);
        write(&sink, OperationKind::Upsert, "a", "k", 2);
        write(&sink, OperationKind::Delete, "a", "k", 0);
        write(&sink, OperationKind::Upsert, "a", "ä", 3);
        local.admin("clock", json!({ "advanceMillis": 1_001_000 }));
        let source = open(&local, &NOW, &splits);
        let mut changes: Vec<Change> = Vec::new();
        until("all changes are there", || {
            changes.extend(
                taken(&source, Duration::from_millis(100))
                    .into_iter()
                    .flat_map(|p| p.changes),
            );
            changes.len() >= 6
        });
        let told = |c: &Change| {
            (
                c.operation,
                c.expired,
                c.id.clone(),
                c.key.clone(),
                field(&c.document, "n"),
            )
        };
        let change = |operation, expired, id: &str, key: &str, n| {
            (operation, expired, id.to_owned(), format!("[\"{key}\"]"), n)
        };
        assert_eq!(
            changes[..4].iter().map(told).collect::<Vec<_>>(),
            [
                change(1, false, "a", "k", json!(1)),
                change(2, false, "a", "k", json!(2)),
                change(3, false, "a", "k", json!(null)),
                change(1, false, "a", "ä", json!(3)),
            ]
        );
        let mut ends: Vec<_> = changes[4..].iter().map(told).collect();
        ends.sort_by_key(|end| end.2.clone());
        assert_eq!(
            ends,
            [
                change(3, true, "a", "ä", json!(null)),
                change(3, true, "before", "k", json!(null)),
            ]
        );
        assert!(changes.iter().all(|c| c.ts > 1_600_000_000), "{changes:?}");
        let previous: Vec<_> = changes[..3].iter().map(|c| field(&c.previous, "n")).collect();
        match metadata_key {
            MetadataKey::Array => assert!(changes.iter().all(|c| c.previous.is_empty())),
            MetadataKey::Object => assert_eq!(previous, [json!(null), json!(1), json!(2)]),
        }
    }
}

#[test]
fn an_account_without_continuous_backup_is_told_what_to_do() {
    let local = Local::start(&["c:/pk:1"]);
    for options in [&NOW[..], &INITIAL[..]] {
        let error = local.enumerator("c", options).discover(&[]).unwrap_err();
        assert_eq!(error.kind, Kind::Config, "{error}");
        assert!(error.outlives_restart());
        for part in ["continuous backup", "latest-version"] {
            assert!(error.message.contains(part), "{part} is missing: {error}");
        }
    }
}

#[test]
fn a_position_behind_the_retention_ends_the_job_and_leaves_nothing_out() {
    let local = local(
        &["c:/pk:1"],
        AllVersions {
            retention_bytes: 2000,
            ..AllVersions::default()
        },
    );
    let splits = found(&local, &NOW);
    let sink = local.sink("c", &[]);
    for n in 0..20 {
        write(&sink, OperationKind::Upsert, &format!("d{n}"), "k", n);
    }
    let source = open(&local, &NOW, &splits);
    let error = loop {
        match source.next_page(WAIT) {
            Err(error) => break error,
            Ok(0) => panic!("it never ends"),
            Ok(_) => assert!(taken(&source, WAIT).unwrap().changes.is_empty()),
        }
    };
    assert_eq!(error.kind, Kind::State, "{error}");
    assert!(error.outlives_restart());
    for part in ["retention", "scan.startup.mode initial"] {
        assert!(error.message.contains(part), "{part} is missing: {error}");
    }
}

#[test]
fn a_state_of_another_mode_is_refused() {
    let local = local(&["c:/pk:1"], AllVersions::default());
    let latest = found(&local, &[]);
    let versions = found(&local, &NOW);
    let initial = found(&local, &INITIAL);
    let known = |splits: &[Split]| -> Vec<SplitEntry> {
        let entry = |split: &Split| SplitEntry {
            split: split.clone(),
            assigned: true,
        };
        splits.iter().map(entry).collect()
    };
    type Case<'a> = (&'a [(&'static str, &'static str)], &'a [Split], bool);
    let cases: [Case<'_>; 6] = [
        (&[], &latest, true),
        (&[], &versions, false),
        (&[], &initial, false),
        (&NOW, &latest, false),
        (&NOW, &versions, true),
        (&NOW, &initial, true),
    ];
    for (options, splits, fits) in cases {
        let looked = local.enumerator("c", options).discover(&known(splits));
        let read = local.source("c", options).add_splits(splits.to_vec());
        for error in [looked.map(drop), read].map(std::result::Result::err) {
            assert_eq!(error.is_none(), fits, "{error:?}");
            if let Some(error) = error {
                assert_eq!(error.kind, Kind::State);
                assert!(error.message.contains("scan.change-feed.mode"), "{error}");
            }
        }
    }
}

#[test]
fn an_initial_phase_has_both_positions_from_its_beginning_on() {
    let local = local(&["c:/pk:2"], AllVersions::default());
    let splits = found(&local, &INITIAL);
    assert_eq!(splits.len(), 2);
    for split in &splits {
        assert_eq!(
            (split.mode, split.continuation.as_deref()),
            (Mode::LatestVersion, None)
        );
        assert!(
            matches!(split.stop, Stop::At(_)) && split.then.is_some(),
            "{split:?}"
        );
        assert_eq!(Split::decode(&split.encode()).unwrap(), *split);
    }
}

/// A consumer that folds upserts and deletes into a table, in a job that checkpoints and fails.
struct Consumer<'a> {
    local: &'a Local,
    source: Source,
    splits: BTreeMap<String, Split>,
    table: BTreeMap<(String, String), String>,
    /// Splits and table of the last checkpoint.
    checkpoint: (BTreeMap<String, Split>, BTreeMap<(String, String), String>),
    options: &'a [(&'a str, &'a str)],
    initial: usize,
    versions: usize,
}

impl<'a> Consumer<'a> {
    fn start(local: &'a Local, options: &'a [(&'a str, &'a str)], splits: &[Split]) -> Consumer<'a> {
        let by_id: BTreeMap<_, _> = splits.iter().map(|s| (s.id(), s.clone())).collect();
        Consumer {
            local,
            source: open(local, options, splits),
            splits: by_id.clone(),
            table: BTreeMap::new(),
            checkpoint: (by_id, BTreeMap::new()),
            options,
            initial: 0,
            versions: 0,
        }
    }

    /// Takes a page; false when none came.
    fn read(&mut self) -> bool {
        let Some(page) = taken(&self.source, Duration::from_millis(20)) else {
            return false;
        };
        for change in page.changes {
            match change.operation {
                0 => self.initial += 1,
                _ => self.versions += 1,
            }
            let document = (change.key, change.id);
            match change.operation {
                3 => drop(self.table.remove(&document)),
                _ => drop(self.table.insert(document, change.document)),
            }
        }
        match page.finished {
            false => drop(self.splits.insert(page.id, page.after)),
            true => {
                self.splits.remove(&page.id);
                assert!(!page.children.is_empty(), "changes have no end");
                self.source.add_splits(page.children.clone()).unwrap();
                let children = page.children.into_iter();
                self.splits.extend(children.map(|child| (child.id(), child)));
            }
        }
        true
    }

    fn checkpoint(&mut self) {
        self.checkpoint = (self.splits.clone(), self.table.clone());
    }

    /// Everything since the last checkpoint is lost.
    fn fail(&mut self) {
        self.source.close();
        (self.splits, self.table) = self.checkpoint.clone();
        let splits: Vec<_> = self.splits.values().cloned().collect();
        self.source = open(self.local, self.options, &splits);
    }
}

/// Stops a writer, also when its test fails.
struct StopsWriter<'a>(&'a AtomicBool);

impl Drop for StopsWriter<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What is in the container, without the service's own fields.
fn stored(local: &Local) -> BTreeMap<(String, String), serde_json::Value> {
    let (source, _) = local.source_of_all("c", &[]);
    let (deadline, mut all, mut ended) = (Instant::now() + WAIT, BTreeMap::new(), BTreeMap::new());
    while ended.len() < 2 || ended.values().any(|caught_up| !caught_up) {
        assert!(Instant::now() < deadline);
        let Some(page) = take(&source, Duration::from_millis(50)) else {
            continue;
        };
        ended.insert(page.split.ordinal, page.caught_up);
        for (id, document) in page.records {
            let key = format!("[{}]", field(&document, "pk"));
            all.insert((key, id), field(&document, "n"));
        }
    }
    all
}

#[test]
fn a_table_with_its_deletes_is_exactly_the_container_whatever_happens_meanwhile() {
    const OPTIONS: [(&str, &str); 4] = [INITIAL[0], INITIAL[1], INITIAL[2], ("scan.page-size", "20")];
    let local = local(&["c:/pk:2"], AllVersions::default());
    local.expire_after("c", 1_000_000);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 3000, 60);
    outcomes(&sink, 3000);
    let mut rng = fastrand::Rng::with_seed(7);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let (sink, mut rng, mut n) = (local.sink("c", &[]), fastrand::Rng::with_seed(8), 10_000);
            while !stop.load(Relaxed) {
                n += 1;
                let i = rng.usize(0..3200);
                let (id, key) = (format!("a-{i}"), format!("k{}", i % 60));
                match rng.u8(0..10) {
                    0..5 => write(&sink, OperationKind::Upsert, &id, &key, n),
                    5 => {
                        // It expires as soon as the clock is moved on.
                        let document = format!(r#"{{"id":"{id}","pk":"{key}","n":{n},"ttl":100}}"#);
                        submit(
                            &sink,
                            0,
                            OperationKind::Upsert,
                            &id,
                            &format!("[\"{key}\"]"),
                            &document,
                        );
                        outcomes(&sink, 1);
                    }
                    6 if n % 40 == 0 => {
                        local.admin("clock", json!({ "advanceMillis": 101_000 }));
                    }
                    _ => write(&sink, OperationKind::Delete, &id, &key, 0),
                }
            }
            n
        });
        let _stops = StopsWriter(&stop);
        // The positions are found although writes never pause.
        let splits = found(&local, &OPTIONS);
        let mut consumer = Consumer::start(&local, &OPTIONS, &splits);
        let phase = |consumer: &Consumer<'_>| {
            let versions = consumer.splits.values().filter(|s| s.then.is_none());
            (versions.count(), consumer.splits.len())
        };
        let (mut split, mut step) = (0, 0);
        let deadline = Instant::now() + WAIT;
        // In each phase of each split: while the container is read, at the seam, and behind it.
        let mut behind = 0;
        while behind < 40 {
            assert!(Instant::now() < deadline, "{:?}", consumer.splits);
            step += 1;
            consumer.read();
            match rng.u8(0..16) {
                0..4 => consumer.checkpoint(),
                4 => consumer.fail(),
                _ => {}
            }
            let (versions, all) = phase(&consumer);
            behind += usize::from(versions == all);
            if (split == 0 && step > 10) || (split == 1 && versions == all) {
                local.admin(
                    "split",
                    json!({ "database": "orders", "container": "c", "partition": split }),
                );
                split += 1;
            }
        }
        stop.store(true, Relaxed);
        writes.join().unwrap();
        local.admin("clock", json!({ "advanceMillis": 101_000 }));
        let expected = stored(&local);
        let mut deadline = Instant::now() + WAIT;
        loop {
            // A busy machine may have left a lot to read, and to compare costs more than to read.
            while consumer.read() {
                deadline = Instant::now() + WAIT;
            }
            let table: BTreeMap<_, _> = consumer
                .table
                .iter()
                .map(|(document, text)| (document.clone(), field(text, "n")))
                .collect();
            if table == expected {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{} in the table, {} in the container",
                table.len(),
                expected.len()
            );
        }
        assert!(consumer.initial >= 2000 && consumer.versions > 0);
        let mut states: Vec<_> = consumer.splits.values().collect();
        states.sort_by(|a, b| a.min.cmp(&b.min));
        assert!(states.iter().all(|s| s.mode == Mode::AllVersionsAndDeletes));
    });
}

#[test]
fn an_initial_phase_is_of_all_versions_and_deletes_alone() {
    let local = Local::start(&["c:/pk:1"]);
    let options = local.options("c", &[("scan.startup.mode", "initial")]);
    let error = Config::parse(Role::Source, &options).unwrap_err();
    assert!(error.message.contains("all-versions-and-deletes"), "{error}");
    assert!(Enumerator::open(Config::parse(Role::Source, &local.options("c", &[])).unwrap()).is_ok());
}
