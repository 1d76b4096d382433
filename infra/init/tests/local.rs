//! The initializer's program against the local account, over the wire.

use std::process::Command;
use std::sync::Arc;

use clap::Parser;
use cosmos_local::{AccountKey, Config, Server};
use cosmosflink_producer::connect::Connection;
use cosmosflink_producer::cosmos::Upserts;
use cosmosflink_producer::order::{Orders, Settings};
use cosmosflink_producer::run::{run, Plan, Progress, Summary};
use serde_json::{json, Value};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
}

struct Account {
    server: Server,
    key_file: std::path::PathBuf,
}

impl Account {
    async fn start(test: &str) -> Self {
        let key = AccountKey::random();
        let key_file =
            std::env::temp_dir().join(format!("cosmosflink-init-{test}-{}.key", std::process::id()));
        std::fs::write(&key_file, key.secret()).unwrap();
        Self {
            server: Server::start(Config::new(key)).await.expect("a free port"),
            key_file,
        }
    }

    async fn init(&self, args: &[&str]) -> (i32, Vec<Value>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmosflink-init"));
        // What the caller's shell has set must not reach the test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COSMOS_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("COSMOS_URI", self.server.endpoint())
            .env("COSMOS_DB", "orders")
            .env("COSMOS_KEY_FILE", &self.key_file);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
        (
            output.status.code().unwrap_or(-1),
            lines,
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    async fn produce(&self, container: &str, count: u64) -> Summary {
        let (endpoint, key_file) = (self.server.endpoint(), self.key_file.to_str().unwrap());
        let line = [
            "x",
            "--uri",
            &endpoint,
            "--database",
            "orders",
            "--auth",
            "key",
            "--key-file",
            key_file,
        ];
        let connection = Cli::parse_from(line).connection;
        let client = connection.open().await.unwrap();
        let writer = Upserts::new(
            connection.container(&client, container).await.unwrap(),
            Duration::from_secs(5),
        );
        let orders = Orders::new(Settings {
            seed: Some(3),
            payload_bytes: 300,
            invalid_share: 0.0,
            source: None,
        });
        let plan = Plan {
            rate: None,
            count: Some(count),
            duration: None,
            concurrency: 16,
            retry_deadline: Duration::from_secs(10),
        };
        let (_keep, stop) = watch::channel(false);
        run(Arc::new(writer), orders, &plan, Progress::new(), stop).await
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.key_file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_created_once_and_another_partition_key_is_refused() {
    std::env::remove_var("COSMOS_KEY");
    let account = Account::start("create").await;
    let created = |lines: &[Value]| -> Vec<(String, String, bool)> {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let line = |l: &Value| {
            (
                text(&l["container"]),
                text(&l["partitionKey"][0]),
                l["created"] == true,
            )
        };
        lines.iter().map(line).collect()
    };
    let expected = |new| {
        [
            ("events-source", "/customerId"),
            ("events-processed", "/region"),
            ("events-output", "/region"),
            ("dead-letter", "/container"),
            ("cosmos-leases", "/id"),
        ]
        .map(|(name, path)| (name.to_owned(), path.to_owned(), new))
    };
    for new in [true, false] {
        let (code, lines, errors) = account.init(&["create", "--throughput", "400"]).await;
        assert_eq!(code, 0, "{errors}");
        assert_eq!(created(&lines), expected(new));
    }
    let (code, _, errors) = account.init(&["create", "--target-pkey-path", "/other"]).await;
    assert_eq!(code, 2);
    assert!(
        errors.contains("events-processed exists with the partition key /region, not /other"),
        "{errors}"
    );
    let (code, _, errors) = account.init(&["create", "--target-pkey-path", "region"]).await;
    assert!(
        code == 2 && errors.contains("\"region\" is no partition key path"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_and_verifying_see_what_was_produced() {
    let account = Account::start("count").await;
    let (code, _, errors) = account.init(&["create"]).await;
    assert_eq!(code, 0, "{errors}");
    let produced = account.produce("events-source", 2_500).await;
    assert_eq!(produced.acknowledged, 2_500);
    let (code, lines, errors) = account
        .init(&[
            "count",
            "--container",
            "events-source",
            "--container",
            "events-output",
        ])
        .await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        (&lines[0]["documents"], &lines[0]["distinctIds"]),
        (&json!(2_500), &json!(2_500))
    );
    assert_eq!(
        lines[0]["idsDigest"], produced.ids_digest,
        "the producer's digest"
    );
    assert_eq!(lines[1]["documents"], 0);

    let summary = account.key_file.with_extension("json");
    let verify = async |container| {
        account
            .init(&[
                "verify",
                "--summary",
                summary.to_str().unwrap(),
                "--container",
                container,
            ])
            .await
    };
    std::fs::write(&summary, serde_json::to_vec(&produced).unwrap()).unwrap();
    let (code, lines, _) = verify("events-source").await;
    assert_eq!(
        (code, &lines[0]["equal"], &lines[0]["expected"]),
        (0, &json!(true), &json!(2_500))
    );
    let (code, lines, _) = verify("events-output").await;
    assert_eq!((code, &lines[0]["equal"]), (1, &json!(false)));
    std::fs::remove_file(&summary).unwrap();
    let (code, _, errors) = verify("events-source").await;
    assert!(code == 2 && errors.contains("cannot read"), "{errors}");

    let compare = async |target| {
        account
            .init(&["compare", "--source", "events-source", "--target", target])
            .await
    };
    let (code, lines, errors) = compare("events-source").await;
    assert_eq!(
        (code, &lines[0]["documents"], &lines[0]["different"]),
        (0, &json!(2_500), &json!(0)),
        "{errors}"
    );
    let (code, lines, errors) = compare("events-output").await;
    assert_eq!((code, &lines[0]["different"]), (1, &json!(2_500)), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_any_name_is_created_and_its_documents_are_printed() {
    let account = Account::start("documents").await;
    let (code, lines, errors) = account
        .init(&["create", "--container", "shop-orders:/customerId"])
        .await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        lines,
        [json!({"container": "shop-orders", "partitionKey": ["/customerId"], "created": true})]
    );
    account.produce("shop-orders", 20).await;
    let (code, lines, errors) = account.init(&["documents", "--container", "shop-orders"]).await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(lines.len(), 20);
    for document in lines {
        assert!(
            document["id"].is_string() && document["customerId"].is_string(),
            "{document}"
        );
        assert_eq!(document["_etag"], Value::Null, "{document}");
    }
    let (code, _, errors) = account.init(&["create", "--container", "orders"]).await;
    assert!(
        code == 2 && errors.contains("\"orders\" is no container with its partition key"),
        "{errors}"
    );
}
