//! Several whole peers on one machine: certificates, QUIC, directories and all, and what goes wrong between them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the clock, and find free ports"
)]

mod failover;
mod hosts;
mod membership;
mod strangers;
mod wiretap;

use conveyor::base::Durability;
use conveyor::client::ProducerOptions;
use hosts::{Cluster, append, copy_dir, free_address, holds, jobs, wait_until};
use std::time::Duration;

fn payloads(names: &[&str], count: usize) -> Vec<String> {
    let mut all: Vec<String> =
        names.iter().flat_map(|name| (0..count).map(move |index| format!("{name} {index:03}"))).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn all_peers_take_writes_and_end_with_the_same_entries() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alpha", &[]).await;
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    let gamma = cluster.start("gamma", &[alpha.listen(), beta.listen()]).await;
    let peers = [&alpha, &beta, &gamma];
    for index in 0..20 {
        for peer in peers {
            append(peer, &format!("{} {index:03}", peer.handle().about().name)).await;
        }
    }
    let all = payloads(&["alpha", "beta", "gamma"], 20);
    for peer in peers {
        holds(peer, &all).await;
        assert_eq!(peer.connected().len(), 2);
    }
    let client = cluster.client(&gamma).await;
    let options = ProducerOptions { durability: Some(Durability::Replicas(3)), ..ProducerOptions::default() };
    let producer = client.producer(&jobs(), options).await.unwrap();
    let appended = producer.send("copied").await.unwrap().await.unwrap();
    assert_eq!(appended.holders.len(), 2, "both others say that they hold it");
    for peer in [alpha, beta, gamma] {
        peer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_each_other_at_once_keep_one_connection() {
    let cluster = Cluster::new();
    for _ in 0..5 {
        // A connection that nobody ever answered keeps its port for some seconds beyond the end.
        let (at_alpha, at_beta) = (free_address(), free_address());
        let both = [at_alpha, at_beta];
        let alpha = cluster.start_at("alpha", at_alpha, &both);
        let beta = cluster.start_at("beta", at_beta, &both);
        let (alpha, beta) = tokio::join!(alpha, beta);
        wait_until("a session", || alpha.connected().len() == 1 && beta.connected().len() == 1).await;
        // Long enough for both to dial anew where they would.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let begun = [&alpha, &beta].map(|peer| peer.counters().sessions_begun.get());
        assert!(begun.iter().all(|begun| *begun <= 2), "{begun:?}: one gave way at most");
        assert_eq!([alpha.connected().len(), beta.connected().len()], [1, 1]);
        let (in_alpha, in_beta) = (&alpha.connected()[0], &beta.connected()[0]);
        assert_eq!((in_alpha.name.as_str(), in_beta.name.as_str()), ("beta", "alpha"));
        assert_eq!((in_alpha.address, in_beta.address), (at_beta, at_alpha));
        tokio::join!(alpha.stop(), beta.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_away_brings_and_gets_what_was_written_meanwhile() {
    let cluster = Cluster::new();
    let (at_alpha, at_beta) = (free_address(), free_address());
    let alpha = cluster.start_at("alpha", at_alpha, &[at_beta]).await;
    let beta = cluster.start_at("beta", at_beta, &[]).await;
    append(&alpha, "alpha 000").await;
    holds(&beta, &payloads(&["alpha"], 1)).await;
    beta.stop().await;
    append(&alpha, "alpha 001").await;
    alpha.stop().await;
    // Each alone takes writes; beta never heard of the last of alpha's.
    let beta = cluster.start_at("beta", at_beta, &[]).await;
    append(&beta, "beta 000").await;
    append(&beta, "beta 001").await;
    let alpha = cluster.start_at("alpha", at_alpha, &[at_beta]).await;
    let all = payloads(&["alpha", "beta"], 2);
    holds(&alpha, &all).await;
    holds(&beta, &all).await;
    // A peer that comes back at another address finds the others.
    beta.stop().await;
    let beta = cluster.start("beta", &[at_alpha]).await;
    append(&beta, "beta 002").await;
    let mut all = all;
    all.push("beta 002".into());
    holds(&alpha, &all).await;
    alpha.stop().await;
    beta.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_peer_fetches_what_there_is() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alpha", &[]).await;
    let client = cluster.client(&alpha).await;
    let options = ProducerOptions { durability: Some(Durability::Buffered), ..ProducerOptions::default() };
    let producer = client.producer(&jobs(), options).await.unwrap();
    let mut sent = Vec::new();
    for index in 0..48 {
        let payload = format!("{index:03} {}", "x".repeat(1 << 20));
        sent.push(payload.clone());
        drop(producer.send(payload.as_str()).await.unwrap());
    }
    producer.flush().await.unwrap();
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    let gamma = cluster.start("gamma", &[alpha.listen(), beta.listen()]).await;
    holds(&beta, &sent).await;
    holds(&gamma, &sent).await;
    for peer in [alpha, beta, gamma] {
        peer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_directory_is_a_store_of_its_own() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alpha", &[]).await;
    append(&alpha, "alpha 000").await;
    alpha.stop().await;
    copy_dir(&cluster.path("alpha"), &cluster.path("clone"));
    let alpha = cluster.start("alpha", &[]).await;
    let clone = cluster.start("clone", &[alpha.listen()]).await;
    assert_eq!(alpha.handle().about().peer, clone.handle().about().peer);
    append(&alpha, "alpha 001").await;
    append(&clone, "clone 001").await;
    let all = ["alpha 000", "alpha 001", "clone 001"].map(str::to_owned);
    holds(&alpha, &all).await;
    holds(&clone, &all).await;
    alpha.stop().await;
    clone.stop().await;
}
