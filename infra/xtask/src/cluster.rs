//! A real Flink session cluster: one JobManager and TaskManagers as processes of their own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use serde_json::{json, Value};

use crate::process::{free_port, get_json, output, sleep, Processes};
use crate::root;

/// Packages that Flink opens by reflection on Java 17.
/// Source: `env.java.default-opts.all` of the distribution's own configuration.
const OPENED: [&str; 13] = [
    "java.base/java.math",
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.lang.reflect",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
];

/// Slots, memory and folders of a cluster.
pub struct Layout<'a> {
    /// Folder for configuration, checkpoints and temporary files.
    pub home: &'a Path,
    pub lib: &'a Path,
    /// Of each TaskManager.
    pub slots: u32,
    /// What the first TaskManager's process is called.
    pub taskmanager: &'a str,
    /// A TaskManager that is killed is missed soon: the default is 50 s.
    pub quick_heartbeats: bool,
    /// Environment of both processes: the job's main method runs in the JobManager.
    pub environment: Vec<(String, String)>,
}

/// One task of a job.
pub struct Task {
    pub running: bool,
    /// 0 for the first; more after a failure.
    pub attempt: u64,
    /// Id of the TaskManager that it runs on; empty while it has none.
    pub taskmanager: String,
}

/// A cluster that runs.
pub struct Cluster {
    /// Base URL of the REST interface and the UI, without a slash at the end.
    pub rest: String,
    conf: PathBuf,
    home: PathBuf,
    classpath: String,
    /// The same for Flink's own tools.
    tools: String,
    environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts JobManager and TaskManager and waits for the slots.
    pub fn start(processes: &mut Processes, layout: &Layout<'_>) -> Result<Cluster> {
        let conf = layout.home.join("conf");
        std::fs::create_dir_all(&conf)?;
        for folder in ["checkpoints", "web"] {
            std::fs::create_dir_all(layout.home.join(folder))?;
        }
        for logging in ["log4j.properties", "log4j-client.properties"] {
            std::fs::copy(root().join("infra/flink").join(logging), conf.join(logging))?;
        }
        let rest = free_port()?;
        std::fs::write(
            conf.join("config.yaml"),
            configuration(layout, rest, free_port()?),
        )?;
        let cluster = Cluster {
            rest: format!("http://127.0.0.1:{rest}"),
            conf,
            home: layout.home.to_owned(),
            classpath: format!("{}/*", layout.lib.display()),
            // A full distribution has them in its bin folder.
            tools: format!("{0}/../bin/*:{0}/*", layout.lib.display()),
            environment: layout.environment.clone(),
        };
        cluster.start_process(
            processes,
            "jobmanager",
            "GET_JM_RESOURCE_PARAMS",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            &["--executionMode", "cluster"],
        )?;
        cluster.start_taskmanager(processes, layout.taskmanager)?;
        cluster.wait_for_slots(processes, layout.slots)?;
        Ok(cluster)
    }

    /// Starts a TaskManager, also again after it was killed.
    pub fn start_taskmanager(&self, processes: &mut Processes, name: &str) -> Result<u32> {
        self.start_process(
            processes,
            name,
            "GET_TM_RESOURCE_PARAMS",
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            &[],
        )
    }

