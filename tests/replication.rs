//! Several peers in one process: what one takes, all end with.
#![allow(clippy::disallowed_methods, reason = "tests start tasks")]
use conveyor::base::{
    Chunk, ChunkBuilder, Codec, Durability, Entry, PeerName, ProducerId, Retention, Seq, StoreId, TopicName,
    TopicSettings,
};
use conveyor::disk::{DiskControl, MemDisk, ThreadLanes};
use conveyor::identity::ca::{Ca, Validity};
use conveyor::identity::role::Role;
use conveyor::identity::trust::ClusterTrust;
use conveyor::identity::{Credentials, Signer};
use conveyor::node::NodeConfig;
use conveyor::runtime::{
    Env, Handle, PeerNet, ReadItem, RuntimeConfig, SystemClock, SystemEntropy, TokioSpawn, start,
};
use conveyor::wire::outcome::{AppendError, Appended, ReadFrom, TopicChange};
use conveyor::wire::peer::PeerMessage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Mailbox = UnboundedSender<(StoreId, PeerMessage)>;

/// Carries messages between the peers of one process, as long as both ends have a session.
#[derive(Clone, Default)]
struct Post {
    boxes: Arc<Mutex<BTreeMap<StoreId, Mailbox>>>,
    /// Which stores are cut off.
    cut: Arc<Mutex<Vec<StoreId>>>,
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
}

struct Cluster {
    ca: Ca,
    post: Post,
    peers: Vec<Handle>,
    disks: Vec<DiskControl>,
}

impl Cluster {
    fn new() -> Self {
        let ca = Ca::create(Validity::days(1_700_000_000, 36_500)).unwrap();
        Self { ca, post: Post::default(), peers: Vec::new(), disks: Vec::new() }
    }

    fn of(count: usize) -> Self {
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
    fn add(&mut self, name: &str) -> Handle {
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
                receiver.receive(from, message).await;
            }
        });
        self.peers.push(peer.clone());
        peer
    }

    async fn connect(&self, a: usize, b: usize) {
        let (a, b) = (&self.peers[a], &self.peers[b]);
        a.peer_up(b.about().store, b.about().peer).await;
        b.peer_up(a.about().store, a.about().peer).await;
    }

    async fn disconnect(&self, a: usize, b: usize) {
        let (a, b) = (&self.peers[a], &self.peers[b]);
        a.peer_down(b.about().store).await;
        b.peer_down(a.about().store).await;
    }

    async fn connect_all(&self) {
        for a in 0..self.peers.len() {
            for b in 0..a {
                self.connect(a, b).await;
            }
        }
    }

    async fn append(&self, at: usize, payload: &str) {
        self.peers[at].append(jobs(), None, chunk(payload)).await.unwrap();
    }

    /// Waits until every peer holds just these payloads.
    async fn all_hold(&self, mut expected: Vec<String>) {
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

fn jobs() -> TopicName {
    TopicName::new("jobs").unwrap()
}

fn chunk(payload: &str) -> Chunk {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(payload)).unwrap();
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

/// The same, of a producer.
fn numbered_chunk(payload: &str, number: u64) -> Chunk {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry { producer: Some((ProducerId(77), number)), ..Entry::from(payload) }).unwrap();
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

async fn payloads(peer: &Handle) -> Vec<String> {
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

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:03}")).collect()
}

#[tokio::test]
async fn what_one_peer_takes_all_end_with() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let mut expected = Vec::new();
    for round in 0..20 {
        for at in 0..3 {
            let payload = format!("{round} at {at}");
            cluster.append(at, &payload).await;
            expected.push(payload);
        }
    }
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn a_newcomer_is_given_everything_that_was_there_before_it() {
    let mut cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    for payload in numbered("old", 300) {
        cluster.append(0, &payload).await;
    }
    cluster.all_hold(numbered("old", 300)).await;
    cluster.add("late");
    cluster.connect(2, 1).await;
    cluster.all_hold(numbered("old", 300)).await;
}

#[tokio::test]
async fn both_sides_of_a_split_write_on_and_are_one_again() {
    let cluster = Cluster::of(4);
    cluster.connect_all().await;
    cluster.append(0, "before").await;
    cluster.all_hold(vec!["before".to_owned()]).await;
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        cluster.disconnect(a, b).await;
    }
    let mut expected = vec!["before".to_owned()];
    for number in 0..30 {
        for at in 0..4 {
            let payload = format!("{number} at {at}");
            cluster.append(at, &payload).await;
            expected.push(payload);
        }
    }
    cluster.connect(0, 2).await;
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn what_comes_by_a_relay_comes() {
    let cluster = Cluster::of(4);
    for a in 1..4 {
        cluster.connect(a - 1, a).await;
    }
    for payload in numbered("x", 50) {
        cluster.append(0, &payload).await;
    }
    cluster.append(3, "back").await;
    let mut expected = numbered("x", 50);
    expected.push("back".to_owned());
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn messages_that_were_lost_are_made_good_by_the_next_comparison() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    cluster.append(0, "seen").await;
    cluster.all_hold(vec!["seen".to_owned()]).await;
    cluster.post.cut.lock().unwrap().push(cluster.peers[1].about().store);
    for payload in numbered("unheard", 10) {
        cluster.append(0, &payload).await;
    }
    cluster.post.cut.lock().unwrap().clear();
    let mut expected = numbered("unheard", 10);
    expected.push("seen".to_owned());
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn a_trim_and_a_deletion_reach_everyone() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let retention = Retention { count: Some(5), ..Retention::default() };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    cluster.peers[0].change_topic(TopicChange::Create { topic: jobs(), settings }).await.unwrap();
    for payload in numbered("a", 20) {
        cluster.append(0, &payload).await;
    }
    for payload in numbered("b", 20) {
        cluster.append(1, &payload).await;
    }
    let kept = [numbered("a", 20).split_off(15), numbered("b", 20).split_off(15)].concat();
    cluster.all_hold(kept).await;
    cluster.peers[2].change_topic(TopicChange::Delete { topic: jobs() }).await.unwrap();
    cluster.all_hold(vec![]).await;
    assert_eq!(cluster.peers[0].append(jobs(), None, chunk("new")).await.unwrap().first_seq, Seq(21));
    cluster.all_hold(vec!["new".to_owned()]).await;
}

