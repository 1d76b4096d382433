//! What the sink writes to: the world behind the core's own interface, with the judge and the reader of bulk answers of the core.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use cosmosflink_core::error::{CoreError, Result};
use cosmosflink_core::sink::{bulk_results, Operation, OperationKind, OperationResult, Service, Verb};
use cosmosflink_core::status::{Asked, Fate};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tokio::time::{sleep, Instant};

use crate::plan::{Request, What};
use crate::world::{ask, bound, definition, failure, lock, Call, Doc, Epk, Shared, World};

/// What every operation of the model says of itself in its document, also a delete.
#[derive(Deserialize)]
struct Body {
    n: u64,
    doc: Doc,
}

/// The next request of an operation, as the model needs it.
#[derive(Clone)]
struct Op {
    n: u64,
    doc: Doc,
    kind: OperationKind,
    verb: Verb,
    asked: Asked,
    fate: Fate,
    body: Vec<u8>,
    etag: String,
}

fn op(operation: &Operation) -> Op {
    let (n, doc) = match Patch::read(operation.body()) {
        // Its number is what it sets first, and its document is in the id.
        Some(patch) => (
            patch.operations[0].value,
            operation.id_text()[1..]
                .parse()
                .expect("the model's ids are d and a number"),
        ),
        None => {
            let body: Body = serde_json::from_slice(operation.body()).expect("the model wrote this body");
            (body.n, body.doc)
        }
    };
    Op {
        n,
        doc,
        kind: operation.kind,
        verb: operation.verb(),
        asked: operation.asked(),
        fate: operation.fate,
        body: operation.sent_body().to_vec(),
        etag: String::from_utf8_lossy(operation.sent_etag()).into_owned(),
    }
}

/// A patch, as the model writes it.
#[derive(Deserialize)]
struct Patch {
    operations: Vec<PatchOperation>,
    /// `FROM c WHERE NOT IS_DEFINED(c.FIELD)`
    condition: Option<String>,
}

#[derive(Deserialize)]
struct PatchOperation {
    op: String,
    path: String,
    value: u64,
}

impl Patch {
    fn read(body: &[u8]) -> Option<Patch> {
        serde_json::from_slice(body).ok()
    }

    fn holds(&self, document: &Map<String, Value>) -> bool {
        let field = self.condition.as_deref().and_then(|c| c.split("c.").nth(1));
        field.is_none_or(|field| !document.contains_key(field.trim_end_matches(')')))
    }

    fn apply(&self, document: &mut Map<String, Value>) {
        for operation in &self.operations {
            let field = &operation.path[1..];
            let before = document.get(field).and_then(Value::as_u64).unwrap_or(0);
            let value = match operation.op.as_str() {
                "incr" => before + operation.value,
                _ => operation.value,
            };
            document.insert(field.to_owned(), value.into());
        }
    }
}

/// What is stored of a document.
#[derive(Clone, Default)]
pub struct Stored {
    pub fields: Map<String, Value>,
    /// Grows with each write of any document.
    version: u64,
}

impl Stored {
    /// The operation that wrote it last.
    pub fn n(&self) -> Option<u64> {
        self.fields.get("n")?.as_u64()
    }

    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// What the account knows of one operation.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How often it changed its document.
    pub applied: u32,
    /// How often it was looked at and had nothing to change: a delete without a document.
    pub nothing: u32,
    /// How often its own document was there already.
    pub met: u32,
    /// An attempt was answered in a way that leaves open what became of it.
    pub unclear: bool,
    /// When the first of its attempts failed, in milliseconds since the beginning, and how many did.
    pub failing_since: Option<u64>,
    pub failed: u32,
    /// Statuses that it was refused with.
    pub refused: Vec<u16>,
}

