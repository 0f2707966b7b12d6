//! What QUIC could do at most on this loopback: the same library, TLS and transport settings, and nothing behind them.
//!
//! The echo opens a fresh stream for each request, as a client that waits for each acknowledgement does.
use super::Setup;
use super::latency::{Latencies, Summary};
use crate::base::PeerName;
use crate::cli::when::unix_ms;
use crate::client::transport_config;
use crate::identity::{Ca, Credentials, Rights, Role, Validity, tls};
use crate::net::{NetConfig, NetEnv};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, EndpointConfig, VarInt};
use rustls::time_provider::DefaultTimeProvider;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// QUIC's limits on loopback; what a workload has no use for is not measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct QuicLimits {
    /// One request in flight, at the rate that the workload reached with one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paced_echo: Option<Summary>,
    /// How many a second that were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paced_echo_per_second: Option<f64>,
    /// 100 connections, one request in flight on each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_100_per_second: Option<f64>,
    /// One stream from server to client, in bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_bytes_per_second: Option<f64>,
}

impl QuicLimits {
    /// What one request in flight takes, at the rate that one client of the workload reached.
    pub async fn paced(setup: &Setup, per_second: f64) -> Result<Self> {
        super::watched::begin("the limits of QUIC on loopback");
        let payload = super::load::payload(setup.payload_bytes(), 9);
        let (paced, rate) = paced_echo(payload, per_second, setup.limit_time()).await?;
        let (paced_echo, paced_echo_per_second) = (Some(paced.summary()), Some(rate));
        Ok(Self { paced_echo, paced_echo_per_second, ..Self::default() })
    }
}

/// A server without a purpose, and clients for it.
pub struct Loopback {
    server: Endpoint,
    address: SocketAddr,
    client: quinn::ClientConfig,
}

/// What the server does with each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sends back what it got.
    Echo,
    /// Sends until nobody reads.
    Pour,
}

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const POUR_BYTES: usize = 256 << 10;

impl Loopback {
    /// Starts the server.
    pub fn start(purpose: Purpose) -> Result<Self> {
        let ca = Ca::create(Validity::days(unix_ms() / 1000, 1))?;
        let issue = |role: &Role| -> Result<Credentials> {
            Ok(ca.issue(role, Validity::days(unix_ms() / 1000, 1))?.credentials(ca.certificate())?)
        };
        let peer = issue(&Role::Peer { name: PeerName::nearest("bench") })?;
        let tls = tls::client_config(
            &issue(&Role::Client(Rights::all()))?,
            Arc::new(DefaultTimeProvider),
            tls::ALPN_CLIENT,
        )?;
        let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(Arc::new(transport_config()));
        let (config, env) = (NetConfig::default(), NetEnv::default());
        let server = crate::net::open(ANY_PORT.into(), &peer, &[tls::ALPN_CLIENT], &config, &env)?.endpoint;
        let address = server.local_addr()?;
        tokio::spawn(accept(server.clone(), purpose));
        Ok(Self { server, address, client })
    }

    /// A connection from a socket of its own.
    async fn connect(&self) -> Result<(Endpoint, Connection)> {
        let bound = crate::quic::socket::bind(ANY_PORT.into())?;
        let endpoint =
            Endpoint::new(EndpointConfig::default(), None, bound.socket, Arc::new(quinn::TokioRuntime))?;
        let connection = endpoint.connect_with(self.client.clone(), self.address, "conveyor")?.await?;
        Ok((endpoint, connection))
    }

    /// Ends the server and all connections.
    pub fn stop(self) {
        self.server.close(VarInt::from_u32(0), b"done");
    }
}

async fn accept(server: Endpoint, purpose: Purpose) {
    while let Some(incoming) = server.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(serve(send, receive, purpose));
            }
        });
    }
}

/// Ends with the stream, whatever ends it: the side that measures sees every error.
async fn serve(mut send: quinn::SendStream, mut receive: quinn::RecvStream, purpose: Purpose) {
    let Ok(request) = receive.read_to_end(32 << 20).await else { return };
    match purpose {
        Purpose::Echo => {
            if send.write_chunk(request.into()).await.is_ok() {
                drop(send.finish());
            }
        }
        Purpose::Pour => {
            let piece = super::load::payload(POUR_BYTES, 3);
            while send.write_chunk(piece.clone()).await.is_ok() {}
        }
    }
}

async fn echo(connection: &Connection, payload: &Bytes) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_chunk(payload.clone()).await?;
    send.finish()?;
    receive.read_to_end(payload.len()).await.context("an echo")?;
    Ok(())
}

/// Echoes with one in flight, `per_second` of them each second. On a thread of its own, since timers of the runtime
/// are too coarse for the pauses.
pub async fn paced_echo(payload: Bytes, per_second: f64, time: Duration) -> Result<(Latencies, f64)> {
    let loopback = Loopback::start(Purpose::Echo)?;
    let (_endpoint, connection) = loopback.connect().await?;
    let (runtime, interval) =
        (tokio::runtime::Handle::current(), Duration::from_secs_f64(1.0 / per_second.max(1.0)));
    let (result, measured) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let (mut latencies, started, mut due) = (Latencies::new(), Instant::now(), Instant::now());
        let mut ended = Ok(());
        while started.elapsed() < time && ended.is_ok() {
            let one = Instant::now();
            ended = runtime.block_on(echo(&connection, &payload));
            latencies.add(one.elapsed());
            due += interval;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let rate = latencies.count() as f64 / started.elapsed().as_secs_f64();
        // Whoever waits for it has ended when this fails.
        drop(result.send(ended.map(|()| (latencies, rate))));
    });
    let measured = measured.await?;
    loopback.stop();
    measured
}

/// Echoes on `connections` connections, one in flight on each, as fast as they come; how many a second.
pub async fn echo_rate(payload: Bytes, connections: usize, time: Duration) -> Result<f64> {
    let loopback = Loopback::start(Purpose::Echo)?;
    let mut ends = Vec::new();
    for _ in 0..connections {
        ends.push(loopback.connect().await?);
    }
    let started = Instant::now();
    let worker = |(endpoint, connection): (Endpoint, Connection)| {
        let payload = payload.clone();
        tokio::spawn(async move {
            let mut count = 0u64;
            while started.elapsed() < time {
                echo(&connection, &payload).await?;
                count += 1;
            }
            drop(endpoint);
            anyhow::Ok(count)
        })
    };
    let workers: Vec<_> = ends.into_iter().map(worker).collect();
    let mut count = 0;
    for worker in workers {
        count += worker.await??;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    loopback.stop();
    Ok(rate)
}

/// Bytes a second over one stream, from server to client.
pub async fn stream_rate(time: Duration) -> Result<f64> {
    let loopback = Loopback::start(Purpose::Pour)?;
    let (_endpoint, connection) = loopback.connect().await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.finish()?;
    let (mut bytes, started) = (0u64, Instant::now());
    while started.elapsed() < time {
        let chunk = receive.read_chunk(usize::MAX, true).await?.context("the stream ended early")?;
        bytes += chunk.bytes.len() as u64;
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    loopback.stop();
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_limits_of_loopback_can_be_measured() {
        let time = Duration::from_millis(50);
        let payload = super::super::load::payload(100, 1);
        let (latencies, _) = paced_echo(payload.clone(), 1000.0, time).await.unwrap();
        assert!(latencies.count() > 0);
        assert!(echo_rate(payload, 3, time).await.unwrap() > 0.0);
        assert!(stream_rate(time).await.unwrap() > 0.0);
    }
}
