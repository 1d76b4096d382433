//! Every test of the repository, in one command.

use std::process::Command;
use std::time::Instant;

use anyhow::{bail, Result};

use crate::build;
use crate::build::{Flink, Variant};
use crate::demo::{self, Choice};
use crate::docker;
use crate::faults;
use crate::leaks;
use crate::mistakes;
use crate::process::{output, run as run_command};
use crate::root;
use crate::savepoints::{self, Handover};
use crate::sdks;
use crate::simulate;
use crate::sql;
use crate::Skipped;

/// What to leave out.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Leave out what needs a running cluster or a container engine: end to end, faults, leaks.
    #[arg(long)]
    pub fast: bool,
    /// Where no Docker engine answers, start Debian's for the check on a container, and stop it afterwards.
    #[arg(long)]
    pub docker: bool,
    /// Only the checks whose names contain this text.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// A check: its name and what it does.
type Step = (&'static str, fn() -> Result<()>);

fn cargo(args: &[&str]) -> Result<()> {
    run_command(Command::new("cargo").args(args).current_dir(root()))
}

/// A small demo, changed in what it is to show.
pub fn pipeline(change: impl FnOnce(&mut demo::Options)) -> Result<()> {
    let mut options = demo::Options {
        variant: Choice::Java,
        flink: Flink::Newest,
        distribution: false,
        record: false,
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
        unrest: None,
        stall: 120,
    };
    change(&mut options);
    demo::run(&options)
}

/// The crates of the repository.
const CRATES: [&str; 11] = [
    "cosmosflink-core",
    "cosmosflink-cli",
    "cosmosflink-producer",
    "cosmosflink-consumer",
    "cosmosflink-init",
    "cosmosflink-bench",
    "cosmosflink-fuzz",
    "cosmosflink-sdks",
    "cosmosflink-sim",
    "cosmos-local",
    "xtask",
];

/// The tests of all crates. Dependencies are those of every other build; the crates themselves are compiled without optimisation, in
/// a third of the time, and with their debug assertions (docs/adr/0008).
fn rust_tests() -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--workspace", "--no-fail-fast"]);
    for name in CRATES {
        for setting in ["opt-level=0", "debug-assertions=true"] {
            command.args(["--config", &format!("profile.release.package.{name}.{setting}")]);
        }
    }
    run_command(command.current_dir(root()))
}

/// Fetches what the checks on a cluster need, while the compiler has the processors. A failure shows again where the thing is needed.
fn fetch_ahead() -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| {
        let _ = Flink::Newest.lib();
        let _ = Flink::Oldest.lib();
        if build::can_fetch_distribution() {
            let _ = Flink::Distribution.lib();
            let _ = build::sql_tools();
        }
    })
}

