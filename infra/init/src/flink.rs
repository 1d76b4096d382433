//! `submit`: a job jar to a session cluster, through its REST interface.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use ureq::unversioned::multipart::Form;
use ureq::{Agent, Body};

use crate::Error;

/// Which job to start where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Base URL of the JobManager's REST interface.
    #[arg(long, env = "FLINK_REST_URL", default_value = "http://127.0.0.1:8081")]
    flink: String,
    /// The job jar.
    #[arg(long)]
    jar: PathBuf,
    /// Main class of the job.
    #[arg(long)]
    entry_class: String,
    /// Name of the job: when a job of this name has not ended, nothing is submitted.
    #[arg(long)]
    name: Option<String>,
    /// Parallelism; without it, the cluster's default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    parallelism: Option<u32>,
    /// Savepoint or retained checkpoint to start from.
    #[arg(long)]
    savepoint: Option<String>,
    /// Seconds to wait for the JobManager to answer and a TaskManager to be there.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Arguments of the job's main method; everything that follows belongs to them.
    #[arg(long, num_args = 1.., allow_hyphen_values = true)]
    program_args: Vec<String>,
}

#[derive(Deserialize)]
struct Overview {
    taskmanagers: u32,
}

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    jid: String,
    name: String,
    state: String,
}

#[derive(Deserialize)]
struct Uploaded {
    filename: String,
}

#[derive(Deserialize)]
struct Started {
    jobid: String,
}

/// Submits the job and prints `{"jobId": .., "submitted": ..}`; `submitted` is false when it was running already.
///
/// # Errors
/// A jar that cannot be read, a cluster that does not answer in time, and what Flink says against the job.
pub fn submit(args: &Args) -> Result<(), Error> {
    let flink = Flink::new(&args.flink);
    flink.await_task_manager(Duration::from_secs(args.wait))?;
    if let Some(name) = &args.name {
        let jobs: Jobs = flink.get("/jobs/overview")?;
        if let Some(job) = jobs
            .jobs
            .into_iter()
            .find(|job| job.name == *name && !ended(&job.state))
        {
            eprintln!("cosmosflink-init: job {name:?} is there already ({})", job.state);
            println!("{}", json!({"jobId": job.jid, "submitted": false}));
            return Ok(());
        }
    }
    let form = Form::new()
        .file("jarfile", &args.jar)
        .map_err(|e| format!("cannot read the jar {}: {e}", args.jar.display()))?;
    let uploaded: Uploaded = read(
        "/jars/upload",
        flink.agent.post(flink.url("/jars/upload")).send(form),
    )?;
    let jar = uploaded.filename.rsplit('/').next().unwrap_or_default();
    let run = format!("/jars/{jar}/run");
    let started: Result<Started, Error> =
        read(&run, flink.agent.post(flink.url(&run)).send_json(request(args)));
    // The job keeps its own copy; without this, every submission would leave a jar behind. A failure costs only disk.
    let _ = flink.agent.delete(flink.url(&format!("/jars/{jar}"))).call();
    let id = started?.jobid;
    println!("{}", json!({"jobId": id, "submitted": true}));
    if let Some(name) = &args.name {
        let job: Value = flink.get(&format!("/jobs/{id}"))?;
        if job["name"] != name.as_str() {
            eprintln!(
                "cosmosflink-init: the job calls itself {}: with that as --name it is not started twice",
                job["name"]
            );
        }
    }
    Ok(())
}

fn request(args: &Args) -> Value {
    let mut request = json!({"entryClass": args.entry_class, "programArgsList": args.program_args});
    if let Some(parallelism) = args.parallelism {
        request["parallelism"] = json!(parallelism);
    }
    if let Some(savepoint) = &args.savepoint {
        request["savepointPath"] = json!(savepoint);
    }
    if let Some(name) = &args.name {
        request["flinkConfiguration"] = json!({"pipeline.name": name});
    }
    request
}

fn ended(state: &str) -> bool {
    matches!(state, "FINISHED" | "CANCELED" | "FAILED")
}

struct Flink {
    agent: Agent,
    base: String,
}

impl Flink {
    fn new(base: &str) -> Self {
        // The body of an error says what Flink has against the request. Starting a job's main method takes its time.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        Self {
            agent: config.build().into(),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1{path}", self.base)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        read(path, self.agent.get(self.url(path)).call())
    }

