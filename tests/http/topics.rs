//! Topics, and what a peer says of itself.
use crate::peer::Peer;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_set_shown_and_deleted() {
    let peer = Peer::start().await;
    let path = "/v1/topics/jobs%2Fmail";
    peer.get(path).await.is_problem("topic-unknown");
    let made = peer.ask("PUT", path, &[], br#"{"keep_age_ms": 60000, "durability": "buffered"}"#).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let shown = peer.get(path).await;
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let shown = shown.json();
    assert_eq!((&shown["topic"], &shown["keep_age_ms"]), (&json!("jobs/mail"), &json!(60000)), "{shown}");
    let again = peer.ask("PUT", path, &[("if-none-match", "*")], b"").await;
    again.is_problem("exists");
    let set = peer.ask("PUT", path, &[], b"{}").await;
    assert_eq!(
        (set.status, &set.json()["keep_age_ms"]),
        (200, &json!(60000)),
        "what is not named stays as it is: nothing is lost by saying that there is a topic"
    );
    assert_eq!(peer.get("/v1/topics").await.json()["topics"][0]["topic"], "jobs/mail");
    let deleted = peer.ask("DELETE", path, &[], b"").await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    peer.get(path).await.is_problem("topic-unknown");
    peer.ask("DELETE", path, &[], b"").await.is_problem("topic-unknown");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_and_json_that_is_none_are_told() {
    let peer = Peer::start().await;
    let long = format!("/v1/topics/{}", "x".repeat(201));
    for path in ["/v1/topics/..", "/v1/topics/a%2F..%2Fb", "/v1/topics/a%0Ab", &long] {
        peer.ask("PUT", path, &[], b"{}").await.is_problem("name");
    }
    peer.get("/v1/topics/%ff").await.is_problem("malformed");
    for body in ["{", "[]", r#"{"keep": 1}"#, r#"{"keep_age_ms": -1}"#, r#"{"durability": "maybe"}"#, "\u{0}"]
    {
        peer.ask("PUT", "/v1/topics/jobs", &[], body.as_bytes()).await.is_problem("malformed");
    }
    peer.ask("PUT", "/v1/topics/jobs", &[], br#"{"keep_count": 0}"#).await.is_problem("limit");
    let kind = [("content-type", "text/xml")];
    peer.ask("PUT", "/v1/topics/jobs", &kind, b"<a/>").await.is_problem("media-type");
    peer.ask("PUT", "/v1/topics/$own", &[], b"").await.is_problem("forbidden");
    peer.get("/v1/topics?limit=1").await.is_problem("malformed");
    peer.get("/v1/topic").await.is_problem("no-such-address");
    let answer = peer.ask("DELETE", "/v1/topics", &[], b"").await;
    answer.is_problem("method");
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
    assert_eq!(peer.get("/v1/topics").await.json()["topics"], json!([]), "nothing was made of all that");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_says_how_it_is_doing_and_who_else_there_is() {
    let peer = Peer::start().await;
    let status = peer.get("/v1/status").await.json();
    assert_eq!((&status["appends"], &status["clock"]), (&json!("open"), &json!("trusted")), "{status}");
    let members = peer.get("/v1/cluster/members").await.json();
    assert_eq!(
        (&members["members"][0]["state"], &members["members"][0]["peer"]),
        (&json!("asked"), &status["peer"])
    );
    let sync = peer.get("/v1/sync").await.json();
    assert_eq!((&sync["missing_entries"], &sync["peers"]), (&json!(0), &json!([])), "{sync}");
    peer.server.stop().await;
}
