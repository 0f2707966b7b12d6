//! What is said of how a cluster is doing, and of single entries.
use crate::peers::{Peers, lines, wait_until};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

#[test]
fn a_cluster_is_healthy_until_a_peer_is_away() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma"]);
    peers.append("alpha", &["jobs", "--durability", "replicas=3"], "one\n");
    wait_until("all is well", || peers.run("beta", &["cluster", "health"]).status.code() == Some(0));
    let words = peers.says("beta", &["cluster", "health"]);
    assert!(words.starts_with("healthy: 3 peers"), "{words}");
    let health = &lines(&peers.says("gamma", &["cluster", "health", "-o", "json"]))[0];
    assert_eq!((&health["is_healthy"], health["peers"].as_array().unwrap().len()), (&true.into(), 3));
    peers.signal("gamma", "-INT");
    assert_eq!(peers.ended("gamma"), Some(0));
    let output = peers.run("alpha", &["cluster", "health", "-o", "json"]);
    assert_eq!(output.status.code(), Some(10));
    let health = &lines(&String::from_utf8(output.stdout).unwrap())[0];
    let found = health["findings"].as_array().unwrap();
    assert!(found.len() == 1 && found[0]["peer"] == "gamma", "{health}");
    assert!(found[0]["what"].as_str().unwrap().starts_with("away: "), "{health}");
}

#[test]
fn a_peer_that_gossip_forgot_is_away_as_long_as_something_it_wrote_is_held() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma"]);
    peers.append("gamma", &["jobs", "--durability", "replicas=3"], "one\n");
    for name in ["gamma", "alpha", "beta"] {
        peers.kill(name);
    }
    peers.start("alpha", &[]);
    peers.start("beta", &[]);
    peers.until_connected("alpha", 1);
    assert!(!peers.says("alpha", &["cluster", "members"]).contains("gamma"), "nobody met it since");
    let output = peers.run("alpha", &["cluster", "health", "-o", "json"]);
    assert_eq!(output.status.code(), Some(10));
    let health = &lines(&String::from_utf8(output.stdout).unwrap())[0];
    let found = serde_json::json!([{ "peer": "gamma", "what": "away: nobody heard of it for long" }]);
    assert_eq!(health["findings"], found, "{health}");
    peers.says("alpha", &["peer", "remove", "gamma", "--successor", "alpha", "--yes"]);
    wait_until("all is well", || peers.run("beta", &["cluster", "health"]).status.code() == Some(0));
}

#[test]
fn what_a_peer_lacks_is_told_by_peer_and_by_entry() {
    let mut peers = Peers::started(&["alpha", "beta"]);
    let id = peers.append("alpha", &["jobs", "--durability", "replicas=2"], "one\n").remove(0);
    let status = &lines(&peers.says("beta", &["sync", "status", "-o", "json"]))[0];
    assert_eq!((&status["missing_entries"], &status["behind_ms"]), (&0.into(), &serde_json::Value::Null));
    let peer = &status["peers"][0];
    assert_eq!((&peer["name"], &peer["missing_entries"]), (&"alpha".into(), &0.into()), "{status}");
    assert!(peer["received_bytes"].as_u64().unwrap() > 0 && peer["rtt_us"].as_u64().unwrap() > 0, "{status}");
    let words = peers.says("beta", &["sync", "status"]);
    assert!(words.starts_with("beta lacks nothing") && words.contains("\nalpha  even "), "{words}");

    let explain = |id: &str| lines(&peers.says("beta", &["sync", "explain", id, "-o", "json"])).remove(0);
    assert_eq!(explain(&id)["why"], "here");
    let ahead = format!("{}/100", id.rsplit_once('/').unwrap().0);
    let why = explain(&ahead);
    assert_eq!((&why["why"], &why["is_writer_connected"]), (&"ahead".into(), &true.into()), "{why}");
    assert!(why["words"].as_str().unwrap().contains("not even the one that wrote it"), "{why}");
    assert_eq!(explain("jobs/alpha.0123456789abcdef/1")["why"], "unknown");
    peers.says("alpha", &["topic", "delete", "jobs"]);
    wait_until("it is trimmed", || explain(&id)["why"] == "trimmed");
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    wait_until("it is away", || {
        let why = lines(&peers.says("beta", &["sync", "explain", &ahead, "-o", "json"])).remove(0);
        why["words"].as_str().unwrap().contains("is away")
    });
}

/// What a page for monitoring says.
fn scraped(http: &str) -> String {
    let mut socket = TcpStream::connect(http).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn what_is_on_one_disk_alone_is_a_metric() {
    let mut peers = Peers::new(&["alpha", "beta"]);
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    peers.start("alpha", &["--set", &format!("http={http}")]);
    let unreplicated = || -> Option<f64> {
        let page = scraped(&http);
        let value = page.lines().find_map(|line| line.strip_prefix("conveyor_unreplicated_entries "));
        value.map(|value| value.trim().parse().unwrap())
    };
    peers.append("alpha", &["jobs"], "one\ntwo\n");
    assert_eq!(unreplicated(), None, "nobody could say");
    // Its disk has no room, and it is there all the same.
    peers.start("beta", &["--set", "disk.reserve_bytes=1000000GiB"]);
    wait_until("two are here alone", || unreplicated().is_some_and(|count| count >= 2.0));
    peers.kill("beta");
    peers.start("beta", &[]);
    wait_until("beta has all", || unreplicated() == Some(0.0));
}
