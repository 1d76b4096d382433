//! The sink beside what a team would write with the vendor's SDKs, in turns on one machine, over an account that answers at wire speed: for each
//! size of documents, number of physical partitions and protocol.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use rustix::process::Signal;

use crate::bench::{
    bench_jar, flink, measured, ours, peer_jar, written_so_far, Measured, Options, Program, Progress,
    DISTINCT,
};
use crate::build::Variant;
use crate::pipeline::{Pipeline, Setup};
use crate::process::sleep;
use crate::speed::{self, Sheet};
use crate::{root, sdks};

/// Partition keys: enough that each of many partitions has its share.
const KEYS: u64 = 1024;

/// Who writes, in the order of the table.
const WHO: [&str; 6] = [
    "plain bulk loop over the driver in Rust",
    "cosmosflink in Flink",
    "plain loop over the SDK for Java",
    "SDK for Java in Flink's AsyncSink",
    "plain loop over the SDK for JavaScript",
    "Flink alone, which drops them",
];

/// Where ours stands in it.
const OURS: usize = 1;

/// A container, its documents, and how many of them are measured.
struct Load<'a> {
    container: &'a str,
    count: u64,
    bytes: usize,
}

/// What the programs were made into.
struct Programs {
    home: PathBuf,
    sdk: PathBuf,
    jar: PathBuf,
    peer: PathBuf,
}

/// Runs them all, and records the table where it is the whole one.
pub fn run(options: &Options) -> Result<()> {
    let sizes = match options.bytes.as_slice() {
        [] => &Options::SIZES,
        sizes => sizes,
    };
    let mut sheet = Sheet::new(&[
        "bytes",
        "partitions",
        "over",
        "",
        "us of CPU per document",
        "documents per s",
        "peak memory, MiB",
        "times ours",
    ]);
    for over in &options.over {
        let containers = options.partitions.iter();
        let mut account_arguments: Vec<_> = containers
            .map(|partitions| format!("--container={}:/customerId:{partitions}", name(*partitions)))
            .collect();
        account_arguments.push("--wire-speed".to_owned());
        let mut pipeline = Pipeline::launch(&Setup {
            quick_heartbeats: false,
            tls: over == "https",
            account_arguments,
            ..Setup::new("bench-sink-peers", 2, &[Variant::Java])
        })?;
        let programs = programs(&pipeline)?;
        for &bytes in sizes {
            for &partitions in &options.partitions {
                println!(
                    "{} documents of {bytes} bytes into {partitions} partitions over {over}",
                    options.documents
                );
                let load = Load {
                    container: &name(partitions),
                    count: options.documents,
                    bytes,
                };
                let medians = in_turns(&mut pipeline, &programs, &load, options.runs)?;
                let ours = medians[OURS].per_cpu_second();
                for (who, m) in WHO.iter().zip(medians) {
                    sheet.row(&[
                        bytes.to_string(),
                        partitions.to_string(),
                        over.clone(),
                        (*who).to_owned(),
                        format!("{:.2}", 1e6 / m.per_cpu_second()),
                        format!("{:.0}", m.documents / m.seconds),
                        format!("{:.0}", m.peak_mib),
                        format!("{:.1}", ours / m.per_cpu_second()),
                    ]);
                }
            }
        }
        pipeline.processes.stop();
    }
    let markdown = sheet.print();
    let as_in_docs = options.bytes.is_empty() && options.over.len() == 2 && options.partitions == [1, 16];
    if !options.no_docs && as_in_docs {
        speed::record("sink-peers", &document(options, &markdown))?;
    }
    Ok(())
}

fn name(partitions: u32) -> String {
    format!("bench-{partitions}")
}

fn programs(pipeline: &Pipeline) -> Result<Programs> {
    let home = root().join("target/sdks");
    std::fs::create_dir_all(&home)?;
    let sdk = sdks::java_jars(&home)?;
    // Modules are looked for beside the program.
    let modules = sdks::javascript_modules(&home)?;
    std::fs::copy(
        root().join("tests/bench/javascript/bulk.mjs"),
        modules.join("bulk.mjs"),
    )?;
    Ok(Programs {
        home: modules,
        jar: bench_jar(pipeline)?,
        peer: peer_jar(pipeline, &sdk)?,
        sdk,
    })
}

/// The median run of each.
fn in_turns(
    pipeline: &mut Pipeline,
    programs: &Programs,
    load: &Load<'_>,
    runs: usize,
) -> Result<[Measured; WHO.len()]> {
    let mut all: [Vec<Measured>; WHO.len()] = Default::default();
    for _ in 0..runs {
        let run = [
            rust(pipeline, load)?,
            on_taskmanager(pipeline, ours(&programs.jar), "write", load, written_so_far)?,
            java(pipeline, &programs.sdk, load)?,
            on_taskmanager(pipeline, peer(&programs.peer), "write", load, written_so_far)?,
            javascript(pipeline, &programs.home, load)?,
            on_taskmanager(pipeline, ours(&programs.jar), "make", load, made_so_far)?,
        ];
        for (runs, measured) in all.iter_mut().zip(run) {
            runs.push(measured);
        }
    }
    Ok(all.map(Measured::median))
}

