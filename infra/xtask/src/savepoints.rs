//! Jobs that go on from a savepoint of the other variant, in mid-run, without loss or repeat; and the proof that either would be seen.
//! Or from the checkpoint that a cancelled job of the other variant retained: without loss, and what came after it is repeated.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use comfy_table::Table;
use rustix::process::Signal;
use serde_json::Value;

use crate::build::Variant;
use crate::cluster::Cluster;
use crate::pipeline::{Consumer, Containers, Job, Pipeline, Setup, Submission, OUTPUT, SOURCE, TARGET};
use crate::process::sleep;

/// What a job leaves for the one that takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Handover {
    /// It is stopped with a savepoint.
    Savepoint,
    /// It is cancelled some time after a checkpoint, which it retains.
    Checkpoint,
}

/// How the run goes.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Whose jobs run, one after the other; each goes on from what the one before has left.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., default_value = "java,scala,java")]
    pub route: Vec<Variant>,
    /// What each of them goes on from.
    #[arg(long, value_enum, default_value = "savepoint")]
    pub from: Handover,
    /// Orders that must arrive before the next takes over.
    #[arg(long, default_value_t = 1_500)]
    pub orders: u64,
    /// Orders per second.
    #[arg(long, default_value_t = 300)]
    pub rate: u64,
    /// Checkout of another version, built: the first of the route runs its jars, so that this one goes on from its state.
    #[arg(long, value_name = "DIR")]
    pub earlier: Option<PathBuf>,
}

/// How long something may make no progress.
const STALL: Duration = Duration::from_secs(120);
/// Orders that are on their way to the consumer when a job stops.
const UNDER_WAY: u64 = 50;
/// Orders that must arrive between a checkpoint and the end of the job: so many must come again.
const AFTER_CHECKPOINT: u64 = 200;
/// The only checkpoint of a job that retains it is the one that is asked for.
const NO_OTHER_CHECKPOINT_MS: u64 = 3_600_000;

/// One stretch of the run.
struct Leg {
    variant: Variant,
    /// Savepoints or retained checkpoints of the first and of the second job.
    left: [String; 2],
    /// Records that the sources have read, as Flink counts them at the end of a job.
    read: [u64; 2],
    /// Orders that the consumer has got, and documents that the second job had recorded, when the leg was over.
    delivered: u64,
    recorded: u64,
    /// Where the leg ended with retained checkpoints.
    checkpoint: Option<AtCheckpoint>,
}

/// What had surely been done when the jobs made the checkpoints that they retain, and where the leg stood when they had been cancelled.
struct AtCheckpoint {
    /// Documents that the first and the second job had written.
    written: [u64; 2],
    /// Documents that the first job wrote between its checkpoint and its end.
    written_after: u64,
    /// Orders in the source.
    made: u64,
    /// Orders that the consumer has received, repeats included.
    received: u64,
}

