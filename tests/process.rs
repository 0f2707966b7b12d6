//! The real binary, met as a user meets it: started, loaded, killed, started again, on full disks and copied directories.
//!
//! `CRASH_ROUNDS=100 cargo test --test process killed` runs more rounds than the few of an ordinary test run.
#![allow(clippy::disallowed_methods, reason = "this test starts programs, waits for them and looks at files")]
use conveyor::base::{EntryId, TopicName};
use conveyor::client::{Client, Credentials, Item, ProducerOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::watch;

struct Peer {
    child: Child,
    dir: PathBuf,
}

impl Peer {
    fn start(dir: &Path) -> Self {
        Self::try_start(dir).unwrap_or_else(|said| panic!("the peer did not start: {said}"))
    }

    /// Starts a peer and waits until it says where it listens; what it said when it ended instead.
    fn try_start(dir: &Path) -> Result<Self, String> {
        let _ = std::fs::remove_file(dir.join("run.json"));
        // The reserve is small, since the small disks of these tests are.
        let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "none", "--log-level", "warn"];
        let mut child = conveyor(dir, &serve)
            .args(["--set", "disk.reserve_bytes=8 MiB"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while !dir.join("run.json").exists() {
            if child.try_wait().unwrap().is_some() {
                let said = child.wait_with_output().unwrap();
                return Err(String::from_utf8_lossy(&said.stderr).into_owned());
            }
            assert!(since.elapsed() < Duration::from_secs(60), "the peer neither starts nor ends");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { child, dir: dir.to_owned() })
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn address(&self) -> String {
        let run: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.dir.join("run.json")).unwrap()).unwrap();
        run["listen"].as_str().unwrap().to_owned()
    }

    async fn client(&self) -> Client {
        let credentials = Credentials::from_data_dir(&self.dir).unwrap();
        let builder = Client::builder().address(self.address()).credentials(credentials);
        builder.give_up_after(Duration::from_secs(2)).connect().await.unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn conveyor(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    command.args(args).arg("--data-dir").arg(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = conveyor(dir, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feed = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let output = child.wait_with_output().unwrap();
    // A command that ends early leaves its input unread.
    let _ = feed.join().unwrap();
    output
}

fn ok(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let output = run(dir, args, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "conveyor {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

async fn read_all(client: &Client, name: &str) -> BTreeMap<EntryId, Vec<u8>> {
    let mut reader = client.read(topic(name)).stream();
    let mut seen = BTreeMap::new();
    while let Some(item) = reader.next().await {
        match item.unwrap() {
            Item::Entry(record) => {
                let twice = seen.insert(record.id, record.entry.payload.to_vec());
                assert_eq!(twice, None, "an entry came twice: {:?}", record.id);
            }
            other => panic!("nothing was trimmed or damaged: {other:?}"),
        }
    }
    seen
}

/// Appends to `topics` topics until the peer is gone; answers what was acknowledged.
async fn load(
    client: Client,
    round: usize,
    producer: usize,
    mut killed: watch::Receiver<bool>,
) -> Vec<(EntryId, Vec<u8>)> {
    let options = ProducerOptions::default();
    let name = topic(&format!("load{}", producer % 3));
    let Ok(sender) = client.producer(name, options).await else { return vec![] };
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let payload =
            format!("round {round} producer {producer} number {number} {}", "x".repeat(number % 700));
        let append = async { sender.send(payload.clone()).await?.await };
        tokio::select! { biased;
            done = append => match done {
                Ok(done) => acknowledged.push((done.id, payload.into_bytes())),
                Err(_) => break,
            },
            _ = killed.changed() => break,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_killed_in_the_middle_of_a_load_has_lost_nothing_that_was_acknowledged() {
    let rounds: usize =
        std::env::var("CRASH_ROUNDS").map_or(4, |rounds| rounds.parse().expect("a number of rounds"));
    let dir = scratch();
    let mut acknowledged: BTreeMap<EntryId, Vec<u8>> = BTreeMap::new();
    let mut peer = Peer::start(dir.path());
    for round in 0..rounds {
        let client = peer.client().await;
        let (kill, killed) = watch::channel(false);
        let start = |producer| tokio::spawn(load(client.clone(), round, producer, killed.clone()));
        let loads: Vec<_> = (0..6).map(start).collect();
        tokio::time::sleep(Duration::from_millis(150 + (round as u64 * 37) % 200)).await;
        peer.kill();
        kill.send_replace(true);
        for load in loads {
            for (id, payload) in load.await.unwrap() {
                assert_eq!(acknowledged.insert(id, payload), None, "an id was given twice");
            }
        }
        peer = Peer::start(dir.path());
    }
    assert!(acknowledged.len() > rounds * 10, "only {} entries were acknowledged", acknowledged.len());
    let client = peer.client().await;
    let mut found = BTreeMap::new();
    for name in ["load0", "load1", "load2"] {
        found.extend(read_all(&client, name).await);
    }
    for (id, payload) in &acknowledged {
        assert_eq!(found.get(id), Some(payload), "{id:?}");
    }
    println!("{rounds} rounds, {} acknowledged, {} found", acknowledged.len(), found.len());
    drop(peer);
    let report = ok(dir.path(), &["verify", "-o", "json"], b"");
    assert!(!report.contains("\"what\""), "{report}");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_and_the_first_serves_on() {
    a_second_process_is_refused_on(scratch().path());
}

fn a_second_process_is_refused_on(dir: &Path) {
    let first = Peer::start(dir);
    let second = conveyor(dir, &["serve", "--listen", "127.0.0.1:0", "--http", "none"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use"), "{said}");
    assert_eq!(ok(dir, &["append", "jobs"], b"still here\n").lines().count(), 1);
    drop(first);
}

#[test]
fn a_second_process_is_refused_on_a_file_system_in_memory_too() {
    let dir = scratch();
    let name = "a_second_process_is_refused_on_a_file_system_in_memory_too";
    if let Some(disk) = SmallDisk::mount(dir.path(), 160, name) {
        a_second_process_is_refused_on(dir.path());
        drop(disk);
    }
}

#[test]
fn a_copied_directory_goes_on_in_a_run_of_its_own_and_both_are_readable() {
    let (dir, copy) = (scratch(), scratch());
    let peer = Peer::start(dir.path());
    ok(dir.path(), &["append", "jobs"], b"a\nb\n");
    peer.kill();
    let status = Command::new("cp").arg("-r").arg(dir.path().join(".")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    let (one, two) = (Peer::start(dir.path()), Peer::start(copy.path()));
    let id_one = ok(dir.path(), &["append", "jobs"], b"c at one\n");
    let id_two = ok(copy.path(), &["append", "jobs"], b"c at two\n");
    assert!(id_one.trim().ends_with("/3") && id_two.trim().ends_with("/3"), "{id_one} {id_two}");
    assert_ne!(id_one, id_two, "one number, two runs, two names");
    assert_eq!(ok(dir.path(), &["read", "jobs", "--from", "start"], b""), "a\nb\nc at one\n");
    assert_eq!(ok(copy.path(), &["read", "jobs", "--from", "start"], b""), "a\nb\nc at two\n");
    // What the copy wrote can be taken in by the original, under its own name.
    let file = copy.path().join("jobs.export");
    ok(copy.path(), &["export", "jobs", "--file", file.to_str().unwrap()], b"");
    ok(dir.path(), &["import", file.to_str().unwrap()], b"");
    let both = ok(dir.path(), &["read", "jobs", "--from", "start"], b"");
    let mut lines: Vec<&str> = both.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a", "b", "c at one", "c at two"]);
    drop((one, two));
}

/// A small file system of its own; `None` where mounting is not allowed.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Where it is not allowed, that is said for `test` on the screen, and in a file that `.ci/run` shows at its end.
    fn mount(at: &Path, megabytes: u32, test: &str) -> Option<Self> {
        let told = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("not-run-{test}"));
        drop(std::fs::remove_file(&told));
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        let why = format!("{test}: a small file system cannot be mounted here\n");
        eprint!("not run: {why}");
        std::fs::write(told, why).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_appends_clearly_serves_reads_and_recovers_when_there_is_room() {
    let dir = scratch();
    let name = "a_full_disk_refuses_appends_clearly_serves_reads_and_recovers_when_there_is_room";
    let Some(disk) = SmallDisk::mount(dir.path(), 160, name) else { return };
    let peer = Peer::start(dir.path());
    ok(dir.path(), &["topic", "create", "keep"], b"");
    let first = ok(dir.path(), &["append", "keep"], b"before\n");
    let trimmed = ok(dir.path(), &["append", "gone"], b"not for long\n");
    let ballast = dir.path().join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={}", ballast.display()), "bs=1M"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!filled.success(), "dd fills the disk and says so");
    let since = Instant::now();
    let refused = loop {
        let output = run(dir.path(), &["append", "keep"], b"into a full disk\n");
        if !output.status.success() {
            break output;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "the full disk is not noticed");
        std::thread::sleep(Duration::from_millis(100));
    };
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("reserve"), "{said}");
    assert_eq!(refused.status.code(), Some(8), "disk full has an exit code of its own");
    assert!(ok(dir.path(), &["read", "keep", "--from", "start"], b"").starts_with("before\n"));
    assert_eq!(ok(dir.path(), &["get", first.trim()], b"").trim(), "before");
    ok(dir.path(), &["topic", "delete", "gone"], b"");
    assert_eq!(run(dir.path(), &["get", trimmed.trim()], b"").status.code(), Some(3), "trims go on");
    std::fs::remove_file(&ballast).unwrap();
    let since = Instant::now();
    while !run(dir.path(), &["append", "keep"], b"room again\n").status.success() {
        assert!(since.elapsed() < Duration::from_secs(20), "the peer does not recover");
        std::thread::sleep(Duration::from_millis(100));
    }
    peer.kill();
    let peer = Peer::start(dir.path());
    assert!(ok(dir.path(), &["read", "keep", "--from", "start"], b"").ends_with("room again\n"));
    drop(peer);
    drop(disk);
}
