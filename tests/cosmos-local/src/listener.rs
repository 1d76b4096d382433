//! Listening: connections, TLS, HTTP/1.1 and HTTP/2.

use crate::server::Inner;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Open requests get this long to end once the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// A client that starts a TLS handshake must have ended it by then.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// One address that the server listens on.
pub(crate) struct Front {
    pub address: SocketAddr,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Front {
    /// # Errors
    /// Says why the address cannot be listened on.
    pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self, String> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| format!("cannot listen on {address}: {e}; choose another address or port"))?;
        let address = listener
            .local_addr()
            .map_err(|e| format!("the listener has no address: {e}"))?;
        Ok(Self {
            address,
            listener,
            tls,
        })
    }

    /// Serves connections until the server stops.
    pub async fn accept(self, inner: Arc<Inner>, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let _ = stream.set_nodelay(true);
                        let (inner, stopped) = (Arc::clone(&inner), stopped.clone());
                        let tls = self.tls.clone();
                        match tls {
                            _ if inner.faults.active() => {
                                connections.spawn(faulty(tls, stream, peer, inner, stopped))
                            }
                            None => connections.spawn(connection(stream, peer, inner, stopped)),
                            Some(tls) => connections.spawn(secured(tls, stream, peer, inner, stopped)),
                        };
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        // Out of file descriptors, most likely: do not spin on it.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(open = connections.len(), "connections were cut at the stop");
        }
    }
}

/// A connection while there are faults: one may be for it.
async fn faulty(
    tls: Option<TlsAcceptor>,
    mut stream: tokio::net::TcpStream,
    peer: SocketAddr,
    inner: Arc<Inner>,
    mut stopped: watch::Receiver<bool>,
) {
    if let Some(strike) = inner.faults.of_connection(None) {
        inner.counts.with(|stats| stats.connections_struck += 1);
        tokio::time::sleep(strike.delay).await;
        if strike.refuse {
            return;
        }
        if strike.hang {
            // What the client sends is taken and not looked at, until it gives up.
            let mut sink = tokio::io::sink();
            tokio::select! {
                _ = tokio::io::copy(&mut stream, &mut sink) => {}
                _ = stopped.changed() => {}
            }
            return;
        }
    }
    match tls {
        None => connection(stream, peer, inner, stopped).await,
        Some(tls) => secured(tls, stream, peer, inner, stopped).await,
    }
}

/// A connection that starts with a TLS handshake.
async fn secured(
    tls: TlsAcceptor,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    inner: Arc<Inner>,
    mut stopped: watch::Receiver<bool>,
) {
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream)) => handshake,
        _ = stopped.changed() => return,
    };
    match handshake {
        Ok(Ok(stream)) => connection(stream, peer, inner, stopped).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake was not ended in time"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    inner: Arc<Inner>,
    mut stopped: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { inner.serve(peer, request).await }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A page of the change feed has megabytes: larger windows than the default 64 KiB spare round trips.
    builder
        .http2()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
