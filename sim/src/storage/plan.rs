//! What a process is asked to write, what became of it, how it ends, and what was done to its directory.
use crate::storage::Topic;
use conveyor::base::Batch;

/// One thing to be written in a step.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a step holds few of them, for a moment")]
pub enum Plan {
    /// Entries of these payload sizes, as one batch.
    Append {
        /// The topic.
        topic: Topic,
        /// Payload bytes, 8 at least.
        sizes: Vec<u32>,
        /// Whether the client waits for the disk.
        must_sync: bool,
    },
    /// Keep this many of the newest entries.
    Trim {
        /// The topic.
        topic: Topic,
        /// How many stay.
        keep: u64,
    },
    /// A batch from elsewhere.
    Import {
        /// The topic.
        topic: Topic,
        /// The batch.
        batch: Batch,
    },
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written, and as durable as was asked.
    Done,
    /// Refused: the disk is full.
    Refused,
    /// The disk failed or the process died: the site must be stopped.
    Dead,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It said goodbye.
    Clean,
    /// It died; the machine goes on.
    Process,
    /// Power was lost.
    Power,
}

/// What was done to a directory that the model cannot follow exactly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Harm {
    /// Bits rotted: entries may be damaged, but must be told.
    pub is_rotten: bool,
    /// The device lied (a file went back in time, a write went astray): entries may be missing.
    pub has_lied: bool,
    /// Recovery cut a segment of a buffered topic.
    pub is_cut: bool,
    /// Recovery told of damage that it could not name by entry.
    pub is_told: bool,
    /// It was restored or copied: readers may have seen more than it holds.
    pub is_restored: bool,
    /// Bits that rotted.
    pub segment_flips: u64,
    /// It was brought batches by a site that could not read some before them: what is missing here is told as damaged.
    pub has_hole: bool,
    /// Whether calls may fail now.
    pub is_armed: bool,
}
