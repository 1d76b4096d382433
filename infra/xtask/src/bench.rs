//! The connector on a TaskManager beside plain loops over the driver, in one run on one machine: documents per CPU second and
//! memory. Writes a table and a plot into `docs/`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use comfy_table::Table;
use serde_json::Value;

use crate::build::{self, Variant};
use crate::latency;
use crate::pipeline::{local_account, Pipeline, Setup};
use crate::process::{get_json, output, run as run_command, sleep, usage, Processes};
use crate::speed::{self, Sheet};
use crate::{flat, root, rows, sdks, sink_peers};

/// How much.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Documents of each run.
    #[arg(long, default_value_t = 400_000)]
    pub documents: u64,
    /// Measured runs of each, in turns; the median counts.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Only print; leave docs/ as it is.
    #[arg(long)]
    pub no_docs: bool,
    /// Only the sink or only the source; implies --no-docs, unless --peers is given too.
    #[arg(long, value_parser = ["sink", "source"])]
    pub only: Option<String>,
    /// What TLS costs: the plain loops over http and over https in turns, without Flink. Only prints.
    #[arg(long, conflicts_with = "only")]
    pub tls: bool,
    /// The source beside the vendor's SDK for Java, and the sink beside those for Java and JavaScript: as plain loops, and as the least that
    /// could be written for Flink.
    #[arg(long, conflicts_with = "tls")]
    pub peers: bool,
    /// What a document costs the core, without a JVM, for containers of 1 to 100 physical partitions and of 10^4 to 10^6 documents.
    #[arg(long, conflicts_with_all = ["tls", "peers", "only"])]
    pub flat: bool,
    /// What rows for SQL cost: the core's beside those of flink-json, in the JVM alone (JMH) and on a TaskManager.
    #[arg(long, conflicts_with_all = ["tls", "peers", "only", "flat"])]
    pub rows: bool,
    /// With --rows: the TaskManager alone, without JMH; implies --no-docs.
    #[arg(long, requires = "rows")]
    pub only_job: bool,
    /// With --rows: JMH measures for seconds, to see that it works.
    #[arg(long, requires = "rows")]
    pub quick: bool,
    /// About how many bytes each document has; with --peers and --rows, several sizes in turns.
    #[arg(long, value_delimiter = ',')]
    pub bytes: Vec<usize>,
    /// With --peers: over what the account is reached, in turns.
    #[arg(long, requires = "peers", value_delimiter = ',', value_parser = ["http", "https"], default_values = ["http", "https"])]
    pub over: Vec<String>,
    /// How long an order takes from the producer through both jobs to the consumer, and what the idle jobs cost.
    #[arg(long, conflicts_with_all = ["tls", "peers", "only", "rows"])]
    pub latency: bool,
    /// With --peers: physical partitions of the container that the sinks write into, in turns.
    #[arg(long, requires = "peers", value_delimiter = ',', default_values_t = [1, 16])]
    pub partitions: Vec<u32>,
    /// With --latency: orders per second.
    #[arg(long, default_value_t = 500, requires = "latency")]
    pub rate: u64,
    /// With --latency: how long it is measured, in seconds, after as long a warm-up.
    #[arg(long, default_value_t = 60, requires = "latency")]
    pub seconds: u64,
    /// With --latency: an option of both jobs that is not the default, such as scan.min-poll-interval=50; implies --no-docs.
    #[arg(long, value_name = "NAME=VALUE", requires = "latency")]
    pub set: Vec<String>,
}

impl Options {
    /// Bytes of a document as `docs/speed.md` has it.
    const DOCUMENT: usize = 430;

    /// The sizes that `--peers` compares.
    pub const SIZES: [usize; 3] = [430, 1024, 10_240];

    /// Bytes of a document where one size is measured.
    pub fn size(&self) -> usize {
        self.bytes.first().copied().unwrap_or(Options::DOCUMENT)
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}

/// One measured run.
#[derive(Clone, Copy, Default)]
pub struct Measured {
    pub documents: f64,
    cpu: f64,
    pub seconds: f64,
    pub peak_mib: f64,
}

impl Measured {
    /// The run in the middle by what a CPU second did.
    pub fn median(mut runs: Vec<Measured>) -> Measured {
        runs.sort_by(|a, b| a.per_cpu_second().total_cmp(&b.per_cpu_second()));
        runs[runs.len() / 2]
    }

