//! Operations: their frames, their checks and their identity.

use std::borrow::Cow;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use azure_data_cosmos_driver::models::{PartitionKey, PartitionKeyDefinition, PartitionKeyValue};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{CoreError, Kind, Result};
use crate::frame::{FrameKind, FrameReader, FrameWriter};
use crate::json::object_id;
use crate::page::KeyPaths;
use crate::retry::Attempts;
use crate::status::{Asked, Blame, Fate};

use super::batch::Batch;
use super::document::{self, IdRule};
use super::form::SearchId;
use super::patch;
use super::step::Step;

/// Most bytes of a document's id.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/concepts-limits> (per-item limits).
const MAX_ID_BYTES: usize = 1023;

/// Most bytes of a document, from the same page.
const MAX_DOCUMENT_BYTES: usize = 2 * 1024 * 1024;

/// What is to be done with a document, and what counts as done where the service finds it otherwise than expected: the strategy of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// No write at all: the shim could not make one of a record, and says why in place of the ETag. Ends at once, as the failure mode asks.
    Refused,
    /// Writes the document, whether or not it is there.
    Upsert,
    /// Writes the document; fails where another one is there.
    Create,
    /// Writes the document; fails where there is none.
    Replace,
    /// Takes the document out.
    Delete,
    /// Writes the document unless one is there.
    CreateIgnoreExisting,
    /// Writes the document if one is there.
    ReplaceIfExists,
    /// Writes the document unless the stored one was changed since its ETag, or is gone. Without an ETag it is the same as
    /// [`OperationKind::CreateIgnoreExisting`].
    OverwriteIfNotModified,
    /// Takes the document out unless it was changed since its ETag.
    DeleteIfNotModified,
    /// Changes parts of the document; fails where there is none.
    Patch,
    /// Changes parts of the document if it is there.
    PatchIfExists,
    /// Writes the fields over those of the stored document, or makes it of them.
    BulkUpdate,
    /// What the option `sink.write-strategy` says. For a patch the document's fields are set.
    Default,
    /// Operations on documents of one partition key, all of which are carried out or none.
    Batch,
}

/// All of them, with the number in an OPERATIONS frame, which never changes, and the name. In lower case the name is the option's value,
/// and a dead letter's operation.
const KINDS: [(OperationKind, u8, &str); 14] = [
    (OperationKind::Refused, 0, "Write"),
    (OperationKind::Upsert, 1, "Upsert"),
    (OperationKind::Create, 2, "Create"),
    (OperationKind::Replace, 3, "Replace"),
    (OperationKind::Delete, 4, "Delete"),
    (OperationKind::CreateIgnoreExisting, 5, "Create-ignore-existing"),
    (OperationKind::ReplaceIfExists, 6, "Replace-if-exists"),
    (
        OperationKind::OverwriteIfNotModified,
        7,
        "Overwrite-if-not-modified",
    ),
    (OperationKind::DeleteIfNotModified, 8, "Delete-if-not-modified"),
    (OperationKind::Patch, 9, "Patch"),
    (OperationKind::PatchIfExists, 10, "Patch-if-exists"),
    (OperationKind::BulkUpdate, 11, "Bulk-update"),
    (OperationKind::Default, 12, "Default"),
    (OperationKind::Batch, 13, "Batch"),
];

impl OperationKind {
    fn row(self) -> (OperationKind, u8, &'static str) {
        // The table is in the order of the constants; a test says so.
        KINDS[self as usize]
    }

    /// The number in an OPERATIONS frame. It never changes.
    pub fn number(self) -> u8 {
        self.row().1
    }

    /// The kind of this number.
    ///
    /// # Errors
    /// State when there is none.
    pub fn from_number(number: u8) -> Result<OperationKind> {
        let found = KINDS.iter().find(|(_, n, _)| *n == number);
        found.map(|(kind, ..)| *kind).ok_or_else(|| {
            let all = KINDS.map(|(_, n, name)| format!("{n} {}", name.to_lowercase()));
            CoreError::state(format!("operation {number} is unknown; {}", all.join(", ")))
        })
    }

    /// What is asked of the service, where there is an ETag if the kind knows one.
    pub fn asked(self) -> Asked {
        match self {
            // Never sent.
            OperationKind::Refused | OperationKind::Default | OperationKind::Upsert => Asked::Upsert,
            OperationKind::Create => Asked::Create,
            OperationKind::Replace => Asked::Replace,
            OperationKind::Delete => Asked::Delete,
            OperationKind::CreateIgnoreExisting => Asked::CreateIgnoreExisting,
            OperationKind::ReplaceIfExists => Asked::ReplaceIfExists,
            OperationKind::OverwriteIfNotModified => Asked::ReplaceIfNotModified,
            OperationKind::DeleteIfNotModified => Asked::DeleteIfNotModified,
            OperationKind::Patch => Asked::Patch,
            OperationKind::PatchIfExists => Asked::PatchIfExists,
            OperationKind::BulkUpdate => Asked::Update,
            OperationKind::Batch => Asked::Batch,
        }
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The kind of this name, in any case: the value of `sink.write-strategy`, or the operation of a dead letter.
    pub fn from_name(name: &str) -> Option<OperationKind> {
        let found = KINDS.iter().find(|(_, _, n)| n.eq_ignore_ascii_case(name));
        found.map(|(kind, ..)| *kind)
    }
}

/// What a request does with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Writes it, whether or not it is there.
    Upsert,
    /// Writes it unless it is there.
    Create,
    /// Writes it if it is there.
    Replace,
    /// Takes it out.
    Delete,
    /// Changes parts of it.
    Patch,
    /// Reads it.
    Read,
    /// Carries out a batch.
    Batch,
}

impl Verb {
    /// The name in a bulk request.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Upsert => "Upsert",
            Verb::Create => "Create",
            Verb::Replace => "Replace",
            Verb::Delete => "Delete",
            Verb::Patch => "Patch",
            Verb::Read => "Read",
            Verb::Batch => "Batch",
        }
    }

    /// Whether it is about one document that is there, and named by its id.
    pub fn is_of_existing(self) -> bool {
        !matches!(self, Verb::Upsert | Verb::Create | Verb::Batch)
    }
}

