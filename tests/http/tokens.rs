//! Who may ask: each request has a token, and the token says what it allows.
use crate::client::{raw, request};
use crate::peer::{Peer, now_s, reader};
use conveyor::identity::Rights;
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_told_even_on_loopback_but_by_the_pages_of_monitoring() {
    let peer = Peer::start().await;
    for path in ["/v1/topics", "/v1/status", "/v1/topics/jobs/entries"] {
        let answer = raw(peer.address, request("GET", path, &[], 0).as_bytes()).await;
        answer.is_problem("unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"conveyor\""), "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(raw(peer.address, request("GET", path, &[], 0).as_bytes()).await.status, 200, "{path}");
    }
    let file = peer.dir.path().join("data/identity/client.token");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(peer.get("/v1/topics").await.json()["topics"], serde_json::json!([]));
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_told_from_those_that_allow_too_little() {
    let peer = Peer::start().await;
    let over = peer.token_until(Rights::all(), now_s() - 1);
    let other = Peer::start().await;
    for token in ["", "x", "cvt1_", "cvt1_AAAA", &over, &other.token, &peer.token[..peer.token.len() - 4]] {
        let answer = peer.ask_as(token, "GET", "/v1/topics", &[], b"").await;
        answer.is_problem("unauthorized");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{token}");
        assert!(token.len() < 10 || !answer.text().contains(token), "no token is told again");
    }
    let basic = [("authorization", "Basic YTpi")];
    raw(peer.address, request("GET", "/v1/topics", &basic, 0).as_bytes()).await.is_problem("unauthorized");

    let jobs = Rights { read: true, write: true, admin: false, prefixes: vec!["jobs/".to_owned()] };
    let token = peer.token(jobs);
    assert_eq!(peer.ask_as(&token, "POST", "/v1/topics/jobs%2Fmail/entries", &[], b"a").await.status, 201);
    peer.append("other", "b").await;
    let listed = peer.ask_as(&token, "GET", "/v1/topics", &[], b"").await.json();
    assert_eq!(listed["topics"].as_array().unwrap().len(), 1, "{listed}");
    let refused = [
        ("POST", "/v1/topics/other/entries"),
        ("GET", "/v1/topics/other/entries"),
        ("GET", "/v1/topics/other"),
        ("PUT", "/v1/topics/jobs%2Fmail"),
        ("DELETE", "/v1/topics/jobs%2Fmail"),
        ("GET", "/v1/topics/$catalog/entries"),
        ("GET", "/v1/topics/other/entries/stream"),
        ("GET", "/v1/topics/other/groups"),
        ("DELETE", "/v1/topics/jobs%2Fmail/groups/g"),
    ];
    for (method, path) in refused {
        let answer = peer.ask_as(&token, method, path, &[], b"").await;
        answer.is_problem("forbidden");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("insufficient_scope"), "{method} {path}: {challenge}");
    }
    peer.ask("POST", "/v1/topics/$catalog/entries", &[], b"x").await.is_problem("forbidden");
    other.server.stop().await;
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_that_may_do_nothing_but_read_may_stand_in_an_address() {
    let peer = Peer::start().await;
    peer.append("jobs", "a").await;
    let read = peer.token(reader());
    let ask = async |method: &str, token: &str| {
        let path = format!("/v1/topics/jobs/entries?token={token}");
        raw(peer.address, request(method, &path, &[], 0).as_bytes()).await
    };
    assert_eq!(ask("GET", &read).await.status, 200);
    assert_eq!(ask("HEAD", &read).await.status, 200);
    ask("POST", &read).await.is_problem("unauthorized");
    ask("GET", &peer.token).await.is_problem("unauthorized");
    peer.server.stop().await;
}
