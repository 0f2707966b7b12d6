//! One data directory and, while it runs, the process over it.
use crate::cluster::doom::Doom;
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::network::{End, Network, Port};
use crate::cluster::recorder::Recorder;
use crate::cluster::surroundings::{IoTimes, Registry, SimClock, SimEntropy, SimLanes};
use crate::cluster::{CLUSTER, SECRET, Setup};
use crate::random::Random;
use crate::storage::fuse::FusedDisk;
use crate::storage::planted;
use conveyor::base::planted as bugs;
use conveyor::base::{EntryId, PeerId, PeerName, RunId, StoreId};
use conveyor::disk::{DiskControl, MemDisk};
use conveyor::identity::MacVerifier;
use conveyor::log::state::Lookup;
use conveyor::log::{LogConfig, Store};
use conveyor::node::NodeConfig;
use conveyor::replication::ReplicationConfig;
use conveyor::runtime::{Env, Handle, RuntimeConfig, ScrubConfig};
use conveyor::wire::outcome::AppendsState;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Small, so that files rotate and roll while anybody watches.
pub const LOG: LogConfig = LogConfig {
    journal_file_bytes: 128 << 10,
    segment_bytes: 96 << 10,
    bulk_bytes_min: 16 << 10,
    unflushed_bytes_max: 96 << 10,
    tail_bytes_max: 128 << 10,
};

/// As it is, with bounds that a run may come to.
pub const REPLICATION: ReplicationConfig =
    ReplicationConfig { taken_bytes_max: 5 << 20, offered_runs_max: 2 << 10, ..ReplicationConfig::DEFAULT };

/// Memory that appends may take at a peer until they are answered.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Free bytes below which a peer refuses appends.
pub const RESERVE_BYTES: u64 = 512 << 10;

/// A process.
#[derive(Clone)]
pub struct Live {
    /// The way in.
    pub handle: Handle,
    /// Its tasks.
    pub life: Arc<Life>,
    /// Its name during this start.
    pub store: StoreId,
}

impl Live {
    /// Whether it is neither dead nor stopped by its disk.
    pub fn works(&self) -> bool {
        !self.life.is_dead() && !matches!(self.handle.status().appends, AppendsState::Stopped { .. })
    }
}

/// A data directory and what belongs to it.
pub struct Site {
    /// Its number.
    pub index: usize,
    /// Whose directory it is; copies have the same peer.
    pub peer: PeerId,
    /// What people call the peer.
    pub name: PeerName,
    /// The hand that breaks its disk.
    pub control: DiskControl,
    /// Its clock.
    pub clock: Arc<SimClock>,
    /// How long its disk work takes.
    pub times: IoTimes,
    /// Its process, while there is one.
    pub live: Option<Live>,
    /// Ends its process in the middle of things.
    pub doom: Arc<Doom>,
    /// A bug of the disk below it, put in on purpose.
    pub plant: Option<planted::Plant>,
    /// A bug put in on purpose: the random bits of a start follow from how often the directory, or the one that it is a
    /// copy of, was started.
    pub draws_again: bool,
    /// Whether the next start is one of a machine that is resumed from a snapshot: its store is another, and the first run that it
    /// draws is the one that the directory it is a copy of draws too.
    pub is_resumed: bool,
    /// The runs that its last process wrote when it ended, each with the one that it goes on from.
    pub open_runs: BTreeMap<RunId, RunId>,
    /// Those in which its next process goes on, as the machine was in the middle of them.
    pub resumes: BTreeMap<RunId, RunId>,
    /// How often it was started.
    pub starts: u64,
    /// Whether somebody is at it who will start it again.
    pub is_claimed: bool,
    /// Whether the machine goes on when its process dies by itself.
    pub keeps_power: bool,
    /// Whether its disk fails calls, or did since the process started.
    pub is_armed: bool,
    /// When it began to do as it is told again.
    pub calmed: Option<Instant>,
    /// What its store asks of others, and takes.
    replication: ReplicationConfig,
    /// Memory that appends may take until they are answered.
    in_flight_bytes_max: usize,
    /// Where its choices come from.
    pub random: Random,
}