/// What the options and the container say of operations that say nothing themselves.
pub struct Rules {
    /// In place of [`OperationKind::Default`].
    pub strategy: OperationKind,
    /// How an id is made where none was given.
    pub ids: IdRule,
    /// Fields whose value is null are left out.
    pub drop_nulls: bool,
    /// Where documents of the container have their key.
    pub paths: KeyPaths,
}

impl Rules {
    /// What these options say of operations on a container with such keys.
    pub fn of(config: &Config, keys: &PartitionKeyDefinition) -> Rules {
        Rules {
            strategy: config.write_strategy,
            ids: config.ids.clone(),
            drop_nulls: config.drop_nulls,
            paths: KeyPaths::new(keys.paths()),
        }
    }

    /// Those of the defaults.
    #[cfg(test)]
    pub fn plain(paths: &[&str]) -> Rules {
        Rules {
            strategy: OperationKind::Upsert,
            ids: IdRule::parse("{id}").unwrap(),
            drop_nulls: false,
            paths: KeyPaths::new(paths),
        }
    }
}

/// What an operation has beside what was submitted.
#[derive(Default)]
struct Extra {
    /// Made of the document.
    id: Option<String>,
    partition_key: Option<String>,
    /// In place of the one that was submitted.
    body: Option<Vec<u8>>,
    step: Step,
    batch: Option<Batch>,
}

/// An operation on its way. Its texts are parts of the submitted frame, which all operations of a submission share.
///
/// It lies in one place until it ends: from queue to request to answer only its address is moved.
pub struct Operation(Box<Held>);

impl Deref for Operation {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}

impl DerefMut for Operation {
    fn deref_mut(&mut self) -> &mut Held {
        &mut self.0
    }
}

/// What an operation has.
pub struct Held {
    /// What is done.
    pub kind: OperationKind,
    frame: Arc<Vec<u8>>,
    /// Bytes that are held for it where the frame is its own, and holds nothing else; else 0.
    apart: u64,
    /// Where the parts lie in the frame.
    id: (u32, u32),
    partition_key: (u32, u32),
    if_match: (u32, u32),
    body: (u32, u32),
    /// The key as it is sent, where the frame spells it in another way.
    pub canonical_key: Option<Arc<str>>,
    /// The submission that it came with.
    pub submission: u64,
    /// Its place in that submission, from 0.
    pub index: u32,
    /// Where it stands among all operations of the sink, by when they came.
    pub turn: u64,
    /// Hash of partition key and id: what is under way for one document, is found by it. That two documents share
    /// one is harmless: they then wait for each other.
    pub document: u64,
    /// Made at the first failure.
    pub attempts: Option<Box<Attempts>>,
    /// The worst fate of the attempts so far: whether one may have been carried out although it failed.
    pub fate: Fate,
    /// Goes as a request of its own: it does not fit into a bulk request, or one was refused on its account.
    pub alone: bool,
    /// Its id cannot stand in an address: only a bulk request can carry it.
    pub needs_bulk: bool,
    /// Bytes that its next request takes in a bulk request, at most. Counted once: a queue is asked for its size again and again.
    pub bulk_bytes: u32,
    /// How often what was in its way was not there when it was read.
    pub vanished: u8,
    /// When its wait for another attempt is over: what passes from then on until it is sent is none of its own.
    pub ready: Option<Instant>,
    /// The search for the reason why a bulk request was refused that it was part of, until that is known.
    pub search: Option<SearchId>,
    /// Request units of its attempts so far.
    pub request_charge: f64,
    /// Apart, since most have none.
    extra: Option<Box<Extra>>,
}

impl Operation {
    fn part(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.frame[from as usize..to as usize]
    }

    /// Id of the document, UTF-8 once it was checked.
    pub fn id(&self) -> &[u8] {
        let made = self.extra.as_ref().and_then(|e| e.id.as_ref());
        made.map_or_else(|| self.part(self.id), |id| id.as_bytes())
    }

    /// The id that its next request names: that of the document that is read to see what became of a batch, or its own.
    pub fn sent_id(&self) -> &[u8] {
        match (self.step(), self.batch()) {
            (Some(Step::Evidence { at, .. }), Some(batch)) => batch.id(*at).as_bytes(),
            _ => self.id(),
        }
    }

    fn step(&self) -> Option<&Step> {
        self.extra.as_ref().map(|e| &e.step)
    }

    /// What it is made of, of a batch that was looked through.
    pub fn batch(&self) -> Option<&Batch> {
        self.extra.as_ref()?.batch.as_ref()
    }

    /// Hashes of all documents that it is about, those of a batch each once. None where it is one document, which `document` says.
    pub fn documents(&self) -> &[u64] {
        self.batch().map_or(&[], |batch| &batch.hashes)
    }

    /// How many operations the price of its next request follows: those of a batch, else one.
    pub fn parts(&self) -> usize {
        match self.verb() {
            Verb::Batch => self.batch().map_or(1, Batch::len),
            _ => 1,
        }
    }

    /// JSON array of the key's components, as it was submitted or as the document has them.
    pub fn partition_key(&self) -> &[u8] {
        let made = self.extra.as_ref().and_then(|e| e.partition_key.as_ref());
        made.map_or_else(|| self.part(self.partition_key), |key| key.as_bytes())
    }

    /// The key as it is sent: one text for all spellings of it.
    pub fn sent_key(&self) -> &[u8] {
        self.canonical_key
            .as_ref()
            .map_or_else(|| self.partition_key(), |k| k.as_bytes())
    }

    /// ETag, or empty; of a refused one, the reason.
    pub fn if_match(&self) -> &[u8] {
        self.part(self.if_match)
    }

    /// The document that is to be written, the patch, or empty.
    pub fn body(&self) -> &[u8] {
        let made = self.extra.as_ref().and_then(|e| e.body.as_ref());
        made.map_or_else(|| self.part(self.body), Vec::as_slice)
    }

