//! The change feed mode AllVersionsAndDeletes, in the wire's own terms and with the vendor's driver.

mod support;

use azure_core::credentials::Secret;
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{
    AccountReference, ChangeFeedStartFrom, ContainerReference, CosmosOperation, FeedRange, MaxItemCountHint,
};
use azure_data_cosmos_driver::options::{
    BinaryEncodingOptions, DriverOptions, OperationOptionsBuilder, PlanOptions,
};
use azure_data_cosmos_driver::{CosmosDriver, CosmosDriverRuntime, OperationPlan, ResponseBody};
use cosmos_local::{AllVersions, MetadataKey};
use serde_json::{json, Value};
use std::num::NonZeroU32;
use std::sync::Arc;
use support::{keyed, Answer, Local};

fn start(containers: &[&str], all_versions: AllVersions) -> Local {
    Local::with(containers, |config| config.all_versions = Some(all_versions))
}

/// A page of a range; `*` stands for now.
fn page(local: &Local, range: &str, etag: Option<&str>) -> Answer {
    let mut headers = vec![
        ("a-im", "Full-Fidelity Feed".to_owned()),
        (
            "x-ms-cosmos-changefeed-wire-format-version",
            "2021-09-15".to_owned(),
        ),
        ("x-ms-documentdb-partitionkeyrangeid", range.to_owned()),
        ("x-ms-max-item-count", "2".to_owned()),
    ];
    headers.extend(etag.map(|etag| ("if-none-match", etag.to_owned())));
    local.send("GET", "dbs/db/colls/c/docs", &headers, b"").unwrap()
}

fn etag(page: &Answer) -> String {
    page.header("etag").unwrap().to_owned()
}

/// All that there is after an ETag, in pages of two.
fn read(local: &Local, range: &str, after: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), after.to_owned());
    loop {
        let page = page(local, range, Some(&after));
        if page.status == 304 {
            return found;
        }
        assert_eq!(page.status, 200, "{page:?}");
        let list = page.json()["Documents"].as_array().unwrap().clone();
        assert!(!list.is_empty());
        found.extend(list);
        after = etag(&page);
    }
}

fn put(local: &Local, id: &str, value: i64) {
    let answer = local
        .upsert(&json!({ "id": id, "pk": "k", "value": value }))
        .unwrap();
    assert!(answer.status < 300, "{answer:?}");
}

fn delete(local: &Local, id: &str) {
    let path = format!("dbs/db/colls/c/docs/{id}");
    assert_eq!(
        local.send("DELETE", &path, &[keyed("k")], b"").unwrap().status,
        204
    );
}

/// Operation, id and value of each change.
fn told(changes: &[Value]) -> Vec<(String, Value, Value)> {
    let told = changes.iter().map(|change| {
        let (current, metadata) = (&change["current"], &change["metadata"]);
        let id = if current["id"].is_null() {
            &metadata["id"]
        } else {
            &current["id"]
        };
        let operation = metadata["operationType"].as_str().unwrap().to_owned();
        (operation, id.clone(), current["value"].clone())
    });
    told.collect()
}

#[test]
fn each_version_and_each_deletion_is_told_in_order() {
    let local = start(&["c:/pk:1"], AllVersions::default());
    let account = local.send("GET", "", &[], b"").unwrap().json();
    assert_eq!(account["continuousBackupEnabled"], true);
    put(&local, "before", 0);
    let now = page(&local, "0", Some("*"));
    assert_eq!(now.status, 304);
    let now = etag(&now);
    put(&local, "a", 1);
    put(&local, "a", 2);
    put(&local, "before", 3);
    delete(&local, "a");
    put(&local, "a", 4);
    let changes = read(&local, "0", &now);
    let expected = [
        ("create", "a", json!(1)),
        ("replace", "a", json!(2)),
        ("replace", "before", json!(3)),
        ("delete", "a", Value::Null),
        ("create", "a", json!(4)),
    ];
    let expected: Vec<_> = expected
        .map(|(o, id, value)| (o.to_owned(), json!(id), value))
        .into();
    assert_eq!(told(&changes), expected);
    let of = |n: usize, name: &str| changes[n]["metadata"][name].clone();
    let lsns: Vec<u64> = (0..5).map(|n| of(n, "lsn").as_u64().unwrap()).collect();
    assert!(lsns.windows(2).all(|pair| pair[0] < pair[1]), "{lsns:?}");
    assert_eq!(
        (of(1, "previousImageLSN"), of(3, "previousImageLSN")),
        (json!(lsns[0]), json!(lsns[1]))
    );
    assert!((0..5).all(|n| of(n, "crts").as_u64().unwrap() > 1_600_000_000));
    let deleted = &changes[3];
    assert_eq!(deleted["current"], json!({}));
    assert_eq!(
        (of(3, "timeToLiveExpired"), of(3, "partitionKey")),
        (json!(false), json!(["k"]))
    );
    assert!(of(0, "previousImageLSN").is_null() && of(4, "previousImageLSN").is_null());
    assert!(
        changes.iter().all(|change| change.get("previous").is_none()),
        "off as on the service"
    );

    local.admin(
        "POST",
        "feed",
        json!({ "previousImages": true, "metadataKey": "object" }),
    );
    let changes = read(&local, "0", &now);
    assert_eq!(
        (&changes[1]["previous"]["value"], &changes[3]["previous"]["value"]),
        (&json!(1), &json!(2))
    );
    assert!(changes[0].get("previous").is_none());
    assert_eq!(changes[3]["metadata"]["partitionKey"], json!({ "pk": "k" }));
}

