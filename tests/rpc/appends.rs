use crate::peer::{Peer, payloads, topic};
use conveyor::base::{Codec, Durability, Entry, RunId, Seq, TopicName};
use conveyor::client::{AppendError, ClientError, ProducerOptions, TopicChange, TopicError};
use conveyor::identity::Rights;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_appended_named_and_read_back() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    let id = client.append(&jobs, "hello").await.unwrap();
    assert_eq!((id.seq.0, id.peer), (1, client.about().peer));
    let mut reader = client.read(&jobs).stream();
    assert_eq!(payloads(&mut reader, 9).await, ["hello"]);
    assert!(reader.is_caught_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_keeps_order_packs_and_resolves_receipts_in_order() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    for codec in [Codec::None, Codec::Zstd] {
        let options = ProducerOptions { codec, chunk_bytes_target: 4096, ..ProducerOptions::default() };
        let producer = client.producer(&jobs, options).await.unwrap();
        let mut receipts = Vec::new();
        for number in 0..3000 {
            receipts.push(producer.send(format!("entry {number}")).await.unwrap());
        }
        let mut before = None;
        for receipt in receipts {
            let acknowledged = receipt.await.unwrap();
            assert!(before < Some((acknowledged.id.seq, acknowledged.time)));
            assert!(!acknowledged.is_repeat);
            before = Some((acknowledged.id.seq, acknowledged.time));
        }
        producer.close().await.unwrap();
    }
    let mut reader = client.read(&jobs).stream();
    let seen = payloads(&mut reader, usize::MAX).await;
    let expected: Vec<String> = (0..2).flat_map(|_| (0..3000).map(|n| format!("entry {n}"))).collect();
    assert_eq!(seen, expected);
    assert!(peer.counters.chunks_received.get() < 1500, "{}", peer.counters.chunks_received.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_repeat_nothing_and_lose_nothing() {
    let mut peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    let options = ProducerOptions { chunk_bytes_target: 256, ..ProducerOptions::default() };
    let producer = client.producer(&jobs, options).await.unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..20_000 {
            producer.send(format!("entry {number}")).await.unwrap();
        }
        producer.close().await
    });
    let mut reader = client.read(&jobs).follow(true).stream();
    let reading = tokio::spawn(async move { payloads(&mut reader, 20_000).await });
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        peer.cut().await;
    }
    writing.await.unwrap().unwrap();
    let expected: Vec<String> = (0..20_000).map(|n| format!("entry {n}")).collect();
    assert_eq!(reading.await.unwrap(), expected);
    assert_eq!(payloads(&mut client.read(&jobs).stream(), usize::MAX).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_entry_travels_in_slices_and_one_beyond_is_refused_here() {
    let peer = Peer::start();
    let client = peer.client().await;
    let big = topic("big");
    let payload: Vec<u8> = (0..16 << 20).map(|n: u32| (n % 251) as u8).collect();
    let id = client.append(&big, payload.clone()).await.unwrap();
    assert_eq!(id.seq.0, 1);
    let page = client.read(&big).page().await.unwrap();
    let [conveyor::client::Item::Entry(record)] = &page.items[..] else { panic!("{:?}", page.items.len()) };
    assert_eq!(record.entry.payload, payload);
    let mut reader = client.read(&big).stream();
    let Some(Ok(conveyor::client::Item::Entry(record))) = reader.next().await else { panic!("no entry") };
    assert_eq!(record.entry.payload, payload);
    let refused = client.append(&big, vec![0; (16 << 20) + 1]).await;
    assert!(matches!(refused, Err(ClientError::Entry(_))), "{refused:?}");
    assert!(client.append(&big, "next").await.is_ok(), "the producer goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refuses_is_a_typed_error_and_the_producer_goes_on() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    let options = ProducerOptions { durability: Some(Durability::Replicas(3)), ..ProducerOptions::default() };
    let many = client.producer(&jobs, options).await.unwrap();
    let refused = many.send("x").await.unwrap().await;
    let Err(ClientError::Append(AppendError::Replicas { asked: 3, available: 1, appended })) = &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((appended.first_seq.0, appended.count, appended.holders.len()), (1, 1, 0), "it is in the log");
    assert_eq!(many.flush().await, refused.map(drop));
    let far = Entry { deliver_at_ms: Some(u64::MAX), ..Entry::from("x") };
    let refused = client.append(&jobs, far).await;
    assert!(matches!(refused, Err(ClientError::Append(AppendError::DeliverAt { .. }))), "{refused:?}");
    let ours = TopicName::catalog();
    let refused = client.append(&ours, "x").await;
    assert!(matches!(refused, Err(ClientError::Append(AppendError::Name(_)))), "{refused:?}");
    assert_eq!(client.append(&jobs, "x").await.unwrap().seq.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_and_prefixes_are_checked_on_each_request() {
    let peer = Peer::start();
    peer.client().await.append(&topic("jobs/a"), "x").await.unwrap();
    let reader = Rights { read: true, prefixes: vec!["jobs/".into()], ..Rights::default() };
    let client = peer.client_with(reader).await;
    let refused = client.append(&topic("jobs/a"), "x").await;
    let forbidden = AppendError::Forbidden { topic: topic("jobs/a") };
    assert_eq!(refused, Err(ClientError::Append(forbidden)));
    assert_eq!(payloads(&mut client.read(topic("jobs/a")).stream(), 9).await, ["x"]);
    let refused = client.read(topic("other")).page().await;
    assert!(matches!(refused, Err(ClientError::Read(_))), "{refused:?}");
    let delete = TopicChange::Delete { topic: topic("jobs/a") };
    let refused = client.change_topic(delete).await;
    assert!(matches!(refused, Err(ClientError::Topic(_))), "{refused:?}");
    assert!(matches!(client.accept_clock().await, Err(ClientError::Refused(_))));
    // Damage in Conveyor's own topic is given up by whoever administers all.
    let prefixed = Rights { admin: true, prefixes: vec!["jobs/".into()], ..Rights::default() };
    let whole = Rights { admin: true, ..Rights::default() };
    for (rights, is_allowed) in [(prefixed, false), (whole, true)] {
        let client = peer.client_with(rights).await;
        let (own, run) = (client.about().peer, RunId(1));
        let (topic, from, until) = (TopicName::catalog(), Seq(1), Seq(2));
        let lost = TopicChange::Lost { topic, peer: own, run, from, until };
        let error = match client.change_topic(lost).await.unwrap_err() {
            ClientError::Topic(error) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(matches!(error, TopicError::NotDamaged { .. }), is_allowed, "{error}");
        assert_eq!(matches!(error, TopicError::Forbidden { .. }), !is_allowed, "{error}");
        let seen = client.topic(&TopicName::catalog()).await;
        assert_eq!(seen.is_ok(), is_allowed, "{seen:?}");
    }
    assert!(peer.counters.requests_forbidden.get() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_producer_ends_its_stream_and_nothing_else() {
    let peer = Peer::start();
    let client = peer.client().await;
    let jobs = topic("jobs");
    for _ in 0..300 {
        let producer = client.producer(&jobs, ProducerOptions::default()).await.unwrap();
        let _receipt = producer.send(vec![7; 300_000]).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while peer.counters.streams.get() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(peer.counters.streams.get(), 0);
    assert_eq!(peer.counters.requests_malformed.get(), 0);
    client.append(&jobs, "still here").await.unwrap();
}
