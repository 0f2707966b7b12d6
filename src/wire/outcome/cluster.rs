//! What a peer answers of the cluster: who belongs to it, what it lacks, what nobody else holds, and what a removed peer left.
use crate::base::removal::RUN_ENDS_MAX;
use crate::base::{PeerId, PeerName, RunId, Seq, StoreId, TopicId, TopicName};
use crate::wire::outcome::{Holder, ReadError, TopicError};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// How a peer stands to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Entries that others say they hold, and that are not held here, each once; as of the last second.
    pub missing_entries: u64,
    /// Milliseconds for which there have been any without a break.
    pub behind_ms: Option<u64>,
    /// Each peer that it has a session with.
    pub peers: Vec<SyncPeer>,
}

/// How a peer stands to another that it has a session with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPeer {
    /// The other.
    pub holder: Holder,
    /// Time there and back, in microseconds.
    pub rtt_us: u64,
    /// Entries that it says it holds, and that are not held here.
    pub missing_entries: u64,
    /// Of so many runs.
    pub missing_runs: u64,
    /// Entries that it was asked for and has not sent yet.
    pub asked_entries: u64,
    /// Whether it wants to be left alone for a moment.
    pub is_resting: bool,
    /// Milliseconds since either last began to compare what both hold: where nothing differs nobody answers.
    pub compared_ago_ms: Option<u64>,
    /// Bytes of all packets that came from it in this session.
    pub received_bytes: u64,
    /// Bytes of all that were sent to it.
    pub sent_bytes: u64,
}

/// Entries that a peer wrote, and that no other peer says it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alone {
    /// Whether that could be found out: not at a peer that has stopped.
    pub is_known: bool,
    /// By topic.
    pub topics: Vec<AloneIn>,
}

impl Alone {
    /// How many entries they are.
    pub fn entry_count(&self) -> u64 {
        self.topics.iter().map(|of_topic| of_topic.entries).sum()
    }
}

/// Those of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AloneIn {
    /// The topic; `None` where its name is not known.
    pub topic: Option<TopicName>,
    /// How many.
    pub entries: u64,
}

/// Why an entry is or is not at the peer asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What is known of it here.
    pub why: Why,
    /// The peer that wrote it, where that is known.
    pub writer: Option<PeerId>,
    /// Whether that was removed for good.
    pub is_writer_removed: bool,
    /// Those who say they hold it, where it is not here.
    pub offered_by: Vec<Holder>,
    /// Those of them that were asked for it, and have not sent it yet.
    pub asked_of: Vec<Holder>,
}

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It is here.
    Here,
    /// Its run ends before it, as far as is known here.
    Ahead {
        /// The number behind the last that is here.
        until: Seq,
    },
    /// It never came, and later ones did.
    Hole,
    /// It is here, and does not count: its peer was removed.
    SetAside,
    /// What whoever asks for it is told.
    Error(ReadError),
}

/// One peer of the cluster, as the peer asked knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its data directory during this start.
    pub store: StoreId,
    /// Its key.
    pub peer: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Where others reach it; `None`: not known yet.
    pub address: Option<SocketAddr>,
    /// How it stands to the peer asked.
    pub state: MemberState,
}

/// How a peer stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// It is the one that was asked.
    Oneself,
    /// They are connected.
    Connected {
        /// Time to it and back, in microseconds.
        rtt_us: u64,
    },
    /// Others hear from it.
    Alive,
    /// Nobody heard from it for some seconds.
    Dead,
}

impl MemberState {
    /// Whether it is the peer asked, or connected to that.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Oneself | Self::Connected { .. })
    }
}

/// Why a peer is not removed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RemoveError {
    /// The caller's certificate does not allow it: removing peers is for administrators of all topics.
    #[error("this certificate does not allow removing a peer")]
    Forbidden,
    /// The bytes are no removal. Mend the client.
    #[error("these bytes are no removal of a peer")]
    Malformed,
    /// No administrator of this cluster signed it.
    #[error("the removal is not signed by an administrator of this cluster")]
    Unsigned,
    /// It was asked of the peer that it removes, whom nobody hears any more. Ask another.
    #[error("a peer is not removed by asking that peer; ask another")]
    Itself,
    /// It names more runs than fit into one.
    #[error("the removal names {count} runs, the limit is {RUN_ENDS_MAX}")]
    TooMany {
        /// How many.
        count: u64,
    },
    /// The peer asked is stopping, was removed itself, or its disk is full.
    #[error(transparent)]
    Refused(#[from] TopicError),
}

/// What a peer holds of another's logs, in all topics: a part of it, where there are many runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldOf {
    /// Whether the peer asked knows that the other was removed.
    pub is_removed: bool,
    /// Entries that it has set aside, since that.
    pub aside_count: u64,
    /// For each run the number behind its last entry here, what is set aside included.
    pub ends: Vec<(TopicId, RunId, Seq)>,
}

/// Entries that the peer asked has of a removed peer, and that do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// The topic; `None` where its name is not known here.
    pub topic: Option<TopicName>,
    /// Who wrote them.
    pub peer: PeerId,
    /// What people call it, where known.
    pub name: Option<PeerName>,
    /// The run.
    pub run: RunId,
    /// The first.
    pub from: Seq,
    /// The number behind the last.
    pub until: Seq,
}
