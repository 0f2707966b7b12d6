//! Messages between stores: in order while a session lasts, late, and sometimes not as promised.
//!
//! ```text
//! send(a to b) ──> weather: lost? twice? when? ──> b's side of the session: a bounded queue ──> b.receive(a, message)
//! ```
//!
//! A session has two sides, which may disagree for a while on whether there is one: see `membership`. What is sent to a
//! store whose side is gone is nobody's. A way that is blocked holds back what was sent on it, until it is open again or
//! the session is given up.
use crate::cluster::liar::{Liar, Lie};
use crate::cluster::life::{Life, spawn};
use crate::cluster::lock;
use crate::cluster::membership::Membership;
use crate::cluster::mesh::Mesh;
use crate::cluster::recorder::Recorder;
use crate::random::Random;
use conveyor::base::limits::{BATCH_BYTES_MAX, PEER_MESSAGE_BYTES_MAX};
use conveyor::base::{PeerId, StoreId};
use conveyor::replication::bounds::LOGS_BYTES_MAX;
use conveyor::runtime::{Handle, PeerNet, Watched};
use conveyor::wire::peer::{LogSummary, PeerMessage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes that may wait in one direction of a session; beyond that the session is given up.
pub const WAITING_BYTES_MAX: usize = 8 << 20;

/// How messages fare.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Milliseconds that a message takes at least.
    pub latency_ms: u64,
    /// And by chance up to so many more.
    pub jitter_ms: u64,
    /// Bytes a second in each direction of a session.
    pub bytes_per_s: u64,
    /// In a million: messages that are lost, with the session going on.
    pub lost: u64,
    /// In a million: messages that come twice.
    pub doubled: u64,
    /// In a million: messages that overtake the one before.
    pub swapped: u64,
    /// In a million: messages that hold up everything behind them for up to five seconds.
    pub delayed: u64,
}

impl Weather {
    /// A quick local network without faults.
    pub const FAIR: Self = Self {
        latency_ms: 1,
        jitter_ms: 2,
        bytes_per_s: 50 << 20,
        lost: 0,
        doubled: 0,
        swapped: 0,
        delayed: 0,
    };
}

/// A live store that can be reached.
#[derive(Clone)]
pub struct End {
    /// Which of the run's sites it is.
    pub site: usize,
    /// Its peer.
    pub peer: PeerId,
    /// The way in.
    pub handle: Handle,
    /// Its process.
    pub life: Arc<Life>,
}

/// What one store believes of a session with another, and what is on its way to it.
pub(super) struct Side {
    /// Both sides of a session have the same number.
    pub(super) session: u64,
    sites: (usize, usize),
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Set when the store is to be told that the session is over, after so many milliseconds.
    over: Watched<Option<u64>>,
    is_told: Watched<bool>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<(Instant, PeerMessage)>,
    bytes: usize,
    /// When the last byte that was sent is on its way.
    free_at: Option<Instant>,
}

/// Everything between the stores.
pub struct Network {
    pub(super) recorder: Arc<Recorder>,
    pub(super) inner: Mutex<Inner>,
    blocked: Watched<BTreeSet<(usize, usize)>>,
    /// Who reaches whom at all, where that is not everybody.
    mesh: Mutex<Option<Mesh>>,
    /// How often ways were blocked.
    blocks: AtomicU64,
    /// Whether each message is an event.
    is_detailed: bool,
    /// Whether who is told of entries is heard to say the same, before it has them.
    forges_copies: AtomicBool,
}

pub(super) struct Inner {
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) ends: BTreeMap<StoreId, End>,
    /// By who believes, and in a session with whom.
    pub(super) sides: BTreeMap<(StoreId, StoreId), Arc<Side>>,
    /// Sides that were given up, by the same, as long as another may follow: it waits until the store was told.
    ending: BTreeMap<(StoreId, StoreId), Arc<Side>>,
    /// Sites that do not send what their peers say.
    liars: BTreeMap<usize, Liar>,
    pub(super) membership: Membership,
    pub(super) sessions: u64,
    counts: Counts,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages handed over.
    pub delivered: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that went nowhere.
    pub lost: u64,
    /// Sessions that began.
    pub sessions: u64,
}

impl Network {
    /// No stores yet.
    pub fn new(recorder: Arc<Recorder>, random: Random, weather: Weather, is_detailed: bool) -> Arc<Self> {
        let inner = Inner {
            random,
            weather,
            ends: BTreeMap::new(),
            sides: BTreeMap::new(),
            ending: BTreeMap::new(),
            liars: BTreeMap::new(),
            membership: Membership::default(),
            sessions: 0,
            counts: Counts::default(),
        };
        Arc::new(Self {
            recorder,
            inner: Mutex::new(inner),
            blocked: Watched::new(BTreeSet::new()),
            mesh: Mutex::default(),
            blocks: AtomicU64::new(0),
            is_detailed,
            forges_copies: AtomicBool::new(false),
        })
    }

