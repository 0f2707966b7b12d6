//! Clients whose peer dies.
use crate::hosts::{Cluster, append, jobs, wait_until};
use conveyor::client::{Item, MemberState};
use conveyor::wire::outcome::ReadFrom;
use std::collections::BTreeMap;
use std::time::Duration;

/// Takes entries off a tail until so many came; how often each came.
async fn take(reader: &mut conveyor::client::Reader, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    while seen.values().sum::<usize>() < count {
        let item = tokio::time::timeout(Duration::from_secs(30), reader.next()).await.expect("it goes on");
        if let Item::Entry(record) = item.expect("a tail has no end").unwrap() {
            *seen.entry(String::from_utf8(record.entry.payload.to_vec()).unwrap()).or_insert(0) += 1;
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_one_peer_goes_on_at_another_and_misses_nothing() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alpha", &[]).await;
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    let gamma = cluster.start("gamma", &[alpha.listen()]).await;
    for peer in [&alpha, &beta, &gamma] {
        wait_until("all are connected", || peer.connected().len() == 2).await;
    }
    // It is told of alpha alone.
    let client = cluster.client(&alpha).await;
    let members = client.members().await.unwrap();
    let names: Vec<String> = members.iter().map(|member| member.name.to_string()).collect();
    assert_eq!(names, ["alpha", "beta", "gamma"]);
    assert_eq!(members[0].state, MemberState::Oneself);
    assert!(matches!(members[1].state, MemberState::Connected { rtt_us: 1.. }), "{members:?}");
    for index in 0..30 {
        append([&alpha, &beta, &gamma][index % 3], &format!("before {index:02}")).await;
    }
    let mut tail = client.read(jobs()).from(ReadFrom::Start).follow(true).stream();
    let before = take(&mut tail, 30).await;
    assert!(before.len() == 30 && before.values().all(|count| *count == 1), "{before:?}");
    alpha.stop().await;
    for index in 0..30 {
        append([&beta, &gamma][index % 2], &format!("after {index:02}")).await;
    }
    let after = take(&mut tail, 30).await;
    assert!(after.len() == 30 && after.values().all(|count| *count == 1), "{after:?}");
    assert!(after.keys().all(|payload| payload.starts_with("after")), "nothing comes again: {after:?}");
    let id = client.append(&jobs(), "by the client").await.unwrap();
    assert_eq!(take(&mut tail, 1).await.keys().next().unwrap(), "by the client");
    assert_ne!(id.peer, members[0].peer, "another peer took it");
    beta.stop().await;
    gamma.stop().await;
}
