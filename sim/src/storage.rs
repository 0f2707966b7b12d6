//! The storage tier: the real log over memory disks, driven by one seed and checked against a reference model.
//!
//! ```text
//! swarm (what goes wrong in this seed, how often) ──> scenario ──> sites: directories and their processes
//!                                                        │            │ log::open, Writer, flush, TopicReader
//!                                                        └─> model <──┘ acknowledgements; then everything is read
//! ```
//!
//! A story is told with the same verbs by hand: see `scenarios`. It knows nothing of peers' sessions or of the engine;
//! entries are numbered here as a node would.
use crate::random::Random;
use crate::trace::Trace;
use conveyor::base::{ClusterId, Timestamp, TopicId, TopicName};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub mod check;
pub mod follower;
pub mod fuse;
pub mod model;
pub mod plan;
pub mod planted;
pub mod scenario;
pub mod scrub;
pub mod site;
pub mod swarm;

#[cfg(test)]
mod failing_disk;
#[cfg(test)]
mod rotten_disk;
#[cfg(test)]
mod scenarios;

pub use scenario::Scenario;

/// The cluster of every simulation.
pub const CLUSTER: ClusterId = ClusterId([9; 16]);

/// One of the topics of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic(usize);

/// Synced, the common case.
pub const JOBS: Topic = Topic(0);
/// Synced, with a name that must be escaped.
pub const ORDERS: Topic = Topic(1);
/// Buffered.
pub const METRICS: Topic = Topic(2);
/// Buffered, with a name too long for a directory.
pub const TRACES: Topic = Topic(3);
/// All of them.
pub const TOPICS: [Topic; 4] = [JOBS, ORDERS, METRICS, TRACES];

impl Topic {
    /// Its name.
    pub fn name(self) -> TopicName {
        let long = "traces/".repeat(20);
        let name = ["jobs", "shop/orders.v2", "metrics", &long[..139]][self.0];
        TopicName::new(name).expect("a legal name")
    }

    /// Its id.
    pub fn id(self) -> TopicId {
        static IDS: std::sync::OnceLock<[TopicId; 4]> = std::sync::OnceLock::new();
        IDS.get_or_init(|| TOPICS.map(|topic| TopicId::of(CLUSTER, topic.name().as_str())))[self.0]
    }

    /// Whether its bytes skip the journal.
    pub fn is_buffered(self) -> bool {
        self.0 >= 2
    }
}

/// What the sites of a run share.
pub struct Shared {
    /// Behind every choice.
    pub random: Random,
    /// What happened.
    pub trace: Trace,
    /// What every id was given to.
    pub names: model::Names,
    /// The number of the last step.
    pub step: u64,
    /// Topics of which something was ever trimmed.
    pub trimmed: BTreeSet<TopicId>,
    clock_ms: u64,
    nonce: u64,
}

impl Shared {
    fn new(seed: u64, is_printed: bool) -> Self {
        Self {
            random: Random::new(seed),
            trace: Trace::new(is_printed),
            names: model::Names::default(),
            step: 0,
            trimmed: BTreeSet::new(),
            clock_ms: 1_800_000_000_000,
            nonce: 0,
        }
    }

    /// The time now; it goes on by itself.
    pub fn now(&mut self) -> Timestamp {
        self.clock_ms += self.random.below(20);
        Timestamp::from_ms(self.clock_ms)
    }

    /// A number that no other payload has.
    pub fn nonce(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// How many events there were.
    pub event_count: u64,
    /// The hash over all events.
    pub hash: String,
    /// The last events.
    pub last: Vec<String>,
}

/// Runs one seed.
pub fn run(seed: u64, is_printed: bool) -> Report {
    run_scenario(Scenario::with(seed, is_printed))
}

/// Runs one seed over disks with a bug put in on purpose.
pub fn run_planted(seed: u64, plant: planted::Plant) -> Report {
    let mut scenario = Scenario::with(seed, false);
    scenario.sites[0].plant = Some(plant);
    run_scenario(scenario)
}

fn run_scenario(mut scenario: Scenario) -> Report {
    let result = catch_unwind(AssertUnwindSafe(|| swarm::run(&mut scenario)));
    let failure = result.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    });
    let trace = &scenario.shared.trace;
    Report { failure, event_count: trace.count(), hash: trace.hash(), last: trace.last() }
}
