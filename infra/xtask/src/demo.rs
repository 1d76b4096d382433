//! The demo: the whole pipeline on this machine, verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{anyhow, bail, Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::process::Signal;
use serde_json::{json, Value};

use crate::build::{Flink, Variant};
use crate::pipeline::{
    Consumer, Containers, Job, Pipeline, Setup, Submission, DEAD_LETTERS, OUTPUT, SOURCE, TARGET,
};
use crate::process::sleep;
use crate::report::{self, Outcome};
use crate::root;
use crate::unrest::{self, Ask, Counted, Unrest};

/// Which shim's jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    Java,
    Scala,
    /// Two pipelines side by side on one cluster, compared at the end.
    Both,
}

impl Choice {
    pub fn variants(self) -> &'static [Variant] {
        match self {
            Choice::Java => &[Variant::Java],
            Choice::Scala => &[Variant::Scala],
            Choice::Both => &Variant::ALL,
        }
    }
}

/// How the demo runs.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Whose jobs run; both: two pipelines side by side, each with its own containers, producer, consumer and TaskManager.
    #[arg(long, value_enum, default_value = "java")]
    pub variant: Choice,
    /// Orders that the producer makes.
    #[arg(long, default_value_t = 20_000)]
    pub events: u64,
    /// Orders per second; 0: as fast as possible.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u64,
    /// Parallelism of both jobs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallelism: u32,
    /// Keep everything running after the check, until Ctrl-C; target/demo/endpoints.json says where it is.
    #[arg(long)]
    pub keep_running: bool,
    /// Run in containers instead: builds the images and uses infra/docker-compose.yaml.
    #[arg(long)]
    pub docker: bool,
    /// Use the real account that COSMOS_URI, COSMOS_DB and COSMOS_KEY, COSMOS_KEY_FILE or COSMOS_AUTH name.
    #[arg(long, conflicts_with = "docker")]
    pub account: bool,
    /// The Flink that the jobs run on; their jars are the same.
    #[arg(long, value_enum, default_value = "2.3", conflicts_with = "docker")]
    pub flink: Flink,
    /// Run on Flink's full distribution, with its Scala library in lib, instead of the jars that a cluster needs. It comes through pip
    /// (329 MB, once).
    #[arg(long, conflicts_with_all = ["docker", "flink"])]
    pub distribution: bool,
    /// With --variant both: put the comparison into docs/java-vs-scala.md, with this command.
    #[arg(long, conflicts_with = "docker")]
    pub record: bool,
    /// Milliseconds between two checkpoints.
    #[arg(long, default_value_t = 1_000)]
    pub checkpoint_interval_ms: u64,
    /// How the second job reaches the consumer.
    #[arg(long, default_value = "http", value_parser = ["http", "tcp"])]
    pub transport: String,
    /// Share of orders, 0 to 1, that are wrong on purpose and must end in the dead-letter container.
    #[arg(long, default_value_t = 0.0)]
    pub invalid_share: f64,
    /// Fault: start the consumer only so many seconds after the producer.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub consumer_down_for: u64,
    /// Fault: kill the TaskManager (SIGKILL) when a third of the orders has arrived, and start it again.
    #[arg(long)]
    pub kill_taskmanager: bool,
    /// Fault: let the local account answer so many of its requests with 429 (a share, 0 to 1).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "account")]
    pub throttle: f64,
    /// Fault: while orders and their updates come, partitions of the first container split twice and merge once, a share of the requests is
    /// throttled for a while, and the TaskManager is killed, in an order that the seed gives. The producer goes on until all of it has happened,
    /// whatever --events says. At the end the second container must equal the first, and the first job's state must have counted no repeat.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["account", "docker", "invalid_share", "throttle", "kill_taskmanager", "consumer_down_for", "record"])]
    pub unrest: Option<u64>,
    /// Seconds without any progress after which the demo gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub stall: u64,
}

