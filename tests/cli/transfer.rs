//! Exports and imports, and what they say of entries that are not there or do not come back.
use crate::Peer;

fn said(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_was_removed_is_not_said_to_be_imported() {
    let peer = Peer::start();
    let file = peer.dir.path().join("jobs.cvy");
    let file = file.to_str().unwrap();
    peer.says(&["append", "jobs"], "one\ntwo\nthree\n");
    peer.says(&["export", "jobs", "--file", file], "");
    peer.says(&["topic", "delete", "jobs"], "");
    let import = peer.run(&["import", file, "-o", "json"]);
    let counts: serde_json::Value = serde_json::from_slice(&import.stdout).unwrap();
    assert_eq!(import.status.code(), Some(4), "{}", said(&import));
    assert_eq!((&counts["entries"], &counts["held_already"]), (&0.into(), &0.into()), "{counts}");
    assert!(counts["trimmed"].as_u64() > Some(0), "{counts}");
    assert!(said(&import).contains("--as-new appends their entries anew"), "{}", said(&import));
    peer.says(&["import", file, "--as-new"], "");
    assert_eq!(peer.says(&["read", "jobs"], ""), "one\ntwo\nthree\n");
}
