//! The sink beside what a team would write with the vendor's SDKs, in turns on one machine, over an account that answers at wire speed: for each
//! size of documents, number of physical partitions and protocol.

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use rustix::process::Signal;

use crate::bench::{
    bench_jar, flink, measured, ours, peer_jar, Measured, Options, Program, Progress, DISTINCT,
};
use crate::build::Variant;
use crate::pipeline::{Pipeline, Setup};
use crate::process::sleep;
use crate::speed::{self, Sheet};
use crate::{root, sdks};

/// Partition keys: enough that each of many partitions has its share.
const KEYS: u64 = 1024;

/// Of the documents that ours and the loop in Rust write, the SDKs write one of so many: they take ten times as long for each, so that these are
/// seconds of CPU too.
const SHARE_OF_SDKS: u64 = 4;

/// Bytes of the documents that are measured, at most.
const BYTES: u64 = 1 << 30;

/// Who writes, in the order of the table.
const WHO: [&str; 5] = [
    "plain bulk loop over the driver in Rust",
    "cosmosflink in Flink",
    "plain loop over the SDK for Java",
    "SDK for Java in Flink's AsyncSink",
    "plain loop over the SDK for JavaScript",
];

/// What no account has a share in.
const ALONE: &str = "Flink alone, which drops them";

/// Where ours stands in it.
const OURS: usize = 1;

/// A container, its documents, and how many of them are measured.
struct Load<'a> {
    container: &'a str,
    count: u64,
    bytes: usize,
}

impl Load<'_> {
    /// What an SDK writes.
    const fn of_sdk(&self) -> Load<'_> {
        Load {
            count: self.count / SHARE_OF_SDKS,
            ..*self
        }
    }
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
    let mut alone = BTreeMap::new();
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
            let count = options.documents.min(BYTES / bytes.max(1) as u64);
            for &partitions in &options.partitions {
                println!("{count} documents of {bytes} bytes into {partitions} partitions over {over}");
                let load = Load {
                    container: &name(partitions),
                    count,
                    bytes,
                };
                let medians = in_turns(&mut pipeline, &programs, &load, options.runs)?;
                // Once for each size: neither partitions nor protocol matter to it.
                if let Entry::Vacant(first) = alone.entry(bytes) {
                    first.insert(made_alone(&mut pipeline, &programs, &load)?);
                }
                let ours = medians[OURS].per_cpu_second();
                let where_to = [bytes.to_string(), partitions.to_string(), over.clone()];
                for (who, m) in WHO.iter().zip(medians) {
                    sheet.row(&row(&where_to, who, m, Some(ours)));
                }
            }
        }
        pipeline.processes.stop();
    }
    for (bytes, m) in alone {
        let nowhere = [bytes.to_string(), "none".to_owned(), "nothing".to_owned()];
        sheet.row(&row(&nowhere, ALONE, m, None));
    }
    let markdown = sheet.print();
    let as_in_docs = options.bytes.is_empty() && options.over.len() == 2 && options.partitions == [1, 16];
    if !options.no_docs && as_in_docs {
        speed::record("sink-peers", &document(options, &markdown))?;
    }
    Ok(())
}

/// A row of the table; `ours` is what the connector does with a second of CPU.
fn row(where_to: &[String; 3], who: &str, m: Measured, ours: Option<f64>) -> [String; 8] {
    let [bytes, partitions, over] = where_to.clone();
    [
        bytes,
        partitions,
        over,
        who.to_owned(),
        format!("{:.2}", 1e6 / m.per_cpu_second()),
        format!("{:.0}", m.documents / m.seconds),
        format!("{:.0}", m.peak_mib),
        ours.map_or_else(String::new, |ours| format!("{:.1}", ours / m.per_cpu_second())),
    ]
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
            on_taskmanager(pipeline, ours(&programs.jar), "write", load, sent_so_far)?,
            java(pipeline, &programs.sdk, &load.of_sdk())?,
            on_taskmanager(
                pipeline,
                peer(&programs.peer),
                "write",
                &load.of_sdk(),
                sent_so_far,
            )?,
            javascript(pipeline, &programs.home, &load.of_sdk())?,
        ];
        for (runs, measured) in all.iter_mut().zip(run) {
            runs.push(measured);
        }
    }
    Ok(all.map(Measured::median))
}

/// What it costs Flink to make the documents, and to drop them.
fn made_alone(pipeline: &mut Pipeline, programs: &Programs, load: &Load<'_>) -> Result<Measured> {
    on_taskmanager(pipeline, ours(&programs.jar), "make", load, made_so_far)
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

/// What the writers of a job have sent, as Flink counts it: the account would have to be asked over https, too.
fn sent_so_far(pipeline: &Pipeline, job: &str) -> f64 {
    pipeline
        .cluster
        .sum(job, |m| m.starts_with("Sink__") && m.ends_with(".numRecordsSend"))
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
        "`cargo xtask bench --peers --only sink --runs {} --documents {}`: each upserts so many documents again and again into one container, the SDKs a\n\
         quarter of them and nobody more than 1 GiB, in turns on one machine, median of {} runs; documents of three sizes, containers of 1 and of 16 physical\n\
         partitions, the local account over http and over https. The account answers at wire speed: it reads a bulk request, answers each operation as carried out and\n\
         stores nothing ([cosmos-local](../tests/cosmos-local/README.md#at-wire-speed)), so that it is not the limit. It runs on the same machine, and documents per second\n\
         are those of both. The SDKs are the vendor's for Java, v4, and for JavaScript, both without documents in their answers: in plain loops over\n\
         `executeBulkOperations`, and in the least that could be written over Flink's `AsyncSinkWriter`, with batches as large as ours. In Flink CPU and memory are those of the\n\
         TaskManager, a fresh one for each run, at parallelism 2; what Flink takes to make the documents and drop them is a row of its own for each size. All but the loop in\n\
         Rust are warmed up with at least twice as many documents as are measured. Numbers of different runs or machines do not compare; the ratios do.\n\n{table}",
        options.runs, options.documents, options.runs
    )
}
