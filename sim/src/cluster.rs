//! The engine tier: real peers (runtime, engine and log) on simulated disks, clocks and a network of messages.
//!
//! ```text
//! swarm (a seed's faults) or a story ──> cluster ──> sites: directories and their processes ──> runtime::start
//!                                          │            │ Env: lanes, clock, entropy, disk, peers
//!        clients, followers ──Handle───────┤            └──> network <── membership
//!                                          └──> model: what was acknowledged <── check: what is read in the end
//! ```
//!
//! Everything runs on one thread and virtual time: tokio's clock stands still while anybody has work and then goes to the
//! next timer. There are no packets, no TLS and no signatures of real cost; those belong to the tier above.
use crate::cluster::faults::Power;
use crate::cluster::liar::Lie;
use crate::cluster::life::spawn;
use crate::cluster::model::Model;
use crate::cluster::network::{Network, Weather};
use crate::cluster::recorder::Recorder;
use crate::cluster::report::Report;
use crate::cluster::site::{Live, Site};
use crate::random::Random;
use conveyor::base::planted::Bug;
use conveyor::base::{ClusterId, Durability, PeerId, Retention, TopicId, TopicName, TopicSettings};
use conveyor::disk::MemDisk;
use conveyor::replication::ReplicationConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub mod answers;
pub mod catalog;
pub mod check;
pub mod client;
pub mod copies;
pub mod doom;
pub mod faults;
pub mod follower;
pub mod kept;
pub mod liar;
pub mod life;
pub mod membership;
pub mod mesh;
pub mod model;
pub mod network;
pub mod planted;
pub mod recorder;
pub mod remembered;
pub mod report;
pub mod rot;
pub mod scale;
pub mod site;
pub mod sought;
pub mod surroundings;
pub mod swarm;
pub mod ways;
pub mod worker;
pub mod written;

#[cfg(test)]
mod scenarios;

/// The cluster of every simulation.
pub const CLUSTER: ClusterId = ClusterId([9; 16]);

/// The secret behind all keys of a simulation.
pub const SECRET: [u8; 32] = [7; 32];

/// One of the topics of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(usize);

/// Synced, the common case.
pub const JOBS: Topic = Topic(0);
/// Buffered; keeps its entries for longer than any run lasts, so that only a wrong clock ever trims them.
pub const METRICS: Topic = Topic(1);
/// Synced; keeps its newest entries only.
pub const EVENTS: Topic = Topic(2);
/// Synced; deleted now and then.
pub const DRAFTS: Topic = Topic(3);
/// What is set for topics; only peers write it.
pub const CATALOG: Topic = Topic(4);
/// All that clients write.
pub const TOPICS: [Topic; 4] = [JOBS, METRICS, EVENTS, DRAFTS];

/// How many entries of each log [`EVENTS`] keeps.
pub const NEWEST_KEPT: u64 = 100;

/// How long [`METRICS`] keeps its entries.
const AGE_KEPT_MS: u64 = 30 * 86_400_000;

impl Topic {
    /// Its name.
    pub fn name(self) -> TopicName {
        TopicName::system(["jobs", "metrics", "shop/events", "drafts", "$catalog"][self.0])
            .expect("a legal name")
    }

    /// Its id.
    pub fn id(self) -> TopicId {
        TopicId::of(CLUSTER, self.name().as_str())
    }

    /// How durable entries are that nobody asked more for.
    pub fn level(self) -> Durability {
        if self == METRICS { Durability::Buffered } else { Durability::Fsync }
    }

    /// What somebody sets for it, if anybody does.
    pub fn settings(self) -> Option<TopicSettings> {
        let (count, age_ms) =
            ((self == EVENTS).then_some(NEWEST_KEPT), (self == METRICS).then_some(AGE_KEPT_MS));
        let retention = Retention { count, age_ms, ..Retention::default() };
        let settings = TopicSettings { durability: self.level(), retention };
        (settings != TopicSettings::default()).then_some(settings)
    }
}

/// A lock that a failed check may have left behind: the run has failed already then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What kind of run it is.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How many peers there are at first.
    pub peer_count: usize,
    /// Whether peers bring each other what they lack, so that all of them must hold the same in the end.
    pub converges: bool,
    /// How messages fare.
    pub weather: Weather,
    /// A bug put in on purpose in the code under test.
    pub bug: Option<Bug>,
    /// What stores ask of each other, and what they take.
    pub replication: ReplicationConfig,
    /// Memory that appends may take at a peer until they are answered.
    pub in_flight_bytes_max: usize,
    /// Whether each message is an event of the trace.
    pub is_detailed: bool,
    /// Whether events are printed as they happen.
    pub is_printed: bool,
}

