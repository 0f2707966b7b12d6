//! Room for what others send: how much was taken from them and is not durable here yet.
//!
//! ```text
//! batch ──Took──> being checked ──Fetched──> waits for what comes before it ──> on its way to the disk ──Held──> durable
//!        └──────────────────────────────── taken: counted, with its bytes ────────────────────────────────┘
//! ```
//!
//! A disk that syncs slowly must not be paid for with memory: while more is on its way to it than a part of the room, nobody
//! is asked for more; what comes when there is no room at all is not taken. Both cost time and no entries: it is still
//! offered, and what is pushed says that it is there.
use crate::base::planted::{self, Bug};
use crate::base::{Batch, Seq, StoreId};
use crate::replication::engine::Replication;
use crate::replication::session::{Lease, RunKey};
use crate::wire::peer::RunRange;

/// What a batch takes beside what is in it.
const COST_BYTES: usize = 512;

/// Memory that a batch takes from when it was taken until it is durable.
pub(super) fn cost_bytes(batch: &Batch) -> usize {
    batch.cost_bytes() + COST_BYTES
}

/// Of whom a batch on its way was had, and what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) store: StoreId,
    pub(super) bytes: usize,
    /// Whether it came without being asked for.
    pub(super) is_pushed: bool,
}

impl Replication {
    /// Memory that a batch takes from when it was taken until it is durable.
    pub fn cost_bytes(batch: &Batch) -> usize {
        cost_bytes(batch)
    }

    /// Whether a batch that came can be taken.
    pub fn has_room_for(&self, batch: &Batch) -> bool {
        let is_within = self.taken_bytes + cost_bytes(batch) <= self.config.taken_bytes_max;
        is_within || planted::is(Bug::TakesWithoutRoom)
    }

    /// Bytes of what was taken from others and is not durable here yet.
    pub fn taken_bytes(&self) -> usize {
        self.taken_bytes
    }

    /// Whether so much is on its way to the disk that nobody is asked for more. What waits for what comes before it does
    /// not count: that has to be asked for.
    pub(super) fn is_disk_behind(&self) -> bool {
        let on_its_way = self.taken_bytes.saturating_sub(self.waiting.bytes());
        on_its_way >= self.config.taken_bytes_max / 8 && !planted::is(Bug::TakesWithoutRoom)
    }

    /// Whether so much waits for what comes before it that only that should be asked for.
    pub(super) fn is_waiting_full(&self) -> bool {
        self.waiting.bytes() >= self.config.taken_bytes_max / 8 * 3
    }

    /// A batch that was asked for came when there was no room: that it was not taken says nothing of who sent it.
    pub(super) fn had_no_room(&mut self, from: StoreId, range: &RunRange) {
        let key = (range.log, range.run);
        if let Some(session) = self.sessions.get_mut(&from)
            && let Some((first, lease)) = session.lease_around(key, range.from)
        {
            session.leases.insert((key, first), Lease { had_no_room: true, ..lease });
        }
    }

    /// A batch is on its way, of which nothing was known.
    pub(super) fn add_source(&mut self, key: RunKey, from: Seq, source: Source) {
        self.forget_source(key, from);
        self.taken_bytes += source.bytes;
        self.sources.insert((key, from), source);
    }

    /// It has come to the disk, or never will. Of whom it was had.
    pub(super) fn forget_source(&mut self, key: RunKey, from: Seq) -> Option<Source> {
        let source = self.sources.remove(&(key, from))?;
        self.taken_bytes -= source.bytes;
        Some(source)
    }

    /// None of it ever will.
    pub(super) fn forget_sources(&mut self) {
        self.sources.clear();
        self.taken_bytes = 0;
    }
}