/// The pipeline of one variant.
struct Lane {
    variant: Variant,
    /// Ends the names of what it has for itself: empty when it is alone.
    suffix: String,
    containers: Containers,
    consumer: Consumer,
    /// Name of its TaskManager's process, and its id in Flink.
    taskmanager: (String, String),
    /// The first and the second.
    jobs: [String; 2],
    summary_file: PathBuf,
    /// Of the orders.
    seed: String,
    /// CPU seconds of the TaskManager before the first order.
    cpu_before: f64,
    /// CPU seconds from the first order to the last, and the peak of resident memory in MiB.
    usage: (f64, f64),
    client: report::Client,
    /// What the producer says, once it is through.
    produced: Option<Value>,
    unique: u64,
    /// When the last order arrived, counted from the start of the producer.
    through: Option<Duration>,
}

impl Lane {
    fn named(&self, what: &str) -> String {
        format!("{what}{}", self.suffix)
    }

    /// Valid orders, once it is known how many there are.
    fn expected(&self) -> Option<u64> {
        let number = |name: &str| self.produced.as_ref()?[name].as_u64();
        Some(number("acknowledged")?.saturating_sub(number("invalid")?))
    }

    /// How many orders there will be, for people: with a producer that goes on, it is not known before its end.
    fn planned(&self, options: &Options) -> String {
        let planned = options.unrest.is_none().then_some(options.events);
        self.expected()
            .or(planned)
            .map_or("?".to_owned(), |n| n.to_string())
    }

