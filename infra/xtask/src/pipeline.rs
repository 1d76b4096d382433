//! What every run stands on: an account, a Flink cluster, and the jobs on it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use serde_json::Value;

use crate::build::{artifacts, Artifacts, Flink, Variant};
use crate::cluster::{Cluster, Layout};
use crate::process::{free_port, get_json, output, ready, Processes};
use crate::root;

/// Physical partitions of each container of the local account.
const PARTITIONS: u32 = 4;

/// Containers by variable, default name, partition key path and the option of the jobs.
const CONTAINERS: [(&str, &str, &str, &str); 5] = [
    (SOURCE, "events-source", "/customerId", "--job.source-container"),
    (TARGET, "events-processed", "/region", "--job.target-container"),
    (OUTPUT, "events-output", "/region", "--job.output-container"),
    (
        DEAD_LETTERS,
        "dead-letter",
        "/container",
        "--job.dead-letter-container",
    ),
    (LEASES, "cosmos-leases", "/id", "--scan.lease.container"),
];

/// Variables that name the containers.
pub const SOURCE: &str = "COSMOS_SOURCE_CONTAINER";
pub const TARGET: &str = "COSMOS_TARGET_CONTAINER";
pub const OUTPUT: &str = "COSMOS_OUTPUT_CONTAINER";
pub const DEAD_LETTERS: &str = "COSMOS_DEAD_LETTER_CONTAINER";
const LEASES: &str = "COSMOS_LEASE_CONTAINER";

/// The containers of one pipeline.
#[derive(Clone, Debug)]
pub struct Containers {
    suffix: String,
    /// One that has another name, by its variable.
    instead: Option<(&'static str, String)>,
}

impl Containers {
    /// Those that the environment names, or the usual ones, each with an ending.
    pub fn ending(suffix: &str) -> Containers {
        Containers {
            suffix: suffix.to_owned(),
            instead: None,
        }
    }

    /// The same, but for one.
    pub fn with(&self, variable: &'static str, name: &str) -> Containers {
        Containers {
            instead: Some((variable, name.to_owned())),
            ..self.clone()
        }
    }

    /// Name of the container that a variable stands for.
    pub fn name(&self, variable: &str) -> String {
        if let Some((_, name)) = self.instead.as_ref().filter(|i| i.0 == variable) {
            return name.clone();
        }
        let default = CONTAINERS.iter().find(|c| c.0 == variable).map_or("", |c| c.1);
        let given = std::env::var(variable).ok().filter(|v| !v.is_empty());
        given.unwrap_or_else(|| default.to_owned()) + &self.suffix
    }

    /// The variables, for the producer and the initializer.
    pub fn environment(&self) -> Vec<(String, String)> {
        let all = CONTAINERS.iter();
        all.map(|c| (c.0.to_owned(), self.name(c.0))).collect()
    }

    /// The options, for the jobs; without those that the jobs of an earlier version do not know, and refuse.
    fn arguments(&self, earlier: bool) -> Vec<String> {
        let known = CONTAINERS.iter().filter(|c| !earlier || c.0 != LEASES);
        known.flat_map(|c| [c.3.to_owned(), self.name(c.0)]).collect()
    }
}

/// Starts a local account, over https where asked; returns the environment of everything that connects to it, and its endpoint. `more` are
/// arguments of the server beside those of the pipeline, such as `--container NAME:PATH:PARTITIONS`.
pub fn local_account(
    bin: &Path,
    home: &Path,
    processes: &mut Processes,
    tls: bool,
    more: &[String],
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
    let name = if tls { "cosmos-local-tls" } else { "cosmos-local" };
    let (key, file) = (home.join("account-key"), home.join(format!("{name}.json")));
    let authority = home.join("authority.pem");
    let mut command = Command::new(bin.join("cosmos-local"));
    command
        .args(["--listen", "127.0.0.1:0", "--database", "orders", "--key-file"])
        .arg(&key);
    command.arg("--ready-file").arg(&file);
    if tls {
        command.arg("--tls").arg("--tls-ca").arg(&authority);
    }
    for (_, name, path, _) in CONTAINERS {
        command
            .arg("--container")
            .arg(format!("{name}:{path}:{PARTITIONS}"));
    }
    command.args(more);
    processes.start(name, &mut command)?;
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
    if tls {
        // Where the vendor's driver looks for authorities, used as it is.
        environment.push(set("SSL_CERT_FILE", &authority.display().to_string()));
        environment.push(set("NODE_EXTRA_CA_CERTS", &authority.display().to_string()));
        let store = home.join("authority.p12");
        trust_store(&authority, &store)?;
        let option = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}",
            store.display()
        );
        environment.push(set("JAVA_TOOL_OPTIONS", &option));
    }
    Ok((environment, endpoint))
}

