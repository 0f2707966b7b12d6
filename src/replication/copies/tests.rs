use super::*;
use crate::base::{ClusterId, LogId, TopicId, TopicName};
use crate::replication::bounds::SAID_RANGES_MAX;
use crate::replication::held::HeldRange;
use crate::replication::{PeerInput, Replication, ReplicationConfig};
use crate::wire::peer::RunSummary;

const RUN: RunId = RunId(5);
const TIMEOUT_MS: u64 = 5_000;

fn log() -> LogId {
    LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PeerId([1; 32]) }
}

fn range(from: u64, until: u64) -> RunRange {
    RunRange { log: log(), run: RUN, from: Seq(from), until: Seq(until) }
}

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

/// A store in sessions with others, and what came of its inputs.
struct Story {
    replication: Replication,
    now_ms: u64,
    copied: Vec<(u64, Vec<u8>)>,
    late: Vec<(u64, Vec<u8>, usize)>,
    asked: Vec<StoreId>,
}

impl Story {
    /// Sessions with these stores of these peers.
    fn with(others: &[(u64, u8)]) -> Self {
        let config = ReplicationConfig { replicas_timeout_ms: TIMEOUT_MS, ..ReplicationConfig::default() };
        let replication = Replication::new(config, ClusterId([0; 16]), StoreId(1));
        let (copied, late, asked) = Default::default();
        let mut story = Self { replication, now_ms: 0, copied, late, asked };
        let held = HeldRange { range: range(1, 1_000_000), parent: RunId::NONE, begin: Seq::FIRST, link: 0 };
        story.input(PeerInput::Held(TopicName::new("jobs").expect("a name"), held));
        for (store, number) in others {
            story.input(PeerInput::Up(StoreId(*store), peer(*number)));
        }
        story
    }

    fn input(&mut self, input: PeerInput) {
        let mut out = Vec::new();
        self.replication.handle(self.now_ms, input, &mut out);
        self.note(out);
    }

    fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let mut out = Vec::new();
        self.replication.tick(now_ms, &mut out);
        self.note(out);
    }

    fn note(&mut self, out: Vec<PeerOutput>) {
        let keys = |holders: Vec<(PeerId, StoreId)>| holders.iter().map(|(peer, _)| peer.0[0]).collect();
        for output in out {
            match output {
                PeerOutput::Copied { ticket, holders, .. } => self.copied.push((ticket, keys(holders))),
                PeerOutput::Late { ticket, holders, available } => {
                    self.late.push((ticket, keys(holders), available));
                }
                PeerOutput::Send(to, PeerMessage::Logs { ask, .. }) if ask == [tag_of(&log())] => {
                    self.asked.push(to);
                }
                _ => {}
            }
        }
    }

    fn wait(&mut self, ticket: u64, range: RunRange, others: u8) {
        self.wait_of(Age::New, ticket, range, others);
    }

    fn wait_of(&mut self, age: Age, ticket: u64, range: RunRange, others: u8) {
        self.input(PeerInput::Await(vec![Await { ticket, range, others, age, timeout_ms: None }]));
    }

    fn have(&mut self, store: u64, range: RunRange) {
        self.input(PeerInput::Message(StoreId(store), PeerMessage::Have(range, 0)));
    }

    fn summary(&mut self, store: u64, held: &[(u64, u64)]) {
        let held: Vec<_> = held.iter().map(|(from, until)| (Seq(*from), Seq(*until))).collect();
        let run = RunSummary { run: RUN, parent: RunId::NONE, from: Seq(1), held, link: 0 };
        let runs = if run.held.is_empty() { vec![] } else { vec![run] };
        let topic = TopicName::new("jobs").expect("a name");
        let summary = LogSummary { log: log(), topic, runs, heads: vec![], lost: vec![], forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        self.input(PeerInput::Message(StoreId(store), message));
    }
}