    /// What its next request carries; empty for a deletion and a read.
    pub fn sent_body(&self) -> &[u8] {
        match self.step() {
            Some(Step::Patches { parts, .. }) => parts.front().map_or(&[], Vec::as_slice),
            Some(Step::Merged { document, .. }) => document,
            Some(Step::Write) if self.kind == OperationKind::Batch => {
                self.batch().map_or(&[], |batch| &batch.body)
            }
            _ if matches!(self.verb(), Verb::Delete | Verb::Read) => b"",
            _ => self.body(),
        }
    }

    /// The ETag that its next request asks for, or empty.
    pub fn sent_etag(&self) -> &[u8] {
        match self.step() {
            Some(Step::Merged { etag, .. }) => etag.as_bytes(),
            Some(Step::Read | Step::Compare(_) | Step::Evidence { .. }) => b"",
            _ => self.if_match(),
        }
    }

    /// What its next request does.
    pub fn verb(&self) -> Verb {
        match self.step() {
            Some(Step::Read | Step::Compare(_) | Step::Evidence { .. }) => return Verb::Read,
            Some(Step::Merged { etag, .. }) if etag.is_empty() => return Verb::Create,
            Some(Step::Merged { .. }) => return Verb::Replace,
            _ => {}
        }
        match self.kind {
            OperationKind::Refused | OperationKind::Default | OperationKind::Upsert => Verb::Upsert,
            OperationKind::Create | OperationKind::CreateIgnoreExisting => Verb::Create,
            OperationKind::OverwriteIfNotModified if self.if_match().is_empty() => Verb::Create,
            OperationKind::Replace
            | OperationKind::ReplaceIfExists
            | OperationKind::OverwriteIfNotModified => Verb::Replace,
            OperationKind::Delete | OperationKind::DeleteIfNotModified => Verb::Delete,
            OperationKind::Patch | OperationKind::PatchIfExists => Verb::Patch,
            OperationKind::BulkUpdate => Verb::Read,
            OperationKind::Batch => Verb::Batch,
        }
    }

    /// As what the answer to its next request is judged.
    pub fn asked(&self) -> Asked {
        match (self.kind, self.verb()) {
            (_, Verb::Read) => Asked::Read,
            (OperationKind::OverwriteIfNotModified, Verb::Create) => Asked::CreateIgnoreExisting,
            (kind, _) => kind.asked(),
        }
    }

    /// Takes in what became of its last request. An attempt to read says nothing of what became of the write.
    pub(super) fn add_fate(&mut self, fate: Fate) {
        if self.verb() != Verb::Read {
            self.fate = self.fate.max(fate);
        }
    }

    /// How many operations of a patch in parts were carried out, from the first on: the parts that are behind it.
    pub fn carried_out(&self) -> u32 {
        match self.step() {
            Some(Step::Patches { carried_out, .. }) => *carried_out,
            _ => 0,
        }
    }

