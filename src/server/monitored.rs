//! What monitoring is shown of a peer.
use crate::net::peers::Seen;
use crate::net::{Counters, Peers};
use crate::runtime::{Handle, Readiness};
use crate::server::http::Watched;
use crate::server::metrics::{RoundTrip, Totals};
use crate::server::unreplicated::Unreplicated;
use crate::wire::outcome::{Status, TopicInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The peer as monitoring sees it.
pub(super) struct Peer {
    pub(super) unreplicated: Unreplicated,
    pub(super) handle: Handle,
    pub(super) counters: Arc<Counters>,
    pub(super) peers: Arc<Peers>,
    pub(super) behind_entries_max: u64,
}

impl Watched for Peer {
    fn readiness(&self) -> Readiness {
        self.handle.readiness()
    }

    fn behind(&self) -> Option<u64> {
        Some(self.handle.missing().entries).filter(|entries| *entries > self.behind_entries_max)
    }

    fn round_trips(&self) -> Vec<RoundTrip> {
        let round_trip = |seen: Seen| RoundTrip {
            name: seen.other.name.to_string(),
            peer: seen.other.peer.to_string(),
            store: seen.other.store.to_string(),
            micros: seen.rtt_us,
        };
        self.peers.seen().into_iter().map(round_trip).collect()
    }

    fn status(&self) -> Status {
        Status { connection_count: self.counters.connections.get(), ..self.handle.status() }
    }

    fn topics(&self, count_max: usize) -> Vec<TopicInfo> {
        let mut topics = self.handle.topics();
        topics.truncate(count_max);
        topics
    }

    fn totals(&self) -> Totals {
        let (edge, disk) = (&self.counters, &self.handle.store().counters);
        let of_disk = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (scrub_rounds, scrub_last_end_s) = self.handle.scrub_rounds();
        Totals {
            in_flight_bytes: self.handle.in_flight_bytes() as u64,
            steps: self.handle.steps(),
            appends_awaiting: self.handle.awaiting_count(),
            tails: edge.tails.get(),
            streams: edge.streams.get(),
            connections_accepted: edge.connections_accepted.get(),
            connections_refused: edge.connections_refused.get(),
            http_connections: edge.http_connections.get(),
            http_refused: edge.http_refused.get(),
            handshakes_failed: edge.handshakes_failed.get(),
            retries_sent: edge.retries_sent.get(),
            missing_entries: self.handle.missing().entries,
            behind_seconds: self.handle.missing().behind.map_or(0, |behind| behind.as_secs()),
            unreplicated_entries: self.unreplicated.get(),
            sessions: self.peers.connected().len() as u64,
            members_alive: self.peers.members().iter().filter(|member| member.is_alive).count() as u64,
            sessions_begun: edge.sessions_begun.get(),
            sessions_given_up: edge.sessions_given_up.get(),
            peer_messages_sent: edge.peer_messages_sent.get(),
            peer_bytes_sent: edge.peer_bytes_sent.get(),
            sent_to_peers: self.peers.sent_bytes(),
            peer_messages_received: edge.peer_messages_received.get(),
            peer_bytes_received: edge.peer_bytes_received.get(),
            gossip_messages_received: edge.gossip_messages_received.get(),
            gossip_messages_refused: self.peers.gossip_refused_count(),
            requests: edge.requests.get(),
            requests_malformed: edge.requests_malformed.get(),
            requests_forbidden: edge.requests_forbidden.get(),
            objects_slow: edge.objects_slow.get(),
            objects_refused: edge.objects_refused.get(),
            chunks_received: edge.chunks_received.get(),
            chunk_bytes_received: edge.chunk_bytes_received.get(),
            appends_failed: edge.appends_failed.get(),
            batch_bytes_sent: edge.batch_bytes_sent.get(),
            entries_sent: edge.entries_sent.get(),
            journal_syncs: of_disk(&disk.journal_syncs),
            journal_bytes: of_disk(&disk.journal_bytes),
            segment_bytes: of_disk(&disk.segment_bytes),
            checkpoints: of_disk(&disk.checkpoints),
            read_bytes: of_disk(&disk.read_bytes),
            scrub_bytes: of_disk(&disk.scrub_bytes),
            scrub_damage: of_disk(&disk.scrub_damage),
            scrub_errors: of_disk(&disk.scrub_errors),
            scrub_healed: of_disk(&disk.scrub_healed),
            forks: of_disk(&disk.forks_found),
            scrub_rounds,
            scrub_last_end_s,
        }
    }
}
