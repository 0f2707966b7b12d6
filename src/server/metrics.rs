//! What monitoring sees: one table of metrics, read from the peer at each scrape.
//!
//! Nothing is counted here. A [`Reading`] is taken from the peer, each row of [`METRICS`] picks its values out of it,
//! and `prometheus-client` writes the OpenMetrics text. docs/metrics.md explains each row; a test compares the two.
use crate::wire::outcome::{AppendsState, ClockState, LogInfo, Status, TopicInfo};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// Topics that have lines of their own on one page; beyond that only the sums tell.
pub const TOPIC_COUNT_MAX: usize = 1_000;

/// A peer as it is at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// How it is doing.
    pub status: Status,
    /// What came and went over its connections.
    pub traffic: Traffic,
    /// Its topics, at least the first [`TOPIC_COUNT_MAX`] by name.
    pub topics: Vec<TopicInfo>,
    /// What its process takes.
    pub process: Process,
}

/// What came and went over connections since the start; `tails` is a gauge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Connections refused at a limit.
    pub connections_refused: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests that broke the protocol.
    pub requests_malformed: u64,
    /// Requests refused for want of rights.
    pub requests_forbidden: u64,
    /// Bytes of chunks received.
    pub chunk_bytes_received: u64,
    /// Chunks answered with an error.
    pub appends_failed: u64,
    /// Bytes of batches sent.
    pub batch_bytes_sent: u64,
    /// Single entries sent.
    pub entries_sent: u64,
    /// Reads that follow their topic now.
    pub tails: u64,
}

/// What the process takes, as the operating system counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Memory that is not backed by files, in bytes.
    pub anonymous_bytes: u64,
    /// All resident memory, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

impl Process {
    /// Asks `/proc`; zeros where there is none.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self { anonymous_bytes: kib("RssAnon:") << 10, resident_bytes: kib("VmRSS:") << 10, open_fds }
    }
}

