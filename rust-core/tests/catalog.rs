//! What a catalog asks of an account, over HTTP.

mod support;

use std::time::Duration;

use cosmosflink_core::catalog::{
    administer, Answer, Conflict, Container, Numbers, Request, Rules, Throughput,
};
use cosmosflink_core::error::{CoreError, Kind};
use cosmosflink_core::sink::OperationKind;
use support::*;

const RULES: Rules = Rules {
    numbers: Numbers::Auto,
    conflict: Conflict::Variant,
    timestamps: false,
};

fn ask(local: &Local, request: Request) -> Result<Answer, CoreError> {
    ask_with(local, request, &[])
}

fn ask_with(local: &Local, request: Request, extra: &[(&str, &str)]) -> Result<Answer, CoreError> {
    let mut options = local.options("c", extra);
    // A catalog has options of its account alone.
    options.retain(|(name, _)| name != "container" && name != "database");
    administer(&options, request, WAIT)
}

fn names(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Names(names) => names,
        Answer::Container(container) => panic!("{container:?}"),
    }
}

fn describe(local: &Local, container: &str, sample: u32) -> Result<Container, CoreError> {
    describe_with(local, container, sample, &[])
}

fn describe_with(
    local: &Local,
    container: &str,
    sample: u32,
    extra: &[(&str, &str)],
) -> Result<Container, CoreError> {
    let request = Request::Container {
        database: "orders".into(),
        container: container.into(),
        sample,
        rules: RULES,
    };
    match ask_with(local, request, extra)? {
        Answer::Container(container) => Ok(container),
        Answer::Names(names) => panic!("{names:?}"),
    }
}

fn database(name: &str) -> Request {
    Request::Database {
        database: name.into(),
    }
}

