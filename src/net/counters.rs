//! What happened at the edge, for the metrics page.
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
}