    /// Fails unless every task of its jobs runs where it ran from the start: on its own TaskManager.
    fn check_attribution(&self, pipeline: &Pipeline) -> Result<usize> {
        let mut count = 0;
        for job in &self.jobs {
            for task in pipeline.cluster.tasks(job)? {
                if task.taskmanager != self.taskmanager.1 || task.attempt > 0 {
                    bail!(
                        "a task of the {} jobs ran on {:?} in attempt {}, and not on {:?} alone: usage cannot be told apart",
                        self.variant.name(),
                        task.taskmanager,
                        task.attempt,
                        self.taskmanager.1
                    );
                }
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Starts the jobs of each variant on a TaskManager of its own: the next one is started when no slot is free any more.
fn start_lanes(options: &Options, pipeline: &mut Pipeline, suffixes: &[String]) -> Result<Vec<Lane>> {
    let mut lanes: Vec<Lane> = Vec::new();
    let lanes_wanted = options.variant.variants().iter().zip(suffixes);
    for (&variant, suffix) in lanes_wanted {
        let taskmanager = format!("taskmanager{suffix}");
        if !lanes.is_empty() {
            pipeline
                .cluster
                .start_taskmanager(&mut pipeline.processes, &taskmanager)?;
            let slots = options.parallelism * 2 * (lanes.len() as u32 + 1);
            pipeline.cluster.wait_for_slots(&mut pipeline.processes, slots)?;
        }
        let known = |id: &String| lanes.iter().any(|lane| lane.taskmanager.1 == *id);
        let id = pipeline
            .cluster
            .taskmanagers()?
            .into_iter()
            .find(|id| !known(id))
            .context("the TaskManager is gone")?;
        let containers = Containers::ending(suffix);
        let consumer = Consumer::reserve(&format!("consumer{suffix}"))?;
        if options.consumer_down_for == 0 {
            consumer.start(pipeline)?;
        }
        println!("submitting both {} jobs", variant.name());
        let submit = |job: Job, more: &[String]| {
            let start = Submission {
                variant,
                jar: None,
                job,
                containers: &containers,
                parallelism: options.parallelism,
                checkpoint_interval_ms: options.checkpoint_interval_ms,
                savepoint: None,
            };
            pipeline.submit(&start, more)
        };
        let counts_repeats = options
            .unrest
            .map(|_| ["--job.count-repeats", "true"].map(str::to_owned));
        let jobs = [
            submit(Job::Sink, counts_repeats.as_ref().map_or(&[], |more| &more[..]))?,
            submit(Job::Source, &consumer.arguments(&options.transport))?,
        ];
        for job in &jobs {
            pipeline.cluster.wait_for_tasks(&mut pipeline.processes, job)?;
        }
        lanes.push(Lane {
            variant,
            suffix: suffix.clone(),
            containers,
            consumer,
            taskmanager: (taskmanager, id),
            jobs,
            summary_file: pipeline.home().join(format!("producer{suffix}.json")),
            seed: String::new(),
            cpu_before: 0.0,
            usage: (0.0, 0.0),
            client: report::Client::default(),
            produced: None,
            unique: 0,
            through: None,
        });
    }
    Ok(lanes)
}

/// Says where everything is, so that any tool can look at the running pipelines.
fn write_endpoints(pipeline: &Pipeline, lanes: &[Lane], file: &Path) -> Result<()> {
    let variable = |name: &str| {
        let own = pipeline
            .environment
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.clone());
        own.or_else(|| std::env::var(name).ok())
    };
    let pids: BTreeMap<_, _> = pipeline.processes.pids().into_iter().collect();
    let mut endpoints = json!({
        "cosmos": variable("COSMOS_URI"),
        "cosmosKeyFile": variable("COSMOS_KEY_FILE"),
        "database": variable("COSMOS_DB"),
        "flink": pipeline.cluster.rest,
        "pids": pids,
    });
    let of_lane = |lane: &Lane| {
        json!({
            "consumer": lane.consumer.http,
            "jobs": {"sink": lane.jobs[0], "source": lane.jobs[1]},
            "containers": lane.containers.environment().into_iter().collect::<BTreeMap<_, _>>(),
            "taskmanager": lane.taskmanager.1,
        })
    };
    // A pipeline alone stands at the top.
    match lanes {
        [lane] => {
            if let (Value::Object(all), Value::Object(one)) = (&mut endpoints, of_lane(lane)) {
                all.extend(one);
            }
        }
        _ => {
            for lane in lanes {
                endpoints[lane.variant.name()] = of_lane(lane);
            }
        }
    }
    Ok(std::fs::write(file, serde_json::to_vec_pretty(&endpoints)?)?)
}

/// Runs the demo on this machine.
pub fn run(options: &Options) -> Result<()> {
    let variants = options.variant.variants();
    let alone = options.kill_taskmanager || options.consumer_down_for > 0 || options.unrest.is_some();
    if variants.len() > 1 && alone {
        bail!("--kill-taskmanager, --consumer-down-for and --unrest work with one variant only: with both, nothing could be compared");
    }
    if options.record && variants.len() == 1 {
        bail!("--record needs --variant both: there is nothing to compare");
    }
    let suffixes: Vec<String> = match variants {
        [_] => vec![String::new()],
        _ => variants.iter().map(|v| format!("-{}", v.name())).collect(),
    };
    let mut pipeline = Pipeline::launch(&Setup {
        account: options.account,
        containers: suffixes.iter().map(|s| Containers::ending(s)).collect(),
        flink: if options.distribution {
            Flink::Distribution
        } else {
            options.flink
        },
        taskmanager: &format!("taskmanager{}", suffixes[0]),
        // Both jobs at a time.
        ..Setup::new("demo", options.parallelism * 2, variants)
    })?;
    if options.throttle > 0.0 {
        let local = pipeline.local.clone().unwrap_or_default();
        for operations in ["bulk", "feed", "write"] {
            let fault = json!({"status": 429, "operations": operations, "share": options.throttle, "retryAfterMillis": 20});
            ureq::post(format!("{local}_local/faults")).send_json(&fault)?;
        }
    }
    let mut lanes = start_lanes(options, &mut pipeline, &suffixes)?;
    let file = pipeline.home().join("endpoints.json");
    write_endpoints(&pipeline, &lanes, &file)?;
    let result =
        watch(options, &mut pipeline, &mut lanes).and_then(|()| conclude(options, &pipeline, &lanes));
    if result.is_ok() && options.keep_running {
        write_endpoints(&pipeline, &lanes, &file)?;
        println!(
            "everything keeps running; {} says where. Ctrl-C stops it",
            file.display()
        );
        while !crate::process::interrupted() {
            pipeline.processes.check()?;
            let _ = sleep(Duration::from_millis(500));
        }
    }
    println!(
        "stopping; the logs stay in {}",
        pipeline.home().join("logs").display()
    );
    pipeline.processes.stop();
    result
}

fn start_producers(options: &Options, pipeline: &mut Pipeline, lanes: &mut [Lane]) -> Result<()> {
    // The same orders for all of them, and others in each run.
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_millis()
        .to_string();
    let (events, rate, invalid) = (
        options.events.to_string(),
        options.rate.to_string(),
        options.invalid_share.to_string(),
    );
    let mut args = vec!["--rate", &rate, "--invalid-share", &invalid, "--seed", &seed];
    if options.unrest.is_none() {
        args.extend(["--count", &events]);
    }
    for lane in lanes {
        lane.seed.clone_from(&seed);
        lane.cpu_before = pipeline.processes.usage(&lane.taskmanager.0).map_or(0.0, |u| u.0);
        let mut command = pipeline.producer(&lane.containers, &args, &lane.summary_file);
        pipeline
            .processes
            .start_task(&lane.named("producer"), &mut command)?;
    }
    Ok(())
}

/// Starts the producers and shows progress until everything has arrived.
fn watch(options: &Options, pipeline: &mut Pipeline, lanes: &mut [Lane]) -> Result<()> {
    let started = Instant::now();
    start_producers(options, pipeline, lanes)?;
    let bars = MultiProgress::new();
    let bar = |name: String| {
        let style = ProgressStyle::with_template("{prefix:>30} [{bar:40}] {pos:>8}/{len} {per_sec} {msg}");
        let bar = bars.add(ProgressBar::new(options.events));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name);
        bar
    };
    let shown: Vec<_> = lanes
        .iter()
        .map(|lane| {
            let of = |what: &str| match lane.suffix.trim_start_matches('-') {
                "" => what.to_owned(),
                name => format!("{name}: {what}"),
            };
            (bar(of("read from change feed")), bar(of("arrived at consumer")))
        })
        .collect();
    // A line now and then for logs, where no bars are drawn.
    let plain = bars.is_hidden();
    let (mut consumer_up, mut killed) = (options.consumer_down_for == 0, !options.kill_taskmanager);
    let mut unrest = options.unrest.map(|seed| Unrest::new(seed, &lanes[0].containers));
    let (mut last_progress, mut last_line, mut last_total) = (Instant::now(), Instant::now(), 0);
    while lanes.iter().any(|lane| lane.through.is_none()) {
        sleep(Duration::from_millis(250))?;
        for lane in lanes.iter_mut() {
            look_at_producer(pipeline, lane)?;
        }
        pipeline.processes.check()?;
        if !consumer_up && started.elapsed() >= Duration::from_secs(options.consumer_down_for) {
            bars.println(format!(
                "starting the consumer, {} s after the producer",
                options.consumer_down_for
            ))?;
            for lane in lanes.iter() {
                lane.consumer.start(pipeline)?;
            }
            consumer_up = true;
        }
        for (lane, (read, arrived)) in lanes.iter_mut().zip(&shown) {
            for (name, job) in ["the first job", "the second job"].iter().zip(&lane.jobs) {
                pipeline.cluster.check_job(name, job)?;
            }
            let read_by_source = |m: &str| m.starts_with("Source__") && m.ends_with(".numRecordsIn");
            read.set_position(pipeline.cluster.sum(&lane.jobs[0], read_by_source) as u64);
            if !consumer_up {
                continue;
            }
            let stats = lane.consumer.stats()?;
            lane.unique = stats["unique"].as_u64().unwrap_or(0);
            arrived.set_position(lane.unique);
            arrived.set_message(format!(
                "p50 {} ms, p99 {} ms",
                report::number(&stats["latencyMillis"]["p50"]),
                report::number(&stats["latencyMillis"]["p99"])
            ));
            if lane.through.is_none() && lane.expected().is_some_and(|all| lane.unique >= all) {
                lane.through = Some(started.elapsed());
                // Now, and not when the last pipeline is through: an idle job goes on costing.
                let (cpu, peak) = pipeline.processes.usage(&lane.taskmanager.0).unwrap_or_default();
                lane.usage = (cpu - lane.cpu_before, peak);
                lane.client = report::Client::of(&pipeline.cluster, &lane.jobs);
            }
        }
        if plain && last_line.elapsed() >= Duration::from_secs(2) {
            last_line = Instant::now();
            for (lane, (read, _)) in lanes.iter().zip(&shown) {
                println!(
                    "{:>5.0} s: {} read {}, arrived {}/{}",
                    started.elapsed().as_secs_f64(),
                    lane.variant.name(),
                    read.position(),
                    lane.unique,
                    lane.planned(options)
                );
            }
        }
        if !killed && lanes[0].unique >= options.events / 3 {
            killed = true;
            bars.println(format!(
                "killing the TaskManager after {} orders",
                lanes[0].unique
            ))?;
            kill_taskmanager(pipeline, &lanes[0])?;
        }
        if let Some(unrest) = &mut unrest {
            let say = |text: String| {
                let _ = bars.println(&text);
                if plain {
                    println!("{text}");
                }
            };
            for ask in unrest.go_on(lanes[0].unique, pipeline, say)? {
                match ask {
                    Ask::StartUpdates => start_updates(options, pipeline, &lanes[0])?,
                    Ask::Kill => kill_taskmanager(pipeline, &lanes[0])?,
                    // That of the updates first: it never makes an order that the other has not.
                    Ask::StopWriters => {
                        stop_writer(pipeline, UPDATES)?;
                        pipeline
                            .processes
                            .signal(&lanes[0].named("producer"), Signal::INT)?;
                    }
                }
            }
        }
        let total: u64 = lanes.iter().map(|lane| lane.unique).sum();
        if total > last_total || !consumer_up {
            (last_total, last_progress) = (total, Instant::now());
        }
        if last_progress.elapsed() > Duration::from_secs(options.stall) {
            bail!(
                "no order arrived for {} s; {total} of {} are there. The logs are in {}",
                options.stall,
                lanes
                    .iter()
                    .map(|lane| lane.planned(options))
                    .collect::<Vec<_>>()
                    .join(" and "),
                pipeline.home().join("logs").display()
            );
        }
    }
    for (read, arrived) in shown {
        read.finish();
        arrived.finish();
    }
    Ok(())
}

/// What the process that updates orders is called.
const UPDATES: &str = "updates";

/// Starts a second producer of the same orders, at half the pace: each is written again, with another time in it.
fn start_updates(options: &Options, pipeline: &mut Pipeline, lane: &Lane) -> Result<()> {
    let rate = (options.rate / 2).max(1).to_string();
    let summary = pipeline.home().join("updates.json");
    let args = ["--rate", &rate, "--seed", &lane.seed];
    let mut command = pipeline.producer(&lane.containers, &args, &summary);
    pipeline.processes.start_task(UPDATES, &mut command)?;
    Ok(())
}

/// Stops a producer in order: what it has under way is written.
fn stop_writer(pipeline: &mut Pipeline, name: &str) -> Result<()> {
    pipeline.processes.signal(name, Signal::INT)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match pipeline.processes.ended(name)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("the producer called {name} ended with {status}"),
            None if Instant::now() > deadline => bail!("the producer called {name} does not end"),
            None => sleep(Duration::from_millis(50))?,
        }
    }
}

