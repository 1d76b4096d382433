//! Takes batches of processed events over HTTP and TCP, counts each id once, and measures how long events were under way.
//!
//! [`start`] binds the listeners; the library form exists so that tests and tools can run a consumer in their own process.

pub mod batch;
mod http;
pub mod stats;
mod tcp;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use tokio::net::TcpListener;
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinHandle;

use batch::Format;
use stats::{now_millis, Accepted, Snapshot, Stats};

/// Batches held in memory at one time, over all connections; further ones wait. Together with the size limit of a
/// batch this bounds the memory of requests under way.
const BATCHES_IN_MEMORY: usize = 32;
/// How long open connections get to finish after the signal to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How batches are delimited on a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Framing {
    /// `u32` big-endian length, then that many bytes of JSON.
    Length,
    /// One JSON batch per line.
    Lines,
}

/// What happens to an event that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Nothing more.
    Count,
    /// It is printed on standard output, one line each, duplicates left out.
    Print,
}

/// How a consumer listens and what it may hold in memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the HTTP listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the TCP listener, if there is to be one.
    pub tcp_listen: Option<SocketAddr>,
    /// Framing of the TCP listener.
    pub tcp_framing: Framing,
    /// Largest batch in bytes.
    pub max_batch_bytes: usize,
    /// Ids remembered for de-duplication, about 50 bytes each.
    pub max_ids: usize,
    /// What happens to an event that was counted.
    pub output: Output,
}

/// State shared by all connections.
struct App {
    stats: Stats,
    max_batch_bytes: usize,
    output: Output,
    permits: Semaphore,
}

impl App {
    /// Parses, counts and prints one batch.
    async fn take(&self, body: &[u8], format: Format) -> Result<Accepted, String> {
        let events = batch::parse(body, format).inspect_err(|error| {
            self.stats.count_malformed();
            tracing::debug!(error, "refused a batch");
        })?;
        let mut lines = String::new();
        let accepted = self.stats.accept(&events, now_millis(), |event| {
            if self.output == Output::Print {
                // A line break inside JSON is white space between tokens: a blank does as well.
                lines.extend(
                    event
                        .raw
                        .chars()
                        .map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }),
                );
                lines.push('\n');
            }
        });
        if !lines.is_empty() {
            let written =
                tokio::task::spawn_blocking(move || io::stdout().lock().write_all(lines.as_bytes())).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::warn!("cannot print events on standard output: they are counted all the same");
            }
        }
        Ok(accepted)
    }

    fn too_large(&self) -> String {
        self.stats.count_too_large();
        format!(
            "the batch is larger than {} bytes: send smaller ones, or raise --max-batch-bytes",
            self.max_batch_bytes
        )
    }
}

/// A running consumer.
pub struct Consumer {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where TCP listens, if it does.
    pub tcp: Option<SocketAddr>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Binds the listeners and serves until [`Consumer::stop`].
///
/// # Errors
/// An address that cannot be bound, with the address in the message.
pub async fn start(options: Options) -> io::Result<Consumer> {
    let listener = bind(options.listen).await?;
    let http = listener.local_addr()?;
    let app = Arc::new(App {
        stats: Stats::new(options.max_ids),
        max_batch_bytes: options.max_batch_bytes,
        output: options.output,
        permits: Semaphore::new(BATCHES_IN_MEMORY),
    });
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Vec::new();
    let tcp = match options.tcp_listen {
        None => None,
        Some(address) => {
            let listener = bind(address).await?;
            let local = listener.local_addr()?;
            tasks.push(tokio::spawn(tcp::serve(
                listener,
                options.tcp_framing,
                app.clone(),
                stopped.clone(),
            )));
            Some(local)
        }
    };
    tasks.push(tokio::spawn(http::serve(listener, app.clone(), stopped.clone())));
    tokio::spawn(tick(app.clone(), stopped));
    Ok(Consumer {
        http,
        tcp,
        app,
        stop,
        tasks,
    })
}

impl Consumer {
    /// The numbers of this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.app.stats.snapshot()
    }

    /// Takes no new connection, lets batches under way finish for at most five seconds, and gives the last numbers.
    pub async fn stop(self) -> Snapshot {
        // Without receivers everything has ended already.
        let _ = self.stop.send(true);
        for mut task in self.tasks {
            if tokio::time::timeout(STOP_WITHIN, &mut task).await.is_err() {
                tracing::warn!(
                    "a connection did not end within {} s and is cut",
                    STOP_WITHIN.as_secs()
                );
                task.abort();
            }
        }
        self.app.stats.snapshot()
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("cannot listen on {address}: {e}; is the port in use?"),
        )
    })
}

/// Resolves when the consumer is to stop.
async fn stopping(mut stopped: watch::Receiver<bool>) {
    // An error means that the consumer was dropped, which is a way to stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn tick(app: Arc<App>, stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.tick().await;
    let mut stop = std::pin::pin!(stopping(stopped));
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = every.tick() => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                app.stats.tick(now.as_secs());
            }
        }
    }
}
