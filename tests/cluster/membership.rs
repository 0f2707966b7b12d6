//! Who finds whom.
use crate::hosts::{Cluster, append, holds, wait_until};
use conveyor::server::Server;
use std::net::SocketAddr;

fn names(peer: &Server) -> Vec<String> {
    let mut names: Vec<String> = peer.connected().iter().map(|other| other.name.to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_join_one_find_all_others() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alpha", &[]).await;
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    let gamma = cluster.start("gamma", &[alpha.listen()]).await;
    let delta = cluster.start("delta", &[gamma.listen()]).await;
    let all = [&alpha, &beta, &gamma, &delta];
    wait_until("all are connected to all", || all.iter().all(|peer| peer.connected().len() == 3)).await;
    assert_eq!(names(&delta), ["alpha", "beta", "gamma"]);
    // Who brought them together is not needed any more.
    alpha.stop().await;
    gamma.stop().await;
    append(&delta, "from delta").await;
    holds(&beta, &["from delta".into()]).await;
    wait_until("the dead are told from the living", || {
        let members = beta.members();
        members.iter().filter(|member| !member.is_alive).count() == 2
    })
    .await;
    let told: Vec<bool> = beta.members().iter().map(|member| member.is_alive).collect();
    assert_eq!(told.len(), 4, "it knows of all, itself included");
    beta.stop().await;
    delta.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_listens_everywhere_learns_where_it_is_reached() {
    let cluster = Cluster::new();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let alpha = cluster.start_at("alpha", everywhere, &[]).await;
    let at_alpha = SocketAddr::from(([127, 0, 0, 1], alpha.listen().port()));
    let beta = cluster.start_at("beta", everywhere, &[at_alpha]).await;
    let gamma = cluster.start("gamma", &[at_alpha]).await;
    wait_until("beta and gamma found each other", || beta.connected().len() == 2).await;
    wait_until("all are members", || gamma.members().iter().count() == 3).await;
    let at_beta = SocketAddr::from(([127, 0, 0, 1], beta.listen().port()));
    let found = gamma.members().iter().any(|member| member.facts.address == at_beta);
    assert!(found, "{:?}", gamma.members());
    for peer in [alpha, beta, gamma] {
        peer.stop().await;
    }
}
