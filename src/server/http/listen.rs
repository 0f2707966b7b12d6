//! Connections: how many, how long each may take to say what it wants, and how they end.
//!
//! ```text
//! accept ─→ place free? ─→ TLS, if any ─→ requests, one after the other ─→ gone, idle too long, or the peer stops
//!              └─ 503, and closed
//! ```
use crate::server::config::Config;
use crate::server::door::Door;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// How long a connection may take over its handshake, and over the head of a request; and be idle between two.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, for want of file handles mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Headers of one request at most.
const HEADER_COUNT_MAX: usize = 64;
/// Bytes of the head of a request at most, roughly: an entry may have 64 KiB beside its payload, encoded.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// Requests at once on one connection of HTTP/2.
const STREAM_COUNT_MAX: u32 = 128;
/// What those are told who come when there are too many.
const CROWDED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// How connections are taken.
pub struct Listen {
    /// TLS, where the address has it.
    pub tls: Option<TlsAcceptor>,
    /// Connections open at once.
    pub connection_count_max: usize,
    /// How many there are, kept up to date.
    pub connections: Arc<crate::net::Counters>,
    /// True once the peer stops.
    pub stopping: watch::Receiver<bool>,
}

impl Listen {
    /// As the settings say.
    pub(in crate::server) fn new(
        config: &Config,
        tls: Option<TlsAcceptor>,
        door: &Door,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let connection_count_max = config.http_connection_count_max as usize;
        Self { tls, connection_count_max, connections: door.counters().clone(), stopping }
    }
}

/// Answers on `listener` until the peer stops, then finishes what is being answered.
pub async fn serve(listener: TcpListener, router: Router, listen: Listen) {
    let Listen { tls, connection_count_max, connections, mut stopping } = listen;
    let count_max = connection_count_max.clamp(1, u32::MAX as usize);
    let places = Arc::new(Semaphore::new(count_max));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            connections.http_refused.add(1);
            // Whoever does not get to read it finds the connection closed.
            drop(stream.try_write(CROWDED));
            continue;
        };
        // Answers are small and wanted at once; where that cannot be had they come a little later.
        drop(stream.set_nodelay(true));
        let (router, tls, stopping) = (router.clone(), tls.clone(), stopping.clone());
        let counters = connections.clone();
        tokio::spawn(async move {
            let _open = counters.http_connections.hold();
            one(stream, router, tls, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    // All places free: all have been answered.
    drop(places.acquire_many(count_max as u32).await);
}

async fn one(stream: TcpStream, router: Router, tls: Option<TlsAcceptor>, stopping: watch::Receiver<bool>) {
    let Some(tls) = tls else { return answer(stream, false, router, stopping).await };
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    answer(stream, is_h2, router, stopping).await;
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_h2: bool,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let builder = Builder::new(TokioExecutor::new());
    // Without TLS nothing says beforehand which version comes, and whoever waits for it waits without end.
    let mut builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(HEADER_COUNT_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PATIENCE)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAM_COUNT_MAX);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // Clients that are gone, or speak something else, need no answer.
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
