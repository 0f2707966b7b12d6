//! Appends: one payload with its headers, batches of lines, retries.
use crate::peer::Peer;
use serde_json::json;

const ENTRIES: &str = "/v1/topics/jobs/entries";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_found_where_the_answer_says_with_all_that_was_said_of_it() {
    let peer = Peer::start().await;
    let said = [
        ("content-type", "text/plain; charset=utf-8"),
        ("conveyor-key", "user%3A42%ff"),
        ("conveyor-tags", "a, b%2Cc"),
        ("conveyor-headers", "Trace=x%3D1,n=2"),
        ("conveyor-priority", "9"),
        ("conveyor-deliver-at", "2030-01-31T12:00:00Z"),
        ("conveyor-expire-at", "1900000000"),
        ("conveyor-unique", "u1"),
        ("conveyor-durability", "fsync"),
    ];
    let made = peer.ask("POST", ENTRIES, &said, "grüß".as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let receipt = made.json();
    assert_eq!((&receipt["count"], &receipt["is_repeat"]), (&json!(1), &json!(false)), "{receipt}");
    assert_eq!(receipt["ids"], json!([receipt["id"]]));
    let at = made.header("location").unwrap();
    let got = peer.get(at).await;
    assert_eq!((got.status, got.text().as_str()), (200, "grüß"));
    for (name, value) in &said[..1] {
        assert_eq!(got.header(name), Some(*value));
    }
    assert_eq!(got.header("conveyor-key"), Some("user:42%FF"));
    assert_eq!(got.header("conveyor-tags"), Some("a,b%2Cc"));
    assert!(got.header("conveyor-headers").unwrap().starts_with("Trace=x%3D1,n=2,content-type="));
    assert_eq!(got.header("conveyor-priority"), Some("9"));
    assert_eq!(got.header("conveyor-deliver-at"), Some("2030-01-31T12:00:00Z"));
    assert_eq!(got.header("conveyor-unique"), Some("u1"));
    assert_eq!(got.header("content-location"), Some(at));
    let as_json = peer.ask("GET", at, &[("accept", "application/json")], b"").await.json();
    assert_eq!((&as_json["payload"], &as_json["tags"]), (&json!("grüß"), &json!(["a", "b,c"])), "{as_json}");
    assert_eq!((&as_json["key_base64"], &as_json["seq"]), (&json!("dXNlcjo0Mv8="), &json!(1)));
    // The short id that people read names the same entry.
    let short = as_json["id"].as_str().unwrap().strip_prefix("jobs/").unwrap();
    assert_eq!(peer.get(&format!("{ENTRIES}/{short}")).await.text(), "grüß");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_appended_whole_or_not_at_all_and_an_error_names_the_line() {
    let peer = Peer::start().await;
    let kind = [("content-type", "application/x-ndjson")];
    let line = |index: u32| format!("{{\"payload\":\"{index}\",\"key\":\"k{}\"}}\n", index % 3);
    let good: String = (0..3000).map(line).collect();
    let made = peer.ask("POST", ENTRIES, &kind, good.as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let receipt = made.json();
    assert_eq!(receipt["ids"].as_array().unwrap().len(), 3000);
    let last = receipt["ids"][2999].as_str().unwrap();
    assert_eq!(peer.get(&format!("{ENTRIES}/{}", last.strip_prefix("jobs/").unwrap())).await.text(), "2999");

    let broken = format!("{good}\r\n{{\"payload\": 3}}\n{}", line(1));
    let told = peer.ask("POST", ENTRIES, &kind, broken.as_bytes()).await;
    assert_eq!(told.is_problem("entry")["line"], 3002);
    let many = line(1).repeat(16_385);
    let told = peer.ask("POST", ENTRIES, &kind, many.as_bytes()).await;
    assert_eq!(told.is_problem("too-large")["line"], 16_385);
    for (body, problem) in
        [("", "malformed"), ("\n\n", "malformed"), ("{\"gap\":{}}", "entry"), ("{\"priority\":10}", "entry")]
    {
        peer.ask("POST", ENTRIES, &kind, body.as_bytes()).await.is_problem(problem);
    }
    assert_eq!(peer.get("/v1/topics/jobs").await.json()["entries"], 3000, "nothing of all that was appended");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_under_its_key_appends_nothing_new() {
    let peer = Peer::start().await;
    let key = [("idempotency-key", "order 7")];
    let first = peer.ask("POST", ENTRIES, &key, b"a").await.json();
    let again = peer.ask("POST", ENTRIES, &key, b"a").await;
    assert_eq!(again.status, 201);
    assert_eq!((&again.json()["id"], &again.json()["is_repeat"]), (&first["id"], &json!(true)));
    let other = peer.ask("POST", ENTRIES, &[("idempotency-key", "order 8")], b"a").await.json();
    assert_ne!(other["id"], first["id"]);
    let batch = [("idempotency-key", "order 7"), ("content-type", "application/x-ndjson")];
    peer.ask("POST", ENTRIES, &batch, b"{}\n{}\n").await.is_problem("repeat");
    assert_eq!(peer.get("/v1/topics/jobs").await.json()["entries"], 2);
    let long = "x".repeat(257);
    peer.ask("POST", ENTRIES, &[("idempotency-key", &long)], b"a").await.is_problem("limit");
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_cannot_be_are_told_and_nothing_is_appended() {
    let peer = Peer::start().await;
    let bad = [
        ("conveyor-key", "%4", "malformed"),
        ("conveyor-tags", "%ff", "malformed"),
        ("conveyor-priority", "high", "malformed"),
        ("conveyor-priority", "10", "entry"),
        ("conveyor-deliver-at", "soon", "malformed"),
        ("conveyor-deliver-at", "2999-01-01", "entry"),
        ("conveyor-durability", "sync", "malformed"),
        ("conveyor-headers", "=x", "entry"),
    ];
    for (name, value, problem) in bad {
        peer.ask("POST", ENTRIES, &[(name, value)], b"a").await.is_problem(problem);
    }
    let long = "k".repeat(1025);
    peer.ask("POST", ENTRIES, &[("conveyor-key", &long)], b"a").await.is_problem("entry");
    peer.ask("POST", ENTRIES, &[("conveyor-key", "a"), ("conveyor-key", "b")], b"a")
        .await
        .is_problem("malformed");
    peer.get("/v1/topics/jobs").await.is_problem("topic-unknown");
    // Too few peers for that: it is stored here, and the answer says so.
    let told = peer.ask("POST", ENTRIES, &[("conveyor-durability", "replicas=2")], b"kept").await;
    let problem = told.is_problem("not-confirmed");
    let id = problem["ids"][0].as_str().unwrap().strip_prefix("jobs/").unwrap();
    assert_eq!(peer.get(&format!("{ENTRIES}/{id}")).await.text(), "kept");
    peer.server.stop().await;
}
