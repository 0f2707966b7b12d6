//! Every metric: its name, its kind, what it says, and how it is read. docs/metrics.md has the same rows.
use super::{Reading, TOPIC_COUNT_MAX};
use crate::net::counters::SentKind;
use crate::runtime::Times;
use crate::wire::outcome::{AppendsState, ClockState, LogInfo};
use prometheus_client::metrics::MetricType;

/// The labels of one line.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What stands behind a name: a number, or durations in buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Times(Times),
}

/// One metric: what it is called, what it says, and how it is read.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
    pub(super) read: fn(&Reading) -> Vec<(Labels, Value)>,
}

fn one(value: u64) -> Vec<(Labels, Value)> {
    number(value as f64)
}

fn number(value: f64) -> Vec<(Labels, Value)> {
    vec![(Labels::new(), Value::Number(value))]
}

fn by_topic(reading: &Reading, value: fn(&[LogInfo]) -> f64) -> Vec<(Labels, Value)> {
    let topics = reading.topics.iter().take(TOPIC_COUNT_MAX);
    topics
        .map(|topic| (vec![("topic", topic.name.to_string())], Value::Number(value(&topic.logs) + 0.0)))
        .collect()
}

const GAUGE: MetricType = MetricType::Gauge;
const COUNTER: MetricType = MetricType::Counter;
const HISTOGRAM: MetricType = MetricType::Histogram;