fn create(container: &str, keys: &[&str], default_ttl: i64) -> Request {
    Request::CreateContainer {
        database: "orders".into(),
        container: container.into(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        default_ttl,
        throughput: Throughput::default(),
    }
}

fn drop_container(container: &str) -> Request {
    Request::DropContainer {
        database: "orders".into(),
        container: container.into(),
    }
}

fn containers(database: &str) -> Request {
    Request::Containers {
        database: database.into(),
    }
}

fn write(local: &Local, container: &str, documents: impl Iterator<Item = (String, String)>) {
    let sink = local.sink(container, &[]);
    let mut count = 0;
    for (key, document) in documents {
        submit(&sink, count, OperationKind::Upsert, "", &key, &document);
        count += 1;
    }
    let outcomes = outcomes(&sink, count as usize);
    assert!(
        outcomes.iter().all(|outcome| outcome.error.is_none()),
        "{outcomes:?}"
    );
}

#[test]
fn databases_and_containers_come_and_go() {
    let local = Local::start(&["b:/pk:1", "a:/pk:2"]);
    assert_eq!(names(ask(&local, Request::Connect).unwrap()), [""; 0]);
    assert_eq!(names(ask(&local, Request::Databases).unwrap()), ["orders"]);
    assert_eq!(names(ask(&local, containers("orders")).unwrap()), ["a", "b"]);
    assert_eq!(names(ask(&local, database("orders")).unwrap()), ["orders"]);
    for missing in [
        database("none"),
        containers("none"),
        drop_container("none"),
        Request::DropDatabase {
            database: "none".into(),
        },
        Request::CreateContainer {
            database: "none".into(),
            container: "c".into(),
            keys: vec!["/pk".into()],
            default_ttl: 0,
            throughput: Throughput::default(),
        },
        // Names that there cannot be.
        database("a/b"),
        containers(".."),
    ] {
        let error = ask(&local, missing.clone()).unwrap_err();
        assert_eq!(error.kind, Kind::NotFound, "{missing:?}: {error}");
        assert!(!error.message.contains("restart the job"), "{error}");
    }
    assert_eq!(describe(&local, "none", 10).unwrap_err().kind, Kind::NotFound);
    local.forget_requests();
    let created = names(ask(&local, create("made", &["/tenant", "/user"], 3600)).unwrap());
    assert_eq!(local.requests("container").len(), 1, "the creation says it");
    let made = describe(&local, "made", 10).unwrap();
    assert_eq!(created, [made.rid.as_str()]);
    assert_eq!(made.keys, [["tenant"], ["user"]]);
    assert_eq!((made.default_ttl, made.documents, made.sampled), (3600, 0, 0));
    assert_eq!(made.table.primary_key, ["id", "tenant", "user"]);
    assert_eq!(
        ask(&local, create("made", &["/pk"], 0)).unwrap_err().kind,
        Kind::Conflict
    );
    ask(&local, drop_container("made")).unwrap();
    assert_eq!(describe(&local, "made", 0).unwrap_err().kind, Kind::NotFound);
    // One that has the name anew is another one.
    ask(&local, create("made", &["/pk"], -1)).unwrap();
    let anew = describe(&local, "made", 0).unwrap();
    assert_eq!((anew.default_ttl, anew.table.columns.len()), (-1, 0));
    assert_ne!(anew.rid, made.rid);
    let shop = Request::CreateDatabase {
        database: "shop".into(),
        throughput: Throughput {
            manual: 400,
            autoscale: 0,
        },
    };
    ask(&local, shop.clone()).unwrap();
    assert_eq!(ask(&local, shop).unwrap_err().kind, Kind::Conflict);
    assert_eq!(
        names(ask(&local, Request::Databases).unwrap()),
        ["orders", "shop"]
    );
    ask(
        &local,
        Request::DropDatabase {
            database: "shop".into(),
        },
    )
    .unwrap();
    assert_eq!(names(ask(&local, Request::Databases).unwrap()), ["orders"]);
}

#[test]
fn a_container_is_described_by_its_documents() {
    let local = Local::start(&["c:/customer/id:3"]);
    let documents = (0..300).map(|n| {
        let odd = if n == 7 { ",\"odd\":\"x\"" } else { ",\"odd\":1" };
        let document = format!(
            "{{\"id\":\"d{n}\",\"customer\":{{\"id\":\"c{}\",\"name\":\"n\"}},\"price\":{}.5,\"tags\":[]{odd}}}",
            n % 50,
            n
        );
        (format!("[\"c{}\"]", n % 50), document)
    });
    write(&local, "c", documents);
    let found = describe(&local, "c", 1000).unwrap();
    assert_eq!(
        (found.documents, found.bytes, found.sampled),
        (300, 300 * 1024, 300)
    );
    assert_eq!(found.keys, [["customer", "id"]]);
    assert_eq!(found.table.primary_key, ["id", "customer_id"]);
    let columns: Vec<_> = found
        .table
        .columns
        .iter()
        .map(|c| format!("{}: {:?}", c.name, c.kind.kind))
        .collect();
    assert_eq!(
        columns,
        [
            "id: Scalar(String)",
            "customer_id: Scalar(String)",
            "customer_name: Scalar(String)",
            "odd: Scalar(Variant)",
            "price: Scalar(Double)",
            "tags: Array(Type { kind: Scalar(Variant), nullable: true })",
            "_ts: Scalar(BigInt)",
        ]
    );
    // A few of each partition, and of a few partitions as many as are asked for.
    for (size, at_most) in [(1, 1), (2, 2), (30, 30), (299, 299)] {
        let found = describe(&local, "c", size).unwrap();
        assert!(
            found.sampled >= 1 && found.sampled <= at_most,
            "{} of {size}",
            found.sampled
        );
    }
    assert_eq!(describe(&local, "c", 30).unwrap().sampled, 30);
}

#[test]
fn the_newest_documents_are_looked_at() {
    let local = Local::start(&["c:/pk:1"]);
    let document = |n: usize, field: &str| {
        let document = format!("{{\"id\":\"d{n}\",\"pk\":\"a\",\"{field}\":1}}");
        ("[\"a\"]".to_owned(), document)
    };
    write(&local, "c", (0..20).map(|n| document(n, "old")));
    // The service's clock counts seconds.
    std::thread::sleep(Duration::from_millis(1100));
    write(&local, "c", (20..25).map(|n| document(n, "new")));
    let found = describe(&local, "c", 5).unwrap();
    let columns: Vec<_> = found.table.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["id", "pk", "new", "_ts"]);
}