    /// What a failure that ends it leaves to be told, for messages: what of it was carried out, or may have been, all the same.
    pub fn aftermath(&self, error: &CoreError) -> Option<String> {
        let done = match self.carried_out() {
            0 => None,
            n => Some(format!(
                "its first {n} operations were carried out, in requests of their own, and those behind them were not"
            )),
        };
        // What hits everybody says by itself what came of it.
        let unclear = self.fate == Fate::Unknown && error.blame == Blame::Record;
        let unclear =
            unclear.then(|| "an earlier attempt got no answer, and may have been carried out".to_owned());
        let both: Vec<_> = done.into_iter().chain(unclear).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// Where it stands, if it is or may be more than one request.
    pub(super) fn step_mut(&mut self) -> Option<&mut Step> {
        self.extra.as_mut().map(|e| &mut e.step)
    }

    pub(super) fn set_step(&mut self, step: Step) {
        self.extra.get_or_insert_default().step = step;
    }

    /// Whether its next request reads a document that will be held until it is written.
    pub fn reads_to_merge(&self) -> bool {
        matches!(self.step(), Some(Step::Read))
    }

    /// Bytes that were submitted of it.
    pub fn size(&self) -> usize {
        [self.id, self.partition_key, self.if_match, self.body]
            .iter()
            .map(|(from, to)| (to - from) as usize)
            .sum()
    }

    /// Its OPERATION BODY without ETag and document.
    pub fn without_document(&self) -> Vec<u8> {
        let mut w = FrameWriter(Vec::with_capacity(
            17 + self.id().len() + self.partition_key().len(),
        ));
        w.u8(self.kind.number());
        for part in [self.id(), self.partition_key(), b"", b""] {
            w.blob(part);
        }
        w.0
    }

    /// Bytes that an operation takes besides its texts.
    pub const OVERHEAD: u64 = (size_of::<Operation>() + size_of::<Held>()) as u64;

    /// Bytes that are held for it, the frame counted as far as it is its own.
    pub fn footprint(&self) -> u64 {
        self.size() as u64 + Self::OVERHEAD
    }

    /// Bytes that it holds beside what was submitted: what was made of that, or read for it.
    pub fn bytes_beside(&self) -> u64 {
        let Some(extra) = &self.extra else {
            return 0;
        };
        let texts = [&extra.id, &extra.partition_key].map(|text| text.as_ref().map_or(0, String::len));
        let body = extra.body.as_ref().map_or(0, Vec::len);
        let batch = extra.batch.as_ref().map_or(0, Batch::bytes);
        (size_of::<Extra>() + texts[0] + texts[1] + body + batch + extra.step.bytes()) as u64
    }

    /// Bytes of what was made of a document that was read, and is to be written in place of it.
    pub fn bytes_merged(&self) -> u64 {
        match self.step() {
            Some(step @ Step::Merged { .. }) => step.bytes() as u64,
            _ => 0,
        }
    }

    /// Whether it shares its frame with no other.
    pub fn is_apart(&self) -> bool {
        self.apart > 0
    }

    /// Bytes that are held for it where it does not share its frame; else 0.
    pub fn apart_bytes(&self) -> u64 {
        self.apart
    }

    /// Takes a frame of its own, so that the one it was submitted in goes with the others.
    pub fn set_apart(&mut self) {
        let mut own = Vec::with_capacity(self.size());
        let held = &mut *self.0;
        let parts = [
            &mut held.id,
            &mut held.partition_key,
            &mut held.if_match,
            &mut held.body,
        ];
        for part in parts {
            let from = own.len() as u32;
            own.extend_from_slice(&held.frame[part.0 as usize..part.1 as usize]);
            *part = (from, own.len() as u32);
        }
        self.frame = Arc::new(own);
        self.apart = self.footprint();
    }

    /// The id, for messages.
    pub fn id_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.id())
    }

    /// For messages: what on which document.
    pub fn describe(&self) -> String {
        if let Some(batch) = self.batch() {
            return format!(
                "Batch of {} operations with partition key {}",
                batch.len(),
                String::from_utf8_lossy(self.partition_key())
            );
        }
        format!(
            "{} of document '{}' with partition key {}",
            self.kind.name(),
            self.id_text(),
            String::from_utf8_lossy(self.partition_key())
        )
    }

    /// Makes it what is sent: fills in what the options and the document say, and looks for what can be told to be wrong without asking
    /// the service.
    ///
    /// # Errors
    /// BadRequest or TooLarge: the record's own failure.
    pub fn prepare(&mut self, rules: &Rules) -> Result<()> {
        if self.kind == OperationKind::Refused {
            return Err(self.refusal());
        }
        let said_nothing = self.kind == OperationKind::Default;
        if said_nothing {
            self.kind = rules.strategy;
        }
        // Read before it is asked what is in it.
        if self.part(self.body).len() > MAX_DOCUMENT_BYTES {
            let bytes = self.part(self.body).len();
            let what = match self.kind {
                OperationKind::Batch => "batch",
                OperationKind::Patch | OperationKind::PatchIfExists if !said_nothing => "patch",
                _ => "document",
            };
            return Err(CoreError::new(
                Kind::TooLarge,
                format!("the {what} has {bytes} bytes; the service takes {MAX_DOCUMENT_BYTES}"),
            ));
        }
        let bad = |why: &str| Err(CoreError::new(Kind::BadRequest, why));
        match (self.kind, self.if_match().is_empty()) {
            (OperationKind::DeleteIfNotModified, true) => {
                return bad("a delete that is to leave a changed document has no ETag; give the one that was read, or delete")
            }
            (OperationKind::BulkUpdate, false) => {
                return bad("a bulk update has an ETag; it takes the one of the document that it reads")
            }
            _ => {}
        }
        if self.kind == OperationKind::Batch {
            return self.prepare_batch(rules);
        }
        let made_id = self.identify(rules, said_nothing)?;
        check_id(&self.id_text())?;
        match self.kind.asked() {
            Asked::Delete | Asked::DeleteIfNotModified => Ok(()),
            Asked::Patch | Asked::PatchIfExists => self.prepare_patch(rules, said_nothing),
            _ => self.prepare_document(rules, made_id),
        }
    }

    fn refusal(&self) -> CoreError {
        let reason = String::from_utf8_lossy(self.if_match());
        let too_large =
            self.body().len() > MAX_DOCUMENT_BYTES || reason.to_ascii_lowercase().contains("too large");
        CoreError::new(
            if too_large {
                Kind::TooLarge
            } else {
                Kind::BadRequest
            },
            match reason.trim() {
                "" => "no write could be made of the record; no reason was given",
                reason => reason,
            },
        )
    }

    /// Takes id and key from the document where they were not given; whether the id is one of these. `of_document`: what was submitted is a
    /// document, whatever is done with it.
    fn identify(&mut self, rules: &Rules, of_document: bool) -> Result<bool> {
        let (no_id, no_key) = (
            self.id.0 == self.id.1,
            self.partition_key.0 == self.partition_key.1,
        );
        if !no_id && !no_key {
            return Ok(false);
        }
        let missing = if no_id { "id" } else { "partition key" };
        let bad = |why: &str| {
            let why = format!("the operation has no {missing}, {why}");
            Err(CoreError::new(Kind::BadRequest, why))
        };
        if self.body.0 == self.body.1 {
            return bad("and no document to take it from");
        }
        if !of_document && matches!(self.kind, OperationKind::Patch | OperationKind::PatchIfExists) {
            return bad("and a patch is no document to take it from; give it");
        }
        let body = self.part(self.body);
        let key = no_key.then(|| document::key_of(body, &rules.paths)).transpose()?;
        let id = no_id.then(|| rules.ids.id(body)).transpose()?;
        let extra = self.extra.get_or_insert_default();
        (extra.id, extra.partition_key) = (id, key);
        Ok(no_id)
    }

    fn prepare_batch(&mut self, rules: &Rules) -> Result<()> {
        let has = |(from, to): (u32, u32)| from != to;
        let wrong = match (has(self.id), has(self.if_match), has(self.partition_key)) {
            (true, _, _) => "a batch has an id; its operations have theirs",
            (_, true, _) => "a batch has an ETag; its operations have theirs",
            (_, _, false) => "a batch has no partition key; give the one that all of its documents have",
            _ => {
                let batch = Batch::read(self.part(self.body), rules)?;
                self.extra.get_or_insert_default().batch = Some(batch);
                return Ok(());
            }
        };
        Err(CoreError::new(Kind::BadRequest, wrong))
    }

    /// Works out the hashes of its documents, where it is a batch; gives the one that stands for it.
    pub fn hash_documents(&mut self, key_hash: u64) -> Option<u64> {
        let batch = self.extra.as_mut()?.batch.as_mut()?;
        let mut hashes: Vec<_> = batch
            .ids()
            .map(|id| document_hash(key_hash, id.as_bytes()))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        batch.hashes = hashes;
        batch.hashes.first().copied()
    }

    fn prepare_document(&mut self, rules: &Rules, made_id: bool) -> Result<()> {
        let bad = |why: String| Err(CoreError::new(Kind::BadRequest, why));
        let in_document = check_document(self.body(), self.id(), self.verb())?;
        if made_id && in_document.is_empty() {
            let given = crate::json::nested(self.body().trim_ascii_start(), &["id".to_owned()]);
            if given.is_ok_and(|value| !value.is_empty()) {
                return bad("the document's field id is no text; the service takes no other ids".to_owned());
            }
            let body = document::with_id(self.body(), &self.id_text());
            self.extra.get_or_insert_default().body = Some(body);
        }
        self.drop_nulls(rules)?;
        if self.kind == OperationKind::BulkUpdate {
            self.set_step(Step::Read);
        }
        Ok(())
    }

    fn drop_nulls(&mut self, rules: &Rules) -> Result<()> {
        if !rules.drop_nulls {
            return Ok(());
        }
        let body = document::without_nulls(self.body(), &rules.paths).map_err(|e| document::broken(&e))?;
        if body.is_some() {
            self.extra.get_or_insert_default().body = body;
        }
        Ok(())
    }

    /// `of_document`: what was submitted is a document whose fields are to be set.
    fn prepare_patch(&mut self, rules: &Rules, of_document: bool) -> Result<()> {
        if of_document {
            self.drop_nulls(rules)?;
            let patch = patch::of_document(self.body(), &rules.paths)?;
            self.extra.get_or_insert_default().body = Some(patch);
        }
        let parts = patch::parts(self.body(), &rules.paths, !self.if_match().is_empty())?;
        if !parts.is_empty() {
            self.set_step(Step::Patches {
                parts: parts.into(),
                carried_out: 0,
            });
        }
        Ok(())
    }

    /// Hash of partition key and id.
    pub fn document_hash(&self, key_hash: u64) -> u64 {
        document_hash(key_hash, self.id())
    }
}

