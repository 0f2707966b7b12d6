//! Gossip: who belongs to the cluster, where it is, and whether it lives. chitchat decides what is said; it is carried over
//! the connections of sessions, a stream for each message.
//!
//! Only slow facts travel so, each signed by the peer it is about ([`Facts`]): what is held where is told in sessions.
//! chitchat keeps a state for each id that any message names, and counts on their digest staying below 64 KiB. So what
//! comes is looked at before: ids beyond [`ID_COUNT_MAX`] are not let in, whoever names them.
use crate::net::peers::members::Members;
use crate::net::peers::session::Session;
use crate::net::peers::{Peers, Running, lock};
use crate::wire::facts::Facts;
use crate::wire::greeting::PEER_FEATURES;
use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig,
    Serializable, spawn_chitchat,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Ids that are known at once, those of peers that died a while ago included.
pub const ID_COUNT_MAX: usize = 1_000;
/// Bytes of a digest at most: chitchat subtracts it from 65 507.
const DIGEST_BYTES_MAX: usize = 64_000;
const _: () = assert!(DIGEST_BYTES_MAX + 1_000 < 65_507);
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
    inbox: Mutex<Option<mpsc::Sender<(SocketAddr, ChitchatMessage)>>>,
    chitchat: Mutex<Option<ChitchatHandle>>,
    /// Ids that chitchat keeps a state of.
    ids: Mutex<BTreeSet<Id>>,
}

impl Gossip {
    /// Says hello to whoever is at `address`: what both know of others then goes both ways.
    pub(super) fn meet(&self, address: SocketAddr) {
        if let Some(chitchat) = &*lock(&self.chitchat) {
            // Without its task there is no gossip any more, and the peer stops.
            let _ = chitchat.gossip(address);
        }
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        if let Some(chitchat) = lock(&self.chitchat).take() {
            chitchat.abort();
        }
        *lock(&self.inbox) = None;
    }

    /// Takes a message that came from a session. False where it is not let in.
    pub(super) fn came(&self, from: SocketAddr, bytes: &[u8]) -> bool {
        if !self.admit(bytes) {
            return false;
        }
        let Ok(message) = ChitchatMessage::deserialize(&mut &bytes[..]) else { return false };
        let inbox = lock(&self.inbox).clone();
        // What does not fit is as lost as a datagram.
        inbox.is_some_and(|inbox| inbox.try_send((from, message)).is_ok())
    }

    /// Whether all ids that a message names are known, or may be.
    fn admit(&self, bytes: &[u8]) -> bool {
        let Some(named) = named_ids(bytes) else { return false };
        let mut ids = lock(&self.ids);
        let new: BTreeSet<Id> = named.into_iter().filter(|id| !ids.contains(id)).collect();
        let digest_bytes: usize = ids.iter().chain(&new).map(Id::digest_bytes).sum();
        let is_welcome = ids.len() + new.len() <= ID_COUNT_MAX && digest_bytes <= DIGEST_BYTES_MAX;
        if is_welcome {
            ids.extend(new);
        }
        is_welcome
    }
}

/// An id as it stands in messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    name: String,
    generation: u64,
    address: SocketAddr,
}

impl Id {
    fn of(id: &ChitchatId) -> Self {
        let (name, generation) = (id.node_id.to_string(), id.generation_id);
        Self { name, generation, address: id.gossip_advertise_addr }
    }

    /// Bytes of its entry in a digest: name, generation, address, heartbeat and two versions.
    fn digest_bytes(&self) -> usize {
        let address = if self.address.is_ipv4() { 7 } else { 19 };
        2 + self.name.len() + 8 + address + 24
    }
}

