//! A consumer behind real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cosmosflink_consumer::{start, Consumer, Framing, Options, Output};
use serde_json::{json, Value};

const MAX_BATCH: usize = 1_000;

async fn consumer(framing: Framing) -> Consumer {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    start(Options {
        listen: any,
        tcp_listen: Some(any),
        tcp_framing: framing,
        max_batch_bytes: MAX_BATCH,
        max_ids: 1_000,
        output: Output::Count,
    })
    .await
    .expect("free ports on loopback")
}

/// Runs blocking client code beside the server.
async fn client<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(f))
        .await
        .expect("in time")
        .unwrap()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

fn post(http: SocketAddr, kind: &str, body: &str) -> (u16, Value) {
    let mut answer = agent()
        .post(format!("http://{http}/events"))
        .content_type(kind)
        .send(body)
        .expect("an answer");
    (
        answer.status().as_u16(),
        answer.body_mut().read_json().expect("JSON"),
    )
}

fn get(http: SocketAddr, path: &str) -> (u16, String, String) {
    let mut answer = agent()
        .get(format!("http://{http}{path}"))
        .call()
        .expect("an answer");
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (
        answer.status().as_u16(),
        kind,
        answer.body_mut().read_to_string().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn http_batches_are_counted_once_and_bad_ones_not_at_all() {
    let consumer = consumer(Framing::Length).await;
    let http = consumer.http;
    client(move || {
        let json = "application/json";
        assert_eq!(
            post(http, json, r#"[{"id":"a"},{"id":"b"}]"#),
            (200, json!({"accepted": 2, "duplicates": 0}))
        );
        assert_eq!(
            post(
                http,
                "application/x-ndjson; charset=utf-8",
                "{\"id\":\"b\"}\n{\"id\":\"c\"}\n"
            ),
            (200, json!({"accepted": 1, "duplicates": 1}))
        );
        assert_eq!(
            post(
                http,
                json,
                r#"{"events":[{"id":"d","createdAt":"2026-01-01T00:00:00Z"}]}"#
            )
            .1,
            json!({"accepted": 1, "duplicates": 0})
        );
        // A good event beside a bad one must not count: the sender will send the whole batch again.
        assert_eq!(
            post(http, json, r#"[{"id":"e"},{"name":"x"}]"#),
            (400, json!({"error": "event 1: id is missing"}))
        );
        let (status, answer) = post(http, json, &format!("[{{\"id\":\"{}\"}}]", "x".repeat(MAX_BATCH)));
        assert_eq!(status, 413);
        assert!(
            answer["error"].as_str().unwrap().contains("1000 bytes"),
            "{answer}"
        );

        // So large that the client is still sending when the server knows: it must see the answer, not a reset.
        assert_eq!(post(http, json, &"x".repeat(8_000_000)).0, 413);

        let (status, _, stats) = get(http, "/stats");
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(status, 200);
        for (field, value) in [
            ("received", 5),
            ("unique", 4),
            ("duplicates", 1),
            ("batches", 3),
            ("malformed", 1),
            ("tooLarge", 2),
        ] {
            assert_eq!(stats[field], value, "{field} of {stats}");
        }
        assert_eq!(stats["latencyMillis"]["count"], 1);
        let digest = ["a", "b", "c", "d"]
            .iter()
            .map(|i| cosmosflink_digest::hash_id(i));
        assert_eq!(
            stats["idsDigest"],
            digest.collect::<cosmosflink_digest::IdsDigest>().to_string()
        );
    })
    .await;
    assert_eq!(consumer.stop().await.unique, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_answer() {
    let consumer = consumer(Framing::Length).await;
    let http = consumer.http;
    client(move || {
        assert_eq!(
            get(http, "/health"),
            (200, "application/json".into(), r#"{"status":"ok"}"#.into())
        );
        let (status, kind, page) = get(http, "/");
        assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
        assert!(page.contains("<svg id=\"throughput\">") && page.contains("<svg id=\"latency\">"));
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "the page loads nothing from elsewhere"
        );
        let (status, kind, text) = get(http, "/metrics");
        assert_eq!(
            (status, kind.as_str()),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        assert!(text.contains("\ncosmosflink_consumer_events_received_total 0\n"));
        assert_eq!(get(http, "/nothing").0, 404);
        assert_eq!(
            agent()
                .get(format!("http://{http}/events"))
                .call()
                .unwrap()
                .status(),
            405
        );
        post(http, "application/json", r#"[{"id":"a"}]"#);
        std::thread::sleep(Duration::from_millis(1_200));
        let history: Vec<Value> = serde_json::from_str(&get(http, "/history").2).unwrap();
        assert_eq!(
            history
                .iter()
                .map(|s| s["received"].as_u64().unwrap())
                .sum::<u64>(),
            1
        );
    })
    .await;
    consumer.stop().await;
}

fn answer(stream: &mut BufReader<TcpStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

fn connect(tcp: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    BufReader::new(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_with_a_length_in_front() {
    let consumer = consumer(Framing::Length).await;
    let tcp = consumer.tcp.unwrap();
    client(move || {
        let frame =
            |body: &str| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_bytes()].concat();
        let mut stream = connect(tcp);
        // Two frames at once, then one in pieces: framing must not depend on how bytes arrive.
        let both = [frame(r#"[{"id":"a"},{"id":"b"}]"#), frame(r#"[{"id":"b"}]"#)].concat();
        stream.get_mut().write_all(&both).unwrap();
        assert_eq!(answer(&mut stream), json!({"accepted": 2, "duplicates": 0}));
        assert_eq!(answer(&mut stream), json!({"accepted": 0, "duplicates": 1}));
        for piece in frame(r#"[{"id":7}]"#).chunks(3) {
            stream.get_mut().write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(
            answer(&mut stream),
            json!({"error": "event 0: id is not a string: 7"})
        );
        stream.get_mut().write_all(&frame(r#"[{"id":"c"}]"#)).unwrap();
        assert_eq!(
            answer(&mut stream),
            json!({"accepted": 1, "duplicates": 0}),
            "a bad batch does not end it"
        );
        stream
            .get_mut()
            .write_all(&frame(&"x".repeat(MAX_BATCH + 1)))
            .unwrap();
        assert!(answer(&mut stream)["error"]
            .as_str()
            .unwrap()
            .contains("larger than 1000 bytes"));
        assert_eq!(
            stream.read(&mut [0; 1]).unwrap(),
            0,
            "the connection ends, for no frame can follow"
        );
    })
    .await;
    let last = consumer.stop().await;
    assert_eq!(
        (last.unique, last.duplicates, last.malformed, last.too_large),
        (3, 1, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_with_lines() {
    let consumer = consumer(Framing::Lines).await;
    let tcp = consumer.tcp.unwrap();
    client(move || {
        let mut stream = connect(tcp);
        stream
            .get_mut()
            .write_all(b"[{\"id\":\"a\"},{\"id\":\"b\"}]\r\n{\"id\":\"c\"}\n")
            .unwrap();
        assert_eq!(answer(&mut stream), json!({"accepted": 2, "duplicates": 0}));
        assert_eq!(answer(&mut stream), json!({"accepted": 1, "duplicates": 0}));
        stream
            .get_mut()
            .write_all(format!("[{}]\n", "x".repeat(MAX_BATCH)).as_bytes())
            .unwrap();
        assert!(answer(&mut stream)["error"]
            .as_str()
            .unwrap()
            .contains("larger than 1000 bytes"));
    })
    .await;
    assert_eq!(consumer.stop().await.unique, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_does_not_hold_up_the_stop() {
    let consumer = consumer(Framing::Length).await;
    let (http, tcp) = (consumer.http, consumer.tcp.unwrap());
    let _idle = (
        TcpStream::connect(tcp).unwrap(),
        TcpStream::connect(http).unwrap(),
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = std::time::Instant::now();
    consumer.stop().await;
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let error = start(Options {
        listen,
        tcp_listen: None,
        tcp_framing: Framing::Lines,
        max_batch_bytes: MAX_BATCH,
        max_ids: 1,
        output: Output::Count,
    })
    .await
    .err()
    .expect("the port is taken");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}
