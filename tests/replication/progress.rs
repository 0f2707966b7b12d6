//! What a peer knows of how far it is behind, and which of its own entries it has alone.
use crate::cluster::{Cluster, chunk, jobs};
use conveyor::base::{EntryRef, Seq};
use conveyor::wire::outcome::Why;
use std::time::Duration;

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came about: {what}");
}

#[tokio::test]
async fn a_peer_knows_what_it_lacks_who_has_it_and_that_it_caught_up() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    let (a, b) = (&cluster.peers[0], &cluster.peers[1]);
    a.append(jobs(), None, chunk("here")).await.unwrap();
    until("both are even", async || b.topic(&jobs()).is_some() && b.missing().entries == 0).await;
    // What is told of is not sent.
    cluster.post.full.lock().unwrap().push(b.about().store);
    let appended = a.append(jobs(), None, chunk("there")).await.unwrap();
    let id = format!("jobs/{}.{}/{}", appended.peer, appended.run, appended.first_seq);
    let id = EntryRef::parse(&id).unwrap();
    until("it is known to be missing", async || b.missing().entries == 1 && b.missing().behind.is_some())
        .await;
    let of_a = &b.progress().await[0];
    assert_eq!((of_a.store, of_a.missing_entries, of_a.missing_runs), (a.about().store, 1, 1));
    assert!(of_a.compared_ago_ms.is_some());
    let explained = b.explain(&id).await;
    assert_eq!(explained.why, Why::Ahead { until: Seq(2) });
    assert_eq!(explained.offered_by.iter().map(|holder| holder.peer).collect::<Vec<_>>(), [a.about().peer]);
    assert_eq!(a.explain(&id).await.why, Why::Here);
    let alone = a.alone(Duration::from_millis(300)).await;
    assert!(
        alone.is_known && alone.entry_count() == 2,
        "the range of both is not held by another: {alone:?}"
    );
    assert_eq!(alone.topics[0].topic, Some(jobs()));
    cluster.post.full.lock().unwrap().clear();
    until("it caught up", async || b.missing().entries == 0 && b.missing().behind.is_none()).await;
    assert_eq!(b.explain(&id).await.why, Why::Here);
    assert_eq!(a.alone(Duration::from_secs(20)).await.entry_count(), 0);
}

#[tokio::test]
async fn a_peer_that_closes_takes_nothing_and_goes_on_with_what_it_took() {
    let cluster = Cluster::of(2);
    let (a, b) = (&cluster.peers[0], &cluster.peers[1]);
    a.append(jobs(), None, chunk("taken")).await.unwrap();
    a.close().await;
    let refused = a.append(jobs(), None, chunk("late")).await;
    assert!(refused.unwrap_err().to_string().contains("it is stopping"));
    assert_eq!(a.alone(Duration::from_millis(200)).await.entry_count(), 1);
    cluster.connect(0, 1).await;
    assert_eq!(a.alone(Duration::from_secs(20)).await.entry_count(), 0);
    assert_eq!(crate::cluster::payloads(b).await, ["taken"]);
}
