//! A job that reads: the coordinator, readers, and what Flink does to them; and what must be so.
//!
//! What is said of Flink here is what its sources say (`docs/reliability.md`): the coordinator is snapshot first, assignments that were
//! sent before come before the barrier; a reader that fails gives back what it was assigned since the last completed checkpoint, and
//! begins from that; when all fail, all begin from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosmosflink_core::config::{Config, Role, Start, StopAt};
use cosmosflink_core::coordinator::{Action, Coordinator, Event, Failure, Found, Readers, Settings};
use cosmosflink_core::discovery::discover;
use cosmosflink_core::error::{CoreError, Kind, Result};
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::page::{FLAG_CAUGHT_UP, FLAG_FINISHED, RECORD_BYTES};
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{decode_list, decode_state, Mode, Split};
use cosmosflink_core::status::Next;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, Instant};

use crate::feed::{Budget, ModelFeed};
use crate::plan::{mix, pick, Fault, Options, Plan, Random, Request, Side, What};
use crate::world::{from_hex, lock, Doc, Epk, Shared, World, EPOCH, TOP};
use crate::Outcome;

/// How long everything may take once all faults are over.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often the tasks of the job look for work.
const TICK: Duration = Duration::from_millis(20);

/// Pages that a reader has fetched and not emitted, at most: Flink's own queue.
const HANDED_OVER: usize = 2;

/// Pages that a reader emits in one tick.
const EMITTED: usize = 4;

