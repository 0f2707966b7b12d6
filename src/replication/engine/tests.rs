use super::*;
use crate::base::{Digest, Head, Signature, Timestamp};
use crate::wire::peer::{RunSummary, SentEnd};

const OTHER: StoreId = StoreId(7);

fn log() -> LogId {
    LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PeerId([2; 32]) }
}

fn jobs() -> TopicName {
    TopicName::new("jobs").expect("a name")
}

fn run(run: u64, parent: u64, from: u64, until: u64) -> RunSummary {
    let held = vec![(Seq(from), Seq(until))];
    RunSummary { run: RunId(run), parent: RunId(parent), from: Seq(from), held, link: 0 }
}

/// A store that another one tells what it holds; answers what it asks for.
fn told(replication: &mut Replication, runs: Vec<RunSummary>) -> Vec<(u64, u64, u64)> {
    let summary = LogSummary { log: log(), topic: jobs(), runs, heads: vec![], lost: vec![], forks: vec![] };
    let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
    asked(replication, PeerInput::Message(OTHER, message))
}

fn asked(replication: &mut Replication, input: PeerInput) -> Vec<(u64, u64, u64)> {
    let mut out = Vec::new();
    replication.handle(0, input, &mut out);
    let wants = out.into_iter().filter_map(|output| match output {
        PeerOutput::Send(_, PeerMessage::Want { range, .. }) => {
            Some((range.run.0, range.from.0, range.until.0))
        }
        _ => None,
    });
    wants.collect()
}

fn with_session() -> Replication {
    let mut replication = Replication::new(ReplicationConfig::default(), ClusterId([0; 16]), StoreId(1));
    replication.handle(0, PeerInput::Up(OTHER, PeerId([9; 32])), &mut Vec::new());
    replication
}

#[test]
fn a_trim_of_what_was_offered_does_not_hold_up_what_goes_on_from_it() {
    let mut replication = with_session();
    assert_eq!(told(&mut replication, vec![run(1, 0, 1, 10)]), [(1, 1, 10)]);
    let range = RunRange { log: log(), run: RunId(1), from: Seq(1), until: Seq(10) };
    let sent = PeerMessage::Sent { range, until: Seq(1), end: SentEnd::Busy { retry_ms: 60_000 } };
    asked(&mut replication, PeerInput::Message(OTHER, sent));
    told(&mut replication, vec![run(2, 1, 10, 12)]);
    let (start, until, time) = (Seq(10), Seq(10), Timestamp(1));
    let (parent, from) = (RunId::NONE, Seq::FIRST);
    let head = Head {
        log: log(),
        run: RunId(1),
        parent,
        from,
        start,
        until,
        time,
        last: Digest::ZERO,
        is_sealed: true,
    };
    asked(&mut replication, PeerInput::HeldHead(jobs(), head, Signature([0; 64])));
    let mut out = Vec::new();
    replication.tick(60_000, &mut out);
    let is_want = |output: &&PeerOutput| matches!(output, PeerOutput::Send(_, PeerMessage::Want { range, .. }) if range.run == RunId(2));
    assert_eq!(out.iter().filter(is_want).count(), 1, "{out:?}");
}

#[test]
fn what_did_not_come_in_time_is_asked_of_another() {
    let mut replication = with_session();
    assert_eq!(told(&mut replication, vec![run(1, 0, 1, 10)]), [(1, 1, 10)]);
    replication.handle(0, PeerInput::Up(StoreId(8), PeerId([8; 32])), &mut Vec::new());
    let have = PeerMessage::Have(RunRange { log: log(), run: RunId(1), from: Seq(1), until: Seq(10) }, 0);
    assert_eq!(asked(&mut replication, PeerInput::Message(StoreId(8), have)), []);
    let mut out = Vec::new();
    replication.tick(ReplicationConfig::default().lease_ms, &mut out);
    let is_want =
        |output: &&PeerOutput| matches!(output, PeerOutput::Send(StoreId(8), PeerMessage::Want { .. }));
    assert_eq!(out.iter().filter(is_want).count(), 1, "{out:?}");
}

