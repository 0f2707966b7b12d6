//! Who may not speak to peers, and what may not be said.
use crate::hosts::{Cluster, append, holds, validity, wait_until};
use bytes::Bytes;
use conveyor::base::{PeerName, StoreId, StoreNonce};
use conveyor::client::Credentials;
use conveyor::identity::Signer as _;
use conveyor::identity::ca::{Ca, Validity};
use conveyor::identity::{Rights, Role, tls};
use conveyor::quic::stream::{FrameReader, FrameWriter};
use conveyor::server::Server;
use conveyor::wire::frame::Kind;
use conveyor::wire::greeting::{Answer, Declined, Greeting, PEER_VERSION};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, VarInt};
use rustls::time_provider::DefaultTimeProvider;
use std::net::SocketAddr;
use std::sync::Arc;

fn role(name: &str) -> Role {
    Role::Peer { name: PeerName::new(name).unwrap() }
}

/// Connects as a peer does.
async fn dial(server: &Server, credentials: &Credentials) -> Option<(Endpoint, Connection)> {
    dial_for(server, credentials, tls::ALPN_PEER).await
}

async fn dial_for(
    server: &Server,
    credentials: &Credentials,
    protocol: &[u8],
) -> Option<(Endpoint, Connection)> {
    let tls = tls::client_config(credentials, Arc::new(DefaultTimeProvider), protocol).unwrap();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connection = endpoint.connect_with(config, server.listen(), "conveyor").unwrap().await.ok()?;
    Some((endpoint, connection))
}

fn greeting(nonce: u64) -> Greeting {
    Greeting {
        version_min: PEER_VERSION,
        version_max: PEER_VERSION,
        features: 0,
        nonce: StoreNonce(nonce),
        number: 1,
        address: None,
        dialled: SocketAddr::from(([127, 0, 0, 1], 1)),
        program: "test".into(),
    }
}

async fn greet(connection: &Connection, greeting: &Greeting) -> (FrameWriter, FrameReader, Option<Answer>) {
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Reply]));
    writer.message(Kind::Request, greeting).await.unwrap();
    let answer = reader.message().await.unwrap_or(None);
    (writer, reader, answer)
}

/// Two peers that a test talks to one of, and that serve each other all along.
async fn pair(cluster: &Cluster) -> (Server, Server) {
    let alpha = cluster.start("alpha", &[]).await;
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    wait_until("a session", || alpha.connected().len() == 1).await;
    (alpha, beta)
}