pub(super) const METRICS: &[Metric] = &[
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
            vec![(labels.into(), Value::Number(1.0))]
        },
    },
    Metric {
        name: "conveyor_start_time_seconds",
        kind: GAUGE,
        help: "When the peer started, in Unix seconds by its own clock",
        read: |r| number(r.status.started_unix_ms as f64 / 1000.0),
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
        kind: COUNTER,
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
        name: "conveyor_tails",
        kind: GAUGE,
        help: "Reads under way that follow their topic, over QUIC and HTTP",
        read: |r| one(r.totals.tails),
    },
    Metric {
        name: "conveyor_streams",
        kind: GAUGE,
        help: "Requests under way, tails included",
        read: |r| one(r.totals.streams),
    },
    Metric {
        name: "conveyor_connections_accepted",
        kind: COUNTER,
        help: "Connections whose handshake succeeded",
        read: |r| one(r.totals.connections_accepted),
    },
    Metric {
        name: "conveyor_connections_refused",
        kind: COUNTER,
        help: "Connections refused at a limit",
        read: |r| one(r.totals.connections_refused),
    },
    Metric {
        name: "conveyor_http_connections",
        kind: GAUGE,
        help: "Open connections to the HTTP address, those of monitoring included",
        read: |r| one(r.totals.http_connections),
    },
    Metric {
        name: "conveyor_http_connections_refused",
        kind: COUNTER,
        help: "Connections to the HTTP address that were one too many",
        read: |r| one(r.totals.http_refused),
    },
    Metric {
        name: "conveyor_handshakes_failed",
        kind: COUNTER,
        help: "Handshakes that failed: strangers, expired certificates, other protocols",
        read: |r| one(r.totals.handshakes_failed),
    },
    Metric {
        name: "conveyor_retries_sent",
        kind: COUNTER,
        help: "Addresses asked to prove themselves first, because many handshakes were under way",
        read: |r| one(r.totals.retries_sent),
    },
    Metric {
        name: "conveyor_missing_entries",
        kind: GAUGE,
        help: "Entries that other peers say they hold and that are not here yet, as of the last second",
        read: |r| one(r.totals.missing_entries),
    },
    Metric {
        name: "conveyor_behind_seconds",
        kind: GAUGE,
        help: "For how long there have been any without a break, 0 while there are none",
        read: |r| one(r.totals.behind_seconds),
    },
    Metric {
        name: "conveyor_unreplicated_entries",
        kind: GAUGE,
        help: "Entries that this peer wrote and that no other says to hold, as of the last 20 seconds; absent while nobody could say",
        read: |r| r.totals.unreplicated_entries.map(one).unwrap_or_default(),
    },
    Metric {
        name: "conveyor_peer_rtt_seconds",
        kind: GAUGE,
        help: "Time to each connected peer and back, by the labels name, peer and store",
        read: |r| {
            let line = |of: &super::RoundTrip| {
                let labels =
                    [("name", of.name.clone()), ("peer", of.peer.clone()), ("store", of.store.clone())];
                (labels.into(), Value::Number(of.micros as f64 / 1e6))
            };
            r.round_trips.iter().map(line).collect()
        },
    },
    Metric {
        name: "conveyor_sessions",
        kind: GAUGE,
        help: "Other peers that it is connected to",
        read: |r| one(r.totals.sessions),
    },
    Metric {
        name: "conveyor_members_alive",
        kind: GAUGE,
        help: "Peers of the cluster that somebody hears from, itself included; 0 until gossip begins",
        read: |r| one(r.totals.members_alive),
    },
    Metric {
        name: "conveyor_sessions_begun",
        kind: COUNTER,
        help: "Connections with other peers that came about",
        read: |r| one(r.totals.sessions_begun),
    },
    Metric {
        name: "conveyor_sessions_given_up",
        kind: COUNTER,
        help: "Those given up because the other peer took nothing for long",
        read: |r| one(r.totals.sessions_given_up),
    },
    Metric {
        name: "conveyor_peer_messages_sent",
        kind: COUNTER,
        help: "Messages to other peers, without gossip",
        read: |r| one(r.totals.peer_messages_sent),
    },
    Metric {
        name: "conveyor_peer_bytes_sent",
        kind: COUNTER,
        help: "Their bytes, before QUIC",
        read: |r| one(r.totals.peer_bytes_sent),
    },
    Metric {
        name: "conveyor_peer_sent_bytes",
        kind: COUNTER,
        help: "Bytes of UDP sent to other peers, by the label kind: gossip, compare, note, push, batch, quic",
        read: |r| {
            let sent = |kind: SentKind| {
                let value = Value::Number(r.totals.sent_to_peers.of(kind) as f64);
                (vec![("kind", kind.name().to_owned())], value)
            };
            SentKind::ALL.map(sent).into()
        },
    },
    Metric {
        name: "conveyor_peer_messages_received",
        kind: COUNTER,
        help: "Messages from other peers, without gossip",
        read: |r| one(r.totals.peer_messages_received),
    },
    Metric {
        name: "conveyor_peer_bytes_received",
        kind: COUNTER,
        help: "Their bytes, before QUIC",
        read: |r| one(r.totals.peer_bytes_received),
    },
    Metric {
        name: "conveyor_gossip_messages_received",
        kind: COUNTER,
        help: "Messages of the gossip from other peers",
        read: |r| one(r.totals.gossip_messages_received),
    },
    Metric {
        name: "conveyor_gossip_messages_refused",
        kind: COUNTER,
        help: "Those of them that were not let in: too many ids, or no messages",
        read: |r| one(r.totals.gossip_messages_refused),
    },
    Metric {
        name: "conveyor_requests",
        kind: COUNTER,
        help: "Requests begun, of any kind",
        read: |r| one(r.totals.requests),
    },
    Metric {
        name: "conveyor_requests_malformed",
        kind: COUNTER,
        help: "Requests refused for what came over them",
        read: |r| one(r.totals.requests_malformed),
    },
    Metric {
        name: "conveyor_requests_forbidden",
        kind: COUNTER,
        help: "Requests refused for want of rights",
        read: |r| one(r.totals.requests_forbidden),
    },
    Metric {
        name: "conveyor_objects_slow",
        kind: COUNTER,
        help: "Streams given up because the rest of a frame or large entry came too slowly",
        read: |r| one(r.totals.objects_slow),
    },
    Metric {
        name: "conveyor_objects_refused",
        kind: COUNTER,
        help: "Streams refused because too many frames or large entries were unfinished",
        read: |r| one(r.totals.objects_refused),
    },
    Metric {
        name: "conveyor_chunks_received",
        kind: COUNTER,
        help: "Chunks of entries taken from clients",
        read: |r| one(r.totals.chunks_received),
    },
    Metric {
        name: "conveyor_chunk_bytes_received",
        kind: COUNTER,
        help: "Bytes of those chunks",
        read: |r| one(r.totals.chunk_bytes_received),
    },
    Metric {
        name: "conveyor_appends_failed",
        kind: COUNTER,
        help: "Chunks answered with an error",
        read: |r| one(r.totals.appends_failed),
    },
    Metric {
        name: "conveyor_append_in_flight_bytes",
        kind: GAUGE,
        help: "Memory of appends taken and not yet answered; at limits.in_flight_bytes clients wait",
        read: |r| one(r.totals.in_flight_bytes),
    },
    Metric {
        name: "conveyor_steps",
        kind: COUNTER,
        help: "Steps written: what one flush makes durable together",
        read: |r| one(r.totals.steps.whole.count()),
    },
    Metric {
        name: "conveyor_step_seconds",
        kind: HISTOGRAM,
        help: "How long these took, from closing a step until it was durable",
        read: |r| vec![(Labels::new(), Value::Times(r.totals.steps.whole))],
    },
    Metric {
        name: "conveyor_step_part_seconds",
        kind: HISTOGRAM,
        help: "How long each part of a step took, by the label part: gather, seal, sync, release",
        read: |r| {
            let steps = &r.totals.steps;
            let parts = [
                ("gather", steps.gather),
                ("seal", steps.seal),
                ("sync", steps.sync),
                ("release", steps.release),
            ];
            parts.map(|(part, times)| (vec![("part", part.to_owned())], Value::Times(times))).into()
        },
    },
    Metric {
        name: "conveyor_appends_awaiting_copies",
        kind: GAUGE,
        help: "Appends that are durable here and wait for other peers to hold them, as of the last second",
        read: |r| one(r.totals.appends_awaiting),
    },
    Metric {
        name: "conveyor_append_copies_seconds",
        kind: HISTOGRAM,
        help: "How long such appends waited, from being durable here until enough peers held them",
        read: |r| vec![(Labels::new(), Value::Times(r.totals.steps.copies))],
    },
    Metric {
        name: "conveyor_batch_bytes_sent",
        kind: COUNTER,
        help: "Bytes of batches sent to readers",
        read: |r| one(r.totals.batch_bytes_sent),
    },
    Metric {
        name: "conveyor_entries_sent",
        kind: COUNTER,
        help: "Single entries sent to readers (pages, gets)",
        read: |r| one(r.totals.entries_sent),
    },
    Metric {
        name: "conveyor_journal_syncs",
        kind: COUNTER,
        help: "Flushes of the journal: one each step",
        read: |r| one(r.totals.journal_syncs),
    },
    Metric {
        name: "conveyor_journal_bytes",
        kind: COUNTER,
        help: "Bytes written to the journal",
        read: |r| one(r.totals.journal_bytes),
    },
    Metric {
        name: "conveyor_segment_bytes",
        kind: COUNTER,
        help: "Bytes written to segments",
        read: |r| one(r.totals.segment_bytes),
    },
    Metric {
        name: "conveyor_checkpoints",
        kind: COUNTER,
        help: "Checkpoints written",
        read: |r| one(r.totals.checkpoints),
    },
    Metric {
        name: "conveyor_read_bytes",
        kind: COUNTER,
        help: "Bytes read from segments",
        read: |r| one(r.totals.read_bytes),
    },
    Metric {
        name: "conveyor_scrub_bytes",
        kind: COUNTER,
        help: "Bytes of segments read again in the background to look for damage",
        read: |r| one(r.totals.scrub_bytes),
    },
    Metric {
        name: "conveyor_scrub_rounds",
        kind: COUNTER,
        help: "Times that everything stored was read again since the start",
        read: |r| one(r.totals.scrub_rounds),
    },
    Metric {
        name: "conveyor_scrub_last_round_seconds",
        kind: GAUGE,
        help: "When that was done last, in Unix seconds; 0 when it was not since the start",
        read: |r| one(r.totals.scrub_last_end_s),
    },
    Metric {
        name: "conveyor_scrub_damage",
        kind: COUNTER,
        help: "Damaged batches, or stretches of them, that reading again found and set aside",
        read: |r| one(r.totals.scrub_damage),
    },
    Metric {
        name: "conveyor_scrub_errors",
        kind: COUNTER,
        help: "Places passed over in reading again because the disk gave errors there",
        read: |r| one(r.totals.scrub_errors),
    },
    Metric {
        name: "conveyor_scrub_healed",
        kind: COUNTER,
        help: "Batches that were set aside as damaged, that reading again found well, and that are served again",
        read: |r| one(r.totals.scrub_healed),
    },
    Metric {
        name: "conveyor_known_forks",
        kind: GAUGE,
        help: "Forks of runs that are in the books: their peers signed two things under one name",
        read: |r| one(r.status.fork_count),
    },
    Metric {
        name: "conveyor_forks",
        kind: COUNTER,
        help: "Forks of runs heard of since the start: a peer signed two things under one name",
        read: |r| one(r.totals.forks),
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
