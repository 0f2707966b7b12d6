//! What a peer takes from the world around it: the machine's own in production, everything from the seed in simulation.
use crate::disk::{Disk, FileDisk, IoExec, ThreadLanes};
use crate::log::LogConfig;
use crate::net::{NetEnv, Peers};
use crate::runtime::{Entropy, Env, Spawn, SystemClock, SystemEntropy, TokioSpawn, WallClock};
use crate::server::config::Config;
use std::io;
use std::sync::Arc;

/// What a peer takes from the world around it. Nothing else of it differs between production and simulation, but that a
/// simulated one has no pages for monitoring.
#[derive(Clone)]
pub struct World {
    /// Tasks and timers of QUIC, its socket, and the time of day by which certificates expire.
    pub net: NetEnv,
    /// Starts tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Tells the time for entries.
    pub clock: Arc<dyn WallClock>,
    /// Draws names and the jitter of dialling.
    pub entropy: Arc<dyn Entropy>,
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Runs disk work.
    pub io: Arc<dyn IoExec>,
    /// Sizes of the log's files.
    pub log: LogConfig,
}

impl World {
    /// This machine, with the data directory that is set.
    pub(super) fn of_this_machine(config: &Config) -> io::Result<Self> {
        Ok(Self {
            net: NetEnv::default(),
            spawn: Arc::new(TokioSpawn),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            disk: Arc::new(FileDisk::open(&config.data_dir)?),
            io: Arc::new(ThreadLanes::start(config.read_thread_count as usize)?),
            log: LogConfig::default(),
        })
    }

    /// Of it what engine and log take, with `peers` for the ways to others.
    pub(super) fn env(&self, peers: Arc<Peers>) -> Env {
        Env {
            peers,
            spawn: self.spawn.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            disk: self.disk.clone(),
            io: self.io.clone(),
        }
    }
}
