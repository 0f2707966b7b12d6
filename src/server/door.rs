//! The door for clients and other peers: one UDP port, QUIC with certificates on both sides, and who serves behind it.
use crate::api::rpc::Rpc;
use crate::identity::Credentials;
use crate::net::accept::STOPPING;
use crate::net::{Counters, NetConfig, NetEnv, PeerDoor, Peers, PeersConfig, Services, SetupError};
use crate::runtime::Handle;
use crate::server::config::Config;
use crate::server::world::World;
use quinn::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long connections may take to say goodbye.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// An open door.
pub struct Door {
    endpoint: Endpoint,
    address: SocketAddr,
    counters: Arc<Counters>,
    peers: Arc<Peers>,
}

/// What carries messages to other peers, with nobody to carry them to until the door is open.
pub fn peers(config: &Config, world: &World) -> Arc<Peers> {
    let settings = PeersConfig {
        join: config.peers.join.clone(),
        advertise: config.peers.advertise,
        ..PeersConfig::default()
    };
    let counters = Arc::new(Counters::default());
    Peers::new(settings, &net_config(config), world.net.clone(), world.entropy.clone(), counters)
}

fn net_config(config: &Config) -> NetConfig {
    let limits = &config.limits;
    NetConfig {
        connection_count_max: limits.connection_count_max as usize,
        stream_count_max: limits.stream_count_max as u32,
        ..NetConfig::default()
    }
}

/// Opens the door at the configured address, for clients of `handle`, and for `peers`.
pub fn open(
    config: &Config,
    credentials: &Credentials,
    env: &NetEnv,
    handle: &Handle,
    peers: Arc<Peers>,
) -> Result<Door, SetupError> {
    let (settings, counters) = (net_config(config), peers.counters().clone());
    let rpc = Rpc::with_peers(handle.clone(), peers.clone(), env.runtime.clone(), &settings);
    let services = Services::clients(rpc, settings.connection_count_max)
        .and_peers(Arc::new(PeerDoor(peers.clone())), peers.connection_count_max());
    let port = crate::net::open(config.listen, credentials, &services.protocols(), &settings, env)?;
    let bound = |error| SetupError::Bind { address: config.listen, error };
    let endpoint = port.endpoint.clone();
    let address = endpoint.local_addr().map_err(bound)?;
    peers.start(handle.clone(), endpoint.clone(), credentials, &settings)?;
    let serving = crate::net::serve(port, services, settings, counters.clone(), env.runtime.clone());
    env.runtime.spawn(Box::pin(serving));
    Ok(Door { endpoint, address, counters, peers })
}

impl Door {
    /// The address it is at.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What passed through it.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The other peers there are sessions with.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Closes it, and every connection; the other sides hear why.
    pub async fn close(self) {
        self.peers.stop().await;
        self.endpoint.close(STOPPING, b"the peer is stopping");
        // Whoever does not answer hears it from silence.
        drop(tokio::time::timeout(GOODBYE_TIME_MAX, self.endpoint.wait_idle()).await);
    }
}
