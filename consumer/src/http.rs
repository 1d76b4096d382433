//! The HTTP side: `/events` takes batches, the others show what has arrived.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::Router;
use futures::StreamExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::batch::Format;
use crate::{stopping, App};

/// A client that sends a batch more slowly than this would keep one of the few places for batches to itself.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of a batch that is too large that are still read, so that its sender sees the answer.
const THROW_AWAY: usize = 64 * 1024 * 1024;

pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, stopped: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/events", post(events))
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route(
            "/stats",
            get(|State(app): State<Arc<App>>| async move { Json(app.stats.snapshot()) }),
        )
        .route(
            "/history",
            get(|State(app): State<Arc<App>>| async move { Json(app.stats.history()) }),
        )
        .route(
            "/latency",
            get(|State(app): State<Arc<App>>| async move { Json(app.stats.latencies()) }),
        )
        .route("/metrics", get(metrics))
        .fallback(|| async {
            refuse(
                StatusCode::NOT_FOUND,
                "no such page; POST batches to /events".into(),
            )
        })
        .with_state(app);
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stopping(stopped))
        .await
    {
        tracing::error!(%error, "the HTTP listener failed");
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.stats.snapshot().prometheus(),
    )
}

async fn events(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|e| e != "identity")
    {
        app.stats.count_malformed();
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "compressed batches are not taken: send plain JSON".into(),
        );
    }
    // The semaphore is never closed, so that only Ok comes out; the permit lives until the batch is counted.
    let _permit = app.permits.acquire().await;
    let body = match tokio::time::timeout(BODY_WITHIN, collect(body, app.max_batch_bytes)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, app.too_large()),
        Ok(Err(error)) => return refuse(StatusCode::BAD_REQUEST, format!("cannot read the batch: {error}")),
        Err(_) => {
            let message = format!("the batch did not arrive within {} s", BODY_WITHIN.as_secs());
            return refuse(StatusCode::REQUEST_TIMEOUT, message);
        }
    };
    match app.take(&body, format_of(&headers)).await {
        Ok(accepted) => Json(accepted).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

/// The whole body, or `None` when it is larger than `max`. The rest of such a body is read and thrown away, within
/// reason: a client that is still sending when the connection closes would see a reset and not the answer.
async fn collect(body: Body, max: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut thrown_away) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if thrown_away == 0 && bytes.len() + chunk.len() <= max {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
            thrown_away += chunk.len();
            if thrown_away > THROW_AWAY {
                break;
            }
        }
    }
    Ok((thrown_away == 0).then_some(bytes))
}

fn format_of(headers: &HeaderMap) -> Format {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::NdJson,
        _ => Format::Json,
    }
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
