//! Tails by Server-Sent Events.
use crate::client::{Events, raw, request};
use crate::peer::{Peer, reader};
use std::time::Duration;

const STREAM: &str = "/v1/topics/jobs/entries/stream";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_follows_a_topic_and_goes_on_where_it_was_cut_off() {
    let peer = Peer::start().await;
    let token = peer.token(reader());
    // Before the topic is there; the token in the address, as a browser must.
    let mut events = Events::open(peer.address, &format!("{STREAM}?token={token}"), &[]).await;
    let begin = events.next().await.unwrap();
    assert_eq!(begin.name, "begin");
    peer.append("jobs", "a\nb").await;
    let first = events.expect("a\nb").await;
    peer.append("jobs", "c").await;
    events.expect("c").await;
    drop(events);
    peer.append("jobs", "d").await;
    let bearer = format!("Bearer {token}");
    let resumed = [("authorization", bearer.as_str()), ("last-event-id", first.id.as_str())];
    // The header wins over what the address began with.
    let mut events = Events::open(peer.address, &format!("{STREAM}?from=start"), &resumed).await;
    assert_eq!(events.next().await.unwrap().name, "begin");
    for payload in ["c", "d"] {
        events.expect(payload).await;
    }
    let by_cursor = format!("{STREAM}?cursor={}", begin.id);
    let mut events = Events::open(peer.address, &by_cursor, &resumed[..1]).await;
    assert_eq!(events.next().await.unwrap().id, begin.id);
    for payload in ["a\nb", "c", "d"] {
        events.expect(payload).await;
    }
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stops_ends_its_streams_and_waits_for_none_of_them() {
    let peer = Peer::start().await;
    let bearer = format!("Bearer {}", peer.token);
    let headers = [("authorization", bearer.as_str())];
    let mut events = Events::open(peer.address, STREAM, &headers).await;
    events.next().await.unwrap();
    let waits = request("GET", "/v1/topics/jobs/entries?wait=1m", &headers, 0);
    let address = peer.address;
    let waiting = tokio::spawn(async move { raw(address, waits.as_bytes()).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopping = tokio::time::timeout(Duration::from_secs(20), peer.server.stop());
    let (stopped, event, answer) = tokio::join!(stopping, events.next(), waiting);
    assert!(stopped.is_ok(), "it does not wait for them");
    assert_eq!(event, None);
    answer.unwrap().is_problem("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_told_on_the_way_and_the_stream_goes_on() {
    let peer = Peer::start().await;
    for payload in ["a", "b"] {
        peer.append("jobs", payload).await;
    }
    assert_eq!(peer.ask("DELETE", "/v1/topics/jobs", &[], b"").await.status, 200);
    peer.append("jobs", "c").await;
    let bearer = format!("Bearer {}", peer.token);
    let headers = [("authorization", bearer.as_str())];
    let page = peer.get("/v1/topics/jobs/entries?from=start").await.json();
    let mut events = Events::open(peer.address, &format!("{STREAM}?from=start"), &headers).await;
    assert_eq!(events.next().await.unwrap().name, "begin");
    if page["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()) {
        assert_eq!(events.next().await.unwrap().name, "gap");
    }
    events.expect("c").await;
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_origins_that_were_named_may_call() {
    let peer =
        Peer::start_with(|config| config.http_cors_origins = vec!["https://app.example".to_owned()]).await;
    let asked = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let answer = raw(peer.address, request("OPTIONS", "/v1/topics/jobs/entries", &asked, 0).as_bytes()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    let allowed = peer.ask("GET", "/v1/topics", &asked[..1], b"").await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    let other = peer.ask("GET", "/v1/topics", &[("origin", "https://evil.example")], b"").await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    let none = Peer::start().await;
    let answer = raw(none.address, request("OPTIONS", "/v1/topics", &asked, 0).as_bytes()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    none.server.stop().await;
    peer.server.stop().await;
}
