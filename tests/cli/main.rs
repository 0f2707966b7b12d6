//! The program as scripts use it: exit codes, JSON both ways, pipes that close, addresses that are refused.
#![allow(clippy::disallowed_methods, reason = "these tests start programs and look at files")]

mod bench;
mod damage;
mod groups;
mod interrupts;
mod mistakes;
mod positions;
mod topics;
mod transfer;
mod waiting;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A peer in a directory of its own, stopped and gone with this value.
struct Peer {
    dir: tempfile::TempDir,
    child: Child,
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    command.env("CONVEYOR_DATA_DIR", dir.join("data"));
    command
}

/// A peer's process, once it says where it listens.
fn serve(dir: &Path, listen: &str) -> Child {
    serve_with(dir, listen, &[])
}

/// The same with more flags.
fn serve_with(dir: &Path, listen: &str, more: &[&str]) -> Child {
    let note = dir.join("data/run.json");
    let _ = std::fs::remove_file(&note);
    let patience = "topics.replicas_timeout_ms=200ms";
    let args = ["serve", "--listen", listen, "--http", "none", "--log-level", "warn", "--set", patience];
    let child = program(dir).args(args).args(more).spawn().unwrap();
    while !note.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child
}

impl Peer {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = serve(dir.path(), "127.0.0.1:0");
        Self { dir, child }
    }

    /// Where it listens.
    fn address(&self) -> String {
        let run = std::fs::read(self.dir.path().join("data/run.json")).unwrap();
        let run: serde_json::Value = serde_json::from_slice(&run).unwrap();
        run["listen"].as_str().unwrap().to_owned()
    }

    /// Runs a command with `input`; its output, whatever became of it.
    fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = program(self.dir.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // Both pipes at once. A command that wants no input closes its end.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    /// What a command prints that must succeed.
    fn says(&self, args: &[&str], input: &str) -> String {
        let output = self.run_with(args, input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Sends a signal, as `kill` does.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let peer = Peer::start();
    peer.says(&["topic", "create", "jobs"], "");
    let missing = format!("jobs/{}.{}/1", "0".repeat(64), "1".repeat(16));
    let codes: &[(&[&str], i32)] = &[
        (&["read", "nothing"], 3),
        (&["get", &missing], 3),
        (&["topic", "create", "jobs"], 4),
        (&["topic", "create", "$mine"], 2),
        (&["topic", "create", "../x"], 2),
        (&["read", "jobs", "--from", "yesterday"], 2),
        (&["frobnicate"], 2),
        (&["append", "jobs", "--durability", "replicas=2"], 7),
        (&["status", "--connect", "127.0.0.1:1"], 5),
        (&["verify"], 4),
    ];
    for (args, code) in codes {
        let output = peer.run_with(args, "a line\n");
        assert_eq!(
            output.status.code(),
            Some(*code),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn an_append_that_too_few_peers_hold_says_that_it_is_in_the_log() {
    let peer = Peer::start();
    let args = ["append", "jobs", "--durability", "replicas=2", "-o", "json"];
    let output = peer.run_with(&args, "a line\n");
    let told: Vec<serde_json::Value> =
        output.stderr.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let (receipt, told) = (&told[0]["unconfirmed"], told.last().unwrap());
    assert_eq!((&receipt["seq"], receipt["held_by"].as_array().unwrap().len()), (&1.into(), 1));
    let why = told["error"].as_str().unwrap();
    assert_eq!(told["exit"], 7);
    assert!(why.contains("as entry 1 of run"), "{why}");
    assert!(why.contains("1 of 2 peers hold it in time, and 1 could, itself included"), "{why}");
    assert_eq!(peer.run(&["read", "jobs"]).stdout, b"a line\n");
    let appended = peer.run_with(&["append", "jobs", "-o", "json"], "more\n");
    let appended: serde_json::Value = serde_json::from_slice(&appended.stdout).unwrap();
    assert_eq!((&appended["seq"], &appended["holders"]), (&2.into(), &serde_json::json!([])));
}

#[test]
fn errors_are_json_when_results_are() {
    let peer = Peer::start();
    let output = peer.run(&["read", "nothing", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["exit"], 3);
    assert!(told["error"].as_str().unwrap().contains("nothing"), "{told}");
}

#[test]
fn what_is_read_as_json_can_be_appended_again() {
    let peer = Peer::start();
    let lines = concat!(
        r#"{"payload":"a","key":"k","tags":["x","y"],"headers":{"h":"v"},"priority":9}"#,
        "\n",
        r#"{"payload_base64":"/wA=","headers":[{"name":"h","value":"1"},{"name":"h","value":"2"}]}"#,
        "\n"
    );
    peer.says(&["append", "one", "--ndjson"], lines);
    let read = peer.says(&["read", "one", "-o", "json"], "");
    peer.says(&["append", "two", "--ndjson"], &read);
    let again = peer.says(&["read", "two", "-o", "json"], "");
    let entries = |text: &str| -> Vec<serde_json::Value> {
        let named = ["id", "topic", "peer", "peer_name", "run", "seq", "time", "time_ms"];
        let entry = |line: &str| {
            let mut entry: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
            named.iter().for_each(|name| drop(entry.remove(*name)));
            entry.into()
        };
        text.lines().map(entry).collect()
    };
    assert_eq!(entries(&read), entries(&again));
    assert_eq!(entries(&read)[0]["headers"]["h"], "v");
    assert_eq!(peer.says(&["read", "one", "--with-key", "k"], ""), "a\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let peer = Peer::start();
    let lines: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
    let ids = peer.says(&["append", "lines"], &lines);
    assert_eq!(ids.lines().count(), 20_000);
    let mut child = program(peer.dir.path()).args(["read", "lines"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(peer.says(&["read", "lines"], ""), lines);
    // Whoever appends wants the entries stored, whether or not anybody reads the ids.
    let file = peer.dir.path().join("lines.txt");
    std::fs::write(&file, &lines).unwrap();
    let mut append = program(peer.dir.path());
    append.args(["append", "again", "--file"]).arg(&file).stdout(Stdio::piped());
    let mut child = append.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(peer.says(&["read", "again"], ""), lines);
}

#[test]
fn a_range_moves_to_another_cluster_as_new_entries_and_within_its_own_by_name() {
    let (here, there) = (Peer::start(), Peer::start());
    let lines = "one\ntwo\nthree\n";
    here.says(&["append", "jobs"], lines);
    let file = here.dir.path().join("jobs.cvy").display().to_string();
    here.says(&["export", "jobs", "--file", &file], "");
    assert_eq!(
        here.run(&["export", "jobs", "--file", &file]).status.code(),
        Some(4),
        "it is not overwritten"
    );
    let held = here.says(&["import", &file], "");
    assert!(held.starts_with("0 entries"), "{held}");
    assert_eq!(there.run(&["import", &file]).status.code(), Some(4));
    there.says(&["import", &file, "--as-new"], "");
    assert_eq!(there.says(&["read", "jobs"], ""), lines);
}

#[test]
fn what_a_first_start_made_up_does_not_open_to_others() {
    let mut peer = Peer::start();
    signal(&peer.child, "TERM");
    assert!(peer.child.wait().unwrap().success());
    let refused = peer.run(&["serve", "--listen", "0.0.0.0:0", "--http", "none"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && told.contains("conveyor init"), "{told}");
    peer.child = serve(peer.dir.path(), "127.0.0.1:0");
    peer.says(&["append", "jobs"], "on loopback it starts as before\n");
}

#[test]
fn an_open_address_wants_certificates_made_on_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |listen: &str| {
        let args = ["serve", "--listen", listen, "--http", "none"];
        let output = program(dir.path()).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = serve("0.0.0.0:0");
    assert!(code == Some(2) && told.contains("conveyor init"), "{told}");
    assert!(!dir.path().join("data/identity").exists(), "nothing was made up for an open address");
    let init = program(dir.path()).args(["init", "--name", "alpha"]).status().unwrap();
    assert!(init.success());
    assert_eq!(program(dir.path()).arg("init").status().unwrap().code(), Some(4), "nothing is overwritten");
    let cert = dir.path().join("data/identity/peer.crt").display().to_string();
    let shown = program(dir.path()).args(["cert", "show", &cert]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("name     alpha"));
}

#[test]
fn a_client_may_do_what_its_certificate_says_and_no_more() {
    let peer = Peer::start();
    let out = peer.dir.path().join("worker");
    let (dir, file) = (out.display().to_string(), |name: &str| out.join(name).display().to_string());
    peer.says(&["cert", "client", "--rights", "read", "--prefix", "jobs/", "--out", &dir], "");
    peer.says(&["append", "jobs/mail"], "letter\n");
    peer.says(&["append", "other"], "secret\n");
    let listen = peer.address();
    let (cert, key, ca) = (file("client.crt"), file("client.key"), file("ca.crt"));
    let as_worker = ["--connect", &listen, "--cert", &cert, "--key", &key, "--ca", &ca];
    let with = |args: &[&'static str]| -> Output {
        let all: Vec<&str> = args.iter().copied().chain(as_worker).collect();
        peer.run_with(&all, "a line\n")
    };
    assert_eq!(String::from_utf8(with(&["read", "jobs/mail"]).stdout).unwrap(), "letter\n");
    assert_eq!(with(&["read", "other"]).status.code(), Some(4));
    assert_eq!(with(&["append", "jobs/mail"]).status.code(), Some(4));
}

#[test]
fn settings_are_checked_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("conveyor.toml");
    let default = program(dir.path()).args(["config", "default"]).output().unwrap();
    std::fs::write(&file, &default.stdout).unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = program(dir.path());
        command.args(["config", "check", "--config"]).arg(&file).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&[]).0, Some(0));
    let (code, told) = check(&[("CONVEYOR_LIMITS_CONNECTIONS", "many")]);
    assert!(
        code == Some(2) && told.contains("limits.connections") && told.contains("whole number"),
        "{told}"
    );
    let (code, told) = check(&[("CONVEYOR_LIMIT_CONNECTIONS", "1")]);
    assert!(code == Some(2) && told.contains("did you mean"), "{told}");
}