/// A store wants a password, also where it holds nothing that is secret.
const STORE_PASSWORD: &str = "changeit";

/// Makes the store in which a JVM looks for the authorities that it trusts.
fn trust_store(authority: &Path, store: &Path) -> Result<()> {
    let mut keytool = Command::new("keytool");
    keytool
        .args([
            "-importcert",
            "-noprompt",
            "-alias",
            "local",
            "-storetype",
            "PKCS12",
        ])
        .args(["-storepass", STORE_PASSWORD, "-file"])
        .arg(authority)
        .arg("-keystore")
        .arg(store);
    output(&mut keytool).map(drop)
}

/// The environment of a real account: the user's own. A key is moved into a file of this run, so that it is never part of a job.
pub fn account_environment(home: &Path) -> Result<Vec<(String, String)>> {
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

fn create(built: &Artifacts, environment: &[(String, String)], containers: &Containers) -> Result<()> {
    let mut command = built.binary("cosmosflink-init");
    command
        .args(["create", "--wait", "20"])
        .envs(environment.iter().cloned())
        .envs(containers.environment());
    output(&mut command).map(drop)
}

/// What a run needs.
pub struct Setup<'a> {
    /// Its folder below `target`.
    pub name: &'a str,
    /// With the real account of the environment.
    pub account: bool,
    /// Slots of each TaskManager.
    pub slots: u32,
    /// Whose job jars.
    pub variants: &'a [Variant],
    /// Sets of containers that are made.
    pub containers: Vec<Containers>,
    /// What it runs on.
    pub flink: Flink,
    /// What the process of the first TaskManager is called.
    pub taskmanager: &'a str,
    /// With heartbeats that miss a killed TaskManager soon.
    pub quick_heartbeats: bool,
    /// The local account is reached over https.
    pub tls: bool,
    /// More arguments of the local account.
    pub account_arguments: Vec<String>,
}

impl<'a> Setup<'a> {
    /// The usual: local account, one TaskManager, the usual containers.
    pub fn new(name: &'a str, slots: u32, variants: &'a [Variant]) -> Setup<'a> {
        Setup {
            name,
            account: false,
            slots,
            variants,
            containers: vec![Containers::ending("")],
            flink: Flink::Newest,
            taskmanager: "taskmanager",
            quick_heartbeats: true,
            tls: false,
            account_arguments: Vec::new(),
        }
    }
}

/// One of the two jobs.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    Sink,
    Source,
}

impl Job {
    const fn class(self) -> &'static str {
        match self {
            Job::Sink => "FlinkCosmosSinkJob",
            Job::Source => "FlinkCosmosSourceJob",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Job::Sink => "cosmosflink-sink",
            Job::Source => "cosmosflink-source",
        }
    }
}

/// How a job is started.
pub struct Submission<'a> {
    pub variant: Variant,
    /// The jar of another version; `None`: the one that was just built.
    pub jar: Option<&'a Path>,
    pub job: Job,
    pub containers: &'a Containers,
    pub parallelism: u32,
    pub checkpoint_interval_ms: u64,
    /// Where it goes on.
    pub savepoint: Option<&'a str>,
}

/// What runs, once it runs.
pub struct Pipeline {
    pub processes: Processes,
    pub cluster: Cluster,
    pub environment: Vec<(String, String)>,
    pub built: Artifacts,
    pub home: PathBuf,
    /// Base URL of the local account; `None` with a real one.
    pub local: Option<String>,
}

