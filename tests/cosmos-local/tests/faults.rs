//! Faults on the wire: what a client gets, and what was done all the same.

mod support;

use azure_core::credentials::Secret;
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{AccountReference, CosmosOperation, ItemReference, PartitionKey};
use azure_data_cosmos_driver::options::{BinaryEncodingOptions, DriverOptions, OperationOptionsBuilder};
use azure_data_cosmos_driver::CosmosDriverRuntime;
use serde_json::{json, Value};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{bulk_headers, keyed, upsert, Local, LIMIT};

fn document(id: &str, key: &str) -> Value {
    json!({ "id": id, "pk": key })
}

#[test]
fn each_status_of_the_service_can_be_asked_for() {
    let local = Local::start(&["c:/pk:1"]);
    local.upsert(&document("a", "k")).unwrap();
    let units = || local.stats()["requestUnits"].as_f64().unwrap();
    let before = units();
    let requests: [(&str, &str, &str); 5] = [
        ("account", "GET", ""),
        ("container", "GET", "dbs/db/colls/c"),
        ("pkranges", "GET", "dbs/db/colls/c/pkranges"),
        ("pointRead", "GET", "dbs/db/colls/c/docs/a"),
        ("delete", "DELETE", "dbs/db/colls/c/docs/a"),
    ];
    for (status, sub_status) in [
        (404, 1003),
        (403, 3),
        (403, 1008),
        (404, 1013),
        (413, 3402),
        (410, 1000),
        (400, 1024),
        (401, 20402),
        (449, 0),
        (503, 0),
    ] {
        for (kind, method, path) in requests {
            local.fault(json!({
                "operations": kind, "status": status, "subStatus": sub_status, "count": 1,
                "requestCharge": 2.5, "message": "as asked",
            }));
            let answer = local.send(method, path, &[keyed("k")], b"").unwrap();
            assert_eq!(answer.outcome(), (status, sub_status), "{kind}");
            assert_eq!(answer.header("x-ms-request-charge"), Some("2.5"), "{kind}");
            assert_eq!(answer.json()["message"], "as asked", "{kind}");
        }
    }
    assert_eq!(units() - before, 50.0 * 2.5);
    // None of them was carried out, and none is left.
    assert_eq!(local.read("a", "k").status, 200);
}

#[test]
fn counts_name_every_container_whether_it_was_asked_for_or_not() {
    let local = Local::start(&["c:/pk:2", "other/d:/pk:1"]);
    let containers = || local.stats()["containers"].clone();
    let none = |id: &str| json!({ "id": id, "documents": 0 });
    let d = json!({ "database": "other", "container": "d", "partitions": [none("0")] });
    let c = json!({ "database": "db", "container": "c", "partitions": [none("0"), none("1")] });
    assert_eq!(containers(), json!([c, d]));
    assert_eq!(
        local.send("DELETE", "dbs/db/colls/c", &[], b"").unwrap().status,
        204
    );
    assert_eq!(containers(), json!([d]));
}

#[test]
fn a_fault_of_one_partition_leaves_the_others_alone() {
    let local = Local::start(&["c:/pk:2"]);
    let (mut keys, mut n) = ([None, None], 0);
    while keys.iter().any(Option::is_none) {
        let key = format!("k{n}");
        let range: usize = local.range_of(&key).parse().unwrap();
        keys[range].get_or_insert(key);
        n += 1;
    }
    let [here, there] = keys.map(Option::unwrap);
    local.fault(json!({ "status": 403, "subStatus": 3, "partition": 0 }));
    // By the partition key, by the id in bulk, and by the id in the feed.
    assert_eq!(local.upsert(&document("a", &here)).unwrap().outcome(), (403, 3));
    assert_eq!(local.upsert(&document("a", &there)).unwrap().status, 201);
    assert_eq!(
        local.bulk("0", &[upsert("b", &here)]).unwrap().outcome(),
        (403, 3)
    );
    assert_eq!(local.bulk("1", &[upsert("b", &there)]).unwrap().status, 200);
    assert_eq!(local.feed("0", None, &[]).outcome(), (403, 3));
    assert_eq!(local.feed("1", None, &[]).status, 200);
    local.no_faults();
    local.fault(json!({ "status": 410, "subStatus": 1007, "partition": "0", "operations": "bulk", "perOperation": true }));
    let answer = local
        .bulk("0", &[upsert("b", &here), upsert("c", &here)])
        .unwrap();
    assert_eq!(answer.json()[1]["statusCode"], 410);
    assert_eq!(answer.json()[1]["subStatusCode"], 1007);
    assert_eq!(local.upsert(&document("a", &here)).unwrap().status, 201);
}

