use super::*;
use crate::base::{ClusterId, Digest, PeerName, RunId, Timestamp, TopicId, TopicName};
use crate::identity::Verifier;
use crate::identity::certificate::CertificateError;
use crate::replication::{PeerInput, ReplicationConfig};
use std::cell::Cell;

thread_local! {
    static CHECKED: Cell<usize> = const { Cell::new(0) };
}

/// Believes signatures that begin with 1, and counts what it is asked.
struct Counting;

impl Verifier for Counting {
    fn verify(&self, _: PeerId, _: &[u8], signature: &Signature) -> bool {
        CHECKED.with(|count| count.set(count.get() + 1));
        signature.0[0] == 1
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

#[test]
fn a_signature_is_checked_of_news_and_of_nothing_that_is_known() {
    let (good, bad) = (Signature([1; 64]), Signature([2; 64]));
    let topic = TopicName::new("jobs").unwrap();
    let log = LogId { topic: TopicId::of(ClusterId([0; 16]), "jobs"), peer: PeerId([2; 32]) };
    let (run, parent, from, until, time) = (RunId(1), RunId::NONE, Seq(1), Seq(9), Timestamp(1));
    let head = |start| {
        let (start, last, is_sealed) = (Seq(start), Digest::ZERO, false);
        Head { log, run, parent, from, start, until, time, last, is_sealed }
    };
    let lost = |from| Lost { log, run, from: Seq(from), until, time, signer: log.peer };
    let mut known = Replication::new(ReplicationConfig::default(), ClusterId([0; 16]), StoreId(1));
    known.handle(0, PeerInput::HeldHead(topic.clone(), head(5), good), &mut vec![]);
    known.handle(0, PeerInput::HeldLost(topic.clone(), lost(6), good), &mut vec![]);
    let told = |heads: Vec<(Head, Signature)>, lost: Vec<(Lost, Signature)>| {
        let summary = LogSummary { log, topic: topic.clone(), runs: vec![], heads, lost, forks: vec![] };
        let message = PeerMessage::Logs { held: vec![summary], ask: vec![] };
        let Some(PeerMessage::Logs { held, .. }) = checked(&Counting, &known, message) else {
            unreachable!("summaries are what they were")
        };
        held.into_iter().map(|summary| (summary.heads.len(), summary.lost.len())).collect::<Vec<_>>()
    };
    let old = (vec![(head(5), good), (head(3), good)], vec![(lost(6), good)]);
    assert_eq!(checks(|| assert_eq!(told(old.0.clone(), old.1.clone()), [(0, 0)])), 0);
    let news = (vec![(head(7), good), (head(8), bad)], vec![(lost(7), good), (lost(8), bad)]);
    assert_eq!(checks(|| assert_eq!(told(news.0.clone(), news.1.clone()), [(1, 1)])), 4);
    let is_taken = |message| checked(&Counting, &known, message).is_some();
    assert_eq!(checks(|| assert!(!is_taken(PeerMessage::Head(head(5), good)))), 0);
    assert_eq!(checks(|| assert!(is_taken(PeerMessage::Head(head(6), good)))), 1);
    assert_eq!(checks(|| assert!(!is_taken(PeerMessage::Head(head(6), bad)))), 1);
    assert_eq!(checks(|| assert!(!is_taken(PeerMessage::Lost(lost(6), good)))), 0);
    assert_eq!(checks(|| assert!(is_taken(PeerMessage::Lost(lost(8), good)))), 1);
}