fn document_hash(key_hash: u64, id: &[u8]) -> u64 {
    folded(key_hash, id)
}

/// Refuses ids that the service does not take.
pub(super) fn check_id(id: &str) -> Result<()> {
    let bad = |why: String| Err(CoreError::new(Kind::BadRequest, why));
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return bad(format!(
            "the id has {} bytes; it must have 1 to {MAX_ID_BYTES}",
            id.len()
        ));
    }
    if id.contains(['/', '\\']) {
        return bad(format!(
            "the id '{}' holds / or \\, which the service does not take in one",
            id.escape_debug()
        ));
    }
    Ok(())
}

/// Refuses what is no document of this id; gives the id in it as it stands there, which may be missing.
pub(super) fn check_document<'a>(document: &'a [u8], id: &[u8], verb: Verb) -> Result<&'a [u8]> {
    let bad = |why: String| Err(CoreError::new(Kind::BadRequest, why));
    // Whatever is put between others in a bulk request must be one object from its first to its last byte.
    let Some(in_document) = object_id(document) else {
        return bad("the document is not a JSON object".to_owned());
    };
    // The service goes by the document's id, the order of the operations by the one that was given. A replace names both, and is
    // refused by the service.
    let another = match in_document {
        [b'"', text @ .., b'"'] if text.contains(&b'\\') => {
            serde_json::from_slice::<String>(in_document).is_ok_and(|text| text.as_bytes() != id)
        }
        [b'"', text @ .., b'"'] => text != id,
        _ => false,
    };
    match another && verb != Verb::Replace {
        true => bad(format!(
            "the document's id is {}, that of the operation '{}'; they must be the same",
            String::from_utf8_lossy(in_document).escape_debug(),
            String::from_utf8_lossy(id).escape_debug()
        )),
        false => Ok(in_document),
    }
}

/// Hash of a text behind another one's. What it costs is a multiplication for each eight bytes, where that of the standard library, which withstands
/// whoever sees its values, takes ten times as long for an id: here nobody sees them, and two documents that share one wait for each other.
fn folded(before: u64, text: &[u8]) -> u64 {
    // Digits of pi.
    const FACTORS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = text.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = fold(before ^ FACTORS[0], FACTORS[1]) ^ text.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = fold(hash ^ u64::from_le_bytes(*word), FACTORS[0]).wrapping_add(FACTORS[1]);
    }
    fold(hash, FACTORS[1])
}

/// A partition key in all the forms that are needed of it. They are the same for every way of writing the same key.
#[derive(Debug)]
pub struct CanonicalKey {
    /// The driver's form.
    pub key: PartitionKey,
    /// The JSON text that is sent.
    pub text: String,
    pub hash: u64,
}

/// Path of the key that the service makes up for containers from the time before partition keys; their documents have none.
/// Source: <https://learn.microsoft.com/azure/cosmos-db/migrate-containers-partitioned-to-nonpartitioned>
const NO_KEY_PATH: &str = "/_partitionKey";

/// Reads a partition key. Numbers are doubles, as for the service: 1, 1.0 and 1e0 are one key, and so are -0 and 0. `{}` is a value that is
/// missing, which is not null. A container without key paths takes `[]`, and so does one from the time before partition keys for its documents without
/// a key: the vendor's clients send the empty key for these, and a missing value for all others.
///
/// # Errors
/// BadRequest when it is not a JSON array with one component per path of the container.
pub fn canonical_key(text: &[u8], paths: &[Cow<'static, str>]) -> Result<CanonicalKey> {
    let bad = |why: String| {
        CoreError::new(
            Kind::BadRequest,
            format!("partition key {} {why}", String::from_utf8_lossy(text)),
        )
    };
    let components: Vec<&RawValue> = serde_json::from_slice(text).map_err(|e| {
        bad(format!(
            "is not a JSON array ({e}); give one component per path, such as [\"eu\"]"
        ))
    })?;
    let components: Vec<&str> = match (components.as_slice(), paths) {
        // The service keeps what has no key there under the empty one; a value that is missing is the same.
        ([one], [path]) if path == NO_KEY_PATH && is_missing(one.get()) => Vec::new(),
        (some, _) => some.iter().map(|c| c.get()).collect(),
    };
    let may_be_empty = matches!(paths, [path] if path == NO_KEY_PATH);
    if components.len() != paths.len() && !(components.is_empty() && may_be_empty) {
        return Err(bad(format!(
            "has {} components; the container has the paths {}",
            components.len(),
            paths.join(", ")
        )));
    }
    let mut canonical = String::with_capacity(text.len());
    let mut values = Vec::with_capacity(components.len());
    for component in components {
        canonical.push(if canonical.is_empty() { '[' } else { ',' });
        values.push(match component.as_bytes()[0] {
            b'n' => {
                canonical.push_str("null");
                PartitionKeyValue::NULL
            }
            b't' | b'f' => {
                canonical.push_str(component);
                PartitionKeyValue::from(component == "true")
            }
            b'"' => {
                let value: String = serde_json::from_str(component)
                    .map_err(|e| bad(format!("has text that cannot be decoded: {e}")))?;
                push_json_string(&mut canonical, &value);
                PartitionKeyValue::from(value)
            }
            b'{' if is_missing(component) => {
                canonical.push_str("{}");
                PartitionKeyValue::UNDEFINED
            }
            b'{' | b'[' => {
                return Err(bad(
                    "has a component that is neither text, number, boolean nor null".to_owned(),
                ))
            }
            // Not by serde_json, which may be off by the last bit.
            _ => match component.parse::<f64>() {
                Ok(number) if number.is_finite() => {
                    // Minus zero and zero are one key.
                    let number = number + 0.0;
                    push_number(&mut canonical, number);
                    PartitionKeyValue::try_from(number)
                        .map_err(|e| bad(format!("has a number out of range: {e}")))?
                }
                _ => {
                    return Err(bad(format!(
                        "has the number {component}, which no double can hold"
                    )))
                }
            },
        });
    }
    if canonical.is_empty() {
        canonical.push('[');
    }
    canonical.push(']');
    let key = PartitionKey::try_from(values).map_err(|e| bad(e.to_string()))?;
    let mut hasher = DefaultHasher::new();
    canonical.hash(&mut hasher);
    Ok(CanonicalKey {
        key,
        hash: hasher.finish(),
        text: canonical,
    })
}

/// Whether a component is an object without fields, with which a value that is missing is written.
fn is_missing(component: &str) -> bool {
    component
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start() == "}")
}

