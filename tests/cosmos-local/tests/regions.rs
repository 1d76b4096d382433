//! Several regions, and an account that advertises Gateway 2.0.

mod support;

use azure_core::credentials::Secret;
use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{
    AccountReference, ContainerReference, CosmosOperation, ItemReference, PartitionKey, PartitionKeyValue,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, ConnectionPoolOptions, DriverOptions, OperationOptions, OperationOptionsBuilder,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime, Result};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use support::{bulk_headers, keyed, upsert, Local, LIMIT};

const REGIONS: [&str; 2] = ["West US", "East US"];

fn two_regions() -> (Local, [String; 2]) {
    let local = Local::with(&["c:/pk:2"], |config| {
        config.regions = REGIONS.map(str::to_owned).to_vec();
    });
    let endpoints = local.regions();
    let of = |name: &str| endpoints.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let ours = REGIONS.map(of);
    (local, ours)
}

fn put(local: &Local, endpoint: &str, id: &str) -> support::Answer {
    let headers = [keyed("k"), ("x-ms-documentdb-is-upsert", "true".to_owned())];
    let body = json!({ "id": id, "pk": "k" }).to_string();
    local
        .send_to(endpoint, "POST", "dbs/db/colls/c/docs", &headers, body.as_bytes())
        .unwrap()
}

fn get(local: &Local, endpoint: &str, id: &str) -> std::result::Result<support::Answer, ureq::Error> {
    local.send_to(
        endpoint,
        "GET",
        &format!("dbs/db/colls/c/docs/{id}"),
        &[keyed("k")],
        b"",
    )
}

