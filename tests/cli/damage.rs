//! Damage on the disk of a peer, and what people can do about it.
use crate::{Peer, serve};
use std::path::{Path, PathBuf};

/// The files below `dir` whose names end in `ending`.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path, ending) } else { vec![path] };
    paths.flat_map(below).filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

fn stop(peer: &mut Peer) {
    let stop = std::process::Command::new("kill").arg(peer.child.id().to_string()).status();
    assert!(stop.unwrap().success() && peer.child.wait().unwrap().success());
}

fn place_of(bytes: &[u8], payload: &str) -> Option<usize> {
    bytes.windows(payload.len()).position(|window| window == payload.as_bytes())
}

/// Changes a byte of each payload in the peer's segments, and starts it again so that it reads what lies there.
pub fn damage(peer: &mut Peer, payloads: &[String]) {
    let (address, data) = (peer.address(), peer.dir.path().join("data"));
    stop(peer);
    // A start brings what the journal has into segments, and then notes that it did.
    peer.child = serve(peer.dir.path(), &address);
    let is_stored = |payload: &String| {
        let stored = files(&data, ".segment");
        stored.iter().any(|path| place_of(&std::fs::read(path).unwrap(), payload).is_some())
    };
    // Before it serves, a signal to stop ends it as any other would.
    while !payloads.iter().all(is_stored) || !peer.run(&["status"]).status.success() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    stop(peer);
    for path in files(&data, ".segment") {
        let mut bytes = std::fs::read(&path).unwrap();
        for payload in payloads {
            if let Some(at) = place_of(&bytes, payload) {
                bytes[at] ^= 1;
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    peer.child = serve(peer.dir.path(), &address);
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn all_that_is_damaged_is_declared_lost_however_much_it_is() {
    let mut peer = Peer::start();
    let payload = |n: u32| format!("payload {n:03} of jobs");
    for n in 0..41 {
        peer.says(&["append", "jobs"], &payload(n));
    }
    let nothing = peer.run(&["topic", "lost", "jobs"]);
    assert!(nothing.status.success() && said(&nothing).contains("nothing of topic \"jobs\" is damaged"));
    damage(&mut peer, &(0..20).map(|n| payload(2 * n + 1)).collect::<Vec<_>>());
    // Whoever reads finds the damage, and is told of it where it lies.
    let read = peer.run(&["read", "jobs", "-o", "json"]);
    let lines = String::from_utf8(read.stdout.clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((read.status.code(), lines.len()), (Some(6), 2), "{lines:?}");
    assert_eq!((lines[0]["seq"].as_u64(), lines[1]["blocked"]["first_seq"].as_u64()), (Some(1), Some(2)));
    peer.says(&["read", "jobs", "--skip-damaged"], "");
    let listed = peer.says(&["topic", "lost", "jobs"], "");
    assert_eq!(listed.lines().filter(|line| line.starts_with("damaged\tjobs/")).count(), 20, "{listed}");
    let info = peer.says(&["topic", "info", "jobs"], "");
    assert!(info.contains("damaged     and 4 more"), "{info}");

    let id = listed.lines().nth(2).and_then(|line| line.split('\t').nth(1)).unwrap();
    let one = peer.run(&["topic", "lost", "jobs", "--declare", "--id", id]);
    assert!(one.status.success() && said(&one).contains("1 range declared lost"), "{}", said(&one));
    let again = peer.run(&["topic", "lost", "jobs", "--declare", "--id", id]);
    assert!(again.status.code() == Some(3) && said(&again).contains("not among what is damaged"));
    assert_eq!(peer.run(&["topic", "lost", "jobs", "--id", id]).status.code(), Some(2));

    let all = peer.run(&["topic", "lost", "jobs", "--declare"]);
    assert!(all.status.success() && said(&all).contains("19 ranges declared lost"), "{}", said(&all));
    assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), 19);
    assert_eq!(peer.says(&["read", "jobs"], "").lines().count(), 21);
    let none = peer.run(&["topic", "lost", "jobs", "--declare"]);
    assert!(none.status.success() && said(&none).contains("nothing was declared"), "{}", said(&none));
}

#[test]
fn a_tail_that_was_told_what_it_waits_for_is_not_told_that_nothing_is_there() {
    let mut peer = Peer::start();
    peer.says(&["append", "jobs"], "payload of jobs");
    damage(&mut peer, &["payload of jobs".to_owned()]);
    let mut command = crate::program(peer.dir.path());
    let mut tail = command
        .args(["tail", "jobs", "--from", "start"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = std::io::BufReader::new(tail.stderr.take().unwrap());
    let mut said = || {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut errors, &mut line).unwrap() > 0, "the end came instead");
        line
    };
    let blocked = said();
    assert!(blocked.contains("blocked: entry 1"), "{blocked}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    stop(&mut peer);
    let waits = said();
    assert!(waits.contains("no peer answers"), "{waits}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn damage_in_the_list_of_topics_can_be_given_up_too() {
    let mut peer = Peer::start();
    for name in ["first-topic", "second-topic", "third-topic"] {
        peer.says(&["topic", "create", name, "--keep-age", "7d"], "");
    }
    damage(&mut peer, &["second-topic".to_owned()]);
    assert_eq!(peer.run(&["read", "$catalog", "-o", "json"]).status.code(), Some(6));
    let all = peer.run(&["topic", "lost", "$catalog", "--declare"]);
    assert!(all.status.success() && said(&all).contains("1 range declared lost"), "{}", said(&all));
    assert!(peer.run(&["read", "$catalog", "-o", "json"]).status.success());
}

#[test]
fn what_was_declared_lost_is_no_finding_of_verify_any_more() {
    let mut peer = Peer::start();
    let payloads: Vec<String> = (0..6).map(|n| format!("payload {n} of jobs")).collect();
    for payload in &payloads {
        peer.says(&["append", "jobs"], payload);
    }
    let address = peer.address();
    damage(&mut peer, &payloads[1..3]);
    let verify = |peer: &mut Peer| {
        stop(peer);
        let output = peer.run(&["verify"]);
        peer.child = serve(peer.dir.path(), &address);
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), said(&output))
    };
    let (exit, found, _) = verify(&mut peer);
    assert!(exit == Some(6) && found.contains("DAMAGED"), "{found}");
    // Damage is known once somebody read it.
    peer.says(&["read", "jobs", "--skip-damaged"], "");
    let lost = peer.says(&["topic", "lost", "jobs", "--declare"], "");
    assert_eq!(lost.lines().count(), 1, "{lost}");
    let (exit, found, notes) = verify(&mut peer);
    assert_eq!(exit, Some(0), "{found}");
    assert!(notes.contains("declared lost"), "{notes}");
    // What is damaged beside it is a finding as before.
    damage(&mut peer, &payloads[4..5]);
    let (exit, found, _) = verify(&mut peer);
    assert!(exit == Some(6) && found.contains("DAMAGED"), "{found}");
}

#[test]
fn a_directory_of_another_version_is_neither_opened_nor_changed() {
    let mut peer = Peer::start();
    peer.says(&["append", "jobs"], "one\ntwo\n");
    drop(peer.child.kill());
    drop(peer.child.wait());
    let data = peer.dir.path().join("data");
    let path = data.join("checkpoint");
    let good = std::fs::read(&path).unwrap();
    // As a later version may write it: a form of its own behind the version, and the checksum at the end.
    let mut other = [b"CVYC\x09\0\0\0".as_slice(), b"nobody knows what this is"].concat();
    other.extend(crc32c::crc32c(&other).to_le_bytes());
    std::fs::write(&path, &other).unwrap();
    let journal = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(data.join("journal")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = journal();
    let serve_args = ["serve", "--listen", "127.0.0.1:0", "--http", "none"];
    for args in [&serve_args[..], &["verify"], &serve_args[..]] {
        let output = peer.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{args:?}: {told}");
        assert!(told.contains("of version 9") && told.contains("knows version 4"), "{args:?}: {told}");
        assert!(told.contains("start the program that wrote it"), "{args:?}: {told}");
    }
    assert!(std::fs::read(&path).unwrap() == other && journal() == before, "nothing was changed");
    // A version that rotted is damage: what is there is found in the segments and the journal.
    let mut rotten = good.clone();
    rotten[4] ^= 8;
    std::fs::write(&path, &rotten).unwrap();
    peer.child = crate::serve(peer.dir.path(), "127.0.0.1:0");
    assert_eq!(peer.says(&["read", "jobs"], ""), "one\ntwo\n");
}
