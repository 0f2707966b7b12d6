use super::*;
use crate::base::{ClusterId, Digest, LogId, PeerName, Remains, RunId, Seq, Timestamp, TopicId, TopicName};
use crate::disk::MemDisk;
use crate::identity::Verifier;
use crate::identity::certificate::CertificateError;
use crate::log::LogConfig;
use std::cell::Cell;
use std::task::{Context, Poll, Waker};

thread_local! {
    static CHECKED: Cell<usize> = const { Cell::new(0) };
}

/// Believes signatures that begin with 1, or as the key does, and counts what it is asked.
struct Counting;

impl Verifier for Counting {
    fn verify(&self, by: PeerId, _: &[u8], signature: &Signature) -> bool {
        CHECKED.with(|count| count.set(count.get() + 1));
        signature.0[0] == 1 || (by != PEER && signature.0[0] == by.0[0])
    }
}

impl Trust for Counting {
    fn peer_of(&self, _: &[u8]) -> Result<(PeerId, PeerName), CertificateError> {
        Err(CertificateError::Malformed)
    }

    fn admin_of(&self, _: &[u8]) -> Result<PeerId, CertificateError> {
        Err(CertificateError::Malformed)
    }
}

fn checks(work: impl FnOnce()) -> usize {
    CHECKED.with(Cell::take);
    work();
    CHECKED.with(Cell::take)
}

const PEER: PeerId = PeerId([2; 32]);

fn log() -> LogId {
    LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PEER }
}

fn head(start: u64) -> Head {
    let (run, parent, from, until, time) = (RunId(1), RunId::NONE, Seq(1), Seq(9), Timestamp(1));
    let (start, last, is_sealed) = (Seq(start), Digest::ZERO, false);
    Head { log: log(), run, parent, from, start, until, time, last, is_sealed }
}

fn lost(from: u64, signer: PeerId) -> Lost {
    Lost { log: log(), run: RunId(1), from: Seq(from), until: Seq(9), time: Timestamp(1), signer }
}

fn new_checks() -> Checks {
    let disk = Arc::new(MemDisk::new(1));
    Checks::new(Arc::new(Store::empty(disk, LogConfig::default(), Arc::new(Counting))), Arc::new(Counting))
}

/// What is left of a message, and how often others had their turn before that was known.
fn check_in_turns(checks: &Checks, message: PeerMessage) -> (Option<PeerMessage>, usize) {
    let mut check = std::pin::pin!(checks.of(message));
    let mut context = Context::from_waker(Waker::noop());
    let mut turns = 0;
    loop {
        if let Poll::Ready(left) = check.as_mut().poll(&mut context) {
            return (left, turns);
        }
        turns += 1;
    }
}

fn check(checks: &Checks, message: PeerMessage) -> Option<PeerMessage> {
    check_in_turns(checks, message).0
}

const GOOD: Signature = Signature([1; 64]);
/// Good of whose key begins with 7, and of nobody else.
const BY_SUCCESSOR: Signature = Signature([7; 64]);
const BAD: Signature = Signature([2; 64]);

#[test]
fn nothing_is_left_that_is_not_signed_and_what_was_good_is_not_checked_again() {
    let known = new_checks();
    let told = |heads: &[(Head, Signature)], lost: &[(Lost, Signature)]| {
        let (topic, heads, lost) = (TopicName::new("jobs").unwrap(), heads.to_vec(), lost.to_vec());
        let summary = LogSummary { log: log(), topic, runs: vec![], heads, lost, forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        let Some(PeerMessage::Logs { held, .. }) = check(&known, message) else {
            unreachable!("summaries are what they were")
        };
        held.into_iter().map(|summary| (summary.heads.len(), summary.lost.len())).collect::<Vec<_>>()
    };
    let said = ([(head(7), GOOD), (head(8), BAD)], [(lost(7, PEER), GOOD), (lost(8, PEER), BAD)]);
    assert_eq!(checks(|| assert_eq!(told(&said.0, &said.1), [(1, 1)])), 4);
    assert_eq!(
        checks(|| assert_eq!(told(&said.0, &said.1), [(1, 1)])),
        2,
        "what was bad is checked each time"
    );
    let is_left = |message| check(&known, message).is_some();
    assert_eq!(checks(|| assert!(is_left(PeerMessage::Head(head(7), GOOD)))), 0);
    assert_eq!(checks(|| assert!(!is_left(PeerMessage::Head(head(7), BAD)))), 1, "another signature");
    assert_eq!(checks(|| assert!(is_left(PeerMessage::Head(head(6), GOOD)))), 1, "another statement");
    assert_eq!(checks(|| assert!(is_left(PeerMessage::Lost(lost(6, PEER), GOOD)))), 1);
    let many: Vec<_> = (0..100).map(|start| (head(start), if start % 2 == 0 { GOOD } else { BAD })).collect();
    assert_eq!(told(&many, &[]), [(50, 0)], "over several turns");
}

#[test]
fn others_have_their_turn_however_the_statements_of_a_message_are_spread() {
    let turns = |logs: u64, heads: u64| {
        let known = new_checks();
        let summary = |at: u64| LogSummary {
            log: log(),
            topic: TopicName::new("jobs").unwrap(),
            runs: vec![],
            heads: (0..heads).map(|start| (head(at * heads + start), BAD)).collect(),
            lost: vec![],
            forks: vec![],
        };
        let message = PeerMessage::Logs { held: (0..logs).map(summary).collect(), ask: vec![] };
        check_in_turns(&known, message).1
    };
    let expected = 960 / IN_A_ROW - 1;
    assert_eq!([turns(1, 960), turns(960, 1), turns(96, 10)], [expected; 3]);
}

#[test]
fn who_succeeds_a_removed_peer_signs_for_it_and_nobody_else() {
    let (known, successor) = (new_checks(), PeerId([7; 32]));
    let said = || PeerMessage::Lost(lost(6, successor), GOOD);
    assert_eq!(checks(|| assert!(check(&known, said()).is_none())), 0, "it is no successor");
    let mut remains = Remains::default();
    remains.successors.insert(successor);
    known.store.note_removed(PEER, Arc::new(remains));
    assert_eq!(checks(|| assert!(check(&known, said()).is_some())), 1);
    assert_eq!(checks(|| assert!(check(&known, PeerMessage::Head(head(3), BAD)).is_none())), 2, "by neither");
    let trimmed = || checks(|| assert!(check(&known, PeerMessage::Head(head(3), BY_SUCCESSOR)).is_some()));
    assert_eq!([trimmed(), trimmed()], [2, 0], "once it is known who signed it nobody's key is tried again");
}

#[test]
fn a_certificate_that_is_none_goes_no_further() {
    let der: Arc<[u8]> = vec![1, 2, 3].into();
    assert!(check(&new_checks(), PeerMessage::Certificate { peer: PEER, der }).is_none());
}
