//! Documents that expire, by a clock that the tests move on.

mod support;

use serde_json::{json, Value};
use support::{keyed, upsert, Local};

fn container(local: &Local, default_ttl: Value) -> u16 {
    let definition = json!({
        "id": "c", "defaultTtl": default_ttl,
        "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 },
    });
    local
        .send("POST", "dbs/db/colls", &[], definition.to_string().as_bytes())
        .unwrap()
        .status
}

fn advance(local: &Local, seconds: u64) {
    local.admin("POST", "clock", json!({ "advanceMillis": seconds * 1000 }));
}

fn query(local: &Local) -> Vec<Value> {
    let mut found = Vec::new();
    for range in ["0", "1", "2", "3"] {
        let headers = [
            ("x-ms-documentdb-isquery", "true".to_owned()),
            ("x-ms-documentdb-query-enablecrosspartition", "true".to_owned()),
            ("x-ms-documentdb-partitionkeyrangeid", range.to_owned()),
        ];
        let body = json!({ "query": "SELECT VALUE c.id FROM c" }).to_string();
        let answer = local
            .send("POST", "dbs/db/colls/c/docs", &headers, body.as_bytes())
            .unwrap();
        found.extend(answer.json()["Documents"].as_array().unwrap().iter().cloned());
    }
    found.sort_by_key(ToString::to_string);
    found
}

fn changed(local: &Local) -> Vec<Value> {
    let mut found = Vec::new();
    for range in ["0", "1", "2", "3"] {
        let page = local.feed(range, None, &[]);
        if page.status == 200 {
            let page = page.json();
            found.extend(
                page["Documents"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|d| d["id"].clone()),
            );
        }
    }
    found.sort_by_key(ToString::to_string);
    found
}

#[test]
fn documents_expire_for_everybody_at_their_own_time() {
    let local = Local::start(&[]);
    assert_eq!(container(&local, json!(100)), 201);
    for (id, ttl) in [("default", None), ("short", Some(10)), ("never", Some(-1))] {
        let mut document = json!({ "id": id, "pk": id });
        if let Some(ttl) = ttl {
            document["ttl"] = json!(ttl);
        }
        assert_eq!(local.upsert(&document).unwrap().status, 201);
    }
    assert_eq!(query(&local).len(), 3);
    advance(&local, 11);
    assert_eq!(local.read("short", "short").outcome(), (404, 0));
    assert_eq!(query(&local), ["default", "never"]);
    assert_eq!(
        changed(&local),
        ["default", "never"],
        "the feed has no event of it"
    );
    // A write starts the time anew; one that needs the expired document does not find it.
    advance(&local, 80);
    assert_eq!(
        local
            .upsert(&json!({ "id": "default", "pk": "default" }))
            .unwrap()
            .status,
        200
    );
    advance(&local, 80);
    assert_eq!(local.read("default", "default").status, 200);
    advance(&local, 80);
    let gone = |method: &str, body: &[u8]| {
        local
            .send(method, "dbs/db/colls/c/docs/default", &[keyed("default")], body)
            .unwrap()
            .outcome()
    };
    assert_eq!(
        gone(
            "PUT",
            json!({ "id": "default", "pk": "default" }).to_string().as_bytes()
        ),
        (404, 0)
    );
    assert_eq!(gone("DELETE", b""), (404, 0));
    assert_eq!(
        local
            .upsert(&json!({ "id": "default", "pk": "default" }))
            .unwrap()
            .status,
        201,
        "it is a new one"
    );
    assert_eq!(query(&local), ["default", "never"]);
}

#[test]
fn bulk_and_the_feed_see_expiry_without_a_read_before() {
    let local = Local::with(&["c:/pk:1"], |_| {});
    let settings = |ttl: Value| {
        let definition = json!({
            "id": "c", "defaultTtl": ttl,
            "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 },
        });
        local
            .send("PUT", "dbs/db/colls/c", &[], definition.to_string().as_bytes())
            .unwrap()
            .status
    };
    let bulk = |operations: &[Value]| {
        let results = local.bulk("0", operations).unwrap().json();
        let results = results.as_array().unwrap().iter();
        results
            .map(|result| result["statusCode"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    // Without a time to live of the container, that of a document means nothing.
    let mut own = upsert("own", "k");
    own["resourceBody"]["ttl"] = json!(5);
    assert_eq!(bulk(&[own.clone(), upsert("plain", "k")]), [201, 201]);
    advance(&local, 6);
    assert_eq!(bulk(&[upsert("plain", "k")]), [200]);
    assert_eq!(local.read("own", "k").status, 200);
    // With it, what is there already counts from its last write on.
    assert_eq!(settings(json!(-1)), 200);
    assert_eq!(
        bulk(&[json!({ "operationType": "Read", "id": "own", "partitionKey": "[\"k\"]" })]),
        [404]
    );
    assert_eq!(settings(json!(30)), 200);
    advance(&local, 31);
    let page = local.feed("0", None, &[]);
    assert_eq!(page.status, 304);
    let mut wrong = upsert("wrong", "k");
    wrong["resourceBody"]["ttl"] = json!(0);
    assert_eq!(bulk(&[wrong, own.clone()]), [400, 201]);
    // Switched off again, nothing expires any more.
    assert_eq!(settings(Value::Null), 200);
    advance(&local, 1000);
    assert_eq!(bulk(&[own]), [200]);
}

#[test]
fn expiry_goes_with_the_documents_through_a_split_and_a_merge() {
    let local = Local::start(&[]);
    assert_eq!(container(&local, json!(50)), 201);
    for n in 0..20 {
        assert_eq!(
            local
                .upsert(&json!({ "id": format!("d{n}"), "pk": format!("k{n}") }))
                .unwrap()
                .status,
            201
        );
    }
    let place = json!({ "database": "db", "container": "c", "partition": "0" });
    let children = local.admin("POST", "split", place)["partitions"].clone();
    let merge = json!({ "database": "db", "container": "c", "partitions": children });
    local.admin("POST", "merge", merge);
    let documents = || {
        let stats = local.stats();
        let partitions = stats["containers"][0]["partitions"].as_array().unwrap().clone();
        partitions
            .iter()
            .map(|partition| partition["documents"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(documents(), 20);
    advance(&local, 51);
    assert_eq!(documents(), 0);
    assert_eq!(local.read("d0", "k0").status, 404);
}

#[test]
fn times_that_the_service_refuses_are_refused() {
    let local = Local::start(&[]);
    for bad in [json!(0), json!(-5), json!("1")] {
        assert_eq!(container(&local, bad), 400);
    }
    assert_eq!(container(&local, json!(-1)), 201);
    for bad in [json!(0), json!(-2), json!(1.5), json!("x")] {
        let refused = local
            .upsert(&json!({ "id": "a", "pk": "k", "ttl": bad }))
            .unwrap();
        assert_eq!(refused.status, 400, "{bad}");
    }
    assert_eq!(
        local
            .upsert(&json!({ "id": "a", "pk": "k", "ttl": 5 }))
            .unwrap()
            .status,
        201
    );
    let (status, refused) = local.try_admin("POST", "clock", json!({ "advanceMillis": u64::MAX }));
    assert!(
        status == 400 && refused["message"].as_str().unwrap().contains("advanceMillis"),
        "{refused}"
    );
}
