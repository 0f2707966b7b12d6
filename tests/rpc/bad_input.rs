//! Each kind of bad input from outside: refused, counted, told to whoever sent it, and the peer serves on.
use crate::peer::{Peer, now_s, topic};
use bytes::BytesMut;
use conveyor::base::limits::MESSAGE_BYTES_MAX;
use conveyor::client::{AttemptError, Client, ClientError, ConnectError, Credentials, Refusal};
use conveyor::identity::{Ca, Rights, Role, Validity, tls};
use conveyor::net::NetConfig;
use conveyor::quic::stream::{FrameReader, FrameWriter};
use conveyor::quic::unfinished::UnfinishedConfig;
use conveyor::wire::frame::{FrameError, Kind, put_small};
use conveyor::wire::message::{self, Hello, MessageError, Reply, Request, VERSION};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn connect(peer: &Peer, credentials: Credentials) -> Result<Client, ConnectError> {
    Client::builder().address(peer.address.to_string()).credentials(credentials).connect().await
}

async fn still_serves(peer: &Peer) {
    peer.client().await.append(&topic("jobs"), "x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_good_here_are_refused_and_counted() {
    let peer = Peer::start();
    let validity = Validity::days(now_s(), 10);
    let stranger = Ca::create(validity).unwrap();
    let role = Role::Client(Rights::all());
    let of_stranger = stranger.issue(&role, validity).unwrap();
    let past = Validity { from_s: now_s() - 200, until_s: now_s() - 100 };
    let expired = peer.ca.issue(&role, past).unwrap().credentials(peer.ca.certificate()).unwrap();
    let future = Validity { from_s: now_s() + 1000, until_s: now_s() + 2000 };
    let not_yet = peer.ca.issue(&role, future).unwrap().credentials(peer.ca.certificate()).unwrap();
    for credentials in [of_stranger.credentials(stranger.certificate()).unwrap(), expired, not_yet] {
        let before = peer.counters.handshakes_failed.get();
        let Err(ConnectError::Unreachable { tried }) = connect(&peer, credentials).await else {
            panic!("it was let in");
        };
        assert!(matches!(tried[0].1, AttemptError::Tls { .. }), "{tried:?}");
        wait_for(|| peer.counters.handshakes_failed.get() > before).await;
    }
    // A peer's certificate is good in the cluster, and is not a client's.
    let refused = connect(&peer, peer.credentials.clone()).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
    still_serves(&peer).await;
    wait_for(|| peer.counters.connections.get() == 0).await;
}

async fn wait_for(is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never became so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_refuses_a_peer_of_another_cluster_and_one_that_is_none() {
    let (peer, other) = (Peer::start(), Peer::start());
    let mine = peer.client_credentials(Rights::all());
    let refused = connect(&other, mine).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_the_port_changes_nothing() {
    let peer = Peer::start();
    let client = peer.client().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u64;
    for length in (0..3000).map(|n| n % 1400) {
        let rubbish: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u8
            })
            .collect();
        let _ = socket.send_to(&rubbish, peer.address);
    }
    client.append(&topic("jobs"), "through it all").await.unwrap();
    // It is dropped before anything is a handshake.
    assert_eq!((peer.counters.handshakes_failed.get(), peer.counters.connections_refused.get()), (0, 0));
    still_serves(&peer).await;
}

/// A connection that speaks QUIC and TLS correctly and then says what it likes.
async fn raw(peer: &Peer, greet: bool) -> Connection {
    let credentials = peer.client_credentials(Rights::all());
    let tls = tls::client_config(&credentials, Arc::new(DefaultTimeProvider), tls::ALPN_CLIENT).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connection = endpoint.connect_with(config, peer.address, "conveyor").unwrap().await.unwrap();
    if greet {
        assert!(matches!(hello(&connection, VERSION).await, Some(Reply::Welcome(_))));
    }
    connection
}

/// Keeps tickets, and would come back with them.
#[derive(Debug, Default)]
struct Tickets {
    count: AtomicUsize,
    kept: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.kept.lock().unwrap().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap().pop()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_would_resume_is_given_no_ticket_and_shows_its_certificate_each_time() {
    let peer = Peer::start();
    let credentials = peer.client_credentials(Rights::all());
    let tickets = Arc::new(Tickets::default());
    let mut tls = tls::client_config(&credentials, Arc::new(DefaultTimeProvider), tls::ALPN_CLIENT).unwrap();
    tls.resumption = Resumption::store(tickets.clone());
    tls.enable_early_data = true;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    for _ in 0..3 {
        let connecting = endpoint.connect_with(config.clone(), peer.address, "conveyor").unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("something was said before the handshake")
        };
        let connection = connecting.await.unwrap();
        // A ticket would come with the first data at the latest.
        assert!(matches!(hello(&connection, VERSION).await, Some(Reply::Welcome(_))));
        connection.close(0u32.into(), b"");
    }
    endpoint.wait_idle().await;
    assert_eq!(tickets.count.load(Ordering::Relaxed), 0);
    still_serves(&peer).await;
}

async fn hello(connection: &Connection, version: u16) -> Option<Reply> {
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Reply]));
    let hello = Hello { version_min: version, version_max: version, features: 0, program: "test".into() };
    writer.message(Kind::Request, &Request::Hello(hello)).await.unwrap();
    writer.finish();
    reader.message().await.unwrap()
}

