//! The TCP side: batches in frames, one line of JSON back for each.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinSet;
use tokio_util::codec::length_delimited::LengthDelimitedCodecError;
use tokio_util::codec::{Decoder, FramedRead, LengthDelimitedCodec, LinesCodec, LinesCodecError};

use crate::batch::Format;
use crate::{stopping, App, Framing};

/// Connections at one time; each may hold one batch.
const CONNECTIONS: usize = 64;

pub(crate) async fn serve(
    listener: TcpListener,
    framing: Framing,
    app: Arc<App>,
    stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stopping(stopped.clone()));
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = async { (places.clone().acquire_owned().await, listener.accept().await) } => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (app, stopped) = (app.clone(), stopped.clone());
                connections.spawn(async move {
                    tracing::debug!(%peer, "a TCP connection begins");
                    connection(stream, framing, &app, stopped).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a TCP connection");
                // Out of file descriptors, for instance: asking again at once would only burn the CPU.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (Err(_), _) => break, // The semaphore is never closed.
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, framing: Framing, app: &App, stopped: watch::Receiver<bool>) {
    // Acknowledgements are short; waiting for more to send would only delay the other side.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let max = app.max_batch_bytes;
    match framing {
        Framing::Length => {
            let codec = LengthDelimitedCodec::builder().max_frame_length(max).new_codec();
            batches(
                FramedRead::new(read, codec),
                write,
                app,
                stopped,
                |error: &std::io::Error| {
                    error
                        .get_ref()
                        .is_some_and(|e| e.is::<LengthDelimitedCodecError>())
                },
            )
            .await;
        }
        Framing::Lines => {
            let codec = LinesCodec::new_with_max_length(max);
            batches(
                FramedRead::new(read, codec),
                write,
                app,
                stopped,
                |error: &LinesCodecError| matches!(error, LinesCodecError::MaxLineLengthExceeded),
            )
            .await;
        }
    }
}

async fn batches<D>(
    mut frames: FramedRead<OwnedReadHalf, D>,
    mut write: OwnedWriteHalf,
    app: &App,
    stopped: watch::Receiver<bool>,
    is_too_large: impl Fn(&D::Error) -> bool,
) where
    D: Decoder,
    D::Item: AsRef<[u8]>,
    D::Error: std::fmt::Display,
{
    let mut stop = std::pin::pin!(stopping(stopped));
    loop {
        let frame = tokio::select! {
            _ = &mut stop => return,
            frame = frames.next() => frame,
        };
        let (answer, go_on) = match frame {
            None => return,
            Some(Ok(frame)) => (app.take(frame.as_ref(), Format::Json).await, true),
            // After a frame that cannot be read nobody knows where the next one begins.
            Some(Err(error)) if is_too_large(&error) => (Err(app.too_large()), false),
            Some(Err(error)) => (Err(format!("cannot read the batch: {error}")), false),
        };
        let mut line = match answer {
            Ok(accepted) => serde_json::json!(accepted),
            Err(error) => serde_json::json!({ "error": error }),
        }
        .to_string();
        line.push('\n');
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        if !go_on {
            // Closing with unread bytes resets the connection, and the answer would be lost: read on for a moment.
            let _ = write.shutdown().await;
            let mut rest = frames.into_inner();
            let mut nowhere = tokio::io::sink();
            let _ =
                tokio::time::timeout(Duration::from_secs(1), tokio::io::copy(&mut rest, &mut nowhere)).await;
            return;
        }
    }
}
