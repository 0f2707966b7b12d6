//! Exports and imports, and what they say of entries that are not there or do not come back.
use crate::Peer;
use crate::damage::damage;

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

#[test]
fn an_export_that_lacks_what_is_damaged_ends_as_damaged_until_that_is_declared_lost() {
    let mut peer = Peer::start();
    for payload in ["payload 1 of jobs", "payload 2 of jobs", "payload 3 of jobs"] {
        peer.says(&["append", "jobs"], payload);
    }
    damage(&mut peer, &["payload 2 of jobs".to_owned()]);
    let export = |name: &str| {
        let file = peer.dir.path().join(name);
        let output = peer.run(&["export", "jobs", "-o", "json", "--file", file.to_str().unwrap()]);
        let counts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(counts["entries"], 2, "{counts}");
        assert!(file.exists(), "what could be read is kept");
        (output.status.code(), counts["damaged"].as_u64(), counts["lost"].as_u64(), said(&output))
    };
    let (exit, damaged, lost, words) = export("damaged.cvy");
    assert_eq!((exit, damaged, lost), (Some(6), Some(1), Some(0)), "{words}");
    assert!(words.contains("1 entry is damaged or missing at this peer, and not in"), "{words}");
    peer.says(&["topic", "lost", "jobs", "--declare"], "");
    let (exit, damaged, lost, words) = export("lost.cvy");
    assert_eq!((exit, damaged, lost), (Some(0), Some(0), Some(1)), "{words}");
}

#[test]
fn what_is_read_as_json_is_appended_again_whatever_is_missing_in_it() {
    let mut peer = Peer::start();
    for payload in ["payload 1 of jobs", "payload 2 of jobs", "payload 3 of jobs"] {
        peer.says(&["append", "jobs"], payload);
    }
    damage(&mut peer, &["payload 2 of jobs".to_owned()]);
    let read = peer.says(&["read", "jobs", "-o", "json", "--skip-damaged"], "");
    assert!(read.lines().count() == 3 && read.contains("{\"gap\":"), "{read}");
    let copied = peer.run_with(&["append", "copy", "--ndjson"], &read);
    assert!(copied.status.success() && said(&copied).contains("line 2 is no entry"), "{}", said(&copied));
    assert_eq!(peer.says(&["read", "copy"], ""), "payload 1 of jobs\npayload 3 of jobs\n");
    let own = peer.run_with(&["append", "copy", "--ndjson"], r#"{"payload":"{}","kind":"TopicSet"}"#);
    assert!(own.status.code() == Some(1) && said(&own).contains("kind \"TopicSet\""), "{}", said(&own));
}
