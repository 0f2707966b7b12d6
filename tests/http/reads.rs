//! Entries by id, and pages.
use crate::peer::Peer;
use serde_json::{Value, json};

const ENTRIES: &str = "/v1/topics/jobs/entries";

fn payloads(page: &Value) -> Vec<&str> {
    page["entries"].as_array().unwrap().iter().map(|entry| entry["payload"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_page_by_page_from_wherever_one_stopped() {
    let peer = Peer::start().await;
    peer.get(ENTRIES).await.is_problem("topic-unknown");
    for index in 0..5 {
        let key = format!("k{}", index % 2);
        let answer =
            peer.ask("POST", ENTRIES, &[("conveyor-key", &key)], format!("{index}").as_bytes()).await;
        assert_eq!(answer.status, 201);
    }
    let first = peer.get(&format!("{ENTRIES}?limit=2")).await;
    let page = first.json();
    assert_eq!((payloads(&page), &page["at_end"]), (vec!["0", "1"], &json!(false)), "{page}");
    let next = first.header("link").unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    assert_eq!(payloads(&peer.get(&next).await.json()), ["2", "3", "4"]);
    let rest =
        peer.get(&format!("{ENTRIES}?cursor={}&limit=10", page["cursor"].as_str().unwrap())).await.json();
    assert_eq!((payloads(&rest), &rest["at_end"]), (vec!["2", "3", "4"], &json!(true)));
    let of_key = peer.get(&format!("{ENTRIES}?key=k1")).await.json();
    assert_eq!(payloads(&of_key), ["1", "3"]);
    let now = peer.get(&format!("{ENTRIES}?from=now")).await.json();
    assert_eq!((payloads(&now), &now["gaps"]), (vec![], &json!([])));
    // What comes while somebody waits ends the wait.
    let waits = format!("{ENTRIES}?wait=30s&cursor={}", now["cursor"].as_str().unwrap());
    let (page, _) = tokio::join!(peer.get(&waits), async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        peer.append("jobs", "late").await
    });
    assert_eq!(payloads(&page.json()), ["late"]);
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_never_changes_so_that_it_need_not_come_twice_and_comes_in_parts() {
    let peer = Peer::start().await;
    let id = peer.append("jobs", "0123456789").await;
    let path = format!("{ENTRIES}/{}", id.strip_prefix("jobs/").unwrap());
    let whole = peer.get(&path).await;
    let tag = whole.header("etag").unwrap();
    assert!(whole.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    let known = peer.ask("GET", &path, &[("if-none-match", tag)], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let part = peer.ask("GET", &path, &[("range", "bytes=2-4")], b"").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let beyond = peer.ask("GET", &path, &[("range", "bytes=10-")], b"").await;
    beyond.is_problem("range");
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = peer.ask("HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_cursors_and_places_that_mean_nothing_here_are_told_apart() {
    let peer = Peer::start().await;
    let id = peer.append("jobs", "a").await;
    peer.append("other", "a").await;
    let log = id.strip_prefix("jobs/").unwrap().rsplit_once('/').unwrap().0.to_owned();
    peer.get(&format!("{ENTRIES}/{log}/2")).await.is_problem("entry-ahead");
    let stranger = format!("{}.{}", "0".repeat(64), "1".repeat(16));
    peer.get(&format!("{ENTRIES}/{stranger}/1")).await.is_problem("entry-unknown");
    for bad in ["x/1", &format!("{log}/-1"), &format!("{log}/01"), &format!("{log}/x")] {
        peer.get(&format!("{ENTRIES}/{bad}")).await.is_problem("name");
    }
    let elsewhere = peer.get("/v1/topics/other/entries").await.json();
    let cursor = elsewhere["cursor"].as_str().unwrap();
    peer.get(&format!("{ENTRIES}?cursor={cursor}")).await.is_problem("cursor");
    peer.get(&format!("{ENTRIES}?cursor={}", &cursor[..cursor.len() - 2])).await.is_problem("cursor");
    for (query, problem) in [
        ("from=yesterday", "malformed"),
        ("from=2999-01-01", "malformed"),
        ("from=start&cursor=x", "malformed"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("wait=2h", "limit"),
        ("wait=soon", "malformed"),
        ("frm=start", "malformed"),
        ("limit=1&limit=2", "malformed"),
    ] {
        peer.get(&format!("{ENTRIES}?{query}")).await.is_problem(problem);
    }
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_told_as_a_gap() {
    let peer = Peer::start().await;
    let id = peer.append("jobs", "a").await;
    assert_eq!(peer.ask("DELETE", "/v1/topics/jobs", &[], b"").await.status, 200);
    peer.append("jobs", "b").await;
    let page = peer.get(ENTRIES).await.json();
    assert_eq!(payloads(&page), ["b"]);
    let gone = peer.get(&format!("{ENTRIES}/{}", id.strip_prefix("jobs/").unwrap())).await;
    assert_eq!(gone.is_problem("gone")["reason"], "trimmed");
    peer.server.stop().await;
}