#[test]
fn one_culprit_spoils_the_whole_request_or_its_own_operation() {
    let local = Local::start(&["c:/pk:1"]);
    let three = [upsert("a", "k"), upsert("bad", "k"), upsert("c", "k")];
    local.fault(json!({ "status": 400, "operations": "bulk", "documentId": "bad", "wholeRequest": true, "requestCharge": 1 }));
    assert_eq!(local.bulk("0", &three).unwrap().status, 400);
    assert_eq!(local.read("a", "k").status, 404);
    assert_eq!(local.bulk("0", &three[..1]).unwrap().status, 200);
    assert_eq!(local.bulk("0", &three[1..2]).unwrap().status, 400);
    let delete = json!({ "operationType": "Delete", "id": "bad", "partitionKey": "[\"k\"]" });
    assert_eq!(local.bulk("0", &[delete]).unwrap().status, 400);
    local.no_faults();

    local.fault(
        json!({ "status": 429, "operations": "bulk", "documentId": "bad", "perOperation": true,
                        "retryAfterMillis": 3, "requestCharge": 4.5 }),
    );
    let results = local.bulk("0", &three).unwrap().json();
    let statuses: Vec<_> = (0..3)
        .map(|n| results[n]["statusCode"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 429, 201]);
    assert_eq!(
        (
            &results[1]["retryAfterMilliseconds"],
            &results[1]["requestCharge"]
        ),
        (&json!(3), &json!(4.5))
    );
    local.no_faults();

    // A point write names its document in the path or in the body.
    local.fault(json!({ "status": 500, "documentId": "bad" }));
    assert_eq!(local.upsert(&document("bad", "k")).unwrap().status, 500);
    assert_eq!(local.read("bad", "k").status, 500);
    assert_eq!(local.upsert(&document("good", "k")).unwrap().status, 201);
    local.no_faults();

    local.fault(json!({ "status": 413, "operations": "bulk", "minOperations": 3 }));
    assert_eq!(local.bulk("0", &three).unwrap().status, 413);
    assert_eq!(local.bulk("0", &three[..2]).unwrap().status, 200);
    local.no_faults();
    local.fault(json!({ "status": 400, "withHeader": "x-ms-start-epk" }));
    assert_eq!(
        local.feed("0", None, &[("x-ms-start-epk", String::new())]).status,
        400
    );
    assert_eq!(local.feed("0", None, &[]).status, 200);
}

#[test]
fn work_can_be_done_before_the_error() {
    let local = Local::start(&["c:/pk:1"]);
    local.fault(json!({ "status": 503, "operations": "write", "after": true, "count": 1 }));
    assert_eq!(local.upsert(&document("a", "k")).unwrap().status, 503);
    assert_eq!(local.read("a", "k").status, 200);
    local.fault(json!({ "status": 408, "operations": "bulk", "after": true, "count": 1 }));
    assert_eq!(local.bulk("0", &[upsert("b", "k")]).unwrap().status, 408);
    assert_eq!(local.read("b", "k").status, 200);
    local.fault(
        json!({ "status": 449, "operations": "bulk", "perOperation": true, "after": true, "count": 1 }),
    );
    let results = local.bulk("0", &[upsert("c", "k")]).unwrap().json();
    assert_eq!(results[0]["statusCode"], 449);
    assert_eq!(local.read("c", "k").status, 200);
    let feed = local.feed("0", None, &[]).json();
    assert_eq!(feed["_count"], 3);
}

