//! A peer that is told to stop: what it waits for, and how long.
use crate::peers::{Peers, good, wait_until};
use std::process::Stdio;
use std::time::{Duration, Instant};

const WAITING: &str = "waiting until another peer holds what this one wrote";

#[test]
fn a_peer_that_is_told_to_stop_waits_until_another_holds_what_it_wrote() {
    let mut peers = Peers::started(&["alpha", "beta"]);
    // It stands still, and is not gone.
    peers.signal("beta", "-STOP");
    peers.append("alpha", &["jobs"], "one\ntwo\n");
    peers.signal("alpha", "-TERM");
    wait_until("it waits", || peers.log("alpha").contains(WAITING));
    std::thread::sleep(Duration::from_millis(500));
    assert!(peers.is_up("alpha"));
    peers.signal("beta", "-CONT");
    assert_eq!(peers.ended("alpha"), Some(0));
    assert!(
        peers.log("alpha").contains("another peer holds all that this one wrote"),
        "{}",
        peers.log("alpha")
    );
    peers.until_holds("beta", "jobs", &["one", "two"]);
}

#[test]
fn what_a_peer_that_stops_does_not_do_any_more_another_is_asked_for() {
    let mut peers = Peers::started(&["alpha", "beta"]);
    peers.signal("beta", "-STOP");
    peers.append("alpha", &["jobs"], "one\n");
    peers.signal("alpha", "-INT");
    wait_until("it waits", || peers.log("alpha").contains(WAITING));
    let beta = peers.address("beta");
    // beta is silent, so alpha is reached first.
    let mut create = peers.command("alpha", &["topic", "create", "more", "--connect", &beta]);
    let create = create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(peers.is_up("alpha"), "it waits for beta");
    peers.signal("beta", "-CONT");
    good(&create.wait_with_output().unwrap());
    assert_eq!(peers.ended("alpha"), Some(0));
    assert!(peers.says("beta", &["topic", "list"]).contains("more"));
}

#[test]
fn what_remains_is_told_when_the_time_is_over_and_a_second_signal_ends_it_at_once() {
    let mut peers = Peers::new(&["alpha", "beta"]);
    peers.start("alpha", &["--set", "peers.drain_ms=1s"]);
    peers.start("beta", &[]);
    peers.until_connected("alpha", 1);
    peers.signal("beta", "-STOP");
    peers.append("alpha", &["jobs"], "one\ntwo\n");
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    let log = peers.log("alpha");
    assert!(log.contains("no other peer says it holds these") && log.contains("entries=2"), "{log}");

    peers.signal("beta", "-CONT");
    peers.start("alpha", &["--set", "peers.drain_ms=10m"]);
    peers.until_connected("alpha", 1);
    peers.until_holds("beta", "jobs", &["one", "two"]);
    peers.signal("beta", "-STOP");
    peers.append("alpha", &["jobs"], "three\n");
    peers.signal("alpha", "-INT");
    wait_until("it waits", || peers.log("alpha").matches(WAITING).count() == 2);
    let begun = Instant::now();
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    assert!(peers.log("alpha").contains("told to stop again"), "{}", peers.log("alpha"));
    assert!(begun.elapsed() < Duration::from_secs(60), "far sooner than ten minutes");
    peers.signal("beta", "-CONT");
}

#[test]
fn a_peer_that_is_cut_off_from_all_others_says_what_it_alone_has() {
    let mut peers = Peers::started(&["alpha", "beta"]);
    peers.kill("beta");
    wait_until("nobody is connected", || {
        peers.says("alpha", &["sync", "status", "-o", "json"]).contains("\"peers\":[]")
    });
    peers.append("alpha", &["jobs"], "one\ntwo\n");
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    let log = peers.log("alpha");
    assert!(log.contains("no other peer says it holds these") && log.contains("entries=2"), "{log}");
}

#[test]
fn a_peer_that_met_nobody_since_its_start_says_what_it_alone_has() {
    let mut peers = Peers::started(&["alpha", "beta"]);
    peers.append("beta", &["jobs", "--durability", "replicas=2"], "zero\n");
    for name in ["alpha", "beta"] {
        peers.kill(name);
    }
    // It is told of no other address than its own.
    let join = format!("peers.join={}", peers.address("alpha"));
    peers.start("alpha", &["--set", &join]);
    peers.append("alpha", &["jobs"], "one\ntwo\n");
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    let log = peers.log("alpha");
    assert!(log.contains("no other peer says it holds these") && log.contains("entries=2"), "{log}");
}

#[test]
fn a_peer_without_others_stops_at_once() {
    let mut peers = Peers::new(&["alpha"]);
    peers.start("alpha", &["--set", "peers.drain_ms=10m"]);
    peers.append("alpha", &["jobs"], "one\n");
    peers.signal("alpha", "-INT");
    assert_eq!(peers.ended("alpha"), Some(0));
    assert!(!peers.log("alpha").contains(WAITING));
}
