//! The command line of cosmosflink: dead letters are listed, shown and replayed. What a letter is and what becomes of one, the core decides;
//! here is what is typed and what is printed.

mod account;
mod list;
mod progress;
mod replay;
mod show;
mod stop;
mod text;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cosmosflink_core::dead_letters::{nanos, operations, reasons, Filter};

use account::Account;

/// Tools around the connector of Flink for Azure Cosmos DB.
///
/// The account is taken from the environment, as by the jobs: COSMOS_URI, COSMOS_DB, COSMOS_KEY_FILE or another way to sign in;
/// docs/configuration.md lists all. Exit code: 0 all done, 1 some failed or were not found, 2 wrong usage, or no connection.
#[derive(Debug, Parser)]
#[command(name = "cosmosflink", version)]
struct Args {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Dead letters: what the service refused, kept with its reason.
    Dlq(DeadLetters),
}

#[derive(Debug, clap::Args)]
struct DeadLetters {
    /// Container of the letters. Without it that of the sink (COSMOS_SINK_DEAD_LETTER_CONTAINER), else that of the jobs
    /// (COSMOS_DEAD_LETTER_CONTAINER), else dead-letter.
    #[arg(long, global = true, value_name = "CONTAINER")]
    letters: Option<String>,
    /// An option of the connector, before the environment, such as request-timeout=10000; may be repeated.
    #[arg(long = "option", global = true, value_name = "NAME=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
    /// Objects of JSON, one a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Lists letters, the oldest first, a line each.
    List(list::Args),
    /// Shows whole letters, with their documents.
    Show(show::Args),
    /// Writes the documents of letters again, as their operations say, and marks these letters. None is ever deleted.
    Replay(replay::Args),
}

/// Which letters are meant: those for which all of it holds.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// Letters that name this container; may be repeated.
    #[arg(long, value_name = "CONTAINER")]
    container: Vec<String>,
    /// Letters with this kind of failure, such as Conflict; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = reason)]
    reason: Vec<String>,
    /// Letters of this operation, such as upsert; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = operation)]
    operation: Vec<String>,
    /// Refused at this time or later, such as 2026-11-26T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Refused before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
    /// So many letters at most, the first in the order in which they are replayed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            containers: self.container.clone(),
            reasons: self.reason.clone(),
            operations: self.operation.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            ..Filter::default()
        }
    }

    fn limit(&self) -> usize {
        self.limit
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, such as http2=false")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> Result<String, String> {
    match nanos(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a time of RFC 3339, such as 2026-11-26T10:00:00Z".to_owned()),
    }
}

/// One of these words, in their spelling.
fn among(text: &str, words: Vec<String>) -> Result<String, String> {
    let expected = || format!("expected one of {}", words.join(", "));
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.cloned().ok_or_else(expected)
}

fn reason(text: &str) -> Result<String, String> {
    among(text, reasons())
}

fn operation(text: &str) -> Result<String, String> {
    among(text, operations())
}

/// An error as one line for the user.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    prepare_process();
    let Tool::Dlq(args) = Args::parse().tool;
    if let Err(error) = stop::handle_signals() {
        return complain(&error);
    }
    let account = match Account::new(&args.options, args.letters.as_deref()) {
        Ok(account) => account,
        Err(error) => return complain(&error),
    };
    let result = match &args.task {
        Task::List(task) => list::run(&account, task, args.json),
        Task::Show(task) => show::run(&account, task, args.json),
        Task::Replay(task) => replay::run(&account, task, args.json),
    };
    match result {
        Ok(all_done) => ExitCode::from(u8::from(!all_done)),
        // Whoever reads what is printed has had enough, as `head` has.
        Err(error) if text::is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &Error) -> ExitCode {
    eprintln!("cosmosflink: {}", text::visible(&error.to_string()));
    ExitCode::from(2)
}

/// Sets what has to be set in the environment before the first thread starts.
fn prepare_process() {
    for (name, value) in [
        // The driver asks the cloud's metadata address for its region; off Azure that only costs seconds at the start.
        ("COSMOS_DISABLE_IMDS", "1"),
        // A backtrace for each header that is absent costs more than the request.
        ("RUST_LIB_BACKTRACE", "0"),
    ] {
        if std::env::var_os(name).is_none() {
            std::env::set_var(name, value);
        }
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "off,cosmosflink=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn words_are_taken_in_any_case_and_others_named() {
        assert_eq!(reason("conflict"), Ok("Conflict".to_owned()));
        assert_eq!(operation("UPSERT"), Ok("upsert".to_owned()));
        assert!(operation("process").is_ok());
        assert!(reason("Oops").unwrap_err().contains("TooLarge"));
        assert!(time("yesterday").is_err());
        assert!(time("2026-11-26T10:00:00+01:00").is_ok());
        assert_eq!(option("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(option("a").is_err());
    }
}
