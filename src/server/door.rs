//! The door for clients: one UDP port, QUIC with certificates on both sides, and who serves behind it.
use crate::api::rpc::Rpc;
use crate::identity::Credentials;
use crate::net::accept::STOPPING;
use crate::net::{Counters, NetConfig, NetEnv, Services, SetupError};
use crate::runtime::Handle;
use crate::server::config::Config;
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
}

/// Opens the door at the configured address, for clients of `handle`.
pub fn open(config: &Config, credentials: &Credentials, handle: &Handle) -> Result<Door, SetupError> {
    let limits = &config.limits;
    let settings = NetConfig {
        connection_count_max: limits.connection_count_max as usize,
        stream_count_max: limits.stream_count_max as u32,
        ..NetConfig::default()
    };
    let (env, counters) = (NetEnv::default(), Arc::new(Counters::default()));
    let services =
        Services::clients(Rpc::new(handle.clone(), counters.clone(), env.runtime.clone(), &settings));
    let endpoint = crate::net::open(config.listen, credentials, &services.protocols(), &settings, &env)?;
    let bound = |error| SetupError::Bind { address: config.listen, error };
    let address = endpoint.local_addr().map_err(bound)?;
    let serving =
        crate::net::serve(endpoint.clone(), services, settings, counters.clone(), env.runtime.clone());
    env.runtime.spawn(Box::pin(serving));
    Ok(Door { endpoint, address, counters })
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

    /// Closes it, and every connection; the other sides hear why.
    pub async fn close(self) {
        self.endpoint.close(STOPPING, b"the peer is stopping");
        // Whoever does not answer hears it from silence.
        drop(tokio::time::timeout(GOODBYE_TIME_MAX, self.endpoint.wait_idle()).await);
    }
}
