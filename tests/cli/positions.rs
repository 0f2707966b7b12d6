//! Positions that `read` and `tail` keep in a file.
use crate::{Peer, program, serve};
use std::process::{Command, Stdio};

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

#[test]
fn an_id_ahead_of_its_log_is_told_with_the_entry_that_is_the_next() {
    let peer = Peer::start();
    let id = peer.says(&["append", "jobs"], "one\n").trim().to_owned();
    let ahead = id.replace("/1", "/7");
    let file = peer.dir.path().join("jobs.cvy").display().to_string();
    for args in [
        &["get", &ahead][..],
        &["read", "jobs", "--from", &ahead],
        &["read", "jobs", "--from", &ahead, "-n", "1"],
        &["export", "jobs", "--from", &ahead, "--file", &file],
    ] {
        let output = peer.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{args:?}: {told}");
        assert!(told.contains("is not here yet; the next entry of its log is number 2"), "{args:?}: {told}");
    }
    assert_eq!(peer.says(&["read", "jobs", "--from", &id], ""), "one\n");
    // Who waits gets it, and none before it.
    let args = ["tail", "jobs", "--limit", "1", "--from", &ahead];
    let mut tail = program(peer.dir.path()).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let six: String = (2..=7).map(|number| format!("{number}\n")).collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(tail.try_wait().unwrap().is_none(), "it waits");
    peer.says(&["append", "jobs"], &six);
    assert_eq!(tail.wait_with_output().unwrap().stdout, b"7\n");
}

#[test]
fn a_cursor_ahead_in_a_run_that_is_known_is_told_with_both_numbers() {
    let mut peer = Peer::start();
    let path = |name: &str| peer.dir.path().join(name).to_str().unwrap().to_owned();
    let (part, cursor) = (path("part.cvy"), path("worker"));
    let credentials = path("data/identity");
    let (kept, backup) = (path("kept"), path("backup"));
    let copy = |from: &str, to: &str| {
        assert!(Command::new("cp").args(["-r", from, to]).status().unwrap().success());
    };
    // What is restored knows nothing of the run but what the file brings: two of its three entries.
    copy(&credentials, &kept);
    peer.says(&["append", "jobs"], "one\ntwo\n");
    peer.says(&["export", "jobs", "--file", &part], "");
    peer.says(&["append", "jobs"], "three\n");
    let read = ["read", "jobs", "--cursor-file", &cursor];
    assert_eq!(peer.says(&read, ""), "one\ntwo\nthree\n");
    drop(peer.child.kill());
    drop(peer.child.wait());
    std::fs::rename(path("data"), &backup).unwrap();
    std::fs::create_dir(path("data")).unwrap();
    copy(&kept, &credentials);
    peer.child = serve(peer.dir.path(), "127.0.0.1:0");
    peer.says(&["import", &part], "");
    let output = peer.run(&read);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(9), 0), "{told}");
    assert!(
        told.contains("next is entry 4 of ") && told.contains("and 3 is the next that gets here"),
        "{told}"
    );
    assert_eq!(peer.says(&["read", "jobs"], ""), "one\ntwo\n");
}

#[test]
fn more_ids_than_one_request_has_room_for_are_got() {
    let peer = Peer::start();
    let lines: String = (0..1100).map(|number| format!("{number}\n")).collect();
    let ids = peer.says(&["append", "jobs"], &lines);
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(peer.says(&[&["get"], &ids[..]].concat(), ""), lines);
    let missing = ids[0].replace("/1", "/2000");
    let output = peer.run(&[&["get", &missing], &ids[..]].concat());
    assert_eq!(output.status.code(), Some(3), "that of the first, whichever request it was in");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines);
}