/// More restarts than this, and the job is given up.
const RESTARTS: u32 = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourcePlan {
    pub options: Options,
    pub partitions: u32,
    pub keys: u32,
    /// Bytes that a document has besides its own few.
    pub padding: usize,
    pub parallelism: u32,
    /// Whether readers report the splits that they are restored with, as in Flink 2.2 and later, in place of taking them.
    pub reports: bool,
    /// Documents that are there before the job begins.
    pub before: u32,
    pub steps: Vec<Step>,
    pub faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    pub at_ms: u64,
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Act {
    /// Changes of documents: `w3` writes, `+3` writes in one transaction with the one before, `d3` deletes.
    Change(String),
    Checkpoint {
        /// It is declined after all.
        declined: bool,
        /// How long the notice of its completion takes.
        late_ms: u64,
    },
    /// A reader fails and is restored.
    Kill {
        subtask: u32,
        pause_ms: u64,
    },
    /// The coordinator fails, and all with it; perhaps another number of readers comes back.
    KillAll {
        parallelism: u32,
        pause_ms: u64,
    },
    /// A split is held back, as to align watermarks.
    Pause {
        nth: u32,
        ms: u64,
    },
    /// A reader can emit nothing.
    Backpressure {
        subtask: u32,
        ms: u64,
    },
    Split {
        nth: u32,
    },
    Merge {
        nth: u32,
    },
    Lock {
        nth: u32,
        ms: u64,
    },
    Recreate,
}

/// Options by their names.
fn named<const N: usize>(options: [(&str, &str); N]) -> Options {
    options
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl SourcePlan {
    fn of_seed(self, seed: u64) -> Plan {
        Plan {
            seed,
            about: String::new(),
            side: Side::Source(self),
        }
    }
}

/// A plan from a seed.
pub fn generate(seed: u64) -> Plan {
    let random = &mut Random::with_seed(seed ^ 0x0050_5243);
    if mix(&[seed, 9]).is_multiple_of(16) {
        return gathered(seed, random);
    }
    if random.u32(0..5) == 0 {
        return squeezed(seed, random);
    }
    let span = pick(random, &[3_000, 10_000, 30_000]);
    let partitions = pick(random, &[1, 2, 3, 5]);
    let documents = pick(random, &[3, 10, 40, 200]);
    let parallelism = pick(random, &[1, 2, 2, 3, 5]);
    let mut options = Options::new();
    let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
    set("max-concurrency", pick(random, &["1", "2", "4", "16"]).to_owned());
    set(
        "scan.page-size",
        pick(random, &["1", "2", "7", "1000"]).to_owned(),
    );
    set(
        "scan.prefetch-size",
        pick(random, &["1048576", "4194304", "67108864"]).to_owned(),
    );
    set(
        "scan.discovery-interval",
        pick(random, &["0", "500", "5000"]).to_owned(),
    );
    set(
        "scan.startup.mode",
        pick(random, &["earliest", "earliest", "latest"]).to_owned(),
    );
    if random.bool() {
        set("scan.poll-interval", pick(random, &["50", "200"]).to_owned());
    }
    // As a rule so long that nothing that passes ends a job.
    let (deadline, attempts) = match random.u32(0..6) {
        0 => ("4000", "20"),
        _ => ("86400000", "10000"),
    };
    set("retry.deadline", deadline.to_owned());
    set("retry.max-attempts", attempts.to_owned());
    let mut steps = Vec::new();
    for _ in 0..random.u32(1..40) {
        let size = pick(random, &[1, 3, 10, 40]);
        let changes: Vec<_> = (0..random.u32(1..=size))
            .map(|_| {
                format!(
                    "{}{}",
                    pick(random, &['w', 'w', 'w', 'w', '+', 'd']),
                    random.u32(0..documents)
                )
            })
            .collect();
        steps.push(Step {
            at_ms: random.u64(0..span),
            act: Act::Change(changes.join(" ")),
        });
    }
    let mut some = |most: u32, act: &mut dyn FnMut(&mut Random) -> Act| {
        for _ in 0..random.u32(0..=most) {
            let at_ms = random.u64(0..span);
            let act = act(random);
            steps.push(Step { at_ms, act });
        }
    };
    some(12, &mut |r| Act::Checkpoint {
        declined: r.u32(0..4) == 0,
        late_ms: pick(r, &[0, 0, 50, 700]),
    });
    some(3, &mut |r| Act::Kill {
        subtask: r.u32(0..8),
        pause_ms: r.u64(1..1500),
    });
    some(2, &mut |r| Act::KillAll {
        parallelism: match r.u32(0..2) {
            0 => parallelism,
            _ => r.u32(1..6),
        },
        pause_ms: r.u64(1..1500),
    });
    some(3, &mut |r| Act::Pause {
        nth: r.u32(0..8),
        ms: r.u64(50..5000),
    });
    some(2, &mut |r| Act::Backpressure {
        subtask: r.u32(0..8),
        ms: r.u64(50..5000),
    });
    some(3, &mut |r| Act::Split { nth: r.u32(0..16) });
    some(1, &mut |r| Act::Merge { nth: r.u32(0..16) });
    some(2, &mut |r| Act::Lock {
        nth: r.u32(0..16),
        ms: r.u64(10..3000),
    });
    if random.u32(0..16) == 0 {
        steps.push(Step {
            at_ms: random.u64(0..span),
            act: Act::Recreate,
        });
    }
    steps.sort_by_key(|step| step.at_ms);
    let faults = (0..pick(random, &[0, 2, 5, 9]))
        .map(|id| fault(id, span, random))
        .collect();
    let mut plan = SourcePlan {
        options,
        partitions,
        keys: pick(random, &[1, 4, 16]),
        padding: pick(random, &[0, 100, 3000, 60_000]),
        parallelism,
        reports: random.bool(),
        before: random.u32(0..=documents),
        steps,
        faults,
    };
    if random.u32(0..4) == 0 {
        let value = random.u32(2..9).to_string();
        plan.options.insert("scan.min-splits".to_owned(), value);
    }
    if random.u32(0..6) == 0 {
        let value = pick(random, &["100", "1000"]).to_owned();
        let name = "scan.request-units-per-second";
        plan.options.insert(name.to_owned(), value);
    }
    match pick(random, &[None, None, None, Some("latest"), Some("initial")]) {
        Some(start) => with_deletes(&mut plan, start, random),
        None if random.u32(0..3) == 0 => with_end(&mut plan, span, random),
        None => {}
    }
    plan.of_seed(seed)
}

/// All versions and deletes. The service has them in no account that merges partitions.
fn with_deletes(plan: &mut SourcePlan, start: &str, random: &mut Random) {
    let mode = [
        ("scan.change-feed.mode", "all-versions-and-deletes"),
        ("scan.startup.mode", start),
    ];
    plan.options.extend(named(mode));
    plan.steps.retain(|step| !matches!(step.act, Act::Merge { .. }));
    for step in &mut plan.steps {
        if let Act::Change(changes) = &mut step.act {
            for _ in 0..random.u32(0..4) {
                let doc = random.u32(0..plan.before.max(3));
                changes.push_str(&format!(" d{doc}"));
            }
        }
    }
}

/// Reading that ends, at the start or at a time.
fn with_end(plan: &mut SourcePlan, span: u64, random: &mut Random) {
    let stop = match random.bool() {
        true => "latest",
        false => {
            let time = EPOCH as u64 + 1000 * random.u64(0..=span / 1000 + 5);
            let name = "scan.bounded.timestamp-millis".to_owned();
            plan.options.insert(name, time.to_string());
            "timestamp"
        }
    };
    let options = [
        ("scan.startup.mode", "earliest"),
        ("scan.bounded.mode", stop),
        // Pages of few documents are outrun by others that write many at once, which the core may give up to.
        ("scan.page-size", pick(random, &["7", "1000"])),
    ];
    plan.options.extend(named(options));
    plan.steps.retain(|step| !matches!(step.act, Act::Recreate));
    // No replica is behind for as long as an end is confirmed.
    let mut lags = 0;
    plan.faults.retain_mut(|fault| {
        let is_lag = matches!(fault.what, What::Lag { .. });
        if is_lag {
            lags += 1;
            fault.to_ms = fault.to_ms.min(fault.from_ms + 4_000);
        }
        !is_lag || lags == 1
    });
    if plan
        .steps
        .iter()
        .any(|step| matches!(step.act, Act::Merge { .. }))
    {
        // A partition that was merged and split again has the bounds that it had, and other numbers: that cannot be told.
        plan.steps.retain(|step| !matches!(step.act, Act::Split { .. }));
    }
}

/// A plan in which pages are large, the room for them is short, and splits that hold most of it are held back: pages are given back and
/// read again, also while one is under way behind them.
fn squeezed(seed: u64, random: &mut Random) -> Plan {
    let options = [
        ("scan.page-size", pick(random, &["3", "4"])),
        (
            "scan.prefetch-size",
            pick(random, &["6291456", "16777216", "16777216"]),
        ),
        ("scan.poll-interval", "50"),
        ("retry.deadline", "86400000"),
        ("retry.max-attempts", "10000"),
    ];
    let mut steps = vec![Step {
        at_ms: 0,
        act: Act::Checkpoint {
            declined: false,
            late_ms: 0,
        },
    }];
    for round in 0..random.u64(1..3) {
        let from = round * 10_000;
        steps.push(Step {
            at_ms: from + random.u64(0..400),
            act: Act::Backpressure {
                subtask: 0,
                ms: random.u64(6000..9000),
            },
        });
        for _ in 0..random.u32(2..5) {
            steps.push(Step {
                at_ms: from + random.u64(2500..7500),
                act: Act::Pause {
                    nth: random.u32(0..2),
                    ms: random.u64(300..1500),
                },
            });
        }
        let changes: Vec<_> = (0..150).map(|_| format!("w{}", random.u32(0..200))).collect();
        steps.push(Step {
            at_ms: from + random.u64(0..9000),
            act: Act::Change(changes.join(" ")),
        });
    }
    steps.sort_by_key(|step| step.at_ms);
    let slow = Fault {
        id: 0,
        on: Request::Page,
        from_ms: 0,
        to_ms: 27_000,
        per_mille: 1000,
        partition: None,
        what: What::Slow {
            ms: pick(random, &[20, 100, 200, 200]),
        },
    };
    SourcePlan {
        options: named(options),
        partitions: 2,
        // All documents in one partition.
        keys: 1,
        padding: 120_000,
        parallelism: 1,
        reports: random.bool(),
        before: random.u32(120..200),
        steps,
        faults: vec![slow],
    }
    .of_seed(seed)
}

/// A plan in which partitions split and merge, and all begin again when it is quiet, or nearly so: neighbours have one position, or nearly the same.
fn gathered(seed: u64, random: &mut Random) -> Plan {
    let partitions = pick(random, &[1, 1, 2, 3]);
    let parallelism = pick(random, &[1, 2, 3]);
    let min_splits = pick(random, &["1", "1", "2", "5"]);
    let options = [
        ("scan.page-size", pick(random, &["2", "7", "1000"])),
        ("scan.poll-interval", "50"),
        (
            "scan.discovery-interval",
            pick(random, &["500", "500", "5000", "0"]),
        ),
        (
            "scan.startup.mode",
            pick(random, &["earliest", "earliest", "latest"]),
        ),
        ("scan.min-splits", min_splits),
        ("retry.deadline", "86400000"),
        ("retry.max-attempts", "10000"),
    ];
    let mut steps = Vec::new();
    let mut at = |at_ms: u64, act: Act| steps.push(Step { at_ms, act });
    let write = |random: &mut Random, most: u32| {
        let changes = (0..random.u32(1..=most))
            .map(|_| format!("{}{}", pick(random, &['w', 'w', '+', 'd']), random.u32(0..40)));
        Act::Change(changes.collect::<Vec<_>>().join(" "))
    };
    let checkpoint = |late_ms| Act::Checkpoint {
        declined: false,
        late_ms,
    };
    at(random.u64(0..900), write(random, 30));
    let nth = random.u32(0..partitions);
    at(1_000, Act::Split { nth });
    at(random.u64(1_000..2_900), write(random, 30));
    at(3_000, Act::Merge { nth });
    for round in 0..random.u64(1..4) {
        let from = 3_000 + round * 6_000;
        if random.bool() {
            // All but what comes late is read by all.
            at(from + random.u64(0..1_000), write(random, 10));
        }
        if random.u32(0..3) == 0 {
            at(from + random.u64(2_900..3_050), write(random, 3));
        }
        at(from + 3_000, checkpoint(pick(random, &[0, 50, 700])));
        at(
            from + 3_000 + random.u64(100..400),
            Act::KillAll {
                parallelism: pick(random, &[parallelism, parallelism, 2]),
                pause_ms: random.u64(1..500),
            },
        );
        if random.bool() {
            at(from + random.u64(3_400..5_900), write(random, 20));
        }
        if random.bool() {
            at(
                from + random.u64(3_500..5_500),
                Act::Kill {
                    subtask: random.u32(0..3),
                    pause_ms: random.u64(1..500),
                },
            );
        }
        if random.bool() {
            at(from + random.u64(3_500..5_900), checkpoint(0));
        }
        if random.u32(0..3) == 0 {
            let nth = random.u32(0..partitions);
            at(from + random.u64(3_500..5_900), Act::Split { nth });
        }
    }
    steps.sort_by_key(|step| step.at_ms);
    let faults = (0..pick(random, &[0, 0, 2])).map(|id| fault(id, 9_000, random));
    let faults = faults.collect();
    SourcePlan {
        options: named(options),
        partitions,
        keys: pick(random, &[4, 16]),
        padding: 0,
        parallelism,
        reports: true,
        before: random.u32(0..40),
        steps,
        faults,
    }
    .of_seed(seed)
}

fn fault(id: u32, span: u64, random: &mut Random) -> Fault {
    let on = pick(
        random,
        &[
            Request::Page,
            Request::Page,
            Request::Page,
            Request::Page,
            Request::Open,
            Request::Ranges,
            Request::Check,
        ],
    );
    let passing = [
        (401, 20402),
        (403, 3),
        (404, 1002),
        (408, 0),
        (410, 1002),
        (410, 1007),
        (429, 3200),
        (429, 3200),
        (449, 0),
        (500, 0),
        (503, 0),
    ];
    let refused = |random: &mut Random| {
        let (status, sub) = pick(random, &passing);
        let retry_after_ms = (status == 429 && random.bool()).then(|| random.u64(1..2000));
        What::Refused {
            status,
            sub,
            retry_after_ms,
        }
    };
    let what = match (on, random.u32(0..12)) {
        (_, 0) => What::Slow {
            ms: pick(random, &[20, 700, 5000]),
        },
        (Request::Ranges, 1..=3) => What::Stale,
        (Request::Page, 1) if random.u32(0..4) == 0 => What::Refused {
            status: pick(random, &[401, 403]),
            sub: 0,
            retry_after_ms: None,
        },
        (Request::Page, 2..=3) => What::Empty,
        (Request::Page, 4) => What::Lag {
            writes: random.u64(1..20),
        },
        (Request::Page, 5..=6) => What::Lost { status: 503, sub: 0 },
        (Request::Page, 7) => What::Broken,
        (Request::Page, 8) => What::Refused {
            status: 413,
            sub: 3402,
            retry_after_ms: None,
        },
        _ => refused(random),
    };
    let from_ms = random.u64(0..span);
    Fault {
        id,
        on,
        from_ms,
        to_ms: from_ms + random.u64(1..=span / 2),
        per_mille: pick(random, &[100, 300, 600, 1000]),
        partition: (random.u32(0..5) == 0).then(|| random.u32(1..4)),
        what,
    }
}

/// What was delivered of a split, by document, up to a position: what the state of a job behind the source would hold.
type Delivered = Rc<BTreeMap<Doc, u64>>;

/// A split as a job has it.
#[derive(Clone, Debug)]
struct Held {
    split: Split,
    delivered: Delivered,
    /// It was read to its end: no reader has it any more, only what is behind the source.
    ended: bool,
}

/// A page that a reader has fetched.
struct Page {
    split: Split,
    caught_up: bool,
    /// The split ends with this page, and these go on in its place.
    finished: Option<Vec<Split>>,
    /// Document and version; none when it is deleted.
    records: Vec<(Doc, Option<u64>)>,
}

fn decode(frame: &[u8]) -> Result<Page> {
    let u32_at =
        |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]) as usize;
    let (count, table) = (u32_at(4), u32_at(8));
    let split_at = 36 + u32_at(32);
    let split = Split::decode(&frame[split_at + 4..split_at + 4 + u32_at(split_at)])?;
    let children_at = split_at + 4 + u32_at(split_at);
    let children = match u32_at(children_at) {
        0 => Vec::new(),
        length => decode_list(&frame[children_at + 4..children_at + 4 + length])?,
    };
    let children = children.into_iter().map(|entry| entry.split).collect();
    let flags = u32_at(12) as u32;
    let records = (0..count).map(|i| {
        let row = table + i * RECORD_BYTES;
        let bytes = |at: usize| &frame[u32_at(at)..u32_at(at) + u32_at(at + 4)];
        let id = std::str::from_utf8(bytes(row + 8)).ok();
        let doc = id.and_then(|id| id[1..].parse().ok());
        let n = (frame[row + 48] != 3).then(|| {
            let json: serde_json::Value = serde_json::from_slice(bytes(row)).expect("a page holds JSON");
            json["n"].as_u64().expect("the model's documents")
        });
        (doc.expect("the model's ids"), n)
    });
    Ok(Page {
        split,
        caught_up: flags & FLAG_CAUGHT_UP != 0,
        finished: (flags & FLAG_FINISHED != 0).then_some(children),
        records: records.collect(),
    })
}

