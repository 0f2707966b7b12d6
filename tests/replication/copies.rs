//! Appends that wait until other peers hold them.
use crate::cluster::{Cluster, chunk, jobs, numbered, numbered_chunk, payloads};
use conveyor::base::{Durability, Seq, TopicSettings};
use conveyor::runtime::Handle;
use conveyor::wire::outcome::{AppendError, Appended, Holder, TopicChange};
use std::time::Duration;

/// What a receipt says of a peer. The engine does not know what people call it.
fn holder(peer: &Handle) -> Holder {
    Holder { peer: peer.about().peer, store: peer.about().store, name: None }
}

const TWO: Option<Durability> = Some(Durability::Replicas(2));

#[tokio::test]
async fn an_append_with_two_copies_is_answered_once_another_peer_holds_it() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    let (a, b) = (&cluster.peers[0], &cluster.peers[1]);
    let first = a.append(jobs(), TWO, numbered_chunk("first", 1)).await.unwrap();
    assert_eq!(payloads(b).await, ["first"]);
    assert_eq!(first.holders, [holder(b)]);
    cluster.post.cut.lock().unwrap().push(b.about().store);
    let refused = a.append(jobs(), TWO, numbered_chunk("second", 2)).await;
    let Err(AppendError::Replicas { asked: 2, available: 2, appended }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((appended.first_seq, appended.count, appended.holders.len()), (Seq(2), 1, 0));
    assert_eq!(payloads(a).await, ["first", "second"], "it is in the log");
    cluster.post.cut.lock().unwrap().clear();
    let again = a.append(jobs(), TWO, numbered_chunk("second", 2)).await.unwrap();
    let expected = Appended { is_repeat: true, holders: vec![holder(b)], ..*appended };
    assert_eq!(again, expected, "the same entry under the same id");
    cluster.all_hold(vec!["first".to_owned(), "second".to_owned()]).await;
}

#[tokio::test]
async fn what_a_peer_said_before_it_lost_its_disk_counts_for_nothing() {
    let mut cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await.unwrap();
    cluster.disconnect(0, 1).await;
    let refused = cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await;
    assert!(matches!(refused, Err(AppendError::Replicas { available: 1, .. })), "{refused:?}");
    // Another peer with an empty disk: the append waits until it holds the entry.
    cluster.add("p2");
    cluster.connect(0, 2).await;
    let again = cluster.peers[0].append(jobs(), TWO, numbered_chunk("x", 1)).await.unwrap();
    assert_eq!((again.is_repeat, again.holders), (true, vec![holder(&cluster.peers[2])]));
    assert_eq!(payloads(&cluster.peers[2]).await, ["x"]);
}

#[tokio::test]
async fn a_topic_may_ask_for_copies_of_all_that_is_appended() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let settings = TopicSettings { durability: Durability::Replicas(3), ..TopicSettings::default() };
    cluster.peers[0].change_topic(TopicChange::Create { topic: jobs(), settings }).await.unwrap();
    let appends = numbered("x", 200).into_iter().map(|payload| {
        let peer = cluster.peers[0].clone();
        tokio::spawn(async move { peer.append(jobs(), None, chunk(&payload)).await })
    });
    let mut others = vec![holder(&cluster.peers[1]), holder(&cluster.peers[2])];
    others.sort_by_key(|holder| holder.peer);
    for append in appends.collect::<Vec<_>>() {
        assert_eq!(append.await.unwrap().unwrap().holders, others);
    }
    assert_eq!(payloads(&cluster.peers[2]).await, numbered("x", 200));
    cluster.disconnect(0, 2).await;
    let two = cluster.peers[0].append(jobs(), None, chunk("y")).await;
    let Err(AppendError::Replicas { asked: 3, available: 2, appended }) = two else { panic!("{two:?}") };
    assert_eq!(appended.holders, [holder(&cluster.peers[1])]);
    cluster.peers[0].append(jobs(), Some(Durability::Fsync), chunk("z")).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_stops_does_not_wait_for_copies() {
    let cluster = Cluster::of(1);
    let peer = cluster.peers[0].clone();
    let waits = tokio::spawn(async move { peer.append(jobs(), TWO, chunk("x")).await });
    while cluster.peers[0].topic(&jobs()).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.peers[0].shutdown().await;
    assert!(matches!(waits.await.unwrap(), Err(AppendError::Stopped { .. })));
}
