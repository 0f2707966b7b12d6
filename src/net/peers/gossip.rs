//! Gossip: who belongs to the cluster, where it is, and whether it lives. chitchat decides what is said; it is carried over
//! the connections of sessions, a stream for each message.
//!
//! Only slow facts travel so, each signed by the peer it is about ([`Facts`]): what is held where is told in sessions.
//! chitchat keeps a state for each id that any message names, and counts on their digest staying below 64 KiB. So what
//! comes is looked at before ([`message`]): ids beyond [`ID_COUNT_MAX`] are not let in, whoever names them, and nothing that
//! peers do not say.
mod message;

use crate::base::limits::GOSSIP_BYTES_MAX;
use crate::base::planted::{self, Bug};
use crate::net::counters::{Counter, SentKind};
use crate::net::peers::gossip::message::{Id, named_ids};
use crate::net::peers::members::Members;
use crate::net::peers::session::Session;
use crate::net::peers::{Peers, Running, lock};
use crate::wire::facts::Facts;
use crate::wire::greeting::PEER_FEATURES;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig,
    Serializable, spawn_chitchat,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Ids that are known at once, those of peers that died a while ago included.
pub const ID_COUNT_MAX: usize = 1_000;
/// Bytes of a digest at most: chitchat subtracts it from 65 507.
const DIGEST_BYTES_MAX: usize = 64_000;
const _: () = assert!(DIGEST_BYTES_MAX + 1_000 < 65_507);
/// Bytes of an id's name: the first hexadecimal digits of a store.
const NAME_BYTES: usize = 8;
/// Messages that came and wait.
const WAITING_COUNT_MAX: usize = 256;
/// The one fact, which has all.
const KEY: &str = "peer";
/// How often each peer gossips with three others.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an id of a peer that died is kept.
const DEAD_GRACE: Duration = Duration::from_secs(600);
/// How often what gossip says is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The gossip of one peer.
#[derive(Default)]
pub(super) struct Gossip {
    /// Where messages go that came.
    inbox: Mutex<Option<mpsc::Sender<(SocketAddr, Bytes)>>>,
    /// Its task, and what this peer says of itself.
    chitchat: Mutex<Option<(ChitchatHandle, Arc<str>)>>,
    ids: Mutex<Ids>,
    /// How often it began.
    began: AtomicU64,
    refused: Counter,
}

/// Ids that chitchat keeps a state of.
#[derive(Default)]
struct Ids {
    /// As far as was looked.
    known: BTreeSet<Id>,
    /// Those of the last message that was let in, which chitchat may not have taken yet.
    last: BTreeSet<Id>,
}

impl Gossip {
    /// Says hello to whoever is at `address`: what both know of others then goes both ways.
    pub(super) fn meet(&self, address: SocketAddr) {
        if let Some((chitchat, _)) = &*lock(&self.chitchat) {
            // Without its task it begins anew, and meets all again.
            let _ = chitchat.gossip(address);
        }
    }

    /// Messages that were not let in.
    pub(super) fn refused_count(&self) -> u64 {
        self.refused.get()
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        if let Some((chitchat, _)) = lock(&self.chitchat).take() {
            chitchat.abort();
        }
        *lock(&self.inbox) = None;
    }

    /// Takes a message that came from a session. What does not fit is as lost as a datagram.
    pub(super) fn came(&self, from: SocketAddr, message: Bytes) {
        let inbox = lock(&self.inbox).clone();
        let is_taken = inbox.is_some_and(|inbox| inbox.try_send((from, message)).is_ok());
        if !is_taken {
            tracing::debug!(%from, "a message of the gossip found no room");
        }
    }

    /// The message, if all ids that it names are known or may be. Called where chitchat takes it, right after the one before.
    fn admit(&self, bytes: &[u8]) -> Option<ChitchatMessage> {
        // What cannot be read counts for nothing, and what no peer sends is not unpacked.
        let message = named_ids(bytes).and_then(|named| {
            let message = ChitchatMessage::deserialize(&mut &bytes[..]).ok()?;
            self.admit_ids(named).then_some(message)
        });
        if message.is_none() {
            self.refused.add(1);
        }
        message
    }

    fn admit_ids(&self, named: Vec<Id>) -> bool {
        let mut ids = lock(&self.ids);
        // chitchat has taken the message before.
        let last = std::mem::take(&mut ids.last);
        ids.known.extend(last);
        let new: BTreeSet<Id> = named.into_iter().filter(|id| !ids.known.contains(id)).collect();
        let digest_bytes: usize = ids.known.iter().chain(&new).map(Id::digest_bytes).sum();
        let is_welcome = ids.known.len() + new.len() <= ID_COUNT_MAX && digest_bytes <= DIGEST_BYTES_MAX;
        if is_welcome {
            ids.last = new;
        }
        is_welcome
    }

    /// What chitchat keeps a state of now.
    fn keep(&self, known: BTreeSet<Id>) {
        lock(&self.ids).known = known;
    }
}

/// chitchat's transport.
struct OverSessions(Arc<Peers>);

struct Post {
    peers: Arc<Peers>,
    inbox: mpsc::Receiver<(SocketAddr, Bytes)>,
}

#[async_trait]
impl Transport for OverSessions {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(WAITING_COUNT_MAX);
        *lock(&self.0.gossip.inbox) = Some(sender);
        Ok(Box::new(Post { peers: self.0.clone(), inbox }))
    }
}

