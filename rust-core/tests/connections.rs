//! Openings, connections and credentials, over a real wire.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cosmosflink_core::account::{open_blocking, Account};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::opening::{Lifecycle, Opening};
use cosmosflink_core::partitions::partition_ranges;
use cosmosflink_core::sink::Sink;
use cosmosflink_core::source::Source;
use serde_json::json;
use support::*;

/// An endpoint that accepts connections and never answers.
struct Silent {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Silent {
    fn start() -> Silent {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let thread = thread::spawn(move || {
            let mut held = Vec::new();
            while !end.load(Ordering::Relaxed) {
                held.extend(listener.accept().ok());
            }
        });
        Silent {
            port,
            ended,
            thread: Some(thread),
        }
    }

    fn config(&self, extra: &[(&str, &str)]) -> Config {
        let endpoint = format!("http://127.0.0.1:{}/", self.port);
        let mut options = vec![
            ("endpoint", endpoint.as_str()),
            ("database", "orders"),
            ("container", "c"),
            ("auth.secret-key", "c2VjcmV0"),
        ];
        options.extend(extra);
        let options: Vec<_> = options
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Config::parse(Role::Source, &options).unwrap()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A file of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cosmosflink-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(local: &Local, extra: &[(&str, &str)]) -> Config {
    Config::parse(Role::Source, &local.options("c", extra)).unwrap()
}

#[test]
fn an_opening_goes_on_in_the_background_and_can_be_woken_and_abandoned() {
    let silent = Silent::start();
    let started = Instant::now();
    let opening = Arc::new(Opening::start(Source::connect(silent.config(&[]))).unwrap());
    assert!(!opening.await_open(Duration::from_millis(20)).unwrap());
    let waiter = {
        let opening = opening.clone();
        thread::spawn(move || opening.await_open(WAIT))
    };
    opening.wake_up();
    assert!(!waiter.join().unwrap().unwrap());
    let waiter = {
        let opening = opening.clone();
        thread::spawn(move || opening.await_open(WAIT))
    };
    opening.close();
    assert_eq!(waiter.join().unwrap().unwrap_err().kind, Kind::Closed);
    opening.close();
    assert_eq!(
        opening.ready(WAIT).map(drop).unwrap_err().kind,
        Kind::Closed,
        "closed for good"
    );
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_failed_opening_says_so_at_each_call() {
    let local = Local::start(&["c:/pk:1"]);
    let wrong = config(&local, &[("container", "nowhere")]);
    let opening = Opening::start(Source::connect(wrong)).unwrap();
    for _ in 0..2 {
        let error = opening.await_open(WAIT).unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.message.contains("nowhere"), "{error}");
    }
    let opening = Opening::start(Source::connect(config(&local, &[]))).unwrap();
    assert!(opening.await_open(WAIT).unwrap());
    assert!(opening.await_open(Duration::ZERO).unwrap());
}

#[test]
fn an_endpoint_that_never_answers_delays_nobody_else() {
    let silent: Vec<_> = (0..3).map(|_| Silent::start()).collect();
    let stuck: Vec<_> = silent
        .iter()
        .map(|s| {
            let config = s.config(&[("request-timeout", "8000")]);
            let (begun, has_begun) = mpsc::channel();
            let thread = thread::spawn(move || {
                begun.send(()).unwrap();
                Source::open(config).map(drop)
            });
            has_begun.recv().unwrap();
            thread
        })
        .collect();
    let local = Local::start(&["c:/pk:1"]);
    let started = Instant::now();
    drop(local.source("c", &[]));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    for thread in stuck {
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind, Kind::Transient);
        assert!(error.message.contains("http://127.0.0.1:"), "{error}");
    }
}

#[test]
fn openings_of_one_account_share_a_connect_also_when_the_first_gives_up() {
    let local = Local::start(&["c:/pk:1"]);
    let of = |local: &Local| {
        let config = config(local, &[]);
        async move { Account::open(&config).await }
    };
    let (first, second, third) = (of(&local), of(&local), of(&local));
    let (second, third) = open_blocking(async move {
        let (mut first, mut second, mut third) = (Box::pin(first), Box::pin(second), Box::pin(third));
        for opening in [first.as_mut(), second.as_mut(), third.as_mut()] {
            assert!(futures::poll!(opening).is_pending());
        }
        drop(first);
        Ok((second.await?, third.await?))
    })
    .unwrap();
    assert!(Arc::ptr_eq(&second, &third));
}

#[test]
fn close_and_wake_up_reach_a_blocked_discovery() {
    let local = Local::start(&["c:/pk:2"]);
    let enumerator = Arc::new(local.enumerator("c", &[]));
    local.admin(
        "faults",
        json!({"operations": "metadata", "delayMillis": 600_000}),
    );
    let discover = || {
        let enumerator = enumerator.clone();
        let (done, result) = mpsc::channel();
        thread::spawn(move || done.send(enumerator.discover(&[])));
        result
    };
    let result = discover();
    let started = Instant::now();
    let woken = loop {
        enumerator.wake_up();
        match result.recv_timeout(Duration::from_millis(10)) {
            Ok(result) => break result.unwrap_err(),
            Err(_) => assert!(started.elapsed() < WAIT, "wake_up does not reach the discovery"),
        }
    };
    assert_eq!(woken.kind, Kind::Transient);
    assert!(woken.message.contains("woken up"), "{woken}");
    // What was given up has left nothing behind.
    local.clear_faults();
    assert_eq!(discover().recv_timeout(WAIT).unwrap().unwrap().len(), 2);
    local.admin(
        "faults",
        json!({"operations": "metadata", "delayMillis": 600_000}),
    );
    let result = discover();
    enumerator.close();
    let closed = result.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(closed.kind, Kind::Closed);
    assert_eq!(enumerator.discover(&[]).unwrap_err().kind, Kind::Closed);
}

#[test]
fn a_look_up_of_ranges_that_is_given_up_leaves_nothing_half_made() {
    let local = Local::start(&["c:/pk:2"]);
    let config = config(&local, &[]);
    let (account, container) = open_blocking(async {
        let (account, _, container) = Account::open_with_container(config).await?;
        partition_ranges(&account, &container, false).await?;
        Ok((account, container))
    })
    .unwrap();
    local.admin("faults", json!({"operations": "metadata", "delayMillis": 1000}));
    let ranges = open_blocking(async move {
        let given_up = partition_ranges(&account, &container, true);
        assert!(tokio::time::timeout(Duration::from_millis(100), given_up)
            .await
            .is_err());
        partition_ranges(&account, &container, true).await
    })
    .unwrap();
    assert_eq!(ranges.len(), 2);
}

#[test]
fn a_rotated_key_is_read_anew_by_the_enumerator() {
    let local = Local::start(&["c:/pk:2"]);
    let file = Scratch::new("rotated-key", &local.key);
    let options: Vec<_> = local
        .options("c", &[("auth.key-file", file.path())])
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    let enumerator = Enumerator::open(Config::parse(Role::Source, &options).unwrap()).unwrap();
    assert_eq!(enumerator.discover(&[]).unwrap().len(), 2);
    let fresh = local.account.regenerate();
    let error = enumerator.discover(&[]).unwrap_err();
    assert_eq!(error.kind, Kind::Auth, "{error}");
    assert!(!error.message.contains(&local.key), "the key shows");
    std::fs::write(&file.0, &fresh).unwrap();
    assert_eq!(enumerator.discover(&[]).unwrap().len(), 2);
}

/// Readers that start together would else fail of it and start anew together.
#[test]
fn throttled_metadata_delays_an_opening_and_does_not_end_it() {
    let local = Local::start(&["c:/pk:2", "dead:/id:1"]);
    let dead_letters = [
        ("sink.failure-mode", "dead-letter"),
        ("sink.dead-letter-container", "dead"),
    ];
    let open_sink =
        || Sink::open(Config::parse(Role::Sink, &local.options("c", &dead_letters)).unwrap()).map(drop);
    let open_source = || Source::open(config(&local, &[])).map(drop);
    let look = || Enumerator::open(config(&local, &[])).and_then(|e| e.discover(&[]).map(drop));
    let handles: [(&str, &dyn Fn() -> cosmosflink_core::error::Result<()>); 3] = [
        ("sink", &open_sink),
        ("source", &open_source),
        ("enumerator", &look),
    ];
    // More often than the driver asks by itself.
    for (kind, sub_status, count) in [
        ("container", 3200, 8),
        ("account", 3200, 12),
        ("pkranges", 3210, 12),
    ] {
        for (handle, open) in handles {
            local.admin(
                "faults",
                json!({"operations": kind, "status": 429, "subStatus": sub_status, "retryAfterMillis": 100, "count": count}),
            );
            open().unwrap_or_else(|e| panic!("{handle} with throttled {kind}: {e}"));
            let spent = local.faults() == 0;
            assert!(
                spent || (handle, kind) == ("source", "pkranges"),
                "{handle} did not ask for {kind}"
            );
            local.clear_faults();
        }
    }
    // What is no throttling ends an opening at once.
    local.admin(
        "faults",
        json!({"operations": "container", "status": 403, "count": 1}),
    );
    assert_eq!(open_source().unwrap_err().kind, Kind::Auth);
}

#[test]
fn an_authority_that_was_exchanged_in_its_file_is_another_one() {
    let start = || Local::start_with(&["c:/pk:1"], |c| c.tls = Some(cosmos_local::Tls::default()));
    let (local, foreign) = (start(), start());
    let file = Scratch::new("exchanged.pem", local.ca_pem.as_deref().unwrap());
    let open = || Source::open(config(&local, &[("tls.ca-file", file.path())]));
    let held = open().unwrap();
    std::fs::write(&file.0, foreign.ca_pem.as_deref().unwrap()).unwrap();
    let error = open().map(drop).unwrap_err();
    assert!(error.message.contains("not trusted"), "{error}");
    std::fs::write(&file.0, local.ca_pem.as_deref().unwrap()).unwrap();
    drop(open().unwrap());
    drop(held);
}

/// A pipe that nobody writes to is read for ever, as a file of a network that hangs.
#[test]
fn a_file_system_that_hangs_does_not_block_a_discovery() {
    let local = Local::start(&["c:/pk:1"]);
    let file = Scratch::new("hanging-key", &local.key);
    let options: Vec<_> = local
        .options("c", &[("auth.key-file", file.path())])
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    let enumerator = Enumerator::open(Config::parse(Role::Source, &options).unwrap()).unwrap();
    local.account.regenerate();
    std::fs::remove_file(&file.0).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&file.0)
        .status()
        .unwrap();
    assert!(made.success());
    let (done, result) = mpsc::channel();
    let look = thread::spawn(move || done.send(enumerator.discover(&[])));
    let answer = result.recv_timeout(Duration::from_secs(20));
    // Lets the reader go, whatever came.
    drop(std::fs::OpenOptions::new().write(true).open(&file.0).unwrap());
    let error = answer.expect("the discovery waits for the file").unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
    assert!(error.message.contains("auth.key-file"), "{error}");
    look.join().unwrap().unwrap();
}

#[test]
fn a_federated_token_on_a_file_system_that_hangs_ends_only_its_own_opening() {
    let local = Local::start(&["c:/pk:1"]);
    let file = Scratch::new("hanging-token", "");
    std::fs::remove_file(&file.0).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&file.0)
        .status()
        .unwrap();
    assert!(made.success());
    let extra = [
        ("auth.type", "workload-identity"),
        ("auth.tenant-id", "tenant"),
        ("auth.client-id", "client"),
        ("auth.token-file", file.path()),
    ];
    let (done, result) = mpsc::channel();
    let config = config(&local, &extra);
    let opening = thread::spawn(move || done.send(Source::open(config).map(drop)));
    let answer = result.recv_timeout(Duration::from_secs(20));
    drop(std::fs::OpenOptions::new().write(true).open(&file.0).unwrap());
    let error = answer.expect("the opening waits for the file").unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
    assert!(error.message.contains("auth.token-file"), "{error}");
    opening.join().unwrap().unwrap();
}

