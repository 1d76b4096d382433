//! How fast the server itself is: bulk writes and the change feed, with the vendor's driver in the same process.
//!
//! `cargo run --release -p cosmos-local --example speed -- [DOCUMENTS] [PARTITIONS]`

use azure_core::credentials::Secret;
use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{
    AccountReference, ChangeFeedStartFrom, CosmosOperation, FeedRange, ItemReference, MaxItemCountHint,
    PartitionKey, PartitionKeyValue,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, ContentResponseOnWrite, DriverOptions, OperationOptionsBuilder, PlanOptions,
};
use azure_data_cosmos_driver::{CosmosDriverRuntime, ResponseBody};
use cosmos_local::{AccountKey, Config, Server};
use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU32;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE: u32 = 1000;
/// Distinct partition keys.
const CUSTOMERS: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    cosmos_local::without_backtraces();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let documents: usize = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let partitions: u32 = arguments.next().map_or(Ok(4), |n| n.parse())?;
    let key = AccountKey::random();
    let mut config = Config::new(key.clone());
    config.databases = vec!["db".to_owned()];
    config.containers = vec![format!("c:/customerId:{partitions}").parse()?];
    let server = Server::start(config).await?;
    let account = AccountReference::with_account_key(
        Url::parse(&server.endpoint())?,
        Secret::new(key.secret().to_owned()),
    );
    std::env::set_var("COSMOS_DISABLE_IMDS", "1");
    let driver = CosmosDriverRuntime::builder()
        .build()
        .await?
        .create_driver(DriverOptions::builder(account).build())
        .await?;
    let options = || {
        OperationOptionsBuilder::new()
            .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
            .with_content_response_on_write(ContentResponseOnWrite::Disabled)
    };
    let container = driver.resolve_container("db", "c", options().build()).await?;

    let mut by_range: HashMap<String, Vec<String>> = HashMap::new();
    let padding = "x".repeat(190);
    for n in 0..documents {
        let customer = format!("customer-{}", n % CUSTOMERS);
        let key = PartitionKey::from(customer.clone());
        let ranges = driver
            .resolve_partition_key_ranges_for_key(&container, &key, false)
            .await?;
        let range = ranges.into_iter().flatten().next().ok_or("no range")?.id;
        by_range.entry(range).or_default().push(format!(
            r#"{{"operationType":"Upsert","partitionKey":"[\"{customer}\"]","resourceBody":{{"id":"order-{n}","customerId":"{customer}","text":"{padding}"}}}}"#
        ));
    }
    let started = Instant::now();
    let writers = by_range.into_iter().map(|(range, operations)| {
        let (driver, container) = (driver.clone(), container.clone());
        let headers: HashMap<HeaderName, HeaderValue> = [
            ("x-ms-cosmos-is-batch-request", "true"),
            ("x-ms-cosmos-batch-atomic", "false"),
            ("x-ms-cosmos-batch-continue-on-error", "true"),
            ("x-ms-documentdb-partitionkeyrangeid", range.as_str()),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from(value.to_owned())))
        .collect();
        let options = options().with_custom_headers(headers).build();
        tokio::spawn(async move {
            for chunk in operations.chunks(100) {
                let no_key = PartitionKey::try_from(Vec::<PartitionKeyValue>::new())?;
                let operation =
                    CosmosOperation::create_item(ItemReference::from_name(&container, no_key, "bulk"))
                        .with_body(format!("[{}]", chunk.join(",")).into_bytes());
                let response = driver
                    .execute_singleton_operation(operation, options.clone())
                    .await?;
                if u16::from(response.status().status_code()) != 200 {
                    return Err("an operation of a bulk request failed".into());
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await?.map_err(|e| e.to_string())?;
    }
    report("bulk upsert", documents, started);

    let started = Instant::now();
    let operation = CosmosOperation::change_feed(container.clone(), Some(FeedRange::full()))
        .with_change_feed_start(ChangeFeedStartFrom::Beginning)
        .with_max_item_count(MaxItemCountHint::Limit(NonZeroU32::new(PAGE).ok_or("page")?));
    let mut plan = driver
        .plan_operation(operation, &options().build(), None, &PlanOptions::default())
        .await?;
    let (mut read, mut bytes) = (0, 0);
    while read < documents {
        let page = driver
            .execute_plan(&mut plan, Some(container.clone()), options().build())
            .await?;
        match page.ok_or("the feed ended")?.into_body() {
            ResponseBody::NoPayload => {}
            ResponseBody::Items(items) => {
                read += items.len();
                bytes += items.iter().map(|item| item.len()).sum::<usize>();
            }
            ResponseBody::Bytes(body) => {
                let page: serde_json::Value = serde_json::from_slice(&body)?;
                read += page["Documents"].as_array().map_or(0, Vec::len);
                bytes += body.len();
            }
        }
    }
    report("change feed", read, started);
    println!("{} bytes per document on the wire", bytes / read.max(1));
    server.stop().await;
    Ok(())
}

fn report(what: &str, documents: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what}: {documents} documents in {seconds:.2} s, {:.0}/s, {:.1} us each, client included",
        documents as f64 / seconds,
        seconds * 1e6 / documents as f64
    );
}
