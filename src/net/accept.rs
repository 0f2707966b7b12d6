//! Letting connections in: limits first, then the handshake, then whoever serves the protocol it agreed on.
//!
//! A stranger costs one bounded handshake: under load an address must first prove itself with a retry token, which
//! costs this peer no memory; beyond that, handshakes are ignored.
use crate::identity::certificate::Certificate;
use crate::identity::tls;
use crate::net::counters::Counters;
use crate::net::endpoint::{NetConfig, Port};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, Incoming, Runtime, VarInt};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The code of a connection refused at a limit or for its role.
const NOT_SERVED: VarInt = VarInt::from_u32(3);
/// The code of a connection that ends because the peer stops.
pub const STOPPING: VarInt = VarInt::from_u32(4);
/// The code of a connection beyond those that its protocol may have.
const TOO_MANY: VarInt = VarInt::from_u32(9);
/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves connections of one protocol.
pub trait Service: Send + Sync + 'static {
    /// Whether who dials from there is likely to be another peer. Which protocol it speaks is known only when QUIC's windows
    /// are set.
    fn expects(&self, _address: SocketAddr) -> bool {
        false
    }

    /// Serves `connection`, whose other side showed `certificate`, until it ends. Checks the role by itself.
    fn serve(
        &self,
        connection: Connection,
        certificate: Certificate,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Who serves which protocol. Each has connections of its own, so that clients never keep other peers out.
#[derive(Clone, Default)]
pub struct Services {
    by_protocol: Vec<Served>,
}

#[derive(Clone)]
struct Served {
    /// Its name in TLS (ALPN).
    protocol: &'static [u8],
    service: Arc<dyn Service>,
    /// Connections at most.
    count_max: usize,
    open: Arc<AtomicUsize>,
}

impl Services {
    /// The protocols, for [`crate::net::open`].
    pub fn protocols(&self) -> Vec<&'static [u8]> {
        self.by_protocol.iter().map(|served| served.protocol).collect()
    }

    /// Clients alone, with so many connections at most.
    pub fn clients(service: Arc<dyn Service>, count_max: usize) -> Self {
        Self::default().and(tls::ALPN_CLIENT, service, count_max)
    }

    /// And other peers.
    pub fn and_peers(self, service: Arc<dyn Service>, count_max: usize) -> Self {
        self.and(tls::ALPN_PEER, service, count_max)
    }

    fn and(mut self, protocol: &'static [u8], service: Arc<dyn Service>, count_max: usize) -> Self {
        self.by_protocol.push(Served { protocol, service, count_max, open: Arc::default() });
        self
    }

    fn of(&self, protocol: &[u8]) -> Option<&Served> {
        self.by_protocol.iter().find(|served| served.protocol == protocol)
    }

    fn expects_a_peer(&self, address: SocketAddr) -> bool {
        self.by_protocol.iter().any(|served| served.service.expects(address))
    }

    fn count_max(&self) -> usize {
        self.by_protocol.iter().map(|served| served.count_max).sum()
    }
}

/// One of the connections that a protocol may have.
struct Place(Arc<AtomicUsize>);

impl Served {
    fn place(&self) -> Option<Place> {
        let place = Place(self.open.clone());
        (self.open.fetch_add(1, Ordering::Relaxed) < self.count_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Door {
    port: Port,
    services: Services,
    counters: Arc<Counters>,
    handshakes: AtomicUsize,
}

/// Accepts connections until the endpoint is closed. Spawns through `runtime` alone.
pub async fn serve(
    port: Port,
    services: Services,
    config: NetConfig,
    counters: Arc<Counters>,
    runtime: Arc<dyn Runtime>,
) {
    let endpoint = port.endpoint.clone();
    let door = Arc::new(Door { port, services, counters, handshakes: AtomicUsize::new(0) });
    while let Some(incoming) = endpoint.accept().await {
        if let Some(incoming) = door.look(incoming, &endpoint, &config) {
            let door = door.clone();
            door.handshakes.fetch_add(1, Ordering::Relaxed);
            runtime.spawn(Box::pin(async move { door.enter(incoming).await }));
        }
    }
}

impl Door {
    /// Decides whether a handshake may begin.
    fn look(&self, incoming: Incoming, endpoint: &Endpoint, config: &NetConfig) -> Option<Incoming> {
        let address = incoming.remote_address();
        let under_way = self.handshakes.load(Ordering::Relaxed);
        if endpoint.open_connections() >= self.services.count_max() + config.handshake_count_max {
            self.counters.connections_refused.add(1);
            tracing::debug!(%address, "connection refused: there are as many as may be");
            incoming.refuse();
            return None;
        }
        if under_way >= config.handshake_count_max {
            self.counters.connections_refused.add(1);
            incoming.ignore();
            return None;
        }
        if under_way >= config.handshake_count_unvalidated_max && !incoming.remote_address_validated() {
            self.counters.retries_sent.add(1);
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return None;
        }
        Some(incoming)
    }

    async fn enter(&self, incoming: Incoming) {
        let address = incoming.remote_address();
        let shaken = async {
            match self.services.expects_a_peer(address) {
                true => incoming.accept_with(self.port.for_peers.clone())?.await,
                false => incoming.accept()?.await,
            }
        };
        let shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, shaken).await;
        self.handshakes.fetch_sub(1, Ordering::Relaxed);
        let connection = match shaken {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.failed(&address, &error.to_string()),
            Err(_) => return self.failed(&address, "it took too long"),
        };
        let Some(certificate) = certificate(&connection) else {
            return self.failed(&address, "it showed no certificate");
        };
        let Some(served) = self.services.of(&protocol(&connection)) else {
            connection.close(NOT_SERVED, b"nobody serves this protocol here");
            return self.failed(&address, "nobody serves its protocol");
        };
        let Some(_place) = served.place() else {
            self.counters.connections_refused.add(1);
            tracing::debug!(%address, "connection refused: there are as many as may be");
            return connection.close(TOO_MANY, b"there are as many connections as may be");
        };
        self.counters.connections_accepted.add(1);
        let _open = self.counters.connections.hold();
        served.service.serve(connection, certificate).await;
    }

    fn failed(&self, address: &SocketAddr, reason: &str) {
        self.counters.handshakes_failed.add(1);
        tracing::debug!(%address, reason, "handshake failed");
    }
}

/// What TLS checked already: the chain and the cluster.
pub(super) fn certificate(connection: &Connection) -> Option<Certificate> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Certificate::parse(chain.first()?).ok()
}

fn protocol(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).unwrap_or_default()
}
