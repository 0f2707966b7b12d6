//! Too large, too slow, too many.
use crate::client::{answer, raw, request};
use crate::peer::Peer;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ENTRIES: &str = "/v1/topics/jobs/entries";

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_payload_passes_and_one_byte_more_does_not() {
    let peer = Peer::start().await;
    let mut payload = vec![b'x'; 16 << 20];
    let made = peer.ask("POST", ENTRIES, &[], &payload).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let got = peer.get(made.header("location").unwrap()).await;
    assert!(got.body == payload);
    payload.push(b'x');
    peer.ask("POST", ENTRIES, &[], &payload).await.is_problem("too-large");
    // The same where nobody says beforehand how much comes.
    let bearer = format!("Bearer {}", peer.token);
    let head = format!(
        "POST {ENTRIES} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut chunked = head.clone().into_bytes();
    chunked.extend_from_slice(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    let made = raw(peer.address, &chunked).await;
    assert_eq!(peer.get(made.header("location").unwrap()).await.text(), "abcdefg");
    let mut chunked = head.into_bytes();
    for _ in 0..17 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&payload[..1 << 20]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut socket = TcpStream::connect(peer.address).await.unwrap();
    let (mut read, mut write) = socket.split();
    let (_, told) = tokio::join!(write.write_all(&chunked), answer(&mut read));
    told.is_problem("too-large");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_off_appends_nothing() {
    let peer = Peer::start().await;
    let bearer = format!("Bearer {}", peer.token);
    let head = request("POST", ENTRIES, &[("authorization", &bearer)], 100);
    let mut socket = TcpStream::connect(peer.address).await.unwrap();
    socket.write_all(format!("{head}abc").as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    peer.get("/v1/topics/jobs").await.is_problem("topic-unknown");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_is_given_up() {
    let peer = Peer::start().await;
    let bearer = format!("Bearer {}", peer.token);
    let head = request("POST", ENTRIES, &[("authorization", &bearer)], 100);
    let mut socket = TcpStream::connect(peer.address).await.unwrap();
    socket.write_all(format!("{head}abc").as_bytes()).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(60), answer(&mut socket)).await;
    told.expect("it waits for some seconds and no longer").is_problem("slow");
    peer.get("/v1/topics/jobs").await.is_problem("topic-unknown");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_and_harms_no_other() {
    let peer = Peer::start_with(|config| config.http_connection_count_max = 2).await;
    let first = TcpStream::connect(peer.address).await.unwrap();
    let second = TcpStream::connect(peer.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let told = raw(peer.address, b"").await;
    assert_eq!((told.status, told.header("retry-after")), (503, Some("1")));
    drop((first, second));
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if peer.server.counters().http_connections.get() == 0 {
            break;
        }
    }
    assert_eq!(peer.get("/v1/topics").await.status, 200);
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_answered_and_the_peer_goes_on() {
    let peer = Peer::start().await;
    let many: String = (0..100).map(|index| format!("x-{index}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(1 << 20));
    for (headers, status) in [(many, 431), (large, 431)] {
        let text = format!("GET /v1/topics HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        assert_eq!(raw(peer.address, text.as_bytes()).await.status, status);
    }
    let told = raw(peer.address, b"\x16\x03\x01\x02\x00\x01\r\n\r\n").await;
    assert_eq!(told.status, 400);
    assert_eq!(peer.get("/v1/topics").await.status, 200);
    peer.server.stop().await;
}
