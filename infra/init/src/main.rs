//! Prepares what the pipeline needs, once, and looks at what came of it: containers, jobs, counts.

mod compare;
mod containers;
mod count;
mod documents;
mod flink;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use cosmosflink_producer::connect::prepare_process;

/// One-shot tasks around the pipeline. Results are one line of JSON on standard output each.
///
/// Exit code: 0 done, 1 verify or compare found a difference, 2 an error, said in one line on standard error.
#[derive(Debug, Parser)]
#[command(name = "cosmosflink-init", version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Creates the database and the containers that do not exist yet.
    Create(Box<containers::Args>),
    /// Uploads a job jar to Flink and starts it, unless a job of that name runs already.
    Submit(flink::Args),
    /// Counts the documents of containers, with the digest of their ids.
    Count(count::Args),
    /// Prints the documents of a container, without what the service adds to them.
    Documents(documents::Args),
    /// Compares what was produced with what a container holds and what the consumer got.
    Verify(verify::Args),
    /// Compares two containers document by document.
    Compare(compare::Args),
}

/// An error as one line for the user.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    prepare_process();
    let result = match Args::parse().task {
        Task::Create(args) => with_runtime(containers::create(*args)).map(|()| ExitCode::SUCCESS),
        Task::Count(args) => with_runtime(count::count(args)).map(|()| ExitCode::SUCCESS),
        Task::Documents(args) => with_runtime(documents::documents(args)).map(|()| ExitCode::SUCCESS),
        Task::Verify(args) => with_runtime(verify::verify(args)).map(|same| ExitCode::from(u8::from(!same))),
        Task::Compare(args) => {
            with_runtime(compare::compare(args)).map(|same| ExitCode::from(u8::from(!same)))
        }
        Task::Submit(args) => flink::submit(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cosmosflink-init: {error}");
        ExitCode::from(2)
    })
}

fn with_runtime<T>(task: impl std::future::Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(task);
    // The client has no close of its own; what it still does in the background must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