/// What the account of the sink remembers besides the container.
#[derive(Default)]
pub struct Ledger {
    pub operations: BTreeMap<u64, Known>,
    /// Per document, in order, what changed it.
    pub history: BTreeMap<Doc, Vec<u64>>,
    /// What is in the container.
    stored: BTreeMap<Doc, Stored>,
    versions: u64,
    /// Documents with a request under way, and its operation.
    outstanding: BTreeMap<Doc, u64>,
    /// Requests under way, in all and in bulk by partition.
    under_way: usize,
    bulks: BTreeMap<u32, usize>,
    /// Nothing may be sent to these partitions behind the first and before the second. What was decided on at the first is on its way.
    not_before: BTreeMap<u32, (Instant, Instant)>,
    /// Letters that are stored: the operation each is about.
    pub letters: BTreeMap<u64, u32>,
    /// Documents that spoil a bulk request, and those that are refused in any form, with the status.
    pub spoil: Vec<Doc>,
    pub refused: BTreeMap<Doc, u16>,
    pub limits: Limits,
    pub requests: u64,
}

/// What the options say of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub concurrency: usize,
    pub partition_concurrency: usize,
    pub operations: usize,
}

impl Ledger {
    fn of(&mut self, n: u64) -> &mut Known {
        self.operations.entry(n).or_default()
    }

    /// A document as it is in the container of the world.
    pub fn stored(&self, world: &World, doc: Doc) -> Option<&Stored> {
        // A container that was created anew has none.
        self.stored
            .get(&doc)
            .filter(|_| world.documents.contains_key(&doc))
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Another writer begins.
    pub fn begin_anew(&mut self) {
        self.history.clear();
        self.not_before.clear();
        for known in self.operations.values_mut() {
            known.failing_since = None;
            known.failed = 0;
        }
    }
}

pub type SharedLedger = Arc<Mutex<Ledger>>;

pub fn ledger(ledger: &SharedLedger) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(|e| e.into_inner())
}

/// The service as one writer sees it.
pub struct Account {
    pub world: Shared,
    pub ledger: SharedLedger,
    definition: PartitionKeyDefinition,
    /// Which container it opened.
    generation: u32,
    /// The map that the core has.
    map: Mutex<Vec<(u32, Epk, Epk)>>,
}

impl Account {
    pub fn new(world: &Shared, ledger: &SharedLedger) -> Account {
        Account {
            world: world.clone(),
            ledger: ledger.clone(),
            definition: definition(),
            generation: lock(world).generation,
            map: Mutex::default(),
        }
    }

    /// The partition that the core takes an operation from.
    fn partition_of(&self, doc: Doc) -> u32 {
        let epk = lock(&self.world).epk(doc);
        let map = self.map.lock().unwrap_or_else(|e| e.into_inner());
        map.iter()
            .find(|(_, min, max)| (*min..*max).contains(&epk))
            .map_or(0, |(id, _, _)| *id)
    }

    fn begin(&self, on: Request, partition: u32, ops: &[Op]) -> (Call, UnderWay<'_>) {
        let mut world = lock(&self.world);
        let mut ledger = ledger(&self.ledger);
        let call = world.call(on, partition);
        world.note(|| {
            let ops: Vec<_> = ops
                .iter()
                .map(|op| format!("{}:{}{}", op.n, letter(op.kind), op.doc))
                .collect();
            format!("{on:?} {partition}/{} [{}]", call.nth, ops.join(" "))
        });
        ledger.requests += 1;
        for op in ops {
            if let Some(other) = ledger.outstanding.insert(op.doc, op.n) {
                world.violation(
                    "one outstanding operation per document",
                    format!("operation {} on d{} while {other} is under way", op.n, op.doc),
                );
            }
        }
        ledger.under_way += 1;
        if on == Request::Bulk {
            *ledger.bulks.entry(partition).or_default() += 1;
        }
        let (limits, bulks) = (ledger.limits, ledger.bulks.get(&partition).copied().unwrap_or(0));
        if ledger.under_way > limits.concurrency {
            let n = ledger.under_way;
            world.violation("requests are bounded", format!("{n} are under way"));
        }
        if bulks > limits.partition_concurrency {
            world.violation(
                "bulk requests of a partition are bounded",
                format!("{bulks} to {partition}"),
            );
        }
        if ops.len() > limits.operations || ops.is_empty() {
            world.violation("a bulk request has its size", format!("{} operations", ops.len()));
        }
        let now = Instant::now();
        let held = ledger.not_before.get(&partition).copied();
        if let Some((_, until)) = held.filter(|(from, until)| *from < now && now < *until) {
            let early = until.duration_since(now);
            world.violation(
                "no request before its retry-after",
                format!("{on:?} to {partition}, {early:?} too early"),
            );
        }
        let under_way = UnderWay {
            account: self,
            ops: ops.to_vec(),
            on,
            partition,
            arrived: false,
        };
        (call, under_way)
    }

