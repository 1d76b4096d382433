//! `dlq replay`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use cosmosflink_core::dead_letters::{marked, Filter, Letter, Outcome as Told, Replay};
use cosmosflink_core::error::CoreError;
use cosmosflink_core::sink::{NewOperation, OperationKind};
use serde_json::json;

use crate::account::{Account, Found, Whole};
use crate::progress::Progress;
use crate::text::{short, visible};
use crate::writer::{Outcome, Writer};
use crate::{stop, Error, Which};

/// Letters, and bytes of their documents, that are read, written and marked at a time.
const LETTERS: usize = 500;
const BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of letters; without any, those that the filters take.
    #[arg(value_name = "ID", conflicts_with_all = ["container", "reason", "operation", "since", "until", "limit"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Writes into this container of the same database, and not into those that the letters name.
    #[arg(long, value_name = "CONTAINER")]
    to: Option<String>,
    /// Also letters of which a replay has left nothing to do.
    #[arg(long)]
    again: bool,
    /// Writes whatever version of a document is there, also where the operation, or one of a batch, named an ETag. All else that its
    /// strategy asks for stays, and so do the conditions of patches.
    #[arg(long)]
    ignore_etags: bool,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// What becomes of a letter.
enum End {
    Done,
    /// Its strategy leaves what is there.
    Superseded,
    WouldBe,
    LeftOut,
    /// It cannot be replayed.
    Refused(String),
    /// The service refused its operation again, or its mark.
    Failed(String),
    Unknown(String),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            End::Done => "done",
            End::Superseded => "superseded",
            End::WouldBe => "would-replay",
            End::LeftOut => "left-out",
            End::Refused(_) => "refused",
            End::Failed(_) => "failed",
            End::Unknown(_) => "unknown",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            End::Done | End::WouldBe => None,
            End::Superseded => Some("what is there is not what the operation expected, so that its strategy left it as it is and nothing was written"),
            End::LeftOut => Some("it was replayed before; --again replays it once more"),
            End::Refused(why) | End::Failed(why) | End::Unknown(why) => Some(why),
        }
    }
}

/// Ends of letters are told and counted here.
struct Report {
    json: bool,
    to: Option<String>,
    /// By name.
    counts: BTreeMap<&'static str, usize>,
    progress: Progress,
}

impl Report {
    fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn failed(&self) -> usize {
        ["failed", "refused", "unknown"]
            .map(|name| self.count(name))
            .iter()
            .sum()
    }

    fn tick(&mut self) {
        let through = self.counts.values().sum();
        let failed = self.failed();
        self.progress.tell(through, failed);
    }

    /// Takes the end of a letter in. What cannot be printed stops nothing: what was written must be marked.
    fn end(&mut self, id: &str, letter: Option<&Letter>, end: &End) {
        *self.counts.entry(end.name()).or_default() += 1;
        let to = letter.map(|letter| self.to.as_deref().unwrap_or(&letter.container));
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut line = json!({"id": id, "result": end.name()});
            if let (Some(letter), Some(to)) = (letter, to) {
                line["operation"] = letter.operation.as_str().into();
                line["container"] = to.into();
                line["documentId"] = letter.document_id.as_str().into();
                line["partitionKey"] = letter.partition_key.as_str().into();
            }
            if let Some(why) = end.why() {
                line["message"] = why.into();
            }
            let _ = writeln!(out, "{line}");
        } else if !matches!(end, End::Done) {
            self.progress.end();
            let what = letter.map_or_else(String::new, |letter| {
                format!(
                    ", {} of document '{}' with partition key {} in container '{}'",
                    letter.operation,
                    short(&letter.document_id, 80),
                    short(&letter.partition_key, 80),
                    visible(to.unwrap_or_default()),
                )
            });
            let why = end
                .why()
                .map_or_else(String::new, |why| format!(": {}", visible(why)));
            let _ = writeln!(out, "{id} {}{what}{why}", end.name().replace('-', " "));
        }
    }

    /// Says what was done in all.
    fn summary(&mut self) {
        self.progress.end();
        let counts = [
            "done",
            "superseded",
            "would-replay",
            "failed",
            "refused",
            "unknown",
            "left-out",
        ]
        .map(|name| (name, self.count(name)));
        let mut out = std::io::stdout().lock();
        let _ = if self.json {
            let mut summary =
                json!({"interrupted": stop::asked(), "seconds": self.progress.elapsed().as_secs_f64()});
            for (name, count) in counts {
                summary[name] = count.into();
            }
            writeln!(out, "{}", json!({ "summary": summary }))
        } else {
            let words = |(name, count): (&str, usize)| match name {
                "done" => format!("{count} replayed"),
                "would-replay" => format!("{count} would be replayed"),
                "refused" => format!("{count} cannot be replayed"),
                "left-out" => format!("{count} left out"),
                "unknown" => format!("{count} of unknown fate"),
                name => format!("{count} {name}"),
            };
            let shown = |(name, count): &(&str, usize)| *count > 0 || *name == "done";
            let words: Vec<_> = counts.into_iter().filter(shown).map(words).collect();
            let interrupted = if stop::asked() { "; interrupted" } else { "" };
            writeln!(out, "{}{interrupted}", words.join(", "))
        };
        let _ = out.flush();
    }
}