/// Appends a finite number in as many digits as tell it apart from its neighbours, with an exponent where JavaScript uses one.
fn push_number(out: &mut String, number: f64) {
    // Writing into a String cannot fail.
    let _ = match number.abs() {
        0.0 | 1e-6..1e21 => write!(out, "{number}"),
        _ => write!(out, "{number:e}"),
    };
}

/// Appends `text` as a JSON string.
fn push_json_string(out: &mut String, text: &str) {
    // A text has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Stands in a frame in place of an operation's number: a row, of which the plan of the sink makes the operation.
pub(super) const ROW: u8 = 128;

/// From where to where a part of an operation lies in its frame.
type Span = (u32, u32);

/// What a frame says of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub kind: OperationKind,
    pub id: Span,
    pub partition_key: Span,
    pub if_match: Span,
    pub body: Span,
}

impl Operation {
    pub(super) fn new(frame: &Arc<Vec<u8>>, parts: Parts) -> Operation {
        Operation(Box::new(Held {
            kind: parts.kind,
            frame: frame.clone(),
            apart: 0,
            id: parts.id,
            partition_key: parts.partition_key,
            if_match: parts.if_match,
            body: parts.body,
            canonical_key: None,
            submission: 0,
            index: 0,
            turn: 0,
            document: 0,
            attempts: None,
            fate: Fate::NotCarriedOut,
            alone: false,
            needs_bulk: false,
            bulk_bytes: 0,
            vanished: 0,
            ready: None,
            search: None,
            request_charge: 0.0,
            extra: None,
        }))
    }
}

/// Decodes an OPERATIONS frame.
///
/// # Errors
/// State, for the whole frame.
pub fn decode_operations(frame: Vec<u8>) -> Result<Vec<Operation>> {
    let frame = Arc::new(frame);
    let mut r = FrameReader::open(&frame, FrameKind::Operations)?;
    let n = r.u32()? as usize;
    let mut out = Vec::with_capacity(n.min(frame.len() / 32));
    for _ in 0..n {
        let number = r.u8()?;
        if number == ROW {
            return Err(CoreError::state(
                "a row was submitted to a sink that was opened without a plan of its documents; open it with one",
            ));
        }
        let kind = OperationKind::from_number(number)?;
        // A frame comes from a Java array, so that its offsets fit.
        let mut part = |text: bool| -> Result<Span> {
            let length = if text { r.str()?.len() } else { r.blob()?.len() };
            let end = r.position();
            Ok(((end - length) as u32, end as u32))
        };
        let parts = Parts {
            kind,
            id: part(true)?,
            partition_key: part(true)?,
            if_match: part(true)?,
            body: part(false)?,
        };
        out.push(Operation::new(&frame, parts));
    }
    r.finish()?;
    Ok(out)
}

/// An operation to submit from Rust, as Java would write it into a frame.
pub struct NewOperation<'a> {
    /// What is to be done.
    pub kind: OperationKind,
    /// Id of the document.
    pub id: &'a str,
    /// JSON array of the key's components.
    pub partition_key: &'a str,
    /// An ETag, or empty.
    pub if_match: &'a str,
    /// A JSON object; empty for a deletion.
    pub document: &'a [u8],
}

