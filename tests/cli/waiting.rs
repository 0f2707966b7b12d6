//! What is said while something is waited for, and how ranges and times are told.
use crate::{Peer, program, serve};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

/// The next line, which must come.
fn said(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(from.read_line(&mut line).unwrap() > 0, "the end came instead");
    line
}

fn start(peer: &Peer, args: &[&str]) -> Child {
    let mut command = program(peer.dir.path());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_tail_says_what_it_waits_for_and_goes_on() {
    let mut peer = Peer::start();
    let mut tail = start(&peer, &["tail", "-f", "jobs"]);
    let mut errors = BufReader::new(tail.stderr.take().unwrap());
    let missing = said(&mut errors);
    assert!(missing.contains("\"jobs\" does not exist yet"), "{missing}");
    // It says so before it reads: what is appended until it does is not what comes from now on.
    let mut lines = BufReader::new(tail.stdout.take().unwrap());
    let first = std::thread::spawn(move || (said(&mut lines), lines));
    while !first.is_finished() {
        peer.says(&["append", "jobs"], "here\n");
    }
    let (line, mut lines) = first.join().unwrap();
    assert_eq!(line, "here\n");
    let mut append = start(&peer, &["append", "slow"]);
    let mut ids = BufReader::new(append.stdout.take().unwrap());
    append.stdin.as_mut().unwrap().write_all(b"before\n").unwrap();
    assert!(said(&mut ids).starts_with("slow/"));

    let address = peer.address();
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    append.stdin.take().unwrap().write_all(b"after\n").unwrap();
    let mut append_errors = BufReader::new(append.stderr.take().unwrap());
    let waits = said(&mut append_errors);
    assert!(waits.contains("no peer answers") && waits.contains("trying again"), "{waits}");
    let waits = said(&mut errors);
    assert!(waits.contains("no peer answers") && waits.contains(&address), "{waits}");
    peer.child = serve(peer.dir.path(), &address);
    assert!(said(&mut errors).contains("answers again"));
    assert!(append.wait().unwrap().success());
    assert!(said(&mut ids).starts_with("slow/"));
    peer.says(&["append", "jobs"], "again\n");
    while said(&mut lines) != "again\n" {}
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(peer.says(&["read", "slow"], ""), "before\nafter\n");
}

#[test]
fn ranges_are_told_to_people_with_their_last_entry_and_to_programs_with_the_next() {
    let peer = Peer::start();
    let info = |args: &[&str]| peer.says(&[&["topic", "info", "jobs"], args].concat(), "");
    peer.says(&["append", "jobs"], "a\n");
    let text = info(&[]);
    assert!(text.contains("held        1 entry, ") && text.contains(": entry 1, "), "{text}");
    peer.says(&["append", "jobs"], "b\nc\n");
    let text = info(&[]);
    assert!(text.contains("held        3 entries, ") && text.contains(": entries 1 to 3, "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&info(&["-o", "json"])).unwrap();
    let log = &json["logs"][0];
    assert_eq!((log["first_seq"].as_u64(), log["next_seq"].as_u64()), (Some(1), Some(4)));
}

#[test]
fn a_duration_counts_back_and_a_date_is_enough() {
    let peer = Peer::start();
    peer.says(&["append", "jobs"], "a\nb\n");
    for from in ["10m", "-10m", "2020-01-31", "2020-01-31T12:00"] {
        assert_eq!(peer.says(&["read", "jobs", "--from", from], ""), "a\nb\n", "{from}");
    }
    assert_eq!(peer.says(&["read", "jobs", "--since", "1h", "-n", "1"], ""), "a\n");
}

#[test]
fn a_tail_that_finds_nothing_of_what_it_asks_for_says_so() {
    let peer = Peer::start();
    peer.says(&["append", "jobs"], "a\n");
    let mut tail = start(&peer, &["tail", "jobs", "--from", "start", "-k", "mine"]);
    let told = said(&mut BufReader::new(tail.stderr.take().unwrap()));
    assert!(told.contains("waiting for new entries"), "{told}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn the_last_entries_are_found_over_restarts_and_a_tail_goes_on_behind_them() {
    let mut peer = Peer::start();
    peer.says(&["append", "jobs"], "a\nb\nc\n");
    let address = peer.address();
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    peer.child = serve(peer.dir.path(), &address);
    peer.says(&["append", "jobs"], "d\ne\n");
    for (count, last) in [("0", ""), ("1", "e\n"), ("3", "c\nd\ne\n"), ("9", "a\nb\nc\nd\ne\n")] {
        assert_eq!(peer.says(&["read", "jobs", "--last", count], ""), last, "{count}");
    }
    assert_eq!(peer.says(&["read", "jobs", "--last", "3", "-n", "1"], ""), "c\n");
    assert_eq!(peer.run(&["tail", "jobs", "-n", "3", "--from", "1h"]).status.code(), Some(2));
    let mut tail = start(&peer, &["tail", "jobs", "-n", "2"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap());
    assert_eq!([said(&mut lines), said(&mut lines)], ["d\n", "e\n"]);
    peer.says(&["append", "jobs"], "f\n");
    assert_eq!(said(&mut lines), "f\n");
    tail.kill().unwrap();
    tail.wait().unwrap();
}