#[test]
fn it_starts_from_now_or_from_a_continuation_of_its_own() {
    let local = start(&["c:/pk:1"], AllVersions::default());
    put(&local, "a", 1);
    let refused = page(&local, "0", None);
    assert_eq!(refused.status, 400);
    let latest = etag(&local.feed("0", None, &[]));
    assert_eq!(page(&local, "0", Some(&latest)).status, 400);
    let versions = etag(&page(&local, "0", Some("*")));
    assert_eq!(local.feed("0", Some(&versions), &[]).status, 400);
    let plain = Local::start(&["c:/pk:1"]);
    let refused = page(&plain, "0", Some("*"));
    assert_eq!(refused.status, 400);
    assert!(refused.json()["message"]
        .as_str()
        .unwrap()
        .contains("continuous backup"));
}

#[test]
fn what_is_older_than_the_retention_is_refused_and_not_left_out() {
    let all_versions = AllVersions {
        retention_bytes: 2000,
        ..AllVersions::default()
    };
    let local = start(&["c:/pk:1"], all_versions);
    let first = etag(&page(&local, "0", Some("*")));
    put(&local, "a", 0);
    let second = etag(&page(&local, "0", Some("*")));
    for n in 0..20 {
        put(&local, &format!("d{n}"), n);
    }
    assert_eq!(page(&local, "0", Some(&first)).status, 400);
    assert_eq!(page(&local, "0", Some(&second)).status, 400);
    let late = etag(&page(&local, "0", Some("*")));
    put(&local, "last", 1);
    assert_eq!(read(&local, "0", &late).len(), 1);
}

#[test]
fn expiry_is_told_as_a_deletion_of_its_own_kind() {
    let all_versions = AllVersions {
        metadata_key: MetadataKey::Object,
        previous_images: true,
        ..AllVersions::default()
    };
    let local = start(&["c:/pk:1"], all_versions);
    let definition = json!({
        "id": "c", "defaultTtl": 10, "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 },
    });
    local
        .send("PUT", "dbs/db/colls/c", &[], definition.to_string().as_bytes())
        .unwrap();
    let now = etag(&page(&local, "0", Some("*")));
    put(&local, "a", 1);
    local.admin("POST", "clock", json!({ "advanceMillis": 11_000 }));
    let changes = read(&local, "0", &now);
    assert_eq!(changes.len(), 2);
    let metadata = &changes[1]["metadata"];
    assert_eq!(
        (&metadata["operationType"], &metadata["timeToLiveExpired"]),
        (&json!("delete"), &json!(true))
    );
    assert_eq!(
        (&metadata["id"], &metadata["partitionKey"]),
        (&json!("a"), &json!({ "pk": "k" }))
    );
    assert_eq!(changes[1]["previous"]["value"], 1);
}

#[test]
fn a_transaction_is_told_at_once_with_its_deletions() {
    let local = start(&["c:/pk:1"], AllVersions::default());
    put(&local, "a", 1);
    let now = etag(&page(&local, "0", Some("*")));
    let operations = json!([
        { "operationType": "Create", "resourceBody": { "id": "b", "pk": "k", "value": 1 } },
        { "operationType": "Delete", "id": "a" },
        { "operationType": "Upsert", "resourceBody": { "id": "c", "pk": "k", "value": 2 } },
    ]);
    let headers = [
        keyed("k"),
        ("x-ms-cosmos-is-batch-request", "true".to_owned()),
        ("x-ms-cosmos-batch-atomic", "true".to_owned()),
    ];
    let answer = local
        .send(
            "POST",
            "dbs/db/colls/c/docs",
            &headers,
            operations.to_string().as_bytes(),
        )
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = page(&local, "0", Some(&now));
    let changes = page.json()["Documents"].as_array().unwrap().clone();
    let names: Vec<_> = told(&changes)
        .into_iter()
        .map(|(operation, id, _)| (operation, id))
        .collect();
    let expected = [("create", "b"), ("delete", "a"), ("create", "c")];
    assert_eq!(
        names,
        expected.map(|(operation, id)| (operation.to_owned(), json!(id)))
    );
    let lsns: Vec<_> = changes.iter().map(|change| &change["metadata"]["lsn"]).collect();
    assert!(lsns.iter().all(|lsn| *lsn == lsns[0]), "{lsns:?}");
}

