//! Topics as people make and set them.
use crate::{Peer, serve_with};

fn info(peer: &Peer, topic: &str) -> serde_json::Value {
    serde_json::from_str(&peer.says(&["topic", "info", topic, "-o", "json"], "")).unwrap()
}

#[test]
fn what_is_not_named_when_a_topic_is_made_is_as_the_peer_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let defaults = ["--set", "topics.durability=buffered", "--set", "topics.retention_count=5"];
    let child = serve_with(dir.path(), "127.0.0.1:0", &defaults);
    let peer = Peer { dir, child };
    peer.says(&["append", "by-append"], "a line\n");
    peer.says(&["topic", "create", "created"], "");
    peer.says(&["topic", "create", "durable", "--durability", "fsync"], "");
    peer.says(&["topic", "set", "set", "--keep-age", "7d", "--create"], "");
    peer.says(&["topic", "create", "all", "--keep-count", "none"], "");
    let of = |topic: &str| {
        let info = info(&peer, topic);
        (
            info["durability"].as_str().unwrap().to_owned(),
            info["keep_count"].as_u64(),
            info["keep_age_ms"].as_u64(),
        )
    };
    assert_eq!(of("by-append"), ("buffered".to_owned(), Some(5), None));
    assert_eq!(of("created"), ("buffered".to_owned(), Some(5), None));
    assert_eq!(of("durable"), ("fsync".to_owned(), Some(5), None));
    assert_eq!(of("set"), ("buffered".to_owned(), Some(5), Some(7 * 86_400_000)));
    assert_eq!(of("all"), ("buffered".to_owned(), None, None));
}
