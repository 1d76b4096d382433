//! The command line of the producer; see the library for what it does.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cosmosflink_producer::connect::{prepare_process, ConnectError, Connection};
use cosmosflink_producer::cosmos::Upserts;
use cosmosflink_producer::order::{Orders, Settings};
use cosmosflink_producer::run::{run, Plan, Progress, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;

/// Makes OrderCreated events and upserts them into a container at a given rate.
///
/// Without --count and --duration it goes on until SIGINT or SIGTERM. Exit code: 0 every order made was acknowledged,
/// 1 some failed, 2 wrong configuration, credential or container, or no connection.
#[derive(Debug, Parser)]
#[command(name = "cosmosflink-producer", version)]
struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Container for the orders, partition key /customerId.
    #[arg(long, env = "COSMOS_SOURCE_CONTAINER", default_value = "events-source")]
    container: String,
    /// Orders per second; 0: as fast as possible.
    #[arg(long, env = "PRODUCER_RATE", default_value_t = 100)]
    rate: u32,
    /// Orders altogether.
    #[arg(long, env = "PRODUCER_COUNT")]
    count: Option<u64>,
    /// Seconds after which no more orders are made.
    #[arg(long, env = "PRODUCER_DURATION", value_name = "SECONDS")]
    duration: Option<u64>,
    /// Writes in flight at most.
    #[arg(long, env = "PRODUCER_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// Size of a document in bytes.
    #[arg(long, env = "PRODUCER_PAYLOAD_BYTES", default_value_t = 430, value_parser = clap::value_parser!(u32).range(0..=2_000_000))]
    payload_bytes: u32,
    /// Seed of ids and contents: the same seed makes the same orders, so that a second run overwrites the first.
    #[arg(long, env = "PRODUCER_SEED")]
    seed: Option<u64>,
    /// Share of orders, 0 to 1, that are wrong on purpose (negative amount, or no currency).
    #[arg(long, env = "PRODUCER_INVALID_SHARE", default_value_t = 0.0, value_parser = share)]
    invalid_share: f64,
    /// Value of the field source; without it, the region of the order.
    #[arg(long, env = "PRODUCER_SOURCE")]
    source: Option<String>,
    /// Seconds after which an order that still cannot be written counts as failed.
    #[arg(
        long,
        env = "PRODUCER_RETRY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 120
    )]
    retry_deadline: u64,
    /// Longest time for one request, in milliseconds; at least 1000.
    #[arg(long, env = "COSMOS_REQUEST_TIMEOUT_MS", value_name = "MILLIS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1000..))]
    request_timeout: u64,
    /// File for the summary as JSON.
    #[arg(long, env = "PRODUCER_SUMMARY_FILE", value_name = "FILE")]
    summary_file: Option<PathBuf>,
    /// No progress while it runs; the summary is printed all the same.
    #[arg(long)]
    quiet: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

fn main() -> ExitCode {
    prepare_process();
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "off,cosmosflink_producer=warn".into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(format!("cannot start: {error}")),
    };
    let code = runtime.block_on(produce(&args)).unwrap_or_else(complain);
    // The client has no close of its own; what it still does in the background must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn complain(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("cosmosflink-producer: {error}");
    ExitCode::from(2)
}

async fn produce(args: &Args) -> Result<ExitCode, ConnectError> {
    let stop = stop_signal().map_err(|e| ConnectError::Config(format!("cannot listen for signals: {e}")))?;
    let mut early = stop.clone();
    let open = async {
        let client = args.connection.open().await?;
        args.connection.container(&client, &args.container).await
    };
    let container = tokio::select! {
        container = open => container?,
        _ = early.wait_for(|stop| *stop) => return Err(ConnectError::Config("stopped before it was connected".into())),
    };
    let writer = Upserts::new(container, Duration::from_millis(args.request_timeout));
    let orders = Orders::new(Settings {
        seed: args.seed,
        payload_bytes: args.payload_bytes as usize,
        invalid_share: args.invalid_share,
        source: args.source.clone(),
    });
    let plan = Plan {
        rate: NonZeroU32::new(args.rate),
        count: args.count,
        duration: args.duration.map(Duration::from_secs),
        concurrency: args.concurrency as usize,
        retry_deadline: Duration::from_secs(args.retry_deadline),
    };
    let progress = Progress::new();
    let show = (!args.quiet).then(|| tokio::spawn(show(progress.clone(), args.count)));
    let summary = run(Arc::new(writer), orders, &plan, progress.clone(), stop).await;
    if let Some(show) = show {
        show.abort();
        // The only outcome is the cancellation just asked for.
        let _ = show.await;
    }
    println!("{}", describe(&summary));
    if let Some(path) = &args.summary_file {
        write_summary(path, &summary)?;
    }
    let fatal = progress.is_fatal();
    if let Some(error) = summary.last_error.as_deref().filter(|_| summary.failed > 0) {
        let what = if fatal {
            "stopped"
        } else {
            "some orders were given up"
        };
        eprintln!("cosmosflink-producer: {what}; last error: {error}");
    }
    Ok(ExitCode::from(if fatal {
        2
    } else {
        u8::from(summary.failed > 0)
    }))
}

/// Turns true at the first SIGINT or SIGTERM; the second ends the process on the spot.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (send, stop) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first {
                // Without a receiver the run is over anyway.
                let _ = send.send(true);
            }
        }
        std::process::exit(130);
    });
    Ok(stop)
}

/// A bar on a terminal, otherwise a line every five seconds.
async fn show(progress: Arc<Progress>, count: Option<u64>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(count, ProgressDrawTarget::stderr());
    let template = match count {
        Some(_) => "{wide_bar} {pos}/{len}  {msg}",
        None => "{spinner} {pos}  {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut every = tokio::time::interval(Duration::from_millis(if terminal { 250 } else { 5_000 }));
    every.tick().await;
    loop {
        every.tick().await;
        let s = progress.summary();
        let text = format!(
            "{:.0}/s  {:.0} RU  p99 {:.1} ms  throttled {}  retries {}  failed {}",
            s.rate_per_second, s.request_charge, s.latency_millis.p99, s.throttled, s.retries, s.failed
        );
        if terminal {
            bar.set_position(s.acknowledged);
            bar.set_message(text);
        } else {
            eprintln!("producer: {} acknowledged  {text}", s.acknowledged);
        }
    }
}

fn describe(s: &Summary) -> String {
    format!(
        "producer: {} orders acknowledged ({} invalid on purpose), {} failed, in {:.1} s: {:.0}/s, {:.1} RU, {} throttled, \
         {} retries, latency p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms{}",
        s.acknowledged,
        s.invalid,
        s.failed,
        s.elapsed_seconds,
        s.rate_per_second,
        s.request_charge,
        s.throttled,
        s.retries,
        s.latency_millis.p50,
        s.latency_millis.p90,
        s.latency_millis.p99,
        s.latency_millis.max,
        if s.interrupted { " (interrupted)" } else { "" }
    )
}

fn write_summary(path: &Path, summary: &Summary) -> Result<(), ConnectError> {
    serde_json::to_vec_pretty(summary)
        .map_err(std::io::Error::from)
        .and_then(|json| std::fs::write(path, json))
        .map_err(|e| ConnectError::Config(format!("cannot write --summary-file {}: {e}", path.display())))
}