    pub fn per_cpu_second(self) -> f64 {
        self.documents / self.cpu
    }
}

/// The container that both write, and both read.
pub const CONTAINER: &str = "events-source";

/// Documents that the sinks write again and again: more than are ever in flight, so that none waits for itself, and few enough for the
/// account's memory to stay small and its speed even.
pub const DISTINCT: u64 = 50_000;

/// Partition keys of the documents that are written, unless the benchmark says otherwise.
const KEYS: u64 = 64;

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    // Inherited by all that is measured. The driver makes an error of each header that an answer does not have, and would walk the stack for it.
    for variable in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        std::env::remove_var(variable);
    }
    run_command(
        Command::new("cargo")
            .args(["build", "--quiet", "--release", "-p", "cosmosflink-bench"])
            .current_dir(root()),
    )?;
    if options.tls {
        return tls(options);
    }
    if options.peers {
        if options.wants("source") {
            peers(options)?;
        }
        if options.wants("sink") {
            sink_peers::run(options)?;
        }
        return Ok(());
    }
    if options.flat {
        return flat::run(options);
    }
    if options.rows {
        return rows::run(options);
    }
    if options.latency {
        return latency::run(options);
    }
    let mut pipeline = Pipeline::launch(&Setup {
        // As users have it: heartbeats cost the TaskManager.
        quick_heartbeats: false,
        ..Setup::new("bench", 2, &[Variant::Java])
    })?;
    let jar = bench_jar(&pipeline)?;
    let mut results: Vec<(&str, &str, Vec<Measured>)> = Vec::new();
    let written = options.documents;
    if options.wants("sink") {
        println!("sink: {written} upserts each");
        let (mut plain, mut flink) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            plain.push(plain_loop(
                &pipeline.built.bin,
                &pipeline.environment,
                "write",
                (written, DISTINCT, options.size()),
            )?);
            flink.push(flink_write(&mut pipeline, &jar, (written, options.size()))?);
        }
        results.push(("sink", "plain Rust bulk loop", plain));
        results.push(("sink", "Flink TaskManager", flink));
    }
    if options.wants("source") {
        println!("source: {written} documents each");
        // What there is to read.
        plain_loop(
            &pipeline.built.bin,
            &pipeline.environment,
            "write",
            (written, written, options.size()),
        )?;
        let (mut plain, mut flink) = (Vec::new(), Vec::new());
        flink_read(&mut pipeline, &jar, written)?;
        for _ in 0..options.runs {
            plain.push(plain_loop(
                &pipeline.built.bin,
                &pipeline.environment,
                "read",
                (written, written, options.size()),
            )?);
            flink.push(flink_read(&mut pipeline, &jar, written)?);
        }
        results.push(("source", "plain Rust loop", plain));
        results.push(("source", "Flink TaskManager", flink));
    }
    pipeline.processes.stop();

    let medians: Vec<_> = results
        .into_iter()
        .map(|(what, who, runs)| (what, who, Measured::median(runs)))
        .collect();
    let mut table = Table::new();
    table.set_header([
        "",
        "",
        "documents per CPU s",
        "documents per s",
        "peak memory MiB",
        "ratio per CPU s",
    ]);
    let mut markdown = String::from("| | | documents per CPU second | documents per second | peak memory, MiB | ratio |\n|---|---|---|---|---|---|\n");
    for pair in medians.chunks(2) {
        let base = pair[0].2.per_cpu_second();
        for (what, who, m) in pair {
            let ratio = format!("{:.0} %", 100.0 * m.per_cpu_second() / base);
            let row = [
                (*what).to_owned(),
                (*who).to_owned(),
                format!("{:.0}", m.per_cpu_second()),
                format!("{:.0}", m.documents / m.seconds),
                format!("{:.0}", m.peak_mib),
                ratio,
            ];
            let _ = writeln!(markdown, "| {} |", row.join(" | "));
            table.add_row(row);
        }
    }
    println!("{table}");
    let as_in_docs = options.only.is_none() && options.size() == Options::DOCUMENT;
    if !options.no_docs && as_in_docs {
        speed::record("throughput", &document(options, &markdown))?;
        std::fs::write(root().join("docs/speed.svg"), plot(&medians))?;
        println!("written to docs/speed.md and docs/speed.svg");
    }
    Ok(())
}