#[test]
fn a_private_authority_is_trusted_for_the_account_that_names_it() {
    let local = Local::start_with(&["c:/pk:2"], |c| c.tls = Some(cosmos_local::Tls::default()));
    let file = Scratch::new("authority.pem", local.ca_pem.as_deref().unwrap());
    let foreign = Local::start_with(&["c:/pk:1"], |c| c.tls = Some(cosmos_local::Tls::default()));
    let foreign = Scratch::new("foreign.pem", foreign.ca_pem.as_deref().unwrap());
    for http2 in ["true", "false"] {
        let trusted = [("tls.ca-file", file.path()), ("http2", http2)];
        let prefix = format!("tls-{http2}");
        let sink = local.sink("c", &trusted);
        upserts(&sink, &prefix, 300, 20);
        outcomes(&sink, 300);
        assert!(sink.metrics().bulk_requests.load(Ordering::Relaxed) > 0);
    }
    let (source, _) = local.source_of_all("c", &[("tls.ca-file", file.path())]);
    assert_eq!(read(&source, 600).len(), 600);

    let error = Source::open(config(&local, &[])).map(drop).unwrap_err();
    assert!(
        error.message.contains("not trusted")
            && error
                .message
                .contains("name that authority's file in tls.ca-file"),
        "{error}"
    );
    let error = Source::open(config(&local, &[("tls.ca-file", foreign.path())]))
        .map(drop)
        .unwrap_err();
    assert!(error.message.contains(foreign.path()), "{error}");
    let empty = Scratch::new("empty.pem", "no certificate");
    for (path, why) in [
        (empty.path(), "holds no certificates"),
        ("/nowhere.pem", "cannot be read"),
    ] {
        let error = Source::open(config(&local, &[("tls.ca-file", path)]))
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        assert!(
            error.message.contains(path) && error.message.contains(why),
            "{error}"
        );
    }
}

