//! `dlq list`.

use std::io::Write;

use cosmosflink_core::dead_letters::{Filter, Letter};

use crate::account::Account;
use crate::text::{short, table};
use crate::{Error, Which};

/// Most characters of an id of a document, and of a message.
const ID: usize = 40;
const MESSAGE: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only letters of which a replay has left something to do.
    #[arg(long)]
    pending: bool,
}

/// Prints a line for each letter.
///
/// # Errors
/// Those of the query.
pub fn run(account: &Account, args: &Args, json: bool) -> Result<bool, Error> {
    let filter = Filter {
        pending: args.pending,
        ..args.which.filter()
    };
    let (found, others) = account.find(&filter, args.which.limit())?;
    let mut out = std::io::stdout().lock();
    if json {
        for letter in &found {
            out.write_all(&letter.row)?;
            out.write_all(b"\n")?;
        }
    } else {
        let head = [
            "TIME",
            "ID",
            "CONTAINER",
            "OPERATION",
            "REASON",
            "STATUS",
            "DOCUMENT",
            "BYTES",
            "REPLAYED",
            "MESSAGE",
        ];
        let rows = found
            .iter()
            // They were read when they were found.
            .filter_map(|found| Letter::read(&found.row).ok())
            .map(|letter| row(&letter))
            .collect::<Vec<_>>();
        out.write_all(table(head, &rows).as_bytes())?;
    }
    out.flush()?;
    if others > 0 {
        eprintln!(
            "cosmosflink: {others} documents of container '{}' are no dead letters",
            account.letters
        );
    }
    Ok(true)
}

fn row(letter: &Letter) -> [String; 10] {
    let status = match (letter.status, letter.sub_status) {
        (0, _) => "-".to_owned(),
        (status, 0) => status.to_string(),
        (status, sub) => format!("{status}/{sub}"),
    };
    let replayed = letter.replayed.as_ref().map_or("-", |replayed| &replayed.result);
    let bytes = match letter.truncated {
        true => format!("{} (cut)", letter.document_bytes),
        false => letter.document_bytes.to_string(),
    };
    let document = match letter.document_id.as_str() {
        "" => "-",
        id => id,
    };
    [
        short(&letter.time, ID),
        short(&letter.id, ID),
        short(&letter.container, ID),
        short(&letter.operation, ID),
        short(&letter.reason, ID),
        status,
        short(document, ID),
        bytes,
        short(replayed, ID),
        short(&letter.message, MESSAGE),
    ]
}