impl Pipeline {
    /// Builds everything and starts account and cluster; creates the containers.
    pub fn launch(setup: &Setup<'_>) -> Result<Pipeline> {
        let built = artifacts(setup.variants, setup.flink)?;
        let home = root().join("target").join(setup.name);
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
        }
        std::fs::create_dir_all(&home)?;
        let mut processes = Processes::new(home.join("logs"))?;
        let (mut environment, local) = if setup.account {
            (account_environment(&home)?, None)
        } else {
            println!("starting the local account");
            let more = &setup.account_arguments;
            let (environment, endpoint) = local_account(&built.bin, &home, &mut processes, setup.tls, more)?;
            (environment, Some(endpoint))
        };
        println!("creating what is missing of database and containers");
        for containers in &setup.containers {
            create(&built, &environment, containers)?;
        }
        if let Some(first) = setup.containers.first() {
            environment.extend(first.environment());
        }
        println!(
            "starting Flink {}{}: a JobManager and a TaskManager",
            setup.flink.version(),
            match setup.flink {
                Flink::Distribution => ", the full distribution",
                Flink::Newest | Flink::Oldest => "",
            }
        );
        let layout = Layout {
            home: &home,
            lib: &built.flink_lib,
            slots: setup.slots,
            taskmanager: setup.taskmanager,
            quick_heartbeats: setup.quick_heartbeats,
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

    /// Creates what is missing of more containers.
    pub fn create(&self, containers: &Containers) -> Result<()> {
        create(&self.built, &self.environment, containers)
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

    /// Documents of a container.
    pub fn count(&self, container: &str) -> Result<u64> {
        let count: Value = serde_json::from_str(&self.init(&["count", "--container", container])?)?;
        count["documents"]
            .as_u64()
            .with_context(|| format!("no count in {count}"))
    }

    /// Starts a job; returns its id.
    pub fn submit(&self, start: &Submission<'_>, more: &[String]) -> Result<String> {
        let name = start.job.name().to_owned() + &start.containers.suffix;
        let mut arguments = vec!["--job.name".to_owned(), name];
        arguments.extend(start.containers.arguments(start.jar.is_some()));
        arguments.push("--job.checkpoint-interval-ms".to_owned());
        arguments.push(start.checkpoint_interval_ms.to_string());
        arguments.extend_from_slice(more);
        let class = format!("{}.{}", start.variant.package(), start.job.class());
        self.submit_jar_from(
            &start.jar.map_or_else(|| start.variant.jar(), Path::to_owned),
            &class,
            start.parallelism,
            start.savepoint,
            &arguments,
        )
    }

    /// Submits a job of any jar through the REST interface; returns its id.
    pub fn submit_jar(
        &self,
        jar: &Path,
        class: &str,
        parallelism: u32,
        arguments: &[String],
    ) -> Result<String> {
        self.submit_jar_from(jar, class, parallelism, None, arguments)
    }

    fn submit_jar_from(
        &self,
        jar: &Path,
        class: &str,
        parallelism: u32,
        savepoint: Option<&str>,
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
            "--parallelism",
            &parallelism,
        ];
        if let Some(savepoint) = savepoint {
            args.extend(["--savepoint", savepoint]);
        }
        args.push("--program-args");
        args.extend(arguments.iter().map(String::as_str));
        let answer: Value =
            serde_json::from_str(&self.init(&args)?).context("the initializer printed no JSON")?;
        let id = answer["jobId"].as_str().map(str::to_owned);
        id.ok_or_else(|| anyhow!("no job id in {answer}"))
    }

    /// The first job alone, with options of its own.
    pub fn submit_sink_job(&self, variant: Variant, more: &[String]) -> Result<String> {
        let start = Submission {
            variant,
            jar: None,
            job: Job::Sink,
            containers: &Containers::ending(""),
            parallelism: 1,
            checkpoint_interval_ms: 1000,
            savepoint: None,
        };
        self.submit(&start, more)
    }

    /// A producer that is ready to be started.
    pub fn producer(&self, containers: &Containers, args: &[&str], summary: &Path) -> Command {
        let mut command = self.built.binary("cosmosflink-producer");
        command
            .args(args)
            .args(["--quiet", "--summary-file"])
            .arg(summary);
        command
            .envs(self.environment.clone())
            .envs(containers.environment());
        command
    }

    /// Folder of this run.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

/// JSON of a server of this run.
pub fn get(url: &str) -> Result<Value> {
    get_json(url, Duration::from_secs(5))
}

/// The consumer of a pipeline.
pub struct Consumer {
    /// Base URL.
    pub http: String,
    http_address: String,
    tcp_address: String,
    /// What its process is called.
    name: String,
}

impl Consumer {
    /// Takes its addresses, without starting it.
    pub fn reserve(name: &str) -> Result<Consumer> {
        let address = || -> Result<String> { Ok(format!("127.0.0.1:{}", free_port()?)) };
        let (http_address, tcp_address) = (address()?, address()?);
        Ok(Consumer {
            http: format!("http://{http_address}"),
            http_address,
            tcp_address,
            name: name.to_owned(),
        })
    }

    pub fn start(&self, pipeline: &mut Pipeline) -> Result<()> {
        let file = pipeline.home.join(format!("{}.json", self.name));
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
        pipeline.processes.start(&self.name, &mut command)?;
        ready(&mut pipeline.processes, &file, Duration::from_secs(20))?;
        println!("the page of the {}: {}", self.name, self.http);
        Ok(())
    }

    /// What it has got so far.
    pub fn stats(&self) -> Result<Value> {
        get(&format!("{}/stats", self.http))
    }

    /// Orders that have arrived, each counted once.
    pub fn unique(&self) -> Result<u64> {
        Ok(self.stats()?["unique"].as_u64().unwrap_or(0))
    }

    /// The options of a job that delivers to it.
    pub fn arguments(&self, transport: &str) -> Vec<String> {
        [
            "--job.transport",
            transport,
            "--job.consumer-url",
            &format!("{}/events", self.http),
            "--job.consumer-tcp",
            &self.tcp_address,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}
