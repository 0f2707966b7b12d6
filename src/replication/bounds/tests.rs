//! A liar says more than anybody could mean; what this store remembers of it stays within its bounds, and others are heard.
use super::*;
use crate::base::{ClusterId, TopicId};
use crate::replication::digest;
use crate::replication::held::HeldRange;
use crate::replication::{PeerInput, PeerOutput, ReplicationConfig};
use crate::wire::peer::{Bucket, LogSummary, PeerMessage, Prefix, RunSummary, SentEnd};

const CLUSTER: ClusterId = ClusterId([0; 16]);
const LIAR: StoreId = StoreId(7);
const FRIEND: StoreId = StoreId(8);

fn topic(number: usize) -> TopicName {
    TopicName::new(&format!("topic/{number}")).expect("a name")
}

fn log(number: usize) -> LogId {
    LogId { topic: TopicId::of(CLUSTER, topic(number).as_str()), peer: PeerId([2; 32]) }
}

fn summary(number: usize, run: u64, held: Vec<(Seq, Seq)>) -> LogSummary {
    let run = RunSummary { run: RunId(run), parent: RunId(run + 1), from: Seq(1), held, link: 0 };
    LogSummary {
        log: log(number),
        topic: topic(number),
        runs: vec![run],
        heads: vec![],
        lost: vec![],
        forks: vec![],
    }
}

fn store() -> Replication {
    let mut store = Replication::new(ReplicationConfig::default(), CLUSTER, StoreId(1));
    for (other, peer) in [(LIAR, 7), (FRIEND, 8)] {
        store.handle(0, PeerInput::Up(other, PeerId([peer; 32])), &mut Vec::new());
    }
    store
}

fn hears(store: &mut Replication, now_ms: u64, from: StoreId, message: PeerMessage) -> Vec<PeerOutput> {
    let mut out = Vec::new();
    store.handle(now_ms, PeerInput::Message(from, message), &mut out);
    out
}

fn tells(store: &mut Replication, from: StoreId, held: Vec<LogSummary>) -> Vec<PeerOutput> {
    hears(store, 0, from, PeerMessage::Logs { held, ask: vec![] })
}

fn wants(out: &[PeerOutput], of: StoreId) -> Vec<RunRange> {
    let want = |output: &PeerOutput| match output {
        PeerOutput::Send(to, PeerMessage::Want { range, .. }) if *to == of => Some(*range),
        _ => None,
    };
    out.iter().filter_map(want).collect()
}

#[test]
fn a_liar_with_many_logs_is_remembered_up_to_its_share_and_others_are_heard() {
    let mut store = store();
    let share = store.runs_share();
    for first in (0..2 * share).step_by(1_000) {
        let range = vec![(Seq(1), Seq(9))];
        let told = (first..first + 1_000).map(|number| summary(number, 5, range.clone())).collect();
        tells(&mut store, LIAR, told);
    }
    assert_eq!(store.sessions[&LIAR].offers.len(), share);
    assert!(store.names.len() <= share && store.parents.len() <= share);
    // Somebody else is heard all the same.
    let out = tells(&mut store, FRIEND, vec![summary(9_999_999, 5, vec![(Seq(1), Seq(9))])]);
    assert_eq!(wants(&out, FRIEND).len(), 1);
    // And with the liar goes what it said.
    store.handle(0, PeerInput::Down(LIAR), &mut Vec::new());
    assert_eq!((store.names.len(), store.parents.len()), (1, 1));
}

#[test]
fn a_liar_that_offers_nothing_is_not_remembered() {
    let mut store = store();
    tells(&mut store, LIAR, (0..1_000).map(|number| summary(number, 5, vec![])).collect());
    assert_eq!((store.names.len(), store.parents.len()), (0, 0));
}

#[test]
fn of_a_run_in_many_pieces_the_first_are_remembered_and_the_rest_is_compared_for_later() {
    let mut store = store();
    let pieces = (1..10_000).map(|at| (Seq(2 * at), Seq(2 * at + 1))).collect();
    tells(&mut store, LIAR, vec![summary(1, 5, pieces)]);
    let offered = &store.sessions[&LIAR].offers[&(log(1), RunId(5))];
    assert_eq!(offered.iter().len(), OFFERED_RANGES_MAX);
    assert_eq!(offered.iter().next(), Some((Seq(2), Seq(3))), "the first ones, since a run comes in order");
    // A comparison is due again at once when there is room, and not only after the usual time.
    let mut out = Vec::new();
    store.tick(1, &mut out);
    out.clear();
    store.tick(QUIET_MS, &mut out);
    let begins = |output: &PeerOutput| matches!(output, PeerOutput::Send(LIAR, PeerMessage::Digest { .. }));
    assert!(out.iter().any(begins), "{out:?}");
}