#[test]
fn a_topic_whose_name_damage_took_is_told_of_and_heard_of_by_its_id() {
    let unnamed = TopicName::system("$unnamed-1").expect("a name");
    let told_as = |topic: &TopicName, first: u64| {
        let runs = vec![run(first, 0, 1, 10)];
        let summary =
            LogSummary { log: log(), topic: topic.clone(), runs, heads: vec![], lost: vec![], forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        PeerInput::Message(OTHER, message)
    };
    let range = RunRange { log: log(), run: RunId(3), from: Seq(1), until: Seq(4) };
    let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
    // Here it has its name, and the other lost it.
    let mut replication = with_session();
    assert_eq!(asked(&mut replication, told_as(&unnamed, 1)), [], "nobody knows which topic that is");
    asked(&mut replication, PeerInput::Held(jobs(), held));
    assert_eq!(asked(&mut replication, told_as(&unnamed, 1)), [(1, 1, 10)]);
    // Here it was lost, and the other has it.
    let mut replication = with_session();
    asked(&mut replication, PeerInput::Held(unnamed, held));
    assert_eq!(asked(&mut replication, told_as(&jobs(), 1)), [(1, 1, 10)]);
    assert_eq!(replication.topic_of(&log()), Some(&jobs()));
}

#[test]
fn what_was_asked_in_a_session_that_ended_without_a_word_is_asked_in_the_next() {
    let mut replication = with_session();
    assert_eq!(told(&mut replication, vec![run(1, 0, 1, 10)]), [(1, 1, 10)]);
    assert_eq!(asked(&mut replication, PeerInput::Up(OTHER, PeerId([9; 32]))), []);
    assert_eq!(told(&mut replication, vec![run(1, 0, 1, 10)]), [(1, 1, 10)]);
}

#[test]
fn what_came_from_a_store_is_told_to_those_who_have_no_session_with_it_now() {
    let mut replication = with_session();
    let third = StoreId(8);
    replication.handle(0, PeerInput::Up(third, PeerId([8; 32])), &mut Vec::new());
    replication.handle(0, PeerInput::Up(StoreId(9), log().peer), &mut Vec::new());
    let told = |seq: u64, replication: &mut Replication| {
        let range = RunRange { log: log(), run: RunId(1), from: Seq(seq), until: Seq(seq + 1) };
        replication.handle(
            0,
            PeerInput::Took { from: OTHER, range, bytes: 1, is_pushed: false },
            &mut Vec::new(),
        );
        let mut out = Vec::new();
        let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
        replication.handle(0, PeerInput::Held(jobs(), held), &mut out);
        let have = |output: &PeerOutput| match output {
            PeerOutput::Send(to, PeerMessage::Have(..)) => Some(to.0),
            _ => None,
        };
        out.iter().filter_map(have).collect::<Vec<_>>()
    };
    assert_eq!(told(1, &mut replication), [8, 9]);
    let neighbors = |stores| PeerMessage::Neighbors(stores);
    replication.handle(0, PeerInput::Message(third, neighbors(vec![StoreId(1), OTHER])), &mut Vec::new());
    replication.handle(0, PeerInput::Message(StoreId(9), neighbors(vec![OTHER])), &mut Vec::new());
    assert_eq!(told(2, &mut replication), [9], "the log's own peer counts copies");
    assert_eq!(told(3, &mut replication), [9]);
    replication.handle(0, PeerInput::Message(third, neighbors(vec![StoreId(1)])), &mut Vec::new());
    assert_eq!(told(4, &mut replication), [8, 9]);
    replication.handle(0, PeerInput::Down(third), &mut Vec::new());
    assert_eq!(told(5, &mut replication), [9]);
}

/// A store in session with the one whose entries these are, with one that relays them, and with two more.
fn relay() -> Replication {
    let mut replication = with_session();
    let jobs = LogSummary {
        log: log(),
        topic: jobs(),
        runs: vec![run(1, 0, 1, 2)],
        heads: vec![],
        lost: vec![],
        forks: vec![],
    };
    for store in [8, 9, 10] {
        let peer = if store == 9 { log().peer } else { PeerId([store as u8; 32]) };
        replication.handle(0, PeerInput::Up(StoreId(store), peer), &mut Vec::new());
        let follow = PeerMessage::Follow { until: 16, came: 0 };
        replication.handle(0, PeerInput::Message(StoreId(store), follow), &mut Vec::new());
    }
    let told = PeerMessage::Logs { held: vec![jobs], ask: vec![] };
    replication.handle(0, PeerInput::Message(OTHER, told), &mut Vec::new());
    replication
}

/// An entry that was pushed becomes durable: to whom it is pushed on, and who is told.
fn pushed(replication: &mut Replication, seq: u64) -> (Vec<u64>, Vec<u64>) {
    let range = RunRange { log: log(), run: RunId(1), from: Seq(seq), until: Seq(seq + 1) };
    let took = PeerInput::Took { from: OTHER, range, bytes: 1, is_pushed: true };
    replication.handle(0, took, &mut Vec::new());
    let (mut out, mut on, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let held = HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
    replication.handle(0, PeerInput::Held(jobs(), held), &mut out);
    for output in out {
        match output {
            PeerOutput::Push { to, .. } => on.extend(to.into_iter().map(|(to, _)| to.0)),
            PeerOutput::Send(to, PeerMessage::Have(..)) => told.push(to.0),
            _ => {}
        }
    }
    (on, told)
}

fn have(seq: u64) -> PeerMessage {
    PeerMessage::Have(RunRange { log: log(), run: RunId(1), from: Seq(seq), until: Seq(seq + 1) }, 0)
}

#[test]
fn what_was_pushed_is_pushed_on_to_those_who_do_not_have_it_from_elsewhere() {
    let mut replication = relay();
    assert_eq!(pushed(&mut replication, 2), (vec![8, 10], vec![9]), "its own peer counts copies");
    // One of them had it from somebody else: from now on it is told.
    asked(&mut replication, PeerInput::Message(StoreId(8), have(2)));
    assert_eq!(pushed(&mut replication, 3), (vec![10], vec![8, 9]));
    // Until it asks.
    let range = RunRange { log: log(), run: RunId(1), from: Seq(3), until: Seq(4) };
    let want = PeerMessage::Want { range, bytes_max: 1, certificate: false };
    asked(&mut replication, PeerInput::Message(StoreId(8), want));
    assert_eq!(pushed(&mut replication, 4), (vec![8, 10], vec![9]));
    // Who says that it holds what is on its way here is sent nothing.
    asked(&mut replication, PeerInput::Message(StoreId(10), have(5)));
    assert_eq!(pushed(&mut replication, 5), (vec![8], vec![9]));
}

#[test]
fn what_was_asked_for_is_not_pushed_on() {
    let mut replication = relay();
    let range = RunRange { log: log(), run: RunId(1), from: Seq(1), until: Seq(2) };
    let took = PeerInput::Took { from: OTHER, range, bytes: 1, is_pushed: false };
    replication.handle(0, took, &mut Vec::new());
    let (mut out, held) = (Vec::new(), HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 });
    replication.handle(0, PeerInput::Held(jobs(), held), &mut out);
    assert!(!out.iter().any(|output| matches!(output, PeerOutput::Push { .. })), "{out:?}");
}

#[test]
fn who_pushes_what_came_from_another_is_told_once_it_is_held() {
    let mut replication = relay();
    let range = RunRange { log: log(), run: RunId(1), from: Seq(2), until: Seq(3) };
    let took = PeerInput::Took { from: OTHER, range, bytes: 1, is_pushed: true };
    replication.handle(0, took, &mut Vec::new());
    let mut out = Vec::new();
    replication.handle(0, PeerInput::NotTaken(StoreId(10), range, 0), &mut out);
    assert!(
        !out.iter().any(|output| matches!(output, PeerOutput::Send(_, PeerMessage::Have(..)))),
        "not yet"
    );
    assert_eq!(pushed(&mut replication, 2), (vec![8], vec![9, 10]));
    out.clear();
    replication.handle(0, PeerInput::NotTaken(StoreId(8), range, 0), &mut out);
    assert!(matches!(out[..], [PeerOutput::Send(StoreId(8), PeerMessage::Have(..))]), "{out:?}");
}

#[test]
fn what_a_push_should_bring_is_asked_for_when_it_has_not() {
    let mut replication = relay();
    pushed(&mut replication, 2);
    assert_eq!(asked(&mut replication, PeerInput::Message(OTHER, have(3))), [(1, 3, 4)], "of who pushes");
    assert_eq!(asked(&mut replication, PeerInput::Message(StoreId(8), have(4))), [], "it should come");
    let (mut out, mut wants) = (Vec::new(), Vec::new());
    for at in 1..3 {
        replication.tick(at * 1_000, &mut out);
        let want =
            |output: &PeerOutput| matches!(output, PeerOutput::Send(StoreId(8), PeerMessage::Want { .. }));
        wants.push(out.iter().any(want));
    }
    assert_eq!(wants, [false, true]);
    replication.handle(2_000, PeerInput::Down(OTHER), &mut Vec::new());
    let five = asked(&mut replication, PeerInput::Message(StoreId(10), have(5)));
    assert!(five.contains(&(1, 5, 6)), "who pushed is gone: {five:?}");
}
