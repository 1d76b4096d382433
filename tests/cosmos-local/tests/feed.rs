//! The change feed's pages, and containers that are created anew, in the wire's own terms.

mod support;

use serde_json::{json, Value};
use support::{bulk_headers, keyed, upsert, Answer, Local};

fn ids(page: &Answer) -> Vec<String> {
    let list = page.json()["Documents"].as_array().unwrap().clone();
    list.iter()
        .map(|document| document["id"].as_str().unwrap().to_owned())
        .collect()
}

fn rid(local: &Local) -> String {
    let answer = local.send("GET", "dbs/db/colls/c", &[], b"").unwrap();
    answer.json()["_rid"].as_str().unwrap().to_owned()
}

#[test]
fn empty_pages_move_the_position_on_and_leave_nothing_out() {
    let local = Local::start(&["c:/pk:1"]);
    for n in 0..3 {
        local
            .upsert(&json!({ "id": format!("d{n}"), "pk": "k" }))
            .unwrap();
    }
    let limit = [("x-ms-max-item-count", "1".to_owned())];
    let (mut seen, mut etags) = (Vec::new(), Vec::<String>::new());
    loop {
        // Two empty pages before each that is not.
        local.fault(json!({ "operations": "feed", "emptyPages": true, "count": 2 }));
        for _ in 0..2 {
            let page = local.feed("0", etags.last().map(String::as_str), &limit);
            assert_eq!((page.status, ids(&page).len()), (200, 0));
            let etag = page.header("etag").unwrap().to_owned();
            assert!(!etags.contains(&etag), "{etag} again");
            etags.push(etag);
        }
        let page = local.feed("0", etags.last().map(String::as_str), &limit);
        if page.status == 304 {
            break;
        }
        seen.extend(ids(&page));
        etags.push(page.header("etag").unwrap().to_owned());
    }
    assert_eq!(seen, ["d0", "d1", "d2"]);
}

#[test]
fn pages_end_at_the_bytes_that_were_asked_for() {
    let local = Local::start(&["c:/pk:1"]);
    for n in 0..6 {
        let text = "x".repeat(10_000);
        local
            .upsert(&json!({ "id": format!("d{n}"), "pk": "k", "text": text }))
            .unwrap();
    }
    assert_eq!(ids(&local.feed("0", None, &[])).len(), 6);
    local.admin("POST", "feed", json!({ "pageBytes": 15_000 }));
    let (mut seen, mut etag) = (Vec::new(), None::<String>);
    loop {
        let page = local.feed("0", etag.as_deref(), &[]);
        if page.status == 304 {
            break;
        }
        assert_eq!(ids(&page).len(), 2);
        seen.extend(ids(&page));
        etag = page.header("etag").map(str::to_owned);
    }
    assert_eq!(seen.len(), 6);
    local.admin("POST", "feed", json!({ "pageBytes": 1 }));
    assert_eq!(
        ids(&local.feed("0", None, &[])).len(),
        1,
        "a page has one document at least"
    );
    assert_eq!(local.try_admin("POST", "feed", json!({ "pageBytes": 0 })).0, 400);
}

#[test]
fn a_container_that_was_created_anew_is_told_to_those_who_mean_the_old_one() {
    let local = Local::start(&["c:/pk:3:1200"]);
    let place = json!({ "database": "db", "container": "c" });
    local.upsert(&json!({ "id": "a", "pk": "k" })).unwrap();
    local.admin(
        "POST",
        "split",
        json!({ "database": "db", "container": "c", "partition": 0 }),
    );
    let old = rid(&local);
    let recreated = local.admin("POST", "recreate", place.clone());
    let new = rid(&local);
    assert_eq!((&recreated["was"], &recreated["is"]), (&json!(old), &json!(new)));
    assert_ne!(old, new);
    assert_eq!(local.read("a", "k").outcome(), (404, 0), "it is empty");
    let ranges = local
        .send("GET", "dbs/db/colls/c/pkranges", &[], b"")
        .unwrap()
        .json();
    let ranges: Vec<Value> = ranges["PartitionKeyRanges"].as_array().unwrap().clone();
    let names: Vec<_> = ranges.iter().map(|range| range["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["0", "1", "2", "3"], "as many as before, numbered from 0");

    let intended = |rid: &str| ("x-ms-cosmos-intended-collection-rid", rid.to_owned());
    let operations = json!([upsert("b", "k")]).to_string();
    let docs = "dbs/db/colls/c/docs";
    for (rid, expected) in [(&old, (400, 1024)), (&new, (207, 0))] {
        let mut headers = bulk_headers("0");
        headers.push(intended(rid));
        // In the range of another key: the operation fails, the request does not.
        let operations = if rid == &new {
            json!([upsert("", "k")]).to_string()
        } else {
            operations.clone()
        };
        let answer = local.send("POST", docs, &headers, operations.as_bytes()).unwrap();
        assert_eq!(answer.outcome(), expected);
    }
    assert_eq!(local.feed("0", None, &[intended(&old)]).outcome(), (400, 1024));
    assert_eq!(local.feed("0", None, &[intended(&new)]).status, 304);
    let read = local.send("GET", "dbs/db/colls/c/docs/a", &[keyed("k"), intended(&old)], b"");
    assert_eq!(read.unwrap().outcome(), (400, 1024));
    // Ranges of the old container, by name and by resource id.
    assert_eq!(local.feed("4", None, &[]).outcome(), (410, 1002));
    assert_eq!(
        local.bulk("4", &[upsert("b", "k")]).unwrap().outcome(),
        (410, 1002)
    );
    assert_eq!(local.feed(&format!("{old},0"), None, &[]).outcome(), (410, 1000));
    assert_eq!(local.feed(&format!("{new},0"), None, &[]).status, 304);
    let stale = local.send(
        "POST",
        docs,
        &bulk_headers(&format!("{old},0")),
        operations.as_bytes(),
    );
    assert_eq!(stale.unwrap().outcome(), (410, 1000));

    local.admin("POST", "drop", place.clone());
    assert_eq!(
        local.bulk("0", &[upsert("b", "k")]).unwrap().outcome(),
        (404, 1003)
    );
    assert_eq!(local.feed("0", None, &[]).outcome(), (404, 1003));
    assert_eq!(
        local.upsert(&json!({ "id": "a", "pk": "k" })).unwrap().outcome(),
        (404, 1003)
    );
    assert_eq!(local.try_admin("POST", "recreate", place).0, 400);
}