/// The job jar with the benchmark's job in it.
pub fn bench_jar(pipeline: &Pipeline) -> Result<PathBuf> {
    let (classes, jar) = (pipeline.home().join("classes"), pipeline.home().join("bench.jar"));
    compile(pipeline, &["flink/BenchJob"], &pipeline.built.job_jar, &classes)?;
    std::fs::copy(&pipeline.built.job_jar, &jar)?;
    add(&jar, "uf", &classes)?;
    Ok(jar)
}

/// A jar with the peer's job for the source, the one for the sink, and all that the vendor's SDK needs.
pub fn peer_jar(pipeline: &Pipeline, sdk: &Path) -> Result<PathBuf> {
    let in_home = |name: &str| pipeline.home().join(name);
    let (unpacked, classes, jar) = (in_home("sdk"), in_home("peer"), in_home("peer.jar"));
    std::fs::create_dir_all(&unpacked)?;
    let mut jars: Vec<_> = std::fs::read_dir(sdk)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    jars.sort();
    for part in &jars {
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        // Flink has its own.
        if !name.starts_with("slf4j") {
            output(Command::new("jar").arg("xf").arg(part).current_dir(&unpacked))?;
        }
    }
    // What the parts say of themselves is not so of the whole: where each class is to be found, and who signed it.
    for entry in std::fs::read_dir(unpacked.join("META-INF"))? {
        let path = entry?.path();
        let says = path
            .extension()
            .is_some_and(|e| ["SF", "RSA", "DSA", "LIST"].iter().any(|x| e == *x));
        if says {
            std::fs::remove_file(&path)?;
        }
    }
    let sources = ["flink/PeerJob", "flink/PeerSinkJob", "java/Order"];
    compile(pipeline, &sources, &sdk.join("*"), &classes)?;
    add(&jar, "cf", &unpacked)?;
    add(&jar, "uf", &classes)?;
    Ok(jar)
}

/// Compiles sources of `tests/bench`, such as `flink/BenchJob`.
pub fn compile(pipeline: &Pipeline, sources: &[&str], with: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let classpath = format!("{}/*:{}", pipeline.built.flink_lib.display(), with.display());
    let sources = sources
        .iter()
        .map(|source| root().join(format!("tests/bench/{source}.java")));
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "--release", "17", "-cp", &classpath, "-d"]);
    output(javac.arg(to).args(sources)).map(drop)
}

/// Makes a jar of a folder, or puts it into one that is there: `cf` or `uf`.
pub fn add(jar: &Path, how: &str, classes: &Path) -> Result<()> {
    let mut command = Command::new("jar");
    output(command.arg(how).arg(jar).arg("-C").arg(classes).arg(".")).map(drop)
}

/// The source beside what a team would write with the vendor's SDK for Java, which is warmed up like ours, in turns on one cluster for each
/// size of documents and each protocol.
fn peers(options: &Options) -> Result<()> {
    let sizes = match options.bytes.as_slice() {
        [] => &Options::SIZES,
        sizes => sizes,
    };
    let mut sheet = Sheet::new(&[
        "bytes",
        "over",
        "",
        "us of CPU per document",
        "documents per s",
        "peak memory, MiB",
        "times ours",
    ]);
    for &size in sizes {
        for over in &options.over {
            for row in compared(options, size, over)? {
                sheet.row(&row);
            }
        }
    }
    let markdown = sheet.print();
    let as_in_docs = options.bytes.is_empty() && options.over.len() == 2;
    if !options.no_docs && as_in_docs {
        let text = format!(
            "`cargo xtask bench --peers --runs {}`: each reads the change feed of the same container from the beginning, in turns on one machine, median\n\
             of {} runs; documents of three sizes, the local account over http and over https. The SDK is the vendor's for Java, v4, in gateway mode,\n\
             pages of 1000, each document a `JsonNode`: in a plain loop, and in the least that could be written as a source for Flink, without state, splits\n\
             or retries. In Flink CPU and memory are those of the TaskManager. All are warmed up with at least twice as many documents as are measured.\n\n{markdown}",
            options.runs, options.runs
        );
        speed::record("peers", &text)?;
    }
    Ok(())
}

