//! Several peers in one process: what one takes, all end with.
#![allow(clippy::disallowed_methods, reason = "tests start tasks")]
mod cluster;
mod copies;
mod progress;

use cluster::{Cluster, chunk, jobs, numbered, payloads};
use conveyor::base::{Retention, Seq, TopicSettings};
use conveyor::wire::outcome::TopicChange;
use std::time::Duration;

#[tokio::test]
async fn what_one_peer_takes_all_end_with() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let mut expected = Vec::new();
    for round in 0..20 {
        for at in 0..3 {
            let payload = format!("{round} at {at}");
            cluster.append(at, &payload).await;
            expected.push(payload);
        }
    }
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn a_newcomer_is_given_everything_that_was_there_before_it() {
    let mut cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    for payload in numbered("old", 300) {
        cluster.append(0, &payload).await;
    }
    cluster.all_hold(numbered("old", 300)).await;
    cluster.add("late");
    cluster.connect(2, 1).await;
    cluster.all_hold(numbered("old", 300)).await;
}

#[tokio::test]
async fn both_sides_of_a_split_write_on_and_are_one_again() {
    let cluster = Cluster::of(4);
    cluster.connect_all().await;
    cluster.append(0, "before").await;
    cluster.all_hold(vec!["before".to_owned()]).await;
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        cluster.disconnect(a, b).await;
    }
    let mut expected = vec!["before".to_owned()];
    for number in 0..30 {
        for at in 0..4 {
            let payload = format!("{number} at {at}");
            cluster.append(at, &payload).await;
            expected.push(payload);
        }
    }
    cluster.connect(0, 2).await;
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn what_comes_by_a_relay_comes() {
    let cluster = Cluster::of(4);
    for a in 1..4 {
        cluster.connect(a - 1, a).await;
    }
    for payload in numbered("x", 50) {
        cluster.append(0, &payload).await;
    }
    cluster.append(3, "back").await;
    let mut expected = numbered("x", 50);
    expected.push("back".to_owned());
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn messages_that_were_lost_are_made_good_by_the_next_comparison() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    cluster.append(0, "seen").await;
    cluster.all_hold(vec!["seen".to_owned()]).await;
    cluster.post.cut.lock().unwrap().push(cluster.peers[1].about().store);
    for payload in numbered("unheard", 10) {
        cluster.append(0, &payload).await;
    }
    cluster.post.cut.lock().unwrap().clear();
    let mut expected = numbered("unheard", 10);
    expected.push("seen".to_owned());
    cluster.all_hold(expected).await;
}

#[tokio::test]
async fn who_takes_too_slowly_is_sent_no_batches_until_there_is_room() {
    let cluster = Cluster::of(2);
    for payload in numbered("x", 100) {
        cluster.append(0, &payload).await;
    }
    let slow = cluster.peers[1].about().store;
    cluster.post.full.lock().unwrap().push(slow);
    cluster.connect(0, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(payloads(&cluster.peers[1]).await.len(), 0);
    cluster.post.full.lock().unwrap().clear();
    cluster.all_hold(numbered("x", 100)).await;
}

#[tokio::test]
async fn a_trim_and_a_deletion_reach_everyone() {
    let cluster = Cluster::of(3);
    cluster.connect_all().await;
    let retention = Retention { count: Some(5), ..Retention::default() };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    cluster.peers[0].change_topic(TopicChange::Create { topic: jobs(), settings }).await.unwrap();
    for payload in numbered("a", 20) {
        cluster.append(0, &payload).await;
    }
    for payload in numbered("b", 20) {
        cluster.append(1, &payload).await;
    }
    let kept = [numbered("a", 20).split_off(15), numbered("b", 20).split_off(15)].concat();
    cluster.all_hold(kept).await;
    cluster.peers[2].change_topic(TopicChange::Delete { topic: jobs() }).await.unwrap();
    cluster.all_hold(vec![]).await;
    assert_eq!(cluster.peers[0].append(jobs(), None, chunk("new")).await.unwrap().first_seq, Seq(21));
    cluster.all_hold(vec!["new".to_owned()]).await;
}

#[tokio::test]
async fn what_rots_is_had_back_from_another_peer() {
    let cluster = Cluster::of(2);
    cluster.connect(0, 1).await;
    // Large enough to lie in a segment at once.
    let payload = "x".repeat(300 << 10);
    cluster.append(0, &payload).await;
    cluster.append(0, "after").await;
    let expected = vec![payload, "after".to_owned()];
    cluster.all_hold(expected.clone()).await;
    let image = cluster.disks[0].image();
    let is_segment = |path: &&str| path.contains("jobs") && path.ends_with(".segment");
    let path = image.files().find(is_segment).unwrap().to_owned();
    cluster.disks[0].flip_at(&path, 100_000, 0).unwrap();
    assert_eq!(payloads(&cluster.peers[0]).await.len(), 0, "the reader waits before the damage");
    cluster.all_hold(expected).await;
    assert_eq!(cluster.peers[0].status().damaged_count, 0);
}
