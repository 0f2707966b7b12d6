//! Fetching, with several stores that offer the same.
use crate::base::chunk::{ChunkBuilder, Codec};
use crate::base::{
    Batch, Chunk, ClusterId, Digest, Entry, LogId, PeerId, RunId, Seq, Signature, Statement, StoreId,
    Timestamp, TopicId, TopicName,
};
use crate::replication::held::HeldRange;
use crate::replication::{Fetched, PeerInput, PeerOutput, Replication, ReplicationConfig};
use crate::wire::peer::{LogSummary, PeerMessage, RunRange, RunSummary, SentEnd};
use std::collections::BTreeMap;

const CONFIG: fn() -> ReplicationConfig = ReplicationConfig::default;

fn log() -> LogId {
    LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PeerId([2; 32]) }
}

fn jobs() -> TopicName {
    TopicName::new("jobs").expect("a name")
}

fn range(run: u64, from: u64, until: u64) -> RunRange {
    RunRange { log: log(), run: RunId(run), from: Seq(from), until: Seq(until) }
}

fn batch(run: u64, parent: u64, from: u64, until: u64) -> Batch {
    let mut builder = ChunkBuilder::new();
    for number in from..until {
        builder.push(&Entry::from(number.to_string())).expect("it fits");
    }
    let chunks = [Chunk::parse(builder.finish(Codec::None)).expect("a chunk")];
    let blank = Statement {
        log: log(),
        run: RunId(run),
        parent: RunId(parent),
        opens_run: false,
        first_seq: Seq(from),
        first_time: Timestamp(from),
        entry_count: 0,
        raw_bytes: 0,
        previous: Digest::ZERO,
        root: Digest::ZERO,
        signed: None,
    };
    Batch::assemble(crate::base::batch::state(&blank, &chunks), Signature([9; 64]), &chunks)
}

/// A store with sessions, and what it asked for and stored.
struct Store {
    replication: Replication,
    now_ms: u64,
    asked: Vec<(u64, RunRange)>,
    stored: Vec<(u64, u64, u64)>,
}

impl Store {
    fn with_sessions(count: u64) -> Self {
        Self::with_room(count, CONFIG().taken_bytes_max)
    }

    fn with_room(count: u64, taken_bytes_max: usize) -> Self {
        let config = ReplicationConfig { taken_bytes_max, ..CONFIG() };
        let replication = Replication::new(config, ClusterId([0; 16]), StoreId(1));
        let mut store = Self { replication, now_ms: 0, asked: vec![], stored: vec![] };
        (0..count).for_each(|n| store.take(PeerInput::Up(StoreId(10 + n), PeerId([n as u8; 32]))));
        store
    }

    fn take(&mut self, input: PeerInput) {
        let mut out = Vec::new();
        self.replication.handle(self.now_ms, input, &mut out);
        self.note(out);
    }

    fn pass(&mut self, ms: u64) {
        let mut out = Vec::new();
        self.now_ms += ms;
        self.replication.tick(self.now_ms, &mut out);
        self.note(out);
    }

    fn note(&mut self, out: Vec<PeerOutput>) {
        for output in out {
            match output {
                PeerOutput::Send(to, PeerMessage::Want { range, .. }) => self.asked.push((to.0, range)),
                PeerOutput::Store(fetched) => {
                    let RunRange { run, from, until, .. } = fetched.range;
                    self.stored.push((run.0, from.0, until.0));
                }
                _ => {}
            }
        }
    }