    /// What a request to a partition is answered with before anything is done.
    fn refusal(&self, world: &World, call: &Call, asked: Asked) -> Option<CoreError> {
        world.refusal(call, world.generation == self.generation, asked)
    }

    /// Carries a request out, and says with which status.
    fn carry_out(world: &mut World, ledger: &mut Ledger, op: &Op) -> u16 {
        if let Some(status) = ledger.refused.get(&op.doc) {
            return *status;
        }
        let before = ledger.stored(world, op.doc).cloned();
        let there = before.is_some();
        let other = before
            .as_ref()
            .is_some_and(|s| !op.etag.is_empty() && s.etag() != op.etag);
        if before.as_ref().is_some_and(|s| s.n() == Some(op.n)) {
            ledger.of(op.n).met += 1;
        }
        let patch = Patch::read(&op.body).filter(|_| op.verb == Verb::Patch);
        let mut document = before.map_or_else(Map::new, |s| s.fields);
        let status = match (op.verb, there) {
            (Verb::Create, true) => 409,
            (Verb::Delete, false) => {
                ledger.of(op.n).nothing += 1;
                404
            }
            (Verb::Replace | Verb::Patch | Verb::Read, false) => 404,
            // No plan has it.
            (Verb::Batch, _) => 400,
            (_, true) if other => 412,
            (Verb::Patch, true) if patch.as_ref().is_some_and(|p| !p.holds(&document)) => 412,
            (Verb::Delete, true) => 204,
            (_, true) => 200,
            (_, false) => 201,
        };
        if status < 300 && op.verb != Verb::Read {
            match (&patch, op.verb) {
                (_, Verb::Delete) => {
                    world.remove(op.doc);
                    ledger.stored.remove(&op.doc);
                }
                (patch, _) => {
                    match patch {
                        Some(patch) => patch.apply(&mut document),
                        None => {
                            document = serde_json::from_slice(&op.body).expect("the core sends documents");
                        }
                    }
                    world.write(op.doc, op.n, false);
                    ledger.versions += 1;
                    let version = ledger.versions;
                    let stored = Stored {
                        fields: document,
                        version,
                    };
                    ledger.stored.insert(op.doc, stored);
                }
            }
            ledger.of(op.n).applied += 1;
            let history = ledger.history.entry(op.doc).or_default();
            let last = history.last().copied();
            history.push(op.n);
            if last.is_some_and(|last| last > op.n) {
                world.violation(
                    "operations on a document are applied in order",
                    format!("{} on d{} after {}", op.n, op.doc, last.unwrap_or(0)),
                );
            }
        }
        status
    }

    /// Notes what the core was told of an operation.
    fn told(world: &mut World, ledger: &mut Ledger, op: &Op, error: &CoreError) {
        let unclear = error.fate == Fate::Unknown && op.verb != Verb::Read;
        let status = error.status;
        let now = world.millis();
        let known = ledger.of(op.n);
        known.unclear |= unclear;
        known.failing_since.get_or_insert(now);
        known.failed += 1;
        known.refused.push(status);
        world.note(|| {
            format!(
                "  {}: {}/{} {:?} {:?}",
                op.n, status, error.sub_status, error.next, error.fate
            )
        });
    }

