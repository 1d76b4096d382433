//! Every test of the repository, in one command.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::build;
use crate::demo;
use crate::leaks;
use crate::mistakes;
use crate::process::run as run_command;
use crate::root;

/// What to leave out.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Leave out what needs a running cluster: end to end, faults, leaks.
    #[arg(long)]
    pub fast: bool,
}

/// Runs the checks in order and stops at the first that fails. What the runners print is shown as it is.
pub fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let cargo = |args: &[&str]| run_command(Command::new("cargo").args(args).current_dir(root()));
    let demo = |change: &dyn Fn(&mut demo::Options)| {
        let mut options = demo::Options {
            events: 3000,
            rate: 0,
            parallelism: 2,
            keep_running: false,
            docker: false,
            account: false,
            checkpoint_interval_ms: 500,
            transport: "http".to_owned(),
            invalid_share: 0.0,
            consumer_down_for: 0,
            kill_taskmanager: false,
            throttle: 0.0,
            stall: 120,
        };
        change(&mut options);
        demo::run(&options)
    };
    let mut steps: Vec<(&str, Box<dyn Fn() -> Result<()>>)> = vec![
        ("preflight", Box::new(build::preflight)),
        ("format", Box::new(|| cargo(&["fmt", "--all", "--check"]))),
        ("shipped library", Box::new(build::cargo)),
        (
            "lints",
            Box::new(|| {
                cargo(&[
                    "clippy",
                    "--quiet",
                    "--release",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ])
            }),
        ),
        (
            "Rust tests",
            Box::new(|| cargo(&["test", "--release", "--workspace", "--no-fail-fast"])),
        ),
        (
            "Java tests",
            Box::new(|| run_command(&mut build::maven(&["verify"]))),
        ),
    ];
    if !options.fast {
        steps.extend([
            (
                "end to end over HTTP, with invalid orders",
                Box::new(|| demo(&|o| o.invalid_share = 0.02)) as Box<dyn Fn() -> Result<()>>,
            ),
            (
                "end to end over TCP, throttled",
                Box::new(|| {
                    demo(&|o| {
                        o.transport = "tcp".to_owned();
                        o.throttle = 0.1;
                    })
                }),
            ),
            (
                "a TaskManager is killed",
                Box::new(|| demo(&|o| (o.kill_taskmanager, o.rate, o.events) = (true, 400, 6000))),
            ),
            (
                "a consumer is down",
                Box::new(|| demo(&|o| o.consumer_down_for = 8)),
            ),
            ("mistakes of the user", Box::new(mistakes::run)),
            (
                "submit and cancel",
                Box::new(|| leaks::run(&leaks::Options { rounds: 5 })),
            ),
        ]);
    }
    for (name, step) in &steps {
        println!("\n== {name}");
        let began = Instant::now();
        step().with_context(|| format!("the check '{name}' failed"))?;
        println!("== {name}: passed in {:.0} s", began.elapsed().as_secs_f64());
    }
    println!(
        "\nall {} checks passed in {:.0} s",
        steps.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
