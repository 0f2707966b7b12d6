//! Sessions with other peers: one connection for each pair of stores, whoever dialled.
//!
//! ```text
//! dial ──> connection ──> greeting ──┐
//!                                    ├─> of two with one store the one of higher rank ──> session ──> Handle
//! accept ─> connection ──> greeting ─┘
//! ```
//!
//! A connection says who the other peer is: TLS checked its certificate. Which of its stores it is it says itself, and it
//! cannot name another peer's: a store's name is made of its peer's key. What is said in a session goes to the [`Handle`], which believes none of it unseen.
mod dial;
mod door;
mod gossip;
mod greet;
mod lanes;
mod members;
mod removed;
mod seen;
mod session;

pub use door::PeerDoor;
pub use gossip::ID_COUNT_MAX;
pub use members::{Member, Members};
pub use seen::Seen;

use crate::base::{PeerId, PeerName, StoreId};
use crate::identity::sign::Signer;
use crate::identity::trust::ClusterTrust;
use crate::identity::{Credentials, tls};
use crate::net::accept;
use crate::net::counters::{Counters, SentKind};
use crate::net::endpoint::{self, NetConfig, NetEnv, SetupError};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::quic::unfinished::Unfinished;
use crate::runtime::env::Entropy;
use crate::runtime::{Handle, PeerNet, Place};
use crate::wire::facts::Facts;
use crate::wire::greeting::{Declined, Rank};
use crate::wire::peer::PeerMessage;
use dial::Dialler;
use gossip::Gossip;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, VarInt};
use session::{EndsSession, Inbox, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The code of a connection between peers that gives way to another one.
const DUPLICATE: VarInt = VarInt::from_u32(6);
/// The code of one whose other side is not a peer, or did not greet.
const NOT_A_PEER: VarInt = VarInt::from_u32(7);
/// The code of one whose other side takes nothing, or said what no peer says.
const GIVEN_UP: VarInt = VarInt::from_u32(8);

/// Bytes of small messages of one session that have come in part or wait for the engine, at most.
const SMALL_BYTES_MAX: usize = 2 << 20;

/// How long an answer with batches waits for room: less than the other side gives it before it asks others too.
const PLACE_TIME_MAX: Duration = Duration::from_secs(2);

/// Sessions with stores of one key: a peer, those that it was before its last starts and whose end was not heard of, and
/// clones of its directory. More are declined, so that no peer takes the sessions of all others.
const STORES_OF_ONE_MAX: usize = 8;

/// How peers find each other.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Where to look for other peers, `host:port`: asked again for as long as nobody is connected from there.
    pub join: Vec<String>,
    /// Where others reach this peer; `None`: where its connections come from.
    pub advertise: Option<SocketAddr>,
    /// Sessions at most; further ones are declined.
    pub session_count_max: usize,
    /// Bytes that another peer may send ahead of what was read, over all streams of its connection.
    pub receive_window_bytes: u32,
    /// Bytes sent to another peer that it has not acknowledged.
    pub send_window_bytes: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            join: Vec::new(),
            advertise: None,
            session_count_max: 1_000,
            receive_window_bytes: 32 << 20,
            send_window_bytes: 32 << 20,
        }
    }
}

/// All sessions of a peer.
pub struct Peers {
    config: PeersConfig,
    env: NetEnv,
    entropy: Arc<dyn Entropy>,
    counters: Arc<Counters>,
    unfinished: Arc<Unfinished>,
    /// Of the locks here one is held at a time, but for `running` under this one.
    sessions: Mutex<BTreeMap<StoreId, Arc<Session>>>,
    /// What a peer gets once it runs.
    running: Mutex<Option<Running>>,
    dialler: Dialler,
    gossip: Gossip,
    members: Mutex<Members>,
    /// Where others reach this peer, as one of them saw it.
    seen_at: Mutex<Option<SocketAddr>>,
}

/// What is there between the start of the peer and its end.
#[derive(Clone)]
struct Running {
    handle: Handle,
    endpoint: Endpoint,
    client: ClientConfig,
    trust: Arc<ClusterTrust>,
    /// Signs what this peer says of itself.
    seal: Arc<dyn Fn(&Facts) -> String + Send + Sync>,
}

/// A connection on which both have greeted.
struct Greeted {
    other: Other,
    rank: Rank,
    connection: Connection,
    streams: (FrameWriter, FrameReader),
}

