//! What happened at the edge, for the metrics page.
use crate::wire::peer::PeerMessage;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows, or a gauge that also falls. Read and written without order: each stands alone.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes `count` off a gauge.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Raises it to `count` where it is below that.
    pub fn raise(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one up in a gauge until the answer is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }
}

/// See [`Counter::hold`].
#[derive(Debug)]
pub struct Held<'a>(&'a Counter);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// What something sent to another peer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentKind {
    /// Who there is.
    Gossip,
    /// Comparing what both hold.
    Compare,
    /// What one holds, and what is asked for.
    Note,
    /// New entries.
    Push,
    /// Entries that were asked for.
    Batch,
    /// What QUIC adds: headers, acknowledgements, what keeps a connection alive, handshakes, what was lost and is sent again.
    Quic,
}

impl SentKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Gossip, Self::Compare, Self::Note, Self::Push, Self::Batch, Self::Quic];

    /// What a message of a session is for.
    pub fn of(message: &PeerMessage) -> Self {
        match message {
            PeerMessage::Digest { .. } | PeerMessage::Leaves { .. } | PeerMessage::Logs { .. } => {
                Self::Compare
            }
            PeerMessage::Push { .. } => Self::Push,
            PeerMessage::Certificate { .. } | PeerMessage::Batch(_) | PeerMessage::Sent { .. } => Self::Batch,
            _ => Self::Note,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Compare => "compare",
            Self::Note => "note",
            Self::Push => "push",
            Self::Batch => "batch",
            Self::Quic => "quic",
        }
    }
}

/// Bytes sent to other peers, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentBytes(pub [u64; SentKind::ALL.len()]);

impl SentBytes {
    /// Those of one kind.
    pub fn of(&self, kind: SentKind) -> u64 {
        self.0[kind as usize]
    }
}

/// Counts of [`SentBytes`].
#[derive(Debug, Default)]
pub struct SentCounters([Counter; SentKind::ALL.len()]);

impl SentCounters {
    /// Adds bytes of a kind.
    pub fn add(&self, kind: SentKind, bytes: usize) {
        self.0[kind as usize].add(bytes as u64);
    }

    /// What was sent, where that makes so many bytes of UDP. What waits counts as sent already, so that QUIC's part is what
    /// it was at most before.
    pub fn read(&self, udp_bytes: u64) -> SentBytes {
        let quic = &self.0[SentKind::Quic as usize];
        let known: u64 = self.0.iter().map(Counter::get).sum::<u64>() - quic.get();
        quic.raise(udp_bytes.saturating_sub(known));
        SentBytes(SentKind::ALL.map(|kind| self.0[kind as usize].get()))
    }
}

/// Everything that is counted at the edge. Totals since the start, but for the gauges `connections` and `streams`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub connections: Counter,
    /// Connections whose handshake succeeded.
    pub connections_accepted: Counter,
    /// Connections refused at a limit.
    pub connections_refused: Counter,
    /// Handshakes that failed: strangers, expired certificates, other protocols.
    pub handshakes_failed: Counter,
    /// Addresses asked to prove themselves first, because many handshakes were under way.
    pub retries_sent: Counter,
    /// Connections over HTTP that are open now.
    pub http_connections: Counter,
    /// Those refused at a limit.
    pub http_refused: Counter,
    /// Streams that are open now.
    pub streams: Counter,
    /// Streams and requests refused for what came over them.
    pub requests_malformed: Counter,
    /// Requests refused for want of rights.
    pub requests_forbidden: Counter,
    /// Streams given up because the rest of an object came too slowly.
    pub objects_slow: Counter,
    /// Streams refused because too many objects were unfinished.
    pub objects_refused: Counter,
    /// Requests begun, of any kind.
    pub requests: Counter,
    /// Chunks taken from clients.
    pub chunks_received: Counter,
    /// Bytes of those chunks.
    pub chunk_bytes_received: Counter,
    /// Chunks answered with an error.
    pub appends_failed: Counter,
    /// Batches sent to readers.
    pub batches_sent: Counter,
    /// Bytes of those batches.
    pub batch_bytes_sent: Counter,
    /// Single entries sent to readers.
    pub entries_sent: Counter,
    /// Bulk reads under way that follow their topic.
    pub tails: Counter,
    /// Sessions with other peers that began.
    pub sessions_begun: Counter,
    /// Sessions given up because the other side took nothing for long.
    pub sessions_given_up: Counter,
    /// Messages to other peers.
    pub peer_messages_sent: Counter,
    /// Their bytes, before QUIC.
    pub peer_bytes_sent: Counter,
    /// Messages from other peers.
    pub peer_messages_received: Counter,
    /// Their bytes, before QUIC.
    pub peer_bytes_received: Counter,
    /// Messages of the gossip from other peers.
    pub gossip_messages_received: Counter,
    /// Bytes sent to other peers, by what they are for.
    pub sent_to_peers: SentCounters,
    /// Bytes of UDP sent over connections with peers that have ended.
    pub peer_udp_bytes_ended: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_quic_adds_is_what_is_left_and_never_falls() {
        let sent = SentCounters::default();
        sent.add(SentKind::Gossip, 100);
        assert_eq!(sent.read(150).of(SentKind::Quic), 50);
        sent.add(SentKind::Batch, 1_000);
        let read = sent.read(170);
        assert_eq!((read.of(SentKind::Quic), read.of(SentKind::Batch)), (50, 1_000), "it waits still");
        assert_eq!(sent.read(1_200).of(SentKind::Quic), 100);
        let names = SentKind::ALL.map(SentKind::name);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }
}
