//! A peer without its network: appends, restarts, reads, topics, through the handle that every adapter uses.
#![allow(clippy::disallowed_methods, reason = "tests start tasks")]

mod clocks;
mod closing;
mod failing;
mod large;
mod lost;
mod reading;
mod scrub;
mod topics;

use conveyor::base::{
    Chunk, ChunkBuilder, ClusterId, Codec, Durability, Entry, EntryRef, PeerName, ProducerId, Retention, Seq,
    TopicName, TopicSettings,
};
use conveyor::disk::{IoExec, Job, Lane, MemDisk, ThreadLanes};
use conveyor::identity::sign::{Ed25519Signer, Signer};
use conveyor::log::StoreError;
use conveyor::node::NodeConfig;
use conveyor::runtime::{
    Alone, Env, Handle, ReadItem, RuntimeConfig, StartError, SystemClock, SystemEntropy, TokioSpawn,
    TopicReader, start,
};
use conveyor::wire::outcome::{AppendError, ReadError, ReadFrom, TopicChange};
use std::sync::{Arc, Condvar, Mutex};

fn env(disk: MemDisk) -> Env {
    Env {
        peers: Arc::new(Alone),
        spawn: Arc::new(TokioSpawn),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        disk: Arc::new(disk),
        io: Arc::new(ThreadLanes::start(2).unwrap()),
    }
}

fn config(signer: &Ed25519Signer) -> RuntimeConfig {
    let mut node = NodeConfig::new(ClusterId([1; 16]), signer.peer());
    node.replication.replicas_timeout_ms = 100;
    node.retention_interval_ms = 100;
    let mut config = RuntimeConfig::new(node, PeerName::new("alpha").unwrap(), Arc::from([]));
    config.log.journal_file_bytes = 1 << 20;
    config
}

fn peer(disk: MemDisk) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let config = config(&signer);
    start(env(disk), Arc::new(signer), config).unwrap().0
}

/// Lanes of which one can be made to keep its jobs for a while.
struct HeldLane {
    lane: Lane,
    lanes: ThreadLanes,
    held: Mutex<Option<Vec<Job>>>,
}

impl HeldLane {
    fn new(lane: Lane) -> Self {
        Self { lane, lanes: ThreadLanes::start(2).unwrap(), held: Mutex::default() }
    }

    fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// Runs what was kept; how many jobs that was.
    fn let_go(&self) -> usize {
        let jobs = self.held.lock().unwrap().take().unwrap_or_default();
        let count = jobs.len();
        jobs.into_iter().for_each(|job| self.lanes.run(self.lane, job));
        count
    }
}

impl IoExec for HeldLane {
    fn run(&self, lane: Lane, job: Job) {
        match &mut *self.held.lock().unwrap() {
            Some(held) if lane == self.lane => held.push(job),
            _ => self.lanes.run(lane, job),
        }
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn chunk(payloads: &[&str], number: Option<u64>) -> Chunk {
    let mut builder = ChunkBuilder::new();
    for (index, payload) in payloads.iter().enumerate() {
        let mut entry = Entry::from(*payload);
        entry.producer = number.map(|number| (ProducerId(9), number + index as u64));
        builder.push(&entry).unwrap();
    }
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

async fn drain(reader: &mut TopicReader) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let items = reader.next(1 << 20).await.unwrap();
        if items.is_empty() {
            return seen;
        }
        for item in items {
            match item {
                ReadItem::Batch { batch, from, .. } => batch
                    .for_each_entry(|id, _, view| {
                        if id.seq >= from {
                            seen.push(String::from_utf8(view.payload.to_vec()).unwrap());
                        }
                        true
                    })
                    .unwrap(),
                ReadItem::Gap(gap) => seen.push(format!("gap {}..{} {:?}", gap.from, gap.until, gap.reason)),
                ReadItem::Blocked(blocked) => seen.push(format!("blocked at {}", blocked.from)),
            }
        }
    }
}

async fn read(peer: &Handle, name: &str, from: ReadFrom) -> Vec<String> {
    drain(&mut peer.reader(&topic(name), from, false).await.unwrap()).await
}

#[tokio::test]
async fn what_was_appended_is_read_back_across_a_power_loss_and_goes_on_in_a_new_run() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let first = {
        let peer = peer(disk);
        peer.append(topic("jobs"), None, chunk(&["a", "b"], None)).await.unwrap()
    };
    let peer = peer(control.crash());
    let second = peer.append(topic("jobs"), None, chunk(&["c"], None)).await.unwrap();
    assert_eq!((first.first_seq, second.first_seq), (Seq(1), Seq(3)));
    assert_ne!(first.run, second.run);
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["a", "b", "c"]);
    let id = EntryRef::parse(&format!("jobs/alpha.{}/2", first.run.short())).unwrap();
    assert_eq!(read(&peer, "jobs", ReadFrom::Id(id.clone())).await, ["b", "c"]);
    assert_eq!(peer.get(&id).await.unwrap().id.seq, Seq(2));
    let time = ReadFrom::Time { unix_ms: second.first_time.ms() };
    assert!(read(&peer, "jobs", time).await.ends_with(&["c".to_owned()]));
}

