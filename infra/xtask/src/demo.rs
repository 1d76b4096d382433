//! The demo: the whole pipeline on this machine, verified.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use comfy_table::Table;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use crate::build::{artifacts, Artifacts};
use crate::cluster::{Cluster, Layout};
use crate::process::{free_port, get_json, output, ready, sleep, usage, Processes};
use crate::root;

/// How the demo runs.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
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
    /// Seconds without any progress after which the demo gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub stall: u64,
}

const SINK_JOB: (&str, &str) = ("cosmosflink-sink", "io.cosmosflink.jobs.FlinkCosmosSinkJob");
const SOURCE_JOB: (&str, &str) = ("cosmosflink-source", "io.cosmosflink.jobs.FlinkCosmosSourceJob");

/// Physical partitions of each container of the local account.
const PARTITIONS: u32 = 4;

/// Containers by variable, default name and partition key path.
const CONTAINERS: [(&str, &str, &str); 5] = [
    ("COSMOS_SOURCE_CONTAINER", "events-source", "/customerId"),
    ("COSMOS_TARGET_CONTAINER", "events-processed", "/region"),
    ("COSMOS_OUTPUT_CONTAINER", "events-output", "/region"),
    ("COSMOS_DEAD_LETTER_CONTAINER", "dead-letter", "/container"),
    ("COSMOS_LEASE_CONTAINER", "cosmos-leases", "/id"),
];