/// Bytes of documents in all: the local account holds them as values, in ten times as much memory.
pub const BYTES_OF_PEERS: usize = 400 << 20;

/// All four, with documents of one size over one protocol: the cells of the table.
fn compared(options: &Options, size: usize, over: &str) -> Result<Vec<[String; 7]>> {
    let mut pipeline = Pipeline::launch(&Setup {
        quick_heartbeats: false,
        tls: over == "https",
        ..Setup::new("bench-peers", 2, &[Variant::Java])
    })?;
    let home = root().join("target/sdks");
    std::fs::create_dir_all(&home)?;
    let sdk = sdks::java_jars(&home)?;
    let (jar, peer) = (bench_jar(&pipeline)?, peer_jar(&pipeline, &sdk)?);
    let written = options.documents.min((BYTES_OF_PEERS / size.max(1)) as u64);
    println!("{written} documents of {size} bytes over {over}");
    let all = (written, written, size);
    plain_loop(&pipeline.built.bin, &pipeline.environment, "write", all)?;
    let mut results: [(&str, Vec<Measured>); 4] = [
        ("plain loop over the driver in Rust", Vec::new()),
        ("cosmosflink in Flink", Vec::new()),
        ("plain loop over the SDK for Java", Vec::new()),
        ("SDK for Java in Flink", Vec::new()),
    ];
    for _ in 0..options.runs {
        let run = [
            plain_loop(&pipeline.built.bin, &pipeline.environment, "read", all)?,
            flink_read(&mut pipeline, &jar, written)?,
            java_loop(&pipeline, &sdk, written)?,
            peer_read(&mut pipeline, &peer, written)?,
        ];
        for ((_, runs), measured) in results.iter_mut().zip(run) {
            runs.push(measured);
        }
    }
    pipeline.processes.stop();
    let medians = results.map(|(who, runs)| (who, Measured::median(runs)));
    let ours = medians[1].1.per_cpu_second();
    let cells = medians.into_iter().map(|(who, m)| {
        [
            size.to_string(),
            over.to_owned(),
            who.to_owned(),
            format!("{:.2}", 1e6 / m.per_cpu_second()),
            format!("{:.0}", m.documents / m.seconds),
            format!("{:.0}", m.peak_mib),
            format!("{:.1}", ours / m.per_cpu_second()),
        ]
    });
    Ok(cells.collect())
}

/// The vendor's SDK for Java without Flink.
fn java_loop(pipeline: &Pipeline, sdk: &Path, count: u64) -> Result<Measured> {
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(sdk.join("*"))
        .arg(root().join("tests/bench/java/FeedLoop.java"))
        .args([CONTAINER, &(2 * count).to_string(), &count.to_string()])
        .env("COSMOS_HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true")
        .envs(pipeline.environment.iter().map(|(name, value)| (name, value)));
    measured("SDK for Java", &mut command)
}

/// The vendor's SDK for Java on the TaskManager, which reads without end.
fn peer_read(pipeline: &mut Pipeline, jar: &Path, count: u64) -> Result<Measured> {
    let program = Program {
        jar,
        class: "PeerJob",
    };
    let arguments = ["read", CONTAINER];
    flink(pipeline, program, (2 * count, count), &arguments, emitted_so_far)
}

/// What TLS costs a client: the same loops over the same driver against two local accounts, one over http and one over https.
fn tls(options: &Options) -> Result<()> {
    build::cargo()?;
    let (bin, home) = (root().join("target/release"), root().join("target/bench-tls"));
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;
    let mut processes = Processes::new(home.join("logs"))?;
    let mut accounts = Vec::new();
    for over_tls in [false, true] {
        let home = home.join(if over_tls { "https" } else { "http" });
        std::fs::create_dir_all(&home)?;
        accounts.push(local_account(&bin, &home, &mut processes, over_tls, &[])?.0);
    }
    let mut table = Table::new();
    table.set_header(["", "http: documents per CPU s", "https", "CPU of https"]);
    for task in ["write", "read"] {
        println!("{task}: {} documents each", options.documents);
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..options.runs {
            for (environment, runs) in accounts.iter().zip(&mut runs) {
                let counts = (options.documents, options.documents, options.size());
                runs.push(plain_loop(&bin, environment, task, counts)?.per_cpu_second());
            }
        }
        let [http, https] = runs.map(|mut runs| {
            runs.sort_by(f64::total_cmp);
            runs[runs.len() / 2]
        });
        let ratio = format!("{:.0} %", 100.0 * http / https);
        table.add_row([task, &format!("{http:.0}"), &format!("{https:.0}"), &ratio]);
    }
    processes.stop();
    println!("{table}");
    Ok(())
}

