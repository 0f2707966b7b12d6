//! What consumers ask of a group, and what they are told: the same for every adapter and for the client library.
use crate::base::{Cursor, EntryId, GroupName, NameError, PeerId, PeerName, TopicName};
use crate::wire::outcome::{AppendError, ReadError, ReadFrom};
use serde::{Deserialize, Serialize};

/// Leases that one request may ask for, and ids that one may name.
pub const GROUP_COUNT_MAX: usize = 1024;
/// Raw bytes of entries that one request may ask for, but for one larger.
pub const GROUP_BYTES_MAX: u64 = 16 << 20;
/// The longest lease, in milliseconds: twelve hours.
pub const LEASE_MS_MAX: u64 = 12 * 3600 * 1000;
/// The longest delay of what is given back, in milliseconds: ten years.
pub const RETRY_DELAY_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;

/// What a group does with an entry that was handed out as often as it may be and was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WhenExhausted {
    /// It is kept aside: listed, and handed out again only after a rewind.
    #[default]
    Keep,
    /// It counts as done, and is counted.
    Drop,
    /// It is appended to this topic, with what it was, and counts as done.
    Topic(TopicName),
}

/// How a group hands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSettings {
    /// How long a lease lasts that does not say, in milliseconds.
    pub lease_ms: u64,
    /// How often an entry is handed out at most; 0: without end.
    pub max_deliveries: u32,
    /// What becomes of it then.
    pub when_exhausted: WhenExhausted,
    /// How long an entry waits that was given back, or whose lease ended, in milliseconds, where whoever gave it back does not say.
    pub retry_delay_ms: u64,
    /// Where entries go that expired before they were acknowledged; `None`: they count as done, and are counted.
    pub expire_to: Option<TopicName>,
    /// Whether nothing is handed out at present.
    pub is_paused: bool,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            max_deliveries: 0,
            when_exhausted: WhenExhausted::Keep,
            retry_delay_ms: 0,
            expire_to: None,
            is_paused: false,
        }
    }
}

/// An entry as a consumer has it: named by its id, and by the number of the lease under which it was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lease {
    /// The entry.
    pub id: EntryId,
    /// The lease: 64 bits that no other lease of this group has.
    pub number: u64,
}

/// What a consumer asks of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupRequest {
    /// Make it. It is there already when somebody made it before.
    Create {
        /// From where on it hands out.
        from: ReadFrom,
        /// How.
        settings: GroupSettings,
    },
    /// Change how it hands out.
    Set {
        /// How, from now on.
        settings: GroupSettings,
    },
    /// Hand out again from another place on: what was acknowledged behind it too.
    Rewind {
        /// From where on.
        to: ReadFrom,
    },
    /// Forget it.
    Delete,
    /// How it is doing.
    Info,
    /// Entries to work on. First what `acked` names is acknowledged.
    Next {
        /// Entries at most; 0: only acknowledge.
        count_max: u32,
        /// Raw bytes of them at most; the first comes whatever its size.
        bytes_max: u64,
        /// How long they are leased, in milliseconds; `None`: as the group is set.
        lease_ms: Option<u64>,
        /// How long to wait where there is none, in milliseconds.
        wait_ms: u64,
        /// What is done, at most 1 024.
        acked: Vec<EntryId>,
    },
    /// These are done, whoever has them, at most 1 024. Nobody is handed them again, but by a rewind.
    Ack {
        /// Which.
        ids: Vec<EntryId>,
    },
    /// Give these back.
    Nack {
        /// Which, at most 1 024.
        leases: Vec<Lease>,
        /// How long nobody is handed them, in milliseconds; `None`: as the group is set.
        delay_ms: Option<u64>,
        /// Whether it counts as a delivery.
        counts: bool,
    },
    /// Keep these longer.
    Extend {
        /// Which, at most 1 024.
        leases: Vec<Lease>,
        /// How long from now on, in milliseconds; `None`: as the group is set.
        lease_ms: Option<u64>,
    },
}

