//! One host of a peer: its key, its disk, its clock, and, while it runs, the whole peer.
use crate::cluster::doom::Doom;
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::lock;
use crate::cluster::recorder::Recorder;
use crate::cluster::site::{LOG, RESERVE_BYTES};
use crate::cluster::surroundings::{IoTimes, SimClock, SimEntropy, SimLanes};
use crate::random::Random;
use crate::storage::fuse::FusedDisk;
use crate::whole::socket::{CertificateClock, SimRuntime, SimSocket};
use crate::whole::udp::Udp;
use conveyor::disk::{DiskControl, MemDisk};
use conveyor::identity::PeerIdentity;
use conveyor::net::NetEnv;
use conveyor::net::peers::{Members, Other};
use conveyor::runtime::{Handle, ScrubConfig};
use conveyor::server::config::{Config, JoinConfig};
use conveyor::server::{Server, World};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Polls of a process' tasks within one moment: QUIC has many of them.
pub const POLLS_MAX: u64 = 200_000;

/// A peer that runs.
pub struct Live {
    /// The way into its engine, beside the network.
    pub handle: Handle,
    /// Its tasks.
    pub life: Arc<Life>,
    server: Mutex<Option<Server>>,
}

impl Live {
    /// With whom it has sessions.
    pub fn connected(&self) -> Vec<Other> {
        lock(&self.server).as_ref().map(Server::connected).unwrap_or_default()
    }

    /// Of whom gossip told it.
    pub fn members(&self) -> Members {
        lock(&self.server).as_ref().map(Server::members).unwrap_or_default()
    }

    /// Connections whose handshakes succeeded, of clients and of peers.
    pub fn connections_accepted(&self) -> u64 {
        lock(&self.server).as_ref().map_or(0, |server| server.counters().connections_accepted.get())
    }

    /// Stops as an administrator would have it; false where it died meanwhile.
    pub async fn stop(&self) -> bool {
        let Some(server) = lock(&self.server).take() else { return false };
        self.life.unless_ended(server.stop()).await.is_some()
    }
}

/// A host of a peer.
pub struct Host {
    /// Its number.
    pub index: usize,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Key and certificate.
    pub identity: PeerIdentity,
    /// The hand that breaks its disk.
    pub control: DiskControl,
    /// Its clock.
    pub clock: Arc<SimClock>,
    /// How long its disk work takes.
    pub times: IoTimes,
    /// Ends its process in the middle of things.
    pub doom: Arc<Doom>,
    /// A bug of the disk below it, put in on purpose.
    /// Its process, while there is one.
    pub live: Option<Arc<Live>>,
    /// Whether somebody is at it who will start it again.
    pub is_claimed: bool,
    /// Where to look for others.
    join: Vec<String>,
    random: Random,
}

impl Host {
    /// A host with an empty disk.
    pub fn new(
        index: usize,
        address: SocketAddr,
        identity: PeerIdentity,
        join: Vec<String>,
        recorder: &Arc<Recorder>,
        mut random: Random,
    ) -> Self {
        Self {
            index,
            address,
            identity,
            control: MemDisk::new(random.number()).control(),
            clock: Arc::new(SimClock::new(recorder.clone())),
            times: IoTimes { sync_ms_max: 4, other_ms_max: 2 },
            doom: Arc::default(),
            live: None,
            is_claimed: false,
            join,
            random,
        }
    }

    fn config(&self) -> Config {
        let peers = JoinConfig { join: self.join.clone(), ..Config::default().peers };
        let scrub = ScrubConfig { bytes_per_s: 1 << 20, interval_ms: 60_000, quiet_ms: 5_000 };
        let (listen, disk_reserve_bytes) = (self.address, RESERVE_BYTES);
        Config { listen, http: None, peers, scrub, disk_reserve_bytes, ..Config::default() }
    }

    fn world(&mut self, life: &Arc<Life>, udp: &Arc<Udp>) -> std::io::Result<World> {
        let (disk, doom) = (self.control.disk(), self.doom.clone());
        let lanes = SimLanes::new(life.clone(), self.times, self.random.fork(), disk.clone(), doom);
        let net = NetEnv {
            runtime: Arc::new(SimRuntime(life.clone())),
            socket: Some(SimSocket::bind(udp, self.address)?),
            clock: Arc::new(CertificateClock(self.clock.clone())),
        };
        Ok(World {
            net,
            spawn: Arc::new(LifeSpawn(life.clone())),
            clock: self.clock.clone(),
            entropy: Arc::new(SimEntropy::new(self.random.fork(), [])),
            disk: Arc::new(FusedDisk::new(disk, self.doom.fuse.clone(), None)),
            io: Arc::new(lanes),
            log: LOG,
        })
    }

    /// What the next process of this host needs, whose name it has in the trace.
    pub fn prepare(&mut self, udp: &Arc<Udp>, recorder: &Arc<Recorder>) -> std::io::Result<Start> {
        let life = Life::polled(recorder.clone(), POLLS_MAX);
        life.set_name(self.index);
        let world = self.world(&life, udp)?;
        Ok(Start { world, life, config: self.config(), identity: self.identity.clone() })
    }
}

/// A process that is about to begin.
pub struct Start {
    world: World,
    life: Arc<Life>,
    config: Config,
    identity: PeerIdentity,
}

impl Start {
    /// Starts it; the error says what was in the way.
    pub async fn start(self) -> Result<Arc<Live>, String> {
        let starting = Server::start_in(&self.world, &self.config, &self.identity);
        match self.life.unless_ended(starting).await {
            Some(Ok(server)) => {
                let (handle, life) = (server.handle().clone(), self.life);
                Ok(Arc::new(Live { handle, life, server: Mutex::new(Some(server)) }))
            }
            failed => {
                self.life.end();
                self.life.settled().await;
                Err(failed.and_then(Result::err).map_or_else(String::new, |error| error.to_string()))
            }
        }
    }
}