    /// No request to these partitions for as long as the service asks.
    fn hold(ledger: &mut Ledger, partition: u32, error: &CoreError) {
        if let Some(ms) = error.retry_after_ms.filter(|_| error.status == 429) {
            let now = Instant::now();
            let until = now + Duration::from_millis(ms);
            let held = ledger.not_before.entry(partition).or_insert((now, until));
            // What is held back already stays so.
            let from = if held.1 > now { held.0 } else { now };
            *held = (from, until.max(held.1));
        }
    }

    /// A bulk request at the service.
    fn bulk_at(&self, call: &Call, ops: &[Op]) -> Result<(Vec<u8>, Vec<Option<Stored>>)> {
        let mut world = lock(&self.world);
        let mut ledger = ledger(&self.ledger);
        let (world, ledger) = (&mut *world, &mut *ledger);
        if let Some(error) = self.refusal(world, call, Asked::Bulk) {
            return Err(error);
        }
        let Some(at) = world.partition(call.partition) else {
            return Err(failure((410, 1002), Asked::Bulk, Fate::NotCarriedOut, None));
        };
        let bounds = world.partitions[at].min..world.partitions[at].max;
        for op in ops {
            if !bounds.contains(&world.epk(op.doc)) {
                let what = format!("operation {} on d{} to {}", op.n, op.doc, call.partition);
                world.violation("operations go to the partition that owns them", what);
            }
        }
        let refused = |doc| ledger.spoil.contains(&doc) || ledger.refused.contains_key(&doc);
        if ops.iter().any(|op| refused(op.doc)) {
            return Err(failure((400, 0), Asked::Bulk, Fate::NotCarriedOut, None));
        }
        let prefix = call.fault(|(_, what)| match what {
            What::Prefix { status, sub } => Some((*status, *sub)),
            _ => None,
        });
        if let Some(status) = prefix {
            let n = world.draw(call, 3) as usize % (ops.len() + 1);
            for op in &ops[..n] {
                Self::carry_out(world, ledger, op);
            }
            return Err(failure(status, Asked::Bulk, Fate::NotCarriedOut, None));
        }
        let (mut results, mut found) = (Vec::with_capacity(ops.len()), Vec::with_capacity(ops.len()));
        for (at, op) in ops.iter().enumerate() {
            let single = call.fault(|(id, what)| match what {
                What::Each {
                    status,
                    sub,
                    retry_after_ms,
                } if world.hits_operation(call, *id, at) => Some((false, *status, *sub, *retry_after_ms)),
                What::EachLost { status, sub } if world.hits_operation(call, *id, at) => {
                    Some((true, *status, *sub, None))
                }
                _ => None,
            });
            let (status, sub, retry_after) = match single {
                Some((carried_out, status, sub, retry_after)) => {
                    if carried_out {
                        Self::carry_out(world, ledger, op);
                    }
                    (status, sub, retry_after)
                }
                None => (Self::carry_out(world, ledger, op), 0, None),
            };
            let mut result = json!({"statusCode": status, "subStatusCode": sub, "requestCharge": 1.5});
            if let Some(ms) = retry_after {
                result["retryAfterMilliseconds"] = json!(ms);
            }
            results.push(result);
            found.push(ledger.stored(world, op.doc).filter(|_| status == 200).cloned());
        }
        let lost = call.fault(|(_, what)| match what {
            What::Lost { status, sub } => Some((*status, *sub)),
            _ => None,
        });
        if let Some(status) = lost {
            return Err(failure(status, Asked::Bulk, Fate::NotCarriedOut, None));
        }
        let mut body = json!(results).to_string().into_bytes();
        if call
            .fault(|(_, what)| (*what == What::Short).then_some(()))
            .is_some()
        {
            match world.draw(call, 4) % 2 {
                0 => {
                    results.pop();
                    body = json!(results).to_string().into_bytes();
                }
                _ => body.truncate(body.len() / 2),
            }
        }
        Ok((body, found))
    }

