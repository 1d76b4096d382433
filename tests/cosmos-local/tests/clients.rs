//! Forms that the vendors' clients send and the emulator does not know, as they stand on the wire.

mod support;

use serde_json::{json, Value};
use support::{keyed, upsert, Local};

const DOCS: &str = "dbs/db/colls/c/docs";

/// A transactional batch on one key of `db/c`: the answer's status, and each operation's.
fn batch(local: &Local, key: &str, operations: Value) -> (u16, Vec<u64>, Vec<Value>) {
    let headers = [
        keyed(key),
        ("x-ms-cosmos-is-batch-request", "true".to_owned()),
        ("x-ms-cosmos-batch-atomic", "true".to_owned()),
    ];
    let answer = local
        .send("POST", DOCS, &headers, operations.to_string().as_bytes())
        .unwrap();
    let results: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
    let statuses = results
        .iter()
        .map(|result| result["statusCode"].as_u64().unwrap())
        .collect();
    (answer.status, statuses, results)
}

fn patch(local: &Local, id: &str, key: &str, patch: Value) -> u16 {
    let path = format!("{DOCS}/{id}");
    let answer = local.send("PATCH", &path, &[keyed(key)], patch.to_string().as_bytes());
    answer.unwrap().status
}

fn query(local: &Local, path: &str, sql: &str, headers: &[(&str, String)]) -> (u16, Value) {
    let mut all = vec![
        ("x-ms-documentdb-isquery", "True".to_owned()),
        ("content-type", "application/query+json".to_owned()),
    ];
    all.extend(headers.iter().cloned());
    let answer = local.send("POST", path, &all, json!({ "query": sql }).to_string().as_bytes());
    let answer = answer.unwrap();
    (answer.status, answer.json())
}

/// The rows of a query over all of `db/c`.
fn rows(local: &Local, sql: &str) -> Value {
    let (status, mut body) = query(local, DOCS, sql, &[]);
    assert_eq!(status, 200, "{sql}: {body}");
    body["Documents"].take()
}

fn plan(local: &Local, sql: &str) -> (u16, Value) {
    let header = ("x-ms-cosmos-is-query-plan-request", "True".to_owned());
    query(local, DOCS, sql, &[header])
}

/// Changes of one key, `id` and `n`, in the order of the feed.
fn changes(local: &Local, key: &str) -> Vec<(String, i64)> {
    let headers = [keyed(key), ("a-im", "Incremental feed".to_owned())];
    let page = local.send("GET", DOCS, &headers, b"").unwrap().json();
    let documents = page["Documents"].as_array().unwrap().iter();
    documents
        .map(|d| (d["id"].as_str().unwrap().to_owned(), d["n"].as_i64().unwrap()))
        .collect()
}

#[test]
fn a_resource_is_read_by_ids_and_names_its_owner() {
    let local = Local::start(&["c:/pk:2"]);
    let get = |path: &str| local.send("GET", path, &[], b"").unwrap();
    let owner = |path: &str| get(path).header("x-ms-alt-content-path").map(str::to_owned);
    let container = get("dbs/db/colls/c");
    let database = get("dbs/db").json()["_rid"].as_str().unwrap().to_owned();
    let rid = container.json()["_rid"].as_str().unwrap().to_owned();
    let ranges = get(&format!("dbs/{database}/colls/{rid}/pkranges"));
    assert_eq!(ranges.json()["PartitionKeyRanges"].as_array().unwrap().len(), 2);
    assert_eq!(owner("dbs/db/colls/c").as_deref(), Some("dbs/db"));
    assert_eq!(owner("dbs/db/colls").as_deref(), Some("dbs/db"));
    assert_eq!(owner("dbs/db").as_deref(), Some(""));
    let path = format!("dbs/{database}/colls/{rid}/docs");
    assert_eq!(owner(&path).as_deref(), Some("dbs/db/colls/c"));
}

