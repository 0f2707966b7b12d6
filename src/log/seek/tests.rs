//! What a reader from a time is given of runs that came in any order, with holes, and beside each other.
use super::*;
use crate::base::batch;
use crate::base::step::{Step, Work};
use crate::base::{
    Batch, Chunk, ChunkBuilder, ClusterId, Codec, Digest, Entry, EntryId, LogId, Statement, TopicId,
    TopicName,
};
use crate::disk::{DiskLock, MemDisk};
use crate::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer, sign_statement};
use crate::log::topic_reader::{ReadItem, Start, TopicReader};
use crate::log::{self, LogConfig, Writer};
use std::sync::Arc;

/// A store that holds batches of another peer.
pub(crate) struct Replica {
    pub(crate) store: Arc<Store>,
    writer: Writer,
    signer: Ed25519Signer,
    pub(crate) id: LogId,
    step: u64,
    _lock: DiskLock,
}

impl Replica {
    pub(crate) fn new() -> Self {
        let signer = Ed25519Signer::from_seed(&[7; 32]);
        let id = LogId { topic: TopicId([1; 16]), peer: signer.peer() };
        let own = Arc::new(Ed25519Signer::from_seed(&[8; 32]));
        let config = LogConfig::default();
        let disk = Arc::new(MemDisk::new(1));
        let opened = log::open(disk, config, own, Arc::new(Ed25519Verifier), &mut |_| {}).unwrap();
        Self { store: opened.store, writer: opened.writer, signer, id, step: 0, _lock: opened.lock }
    }

    /// Takes entries `from..until` of a run as one batch; the time of each is its number, and `ms_later` more.
    pub(crate) fn take(
        &mut self,
        run: u64,
        parent: u64,
        opens_run: bool,
        numbers: std::ops::Range<u64>,
        later: u64,
    ) {
        let mut builder = ChunkBuilder::new();
        numbers.clone().for_each(|_| _ = builder.push(&Entry::from("x")).unwrap());
        let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
        let blank = Statement {
            log: self.id,
            run: RunId(run),
            parent: RunId(parent),
            opens_run,
            first_seq: Seq(numbers.start),
            first_time: Timestamp(numbers.start + later),
            entry_count: 0,
            raw_bytes: 0,
            previous: if numbers.start == 1 { Digest::ZERO } else { Digest([1; 32]) },
            root: Digest::ZERO,
            signed: None,
        };
        let statement = batch::state(&blank, &chunks);
        let batch = Batch::assemble(statement, sign_statement(&self.signer, &statement), &chunks);
        self.step += 1;
        let work = vec![Work::Foreign { topic: TopicName::new("jobs").unwrap(), batch }];
        self.writer.write(Step { number: self.step, work }, || {}).unwrap();
    }

    /// What a reader from `start` is given, as (run, number), and whether it waits for anything then.
    fn read(&self, start: Start) -> (Vec<(u64, u64)>, bool) {
        let cluster = ClusterId([9; 16]);
        let mut reader = TopicReader::open(self.store.clone(), cluster, self.id.topic, start, false).unwrap();
        let (mut given, mut waits) = (Vec::new(), false);
        for item in reader.next(1 << 20).unwrap() {
            match item {
                ReadItem::Batch { batch, from, .. } => {
                    let s = *batch.statement();
                    given.extend((from.0..s.until().0).map(|seq| (s.run.0, seq)));
                }
                ReadItem::Blocked(_) => waits = true,
                ReadItem::Gap(gap) => panic!("{gap:?}"),
            }
        }
        (given, waits)
    }

    fn read_from_time(&self, time: u64) -> (Vec<(u64, u64)>, bool) {
        self.read(Start::Time(Timestamp(time)))
    }
}

fn of(run: u64, numbers: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    numbers.map(|seq| (run, seq)).collect()
}