#[tokio::test]
async fn a_tail_sees_what_comes_and_its_cursor_goes_on_where_it_stopped() {
    let peer = peer(MemDisk::new(1));
    peer.append(topic("jobs"), None, chunk(&["old"], None)).await.unwrap();
    let mut tail = peer.reader(&topic("jobs"), ReadFrom::Now, false).await.unwrap();
    assert_eq!(drain(&mut tail).await, [""; 0]);
    let handle = peer.clone();
    let append = async move {
        handle.append(topic("jobs"), None, chunk(&["new"], None)).await.unwrap();
    };
    tokio::join!(append, tail.changed());
    assert_eq!(drain(&mut tail).await, ["new"]);
    let cursor = tail.cursor();
    peer.append(topic("jobs"), None, chunk(&["newer"], None)).await.unwrap();
    assert_eq!(read(&peer, "jobs", ReadFrom::Cursor(cursor)).await, ["newer"]);
}

#[tokio::test]
async fn a_retry_is_answered_as_the_first_attempt_was_also_after_a_restart() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let first = {
        let peer = peer(disk);
        let first = peer.append(topic("jobs"), None, chunk(&["a", "b"], Some(10))).await.unwrap();
        let again = peer.append(topic("jobs"), None, chunk(&["a", "b"], Some(10))).await.unwrap();
        assert!(again.is_repeat && again.first_seq == first.first_seq);
        let mixed = peer.append(topic("jobs"), None, chunk(&["b", "c"], Some(11))).await;
        assert_eq!(mixed, Err(AppendError::ProducerMixed { number: 11 }));
        first
    };
    let peer = peer(control.crash());
    let again = peer.append(topic("jobs"), None, chunk(&["a", "b"], Some(10))).await.unwrap();
    assert!(again.is_repeat);
    assert_eq!(
        (again.run, again.first_seq, again.first_time),
        (first.run, first.first_seq, first.first_time)
    );
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["a", "b"]);
}

#[tokio::test]
async fn retention_by_count_leaves_the_newest_and_a_cursor_behind_it_is_told_of_the_gap() {
    let peer = peer(MemDisk::new(1));
    let retention = Retention { count: Some(2), ..Retention::default() };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    peer.change_topic(TopicChange::Create { topic: topic("jobs"), settings }).await.unwrap();
    let first = peer.append(topic("jobs"), None, chunk(&["1"], None)).await.unwrap();
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    assert_eq!(drain(&mut reader).await, ["1"]);
    peer.append(topic("jobs"), None, chunk(&["2", "3", "4", "5"], None)).await.unwrap();
    let id = EntryRef::parse(&format!("jobs/alpha.{}/1", first.run.short())).unwrap();
    while peer.topic(&topic("jobs")).unwrap().logs[0].start < Seq(4) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["4", "5"]);
    assert_eq!(drain(&mut reader).await, ["gap 2..4 Trimmed", "4", "5"]);
    assert_eq!(peer.get(&id).await.unwrap_err(), ReadError::IdTrimmed { id: id.to_string(), start: Seq(4) });
}

#[tokio::test]
async fn what_is_asked_beyond_one_peer_or_beyond_the_limits_is_a_typed_error() {
    let peer = peer(MemDisk::new(1));
    let replicas = peer.append(topic("jobs"), Some(Durability::Replicas(2)), chunk(&["a"], None)).await;
    let too_few = matches!(&replicas, Err(AppendError::Replicas { asked: 2, available: 1, appended }) if appended.first_seq == Seq(1));
    assert!(too_few, "{replicas:?}");
    let one = peer.append(topic("jobs"), Some(Durability::Replicas(1)), chunk(&["a"], None)).await;
    assert!(one.is_ok());
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry { deliver_at_ms: Some(u64::MAX), ..Entry::from("late") }).unwrap();
    let late = Chunk::parse(builder.finish(Codec::None)).unwrap();
    assert!(matches!(peer.append(topic("jobs"), None, late).await, Err(AppendError::DeliverAt { .. })));
    let unknown = EntryRef::parse("jobs/alpha.00000000/1").unwrap();
    assert!(matches!(peer.get(&unknown).await, Err(ReadError::IdUnknown { .. })));
}

