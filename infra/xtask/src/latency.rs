//! How long an order takes through both jobs, once they are warm, and what the jobs cost while there is nothing to do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::bench::{taskmanager, Options};
use crate::build::Variant;
use crate::pipeline::{get, Consumer, Containers, Job, Pipeline, Setup, Submission};
use crate::process::sleep;
use crate::speed;

/// Parallelism of both jobs.
const PARALLELISM: u32 = 2;

/// Idle jobs are watched for so long.
const IDLE: Duration = Duration::from_secs(30);

/// Events by the milliseconds that they took.
type Latencies = BTreeMap<u64, u64>;

/// Runs both jobs of the Java variant under a steady load and measures the second half of it; then lets them idle.
pub fn run(options: &Options) -> Result<()> {
    let mut pipeline = Pipeline::launch(&Setup {
        quick_heartbeats: false,
        ..Setup::new("bench-latency", 2 * PARALLELISM, &[Variant::Java])
    })?;
    let consumer = Consumer::reserve("consumer")?;
    consumer.start(&mut pipeline)?;
    let containers = Containers::ending("");
    let submit = |pipeline: &Pipeline, job, more: &[String]| {
        let start = Submission {
            variant: Variant::Java,
            jar: None,
            job,
            containers: &containers,
            parallelism: PARALLELISM,
            checkpoint_interval_ms: 10_000,
            savepoint: None,
        };
        pipeline.submit(&start, more)
    };
    let mut set = Vec::new();
    for option in &options.set {
        let (name, value) = option
            .split_once('=')
            .with_context(|| format!("--set {option} is not NAME=VALUE"))?;
        set.extend([format!("--{name}"), value.to_owned()]);
    }
    let delivered = [set.clone(), consumer.arguments("http")].concat();
    for job in [
        submit(&pipeline, Job::Sink, &set)?,
        submit(&pipeline, Job::Source, &delivered)?,
    ] {
        pipeline.cluster.wait_for_tasks(&mut pipeline.processes, &job)?;
    }
    let (rate, seconds) = (options.rate.max(1), options.seconds.max(1));
    let count = (rate * seconds * 2).to_string();
    let summary = pipeline.home().join("producer.json");
    let mut producer = pipeline.producer(
        &containers,
        &["--count", &count, "--rate", &rate.to_string()],
        &summary,
    );
    println!("{rate} orders a second for {seconds} s to warm up, and for {seconds} s that are measured");
    pipeline.processes.start_task("producer", &mut producer)?;
    wait_for(&mut pipeline, &consumer, rate * seconds)?;
    let (warm, busy_before) = (latencies(&consumer)?, taskmanager(&pipeline)?.0);
    let began = Instant::now();
    wait_for(&mut pipeline, &consumer, 2 * rate * seconds)?;
    let busy = (taskmanager(&pipeline)?.0 - busy_before) / began.elapsed().as_secs_f64();
    let measured = difference(&latencies(&consumer)?, &warm);
    // The last pauses have to grow to their longest first.
    sleep(Duration::from_secs(5))?;
    let before = taskmanager(&pipeline)?.0;
    sleep(IDLE)?;
    let idle = (taskmanager(&pipeline)?.0 - before) / IDLE.as_secs_f64();
    pipeline.processes.stop();

    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| quantile(&measured, q));
    let longest = measured.keys().next_back().copied().unwrap_or(0);
    let events: u64 = measured.values().sum();
    println!("{events} orders: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, longest {longest} ms");
    println!("{}", bars(&measured));
    println!(
        "the TaskManager took {:.0} ms of CPU a second under this load, {:.0} ms idle",
        1000.0 * busy,
        1000.0 * idle
    );
    if !options.no_docs && options.set.is_empty() {
        let text = format!(
            "`cargo xtask bench --latency --rate {rate} --seconds {seconds}`: from the producer's clock before it writes an order until the consumer has it,\n\
             through both jobs with parallelism {PARALLELISM} on one TaskManager: written, read from the change feed, written to a second container, read from its change\n\
             feed, delivered over HTTP. Default options, the local account on the same machine, Java; as many orders before it warm the jobs up.\n\n\
             {events} orders: half of them took at most {p50} ms, 90 % at most {p90} ms, 99 % at most {p99} ms, the longest {longest} ms. The TaskManager took {:.0} ms of CPU a\n\
             second under this load, and {:.0} ms while there was nothing to do.\n\n```text\n{}\n```\n",
            1000.0 * busy,
            1000.0 * idle,
            bars(&measured).trim_end()
        );
        speed::record("latency", &text)?;
    }
    Ok(())
}