/// The ids in a message's digest; `None` where it is no message.
fn named_ids(bytes: &[u8]) -> Option<Vec<Id>> {
    const SYN: u8 = 0;
    const SYN_ACK: u8 = 1;
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    if !matches!(head[3], SYN | SYN_ACK) {
        // It has no digest, and chitchat takes facts of ids alone that it knows.
        return Some(Vec::new());
    }
    let mut r = crate::base::bytes_io::Reader::new(rest);
    let count = usize::from(r.u16().ok()?);
    if count > ID_COUNT_MAX {
        return None;
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let name_bytes = usize::from(r.u16().ok()?);
        let name = std::str::from_utf8(r.take(name_bytes).ok()?).ok()?.to_owned();
        let generation = r.u64().ok()?;
        let ip = match r.u8().ok()? {
            4 => IpAddr::from(Ipv4Addr::from(r.array::<4>().ok()?)),
            6 => IpAddr::from(Ipv6Addr::from(r.array::<16>().ok()?)),
            _ => return None,
        };
        let address = SocketAddr::new(ip, r.u16().ok()?);
        let _heartbeat_and_versions = r.array::<24>().ok()?;
        ids.push(Id { name, generation, address });
    }
    Some(ids)
}

/// chitchat's transport.
struct OverSessions(Arc<Peers>);

struct Post {
    peers: Arc<Peers>,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
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
            session.gossip(message.serialize_to_vec().into());
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the peer stops"))
    }
}

impl Peers {
    /// The session with whoever says to be reached at `address`.
    fn session_at(&self, address: SocketAddr) -> Option<Arc<Session>> {
        let sessions = lock(&self.sessions);
        let there = sessions.values().find(|session| session.other.address == address);
        let told = || sessions.get(&lock(&self.members).at(address)?);
        there.or_else(told).cloned()
    }

    /// Begins to gossip once it is known where others reach this peer, and goes by what it hears, until the peer stops.
    pub(super) async fn keep_gossiping(self: Arc<Self>) {
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
        self.gossip.stop();
    }

    async fn begin_gossip(self: &Arc<Self>, running: &Running, address: SocketAddr) {
        let about = running.handle.about();
        let id = ChitchatId::new(about.store.short(), 1, address);
        let facts = Facts {
            cluster: about.cluster,
            peer: about.peer,
            store: about.store,
            features: PEER_FEATURES,
            address,
            name: about.name.clone(),
        };
        lock(&self.gossip.ids).insert(Id::of(&id));
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
        let values = vec![(KEY.to_owned(), (running.seal)(&facts))];
        match spawn_chitchat(config, values, &OverSessions(self.clone())).await {
            Ok(chitchat) => {
                tracing::debug!(%address, "gossip begins");
                *lock(&self.gossip.chitchat) = Some(chitchat);
                for other in self.connected() {
                    self.gossip.meet(other.address);
                }
            }
            Err(error) => tracing::error!(%error, "there is no gossip"),
        }
    }

    /// Learns who lives, and has those dialled whom there is no session with.
    async fn hear_gossip(&self, running: &Running) {
        let Some(chitchat) = lock(&self.gossip.chitchat).as_ref().map(ChitchatHandle::chitchat) else {
            return;
        };
        let (said, ids) = {
            let chitchat = chitchat.lock().await;
            let live: BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
            let said: Vec<_> = chitchat
                .node_states()
                .iter()
                .filter_map(|(id, state)| Some((Id::of(id), live.contains(id), state.get(KEY)?.to_owned())))
                .collect();
            let ids: BTreeSet<Id> = chitchat.node_states().keys().map(Id::of).collect();
            (said, ids)
        };
        *lock(&self.gossip.ids) = ids;
        let about = running.handle.about();
        let told = said.into_iter().map(|(id, is_alive, text)| (id.name, is_alive, text));
        let trust = &*running.trust;
        lock(&self.members).hear(told, |text| Facts::open(text, about.cluster, trust));
        let is_connected = |store| self.session(store).is_some();
        let absent = lock(&self.members).absent(about.store, is_connected);
        self.dialler.learn(absent);
    }

    /// Everybody who was heard of, whether or not there is a session.
    pub fn members(&self) -> Members {
        lock(&self.members).clone()
    }
}

#[cfg(test)]
mod tests;
