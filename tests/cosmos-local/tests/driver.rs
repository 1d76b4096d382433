//! The vendor's driver, unchanged, against a running server.

use azure_core::credentials::Secret;
use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{
    AccountReference, ChangeFeedStartFrom, ContainerReference, CosmosOperation, CosmosResponse,
    DatabaseReference, FeedRange, ItemReference, MaxItemCountHint, PartitionKey, PartitionKeyValue,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, DriverOptions, OperationOptionsBuilder, PlanOptions, ThrottlingRetryOptionsBuilder,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime, OperationPlan, Result};
use cosmos_local::{AccountKey, Config, Server};
use serde_json::{json, Value};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

struct Account {
    server: Server,
    driver: Arc<CosmosDriver>,
}

/// Connects the driver to an endpoint.
async fn connect(endpoint: &str, key: &str) -> Result<Arc<CosmosDriver>> {
    // First use would ask the cloud's metadata address otherwise, for seconds.
    std::env::set_var("COSMOS_DISABLE_IMDS", "1");
    let endpoint = Url::parse(endpoint).unwrap();
    let account = AccountReference::with_account_key(endpoint, Secret::new(key.to_owned()));
    let runtime = CosmosDriverRuntime::builder().build().await?;
    runtime
        .create_driver(DriverOptions::builder(account).build())
        .await
}

impl Account {
    async fn start(containers: &[&str], throttling: bool) -> Self {
        let key = AccountKey::random();
        let mut config = Config::new(key.clone());
        config.databases = vec!["db".to_owned()];
        config.containers = containers.iter().map(|spec| spec.parse().unwrap()).collect();
        config.throttling = throttling;
        let server = Server::start(config).await.unwrap();
        let driver = connect(&server.endpoint(), key.secret()).await.unwrap();
        Self { server, driver }
    }

    async fn container(&self, name: &str) -> ContainerReference {
        self.driver
            .resolve_container("db", name, options().build())
            .await
            .unwrap()
    }

    async fn run(&self, operation: CosmosOperation) -> Result<CosmosResponse> {
        self.driver
            .execute_singleton_operation(operation, options().build())
            .await
    }

    async fn upsert(
        &self,
        container: &ContainerReference,
        id: &str,
        key: &str,
        value: i64,
    ) -> Result<CosmosResponse> {
        let body = json!({ "id": id, "pk": key, "value": value })
            .to_string()
            .into_bytes();
        self.run(CosmosOperation::upsert_item(item(container, id, key)).with_body(body))
            .await
    }

    /// Sends operations in the bulk form to one range; the whole answer's status and each result.
    async fn bulk(
        &self,
        container: &ContainerReference,
        range: &str,
        operations: Value,
    ) -> Result<(u16, Vec<Value>)> {
        let no_key = PartitionKey::try_from(Vec::<PartitionKeyValue>::new())?;
        let operation = CosmosOperation::create_item(ItemReference::from_name(container, no_key, "bulk"))
            .with_body(operations.to_string().into_bytes());
        let headers: HashMap<HeaderName, HeaderValue> = [
            ("x-ms-cosmos-is-batch-request", "true"),
            ("x-ms-cosmos-batch-atomic", "false"),
            ("x-ms-cosmos-batch-continue-on-error", "true"),
            ("x-ms-documentdb-partitionkeyrangeid", range),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from(value.to_owned())))
        .collect();
        let options = options().with_custom_headers(headers).build();
        let response = self
            .driver
            .execute_singleton_operation(operation, options)
            .await?;
        let status = u16::from(response.status().status_code());
        Ok((
            status,
            serde_json::from_slice(&response.into_body().single()?).unwrap(),
        ))
    }

    /// The physical range of a key, as the driver knows it.
    async fn range_of(&self, container: &ContainerReference, key: &str) -> String {
        let key = PartitionKey::from(key.to_owned());
        let ranges = self
            .driver
            .resolve_partition_key_ranges_for_key(container, &key, true)
            .await;
        ranges.unwrap().unwrap()[0].id.clone()
    }

    async fn feed(&self, container: &ContainerReference, start: ChangeFeedStartFrom) -> Feed {
        let operation = CosmosOperation::change_feed(container.clone(), Some(FeedRange::full()))
            .with_change_feed_start(start)
            .with_max_item_count(MaxItemCountHint::Limit(NonZeroU32::new(7).unwrap()));
        let plan = self
            .driver
            .plan_operation(operation, &options().build(), None, &PlanOptions::default())
            .await
            .unwrap();
        Feed {
            driver: Arc::clone(&self.driver),
            container: container.clone(),
            plan,
        }
    }

    fn admin(&self, method: &str, action: &str, body: Option<Value>) -> (u16, Value) {
        admin(&self.server.endpoint(), method, action, body)
    }
}

