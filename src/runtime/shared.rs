//! What the core, the handles and the readers share.
use crate::base::{PeerId, PeerName, TopicId, TopicName, TopicSettings};
use crate::disk::IoExec;
use crate::identity::certificate::Authority;
use crate::log::Store;
use crate::runtime::env::Env;
use crate::wire::outcome::{About, AppendsState, ClockState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What changes while a peer runs and is shown to people.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) appends: AppendsState,
    pub(super) clock: ClockState,
    pub(super) free_bytes: u64,
    pub(super) configured: BTreeMap<TopicName, TopicSettings>,
}

pub(super) struct Shared {
    pub(super) about: About,
    pub(super) started_unix_ms: u64,
    pub(super) store: Arc<Store>,
    pub(super) env: Env,
    pub(super) defaults: TopicSettings,
    pub(super) reserve_bytes: u64,
    pub(super) authority: Option<Authority>,
    pub(super) live: Mutex<Live>,
    pub(super) names: Mutex<BTreeMap<PeerId, PeerName>>,
    watches: Mutex<BTreeMap<TopicId, watch::Sender<u64>>>,
    /// Set once, when the peer can go on no longer.
    pub(super) stopped: watch::Sender<Option<String>>,
}

impl Shared {
    pub(super) fn new(
        about: About,
        started_unix_ms: u64,
        store: Arc<Store>,
        env: Env,
        defaults: TopicSettings,
        reserve_bytes: u64,
    ) -> Self {
        let live = Live {
            appends: AppendsState::Open,
            clock: ClockState::Trusted,
            free_bytes: 0,
            configured: BTreeMap::new(),
        };
        Self {
            about,
            started_unix_ms,
            store,
            env,
            defaults,
            reserve_bytes,
            authority: None,
            live: Mutex::new(live),
            names: Mutex::default(),
            watches: Mutex::default(),
            stopped: watch::Sender::new(None),
        }
    }

    pub(super) fn io(&self) -> &Arc<dyn IoExec> {
        &self.env.io
    }

    /// Wakes when more of a topic may be readable.
    pub(super) fn watch(&self, topic: TopicId) -> watch::Receiver<u64> {
        lock(&self.watches).entry(topic).or_default().subscribe()
    }

    /// Wakes the readers of a topic; forgets topics that nobody watches.
    pub(super) fn wake(&self, topic: TopicId) {
        let mut watches = lock(&self.watches);
        let Some(watch) = watches.get(&topic) else { return };
        if watch.receiver_count() == 0 {
            watches.remove(&topic);
        } else {
            watch.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn name_of(&self, peer: &PeerId) -> Option<PeerName> {
        lock(&self.names).get(peer).cloned()
    }
}
