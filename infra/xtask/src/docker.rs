//! The demo in containers: engine, images, compose, verification; and the check of the compose file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use comfy_table::Table;
use serde_json::{json, Value};

use crate::build::{self, artifacts, Flink, Variant};
use crate::demo::Options;
use crate::pipeline::get;
use crate::process::{free_port, interrupted, output, run, sleep};
use crate::root;
use crate::Skipped;

/// What a Flink image made here is called.
const LOCAL_FLINK: &str = "flink:2.3.0-local";
/// What the project's own images stand on.
const BASE_IMAGE: &str = "debian:bookworm-slim";
/// The variable that names the local account's image.
const LOCAL_ACCOUNT: &str = "COSMOS_LOCAL_IMAGE";
/// What Testcontainers 1.21.4 removes the containers of tests with, should these be killed.
const REAPER: &str = "testcontainers/ryuk:0.12.0";
/// Marks the containers of one run of the tests.
const RUN_LABEL: &str = "io.cosmosflink.test-run";
/// Variables that a caller's environment may override: everything else in it is not meant for this run.
const IMAGES: [&str; 5] = [
    "FLINK_IMAGE",
    "COSMOS_LOCAL_IMAGE",
    "PRODUCER_IMAGE",
    "CONSUMER_IMAGE",
    "INIT_IMAGE",
];
/// A run of this many base64 characters is taken for key material; a key of the service has 88.
const KEY_LENGTH: usize = 64;

/// An engine that answers.
struct Engine {
    /// `DOCKER_HOST`; `None`: the one that the environment or the context names.
    host: Option<String>,
    /// Folder of an engine that was started here, and is stopped with this value.
    started: Option<PathBuf>,
}

impl Engine {
    /// The engine of the environment, or one that was started in our folder earlier, if it answers.
    fn answering() -> Option<Engine> {
        let socket = format!("unix://{}/docker.sock", Engine::folder().display());
        [None, Some(socket)]
            .map(|host| Engine { host, started: None })
            .into_iter()
            .find(Engine::answers)
    }

    fn folder() -> PathBuf {
        root().join("target/docker")
    }

    /// The engine that answers, else one of our own from the machine's packages.
    fn find() -> Result<Engine> {
        if output(Command::new("docker").arg("--version")).is_err() {
            bail!("docker is missing (Debian: apt-get install -y --no-install-recommends docker.io iptables debootstrap docker-compose)");
        }
        if let Some(engine) = Engine::answering() {
            return Ok(engine);
        }
        let folder = Engine::folder();
        println!("no Docker engine answers; starting one in {}", folder.display());
        let host = output(script("engine.sh").arg("start").arg(&folder))?;
        Ok(Engine {
            host: Some(host.trim().to_owned()),
            started: Some(folder),
        })
    }