#[test]
fn a_session_token_of_another_container_does_no_harm() {
    let local = Local::start(&["c:/pk:1", "d:/pk:1"]);
    local.upsert(&json!({ "id": "a", "pk": "k" })).unwrap();
    let token = ("x-ms-session-token", "0:-1#1000".to_owned());
    let read = local
        .send("GET", &format!("{DOCS}/a"), &[keyed("k"), token.clone()], b"")
        .unwrap();
    assert_eq!(read.status, 200);
    let (status, _) = query(&local, "dbs/db/colls/d/docs", "SELECT * FROM c", &[token]);
    assert_eq!(status, 200);
}

#[test]
fn a_patch_is_carried_out_if_its_condition_holds() {
    let local = Local::start(&["c:/pk:1"]);
    local.upsert(&json!({ "id": "a", "pk": "k", "n": 1 })).unwrap();
    let set = |n: i64| json!([{ "op": "set", "path": "/n", "value": n }]);
    let with = |n: i64, condition: &str| json!({ "operations": set(n), "condition": condition });
    let n = || local.read("a", "k").json()["n"].as_i64().unwrap();
    assert_eq!((patch(&local, "a", "k", set(2)), n()), (200, 2), "a bare list");
    assert_eq!(
        (patch(&local, "a", "k", with(3, "from c where c.n = 2")), n()),
        (200, 3)
    );
    assert_eq!(
        (patch(&local, "a", "k", with(4, "FROM r WHERE r.n = 2")), n()),
        (412, 3)
    );
    assert_eq!(
        (patch(&local, "a", "k", with(4, "from c where c.id = 'b'")), n()),
        (412, 3)
    );
    assert_eq!((patch(&local, "a", "k", with(4, "c.n = 3")), n()), (400, 3));
    assert_eq!(
        (patch(&local, "a", "k", with(4, "from c where c.n =")), n()),
        (400, 3)
    );
    assert_eq!(patch(&local, "b", "k", with(4, "from c where c.n = 2")), 404);
    assert_eq!(patch(&local, "a", "k", json!(7)), 400);
    let etag = local.read("a", "k").json()["_etag"]
        .as_str()
        .unwrap()
        .replace('"', "\\\"");
    let condition = format!("from c where c._etag = \"{etag}\"");
    assert_eq!((patch(&local, "a", "k", with(5, &condition)), n()), (200, 5));
    assert_eq!((patch(&local, "a", "k", with(6, &condition)), n()), (412, 5));
    assert_eq!(changes(&local, "k"), [("a".to_owned(), 5)]);
}

#[test]
fn patches_in_bulk_have_conditions_and_answers_are_minimal_where_it_is_asked_for() {
    let local = Local::start(&["c:/pk:1"]);
    let range = local.range_of("k");
    local.upsert(&json!({ "id": "a", "pk": "k", "n": 1 })).unwrap();
    let patch = |minimal: bool, body: Value| {
        json!({
            "operationType": "Patch", "id": "a", "partitionKey": "[\"k\"]", "resourceBody": body,
            "minimalReturnPreference": minimal,
        })
    };
    let add = json!([{ "op": "incr", "path": "/n", "value": 1 }]);
    let answer = local
        .bulk(
            &range,
            &[
                patch(false, add.clone()),
                patch(
                    true,
                    json!({ "operations": add, "condition": "from c where c.n = 2" }),
                ),
                patch(
                    true,
                    json!({ "operations": add, "condition": "from c where c.n = 2" }),
                ),
                patch(false, json!({ "operations": "none" })),
            ],
        )
        .unwrap();
    let results = answer.json();
    let statuses: Vec<_> = (0..4)
        .map(|n| results[n]["statusCode"].as_u64().unwrap())
        .collect();
    assert_eq!((answer.status, statuses), (207, vec![200, 200, 412, 400]));
    assert_eq!(results[0]["resourceBody"]["n"], 2);
    assert_eq!(results[1].get("resourceBody"), None);
    assert!(results[2]["resourceBody"]["message"].is_string());
    assert_eq!(local.read("a", "k").json()["n"], 3);
}