/// What the peer answers to a stream of these bytes.
async fn say(connection: &Connection, bytes: &[u8]) -> Option<Reply> {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    // The peer may stop reading before the end of it.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    FrameReader::new(receive, &[Kind::Reply]).message().await.unwrap()
}

fn head(bytes: u32, kind: u8, flags: u8) -> Vec<u8> {
    [&bytes.to_le_bytes()[..], &[kind, flags, 0, 0]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_are_a_typed_error_to_their_stream_alone() {
    let peer = Peer::start();
    let connection = raw(&peer, true).await;
    let max = MESSAGE_BYTES_MAX;
    let cases = [
        (head(10, 1, 0), FrameError::Truncated),
        (head(10, 1, 0)[..5].to_vec(), FrameError::Truncated),
        (head(u32::MAX, 1, 0), FrameError::TooLong { kind: 1, bytes: u32::MAX as usize, max }),
        (head(1, 77, 0), FrameError::Kind { kind: 77 }),
        (head(1, 3, 0), FrameError::Kind { kind: 3 }),
        (head(1, 1, 0x80), FrameError::Flags),
    ];
    for (index, (bytes, why)) in cases.into_iter().enumerate() {
        let reply = say(&connection, &bytes).await;
        assert_eq!(reply, Some(Reply::Refused(Refusal::Frame(why))));
        wait_for(|| peer.counters.requests_malformed.get() == index as u64 + 1).await;
    }
    // bincode whose length of a topic's name lies, and a request followed by more.
    let lie = [&head(10, 1, 0)[..], &[1, 253, 255, 255, 255, 255, 255, 255, 255, 255]].concat();
    let reply = say(&connection, &lie).await;
    assert!(
        matches!(reply, Some(Reply::Refused(Refusal::Message(MessageError::Malformed { .. })))),
        "{reply:?}"
    );
    let trailing = [&head(2, 1, 0)[..], &[5, 5]].concat();
    let reply = say(&connection, &trailing).await;
    let expected = Reply::Refused(Refusal::Message(MessageError::Trailing { count: 1 }));
    assert_eq!(reply, Some(expected));
    assert!(connection.close_reason().is_none(), "the connection goes on");
    still_serves(&peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_spoken_and_requests_before_hello_are_refused() {
    let peer = Peer::start();
    let connection = raw(&peer, false).await;
    let status = [&head(1, 1, 0)[..], &[5]].concat();
    assert_eq!(say(&connection, &status).await, Some(Reply::Refused(Refusal::NoHello)));
    let refused = hello(&connection, VERSION + 1).await;
    assert_eq!(refused, Some(Reply::Refused(Refusal::Version { min: VERSION, max: VERSION })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_none_is_answered_in_its_place_and_the_stream_goes_on() {
    let peer = Peer::start();
    let connection = raw(&peer, true).await;
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Reply]));
    let request = Request::Append { topic: topic("jobs"), durability: None };
    writer.message(Kind::Request, &request).await.unwrap();
    writer.object(Kind::Chunk, b"", b"no chunk"[..].into()).await.unwrap();
    let mut good = conveyor::base::ChunkBuilder::new();
    good.push(&"x".into()).unwrap();
    let good = good.finish(conveyor::base::Codec::None);
    writer.object(Kind::Chunk, b"", good).await.unwrap();
    assert_eq!(reader.message().await.unwrap(), Some(Reply::Ready));
    let answer = reader.message().await.unwrap();
    assert!(matches!(answer, Some(Reply::Appended(Err(_)))), "{answer:?}");
    let answer = reader.message().await.unwrap();
    assert!(matches!(answer, Some(Reply::Appended(Ok(_)))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_reached_is_a_typed_error_and_another_address_is_taken() {
    let peer = Peer::start();
    let credentials = peer.client_credentials(Rights::all());
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let addresses = [nobody.clone(), "no such host.invalid:1".to_owned(), peer.address.to_string()];
    let client = Client::builder().addresses(addresses).credentials(credentials.clone()).connect().await;
    client.unwrap().append(&topic("jobs"), "x").await.unwrap();
    let refused = Client::builder().address(nobody).credentials(credentials).connect().await;
    let Err(ConnectError::Unreachable { tried }) = refused else { panic!("somebody answered") };
    assert_eq!(tried[0].1, AttemptError::Silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_their_limits_name_the_limit() {
    let peer = Peer::start();
    let client = peer.client().await;
    let id = conveyor::base::EntryRef::parse("jobs/alpha.01234567/1").unwrap();
    let refused = client.get(&vec![id; 1025], None).await;
    assert!(matches!(refused, Err(ClientError::Refused(Refusal::Limit { .. }))));
}

/// A stream that says it will bring `announced` bytes of a chunk, and brings a few.
async fn begin_chunk(connection: &Connection, announced: u32) -> (quinn::SendStream, FrameReader) {
    begin_object(connection, announced, 0).await
}

/// The same, with the flags of its frame.
async fn begin_object(
    connection: &Connection,
    announced: u32,
    flags: u8,
) -> (quinn::SendStream, FrameReader) {
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut writer, mut small) = (send, BytesMut::new());
    let request = Request::Append { topic: topic("jobs"), durability: None };
    put_small(Kind::Request, &message::encode(&request).unwrap(), &mut small);
    small.extend_from_slice(&head(announced, 3, flags));
    small.extend_from_slice(&[0; 100]);
    writer.write_all(&small).await.unwrap();
    (writer, FrameReader::new(receive, &[Kind::Reply]))
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_begun_and_not_finished_hold_bounded_memory_and_are_given_up() {
    let (bytes_max, waiting_count_max) = (4 << 20, 8);
    let unfinished = UnfinishedConfig {
        bytes_max,
        waiting_count_max,
        grace: Duration::from_millis(500),
        ..UnfinishedConfig::default()
    };
    let peer = Peer::start_with(NetConfig { unfinished, ..NetConfig::default() });
    let mut streams = Vec::new();
    for _ in 0..4 {
        let connection = raw(&peer, true).await;
        for _ in 0..10 {
            streams.push(begin_chunk(&connection, 1 << 20).await);
        }
    }
    let (mut slow, mut refused) = (0, 0);
    for (_writer, reader) in &mut streams {
        let answer = loop {
            match reader.message().await.unwrap() {
                Some(Reply::Ready) => {}
                answer => break answer,
            }
        };
        match answer {
            Some(Reply::Refused(Refusal::Frame(FrameError::Truncated))) => slow += 1,
            Some(Reply::Refused(Refusal::Limit { .. })) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // Four have room at a time and eight wait; how many get their turn before the rest has come is the scheduler's.
    assert_eq!(slow + refused, 40);
    assert!(slow >= 12, "those that had room, and those that waited for it");
    assert_eq!((peer.counters.objects_slow.get(), peer.counters.objects_refused.get()), (slow, refused));
    // All room is free again: an entry that needs the whole of it is taken.
    let client = peer.client().await;
    client.append(&topic("jobs"), vec![7u8; 5 << 20]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trickles_large_entries_does_not_hold_up_small_ones_of_others() {
    // None of the large ones is cut off while this runs.
    let unfinished = UnfinishedConfig { grace: Duration::from_secs(3600), ..UnfinishedConfig::default() };
    let peer = Peer::start_with(NetConfig { unfinished, ..NetConfig::default() });
    let slow = raw(&peer, true).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        // The first of the frames of 16 MiB.
        streams.push(begin_object(&slow, 2_000_000, 1).await);
    }
    wait_for(|| peer.counters.requests.get() == 9).await;
    let client = peer.client().await;
    for _ in 0..20 {
        client.append(&topic("jobs"), vec![7u8; 512 << 10]).await.unwrap();
    }
    assert_eq!((peer.counters.objects_slow.get(), peer.counters.objects_refused.get()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_finds_no_room_tries_again_until_there_is() {
    let unfinished = UnfinishedConfig {
        bytes_max: 1 << 20,
        waiting_count_max: 0,
        grace: Duration::from_secs(1),
        ..UnfinishedConfig::default()
    };
    let peer = Peer::start_with(NetConfig { unfinished, ..NetConfig::default() });
    let connection = raw(&peer, true).await;
    let _held = begin_chunk(&connection, 1 << 20).await;
    wait_for(|| peer.counters.requests.get() == 2).await;
    let client = peer.client().await;
    client.append(&topic("jobs"), vec![7u8; 3 << 20]).await.unwrap();
}
