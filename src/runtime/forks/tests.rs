//! Stores that hold batches of a peer that signed two things under one name, and what becomes of their books.
use super::behind::look_behind;
use super::*;
use crate::base::batch;
use crate::base::step::{Step, Work};
use crate::base::{Chunk, ChunkBuilder, ClusterId, Codec, Entry, Statement, Timestamp, TopicId};
use crate::disk::{Disk, DiskControl, DiskLock, MemDisk, OpenMode};
use crate::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer, sign_statement};
use crate::log::topic_reader::{ReadItem, Start, TopicReader};
use crate::log::{self, LogConfig, Writer, flush};
use crate::node::Behind;
use std::collections::BTreeSet;
use std::sync::Arc;

const RUN: RunId = RunId(1);

fn jobs() -> TopicName {
    TopicName::new("jobs").expect("a name")
}

fn batch_chunks(count: u64, payload: &str) -> [Chunk; 1] {
    let mut builder = ChunkBuilder::new();
    (0..count).for_each(|_| _ = builder.push(&Entry::from(payload.to_owned())).expect("a small entry"));
    [Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built")]
}

/// A batch of the run that goes on from another, or opens the log.
fn batch(before: Option<&Batch>, count: u64, payload: &str) -> Batch {
    let (signer, chunks) = (Ed25519Signer::from_seed(&[7; 32]), batch_chunks(count, payload));
    let first_seq = before.map_or(Seq::FIRST, |before| before.statement().until());
    let blank = Statement {
        log: LogId { topic: TopicId([1; 16]), peer: signer.peer() },
        run: RUN,
        parent: RunId::NONE,
        opens_run: before.is_none(),
        first_seq,
        first_time: Timestamp(first_seq.0),
        entry_count: 0,
        raw_bytes: 0,
        previous: before.map_or(Digest::ZERO, Batch::link),
        root: Digest::ZERO,
        signed: None,
    };
    let statement = batch::state(&blank, &chunks);
    Batch::assemble(statement, sign_statement(&signer, &statement), &chunks)
}

fn side(batch: &Batch) -> Side {
    (batch.statement().as_signed(), *batch.signature())
}

fn fork(one: &Batch, other: &Batch) -> Box<Fork> {
    Box::new(Fork::of(RUN, &side(one), &side(other)).expect("a fork"))
}

fn name(batch: &Batch) -> RunId {
    branch_of(&batch.link())
}

/// Run, the run it goes on from, and its numbers: of each run.
type Runs = BTreeSet<(RunId, RunId, u64, u64)>;

struct Replica {
    store: Arc<Store>,
    writer: Writer,
    control: DiskControl,
    id: LogId,
    step: u64,
    _lock: DiskLock,
}

impl Replica {
    fn new() -> Self {
        Self::open(MemDisk::new(1))
    }

    fn open(disk: MemDisk) -> Self {
        let (own, control) = (Arc::new(Ed25519Signer::from_seed(&[8; 32])), disk.control());
        let opened =
            log::open(Arc::new(disk), LogConfig::default(), own, Arc::new(Ed25519Verifier), &mut |_| {});
        let opened = opened.expect("a store");
        let peer = Ed25519Signer::from_seed(&[7; 32]).peer();
        let id = LogId { topic: TopicId([1; 16]), peer };
        Self { store: opened.store, writer: opened.writer, control, id, step: 0, _lock: opened.lock }
    }

    fn write(&mut self, work: Vec<Work>) {
        self.step += 1;
        self.writer.write(Step { number: self.step, work }, || {}).expect("a sound disk");
    }

    /// Takes batches as they come, whatever else is held.
    fn put(&mut self, batches: &[&Batch]) {
        for batch in batches {
            self.write(vec![Work::Foreign { topic: jobs(), batch: (*batch).clone() }]);
        }
    }

    /// Takes a batch of a branch, which has to go on from what is held.
    fn take(&mut self, batch: &Batch, branch: RunId, of: RunId) {
        let batch = batch.in_branch(branch, of);
        assert_eq!(judge(&self.store, &batch), Verdict::Good { is_placed: true }, "{batch:?}");
        self.put(&[&batch]);
    }

    /// Hears of a fork; whether it is in the books then.
    fn hear(&mut self, fork: &Fork) -> bool {
        let mut work = Vec::new();
        let found = match look_behind(&self.store, fork) {
            Behind::Elsewhere(fork) => return self.hear(&fork),
            Behind::NotYet => return false,
            Behind::Part(_) => panic!("a few bytes"),
            Behind::Whole(batches, forks, _) => (batches, forks),
        };
        work.extend(found.0.into_iter().map(|batch| Work::Foreign { topic: jobs(), batch }));
        let forks = [*fork].into_iter().chain(found.1);
        work.extend(forks.map(|fork| Work::Fork { topic: jobs(), fork: Box::new(fork) }));
        self.write(work);
        true
    }

    fn runs(&self) -> Runs {
        let log = self.store.log(&self.id).expect("a log");
        let state = log.look();
        assert!(state.holes().is_empty(), "{:?}", state.holes());
        state.runs.iter().map(|run| (run.id, run.parent, run.from.0, run.until.0)).collect()
    }

    /// The runs that forked, and their branches.
    fn forks(&self) -> BTreeSet<(RunId, u64, RunId)> {
        let log = self.store.log(&self.id).expect("a log");
        let of_fork = |fork: &Fork| fork.branches().map(|branch| (fork.run, fork.from().0, branch));
        log.look().forks.iter().flat_map(of_fork).collect()
    }

    /// What a reader is given, from the beginning: batches by the run that they are read in.
    fn read(&self) -> BTreeSet<(RunId, u64, Digest)> {
        let (cluster, store) = (ClusterId([9; 16]), self.store.clone());
        let reader = TopicReader::open(store, cluster, self.id.topic, Start::Oldest, false);
        let mut given = BTreeSet::new();
        for item in reader.and_then(|mut reader| reader.next(1 << 20)).expect("it can be read") {
            let ReadItem::Batch { batch, .. } = item else { panic!("{item:?}") };
            let s = batch.statement();
            assert!(given.insert((s.run, s.first_seq.0, batch.link())), "{s:?} came twice");
        }
        given
    }
}

fn read_as(batches: &[(&Batch, RunId)]) -> BTreeSet<(RunId, u64, Digest)> {
    batches.iter().map(|(batch, run)| (*run, batch.statement().first_seq.0, batch.link())).collect()
}

/// `r` 1..5, from which `a` goes on with 5..8 and then with `a1` or `a2`, and `b` with 5..6.
struct Tree {
    r: Batch,
    a: Batch,
    a1: Batch,
    a2: Batch,
    b: Batch,
}

impl Tree {
    fn new() -> Self {
        let r = batch(None, 4, "r");
        let (a, b) = (batch(Some(&r), 3, "a"), batch(Some(&r), 1, "b"));
        let (a1, a2) = (batch(Some(&a), 2, "a1"), batch(Some(&a), 3, "a2"));
        Self { r, a, a1, a2, b }
    }

    fn read(&self) -> BTreeSet<(RunId, u64, Digest)> {
        let [a, a1, a2, b] = [&self.a, &self.a1, &self.a2, &self.b].map(|batch| (batch, name(batch)));
        read_as(&[(&self.r, RUN), a, a1, a2, b])
    }
}

#[test]
fn a_third_thing_that_is_held_where_a_run_forked_is_a_branch_too() {
    let tree = Tree::new();
    let (c, a, b) = (batch(Some(&tree.r), 2, "c"), name(&tree.a), name(&tree.b));
    let c1 = batch(Some(&c), 2, "c1");
    let mut replica = Replica::new();
    replica.put(&[&tree.r, &c, &c1]);
    assert!(replica.hear(&fork(&tree.a, &tree.b)));
    replica.take(&tree.a, a, RUN);
    replica.take(&tree.b, b, RUN);
    let branches: BTreeSet<RunId> = replica.forks().iter().map(|(_, _, branch)| *branch).collect();
    assert_eq!(branches, [a, b, name(&c)].into());
    let read = [(&tree.r, RUN), (&tree.a, a), (&tree.b, b), (&c, name(&c)), (&c1, name(&c))];
    assert_eq!(replica.read(), read_as(&read));
    let log = replica.store.log(&replica.id).expect("a log");
    assert_eq!(log.look().branches_at(RUN, Seq(6)), branches);
}

#[test]
fn a_branch_forks_too_and_the_books_are_the_same_whichever_fork_is_heard_of_first() {
    let tree = Tree::new();
    let [a, b, a1, a2] = [&tree.a, &tree.b, &tree.a1, &tree.a2].map(name);
    let forks = [fork(&tree.a, &tree.b), fork(&tree.a1, &tree.a2)];
    let mut found = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut replica = Replica::new();
        replica.put(&[&tree.r, &tree.a, &tree.a1]);
        assert!(order.iter().all(|index| replica.hear(&forks[*index])));
        assert_eq!(replica.forks(), [(RUN, 5, a), (RUN, 5, b), (a, 8, a1), (a, 8, a2)].into());
        // What another store calls what goes on from the run, in whose books the second fork is the first.
        replica.take(&tree.a2, a2, if order[0] == 0 { a } else { RUN });
        replica.take(&tree.b, b, RUN);
        assert_eq!(replica.read(), tree.read());
        let log = replica.store.log(&replica.id).expect("a log");
        assert_eq!(log.look().branches_at(RUN, Seq(8)), [a1, a2, b].into());
        found.push(replica.runs());
    }
    let run = |run, parent, from, until| (run, parent, from, until);
    let none = RunId::NONE;
    let expected =
        [run(RUN, none, 1, 5), run(a, RUN, 5, 8), run(b, RUN, 5, 6), run(a1, a, 8, 10), run(a2, a, 8, 11)];
    assert_eq!(found, [Runs::from(expected), Runs::from(expected)]);
}