    /// Waits until as many slots are registered.
    pub fn wait_for_slots(&self, processes: &mut Processes, slots: u32) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            processes.check()?;
            if let Ok(overview) = self.get("/overview") {
                if overview["slots-total"].as_u64().unwrap_or(0) >= u64::from(slots) {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                bail!("the TaskManager did not register within 120 s; see the logs");
            }
            sleep(Duration::from_millis(200))?;
        }
    }

    fn start_process(
        &self,
        processes: &mut Processes,
        name: &str,
        ask: &str,
        class: &str,
        args: &[&str],
    ) -> Result<u32> {
        std::fs::create_dir_all(self.temporary(name))?;
        // Flink computes the memory of its processes itself and prints JVM flags and dynamic options.
        let text = output(
            Command::new("java")
                .args(["-cp", &self.tools])
                .args([
                    "org.apache.flink.runtime.util.bash.BashJavaUtils",
                    ask,
                    "--configDir",
                ])
                .arg(&self.conf),
        )
        .with_context(|| format!("cannot compute the memory of the {name}"))?;
        let mut results = text
            .lines()
            .filter_map(|l| l.strip_prefix("BASH_JAVA_UTILS_EXEC_RESULT:"));
        let (flags, dynamic) = (results.next().unwrap_or(""), results.next().unwrap_or(""));
        if flags.is_empty() {
            bail!("Flink printed no memory settings for the {name}:\n{text}");
        }
        let mut command = self.java(name, "log4j.properties");
        command.args(flags.split_whitespace());
        command
            .args(["-cp", &self.classpath, class, "--configDir"])
            .arg(&self.conf)
            .args(args);
        command.args(dynamic.split_whitespace());
        processes.start(name, &mut command)
    }

    /// A JVM with all that Flink wants of one.
    fn java(&self, name: &str, logging: &str) -> Command {
        let mut command = Command::new("java");
        command.arg(format!("-Djava.io.tmpdir={}", self.temporary(name).display()));
        command.arg(format!(
            "-Dlog4j.configurationFile=file:{}",
            self.conf.join(logging).display()
        ));
        command.args(OPENED.iter().map(|p| format!("--add-opens={p}=ALL-UNNAMED")));
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    /// A program of Flink's that submits to this cluster, with the jars of a folder beside those of the cluster. It logs into a file of its own,
    /// and not between what it prints.
    pub fn client(&self, name: &str, jars: &Path, class: &str, log: &Path) -> Result<Command> {
        std::fs::create_dir_all(self.temporary(name))?;
        let mut command = self.java(name, "log4j-client.properties");
        command.arg(format!("-Dlog.file={}", log.display()));
        command.arg("-Xmx512m");
        let classpath = format!("{}:{}/*", self.classpath, jars.display());
        command.args(["-cp", &classpath, class]);
        command.env("FLINK_CONF_DIR", &self.conf);
        Ok(command)
    }

    /// The temporary folder of a process.
    pub fn temporary(&self, process: &str) -> PathBuf {
        self.home.join(format!("tmp-{process}"))
    }

    /// GET of the REST interface.
    pub fn get(&self, path: &str) -> Result<Value> {
        get_json(&format!("{}{path}", self.rest), Duration::from_secs(10))
    }

    /// State of a job.
    pub fn state(&self, job: &str) -> Result<String> {
        Ok(self.get(&format!("/jobs/{job}"))?["state"]
            .as_str()
            .unwrap_or("UNKNOWN")
            .to_owned())
    }

    /// The root cause of a job's failure, in its own words.
    pub fn failure(&self, job: &str) -> Option<String> {
        let exceptions = self.get(&format!("/jobs/{job}/exceptions")).ok()?;
        let trace = exceptions["exceptionHistory"]["entries"][0]["stacktrace"].as_str()?;
        let causes: Vec<_> = trace
            .lines()
            .filter_map(|l| l.strip_prefix("Caused by: "))
            .collect();
        Some(
            causes
                .last()
                .copied()
                .or_else(|| trace.lines().next())?
                .to_owned(),
        )
    }

    /// Fails when a job has failed for good.
    pub fn check_job(&self, name: &str, job: &str) -> Result<()> {
        match self.state(job)?.as_str() {
            state @ ("FAILED" | "CANCELED" | "FAILING") => {
                let why = self
                    .failure(job)
                    .unwrap_or_else(|| "see the JobManager's log".to_owned());
                Err(anyhow!("{name} is {state}: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Ids of the TaskManagers that are registered.
    pub fn taskmanagers(&self) -> Result<Vec<String>> {
        let all = self.get("/taskmanagers")?;
        let ids = all["taskmanagers"].as_array().into_iter().flatten();
        Ok(ids.filter_map(|t| t["id"].as_str()).map(str::to_owned).collect())
    }

    /// The tasks of a job, as they are now.
    pub fn tasks(&self, job: &str) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for vertex in self.vertices(job)? {
            let id = vertex["id"].as_str().unwrap_or_default();
            let all = self.get(&format!("/jobs/{job}/vertices/{id}"))?;
            tasks.extend(all["subtasks"].as_array().into_iter().flatten().map(|task| Task {
                running: task["status"] == "RUNNING",
                attempt: task["attempt"].as_u64().unwrap_or(0),
                taskmanager: task["taskmanager-id"].as_str().unwrap_or_default().to_owned(),
            }));
        }
        Ok(tasks)
    }

    /// Waits until every task of a job runs: until then, slots are not taken and libraries not loaded.
    pub fn wait_for_tasks(&self, processes: &mut Processes, job: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            processes.check()?;
            self.check_job("the job", job)?;
            let tasks = self.tasks(job)?;
            if !tasks.is_empty() && tasks.iter().all(|task| task.running) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = self.failure(job).unwrap_or_default();
                bail!("not all tasks of job {job} run after 120 s {why}");
            }
            sleep(Duration::from_millis(100))?;
        }
    }

    /// Stops a job with a savepoint below a folder; returns where it is. What is under way stays in it: nothing is drained.
    pub fn stop_with_savepoint(&self, processes: &mut Processes, job: &str, folder: &Path) -> Result<String> {
        let request = json!({"targetDirectory": format!("file://{}", folder.display()), "drain": false});
        let mut answer = ureq::post(format!("{}/jobs/{job}/stop", self.rest)).send_json(&request)?;
        let trigger: Value = answer.body_mut().read_json()?;
        let trigger = trigger["request-id"]
            .as_str()
            .context("Flink named no savepoint")?
            .to_owned();
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            processes.check()?;
            let savepoint = self.get(&format!("/jobs/{job}/savepoints/{trigger}"))?;
            if savepoint["status"]["id"] == "COMPLETED" {
                let done = &savepoint["operation"];
                let Some(location) = done["location"].as_str() else {
                    bail!(
                        "job {job} made no savepoint: {}",
                        done["failure-cause"]["stack-trace"]
                    );
                };
                self.wait_for_state(processes, job, "FINISHED", Duration::from_secs(60))?;
                return Ok(location.to_owned());
            }
            if Instant::now() > deadline {
                bail!("job {job} did not stop with a savepoint within 120 s");
            }
            sleep(Duration::from_millis(100))?;
        }
    }

    /// Has a job make a checkpoint of its configured kind; returns the number of it.
    pub fn make_checkpoint(&self, processes: &mut Processes, job: &str) -> Result<u64> {
        let request = json!({"checkpointType": "CONFIGURED"});
        let mut answer = ureq::post(format!("{}/jobs/{job}/checkpoints", self.rest)).send_json(&request)?;
        let trigger: Value = answer.body_mut().read_json()?;
        let trigger = trigger["request-id"]
            .as_str()
            .context("Flink named no checkpoint")?
            .to_owned();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            processes.check()?;
            let checkpoint = self.get(&format!("/jobs/{job}/checkpoints/{trigger}"))?;
            if checkpoint["status"]["id"] == "COMPLETED" {
                let done = &checkpoint["operation"];
                return done["checkpointId"].as_u64().with_context(|| {
                    format!(
                        "job {job} made no checkpoint: {}",
                        done["failureCause"]["stack-trace"]
                    )
                });
            }
            if Instant::now() > deadline {
                bail!("job {job} made no checkpoint within 60 s");
            }
            sleep(Duration::from_millis(50))?;
        }
    }

    /// Where the latest `completed` or `restored` checkpoint of a job is, once it is the one of a number.
    pub fn checkpoint(
        &self,
        processes: &mut Processes,
        job: &str,
        kind: &str,
        number: Option<u64>,
    ) -> Result<String> {
        // Flink renews what it tells of checkpoints every three seconds.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            processes.check()?;
            let mut all = self.get(&format!("/jobs/{job}/checkpoints"))?;
            let latest = all["latest"][kind].take();
            if let Some(path) = latest["external_path"].as_str() {
                if number.is_none_or(|number| latest["id"].as_u64() == Some(number)) {
                    return Ok(path.to_owned());
                }
            }
            if Instant::now() > deadline {
                bail!("the latest {kind} checkpoint of job {job} is {latest} and not {number:?}");
            }
            sleep(Duration::from_millis(100))?;
        }
    }

    /// Waits for a state of a job.
    pub fn wait_for_state(
        &self,
        processes: &mut Processes,
        job: &str,
        wanted: &str,
        within: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            processes.check()?;
            let state = self.state(job)?;
            if state == wanted {
                return Ok(());
            }
            if matches!(state.as_str(), "FAILED" | "CANCELED" | "FINISHED") || Instant::now() > deadline {
                let why = self.failure(job).unwrap_or_default();
                bail!("job {job} is {state} and not {wanted} {why}");
            }
            sleep(Duration::from_millis(100))?;
        }
    }

    /// Waits until a job has ended in whatever way.
    pub fn wait_for_end(&self, processes: &mut Processes, job: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !matches!(self.state(job)?.as_str(), "FAILED" | "CANCELED" | "FINISHED") {
            processes.check()?;
            if Instant::now() > deadline {
                bail!("job {job} does not end");
            }
            sleep(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Cancels a job.
    pub fn cancel(&self, job: &str) -> Result<()> {
        ureq::patch(format!("{}/jobs/{job}?mode=cancel", self.rest)).send_empty()?;
        Ok(())
    }

    fn vertices(&self, job: &str) -> Result<Vec<Value>> {
        let mut details = self.get(&format!("/jobs/{job}"))?;
        match details["vertices"].take() {
            Value::Array(vertices) => Ok(vertices),
            _ => Ok(Vec::new()),
        }
    }

    /// Sum of a job's metrics whose names `wanted` takes, over all its subtasks; 0 while there are none.
    pub fn sum(&self, job: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        let vertices = self.vertices(job).unwrap_or_default();
        vertices
            .iter()
            .filter_map(|v| v["id"].as_str())
            .map(|vertex| {
                self.sum_of_vertex(
                    &format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics"),
                    &wanted,
                )
                .unwrap_or(0.0)
            })
            .sum()
    }

    fn sum_of_vertex(&self, path: &str, wanted: &impl Fn(&str) -> bool) -> Result<f64> {
        let all = self.get(path)?;
        let names = all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["id"].as_str());
        // Names hold blanks and signs that a query must not.
        let names: Vec<_> = names.filter(|n| wanted(n)).map(query_value).collect();
        if names.is_empty() {
            return Ok(0.0);
        }
        let values = self.get(&format!("{path}?agg=sum&get={}", names.join(",")))?;
        Ok(values
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["sum"].as_f64())
            .sum())
    }
}

