//! The project's runner: builds everything, starts a whole pipeline on this machine, verifies it, and runs all tests.

mod bench;
mod build;
mod checks;
mod cluster;
mod demo;
mod docker;
mod faults;
mod flat;
mod fuzz;
mod latency;
mod leaks;
mod mistakes;
mod pipeline;
mod process;
mod report;
mod rows;
mod savepoints;
mod sdks;
mod simulate;
mod sink_peers;
mod speed;
mod sql;
mod unrest;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs, verifies and tests cosmosflink.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole pipeline, from the producer through Cosmos DB and Flink to the consumer, and verifies it.
    Demo(demo::Options),
    /// Runs every test of the repository: formats, lints, unit, integration, end to end, faults.
    Test(checks::Options),
    /// Runs the pipeline through faults that meet in other ways with each seed: partitions split and merge, a TaskManager is killed, requests
    /// are throttled, while writers go on.
    Faults(faults::Options),
    /// Submits and cancels a job again and again on one TaskManager, and counts what is left behind.
    Leaks(leaks::Options),
    /// Hands the running jobs from one variant to the other through savepoints, and verifies that nothing is lost or repeated;
    /// or through retained checkpoints, and verifies that nothing is lost.
    Savepoints(savepoints::Options),
    /// Measures the connector on a TaskManager beside plain loops over the driver and beside the SDK for Java, or the latency of both jobs.
    Bench(bench::Options),
    /// Runs the core against model services in simulated time, with failures, by the thousand; prints a plan that repeats what fails.
    Simulate(simulate::Options),
    /// Looks for plans and documents of which the core makes wrong rows, by libFuzzer over tests/fuzz.
    Fuzz(fuzz::Options),
    /// Starts a Flink cluster and a local account, and leaves the user in Flink's SQL client with the tables of infra/sql/tables.sql.
    Sql(sql::Options),
    /// Builds everything and fetches Flink's jars, without running anything.
    Build,
    /// Runs Maven in java-shim over a core that is up to date, such as `cargo xtask mvn -pl connector -am test -Dtest=SerializersTest`.
    Mvn(Passed),
    /// Runs sbt in scala-shim over a natives jar that is up to date, such as `cargo xtask sbt "connector/testOnly *JsonSpec"`.
    Sbt(Passed),
}

/// What another program gets as it stands.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = process::handle_signals() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let result = match args.command {
        Command::Demo(options) if options.docker => docker::demo(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => checks::run(&options),
        Command::Faults(options) => faults::run(&options),
        Command::Leaks(options) => leaks::run(&options),
        Command::Savepoints(options) => savepoints::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sql(options) => sql::run(&options),
        Command::Build => build::everything(),
        Command::Mvn(passed) => build::run_maven(&passed.arguments),
        Command::Sbt(passed) => build::run_sbt(&passed.arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why a check cannot be made here. It counts as neither passed nor failed.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
pub struct Skipped(pub &'static str);

/// The repository's root.
pub fn root() -> PathBuf {
    // This crate lies two folders below it.
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .components()
        .collect::<PathBuf>()
        .join("../..")
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from("."))
}