/// Who is at the other end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its data directory during this start.
    pub store: StoreId,
    /// Its key.
    pub peer: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Where others reach it.
    pub address: SocketAddr,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    /// No sessions yet. What is sent goes nowhere until [`Self::start`].
    pub fn new(
        config: PeersConfig,
        net: &NetConfig,
        env: NetEnv,
        entropy: Arc<dyn Entropy>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let dialler = Dialler::new(&config.join);
        Arc::new(Self {
            config,
            env,
            entropy,
            counters,
            unfinished: Unfinished::new(net.unfinished),
            sessions: Mutex::default(),
            running: Mutex::default(),
            dialler,
            gossip: Gossip::default(),
            members: Mutex::default(),
            seen_at: Mutex::default(),
        })
    }

    /// Begins: `handle` hears of sessions and messages, and others are dialled from `endpoint`.
    pub fn start(
        self: &Arc<Self>,
        handle: Handle,
        endpoint: Endpoint,
        credentials: &Credentials,
        net: &NetConfig,
    ) -> Result<(), SetupError> {
        let refused = |reason: String| SetupError::Credentials { reason };
        let tls = tls::client_config(credentials, self.env.clock.clone(), tls::ALPN_PEER)
            .map_err(|error| refused(error.to_string()))?;
        let tls = QuicClientConfig::try_from(tls).map_err(|error| refused(error.to_string()))?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(Arc::new(endpoint::peer_transport(net)));
        let trust = Arc::new(ClusterTrust::new(credentials.authority().clone()));
        let credentials = credentials.clone();
        let seal = Arc::new(move |facts: &Facts| {
            facts.sealed(&credentials.chain()[0], |message| credentials.signer().sign(message))
        });
        *lock(&self.running) = Some(Running { handle, endpoint, client, trust, seal });
        let (dialling, gossiping) = (self.clone(), self.clone());
        self.env.runtime.spawn(Box::pin(async move { dialling.keep_dialling().await }));
        self.env.runtime.spawn(Box::pin(async move { gossiping.keep_gossiping().await }));
        Ok(())
    }

    /// Begins no sessions any more, ends those there are, and waits until they are over.
    pub async fn stop(&self) {
        *lock(&self.running) = None;
        self.gossip.stop();
        let sessions: Vec<_> = lock(&self.sessions).values().cloned().collect();
        for session in &sessions {
            session.connection.close(accept::STOPPING, b"the peer is stopping");
        }
        for session in sessions {
            session.has_ended.find(|ended| ended.then_some(())).await;
        }
    }

    /// Connections with other peers at most: those that may have a session, and as many that end or take the place of one.
    pub fn connection_count_max(&self) -> usize {
        self.config.session_count_max * 2
    }

    /// Messages of the gossip that were not let in.
    pub fn gossip_refused_count(&self) -> u64 {
        self.gossip.refused_count()
    }

    /// What passes through.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// With whom there are sessions now, in order of stores.
    pub fn connected(&self) -> Vec<Other> {
        lock(&self.sessions).values().map(|session| session.other.clone()).collect()
    }

    fn running(&self) -> Option<Running> {
        lock(&self.running).clone()
    }

    fn session(&self, store: StoreId) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&store).cloned()
    }

    /// Where others reach this peer, as far as it is known.
    fn own_address(&self, running: &Running) -> Option<SocketAddr> {
        let bound = || running.endpoint.local_addr().ok().filter(|bound| !bound.ip().is_unspecified());
        self.config.advertise.or_else(bound).or(*lock(&self.seen_at))
    }

    /// Another peer, at `from`, says where it sees this one. On another host than that it can see none of this one's own
    /// addresses.
    fn is_seen_at(&self, address: SocketAddr, from: SocketAddr) {
        let (ip, from) = (address.ip().to_canonical(), from.ip().to_canonical());
        if !ip.is_unspecified() && ip.is_loopback() == from.is_loopback() {
            lock(&self.seen_at).get_or_insert(SocketAddr::new(ip, address.port()));
        }
    }

    fn connected_stores(&self) -> BTreeSet<StoreId> {
        lock(&self.sessions).keys().copied().collect()
    }

    /// Whether a connection that another store dialled may become its session.
    fn may_be_welcome(&self, own: StoreId, store: StoreId, peer: PeerId, rank: Rank) -> Result<(), Declined> {
        if self.is_removed(&peer) {
            return Err(Declined::Removed);
        }
        match self.session(store) {
            Some(there) if !there.rank.is_dialled_like(&rank) => Err(Declined::Connected { store: own }),
            _ => self.may_have(own, store, peer, rank),
        }
    }

    /// Whether a connection of such a rank, with a store that says to be a peer's, may become its session.
    fn may_have(&self, own: StoreId, store: StoreId, peer: PeerId, rank: Rank) -> Result<(), Declined> {
        self.may_be_among(&lock(&self.sessions), own, (store, peer), rank)
    }

    fn may_be_among(
        &self,
        sessions: &BTreeMap<StoreId, Arc<Session>>,
        own: StoreId,
        (store, peer): (StoreId, PeerId),
        rank: Rank,
    ) -> Result<(), Declined> {
        match sessions.get(&store) {
            _ if store == own => Err(Declined::Oneself),
            Some(there) if there.rank >= rank => Err(Declined::Connected { store: own }),
            Some(_) => Ok(()),
            None => {
                let of_one = sessions.values().filter(|there| there.other.peer == peer).count();
                let is_full = sessions.len() >= self.config.session_count_max || of_one >= STORES_OF_ONE_MAX;
                if is_full { Err(Declined::Full) } else { Ok(()) }
            }
        }
    }

    /// Puts a session in the place of one of lower rank, once that has ended.
    async fn install(&self, own: StoreId, session: &Arc<Session>) -> Result<(), Declined> {
        let Other { store, peer, .. } = session.other;
        loop {
            let there = {
                let mut sessions = lock(&self.sessions);
                // A peer that stops ends those that it finds here, and takes no others.
                if lock(&self.running).is_none() {
                    return Err(Declined::Full);
                }
                self.may_be_among(&sessions, own, (store, peer), session.rank)?;
                match sessions.get(&store) {
                    Some(there) => there.clone(),
                    None => {
                        // At one address there is one store: what had it before was started again.
                        let is_before = |there: &&Arc<Session>| {
                            let other = &there.other;
                            other.peer == peer && other.address == session.other.address
                        };
                        for before in sessions.values().filter(is_before) {
                            before.connection.close(GIVEN_UP, b"the peer was started again");
                        }
                        sessions.insert(store, session.clone());
                        return Ok(());
                    }
                }
            };
            there.connection.close(DUPLICATE, b"another connection takes its place");
            there.has_ended.find(|ended| ended.then_some(())).await;
        }
    }

    /// Has a session over a connection until either ends.
    async fn hold(self: &Arc<Self>, running: &Running, greeted: Greeted) -> Result<(), Declined> {
        let Greeted { other, rank, connection, streams } = greeted;
        connection.set_receive_window(VarInt::from_u32(self.config.receive_window_bytes));
        connection.set_send_window(self.config.send_window_bytes);
        // A stream for batches, and short ones for the gossip.
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(64));
        // The one of the greeting.
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
        let unfinished = self.unfinished.of_one(SMALL_BYTES_MAX);
        let session = Session::new(other.clone(), rank, connection.clone(), unfinished);
        if let Err(declined) = self.install(running.handle.about().store, &session).await {
            connection.close(DUPLICATE, declined.to_string().as_bytes());
            return Err(declined);
        }
        let Other { store, peer, name, address } = &other;
        tracing::info!(%name, %address, %store, "connected to a peer");
        self.counters.sessions_begun.add(1);
        let ended = EndsSession { peers: self.clone(), session: session.clone() };
        running.handle.peer_up(*store, *peer).await;
        self.gossip.meet(*address);
        let inbox = Inbox { peers: self.clone(), handle: running.handle.clone() };
        let error = session.run(streams, &inbox).await;
        connection.close(GIVEN_UP, b"the session ended");
        session.is_read().await;
        running.handle.peer_down(*store).await;
        drop(ended);
        tracing::info!(%name, %address, %store, %error, "a peer is not connected any more");
        Ok(())
    }
}

impl PeerNet for Peers {
    fn send(&self, to: StoreId, message: PeerMessage) {
        let Some(session) = self.session(to) else { return };
        self.counters.peer_messages_sent.add(1);
        let bytes = message.wire_bytes();
        self.counters.peer_bytes_sent.add(bytes as u64);
        self.counters.sent_to_peers.add(SentKind::of(&message), bytes);
        if !session.send(message, bytes) && session.connection.close_reason().is_none() {
            self.counters.sessions_given_up.add(1);
            session.connection.close(GIVEN_UP, b"it takes nothing");
        }
    }

    fn has_room(&self, to: StoreId) -> bool {
        self.session(to).is_some_and(|session| session.has_room())
    }

    fn place(&self, to: StoreId) -> Pin<Box<dyn Future<Output = Option<Place>> + Send>> {
        let session = self.session(to);
        Box::pin(async move {
            let session = session?;
            let permit = tokio::select! {
                biased;
                () = session.has_ended.find(|ended| ended.then_some(())) => None,
                () = tokio::time::sleep(PLACE_TIME_MAX) => None,
                permit = session.place() => permit,
            };
            permit.map(|permit| -> Place { Box::new(permit) })
        })
    }
}