/// Name of a container in this run.
fn container(variable: &str) -> String {
    let default = CONTAINERS.iter().find(|c| c.0 == variable).map_or("", |c| c.1);
    std::env::var(variable)
        .ok()
        .filter(|v| !v.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// Starts a local account; returns the environment of everything that connects to it, and its endpoint.
fn local_account(
    built: &Artifacts,
    home: &Path,
    processes: &mut Processes,
) -> Result<(Vec<(String, String)>, String)> {
    // What the user has set is for a real account and must not leak into this run.
    for (name, _) in std::env::vars() {
        let prefixes = [
            "COSMOS_",
            "CONSUMER_",
            "PRODUCER_",
            "JOB_",
            "CHECKPOINT_",
            "AZURE_",
        ];
        if prefixes.iter().any(|p| name.starts_with(p)) {
            std::env::remove_var(name);
        }
    }
    let (key, file) = (home.join("account-key"), home.join("cosmos-local.json"));
    let mut command = built.binary("cosmos-local");
    command
        .args(["--listen", "127.0.0.1:0", "--database", "orders", "--key-file"])
        .arg(&key);
    command.arg("--ready-file").arg(&file);
    for (_, name, path) in CONTAINERS {
        command
            .arg("--container")
            .arg(format!("{name}:{path}:{PARTITIONS}"));
    }
    processes.start("cosmos-local", &mut command)?;
    let ready = ready(processes, &file, Duration::from_secs(20))?;
    let endpoint = ready["endpoint"].as_str().unwrap_or_default().to_owned();
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut environment = vec![
        set("COSMOS_URI", &endpoint),
        set("COSMOS_DB", "orders"),
        set("COSMOS_KEY_FILE", &key.display().to_string()),
        // This machine is no Azure VM: asking for its metadata would only take time.
        set("COSMOS_DISABLE_IMDS", "1"),
        // A backtrace for each header that is absent costs more than the request (the Azure crates make one).
        set("RUST_LIB_BACKTRACE", "0"),
    ];
    environment.extend(CONTAINERS.iter().map(|(variable, name, _)| set(variable, name)));
    Ok((environment, endpoint))
}

/// The environment of a real account: the user's own. A key is moved into a file of this run, so that it is never part of a job.
fn account_environment(home: &Path) -> Result<Vec<(String, String)>> {
    for name in ["COSMOS_URI", "COSMOS_DB"] {
        if std::env::var(name).unwrap_or_default().is_empty() {
            bail!("{name} is not set; --account takes the account from the environment (see infra/.env.example)");
        }
    }
    let mut environment = vec![("RUST_LIB_BACKTRACE".to_owned(), "0".to_owned())];
    if let Some(key) = std::env::var("COSMOS_KEY").ok().filter(|k| !k.is_empty()) {
        let file = home.join("account-key");
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?;
        out.write_all(key.as_bytes())?;
        std::env::remove_var("COSMOS_KEY");
        environment.push(("COSMOS_KEY_FILE".to_owned(), file.display().to_string()));
    }
    Ok(environment)
}

/// What runs, once it runs.
pub struct Pipeline {
    pub processes: Processes,
    pub cluster: Cluster,
    pub environment: Vec<(String, String)>,
    pub built: Artifacts,
    home: PathBuf,
    /// Base URL of the local account; `None` with a real one.
    pub local: Option<String>,
}

impl Pipeline {
    /// Builds everything and starts account and cluster; creates the containers.
    pub fn start(name: &str, account: bool, slots: u32) -> Result<Pipeline> {
        let built = artifacts()?;
        let home = root().join("target").join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
        }
        std::fs::create_dir_all(&home)?;
        let mut processes = Processes::new(home.join("logs"))?;
        let (environment, local) = if account {
            (account_environment(&home)?, None)
        } else {
            println!("starting the local account");
            let (environment, endpoint) = local_account(&built, &home, &mut processes)?;
            (environment, Some(endpoint))
        };
        println!("creating what is missing of database and containers");
        output(
            built
                .binary("cosmosflink-init")
                .args(["create", "--wait", "20"])
                .envs(environment.clone()),
        )?;
        println!("starting Flink: a JobManager and a TaskManager");
        let layout = Layout {
            home: &home,
            lib: &built.flink_lib,
            slots,
            environment: environment.clone(),
        };
        let cluster = Cluster::start(&mut processes, &layout)?;
        println!("Flink's UI: {}", cluster.rest);
        Ok(Pipeline {
            processes,
            cluster,
            environment,
            built,
            home,
            local,
        })
    }

    /// Runs the initializer to its end and returns what it printed.
    pub fn init(&self, args: &[&str]) -> Result<String> {
        output(
            self.built
                .binary("cosmosflink-init")
                .args(args)
                .envs(self.environment.clone()),
        )
    }

    /// Submits a job of the job jar under a name; returns its id.
    pub fn submit(
        &self,
        (name, class): (&str, &str),
        parallelism: u32,
        arguments: &[String],
    ) -> Result<String> {
        let mut all = vec!["--job.name".to_owned(), name.to_owned()];
        all.extend_from_slice(arguments);
        self.submit_jar(&self.built.job_jar, class, parallelism, &all)
    }

    /// Submits a job of any jar through the REST interface; returns its id.
    pub fn submit_jar(
        &self,
        jar: &Path,
        class: &str,
        parallelism: u32,
        arguments: &[String],
    ) -> Result<String> {
        let (jar, parallelism) = (jar.display().to_string(), parallelism.to_string());
        let mut args = vec![
            "submit",
            "--flink",
            &self.cluster.rest,
            "--jar",
            &jar,
            "--entry-class",
            class,
        ];
        args.extend(["--parallelism", &parallelism, "--program-args"]);
        args.extend(arguments.iter().map(String::as_str));
        let answer: Value =
            serde_json::from_str(&self.init(&args)?).context("the initializer printed no JSON")?;
        let id = answer["jobId"].as_str().map(str::to_owned);
        id.ok_or_else(|| anyhow!("no job id in {answer}"))
    }

    /// Folder of this run.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The first job with options of its own.
    pub fn submit_sink_job_with(&self, arguments: &[String]) -> Result<String> {
        self.submit(SINK_JOB, 1, arguments)
    }

    /// Says where everything is, so that any tool can look at the running pipeline.
    fn write_endpoints(
        &self,
        file: &Path,
        consumer: &Consumer,
        sink_job: &str,
        source_job: &str,
    ) -> Result<()> {
        let variable = |name: &str| {
            let own = self
                .environment
                .iter()
                .find(|(k, _)| k == name)
                .map(|(_, v)| v.clone());
            own.or_else(|| std::env::var(name).ok())
        };
        let pids: BTreeMap<_, _> = self.processes.pids().into_iter().collect();
        let endpoints = json!({
            "cosmos": variable("COSMOS_URI"),
            "cosmosKeyFile": variable("COSMOS_KEY_FILE"),
            "database": variable("COSMOS_DB"),
            "flink": self.cluster.rest,
            "consumer": consumer.http,
            "jobs": {"sink": sink_job, "source": source_job},
            "pids": pids,
        });
        Ok(std::fs::write(file, serde_json::to_vec_pretty(&endpoints)?)?)
    }

    /// The job that only reads `events-source` and writes `events-processed`.
    pub fn submit_sink_job(&self, parallelism: u32, checkpoint_interval_ms: u64) -> Result<String> {
        self.submit(SINK_JOB, parallelism, &checkpoints(checkpoint_interval_ms))
    }
}

fn checkpoints(interval_ms: u64) -> Vec<String> {
    vec!["--job.checkpoint-interval-ms".to_owned(), interval_ms.to_string()]
}

/// JSON of a server of this run.
pub fn get(url: &str) -> Result<Value> {
    get_json(url, Duration::from_secs(5))
}

/// The consumer of a run.
struct Consumer {
    http: String,
    http_address: String,
    tcp_address: String,
}

impl Consumer {
    fn reserve() -> Result<Consumer> {
        let address = || -> Result<String> { Ok(format!("127.0.0.1:{}", free_port()?)) };
        let (http_address, tcp_address) = (address()?, address()?);
        Ok(Consumer {
            http: format!("http://{http_address}"),
            http_address,
            tcp_address,
        })
    }

    fn start(&self, pipeline: &mut Pipeline) -> Result<()> {
        let file = pipeline.home.join("consumer.json");
        let mut command = pipeline.built.binary("cosmosflink-consumer");
        command.args([
            "--listen",
            &self.http_address,
            "--tcp-listen",
            &self.tcp_address,
            "--tcp-framing",
            "lines",
            "--ready-file",
        ]);
        command.arg(&file);
        pipeline.processes.start("consumer", &mut command)?;
        ready(&mut pipeline.processes, &file, Duration::from_secs(20)).map(drop)
    }
}

/// Runs the demo on this machine.
pub fn run(options: &Options) -> Result<()> {
    // Two jobs, and room for a TaskManager that comes back before the old one is missed.
    let mut pipeline = Pipeline::start("demo", options.account, options.parallelism * 2)?;
    let consumer = Consumer::reserve()?;
    if options.consumer_down_for == 0 {
        consumer.start(&mut pipeline)?;
        println!("the consumer's page: {}", consumer.http);
    }
    if options.throttle > 0.0 {
        let local = pipeline.local.clone().unwrap_or_default();
        for operations in ["bulk", "feed", "write"] {
            let fault = json!({"status": 429, "operations": operations, "share": options.throttle, "retryAfterMillis": 20});
            ureq::post(format!("{local}_local/faults")).send_json(&fault)?;
        }
    }
    println!("submitting both jobs");
    let sink_job = pipeline.submit_sink_job(options.parallelism, options.checkpoint_interval_ms)?;
    let mut arguments = checkpoints(options.checkpoint_interval_ms);
    for (name, value) in [
        ("--job.transport", options.transport.clone()),
        ("--job.consumer-url", format!("{}/events", consumer.http)),
        ("--job.consumer-tcp", consumer.tcp_address.clone()),
    ] {
        arguments.extend([name.to_owned(), value]);
    }
    let source_job = pipeline.submit(SOURCE_JOB, options.parallelism, &arguments)?;
    for job in [&sink_job, &source_job] {
        pipeline
            .cluster
            .wait_for_state(&mut pipeline.processes, job, "RUNNING", Duration::from_secs(60))?;
    }
    let file = pipeline.home.join("endpoints.json");
    pipeline.write_endpoints(&file, &consumer, &sink_job, &source_job)?;
    let result = watch(options, &mut pipeline, &consumer, &sink_job, &source_job);
    if result.is_ok() && options.keep_running {
        pipeline.write_endpoints(&file, &consumer, &sink_job, &source_job)?;
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
        pipeline.home.join("logs").display()
    );
    pipeline.processes.stop();
    result
}

/// Starts the producer, shows progress until all has arrived, verifies and prints the table.
fn watch(
    options: &Options,
    pipeline: &mut Pipeline,
    consumer: &Consumer,
    sink_job: &str,
    source_job: &str,
) -> Result<()> {
    let summary_file = pipeline.home.join("producer.json");
    let (events, rate, invalid) = (
        options.events.to_string(),
        options.rate.to_string(),
        options.invalid_share.to_string(),
    );
    let mut command = pipeline.built.binary("cosmosflink-producer");
    command
        .args([
            "--count",
            &events,
            "--rate",
            &rate,
            "--invalid-share",
            &invalid,
            "--quiet",
            "--summary-file",
        ])
        .arg(&summary_file);
    command.envs(pipeline.environment.clone());
    let started = Instant::now();
    pipeline.processes.start("producer", &mut command)?;

    let bars = MultiProgress::new();
    let bar = |name: &'static str| {
        let style = ProgressStyle::with_template("{prefix:>24} [{bar:40}] {pos:>8}/{len} {per_sec} {msg}");
        let bar = bars.add(ProgressBar::new(options.events));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name);
        bar
    };
    let (read, arrived) = (bar("read from change feed"), bar("arrived at consumer"));
    // A second's line for logs, where no bars are drawn.
    let plain = bars.is_hidden();
    let (mut produced, mut consumer_up, mut killed) = (
        None::<Value>,
        options.consumer_down_for == 0,
        !options.kill_taskmanager,
    );
    let (mut last_progress, mut last_line, mut last_unique) = (Instant::now(), Instant::now(), 0);
    let mut taskmanager_cpu = 0.0;
    let expected = loop {
        sleep(Duration::from_millis(250))?;
        if produced.is_none() {
            if let Some(status) = pipeline.processes.ended("producer")? {
                if !status.success() {
                    let log = pipeline.home.join("logs/producer.log");
                    bail!(
                        "the producer ended with {status}: {}",
                        crate::process::tail(&log, 5)
                    );
                }
                produced = Some(serde_json::from_slice(&std::fs::read(&summary_file)?)?);
            }
        }
        pipeline.processes.check()?;
        pipeline.cluster.check_job("the first job", sink_job)?;
        pipeline.cluster.check_job("the second job", source_job)?;
        if !consumer_up && started.elapsed() >= Duration::from_secs(options.consumer_down_for) {
            bars.println(format!(
                "starting the consumer, {} s after the producer",
                options.consumer_down_for
            ))?;
            consumer.start(pipeline)?;
            consumer_up = true;
        }
        let stats = if consumer_up {
            get(&format!("{}/stats", consumer.http))?
        } else {
            Value::Null
        };
        let unique = stats["unique"].as_u64().unwrap_or(0);
        let read_by_source = |m: &str| m.starts_with("Source__") && m.ends_with(".numRecordsIn");
        read.set_position(pipeline.cluster.sum(sink_job, read_by_source) as u64);
        arrived.set_position(unique);
        arrived.set_message(format!(
            "p50 {} ms, p99 {} ms",
            number(&stats["latencyMillis"]["p50"]),
            number(&stats["latencyMillis"]["p99"])
        ));
        if plain && last_line.elapsed() >= Duration::from_secs(2) {
            last_line = Instant::now();
            println!(
                "{:>5.0} s: read {}, arrived {unique}/{}",
                started.elapsed().as_secs_f64(),
                read.position(),
                options.events
            );
        }
        if !killed && unique >= options.events / 3 {
            killed = true;
            bars.println(format!("killing the TaskManager after {unique} orders"))?;
            taskmanager_cpu += pipeline
                .processes
                .pid("taskmanager")
                .and_then(usage)
                .map_or(0.0, |u| u.0);
            pipeline.processes.kill("taskmanager")?;
            pipeline.cluster.start_taskmanager(&mut pipeline.processes)?;
        }
        if unique > last_unique || !consumer_up {
            (last_unique, last_progress) = (unique, Instant::now());
        }
        if let Some(produced) = &produced {
            let valid =
                produced["acknowledged"].as_u64().unwrap_or(0) - produced["invalid"].as_u64().unwrap_or(0);
            if unique >= valid {
                break valid;
            }
        }
        if last_progress.elapsed() > Duration::from_secs(options.stall) {
            bail!(
                "no order arrived for {} s; {unique} of {} are there. The logs are in {}",
                options.stall,
                options.events,
                pipeline.home.join("logs").display()
            );
        }
    };
    let through = started.elapsed();
    read.finish();
    arrived.finish();
    let produced = produced.unwrap_or_default();
    println!("verifying: each order once in every container, and the same ids at the consumer");
    let (target, output_container) = (
        container("COSMOS_TARGET_CONTAINER"),
        container("COSMOS_OUTPUT_CONTAINER"),
    );
    let file = summary_file.display().to_string();
    let args = [
        "verify",
        "--summary",
        &file,
        "--container",
        &target,
        "--container",
        &output_container,
        "--consumer",
        &consumer.http,
        "--within",
        "60",
    ];
    let verdict = pipeline.init(&args);
    let verified = verdict
        .as_ref()
        .map_or_else(|e| e.to_string(), |v| v.trim().to_owned());
    let dead: Value = serde_json::from_str(&pipeline.init(&[
        "count",
        "--container",
        &container("COSMOS_DEAD_LETTER_CONTAINER"),
    ])?)?;
    table(
        options,
        pipeline,
        consumer,
        &produced,
        expected,
        through,
        taskmanager_cpu,
        &dead,
        [sink_job, source_job],
    )?;
    verdict.map_err(|e| anyhow!("not everything is where it must be: {e}"))?;
    println!("{verified}");
    let invalid = produced["invalid"].as_u64().unwrap_or(0);
    // A real account may hold letters of earlier runs.
    if !options.account && dead["documents"].as_u64() != Some(invalid) {
        bail!(
            "{invalid} orders were invalid, but the dead-letter container holds {}",
            dead["documents"]
        );
    }
    println!("every order arrived");
    Ok(())
}

