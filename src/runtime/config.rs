//! What a peer is told once, at its start.
use crate::base::PeerName;
use crate::identity::certificate::Authority;
use crate::log::LogConfig;
use crate::node::NodeConfig;
use crate::runtime::scrub::ScrubConfig;
use std::sync::Arc;

/// Settings of a peer's runtime.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Settings of the engine.
    pub node: NodeConfig,
    /// Sizes of the log's files.
    pub log: LogConfig,
    /// What people call this peer.
    pub name: PeerName,
    /// Its certificate, DER, which goes with its batches.
    pub certificate: Arc<[u8]>,
    /// The cluster's authority, against which the certificates of imported batches are checked. Without one (in tests and
    /// simulations, where nothing signs certificates) they are only read.
    pub authority: Option<Authority>,
    /// Memory that appends which wait for the disk may take, as [`crate::base::Chunk::cost_bytes`] counts it; at the
    /// bound clients wait.
    pub in_flight_bytes_max: usize,
    /// How fast and how often what is stored is read again.
    pub scrub: ScrubConfig,
}

impl RuntimeConfig {
    /// Defaults around `node`.
    pub fn new(node: NodeConfig, name: PeerName, certificate: Arc<[u8]>) -> Self {
        Self {
            node,
            log: LogConfig::default(),
            name,
            certificate,
            authority: None,
            in_flight_bytes_max: 32 << 20,
            scrub: ScrubConfig::default(),
        }
    }
}