async fn still_serve((alpha, beta): (Server, Server)) {
    append(&alpha, "after all").await;
    holds(&beta, &["after all".into()]).await;
    alpha.stop().await;
    beta.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_peer_of_the_cluster_gets_no_session() {
    let cluster = Cluster::new();
    let (alpha, beta) = pair(&cluster).await;
    let other = Ca::create(validity()).unwrap();
    let stranger =
        other.issue(&role("mallory"), validity()).unwrap().credentials(other.certificate()).unwrap();
    let past = Validity { from_s: validity().from_s - 2_000, until_s: validity().from_s - 1_000 };
    let expired =
        cluster.ca.issue(&role("mallory"), past).unwrap().credentials(cluster.ca.certificate()).unwrap();
    for credentials in [stranger, expired] {
        let failed = alpha.counters().handshakes_failed.get();
        if let Some((_endpoint, connection)) = dial(&alpha, &credentials).await {
            // TLS 1.3: whoever is refused hears of it behind its own handshake.
            connection.closed().await;
        }
        wait_until("it is counted", || alpha.counters().handshakes_failed.get() > failed).await;
    }
    let forbidden = alpha.counters().requests_forbidden.get();
    let client = cluster.credentials(&Role::Client(Rights::all()));
    let (_endpoint, connection) = dial(&alpha, &client).await.unwrap();
    connection.closed().await;
    assert_eq!(alpha.counters().requests_forbidden.get(), forbidden + 1, "a client cannot be a peer");
    assert_eq!(alpha.connected().len(), 1);
    still_serve((alpha, beta)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_one_peers_and_not_another_ones() {
    let cluster = Cluster::new();
    let (alpha, beta) = pair(&cluster).await;
    let mallory = cluster.credentials(&role("mallory"));
    let of_beta = beta.handle().store_nonce();
    beta.stop().await;
    wait_until("beta is away", || alpha.connected().is_empty()).await;
    let (_endpoint, connection) = dial(&alpha, &mallory).await.unwrap();
    let (_writer, _reader, answer) = greet(&connection, &greeting(of_beta.0)).await;
    assert!(matches!(answer, Some(Answer::Welcome(_))), "{answer:?}");
    wait_until("a session", || alpha.connected().len() == 1).await;
    assert_eq!(alpha.connected()[0].store, StoreId::of(mallory.signer().peer(), of_beta), "of its own key");
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    wait_until("a session with beta", || alpha.connected().len() == 2).await;
    let myself = Credentials::peer_of_data_dir(cluster.path("alpha")).unwrap();
    let (_endpoint, connection) = dial(&alpha, &myself).await.unwrap();
    let (.., answer) = greet(&connection, &greeting(alpha.handle().store_nonce().0)).await;
    assert_eq!(answer, Some(Answer::Declined(Declined::Oneself)));
    let (_endpoint, connection) = dial(&alpha, &mallory).await.unwrap();
    let (.., answer) = greet(&connection, &Greeting { version_min: 7, version_max: 9, ..greeting(5) }).await;
    let spoken = Declined::Version { min: PEER_VERSION, max: PEER_VERSION };
    assert_eq!(answer, Some(Answer::Declined(spoken)));
    assert_eq!(alpha.connected().len(), 2);
    still_serve((alpha, beta)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_does_not_take_the_sessions_of_all() {
    let cluster = Cluster::new();
    let (alpha, beta) = pair(&cluster).await;
    let mallory = cluster.credentials(&role("mallory"));
    let mut kept = Vec::new();
    let mut answers = Vec::new();
    for store in 100..112 {
        let (endpoint, connection) = dial(&alpha, &mallory).await.unwrap();
        let (writer, reader, answer) = greet(&connection, &greeting(store)).await;
        answers.push(answer);
        kept.push((endpoint, connection, writer, reader));
    }
    let welcome = answers.iter().filter(|answer| matches!(answer, Some(Answer::Welcome(_)))).count();
    assert_eq!(welcome, 8, "{answers:?}");
    assert_eq!(answers.last(), Some(&Some(Answer::Declined(Declined::Full))));
    let gamma = cluster.start("gamma", &[alpha.listen()]).await;
    wait_until("others are welcome", || gamma.connected().iter().any(|other| other.name.as_str() == "alpha"))
        .await;
    drop(kept);
    gamma.stop().await;
    still_serve((alpha, beta)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_session_and_nothing_else() {
    let cluster = Cluster::new();
    let (alpha, beta) = pair(&cluster).await;
    let mallory = cluster.credentials(&role("mallory"));
    let rubbish: [(&[u8], bool); 5] = [
        (b"\x01\x00\x00\x00\x07\x00\x00\x00\xff", true),
        (b"\xff\xff\xff\xff\x07\x00\x00\x00", true),
        (b"\x00\x00\x00\x00\x01\x00\x00\x00", true),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", false),
        (b"\x04\x00\x00\x00\x08\x00\x00\x00junk", true),
    ];
    for (number, (bytes, is_greeted)) in rubbish.into_iter().enumerate() {
        let (_endpoint, connection) = dial(&alpha, &mallory).await.unwrap();
        let mut kept = None;
        if is_greeted {
            let (writer, reader, answer) = greet(&connection, &greeting(100 + number as u64)).await;
            assert!(matches!(answer, Some(Answer::Welcome(_))), "{answer:?}");
            kept = Some((writer, reader));
        }
        let send = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        match &mut kept {
            Some((writer, _)) => writer.frames(&mut vec![send(bytes)]).await.unwrap(),
            None => connection.open_bi().await.unwrap().0.write_chunk(send(bytes)).await.unwrap(),
        }
        connection.closed().await;
        wait_until("its session is over", || alpha.connected().len() == 1).await;
    }
    still_serve((alpha, beta)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_keep_no_peer_out_however_many_connect() {
    let cluster = Cluster::new();
    let mut config = cluster.config("alpha", SocketAddr::from(([127, 0, 0, 1], 0)), &[]);
    config.limits.connection_count_max = 2;
    let alpha = Server::start(&config).await.unwrap();
    let client = cluster.credentials(&Role::Client(Rights::all()));
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(dial_for(&alpha, &client, tls::ALPN_CLIENT).await.unwrap());
    }
    wait_until("both are in", || alpha.counters().connections.get() == 2).await;
    let (_endpoint, connection) = dial_for(&alpha, &client, tls::ALPN_CLIENT).await.unwrap();
    let closed = connection.closed().await;
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(why) if why.error_code == VarInt::from_u32(9)),
        "{closed}"
    );
    assert_eq!(alpha.counters().connections_refused.get(), 1);
    let beta = cluster.start("beta", &[alpha.listen()]).await;
    wait_until("a session", || alpha.connected().len() == 1).await;
    let (_, connection) = open.pop().unwrap();
    connection.close(VarInt::from_u32(0), b"");
    wait_until("one is gone", || alpha.counters().connections.get() == 2).await;
    let (_endpoint, connection) = dial_for(&alpha, &client, tls::ALPN_CLIENT).await.unwrap();
    wait_until("another is in its place", || alpha.counters().connections.get() == 3).await;
    assert_eq!(connection.close_reason(), None);
    drop(open);
    drop(connection);
    append(&beta, "after all").await;
    holds(&alpha, &["after all".into()]).await;
    alpha.stop().await;
    beta.stop().await;
}