#[tokio::test]
async fn room_for_appends_is_taken_by_what_a_chunk_costs_and_not_by_how_small_it_was_packed() {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut config = config(&signer);
    config.in_flight_bytes_max = 256 << 10;
    let peer = start(env(MemDisk::new(1)), Arc::new(signer), config).unwrap().0;
    let packed = |count: usize, payload: &str| {
        let mut builder = ChunkBuilder::new();
        for _ in 0..count {
            builder.push(&Entry::from(payload)).unwrap();
        }
        Chunk::parse(builder.finish(Codec::Zstd)).unwrap()
    };
    for chunk in [packed(1, &"x".repeat(100 << 10)), packed(4000, "")] {
        assert!(chunk.bytes().len() < 1 << 10);
        let (cost, before) = (chunk.cost_bytes(), peer.in_flight_bytes());
        let ticket = peer.submit(topic("jobs"), None, chunk).await.unwrap();
        assert!(peer.in_flight_bytes() - before >= cost, "nothing of it was answered yet");
        ticket.await.unwrap();
    }
    // Nor is one unpacked before there is room for what comes out of it.
    let held = peer.submit(topic("jobs"), None, packed(1, &"x".repeat(100 << 10))).await.unwrap();
    let mut bad = packed(1, &"x".repeat(120 << 10)).bytes().to_vec();
    bad.truncate(bad.len() - 1);
    let before = peer.in_flight_bytes();
    {
        let large = packed(1, &"x".repeat(120 << 10));
        let second = peer.submit(topic("jobs"), None, large).await.unwrap();
        let mut waiting = std::pin::pin!(peer.submit_bytes(topic("jobs"), None, bad.into()));
        tokio::select! {
            biased;
            done = &mut waiting => panic!("there was no room: {done:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(peer.in_flight_bytes() > before);
        second.await.unwrap();
        assert!(matches!(waiting.await, Err(AppendError::Chunk(_))));
    }
    held.await.unwrap();
    // One that needs more than there is gets all there is, and does not wait for ever.
    let large = chunk(&["y".repeat(300 << 10).as_str()], None);
    peer.append(topic("jobs"), None, large).await.unwrap();
    assert_eq!(peer.in_flight_bytes(), 0);
}

#[tokio::test]
async fn many_topics_share_one_sync_a_step_and_all_come_back() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    {
        let peer = peer(disk);
        for round in 0..3 {
            let appends = (0..200)
                .map(|i| peer.append(topic(&format!("t{i}")), None, chunk(&[&format!("{round}")], None)));
            for result in futures_util::future::join_all(appends).await {
                result.unwrap();
            }
        }
        let syncs = peer.store().counters.journal_syncs.load(std::sync::atomic::Ordering::Relaxed);
        assert!(syncs < 100, "600 appends took {syncs} syncs");
        let times = peer.steps();
        assert!((3..100).contains(&times.whole.count()) && times.whole.micros > 0, "{times:?}");
        let counts = [times.gather, times.seal, times.sync, times.release].map(|part| part.count());
        // Of the last one, what comes behind its answers may not be counted yet.
        assert!(counts.iter().all(|count| times.whole.count().abs_diff(*count) <= 1), "{times:?}");
        peer.shutdown().await;
    }
    let peer = peer(control.crash());
    for i in 0..200 {
        assert_eq!(read(&peer, &format!("t{i}"), ReadFrom::Start).await, ["0", "1", "2"]);
    }
}

/// Lanes whose maintenance waits until it is let go.
struct Held {
    lanes: ThreadLanes,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl IoExec for Held {
    fn run(&self, lane: Lane, job: Job) {
        let gate = self.gate.clone();
        let wait = move || {
            let (is_open, opened) = &*gate;
            let mut is_open = is_open.lock().unwrap();
            while !*is_open {
                is_open = opened.wait(is_open).unwrap();
            }
        };
        match lane {
            Lane::Maintenance => self.lanes.run(lane, Box::new(move || (wait(), job()).1)),
            _ => self.lanes.run(lane, job),
        }
    }
}

#[tokio::test]
async fn a_directory_is_not_opened_again_while_a_checkpoint_of_the_peer_before_still_runs() {
    let disk = MemDisk::new(1);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let io = Held { lanes: ThreadLanes::start(2).unwrap(), gate: gate.clone() };
    let signer = Arc::new(Ed25519Signer::from_seed(&[7; 32]));
    let settings = || config(&Ed25519Signer::from_seed(&[7; 32]));
    let first = start(Env { io: Arc::new(io), ..env(disk.clone()) }, signer.clone(), settings()).unwrap().0;
    first.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    drop(first);
    let open = || start(env(disk.clone()), signer.clone(), settings());
    for _ in 0..20 {
        // As long as it takes a peer to end whose maintenance nobody waits for.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert!(matches!(open(), Err(StartError::Store(StoreError::InUse))), "its checkpoint still runs");
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let second = loop {
        match open() {
            Ok((peer, _)) => break peer,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(read(&second, "jobs", ReadFrom::Start).await, ["a"]);
}
