//! Setting a client up, and what it takes from the world around it.
use crate::client::connect::Connector;
use crate::client::error::ConnectError;
use crate::client::request::Client;
use crate::identity::{Credentials, tls};
use crate::quic::socket;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, IdleTimeout, Runtime, TransportConfig, VarInt};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a peer may send on one stream ahead of the reader. A bulk read at 1 ms of round-trip time can so reach
/// 4 GB/s; raise it for links that are long and fast.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for all streams of the connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes sent that the peer has not yet acknowledged, over all streams.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Silence after which the connection counts as lost.
const IDLE_MS_MAX: u32 = 12_000;
/// How often an idle connection is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// What differs between production and simulation: tasks and timers, the socket, the time of day.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Spawns tasks and makes timers.
    pub runtime: Arc<dyn Runtime>,
    /// The socket all connections use; `None`: a new one on any free port.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
    /// The time of day, by which certificates expire.
    pub clock: Arc<dyn TimeProvider>,
}

impl Default for Environment {
    /// Tokio, a socket of its own, and the system's clock.
    fn default() -> Self {
        Self { runtime: Arc::new(quinn::TokioRuntime), socket: None, clock: Arc::new(DefaultTimeProvider) }
    }
}

impl Environment {
    /// The one place where the library starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(task));
    }
}

/// Sets a client up; [`Self::connect`] makes it.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    addresses: Vec<String>,
    credentials: Option<Credentials>,
    give_up_after: Duration,
    environment: Environment,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            credentials: None,
            give_up_after: Duration::from_secs(60),
            environment: Environment::default(),
        }
    }
}

impl ClientBuilder {
    /// Adds the address of a peer, `IP:port` or `host:port`. They are tried in the order they were added.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Adds addresses of peers of one cluster.
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// The client's certificate and key, and the CA of the cluster.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// For how long appends and readers try to reach a peer again once the connection is lost, before they fail with
    /// [`ClientError::Unreachable`](crate::client::ClientError::Unreachable); and for how long appends are sent again that
    /// come to peers too slowly, before they fail with the refusal. One minute unless set.
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// Runs in another environment than tokio and the system's sockets and clock.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Connects to the first address that leads to a peer of the cluster. Tries each once.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let credentials = self.credentials.ok_or(ConnectError::NoCredentials)?;
        if self.addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let config = quic_config(&credentials, &self.environment).map_err(setup)?;
        let endpoint = endpoint(&self.environment).map_err(setup)?;
        let connector = Connector::new(
            endpoint,
            config,
            self.addresses,
            self.give_up_after,
            self.environment,
            credentials.authority().clone(),
        );
        connector.live().await?;
        Ok(Client::new(connector))
    }
}

fn setup(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Setup { reason: error.to_string() }
}

fn quic_config(
    credentials: &Credentials,
    environment: &Environment,
) -> Result<quinn::ClientConfig, Box<dyn std::error::Error>> {
    let tls = tls::client_config(credentials, environment.clock.clone(), tls::ALPN_CLIENT)?;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport_config()));
    Ok(config)
}

/// Windows and timeouts of a client's connection.
pub(crate) fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS_MAX))))
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

fn endpoint(environment: &Environment) -> std::io::Result<Endpoint> {
    let (config, runtime) = (EndpointConfig::default(), environment.runtime.clone());
    if let Some(socket) = &environment.socket {
        return Endpoint::new_with_abstract_socket(config, None, socket.clone(), runtime);
    }
    // One socket for both families where the host has IPv6, else for IPv4 alone.
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
    let bound = socket::bind(any[0]).or_else(|_| socket::bind(any[1]))?;
    if let Some(advice) = bound.advice() {
        tracing::debug!(%advice, "the system gave the UDP socket less room than asked for");
    }
    Endpoint::new(config, None, bound.socket, runtime)
}
