//! Groups: consumers that speak HTTP.
use crate::peer::{Peer, reader};
use serde_json::{Value, json};

const GROUP: &str = "/v1/topics/jobs/groups/mailers";

async fn post(peer: &Peer, verb: &str, body: Value) -> crate::client::Answer {
    peer.post(&format!("{GROUP}/{verb}"), &body.to_string()).await
}

fn leases(handed: &Value) -> Vec<Value> {
    handed["entries"].as_array().unwrap().iter().map(|entry| entry["lease"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_handed_out_acknowledged_given_back_and_handed_out_again_after_a_rewind() {
    let peer = Peer::start().await;
    for payload in ["a", "b", "c"] {
        peer.append("jobs", payload).await;
    }
    let made = peer.ask("PUT", GROUP, &[], br#"{"lease_ms": 60000}"#).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(peer.ask("PUT", GROUP, &[], b"").await.status, 200, "it is there");
    peer.ask("PUT", GROUP, &[("if-none-match", "*")], b"").await.is_problem("exists");
    let handed = post(&peer, "next", json!({ "count": 2, "wait_ms": 5000 })).await;
    assert_eq!(handed.header("cache-control"), Some("no-store"));
    let handed = handed.json();
    let payloads: Vec<&Value> = handed["entries"].as_array().unwrap().iter().map(|e| &e["payload"]).collect();
    assert_eq!(payloads, ["a", "b"], "{handed}");
    assert_eq!(
        (&handed["entries"][0]["attempt"], &handed["entries"][0]["lease_ms"]),
        (&json!(1), &json!(60000))
    );
    let leases = leases(&handed);
    let extended = post(&peer, "extend", json!({ "leases": [leases[1]], "lease_ms": 90000 })).await;
    assert_eq!((extended.status, &extended.json()["outcomes"][0]["done"]), (200, &json!(true)));
    let acked = post(&peer, "ack", json!({ "ids": [leases[0]] })).await.json();
    assert_eq!(acked, json!({ "acked": 1, "known": 0 }));
    // An id does as well as a lease, and again it is no news.
    let acked = post(&peer, "ack", json!({ "ids": [handed["entries"][0]["id"]] })).await.json();
    assert_eq!(acked, json!({ "acked": 0, "known": 1 }));
    let back = post(&peer, "nack", json!({ "leases": [leases[1]], "counts": false })).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let again = post(&peer, "nack", json!({ "leases": [leases[1]] })).await;
    assert_eq!(again.is_problem("lease")["reason"], "unknown");
    let over = post(&peer, "extend", json!({ "leases": [leases[0], leases[1]] })).await;
    assert_eq!(over.is_problem("lease")["outcomes"].as_array().unwrap().len(), 2);
    let rest =
        post(&peer, "next", json!({ "count": 10, "wait_ms": 5000, "acked": [leases[1]] })).await.json();
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1, "{rest}");
    let none = post(&peer, "next", json!({})).await.json();
    assert_eq!(none["entries"], json!([]));
    let info = peer.get(GROUP).await.json();
    assert_eq!(
        (&info["acked"], &info["leased"], &info["paused"]),
        (&json!(2), &json!(1), &json!(false)),
        "{info}"
    );
    assert_eq!(post(&peer, "rewind", json!({ "to": "start" })).await.status, 200);
    let all = post(&peer, "next", json!({ "count": 10, "wait_ms": 5000 })).await.json();
    assert_eq!(all["entries"].as_array().unwrap().len(), 3, "{all}");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_set_paused_listed_and_deleted() {
    let peer = Peer::start().await;
    peer.append("jobs", "a").await;
    peer.get(GROUP).await.is_problem("group-unknown");
    assert_eq!(peer.ask("PUT", GROUP, &[], b"").await.status, 201);
    let set = peer
        .ask("PATCH", GROUP, &[], br#"{"paused": true, "max_deliveries": 3, "when_exhausted": "drop"}"#)
        .await;
    assert_eq!((set.status, &set.json()["max_deliveries"]), (200, &json!(3)), "{}", set.text());
    assert_eq!(post(&peer, "next", json!({})).await.json()["entries"], json!([]), "it is paused");
    let set = peer.ask("PATCH", GROUP, &[], br#"{"paused": false, "expire_to": "old"}"#).await.json();
    assert_eq!(
        (&set["max_deliveries"], &set["expire_to"]),
        (&json!(3), &json!("old")),
        "what is not named stays"
    );
    let set = peer.ask("PATCH", GROUP, &[], br#"{"expire_to": null}"#).await.json();
    assert_eq!(set["expire_to"], json!(null));
    let listed = peer.get("/v1/topics/jobs/groups").await.json();
    assert_eq!(listed["groups"][0]["group"], "mailers", "{listed}");
    let token = peer.token(reader());
    assert_eq!(peer.ask_as(&token, "GET", GROUP, &[], b"").await.status, 200);
    peer.ask_as(&token, "PATCH", GROUP, &[], b"{}").await.is_problem("forbidden");
    peer.ask_as(&token, "POST", &format!("{GROUP}/rewind"), &[], br#"{"to":"start"}"#)
        .await
        .is_problem("forbidden");
    assert_eq!(peer.ask("DELETE", GROUP, &[], b"").await.json()["deleted"], true);
    peer.get(GROUP).await.is_problem("group-unknown");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_a_group_is_told_before_anything_is_done() {
    let peer = Peer::start().await;
    let id = peer.append("jobs", "a").await;
    for name in ["..", "a%2Fb", ".a", "%20", &"x".repeat(65)] {
        peer.ask("PUT", &format!("/v1/topics/jobs/groups/{name}"), &[], b"").await.is_problem("name");
    }
    for body in ["{", "[]", "null1", r#"{"leas": 1}"#, r#"{"from": "yesterday"}"#, r#"{"lease_ms": "1s"}"#] {
        peer.ask("PUT", GROUP, &[], body.as_bytes()).await.is_problem("malformed");
    }
    for body in [r#"{"lease_ms": 0}"#, r#"{"lease_ms": 99999999999}"#, r#"{"retry_delay_ms": 999999999999}"#]
    {
        peer.ask("PUT", GROUP, &[], body.as_bytes()).await.is_problem("limit");
    }
    peer.ask("PUT", GROUP, &[], br#"{"expire_to": "$own"}"#).await.is_problem("forbidden");
    peer.ask("PUT", "/v1/topics/$catalog/groups/g", &[], b"").await.is_problem("forbidden");
    let many = vec![id.clone(); 1025];
    post(&peer, "ack", json!({ "ids": many })).await.is_problem("limit");
    post(&peer, "ack", json!({})).await.is_problem("malformed");
    post(&peer, "ack", json!({ "ids": ["x"] })).await.is_problem("name");
    post(&peer, "ack", json!({ "ids": [id.replace("jobs/", "other/")] })).await.is_problem("name");
    let stranger = format!("jobs/{}.{}/1", "0".repeat(64), "1".repeat(16));
    post(&peer, "ack", json!({ "ids": [stranger] })).await.is_problem("entry-unknown");
    post(&peer, "nack", json!({ "leases": [id] })).await.is_problem("name");
    post(
        &peer,
        "nack",
        json!({ "leases": [format!("{id}@00000000000000ff")], "delay_ms": 999_999_999_999_999u64 }),
    )
    .await
    .is_problem("limit");
    post(&peer, "next", json!({ "count": 1025 })).await.is_problem("limit");
    post(&peer, "next", json!({ "wait_ms": 60_001 })).await.is_problem("limit");
    post(&peer, "rewind", json!({ "to": "2999-01-01" })).await.is_problem("malformed");
    post(&peer, "rewind", json!({})).await.is_problem("malformed");
    peer.server.stop().await;
}
