//! How much is looked at and asked for with many sessions.
use super::*;
use crate::base::{ClusterId, LogId, PeerId, RunId, TopicId, TopicName};
use crate::replication::{PeerInput, ReplicationConfig};
use crate::wire::peer::{LogSummary, RunSummary, SentEnd};
use std::cell::Cell;

thread_local! {
    /// Looks at runs that might be asked for.
    pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
}

/// What the store under test sent.
type Sent = Vec<(StoreId, PeerMessage)>;

struct Store {
    replication: Replication,
    now_ms: u64,
}

fn log(of: u64) -> LogId {
    let mut peer = [3; 32];
    peer[..8].copy_from_slice(&of.to_be_bytes());
    LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PeerId(peer) }
}

fn range(of: u64, run: u64, from: u64, until: u64) -> RunRange {
    RunRange { log: log(of), run: RunId(run), from: Seq(from), until: Seq(until) }
}

impl Store {
    fn with_sessions(count: u64) -> Self {
        let replication =
            Replication::new(ReplicationConfig::default(), ClusterId([0; 16]), StoreId(u64::MAX));
        let mut store = Self { replication, now_ms: 1_000 };
        for n in 0..count {
            store.take(PeerInput::Up(StoreId(n), PeerId([n as u8; 32])));
        }
        store
    }

    fn take(&mut self, input: PeerInput) -> Sent {
        let mut out = Vec::new();
        self.replication.handle(self.now_ms, input, &mut out);
        self.sent(out)
    }

    fn tick(&mut self, ms: u64) -> Sent {
        let mut out = Vec::new();
        self.now_ms += ms;
        self.replication.tick(self.now_ms, &mut out);
        self.sent(out)
    }

    /// Whatever happens, what is counted and indexed is what there is.
    fn sent(&self, out: Vec<PeerOutput>) -> Sent {
        let sessions = &self.replication.sessions;
        let leases: usize = sessions.values().map(|session| session.leases.len()).sum();
        assert_eq!(self.replication.lease_count, leases);
        let offers = |(store, session): (&StoreId, &Session)| {
            session.offers.keys().map(|key| (*key, *store)).collect::<Vec<_>>()
        };
        for (key, store) in sessions.iter().flat_map(offers) {
            assert!(self.replication.offered.stores(key).any(|of| of == store));
        }
        let sent = out.into_iter().filter_map(|output| match output {
            PeerOutput::Send(to, message) => Some((to, message)),
            _ => None,
        });
        sent.collect()
    }