/// What is sent to a reader, in order.
enum ToReader {
    Splits(Vec<Split>),
    NoMoreSplits,
    Barrier(u64),
}

struct Reader {
    source: Source,
    /// Pages that it asks for.
    under_way: Arc<Mutex<usize>>,
    /// By id.
    splits: BTreeMap<String, Held>,
    /// Those that were read to their ends.
    ended: Vec<Held>,
    /// It was told that no split comes any more.
    told: bool,
    inbox: VecDeque<(Instant, ToReader)>,
    handed_over: VecDeque<Page>,
    blocked_until: Instant,
    /// Splits that are held back, and until when.
    paused: BTreeMap<String, Instant>,
    /// The newest version of each document that came since the split was added.
    session: BTreeMap<(String, Doc), u64>,
    /// Whether the last page of a split said that it is read to its end.
    caught_up: BTreeMap<String, bool>,
}

/// A subtask of the source.
enum Task {
    Running(Box<Reader>),
    /// It begins again at that time, with these splits.
    Down {
        at: Instant,
        restored: Vec<Held>,
    },
}

/// What a look for splits came to, and which coordinator asked.
type Looked = (u64, Result<Found>);

/// A checkpoint that is being taken.
struct Pending {
    id: u64,
    declined: bool,
    late: Duration,
    coordinator: Vec<u8>,
    /// What readers have acknowledged.
    readers: BTreeMap<u32, Vec<Held>>,
}

/// A checkpoint that can be restored.
#[derive(Clone, Default)]
struct Checkpoint {
    id: u64,
    coordinator: Vec<u8>,
    readers: BTreeMap<u32, Vec<Held>>,
}

struct Job<'a> {
    plan: &'a SourcePlan,
    seed: u64,
    config: Arc<Config>,
    world: Shared,
    /// Writes so far.
    writes: u64,
    /// The number of the last write before the job began, without state, and before its splits were found.
    begun_at: u64,
    found_at: Option<u64>,
    /// The number of the last write before the look that found them.
    looked_at: u64,
    stop_at: u64,
    /// Readers that get no split any more.
    told: BTreeSet<u32>,
    feed: Option<Arc<ModelFeed>>,
    coordinator: Option<Coordinator>,
    /// Coordinators so far.
    incarnation: u64,
    readers_made: u64,
    tasks: Vec<Task>,
    registered: BTreeSet<u32>,
    found: (UnboundedSender<Looked>, UnboundedReceiver<Looked>),
    discovery: Option<JoinHandle<()>>,
    /// Looks for splits so far.
    looks: u64,
    next_discovery: Option<(Instant, u64)>,
    checkpoints: u64,
    pending: Option<Pending>,
    /// Complete, and the notice is under way.
    notices: VecDeque<(Instant, u64)>,
    last: Option<Checkpoint>,
    /// What each reader begins again with.
    base: BTreeMap<u32, Vec<Held>>,
    /// Assignments that no completed checkpoint holds: with the checkpoint that will, `u64::MAX` for the next one.
    assigned: Vec<(u64, u32, Split)>,
    /// What was delivered up to a position of a split.
    delivered_at: BTreeMap<(String, Option<String>), Delivered>,
    /// All begin again at that time, so many.
    restart: Option<(Instant, u32)>,
    restarts: u32,
    ended: bool,
    generation: u32,
}