    /// Has everybody heard to hold what it was told of.
    pub(super) fn forge_copies(&self, is_forged: bool) {
        self.forges_copies.store(is_forged, Ordering::Relaxed);
    }

    /// What `store` sends messages with.
    pub fn port(self: &Arc<Self>) -> Arc<Port> {
        Arc::new(Port { network: self.clone(), store: Mutex::default() })
    }

    /// A store came up.
    pub fn join(&self, store: StoreId, end: End) {
        let mut inner = lock(&self.inner);
        inner.ends.insert(store, end);
        inner.membership.look_again();
    }

    /// A store's process is over: it hears nothing more, and others will notice.
    pub fn leave(&self, store: StoreId) {
        let mut inner = lock(&self.inner);
        inner.ends.remove(&store);
        let mine: Vec<_> = inner.sides.keys().filter(|(me, _)| *me == store).copied().collect();
        mine.into_iter().for_each(|key| inner.end_side(key, 0));
        inner.ending.retain(|(me, other), _| *me != store && *other != store);
        inner.membership.look_again();
    }

    /// Somebody was frozen or thawed.
    pub fn look_again(&self) {
        lock(&self.inner).membership.look_again();
    }

    /// Lets nothing through from the first to the second site of each pair, and everything else. Answers a number for
    /// [`Self::open_again`].
    pub fn block(&self, ways: BTreeSet<(usize, usize)>) -> u64 {
        self.blocked.set(ways);
        lock(&self.inner).membership.look_again();
        self.blocks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Opens all ways, unless others were blocked since; says whether it did.
    pub fn open_again(&self, number: u64) -> bool {
        let is_last = self.blocks.load(Ordering::Relaxed) == number;
        if is_last {
            self.block(BTreeSet::new());
        }
        is_last
    }

    /// Whether messages pass from one site to another.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        let is_way = lock(&self.mesh).as_ref().is_none_or(|mesh| mesh.has(from, to));
        is_way && !self.blocked.look(|ways| ways.contains(&(from, to)))
    }

    /// From now on there are sessions along the edges of this graph alone. Before any store is up.
    pub fn set_mesh(&self, mesh: Mesh) {
        self.recorder.note(format_args!("{mesh:?}"));
        *lock(&self.mesh) = Some(mesh);
    }

    /// A site came that is a copy of another: it has its ways.
    pub fn add_copy(&self, copy: usize, of: usize) {
        lock(&self.mesh).iter_mut().for_each(|mesh| mesh.add_copy(copy, of));
    }

    /// Those of `sites` that reach the first of them by each other when nothing is blocked.
    pub fn connected(&self, sites: BTreeSet<usize>) -> BTreeSet<usize> {
        lock(&self.mesh).as_ref().map_or(sites.clone(), |mesh| mesh.connected(&sites))
    }

    /// Changes how messages fare.
    pub fn set_weather(&self, weather: Weather) {
        let inner = &mut *lock(&self.inner);
        inner.weather = weather;
        inner.sides.values().for_each(|side| side.hurry(&weather));
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        lock(&self.inner).counts
    }

    /// From now on the peer at a site lies.
    pub fn lie(&self, site: usize, peer: PeerId, lies: Vec<Lie>) {
        let mut inner = lock(&self.inner);
        let random = inner.random.fork();
        inner.liars.insert(site, Liar::new(peer, lies, random));
    }

    fn send(&self, from: StoreId, to: StoreId, message: PeerMessage) {
        let mut inner = lock(&self.inner);
        let site = inner.ends.get(&from).map(|end| end.site);
        let liar = site.and_then(|site| inner.liars.get_mut(&site));
        let messages = match liar {
            Some(liar) => liar.tell(to, message),
            None => {
                self.check_size(site, &message);
                vec![message]
            }
        };
        drop(inner);
        messages.into_iter().for_each(|message| self.send_one(from, to, message));
    }

    /// P9: what an honest store sends has the size that a message may have.
    fn check_size(&self, site: Option<usize>, message: &PeerMessage) {
        let (bytes, bound) = (message.wire_bytes(), size_max(message));
        if bytes > bound {
            let kind = kind(message);
            self.recorder.fail(format!("P9: {site:?} sends {kind} of {bytes} bytes, of at most {bound}"));
        }
    }

