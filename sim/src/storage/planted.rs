//! Bugs put in on purpose, to show that the simulation finds what it is for.
//!
//! Each is a lie of the disk below the log, or of the hand that breaks it: a sync that is passed over is the same to
//! power loss whoever forgot it. So nothing is planted in the code under test.
use crate::storage::site::CONFIG;
use conveyor::log::place::{CHECKPOINT_NEW, JOURNAL_DIR, TOPICS_DIR};
use conveyor::log::record::{HEADER_BYTES, Lsn, RecordHeader, RecordKind};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Appends are acknowledged before the journal is synced.
    AckBeforeSync,
    /// The journal, or a checkpoint, speaks of bytes in segments that are not synced.
    SegmentsNotSynced,
    /// Names of segments are not made durable.
    NamesNotSynced,
    /// A checkpoint takes the place of the one before without being on the disk.
    CheckpointNotSynced,
    /// A checkpoint says that it covers the journal file that is being written.
    CheckpointCoversTooMuch,
    /// What lies behind the end of a journal file is not cut off.
    TornTailKept,
    /// Damage takes its neighbours too.
    DamageTakesNeighbours,
    /// The scrub passes over the last batch of what it reads.
    ScrubSkipsLastBatch,
}

/// All of them.
pub const PLANTS: [Plant; 8] = [
    Plant::AckBeforeSync,
    Plant::SegmentsNotSynced,
    Plant::NamesNotSynced,
    Plant::CheckpointNotSynced,
    Plant::CheckpointCoversTooMuch,
    Plant::TornTailKept,
    Plant::DamageTakesNeighbours,
    Plant::ScrubSkipsLastBatch,
];

impl Plant {
    /// Whether a sync of the file at `path` is passed over.
    pub fn skips_sync(self, path: &str) -> bool {
        match self {
            Self::AckBeforeSync => path.starts_with(JOURNAL_DIR),
            Self::SegmentsNotSynced => path.ends_with(".segment"),
            Self::CheckpointNotSynced => path == CHECKPOINT_NEW,
            _ => false,
        }
    }

    /// Whether a sync of the directory `dir` is passed over.
    pub fn skips_sync_dir(self, dir: &str) -> bool {
        self == Self::NamesNotSynced && dir.starts_with(TOPICS_DIR)
    }

    /// What is written in place of `bytes`, which are all that is written in one call.
    pub fn rewrite(self, path: &str, offset: u64, mut bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::CheckpointCoversTooMuch if path == CHECKPOINT_NEW => cover_too_much(&mut bytes),
            Self::TornTailKept if offset == 0 && path.starts_with(JOURNAL_DIR) => keep_tail(&mut bytes),
            _ => {}
        }
        bytes
    }
}

/// Bytes 8 to 16 of a checkpoint say from which record of the journal on nothing is covered, the last four are its
/// checksum.
fn cover_too_much(checkpoint: &mut [u8]) {
    let Some((covered, crc)) = checkpoint.split_last_chunk_mut::<4>() else { return };
    if let Some(number) = covered.get_mut(12) {
        *number += 1;
    }
    *crc = crc32c::crc32c(covered).to_le_bytes();
}

/// The first record of a journal file says where the file before it ended, and from where on it holds copies.
fn keep_tail(record: &mut [u8]) {
    let Some((header, payload)) = record.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let (Some(mut decoded), Some((end, rest))) =
        (RecordHeader::decode(header), payload.split_first_chunk_mut::<8>())
    else {
        return;
    };
    let number = Lsn(u64::from_le_bytes(*end)).number();
    if decoded.kind == RecordKind::Open && number > 0 {
        *end = Lsn::new(number, CONFIG.journal_file_bytes).0.to_le_bytes();
        rest[..8].copy_from_slice(end);
        decoded.payload_crc = crc32c::crc32c(&payload[..16]);
        *header = decoded.encode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::run_planted;

    /// Seeds in which each bug is found at the latest; some need faults to meet that few seeds have.
    const SEEDS_MAX: u64 = 300;

    #[test]
    fn every_planted_bug_is_found_by_one_of_the_first_seeds() {
        for plant in PLANTS {
            let found = (0..SEEDS_MAX).find(|seed| run_planted(*seed, plant).failure.is_some());
            assert!(found.is_some(), "{plant:?} is not found by {SEEDS_MAX} seeds");
            println!("{plant:?}: found by seed {found:?}");
        }
    }
}