#[test]
fn forks_of_one_run_that_are_heard_of_from_the_last_to_the_first_end_up_in_their_branches() {
    let tree = Tree::new();
    let (b1, c, c1) = (batch(Some(&tree.a1), 2, "b1"), batch(Some(&tree.a1), 1, "c"), RunId(7));
    let child = Batch::assemble(
        Statement { run: c1, parent: RUN, opens_run: true, ..*batch(Some(&b1), 1, "child").statement() },
        *tree.r.signature(),
        &batch_chunks(1, "child"),
    );
    let forks = [fork(&b1, &c), fork(&tree.a1, &tree.a2), fork(&tree.a, &tree.b)];
    let mut replica = Replica::new();
    replica.put(&[&tree.r, &tree.a, &tree.a1, &b1, &child]);
    assert!(forks.iter().all(|fork| replica.hear(fork)));
    let [a, a1, b1, c] = [&tree.a, &tree.a1, &b1, &c].map(name);
    let runs: BTreeSet<RunId> = replica.forks().iter().map(|(run, ..)| *run).collect();
    assert_eq!(runs, [RUN, a, a1].into());
    assert_eq!(replica.forks().iter().filter(|(run, ..)| *run == a1).count(), 2, "{b1} and {c}");
    let parents: BTreeSet<_> = replica.runs().iter().map(|(run, parent, ..)| (*run, *parent)).collect();
    let expected = [(RUN, RunId::NONE), (a, RUN), (a1, a), (b1, a1), (c1, b1)];
    assert_eq!(parents, expected.into());
}