#[test]
fn large_documents_are_few() {
    let local = Local::start(&["c:/pk:1"]);
    let text = "x".repeat(1_000_000);
    let documents = (0..40).map(|n| {
        let document = format!("{{\"id\":\"d{n}\",\"pk\":\"a\",\"text\":\"{text}\"}}");
        ("[\"a\"]".to_owned(), document)
    });
    write(&local, "c", documents);
    let found = describe(&local, "c", 1000).unwrap();
    assert!((16..40).contains(&found.sampled), "{}", found.sampled);
}

#[test]
fn throttling_is_waited_out_and_a_wrong_key_is_not() {
    let local = Local::start(&["c:/pk:1"]);
    local.admin(
        "faults",
        serde_json::json!({"operations": "container", "count": 2, "status": 429, "retryAfterMillis": 10}),
    );
    describe(&local, "c", 10).unwrap();
    assert_eq!(local.faults(), 0);
    let wrong = [("auth.secret-key", "d3Jvbmc=")];
    let error = ask_with(&local, Request::Databases, &wrong).unwrap_err();
    assert_eq!(error.kind, Kind::Auth);
    assert!(!error.message.contains("d3Jvbmc="), "{error}");
    let error = ask_with(&local, Request::Databases, &[("request-timeout", "1")]).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
}

#[test]
fn a_sample_goes_on_where_it_was_throttled_and_a_part_of_it_is_enough() {
    let local = Local::start(&["c:/pk:1"]);
    let documents = (0..300).map(|n| {
        let document = format!("{{\"id\":\"d{n}\",\"pk\":\"a\"}}");
        ("[\"a\"]".to_owned(), document)
    });
    write(&local, "c", documents);
    let throttle = |count: Option<u64>| {
        local.forget_requests();
        // Pages behind the first.
        let mut fault = serde_json::json!({
            "operations": "query", "withHeader": "x-ms-continuation", "status": 429, "subStatus": 3200,
            "retryAfterMillis": 5
        });
        if let Some(count) = count {
            fault["count"] = count.into();
        }
        local.admin("faults", fault);
    };
    let pages = || {
        let requests = local.requests("query").into_iter();
        requests.filter(|request| request["status"] == 200).count()
    };
    throttle(Some(3));
    assert_eq!(describe(&local, "c", 300).unwrap().sampled, 300);
    assert_eq!((local.faults(), pages()), (0, 3), "each page is read once");
    throttle(None);
    let impatient = [("retry.throttled-deadline", "200")];
    let found = describe_with(&local, "c", 300, &impatient).unwrap();
    assert_eq!((found.sampled, pages()), (100, 1));
    assert_eq!(found.table.primary_key, ["id", "pk"]);
    local.clear_faults();
    // Without any document nothing is known.
    local.admin(
        "faults",
        serde_json::json!({"operations": "query", "status": 429, "retryAfterMillis": 5}),
    );
    let error = describe_with(&local, "c", 300, &impatient).unwrap_err();
    assert_eq!(error.kind, Kind::Throttled, "{error}");
}

/// The driver sends a request again that has failed.
#[test]
fn the_echo_of_an_own_creation_or_end_is_none() {
    let local = Local::start(&["c:/pk:1"]);
    let lose = |operations: &str| {
        local.admin(
            "faults",
            serde_json::json!({"operations": operations, "count": 1, "status": 500, "after": true, "skip": 0}),
        );
    };
    lose("container");
    let created = names(ask(&local, create("made", &["/pk"], 60)).unwrap());
    assert_eq!(local.faults(), 0);
    let made = describe(&local, "made", 0).unwrap();
    assert_eq!((made.default_ttl, created), (60, vec![made.rid]));
    lose("database");
    let shop = Request::CreateDatabase {
        database: "shop".into(),
        throughput: Throughput::default(),
    };
    ask(&local, shop).unwrap();
    lose("database");
    ask(
        &local,
        Request::DropDatabase {
            database: "shop".into(),
        },
    )
    .unwrap();
    assert_eq!(local.faults(), 0);
    // Another one of the name is none of ours.
    ask(&local, create("other", &["/tenant"], 0)).unwrap();
    local.admin(
        "faults",
        serde_json::json!({"operations": "container", "count": 1, "status": 500}),
    );
    assert_eq!(
        ask(&local, create("other", &["/pk"], 0)).unwrap_err().kind,
        Kind::Conflict
    );
    assert_eq!(local.faults(), 0);
}