pub fn plain_loop(
    bin: &Path,
    environment: &[(String, String)],
    task: &str,
    (count, distinct, bytes): (u64, u64, usize),
) -> Result<Measured> {
    let (count, distinct, bytes) = (count.to_string(), distinct.to_string(), bytes.to_string());
    let mut command = Command::new(bin.join("cosmosflink-bench"));
    command
        .args([
            task,
            "--container",
            CONTAINER,
            "--count",
            &count,
            "--distinct",
            &distinct,
            "--bytes",
            &bytes,
        ])
        .envs(environment.to_vec());
    measured("plain loop", &mut command)
}

/// Runs a program that prints what it did and what it cost, as the last line and in JSON.
pub fn measured(who: &str, command: &mut Command) -> Result<Measured> {
    let printed = output(command)?;
    let last = printed.lines().last().unwrap_or_default();
    let result: Value =
        serde_json::from_str(last).with_context(|| format!("{who} printed no JSON but {last:?}"))?;
    let field = |name: &str| result[name].as_f64().unwrap_or(0.0);
    let measured = Measured {
        documents: field("documents"),
        cpu: field("cpuSeconds"),
        seconds: field("seconds"),
        peak_mib: field("peakMib"),
    };
    told(who, measured);
    Ok(measured)
}

fn told(who: &str, m: Measured) {
    println!(
        "  {who}: {:.0} documents, {:.2} CPU s, {:.2} s",
        m.documents, m.cpu, m.seconds
    );
}

/// CPU seconds of the TaskManager so far, and its peak of resident memory in MiB.
pub fn taskmanager(pipeline: &Pipeline) -> Result<(f64, f64)> {
    pipeline
        .processes
        .pid("taskmanager")
        .and_then(usage)
        .context("the TaskManager is gone")
}

/// A jar with a job, whose class is called like the file that it was made of.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    pub jar: &'a Path,
    pub class: &'a str,
}

fn submit(pipeline: &Pipeline, program: Program<'_>, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
    pipeline.submit_jar(program.jar, program.class, 2, &arguments)
}

/// The connector's benchmark.
pub const fn ours(jar: &Path) -> Program<'_> {
    Program {
        jar,
        class: "BenchJob",
    }
}

/// Documents that a job has done so far.
pub type Progress = fn(&Pipeline, &str) -> f64;

/// What a job's sources have read, as Flink counts it.
pub fn read_so_far(pipeline: &Pipeline, job: &str) -> f64 {
    // A source of SQL has its catalog and database in front of its name.
    pipeline.cluster.sum(job, |m| {
        m.starts_with("Source__") && m.contains("documents") && m.ends_with(".numRecordsIn")
    })
}

/// What the peer's source has emitted, as Flink counts it.
fn emitted_so_far(pipeline: &Pipeline, job: &str) -> f64 {
    pipeline.cluster.sum(job, |m| {
        m.starts_with("Source__documents") && m.ends_with(".numRecordsOut")
    })
}

/// What the account has written in bulk for anybody: unlike Flink's metrics, asking for it costs the TaskManager nothing.
fn written_so_far(pipeline: &Pipeline, _job: &str) -> f64 {
    let stats = pipeline
        .local
        .as_ref()
        .and_then(|account| get_json(&format!("{account}_local/stats"), Duration::from_secs(10)).ok());
    let written = stats.and_then(|s| {
        let by_status = s["bulkOperations"].as_object()?;
        let ok = by_status.iter().filter(|(status, _)| status.starts_with('2'));
        Some(ok.filter_map(|(_, n)| n.as_f64()).sum())
    });
    written.unwrap_or(0.0)
}