type Labels = Vec<(&'static str, String)>;

/// One metric: what it is called, what it says, and how it is read.
struct Metric {
    name: &'static str,
    kind: MetricType,
    help: &'static str,
    read: fn(&Reading) -> Vec<(Labels, f64)>,
}

fn one(value: u64) -> Vec<(Labels, f64)> {
    vec![(Labels::new(), value as f64)]
}

fn by_topic(reading: &Reading, value: fn(&[LogInfo]) -> f64) -> Vec<(Labels, f64)> {
    let topics = reading.topics.iter().take(TOPIC_COUNT_MAX);
    topics.map(|topic| (vec![("topic", topic.name.to_string())], value(&topic.logs))).collect()
}

const GAUGE: MetricType = MetricType::Gauge;
const COUNTER: MetricType = MetricType::Counter;

const METRICS: &[Metric] = &[
    Metric {
        name: "conveyor_build_info",
        kind: GAUGE,
        help: "Always 1; its labels say who this is",
        read: |r| {
            let about = &r.status.about;
            let labels = [
                ("version", about.version.clone()),
                ("peer", about.peer.to_string()),
                ("name", about.name.to_string()),
                ("cluster", about.cluster.to_string()),
            ];
            vec![(labels.into(), 1.0)]
        },
    },
    Metric {
        name: "conveyor_start_time_seconds",
        kind: GAUGE,
        help: "When the peer started, in Unix seconds by its own clock",
        read: |r| vec![(Labels::new(), r.status.started_unix_ms as f64 / 1000.0)],
    },
    Metric {
        name: "conveyor_appends_open",
        kind: GAUGE,
        help: "1 while appends are taken, 0 while the disk is full or after a flush failed",
        read: |r| one(u64::from(r.status.appends == AppendsState::Open)),
    },
    Metric {
        name: "conveyor_clock_trusted",
        kind: GAUGE,
        help: "1 while the clock is trusted, 0 while removal by age is paused",
        read: |r| one(u64::from(r.status.clock == ClockState::Trusted)),
    },
    Metric {
        name: "conveyor_damaged_ranges",
        kind: GAUGE,
        help: "Ranges of entries set aside because their bytes are damaged",
        read: |r| one(r.status.damaged_count),
    },
    Metric {
        name: "conveyor_connections",
        kind: GAUGE,
        help: "Open client connections",
        read: |r| one(r.status.connection_count),
    },
    Metric {
        name: "conveyor_handshakes_failed",
        kind: COUNTER,
        help: "Handshakes that failed: strangers, expired certificates, other protocols",
        read: |r| one(r.traffic.handshakes_failed),
    },
    Metric {
        name: "conveyor_connections_refused",
        kind: COUNTER,
        help: "Connections refused at a limit",
        read: |r| one(r.traffic.connections_refused),
    },
    Metric {
        name: "conveyor_requests",
        kind: COUNTER,
        help: "Requests begun, of any kind",
        read: |r| one(r.traffic.requests),
    },
    Metric {
        name: "conveyor_requests_malformed",
        kind: COUNTER,
        help: "Requests refused because they break the protocol",
        read: |r| one(r.traffic.requests_malformed),
    },
    Metric {
        name: "conveyor_requests_forbidden",
        kind: COUNTER,
        help: "Requests refused for want of rights",
        read: |r| one(r.traffic.requests_forbidden),
    },
    Metric {
        name: "conveyor_received_bytes",
        kind: COUNTER,
        help: "Bytes of chunks that clients sent",
        read: |r| one(r.traffic.chunk_bytes_received),
    },
    Metric {
        name: "conveyor_appends_failed",
        kind: COUNTER,
        help: "Chunks answered with an error",
        read: |r| one(r.traffic.appends_failed),
    },
    Metric {
        name: "conveyor_sent_batch_bytes",
        kind: COUNTER,
        help: "Bytes of batches sent to tails and replays",
        read: |r| one(r.traffic.batch_bytes_sent),
    },
    Metric {
        name: "conveyor_sent_entries",
        kind: COUNTER,
        help: "Single entries sent to pages and lookups",
        read: |r| one(r.traffic.entries_sent),
    },
    Metric {
        name: "conveyor_tails",
        kind: GAUGE,
        help: "Reads that follow their topic now",
        read: |r| one(r.traffic.tails),
    },
    Metric {
        name: "conveyor_topics",
        kind: GAUGE,
        help: "Topics known, Conveyor's own left out",
        read: |r| one(r.status.topic_count),
    },
    Metric { name: "conveyor_logs", kind: GAUGE, help: "Logs held", read: |r| one(r.status.log_count) },
    Metric {
        name: "conveyor_stored_bytes",
        kind: GAUGE,
        help: "Bytes of all batches held, as stored",
        read: |r| one(r.status.stored_bytes),
    },
    Metric {
        name: "conveyor_disk_free_bytes",
        kind: GAUGE,
        help: "Free bytes on the disk of the data directory",
        read: |r| one(r.status.disk_free_bytes),
    },
    Metric {
        name: "conveyor_disk_reserve_bytes",
        kind: GAUGE,
        help: "Appends stop when fewer bytes are free than this",
        read: |r| one(r.status.disk_reserve_bytes),
    },
    Metric {
        name: "conveyor_topic_entries",
        kind: GAUGE,
        help: "Entries of the topic that are held here",
        read: |r| by_topic(r, |logs| logs.iter().map(|log| log.until.since(log.start) as f64).sum()),
    },
    Metric {
        name: "conveyor_topic_appended_entries",
        kind: MetricType::Counter,
        help: "Entries of the topic that were ever appended, as far as this peer has them or trimmed them",
        read: |r| by_topic(r, |logs| logs.iter().map(|log| log.until.0.saturating_sub(1) as f64).sum()),
    },
    Metric {
        name: "conveyor_topic_stored_bytes",
        kind: GAUGE,
        help: "Bytes of the topic's batches, as stored",
        read: |r| by_topic(r, |logs| logs.iter().map(|log| log.stored_bytes as f64).sum()),
    },
    Metric {
        name: "conveyor_topic_last_append_seconds",
        kind: GAUGE,
        help: "Time of the topic's newest entry in Unix seconds, 0 when there is none",
        read: |r| {
            by_topic(r, |logs| logs.iter().map(|log| log.last_time.ms() as f64 / 1000.0).fold(0.0, f64::max))
        },
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: GAUGE,
        help: "Resident memory of the process, cached file pages that it mapped included",
        read: |r| one(r.process.resident_bytes),
    },
    Metric {
        name: "process_resident_anonymous_bytes",
        kind: GAUGE,
        help: "Resident memory of the process that no file backs",
        read: |r| one(r.process.anonymous_bytes),
    },
    Metric {
        name: "process_open_fds",
        kind: GAUGE,
        help: "Open file descriptors of the process",
        read: |r| one(r.process.open_fds),
    },
];

#[derive(Debug)]
struct Page(Reading);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
            for (labels, value) in (metric.read)(&self.0) {
                if labels.is_empty() {
                    // A family of no labels would print `{}` behind the name. Such a metric has one line.
                    line(metric.kind, value, family)?;
                    break;
                }
                line(metric.kind, value, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn line(kind: MetricType, value: f64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}

/// The page for Prometheus, in the OpenMetrics text format.
pub fn page(reading: Reading) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(reading)));
    let mut text = String::new();
    // Writing to a String does not fail, and no value above is one that cannot be written.
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap_or_default();
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::TopicSettings;
    use crate::base::{ClusterId, Durability, PeerId, PeerName, RunId, Seq, StoreId, Timestamp, TopicName};
    use crate::server::config::SETTINGS;
    use crate::wire::outcome::About;

    pub(crate) fn reading() -> Reading {
        let about = About {
            cluster: ClusterId([1; 16]),
            peer: PeerId([2; 32]),
            name: PeerName::new("alpha").unwrap(),
            store: StoreId(3),
            version: "0.1.0".to_owned(),
        };
        let status = Status {
            about,
            started_unix_ms: 1_800_000_000_000,
            topic_count: 1,
            log_count: 1,
            stored_bytes: 10,
            disk_free_bytes: 11,
            disk_reserve_bytes: 12,
            appends: AppendsState::Open,
            clock: ClockState::Trusted,
            damaged_count: 0,
            connection_count: 4,
            durability: Durability::Fsync,
        };
        let log = LogInfo {
            peer: PeerId([2; 32]),
            name: None,
            run: RunId(1),
            run_count: 1,
            start: Seq(3),
            until: Seq(8),
            stored_bytes: 10,
            last_time: Timestamp::from_ms(1_500),
            damaged: Vec::new(),
        };
        let topic = TopicInfo {
            name: TopicName::new("odd \"name\"").unwrap(),
            settings: TopicSettings::default(),
            is_configured: false,
            logs: vec![log],
        };
        let traffic = Traffic { tails: 2, ..Traffic::default() };
        Reading { status, traffic, topics: vec![topic], process: Process::default() }
    }

    #[test]
    fn a_page_says_what_was_read_and_ends_as_openmetrics_wants() {
        let page = page(reading());
        for line in [
            "conveyor_connections 4.0",
            "conveyor_topic_entries{topic=\"odd \\\"name\\\"\"} 5.0",
            "conveyor_topic_appended_entries_total{topic=\"odd \\\"name\\\"\"} 7.0",
            "conveyor_topic_last_append_seconds{topic=\"odd \\\"name\\\"\"} 1.5",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn the_document_has_each_metric_of_the_page_and_no_other() {
        let document = include_str!("../../docs/metrics.md");
        let page = page(reading());
        let mut wanted = Vec::new();
        for metric in METRICS {
            let kind = if matches!(metric.kind, MetricType::Counter) { "counter" } else { "gauge" };
            let suffix = if kind == "counter" { "_total" } else { "" };
            assert!(page.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
            wanted.push(format!("| `{}{suffix}` | {kind} | {} |", metric.name, metric.help));
        }
        let rows: Vec<&str> = document
            .lines()
            .filter(|line| {
                line.starts_with("| `")
                    && line.matches(" | ").count() == 2
                    && (line.contains("` | gauge |") || line.contains("` | counter |"))
            })
            .collect();
        assert_eq!(rows, wanted);
    }

    #[test]
    fn settings_send_their_reader_to_metrics_that_exist() {
        for setting in SETTINGS {
            let words = setting.help.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            for word in words.filter(|word| word.starts_with("conveyor_") || word.starts_with("process_")) {
                assert!(METRICS.iter().any(|metric| metric.name == word), "{}: {word}", setting.key);
            }
        }
    }
}