#[test]
fn a_store_that_has_gone_on_in_a_branch_finds_where_a_fork_of_the_run_belongs() {
    let tree = Tree::new();
    let [a, a1, a2] = [&tree.a, &tree.a1, &tree.a2].map(name);
    let mut replica = Replica::new();
    replica.put(&[&tree.r, &tree.a]);
    assert!(replica.hear(&fork(&tree.a, &tree.b)));
    replica.take(&tree.a1, a, RUN);
    // Told by a store that knows nothing of the first fork.
    assert!(replica.hear(&fork(&tree.a1, &tree.a2)));
    replica.take(&tree.a2, a2, RUN);
    replica.take(&tree.b, name(&tree.b), RUN);
    let of_a: BTreeSet<_> = replica.forks().into_iter().filter(|(run, ..)| *run == a).collect();
    assert_eq!(of_a, [(a, 8, a1), (a, 8, a2)].into());
    assert_eq!(replica.read(), tree.read());
}

#[test]
fn a_log_that_forked_with_its_first_number_is_taken_by_who_holds_nothing_of_it() {
    let (one, other) = (batch(None, 2, "one"), batch(None, 3, "other"));
    let later = batch(Some(&one), 1, "later");
    for held in [vec![], vec![&one], vec![&later]] {
        let mut replica = Replica::new();
        replica.put(&held);
        if held.contains(&&one) {
            assert_eq!(judge(&replica.store, &other), Verdict::Differs(Seq::FIRST));
            let found = compare(&replica.store, &(replica.id, RUN, Seq::FIRST), &side(&other));
            let Compared::Fork(_, found) = found else { panic!("{found:?}") };
            assert_eq!(found, fork(&one, &other));
        }
        assert!(replica.hear(&fork(&one, &other)));
        let later = held.contains(&&later).then_some((&later, name(&one)));
        for batch in [&one, &other].into_iter().filter(|batch| !held.contains(batch)) {
            replica.take(batch, name(batch), RUN);
        }
        assert!(replica.runs().contains(&(RUN, RunId::NONE, 1, 1)));
        let read = [(&one, name(&one)), (&other, name(&other))].into_iter().chain(later);
        assert_eq!(replica.read(), read_as(&read.collect::<Vec<_>>()));
    }
}

