//! The command line of the consumer; see the library for what it does.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cosmosflink_consumer::{start, Consumer, Framing, Options, Output};
use tokio::signal::unix::{signal, SignalKind};

/// Takes batches of processed events over HTTP (and TCP), counts each id once and measures end-to-end latency.
///
/// POST /events takes a JSON array, {"events": [..]} or application/x-ndjson; /health, /stats, /history and /metrics
/// tell what has arrived, / is a live page. SIGINT or SIGTERM stops it.
#[derive(Debug, Parser)]
#[command(name = "cosmosflink-consumer", version)]
struct Args {
    /// Address of the HTTP listener; port 0 takes a free one.
    #[arg(long, env = "CONSUMER_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Address of the TCP listener; without it there is none.
    #[arg(long, env = "CONSUMER_TCP_LISTEN")]
    tcp_listen: Option<SocketAddr>,
    /// How batches are delimited over TCP: by line ends, as the job sends them, or by a u32 big-endian length in front.
    #[arg(long, env = "CONSUMER_TCP_FRAMING", value_enum, default_value = "lines")]
    tcp_framing: Framing,
    /// Largest batch in bytes; a larger one is refused with 413.
    #[arg(long, env = "CONSUMER_MAX_BATCH_BYTES", default_value_t = 4 * 1024 * 1024,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 30))]
    max_batch_bytes: usize,
    /// Ids remembered for de-duplication, about 50 bytes each; the oldest are forgotten first.
    #[arg(long, env = "CONSUMER_MAX_IDS", default_value_t = 2_000_000,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 32))]
    max_ids: usize,
    /// Print each new event on standard output, or only count.
    #[arg(long, env = "CONSUMER_OUTPUT", value_enum, default_value = "count")]
    output: Output,
    /// File to write, once listening, with the addresses and the process id as JSON.
    #[arg(long, env = "CONSUMER_READY_FILE")]
    ready_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    // An empty value in an environment file means that the variable is not set.
    for name in ["CONSUMER_TCP_LISTEN", "CONSUMER_READY_FILE"] {
        if std::env::var_os(name).is_some_and(|v| v.is_empty()) {
            std::env::remove_var(name);
        }
    }
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cosmosflink-consumer: {error}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let consumer = start(Options {
        listen: args.listen,
        tcp_listen: args.tcp_listen,
        tcp_framing: args.tcp_framing,
        max_batch_bytes: args.max_batch_bytes,
        max_ids: args.max_ids,
        output: args.output,
    })
    .await?;
    tracing::info!(http = %consumer.http, tcp = consumer.tcp.map(tracing::field::display), "listening");
    if let Some(path) = &args.ready_file {
        write_ready(path, &consumer)?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let last = consumer.stop().await;
    eprintln!(
        "consumer: {} events received, {} unique, {} duplicates, {} malformed batches; latency p50 {} ms, p99 {} ms",
        last.received, last.unique, last.duplicates, last.malformed, last.latency_millis.p50, last.latency_millis.p99
    );
    Ok(())
}

/// Writes beside the file and renames, so that who waits for the file never reads half of it.
fn write_ready(path: &Path, consumer: &Consumer) -> std::io::Result<()> {
    let ready = serde_json::json!({
        "http": format!("http://{}", consumer.http),
        "tcp": consumer.tcp.map(|a| a.to_string()),
        "pid": std::process::id(),
    });
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, format!("{ready}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|e| {
            std::io::Error::new(
                e.kind(),
                format!("cannot write --ready-file {}: {e}", path.display()),
            )
        })
}
