//! A peer that gets back its own entries after its directory was lost or restored from an older copy.
mod damage;

use conveyor::base::batch::state;
use conveyor::base::{
    Batch, Chunk, ChunkBuilder, Codec, Durability, Entry, PeerName, ProducerId, Retention, Seq, Statement,
    TopicName, TopicSettings,
};
use conveyor::disk::{MemDisk, ThreadLanes};
use conveyor::identity::ca::{Ca, Validity};
use conveyor::identity::role::Role;
use conveyor::identity::sign::sign_statement;
use conveyor::identity::{Credentials, Signer};
use conveyor::node::NodeConfig;
use conveyor::runtime::{
    Alone, Env, Handle, ReadItem, RuntimeConfig, SystemClock, SystemEntropy, TokioSpawn, start,
};
use conveyor::wire::outcome::{ImportError, Imported, ReadFrom, TopicChange};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One peer's identity, which outlives its directories.
struct Site {
    credentials: Credentials,
}

impl Site {
    fn new() -> Self {
        let ca = Ca::create(Validity::days(1_700_000_000, 36_500)).unwrap();
        let role = Role::Peer { name: PeerName::new("alpha").unwrap() };
        let issued = ca.issue(&role, Validity::days(1_700_000_000, 36_500)).unwrap();
        Self { credentials: issued.credentials(ca.certificate()).unwrap() }
    }

    fn start(&self, disk: MemDisk) -> Handle {
        let signer = self.credentials.signer().clone();
        let mut node = NodeConfig::new(self.credentials.authority().cluster(), signer.peer());
        node.retention_interval_ms = 100;
        let mut config = RuntimeConfig::new(node, PeerName::new("alpha").unwrap(), self.certificate().into());
        config.log.journal_file_bytes = 1 << 20;
        let env = Env {
            peers: Arc::new(Alone),
            spawn: Arc::new(TokioSpawn),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            disk: Arc::new(disk),
            io: Arc::new(ThreadLanes::start(2).unwrap()),
        };
        start(env, signer, config).unwrap().0
    }

    fn certificate(&self) -> Vec<u8> {
        self.credentials.chain()[0].to_vec()
    }

    async fn import(&self, peer: &Handle, batches: &[Batch]) {
        for batch in batches {
            assert_eq!(peer.import(&self.certificate(), jobs(), batch.clone()).await, Ok(Imported::New));
        }
    }
}

fn jobs() -> TopicName {
    TopicName::new("jobs").unwrap()
}

fn chunk(payload: &str, number: Option<u64>) -> Chunk {
    let mut builder = ChunkBuilder::new();
    let producer = number.map(|number| (ProducerId(9), number));
    builder.push(&Entry { producer, ..Entry::from(payload) }).unwrap();
    Chunk::parse(builder.finish(Codec::None)).unwrap()
}

async fn append(peer: &Handle, payload: &str) -> Seq {
    peer.append(jobs(), None, chunk(payload, None)).await.unwrap().first_seq
}

async fn batches(peer: &Handle) -> Vec<Batch> {
    let mut reader = peer.reader(&jobs(), ReadFrom::Start, false).await.unwrap();
    let mut found = Vec::new();
    loop {
        let items = reader.next(1 << 20).await.unwrap();
        if items.is_empty() {
            return found;
        }
        found.extend(items.into_iter().filter_map(|item| match item {
            ReadItem::Batch { batch, .. } => Some(batch),
            ReadItem::Gap(_) | ReadItem::Blocked(_) => None,
        }));
    }
}

