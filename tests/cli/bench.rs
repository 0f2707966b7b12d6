//! What a bench says of itself, and which flags it has a use for.
use crate::{program, signal};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

fn bench(dir: &Path, args: &[&str]) -> Output {
    program(dir).current_dir(dir).arg("bench").args(args).output().unwrap()
}

fn report(dir: &Path, args: &[&str]) -> serde_json::Value {
    let output = bench(dir, &[args, &["-o", "json", "--scratch", ".", "--seconds", "1"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_report_says_how_many_are_in_flight_and_on_which_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &["put-many", "--clients", "2", "--count", "10", "--no-limits"]);
    assert_eq!((&report["clients"], &report["in_flight"]), (&2.into(), &1.into()), "{report}");
    assert_ne!(report["machine"]["file_system"], "", "{report}");
    assert!(report.get("limits").is_none(), "{report}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the scratch directory is gone");
}

#[test]
fn a_fan_out_is_held_against_a_paced_echo_and_says_nothing_of_what_it_did_not_measure() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &["fan-out", "--clients", "2", "--connections", "1"]);
    let quic = report["limits"]["quic"].as_object().unwrap();
    assert!(quic["paced_echo_per_second"].as_f64().unwrap() > 1.0, "{report}");
    assert!(quic["paced_echo"]["p50_us"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(quic.len(), 2, "{report}");
}

/// What a report says of its parts.
fn names(report: &serde_json::Value, part: &str) -> Vec<String> {
    let parts = report[part].as_array().unwrap();
    parts.iter().map(|part| part["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_hop_between_two_peers_is_held_against_echoes_and_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &["hop", "--rate", "100"]);
    assert_eq!(names(&report, "bars").len(), 2, "{report}");
    assert!(report["phases"][0]["latency"]["count"].as_u64().unwrap() > 10, "{report}");
    assert!(report["limits"]["quic"]["paced_echo"]["p50_us"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn copies_are_held_against_local_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &["copies", "--clients", "3", "--no-limits"]);
    assert_eq!(
        names(&report, "phases"),
        ["1 client, replicas=2", "3 clients, fsync", "3 clients, replicas=2"]
    );
    assert_eq!(names(&report, "bars").len(), 1, "{report}");
    assert!(report["phases"][2]["entries_per_second"].as_f64().unwrap() > 1.0, "{report}");
}

#[test]
fn an_empty_peer_catches_up_with_one_and_another_with_two() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "catch-up", "--bytes", "4 MiB", "-o", "json", "--scratch", "."];
    let output = program(dir.path()).current_dir(dir.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(names(&report, "phases"), ["filling a peer", "from one other peer", "from two"]);
    assert!(report["limits"]["quic"]["stream_bytes_per_second"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(names(&report, "bars").len(), 2, "{report}");
}

#[test]
fn what_idle_peers_send_is_shown_by_what_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &["idle", "--no-limits"]);
    let kinds = ["gossip", "compare", "note", "push", "batch", "quic"];
    assert_eq!(names(&report, "figures"), kinds.map(|kind| format!("sent by each peer: {kind}")), "{report}");
    assert!(report["figures"][0]["value"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(names(&report, "bars").len(), 2, "{report}");
}

#[test]
fn a_flag_that_a_bench_has_no_use_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let flags: &[(&[&str], &str)] = &[
        (&["flood", "--clients", "8"], "one producer and one consumer"),
        (&["flood", "--topics", "5"], "one topic"),
        (&["put-many", "--in-flight", "9"], "each client has one entry in flight"),
        (&["put-beside-bulk", "--in-flight", "9"], "each client has one entry in flight"),
        (&["replay", "--count", "9"], "--bytes"),
        (&["replay", "--seconds", "9"], "--bytes"),
        (&["replay", "--clients", "9"], "one consumer"),
        (&["replay", "--topics", "9"], "one topic"),
        (&["fan-out", "--in-flight", "9"], "--rate"),
        (&["fan-out", "--topics", "9"], "one topic"),
        (&["get-under-flood", "--topics", "9"], "one topic"),
        (&["hop", "--clients", "9"], "one producer and one tail"),
        (&["copies", "--durability", "buffered"], "are compared"),
        (&["catch-up", "--seconds", "9"], "--bytes"),
        (&["idle", "--count", "9"], "nobody appends"),
        (&["hop", "--running"], "leave --running out"),
        (&["put-many", "--durability", "replicas=2"], "nobody else holds a copy"),
    ];
    for (args, why) in flags {
        let output = bench(dir.path(), args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(why), "{args:?}: {told}");
    }
}

#[test]
fn ctrl_c_cuts_a_bench_short_which_takes_its_scratch_directory_away() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let inside = || std::fs::read_dir(&scratch).unwrap().next();
    let more = ["--seconds", "60", "--no-limits", "--scratch", scratch.to_str().unwrap()];
    let mut bench = program(dir.path());
    bench
        .args(["bench", "put-many", "--clients", "2"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut bench = bench.spawn().unwrap();
    while !inside().is_some_and(|made| made.unwrap().path().join("peer/journal").exists()) {
        assert!(bench.try_wait().unwrap().is_none(), "it goes on for a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&bench, "INT");
    let output = bench.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(130) && told.contains("interrupted"), "{:?} {told}", output.status);
    assert!(output.stdout.is_empty() && inside().is_none(), "{:?}", inside());
}