/// Encodes an OPERATIONS frame.
pub fn encode_operations(operations: &[NewOperation<'_>]) -> Vec<u8> {
    let mut w = FrameWriter::new(FrameKind::Operations);
    w.u32(operations.len() as u32);
    for o in operations {
        w.u8(o.kind.number());
        w.str(o.id);
        w.str(o.partition_key);
        w.str(o.if_match);
        w.blob(o.document);
    }
    w.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Rules {
        Rules::plain(&["/pk"])
    }

    fn operation(kind: OperationKind, id: &str, key: &str, document: &[u8]) -> Operation {
        let new = NewOperation {
            kind,
            id,
            partition_key: key,
            if_match: "",
            document,
        };
        decode_operations(encode_operations(&[new])).unwrap().remove(0)
    }

    #[test]
    fn documents_share_no_hash_because_they_are_alike() {
        let ids = (0..50_000u32).map(|i| format!("order-{i:012}"));
        let short = (0..1000).map(|i| format!("{i}"));
        let zeros = (0..20).map(|n| "\0".repeat(n));
        let mut seen = std::collections::BTreeSet::new();
        for id in ids.chain(short).chain(zeros) {
            for key in 0..2 {
                assert!(seen.insert(folded(key, id.as_bytes())), "{id:?} with key {key}");
            }
        }
        // All bits of it are of use, to a table that takes some of them.
        let ones: u32 = seen.iter().map(|hash| hash.count_ones()).sum();
        let share = f64::from(ones) / (64 * seen.len()) as f64;
        assert!((0.49..0.51).contains(&share), "{share}");
        let low: std::collections::BTreeSet<_> = seen.iter().map(|hash| hash & 0xffff).collect();
        assert!(low.len() > 50_000, "{} of 65536", low.len());
    }

    proptest! {
        #[test]
        fn frames_round_trip(ops in proptest::collection::vec(("\\PC{0,9}", "\\PC{0,9}", "\\PC{0,5}", any::<Vec<u8>>()), 0..9)) {
            let new: Vec<_> = ops.iter().map(|(id, key, etag, doc)| NewOperation {
                kind: OperationKind::Replace, id, partition_key: key, if_match: etag, document: doc,
            }).collect();
            let back = decode_operations(encode_operations(&new)).unwrap();
            prop_assert_eq!(back.len(), ops.len());
            for (o, (id, key, etag, doc)) in back.iter().zip(&ops) {
                prop_assert_eq!((o.id(), o.partition_key()), (id.as_bytes(), key.as_bytes()));
                prop_assert_eq!((o.if_match(), o.body()), (etag.as_bytes(), &doc[..]));
            }
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_operations(bytes.clone());
            let mut headed = FrameWriter::new(FrameKind::Operations).0;
            headed.append(&mut bytes);
            let _ = decode_operations(headed);
        }
    }

    #[test]
    fn a_kind_has_one_number_and_one_name() {
        for (n, (kind, number, name)) in KINDS.into_iter().enumerate() {
            assert_eq!((kind.row(), number), (KINDS[n], n as u8), "{name}");
            assert_eq!(OperationKind::from_number(number).unwrap(), kind);
            assert_eq!(OperationKind::from_name(&name.to_uppercase()), Some(kind));
        }
        let unknown = OperationKind::from_number(14).unwrap_err();
        assert_eq!(unknown.kind, Kind::State);
        assert!(unknown.message.contains("9 patch"), "{unknown}");
    }

    #[test]
    fn an_operation_that_says_nothing_does_what_the_options_say() {
        let document = br#"{"pk":null,"number":7,"x":null,"y":{"z":null}}"#;
        let rules = |strategy| Rules {
            strategy,
            ids: IdRule::parse("o-{number}").unwrap(),
            drop_nulls: true,
            paths: KeyPaths::new(&["/pk"]),
        };
        let made = |kind, strategy| {
            let mut op = operation(kind, "", "", document);
            op.prepare(&rules(strategy)).unwrap();
            op
        };
        let op = made(OperationKind::Default, OperationKind::Create);
        assert_eq!((op.kind, op.verb()), (OperationKind::Create, Verb::Create));
        assert_eq!(
            (op.id(), op.partition_key(), op.sent_body()),
            (
                &b"o-7"[..],
                &b"[null]"[..],
                &br#"{"id":"o-7","pk":null,"number":7,"y":{}}"#[..]
            )
        );
        // What it says itself goes before.
        let op = made(OperationKind::Upsert, OperationKind::Create);
        assert_eq!(op.verb(), Verb::Upsert);
        let op = made(OperationKind::Default, OperationKind::Delete);
        assert_eq!(
            (op.verb(), op.id(), op.sent_body()),
            (Verb::Delete, &b"o-7"[..], &b""[..])
        );
        let op = made(OperationKind::Default, OperationKind::PatchIfExists);
        assert_eq!(
            std::str::from_utf8(op.sent_body()).unwrap(),
            r#"{"operations":[{"op":"set","path":"/number","value":7},{"op":"set","path":"/y","value":{}}]}"#
        );
        let op = made(OperationKind::Default, OperationKind::BulkUpdate);
        assert_eq!((op.verb(), op.sent_body()), (Verb::Read, &b""[..]));
        // The size is that of what was submitted, whatever becomes of it.
        assert_eq!(op.size(), document.len());
    }

    #[test]
    fn without_a_document_there_is_nothing_to_take_an_id_from() {
        for (id, key) in [("", "[\"k\"]"), ("a", "")] {
            let mut op = operation(OperationKind::Delete, id, key, b"");
            let error = op.prepare(&rules()).unwrap_err();
            assert_eq!(error.kind, Kind::BadRequest);
        }
        let patch = br#"{"operations":[{"op":"set","path":"/n","value":1}]}"#;
        for (id, key, missing) in [("", "[\"k\"]", "id"), ("a", "", "partition key")] {
            for kind in [OperationKind::Patch, OperationKind::PatchIfExists] {
                let error = operation(kind, id, key, patch).prepare(&rules()).unwrap_err();
                assert_eq!(error.kind, Kind::BadRequest);
                let told = format!("no {missing}, and a patch is no document");
                assert!(error.message.contains(&told), "{error}");
            }
        }
        let mut numeric = operation(OperationKind::Upsert, "", "", br#"{"id":7}"#);
        assert!(numeric.prepare(&rules()).unwrap_err().message.contains("no text"));
    }

    #[test]
    fn an_etag_decides_between_create_and_replace() {
        let verb = |if_match| {
            let new = NewOperation {
                kind: OperationKind::OverwriteIfNotModified,
                id: "a",
                partition_key: "[1]",
                if_match,
                document: b"{\"id\":\"a\"}",
            };
            let mut op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
            op.prepare(&rules()).unwrap();
            (op.verb(), op.asked())
        };
        assert_eq!(verb(""), (Verb::Create, Asked::CreateIgnoreExisting));
        assert_eq!(verb("e"), (Verb::Replace, Asked::ReplaceIfNotModified));
    }

    #[test]
    fn what_cannot_be_sent_is_told_apart() {
        let check = |id: &str, doc: &[u8]| {
            operation(OperationKind::Upsert, id, "[\"k\"]", doc)
                .prepare(&rules())
                .map_err(|e| e.kind)
        };
        for id in ["a", "a?b#c", "a\tb", "..", "%2F", &"x".repeat(1023)] {
            assert_eq!(check(id, b"{}"), Ok(()), "{id:?}");
            let document = serde_json::json!({"x": {"id": "other"}, "id": id, "y": "id"}).to_string();
            assert_eq!(check(id, document.as_bytes()), Ok(()), "{document}");
        }
        for (id, doc) in [
            ("", &b"{}"[..]),
            ("a/b", b"{}"),
            ("a\\b", b"{}"),
            ("a", b"[]"),
            ("a", b"{\"id\":\"b\"}"),
            ("a", b"{\"x\":[{\"id\":\"a\"}, 1], \"id\" : \"\\u0061b\"}"),
            ("a", b"{\"id\":\"a\",\"id\":\"b\"}"),
            ("a", b"{}},{\"operationType\":\"Delete\"}"),
            ("a", b"{\"x\":\"}"),
            ("a", b""),
        ] {
            assert_eq!(check(id, doc), Err(Kind::BadRequest), "{id} {doc:?}");
        }
        assert_eq!(check(&"x".repeat(1024), b"{}"), Err(Kind::BadRequest));
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_DOCUMENT_BYTES));
        assert_eq!(check("a", large.as_bytes()), Err(Kind::TooLarge));
    }

    #[test]
    fn equal_keys_hash_alike_however_they_are_written() {
        let hash =
            |text: &str, paths: &[Cow<'static, str>]| canonical_key(text.as_bytes(), paths).map(|k| k.hash);
        let one: &[Cow<'static, str>] = &["/pk".into()];
        let two: &[Cow<'static, str>] = &["/a".into(), "/b".into()];
        for (canonical, spellings) in [
            ("[\"eu\"]", &["[\"\\u0065u\"]", "[ \"eu\" ]"][..]),
            ("[1]", &["[1]", "[1.0]", "[1e0]", "[0.1e1]", "[100e-2]"]),
            ("[0]", &["[0]", "[-0]", "[-0.0]", "[0e9]", "[1e-400]"]),
            (
                "[9007199254740991]",
                &["[9007199254740991]", "[9007199254740991.0]"],
            ),
            (
                "[9007199254740992]",
                &["[9007199254740992]", "[9007199254740993]", "[9007199254740992.9]"],
            ),
            (
                "[-18446744073709552000]",
                &["[-18446744073709551615]", "[-18446744073709551616]"],
            ),
            ("[1e300]", &["[1e300]", "[10E+299]"]),
            (
                "[0.1]",
                &["[0.1]", "[1E-1]", "[0.1000000000000000055511151231257827]"],
            ),
            ("[{}]", &["[{}]", "[ { } ]"]),
            ("[null]", &["[null]"]),
            ("[true]", &["[true]"]),
            (
                "[\"a\\\"\\\\/\\n\"]",
                &["[\"a\\\"\\\\\\/\\n\"]", "[\"a\\u0022\\u005c/\\u000a\"]"],
            ),
        ] {
            for text in spellings {
                let key = canonical_key(text.as_bytes(), one).unwrap();
                assert_eq!(key.text, canonical, "{text}");
                assert_eq!(key.hash, hash(canonical, one).unwrap(), "{text}");
                assert_eq!(
                    key.key,
                    canonical_key(canonical.as_bytes(), one).unwrap().key,
                    "{text}"
                );
            }
        }
        assert_ne!(hash("[\"1\"]", one).unwrap(), hash("[1]", one).unwrap());
        assert_ne!(hash("[null]", one).unwrap(), hash("[{}]", one).unwrap());
        assert!(hash("[\"a\",7]", two).is_ok());
        for (text, paths) in [
            ("[\"a\"]", two),
            ("\"a\"", one),
            ("[[1]]", one),
            ("[", one),
            ("[]", one),
            ("[1e400]", one),
            ("[\"\\ud800\"]", one),
            ("[{\"a\":1}]", one),
            ("[01]", one),
        ] {
            assert_eq!(hash(text, paths).unwrap_err().kind, Kind::BadRequest, "{text}");
        }
    }

    #[test]
    fn containers_without_key_paths_take_an_empty_key() {
        let none = canonical_key(b"[ ]", &[]).unwrap();
        assert_eq!((none.text.as_str(), none.key.len()), ("[]", 0));
        let made_up: &[Cow<'static, str>] = &[NO_KEY_PATH.into()];
        let missing = canonical_key(b"[]", made_up).unwrap();
        assert_eq!((missing.text.as_str(), missing.key.len()), ("[]", 0));
        let spelt = canonical_key(b"[ { } ]", made_up).unwrap();
        assert_eq!((spelt.text.as_str(), spelt.hash), ("[]", missing.hash));
        let keyed = canonical_key(b"[\"a\"]", made_up).unwrap();
        assert_eq!((keyed.text.as_str(), keyed.key.len()), ("[\"a\"]", 1));
    }

    proptest! {
        #[test]
        fn a_number_is_sent_as_the_double_that_it_is(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let one: &[Cow<'static, str>] = &["/pk".into()];
            let key = canonical_key(format!("[{number:?}]").as_bytes(), one).unwrap();
            let sent: f64 = key.text[1..key.text.len() - 1].parse().unwrap();
            prop_assert_eq!(sent.to_bits(), (number + 0.0).to_bits());
            let long = canonical_key(format!("[{number}]").as_bytes(), one).unwrap();
            prop_assert_eq!(long.hash, key.hash);
        }
    }

    #[test]
    fn a_refused_record_carries_its_reason() {
        let refused = |reason: &str, document: &[u8]| {
            let new = NewOperation {
                kind: OperationKind::Refused,
                id: "",
                partition_key: "",
                if_match: reason,
                document,
            };
            let mut op = decode_operations(encode_operations(&[new])).unwrap().remove(0);
            op.prepare(&rules()).unwrap_err()
        };
        let error = refused("the converter threw: no key", b"{");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::BadRequest, "the converter threw: no key")
        );
        assert_eq!(refused("the record is too large", b"").kind, Kind::TooLarge);
        assert_eq!(
            refused("x", &vec![b'x'; MAX_DOCUMENT_BYTES + 1]).kind,
            Kind::TooLarge
        );
        assert!(!refused("", b"").message.is_empty());
    }
}