#[test]
fn answers_are_lost_in_each_way_that_a_network_has() {
    let local = Local::start(&["c:/pk:1"]);
    let text = "x".repeat(100_000);
    local
        .upsert(&json!({ "id": "large", "pk": "k", "text": text }))
        .unwrap();

    local.fault(json!({ "refuse": true, "operations": "write", "count": 1 }));
    assert!(local.upsert(&document("a", "k")).is_err());
    assert_eq!(local.read("a", "k").status, 404, "it was carried out");
    local.fault(json!({ "dropResponse": true, "operations": "write", "count": 1 }));
    assert!(local.upsert(&document("a", "k")).is_err());
    assert_eq!(local.read("a", "k").status, 200, "it was not carried out");

    // In the middle of a body: the client sees the part, and that it is one.
    local.fault(json!({ "cutAfterBytes": 70_000, "operations": "pointRead", "count": 1 }));
    let headers = [keyed("k")];
    let cut = local.send("GET", "dbs/db/colls/c/docs/large", &headers, b"");
    assert!(cut.is_err(), "{} bytes came", cut.unwrap().body.len());
    assert_eq!(local.read("large", "k").status, 200);
    let entry = local
        .requests("read")
        .into_iter()
        .find(|entry| entry["lost"] == "cut")
        .unwrap();
    assert!(entry["answerBytes"].as_u64().unwrap() > 100_000, "{entry}");

    // Connections: closed before anything is read, or never spoken to. Admin requests are spared.
    local.fault(json!({ "operations": "connection", "refuse": true }));
    let closed = local.send("GET", "", &[], b"");
    assert!(closed.is_err());
    local.no_faults();
    assert_eq!(local.send("GET", "", &[], b"").unwrap().status, 200);
    local.fault(json!({ "operations": "connection", "hang": true, "count": 1 }));
    let mut stream = std::net::TcpStream::connect(local.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silent = stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(
        silent.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    ));
    let stats = local.stats();
    assert_eq!(
        (&stats["connectionsStruck"], &stats["unanswered"]),
        (&json!(2), &json!(1))
    );
}

#[test]
fn the_driver_does_not_take_a_part_for_the_whole() {
    let local = Local::start(&["c:/pk:1"]);
    let text = "x".repeat(100_000);
    local
        .upsert(&json!({ "id": "large", "pk": "k", "text": text }))
        .unwrap();
    let client = tokio::runtime::Runtime::new().unwrap();
    let account = AccountReference::with_account_key(
        Url::parse(&local.endpoint).unwrap(),
        Secret::new(local.key.clone()),
    );
    let binary = BinaryEncodingOptions::new().with_enabled(false);
    let options = OperationOptionsBuilder::new()
        .with_binary_encoding(binary)
        .build();
    let body = client.block_on(async {
        let runtime = CosmosDriverRuntime::builder().build().await.unwrap();
        let driver = runtime
            .create_driver(DriverOptions::builder(account).build())
            .await
            .unwrap();
        let container = driver
            .resolve_container("db", "c", options.clone())
            .await
            .unwrap();
        let cut = json!({ "cutAfterBytes": 70_000, "operations": "pointRead", "count": 1 });
        tokio::task::block_in_place(|| local.fault(cut));
        let item = ItemReference::from_name(&container, PartitionKey::from("k"), "large");
        let read = CosmosOperation::read_item(item);
        let read = driver.execute_singleton_operation(read, options).await.unwrap();
        read.into_body().single().unwrap()
    });
    assert!(body.len() > 100_000, "{} bytes", body.len());
    let reads = local.requests("read");
    assert_eq!(
        (&reads[0]["lost"], &reads[0]["http"]),
        (&json!("cut"), &json!("2"))
    );
    assert_eq!(reads.len(), 2, "it asked again");
}