#[test]
fn a_batch_with_patches_is_carried_out_as_a_whole_or_not_at_all() {
    let local = Local::start(&["c:/pk:2"]);
    let add = |id: &str, condition: &str| {
        let operations = json!([{ "op": "incr", "path": "/n", "value": 1 }]);
        json!({
            "operationType": "Patch", "id": id,
            "resourceBody": { "operations": operations, "condition": condition },
        })
    };
    let create = |id: &str, n: i64| json!({ "operationType": "Create", "resourceBody": { "id": id, "pk": "k", "n": n } });
    let delete = |id: &str| json!({ "operationType": "Delete", "id": id });
    let (status, statuses, results) = batch(
        &local,
        "k",
        json!([
            create("a", 1),
            add("a", "from c where c.n = 1"),
            add("a", "from c where c.n = 2"),
            create("b", 9),
            delete("b"),
        ]),
    );
    assert_eq!((status, statuses), (200, vec![201, 200, 200, 201, 204]));
    assert_eq!(results[2]["resourceBody"]["n"], 3);
    assert_eq!(changes(&local, "k"), [("a".to_owned(), 3)]);

    let refused = [
        (
            json!([create("c", 1), add("a", "from c where c.n = 2"), create("d", 1)]),
            vec![424, 412, 424],
        ),
        (
            json!([create("c", 1), add("none", "from c where c.n = 2")]),
            vec![424, 404],
        ),
        (
            json!([delete("a"), add("a", "from c where c.n = 3")]),
            vec![424, 404],
        ),
        (
            json!([create("a", 1), add("a", "from c where c.n = 7"), delete("a")]),
            vec![409, 424, 424],
        ),
        (json!([create("c", 1), add("a", "c.n = 3")]), vec![424, 400]),
    ];
    for (operations, expected) in refused {
        let (status, statuses, _) = batch(&local, "k", operations.clone());
        assert_eq!((status, statuses), (207, expected), "{operations}");
    }
    let moved = json!([{ "op": "set", "path": "/pk", "value": "other" }]);
    let moved = json!([{ "operationType": "Patch", "id": "a", "resourceBody": { "operations": moved } }]);
    assert_eq!(batch(&local, "k", moved).1, [400]);
    let old = json!([{ "op": "set", "path": "/n", "value": 0 }]);
    let old = json!([{ "operationType": "Patch", "id": "a", "ifMatch": "\"old\"", "resourceBody": { "operations": old } }]);
    assert_eq!(batch(&local, "k", old).1, [412]);
    assert_eq!(changes(&local, "k"), [("a".to_owned(), 3)]);
}