/// Runs the legs with a producer that does not pause, verifies, and replays from the first savepoint.
pub fn run(options: &Options) -> Result<()> {
    if options.from == Handover::Checkpoint && options.route.len() < 2 {
        bail!("a retained checkpoint is for a job that goes on from it: name two variants or more");
    }
    let containers = Containers::ending("");
    let earlier = match (&options.earlier, options.route.first()) {
        (Some(checkout), Some(first)) => Some(first.jar_of(checkout)?),
        _ => None,
    };
    let mut pipeline = Pipeline::launch(&Setup::new("savepoints", 4, &options.route))?;
    let consumer = Consumer::reserve("consumer")?;
    consumer.start(&mut pipeline)?;
    let summary = pipeline.home().join("producer.json");
    let mut legs: Vec<Leg> = Vec::new();
    let mut expected = 0;
    for (n, &variant) in options.route.iter().enumerate() {
        let jar = earlier.as_deref().filter(|_| n == 0);
        match jar {
            Some(jar) => println!("{} begins with {}", variant.name(), jar.display()),
            None => println!("{} takes over", variant.name()),
        }
        let from = legs.last().map(|leg| &leg.left);
        let last = n + 1 == options.route.len();
        let retains = options.from == Handover::Checkpoint && !last;
        let interval = if retains { NO_OTHER_CHECKPOINT_MS } else { 1000 };
        let jobs = start(
            &mut pipeline,
            &consumer,
            &containers,
            (variant, jar),
            from,
            interval,
        )?;
        if n == 0 {
            let rate = options.rate.to_string();
            let mut command = pipeline.producer(&containers, &["--rate", &rate], &summary);
            pipeline.processes.start_task("producer", &mut command)?;
        }
        let wanted = consumer.unique()? + options.orders;
        wait_for(&mut pipeline, &jobs, "orders at the consumer", wanted, |_| {
            consumer.unique()
        })?;
        if last {
            expected = end_of_production(&mut pipeline, &summary)?;
            wait_for(&mut pipeline, &jobs, "orders at the consumer", expected, |_| {
                consumer.unique()
            })?;
            wait_for(&mut pipeline, &jobs, "documents", expected, |p| {
                p.count(&containers.name(OUTPUT))
            })?;
        }
        let (left, checkpoint) = if retains {
            let (left, at) = cancel(&mut pipeline, &consumer, &containers, &jobs)?;
            (left, Some(at))
        } else {
            (stop(&mut pipeline, &jobs, !last)?, None)
        };
        let cluster = &pipeline.cluster;
        legs.push(Leg {
            variant,
            left,
            checkpoint,
            read: [read_records(cluster, &jobs[0])?, read_records(cluster, &jobs[1])?],
            delivered: consumer.unique()?,
            recorded: pipeline.count(&containers.name(OUTPUT))?,
        });
    }
    println!("{}", table(&legs));
    everything_is_there(&pipeline, &consumer, &containers)?;
    match options.from {
        Handover::Savepoint => {
            check(&consumer, &legs, expected)?;
            replay(&mut pipeline, &consumer, &containers, &legs, expected)?;
        }
        Handover::Checkpoint => check_repeats(&consumer, &legs, expected)?,
    }
    pipeline.processes.stop();
    Ok(())
}

fn start(
    pipeline: &mut Pipeline,
    consumer: &Consumer,
    containers: &Containers,
    (variant, jar): (Variant, Option<&Path>),
    left: Option<&[String; 2]>,
    checkpoint_interval_ms: u64,
) -> Result<[String; 2]> {
    let submit = |job: Job, savepoint: Option<&str>, more: &[String]| {
        let start = Submission {
            variant,
            jar,
            job,
            containers,
            parallelism: 2,
            checkpoint_interval_ms,
            savepoint,
        };
        pipeline.submit(&start, more)
    };
    let from = |n: usize| left.map(|left| left[n].as_str());
    let jobs = [
        submit(Job::Sink, from(0), &[])?,
        submit(Job::Source, from(1), &consumer.arguments("http"))?,
    ];
    let Pipeline {
        processes, cluster, ..
    } = pipeline;
    for (n, job) in jobs.iter().enumerate() {
        cluster.wait_for_tasks(processes, job)?;
        if let Some(wanted) = from(n) {
            let restored = cluster.checkpoint(processes, job, "restored", None)?;
            if restored != wanted {
                bail!("job {job} was to go on from {wanted}, but it did from {restored}");
            }
        }
    }
    Ok(jobs)
}

/// Stops both jobs with a savepoint. The second first, while the first still feeds it: so both stop in mid-run. With the consumer held, orders
/// that it has not answered are in the savepoint, and whoever goes on from there must deliver them.
fn stop(pipeline: &mut Pipeline, jobs: &[String; 2], consumer_held: bool) -> Result<[String; 2]> {
    let folder = pipeline.home.join("savepoints");
    if consumer_held {
        hold_consumer(pipeline, jobs)?;
    }
    let Pipeline {
        processes, cluster, ..
    } = pipeline;
    let second = cluster.stop_with_savepoint(processes, &jobs[1], &folder)?;
    processes.signal("consumer", Signal::CONT)?;
    let first = cluster.stop_with_savepoint(processes, &jobs[0], &folder)?;
    Ok([first, second])
}