fn locations(account: &Value, list: &str) -> Vec<(String, String)> {
    let list = account[list]
        .as_array()
        .unwrap_or_else(|| panic!("no {list} in {account}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter()
        .map(|location| {
            (
                text(&location["name"]),
                text(&location["databaseAccountEndpoint"]),
            )
        })
        .collect()
}

async fn driver(local: &Local, gateway_v2: bool) -> Result<Arc<CosmosDriver>> {
    let endpoint = Url::parse(&local.endpoint).unwrap();
    let account = AccountReference::with_account_key(endpoint, Secret::new(local.key.clone()));
    let pool = ConnectionPoolOptions::builder()
        .with_gateway_v2_disabled(!gateway_v2)
        .build()?;
    let runtime = CosmosDriverRuntime::builder()
        .with_connection_pool(pool)
        .build()
        .await?;
    runtime
        .create_driver(DriverOptions::builder(account).build())
        .await
}

/// A driver of its own, and the container of these tests.
async fn opened(local: &Local, gateway_v2: bool) -> (Arc<CosmosDriver>, ContainerReference) {
    let driver = driver(local, gateway_v2).await.unwrap();
    let container = driver
        .resolve_container("db", "c", options().build())
        .await
        .unwrap();
    (driver, container)
}

fn options() -> OperationOptionsBuilder {
    OperationOptionsBuilder::new().with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
}

async fn write(driver: &CosmosDriver, container: &ContainerReference, id: &str) -> u16 {
    let item = ItemReference::from_name(container, PartitionKey::from("k"), id.to_owned());
    let body = json!({ "id": id, "pk": "k" }).to_string().into_bytes();
    let operation = CosmosOperation::upsert_item(item).with_body(body);
    match driver
        .execute_singleton_operation(operation, options().build())
        .await
    {
        Ok(response) => response.status().status_code().into(),
        Err(error) => error.status().status_code().into(),
    }
}

#[test]
fn the_account_names_its_regions_and_only_one_takes_writes() {
    let (local, [west, east]) = two_regions();
    for endpoint in [&local.endpoint, &west, &east] {
        let account = local.send_to(endpoint, "GET", "", &[], b"").unwrap().json();
        assert_eq!(
            locations(&account, "writableLocations"),
            [("West US".to_owned(), west.clone())]
        );
        let readable = locations(&account, "readableLocations");
        assert_eq!(
            readable,
            [
                ("West US".to_owned(), west.clone()),
                ("East US".to_owned(), east.clone())
            ]
        );
        assert!(account.get("thinClientReadableLocations").is_none());
    }
    assert_eq!(put(&local, &west, "a").status, 201);
    assert_eq!(put(&local, &local.endpoint, "b").status, 201);
    assert_eq!(put(&local, &east, "c").outcome(), (403, 3));
    let bulk = json!([upsert("c", "k")]).to_string();
    let refused = local.send_to(
        &east,
        "POST",
        "dbs/db/colls/c/docs",
        &bulk_headers("0"),
        bulk.as_bytes(),
    );
    assert_eq!(refused.unwrap().outcome(), (403, 3));
    assert_eq!(get(&local, &east, "b").unwrap().status, 200);

    let moved = local.admin("POST", "regions", json!({ "write": "East US" }));
    assert_eq!(moved["regions"][1]["write"], true);
    assert_eq!(put(&local, &west, "d").outcome(), (403, 3));
    assert_eq!(put(&local, &east, "d").status, 201);
    let account = local.send("GET", "", &[], b"").unwrap().json();
    assert_eq!(
        locations(&account, "writableLocations"),
        [("East US".to_owned(), east.clone())]
    );

    local.admin("POST", "regions", json!({ "remove": "West US" }));
    assert_eq!(get(&local, &west, "a").unwrap().outcome(), (403, 1008));
    assert_eq!(
        local.send_to(&west, "GET", "", &[], b"").unwrap().outcome(),
        (403, 1008)
    );
    let account = local.send("GET", "", &[], b"").unwrap().json();
    assert_eq!(
        locations(&account, "readableLocations"),
        [("East US".to_owned(), east)]
    );
    local.admin(
        "POST",
        "regions",
        json!({ "add": "West US", "perPartitionFailover": true }),
    );
    assert_eq!(get(&local, &west, "a").unwrap().status, 200);
    let account = local.send("GET", "", &[], b"").unwrap().json();
    assert_eq!(account["enablePerPartitionFailoverBehavior"], true);

    for (change, named) in [
        (json!({ "write": "North" }), "North"),
        (json!({ "remove": "East US" }), "East US"),
        (json!({ "writ": "East US" }), "writ"),
    ] {
        let (status, refused) = local.try_admin("POST", "regions", change);
        assert_eq!(status, 400);
        assert!(refused["message"].as_str().unwrap().contains(named), "{refused}");
    }
    let single = Local::start(&["c:/pk:1"]);
    assert_eq!(
        single
            .try_admin("POST", "regions", json!({ "offline": "Local" }))
            .0,
        400
    );
}

#[test]
fn a_region_that_is_down_refuses_connections_until_it_is_up_again() {
    let (local, [west, east]) = two_regions();
    assert_eq!(put(&local, &west, "a").status, 201);
    for _ in 0..2 {
        local.admin("POST", "regions", json!({ "offline": "East US" }));
        let refused = get(&local, &east, "a").unwrap_err();
        let ureq::Error::Io(refused) = refused else {
            panic!("{refused}")
        };
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(get(&local, &west, "a").unwrap().status, 200);
        local.admin("POST", "regions", json!({ "online": "East US" }));
        assert_eq!(get(&local, &east, "a").unwrap().status, 200);
    }
}

#[test]
fn a_fault_can_be_for_one_region() {
    let (local, [west, east]) = two_regions();
    put(&local, &west, "a");
    local.fault(json!({ "status": 503, "region": "East US" }));
    assert_eq!(get(&local, &east, "a").unwrap().status, 503);
    assert_eq!(get(&local, &west, "a").unwrap().status, 200);
    let last = local.requests("read").pop().unwrap();
    assert_eq!(last["region"], "West US", "{last}");
}

#[test]
fn the_driver_follows_the_region_that_takes_writes() {
    let (local, _) = two_regions();
    let client = tokio::runtime::Runtime::new().unwrap();
    client.block_on(async {
        let (driver, container) = opened(&local, false).await;
        assert_eq!(write(&driver, &container, "a").await, 201);
        tokio::task::block_in_place(|| local.admin("POST", "regions", json!({ "write": "East US" })));
        assert_eq!(write(&driver, &container, "b").await, 201);
    });
    let upserts = local.requests("upsert");
    let outcomes: Vec<_> = upserts
        .iter()
        .map(|e| (e["region"].clone(), e["status"].clone()))
        .collect();
    assert_eq!(outcomes.first(), Some(&(json!("West US"), json!(201))));
    assert!(outcomes.contains(&(json!("West US"), json!(403))), "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&(json!("East US"), json!(201))));
}

#[test]
fn a_partition_that_failed_over_alone_is_written_elsewhere() {
    let (local, [west, east]) = two_regions();
    let range = local.range_of("k");
    let other = if range == "0" { "1" } else { "0" };
    let over = |partition: &str, to: Value| {
        let over = json!({ "container": "c", "partition": partition, "to": to });
        local.admin(
            "POST",
            "regions",
            json!({ "perPartitionFailover": true, "failOver": over }),
        )
    };
    let told = over(&range, json!("East US"));
    assert_eq!(told["failedOver"][0]["to"], "East US");
    assert_eq!(put(&local, &west, "a").outcome(), (403, 3));
    assert_eq!(put(&local, &east, "a").status, 201);
    let bulk = |endpoint: &str, range: &str| {
        let body = json!([upsert("b", "k")]).to_string();
        local
            .send_to(
                endpoint,
                "POST",
                "dbs/db/colls/c/docs",
                &bulk_headers(range),
                body.as_bytes(),
            )
            .unwrap()
            .outcome()
    };
    assert_eq!((bulk(&west, &range), bulk(&east, &range)), ((403, 3), (200, 0)));
    assert_eq!(bulk(&east, other), (403, 3), "the other partition stays");
    assert_eq!(get(&local, &west, "a").unwrap().status, 200);

    let client = tokio::runtime::Runtime::new().unwrap();
    client.block_on(async {
        let (driver, container) = opened(&local, false).await;
        assert!(write(&driver, &container, "c").await < 300);
    });
    let last = local.requests("upsert").pop().unwrap();
    assert_eq!(
        (&last["region"], &last["status"]),
        (&json!("East US"), &json!(201)),
        "{last}"
    );
    over(&range, Value::Null);
    assert_eq!(put(&local, &west, "a").status, 200);
    let unknown = json!({ "failOver": { "container": "c", "partition": "0", "to": "North" } });
    assert_eq!(local.try_admin("POST", "regions", unknown).0, 400);
}

#[test]
fn the_driver_reads_elsewhere_while_a_region_is_down() {
    let (local, _) = two_regions();
    let client = tokio::runtime::Runtime::new().unwrap();
    client.block_on(async {
        let (driver, container) = opened(&local, false).await;
        assert_eq!(write(&driver, &container, "a").await, 201);
        let outage = json!({ "offline": "West US", "write": "East US" });
        tokio::task::block_in_place(|| local.admin("POST", "regions", outage));
        let item = ItemReference::from_name(&container, PartitionKey::from("k"), "a");
        let read = CosmosOperation::read_item(item);
        let read = driver
            .execute_singleton_operation(read, options().build())
            .await
            .unwrap();
        assert_eq!(u16::from(read.status().status_code()), 200);
        // Of another region for writes it hears from one that takes none: until then its writes fail.
        assert_eq!(write(&driver, &container, "b").await, 503);
        tokio::task::block_in_place(|| local.admin("POST", "regions", json!({ "online": "West US" })));
        let limit = Instant::now() + LIMIT;
        while write(&driver, &container, "b").await != 201 {
            assert!(Instant::now() < limit, "{:?}", local.requests("upsert"));
        }
    });
    for kind in ["read", "upsert"] {
        assert_eq!(local.requests(kind).pop().unwrap()["region"], "East US", "{kind}");
    }
}

#[test]
fn who_goes_to_gateway_v2_is_found_out_and_loses_headers() {
    let local = Local::with(&["c:/pk:1"], |config| config.gateway_v2 = true);
    let account = local.send("GET", "", &[], b"").unwrap().json();
    let [(_, endpoint)] = locations(&account, "thinClientReadableLocations")
        .try_into()
        .unwrap();
    assert_eq!(locations(&account, "thinClientWritableLocations")[0].1, endpoint);
    assert_ne!(endpoint, local.endpoint);
    let client = tokio::runtime::Runtime::new().unwrap();
    let bulk = |gateway_v2: bool| {
        client.block_on(async {
            let (driver, container) = opened(&local, gateway_v2).await;
            assert!(write(&driver, &container, "a").await < 300);
            let no_key = PartitionKey::try_from(Vec::<PartitionKeyValue>::new()).unwrap();
            let operation =
                CosmosOperation::create_item(ItemReference::from_name(&container, no_key, "bulk"))
                    .with_body(json!([upsert("b", "k")]).to_string().into_bytes());
            let headers: HashMap<HeaderName, HeaderValue> = bulk_headers("0")
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from(value)))
                .collect();
            let options: OperationOptions = options().with_custom_headers(headers).build();
            driver
                .execute_singleton_operation(operation, options)
                .await
                .map(|response| u16::from(response.status().status_code()))
        })
    };
    assert_eq!(bulk(false).unwrap(), 200);
    assert_eq!(local.stats()["gatewayV2Requests"], 0);
    assert_eq!(local.requests("bulk").len(), 1);
    let lost = bulk(true);
    assert!(lost.is_err(), "{lost:?}");
    assert!(
        local.stats()["gatewayV2Requests"].as_u64().unwrap() >= 2,
        "{}",
        local.stats()
    );
    assert_eq!(local.requests("bulk").len(), 1);
    assert_eq!(local.requests("gatewayV2")[0]["http"], "2");
}
