//! The tier of the whole stack: complete peers (engine, runtime, sessions, gossip, QUIC, TLS, the protocol of clients) and the
//! real client library, on simulated hosts with a network of packets between them.
//!
//! ```text
//! swarm (a seed's faults) or a story ──> stack ──> hosts: disks and their processes ──> server::Server
//!                                          │          │ World: lanes, clock, entropy, disk, socket
//!    writers, tails, lookups ──client──────┼──────────┴──> udp <── weather, ways
//!                                          └──> model: what was acknowledged <── check: what each peer gives a client
//! ```
//!
//! Everything runs on one thread and virtual time, as in the tier of the engine, whose processes, clocks, lanes, disks and
//! books it uses. tokio draws in which order an unbiased `select!` looks, from a counter of the process too: so a seed goes the
//! same way in every process that runs it alone, and many seeds are many processes.
use crate::cluster::life::spawn;
use crate::cluster::lock;
use crate::cluster::model::Model;
use crate::cluster::recorder::Recorder;
use crate::cluster::report::{self, Report};
use crate::random::Random;
use crate::whole::host::{Host, Live};
use crate::whole::udp::Udp;
use conveyor::base::planted::Bug;
use conveyor::base::{ClusterId, PeerId, PeerName, TopicId, TopicName};
use conveyor::identity::{Ca, Credentials, PeerIdentity, Rights, Role, Validity};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

pub mod check;
pub mod faults;
pub mod getter;
pub mod host;
pub mod many;
pub mod seen;
pub mod socket;
pub mod swarm;
pub mod tail;
pub mod udp;
pub mod user;
pub mod weather;
pub mod writer;

#[cfg(test)]
mod stories;

/// Unix seconds at which all certificates are made: before every run begins.
const MADE_S: u64 = 1_799_900_000;
/// The port of peers.
const PORT: u16 = 8_011;

/// The topics of a run.
pub fn topics() -> [TopicName; 2] {
    ["jobs", "shop/events"].map(|name| TopicName::new(name).expect("a legal name"))
}

/// What kind of run it is.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How many peers there are.
    pub peer_count: usize,
    /// A bug put in on purpose in the code under test.
    pub bug: Option<Bug>,
    /// Whether events are printed as they happen.
    pub is_printed: bool,
    /// Whether each packet is one of them.
    pub is_detailed: bool,
}

impl Setup {
    /// So many peers.
    pub fn peers(peer_count: usize) -> Self {
        Self { peer_count, bug: None, is_printed: false, is_detailed: false }
    }
}

/// Everything of a run.
pub struct Stack {
    /// What kind of run it is.
    pub setup: Setup,
    /// What happened.
    pub recorder: Arc<Recorder>,
    /// Between the hosts.
    pub udp: Arc<Udp>,
    /// What must hold.
    pub model: Mutex<Model>,
    /// Behind the choices of whoever drives the run.
    pub random: Mutex<Random>,
    ca: Ca,
    hosts: Mutex<Vec<Host>>,
    /// Hosts of clients so far.
    clients: Mutex<u8>,
}

/// Where the `index`th peer is reached.
pub fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + index as u8], PORT))
}

impl Stack {
    /// Peers with empty disks, not started.
    pub fn new(seed: u64, setup: Setup) -> Arc<Self> {
        let mut random = Random::new(seed);
        let recorder = Arc::new(Recorder::new(setup.is_printed));
        let udp = Udp::new(recorder.clone(), random.fork(), setup.is_detailed);
        spawn(&recorder, udp.clone().tend());
        let ca = Ca::create(Validity::days(MADE_S, 1_000)).expect("a cluster");
        let host = |index: usize| {
            let others = (0..setup.peer_count).filter(|other| *other != index);
            let join = others.map(|other| address(other).to_string()).collect();
            let (identity, random) = (peer(&ca, index), random.fork());
            Host::new(index, address(index), identity, join, &recorder, random)
        };
        let hosts = Mutex::new((0..setup.peer_count).map(host).collect());
        let (model, random, clients) = (Mutex::default(), Mutex::new(random), Mutex::default());
        Arc::new(Self { setup, recorder, udp, model, random, ca, hosts, clients })
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.ca.cluster()
    }

    /// The id of a topic.
    pub fn topic_id(&self, topic: &TopicName) -> TopicId {
        TopicId::of(self.cluster(), topic.as_str())
    }

    /// The process of a peer, when there is one.
    pub fn live(&self, host: usize) -> Option<Arc<Live>> {
        lock(&self.hosts)[host].live.clone()
    }

    /// All processes.
    pub fn all_live(&self) -> BTreeMap<usize, Arc<Live>> {
        let hosts = lock(&self.hosts);
        hosts.iter().filter_map(|host| Some((host.index, host.live.clone()?))).collect()
    }

    /// The number of a peer's host.
    pub fn host_of(&self, peer: &PeerId) -> Option<usize> {
        lock(&self.hosts).iter().position(|host| host.identity.peer == *peer)
    }

    fn with_host<T>(&self, host: usize, change: impl FnOnce(&mut Host) -> T) -> T {
        change(&mut lock(&self.hosts)[host])
    }

    /// The address of a host for another client, and what it needs to be let in.
    pub fn new_client(&self) -> (IpAddr, Credentials) {
        let mut clients = lock(&self.clients);
        *clients += 1;
        let role = Role::Client(Rights::all());
        let issued = self.ca.issue(&role, Validity::days(MADE_S, 1_000)).expect("a certificate");
        let credentials = issued.credentials(self.ca.certificate()).expect("it was just made");
        (IpAddr::from([10, 1, 0, *clients]), credentials)
    }

    /// The hosts of all clients so far.
    pub fn client_hosts(&self) -> Vec<IpAddr> {
        (1..=*lock(&self.clients)).map(|client| IpAddr::from([10, 1, 0, client])).collect()
    }

    /// A number for whoever drives the run.
    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.random).below(bound)
    }

    /// A generator for somebody whose choices are his own.
    pub fn fork(&self) -> Random {
        lock(&self.random).fork()
    }
}

/// The certificate of the `index`th peer, and its key.
fn peer(ca: &Ca, index: usize) -> PeerIdentity {
    let role = Role::Peer { name: PeerName::nearest(&format!("p{index}")) };
    let issued = ca.issue(&role, Validity::days(MADE_S, 1_000)).expect("a certificate");
    let credentials = issued.credentials(ca.certificate()).expect("it was just made");
    PeerIdentity::new(credentials, false).expect("it is a peer's")
}

/// Runs a story on a thread and a clock of its own.
pub fn run<F: Future<Output = ()>>(
    seed: u64,
    setup: Setup,
    story: impl FnOnce(Arc<Stack>) -> F + Send + 'static,
) -> Report {
    report::alone(seed, setup.bug, move || async move {
        let stack = Stack::new(seed, setup);
        report::tell(&stack.recorder, story(stack.clone())).await
    })
}