    fn send_one(&self, from: StoreId, to: StoreId, message: PeerMessage) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let session = inner.sides.get(&(from, to)).map(|side| side.session);
        let side = inner.sides.get(&(to, from)).filter(|side| Some(side.session) == session).cloned();
        let weather = inner.weather;
        let mut chance = |per_million: u64| per_million > 0 && inner.random.below(1_000_000) < per_million;
        let (is_lost, is_doubled) = (chance(weather.lost), chance(weather.doubled));
        let (is_swapped, is_delayed) = (chance(weather.swapped), chance(weather.delayed));
        let Some(side) = side.filter(|_| !is_lost) else {
            inner.counts.lost += 1;
            return;
        };
        let mut late_ms = weather.latency_ms + inner.random.below(weather.jitter_ms + 1);
        if is_delayed {
            late_ms += inner.random.below(5_000);
        }
        if self.forges_copies.load(Ordering::Relaxed)
            && let PeerMessage::Have(..) = &message
            && let Some(back) = inner.sides.get(&(from, to))
        {
            back.push(message.clone(), late_ms, weather.bytes_per_s, false);
            back.changed.notify_one();
        }
        let bytes = message.wire_bytes();
        if lock(&side.waiting).bytes + bytes > WAITING_BYTES_MAX {
            self.recorder.note(format_args!("session {} is given up: too much waits", side.session));
            inner.membership.look_again();
            inner.give_up(from, to, 0);
            return;
        }
        side.push(message.clone(), late_ms, weather.bytes_per_s, is_swapped);
        if is_doubled {
            side.push(message, late_ms, weather.bytes_per_s, false);
        }
        drop(guard);
        side.changed.notify_one();
    }

    /// Gives a store its side of a session.
    pub(super) fn open_side(
        self: &Arc<Self>,
        inner: &mut Inner,
        (me, other): (StoreId, StoreId),
        session: u64,
        late_ms: u64,
    ) {
        let (Some(end), Some(its)) = (inner.ends.get(&me).cloned(), inner.ends.get(&other)) else { return };
        let side = Arc::new(Side {
            session,
            sites: (its.site, end.site),
            waiting: Mutex::default(),
            changed: Notify::new(),
            over: Watched::new(None),
            is_told: Watched::new(false),
        });
        let (network, peer) = (self.clone(), its.peer);
        let before = inner.sides.insert((me, other), side.clone());
        let before = before.or(inner.ending.remove(&(me, other)));
        inner.counts.sessions += 1;
        let listen = async move {
            if let Some(before) = before {
                before.close(0);
                before.told().await;
            }
            tokio::time::sleep(Duration::from_millis(late_ms)).await;
            end.life.unless_ended(side.listen(&network, &end, other, peer)).await;
            side.is_told.set(true);
        };
        spawn(&self.recorder, listen);
    }
}

impl Inner {
    /// Ends a session at both of its stores; each notices by chance up to `late_ms_max` later.
    pub(super) fn give_up(&mut self, a: StoreId, b: StoreId, late_ms_max: u64) {
        for key in [(a, b), (b, a)] {
            let late_ms = self.random.below(late_ms_max + 1);
            self.end_side(key, late_ms);
        }
    }

    /// Ends one side of a session, of which its store is told `late_ms` later, or before the next session begins.
    pub(super) fn end_side(&mut self, key: (StoreId, StoreId), late_ms: u64) {
        if let Some(side) = self.sides.remove(&key) {
            side.close(late_ms);
            if self.ends.contains_key(&key.1) {
                self.ending.insert(key, side);
            }
        }
    }
}

impl Side {
    fn push(&self, message: PeerMessage, late_ms: u64, bytes_per_s: u64, is_swapped: bool) {
        let (now, bytes) = (Instant::now(), message.wire_bytes());
        let mut waiting = lock(&self.waiting);
        let free_at = waiting.free_at.unwrap_or(now).max(now);
        let free_at = free_at + Duration::from_micros(bytes as u64 * 1_000_000 / bytes_per_s.max(1));
        waiting.free_at = Some(free_at);
        waiting.bytes += bytes;
        waiting.messages.push_back((free_at + Duration::from_millis(late_ms), message));
        let last = waiting.messages.len() - 1;
        if is_swapped && last > 0 {
            waiting.messages.swap(last - 1, last);
        }
    }

    /// What waits comes as soon as the weather allows now, if that is sooner.
    fn hurry(&self, weather: &Weather) {
        let mut waiting = lock(&self.waiting);
        let mut free_at = Instant::now();
        for (due, message) in &mut waiting.messages {
            let micros = message.wire_bytes() as u64 * 1_000_000 / weather.bytes_per_s.max(1);
            free_at += Duration::from_micros(micros);
            *due = (*due).min(free_at + Duration::from_millis(weather.latency_ms));
        }
        waiting.free_at = Some(free_at);
    }

    /// Ends it; its store is told after `late_ms`.
    pub(super) fn close(&self, late_ms: u64) {
        self.over.change(|over| {
            let is_sooner = over.is_none_or(|before| late_ms < before);
            *over = if is_sooner { Some(late_ms) } else { *over };
            is_sooner
        });
    }

