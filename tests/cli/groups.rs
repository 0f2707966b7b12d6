//! `conveyor group` and `conveyor work`, as scripts use them.
use crate::Peer;
use std::process::Output;

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn leases_are_words_that_another_command_takes() {
    let peer = Peer::start();
    peer.run_with(&["append", "jobs"], "a\nb\n");
    assert_eq!(code(&peer.run(&["group", "next", "jobs", "mailers"])), 3, "there is no such group");
    assert_eq!(code(&peer.run(&["group", "create", "jobs", "../mailers"])), 2, "a path is no name");
    assert_eq!(code(&peer.run(&["group", "create", "jobs", "mailers", "--lease", "1h"])), 0);
    assert_eq!(code(&peer.run(&["group", "create", "jobs", "mailers"])), 4, "it is there already");
    let taken = out(&peer.run(&["group", "next", "jobs", "mailers"]));
    let (lease, payload) = taken.trim_end().split_once('\t').unwrap();
    assert_eq!(payload, "a");
    assert_eq!(code(&peer.run(&["group", "nack", "jobs", "mailers", lease])), 0);
    assert_eq!(code(&peer.run(&["group", "nack", "jobs", "mailers", lease])), 3, "the lease has ended");
    let (id, _) = lease.split_once('@').unwrap();
    assert_eq!(code(&peer.run(&["group", "nack", "jobs", "mailers", id])), 2, "that is no lease");
    let acked = peer.run(&["group", "ack", "jobs", "mailers", id, "-o", "json"]);
    assert_eq!(out(&acked).trim(), r#"{"acked":1,"known":0}"#);
    let rest = peer.run(&["group", "next", "jobs", "mailers", "--count", "9", "--ack", "--raw"]);
    assert_eq!(out(&rest), "b");
    assert_eq!(code(&peer.run(&["group", "next", "jobs", "mailers"])), 7, "there is none now");
    let info = out(&peer.run(&["group", "info", "jobs", "mailers", "-o", "json"]));
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["acked"], &info["leased"], &info["lease_ms"]),
        (&2.into(), &0.into(), &3_600_000.into())
    );
    assert!(out(&peer.run(&["group", "list", "jobs"])).starts_with("mailers\t"));
    assert_eq!(code(&peer.run(&["group", "set", "jobs", "mailers"])), 2, "nothing to set is named");
    peer.run(&["group", "rewind", "jobs", "mailers", "--to", "start"]);
    assert_eq!(code(&peer.run(&["group", "set", "jobs", "mailers", "--pause"])), 0);
    assert_eq!(code(&peer.run(&["group", "next", "jobs", "mailers"])), 7, "it is paused");
    peer.run(&["group", "set", "jobs", "mailers", "--resume"]);
    let again = out(&peer.run(&["group", "next", "jobs", "mailers", "--count", "9"]));
    assert_eq!(again.lines().count(), 2, "both come again: {again}");
    assert_eq!(code(&peer.run(&["group", "delete", "jobs", "mailers"])), 0);
    assert_eq!(code(&peer.run(&["group", "info", "jobs", "mailers"])), 3);
}

#[test]
fn work_runs_a_command_for_each_entry_and_tries_again_what_failed() {
    let peer = Peer::start();
    let entry = r#"{"payload":"with a key","key":"k","tags":["x","y"]}"#;
    peer.run_with(&["append", "jobs", "--ndjson"], entry);
    peer.run_with(&["append", "jobs"], "plain\n");
    let script = r#"payload=$(cat); echo "$payload|$CONVEYOR_ENTRY_KEY|$CONVEYOR_ENTRY_ATTEMPT|$CONVEYOR_ENTRY_GROUP"
        test "$payload" != plain || test "$CONVEYOR_ENTRY_ATTEMPT" -gt 1"#;
    let args = ["work", "jobs", "mailers", "--jobs", "2", "--until-idle", "3s", "--", "sh", "-c", script];
    let worked = peer.run(&args);
    assert_eq!(code(&worked), 0, "{worked:?}");
    let mut lines: Vec<String> = out(&worked).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["plain||1|mailers", "plain||2|mailers", "with a key|k|1|mailers"]);
    let told = String::from_utf8(worked.stderr.clone()).unwrap();
    assert!(told.contains("2 done, 1 given back"), "{told}");
    let none = peer.run(&["work", "jobs", "mailers", "--until-idle", "100ms", "-o", "json", "--", "true"]);
    assert_eq!(out(&none).trim(), r#"{"acked":0,"given_back":0}"#);
}

#[test]
fn a_command_of_work_may_be_this_program_again() {
    let peer = Peer::start();
    peer.run_with(&["append", "jobs", "--ndjson"], r#"{"payload":"one","key":"k"}"#);
    let program = env!("CARGO_BIN_EXE_conveyor");
    let worked = peer.run(&["work", "jobs", "copiers", "--limit", "1", "--", program, "append", "copies"]);
    assert_eq!(code(&worked), 0, "{worked:?}");
    assert_eq!(out(&peer.run(&["read", "copies"])), "one\n");
}