async fn payloads(peer: &Handle) -> Vec<String> {
    let mut seen = Vec::new();
    for batch in batches(peer).await {
        let walked = batch.for_each_entry(|_, _, view| {
            seen.push(String::from_utf8(view.payload.to_vec()).unwrap());
            true
        });
        walked.unwrap();
    }
    seen.sort();
    seen
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_lost_directory_is_filled_again_and_numbers_go_on_behind_it() {
    let site = Site::new();
    let first = site.start(MemDisk::new(1));
    for payload in ["a", "b", "c"] {
        append(&first, payload).await;
    }
    let (batches, disk) = (batches(&first).await, MemDisk::new(2));
    let control = disk.control();
    let again = site.start(disk);
    site.import(&again, &batches).await;
    assert_eq!(append(&again, "d").await, Seq(4));
    assert_eq!(payloads(&again).await, ["a", "b", "c", "d"]);
    drop(again);
    let again = site.start(control.crash());
    assert_eq!(append(&again, "e").await, Seq(5));
    assert_eq!(payloads(&again).await, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn an_import_and_an_append_in_one_step_go_on_from_each_other() {
    let site = Site::new();
    let first = site.start(MemDisk::new(1));
    for payload in ["a", "b", "c"] {
        append(&first, payload).await;
    }
    let (batches, again) = (batches(&first).await, site.start(MemDisk::new(2)));
    let certificate = site.certificate();
    let mut imports = Vec::new();
    for batch in batches {
        imports.push(again.submit_import(&certificate, jobs(), batch).await.unwrap());
    }
    assert_eq!(append(&again, "d").await, Seq(4), "behind what was handed in before");
    for import in imports {
        assert_eq!(import.await, Ok(Imported::New));
    }
    assert_eq!(payloads(&again).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn what_comes_back_after_something_new_was_written_is_a_branch_beside_it() {
    let site = Site::new();
    let disk = MemDisk::new(1);
    let control = disk.control();
    let first = site.start(disk);
    append(&first, "a").await;
    first.shutdown().await;
    let backup = control.image();
    let first = site.start(control.disk());
    let settings = TopicSettings {
        retention: Retention { count: Some(3), ..Retention::default() },
        ..TopicSettings::default()
    };
    for payload in ["b", "c", "d", "e"] {
        append(&first, payload).await;
    }
    let lost = batches(&first).await.split_off(1);
    first.shutdown().await;

    let restored = MemDisk::from_image(3, &backup);
    let control = restored.control();
    let peer = site.start(restored);
    assert_eq!(append(&peer, "x").await, Seq(2), "nobody told it of the others");
    site.import(&peer, &lost).await;
    assert_eq!(append(&peer, "y").await, Seq(3), "it goes on with its own run");
    assert_eq!(payloads(&peer).await, ["a", "b", "c", "d", "e", "x", "y"]);
    // What the branch counts up to says nothing of what the run that is written keeps.
    peer.change_topic(TopicChange::Set { topic: jobs(), settings }).await.unwrap();
    append(&peer, "z").await;
    until("retention never came", || peer.topic(&jobs()).unwrap().logs[0].start == Seq(2)).await;
    let kept = payloads(&peer).await;
    assert!(["x", "y", "z"].iter().all(|payload| kept.contains(&(*payload).to_owned())), "{kept:?}");
    drop(peer);
    let peer = site.start(control.crash());
    assert!(payloads(&peer).await.ends_with(&["x".to_owned(), "y".to_owned(), "z".to_owned()]));
    append(&peer, "last").await;
    // After a restart the log goes on from what reaches furthest. Either side keeps three; both go with the topic.
    let mut kept = payloads(&peer).await;
    while kept.len() > 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        kept = payloads(&peer).await;
    }
    assert_eq!(kept, ["d", "e", "last", "x", "y", "z"]);
    peer.change_topic(TopicChange::Delete { topic: jobs() }).await.unwrap();
    assert_eq!(payloads(&peer).await, Vec::<String>::new());
    drop(peer);
    let peer = site.start(control.crash());
    assert_eq!(payloads(&peer).await, Vec::<String>::new());
    assert_eq!(append(&peer, "new").await, Seq(7));
}

#[tokio::test]
async fn a_retry_that_asks_for_the_disk_waits_for_it_although_the_first_attempt_did_not() {
    let site = Site::new();
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = site.start(disk);
    let settings = TopicSettings { durability: Durability::Buffered, ..TopicSettings::default() };
    peer.change_topic(TopicChange::Create { topic: jobs(), settings }).await.unwrap();
    peer.append(jobs(), None, chunk("a", Some(1))).await.unwrap();
    let again = peer.append(jobs(), Some(Durability::Fsync), chunk("a", Some(1))).await.unwrap();
    assert!(again.is_repeat);
    let peer = site.start(control.crash());
    assert_eq!(payloads(&peer).await, ["a"]);
}

#[tokio::test]
async fn what_was_buffered_and_then_asked_for_durably_is_not_seen_before_it_is() {
    let site = Site::new();
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = site.start(disk);
    let of = |durability| TopicSettings { durability, ..TopicSettings::default() };
    let set = |durability| TopicChange::Set { topic: jobs(), settings: of(durability) };
    peer.change_topic(set(Durability::Buffered)).await.unwrap();
    append(&peer, "a").await;
    peer.change_topic(set(Durability::Fsync)).await.unwrap();
    control.inject(conveyor::disk::Fault::sync_error());
    assert!(peer.append(jobs(), None, chunk("b", None)).await.is_err());
    assert_eq!(payloads(&peer).await, ["a"], "what is in no journal yet is not shown");
}

#[tokio::test]
async fn a_deleted_topic_gives_back_its_disk_although_nothing_else_happens() {
    let site = Site::new();
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = site.start(disk);
    let big = "x".repeat(300 << 10);
    for _ in 0..8 {
        append(&peer, &big).await;
    }
    let held =
        || control.image().files().filter(|path| path.contains("jobs") && path.ends_with(".segment")).count();
    until("the entries never came to a segment", || held() > 0).await;
    let checkpoints = || peer.store().counters.checkpoints.load(Ordering::Relaxed);
    let before = checkpoints();
    peer.change_topic(TopicChange::Delete { topic: jobs() }).await.unwrap();
    until("the segments stay", || held() == 0).await;
    assert!(checkpoints() > before);
}

#[tokio::test]
async fn what_a_clone_wrote_in_the_same_run_is_imported_and_gone_on_from_and_what_collides_is_refused() {
    let site = Site::new();
    let peer = site.start(MemDisk::new(1));
    append(&peer, "before the clone").await;
    let held = batches(&peer).await.remove(0);
    let (s, signer) = (*held.statement(), site.credentials.signer().clone());
    // What the clone went on with, in the run that both write.
    let chunks = [chunk("of the clone", None)];
    let first_time = s.first_time.plus(1_000);
    let blank = Statement { opens_run: false, first_seq: Seq(2), first_time, previous: held.link(), ..s };
    let statement = state(&blank, &chunks);
    let batch = Batch::assemble(statement, sign_statement(&*signer, &statement), &chunks);
    assert_eq!(peer.import(&site.certificate(), jobs(), batch).await, Ok(Imported::New));
    assert_eq!(append(&peer, "after the import").await, Seq(3), "it goes on from there, in a run of its own");
    assert_eq!(payloads(&peer).await, ["after the import", "before the clone", "of the clone"]);

    let site = Site::new();
    let peer = site.start(MemDisk::new(2));
    append(&peer, "before the clone").await;
    let held = batches(&peer).await.remove(0);
    let (s, signer) = (*held.statement(), site.credentials.signer().clone());
    append(&peer, "after the clone").await;
    let chunks = [chunk("of the clone", None), chunk("and more of it", None)];
    let blank = Statement { opens_run: false, first_seq: Seq(2), previous: held.link(), ..s };
    let statement = state(&blank, &chunks);
    let batch = Batch::assemble(statement, sign_statement(&*signer, &statement), &chunks);
    assert_eq!(peer.import(&site.certificate(), jobs(), batch).await, Err(ImportError::Forked));
    assert_eq!(append(&peer, "and on").await, Seq(3));
    assert_eq!(payloads(&peer).await, ["after the clone", "and on", "before the clone"]);
}
