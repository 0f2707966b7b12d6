//! Handshakes while many are under way.
use crate::peer::{Peer, topic};
use conveyor::client::Client;
use conveyor::identity::Rights;
use conveyor::net::NetConfig;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_proves_itself_first_where_many_handshakes_are_under_way() {
    let peer = Peer::start_with(NetConfig { handshake_count_unvalidated_max: 0, ..NetConfig::default() });
    for client in 1..=3 {
        let connected = peer.client().await;
        connected.append(&topic("jobs"), "hello").await.unwrap();
        assert_eq!(peer.counters.retries_sent.get(), client, "a token for each, and each shows it");
        assert_eq!(peer.counters.connections_accepted.get(), client);
    }
    assert_eq!(peer.counters.handshakes_failed.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_beyond_those_that_may_be_are_not_begun() {
    let peer = Peer::start_with(NetConfig { handshake_count_max: 0, ..NetConfig::default() });
    let credentials = peer.client_credentials(Rights::all());
    let client = Client::builder().address(peer.address.to_string()).credentials(credentials);
    assert!(client.connect().await.is_err());
    assert_eq!((peer.counters.connections_accepted.get(), peer.counters.retries_sent.get()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_is_tried_at_all_its_addresses() {
    // It listens at 127.0.0.1 alone, and the name stands for ::1 too where the host says so.
    let peer = Peer::start();
    let credentials = peer.client_credentials(Rights::all());
    let address = format!("localhost:{}", peer.address.port());
    let client = Client::builder().address(address).credentials(credentials).connect().await.unwrap();
    client.append(&topic("jobs"), "hello").await.unwrap();
}
