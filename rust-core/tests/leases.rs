//! Leases of change feed processors, over HTTP: a source starts from them and publishes its progress as such.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use cosmos_local::AllVersions;
use cosmosflink_core::account::open_blocking;
use cosmosflink_core::bound::overlap;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::feed::DriverFeed;
use cosmosflink_core::leases::format::{Format, Lease};
use cosmosflink_core::leases::takeover::Store;
use cosmosflink_core::leases::token::Position;
use cosmosflink_core::leases::tokens_file;
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::sink::{OperationKind, OutcomeResult};
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{Split, Stop};
use serde_json::{json, Value};
use support::*;

const LEASES: (&str, &str) = ("scan.lease.container", "leases");
const PREFIX: (&str, &str) = ("scan.lease.prefix", "shop");
const FROM_LEASES: (&str, &str) = ("scan.startup.mode", "leases");
/// As short as they may be.
const EXPIRES: (&str, &str) = ("scan.lease.expiration", "1000");
const RENEWED: (&str, &str) = ("scan.lease.renew-interval", "200");

fn options<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![LEASES, PREFIX, EXPIRES, RENEWED];
    all.extend(more);
    all
}

fn job(name: &str) -> (&'static str, String) {
    ("scan.lease.job", name.to_owned())
}

fn fill(local: &Local, prefix: &str, count: usize) {
    let sink = local.sink("c", &[]);
    upserts(&sink, prefix, count, 40);
    outcomes(&sink, count);
    sink.close();
}

/// What the lease container holds.
fn stored(local: &Local) -> Store {
    let config = Config::parse(
        Role::Source,
        &local.options("c", &options(&[("scan.lease.format", "none")])),
    )
    .unwrap();
    open_blocking(async move {
        let feed = DriverFeed::connect(config).await?;
        feed.leases().await?.unwrap().read(&Metrics::default()).await
    })
    .unwrap()
}

fn owners(store: &Store) -> Vec<Option<&str>> {
    store.leases.iter().map(|l| l.owner.as_deref()).collect()
}

/// A source of all splits as the options begin, each at its last position once `count` documents are read.
struct Reader {
    enumerator: Arc<Enumerator>,
    source: Source,
    splits: Vec<Split>,
    /// Those that were not at their end when they were seen last.
    behind: BTreeSet<String>,
    ids: Vec<String>,
}

impl Reader {
    fn start(local: &Local, more: &[(&str, &str)]) -> Reader {
        let options = options(more);
        let enumerator = local.enumerator("c", &options);
        let found = enumerator.discover(&[]).unwrap();
        let splits: Vec<Split> = found.into_iter().map(|e| e.split).collect();
        let source = local.source("c", &options);
        source.add_splits(splits.clone()).unwrap();
        Reader {
            enumerator,
            source,
            behind: splits.iter().map(Split::id).collect(),
            splits,
            ids: Vec::new(),
        }
    }

    /// Reads until there are `count` documents and all splits have been read to their end.
    fn read(&mut self, count: usize) {
        until("all is read", || {
            while let Some(page) = take(&self.source, Duration::from_millis(20)) {
                self.ids.extend(page.records.into_iter().map(|(id, _)| id));
                let id = page.split.id();
                let at = self.splits.iter().position(|s| s.id() == id);
                let at = at.expect("a page of a split that is read");
                match (page.finished, page.caught_up) {
                    (Some(children), _) => {
                        self.behind.remove(&id);
                        self.behind.extend(children.iter().map(Split::id));
                        self.splits.splice(at..=at, children);
                        continue;
                    }
                    (None, true) => drop(self.behind.remove(&id)),
                    (None, false) => drop(self.behind.insert(id)),
                }
                self.splits[at] = page.split;
            }
            self.behind.is_empty() && self.ids.len() >= count
        });
        self.ids.sort();
    }

    /// The reader ends first, then the enumerator, as they do at the end of a job and before it is started again as a whole.
    fn end(&self) {
        self.source.close();
        self.enumerator.close();
    }