/// Runs a plan.
pub async fn run(seed: u64, plan: &SourcePlan, traced: bool) -> Outcome {
    let mut world = World::new(seed, plan.keys, plan.partitions, &plan.faults);
    world.trace.lines = traced.then(Vec::new);
    for doc in 0..plan.before {
        world.write(doc, u64::from(doc) + 1, false);
    }
    let world = Arc::new(Mutex::new(world));
    let mut options: Vec<_> = plan.options.clone().into_iter().collect();
    for (name, value) in crate::ACCOUNT {
        options.push((name.to_owned(), value.to_owned()));
    }
    let config = match Config::parse(Role::Source, &options) {
        Ok(config) => Arc::new(config),
        Err(e) => {
            lock(&world).violation("the plan has options of the core", e.to_string());
            return Outcome::of(&world);
        }
    };
    let writes = u64::from(plan.before);
    let mut job = Job {
        plan,
        seed,
        config,
        world: world.clone(),
        writes,
        begun_at: writes,
        found_at: None,
        looked_at: 0,
        stop_at: 0,
        told: BTreeSet::new(),
        feed: None,
        coordinator: None,
        incarnation: 0,
        readers_made: 0,
        tasks: Vec::new(),
        registered: BTreeSet::new(),
        found: unbounded_channel(),
        discovery: None,
        looks: 0,
        next_discovery: None,
        checkpoints: 0,
        pending: None,
        notices: VecDeque::new(),
        last: None,
        base: BTreeMap::new(),
        assigned: Vec::new(),
        delivered_at: BTreeMap::new(),
        restart: Some((Instant::now(), plan.parallelism)),
        restarts: 0,
        ended: false,
        generation: 1,
    };
    job.run().await;
    Outcome::of(&world)
}