struct Feed {
    driver: Arc<CosmosDriver>,
    container: ContainerReference,
    plan: OperationPlan,
}

fn options() -> OperationOptionsBuilder {
    OperationOptionsBuilder::new().with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
}

impl Feed {
    /// Reads until no range has more.
    async fn drain(&mut self) -> Vec<Value> {
        let (mut found, mut empty) = (Vec::new(), 0);
        while empty < 6 {
            let page = self
                .driver
                .execute_plan(&mut self.plan, Some(self.container.clone()), options().build())
                .await
                .unwrap()
                .unwrap();
            let before = found.len();
            match page.into_body() {
                ResponseBody::NoPayload => {}
                ResponseBody::Items(items) => {
                    found.extend(
                        items
                            .iter()
                            .map(|item| serde_json::from_slice::<Value>(item).unwrap()),
                    );
                }
                body => {
                    let page: Value = serde_json::from_slice(&body.single().unwrap()).unwrap();
                    found.extend(page["Documents"].as_array().unwrap().iter().cloned());
                }
            }
            empty = if found.len() == before { empty + 1 } else { 0 };
        }
        found
    }
}

#[test]
fn the_driver_reads_history_over_splits_and_from_its_own_token() {
    let local = start(&["c:/pk:2"], AllVersions::default());
    let write = |n: i64, value: i64| {
        let document = json!({ "id": format!("d{n}"), "pk": format!("k{n}"), "value": value });
        assert!(local.upsert(&document).unwrap().status < 300);
    };
    (0..10).for_each(|n| write(n, 0));
    let client = tokio::runtime::Runtime::new().unwrap();
    let account = AccountReference::with_account_key(
        Url::parse(&local.endpoint).unwrap(),
        Secret::new(local.key.clone()),
    );
    let mut feed = client.block_on(async {
        let runtime = CosmosDriverRuntime::builder().build().await.unwrap();
        let driver = runtime
            .create_driver(DriverOptions::builder(account).build())
            .await
            .unwrap();
        let container = driver
            .resolve_container("db", "c", options().build())
            .await
            .unwrap();
        let operation = operation(&container).with_change_feed_start(ChangeFeedStartFrom::Now);
        let plan = driver
            .plan_operation(operation, &options().build(), None, &PlanOptions::default())
            .await
            .unwrap();
        Feed {
            driver,
            container,
            plan,
        }
    });
    assert!(client.block_on(feed.drain()).is_empty());
    (0..10).for_each(|n| write(n, 1));
    local.admin(
        "POST",
        "split",
        json!({ "database": "db", "container": "c", "partition": 0 }),
    );
    (0..10).for_each(|n| write(n, 2));
    for n in 0..10 {
        let path = format!("dbs/db/colls/c/docs/d{n}");
        assert_eq!(
            local
                .send("DELETE", &path, &[keyed(&format!("k{n}"))], b"")
                .unwrap()
                .status,
            204
        );
    }
    let changes = client.block_on(feed.drain());
    assert_eq!(changes.len(), 30);
    for n in 0..10 {
        let mine: Vec<_> = told(&changes)
            .into_iter()
            .filter(|(_, id, _)| *id == json!(format!("d{n}")))
            .collect();
        let values: Vec<_> = mine
            .iter()
            .map(|(operation, _, value)| (operation.as_str(), value.clone()))
            .collect();
        assert_eq!(
            values,
            [
                ("replace", json!(1)),
                ("replace", json!(2)),
                ("delete", Value::Null)
            ]
        );
    }

    let token = feed.plan.to_continuation_token().unwrap();
    (0..10).for_each(|n| write(n, 3));
    let plan = client.block_on(feed.driver.plan_operation(
        operation(&feed.container),
        &options().build(),
        Some(&token),
        &PlanOptions::default(),
    ));
    feed.plan = plan.unwrap();
    let changes = client.block_on(feed.drain());
    assert!(told(&changes)
        .iter()
        .all(|(operation, _, value)| operation == "create" && *value == json!(3)));
    assert_eq!(changes.len(), 10);
}

fn operation(container: &ContainerReference) -> CosmosOperation {
    CosmosOperation::change_feed_all_versions_and_deletes(container.clone(), Some(FeedRange::full()))
        .with_max_item_count(MaxItemCountHint::Limit(NonZeroU32::new(3).unwrap()))
}
