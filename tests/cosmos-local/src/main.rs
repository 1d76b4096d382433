//! The command-line server.

use clap::{Parser, ValueEnum};
use cosmos_local::{AccountKey, AllVersions, Config, ContainerSpec, MetadataKey, Server, Tls, NOT_EMULATED};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{signal, SignalKind};

// The emulator makes and drops many small values for each document; with this allocator
// bulk writes were a quarter faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A local Cosmos DB account (NoSQL API) for development and tests, in memory.
#[derive(Parser)]
#[command(version, after_help = NOT_EMULATED)]
struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "COSMOS_LOCAL_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Account key in base64. Prefer the variable or --key-file: arguments can be seen by other users.
    #[arg(long, env = "COSMOS_KEY", hide_env_values = true)]
    key: Option<String>,
    /// File with the account key. If it does not exist and no key is given, a random key is written to it.
    #[arg(long, env = "COSMOS_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// Database to create; may be repeated. Containers without a database of their own go into the first.
    #[arg(long)]
    database: Vec<String>,
    /// Container to create: [DATABASE/]NAME:/path[,/path..][:PARTITIONS[:RU]]; may be repeated.
    #[arg(long)]
    container: Vec<ContainerSpec>,
    /// File to write {"endpoint": .., "pid": ..} to once the server listens.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Whether containers' RU budgets are enforced with 429s.
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    throttling: Switch,
    /// Seed of the chance in faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Answer admin requests (/_local/) of other machines too, not of this one only.
    #[arg(long)]
    admin_open: bool,
    /// Serve https instead of http, with HTTP/2 and HTTP/1.1 by ALPN. The certificate is made at the start, for
    /// localhost, 127.0.0.1 and ::1.
    #[arg(long)]
    tls: bool,
    /// Another host name or address that the certificate is for; may be repeated.
    #[arg(long, value_name = "HOST", requires = "tls")]
    tls_name: Vec<String>,
    /// File to write the certificate of the authority to, as PEM, for clients that shall trust the server.
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_ca: Option<PathBuf>,
    /// Region of the account, with an endpoint of its own; may be repeated. The first takes writes. Ports follow that
    /// of --listen, or are free ones if that is 0; GET /_local/regions names them.
    #[arg(long, value_name = "NAME")]
    region: Vec<String>,
    /// Advertise a Gateway 2.0 for each region, which loses headers that it does not know. Requests to it are counted
    /// as gatewayV2Requests in GET /_local/stats.
    #[arg(long)]
    gateway_v2: bool,
    /// Keep history, and serve the change feed mode AllVersionsAndDeletes.
    #[arg(long)]
    all_versions: bool,
    /// Hand out the document as it was before in AllVersionsAndDeletes; off as on the service.
    #[arg(long, requires = "all_versions")]
    previous_images: bool,
    /// Form of metadata.partitionKey in AllVersionsAndDeletes.
    #[arg(long, value_enum, default_value_t = KeyForm::Array, requires = "all_versions")]
    metadata_key: KeyForm,
    /// Bytes of documents that each partition keeps in its history; the oldest versions go first.
    #[arg(long, value_name = "BYTES", requires = "all_versions", default_value_t = AllVersions::default().retention_bytes)]
    history_bytes: usize,
    /// Answer bulk requests as if each operation had been carried out, and store nothing of them: for measuring clients.
    #[arg(long)]
    wire_speed: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeyForm {
    /// The values: ["a", 1].
    Array,
    /// The values by the paths of the key: {"tenant": "a", "user": 1}.
    Object,
}

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn main() -> ExitCode {
    cosmos_local::without_backtraces();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cosmos-local: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(Options::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cosmos-local: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|e| format!("signals cannot be handled: {e}"));
    let (mut interrupt, mut terminate) = (
        handler(SignalKind::interrupt())?,
        handler(SignalKind::terminate())?,
    );
    let server = Server::start(Config {
        listen: options.listen,
        key: key(options.key.as_deref(), options.key_file.as_deref())?,
        databases: options.database,
        containers: options.container,
        throttling: matches!(options.throttling, Switch::On),
        seed: options.seed,
        admin_open: options.admin_open,
        tls: options.tls.then_some(Tls {
            names: options.tls_name,
        }),
        regions: options.region,
        gateway_v2: options.gateway_v2,
        all_versions: options.all_versions.then_some(AllVersions {
            retention_bytes: options.history_bytes,
            previous_images: options.previous_images,
            metadata_key: match options.metadata_key {
                KeyForm::Array => MetadataKey::Array,
                KeyForm::Object => MetadataKey::Object,
            },
        }),
        wire_speed: options.wire_speed,
    })
    .await?;
    println!(
        "cosmos-local {} listens on {}",
        env!("CARGO_PKG_VERSION"),
        server.endpoint()
    );
    println!("{NOT_EMULATED}");
    // Before the ready file: whoever waits for that one finds this one whole.
    if let (Some(path), Some(pem)) = (&options.tls_ca, server.ca_pem()) {
        write_whole(path, pem.as_bytes(), false)?;
    }
    if let Some(path) = &options.ready_file {
        let ready = serde_json::json!({ "endpoint": server.endpoint(), "pid": std::process::id() });
        write_whole(path, ready.to_string().as_bytes(), false)?;
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.stop().await;
    Ok(())
}

/// The key given, the one in the file, or a new one that is written to the file.
fn key(given: Option<&str>, file: Option<&Path>) -> Result<AccountKey, String> {
    let existing = |path: &Path| {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("the key file {} cannot be read: {e}", path.display()))?;
        AccountKey::parse(&text).map_err(|e| format!("the key file {}: {e}", path.display()))
    };
    match (given.filter(|key| !key.is_empty()), file) {
        (Some(key), _) => AccountKey::parse(key),
        (None, Some(path)) if path.exists() => existing(path),
        (None, Some(path)) => {
            let key = AccountKey::random();
            write_whole(path, key.secret().as_bytes(), true)?;
            Ok(key)
        }
        (None, None) => Err(
            "no account key: set COSMOS_KEY, or name a file with --key-file (one that does not \
                             exist is made, with a random key)"
                .to_owned(),
        ),
    }
}

/// Writes a file so that a reader never sees a part of it; a secret one can be read by its owner only.
fn write_whole(path: &Path, content: &[u8], secret: bool) -> Result<(), String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(if secret { 0o600 } else { 0o644 })
        .open(&partial)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|e| format!("{} cannot be written: {e}", path.display()))
}