    /// Resolves when its store was told that it is over.
    async fn told(&self) {
        self.is_told.until(|told| *told).await;
    }

    /// Tells the store what happens in the session, from its beginning to its end.
    async fn listen(&self, network: &Network, end: &End, other: StoreId, peer: PeerId) {
        let recorder = &network.recorder;
        recorder.note(format_args!("{} session {} with {} begins", end.site, self.session, self.sites.0));
        end.handle.peer_up(other, peer).await;
        loop {
            tokio::select! { biased;
                () = self.over.until(Option::is_some) => break,
                message = self.next(network) => {
                    self.count(network, &message);
                    end.handle.receive(other, message, ()).await;
                }
            }
        }
        let late_ms = self.over.look(|over| over.unwrap_or_default());
        tokio::select! { biased;
            () = self.over.until(|over| *over == Some(0)) => {}
            () = tokio::time::sleep(Duration::from_millis(late_ms)) => {}
        }
        recorder.note(format_args!("{} session {} with {} is over", end.site, self.session, self.sites.0));
        end.handle.peer_down(other).await;
    }

    fn count(&self, network: &Network, message: &PeerMessage) {
        let (bytes, (from, to)) = (message.wire_bytes(), self.sites);
        if network.is_detailed {
            let kind = kind(message);
            network.recorder.note(format_args!("{to} {kind} of {bytes} bytes from {from}"));
        }
        let counts = &mut lock(&network.inner).counts;
        counts.delivered += 1;
        counts.bytes += bytes as u64;
    }

    /// The next message, when its time has come and the way is open.
    async fn next(&self, network: &Network) -> PeerMessage {
        loop {
            let due = lock(&self.waiting).messages.front().map(|(due, _)| *due);
            match due {
                None => self.changed.notified().await,
                Some(due) => {
                    tokio::time::sleep_until(due).await;
                    let is_open = |ways: &BTreeSet<(usize, usize)>| !ways.contains(&self.sites);
                    network.blocked.until(is_open).await;
                    let mut waiting = lock(&self.waiting);
                    if let Some((_, message)) = waiting.messages.pop_front() {
                        waiting.bytes -= message.wire_bytes();
                        return message;
                    }
                }
            }
        }
    }
}

/// What a store sends messages with.
pub struct Port {
    network: Arc<Network>,
    store: Mutex<Option<StoreId>>,
}

impl Port {
    /// Says whose it is, once that is known.
    pub fn belongs_to(&self, store: StoreId) {
        *lock(&self.store) = Some(store);
    }
}

impl PeerNet for Port {
    fn send(&self, to: StoreId, message: PeerMessage) {
        let from = *lock(&self.store);
        if let Some(from) = from {
            self.network.send(from, to, message);
        }
    }

    fn has_room(&self, to: StoreId) -> bool {
        let from = *lock(&self.store);
        let inner = lock(&self.network.inner);
        let side = from.and_then(|from| inner.sides.get(&(to, from)));
        side.is_none_or(|side| lock(&side.waiting).bytes < WAITING_BYTES_MAX / 2)
    }
}

/// Bytes that a message may have: a batch those of the largest, and what is told of several logs what it is cut at and the
/// last of them.
fn size_max(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Batch(_) | PeerMessage::Push { .. } => BATCH_BYTES_MAX + 16,
        PeerMessage::Logs { held, ask } if held.len() > 1 => {
            let last = held.last().map_or(0, LogSummary::wire_bytes);
            LOGS_BYTES_MAX + last + 8 * ask.len() + 8
        }
        _ => PEER_MESSAGE_BYTES_MAX,
    }
}

/// What a message is, in a word.
fn kind(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Digest { .. } => "digest",
        PeerMessage::Leaves { .. } => "leaves",
        PeerMessage::Logs { .. } => "logs",
        PeerMessage::Neighbors(_) => "neighbors",
        PeerMessage::Have(..) => "have",
        PeerMessage::Gone(_) => "gone",
        PeerMessage::Follow { .. } => "follow",
        PeerMessage::Clock(_) => "clock",
        PeerMessage::Push { .. } => "push",
        PeerMessage::Head(..) => "head",
        PeerMessage::Lost(..) => "lost",
        PeerMessage::Want { .. } => "want",
        PeerMessage::Certificate { .. } => "certificate",
        PeerMessage::Batch(_) => "batch",
        PeerMessage::Sent { .. } => "sent",
        PeerMessage::Fork(_) => "fork",
        PeerMessage::AskStatement { .. } => "ask-statement",
        PeerMessage::Statement { .. } => "statement",
        PeerMessage::Group(..) => "group",
    }
}
