//! The HTTP side: `/events` takes batches, the others show what has arrived.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::Router;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::batch::Format;
use crate::{stopping, App};

/// A client that sends a batch more slowly than this would keep one of the few places for batches to itself.
const BODY_WITHIN: Duration = Duration::from_secs(30);

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
    let body = match tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(body, app.max_batch_bytes)).await
    {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if is_too_large(&error) => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, app.too_large())
        }
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

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
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