#[test]
fn an_append_is_answered_when_enough_peers_hold_all_of_it_and_each_counts_once() {
    // Store 12 is of the same peer as 11, and 19 is a copy of our own.
    let mut story = Story::with(&[(11, 2), (12, 2), (13, 3), (19, 1)]);
    story.wait(7, range(10, 13), 2);
    story.have(11, range(10, 12));
    story.have(12, range(10, 13));
    story.have(19, range(10, 13));
    story.have(11, range(12, 13));
    assert_eq!(story.copied, [], "one peer is not two, and this one is counted already");
    story.have(13, range(9, 40));
    assert_eq!(story.copied, [(7, vec![2, 3])]);
    assert!(story.replication.copies_are_empty(), "nothing is remembered of what nobody waits for");
}

#[test]
fn what_was_said_before_it_waits_or_of_numbers_beyond_counts_for_nothing() {
    let mut story = Story::with(&[(11, 2)]);
    story.have(11, range(1, 1_000));
    story.wait(1, range(10, 11), 1);
    assert_eq!(story.copied, []);
    story.have(11, range(10, 1_000));
    story.wait(2, range(20, 21), 1);
    assert_eq!(story.copied, [(1, vec![2])], "20 was not there yet when it was said");
}

#[test]
fn a_session_that_ended_takes_along_what_its_store_said_and_gone_takes_it_back() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.wait(1, range(10, 11), 2);
    story.have(11, range(10, 11));
    story.input(PeerInput::Down(StoreId(11)));
    // The same peer with an empty disk.
    story.input(PeerInput::Up(StoreId(21), peer(2)));
    story.have(12, range(10, 11));
    assert_eq!(story.copied, []);
    story.input(PeerInput::Message(StoreId(12), PeerMessage::Gone(range(10, 11))));
    story.have(21, range(10, 11));
    assert_eq!(story.copied, []);
    story.have(12, range(10, 11));
    assert_eq!(story.copied, [(1, vec![2, 3])]);
}

#[test]
fn when_its_time_is_over_it_is_told_who_holds_it_and_who_could() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.wait(1, range(10, 11), 3);
    story.have(12, range(10, 11));
    story.at(TIMEOUT_MS - 1);
    assert_eq!(story.late, []);
    story.at(TIMEOUT_MS);
    assert_eq!(story.late, [(1, vec![3], 3)]);
    story.at(2 * TIMEOUT_MS);
    assert_eq!((story.late.len(), story.copied.len()), (1, 0));
    assert!(story.replication.copies_are_empty());
}

#[test]
fn those_that_wait_for_fewer_do_not_wait_behind_those_that_wait_for_more() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.wait(1, range(10, 11), 2);
    story.wait(2, range(11, 12), 1);
    story.wait(3, range(12, 13), 1);
    story.have(11, range(10, 13));
    assert_eq!(story.copied, [(2, vec![2]), (3, vec![2])]);
    story.have(12, range(10, 13));
    assert_eq!(story.copied.len(), 3);
}

#[test]
fn who_says_nothing_is_asked_and_its_whole_answer_counts() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.now_ms = 100_000;
    story.wait(1, range(10, 11), 2);
    story.have(12, range(10, 11));
    assert_eq!(story.asked, []);
    story.at(100_500);
    assert_eq!(story.asked, []);
    story.at(101_000);
    assert_eq!(story.asked, [StoreId(11)]);
    story.summary(12, &[(1, 10)]);
    story.summary(11, &[(1, 5), (8, 11)]);
    assert_eq!(story.copied, [], "the other says now that it does not hold it");
    story.summary(12, &[(1, 40)]);
    assert_eq!(story.copied, [(1, vec![2, 3])]);
    // Of what others may hold for long they are asked at once.
    story.wait_of(Age::Repeat, 2, range(3, 4), 1);
    assert_eq!(story.asked[1..], [StoreId(11), StoreId(12)]);
    story.summary(12, &[]);
    story.summary(11, &[(1, 11)]);
    assert_eq!(story.copied[1..], [(2, vec![2])]);
}