#[test]
fn bulk_stays_bulk_where_the_account_advertises_gateway_2() {
    let local = Local::start_with(&["c:/pk:2"], |c| c.gateway_v2 = true);
    let sink = local.sink("c", &[]);
    upserts(&sink, "a", 200, 20);
    outcomes(&sink, 200);
    let (source, _) = local.source_of_all("c", &[]);
    assert_eq!(read(&source, 200).len(), 200);
    let stats = local.stats();
    assert_eq!(stats["gatewayV2Requests"], json!(0), "{stats}");
    assert!(!local.requests("bulk").is_empty());
    assert!(local.requests("create").is_empty());
}

#[test]
fn priority_and_bucket_go_with_every_request_for_documents() {
    let local = Local::start(&["c:/pk:1"]);
    let headers = ["x-ms-cosmos-priority-level", "x-ms-cosmos-throughput-bucket"];
    local.admin("requests", json!({ "headers": headers }));
    let run = |prefix: &str, extra: &[(&str, &str)], kind: &str, seen: usize| {
        let sink = local.sink("c", extra);
        upserts(&sink, prefix, 50, 5);
        outcomes(&sink, 50);
        let (source, _) = local.source_of_all("c", extra);
        read(&source, seen);
        for kind in [kind, "changeFeed"] {
            assert!(!local.requests(kind).is_empty(), "{kind}");
        }
        let mut all = local.requests(kind);
        all.extend(local.requests("changeFeed"));
        local.forget_requests();
        all
    };
    let with = [("priority-level", "low"), ("throughput-bucket", "3")];
    for request in run("low", &with, "bulk", 50) {
        assert_eq!(request["headers"][headers[0]], json!("Low"), "{request}");
        assert_eq!(request["headers"][headers[1]], json!("3"), "{request}");
    }
    let point = [("priority-level", "high"), ("sink.bulk", "false")];
    for request in run("high", &point, "upsert", 100) {
        assert_eq!(request["headers"][headers[0]], json!("High"), "{request}");
        assert_eq!(request["headers"].get(headers[1]), None, "{request}");
    }
    for request in run("none", &[], "bulk", 150) {
        assert_eq!(request["headers"].get(headers[0]), None, "{request}");
    }
}

