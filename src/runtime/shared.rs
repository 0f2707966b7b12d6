//! What the core, the handles and the readers share.
#[cfg(feature = "planted")]
use crate::base::RunId;
use crate::base::{PeerId, PeerName, StoreNonce, TopicName, TopicSettings};
use crate::disk::IoExec;
use crate::identity::trust::Trust;
use crate::log::Store;
#[cfg(feature = "planted")]
use crate::replication::Remembered;
use crate::runtime::config::RuntimeConfig;
use crate::runtime::env::Env;
use crate::runtime::removals::KnownRemoval;
use crate::runtime::scrub::Rounds;
use crate::runtime::signed::Checks;
use crate::runtime::step_times::Timers;
use crate::runtime::watched::Watched;
use crate::runtime::watches::Watches;
use crate::wire::outcome::{About, AppendsState, ClockState};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What changes while a peer runs and is shown to people.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) appends: AppendsState,
    /// Whether nothing is taken any more, since the peer is about to stop.
    pub(super) is_closing: bool,
    pub(super) clock: ClockState,
    pub(super) free_bytes: u64,
    /// Appends that wait for other peers.
    pub(super) awaiting_count: u64,
    pub(super) configured: BTreeMap<TopicName, TopicSettings>,
    /// Entries that others hold and that are not here, and since when there are any.
    pub(super) missing_count: u64,
    pub(super) behind: Option<Instant>,
    /// Peers that were removed for good.
    pub(super) removed: BTreeMap<PeerId, KnownRemoval>,
}

pub(super) struct Shared {
    pub(super) about: About,
    pub(super) nonce: StoreNonce,
    pub(super) started_unix_ms: u64,
    pub(super) store: Arc<Store>,
    pub(super) env: Env,
    pub(super) defaults: TopicSettings,
    pub(super) reserve_bytes: u64,
    pub(super) trust: Arc<dyn Trust>,
    pub(super) checks: Checks,
    pub(super) live: Mutex<Live>,
    pub(super) names: Mutex<BTreeMap<PeerId, PeerName>>,
    pub(super) watches: Arc<Watches>,
    pub(super) steps: Timers,
    pub(super) scrubs: Rounds,
    /// The last step that is durable.
    pub(super) durable: AtomicU64,
    /// Set once, when the peer can go on no longer.
    pub(super) stopped: Watched<Option<String>>,
    /// Where replication's books and the log's were seen to say different things.
    #[cfg(feature = "planted")]
    pub(super) books_differ: Mutex<Option<String>>,
    /// What replication remembers of others, as of the last second.
    #[cfg(feature = "planted")]
    pub(super) remembered: Mutex<Remembered>,
    /// The runs that are written here, each with the one that it goes on from, as of the last second.
    #[cfg(feature = "planted")]
    pub(super) open_runs: Mutex<BTreeMap<RunId, RunId>>,
}

impl Shared {
    pub(super) fn new(
        about: About,
        nonce: StoreNonce,
        store: Arc<Store>,
        env: Env,
        config: &RuntimeConfig,
    ) -> Self {
        let live = Live {
            is_closing: false,
            appends: AppendsState::Open,
            clock: ClockState::Trusted,
            free_bytes: 0,
            awaiting_count: 0,
            configured: BTreeMap::new(),
            missing_count: 0,
            behind: None,
            removed: BTreeMap::new(),
        };
        let checks = Checks::new(store.clone(), config.trust.clone());
        Self {
            about,
            nonce,
            started_unix_ms: env.clock.unix_ms(),
            store,
            env,
            defaults: config.node.defaults,
            reserve_bytes: config.node.disk_reserve_bytes,
            trust: config.trust.clone(),
            checks,
            live: Mutex::new(live),
            names: Mutex::default(),
            watches: Arc::default(),
            steps: Timers::default(),
            scrubs: Rounds::default(),
            durable: AtomicU64::new(0),
            stopped: Watched::new(None),
            #[cfg(feature = "planted")]
            books_differ: Mutex::default(),
            #[cfg(feature = "planted")]
            remembered: Mutex::default(),
            #[cfg(feature = "planted")]
            open_runs: Mutex::default(),
        }
    }

    pub(super) fn io(&self) -> &Arc<dyn IoExec> {
        &self.env.io
    }

    pub(super) fn name_of(&self, peer: &PeerId) -> Option<PeerName> {
        let known = lock(&self.names).get(peer).cloned();
        known.or_else(|| {
            // Its certificate came since it was looked for last.
            let (named, name) = self.trust.peer_of(&self.store.certificate(peer)?).ok()?;
            let name = Some(name).filter(|_| named == *peer)?;
            lock(&self.names).insert(*peer, name.clone());
            Some(name)
        })
    }
}
