//! The demo: the whole pipeline on this machine, verified.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use comfy_table::Table;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use crate::build::{artifacts, Artifacts};
use crate::cluster::{Cluster, Layout};
use crate::process::{free_port, output, ready, sleep, usage, Processes};
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
        let mut environment = Vec::new();
        let mut local = None;
        if !account {
            println!("starting the local account");
            let (key, file) = (home.join("account-key"), home.join("cosmos-local.json"));
            let mut command = built.binary("cosmos-local");
            command
                .args(["--listen", "127.0.0.1:0", "--database", "orders", "--key-file"])
                .arg(&key);
            command.arg("--ready-file").arg(&file);
            command.args(CONTAINERS.iter().flat_map(|(_, name, path)| {
                ["--container".to_owned(), format!("{name}:{path}:{PARTITIONS}")]
            }));
            command.env_remove("COSMOS_KEY");
            processes.start("cosmos-local", &mut command)?;
            let endpoint = ready(&mut processes, &file, Duration::from_secs(20))?["endpoint"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            environment = vec![
                ("COSMOS_URI".to_owned(), endpoint.clone()),
                ("COSMOS_DB".to_owned(), "orders".to_owned()),
                ("COSMOS_KEY_FILE".to_owned(), key.display().to_string()),
                ("COSMOS_KEY".to_owned(), String::new()),
                ("COSMOS_AUTH".to_owned(), "key".to_owned()),
                // This machine is no Azure VM: asking for its metadata would only take time.
                ("COSMOS_DISABLE_IMDS".to_owned(), "1".to_owned()),
            ];
            environment.extend(
                CONTAINERS
                    .iter()
                    .map(|(variable, name, _)| ((*variable).to_owned(), (*name).to_owned())),
            );
            local = Some(endpoint);
        }
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

    /// Submits a job through the REST interface; returns its id.
    pub fn submit(
        &self,
        (name, class): (&str, &str),
        parallelism: u32,
        arguments: &[String],
    ) -> Result<String> {
        let (jar, parallelism) = (self.built.job_jar.display().to_string(), parallelism.to_string());
        let mut args = vec![
            "submit",
            "--flink",
            &self.cluster.rest,
            "--jar",
            &jar,
            "--entry-class",
            class,
            "--name",
            name,
        ];
        args.extend([
            "--parallelism",
            &parallelism,
            "--program-args",
            "--job.name",
            name,
        ]);
        args.extend(arguments.iter().map(String::as_str));
        let answer: Value =
            serde_json::from_str(&self.init(&args)?).context("the initializer printed no JSON")?;
        answer["jobId"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("no job id in {answer}"))
    }

    /// The job that only reads `events-source` and writes `events-processed`.
    pub fn submit_sink_job(&self, parallelism: u32, checkpoint_interval_ms: u64) -> Result<String> {
        self.submit(SINK_JOB, parallelism, &checkpoints(checkpoint_interval_ms))
    }
}

fn checkpoints(interval_ms: u64) -> Vec<String> {
    vec!["--job.checkpoint-interval-ms".to_owned(), interval_ms.to_string()]
}

fn get(url: &str) -> Result<Value> {
    let mut answer = ureq::get(url)
        .config()
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .call()?;
    Ok(answer.body_mut().read_json()?)
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
    let result = watch(options, &mut pipeline, &consumer, &sink_job, &source_job);
    if result.is_ok() && options.keep_running {
        let pids: BTreeMap<_, _> = pipeline.processes.pids().into_iter().collect();
        let endpoints = json!({
            "cosmos": pipeline.environment.iter().find(|(k, _)| k == "COSMOS_URI").map(|(_, v)| v.clone()).or_else(|| std::env::var("COSMOS_URI").ok()),
            "cosmosKeyFile": pipeline.environment.iter().find(|(k, _)| k == "COSMOS_KEY_FILE").map(|(_, v)| v.clone()).or_else(|| std::env::var("COSMOS_KEY_FILE").ok()),
            "database": pipeline.environment.iter().find(|(k, _)| k == "COSMOS_DB").map(|(_, v)| v.clone()).or_else(|| std::env::var("COSMOS_DB").ok()),
            "flink": pipeline.cluster.rest,
            "consumer": consumer.http,
            "jobs": {"sink": sink_job, "source": source_job},
            "pids": pids,
        });
        let file = pipeline.home.join("endpoints.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&endpoints)?)?;
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
        if let Some(n) = pipeline.cluster.records_read(sink_job) {
            read.set_position(n);
        }
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