/// A bulk request that takes longer than the driver's own limit of 6 s is not sent twice.
#[test]
fn an_attempt_may_take_as_long_as_the_option_says() {
    let local = Local::start(&["c:/pk:1"]);
    let sink = local.sink("c", &[]);
    local.admin(
        "faults",
        json!({"operations": "bulk", "delayMillis": 7000, "count": 1}),
    );
    upserts(&sink, "slow", 10, 2);
    outcomes(&sink, 10);
    assert_eq!(local.requests("bulk").len(), 1, "{:?}", local.requests("bulk"));
    assert_eq!(sink.metrics().retries.load(Ordering::Relaxed), 0);
}

#[test]
fn no_session_is_kept_for_a_connector_that_does_not_read_its_writes() {
    let local = Local::start(&["c:/pk:1"]);
    let header = "x-ms-session-token";
    local.admin("requests", json!({ "headers": [header] }));
    let bulk = local.sink("c", &[]);
    let point = local.sink("c", &[("sink.bulk", "false")]);
    let (source, _) = local.source_of_all("c", &[]);
    for round in 0..3 {
        for (sink, name) in [(&bulk, "bulk"), (&point, "point")] {
            upserts(sink, &format!("{name}-{round}"), 10, 5);
            outcomes(sink, 10);
        }
        read(&source, 20);
    }
    for kind in ["bulk", "upsert", "changeFeed"] {
        let requests = local.requests(kind);
        assert!(requests.len() > 1, "{kind}");
        for request in requests {
            assert_eq!(request["headers"].get(header), None, "{request}");
        }
    }
}