fn admin(endpoint: &str, method: &str, action: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("{endpoint}_local/{action}");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    // The client blocks: it must not take a worker from the server.
    tokio::task::block_in_place(|| {
        let response = match (method, body) {
            ("GET", _) => agent.get(&url).call(),
            ("DELETE", _) => agent.delete(&url).call(),
            (_, body) => agent.post(&url).send_json(body.unwrap_or_default()),
        };
        let mut response = response.unwrap();
        (
            response.status().as_u16(),
            response.body_mut().read_json().unwrap(),
        )
    })
}

fn options() -> OperationOptionsBuilder {
    OperationOptionsBuilder::new()
        .with_throttling_retry_options(
            ThrottlingRetryOptionsBuilder::new()
                .with_max_retry_count(0)
                .build(),
        )
        .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
}

fn item(container: &ContainerReference, id: &str, key: &str) -> ItemReference {
    ItemReference::from_name(container, PartitionKey::from(key.to_owned()), id.to_owned())
}

struct Feed {
    driver: Arc<CosmosDriver>,
    container: ContainerReference,
    plan: OperationPlan,
}

impl Feed {
    /// Reads until all ranges say that there is no more, and returns the values by id. A document that comes twice
    /// must come with a newer value.
    async fn drain(&mut self) -> BTreeMap<String, i64> {
        let mut seen = BTreeMap::new();
        let mut empty = 0;
        while empty < 6 {
            let page = self
                .driver
                .execute_plan(&mut self.plan, Some(self.container.clone()), options().build())
                .await
                .unwrap()
                .unwrap();
            let changes: Vec<Value> = match page.into_body() {
                azure_data_cosmos_driver::ResponseBody::NoPayload => Vec::new(),
                body => documents(body),
            };
            empty = if changes.is_empty() { empty + 1 } else { 0 };
            for change in changes {
                let document = &change["current"];
                assert!(change["metadata"]["crts"].as_u64().unwrap() > 0, "{change}");
                assert!(
                    document["_etag"].is_string() && document["_ts"].is_u64(),
                    "{change}"
                );
                let id = document["id"].as_str().unwrap().to_owned();
                let value = document["value"].as_i64().unwrap();
                let before = seen.insert(id, value);
                assert!(
                    before.is_none_or(|before| before < value),
                    "{change} after {before:?}"
                );
            }
        }
        seen
    }
}

fn documents(body: azure_data_cosmos_driver::ResponseBody) -> Vec<Value> {
    match body {
        azure_data_cosmos_driver::ResponseBody::Items(items) => items
            .iter()
            .map(|item| serde_json::from_slice(item).unwrap())
            .collect(),
        body => {
            let page: Value = serde_json::from_slice(&body.single().unwrap()).unwrap();
            page["Documents"].as_array().unwrap().clone()
        }
    }
}

fn status_of(result: Result<CosmosResponse>) -> u16 {
    match result {
        Ok(response) => u16::from(response.status().status_code()),
        Err(error) => u16::from(error.status().status_code()),
    }
}