#[test]
fn what_lies_behind_a_hole_is_of_the_branch_whose_end_it_goes_on_from() {
    let tree = Tree::new();
    let [a, b, a1, a2] = [&tree.a, &tree.b, &tree.a1, &tree.a2].map(name);
    let mut replica = Replica::new();
    // The first batch of its branch is not here.
    replica.put(&[&tree.r, &tree.a1]);
    assert!(replica.hear(&fork(&tree.a, &tree.b)));
    replica.take(&tree.a, a, RUN);
    replica.take(&tree.b, b, RUN);
    assert!(replica.hear(&fork(&tree.a1, &tree.a2)));
    replica.take(&tree.a2, a2, a);
    assert_eq!(replica.read(), tree.read());
    assert_eq!(replica.forks(), [(RUN, 5, a), (RUN, 5, b), (a, 8, a1), (a, 8, a2)].into());
}

/// The first batch of a branch may be held by nobody any more: what goes on from it is taken all the same, by everyone.
#[test]
fn what_goes_on_from_the_first_batch_of_a_branch_is_taken_without_that() {
    let tree = Tree::new();
    let a = name(&tree.a);
    for held in [vec![&tree.r, &tree.a1], vec![&tree.r, &tree.b]] {
        let mut replica = Replica::new();
        replica.put(&held);
        assert!(replica.hear(&fork(&tree.a, &tree.b)));
        if !held.contains(&&tree.a1) {
            let far = batch(Some(&tree.a1), 2, "far").in_branch(a, RUN);
            assert_eq!(judge(&replica.store, &far), Verdict::Good { is_placed: false });
            replica.take(&tree.a1, a, RUN);
        }
        let log = replica.store.log(&replica.id).expect("a log");
        assert_eq!(log.look().run(a).map(|run| run.until), Some(Seq(10)));
    }
}

#[test]
fn what_lies_far_behind_a_hole_is_of_no_known_branch_and_comes_again() {
    let tree = Tree::new();
    let (a, far) = (name(&tree.a), batch(Some(&tree.a1), 2, "far"));
    let mut replica = Replica::new();
    replica.put(&[&tree.r, &far]);
    assert!(replica.hear(&fork(&tree.a, &tree.b)));
    assert_eq!(replica.read(), read_as(&[(&tree.r, RUN)]));
    for batch in [&tree.a, &tree.a1, &far] {
        replica.take(batch, a, RUN);
    }
    assert_eq!(replica.read(), read_as(&[(&tree.r, RUN), (&tree.a, a), (&tree.a1, a), (&far, a)]));
}