/// A proxy for plain HTTP: relays each request to the server that its request line names, and counts them.
struct Forward {
    port: u16,
    requests: Arc<AtomicUsize>,
    /// Where tunnels were asked for; none is given.
    tunnels: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

impl Forward {
    fn start() -> Forward {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let tunnels: Arc<Mutex<Vec<String>>> = Arc::default();
        let (count, asked, end) = (requests.clone(), tunnels.clone(), ended.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let (count, asked) = (count.clone(), asked.clone());
                thread::spawn(move || Self::serve(client, &count, &asked));
            }
        });
        Forward {
            port,
            requests,
            tunnels,
            ended,
        }
    }

    /// One connection with one request: it ends as the server's does.
    fn serve(client: TcpStream, count: &AtomicUsize, tunnels: &Mutex<Vec<String>>) -> Option<()> {
        let mut from_client = BufReader::new(client.try_clone().ok()?);
        let mut to_client = client;
        let mut line = String::new();
        from_client.read_line(&mut line).ok().filter(|n| *n > 0)?;
        if let Some(tunnel) = line.strip_prefix("CONNECT ") {
            tunnels.lock().unwrap().push(tunnel.split(' ').next()?.to_owned());
            return to_client
                .write_all(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n")
                .ok();
        }
        let url: url::Url = line.split(' ').nth(1)?.parse().ok()?;
        count.fetch_add(1, Ordering::Relaxed);
        let mut server = TcpStream::connect((url.host_str()?, url.port()?)).ok()?;
        let path = &url[url::Position::BeforePath..];
        let (mut head, mut length) = (line.replacen(url.as_str(), path, 1), 0);
        loop {
            let mut header = String::new();
            from_client.read_line(&mut header).ok()?;
            if header == "\r\n" {
                break;
            }
            if let Some(n) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().ok()?;
            }
            head.push_str(&header);
        }
        head.push_str("connection: close\r\n\r\n");
        let mut body = vec![0; length];
        from_client.read_exact(&mut body).ok()?;
        server.write_all(head.as_bytes()).ok()?;
        server.write_all(&body).ok()?;
        std::io::copy(&mut server, &mut to_client).ok()?;
        to_client.shutdown(std::net::Shutdown::Both).ok()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

#[test]
fn requests_go_through_the_proxy_that_the_option_names() {
    let (local, proxy) = (Local::start(&["c:/pk:1"]), Forward::start());
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let sink = local.sink("c", &[("proxy", &url)]);
    let opened = proxy.requests.load(Ordering::Relaxed);
    assert!(opened > 0, "opened past the proxy");
    upserts(&sink, "p", 20, 5);
    outcomes(&sink, 20);
    assert!(
        proxy.requests.load(Ordering::Relaxed) > opened,
        "written past the proxy"
    );
    // Another handle of this process that names none goes its own way.
    let before = proxy.requests.load(Ordering::Relaxed);
    let (source, _) = local.source_of_all("c", &[]);
    read(&source, 20);
    assert_eq!(proxy.requests.load(Ordering::Relaxed), before);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{nobody}");
    let extra = [("proxy", url.as_str()), ("request-timeout", "5000")];
    let error = Source::open(config(&local, &extra)).map(drop).unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
}

#[test]
fn excluded_regions_are_not_asked() {
    let local = Local::start_with(&["c:/pk:1"], |c| {
        c.regions = vec!["East US".to_owned(), "West US".to_owned()];
    });
    let sink = local.sink("c", &[]);
    upserts(&sink, "r", 50, 5);
    outcomes(&sink, 50);
    // A final failure, so that a request that goes there cannot end well elsewhere.
    local.admin(
        "faults",
        json!({"operations": "changeFeed", "region": "East US", "status": 400}),
    );
    let (source, _) = local.source_of_all("c", &[("excluded-regions", "East US")]);
    read(&source, 50);
    let (source, _) = local.source_of_all("c", &[("excluded-regions", "West US")]);
    let error = loop {
        if let Err(error) = source.next_page(WAIT) {
            break error;
        }
    };
    assert_eq!(error.status, 400, "{error}");
}

#[test]
fn a_key_that_is_none_is_an_option_gone_wrong() {
    let local = Local::start(&["c:/pk:1"]);
    let error = Source::open(config(&local, &[("auth.secret-key", "not base64!")]))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind, Kind::Config, "{error}");
    assert!(
        error.message.contains("base64") && !error.message.contains("not base64!"),
        "{error}"
    );
}

