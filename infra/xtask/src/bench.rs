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
use crate::pipeline::{local_account, Pipeline, Setup};
use crate::process::{get_json, output, run as run_command, sleep, usage, Processes};
use crate::root;

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
    /// Only the sink or only the source; implies --no-docs.
    #[arg(long, value_parser = ["sink", "source"])]
    pub only: Option<String>,
    /// What TLS costs: the plain loops over http and over https in turns, without Flink. Only prints.
    #[arg(long, conflicts_with = "only")]
    pub tls: bool,
}

impl Options {
    fn wants(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}

/// One measured run.
#[derive(Clone, Copy, Default)]
struct Measured {
    documents: f64,
    cpu: f64,
    seconds: f64,
    peak_mib: f64,
}

impl Measured {
    fn per_cpu_second(self) -> f64 {
        self.documents / self.cpu
    }
}

/// The container that both write, and both read.
const CONTAINER: &str = "events-source";

/// Documents that the sinks write again and again: more than are ever in flight, so that none waits for itself, and few enough for the
/// account's memory to stay small and its speed even.
const DISTINCT: u64 = 50_000;

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    run_command(
        Command::new("cargo")
            .args(["build", "--quiet", "--release", "-p", "cosmosflink-bench"])
            .current_dir(root()),
    )?;
    if options.tls {
        return tls(options);
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
                (written, DISTINCT),
            )?);
            flink.push(flink_write(&mut pipeline, &jar, written)?);
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
            (written, written),
        )?;
        let (mut plain, mut flink) = (Vec::new(), Vec::new());
        flink_read(&mut pipeline, &jar, written)?;
        for _ in 0..options.runs {
            plain.push(plain_loop(
                &pipeline.built.bin,
                &pipeline.environment,
                "read",
                (written, written),
            )?);
            flink.push(flink_read(&mut pipeline, &jar, written)?);
        }
        results.push(("source", "plain Rust loop", plain));
        results.push(("source", "Flink TaskManager", flink));
    }
    pipeline.processes.stop();

    let medians: Vec<_> = results
        .into_iter()
        .map(|(what, who, mut runs)| {
            runs.sort_by(|a, b| a.per_cpu_second().total_cmp(&b.per_cpu_second()));
            (what, who, runs[runs.len() / 2])
        })
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
    if !options.no_docs && options.only.is_none() {
        std::fs::write(root().join("docs/speed.md"), document(options, &markdown))?;
        std::fs::write(root().join("docs/speed.svg"), plot(&medians))?;
        println!("written to docs/speed.md and docs/speed.svg");
    }
    Ok(())
}

/// The job jar with the benchmark's job in it.
fn bench_jar(pipeline: &Pipeline) -> Result<PathBuf> {
    let (classes, jar) = (pipeline.home().join("classes"), pipeline.home().join("bench.jar"));
    std::fs::create_dir_all(&classes)?;
    let classpath = format!(
        "{}/*:{}",
        pipeline.built.flink_lib.display(),
        pipeline.built.job_jar.display()
    );
    let source = root().join("tests/bench/flink/BenchJob.java");
    output(
        Command::new("javac")
            .args(["--release", "17", "-cp", &classpath, "-d"])
            .arg(&classes)
            .arg(source),
    )?;
    std::fs::copy(&pipeline.built.job_jar, &jar)?;
    output(
        Command::new("jar")
            .arg("uf")
            .arg(&jar)
            .arg("-C")
            .arg(&classes)
            .arg("."),
    )?;
    Ok(jar)
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
        accounts.push(local_account(&bin, &home, &mut processes, over_tls)?.0);
    }
    let mut table = Table::new();
    table.set_header(["", "http: documents per CPU s", "https", "CPU of https"]);
    for task in ["write", "read"] {
        println!("{task}: {} documents each", options.documents);
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..options.runs {
            for (environment, runs) in accounts.iter().zip(&mut runs) {
                let counts = (options.documents, options.documents);
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

fn plain_loop(
    bin: &Path,
    environment: &[(String, String)],
    task: &str,
    (count, distinct): (u64, u64),
) -> Result<Measured> {
    let (count, distinct) = (count.to_string(), distinct.to_string());
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
        ])
        .envs(environment.to_vec());
    let result: Value =
        serde_json::from_str(&output(&mut command)?).context("the plain loop printed no JSON")?;
    let field = |name: &str| result[name].as_f64().unwrap_or(0.0);
    let measured = Measured {
        documents: field("documents"),
        cpu: field("cpuSeconds"),
        seconds: field("seconds"),
        peak_mib: field("peakMib"),
    };
    told("plain loop", measured);
    Ok(measured)
}

fn told(who: &str, m: Measured) {
    println!(
        "  {who}: {:.0} documents, {:.2} CPU s, {:.2} s",
        m.documents, m.cpu, m.seconds
    );
}

fn taskmanager(pipeline: &Pipeline) -> Result<(f64, f64)> {
    pipeline
        .processes
        .pid("taskmanager")
        .and_then(usage)
        .context("the TaskManager is gone")
}

fn submit(pipeline: &Pipeline, jar: &Path, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
    pipeline.submit_jar(jar, "BenchJob", 2, &arguments)
}

/// Documents that a job has done so far.
type Progress = fn(&Pipeline, &str) -> f64;

/// What a job's sources have read, as Flink counts it.
fn read_so_far(pipeline: &Pipeline, job: &str) -> f64 {
    pipeline.cluster.sum(job, |m| {
        m.starts_with("Source__documents") && m.ends_with(".numRecordsIn")
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
fn flink(
    pipeline: &mut Pipeline,
    jar: &Path,
    (warm_up, count): (u64, u64),
    arguments: &[&str],
    progress: Progress,
) -> Result<Measured> {
    let before = progress(pipeline, "");
    let job = submit(pipeline, jar, arguments)?;
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
fn flink_write(pipeline: &mut Pipeline, jar: &Path, count: u64) -> Result<Measured> {
    let arguments = ["write", CONTAINER, &DISTINCT.to_string()];
    flink(pipeline, jar, (2 * count, count), &arguments, written_so_far)
}

/// The job reads the container several times at once, or it would be through before it has warmed up; its second half is measured.
fn flink_read(pipeline: &mut Pipeline, jar: &Path, count: u64) -> Result<Measured> {
    const TIMES: u64 = 6;
    let half = count * TIMES / 2;
    let arguments = ["read", CONTAINER, &TIMES.to_string()];
    flink(pipeline, jar, (half, half), &arguments, read_so_far)
}

fn document(options: &Options, table: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Speed\n\nWritten by `cargo xtask bench`: {} documents of about 430 bytes a run, parallelism 2, {cores} cores, the local account on the\n\
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
