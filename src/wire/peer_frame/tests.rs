use super::*;
use crate::base::fork::Side;
use crate::base::{
    Digest, Fork, Head, LogId, Lost, PeerId, RunId, Signature, Statement, StoreId, Timestamp, TopicId,
    TopicName,
};
use crate::wire::frame::Decoder;
use crate::wire::peer::{Bucket, LogTag, RunSummary, SentEnd};
use std::sync::Arc;

const LOG: LogId = LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) };

fn range(from: u64, until: u64) -> RunRange {
    RunRange { log: LOG, run: RunId(3), from: Seq(from), until: Seq(until) }
}

fn head() -> (Head, Signature) {
    let (run, parent) = (RunId(3), RunId::NONE);
    let (from, start, until) = (Seq(1), Seq(5), Seq(9));
    let head = Head {
        log: LOG,
        run,
        parent,
        from,
        start,
        until,
        time: Timestamp(7),
        last: Digest::ZERO,
        is_sealed: false,
    };
    (head, Signature([8; 64]))
}

fn lost() -> (Lost, Signature) {
    let (from, until) = (Seq(5), Seq(6));
    (Lost { log: LOG, run: RunId(3), from, until, time: Timestamp(1), signer: LOG.peer }, Signature([9; 64]))
}

fn side(root: u8) -> Side {
    let statement = Statement {
        log: LOG,
        run: RunId(3),
        parent: RunId::NONE,
        opens_run: false,
        first_seq: Seq(4),
        first_time: Timestamp(7),
        entry_count: 2,
        raw_bytes: 20,
        previous: Digest([1; 32]),
        root: Digest([root; 32]),
        signed: None,
    };
    (statement, Signature([9; 64]))
}

fn fork() -> Fork {
    Fork::of(RunId(3), &side(1), &side(2)).unwrap()
}

fn summary(held: &[(u64, u64)]) -> LogSummary {
    let held = held.iter().map(|(from, until)| (Seq(*from), Seq(*until))).collect();
    let run = RunSummary { run: RunId(3), parent: RunId::NONE, from: Seq(1), held, link: u64::MAX };
    let topic = TopicName::new("jobs").unwrap();
    LogSummary {
        log: LOG,
        topic,
        runs: vec![run],
        heads: vec![head()],
        lost: vec![lost()],
        forks: vec![fork()],
    }
}

fn messages() -> Vec<PeerMessage> {
    let (head, head_signature) = head();
    let (lost, lost_signature) = lost();
    let bucket = Bucket { prefix: Prefix { depth: 2, bits: 0xab << 56 }, hash: 4, count: 5 };
    vec![
        PeerMessage::Digest { salt: u64::MAX, buckets: vec![bucket] },
        PeerMessage::Leaves { salt: 1, prefix: Prefix::ALL, logs: vec![(LogTag(1), 2)] },
        PeerMessage::Logs { held: vec![summary(&[(1, 4), (6, 9)])], ask: vec![LogTag(7)] },
        PeerMessage::Neighbors(vec![StoreId(1), StoreId(2)]),
        PeerMessage::Have(range(1, 2), 9),
        PeerMessage::Follow { until: 3, came: 2 },
        PeerMessage::Clock(u64::MAX),
        PeerMessage::Push { number: 5, batch: Bytes::from_static(b"batch") },
        PeerMessage::Gone(range(2, 3)),
        PeerMessage::Head(head, head_signature),
        PeerMessage::Lost(lost, lost_signature),
        PeerMessage::Fork(Box::new(fork())),
        PeerMessage::AskStatement { log: LOG, run: RunId(3), seq: Seq(4) },
        PeerMessage::Statement { log: LOG, run: RunId(3), seq: Seq(4), side: Some(Box::new(side(1))) },
        PeerMessage::Statement { log: LOG, run: RunId(3), seq: Seq(4), side: None },
        PeerMessage::Want { range: range(4, 9), bytes_max: 1 << 20, certificate: true },
        PeerMessage::Certificate { peer: LOG.peer, der: Arc::from(&b"der"[..]) },
        PeerMessage::Batch(vec![7; 3 << 20].into()),
        PeerMessage::Sent { range: range(4, 9), until: Seq(6), end: SentEnd::Busy { retry_ms: 5 } },
    ]
}

fn there_and_back(message: &PeerMessage) -> Result<PeerMessage, PeerFrameError> {
    let mut out = Vec::new();
    put(message, &mut out).unwrap();
    let mut bytes = Bytes::from(out.concat());
    let mut decoder = Decoder::new(&[Kind::Peer, Kind::Stored, Kind::Push]);
    let frame = decoder.decode(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    take(frame)
}

#[test]
fn every_message_comes_out_as_it_went_in() {
    for message in messages() {
        assert_eq!(there_and_back(&message).as_ref(), Ok(&message));
    }
}

#[test]
fn messages_take_about_the_bytes_they_say() {
    for message in messages() {
        let mut out = Vec::new();
        put(&message, &mut out).unwrap();
        let (told, is) = (message.wire_bytes(), out.iter().map(Bytes::len).sum::<usize>());
        assert!(is <= told + 16 && told <= 4 * is + 16, "{told} for {is} of {message:?}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let deep = Prefix { depth: 17, bits: 0 };
    let loose = Prefix { depth: 1, bits: 1 };
    let senseless = vec![
        PeerMessage::Have(range(3, 2), 9),
        PeerMessage::AskStatement { log: LOG, run: RunId::NONE, seq: Seq(1) },
        PeerMessage::Statement { log: LOG, run: RunId(3), seq: Seq(0), side: None },
        PeerMessage::Gone(range(0, 2)),
        PeerMessage::Want {
            range: RunRange { run: RunId::NONE, ..range(1, 2) },
            bytes_max: 1,
            certificate: false,
        },
        PeerMessage::Leaves { salt: 1, prefix: deep, logs: vec![] },
        PeerMessage::Digest { salt: 1, buckets: vec![Bucket { prefix: loose, hash: 0, count: 0 }] },
        PeerMessage::Logs { held: vec![summary(&[(5, 9), (7, 8)])], ask: vec![] },
        PeerMessage::Logs { held: vec![summary(&[(5, 5)])], ask: vec![] },
    ];
    for message in senseless {
        let refused = there_and_back(&message);
        assert!(matches!(refused, Err(PeerFrameError::Senseless { .. })), "{message:?}: {refused:?}");
    }
}

#[test]
fn bytes_that_are_no_message_are_refused_and_take_no_room() {
    let frame = |kind, payload: &[u8]| Frame { kind, payload: Bytes::copy_from_slice(payload) };
    for bytes in [&[][..], &[250], &[1, 251, 255, 255], &[2, 253, 255, 255, 255, 255, 255, 255, 255, 255]] {
        assert!(matches!(take(frame(Kind::Peer, bytes)), Err(PeerFrameError::Message(_))), "{bytes:?}");
    }
    assert!(matches!(take(frame(Kind::Push, &[1, 2, 3])), Err(PeerFrameError::Senseless { .. })));
    // The bytes of a head are checked as they are read.
    let (head, signature) = head();
    let mut out = Vec::new();
    put(&PeerMessage::Head(head, signature), &mut out).unwrap();
    let mut bytes = out.concat().split_off(frame::header(Kind::Peer, 0, 0).len());
    bytes[2] ^= 1;
    assert!(matches!(take(frame(Kind::Peer, &bytes)), Err(PeerFrameError::Message(_))));
}