/// Replays letters, the oldest first. True when all of them were carried out, or were before.
///
/// # Errors
/// When the letters cannot be read.
pub fn run(account: &Account, args: &Args, json: bool) -> Result<bool, Error> {
    let filter = Filter {
        ids: args.ids.clone(),
        // One that is named is looked at, and told that it is left out.
        pending: args.ids.is_empty() && !args.again,
        ..args.which.filter()
    };
    let (found, _) = account.find(&filter, args.which.limit())?;
    let mut report = Report {
        json,
        to: args.to.clone(),
        counts: BTreeMap::new(),
        progress: Progress::new(found.len(), args.quiet || args.dry_run),
    };
    for id in args.ids.iter().filter(|id| found.iter().all(|f| f.id != **id)) {
        let why = format!("there is no such letter in container '{}'", account.letters);
        report.end(id, None, &End::Refused(why));
    }
    let read = if args.dry_run {
        dry(&found, args, &mut report);
        Ok(())
    } else {
        let mut run = Run {
            account,
            args,
            writers: HashMap::new(),
            marks: None,
        };
        let read = run.all(&found, &mut report);
        run.close();
        read
    };
    report.summary();
    read?;
    Ok(report.failed() == 0 && !stop::asked())
}

/// What would be done, as far as lists tell: what a document is like shows when it is read.
fn dry(found: &[Found], args: &Args, report: &mut Report) {
    for found in found {
        let letter = Letter::read(&found.row);
        let end = match &letter {
            Err(why) => End::Refused(why.clone()),
            Ok(letter) if letter.is_settled() && !args.again => End::LeftOut,
            Ok(letter) => letter
                .hindrance(args.ignore_etags)
                .map_or(End::WouldBe, End::Refused),
        };
        report.end(&found.id, letter.as_ref().ok(), &end);
    }
}

/// A replay that goes on.
struct Run<'a> {
    account: &'a Account,
    args: &'a Args,
    /// Those of containers that cannot be written to say why.
    writers: HashMap<String, Result<Writer, CoreError>>,
    /// Writes into the container of the letters; opened with the first mark.
    marks: Option<Writer>,
}

/// A letter whose operation is being written.
struct Sent<'a> {
    found: &'a Found,
    whole: &'a Whole,
    replay: Replay,
}