impl Site {
    /// A directory on `disk` for `peer`.
    pub fn new(index: usize, peer: PeerId, disk: &MemDisk, recorder: &Arc<Recorder>, random: Random) -> Self {
        Self {
            index,
            peer,
            name: PeerName::nearest(&format!("p{index}")),
            control: disk.control(),
            clock: Arc::new(SimClock::new(recorder.clone())),
            times: IoTimes { sync_ms_max: 4, other_ms_max: 2 },
            live: None,
            doom: Arc::default(),
            plant: None,
            draws_again: false,
            is_resumed: false,
            open_runs: BTreeMap::new(),
            resumes: BTreeMap::new(),
            starts: 0,
            calmed: None,
            is_claimed: false,
            keeps_power: false,
            is_armed: false,
            replication: REPLICATION,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            random,
        }
    }

    /// With the bounds of a run on what its store asks of others, and takes.
    pub fn bounded(self, setup: &Setup) -> Self {
        let Setup { replication, in_flight_bytes_max, .. } = *setup;
        Self { replication, in_flight_bytes_max, ..self }
    }

    /// Starts its process; the error says what was in the way.
    pub fn start(&mut self, network: &Arc<Network>, recorder: &Arc<Recorder>) -> Result<(), String> {
        let (life, port) = (Life::new(recorder.clone()), network.port());
        life.set_name(self.index);
        let env = self.env(&life, &port);
        let registry = MacVerifier::new(SECRET);
        let signer = Arc::new(registry.signer(self.peer));
        bugs::resume(std::mem::take(&mut self.resumes));
        let started = conveyor::runtime::start(env, signer, self.config(registry));
        bugs::resume(BTreeMap::new());
        let (handle, recovered) = match started {
            Ok(started) => started,
            Err(error) => {
                life.end();
                return Err(error.to_string());
            }
        };
        let store = handle.about().store;
        let (records, torn) = (recovered.record_count, recovered.torn.len());
        recorder.note(format_args!(
            "{} starts: store {}, {records} records, {torn} torn, damage {:?}",
            self.index,
            store.short(),
            recovered.damage
        ));
        port.belongs_to(store);
        let end = End { site: self.index, peer: self.peer, handle: handle.clone(), life: life.clone() };
        network.join(store, end);
        self.live = Some(Live { handle, life, store });
        Ok(())
    }

    fn env(&mut self, life: &Arc<Life>, port: &Arc<Port>) -> Env {
        let disk = self.control.disk();
        let (times, doom) = (self.times, self.doom.clone());
        let lanes = SimLanes::new(life.clone(), times, self.random.fork(), disk.clone(), doom);
        self.starts += 1;
        let mut again = Random::new(self.starts);
        let drawn = if self.draws_again { Random::new(self.starts) } else { self.random.fork() };
        let first = std::mem::take(&mut self.is_resumed).then(|| self.resumed(&mut again));
        Env {
            peers: port.clone(),
            spawn: Arc::new(LifeSpawn(life.clone())),
            clock: self.clock.clone(),
            entropy: Arc::new(SimEntropy::new(drawn, first.into_iter().flatten())),
            disk: Arc::new(FusedDisk::new(disk, self.doom.fuse.clone(), self.plant)),
            io: Arc::new(lanes),
        }
    }

    /// What is drawn at the start of a machine that is resumed: the name of its store, what stands for nothing, and the run
    /// that was open when the snapshot was taken.
    fn resumed(&mut self, again: &mut Random) -> [u64; 4] {
        [self.random.number(), again.number(), again.number(), again.number()]
    }

    /// Whether it may fail: what went wrong a moment ago may be noticed only now.
    pub fn may_fail(&self) -> bool {
        let is_fresh = self.calmed.is_some_and(|calmed| calmed.elapsed().as_secs() < 2);
        self.is_armed || self.doom.is_set() || is_fresh
    }

    fn config(&self, registry: MacVerifier) -> RuntimeConfig {
        let node = NodeConfig {
            disk_reserve_bytes: RESERVE_BYTES,
            retention_interval_ms: 5_000,
            replication: self.replication,
            ..NodeConfig::new(CLUSTER, self.peer)
        };
        let certificate = Registry::certificate(self.peer, &self.name);
        RuntimeConfig {
            log: LOG,
            trust: Arc::new(Registry(registry)),
            in_flight_bytes_max: self.in_flight_bytes_max,
            scrub: ScrubConfig { bytes_per_s: 1 << 20, interval_ms: 60_000, quiet_ms: 5_000 },
            ..RuntimeConfig::new(node, self.name.clone(), certificate)
        }
    }
}

/// Whether a store holds an entry, where readers can have it.
pub fn holds(store: &Store, id: &EntryId) -> bool {
    let found = store.log(&id.log()).map(|log| log.look().find(id.run, id.seq));
    matches!(found, Some(Lookup::Tail(_) | Lookup::Span { .. }))
}