    fn publish(&self, checkpoint: u64) {
        self.source.publish(checkpoint, &self.splits);
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|i| format!("{prefix}-{i}")).collect();
    names.sort();
    names
}

#[test]
fn progress_is_published_in_either_form_and_the_next_job_goes_on_from_it() {
    for (form, format, path) in [
        ("java", Format::J1, "leases:/id:1"),
        ("dotnet", Format::N1, "leases:/partitionKey:2"),
    ] {
        let local = Local::start(&["c:/pk:3", path]);
        fill(&local, "a", 300);
        let of = ("scan.lease.format", form);
        let first = job("first");
        let mut reader = Reader::start(&local, &[of, (first.0, &first.1), ("scan.lease.host", "host")]);
        reader.read(300);
        assert!(stored(&local).leases.is_empty(), "nothing before a checkpoint");
        reader.publish(1);
        until("all leases are there", || stored(&local).initialised);
        let store = stored(&local);
        assert_eq!(store.leases.len(), 3);
        for lease in &store.leases {
            assert_eq!(
                (lease.format, lease.owner.as_deref()),
                (format, Some("host")),
                "{lease:?}"
            );
            let split = reader
                .splits
                .iter()
                .find(|s| Some((s.min.clone(), s.max.clone())) == lease.range);
            let position = Position::decode(split.unwrap().continuation.as_ref().unwrap()).unwrap();
            assert_eq!(lease.reached.etag.as_ref(), Some(&position.ranges[0].etag));
        }
        until("the leases are counted", || {
            reader.source.metrics().leases_held.load(Relaxed) == 3
        });
        fill(&local, "b", 100);
        reader.read(400);
        reader.publish(2);
        reader.source.close();
        let store = stored(&local);
        assert_eq!(
            owners(&store),
            [Some("host"); 3],
            "a reader that ends keeps them: the job may only be starting again"
        );
        assert!(store
            .leases
            .iter()
            .all(|lease| lease.mark.as_ref().is_some_and(|mark| mark.checkpoint == 2)));
        reader.enumerator.close();
        assert_eq!(owners(&stored(&local)), [Some("host"); 3]);
        fill(&local, "d", 50);
        let second = job("second");
        let mut next = Reader::start(&local, &[FROM_LEASES, of, (second.0, &second.1)]);
        assert_eq!(owners(&stored(&local)), [Some("cosmosflink-second"); 3]);
        next.read(50);
        assert_eq!(
            next.ids,
            names("d", 50),
            "{form}: no change is lost, and none comes twice"
        );
        next.end();
    }
}

#[test]
fn the_leases_of_children_take_the_place_of_their_parents() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    fill(&local, "a", 100);
    let (name, first) = job("first");
    let mut reader = Reader::start(&local, &[(name, &first)]);
    reader.read(100);
    reader.publish(1);
    until("the lease is there", || stored(&local).initialised);
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    fill(&local, "b", 100);
    until("the partition's children are read", || {
        reader.read(0);
        reader.splits.len() == 2
    });
    reader.read(200);
    reader.publish(2);
    let ranges = || -> Vec<_> { stored(&local).leases.into_iter().map(|l| l.range).collect() };
    let mut expected: Vec<_> = reader
        .splits
        .iter()
        .map(|s| Some((s.min.clone(), s.max.clone())))
        .collect();
    expected.sort();
    until("the leases are the children's", || {
        let mut ranges = ranges();
        ranges.sort();
        ranges == expected
    });
    reader.end();
    fill(&local, "d", 50);
    let mut next = Reader::start(&local, &[FROM_LEASES, (name, "second")]);
    next.read(50);
    assert_eq!(next.ids, names("d", 50));
    next.end();
}