/// What came of a [`GroupRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupAnswer {
    /// It is done, and durable here.
    Done {
        /// Whether anything is different now.
        is_changed: bool,
    },
    /// How the group is doing, as far as this peer knows.
    Info(Box<GroupInfo>),
    /// Entries, leased; fewer than asked for, or none, where there are no more.
    Leased(Vec<Delivery>),
    /// For each id in turn whether it was news that it is done.
    Acked(Vec<bool>),
    /// For each lease in turn what became of it.
    Leases(Vec<Result<(), LeaseError>>),
}

/// An entry that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Under which lease.
    pub lease: Lease,
    /// How long it lasts from now on, in milliseconds.
    pub lease_ms: u64,
    /// The how manieth time it was handed out, as far as is known: 1 for the first.
    pub attempt: u32,
}

/// Why a lease cannot be given back or extended. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum LeaseError {
    /// It ended, or never was: somebody else may have the entry.
    #[error("this lease is not, or no more: the entry may have been handed out again")]
    Unknown,
    /// The entry is acknowledged.
    #[error("the entry is acknowledged already")]
    Acked,
    /// The peer that handed it out cannot be reached; the lease ends by itself.
    #[error("the peer that handed this out cannot be reached now; the lease ends by itself")]
    Unreachable,
}

/// How a group is doing at one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Its name.
    pub name: GroupName,
    /// How it hands out.
    pub settings: GroupSettings,
    /// The entry of the topic's `$groups/…` that began it, or the last rewind.
    pub epoch: EntryId,
    /// When that was, in Unix milliseconds.
    pub since_unix_ms: u64,
    /// From where on it hands out.
    pub start: Cursor,
    /// Entries read here that wait to be handed out; more may follow that were not read yet.
    pub ready_count: u64,
    /// Entries that wait for their time.
    pub delayed_count: u64,
    /// Entries that this peer leased.
    pub leased_count: u64,
    /// Entries that are acknowledged, as far as this peer knows, since the epoch began.
    pub acked_count: u64,
    /// Acknowledged ranges behind the first entry that is not: at most 1 048 576 entries lie between that and the last lease.
    pub hole_count: u64,
    /// Entries kept aside since they were handed out too often, the first 1 024.
    pub exhausted: Vec<EntryId>,
    /// Consumers that wait at this peer.
    pub waiting_count: u64,
    /// Entries that were handed out again by this peer, and why.
    pub redelivered: Redelivered,
    /// Who hands out which peer's entries, as this peer sees it.
    pub dispensers: Vec<Dispensing>,
}

/// Who hands out a log's entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispensing {
    /// Whose log.
    pub peer: PeerId,
    /// Who hands it out.
    pub by: PeerId,
    /// What people call the log's peer, where known.
    pub name: Option<PeerName>,
}

/// How often entries were handed out again, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Redelivered {
    /// Their lease had ended.
    pub expired: u64,
    /// They were given back.
    pub nacked: u64,
    /// Whoever had them went away.
    pub left: u64,
    /// The peer that hands them out had started anew, or took them over.
    pub restarted: u64,
}

