//! What goes into replication and what comes out of it.
use crate::base::limits::REPLICAS_TIMEOUT_MS_DEFAULT;
use crate::base::{Fork, Head, LogId, Lost, PeerId, Removal, RunId, Seq, Signature, StoreId, TopicName};
use crate::replication::bounds::{OFFERED_RUNS_MAX, TAKEN_BYTES_MAX};
use crate::replication::held::HeldRange;
use crate::replication::waiting::Fetched;
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
    /// Time that an append waits for other peers to hold it, once it is durable here.
    pub replicas_timeout_ms: u64,
    /// Memory of the batches that were taken from others and are not durable here yet. Three eighths of it are for those that
    /// wait for what comes before them; with an eighth on its way to the disk no more is asked for; and half of it is for
    /// what was asked for by then.
    pub taken_bytes_max: usize,
    /// Runs that all other stores together may be remembered to offer, of which one has an eighth at most.
    pub offered_runs_max: usize,
}

impl ReplicationConfig {
    /// What there is when nobody sets anything.
    pub const DEFAULT: Self = Self {
        compare_ms: 5_000,
        lease_ms: 10_000,
        want_bytes_max: 1 << 20,
        want_entries_max: 16_384,
        replicas_timeout_ms: REPLICAS_TIMEOUT_MS_DEFAULT,
        taken_bytes_max: TAKEN_BYTES_MAX,
        offered_runs_max: OFFERED_RUNS_MAX,
    };
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long ago what waits was written, as far as that is known; in the order in which it is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Just now: others will say that they hold it.
    New,
    /// It was appended again: others may have said long ago that they hold it.
    Repeat,
    /// Any time: somebody looks who holds it, and there may be nobody.
    Looked,
}

/// Entries that wait until other peers hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Await {
    /// Who asks.
    pub ticket: u64,
    /// Its entries, of a run of our own, durable here.
    pub range: RunRange,
    /// How many other peers must hold them all.
    pub others: u8,
    /// When they were written.
    pub age: Age,
    /// How long it waits, in milliseconds; `None`: as is set for appends.
    pub timeout_ms: Option<u64>,
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
    /// A batch came that there is [room](crate::replication::Replication::has_room_for) for; it is being checked, and on its
    /// way to the disk.
    Took {
        /// From whom.
        from: StoreId,
        /// Its entries.
        range: RunRange,
        /// What it takes until then.
        bytes: usize,
        /// Whether it came without being asked for.
        is_pushed: bool,
    },
    /// A batch that was asked for came when there was no room for it.
    NoRoom(StoreId, RunRange),
    /// A batch came that was not asked for, with its number.
    Pushed(StoreId, u64),
    /// It was not taken: it is here, or was on its way, or nobody could say what it is. With 64 bits of its link.
    NotTaken(StoreId, RunRange, u64),
    /// It is what its peer signed.
    Fetched(Box<Fetched>),
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
    /// A fork is durable here.
    HeldFork(TopicName, Box<Fork>),
    /// What was taken and is not durable yet will never be.
    Forget,
    /// What was to be served to a store was sent, as far as it could be.
    Served(StoreId),
    /// What is durable here waits for other peers.
    Await(Vec<Await>),
    /// A peer is removed for good, as an administrator signed.
    Removed(Box<Removal>),
    /// What was written here of a run from `from` on is of a branch of it.
    Renamed {
        /// The log.
        log: LogId,
        /// The run that forked.
        run: RunId,
        /// Where.
        from: Seq,
        /// The branch.
        branch: RunId,
    },
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
    /// The batches of a range, each with the number of its store; where they are too many bytes, `Have`.
    Push {
        /// To whom.
        to: Vec<(StoreId, u64)>,
        /// Which entries.
        range: RunRange,
    },
    /// A batch to be stored.
    Store(Box<Fetched>),
    /// A head of another store's to be made durable here.
    StoreHead(TopicName, Head, Signature),
    /// A range declared lost to be made durable here.
    StoreLost(TopicName, Lost, Signature),
    /// A fork that others know, to be made durable here.
    StoreFork(TopicName, Box<Fork>),
    /// Another store ends a run with another batch than this one, the one that holds `at`.
    Differs {
        /// The store.
        from: StoreId,
        /// The log.
        log: LogId,
        /// The run.
        run: RunId,
        /// The last entry.
        at: Seq,
    },
    /// As many other peers as were waited for hold an append.
    Copied {
        /// Who asked.
        ticket: u64,
        /// They, and any others that do.
        holders: Vec<(PeerId, StoreId)>,
        /// How long that took, from when it was durable here.
        waited_ms: u64,
    },
    /// They do not, and its time is over.
    Late {
        /// Who asked.
        ticket: u64,
        /// Those that do.
        holders: Vec<(PeerId, StoreId)>,
        /// The peers with which there is a session now, and this one.
        available: usize,
    },
}