fn number(value: &Value) -> String {
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

#[allow(clippy::too_many_arguments)]
fn table(
    options: &Options,
    pipeline: &Pipeline,
    consumer: &Consumer,
    produced: &Value,
    expected: u64,
    through: Duration,
    earlier_cpu: f64,
    dead: &Value,
    jobs: [&str; 2],
) -> Result<()> {
    let stats = get(&format!("{}/stats", consumer.http))?;
    let mut table = Table::new();
    table.set_header(["", "events", "per second", "p50 ms", "p99 ms", "notes"]);
    let latency = |v: &Value, p: &str| number(&v["latencyMillis"][p]);
    table.add_row([
        "produced".to_owned(),
        produced["acknowledged"].to_string(),
        number(&produced["ratePerSecond"]),
        latency(produced, "p50"),
        latency(produced, "p99"),
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
        number(&json!(expected as f64 / through.as_secs_f64())),
        latency(&stats, "p50"),
        latency(&stats, "p99"),
        format!("{} duplicates dropped", stats["duplicates"]),
    ]);
    let empty = String::new;
    let used = |what: &str| -> f64 {
        let wanted = |m: &str| m.ends_with(&format!(".cosmosdb.{what}"));
        jobs.iter().map(|job| pipeline.cluster.sum(job, wanted)).sum()
    };
    table.add_row([
        "both jobs".to_owned(),
        empty(),
        empty(),
        empty(),
        empty(),
        format!(
            "{:.0} requests, {:.0} RU, {:.0} throttled, {:.0} retries",
            used("requests"),
            used("requestUnits"),
            used("throttled"),
            used("retries")
        ),
    ]);
    table.add_row([
        "dead letters".to_owned(),
        dead["documents"].to_string(),
        empty(),
        empty(),
        empty(),
        empty(),
    ]);
    println!("{table}");
    let mut processes = Table::new();
    processes.set_header(["process", "CPU s", "peak memory MiB"]);
    for (name, pid) in pipeline.processes.pids() {
        if let Some((cpu, peak)) = usage(pid) {
            let cpu = cpu + if name == "taskmanager" { earlier_cpu } else { 0.0 };
            processes.add_row([name, format!("{cpu:.1}"), format!("{peak:.0}")]);
        }
    }
    println!("{processes}");
    println!(
        "{} orders went through in {:.1} s (parallelism {}, rate {})",
        expected,
        through.as_secs_f64(),
        options.parallelism,
        match options.rate {
            0 => "full speed".to_owned(),
            rate => format!("{rate}/s"),
        }
    );
    Ok(())
}
