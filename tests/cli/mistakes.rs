//! Mistakes that people make at a prompt: each ends with the code of its case and names what to do.
use crate::{Peer, program};
use std::process::Output;

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn each_mistake_has_its_code_and_its_remedy() {
    let peer = Peer::start();
    peer.says(&["append", "jobs"], "a\n");
    let id = format!("other/alpha.{}/1", "0".repeat(8));
    let file = peer.dir.path().join("jobs.cvy").display().to_string();
    peer.says(&["export", "jobs", "--file", &file], "");
    let mistakes: &[(&[&str], i32, &str)] = &[
        (&["append", "jobs", "--file", "missing.txt"], 3, "missing.txt"),
        (&["append", "jobs", "--blob", "missing.txt"], 3, "missing.txt"),
        (&["config", "check", "--config", "missing.toml"], 3, "missing.toml"),
        (&["config", "check", "--file", "missing.toml"], 3, "missing.toml"),
        (&["export", "jobs", "-f", &file], 4, "give another --file"),
        (&["serve"], 4, "is in use by another process: a peer with process id"),
        (&["serve", "--listen", "localhost"], 2, "an IP address and a port"),
        (&["serve", "--log-level", "loud"], 2, "error, warn, info, debug or trace"),
        (&["serve", "--set", "foo"], 2, "give KEY=VALUE"),
        (&["read", "jobs", "--limit", "abc"], 2, "give a whole number"),
        (&["read", "jobs", "-n", "-1"], 2, "give a whole number"),
        (&["read", "jobs", "--from", &id], 2, "names an entry of topic \"other\""),
        (&["read", "jobs", "--from", "+10m"], 2, "ahead of now; give 10m"),
        (&["read", "jobs", "--from", "99999999999999999999"], 2, "ahead of now; give now"),
        (&["status", "--connect", "127.0.0.1:"], 2, "give HOST:PORT"),
        (&["topic", "set", "nosuch", "--keep-age", "7d"], 3, "--create"),
        (&["topic", "set", "jobs"], 2, "nothing to set is named"),
        (&["read"], 2, "Usage: conveyor read [OPTIONS] <TOPIC>\n"),
        (&["bench", "put-many", "--clients", "0"], 2, "from 1 on"),
    ];
    for (args, code, remedy) in mistakes {
        let output = peer.run(args);
        let said = told(&output);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        assert!(said.contains(remedy), "{args:?}: {said}");
    }
    assert_eq!(peer.run(&["topic", "info", "nosuch"]).status.code(), Some(3), "nothing was made by mistake");
    peer.says(&["topic", "set", "nosuch", "--keep-age", "7d", "--create"], "");
}

#[test]
fn an_address_that_another_has_is_in_use() {
    let peer = Peer::start();
    let dir = tempfile::tempdir().unwrap();
    let args = ["serve", "--listen", &peer.address(), "--http", "none"];
    let output = program(dir.path()).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert_eq!(told(&output).matches("Address already in use").count(), 1, "{}", told(&output));
}

#[test]
fn a_wrong_command_line_is_told_as_json_too() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["read", "-o", "json"][..], &["-ojson", "read", "jobs", "--bad"], &["-o", "json", "tpic"]] {
        let output = program(dir.path()).args(args).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), said["exit"].as_u64()), (Some(2), Some(2)), "{said}");
        assert!(!said["error"].as_str().unwrap().contains("Usage"), "{said}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_wrong_usage() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = OsStr::from_bytes(b"\xff");
    for (before, is_json) in [(&["append"][..], false), (&["-o", "json", "read"], true), (&[], false)] {
        let output = program(dir.path()).args(before).arg(odd).output().unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(2), "{before:?}: {said}");
        assert_eq!(said.starts_with("{\"error\":"), is_json, "{said}");
        assert!(said.to_lowercase().contains("utf-8") || said.contains("unrecognized"), "{before:?}: {said}");
    }
}

#[test]
fn a_variable_that_nobody_knows_stops_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["read", "jobs"][..], &["topic", "list"], &["serve"], &["config", "check"]] {
        let output = program(dir.path()).args(args).env("CONVEYOR_CONECT", "127.0.0.1:1").output().unwrap();
        let said = told(&output);
        let is_told = said.contains("CONVEYOR_CONECT") && said.contains("did you mean \"CONVEYOR_CONNECT\"?");
        assert!(output.status.code() == Some(2) && is_told, "{args:?}: {said}");
    }
    let links = [("CONVEYOR_SERVICE_HOST", "10.0.0.1"), ("CONVEYOR_PORT", "udp://10.0.0.1:8011")];
    let output = program(dir.path()).args(["config", "check"]).envs(links).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn what_stands_before_a_broken_line_is_stored_and_its_ids_are_printed() {
    let peer = Peer::start();
    let lines = "{\"payload\":\"a\"}\n\n{\"payload\":\"b\"}\n{broken\n{\"payload\":\"c\"}\n";
    let output = peer.run_with(&["append", "jobs", "--ndjson"], lines);
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output);
    assert!(said.contains("2 entries stored: line 4: ") && !said.contains("line 1"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    assert_eq!(peer.says(&["read", "jobs"], ""), "a\nb\n");
    // An entry that is over a limit is found when it is sent, and named by its line too.
    let long = format!("{{\"payload\":\"d\"}}\n{{\"payload\":\"e\",\"key\":\"{}\"}}\n", "k".repeat(70_000));
    let output = peer.run_with(&["append", "jobs", "--ndjson"], &long);
    assert_eq!(output.status.code(), Some(4));
    assert!(told(&output).contains("line 2: "), "{}", told(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert_eq!(peer.says(&["read", "jobs"], ""), "a\nb\nd\n");
}

#[test]
fn a_command_that_ends_in_an_error_closes_its_connection_too() {
    let peer = Peer::start();
    for _ in 0..8 {
        assert_eq!(peer.run(&["topic", "info", "nosuch"]).status.code(), Some(3));
        assert_eq!(peer.run(&["read", "nosuch"]).status.code(), Some(3));
    }
    // The peer takes note of it in its own time, long before they would have been idle for too long.
    let connections = || {
        let status: serde_json::Value =
            serde_json::from_str(&peer.says(&["status", "-o", "json"], "")).unwrap();
        status["connections"].as_u64().unwrap()
    };
    assert!((0..20).any(|_| connections() == 1));
}

#[test]
fn a_peer_that_is_given_another_name_than_it_has_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = crate::serve_with(dir.path(), "127.0.0.1:0", &["--name", "alpha"]);
    first.kill().unwrap();
    first.wait().unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--http", "none", "--name", "beta"];
    let again = crate::program(dir.path()).args(args).output().unwrap();
    let told = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2), "{told}");
    assert!(told.contains("is called alpha") && told.contains("set to beta"), "{told}");
    let mut same = crate::serve_with(dir.path(), "127.0.0.1:0", &["--name", "alpha"]);
    same.kill().unwrap();
    same.wait().unwrap();
}