#[test]
fn a_store_that_tells_many_tales_is_remembered_in_few_words() {
    let mut story = Story::with(&[(11, 2)]);
    story.wait(1, range(1, 100_000), 1);
    (0..10_000).for_each(|at| story.have(11, range(1 + 3 * at, 2 + 3 * at)));
    assert_eq!(story.replication.said_count(), SAID_RANGES_MAX);
    story.summary(11, &[(1, 100_000)]);
    assert_eq!(story.copied, [(1, vec![2])]);
}

#[test]
fn what_people_look_at_holds_up_no_append_that_waits() {
    let mut story = Story::with(&[(11, 2)]);
    story.wait(1, range(1_000, 1_001), 1);
    story.wait_of(Age::Looked, 2, range(1, 1_001), 1);
    story.wait_of(Age::Repeat, 3, range(990, 991), 1);
    story.have(11, range(1_000, 1_001));
    assert_eq!(story.copied, [(1, vec![2])], "though of what is older it is not known yet");
    story.have(11, range(990, 991));
    assert_eq!(story.copied[1..], [(3, vec![2])], "nor does an append that came again wait for that");
    story.wait(4, range(1_001, 1_002), 1);
    story.have(11, range(1_001, 1_002));
    assert_eq!(story.copied[2..], [(4, vec![2])]);
    story.summary(11, &[(1, 1_002)]);
    assert_eq!(story.copied[3..], [(2, vec![2])]);
    assert!(story.replication.copies_are_empty());
}

#[test]
fn of_what_people_look_at_stores_are_asked_at_once_though_appends_come_and_go() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.now_ms = 10_000;
    story.wait(1, range(1_000, 1_001), 2);
    story.wait_of(Age::Looked, 2, range(1, 1_001), 1);
    assert_eq!(story.asked, [StoreId(11), StoreId(12)]);
    // Nobody answers, and all the time an append is let go: they are asked again.
    for number in 1_000..1_010 {
        story.at(10_000 + (number - 999) * 150);
        story.wait(number, range(number + 1, number + 2), 2);
        for store in [11, 12] {
            story.have(store, range(number, number + 1));
        }
    }
    assert_eq!(story.copied.len(), 10);
    assert_eq!(story.asked.len(), 4);
    story.wait_of(Age::Looked, 3, range(1, 1_001), 1);
    assert_eq!(story.asked.len(), 6, "whoever looks again does not wait for the next time");
}

#[test]
fn many_old_pieces_leave_room_for_what_is_said_of_new_entries() {
    let mut story = Story::with(&[(11, 2)]);
    story.wait_of(Age::Looked, 1, range(1, 1_001), 1);
    story.wait(2, range(1_000, 1_001), 1);
    let pieces: Vec<(u64, u64)> = (0..100).map(|at| (1 + 3 * at, 2 + 3 * at)).collect();
    story.summary(11, &pieces);
    story.have(11, range(1_000, 1_001));
    assert_eq!(story.copied, [(2, vec![2])]);
}

#[test]
fn what_waits_behind_something_that_nobody_holds_is_not_late_when_others_hold_it() {
    let mut story = Story::with(&[(11, 2)]);
    story.wait_of(Age::Looked, 1, range(1, 10), 1);
    story.wait_of(Age::Looked, 2, range(20, 30), 1);
    story.summary(11, &[(15, 30)]);
    story.at(TIMEOUT_MS);
    assert_eq!((story.copied, story.late), (vec![(2, vec![2])], vec![(1, vec![], 2)]));
}