#[test]
fn runs_are_sought_in_the_order_in_which_they_go_on_and_not_as_they_were_heard_of() {
    let mut replica = Replica::new();
    replica.take(2, 1, true, 5..9, 0);
    replica.take(1, 0, true, 1..5, 0);
    for time in 1..10 {
        let all = [of(1, 1..5), of(2, 5..9)].concat();
        let wanted: Vec<_> = all.into_iter().filter(|(_, seq)| *seq >= time).collect();
        assert_eq!(replica.read_from_time(time), (wanted.clone(), false), "from {time}");
        let run = if time < 5 { 1 } else { 2 };
        let id = EntryId { topic: replica.id.topic, peer: replica.id.peer, run: RunId(run), seq: Seq(time) };
        assert_eq!(replica.read(Start::Entry(id, Timestamp(time))), (wanted, false), "from entry {time}");
    }
}

#[test]
fn both_sides_of_a_branch_are_sought_and_what_is_older_comes_of_neither() {
    let mut replica = Replica::new();
    replica.take(1, 0, true, 1..3, 0);
    replica.take(1, 0, false, 3..9, 0);
    replica.take(2, 1, true, 3..9, 0);
    replica.take(3, 1, true, 9..12, 0);
    for time in 1..13 {
        let (mut given, waits) = replica.read_from_time(time);
        given.sort_unstable();
        let all = [of(1, 1..9), of(2, 3..9), of(3, 9..12)].concat();
        let wanted: Vec<_> = all.into_iter().filter(|(_, seq)| *seq >= time).collect();
        assert_eq!((given, waits), (wanted, false), "from {time}");
    }
    let entry = EntryId { topic: replica.id.topic, peer: replica.id.peer, run: RunId(2), seq: Seq(5) };
    let (mut given, _) = replica.read(Start::Entry(entry, Timestamp(5)));
    given.sort_unstable();
    assert_eq!(given, [of(1, 5..9), of(2, 5..9), of(3, 9..12)].concat());
}

#[test]
fn a_hole_that_may_hold_entries_as_new_is_waited_for_and_an_older_one_is_not() {
    let mut replica = Replica::new();
    replica.take(1, 0, true, 1..40, 0);
    replica.take(1, 0, false, 100..110, 0);
    for time in [40, 41, 70, 99] {
        assert_eq!(replica.read_from_time(time), (vec![], true), "from {time}");
    }
    assert_eq!(replica.read_from_time(39), (of(1, 39..40), true));
    for time in [100, 101, 109] {
        assert_eq!(replica.read_from_time(time), (of(1, time..110), false), "from {time}");
    }
    assert_eq!(replica.read_from_time(110), (vec![], false));
    replica.take(1, 0, false, 40..100, 0);
    assert_eq!(replica.read_from_time(70), (of(1, 70..110), false));
}

#[test]
fn what_a_run_goes_on_from_is_waited_for_where_it_may_hold_entries_as_new() {
    let mut replica = Replica::new();
    replica.take(3, 2, true, 50..60, 0);
    assert_eq!(replica.read_from_time(50), (vec![], true), "run 2 may have an entry of a later time");
    assert_eq!(replica.read_from_time(55), (of(3, 55..60), false));
    replica.take(2, 1, false, 30..50, 0);
    assert_eq!(replica.read_from_time(55), (of(3, 55..60), false));
    assert_eq!(replica.read_from_time(35), ([of(2, 35..50), of(3, 50..60)].concat(), false));
    assert_eq!(replica.read_from_time(25), (vec![], true), "its first batch is not here");
    replica.take(1, 0, true, 1..20, 0);
    assert_eq!(replica.read_from_time(15), (of(1, 15..20), true));
    assert_eq!(replica.read_from_time(25), (vec![], true));
    replica.take(2, 1, true, 20..30, 0);
    assert_eq!(replica.read_from_time(15).0.len(), 45);
    assert_eq!(replica.read_from_time(25).0.len(), 35);
}

#[test]
fn a_run_whose_clock_was_set_back_comes_whole_behind_what_is_as_new() {
    let mut replica = Replica::new();
    replica.take(1, 0, true, 1..5, 100);
    replica.take(2, 1, true, 5..9, 0);
    assert_eq!(replica.read_from_time(103), ([of(1, 3..5), of(2, 5..9)].concat(), false));
    assert_eq!(replica.read_from_time(200), (vec![], false));
}
