//! More topics and tails than a connection has streams.
use crate::peer::{Peer, topic};
use conveyor::client::{ClientError, ProducerOptions, ReadFrom};
use conveyor::net::NetConfig;
use futures_util::future::join_all;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn one_client_appends_to_many_more_topics_than_a_connection_has_streams() {
    let peer = Peer::start_with(NetConfig { stream_count_max: 8, ..NetConfig::default() });
    let client = peer.client().await;
    for round in 0..3 {
        let append = async |number| client.append(&topic(&format!("t{number}")), format!("{round}")).await;
        for id in join_all((0..200).map(append)).await {
            assert_eq!(id.unwrap().seq.0, round + 1);
        }
    }
    assert_eq!(client.topics().await.unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_all_streams_taken_by_tails_says_so() {
    let peer = Peer::start_with(NetConfig { stream_count_max: 4, ..NetConfig::default() });
    let client = peer.client().await;
    let jobs = topic("jobs");
    client.append(&jobs, "a").await.unwrap();
    let mut tails = Vec::new();
    // The fourth takes the stream of the producer, which has nothing to send.
    for _ in 0..4 {
        let mut tail = client.read(&jobs).from(ReadFrom::Start).follow(true).stream();
        tail.next().await.unwrap().unwrap();
        tails.push(tail);
    }
    assert_eq!(client.status().await.unwrap_err(), ClientError::Streams);
    assert_eq!(client.append(&jobs, "b").await.unwrap_err(), ClientError::Streams);
    drop(tails.pop());
    client.append(&jobs, "c").await.unwrap();
    assert!(tails[0].next().await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_producers_take_turns_when_there_are_more_of_them_than_streams() {
    let peer = Peer::start_with(NetConfig { stream_count_max: 3, ..NetConfig::default() });
    let client = peer.client().await;
    let busy = async |number: usize| {
        let topic = topic(&format!("t{number}"));
        let producer = client.producer(&topic, ProducerOptions::default()).await.unwrap();
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            producer.send("entry").await.unwrap();
        }
        producer.close().await.unwrap();
    };
    join_all((0..6).map(busy)).await;
    assert_eq!(client.topics().await.unwrap().len(), 6);
}
