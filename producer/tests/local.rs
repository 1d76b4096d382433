//! The producer's program against the local account, over the wire.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cosmos_local::{AccountKey, Config, Server};
use serde_json::{json, Value};

struct Account {
    server: Server,
    key: String,
    summary: PathBuf,
}

impl Account {
    async fn start(test: &str) -> Self {
        let key = AccountKey::random();
        let secret = key.secret().to_owned();
        let mut config = Config::new(key);
        config.databases = vec!["orders".into()];
        config.containers = vec!["events-source:/customerId:2".parse().unwrap()];
        let summary = std::env::temp_dir().join(format!("cosmosflink-{test}-{}.json", std::process::id()));
        Self {
            server: Server::start(config).await.expect("a free port"),
            key: secret,
            summary,
        }
    }

    fn producer(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmosflink-producer"));
        // What the caller's shell has set must not reach the test.
        for (name, _) in std::env::vars_os() {
            if ["COSMOS_", "PRODUCER_", "AZURE_"]
                .iter()
                .any(|p| name.to_string_lossy().starts_with(p))
            {
                command.env_remove(name);
            }
        }
        command
            .env("COSMOS_URI", self.server.endpoint())
            .env("COSMOS_KEY", &self.key)
            .env("COSMOS_DB", "orders")
            .args(["--quiet", "--summary-file"])
            .arg(&self.summary)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end and checks on the way that it never shows the key.
    async fn run(&self, mut command: Command) -> (i32, String, Duration) {
        let began = Instant::now();
        let output: Output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains(&self.key), "the key is in the output");
        (output.status.code().unwrap_or(-1), text, began.elapsed())
    }

    fn summary(&self) -> Value {
        let text = std::fs::read(&self.summary).expect("a summary");
        std::fs::remove_file(&self.summary).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    async fn admin(&self, action: &'static str, body: Option<Value>) -> Value {
        let url = format!("{}_local/{action}", self.server.endpoint());
        tokio::task::spawn_blocking(move || {
            let answer = match body {
                Some(body) => ureq::post(url).send_json(body),
                None => ureq::get(url).call(),
            };
            answer.unwrap().body_mut().read_json().unwrap()
        })
        .await
        .unwrap()
    }

    async fn documents(&self) -> u64 {
        let stats = self.admin("stats", None).await;
        let partitions = stats["containers"][0]["partitions"]
            .as_array()
            .expect("partitions")
            .clone();
        partitions.iter().map(|p| p["documents"].as_u64().unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_stored_and_a_seed_stores_the_same_ones_again() {
    let account = Account::start("seed").await;
    let args = [
        "--count",
        "300",
        "--rate",
        "0",
        "--seed",
        "9",
        "--invalid-share",
        "0.1",
    ];
    let (code, text, _) = account.run(account.producer(&args)).await;
    assert_eq!(code, 0, "{text}");
    let first = account.summary();
    assert_eq!(
        (&first["acknowledged"], &first["failed"]),
        (&json!(300), &json!(0)),
        "{first}"
    );
    assert!(first["requestCharge"].as_f64().unwrap() > 300.0, "{first}");
    assert!(first["invalid"].as_u64().unwrap() > 5, "{first}");
    assert_eq!(account.documents().await, 300);

    let (code, text, _) = account.run(account.producer(&args)).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(account.summary()["idsDigest"], first["idsDigest"]);
    assert_eq!(
        account.documents().await,
        300,
        "the second run overwrites the first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_server_errors_lose_nothing() {
    let account = Account::start("faults").await;
    for fault in [
        json!({"operations": "write", "status": 429, "retryAfterMillis": 20, "share": 0.2}),
        json!({"operations": "write", "status": 503, "share": 0.05}),
        // Stored, but the producer never hears of it: the second try must not make a second document.
        json!({"operations": "write", "dropResponse": true, "share": 0.05}),
    ] {
        account.admin("faults", Some(fault)).await;
    }
    let (code, text, _) = account
        .run(account.producer(&["--count", "300", "--rate", "0"]))
        .await;
    let summary = account.summary();
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        (&summary["acknowledged"], &summary["failed"]),
        (&json!(300), &json!(0)),
        "{summary}"
    );
    assert!(summary["throttled"].as_u64().unwrap() > 20, "{summary}");
    assert!(
        summary["retries"].as_u64() >= summary["throttled"].as_u64(),
        "{summary}"
    );
    assert_eq!(account.documents().await, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_in_one_line_soon() {
    let account = Account::start("wrong").await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut wrong_key = account.producer(&["--count", "1"]);
    wrong_key.env("COSMOS_KEY", AccountKey::random().secret());
    let missing = account.producer(&["--count", "1", "--container", "nowhere"]);
    let mut dead = account.producer(&["--count", "1"]);
    dead.env("COSMOS_URI", format!("http://{unused}/"));
    let mut no_key = account.producer(&["--count", "1"]);
    no_key.env_remove("COSMOS_KEY");
    for (command, expected) in [
        (wrong_key, "refused the credential (401): check COSMOS_KEY"),
        (missing, r#"container "nowhere" does not exist"#),
        (dead, "Connection refused"),
        (no_key, "no account key: set COSMOS_KEY"),
    ] {
        let (code, text, took) = account.run(command).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_run_with_a_summary() {
    let account = Account::start("signal").await;
    let mut child = account.producer(&["--rate", "200"]).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let sent = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let summary = account.summary();
    assert_eq!(
        (&summary["interrupted"], &summary["failed"]),
        (&json!(true), &json!(0)),
        "{summary}"
    );
    assert_eq!(summary["acknowledged"].as_u64(), Some(account.documents().await));
}
