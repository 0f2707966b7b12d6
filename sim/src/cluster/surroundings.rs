//! What a simulated peer takes from the world: a clock that is off, random bits from the seed, lanes that take time, and
//! a registry in the place of certificates.
use crate::cluster::doom::Doom;
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::lock;
use crate::cluster::recorder::Recorder;
use crate::random::Random;
use conveyor::base::{PeerId, PeerName, Signature};
use conveyor::disk::{IoExec, Job, Lane, MemDisk};
use conveyor::identity::certificate::CertificateError;
use conveyor::identity::trust::Trust;
use conveyor::identity::{MacVerifier, Verifier};
use conveyor::runtime::{Entropy, Spawn, WallClock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Unix milliseconds at the beginning of every run.
const BEGAN_UNIX_MS: i64 = 1_800_000_000_000;

/// A peer's clock: true time, and how far it is off.
pub struct SimClock {
    recorder: Arc<Recorder>,
    skew_ms: AtomicI64,
}

impl SimClock {
    /// A clock that is right.
    pub fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder, skew_ms: AtomicI64::new(0) }
    }

    /// Sets how far it is off; it jumps there.
    pub fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl WallClock for SimClock {
    fn unix_ms(&self) -> u64 {
        let now = BEGAN_UNIX_MS + self.recorder.elapsed_ms() as i64;
        (now + self.skew_ms.load(Ordering::Relaxed)).max(0) as u64
    }
}

/// Random bits from the seed.
pub struct SimEntropy {
    random: Mutex<Random>,
    /// What is drawn before that.
    first: Mutex<VecDeque<u64>>,
}

impl SimEntropy {
    /// Bits of `random`, behind `first` if there is one.
    pub fn new(random: Random, first: impl IntoIterator<Item = u64>) -> Self {
        Self { random: Mutex::new(random), first: Mutex::new(first.into_iter().collect()) }
    }
}

impl Entropy for SimEntropy {
    fn draw(&self) -> u64 {
        lock(&self.first).pop_front().unwrap_or_else(|| lock(&self.random).number())
    }
}

/// Milliseconds that a job waits for its turn at the device, at most, by lane.
#[derive(Debug, Clone, Copy)]
pub struct IoTimes {
    /// Of the lane that appends wait for, beside what the disk says its syncs cost.
    pub sync_ms_max: u64,
    /// Of all other lanes.
    pub other_ms_max: u64,
}

/// Lanes whose jobs run in order, each after a time from the seed.
pub struct SimLanes {
    life: Arc<Life>,
    times: IoTimes,
    random: Arc<Mutex<Random>>,
    disk: MemDisk,
    doom: Arc<Doom>,
    queues: Mutex<BTreeMap<Lane, mpsc::UnboundedSender<Job>>>,
}

impl SimLanes {
    /// Lanes of `life`, over `disk`, until `doom` strikes.
    pub fn new(life: Arc<Life>, times: IoTimes, random: Random, disk: MemDisk, doom: Arc<Doom>) -> Self {
        Self { life, times, random: Arc::new(Mutex::new(random)), disk, doom, queues: Mutex::default() }
    }

    fn latency(random: &Mutex<Random>, lane: Lane, times: IoTimes) -> Duration {
        let ms_max = if lane == Lane::Sync { times.sync_ms_max } else { times.other_ms_max };
        Duration::from_millis(lock(random).between(0, ms_max + 1))
    }

    fn start(&self, lane: Lane) -> mpsc::UnboundedSender<Job> {
        let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
        let (random, times, disk) = (self.random.clone(), self.times, self.disk.clone());
        let (doom, life) = (self.doom.clone(), self.life.clone());
        let work = async move {
            while let Some(job) = jobs.recv().await {
                let cost = if lane == Lane::Sync { disk.last_sync_cost() } else { Duration::ZERO };
                wait(Self::latency(&random, lane, times) + cost).await;
                job();
                if doom.strikes(lane) {
                    return life.end();
                }
            }
        };
        LifeSpawn(self.life.clone()).spawn(Box::pin(work));
        sender
    }
}

/// Sleeping for no time would still wait for the next millisecond.
async fn wait(latency: Duration) {
    if latency > Duration::ZERO {
        tokio::time::sleep(latency).await;
    }
}

impl IoExec for SimLanes {
    fn run(&self, lane: Lane, job: Job) {
        // What is asked for by whoever still holds a dead process is asked of nobody.
        if self.life.is_dead() {
            return;
        }
        if lane == Lane::Read {
            let latency = Self::latency(&self.random, lane, self.times);
            let work = async move {
                wait(latency).await;
                job();
            };
            return LifeSpawn(self.life.clone()).spawn(Box::pin(work));
        }
        let mut queues = lock(&self.queues);
        let queue = queues.entry(lane).or_insert_with(|| self.start(lane));
        // The lane's task ends with the process.
        let _ = queue.send(job);
    }
}

/// Who administers the cluster, in stories of removals.
pub const ADMIN: PeerId = PeerId([0xad; 32]);

/// Keys of all peers. A certificate here is a peer's 32 bytes, then its name; the administrator's is only the key.
#[derive(Debug, Clone)]
pub struct Registry(pub MacVerifier);

impl Registry {
    /// The certificate of a peer.
    pub fn certificate(peer: PeerId, name: &PeerName) -> Arc<[u8]> {
        [peer.as_bytes().as_slice(), name.as_str().as_bytes()].concat().into()
    }
}

impl Verifier for Registry {
    fn verify(&self, peer: PeerId, message: &[u8], signature: &Signature) -> bool {
        self.0.verify(peer, message, signature)
    }
}

impl Trust for Registry {
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError> {
        let (key, name) = certificate.split_first_chunk::<32>().ok_or(CertificateError::Malformed)?;
        let name = std::str::from_utf8(name).ok().and_then(|name| PeerName::new(name).ok());
        Ok((PeerId(*key), name.ok_or(CertificateError::Malformed)?))
    }

    fn admin_of(&self, certificate: &[u8]) -> Result<PeerId, CertificateError> {
        (certificate == ADMIN.as_bytes()).then_some(ADMIN).ok_or(CertificateError::WrongRole)
    }
}