fn upsert(id: &str, key: &str, value: i64) -> Value {
    json!({
        "operationType": "Upsert",
        "partitionKey": json!([key]).to_string(),
        "resourceBody": { "id": id, "pk": key, "value": value },
    })
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results
        .iter()
        .map(|result| result["statusCode"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_containers_and_documents_live_through_the_api() {
    let account = Account::start(&[], false).await;
    let reference = account.driver.account().clone();
    let body = |json: Value| json.to_string().into_bytes();
    let create = CosmosOperation::create_database(reference.clone()).with_body(body(json!({ "id": "shop" })));
    assert_eq!(status_of(account.run(create).await), 201);
    let shop = DatabaseReference::from_name(reference, "shop");
    let definition =
        json!({ "id": "orders", "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 } });
    let create = CosmosOperation::create_container(shop.clone()).with_body(body(definition));
    assert_eq!(status_of(account.run(create).await), 201);
    let expiring = json!({ "id": "x", "defaultTtl": 5, "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 } });
    let create = CosmosOperation::create_container(shop).with_body(body(expiring));
    assert_eq!(status_of(account.run(create).await), 201);

    let orders = account
        .driver
        .resolve_container("shop", "orders", options().build())
        .await
        .unwrap();
    let document = |value: i64| body(json!({ "id": "a", "pk": "k", "value": value }));
    let create = || CosmosOperation::create_item(item(&orders, "a", "k")).with_body(document(1));
    assert_eq!(status_of(account.run(create()).await), 201);
    assert_eq!(status_of(account.run(create()).await), 409);
    let replace = CosmosOperation::replace_item(item(&orders, "a", "k")).with_body(document(2));
    assert_eq!(status_of(account.run(replace).await), 200);
    let read = || CosmosOperation::read_item(item(&orders, "a", "k"));
    let stored: Value = account
        .run(read())
        .await
        .unwrap()
        .into_body()
        .into_single()
        .unwrap();
    assert_eq!((&stored["value"], &stored["pk"]), (&json!(2), &json!("k")));
    assert_eq!(
        status_of(
            account
                .run(CosmosOperation::delete_item(item(&orders, "a", "k")))
                .await
        ),
        204
    );
    assert_eq!(status_of(account.run(read()).await), 404);

    let (_, stats) = account.admin("GET", "stats", None);
    assert_eq!(
        stats["requests"]["create"],
        json!({ "201": 1, "409": 1 }),
        "{stats}"
    );
    account.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_gets_401() {
    let account = Account::start(&["c:/pk:1"], false).await;
    let other = AccountKey::random();
    let result = match connect(&account.server.endpoint(), other.secret()).await {
        Ok(driver) => driver
            .resolve_container("db", "c", options().build())
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(u16::from(result.unwrap_err().status().status_code()), 401);
    // Without any signature, over plain HTTP/1.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut response =
        tokio::task::block_in_place(|| agent.get(account.server.endpoint() + "dbs").call()).unwrap();
    let body: Value = tokio::task::block_in_place(|| response.body_mut().read_json()).unwrap();
    assert_eq!(
        (response.status().as_u16(), body["code"].as_str()),
        (401, Some("Unauthorized"))
    );
    assert!(
        body["message"].as_str().unwrap().contains("authorization"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_feed_gives_the_latest_versions_in_order_and_goes_on() {
    let account = Account::start(&["c:/pk:3"], false).await;
    let container = account.container("c").await;
    let mut now = account.feed(&container, ChangeFeedStartFrom::Now).await;
    assert!(now.drain().await.is_empty());
    for n in 0..60 {
        account
            .upsert(&container, &format!("d{n}"), &format!("k{}", n % 9), 1)
            .await
            .unwrap();
    }
    account.upsert(&container, "d3", "k3", 2).await.unwrap();
    account
        .run(CosmosOperation::delete_item(item(&container, "d4", "k4")))
        .await
        .unwrap();

    let mut feed = account.feed(&container, ChangeFeedStartFrom::Beginning).await;
    let seen = feed.drain().await;
    assert_eq!(seen.len(), 59);
    assert_eq!((seen.get("d3"), seen.get("d4")), (Some(&2), None));
    assert_eq!(now.drain().await, seen);

    account.upsert(&container, "d5", "k5", 2).await.unwrap();
    let later: BTreeMap<String, i64> = [("d5".to_owned(), 2)].into();
    assert_eq!(feed.drain().await, later);
    let far = azure_core::time::OffsetDateTime::now_utc() + std::time::Duration::from_secs(3600);
    assert!(account
        .feed(&container, ChangeFeedStartFrom::PointInTime(far))
        .await
        .drain()
        .await
        .is_empty());
    let past = azure_core::time::OffsetDateTime::now_utc() - std::time::Duration::from_secs(3600);
    assert_eq!(
        account
            .feed(&container, ChangeFeedStartFrom::PointInTime(past))
            .await
            .drain()
            .await
            .len(),
        59
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_gives_every_operation_its_own_outcome() {
    let account = Account::start(&["c:/pk:2"], false).await;
    let container = account.container("c").await;
    let range = account.range_of(&container, "k").await;
    let foreign = {
        let mut n = 0;
        loop {
            n += 1;
            let key = format!("f{n}");
            if account.range_of(&container, &key).await != range {
                break key;
            }
        }
    };
    let key = json!(["k"]).to_string();
    let with = |kind: &str, id: &str| json!({ "operationType": kind, "partitionKey": key, "id": id });
    let mut replace = with("Replace", "a");
    replace["resourceBody"] = json!({ "id": "a", "pk": "k", "value": 5 });
    replace["ifMatch"] = json!("\"not this one\"");
    let mut create = upsert("a", "k", 2);
    create["operationType"] = json!("Create");
    let operations = json!([
        upsert("a", "k", 1),
        create,
        upsert("b", "k", 1),
        replace,
        with("Read", "a"),
        with("Delete", "b"),
        with("Delete", "b"),
        upsert("z", &foreign, 1),
        with("Upsert", "no body"),
    ]);
    let (status, results) = account.bulk(&container, &range, operations).await.unwrap();
    assert_eq!(status, 207);
    assert_eq!(statuses(&results), [201, 409, 201, 412, 200, 204, 404, 410, 400]);
    assert_eq!(results[7]["subStatusCode"], 1002);
    assert_eq!(results[4]["resourceBody"]["value"], 1);
    assert!(results[0]["eTag"].is_string() && results[0]["requestCharge"].as_f64().unwrap() > 0.0);
    let seen = account
        .feed(&container, ChangeFeedStartFrom::Beginning)
        .await
        .drain()
        .await;
    assert_eq!(seen, [("a".to_owned(), 1)].into());

    let (status, results) = account
        .bulk(&container, &range, json!([upsert("a", "k", 9)]))
        .await
        .unwrap();
    assert_eq!((status, statuses(&results)), (200, vec![200]));
    let many: Vec<Value> = (0..101).map(|n| upsert(&n.to_string(), "k", 1)).collect();
    let refused = account.bulk(&container, &range, json!(many)).await.unwrap_err();
    assert_eq!(u16::from(refused.status().status_code()), 400);
    let gone = account
        .bulk(&container, "99", json!([upsert("a", "k", 9)]))
        .await
        .unwrap_err();
    assert_eq!(u16::from(gone.status().status_code()), 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_all_or_nothing_and_reaches_the_feed() {
    let account = Account::start(&["c:/pk:1"], false).await;
    let container = account.container("c").await;
    let batch = |operations: Value| {
        let body = operations.to_string().into_bytes();
        CosmosOperation::batch(container.clone(), PartitionKey::from("k".to_owned())).with_body(body)
    };
    let create = |id: &str, value: i64| json!({ "operationType": "Create", "resourceBody": { "id": id, "pk": "k", "value": value } });
    let good = account.run(batch(json!([create("a", 1), create("b", 1)]))).await;
    assert_eq!(status_of(good), 200);
    let bad = account.run(batch(json!([create("c", 1), create("a", 2)]))).await;
    assert!(matches!(status_of(bad), 207 | 409));
    let seen = account
        .feed(&container, ChangeFeedStartFrom::Beginning)
        .await
        .drain()
        .await;
    assert_eq!(seen, [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_request_units_ends_in_429() {
    let account = Account::start(&["c:/pk:1:400"], true).await;
    let container = account.container("c").await;
    let operations: Vec<Value> = (0..100).map(|n| upsert(&format!("d{n}"), "k", 1)).collect();
    let (status, results) = account.bulk(&container, "0", json!(operations)).await.unwrap();
    assert_eq!(status, 207);
    let (done, throttled): (Vec<&Value>, Vec<&Value>) =
        results.iter().partition(|result| result["statusCode"] == 201);
    assert!(
        !done.is_empty() && !throttled.is_empty(),
        "{} of 100 done",
        done.len()
    );
    assert!(throttled.iter().all(|result| result["statusCode"] == 429
        && result["subStatusCode"] == 3200
        && result["retryAfterMilliseconds"].as_u64().unwrap() > 0));
    let seen = account
        .feed(&container, ChangeFeedStartFrom::Beginning)
        .await
        .drain()
        .await;
    assert_eq!(seen.len(), done.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_feed_and_writers_survive_split_and_merge() {
    let account = Account::start(&["c:/pk:1"], false).await;
    let container = account.container("c").await;
    for n in 0..40 {
        account
            .upsert(&container, &format!("d{n}"), &format!("k{n}"), 1)
            .await
            .unwrap();
    }
    let mut feed = account.feed(&container, ChangeFeedStartFrom::Beginning).await;
    assert_eq!(feed.drain().await.len(), 40);

    let place = json!({ "database": "db", "container": "c", "partition": 0 });
    let (status, split) = account.admin("POST", "split", Some(place.clone()));
    assert_eq!((status, &split["partitions"]), (200, &json!([1, 2])), "{split}");
    let (status, again) = account.admin("POST", "split", Some(place));
    assert_eq!(status, 400);
    assert!(
        again["message"].as_str().unwrap().contains("no partition 0"),
        "{again}"
    );
    let gone = account
        .bulk(&container, "0", json!([upsert("x", "k1", 1)]))
        .await
        .unwrap_err();
    assert_eq!(u16::from(gone.status().status_code()), 410);

    for n in 0..40 {
        account
            .upsert(&container, &format!("d{n}"), &format!("k{n}"), 2)
            .await
            .unwrap();
    }
    let seen = feed.drain().await;
    assert_eq!((seen.len(), seen.values().sum::<i64>()), (40, 80));
    assert_eq!(
        account
            .feed(&container, ChangeFeedStartFrom::Beginning)
            .await
            .drain()
            .await,
        seen
    );
    let (_, stats) = account.admin("GET", "stats", None);
    let partitions = stats["containers"][0]["partitions"].as_array().unwrap();
    let counts: Vec<u64> = partitions
        .iter()
        .map(|p| p["documents"].as_u64().unwrap())
        .collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (2, 40));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");

    let merge = json!({ "database": "db", "container": "c", "partitions": [1, 2] });
    assert_eq!(account.admin("POST", "merge", Some(merge)).0, 200);
    account.upsert(&container, "d7", "k7", 3).await.unwrap();
    assert_eq!(feed.drain().await, [("d7".to_owned(), 3)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_hit_what_they_name_and_can_be_taken_back() {
    let account = Account::start(&["c:/pk:1"], false).await;
    let container = account.container("c").await;
    let fault = |json: Value| assert_eq!(account.admin("POST", "faults", Some(json)).0, 200);
    fault(json!({ "status": 429, "subStatus": 3200, "operations": "write", "retryAfterMillis": 7 }));
    assert_eq!(status_of(account.upsert(&container, "a", "k", 1).await), 429);
    assert_eq!(account.admin("DELETE", "faults", None).0, 200);
    account.upsert(&container, "a", "k", 1).await.unwrap();

    fault(json!({ "status": 449, "operations": "bulk", "perOperation": true, "count": 1 }));
    let operations = json!([upsert("b", "k", 1), upsert("c", "k", 1)]);
    let (status, results) = account.bulk(&container, "0", operations).await.unwrap();
    assert_eq!((status, statuses(&results)), (207, vec![449, 201]));

    fault(json!({ "operations": "write", "delayMillis": 150, "count": 1 }));
    let started = std::time::Instant::now();
    account.upsert(&container, "a", "k", 2).await.unwrap();
    assert!(started.elapsed() >= std::time::Duration::from_millis(150));
    let (status, refused) = account.admin("POST", "faults", Some(json!({ "status": 99 })));
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("99"));
    let (_, stats) = account.admin("GET", "stats", None);
    assert_eq!(stats["faultsInjected"].as_u64().unwrap(), 3, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_answer_leaves_the_write_done() {
    let account = Account::start(&["c:/pk:1"], false).await;
    let container = account.container("c").await;
    let drop = json!({ "operations": "write", "dropResponse": true, "count": 1 });
    assert_eq!(account.admin("POST", "faults", Some(drop)).0, 200);
    let body = json!({ "id": "a", "pk": "k", "value": 1 })
        .to_string()
        .into_bytes();
    let create = CosmosOperation::create_item(item(&container, "a", "k")).with_body(body);
    // The driver does not know whether the create was done: it either says so or meets the document on its retry.
    let result = account.run(create).await;
    assert!(result.is_err(), "the answer arrived: {:?}", status_of(result));
    let read = account
        .run(CosmosOperation::read_item(item(&container, "a", "k")))
        .await;
    assert_eq!(status_of(read), 200);
    let (_, stats) = account.admin("GET", "stats", None);
    assert_eq!(stats["responsesDropped"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_know_both_kinds_of_quotes() {
    let account = Account::start(&["c:/pk:2"], false).await;
    let container = account.container("c").await;
    for (id, key) in [("a", "k"), ("b", "k"), ("c", "other")] {
        account.upsert(&container, id, key, 1).await.unwrap();
    }
    for query in [
        r#"SELECT * FROM c WHERE c["pk"] = "k""#,
        "SELECT * FROM c WHERE c.pk = 'k'",
    ] {
        let operation = CosmosOperation::query_items(container.clone(), Some(FeedRange::full()))
            .with_body(json!({ "query": query }).to_string().into_bytes());
        let mut plan = account
            .driver
            .plan_operation(operation, &options().build(), None, &PlanOptions::default())
            .await
            .unwrap();
        let mut ids = Vec::new();
        while let Some(page) = account
            .driver
            .execute_plan(&mut plan, Some(container.clone()), options().build())
            .await
            .unwrap()
        {
            ids.extend(
                documents(page.into_body())
                    .iter()
                    .map(|d| d["id"].as_str().unwrap().to_owned()),
            );
        }
        ids.sort();
        assert_eq!(ids, ["a", "b"], "{query}");
    }
}
