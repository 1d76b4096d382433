//! Submits and cancels a job again and again on one TaskManager, and counts what is left behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, Result};
use comfy_table::Table;

use crate::demo::Pipeline;
use crate::process::{output, resident, sleep};

/// How often.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Rounds of submit and cancel, after one that warms up.
    #[arg(long, default_value_t = 20)]
    pub rounds: u32,
}

/// What a JVM holds.
struct Held {
    loaders: usize,
    threads: usize,
    files: usize,
    resident: f64,
}

/// Runs the rounds; fails when class loaders, files or threads stay.
pub fn run(options: &Options) -> Result<()> {
    let mut pipeline = Pipeline::start("leaks", false, 2)?;
    let names = ["taskmanager", "jobmanager"];
    let pids: Vec<u32> = names.iter().filter_map(|n| pipeline.processes.pid(n)).collect();
    round(&mut pipeline)?;
    let before = measure(&pipeline, &names, &pids)?;
    for n in 1..=options.rounds {
        round(&mut pipeline)?;
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
                held.files.to_string(),
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
        // Flink's own pools grow for a while; a leak of ours would be one or more per round.
        if after.threads >= before.threads + options.rounds as usize / 2 {
            bail!(
                "{name}: threads grew from {} to {}",
                before.threads,
                after.threads
            );
        }
        if after.files > before.files {
            bail!(
                "{name}: temporary files grew from {} to {}",
                before.files,
                after.files
            );
        }
    }
    println!("{} rounds left nothing behind", options.rounds);
    Ok(())
}

fn round(pipeline: &mut Pipeline) -> Result<()> {
    let job = pipeline.submit_sink_job(1, 1000)?;
    pipeline
        .cluster
        .wait_for_state(&mut pipeline.processes, &job, "RUNNING", Duration::from_secs(60))?;
    // All tasks, not the job alone: the natives are loaded when they open.
    sleep(Duration::from_millis(1500))?;
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
                threads: std::fs::read_dir(format!("/proc/{pid}/task"))?.count(),
                files: files(&pipeline.cluster.temporary(name)),
                resident: resident(*pid).unwrap_or(0.0),
            })
        })
        .collect()
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|e| {
            if e.file_type().is_ok_and(|t| t.is_dir()) {
                files(&e.path())
            } else {
                1
            }
        })
        .sum()
}