/// Waits until so many orders have arrived.
fn wait_for(pipeline: &mut Pipeline, consumer: &Consumer, unique: u64) -> Result<()> {
    let (mut last, mut progress) = (0, Instant::now());
    loop {
        pipeline.processes.check()?;
        let arrived = consumer.unique()?;
        if arrived >= unique {
            return Ok(());
        }
        if arrived > last {
            (last, progress) = (arrived, Instant::now());
        }
        if progress.elapsed() > Duration::from_secs(60) {
            bail!("{arrived} of {unique} orders arrived, and none for 60 s; see the logs");
        }
        sleep(Duration::from_millis(200))?;
    }
}

fn latencies(consumer: &Consumer) -> Result<Latencies> {
    let pairs: Vec<(u64, u64)> = serde_json::from_value(get(&format!("{}/latency", consumer.http))?)?;
    Ok(pairs.into_iter().collect())
}

/// What came since an earlier answer.
fn difference(later: &Latencies, earlier: &Latencies) -> Latencies {
    let since = |(millis, n): (&u64, &u64)| (*millis, n - earlier.get(millis).unwrap_or(&0));
    later.iter().map(since).filter(|(_, n)| *n > 0).collect()
}

/// So many milliseconds at most took this share of the events.
fn quantile(latencies: &Latencies, share: f64) -> u64 {
    let all: u64 = latencies.values().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (millis, n) in latencies {
        seen += n;
        if seen >= wanted {
            return *millis;
        }
    }
    0
}

/// A line for each step of milliseconds, and one for all that took longer than almost all others.
fn bars(latencies: &Latencies) -> String {
    const STEP: u64 = 20;
    const WIDTH: u64 = 60;
    let last = quantile(latencies, 0.999) / STEP;
    let mut steps = vec![0u64; last as usize + 2];
    for (millis, n) in latencies {
        steps[(millis / STEP).min(last + 1) as usize] += n;
    }
    let most = steps.iter().copied().max().unwrap_or(0).max(1);
    let mut out = String::new();
    for (i, n) in (0u64..).zip(&steps) {
        let name = match i > last {
            true => format!("{:>4} and more", i * STEP),
            false => format!("{:>4} to {:>4}", i * STEP, (i + 1) * STEP),
        };
        let bar = "#".repeat((n * WIDTH).div_ceil(most) as usize);
        let _ = writeln!(out, "{name:>14} ms {n:>7} {bar}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_does_not_count() {
        let earlier = Latencies::from([(10, 3), (900, 1)]);
        let later = Latencies::from([(10, 3), (20, 5), (900, 2)]);
        assert_eq!(difference(&later, &earlier), Latencies::from([(20, 5), (900, 1)]));
    }

    #[test]
    fn quantiles_and_bars_are_those_of_the_counts() {
        let all = Latencies::from([(5, 50), (25, 49), (5000, 1)]);
        assert_eq!(
            [0.5, 0.51, 0.99, 1.0].map(|q| quantile(&all, q)),
            [5, 25, 25, 5000]
        );
        let text = bars(&all);
        let first = text.lines().next().unwrap();
        assert!(first.contains("0 to   20 ms      50 ####"), "{text}");
        assert_eq!(quantile(&Latencies::new(), 0.5), 0);
    }
}
