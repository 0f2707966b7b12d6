use super::*;
use crate::base::{RunId, Seq, StoreId, Timestamp};
use std::time::Duration;

const A: PeerId = PeerId([1; 32]);
const B: PeerId = PeerId([2; 32]);

fn queue() -> Queue {
    let packing = Packing { target_bytes: 1_000, codec: Codec::None, linger: Duration::ZERO };
    Queue::new(ProducerId(1), packing, 10_000, 100)
}

/// What the peer in whose log it stands says of one entry.
fn appended(peer: PeerId) -> Appended {
    Appended {
        peer,
        run: RunId(1),
        signed_run: RunId(1),
        first_seq: Seq(1),
        first_time: Timestamp::from_ms(1),
        count: 1,
        is_repeat: false,
        store: StoreId(1),
        holders: Vec::new(),
    }
}

/// Writes the next chunk to a peer, as a whole.
fn write(queue: &Queue, to: PeerId) {
    let Step::Write(chunk) = queue.step() else { panic!("there is one to write") };
    chunk.outcome.is_sent(to);
}

/// Writes an entry to some peers in turn, each lost before it answers but for the last, which names a log.
fn told(peers: &[PeerId], named: PeerId) -> Vec<PeerId> {
    let queue = queue();
    let (outcome, _) = queue.push(Entry::from("x"), 65).unwrap();
    for peer in peers {
        queue.rewind();
        write(&queue, *peer);
    }
    assert!(queue.answer(*peers.last().unwrap(), Ok(appended(named))));
    outcome.may_also_be_at()
}

#[test]
fn what_went_elsewhere_before_and_was_not_answered_may_be_there_too() {
    assert_eq!(told(&[A], A), []);
    assert_eq!(told(&[A, B], B), [A], "nobody knows whether A took it");
    assert_eq!(told(&[A, A], A), [], "A knows what it took");
    assert_eq!(told(&[A, B], A), [], "B had it from A, and took nothing itself");
    assert_eq!(told(&[A, B, A], A), [B]);
}

#[test]
fn what_went_nowhere_as_a_whole_is_nowhere() {
    let queue = queue();
    let (outcome, _) = queue.push(Entry::from("x"), 65).unwrap();
    assert!(matches!(queue.step(), Step::Write(_)), "the connection is lost in the middle of it");
    queue.rewind();
    write(&queue, B);
    assert!(queue.answer(B, Ok(appended(B))));
    assert_eq!(outcome.may_also_be_at(), []);
}