#[test]
fn aggregates_are_merged_from_what_partitions_answer() {
    let local = Local::start(&["c:/pk:4"]);
    for n in 0..20 {
        let group = if n < 5 { "x" } else { "y" };
        let document = json!({ "id": n.to_string(), "pk": n.to_string(), "n": n, "group": group });
        local.upsert(&document).unwrap();
    }
    let (status, body) = plan(
        &local,
        "SELECT c[\"group\"], COUNT(1) AS many FROM c GROUP BY c[\"group\"]",
    );
    assert_eq!(status, 200, "{body}");
    let info = &body["queryInfo"];
    assert_eq!(info["groupByAliases"], json!(["group", "many"]));
    assert_eq!(
        info["groupByAliasToAggregateType"],
        json!({ "group": null, "many": "Count" })
    );
    let ranges = local
        .send("GET", "dbs/db/colls/c/pkranges", &[], b"")
        .unwrap()
        .json();
    let mut many = std::collections::BTreeMap::new();
    for range in ranges["PartitionKeyRanges"].as_array().unwrap() {
        let id = range["id"].as_str().unwrap().to_owned();
        let header = ("x-ms-documentdb-partitionkeyrangeid", id);
        let (status, page) = query(&local, DOCS, info["rewrittenQuery"].as_str().unwrap(), &[header]);
        assert_eq!(status, 200, "{page}");
        for row in page["Documents"].as_array().unwrap() {
            let group = row["groupByItems"][0]["item"].as_str().unwrap().to_owned();
            assert_eq!(row["payload"]["group"], group.as_str());
            *many.entry(group).or_insert(0) += row["payload"]["many"]["item"].as_i64().unwrap();
        }
    }
    assert_eq!(
        many.into_iter().collect::<Vec<_>>(),
        [("x".to_owned(), 5), ("y".to_owned(), 15)]
    );

    let mean = r#"SELECT VALUE [{"item": {"sum": SUM(c.n), "count": COUNT(c.n)}}] FROM c"#;
    assert_eq!(
        plan(&local, "SELECT VALUE AVG(c.n) FROM c").1["queryInfo"]["rewrittenQuery"],
        mean
    );
    assert_eq!(
        rows(&local, mean),
        json!([[{ "item": { "sum": 190, "count": 20 } }]])
    );
    assert_eq!(
        rows(&local, "SELECT VALUE SUM(c[\"group\"]) FROM c"),
        json!([]),
        "text has no sum"
    );
    assert_eq!(rows(&local, "SELECT VALUE c.missing FROM c"), json!([]));
    let (status, body) = plan(&local, "SELECT VALUE MAX(c.n) - MIN(c.n) FROM c");
    assert!(status == 501 && body["message"].is_string(), "{body}");
    for sql in [
        "SELECT VALUE udf.f(c.n) FROM c",
        "SELECT VALUE COUNT(1) FROM (SELECT VALUE c.n FROM c)",
        "SELECT VALUE ST_AREA(c.n) FROM c",
    ] {
        let (status, body) = query(&local, DOCS, sql, &[]);
        assert!(
            status == 501 && body["message"].is_string(),
            "{sql}: {status} {body}"
        );
    }
    let (status, _) = query(&local, DOCS, "SELECT VALUE FROM c WHERE", &[]);
    assert_eq!(status, 400, "what is wrong stays wrong");
    let ordered = plan(&local, "SELECT * FROM c ORDER BY c[\"group\"] DESC").1;
    assert_eq!(ordered["queryInfo"]["orderBy"], json!(["Descending"]));
}

#[test]
fn the_first_level_of_a_key_stands_for_all_below_it() {
    let local = Local::start(&["c:/tenant,/user:4"]);
    for (id, tenant, user) in [("1", "a", "x"), ("2", "a", "y"), ("3", "b", "x")] {
        let document = json!({ "id": id, "tenant": tenant, "user": user }).to_string();
        let header = ("x-ms-documentdb-partitionkey", json!([tenant, user]).to_string());
        let answer = local.send("POST", DOCS, &[header], document.as_bytes()).unwrap();
        assert_eq!(answer.status, 201);
    }
    let ids = |key: Value| {
        let header = ("x-ms-documentdb-partitionkey", key.to_string());
        let (_, page) = query(
            &local,
            DOCS,
            "SELECT VALUE c.id FROM c ORDER BY c.id",
            std::slice::from_ref(&header),
        );
        let all = local.send("GET", DOCS, &[header], b"").unwrap().json();
        let listed = all["Documents"].as_array().unwrap().len();
        (page["Documents"].clone(), listed)
    };
    assert_eq!(ids(json!(["a"])), (json!(["1", "2"]), 2));
    assert_eq!(ids(json!(["a", "y"])), (json!(["2"]), 1));
    assert_eq!(ids(json!(["c"])), (json!([]), 0));
}

