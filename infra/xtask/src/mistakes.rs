//! What the user sees when something is set up wrongly: one clear message, soon, and never a secret in it.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};

use crate::build::Variant;
use crate::pipeline::{Pipeline, Setup};
use crate::process::{free_port, sleep};

/// How long a job may take to say what is wrong.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// A wrong key, base64 as a key must be. Its text must show up nowhere.
const WRONG_KEY: &str = "dGhpcyBpcyBub3QgdGhlIGtleQ==";

/// Submits the first job with one wrong option at a time, and expects to be told.
pub fn run() -> Result<()> {
    let mut pipeline = Pipeline::launch(&Setup::new("mistakes", 2, &Variant::ALL))?;
    let wrong_key = pipeline.home().join("wrong-key");
    std::fs::write(&wrong_key, WRONG_KEY)?;
    let cases: [(&str, &str, String, &str); 4] = [
        (
            "a wrong key",
            "--auth.key-file",
            wrong_key.display().to_string(),
            "401",
        ),
        (
            "a missing container",
            "--job.source-container",
            "no-such-container".to_owned(),
            "no-such-container",
        ),
        (
            "a dead endpoint",
            "--endpoint",
            format!("http://127.0.0.1:{}/", free_port()?),
            "cannot connect",
        ),
        (
            "an unknown option",
            "--endpont",
            "http://127.0.0.1/".to_owned(),
            "endpoint",
        ),
    ];
    let of_each = cases
        .iter()
        .flat_map(|case| Variant::ALL.map(|variant| (variant, case)));
    for (variant, (name, option, value, expected)) in of_each {
        let began = Instant::now();
        let arguments = [*option, value, "--request-timeout", "5000"].map(str::to_owned);
        let told = match pipeline.submit_sink_job(variant, &arguments) {
            Err(refused) => refused.to_string(),
            Ok(job) => {
                let told = first_failure(&mut pipeline, &job)?;
                let _ = pipeline.cluster.cancel(&job);
                pipeline.cluster.wait_for_end(&mut pipeline.processes, &job)?;
                told
            }
        };
        println!(
            "{}, {name}, after {:.1} s: {told}",
            variant.name(),
            began.elapsed().as_secs_f64()
        );
        if !told.contains(expected) {
            bail!(
                "{}: with {name} the message does not say '{expected}'",
                variant.name()
            );
        }
    }
    for (name, _) in pipeline.processes.pids() {
        let log = std::fs::read_to_string(pipeline.home().join("logs").join(format!("{name}.log")))?;
        if log.contains(WRONG_KEY) {
            bail!("the key shows up in the log of the {name}");
        }
    }
    Ok(())
}

fn first_failure(pipeline: &mut Pipeline, job: &str) -> Result<String> {
    let until = Instant::now() + TOLD_WITHIN;
    while Instant::now() < until {
        pipeline.processes.check()?;
        if let Some(why) = pipeline.cluster.failure(job) {
            return Ok(why);
        }
        sleep(Duration::from_millis(200))?;
    }
    bail!(
        "the job is {} and says nothing after {} s",
        pipeline.cluster.state(job)?,
        TOLD_WITHIN.as_secs()
    )
}