/// Stops the consumer's process, and waits until orders are on their way to it.
fn hold_consumer(pipeline: &mut Pipeline, jobs: &[String; 2]) -> Result<()> {
    pipeline.processes.signal("consumer", Signal::STOP)?;
    wait_for(pipeline, jobs, "deliveries under way", UNDER_WAY, |p| {
        let of_delivery = |what: &str| p.cluster.sum(&jobs[1], |m| m == format!("deliver.{what}"));
        Ok((of_delivery("numRecordsIn") - of_delivery("numRecordsOut")).max(0.0) as u64)
    })
}

/// Has both jobs make a checkpoint, lets them go on for a while, and cancels them; returns the checkpoints that they retain. That of the
/// second is made with the consumer held: so it holds orders under way.
fn cancel(
    pipeline: &mut Pipeline,
    consumer: &Consumer,
    containers: &Containers,
    jobs: &[String; 2],
) -> Result<([String; 2], AtCheckpoint)> {
    hold_consumer(pipeline, jobs)?;
    let recorded = pipeline.count(&containers.name(OUTPUT))?;
    let second = pipeline
        .cluster
        .make_checkpoint(&mut pipeline.processes, &jobs[1])?;
    pipeline.processes.signal("consumer", Signal::CONT)?;
    let wanted = consumer.unique()? + AFTER_CHECKPOINT;
    let processed = pipeline.count(&containers.name(TARGET))?;
    let first = pipeline
        .cluster
        .make_checkpoint(&mut pipeline.processes, &jobs[0])?;
    let more = pipeline.count(&containers.name(TARGET))? + AFTER_CHECKPOINT;
    wait_for(pipeline, jobs, "orders at the consumer", wanted, |_| {
        consumer.unique()
    })?;
    wait_for(pipeline, jobs, "documents", more, |p| {
        p.count(&containers.name(TARGET))
    })?;
    let Pipeline {
        processes, cluster, ..
    } = &mut *pipeline;
    for job in [&jobs[1], &jobs[0]] {
        cluster.cancel(job)?;
        cluster.wait_for_state(processes, job, "CANCELED", Duration::from_secs(60))?;
    }
    let left = [
        cluster.checkpoint(processes, &jobs[0], "completed", Some(first))?,
        cluster.checkpoint(processes, &jobs[1], "completed", Some(second))?,
    ];
    let at = AtCheckpoint {
        written: [processed, recorded],
        written_after: pipeline.count(&containers.name(TARGET))? - processed,
        made: pipeline.count(&containers.name(SOURCE))?,
        received: received(consumer)?,
    };
    Ok((left, at))
}

/// Waits until a number is reached, as long as it grows.
fn wait_for(
    pipeline: &mut Pipeline,
    jobs: &[String],
    what: &str,
    wanted: u64,
    now: impl Fn(&Pipeline) -> Result<u64>,
) -> Result<()> {
    let (mut last, mut progress) = (0, Instant::now());
    loop {
        pipeline.processes.check()?;
        for job in jobs {
            pipeline.cluster.check_job("a job", job)?;
        }
        let reached = now(pipeline)?;
        if reached >= wanted {
            return Ok(());
        }
        if reached > last {
            (last, progress) = (reached, Instant::now());
        }
        if progress.elapsed() > STALL {
            bail!(
                "{reached} {what} and not {wanted}, and no more for {} s",
                STALL.as_secs()
            );
        }
        sleep(Duration::from_millis(100))?;
    }
}

/// Stops the producer; returns how many orders it has made.
fn end_of_production(pipeline: &mut Pipeline, summary: &PathBuf) -> Result<u64> {
    pipeline.processes.signal("producer", Signal::INT)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = pipeline.processes.ended("producer")? {
            if !status.success() {
                bail!("the producer ended with {status}");
            }
            let produced: Value = serde_json::from_slice(&std::fs::read(summary)?)?;
            return produced["acknowledged"]
                .as_u64()
                .context("the producer counted nothing");
        }
        if Instant::now() > deadline {
            bail!("the producer does not end");
        }
        sleep(Duration::from_millis(50))?;
    }
}