    async fn send_bulk(&self, operations: &[Operation], partition: u32) -> Result<Vec<OperationResult>> {
        let ops: Vec<Op> = operations.iter().map(op).collect();
        let (call, mut under_way) = self.begin(Request::Bulk, partition, &ops);
        sleep(call.there).await;
        let answer = self.bulk_at(&call, &ops);
        under_way.arrived = true;
        sleep(call.back).await;
        let asked = operations.iter().map(|op| (op.asked(), op.fate));
        let answer = answer.and_then(|(body, found)| {
            let mut results = bulk_results(&body, asked, "", Fate::NotCarriedOut)?;
            for ((op, result), found) in ops.iter().zip(&mut results).zip(found) {
                if op.verb == Verb::Read && result.error.is_none() {
                    result.stored = found.map(told_of);
                }
            }
            Ok(results)
        });
        let mut world = lock(&self.world);
        let mut ledger = ledger(&self.ledger);
        let (world, ledger) = (&mut *world, &mut *ledger);
        match &answer {
            Err(error) => {
                Self::hold(ledger, partition, error);
                ops.iter().for_each(|op| Self::told(world, ledger, op, error));
            }
            Ok(results) => {
                for (op, result) in ops.iter().zip(results) {
                    if let Some(error) = &result.error {
                        Self::hold(ledger, partition, error);
                        Self::told(world, ledger, op, error);
                    }
                }
            }
        }
        world.note(|| format!("Bulk {partition}/{} is back", call.nth));
        answer
    }

    async fn send_point(&self, operation: &Operation) -> OperationResult {
        let op = op(operation);
        let partition = self.partition_of(op.doc);
        let (call, mut under_way) = self.begin(Request::Point, partition, std::slice::from_ref(&op));
        sleep(call.there).await;
        let result = {
            let mut world = lock(&self.world);
            let mut ledger = ledger(&self.ledger);
            let (world, ledger) = (&mut *world, &mut *ledger);
            let failed = |status, retry_after| failure(status, op.asked, op.fate, retry_after);
            let lost = call.fault(|(_, what)| match what {
                What::Lost { status, sub } => Some((*status, *sub)),
                _ => None,
            });
            match (self.refusal(world, &call, op.asked), lost) {
                (Some(error), _) => Err(error),
                (None, Some(status)) => {
                    Self::carry_out(world, ledger, &op);
                    Err(failed(status, None))
                }
                (None, None) => match Self::carry_out(world, ledger, &op) {
                    status @ 200..300 => {
                        let found = ledger.stored(world, op.doc).filter(|_| op.verb == Verb::Read);
                        Ok((status, found.cloned()))
                    }
                    status => Err(failed((status, 0), None)),
                },
            }
        };
        under_way.arrived = true;
        sleep(call.back).await;
        let mut world = lock(&self.world);
        let mut ledger = ledger(&self.ledger);
        match result {
            Ok((status, found)) => OperationResult {
                stored: found.map(told_of),
                ..OperationResult::ok(status, 1.5)
            },
            Err(error) => {
                Self::hold(&mut ledger, partition, &error);
                Self::told(&mut world, &mut ledger, &op, &error);
                OperationResult::failed(error)
            }
        }
    }

    /// Asks for something that is no write.
    async fn ask<T>(&self, on: Request, answer: impl FnOnce(&World, &Call) -> Result<T>) -> Result<T> {
        ask(
            &self.world,
            on,
            |world| world.generation == self.generation,
            answer,
        )
        .await
    }
}

fn letter(kind: OperationKind) -> char {
    match kind {
        OperationKind::Refused => 'x',
        OperationKind::Upsert => 'u',
        OperationKind::Create => 'c',
        OperationKind::Replace => 'r',
        OperationKind::Delete => 'd',
        OperationKind::CreateIgnoreExisting => 'a',
        OperationKind::ReplaceIfExists => 'q',
        OperationKind::OverwriteIfNotModified => 'e',
        OperationKind::DeleteIfNotModified => 'x',
        OperationKind::Patch => 'p',
        OperationKind::PatchIfExists => 'i',
        OperationKind::BulkUpdate => 'b',
        // No plan has them.
        OperationKind::Default | OperationKind::Batch => '?',
    }
}