#[test]
fn two_contents_that_are_held_side_by_side_are_each_judged_by_what_is_there() {
    let tree = Tree::new();
    let mut replica = Replica::new();
    replica.put(&[&tree.r, &tree.a]);
    // Another end, another batch at the end, and one that goes on from another.
    assert_eq!(judge(&replica.store, &tree.b), Verdict::Differs(Seq(5)));
    assert_eq!(judge(&replica.store, &batch(Some(&tree.r), 3, "x")), Verdict::Differs(Seq(5)));
    let behind = batch(Some(&batch(Some(&tree.r), 3, "x")), 1, "y");
    assert_eq!(judge(&replica.store, &behind), Verdict::Differs(Seq(7)));
    assert_eq!(judge(&replica.store, &tree.a1), Verdict::Good { is_placed: true });
    let of_branch = tree.a1.in_branch(name(&tree.a), RUN);
    assert_eq!(judge(&replica.store, &of_branch), Verdict::Misplaced);
}

/// Without a checkpoint and a journal all is found again by walking segments, where batches say of which branch they are.
#[test]
fn whoever_walks_segments_for_want_of_a_checkpoint_finds_both_branches_and_where_they_begin() {
    let tree = Tree::new();
    let [a, b] = [&tree.a, &tree.b].map(name);
    for has_both in [true, false] {
        let mut replica = Replica::new();
        replica.put(&[&tree.r, &tree.a, &tree.a1]);
        assert!(replica.hear(&fork(&tree.a, &tree.b)));
        if has_both {
            replica.take(&tree.b, b, RUN);
        }
        let expected = replica.read();
        flush::flush(&replica.store).expect("a sound disk");
        let disk = MemDisk::from_image(2, &replica.control.image());
        let checkpoint = disk.open(log::place::CHECKPOINT, OpenMode::Create).expect("a file");
        checkpoint.write_at(0, &[b"rotten"]).expect("a sound disk");
        for journal in disk.list(log::place::JOURNAL_DIR).expect("a directory") {
            disk.remove(&format!("{}/{journal}", log::place::JOURNAL_DIR)).expect("a sound disk");
        }
        let mut again = Replica::open(disk);
        if !has_both {
            // One branch proves nothing: another store tells.
            assert_eq!(again.forks(), [].into());
            assert!(again.read().is_superset(&expected));
            assert!(again.hear(&fork(&tree.a, &tree.b)));
        }
        assert_eq!(again.forks(), [(RUN, 5, a), (RUN, 5, b)].into());
        assert_eq!(again.read(), expected);
    }
}

/// Seed 5780: of the run a head came alone, or all that was here of it was trimmed; what is held behind the fork must be told apart.
#[test]
fn a_fork_is_taken_where_its_run_is_trimmed_so_far_and_nothing_is_held_of_it() {
    let first = batch(None, 4, "first");
    let (one, other) = (batch(Some(&first), 2, "one"), batch(Some(&first), 3, "other"));
    let more = batch(Some(&one), 2, "more");
    for (start, held, is_taken) in
        [(4, None, false), (5, None, true), (9, None, true), (8, Some(&more), false)]
    {
        let mut replica = Replica::new();
        held.into_iter().for_each(|batch| replica.put(&[batch]));
        let (log, run, parent, from) = (replica.id, RUN, RunId::NONE, Seq::FIRST);
        let (time, last) = (Timestamp(9), Digest([3; 32]));
        let (start, until) = (Seq(start), Seq(20));
        let head = crate::base::Head { log, run, parent, from, start, until, time, last, is_sealed: false };
        let signature = sign_statement(&Ed25519Signer::from_seed(&[7; 32]), &head);
        replica.write(vec![Work::ForeignHead { topic: jobs(), head, signature }]);
        assert_eq!(replica.hear(&fork(&one, &other)), is_taken, "{start}");
    }
}