/// Records that the source of an ended job has read. Exact: Flink keeps the last count of each task.
fn read_records(cluster: &Cluster, job: &str) -> Result<u64> {
    let details = cluster.get(&format!("/jobs/{job}"))?;
    let source = details["vertices"].as_array().into_iter().flatten().find(|v| {
        v["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("Source: "))
    });
    source
        .and_then(|v| v["metrics"]["read-records"].as_u64())
        .with_context(|| format!("Flink counts no records of the source of {job}"))
}

fn table(legs: &[Leg]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "",
        "read by the first job",
        "read by the second job",
        "delivered so far",
        "recorded so far",
    ]);
    for leg in legs {
        table.add_row([
            leg.variant.name().to_owned(),
            leg.read[0].to_string(),
            leg.read[1].to_string(),
            leg.delivered.to_string(),
            leg.recorded.to_string(),
        ]);
    }
    table
}

/// Every order is at the consumer, and once in both containers.
fn everything_is_there(pipeline: &Pipeline, consumer: &Consumer, containers: &Containers) -> Result<()> {
    let verified = verify(
        pipeline,
        consumer,
        &[&containers.name(TARGET), &containers.name(OUTPUT)],
    );
    println!(
        "{}",
        verified.context("not everything is where it must be")?.trim()
    );
    Ok(())
}

/// Every order was read once by all legs together.
fn check(consumer: &Consumer, legs: &[Leg], expected: u64) -> Result<()> {
    for (n, job) in ["first", "second"].iter().enumerate() {
        let read: u64 = legs.iter().map(|leg| leg.read[n]).sum();
        if read != expected {
            bail!("{expected} orders were made, but the {job} jobs together read {read}");
        }
        if let Some(idle) = legs.iter().find(|leg| leg.read[n] == 0) {
            bail!(
                "the {job} job of {} read nothing: it shows nothing",
                idle.variant.name()
            );
        }
    }
    // Delivery is at least once: what was on the wire when a job stopped is in its savepoint, and goes out again.
    let (_, handovers) = legs.split_last().context("no leg")?;
    let on_the_wire: u64 = handovers.iter().map(|leg| leg.delivered - leg.recorded).sum();
    let duplicates = duplicates(consumer)?;
    if duplicates > on_the_wire {
        bail!("the consumer got {duplicates} orders twice, but at most {on_the_wire} were on the wire when jobs stopped");
    }
    println!(
        "{expected} orders, each read once by all jobs together; {duplicates} of at most {on_the_wire} on the wire at a savepoint came twice"
    );
    Ok(())
}

/// The jobs went on from their checkpoints: what came after one was done again, and nothing of what came before it.
fn check_repeats(consumer: &Consumer, legs: &[Leg], expected: u64) -> Result<()> {
    let read: u64 = legs.iter().map(|leg| leg.read[0]).sum();
    let (mut after, mut on_the_wire, mut written_twice) = (0, 0, 0);
    for handover in legs.windows(2) {
        let [leg, next] = handover else { continue };
        let at = leg.checkpoint.as_ref().context("a leg left no checkpoint")?;
        let made = next.checkpoint.as_ref().map_or(expected, |next| next.made);
        // What the leg before wrote after its own checkpoint may not have been read again by then.
        let surely = at.written[0].saturating_sub(written_twice);
        if next.read[0] > made - surely {
            bail!(
                "of {made} orders the first job of {} had read {surely} before its checkpoint, but that of {} read {} after it",
                leg.variant.name(),
                next.variant.name(),
                next.read[0]
            );
        }
        written_twice = at.written_after;
        after += AFTER_CHECKPOINT;
        on_the_wire += at.received - at.written[1];
    }
    // What the first job had written after its checkpoint it reads and writes again.
    let read_again = read.saturating_sub(expected);
    if read_again < after {
        bail!("{expected} orders were made and {after} of them written after a checkpoint, but the first jobs together read {read}");
    }
    // The second reads again what the first has written again, and delivers again what it had delivered after its checkpoint.
    let (duplicates, most) = (duplicates(consumer)?, on_the_wire + read_again);
    if !(after..=most).contains(&duplicates) {
        bail!("{after} to {most} orders were to be delivered again, but the consumer noticed {duplicates}");
    }
    println!(
        "{expected} orders, each once in both containers; the first jobs read {read_again} again that came after a checkpoint, \
         and {duplicates} of at most {most} came to the consumer again"
    );
    Ok(())
}

