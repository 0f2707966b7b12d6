//! Ctrl-C: what has no end of its own is done with it, all else was cut short and says so.
use crate::{Peer, program, signal};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

fn start(peer: &Peer, args: &[&str]) -> Child {
    let mut command = program(peer.dir.path());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(from.read_line(&mut line).unwrap() > 0, "the end came instead");
    line
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn ctrl_c_ends_a_tail_and_the_input_of_an_append_and_both_are_done() {
    let peer = Peer::start();
    let mut append = start(&peer, &["append", "jobs"]);
    let mut ids = BufReader::new(append.stdout.take().unwrap());
    append.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let id = line(&mut ids);
    for (args, name) in [(&["tail", "jobs", "-n", "1"][..], "INT"), (&["read", "jobs", "-f"], "TERM")] {
        let mut tail = start(&peer, args);
        assert_eq!(line(&mut BufReader::new(tail.stdout.take().unwrap())), "one\n");
        signal(&tail, name);
        assert_eq!(ended(tail), (Some(0), String::new()), "{args:?}");
    }
    signal(&append, "INT");
    assert_eq!(ended(append), (Some(0), String::new()));
    assert_eq!(peer.says(&["get", id.trim()], ""), "one\n");
}

#[test]
fn ctrl_c_cuts_a_get_that_waits_short() {
    let peer = Peer::start();
    let id = peer.says(&["append", "jobs"], "one\n");
    let next = id.trim().replace("/1", "/2");
    let mut get = start(&peer, &["get", id.trim(), &next, "--wait", "1m"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(get.try_wait().unwrap().is_none(), "it waits");
    signal(&get, "INT");
    let (code, told) = ended(get);
    assert!(code == Some(130) && told.contains("interrupted"), "{code:?} {told}");
}

#[test]
fn ctrl_c_cuts_an_export_short_which_takes_its_file_away() {
    let peer = Peer::start();
    let blob = peer.dir.path().join("blob");
    std::fs::write(&blob, vec![7; 16 << 20]).unwrap();
    for _ in 0..3 {
        peer.says(&["append", "jobs", "--blob", blob.to_str().unwrap()], "");
    }
    let file = peer.dir.path().join("jobs.cvy");
    let export = start(&peer, &["export", "jobs", "--file", file.to_str().unwrap()]);
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // It has begun, and gets nothing more.
    signal(&peer.child, "STOP");
    std::thread::sleep(Duration::from_millis(100));
    signal(&export, "INT");
    let (code, told) = ended(export);
    signal(&peer.child, "CONT");
    assert!(code == Some(130) && told.contains("interrupted"), "{code:?} {told}");
    assert!(!file.exists(), "a part of an export is of no use");
}
