//! What a run has come to, in tables.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::Table;
use serde_json::{json, Value};

use crate::build::Variant;
use crate::cluster::Cluster;
use crate::process::Processes;
use crate::speed;

/// What the connector counted, over both jobs of a pipeline.
#[derive(Clone, Default)]
pub struct Client {
    requests: f64,
    units: f64,
    throttled: f64,
    retries: f64,
}

impl Client {
    pub fn of(cluster: &Cluster, jobs: &[String]) -> Client {
        let used = |what: &str| -> f64 {
            let wanted = |m: &str| m.ends_with(&format!(".cosmosdb.{what}"));
            jobs.iter().map(|job| cluster.sum(job, wanted)).sum()
        };
        Client {
            requests: used("requests"),
            units: used("requestUnits"),
            throttled: used("throttled"),
            retries: used("retries"),
        }
    }
}

/// What one pipeline did.
pub struct Outcome {
    pub variant: Variant,
    /// The producer's summary.
    pub produced: Value,
    /// The consumer's.
    pub stats: Value,
    /// Valid orders.
    pub expected: u64,
    /// From the start of the producer to the last order at the consumer.
    pub through: Duration,
    /// CPU seconds and peak of resident memory in MiB of the TaskManager.
    pub usage: (f64, f64),
    pub client: Client,
    pub dead_letters: u64,
}

impl Outcome {
    fn per_second(&self) -> f64 {
        self.expected as f64 / self.through.as_secs_f64()
    }

    fn latency(&self, percentile: &str) -> String {
        number(&self.stats["latencyMillis"][percentile])
    }
}

/// A number for people; a dash when there is none.
pub fn number(value: &Value) -> String {
    value.as_f64().map_or_else(
        || "-".to_owned(),
        |v| {
            if v < 10.0 {
                format!("{v:.1}")
            } else {
                format!("{v:.0}")
            }
        },
    )
}

/// A pipeline alone, from end to end.
pub fn single(outcome: &Outcome) -> Table {
    let Outcome {
        produced,
        stats,
        client,
        ..
    } = outcome;
    let mut table = Table::new();
    table.set_header(["", "events", "per second", "p50 ms", "p99 ms", "notes"]);
    table.add_row([
        "produced".to_owned(),
        produced["acknowledged"].to_string(),
        number(&produced["ratePerSecond"]),
        number(&produced["latencyMillis"]["p50"]),
        number(&produced["latencyMillis"]["p99"]),
        format!(
            "{} invalid, {} throttled, {} RU",
            produced["invalid"],
            produced["throttled"],
            number(&produced["requestCharge"])
        ),
    ]);
    table.add_row([
        "arrived at the consumer".to_owned(),
        stats["unique"].to_string(),
        number(&json!(outcome.per_second())),
        outcome.latency("p50"),
        outcome.latency("p99"),
        format!("{} duplicates dropped", stats["duplicates"]),
    ]);
    let empty = String::new;
    table.add_row([
        format!("both {} jobs", outcome.variant.name()),
        empty(),
        empty(),
        empty(),
        empty(),
        format!(
            "{:.0} requests, {:.0} RU, {:.0} throttled, {:.0} retries",
            client.requests, client.units, client.throttled, client.retries
        ),
    ]);
    table.add_row([
        "dead letters".to_owned(),
        outcome.dead_letters.to_string(),
        empty(),
        empty(),
        empty(),
        empty(),
    ]);
    table
}

/// Columns of the comparison.
const COMPARED: [&str; 11] = [
    "",
    "orders",
    "records/s",
    "p50 ms",
    "p99 ms",
    "CPU s",
    "CPU µs per order",
    "peak memory MiB",
    "requests",
    "RU",
    "duplicates",
];

fn compared(outcome: &Outcome) -> [String; 11] {
    let (cpu, peak) = outcome.usage;
    [
        outcome.variant.name().to_owned(),
        outcome.expected.to_string(),
        format!("{:.0}", outcome.per_second()),
        outcome.latency("p50"),
        outcome.latency("p99"),
        format!("{cpu:.1}"),
        format!("{:.0}", 1e6 * cpu / outcome.expected.max(1) as f64),
        format!("{peak:.0}"),
        format!("{:.0}", outcome.client.requests),
        format!("{:.0}", outcome.client.units),
        outcome.stats["duplicates"].to_string(),
    ]
}

/// Pipelines side by side.
pub fn comparison(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.set_header(COMPARED);
    for outcome in outcomes {
        table.add_row(compared(outcome));
    }
    table
}

/// What each process has used.
pub fn processes(processes: &Processes) -> Table {
    let mut table = Table::new();
    table.set_header(["process", "CPU s", "peak memory MiB"]);
    for (name, _) in processes.pids() {
        if let Some((cpu, peak)) = processes.usage(&name) {
            table.add_row([name, format!("{cpu:.1}"), format!("{peak:.0}")]);
        }
    }
    table
}

/// Puts a comparison between the markers of a document, in the place of an earlier one of the same command, else behind the others.
pub fn record(file: &Path, outcomes: &[Outcome]) -> Result<()> {
    let command: Vec<_> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut block = format!(
        "`cargo xtask {}`, {cores} cores; CPU and memory are those of each variant's own TaskManager, CPU from the first order to the last:\n\n",
        command.join(" ")
    );
    let _ = writeln!(block, "| {} |", COMPARED.join(" | "));
    let _ = writeln!(block, "|{}", "---|".repeat(COMPARED.len()));
    for outcome in outcomes {
        let _ = writeln!(block, "| {} |", compared(outcome).join(" | "));
    }
    let about = || format!("cannot record the comparison in {}", file.display());
    let text = std::fs::read_to_string(file).with_context(about)?;
    let text = with_block(&text, &block).with_context(about)?;
    std::fs::write(file, text).with_context(about)?;
    println!("written to {}", file.display());
    Ok(())
}

/// The document with a block in it. Blocks begin with a back-tick, and their first line says which they are.
fn with_block(text: &str, block: &str) -> Result<String> {
    let [before, measured, after] = speed::split(text, "measured")?;
    let mut blocks: Vec<String> = Vec::new();
    for line in measured.trim().lines() {
        match blocks.last_mut() {
            Some(last) if !line.starts_with('`') => {
                last.push('\n');
                last.push_str(line);
            }
            _ => blocks.push(line.to_owned()),
        }
    }
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match blocks.iter_mut().find(|b| first_line(b) == first_line(block)) {
        Some(same) => *same = block.to_owned(),
        None => blocks.push(block.to_owned()),
    }
    let blocks: Vec<_> = blocks.iter().map(|b| b.trim()).collect();
    Ok(format!("{before}\n{}\n{after}", blocks.join("\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_the_place_of_its_like() {
        let empty = "# T\n<!-- measured:begin -->\n<!-- measured:end -->\nend\n";
        let one = with_block(empty, "`a`:\n\n| 1 |\n").unwrap();
        assert_eq!(
            one,
            "# T\n<!-- measured:begin -->\n`a`:\n\n| 1 |\n<!-- measured:end -->\nend\n"
        );
        let two = with_block(&one, "`b`:\n\n| 2 |\n").unwrap();
        let again = with_block(&two, "`a`:\n\n| 3 |\n").unwrap();
        assert_eq!(
            again,
            "# T\n<!-- measured:begin -->\n`a`:\n\n| 3 |\n\n`b`:\n\n| 2 |\n<!-- measured:end -->\nend\n"
        );
        let error = with_block("# T\n", "`a`:\n").unwrap_err();
        assert_eq!(error.to_string(), "it has no measured:begin");
    }
}