/// Goes back to the first savepoint, beside what went on from it: what is then found shows that a loss or a repeat would be.
fn replay(
    pipeline: &mut Pipeline,
    consumer: &Consumer,
    containers: &Containers,
    legs: &[Leg],
    expected: u64,
) -> Result<()> {
    let first = &legs[0];
    let variant = legs.get(1).map_or(first.variant, |leg| leg.variant);
    println!(
        "{} goes back to the first savepoint of {}",
        variant.name(),
        first.variant.name()
    );
    let apart = containers.with(OUTPUT, "events-output-replay");
    pipeline.create(&apart)?;
    let before = duplicates(consumer)?;
    let start = Submission {
        jar: None,
        variant,
        job: Job::Source,
        containers: &apart,
        parallelism: 2,
        checkpoint_interval_ms: 1000,
        savepoint: Some(&first.left[1]),
    };
    let job = pipeline.submit(&start, &consumer.arguments("http"))?;
    // All that was not yet recorded then, and nothing of what was: the position is exact.
    let wanted = expected - first.recorded;
    let jobs = [job];
    wait_for(pipeline, &jobs, "documents", wanted, |p| {
        p.count(&apart.name(OUTPUT))
    })?;
    let Pipeline {
        processes,
        cluster,
        home,
        ..
    } = &mut *pipeline;
    cluster.stop_with_savepoint(processes, &jobs[0], &home.join("savepoints"))?;
    let documents = pipeline.count(&apart.name(OUTPUT))?;
    if documents != wanted {
        bail!(
            "{} documents of {expected} were recorded before the savepoint, but {documents} after it",
            first.recorded
        );
    }
    let read_again = read_records(&pipeline.cluster, &jobs[0])?;
    if read_again != expected - first.read[1] {
        bail!(
            "{} of {expected} records were read before the savepoint, but {read_again} after it",
            first.read[1]
        );
    }
    let Err(missed) = verify(pipeline, consumer, &[&apart.name(OUTPUT)]) else {
        bail!("{} documents are missing, but were not missed", first.recorded);
    };
    // The verdict on that container, and not some other failure.
    let (missed, short) = (
        missed.to_string(),
        format!("\"documents\":{documents},\"equal\":false"),
    );
    if !missed.contains(&short) {
        bail!("the comparison failed for another reason than the missing documents: {missed}");
    }
    let (again, read) = (duplicates(consumer)? - before, expected - first.read[1]);
    if !(read..=wanted).contains(&again) {
        bail!("{read} to {wanted} orders were delivered again, but the consumer noticed {again}");
    }
    println!(
        "{} recorded before the savepoint and {documents} after it make {expected}; the {} that are missing there are missed, and \
         {again} repeats are noticed",
        first.recorded, first.recorded
    );
    Ok(())
}

fn duplicates(consumer: &Consumer) -> Result<u64> {
    consumer.stats()?["duplicates"]
        .as_u64()
        .ok_or_else(|| anyhow!("the consumer counts no duplicates"))
}

/// Orders that have arrived, repeats included.
fn received(consumer: &Consumer) -> Result<u64> {
    consumer.stats()?["received"]
        .as_u64()
        .ok_or_else(|| anyhow!("the consumer counts nothing"))
}

fn verify(pipeline: &Pipeline, consumer: &Consumer, containers: &[&str]) -> Result<String> {
    let summary = pipeline.home().join("producer.json").display().to_string();
    let mut args = vec!["verify", "--summary", &summary, "--consumer", &consumer.http];
    for container in containers {
        args.extend(["--container", container]);
    }
    pipeline.init(&args)
}
