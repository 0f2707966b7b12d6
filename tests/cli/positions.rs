//! Positions that `read` and `tail` keep in a file.
use crate::{Peer, serve};
use std::process::Command;

#[test]
fn a_cursor_file_leaves_its_neighbours_alone() {
    let peer = Peer::start();
    let path = |name: &str| peer.dir.path().join(name);
    peer.says(&["append", "jobs"], "one\n");
    std::fs::write(path("worker.new"), "mine").unwrap();
    let read = |name: &str| peer.says(&["read", "jobs", "--cursor-file", path(name).to_str().unwrap()], "");
    assert_eq!(read("worker.1"), "one\n");
    assert_eq!(read("worker"), "one\n");
    peer.says(&["append", "jobs"], "two\n");
    assert_eq!((read("worker.1").as_str(), read("worker.2").as_str()), ("two\n", "one\ntwo\n"));
    assert_eq!(std::fs::read_to_string(path("worker.new")).unwrap(), "mine");
    let entries = std::fs::read_dir(peer.dir.path()).unwrap();
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let ours: Vec<&String> = names.iter().filter(|name| name.contains("worker")).collect();
    assert_eq!(ours.len(), 4, "nothing else stays there: {names:?}");
}

#[test]
fn a_position_ahead_of_a_restored_peer_ends_a_read_with_a_code_of_its_own_and_says_what_to_do() {
    let mut peer = Peer::start();
    let again = |peer: &mut Peer, restored: Option<&str>| {
        drop(peer.child.kill());
        drop(peer.child.wait());
        let path = |name: &str| peer.dir.path().join(name);
        if let Some(backup) = restored {
            std::fs::remove_dir_all(path("data")).unwrap();
            std::fs::rename(path(backup), path("data")).unwrap();
        } else {
            let copied = Command::new("cp").arg("-r").arg(path("data")).arg(path("backup")).status().unwrap();
            assert!(copied.success());
        }
        peer.child = serve(peer.dir.path(), "127.0.0.1:0");
    };
    peer.says(&["append", "jobs"], "one\n");
    again(&mut peer, None);
    peer.says(&["append", "jobs"], "two\n");
    let cursor = peer.dir.path().join("worker").to_str().unwrap().to_owned();
    let read = ["read", "jobs", "--cursor-file", &cursor];
    assert_eq!(peer.says(&read, ""), "one\ntwo\n");
    again(&mut peer, Some("backup"));
    peer.says(&["append", "jobs"], "three\n");
    for _ in 0..2 {
        let output = peer.run(&read);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(9), 0), "{said}");
        assert!(said.contains("ahead of this peer (a restored backup?): next is entry 3 of "), "{said}");
        assert!(said.contains("--from"), "{said}");
    }
    let output = peer.run(&[&read[..], &["-o", "json"]].concat());
    let (line, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(line.starts_with("{\"blocked\":") && line.contains("\"next_seq\":3"), "{line}");
    assert!(error.contains("\"exit\":9"), "{error}");
    assert_eq!(peer.says(&["read", "jobs", "--from", "start"], ""), "one\nthree\n");
}