/// Ends the TaskManager as a crash would, and starts another.
fn kill_taskmanager(pipeline: &mut Pipeline, lane: &Lane) -> Result<()> {
    let name = &lane.taskmanager.0;
    pipeline.processes.kill(name)?;
    pipeline
        .cluster
        .start_taskmanager(&mut pipeline.processes, name)
        .map(drop)
}

/// Takes the producer's summary once it has ended.
fn look_at_producer(pipeline: &mut Pipeline, lane: &mut Lane) -> Result<()> {
    if lane.produced.is_some() {
        return Ok(());
    }
    let name = lane.named("producer");
    let Some(status) = pipeline.processes.ended(&name)? else {
        return Ok(());
    };
    if !status.success() {
        let log = pipeline.home().join("logs").join(format!("{name}.log"));
        bail!(
            "the {name} ended with {status}: {}",
            crate::process::tail(&log, 5)
        );
    }
    lane.produced = Some(serde_json::from_slice(&std::fs::read(&lane.summary_file)?)?);
    Ok(())
}

/// Verifies each pipeline and prints what came of it.
fn conclude(options: &Options, pipeline: &Pipeline, lanes: &[Lane]) -> Result<()> {
    let mut outcomes = Vec::new();
    for lane in lanes {
        outcomes.push(Outcome {
            variant: lane.variant,
            produced: lane.produced.clone().unwrap_or_default(),
            stats: lane.consumer.stats()?,
            expected: lane.expected().unwrap_or(0),
            through: lane.through.unwrap_or_default(),
            usage: lane.usage,
            client: lane.client.clone(),
            dead_letters: pipeline.count(&lane.containers.name(DEAD_LETTERS))?,
        });
    }
    println!("verifying: each order once in every container, and the same ids at the consumer");
    let verdicts: Vec<_> = lanes.iter().map(|lane| verify(pipeline, lane)).collect();
    match &outcomes[..] {
        [one] => println!("{}", report::single(one)),
        all => {
            let mut tasks = 0;
            for lane in lanes {
                tasks += lane.check_attribution(pipeline)?;
            }
            println!("{}", report::comparison(all));
            println!(
                "CPU and memory are those of each variant's own TaskManager process, CPU from the first order to the last; REST says that all {tasks} tasks ran\n\
                 where they belong. The JobManager, which runs both variants' enumerators, and the account are shared and not counted."
            );
        }
    }
    println!("{}", report::processes(&pipeline.processes));
    for (lane, outcome) in lanes.iter().zip(&outcomes) {
        println!(
            "{}: {} orders went through in {:.1} s (parallelism {}, rate {})",
            lane.variant.name(),
            outcome.expected,
            outcome.through.as_secs_f64(),
            options.parallelism,
            match options.rate {
                0 => "full speed".to_owned(),
                rate => format!("{rate}/s"),
            }
        );
    }
    for ((lane, outcome), verdict) in lanes.iter().zip(&outcomes).zip(verdicts) {
        let verified = verdict
            .map_err(|e| anyhow!("{}: not everything is where it must be: {e}", lane.variant.name()))?;
        println!("{}", verified.trim());
        let invalid = outcome.produced["invalid"].as_u64().unwrap_or(0);
        // A real account may hold letters of earlier runs.
        if !options.account && outcome.dead_letters != invalid {
            bail!(
                "{}: {invalid} orders were invalid, but the dead-letter container holds {}",
                lane.variant.name(),
                outcome.dead_letters
            );
        }
    }
    if options.unrest.is_some() {
        check_unrest(pipeline, &lanes[0])?;
    }
    if options.record {
        report::record(&root().join("docs/java-vs-scala.md"), &outcomes)?;
    }
    println!("every order arrived");
    Ok(())
}