#[async_trait]
impl Socket for Post {
    /// Never waits and never fails: chitchat's only task sends, and takes an error for the end.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        // Whom there is no session with is dialled by what gossip says of it.
        if let Some(session) = self.peers.session_at(to) {
            let bytes = message.serialize_to_vec();
            match bytes.len() <= GOSSIP_BYTES_MAX {
                true => {
                    self.peers.counters.sent_to_peers.add(SentKind::Gossip, bytes.len());
                    session.gossip(bytes.into());
                }
                false => {
                    tracing::warn!(bytes = bytes.len(), "a message of the gossip is too long to be sent")
                }
            }
        } else if planted::is(Bug::GossipEndsWithALostPeer) {
            *lock(&self.peers.gossip.inbox) = None;
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (from, bytes) = self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the peer stops"))?;
            match self.peers.gossip.admit(&bytes) {
                Some(message) => return Ok((from, message)),
                None => tracing::debug!(%from, "a message of the gossip was not let in"),
            }
        }
    }
}

/// Ends chitchat's task, which nobody else knows of, with the one that goes by what it says.
struct StopsGossip(Arc<Peers>);

impl Drop for StopsGossip {
    fn drop(&mut self) {
        self.0.gossip.stop();
    }
}

impl Peers {
    /// The session with whoever is reached at `address`: as it signed, or as it said when it greeted.
    fn session_at(&self, address: SocketAddr) -> Option<Arc<Session>> {
        // One lock at a time.
        let signed = lock(&self.members).at(address);
        let sessions = lock(&self.sessions);
        let greeted = || sessions.values().find(|session| session.other.address == address);
        signed.and_then(|store| sessions.get(&store)).or_else(greeted).cloned()
    }

    /// Begins to gossip once it is known where others reach this peer, and goes by what it hears, until the peer stops.
    pub(super) async fn keep_gossiping(self: Arc<Self>) {
        let _stops = StopsGossip(self.clone());
        while let Some(running) = self.running() {
            let has_begun = lock(&self.gossip.chitchat).is_some();
            match (has_begun, self.own_address(&running)) {
                (false, Some(address)) => self.begin_gossip(&running, address).await,
                (true, _) => self.hear_gossip(&running).await,
                (false, None) => {}
            }
            drop(running);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn begin_gossip(self: &Arc<Self>, running: &Running, address: SocketAddr) {
        let about = running.handle.about();
        let generation = self.gossip.began.fetch_add(1, Ordering::Relaxed) + 1;
        let id = ChitchatId::new(about.store.short(), generation, address);
        self.gossip.keep(BTreeSet::from([Id::of(&id)]));
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: about.cluster.to_string(),
            gossip_interval: INTERVAL,
            listen_addr: address,
            // Sessions bring peers together.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                dead_node_grace_period: DEAD_GRACE,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: DEAD_GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let facts = Facts {
            cluster: about.cluster,
            peer: about.peer,
            nonce: running.handle.store_nonce(),
            features: PEER_FEATURES,
            address,
            name: about.name.clone(),
        };
        let own: Arc<str> = (running.seal)(&facts).into();
        let values = vec![(KEY.to_owned(), own.to_string())];
        match spawn_chitchat(config, values, &OverSessions(self.clone())).await {
            Ok(chitchat) => {
                tracing::debug!(%address, "gossip begins");
                *lock(&self.gossip.chitchat) = Some((chitchat, own));
                for other in self.connected() {
                    self.gossip.meet(other.address);
                }
            }
            Err(error) => tracing::error!(%error, "there is no gossip"),
        }
    }

    /// Learns who lives, and has those dialled whom there is no session with.
    async fn hear_gossip(&self, running: &Running) {
        let Some(address) = self.own_address(running) else { return };
        let chitchat = match &*lock(&self.gossip.chitchat) {
            // It knows of no session at one's own address, so this is said to nobody.
            Some((handle, own)) if handle.gossip(address).is_ok() => Some((handle.chitchat(), own.clone())),
            _ => None,
        };
        let Some((chitchat, own)) = chitchat else {
            if planted::is(Bug::GossipEndsWithALostPeer) {
                return;
            }
            tracing::error!("gossip ended, as no message should make it; it begins anew");
            self.gossip.stop();
            return;
        };
        let (said, ids) = {
            let mut chitchat = chitchat.lock().await;
            // Another peer may have said something else in our name.
            if chitchat.self_node_state().get(KEY) != Some(&*own) {
                chitchat.self_node_state().set(KEY, &*own);
            }
            let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
            let said: Vec<_> = chitchat
                .node_states()
                .iter()
                .filter_map(|(id, state)| Some((Id::of(id), live.contains(id), state.get(KEY)?.to_owned())))
                .collect();
            let ids: BTreeSet<Id> = chitchat.node_states().keys().map(Id::of).collect();
            (said, ids)
        };
        self.gossip.keep(ids);
        let about = running.handle.about();
        let told = said.into_iter().map(|(id, is_alive, text)| (id.name, is_alive, text));
        // Signatures are checked while nobody waits for this.
        let before = self.members();
        let mut members = before.hear(told, |text| Facts::open(text, about.cluster, &*running.trust));
        let alive = members
            .alive(about.store, &self.connected_stores(), |peer| running.handle.removal_of(peer).is_some());
        *lock(&self.members) = members;
        self.dialler.learn(&alive);
    }

    /// Everybody who was heard of, whether or not there is a session.
    pub fn members(&self) -> Members {
        lock(&self.members).clone()
    }
}

#[cfg(test)]
mod tests;
