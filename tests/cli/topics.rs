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

#[test]
fn retention_by_bytes_and_by_age_takes_the_oldest_and_readers_are_told() {
    let peer = Peer::start();
    peer.says(&["topic", "create", "sized", "--keep-bytes", "256 KiB"], "");
    peer.says(&["topic", "create", "aged", "--keep-age", "1s"], "");
    let (mut old, mut sized) = (String::new(), String::new());
    for number in 0..8 {
        let lines: String = (0..200).map(|line| format!("{number} {line:01000}\n")).collect();
        sized = peer.says(&["append", "sized"], &lines);
        old = peer.says(&["append", "aged"], "old\n");
    }
    let log = |topic: &str| info(&peer, topic)["logs"][0].clone();
    let first = |topic: &str| log(topic)["first_seq"].as_u64().unwrap();
    // The peer looks every ten seconds. Whole batches stay, and those of an append here have 200 KiB.
    let since = std::time::Instant::now();
    while first("sized") < 1_100 || first("aged") < 9 {
        assert!(since.elapsed() < std::time::Duration::from_secs(60), "{} {}", log("sized"), log("aged"));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let read = peer.run(&["read", "sized"]);
    let lines = String::from_utf8(read.stdout).unwrap();
    let kept = lines.lines().count();
    assert!((250..500).contains(&kept) && kept as u64 == 1601 - first("sized"), "{kept} are kept");
    assert!(lines.ends_with(&format!("7 {:01000}\n", 199)), "the newest is there");
    peer.says(&["get", sized.lines().last().unwrap()], "");
    assert_eq!(peer.says(&["read", "aged"], ""), "");
    let gone = peer.run(&["get", old.trim()]);
    let told = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(3), "{told}");
    assert!(told.contains("was trimmed; the log now starts at 9"), "{told}");
    let read = peer.run(&["read", "aged", "--from", old.trim()]);
    let told = String::from_utf8(read.stderr).unwrap();
    assert_eq!(read.status.code(), Some(3), "{told}");
    assert!(told.contains("was trimmed; the log now starts at 9"), "where to go on: {told}");
    assert!(peer.says(&["append", "aged"], "new\n").trim().ends_with("/9"), "no number is given twice");
}