    /// A store says that it holds so many entries of some runs, each of which goes on from another.
    fn offer(&mut self, from: u64, of: u64, runs: impl Iterator<Item = (u64, u64)>, until: u64) -> Sent {
        let run = |(run, parent)| RunSummary {
            run: RunId(run),
            parent: RunId(parent),
            from: if parent == 0 { Seq::FIRST } else { Seq(until) },
            held: vec![if parent == 0 { (Seq::FIRST, Seq(until)) } else { (Seq(until), Seq(2 * until)) }],
            link: 0,
        };
        let topic = TopicName::new("jobs").expect("a name");
        let runs = runs.map(run).collect();
        let summary = LogSummary { log: log(of), topic, runs, heads: vec![], lost: vec![], forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        self.take(PeerInput::Message(StoreId(from), message))
    }
}

fn wants(sent: &Sent) -> Vec<(u64, RunRange)> {
    let want = |(to, message): &(StoreId, PeerMessage)| match message {
        PeerMessage::Want { range, .. } => Some((to.0, *range)),
        _ => None,
    };
    sent.iter().filter_map(want).collect()
}

fn looks(work: impl FnOnce()) -> usize {
    let before = LOOKED.with(Cell::get);
    work();
    LOOKED.with(Cell::get) - before
}

#[test]
fn a_message_that_changes_nothing_looks_at_no_store() {
    let mut store = Store::with_sessions(100);
    for n in 0..100 {
        store.offer(n, n % 10, [(1, 0)].into_iter(), 1_000_000);
    }
    let idle = looks(|| {
        for n in 0..1_000 {
            let message = PeerMessage::Neighbors(vec![StoreId(n)]);
            store.take(PeerInput::Message(StoreId(n % 100), message));
        }
    });
    assert_eq!(idle, 0);
}

#[test]
fn an_answer_looks_at_those_who_offer_the_same_and_no_others() {
    let mut store = Store::with_sessions(100);
    let mut open = Vec::new();
    for n in 0..100 {
        open.extend(wants(&store.offer(n, n / 2, [(1, 0)].into_iter(), 100)));
    }
    assert_eq!(open.len(), 50, "one of each two is asked");
    let (to, range) = open[7];
    let end = SentEnd::Busy { retry_ms: 1_000 };
    let sent = PeerMessage::Sent { range, until: range.from, end };
    let mut asked = Vec::new();
    let looked = looks(|| asked = wants(&store.take(PeerInput::Message(StoreId(to), sent))));
    assert!((1..=4).contains(&looked), "{looked}");
    assert_eq!(asked, [(to ^ 1, range)], "the other one that has it");
}

#[test]
fn whoever_rested_is_asked_again_without_being_heard_of() {
    let mut store = Store::with_sessions(2);
    let (to, range) = wants(&store.offer(0, 0, [(1, 0)].into_iter(), 100))[0];
    let end = SentEnd::Busy { retry_ms: 300 };
    store.take(PeerInput::Message(StoreId(to), PeerMessage::Sent { range, until: range.from, end }));
    assert_eq!(wants(&store.tick(299)), []);
    store.now_ms += 1;
    let other = PeerMessage::Neighbors(vec![]);
    assert_eq!(wants(&store.take(PeerInput::Message(StoreId(1), other))), [(0, range)]);
}

#[test]
fn a_hundred_stores_are_asked_for_sixty_four_pieces_and_one_more_each() {
    let mut store = Store::with_sessions(100);
    let mut open = Vec::new();
    for n in 0..100 {
        open.extend(wants(&store.offer(n, n, (1..=20).map(|run| (run, 0)), 100)));
        assert!(open.len() <= LEASES_MAX + n as usize + 1);
    }
    let of = |n: u64| open.iter().filter(|(to, _)| *to == n).count();
    assert_eq!((of(0), of(7), of(8), of(99)), (WANTS_MAX, WANTS_MAX, 1, 1), "nobody is left out");
    // One who answers is asked for the next, and not for more than one at a time.
    let (_, range) = open[open.len() - 1];
    let sent = PeerMessage::Sent { range, until: range.from, end: SentEnd::Enough };
    assert_eq!(wants(&store.take(PeerInput::Message(StoreId(99), sent))).len(), 1);
    assert_eq!(store.replication.lease_count, LEASES_MAX + 92);
    // Once those do not answer, others are asked for more.
    store.tick(ReplicationConfig::default().lease_ms);
    let most = store.replication.sessions.values().map(|session| session.leases.len()).max();
    assert!(store.replication.lease_count <= LEASES_MAX + 100 && most <= Some(WANTS_MAX));
}

#[test]
fn at_the_bound_what_comes_behind_many_runs_that_have_to_wait_has_its_turn() {
    let mut store = Store::with_sessions(10);
    for n in 0..8 {
        store.offer(n, 50 + n, (1..=20).map(|run| (run, 0)), 100);
    }
    assert_eq!(store.replication.lease_count, LEASES_MAX);
    // Runs that go on from one that another offers, who rests; behind them one that waits for nothing.
    store.offer(8, 1, [(900, 0)].into_iter(), 100);
    let range = range(1, 900, 1, 100);
    let end = SentEnd::Busy { retry_ms: 5_000 };
    store.take(PeerInput::Message(StoreId(8), PeerMessage::Sent { range, until: range.from, end }));
    let mut asked = wants(&store.offer(9, 1, (1..=200).map(|run| (run, 900)), 100));
    asked.extend(wants(&store.offer(9, 2, [(1, 0)].into_iter(), 100)));
    let looked = looks(|| {
        for _ in 0..10 {
            asked.extend(wants(&store.take(PeerInput::Message(StoreId(0), PeerMessage::Neighbors(vec![])))));
        }
    });
    let of_nine: Vec<_> = asked.iter().filter(|(to, _)| *to == 9).map(|(_, range)| range.log).collect();
    assert_eq!(of_nine, [log(2)]);
    assert!(looked <= 5 * LOOKS_MAX, "{looked}");
}

#[test]
fn sessions_that_begin_at_once_are_told_of_once() {
    let replication = Replication::new(ReplicationConfig::default(), ClusterId([0; 16]), StoreId(u64::MAX));
    let mut store = Store { replication, now_ms: 1_000 };
    let told = |sent: Sent| {
        sent.into_iter()
            .filter(|(_, message)| matches!(message, PeerMessage::Neighbors(_)))
            .collect::<Vec<_>>()
    };
    let mut at_once = 0;
    for n in 0..100 {
        at_once += told(store.take(PeerInput::Up(StoreId(n), PeerId([n as u8; 32])))).len();
    }
    assert_eq!(at_once, 1);
    let all = told(store.tick(1_000));
    let expected: Vec<StoreId> = (0..100).map(StoreId).collect();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|(_, message)| *message == PeerMessage::Neighbors(expected.clone())));
    assert_eq!(told(store.tick(1_000)), []);
    store.take(PeerInput::Down(StoreId(3)));
    assert_eq!(told(store.tick(1_000)).len(), 0, "it was told at once");
}
