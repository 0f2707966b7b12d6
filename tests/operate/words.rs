//! Whether people are told who it is about, and what to do.
use crate::peers::{Peers, good, told};
use std::process::Command;

#[test]
fn peers_are_called_by_their_names_as_soon_as_they_wrote_something() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma"]);
    for name in ["alpha", "beta", "gamma"] {
        peers.append(name, &["jobs", "--durability", "replicas=3"], "one\n");
    }
    let info = peers.says("alpha", &["topic", "info", "jobs"]);
    assert!(info.contains("beta") && info.contains("gamma"), "{info}");
    peers.signal("gamma", "-INT");
    assert_eq!(peers.ended("gamma"), Some(0));
    peers.until_connected("alpha", 1);
    let deleted = peers.says("alpha", &["topic", "delete", "jobs"]);
    assert!(deleted.contains("beta removes what it wrote as it hears of this"), "{deleted}");
    assert!(deleted.contains("gamma is away"), "{deleted}");
    // Started again, it is there once, and not once more as what it was before.
    peers.start("gamma", &[]);
    peers.until_connected("alpha", 2);
    let members = peers.says("alpha", &["cluster", "members"]);
    assert_eq!(members.lines().filter(|line| line.starts_with("gamma")).count(), 1, "{members}");
}

#[test]
fn a_certificate_of_another_cluster_is_refused_in_plain_words() {
    let (peers, others) = (Peers::started(&["alpha"]), Peers::new(&["alpha"]));
    let theirs = others.data_dir("alpha").join("identity");
    let ours = peers.data_dir("alpha").join("identity");
    let file = |dir: &std::path::Path, name: &str| dir.join(name).display().to_string();
    for ca in [&theirs, &ours] {
        let mut status = Command::new(env!("CARGO_BIN_EXE_conveyor"));
        status.args(["status", "--connect", &peers.address("alpha"), "--cert", &file(&theirs, "client.crt")]);
        status.args(["--key", &file(&theirs, "client.key"), "--ca", &file(ca, "ca.crt")]);
        let output = status.output().unwrap();
        let words = told(&output);
        assert!(!words.contains("Other(") && !words.contains("error 4"), "{words}");
        if ca == &theirs {
            assert_eq!(output.status.code(), Some(4), "{words}");
            assert!(words.contains("certificate"), "{words}");
        }
    }
    let shown = Command::new(env!("CARGO_BIN_EXE_conveyor"))
        .args(["cert", "show", &file(&ours, "client.crt")])
        .output()
        .unwrap();
    let shown = good(&shown);
    assert!(shown.contains("valid    from "), "{shown}");
}