/// Why a request to a group was not carried out. Unless said otherwise nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GroupError {
    /// The caller's certificate does not allow it.
    #[error("this certificate does not allow that with groups of topic {topic:?}")]
    Forbidden {
        /// The topic.
        topic: TopicName,
    },
    /// A name is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such group is known here.
    #[error("topic {topic:?} has no group {group:?} here; make it with `conveyor group create`")]
    Unknown {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// There are too many groups of this topic.
    #[error("a topic has at most {max} groups")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The place to begin at is not one.
    #[error(transparent)]
    Place(#[from] ReadError),
    /// What it would have written could not be.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A number is over its limit.
    #[error("the request is over its limits: {what}")]
    Limit {
        /// Which.
        what: String,
    },
    /// Too many consumers wait here. Ask later, or at another peer.
    #[error("too many consumers wait at this peer")]
    Busy,
    /// An id names an entry of another topic, or of a log that was never heard of here. Ids before it in the request are not
    /// acknowledged either.
    #[error("no log of this topic fits entry {} of peer {}, run {}", id.seq, id.peer.short(), id.run)]
    IdUnknown {
        /// Which.
        id: EntryId,
    },
    /// The peer is stopping.
    #[error("the peer is stopping")]
    Stopped,
}

/// What peers say to each other about the groups of a topic. All of it is hints and leases: what is lost is made good by time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupMessage {
    /// Consumers of this group are at the sender: please offer. Said again each second while there are.
    Demand {
        /// The group.
        group: GroupName,
        /// Logs of others that the receiver hands out, as the sender sees it.
        of: Vec<PeerId>,
    },
    /// Of these logs the sender hands out nothing, whatever the receiver thinks: it is connected to their own peers, say.
    NotMine {
        /// The group.
        group: GroupName,
        /// The logs.
        logs: Vec<PeerId>,
    },
    /// What waits at the sender to be handed out, where it was asked to offer.
    Offer {
        /// The group.
        group: GroupName,
        /// The highest priority among it.
        priority: u8,
        /// How long the oldest of that priority has waited, in milliseconds.
        waited_ms: u64,
        /// How many entries, at least.
        count: u32,
    },
    /// Please lease entries that the sender's consumers wait for.
    Lease {
        /// The group.
        group: GroupName,
        /// What the answer names.
        ticket: u64,
        /// Entries at most.
        count_max: u32,
        /// Raw bytes at most, but for the first.
        bytes_max: u64,
        /// How long, in milliseconds.
        lease_ms: Option<u64>,
    },
    /// The answer: fewer than asked for, or none, where there are no more now.
    Leased {
        /// What was asked.
        ticket: u64,
        /// The leases; `lease_ms` counts from when this is received.
        leases: Vec<Delivery>,
    },
    /// Leases that nobody used: not counted.
    Return {
        /// The group.
        group: GroupName,
        /// Which.
        leases: Vec<Lease>,
    },
    /// Please give back, for a consumer of the sender.
    Nack {
        /// The group.
        group: GroupName,
        /// What the answer names.
        ticket: u64,
        /// Which.
        leases: Vec<Lease>,
        /// `None`: as the group is set.
        delay_ms: Option<u64>,
        /// Whether it counts as a delivery.
        counts: bool,
    },
    /// Please keep longer, for a consumer of the sender.
    Extend {
        /// The group.
        group: GroupName,
        /// What the answer names.
        ticket: u64,
        /// Which.
        leases: Vec<Lease>,
        /// `None`: as the group is set.
        lease_ms: Option<u64>,
    },
    /// What became of leases that were given back or extended, in turn.
    Leases {
        /// What was asked.
        ticket: u64,
        /// The outcomes.
        outcomes: Vec<Result<(), LeaseError>>,
    },
    /// Acknowledged at the sender, and about to be in its log: nobody need be handed them meanwhile.
    Acked {
        /// The group.
        group: GroupName,
        /// Which.
        ids: Vec<EntryId>,
    },
}

impl GroupMessage {
    /// About how many bytes it takes on its way.
    pub fn wire_bytes(&self) -> usize {
        let ids = match self {
            Self::Demand { of: logs, .. } | Self::NotMine { logs, .. } => logs.len(),
            Self::Offer { .. } | Self::Lease { .. } => 0,
            Self::Leased { leases, .. } => leases.len(),
            Self::Return { leases, .. } | Self::Nack { leases, .. } | Self::Extend { leases, .. } => {
                leases.len()
            }
            Self::Leases { outcomes, .. } => outcomes.len() / 40,
            Self::Acked { ids, .. } => ids.len(),
        };
        100 + 80 * ids
    }
}