#[test]
fn a_handle_that_is_opened_after_a_container_was_recreated_gets_the_new_one() {
    let local = Local::start(&["c:/pk:1"]);
    // Holds the account open, and with it what the driver remembers.
    let held = local.source("c", &[]);
    let before = local.enumerator("c", &[]).discover(&[]).unwrap();
    local.admin("recreate", json!({"database": "orders", "container": "c"}));
    let after = local.enumerator("c", &[]).discover(&[]).unwrap();
    assert_ne!(after[0].split.container_rid, before[0].split.container_rid);
    let error = local.enumerator("c", &[]).discover(&before).unwrap_err();
    assert_eq!(error.kind, Kind::State, "{error}");
    let sink = local.sink("c", &[]);
    upserts(&sink, "new", 20, 5);
    outcomes(&sink, 20);
    let (source, _) = local.source_of_all("c", &[]);
    read(&source, 20);
    drop(held);
    local.admin("drop", json!({"database": "orders", "container": "c"}));
    let error = Source::open(config(&local, &[])).map(drop).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
}

/// A request for a token goes the way of the account's own, and tells in the end that it could not.
#[test]
fn tokens_are_asked_for_through_the_proxy() {
    let (local, proxy) = (Local::start(&["c:/pk:1"]), Forward::start());
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let extra = [
        ("proxy", url.as_str()),
        ("auth.type", "client-secret"),
        ("auth.tenant-id", "tenant"),
        ("auth.client-id", "client"),
        ("auth.client-secret", "VerySecret"),
        ("auth.authority-host", "https://login.sovereign.invalid"),
        ("request-timeout", "8000"),
    ];
    let error = Source::open(config(&local, &extra)).map(drop).unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
    assert!(!error.message.contains("VerySecret"), "{error}");
    let tunnels = proxy.tunnels.lock().unwrap();
    assert!(!tunnels.is_empty(), "{error}");
    assert!(
        tunnels.iter().all(|t| t == "login.sovereign.invalid:443"),
        "{tunnels:?}"
    );
}