impl Job<'_> {
    fn violation(&self, invariant: &str, what: String) {
        lock(&self.world).violation(invariant, what);
    }

    fn note(&self, text: impl FnOnce() -> String) {
        lock(&self.world).note(text);
    }

    async fn run(&mut self) {
        let began = Instant::now();
        let mut steps = self.plan.steps.iter().peekable();
        let last = self.plan.steps.iter().map(|s| s.at_ms).max().unwrap_or(0);
        let over = last.max(lock(&self.world).healed_at());
        let healed = began + Duration::from_millis(over);
        loop {
            let now = Instant::now();
            while let Some(step) = steps.next_if(|s| began + Duration::from_millis(s.at_ms) <= now) {
                self.act(&step.act).await;
            }
            self.tick().await;
            self.check_coverage();
            if !lock(&self.world).violations.is_empty() || self.restarts > RESTARTS || self.ended {
                break;
            }
            if now > healed && steps.peek().is_none() {
                let missing = match self.config.is_bounded() {
                    true => self.unread(),
                    false => self.missing(),
                };
                match missing {
                    None => {
                        self.check_what_came();
                        break;
                    }
                    Some(what) if now > healed + PATIENCE => {
                        self.violation("progress", what);
                        break;
                    }
                    Some(_) => {}
                }
            }
            sleep_until(now + TICK).await;
        }
        self.stop().await;
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Change(changes) => {
                let mut world = lock(&self.world);
                world.commit();
                for change in changes.split_whitespace() {
                    let doc = change[1..].parse().expect("a plan names documents by number");
                    if change.starts_with('d') {
                        world.delete(doc);
                    } else {
                        self.writes += 1;
                        world.write(doc, self.writes, change.starts_with('+'));
                    }
                }
                let writes = self.writes;
                world.note(|| format!("changes {changes}, up to {writes}"));
            }
            Act::Checkpoint { declined, late_ms } => self.begin_checkpoint(*declined, *late_ms),
            Act::Kill { subtask, pause_ms } => {
                let subtask = subtask % self.tasks.len().max(1) as u32;
                self.fail_reader(subtask, Duration::from_millis(*pause_ms), "killed")
                    .await;
            }
            Act::KillAll {
                parallelism,
                pause_ms,
            } => {
                self.fail_all(*parallelism, Duration::from_millis(*pause_ms), "killed")
                    .await;
            }
            Act::Pause { nth, ms } => self.pause(*nth, *ms),
            Act::Backpressure { subtask, ms } => {
                let at = *subtask as usize % self.tasks.len().max(1);
                if let Some(Task::Running(reader)) = self.tasks.get_mut(at) {
                    reader.blocked_until = Instant::now() + Duration::from_millis(*ms);
                }
            }
            Act::Split { nth } => lock(&self.world).split(*nth),
            Act::Merge { nth } => lock(&self.world).merge(*nth),
            Act::Lock { nth, ms } => lock(&self.world).lock_partition(*nth, *ms),
            Act::Recreate => lock(&self.world).recreate(),
        }
    }

    async fn tick(&mut self) {
        if let Some((at, parallelism)) = self.restart {
            if at <= Instant::now() {
                self.restart = None;
                self.start(parallelism).await;
            }
            return;
        }
        while let Ok((incarnation, found)) = self.found.1.try_recv() {
            if incarnation == self.incarnation {
                self.discovery = None;
                self.discovered(found).await;
            }
        }
        if let Some((at, period)) = self.next_discovery.filter(|(at, _)| *at <= Instant::now()) {
            self.next_discovery = (period > 0).then(|| (at + Duration::from_millis(period), period));
            self.look();
        }
        self.complete_checkpoints().await;
        for subtask in 0..self.tasks.len() as u32 {
            self.drive(subtask).await;
            if self.restart.is_some() || self.ended {
                return;
            }
        }
    }

    // -- the coordinator

    /// All begin, from the last completed checkpoint if there is one.
    async fn start(&mut self, parallelism: u32) {
        self.generation = lock(&self.world).generation;
        self.incarnation += 1;
        let feed = ModelFeed::new(&self.world, self.plan.padding, usize::MAX);
        self.feed = Some(Arc::new(feed));
        let last = self.last.clone().unwrap_or_default();
        let settings = Settings::of(&self.config);
        let coordinator = Coordinator::new(settings, &last.coordinator, self.incarnation == 1);
        match coordinator {
            Ok(coordinator) => self.coordinator = Some(coordinator),
            Err(e) => return self.violation("a checkpoint can be restored", e.to_string()),
        }
        self.note(|| format!("all begin from checkpoint {}, {parallelism} readers", last.id));
        self.assigned.clear();
        self.registered.clear();
        self.told.clear();
        // The same readers have the same splits again; other readers any.
        let same = last.readers.keys().copied().eq(0..parallelism);
        let mut restored: BTreeMap<u32, Vec<Held>> = BTreeMap::new();
        for (subtask, held) in &last.readers {
            for (i, held) in held.iter().enumerate() {
                let to = match same {
                    true => *subtask,
                    false => {
                        (mix(&[self.seed, self.incarnation, u64::from(*subtask), i as u64])
                            % u64::from(parallelism)) as u32
                    }
                };
                restored.entry(to).or_default().push(held.clone());
            }
        }
        self.base = restored;
        if decode_state(&last.coordinator).is_ok_and(|entries| entries.is_empty())
            || last.coordinator.is_empty()
        {
            self.found_at = None;
            self.begun_at = self.writes;
        }
        self.tasks = (0..parallelism)
            .map(|subtask| Task::Down {
                // They come one after the other, in any order.
                at: Instant::now()
                    + Duration::from_millis(mix(&[self.seed, self.incarnation, 5, u64::from(subtask)]) % 200),
                restored: self.base.get(&subtask).cloned().unwrap_or_default(),
            })
            .collect();
        self.event(Event::Started).await;
    }

    async fn event(&mut self, event: Event) {
        self.note(|| format!("{event:?}"));
        let readers = Readers {
            parallelism: self.tasks.len() as u32,
            registered: self.registered.clone(),
        };
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        let actions = coordinator.on(&readers, event);
        for action in actions {
            match action {
                Action::Discover { period_ms } => {
                    self.next_discovery = Some((Instant::now(), period_ms));
                }
                Action::Assign(assignment) => {
                    for (subtask, splits) in assignment {
                        self.assign(subtask, splits);
                    }
                }
                Action::Fail { failure, ends } => {
                    self.note(|| format!("the coordinator fails the job ({ends}): {}", failure.message));
                    self.check_coordinator_failure(&failure);
                    match ends {
                        true => self.ended = true,
                        false => {
                            self.restarts += 1;
                            let parallelism = self.tasks.len() as u32;
                            Box::pin(self.fail_all(
                                parallelism,
                                Duration::from_millis(300),
                                "its coordinator failed",
                            ))
                            .await;
                        }
                    }
                    return;
                }
                Action::NoMoreSplits(readers) => {
                    if !self.config.is_bounded() {
                        self.violation("an endless source has more splits", "it has none".to_owned());
                    }
                    for subtask in readers {
                        self.told.insert(subtask);
                        self.send(subtask, ToReader::NoMoreSplits);
                    }
                }
                // No job of the model sets a threshold.
                Action::Backlog(_) => {
                    self.violation("a backlog is told of when asked for", "unasked".to_owned());
                }
                Action::State(_) => self.violation("state is given when asked for", "unasked".to_owned()),
                Action::Warn(failure) => self.note(|| format!("the coordinator warns: {}", failure.message)),
            }
        }
    }

    fn assign(&mut self, subtask: u32, splits: Vec<Split>) {
        self.note(|| {
            let ids: Vec<_> = splits.iter().map(Split::id).collect();
            format!("assigned to {subtask}: {ids:?}")
        });
        if !self.registered.contains(&subtask) || splits.is_empty() {
            return self.violation(
                "splits are assigned to registered readers",
                format!("{subtask}: {splits:?}"),
            );
        }
        if self.told.contains(&subtask) {
            self.violation(
                "no split comes behind the word that none does",
                format!("{subtask}: {splits:?}"),
            );
        }
        for split in &splits {
            self.inherit(split);
            self.assigned.push((u64::MAX, subtask, split.clone()));
        }
        self.send(subtask, ToReader::Splits(splits));
    }

    /// A split that was made of several which are restored: what was delivered of them was delivered of it.
    fn inherit(&mut self, split: &Split) {
        let at = (split.id(), split.continuation.clone());
        if self.delivered_at.contains_key(&at) {
            return;
        }
        let parts = self.base.values().flatten().filter(|held| {
            from_hex(&split.min) <= from_hex(&held.split.min)
                && from_hex(&held.split.max) <= from_hex(&split.max)
        });
        let parts: Vec<_> = parts.collect();
        if parts.len() > 1 {
            let world = lock(&self.world);
            // Each has what was delivered of its parent, too.
            let own = |held: &&Held| {
                let range = from_hex(&held.split.min)..from_hex(&held.split.max);
                let own = held.delivered.iter();
                let own = own.filter(|(doc, _)| range.contains(&world.epk(**doc)));
                own.map(|(doc, n)| (*doc, *n)).collect::<Vec<_>>()
            };
            let delivered: BTreeMap<Doc, u64> = parts.iter().flat_map(own).collect();
            drop(world);
            self.note(|| {
                let ids: Vec<_> = parts.iter().map(|held| held.split.id()).collect();
                format!("{ids:?} are read as one")
            });
            self.delivered_at.insert(at, Rc::new(delivered));
        }
    }

    fn send(&mut self, subtask: u32, message: ToReader) {
        let latency = Duration::from_millis(mix(&[self.seed, 6, lock(&self.world).millis()]) % 60);
        if let Some(Task::Running(reader)) = self.tasks.get_mut(subtask as usize) {
            let after = reader.inbox.back().map_or_else(Instant::now, |(at, _)| *at);
            reader
                .inbox
                .push_back((after.max(Instant::now() + latency), message));
        }
    }

    /// Looks for feed ranges, unless a look is under way.
    fn look(&mut self) {
        let (Some(coordinator), Some(feed), None) = (&self.coordinator, &self.feed, &self.discovery) else {
            return;
        };
        let (known, feed, config) = (coordinator.known(), feed.clone(), self.config.clone());
        let (incarnation, found) = (self.incarnation, self.found.0.clone());
        self.looks += 1;
        self.looked_at = self.writes;
        let seed = mix(&[self.seed, 7, self.looks]);
        let look = async move {
            let metrics = Metrics::default();
            let result = discover(&*feed, &config, &metrics, &known, seed).await;
            let _ = found.send((incarnation, result));
        };
        self.discovery = Some(tokio::spawn(look));
    }

    async fn discovered(&mut self, found: Result<Found>) {
        if let (Ok(found), None) = (&found, self.found_at) {
            if !found.splits.is_empty() {
                self.found_at = Some(self.writes);
                self.stop_at = self.looked_at;
            }
        }
        let found = found.map_err(|e| Failure::from(&e));
        self.event(Event::Discovered(found)).await;
    }

    // -- readers

    async fn drive(&mut self, subtask: u32) {
        let now = Instant::now();
        match &self.tasks[subtask as usize] {
            Task::Down { at, .. } if *at > now => return,
            Task::Down { restored, .. } => {
                let restored = restored.clone();
                return self.open_reader(subtask, restored).await;
            }
            Task::Running(_) => {}
        }
        self.receive(subtask).await;
        let behind = match self.config.start {
            Start::Now => self.begun_at,
            _ => 0,
        };
        let failure = match self.tasks.get_mut(subtask as usize) {
            Some(Task::Running(reader)) => {
                let ends = self.config.is_bounded();
                read(reader, &self.world, subtask, behind, ends)
            }
            _ => None,
        };
        if let Some(error) = failure {
            self.check_reader_failure(&error);
            self.restarts += 1;
            if error.outlives_restart() {
                self.note(|| format!("the job ends: {error}"));
                self.ended = true;
                return;
            }
            self.fail_reader(subtask, Duration::from_millis(300), &error.to_string())
                .await;
        }
    }

    async fn open_reader(&mut self, subtask: u32, restored: Vec<Held>) {
        self.readers_made += 1;
        let mut feed = ModelFeed::new(&self.world, self.plan.padding, self.config.max_concurrency);
        feed.budget = self.config.request_units_per_second.map(|rate| Budget {
            rate,
            since: Instant::now(),
            used: Arc::default(),
        });
        if let Some(shared) = &self.feed {
            if shared.rid != feed.rid {
                // The container is another one since the coordinator began: it is what the core must find out.
                self.note(|| "a reader opens another container".to_owned());
            }
        }
        let seed = self.seed ^ self.readers_made;
        let under_way = feed.under_way.clone();
        let (ended, restored): (Vec<Held>, Vec<Held>) = restored.into_iter().partition(|h| h.ended);
        let source = Source::over(Arc::new(feed), self.config.clone(), &Handle::current(), seed);
        let reader = Reader {
            source,
            under_way,
            splits: BTreeMap::new(),
            ended,
            told: false,
            inbox: VecDeque::new(),
            handed_over: VecDeque::new(),
            blocked_until: Instant::now(),
            paused: BTreeMap::new(),
            session: BTreeMap::new(),
            caught_up: BTreeMap::new(),
        };
        self.note(|| format!("reader {subtask} begins"));
        self.tasks[subtask as usize] = Task::Running(Box::new(reader));
        let reported = match self.plan.reports {
            true => restored.iter().map(|h| h.split.clone()).collect(),
            false => {
                self.add(subtask, restored).await;
                Vec::new()
            }
        };
        if matches!(self.tasks[subtask as usize], Task::Running(_)) {
            self.registered.insert(subtask);
            self.event(Event::ReaderRegistered { subtask, reported }).await;
        }
    }

    /// A reader takes splits.
    async fn add(&mut self, subtask: u32, held: Vec<Held>) {
        let Some(Task::Running(reader)) = self.tasks.get_mut(subtask as usize) else {
            return;
        };
        let splits: Vec<_> = held.iter().map(|h| h.split.clone()).collect();
        for held in held {
            reader.splits.insert(held.split.id(), held);
        }
        if let Err(error) = reader.source.add_splits(splits) {
            self.check_reader_failure(&error);
            self.restarts += 1;
            match error.outlives_restart() {
                true => self.ended = true,
                false => {
                    Box::pin(self.fail_reader(subtask, Duration::from_millis(300), &error.to_string())).await;
                }
            }
        }
    }

    /// What was sent to a reader arrives.
    async fn receive(&mut self, subtask: u32) {
        loop {
            let Some(Task::Running(reader)) = self.tasks.get_mut(subtask as usize) else {
                return;
            };
            if reader.inbox.front().is_none_or(|(at, _)| *at > Instant::now()) {
                return;
            }
            match reader.inbox.pop_front() {
                Some((_, ToReader::Splits(splits))) => {
                    let held = splits.into_iter().map(|split| {
                        let at = (split.id(), split.continuation.clone());
                        let delivered = self.delivered_at.get(&at).cloned().unwrap_or_default();
                        Held {
                            split,
                            delivered,
                            ended: false,
                        }
                    });
                    let held = held.collect();
                    self.add(subtask, held).await;
                }
                Some((_, ToReader::NoMoreSplits)) => reader.told = true,
                Some((_, ToReader::Barrier(id))) => {
                    let state: Vec<_> = reader.splits.values().chain(&reader.ended).cloned().collect();
                    for held in &state {
                        let at = (held.split.id(), held.split.continuation.clone());
                        self.delivered_at.insert(at, held.delivered.clone());
                    }
                    if let Some(pending) = self.pending.as_mut().filter(|p| p.id == id) {
                        pending.readers.insert(subtask, state);
                    }
                }
                None => return,
            }
        }
    }

    fn pause(&mut self, nth: u32, ms: u64) {
        let mut all: Vec<(usize, String)> = Vec::new();
        for (at, task) in self.tasks.iter().enumerate() {
            if let Task::Running(reader) = task {
                all.extend(reader.splits.keys().map(|id| (at, id.clone())));
            }
        }
        if all.is_empty() {
            return;
        }
        let (at, id) = all.swap_remove(nth as usize % all.len());
        let Task::Running(reader) = &mut self.tasks[at] else {
            return;
        };
        let result = reader.source.pause_or_resume(std::slice::from_ref(&id), &[]);
        reader
            .paused
            .insert(id.clone(), Instant::now() + Duration::from_millis(ms));
        self.note(|| format!("reader {at} holds {id} back for {ms} ms"));
        if let Err(e) = result {
            self.violation("a split that is read can be held back", e.to_string());
        }
    }

    // -- checkpoints

    fn begin_checkpoint(&mut self, declined: bool, late_ms: u64) {
        let all_run = self.tasks.iter().all(|t| matches!(t, Task::Running(_)));
        if self.restart.is_some() || self.pending.is_some() || !all_run || self.tasks.is_empty() {
            return;
        }
        self.checkpoints += 1;
        let id = self.checkpoints;
        let readers = Readers {
            parallelism: self.tasks.len() as u32,
            registered: self.registered.clone(),
        };
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        let actions = coordinator.on(&readers, Event::CheckpointTaken { id });
        let [Action::State(state)] = actions.as_slice() else {
            return self.violation("state is given when asked for", format!("{actions:?}"));
        };
        let state = state.clone();
        self.note(|| format!("checkpoint {id}"));
        for (tag, _, _) in &mut self.assigned {
            *tag = (*tag).min(id);
        }
        self.pending = Some(Pending {
            id,
            declined,
            late: Duration::from_millis(late_ms),
            coordinator: state,
            readers: BTreeMap::new(),
        });
        for subtask in 0..self.tasks.len() as u32 {
            self.send(subtask, ToReader::Barrier(id));
        }
    }

    async fn complete_checkpoints(&mut self) {
        let acknowledged = |p: &mut Pending| p.readers.len() == self.tasks.len();
        if let Some(pending) = self.pending.take_if(acknowledged) {
            let id = pending.id;
            if pending.declined {
                self.event(Event::CheckpointAborted { id }).await;
            } else {
                self.check_checkpoint(&pending);
                self.note(|| format!("checkpoint {id} is complete"));
                self.base.clone_from(&pending.readers);
                self.last = Some(Checkpoint {
                    id,
                    coordinator: pending.coordinator,
                    readers: pending.readers,
                });
                self.notices.push_back((Instant::now() + pending.late, id));
            }
        }
        while let Some((_, id)) = self
            .notices
            .front()
            .copied()
            .filter(|(at, _)| *at <= Instant::now())
        {
            self.notices.pop_front();
            self.assigned.retain(|(tag, _, _)| *tag > id);
            self.event(Event::CheckpointCompleted { id }).await;
        }
    }

    async fn abort_checkpoint(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.event(Event::CheckpointAborted { id: pending.id }).await;
        }
    }

    // -- failures

    /// A reader fails: what it was assigned since the last completed checkpoint comes back, and it begins again from that.
    async fn fail_reader(&mut self, subtask: u32, pause: Duration, why: &str) {
        if self.restart.is_some() || subtask as usize >= self.tasks.len() {
            return;
        }
        self.note(|| format!("reader {subtask} fails: {why}"));
        self.abort_checkpoint().await;
        let restored = self.base.get(&subtask).cloned().unwrap_or_default();
        let down = Task::Down {
            at: Instant::now() + pause,
            restored,
        };
        let task = std::mem::replace(&mut self.tasks[subtask as usize], down);
        self.give_up(task).await;
        self.registered.remove(&subtask);
        self.told.remove(&subtask);
        let last = self.last.as_ref().map_or(0, |c| c.id);
        let mut splits = Vec::new();
        self.assigned.retain(|(tag, to, split)| {
            let back = *to == subtask && *tag > last;
            if back {
                splits.push(split.clone());
            }
            !back
        });
        self.event(Event::SplitsBack { subtask, splits }).await;
    }

    /// Everything fails, and begins again from the last completed checkpoint.
    async fn fail_all(&mut self, parallelism: u32, pause: Duration, why: &str) {
        if self.restart.is_some() {
            return;
        }
        self.note(|| format!("all fail: {why}"));
        self.stop().await;
        let readers = Readers {
            parallelism,
            registered: BTreeSet::new(),
        };
        if let Some(mut dead) = self.coordinator.take() {
            dead.on(&readers, Event::Closed);
            let late = dead.on(
                &readers,
                Event::ReaderRegistered {
                    subtask: 0,
                    reported: Vec::new(),
                },
            );
            if !late.is_empty() {
                self.violation("nothing acts after close", format!("{late:?}"));
            }
        }
        self.discovery = None;
        self.next_discovery = None;
        self.restart = Some((Instant::now() + pause, parallelism));
    }

    async fn give_up(&mut self, task: Task) {
        let Task::Running(reader) = task else { return };
        let under_way = reader.under_way.clone();
        drop(reader);
        sleep(Duration::from_millis(1)).await;
        let left = *under_way.lock().unwrap_or_else(|e| e.into_inner());
        if left > 0 {
            self.violation("what is given up ends", format!("{left} requests are under way"));
        }
    }

    async fn stop(&mut self) {
        self.pending = None;
        self.notices.clear();
        self.registered.clear();
        for task in std::mem::take(&mut self.tasks) {
            self.give_up(task).await;
        }
    }

    // -- what must be so

    /// Every part of the key space is in exactly one place.
    fn check_coverage(&self) {
        let (Some(coordinator), None) = (&self.coordinator, self.restart) else {
            return;
        };
        let known = coordinator.known();
        let mut all: Vec<(Epk, Epk)> = Vec::new();
        let range = |split: &Split| (from_hex(&split.min), from_hex(&split.max));
        all.extend(known.iter().filter(|e| !e.assigned).map(|e| range(&e.split)));
        for task in &self.tasks {
            if let Task::Running(reader) = task {
                let theirs = reader.splits.values().chain(&reader.ended);
                all.extend(theirs.map(|h| range(&h.split)));
                for (_, message) in &reader.inbox {
                    if let ToReader::Splits(splits) = message {
                        all.extend(splits.iter().map(range));
                    }
                }
            }
        }
        for task in &self.tasks {
            if let Task::Down { restored, .. } = task {
                let theirs = restored.iter().map(|h| range(&h.split));
                // What a reader will report may be elsewhere by now.
                let theirs: Vec<_> = match self.plan.reports {
                    true => theirs.flat_map(|r| outside(r, &all)).collect(),
                    false => theirs.collect(),
                };
                all.extend(theirs);
            }
        }
        if let Some(what) = uncovered(all) {
            self.violation("splits partition the key space", what);
        }
    }

    fn check_checkpoint(&self, pending: &Pending) {
        let entries = match decode_state(&pending.coordinator) {
            Ok(entries) => entries,
            Err(e) => return self.violation("a checkpoint can be read", e.to_string()),
        };
        let range = |split: &Split| (from_hex(&split.min), from_hex(&split.max));
        let mut all: Vec<_> = entries
            .iter()
            .filter(|e| !e.assigned)
            .map(|e| range(&e.split))
            .collect();
        all.extend(pending.readers.values().flatten().map(|h| range(&h.split)));
        if let Some(what) = uncovered(all) {
            self.violation(
                "a checkpoint partitions the key space",
                format!("{}: {what}", pending.id),
            );
        }
    }

    fn check_reader_failure(&self, error: &CoreError) {
        let (doomed, recreated) = {
            let world = lock(&self.world);
            (!world.doomed.is_empty(), world.generation > 1)
        };
        let warranted = match (error.kind, error.next) {
            (Kind::Auth, _) => doomed,
            (Kind::State, _) => recreated,
            (Kind::Throttled, _) => false,
            (_, Next::Retry | Next::Reroute | Next::Halve) => self.may_be_exhausted(),
            _ => false,
        };
        if !warranted {
            self.violation(
                "no final failure without a reason",
                format!("{error} ({:?}, {:?})", error.kind, error.next),
            );
        }
    }

    fn check_coordinator_failure(&self, failure: &Failure) {
        let (doomed, recreated) = {
            let world = lock(&self.world);
            (!world.doomed.is_empty(), world.generation > 1)
        };
        let warranted = match failure.kind {
            Kind::Auth => doomed,
            Kind::State => recreated,
            Kind::Transient => self.may_be_exhausted(),
            _ => false,
        };
        if !warranted {
            self.violation(
                "no final failure without a reason",
                format!("the coordinator: {failure:?}"),
            );
        }
    }

    /// Whether something may have failed for longer than it is tried.
    fn may_be_exhausted(&self) -> bool {
        let short = self.config.retry.deadline < Duration::from_secs(60);
        let locks = self.plan.steps.iter().any(|s| matches!(s.act, Act::Lock { .. }));
        short && (locks || !self.plan.faults.is_empty())
    }

    /// What is still read, where reading ends.
    fn unread(&self) -> Option<String> {
        if self.restart.is_some() {
            return Some("all are down".to_owned());
        }
        for (subtask, task) in self.tasks.iter().enumerate() {
            let Task::Running(reader) = task else {
                return Some(format!("reader {subtask} is down"));
            };
            if !reader.inbox.is_empty() || !reader.handed_over.is_empty() || !reader.told {
                return Some(format!("reader {subtask} has work, or waits for it"));
            }
            if let Some(id) = reader.splits.keys().next() {
                return Some(format!("reader {subtask} reads {id}"));
            }
        }
        let waiting = self.coordinator.as_ref().map_or(0, Coordinator::unassigned);
        (waiting > 0).then(|| format!("{waiting} splits wait for a reader"))
    }

    /// Each document that was there before the stop, and still is, came in some version.
    fn check_what_came(&self) {
        let ended: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|task| match task {
                Task::Running(reader) => Some(&reader.ended),
                Task::Down { .. } => None,
            })
            .flatten()
            .map(|held| {
                (
                    from_hex(&held.split.min),
                    from_hex(&held.split.max),
                    &held.delivered,
                )
            })
            .collect();
        let mut world = lock(&self.world);
        let missing = world.documents.iter().find(|(doc, version)| {
            let was_there = match self.config.stop {
                StopAt::Start => version.born <= self.stop_at,
                StopAt::Time(ms) => version.born_ts * 1000 <= ms,
                StopAt::Never => false,
            };
            let epk = world.epk(**doc);
            let mut here = ended.iter().filter(|(min, max, _)| (*min..*max).contains(&epk));
            was_there && !here.any(|(_, _, delivered)| delivered.contains_key(*doc))
        });
        let missing = missing.map(|(doc, version)| format!("d{doc}, which is there since {}", version.born));
        if let Some(what) = missing {
            world.violation("what was there before the stop comes", what);
        }
    }

    /// What is not delivered yet.
    fn missing(&self) -> Option<String> {
        if self.restart.is_some() {
            return Some("all are down".to_owned());
        }
        let mut held: Vec<(Epk, Epk, &Delivered)> = Vec::new();
        for (subtask, task) in self.tasks.iter().enumerate() {
            let Task::Running(reader) = task else {
                return Some(format!("reader {subtask} is down"));
            };
            if !reader.inbox.is_empty() || !reader.handed_over.is_empty() || !reader.paused.is_empty() {
                return Some(format!("reader {subtask} has work"));
            }
            let metrics = reader.source.metrics();
            for (what, counter, right) in [
                ("milliseconds held", &metrics.held_millis, 0),
                ("splits paused", &metrics.splits_paused, 0),
                ("bytes buffered", &metrics.bytes_buffered, 0),
                ("splits", &metrics.splits, reader.splits.len() as u64),
            ] {
                let value = counter.load(Relaxed);
                if value != right {
                    return Some(format!("reader {subtask} has {value} {what}"));
                }
            }
            for (id, h) in &reader.splits {
                if !reader.caught_up.get(id).copied().unwrap_or(false) {
                    return Some(format!(
                        "reader {subtask} has not heard that {id} is read to its end"
                    ));
                }
                held.push((from_hex(&h.split.min), from_hex(&h.split.max), &h.delivered));
            }
        }
        let after = match self.config.start {
            Start::Now => self.found_at.unwrap_or(u64::MAX),
            _ => 0,
        };
        let world = lock(&self.world);
        if held.is_empty() {
            return Some("no reader has a split".to_owned());
        }
        for (doc, version) in world.documents.iter().filter(|(_, v)| v.n > after) {
            let epk = world.epk(*doc);
            let delivered = held
                .iter()
                .find(|(min, max, _)| (*min..*max).contains(&epk))
                .and_then(|(_, _, delivered)| delivered.get(doc));
            if delivered != Some(&version.n) {
                return Some(format!("d{doc} is at {}, delivered was {delivered:?}", version.n));
            }
        }
        if self.config.mode == Mode::AllVersionsAndDeletes {
            let delivered = held.iter().flat_map(|(min, max, delivered)| {
                let mine = delivered.keys();
                mine.filter(|doc| (*min..*max).contains(&world.epk(**doc)))
            });
            for doc in delivered {
                if !world.documents.contains_key(doc) {
                    return Some(format!("d{doc} is deleted, and that was not delivered"));
                }
            }
        }
        None
    }
}

