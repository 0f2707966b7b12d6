//! What a bench prints: the workload, the machine, its limits, what was reached, and how the two compare.
use super::Setup;
use super::disk::DiskLimits;
use super::latency::Summary;
use super::peer::Measured;
use super::quic::QuicLimits;
use crate::cli::output::{show_bytes, show_count};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// One run.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    payload_bytes: u64,
    clients: usize,
    in_flight: usize,
    topics: usize,
    durability: String,
    peer: &'static str,
    machine: Machine,
    /// What disk and loopback can do; none with `--no-limits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What was measured, phase by phase.
    pub phases: Vec<Phase>,
    /// What was counted beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// What it is compared with.
    pub bars: Vec<Bar>,
}

/// Something counted, with its unit.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    /// So much of it.
    pub fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit }
    }
}

/// What disk and loopback can do.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// The disk.
    pub disk: DiskLimits,
    /// QUIC on loopback.
    pub quic: QuicLimits,
}

/// One workload that ran.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// What ran.
    pub name: String,
    /// How long, in seconds.
    pub seconds: f64,
    /// Entries a second.
    pub entries_per_second: f64,
    /// Bytes of payloads a second.
    pub bytes_per_second: f64,
    /// Latencies, where single operations were timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Summary>,
}

/// A comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Bar {
    /// What is compared with what.
    pub name: String,
    /// What was measured.
    pub measured: f64,
    /// What it is held against.
    pub bound: f64,
    /// Whether the bar asks for more (a rate) or for less (a latency).
    pub is_minimum: bool,
    /// Whether it was met.
    pub is_met: bool,
}

impl Bar {
    /// `measured` should be `bound` or more.
    pub fn at_least(name: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { name: name.into(), measured, bound, is_minimum: true, is_met: measured >= bound }
    }

    /// `measured` should be `bound` or less.
    pub fn at_most(name: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { name: name.into(), measured, bound, is_minimum: false, is_met: measured <= bound }
    }
}

#[derive(Debug, Clone, Serialize)]
struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    file_system: String,
}

impl Machine {
    fn look(scratch: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), scratch),
        }
    }
}

/// The type of the file system that holds `path`: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> String {
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.nth(1)?, words.next()?))
    });
    let above = fields.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or_else(String::new, |(_, kind)| kind.to_owned())
}

impl Report {
    /// A report of a workload that is about to run, with so many clients, and so many entries in flight of each of them that
    /// appends.
    pub fn begin(
        bench: &'static str,
        setup: &Setup,
        (clients, in_flight): (usize, usize),
        peer: &impl Measured,
    ) -> Self {
        Self {
            bench,
            payload_bytes: setup.payload_bytes,
            clients,
            in_flight,
            topics: setup.topics(),
            durability: setup.durability.to_string(),
            peer: peer.words(),
            machine: Machine::look(peer.scratch()),
            limits: None,
            phases: Vec::new(),
            figures: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let m = &self.machine;
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "{}: payloads of {}, {}, {} in flight of each producer, {}, durability {}\n\
             {} cores, {}, kernel {}, {}; {}\n",
            self.bench,
            show_bytes(self.payload_bytes),
            show_count(self.clients as u64, "client", "clients"),
            self.in_flight,
            show_count(self.topics as u64, "topic", "topics"),
            self.durability,
            m.cores,
            m.processor,
            m.kernel,
            m.file_system,
            self.peer
        );
        if let Some(limits) = &self.limits {
            limits_text(limits, &mut text);
        }
        if !self.phases.is_empty() {
            let _ = writeln!(
                text,
                "\n{:34} {:>12} {:>12} {:>9} {:>9} {:>9} {:>9}",
                "measured", "entries/s", "MiB/s", "p50 us", "p99 us", "p99.9 us", "max us"
            );
        }
        for phase in &self.phases {
            phase_text(phase, &mut text);
        }
        if !self.figures.is_empty() {
            let _ = writeln!(text, "\ncounted");
        }
        for Figure { name, value, unit } in &self.figures {
            let _ = writeln!(text, "{name:70} {value:>12.1} {unit}");
        }
        if !self.bars.is_empty() {
            let _ = writeln!(text, "\n{:70} {:>12} {:>12}", "compared", "measured", "bound");
        }
        for bar in &self.bars {
            let (sign, met) =
                (if bar.is_minimum { ">=" } else { "<=" }, if bar.is_met { "met" } else { "MISSED" });
            let _ = writeln!(text, "{:70} {:>12.1} {sign} {:>9.1}  {met}", bar.name, bar.measured, bar.bound);
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn phase_text(phase: &Phase, text: &mut String) {
    let _ = write!(
        text,
        "{:34} {:>12.0} {:>12.1}",
        phase.name,
        phase.entries_per_second,
        phase.bytes_per_second / f64::from(1 << 20)
    );
    if let Some(l) = &phase.latency {
        let _ = write!(text, " {:>9.0} {:>9.0} {:>9.0} {:>9.0}", l.p50_us, l.p99_us, l.p999_us, l.max_us);
    }
    text.push('\n');
}

fn limits_text(limits: &Limits, text: &mut String) {
    let (disk, quic) = (&limits.disk, &limits.quic);
    let mib = f64::from(1 << 20);
    let _ = writeln!(text, "\nlimits of this machine, in this run");
    let _ = writeln!(
        text,
        "  append + fdatasync        {:>9.0}/s   p50 {:.0} us",
        disk.append_sync_per_second, disk.append_sync.p50_us
    );
    let _ = writeln!(text, "  sequential write          {:>9.1} MiB/s", disk.write_bytes_per_second / mib);
    if let Some(paced) = &quic.paced_echo {
        let _ = writeln!(
            text,
            "  quinn echo, paced         {:>9.0}/s   p50 {:.0} us",
            quic.paced_echo_per_second.unwrap_or_default(),
            paced.p50_us
        );
    }
    if let Some(rate) = quic.echo_100_per_second {
        let _ = writeln!(text, "  quinn echo, 100 conns     {rate:>9.0}/s");
    }
    if let Some(rate) = quic.stream_bytes_per_second {
        let _ = writeln!(text, "  quinn, one stream         {:>9.1} MiB/s", rate / mib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts = "a / ext4 rw 0 0\nb /data xfs rw 0 0\nc /database zfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), "xfs");
        assert_eq!(file_system(mounts, Path::new("/other")), "ext4");
    }

    #[test]
    fn bars_know_which_way_is_good() {
        assert!(Bar::at_least("rate", 2.0, 1.0).is_met && !Bar::at_least("rate", 0.5, 1.0).is_met);
        assert!(Bar::at_most("p99", 0.5, 1.0).is_met && !Bar::at_most("p99", 2.0, 1.0).is_met);
    }
}
