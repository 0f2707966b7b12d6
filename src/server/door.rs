//! The door for clients: one UDP port, QUIC with certificates on both sides.
use crate::api::rpc::Rpc;
use crate::identity::Credentials;
use crate::net::accept::STOPPING;
use crate::net::{self, Counters, NetConfig, NetEnv, Services, SetupError};
use crate::runtime::Handle;
use crate::server::config::Config;
use crate::server::start::StartError;
use quinn::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// An open door.
pub struct Door {
    address: SocketAddr,
    endpoint: Endpoint,
    counters: Arc<Counters>,
}

/// How long clients may take to hear that the peer stops.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// Opens the door at the configured address.
pub async fn open(config: &Config, credentials: &Credentials, handle: &Handle) -> Result<Door, StartError> {
    let (counters, env) = (Arc::new(Counters::default()), NetEnv::default());
    let limits = NetConfig {
        connection_count_max: usize::try_from(config.limits.connection_count_max).unwrap_or(usize::MAX),
        stream_count_max: u32::try_from(config.limits.stream_count_max).unwrap_or(u32::MAX),
        ..NetConfig::default()
    };
    let services = Services::clients(Rpc::new(handle.clone(), counters.clone(), env.runtime.clone()));
    let endpoint = net::open(config.listen, credentials, &services.protocols(), &limits, &env)
        .map_err(|error| refused(config, error))?;
    let address = endpoint.local_addr().map_err(|error| StartError::Address {
        what: "UDP",
        setting: "listen",
        address: config.listen,
        error,
    })?;
    let accept = net::serve(endpoint.clone(), services, limits, counters.clone(), env.runtime.clone());
    env.runtime.spawn(Box::pin(accept));
    Ok(Door { address, endpoint, counters })
}

fn refused(config: &Config, error: SetupError) -> StartError {
    match error {
        SetupError::Bind { error, .. } => {
            StartError::Address { what: "UDP", setting: "listen", address: config.listen, error }
        }
        SetupError::Credentials { reason } => StartError::Tls { reason },
    }
}

impl Door {
    /// The address it is at.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What happens at it.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Closes it, and every connection.
    pub async fn close(self) {
        self.endpoint.close(STOPPING, b"the peer stops");
        // A client that is gone does not hold up the end.
        drop(tokio::time::timeout(GOODBYE_TIME_MAX, self.endpoint.wait_idle()).await);
    }
}
