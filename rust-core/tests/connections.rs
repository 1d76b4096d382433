//! Openings, connections and credentials, over a real wire.

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::{Duration, Instant};

use cosmosflink_core::account::{open_blocking, Account};
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::error::Kind;
use cosmosflink_core::feed::Enumerator;
use cosmosflink_core::opening::{Lifecycle, Opening};
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
            ("cosmos.endpoint", endpoint.as_str()),
            ("cosmos.database", "orders"),
            ("cosmos.container", "c"),
            ("cosmos.auth.key", "c2VjcmV0"),
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
    let wrong = config(&local, &[("cosmos.container", "nowhere")]);
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
            let config = s.config(&[("cosmos.request-timeout-ms", "5000")]);
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
        started.elapsed() < Duration::from_secs(3),
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
        account.partition_ranges(&container, false).await?;
        Ok((account, container))
    })
    .unwrap();
    local.admin("faults", json!({"operations": "metadata", "delayMillis": 1000}));
    let ranges = open_blocking(async move {
        let given_up = account.partition_ranges(&container, true);
        assert!(tokio::time::timeout(Duration::from_millis(100), given_up)
            .await
            .is_err());
        account.partition_ranges(&container, true).await
    })
    .unwrap();
    assert_eq!(ranges.len(), 2);
}

#[test]
fn a_rotated_key_is_read_anew_by_the_enumerator() {
    let local = Local::start(&["c:/pk:2"]);
    let file = Scratch::new("rotated-key", &local.key);
    let options: Vec<_> = local
        .options("c", &[("cosmos.auth.key-file", file.path())])
        .into_iter()
        .filter(|(name, _)| name != "cosmos.auth.key")
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