#[test]
fn who_wants_too_much_at_once_is_told_to_wait_until_something_was_served() {
    let mut store = store();
    let range = RunRange { log: log(1), run: RunId(5), from: Seq(1), until: Seq(100) };
    let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
    store.handle(0, PeerInput::Held(topic(1), held), &mut Vec::new());
    let want = || PeerMessage::Want { range, bytes_max: 1, certificate: false };
    let is_served = |out: Vec<PeerOutput>| out.iter().any(|o| matches!(o, PeerOutput::Serve { .. }));
    for _ in 0..SERVES_MAX {
        assert!(is_served(hears(&mut store, 0, LIAR, want())));
    }
    let out = hears(&mut store, 0, LIAR, want());
    let busy = PeerMessage::Sent { range, until: range.from, end: SentEnd::Busy { retry_ms: BUSY_MS } };
    assert!(matches!(&out[..], [PeerOutput::Send(LIAR, sent)] if *sent == busy), "{out:?}");
    assert!(is_served(hears(&mut store, 0, FRIEND, want())), "others are served");
    store.handle(0, PeerInput::Served(LIAR), &mut Vec::new());
    assert!(is_served(hears(&mut store, 0, LIAR, want())));
}

#[test]
fn who_wants_more_than_is_served_at_once_is_served_in_parts() {
    let mut store = store();
    let range = RunRange { log: log(1), run: RunId(5), from: Seq(1), until: Seq(100) };
    let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
    store.handle(0, PeerInput::Held(topic(1), held), &mut Vec::new());
    let out =
        hears(&mut store, 0, LIAR, PeerMessage::Want { range, bytes_max: u64::MAX, certificate: false });
    let most = ReplicationConfig::default().want_bytes_max;
    assert!(matches!(&out[..], [PeerOutput::Serve { bytes_max, .. }] if *bytes_max == most), "{out:?}");
}

#[test]
fn who_is_told_to_wait_waits_and_asks_again() {
    let mut store = store();
    let range = RunRange { log: log(1), run: RunId(5), from: Seq(1), until: Seq(9) };
    let asked = tells(&mut store, FRIEND, vec![summary(1, 5, vec![(range.from, range.until)])]);
    assert_eq!(wants(&asked, FRIEND), [range]);
    let end = SentEnd::Busy { retry_ms: 1_500 };
    let mut out = hears(&mut store, 0, FRIEND, PeerMessage::Sent { range, until: range.from, end });
    store.tick(1_499, &mut out);
    assert_eq!(wants(&out, FRIEND), []);
    store.tick(1_500, &mut out);
    assert_eq!(wants(&out, FRIEND), [range]);
}

#[test]
fn a_comparison_follows_so_many_differences_at_once_and_others_the_next_time() {
    let mut store = store();
    for number in 0..20_000 {
        let range = RunRange { log: log(number), run: RunId(5), from: Seq(1), until: Seq(9) };
        let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
        store.handle(0, PeerInput::Held(topic(number), held), &mut Vec::new());
    }
    // All parts of the third level, each said to be empty.
    let parts: Vec<Prefix> = {
        let of = |parts: Vec<Prefix>| parts.iter().flat_map(|p| p.parts().collect::<Vec<_>>()).collect();
        of(of(Prefix::ALL.parts().collect()))
    };
    let empty = |prefix: &Prefix| Bucket { prefix: *prefix, hash: 0, count: 0 };
    let buckets: Vec<Bucket> = parts.iter().map(empty).collect();
    let followed = |salt| {
        let (answers, is_cut) = digest::answer(store.held(), salt, &buckets);
        assert!(is_cut);
        let prefix = |message: &PeerMessage| match message {
            PeerMessage::Leaves { prefix, .. } => prefix.bits,
            other => panic!("{other:?}"),
        };
        answers.iter().map(prefix).collect::<Vec<u64>>()
    };
    let (one, other) = (followed(1), followed(2_000));
    assert_eq!((one.len(), other.len()), (DIFFERING_MAX, DIFFERING_MAX));
    assert_ne!(one, other);
    // The same bucket a thousand times, or one inside the other, is looked at once.
    let again = vec![empty(&Prefix::ALL); 1_000];
    assert_eq!(digest::answer(store.held(), 1, &again).0.len(), 1);
    // Nor are all logs told to one who says that it holds none.
    let leaves = PeerMessage::Leaves { salt: 1, prefix: Prefix::ALL, logs: vec![] };
    let told = hears(&mut store, 0, LIAR, leaves).into_iter().map(|output| match output {
        PeerOutput::Send(_, PeerMessage::Logs { held, .. }) => held.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.sum::<usize>(), TOLD_MAX);
}

#[test]
fn what_is_taken_out_of_an_offered_range_leaves_no_more_pieces_than_are_remembered() {
    let range = |from, until| RunRange { log: log(1), run: RunId(5), from: Seq(from), until: Seq(until) };
    let mut session = Session::new(PeerId([9; 32]), 0);
    assert!(session.offer_within(&range(1, 1_000), 1));
    for at in 1..=OFFERED_RANGES_MAX as u64 + 3 {
        assert!(!session.forget(&range(10 * at, 10 * at + 1)), "some of it is left");
    }
    let offered = &session.offers[&(log(1), RunId(5))];
    assert_eq!(offered.iter().len(), OFFERED_RANGES_MAX);
    assert!(session.is_cut, "what was passed over is compared for later");
}