fn query_value(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._".contains(&b) {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn configuration(layout: &Layout<'_>, rest: u16, rpc: u16) -> String {
    let file = |folder: &str| layout.home.join(folder).display().to_string();
    let mut out = String::from("# Written by the runner.\n");
    for (key, value) in [
        ("jobmanager.rpc.address", "localhost".to_owned()),
        ("jobmanager.rpc.port", rpc.to_string()),
        ("jobmanager.bind-host", "localhost".to_owned()),
        ("jobmanager.memory.process.size", "1024m".to_owned()),
        ("taskmanager.host", "localhost".to_owned()),
        ("taskmanager.bind-host", "localhost".to_owned()),
        ("taskmanager.numberOfTaskSlots", layout.slots.to_string()),
        ("taskmanager.memory.process.size", "1728m".to_owned()),
        ("taskmanager.memory.managed.size", "64m".to_owned()),
        ("rest.address", "localhost".to_owned()),
        ("rest.bind-address", "localhost".to_owned()),
        ("rest.port", rest.to_string()),
        ("web.upload.dir", file("web")),
        (
            "execution.checkpointing.dir",
            format!("file://{}", file("checkpoints")),
        ),
        // Jars of ended jobs go soon; the default keeps them for an hour.
        ("blob.service.cleanup.interval", "5".to_owned()),
        ("metrics.fetcher.update-interval", "200".to_owned()),
    ] {
        let _ = writeln!(out, "{key}: {value}");
    }
    if layout.quick_heartbeats {
        out.push_str("heartbeat.interval: 2000\nheartbeat.timeout: 10000\n");
    }
    out
}