    fn answers(&self) -> bool {
        output(
            self.command("docker")
                .args(["version", "--format", "{{.Server.Version}}"]),
        )
        .is_ok()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    fn docker(&self, args: &[&str]) -> Result<String> {
        output(self.command("docker").args(args))
    }

    /// Whether an image is here, or could be pulled.
    fn has(&self, image: &str) -> bool {
        self.docker(&["image", "inspect", "--format", "{{.Id}}", image])
            .is_ok()
            || {
                println!("pulling {image}");
                self.docker(&["pull", "--quiet", image]).is_ok()
            }
    }

    /// Sees to it that every image of the run is there; returns the variables that name them.
    fn images(&self, defaults: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
        let mut names: Vec<(String, String)> = IMAGES
            .iter()
            .map(|name| {
                let given = std::env::var(name).ok().filter(|value| !value.is_empty());
                let value = given.or_else(|| defaults.get(*name).cloned()).unwrap_or_default();
                ((*name).to_owned(), value)
            })
            .collect();
        self.base()?;
        if !self.has(&names[0].1) {
            println!(
                "no registry has {}; making {LOCAL_FLINK} from Flink's jars",
                names[0].1
            );
            output(self.script("local-images/flink.sh").arg(LOCAL_FLINK))?;
            names[0].1 = LOCAL_FLINK.to_owned();
        }
        println!("building the images of the project");
        output(
            self.script("images/prebuilt.sh")
                .env("BASE_IMAGE", BASE_IMAGE)
                .envs(names.clone()),
        )?;
        Ok(names)
    }

    /// Sees to it that what our own images stand on is there.
    fn base(&self) -> Result<()> {
        if !self.has(BASE_IMAGE) {
            println!("no registry has {BASE_IMAGE}; making it from Debian's packages");
            output(&mut self.script("local-images/base.sh"))?;
        }
        Ok(())
    }

    /// The image of the local account: the one that the environment names, as it is, else ours, from what was just built.
    fn local_account(&self) -> Result<String> {
        if let Some(given) = std::env::var(LOCAL_ACCOUNT).ok().filter(|name| !name.is_empty()) {
            if !self.has(&given) {
                bail!("{LOCAL_ACCOUNT} is {given}, which is neither here nor can be pulled");
            }
            return Ok(given);
        }
        let example = std::fs::read_to_string(root().join("infra/.env.example"))?;
        let name = assignments(&example)
            .remove(LOCAL_ACCOUNT)
            .with_context(|| format!(".env.example does not name {LOCAL_ACCOUNT}"))?;
        self.base()?;
        println!("building {name}");
        output(
            self.script("images/prebuilt.sh")
                .arg("cosmos-local")
                .env("BASE_IMAGE", BASE_IMAGE)
                .env(LOCAL_ACCOUNT, &name),
        )?;
        Ok(name)
    }

    /// Where it listens, for clients that know `DOCKER_HOST` and no contexts; `None`: at the default address.
    fn address(&self) -> Option<String> {
        let given = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or(given).or_else(|| {
            let host = self
                .docker(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
                .ok()?;
            Some(host.trim().to_owned()).filter(|host| !host.is_empty())
        })
    }

    fn script(&self, path: &str) -> Command {
        self.command(root().join("infra").join(path))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(folder) = &self.started {
            println!("stopping the Docker engine");
            if let Err(error) = output(script("engine.sh").arg("stop").arg(folder)) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

fn script(name: &str) -> Command {
    Command::new(root().join("infra/local-images").join(name))
}

/// `docker compose`, or the older `docker-compose`; `None` where there is neither.
fn compose_program() -> Option<&'static [&'static str]> {
    let candidates: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    candidates
        .into_iter()
        .find(|words| output(Command::new(words[0]).args(&words[1..]).arg("version")).is_ok())
}

/// One run of the compose file, taken down when it is dropped.
struct Project<'a> {
    engine: &'a Engine,
    program: &'static [&'static str],
    /// Its name is this process's alone: runs beside each other do not meet.
    name: String,
    environment: PathBuf,
    variables: Vec<String>,
    logs: PathBuf,
}

impl Project<'_> {
    fn compose(&self, args: &[&str]) -> Command {
        let mut command = self.engine.command(self.program[0]);
        command
            .args(&self.program[1..])
            .arg("--env-file")
            .arg(&self.environment)
            .args(["-p", &self.name, "-f"]);
        command.arg(root().join("infra/docker-compose.yaml")).args(args);
        // The caller's variables would go before the file's.
        for variable in &self.variables {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the initializer's image once and returns what it printed.
    fn once(&self, entry: Option<&str>, args: &[&str]) -> Result<String> {
        let mut all = vec!["run", "--rm", "--no-deps", "-T"];
        if let Some(entry) = entry {
            all.extend(["--entrypoint", entry]);
        }
        all.push("init");
        all.extend(args);
        output(&mut self.compose(&all))
    }

    /// State and, once it has ended, exit code of each service.
    fn states(&self) -> Result<BTreeMap<String, (String, i64)>> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let ids = self.engine.docker(&["ps", "-aq", "--filter", &filter])?;
        let mut args = vec!["inspect"];
        args.extend(ids.split_whitespace());
        let all: Value = serde_json::from_str(&self.engine.docker(&args)?)?;
        let containers = all.as_array().map_or(&[][..], Vec::as_slice);
        Ok(containers
            .iter()
            .filter_map(|c| {
                let service = c["Config"]["Labels"]["com.docker.compose.service"]
                    .as_str()?
                    .to_owned();
                let state = c["State"]["Status"].as_str()?.to_owned();
                Some((service, (state, c["State"]["ExitCode"].as_i64()?)))
            })
            .collect())
    }

    /// Fails when a service has ended that must not have, with the end of its log.
    fn check(&self) -> Result<bool> {
        let states = self.states()?;
        for (service, (state, code)) in &states {
            let one_shot = matches!(service.as_str(), "init" | "volumes" | "producer");
            if state == "exited" && (*code != 0 || !one_shot) {
                let log = self.engine_log(service);
                bail!("the service {service} ended with exit code {code}; the end of its log:\n{log}");
            }
        }
        Ok(states.get("producer").is_some_and(|(state, _)| state == "exited"))
    }

    fn engine_log(&self, service: &str) -> String {
        output(&mut self.compose(&["logs", "--no-color", "--tail", "15", service])).unwrap_or_default()
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Ok(text) = output(&mut self.compose(&["logs", "--no-color", "--timestamps"])) {
            let _ = std::fs::write(&self.logs, text);
        }
        println!(
            "removing the containers; their logs stay in {}",
            self.logs.display()
        );
        // In a process group of its own: a second Ctrl-C does not leave half of it behind.
        let mut down = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]);
        if let Err(error) = output(down.process_group(0)) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Runs the demo in containers: finds or starts an engine, pulls or makes the images, brings the compose file up, waits until every
/// order has arrived, verifies, and takes everything down again.
///
/// # Errors
/// What is missing on this machine; a service that ended; no progress for `options.stall` seconds; an order that is not
/// where it must be.
pub fn demo(options: &Options) -> Result<()> {
    if options.kill_taskmanager || options.consumer_down_for > 0 || options.throttle > 0.0 {
        bail!("--kill-taskmanager, --consumer-down-for and --throttle work without --docker only");
    }
    let [variant] = options.variant.variants() else {
        bail!("--variant both works without --docker only");
    };
    let program = compose_program().ok_or_else(|| {
        anyhow!("neither `docker compose` nor docker-compose is there (Debian: apt-get install -y --no-install-recommends docker-compose)")
    })?;
    validate_compose()?;
    // The image of the initializer carries the job jars of both.
    artifacts(&Variant::ALL, Flink::Newest)?;
    let engine = Engine::find()?;
    let example = std::fs::read_to_string(root().join("infra/.env.example"))?;
    let defaults = assignments(&example);
    let home = root().join("target/demo");
    std::fs::create_dir_all(home.join("logs"))?;
    let (flink, consumer) = (free_port()?, free_port()?);
    let mut settings = vec![
        ("PRODUCER_COUNT".to_owned(), options.events.to_string()),
        ("PRODUCER_RATE".to_owned(), options.rate.to_string()),
        (
            "PRODUCER_INVALID_SHARE".to_owned(),
            options.invalid_share.to_string(),
        ),
        ("JOB_VARIANT".to_owned(), variant.name().to_owned()),
        ("JOB_PARALLELISM".to_owned(), options.parallelism.to_string()),
        // Both jobs at a time.
        ("FLINK_SLOTS".to_owned(), (options.parallelism * 2).to_string()),
        (
            "CHECKPOINT_INTERVAL_MS".to_owned(),
            options.checkpoint_interval_ms.to_string(),
        ),
        ("CONSUMER_TRANSPORT".to_owned(), options.transport.clone()),
        ("FLINK_UI_PORT".to_owned(), flink.to_string()),
        ("CONSUMER_PORT".to_owned(), consumer.to_string()),
    ];
    settings.extend(engine.images(&defaults)?);
    let environment = home.join("docker.env");
    std::fs::write(&environment, with_settings(&example, &settings))?;
    let project = Project {
        engine: &engine,
        program,
        name: format!("cosmosflink-demo-{}", std::process::id()),
        environment,
        variables: defaults.keys().cloned().collect(),
        logs: home.join("logs/containers.log"),
    };
    let urls = (
        format!("http://127.0.0.1:{flink}"),
        format!("http://127.0.0.1:{consumer}"),
    );
    println!(
        "starting the containers; Flink's UI: {}, the consumer's page: {}",
        urls.0, urls.1
    );
    let started = Instant::now();
    if let Err(error) = output(&mut project.compose(&["up", "-d", "--no-build"])) {
        if interrupted() {
            bail!("interrupted");
        }
        // What a service that failed has said is more telling than what compose says of it.
        project.check()?;
        return Err(error.context("the containers do not start"));
    }
    println!("everything is up after {:.0} s", started.elapsed().as_secs_f64());
    follow(options, &project, &urls)?;
    if options.keep_running {
        let endpoints = json!({
            "flink": urls.0,
            "consumer": urls.1,
            "dockerHost": engine.host,
            "composeProject": project.name,
            "cosmos": "http://cosmos-local:8081/ within the project's network",
            "cosmosKeyFile": "/run/cosmos/key in each container",
        });
        let file = home.join("endpoints.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&endpoints)?)?;
        println!(
            "everything keeps running; {} says where. Ctrl-C stops it",
            file.display()
        );
        while sleep(Duration::from_secs(2)).is_ok() {
            project.check()?;
        }
    }
    Ok(())
}

/// Shows progress until all is through, verifies, and prints the table.
fn follow(options: &Options, project: &Project<'_>, (flink, consumer): &(String, String)) -> Result<()> {
    let started = Instant::now();
    let (mut progress, mut line, mut last) = (Instant::now(), Instant::now(), 0);
    let produced: Value = loop {
        sleep(Duration::from_millis(500))?;
        let done = project.check()?;
        for job in get(&format!("{flink}/jobs/overview"))?["jobs"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if matches!(job["state"].as_str(), Some("FAILED" | "FAILING" | "CANCELED")) {
                bail!(
                    "the job {} is {}; see its exceptions at {flink}",
                    job["name"],
                    job["state"]
                );
            }
        }
        let unique = get(&format!("{consumer}/stats"))?["unique"].as_u64().unwrap_or(0);
        if unique > last {
            (last, progress) = (unique, Instant::now());
        }
        if line.elapsed() >= Duration::from_secs(2) {
            line = Instant::now();
            println!(
                "{:>5.0} s: arrived {unique}/{}",
                started.elapsed().as_secs_f64(),
                options.events
            );
        }
        if done {
            let produced: Value =
                serde_json::from_str(&project.once(Some("cat"), &["/reports/producer.json"])?)
                    .context("the producer's summary is no JSON")?;
            let number = |name: &str| produced[name].as_u64().unwrap_or(0);
            if unique >= number("acknowledged").saturating_sub(number("invalid")) {
                break produced;
            }
        }
        if progress.elapsed() > Duration::from_secs(options.stall) {
            bail!(
                "no order arrived for {} s; {unique} of {} are there",
                options.stall,
                options.events
            );
        }
    };
    println!("verifying: each order once in every container, and the same ids at the consumer");
    let verdict = project.once(
        None,
        &[
            "verify",
            "--summary",
            "/reports/producer.json",
            "--container",
            "events-processed",
            "--container",
            "events-output",
            "--consumer",
            "http://consumer:8090",
            "--within",
            "60",
        ],
    );
    let dead: Value = serde_json::from_str(&project.once(None, &["count", "--container", "dead-letter"])?)?;
    let stats = get(&format!("{consumer}/stats"))?;
    table(project, &produced, &stats, &dead)?;
    let verdict = verdict.map_err(|e| anyhow!("not everything is where it must be: {e}"))?;
    println!("{}", verdict.trim());
    if dead["documents"] != produced["invalid"] {
        bail!(
            "{} orders were invalid, but the dead-letter container holds {}",
            produced["invalid"],
            dead["documents"]
        );
    }
    let letters = project.once(None, &["dlq", "list", "--json"])?;
    let letters = letters.lines().filter(|line| line.starts_with('{')).count() as u64;
    if dead["documents"] != letters {
        bail!(
            "the dead-letter container holds {}, of which `cosmosflink dlq list` lists {letters}",
            dead["documents"]
        );
    }
    println!("every order arrived");
    Ok(())
}

fn table(project: &Project<'_>, produced: &Value, stats: &Value, dead: &Value) -> Result<()> {
    let mut table = Table::new();
    table.set_header(["", "events", "per second", "p50 ms", "p99 ms"]);
    let mut row = |name: &str, events: &Value, rate: &Value, latency: &Value| {
        let shown = |v: &Value| v.as_f64().map_or_else(String::new, |v| format!("{v:.0}"));
        table.add_row([
            name.to_owned(),
            shown(events),
            shown(rate),
            shown(&latency["p50"]),
            shown(&latency["p99"]),
        ]);
    };
    row(
        "produced",
        &produced["acknowledged"],
        &produced["ratePerSecond"],
        &produced["latencyMillis"],
    );
    row(
        "arrived at the consumer",
        &stats["unique"],
        &stats["ratePerSecond"],
        &stats["latencyMillis"],
    );
    row("dead letters", &dead["documents"], &Value::Null, &Value::Null);
    println!("{table}");
    let filter = format!("label=com.docker.compose.project={}", project.name);
    let ids = project.engine.docker(&["ps", "-q", "--filter", &filter])?;
    let mut args = vec!["stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}"];
    args.extend(ids.split_whitespace());
    let mut memory = Table::new();
    memory.set_header(["container", "memory"]);
    for line in project.engine.docker(&args)?.lines() {
        if let Some((name, usage)) = line.split_once('\t') {
            memory.add_row([name, usage.split(" / ").next().unwrap_or(usage)]);
        }
    }
    println!("{memory}");
    Ok(())
}

/// `NAME=value` lines of an environment file.
fn assignments(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .collect()
}

/// An environment file with other values for some of its variables.
fn with_settings(example: &str, settings: &[(String, String)]) -> String {
    let mut all = assignments(example);
    all.extend(settings.iter().cloned());
    let mut out = String::from("# Written by the runner for one run.\n");
    for (name, value) in all {
        let _ = writeln!(out, "{name}={value}");
    }
    out
}

/// Variables of a compose file, `${NAME:-default}`, with their defaults. Comments do not count.
fn variables(compose: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::<String, String>::new();
    for line in compose.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for piece in line.split("${").skip(1) {
            let inner = piece.split('}').next().unwrap_or_default();
            let Some((name, default)) = inner.split_once(":-") else {
                bail!("{line:?}: a variable without a default; write ${{NAME:-default}}");
            };
            if let Some(other) = found.insert(name.to_owned(), default.to_owned()) {
                if other != default {
                    bail!("{name} has two defaults in the compose file: {other:?} and {default:?}");
                }
            }
        }
    }
    Ok(found)
}

/// Runs the tests of the Java connector on a local account in a container, and sees to it that no container stays behind.
///
/// # Errors
/// [`Skipped`] where no engine answers and none shall be started; a test that failed; a container that was left.
pub fn connector(start_an_engine: bool) -> Result<()> {
    let engine = if start_an_engine {
        Engine::find()?
    } else {
        Engine::answering().ok_or(Skipped(
            "no Docker engine answers; with --docker one is started from Debian's packages",
        ))?
    };
    let _lock = build::lock()?;
    build::account_and_library()?;
    let image = engine.local_account()?;
    let run_id = format!("{}", std::process::id());
    let mut maven = build::maven(&["verify", "-Pcontainer", "-pl", "testcontainers", "-am"]);
    maven
        .env(LOCAL_ACCOUNT, &image)
        .env("COSMOSFLINK_TEST_RUN", &run_id);
    if let Some(address) = engine.address() {
        maven.env("DOCKER_HOST", address);
    }
    if engine.host.is_some() {
        // Our own engine is on this machine, even where this machine looks to Testcontainers like a container beside the engine.
        maven.env("TESTCONTAINERS_HOST_OVERRIDE", "localhost");
    }
    if !engine.has(REAPER) {
        println!("no registry has {REAPER}; the tests stop their containers themselves");
        maven.env("TESTCONTAINERS_RYUK_DISABLED", "true");
    }
    let summary = root().join("java-shim/testcontainers/target/failsafe-reports/failsafe-summary.xml");
    // Maven leaves an earlier one as it is when it finds no test, and calls that a success.
    let _ = std::fs::remove_file(&summary);
    let result = run(&mut maven);
    let filter = format!("label={RUN_LABEL}={run_id}");
    let left = engine.docker(&["ps", "-aq", "--filter", &filter])?;
    let left: Vec<_> = left.split_whitespace().collect();
    if !left.is_empty() {
        engine.docker(&[&["rm", "--force", "--volumes"][..], &left].concat())?;
    }
    result?;
    match completed(&std::fs::read_to_string(&summary).unwrap_or_default()) {
        Some(tests) if tests > 0 => println!("{tests} tests on containers of {image}"),
        _ => bail!("Maven has run no test on a container; see {}", summary.display()),
    }
    if !left.is_empty() {
        bail!(
            "the tests left {} containers behind; they are removed now",
            left.len()
        );
    }
    Ok(())
}

/// Tests that were run to their end, by a summary of Maven's.
fn completed(summary: &str) -> Option<u32> {
    let (_, rest) = summary.split_once("<completed>")?;
    rest.split_once("</completed>")?.0.trim().parse().ok()
}

/// Compares a compose file with the example of its environment: same variables, same defaults.
fn check_variables(compose: &str, example: &str) -> Result<()> {
    let (used, mut explained) = (variables(compose)?, assignments(example));
    // Read by compose itself.
    explained.remove("COMPOSE_PROFILES");
    for (name, default) in &used {
        match explained.remove(name) {
            None => bail!("{name} is used in docker-compose.yaml, but .env.example does not explain it"),
            Some(value) if value != *default => {
                bail!("{name} is {default:?} in docker-compose.yaml and {value:?} in .env.example")
            }
            Some(_) => {}
        }
    }
    match explained.keys().next() {
        Some(name) => bail!("{name} stands in .env.example, but docker-compose.yaml does not use it"),
        None => Ok(()),
    }
}

/// Every build in the compose file names a Dockerfile that exists, and a stage of it.
fn check_builds(compose: &str, root: &Path) -> Result<()> {
    let values = |key: &str| -> Vec<String> {
        compose
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key))
            .map(|v| v.trim().to_owned())
            .collect()
    };
    let mut stages = Vec::new();
    for file in values("dockerfile:") {
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| format!("docker-compose.yaml builds from {file}, which cannot be read"))?;
        stages.extend(
            text.lines()
                .filter(|line| line.starts_with("FROM "))
                .filter_map(|line| line.rsplit_once(" AS "))
                .map(|(_, stage)| stage.trim().to_owned()),
        );
    }
    match values("target:")
        .into_iter()
        .find(|target| !stages.contains(target))
    {
        Some(target) => bail!("docker-compose.yaml builds the stage {target:?}, which no Dockerfile has"),
        None => Ok(()),
    }
}