/// A request that is under way. When it is given up before it arrived, it may arrive all the same.
struct UnderWay<'a> {
    account: &'a Account,
    ops: Vec<Op>,
    on: Request,
    partition: u32,
    arrived: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut world = lock(&self.account.world);
        let mut ledger = ledger(&self.account.ledger);
        let (world, ledger) = (&mut *world, &mut *ledger);
        ledger.under_way -= 1;
        if self.on == Request::Bulk {
            *ledger.bulks.entry(self.partition).or_insert(1) -= 1;
        }
        for op in &self.ops {
            ledger.outstanding.remove(&op.doc);
        }
        let first = self.ops.first().map_or(0, |op| op.n);
        let arrives = crate::plan::mix(&[world.seed, 77, first]).is_multiple_of(2);
        if !self.arrived && arrives && world.generation == self.account.generation {
            world.note(|| {
                format!(
                    "{:?} {} arrives although it was given up",
                    self.on, self.partition
                )
            });
            for op in &self.ops {
                Account::carry_out(world, ledger, op);
            }
        }
    }
}

/// A document as the service gives it.
fn told_of(stored: Stored) -> Box<cosmosflink_core::sink::Stored> {
    let etag = stored.etag();
    let mut document = stored.fields;
    document.insert("_etag".to_owned(), etag.as_str().into());
    Box::new(cosmosflink_core::sink::Stored {
        document: Value::from(document).to_string().into_bytes(),
        etag,
    })
}

impl Service for Account {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        Box::pin(async move {
            let map = self.ask(Request::Ranges, |world, call| {
                let stale = call.fault(|(_, what)| (*what == What::Stale).then_some(()));
                Ok(world.map_as_seen(stale.is_some()))
            });
            let map = map.await?;
            lock(&self.world).note(|| {
                format!(
                    "the map ({refresh}): {:?}",
                    map.iter().map(|m| m.0).collect::<Vec<_>>()
                )
            });
            *self.map.lock().unwrap_or_else(|e| e.into_inner()) = map.clone();
            Ok(map
                .into_iter()
                .map(|(id, min, _)| (id.to_string(), bound(min)))
                .collect())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.ask(Request::Check, |_, _| Ok(())))
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        let partition = range.parse().expect("the model's partitions are numbers");
        Box::pin(self.send_bulk(operations, partition))
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(self.send_point(operation))
    }

    fn reads(&self) -> bool {
        true
    }
}

/// The container of the dead letters.
pub struct Letters {
    pub world: Shared,
    pub ledger: SharedLedger,
    pub definition: PartitionKeyDefinition,
}

impl Letters {
    async fn store(&self, operation: &Operation) -> OperationResult {
        let call = lock(&self.world).call(Request::Letter, 0);
        sleep(call.there).await;
        let asked = operation.kind.asked();
        let (mut refused, mut lost) = (None, None);
        for (_, what) in &call.faults {
            match what {
                What::Refused {
                    status,
                    sub,
                    retry_after_ms,
                } => refused = Some(failure((*status, *sub), asked, operation.fate, *retry_after_ms)),
                What::Lost { status, sub } => {
                    lost = Some(failure((*status, *sub), asked, operation.fate, None));
                }
                _ => {}
            }
        }
        if refused.is_none() {
            let letter: serde_json::Value =
                serde_json::from_slice(operation.body()).expect("a letter is JSON");
            let document = &letter["document"];
            let n = document["n"]
                .as_u64()
                .or(document["operations"][0]["value"].as_u64());
            let n = n.expect("a letter holds the document");
            *ledger(&self.ledger).letters.entry(n).or_default() += 1;
        }
        sleep(call.back).await;
        match refused.or(lost) {
            Some(error) => OperationResult::failed(error),
            None => OperationResult::ok(201, 1.5),
        }
    }
}

impl Service for Letters {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, _: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        Box::pin(std::future::ready(Ok(vec![("0".to_owned(), bound(0))])))
    }

    fn bulk<'a>(&'a self, _: &'a [Operation], _: &'a str) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        Box::pin(std::future::ready(Err(CoreError::internal("letters go alone"))))
    }

    fn point<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(self.store(operation))
    }
}