/// Measures `count` documents of a job from `warm_up` documents on: a job runs for days, so that its start, and the compiling of what
/// runs for the first time in its class loader, do not count.
pub fn flink(
    pipeline: &mut Pipeline,
    program: Program<'_>,
    (warm_up, count): (u64, u64),
    arguments: &[&str],
    progress: Progress,
) -> Result<Measured> {
    let before = progress(pipeline, "");
    let job = submit(pipeline, program, arguments)?;
    let deadline = Instant::now() + Duration::from_secs(1200);
    let mut begin = None::<(Instant, f64, f64)>;
    loop {
        let done = progress(pipeline, &job) - before;
        let (cpu, peak_mib) = taskmanager(pipeline)?;
        match begin {
            None if done >= warm_up as f64 => begin = Some((Instant::now(), done, cpu)),
            Some((began, documents, cpu_before)) if done >= (warm_up + count) as f64 => {
                let measured = Measured {
                    documents: done - documents,
                    cpu: cpu - cpu_before,
                    seconds: began.elapsed().as_secs_f64(),
                    peak_mib,
                };
                told("TaskManager", measured);
                // Refused when the job has ended by itself meanwhile.
                let _ = pipeline.cluster.cancel(&job);
                pipeline.cluster.wait_for_end(&mut pipeline.processes, &job)?;
                return Ok(measured);
            }
            _ => {}
        }
        if Instant::now() > deadline {
            bail!(
                "the job has done {done} documents after 1200 s: {}",
                pipeline.cluster.failure(&job).unwrap_or_default()
            );
        }
        pipeline.processes.check()?;
        sleep(Duration::from_millis(500))?;
    }
}

/// The job writes without end; its first documents, twice as many as are measured, are the warm-up.
fn flink_write(pipeline: &mut Pipeline, jar: &Path, (count, bytes): (u64, usize)) -> Result<Measured> {
    let (distinct, bytes, keys) = (DISTINCT.to_string(), bytes.to_string(), KEYS.to_string());
    let arguments = ["write", CONTAINER, &distinct, &bytes, &keys];
    flink(
        pipeline,
        ours(jar),
        (2 * count, count),
        &arguments,
        written_so_far,
    )
}

/// The job reads the container several times at once, or it would be through before it has warmed up; its second half is measured.
fn flink_read(pipeline: &mut Pipeline, jar: &Path, count: u64) -> Result<Measured> {
    const TIMES: u64 = 6;
    let half = count * TIMES / 2;
    let arguments = ["read", CONTAINER, &TIMES.to_string()];
    flink(pipeline, ours(jar), (half, half), &arguments, read_so_far)
}

fn document(options: &Options, table: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "`cargo xtask bench`: {} documents of about 430 bytes a run, parallelism 2, {cores} cores, the local account on the\n\
         same machine, plain loop and TaskManager in turns, median of {} runs. CPU is that of the whole process, as the kernel counts it:\n\
         for Flink the TaskManager with its garbage collection and heartbeats, once the job has warmed up (a job runs for days; its start\n\
         and the JVM's compiling do not count): the sink after twice as many documents as are measured, the source after half of what it\n\
         reads (the container, six times at once). For the plain loop (`tests/bench`) everything but the connection's start.\n\
         Both make or read the same documents over the same driver. Numbers of different runs or machines do not compare; the ratio does.\n\n{table}\n\
         ![Documents per CPU second](speed.svg)\n",
        options.documents, options.runs
    )
}

/// A bar for each, drawn by hand: four rectangles need no library.
fn plot(results: &[(&str, &str, Measured)]) -> String {
    let largest = results.iter().map(|r| r.2.per_cpu_second()).fold(1.0, f64::max);
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"230\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"760\" height=\"230\" fill=\"white\"/>\n<text x=\"20\" y=\"28\" font-size=\"16\">Documents per CPU second</text>\n",
    );
    for (i, (what, who, m)) in results.iter().enumerate() {
        let (y, width) = (50 + 42 * i, 380.0 * m.per_cpu_second() / largest);
        let colour = if i % 2 == 0 { "#8a8f98" } else { "#2563eb" };
        let _ = writeln!(out, "<text x=\"20\" y=\"{}\">{what}: {who}</text>", y + 19);
        let _ = writeln!(
            out,
            "<rect x=\"240\" y=\"{y}\" width=\"{width:.0}\" height=\"28\" fill=\"{colour}\"/>"
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{}\">{:.0}, {:.0} MiB</text>",
            250.0 + width,
            y + 19,
            m.per_cpu_second(),
            m.peak_mib
        );
    }
    out.push_str("</svg>\n");
    out
}
