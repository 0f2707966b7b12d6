//! Letting connections in: limits first, then the handshake, then whoever serves the protocol it agreed on.
//!
//! A stranger costs one bounded handshake: under load an address must first prove itself with a retry token, which
//! costs this peer no memory; beyond that, handshakes are ignored.
use crate::identity::certificate::Certificate;
use crate::identity::tls;
use crate::net::counters::Counters;
use crate::net::endpoint::NetConfig;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, Incoming, Runtime, VarInt};
use rustls::pki_types::CertificateDer;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The code of a connection refused at a limit or for its role.
const NOT_SERVED: VarInt = VarInt::from_u32(3);
/// The code of a connection that ends because the peer stops.
pub const STOPPING: VarInt = VarInt::from_u32(4);
/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves connections of one protocol.
pub trait Service: Send + Sync + 'static {
    /// Serves `connection`, whose other side showed `certificate`, until it ends. Checks the role by itself.
    fn serve(
        &self,
        connection: Connection,
        certificate: Certificate,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Who serves which protocol.
#[derive(Clone, Default)]
pub struct Services {
    /// Each protocol's ALPN name and service.
    pub by_protocol: Vec<(&'static [u8], Arc<dyn Service>)>,
}

impl Services {
    /// The protocols, for [`crate::net::open`].
    pub fn protocols(&self) -> Vec<&'static [u8]> {
        self.by_protocol.iter().map(|(protocol, _)| *protocol).collect()
    }

    /// Clients alone.
    pub fn clients(service: Arc<dyn Service>) -> Self {
        Self { by_protocol: vec![(tls::ALPN_CLIENT, service)] }
    }

    /// And other peers.
    pub fn and_peers(mut self, service: Arc<dyn Service>) -> Self {
        self.by_protocol.push((tls::ALPN_PEER, service));
        self
    }

    fn of(&self, protocol: &[u8]) -> Option<&Arc<dyn Service>> {
        self.by_protocol.iter().find(|(name, _)| *name == protocol).map(|(_, service)| service)
    }
}

struct Door {
    services: Services,
    counters: Arc<Counters>,
    handshakes: AtomicUsize,
}

/// Accepts connections until the endpoint is closed. Spawns through `runtime` alone.
pub async fn serve(
    endpoint: Endpoint,
    services: Services,
    config: NetConfig,
    counters: Arc<Counters>,
    runtime: Arc<dyn Runtime>,
) {
    let door = Arc::new(Door { services, counters, handshakes: AtomicUsize::new(0) });
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
        if endpoint.open_connections() >= config.connection_count_max {
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
        let shaken = async { incoming.accept()?.await };
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
        let Some(service) = self.services.of(&protocol(&connection)) else {
            connection.close(NOT_SERVED, b"nobody serves this protocol here");
            return self.failed(&address, "nobody serves its protocol");
        };
        self.counters.connections_accepted.add(1);
        let _open = self.counters.connections.hold();
        service.serve(connection, certificate).await;
    }

    fn failed(&self, address: &std::net::SocketAddr, reason: &str) {
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
