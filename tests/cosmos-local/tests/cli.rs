//! The server as a process: its key, its ready file and its end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cosmos-local-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos-local"));
    command
        .args(arguments)
        .env_remove("COSMOS_KEY")
        .env_remove("COSMOS_KEY_FILE");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn wait_for(path: &Path, child: &mut Child) -> String {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text;
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the server ended early: {status}");
        }
        assert!(Instant::now() < limit, "no ready file after 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends the signal to the child and returns its output, which must come within the limit.
fn end(mut child: Child, signal: &str, limit: Duration) -> Output {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let limit = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("the server did not end on {signal}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn it_makes_a_key_reports_its_address_and_ends_on_signals() {
    let folder = Folder::new("process");
    let (key, ready) = (folder.0.join("key"), folder.0.join("ready.json"));
    let arguments = [
        "--key-file",
        key.to_str().unwrap(),
        "--ready-file",
        ready.to_str().unwrap(),
        "--database",
        "db",
        "--container",
        "c:/pk:2",
    ];
    let mut keys = Vec::new();
    for signal in ["-TERM", "-INT"] {
        let mut child = command(&arguments).spawn().unwrap();
        let text = wait_for(&ready, &mut child);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["pid"], child.id());
        let endpoint = report["endpoint"].as_str().unwrap();
        let mut health = ureq::get(format!("{endpoint}_local/health")).call().unwrap();
        assert!(health.body_mut().read_to_string().unwrap().contains("ok"));
        let secret = std::fs::read_to_string(&key).unwrap();
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // A connection is open and idle meanwhile: it must not hold the end up.
        let _idle =
            std::net::TcpStream::connect(endpoint.trim_start_matches("http://").trim_end_matches('/'));
        let output = end(child, signal, Duration::from_secs(5));
        assert!(output.status.success(), "{output:?}");
        let printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            printed.contains(endpoint) && printed.contains("not emulated"),
            "{printed}"
        );
        assert!(!printed.contains(&secret), "the key was printed");
        keys.push(secret);
        std::fs::remove_file(&ready).unwrap();
    }
    assert_eq!(keys[0], keys[1], "an existing key file was not used");
}

#[test]
fn https_is_reported_and_its_authority_is_written_to_a_file() {
    use rustls::pki_types::{pem::PemObject, CertificateDer, ServerName};
    let folder = Folder::new("tls");
    let (ca, ready) = (folder.0.join("ca.pem"), folder.0.join("ready.json"));
    let (ca_path, ready_path) = (ca.to_str().unwrap(), ready.to_str().unwrap());
    let mut child = command(&[
        "--key",
        "a2V5",
        "--tls",
        "--tls-name",
        "account",
        "--tls-ca",
        ca_path,
        "--ready-file",
        ready_path,
    ])
    .spawn()
    .unwrap();
    let report: serde_json::Value = serde_json::from_str(&wait_for(&ready, &mut child)).unwrap();
    let address = report["endpoint"]
        .as_str()
        .unwrap()
        .strip_prefix("https://")
        .expect("an https endpoint")
        .trim_end_matches('/')
        .to_owned();
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(&ca).unwrap();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("account").unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    let output = end(child, "-TERM", Duration::from_secs(5));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, expected) in [
        (vec!["--database", "d"], "--key-file"),
        (vec!["--key", "no base64!"], "base64"),
        (vec!["--key", "a2V5", "--container", "c:/pk"], "database"),
        (
            vec!["--key", "a2V5", "--database", "d", "--container", "c:/pk:0"],
            "partition",
        ),
        (
            vec!["--key", "a2V5", "--database", "d", "--container", "c:/pk:1:100"],
            "400",
        ),
        (vec!["--key", "a2V5", "--listen", "192.0.2.1:1"], "192.0.2.1:1"),
        (vec!["--key", "a2V5", "--tls-ca", "ca.pem"], "--tls"),
        (vec!["--key", "a2V5", "--previous-images"], "--all-versions"),
        (
            vec!["--key", "a2V5", "--region", "West", "--region", "West"],
            "'West'",
        ),
        (
            vec!["--key", "a2V5", "--tls", "--tls-name", "two words"],
            "two words",
        ),
    ] {
        let output = command(&arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{arguments:?}: {error}"
        );
    }
}
