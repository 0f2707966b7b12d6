//! Peers of one process, and what carries their messages.
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry, PeerName, ProducerId, StoreId, TopicName};
use conveyor::disk::{DiskControl, MemDisk, ThreadLanes};
use conveyor::identity::ca::{Ca, Validity};
use conveyor::identity::role::Role;
use conveyor::identity::trust::ClusterTrust;
use conveyor::identity::{Credentials, Signer};
use conveyor::node::NodeConfig;
use conveyor::runtime::{
    Env, Handle, PeerNet, ReadItem, RuntimeConfig, SystemClock, SystemEntropy, TokioSpawn, start,
};
use conveyor::wire::outcome::ReadFrom;
use conveyor::wire::peer::PeerMessage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Mailbox = UnboundedSender<(StoreId, PeerMessage)>;

/// Carries messages between the peers of one process, as long as both ends have a session.
#[derive(Clone, Default)]
pub struct Post {
    boxes: Arc<Mutex<BTreeMap<StoreId, Mailbox>>>,
    /// Which stores are cut off.
    pub cut: Arc<Mutex<Vec<StoreId>>>,
    /// Toward which stores so much waits that no batches are sent.
    pub full: Arc<Mutex<Vec<StoreId>>>,
}

/// The post as one peer uses it. Its own store is known once it was started.
struct Sender {
    post: Post,
    from: Arc<Mutex<Option<StoreId>>>,
}

impl PeerNet for Sender {
    fn send(&self, to: StoreId, message: PeerMessage) {
        let Some(from) = *self.from.lock().unwrap() else { return };
        let cut = self.post.cut.lock().unwrap();
        if !cut.contains(&from)
            && !cut.contains(&to)
            && let Some(mailbox) = self.post.boxes.lock().unwrap().get(&to)
        {
            let _ = mailbox.send((from, message));
        }
    }

    fn has_room(&self, to: StoreId) -> bool {
        !self.post.full.lock().unwrap().contains(&to)
    }
}

pub struct Cluster {
    ca: Ca,
    pub post: Post,
    pub peers: Vec<Handle>,
    pub disks: Vec<DiskControl>,
}

impl Cluster {
    pub fn new() -> Self {
        let ca = Ca::create(Validity::days(1_700_000_000, 36_500)).unwrap();
        Self { ca, post: Post::default(), peers: Vec::new(), disks: Vec::new() }
    }

    pub fn of(count: usize) -> Self {
        let mut cluster = Self::new();
        (0..count).for_each(|number| {
            cluster.add(&format!("p{number}"));
        });
        cluster
    }

    fn credentials(&self, name: &str) -> Credentials {
        let role = Role::Peer { name: PeerName::new(name).unwrap() };
        let issued = self.ca.issue(&role, Validity::days(1_700_000_000, 36_500)).unwrap();
        issued.credentials(self.ca.certificate()).unwrap()
    }

    /// Starts one more peer, without sessions.
    pub fn add(&mut self, name: &str) -> Handle {
        let credentials = self.credentials(name);
        let signer = credentials.signer().clone();
        let mut node = NodeConfig::new(credentials.authority().cluster(), signer.peer());
        node.retention_interval_ms = 100;
        node.replication.compare_ms = 500;
        node.replication.replicas_timeout_ms = 3_000;
        let mut config =
            RuntimeConfig::new(node, PeerName::new(name).unwrap(), credentials.chain()[0].to_vec().into());
        config.log.journal_file_bytes = 1 << 20;
        config.trust = Arc::new(ClusterTrust::new(credentials.authority().clone()));
        config.log.tail_bytes_max = 0;
        let (from, disk) = (Arc::new(Mutex::new(None)), MemDisk::new(1));
        self.disks.push(disk.control());
        let env = Env {
            peers: Arc::new(Sender { post: self.post.clone(), from: from.clone() }),
            spawn: Arc::new(TokioSpawn),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            disk: Arc::new(disk),
            io: Arc::new(ThreadLanes::start(1).unwrap()),
        };
        let peer = start(env, signer, config).unwrap().0;
        let store = peer.about().store;
        *from.lock().unwrap() = Some(store);
        let (mailbox, mut came) = unbounded_channel();
        self.post.boxes.lock().unwrap().insert(store, mailbox);
        let receiver = peer.clone();
        tokio::spawn(async move {
            while let Some((from, message)) = came.recv().await {
                receiver.receive(from, message, ()).await;
            }
        });
        self.peers.push(peer.clone());
        peer
    }

    pub async fn connect(&self, a: usize, b: usize) {
        let (a, b) = (&self.peers[a], &self.peers[b]);
        a.peer_up(b.about().store, b.about().peer).await;
        b.peer_up(a.about().store, a.about().peer).await;
    }

    pub async fn disconnect(&self, a: usize, b: usize) {
        let (a, b) = (&self.peers[a], &self.peers[b]);
        a.peer_down(b.about().store).await;
        b.peer_down(a.about().store).await;
    }

    pub async fn connect_all(&self) {
        for a in 0..self.peers.len() {
            for b in 0..a {
                self.connect(a, b).await;
            }
        }
    }

    pub async fn append(&self, at: usize, payload: &str) {
        self.peers[at].append(jobs(), None, chunk(payload)).await.unwrap();
    }

    /// Waits until every peer holds just these payloads.
    pub async fn all_hold(&self, mut expected: Vec<String>) {
        expected.sort();
        let mut held = Vec::new();
        for _ in 0..1000 {
            held.clear();
            for peer in &self.peers {
                held.push(payloads(peer).await);
            }
            if held.iter().all(|held| *held == expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("expected {expected:?}, and the peers hold {held:?}");
    }
}

pub fn jobs() -> TopicName {
    TopicName::new("jobs").unwrap()
}

pub fn chunk(payload: &str) -> Chunk {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(payload)).unwrap();
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

/// The same, of a producer.
pub fn numbered_chunk(payload: &str, number: u64) -> Chunk {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry { producer: Some((ProducerId(77), number)), ..Entry::from(payload) }).unwrap();
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

pub async fn payloads(peer: &Handle) -> Vec<String> {
    let mut reader = peer.reader(&jobs(), ReadFrom::Start, false).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let items = reader.next(1 << 20).await.unwrap();
        if items.is_empty() {
            seen.sort();
            return seen;
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else { continue };
            let walked = batch.for_each_entry(|id, _, view| {
                if id.seq >= from {
                    seen.push(String::from_utf8(view.payload.to_vec()).unwrap());
                }
                true
            });
            walked.unwrap();
        }
    }
}

pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:03}")).collect()
}
