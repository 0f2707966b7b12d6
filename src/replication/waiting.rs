//! Batches that came before what they go on from: they wait for it, for a while and within bounds, so that a run comes to
//! the disk in order although several stores send parts of it at once.
//!
//! Order is for the reader's and the disk's sake; nothing depends on it. What waits too long, or is too much, goes to the
//! disk as it is, and readers wait before the hole.
use crate::base::{Batch, LogId, RunId, Seq, StoreId};
use crate::replication::room::cost_bytes;
use crate::replication::session::RunKey;
use crate::wire::peer::RunRange;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A batch that another store sent, and that is what its peer signed.
#[derive(Debug)]
pub struct Fetched {
    /// Who sent it.
    pub from: StoreId,
    /// Its entries.
    pub range: RunRange,
    /// The batch.
    pub batch: Batch,
    /// Whether it is known to go on from what is held.
    pub is_placed: bool,
    /// The last step that was durable when it was compared with what is held.
    pub looked: u64,
    /// Whether it came without being asked for: it is new, and goes to the disk whatever is missing before it.
    pub is_pushed: bool,
    /// The certificate of its peer, where the store does not keep it yet.
    pub certificate: Option<Arc<[u8]>>,
}

/// The batches that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    batches: BTreeMap<(RunKey, Seq), (u64, Fetched)>,
    /// Runs of which something waits, by the run that they go on from.
    children: BTreeSet<(LogId, RunId, RunId)>,
    bytes: usize,
}

impl Waiting {
    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn add(&mut self, now_ms: u64, fetched: Fetched) {
        let (log, run) = (fetched.range.log, fetched.range.run);
        self.bytes += cost_bytes(&fetched.batch);
        self.children.insert((log, fetched.batch.statement().parent, run));
        let before = self.batches.insert(((log, run), fetched.range.from), (now_ms, fetched));
        // The same again, after a step was refused while this was being checked.
        self.bytes -= before.map_or(0, |(_, before)| cost_bytes(&before.batch));
    }

    /// The first number that waits, of a run.
    pub(super) fn first(&self, key: RunKey) -> Option<Seq> {
        let next = self.batches.range((key, Seq(0))..).next();
        next.filter(|((of, _), _)| *of == key).map(|((_, from), _)| *from)
    }

    pub(super) fn take(&mut self, key: RunKey, from: Seq) -> Option<Fetched> {
        let (_, fetched) = self.batches.remove(&(key, from))?;
        self.bytes -= cost_bytes(&fetched.batch);
        if self.first(key).is_none() {
            self.children.remove(&(key.0, fetched.batch.statement().parent, key.1));
        }
        Some(fetched)
    }

    /// Runs that go on from this one, and of which something waits.
    pub(super) fn children(&self, key: RunKey) -> Vec<RunKey> {
        let first = (key.0, key.1, RunId(0));
        let of_run = self.children.range(first..).take_while(|(log, parent, _)| (*log, *parent) == key);
        of_run.map(|(log, _, run)| (*log, *run)).collect()
    }

    /// The runs of which something waits.
    pub(super) fn runs(&self) -> Vec<RunKey> {
        self.children.iter().map(|(log, _, run)| (*log, *run)).collect()
    }

    /// Those of one log.
    pub(super) fn runs_of(&self, log: LogId) -> Vec<RunKey> {
        let from = self.children.range((log, RunId(0), RunId(0))..);
        from.take_while(|(of, ..)| *of == log).map(|(log, _, run)| (*log, *run)).collect()
    }

    /// What waits since before `since_ms`.
    pub(super) fn older_than(&self, since_ms: u64) -> Vec<(RunKey, Seq)> {
        let is_old = |(_, (came_ms, _)): &(&(RunKey, Seq), &(u64, Fetched))| *came_ms < since_ms;
        self.batches.iter().filter(is_old).map(|(at, _)| *at).collect()
    }
}