#[test]
fn a_lease_is_renewed_while_no_checkpoint_completes() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let (name, id) = job("j");
    let mut reader = Reader::start(&local, &[(name, &id)]);
    reader.read(0);
    reader.publish(1);
    until("the lease is there", || stored(&local).initialised);
    let etag = |store: Store| store.leases[0].etag.clone();
    let before = etag(stored(&local));
    until("it is renewed", || etag(stored(&local)) != before);
    reader.end();
}

#[test]
fn the_second_of_two_jobs_with_one_prefix_fails() {
    let local = Local::start(&["c:/pk:2", "leases:/id:1"]);
    let (name, first) = job("first");
    let mut running = Reader::start(&local, &[(name, &first), ("scan.lease.host", "host")]);
    running.read(0);
    running.publish(1);
    until("the leases are there", || stored(&local).initialised);
    // Told apart although both have the same name.
    let mut second = Reader::start(&local, &[(name, "second"), ("scan.lease.host", "host")]);
    second.read(0);
    second.publish(1);
    let mut error = None;
    until("the second fails", || {
        error = second.source.next_page(Duration::from_millis(50)).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert_eq!(error.kind, Kind::State);
    assert!(
        error.message.contains("two jobs") && error.message.contains("'host'"),
        "{error}"
    );
    assert!(error.outlives_restart());
    assert_eq!(
        running.source.next_page(Duration::from_millis(10)).unwrap(),
        0,
        "the first goes on"
    );
    running.end();
    second.end();
}

/// Writes a lease container as a processor does.
fn put(local: &Local, documents: &[Value]) {
    let sink = local.sink("leases", &[]);
    for (token, document) in (0..).zip(documents) {
        let id = document["id"].as_str().unwrap();
        let key = json!([id]).to_string();
        submit(
            &sink,
            token,
            OperationKind::Upsert,
            id,
            &key,
            &document.to_string(),
        );
    }
    let outcomes = outcomes(&sink, documents.len());
    assert!(
        outcomes.iter().all(|o| o.result == OutcomeResult::Ok),
        "{outcomes:?}"
    );
    sink.close();
}

/// The leases as Java's `handleChanges` writes them, with the positions of these splits, under the ids of their partitions.
fn by_range_id(local: &Local, splits: &[Split], owner: Option<&str>, written: &str) -> Vec<Value> {
    let host = local
        .endpoint
        .split("//")
        .nth(1)
        .unwrap()
        .split(':')
        .next()
        .unwrap();
    let prefix = format!("shop{host}_orders_c");
    let mut documents = vec![json!({"id": format!("{prefix}.info")})];
    for (number, split) in splits.iter().enumerate() {
        let position = Position::decode(split.continuation.as_ref().unwrap()).unwrap();
        documents.push(
            json!({"id": format!("{prefix}..{number}"), "LeaseToken": number.to_string(), "Owner": owner,
            "ContinuationToken": position.ranges[0].etag, "timestamp": written}),
        );
    }
    documents
}

#[test]
fn leases_by_range_id_are_taken_after_their_partition_was_split_too() {
    let local = Local::start(&["c:/pk:2", "leases:/id:1"]);
    fill(&local, "a", 200);
    let mut before = Reader::start(&local, &[("scan.lease.format", "none")]);
    before.read(200);
    before.end();
    put(
        &local,
        &by_range_id(&local, &before.splits, None, "2026-01-02T03:04:05.678Z"),
    );
    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    fill(&local, "b", 80);
    let (name, id) = job("j");
    let mut reader = Reader::start(&local, &[FROM_LEASES, (name, &id)]);
    assert_eq!(reader.splits.len(), 2, "one for each lease");
    reader.read(80);
    assert_eq!(reader.ids, names("b", 80));
    assert_eq!(
        reader.splits.len(),
        3,
        "the children of the partition that was split"
    );
    let taken = stored(&local).leases;
    assert!(
        taken.iter().all(|l| l.owner.as_deref() == Some("cosmosflink-j")),
        "{taken:?}"
    );
    reader.end();
}

#[test]
fn an_owner_that_is_alive_is_left_alone_and_a_dead_one_waited_out() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let mut before = Reader::start(&local, &[("scan.lease.format", "none")]);
    before.read(0);
    before.end();
    let (name, id) = job("j");
    let start = options(&[FROM_LEASES, (name, &id)]);
    let now = || cosmosflink_core::leases::format::timestamp(cosmosflink_core::clock::epoch_millis());
    let leases = |at: &str| by_range_id(&local, &before.splits, Some("them"), at);
    put(&local, &leases(&now()));
    std::thread::scope(|scope| {
        let look = scope.spawn(|| local.enumerator("c", &start).discover(&[]));
        while !look.is_finished() {
            put(&local, &leases(&now()));
        }
        let error = look.join().unwrap().unwrap_err();
        assert!(error.message.contains("'them', which is alive"), "{error}");
    });
    assert_eq!(owners(&stored(&local)), [Some("them")]);
    // Nobody renews from now on.
    let found = local.enumerator("c", &start).discover(&[]).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(owners(&stored(&local)), [Some("cosmosflink-j")]);
}

#[test]
fn a_processor_that_takes_a_lease_back_ends_the_job() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let (name, id) = job("j");
    let mut reader = Reader::start(&local, &[(name, &id)]);
    reader.read(0);
    reader.publish(1);
    until("the lease is there", || stored(&local).initialised);
    let lease: Lease = stored(&local).leases.remove(0);
    let mut theirs = lease.with_owner(Some("processor"), lease.mark.as_ref().unwrap(), 0);
    theirs.as_object_mut().unwrap().remove("cosmosflink");
    put(&local, &[theirs]);
    let mut error = None;
    until("the job fails", || {
        error = reader.source.next_page(Duration::from_millis(50)).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(
        error.message.contains("'processor'") && error.outlives_restart(),
        "{error}"
    );
    reader.end();
    assert_eq!(
        owners(&stored(&local)),
        [Some("processor")],
        "it is not given back: it is not ours"
    );
}

#[test]
fn what_is_missing_or_does_not_fit_is_said_before_anything_is_read() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1", "wrong:/pk:1"]);
    let (name, id) = job("j");
    let look = |more: &[(&str, &str)]| {
        let mut all = options(&[FROM_LEASES, (name, &id)]);
        all.extend(more);
        local.enumerator("c", &all).discover(&[]).unwrap_err()
    };
    let none = look(&[]);
    assert!(
        none.message.contains("there are none") && none.outlives_restart(),
        "{none}"
    );
    let missing = look(&[("scan.lease.container", "nowhere")]);
    assert!(
        missing.message.contains("nowhere") && missing.kind == Kind::NotFound,
        "{missing}"
    );
    let wrong = look(&[("scan.lease.container", "wrong")]);
    assert!(
        wrong.message.contains("/pk") && wrong.kind == Kind::Config,
        "{wrong}"
    );
    let early = local
        .enumerator("c", &options(&[("scan.lease.container", "nowhere")]))
        .discover(&[])
        .unwrap_err();
    assert!(
        early.message.contains("nowhere") && early.kind == Kind::NotFound,
        "a job that only publishes hears of it at once, too: {early}"
    );
    let options = local.options("c", &options(&[("scan.lease.container", "nowhere")]));
    let error = Source::open(Config::parse(Role::Source, &options).unwrap())
        .map(drop)
        .unwrap_err();
    assert!(error.message.contains("nowhere"), "{error}");
}

#[test]
fn a_lease_container_that_does_not_answer_holds_nothing_up() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let (name, id) = job("j");
    let mut reader = Reader::start(&local, &[(name, &id)]);
    reader.read(0);
    local.admin(
        "faults",
        json!({"operations": "all", "container": "leases", "status": 503}),
    );
    reader.publish(1);
    fill(&local, "a", 50);
    reader.read(50);
    reader.publish(2);
    until("a failure is counted", || {
        reader.source.metrics().lease_failures.load(Relaxed) > 0
    });
    assert_eq!(reader.source.next_page(Duration::from_millis(10)).unwrap(), 0);
    local.clear_faults();
    until("the leases are there", || stored(&local).initialised);
    reader.end();
}

