//! What the next step will hold: chunks gathered into batches of their logs, in the order in which they came.
use crate::base::limits::{BATCH_CHUNK_COUNT_MAX, BATCH_ENTRY_COUNT_MAX, BATCH_RAW_BYTES_TARGET};
use crate::base::{AppendWork, Chunk, LogId, Work};
use std::collections::BTreeMap;

/// Bytes after which a step takes no more: it must fit in the journal and in memory several times over.
pub const STEP_BYTES_MAX: usize = 8 << 20;
/// Things after which a step takes no more.
pub const STEP_WORK_MAX: usize = 4096;

/// Work for the next step.
#[derive(Debug, Default)]
pub struct Gather {
    work: Vec<Work>,
    /// For each log the batch that still takes chunks.
    open: BTreeMap<LogId, Open>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    index: usize,
    raw_bytes: usize,
    entry_count: usize,
}

impl Gather {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it should be written before more is taken in.
    pub fn is_full(&self) -> bool {
        self.bytes >= STEP_BYTES_MAX || self.work.len() >= STEP_WORK_MAX
    }

    /// Whether a batch of `log` still takes chunks.
    pub fn has_open(&self, log: &LogId) -> bool {
        self.open.contains_key(log)
    }

    /// Adds a chunk that was numbered: to the batch of its log if it still has room and goes on there, else to a new one.
    pub fn append(&mut self, numbered: AppendWork, chunk: Chunk) {
        let (raw_bytes, entry_count) =
            (chunk.header().raw_bytes as usize, chunk.header().entry_count as usize);
        self.bytes += chunk.cost_bytes();
        let log = numbered.log;
        if let Some(open) = self.open.get_mut(&log)
            && let Some(Work::Append(batch)) = self.work.get_mut(open.index)
            && batch.run == numbered.run
            && batch.is_buffered == numbered.is_buffered
            && batch.chunks.len() < BATCH_CHUNK_COUNT_MAX
            && open.raw_bytes + raw_bytes <= BATCH_RAW_BYTES_TARGET
            && open.entry_count + entry_count <= BATCH_ENTRY_COUNT_MAX
            && follows(batch, open.entry_count, &numbered)
        {
            open.raw_bytes += raw_bytes;
            open.entry_count += entry_count;
            batch.must_sync |= numbered.must_sync;
            batch.chunks.push(chunk);
            return;
        }
        self.open.insert(log, Open { index: self.work.len(), raw_bytes, entry_count });
        self.work.push(Work::Append(AppendWork { chunks: vec![chunk], ..numbered }));
    }

    /// Adds anything else.
    pub fn push(&mut self, work: Work) {
        if let Work::Foreign { batch, .. } = &work {
            self.bytes += batch.cost_bytes();
        }
        self.work.push(work);
    }

    /// All of it; nothing waits afterwards.
    pub fn take(&mut self) -> Vec<Work> {
        self.open.clear();
        self.bytes = 0;
        std::mem::take(&mut self.work)
    }
}

/// Whether entry `i` of the batch would have `first_time + i`, which is all that a batch can say of times.
fn follows(batch: &AppendWork, entry_count: usize, numbered: &AppendWork) -> bool {
    numbered.first_time == batch.first_time.plus(entry_count as u64)
}
