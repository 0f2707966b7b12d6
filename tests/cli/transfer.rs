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
fn a_range_is_cut_out_by_ids_times_and_counts_and_batches_stay_whole() {
    let peer = Peer::start();
    let append =
        |text: &str| peer.says(&["append", "jobs"], text).lines().map(str::to_owned).collect::<Vec<_>>();
    append("one\ntwo\n");
    let middle = append("three\nfour\n");
    let last = append("five\n");
    let time = peer.says(&["get", &middle[0], "-o", "json"], "");
    let time: serde_json::Value = serde_json::from_str(time.trim()).unwrap();
    let time = time["time"].as_str().unwrap();
    let mut number = 0;
    let mut export = |flags: &[&str]| {
        number += 1;
        let file = peer.dir.path().join(format!("{number}.cvy"));
        let (file, copy) = (file.to_str().unwrap(), format!("copy-{number}"));
        peer.says(&[&["export", "jobs", "--file", file], flags].concat(), "");
        peer.says(&["import", file, "--as-new", "--topic", &copy], "");
        let info = peer.run(&["read", &copy]);
        String::from_utf8(info.stdout).unwrap().replace('\n', " ")
    };
    assert_eq!(export(&["--until", &middle[0]]), "one two ");
    assert_eq!(export(&["--until", time]), "one two ");
    assert_eq!(export(&["--until", &middle[1]]), "one two three four ", "of a batch all is written");
    assert_eq!(export(&["--from", &middle[0], "--until", &last[0]]), "three four ");
    assert_eq!(export(&["--limit", "3"]), "one two three four ");
    assert_eq!(export(&["--from", &middle[0], "-n", "2"]), "three four ");
    assert_eq!(export(&["--until", "now"]), "one two three four five ");
    let file = peer.dir.path().join("none.cvy");
    let file = file.to_str().unwrap();
    for (flags, code) in
        [(["--until", "start"], 2), (["--limit", "0"], 2), (["--until", &missing(&last[0])], 3)]
    {
        let refused = peer.run(&[&["export", "jobs", "--file", file][..], &flags].concat());
        assert_eq!(refused.status.code(), Some(code), "{}", said(&refused));
        assert!(!std::path::Path::new(file).exists(), "nothing is left of it");
    }
}

/// The same id with the number that comes next.
fn missing(id: &str) -> String {
    let (log, number) = id.rsplit_once('/').unwrap();
    format!("{log}/{}", number.parse::<u64>().unwrap() + 1)
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
