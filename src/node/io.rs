//! What goes into the engine and what comes out of it.
use crate::base::{
    Batch, Chunk, Durability, Fork, Head, LogId, Lost, PeerId, Remains, Retention, RunId, Seq, Signature,
    SignedRemoval, Step, Timestamp, TopicName, TopicSettings,
};
use crate::node::forks::Behind;
use crate::node::topics::HeldTopic;
use crate::replication::held::Ends;
use crate::replication::{PeerInput, PeerOutput};
use crate::wire::outcome::{AppendError, Appended, ImportError, TopicChange, TopicChanged, TopicError};
use crate::wire::peer::RunRange;
use std::ops::Range;
use std::sync::Arc;

/// Who waits for an answer: a number that the runtime chose.
pub type Ticket = u64;

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// Entries to append.
    Append {
        /// Who asks.
        ticket: Ticket,
        /// The topic.
        topic: TopicName,
        /// How durable; `None`: as the topic says.
        durability: Option<Durability>,
        /// The entries, checked.
        chunk: Chunk,
    },
    /// A change to the catalog.
    Change {
        /// Who asks.
        ticket: Ticket,
        /// The change.
        change: TopicChange,
        /// What is held of that topic now.
        held: HeldTopic,
    },
    /// A batch that was signed elsewhere or earlier, verified.
    Import {
        /// Who asks.
        ticket: Ticket,
        /// The topic's name.
        topic: TopicName,
        /// The batch.
        batch: Batch,
        /// What was found of its run.
        looked: Looked,
        /// The certificate of its peer, if it is not known here yet.
        certificate: Option<Arc<[u8]>>,
    },
    /// The writer has room for a step.
    CloseStep,
    /// A step is on the disk.
    Durable {
        /// Its number.
        step: u64,
        /// What was signed about logs in it.
        stated: Vec<HeldStatement>,
        /// Where runs end that it wrote to.
        ends: Ends,
        /// Runs that were found to go on from a branch, and from which.
        moved: Vec<(LogId, RunId, RunId)>,
    },
    /// A run of some log forked: its signatures were checked.
    Fork {
        /// The topic.
        topic: TopicName,
        /// The fork.
        fork: Box<Fork>,
    },
    /// What is held of a run behind its fork.
    Forked {
        /// The fork.
        fork: Box<Fork>,
        /// What was found.
        found: Behind,
    },
    /// Something between this peer and another.
    Peer(PeerInput),
    /// A step was not written because the disk is full; nor is any later one.
    Refused {
        /// Its number.
        step: u64,
    },
    /// How much room the disk has.
    Space {
        /// Free bytes.
        free_bytes: u64,
    },
    /// What retention leaves of one of our logs.
    Planned {
        /// The log.
        log: LogId,
        /// The last run of the chain that is meant; `None`: the one that we write.
        run: Option<RunId>,
        /// The first number to keep.
        start: Seq,
        /// Whether it was asked what is too old.
        is_dated: bool,
    },
    /// An administrator says that a peer is removed for good; the signature was checked.
    Remove {
        /// Who asks.
        ticket: Ticket,
        /// What is signed.
        removal: Box<SignedRemoval>,
    },
    /// So an entry of `$catalog` says; the signature was checked.
    Removed(Box<SignedRemoval>),
    /// Somebody wants to know which of our entries no other peer holds.
    Probe {
        /// Who asks.
        ticket: Ticket,
        /// How long others have to say that they hold them, in milliseconds.
        wait_ms: u64,
    },
    /// An administrator says that the clock is right.
    AcceptClock,
    /// Time has passed.
    Tick,
}

/// A statement that is durable here.
#[derive(Debug, Clone)]
pub enum HeldStatement {
    /// How far a run is trimmed.
    Head(TopicName, Head, Signature),
    /// What is lost.
    Lost(TopicName, Lost, Signature),
    /// Where a run forked.
    Fork(TopicName, Box<Fork>),
}

/// What was found when a batch was compared with what is held of its run.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// Whether it is known to go on from what is held.
    pub is_placed: bool,
    /// The last step that was durable then.
    pub step: u64,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To an append.
    Appended(Result<Appended, AppendError>),
    /// To a change of the catalog.
    Changed(Result<TopicChanged, TopicError>),
    /// To an import.
    Imported(Result<(), ImportError>),
    /// To a probe: what no other peer said to hold; nothing where that cannot be known.
    Alone(Option<Vec<RunRange>>),
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// Nothing: it speaks of what is durable already, or of nothing.
    Now,
    /// That this step is written.
    Written(u64),
    /// That this step is durable.
    Durable(u64),
    /// That other peers hold it, which they do by now.
    Copied {
        /// How long that took, from when it was durable here.
        waited_ms: u64,
    },
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// An answer.
    Answer {
        /// To whom.
        ticket: Ticket,
        /// What it waits for.
        release: Release,
        /// What it says.
        answer: Answer,
    },
    /// To be sealed and written.
    Step(Step),
    /// Find out what retention leaves of this log.
    Plan {
        /// The log.
        log: LogId,
        /// What it keeps.
        retention: Retention,
        /// From when on entries are not too old, and the time it is; `None` while the clock may not decide.
        dated: Option<Range<Timestamp>>,
    },
    /// These topics have other settings now; none where nobody set any, or the topic was deleted.
    CatalogChanged(Vec<(TopicName, Option<TopicSettings>)>),
    /// So says an entry of `$catalog` that is durable: when it is rightly signed, the engine is to be told.
    CheckRemoval(Box<SignedRemoval>),
    /// Of the logs of a peer that was removed no more counts than this.
    Leave(PeerId, Arc<Remains>),
    /// Something for another peer.
    Peer(PeerOutput),
}