const CHECKS: &[Step] = &[
    ("preflight", build::preflight),
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("shipped library", build::cargo),
    ("lints", || {
        let to_clippy = [
            "clippy",
            "--quiet",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        cargo(&to_clippy)
    }),
    ("dependencies", || {
        if output(Command::new("cargo").args(["deny", "--version"])).is_err() {
            return Err(Skipped("there is no cargo-deny (cargo install cargo-deny --locked)").into());
        }
        // Not the advisories: their database comes over the network.
        cargo(&[
            "deny",
            "--locked",
            "--workspace",
            "check",
            "licenses",
            "bans",
            "sources",
        ])
    }),
    ("Rust tests", rust_tests),
    ("simulation", || simulate::run(&simulate::Options::default())),
    ("Java tests", || {
        // The tests have just put a library of their own in the place of the shipped one.
        build::cargo()?;
        let _lock = build::lock()?;
        // The benchmarks have no tests, and are only compiled.
        run_command(&mut build::maven(&["verify", "-Pbenches"]))
    }),
    ("SDKs of the vendors", || match sdks::lacks() {
        Some(reason) => Err(Skipped(reason).into()),
        None => sdks::run(),
    }),
    ("Scala format, tests and job jar", || {
        let _lock = build::lock()?;
        // The jobs of README.md and docs/bounded.md are compiled with the tests.
        let shown = ["OrdersJob", "BoundedJobs"].map(|job| {
            let source = root().join(format!("tests/readme/{job}.scala"));
            format!("file(\"{}\")", source.display())
        });
        let with_readme = format!(
            "set connector / Test / unmanagedSources ++= Seq({})",
            shown.join(", ")
        );
        // The job of docs/sql.md needs the jar for SQL.
        build::sql_jar()?;
        let tasks = [
            "scalafmtCheckAll",
            "scalafmtSbtCheck",
            "test",
            "sql/test",
            "jobs/assembly",
        ];
        run_command(&mut build::sbt(&[&[with_readme.as_str()][..], &tasks].concat())?)
    }),
    ("both jars on other versions of Flink", || {
        let _lock = build::lock()?;
        // The job jars hold the connectors, so what they name is looked at too.
        let built = Variant::ALL
            .map(Variant::jar)
            .into_iter()
            .filter(|jar| jar.is_file());
        let jars: Vec<_> = built.map(|jar| jar.display().to_string()).collect();
        let more = format!("-Dcosmosflink.more-jars={}", jars.join(":"));
        let goals = ["verify", "-Pcompatibility", "-pl", "compatibility", "-am", &more];
        run_command(&mut build::maven(&goals))?;
        run_command(&mut build::sbt(&["compatibility/test"])?)
    }),
];

/// Its name, and what it does without and with an engine of our own.
const ON_AN_ENGINE: [&[Step]; 2] = [
    &[(ON_A_CONTAINER, || docker::connector(false))],
    &[(ON_A_CONTAINER, || docker::connector(true))],
];
const ON_A_CONTAINER: &str = "the connector on a container";

/// The seed of a run in which most of it meets: see the plan that `cargo xtask demo --unrest` prints as it goes.
const UNREST: u64 = 1;

/// Skips what needs the full distribution where it cannot be had.
fn on_the_distribution() -> Result<()> {
    if build::can_fetch_distribution() {
        return Ok(());
    }
    Err(Skipped(
        "the distribution comes through pip, and there is none (Debian: apt-get install python3-pip)",
    )
    .into())
}

const ON_A_CLUSTER: &[Step] = &[
    ("Java end to end over HTTP, with invalid orders", || {
        pipeline(|o| o.invalid_share = 0.02)
    }),
    ("Java end to end over TCP, throttled", || {
        pipeline(|o| {
            o.transport = "tcp".to_owned();
            o.throttle = 0.1;
        })
    }),
    (
        "Scala end to end over TCP, throttled, with invalid orders",
        || {
            pipeline(|o| {
                o.variant = Choice::Scala;
                o.transport = "tcp".to_owned();
                o.throttle = 0.1;
                o.invalid_share = 0.02;
            })
        },
    ),
    ("Java and Scala side by side", || {
        pipeline(|o| o.variant = Choice::Both)
    }),
    ("Java and Scala side by side on Flink 1.20", || {
        pipeline(|o| (o.variant, o.flink) = (Choice::Both, Flink::Oldest))
    }),
    ("Scala on the full distribution", || {
        on_the_distribution()?;
        pipeline(|o| (o.variant, o.distribution) = (Choice::Scala, true))
    }),
    ("SQL on the full distribution", || {
        on_the_distribution()?;
        sql::check()
    }),
    ("savepoints from Java to Scala and back", || {
        savepoints::run(&savepoints::Options {
            route: vec![Variant::Java, Variant::Scala, Variant::Java],
            from: Handover::Savepoint,
            orders: 1500,
            rate: 300,
            earlier: None,
        })
    }),
    ("retained checkpoints from Java to Scala and back", || {
        savepoints::run(&savepoints::Options {
            route: vec![Variant::Java, Variant::Scala, Variant::Java],
            from: Handover::Checkpoint,
            orders: 600,
            rate: 300,
            earlier: None,
        })
    }),
    (
        "a TaskManager is killed under Java's jobs while partitions split and merge",
        || faults::round(Variant::Java, UNREST),
    ),
    (
        "a TaskManager is killed under Scala's jobs while partitions split and merge",
        || faults::round(Variant::Scala, UNREST),
    ),
    ("a consumer is down", || pipeline(|o| o.consumer_down_for = 8)),
    ("mistakes of the user", mistakes::run),
    ("submit and cancel, Java and Scala in turns", || {
        leaks::run(&leaks::Options {
            rounds: 6,
            variant: Choice::Both,
        })
    }),
];

/// Runs the checks in order and stops at the first that fails. What the runners print is shown as it is.
pub fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let (on_an_engine, on_a_cluster) = match options.fast {
        true => (&[][..], &[][..]),
        false => (ON_AN_ENGINE[usize::from(options.docker)], ON_A_CLUSTER),
    };
    let wanted = |step: &&Step| options.only.as_deref().is_none_or(|text| step.0.contains(text));
    let checks: Vec<_> = CHECKS
        .iter()
        .chain(on_an_engine)
        .chain(on_a_cluster)
        .filter(wanted)
        .collect();
    if checks.is_empty() {
        bail!(
            "no check is called {:?}",
            options.only.as_deref().unwrap_or_default()
        );
    }
    let mut ahead = (!options.fast && options.only.is_none()).then(fetch_ahead);
    let mut skipped = 0;
    for (name, check) in &checks {
        // Maven's repository does not bear two processes.
        if !matches!(
            *name,
            "preflight" | "format" | "shipped library" | "lints" | "dependencies" | "Rust tests"
        ) {
            if let Some(ahead) = ahead.take() {
                let _ = ahead.join();
            }
        }
        println!("\n== {name}");
        let began = Instant::now();
        match check() {
            Ok(()) => println!("== {name}: passed in {:.0} s", began.elapsed().as_secs_f64()),
            Err(e) if e.is::<Skipped>() => {
                skipped += 1;
                println!("== {name}: {e}");
            }
            Err(e) => return Err(e.context(format!("the check '{name}' failed"))),
        }
    }
    let passed = checks.len() - skipped;
    println!("\nin {:.0} s", started.elapsed().as_secs_f64());
    println!("checks: {passed} passed, 0 failed, {skipped} skipped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::process::output;
    use crate::root;

    fn read(file: &str) -> String {
        std::fs::read_to_string(root().join(file)).unwrap()
    }

    /// The lines between two marks.
    fn between(text: &str, begin: &str, end: &str) -> Vec<String> {
        let (_, rest) = text.split_once(begin).unwrap();
        let lines = rest.split_once(end).unwrap().0.trim_end().lines().skip(1);
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn the_test_of_the_local_accounts_readme_is_the_one_that_runs() {
        let shown = between(&read("tests/cosmos-local/README.md"), "```java", "```");
        let run = between(
            &read("java-shim/testcontainers/src/test/java/io/cosmosflink/testcontainers/OrdersITCase.java"),
            "// readme:begin",
            "// readme:end",
        );
        assert!(shown.len() > 10);
        assert_eq!(shown, run);
    }

    #[test]
    fn every_crate_of_the_repository_is_named() {
        let manifest = read("Cargo.toml");
        let (_, members) = manifest.split_once("members = [").unwrap();
        let members = members.split_once(']').unwrap().0;
        assert_eq!(members.split(',').count(), super::CRATES.len(), "{members}");
    }

    #[test]
    fn every_crate_is_checked_for_the_same() {
        let listed = output(
            Command::new("git")
                .args(["ls-files", "--", "*/Cargo.toml"])
                .current_dir(root()),
        )
        .unwrap();
        assert!(listed.lines().count() >= super::CRATES.len());
        for manifest in listed.lines() {
            let inherits = read(manifest).contains("\n[lints]\nworkspace = true\n");
            assert!(inherits, "{manifest} does not take the workspace's lints");
        }
    }

    /// It changes tokio for whatever is built together with it.
    #[test]
    fn only_the_simulation_is_built_with_tokios_test_util() {
        let manifest = read("Cargo.toml");
        let (_, members) = manifest.split_once("members = [").unwrap();
        let members = members.split_once(']').unwrap().0;
        for member in members.split(',').map(|m| m.trim().trim_matches('"')) {
            let manifest = read(&format!("{member}/Cargo.toml"));
            let shipped = manifest.split("[dev-dependencies]").next().unwrap();
            assert_eq!(
                shipped.contains("test-util\"]"),
                member == "tests/sim",
                "{member}"
            );
        }
    }

    #[test]
    fn the_jobs_of_the_readme_are_the_ones_that_are_compiled() {
        for (language, indent) in [("java", "    "), ("scala", "  ")] {
            let shown = between(&read("README.md"), &format!("```{language}"), "```");
            let compiled: Vec<_> = between(
                &read(&format!("tests/readme/OrdersJob.{language}")),
                "// readme:begin",
                "// readme:end",
            )
            .iter()
            .map(|line| line.strip_prefix(indent).unwrap_or(line).to_owned())
            .collect();
            assert_eq!(shown, compiled, "{language}");
        }
    }

    #[test]
    fn the_scala_of_the_page_about_sql_is_what_runs() {
        let shown = between(&read("docs/sql.md"), "```scala", "```");
        let run: Vec<_> = between(
            &read("tests/readme/OrdersSql.scala"),
            "// readme:begin",
            "// readme:end",
        )
        .iter()
        .map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned())
        .collect();
        assert!(shown.len() > 10);
        assert_eq!(shown, run);
    }

    #[test]
    fn the_code_of_the_page_about_reading_that_ends_is_compiled() {
        let page = read("docs/bounded.md");
        for (language, indents) in [("java", 8), ("scala", 4)] {
            let compiled = read(&format!("tests/readme/BoundedJobs.{language}"));
            let blocks: Vec<_> = page.split(&format!("```{language}\n")).skip(1).collect();
            assert_eq!(blocks.len(), 4, "{language}");
            for block in blocks {
                let (block, _) = block.split_once("```").unwrap();
                let stands = (0..=indents).any(|indent| {
                    let indented = block.lines().map(|line| match line {
                        "" => "\n".to_owned(),
                        line => format!("{}{line}\n", " ".repeat(indent)),
                    });
                    compiled.contains(&indented.collect::<String>())
                });
                assert!(stands, "{language}: not in tests/readme:\n{block}");
            }
        }
    }
}
