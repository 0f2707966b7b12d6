//! Data frames that are not bincode: batches and single entries behind a small prefix of fixed layout.
//!
//! ```text
//! batch   from seq u64 | release until u64 | the batch as stored
//! entry   peer 32 | run u64 | signed run u64 | seq u64 | time u64 | the raw entry
//! ```
use crate::base::bytes_io::{Reader, Truncated};
use crate::base::{Batch, BatchError, EntryId, EntryView, PeerId, RunId, Seq, Timestamp, TopicId};
use crate::wire::contents::RawEntry;
use crate::wire::frame::{BATCH_PREFIX_BYTES, ENTRY_PREFIX_BYTES};
use bytes::Bytes;

/// The payload of a data frame is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// It ends inside its prefix.
    #[error("a data frame ends inside its prefix")]
    Truncated,
    /// What follows the prefix is no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What follows the prefix is not one entry.
    #[error("a data frame does not hold one entry")]
    Entry,
}

impl From<Truncated> for DataError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// What stands before a batch.
pub fn batch_prefix(from: Seq, release_until: Timestamp) -> [u8; BATCH_PREFIX_BYTES] {
    let mut out = [0; BATCH_PREFIX_BYTES];
    out[..8].copy_from_slice(&from.0.to_le_bytes());
    out[8..].copy_from_slice(&release_until.0.to_le_bytes());
    out
}

/// Reads the payload of a batch's frame; the batch is a slice of it. Only the batch's header is checked.
pub fn read_batch(payload: &Bytes) -> Result<(Batch, Seq, Timestamp), DataError> {
    let mut reader = Reader::new(payload);
    let (from, release_until) = (Seq(reader.u64()?), Timestamp(reader.u64()?));
    Ok((Batch::parse(payload.slice(BATCH_PREFIX_BYTES..))?, from, release_until))
}

/// What stands before an entry.
pub fn entry_prefix(entry: &RawEntry) -> [u8; ENTRY_PREFIX_BYTES] {
    let mut out = [0; ENTRY_PREFIX_BYTES];
    out[..32].copy_from_slice(&entry.id.peer.0);
    out[32..40].copy_from_slice(&entry.id.run.0.to_le_bytes());
    out[40..48].copy_from_slice(&entry.signed_run.0.to_le_bytes());
    out[48..56].copy_from_slice(&entry.id.seq.0.to_le_bytes());
    out[56..].copy_from_slice(&entry.time.0.to_le_bytes());
    out
}

/// Reads the payload of an entry's frame; the entry is a slice of it.
pub fn read_entry(topic: TopicId, payload: &Bytes) -> Result<RawEntry, DataError> {
    let mut reader = Reader::new(payload);
    let peer = PeerId(reader.array()?);
    let (run, signed_run) = (RunId(reader.u64()?), RunId(reader.u64()?));
    let (seq, time) = (Seq(reader.u64()?), Timestamp(reader.u64()?));
    let raw = payload.slice(ENTRY_PREFIX_BYTES..);
    match EntryView::parse(&raw) {
        Ok(view) if view.raw.len() == raw.len() => {
            Ok(RawEntry { id: EntryId { topic, peer, run, seq }, signed_run, time, raw })
        }
        _ => Err(DataError::Entry),
    }
}