#[test]
fn http_2_can_be_switched_off() {
    for (http2, version) in [("true", "2"), ("false", "1.1")] {
        let local = Local::start(&["c:/pk:1"]);
        let sink = local.sink("c", &[("http2", http2)]);
        upserts(&sink, "h", 10, 2);
        outcomes(&sink, 10);
        for request in local.requests("bulk") {
            assert_eq!(request["http"], json!(version), "{request}");
        }
        assert!(!local.requests("bulk").is_empty());
    }
}

/// A listener whose queue is full drops what comes: a connection is neither made nor refused.
#[test]
fn a_connection_is_waited_for_as_long_as_the_option_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(queued) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(queued);
    }
    let endpoint = format!("http://{address}/");
    let open = |limit: &str| {
        let options = [
            ("endpoint", endpoint.as_str()),
            ("database", "orders"),
            ("container", "c"),
            ("auth.secret-key", "c2VjcmV0"),
            ("connect-timeout", limit),
        ];
        let options = options.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let started = Instant::now();
        let error = Source::open(Config::parse(Role::Source, &options).unwrap())
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{error}");
        started.elapsed()
    };
    let (short, long) = (open("100"), open("2000"));
    assert!(short + Duration::from_secs(1) < long, "{short:?}, {long:?}");
}

fn two_regions() -> Local {
    Local::start_with(&["c:/pk:1"], |c| {
        c.regions = vec!["East US".to_owned(), "West US".to_owned()];
    })
}

#[test]
fn a_request_fails_over_as_often_as_the_option_says() {
    let local = two_regions();
    let sink = local.sink("c", &[]);
    upserts(&sink, "f", 20, 5);
    outcomes(&sink, 20);
    local.admin(
        "faults",
        json!({"operations": "changeFeed", "region": "East US", "status": 503}),
    );
    let (source, _) = local.source_of_all("c", &[]);
    read(&source, 20);
    assert_eq!(source.metrics().retries.load(Ordering::Relaxed), 0);
    let (source, _) = local.source_of_all("c", &[("failover.max-retries", "0")]);
    let started = Instant::now();
    while source.metrics().retries.load(Ordering::Relaxed) < 3 {
        assert!(started.elapsed() < WAIT);
        assert_eq!(
            source.next_page(Duration::from_millis(50)).unwrap(),
            0,
            "it failed over"
        );
    }
    local.clear_faults();
    read(&source, 20);
}

#[test]
fn slow_metadata_is_asked_for_in_a_second_region_unless_switched_off() {
    let look_up = |threshold: &str| {
        let local = two_regions();
        let config = config(&local, &[("hedging.threshold", threshold)]);
        let (account, container) = open_blocking(async {
            let (account, _, container) = Account::open_with_container(config).await?;
            partition_ranges(&account, &container, false).await?;
            Ok((account, container))
        })
        .unwrap();
        local.admin(
            "faults",
            json!({"operations": "container", "region": "East US", "delayMillis": 4000}),
        );
        let config = self::config(&local, &[("hedging.threshold", threshold)]);
        let started = Instant::now();
        open_blocking(async move { account.check_container(&config, &container).await }).unwrap();
        started.elapsed()
    };
    let limit = Duration::from_millis(3500);
    assert!(look_up("200") < limit);
    assert!(look_up("0") > limit);
}