/// What must be so after whatever has happened: the second container is the first, document by document, and nothing was read twice by the
/// account of the first job's state.
fn check_unrest(pipeline: &Pipeline, lane: &Lane) -> Result<()> {
    unrest::check_account(pipeline, &lane.containers)?;
    let restarted = pipeline.cluster.tasks(&lane.jobs[0])?;
    if restarted.iter().all(|task| task.attempt == 0) {
        bail!("the TaskManager was killed, but no task of the first job was started again");
    }
    let equal = pipeline.init(&[
        "compare",
        "--source",
        &lane.containers.name(SOURCE),
        "--target",
        &lane.containers.name(TARGET),
        // What the job adds.
        "--without",
        "region",
        "--without",
        "processedAt",
        "--within",
        "60",
    ]);
    let equal = equal.map_err(|e| anyhow!("the target does not equal the source: {e}"))?;
    println!("{}", equal.trim());
    // The cluster tells what is counted a little later.
    let (expected, deadline) = (
        lane.expected().unwrap_or(0),
        Instant::now() + Duration::from_secs(20),
    );
    loop {
        let counted = Counted::of(&pipeline.cluster, &lane.jobs[0]);
        if counted.has(expected) || Instant::now() > deadline {
            return counted.check(expected);
        }
        sleep(Duration::from_millis(200))?;
    }
}

fn verify(pipeline: &Pipeline, lane: &Lane) -> Result<String> {
    pipeline.init(&[
        "verify",
        "--summary",
        &lane.summary_file.display().to_string(),
        "--container",
        &lane.containers.name(TARGET),
        "--container",
        &lane.containers.name(OUTPUT),
        "--consumer",
        &lane.consumer.http,
        "--within",
        "60",
    ])
}