/// The parts of a range that are in none of `others`.
fn outside(range: (Epk, Epk), others: &[(Epk, Epk)]) -> Vec<(Epk, Epk)> {
    let mut left = vec![range];
    for (min, max) in others {
        let parts = left
            .iter()
            .flat_map(|(low, high)| [(*low, (*high).min(*min)), ((*low).max(*max), *high)]);
        left = parts.filter(|(low, high)| low < high).collect();
    }
    left
}

/// What is wrong with ranges that should cover the key space exactly, or not at all.
fn uncovered(mut ranges: Vec<(Epk, Epk)>) -> Option<String> {
    ranges.sort_unstable();
    let mut at = 0;
    for (min, max) in &ranges {
        if *min != at {
            return Some(format!(
                "{} at {min:x}: {ranges:x?}",
                if *min < at { "an overlap" } else { "a gap" }
            ));
        }
        at = *max;
    }
    (at != TOP && !ranges.is_empty()).then(|| format!("a gap behind {at:x}: {ranges:x?}"))
}

/// A reader takes pages and emits them, of versions behind a number; the failure that it ends with, if there is one. `ends`: its splits do.
fn read(reader: &mut Reader, world: &Shared, subtask: u32, behind: u64, ends: bool) -> Option<CoreError> {
    let now = Instant::now();
    let due: Vec<_> = reader
        .paused
        .iter()
        .filter(|(_, until)| **until <= now)
        .map(|(id, _)| id.clone())
        .collect();
    for id in due {
        reader.paused.remove(&id);
        if let Err(e) = reader.source.pause_or_resume(&[], &[id]) {
            lock(world).violation("a split that is held back goes on", e.to_string());
        }
    }
    let violation = |invariant: &str, what: String| lock(world).violation(invariant, what);
    while reader.handed_over.len() < HANDED_OVER {
        let frame = match next(&reader.source) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => return Some(error),
        };
        match decode(&frame) {
            Ok(page) => {
                if reader.paused.contains_key(&page.split.id()) {
                    violation("a split that is held back hands nothing over", page.split.id());
                }
                reader.handed_over.push_back(page);
            }
            Err(e) => violation("a page can be read", e.to_string()),
        }
    }
    if reader.blocked_until > now {
        return None;
    }
    for _ in 0..EMITTED {
        let page = reader.handed_over.pop_front()?;
        let id = page.split.id();
        lock(world).note(|| {
            let records: Vec<_> = page
                .records
                .iter()
                .map(|(doc, n)| format!("d{doc}={n:?}"))
                .collect();
            let end = if page.caught_up { ", the end" } else { "" };
            format!("reader {subtask} emits of {id}: {}{end}", records.join(" "))
        });
        let Some(held) = reader.splits.get_mut(&id) else {
            violation("a page is of a split that is read", id);
            continue;
        };
        if held.split.mode != page.split.mode {
            // Behind the container as it is, what was written while it was read comes again, version by version.
            reader.session.retain(|(split, _), _| *split != id);
        }
        let delivered = Rc::make_mut(&mut held.delivered);
        for (doc, n) in &page.records {
            let Some(n) = n else {
                delivered.remove(doc);
                continue;
            };
            let before = reader.session.insert((id.clone(), *doc), *n);
            if before.is_some_and(|before| before >= *n) {
                violation(
                    "versions of a document grow",
                    format!("d{doc}: {n} behind {before:?}"),
                );
            }
            if *n <= behind {
                violation(
                    "a start at now delivers nothing from before",
                    format!("d{doc}: {n}"),
                );
            }
            delivered.insert(*doc, *n);
        }
        held.split = page.split;
        reader.caught_up.insert(id.clone(), page.caught_up);
        if page
            .finished
            .as_ref()
            .is_some_and(|children| ends && children.is_empty())
        {
            end(reader, world, subtask, &id);
        } else if let Some(children) = page.finished {
            if let Some(error) = finish(reader, world, subtask, &id, children) {
                return Some(error);
            }
        }
    }
    None
}