#[tokio::test]
async fn what_rots_is_had_back_from_another_peer() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    // Large enough to lie in a segment at once.
    let payload = "x".repeat(300 << 10);
    cluster.append(0, &payload).await;
    cluster.append(0, "after").await;
    let expected = vec![payload, "after".to_owned()];
    cluster.all_hold(expected.clone()).await;
    let image = cluster.disks[0].image();
    let is_segment = |path: &&str| path.contains("jobs") && path.ends_with(".segment");
    let path = image.files().find(is_segment).unwrap().to_owned();
    cluster.disks[0].flip_at(&path, 100_000, 0).unwrap();
    assert_eq!(payloads(&cluster.peers[0]).await.len(), 0, "the reader waits before the damage");
    cluster.all_hold(expected).await;
    assert_eq!(cluster.peers[0].status().damaged_count, 0);
}

const TWO: Option<Durability> = Some(Durability::Replicas(2));

#[tokio::test]
async fn an_append_with_two_copies_is_answered_once_another_peer_holds_it() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    let (a, b) = (&cluster.peers[0], &cluster.peers[1]);
    let first = a.append(jobs(), TWO, numbered_chunk("first", 1)).await.unwrap();
    assert_eq!(payloads(b).await, ["first"]);
    assert_eq!(first.holders, [b.about().peer]);
    cluster.post.cut.lock().unwrap().push(b.about().store);
    let refused = a.append(jobs(), TWO, numbered_chunk("second", 2)).await;
    let Err(AppendError::Replicas { asked: 2, available: 2, appended }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((appended.first_seq, appended.count, appended.holders.len()), (Seq(2), 1, 0));
    assert_eq!(payloads(a).await, ["first", "second"], "it is in the log");
    cluster.post.cut.lock().unwrap().clear();
    let again = a.append(jobs(), TWO, numbered_chunk("second", 2)).await.unwrap();
    let expected = Appended { is_repeat: true, holders: vec![b.about().peer], ..*appended };
    assert_eq!(again, expected, "the same entry under the same id");
    cluster.all_hold(vec!["first".to_owned(), "second".to_owned()]).await;
}

#[tokio::test]
async fn what_a_peer_said_before_it_lost_its_disk_counts_for_nothing() {
    let mut cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await.unwrap();
    cluster.disconnect(0, 1).await;
    let refused = cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await;
    assert!(matches!(refused, Err(AppendError::Replicas { available: 1, .. })), "{refused:?}");
    // Another peer with an empty disk: the append waits until it holds the entry.
    cluster.add("p2");
    cluster.connect(0, 2).await;
    let again = cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await.unwrap();
    assert_eq!((again.is_repeat, again.holders), (true, vec![cluster.peers[2].about().peer]));
    assert_eq!(payloads(&cluster.peers[2]).await, ["x"]);
}

#[tokio::test]
async fn a_topic_may_ask_for_copies_of_all_that_is_appended() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let settings = TopicSettings { durability: Durability::Replicas(3), ..TopicSettings::default() };
    cluster.peers[0].change_topic(TopicChange::Create { topic: jobs(), settings }).await.unwrap();
    let appends = numbered("x", 200).into_iter().map(|payload| {
        let peer = cluster.peers[0].clone();
        tokio::spawn(async move { peer.append(jobs(), None, chunk(&payload)).await })
    });
    let mut others = vec![cluster.peers[1].about().peer, cluster.peers[2].about().peer];
    others.sort();
    for append in appends.collect::<Vec<_>>() {
        assert_eq!(append.await.unwrap().unwrap().holders, others);
    }
    assert_eq!(payloads(&cluster.peers[2]).await, numbered("x", 200));
    cluster.disconnect(0, 2).await;
    let two = cluster.peers[0].append(jobs(), None, chunk("y")).await;
    let Err(AppendError::Replicas { asked: 3, available: 2, appended }) = two else { panic!("{two:?}") };
    assert_eq!(appended.holders, [cluster.peers[1].about().peer]);
    cluster.peers[0].append(jobs(), Some(Durability::Fsync), chunk("z")).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_stops_does_not_wait_for_copies() {
    let cluster = Cluster::of(1);
    let peer = cluster.peers[0].clone();
    let waits = tokio::spawn(async move { peer.append(jobs(), TWO, chunk("x")).await });
    while cluster.peers[0].topic(&jobs()).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.peers[0].shutdown().await;
    assert!(matches!(waits.await.unwrap(), Err(AppendError::Stopped { .. })));
}
