//! What a peer is told once, at its start.
use crate::base::PeerName;
use crate::identity::trust::{ClusterTrust, Trust};
use crate::log::LogConfig;
use crate::node::NodeConfig;
use crate::runtime::scrub::ScrubConfig;
use std::sync::Arc;

/// Settings of a peer's runtime.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Settings of the engine.
    pub node: NodeConfig,
    /// Sizes of the log's files.
    pub log: LogConfig,
    /// What people call this peer.
    pub name: PeerName,
    /// Its certificate, DER, which goes with its batches.
    pub certificate: Arc<[u8]>,
    /// Whose batches are believed. By default any certificate that names the cluster, which is for tests: a peer of a
    /// real cluster puts its authority here.
    pub trust: Arc<dyn Trust>,
    /// Memory that appends which wait for the disk may take, as [`crate::base::Chunk::cost_bytes`] counts it; at the
    /// bound clients wait.
    pub in_flight_bytes_max: usize,
    /// How fast and how often what is stored is read again.
    pub scrub: ScrubConfig,
}

impl RuntimeConfig {
    /// Defaults around `node`.
    pub fn new(node: NodeConfig, name: PeerName, certificate: Arc<[u8]>) -> Self {
        let trust = Arc::new(ClusterTrust::without_authority(node.cluster));
        Self {
            node,
            log: LogConfig::default(),
            name,
            certificate,
            trust,
            in_flight_bytes_max: 32 << 20,
            scrub: ScrubConfig::default(),
        }
    }
}