/// A split was read to its end.
fn end(reader: &mut Reader, world: &Shared, subtask: u32, id: &str) {
    reader.caught_up.remove(id);
    reader.paused.remove(id);
    let Some(held) = reader.splits.remove(id) else {
        return;
    };
    reader.ended.push(Held { ended: true, ..held });
    lock(world).note(|| format!("reader {subtask} ends {id}"));
}

/// A split has ended: others go on in its place.
fn finish(
    reader: &mut Reader,
    world: &Shared,
    subtask: u32,
    id: &str,
    children: Vec<Split>,
) -> Option<CoreError> {
    let parent = reader.splits.remove(id)?;
    reader.caught_up.remove(id);
    // A split that is not read any more is not held back.
    reader.paused.remove(id);
    let range = |split: &Split| (from_hex(&split.min), from_hex(&split.max));
    let (mut at, end) = range(&parent.split);
    for child in &children {
        let (min, max) = range(child);
        if min != at || max <= min || child.continuation != parent.split.continuation {
            let what = format!("{child:?} of {:?}", parent.split);
            lock(world).violation("children cover their parent's range from its position", what);
        }
        at = max;
        let delivered = parent.delivered.clone();
        let split = child.clone();
        if reader
            .splits
            .insert(
                child.id(),
                Held {
                    split,
                    delivered,
                    ended: false,
                },
            )
            .is_some()
        {
            lock(world).violation("an id is not used again", child.id());
        }
    }
    if at != end || children.len() < 2 {
        let what = format!("{children:?} of {:?}", parent.split);
        lock(world).violation("children cover their parent's range from its position", what);
    }
    lock(world).note(|| format!("reader {subtask} ends {id} in favour of {}", children.len()));
    reader.source.add_splits(children).err()
}

/// A page, if one is there.
fn next(source: &Source) -> Result<Option<Vec<u8>>> {
    source.next().now_or_never().unwrap_or(Ok(None))
}
