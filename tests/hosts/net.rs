//! Hosts made of network namespaces: one each, on a bridge in a namespace of its own, with delay and loss by `tc`, and cuts.
//!
//! ```text
//! namespace h1: eth0 10.77.0.1 ──veth── p1 ┐
//! namespace h2: eth0 10.77.0.2 ──veth── p2 ┤ bridge, in namespace "switch"
//! ```
//!
//! A way is cut by a wrong entry in the sender's neighbour table: what it sends gets lost without a word, as on a bad link.
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// So many packets may wait in a queue: more than bandwidth times delay.
const LIMIT: &str = "100000";

pub struct Network {
    prefix: String,
    hosts: usize,
}

/// Why there are no namespaces here; `None` where there are.
pub fn missing() -> Option<&'static str> {
    static MISSING: LazyLock<Option<String>> = LazyLock::new(look);
    MISSING.as_deref()
}

fn look() -> Option<String> {
    let name = format!("cv{}probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output();
    match made {
        Err(error) => Some(format!("`ip` cannot be run ({error}): install iproute2")),
        Ok(made) if !made.status.success() => {
            Some(format!("no namespaces: {}", String::from_utf8_lossy(&made.stderr).trim()))
        }
        Ok(_) => {
            run("ip", &["netns", "del", &name]);
            None
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {}: {told}", arguments.join(" "));
}

impl Network {
    /// So many hosts, numbered from 1.
    pub fn new(hosts: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("cv{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let network = Self { prefix, hosts };
        let switch = network.switch();
        run("ip", &["netns", "add", &switch]);
        network.on_switch("ip", &["link", "add", "br0", "type", "bridge"]);
        network.on_switch("ip", &["link", "set", "br0", "up"]);
        for host in 1..=hosts {
            let (name, port) = (network.name(host), format!("p{host}"));
            run("ip", &["netns", "add", &name]);
            run(
                "ip",
                &[
                    "-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns",
                    &switch,
                ],
            );
            run("ip", &["-n", &name, "addr", "add", &format!("{}/24", Self::ip(host)), "dev", "eth0"]);
            run("ip", &["-n", &name, "link", "set", "lo", "up"]);
            run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
            network.on_switch("ip", &["link", "set", &port, "master", "br0", "up"]);
        }
        network
    }

    pub fn ip(host: usize) -> String {
        format!("10.77.0.{host}")
    }

    fn switch(&self) -> String {
        format!("{}s", self.prefix)
    }

    fn name(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    fn on_switch(&self, program: &str, arguments: &[&str]) {
        let switch = self.switch();
        run("ip", &[&["netns", "exec", &switch, program], arguments].concat());
    }

    /// A command that runs on a host.
    pub fn on(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }

    /// What leaves a host takes so long, and so much of it is lost. Why not, where the kernel has no `netem`.
    pub fn weather(&self, host: usize, delay_ms: u32, loss_percent: u32) -> Result<(), String> {
        let (name, delay, loss) = (self.name(host), format!("{delay_ms}ms"), format!("{loss_percent}%"));
        let netem = ["qdisc", "replace", "dev", "eth0", "root", "netem", "limit", LIMIT];
        let set = Command::new("ip")
            .args(["netns", "exec", &name, "tc"])
            .args(netem)
            .args(["delay", &delay, "loss", &loss])
            .output();
        match set {
            Ok(set) if set.status.success() => Ok(()),
            Ok(set) => Err(format!("no delay and loss: {}", String::from_utf8_lossy(&set.stderr).trim())),
            Err(error) => Err(format!("no delay and loss: {error}")),
        }
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> {
        (1..=self.hosts).filter(move |other| *other != host)
    }

    /// What `from` sends to `to` goes to a card that nobody has.
    fn lead_astray(&self, from: usize, to: usize) {
        let lost = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"];
        let ip = Self::ip(to);
        run("ip", &[&["-n", &self.name(from), "neigh", "replace", &ip][..], &lost].concat());
    }

    /// Nothing that a host sends arrives any more; it still hears all.
    pub fn cut_out(&self, host: usize) {
        self.others(host).for_each(|other| self.lead_astray(host, other));
    }

    /// Nothing reaches a host any more; what it sends arrives.
    pub fn cut_in(&self, host: usize) {
        self.others(host).for_each(|other| self.lead_astray(other, host));
    }

    /// All ways from and to a host go again.
    pub fn mend(&self, host: usize) {
        for other in self.others(host) {
            for (from, to) in [(host, other), (other, host)] {
                // There is none to take away where that way was not cut.
                let _ = Command::new("ip")
                    .args(["-n", &self.name(from), "neigh", "del", &Self::ip(to), "dev", "eth0"])
                    .output();
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let names = (1..=self.hosts).map(|host| self.name(host)).chain([self.switch()]);
        for name in names {
            // Best effort: what is left goes with the machine.
            drop(Command::new("ip").args(["netns", "del", &name]).output());
        }
    }
}

/// A process that is killed when it is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Self(started.expect("it starts"))
    }

    /// Sends a signal; `ip netns exec` becomes the program itself, so that it is its process.
    pub fn signal(&self, signal: &str) {
        run("kill", &[signal, &self.0.id().to_string()]);
    }

    pub fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_conveyor"))
}

/// A disk of so many MiB, in memory.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it at `at`, with what is there already.
    pub fn mount(at: &Path, mib: u32) -> Self {
        let kept = at.with_extension("kept");
        std::fs::rename(at, &kept).unwrap();
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "conveyor-test", at.to_str().unwrap()]);
        run("cp", &["-a", &format!("{}/.", kept.display()), at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    pub fn grow(&self, mib: u32) {
        run("mount", &["-o", &format!("remount,size={mib}m"), self.0.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A peer that still runs on it keeps it until it ends.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
