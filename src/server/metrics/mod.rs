//! What monitoring sees: one table of metrics, read from the peer at each scrape.
//!
//! Nothing is counted here. A [`Reading`] is taken from the peer, each row of `METRICS` picks its values out of it,
//! and `prometheus-client` writes the OpenMetrics text. docs/metrics.md explains each row; a test compares the two.
mod table;

use crate::net::counters::SentBytes;
use crate::runtime::{BOUNDS_MICROS, StepTimes};
use crate::wire::outcome::{Status, TopicInfo};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use table::{METRICS, Value};

/// Topics that have lines of their own on one page; beyond that only the sums tell.
pub const TOPIC_COUNT_MAX: usize = 1_000;

/// A peer as it is at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// How it is doing.
    pub status: Status,
    /// Its topics, at least the first [`TOPIC_COUNT_MAX`] by name.
    pub topics: Vec<TopicInfo>,
    /// What it counted.
    pub totals: Totals,
    /// How far the peers are that it is connected to.
    pub round_trips: Vec<RoundTrip>,
    /// What its process takes.
    pub process: Process,
}

/// What a peer counted since its start, but for `in_flight_bytes`, `tails` and `streams`, which are those under way now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table of metrics says what each is, under the same name")]
pub struct Totals {
    pub in_flight_bytes: u64,
    pub steps: StepTimes,
    pub appends_awaiting: u64,
    pub tails: u64,
    pub streams: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub http_connections: u64,
    pub http_refused: u64,
    pub handshakes_failed: u64,
    pub retries_sent: u64,
    pub missing_entries: u64,
    pub behind_seconds: u64,
    pub unreplicated_entries: Option<u64>,
    pub sessions: u64,
    pub members_alive: u64,
    pub sessions_begun: u64,
    pub sessions_given_up: u64,
    pub peer_messages_sent: u64,
    pub peer_bytes_sent: u64,
    pub sent_to_peers: SentBytes,
    pub peer_messages_received: u64,
    pub peer_bytes_received: u64,
    pub gossip_messages_received: u64,
    pub gossip_messages_refused: u64,
    pub requests: u64,
    pub requests_malformed: u64,
    pub requests_forbidden: u64,
    pub objects_slow: u64,
    pub objects_refused: u64,
    pub chunks_received: u64,
    pub chunk_bytes_received: u64,
    pub appends_failed: u64,
    pub batch_bytes_sent: u64,
    pub entries_sent: u64,
    pub journal_syncs: u64,
    pub journal_bytes: u64,
    pub segment_bytes: u64,
    pub checkpoints: u64,
    pub read_bytes: u64,
    pub scrub_bytes: u64,
    pub scrub_damage: u64,
    pub scrub_errors: u64,
    pub scrub_healed: u64,
    pub forks: u64,
    pub scrub_rounds: u64,
    pub scrub_last_end_s: u64,
}

/// How far another peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrip {
    /// What people call it.
    pub name: String,
    /// Its key.
    pub peer: String,
    /// Its store.
    pub store: String,
    /// Time there and back, in microseconds.
    pub micros: u64,
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

#[derive(Debug)]
struct Page(Reading);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
            for (labels, value) in (metric.read)(&self.0) {
                if labels.is_empty() {
                    // A family of no labels would print `{}` behind the name. Such a metric has one value.
                    show(metric.kind, &value, family)?;
                    break;
                }
                show(metric.kind, &value, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn show(kind: MetricType, value: &Value, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Number(value)) => ConstCounter::new(*value).encode(encoder),
        (_, Value::Number(value)) => ConstGauge::new(*value).encode(encoder),
        (_, Value::Times(times)) => {
            let bounds = BOUNDS_MICROS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
            let (sum, no_exemplars) = (times.micros as f64 / 1e6, None);
            encoder.encode_histogram::<[(&str, &str); 0]>(sum, times.count(), &buckets, no_exemplars)
        }
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
    use crate::base::{ClusterId, PeerId, PeerName, RunId, Seq, StoreId, Timestamp, TopicName};
    use crate::server::config::SETTINGS;
    use crate::wire::outcome::{About, AppendsState, ClockState, LogInfo};

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
            unix_ms: 1_800_000_001_000,
            started_unix_ms: 1_800_000_000_000,
            topic_count: 1,
            log_count: 1,
            stored_bytes: 10,
            disk_free_bytes: 11,
            disk_reserve_bytes: 12,
            appends: AppendsState::Open,
            clock: ClockState::Trusted,
            damaged_count: 0,
            fork_count: 0,
            connection_count: 4,
            topic_defaults: TopicSettings::default(),
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
            lost: Vec::new(),
            damaged_count: 0,
            lost_count: 0,
            forks: Vec::new(),
        };
        let topic = TopicInfo {
            name: TopicName::new("odd \"name\"").unwrap(),
            settings: TopicSettings::default(),
            is_configured: false,
            logs: vec![log],
        };
        let round_trip =
            RoundTrip { name: "beta".into(), peer: "02".into(), store: "03".into(), micros: 1_500 };
        Reading {
            status,
            topics: vec![topic],
            totals: Totals::default(),
            round_trips: vec![round_trip],
            process: Process::default(),
        }
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
        let document = include_str!("../../../docs/metrics.md");
        let page = page(reading());
        let mut wanted = Vec::new();
        for metric in METRICS {
            let kind = match metric.kind {
                MetricType::Counter => "counter",
                MetricType::Histogram => "histogram",
                _ => "gauge",
            };
            let suffix = if kind == "counter" { "_total" } else { "" };
            assert!(page.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
            wanted.push(format!("| `{}{suffix}` | {kind} | {} |", metric.name, metric.help));
        }
        let kinds = ["` | gauge |", "` | counter |", "` | histogram |"];
        let is_row = |line: &&str| {
            let columns = line.matches(" | ").count();
            line.starts_with("| `") && columns == 2 && kinds.iter().any(|kind| line.contains(kind))
        };
        assert_eq!(document.lines().filter(is_row).collect::<Vec<_>>(), wanted);
        let bounds = BOUNDS_MICROS.map(|bound| format!("{}", bound as f64 / 1e6)).join(", ");
        assert!(document.contains(&bounds), "the buckets: {bounds}");
    }

    #[test]
    fn the_times_of_steps_are_buckets_that_add_up() {
        let mut reading = reading();
        let sync = &mut reading.totals.steps.sync;
        (sync.counts[3], sync.counts[4], sync.counts[16], sync.micros) = (5, 2, 1, 12_345_678);
        let page = page(reading);
        let value = |name: &str| -> Option<f64> {
            page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let part = |name: &str| value(&format!("conveyor_step_part_seconds_{name}"));
        assert_eq!(part("count{part=\"sync\"}"), Some(8.0));
        assert_eq!(part("sum{part=\"sync\"}"), Some(12.345678));
        let bucket = |le: &str| part(&format!("bucket{{le=\"{le}\",part=\"sync\"}}"));
        let found = ["0.0005", "0.001", "0.0025", "10.0", "+Inf"].map(|le| bucket(le).unwrap());
        assert_eq!(found, [0.0, 5.0, 7.0, 7.0, 8.0]);
        assert_eq!(value("conveyor_step_seconds_bucket{le=\"+Inf\"}"), Some(0.0), "{page}");
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
