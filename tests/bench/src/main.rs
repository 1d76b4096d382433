//! Plain loops over the driver: the baseline that the connector is measured against. Each prints one line of JSON with what it
//! did and what it cost this process: documents, CPU seconds, seconds, peak of resident memory in MiB. `feed` and `sink` are the same of the core.

mod feed;
mod sink;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_data_cosmos_driver::models::{
    AccountReference, ChangeFeedStartFrom, ContainerReference, CosmosOperation, FeedRange, ItemReference,
    MaxItemCountHint, PartitionKey, PartitionKeyValue, ResponseBody,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, DriverOptions, OperationOptionsBuilder, PlanOptions,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime};
use clap::{Parser, Subcommand};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Reads or writes a container with nothing but the driver. The account is COSMOS_URI, COSMOS_KEY_FILE and COSMOS_DB.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
    /// Container.
    #[arg(long, global = true, default_value = "events-source")]
    container: String,
    /// Documents to write or read.
    #[arg(long, global = true, default_value_t = 100_000)]
    count: u64,
    /// Different documents among those to write; all of them where it is not given.
    #[arg(long, global = true)]
    distinct: Option<u64>,
    /// About how many bytes each document to write has.
    #[arg(long, global = true, default_value_t = 430)]
    bytes: usize,
    /// Different partition keys of the documents to write; enough for all physical partitions.
    #[arg(long, global = true, default_value_t = 64)]
    keys: u64,
}

#[derive(Subcommand, Clone, Copy)]
enum Task {
    /// Upserts documents in bulk requests of 100, two in flight per physical partition.
    Write,
    /// Reads the change feed from the beginning in pages of 1000, all feed ranges at once.
    Read,
    /// Reads the container through the core from the beginning to its end, again and again, until so many documents have come twice; the
    /// second half is measured.
    Feed,
    /// Upserts documents through the core, as many to warm up as are measured.
    Sink,
}

/// The same document that the Flink job of the benchmark makes.
fn document(i: u64, args: &Args) -> (String, String) {
    let key = format!("customer-{:05}", i % args.keys);
    let document = format!(
        r#"{{"id":"order-{i:012}","customerId":"{key}","amount":{}.{:02},"currency":"EUR","createdAt":"2026-11-24T10:15:30.123Z","source":"eu-west","lines":[{}]}}"#,
        i % 900,
        i % 100,
        lines(args.bytes),
    );
    (key, document)
}

/// What is ordered: as much as makes a document of so many bytes.
fn lines(bytes: usize) -> String {
    let many = bytes.saturating_sub(BARE) / (LINE.len() + 1);
    vec![LINE; many].join(",")
}

const LINE: &str = r#"{"sku":"sku-004711","quantity":2,"price":19.99,"gift":false}"#;

/// About the bytes of a document without its lines, the commas and the service's own fields in a page left out.
const BARE: usize = 175;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let result = match args.task {
        Task::Feed => tokio::task::spawn_blocking(move || through_the_core(&args)).await??,
        Task::Sink => tokio::task::spawn_blocking(move || into_the_core(&args)).await??,
        _ => over_the_driver(&args).await?,
    };
    println!("{result}");
    Ok(())
}

/// A variable of the environment.
fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

fn through_the_core(args: &Args) -> Result<serde_json::Value, Error> {
    let passes = feed::Passes::open(&args.container)?;
    let read = || {
        let mut documents = 0;
        while documents < args.count {
            documents += match passes.pass()? {
                0 => return Err(Error::from("the container has no documents")),
                read => read,
            };
        }
        Ok(documents)
    };
    read()?;
    measured(Instant::now(), cpu_seconds()?, read()?)
}

fn into_the_core(args: &Args) -> Result<serde_json::Value, Error> {
    let mut writer = sink::Writer::open(args)?;
    writer.write(args.count)?;
    measured(Instant::now(), cpu_seconds()?, writer.write(args.count)?)
}

/// Options of the core for a container of the account.
fn core_options(container: &str) -> Result<Vec<(String, String)>, Error> {
    let options = [
        ("endpoint", variable("COSMOS_URI")?),
        ("auth.key-file", variable("COSMOS_KEY_FILE")?),
        ("database", variable("COSMOS_DB")?),
        ("container", container.to_owned()),
    ];
    Ok(options.map(|(name, value)| (name.to_owned(), value)).into())
}

async fn over_the_driver(args: &Args) -> Result<serde_json::Value, Error> {
    let key = std::fs::read_to_string(variable("COSMOS_KEY_FILE")?)?
        .trim()
        .to_owned();
    let account = AccountReference::with_account_key(variable("COSMOS_URI")?.parse::<url::Url>()?, key);
    let driver = CosmosDriverRuntime::builder()
        .build()
        .await?
        .create_driver(DriverOptions::builder(account).build())
        .await?;
    let container = driver
        .resolve_container(&variable("COSMOS_DB")?, &args.container, options().build())
        .await?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let documents = match args.task {
        Task::Write => write(driver, container, args).await?,
        _ => read(driver, container, args.count).await?,
    };
    measured(began, cpu, documents)
}

/// What was done since then, and what it cost.
fn measured(began: Instant, cpu: f64, documents: u64) -> Result<serde_json::Value, Error> {
    Ok(serde_json::json!({
        "documents": documents,
        "seconds": began.elapsed().as_secs_f64(),
        "cpuSeconds": cpu_seconds()? - cpu,
        "peakMib": peak_mib()?,
    }))
}

fn options() -> OperationOptionsBuilder {
    OperationOptionsBuilder::new().with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
}

/// A page of the feed, its items as raw text.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(rename = "Documents", borrow)]
    documents: Vec<&'a serde_json::value::RawValue>,
}

