//! A step: what the engine decided and the log is to write together, numbered and stamped, not yet sealed.
//!
//! The engine makes steps and the log writes them; neither needs to know the other.
use crate::base::chunk::Chunk;
use crate::base::{Batch, Fork, Head, LogId, Lost, PeerId, RunId, Seq, Signature, Timestamp, TopicName};
use std::sync::Arc;

/// What is to be written together.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Its number; steps are written in order.
    pub number: u64,
    /// What it holds, in order.
    pub work: Vec<Work>,
}

/// One thing to be written.
#[derive(Debug, Clone)]
pub enum Work {
    /// Entries of our own, numbered and stamped.
    Append(AppendWork),
    /// A batch of another peer (or an earlier one of ours) that was verified.
    Foreign {
        /// The topic's name.
        topic: TopicName,
        /// The batch.
        batch: Batch,
    },
    /// What is kept of one of our own logs from now on.
    Trim {
        /// The log.
        log: LogId,
        /// The last run of the chain that is meant; `None`: the one that we write.
        run: Option<RunId>,
        /// The first number that is kept.
        start: Seq,
        /// Our time.
        time: Timestamp,
    },
    /// Nothing new: what a log holds is made durable, buffered or not.
    Sync {
        /// The log.
        log: LogId,
    },
    /// A range of one of our own logs that no one holds any more.
    Lost(Lost),
    /// A head that a log's peer signed elsewhere.
    ForeignHead {
        /// The topic's name.
        topic: TopicName,
        /// The head.
        head: Head,
        /// Its signature, checked.
        signature: Signature,
    },
    /// A range that its peer declared lost elsewhere.
    ForeignLost {
        /// The topic's name.
        topic: TopicName,
        /// The range.
        lost: Lost,
        /// Its signature, checked.
        signature: Signature,
    },
    /// Where a run is known to have forked: what it held behind that is stored already, as of a branch.
    Fork {
        /// The topic's name.
        topic: TopicName,
        /// The fork; its signatures were checked.
        fork: Box<Fork>,
    },
    /// The certificate of a peer whose batches are stored.
    Certificate {
        /// The peer.
        peer: PeerId,
        /// Its certificate, DER.
        der: Arc<[u8]>,
    },
}

/// Entries that become one batch of our own.
#[derive(Debug, Clone)]
pub struct AppendWork {
    /// The topic's name.
    pub topic: TopicName,
    /// The log.
    pub log: LogId,
    /// The run.
    pub run: RunId,
    /// The run it goes on from.
    pub parent: RunId,
    /// Whether it is the run's first batch.
    pub opens_run: bool,
    /// The number of the first entry.
    pub first_seq: Seq,
    /// The time of the first entry.
    pub first_time: Timestamp,
    /// The entries.
    pub chunks: Vec<Chunk>,
    /// Whether the topic's bytes skip the journal.
    pub is_buffered: bool,
    /// Whether someone waits for the disk.
    pub must_sync: bool,
}
