//! A writer of the sink and its job: batches, checkpoints that wait for them, failures, restores; and what must be so.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosmosflink_core::config::{Config, FailureMode, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::sink::{
    encode_operations, Completion, Failure, NewOperation, OperationKind, OutcomeResult, Service, Sink,
};
use cosmosflink_core::status::{Blame, Next};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::{sleep, sleep_until, Instant};

use crate::plan::{pick, Fault, Options, Plan, Random, Request, Side, What};
use crate::service::{ledger, Account, Ledger, Letters, Limits, SharedLedger};
use crate::world::{definition, key_name, lock, Doc, Shared, World};
use crate::Outcome;

/// How long everything may take once all faults are over.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often the writer looks for completions.
const TICK: Duration = Duration::from_millis(25);

/// More restarts than this, and the job is given up.
const RESTARTS: u32 = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkPlan {
    pub options: Options,
    pub partitions: u32,
    pub keys: u32,
    /// Batches that the writer has under way at the same time.
    pub in_flight: usize,
    /// Documents for whose sake a bulk request is refused as a whole, but not the operation alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spoil: Vec<Doc>,
    /// Documents that are refused in any form, with the status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<Doc, u16>,
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
    /// Operations, each a letter and a document: `u3 d7`. The letters are those of [`KINDS`].
    Submit(String),
    Checkpoint {
        /// It is declined after all.
        declined: bool,
    },
    /// The task fails, and is restored after a pause.
    Kill {
        pause_ms: u64,
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

/// What a plan can have done with a document: upsert, create, append, replace, replace where it is there, overwrite and delete unless it was changed,
/// delete, patch, patch where it is there, update of some fields. A capital letter says that the record has the ETag which the document had when
/// it came; of a patch, that it takes two requests, and `j` is an `i` with a condition that it ends itself.
const KINDS: [(char, OperationKind); 17] = [
    ('u', OperationKind::Upsert),
    ('c', OperationKind::Create),
    ('a', OperationKind::CreateIgnoreExisting),
    ('r', OperationKind::Replace),
    ('R', OperationKind::Replace),
    ('q', OperationKind::ReplaceIfExists),
    ('e', OperationKind::OverwriteIfNotModified),
    ('E', OperationKind::OverwriteIfNotModified),
    ('d', OperationKind::Delete),
    ('D', OperationKind::Delete),
    ('X', OperationKind::DeleteIfNotModified),
    ('p', OperationKind::Patch),
    ('P', OperationKind::Patch),
    ('i', OperationKind::PatchIfExists),
    ('I', OperationKind::PatchIfExists),
    ('j', OperationKind::PatchIfExists),
    ('b', OperationKind::BulkUpdate),
];

/// An operation of the job.
#[derive(Clone, Copy, Debug)]
struct Op {
    n: u64,
    doc: Doc,
    kind: OperationKind,
    letter: char,
}

impl Op {
    /// Whether the record has an ETag.
    fn has_etag(&self) -> bool {
        matches!(self.letter, 'R' | 'E' | 'D' | 'X')
    }

    /// What is written, in the form of the kind.
    fn body(&self, key: &str) -> String {
        let (n, doc) = (self.n, self.doc);
        let set = |field: &str, value: u64| format!(r#"{{"op":"set","path":"/{field}","value":{value}}}"#);
        match self.letter {
            'p' | 'i' | 'P' | 'I' | 'j' => {
                let mut operations = vec![set("n", n), set(&format!("f{n}"), 1)];
                // The last one is in the second request.
                let more = if matches!(self.letter, 'P' | 'I') { 10 } else { 0 };
                operations.extend((0..more).map(|m| set(&format!("g{n}x{m}"), 1)));
                let condition = match self.letter {
                    'j' => format!(r#","condition":"FROM c WHERE NOT IS_DEFINED(c.f{n})""#),
                    _ => String::new(),
                };
                if self.letter == 'j' {
                    operations.push(r#"{"op":"incr","path":"/count","value":1}"#.to_owned());
                }
                format!(r#"{{"operations":[{}]{condition}}}"#, operations.join(","))
            }
            'b' => format!(r#"{{"id":"d{doc}","pk":"{key}","n":{n},"doc":{doc},"f{n}":1}}"#),
            _ => format!(r#"{{"id":"d{doc}","pk":"{key}","n":{n},"doc":{doc}}}"#),
        }
    }

    /// Fields that it leaves in the document beside those that were there; `None` where it puts another document in its place, or none.
    fn adds(&self) -> Option<Vec<String>> {
        let n = self.n;
        match self.letter {
            'p' | 'i' | 'j' | 'b' => Some(vec![format!("f{n}")]),
            'P' | 'I' => Some(vec![format!("f{n}"), format!("g{n}x9")]),
            _ => None,
        }
    }
}

fn parse(ops: &str, first: u64) -> Vec<Op> {
    let one = |(i, text): (u64, &str)| {
        let first_letter = text.chars().next().unwrap_or_default();
        let known = KINDS.iter().find(|(letter, _)| *letter == first_letter);
        let (letter, kind) = *known.expect("a plan has the letters of KINDS");
        let doc = text[1..].parse().expect("a plan names documents by number");
        Op {
            n: first + i,
            doc,
            kind,
            letter,
        }
    };
    (0..).zip(ops.split_whitespace()).map(one).collect()
}

/// A plan from a seed.
pub fn generate(seed: u64) -> Plan {
    let random = &mut Random::with_seed(seed ^ 0x51_4e4b);
    let span = pick(random, &[3_000, 10_000, 30_000]);
    let partitions = pick(random, &[1, 2, 3, 5]);
    let keys = pick(random, &[1, 3, 8, 16]);
    let documents = pick(random, &[2, 6, 20, 60]);
    let mode = pick(random, &["fail", "fail", "skip", "dead-letter"]);
    let tolerant = mode != "fail";
    let mut options = Options::new();
    let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
    set("sink.failure-mode", mode.to_owned());
    if mode == "dead-letter" {
        set("sink.dead-letter-container", "letters".to_owned());
    }
    set("max-concurrency", pick(random, &["1", "2", "4", "16"]).to_owned());
    set(
        "sink.partition-concurrency",
        pick(random, &["1", "2", "2", "4"]).to_owned(),
    );
    set(
        "sink.max-operations-per-request",
        pick(random, &["1", "3", "10", "100"]).to_owned(),
    );
    set(
        "sink.bulk-probe-interval",
        pick(random, &["100", "1000"]).to_owned(),
    );
    if random.u32(0..8) == 0 {
        set("sink.bulk", "false".to_owned());
    }
    if random.u32(0..8) == 0 {
        set("sink.max-request-size", "1024".to_owned());
    }
    // As a rule so long that nothing that passes ends an operation.
    if random.u32(0..6) == 0 {
        set("retry.deadline", "4000".to_owned());
        set("retry.max-attempts", pick(random, &["5", "100"]).to_owned());
    } else {
        set("retry.deadline", "86400000".to_owned());
        set("retry.max-attempts", "10000".to_owned());
    }
    if random.u32(0..10) == 0 {
        set("retry.throttled-deadline", "5000".to_owned());
    }
    // What is held for the writer, in bytes: none but one batch, a few, or as many as there are.
    set(
        "sink.max-in-flight-size",
        pick(random, &["1024", "20000", "33554432"]).to_owned(),
    );
    set("sink.buffer-flush.max-rows", "40".to_owned());
    let in_flight = pick(random, &[1, 2, 8]);
    set("sink.max-in-flight-requests", in_flight.to_string());
    if random.u32(0..6) == 0 {
        set(
            "sink.request-units-per-second",
            pick(random, &["50", "500"]).to_owned(),
        );
    }
    // Most operations are on documents of one key.
    let hot = random.u32(0..3) == 0;
    let kinds: &[char] = match (tolerant, random.u32(0..3)) {
        (true, 0) => &['u', 'c', 'r', 'd'],
        (true, 1) => &['c', 'c', 'd', 'u'],
        (_, 1) => &['u', 'u', 'u', 'd'],
        _ => &['u'],
    };
    // Half of the runs have the other strategies: in the failure mode `fail` those that leave what they do not expect.
    let kinds: &[char] = match (tolerant, random.u32(0..8)) {
        (_, 0) => &['a', 'a', 'u', 'X', 'E'],
        (_, 1) => &['u', 'b', 'b', 'i', 'I', 'j'],
        (true, 2) => &['c', 'R', 'D', 'u', 'P', 'p'],
        (true, 3) => &[
            'u', 'c', 'a', 'r', 'R', 'q', 'e', 'E', 'd', 'D', 'X', 'p', 'P', 'i', 'I', 'j', 'b',
        ],
        (false, 2 | 3) => &['u', 'a', 'q', 'e', 'E', 'd', 'X', 'i', 'I', 'j', 'b'],
        _ => kinds,
    };
    let mut steps = Vec::new();
    for _ in 0..random.u32(2..40) {
        let size = pick(random, &[1, 3, 10, 40]);
        let ops: Vec<_> = (0..random.u32(1..=size))
            .map(|_| {
                let kind = pick(random, kinds);
                let document = random.u32(0..documents);
                let hot = hot && random.u32(0..10) < 7;
                format!("{kind}{}", if hot { document / keys * keys } else { document })
            })
            .collect();
        steps.push(Step {
            at_ms: random.u64(0..span),
            act: Act::Submit(ops.join(" ")),
        });
    }
    let mut some = |most: u32, act: &mut dyn FnMut(&mut Random) -> Act| {
        for _ in 0..random.u32(0..=most) {
            let at_ms = random.u64(0..span);
            let act = act(random);
            steps.push(Step { at_ms, act });
        }
    };
    some(8, &mut |r| Act::Checkpoint {
        declined: r.u32(0..4) == 0,
    });
    some(2, &mut |r| Act::Kill {
        pause_ms: r.u64(1..1000),
    });
    some(2, &mut |r| Act::Split { nth: r.u32(0..16) });
    some(1, &mut |r| Act::Merge { nth: r.u32(0..16) });
    some(2, &mut |r| Act::Lock {
        nth: r.u32(0..16),
        ms: r.u64(10..3000),
    });
    if random.u32(0..12) == 0 {
        steps.push(Step {
            at_ms: random.u64(0..span),
            act: Act::Recreate,
        });
    }
    steps.sort_by_key(|step| step.at_ms);
    let mut faults = Vec::new();
    for id in 0..pick(random, &[0, 2, 5, 9]) {
        let fault = fault(id, span, random);
        // Such an answer makes the sink look whether the container is there.
        if matches!(
            fault.what,
            What::Refused {
                status: 404,
                sub: 0,
                ..
            }
        ) {
            faults.push(Fault {
                id: id + 100,
                on: Request::Check,
                per_mille: 500,
                what: What::Refused {
                    status: 500,
                    sub: 0,
                    retry_after_ms: None,
                },
                ..fault.clone()
            });
        }
        faults.push(fault);
    }
    if hot {
        // A partition takes little, answers late, or both.
        let partition = Some(random.u32(1..=partitions));
        for (id, slow) in [(300, false), (301, true)] {
            if random.u32(0..3) == 0 {
                continue;
            }
            let from_ms = random.u64(0..span);
            let retry_after_ms = Some(random.u64(1..3000));
            faults.push(Fault {
                id,
                on: Request::Bulk,
                from_ms,
                to_ms: from_ms + random.u64(1..=span),
                per_mille: pick(random, &[300, 800, 1000]),
                partition,
                what: match (slow, random.u32(0..2)) {
                    (true, _) => What::Slow {
                        ms: pick(random, &[300, 2000, 5000]),
                    },
                    (false, 0) => What::Each {
                        status: 429,
                        sub: 3200,
                        retry_after_ms,
                    },
                    (false, _) => What::Refused {
                        status: 429,
                        sub: 3200,
                        retry_after_ms,
                    },
                },
            });
        }
    }
    let chosen = |random: &mut Random, most: u32| -> Vec<Doc> {
        let count = random.u32(0..=most);
        (0..count).map(|_| random.u32(0..documents)).collect()
    };
    let spoil = match random.u32(0..4) {
        0 => chosen(random, 3),
        _ => Vec::new(),
    };
    let refused = match tolerant && random.u32(0..3) == 0 {
        true => chosen(random, 3)
            .into_iter()
            .map(|d| (d, pick(random, &[400, 413])))
            .collect(),
        false => BTreeMap::new(),
    };
    Plan {
        seed,
        about: String::new(),
        side: Side::Sink(SinkPlan {
            options,
            partitions,
            keys,
            // Then the core alone says when there is no room.
            in_flight: if hot { 1000 } else { in_flight },
            spoil,
            refused,
            steps,
            faults,
        }),
    }
}

fn fault(id: u32, span: u64, random: &mut Random) -> Fault {
    let retry_after = |random: &mut Random| match random.u32(0..3) {
        0 => None,
        _ => Some(random.u64(1..2000)),
    };
    let unclear = [(408, 0), (500, 0), (503, 0), (502, 0), (504, 0), (499, 0)];
    let on = pick(
        random,
        &[
            Request::Bulk,
            Request::Bulk,
            Request::Bulk,
            Request::Point,
            Request::Letter,
            Request::Ranges,
            Request::Check,
        ],
    );
    let refusals = [
        (401, 20402),
        (403, 3),
        (404, 1002),
        (408, 0),
        (410, 1002),
        (410, 1007),
        (410, 1008),
        (429, 3200),
        (429, 3200),
        (449, 0),
        (500, 0),
        (503, 0),
        (503, 20010),
    ];
    let refused = |random: &mut Random| {
        let (status, sub) = pick(random, &refusals);
        let retry_after_ms = retry_after(random).filter(|_| status == 429);
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
        // The form, or the credential.
        (Request::Bulk, 1 | 11) => What::Refused {
            status: pick(random, &[404, 404, 405, 400, 413]),
            sub: 0,
            retry_after_ms: None,
        },
        (Request::Bulk | Request::Point, 2) if random.u32(0..4) == 0 => What::Refused {
            status: pick(random, &[401, 403]),
            sub: 0,
            retry_after_ms: None,
        },
        (Request::Bulk, 3..=4) => {
            let (status, sub) = pick(random, &unclear);
            What::Prefix { status, sub }
        }
        (Request::Bulk, 5) => What::Short,
        (Request::Bulk, 6..=7) => {
            let (status, sub) = pick(
                random,
                &[(429, 3200), (449, 0), (410, 1002), (503, 0), (408, 0), (424, 0)],
            );
            What::Each {
                status,
                sub,
                retry_after_ms: retry_after(random).filter(|_| status == 429),
            }
        }
        (Request::Bulk, 8) => {
            let (status, sub) = pick(random, &unclear);
            What::EachLost { status, sub }
        }
        (Request::Bulk | Request::Point | Request::Letter, 9..=10) => {
            let (status, sub) = pick(random, &[(408, 0), (503, 0), (500, 0), (413, 3402)]);
            What::Lost { status, sub }
        }
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

/// A checkpoint that waits for what was submitted.
struct Barrier {
    position: usize,
    declined: bool,
}

struct Job<'a> {
    plan: &'a SinkPlan,
    seed: u64,
    config: Config,
    world: Shared,
    ledger: SharedLedger,
    batches: Vec<Vec<Op>>,
    /// The next batch.
    next: usize,
    /// Where a restore begins.
    checkpoint: usize,
    barrier: Option<Barrier>,
    sink: Option<Sink>,
    /// Writers so far.
    writers: u64,
    submissions: u64,
    /// What has not come back: the batch of each submission.
    open: BTreeMap<u64, usize>,
    /// When the job is started, or started again.
    starts_at: Option<Instant>,
    restarts: u32,
    /// Which container the writer opened.
    generation: u32,
    /// What an operation came to, the last time, whether it changed nothing, by its strategy, and in which container.
    results: BTreeMap<u64, (OutcomeResult, bool, u32)>,
    /// The ETags that records have: a replay has the same.
    etags: BTreeMap<u64, String>,
}

/// Runs a plan.
pub async fn run(seed: u64, plan: &SinkPlan, traced: bool) -> Outcome {
    let mut world = World::new(seed, plan.keys, plan.partitions, &plan.faults);
    world.trace.lines = traced.then(Vec::new);
    let world = Arc::new(Mutex::new(world));
    let mut options: Vec<_> = plan.options.clone().into_iter().collect();
    for (name, value) in crate::ACCOUNT {
        options.push((name.to_owned(), value.to_owned()));
    }
    let config = match Config::parse(Role::Sink, &options) {
        Ok(config) => config,
        Err(e) => {
            lock(&world).violation("the plan has options of the core", e.to_string());
            return Outcome::of(&world);
        }
    };
    let mut ledger = Ledger::default();
    ledger.spoil.clone_from(&plan.spoil);
    ledger.refused.clone_from(&plan.refused);
    ledger.limits = Limits {
        concurrency: config.max_concurrency,
        partition_concurrency: config.partition_concurrency,
        operations: config.max_operations,
    };
    let mut job = Job {
        plan,
        seed,
        config,
        world: world.clone(),
        ledger: Arc::new(Mutex::new(ledger)),
        batches: Vec::new(),
        next: 0,
        checkpoint: 0,
        barrier: None,
        sink: None,
        writers: 0,
        submissions: 0,
        open: BTreeMap::new(),
        starts_at: Some(Instant::now()),
        restarts: 0,
        generation: 1,
        results: BTreeMap::new(),
        etags: BTreeMap::new(),
    };
    job.run().await;
    Outcome::of(&world)
}

impl Job<'_> {
    fn violation(&self, invariant: &str, what: String) {
        lock(&self.world).violation(invariant, what);
    }

    async fn run(&mut self) {
        let began = Instant::now();
        let mut steps = self.plan.steps.iter().peekable();
        let mut writes = 0;
        let last = self.plan.steps.iter().map(|s| s.at_ms).max().unwrap_or(0);
        let over = last.max(lock(&self.world).healed_at());
        let deadline = began + Duration::from_millis(over) + PATIENCE;
        loop {
            let now = Instant::now();
            while let Some(step) = steps.next_if(|s| began + Duration::from_millis(s.at_ms) <= now) {
                if let Act::Submit(ops) = &step.act {
                    let ops = parse(ops, writes + 1);
                    writes += ops.len() as u64;
                    self.batches.push(ops);
                } else {
                    self.act(&step.act).await;
                }
            }
            if self.starts_at.is_some_and(|at| at <= now) {
                self.start().await;
            }
            self.submit();
            self.poll().await;
            self.close_barrier();
            if !lock(&self.world).violations.is_empty() || self.restarts > RESTARTS {
                break;
            }
            let next = steps.peek().map(|s| began + Duration::from_millis(s.at_ms));
            let waits = self.sink.is_none() || !self.open.is_empty();
            let idle = !waits && self.next == self.batches.len();
            if idle && next.is_none() {
                break;
            }
            if now > deadline {
                let metrics = self.sink.as_ref().map(|s| format!("{:?}", s.metrics()));
                let open = self.open.len();
                self.violation("progress", format!("{open} submissions are open; {metrics:?}"));
                break;
            }
            let tick = Instant::now() + TICK;
            let until = match (waits, next) {
                (true, next) => next.unwrap_or(tick).min(tick),
                (false, next) => next.unwrap_or(tick),
            };
            sleep_until(until.max(Instant::now() + Duration::from_micros(500))).await;
        }
        if self.restarts <= RESTARTS && lock(&self.world).violations.is_empty() {
            self.check_end();
        }
        self.stop().await;
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Submit(_) => {}
            Act::Checkpoint { declined } => {
                if self.barrier.is_none() && self.sink.is_some() {
                    let position = self.next;
                    lock(&self.world).note(|| format!("checkpoint behind batch {position}"));
                    self.barrier = Some(Barrier {
                        position,
                        declined: *declined,
                    });
                }
            }
            Act::Kill { pause_ms } => self.fail(Duration::from_millis(*pause_ms), "killed").await,
            Act::Split { nth } => lock(&self.world).split(*nth),
            Act::Merge { nth } => lock(&self.world).merge(*nth),
            Act::Lock { nth, ms } => lock(&self.world).lock_partition(*nth, *ms),
            Act::Recreate => lock(&self.world).recreate(),
        }
    }

    async fn start(&mut self) {
        self.starts_at = None;
        self.writers += 1;
        let account = Account::new(&self.world, &self.ledger);
        let letters = (self.config.failure_mode == FailureMode::DeadLetter).then(|| {
            let letters = Letters {
                world: self.world.clone(),
                ledger: self.ledger.clone(),
                definition: definition(),
            };
            Box::new(letters) as Box<dyn Service>
        });
        self.generation = lock(&self.world).generation;
        let seed = self.seed ^ self.writers;
        let sink = Sink::over(
            Box::new(account),
            letters,
            self.config.clone(),
            &Handle::current(),
            seed,
        )
        .await;
        match sink {
            Ok(sink) => {
                ledger(&self.ledger).begin_anew();
                self.next = self.checkpoint;
                self.sink = Some(sink);
                let from = self.next;
                lock(&self.world).note(|| format!("a writer begins at batch {from}"));
            }
            Err(e) => {
                self.restarts += 1;
                lock(&self.world).note(|| format!("no writer could be opened: {e}"));
                self.starts_at = Some(Instant::now() + Duration::from_millis(500));
            }
        }
    }

    async fn stop(&mut self) {
        if let Some(sink) = self.sink.take() {
            drop(sink);
            sleep(Duration::from_millis(1)).await;
            let left = ledger(&self.ledger).under_way();
            if left > 0 {
                self.violation("what is given up ends", format!("{left} requests are under way"));
            }
        }
        self.open.clear();
        self.barrier = None;
    }

    async fn fail(&mut self, pause: Duration, why: &str) {
        lock(&self.world).note(|| format!("the task fails: {why}"));
        self.stop().await;
        let checkpoint = self.checkpoint;
        let replayed: Vec<_> = self.batches[checkpoint..]
            .iter()
            .flatten()
            .map(|op| op.n)
            .collect();
        let mut ledger = ledger(&self.ledger);
        for n in replayed {
            ledger.operations.remove(&n);
        }
        self.starts_at = Some(Instant::now() + pause);
    }

    fn submit(&mut self) {
        while let Some(sink) = &self.sink {
            if self.barrier.is_some()
                || self.open.len() >= self.plan.in_flight
                || self.next >= self.batches.len()
                || sink.room() % 2 == 1
            {
                return;
            }
            self.submissions += 1;
            for op in self.batches[self.next].iter().filter(|op| op.has_etag()) {
                self.etags.entry(op.n).or_insert_with(|| {
                    let world = lock(&self.world);
                    let ledger = ledger(&self.ledger);
                    let stored = ledger.stored(&world, op.doc);
                    // Of a document that is not there: that of another one.
                    stored.map_or_else(|| "\"none\"".to_owned(), |s| s.etag())
                });
            }
            let rows: Vec<_> = self.batches[self.next]
                .iter()
                .map(|op| {
                    let (id, key) = (format!("d{}", op.doc), key_name(op.doc % self.plan.keys));
                    let etag = self.etags.get(&op.n).map_or("", String::as_str);
                    (op.kind, id, format!("[\"{key}\"]"), etag, op.body(&key))
                })
                .collect();
            let operations: Vec<_> = rows
                .iter()
                .map(|(kind, id, key, etag, body)| NewOperation {
                    kind: *kind,
                    id,
                    partition_key: key,
                    if_match: etag,
                    document: body.as_bytes(),
                })
                .collect();
            let (submission, batch) = (self.submissions, self.next);
            lock(&self.world).note(|| format!("submission {submission} is batch {batch}"));
            self.open.insert(submission, batch);
            if let Err(e) = sink.submit(submission, encode_operations(&operations)) {
                self.violation("an open sink takes operations", e.to_string());
            }
            self.next += 1;
        }
    }

    async fn poll(&mut self) {
        let Some(sink) = &self.sink else { return };
        let completions = match sink.poll(Duration::ZERO) {
            Ok(completions) => completions,
            Err(e) => return self.violation("an open sink answers", e.to_string()),
        };
        for completion in completions {
            if let Some(why) = self.complete(&completion) {
                self.restarts += 1;
                return self.fail(Duration::from_millis(300), &why).await;
            }
        }
        // Of a submission that has failed nothing is counted any more.
        let Some(sink) = &self.sink else { return };
        let buffered = sink.metrics().bytes_buffered.load(Relaxed);
        if sink.room().is_multiple_of(2) && buffered > self.config.max_in_flight_bytes {
            let what = format!("{buffered} bytes, and there is room");
            self.violation("what is held is bounded", what);
        }
    }

    /// Looks at a completion; why the job fails, if it does.
    fn complete(&mut self, completion: &Completion) -> Option<String> {
        let submission = completion.submission;
        let Some(batch) = self.open.remove(&submission) else {
            self.violation(
                "each submission completes once",
                format!("{submission} does again"),
            );
            return None;
        };
        lock(&self.world).note(|| {
            let failures = completion
                .failures
                .iter()
                .map(|f| format!("{}: {:?} {}", f.index, f.result, f.error));
            format!(
                "submission {submission} completes {:?}",
                failures.collect::<Vec<_>>()
            )
        });
        let mut failures: BTreeMap<usize, &Failure> = BTreeMap::new();
        for failure in &completion.failures {
            if failures.insert(failure.index as usize, failure).is_some() {
                self.violation(
                    "an operation ends once",
                    format!("{} of {submission}", failure.index),
                );
            }
        }
        if let Some(failure) = completion
            .failures
            .iter()
            .find(|f| f.result == OutcomeResult::Failed)
        {
            let op = self.batches[batch].get(failure.index as usize).copied();
            self.check_warranted(op, failure);
            return Some(failure.error.to_string());
        }
        for (at, op) in self.batches[batch].clone().into_iter().enumerate() {
            let failure = failures.remove(&at);
            let superseded = completion.superseded.contains(&(at as u32));
            self.check_result(op, failure, superseded);
            let result = failure.map_or(OutcomeResult::Ok, |f| f.result);
            self.results.insert(op.n, (result, superseded, self.generation));
        }
        if !failures.is_empty() {
            self.violation(
                "failures are of the submission's operations",
                format!("{failures:?}"),
            );
        }
        None
    }

    fn check_result(&self, op: Op, failure: Option<&Failure>, superseded: bool) {
        let ledger = ledger(&self.ledger);
        let known = ledger.operations.get(&op.n).cloned().unwrap_or_default();
        let letters = ledger.letters.get(&op.n).copied().unwrap_or(0);
        drop(ledger);
        let Some(failure) = failure else {
            let done = match op.kind {
                OperationKind::Delete | OperationKind::DeleteIfNotModified => {
                    known.applied > 0 || known.nothing > 0
                }
                // A replay, or an attempt behind a lost answer, finds what was written before it.
                OperationKind::Create
                | OperationKind::CreateIgnoreExisting
                | OperationKind::Replace
                | OperationKind::OverwriteIfNotModified => known.applied > 0 || known.met > 0,
                _ => known.applied > 0,
            };
            let leaves = matches!(op.letter, 'a' | 'e' | 'E' | 'X' | 'q' | 'i' | 'I' | 'j');
            if superseded && (!leaves || known.applied > 0 && !known.unclear) {
                self.violation("superseded implies not applied", format!("{op:?} {known:?}"));
            }
            if !superseded && !done {
                self.violation("ok implies applied", format!("{op:?} {known:?}"));
            }
            return;
        };
        let error = &failure.error;
        // An update that was read again until its time was up has met its own attempt at last.
        let is_of_another =
            matches!(error.kind, Kind::Conflict | Kind::Precondition) && error.next != Next::Reread;
        // The parts of a patch that came before the one that failed stay.
        let in_parts = failure.carried_out > 0;
        if known.applied > 0 && !in_parts && (!known.unclear || is_of_another) {
            self.violation(
                "failed implies not applied, or ambiguous",
                format!("{op:?} {known:?}: {error}"),
            );
        }
        // What was compared in vain keeps what it was compared for.
        let is_final = matches!(error.next, Next::End | Next::Compare | Next::Reread);
        if error.blame != Blame::Record || !is_final || !known.refused.contains(&error.status) {
            let what = format!("{op:?} {known:?}: {error} {:?} {:?}", error.blame, error.next);
            self.violation("only a record's own failure drops a record", what);
        }
        // A part of a patch begins anew; of all else an attempt of unknown fate is remembered.
        let told = error.message.contains("an earlier attempt got no answer");
        if told && !known.unclear || known.unclear && !told && op.adds().is_none() {
            self.violation(
                "a message says whether an attempt may have been carried out",
                format!("{op:?} {known:?}: {error}"),
            );
        }
        let right = match failure.result {
            OutcomeResult::Skipped => self.config.failure_mode == FailureMode::Skip,
            OutcomeResult::DeadLettered => letters > 0,
            _ => false,
        };
        if !right {
            self.violation(
                "a dropped record went where the option says",
                format!("{op:?} {failure:?}"),
            );
        }
    }

    /// Whether there is a reason for a failure that ends the job.
    fn check_warranted(&self, op: Option<Op>, failure: &Failure) {
        let error = &failure.error;
        let retry = self.config.retry;
        let (doomed, generation, now) = {
            let world = lock(&self.world);
            (!world.doomed.is_empty(), world.generation, world.millis())
        };
        let ledger = ledger(&self.ledger);
        let known = op
            .and_then(|op| ledger.operations.get(&op.n))
            .cloned()
            .unwrap_or_default();
        drop(ledger);
        let failing = known
            .failing_since
            .map_or(Duration::ZERO, |since| Duration::from_millis(now - since));
        // The longest that a wait may be, which must not end behind the deadline.
        let wait = retry.max_backoff.max(Duration::from_secs(2));
        let exhausted = known.failed >= retry.max_attempts || failing + wait >= retry.deadline;
        let warranted = match (error.kind, error.next) {
            (Kind::Auth, _) => doomed,
            (Kind::Throttled, _) => retry
                .throttled_deadline
                .is_some_and(|limit| failing + wait >= limit),
            (_, Next::End) if matches!((error.status, error.sub_status), (400, 1024) | (410, 1000)) => {
                generation != self.generation
            }
            (_, Next::Retry | Next::Reread | Next::Reroute | Next::Halve) => exhausted,
            _ => {
                let letters = self.plan.faults.iter().any(|f| f.on == Request::Letter);
                self.config.failure_mode == FailureMode::DeadLetter && error.blame == Blame::Record && letters
            }
        };
        if !warranted {
            let what = format!(
                "{op:?} {known:?} failing for {failing:?}: {error} ({:?})",
                error.next
            );
            self.violation("no final failure without a reason", what);
        }
    }

    /// A checkpoint is taken when everything before it has come back.
    fn close_barrier(&mut self) {
        if !self.open.is_empty() {
            return;
        }
        if let Some(barrier) = self.barrier.take() {
            self.check_idle();
            if !barrier.declined {
                self.checkpoint = barrier.position;
            }
            lock(&self.world).note(|| match barrier.declined {
                true => "the checkpoint is declined".to_owned(),
                false => "the checkpoint is complete".to_owned(),
            });
        }
    }

    /// Nothing is left of what has come back.
    fn check_idle(&self) {
        let Some(sink) = &self.sink else { return };
        let metrics = sink.metrics();
        for (what, counter) in [
            ("operations waiting", &metrics.operations_waiting),
            ("bytes buffered", &metrics.bytes_buffered),
            ("milliseconds held", &metrics.held_millis),
        ] {
            let value = counter.load(Relaxed);
            if value != 0 {
                self.violation("counters are 0 when idle", format!("{value} {what}"));
            }
        }
        if sink.room() % 2 == 1 {
            self.violation("there is room when idle", format!("{:?}", sink.metrics()));
        }
        let left = ledger(&self.ledger).under_way();
        if left > 0 {
            self.violation(
                "nothing is sent when idle",
                format!("{left} requests are under way"),
            );
        }
    }

    /// What the container holds is what the operations come to.
    fn check_end(&self) {
        self.check_idle();
        let mut last: BTreeMap<Doc, Op> = BTreeMap::new();
        // Fields that must be there, by what was done last: what counted as done and changed nothing, or failed, leaves open what it met.
        let mut fields: BTreeMap<Doc, Vec<String>> = BTreeMap::new();
        let generation = lock(&self.world).generation;
        for op in self.batches.iter().flatten() {
            last.insert(op.doc, *op);
            let fields = fields.entry(op.doc).or_default();
            match (self.results.get(&op.n), op.adds()) {
                (Some((OutcomeResult::Ok, false, made_in)), Some(more)) if *made_in == generation => {
                    fields.extend(more);
                }
                _ => fields.clear(),
            }
        }
        for (doc, op) in last {
            let Some((OutcomeResult::Ok, superseded, made_in)) = self.results.get(&op.n) else {
                if !self.results.contains_key(&op.n) {
                    self.violation("every operation ends", format!("{op:?}"));
                }
                continue;
            };
            if *made_in != generation {
                continue;
            }
            let world = lock(&self.world);
            let there = ledger(&self.ledger).stored(&world, doc).cloned();
            drop(world);
            let n = there.as_ref().and_then(|stored| stored.n());
            let right = match op.kind {
                OperationKind::Delete | OperationKind::DeleteIfNotModified => *superseded || there.is_none(),
                _ => *superseded || n == Some(op.n),
            };
            let missing = fields[&doc].iter().find(|field| {
                let stored = there.as_ref();
                stored.is_none_or(|stored| !stored.fields.contains_key(*field))
            });
            if !right || missing.is_some() {
                self.violation(
                    "the end is the fold of the operations",
                    format!("{op:?}, but there is {n:?}, without {missing:?}"),
                );
            }
        }
    }
}
