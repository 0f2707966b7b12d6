//! What is signed of trims and losses.
use super::*;
use crate::base::{Chunk, ChunkBuilder, ClusterId, Codec, Entry, Remains};
use crate::disk::MemDisk;
use crate::identity::sign::{Ed25519Signer, Ed25519Verifier};
use crate::log::heads::tests::{LOG, add, head};
use crate::log::topic_reader::{ReadItem, Start, TopicReader};
use crate::log::{self, LogConfig, Opened, read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A chain of `count` runs of ten entries each.
fn chain(count: u64) -> LogState {
    let mut state = LogState::new();
    (0..count).for_each(|n| add(&mut state, n + 1, n, n * 10 + 1, 10));
    state
}

fn cut(state: &LogState, leaf: u64, start: u64) -> Vec<u64> {
    cut_by(state, RunId(leaf), Seq(start)).1.iter().map(|(run, _)| run.0).collect()
}

#[test]
fn a_trim_concerns_the_runs_that_lose_entries_and_no_other() {
    let mut state = chain(1000);
    assert_eq!(cut(&state, 1000, 2), [1]);
    assert_eq!(cut(&state, 1000, 35), [4, 3, 2, 1]);
    state.add_head(head(1000, 35, 10_001), Signature([0; 64]));
    assert_eq!(cut(&state, 1000, 36), [4], "what was taken before is not told again");
    assert_eq!(cut(&state, 1000, 41), [4]);
    assert_eq!(cut(&state, 1000, 42), [5, 4]);
    assert!(cut_by(&state, RunId(1000), Seq(35)).0, "it starts there already");
}

#[test]
fn a_run_that_is_being_opened_takes_from_those_before_it() {
    let state = chain(3);
    let (is_done, cut) = cut_by(&state, RunId(99), Seq(31));
    assert!(!is_done);
    assert_eq!(cut, [(RunId(3), None), (RunId(2), Some(Seq(21))), (RunId(1), Some(Seq(11)))]);
}

/// A peer's log: run 1 with 1..50, and run 2, which begins with 50..60 and goes on to 100.
fn two_runs() -> (Opened, LogId) {
    let signer = Arc::new(Ed25519Signer::from_seed(&[7; 32]));
    let id = LogId { peer: signer.peer(), ..LOG };
    let mut opened = open(signer);
    for (run, numbers) in [(1, 1..50), (2, 50..60), (2, 60..100)] {
        write(&mut opened, append(id, run, numbers.start != 60, numbers));
    }
    (opened, id)
}

fn append(log: LogId, run: u64, opens_run: bool, numbers: Range<u64>) -> Work {
    let mut builder = ChunkBuilder::new();
    numbers.clone().for_each(|_| _ = builder.push(&Entry::from("x")).unwrap());
    Work::Append(AppendWork {
        topic: topic(),
        log,
        run: RunId(run),
        parent: RunId(run - 1),
        opens_run,
        first_seq: Seq(numbers.start),
        first_time: Timestamp(numbers.start),
        chunks: vec![Chunk::parse(builder.finish(Codec::None)).unwrap()],
        is_buffered: false,
        must_sync: true,
    })
}

fn topic() -> TopicName {
    TopicName::new("jobs").unwrap()
}

fn open(signer: Arc<Ed25519Signer>) -> Opened {
    let disk = Arc::new(MemDisk::new(1));
    log::open(disk, LogConfig::default(), signer, Arc::new(Ed25519Verifier), &mut |_| {}).unwrap()
}

fn write(opened: &mut Opened, work: Work) -> Vec<Stated> {
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    opened.writer.write(Step { number, work: vec![work] }, || {}).unwrap().stated
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

fn lost(log: LogId, from: u64, until: u64) -> Work {
    let (run, time, signer) = (RunId(2), Timestamp(200), log.peer);
    Work::Lost(Lost { log, run, from: Seq(from), until: Seq(until), time, signer })
}

#[test]
fn readers_elsewhere_go_on_behind_the_first_batch_of_a_run_that_nobody_has_any_more() {
    let (mut peer, id) = two_runs();
    let mut replica = open(Arc::new(Ed25519Signer::from_seed(&[8; 32])));
    let log = peer.store.log(&id).unwrap();
    for (run, seq) in [(1, 1), (2, 60)] {
        let found = read::read(&peer.store, &log, RunId(run), Seq(seq), 1, &mut None).unwrap();
        let read::Found::Batches(batches) = found else { panic!("{found:?}") };
        write(&mut replica, Work::Foreign { topic: topic(), batch: batches[0].clone() });
    }
    for stated in write(&mut peer, lost(id, 50, 60)) {
        let topic = topic();
        write(
            &mut replica,
            match stated {
                Stated::Head(head, signature) => Work::ForeignHead { topic, head, signature },
                Stated::Lost(lost, signature) => Work::ForeignLost { topic, lost, signature },
                Stated::Fork(fork) => Work::Fork { topic, fork },
            },
        );
    }
    let (cluster, store) = (ClusterId([9; 16]), replica.store.clone());
    let mut reader = TopicReader::open(store, cluster, id.topic, Start::Oldest, false).unwrap();
    let given: Vec<_> = reader
        .next(1 << 20)
        .unwrap()
        .into_iter()
        .map(|item| match item {
            ReadItem::Batch { from, .. } => (from.0, 0),
            ReadItem::Gap(gap) => (gap.from.0, gap.until.0),
            ReadItem::Blocked(blocked) => panic!("{blocked:?}"),
        })
        .collect();
    assert_eq!(given, [(1, 0), (50, 60), (60, 0)]);
}

/// The second layer of seed 2351: who trims a run beside us, under the same key, may not know where it begins.
#[test]
fn a_head_that_does_not_say_where_its_run_begins_is_signed_anew_by_whoever_knows() {
    let (mut peer, id) = two_runs();
    let trimmed = Head { log: id, parent: RunId(1), ..head(2, 70, 100) };
    let signature = sign_statement(&Ed25519Signer::from_seed(&[7; 32]), &trimmed);
    let told = |head, signature| Work::ForeignHead { topic: topic(), head, signature };
    let again = || Work::Trim { log: id, run: None, start: Seq::FIRST, time: Timestamp(2) };
    let mut replica = open(Arc::new(Ed25519Signer::from_seed(&[8; 32])));
    let log = peer.store.log(&id).unwrap();
    let read::Found::Batches(batches) =
        read::read(&peer.store, &log, RunId(1), Seq(1), 1, &mut None).unwrap()
    else {
        panic!("the first batch is there")
    };
    write(&mut replica, Work::Foreign { topic: topic(), batch: batches[0].clone() });
    for opened in [&mut peer, &mut replica] {
        write(opened, told(trimmed, signature));
    }
    let starts = |opened: &Opened| {
        let log = opened.store.log(&id).unwrap();
        let state = log.look();
        [1, 2].map(|run| state.run(RunId(run)).map(|run| state.begin_of(run).0))
    };
    assert_eq!((starts(&peer), starts(&replica)), ([Some(50), Some(70)], [Some(1), Some(70)]));
    let stated = write(&mut peer, again());
    let [Stated::Head(head, signature)] = stated[..] else { panic!("{stated:?}") };
    assert_eq!(head, Head { from: Seq(50), time: Timestamp(2), ..trimmed });
    assert!(write(&mut peer, again()).is_empty(), "it is said now");
    write(&mut replica, told(head, signature));
    write(&mut replica, told(trimmed, signature));
    assert_eq!(starts(&replica), [Some(50), Some(70)]);
}

#[test]
fn where_a_run_begins_is_signed_with_what_is_lost_only_where_that_begins_it_and_it_is_known() {
    let (mut peer, id) = two_runs();
    let is_head = |stated: &Stated| matches!(stated, Stated::Head(..));
    assert!(!write(&mut peer, lost(id, 60, 70)).iter().any(is_head));
    peer.store.log(&id).unwrap().change().guessed.insert(RunId(2));
    assert!(!write(&mut peer, lost(id, 50, 60)).iter().any(is_head));
    peer.store.log(&id).unwrap().change().guessed.clear();
    let stated = write(&mut peer, lost(id, 50, 60));
    let Some(Stated::Head(head, _)) = stated.iter().find(|stated| is_head(stated)) else { panic!() };
    assert_eq!((head.run, head.parent, head.from, head.start), (RunId(2), RunId(1), Seq(50), Seq(1)));
    assert_eq!((head.until, head.is_sealed), (Seq(100), false));
    assert_eq!(peer.store.log(&id).unwrap().look().start, Seq(1), "nothing is trimmed");
}

fn remains(log: LogId, run: u64, end: u64) -> Arc<Remains> {
    let mut remains = Remains::default();
    remains.ends.insert((log.topic, RunId(run)), Seq(end));
    Arc::new(remains)
}

#[test]
fn what_was_numbered_before_its_peer_heard_of_its_own_removal_is_sealed_and_set_aside() {
    let (mut peer, id) = two_runs();
    let log = peer.store.log(&id).unwrap();
    log.change().end_by(id.topic, remains(id, 2, 60), &BTreeMap::new());
    write(&mut peer, append(id, 2, false, 100..110));
    write(&mut peer, append(id, 3, true, 110..120));
    let state = log.look();
    assert_eq!(state.run(RunId(2)).map(|run| (run.until, state.whole(run).until)), Some((Seq(60), Seq(110))));
    assert_eq!(state.set_aside().iter().map(|range| range.until.0 - range.from.0).sum::<u64>(), 49 + 50 + 10);
}

#[test]
fn a_log_that_is_heard_of_after_its_peer_was_removed_ends_where_the_removal_says() {
    let (peer, id) = two_runs();
    let mut replica = open(Arc::new(Ed25519Signer::from_seed(&[8; 32])));
    replica.store.note_removed(id.peer, remains(id, 1, 50));
    let log = peer.store.log(&id).unwrap();
    for (run, seq) in [(1, 1), (2, 50), (2, 60)] {
        let found = read::read(&peer.store, &log, RunId(run), Seq(seq), 1, &mut None).unwrap();
        let read::Found::Batches(batches) = found else { panic!("{found:?}") };
        write(&mut replica, Work::Foreign { topic: topic(), batch: batches[0].clone() });
    }
    let state = replica.store.log(&id).unwrap().look().clone();
    assert_eq!((state.until(), state.run(RunId(1)).map(|run| run.until)), (Seq(50), Some(Seq(50))));
    let aside: Vec<_> =
        state.set_aside().iter().map(|range| (range.run.0, range.from.0, range.until.0)).collect();
    assert_eq!(aside, [(2, 50, 100)]);
}
