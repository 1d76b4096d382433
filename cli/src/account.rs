//! The account of the environment, and the letters in it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use cosmosflink_core::config::{resolve, spec, Config, Group, Role};
use cosmosflink_core::dead_letters::{Filter, Letter};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::CoreError;
use cosmosflink_core::page::{PageReader, PageRecord};
use cosmosflink_core::source::Source;
use serde_json::{json, Value};

use crate::{stop, Error};

/// How long is waited for a page before it is looked whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Options that name a container of letters, the first of which that is set counts.
const LETTERS: [&str; 2] = ["sink.dead-letter-container", "job.dead-letter-container"];

/// How to reach the account, and where the letters lie.
pub struct Account {
    /// Without those of sources and jobs, which say nothing of letters.
    options: BTreeMap<String, String>,
    /// Container of the letters.
    pub letters: String,
}

/// A letter that was found.
#[derive(Default)]
pub struct Found {
    /// When it was refused, in nanoseconds since the epoch.
    time: i128,
    /// Hash of its partition key and of the writer that stored it, and when its operation came to that writer.
    line: (u64, u64),
    /// Its id.
    pub id: String,
    /// Its own partition key, a JSON array.
    pub key: String,
    /// Bytes of its document.
    pub document_bytes: u64,
    /// All of it but the document.
    pub row: Box<[u8]>,
}

/// A letter as it lies in its container.
pub struct Whole {
    /// What it says.
    pub letter: Letter,
    /// Its own bytes.
    pub json: Vec<u8>,
}

impl Account {
    /// The account of the environment, with options that go before it.
    ///
    /// # Errors
    /// An option that is unknown or wrong.
    pub fn new(options: &[(String, String)], letters: Option<&str>) -> Result<Account, Error> {
        // What is not UTF-8 is no option of ours.
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut options = resolve(options, &environment)?;
        let named = LETTERS.iter().find_map(|name| options.get(*name).cloned());
        let default = || spec(LETTERS[1]).map_or("", |option| option.default).to_owned();
        let letters = letters.map(str::to_owned).or(named).unwrap_or_else(default);
        options.retain(|name, _| {
            let group = spec(name).map(|option| option.group);
            matches!(group, Some(Group::Connection | Group::Sink)) && !LETTERS.contains(&name.as_str())
        });
        Ok(Account { options, letters })
    }

    /// The options for a container.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn config(&self, role: Role, container: &str, more: &[(&str, &str)]) -> Result<Config, CoreError> {
        let mut options = self.options.clone();
        options.insert("container".to_owned(), container.to_owned());
        options.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Config::parse(role, &options.into_iter().collect::<Vec<_>>())
    }

    /// Reads letters to the end of what the options name, through the core's source.
    ///
    /// # Errors
    /// Those of the source; when the user wants to stop.
    fn read(&self, options: &[(&str, &str)], mut each: impl FnMut(PageRecord<'_>)) -> Result<(), Error> {
        let config = || {
            let mut all = vec![("json.on-error", "raw")];
            all.extend(options);
            self.config(Role::Source, &self.letters, &all)
        };
        let enumerator = Enumerator::open(config()?)?;
        let splits: Vec<_> = enumerator.discover(&[])?.into_iter().map(|e| e.split).collect();
        let source = Source::open(config()?)?;
        let mut open = splits.len();
        source.add_splits(splits)?;
        while open > 0 {
            if stop::asked() {
                return Err("interrupted while letters were read".into());
            }
            if source.next_page(LOOK)? == 0 {
                continue;
            }
            let frame = source.take_page()?;
            let page = PageReader::open(&frame)?;
            for record in page.records() {
                each(record?);
            }
            if let Some(children) = page.finished()? {
                open = open - 1 + children.len();
                source.add_splits(children)?;
            }
        }
        source.close();
        enumerator.close();
        Ok(())
    }

    /// The letters that are meant, in the order in which they are replayed and so many at most, from the first on, and how many documents of the container are no letters.
    ///
    /// # Errors
    /// Those of the query.
    pub fn find(&self, filter: &Filter, limit: usize) -> Result<(Vec<Found>, u64), Error> {
        let (query, parameters) = filter.query();
        let (mut found, mut others) = (Vec::new(), 0);
        let options = [
            ("scan.query", query.as_str()),
            ("scan.query-parameters", parameters.as_str()),
        ];
        self.read(&options, |record| match Letter::read(record.document) {
            Err(_) => others += 1,
            Ok(letter) if filter.takes(&letter) => found.push(Found {
                time: letter.time_nanos().unwrap_or_default(),
                line: line(&letter),
                id: letter.id,
                key: record.partition_key.to_owned(),
                document_bytes: letter.document_bytes,
                row: record.document.into(),
            }),
            Ok(_) => {}
        })?;
        found.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        in_line(&mut found);
        // Only now, with all letters of each line: the one that was read last may belong before all others.
        found.truncate(limit);
        Ok((found, others))
    }

    /// Whole letters by their ids; those that are no more are missing.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn read_whole(&self, letters: &[Found]) -> Result<HashMap<String, Whole>, Error> {
        let keys = letters.iter().map(|found| {
            let key: Value = serde_json::from_str(&found.key)?;
            Ok(json!({"id": found.id, "partitionKey": key}))
        });
        let keys = keys.collect::<Result<Vec<_>, serde_json::Error>>()?;
        let keys = Value::from(keys).to_string();
        let mut whole = HashMap::new();
        self.read(&[("scan.read-many", &keys)], |record| {
            if let Ok(letter) = Letter::read(record.document) {
                let json = record.document.to_vec();
                whole.insert(letter.id.clone(), Whole { letter, json });
            }
        })?;
        Ok(whole)
    }
}

/// What tells the partition key of a letter, as one writer wrote to it, from others, and the letter's place among its operations. A batch is
/// about several documents of its key.
fn line(letter: &Letter) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    (&letter.writer, &letter.container, &letter.partition_key).hash(&mut hasher);
    (hasher.finish(), letter.sequence)
}

/// Puts the letters of one partition key that one writer stored into the order in which their operations came to it, each set at the places
/// that it has: a time is that of the refusal, and several may have the same one.
fn in_line(found: &mut [Found]) {
    let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, found) in found.iter().enumerate() {
        places.entry(found.line.0).or_default().push(at);
    }
    for places in places.into_values().filter(|places| places.len() > 1) {
        let mut letters: Vec<_> = places.iter().map(|at| std::mem::take(&mut found[*at])).collect();
        // Without numbers they stay in the order of their times.
        letters.sort_by_key(|letter| letter.line.1);
        for (at, letter) in places.into_iter().zip(letters) {
            found[at] = letter;
        }
    }
}
