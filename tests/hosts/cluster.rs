//! Peers on several hosts, writers beside each, and a checker outside that knows what was acknowledged.
use crate::net::{Network, Process, program};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const TOPIC: &str = "jobs";
/// An entry as a reader is given it: its id, its run, its number there, its payload.
pub type Entry = (String, String, u64, String);

/// Longest wait for what must come about.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Peers {
    pub network: Network,
    dir: tempfile::TempDir,
    running: Vec<Option<Process>>,
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Peers {
    pub fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = (0..count).map(|_| None).collect();
        let peers = Self { network: Network::new(count), dir, running, acknowledged: Arc::default() };
        let first = peers.data_dir(1);
        let run = |arguments: &[&str]| {
            let ran = Command::new(program()).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        };
        run(&["init", "--name", "h1", "--data-dir", first.to_str().unwrap()]);
        for host in 2..=count {
            let out = peers.data_dir(host).join("identity");
            let name = format!("h{host}");
            run(&[
                "cert",
                "peer",
                &name,
                "--data-dir",
                first.to_str().unwrap(),
                "--out",
                out.to_str().unwrap(),
            ]);
        }
        peers
    }

    pub fn data_dir(&self, host: usize) -> PathBuf {
        self.dir.path().join(format!("h{host}"))
    }

    pub fn log(&self, host: usize) -> PathBuf {
        self.dir.path().join(format!("h{host}.log"))
    }

    pub fn address(host: usize) -> String {
        format!("{}:8011", Network::ip(host))
    }

    /// Starts a peer, which is told of the first two.
    pub fn start(&mut self, host: usize) {
        let mut serve = self.network.on(host, &program());
        serve.args(["serve", "--http", "none", "--listen", &Self::address(host), "--data-dir"]);
        serve.arg(self.data_dir(host));
        serve.args(["--join", &format!("{},{}", Self::address(1), Self::address(2))]);
        serve.args(["--set", "disk.reserve_bytes=1MiB"]);
        self.running[host - 1] = Some(Process::start(&mut serve, &self.log(host)));
    }

    pub fn start_all(&mut self) {
        (1..=self.running.len()).for_each(|host| self.start(host));
        (1..=self.running.len()).for_each(|host| self.until_up(host));
    }

    pub fn kill(&mut self, host: usize) {
        drop(self.running[host - 1].take());
    }

    pub fn stop(&mut self, host: usize) {
        let process = self.running[host - 1].take().unwrap();
        process.signal("-INT");
        process.wait();
    }

    pub fn signal(&self, host: usize, signal: &str) {
        self.running[host - 1].as_ref().unwrap().signal(signal);
    }

    /// A command of the program on a host, for the peer there.
    pub fn command(&self, host: usize, arguments: &[&str]) -> Command {
        let mut command = self.network.on(host, &program());
        let identity = self.data_dir(1).join("identity");
        command.args(arguments).args(["--connect", &Self::address(host)]);
        for (flag, file) in [("--cert", "client.crt"), ("--key", "client.key"), ("--ca", "ca.crt")] {
            command.arg(flag).arg(identity.join(file));
        }
        command
    }

    pub fn until_up(&self, host: usize) {
        self.until(&format!("h{host} answers"), || {
            self.command(host, &["status"]).output().unwrap().status.success()
        });
    }

    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "it never came about: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The ends of all logs, for whoever has to find out why.
    fn logs(&self) -> String {
        let end = |host: usize| {
            let log = std::fs::read_to_string(self.log(host)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            format!("--- h{host}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        (1..=self.running.len()).map(end).collect()
    }

    /// Appends lines beside a peer, one each 20 ms, until it is stopped, and takes note of each that is acknowledged.
    pub fn writer(&self, host: usize, name: &str) -> Writer {
        self.writer_with(host, name, &[])
    }

    /// The same, with more flags.
    pub fn writer_with(&self, host: usize, name: &str, flags: &[&str]) -> Writer {
        let mut append = self.command(host, &[&["append", TOPIC, "-o", "json"], flags].concat());
        let mut child =
            append.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let is_over = Arc::new(Mutex::new(false));
        let (over, name) = (is_over.clone(), name.to_owned());
        let acknowledged = self.acknowledged.clone();
        let sending = std::thread::spawn(move || {
            let mut sent = Vec::new();
            while !*over.lock().unwrap() {
                let payload = format!("{name} {:06}", sent.len());
                if writeln!(input, "{payload}").is_err() {
                    break;
                }
                sent.push(payload);
                std::thread::sleep(Duration::from_millis(20));
            }
            sent
        });
        let hearing = std::thread::spawn(move || {
            let mut ids = Vec::new();
            for line in BufReader::new(output).lines() {
                let said: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                ids.push(said["id"].as_str().unwrap().to_owned());
            }
            ids
        });
        Writer { child, is_over, sending, hearing, acknowledged }
    }

    /// Appends one entry at a peer; whether it was acknowledged.
    pub fn append_blob(&self, host: usize, bytes: &[u8]) -> bool {
        let file = self.dir.path().join("blob");
        std::fs::write(&file, bytes).unwrap();
        let topic = "blobs";
        let ran = self.command(host, &["append", topic, "--blob", file.to_str().unwrap()]).output().unwrap();
        ran.status.success()
    }

    /// How many entries of a topic a peer holds.
    pub fn entries(&self, host: usize, topic: &str) -> u64 {
        let ran = self.command(host, &["topic", "info", topic, "-o", "json"]).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap_or_default();
        said["entries"].as_u64().unwrap_or(0)
    }

    /// A file of so much text: this project's own sources, again and again, each line with its number.
    pub fn text(&self, bytes: usize) -> PathBuf {
        let sources = [include_str!("main.rs"), include_str!("net.rs"), include_str!("cluster.rs")].concat();
        let mut text = String::with_capacity(bytes + 200);
        for (number, line) in sources.lines().cycle().enumerate() {
            text.push_str(&format!("{number} {line}\n"));
            if text.len() >= bytes {
                break;
            }
        }
        let file = self.dir.path().join("text");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Appends each line of a file at a peer.
    pub fn append_file(&self, host: usize, file: &Path) -> std::process::Child {
        let mut append = self.command(host, &["append", "text", "--quiet", "--file", file.to_str().unwrap()]);
        append.stdout(Stdio::null()).spawn().unwrap()
    }

    /// What a peer exports of a topic.
    pub fn export(&self, host: usize, topic: &str) -> Vec<u8> {
        let file = self.dir.path().join(format!("export{host}"));
        let ran = self.command(host, &["export", topic, "--file", file.to_str().unwrap()]).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::read(file).unwrap()
    }

    /// All payloads of a topic at a peer, one on each line.
    pub fn read_lines(&self, host: usize, topic: &str) -> String {
        String::from_utf8(self.command(host, &["read", topic]).output().unwrap().stdout).unwrap()
    }

    /// Whether a peer says that its disk is full.
    pub fn is_full(&self, host: usize) -> bool {
        let ran = self.command(host, &["status", "-o", "json"]).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap_or_default();
        said["appends"].as_str().is_some_and(|appends| appends.contains("full"))
    }

    /// All entries that a peer gives a reader, by id, with what each run's numbers are.
    pub fn read(&self, host: usize) -> Option<Vec<Entry>> {
        let ran = self.command(host, &["read", TOPIC, "-o", "json"]).output().unwrap();
        if !ran.status.success() {
            return None;
        }
        let text = String::from_utf8(ran.stdout).unwrap();
        Some(text.lines().filter_map(entry).collect())
    }

    /// What was acknowledged so far to writers that were finished: payloads by their ids.
    pub fn acknowledged(&self) -> BTreeMap<String, String> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Takes a disk away at once, but for the identity, with the process that runs on it.
    pub fn wipe(&mut self, host: usize) {
        self.kill(host);
        for file in std::fs::read_dir(self.data_dir(host)).unwrap() {
            let path = file.unwrap().path();
            match path.file_name().is_some_and(|name| name == "identity") {
                true => {}
                false if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
    }

    /// Waits until a peer lacks nothing that others say they hold.
    pub fn until_even(&self, host: usize) {
        self.until(&format!("h{host} has caught up"), || {
            let ran = self.command(host, &["sync", "status", "-o", "json"]).output().unwrap();
            let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap_or_default();
            let others = said["peers"].as_array().map_or(0, Vec::len);
            others + 1 == self.running.len() && said["missing_entries"] == 0
        });
    }

    /// Waits until all running peers give the same entries, and compares those with what was acknowledged.
    pub fn check(&self) {
        let hosts: Vec<usize> =
            (1..=self.running.len()).filter(|host| self.running[host - 1].is_some()).collect();
        let acknowledged = self.acknowledged();
        let mut all = Vec::new();
        self.until("all peers hold the same, and what was acknowledged", || {
            all = hosts.iter().filter_map(|host| self.read(*host)).collect();
            let sets: Vec<BTreeSet<&String>> =
                all.iter().map(|entries| entries.iter().map(|(id, ..)| id).collect()).collect();
            let has_all = |set: &BTreeSet<&String>| acknowledged.keys().all(|id| set.contains(id));
            all.len() == hosts.len()
                && sets.windows(2).all(|two| two[0] == two[1])
                && sets.iter().all(has_all)
        });
        for (host, entries) in hosts.iter().zip(&all) {
            let (mut ids, mut runs, mut payloads) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
            for (id, run, seq, payload) in entries {
                assert!(ids.insert(id), "h{host} gives {id} twice");
                // A client whose peer dies before it answers goes on at another: then each of the two has the entry, and one
                // of them was acknowledged.
                let peer = run.split_once('.').map(|(peer, _)| peer);
                let peers: &mut Vec<_> = payloads.entry(payload).or_default();
                assert!(!peers.contains(&peer), "h{host} gives what was appended once twice: {payload}");
                peers.push(peer);
                let last = runs.insert(run, *seq).unwrap_or(0);
                assert!(last < *seq, "h{host} gives {id} behind number {last} of its run");
                if let Some(said) = acknowledged.get(id) {
                    assert_eq!(said, payload, "h{host} gives {id} another content");
                }
            }
        }
        println!("{} entries, {} acknowledged, the same at {hosts:?}", all[0].len(), acknowledged.len());
    }
}

/// An entry on a line of JSON; none where the line tells of something else.
pub fn entry(line: &str) -> Option<Entry> {
    let said: serde_json::Value = serde_json::from_str(line).unwrap();
    let field = |name: &str| said[name].as_str().map(str::to_owned);
    let run = format!("{}.{}", field("peer")?, field("run")?);
    Some((field("id")?, run, said["seq"].as_u64()?, field("payload")?))
}

/// See [`Peers::writer`].
pub struct Writer {
    child: std::process::Child,
    is_over: Arc<Mutex<bool>>,
    sending: JoinHandle<Vec<String>>,
    hearing: JoinHandle<Vec<String>>,
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Writer {
    /// Stops it; how many were acknowledged. Ids come in the order in which lines were sent.
    pub fn finish(mut self) -> usize {
        *self.is_over.lock().unwrap() = true;
        let sent = self.sending.join().unwrap();
        let ids = self.hearing.join().unwrap();
        drop(self.child.wait());
        let count = ids.len();
        assert!(count <= sent.len());
        self.acknowledged.lock().unwrap().extend(ids.into_iter().zip(sent));
        count
    }
}