const fn peer(jar: &Path) -> Program<'_> {
    Program {
        jar,
        class: "PeerSinkJob",
    }
}

fn rust(pipeline: &Pipeline, load: &Load<'_>) -> Result<Measured> {
    let mut command = pipeline.built.binary("cosmosflink-bench");
    command.args(["write", "--container", load.container]);
    for (option, number) in [
        ("--count", load.count),
        ("--distinct", DISTINCT),
        ("--bytes", load.bytes as u64),
        ("--keys", KEYS),
    ] {
        command.arg(option).arg(number.to_string());
    }
    measured("plain loop", with_account(pipeline, &mut command))
}

/// `CONTAINER WARM COUNT DISTINCT BYTES KEYS`
fn arguments(load: &Load<'_>) -> Vec<String> {
    let numbers = [2 * load.count, load.count, DISTINCT, load.bytes as u64, KEYS];
    let numbers = numbers.iter().map(u64::to_string);
    std::iter::once(load.container.to_owned())
        .chain(numbers)
        .collect()
}

fn with_account<'a>(pipeline: &Pipeline, command: &'a mut Command) -> &'a mut Command {
    command.envs(pipeline.environment.iter().map(|(name, value)| (name, value)))
}

fn java(pipeline: &Pipeline, sdk: &Path, load: &Load<'_>) -> Result<Measured> {
    // With the class that the job on the cluster has too.
    let classes = pipeline.home().join("peer");
    let loops = pipeline.home().join("loop");
    std::fs::create_dir_all(&loops)?;
    let classpath = format!("{}:{}", sdk.join("*").display(), classes.display());
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "-cp", &classpath, "-d"]).arg(&loops);
    crate::process::output(javac.arg(root().join("tests/bench/java/BulkLoop.java")))?;
    let mut command = Command::new("java");
    command
        .args(["-cp", &format!("{classpath}:{}", loops.display()), "BulkLoop"])
        .args(arguments(load))
        .env("COSMOS_HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true");
    measured("SDK for Java", with_account(pipeline, &mut command))
}

fn javascript(pipeline: &Pipeline, home: &Path, load: &Load<'_>) -> Result<Measured> {
    let mut command = Command::new("node");
    command.arg(home.join("bulk.mjs")).args(arguments(load));
    measured("SDK for JavaScript", with_account(pipeline, &mut command))
}

/// A job on a TaskManager of its own, whose memory nobody has used before.
fn on_taskmanager(
    pipeline: &mut Pipeline,
    program: Program<'_>,
    task: &str,
    load: &Load<'_>,
    progress: Progress,
) -> Result<Measured> {
    fresh_taskmanager(pipeline)?;
    let (distinct, bytes, keys) = (DISTINCT.to_string(), load.bytes.to_string(), KEYS.to_string());
    let arguments = [task, load.container, &distinct, &bytes, &keys];
    flink(
        pipeline,
        program,
        (2 * load.count, load.count),
        &arguments,
        progress,
    )
}

/// What the generator of a job has handed on, as Flink counts it.
fn made_so_far(pipeline: &Pipeline, job: &str) -> f64 {
    pipeline.cluster.sum(job, |m| {
        m.starts_with("Source__") && m.ends_with(".numRecordsOut")
    })
}

/// Ends the TaskManager and waits for another one.
fn fresh_taskmanager(pipeline: &mut Pipeline) -> Result<()> {
    const NAME: &str = "taskmanager";
    let before = pipeline.cluster.taskmanagers()?;
    pipeline.processes.signal(NAME, Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while pipeline.processes.ended(NAME)?.is_none() {
        if Instant::now() > deadline {
            bail!("the TaskManager did not end within 120 s");
        }
        sleep(Duration::from_millis(100))?;
    }
    pipeline
        .cluster
        .start_taskmanager(&mut pipeline.processes, NAME)?;
    loop {
        let now = pipeline.cluster.taskmanagers()?;
        if !now.is_empty() && now.iter().all(|id| !before.contains(id)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("no other TaskManager came within 120 s");
        }
        pipeline.processes.check()?;
        sleep(Duration::from_millis(200))?;
    }
}

fn document(options: &Options, table: &str) -> String {
    format!(
        "`cargo xtask bench --peers --only sink`: each upserts {} documents again and again into one container, in turns on one machine, median of {} runs; documents of\n\
         three sizes, containers of 1 and of 16 physical partitions, the local account over http and over https. The account answers at wire speed: it reads a bulk request, answers\n\
         each operation as carried out and stores nothing ([cosmos-local](../tests/cosmos-local/README.md#at-wire-speed)), so that it is not the limit. It runs on the same machine, and\n\
         documents per second are those of both. The SDKs are the vendor's for Java, v4, and for JavaScript, both without documents in their answers: in plain loops over\n\
         `executeBulkOperations`, and in the least that could be written over Flink's `AsyncSinkWriter`, with batches as large as ours. In Flink CPU and memory are those of the\n\
         TaskManager, a fresh one for each run, at parallelism 2; what Flink takes to make the documents and drop them is a row of its own. All but the loop in Rust are warmed up with\n\
         at least twice as many documents as are measured. Numbers of different runs or machines do not compare; the ratios do.\n\n{table}",
        options.documents, options.runs
    )
}
