//! `dlq show`.

use std::io::Write;

use cosmosflink_core::dead_letters::Filter;

use crate::account::Account;
use crate::text::indented;
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of letters.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// Prints whole letters, in the order in which they were asked for. False when one is not there.
///
/// # Errors
/// Those of the requests.
pub fn run(account: &Account, args: &Args, json: bool) -> Result<bool, Error> {
    let filter = Filter {
        ids: args.ids.clone(),
        ..Filter::default()
    };
    let (found, _) = account.find(&filter, usize::MAX)?;
    let whole = match found.as_slice() {
        [] => Default::default(),
        found => account.read_whole(found)?,
    };
    let (mut out, mut all) = (std::io::stdout().lock(), true);
    for id in &args.ids {
        match whole.get(id) {
            Some(whole) => {
                let text = String::from_utf8_lossy(&whole.json);
                match json {
                    true => writeln!(out, "{text}")?,
                    false => writeln!(out, "{}", indented(&text))?,
                }
            }
            None => {
                all = false;
                eprintln!(
                    "cosmosflink: there is no letter '{id}' in container '{}'",
                    account.letters
                );
            }
        }
    }
    out.flush()?;
    Ok(all)
}