    fn await_task_manager(&self, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        loop {
            let problem = match self.get::<Overview>("/overview") {
                Ok(overview) if overview.taskmanagers > 0 => return Ok(()),
                Ok(_) => "it has no TaskManager".to_owned(),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Err(format!(
                    "Flink at {} is not ready after {} s: {problem}",
                    self.base,
                    wait.as_secs()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn read<T: DeserializeOwned>(
    path: &str,
    answer: Result<ureq::http::Response<Body>, ureq::Error>,
) -> Result<T, Error> {
    let mut answer = answer.map_err(|e| format!("{path}: {e}"))?;
    let status = answer.status();
    let body = answer
        .body_mut()
        .read_to_string()
        .map_err(|e| format!("{path}: cannot read the answer: {e}"))?;
    if !status.is_success() {
        return Err(format!("{path}: Flink answered {}: {}", status.as_u16(), reason(&body)).into());
    }
    serde_json::from_str(&body)
        .map_err(|e| format!("{path}: not the answer of a Flink JobManager: {e}").into())
}

/// The innermost cause in the stack trace that Flink sends, in one line.
fn reason(body: &str) -> String {
    let errors: Value = serde_json::from_str(body).unwrap_or_default();
    let text: Vec<&str> = errors["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let text = text.join("\n");
    let cause = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("Caused by: "));
    let line = cause
        .or_else(|| text.lines().find(|l| !l.trim().is_empty()))
        .unwrap_or(body);
    line.trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        Cli::parse_from([&["x", "--entry-class", "a.Main"], line].concat()).args
    }

    #[test]
    fn the_request_carries_what_was_given_and_no_more() {
        let jar = ["--jar", "x.jar"];
        assert_eq!(
            request(&args(&jar)),
            json!({"entryClass": "a.Main", "programArgsList": []})
        );
        let all = [
            &jar[..],
            &[
                "--name",
                "n",
                "--parallelism",
                "2",
                "--savepoint",
                "s3://x",
                "--program-args",
                "--key",
                "-1",
                "--jar",
            ],
        ];
        assert_eq!(
            request(&args(&all.concat())),
            json!({"entryClass": "a.Main", "programArgsList": ["--key", "-1", "--jar"], "parallelism": 2,
                "savepointPath": "s3://x", "flinkConfiguration": {"pipeline.name": "n"}})
        );
    }

    #[test]
    fn the_innermost_cause_is_shown() {
        let body = json!({"errors": ["Internal server error.", "<Exception on server side:\na.B: outer\n\tat c.d\n\
            Caused by: e.F: middle\n\tat g.h\nCaused by: i.J: the key is missing\n\tat k.l\n"]});
        assert_eq!(reason(&body.to_string()), "i.J: the key is missing");
        assert_eq!(reason(r#"{"errors":["Not found: /v1/x"]}"#), "Not found: /v1/x");
        assert_eq!(reason("<html>"), "<html>");
    }

    /// Answers each request in turn with the next body and hands out what was asked.
    fn server(bodies: Vec<(u16, &'static str)>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (send, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for (status, body) in bodies {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    request.extend_from_slice(&buffer[..n]);
                }
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
                send.send(String::from_utf8_lossy(&request).into_owned()).unwrap();
            }
        });
        (url, requests)
    }

    fn submit_to(url: &str, jar: &str) -> Result<(), Error> {
        submit(&args(&[
            "--flink", url, "--jar", jar, "--name", "orders", "--wait", "5",
        ]))
    }

    #[test]
    fn a_job_that_runs_already_is_left_alone() {
        let jobs = r#"{"jobs":[{"jid":"1","name":"orders","state":"FAILED"},{"jid":"2","name":"orders","state":"RUNNING"}]}"#;
        let (url, requests) = server(vec![
            (200, r#"{"taskmanagers":0}"#),
            (200, r#"{"taskmanagers":1}"#),
            (200, jobs),
        ]);
        // The jar does not even have to exist.
        submit_to(&url, "missing.jar").unwrap();
        let asked: Vec<String> = requests
            .iter()
            .map(|r| r.lines().next().unwrap().to_owned())
            .collect();
        assert_eq!(
            asked,
            [
                "GET /v1/overview HTTP/1.1",
                "GET /v1/overview HTTP/1.1",
                "GET /v1/jobs/overview HTTP/1.1"
            ]
        );
    }

    #[test]
    fn a_jar_is_uploaded_run_and_removed() {
        let jar = std::env::temp_dir().join(format!("cosmosflink-submit-{}.jar", std::process::id()));
        std::fs::write(&jar, "JARBYTES").unwrap();
        let (url, requests) = server(vec![
            (200, r#"{"taskmanagers":1}"#),
            (
                200,
                r#"{"jobs":[{"jid":"1","name":"orders","state":"CANCELED"}]}"#,
            ),
            (
                200,
                r#"{"filename":"/tmp/web/flink-web-upload/7_x.jar","status":"success"}"#,
            ),
            (200, r#"{"jobid":"abc"}"#),
            (200, "{}"),
            (200, r#"{"name":"orders"}"#),
        ]);
        let result = submit_to(&url, jar.to_str().unwrap());
        std::fs::remove_file(&jar).unwrap();
        result.unwrap();
        let asked: Vec<String> = requests.iter().collect();
        assert!(asked[2].starts_with("POST /v1/jars/upload ") && asked[2].contains("JARBYTES"));
        assert!(
            asked[2].contains("name=\"jarfile\"") && asked[2].contains(".jar\""),
            "{}",
            asked[2]
        );
        assert!(asked[3].starts_with("POST /v1/jars/7_x.jar/run ") && asked[3].contains("a.Main"));
        assert!(asked[4].starts_with("DELETE /v1/jars/7_x.jar "));
    }

    #[test]
    fn what_flink_says_is_passed_on() {
        let (url, _requests) = server(vec![
            (200, r#"{"taskmanagers":1}"#),
            (500, r#"{"errors":["a: b"]}"#),
        ]);
        let error = submit_to(&url, "missing.jar").unwrap_err().to_string();
        assert_eq!(error, "/jobs/overview: Flink answered 500: a: b");
    }
}
