//! Submits and cancels a job again and again on one TaskManager, and counts what is left behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, Result};
use comfy_table::Table;

use crate::build::Variant;
use crate::demo::Choice;
use crate::pipeline::{Pipeline, Setup};
use crate::process::{output, resident, sleep};

/// How often.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Rounds of submit and cancel, after one that warms up.
    #[arg(long, default_value_t = 20)]
    pub rounds: u32,
    /// Whose job; both: in turns.
    #[arg(long, value_enum, default_value = "both")]
    pub variant: Choice,
}

/// What a JVM holds.
struct Held {
    loaders: usize,
    threads: usize,
    /// Threads of the connector: of its runtime, its writers and its readers.
    own_threads: usize,
    files: Vec<String>,
    resident: f64,
}

/// Runs the rounds; fails when class loaders, files or threads stay.
pub fn run(options: &Options) -> Result<()> {
    let variants = options.variant.variants();
    let mut pipeline = Pipeline::launch(&Setup::new("leaks", 2, variants))?;
    let names = ["taskmanager", "jobmanager"];
    let pids: Vec<u32> = names.iter().filter_map(|n| pipeline.processes.pid(n)).collect();
    for &variant in variants {
        round(&mut pipeline, variant)?;
    }
    let before = measure(&pipeline, &names, &pids)?;
    for n in 1..=options.rounds {
        round(&mut pipeline, variants[n as usize % variants.len()])?;
        if n % 5 == 0 {
            println!("round {n} of {}", options.rounds);
        }
    }
    let after = measure(&pipeline, &names, &pids)?;
    let mut table = Table::new();
    table.set_header([
        "process",
        "",
        "class loaders of jobs",
        "threads",
        "temporary files",
        "resident MiB",
    ]);
    for ((name, before), after) in names.iter().zip(&before).zip(&after) {
        for (when, held) in [("before", before), ("after", after)] {
            table.add_row([
                (*name).to_owned(),
                when.to_owned(),
                held.loaders.to_string(),
                held.threads.to_string(),
                held.files.len().to_string(),
                format!("{:.0}", held.resident),
            ]);
        }
    }
    println!("{table}");
    for ((name, before), after) in names.iter().zip(&before).zip(&after) {
        if after.loaders > 0 {
            bail!(
                "{name}: {} class loaders of ended jobs are still there after {} rounds",
                after.loaders,
                options.rounds
            );
        }
        if after.own_threads > 0 {
            bail!("{name}: {} threads of the connector are left", after.own_threads);
        }
        // Flink's own pools grow up to a size of their own; a leak of any kind would be one or more per round.
        if after.threads > before.threads + 15 + options.rounds as usize / 4 {
            bail!(
                "{name}: threads grew from {} to {}",
                before.threads,
                after.threads
            );
        }
        if after.files.len() > before.files.len() {
            let new: Vec<_> = after
                .files
                .iter()
                .filter(|f| !before.files.contains(f))
                .take(10)
                .cloned()
                .collect();
            bail!(
                "{name}: temporary files grew from {} to {}, among them:\n{}",
                before.files.len(),
                after.files.len(),
                new.join("\n")
            );
        }
    }
    println!("{} rounds left nothing behind", options.rounds);
    Ok(())
}

fn round(pipeline: &mut Pipeline, variant: Variant) -> Result<()> {
    let job = pipeline.submit_sink_job(variant, &[])?;
    // All tasks, not the job alone: the natives are loaded when they open.
    pipeline.cluster.wait_for_tasks(&mut pipeline.processes, &job)?;
    pipeline.cluster.cancel(&job)?;
    pipeline
        .cluster
        .wait_for_state(&mut pipeline.processes, &job, "CANCELED", Duration::from_secs(60))
}

fn measure(pipeline: &Pipeline, names: &[&str], pids: &[u32]) -> Result<Vec<Held>> {
    // What the last job left closes its threads and connections a moment after its state has changed, and Flink drops the
    // jars of ended jobs every five seconds.
    sleep(Duration::from_secs(12))?;
    names
        .iter()
        .zip(pids)
        .map(|(name, pid)| {
            let jcmd = |what: &str| output(Command::new("jcmd").args([&pid.to_string(), what]));
            jcmd("GC.run")?;
            jcmd("GC.run")?;
            Ok(Held {
                loaders: jcmd("VM.classloader_stats")?
                    .matches("ChildFirstClassLoader")
                    .count(),
                threads: threads(*pid, "")?,
                own_threads: threads(*pid, "cosmosflink")? + threads(*pid, "cosmosdb")?,
                files: files(&pipeline.cluster.temporary(name)),
                resident: resident(*pid).unwrap_or(0.0),
            })
        })
        .collect()
}

/// Threads of a process whose names begin so.
fn threads(pid: u32, prefix: &str) -> Result<usize> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    // One that ends meanwhile has no name any more.
    let names = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
    Ok(names.filter(|n| n.starts_with(prefix)).count())
}

/// All files below a folder, but for the JobManager's own record of the jobs that have ended.
fn files(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("archived") {
            continue;
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            out.append(&mut files(&entry.path()));
        } else {
            out.push(entry.path().display().to_string());
        }
    }
    out
}
