//! What goes into replication and what comes out of it.
use crate::base::{Head, Lost, PeerId, Signature, StoreId, TopicName};
use crate::replication::held::HeldRange;
use crate::wire::peer::{PeerMessage, RunRange};

/// Settings.
#[derive(Debug, Clone, Copy)]
pub struct ReplicationConfig {
    /// Time between two comparisons of a session.
    pub compare_ms: u64,
    /// Time after which what was asked and did not come is asked of another.
    pub lease_ms: u64,
    /// Bytes asked for at once.
    pub want_bytes_max: u64,
    /// Entries asked for at once: what one store is asked, several can share.
    pub want_entries_max: u64,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self { compare_ms: 5_000, lease_ms: 10_000, want_bytes_max: 1 << 20, want_entries_max: 4_096 }
    }
}

/// What comes in.
#[derive(Debug)]
pub enum PeerInput {
    /// A session began.
    Up(StoreId, PeerId),
    /// It ended.
    Down(StoreId),
    /// A message came; whatever is signed in it was checked.
    Message(StoreId, PeerMessage),
    /// A batch that was asked for came; it is being checked, and on its way to the disk.
    Took(StoreId, RunRange),
    /// A batch that came from a store is none: its signature or its bytes are wrong.
    Refused(StoreId, RunRange),
    /// Entries are durable here.
    Held(TopicName, HeldRange),
    /// Entries are not held here any more.
    Gone(RunRange),
    /// A head is durable here.
    HeldHead(TopicName, Head, Signature),
    /// A range declared lost is durable here.
    HeldLost(TopicName, Lost, Signature),
    /// What was taken and is not durable yet will never be.
    Forget,
}

/// What goes out.
#[derive(Debug)]
pub enum PeerOutput {
    /// A message.
    Send(StoreId, PeerMessage),
    /// Batches from the one that holds the first entry on, then [`PeerMessage::Sent`].
    Serve {
        /// To whom.
        to: StoreId,
        /// Which entries.
        range: RunRange,
        /// Bytes at most, but for the first batch.
        bytes_max: u64,
        /// Whether the certificate of the log's peer goes first.
        certificate: bool,
    },
    /// A head of another store's to be made durable here.
    StoreHead(TopicName, Head, Signature),
    /// A range declared lost to be made durable here.
    StoreLost(TopicName, Lost, Signature),
}