#[test]
fn the_throughput_of_a_container_is_found_by_its_link_and_changed() {
    let local = Local::start(&["c:/pk:1:1000", "d:/pk:1:400"]);
    let link = local.send("GET", "dbs/db/colls/c", &[], b"").unwrap().json()["_self"].clone();
    let sql = format!("SELECT * FROM root WHERE root.resource = {link}");
    let offers = || query(&local, "offers", &sql, &[]).1["Offers"].clone();
    let mut offer = offers()[0].clone();
    assert_eq!(
        (offers().as_array().unwrap().len(), &offer["resource"]),
        (1, &link)
    );
    assert_eq!(offer["content"]["offerThroughput"], 1000);
    offer["content"]["offerThroughput"] = 2000.into();
    let path = format!("offers/{}", offer["id"].as_str().unwrap());
    let answer = local
        .send("PUT", &path, &[], offer.to_string().as_bytes())
        .unwrap();
    assert_eq!((answer.status, &answer.json()["id"]), (200, &offer["id"]));
    assert_eq!(offers()[0]["content"]["offerThroughput"], 2000);
}

#[test]
fn what_was_sent_is_kept_where_it_is_asked_for_but_for_the_signature() {
    let local = Local::start(&["c:/pk:1"]);
    let log = |body: Value| local.admin("POST", "requests", body);
    log(json!({ "headers": ["*"], "bodies": true }));
    let operations = [upsert("a", "k")];
    local.bulk(&local.range_of("k"), &operations).unwrap();
    let kept = local.requests("bulk");
    let request = &kept[0];
    assert_eq!(request["request"], "POST /dbs/db/colls/c/docs");
    assert_eq!(request["headers"]["x-ms-cosmos-batch-atomic"], "false");
    assert_eq!(request["headers"].get("authorization"), None);
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!(operations));
    assert!(!Value::from(kept).to_string().contains(&local.key));
    log(json!({ "headers": [] }));
    local.bulk(&local.range_of("k"), &operations).unwrap();
    let kept = local.requests("bulk");
    assert_eq!(
        (&kept[1]["body"], &kept[1]["headers"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn at_wire_speed_bulk_requests_are_answered_and_not_carried_out() {
    let local = Local::with(&["c:/pk:1"], |config| config.wire_speed = true);
    let of = |kind: &str, minimal: bool| {
        json!({
            "operationType": kind, "id": "a", "partitionKey": "[\"k\"]", "resourceBody": { "id": "a", "pk": "k" },
            "minimalReturnPreference": minimal,
        })
    };
    let kinds = ["Create", "Upsert", "Replace", "Patch", "Delete"];
    let mut operations: Vec<_> = kinds.iter().map(|kind| of(kind, true)).collect();
    operations.push(of("Create", false));
    let answer = local.bulk("0", &operations).unwrap();
    let results = answer.json();
    let statuses: Vec<_> = (0..6)
        .map(|n| results[n]["statusCode"].as_u64().unwrap())
        .collect();
    assert_eq!(
        (answer.status, statuses),
        (200, vec![201, 200, 200, 200, 204, 201])
    );
    assert_eq!(results[0].get("resourceBody"), None);
    assert_eq!(results[5]["resourceBody"], json!({ "id": "a", "pk": "k" }));
    assert!((0..6).all(|n| results[n]["eTag"].is_string()));
    assert_eq!(local.read("a", "k").status, 404, "nothing is stored");
    assert_eq!(
        local.stats()["bulkOperations"],
        json!({ "200": 3, "201": 2, "204": 1 })
    );
    assert_eq!(
        local.bulk("0", &[of("Read", true)]).unwrap().json()[0]["statusCode"],
        404
    );
    assert_eq!(
        local.bulk("0", &vec![of("Upsert", true); 101]).unwrap().status,
        400
    );
    // Single writes are carried out.
    local.upsert(&json!({ "id": "b", "pk": "k" })).unwrap();
    assert_eq!(local.read("b", "k").status, 200);
}