impl Run<'_> {
    fn all(&mut self, found: &[Found], report: &mut Report) -> Result<(), Error> {
        let mut rest = found;
        while !rest.is_empty() && !stop::asked() {
            let mut bytes = 0;
            let fits = |found: &&Found| {
                bytes += found.document_bytes;
                bytes <= BYTES
            };
            let count = rest.iter().take(LETTERS).take_while(fits).count().max(1);
            let (part, behind) = rest.split_at(count);
            rest = behind;
            match self.account.read_whole(part) {
                Ok(whole) => self.part(part, &whole, report)?,
                // Nothing of it was begun.
                Err(_) if stop::asked() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the documents of some letters, and marks them.
    fn part(
        &mut self,
        part: &[Found],
        whole: &HashMap<String, Whole>,
        report: &mut Report,
    ) -> Result<(), Error> {
        // In the order of their times, so that of several writes of one document the last one stays.
        let mut by_container: BTreeMap<&str, Vec<Sent<'_>>> = BTreeMap::new();
        for found in part {
            let Some(whole) = whole.get(&found.id) else {
                report.end(
                    &found.id,
                    None,
                    &End::Refused("it was deleted meanwhile".to_owned()),
                );
                continue;
            };
            let letter = &whole.letter;
            if letter.is_settled() && !self.args.again {
                report.end(&found.id, Some(letter), &End::LeftOut);
                continue;
            }
            let container = self.args.to.as_deref().unwrap_or(&letter.container);
            match letter.replay(container, self.args.ignore_etags) {
                Err(why) => report.end(&found.id, Some(letter), &End::Refused(why)),
                Ok(replay) => {
                    let sent = Sent { found, whole, replay };
                    by_container.entry(container).or_default().push(sent);
                }
            }
        }
        let mut submitted = Vec::new();
        for (container, sent) in by_container {
            let account = self.account;
            let writer = self
                .writers
                .entry(container.to_owned())
                .or_insert_with(|| Writer::open(account, container));
            let operations: Vec<_> = sent.iter().map(|sent| sent.replay.operation()).collect();
            let begun = match writer {
                Ok(writer) => writer.submit(&operations),
                Err(error) => Err(error.clone()),
            };
            match begun {
                Ok(()) => submitted.push((container, sent)),
                Err(error) => {
                    for sent in sent {
                        let end = End::Failed(error.to_string());
                        report.end(&sent.found.id, Some(&sent.whole.letter), &end);
                    }
                }
            }
        }
        let mut outcomes = Vec::new();
        for (container, sent) in submitted {
            let Some(Ok(writer)) = self.writers.get_mut(container) else {
                continue;
            };
            let (each, fatal) = writer.outcomes(sent.len(), || report.tick());
            if let Some(error) = fatal {
                self.writers.insert(container.to_owned(), Err(error));
            }
            outcomes.extend(
                sent.into_iter()
                    .zip(each)
                    .map(|(sent, outcome)| (container, sent, outcome)),
            );
        }
        self.mark(outcomes, report)
    }

    /// Marks letters with what became of their operations. One of unknown fate gets no mark: it is for the next replay.
    fn mark(&mut self, outcomes: Vec<(&str, Sent<'_>, Outcome)>, report: &mut Report) -> Result<(), Error> {
        let mut to_mark = Vec::new();
        for (container, sent, outcome) in outcomes {
            let told = match outcome {
                Outcome::Done => Told::Done,
                Outcome::Superseded => Told::Superseded,
                Outcome::Refused { error, carried_out } => Told::Refused {
                    error,
                    carried_out: sent.replay.carried_out + carried_out as usize,
                },
                Outcome::Unknown(why) => {
                    report.end(&sent.found.id, Some(&sent.whole.letter), &End::Unknown(why));
                    continue;
                }
            };
            let mark = sent.whole.letter.mark(container, &told);
            let document = marked(&sent.whole.json, &mark)?;
            to_mark.push((sent, told, document));
        }
        if to_mark.is_empty() {
            return Ok(());
        }
        let operations: Vec<_> = to_mark
            .iter()
            .map(|(sent, _, document)| NewOperation {
                kind: OperationKind::Replace,
                id: &sent.found.id,
                partition_key: &sent.found.key,
                if_match: &sent.whole.letter.etag,
                document,
            })
            .collect();
        let writer = match &mut self.marks {
            Some(writer) => writer,
            none => none.insert(Writer::open(self.account, &self.account.letters)?),
        };
        writer.submit(&operations)?;
        let (marks, fatal) = writer.outcomes(operations.len(), || report.tick());
        for ((sent, told, _), mark) in to_mark.iter().zip(marks) {
            let unmarked = match mark {
                Outcome::Done | Outcome::Superseded => None,
                Outcome::Refused { error, .. } => Some(error.to_string()),
                Outcome::Unknown(why) => Some(why),
            };
            let end = match (told, unmarked) {
                (Told::Done, None) => End::Done,
                (Told::Superseded, None) => End::Superseded,
                (Told::Refused { error, .. }, None) => End::Failed(error.to_string()),
                (Told::Done | Told::Superseded, Some(why)) => End::Failed(format!(
                    "its operation was carried out, but the letter could not be marked, so that the next replay repeats it: {why}"
                )),
                (Told::Refused { error, .. }, Some(why)) => End::Failed(format!("{error}; nor could the letter be marked: {why}")),
            };
            report.end(&sent.found.id, Some(&sent.whole.letter), &end);
        }
        report.tick();
        match fatal {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn close(self) {
        let writers = self.writers.into_values().flatten().chain(self.marks);
        writers.for_each(Writer::close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_by_a_name_of_its_own() {
        let why = || "why".to_owned();
        let ends = [
            End::Done,
            End::Superseded,
            End::WouldBe,
            End::LeftOut,
            End::Refused(why()),
            End::Failed(why()),
            End::Unknown(why()),
        ];
        let mut names: Vec<_> = ends.iter().map(End::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ends.len());
        let told = ends.iter().filter(|end| end.why().is_some()).count();
        assert_eq!(told, 5);
    }
}