#[test]
fn a_job_begins_at_the_positions_of_a_file() {
    let local = Local::start(&["c:/pk:3", "other:/pk:1", "leases:/id:1"]);
    fill(&local, "a", 100);
    let mut before = Reader::start(&local, &[("scan.lease.format", "none")]);
    before.read(100);
    before.end();
    fill(&local, "b", 60);
    let path = std::env::temp_dir().join(format!("cosmosflink-tokens-{}", std::process::id()));
    std::fs::write(&path, tokens_file::write(before.splits, &[]).unwrap()).unwrap();
    let tokens = [
        ("scan.startup.mode", "tokens"),
        ("scan.startup.tokens-file", path.to_str().unwrap()),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut all = tokens.to_vec();
        all.extend(more);
        local.enumerator("c", &all).discover(&[]).unwrap()
    };
    let until_now = with(&[("scan.bounded.mode", "latest")]);
    assert!(
        until_now.iter().all(|e| matches!(e.split.stop, Stop::At(_))),
        "the stop is the new job's: {until_now:?}"
    );
    let finer = with(&[("scan.min-splits", "6")]);
    assert_eq!(finer.len(), 6);
    assert!(finer.iter().all(|e| e.split.continuation.is_some()));
    let mut reader = Reader::start(&local, &tokens);
    reader.read(60);
    assert_eq!(reader.ids, names("b", 60));
    reader.end();
    let error = local.enumerator("other", &tokens).discover(&[]).unwrap_err();
    assert!(error.message.contains("recreated"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = local.enumerator("c", &tokens).discover(&[]).unwrap_err();
    assert!(
        error.message.contains(path.to_str().unwrap()) && error.kind == Kind::Config,
        "{error}"
    );
}

#[test]
fn a_job_that_is_started_again_keeps_its_leases_from_another_one() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    // Long enough for both.
    let patient = [
        ("scan.lease.expiration", "60000"),
        ("scan.lease.renew-interval", "1000"),
    ];
    let of = |job: &'static str| [patient[0], patient[1], ("scan.lease.job", job)];
    let mut first = Reader::start(&local, &of("a"));
    first.read(0);
    first.publish(1);
    until("the lease is there", || stored(&local).initialised);
    // With its enumerator: a failover of the whole job, and each restart of the adaptive scheduler.
    first.end();
    let mut other = Reader::start(&local, &of("b"));
    other.read(0);
    other.publish(1);
    until("the other job has seen them", || {
        other.source.metrics().lease_requests.load(Relaxed) > 2
    });
    let again = local.source("c", &options(&of("a")));
    again.add_splits(first.splits.clone()).unwrap();
    again.publish(2, &first.splits);
    let mut error = None;
    until("the other job ends", || {
        error = other.source.next_page(Duration::from_millis(50)).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(error.message.contains("two jobs"), "{error}");
    assert_eq!(owners(&stored(&local)), [Some("cosmosflink-a")]);
    again.close();
    other.end();
    assert_eq!(owners(&stored(&local)), [Some("cosmosflink-a")]);
}

#[test]
fn two_sources_of_one_job_need_a_prefix_each() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let mut first = Reader::start(&local, &[("scan.lease.job", "j/one")]);
    first.read(0);
    first.publish(1);
    until("the lease is there", || stored(&local).initialised);
    let mut second = Reader::start(&local, &[("scan.lease.job", "j/two")]);
    second.read(0);
    second.publish(1);
    let mut error = None;
    until("the second fails", || {
        error = second.source.next_page(Duration::from_millis(50)).err();
        error.is_some()
    });
    assert!(error.unwrap().message.contains("j/one"));
    first.end();
    second.end();
}

#[test]
fn leases_of_an_older_kind_of_container_keep_their_partition_keys() {
    let local = Local::start(&["c:/pk:2", "leases:/partitionKey:2"]);
    let of = |job: &'static str| [("scan.lease.format", "dotnet"), ("scan.lease.job", job)];
    let mut first = Reader::start(&local, &of("a"));
    first.read(0);
    first.publish(1);
    until("the leases are there", || stored(&local).initialised);
    first.end();
    // As .NET wrote them: each with a key that is not its id.
    let theirs: Vec<Value> = (stored(&local).leases.iter().zip(["5f0c", "77aa"]))
        .map(|(lease, key)| {
            let mut document = lease.with_owner(None, lease.mark.as_ref().unwrap(), 0);
            document["partitionKey"] = key.into();
            document.as_object_mut().unwrap().remove("cosmosflink");
            document
        })
        .collect();
    let sink = local.sink("leases", &[]);
    for (token, document) in (0..).zip(&theirs) {
        let id = document["id"].as_str().unwrap();
        let (old, new) = (
            json!([id]).to_string(),
            json!([document["partitionKey"]]).to_string(),
        );
        submit(&sink, 2 * token, OperationKind::Delete, id, &old, "");
        submit(
            &sink,
            2 * token + 1,
            OperationKind::Upsert,
            id,
            &new,
            &document.to_string(),
        );
    }
    outcomes(&sink, 4);
    sink.close();
    fill(&local, "a", 60);
    let mut second = Reader::start(&local, &[FROM_LEASES, of("b")[0], of("b")[1]]);
    second.read(60);
    second.publish(1);
    until("the positions are written", || {
        let leases = stored(&local).leases;
        leases.len() == 2
            && leases
                .iter()
                .all(|l| l.mark.as_ref().is_some_and(|m| m.checkpoint == 1))
    });
    let mut keys: Vec<_> = stored(&local)
        .leases
        .into_iter()
        .map(|l| l.key.unwrap())
        .collect();
    keys.sort();
    assert_eq!(keys, ["5f0c", "77aa"]);
    second.end();
}

#[test]
fn all_versions_and_deletes_are_handed_over_in_either_form() {
    for form in ["java", "dotnet"] {
        let local = Local::start_with(&["c:/pk:2", "leases:/id:1"], |config| {
            config.all_versions = Some(AllVersions::default());
        });
        let of = |job: &'static str, start: &'static str| {
            [
                ("scan.change-feed.mode", "all-versions-and-deletes"),
                ("scan.lease.format", form),
                ("scan.startup.mode", start),
                ("scan.lease.job", job),
            ]
        };
        let mut first = Reader::start(&local, &of("a", "latest"));
        fill(&local, "a", 40);
        first.read(40);
        first.publish(1);
        until("the leases are there", || stored(&local).initialised);
        first.end();
        assert!(stored(&local)
            .leases
            .iter()
            .all(|l| l.full_fidelity == Some(true)));
        fill(&local, "b", 30);
        let mut second = Reader::start(&local, &of("b", "leases"));
        second.read(30);
        assert_eq!(second.ids, names("b", 30), "{form}");
        second.end();
        let error = local
            .enumerator(
                "c",
                &options(&[FROM_LEASES, ("scan.lease.format", form), ("scan.lease.job", "c")]),
            )
            .discover(&[])
            .unwrap_err();
        assert!(error.message.contains("scan.change-feed.mode"), "{error}");
    }
}

#[test]
fn a_job_that_reads_in_more_splits_than_partitions_leaves_as_many_leases() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    fill(&local, "a", 100);
    let mut first = Reader::start(&local, &[("scan.min-splits", "4"), ("scan.lease.job", "a")]);
    assert_eq!(first.splits.len(), 4);
    first.read(100);
    first.publish(1);
    until("the leases are there", || stored(&local).initialised);
    first.end();
    assert_eq!(stored(&local).leases.len(), 4);
    fill(&local, "b", 40);
    let mut second = Reader::start(&local, &[FROM_LEASES, ("scan.lease.job", "b")]);
    assert_eq!(second.splits.len(), 4);
    second.read(40);
    assert_eq!(second.ids, names("b", 40));
    second.end();
    // And in still more, from the leases of two.
    let mut third = Reader::start(
        &local,
        &[FROM_LEASES, ("scan.min-splits", "8"), ("scan.lease.job", "c")],
    );
    assert_eq!(third.splits.len(), 8);
    third.read(0);
    third.publish(1);
    until("the finer leases take the place of the coarser ones", || {
        stored(&local).leases.len() == 8
    });
    third.end();
}

#[test]
fn a_job_that_ends_by_itself_leaves_leases_to_go_on_from() {
    let local = Local::start(&["c:/pk:2", "leases:/id:1"]);
    fill(&local, "a", 80);
    let mut first = Reader::start(
        &local,
        &[
            ("scan.bounded.mode", "latest"),
            ("scan.lease.job", "a"),
            ("scan.page-size", "10"),
        ],
    );
    fill(&local, "b", 30);
    first.publish(1);
    let mut open = first.splits.len();
    let mut read = 0;
    until("the splits end", || {
        while let Some(page) = take(&first.source, Duration::from_millis(20)) {
            read += page.records.len();
            match page.finished {
                Some(_) => open -= 1,
                None => {
                    let at = first
                        .splits
                        .iter()
                        .position(|s| s.id() == page.split.id())
                        .unwrap();
                    first.splits[at] = page.split;
                    first.publish(2);
                }
            }
        }
        open == 0
    });
    assert!(read >= 80, "{read}");
    until("the leases are there", || stored(&local).initialised);
    // A checkpoint behind the end of all splits holds none.
    first.source.publish(3, &[]);
    first.end();
    let store = stored(&local);
    assert_eq!(store.leases.len(), 2);
    assert!(store.leases.iter().all(|l| l.reached.etag.is_some()));
    let mut second = Reader::start(&local, &[FROM_LEASES, ("scan.lease.job", "b")]);
    second.read(0);
    assert_eq!(owners(&stored(&local)), [Some("cosmosflink-b"); 2]);
    second.end();
}

#[test]
fn a_job_that_begins_at_positions_stops_where_the_partitions_are_now() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    fill(&local, "a", 100);
    let mut whole = Reader::start(&local, &[("scan.lease.format", "none")]);
    whole.read(100);
    whole.end();
    let mut parts = Reader::start(
        &local,
        &[
            ("scan.min-splits", "4"),
            ("scan.lease.format", "none"),
            ("scan.page-size", "10"),
        ],
    );
    parts.read(100);
    parts.end();
    let path = |name: &str| {
        let file = format!("cosmosflink-{name}-{}", std::process::id());
        std::env::temp_dir().join(file).to_str().unwrap().to_owned()
    };
    let (of_whole, of_parts) = (path("whole"), path("parts"));
    for (path, splits) in [(&of_whole, whole.splits), (&of_parts, parts.splits)] {
        std::fs::write(path, tokens_file::write(splits, &[]).unwrap()).unwrap();
    }
    let stops = |splits: &[Split]| -> Vec<Vec<(String, String)>> {
        let stop = |split: &Split| match &split.stop {
            Stop::At(token) => Position::decode(token).unwrap().ranges,
            other => panic!("{other:?}"),
        };
        let bounds = |split: &Split| stop(split).into_iter().map(|r| (r.min, r.max)).collect();
        splits.iter().map(bounds).collect()
    };
    let look = |path: &str| -> Vec<Split> {
        let options = [
            ("scan.startup.mode", "tokens"),
            ("scan.startup.tokens-file", path),
            ("scan.bounded.mode", "latest"),
        ];
        let found = local.enumerator("c", &options).discover(&[]).unwrap();
        found.into_iter().map(|entry| entry.split).collect()
    };
    fill(&local, "b", 60);
    let found = look(&of_parts);
    let all = vec![(String::new(), "FF".to_owned())];
    assert_eq!(stops(&found), vec![all; 4], "finer than the one partition");

    let source = local.source(
        "c",
        &[
            ("scan.startup.mode", "tokens"),
            ("scan.startup.tokens-file", &of_parts),
            ("scan.bounded.mode", "latest"),
        ],
    );
    source.add_splits(found.clone()).unwrap();
    let (mut open, mut ids) = (found.len(), Vec::new());
    while open > 0 {
        let page = take(&source, WAIT).expect("a page, or an end");
        ids.extend(page.records.into_iter().map(|(id, _)| id));
        open -= usize::from(page.finished.is_some());
    }
    ids.sort();
    assert_eq!(ids, names("b", 60));

    local.admin(
        "split",
        json!({"database": "orders", "container": "c", "partition": "0"}),
    );
    let children = stops(&look(&of_whole)).remove(0);
    assert_eq!(children.len(), 2, "coarser than the two partitions");
    assert_eq!((children[0].0.as_str(), children[1].1.as_str()), ("", "FF"));
    let found = look(&of_parts);
    for (split, stop) in found.iter().zip(stops(&found)) {
        let over = children
            .iter()
            .filter(|(min, max)| overlap((min, max), split.range()));
        let over: Vec<_> = over.cloned().collect();
        assert_eq!(stop, over, "{}", split.id());
    }
    for path in [of_whole, of_parts] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_lease_that_is_another_one_each_time_ends_the_attempt_with_its_name() {
    let local = Local::start(&["c:/pk:1", "leases:/id:1"]);
    let mut before = Reader::start(&local, &[("scan.lease.format", "none")]);
    before.read(0);
    before.end();
    put(
        &local,
        &by_range_id(&local, &before.splits, None, "2026-01-02T03:04:05.678Z"),
    );
    local.admin(
        "faults",
        json!({"operations": "replace", "container": "leases", "status": 412}),
    );
    local.forget_requests();
    let enumerator = local.enumerator(
        "c",
        &options(&[
            FROM_LEASES,
            ("scan.lease.job", "j"),
            ("retry.max-attempts", "4"),
            ("retry.backoff", "10"),
        ]),
    );
    let look = std::thread::spawn(move || enumerator.discover(&[]));
    until("it gives up", || look.is_finished());
    let error = look.join().unwrap().unwrap_err();
    assert_eq!((error.kind, error.status), (Kind::Transient, 412), "{error}");
    assert!(
        error.message.contains("_orders_c..0'") && !error.outlives_restart(),
        "{error}"
    );
    assert_eq!(local.requests("replace").len(), 4);
    local.clear_faults();
}

#[test]
fn a_job_that_still_reads_the_container_has_no_stop_to_be_given() {
    let local = Local::start_with(&["c:/pk:1"], |config| {
        config.all_versions = Some(AllVersions::default());
    });
    let of = |more: &[(&str, &str)]| {
        let mut all = vec![("scan.change-feed.mode", "all-versions-and-deletes")];
        all.extend(more);
        local.enumerator("c", &all).discover(&[])
    };
    let found = of(&[("scan.startup.mode", "initial")]).unwrap();
    let splits = found.into_iter().map(|entry| entry.split).collect();
    let path = std::env::temp_dir().join(format!("cosmosflink-initial-{}", std::process::id()));
    std::fs::write(&path, tokens_file::write(splits, &[]).unwrap()).unwrap();
    let tokens = [
        ("scan.startup.mode", "tokens"),
        ("scan.startup.tokens-file", path.to_str().unwrap()),
    ];
    assert!(of(&tokens).unwrap()[0].split.then.is_some());
    let error = of(&[tokens[0], tokens[1], ("scan.bounded.mode", "latest")]).unwrap_err();
    assert!(
        error.kind == Kind::Config && error.message.contains("scan.bounded.mode"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
}
