use super::*;
use crate::base::{ClusterId, RunId, Seq, StoreId, Timestamp, TopicId};

fn requests() -> Vec<Request> {
    let topic = TopicName::new("jobs").unwrap();
    vec![
        Request::Hello(Hello { version_min: 1, version_max: 1, features: 0, program: "test".into() }),
        Request::Append { topic: topic.clone(), durability: Some(Durability::Fsync) },
        Request::Read(ReadRequest {
            topic: topic.clone(),
            from: ReadFrom::Time { unix_ms: 5 },
            follow: true,
            skip_damaged: false,
        }),
        Request::Get { ids: vec![EntryRef::parse("jobs/a.01234567/1").unwrap()], wait_ms: 9 },
        Request::Status,
        Request::Sync,
        Request::Alone { wait_ms: 300 },
        Request::Explain { id: EntryRef::parse("jobs/a.01234567/1").unwrap() },
        Request::HeldOf { peer: PeerId([7; 32]) },
        Request::ReadAside { topic: topic.clone() },
        Request::Import { topic },
    ]
}

fn replies() -> Vec<Reply> {
    let (cluster, topic) = (ClusterId([1; 16]), TopicId([2; 16]));
    let about = About {
        cluster,
        peer: PeerId([3; 32]),
        name: PeerName::new("a").unwrap(),
        store: StoreId(4),
        version: "0.1.0".into(),
    };
    let appended = Appended {
        peer: about.peer,
        run: RunId(5),
        signed_run: RunId(5),
        first_seq: Seq(6),
        first_time: Timestamp(7),
        count: 8,
        is_repeat: false,
        store: about.store,
        holders: vec![Holder { peer: PeerId([9; 32]), store: StoreId(8), name: PeerName::new("b").ok() }],
    };
    vec![
        Reply::Welcome(Welcome { version: 1, features: 0, about }),
        Reply::Appended(Ok(appended.clone())),
        Reply::Appended(Err(AppendError::Replicas { asked: 3, available: 2, appended: Box::new(appended) })),
        Reply::Appended(Err(AppendError::Kind)),
        Reply::Begun { cursor: Cursor::start(cluster, topic) },
        Reply::Refused(Refusal::Frame(FrameError::Truncated)),
        Reply::HeldOf(HeldOf { is_removed: true, aside_count: 3, ends: vec![(topic, RunId(5), Seq(6))] }),
        Reply::Sync(SyncStatus { missing_entries: 3, behind_ms: Some(400), peers: vec![] }),
        Reply::Alone(Alone { is_known: true, topics: vec![AloneIn { topic: None, entries: 7 }] }),
        Reply::Explained(Explained {
            why: Why::Ahead { until: Seq(9) },
            writer: None,
            is_writer_removed: false,
            offered_by: vec![],
            asked_of: vec![],
        }),
        Reply::Removed(Err(RemoveError::TooMany { count: 1 << 40 })),
        Reply::Aside(Aside {
            topic: TopicName::new("jobs").ok(),
            peer: PeerId([3; 32]),
            name: None,
            run: RunId(5),
            from: Seq(6),
            until: Seq(9),
        }),
    ]
}

#[test]
fn messages_read_back_as_they_were_written() {
    for request in requests() {
        assert_eq!(decode::<Request>(&encode(&request).unwrap()), Ok(request));
    }
    for reply in replies() {
        assert_eq!(decode::<Reply>(&encode(&reply).unwrap()), Ok(reply));
    }
}

#[test]
fn every_cut_every_flip_and_every_lie_gives_a_value_or_a_typed_error() {
    for request in requests() {
        let good = encode(&request).unwrap();
        for cut in 0..good.len() {
            assert!(decode::<Request>(&good[..cut]).is_err());
        }
        for at in 0..good.len() {
            for value in 0..=255u8 {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = decode::<Request>(&bad);
            }
            // A length of 2^64-1 in bincode's variable form.
            let mut lie = good[..at].to_vec();
            lie.extend([253, 255, 255, 255, 255, 255, 255, 255, 255]);
            let _ = decode::<Request>(&lie);
        }
        let trailing = [&good[..], &[0]].concat();
        assert_eq!(decode::<Request>(&trailing), Err(MessageError::Trailing { count: 1 }));
    }
}

#[test]
fn names_that_are_not_legal_do_not_get_past_the_decoder() {
    let good = encode(&Request::Topic { topic: TopicName::new("ab").unwrap() }).unwrap();
    let bad: Vec<u8> = good.iter().map(|byte| if *byte == b'a' { b'\n' } else { *byte }).collect();
    let Err(MessageError::Malformed { reason }) = decode::<Request>(&bad) else { panic!("it was taken") };
    assert!(reason.contains("control"), "{reason}");
    let bad: Vec<u8> = good.iter().map(|byte| if *byte == b'a' { 0xff } else { *byte }).collect();
    let Err(MessageError::Malformed { reason }) = decode::<Request>(&bad) else { panic!("it was taken") };
    assert!(reason.to_lowercase().contains("utf"), "what is not UTF-8 is no name: {reason}");
}
