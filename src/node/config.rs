//! What the engine is told once, at its start.
use crate::base::limits;
use crate::base::{ClusterId, PeerId, TopicSettings};
use crate::replication::ReplicationConfig;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This peer.
    pub peer: PeerId,
    /// Whether an append makes a topic that is not there.
    pub auto_create: bool,
    /// What a topic has that nobody set.
    pub defaults: TopicSettings,
    /// Free bytes on the disk below which appends are refused.
    pub disk_reserve_bytes: u64,
    /// How far clocks may differ before irreversible decisions pause, in milliseconds.
    pub skew_ms_max: u64,
    /// Steady running after which a clock that was found ahead is believed, in milliseconds.
    pub clock_settle_ms: u64,
    /// How other peers are asked.
    pub replication: ReplicationConfig,
    /// How often retention is looked at, in milliseconds.
    pub retention_interval_ms: u64,
}

impl NodeConfig {
    /// Defaults for `peer` of `cluster`.
    pub fn new(cluster: ClusterId, peer: PeerId) -> Self {
        Self {
            cluster,
            peer,
            auto_create: true,
            defaults: TopicSettings::default(),
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES_DEFAULT,
            skew_ms_max: limits::SKEW_MS_MAX_DEFAULT,
            clock_settle_ms: limits::CLOCK_SETTLE_MS_DEFAULT,
            replication: ReplicationConfig::default(),
            retention_interval_ms: 10_000,
        }
    }
}
