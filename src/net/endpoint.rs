//! Opening the UDP port and setting QUIC up.
use crate::identity::{Credentials, tls};
use crate::quic::socket;
use crate::quic::unfinished::UnfinishedConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, IdleTimeout, Runtime, ServerConfig, TimeSource};
use quinn::{TransportConfig, VarInt};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How the port is run. The defaults suit a peer with up to some thousand clients.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Open connections of clients at most; further ones are refused. Those of other peers are counted apart. Each costs some 30 KiB while idle.
    pub connection_count_max: usize,
    /// Streams of one client at most: each append, tail or request under way is one.
    pub stream_count_max: u32,
    /// Handshakes under way from which on an address must prove itself with a retry token.
    pub handshake_count_unvalidated_max: usize,
    /// Handshakes under way at most; further ones are ignored.
    pub handshake_count_max: usize,
    /// Bytes a client may send on one stream ahead of what was read. Raise it for producers behind long, fast links.
    pub stream_window_bytes: u32,
    /// The same for another peer: what a link carries within one round trip, or catching up is slower than the link.
    pub peer_stream_window_bytes: u32,
    /// Bytes a client may send ahead over all streams of its connection.
    pub connection_window_bytes: u32,
    /// Bytes sent to a client that it has not acknowledged, over all its streams. Bounds what a bulk read holds.
    pub send_window_bytes: u64,
    /// Memory for what clients began to send and did not finish, over all of them, and the pace they must keep.
    pub unfinished: UnfinishedConfig,
    /// Silence after which a connection counts as lost.
    pub idle_timeout: Duration,
    /// How often an idle connection is kept alive.
    pub keep_alive: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            connection_count_max: 10_000,
            stream_count_max: 256,
            handshake_count_unvalidated_max: 128,
            handshake_count_max: 1024,
            stream_window_bytes: 1 << 20,
            peer_stream_window_bytes: 16 << 20,
            connection_window_bytes: 4 << 20,
            send_window_bytes: 4 << 20,
            unfinished: UnfinishedConfig::default(),
            idle_timeout: Duration::from_secs(12),
            keep_alive: Duration::from_secs(4),
        }
    }
}

/// What the port takes from the world around it.
#[derive(Debug, Clone)]
pub struct NetEnv {
    /// Spawns tasks and makes timers.
    pub runtime: Arc<dyn Runtime>,
    /// The socket to use instead of binding one.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
    /// The time of day, by which certificates and retry tokens expire.
    pub clock: Arc<dyn TimeProvider>,
}

impl Default for NetEnv {
    /// Tokio, a socket of its own, and the system's clock.
    fn default() -> Self {
        Self { runtime: Arc::new(quinn::TokioRuntime), socket: None, clock: Arc::new(DefaultTimeProvider) }
    }
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address cannot be bound.
    #[error("UDP {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// The credentials are not those of a peer, or TLS refuses them.
    #[error("the peer's credentials cannot be used: {reason}")]
    Credentials {
        /// What is wrong with them.
        reason: String,
    },
}

/// An open port.
#[derive(Clone)]
pub struct Port {
    /// QUIC on it.
    pub endpoint: Endpoint,
    /// What connections that other peers dial are accepted with.
    pub(super) for_peers: Arc<ServerConfig>,
}

/// Opens the port on `address` for the peer that holds `credentials`. `protocols` are those somebody serves.
pub fn open(
    address: SocketAddr,
    credentials: &Credentials,
    protocols: &[&[u8]],
    config: &NetConfig,
    env: &NetEnv,
) -> Result<Port, SetupError> {
    let server = server_config(credentials, protocols, config, env)?;
    let mut for_peers = server.clone();
    for_peers.transport_config(Arc::new(peer_transport(config)));
    let port = |endpoint| Port { endpoint, for_peers: Arc::new(for_peers) };
    let bind_error = |error| SetupError::Bind { address, error };
    let (quic, runtime) = (EndpointConfig::default(), env.runtime.clone());
    if let Some(socket) = &env.socket {
        return Endpoint::new_with_abstract_socket(quic, Some(server), socket.clone(), runtime)
            .map(port)
            .map_err(bind_error);
    }
    let bound = socket::bind(address).map_err(bind_error)?;
    if let Some(advice) = bound.advice() {
        let (receive_bytes, send_bytes) = (bound.receive_bytes, bound.send_bytes);
        tracing::warn!(receive_bytes, send_bytes, %advice, "the UDP socket has little room: bursts will be lost");
    }
    Endpoint::new(quic, Some(server), bound.socket, runtime).map(port).map_err(bind_error)
}

fn server_config(
    credentials: &Credentials,
    protocols: &[&[u8]],
    config: &NetConfig,
    env: &NetEnv,
) -> Result<ServerConfig, SetupError> {
    let refused = |reason: String| SetupError::Credentials { reason };
    let tls = tls::server_config(credentials, env.clock.clone(), protocols)
        .map_err(|error| refused(error.to_string()))?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| refused(error.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(Arc::new(transport(config)))
        .time_source(Arc::new(Clock(env.clock.clone())))
        .max_incoming(config.handshake_count_max)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(server)
}

/// Of connections with other peers, until they have greeted.
pub(super) fn peer_transport(config: &NetConfig) -> TransportConfig {
    transport(&NetConfig { stream_window_bytes: config.peer_stream_window_bytes, ..config.clone() })
}

fn transport(config: &NetConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle_ms = VarInt::from_u32(config.idle_timeout.as_millis().min(u128::from(u32::MAX)) as u32);
    transport
        .stream_receive_window(VarInt::from_u32(config.stream_window_bytes))
        .receive_window(VarInt::from_u32(config.connection_window_bytes))
        .send_window(config.send_window_bytes)
        .max_concurrent_bidi_streams(VarInt::from_u32(config.stream_count_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(idle_ms)))
        .keep_alive_interval(Some(config.keep_alive));
    transport
}

/// rustls' clock as quinn wants it.
struct Clock(Arc<dyn TimeProvider>);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let since = self.0.current_time().map_or(0, |time| time.as_secs());
        SystemTime::UNIX_EPOCH + Duration::from_secs(since)
    }
}