/// The first line that holds something as long as an account key.
fn key_material(text: &str) -> Option<usize> {
    let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let suspicious = |line: &str| {
        line.split(|c| !of_key(c))
            .any(|word| word.len() >= KEY_LENGTH && word.contains(|c: char| c.is_ascii_digit()))
    };
    text.lines().position(suspicious).map(|at| at + 1)
}

/// Checks `infra/docker-compose.yaml`: its variables against `.env.example`, its builds, no key material in what is versioned
/// of it, and, where Compose is installed, its form. Needs no engine.
///
/// # Errors
/// What is wrong, and in which file.
pub fn validate_compose() -> Result<()> {
    let infra = root().join("infra");
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (compose, example) = (
        read(&infra.join("docker-compose.yaml"))?,
        read(&infra.join(".env.example"))?,
    );
    check_variables(&compose, &example)?;
    check_builds(&compose, &root())?;
    let mut files = vec![infra.join("docker-compose.yaml"), infra.join(".env.example")];
    for folder in ["images", "local-images", "azure"] {
        for entry in std::fs::read_dir(infra.join(folder))? {
            files.push(entry?.path());
        }
    }
    for file in files.iter().filter(|file| file.is_file()) {
        if let Some(line) = key_material(&read(file)?) {
            bail!(
                "{}:{line} looks like a key; secrets belong into files that are not versioned",
                file.display()
            );
        }
    }
    match compose_program() {
        Some(program) => {
            let mut command = Command::new(program[0]);
            command
                .args(&program[1..])
                .arg("--env-file")
                .arg(infra.join(".env.example"))
                .arg("-f");
            output(
                command
                    .arg(infra.join("docker-compose.yaml"))
                    .args(["config", "--quiet"]),
            )
            .context("compose refuses docker-compose.yaml")?;
            println!("docker-compose.yaml is valid ({})", program.join(" "));
        }
        None => println!("docker-compose.yaml is consistent (its form was not checked: no Compose here)"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compose_file_of_the_repository_is_valid() {
        validate_compose().unwrap();
    }

    #[test]
    fn variables_and_their_example_must_agree() {
        let error = |compose, example| check_variables(compose, example).unwrap_err().to_string();
        check_variables("a: ${A:-1}\n# ${C}\n", "COMPOSE_PROFILES=local\n# why\nA=1\n").unwrap();
        assert!(error("a: ${A:-1}", "").contains("A is used"), "not explained");
        assert!(error("a: ${A:-1}", "A=2\n").contains("\"1\""), "another default");
        assert!(error("a: b", "B=2\n").contains("does not use it"), "not used");
        assert!(error("a: ${A}", "A=\n").contains("without a default"));
        assert!(error("a: ${A:-1}${A:-2}", "A=1\n").contains("two defaults"));
    }

    #[test]
    fn a_build_needs_its_file_and_its_stage() {
        let error = check_builds("dockerfile: no/such", &root())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no/such"), "{error}");
        let compose = "  dockerfile: infra/images/Dockerfile\n  target: nobody\n";
        let error = check_builds(compose, &root()).unwrap_err().to_string();
        assert!(error.contains("nobody"), "{error}");
    }

    #[test]
    fn the_local_account_has_one_name() {
        let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
        let name = assignments(&read("infra/.env.example"))[LOCAL_ACCOUNT].clone();
        for (file, text) in [
            (
                "java-shim/testcontainers/src/main/java/io/cosmosflink/testcontainers/CosmosLocalContainer.java",
                format!("DEFAULT_IMAGE = DockerImageName.parse(\"{name}\")"),
            ),
            (
                "infra/images/prebuilt.sh",
                format!("${{{LOCAL_ACCOUNT}:-{name}}}"),
            ),
        ] {
            assert!(read(file).contains(&text), "{file} does not say {text}");
        }
    }

    #[test]
    fn a_run_without_tests_is_told_from_one_with_some() {
        let summary = "<failsafe-summary result=\"null\">\n  <completed>9</completed>\n  <errors>0</errors>";
        assert_eq!(completed(summary), Some(9));
        assert_eq!(completed("<completed>0</completed>"), Some(0));
        assert_eq!(completed(""), None);
    }

    #[test]
    fn keys_are_seen() {
        let key = "Zm9v1+/A".repeat(11);
        assert_eq!(key_material(&format!("a: b\nkey: {key}\n")), Some(2));
        assert_eq!(key_material(&"-".repeat(200)), None);
    }

    #[test]
    fn settings_go_over_the_example() {
        let text = with_settings("# x\nA=1\nB=2\n", &[("B".to_owned(), "3".to_owned())]);
        assert_eq!(assignments(&text), assignments("A=1\nB=3"));
    }
}