#[test]
fn a_request_that_hangs_holds_up_neither_others_nor_the_end() {
    let local = Local::start(&["c:/pk:1"]);
    local.fault(json!({ "hang": true, "operations": "write", "count": 1 }));
    local.fault(json!({ "hang": true, "after": true, "operations": "bulk", "count": 1 }));
    let client = |operation: fn(&Local) -> Result<support::Answer, ureq::Error>,
                  local: &std::sync::Arc<Local>| {
        let local = std::sync::Arc::clone(local);
        std::thread::spawn(move || operation(&local).is_err())
    };
    let local = std::sync::Arc::new(local);
    let write = client(|local| local.upsert(&document("a", "k")), &local);
    let bulk = client(|local| local.bulk("0", &[upsert("b", "k")]), &local);
    let limit = Instant::now() + LIMIT;
    while local.stats()["unanswered"] != 2 {
        assert!(Instant::now() < limit, "{}", local.stats());
    }
    assert_eq!(local.read("a", "k").status, 404);
    assert_eq!(local.read("b", "k").status, 200);
    assert!(!write.is_finished() && !bulk.is_finished());
    let stopping = Instant::now();
    local.stop();
    assert!(write.join().unwrap() && bulk.join().unwrap());
    assert!(
        stopping.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopping.elapsed()
    );
}

#[test]
fn requests_are_kept_with_their_time_partition_and_size() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "POST",
        "requests",
        json!({ "headers": ["X-Ms-Cosmos-Priority-Level"] }),
    );
    let two = json!([upsert("a", "k"), upsert("b", "k")]).to_string();
    let mut headers = bulk_headers("0");
    headers.push(("x-ms-cosmos-priority-level", "Low".to_owned()));
    local
        .send("POST", "dbs/db/colls/c/docs", &headers, two.as_bytes())
        .unwrap();
    local.fault(json!({ "status": 429, "operations": "bulk", "count": 1, "delayMillis": 50 }));
    local
        .bulk("0", &[upsert("a", "k"), upsert("b", "k"), upsert("c", "k")])
        .unwrap();
    local.fault(json!({ "dropResponse": true, "operations": "bulk", "count": 1 }));
    local.bulk("0", &[upsert("c", "k")]).unwrap_err();
    let bulk = local.requests("bulk");
    let field = |name: &str| bulk.iter().map(|entry| entry[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("status"), [json!(200), json!(429), json!(200)]);
    assert_eq!(field("operations"), [json!(2), json!(3), json!(1)]);
    assert_eq!(field("lost"), [Value::Null, Value::Null, json!("dropped")]);
    assert_eq!(field("partition"), [json!("0"), json!("0"), json!("0")]);
    assert_eq!(bulk[0]["headers"], json!({ "x-ms-cosmos-priority-level": "Low" }));
    assert_eq!(bulk[0]["bytes"], two.len());
    assert!(bulk[1]["micros"].as_u64().unwrap() >= 50_000, "{}", bulk[1]);
    assert!(bulk[2]["millis"].as_u64().unwrap() >= bulk[1]["millis"].as_u64().unwrap() + 50);

    let feed = local.feed("0", None, &[]);
    assert_eq!(local.requests("changeFeed")[0]["documents"], 3, "{feed:?}");
    local.feed("0", feed.header("etag"), &[]);
    assert_eq!(local.requests("changeFeed")[1]["status"], 304);
    let next = local.admin("GET", "requests", json!({}))["next"]
        .as_u64()
        .unwrap();
    local.read("a", "k");
    let newer = local.admin("GET", &format!("requests?from={next}"), json!({}));
    assert_eq!(newer["requests"].as_array().unwrap().len(), 1, "{newer}");
    local.admin("DELETE", "requests", json!({}));
    assert!(local.requests("bulk").is_empty());
    let (status, refused) = local.try_admin("GET", "requests?since=1", json!({}));
    assert!(
        status == 400 && refused["message"].as_str().unwrap().contains("since=1"),
        "{refused}"
    );
}
