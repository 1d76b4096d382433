//! Listening: connections, TLS, HTTP/1.1 and HTTP/2.

use crate::regions::{Role, Switch};
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
    role: Role,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// What a connection knows about where it came from.
struct Origin {
    peer: SocketAddr,
    role: Role,
    inner: Arc<Inner>,
    stopped: watch::Receiver<bool>,
}

impl Front {
    /// # Errors
    /// Says why the address cannot be listened on.
    pub async fn bind(address: SocketAddr, role: Role, tls: Option<TlsAcceptor>) -> Result<Self, String> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| format!("cannot listen on {address}: {e}; choose another address or port"))?;
        let address = listener
            .local_addr()
            .map_err(|e| format!("the listener has no address: {e}"))?;
        Ok(Self {
            address,
            role,
            listener,
            tls,
        })
    }

    /// Serves connections until the server stops.
    pub async fn accept(self, inner: Arc<Inner>, stopped: watch::Receiver<bool>) {
        serve(
            &self.listener,
            self.role,
            self.tls.as_ref(),
            &inner,
            stopped,
            self.address,
        )
        .await;
    }

    /// Serves connections until the server stops, with pauses: while the switch is off, the listener and all its
    /// connections are closed.
    pub async fn accept_while_up(
        self,
        mut switch: Switch,
        inner: Arc<Inner>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut listener = Some(self.listener);
        loop {
            if let Some(listener) = listener.take() {
                tokio::select! {
                    () = serve(&listener, self.role, self.tls.as_ref(), &inner, stopped.clone(), self.address) => return,
                    () = is(&mut switch.up, false) => {},
                }
            }
            switch.listening.send_replace(false);
            tokio::select! {
                () = is(&mut stopped, true) => return,
                () = is(&mut switch.up, true) => {},
            }
            match TcpListener::bind(self.address).await {
                Ok(opened) => {
                    listener = Some(opened);
                    switch.listening.send_replace(true);
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "the address cannot be listened on again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Waits until the value is this one, or will never be another: its owner is gone, and the server with it.
async fn is(value: &mut watch::Receiver<bool>, wanted: bool) {
    let _ = value.wait_for(|value| *value == wanted).await;
}

/// Serves the connections to a listener until the server stops. Dropping it cuts them.
async fn serve(
    listener: &TcpListener,
    role: Role,
    tls: Option<&TlsAcceptor>,
    inner: &Arc<Inner>,
    mut stopped: watch::Receiver<bool>,
    address: SocketAddr,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = is(&mut stopped, true) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let origin = Origin { peer, role, inner: Arc::clone(inner), stopped: stopped.clone() };
                    match tls.cloned() {
                        tls if inner.faults.active() => connections.spawn(faulty(tls, stream, origin)),
                        None => connections.spawn(connection(stream, origin)),
                        Some(tls) => connections.spawn(secured(tls, stream, origin)),
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
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(%address, open = connections.len(), "connections were cut at the stop");
    }
}

/// A connection while there are faults: one may be for it.
async fn faulty(tls: Option<TlsAcceptor>, mut stream: tokio::net::TcpStream, mut origin: Origin) {
    // A connection of an admin request is spared: the fault could not be taken back otherwise.
    let spared = tls.is_none() && origin.inner.faults.for_connections() && asks_admin(&stream).await;
    let region = origin.inner.regions.name(origin.role);
    let strike = match spared {
        true => None,
        false => origin.inner.faults.of_connection(Some(region)),
    };
    if let Some(strike) = strike {
        origin.inner.counts.with(|stats| stats.connections_struck += 1);
        tokio::time::sleep(strike.delay).await;
        if strike.refuse {
            return;
        }
        if strike.hang {
            // What the client sends is taken and not looked at, until it gives up.
            let mut sink = tokio::io::sink();
            tokio::select! {
                _ = tokio::io::copy(&mut stream, &mut sink) => {}
                () = is(&mut origin.stopped, true) => {}
            }
            return;
        }
    }
    match tls {
        None => connection(stream, origin).await,
        Some(tls) => secured(tls, stream, origin).await,
    }
}

/// Whether what a client says first is an admin request by HTTP/1.1.
async fn asks_admin(stream: &tokio::net::TcpStream) -> bool {
    let mut start = [0; 16];
    match stream.peek(&mut start).await {
        Ok(length) => start[..length].windows(9).any(|part| part == b" /_local/"),
        Err(_) => false,
    }
}

/// A connection that starts with a TLS handshake.
async fn secured(tls: TlsAcceptor, stream: tokio::net::TcpStream, mut origin: Origin) {
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream)) => handshake,
        () = is(&mut origin.stopped, true) => return,
    };
    let peer = origin.peer;
    match handshake {
        Ok(Ok(stream)) => connection(stream, origin).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake was not ended in time"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Origin {
        peer,
        role,
        inner,
        mut stopped,
    }: Origin,
) {
    let service = hyper::service::service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { inner.serve(peer, role, request).await }
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
        () = is(&mut stopped, true) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
