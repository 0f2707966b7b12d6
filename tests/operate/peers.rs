//! Peers as processes of the real program, on ports of this machine, and commands asked of them.
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for what must come about, far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// The peers of one cluster; `alpha` is the first, and has the authority.
pub struct Peers {
    dir: tempfile::TempDir,
    addresses: BTreeMap<String, SocketAddr>,
    running: BTreeMap<String, Child>,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("CONVEYOR_"));
    for (name, _) in variables {
        command.env_remove(name);
    }
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a command that must succeed printed.
pub fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command told on standard error.
pub fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Each line of what was printed, as JSON.
pub fn lines(printed: &str) -> Vec<serde_json::Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Peers {
    /// Certificates for peers with these names; the first is the one whose client asks.
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut peers = Self { dir, addresses: BTreeMap::new(), running: BTreeMap::new() };
        let first = peers.data_dir(names[0]);
        good(&program().args(["init", "--name", names[0], "--data-dir", text(&first)]).output().unwrap());
        for name in &names[1..] {
            let out = peers.data_dir(name).join("identity");
            let args = ["cert", "peer", name, "--data-dir", text(&first), "--out", text(&out)];
            good(&program().args(args).output().unwrap());
        }
        for name in names {
            let free = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap();
            peers.addresses.insert((*name).to_owned(), free);
        }
        peers
    }

    /// All of them running, each in session with all others.
    pub fn started(names: &[&str]) -> Self {
        let mut peers = Self::new(names);
        names.iter().for_each(|name| peers.start(name, &[]));
        names.iter().for_each(|name| peers.until_connected(name, names.len() - 1));
        peers
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    pub fn address(&self, name: &str) -> String {
        self.addresses[name].to_string()
    }

    /// What the peer logged, over all its starts.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Starts a peer, which is told of all others.
    pub fn start(&mut self, name: &str, more: &[&str]) {
        let join: Vec<String> = self.addresses.values().map(ToString::to_string).collect();
        let log = self.path(&format!("{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let note = self.data_dir(name).join("run.json");
        drop(std::fs::remove_file(&note));
        let mut serve = program();
        serve.args(["serve", "--http", "none", "--data-dir", text(&self.data_dir(name))]);
        serve.args(["--listen", &self.address(name), "--join", &join.join(",")]);
        serve.args(["--set", "disk.reserve_bytes=1MiB", "--set", "topics.replicas_timeout_ms=3s"]).args(more);
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running.insert(name.to_owned(), child);
        wait_until("it serves", || note.exists());
    }

    /// Ends a peer without a word.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, name: &str, signal: &str) {
        let id = self.running[name].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits until a peer ended by itself; its exit code.
    pub fn ended(&mut self, name: &str) -> Option<i32> {
        self.running.remove(name).unwrap().wait().unwrap().code()
    }

    /// Whether a peer's process is there still.
    pub fn is_up(&mut self, name: &str) -> bool {
        self.running.get_mut(name).is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A command for a peer, with the rights of the one who made the cluster.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = program();
        let first = self.dir.path().join("alpha/identity");
        command.args(args).args(["--connect", &self.address(name)]);
        command.args(["--cert", text(&first.join("client.crt")), "--key", text(&first.join("client.key"))]);
        command.args(["--ca", text(&first.join("ca.crt"))]);
        command
    }

    pub fn run_with(&self, name: &str, args: &[&str], input: &str) -> Output {
        let mut command = self.command(name, args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // A command that wants no input closes its end.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub fn run(&self, name: &str, args: &[&str]) -> Output {
        self.run_with(name, args, "")
    }

    /// What a command prints that must succeed.
    pub fn says(&self, name: &str, args: &[&str]) -> String {
        good(&self.run(name, args))
    }

    /// Appends lines; their ids.
    pub fn append(&self, name: &str, args: &[&str], input: &str) -> Vec<String> {
        let printed = good(&self.run_with(name, &[&["append"], args].concat(), input));
        printed.lines().map(str::to_owned).collect()
    }

    /// Waits until a peer is in session with so many others.
    pub fn until_connected(&self, name: &str, count: usize) {
        let others =
            |printed: &str| lines(printed).iter().filter(|member| member["state"] == "connected").count();
        wait_until(&format!("{name} is connected to {count}"), || {
            let output = self.run(name, &["cluster", "members", "-o", "json"]);
            output.status.success() && others(&good(&output)) == count
        });
    }

    /// Waits until a peer's entries of a topic, sorted, are these.
    pub fn until_holds(&self, name: &str, topic: &str, expected: &[&str]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let mut last = Vec::new();
        let begun = Instant::now();
        while last != expected {
            assert!(begun.elapsed() < PATIENCE, "{name} holds {last:?} and not {expected:?}");
            let output = self.run(name, &["read", topic]);
            let printed = String::from_utf8(output.stdout).unwrap();
            last = printed.lines().map(str::to_owned).collect::<Vec<_>>();
            last.sort_unstable();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