#[test]
fn of_many_runs_of_a_log_stores_are_asked_once_and_of_many_logs_in_parts() {
    let mut story = Story::with(&[(11, 2)]);
    let look = |ticket: u64, log: LogId, run: u64| {
        let range = RunRange { log, run: RunId(run), from: Seq(1), until: Seq(2) };
        Await { ticket, range, others: 1, age: Age::Looked, timeout_ms: None }
    };
    story.input(PeerInput::Await((0..100).map(|at| look(at, log(), 1 + at)).collect()));
    assert_eq!(story.asked, [StoreId(11)]);
    let log_of = |at: u64| LogId { topic: TopicId::of(ClusterId([0; 16]), &at.to_string()), ..log() };
    let (mut out, logs) = (Vec::new(), 2 * TOLD_MAX as u64 + 10);
    let looks = (0..logs).map(|at| look(1_000 + at, log_of(at), 1)).collect();
    story.replication.handle(0, PeerInput::Await(looks), &mut out);
    let asked = |out: &mut Vec<PeerOutput>| {
        let ask = |output| match output {
            PeerOutput::Send(_, PeerMessage::Logs { ask, .. }) => ask.len(),
            _ => 0,
        };
        out.drain(..).map(ask).collect::<Vec<usize>>()
    };
    assert_eq!(asked(&mut out), [TOLD_MAX]);
    story.replication.tick(10, &mut out);
    assert_eq!(asked(&mut out), [TOLD_MAX]);
    // The next part when an answer comes, rather than with the next look.
    story.now_ms = 40;
    let summary = LogSummary {
        log: log(),
        topic: TopicName::new("jobs").expect("a name"),
        runs: vec![],
        heads: vec![],
        lost: vec![],
        forks: vec![],
    };
    let answer = PeerMessage::Logs { held: vec![summary], ask: vec![] };
    story.replication.handle(40, PeerInput::Message(StoreId(11), answer), &mut out);
    assert_eq!(asked(&mut out).iter().sum::<usize>(), 10);
}

#[test]
fn thousands_that_wait_cost_little_each() {
    let mut story = Story::with(&[(11, 2), (12, 3), (13, 4)]);
    for number in 1..=20_000 {
        story.wait(number, range(number, number + 1), 2);
    }
    // One after the other; were each a walk over all that wait, this would not end.
    for number in 1..=20_000 {
        story.have(11, range(number, number + 1));
        story.have(12, range(number, number + 1));
    }
    let expected: Vec<u64> = (1..=20_000).collect();
    assert_eq!(story.copied.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), expected);
}

impl Story {
    /// A batch of ours ends there.
    fn end(&mut self, until: u64, link: u64) {
        self.replication.note_ends(&[((log(), RUN, Seq(until)), link)].into());
    }

    fn have_with(&mut self, store: u64, range: RunRange, link: u64) {
        self.input(PeerInput::Message(StoreId(store), PeerMessage::Have(range, link)));
    }
}

/// The machine was resumed from a snapshot, and its other copy writes the same run.
#[test]
fn who_holds_other_batches_under_these_numbers_holds_no_copy() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    story.wait(1, range(10, 12), 1);
    story.end(12, 7);
    story.have_with(11, range(10, 12), 8);
    story.have_with(11, range(10, 13), 9);
    story.have_with(11, range(10, 14), 9);
    assert_eq!(story.copied, [], "none of these batches is ours");
    story.wait(2, range(12, 14), 1);
    story.end(14, 9);
    story.have_with(12, range(10, 12), 7);
    assert_eq!(story.copied, [(1, vec![3])]);
    story.have_with(12, range(12, 14), 9);
    assert_eq!(story.copied[1], (2, vec![3]));
}

#[test]
fn what_waits_of_a_run_that_forked_waits_for_copies_of_its_branch() {
    let mut story = Story::with(&[(11, 2), (12, 3)]);
    let branch = RunId(99);
    story.at(2_000);
    story.wait(1, range(10, 12), 2);
    story.wait(2, range(20, 22), 2);
    story.have(11, range(10, 22));
    story.input(PeerInput::Renamed { log: log(), run: RUN, from: Seq(20), branch });
    assert_eq!(story.asked, [StoreId(11), StoreId(12)], "what they hold of the branch");
    story.have(12, range(10, 22));
    assert_eq!(story.copied, [(1, vec![2, 3])], "what comes before the fork has its name still");
    for store in [11, 12] {
        story.have(store, RunRange { run: branch, ..range(20, 22) });
    }
    assert_eq!(story.copied[1], (2, vec![2, 3]));
    assert!(story.replication.copies_are_empty());
}
