//! What goes into the engine of a topic's groups, and what comes out of it.
use crate::base::{ClusterId, Cursor, EntryId, GroupName, PeerId, ProducerId, Timestamp, TopicId, TopicName};
use crate::group::write::GroupWrite;
use crate::wire::group::{GroupAnswer, GroupError, GroupInfo, GroupMessage, GroupSettings, Lease};
use crate::wire::outcome::AppendError;

/// Who waits for an answer, or which append or reading is meant: a number that whoever asked chose.
pub type Ticket = u64;

/// Whose leases end together: a consumer's stream. 0: nobody's; such leases end by their time alone.
pub type Consumer = u64;

/// What a reading is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading(pub u64);

/// What the engine is told at its making.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This peer.
    pub peer: PeerId,
    /// The topic whose groups these are.
    pub topic: TopicName,
    /// Its id.
    pub topic_id: TopicId,
    /// 64 random bits: where the numbers of leases begin.
    pub drawn: u64,
    /// Entries of each group that are read and wait, at most (`ready` and delayed together).
    pub window_count_max: usize,
    /// Entries between the first that is not acknowledged and the last lease, at most.
    pub span_count_max: u64,
    /// Consumers that wait at most, over all groups of the topic.
    pub waiting_count_max: usize,
    /// How much longer another's oldest entry must wait than ours before it goes first, in milliseconds.
    pub dispense_wait_ms_max: u64,
    /// Groups of the topic at most.
    pub group_count_max: usize,
}

impl GroupConfig {
    /// The id of the topic that holds what the groups did.
    pub fn groups_topic(&self) -> TopicId {
        TopicId::of(self.cluster, self.topic.of_groups().as_str())
    }
}

/// What the engine knows of an entry of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its id.
    pub id: EntryId,
    /// Its time.
    pub time: Timestamp,
    /// Its priority, 0 to 9.
    pub priority: u8,
    /// Raw bytes.
    pub bytes: u32,
    /// Unix milliseconds before which it is not handed out.
    pub deliver_at_ms: Option<u64>,
    /// Unix milliseconds from which on it is not.
    pub expire_at_ms: Option<u64>,
    /// Who produced it, under which number.
    pub producer: Option<(ProducerId, u64)>,
}

/// What a consumer asks, with every place found and every id checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Make the group.
    Create {
        /// From where on.
        start: Cursor,
        /// How it hands out.
        settings: GroupSettings,
    },
    /// Change how it hands out.
    Set(GroupSettings),
    /// Begin anew from there.
    Rewind {
        /// From where on.
        start: Cursor,
    },
    /// Forget it.
    Delete,
    /// How it is doing.
    Info,
    /// Entries, after acknowledging some. It is answered when the acknowledgement is durable, and there are entries or the
    /// wait is over.
    Next {
        /// Whose leases they are.
        consumer: Consumer,
        /// At most; 0: acknowledge alone.
        count_max: u32,
        /// Raw bytes at most, but for the first.
        bytes_max: u64,
        /// `None`: as the group is set.
        lease_ms: Option<u64>,
        /// How long it waits.
        wait_ms: u64,
        /// What is done.
        acked: Vec<EntryId>,
    },
    /// These are done.
    Ack(Vec<EntryId>),
    /// Give back.
    Nack {
        /// Which.
        leases: Vec<Lease>,
        /// `None`: as the group is set.
        delay_ms: Option<u64>,
        /// Whether it counts as a delivery.
        counts: bool,
    },
    /// Keep longer.
    Extend {
        /// Which.
        leases: Vec<Lease>,
        /// `None`: as the group is set.
        lease_ms: Option<u64>,
    },
}

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// An entry of `$groups/<topic>` that is durable here: found at the start, written since, or brought by others.
    Written {
        /// Its id.
        id: EntryId,
        /// Its time.
        time: Timestamp,
        /// What it says.
        write: GroupWrite,
    },
    /// All of them that were held at the start were brought: requests are answered from now on, those that came before too.
    CaughtUp,
    /// A request.
    Asked {
        /// Who asks.
        ticket: Ticket,
        /// Of which group.
        group: GroupName,
        /// What.
        ask: Ask,
    },
    /// All groups are asked for.
    List {
        /// Who asks.
        ticket: Ticket,
    },
    /// Whoever asked does not wait any more.
    Gone {
        /// Who.
        ticket: Ticket,
    },
    /// A consumer is gone: what it has is handed out again.
    Left {
        /// Who.
        consumer: Consumer,
    },
    /// Entries that [`Output::Read`] asked for, in the order of the reader.
    Read {
        /// Which reading.
        reading: Reading,
        /// Which entries.
        entries: Vec<Meta>,
        /// The position behind them.
        behind: Cursor,
        /// Whether nothing more is held now: [`Input::Grew`] follows when there is.
        at_end: bool,
    },
    /// There may be more to read than when a reading came to its end.
    Grew {
        /// Which reading.
        reading: Reading,
    },
    /// What became of [`Output::Append`].
    Appended {
        /// Which.
        ticket: Ticket,
        /// The entry, durable, and its time. [`Input::Written`] brings it too, before or after.
        result: Result<(EntryId, Timestamp), AppendError>,
    },
    /// What became of [`Output::Copy`].
    Copied {
        /// Which.
        ticket: Ticket,
        /// Whether it is there, durable; an entry that is no longer held counts as copied.
        is_done: bool,
    },
    /// The peers that this one is connected to, this one left out.
    Peers(Vec<PeerId>),
    /// What another peer says about groups of this topic.
    Heard {
        /// Who.
        from: PeerId,
        /// What.
        message: GroupMessage,
    },
    /// The peer stops: what consumers ask is answered [`GroupError::Stopped`] from now on, and each group that leased anything
    /// writes that it rests.
    Rest,
    /// Time has passed.
    Tick,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// An answer.
    Answer {
        /// To whom.
        ticket: Ticket,
        /// What.
        answer: Result<GroupAnswer, GroupError>,
    },
    /// All groups, in order of their names.
    Listed {
        /// To whom.
        ticket: Ticket,
        /// The groups.
        groups: Vec<GroupInfo>,
    },
    /// To be appended to `$groups/<topic>`, durably; answered by [`Input::Appended`]. Appends keep their order.
    Append {
        /// Which.
        ticket: Ticket,
        /// What.
        write: GroupWrite,
    },
    /// To be appended to another topic, with what it was and where it is from; answered by [`Input::Copied`].
    Copy {
        /// Which.
        ticket: Ticket,
        /// The entry.
        id: EntryId,
        /// Where to.
        to: TopicName,
        /// Of which group, for its headers.
        group: GroupName,
        /// Why, for its headers.
        why: crate::group::write::Done,
        /// How often it was handed out, for its headers.
        attempts: u32,
    },
    /// Begin to read the topic from there.
    Open {
        /// What this is called.
        reading: Reading,
        /// From where on.
        from: Cursor,
    },
    /// Read so many entries more, or fewer when there are no more; answered by one [`Input::Read`].
    Read {
        /// Which.
        reading: Reading,
        /// Entries at most.
        count_max: usize,
    },
    /// It is not needed any more.
    Close {
        /// Which.
        reading: Reading,
    },
    /// Entries of our own log of `$groups/<topic>` below this one are said again and may go.
    Trim {
        /// The first to keep.
        before: EntryId,
    },
    /// Something for another peer.
    Tell {
        /// To whom.
        to: PeerId,
        /// What.
        message: GroupMessage,
    },
}