impl Setup {
    /// So many peers on a fair network.
    pub fn peers(peer_count: usize) -> Self {
        Self {
            peer_count,
            converges: false,
            weather: Weather::FAIR,
            bug: None,
            replication: site::REPLICATION,
            in_flight_bytes_max: site::IN_FLIGHT_BYTES_MAX,
            is_detailed: true,
            is_printed: false,
        }
    }

    /// So many peers that bring each other what they lack.
    pub fn alike(peer_count: usize) -> Self {
        Self { converges: true, ..Self::peers(peer_count) }
    }
}

/// Everything of a run.
pub struct Cluster {
    /// What kind of run it is.
    pub setup: Setup,
    /// What happened.
    pub recorder: Arc<Recorder>,
    /// Between the peers.
    pub network: Arc<Network>,
    /// What must hold.
    pub model: Mutex<Model>,
    /// Behind the choices of whoever drives the run.
    pub random: Mutex<Random>,
    sites: Mutex<Vec<Site>>,
}

impl Cluster {
    /// Peers with empty directories, not started.
    pub fn new(seed: u64, setup: Setup) -> Arc<Self> {
        let mut random = Random::new(seed);
        let recorder = Arc::new(Recorder::new(setup.is_printed));
        let network = Network::new(recorder.clone(), random.fork(), setup.weather, setup.is_detailed);
        spawn(&recorder, network.clone().tend());
        let site = |index: usize| {
            let mut random = random.fork();
            let disk = MemDisk::new(random.number());
            Site::new(index, key(index), &disk, &recorder, random).bounded(&setup)
        };
        let sites = (0..setup.peer_count).map(site).collect();
        let (mut model, sites) = (Model::default(), Mutex::new(sites));
        model.keep_newest(EVENTS.id(), NEWEST_KEPT);
        let model = Mutex::new(model);
        Arc::new(Self { setup, recorder, network, model, random: Mutex::new(random), sites })
    }

    /// How many directories there are.
    pub fn site_count(&self) -> usize {
        lock(&self.sites).len()
    }

    /// The process over a directory, when there is one.
    pub fn live(&self, site: usize) -> Option<Live> {
        lock(&self.sites)[site].live.clone()
    }

    /// All processes.
    pub fn all_live(&self) -> BTreeMap<usize, Live> {
        let sites = lock(&self.sites);
        sites.iter().filter_map(|site| Some((site.index, site.live.clone()?))).collect()
    }

    /// Changes something of a directory.
    fn with_site<T>(&self, site: usize, change: impl FnOnce(&mut Site) -> T) -> T {
        change(&mut lock(&self.sites)[site])
    }

    /// From now on the peer of a site lies: what it holds or acknowledges counts for nothing.
    pub fn lie(&self, site: usize, lies: &[Lie]) {
        let peer = self.with_site(site, |site| site.peer);
        self.recorder.note(format_args!("{site} lies: {lies:?}"));
        lock(&self.model).distrust(site, peer, lies.contains(&Lie::TwoContents));
        self.network.lie(site, peer, lies.to_vec());
    }

    /// All sites whose peers do not lie.
    pub fn honest(&self) -> BTreeSet<usize> {
        let model = lock(&self.model);
        (0..self.site_count()).filter(|site| !model.is_liar(*site)).collect()
    }

    /// A number for whoever drives the run.
    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.random).below(bound)
    }

    /// A generator for somebody whose choices are his own.
    pub fn fork(&self) -> Random {
        lock(&self.random).fork()
    }

    /// Lets go of everything, so that nothing holds itself.
    async fn end(&self) {
        for site in 0..self.site_count() {
            self.crash(site, Power::Stays).await;
        }
    }
}

/// The key of the `index`th peer, spread over all keys.
fn key(index: usize) -> PeerId {
    PeerId(Random::key(index as u64))
}

/// Runs a story on a thread and a clock of its own.
pub fn run<F: Future<Output = ()>>(
    seed: u64,
    setup: Setup,
    story: impl FnOnce(Arc<Cluster>) -> F + Send + 'static,
) -> Report {
    report::alone(seed, setup.bug, move || async move {
        let cluster = Cluster::new(seed, setup);
        spawn(&cluster.recorder, check::watch_bounds(cluster.clone()));
        let report = report::tell(&cluster.recorder, story(cluster.clone())).await;
        cluster.end().await;
        report
    })
}