    fn offer(&mut self, store: u64, runs: &[(u64, u64, u64, u64)]) {
        let run = |&(run, parent, from, until): &(u64, u64, u64, u64)| {
            let held = vec![(Seq(from), Seq(until))];
            RunSummary { run: RunId(run), parent: RunId(parent), from: Seq(from), held, link: 0 }
        };
        let runs = runs.iter().map(run).collect();
        let summary =
            LogSummary { log: log(), topic: jobs(), runs, heads: vec![], lost: vec![], forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        self.take(PeerInput::Message(StoreId(store), message));
    }

    /// A store sends what it was asked for.
    fn answer(&mut self, store: u64, parent: u64, range: RunRange) {
        let (from, run) = (StoreId(store), range.run.0);
        let batch = batch(run, parent, range.from.0, range.until.0);
        self.take(PeerInput::Took { from, range, bytes: Replication::cost_bytes(&batch), is_pushed: false });
        self.take(PeerInput::Fetched(Box::new(Fetched {
            from,
            range,
            batch,
            is_placed: true,
            looked: 0,
            is_pushed: false,
            certificate: None,
        })));
        let sent = PeerMessage::Sent { range, until: range.until, end: SentEnd::Enough };
        self.take(PeerInput::Message(from, sent));
    }

    /// What was stored is durable.
    fn sync(&mut self, parent_of: &BTreeMap<u64, u64>) {
        for (run, from, until) in self.stored.clone() {
            let parent = RunId(parent_of.get(&run).copied().unwrap_or(0));
            self.take(PeerInput::Held(
                jobs(),
                HeldRange { range: range(run, from, until), parent, begin: Seq::FIRST, link: 0 },
            ));
        }
    }
}

#[test]
fn what_comes_early_goes_to_the_disk_behind_what_it_goes_on_from() {
    let mut store = Store::with_sessions(1);
    store.offer(10, &[(2, 1, 10, 12), (1, 0, 1, 10)]);
    assert_eq!(store.asked, [(10, range(1, 1, 10)), (10, range(2, 10, 12))], "both at once");
    store.answer(10, 1, range(2, 10, 12));
    assert_eq!(store.stored, []);
    store.answer(10, 0, range(1, 1, 10));
    assert_eq!(store.stored, [(1, 1, 10), (2, 10, 12)]);
}

#[test]
fn all_that_offer_a_run_give_a_share_of_it_and_it_comes_in_order() {
    let (mut store, mut shares) = (Store::with_sessions(3), BTreeMap::<u64, u64>::new());
    (10..13).for_each(|other| store.offer(other, &[(1, 0, 1, 100_001)]));
    while !store.asked.is_empty() {
        let (other, asked) = store.asked.remove(0);
        *shares.entry(other).or_default() += asked.until.since(asked.from);
        store.answer(other, 0, asked);
        store.sync(&BTreeMap::new());
        let stored = std::mem::take(&mut store.stored);
        assert!(stored.windows(2).all(|pair| pair[0].2 == pair[1].1), "{stored:?}");
    }
    assert_eq!(store.replication.held().log(&log()).unwrap().run(RunId(1)).unwrap().ranges.iter().len(), 1);
    assert_eq!(shares.values().sum::<u64>(), 100_000, "nothing is asked twice");
    assert!(shares.values().all(|share| *share > 20_000), "{shares:?}");
}

#[test]
fn nobody_holds_up_a_run_by_offering_what_never_comes() {
    let mut store = Store::with_sessions(2);
    store.offer(10, &[(1, 0, 1, 5)]);
    store.offer(11, &[(1, 0, 5, 9)]);
    store.answer(11, 0, range(1, 5, 9));
    assert_eq!(store.stored, [], "what comes before it was offered");
    for _ in 0..=CONFIG().lease_ms / 1000 {
        store.pass(1000);
    }
    assert_eq!(store.stored, [(1, 5, 9)]);
}

#[test]
fn what_a_store_is_slow_to_send_is_asked_of_another_and_comes_once() {
    let mut store = Store::with_sessions(1);
    store.offer(10, &[(1, 0, 1, 10)]);
    store.take(PeerInput::Up(StoreId(11), PeerId([7; 32])));
    store.offer(11, &[(1, 0, 1, 10)]);
    assert_eq!(store.asked, [(10, range(1, 1, 10))]);
    store.pass(CONFIG().lease_ms / 4 + 1);
    assert_eq!(store.asked[1..], [(11, range(1, 1, 10))]);
    store.answer(11, 0, range(1, 1, 10));
    assert_eq!(store.stored, [(1, 1, 10)]);
    assert!(!store.replication.wants(StoreId(10), &range(1, 1, 10)));
}

#[test]
fn what_waits_goes_on_when_what_it_waits_for_is_not_to_be_had() {
    let mut store = Store::with_sessions(2);
    store.offer(10, &[(1, 0, 1, 5)]);
    store.offer(11, &[(1, 0, 5, 9)]);
    store.answer(11, 0, range(1, 5, 9));
    let sent = PeerMessage::Sent { range: range(1, 1, 5), until: Seq(1), end: SentEnd::NotHere };
    store.take(PeerInput::Message(StoreId(10), sent));
    assert_eq!(store.stored, [(1, 5, 9)]);
    store.offer(10, &[(1, 0, 1, 5)]);
    store.take(PeerInput::Down(StoreId(10)));
    assert!(store.asked.iter().all(|(other, _)| *other != 12));
}

#[test]
fn a_forged_batch_over_what_came_takes_nothing_away_and_is_not_looked_at() {
    let mut store = Store::with_sessions(2);
    store.offer(10, &[(1, 0, 1, 300)]);
    store.offer(11, &[(1, 0, 1, 301)]);
    store.take(PeerInput::Took { from: StoreId(10), range: range(1, 1, 257), bytes: 1, is_pushed: false });
    assert!(!store.replication.wants(StoreId(11), &range(1, 1, 301)), "part of it came from another");
}

#[test]
fn a_store_that_says_it_has_nothing_or_is_busy_is_not_asked_at_once_again() {
    for end in [SentEnd::NotHere, SentEnd::Busy { retry_ms: 0 }] {
        let mut store = Store::with_sessions(1);
        store.offer(10, &[(1, 0, 1, 10)]);
        for _ in 0..5 {
            let sent = PeerMessage::Sent { range: range(1, 1, 10), until: Seq(u64::MAX), end };
            store.take(PeerInput::Message(StoreId(10), sent));
        }
        assert_eq!(store.asked.len(), 1, "{end:?}");
    }
}

#[test]
fn what_two_are_asked_for_is_not_asked_of_a_third_when_one_of_them_goes() {
    let mut store = Store::with_sessions(3);
    store.offer(10, &[(1, 0, 1, 10)]);
    store.offer(11, &[(1, 0, 1, 10)]);
    store.pass(CONFIG().lease_ms / 4 + 1);
    assert_eq!(store.asked.len(), 2);
    store.offer(12, &[(1, 0, 1, 10)]);
    store.take(PeerInput::Down(StoreId(10)));
    assert_eq!(store.asked.len(), 2, "the other still has its time");
}

#[test]
fn what_comes_again_while_it_waits_is_counted_once() {
    let mut store = Store::with_sessions(2);
    store.offer(10, &[(1, 0, 1, 5)]);
    store.offer(11, &[(1, 0, 5, 9)]);
    for _ in 0..3 {
        let (from, range, batch) = (StoreId(11), range(1, 5, 9), batch(1, 0, 5, 9));
        let fetched =
            Fetched { from, range, batch, is_placed: true, looked: 0, is_pushed: false, certificate: None };
        store.take(PeerInput::Fetched(Box::new(fetched)));
    }
    let bytes = store.replication.waiting.bytes();
    store.answer(10, 0, range(1, 1, 5));
    assert!(bytes > 0 && store.replication.waiting.is_empty());
    assert_eq!(store.replication.waiting.bytes(), 0);
}

/// Twelve runs, of which each is one batch of this many bytes.
fn many_runs() -> (Vec<(u64, u64, u64, u64)>, usize) {
    let runs = (1..=12).map(|run| (run, 0, 1, 3)).collect();
    (runs, Replication::cost_bytes(&batch(1, 0, 1, 3)))
}

#[test]
fn while_the_disk_is_behind_nobody_is_asked_for_more_and_then_for_all_of_it() {
    let (runs, cost_bytes) = many_runs();
    let mut store = Store::with_room(1, 12 * cost_bytes);
    store.offer(10, &runs);
    assert_eq!(store.asked.len(), 8, "as many as one is asked for at once");
    for (_, asked) in store.asked.clone() {
        assert!(store.replication.has_room_for(&batch(asked.run.0, 0, 1, 3)));
        store.answer(10, 0, asked);
    }
    assert_eq!((store.replication.taken_bytes(), store.stored.len()), (8 * cost_bytes, 8));
    assert_eq!(store.asked.len(), 9, "one more was asked for before an eighth was full");
    store.pass(CONFIG().lease_ms / 8);
    assert_eq!(store.asked.len(), 9, "time alone changes nothing");
    store.sync(&BTreeMap::new());
    assert_eq!((store.replication.taken_bytes(), store.asked.len()), (0, 12));
}

#[test]
fn what_comes_when_there_is_no_room_is_not_taken_and_had_later() {
    let (_, cost_bytes) = many_runs();
    let mut store = Store::with_room(1, 4 * cost_bytes);
    for run in 1..=4 {
        let (from, range, batch) = (StoreId(10), range(run, 1, 3), batch(run, 0, 1, 3));
        assert!(store.replication.has_room_for(&batch));
        store.take(PeerInput::Took { from, range, bytes: cost_bytes, is_pushed: true });
        let fetched =
            Fetched { from, range, batch, is_placed: false, looked: 0, is_pushed: true, certificate: None };
        store.take(PeerInput::Fetched(Box::new(fetched)));
    }
    assert!(!store.replication.has_room_for(&batch(5, 0, 1, 3)));
    // Whoever pushed it is taken to have said that it is there.
    store.offer(10, &[(5, 0, 1, 3)]);
    assert_eq!(store.asked, []);
    store.sync(&BTreeMap::new());
    assert!(store.replication.has_room_for(&batch(5, 0, 1, 3)));
    assert_eq!(store.asked, [(10, range(5, 1, 3))]);
}

#[test]
fn what_waits_for_what_comes_before_it_does_not_keep_that_from_being_asked_for() {
    let (_, cost_bytes) = many_runs();
    let mut store = Store::with_room(2, 4 * cost_bytes);
    store.offer(10, &[(1, 0, 1, 3)]);
    store.offer(11, &[(1, 0, 3, 5), (1, 0, 5, 7)]);
    store.answer(11, 0, range(1, 3, 5));
    store.answer(11, 0, range(1, 5, 7));
    let sent =
        PeerMessage::Sent { range: range(1, 1, 3), until: Seq(1), end: SentEnd::Busy { retry_ms: 200 } };
    store.take(PeerInput::Message(StoreId(10), sent));
    store.pass(200);
    assert_eq!((&store.stored[..], store.replication.taken_bytes()), (&[][..], 2 * cost_bytes));
    assert_eq!(store.asked.last(), Some(&(10, range(1, 1, 3))));
    store.answer(10, 0, range(1, 1, 3));
    assert_eq!(store.stored, [(1, 1, 3), (1, 3, 5), (1, 5, 7)]);
    store.take(PeerInput::Forget);
    assert_eq!(store.replication.taken_bytes(), 0, "a step was refused");
}