async fn read(driver: Arc<CosmosDriver>, container: ContainerReference, count: u64) -> Result<u64, Error> {
    let ranges = driver
        .resolve_all_partition_key_ranges(&container, false)
        .await?
        .ok_or("no partitions")?;
    let left = Arc::new(std::sync::atomic::AtomicI64::new(count as i64));
    let tasks = ranges.into_iter().map(|range| {
        let (driver, container, left) = (driver.clone(), container.clone(), left.clone());
        tokio::spawn(async move {
            let limit = NonZeroU32::new(1000).ok_or("no limit")?;
            let operation =
                CosmosOperation::change_feed(container.clone(), Some(FeedRange::try_from(&range)?))
                    .with_change_feed_start(ChangeFeedStartFrom::Beginning)
                    .with_max_item_count(MaxItemCountHint::Limit(limit));
            let options = options().build();
            let mut plan = driver
                .plan_operation(operation, &options, None, &PlanOptions::default())
                .await?;
            let mut read = 0u64;
            while left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                let Some(page) = driver
                    .execute_plan(&mut plan, Some(container.clone()), options.clone())
                    .await?
                else {
                    break;
                };
                let documents = match page.into_body() {
                    ResponseBody::NoPayload => 0,
                    ResponseBody::Items(items) => items.len(),
                    // One pass that finds where each document begins and ends.
                    ResponseBody::Bytes(body) => serde_json::from_slice::<Page<'_>>(&body)?.documents.len(),
                };
                if documents == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                read += documents as u64;
                left.fetch_sub(documents as i64, std::sync::atomic::Ordering::Relaxed);
            }
            Ok::<_, Error>(read)
        })
    });
    let mut total = 0;
    for task in futures::future::join_all(tasks).await {
        total += task??;
    }
    Ok(total)
}

async fn write(driver: Arc<CosmosDriver>, container: ContainerReference, args: &Args) -> Result<u64, Error> {
    let (count, distinct) = (args.count, args.distinct.unwrap_or(args.count));
    let mut owners = HashMap::new();
    let mut lanes: HashMap<String, tokio::sync::mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = Vec::new();
    for i in 0..args.keys {
        let (key, _) = document(i, args);
        let ranges = driver
            .resolve_partition_key_ranges_for_key(&container, &PartitionKey::from(key.clone()), false)
            .await?;
        let range = ranges
            .ok_or("no partitions")?
            .first()
            .ok_or("no partition")?
            .id
            .clone();
        owners.insert(key, range.clone());
        if let std::collections::hash_map::Entry::Vacant(lane) = lanes.entry(range.clone()) {
            let (sender, receiver) = tokio::sync::mpsc::channel(4);
            lane.insert(sender);
            let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
            for _ in 0..2 {
                tasks.push(tokio::spawn(send(
                    driver.clone(),
                    container.clone(),
                    range.clone(),
                    receiver.clone(),
                )));
            }
        }
    }
    let mut batches: BTreeMap<&str, (Vec<u8>, usize)> = BTreeMap::new();
    for i in 0..count {
        let (key, document) = document(i % distinct, args);
        let range = owners[&key].as_str();
        let (body, size) = batches
            .entry(range)
            .or_insert_with(|| (Vec::with_capacity(50_000), 0));
        body.push(if *size == 0 { b'[' } else { b',' });
        body.extend_from_slice(br#"{"operationType":"Upsert","partitionKey":"[\""#);
        body.extend_from_slice(key.as_bytes());
        body.extend_from_slice(br#"\"]","resourceBody":"#);
        body.extend_from_slice(document.as_bytes());
        body.push(b'}');
        *size += 1;
        if *size == 100 {
            body.push(b']');
            lanes[range].send(std::mem::take(body)).await?;
            *size = 0;
        }
    }
    for (range, (mut body, size)) in batches {
        if size > 0 {
            body.push(b']');
            lanes[range].send(body).await?;
        }
    }
    drop(lanes);
    let mut total = 0;
    for task in futures::future::join_all(tasks).await {
        total += task??;
    }
    Ok(total)
}

type Bodies = Arc<tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Vec<u8>>>>;

async fn send(
    driver: Arc<CosmosDriver>,
    container: ContainerReference,
    range: String,
    bodies: Bodies,
) -> Result<u64, Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        status_code: u16,
    }
    let headers: HashMap<HeaderName, HeaderValue> = [
        ("x-ms-cosmos-is-batch-request", "true".to_owned()),
        ("x-ms-cosmos-batch-atomic", "false".to_owned()),
        ("x-ms-cosmos-batch-continue-on-error", "true".to_owned()),
        ("x-ms-documentdb-partitionkeyrangeid", range),
    ]
    .into_iter()
    .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from(v)))
    .collect();
    let options = options().with_custom_headers(headers).build();
    let mut written = 0;
    loop {
        let Some(body) = bodies.lock().await.recv().await else {
            return Ok(written);
        };
        let no_key = PartitionKey::try_from(Vec::<PartitionKeyValue>::new())?;
        let operation = CosmosOperation::create_item(ItemReference::from_name(&container, no_key, "bulk"))
            .with_body(body);
        let answer = driver
            .execute_singleton_operation(operation, options.clone())
            .await?
            .into_body()
            .single()?;
        let statuses: Vec<Status> = serde_json::from_slice(&answer)?;
        if let Some(bad) = statuses.iter().find(|s| s.status_code >= 300) {
            return Err(format!("an operation was answered with {}", bad.status_code).into());
        }
        written += statuses.len() as u64;
    }
}

/// CPU time of this process so far (proc(5), in ticks of 10 ms).
fn cpu_seconds() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn peak_mib() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line.split_whitespace().next().unwrap_or("0").parse::<f64>()? / 1024.0)
}
